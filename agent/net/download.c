#include "agent/net/download.h"

#include "agent/net/dav.h"
#include "common/own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEND_AT 4 /* full slots */
#define AT_ONCE (4ull << 20) /* bytes that may come to HTTP/2 streams */
#define NEAR_MS 5 /* another connection costs next to nothing */
#define OWN_BYTES (64ull << 20) /* so much is worth one */

enum slot_state {
	SLOT_FREE,
	SLOT_FILLING,
	SLOT_SENT, /* at the keeper */
};

struct fetch {
	struct download *download;
	struct fetch *next;     /* in the order asked */
	struct http_call *call; /* pending request; NULL = waits for its turn */
	uint64_t index;
	uint64_t asked;    /* offset of the FETCH */
	uint64_t end;      /* of the part that was asked; WIRE_UNKNOWN = the rest */
	uint64_t trimmed;  /* no byte from there on is wanted; WIRE_UNKNOWN = all */
	uint64_t position; /* of the next byte */
	uint64_t total;    /* of the file; WIRE_UNKNOWN until somebody names it */
	char etag[WIRE_NAME + 1]; /* of the bytes that the keeper has */
	enum wire_form form;
	bool is_own;       /* over HTTP/1.1, with a connection of its own */
	bool is_storage;   /* blob of a manifest, not the service itself */
	bool is_paused;
	bool is_cut;       /* the trimmed end was reached: no error */
	int slot;          /* being filled; -1 = none */
	size_t filled;
};

struct download {
	struct download_options options;
	enum slot_state *slots;
	unsigned free_slots;
	struct fetch *fetches;
	unsigned active; /* of them, with a request */
	unsigned own;    /* of those, with a connection of their own */
	unsigned unsent; /* full slots that wait to travel together */
	bool is_multiplexed; /* the source speaks HTTP/2 */
	bool is_near;
	/* the source */
	enum wire_source kind;
	const struct entry_list *files;
	char *base_url, *token_line;
	enum wire_form form;
	bool is_single_file, token_for_files, offer_client;
	struct url origin;
};

static enum err_code request(struct fetch *f, struct err *e);
static void begin_waiting(struct download *d);

struct download *download_new(const struct download_options *options,
			      struct err *e)
{
	struct download *d = calloc(1, sizeof(*d));
	if (d)
		d->slots = calloc(options->slots, sizeof(*d->slots));
	if (d == NULL || d->slots == NULL) {
		free(d);
		err_set(e, ERR_NOMEM, "no memory for transfers");
		return NULL;
	}
	d->options = *options;
	d->free_slots = options->slots;
	return d;
}

static void forget_call(struct fetch *f)
{
	f->call = NULL;
	f->download->active--;
	f->download->own -= f->is_own;
}

static void free_fetch(struct fetch *f)
{
	struct download *d = f->download;
	for (struct fetch **p = &d->fetches; *p; p = &(*p)->next)
		if (*p == f) {
			*p = f->next;
			break;
		}
	if (f->call) {
		http_cancel(f->call);
		forget_call(f);
	}
	if (f->slot >= 0) {
		d->slots[f->slot] = SLOT_FREE;
		d->free_slots++;
	}
	free(f);
}

void download_cancel(struct download *d)
{
	while (d->fetches)
		free_fetch(d->fetches);
}

void download_free(struct download *d)
{
	if (d == NULL)
		return;
	download_cancel(d);
	free(d->slots);
	free(d->base_url);
	free(d->token_line);
	url_free(&d->origin);
	free(d);
}

enum err_code download_set_source(struct download *d,
				  const struct download_source *s,
				  struct err *e)
{
	download_cancel(d);
	free(take_ptr(d->base_url));
	free(take_ptr(d->token_line));
	url_free(&d->origin);
	d->kind = s->kind;
	d->files = s->files;
	d->form = s->form;
	d->is_single_file = s->is_single_file;
	d->is_multiplexed = s->is_multiplexed;
	d->is_near = s->kind == WIRE_SOURCE_DP && s->connect_ms < NEAR_MS;
	d->token_for_files = s->token_for_files;
	d->offer_client = s->offer_client;
	d->base_url = strdup(s->base_url);
	d->token_line = s->token_line ? strdup(s->token_line) : NULL;
	if (d->base_url == NULL || (s->token_line && d->token_line == NULL))
		return err_set(e, ERR_NOMEM, "no memory for a source");
	return url_parse(span_of(d->base_url), &d->origin, e);
}

