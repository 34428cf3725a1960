/*
 * Stand-in front of the cloud service (protocol.md 6 and 13): hands out manifests
 * and, where a manifest names no storage, the files themselves.
 *
 *   cloud --dir DIR [--port N] [--address A] --tls CERT KEY
 *         [--token TOKEN] [--token-header 'NAME: PREFIX']
 *
 * DIR/manifests/<cid>.xml, DIR/files/<cid>/<name>; writes DIR/cloud.log. Scripted
 * by DIR/script (script.h). Redirects only when the script says so.
 */
#include "script.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PREFIX "/downloadrestservice.svc/"

enum { CLOCK_SKEW_S = 300 };

/* ---- who may ask, and until when ---- */

static bool check_token(struct request *q, struct reply *r)
{
	if (!q->options->token || q->is_token_good)
		return true;
	if (q->has_token)
		refuse(q, r, 403, NULL, "wrong token");
	else
		refuse(q, r, 401, NULL, "no token");
	return false;
}

/* "YYYY-MM-DDTHH:MM:SS", UTC without a zone; -1 when it is something else. */
static time_t parse_time(const char *s)
{
	struct tm tm = {0};
	const char *rest = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);

	return rest && !*rest ? timegm(&tm) : -1;
}

static bool check_times(struct request *q, struct reply *r, const char *st,
	const char *et, bool ignore_et)
{
	time_t from = parse_time(st), until = parse_time(et), now = time(NULL);

	if (from == -1 || until == -1) {
		refuse(q, r, 400, NULL, "st or et is not a time");
		return false;
	}
	if (ignore_et)
		return true;
	if (until <= now) {
		refuse(q, r, 403, NULL, "expired %lld s ago", (long long)(now - until));
		return false;
	}
	if (from > now + CLOCK_SKEW_S) {
		refuse(q, r, 403, NULL, "valid in %lld s", (long long)(from - now));
		return false;
	}
	return true;
}

static bool is_file_id(const char *s)
{
	return s[0] && s[0] != '.' && strlen(s) <= 200
		&& strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
			"0123456789_-.") == strlen(s);
}

/* All seven parameters, well formed and in time; the content id, owned, or NULL. */
static char *check_query(const struct script *s, struct request *q, struct reply *r)
{
	static const char *const names[] = {"pid", "cid", "tid", "iss", "alg", "st",
		"et"};
	enum { PID, CID, TID, ISS, ALG, ST, ET, COUNT };
	char *v[COUNT];
	bool is_good = true;

	for (size_t i = 0; i < COUNT; i++) {
		v[i] = request_parameter(q, names[i]);
		note(q, names[i], v[i]);
		if (is_good && (!v[i] || !*v[i])) {
			refuse(q, r, 400, NULL, "no parameter %s", names[i]);
			is_good = false;
		}
	}
	if (is_good && strcmp(v[ALG], "1.2.840.113549.1.1.11")) {
		refuse(q, r, 400, NULL, "unknown alg");
		is_good = false;
	}
	if (is_good && strncmp(v[TID], "GUID:", 5)) {
		refuse(q, r, 400, NULL, "tid is no client id");
		is_good = false;
	}
	is_good = is_good && check_times(q, r, v[ST], v[ET],
		script_has(s, "ignore_et"));
	if (is_good && !is_file_id(v[CID])) {
		refuse(q, r, 404, NULL, "odd content id");
		is_good = false;
	}
	char *cid = is_good ? must_dup(v[CID], strlen(v[CID])) : NULL;
	for (size_t i = 0; i < COUNT; i++)
		free(v[i]);
	return cid;
}

/* ---- the manifest ---- */

static void manifest(const struct script *s, struct request *q, struct reply *r)
{
	char name[256];
	char *cid;

	if (strcmp(q->method, "GET")) {
		refuse(q, r, 405, NULL, "method %s", q->method);
		return;
	}
	if (!check_token(q, r) || !(cid = check_query(s, q, r)))
		return;
	snprintf(name, sizeof name, "manifests/%s.xml", cid);
	if (script_file(s, q, "body", &r->body)
	    || read_file(q->options->dir, name, &r->body))
		snprintf(r->content_type, sizeof r->content_type, "application/xml");
	else
		refuse(q, r, 404, NULL, "no file %s", name);
	free(cid);
}

