#include "common/xml.h"

#include "common/buf.h"

#include <expat.h>
#include <stdint.h>

#define STEP_BYTES (64u << 10)
/*
 * Longest single token (a tag with its attributes, a comment). expat 2.5 reads
 * an unfinished token again from its start at every step: without this limit a
 * document of one token costs time that grows with the square of its length.
 */
#define TOKEN_MAX (1u << 20)

struct parse {
	XML_Parser expat;
	const char *what;
	enum err_code code; /* for anything wrong with the document */
	xml_on_item *on_item;
	void *arg;
	struct err *e;
	enum err_code rc; /* the first failure; nothing happens after it */
	unsigned depth;
	unsigned elements;
	struct buf text[XML_MAX_DEPTH + 1]; /* of each open element, by depth */
};

const char *xml_attribute(const struct xml_item *item, const char *name)
{
	if (item->attributes == NULL)
		return NULL;
	for (const char *const *a = item->attributes; a[0]; a += 2)
		if (strcmp(a[0], name) == 0)
			return a[1];
	return NULL;
}

static void stop(struct parse *p, enum err_code rc)
{
	p->rc = rc;
	XML_StopParser(p->expat, XML_FALSE);
}

static void refuse(struct parse *p, const char *why)
{
	if (p->rc == ERR_OK)
		stop(p, err_set(p->e, p->code, "%s, line %lu: %s", p->what,
				(unsigned long)XML_GetCurrentLineNumber(p->expat),
				why));
}

static const char *local_name(const char *name)
{
	const char *colon = strrchr(name, ':');
	return colon ? colon + 1 : name;
}

static void tell(struct parse *p, const struct xml_item *item)
{
	enum err_code rc = p->on_item(p->arg, item, p->e);
	if (rc != ERR_OK)
		stop(p, rc);
}

/*
 * Copy the attributes of one kind, with or without prefix. Declarations of
 * namespaces are none: xmlns:URL="..." must not pass for URL="...".
 */
static size_t copy_attributes(const char **from, bool prefixed,
			      const char **to, size_t n)
{
	for (; from[0]; from += 2) {
		bool is_prefixed = strchr(from[0], ':') != NULL;
		if (is_prefixed != prefixed || strcmp(from[0], "xmlns") == 0 ||
		    strncmp(from[0], "xmlns:", 6) == 0)
			continue;
		to[n++] = local_name(from[0]);
		to[n++] = from[1];
	}
	return n;
}

static void on_open(void *arg, const char *name, const char **attributes)
{
	struct parse *p = arg;
	const char *list[2 * XML_MAX_ATTRIBUTES + 1];
	if (p->rc != ERR_OK) /* expat may still call after a stop */
		return;
	if (p->depth >= XML_MAX_DEPTH) {
		refuse(p, "elements are nested too deep");
		return;
	}
	if (++p->elements > XML_MAX_ELEMENTS) {
		refuse(p, "too many elements");
		return;
	}
	for (size_t i = 0; attributes[i]; i += 2) {
		if (i >= 2 * XML_MAX_ATTRIBUTES) {
			refuse(p, "too many attributes");
			return;
		}
		if (strlen(attributes[i + 1]) > XML_MAX_TEXT) {
			refuse(p, "an attribute is too long");
			return;
		}
	}
	/* Unprefixed first: they win where both have the same local name. */
	size_t n = copy_attributes(attributes, false, list, 0);
	n = copy_attributes(attributes, true, list, n);
	list[n] = NULL;
	p->depth++;
	buf_clear(&p->text[p->depth]);
	tell(p, &(struct xml_item){ .event = XML_OPEN, .name = local_name(name),
				    .depth = p->depth, .attributes = list });
}

static void on_close(void *arg, const char *name)
{
	struct parse *p = arg;
	if (p->rc != ERR_OK)
		return;
	struct span text = span_trim(buf_as_span(&p->text[p->depth]));
	tell(p, &(struct xml_item){ .event = XML_CLOSE, .name = local_name(name),
				    .depth = p->depth, .text = text });
	p->depth--;
}

