#include "agent/net/pace.h"

#define SECOND_NS 1000000000
#define IDLE_NS SECOND_NS /* buffers have run empty */
#define NEVER_NS (INT64_MAX / 4)
#define READ_MIN 1024u /* of curl's buffer */
#define READ_MAX (16u << 10) /* a record of TLS; each answer of HTTP/2 has one */
#define READS_A_SECOND 16
#define BUFFER_MIN 4096u
/* The longest round trip that must not hold a rate down, with half a buffer used. */
#define ROUND_TRIPS_A_SECOND 10

static int64_t time_of(uint64_t bytes, uint64_t rate)
{
	double ns = (double)bytes * SECOND_NS / (double)rate;
	return ns < (double)NEVER_NS ? (int64_t)ns : NEVER_NS;
}

static bool counts(enum pace_limit limit, enum pace_lane lane)
{
	return limit < PACE_LIMIT_ON_PREM ||
	       limit - PACE_LIMIT_ON_PREM == (unsigned)lane;
}

void pace_set(struct pace *p, enum pace_limit limit, uint64_t rate, int64_t now_ns)
{
	struct pace_clock *c = &p->clocks[limit];
	int64_t debt_ns = c->ahead_ns - now_ns;
	if (c->rate == rate)
		return;
	if (c->rate && rate > c->rate && debt_ns > 0)
		c->ahead_ns = now_ns + (int64_t)((double)debt_ns * (double)c->rate /
						 (double)rate);
	if (c->rate == 0 || rate == 0)
		c->ahead_ns = c->last_ns = 0;
	c->rate = rate;
}

int64_t pace_wait_ns(const struct pace *p, enum pace_lane lane, int64_t now_ns)
{
	int64_t wait_ns = 0;
	for (unsigned i = 0; i < PACE_LIMITS; i++) {
		const struct pace_clock *c = &p->clocks[i];
		int64_t own_ns = c->ahead_ns - PACE_AHEAD_NS - now_ns;
		if (c->rate && counts(i, lane) && own_ns > wait_ns)
			wait_ns = own_ns;
	}
	return wait_ns;
}

static void count(struct pace_clock *c, uint64_t bytes, int64_t now_ns)
{
	bool is_fresh = c->last_ns == 0 || now_ns - c->last_ns > IDLE_NS;
	if (is_fresh && c->ahead_ns < now_ns)
		c->ahead_ns = now_ns + PACE_BUFFER_NS;
	else if (c->ahead_ns < now_ns - PACE_CREDIT_NS)
		c->ahead_ns = now_ns - PACE_CREDIT_NS;
	c->last_ns = now_ns;
	if (c->ahead_ns < NEVER_NS)
		c->ahead_ns += time_of(bytes, c->rate);
}

void pace_took(struct pace *p, enum pace_lane lane, uint64_t bytes, int64_t now_ns)
{
	for (unsigned i = 0; i < PACE_LIMITS; i++)
		if (p->clocks[i].rate && counts(i, lane))
			count(&p->clocks[i], bytes, now_ns);
}

uint64_t pace_rate(const struct pace *p, enum pace_lane lane)
{
	uint64_t rate = 0;
	for (unsigned i = 0; i < PACE_LIMITS; i++) {
		uint64_t own = p->clocks[i].rate;
		if (i != PACE_LIMIT_YIELD && counts(i, lane) && own &&
		    (rate == 0 || own < rate))
			rate = own;
	}
	return rate;
}

size_t pace_read_bytes(uint64_t rate)
{
	uint64_t bytes = rate / READS_A_SECOND;
	if (rate == 0 || bytes > READ_MAX)
		return READ_MAX;
	return bytes < READ_MIN ? READ_MIN : (size_t)bytes;
}

size_t pace_buffer_bytes(uint64_t rate, unsigned connections)
{
	uint64_t own = rate / (connections ? connections : 1);
	uint64_t bytes = own / (SECOND_NS / PACE_BUFFER_NS);
	if (rate == 0 || own / ROUND_TRIPS_A_SECOND > PACE_BUFFER_MAX)
		return 0;
	if (bytes > PACE_BUFFER_MAX)
		return PACE_BUFFER_MAX;
	return bytes < BUFFER_MIN ? BUFFER_MIN : (size_t)bytes;
}
