#include "agent/keeper/task.h"

#include "agent/keeper/cache.h"
#include "agent/keeper/events.h"
#include "agent/keeper/hooks.h"
#include "agent/keeper/ledger.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/own.h"
#include "common/priority.h"
#include "common/signals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMPONENT "agent"

/* One run, and what is to be written down about it. */
struct task {
	const struct job_request *request;
	const char *by;
	struct job_report *report;
	struct err result;
	int64_t began_s, ended_s;
	bool is_transfer_told;
	bool is_arrival;              /* it came, and nobody was told yet */
	char name[CONTENT_NAME_SIZE]; /* as found: with version */
	struct record *record;
};

static void lose(const char *what, const struct err *e)
{
	log_warning(COMPONENT, "%s is not recorded: %s", what, e->text);
}

/* --- on the way ----------------------------------------------------------- */

/* The version as policy names it, where nobody asked for one. */
static struct content content_of(const struct job_request *q)
{
	const struct deployment *d = q->deployment;
	return d && !q->content.has_version ? d->content : q->content;
}

/* The first bytes are about to come: somebody may want to know. */
static void tell_transfer(struct task *t)
{
	const struct settings *s = t->request->settings;
	struct content content = content_of(t->request);
	struct err e = { 0 };
	struct record *r = NULL;
	t->is_transfer_told = true;
	if (events_are_sent(s) && (r = record_open(s->state_directory, &e)) == NULL)
		lose("the begin of a transfer", &e);
	events_tell(s, r, OUTBOX_TRANSFER, &content, NULL, NULL, clock_wall_s());
	record_close(r);
}

static void on_progress(void *arg, const struct job_progress *p)
{
	struct task *t = arg;
	if (!t->is_transfer_told && strcmp(p->step, "transfer") == 0)
		tell_transfer(t);
	if (t->request->on_progress)
		t->request->on_progress(t->request->arg, p);
}

/* --- the job's past ------------------------------------------------------- */

static bool is_search_error(enum err_code code)
{
	return code == ERR_NO_LOCATION || code == ERR_CLOUD_REFUSED;
}

/*
 * The search is counted in one place, the record's: from the first question on,
 * until the content is here or the search is given up. That is what management
 * points are told (ClientInOperation). due takes its begin from there when the
 * first answers were empty; after sources that failed, its eight hours begin with
 * the first empty answer, while management points are told the whole time.
 */
static void note_failure(struct task *t, struct due_past *past)
{
	bool is_search = is_search_error(t->result.code);
	if (is_search && past->search_since_s == 0 && past->tries == 0)
		past->search_since_s =
			record_search_since(t->record, t->name, t->ended_s);
	/* What brought bytes goes on soon: the delay grows while nothing comes. */
	if (t->report->figures.bytes_received > 0)
		past->tries = 0;
	due_failed(past, &t->result, t->ended_s, clock_chance());
	if (past->has_given_up)
		record_search_done(t->record, t->name);
}

/* A job that the ledger does not know yet, from its deployment. */
static struct ledger_job new_job(const struct task *t, const struct deployment *d)
{
	struct ledger_job job = { .is_required = d->is_required,
				  .is_in_policy = true,
				  .priority = d->priority,
				  .available_s = d->available_s,
				  .deadline_s = d->deadline_s,
				  .past.first_seen_s = t->began_s };
	snprintf(job.name, sizeof(job.name), "%s", t->name);
	snprintf(job.deployment, sizeof(job.deployment), "%s", d->id);
	snprintf(job.title, sizeof(job.title), "%s", d->name);
	snprintf(job.hash, sizeof(job.hash), "%s", d->hash);
	return job;
}

/* Was it the content that policy means? Somebody may have named another hash. */
static bool is_of_job(const struct task *t, const struct ledger_job *job)
{
	return t->result.code != ERR_OK || job->hash[0] == '\0' ||
	       strcmp(job->hash, t->report->hash) == 0;
}

static void update_job(struct task *t)
{
	const struct deployment *d = t->request->deployment;
	struct ledger_job job;
	struct err e = { 0 };
	if (!ledger_get_job(t->record, t->name, &job)) {
		if (d == NULL)
			return;
		job = new_job(t, d);
	}
	if (!is_of_job(t, &job))
		return;
	job.last_s = t->ended_s;
	job.last = t->result;
	if (t->result.code == ERR_OK) {
		due_arrived(&job.past);
		snprintf(job.path, sizeof(job.path), "%s",
			 t->report->path ? t->report->path : "");
	} else {
		note_failure(t, &job.past);
	}
	if (ledger_put_job(t->record, &job, &e) != ERR_OK)
		lose("what comes next for the job", &e);
}

/*
 * Before the run: from now on what is published counts as here only when it was told
 * (end_arrival), so that whatever kills us in between, hooks and reports come with
 * the next run.
 */
static void begin_arrival(struct task *t)
{
	const struct job_request *q = t->request;
	struct ledger_job job;
	struct err e = { 0 };
	const struct content *c = q->deployment && !q->content.has_version ?
					  &q->deployment->content : &q->content;
	struct record *r = record_open(q->settings->state_directory, &e);
	if (r == NULL)
		return; /* the run says so */
	content_name(c, t->name);
	if (ledger_get_job(r, t->name, &job) && !job.past.is_here) {
		job.arrived_s = LEDGER_ARRIVING;
		if (ledger_put_job(r, &job, &e) != ERR_OK)
			lose("that it is to be told", &e);
	}
	record_close(r);
}

