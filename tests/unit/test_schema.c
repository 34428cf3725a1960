#include "tests/unit/test.h"

#include "policy/check.h"
#include "policy/settings.h"
#include "policy/value.h"

#include <stdio.h>
#include <string.h>

/* ---- value ---- */

TEST(value_number__forms__digits_only)
{
	uint64_t n = 7;
	const char *bad[] = { "", "-1", "+1", " 1", "1 ", "0x10", "1e9", "1.5", "x",
			      "9223372036854775808", "99999999999999999999",
			      "18446744073709551617" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(value_number(span_of(bad[i]), &n));
	assert_int_equal(n, 7);
	assert_true(value_number(span_of("9223372036854775807"), &n));
	assert_int_equal(n, INT64_MAX);
}

TEST(value_size__units__powers_of_1024)
{
	uint64_t n = 0;
	assert_true(value_size(span_of("5G"), &n));
	assert_int_equal(n, 5ull << 30);
	assert_true(value_size(span_of("64k"), &n));
	assert_int_equal(n, 64u << 10);
	assert_true(value_size(span_of("3M"), &n));
	assert_int_equal(n, 3u << 20);
	assert_true(value_size(span_of("0"), &n));
	assert_int_equal(n, 0);
	const char *bad[] = { "", "k", "1.5G", "5 G", "5GB", "5Gi", "-1k", "1e9",
			      "9007199254740993k", "99999999999999999999",
			      "8388608T" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (value_size(span_of(bad[i]), &n))
			fail_msg("%s was read", bad[i]);
}

TEST(value_time__units__milliseconds)
{
	static const struct {
		const char *text;
		int64_t ms;
	} good[] = { { "500ms", 500 },     { "2s", 2000 },      { "2", 2000 },
		     { "60m", 3600000 },   { "8h", 28800000 },  { "1d", 86400000 },
		     { "0", 0 } };
	int64_t ms;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_true(value_time(span_of(good[i].text), &ms));
		assert_int_equal(ms, good[i].ms);
	}
	const char *bad[] = { "", "s", "-2s", "2 s", "1.5s", "2w", "2S", "1h30m",
			      "9223372036854775807" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (value_time(span_of(bad[i]), &ms))
			fail_msg("%s was read", bad[i]);
}

TEST(value_print__amounts__shortest_exact_text)
{
	autobuf out = { 0 };
	value_print_size(5ull << 30, &out);
	value_print_size(1025, &out);
	value_print_size(0, &out);
	buf_char(&out, ' ');
	value_print_time(3600000, &out);
	value_print_time(90000, &out);
	value_print_time(1500, &out);
	value_print_time(0, &out);
	assert_string_equal(out.at, "5G10250 1h90s1500ms0");
}

/* ---- checks ---- */

static void check_all(schema_check *check, const char *const *good,
		      const char *const *bad)
{
	struct err e = { 0 };
	for (; *good; good++)
		if (check(*good, &e) != ERR_OK)
			fail_msg("%s was refused: %s", *good, e.text);
	for (; *bad; bad++) {
		if (check(*bad, &e) == ERR_OK)
			fail_msg("%s was taken", *bad);
		assert_err(e.code, ERR_CONFIG);
		assert_memory_equal(e.text, "must be", 7);
	}
}
#define WORDS(...) (const char *const[]){ __VA_ARGS__, NULL }

TEST(check_dns_server__forms__addresses_with_port)
{
	check_all(check_dns_server,
		  WORDS("192.0.2.53", "127.0.0.1:5353", "2001:db8::53", "::1",
			"[2001:db8::53]", "[::1]:5353"),
		  WORDS("localhost", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536",
			"127.0.0.1:5a", "[::1", "[::1]x", "[::1]:", "[127.0.0.1]:53",
			":53", "1.2.3", "::1:99999", "[]:53", "127.0.0.1:-1"));
}

TEST(check_site_code__forms__three_characters)
{
	check_all(check_site_code, WORDS("ABC", "a1b"),
		  WORDS("AB", "ABCD", "A-C", "\xc3\xa9" "A"));
}

TEST(check_client_id__forms__guid)
{
	check_all(check_client_id, WORDS("GUID:4F0E7B1C-0000-4000-8000-123456789ABC",
					 "guid:4f0e7b1c-0000-4000-8000-123456789abc"),
		  WORDS("4F0E7B1C-0000-4000-8000-123456789ABC", "GUID:", "G",
			"GUID:4F0E7B1C-0000-4000-8000-123456789AB",
			"GUID:4F0E7B1C-0000-4000-8000-123456789ABCD",
			"GUID:4F0E7B1C+0000-4000-8000-123456789ABC",
			"GUID:4F0E7B1C-0000-4000-8000-123456789ABG"));
}

TEST(check_header__forms__name_and_colon)
{
	check_all(check_header, WORDS("Authorization: Bearer", "CCMToken:"),
		  WORDS("Bearer", ": x", "A b: c", "A: \xc3\xa9", "A:\tb"));
}

TEST(check_web__forms__http_urls)
{
	check_all(check_web, WORDS("https://mp01.example.net", "http://mp:8080/x"),
		  WORDS("mp01.example.net", "ftp://x", "https://", "https://u:p@x",
			"https://x?y", "https://x#y", "https://a b"));
}

TEST(check_host__forms__dns_names)
{
	check_all(check_host, WORDS("cloudapp.net", "a"),
		  WORDS("*.cloudapp.net", ".cloudapp.net", "a:1", "1.2.3.4", "a..b",
			"https://a", "a/b"));
}

TEST(check_proxy_and_bypass__forms__as_curl)
{
	check_all(check_proxy, WORDS("none", "http://proxy:3128"),
		  WORDS("proxy:3128", "socks5://x", "http://u:p@proxy", "None"));
	check_all(check_bypass, WORDS("*", ".example.net", "mp01", "127.0.0.1", "::1"),
		  WORDS("10.0.0.0/8", "a b", "..x", "*.x"));
}

TEST(check_policy_source__forms__paths_and_https)
{
	check_all(check_policy_source, WORDS("/etc/x", "x.ini", "https://a/b"),
		  WORDS("http://a/b", "ftp://a/b", "https://"));
}

TEST(check_file_name__forms__beside_the_policy)
{
	check_all(check_file_name, WORDS("ABC00042.3.sha256", "a b.txt"),
		  WORDS("../x", "/etc/x", "a/b", "..", "a\\b"));
}

/* ---- the table ---- */

TEST(settings_rows__each__has_text_and_a_good_default)
{
	struct settings s = { 0 };
	struct err e = { 0 };
	assert_ok(schema_set_defaults(settings_rows, settings_row_count, &s, &e));
	for (size_t i = 0; i < settings_row_count; i++) {
		const struct schema_row *row = &settings_rows[i];
		assert_non_null(row->what);
		assert_int_equal(schema_find(settings_rows, settings_row_count,
					     row->section, row->key), i);
		/* What is printed can be read again, with the same meaning. */
		if (row->kind == SCHEMA_LIST || !schema_values(row, &s))
			continue;
		autobuf first = { 0 }, again = { 0 };
		schema_print(row, &s, 0, &first);
		assert_ok(schema_set(row, &s, first.at, &e));
		schema_print(row, &s, 0, &again);
		assert_string_equal(first.at, again.at);
		if (row->fallback && strcmp(row->key, "poll_interval") != 0)
			assert_string_equal(first.at, row->fallback);
	}
	schema_free(settings_rows, settings_row_count, &s);
}

static void explained(const char *section, const char *key, const char *text)
{
	autobuf out = { 0 };
	schema_explain(settings_rows, settings_row_count, section, key, &out);
	if (strncmp(out.at, text, strlen(text)) != 0)
		fail_msg("%s", out.at);
}

TEST(schema_explain__typing_error__nearest_key)
{
	explained("dns", "servers", "unknown key servers in [dns]; did you mean "
				    "server? There are server timeout tries max_hops");
	explained("dns", "tires", "unknown key tires in [dns]; there are");
	explained("dns", "level", "unknown key level in [dns]; did you mean [log] "
				  "level?");
	explained("dns", "max_hop", "unknown key max_hop in [dns]; did you mean "
				    "max_hops?");
	explained("cach", NULL, "unknown section [cach]; there are [site] [client]");
}

TEST(schema_set__list_too_long__refused)
{
	struct settings s = { 0 };
	struct err e = { 0 };
	size_t row = schema_find(settings_rows, settings_row_count, "cloud",
				 "suffix");
	enum err_code rc = ERR_OK;
	for (size_t i = 0; i < SCHEMA_LIST_MAX && rc == ERR_OK; i++)
		rc = schema_set(&settings_rows[row], &s, "cloudapp.net", &e);
	assert_err(rc, ERR_CONFIG);
	assert_int_equal(s.cloud_suffixes.count, SCHEMA_LIST_MAX / 13);
	schema_free(settings_rows, settings_row_count, &s);
}

TEST(schema_complain__value_with_password__not_shown)
{
	autobuf out = { 0 };
	struct err why = { .text = "must be good" };
	schema_complain(&settings_rows[1], "https://u:secret@x", &why, &out);
	assert_null(strstr(out.at, "secret"));
	assert_non_null(strstr(out.at, "[site] management_point = (not shown"));
}
