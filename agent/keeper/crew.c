#include "agent/keeper/crew.h"

#include "common/clock.h"
#include "common/log.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define FDS_MAX (CONTROL_OWN_FDS + 5 + CREW_WORKS * 2 + CREW_WISHES * 3)

void crew_init(struct crew *s)
{
	*s = (struct crew){
		.watch = WATCH_NONE,
		.lock_fd = -1,
		.since_s = clock_wall_s(),
		.next_poll_ms = INT64_MAX,
		.files_at_ms = INT64_MAX,
	};
	for (unsigned i = 0; i < CREW_WISHES; i++)
		for (unsigned k = 0; k < 3; k++)
			s->wishes[i].fds[k] = -1;
	for (unsigned i = 0; i < CREW_WORKS; i++)
		s->works[i].child = CHILD_NONE;
}

struct record *crew_record(struct crew *s)
{
	struct err e = { 0 };
	struct record *r = record_open(s->settings.state_directory, &e);
	if (r == NULL && !s->is_record_broken)
		log_error("agent", "nothing is remembered from now on: %s", e.text);
	if (r && s->is_record_broken)
		log_info("agent", "the state folder is well again");
	s->is_record_broken = r == NULL;
	return r;
}

/* --- children ----------------------------------------------------------------- */

/*
 * What a child must not keep: with the socket it would go on to listen when the
 * daemon is gone, with the lock it would keep the next one from starting, and an
 * asker would wait for the end of its output.
 */
static unsigned list_fds(const struct crew *s, const struct work *what, int *out)
{
	unsigned n = s->control ? control_list_fds(s->control, out) : 0;
	out[n++] = s->watch.files_fd;
	out[n++] = s->watch.link_fd;
	out[n++] = s->watch.timer_fd;
	out[n++] = s->watch.clock_fd;
	out[n++] = s->lock_fd;
	for (unsigned i = 0; i < CREW_WORKS; i++) {
		if (s->works[i].kind == WORK_NONE)
			continue;
		out[n++] = s->works[i].child.pid_fd;
		out[n++] = s->works[i].child.progress_fd;
	}
	for (unsigned i = 0; i < CREW_WISHES; i++) {
		const struct wish *q = &s->wishes[i];
		bool is_own = q->peer == what->peer; /* its streams */
		for (unsigned k = 0; q->peer && !is_own && k < 3; k++)
			out[n++] = q->fds[k];
	}
	return n;
}

struct work *crew_start(struct crew *s, const struct work *what,
			   int (*run)(void *arg), void *arg, struct err *e)
{
	int fds[FDS_MAX];
	struct work *w = crew_of_kind(s, WORK_NONE);
	struct status_run shown = { .began_s = clock_wall_s() };
	if (w == NULL) {
		err_set(e, ERR_LOCKED, "the service has enough to do");
		return NULL;
	}
	snprintf(shown.name, sizeof(shown.name), "%s", what->name);
	snprintf(shown.by, sizeof(shown.by), "%s",
		 what->kind == WORK_DOWNLOAD ? "hand" : "service");
	unsigned n = list_fds(s, what, fds);
	struct work started = *what;
	if (child_start(&started.child, &shown, run, arg, fds, n, e) != ERR_OK)
		return NULL;
	started.end_by_ms = started.kill_at_ms = INT64_MAX;
	started.is_held = false;
	*w = started;
	return w;
}

void crew_stop(struct work *w, int signal_number, int64_t grace_ms)
{
	int64_t kill_at_ms = clock_now_ms() + grace_ms;
	if (w->kill_at_ms == INT64_MAX)
		child_stop(&w->child, signal_number);
	if (kill_at_ms < w->kill_at_ms)
		w->kill_at_ms = kill_at_ms;
}

int64_t crew_hurry(struct crew *s, int64_t now_ms)
{
	int64_t next_ms = INT64_MAX;
	for (unsigned i = 0; i < CREW_WORKS; i++) {
		struct work *w = &s->works[i];
		if (w->kind == WORK_NONE)
			continue;
		if (w->kill_at_ms == INT64_MAX && w->end_by_ms <= now_ms) {
			log_warning("agent", "process %d takes too long and is "
				    "stopped", (int)w->child.pid);
			crew_stop(w, SIGTERM, CREW_GRACE_MS);
		}
		if (w->kill_at_ms <= now_ms) {
			child_stop(&w->child, SIGKILL);
			w->kill_at_ms = now_ms + CREW_GRACE_MS;
		}
		int64_t at_ms = w->kill_at_ms < INT64_MAX ? w->kill_at_ms :
							    w->end_by_ms;
		if (at_ms < next_ms)
			next_ms = at_ms;
	}
	return next_ms;
}

struct work *crew_of_kind(struct crew *s, enum work_kind kind)
{
	for (unsigned i = 0; i < CREW_WORKS; i++)
		if (s->works[i].kind == kind)
			return &s->works[i];
	return NULL;
}

unsigned crew_count(const struct crew *s, enum work_kind kind)
{
	unsigned n = 0;
	for (unsigned i = 0; i < CREW_WORKS; i++)
		n += s->works[i].kind == kind;
	return n;
}

bool crew_is_about(const struct work *w, const struct content *content)
{
	if (w->kind == WORK_NONE || w->name[0] == '\0')
		return false;
	struct content a = w->content, b = *content;
	/* Who names no version means any. */
	if (!a.has_version || !b.has_version)
		a.has_version = b.has_version = false, a.version = b.version = 0;
	return content_same(&a, &b);
}
