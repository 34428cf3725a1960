#include "agent/keeper/kept.h"

#include "common/fs.h"
#include "common/own.h"
#include "policy/bundle.h"
#include "policy/ini.h"
#include "policy/signature.h"
#include "policy/value.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#define BUNDLE "policy.bundle"
#define ORIGIN "policy.origin"
#define ORIGIN_MAX (128u << 10)
#define FILE_MODE 0600
#define OTHERS_MAX 16

void kept_free(struct kept *k)
{
	free(k->source);
	free(k->etag);
	buf_free(&k->others);
	buf_free(&k->text);
	*k = (struct kept){ 0 };
}

static void own_kept(struct kept *k)
{
	kept_free(k);
}
#define autokept __attribute__((cleanup(own_kept))) struct kept

/* --- reading ---------------------------------------------------------------- */

static enum err_code read_file(int dir_fd, const char *name, size_t max,
			       struct buf *out, struct err *e)
{
	bool is_absent = false;
	enum err_code rc = ini_load(dir_fd, name, max, out, &is_absent, e);
	if (rc == ERR_OK || is_absent)
		return ERR_OK;
	if (rc != ERR_NOMEM)
		e->code = ERR_FOLDER;
	return err_prefix(e, "%s in [state] directory", name);
}

enum err_code kept_hash(struct span text, char out[DIGEST_HEX_SIZE],
			       struct err *e)
{
	autodigest struct digest *d =
		digest_new(DIGEST_SHA256, e);
	if (d == NULL)
		return e->code;
	digest_add(d, text.at, text.len);
	return digest_hex(d, out, e);
}

static bool take_text(char **to, struct span value)
{
	free(*to);
	*to = strndup(value.at, value.len);
	return *to != NULL;
}

static bool take_time(int64_t *to, struct span value)
{
	uint64_t n;
	if (!value_number(value, &n))
		return false;
	*to = (int64_t)n;
	return true;
}

/* False: this is no origin that we wrote. */
static bool take_line(struct kept *k, struct span line)
{
	struct span key, time, value = line;
	int64_t at;
	if (memchr(line.at, '\0', line.len) || !span_split(&value, ' ', &key))
		return false;
	if (span_is(key, "source"))
		return take_text(&k->source, value);
	if (span_is(key, "etag"))
		return take_text(&k->etag, value);
	if (span_is(key, "signed"))
		return take_time(&k->signed_s, value);
	if (span_is(key, "signer"))
		return digest_is_hex(DIGEST_SHA256, value.at, value.len, k->signer);
	if (span_is(key, "sha256"))
		return digest_is_hex(DIGEST_SHA256, value.at, value.len, k->sha256);
	if (span_is(key, "before"))
		return digest_is_hex(DIGEST_SHA256, value.at, value.len, k->before);
	if (!span_is(key, "known"))
		return false;
	buf_span(&k->others, value);
	buf_char(&k->others, '\n');
	return span_split(&value, ' ', &time) && take_time(&at, time);
}

static enum err_code read_origin(int dir_fd, struct kept *k, struct err *e)
{
	autobuf text = { 0 };
	enum err_code rc = read_file(dir_fd, ORIGIN, ORIGIN_MAX, &text, e);
	struct span rest = buf_as_span(&text), line;
	bool is_good = true;
	while (rc == ERR_OK && is_good && span_split(&rest, '\n', &line))
		is_good = take_line(k, line);
	if (!is_good || k->source == NULL || k->sha256[0] == '\0')
		kept_free(k);
	return rc;
}

enum err_code kept_read(int dir_fd, struct kept *out, struct err *e)
{
	*out = (struct kept){ 0 };
	enum err_code rc = read_origin(dir_fd, out, e);
	if (rc != ERR_OK || out->source == NULL)
		return rc;
	rc = read_file(dir_fd, BUNDLE, BUNDLE_MAX, &out->text, e);
	if (rc == ERR_OK && out->text.at)
		rc = kept_hash(buf_as_span(&out->text), out->text_sha256, e);
	/* another text than the one that was judged */
	if (rc == ERR_OK && strcmp(out->text_sha256, out->sha256) != 0 &&
	    strcmp(out->text_sha256, out->before) != 0) {
		buf_free(&out->text);
		out->text_sha256[0] = '\0';
	}
	if (rc != ERR_OK)
		kept_free(out);
	return rc;
}

