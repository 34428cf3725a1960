/* Growing byte buffers and small text helpers of the stand-ins. */
#ifndef LAB_BUF_H
#define LAB_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero is an empty buffer. `p[n]` is always 0 once something was added. */
struct buf {
	char *p;
	size_t n;
	size_t room;
};

/* Running out of memory ends a stand-in: there is nobody to recover for. */
void *must_alloc(size_t n);
char *must_dup(const char *s, size_t n);

void buf_add(struct buf *b, const void *data, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *form, ...)
	__attribute__((format(printf, 2, 3)));
void buf_free(struct buf *b);
const char *buf_text(const struct buf *b);

/* `s` as a JSON string with its quotes, null when `s` is NULL. */
void buf_json(struct buf *b, const char *s);
/* `s` with the five XML characters escaped. */
void buf_xml(struct buf *b, const char *s);

/* Up to 18 digits; `*at` moves behind them. false when there are none or more. */
bool read_number(const char **at, uint64_t *out);

/* Between the two encodings of the wire; false when `data` is not valid. */
bool utf8_to_utf16(struct buf *out, const void *data, size_t n);
bool utf16_to_utf8(struct buf *out, const void *data, size_t n);

/* A whole file; a relative name lies below `dir`. false when it cannot be read. */
bool read_file(const char *dir, const char *name, struct buf *out);
void write_file(const char *dir, const char *name, const void *data, size_t n);

#endif
