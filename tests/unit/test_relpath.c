#include "tests/unit/test.h"

#include "common/relpath.h"

#include <string.h>

/* The hostile names of the corpus, and what becomes of them: NULL = accepted,
 * otherwise a part of the reason. Lengths are given where a NUL is inside. */
static const struct {
	const char *name, *reason;
	size_t len;
} corpus[] = {
	{ "../../etc/passwd", "\"..\"", 0 },
	{ "..", "\"..\"", 0 },
	{ ".", "\".\"", 0 },
	{ "", "empty", 0 },
	{ "/etc/passwd", "absolute", 0 },
	{ "//etc/passwd", "absolute", 0 },
	{ "C:\\Windows\\x", "backslash", 0 },
	{ "..\\..\\x", "backslash", 0 },
	{ "a/../../b", "\"..\"", 0 },
	{ "a/./b", "\".\"", 0 },
	{ "a//b", "empty component", 0 },
	{ "a\0b", "NUL", 3 },
	{ "a\nb", "control", 0 },
	{ "a\rb", "control", 0 },
	{ "a\x1b[2Jb", "control", 0 },
	{ "a\x1b]0;pwn\x07", "control", 0 },
	{ "\u202egpj.exe", "bidirectional", 0 },
	{ "a\u2028b", NULL, 0 },
	{ "~", NULL, 0 },
	{ "~root/x", NULL, 0 },
	{ "-rf", NULL, 0 },
	{ "--help", NULL, 0 },
	{ "$(id)", NULL, 0 },
	{ "`id`", NULL, 0 },
	{ "%2e%2e%2fetc", NULL, 0 },
	{ "..%2f..%2fx", NULL, 0 },
	{ "..;/x", NULL, 0 },
	{ "%00", NULL, 0 },
	{ "CON", NULL, 0 },
	{ "NUL", NULL, 0 },
	{ "aux.txt", NULL, 0 },
	{ "LPT1", NULL, 0 },
	{ "COM\u00b9", NULL, 0 },
	{ "a.", NULL, 0 },
	{ "a ", NULL, 0 },
	{ "a:b", NULL, 0 },
	{ "a:stream", NULL, 0 },
	{ "a*?<>|\"", NULL, 0 },
	{ "\u00e9", NULL, 0 },
	{ "e\u0301", NULL, 0 },
	{ "\u212a", NULL, 0 },
	{ "\ufb01", NULL, 0 },
	{ "A", NULL, 0 },
	{ "a", NULL, 0 },
	{ "\u0130", NULL, 0 },
	{ "\u00df", NULL, 0 },
	{ "\ufeffx", NULL, 0 },
	{ "\xc3\xad\xc2\xa0\xc2\x80", "control", 0 },
	{ "\xed\xa0\x80", "UTF-8", 0 },
	{ ".partial", NULL, 0 },
	{ ".state", NULL, 0 },
	{ "lock", NULL, 0 },
	{ "x.tmp", NULL, 0 },
	{ "PKG00001.1/../..", "\"..\"", 0 },
	{ "SMSPKG$/x", NULL, 0 },
	{ "/dev/null", "absolute", 0 },
	{ "/proc/self/mem", "absolute", 0 },
	{ "/proc/self/fd/1", "absolute", 0 },
	{ "dev/../dev/sda", "\"..\"", 0 },
	{ "\\\\host\\share", "backslash", 0 },
	{ "file:///etc/passwd", "empty component", 0 },
	{ "http://h/x", "empty component", 0 },
	{ "\x7f", "control", 0 },
	{ "\xc2\x80\xc2\x81", "control", 0 },
	{ "\x80\x81", "UTF-8", 0 },
	{ "\xff\xfe", "UTF-8", 0 },
	{ "\xc3\xbf\xc3\xbe", NULL, 0 },
	{ "%s%n%x", NULL, 0 },
	{ "\u200b", NULL, 0 },
	{ "con ", NULL, 0 },
	{ "..\u2215x", NULL, 0 },
	{ "..\uff0fx", NULL, 0 },
	{ "\uff0e\uff0e/x", NULL, 0 },
	/* Not in the corpus. */
	{ "a/", "ends with", 0 },
	{ "/", "absolute", 0 },
	{ "a/..", "\"..\"", 0 },
	{ "...", NULL, 0 },
	{ "..a/b..", NULL, 0 },
	{ "a\u2066b", "bidirectional", 0 },
	{ "a\u2069b", "bidirectional", 0 },
	{ "a\u202ab", "bidirectional", 0 },
	{ "a\u206ab", NULL, 0 },
	{ "a\xc2\x85" "b", "control", 0 },
	{ "a\u00a0b", NULL, 0 },
	{ "a\0", "NUL", 2 },
};

