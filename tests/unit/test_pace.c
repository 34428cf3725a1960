#include "tests/unit/test.h"

#include "agent/net/pace.h"
#include "agent/net/stall.h"

#define S_NS 1000000000LL
#define MS_NS 1000000LL

/* A reader that takes as soon as it may, `late_ns` too late each time, in pieces. */
struct reader {
	struct pace pace;
	int64_t now_ns;
	uint64_t bytes;
};

static void read_for(struct reader *r, enum pace_lane lane, uint64_t piece,
		     int64_t late_ns, int64_t for_ns)
{
	int64_t end_ns = r->now_ns + for_ns;
	while (r->now_ns < end_ns) {
		int64_t wait_ns = pace_wait_ns(&r->pace, lane, r->now_ns);
		if (wait_ns > 0) {
			r->now_ns += wait_ns + late_ns;
			continue;
		}
		pace_took(&r->pace, lane, piece, r->now_ns);
		r->bytes += piece;
	}
}

static struct reader reader_of(uint64_t rate)
{
	struct reader r = { .now_ns = 12345 * MS_NS };
	pace_set(&r.pace, PACE_LIMIT_ALL, rate, r.now_ns);
	return r;
}

static void assert_within(uint64_t is, uint64_t want, unsigned per_cent)
{
	if (is * 100 > want * (100 + per_cent) || is * 100 < want * (100 - per_cent))
		fail_msg("%llu, not within %u %% of %llu", (unsigned long long)is,
			 per_cent, (unsigned long long)want);
}

static const uint64_t rates[] = {8000,    8192,    50000,    64 << 10, 500000,
				 2 << 20, 7654321, 25000000, 100000000};
#define EACH_RATE(i) for (size_t i = 0; i < sizeof(rates) / sizeof(*rates); i++)

TEST(pace_wait__no_limit__never)
{
	struct pace p = {0};
	pace_took(&p, PACE_CLOUD, 1ull << 40, 5);
	assert_int_equal(pace_wait_ns(&p, PACE_CLOUD, 6), 0);
}

TEST(pace_took__any_rate_and_the_pieces_for_it__exact)
{
	EACH_RATE(i)
	{
		struct reader r = reader_of(rates[i]);
		read_for(&r, PACE_ON_PREM, pace_read_bytes(rates[i]), 0, 10 * S_NS);
		assert_within(r.bytes, rates[i] * 10, 3);
		r.bytes = 0;
		read_for(&r, PACE_ON_PREM, pace_read_bytes(rates[i]), 0, 60 * S_NS);
		assert_within(r.bytes, rates[i] * 60, 1);
	}
}

TEST(pace_took__odd_small_pieces__no_drift)
{
	EACH_RATE(i)
	{
		struct reader r = reader_of(rates[i]);
		read_for(&r, PACE_CLOUD, 1377, 0, 2 * S_NS);
		r.bytes = 0;
		read_for(&r, PACE_CLOUD, 1377, 0, 20 * S_NS);
		assert_within(r.bytes, rates[i] * 20, 2);
	}
}

TEST(pace_took__a_process_that_wakes_late__made_up_for)
{
	struct reader r = reader_of(2 << 20);
	read_for(&r, PACE_ON_PREM, 16384, 80 * MS_NS, 10 * S_NS);
	assert_within(r.bytes, (2ull << 20) * 10, 4);
}

TEST(pace_took__idle_for_a_minute__nothing_is_saved_up)
{
	struct reader r = reader_of(100000);
	read_for(&r, PACE_ON_PREM, 4096, 0, 10 * S_NS);
	r.now_ns += 60 * S_NS;
	r.bytes = 0;
	read_for(&r, PACE_ON_PREM, 4096, 0, 10 * S_NS);
	/* 200 ms pay for the buffers of the kernel, which fill at once */
	assert_within(r.bytes + 100000 / 5, 100000 * 10, 2);
}

TEST(pace_took__ten_seconds_anywhere__never_above_105_per_cent)
{
	EACH_RATE(i)
	{
		struct reader r = reader_of(rates[i]);
		/* the worst: held up, just not long enough to pay anew */
		read_for(&r, PACE_ON_PREM, pace_read_bytes(rates[i]), 0, S_NS);
		r.now_ns += 900 * MS_NS;
		r.bytes = 0;
		read_for(&r, PACE_ON_PREM, pace_read_bytes(rates[i]), 0, 10 * S_NS);
		if (r.bytes * 100 > rates[i] * 10 * 105)
			fail_msg("%llu at rate %llu", (unsigned long long)r.bytes,
				 (unsigned long long)rates[i]);
	}
}

TEST(pace_took__two_lanes__their_own_limits_and_the_one_over_all)
{
	struct reader r = reader_of(0);
	pace_set(&r.pace, PACE_LIMIT_CLOUD, 50000, r.now_ns);
	assert_int_equal(pace_rate(&r.pace, PACE_CLOUD), 50000);
	assert_int_equal(pace_rate(&r.pace, PACE_ON_PREM), 0);
	pace_took(&r.pace, PACE_ON_PREM, 1 << 30, r.now_ns);
	assert_int_equal(pace_wait_ns(&r.pace, PACE_ON_PREM, r.now_ns), 0);
	assert_int_equal(pace_wait_ns(&r.pace, PACE_CLOUD, r.now_ns), 0);
	pace_took(&r.pace, PACE_CLOUD, 50000, r.now_ns);
	assert_true(pace_wait_ns(&r.pace, PACE_CLOUD, r.now_ns) > 900 * MS_NS);
	assert_int_equal(pace_wait_ns(&r.pace, PACE_ON_PREM, r.now_ns), 0);
	pace_set(&r.pace, PACE_LIMIT_ALL, 20000, r.now_ns);
	assert_int_equal(pace_rate(&r.pace, PACE_CLOUD), 20000);
	assert_int_equal(pace_rate(&r.pace, PACE_ON_PREM), 20000);
	pace_took(&r.pace, PACE_ON_PREM, 20000, r.now_ns);
	assert_true(pace_wait_ns(&r.pace, PACE_ON_PREM, r.now_ns) > 900 * MS_NS);
}