/* --- slots ------------------------------------------------------------------ */

static int take_slot(struct download *d)
{
	for (unsigned i = 0; i < d->options.slots; i++)
		if (d->slots[i] == SLOT_FREE) {
			d->slots[i] = SLOT_FILLING;
			d->free_slots--;
			return (int)i;
		}
	return -1;
}

enum err_code download_slot(struct download *d, uint64_t slot, struct err *e)
{
	if (slot >= d->options.slots || d->slots[slot] != SLOT_SENT)
		return err_set(e, ERR_INTERNAL, "slot %llu was not given away",
			       (unsigned long long)slot);
	d->slots[slot] = SLOT_FREE;
	d->free_slots++;
	for (struct fetch *f = d->fetches; f; f = f->next)
		if (f->is_paused) {
			f->is_paused = false;
			http_resume(f->call);
			return ERR_OK;
		}
	return ERR_OK;
}

/* Hand the filled part of the slot to the keeper: some full ones at once, since they
 * are work for a while; others travel with what else there is to say. */
static enum err_code send_slot(struct fetch *f, struct err *e)
{
	struct download *d = f->download;
	if (f->slot < 0)
		return ERR_OK;
	if (f->filled == 0) {
		d->slots[f->slot] = SLOT_FREE;
		d->free_slots++;
		f->slot = -1;
		return ERR_OK;
	}
	struct wire_data m = { .index = f->index,
			       .asked = f->asked,
			       .offset = f->position - f->filled,
			       .slot = (uint64_t)f->slot,
			       .length = f->filled };
	d->unsent += f->filled == d->options.slot_bytes;
	d->slots[f->slot] = SLOT_SENT;
	f->slot = -1;
	f->filled = 0;
	enum err_code rc = wire_put(d->options.out, WIRE_DATA, &m, e);
	if (rc != ERR_OK || d->unsent < SEND_AT)
		return rc;
	d->unsent = 0;
	return wire_flush(d->options.out, e);
}

/* --- what the server says ------------------------------------------------------ */

static const char *path_of(const struct fetch *f)
{
	return entry_path(f->download->files, f->index);
}

static enum err_code check_partial(struct fetch *f, const struct head *h,
				   struct err *e)
{
	if (f->asked == 0 && f->end == WIRE_UNKNOWN)
		return err_set(e, ERR_HTTP, "%s: 206 to a request without a range",
			       path_of(f));
	if (!h->has_range || h->bad_range || h->range_total == UINT64_MAX)
		return err_set(e, ERR_HTTP, "%s: 206 without a usable Content-Range",
			       path_of(f));
	uint64_t end = f->end == WIRE_UNKNOWN ? h->range_total : f->end;
	if (h->range_first != f->asked || h->range_last + 1 != end)
		return err_set(e, ERR_HTTP,
			       "%s: asked for bytes from %llu, got %llu to %llu",
			       path_of(f), (unsigned long long)f->asked,
			       (unsigned long long)h->range_first,
			       (unsigned long long)h->range_last);
	if (h->has_length && h->length != end - f->asked)
		return err_set(e, ERR_HTTP,
			       "%s: Content-Length and Content-Range disagree",
			       path_of(f));
	if (f->etag[0] && h->etag[0] && strcmp(f->etag, h->etag) != 0)
		return err_set(e, ERR_CHANGED, "%s: another version than before (%s)",
			       path_of(f), h->etag);
	return ERR_OK;
}

