#include "tests/unit/test.h"

#include "common/url.h"

#include <string.h>

static void assert_refused(struct span text)
{
	struct url u;
	struct err e = { 0 };
	enum err_code rc = url_parse(text, &u, &e);
	if (rc == ERR_OK)
		print_error("accepted: %.*s\n", SPAN_ARG(text));
	assert_err(rc, ERR_USAGE);
	assert_true(e.text[0] != '\0');
	assert_null(u.path);
	assert_null(u.query);
}

static void assert_printed(const char *text, const char *expected)
{
	autourl u = { 0 };
	autobuf b = { 0 };
	struct err e = { 0 };
	if (url_parse(span_of(text), &u, &e) != ERR_OK)
		print_error("%s: %s\n", text, e.text);
	assert_int_equal(e.code, ERR_OK);
	url_print(&u, &b);
	assert_string_equal(b.at, expected);
}

TEST(url_parse__all_parts__are_there)
{
	autourl u = { 0 };
	struct err e = { 0 };
	assert_ok(url_parse(SPAN_LIT("HTTPS://DP1.Example.TEST.:8443/a%20b/../c"
				     "?x=1&y"), &u, &e));
	assert_true(u.is_https);
	assert_false(u.is_ip);
	assert_string_equal(u.host, "dp1.example.test");
	assert_int_equal(u.port, 8443);
	assert_string_equal(u.path, "/a%20b/../c");
	assert_string_equal(u.query, "x=1&y");
}

TEST(url_parse__bare_host__has_slash_and_default_port)
{
	autourl u = { 0 };
	struct err e = { 0 };
	assert_ok(url_parse(SPAN_LIT("http://dp1"), &u, &e));
	assert_int_equal(u.port, 80);
	assert_string_equal(u.path, "/");
	assert_null(u.query);
}

TEST(url_parse__sccm_form__path_is_in_the_query)
{
	autourl u = { 0 };
	struct err e = { 0 };
	assert_ok(url_parse(SPAN_LIT("http://dp/SMS_DP_SMSPKG$/Content_1/"
				     "sccm?/a%20b.txt"), &u, &e));
	assert_string_equal(u.path, "/SMS_DP_SMSPKG$/Content_1/sccm");
	assert_string_equal(u.query, "/a%20b.txt");
}

TEST(url_parse__addresses__are_marked_and_normal)
{
	autourl a = { 0 }, b = { 0 };
	struct err e = { 0 };
	assert_ok(url_parse(SPAN_LIT("http://10.0.0.1:81/"), &a, &e));
	assert_true(a.is_ip);
	assert_string_equal(a.host, "10.0.0.1");
	assert_ok(url_parse(SPAN_LIT("http://[FD00:0:0::1]/"), &b, &e));
	assert_true(b.is_ip);
	assert_string_equal(b.host, "fd00::1");
}

TEST(url_parse__what_is_no_url_of_ours__refused)
{
	static const char *const bad[] = {
		"", "/", "x", "dp1", "dp1/path", "//dp1/path", "ftp://h/",
		"file:///etc", "file://h/etc/passwd", "gopher://h/", "http:",
		"http:/", "http://",
		"http:/h/", "http:///h/", "http:////h/", "http://?x", "http:h",
		"https:///", "javascript:alert(1)", " http://h/", "http://h/ ",
		"http://h /", "http://h/a b", "http://h/\r\nX: y", "http://h/\t",
		"http://h/\x7f", "http://h/\xc3\xa4", "http://\xc3\xa4/",
		"http://h/a\\b", "http://h\\@evil/", "http://h/<a>", "http://h/\"",
		"http://h/#f", "http://h#f", "http://h/?a#", "http://u@h/",
		"http://u:p@h/", "http://@h/", "http://:@h/", "http://a@b@h/",
		"http://h:0/", "http://h:65536/", "http://h:-1/",
		"http://h:+1/", "http://h:1x/", "http://h:99999999999999999999/",
		"http://h:80:80/", "http://./", "http://../", "http://a..b/",
		"http://.a/", "http://a../", "http://-a/", "http://a-/",
		"http://a.-b/", "http://%61/", "http://a%2eb/", "http://127%2e0.0.1/",
		"http://0x7f.1/", "http://2130706433/", "http://0177.0.0.1/",
		"http://127.1/", "http://127.0.0.1./", "http://1.2.3.4.5/",
		"http://256.0.0.1/", "http://a.1/", "http://a.0x1/", "http://h,i/",
		"http://h;i/", "http://h*/", "http://[::1/", "http://::1/",
		"http://[::1]x/", "http://[]/", "http://[g::]/", "http://[::1%25lo]/",
		"http://[::1%lo]/", "http://[127.0.0.1]/", "http://[v1.a]/",
		"http://h/%", "http://h/%4", "http://h/%zz", "http://h/?%", NULL,
	};
	for (size_t i = 0; bad[i]; i++)
		assert_refused(span_of(bad[i]));
	assert_refused((struct span){ "http://h/\0x", 11 });
	assert_refused((struct span){ "http://h\0.x/", 12 });
}

