#include "tests/unit/test.h"

#include "common/listing.h"
#include "common/own.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define H0 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HX "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
#define HY "a1fce4363854ff888cff4b8e7875d600c2682390412a8cf79b37d0b11148b0fa"
#define HZ "594e519ae499312b29433b7dd8a97ff068defcba9755b6d5d00e84c524d67b06"
#define H2 "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"
#define H1 "2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806"

/* What the pipeline of agent-policy(5) printed for the folder of make_tree():
 * find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0r sha256sum -- */
#define TREE_TEXT                                                           \
	HY "  A B \u00e9\n" HX "  a-b\n" HZ "  a.c\n" H2 "  a/b/two\n" H1   \
	   "  a/one.txt\n" H0 "  zero\n"
#define TREE_HASH "7f88b26c33ab9e3419c76fea96e905f14974a9789d92ed5cd43d342e7466ece7"

static void put(int dir, const char *path, const char *text)
{
	autofd fd = openat(dir, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static int make_tree(void)
{
	int dir = open(test_folder(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir >= 0);
	mkdirat(dir, "a", 0700);
	mkdirat(dir, "a/b", 0700);
	mkdirat(dir, "empty", 0700);
	put(dir, "a/one.txt", "one\n");
	put(dir, "a/b/two", "two");
	put(dir, "zero", "");
	put(dir, "a-b", "x");
	put(dir, "A B \u00e9", "y");
	put(dir, "a.c", "z");
	return dir;
}

TEST(listing_walk__tree__as_sha256sum_prints_it)
{
	struct err e = { 0 };
	autofd dir = make_tree();
	autolisting l = { 0 };
	uint64_t bytes = 0;
	char hex[DIGEST_HEX_SIZE];
	assert_ok(listing_walk(dir, &l, &bytes, NULL, NULL, &e));
	assert_int_equal(l.count, 6);
	assert_int_equal(bytes, 10);
	autofree char *text = listing_text(&l, &e);
	assert_string_equal(text, TREE_TEXT);
	assert_ok(listing_hash(&l, hex, &e));
	assert_string_equal(hex, TREE_HASH);
}

TEST(listing_hash__empty__hash_of_nothing)
{
	struct err e = { 0 };
	autolisting l = { 0 };
	char hex[DIGEST_HEX_SIZE];
	assert_ok(listing_hash(&l, hex, &e));
	assert_string_equal(hex, H0);
	autofree char *text = listing_text(&l, &e);
	assert_string_equal(text, "");
	assert_null(listing_find(&l, "a"));
}

TEST(listing_text__over_a_mebibyte__whole)
{
	struct err e = { 0 };
	autolisting l = { 0 };
	char path[32];
	for (int i = 0; i < 20000; i++) {
		snprintf(path, sizeof(path), "f%d", i);
		assert_ok(listing_add(&l, path, H0, &e));
	}
	autofree char *text = listing_text(&l, &e);
	assert_non_null(text);
	assert_true(strlen(text) > (1u << 20));
	autolisting back = { 0 };
	assert_ok(listing_parse(span_of(text), &back, &e));
	assert_int_equal(back.count, 20000);
}

TEST(listing_sort__bytes_above_127__after_ascii)
{
	struct err e = { 0 };
	autolisting l = { 0 };
	listing_add(&l, "\u00e9", H0, &e);
	listing_add(&l, "b/a", H0, &e);
	listing_add(&l, "b", H0, &e);
	listing_add(&l, "b-a", HX, &e);
	listing_add(&l, "B", H0, &e);
	listing_sort(&l);
	assert_string_equal(l.lines[0].path, "B");
	assert_string_equal(l.lines[1].path, "b");
	assert_string_equal(l.lines[2].path, "b-a");
	assert_string_equal(l.lines[3].path, "b/a");
	assert_string_equal(l.lines[4].path, "\u00e9");
	assert_string_equal(listing_find(&l, "b-a")->hex, HX);
	assert_null(listing_find(&l, "c"));
}

TEST(listing_parse__any_order_modes_and_dot_slash__same_hash)
{
	struct err e = { 0 };
	autolisting l = { 0 };
	char hex[DIGEST_HEX_SIZE];
	static const char text[] = H0 " *zero\n" H1 "  ./a/one.txt\n" HX
				   "  a-b\n" H2 " *./a/b/two\n" HZ "  a.c\n" HY
				   "  A B \u00e9"; /* no line feed at the end */
	assert_ok(listing_parse(span_of(text), &l, &e));
	assert_ok(listing_hash(&l, hex, &e));
	assert_string_equal(hex, TREE_HASH);
	assert_string_equal(listing_find(&l, "a/b/two")->hex, H2);
}

TEST(listing_parse__what_was_there__replaced)
{
	struct err e = { 0 };
	autolisting l = { 0 };
	assert_ok(listing_add(&l, "old", H0, &e));
	assert_ok(listing_parse(SPAN_LIT(HX "  new\n"), &l, &e));
	assert_int_equal(l.count, 1);
	assert_string_equal(l.lines[0].path, "new");
}

TEST(listing_parse__upper_case_hex__lower)
{
	struct err e = { 0 };
	autolisting l = { 0 };
	assert_ok(listing_parse(
		SPAN_LIT("E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B"
			 "7852B855  f\n"), &l, &e));
	assert_string_equal(l.lines[0].hex, H0);
}

TEST(listing_parse__anything_else__policy_with_line_number)
{
	static const struct {
		const char *text, *reason;
	} bad[] = {
		{ "\n", "line 1: " },
		{ "x\n", "line 1: " },
		{ H0, "line 1: " },
		{ H0 " ", "line 1: " },
		{ H0 "  ", "line 1: name \"\" is empty" },
		{ H0 "  ./", "line 1: name \"\" is empty" },
		{ H0 " f\n", "line 1: hash and path" },
		{ H0 "f  f\n", "line 1: hash and path" },
		{ H0 "\t f\n", "line 1: hash and path" },
		{ H0 "  ok\n\n", "line 2: " },
		{ H0 "  ok\n" H0 "  ../x\n", "line 2: name \"../x\"" },
		{ H0 "  ././x\n", "line 1: name \"./x\"" },
		{ H0 "  /x\n", "absolute" },
		{ H0 "  x\r\n", "control" },
		{ H0 "  a\\nb\n", "backslash" },
		{ "\\" H0 "  a\\nb\n", "line 1: escaped" },
		{ " " H0 "  x\n", "64 hex digits" },
		{ "# comment\n", "64 hex digits" },
		{ "SHA256 (x) = " H0 "\n", "64 hex digits" },
		{ H0 "  a\n" H0 "  b\n" HX " *./a\n", "line 3: path \"a\"" },
		{ H0 "  b\n" H0 "  a\n" HX "  a\n" HX "  b\n", "is also in line" },
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct err e = { 0 };
		autolisting l = { 0 };
		assert_err(listing_parse(span_of(bad[i].text), &l, &e), ERR_POLICY);
		if (strstr(e.text, bad[i].reason) == NULL)
			print_error("%zu: %s\n", i, e.text);
		assert_non_null(strstr(e.text, bad[i].reason));
		assert_int_equal(l.count, 0);
	}
}

TEST(listing_parse__nul_in_path__policy)
{
	struct err e = { 0 };
	autolisting l = { 0 };
	assert_err(listing_parse(SPAN_LIT(H0 "  a\0b\n"), &l, &e), ERR_POLICY);
	assert_non_null(strstr(e.text, "NUL"));
}

TEST(listing_parse__nothing__empty)
{
	struct err e = { 0 };
	autolisting l = { 0 };
	assert_ok(listing_parse(span_of(""), &l, &e));
	assert_int_equal(l.count, 0);
}

TEST(listing_walk__link_pipe_or_odd_name__error_names_it)
{
	static const struct {
		const char *name, *reason;
		enum err_code code;
	} odd[] = {
		{ "a/link", "a/link is neither", ERR_FOLDER },
		{ "a/pipe", "a/pipe is neither", ERR_FOLDER },
		{ "a/bad\\name", "a/bad\\name", ERR_NAME },
		{ "a/bad\nname", "control", ERR_NAME },
		{ "a/\xff", "UTF-8", ERR_NAME },
	};
	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
		struct err e = { 0 };
		autofd dir = make_tree();
		autolisting l = { 0 };
		if (i == 0)
			assert_int_equal(symlinkat("one.txt", dir, odd[i].name), 0);
		else if (i == 1)
			assert_int_equal(mkfifoat(dir, odd[i].name, 0600), 0);
		else
			put(dir, odd[i].name, "");
		assert_err(listing_walk(dir, &l, NULL, NULL, NULL, &e), odd[i].code);
		assert_non_null(strstr(e.text, odd[i].reason));
	}
}

TEST(listing_walk__deeper_than_allowed__name)
{
	struct err e = { 0 };
	autofd dir = open(test_folder(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char path[128] = "d";
	for (int depth = 1; depth <= 33; depth++) {
		assert_int_equal(mkdirat(dir, path, 0700), 0);
		strncat(path, "/d", sizeof(path) - strlen(path) - 1);
	}
	autolisting l = { 0 };
	assert_err(listing_walk(dir, &l, NULL, NULL, NULL, &e), ERR_NAME);
	assert_non_null(strstr(e.text, "32 components"));
}

static enum err_code stop_third(void *arg)
{
	int *asked = arg;
	return ++*asked == 3 ? ERR_SIGTERM : ERR_OK;
}

TEST(listing_walk__stop__ends_with_its_code)
{
	struct err e = { 0 };
	autofd dir = make_tree();
	autolisting l = { 0 };
	int asked = 0;
	assert_err(listing_walk(dir, &l, NULL, stop_third, &asked, &e),
		   ERR_SIGTERM);
	assert_int_equal(asked, 3);
	assert_int_equal(e.code, ERR_SIGTERM);
}

TEST(listing_walk__twice__same)
{
	struct err e = { 0 };
	autofd dir = make_tree();
	for (int i = 0; i < 2; i++) { /* dir_fd is not used up by a walk */
		autolisting l = { 0 };
		char hex[DIGEST_HEX_SIZE];
		assert_ok(listing_walk(dir, &l, NULL, NULL, NULL, &e));
		assert_ok(listing_hash(&l, hex, &e));
		assert_string_equal(hex, TREE_HASH);
	}
}

TEST(listing_free__null_and_zero__nothing)
{
	struct listing l = { 0 };
	listing_free(NULL);
	listing_free(&l);
}