static enum err_code on_head(void *arg, const struct head *h, struct err *e)
{
	struct fetch *f = arg;
	uint64_t total = WIRE_UNKNOWN;
	if (h->has_encoding)
		return err_set(e, ERR_HTTP, "%s: sent with a Content-Encoding",
			       path_of(f));
	if (h->bad_length)
		return err_set(e, ERR_HTTP, "%s: contradictory Content-Length",
			       path_of(f));
	if (h->status == 206) {
		if (check_partial(f, h, e) != ERR_OK)
			return e->code;
		total = h->range_total;
	} else if (h->status == 200 && f->end != WIRE_UNKNOWN) {
		return err_set(e, ERR_HTTP, "%s: the server sends all of it, where a "
			       "part was asked for", path_of(f));
	} else if (h->status == 200) {
		f->position = 0; /* the server starts over */
		if (h->has_length)
			total = h->length;
	} else {
		return err_set(e, ERR_STATUS, "%s: HTTP %ld %s", path_of(f),
			       h->status, h->reason);
	}
	if (f->total != WIRE_UNKNOWN && total != WIRE_UNKNOWN && f->total != total)
		return err_set(e, ERR_LENGTH,
			       "%s: listed with %llu bytes, the server has %llu",
			       path_of(f), (unsigned long long)f->total,
			       (unsigned long long)total);
	if (f->total == WIRE_UNKNOWN)
		f->total = total;
	struct wire_head m = { .index = f->index,
			       .asked = f->asked,
			       .offset = f->position,
			       .total = f->total,
			       .etag = span_of(h->etag_is_strong ? h->etag : "") };
	return wire_put(f->download->options.out, WIRE_HEAD, &m, e);
}

/* Where what was asked for ends; WIRE_UNKNOWN where nobody knows. */
static uint64_t end_of(const struct fetch *f)
{
	return f->end != WIRE_UNKNOWN ? f->end : f->total;
}

static enum http_take on_data(void *arg, struct span bytes, struct err *e)
{
	struct fetch *f = arg;
	struct download *d = f->download;
	size_t size = d->options.slot_bytes;
	uint64_t end = end_of(f);
	if (end != WIRE_UNKNOWN && bytes.len > end - f->position) {
		err_set(e, ERR_LENGTH, "%s: more than the announced %llu bytes",
			path_of(f), (unsigned long long)end);
		return HTTP_ABORT;
	}
	bool is_last = f->trimmed != WIRE_UNKNOWN &&
		       bytes.len >= f->trimmed - f->position;
	if (is_last)
		bytes.len = f->trimmed - f->position;
	/* all or nothing: curl brings the same bytes again after a pause */
	size_t room = (f->slot >= 0 ? size - f->filled : 0) + d->free_slots * size;
	if (bytes.len > room) {
		f->is_paused = true;
		return HTTP_PAUSE;
	}
	while (bytes.len) {
		if (f->slot < 0)
			f->slot = take_slot(d);
		size_t n = size - f->filled;
		n = bytes.len < n ? bytes.len : n;
		memcpy(d->options.ring + (size_t)f->slot * size + f->filled,
		       bytes.at, n);
		bytes.at += n;
		bytes.len -= n;
		f->filled += n;
		f->position += n;
		if (f->filled == size && send_slot(f, e) != ERR_OK)
			return HTTP_ABORT;
	}
	f->is_cut = is_last;
	return is_last ? HTTP_ABORT : HTTP_TAKEN;
}

/* --- the end of a request ---------------------------------------------------- */

static enum err_code judge_status(struct fetch *f, const struct http_response *r,
				  struct err *e)
{
	const struct head *h = &r->head;
	if (h->status == 416) {
		if (f->end == WIRE_UNKNOWN && h->range_unsatisfied && h->range_total == f->asked &&
		    (f->total == WIRE_UNKNOWN || f->total == f->asked)) {
			f->position = f->total = f->asked;
			return ERR_OK;
		}
		return err_set(e, ERR_CHANGED, "%s: the server no longer has %llu "
			       "bytes of it", path_of(f),
			       (unsigned long long)f->asked);
	}
	if (h->status == 412)
		return err_set(e, ERR_CHANGED, "%s: another version than before",
			       path_of(f));
	if (http_status(r, path_of(f), e) == ERR_DENIED &&
	    f->download->kind == WIRE_SOURCE_CLOUD)
		e->code = ERR_EXPIRED; /* docs/wire.md 6.5 */
	return e->code;
}