bool kept_is_current(const struct kept *k)
{
	return k->source && k->text_sha256[0] &&
	       strcmp(k->text_sha256, k->sha256) == 0;
}

int64_t kept_signed(const struct kept *k, const char *source)
{
	struct span rest = buf_as_span(&k->others), line, time;
	int64_t found = 0;
	if (k->source && strcmp(k->source, source) == 0)
		return k->signed_s;
	while (span_split(&rest, '\n', &line))
		if (span_split(&line, ' ', &time) && span_is(line, source))
			take_time(&found, time);
	return found;
}

/* --- writing ---------------------------------------------------------------- */

/* Times of other sources, this one's now among them; the oldest give way. */
static void print_others(const struct kept *k, const char *source,
			 struct buf *out)
{
	struct span rest = buf_as_span(&k->others), line;
	size_t count = 0, n = 0;
	while (span_split(&rest, '\n', &line))
		count++;
	rest = buf_as_span(&k->others);
	while (span_split(&rest, '\n', &line)) {
		struct span time, url = line;
		if (n++ + OTHERS_MAX < count || !span_split(&url, ' ', &time) ||
		    span_is(url, source) ||
		    (k->source && span_is(url, k->source)))
			continue;
		buf_text(out, "known ");
		buf_span(out, line);
		buf_char(out, '\n');
	}
	if (k->source && k->signed_s && strcmp(k->source, source) != 0)
		buf_print(out, "known %" PRId64 " %s\n", k->signed_s, k->source);
}

static bool has_control(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return true;
	return false;
}

static enum err_code write_origin(int dir_fd, const struct kept *k,
				  const struct kept_new *n, const char *sha256,
				  struct err *e)
{
	autobuf text = { .max = ORIGIN_MAX };
	bool is_same = k->source && strcmp(k->source, n->source) == 0;
	if (has_control(n->source))
		return err_set(e, ERR_CONFIG, "[policy] source: control character");
	buf_print(&text, "source %s\nsha256 %s\nsigned %" PRId64 "\n", n->source,
		  sha256, n->signed_s);
	if (n->etag[0] && !has_control(n->etag))
		buf_print(&text, "etag %s\n", n->etag);
	if (n->signer[0])
		buf_print(&text, "signer %s\n", n->signer);
	if (is_same && k->text_sha256[0])
		buf_print(&text, "before %s\n", k->text_sha256);
	print_others(k, n->source, &text);
	if (text.failed)
		return err_set(e, ERR_NOMEM, "no memory for " ORIGIN);
	return fs_replace(dir_fd, ORIGIN, text.at, text.len, FILE_MODE, e);
}

enum err_code kept_store(int dir_fd, const struct kept_new *n, bool *changed,
			 struct err *e)
{
	autokept k = { 0 };
	char sha256[DIGEST_HEX_SIZE];
	/* a descriptor of its own, so that the lock ends here */
	autofd lock = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock < 0 || flock(lock, LOCK_EX) != 0)
		return err_set(e, ERR_FOLDER, "lock [state] directory: %m");
	enum err_code rc = kept_read(dir_fd, &k, e);
	if (rc == ERR_OK && n->signed_s)
		rc = signature_check_age(n->signed_s, kept_signed(&k, n->source),
					 n->now_s, e);
	if (rc == ERR_OK)
		rc = kept_hash(n->text, sha256, e);
	if (rc != ERR_OK)
		return rc;
	bool is_same = kept_is_current(&k) && strcmp(k.source, n->source) == 0 &&
		       strcmp(k.sha256, sha256) == 0;
	rc = write_origin(dir_fd, &k, n, sha256, e);
	if (rc == ERR_OK && !is_same)
		rc = fs_replace(dir_fd, BUNDLE, n->text.at, n->text.len, FILE_MODE,
				e);
	*changed = rc == ERR_OK && !is_same;
	return rc;
}
