#include "tests/unit/test.h"

#include "policy/due.h"

#include "common/clock.h"
#include "common/err.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HOUR_S 3600LL
#define DAY_S 86400LL
#define CLIENTS 10000
#define SLICES 20

static const char *const client = "GUID:4F0E7B1C-0000-4000-8000-123456789ABC";
static char no_id[] = "";

static int64_t at(const char *text)
{
	int64_t s = 0;
	assert_int_equal(clock_parse_rfc3339(text, &s), 0);
	return s;
}

/* Required, with a hash, three days: 2026-11-22 to 2026-11-25. */
static struct deployment deployment(void)
{
	struct deployment d = {
		.id = no_id, .name = no_id, .site_hash = no_id,
		.content = { .id = "ABC00042", .version = 3, .has_version = true },
		.is_required = true, .priority = 1,
		.available_s = at("2026-11-22T00:00:00Z"),
		.deadline_s = at("2026-11-25T00:00:00Z"),
	};
	memset(d.hash, 'a', sizeof(d.hash) - 1);
	return d;
}

static struct due_answer decide(const struct deployment *d,
				const struct due_past *past, int64_t now_s)
{
	struct due_rules rules = { .client_id = client, .now_s = now_s };
	struct due_answer a;
	due_decide(d, past, &rules, &a);
	if (a.state == DUE_LATER && a.at_s <= now_s)
		fail_msg("waits for the past: %s", a.reason);
	if (!a.reason[0] || a.reason[sizeof(a.reason) - 1])
		fail_msg("no reason");
	return a;
}

static void assert_reason(const struct due_answer *a, enum due_state state,
			  const char *part)
{
	if (a->state != state || !strstr(a->reason, part))
		fail_msg("state %d: %s", (int)a->state, a->reason);
}

TEST(due_decide__what_no_time_changes__said_first)
{
	struct deployment d = deployment();
	struct due_past past = { .is_here = true, .failed_s = 1, .delay_s = 9 };
	struct due_rules rules = { .client_id = client, .now_s = d.deadline_s,
				   .newer_version = 4 };
	struct due_answer a;
	due_decide(&d, &past, &rules, &a);
	assert_reason(&a, DUE_DONE, "it is here");
	past = (struct due_past){ 0 };
	due_decide(&d, &past, &rules, &a);
	assert_reason(&a, DUE_SUPERSEDED, "version 4 is deployed");
	rules.newer_version = 0;
	d.is_required = false;
	due_decide(&d, &past, &rules, &a);
	assert_reason(&a, DUE_ON_REQUEST, "purpose = available: only when asked for");
	assert_null(strstr(a.reason, "hash"));
	d.hash[0] = '\0';
	due_decide(&d, &past, &rules, &a);
	assert_reason(&a, DUE_ON_REQUEST, "nobody named its hash");
	d.is_required = true;
	due_decide(&d, &past, &rules, &a);
	assert_reason(&a, DUE_NO_HASH, "nobody named a content hash");
	char site_hash[] = "99";
	d.site_hash = site_hash;
	due_decide(&d, &past, &rules, &a);
	assert_reason(&a, DUE_NO_HASH, "name the content hash in a file of [policy] "
				       "local");
}

TEST(due_decide__between_available_and_deadline__this_clients_place)
{
	struct deployment d = deployment();
	struct due_past past = { 0 };
	struct due_answer a = decide(&d, &past, d.available_s - DAY_S);
	assert_reason(&a, DUE_LATER, "this client's place between available "
		      "2026-11-22T00:00:00Z and deadline 2026-11-25T00:00:00Z is 2026");
	assert_in_range(a.planned_s, d.available_s,
			d.available_s + (d.deadline_s - d.available_s) * 3 / 4);
	assert_int_equal(a.at_s, a.planned_s);
	assert_false(a.is_urgent);
	/* It stays where it is. */
	struct due_answer b = decide(&d, &past, a.planned_s - 1);
	assert_int_equal(b.planned_s, a.planned_s);
	assert_int_equal(b.state, DUE_LATER);
	b = decide(&d, &past, a.planned_s);
	assert_reason(&b, DUE_NOW,
		      "its place between 2026-11-22T00:00:00Z and deadline");
	assert_false(b.is_urgent);
	/* Another client, another content: another place. */
	struct due_rules rules = { .client_id = "GUID:2", .now_s = d.available_s };
	due_decide(&d, &past, &rules, &b);
	assert_int_not_equal(b.planned_s, a.planned_s);
	d.content.version = 4;
	b = decide(&d, &past, d.available_s);
	assert_int_not_equal(b.planned_s, a.planned_s);
}

