#include "agent/keeper/agenda.h"

#include "agent/keeper/events.h"
#include "agent/keeper/metrics.h"
#include "agent/keeper/pacing.h"
#include "agent/keeper/poll.h"
#include "agent/keeper/task.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/own.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POLL_RETRY_MS 60000      /* after the first poll that failed, doubled */
#define NETWORK_PATIENCE_MS 900000 /* a poll that hangs is ended */
#define LINK_SPREAD_MS 10000     /* a whole site comes back at one moment */
#define FILES_CALM_MS 200        /* a burst of changes is over */
#define FILES_PATIENCE_MS 2000   /* or is looked at nevertheless */
#define FORK_RETRY_MS 60000

/* A moment of the wall clock on the boot clock. */
static int64_t boot_ms_of(int64_t at_s)
{
	if (at_s >= INT64_MAX / 2000)
		return INT64_MAX;
	return clock_now_ms() + at_s * 1000 - clock_wall_ms();
}

/* base by chance, from 0 to max. */
static int64_t share(int64_t max)
{
	return (int64_t)((uint64_t)max / UINT32_MAX * clock_chance()) +
	       (int64_t)((uint64_t)max % UINT32_MAX * clock_chance() / UINT32_MAX);
}

/* --- policy ------------------------------------------------------------------- */

static void tell_problems(struct crew *s, struct buf *problems,
			  const struct err *why)
{
	struct span rest = buf_as_span(problems), line;
	struct span before = buf_as_span(&s->problems);
	/* Once, not at each poll. */
	if (rest.len == before.len && rest.len &&
	    memcmp(rest.at, before.at, rest.len) == 0)
		return;
	if (rest.len == 0 && why)
		log_error("PolicyAgent", "%s", why->text);
	while (span_split(&rest, '\n', &line))
		log_error("PolicyAgent", "%.*s", SPAN_ARG(line));
	if (problems->len == 0 && before.len)
		log_info("PolicyAgent", "policy is well again");
	buf_free(&s->problems);
	s->problems = *problems;
	*problems = (struct buf){ 0 };
}

/* Both lists are in the order of their files: look from the last find on. */
static bool is_among(const struct deployment *items, size_t count,
		     const struct content *content, size_t *from)
{
	for (size_t k = 0; k < count; k++) {
		size_t i = (*from + k) % count;
		if (content_same(&items[i].content, content)) {
			*from = i + 1;
			return true;
		}
	}
	return false;
}

/*
 * A file that cannot be read (half written, say) means what it said before, as long
 * as it is there: else an editor that saves would withdraw a deployment in the
 * middle of its transfer. Moves such deployments from old to fresh.
 */
static enum err_code keep_unreadable(struct deployment_list *old,
				     struct deployment_list *fresh, struct err *e)
{
	size_t read = fresh->count, room = read + old->count, from = 0;
	if (old->count == 0)
		return ERR_OK;
	struct deployment *items = reallocarray(fresh->items, room, sizeof(*items));
	if (items == NULL)
		return err_set(e, ERR_NOMEM, "no memory for policy");
	fresh->items = items;
	fresh->room = room;
	for (size_t i = 0; i < old->count; i++) {
		struct deployment *d = &old->items[i];
		if (d->path == NULL || is_among(items, read, &d->content, &from) ||
		    access(d->path, F_OK) != 0)
			continue;
		items[fresh->count++] = *d;
		*d = (struct deployment){ 0 };
	}
	return ERR_OK;
}

static void note_poll(struct crew *s, struct record *r, size_t deployments)
{
	struct err e = { 0 };
	struct ledger_poll p = { 0 };
	const char *source = s->policy ? s->policy : s->settings.policy_source;
	ledger_get_poll(r, &p);
	p.last_s = clock_wall_s();
	if (s->poll_error.code == ERR_OK)
		p.good_s = p.last_s;
	p.error = s->poll_error;
	p.deployments = deployments;
	snprintf(p.source, sizeof(p.source), "%s", source ? source : "");
	if (ledger_set_poll(r, &p, &e) != ERR_OK)
		log_warning("PolicyAgent", "%s", e.text);
}

