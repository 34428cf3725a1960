#include "agent/keeper/desk.h"

#include "agent/keeper/agenda.h"
#include "agent/keeper/cache.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/own.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- questions ---------------------------------------------------------------- */

static int64_t wall_s_of(int64_t boot_ms)
{
	if (boot_ms == INT64_MAX)
		return 0;
	return (clock_wall_ms() + boot_ms - clock_now_ms()) / 1000;
}

static enum err_code print_status(struct crew *s, struct record *r,
				  const struct content *content, struct buf *out,
				  struct err *e)
{
	struct status_run runs[CREW_WORKS];
	struct status_service told = {
		.is_running = true,
		.pid = getpid(),
		.since_s = s->since_s,
		.next_poll_s = wall_s_of(s->next_poll_ms),
		.is_polling = crew_of_kind(s, WORK_POLL) != NULL,
		.runs = runs,
	};
	for (unsigned i = 0; i < CREW_WORKS; i++)
		if (s->works[i].kind == WORK_JOB ||
		    s->works[i].kind == WORK_DOWNLOAD)
			runs[told.run_count++] = s->works[i].child.run;
	int64_t now_s = clock_wall_s();
	plan_decide(&s->plan, now_s); /* the reasons name times of now */
	return status_print(&s->settings, &s->plan, &told, r, content, now_s, out, e);
}

static void answer_question(struct crew *s, struct control_peer *peer,
			    const struct control_request *q)
{
	autobuf out = { .max = (size_t)64 << 20 };
	struct err e = { 0 };
	enum err_code rc = ERR_OK;
	const struct content *content = q->has_content ? &q->content : NULL;
	struct record *r = crew_record(s);
	if (q->verb == CONTROL_STATUS)
		rc = print_status(s, r, content, &out, &e);
	else if (q->verb == CONTROL_WHY)
		rc = status_print_why(&s->plan, r, content, &out, &e);
	else
		rc = status_print_history(r, &out, &e);
	record_close(r);
	if (rc == ERR_OK && out.failed)
		rc = err_set(&e, ERR_NOMEM, "no memory for the answer");
	if (rc == ERR_OK)
		control_answer(peer, buf_as_span(&out));
	else
		control_answer_err(peer, &e);
}

/* --- work that is asked for ----------------------------------------------------- */

struct removal {
	const struct settings *settings;
	struct content content;
};

static int run_remove(void *arg)
{
	const struct removal *m = arg;
	const struct settings *t = m->settings;
	struct err e = { 0 };
	struct cache *c = cache_open(t->cache_directory, t->cache_size, t->min_free,
				     &e);
	enum err_code rc = c ? cache_remove(c, &m->content, &e) : e.code;
	cache_close(c);
	return rc == ERR_OK ? 0 : child_fail(&e);
}

static enum err_code start_remove(struct crew *s, const struct wish *q,
				  struct err *e)
{
	struct removal m = { &s->settings, q->content };
	struct work what = { .kind = WORK_REMOVE,
			     .content = q->content,
			     .peer = q->peer };
	content_name(&q->content, what.name);
	return crew_start(s, &what, run_remove, &m, e) ? ERR_OK : e->code;
}

struct handed_over {
	struct wish *wish;
	const struct crew *crew;
};

/* The child becomes what the asker started: its streams, its words. */
static int run_download(void *arg)
{
	struct handed_over *h = arg;
	for (int i = 0; i < 3; i++) {
		if (dup2(h->wish->fds[i], i) < 0)
			return CLASS_INTERNAL;
		close(h->wish->fds[i]);
	}
	return h->crew->download(h->crew->arg, h->wish->argument_count,
				    h->wish->arguments);
}

