#include "mp_request.h"
#include "mp_rules.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

enum { MAX_INFLATED = 8 << 20 };

struct part {
	char *type;             /* content-type, NULL = none */
	const char *data;
	size_t n;
};

static bool bad(struct request *q, struct reply *r, const char *why)
{
	refuse(q, r, 500, NULL, "%s", why);
	return false;
}

/* ---- multipart ---- */

/* The boundary, owned; NULL when the content type is no multipart. */
static char *find_boundary(struct request *q)
{
	const char *type = request_header(q, "Content-Type");
	const char *b = type ? strcasestr(type, "boundary=") : NULL;

	if (!b || strncasecmp(type, "multipart/", 10))
		return NULL;
	if (strncasecmp(type + 10, "mixed;", 6))
		violation(q, "content type %s is not multipart/mixed", type);
	b += strlen("boundary=");
	size_t n = *b == '"' ? strcspn(++b, "\"") : strcspn(b, "; \t");
	return n >= 1 && n <= 70 ? must_dup(b, n) : NULL;
}

/* Read the part's headers, `*at` moves behind the empty line. */
static bool read_part_headers(struct request *q, struct part *part, const char **at,
	const char *end)
{
	for (;;) {
		const char *stop = memmem(*at, (size_t)(end - *at), "\r\n", 2);
		if (!stop)
			return false;
		size_t n = (size_t)(stop - *at);
		char *line = must_dup(*at, n);
		*at = stop + 2;
		if (n == 0) {
			free(line);
			return true;
		}
		if (!strncasecmp(line, "content-type:", 13) && !part->type) {
			const char *value = line + 13;
			value += strspn(value, " ");
			part->type = must_dup(value, strlen(value));
		} else {
			violation(q, "extra part header %s", line);
		}
		free(line);
	}
}

/*
 * Two parts of the form --B CRLF headers CRLF CRLF data CRLF --B, at the end
 * --B-- and perhaps CRLF.
 */
static bool split_parts(struct request *q, const char *boundary, struct part parts[2])
{
	struct buf mark = {0};
	const char *at = q->body.p, *end = at + q->body.n;
	bool is_whole = false;

	buf_printf(&mark, "\r\n--%s", boundary);
	/* the first delimiter may lack the CRLF in front */
	size_t n = mark.n - 2;
	if (q->body.n < n || memcmp(at, mark.p + 2, n)) {
		violation(q, "text in front of the first part");
		at = memmem(at, (size_t)(end - at), mark.p, mark.n);
		if (!at)
			goto out;
		at += 2;
	}
	at += n;
	for (int i = 0; i < 2; i++) {
		if (end - at < 2 || memcmp(at, "\r\n", 2))
			goto out;
		at += 2;
		if (!read_part_headers(q, &parts[i], &at, end))
			goto out;
		const char *stop = memmem(at, (size_t)(end - at), mark.p, mark.n);
		if (!stop)
			goto out;
		parts[i].data = at;
		parts[i].n = (size_t)(stop - at);
		at = stop + mark.n;
	}
	is_whole = end - at >= 2 && !memcmp(at, "--", 2);
	if (is_whole && end - at != 2 && (end - at != 4 || memcmp(at + 2, "\r\n", 2)))
		violation(q, "%td bytes behind the last boundary", end - at - 2);
out:
	buf_free(&mark);
	return is_whole;
}

static bool is_type(const struct part *part, const char *type)
{
	if (!part->type)
		return false;
	/* white space around the semicolon is free */
	const char *s = part->type;
	for (; *s && *type; s++) {
		if (*s == ' ' || *s == '\t')
			continue;
		if (tolower((unsigned char)*s) != *type++)
			return false;
	}
	return !*s && !*type;
}

/* ---- part 1 ---- */

static bool parse_header(struct mp_request *m, struct request *q, struct reply *r,
	const struct part *part)
{
	struct buf why = {0}, text = {0};

	if (!is_type(part, "text/plain;charset=utf-16"))
		violation(q, "content type of part 1: %s",
			part->type ? part->type : "none");
	if (part->n < 2 || memcmp(part->data, "\xff\xfe", 2))
		return bad(q, r, "no byte order mark FF FE in front of Msg");
	if (part->n % 2)
		return bad(q, r, "odd number of bytes in part 1");
	utf16_to_utf8(&text, part->data + 2, part->n - 2);
	write_file(q->options->dir, "last_header.xml", text.p, text.n);
	buf_free(&text);

	m->msg = xml_parse(part->data + 2, part->n - 2, "UTF-16LE", &why);
	if (!m->msg)
		refuse(q, r, 500, NULL, "part 1: %s", buf_text(&why));
	else if (strcmp(m->msg->name, "Msg"))
		refuse(q, r, 500, NULL, "root of part 1 is %s", m->msg->name);
	buf_free(&why);
	return m->msg && !strcmp(m->msg->name, "Msg");
}

