#include "agent/keeper/once.h"

#include "agent/keeper/events.h"
#include "agent/keeper/metrics.h"
#include "agent/keeper/poll.h"
#include "agent/keeper/steps.h"
#include "agent/keeper/task.h"
#include "common/clock.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/own.h"
#include "common/signals.h"
#include "policy/value.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define COMPONENT "PolicyAgent"
#define LOCK_NAME "service.lock"
#define DECIDE_EVERY_S 60 /* windows open and close while jobs run */

/* --- alone ---------------------------------------------------------------- */

static int refuse_lock(int fd, struct err *e)
{
	autobuf text = { .max = 31 };
	uint64_t pid = 0;
	if (fs_read_fd(fd, LOCK_NAME, &text, NULL) == ERR_OK && text.len)
		value_number(span_trim(buf_as_span(&text)), &pid);
	err_set(e, ERR_LOCKED, "the service, or another --once, works here: its "
		"process is %" PRIu64, pid);
	return -1;
}

int once_lock(const char *state_directory, struct err *e)
{
	char text[32];
	struct err own = { 0 };
	autofd dir = fs_open_root(state_directory, 0700, &own);
	autofd fd = dir < 0 ? -1 :
			      fs_open_at(dir, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW,
					 0600, &own);
	if (fd < 0) {
		err_set(e, own.code, "state folder %.200s: %s", state_directory,
			own.text);
		return -1;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		if (errno == EWOULDBLOCK)
			return refuse_lock(fd, e);
		err_set(e, ERR_FOLDER, "lock " LOCK_NAME ": %m");
		return -1;
	}
	/* The number is for people: a full disk does not take the lock from us. */
	int len = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	if (ftruncate(fd, 0) != 0 ||
	    fs_write_at(fd, text, (size_t)len, 0, LOCK_NAME, &own) != ERR_OK)
		log_debug(COMPONENT, LOCK_NAME " does not name us: %s", own.text);
	return take_fd(&fd);
}

/* --- policy --------------------------------------------------------------- */

struct once {
	const struct once_options *o;
	struct once_report *out;
	struct record *record; /* NULL: only in a dry run */
	struct err failed;     /* of the last job that failed */
	struct err no_hash;    /* of the last job that cannot begin */
};

/* A dry run asks no network: it goes by what was kept. */
static enum err_code fetch(struct once *w, struct err *e)
{
	const struct settings *s = w->o->settings;
	bool is_changed = false;
	if (w->o->is_dry_run || !poll_is_remote(s, w->o->policy))
		return ERR_OK;
	return poll_fetch(s, w->o->policy, &is_changed, e);
}

static void note_poll(struct once *w, size_t deployments)
{
	const struct settings *s = w->o->settings;
	struct ledger_poll poll = { 0 };
	struct err e = { 0 };
	if (w->record == NULL || w->o->is_dry_run)
		return;
	ledger_get_poll(w->record, &poll);
	poll.last_s = clock_wall_s();
	poll.error = w->out->poll_error;
	if (poll.error.code == ERR_OK)
		poll.good_s = poll.last_s;
	poll.deployments = deployments;
	autofree char *source =
		log_clean(w->o->policy ? w->o->policy : s->policy_source);
	snprintf(poll.source, sizeof(poll.source), "%s", source ? source : "");
	if (ledger_set_poll(w->record, &poll, &e) != ERR_OK)
		log_warning(COMPONENT, "the poll is not recorded: %s", e.text);
}

static enum err_code read_policy(struct once *w, struct deployment_list *policy,
				 struct err *e)
{
	const struct once_options *o = w->o;
	struct err fetched = { 0 }, loaded = { 0 };
	enum err_code rc = fetch(w, &fetched);
	if (signals_check(e) != ERR_OK)
		return e->code;
	if (rc != ERR_OK) {
		log_warning(COMPONENT, "policy is not fetched, what was kept of it "
			    "counts: %s", fetched.text);
		w->out->poll_error = fetched;
	}
	rc = poll_load(o->settings, o->policy, o->policy_must_exist, policy,
		       &w->out->problems, &loaded);
	if (rc == ERR_NOMEM)
		return err_set(e, rc, "%s", loaded.text);
	if (rc != ERR_OK && w->out->poll_error.code == ERR_OK)
		w->out->poll_error = loaded;
	note_poll(w, policy->count);
	return ERR_OK;
}

/* --- jobs ----------------------------------------------------------------- */

static struct once_job *add_job(struct once_report *out, const char *name,
				struct err *e)
{
	struct once_job *more =
		reallocarray(out->jobs, out->count + 1, sizeof(*more));
	if (more == NULL) {
		err_set(e, ERR_NOMEM, "no memory for a job");
		return NULL;
	}
	out->jobs = more;
	struct once_job *job = &more[out->count++];
	*job = (struct once_job){ .report.delivered = -1 };
	snprintf(job->name, sizeof(job->name), "%s", name);
	return job;
}

