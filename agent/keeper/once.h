#ifndef AGENT_KEEPER_ONCE_H
#define AGENT_KEEPER_ONCE_H

#include "agent/keeper/plan.h"
#include "agent/keeper/report.h"

/*
 * --once: fetch and load policy, do all that is due, one after the other. Policy
 * that cannot be fetched: what was kept of it counts, and the error is the result
 * when nothing else fails. 40 when the service or another --once works at this
 * moment (service.lock in the state folder).
 */
struct once_options {
	const struct settings *settings;
	const char *policy;  /* --policy; NULL */
	bool policy_must_exist;
	bool is_dry_run;
	void (*on_progress)(void *arg, const struct job_progress *p);
	void *arg;
};

struct once_job {
	char name[CONTENT_NAME_SIZE];
	struct job_report report; /* zero where it was not run */
	struct err error;
	bool was_run;
};

struct once_report {
	struct plan plan;         /* as it was made */
	struct once_job *jobs;    /* owned; those that were due, in order */
	size_t count;
	struct buf problems;      /* of policy, a line each */
	struct err poll_error;
};

enum err_code once_run(const struct once_options *o, struct once_report *out,
		       struct err *e);
void once_report_free(struct once_report *r);

/* The lock that says "a service polls here": descriptor, or -1 with ERR_LOCKED
 * (naming the pid) or ERR_FOLDER. */
int once_lock(const char *state_directory, struct err *e);

#endif
