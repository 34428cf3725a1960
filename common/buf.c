#include "common/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BUF_MAX_DEFAULT (1u << 20)

void buf_free(struct buf *b)
{
	if (b == NULL)
		return;
	free(b->at);
	*b = (struct buf){ .max = b->max };
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	b->failed = false;
	if (b->at)
		b->at[0] = '\0';
}

/* Make room for `more` bytes and the NUL. */
static bool grow(struct buf *b, size_t more)
{
	size_t max = b->max ? b->max : BUF_MAX_DEFAULT;
	if (b->failed || more > max || b->len > max - more) {
		b->failed = true;
		return false;
	}
	size_t need = b->len + more + 1;
	if (need <= b->room)
		return true;
	size_t room = b->room ? b->room : 64;
	while (room < need)
		room *= 2;
	if (room > max + 1)
		room = max + 1;
	char *at = realloc(b->at, room);
	if (at == NULL) {
		b->failed = true;
		return false;
	}
	b->at = at;
	b->room = room;
	return true;
}

void buf_add(struct buf *b, const void *bytes, size_t len)
{
	if (!grow(b, len))
		return;
	if (len)
		memcpy(b->at + b->len, bytes, len);
	b->len += len;
	b->at[b->len] = '\0';
}

void buf_text(struct buf *b, const char *text)
{
	buf_add(b, text, strlen(text));
}

void buf_char(struct buf *b, char c)
{
	buf_add(b, &c, 1);
}

void buf_span(struct buf *b, struct span s)
{
	buf_add(b, s.at, s.len);
}

void buf_print(struct buf *b, const char *fmt, ...)
{
	va_list ap, again;
	va_start(ap, fmt);
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n >= 0 && grow(b, (size_t)n)) {
		vsnprintf(b->at + b->len, (size_t)n + 1, fmt, again);
		b->len += (size_t)n;
	} else {
		b->failed = true;
	}
	va_end(again);
}

char *buf_take(struct buf *b)
{
	buf_add(b, "", 0);
	if (b->failed) {
		buf_free(b);
		return NULL;
	}
	char *at = b->at;
	b->at = NULL;
	buf_free(b);
	return at;
}
