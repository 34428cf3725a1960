#include "agent/net/davlist.h"

#include "agent/net/davhref.h"
#include "agent/net/head.h"
#include "common/relpath.h"
#include "common/xml.h"

#include <string.h>

/* What was located, a child, as one more folder. */
static enum err_code add_folder(struct davlist *l, const struct davhref *h,
				struct err *e)
{
	struct buf *folders = l->folders;
	struct span path = h->relative;
	unsigned depth = 1;
	for (size_t i = 0; i < path.len; i++)
		depth += path.at[i] == '/';
	if (depth > RELPATH_DEPTH)
		return err_set(e, ERR_LIMIT, "folders deeper than %d: %.*s",
			       RELPATH_DEPTH, SPAN_ARG(path));
	buf_span(folders, path);
	buf_char(folders, '\0');
	l->folders_added++;
	return folders->failed ? err_set(e, ERR_LIMIT, "too many folders") : ERR_OK;
}

/* --- the PROPFIND document (RFC 4918 s14) --------------------------------------- */

struct document {
	struct davlist *list;
	struct davhref at;
	bool on[6]; /* the open element of this depth is the one of `path` */
	/* of the response being read */
	struct buf href;
	bool has_href, is_collection, has_size, bad_size;
	uint64_t size, status;
	/* of its propstat: counts once its status is known, and is 200 */
	bool stat_collection, stat_has_size, stat_bad_size;
	uint64_t stat_size, stat_status;
};

static void own_document(struct document *d)
{
	davhref_free(&d->at);
	buf_free(&d->href);
}
#define autodocument __attribute__((cleanup(own_document))) struct document

#define STATUS_NONE 0u
#define STATUS_BAD 999u

/* "HTTP/1.1 200 OK" */
static uint64_t status_of(struct span line)
{
	struct span version, code;
	uint64_t status;
	if (!span_split(&line, ' ', &version) || version.len < 5 ||
	    memcmp(version.at, "HTTP/", 5) != 0 ||
	    !span_split(&line, ' ', &code) || !head_parse_number(code, &status))
		return STATUS_BAD;
	return status;
}

static bool is_good(uint64_t status)
{
	return status == STATUS_NONE || (status >= 200 && status < 300);
}

static enum err_code on_open(struct document *d, const struct xml_item *item,
			     struct err *e)
{
	static const char *const path[6] = { NULL, "multistatus", "response",
					     "propstat", "prop", "resourcetype" };
	unsigned depth = item->depth;
	if (depth <= 5)
		d->on[depth] = (depth == 1 || d->on[depth - 1]) &&
			       strcmp(item->name, path[depth]) == 0;
	if (depth == 1 && !d->on[1])
		return err_set(e, ERR_LISTING,
			       "the answer to PROPFIND is <%.64s>, not <multistatus>",
			       item->name);
	if (depth == 2 && d->on[2]) {
		buf_clear(&d->href);
		d->has_href = d->is_collection = d->has_size = d->bad_size = false;
		d->status = STATUS_NONE;
	}
	if (depth == 3 && d->on[3]) {
		d->stat_collection = d->stat_has_size = d->stat_bad_size = false;
		d->stat_status = STATUS_NONE;
	}
	if (depth == 6 && d->on[5] && strcmp(item->name, "collection") == 0)
		d->stat_collection = true;
	return ERR_OK;
}

/* Apache: one propstat for what there is, one with 404 for what there is not. */
static void end_propstat(struct document *d)
{
	if (!is_good(d->stat_status))
		return;
	d->is_collection |= d->stat_collection;
	d->bad_size |= d->stat_bad_size;
	if (d->stat_has_size) {
		d->has_size = true;
		d->size = d->stat_size;
	}
}

static enum err_code end_response(struct document *d, struct err *e)
{
	struct davlist *l = d->list;
	struct davhref *h = &d->at;
	struct span href = buf_as_span(&d->href);
	l->responses++;
	if (!d->has_href || d->href.failed)
		return err_set(e, ERR_LISTING, "the list of %.128s on %s has an "
			       "entry without href", l->asked->path,
			       l->asked->host);
	if (davhref_locate(h, href, e) != ERR_OK)
		return e->code;
	if (h->where == DAVHREF_OUTSIDE)
		return davhref_refuse(h, href, h->why, e);
	if (d->status == 404 || d->status == 410)
		return ERR_OK; /* gone while the server was listing */
	if (!is_good(d->status))
		return davhref_refuse(h, href, "the server could not look at", e);
	bool is_folder = d->is_collection || h->has_slash;
	if (!is_folder && d->bad_size)
		return davhref_refuse(h, href, "has an impossible length", e);
	uint64_t size = d->has_size ? d->size : WIRE_UNKNOWN;
	if (h->where == DAVHREF_HERE) {
		l->is_file = !is_folder;
		l->size = size;
	}
	if (h->where != DAVHREF_CHILD)
		return ERR_OK;
	/* lighttpd gives folders a length: it decides nothing */
	return is_folder ? add_folder(l, h, e) :
			   entry_list_add(l->files, h->relative,
					  (struct span){ 0 }, size, "", e);
}

