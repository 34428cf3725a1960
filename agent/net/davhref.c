#include "agent/net/davhref.h"

#include <string.h>

/* --- the virtual directories (docs/wire.md 5.1) ----------------------------- */

static const char *const directories[WIRE_RUNG_COUNT] = {
	[WIRE_RUNG_PLAIN] = "SMS_DP_SMSPKG$",
	[WIRE_RUNG_NOCERT] = "NOCERT_SMS_DP_SMSPKG$",
	[WIRE_RUNG_TOKEN] = "CCMTOKENAUTH_SMS_DP_SMSPKG$",
};

static enum wire_rung rung_of(struct span name)
{
	for (unsigned i = WIRE_RUNG_PLAIN; i < WIRE_RUNG_COUNT; i++)
		if (span_is_nocase(name, directories[i])) /* IIS folds case */
			return (enum wire_rung)i;
	return WIRE_RUNG_AS_GIVEN;
}

enum wire_rung davhref_rung(struct span path, struct span *directory)
{
	struct span part;
	while (span_split(&path, '/', &part)) {
		autobuf name = { .max = URL_MAX };
		if (!url_decode(part, &name))
			continue;
		enum wire_rung rung = rung_of(buf_as_span(&name));
		if (rung != WIRE_RUNG_AS_GIVEN) {
			*directory = part;
			return rung;
		}
	}
	return WIRE_RUNG_AS_GIVEN;
}

bool davhref_on_rung(const char *url, enum wire_rung rung, struct buf *out)
{
	struct span path = span_of(url), directory;
	const char *host = strstr(url, "://");
	if (host) {
		path.at = host + 3 + strcspn(host + 3, "/?");
		path.len = strcspn(path.at, "?");
	}
	bool has_one = davhref_rung(path, &directory) != WIRE_RUNG_AS_GIVEN;
	if (!has_one || rung == WIRE_RUNG_AS_GIVEN || rung >= WIRE_RUNG_COUNT) {
		buf_text(out, url);
		return has_one;
	}
	buf_add(out, url, (size_t)(directory.at - url));
	buf_text(out, directories[rung]);
	buf_text(out, directory.at + directory.len);
	return true;
}

/* --- where an href leads ------------------------------------------------------ */

void davhref_free(struct davhref *h)
{
	buf_free(&h->root);
	buf_free(&h->asked);
	buf_free(&h->text);
	buf_free(&h->path);
	buf_free(&h->name);
}

static const char *component_fault(struct span name)
{
	if (span_is(name, ".") || span_is(name, ".."))
		return "holds a \".\" or \"..\"";
	if (memchr(name.at, '/', name.len) || memchr(name.at, '\\', name.len))
		return "hides a separator in a name";
	return NULL;
}

/*
 * Decode a path once, name by name, so that no escape becomes a separator.
 * Other odd names pass: the keeper judges them. Returns the fault, or NULL.
 */
static const char *decode_path(struct span path, struct buf *out)
{
	struct span part;
	buf_clear(out);
	while (span_split(&path, '/', &part)) {
		if (part.len == 0)
			continue; /* "//" is one separator, as servers see it */
		if (out->len)
			buf_char(out, '/');
		size_t at = out->len;
		if (!url_decode(part, out))
			return out->failed ? "is too long" :
					     "has an impossible % escape";
		const char *fault = component_fault(
			(struct span){ out->at + at, out->len - at });
		if (fault)
			return fault;
	}
	return out->failed ? "is too long" : NULL;
}

/*
 * Is `path` at or below `folder`, by whole names? *rest is what follows. Folded:
 * all virtual directories of the family are one place to IIS, which writes them
 * as it likes.
 */
static bool is_within(struct span folder, bool is_folded, struct span path,
		      struct span *rest)
{
	struct span want, have;
	while (span_split(&folder, '/', &want)) {
		if (!span_split(&path, '/', &have))
			return false;
		bool is_same = want.len == have.len &&
			       (is_folded ?
				strncasecmp(want.at, have.at, want.len) == 0 :
				memcmp(want.at, have.at, want.len) == 0);
		if (is_folded && rung_of(want) != WIRE_RUNG_AS_GIVEN)
			is_same = rung_of(have) != WIRE_RUNG_AS_GIVEN;
		if (!is_same)
			return false;
	}
	*rest = path;
	return true;
}

enum err_code davhref_begin(struct davhref *h, const struct url *root,
			    const struct url *asked, const char *folder,
			    struct err *e)
{
	struct span unused, rest;
	*h = (struct davhref){ .url = asked };
	h->text.max = h->path.max = h->name.max = 4 * URL_MAX;
	h->is_folded = davhref_rung(span_of(root->path), &unused) !=
		       WIRE_RUNG_AS_GIVEN;
	const char *fault = decode_path(span_of(root->path), &h->root);
	if (fault == NULL)
		fault = decode_path(span_of(asked->path), &h->name);
	if (fault)
		return err_set(e, ERR_LISTING, "the folder %.256s %s",
			       asked->path, fault);
	if (!url_same_origin(root, asked) ||
	    !is_within(buf_as_span(&h->root), h->is_folded,
		       buf_as_span(&h->name), &rest) ||
	    (folder && !span_is(rest, folder)))
		return err_set(e, ERR_LISTING,
			       "redirected from the folder %.128s to %.128s on %s",
			       folder ? folder : root->path, asked->path,
			       asked->host);
	buf_span(&h->asked, rest);
	return h->asked.failed ? err_set(e, ERR_NOMEM, "no memory for a list") :
				 ERR_OK;
}

