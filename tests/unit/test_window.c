#include "tests/unit/test.h"

#include "policy/window.h"

#include "common/clock.h"
#include "common/err.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DAY_S 86400LL
#define TEN_YEARS_S (3653 * DAY_S)

/* The machine stands in this zone while the test runs. */
static void own_zone(const char **zone)
{
	(void)zone;
	unsetenv("TZ");
	tzset();
}
#define ZONE(name) \
	__attribute__((cleanup(own_zone))) const char *zone = name; \
	setenv("TZ", zone, 1)

static int64_t at(const char *text)
{
	int64_t s = 0;
	assert_int_equal(clock_parse_rfc3339(text, &s), 0);
	return s;
}

static void assert_time(int64_t is_s, const char *want)
{
	char text[CLOCK_RFC3339_SIZE];
	clock_rfc3339(is_s, text);
	if (is_s != at(want))
		fail_msg("%s, not %s", is_s == INT64_MAX ? "never" : text, want);
}

/* Windows from texts, "" ends them. */
struct some {
	struct window w[WINDOW_MAX];
	size_t count;
};
static struct some parse(const char *const *texts)
{
	struct some s = { .count = 0 };
	struct err e = { 0 };
	for (; (*texts)[0]; texts++)
		assert_ok(window_parse(*texts, &s.w[s.count++], &e));
	return s;
}
#define WINDOWS(...) parse((const char *const[]){ __VA_ARGS__, "" })

TEST(window_parse__days_and_times__read)
{
	static const struct {
		const char *text;
		unsigned days, from, to;
	} cases[] = {
		{ "Mon-Fri 19:00-06:00", 0x3e, 1140, 360 },
		{ "Sat,Sun 00:00-24:00", 0x41, 0, 1440 },
		{ "22:00-05:00", 0x7f, 1320, 300 },
		{ "Sat-Mon 8:00-12:00", 0x43, 480, 720 },
		{ "wed 0:00-0:01", 0x08, 0, 1 },
		{ "MON-TUE,thu,Sat-Sun \t 23:59-00:00", 0x57, 1439, 0 },
		{ "Tue-Mon 12:00-12:00", 0x7f, 720, 720 },
		{ "Fri-Fri 1:00-2:00", 0x20, 60, 120 },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct window w = { 0 };
		struct err e = { 0 };
		assert_ok(window_parse(cases[i].text, &w, &e));
		assert_int_equal(w.days, cases[i].days);
		assert_int_equal(w.from_min, cases[i].from);
		assert_int_equal(w.to_min, cases[i].to);
	}
}

TEST(window_check__anything_else__refused_with_the_reason)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{ "", "days are Sun Mon" },
		{ "Montag 8:00-9:00", "no blank between" },
		{ "Xyz 8:00-9:00", "days are Sun Mon" },
		{ "Mo", "days are Sun Mon" },
		{ "Mon", "no blank between" },
		{ "Mon ", "it begins at" },
		{ "Mon-", "no day behind" },
		{ "Mon-Fri-Sat 8:00-9:00", "no blank between" },
		{ "Mon, Tue 8:00-9:00", "days are Sun Mon" },
		{ "Mon,,Tue 8:00-9:00", "days are Sun Mon" },
		{ "Mon8:00-9:00", "no blank between" },
		{ " 8:00-9:00", "days are Sun Mon" },
		{ "24:00-9:00", "it begins at" },
		{ "25:00-9:00", "it begins at" },
		{ "8:60-9:00", "it begins at" },
		{ "008:00-9:00", "it begins at" },
		{ "8-9", "it begins at" },
		{ "8:0-9:00", "it begins at" },
		{ ":00-9:00", "days are Sun Mon" },
		{ "8:00", "no '-'" },
		{ "8:00 - 9:00", "no '-'" },
		{ "8:00-", "it ends at" },
		{ "8:00-24:01", "it ends at" },
		{ "8:00-99:00", "it ends at" },
		{ "8:00-9:00 ", "more text behind" },
		{ "8:00-9:00, 10:00-11:00", "more text behind" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err e = { 0 };
		assert_err(window_check(cases[i].text, &e), ERR_CONFIG);
		if (!strstr(e.text, cases[i].why) ||
		    strncmp(e.text, "must be ", 8) != 0)
			fail_msg("\"%s\": %s", cases[i].text, e.text);
	}
}

