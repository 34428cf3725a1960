#ifndef COMMON_UTF8_H
#define COMMON_UTF8_H

#include "common/span.h"

#include <stdint.h>

/*
 * The character that `text` begins with.
 *
 * point     its code point, left alone where there is none
 * Returns   its length in bytes, 1..4; 0 where the text is empty or begins with
 *           no well-formed sequence (no surrogates, no overlong forms)
 * Source    RFC 3629 s3, s4
 */
size_t utf8_first(struct span text, uint32_t *point);

/* Is all of it well-formed? An empty text is. */
bool utf8_is_valid(struct span text);

#endif