/* What cannot even begin, and would say so each time: no network is asked. */
static enum err_code report_hashless(struct once *w, struct err *e)
{
	const struct plan *p = &w->out->plan;
	for (size_t i = 0; i < p->count; i++) {
		if (p->items[i].answer.state != DUE_NO_HASH)
			continue;
		struct once_job *job = add_job(w->out, p->items[i].name, e);
		if (job == NULL)
			return ERR_NOMEM;
		job->report.content = p->items[i].deployment->content;
		job_no_hash(p->items[i].deployment, job->name, &job->error);
		w->no_hash = job->error;
		if (!w->o->is_dry_run)
			log_warning(COMPONENT, "%s", job->error.text);
	}
	return ERR_OK;
}

static enum err_code run_item(struct once *w, struct plan_item *item,
			      struct err *e)
{
	const struct once_options *o = w->o;
	struct job_request q = { .settings = o->settings,
				 .deployment = item->deployment,
				 .content = item->deployment->content,
				 .is_kept = plan_keeps,
				 .kept_arg = &w->out->plan,
				 .on_progress = o->on_progress,
				 .arg = o->arg };
	struct once_job *job = add_job(w->out, item->name, e);
	if (job == NULL)
		return ERR_NOMEM;
	job->was_run = true;
	if (task_run(&q, "service", &job->report, &job->error) != ERR_OK)
		w->failed = job->error;
	plan_refresh(&w->out->plan, item, o->settings, w->record, clock_wall_s());
	return signals_check(e);
}

/* Each at most once, in the order of work; is_running marks what had its turn. */
static enum err_code run_all(struct once *w, struct err *e)
{
	struct plan *p = &w->out->plan;
	struct plan_item *item;
	int64_t decided_s = clock_wall_s();
	enum err_code rc = ERR_OK;
	while (rc == ERR_OK && (item = plan_first(p)) != NULL) {
		item->is_running = true;
		rc = run_item(w, item, e);
		int64_t now_s = clock_wall_s();
		if (now_s < decided_s || now_s >= decided_s + DECIDE_EVERY_S ||
		    now_s >= p->next_s) {
			plan_decide(p, now_s);
			decided_s = now_s;
		}
	}
	for (size_t i = 0; i < p->count; i++)
		p->items[i].is_running = false;
	plan_decide(p, clock_wall_s());
	return rc;
}

/* --- all together --------------------------------------------------------- */

static enum err_code open_record(struct once *w, struct err *e)
{
	const char *folder = w->o->settings->state_directory;
	char path[4096];
	snprintf(path, sizeof(path), "%s/state.db", folder);
	/* Opening makes what is not there. */
	if (w->o->is_dry_run && access(path, R_OK) != 0)
		return ERR_OK;
	w->record = record_open(folder, e);
	if (w->record || w->o->is_dry_run)
		return ERR_OK;
	return e->code;
}

static void report(struct once *w)
{
	const struct settings *s = w->o->settings;
	struct err e = { 0 };
	if (w->o->is_dry_run)
		return;
	if (events_are_sent(s) && signals_check(NULL) == ERR_OK &&
	    events_send(s, w->record, &e) != ERR_OK)
		log_warning(COMPONENT, "state messages wait: %s", e.text);
	metrics_write(s, w->record, &w->out->plan, clock_wall_s());
}

static void own_policy(struct deployment_list *l)
{
	deployment_list_free(l);
}

static enum err_code work(struct once *w, struct err *e)
{
	const struct once_options *o = w->o;
	__attribute__((cleanup(own_policy))) struct deployment_list policy = { 0 };
	enum err_code rc = open_record(w, e);
	if (rc == ERR_OK)
		rc = read_policy(w, &policy, e);
	if (rc == ERR_OK)
		rc = plan_make(&w->out->plan, o->settings, &policy, w->record,
			       o->is_dry_run, clock_wall_s(), e);
	if (rc != ERR_OK)
		return rc;
	rc = report_hashless(w, e);
	if (rc == ERR_OK && !o->is_dry_run)
		rc = run_all(w, e);
	report(w);
	return rc;
}

/* The worst that there is to say: a job that failed, one that cannot begin, policy
 * that could not be had. */
static enum err_code judge(const struct once *w, struct err *e)
{
	const struct err *all[] = { &w->failed, &w->no_hash, &w->out->poll_error };
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i]->code != ERR_OK) {
			*e = *all[i];
			return e->code;
		}
	return ERR_OK;
}

enum err_code once_run(const struct once_options *o, struct once_report *out,
		       struct err *e)
{
	struct once w = { .o = o, .out = out };
	*out = (struct once_report){ 0 };
	autofd lock = -1;
	if (!o->is_dry_run) {
		lock = once_lock(o->settings->state_directory, e);
		if (lock < 0)
			return e->code;
	}
	enum err_code rc = work(&w, e);
	record_close(w.record);
	return rc == ERR_OK ? judge(&w, e) : rc;
}

void once_report_free(struct once_report *r)
{
	plan_free(&r->plan);
	for (size_t i = 0; i < r->count; i++)
		job_report_free(&r->jobs[i].report);
	free(r->jobs);
	buf_free(&r->problems);
	*r = (struct once_report){ 0 };
}
