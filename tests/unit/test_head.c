#include "tests/unit/test.h"

#include "agent/net/head.h"

#include <stdio.h>
#include <string.h>

/* Sun, 22 Nov 2026 10:00:00 GMT */
#define NOW 1795341600

static struct head head_of(const char *lines)
{
	struct head h = { 0 };
	struct span rest = span_of(lines), line;
	while (span_split(&rest, '\n', &line))
		assert_true(head_line(&h, line, NOW));
	return h;
}

TEST(head_parse_number__decimal__is_read)
{
	uint64_t n = 5;
	assert_true(head_parse_number(SPAN_LIT("0"), &n));
	assert_int_equal(n, 0);
	assert_true(head_parse_number(SPAN_LIT("0042"), &n));
	assert_int_equal(n, 42);
	assert_true(head_parse_number(SPAN_LIT("9999999999999999999"), &n));
	assert_true(n == 9999999999999999999u);
}

TEST(head_parse_number__anything_else__is_refused)
{
	static const char *const bad[] = {
		"", "-1", "+1", " 1", "1 ", "1.0", "0x10", "1e3", "1,2", "a",
		"10000000000000000000", "\xd9\xa1", "1\t",
	};
	uint64_t n;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(head_parse_number(span_of(bad[i]), &n));
	assert_false(head_parse_number(((struct span){ "1\0", 2 }), &n));
}

TEST(head_parse_range__whole__is_read)
{
	struct head h = { 0 };
	assert_true(head_parse_range(SPAN_LIT("bytes 5-9/10"), &h));
	assert_true(h.has_range);
	assert_int_equal(h.range_first, 5);
	assert_int_equal(h.range_last, 9);
	assert_int_equal(h.range_total, 10);
	assert_false(h.range_unsatisfied);
}

TEST(head_parse_range__one_byte_and_any_case__is_read)
{
	struct head h = { 0 };
	assert_true(head_parse_range(SPAN_LIT("BYTES 0-0/1"), &h));
	assert_int_equal(h.range_last, 0);
}

TEST(head_parse_range__unknown_total__is_max)
{
	struct head h = { 0 };
	assert_true(head_parse_range(SPAN_LIT("bytes 5-9/*"), &h));
	assert_true(h.has_range);
	assert_true(h.range_total == UINT64_MAX);
}

TEST(head_parse_range__unsatisfied__keeps_the_total)
{
	struct head h = { 0 };
	assert_true(head_parse_range(SPAN_LIT("bytes */10"), &h));
	assert_true(h.range_unsatisfied);
	assert_false(h.has_range);
	assert_int_equal(h.range_total, 10);
}

TEST(head_parse_range__lies__are_refused)
{
	static const char *const bad[] = {
		"", "bytes", "bytes ", "5-9/10", "items 5-9/10", "bytes=5-9/10",
		"bytes 9-5/10", "bytes 5-10/10", "bytes 5-9/9", "bytes 0-0/0",
		"bytes 5-9", "bytes 5-9/", "bytes -9/10", "bytes 5-/10",
		"bytes 5/10", "bytes */*", "bytes  5-9/10", "bytes 5 -9/10",
		"bytes 5-9 /10", "bytes 5-9/ 10", "bytes +5-9/10", "bytes 5-9/10x",
		"bytes 5-9/10, bytes 0-1/10", "bytes 5-9-10/11", "bytes -1-9/10",
		"bytes 0x5-9/10", "bytes 5-99999999999999999999/*",
		"bytes 5-9/-1",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct head h = { 0 };
		if (head_parse_range(span_of(bad[i]), &h))
			fail_msg("accepted: %s", bad[i]);
		assert_false(h.has_range);
	}
}

