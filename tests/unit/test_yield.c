#include "tests/unit/test.h"

#include "agent/net/yield.h"

/*
 * A bottleneck in steps of a millisecond: one queue of bytes, ours and theirs, served
 * in proportion. We are window-limited: what lies in the queue and in our receive
 * buffer is a window at most, and the reader takes at the rate of yield. They are a
 * sender that grows by a packet a round trip and halves when the queue overflows.
 */
struct link {
	struct yield y;
	double rate, size; /* bytes a second; bytes of queue */
	double base_ms;
	double our_queue, our_buffer, our_rate, window;
	double their_queue, their_window;
	double rtt_ms; /* smoothed as the kernel does */
	int64_t now_ms;
	double taken; /* bytes that arrived */
	double top_queue_ms;
	bool is_shared;
};

static struct link link_of(double rate, double base_ms, double queue_ms)
{
	struct link l = { .rate = rate,
			 .size = rate * queue_ms / 1000,
			 .base_ms = base_ms,
			 .rtt_ms = base_ms,
			 .window = 64000,
			 .now_ms = 1000 };
	yield_begin(&l.y, l.now_ms);
	yield_sample(&l.y, 7, (uint32_t)(base_ms * 1000), 0, l.now_ms);
	return l;
}

static double queue_ms(const struct link *l)
{
	return (l->our_queue + l->their_queue) * 1000 / l->rate;
}

static void let_them_send(struct link *l)
{
	double rtt_ms = l->base_ms + queue_ms(l);
	if (!l->is_shared)
		return;
	if (l->their_window < 3000)
		l->their_window = 3000;
	double may = l->their_window * (1 - l->base_ms / rtt_ms);
	if (l->their_queue < may)
		l->their_queue = may;
	l->their_window += 1500 / rtt_ms;
	if (l->our_queue + l->their_queue > l->size) {
		l->their_queue = l->size - l->our_queue;
		l->their_window *= 0.7;
	}
}

static void step(struct link *l)
{
	double may = l->window - l->our_buffer - l->our_rate * l->base_ms;
	if (l->our_queue < may && l->our_queue + l->their_queue < l->size)
		l->our_queue =
		    may < l->size - l->their_queue ? may : l->size - l->their_queue;
	let_them_send(l);
	double all = l->our_queue + l->their_queue, out = l->rate / 1000;
	if (all > 0) {
		double served = all < out ? all : out;
		double ours = served * l->our_queue / all;
		l->our_queue -= ours;
		l->our_buffer += ours;
		l->our_rate += (ours - l->our_rate) / l->base_ms;
		l->their_queue -= served - ours;
	}
	double read = l->y.rate / 1000;
	read = read < l->our_buffer ? read : l->our_buffer;
	l->our_buffer -= read;
	l->taken += read;
	double rtt_ms = l->base_ms + queue_ms(l);
	l->rtt_ms = rtt_ms < l->rtt_ms ? rtt_ms : l->rtt_ms * 0.98 + rtt_ms * 0.02;
	if (queue_ms(l) > l->top_queue_ms)
		l->top_queue_ms = queue_ms(l);
	l->now_ms++;
}

/* Share of the link that we had in that time. */
static double run(struct link *l, int64_t ms)
{
	double before = l->taken;
	int64_t end_ms = l->now_ms + ms;
	l->top_queue_ms = 0;
	while (l->now_ms < end_ms) {
		step(l);
		if (l->now_ms % YIELD_TURN_MS)
			continue;
		yield_sample(&l->y, 7, 0, (uint32_t)(l->rtt_ms * 1000), l->now_ms);
		yield_measured(&l->y);
		yield_turn(&l->y, (uint64_t)l->taken, l->now_ms);
		size_t buffer = yield_buffer_bytes(&l->y, 1);
		l->window = buffer ? (double)buffer : l->window * 1.1;
	}
	return (l->taken - before) * 1000 / (l->rate * (double)ms);
}

static const double links[][2] = {
    {125000, 30}, {1250000, 1}, {1250000, 20}, {1250000, 60}, {6000000, 10},
};
#define LINKS (sizeof(links) / sizeof(*links))

static void assert_share(double is, double least, double most, const char *when)
{
	if (is < least || is > most)
		fail_msg("%s: %.3f of the link, not %.2f to %.2f", when, is, least,
			 most);
}

TEST(yield__alone__the_link_is_used_and_the_queue_short)
{
	for (size_t i = 0; i < LINKS; i++) {
		struct link l = link_of(links[i][0], links[i][1], 300);
		run(&l, 10000);
		assert_share(run(&l, 20000), 0.8, 1.01, "alone");
		if (l.top_queue_ms > 3 * YIELD_TARGET_US / 1000)
			fail_msg("a queue of %.0f ms", l.top_queue_ms);
	}
}

TEST(yield__beside_a_transfer_that_fills_the_queue__leaves_it_the_link)
{
	for (size_t i = 0; i < LINKS; i++) {
		struct link l = link_of(links[i][0], links[i][1], 200);
		run(&l, 10000);
		l.is_shared = true;
		run(&l, 5000);
		assert_share(run(&l, 30000), 0.001, 0.15, "shared");
		l.is_shared = false;
		run(&l, 15000);
		assert_share(run(&l, 20000), 0.8, 1.01, "alone again");
	}
}

