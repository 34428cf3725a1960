#include "agent/net/document.h"

#include "common/own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the whole request: a server that drips would else hold up every poll. */
#define TIMEOUT_MS 600000u
#define ERROR_BODY_MAX (64u << 10)

struct document {
	struct document_options options;
	bool *is_away;      /* by slot: at the keeper */
	unsigned away;
	/* the call under way */
	bool is_busy;
	struct http_call *call; /* pending request; NULL = its end waits for slots */
	struct err result;
	bool is_conditional, is_paused;
	uint64_t most, announced; /* bytes; 0 = not announced */
	uint64_t position;  /* bytes so far */
	int slot;           /* being filled; -1 = none */
	size_t filled;
	char name[WIRE_URL + 1]; /* URL for messages: a query may hold a secret */
};

struct document *document_new(const struct document_options *options,
			      struct err *e)
{
	struct document *d = calloc(1, sizeof(*d));
	if (d)
		d->is_away = calloc(options->slots + 1, sizeof(*d->is_away));
	if (d == NULL || d->is_away == NULL) {
		free(d);
		err_set(e, ERR_NOMEM, "no memory for a document");
		return NULL;
	}
	d->options = *options;
	d->slot = -1;
	return d;
}

void document_cancel(struct document *d)
{
	if (d == NULL)
		return;
	http_cancel(take_ptr(d->call));
	d->is_busy = d->is_paused = false;
	d->slot = -1;
	d->filled = 0;
}

/* --- slots ---------------------------------------------------------------- */

static int free_slot(const struct document *d)
{
	for (unsigned i = 0; i < d->options.slots; i++)
		if (!d->is_away[i] && (int)i != d->slot)
			return (int)i;
	return -1;
}

/* Room for `len` more bytes, in the slot begun and in those that are free. */
static bool has_room(const struct document *d, size_t len)
{
	size_t size = d->options.slot_bytes;
	size_t begun = d->slot >= 0 ? size - d->filled : 0;
	size_t unused = d->options.slots - d->away - (d->slot >= 0 ? 1 : 0);
	return len <= begun + unused * size;
}

static enum err_code send_slot(struct document *d, struct err *e)
{
	if (d->slot < 0 || d->filled == 0)
		return ERR_OK;
	struct wire_data m = { .index = 0,
			       .offset = d->position - d->filled,
			       .slot = (uint64_t)d->slot,
			       .length = d->filled };
	d->is_away[d->slot] = true;
	d->away++;
	d->slot = -1;
	d->filled = 0;
	return wire_put(d->options.out, WIRE_DATA, &m, e);
}

/* --- what the server says --------------------------------------------------- */

static enum err_code send_body(struct document *d, const struct head *h,
			       bool is_unchanged, struct err *e)
{
	struct wire_body m = { .etag = span_of(h->etag),
			       .is_unchanged = is_unchanged,
			       .length = d->announced };
	return wire_put(d->options.out, WIRE_BODY, &m, e);
}

static enum err_code on_head(void *arg, const struct head *h, struct err *e)
{
	struct document *d = arg;
	if (h->status != 200)
		return err_set(e, ERR_STATUS, "%s: HTTP %ld %s", d->name, h->status,
			       h->reason);
	if (h->has_encoding)
		return err_set(e, ERR_HTTP, "%s: sent with a Content-Encoding",
			       d->name);
	if (h->bad_length)
		return err_set(e, ERR_HTTP, "%s: contradictory Content-Length",
			       d->name);
	if (h->has_length && h->length > d->most)
		return err_set(e, ERR_LIMIT, "%s: %llu bytes, at most %llu are taken",
			       d->name, (unsigned long long)h->length,
			       (unsigned long long)d->most);
	d->announced = h->has_length ? h->length : 0;
	return send_body(d, h, false, e);
}