TEST(head_line__common_response__is_read)
{
	struct head h = head_of("HTTP/1.1 206 Partial Content\r\n"
				"Content-Type: text/xml; charset=utf-8\r\n"
				"CONTENT-LENGTH:  5 \r\n"
				"Content-Range: bytes 5-9/10\r\n"
				"ETag: \"a1\"\r\n"
				"Last-Modified: Sun, 22 Nov 2026 10:00:00 GMT\r\n"
				"Location: /x\r\n"
				"\r\n");
	assert_int_equal(h.status, 206);
	assert_string_equal(h.reason, "Partial Content");
	assert_string_equal(h.content_type, "text/xml; charset=utf-8");
	assert_true(h.has_length && !h.bad_length);
	assert_int_equal(h.length, 5);
	assert_true(h.has_range && !h.bad_range);
	assert_string_equal(h.etag, "\"a1\"");
	assert_true(h.etag_is_strong);
	assert_string_equal(h.last_modified, "Sun, 22 Nov 2026 10:00:00 GMT");
	assert_string_equal(h.location, "/x");
	assert_true(h.complete);
}

TEST(head_line__http2_without_reason__is_empty_reason)
{
	struct head h = head_of("HTTP/2 404 \r\n\r\n");
	assert_int_equal(h.status, 404);
	assert_string_equal(h.reason, "");
}

