#ifndef AGENT_KEEPER_STEPS_H
#define AGENT_KEEPER_STEPS_H

#include "agent/keeper/cache.h"
#include "agent/keeper/pacing.h"
#include "agent/keeper/record.h"
#include "agent/keeper/report.h"

/*
 * What --download, --locate, --replay and --diagnose have in common: a job under
 * way and its first steps. For job and diagnose.
 */
struct job {
	const struct job_request *request;
	struct job_report *report;
	char name[CONTENT_NAME_SIZE];
	char hash[DIGEST_HEX_SIZE]; /* expected; "" = nobody named one */
	const char *host;           /* source under way; borrowed; "" */
	struct worker *worker;
	struct pacing pacing;
	struct record *record;      /* NULL where it cannot be kept */
	struct cache *cache;        /* NULL with --to */
	char *client_id;
	struct draft draft;
	struct receive *receive;
	struct listing listing;
	struct ask_location relocated; /* the newest reply, lent to a source */
	int64_t began_ms, deadline_ms, patience_ms, transfer_began_ms;
};

void job_begin(struct job *j, const struct job_request *request,
	       struct job_report *report);
/* Closes everything; fills durations. */
void job_end(struct job *j);

/* Tell on_progress that `step` goes on. */
void job_tell(struct job *j, const char *step);

/* Version and expected hash, from policy and command line. ERR_NO_HASH,
 * ERR_USAGE when the two hashes differ. */
enum err_code job_settle(struct job *j, struct err *e);
/* ERR_NO_HASH, saying who should name it; d may be NULL. */
enum err_code job_no_hash(const struct deployment *d, const char *name,
			  struct err *e);

/* State folder and client id. ERR_FOLDER. */
enum err_code job_open_state(struct job *j, struct err *e);
/* The cache, unless --to was given. ERR_FOLDER. */
enum err_code job_open_cache(struct job *j, struct err *e);

enum err_code job_start(struct job *j, bool needs_ring, struct err *e);
enum err_code job_restart_worker(struct job *j, struct err *e);

/* Locate, remember boundary groups, choose. The text of an empty list says what
 * was not asked for, and why. */
enum err_code job_ask_location(struct job *j, struct ask_location *location,
			       struct choose_result *chosen, struct err *e);

/* The rules of settings, deployment and command line, applied to a list. */
enum err_code job_choose(struct job *j, const struct source_list *list,
			 struct choose_result *out, struct err *e);

/* Cloud sources from chosen.items[at] on: measure connect times where there are
 * several, the quickest first (docs/wire.md 11). */
void job_order_cloud(struct job *j, size_t at);

#endif
