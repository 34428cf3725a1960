#ifndef COMMON_JSONOUT_H
#define COMMON_JSONOUT_H

#include "common/buf.h"
#include "common/err.h"
#include "common/span.h"

#include <jansson.h>
#include <stdint.h>

/*
 * Values of the agent's JSON (agent(8), JSON OUTPUT) for jansson, made in one
 * place. All return owned values, NULL for no memory: jansson's setters take
 * that, answer -1, and the object lacks the field.
 */

/* Valid UTF-8 without control characters whoever wrote it, secrets masked. */
json_t *jsonout_text(const char *value); /* NULL is "" */
json_t *jsonout_span(struct span value);
json_t *jsonout_text_or_null(const char *value); /* null for "" and NULL */
json_t *jsonout_number(uint64_t value);
json_t *jsonout_moment(int64_t wall_s); /* RFC 3339; null for 0 and less */
json_t *jsonout_hash(const char *hex);  /* "sha256:HEX"; null for "" */
json_t *jsonout_error(const struct err *e); /* null for ERR_OK */

/* Add the value as compact text. Takes it; NULL is an empty object. */
void jsonout_add(struct buf *out, json_t *value);

#endif