static enum err_code take_href(struct document *d, struct span text,
			       struct err *e)
{
	if (d->has_href)
		return davhref_refuse(&d->at, text, "is a second href of one entry",
				      e);
	d->has_href = true;
	buf_span(&d->href, text);
	return ERR_OK;
}

static enum err_code on_close(struct document *d, const struct xml_item *item,
			      struct err *e)
{
	const char *name = item->name;
	if (item->depth == 2 && d->on[2])
		return end_response(d, e);
	if (item->depth == 3 && d->on[3])
		end_propstat(d);
	else if (item->depth == 3 && d->on[2] && strcmp(name, "href") == 0)
		return take_href(d, item->text, e);
	else if (item->depth == 3 && d->on[2] && strcmp(name, "status") == 0)
		d->status = status_of(item->text);
	else if (item->depth == 4 && d->on[3] && strcmp(name, "status") == 0)
		d->stat_status = status_of(item->text);
	else if (item->depth != 5 || !d->on[4])
		return ERR_OK;
	else if (strcmp(name, "iscollection") == 0) /* older IIS */
		d->stat_collection |= span_is(item->text, "1");
	else if (strcmp(name, "getcontentlength") == 0 && item->text.len) {
		d->stat_has_size = head_parse_number(item->text, &d->stat_size);
		d->stat_bad_size = !d->stat_has_size;
	}
	return ERR_OK;
}

static enum err_code on_item(void *arg, const struct xml_item *item,
			     struct err *e)
{
	return item->event == XML_OPEN ? on_open(arg, item, e) :
					 on_close(arg, item, e);
}

enum err_code davlist_xml(struct davlist *l, struct span xml, struct err *e)
{
	autodocument d = { .list = l, .href = { .max = XML_MAX_TEXT } };
	l->folders_added = 0;
	l->responses = 0;
	l->is_file = false;
	l->size = WIRE_UNKNOWN;
	enum err_code rc = davhref_begin(&d.at, l->root, l->asked, l->folder, e);
	if (rc != ERR_OK)
		return rc;
	return xml_parse(xml, "answer to PROPFIND", ERR_LISTING, on_item, &d, e);
}

/* --- the index page --------------------------------------------------------------- */

struct page {
	struct davlist *list;
	struct davhref at;
	struct buf href;
	bool is_folder; /* "<dir>" was seen since the last link */
};

static void own_page(struct page *p)
{
	davhref_free(&p->at);
	buf_free(&p->href);
}
#define autopage __attribute__((cleanup(own_page))) struct page

static struct span after(struct span s, size_t n)
{
	n = n < s.len ? n : s.len;
	return (struct span){ s.at + n, s.len - n };
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f';
}

/* "&#38;", "&#x26;": ASCII only, all else is left as it stands. */
static char numeric(struct span name)
{
	static const char digits[] = "0123456789abcdef";
	bool is_hex = name.len > 1 && (name.at[1] | 0x20) == 'x';
	unsigned value = 0, base = is_hex ? 16 : 10;
	for (size_t i = is_hex ? 2 : 1; i < name.len; i++) {
		char c = name.at[i];
		const char *at = memchr(digits, c >= 'A' && c <= 'F' ? c | 0x20 : c,
					base);
		if (at == NULL || value > 0x7f)
			return '\0';
		value = value * base + (unsigned)(at - digits);
	}
	return value <= 0x7f ? (char)value : '\0';
}

/* The character of an entity name without '&' and ';', or NUL. */
static char entity(struct span name)
{
	static const struct {
		const char *name;
		char c;
	} table[] = { { "amp", '&' },  { "lt", '<' },	 { "gt", '>' },
		      { "quot", '"' }, { "apos", '\'' } };
	if (name.len > 1 && name.at[0] == '#')
		return numeric(name);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (span_is(name, table[i].name))
			return table[i].c;
	return '\0';
}

static void undo_entities(struct span text, struct buf *out)
{
	buf_clear(out);
	while (text.len) {
		const char *end = text.at[0] != '&' ? NULL :
				  memchr(text.at, ';', text.len < 10 ? text.len : 10);
		size_t len = end ? (size_t)(end - text.at) : 0;
		char c = end ? entity((struct span){ text.at + 1, len - 1 }) : '\0';
		buf_char(out, c ? c : text.at[0]);
		text = after(text, c ? len + 1 : 1);
	}
}

