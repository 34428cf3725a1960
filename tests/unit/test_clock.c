#include "tests/unit/test.h"

#include "common/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const struct {
	int64_t s;
	const char *text;
} days[] = {
	{ 0, "1970-01-01T00:00:00Z" },
	{ -1, "1969-12-31T23:59:59Z" },
	{ 68169600, "1972-02-29T00:00:00Z" },
	{ 951782400, "2000-02-29T00:00:00Z" },
	{ 951868799, "2000-02-29T23:59:59Z" },
	{ 1795255200, "2026-11-21T10:00:00Z" },
	{ 4107542400, "2100-03-01T00:00:00Z" },
	{ -2203891200, "1900-03-01T00:00:00Z" },
	{ -62167219200, "0000-01-01T00:00:00Z" },
	{ 253402300799, "9999-12-31T23:59:59Z" },
};

TEST(clock_rfc3339__known_times__written)
{
	char text[CLOCK_RFC3339_SIZE];
	for (size_t i = 0; i < sizeof(days) / sizeof(*days); i++) {
		clock_rfc3339(days[i].s, text);
		assert_string_equal(text, days[i].text);
	}
}

TEST(clock_parse_rfc3339__known_times__read)
{
	for (size_t i = 0; i < sizeof(days) / sizeof(*days); i++) {
		int64_t s = 42;
		assert_int_equal(clock_parse_rfc3339(days[i].text, &s), 0);
		assert_int_equal(s, days[i].s);
	}
}

TEST(clock_rfc3339__sweep_of_years__as_the_c_library)
{
	for (int64_t s = -62167219200; s <= 253402300799; s += 7999993) {
		char ours[CLOCK_RFC3339_SIZE], theirs[64];
		struct tm tm;
		time_t t = (time_t)s;
		int64_t back;
		gmtime_r(&t, &tm);
		snprintf(theirs, sizeof(theirs), "%04d-%02d-%02dT%02d:%02d:%02dZ",
			 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
			 tm.tm_min, tm.tm_sec);
		clock_rfc3339(s, ours);
		assert_string_equal(ours, theirs);
		assert_int_equal(clock_parse_rfc3339(ours, &back), 0);
		assert_int_equal(back, s);
	}
}

TEST(clock_rfc3339__beyond_four_digit_years__nearest)
{
	char text[CLOCK_RFC3339_SIZE];
	clock_rfc3339(INT64_MAX, text);
	assert_string_equal(text, "9999-12-31T23:59:59Z");
	clock_rfc3339(INT64_MIN, text);
	assert_string_equal(text, "0000-01-01T00:00:00Z");
}

TEST(clock_parse_rfc3339__zone_and_fraction__utc)
{
	static const struct {
		const char *text;
		int64_t s;
	} good[] = {
		{ "1970-01-01T02:00:00+02:00", 0 },
		{ "1969-12-31T18:30:00-05:30", 0 },
		{ "1970-01-01t00:00:01z", 1 },
		{ "1970-01-01T00:00:01.999999999Z", 1 },
		{ "1970-01-01T00:00:00-00:00", 0 },
		{ "2016-12-31T23:59:60Z", 1483228800 },
		{ "2017-01-01T00:59:60+01:00", 1483228800 },
	};
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		int64_t s = 42;
		assert_int_equal(clock_parse_rfc3339(good[i].text, &s), 0);
		assert_int_equal(s, good[i].s);
	}
}

TEST(clock_parse_rfc3339__malformed__refused)
{
	static const char *const bad[] = {
		"", "Z", "1970", "1970-01-01", "1970-01-01T00:00:00",
		"1970-01-01 00:00:00Z", "1970-13-01T00:00:00Z",
		"1970-00-01T00:00:00Z", "1970-01-00T00:00:00Z",
		"1970-02-29T00:00:00Z", "1900-02-29T00:00:00Z",
		"1970-04-31T00:00:00Z", "1970-01-01T24:00:00Z",
		"1970-01-01T00:60:00Z", "1970-01-01T00:00:61Z",
		"1970-01-01T12:00:60Z", "1970-01-01T00:00:00.Z",
		"1970-01-01T00:00:00+24:00", "1970-01-01T00:00:00+02",
		"1970-01-01T00:00:00+0200", "1970-01-01T00:00:00+02:60",
		"1970-01-01T00:00:00Zx", "1970-01-01T00:00:00Z ",
		" 1970-01-01T00:00:00Z", "+970-01-01T00:00:00Z",
		"197a-01-01T00:00:00Z", "19700-01-01T00:00:00Z",
		"1970-1-01T00:00:00Z", "1970/01/01T00:00:00Z",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		int64_t s = 42;
		assert_int_equal(clock_parse_rfc3339(bad[i], &s), -1);
		assert_int_equal(s, 42);
	}
	int64_t s;
	assert_int_equal(clock_parse_rfc3339(NULL, &s), -1);
}

TEST(clock_backoff_ms__least_and_most_chance__half_and_all)
{
	static const int64_t most[] = { 1000, 2000, 4000, 8000, 10000, 10000 };
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(clock_backoff_ms(i + 1, 1000, 10000, UINT32_MAX),
				 most[i]);
		assert_int_equal(clock_backoff_ms(i + 1, 1000, 10000, 0),
				 most[i] / 2);
	}
}

TEST(clock_backoff_ms__extreme_values__no_overflow)
{
	assert_int_equal(clock_backoff_ms(UINT32_MAX, 1, INT64_MAX, UINT32_MAX),
			 INT64_MAX);
	assert_in_range(clock_backoff_ms(200, INT64_MAX, INT64_MAX, 0),
			INT64_MAX / 2, INT64_MAX / 4 * 3);
	assert_int_equal(clock_backoff_ms(0, 1000, 10000, UINT32_MAX), 1000);
	assert_int_equal(clock_backoff_ms(1, 5000, 1000, UINT32_MAX), 1000);
	assert_int_equal(clock_backoff_ms(1, 0, 1000, 7), 0);
	assert_int_equal(clock_backoff_ms(1, -5, 1000, 7), 0);
	assert_int_equal(clock_backoff_ms(1, 5, -1, 7), 0);
}

TEST(clock_backoff_ms__any_chance__within_bounds)
{
	for (uint64_t c = 0; c <= UINT32_MAX; c += 9999991) {
		int64_t ms = clock_backoff_ms(3, 333, 100000, (uint32_t)c);
		assert_in_range(ms, 1332 / 2, 1332);
	}
}

TEST(clock_now_ms__fake__taken_from_it)
{
	struct clock_fake fake = { .now_ms = 7, .wall_ms = -1 };
	clock_set_fake(&fake);
	int64_t now = clock_now_ms(), wall = clock_wall_ms(), s = clock_wall_s();
	fake.now_ms = 8;
	int64_t later = clock_now_ms();
	clock_set_fake(NULL);
	assert_int_equal(now, 7);
	assert_int_equal(later, 8);
	assert_int_equal(wall, -1);
	assert_int_equal(s, -1); /* rounded down, not towards zero */
}

TEST(clock_wall_s__kernel__near_time)
{
	int64_t before = (int64_t)time(NULL);
	assert_in_range(clock_wall_s(), before - 1, before + 60);
	assert_in_range(clock_wall_ms() / 1000, before - 1, before + 60);
	int64_t now = clock_now_ms();
	assert_true(now > 0 && clock_now_ms() >= now);
}

TEST(clock_chance__many_draws__differ)
{
	uint32_t first = clock_chance();
	int same = 0;
	for (int i = 0; i < 16; i++)
		same += clock_chance() == first;
	assert_true(same < 4);
}
