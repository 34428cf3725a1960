#include "tests/unit/test.h"

#include "policy/bundle.h"

#include "common/buf.h"

#include <stdio.h>
#include <string.h>

#define TITLE "; cloud-dp-agent policy bundle\n"

static void own_bundle(struct bundle *b)
{
	bundle_free(b);
}
#define autobundle __attribute__((cleanup(own_bundle))) struct bundle

static void assert_file(const struct bundle *b, size_t n, const char *name,
			const char *text)
{
	assert_string_equal(b->files[n].name, name);
	if (!span_is(b->files[n].text, text))
		fail_msg("%s: \"%.*s\"", name, SPAN_ARG(b->files[n].text));
}

TEST(bundle_parse__files_in_any_order__sorted_by_bytes)
{
	autobundle b = { 0 };
	struct err e = { 0 };
	const char *text = TITLE "; file b.ini 2\nx\n; file a.sha256 0\n"
			   "; file B one.ini 31\n; cloud-dp-agent policy bundle\n"
			   "; file a.ini 3\nabc";
	assert_true(bundle_is(span_of(text)));
	assert_ok(bundle_parse(span_of(text), &b, &e));
	assert_int_equal(b.count, 4);
	assert_file(&b, 0, "B one.ini", TITLE);
	assert_file(&b, 1, "a.ini", "abc");
	assert_file(&b, 2, "a.sha256", "");
	assert_file(&b, 3, "b.ini", "x\n");
	assert_ptr_equal(bundle_find(&b, "a.sha256"), &b.files[2]);
	assert_ptr_equal(bundle_find(&b, "b.ini"), &b.files[3]);
	assert_null(bundle_find(&b, "b.in"));
	assert_null(bundle_find(&b, "c"));
	assert_null(bundle_find(&b, ""));
}

TEST(bundle_parse__no_file__an_empty_bundle)
{
	autobundle b = { 0 };
	struct err e = { 0 };
	assert_ok(bundle_parse(span_of(TITLE), &b, &e));
	assert_int_equal(b.count, 0);
	assert_null(bundle_find(&b, "a.ini"));
}

TEST(bundle_is__first_line__decides)
{
	assert_true(bundle_is(span_of(TITLE)));
	assert_true(bundle_is(span_of("; cloud-dp-agent policy bundle")));
	assert_true(bundle_is(span_of("; cloud-dp-agent policy bundle\r\n")));
	assert_false(bundle_is(span_of("; cloud-dp-agent policy bundles\n")));
	assert_false(bundle_is(span_of("; cloud-dp-agent policy bundle \n")));
	assert_false(bundle_is(span_of(" " TITLE)));
	assert_false(bundle_is(span_of("\n" TITLE)));
	assert_false(bundle_is(span_of("[deployment]\n")));
	assert_false(bundle_is(span_of("")));
}