TEST(due_decide__share__that_of_sha256)
{
	/* printf 'GUID:...\0ABC00042.3' | sha256sum: the first 64 bits, of 75 per
	 * cent of three days. */
	struct deployment d = deployment();
	struct due_past past = { 0 };
	struct due_answer a = decide(&d, &past, d.available_s - 1);
	assert_int_equal(a.planned_s - d.available_s, 155157);
}

TEST(due_decide__without_deadline__when_available)
{
	struct deployment d = deployment();
	struct due_past past = { .first_seen_s = 5 };
	d.deadline_s = 0;
	struct due_answer a = decide(&d, &past, d.available_s - 10);
	assert_reason(&a, DUE_LATER, "available at 2026-11-22T00:00:00Z");
	assert_int_equal(a.at_s, d.available_s);
	assert_int_equal(a.planned_s, 0);
	a = decide(&d, &past, d.available_s);
	assert_reason(&a, DUE_NOW, "available since 2026-11-22T00:00:00Z");
	d.available_s = 0;
	a = decide(&d, &past, 77);
	assert_reason(&a, DUE_NOW, "available since 1970-01-01T00:00:05Z");
}

TEST(due_decide__without_available__from_when_it_was_first_seen)
{
	struct deployment d = deployment();
	struct due_past past = { .first_seen_s = d.available_s + DAY_S };
	d.available_s = 0;
	struct due_answer a = decide(&d, &past, past.first_seen_s);
	assert_reason(&a, DUE_LATER, "first sight 2026-11-23T00:00:00Z and deadline");
	assert_in_range(a.planned_s, past.first_seen_s, d.deadline_s - DAY_S / 2);
	assert_int_equal(decide(&d, &past, a.planned_s - 1).planned_s, a.planned_s);
	assert_int_equal(decide(&d, &past, a.planned_s).state, DUE_NOW);
	/* not seen yet */
	past.first_seen_s = 0;
	a = decide(&d, &past, d.deadline_s - 4);
	assert_in_range(a.planned_s, d.deadline_s - 4, d.deadline_s - 1);
}

TEST(due_decide__past_the_deadline__now_whatever_the_windows_say)
{
	struct deployment d = deployment();
	struct due_past past = { 0 };
	struct err e = { 0 };
	struct window night;
	assert_ok(window_parse("Mon 02:00-02:01", &night, &e));
	struct due_rules rules = { client, &night, 1, d.deadline_s, 0 };
	struct due_answer a;
	due_decide(&d, &past, &rules, &a);
	assert_reason(&a, DUE_NOW, "past its deadline of 2026-11-25T00:00:00Z");
	assert_true(a.is_urgent);
	/* but not faster than its failures allow */
	past = (struct due_past){ .tries = 3, .failed_s = d.deadline_s - 10,
				  .delay_s = 240 };
	due_decide(&d, &past, &rules, &a);
	assert_reason(&a, DUE_LATER, "failed 3 times, next try at "
				     "2026-11-25T00:03:50Z");
	assert_true(a.is_urgent);
	assert_int_equal(a.at_s, d.deadline_s + 230);
	/* first seen when it was over */
	d.available_s = 0;
	past = (struct due_past){ .first_seen_s = d.deadline_s + 5 };
	a = decide(&d, &past, d.deadline_s + 6);
	assert_int_equal(a.state, DUE_NOW);
	assert_true(a.is_urgent);
}

