#include "tests/unit/test.h"

#include "policy/next.h"

#include <string.h>

static const struct next_input usual = {
	.code = ERR_STALLED, .attempts_done = 1, .attempts_allowed = 3,
	.patience_left_ms = 60000, .time_left_ms = INT64_MAX, .chance = UINT32_MAX,
};

static struct next_step expect(const struct next_input *in,
			       enum next_action action)
{
	struct next_step s = next_decide(in);
	if (s.action != action)
		fail_msg("action %d: %s", s.action, s.reason);
	assert_true(s.reason[0]);
	if (action != NEXT_DO_AGAIN)
		assert_int_equal(s.delay_ms, 0);
	return s;
}

TEST(next_decide__same_with_attempts_left__back_off_doubles_to_30_s)
{
	static const int64_t delays[] = { 1000, 2000, 4000, 8000, 16000, 30000,
					  30000 };
	struct next_input in = usual;
	in.attempts_allowed = 100;
	for (unsigned n = 1; n <= 7; n++) {
		in.attempts_done = n;
		assert_int_equal(expect(&in, NEXT_DO_AGAIN).delay_ms, delays[n - 1]);
	}
	in.chance = 0;
	in.attempts_done = 1;
	int64_t low = next_decide(&in).delay_ms;
	assert_true(low >= 500 && low <= 501);
}

TEST(next_decide__attempts_used_up__next_source)
{
	struct next_input in = usual;
	in.attempts_done = 3;
	struct next_step s = expect(&in, NEXT_DO_SOURCE);
	assert_non_null(strstr(s.reason, "3 of 3 attempts"));
	in.attempts_done = 4;
	expect(&in, NEXT_DO_SOURCE);
	in.attempts_done = 2;
	expect(&in, NEXT_DO_AGAIN);
}

TEST(next_decide__retry_after_within_patience__waits_as_told)
{
	struct next_input in = usual;
	in.code = ERR_BUSY;
	in.retry_after_s = 60;
	in.attempts_done = 3; /* patience, not attempts, ends this */
	assert_int_equal(expect(&in, NEXT_DO_AGAIN).delay_ms, 60000);
	in.code = ERR_SERVER;
	assert_int_equal(expect(&in, NEXT_DO_AGAIN).delay_ms, 60000);
}

TEST(next_decide__retry_after_beyond_patience__next_source)
{
	struct next_input in = usual;
	in.code = ERR_BUSY;
	in.retry_after_s = 61;
	struct next_step s = expect(&in, NEXT_DO_SOURCE);
	assert_non_null(strstr(s.reason, "61000 ms, 60000 ms of patience"));
	in.retry_after_s = UINT32_MAX;
	expect(&in, NEXT_DO_SOURCE);
	in.retry_after_s = 1;
	in.patience_left_ms = 999;
	expect(&in, NEXT_DO_SOURCE);
	in.patience_left_ms = 0;
	expect(&in, NEXT_DO_SOURCE);
}

TEST(next_decide__busy_without_figure__backs_off_within_attempts)
{
	struct next_input in = usual;
	in.code = ERR_BUSY;
	assert_int_equal(expect(&in, NEXT_DO_AGAIN).delay_ms, 1000);
	in.attempts_done = 3;
	expect(&in, NEXT_DO_SOURCE);
	in.attempts_done = 1;
	in.patience_left_ms = 10;
	expect(&in, NEXT_DO_SOURCE);
}

TEST(next_decide__expired__located_again_once)
{
	struct next_input in = usual;
	in.code = ERR_EXPIRED;
	expect(&in, NEXT_DO_RELOCATE);
	in.relocations_done = 1;
	expect(&in, NEXT_DO_SOURCE);
}

TEST(next_decide__source_errors__next_source)
{
	static const enum err_code codes[] = { ERR_ABSENT, ERR_TLS_CHAIN, ERR_HASH,
					       ERR_DNS_NXDOMAIN, ERR_DENIED,
					       ERR_NAME, ERR_DEADLINE };
	struct next_input in = usual;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		in.code = codes[i];
		expect(&in, NEXT_DO_SOURCE);
	}
}

TEST(next_decide__nothing_can_help__give_up)
{
	struct next_input in = usual;
	in.code = ERR_SPACE_DISK;
	expect(&in, NEXT_DO_GIVE_UP);
	in.code = ERR_SIGTERM;
	expect(&in, NEXT_DO_GIVE_UP);
	in.code = ERR_OK;
	expect(&in, NEXT_DO_GIVE_UP);
}

TEST(next_decide__time_is_over__give_up_and_no_waiting_beyond)
{
	struct next_input in = usual;
	in.time_left_ms = 0;
	struct next_step s = expect(&in, NEXT_DO_GIVE_UP);
	assert_non_null(strstr(s.reason, "whole download"));
	in.time_left_ms = 500;
	expect(&in, NEXT_DO_SOURCE);
	in.code = ERR_ABSENT;
	in.time_left_ms = -1;
	expect(&in, NEXT_DO_GIVE_UP);
}

TEST(next_decide__every_code__same_input_same_output)
{
	for (int code = 0; code < ERR_COUNT; code++) {
		struct next_input in = usual;
		in.code = (enum err_code)code;
		struct next_step a = next_decide(&in), b = next_decide(&in);
		assert_int_equal(a.action, b.action);
		assert_int_equal(a.delay_ms, b.delay_ms);
		assert_string_equal(a.reason, b.reason);
		assert_memory_equal(a.reason, code ? err_name(in.code) : "nothing", 7 <
				    strlen(err_name(in.code)) ? 7 : 2);
	}
}