TEST(bundle_parse__anything_wrong__refused_with_its_place)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{ "", "byte 0: a line without its end" },
		{ "; cloud-dp-agent policy bundle", "byte 0: a line without its end" },
		{ "; cloud-dp-agent policy bundle\r\n", "byte 0: the first line must" },
		{ "[deployment]\n", "byte 0: the first line must be" },
		{ TITLE "x", "byte 31: a line without its end" },
		{ TITLE "x\n", "byte 31: no line \"; file NAME SIZE\"" },
		{ TITLE "\n", "byte 31: no line \"; file NAME SIZE\"" },
		{ TITLE "; File a 0\n", "byte 31: no line" },
		{ TITLE "; file a.ini 1", "byte 31: a line without its end" },
		{ TITLE "; file a.ini\n", "byte 31: no SIZE" },
		{ TITLE "; file  5\n", "byte 38: NAME must have" },
		{ TITLE "; file a.ini \n", "byte 44: SIZE is not a number" },
		{ TITLE "; file a.ini 1\r\nx", "byte 44: SIZE is not a number" },
		{ TITLE "; file a.ini 0x1\nx", "byte 44: SIZE is not a number" },
		{ TITLE "; file a.ini -1\nx", "byte 44: SIZE is not a number" },
		{ TITLE "; file a.ini +1\nx", "byte 44: SIZE is not a number" },
		{ TITLE "; file a.ini 18446744073709551616\n", "SIZE is not a number" },
		{ TITLE "; file a.ini 99999999999999999999999\n", "SIZE is not a" },
		{ TITLE "; file a.ini 9223372036854775807\nx", "byte 31: a.ini has "
			"9223372036854775807 bytes, but only 1 follow" },
		{ TITLE "; file a.ini 2\nx", "byte 31: a.ini has 2 bytes, but only 1" },
		{ TITLE "; file a.ini 1\nx\n", "byte 47: no line \"; file NAME" },
		{ TITLE "; file a.ini 1\nxy\n", "byte 47: no line \"; file NAME" },
		{ TITLE "; file a/b.ini 0\n", "byte 38: must be the name of a file" },
		{ TITLE "; file ../b.ini 0\n", "byte 38: must be the name of a file" },
		{ TITLE "; file .. 0\n", "byte 38: must be a file name" },
		{ TITLE "; file a\\b 0\n", "byte 38: must be a file name" },
		{ TITLE "; file a\tb 0\n", "byte 38: must be a file name" },
		{ TITLE "; file a\xff 0\n", "byte 38: must be a file name" },
		{ TITLE "; file a 0\n; file b 0\n; file a 0\n", "byte 64: there is a "
			"file a already" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bundle b = { 0 };
		struct err e = { 0 };
		assert_err(bundle_parse(span_of(cases[i].text), &b, &e), ERR_POLICY);
		if (!strstr(e.text, cases[i].why))
			fail_msg("case %zu: %s", i, e.text);
		assert_null(b.files);
	}
}

TEST(bundle_parse__every_place_where_it_may_be_cut__refused)
{
	const char *text = TITLE "; file a.ini 3\nabc; file b.ini 4\nabcd";
	for (size_t len = 0; len < strlen(text); len++) {
		autobundle b = { 0 };
		struct err e = { 0 };
		enum err_code rc = bundle_parse((struct span){ text, len }, &b, &e);
		/* whole files: nothing shows that more were meant to follow */
		bool is_whole = len == strlen(TITLE) || len == strlen(TITLE) + 18;
		assert_err(rc, is_whole ? ERR_OK : ERR_POLICY);
	}
}

TEST(bundle_parse__name_with_nul_or_too_long__refused)
{
	static const char nul[] = TITLE "; file a\0b 0\n";
	struct bundle b = { 0 };
	struct err e = { 0 };
	assert_err(bundle_parse((struct span){ nul, sizeof(nul) - 1 }, &b, &e),
		   ERR_POLICY);
	assert_non_null(strstr(e.text, "byte 38: NAME must have"));
	char text[400];
	snprintf(text, sizeof(text), TITLE "; file %0255d 0\n", 0);
	assert_ok(bundle_parse(span_of(text), &b, &e));
	bundle_free(&b);
	snprintf(text, sizeof(text), TITLE "; file %0256d 0\n", 0);
	assert_err(bundle_parse(span_of(text), &b, &e), ERR_POLICY);
	assert_non_null(strstr(e.text, "byte 38: NAME must have"));
}

TEST(bundle_parse__more_than_may_be__refused)
{
	autobuf text = { .max = BUNDLE_MAX };
	struct bundle b = { 0 };
	struct err e = { 0 };
	buf_text(&text, TITLE);
	for (unsigned i = 0; i < BUNDLE_FILES_MAX; i++)
		buf_print(&text, "; file %u 1\nx", BUNDLE_FILES_MAX - i);
	assert_ok(bundle_parse(buf_as_span(&text), &b, &e));
	assert_int_equal(b.count, BUNDLE_FILES_MAX);
	assert_non_null(bundle_find(&b, "77777"));
	bundle_free(&b);
	buf_text(&text, "; file more 1\nx");
	assert_err(bundle_parse(buf_as_span(&text), &b, &e), ERR_POLICY);
	assert_non_null(strstr(e.text, "more files than a bundle may have"));
	assert_err(bundle_parse((struct span){ text.at, BUNDLE_MAX + 1u }, &b, &e),
		   ERR_POLICY);
	assert_non_null(strstr(e.text, "at most 67108864 are read"));
}