TEST(due_decide__windows__waits_for_the_next_one)
{
	struct deployment d = deployment();
	struct due_past past = { 0 };
	struct err e = { 0 };
	struct window w;
	struct due_answer a;
	setenv("TZ", "UTC", 1);
	assert_ok(window_parse("Mon-Fri 19:00-06:00", &w, &e));
	struct due_rules rules = { client, &w, 1, at("2026-11-21T12:00:00Z"), 0 };
	/* from Sunday 00:00 to Wednesday 00:00: two nights */
	due_decide(&d, &past, &rules, &a);
	assert_int_equal(window_next_open(&w, 1, a.planned_s), a.planned_s);
	assert_reason(&a, DUE_LATER, "this client's place between available");
	/* it was off at its place, and wakes up outside of the window */
	rules.now_s = at("2026-11-24T12:00:00Z");
	due_decide(&d, &past, &rules, &a);
	assert_reason(&a, DUE_LATER, "waits for a window: the next one opens at "
				     "2026-11-24T19:00:00Z");
	assert_int_equal(a.at_s, at("2026-11-24T19:00:00Z"));
	rules.now_s = a.at_s;
	due_decide(&d, &past, &rules, &a);
	assert_int_equal(a.state, DUE_NOW);
	/* no window any more before the deadline */
	d.deadline_s = at("2026-11-24T18:00:00Z");
	rules.now_s = at("2026-11-24T12:00:00Z");
	due_decide(&d, &past, &rules, &a);
	assert_reason(&a, DUE_LATER, "comes at the deadline, 2026-11-24T18:00:00Z");
	assert_int_equal(a.at_s, d.deadline_s);
	/* none at all between the two */
	d.available_s = at("2026-11-24T07:00:00Z");
	due_decide(&d, &past, &rules, &a);
	assert_int_equal(a.planned_s, d.deadline_s);
	assert_reason(&a, DUE_LATER, "no window is open before its deadline");
	/* no deadline */
	d.deadline_s = 0;
	due_decide(&d, &past, &rules, &a);
	assert_int_equal(a.at_s, at("2026-11-24T19:00:00Z"));
	/* a failure's delay that ends outside of the window */
	past = (struct due_past){ .tries = 1, .delay_s = 60,
				  .failed_s = at("2026-11-25T05:59:30Z") };
	rules.now_s = past.failed_s + 1;
	due_decide(&d, &past, &rules, &a);
	assert_reason(&a, DUE_LATER, "opens at 2026-11-25T19:00:00Z");
	w.days = 0;
	due_decide(&d, &past, &rules, &a);
	assert_reason(&a, DUE_LATER, "no window opens within ten years");
	assert_true(a.at_s == INT64_MAX);
	unsetenv("TZ");
}

/* How many of the fleet come in each slice of the open time of the spread. */
static void assert_even(const struct window *w, size_t count)
{
	struct deployment d = deployment();
	struct due_past past = { 0 };
	unsigned slices[SLICES] = { 0 };
	int64_t open_s = window_seconds(w, count, d.available_s, d.deadline_s);
	int64_t spread_s = open_s * DUE_SPREAD / 100;
	for (unsigned i = 0; i < CLIENTS; i++) {
		char id[64];
		struct due_answer a;
		snprintf(id, sizeof(id), "GUID:%08X-0000-4000-8000-123456789ABC", i);
		struct due_rules rules = { id, w, count, d.available_s - 1, 0 };
		due_decide(&d, &past, &rules, &a);
		assert_int_equal(window_next_open(w, count, a.planned_s), a.planned_s);
		int64_t passed_s =
			window_seconds(w, count, d.available_s, a.planned_s);
		assert_in_range(passed_s, 0, spread_s - 1);
		slices[passed_s * SLICES / spread_s]++;
	}
	for (unsigned i = 0; i < SLICES; i++)
		if (slices[i] * 10 > CLIENTS / SLICES * 13 ||
		    slices[i] * 13 < CLIENTS / SLICES * 10)
			fail_msg("slice %u of %u has %u of %u clients", i, SLICES,
				 slices[i], CLIENTS);
}

TEST(due_decide__ten_thousand_clients__come_evenly)
{
	assert_even(NULL, 0);
}

TEST(due_decide__ten_thousand_clients_with_windows__come_evenly_in_them)
{
	struct window w[2];
	struct err e = { 0 };
	setenv("TZ", "Europe/Berlin", 1);
	assert_ok(window_parse("Mon-Fri 19:00-06:00", &w[0], &e));
	assert_ok(window_parse("Sun 12:00-13:00", &w[1], &e));
	assert_even(w, 2);
	unsetenv("TZ");
}

