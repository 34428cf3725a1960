#include "agent/net/yield.h"

#include <string.h>

#define RATE_FIRST 128000.0
#define RATE_MOST 1e12
#define MINUTE_MS 60000
#define DOUBLE_EVERY_MS 100 /* or two round trips */
#define CUT_EVERY_MS 300 /* the one before has to be felt */
#define GAIN 0.05 /* of the rate, a turn, without any queue */
#define GAIN_LEAST 3000.0 /* bytes a second: two packets a second */
#define STREAK 10 /* turns without a queue, then */
#define STREAK_TIMES 4 /* the gain */
#define LOSS 0.12 /* of the rate, a turn, at twice the target */
#define SEEN_FADES 0.95 /* a turn */
#define BEST_FADES 0.999
#define PROBE_AFTER 10 /* turns */
#define PROBE_SHARE 4
#define SEEN_SLACK 1.1 /* room to find out that there is more */
#define BASE_SLACK 1.25
#define BUFFER_MIN (16u << 10) /* whole packets must fit, or nothing is measured */
#define BUFFER_MAX (208u << 10)

void yield_begin(struct yield *y, int64_t now_ms)
{
	*y = (struct yield){ .rate = RATE_FIRST,
			     .turn_ms = now_ms,
			     .cut_ms = now_ms,
			     .doubled_ms = now_ms };
}

/* --- delay ------------------------------------------------------------------- */

/* The place of that peer; the one that was heard least lately makes room. */
static struct yield_peer *place_of(struct yield *y, uint64_t key, int64_t minute)
{
	struct yield_peer *oldest = &y->peers[0];
	for (unsigned i = 0; i < YIELD_PEERS; i++) {
		if (y->peers[i].key == key)
			return &y->peers[i];
		if (y->peers[i].key == 0 || y->peers[i].minute < oldest->minute)
			oldest = &y->peers[i];
		if (oldest->key == 0)
			break;
	}
	*oldest = (struct yield_peer){ .key = key, .minute = minute };
	return oldest;
}

static uint32_t least_of(uint32_t a, uint32_t b)
{
	return a && (b == 0 || a < b) ? a : b;
}

/* The least of the last minutes, this sample included. */
static uint32_t base_of(struct yield_peer *p, uint32_t sample_us, int64_t minute)
{
	uint32_t base_us = 0;
	for (; p->minute < minute; p->minute++) {
		if (minute - p->minute > YIELD_HISTORY)
			p->minute = minute - YIELD_HISTORY;
		p->base_us[(p->minute + 1) % YIELD_HISTORY] = 0;
	}
	uint32_t *newest = &p->base_us[p->minute % YIELD_HISTORY];
	*newest = least_of(*newest, sample_us);
	for (unsigned i = 0; i < YIELD_HISTORY; i++)
		base_us = least_of(p->base_us[i], base_us);
	return base_us;
}

void yield_sample(struct yield *y, uint64_t peer, uint32_t least_us, uint32_t now_us,
		  int64_t now_ms)
{
	int64_t minute = now_ms / MINUTE_MS;
	struct yield_peer *p = place_of(y, peer ? peer : 1, minute);
	uint32_t base_us = base_of(p, least_of(least_us, now_us), minute);
	if (now_us == 0)
		return;
	uint32_t queue_us = now_us > base_us ? now_us - base_us : 0;
	y->has_delay = true;
	y->base_us = base_us;
	if (queue_us > y->queue_us)
		y->queue_us = queue_us;
	if (now_us > y->round_us)
		y->round_us = now_us;
}

void yield_measured(struct yield *y)
{
	y->is_new = true;
}

void yield_cleared(struct yield *y)
{
	y->is_settled = false;
	if (y->rate < RATE_FIRST)
		y->rate = RATE_FIRST;
}

void yield_lost(struct yield *y)
{
	y->has_loss = true;
}

/* --- rate -------------------------------------------------------------------- */

