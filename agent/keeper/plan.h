#ifndef AGENT_KEEPER_PLAN_H
#define AGENT_KEEPER_PLAN_H

#include "agent/keeper/ledger.h"
#include "policy/deployment.h"
#include "policy/settings.h"

/*
 * Policy, ledger, cache and clock together: what to do now, and when to look
 * again.
 */
struct plan_item {
	const struct deployment *deployment; /* borrowed from plan->policy */
	char name[CONTENT_NAME_SIZE];
	/* That replaces this one now, 0 = none: a higher one of the same package in
	 * policy, which is available by now, and required where this one is. */
	uint32_t newer_version;
	struct due_past past;
	struct due_answer answer;
	bool is_running;        /* for the daemon */
};

struct plan {
	struct deployment_list policy; /* owned */
	struct window windows[WINDOW_MAX];
	size_t window_count;
	char client_id[64];
	struct plan_item *items; /* owned; in the order of work (due_compare) */
	size_t count;
	size_t *packages;        /* owned; items by package, newest first */
	int64_t next_s;          /* the earliest DUE_LATER; INT64_MAX = none */
};

/*
 * Takes the policy (sets it to zero), looks every content up in the ledger and in
 * the cache (the stored listing must have the hash; no byte is read), writes the
 * jobs of the policy to the ledger, marks the others as withdrawn (events_tell for
 * each that is new or gone; of a policy that is_incomplete none is taken for gone),
 * and decides. Without a `record` nothing is remembered
 * and nothing written (--status by somebody who may not read the state).
 * Several deployments of one content: the most urgent counts.
 * read_only: writes nothing at all (--status, --dry-run).
 * A cache or a ledger that cannot be read or written is a warning: what is due is
 * due all the same. ERR_CONFIG, ERR_NOMEM.
 */
enum err_code plan_make(struct plan *p, const struct settings *s,
			struct deployment_list *policy, struct record *r,
			bool read_only, int64_t now_s, struct err *e);
void plan_free(struct plan *p); /* zero is fine */

/* Decide anew, later; nothing is read. */
void plan_decide(struct plan *p, int64_t now_s);

/* The first item that is due and not running; NULL = none. */
struct plan_item *plan_first(struct plan *p);
/* Does policy require that content now, so that it must not make room for another?
 * A job_request.is_kept; arg: struct plan. */
bool plan_keeps(void *plan, const char *name);
/* By name, whatever its case; NULL. */
struct plan_item *plan_find(struct plan *p, const char *name);
/*
 * Read past of one item again, after its run: ledger and cache, and decide. Where
 * the run left no word in the ledger (it was killed, or the disk is full) and no
 * content in the cache, it counts as a failure, so that it is not due at once.
 */
void plan_refresh(struct plan *p, struct plan_item *item, const struct settings *s,
		  struct record *r, int64_t now_s);

/* "due now", "waiting", "here", "on request", "superseded", "no hash",
 * "running": the word of --status. */
const char *plan_word(const struct plan_item *item);

#endif