/* ---- files ---- */

/* A regular file below DIR/files/<cid>; links and ".." lead nowhere. */
static int open_content(const struct request *q, const char *cid, const char *name,
	struct stat *st)
{
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
	char folder[4096];

	snprintf(folder, sizeof folder, "%s/files/%s", q->options->dir, cid);
	int dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -1;
	int fd = (int)syscall(SYS_openat2, dir, name, &how, sizeof how);
	close(dir);
	if (fd >= 0 && (fstat(fd, st) || !S_ISREG(st->st_mode))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

struct range {
	uint64_t first, last;
};

/*
 * One byte range (RFC 9110 s14.1.2). 206: `range` is it; 200: not to be used, send
 * all; 416: outside the file.
 */
static unsigned parse_range(const char *text, uint64_t size, struct range *range)
{
	const char *at = text + 6;
	uint64_t n;

	if (strncasecmp(text, "bytes=", 6))
		return 200;
	if (*at == '-') {
		at++;
		if (!read_number(&at, &n) || *at)
			return 200;
		range->first = n < size ? size - n : 0;
		range->last = size - 1;
		return n && size ? 206 : 416;
	}
	if (!read_number(&at, &range->first) || *at++ != '-')
		return 200;
	range->last = UINT64_MAX;
	if (*at && (!read_number(&at, &range->last) || *at))
		return 200;
	if (range->last < range->first)
		return 200;
	if (range->first >= size)
		return 416;
	if (range->last >= size)
		range->last = size - 1;
	return 206;
}

struct validators {
	char etag[128];         /* with its quotes, "" = none */
	char modified[64];
};

static struct validators make_validators(const struct script *s, const struct stat *st)
{
	struct validators v;
	struct tm tm;
	char *other = script_get(s, "etag");

	snprintf(v.etag, sizeof v.etag, "\"%llx-%llx\"",
		(unsigned long long)st->st_size,
		(unsigned long long)st->st_mtim.tv_sec * 1000000000ull
		+ (unsigned long long)st->st_mtim.tv_nsec);
	if (other)
		snprintf(v.etag, sizeof v.etag, "%s", strcmp(other, "-") ? other : "");
	free(other);
	strftime(v.modified, sizeof v.modified, "%a, %d %b %Y %H:%M:%S GMT",
		gmtime_r(&st->st_mtim.tv_sec, &tm));
	return v;
}

/* Is `tag` one of the list, "*" included; weak tags never match (strong compare). */
static bool is_listed(const char *list, const char *tag)
{
	size_t n = strlen(tag);

	if (!strcmp(list, "*"))
		return true;
	if (n == 0 || tag[0] != '"')
		return false;
	for (const char *at = strstr(list, tag); at; at = strstr(at + n, tag))
		if (at == list || at[-1] != '/')
			return true;
	return false;
}

static bool is_unchanged(const char *condition, const struct validators *v)
{
	return condition[0] == '"' || !strncmp(condition, "W/", 2)
		? is_listed(condition, v->etag) : !strcmp(condition, v->modified);
}

/* Conditions and range: the status, and the piece to send. */
static unsigned choose_piece(const struct script *s, struct request *q,
	const struct validators *v, uint64_t size, struct range *piece)
{
	const char *range = request_header(q, "Range");
	const char *if_range = request_header(q, "If-Range");
	const char *if_match = request_header(q, "If-Match");
	const char *if_none = request_header(q, "If-None-Match");

	note(q, "range", range);
	note(q, "if_range", if_range);
	note(q, "if_match", if_match);
	if (if_match && !is_listed(if_match, v->etag))
		return 412;
	if (if_none && is_listed(if_none, v->etag))
		return 304;
	if (range && strncasecmp(range, "bytes=", 6))
		violation(q, "Range %s", range);
	if (if_range && !range)
		violation(q, "If-Range without Range");
	if (if_range && !strncmp(if_range, "W/", 2))
		violation(q, "If-Range with a weak tag");
	if (!range || strcmp(q->method, "GET") || script_has(s, "no_range"))
		return 200;
	if (if_range && !is_unchanged(if_range, v))
		return 200;
	return parse_range(range, size, piece);
}

static void send_piece(struct request *q, struct reply *r, unsigned status, int fd,
	uint64_t size, const struct range *piece)
{
	char count[24];

	r->status = status;
	if (status == 412 || status == 416) {
		close(fd);
		refuse(q, r, status, NULL, "condition or range");
		if (status == 416)
			reply_header(r, "Content-Range: bytes */%llu",
				(unsigned long long)size);
		return;
	}
	if (status == 304) {
		close(fd);
		return;
	}
	snprintf(r->content_type, sizeof r->content_type, "application/octet-stream");
	r->fd = fd;
	r->size = size;
	if (status == 206) {
		r->offset = piece->first;
		r->size = piece->last - piece->first + 1;
		reply_header(r, "Content-Range: bytes %llu-%llu/%llu",
			(unsigned long long)piece->first,
			(unsigned long long)piece->last, (unsigned long long)size);
	}
	snprintf(count, sizeof count, "%llu", (unsigned long long)r->size);
	note_raw(q, "bytes", strcmp(q->method, "HEAD") ? count : "0");
}

static void check_file_request(struct request *q, const char *name)
{
	const char *coding = request_header(q, "Accept-Encoding");

	if (coding && strcasecmp(coding, "identity"))
		violation(q, "Accept-Encoding %s: files are taken as they are", coding);
	if (strchr(name, '\\'))
		violation(q, "name with a backslash");
}

static void content_file(const struct script *s, struct request *q, struct reply *r)
{
	struct stat st;
	struct range piece;

	if (strcmp(q->method, "GET") && strcmp(q->method, "HEAD")) {
		refuse(q, r, 405, NULL, "method %s", q->method);
		return;
	}
	char *cid = check_token(q, r) ? check_query(s, q, r) : NULL;
	if (!cid)
		return;
	char *name = request_parameter(q, "name");
	note(q, "name", name);
	if (!name || !*name) {
		refuse(q, r, 400, NULL, "no parameter name");
	} else {
		check_file_request(q, name);
		int fd = open_content(q, cid, name, &st);
		if (fd < 0) {
			refuse(q, r, 404, NULL, "no such file: %s", strerror(errno));
		} else {
			struct validators v = make_validators(s, &st);
			uint64_t size = (uint64_t)st.st_size;
			unsigned status = choose_piece(s, q, &v, size, &piece);
			send_piece(q, r, status, fd, size, &piece);
			if (v.etag[0])
				reply_header(r, "ETag: %s", v.etag);
			reply_header(r, "Last-Modified: %s", v.modified);
			reply_header(r, "Accept-Ranges: bytes");
		}
	}
	free(name);
	free(cid);
}

/* ---- both ---- */

void serve(struct request *q, struct reply *r)
{
	struct script s;
	bool is_manifest, is_file;

	if (strncasecmp(q->path, PREFIX, sizeof PREFIX - 1)) {
		refuse(q, r, 404, NULL, "unknown path");
		return;
	}
	const char *verb = q->path + sizeof PREFIX - 1;
	is_manifest = !strcasecmp(verb, "getcontentxmlsecure");
	is_file = !strcasecmp(verb, "getcontentfile");
	if (q->body.n)
		violation(q, "a body of %zu bytes", q->body.n);
	if (!is_manifest && !is_file) {
		refuse(q, r, 404, NULL, "unknown verb");
		return;
	}
	note(q, "kind", is_manifest ? "manifest" : "file");
	script_load(&s, q, is_manifest ? "manifest" : "file", "manifest file");
	if (is_manifest)
		manifest(&s, q, r);
	else
		content_file(&s, q, r);
	script_apply(&s, q, r);
	script_free(&s);
}

int main(int argc, char **argv)
{
	return standin_main("cloud", argc, argv);
}