static enum err_code judge_end(struct fetch *f, const struct http_response *r,
			       struct err *e)
{
	if (f->is_cut)
		return ERR_OK;
	if (r->result.code != ERR_OK) {
		*e = r->result;
		return e->code;
	}
	if (r->head.status < 200 || r->head.status >= 300)
		return judge_status(f, r, e);
	uint64_t end = end_of(f);
	if (end != WIRE_UNKNOWN && f->position != end)
		return err_set(e, ERR_LENGTH, "%s: ended after %llu of %llu bytes",
			       path_of(f), (unsigned long long)f->position,
			       (unsigned long long)end);
	return ERR_OK;
}

static void end_fetch(struct fetch *f, struct err *e)
{
	struct download *d = f->download;
	struct err gone = { 0 };
	/* what came counts, also before an error: it is kept for resume */
	if (send_slot(f, &gone) == ERR_OK) {
		struct wire_fetched m = { .index = f->index,
					  .asked = f->asked,
					  .code = e->code == ERR_NOMEM ? /* as net.c */
							  ERR_LIMIT : e->code,
					  .text = span_of(e->text),
					  .retry_after_s = e->retry_after_s,
					  .form = f->form };
		wire_put(d->options.out, WIRE_FETCHED, &m, &gone);
	}
	free_fetch(f);
}

static void on_done(void *arg, const struct http_response *r)
{
	struct fetch *f = arg;
	struct download *d = f->download;
	struct err e = { 0 };
	forget_call(f);
	if (!f->is_own)
		d->is_multiplexed = r->is_multiplexed;
	/* no DP behind this URL, but a plain WebDAV server: docs/wire.md 5.3 */
	if (r->result.code == ERR_OK && r->head.status == 404 &&
	    f->form == WIRE_FORM_SCCM && d->form != WIRE_FORM_SCCM) {
		f->form = WIRE_FORM_PLAIN;
		if (request(f, &e) == ERR_OK)
			return;
	} else {
		judge_end(f, r, &e);
	}
	if (e.code == ERR_OK)
		d->form = f->form;
	end_fetch(f, &e);
	begin_waiting(d);
}

/* --- the request -------------------------------------------------------------- */

static void file_url(const struct fetch *f, struct buf *out)
{
	const struct download *d = f->download;
	const char *url = entry_url(d->files, f->index);
	if (url[0])
		buf_text(out, url);
	else if (d->is_single_file)
		buf_text(out, d->base_url);
	else
		dav_file_url(d->base_url, path_of(f), f->form, out);
}

/* Does the file lie where its list came from? Without a URL of its own it does. */
static bool is_of_origin(const struct fetch *f, const char *url)
{
	const struct download *d = f->download;
	autourl parsed = { 0 };
	struct err e;
	return entry_url(d->files, f->index)[0] == '\0' ||
	       (url_parse(span_of(url), &parsed, &e) == ERR_OK &&
	        url_same_origin(&parsed, &d->origin));
}

static enum err_code request(struct fetch *f, struct err *e)
{
	struct download *d = f->download;
	autobuf url = { .max = URL_MAX };
	char range[64], condition[WIRE_NAME + 32];
	const char *headers[4] = { "User-Agent: SMS CCM 5.0" };
	unsigned n = 1;
	file_url(f, &url);
	if (url.failed)
		return err_set(e, ERR_LIMIT, "%s: its URL is too long", path_of(f));
	bool same = is_of_origin(f, url.at);
	f->is_storage = d->kind == WIRE_SOURCE_CLOUD && !same;
	if (f->asked || f->end != WIRE_UNKNOWN) {
		int len = snprintf(range, sizeof(range), "Range: bytes=%llu-",
				   (unsigned long long)f->asked);
		if (f->end != WIRE_UNKNOWN)
			snprintf(range + len, sizeof(range) - (size_t)len, "%llu",
				 (unsigned long long)f->end - 1);
		headers[n++] = range;
		/* storage knows If-Match (412), others If-Range (200) */
		snprintf(condition, sizeof(condition), "%s: %s",
			 f->is_storage ? "If-Match" : "If-Range", f->etag);
		if (f->etag[0])
			headers[n++] = condition;
	}
	struct http_request r = {
		.method = "GET",
		.url = url.at,
		.headers = headers,
		.secret_header = same && d->token_for_files ? d->token_line : NULL,
		.leg = d->kind == WIRE_SOURCE_DP ? HTTP_SITE :
		       f->is_storage		 ? HTTP_STORAGE :
						   HTTP_SERVICE,
		.offer_client = d->offer_client && d->kind == WIRE_SOURCE_DP,
		.only_http1 = f->is_own,
		.max_body = 64 << 10,
		.on_head = on_head,
		.on_data = on_data,
		.done = on_done,
		.arg = f,
	};
	f->call = http_start(d->options.http, &r, e);
	d->active += f->call != NULL;
	d->own += f->call && f->is_own;
	return f->call ? ERR_OK : e->code;
}

