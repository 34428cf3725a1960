#include "agent/keeper/transfer.h"

#include "common/clock.h"
#include "common/log.h"

#include <stdio.h>
#include <string.h>

#define TICK_MS 100
#define ASKED_AHEAD (WIRE_STREAMS + 2) /* for each connection: net is never idle */

/* --- the list ------------------------------------------------------------------- */

static enum err_code take_entry(struct transfer *t, const struct wire_entry *m,
				struct err *e)
{
	char path[4097], hash[65];
	snprintf(path, sizeof(path), "%.*s", SPAN_ARG(m->path));
	snprintf(hash, sizeof(hash), "%.*s", SPAN_ARG(m->hash));
	t->files++;
	return receive_file(t->receive, m->index, path, m->size, hash, e);
}

static enum err_code on_list(void *arg, const struct wire_msg *m, struct err *e)
{
	struct transfer *t = arg;
	if (m->type == WIRE_ENTRY)
		return take_entry(t, &m->entry, e);
	if (m->type == WIRE_ATTEMPT) {
		log_warning("DataTransferService", "%.*s: %.*s",
			    SPAN_ARG(m->attempt.url), SPAN_ARG(m->attempt.text));
		return ERR_OK;
	}
	if (m->type != WIRE_LISTED)
		return worker_lied(m, e);
	if (m->listed.count != t->files)
		return err_set(e, ERR_NET_LIED, "%llu files, %llu announced",
			       (unsigned long long)t->files,
			       (unsigned long long)m->listed.count);
	t->rung = (enum wire_rung)m->listed.rung;
	t->form = (enum wire_form)m->listed.form;
	return ERR_OK;
}

enum err_code transfer_list(struct transfer *t, struct err *e)
{
	struct wire_list m = {
		.kind = t->kind,
		.url = span_of(t->url),
		.token = span_of(t->token),
		.rung = t->rung,
		.form = t->form,
		.content_id = span_of(t->content->id),
		.version = t->content->version,
	};
	t->files = 0;
	enum err_code rc = receive_begin(t->receive, t->host, e);
	if (rc == ERR_OK)
		rc = worker_call(t->worker, WIRE_LIST, &m, on_list, t, e);
	return rc;
}

/* --- the files -------------------------------------------------------------------- */

static enum err_code ask_for(struct transfer *t, const struct receive_ask *ask,
			     unsigned *pending, struct err *e)
{
	struct wire_fetch m = { .index = ask->index,
				.offset = ask->offset,
				.end = ask->end,
				.size = ask->size,
				.etag = span_of(ask->etag) };
	(*pending)++;
	if (t->asked_ms == 0)
		t->asked_ms = clock_now_ms();
	return worker_send(t->worker, WIRE_FETCH, &m, e);
}

/* Requests at once. */
static unsigned width(const struct transfer *t)
{
	unsigned most = worker_connections(t->worker);
	bool is_cloud = t->kind == WIRE_SOURCE_CLOUD;
	return t->pacing ? pacing_width(t->pacing, is_cloud, most) : most;
}

static uint64_t limit_of(const struct transfer *t)
{
	return t->pacing ? pacing_rate(t->pacing, t->kind == WIRE_SOURCE_CLOUD) : 0;
}

/* The hour may have brought another rate, or the deadline has passed. */
static enum err_code keep_pace(struct transfer *t, struct err *e)
{
	if (t->pacing == NULL || !pacing_turn(t->pacing, clock_wall_s()))
		return ERR_OK;
	return worker_send(t->worker, WIRE_PACE, &t->pacing->now, e);
}

/* Whole files first; parts of those that are coming where connections are left. What
 * is to end for their sake is told before another slot is given back. */
static enum err_code ask_next(struct transfer *t, unsigned *pending,
			      int64_t now_ms, struct err *e)
{
	struct receive_ask ask;
	struct receive_trim trim;
	enum err_code rc = ERR_OK;
	unsigned connections = width(t), ahead = connections * ASKED_AHEAD;
	struct spread_case c = { .now_ms = now_ms,
				       .connections = connections,
				       .margin = worker_ring_bytes(t->worker),
				       .wait_ms = t->wait_ms,
				       .limit = limit_of(t),
				       .is_cloud = t->kind == WIRE_SOURCE_CLOUD };
	/* net would begin with as many as there are connections */
	if (connections < worker_connections(t->worker))
		ahead = connections;
	while (rc == ERR_OK && *pending < ahead &&
	       receive_next(t->receive, &ask))
		rc = ask_for(t, &ask, pending, e);
	c.pending = *pending;
	while (rc == ERR_OK && receive_next_part(t->receive, &c, &ask)) {
		rc = ask_for(t, &ask, pending, e);
		c.pending = *pending;
	}
	while (rc == ERR_OK && receive_next_trim(t->receive, &trim)) {
		struct wire_trim m = { .index = trim.index,
				       .asked = trim.asked,
				       .end = trim.end };
		rc = worker_send(t->worker, WIRE_TRIM, &m, e);
	}
	return rc;
}

