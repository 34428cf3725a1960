/* A small XML document tree for what the stand-ins receive. */
#ifndef LAB_XMLDOC_H
#define LAB_XMLDOC_H

#include "buf.h"

struct attribute {
	char *name;
	char *value;
};

struct element {
	char *name;
	struct attribute *attributes;
	size_t n_attributes;
	struct buf text;                /* of this element alone */
	struct element *parent;
	struct element *first;          /* child */
	struct element *last;           /* child */
	struct element *next;           /* sibling */
};

/*
 * Parse a document. `encoding` as expat names it, NULL lets the BOM decide.
 * Returns the root, owned by the caller, or NULL with the reason in `why`.
 * A document type and more than 32 levels are refused.
 */
struct element *xml_parse(const void *data, size_t n, const char *encoding,
	struct buf *why);
void xml_free(struct element *root);

/* All of these take NULL for an element and then find nothing. */
const struct element *xml_child(const struct element *e, const char *name);
const char *xml_attribute(const struct element *e, const char *name);
const char *xml_text(const struct element *e);

/* The tree as {"name":..,"attributes":{..},"text":..,"children":[..]}. */
void xml_json(struct buf *out, const struct element *e);

#endif