/* ---- part 2 ---- */

/* false when it is no complete zlib stream. */
static bool unpack(struct request *q, struct buf *out, const struct part *part)
{
	char block[65536];
	z_stream z = {
		.next_in = (unsigned char *)(size_t)part->data,
		.avail_in = (unsigned)part->n,
	};
	int rc = inflateInit(&z);

	while (rc == Z_OK && out->n <= MAX_INFLATED) {
		z.next_out = (unsigned char *)block;
		z.avail_out = sizeof block;
		rc = inflate(&z, Z_NO_FLUSH);
		buf_add(out, block, sizeof block - z.avail_out);
	}
	if (rc == Z_STREAM_END && z.avail_in)
		violation(q, "%u bytes behind the zlib stream", z.avail_in);
	inflateEnd(&z);
	return rc == Z_STREAM_END;
}

static bool ends_with(const struct buf *b, const char *tail, size_t n)
{
	return b->n >= n && !memcmp(b->p + b->n - n, tail, n);
}

static bool has_zlib_hook(const struct mp_request *m)
{
	const struct element *hooks = xml_child(m->msg, "Hooks");

	for (const struct element *h = hooks ? hooks->first : NULL; h; h = h->next) {
		const char *name = xml_attribute(h, "Name");
		if (name && !strcmp(name, "zlib-compress"))
			return true;
	}
	return false;
}

static void check_length(const struct mp_request *m, struct request *q, size_t n)
{
	const char *said = xml_attribute(xml_child(m->msg, "Body"), "Length");

	const char *at = said;
	uint64_t length;

	if (said && (!read_number(&at, &length) || *at || length != n))
		violation(q, "Body Length says %s, the body has %zu bytes", said, n);
}

/*
 * Leave the bare UTF-16 text in `text`: behind it a NUL; then, inside a zlib
 * stream, perhaps an ASCII CRLF (public tools send it); then, in the plain form,
 * 00 00 once more.
 */
static void strip_tail(const struct mp_request *m, struct request *q, struct buf *text)
{
	if (m->is_compressed && ends_with(text, "\0\0\r\n", 4)) {
		text->n -= 2;
		note_raw(q, "has_inner_crlf", "true");
	}
	if (!m->is_compressed) {
		if (ends_with(text, "\0\0\0\0", 4))
			text->n -= 2;
		else
			violation(q, "plain body without 00 00 behind its NUL");
	}
	check_length(m, q, text->n);
	if (!ends_with(text, "\0\0", 2)) {
		violation(q, "body without a NUL at its end");
		return;
	}
	text->n -= 2;
	if (ends_with(text, "\0\0", 2))
		violation(q, "body with more than one NUL at its end");
	while (ends_with(text, "\0\0", 2))
		text->n -= 2;
}

/* `text` is made bare: no mark in front, no zeros behind. */
static bool parse_text(struct mp_request *m, struct request *q, struct reply *r,
	struct buf *text)
{
	struct buf why = {0}, utf8 = {0};

	strip_tail(m, q, text);
	if (text->n % 2)
		return bad(q, r, "odd number of bytes in the body");
	if (text->n >= 2 && !memcmp(text->p, "\xff\xfe", 2)) {
		violation(q, "body with a byte order mark");
		text->n -= 2;
		memmove(text->p, text->p + 2, text->n);
	}
	utf16_to_utf8(&utf8, buf_text(text), text->n);
	write_file(q->options->dir, "last_body.xml", utf8.p, utf8.n);
	buf_free(&utf8);

	m->body = xml_parse(buf_text(text), text->n, "UTF-16LE", &why);
	if (!m->body)
		refuse(q, r, 500, NULL, "body: %s", buf_text(&why));
	buf_free(&why);
	return m->body != NULL;
}

static bool parse_body(struct mp_request *m, struct request *q, struct reply *r,
	const struct part *part)
{
	m->is_compressed = has_zlib_hook(m);
	note_raw(q, "compressed", m->is_compressed ? "true" : "false");
	if (!is_type(part, m->is_compressed ? "application/octet-stream"
			: "text/plain;charset=utf-16"))
		violation(q, "content type of part 2: %s",
			part->type ? part->type : "none");
	buf_add(&m->sent, part->data, part->n);
	if (!m->is_compressed)
		buf_add(&m->text, part->data, part->n);
	else if (!unpack(q, &m->text, part))
		return bad(q, r, "part 2 is not a zlib stream");
	return parse_text(m, q, r, &m->text);
}

/* ---- both ---- */

static void note_msg(const struct mp_request *m, struct request *q)
{
	const char *const names[] = {"ID", "SourceID", "SourceHost", "TargetEndpoint",
		"TargetAddress", "TargetHost", "ReplyTo", "SentTime", NULL};
	struct buf json = {0};

	buf_puts(&json, "{\"ReplyCompression\":");
	buf_json(&json, xml_attribute(m->msg, "ReplyCompression"));
	for (size_t i = 0; names[i]; i++) {
		buf_printf(&json, ",\"%s\":", names[i]);
		buf_json(&json, xml_text(xml_child(m->msg, names[i])));
	}
	buf_puts(&json, "}");
	note_raw(q, "msg", json.p);
	buf_free(&json);
}