/* Over one connection of HTTP/2 several answers come by turns: more than one for
 * each connection that we may have spares the pauses between them. Each fills a
 * slot. */
static unsigned most_active(const struct download *d)
{
	unsigned many = d->options.connections * WIRE_STREAMS;
	unsigned most = d->options.slots - d->options.slots / 4;
	if (!d->is_multiplexed)
		return d->options.connections;
	return many < most ? many : most;
}

static uint64_t bytes_to_come(const struct fetch *f)
{
	uint64_t left = f->total == WIRE_UNKNOWN ? AT_ONCE : f->total - f->position;
	if (f->is_own)
		return 0;
	return left < AT_ONCE ? left : AT_ONCE;
}

/* libcurl offers each stream of HTTP/2 a window of 32 MB, and keeps in memory what
 * comes while the keeper is slow: no more streams than that may be little. */
static bool is_too_much(const struct download *d, const struct fetch *next)
{
	uint64_t sum = bytes_to_come(next);
	if (!d->is_multiplexed || d->active == 0 || next->is_own)
		return false;
	for (const struct fetch *f = d->fetches; f; f = f->next)
		if (f->call)
			sum += bytes_to_come(f);
	return sum > AT_ONCE;
}

/*
 * Parts come side by side. A large file has nothing of HTTP/2 but the work that its
 * frames are, and others would wait behind it.
 */
static bool wants_own(const struct fetch *f)
{
	const struct download *d = f->download;
	return f->end != WIRE_UNKNOWN ||
	       (d->is_multiplexed && d->is_near && f->total != WIRE_UNKNOWN &&
	        f->total - f->asked >= OWN_BYTES);
}

/* As many as there may be, in the order asked. */
static void begin_waiting(struct download *d)
{
	unsigned most = most_active(d);
	for (struct fetch *f = d->fetches, *next; f; f = next) {
		struct err why = { 0 };
		next = f->next;
		if (d->active >= most)
			return;
		if (f->call)
			continue;
		f->is_own = wants_own(f);
		if (f->is_own && d->own >= d->options.connections)
			continue;
		if (is_too_much(d, f))
			return;
		f->form = d->form == WIRE_FORM_UNKNOWN ? WIRE_FORM_SCCM : d->form;
		if (request(f, &why) != ERR_OK)
			end_fetch(f, &why);
	}
}

enum err_code download_fetch(struct download *d, const struct wire_fetch *m,
			     struct err *e)
{
	if (d->files == NULL || m->index >= d->files->count)
		return err_set(e, ERR_INTERNAL, "no file %llu was listed",
			       (unsigned long long)m->index);
	if (m->end <= m->offset)
		return err_set(e, ERR_INTERNAL, "a part without bytes was asked for");
	struct fetch *f = calloc(1, sizeof(*f));
	if (f == NULL)
		return err_set(e, ERR_NOMEM, "no memory for a transfer");
	*f = (struct fetch){
		.download = d,
		.index = m->index,
		.asked = m->offset,
		.end = m->end,
		.trimmed = WIRE_UNKNOWN,
		.position = m->offset,
		.total = m->size,
		.slot = -1,
	};
	snprintf(f->etag, sizeof(f->etag), "%.*s", SPAN_ARG(m->etag));
	struct fetch **last = &d->fetches;
	while (*last)
		last = &(*last)->next;
	*last = f;
	begin_waiting(d);
	return ERR_OK;
}

void download_trim(struct download *d, const struct wire_trim *m)
{
	for (struct fetch *f = d->fetches; f; f = f->next) {
		if (f->index != m->index || f->asked != m->asked)
			continue;
		struct err none = { 0 };
		f->trimmed = m->end;
		if (f->position < m->end)
			return;
		end_fetch(f, &none);
		begin_waiting(d);
		return;
	}
}