static enum err_code start_download(struct crew *s, struct wish *q,
				    struct err *e)
{
	struct handed_over h = { q, s };
	struct work what = { .kind = WORK_DOWNLOAD,
			     .content = q->content,
			     .peer = q->peer };
	if (crew_count(s, WORK_DOWNLOAD) >= CREW_DOWNLOADS)
		return err_set(e, ERR_LOCKED, "the service runs %d downloads that "
			       "were handed over already", CREW_DOWNLOADS);
	if (q->content.id[0])
		content_name(&q->content, what.name);
	return crew_start(s, &what, run_download, &h, e) ? ERR_OK : e->code;
}

/* The work of others that is in the way of a wish; NULL = it may begin. */
static struct work *find_obstacle(struct crew *s, const struct wish *q)
{
	if (q->verb == CONTROL_POLL)
		return crew_of_kind(s, WORK_POLL);
	for (unsigned i = 0; i < CREW_WORKS; i++) {
		struct work *w = &s->works[i];
		/* a second download by hand hears from the first one's lock */
		bool is_equal = q->verb == CONTROL_DOWNLOAD &&
				w->kind == WORK_DOWNLOAD;
		if (!is_equal && crew_is_about(w, &q->content))
			return w;
	}
	return NULL;
}

static void drop_wish(struct wish *q)
{
	for (int i = 0; i < 3; i++)
		own_close(&q->fds[i]);
	*q = (struct wish){ .fds = { -1, -1, -1 } };
}

/* Nothing is in its way: do it, or answer why not. */
static void grant(struct crew *s, struct wish *q)
{
	struct err e = { 0 };
	struct control_peer *peer = q->peer;
	enum err_code rc = ERR_OK;
	bool is_over = q->verb == CONTROL_POLL || q->verb == CONTROL_STOP;
	if (q->verb == CONTROL_POLL)
		e = s->poll_error;
	else if (q->verb == CONTROL_REMOVE)
		rc = start_remove(s, q, &e);
	else if (q->verb == CONTROL_DOWNLOAD)
		rc = start_download(s, q, &e);
	drop_wish(q);
	agenda_mark(s);
	if (is_over || rc != ERR_OK)
		control_answer_err(peer, &e);
}

/* Ask what is in the way to end. What was stopped by hand is held back. */
static void clear_way(struct crew *s, const struct wish *q)
{
	for (unsigned i = 0; i < CREW_WORKS; i++) {
		struct work *w = &s->works[i];
		bool is_job = w->kind == WORK_JOB;
		if ((!is_job && w->kind != WORK_DOWNLOAD) ||
		    (q->verb == CONTROL_DOWNLOAD && !is_job) ||
		    !crew_is_about(w, &q->content))
			continue;
		w->is_held = q->verb == CONTROL_STOP;
		log_info("ContentTransferManager", "stopped: asked for by %s "
			 "content=%s", q->verb == CONTROL_DOWNLOAD ?
			 "a download by hand" : "hand", w->name);
		crew_stop(w, SIGTERM, CREW_GRACE_MS);
	}
}

/* --download CONTENT, --download=CONTENT: what the words are about. Words that
 * say nothing are for the child to complain of; with --to it is not our cache, and
 * nothing is in the way. */
static void find_content(struct wish *q)
{
	struct err ignored;
	for (char *const *at = q->arguments; *at; at++) {
		const char *word = at[0], *next = at[1] ? at[1] : "";
		if (strcmp(word, "--to") == 0 || strncmp(word, "--to=", 5) == 0) {
			q->content = (struct content){ 0 };
			return;
		}
		if (strcmp(word, "--download") == 0)
			content_parse(next, &q->content, &ignored);
		else if (strncmp(word, "--download=", 11) == 0)
			content_parse(word + 11, &q->content, &ignored);
	}
}

static struct wish *new_wish(struct crew *s, struct control_peer *peer,
			     struct control_request *q)
{
	for (unsigned i = 0; i < CREW_WISHES; i++) {
		struct wish *w = &s->wishes[i];
		if (w->peer)
			continue;
		*w = (struct wish){ .peer = peer,
				    .verb = q->verb,
				    .content = q->content,
				    .argument_count = q->argument_count };
		memcpy(w->arguments, q->arguments, sizeof(w->arguments));
		for (int k = 0; k < 3; k++)
			w->fds[k] = take_fd(&q->fds[k]);
		if (q->verb == CONTROL_DOWNLOAD)
			find_content(w);
		return w;
	}
	return NULL;
}

