#ifndef AGENT_KEEPER_REPORT_H
#define AGENT_KEEPER_REPORT_H

#include "agent/keeper/ask.h"
#include "agent/keeper/receive.h"
#include "policy/deployment.h"

/* What a job is asked, tells on the way, and reports in the end. */
struct job_progress;

struct job_request {
	const struct settings *settings;     /* all borrowed */
	const struct deployment *deployment; /* NULL = policy names it not */
	struct content content;
	const char *hash;       /* 64 hex, or NULL: by deployment or nobody */
	bool allow_unverified;
	const char *to;         /* --to DIR; NULL = the cache */
	const char *from;       /* --from; NULL */
	bool dry_run;
	/* Nobody waits for it: what a source asks for with Retry-After is not
	 * waited for, but put into the error for whoever plans the next try. */
	bool by_service;
	/* This process ends with it, so it may have idle priority for good. */
	bool owns_process;
	/* Contents of the cache that do not make room for this one; NULL. */
	bool (*is_kept)(void *arg, const char *name);
	void *kept_arg;
	/* Told at the begin of each step and about ten times a second in a
	 * transfer; may be NULL. */
	void (*on_progress)(void *arg, const struct job_progress *p);
	void *arg;
};

struct job_progress {
	const char *step;       /* "locate", "list", "transfer", ... */
	const char *host;       /* source, or "" */
	struct receive_figures figures;
	int64_t now_ms, transfer_began_ms;
};

enum job_result {
	JOB_FAILED,
	JOB_VERIFIED,
	JOB_CACHED,
	JOB_UNVERIFIED,
	JOB_PLANNED, /* --dry-run */
};

/* "verified": the word of JSON, of --history, of the ledger. */
const char *job_result_word(enum job_result result);

struct job_attempt {
	enum source_kind kind;
	char *host, *url;  /* owned; url masked */
	struct err why;    /* ERR_OK: this one delivered */
	uint64_t bytes_received;
	int64_t duration_ms;
};

struct job_step {
	char *step, *source, *detail; /* owned; source "" = none */
	bool ok;
	int64_t duration_ms;
};

struct job_report {
	struct content content; /* version as found */
	enum job_result result;
	char hash[DIGEST_HEX_SIZE]; /* of what is there; "" */
	char *path;                 /* owned; where it lies; NULL */
	struct receive_figures figures;
	int64_t duration_ms;
	struct job_attempt *attempts; /* owned, in order */
	size_t attempt_count;
	int delivered;              /* index of the attempt, -1 = none */
	struct ask_location location;
	struct choose_result chosen;
	/* --diagnose only */
	struct job_step *steps;     /* owned */
	size_t step_count;
};
void job_report_free(struct job_report *r);

#endif
