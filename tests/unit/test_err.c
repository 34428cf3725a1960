#include "tests/unit/test.h"

#include <errno.h>
#include <string.h>

TEST(err_set__text_and_code__kept)
{
	struct err e = { .retry_after_s = 9 };
	assert_err(err_set(&e, ERR_HASH, "compare %s: %d", "x", 7), ERR_HASH);
	assert_int_equal(e.code, ERR_HASH);
	assert_string_equal(e.text, "compare x: 7");
	assert_int_equal(e.retry_after_s, 0);
}

TEST(err_set__percent_m__errno_in_words)
{
	struct err e = { 0 };
	errno = ENOENT;
	err_set(&e, ERR_FOLDER, "open x: %m");
	assert_string_equal(e.text, "open x: No such file or directory");
}

TEST(err_set__null__code_only)
{
	assert_err(err_set(NULL, ERR_MP, "x"), ERR_MP);
	assert_err(err_prefix(NULL, "x"), ERR_INTERNAL);
}

TEST(err_set__own_text_as_argument__not_overwritten)
{
	struct err e = { 0 };
	err_set(&e, ERR_MP, "inner");
	err_set(&e, ERR_TLS_NAME, "outer: %s", e.text);
	assert_string_equal(e.text, "outer: inner");
}

TEST(err_set__too_long__cut_and_terminated)
{
	struct err e = { 0 };
	char text[2000];
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	err_set(&e, ERR_MP, "%s", text);
	assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
	err_prefix(&e, "%s", text);
	assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
}

TEST(err_prefix__context__in_front_and_code_stays)
{
	struct err e = { 0 };
	err_set(&e, ERR_DNS_LOOP, "a leads to a");
	e.retry_after_s = 5;
	assert_err(err_prefix(&e, "resolve %s", "h"), ERR_DNS_LOOP);
	assert_string_equal(e.text, "resolve h: a leads to a");
	assert_int_equal(e.retry_after_s, 5);
}

TEST(err_table__every_code__complete)
{
	for (int i = 1; i < ERR_COUNT; i++) {
		enum err_code code = (enum err_code)i;
		assert_true(strlen(err_name(code)) > 0);
		assert_true(strlen(err_class_name(code)) > 0);
		assert_true(strlen(err_step(code)) > 0);
		assert_true(strlen(err_advice(code)) > 0);
		assert_int_not_equal(err_exit(code), 0);
		assert_int_not_equal(err_next(code), NEXT_NONE);
		for (int j = 0; j < i; j++)
			assert_string_not_equal(err_name(code),
						err_name((enum err_code)j));
	}
}

TEST(err_table__ok__nothing_failed)
{
	assert_string_equal(err_name(ERR_OK), "OK");
	assert_int_equal(err_exit(ERR_OK), 0);
	assert_int_equal(err_next(ERR_OK), NEXT_NONE);
}

TEST(err_table__exit_statuses__those_of_the_manual)
{
	assert_int_equal(err_exit(ERR_INTERNAL), 1);
	assert_int_equal(err_exit(ERR_USAGE), 2);
	assert_int_equal(err_exit(ERR_POLICY), 3);
	assert_int_equal(err_exit(ERR_NO_HASH), 4);
	assert_int_equal(err_exit(ERR_MP_AUTH), 10);
	assert_int_equal(err_exit(ERR_NO_LOCATION), 11);
	assert_int_equal(err_exit(ERR_CLOUD_REFUSED), 12);
	assert_int_equal(err_exit(ERR_DNS_LOOP), 20);
	assert_int_equal(err_exit(ERR_TLS_CHAIN), 21);
	assert_int_equal(err_exit(ERR_STALLED), 22);
	assert_int_equal(err_exit(ERR_HASH), 23);
	assert_int_equal(err_exit(ERR_SPACE_DISK), 30);
	assert_int_equal(err_exit(ERR_FOLDER), 31);
	assert_int_equal(err_exit(ERR_LOCKED), 40);
	assert_int_equal(err_exit(ERR_SIGINT), 130);
	assert_int_equal(err_exit(ERR_SIGTERM), 143);
	assert_string_equal(err_class_name(ERR_DNS_LOOP), "DNS");
}

TEST(err_table__code_out_of_range__internal)
{
	assert_string_equal(err_name((enum err_code)9999), "INTERNAL");
	assert_int_equal(err_exit((enum err_code)-1), 1);
}
