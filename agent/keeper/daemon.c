#include "agent/keeper/daemon.h"

#include "agent/keeper/agenda.h"
#include "agent/keeper/desk.h"
#include "agent/keeper/once.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/notify.h"
#include "common/own.h"
#include "common/signals.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define END_GRACE_MS 1500    /* of the two seconds that SIGTERM may take */
#define BUSY_SHARE 3         /* of the watchdog's time: how often to feed it */

/* What is polled: one of each, then the socket, then two of each child. */
enum { AT_SIGNAL, AT_FILES, AT_LINK, AT_TIMER, AT_CLOCK, AT_CONTROL };
#define FDS_MAX (AT_CONTROL + CONTROL_FDS + 2 * CREW_WORKS)

struct loop {
	struct crew s;
	struct daemon_options *o;
	int64_t fed_ms;         /* when the watchdog was fed last; boot clock */
	bool is_long;           /* the watchdog was told of a long sleep */
	bool is_deaf;           /* nobody takes what we tell; said so */
	char status[200];       /* STATUS= as it was told last */
	struct pollfd fds[FDS_MAX];
	unsigned control_count, count;
	bool has_told[CREW_WORKS], has_ended[CREW_WORKS]; /* of this turn */
};

/* --- what systemd is told ------------------------------------------------------- */

static void tell(struct loop *l, const char *lines)
{
	struct err e = { 0 };
	bool is_deaf = notify_send(l->o->notify_socket, lines, &e) != ERR_OK;
	if (is_deaf && !l->is_deaf)
		log_debug("agent", "%s", e.text);
	l->is_deaf = is_deaf;
}

static void describe(const struct loop *l, char *out, size_t size)
{
	const struct crew *s = &l->s;
	struct crew *any = (struct crew *)s; /* looks only */
	const struct work *job = crew_of_kind(any, WORK_JOB);
	char at[CLOCK_RFC3339_SIZE] = "";
	if (s->is_ending)
		snprintf(out, size, "ending");
	else if (job)
		snprintf(out, size, "fetching %s", job->name);
	else if (crew_of_kind(any, WORK_POLL))
		snprintf(out, size, "polling for policy");
	else {
		if (s->next_poll_ms != INT64_MAX)
			clock_rfc3339((clock_wall_ms() + s->next_poll_ms -
				       clock_now_ms() + 500) / 1000, at);
		snprintf(out, size, "%zu deployments, %s%s", s->plan.count,
			 s->poll_error.code ? "the last poll failed, " : "", "");
		size_t len = strlen(out);
		snprintf(out + len, size - len, "next poll at %s", at);
	}
}

static void tell_status(struct loop *l)
{
	char status[sizeof(l->status)], line[sizeof(status) + 16];
	if (l->o->notify_socket == NULL)
		return;
	describe(l, status, sizeof(status));
	if (strcmp(status, l->status) == 0)
		return;
	snprintf(line, sizeof(line), "STATUS=%s", status);
	tell(l, line);
	memcpy(l->status, status, sizeof(status));
}

/*
 * The watchdog costs no wake-up: before a long sleep systemd is told how long it
 * will be, and after it, before anything else, that the usual time counts again.
 * Only while children work, whose reports wake us anyhow, it is fed by the clock.
 * Returns when to feed it next (boot clock).
 */
static int64_t feed_watchdog(struct loop *l, int64_t next_ms)
{
	int64_t limit_ms = l->o->watchdog_us / 1000, now_ms = clock_now_ms();
	char lines[80];
	if (limit_ms <= 0 || l->o->notify_socket == NULL)
		return INT64_MAX;
	int64_t step_ms = limit_ms / BUSY_SHARE;
	bool is_busy = crew_count(&l->s, WORK_NONE) != CREW_WORKS;
	if (is_busy || (next_ms != INT64_MAX && next_ms - now_ms < step_ms)) {
		if (now_ms - l->fed_ms < step_ms && l->fed_ms)
			return is_busy ? l->fed_ms + step_ms : INT64_MAX;
		tell(l, "WATCHDOG=1");
		l->fed_ms = now_ms;
		return is_busy ? now_ms + step_ms : INT64_MAX;
	}
	/* There is a poll in sight always; a day is for the case of a defect. */
	int64_t sleep_ms = next_ms == INT64_MAX ? 86400000 : next_ms - now_ms;
	snprintf(lines, sizeof(lines), "WATCHDOG_USEC=%lld\nWATCHDOG=1",
		 (long long)(sleep_ms + limit_ms) * 1000);
	tell(l, lines);
	l->is_long = true;
	return next_ms == INT64_MAX ? now_ms + sleep_ms : INT64_MAX;
}

