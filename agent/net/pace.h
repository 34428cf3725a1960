#ifndef AGENT_NET_PACE_H
#define AGENT_NET_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Rate limits: how much may be taken now, and when more. Pure: times are handed in
 * (ns, any clock that never goes back), bytes are told.
 *
 * Each limit is a clock of its own that every byte moves on by 1/rate (a virtual
 * clock; ITU-T I.371 calls it GCRA). While it is ahead of time by no more than
 * PACE_AHEAD, the next piece may be taken, whoever wants it: so any number of
 * transfers share one limit exactly. It may lag by PACE_CREDIT, which makes up for a
 * process that woke up late, and no more: what was not used is not saved up.
 *
 * Over any T seconds the pieces taken are rate * (T + PACE_AHEAD + PACE_CREDIT) plus
 * one piece at most: below 105 % for T = 10 s.
 */
#define PACE_AHEAD_NS  40000000
#define PACE_CREDIT_NS 100000000

/* Where bytes come from. A lane has its own limit, beside those over all. */
enum pace_lane { PACE_ON_PREM, PACE_CLOUD, PACE_LANES };

enum pace_limit {
	PACE_LIMIT_ALL,
	PACE_LIMIT_YIELD,   /* over all: what other traffic leaves (net/yield) */
	PACE_LIMIT_ON_PREM, /* of the lanes, in their order */
	PACE_LIMIT_CLOUD,
	PACE_LIMITS
};

/* What a transfer is to keep to. */
struct pace_rates {
	uint64_t limits[PACE_LIMITS]; /* bytes a second, 0 = none; not YIELD */
	unsigned connections;         /* at most; rate_width() says how many */
	bool may_change;    /* a limit may come later: keep to what can be limited */
	bool is_background; /* leave the link to others (net/yield) */
};

/* Zero is valid: no limit. */
struct pace {
	struct pace_clock {
		uint64_t rate;    /* bytes a second; 0 = no limit */
		int64_t ahead_ns; /* the moment up to which it is used up */
		int64_t last_ns;  /* something was taken last; 0 = never */
	} clocks[PACE_LIMITS];
};

/* A new rate from now on; what was taken at the old one is paid for at whichever
 * takes less time. */
void pace_set(struct pace *p, enum pace_limit limit, uint64_t rate, int64_t now_ns);

/* ns until something may be taken in that lane; 0 = now. */
int64_t pace_wait_ns(const struct pace *p, enum pace_lane lane, int64_t now_ns);

/*
 * That many bytes were taken. After a second without any, the limit pays for what
 * the kernel takes in advance into the buffers (PACE_BUFFER) that have run empty:
 * so the rate holds on the link as well, from the first second on.
 */
void pace_took(struct pace *p, enum pace_lane lane, uint64_t bytes, int64_t now_ns);

/* The lowest limit of a lane but YIELD, bytes a second; 0 = none. */
uint64_t pace_rate(const struct pace *p, enum pace_lane lane);

/*
 * How much is best read at once at such a rate: a sixteenth of a second, 1 to 16
 * KiB, which is a record of TLS and all that the smallest buffer of net/yield holds.
 */
size_t pace_read_bytes(uint64_t rate);

/*
 * What SO_RCVBUF should be at such a rate, shared by so many connections: together they
 * hold PACE_BUFFER of time. With less the round trip would hold the rate down; with
 * more the kernel takes seconds' worth at the speed of the link before anybody counts.
 * At least 4096, since a few packets must fit; 0 = leave it to the kernel, which is for
 * rates so high that its own buffers are less than that (or no limit).
 */
#define PACE_BUFFER_NS  200000000
#define PACE_BUFFER_MAX (208u << 10) /* net.core.rmem_max, as the kernel has it */
size_t pace_buffer_bytes(uint64_t rate, unsigned connections);

#endif