TEST(window__none__always_open)
{
	assert_int_equal(window_next_open(NULL, 0, 77), 77);
	assert_true(window_end(NULL, 0, 77) == INT64_MAX);
	assert_int_equal(window_seconds(NULL, 0, 100, 160), 60);
	assert_int_equal(window_seconds(NULL, 0, 160, 100), 0);
	assert_int_equal(window_nth(NULL, 0, 100, 60), 160);
	assert_true(window_nth(NULL, 0, 100, INT64_MAX) == INT64_MAX);
}

TEST(window__nights_of_working_days__open_from_evening_to_morning)
{
	ZONE("UTC");
	struct some s = WINDOWS("Mon-Fri 19:00-06:00");
	/* Friday; its night ends on Saturday, then nothing till Monday. */
	assert_time(window_next_open(s.w, 1, at("2026-11-20T12:00:00Z")),
		    "2026-11-20T19:00:00Z");
	assert_time(window_next_open(s.w, 1, at("2026-11-20T19:00:00Z")),
		    "2026-11-20T19:00:00Z");
	assert_time(window_next_open(s.w, 1, at("2026-11-21T05:59:59Z")),
		    "2026-11-21T05:59:59Z");
	assert_time(window_next_open(s.w, 1, at("2026-11-21T06:00:00Z")),
		    "2026-11-23T19:00:00Z");
	/* Monday 00:00 belongs to Sunday's night, which is none. */
	assert_time(window_next_open(s.w, 1, at("2026-11-23T03:00:00Z")),
		    "2026-11-23T19:00:00Z");
	assert_time(window_end(s.w, 1, at("2026-11-20T23:00:00Z")),
		    "2026-11-21T06:00:00Z");
	assert_time(window_end(s.w, 1, at("2026-11-21T12:00:00Z")),
		    "2026-11-21T12:00:00Z");
	assert_int_equal(window_seconds(s.w, 1, at("2026-11-16T00:00:00Z"),
					at("2026-11-23T00:00:00Z")), 5 * 11 * 3600);
	assert_time(window_nth(s.w, 1, at("2026-11-20T12:00:00Z"), 11 * 3600 - 1),
		    "2026-11-21T05:59:59Z");
	assert_time(window_nth(s.w, 1, at("2026-11-20T12:00:00Z"), 11 * 3600),
		    "2026-11-23T19:00:00Z");
}

TEST(window__several_that_touch_or_overlap__are_one)
{
	ZONE("UTC");
	struct some s = WINDOWS("Mon 08:00-12:00", "Mon 12:00-14:00",
				"Mon 13:00-16:00", "Mon 09:00-10:00");
	int64_t monday = at("2026-11-23T00:00:00Z");
	assert_time(window_end(s.w, s.count, monday + 9 * 3600),
		    "2026-11-23T16:00:00Z");
	assert_int_equal(window_seconds(s.w, s.count, monday, monday + DAY_S),
			 8 * 3600);
	/* over the end of the week as well: Saturday night, Sunday */
	struct some week = WINDOWS("Sat 20:00-24:00", "Sun 00:00-10:00",
				   "Sun 10:00-08:00");
	assert_time(window_end(week.w, week.count, at("2026-11-21T21:00:00Z")),
		    "2026-11-23T08:00:00Z");
}

TEST(window__whole_week__never_ends)
{
	ZONE("Europe/Berlin");
	struct some s = WINDOWS("00:00-24:00"), nights = WINDOWS("12:00-12:00");
	int64_t now = at("2026-11-20T12:34:56Z");
	assert_true(window_end(s.w, 1, now) == INT64_MAX);
	assert_true(window_end(nights.w, 1, now) == INT64_MAX);
	assert_int_equal(window_next_open(s.w, 1, now), now);
	assert_int_equal(window_seconds(s.w, 1, now, now + 400 * DAY_S), 400 * DAY_S);
	assert_int_equal(window_nth(s.w, 1, now, 400 * DAY_S), now + 400 * DAY_S);
}

TEST(window__week_that_wraps__saturday_to_monday)
{
	ZONE("UTC");
	struct some s = WINDOWS("Sat-Mon 22:00-02:00");
	assert_time(window_next_open(s.w, 1, at("2026-11-18T00:00:00Z")),
		    "2026-11-21T22:00:00Z");
	assert_time(window_end(s.w, 1, at("2026-11-21T23:00:00Z")),
		    "2026-11-22T02:00:00Z");
	assert_time(window_next_open(s.w, 1, at("2026-11-24T01:59:59Z")),
		    "2026-11-24T01:59:59Z");
	assert_time(window_next_open(s.w, 1, at("2026-11-24T02:00:00Z")),
		    "2026-11-28T22:00:00Z");
}

