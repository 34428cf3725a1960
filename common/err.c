#include "common/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name, *class_name, *step, *advice;
	int exit;
	enum err_next next;
} table[ERR_COUNT] = {
#define X(n, c, s, x, a) \
	[ERR_##n] = { #n, #c, s, a, CLASS_##c, NEXT_##x },
	ERR_LIST(X)
#undef X
};

enum err_code (err_set)(struct err *e, enum err_code code, const char *fmt, ...)
{
	if (e == NULL)
		return code;
	/* Formatted aside: the old text may be one of the arguments. */
	char text[sizeof(e->text)];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	*e = (struct err){ .code = code };
	memcpy(e->text, text, sizeof(text));
	return code;
}

enum err_code err_prefix(struct err *e, const char *fmt, ...)
{
	if (e == NULL)
		return ERR_INTERNAL; /* never OK: it may be returned */
	char text[sizeof(e->text)];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(text)) {
		size_t at = (size_t)n;
		snprintf(text + at, sizeof(text) - at, ": %s", e->text);
	}
	memcpy(e->text, text, sizeof(text));
	return e->code;
}

static size_t row(enum err_code code)
{
	return (size_t)code < ERR_COUNT ? (size_t)code : (size_t)ERR_INTERNAL;
}

const char *err_name(enum err_code code)
{
	return table[row(code)].name;
}

const char *err_class_name(enum err_code code)
{
	return table[row(code)].class_name;
}

int err_exit(enum err_code code)
{
	return table[row(code)].exit;
}

const char *err_step(enum err_code code)
{
	return table[row(code)].step;
}

enum err_next err_next(enum err_code code)
{
	return table[row(code)].next;
}

const char *err_advice(enum err_code code)
{
	return table[row(code)].advice;
}