static bool check_msg(const struct mp_request *m, struct request *q, struct reply *r)
{
	const char *mode = xml_text(xml_child(m->msg, "ReplyMode"));

	mp_rules_check(q, m->msg, mp_rules_msg);
	if (!xml_attribute(m->msg, "SchemaVersion"))
		return bad(q, r, "Msg without SchemaVersion");
	if (!xml_child(m->msg, "Body"))
		return bad(q, r, "Msg without Body");
	if (!mode || strcasecmp(mode, "Sync"))
		return bad(q, r, "only ReplyMode Sync can be answered");
	return true;
}

bool mp_request_parse(struct mp_request *m, struct request *q, struct reply *r)
{
	char *boundary = find_boundary(q);
	struct part parts[2] = {{0}};
	bool is_parsed = false;

	if (!boundary) {
		refuse(q, r, 400, NULL, "content type is no multipart with a boundary");
		return false;
	}
	if (!request_header(q, "Content-Length"))
		violation(q, "no Content-Length");
	if (!q->body.n || !split_parts(q, boundary, parts))
		refuse(q, r, 400, NULL, "body is not two complete parts");
	else if (parse_header(m, q, r, &parts[0])) {
		note_msg(m, q);
		is_parsed = check_msg(m, q, r) && parse_body(m, q, r, &parts[1]);
	}
	free(parts[0].type);
	free(parts[1].type);
	free(boundary);
	return is_parsed;
}

void mp_request_free(struct mp_request *m)
{
	xml_free(m->msg);
	xml_free(m->body);
	buf_free(&m->sent);
	buf_free(&m->text);
	*m = (struct mp_request){0};
}

const char *mp_request_endpoint(const struct mp_request *m)
{
	const char *name = xml_text(xml_child(m->msg, "TargetEndpoint"));

	return name ? name : "";
}

/* ---- ContentLocationRequest ---- */

static void note_location(const struct mp_request *m, struct request *q)
{
	const struct element *package = xml_child(m->body, "Package");
	const struct element *info = xml_child(m->body, "ClientLocationInfo");
	const struct element *groups = xml_child(info, "BoundaryGroups");
	struct buf json = {0};

	note(q, "package_id", xml_attribute(package, "ID"));
	note(q, "version", xml_attribute(package, "Version"));
	note(q, "site", xml_attribute(xml_child(m->body, "AssignedSite"), "SiteCode"));
	note(q, "location_type", xml_attribute(info, "LocationType"));
	note(q, "use_azure", xml_attribute(info, "UseAzure"));
	note(q, "use_internet_dp", xml_attribute(info, "UseInternetDP"));
	note(q, "dp_token_auth", xml_attribute(info, "DPTokenAuth"));
	note(q, "client_in_operation", xml_attribute(m->body, "ClientInOperation"));
	note(q, "boundary_groups_time",
		xml_attribute(groups, "BoundaryGroupListRetrieveTime"));
	buf_puts(&json, "[");
	const struct element *g = groups ? groups->first : NULL;
	for (; g; g = g->next) {
		if (strcmp(g->name, "BoundaryGroup"))
			continue;
		buf_puts(&json, json.n > 1 ? "," : "");
		buf_json(&json, xml_attribute(g, "GroupGUID"));
	}
	buf_puts(&json, "]");
	note_raw(q, "boundary_groups", json.p);
	buf_free(&json);
	xml_json(&json, m->body);
	note_raw(q, "request", json.p);
	buf_free(&json);
}

bool mp_request_check_location(const struct mp_request *m, struct request *q,
	struct reply *r)
{
	if (strcmp(m->body->name, "ContentLocationRequest")) {
		refuse(q, r, 500, NULL, "MP_LocationManager got %s", m->body->name);
		return false;
	}
	note_location(m, q);
	if (!xml_child(m->msg, "SourceID"))
		violation(q, "Msg: no element SourceID");
	mp_rules_check(q, m->body, mp_rules_location);
	if (!xml_attribute(m->body, "SchemaVersion"))
		return bad(q, r, "ContentLocationRequest without SchemaVersion");
	const char *id = xml_attribute(xml_child(m->body, "Package"), "ID");
	if (!id || !*id || strlen(id) > 200)
		return bad(q, r, "no Package ID");
	/* it will be a file name */
	if (strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
			"0123456789_-:.{}") != strlen(id) || id[0] == '.')
		return bad(q, r, "Package ID with odd characters");
	if (!xml_child(m->body, "ClientLocationInfo"))
		return bad(q, r, "no ClientLocationInfo");
	return true;
}