TEST(yield__a_queue_that_stays__never_below_the_floor)
{
	struct yield y;
	uint64_t rate = 0;
	yield_begin(&y, 0);
	yield_sample(&y, 1, 1000, 0, 0);
	for (int64_t t = 100; t < 60000; t += 100) {
		yield_sample(&y, 1, 0, 500000, t);
		yield_measured(&y);
		rate = yield_turn(&y, (uint64_t)t * 8, t);
	}
	assert_int_equal(rate, YIELD_FLOOR);
}

TEST(yield__packets_are_lost__halved_and_not_more_often_than_it_is_felt)
{
	struct yield y;
	yield_begin(&y, 0);
	y.rate = y.seen = 1e6;
	yield_lost(&y);
	assert_in_range(yield_turn(&y, 300000, 300), 470000, 500000);
	yield_lost(&y);
	assert_in_range(yield_turn(&y, 350000, 400), 470000, 500000);
	yield_lost(&y);
	assert_in_range(yield_turn(&y, 500000, 700), 200000, 260000);
}

TEST(yield__another_way_with_a_longer_delay__taken_for_the_base_in_time)
{
	struct yield y;
	uint64_t bytes = 0, rate = 0;
	int64_t t = 0;
	yield_begin(&y, t);
	yield_sample(&y, 1, 5000, 5000, t);
	for (; t < 5 * 60000; t += 100) {
		yield_sample(&y, 1, 0, 105000, t);
		yield_measured(&y);
		rate = yield_turn(&y, bytes += rate / 10, t);
	}
	assert_int_equal(rate, YIELD_FLOOR);
	for (; t < 13 * 60000; t += 100) {
		yield_sample(&y, 1, 0, 105000, t);
		yield_measured(&y);
		rate = yield_turn(&y, bytes += rate / 10, t);
	}
	assert_true(rate > 1000000);
}

TEST(yield__no_samples_any_more__asks_for_more_slowly)
{
	struct yield y;
	uint64_t bytes = 0, rate = YIELD_FLOOR;
	yield_begin(&y, 0);
	y.rate = YIELD_FLOOR;
	y.is_settled = true;
	for (int64_t t = 100; t < 3000; t += 100)
		rate = yield_turn(&y, bytes += rate / 10, t);
	assert_in_range(rate, YIELD_FLOOR + 20000, 200000);
}

TEST(yield__somebody_else_is_slower__the_rate_does_not_run_away)
{
	struct yield y;
	uint64_t rate = 0;
	yield_begin(&y, 0);
	for (int64_t t = 100; t < 60000; t += 100) {
		yield_sample(&y, 1, 1000, 1000, t);
		yield_measured(&y);
		rate = yield_turn(&y, (uint64_t)t * 500, t); /* 500 kB/s come */
	}
	assert_in_range(rate, 500000, 1100000);
}

TEST(yield__more_peers_than_places__each_has_its_own_base)
{
	struct yield y;
	yield_begin(&y, 0);
	for (uint64_t peer = 1; peer <= 3 * YIELD_PEERS; peer++)
		yield_sample(&y, peer, 0, (uint32_t)peer * 1000, 60000 * (int64_t)peer);
	assert_int_equal(y.queue_us, 0);
	yield_sample(&y, 3 * YIELD_PEERS, 0, 3 * YIELD_PEERS * 1000 + 700, 9000000);
	assert_int_equal(y.queue_us, 0); /* its base has been forgotten */
}

TEST(yield_buffer_bytes__while_doubling_left_alone__then_base_and_target)
{
	struct yield y;
	yield_begin(&y, 0);
	assert_int_equal(yield_buffer_bytes(&y, 2), 0);
	y.is_settled = true;
	y.rate = y.seen = 4e6;
	y.base_us = 20000;
	assert_int_equal(yield_buffer_bytes(&y, 2), 100000);
	y.seen = 2e6; /* the rate is no more than a wish */
	assert_int_equal(yield_buffer_bytes(&y, 2), 55000);
	y.rate = YIELD_FLOOR;
	assert_int_equal(yield_buffer_bytes(&y, 2), 16 << 10);
	y.rate = y.seen = 1e9;
	assert_int_equal(yield_buffer_bytes(&y, 2), 208 << 10);
}

TEST(yield__nothing_is_measured_at_the_floor__a_probe_each_second)
{
	struct yield y;
	unsigned probes = 0;
	uint64_t bytes = 0;
	yield_begin(&y, 0);
	y.best = 1e6;
	y.rate = YIELD_FLOOR;
	y.is_settled = true;
	for (int64_t t = 100; t <= 5000; t += 100) {
		yield_sample(&y, 1, 1000, 200000, t); /* an old one, from then */
		uint64_t rate = yield_turn(&y, bytes, t);
		bytes += rate / 10;
		probes += rate > 200000;
	}
	assert_in_range(probes, 4, 6);
}
