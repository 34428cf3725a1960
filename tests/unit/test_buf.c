#include "tests/unit/test.h"

#include "common/buf.h"

#include <stdlib.h>
#include <string.h>

TEST(buf_add__pieces__joined_and_terminated)
{
	autobuf b = { 0 };
	buf_add(&b, "a\0b", 3);
	buf_text(&b, "cd");
	buf_char(&b, 'e');
	buf_span(&b, SPAN_LIT("fg"));
	buf_print(&b, "%d-%s", 42, "x");
	assert_false(b.failed);
	assert_int_equal(b.len, 12);
	assert_memory_equal(b.at, "a\0bcdefg42-x", 13);
}

TEST(buf_as_span__empty__never_null)
{
	autobuf b = { 0 };
	struct span s = buf_as_span(&b);
	assert_non_null(s.at);
	assert_int_equal(s.len, 0);
}

TEST(buf_add__many__grows)
{
	autobuf b = { 0 };
	for (int i = 0; i < 100000; i++)
		buf_char(&b, (char)('a' + i % 26));
	assert_false(b.failed);
	assert_int_equal(b.len, 100000);
	assert_int_equal(b.at[99999], 'a' + 99999 % 26);
	assert_int_equal(b.at[100000], '\0');
}

TEST(buf_add__exactly_max__fits)
{
	autobuf b = { .max = 5 };
	buf_text(&b, "12345");
	assert_false(b.failed);
	assert_string_equal(b.at, "12345");
}

TEST(buf_add__past_max__fails_and_sticks)
{
	autobuf b = { .max = 5 };
	buf_text(&b, "1234");
	buf_text(&b, "56");
	assert_true(b.failed);
	buf_char(&b, '5'); /* would fit */
	assert_string_equal(b.at, "1234");
	buf_clear(&b);
	assert_false(b.failed);
	buf_text(&b, "12345");
	assert_string_equal(b.at, "12345");
}

TEST(buf_add__huge_length__fails_without_overflow)
{
	autobuf b = { .max = SIZE_MAX / 2 };
	buf_char(&b, 'x');
	buf_add(&b, "", SIZE_MAX);
	assert_true(b.failed);
}

TEST(buf_add__zero_max__one_mebibyte)
{
	autobuf b = { 0 };
	char block[4096] = { 0 };
	for (int i = 0; i < 256; i++)
		buf_add(&b, block, sizeof(block));
	assert_false(b.failed);
	buf_char(&b, 'x');
	assert_true(b.failed);
}

TEST(buf_print__past_max__fails_and_adds_nothing)
{
	autobuf b = { .max = 4 };
	buf_print(&b, "%s", "12345");
	assert_true(b.failed);
	assert_int_equal(b.len, 0);
}

TEST(buf_take__text__owned_and_buffer_empty)
{
	struct buf b = { .max = 9 };
	buf_text(&b, "hello");
	char *text = buf_take(&b);
	assert_string_equal(text, "hello");
	assert_null(b.at);
	assert_int_equal(b.len, 0);
	assert_int_equal(b.max, 9);
	free(text);
}

TEST(buf_take__empty__empty_string)
{
	struct buf b = { 0 };
	char *text = buf_take(&b);
	assert_string_equal(text, "");
	free(text);
}

TEST(buf_take__failed__null)
{
	struct buf b = { .max = 1 };
	buf_text(&b, "ab");
	assert_null(buf_take(&b));
	assert_null(b.at);
}

TEST(buf_free__null_and_twice__nothing)
{
	struct buf b = { .max = 3 };
	buf_text(&b, "abc");
	buf_free(NULL);
	buf_free(&b);
	buf_free(&b);
	assert_int_equal(b.max, 3);
}
