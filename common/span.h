#ifndef COMMON_SPAN_H
#define COMMON_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

/* A run of bytes that somebody else owns. Not NUL-terminated. */
struct span {
	const char *at;
	size_t len;
};

/* For printf("%.*s", SPAN_ARG(s)): lengths here never pass 2 GiB. */
#define SPAN_ARG(s) (int)(s).len, (s).at
#define SPAN_LIT(lit) ((struct span){ "" lit, sizeof(lit) - 1 })

static inline struct span span_of(const char *text)
{
	return (struct span){ text, text ? strlen(text) : 0 };
}

static inline bool span_is(struct span s, const char *text)
{
	return s.len == strlen(text) && memcmp(s.at, text, s.len) == 0;
}

/* ASCII only, whatever the locale: the agent never calls setlocale(). */
static inline bool span_is_nocase(struct span s, const char *text)
{
	return s.len == strlen(text) && strncasecmp(s.at, text, s.len) == 0;
}

static inline bool span_begins_nocase(struct span s, const char *with)
{
	size_t len = strlen(with);
	return s.len >= len && strncasecmp(s.at, with, len) == 0;
}

/* What is left without the first n bytes, n <= s.len. */
static inline struct span span_after(struct span s, size_t n)
{
	return (struct span){ s.at + n, s.len - n };
}

/* Split off what stands before the first `c`; false when `rest` is empty. */
static inline bool span_split(struct span *rest, char c, struct span *head)
{
	if (rest->len == 0)
		return false;
	const char *end = memchr(rest->at, c, rest->len);
	head->at = rest->at;
	head->len = end ? (size_t)(end - rest->at) : rest->len;
	size_t used = head->len + (end ? 1 : 0);
	rest->at += used;
	rest->len -= used;
	return true;
}

static inline struct span span_trim(struct span s)
{
	while (s.len && strchr(" \t\r\n", s.at[0]) && s.at[0])
		s.at++, s.len--;
	while (s.len && strchr(" \t\r\n", s.at[s.len - 1]) && s.at[s.len - 1])
		s.len--;
	return s;
}

#endif
