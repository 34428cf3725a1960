#include "tests/unit/test.h"

#include "agent/net/entry.h"

#include <stdlib.h>
#include <string.h>

static void own_list(struct entry_list *l)
{
	entry_list_free(l);
}
#define autolist __attribute__((cleanup(own_list))) struct entry_list

static const char hex[] =
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

TEST(entry_list_add__all_fields__are_copied)
{
	autolist l = { 0 };
	struct err e = { 0 };
	char path[] = "setup/tool.bin", url[] = "https://a/b";
	assert_ok(entry_list_add(&l, span_of(path), span_of(url), 7, hex, &e));
	path[0] = url[0] = 'X';
	assert_int_equal(l.count, 1);
	assert_string_equal(entry_path(&l, 0), "setup/tool.bin");
	assert_string_equal(entry_url(&l, 0), "https://a/b");
	assert_string_equal(entry_hash(&l, 0), hex);
	assert_int_equal(l.items[0].size, 7);
}

TEST(entry_list_add__no_url__is_empty_text)
{
	autolist l = { 0 };
	struct err e = { 0 };
	assert_ok(entry_list_add(&l, SPAN_LIT("a"), (struct span){ 0 },
				 WIRE_UNKNOWN, NULL, &e));
	assert_string_equal(entry_url(&l, 0), "");
	assert_string_equal(entry_hash(&l, 0), "");
	assert_true(l.items[0].size == WIRE_UNKNOWN);
}

TEST(entry_list_add__longest_path__passes_and_longer_is_limit)
{
	autolist l = { 0 };
	struct err e = { 0 };
	char *path = malloc(WIRE_URL + 1);
	assert_non_null(path);
	memset(path, 'a', WIRE_URL + 1);
	assert_ok(entry_list_add(&l, (struct span){ path, WIRE_URL },
				 (struct span){ 0 }, 0, "", &e));
	assert_err(entry_list_add(&l, (struct span){ path, WIRE_URL + 1 },
				  (struct span){ 0 }, 0, "", &e), ERR_LIMIT);
	assert_err(entry_list_add(&l, SPAN_LIT("a"),
				  (struct span){ path, WIRE_URL + 1 }, 0, "", &e),
		   ERR_LIMIT);
	assert_int_equal(l.count, 1);
	free(path);
}

TEST(entry_list_add__too_many_files__is_limit)
{
	autolist l = { 0 };
	struct err e = { 0 };
	for (unsigned i = 0; i < WIRE_MAX_FILES; i++)
		if (entry_list_add(&l, SPAN_LIT("f"), (struct span){ 0 }, 0, "",
				   &e) != ERR_OK)
			fail();
	assert_err(entry_list_add(&l, SPAN_LIT("f"), (struct span){ 0 }, 0, "", &e),
		   ERR_LIMIT);
	assert_int_equal(l.count, WIRE_MAX_FILES);
}

TEST(entry_list_add__arena_full__is_limit)
{
	autolist l = { 0 };
	struct err e = { 0 };
	enum err_code rc = ERR_OK;
	char path[WIRE_URL];
	memset(path, 'a', sizeof(path));
	for (unsigned i = 0; rc == ERR_OK && i < WIRE_MAX_FILES; i++)
		rc = entry_list_add(&l, (struct span){ path, sizeof(path) },
				    (struct span){ 0 }, 0, "", &e);
	assert_err(rc, ERR_LIMIT);
	assert_true(l.arena.len <= ENTRY_NAMES_MAX + 1);
	assert_string_not_equal(entry_path(&l, l.count - 1), "");
}

TEST(entry_hash__given_none_too_long__as_given_or_none)
{
	autolist l = { 0 };
	struct err e = { 0 };
	char digits[66] = { 0 };
	memset(digits, 'a', 65);
	assert_ok(entry_list_add(&l, SPAN_LIT("a"), SPAN_LIT(""), 1, digits + 1, &e));
	assert_ok(entry_list_add(&l, SPAN_LIT("b"), SPAN_LIT(""), 1, NULL, &e));
	assert_ok(entry_list_add(&l, SPAN_LIT("c"), SPAN_LIT(""), 1, digits, &e));
	assert_string_equal(entry_hash(&l, 0), digits + 1);
	assert_string_equal(entry_hash(&l, 1), "");
	assert_string_equal(entry_hash(&l, 2), "");
	assert_string_equal(entry_url(&l, 2), "");
	assert_string_equal(entry_path(&l, 2), "c");
}

TEST(entry_list_sort__any_order__is_bytewise)
{
	autolist l = { 0 };
	struct err e = { 0 };
	static const char *const paths[] = { "b", "a/c", "a-", "B" };
	for (unsigned i = 0; i < 4; i++)
		assert_ok(entry_list_add(&l, span_of(paths[i]),
					 SPAN_LIT("https://x/"), i, "", &e));
	assert_ok(entry_list_sort(&l, &e));
	assert_string_equal(entry_path(&l, 0), "B");
	assert_string_equal(entry_path(&l, 1), "a-");
	assert_string_equal(entry_path(&l, 2), "a/c");
	assert_string_equal(entry_path(&l, 3), "b");
	assert_int_equal(l.items[3].size, 0);
}

TEST(entry_list_sort__same_path_twice__is_listing)
{
	autolist l = { 0 };
	struct err e = { 0 };
	static const char *const paths[] = { "a", "b", "a" };
	for (unsigned i = 0; i < 3; i++)
		assert_ok(entry_list_add(&l, span_of(paths[i]),
					 (struct span){ 0 }, 0, "", &e));
	assert_err(entry_list_sort(&l, &e), ERR_LISTING);
	assert_non_null(strstr(e.text, "a"));
}

TEST(entry_list_sort__empty__is_fine)
{
	autolist l = { 0 };
	struct err e = { 0 };
	assert_ok(entry_list_sort(&l, &e));
	entry_list_free(NULL);
}