static enum err_code take_data(struct transfer *t, const struct wire_data *m,
			       struct err *e)
{
	const char *at = worker_slot(t->worker, m->slot);
	if (at == NULL || m->length > worker_slot_bytes(t->worker))
		return err_set(e, ERR_NET_LIED, "message DATA: no slot %llu of "
			       "%llu bytes", (unsigned long long)m->slot,
			       (unsigned long long)m->length);
	enum err_code rc = receive_data(
		t->receive,
		&(struct receive_bytes){ .index = m->index,
					 .asked = m->asked,
					 .offset = m->offset,
					 .at = at,
					 .len = (size_t)m->length },
		e);
	if (rc != ERR_OK)
		return rc;
	return worker_give_back(t->worker, m->slot, e);
}

static enum err_code take_head(struct transfer *t, const struct wire_head *m,
			       struct err *e)
{
	char etag[WIRE_NAME + 1];
	const struct receive_begun begun = { .index = m->index,
					     .asked = m->asked,
					     .offset = m->offset,
					     .total = m->total,
					     .etag = etag };
	snprintf(etag, sizeof(etag), "%.*s", SPAN_ARG(m->etag));
	if (t->wait_ms == 0)
		t->wait_ms = (unsigned)(clock_now_ms() - t->asked_ms) + 1;
	return receive_head(t->receive, &begun, e);
}

static enum err_code take_fetched(struct transfer *t, const struct wire_fetched *m,
				  struct err *e)
{
	if (m->code == ERR_OK) {
		t->form = (enum wire_form)m->form;
		return receive_end(t->receive, m->index, m->asked, e);
	}
	struct err why = { 0 };
	err_set(&why, (enum err_code)m->code, "%.*s", SPAN_ARG(m->text));
	why.retry_after_s = (unsigned)m->retry_after_s;
	return receive_fail(t->receive, m->index, m->asked, &why, e);
}

static enum err_code take_message(struct transfer *t, const struct wire_msg *m,
				  unsigned *pending, struct err *e)
{
	if (m->type == WIRE_HEAD)
		return take_head(t, &m->head, e);
	if (m->type == WIRE_DATA)
		return take_data(t, &m->data, e);
	if (m->type != WIRE_FETCHED || *pending == 0)
		return worker_lied(m, e);
	(*pending)--;
	return take_fetched(t, &m->fetched, e);
}

/* Whatever ended the run: nothing of it may come later. */
static enum err_code stop_run(struct transfer *t, struct err *e)
{
	struct err ignored = { 0 };
	if (e->code != ERR_NET_DIED && e->code != ERR_NET_LIED)
		worker_cancel(t->worker, &ignored);
	receive_fail_all(t->receive);
	return e->code;
}

/* The next message, until the tick; what lies there unhashed is seen to while there is
 * none. */
static enum err_code next_message(struct transfer *t, int64_t tick_ms,
				  const struct wire_msg **m, struct err *e)
{
	while (receive_is_behind(t->receive) && clock_now_ms() < tick_ms) {
		enum err_code rc = worker_next(t->worker, 0, m, e);
		if (rc != ERR_OK || (*m)->type != WIRE_NONE)
			return rc;
		rc = receive_catch_up(t->receive, e);
		if (rc != ERR_OK)
			return rc;
	}
	return worker_next(t->worker, tick_ms, m, e);
}

enum err_code transfer_run(struct transfer *t, struct err *e)
{
	unsigned pending = 0;
	int64_t tick_ms = 0;
	const struct wire_msg *m;
	for (;;) {
		int64_t now = clock_now_ms();
		if (ask_next(t, &pending, now, e) != ERR_OK)
			return stop_run(t, e);
		if (pending == 0 && !receive_is_complete(t->receive))
			return err_set(e, ERR_INTERNAL, "%s: files are left that "
				       "nothing was asked for", t->host);
		if (pending == 0)
			return ERR_OK;
		if (now >= tick_ms) {
			if (t->on_tick)
				t->on_tick(t->arg);
			if (keep_pace(t, e) != ERR_OK)
				return stop_run(t, e);
			tick_ms = now + TICK_MS;
		}
		if (now >= t->deadline_ms) {
			err_set(e, ERR_DEADLINE, "%s did not deliver in time",
				t->host);
			return stop_run(t, e);
		}
		if (next_message(t, tick_ms, &m, e) != ERR_OK)
			return stop_run(t, e);
		if (m->type != WIRE_NONE &&
		    take_message(t, m, &pending, e) != ERR_OK)
			return stop_run(t, e);
	}
}

enum err_code transfer_try(struct transfer *t, char *detail, size_t size,
			   struct err *e)
{
	struct wire_fetch f = { .index = 0, .end = WIRE_UNKNOWN, .size = WIRE_UNKNOWN };
	const struct wire_msg *m;
	int64_t until = t->deadline_ms;
	if (t->files == 0) {
		snprintf(detail, size, "no file to ask for");
		return ERR_OK;
	}
	enum err_code rc = worker_send(t->worker, WIRE_FETCH, &f, e);
	if (rc == ERR_OK)
		rc = worker_next(t->worker, until, &m, e);
	if (rc != ERR_OK)
		return rc;
	if (m->type == WIRE_HEAD)
		snprintf(detail, size, "first file begins, %llu bytes",
			 (unsigned long long)m->head.total);
	else if (m->type == WIRE_FETCHED)
		err_set(e, (enum err_code)m->fetched.code, "%.*s",
			SPAN_ARG(m->fetched.text));
	else
		err_set(e, ERR_STALLED, "%s: no answer for the first file",
			t->host);
	rc = e->code;
	struct err ignored = { 0 };
	worker_cancel(t->worker, &ignored);
	return rc;
}
