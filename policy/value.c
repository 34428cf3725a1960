#include "policy/value.h"

#include <inttypes.h>

struct unit {
	const char *name;
	uint64_t factor;
};

/* Largest first, so that printing takes the shortest text. */
static const struct unit sizes[] = {
	{ "T", 1ull << 40 }, { "G", 1ull << 30 }, { "M", 1ull << 20 },
	{ "k", 1ull << 10 }, { "", 1 },
};
static const struct unit times[] = {
	{ "d", 86400000 }, { "h", 3600000 }, { "m", 60000 },
	{ "s", 1000 },     { "ms", 1 },
};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Take the digits off the front; false without any, or on overflow. */
static bool take_digits(struct span *text, uint64_t *out)
{
	uint64_t n = 0;
	size_t used = 0;
	for (; used < text->len; used++) {
		char c = text->at[used];
		if (c < '0' || c > '9')
			break;
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(c - '0'), &n))
			return false;
	}
	text->at += used;
	text->len -= used;
	*out = n;
	return used > 0 && n <= INT64_MAX;
}

static bool scale(uint64_t n, uint64_t factor, uint64_t *out)
{
	uint64_t product;
	if (__builtin_mul_overflow(n, factor, &product) || product > INT64_MAX)
		return false;
	*out = product;
	return true;
}

bool value_number(struct span text, uint64_t *out)
{
	uint64_t n;
	if (!take_digits(&text, &n) || text.len)
		return false;
	*out = n;
	return true;
}

bool value_size(struct span text, uint64_t *bytes)
{
	uint64_t n;
	if (!take_digits(&text, &n))
		return false;
	for (size_t i = 0; i < COUNT(sizes); i++)
		if (span_is_nocase(text, sizes[i].name))
			return scale(n, sizes[i].factor, bytes);
	return false;
}

bool value_time(struct span text, int64_t *ms)
{
	uint64_t n, product;
	if (!take_digits(&text, &n))
		return false;
	if (text.len == 0)
		text = SPAN_LIT("s");
	for (size_t i = 0; i < COUNT(times); i++) {
		if (!span_is(text, times[i].name))
			continue;
		if (!scale(n, times[i].factor, &product))
			return false;
		*ms = (int64_t)product;
		return true;
	}
	return false;
}

static void print(uint64_t n, const struct unit *units, size_t count,
		  struct buf *out)
{
	size_t i = 0;
	while (i + 1 < count && n % units[i].factor)
		i++;
	buf_print(out, "%" PRIu64 "%s", n / units[i].factor, units[i].name);
}

void value_print_size(uint64_t bytes, struct buf *out)
{
	if (bytes == 0)
		buf_text(out, "0");
	else
		print(bytes, sizes, COUNT(sizes), out);
}

void value_print_time(int64_t ms, struct buf *out)
{
	if (ms <= 0)
		buf_text(out, "0");
	else
		print((uint64_t)ms, times, COUNT(times), out);
}