static void on_text(void *arg, const char *bytes, int len)
{
	struct parse *p = arg;
	if (p->rc != ERR_OK || len <= 0)
		return;
	struct buf *b = &p->text[p->depth];
	/* Text is trimmed in the end: so the indentation between children is
	 * never kept, and a long list of them may be indented. */
	for (; b->len == 0 && len > 0 && strchr(" \t\r\n", *bytes); len--)
		bytes++;
	if (b->len + (size_t)len > XML_MAX_TEXT) {
		refuse(p, "the text of an element is too long");
		return;
	}
	buf_add(b, bytes, (size_t)len);
	if (b->failed)
		stop(p, err_set(p->e, ERR_NOMEM, "%s: out of memory", p->what));
}

/* No DTD at all: no entities, no external anything, no amplification. */
static void on_doctype(void *arg, const char *name, const char *system_id,
		       const char *public_id, int has_subset)
{
	(void)name, (void)system_id, (void)public_id, (void)has_subset;
	refuse(arg, "a document type (DTD) is not allowed");
}

/*
 * UTF-16 is found by its mark, or by its first '<' where a mark is missing;
 * *document loses the mark. An encoding named here outranks what the document
 * declares: .NET writes encoding="utf-8" into UTF-16 and the other way round.
 */
static const char *find_encoding(struct span *document)
{
	static const struct {
		char bytes[2];
		bool is_mark;
		const char *encoding;
	} table[] = {
		{ "\xff\xfe", true, "UTF-16LE" },
		{ "\xfe\xff", true, "UTF-16BE" },
		{ "<\0", false, "UTF-16LE" },
		{ "\0<", false, "UTF-16BE" },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (document->len < 2 ||
		    memcmp(document->at, table[i].bytes, 2) != 0)
			continue;
		if (table[i].is_mark) {
			document->at += 2;
			document->len -= 2;
		}
		return table[i].encoding;
	}
	return NULL; /* UTF-8, or what is declared of the few that expat knows */
}

static void malformed(struct parse *p)
{
	enum XML_Error error = XML_GetErrorCode(p->expat);
	if (p->rc != ERR_OK)
		return; /* we stopped it ourselves */
	if (error == XML_ERROR_NO_MEMORY)
		p->rc = err_set(p->e, ERR_NOMEM, "%s: out of memory", p->what);
	else
		refuse(p, XML_ErrorString(error));
}

static void feed(struct parse *p, struct span document)
{
	for (size_t at = 0; p->rc == ERR_OK && at < document.len;) {
		size_t step = document.len - at;
		if (step > STEP_BYTES)
			step = STEP_BYTES;
		bool is_last = at + step == document.len;
		if (XML_Parse(p->expat, document.at + at, (int)step, is_last) !=
		    XML_STATUS_OK)
			malformed(p);
		at += step;
		XML_Index begin = XML_GetCurrentByteIndex(p->expat);
		if (begin >= 0 && at > (size_t)begin &&
		    at - (size_t)begin > TOKEN_MAX + STEP_BYTES)
			refuse(p, "a tag or comment is too long");
	}
}

enum err_code xml_parse(struct span document, const char *what,
			enum err_code code, xml_on_item *on_item, void *arg,
			struct err *e)
{
	struct parse p = { .what = what, .code = code, .on_item = on_item,
			   .arg = arg, .e = e };
	if (document.len > XML_MAX_BYTES)
		return err_set(e, code, "%s: longer than %u bytes", what,
			       XML_MAX_BYTES);
	const char *encoding = find_encoding(&document);
	if (document.len == 0)
		return err_set(e, code, "%s: empty document", what);
	p.expat = XML_ParserCreate(encoding);
	if (p.expat == NULL)
		return err_set(e, ERR_NOMEM, "%s: out of memory", what);
	XML_SetUserData(p.expat, &p);
	XML_SetElementHandler(p.expat, on_open, on_close);
	XML_SetCharacterDataHandler(p.expat, on_text);
	XML_SetStartDoctypeDeclHandler(p.expat, on_doctype);
	for (size_t i = 0; i <= XML_MAX_DEPTH; i++)
		p.text[i].max = XML_MAX_TEXT;
	feed(&p, document);
	XML_ParserFree(p.expat);
	for (size_t i = 0; i <= XML_MAX_DEPTH; i++)
		buf_free(&p.text[i]);
	return p.rc;
}