/* Is it what came last? An icon and its name are two links to one thing. */
static bool is_repeated(const struct davlist *l, struct span path, bool is_folder)
{
	const struct buf *f = l->folders;
	if (is_folder)
		return f->len > path.len &&
		       memcmp(f->at + f->len - 1 - path.len, path.at,
			      path.len) == 0 &&
		       (f->len == path.len + 1 ||
			f->at[f->len - path.len - 2] == '\0');
	return l->files->count &&
	       span_is(path, entry_path(l->files, l->files->count - 1));
}

static enum err_code take_link(struct page *p, struct span href, struct err *e)
{
	struct davhref *h = &p->at;
	bool is_folder = p->is_folder;
	p->is_folder = false;
	undo_entities(href, &p->href);
	href = span_trim(buf_as_span(&p->href));
	const char *fragment = memchr(href.at, '#', href.len);
	if (fragment)
		href.len = (size_t)(fragment - href.at);
	/* ways up and to itself are on every index page */
	if (href.len == 0 || span_is(href, ".") || span_is(href, "..") ||
	    span_begins_nocase(href, "../"))
		return ERR_OK;
	enum err_code rc = davhref_locate(h, href, e);
	if (rc != ERR_OK || h->where != DAVHREF_CHILD)
		return rc;
	is_folder |= h->has_slash;
	if (is_repeated(p->list, h->relative, is_folder))
		return ERR_OK;
	return is_folder ? add_folder(p->list, h, e) :
			   entry_list_add(p->list->files, h->relative,
					  (struct span){ 0 }, WIRE_UNKNOWN, "", e);
}

/* Split one attribute off a tag; false at its end. */
static bool take_attribute(struct span *tag, struct span *name,
			   struct span *value)
{
	size_t i = 0;
	while (i < tag->len && (is_space(tag->at[i]) || tag->at[i] == '/'))
		i++;
	size_t from = i;
	while (i < tag->len && !is_space(tag->at[i]) && tag->at[i] != '=')
		i++;
	*name = (struct span){ tag->at + from, i - from };
	while (i < tag->len && is_space(tag->at[i]))
		i++;
	*value = (struct span){ "", 0 };
	if (i < tag->len && tag->at[i] == '=') {
		for (i++; i < tag->len && is_space(tag->at[i]);)
			i++;
		char quote = i < tag->len ? tag->at[i] : '\0';
		bool is_quoted = quote == '"' || quote == '\'';
		from = i += is_quoted;
		while (i < tag->len && (is_quoted ? tag->at[i] != quote :
						    !is_space(tag->at[i])))
			i++;
		*value = (struct span){ tag->at + from, i - from };
		i += is_quoted;
	}
	bool has_one = name->len || value->len || i < tag->len;
	*tag = after(*tag, i);
	return has_one;
}

/* Length of the tag at '<' up to its '>', which no quotes enclose, or 0. */
static size_t tag_length(struct span html)
{
	char quote = '\0';
	for (size_t i = 1; i < html.len; i++) {
		char c = html.at[i];
		if (quote)
			quote = c == quote ? '\0' : quote;
		else if ((c == '"' || c == '\'') && html.at[i - 1] == '=')
			quote = c;
		else if (c == '>')
			return i;
	}
	return 0;
}

static enum err_code take_tag(struct page *p, struct span tag, struct err *e)
{
	struct span name, value;
	if (span_is_nocase(span_trim(tag), "dir"))
		p->is_folder = true;
	if (tag.len < 2 || (tag.at[0] | 0x20) != 'a' || !is_space(tag.at[1]))
		return ERR_OK;
	tag = after(tag, 1);
	while (take_attribute(&tag, &name, &value))
		if (span_is_nocase(name, "href"))
			return take_link(p, value, e);
	return ERR_OK;
}

enum err_code davlist_html(struct davlist *l, struct span html, struct err *e)
{
	autopage p = { .list = l };
	l->folders_added = 0;
	enum err_code rc = davhref_begin(&p.at, l->root, l->asked, l->folder, e);
	while (rc == ERR_OK && html.len) {
		size_t used = 1;
		if (span_begins_nocase(html, "&lt;dir&gt;")) {
			p.is_folder = true;
		} else if (span_begins_nocase(html, "<!--")) {
			const char *end = memmem(html.at, html.len, "-->", 3);
			used = end ? (size_t)(end - html.at) : html.len;
		} else if (html.at[0] == '<') {
			used = tag_length(html);
			if (used == 0)
				break; /* unfinished: nothing more to find */
			rc = take_tag(&p, (struct span){ html.at + 1, used - 1 }, e);
		}
		html = after(html, used);
	}
	return rc;
}
