#ifndef POLICY_DUE_H
#define POLICY_DUE_H

#include "policy/deployment.h"
#include "policy/window.h"

/*
 * What is to be fetched now, and when the rest (agent-policy(5), WHEN CONTENT IS
 * FETCHED). Pure: policy, what happened so far, and the time in; an answer out.
 */

/* What happened so far to one content (ledger.h keeps it). Times epoch s, 0 =
 * never. All zero = seen for the first time. */
struct due_past {
	int64_t first_seen_s; /* in policy */
	bool is_here;         /* published, with the hash that policy names */
	unsigned tries;       /* failures in a row */
	int64_t failed_s;     /* the last one */
	int64_t delay_s;      /* how long it waits since then */
	int64_t search_since_s; /* looked for, without any location, since; 0 = not */
	bool has_given_up;    /* after the last search of DUE_SEARCH_S */
};

struct due_rules {
	const char *client_id; /* spreads the fleet; borrowed */
	const struct window *windows;
	size_t window_count;
	int64_t now_s;
	/* The newest version of that package in policy, 0 = this one. */
	uint32_t newer_version;
};

enum due_state {
	DUE_NOW,
	DUE_LATER,      /* at_s says when */
	DUE_DONE,       /* it is here */
	DUE_ON_REQUEST, /* purpose = available */
	DUE_SUPERSEDED, /* a newer version is deployed */
	DUE_NO_HASH,    /* nobody named one: nothing can be fetched */
};

struct due_answer {
	enum due_state state;
	int64_t at_s;       /* epoch; of DUE_LATER: when to ask again */
	int64_t planned_s;  /* its place between available and deadline; 0 = none */
	int64_t gives_up_s; /* end of the search that is under way; 0 = none */
	bool is_urgent;     /* past its deadline: windows do not hold it up */
	char reason[200];   /* for people: which rule, with figures */
};

/*
 * A required content comes at a point between available and deadline that is
 * this client's own: the share hash(client_id, id.version) / 2^64 of the first
 * DUE_SPREAD per cent of the open seconds between them. No `available`: from when
 * it was first seen. No `deadline`: at `available`, at the next open window. Past
 * the deadline: now, whatever the windows say. A content that failed waits
 * failed_s + delay_s; a clock that went back (failed_s lies in the future) does
 * not make it wait longer than delay_s from now.
 */
#define DUE_SPREAD 75
#define DUE_SEARCH_S 28800 /* docs/wire.md 4.4: ContentLocationTimeoutInterval */
#define DUE_DELAY_MIN_S 60
#define DUE_DELAY_MAX_S 14400 /* docs/wire.md 9: a full cache is tried every 4 h */
void due_decide(const struct deployment *d, const struct due_past *past,
		const struct due_rules *rules, struct due_answer *out);

/* It is in policy: first_seen_s is set, also anew where it lies in the future
 * since the clock went back (until that is done, due_decide takes it for now). */
void due_seen(struct due_past *past, int64_t now_s);

/*
 * After a failure: how long to wait, and whether the search is over. Delay:
 * doubled from DUE_DELAY_MIN_S to DUE_DELAY_MAX_S, 50 to 100 per cent by chance;
 * retry_after_s where it is longer, up to the maximum. LOCKED, NOT_DUE, WITHDRAWN:
 * the minimum without counting a try; SIGTERM, SIGINT: a second. NO_LOCATION and
 * CLOUD_REFUSED keep the search going for DUE_SEARCH_S, asking at least every 60
 * min; then has_given_up, and the next search begins after the maximum delay. A
 * management point that does not answer, and errors of the agent itself, leave a
 * search as it is; every other error ends it, since there were locations.
 */
void due_failed(struct due_past *past, const struct err *why, int64_t now_s,
		uint32_t chance);
/* After success. */
void due_arrived(struct due_past *past);

/* Order of work: priority, then deadline (none last), then id. For qsort-like
 * use on deployments: <0, 0, >0. */
int due_compare(const struct deployment *a, const struct deployment *b);

#endif