static enum http_take on_data(void *arg, struct span bytes, struct err *e)
{
	struct document *d = arg;
	size_t size = d->options.slot_bytes;
	if (bytes.len > d->most - d->position) {
		err_set(e, ERR_LIMIT, "%s: more than %llu bytes", d->name,
			(unsigned long long)d->most);
		return HTTP_ABORT;
	}
	/* all or nothing: curl brings the same bytes again after a pause */
	if (!has_room(d, bytes.len)) {
		d->is_paused = true;
		return HTTP_PAUSE;
	}
	while (bytes.len) {
		if (d->slot < 0)
			d->slot = free_slot(d);
		size_t n = size - d->filled;
		n = bytes.len < n ? bytes.len : n;
		memcpy(d->options.ring + (size_t)d->slot * size + d->filled,
		       bytes.at, n);
		bytes = span_after(bytes, n);
		d->filled += n;
		d->position += n;
		if (d->filled == size && send_slot(d, e) != ERR_OK)
			return HTTP_ABORT;
	}
	return HTTP_TAKEN;
}

/* --- the end ---------------------------------------------------------------- */

/* The answer to DONE may be another call: every slot must be free by then. */
static void end_if_settled(struct document *d)
{
	if (!d->is_busy || d->call || d->away)
		return;
	d->is_busy = false;
	d->slot = -1;
	d->filled = 0;
	d->options.done(d->options.arg, &d->result);
}

static enum err_code judge(struct document *d, const struct http_response *r,
			   struct err *e)
{
	if (r->result.code != ERR_OK) {
		*e = r->result;
		return e->code;
	}
	if (r->head.status == 304 && d->is_conditional)
		return send_body(d, &r->head, true, e);
	if (http_status(r, d->name, e) != ERR_OK)
		return e->code;
	if (d->announced && d->position != d->announced)
		return err_set(e, ERR_LENGTH, "%s: ended after %llu of %llu bytes",
			       d->name, (unsigned long long)d->position,
			       (unsigned long long)d->announced);
	return send_slot(d, e);
}

static void on_done(void *arg, const struct http_response *r)
{
	struct document *d = arg;
	struct err e = { 0 };
	d->call = NULL;
	d->is_paused = false;
	if (judge(d, r, &e) == ERR_OK)
		e = (struct err){ 0 };
	d->result = e;
	end_if_settled(d);
}

bool document_slot(struct document *d, uint64_t slot)
{
	if (d == NULL || slot >= d->options.slots || !d->is_away[slot])
		return false;
	d->is_away[slot] = false;
	d->away--;
	if (d->is_paused) {
		d->is_paused = false;
		http_resume(d->call);
	}
	end_if_settled(d);
	return true;
}

/* --- the request -------------------------------------------------------------- */

enum err_code document_start(struct document *d, const struct wire_document *m,
			     struct err *e)
{
	char condition[WIRE_NAME + 32], url[WIRE_URL + 1];
	const char *headers[3] = { "User-Agent: SMS CCM 5.0" };
	if (d->is_busy || d->options.ring == NULL)
		return err_set(e, ERR_INTERNAL, "no slots for a document");
	if (!span_begins_nocase(m->url, "https://"))
		return err_set(e, ERR_HTTP, "policy is taken by https only");
	snprintf(url, sizeof(url), "%.*s", SPAN_ARG(m->url));
	snprintf(d->name, sizeof(d->name), "%.*s", (int)strcspn(url, "?"), url);
	snprintf(condition, sizeof(condition), "If-None-Match: %.*s",
		 SPAN_ARG(m->etag));
	d->is_conditional = m->etag.len > 0;
	if (d->is_conditional)
		headers[1] = condition;
	d->most = m->most;
	d->announced = d->position = 0;
	d->slot = -1;
	d->filled = 0;
	struct http_request r = {
		.method = "GET",
		.url = url,
		.headers = headers,
		.leg = HTTP_SITE,
		.offer_client = true,
		.max_body = ERROR_BODY_MAX,
		.timeout_ms = TIMEOUT_MS,
		.on_head = on_head,
		.on_data = on_data,
		.done = on_done,
		.arg = d,
	};
	d->call = http_start(d->options.http, &r, e);
	d->is_busy = d->call != NULL;
	return d->call ? ERR_OK : e->code;
}
