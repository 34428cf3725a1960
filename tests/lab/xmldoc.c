#include "xmldoc.h"

#include <expat.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 32 };

struct parse {
	XML_Parser parser;
	struct element *root;
	struct element *open;   /* innermost element that is not closed */
	int depth;
	const char *refusal;
};

static void refuse(struct parse *p, const char *why)
{
	p->refusal = why;
	XML_StopParser(p->parser, XML_FALSE);
}

static void on_start(void *data, const char *name, const char **list)
{
	struct parse *p = data;
	struct element *e = must_alloc(sizeof *e);

	e->name = must_dup(name, strlen(name));
	while (list[e->n_attributes * 2])
		e->n_attributes++;
	e->attributes = must_alloc(e->n_attributes * sizeof *e->attributes);
	for (size_t i = 0; i < e->n_attributes; i++) {
		e->attributes[i].name = must_dup(list[2 * i], strlen(list[2 * i]));
		e->attributes[i].value = must_dup(list[2 * i + 1],
			strlen(list[2 * i + 1]));
	}
	e->parent = p->open;
	if (!p->open)
		p->root = e;
	else if (p->open->last)
		p->open->last->next = e;
	else
		p->open->first = e;
	if (p->open)
		p->open->last = e;
	p->open = e;
	if (++p->depth > MAX_DEPTH)
		refuse(p, "too deep");
}

static void on_end(void *data, const char *name)
{
	struct parse *p = data;

	(void)name;
	p->depth--;
	p->open = p->open->parent;
}

static void on_text(void *data, const char *text, int n)
{
	struct parse *p = data;

	if (p->open)
		buf_add(&p->open->text, text, (size_t)n);
}

static void on_doctype(void *data, const char *name, const char *system_id,
	const char *public_id, int has_subset)
{
	(void)name, (void)system_id, (void)public_id, (void)has_subset;
	refuse(data, "document type");
}

struct element *xml_parse(const void *data, size_t n, const char *encoding,
	struct buf *why)
{
	struct parse p = {.parser = XML_ParserCreate(encoding)};

	if (!p.parser)
		abort();
	XML_SetUserData(p.parser, &p);
	XML_SetElementHandler(p.parser, on_start, on_end);
	XML_SetCharacterDataHandler(p.parser, on_text);
	XML_SetStartDoctypeDeclHandler(p.parser, on_doctype);
	if (XML_Parse(p.parser, data, (int)n, 1) != XML_STATUS_OK) {
		if (!p.refusal)
			p.refusal = XML_ErrorString(XML_GetErrorCode(p.parser));
		buf_printf(why, "%s at byte %ld", p.refusal,
			(long)XML_GetCurrentByteIndex(p.parser));
		xml_free(p.root);
		p.root = NULL;
	}
	XML_ParserFree(p.parser);
	return p.root;
}

void xml_free(struct element *root)
{
	if (!root)
		return;
	for (struct element *e = root->first, *next; e; e = next) {
		next = e->next;
		xml_free(e);
	}
	for (size_t i = 0; i < root->n_attributes; i++) {
		free(root->attributes[i].name);
		free(root->attributes[i].value);
	}
	free(root->attributes);
	free(root->name);
	buf_free(&root->text);
	free(root);
}

const struct element *xml_child(const struct element *e, const char *name)
{
	for (e = e ? e->first : NULL; e; e = e->next)
		if (!strcmp(e->name, name))
			return e;
	return NULL;
}

const char *xml_attribute(const struct element *e, const char *name)
{
	for (size_t i = 0; e && i < e->n_attributes; i++)
		if (!strcmp(e->attributes[i].name, name))
			return e->attributes[i].value;
	return NULL;
}

const char *xml_text(const struct element *e)
{
	return e ? buf_text(&e->text) : NULL;
}

void xml_json(struct buf *out, const struct element *e)
{
	buf_puts(out, "{\"name\":");
	buf_json(out, e->name);
	buf_puts(out, ",\"attributes\":{");
	for (size_t i = 0; i < e->n_attributes; i++) {
		buf_puts(out, i ? "," : "");
		buf_json(out, e->attributes[i].name);
		buf_puts(out, ":");
		buf_json(out, e->attributes[i].value);
	}
	buf_puts(out, "},\"text\":");
	buf_json(out, buf_text(&e->text));
	buf_puts(out, ",\"children\":[");
	for (const struct element *c = e->first; c; c = c->next) {
		xml_json(out, c);
		buf_puts(out, c->next ? "," : "");
	}
	buf_puts(out, "]}");
}