TEST(url_parse__every_byte_in_path__only_visible_ascii)
{
	for (int c = 0; c < 256; c++) {
		char text[] = "http://h/a?b";
		text[9] = (char)c;
		struct url u;
		struct err e = { 0 };
		enum err_code rc = url_parse((struct span){ text, 12 }, &u, &e);
		bool is_fine = c > ' ' && c < 0x7f && !strchr("\\\"<>#%", c);
		assert_int_equal(rc == ERR_OK, is_fine);
		url_free(&u);
	}
}

TEST(url_parse__length__limit_is_exact)
{
	char text[URL_MAX + 2];
	struct err e = { 0 };
	autourl u = { 0 };
	memset(text, 'a', sizeof(text));
	memcpy(text, "http://h/", 9);
	assert_ok(url_parse((struct span){ text, URL_MAX }, &u, &e));
	assert_int_equal(strlen(u.path), URL_MAX - 8);
	assert_refused((struct span){ text, URL_MAX + 1 });
}

TEST(url_parse__host_length__limit_is_exact)
{
	char text[400] = "http://";
	for (size_t i = 0; i < 254; i++)
		text[7 + i] = i % 64 == 63 ? '.' : 'a';
	text[7 + 253] = '/';
	text[7 + 254] = '\0';
	autourl u = { 0 };
	struct err e = { 0 };
	assert_ok(url_parse(span_of(text), &u, &e));
	assert_int_equal(strlen(u.host), 253);
	text[7 + 253] = 'a';
	text[7 + 254] = '/';
	text[7 + 255] = '\0';
	assert_refused(span_of(text));
	/* 253 bytes and the dot of the root. */
	text[7 + 253] = '.';
	autourl dotted = { 0 };
	assert_ok(url_parse(span_of(text), &dotted, &e));
	assert_string_equal(dotted.host, u.host);
	/* A label of 64. */
	memset(text + 7, 'a', 64);
	assert_refused(span_of(text));
}

TEST(url_print__port__only_where_it_says_something)
{
	assert_printed("http://h:80", "http://h/");
	assert_printed("http://h:", "http://h/");
	assert_printed("https://h:443/p?q", "https://h/p?q");
	assert_printed("http://h:443/", "http://h:443/");
	assert_printed("https://H.:80/", "https://h:80/");
	assert_printed("http://[::1]:8080/p", "http://[::1]:8080/p");
	assert_printed("http://h/x:y@z:", "http://h/x:y@z:");
	assert_printed("http://h?a=/../b", "http://h/?a=/../b");
}

