#include "agent/net/manifest.h"

#include "common/digest.h"
#include "common/own.h"
#include "common/xml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MANIFEST_TIMEOUT_MS 60000u

struct manifest {
	struct http_call *call;
	struct manifest_request request; /* its texts are gone; id, url instead */
	struct buf id;
	char *url;
};

/* --- the document (docs/wire.md 6.3, 11) --------------------------------------- */

struct document {
	const char *service_url;
	struct span content_id;
	uint64_t version;
	struct entry_list *out;
	struct buf path, url; /* scratch */
};

static void own_document(struct document *d)
{
	buf_free(&d->path);
	buf_free(&d->url);
}
#define autodocument __attribute__((cleanup(own_document))) struct document

/* The first of the attributes that is there, and not empty; or NULL. */
static const char *any_of(const struct xml_item *item, const char *const *names)
{
	for (; *names; names++) {
		const char *value = xml_attribute(item, *names);
		if (value && value[0])
			return value;
	}
	return NULL;
}

/* Is `longer` the id `shorter` with ".version" behind it? */
static bool is_versioned(struct span longer, struct span shorter,
			 uint64_t version)
{
	uint64_t named;
	if (longer.len <= shorter.len + 1 || longer.at[shorter.len] != '.' ||
	    strncasecmp(longer.at, shorter.at, shorter.len) != 0)
		return false;
	struct span digits = { longer.at + shorter.len + 1,
			       longer.len - shorter.len - 1 };
	return head_parse_number(digits, &named) &&
	       (version == 0 || named == version);
}

static enum err_code take_content(const struct document *d,
				  const struct xml_item *item, struct err *e)
{
	struct span id = span_of(xml_attribute(item, "ContentId"));
	const char *version = xml_attribute(item, "Version");
	struct span want = d->content_id;
	uint64_t named;
	if (strcmp(item->name, "Content") != 0)
		return err_set(e, ERR_LISTING,
			       "manifest: its root is <%.64s>, not <Content>",
			       item->name);
	bool is_same = id.len && id.len == want.len &&
		       strncasecmp(id.at, want.at, id.len) == 0;
	if (id.len == 0 || want.len == 0 ||
	    (!is_same && !is_versioned(id, want, d->version) &&
	     !is_versioned(want, id, d->version)))
		return err_set(e, ERR_LISTING,
			       "manifest: it is for the content \"%.128s\", not %.*s",
			       id.at ? id.at : "", SPAN_ARG(want));
	if (version == NULL)
		return ERR_OK;
	if (!head_parse_number(span_of(version), &named) ||
	    (d->version && named != d->version))
		return err_set(e, ERR_LISTING,
			       "manifest: it is for version \"%.32s\", not %llu",
			       version, (unsigned long long)d->version);
	return ERR_OK;
}

/* HashAlgorithm by name or CryptoAPI id (docs/wire.md 4.5); without one the
 * length tells. */
static bool algorithm_of(const char *name, size_t hash_len,
			 enum digest_alg *alg)
{
	static const struct {
		const char *name;
		enum digest_alg alg;
	} table[] = {
		{ "SHA256", DIGEST_SHA256 }, { "SHA-256", DIGEST_SHA256 },
		{ "32780", DIGEST_SHA256 },  { "SHA1", DIGEST_SHA1 },
		{ "SHA-1", DIGEST_SHA1 },    { "32772", DIGEST_SHA1 },
	};
	if (name == NULL || name[0] == '\0') {
		*alg = hash_len == 40 ? DIGEST_SHA1 : DIGEST_SHA256;
		return true;
	}
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (span_is_nocase(span_of(name), table[i].name)) {
			*alg = table[i].alg;
			return true;
		}
	return false;
}

static enum err_code take_hash(const struct xml_item *item, const char *path,
			       char out[DIGEST_HEX_SIZE], struct err *e)
{
	const char *hash = xml_attribute(item, "Hash");
	const char *name = xml_attribute(item, "HashAlgorithm");
	enum digest_alg alg;
	out[0] = '\0';
	if (hash == NULL || hash[0] == '\0')
		return ERR_OK;
	if (!algorithm_of(name, strlen(hash), &alg))
		return err_set(e, ERR_LISTING,
			       "manifest: unknown HashAlgorithm \"%.64s\" of %.256s",
			       name, path);
	if (!digest_is_hex(alg, hash, strlen(hash), out))
		return err_set(e, ERR_LISTING,
			       "manifest: impossible hash \"%.80s\" of %.256s", hash,
			       path);
	return ERR_OK;
}

/*
 * getcontentfile of the same service: the URL that was asked with its last
 * name replaced, its query kept and the file's name added.
 */
static void service_file(const char *service_url, struct span path,
			 struct buf *out)
{
	struct span rest = span_of(service_url), before = { 0 };
	span_split(&rest, '?', &before);
	while (before.len && before.at[before.len - 1] != '/')
		before.len--;
	buf_span(out, before);
	buf_text(out, "getcontentfile?");
	buf_span(out, rest);
	buf_text(out, rest.len ? "&name=" : "name=");
	url_encode_path(path, out);
}