TEST(head_line__interim_response__is_forgotten)
{
	struct head h = head_of("HTTP/1.1 100 Continue\r\nContent-Length: 9\r\n"
				"ETag: \"x\"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
	assert_int_equal(h.status, 200);
	assert_false(h.has_length);
	assert_string_equal(h.etag, "");
	assert_true(h.complete);
	assert_int_equal(h.bytes, 22 + 18 + 10 + 1 + 16 + 1); /* all lines */
}

TEST(head_line__interim_response_only__is_not_complete)
{
	assert_false(head_of("HTTP/1.1 103 Early Hints\r\n\r\n").complete);
}

TEST(head_line__second_status_line_inside__is_no_new_response)
{
	struct head h = head_of("HTTP/1.1 404 No\r\nHTTP/1.1 200 OK\r\n\r\n");
	assert_int_equal(h.status, 404);
}

TEST(head_line__trailers__change_nothing)
{
	struct head h = head_of("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
				"Content-Length: 9\r\nETag: \"late\"\r\n");
	assert_int_equal(h.length, 3);
	assert_false(h.bad_length);
	assert_string_equal(h.etag, "");
}

TEST(head_line__odd_status_lines__are_no_status)
{
	assert_int_equal(head_of("HTTP/1.1 9999 x\r\n").status, 0);
	assert_int_equal(head_of("HTTP/1.1 abc\r\n").status, 0);
	assert_int_equal(head_of("HTTP/1.1\r\n").status, 0);
	assert_int_equal(head_of("Content-Length: 5\r\n").status, 0);
}

TEST(head_line__long_reason__is_cut)
{
	char line[1024] = "HTTP/1.1 403 ";
	memset(line + 13, 'r', sizeof(line) - 14);
	struct head h = { 0 };
	assert_true(head_line(&h, span_of(line), NOW));
	assert_int_equal(strlen(h.reason), sizeof(h.reason) - 1);
}

#define OK_ "HTTP/1.1 200 OK\r\n"

TEST(head_line__content_length_twice__counts_when_equal)
{
	struct head h = head_of(OK_ "Content-Length: 5\r\nContent-Length: 5\r\n");
	assert_true(h.has_length && !h.bad_length);
	h = head_of(OK_ "Content-Length: 5\r\nContent-Length: 6\r\n");
	assert_true(h.bad_length);
}

TEST(head_line__content_length_no_number__is_bad)
{
	static const char *const bad[] = { "", "-5", "+5", "5 6", "5, 5", "0x5",
					   "99999999999999999999" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char lines[128];
		snprintf(lines, sizeof(lines), OK_ "Content-Length: %s\r\n", bad[i]);
		struct head h = head_of(lines);
		assert_true(h.bad_length);
		assert_false(h.has_length);
	}
}

TEST(head_line__bad_range_then_good__stays_bad)
{
	struct head h = head_of("HTTP/1.1 206 P\r\nContent-Range: bytes 9-5/10\r\n"
				"Content-Range: bytes 5-9/10\r\n");
	assert_true(h.bad_range);
}

TEST(head_line__etag__weak_odd_and_long)
{
	struct head h = head_of(OK_ "ETag: W/\"a\"\r\n");
	assert_string_equal(h.etag, "W/\"a\"");
	assert_false(h.etag_is_strong);
	h = head_of(OK_ "ETag: a1\r\n");
	assert_false(h.etag_is_strong);
	h = head_of(OK_ "ETag: \"\r\n");
	assert_false(h.etag_is_strong);
	h = head_of(OK_ "ETag: \"a b\"\r\n");
	assert_string_equal(h.etag, "");
	h = head_of(OK_ "ETag: \"a\x7f\"\r\n");
	assert_string_equal(h.etag, "");
	char lines[512] = OK_ "ETag: \"";
	size_t len = strlen(lines);
	memset(lines + len, 'e', 300);
	memcpy(lines + len + 300, "\"\r\n", 4);
	assert_string_equal(head_of(lines).etag, "");
}

TEST(head_line__content_encoding__identity_is_none)
{
	assert_false(head_of(OK_ "Content-Encoding: identity\r\n").has_encoding);
	assert_false(head_of(OK_ "Content-Encoding:\r\n").has_encoding);
	assert_true(head_of(OK_ "Content-Encoding: gzip\r\n").has_encoding);
	assert_true(head_of(OK_ "Content-Encoding: gzip\r\n"
				"Content-Encoding: identity\r\n").has_encoding);
}

TEST(head_line__retry_after_seconds__are_capped)
{
	assert_int_equal(head_of(OK_ "Retry-After: 120\r\n").retry_after_s, 120);
	assert_int_equal(head_of(OK_ "Retry-After: 0\r\n").retry_after_s, 0);
	assert_int_equal(head_of(OK_ "Retry-After: 86401\r\n").retry_after_s, 86400);
	assert_int_equal(head_of(OK_ "Retry-After: 9999999999999999999\r\n")
				 .retry_after_s, 86400);
}

TEST(head_line__retry_after_date__is_a_distance)
{
	struct head h = head_of(OK_
		"Retry-After: Sun, 22 Nov 2026 10:01:30 GMT\r\n");
	assert_int_equal(h.retry_after_s, 90);
	h = head_of(OK_ "Retry-After: Sun, 22 Nov 2026 09:00:00 GMT\r\n");
	assert_int_equal(h.retry_after_s, 1);
	h = head_of(OK_ "Retry-After: Sat, 22 Nov 2036 10:00:00 GMT\r\n");
	assert_int_equal(h.retry_after_s, 86400);
}

TEST(head_line__retry_after_no_date__is_none)
{
	static const char *const bad[] = { "soon", "-5", "+5", "", "1.5",
					   "22 Nov 2026 10:01:30 GMT",
					   "99999999999999999999" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char lines[128];
		snprintf(lines, sizeof(lines), OK_ "Retry-After: %s\r\n", bad[i]);
		assert_int_equal(head_of(lines).retry_after_s, 0);
	}
}

TEST(head_line__long_location__is_cut_not_overrun)
{
	static char lines[8192] = OK_ "Location: /";
	size_t len = strlen(lines);
	memset(lines + len, 'a', sizeof(lines) - len - 1);
	assert_int_equal(strlen(head_of(lines).location), 4096);
}

TEST(head_line__lines_that_are_none__are_passed_over)
{
	struct head h = head_of(OK_ "no colon\r\n: empty name\r\n"
				"Content-Length : 5\r\n X: folded\r\n");
	assert_int_equal(h.status, 200);
	assert_false(h.complete);
}

TEST(head_line__too_many_bytes__is_refused)
{
	struct head h = { 0 };
	char line[1024];
	memset(line, 'x', sizeof(line));
	struct span s = { line, sizeof(line) };
	for (unsigned i = 0; i < HEAD_MAX_BYTES / sizeof(line); i++)
		assert_true(head_line(&h, s, NOW));
	assert_false(head_line(&h, SPAN_LIT("x"), NOW));
}