/* All has been told. */
static void end_arrival(struct task *t)
{
	struct ledger_job job;
	struct err e = { 0 };
	if (t->record == NULL || !ledger_get_job(t->record, t->name, &job))
		return;
	job.arrived_s = t->ended_s;
	if (ledger_put_job(t->record, &job, &e) != ERR_OK)
		lose("that it was told", &e);
}

/* --- the cache ------------------------------------------------------------ */

/* Older versions of what has just arrived go first when room is needed. */
static void age_older(const struct task *t)
{
	const struct settings *s = t->request->settings;
	struct err e = { 0 };
	struct cache *c =
		cache_open(s->cache_directory, s->cache_size, s->min_free, &e);
	if (c == NULL || cache_age_older(c, &t->report->content, &e) != ERR_OK)
		lose("that older versions may go", &e);
	cache_close(c);
}

/* --- traces --------------------------------------------------------------- */

/* Interrupted, or not even begun: nothing happened that others should hear of. */
static bool is_event(enum err_code code)
{
	int class = err_exit(code);
	return class != CLASS_INTERRUPTED && class != CLASS_TERMINATED &&
	       class != CLASS_NOT_NOW && class != CLASS_USAGE;
}

static void tell_end(const struct task *t)
{
	const struct job_request *q = t->request;
	bool is_ok = t->result.code == ERR_OK;
	if ((is_ok && !t->is_arrival) || !is_event(t->result.code))
		return;
	/* By hand the asker is told. */
	if (!is_ok && strcmp(t->by, "service") == 0)
		log_warning("ContentTransferManager", "%s failed at step %s: %s",
			    t->name, err_step(t->result.code), t->result.text);
	events_tell(q->settings, q->to ? NULL : t->record,
		    is_ok ? OUTBOX_ARRIVED : OUTBOX_FAILED, &t->report->content,
		    t->report, &t->result, t->ended_s);
}

static void leave_traces(struct task *t)
{
	struct err e = { 0 };
	bool is_job = t->request->to == NULL;
	struct ledger_job job;
	/* There already, from a run that was broken off. */
	t->is_arrival |= t->result.code == ERR_OK &&
			 ledger_get_job(t->record, t->name, &job) &&
			 job.arrived_s == LEDGER_ARRIVING;
	if (ledger_add_run(t->record, t->report, &t->result, t->by, t->began_s,
			   &e) != ERR_OK)
		lose("the transfer", &e);
	if (is_job && t->result.code != ERR_USAGE && t->result.code != ERR_SIGINT)
		update_job(t);
}

/* What is new in the cache is told to the hooks, once. */
static void after_arrival(struct task *t)
{
	struct err e = { 0 };
	if (!t->is_arrival || t->report->result == JOB_UNVERIFIED ||
	    t->request->to || t->report->path == NULL)
		return;
	age_older(t);
	/* A signal ends the hooks: they are run anew with the next run. */
	if (hooks_run(t->request->settings, t->record, &t->report->content,
		      t->report->path, &e) != ERR_OK)
		log_warning(COMPONENT, "hooks for %s: %s", t->name, e.text);
	else
		end_arrival(t);
}

/* --- all together --------------------------------------------------------- */

static void run_job(struct task *t)
{
	struct job_request q = *t->request;
	q.on_progress = on_progress;
	q.arg = t;
	q.by_service = strcmp(t->by, "service") == 0;
	t->began_s = clock_wall_s();
	enum err_code rc = job_download(&q, t->report, &t->result);
	if (rc == ERR_OK) /* a second try may have left the word of the first */
		t->result = (struct err){ 0 };
	t->ended_s = clock_wall_s();
	t->is_arrival = rc == ERR_OK && t->report->result != JOB_CACHED;
	content_name(&t->report->content, t->name);
	/* what hooks do is not ours to slow down */
	if (priority_is_low() && q.owns_process && !priority_restore())
		log_debug(COMPONENT, "hooks run with idle priority: RLIMIT_NICE "
				     "does not let us go back");
}

/* Nothing was tried, so there is nothing to tell: a wrong command line, a state
 * folder that is not ours. */
static bool is_untraced(const struct task *t)
{
	return t->request->dry_run || t->result.code == ERR_USAGE ||
	       record_is_foreign(t->request->settings->state_directory);
}

enum err_code task_run(const struct job_request *request, const char *by,
		       struct job_report *report, struct err *e)
{
	struct task t = { .request = request, .by = by, .report = report };
	struct err own = { 0 };
	t.is_transfer_told = request->dry_run || request->to;
	if (!t.is_transfer_told &&
	    !record_is_foreign(request->settings->state_directory))
		begin_arrival(&t);
	run_job(&t);
	if (is_untraced(&t)) {
		*e = t.result;
		return e->code;
	}
	t.record = record_open(request->settings->state_directory, &own);
	if (t.record)
		leave_traces(&t);
	else if (t.result.code != ERR_FOLDER) /* which says the same */
		lose("the transfer", &own);
	tell_end(&t);
	after_arrival(&t);
	record_close(t.record);
	*e = t.result;
	return e->code;
}