static void cut(struct yield *y, int64_t now_ms)
{
	int64_t wait_ms = 2 * (int64_t)y->round_us / 1000;
	if (wait_ms < CUT_EVERY_MS)
		wait_ms = CUT_EVERY_MS;
	y->is_settled = true;
	if (now_ms - y->cut_ms < wait_ms)
		return;
	y->cut_ms = now_ms;
	/* what came is what the link gave: a rate far above it is no rate */
	if (y->seen > 0 && y->rate > y->seen)
		y->rate = y->seen;
	y->rate /= 2;
}

static void double_it(struct yield *y, int64_t now_ms)
{
	int64_t wait_ms = 2 * (int64_t)y->round_us / 1000;
	if (wait_ms < DOUBLE_EVERY_MS)
		wait_ms = DOUBLE_EVERY_MS;
	if (now_ms - y->doubled_ms < wait_ms)
		return;
	y->doubled_ms = now_ms;
	y->rate *= 2;
}

/* A link that has been empty for a while is taken faster, up to half of what it is
 * known to have. */
static void grow(struct yield *y, double off)
{
	double step = y->rate * GAIN > GAIN_LEAST ? y->rate * GAIN : GAIN_LEAST;
	y->streak = y->has_delay && off > 0.75 ? y->streak + 1 : 0;
	if (y->streak > STREAK && y->rate < y->best / 2)
		step *= STREAK_TIMES;
	y->rate += step * off;
}

/* Without a sample: half of what an empty queue would bring, so that there are some
 * again. */
static void steer(struct yield *y, int64_t now_ms)
{
	double queue_us = y->has_delay ? y->queue_us : YIELD_TARGET_US / 2.0;
	double off = (YIELD_TARGET_US - queue_us) / YIELD_TARGET_US;
	if (y->has_delay && queue_us > YIELD_TARGET_US / 4.0)
		y->is_settled = true;
	if (y->has_loss || off < 0)
		y->streak = 0;
	if (y->has_loss || (off <= -1 && y->is_new))
		cut(y, now_ms);
	else if (off < 0)
		y->rate += y->is_new ? y->rate * LOSS * off : 0;
	else if (!y->is_settled && y->has_delay)
		double_it(y, now_ms);
	else
		grow(y, off);
}

static uint64_t until_next(struct yield *y)
{
	double probe = y->best / PROBE_SHARE;
	if (y->silent < PROBE_AFTER || y->rate >= probe)
		return (uint64_t)y->rate;
	y->silent = 0;
	return (uint64_t)probe;
}

uint64_t yield_turn(struct yield *y, uint64_t bytes, int64_t now_ms)
{
	int64_t took_ms = now_ms - y->turn_ms;
	if (took_ms <= 0)
		return (uint64_t)y->rate;
	double came = (double)(bytes - y->bytes) * 1000 / (double)took_ms;
	y->seen *= SEEN_FADES;
	if (came > y->seen)
		y->seen = came;
	y->best *= BEST_FADES;
	if (y->seen > y->best)
		y->best = y->seen;
	steer(y, now_ms);
	/* where somebody else holds it up, it must not run away */
	if (y->rate > 2 * y->seen && y->rate > RATE_FIRST)
		y->rate = 2 * y->seen > RATE_FIRST ? 2 * y->seen : RATE_FIRST;
	if (y->rate < YIELD_FLOOR)
		y->rate = YIELD_FLOOR;
	if (y->rate > RATE_MOST)
		y->rate = RATE_MOST;
	y->silent = y->is_new ? 0 : y->silent + 1;
	y->bytes = bytes;
	y->turn_ms = now_ms;
	y->has_delay = y->is_new = y->has_loss = false;
	y->queue_us = y->round_us = 0;
	return until_next(y);
}

size_t yield_buffer_bytes(const struct yield *y, unsigned connections)
{
	double rate = y->rate < SEEN_SLACK * y->seen ? y->rate : SEEN_SLACK * y->seen;
	double time_us = BASE_SLACK * y->base_us + YIELD_TARGET_US;
	double bytes = rate * time_us / 1e6 / (connections ? connections : 1);
	if (!y->is_settled)
		return 0;
	if (bytes > BUFFER_MAX)
		return BUFFER_MAX;
	return bytes < BUFFER_MIN ? BUFFER_MIN : (size_t)bytes;
}
