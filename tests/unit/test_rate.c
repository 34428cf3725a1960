#include "tests/unit/test.h"

#include "policy/rate.h"

#include "common/clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Wednesday, 2026-11-25, at that time UTC. */
static int64_t wednesday(const char *time)
{
	char text[40] = "2026-11-25T";
	int64_t s = 0;
	setenv("TZ", "UTC", 1);
	tzset();
	strcat(strcat(text, time), ":00Z");
	assert_int_equal(clock_parse_rfc3339(text, &s), 0);
	return s;
}

struct rules {
	struct rate_rule r[8];
	size_t n;
};

static struct rules parse(const char *const *texts)
{
	struct rules all = { .n = 0 };
	struct err e = {0};
	for (; *texts; texts++)
		assert_ok(rate_parse(*texts, &all.r[all.n++], &e));
	return all;
}
#define RULES(...) parse((const char *const[]){__VA_ARGS__, NULL})

static const uint64_t plain[RATE_SCOPES] = {1000, 2000, 3000};

TEST(rate_parse__window_rate_and_scope__read)
{
	struct rules a =
	    RULES("Mon-Fri 08:00-18:00 200k", "22:00-05:00 0",
		  "Sat,Sun 00:00-24:00  5M\tcloud", "6:00-7:00 8000 on-prem");
	assert_int_equal(a.r[0].rate, 200 << 10);
	assert_int_equal(a.r[0].scope, RATE_ALL);
	assert_int_equal(a.r[0].window.from_min, 480);
	assert_int_equal(a.r[1].rate, 0);
	assert_int_equal(a.r[1].window.days, 0x7f);
	assert_int_equal(a.r[2].rate, 5 << 20);
	assert_int_equal(a.r[2].scope, RATE_CLOUD);
	assert_int_equal(a.r[3].scope, RATE_ON_PREM);
	assert_int_equal(a.r[3].rate, 8000);
}

TEST(rate_parse__anything_else__refused)
{
	static const char *const bad[] = {
	    "",
	    "200k",
	    "08:00-18:00",
	    "Mon-Fri 08:00-18:00",
	    "08:00-18:00 fast",
	    "08:00-18:00 200k peers",
	    "08:00-18:00 -1",
	    "08:00-18:00 1.5M",
	    "200k 08:00-18:00",
	    "08:00-18:00 cloud",
	    "8-9 200k",
	    "cloud",
	    "Mo-Fr 08:00-18:00 200k",
	    "08:00-18:00 200k 300k",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct err e = {0};
		struct rate_rule r = { .rate = 42 };
		assert_err(rate_parse(bad[i], &r, &e), ERR_CONFIG);
		assert_int_equal(r.rate, 42);
		assert_non_null(strstr(e.text, "must be a window and a rate"));
	}
}

TEST(rate_at__no_rules__the_plain_rates_for_ever)
{
	uint64_t out[RATE_SCOPES];
	assert_true(rate_at(NULL, 0, plain, wednesday("12:00"), out) == INT64_MAX);
	assert_memory_equal(out, plain, sizeof(out));
}

TEST(rate_at__a_window_opens_and_ends__the_rate_changes_there)
{
	struct rules a = RULES("Mon-Fri 08:00-18:00 200", "12:00-13:00 0 cloud");
	uint64_t out[RATE_SCOPES];
	int64_t next = rate_at(a.r, a.n, plain, wednesday("07:59"), out);
	assert_true(next == wednesday("08:00"));
	assert_memory_equal(out, plain, sizeof(out));
	next = rate_at(a.r, a.n, plain, next, out);
	assert_true(next == wednesday("12:00"));
	assert_int_equal(out[RATE_ALL], 200);
	assert_int_equal(out[RATE_CLOUD], 3000);
	next = rate_at(a.r, a.n, plain, next, out);
	assert_true(next == wednesday("13:00"));
	assert_int_equal(out[RATE_ALL], 200);
	assert_int_equal(out[RATE_ON_PREM], 2000);
	assert_int_equal(out[RATE_CLOUD], 0);
	assert_true(rate_at(a.r, a.n, plain, next, out) == wednesday("18:00"));
}

TEST(rate_at__several_are_open__the_first_of_each_scope_counts)
{
	struct rules a = RULES("12:00-13:00 1 cloud", "08:00-18:00 2",
			       "08:00-18:00 3 cloud", "00:00-24:00 4");
	uint64_t out[RATE_SCOPES];
	rate_at(a.r, a.n, plain, wednesday("12:30"), out);
	assert_int_equal(out[RATE_CLOUD], 1);
	assert_int_equal(out[RATE_ALL], 2);
	rate_at(a.r, a.n, plain, wednesday("13:30"), out);
	assert_int_equal(out[RATE_CLOUD], 3);
	rate_at(a.r, a.n, plain, wednesday("20:00"), out);
	assert_int_equal(out[RATE_CLOUD], 3000);
	assert_int_equal(out[RATE_ALL], 4);
}

TEST(rate_width__by_rate__each_connection_has_enough)
{
	assert_int_equal(rate_width(0, 8), 8);
	assert_int_equal(rate_width(8000, 8), 1);
	assert_int_equal(rate_width(64 << 10, 8), 2);
	assert_int_equal(rate_width(2 << 20, 8), 8);
	assert_int_equal(rate_width(2 << 20, 1), 1);
}