/* RFC 3986 s5.4, without fragments. */
TEST(url_join__rfc_3986_examples__agree)
{
	static const char *const cases[][2] = {
		{ "http://g/x", "http://g/x" },
		{ "g", "http://a/b/c/g" },
		{ "./g", "http://a/b/c/g" },
		{ "g/", "http://a/b/c/g/" },
		{ "/g", "http://a/g" },
		{ "//g", "http://g/" },
		{ "?y", "http://a/b/c/d;p?y" },
		{ "g?y", "http://a/b/c/g?y" },
		{ ";x", "http://a/b/c/;x" },
		{ "g;x", "http://a/b/c/g;x" },
		{ "g;x?y", "http://a/b/c/g;x?y" },
		{ "", "http://a/b/c/d;p?q" },
		{ ".", "http://a/b/c/" },
		{ "./", "http://a/b/c/" },
		{ "..", "http://a/b/" },
		{ "../", "http://a/b/" },
		{ "../g", "http://a/b/g" },
		{ "../..", "http://a/" },
		{ "../../", "http://a/" },
		{ "../../g", "http://a/g" },
		{ "../../../g", "http://a/g" },
		{ "../../../../g", "http://a/g" },
		{ "/./g", "http://a/g" },
		{ "/../g", "http://a/g" },
		{ "g.", "http://a/b/c/g." },
		{ ".g", "http://a/b/c/.g" },
		{ "g..", "http://a/b/c/g.." },
		{ "..g", "http://a/b/c/..g" },
		{ "./../g", "http://a/b/g" },
		{ "./g/.", "http://a/b/c/g/" },
		{ "g/./h", "http://a/b/c/g/h" },
		{ "g/../h", "http://a/b/c/h" },
		{ "g;x=1/./y", "http://a/b/c/g;x=1/y" },
		{ "g;x=1/../y", "http://a/b/c/y" },
		{ "g?y/./x", "http://a/b/c/g?y/./x" },
		{ "g?y/../x", "http://a/b/c/g?y/../x" },
		{ "HTTPS://G./x", "https://g/x" },
		{ "/p?u=http://x/", "http://a/p?u=http://x/" },
	};
	autourl base = { 0 };
	struct err e = { 0 };
	assert_ok(url_parse(SPAN_LIT("http://a/b/c/d;p?q"), &base, &e));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		autourl u = { 0 };
		autobuf b = { 0 };
		assert_ok(url_join(&base, span_of(cases[i][0]), &u, &e));
		url_print(&u, &b);
		if (strcmp(b.at, cases[i][1]) != 0)
			print_error("reference: %s\n", cases[i][0]);
		assert_string_equal(b.at, cases[i][1]);
	}
}

TEST(url_join__hostile_reference__refused)
{
	static const char *const bad[] = {
		"ftp://h/", "file:///etc/passwd", "javascript:x", "mailto:a@b",
		"gopher:x", "http:g", "http:/g", "https:///g", "//", "///x", "//u@h/",
		"//h:0/", "//0x7f.1/", "http://0x7f.1/", "http://u:p@h/", "//%61/",
		"a b", "a\r\nb", "a\tb", "a\\b", "\\\\h\\x", "#f", "a#f", "%", "a%0",
		"//h\\@evil/", "a\xff", NULL,
	};
	autourl base = { 0 };
	struct err e = { 0 };
	assert_ok(url_parse(SPAN_LIT("https://a/b/c"), &base, &e));
	for (size_t i = 0; bad[i]; i++) {
		struct url u;
		enum err_code rc = url_join(&base, span_of(bad[i]), &u, &e);
		if (rc == ERR_OK)
			print_error("accepted: %s\n", bad[i]);
		assert_err(rc, ERR_USAGE);
		assert_null(u.path);
	}
}

TEST(url_join__ipv6_base_with_port__stays)
{
	autourl base = { 0 }, u = { 0 };
	autobuf b = { 0 };
	struct err e = { 0 };
	assert_ok(url_parse(SPAN_LIT("https://[fd00::1]:444/b/c"), &base, &e));
	assert_ok(url_join(&base, SPAN_LIT("d"), &u, &e));
	url_print(&u, &b);
	assert_string_equal(b.at, "https://[fd00::1]:444/b/d");
}

TEST(url_join__too_long__refused)
{
	static char text[2 * URL_MAX];
	autourl base = { 0 };
	struct url u;
	struct err e = { 0 };
	memset(text, 'a', sizeof(text));
	assert_ok(url_parse(SPAN_LIT("https://a/b/c"), &base, &e));
	assert_err(url_join(&base, (struct span){ text, sizeof(text) }, &u, &e),
		   ERR_USAGE);
	assert_err(url_join(&base, (struct span){ text, URL_MAX }, &u, &e), ERR_USAGE);
}

