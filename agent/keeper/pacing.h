#ifndef AGENT_KEEPER_PACING_H
#define AGENT_KEEPER_PACING_H

#include "agent/wire.h"
#include "policy/rate.h"
#include "policy/settings.h"

/*
 * How considerate a job is, now: which rates hold at this hour, whether it stays in
 * the background, how many connections it may use. Says what the net role is to be
 * told (PACE) and when that changes; sends nothing itself. Time is handed in.
 */
struct pacing_job {
	const struct settings *settings; /* borrowed */
	bool by_service;                 /* nobody waits for it */
	bool owns_process;  /* nothing else comes after it in this process */
	int64_t deadline_s; /* epoch; 0 = none */
};

struct pacing {
	struct pacing_job job;
	struct rate_rule rules[RATE_RULES_MAX]; /* of [transfer] rate_schedule */
	size_t rule_count;
	struct wire_pace now;     /* what holds, as PACE says it */
	int64_t looked_s, next_s; /* epoch: when, and when to look again */
};

/* In the background at that moment? ([transfer] background) */
bool pacing_is_background(const struct pacing_job *job, int64_t now_s);

/* Copies *job; p->now holds from then on. */
void pacing_begin(struct pacing *p, const struct pacing_job *job, int64_t now_s);
/* Look at the clock, as often as one likes: true when p->now has changed. */
bool pacing_turn(struct pacing *p, int64_t now_s);

/* The limit that holds for sources of that kind, bytes a second; 0 = none. */
uint64_t pacing_rate(const struct pacing *p, bool is_cloud);

/* How many connections, at most `most`, to sources of that kind. */
unsigned pacing_width(const struct pacing *p, bool is_cloud, unsigned most);

/* [transfer] minimum_rate as it can be asked of a source: no more than half of any
 * rate that we hold it to; with other traffic on the link, none. Bytes a second. */
uint64_t pacing_minimum(const struct pacing *p);

#endif