/* Scheduled work that policy, or the clock, no longer wants. */
static void stop_unwanted(struct crew *s)
{
	struct work *w = crew_of_kind(s, WORK_JOB);
	if (w == NULL || w->kill_at_ms != INT64_MAX)
		return;
	const struct plan_item *item = plan_find(&s->plan, w->name);
	const char *why = NULL;
	if (item == NULL)
		why = "policy has withdrawn it";
	else if (strcmp(item->deployment->hash, w->hash) != 0)
		why = "policy names another hash";
	else if (item->answer.state != DUE_NOW)
		why = item->answer.reason;
	else if (w->yields_until_s && clock_wall_s() >= w->yields_until_s)
		why = "its deadline has passed: it goes on in the foreground";
	if (why == NULL)
		return;
	log_info("ContentTransferManager", "stopped: %s content=%s", why, w->name);
	crew_stop(w, SIGTERM, CREW_GRACE_MS);
}

void agenda_mark(struct crew *s)
{
	for (size_t i = 0; i < s->plan.count; i++) {
		struct plan_item *item = &s->plan.items[i];
		item->is_running = false;
		for (unsigned k = 0; k < CREW_WORKS; k++)
			item->is_running |= crew_is_about(
				&s->works[k], &item->deployment->content);
	}
}

static void decide(struct crew *s)
{
	int64_t now_s = clock_wall_s();
	plan_decide(&s->plan, now_s);
	stop_unwanted(s);
	s->decide_at_s = s->plan.next_s;
	/* Work under way ends with its window, and yields until its deadline. */
	struct work *w = crew_of_kind(s, WORK_JOB);
	if (w) {
		int64_t end_s = window_end(s->plan.windows, s->plan.window_count,
					   now_s);
		if (end_s > now_s && end_s < s->decide_at_s)
			s->decide_at_s = end_s;
		if (w->yields_until_s > now_s && w->yields_until_s < s->decide_at_s)
			s->decide_at_s = w->yields_until_s;
	}
}

/* Read and plan. is_poll: it counts as one, with the error of fetching. */
static void load(struct crew *s, bool is_poll, const struct err *fetched)
{
	struct deployment_list fresh = { 0 };
	struct plan next = { 0 };
	autobuf problems = { 0 };
	struct err e = { 0 }, plan_error = { 0 };
	enum err_code rc = poll_load(&s->settings, s->policy, s->policy_must_exist,
				     &fresh, &problems, &e);
	tell_problems(s, &problems, rc == ERR_OK ? NULL : &e);
	if (is_poll)
		s->poll_error = fetched && fetched->code ? *fetched : e;
	if (is_poll && rc == ERR_OK && !(fetched && fetched->code))
		s->poll_error = (struct err){ 0 };
	if (rc != ERR_OK)
		rc = keep_unreadable(&s->plan.policy, &fresh, &plan_error);
	struct record *r = crew_record(s);
	if (rc == ERR_OK)
		rc = plan_make(&next, &s->settings, &fresh, r, false,
			       clock_wall_s(), &plan_error);
	if (rc != ERR_OK) {
		/* Without memory there is no plan until the next poll. */
		log_error("PolicyAgent", "%s", plan_error.text);
		deployment_list_free(&fresh);
	}
	plan_free(&s->plan);
	s->plan = next;
	agenda_mark(s);
	decide(s);
	s->must_send = true;
	if (r && is_poll)
		note_poll(s, r, s->plan.count);
	metrics_write(&s->settings, r, &s->plan, clock_wall_s());
	record_close(r);
	/* What ten thousand deployments took is else kept for the next time. */
	malloc_trim(0);
}

/* --- polls -------------------------------------------------------------------- */

