#ifndef TESTS_UNIT_TEST_H
#define TESTS_UNIT_TEST_H

/* cmocka wants these four before itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/err.h"

/*
 * A test that registers itself: TEST(function__condition__result) { ... }
 * Order is not defined; a test leaves nothing behind but in test_folder().
 */
struct test_case {
	const char *name;
	void (*run)(void **state);
	struct test_case *next;
};
void test_register(struct test_case *t);

#define TEST(id)                                                         \
	static void test_##id(void **state);                             \
	static struct test_case case_##id = { #id, test_##id, NULL };    \
	__attribute__((constructor)) static void register_##id(void)     \
	{                                                                \
		test_register(&case_##id);                               \
	}                                                                \
	static void test_##id(__attribute__((unused)) void **state)

/* A fresh empty folder for the running test, removed when the run ends. */
const char *test_folder(void);

/* This machine cannot run the test: cmocka would count it as passed. */
void test_skip(const char *file, int line);
#undef skip
#define skip() test_skip(__FILE__, __LINE__)

/* Assert an error code, showing the text when it is another. */
#define assert_ok(call)                                                   \
	do {                                                              \
		struct err *ok_e_ = &e;                                   \
		enum err_code ok_c_ = (call);                             \
		if (ok_c_ != ERR_OK)                                      \
			print_error("%s: %s\n", err_name(ok_c_),          \
				    ok_e_->text);                         \
		assert_int_equal(ok_c_, ERR_OK);                          \
	} while (0)
#define assert_err(call, code) assert_string_equal(err_name(call), err_name(code))

#endif