/* Servers write names unescaped that a URL cannot hold; '#' is one of them,
 * since an href of DAV has no fragment (RFC 4918 s8.3). */
static void escape_href(struct span href, struct buf *out)
{
	buf_clear(out);
	for (size_t i = 0; i < href.len; i++) {
		unsigned char c = (unsigned char)href.at[i];
		if (c <= ' ' || c >= 0x7f || strchr("\"<>#", c))
			buf_print(out, "%%%02X", c);
		else
			buf_char(out, (char)c);
	}
}

static bool has_scheme(struct span href)
{
	for (size_t i = 0; i < href.len && !strchr("/?", href.at[i]); i++)
		if (href.at[i] == ':')
			return true;
	return false;
}

/* The path, and what follows '?', of an href that names no host. */
static struct span take_path(struct davhref *h, struct span href)
{
	struct span path = { 0 };
	bool has_query = memchr(href.at, '?', href.len) != NULL;
	if (!span_begins_nocase(href, "/")) {
		buf_text(&h->path, h->url->path);
		buf_char(&h->path, '/');
		if (span_begins_nocase(href, "./"))
			href.at += 2, href.len -= 2;
	}
	if (href.len && href.at[0] != '?')
		span_split(&href, '?', &path);
	else if (has_query)
		href.at++, href.len--;
	buf_span(&h->path, path);
	return has_query ? href : (struct span){ 0 };
}

/* Fill h->path with the href's path. Returns why it leads away, or NULL. */
static const char *reach(struct davhref *h, struct span href)
{
	const struct url *asked = h->url;
	struct span query;
	autourl url = { 0 };
	struct err e;
	buf_clear(&h->path);
	buf_clear(&h->name);
	if (span_begins_nocase(href, "//")) {
		buf_print(&h->name, "%s:%.*s", asked->is_https ? "https" : "http",
			  SPAN_ARG(href));
		href = buf_as_span(&h->name);
	}
	if (span_begins_nocase(href, "http://") || span_begins_nocase(href, "https://")) {
		if (url_parse(href, &url, &e) != ERR_OK)
			return "is no URL";
		if (!url_same_origin(&url, asked))
			return "is on another server";
		buf_text(&h->path, url.path);
		query = span_of(url.query);
	} else if (has_scheme(href)) {
		return "is no http URL";
	} else {
		query = take_path(h, href);
	}
	if (query.at == NULL)
		return NULL;
	/* ".../sccm?/setup/tool.bin" is a path in its own way (docs/wire.md 5.3) */
	size_t len = h->path.len;
	if (!span_begins_nocase(query, "/") || len < 5 ||
	    strncasecmp(h->path.at + len - 5, "/sccm", 5) != 0)
		return "has a query";
	h->path.len = len - 5;
	buf_span(&h->path, query);
	return NULL;
}

enum err_code davhref_refuse(const struct davhref *h, struct span href,
			     const char *why, struct err *e)
{
	int len = href.len < 160 ? (int)href.len : 160; /* the rest must fit */
	return err_set(e, ERR_LISTING,
		       "the list of %.128s on %.128s names \"%.*s\", which %s",
		       h->url->path, h->url->host, len, href.at, why);
}

enum err_code davhref_locate(struct davhref *h, struct span href, struct err *e)
{
	struct span below, tail;
	h->where = DAVHREF_OUTSIDE;
	if (href.len > URL_MAX)
		return davhref_refuse(h, href, "is too long", e);
	escape_href(href, &h->text);
	h->why = reach(h, buf_as_span(&h->text));
	if (h->why)
		return ERR_OK;
	const char *fault = decode_path(buf_as_span(&h->path), &h->name);
	if (fault || h->text.failed || h->path.failed)
		return davhref_refuse(h, href, fault ? fault : "is too long", e);
	h->has_slash = h->path.len && h->path.at[h->path.len - 1] == '/';
	h->why = "lies outside of the folder";
	if (!is_within(buf_as_span(&h->root), h->is_folded,
		       buf_as_span(&h->name), &below) ||
	    !is_within(buf_as_span(&h->asked), false, below, &tail))
		return ERR_OK;
	h->relative = below;
	if (tail.len == 0)
		h->where = DAVHREF_HERE;
	else if (memchr(tail.at, '/', tail.len))
		h->where = DAVHREF_DEEPER;
	else
		h->where = DAVHREF_CHILD;
	return ERR_OK;
}