static bool is_remote(const struct crew *s)
{
	return poll_is_remote(&s->settings, s->policy);
}

static void plan_next_poll(struct crew *s)
{
	int64_t interval_ms = s->settings.poll_interval_ms, wait_ms;
	struct err e = { 0 };
	bool has_failed = is_remote(s) && s->poll_error.code != ERR_OK;
	s->poll_failures = has_failed ? s->poll_failures + 1 : 0;
	/* ten per cent less to ten per cent more */
	wait_ms = interval_ms - interval_ms / 10 + share(interval_ms / 5);
	if (has_failed) {
		int64_t asked_ms = (int64_t)s->poll_error.retry_after_s * 1000;
		int64_t back_ms = clock_backoff_ms(s->poll_failures, POLL_RETRY_MS,
						   interval_ms, clock_chance());
		wait_ms = back_ms > asked_ms ? back_ms : asked_ms;
		if (wait_ms > interval_ms)
			wait_ms = interval_ms;
	}
	s->next_poll_ms = clock_now_ms() + wait_ms;
	if (watch_link(&s->watch, has_failed, &e) != ERR_OK)
		log_debug("PolicyAgent", "%s", e.text);
}

static int run_poll(void *arg)
{
	struct crew *s = arg;
	struct err e = { 0 };
	bool has_changed = false;
	return poll_fetch(&s->settings, s->policy, &has_changed, &e) == ERR_OK ?
		       0 : child_fail(&e);
}

void agenda_poll(struct crew *s)
{
	struct err e = { 0 };
	struct work what = { .kind = WORK_POLL };
	if (s->is_ending)
		return;
	if (!is_remote(s)) {
		load(s, true, NULL);
		plan_next_poll(s);
		return;
	}
	s->next_poll_ms = INT64_MAX; /* until this one has ended */
	if (crew_of_kind(s, WORK_POLL))
		return;
	struct work *w = crew_start(s, &what, run_poll, s, &e);
	if (w) {
		w->end_by_ms = clock_now_ms() + NETWORK_PATIENCE_MS;
		return;
	}
	log_error("PolicyAgent", "poll for policy: %s", e.text);
	s->poll_error = e;
	plan_next_poll(s);
}

/* What waits in the outbox: when everything else is done, and at each poll. */
static int run_send(void *arg)
{
	struct crew *s = arg;
	struct err e = { 0 };
	struct record *r = record_open(s->settings.state_directory, &e);
	if (r && events_send(&s->settings, r, &e) != ERR_OK)
		log_warning("PolicyAgent", "state messages wait: %s", e.text);
	record_close(r);
	return 0;
}

static void send_waiting(struct crew *s)
{
	struct err e = { 0 };
	struct work what = { .kind = WORK_SEND };
	if (!s->must_send || crew_of_kind(s, WORK_JOB) ||
	    crew_of_kind(s, WORK_SEND))
		return;
	s->must_send = false;
	if (!events_are_sent(&s->settings))
		return;
	struct work *w = crew_start(s, &what, run_send, s, &e);
	if (w)
		w->end_by_ms = clock_now_ms() + NETWORK_PATIENCE_MS;
	else
		log_warning("PolicyAgent", "state messages wait: %s", e.text);
}

static void poll_ended(struct crew *s, const struct work *w, int status,
		       const char *how)
{
	struct err e = w->child.error;
	if (status != 0 && e.code == ERR_OK)
		err_set(&e, ERR_INTERNAL, "the poll for policy ended with status %d%s"
			"%s", status, how[0] ? ": " : "", how);
	if (status != 0)
		log_warning("PolicyAgent", "poll for policy: %s", e.text);
	load(s, true, status ? &e : NULL);
	plan_next_poll(s);
}

/* --- what wakes us ------------------------------------------------------------- */

