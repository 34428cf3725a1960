#include "tests/unit/test.h"

#include "agent/keeper/pacing.h"
#include "common/clock.h"

#include <stdlib.h>
#include <time.h>

#define AUTO SETTINGS_BACKGROUND_AUTO

static int64_t noon(void)
{
	int64_t s = 0;
	setenv("TZ", "UTC", 1);
	tzset();
	assert_int_equal(clock_parse_rfc3339("2026-11-25T12:00:00Z", &s), 0);
	return s;
}

static struct pacing begin(const struct settings *s, bool by_service,
			   int64_t deadline_s, int64_t now_s)
{
	struct pacing_job job = { .settings = s,
				 .by_service = by_service,
				 .owns_process = true,
				 .deadline_s = deadline_s };
	struct pacing p;
	pacing_begin(&p, &job, now_s);
	return p;
}

TEST(pacing_is_background__auto__the_service_before_the_deadline)
{
	struct settings s = { .background = AUTO };
	struct pacing_job job = { .settings = &s, .by_service = true };
	assert_true(pacing_is_background(&job, 1000)); /* no deadline */
	job.deadline_s = 1000;
	assert_true(pacing_is_background(&job, 999));
	assert_false(pacing_is_background(&job, 1000));
	job.by_service = false;
	assert_false(pacing_is_background(&job, 1));
	s.background = SETTINGS_BACKGROUND_YES;
	assert_true(pacing_is_background(&job, 2000));
	s.background = SETTINGS_BACKGROUND_NO;
	job.by_service = true;
	assert_false(pacing_is_background(&job, 1));
}

TEST(pacing_begin__another_job_in_this_process__no_idle_priority)
{
	struct settings s = { .background = AUTO };
	struct pacing_job job = { .settings = &s, .by_service = true };
	struct pacing p;
	pacing_begin(&p, &job, noon());
	assert_int_equal(p.now.is_background, 0); /* the link: only where asked for */
	assert_int_equal(p.now.is_idle, 0);
	s.background = SETTINGS_BACKGROUND_YES;
	pacing_begin(&p, &job, noon());
	assert_int_equal(p.now.is_background, 1);
	s.background = AUTO;
	job.owns_process = true;
	pacing_begin(&p, &job, noon());
	assert_int_equal(p.now.is_idle, 1);
}

TEST(pacing_turn__a_window_begins__told_once)
{
	char *texts[] = {"12:00-13:00 1000 cloud"};
	struct settings s = { .rate_limit = 5000, .rate_schedule = {texts, 1 }};
	int64_t now_s = noon() - 30;
	struct pacing p = begin(&s, false, 0, now_s);
	assert_int_equal(p.now.rate, 5000);
	assert_int_equal(p.now.rate_cloud, 0);
	assert_int_equal(p.now.may_change, 1);
	assert_false(pacing_turn(&p, now_s + 29));
	assert_true(pacing_turn(&p, now_s + 30));
	assert_int_equal(p.now.rate_cloud, 1000);
	assert_false(pacing_turn(&p, now_s + 31));
	assert_false(pacing_turn(&p, now_s + 1000));
	assert_true(pacing_turn(&p, now_s + 3630));
	assert_int_equal(p.now.rate_cloud, 0);
}

TEST(pacing_turn__the_clock_is_set_back__looked_at_anew)
{
	char *texts[] = {"12:00-13:00 1000"};
	struct settings s = { .rate_schedule = {texts, 1 }};
	struct pacing p = begin(&s, false, 0, noon());
	assert_int_equal(p.now.rate, 1000);
	assert_true(pacing_turn(&p, noon() - 7200));
	assert_int_equal(p.now.rate, 0);
}

TEST(pacing_turn__the_deadline_passes__no_longer_in_the_background)
{
	struct settings s = { .background = AUTO };
	struct pacing p = begin(&s, true, noon() + 5, noon());
	assert_false(pacing_turn(&p, noon() + 4));
	assert_true(pacing_turn(&p, noon() + 5));
	assert_int_equal(p.now.is_background, 0);
	assert_int_equal(p.now.is_idle, 0);
}

TEST(pacing_width__low_rates_and_the_background__few_connections)
{
	struct settings s = { .rate_limit = 8000, .rate_limit_cloud = 4000 };
	struct pacing p = begin(&s, false, 0, noon());
	assert_int_equal(pacing_width(&p, false, 8), 1);
	s = (struct settings){ .rate_limit_cloud = 100000 };
	p = begin(&s, false, 0, noon());
	assert_int_equal(pacing_width(&p, false, 8), 8);
	assert_int_equal(pacing_width(&p, true, 8), 3);
	s = (struct settings){ .background = SETTINGS_BACKGROUND_YES };
	p = begin(&s, false, 0, noon());
	assert_int_equal(pacing_width(&p, false, 8), 2);
	assert_int_equal(pacing_width(&p, false, 1), 1);
}

TEST(pacing_minimum__we_hold_it_up_ourselves__not_asked_of_the_source)
{
	char *texts[] = {"12:00-13:00 600 cloud"};
	struct settings s = { .minimum_rate = 1024 };
	struct pacing p = begin(&s, false, 0, noon());
	assert_int_equal(pacing_minimum(&p), 1024);
	s.rate_limit = 100000;
	p = begin(&s, false, 0, noon());
	assert_int_equal(pacing_minimum(&p), 1024);
	s.rate_limit_cloud = 1000;
	p = begin(&s, false, 0, noon());
	assert_int_equal(pacing_minimum(&p), 500);
	s.rate_schedule = (struct settings_list){texts, 1};
	p = begin(&s, false, 0, noon());
	assert_int_equal(pacing_minimum(&p), 300);
	s.background = SETTINGS_BACKGROUND_YES;
	p = begin(&s, false, 0, noon());
	assert_int_equal(pacing_minimum(&p), 0);
}
