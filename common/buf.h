#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include "common/err.h"
#include "common/span.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * Growing bytes with a hard maximum. `at` is always followed by a NUL that
 * `len` does not count, so that text can be used as a string. Errors stick:
 * after the first one nothing is added any more and buf_failed() is true.
 */
struct buf {
	char *at;    /* owned; NULL while empty */
	size_t len;  /* bytes */
	size_t room; /* allocated, bytes */
	size_t max;  /* never more than this, bytes; 0 = 1 MiB */
	bool failed; /* max was reached, or no memory */
};

void buf_free(struct buf *b); /* frees, zeroes all but max; NULL is fine */
void buf_clear(struct buf *b); /* keeps the memory and max, forgets failed */
void buf_add(struct buf *b, const void *bytes, size_t len);
void buf_text(struct buf *b, const char *text);
void buf_char(struct buf *b, char c);
void buf_span(struct buf *b, struct span s);
void buf_print(struct buf *b, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Returns owned, NUL-terminated text ("" when empty), leaves b empty; NULL
 * when the buffer failed. */
char *buf_take(struct buf *b);

static inline struct span buf_as_span(const struct buf *b)
{
	return (struct span){ b->at ? b->at : "", b->len };
}

static inline void own_buf(struct buf *b)
{
	buf_free(b);
}
#define autobuf __attribute__((cleanup(own_buf))) struct buf

#endif