static void take_order(struct crew *s, struct control_peer *peer,
		       struct control_request *q)
{
	struct err e = { 0 };
	struct wish *w = s->is_ending ? NULL : new_wish(s, peer, q);
	if (w == NULL) {
		err_set(&e, s->is_ending ? ERR_SERVICE : ERR_LOCKED,
			s->is_ending ? "the service is about to end" :
				       "the service has enough to do");
		control_answer_err(peer, &e);
		return;
	}
	if (w->verb == CONTROL_POLL)
		agenda_poll(s);
	if (find_obstacle(s, w)) {
		clear_way(s, w);
		return;
	}
	if (w->verb == CONTROL_STOP) {
		drop_wish(w);
		err_set(&e, ERR_USAGE, "stop %s: nothing works on it",
			q->content.id);
		control_answer_err(peer, &e);
		return;
	}
	grant(s, w);
}

/* --- the socket ----------------------------------------------------------------- */

static void on_request(void *arg, struct control_peer *peer,
		       struct control_request *q)
{
	struct crew *s = arg;
	if (q->verb <= CONTROL_HISTORY)
		answer_question(s, peer, q);
	else
		take_order(s, peer, q);
}

static void on_gone(void *arg, struct control_peer *peer)
{
	struct crew *s = arg;
	for (unsigned i = 0; i < CREW_WISHES; i++)
		if (s->wishes[i].peer == peer)
			drop_wish(&s->wishes[i]);
	for (unsigned i = 0; i < CREW_WORKS; i++) {
		struct work *w = &s->works[i];
		if (w->kind == WORK_NONE || w->peer != peer)
			continue;
		w->peer = NULL;
		/* as if it had been started at that terminal */
		if (w->kind == WORK_DOWNLOAD)
			crew_stop(w, SIGINT, CREW_GRACE_MS);
	}
}

enum err_code desk_open(struct crew *s, struct err *e)
{
	const struct control_handlers h = { on_request, on_gone, s };
	const char *path = s->settings.control_socket;
	s->control = NULL;
	if (path == NULL || path[0] == '\0')
		return ERR_OK;
	s->control = control_open(path, &h, e);
	return s->control ? ERR_OK : e->code;
}

void desk_close(struct crew *s)
{
	for (unsigned i = 0; i < CREW_WISHES; i++)
		drop_wish(&s->wishes[i]);
	for (unsigned i = 0; i < CREW_WORKS; i++)
		if (s->works[i].kind != WORK_NONE && s->works[i].peer)
			on_gone(s, s->works[i].peer);
	control_close(s->control);
	s->control = NULL;
}

void desk_refuse_all(struct crew *s)
{
	struct err e = { 0 };
	err_set(&e, ERR_SERVICE, "the service is about to end");
	for (unsigned i = 0; i < CREW_WISHES; i++) {
		struct control_peer *peer = s->wishes[i].peer;
		drop_wish(&s->wishes[i]);
		if (peer)
			control_answer_err(peer, &e);
	}
}

void desk_ended(struct crew *s, const struct work *w, int status)
{
	struct err e = w->child.error;
	if (status != 0 && e.code == ERR_OK)
		err_set(&e, ERR_INTERNAL, "the process ended with status %d", status);
	if (w->peer && w->kind == WORK_DOWNLOAD)
		control_answer_exit(w->peer, status);
	else if (w->peer)
		control_answer_err(w->peer, status ? &e : &(struct err){ 0 });
	for (unsigned i = 0; i < CREW_WISHES; i++)
		if (s->wishes[i].peer && !find_obstacle(s, &s->wishes[i]))
			grant(s, &s->wishes[i]);
}
