#include "tests/unit/test.h"

#include "policy/ini.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What was read, as "line[section]key=value" lines. */
struct seen {
	struct buf text;
	enum err_code answer;
};

static enum err_code on_item(void *arg, const struct ini_item *item,
			     struct err *e)
{
	struct seen *seen = arg;
	if (item->key)
		buf_print(&seen->text, "%u[%s]%s=%s\n", item->line, item->section,
			  item->key, item->value);
	return seen->answer == ERR_OK ? ERR_OK : err_set(e, seen->answer, "stop");
}

static void expect_bytes(const char *text, size_t len, const char *items,
			 const char *problem)
{
	struct seen seen = { 0 };
	autobuf problems = { 0 };
	struct err e = { 0 };
	assert_ok(ini_parse_text((struct span){ text, len }, "f", on_item, &seen,
				 &problems, &e));
	assert_string_equal(seen.text.at ? seen.text.at : "", items);
	if (problem == NULL && problems.len)
		fail_msg("unexpected: %s", problems.at);
	if (problem && (!problems.at || !strstr(problems.at, problem)))
		fail_msg("no \"%s\" in: %s", problem, problems.at);
	buf_free(&seen.text);
}

static void expect(const char *text, const char *items, const char *problem)
{
	expect_bytes(text, strlen(text), items, problem);
}

TEST(ini_parse__plain_file__all_delivered_with_lines)
{
	expect("; head\n\n[a]\nb = c\n ; indented comment\n[d]\ne=f g\n",
	       "4[a]b=c\n7[d]e=f g\n", NULL);
}

TEST(ini_parse__byte_order_mark_crlf_no_last_line_end__read)
{
	expect("\xef\xbb\xbf[a]\nb=c\n", "2[a]b=c\n", NULL);
	expect("[a]\r\nb = c ; x\r\n\r\n", "2[a]b=c\n", NULL);
	expect("[a]\nb=c", "2[a]b=c\n", NULL);
	expect("", "", NULL);
}

TEST(ini_parse__comments__only_semicolon_after_blank)
{
	expect("[a] ; sections too\nb=c ; x\nd=c;x\ne=c#x\nf=g\t; x\nh=;x\n",
	       "2[a]b=c\n3[a]d=c;x\n4[a]e=c#x\n5[a]f=g\n6[a]h=;x\n", NULL);
	expect("[a]\n# no\nb=c\n", "3[a]b=c\n", "f:2: a comment begins with ';'");
}

TEST(ini_parse__value_with_equals_colon_percent__kept)
{
	expect("[a]\nb=Authorization: Bearer\nc=x=y\nd=%s%n\n",
	       "2[a]b=Authorization: Bearer\n3[a]c=x=y\n4[a]d=%s%n\n", NULL);
}

TEST(ini_parse__empty_value__delivered_empty)
{
	expect("[a]\nb=\nc = ; none\n", "2[a]b=\n3[a]c=\n", NULL);
}

TEST(ini_parse__duplicates__all_delivered)
{
	expect("[a]\nb=1\nb=2\n[a]\nb=3\n", "2[a]b=1\n3[a]b=2\n5[a]b=3\n", NULL);
}

TEST(ini_parse__key_before_section__problem)
{
	expect("b=c\n[a]\nd=e\n", "3[a]d=e\n", "f:1: stands before the first");
}

TEST(ini_parse__continuation__problem_and_the_rest_is_read)
{
	expect("[a]\nb=c\n  d\n\te = f\ng=h\n", "2[a]b=c\n5[a]g=h\n",
	       "f:3: begins with a blank");
	expect("[a]\nb=c\n  d\n\te = f\ng=h\n", "2[a]b=c\n5[a]g=h\n",
	       "f:4: begins with a blank");
}

TEST(ini_parse__line_without_equals__problem)
{
	expect("[a]\nb\nc: d\n:=e\n=f\ng ;=h\ni=j\n", "7[a]i=j\n",
	       "f:2: no '='");
	expect("[a]\nb: c=d\n", "", "f:2: ':' in a key");
	expect("[a]\n=d\n", "", "f:2: no key before");
}

TEST(ini_parse__bad_section__its_keys_are_left_out)
{
	const char *after = "]\nb=c\n[ok]\nd=e\n";
	char text[200];
	expect("[x]\n[a\nb=c\n[ok]\nd=e\n", "5[ok]d=e\n", "f:2: section without ']'");
	expect("[x]\n[]\nb=c\n[ok]\nd=e\n", "5[ok]d=e\n",
	       "f:2: section without a name");
	expect("[a] b=c\nb=c\n", "", "f:1: text after ']'");
	expect("[a]\n[b ;]\nc=d\n", "", "f:2: section without ']'");
	snprintf(text, sizeof(text), "[%050d%s", 0, after);
	expect(text, "4[ok]d=e\n", "f:1: section name has 50 bytes");
	snprintf(text, sizeof(text), "[%049d]\n", 0);
	expect(text, "", NULL);
}

TEST(ini_parse__long_lines__198_bytes_pass_199_do_not)
{
	char text[700];
	snprintf(text, sizeof(text), "[a]\nb=%0196d\r\nc=%0197d\nd=e\n;%0198d\nf=g\n",
		 1, 2, 3);
	char items[400];
	snprintf(items, sizeof(items), "2[a]b=%0196d\n4[a]d=e\n6[a]f=g\n", 1);
	expect(text, items, "f:3: line has 199 bytes: at most 198");
	expect(text, items, "f:5: line has 199 bytes");
	snprintf(text, sizeof(text), "[x]\n[%0300d]\nc=d\n", 1);
	expect(text, "", "f:2: line has 302 bytes");
}