static void rouse_watchdog(struct loop *l)
{
	char lines[80];
	if (!l->is_long)
		return;
	snprintf(lines, sizeof(lines), "WATCHDOG_USEC=%lld\nWATCHDOG=1",
		 (long long)l->o->watchdog_us);
	tell(l, lines);
	l->is_long = false;
	l->fed_ms = clock_now_ms();
}

/* --- signals -------------------------------------------------------------------- */

static void tell_problems(struct buf *problems, const struct err *e)
{
	struct span rest = buf_as_span(problems), line;
	if (rest.len == 0)
		log_error("agent", "the settings stay as they were: %s", e->text);
	while (span_split(&rest, '\n', &line))
		log_error("agent", "the settings stay as they were: %.*s",
			  SPAN_ARG(line));
}

/* The lock lies in the state folder: where that moves, a new one first. */
static enum err_code move_lock(struct crew *s, const struct settings *to,
			       struct err *e)
{
	if (strcmp(s->settings.state_directory, to->state_directory) == 0)
		return ERR_OK;
	int fd = once_lock(to->state_directory, e);
	if (fd < 0)
		return e->code;
	own_close(&s->lock_fd);
	s->lock_fd = fd;
	return ERR_OK;
}

static bool is_same_text(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

static void open_desk(struct crew *s)
{
	struct err e = { 0 };
	if (desk_open(s, &e) != ERR_OK)
		log_error("agent", "no control socket: %s", e.text);
}

/* New settings, or none. Children that are at work keep theirs. */
static void reload(struct loop *l)
{
	struct crew *s = &l->s;
	struct settings fresh = { 0 };
	autobuf problems = { 0 };
	struct err e = { 0 };
	tell(l, "RELOADING=1");
	if (l->o->load(l->o->arg, &fresh, &problems, &e) != ERR_OK ||
	    move_lock(s, &fresh, &e) != ERR_OK) {
		tell_problems(&problems, &e);
		settings_free(&fresh);
		tell(l, "READY=1");
		return;
	}
	bool has_moved = !is_same_text(s->settings.control_socket,
				       fresh.control_socket);
	if (has_moved) {
		desk_close(s);
		l->control_count = 0; /* what was polled is no more */
	}
	settings_free(&s->settings);
	s->settings = fresh;
	if (l->o->on_settings)
		l->o->on_settings(l->o->arg, &s->settings);
	if (has_moved)
		open_desk(s);
	log_info("agent", "settings were read again");
	agenda_begin(s);
	tell(l, "READY=1");
}

static void begin_end(struct loop *l)
{
	struct crew *s = &l->s;
	if (s->is_ending)
		return;
	s->is_ending = true;
	tell(l, "STOPPING=1");
	desk_refuse_all(s);
	for (unsigned i = 0; i < CREW_WORKS; i++)
		if (s->works[i].kind != WORK_NONE)
			crew_stop(&s->works[i], SIGTERM, END_GRACE_MS);
}

/* --- one turn ------------------------------------------------------------------- */

static struct pollfd readable(int fd)
{
	return (struct pollfd){ .fd = fd, .events = POLLIN };
}

static void list_fds(struct loop *l)
{
	const struct crew *s = &l->s;
	l->fds[AT_SIGNAL] = readable(signals_fd());
	l->fds[AT_FILES] = readable(s->watch.files_fd);
	l->fds[AT_LINK] = readable(s->watch.link_fd);
	l->fds[AT_TIMER] = readable(s->watch.timer_fd);
	l->fds[AT_CLOCK] = readable(s->watch.clock_fd);
	l->control_count = s->control ? control_fds(s->control,
						    l->fds + AT_CONTROL) : 0;
	l->count = AT_CONTROL + l->control_count;
	for (unsigned i = 0; i < CREW_WORKS; i++) {
		const struct child *c = &s->works[i].child;
		if (s->works[i].kind == WORK_NONE)
			continue;
		l->fds[l->count++] = readable(c->pid_fd);
		l->fds[l->count++] = readable(c->progress_fd);
	}
}

static bool is_readable(const struct loop *l, int fd)
{
	for (unsigned i = AT_CONTROL + l->control_count; i < l->count; i++)
		if (l->fds[i].fd == fd)
			return l->fds[i].revents != 0;
	return false;
}

/* Before anything else: what is begun in this turn may get the number of a
 * descriptor that was ready, and waiting for its end would make us deaf. */
static void note_children(struct loop *l)
{
	for (unsigned i = 0; i < CREW_WORKS; i++) {
		const struct work *w = &l->s.works[i];
		bool is_there = w->kind != WORK_NONE;
		l->has_told[i] = is_there && is_readable(l, w->child.progress_fd);
		l->has_ended[i] = is_there && is_readable(l, w->child.pid_fd);
	}
}

static void end_work(struct loop *l, struct work *w)
{
	char how[80];
	struct work ended = *w;
	int status = child_reap(&ended.child, how, sizeof(how));
	*w = (struct work){ .child = CHILD_NONE };
	agenda_ended(&l->s, &ended, status, how);
	desk_ended(&l->s, &ended, status);
}

static void look_after_children(struct loop *l)
{
	for (unsigned i = 0; i < CREW_WORKS; i++) {
		struct work *w = &l->s.works[i];
		if (l->has_told[i])
			child_read(&w->child);
		if (l->has_ended[i])
			end_work(l, w);
	}
}

static void turn(struct loop *l)
{
	struct crew *s = &l->s;
	rouse_watchdog(l);
	note_children(l);
	if (signals_take_hup() && !s->is_ending)
		reload(l);
	if (signals_check(NULL) != ERR_OK)
		begin_end(l);
	watch_drain_timer(&s->watch);
	if (watch_clock_was_set(&s->watch))
		agenda_rethink(s);
	if (watch_files_changed(&s->watch))
		agenda_files_changed(s);
	if (watch_link_is_back(&s->watch))
		agenda_link_is_back(s);
	look_after_children(l);
	if (s->control && l->control_count)
		control_turn(s->control, l->fds + AT_CONTROL, l->control_count);
	agenda_turn(s);
}

static void run(struct loop *l)
{
	struct crew *s = &l->s;
	agenda_turn(s); /* what is due needs nobody to wake us first */
	for (;;) {
		int64_t next_ms = crew_hurry(s, clock_now_ms());
		int64_t other_ms = agenda_next_ms(s);
		if (s->is_ending &&
		    crew_count(s, WORK_NONE) == CREW_WORKS)
			return;
		if (other_ms < next_ms)
			next_ms = other_ms;
		tell_status(l);
		other_ms = feed_watchdog(l, next_ms);
		if (other_ms < next_ms)
			next_ms = other_ms;
		watch_set_timer(&s->watch, next_ms);
		list_fds(l);
		/* The one place where the daemon sleeps. */
		if (poll(l->fds, l->count, -1) < 0)
			for (unsigned i = 0; i < l->count; i++)
				l->fds[i].revents = 0;
		turn(l);
	}
}

/* --- all ------------------------------------------------------------------------ */

static enum err_code begin(struct loop *l, struct err *e)
{
	struct crew *s = &l->s;
	enum err_code rc = signals_open_service(e);
	if (rc == ERR_OK)
		rc = watch_open(&s->watch, e);
	if (rc != ERR_OK)
		return rc;
	s->lock_fd = once_lock(s->settings.state_directory, e);
	if (s->lock_fd < 0)
		return e->code;
	/* One that nobody can ask still does its work. */
	open_desk(s);
	agenda_begin(s);
	tell(l, "READY=1");
	log_info("agent", "the service has begun pid=%d", (int)getpid());
	return ERR_OK;
}

enum err_code daemon_run(struct daemon_options *o, struct err *e)
{
	struct loop *l = calloc(1, sizeof(*l));
	if (l == NULL)
		return err_set(e, ERR_NOMEM, "no memory for the service");
	struct crew *s = &l->s;
	crew_init(s);
	l->o = o;
	s->settings = o->settings;
	o->settings = (struct settings){ 0 };
	s->policy = o->policy;
	s->policy_must_exist = o->policy_must_exist;
	s->download = o->download;
	s->arg = o->arg;
	enum err_code rc = begin(l, e);
	if (rc == ERR_OK) {
		run(l);
		log_info("agent", "the service has ended");
	}
	desk_close(s);
	watch_close(&s->watch);
	own_close(&s->lock_fd);
	plan_free(&s->plan);
	buf_free(&s->problems);
	settings_free(&s->settings);
	free(l);
	return rc;
}