/* ---- failures ---- */

static struct err failure(enum err_code code, unsigned retry_after_s)
{
	return (struct err){ .code = code, .retry_after_s = retry_after_s };
}

TEST(due_failed__again_and_again__grows_to_the_cap)
{
	struct due_past low = { 0 }, high = { 0 };
	struct err why = failure(ERR_CONNECT, 0);
	int64_t now = 1000000, want = DUE_DELAY_MIN_S;
	for (unsigned i = 1; i <= 40; i++) {
		due_failed(&low, &why, now, 0);
		due_failed(&high, &why, now, UINT32_MAX);
		assert_int_equal(high.tries, i);
		assert_int_equal(high.failed_s, now);
		assert_int_equal(high.delay_s, want);
		assert_int_equal(low.delay_s, want / 2);
		want = want * 2 < DUE_DELAY_MAX_S ? want * 2 : DUE_DELAY_MAX_S;
		now += 5;
	}
	high.tries = UINT_MAX;
	due_failed(&high, &why, now, UINT32_MAX);
	assert_int_equal(high.tries, UINT_MAX);
	assert_int_equal(high.delay_s, DUE_DELAY_MAX_S);
}

TEST(due_failed__retry_after__where_it_is_longer_up_to_the_cap)
{
	struct due_past past = { 0 };
	struct err why = failure(ERR_BUSY, 600);
	due_failed(&past, &why, 1000, UINT32_MAX);
	assert_int_equal(past.delay_s, 600);
	why.retry_after_s = 5;
	due_failed(&past, &why, 1000, UINT32_MAX);
	assert_int_equal(past.delay_s, 120);
	why.retry_after_s = UINT_MAX;
	due_failed(&past, &why, 1000, UINT32_MAX);
	assert_int_equal(past.delay_s, DUE_DELAY_MAX_S);
	why = failure(ERR_NO_LOCATION, 7200);
	due_failed(&past, &why, 1000, 0);
	assert_int_equal(past.delay_s, 7200);
}

TEST(due_failed__nobodys_fault__not_counted)
{
	static const enum err_code codes[] = { ERR_LOCKED, ERR_SIGTERM, ERR_SIGINT,
					       ERR_NOT_DUE, ERR_WITHDRAWN };
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		struct due_past past = { .tries = 7, .search_since_s = 900 };
		struct err why = failure(codes[i], 0);
		due_failed(&past, &why, 1000, 0);
		assert_int_equal(past.tries, 7);
		assert_int_equal(past.failed_s, 1000);
		bool is_signal = codes[i] == ERR_SIGTERM || codes[i] == ERR_SIGINT;
		assert_int_equal(past.delay_s, is_signal ? 1 : DUE_DELAY_MIN_S);
		assert_int_equal(past.search_since_s, 900);
	}
	struct due_past past = { 0 };
	struct deployment d = deployment();
	struct err why = failure(ERR_SIGTERM, 0);
	due_failed(&past, &why, d.deadline_s, 0);
	struct due_answer a = decide(&d, &past, d.deadline_s);
	assert_reason(&a, DUE_LATER, "was interrupted, goes on at");
}

/* Ask whenever it is due; the times of the questions until it gives up. */
static unsigned search(struct due_past *past, int64_t *now_s, enum err_code code,
		       uint32_t chance)
{
	struct deployment d = deployment();
	struct err why = failure(code, 0);
	unsigned asked = 0;
	d.available_s = d.deadline_s = 0;
	do {
		due_failed(past, &why, *now_s, chance);
		struct due_answer a = decide(&d, past, *now_s);
		assert_int_equal(a.state, DUE_LATER);
		if (past->has_given_up) {
			assert_int_equal(a.gives_up_s, 0);
			assert_reason(&a, DUE_LATER, "no source in 8 hours of search: "
						     "searches again at ");
		} else {
			assert_in_range(a.at_s, *now_s + 1, *now_s + HOUR_S);
			assert_int_equal(a.gives_up_s,
					 past->search_since_s + DUE_SEARCH_S);
			assert_reason(&a, DUE_LATER, "no source so far: asks again at");
		}
		*now_s = a.at_s;
		assert_int_equal(decide(&d, past, *now_s).state, DUE_NOW);
	} while (++asked < 1000 && !past->has_given_up);
	return asked;
}