TEST(window__berlin__local_time_counts)
{
	ZONE("Europe/Berlin");
	struct some s = WINDOWS("Mon-Fri 19:00-06:00");
	assert_time(window_next_open(s.w, 1, at("2026-11-20T12:00:00Z")),
		    "2026-11-20T18:00:00Z");
	assert_time(window_next_open(s.w, 1, at("2026-07-20T12:00:00Z")),
		    "2026-07-20T17:00:00Z");
}

TEST(window__clocks_go_forward__an_hour_shorter)
{
	ZONE("Europe/Berlin"); /* 2026-03-29, 02:00 becomes 03:00 */
	struct some night = WINDOWS("22:00-06:00"), gone = WINDOWS("02:15-02:45");
	struct some edge = WINDOWS("02:30-04:00");
	int64_t evening = at("2026-03-28T12:00:00Z");
	assert_int_equal(window_seconds(night.w, 1, evening, evening + DAY_S),
			 7 * 3600);
	assert_time(window_end(night.w, 1, at("2026-03-28T23:00:00Z")),
		    "2026-03-29T04:00:00Z");
	assert_int_equal(window_seconds(gone.w, 1, evening, evening + DAY_S), 0);
	assert_time(window_next_open(gone.w, 1, at("2026-03-28T12:00:00Z")),
		    "2026-03-30T00:15:00Z");
	assert_time(window_next_open(edge.w, 1, evening), "2026-03-29T01:00:00Z");
}

TEST(window__clocks_go_back__an_hour_longer)
{
	ZONE("Europe/Berlin"); /* 2026-10-25, 03:00 becomes 02:00 */
	struct some night = WINDOWS("22:00-06:00"), twice = WINDOWS("02:15-02:45");
	int64_t evening = at("2026-10-24T12:00:00Z");
	assert_int_equal(window_seconds(night.w, 1, evening, evening + DAY_S),
			 9 * 3600);
	assert_time(window_end(night.w, 1, at("2026-10-24T23:00:00Z")),
		    "2026-10-25T05:00:00Z");
	/* A clock on the wall shows these times twice. */
	assert_int_equal(window_seconds(twice.w, 1, evening, evening + DAY_S), 3600);
	assert_time(window_next_open(twice.w, 1, evening), "2026-10-25T00:15:00Z");
	assert_time(window_next_open(twice.w, 1, at("2026-10-25T00:45:00Z")),
		    "2026-10-25T01:15:00Z");
}

TEST(window__zone_changes_while_we_run__noticed)
{
	struct some s = WINDOWS("08:00-09:00");
	{
		ZONE("UTC");
		assert_time(window_next_open(s.w, 1, at("2026-11-20T00:00:00Z")),
			    "2026-11-20T08:00:00Z");
	}
	ZONE("America/New_York");
	assert_time(window_next_open(s.w, 1, at("2026-11-20T00:00:00Z")),
		    "2026-11-20T13:00:00Z");
}

/* What a clock on the wall says, without any cleverness. */
static bool is_open(const struct some *s, int64_t at_s)
{
	time_t t = (time_t)at_s;
	struct tm tm;
	localtime_r(&t, &tm);
	int now = tm.tm_hour * 60 + tm.tm_min;
	for (size_t i = 0; i < s->count; i++) {
		const struct window *w = &s->w[i];
		bool today = w->days & 1u << tm.tm_wday;
		bool before = w->days & 1u << (tm.tm_wday + 6) % 7;
		if (w->to_min > w->from_min
			    ? today && now >= w->from_min && now < w->to_min
			    : (today && now >= w->from_min) ||
				      (before && now < w->to_min))
			return true;
	}
	return false;
}

