#include "agent/net/download.h"

#include "agent/net/dav.h"
#include "common/own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum slot_state {
	SLOT_FREE,
	SLOT_FILLING,
	SLOT_SENT, /* at the keeper */
};

struct fetch {
	struct download *download;
	struct fetch *next;
	struct http_call *call; /* pending request */
	uint64_t index;
	uint64_t asked;    /* offset in the Range that was asked; 0 = none */
	uint64_t position; /* of the next byte */
	uint64_t total;    /* WIRE_UNKNOWN until somebody names it */
	char etag[WIRE_NAME + 1]; /* of the bytes that the keeper has */
	enum wire_form form;
	bool is_storage;   /* blob of a manifest, not the service itself */
	bool is_paused;
	int slot;          /* being filled; -1 = none */
	size_t filled;
};

struct download {
	struct download_options options;
	enum slot_state *slots;
	unsigned free_slots;
	struct fetch *fetches;
	/* the source */
	enum wire_source kind;
	const struct entry_list *files;
	char *base_url, *token_line;
	enum wire_form form;
	bool is_single_file, token_for_files, offer_client;
	struct url origin;
};

static enum err_code request(struct fetch *f, struct err *e);

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

static void free_fetch(struct fetch *f)
{
	struct download *d = f->download;
	for (struct fetch **p = &d->fetches; *p; p = &(*p)->next)
		if (*p == f) {
			*p = f->next;
			break;
		}
	if (f->call)
		http_cancel(f->call);
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

/* Hand the filled part of the slot to the keeper. */
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
			       .offset = f->position - f->filled,
			       .slot = (uint64_t)f->slot,
			       .length = f->filled };
	d->slots[f->slot] = SLOT_SENT;
	f->slot = -1;
	f->filled = 0;
	return wire_send(d->options.sock, WIRE_DATA, &m, -1, e);
}

/* --- what the server says ------------------------------------------------------ */

static const char *path_of(const struct fetch *f)
{
	return entry_path(f->download->files, f->index);
}

static enum err_code check_partial(struct fetch *f, const struct head *h,
				   struct err *e)
{
	if (f->asked == 0)
		return err_set(e, ERR_HTTP, "%s: 206 to a request without a range",
			       path_of(f));
	if (!h->has_range || h->bad_range || h->range_total == UINT64_MAX)
		return err_set(e, ERR_HTTP, "%s: 206 without a usable Content-Range",
			       path_of(f));
	if (h->range_first != f->asked || h->range_last != h->range_total - 1)
		return err_set(e, ERR_HTTP,
			       "%s: asked for bytes from %llu, got %llu to %llu",
			       path_of(f), (unsigned long long)f->asked,
			       (unsigned long long)h->range_first,
			       (unsigned long long)h->range_last);
	if (h->has_length && h->length != h->range_total - f->asked)
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
			       .offset = f->position,
			       .total = f->total,
			       .etag = span_of(h->etag_is_strong ? h->etag : "") };
	return wire_send(f->download->options.sock, WIRE_HEAD, &m, -1, e);
}

static enum http_take on_data(void *arg, struct span bytes, struct err *e)
{
	struct fetch *f = arg;
	struct download *d = f->download;
	size_t size = d->options.slot_bytes;
	if (f->total != WIRE_UNKNOWN && bytes.len > f->total - f->position) {
		err_set(e, ERR_LENGTH, "%s: more than the announced %llu bytes",
			path_of(f), (unsigned long long)f->total);
		return HTTP_ABORT;
	}
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
	return HTTP_TAKEN;
}

/* --- the end of a request ---------------------------------------------------- */

static enum err_code judge_status(struct fetch *f, const struct http_response *r,
				  struct err *e)
{
	const struct head *h = &r->head;
	if (h->status == 416) {
		if (h->range_unsatisfied && h->range_total == f->asked &&
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
	if (r->result.code != ERR_OK) {
		*e = r->result;
		return e->code;
	}
	if (r->head.status < 200 || r->head.status >= 300)
		return judge_status(f, r, e);
	if (f->total != WIRE_UNKNOWN && f->position != f->total)
		return err_set(e, ERR_LENGTH, "%s: ended after %llu of %llu bytes",
			       path_of(f), (unsigned long long)f->position,
			       (unsigned long long)f->total);
	return ERR_OK;
}

static void end_fetch(struct fetch *f, struct err *e)
{
	struct err gone = { 0 };
	/* what came counts, also before an error: it is kept for resume */
	if (send_slot(f, &gone) == ERR_OK) {
		struct wire_fetched m = { .index = f->index,
					  .code = e->code == ERR_NOMEM ? /* as net.c */
							  ERR_LIMIT : e->code,
					  .text = span_of(e->text),
					  .retry_after_s = e->retry_after_s,
					  .form = f->form };
		wire_send(f->download->options.sock, WIRE_FETCHED, &m, -1, &gone);
	}
	free_fetch(f);
}

static void on_done(void *arg, const struct http_response *r)
{
	struct fetch *f = arg;
	struct download *d = f->download;
	struct err e = { 0 };
	f->call = NULL;
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

static bool is_of_origin(const struct download *d, const char *url)
{
	autourl parsed = { 0 };
	struct err e;
	return url_parse(span_of(url), &parsed, &e) == ERR_OK &&
	       url_same_origin(&parsed, &d->origin);
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
	bool same = is_of_origin(d, url.at);
	f->is_storage = d->kind == WIRE_SOURCE_CLOUD && !same;
	if (f->asked) {
		snprintf(range, sizeof(range), "Range: bytes=%llu-",
			 (unsigned long long)f->asked);
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
		.max_body = 64 << 10,
		.on_head = on_head,
		.on_data = on_data,
		.done = on_done,
		.arg = f,
	};
	f->call = http_start(d->options.http, &r, e);
	return f->call ? ERR_OK : e->code;
}

enum err_code download_fetch(struct download *d, const struct wire_fetch *m,
			     struct err *e)
{
	if (d->files == NULL || m->index >= d->files->count)
		return err_set(e, ERR_INTERNAL, "no file %llu was listed",
			       (unsigned long long)m->index);
	struct fetch *f = calloc(1, sizeof(*f));
	if (f == NULL)
		return err_set(e, ERR_NOMEM, "no memory for a transfer");
	*f = (struct fetch){
		.download = d,
		.next = d->fetches,
		.index = m->index,
		.asked = m->offset,
		.position = m->offset,
		.total = m->size,
		.form = d->form == WIRE_FORM_UNKNOWN ? WIRE_FORM_SCCM : d->form,
		.slot = -1,
	};
	snprintf(f->etag, sizeof(f->etag), "%.*s", SPAN_ARG(m->etag));
	d->fetches = f;
	struct err why = { 0 };
	if (request(f, &why) != ERR_OK)
		end_fetch(f, &why);
	return ERR_OK;
}