static void watch_files(struct crew *s)
{
	struct err e = { 0 };
	const char *paths[3] = { NULL };
	unsigned n = 0;
	const char *source = s->policy ? s->policy : s->settings.policy_source;
	if (!is_remote(s) && source)
		paths[n++] = source;
	else if (s->settings.policy_local)
		paths[n++] = s->settings.policy_local;
	if (watch_paths(&s->watch, paths, &e) != ERR_OK)
		log_warning("PolicyAgent", "changes of policy are seen at the next "
			    "poll only: %s", e.text);
}

void agenda_begin(struct crew *s)
{
	s->files_at_ms = INT64_MAX;
	s->poll_failures = 0;
	watch_files(s);
	load(s, !is_remote(s), NULL);
	plan_next_poll(s);
	if (is_remote(s))
		s->next_poll_ms = clock_now_ms() +
				  share(s->settings.poll_interval_ms);
}

void agenda_rethink(struct crew *s)
{
	s->decide_at_s = 0;
}

void agenda_files_changed(struct crew *s)
{
	int64_t now_ms = clock_now_ms();
	if (s->files_at_ms == INT64_MAX)
		s->files_since_ms = now_ms;
	s->files_at_ms = now_ms + FILES_CALM_MS;
	if (s->files_at_ms > s->files_since_ms + FILES_PATIENCE_MS)
		s->files_at_ms = s->files_since_ms + FILES_PATIENCE_MS;
}

void agenda_link_is_back(struct crew *s)
{
	int64_t at_ms = clock_now_ms() + share(LINK_SPREAD_MS);
	if (s->poll_failures == 0 || at_ms >= s->next_poll_ms)
		return;
	log_info("PolicyAgent", "the network is back: polling for policy in %lld ms",
		 (long long)(at_ms - clock_now_ms()));
	s->next_poll_ms = at_ms;
}

/* --- what is due --------------------------------------------------------------- */

struct due_job {
	struct crew *crew;
	const struct plan_item *item;
};

/* The child: one job with all its traces. */
static int run_job(void *arg)
{
	const struct due_job *j = arg;
	const struct settings *settings = &j->crew->settings;
	struct job_request request = {
		.settings = settings,
		.deployment = j->item->deployment,
		.content = j->item->deployment->content,
		.by_service = true,
		.owns_process = true,
		.is_kept = plan_keeps,
		.kept_arg = &j->crew->plan,
		.on_progress = child_report,
	};
	struct job_report report = { .delivered = -1 };
	struct err e = { 0 };
	enum err_code rc = task_run(&request, "service", &report, &e);
	job_report_free(&report);
	return rc == ERR_OK ? 0 : child_fail(&e);
}

/* Idle priority is for good, so a job that has it is begun anew at its deadline. */
static int64_t yields_until(const struct settings *settings,
			    const struct deployment *d)
{
	struct pacing_job job = { .settings = settings,
				  .by_service = true,
				  .owns_process = true,
				  .deadline_s = d->deadline_s };
	bool is_for_ever = settings->background == SETTINGS_BACKGROUND_YES ||
			   d->deadline_s == 0;
	if (!pacing_is_background(&job, clock_wall_s()))
		return 0;
	return is_for_ever ? INT64_MAX : d->deadline_s;
}

static void start_due(struct crew *s)
{
	struct err e = { 0 };
	struct due_job job = { .crew = s };
	if (s->is_ending || crew_of_kind(s, WORK_JOB) ||
	    s->no_start_ms > clock_now_ms())
		return;
	struct plan_item *item = plan_first(&s->plan);
	if (item == NULL)
		return;
	job.item = item;
	struct work what = { .kind = WORK_JOB,
			     .content = item->deployment->content,
			     .yields_until_s = yields_until(&s->settings,
							    item->deployment) };
	snprintf(what.name, sizeof(what.name), "%s", item->name);
	memcpy(what.hash, item->deployment->hash, sizeof(what.hash));
	s->no_start_ms = 0;
	if (crew_start(s, &what, run_job, &job, &e) == NULL) {
		log_error("ContentTransferManager", "%s content=%s", e.text,
			  item->name);
		s->no_start_ms = clock_now_ms() + FORK_RETRY_MS;
		return;
	}
	item->is_running = true;
	decide(s); /* its window ends */
}

