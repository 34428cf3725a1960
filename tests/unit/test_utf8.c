#include "tests/unit/test.h"

#include "common/utf8.h"

TEST(utf8_first__each_length__bytes_and_code_point)
{
	static const struct {
		const char *text;
		size_t len;
		uint32_t point;
	} table[] = {
		{ "a\u00e9", 1, 'a' },	   { "\u00e9a", 2, 0xe9 },
		{ "\u20ac", 3, 0x20ac },   { "\U0001f600\u20ac", 4, 0x1f600 },
		{ "\x7f", 1, 0x7f },	   { "\xf4\x8f\xbf\xbf", 4, 0x10ffff },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		uint32_t point = 0;
		assert_int_equal(utf8_first(span_of(table[i].text), &point),
				 table[i].len);
		assert_int_equal(point, table[i].point);
	}
}

TEST(utf8_first__empty_cut_or_ill_formed__zero_and_nothing_set)
{
	static const char *const bad[] = { "", "\xe2\x82", "\x80", "\xff" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		uint32_t point = 7;
		assert_int_equal(utf8_first(span_of(bad[i]), &point), 0);
		assert_int_equal(point, 7);
	}
	uint32_t point = 7;
	/* what stands behind the span is not read */
	assert_int_equal(utf8_first((struct span){ "\u00e9", 1 }, &point), 0);
	assert_int_equal(utf8_first((struct span){ "\0", 1 }, &point), 1);
	assert_int_equal(point, 0);
}

TEST(utf8_is_valid__well_and_ill_formed__told_apart)
{
	static const char *const good[] = {
		"", "abc", "\u00e9", "\u20ac", "\U0001f600", "\xf4\x8f\xbf\xbf",
		"\xed\x9f\xbf", "\xee\x80\x80", "\xc2\x80", "\xe0\xa0\x80",
		"\xf0\x90\x80\x80",
	};
	static const char *const bad[] = {
		"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80",
		"\xe0\x9f\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf",
		"\xed\xa0\x80", "\xed\xbf\xbf", "\xf4\x90\x80\x80",
		"\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xfe", "\xff",
		"\xc3", "\xe2\x82", "\xf0\x9f\x98", "\xc3(", "\xe2(\xac", "a\xc3",
	};
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		assert_true(utf8_is_valid(span_of(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_false(utf8_is_valid(span_of(bad[i])));
}