TEST(pace_set__a_higher_rate__the_debt_shrinks_with_it)
{
	struct reader r = reader_of(8000);
	pace_took(&r.pace, PACE_CLOUD, 256 << 10, r.now_ns);
	assert_true(pace_wait_ns(&r.pace, PACE_CLOUD, r.now_ns) > 30 * S_NS);
	pace_set(&r.pace, PACE_LIMIT_ALL, 8000000, r.now_ns);
	assert_true(pace_wait_ns(&r.pace, PACE_CLOUD, r.now_ns) < 40 * MS_NS);
}

TEST(pace_set__a_lower_rate__what_was_taken_before_is_not_paid_twice)
{
	struct reader r = reader_of(8000000);
	pace_took(&r.pace, PACE_CLOUD, 256 << 10, r.now_ns);
	pace_set(&r.pace, PACE_LIMIT_ALL, 8000, r.now_ns);
	assert_true(pace_wait_ns(&r.pace, PACE_CLOUD, r.now_ns) < 250 * MS_NS);
	read_for(&r, PACE_CLOUD, 1024, 0, 1 * S_NS);
	r.bytes = 0;
	read_for(&r, PACE_CLOUD, 1024, 0, 20 * S_NS);
	assert_within(r.bytes, 8000 * 20, 2);
}

TEST(pace_set__no_limit_any_more__free_at_once)
{
	struct reader r = reader_of(1);
	pace_took(&r.pace, PACE_CLOUD, 1 << 20, r.now_ns);
	pace_set(&r.pace, PACE_LIMIT_ALL, 0, r.now_ns);
	assert_int_equal(pace_wait_ns(&r.pace, PACE_CLOUD, r.now_ns), 0);
}

TEST(pace_took__one_byte_a_second__no_overflow)
{
	struct reader r = reader_of(1);
	for (int i = 0; i < 100; i++)
		pace_took(&r.pace, PACE_CLOUD, UINT64_MAX, r.now_ns);
	assert_true(pace_wait_ns(&r.pace, PACE_CLOUD, r.now_ns) > 0);
}

TEST(pace_read_bytes__by_rate__a_sixteenth_of_a_second)
{
	assert_int_equal(pace_read_bytes(0), 16 << 10);
	assert_int_equal(pace_read_bytes(1), 1024);
	assert_int_equal(pace_read_bytes(8000), 1024);
	assert_int_equal(pace_read_bytes(160000), 10000);
	assert_int_equal(pace_read_bytes(100000000), 16 << 10);
}

TEST(pace_buffer_bytes__by_rate_and_connections__a_fifth_of_a_second_in_all)
{
	assert_int_equal(pace_buffer_bytes(0, 8), 0);
	assert_int_equal(pace_buffer_bytes(8000, 1), 4096);
	assert_int_equal(pace_buffer_bytes(500000, 1), 100000);
	assert_int_equal(pace_buffer_bytes(500000, 4), 25000);
	assert_int_equal(pace_buffer_bytes(2000000, 1), PACE_BUFFER_MAX);
	/* so fast that the kernel's own are less than that */
	assert_int_equal(pace_buffer_bytes(100000000, 8), 0);
}

/* --- stall ------------------------------------------------------------------- */

TEST(stall__silence__over_after_the_time_allowed)
{
	struct stall s;
	stall_begin(&s, 5000);
	for (int64_t t = 5000; t < 35000; t += 100)
		assert_false(stall_is_over(&s, 300, t, 30000));
	assert_true(stall_is_over(&s, 300, 35000, 30000));
}

TEST(stall__a_drip_below_the_rate__over_as_well)
{
	struct stall s;
	uint64_t bytes = 0;
	int64_t t = 1;
	stall_begin(&s, t);
	while (!stall_is_over(&s, bytes, t, 5000) && t < 60000) {
		t += 500;
		bytes += 100;
	}
	assert_in_range(t, 5000, 7000);
}

TEST(stall__slow_but_enough__goes_on)
{
	struct stall s;
	uint64_t bytes = 0;
	stall_begin(&s, 1);
	for (int64_t t = 1; t < 100000; t += 500) {
		assert_false(stall_is_over(&s, bytes, t, 5000));
		bytes += 600;
	}
}

TEST(stall__held_up_by_us_for_an_hour__not_the_server_s_fault)
{
	struct stall s;
	stall_begin(&s, 1000);
	assert_false(stall_is_over(&s, 0, 3000, 5000)); /* slow for two seconds */
	stall_hold(&s, 3000);
	stall_hold(&s, 4000);
	assert_false(stall_is_over(&s, 0, 3600000, 5000));
	stall_release(&s, 3600000);
	stall_release(&s, 3600000);
	assert_false(stall_is_over(&s, 0, 3602900, 5000));
	assert_true(stall_is_over(&s, 0, 3603100, 5000));
}

TEST(stall__it_speaks_again__counted_anew)
{
	struct stall s;
	stall_begin(&s, 1000);
	assert_false(stall_is_over(&s, 0, 5000, 5000));
	assert_false(stall_is_over(&s, 1 << 20, 6000, 5000));
	assert_false(stall_is_over(&s, 1 << 20, 10900, 5000));
	assert_true(stall_is_over(&s, 1 << 20, 11100, 5000));
}