TEST(due_failed__no_location__searched_for_eight_hours)
{
	static const uint32_t chances[] = { 0, 1u << 30, UINT32_MAX };
	for (size_t i = 0; i < 3; i++) {
		struct due_past past = { 0 };
		int64_t begin = 1000000, now = begin;
		unsigned asked = search(&past, &now, ERR_NO_LOCATION, chances[i]);
		assert_in_range(asked, 10, 25);
		/* The last question came when the time was over. */
		assert_in_range(past.failed_s, begin + DUE_SEARCH_S,
				begin + DUE_SEARCH_S + DUE_DELAY_MIN_S);
		assert_int_equal(now, past.failed_s + DUE_DELAY_MAX_S);
		/* The next search begins anew, and has its eight hours. */
		begin = now;
		search(&past, &now, ERR_CLOUD_REFUSED, chances[i]);
		assert_in_range(past.failed_s, begin + DUE_SEARCH_S,
				begin + DUE_SEARCH_S + DUE_DELAY_MIN_S);
	}
}

TEST(due_failed__other_errors_during_a_search__end_it_or_not)
{
	static const struct {
		enum err_code code;
		bool goes_on;
	} cases[] = {
		{ ERR_MP, true }, { ERR_MP_STATUS, true }, { ERR_MP_REPLY, true },
		{ ERR_NET_DIED, true }, { ERR_NOMEM, true }, { ERR_LOCKED, true },
		{ ERR_CONNECT, false }, { ERR_HASH, false }, { ERR_NOT_USABLE, false },
		{ ERR_SPACE_DISK, false },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct due_past past = { .search_since_s = 500 };
		struct err why = failure(cases[i].code, 0);
		due_failed(&past, &why, 1000, 0);
		assert_int_equal(past.search_since_s, cases[i].goes_on ? 500 : 0);
		assert_false(past.has_given_up);
	}
}

TEST(due_arrived__after_failures__all_forgotten)
{
	struct due_past past = { .first_seen_s = 7 };
	int64_t now = 1000;
	search(&past, &now, ERR_NO_LOCATION, 0);
	due_arrived(&past);
	const struct due_past want = { .first_seen_s = 7, .is_here = true };
	assert_memory_equal(&past, &want, sizeof(want));
}

TEST(due_seen__clock_that_went_back__seen_now)
{
	struct due_past past = { 0 };
	due_seen(&past, 100);
	assert_int_equal(past.first_seen_s, 100);
	due_seen(&past, 200);
	assert_int_equal(past.first_seen_s, 100);
	due_seen(&past, 50);
	assert_int_equal(past.first_seen_s, 50);
}

/* ---- clocks that lie ---- */

TEST(due_decide__clock_went_back_a_little__never_more_than_the_delay)
{
	struct deployment d = deployment();
	struct due_past past = { .tries = 2, .failed_s = 1000000, .delay_s = 600 };
	d.available_s = d.deadline_s = 0;
	for (int64_t back = 0; back <= 600; back += 60) {
		struct due_answer a = decide(&d, &past, 1000000 - back);
		assert_int_equal(a.at_s, 1000000 - back + 600);
	}
	/* it comes to an end: the failure lies in the past again */
	assert_int_equal(decide(&d, &past, 1000599).at_s, 1000600);
	assert_int_equal(decide(&d, &past, 1000600).state, DUE_NOW);
	/* further back than the delay: nothing is known of that failure */
	assert_int_equal(decide(&d, &past, 1000000 - 601).state, DUE_NOW);
}