void agenda_turn(struct crew *s)
{
	int64_t now_ms = clock_now_ms();
	if (s->is_ending)
		return;
	if (s->files_at_ms <= now_ms) {
		s->files_at_ms = INT64_MAX;
		watch_files(s);
		load(s, !is_remote(s), NULL);
	}
	if (s->next_poll_ms <= now_ms)
		agenda_poll(s);
	if (s->decide_at_s <= clock_wall_s())
		decide(s);
	start_due(s);
	send_waiting(s);
}

int64_t agenda_next_ms(const struct crew *s)
{
	int64_t next_ms = s->next_poll_ms;
	const int64_t others[] = { s->files_at_ms, boot_ms_of(s->decide_at_s),
				   s->no_start_ms ? s->no_start_ms : INT64_MAX };
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (others[i] < next_ms)
			next_ms = others[i];
	return s->is_ending ? INT64_MAX : next_ms;
}

/* --- what has ended ------------------------------------------------------------ */

/* A failure that the job itself could not write down, or that has another meaning
 * than it knows: in the ledger. */
static void put_failure(struct record *r, const struct work *w,
			const struct err *why)
{
	struct err e = { 0 };
	struct ledger_job job;
	if (r == NULL || !ledger_get_job(r, w->name, &job))
		return;
	int64_t now_s = clock_wall_s();
	due_failed(&job.past, why, now_s, clock_chance());
	if (w->is_held)
		job.past.delay_s = DUE_DELAY_MAX_S;
	job.last_s = now_s;
	job.last = *why;
	if (ledger_put_job(r, &job, &e) != ERR_OK)
		log_warning("ContentTransferManager", "%s", e.text);
}

/* What is to be known of it from now on. */
static void refresh(struct crew *s, struct record *r, const struct work *w,
		    const struct err *why)
{
	int64_t now_s = clock_wall_s();
	for (size_t i = 0; i < s->plan.count; i++) {
		struct plan_item *item = &s->plan.items[i];
		if (!crew_is_about(w, &item->deployment->content))
			continue;
		plan_refresh(&s->plan, item, &s->settings, r, now_s);
		/* Still due: it could not even be written down. Not at once. */
		if (w->kind == WORK_JOB && item->answer.state == DUE_NOW)
			due_failed(&item->past, why, now_s, clock_chance());
	}
}

static void job_ended(struct crew *s, struct record *r, const struct work *w,
		      int status, const char *how)
{
	struct err why = w->child.error;
	bool is_stopped = w->child.stop_signal != 0;
	if (is_stopped)
		err_set(&why, ERR_SIGTERM, "stopped%s", w->is_held ? " by hand" : "");
	else if (how[0] || why.code == ERR_OK)
		err_set(&why, ERR_INTERNAL, "the process of the job ended with "
			"status %d%s%s", status, how[0] ? ": " : "", how);
	if (how[0] && !is_stopped)
		log_error("ContentTransferManager", "%s content=%s", why.text,
			  w->name);
	/* Whoever was killed has written nothing. */
	if (w->kind == WORK_JOB && (how[0] || (w->is_held && status != 0)))
		put_failure(r, w, &why);
	refresh(s, r, w, &why);
}

void agenda_ended(struct crew *s, const struct work *w, int status,
		  const char *how)
{
	if (w->kind == WORK_POLL && !s->is_ending)
		poll_ended(s, w, status, how);
	if (w->kind == WORK_POLL || w->kind == WORK_SEND)
		return;
	s->must_send = true;
	agenda_mark(s);
	struct record *r = crew_record(s);
	job_ended(s, r, w, status, how);
	metrics_write(&s->settings, r, &s->plan, clock_wall_s());
	record_close(r);
	agenda_rethink(s);
}
