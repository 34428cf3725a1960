#include "buf.h"

#include <iconv.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *must_alloc(size_t n)
{
	void *p = calloc(1, n ? n : 1);

	if (!p)
		abort();
	return p;
}

char *must_dup(const char *s, size_t n)
{
	char *copy = must_alloc(n + 1);

	if (n)
		memcpy(copy, s, n);
	return copy;
}

void buf_add(struct buf *b, const void *data, size_t n)
{
	if (b->n + n + 1 > b->room) {
		b->room = (b->n + n + 1) * 2;
		b->p = realloc(b->p, b->room);
		if (!b->p)
			abort();
	}
	if (n)
		memcpy(b->p + b->n, data, n);
	b->n += n;
	b->p[b->n] = 0;
}

void buf_puts(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *form, ...)
{
	va_list list;
	char *text = NULL;

	va_start(list, form);
	int n = vasprintf(&text, form, list);
	va_end(list);
	if (n < 0)
		abort();
	buf_add(b, text, (size_t)n);
	free(text);
}

void buf_free(struct buf *b)
{
	free(b->p);
	*b = (struct buf){0};
}

const char *buf_text(const struct buf *b)
{
	return b->p ? b->p : "";
}

bool read_number(const char **at, uint64_t *out)
{
	size_t n = strspn(*at, "0123456789");

	if (n == 0 || n > 18)
		return false;
	for (*out = 0; n > 0; n--)
		*out = *out * 10 + (uint64_t)(*(*at)++ - '0');
	return true;
}

static bool convert(struct buf *out, const char *to, const char *from,
	const void *data, size_t n)
{
	iconv_t cd = iconv_open(to, from);
	size_t room = n * 4 + 4, left = room;
	char *area = must_alloc(room), *end = area;
	/* iconv's prototype takes char **, it does not write there */
	char *in = (char *)(size_t)data;

	if (cd == (iconv_t)-1)
		abort();
	bool is_valid = n == 0 || iconv(cd, &in, &n, &end, &left) != (size_t)-1;
	iconv_close(cd);
	buf_add(out, area, room - left);
	free(area);
	return is_valid;
}

bool utf8_to_utf16(struct buf *out, const void *data, size_t n)
{
	return convert(out, "UTF-16LE", "UTF-8", data, n);
}

bool utf16_to_utf8(struct buf *out, const void *data, size_t n)
{
	return convert(out, "UTF-8", "UTF-16LE", data, n);
}

void buf_json(struct buf *b, const char *s)
{
	struct buf scratch = {0};

	if (!s) {
		buf_puts(b, "null");
		return;
	}
	/* bytes that are no UTF-8 are shown as Latin-1, so the line stays JSON */
	bool is_utf8 = utf8_to_utf16(&scratch, s, strlen(s));
	buf_free(&scratch);
	buf_puts(b, "\"");
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		if (c == '"' || c == '\\')
			buf_printf(b, "\\%c", c);
		else if (c < 0x20 || c == 0x7f || (c > 0x7f && !is_utf8))
			buf_printf(b, "\\u%04x", c);
		else
			buf_add(b, &c, 1);
	}
	buf_puts(b, "\"");
}

void buf_xml(struct buf *b, const char *s)
{
	for (; *s; s++) {
		switch (*s) {
		case '<': buf_puts(b, "&lt;"); break;
		case '>': buf_puts(b, "&gt;"); break;
		case '&': buf_puts(b, "&amp;"); break;
		case '"': buf_puts(b, "&quot;"); break;
		case '\'': buf_puts(b, "&apos;"); break;
		default: buf_add(b, s, 1);
		}
	}
}

static FILE *open_below(const char *dir, const char *name, const char *mode)
{
	char path[4096];

	if (name[0] == '/')
		return fopen(name, mode);
	if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path)
		return NULL;
	return fopen(path, mode);
}

bool read_file(const char *dir, const char *name, struct buf *out)
{
	FILE *f = open_below(dir, name, "re");
	char block[65536];
	size_t n;

	if (!f)
		return false;
	while ((n = fread(block, 1, sizeof block, f)) > 0)
		buf_add(out, block, n);
	/* a folder opens, and then fails to read */
	bool is_read = !ferror(f);
	fclose(f);
	return is_read;
}

void write_file(const char *dir, const char *name, const void *data, size_t n)
{
	FILE *f = open_below(dir, name, "we");

	if (!f)
		return;
	fwrite(data, 1, n, f);
	fclose(f);
}
