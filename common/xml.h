#ifndef COMMON_XML_H
#define COMMON_XML_H

#include "common/err.h"
#include "common/span.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * XML as a sequence of events, over expat, for documents that nobody vouches
 * for. No DTD, no entities beyond the five of XML, limits on everything. Names
 * come without their namespace prefix ("D:href" is "href"). Text is UTF-8
 * whatever the document's encoding (UTF-8, UTF-16 with or without BOM).
 */
#define XML_MAX_BYTES (10u << 20)
#define XML_MAX_DEPTH 64
#define XML_MAX_ATTRIBUTES 256   /* of one element */
#define XML_MAX_ELEMENTS 500000
#define XML_MAX_TEXT (64u << 10) /* of one element or attribute, bytes */

enum xml_event {
	XML_OPEN,  /* element begins: name, attributes */
	XML_CLOSE, /* element ends: name, and the text directly inside it */
};

struct xml_item {
	enum xml_event event;
	const char *name;          /* local name, borrowed for the call */
	unsigned depth;            /* 1 = root */
	const char *const *attributes; /* name, value, ..., NULL; XML_OPEN only */
	struct span text;          /* trimmed; XML_CLOSE only */
};

/* The value of an attribute (local name, case-sensitive), or NULL. */
const char *xml_attribute(const struct xml_item *item, const char *name);

/*
 * Parse `document`, calling `on_item` for each event. It returns ERR_OK to go
 * on; any other code ends the parse with that code (*e filled by it).
 *
 * `what` names the document in messages ("location reply of mp01").
 * Errors: `code` with the reason (position, limit, malformed) for anything
 * wrong with the document.
 */
typedef enum err_code xml_on_item(void *arg, const struct xml_item *item,
				  struct err *e);
enum err_code xml_parse(struct span document, const char *what,
			enum err_code code, xml_on_item *on_item, void *arg,
			struct err *e);

#endif