TEST(relpath_check__hostile_corpus__as_decided)
{
	for (size_t i = 0; i < sizeof(corpus) / sizeof(*corpus); i++) {
		struct err e = { 0 };
		struct span name = span_of(corpus[i].name);
		if (corpus[i].len)
			name.len = corpus[i].len;
		enum err_code rc = relpath_check(name, &e);
		enum err_code want = corpus[i].reason ? ERR_NAME : ERR_OK;
		if (rc != want)
			print_error("name %zu \"%s\"\n", i, corpus[i].name);
		assert_int_equal(rc, want);
		if (corpus[i].reason)
			assert_non_null(strstr(e.text, corpus[i].reason));
	}
}

/* Check a path of `len` bytes with a slash after every `each` of them. */
static enum err_code check_long(size_t each, size_t len, struct err *e)
{
	static char path[8192];
	for (size_t i = 0; i < len; i++)
		path[i] = i % (each + 1) == each ? '/' : 'x';
	return relpath_check((struct span){ path, len }, e);
}

TEST(relpath_check__lengths__at_the_limit_yes_above_no)
{
	struct err e = { 0 };
	assert_ok(check_long(5000, 255, &e));
	assert_err(check_long(5000, 256, &e), ERR_NAME);
	assert_err(check_long(5000, 4096, &e), ERR_NAME);
	assert_ok(check_long(254, 1024, &e));
	assert_err(check_long(254, 1025, &e), ERR_NAME);
	assert_ok(check_long(1, 63, &e));  /* 32 components */
	assert_err(check_long(1, 65, &e), ERR_NAME);
	assert_non_null(strstr(e.text, "32 components"));
	assert_err(check_long(1, 4001, &e), ERR_NAME);
}

TEST(relpath_check__every_byte__controls_refused)
{
	for (int c = 0; c < 256; c++) {
		char name[3] = { 'a', (char)c, 'b' };
		bool is_good = c >= 0x20 && c < 0x7f && c != '\\';
		enum err_code rc = relpath_check((struct span){ name, 3 }, NULL);
		assert_int_equal(rc, is_good ? ERR_OK : ERR_NAME);
	}
}

TEST(relpath_check__long_bad_name__reason_still_in_text)
{
	struct err e = { 0 };
	char name[1000];
	memset(name, 'x', sizeof(name));
	assert_err(relpath_check((struct span){ name, 1000 }, &e), ERR_NAME);
	assert_non_null(strstr(e.text, "255 bytes"));
	assert_non_null(strstr(e.text, "xxx..."));
}

TEST(relpath_check_id__good_and_bad__told_apart)
{
	static const char *const good[] = {
		"PKG00001", "PKG00001.1", "Content_{0f-9A}", "a", "{x}", "a..b",
		"mp01.corp.test",
	};
	static const char *const bad[] = {
		"", ".", "..", ".x", "-x", "a/b", "a\\b", "a b", "a\nb", "a:b",
		"\u00e9", "a%2fb", "a$", "~", "a\x7f",
	};
	struct err e = { 0 };
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		assert_ok(relpath_check_id(span_of(good[i]), &e));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_err(relpath_check_id(span_of(bad[i]), &e), ERR_NAME);
	char name[129];
	memset(name, 'x', sizeof(name));
	assert_ok(relpath_check_id((struct span){ name, 128 }, &e));
	assert_err(relpath_check_id((struct span){ name, 129 }, &e), ERR_NAME);
	assert_err(relpath_check_id((struct span){ "a\0b", 3 }, &e), ERR_NAME);
}

TEST(relpath_fold__mixed_case__ascii_only)
{
	char out[RELPATH_MAX + 1];
	relpath_fold("Dir/FILE-\u00c9@[Z", out);
	assert_string_equal(out, "dir/file-\u00c9@[z");
	char longer[RELPATH_MAX + 10];
	memset(longer, 'A', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	relpath_fold(longer, out);
	assert_int_equal(strlen(out), RELPATH_MAX);
}