static enum err_code take_url(struct document *d, const struct xml_item *item,
			      struct err *e)
{
	static const char *const names[] = { "Url", "Uri", "Href", NULL };
	const char *url = any_of(item, names);
	autourl parsed = { 0 };
	buf_clear(&d->url);
	if (url == NULL) {
		service_file(d->service_url, buf_as_span(&d->path), &d->url);
		return d->url.failed ? err_set(e, ERR_LIMIT, "manifest: the URL of "
					       "%.256s is too long", d->path.at) :
				       ERR_OK;
	}
	struct err why = { 0 };
	if (url_parse(span_of(url), &parsed, &why) != ERR_OK)
		return err_set(e, ERR_LISTING, "manifest: place of %.256s: %.128s",
			       d->path.at, why.text);
	if (!parsed.is_https)
		return err_set(e, ERR_LISTING,
			       "manifest: place of %.256s: no https, on %s",
			       d->path.at, parsed.host);
	buf_text(&d->url, url);
	return ERR_OK;
}

static enum err_code take_file(struct document *d, const struct xml_item *item,
			       struct err *e)
{
	static const char *const names[] = { "Name", "RelativePath", "Path", NULL };
	static const char *const sizes[] = { "Size", "Length", NULL };
	const char *name = any_of(item, names), *size = any_of(item, sizes);
	char hash[DIGEST_HEX_SIZE];
	uint64_t bytes = WIRE_UNKNOWN;
	if (name == NULL)
		return err_set(e, ERR_LISTING, "manifest: a file without a name");
	buf_clear(&d->path);
	for (const char *c = name; *c; c++)
		buf_char(&d->path, *c == '\\' ? '/' : *c);
	if (d->path.failed)
		return err_set(e, ERR_NOMEM, "no memory for a manifest");
	if (size && !head_parse_number(span_of(size), &bytes))
		return err_set(e, ERR_LISTING,
			       "manifest: impossible size \"%.32s\" of %.256s", size,
			       name);
	enum err_code rc = take_hash(item, name, hash, e);
	if (rc == ERR_OK)
		rc = take_url(d, item, e);
	if (rc != ERR_OK)
		return rc;
	return entry_list_add(d->out, buf_as_span(&d->path), buf_as_span(&d->url),
			      bytes, hash, e);
}

static enum err_code on_item(void *arg, const struct xml_item *item,
			     struct err *e)
{
	struct document *d = arg;
	if (item->event != XML_OPEN)
		return ERR_OK;
	if (item->depth == 1)
		return take_content(d, item, e);
	if (strcmp(item->name, "FileContent") == 0)
		return take_file(d, item, e);
	return ERR_OK; /* every release adds some */
}

enum err_code manifest_parse(struct span xml, const char *service_url,
			     struct span content_id, uint64_t version,
			     struct entry_list *out, struct err *e)
{
	autodocument d = {
		.service_url = service_url,
		.content_id = content_id,
		.version = version,
		.out = out,
		.url = { .max = 4 * URL_MAX },
	};
	enum err_code rc = xml_parse(xml, "manifest", ERR_LISTING, on_item, &d, e);
	if (rc == ERR_OK && entry_list_sort(out, e) != ERR_OK)
		rc = err_prefix(e, "manifest");
	return rc;
}

/* --- the request (docs/wire.md 6.2) ---------------------------------------------- */

void manifest_cancel(struct manifest *m)
{
	if (m == NULL)
		return;
	http_cancel(m->call);
	buf_free(&m->id);
	free(m->url);
	free(m);
}

static enum err_code read_answer(struct manifest *m,
				 const struct http_response *r,
				 struct entry_list *files, struct err *e)
{
	if (r->result.code != ERR_OK) {
		*e = r->result;
		return e->code;
	}
	if (http_status(r, "manifest", e) != ERR_OK) {
		if (e->code == ERR_DENIED)
			e->code = ERR_EXPIRED; /* docs/wire.md 6.5 */
		return e->code;
	}
	if (manifest_parse(r->body, m->url, buf_as_span(&m->id),
			   m->request.version, files, e) == ERR_LISTING &&
	    m->request.on_note)
		m->request.on_note(m->request.arg, "manifest", r->body);
	return e->code;
}

static void on_response(void *arg, const struct http_response *r)
{
	struct manifest *m = arg;
	struct manifest_request to = m->request;
	struct err e = { 0 };
	struct entry_list *files = calloc(1, sizeof(*files));
	m->call = NULL;
	if (files == NULL)
		err_set(&e, ERR_NOMEM, "no memory for a manifest");
	else if (read_answer(m, r, files, &e) != ERR_OK) {
		entry_list_free(files);
		free(take_ptr(files));
	}
	manifest_cancel(m);
	to.done(to.arg, &e, files);
}

struct manifest *manifest_start(struct http *http,
				const struct manifest_request *request,
				struct err *e)
{
	static const char *const headers[] = { "Accept: application/xml", NULL };
	bool is_https = strncasecmp(request->url, "https:", 6) == 0;
	struct manifest *m = calloc(1, sizeof(*m));
	if (m) {
		m->request = *request;
		m->url = strdup(request->url);
		buf_span(&m->id, request->content_id);
	}
	if (m == NULL || m->url == NULL || m->id.failed) {
		err_set(e, ERR_NOMEM, "no memory for a manifest");
		manifest_cancel(m);
		return NULL;
	}
	m->request.url = m->request.token_line = NULL; /* borrowed for the call */
	m->request.content_id = (struct span){ 0 };
	struct http_request r = {
		.method = "GET",
		.url = m->url,
		.headers = headers,
		.secret_header = is_https ? request->token_line : NULL,
		.leg = HTTP_SERVICE,
		.max_body = XML_MAX_BYTES,
		.timeout_ms = MANIFEST_TIMEOUT_MS,
		.done = on_response,
		.arg = m,
	};
	m->call = http_start(http, &r, e);
	if (m->call == NULL) {
		manifest_cancel(m);
		return NULL;
	}
	return m;
}