TEST(url_encode_path__all_bytes__come_back_by_decode)
{
	char all[255];
	autobuf coded = { 0 }, plain = { 0 };
	for (int i = 1; i < 256; i++)
		all[i - 1] = (char)i;
	url_encode_path((struct span){ all, 255 }, &coded);
	for (size_t i = 0; i < coded.len; i++)
		assert_true(coded.at[i] > ' ' && coded.at[i] < 0x7f);
	assert_true(url_decode(buf_as_span(&coded), &plain));
	assert_int_equal(plain.len, 255);
	assert_memory_equal(plain.at, all, 255);
}

TEST(url_encode_path__slash_and_unreserved__stay)
{
	autobuf b = { 0 };
	url_encode_path(SPAN_LIT("a/b-._~ c#?%\xc3\xa4"), &b);
	assert_string_equal(b.at, "a/b-._~%20c%23%3F%25%C3%A4");
}

TEST(url_decode__broken__refused)
{
	static const char *const bad[] = { "%", "a%", "%4", "%4g", "%g4", "%%41",
					   "%00", "a%00b", "%-1", "% 1", NULL };
	for (size_t i = 0; bad[i]; i++) {
		autobuf b = { 0 };
		assert_false(url_decode(span_of(bad[i]), &b));
	}
}

TEST(url_same_origin__each_part__counts)
{
	static const struct {
		const char *a, *b;
		bool is_same;
	} cases[] = {
		{ "http://a/x", "http://A.:80/y", true },
		{ "http://a/", "https://a/", false },
		{ "http://a/", "http://a:81/", false },
		{ "http://a/", "http://b/", false },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		autourl a = { 0 }, b = { 0 };
		struct err e = { 0 };
		assert_ok(url_parse(span_of(cases[i].a), &a, &e));
		assert_ok(url_parse(span_of(cases[i].b), &b, &e));
		assert_int_equal(url_same_origin(&a, &b), cases[i].is_same);
	}
}

TEST(url_is_hostname__names__as_dns_has_them)
{
	static const char *const good[] = { "a", "a.", "a.b", "A-1_x.test", "1a",
					    "1.a", "_x.b", "xn--4ca.test", NULL };
	static const char *const bad[] = { "", ".", "a..", "..", "a..b", ".a", "-a",
					   "a-", "a b", "a/b", "a:b", "1", "1.2.3.4",
					   "1.2", "::1", "[::1]", "a.0x", "a.0xff",
					   "a\n", "\xc3\xa4", "*", "a%", NULL };
	for (size_t i = 0; good[i]; i++)
		assert_true(url_is_hostname(span_of(good[i])));
	for (size_t i = 0; bad[i]; i++)
		assert_false(url_is_hostname(span_of(bad[i])));
	assert_false(url_is_hostname((struct span){ "a\0b", 3 }));
}

TEST(url_is_ip__literals__without_brackets_or_zone)
{
	assert_true(url_is_ip(SPAN_LIT("1.2.3.4")));
	assert_true(url_is_ip(SPAN_LIT("::")));
	assert_true(url_is_ip(SPAN_LIT("fe80::1")));
	assert_true(url_is_ip(SPAN_LIT("::ffff:1.2.3.4")));
	assert_false(url_is_ip(SPAN_LIT("")));
	assert_false(url_is_ip(SPAN_LIT("[::1]")));
	assert_false(url_is_ip(SPAN_LIT("fe80::1%lo")));
	assert_false(url_is_ip(SPAN_LIT("1.2.3")));
	assert_false(url_is_ip(SPAN_LIT("1.2.3.4.")));
	assert_false(url_is_ip((struct span){ "1.2.3.4\0", 8 }));
}

TEST(url_host_within__labels__are_whole)
{
	assert_true(url_host_within("a.b.test", "b.test"));
	assert_true(url_host_within("B.Test.", "b.tEST"));
	assert_true(url_host_within("a.b.test", ".b.test."));
	assert_false(url_host_within("ab.test", "b.test"));
	assert_false(url_host_within("b.test.evil", "b.test"));
	assert_false(url_host_within("test", "b.test"));
	assert_false(url_host_within("a", ""));
	assert_false(url_host_within("a", "."));
	assert_false(url_host_within("", "a"));
	assert_false(url_host_within("10.1.2.3", "2.3"));
	assert_true(url_host_within("10.1.2.3", "10.1.2.3"));
}