TEST(ini_parse__bytes_that_are_no_text__problem)
{
	expect_bytes("[a]\nb=c\0d\n", 11, "", "f: holds a NUL byte");
	expect_bytes("\xff\xfe[\0a\0]\0\n\0", 10, "", "f: holds a NUL byte");
	expect("[a]\nb=\x1b[2J\n", "", "f:2: control character 0x1b in column 3");
	expect("[a]\nb=\xff\xfe\nc=d\n", "3[a]c=d\n", "f:2: is not UTF-8");
	expect("[a]\rb=c\r", "", "f:1: carriage return inside a line");
	expect("[a]\nb=\xc3\xa9\n", "2[a]b=\xc3\xa9\n", NULL);
	char all[4096];
	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (char)i;
	expect_bytes(all, sizeof(all), "", "NUL");
	expect_bytes(all + 1, 255, "", "f:1: control character 0x01");
}

TEST(ini_parse__more_than_64_KiB__problem)
{
	static char text[INI_FILE_MAX + 1];
	memset(text, '\n', sizeof(text));
	expect_bytes(text, sizeof(text), "", "f: has 65537 bytes");
	expect_bytes(text, sizeof(text) - 1, "", NULL);
}

TEST(ini_parse__thousands_of_problems__bounded_and_said)
{
	static char text[INI_FILE_MAX];
	memset(text, '#', sizeof(text));
	for (size_t i = 1; i < sizeof(text); i += 2)
		text[i] = '\n';
	struct seen seen = { 0 };
	autobuf problems = { 0 };
	struct err e = { 0 };
	assert_ok(ini_parse_text((struct span){ text, sizeof(text) }, "some/long/path",
				 on_item, &seen, &problems, &e));
	assert_false(problems.failed);
	assert_non_null(strstr(problems.at, "more problems than can be shown"));
	assert_err(ini_summary(&problems, 0, ERR_CONFIG, &e), ERR_CONFIG);
	assert_non_null(strstr(e.text, "some/long/path:1: "));
}

TEST(ini_parse__handler_fails__reading_ends_with_its_code)
{
	struct seen seen = { .answer = ERR_NOMEM };
	autobuf problems = { 0 };
	struct err e = { 0 };
	struct span text = SPAN_LIT("[a]\nb=1\nb=2\n");
	assert_err(ini_parse_text(text, "f", on_item, &seen, &problems, &e), ERR_NOMEM);
	assert_string_equal(e.text, "stop");
	assert_null(seen.text.at); /* the section was the last to be told */
}

TEST(ini_summary__nothing_added__ok)
{
	autobuf problems = { 0 };
	struct err e = { 0 };
	assert_ok(ini_summary(&problems, 0, ERR_CONFIG, &e));
	ini_problem(&problems, "f", 3, "is %s", "bad");
	assert_string_equal(problems.at, "f:3: is bad\n");
	size_t before = problems.len;
	assert_ok(ini_summary(&problems, before, ERR_CONFIG, &e));
	assert_err(ini_summary(&problems, 0, ERR_POLICY, &e), ERR_POLICY);
	assert_string_equal(e.text, "f:3: is bad");
	ini_problem(&problems, "g", 0, "too");
	ini_summary(&problems, 0, ERR_POLICY, &e);
	assert_string_equal(e.text, "f:3: is bad (and 1 more problem)");
}

/* ---- ini_load ---- */

static const char *file(const char *text, mode_t mode)
{
	static char path[200];
	snprintf(path, sizeof(path), "%s/f.ini", test_folder());
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
	return path;
}

static void load_refused(const char *path, const char *reason)
{
	autobuf text = { 0 };
	struct err e = { 0 };
	assert_err(ini_load(AT_FDCWD, path, 100, &text, NULL, &e), ERR_INPUT);
	if (strstr(e.text, reason) == NULL)
		fail_msg("no \"%s\" in: %s", reason, e.text);
}

TEST(ini_load__good_file__whole_text)
{
	autobuf text = { 0 };
	struct err e = { 0 };
	bool is_absent = true;
	assert_ok(ini_load(AT_FDCWD, file("[a]\n", 0644), 100, &text, &is_absent, &e));
	assert_string_equal(text.at, "[a]\n");
	assert_false(is_absent);
}

TEST(ini_load__absent__said_so)
{
	autobuf text = { 0 };
	struct err e = { 0 };
	bool is_absent = false;
	assert_err(ini_load(AT_FDCWD, "/nonexistent/x", 100, &text, &is_absent, &e),
		   ERR_INPUT);
	assert_true(is_absent);
}

TEST(ini_load__writable_by_others__refused)
{
	load_refused(file("x", 0646), "mode 0646");
	load_refused(file("x", 0664), "group or others");
}

TEST(ini_load__owned_by_a_stranger__refused)
{
	if (geteuid() != 0)
		skip();
	const char *path = file("x", 0644);
	assert_int_equal(chown(path, 12345, 12345), 0);
	load_refused(path, "belongs to user 12345");
}

TEST(ini_load__fifo_folder_too_long__refused)
{
	char path[200];
	snprintf(path, sizeof(path), "%s/fifo", test_folder());
	assert_int_equal(mkfifo(path, 0600), 0);
	load_refused(path, "not a regular file");
	load_refused("/", "not a regular file");
	char text[102];
	memset(text, 'x', sizeof(text) - 1);
	text[101] = '\0';
	load_refused(file(text, 0600), "has 101 bytes");
}