/* All answers about the days from from_s on, against every single minute. */
static void compare(const struct some *s, int64_t from_s, int64_t days)
{
	int64_t minutes = days * 1440, open = 0, next = INT64_MAX, end = INT64_MAX;
	bool *state = calloc((size_t)minutes, sizeof(*state));
	assert_non_null(state);
	for (int64_t i = 0; i < minutes; i++) {
		state[i] = is_open(s, from_s + i * 60);
		if (state[i] && window_nth(s->w, s->count, from_s, open * 60) !=
					from_s + i * 60)
			fail_msg("open minute %d", (int)i);
		open += state[i];
	}
	assert_int_equal(window_seconds(s->w, s->count, from_s,
					from_s + minutes * 60), open * 60);
	for (int64_t i = minutes - 1; i >= 0; i--) {
		int64_t at_s = from_s + i * 60;
		next = state[i] ? at_s : next;
		end = state[i] ? end : at_s;
		if (next != INT64_MAX &&
		    window_next_open(s->w, s->count, at_s) != next)
			fail_msg("opens after minute %d", (int)i);
		if (end != INT64_MAX && window_end(s->w, s->count, at_s) != end)
			fail_msg("ends after minute %d", (int)i);
	}
	free(state);
}

TEST(window__every_minute_round_changes_of_clocks__as_the_clock_on_the_wall)
{
	static const char *const zones[] = { "UTC", "Europe/Berlin",
					     "America/New_York", "Asia/Kathmandu",
					     "Australia/Lord_Howe", "Africa/Casablanca",
					     "America/Havana" };
	static const char *const starts[] = { "2026-03-05T00:00:00Z",
					      "2026-03-25T10:17:00Z",
					      "2026-10-20T23:00:00Z",
					      "2026-10-30T05:00:00Z" };
	struct some sets[] = {
		WINDOWS("Mon-Fri 19:00-06:00"),
		WINDOWS("Sat,Sun 00:00-24:00", "22:00-02:30"),
		WINDOWS("Sun 01:00-02:00", "Sun 02:00-03:00", "Sun-Sun 00:30-01:10"),
		WINDOWS("Sat-Mon 23:59-23:58"),
	};
	for (size_t z = 0; z < sizeof(zones) / sizeof(zones[0]); z++) {
		ZONE(zones[z]);
		tzset();
		for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
			for (size_t k = 0; k < sizeof(starts) / sizeof(starts[0]); k++)
				compare(&sets[i], at(starts[k]), 9);
	}
}

TEST(window__what_never_opens_or_lies_too_far__ends_after_ten_years)
{
	ZONE("UTC");
	const struct window never = { .days = 0, .from_min = 0, .to_min = 60 };
	struct some s = WINDOWS("Sun 00:00-00:01");
	int64_t now = at("2026-11-20T00:00:00Z");
	assert_true(window_next_open(&never, 1, now) == INT64_MAX);
	assert_int_equal(window_end(&never, 1, now), now);
	assert_int_equal(window_seconds(&never, 1, now, INT64_MAX), 0);
	assert_true(window_nth(&never, 1, now, 0) == INT64_MAX);
	/* a minute a week is 521 or 522 minutes */
	int64_t open = window_seconds(s.w, 1, now, INT64_MAX);
	assert_in_range(open, 521 * 60, 522 * 60);
	int64_t last = window_nth(s.w, 1, now, open - 1);
	assert_in_range(last, now + TEN_YEARS_S - 8 * DAY_S, now + TEN_YEARS_S);
	assert_true(window_nth(s.w, 1, now, open) == INT64_MAX);
	assert_true(window_nth(s.w, 1, now, INT64_MAX) == INT64_MAX);
	assert_true(window_next_open(s.w, 1, INT64_MAX) == INT64_MAX);
	assert_true(window_next_open(s.w, 1, INT64_MIN) < at("0001-01-01T00:00:00Z"));
	assert_int_equal(window_seconds(s.w, 1, INT64_MAX, INT64_MIN), 0);
}

TEST(window__as_many_as_there_may_be__every_day_in_pieces)
{
	ZONE("UTC");
	struct some s = { .count = WINDOW_MAX };
	int64_t now = at("2026-11-20T00:00:00Z");
	for (size_t i = 0; i < WINDOW_MAX; i++)
		s.w[i] = (struct window){ 0x7f, (uint16_t)(i * 40),
					  (uint16_t)(i * 40 + 20) };
	s.w[WINDOW_MAX - 1].to_min = 10; /* over midnight, seven times */
	assert_int_equal(window_seconds(s.w, s.count, now + 600,
					now + 600 + 70 * DAY_S),
			 70 * ((WINDOW_MAX - 1) * 1200LL + 12000));
}