TEST(due_decide__clock_three_years_ahead_and_back__goes_on_at_once)
{
	struct deployment d = deployment();
	struct due_past past = { 0 };
	struct err why = failure(ERR_NO_LOCATION, 0);
	int64_t now = d.available_s + HOUR_S, ahead = now + 3 * 365 * DAY_S;
	due_seen(&past, now);
	due_failed(&past, &why, now, 0);
	/* ahead: past the deadline, fails there, the search is over */
	struct due_answer a = decide(&d, &past, ahead);
	assert_int_equal(a.state, DUE_NOW);
	assert_true(a.is_urgent);
	due_failed(&past, &why, ahead, 0);
	assert_true(past.has_given_up);
	a = decide(&d, &past, ahead);
	assert_int_equal(a.at_s, ahead + DUE_DELAY_MAX_S);
	/* right again: its own place counts, not that failure */
	a = decide(&d, &past, now);
	assert_int_equal(a.at_s, a.planned_s);
	assert_int_equal(decide(&d, &past, a.planned_s).state, DUE_NOW);
	assert_false(decide(&d, &past, a.planned_s).is_urgent);
	due_failed(&past, &why, a.planned_s, 0);
	assert_int_equal(past.search_since_s, a.planned_s);
	assert_false(past.has_given_up);
	/* a search that began ahead begins anew */
	past = (struct due_past){ .search_since_s = ahead, .failed_s = ahead };
	due_failed(&past, &why, now, 0);
	assert_int_equal(past.search_since_s, now);
	assert_false(past.has_given_up);
}

TEST(due_decide__first_seen_in_the_future__not_held_up)
{
	struct deployment d = deployment();
	struct due_past past = { .first_seen_s = d.deadline_s + 900 * DAY_S };
	d.available_s = 0;
	struct due_answer a = decide(&d, &past, d.deadline_s - DAY_S);
	assert_in_range(a.planned_s, d.deadline_s - DAY_S, d.deadline_s);
	d.deadline_s = 0;
	assert_int_equal(decide(&d, &past, 1000).state, DUE_NOW);
}

TEST(due__any_times_at_all__no_overflow)
{
	static const int64_t times[] = { INT64_MIN, INT64_MIN + 1, -62167219200, -1, 0,
					 1, 1795305600, 253402300799, INT64_MAX - 1,
					 INT64_MAX };
	enum { COUNT = sizeof(times) / sizeof(times[0]) };
	struct deployment d = deployment();
	struct window w = { 0x3e, 1140, 360 };
	struct err why = failure(ERR_NO_LOCATION, 0);
	struct due_answer a;
	for (size_t i = 0; i < 100000; i++) {
		size_t n = i;
		int64_t pick[5];
		for (size_t k = 0; k < 5; k++, n /= COUNT)
			pick[k] = times[n % COUNT];
		/* policy names years 0 to 9999 only */
		d.available_s = pick[0] < -62167219200 || pick[0] > 253402300799 ?
				0 : pick[0];
		d.deadline_s = pick[1] < -62167219200 || pick[1] > 253402300799 ?
				0 : pick[1];
		struct due_past past = { .first_seen_s = pick[2],
					 .search_since_s = pick[2],
					 .failed_s = pick[3], .delay_s = pick[2] };
		struct due_rules rules = { client, &w, i % 2, pick[4], 0 };
		due_decide(&d, &past, &rules, &a);
		if (a.state == DUE_LATER)
			assert_true(a.at_s > rules.now_s);
		else
			assert_int_equal(a.state, DUE_NOW);
		due_failed(&past, &why, rules.now_s, 7);
		assert_in_range(past.delay_s, 1, DUE_DELAY_MAX_S);
	}
}

TEST(due_compare__priority_then_deadline_then_id)
{
	struct deployment a = deployment(), b = deployment();
	assert_int_equal(due_compare(&a, &b), 0);
	b.priority = 2;
	b.deadline_s = 0;
	assert_true(due_compare(&a, &b) > 0);
	assert_true(due_compare(&b, &a) < 0);
	b.priority = 1;
	assert_true(due_compare(&a, &b) < 0); /* none comes last */
	assert_true(due_compare(&b, &a) > 0);
	b.deadline_s = a.deadline_s - 1;
	assert_true(due_compare(&a, &b) > 0);
	b.deadline_s = a.deadline_s;
	snprintf(b.content.id, sizeof(b.content.id), "ABC00043");
	assert_true(due_compare(&a, &b) < 0);
	b = deployment();
	b.content.version = 4;
	assert_true(due_compare(&a, &b) < 0);
	b = deployment();
	char id[] = "x";
	b.id = id;
	assert_true(due_compare(&a, &b) < 0);
}
