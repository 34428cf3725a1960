#ifndef AGENT_KEEPER_LEDGER_H
#define AGENT_KEEPER_LEDGER_H

#include "agent/keeper/record.h"
#include "agent/keeper/report.h"
#include "policy/due.h"

/*
 * What the agent did and means to do: jobs, the reasons of the last decision,
 * transfers with their attempts, bytes by source kind and hour. In state.db, by
 * the handle of record.h. A hint and a history, never the truth: what is here is
 * what lies in the cache. All times epoch s.
 *
 * Jobs, polls, hosts and sums are in ledger.c, what a run leaves in runs.c, reading
 * it in history.c. All is bounded: jobs by policy and LEDGER_GONE more; transfers and
 * their parts, decisions and their sources each by a limit per run and one in all,
 * beyond which the oldest go (looked at every 16 runs); hours by LEDGER_HOURS (older
 * ones, and those of a clock that ran ahead, are summed up); hosts by the time they
 * are remembered and LEDGER_HOSTS. Texts longer than their fields are cut between
 * characters.
 */
#define LEDGER_GONE 10000
#define LEDGER_GONE_S (90 * 86400)
#define LEDGER_TRANSFERS 5000
#define LEDGER_ATTEMPTS_RUN 64    /* of more, the first and the last half */
#define LEDGER_ATTEMPTS 20000
#define LEDGER_HOOKS_RUN 32       /* more are not kept */
#define LEDGER_DECISIONS 10000
#define LEDGER_SOURCES_RUN 64     /* the first by rank */
#define LEDGER_SOURCES 50000
#define LEDGER_HOURS (90 * 24)
#define LEDGER_HOSTS 10000

struct ledger_job {
	char name[CONTENT_NAME_SIZE]; /* key: "ABC00042.3" */
	char deployment[65], title[257];
	bool is_required, is_in_policy; /* false = withdrawn */
	uint64_t priority;
	int64_t available_s, deadline_s;
	char hash[DIGEST_HEX_SIZE];   /* that policy names */
	struct due_past past;
	int64_t last_s;               /* end of the last run; 0 = none yet */
	struct err last;              /* how it ended */
	char path[512];               /* where it lies; "" */
	/* LEDGER_ARRIVING from the begin of a run until its hooks have run: what lies
	 * in the cache then, nobody was told of, so it is not yet here. */
	int64_t arrived_s;
};
#define LEDGER_ARRIVING (-1)

/* false where it is not known. */
bool ledger_get_job(struct record *r, const char *name, struct ledger_job *out);
enum err_code ledger_put_job(struct record *r, const struct ledger_job *job,
			     struct err *e);
/* By name; on_job returns false to stop. It may not write to r, nor walk over jobs
 * itself; the same of ledger_each_transfer. */
enum err_code ledger_each_job(struct record *r,
			      bool (*on_job)(void *arg,
					     const struct ledger_job *job),
			      void *arg, struct err *e);
/* Put all as jobs of policy, and mark every other job as withdrawn; one transaction,
 * which writes only what changed. Jobs that are not in policy and had no run for
 * LEDGER_GONE_S go. */
enum err_code ledger_set_policy(struct record *r, const struct ledger_job *jobs,
				size_t count, int64_t now_s, struct err *e);

/*
 * What one run did: a transfer with its attempts, the decision (sources with rule
 * and reason; that of a run which did not come to choosing replaces none), bytes
 * by kind and the hour in which it ended, memory of hosts (absent: ABSENT; not well:
 * CONNECT, STALLED, BROKEN, DEADLINE, SERVER, BUSY, DNS_TIMEOUT, DNS_SERVER, TLS_*).
 * A dry run leaves its decision only. result: how it ended, of a run that failed;
 * not looked at otherwise. by: "service" or "hand". One transaction.
 */
enum err_code ledger_add_run(struct record *r, const struct job_report *report,
			     const struct err *result, const char *by,
			     int64_t began_s, struct err *e);
/* The exit status of one hook (-1: it could not be run or was stopped), added to
 * the last transfer of that content, where there is one. */
enum err_code ledger_add_hook(struct record *r, const char *name,
			      const char *program, int status, const char *text,
			      struct err *e);

struct ledger_attempt {
	char kind[24], host[300], url[1024];
	struct err why; /* ERR_OK: it delivered */
	uint64_t bytes_received;
	int64_t duration_ms;
};
struct ledger_hook {
	char program[256], text[256];
	int status;
};
struct ledger_transfer {
	int64_t id, began_s, duration_ms;
	char name[CONTENT_NAME_SIZE], result[16], by[16];
	char kind[24], host[300]; /* that delivered; "" */
	uint64_t bytes_received, bytes_resumed, bytes_total;
	struct err error;
	struct ledger_attempt *attempts; /* owned by the call */
	size_t attempt_count;
	struct ledger_hook *hooks;
	size_t hook_count;
};
/* Newest first, at most `most`; name NULL = all. */
enum err_code ledger_each_transfer(struct record *r, const char *name, size_t most,
				   bool (*on_transfer)(void *arg,
						       const struct ledger_transfer *t),
				   void *arg, struct err *e);

struct ledger_source {
	unsigned rank;
	bool is_usable;
	char kind[24], host[300], url[1024] /* masked */, locality[64];
	char reason[161];
};
struct ledger_decision {
	int64_t at_s;
	char management_point[512];
	struct err error;              /* of locating and choosing */
	struct ledger_source *sources; /* owned: ledger_decision_free */
	size_t count;
};
bool ledger_get_decision(struct record *r, const char *name,
			 struct ledger_decision *out);
void ledger_decision_free(struct ledger_decision *d);

/*
 * Memory of a host: since when it is known not to have this content, and not to
 * be well (0 = nothing known). Forgotten after LEDGER_ABSENT_S, LEDGER_ILL_S, and by
 * a delivery from it.
 */
#define LEDGER_ABSENT_S 7200
#define LEDGER_ILL_S 1800
void ledger_get_host(struct record *r, const char *host, const char *name,
		     int64_t now_s, int64_t *absent_s, int64_t *ill_s);

/* Sums since the beginning (kept when old hours go), for metrics. Failures are
 * runs that failed, by err_class_name. */
struct ledger_sums {
	uint64_t bytes_on_prem, bytes_cloud, bytes_other;
	struct { char class_name[24]; uint64_t count; } failures[32];
	size_t failure_count;
	uint64_t arrived;
};
enum err_code ledger_get_sums(struct record *r, struct ledger_sums *out,
			      struct err *e);

/* How the last polls went; kept as texts. */
struct ledger_poll {
	int64_t last_s, good_s;
	struct err error; /* of the last one */
	uint64_t deployments;
	char source[1024];
};
void ledger_get_poll(struct record *r, struct ledger_poll *out);
enum err_code ledger_set_poll(struct record *r, const struct ledger_poll *p,
			      struct err *e);

#endif
