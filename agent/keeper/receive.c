#include "agent/keeper/receive.h"

#include "agent/keeper/intake.h"
#include "agent/keeper/parts.h"
#include "common/folder.h"
#include "common/fs.h"
#include "common/own.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define BEHIND_LEAST (8u << 20) /* kept bytes that are hashed beside the rest */
#define BEHIND_STEP (1u << 20)  /* of them, while net has nothing to say */
#define FILE_COST (4u << 10)    /* the look at a file, in bytes hashed */

static enum err_code no_memory(struct err *e)
{
	return err_set(e, ERR_NOMEM, "receive files: no memory");
}

/* --- a source's list ------------------------------------------------------ */

struct receive *receive_new(const struct receive_options *options,
			    struct err *e)
{
	struct receive *r = calloc(1, sizeof(*r));
	if (r == NULL) {
		no_memory(e);
		return NULL;
	}
	r->o = *options;
	r->list.limits = (struct roster_limits){
		.wanted = options->wanted && options->wanted->count ?
				  options->wanted : NULL,
		.size = options->size,
		.most_bytes = options->most_bytes,
	};
	return r;
}

void receive_free(struct receive *r)
{
	if (r == NULL)
		return;
	known_free(&r->known);
	for (size_t i = 0; i < r->list.count; i++)
		part_free(r->list.files[i].part, &r->place);
	roster_free(&r->list);
	part_place_close(&r->place);
	free(r);
}

enum err_code receive_begin(struct receive *r, const char *source_host,
			    struct err *e)
{
	bool is_same = strcasecmp(r->host, source_host) == 0;
	receive_fail_all(r);
	enum err_code rc = known_add(&r->known, &r->list, is_same, e);
	if (rc != ERR_OK)
		return rc;
	snprintf(r->host, sizeof(r->host), "%s", source_host);
	r->host[strcspn(r->host, "\n")] = '\0'; /* the note's separator */
	r->cursor = r->done = 0;
	r->bytes_done = r->bytes_resumed = 0;
	r->is_planned = false;
	r->cut = NULL;
	r->behind = NULL;
	r->spread = (struct spread){ 0 };
	return ERR_OK;
}

enum err_code receive_file(struct receive *r, uint64_t index, const char *path,
			   uint64_t size, const char *hash, struct err *e)
{
	if (r->is_planned)
		return err_set(e, ERR_NET_LIED, "a file after the end of the list");
	return roster_add(&r->list, index, path, size, hash, e);
}

enum err_code receive_check(struct receive *r, struct err *e)
{
	return roster_check(&r->list, e);
}

/* --- what the draft holds already ----------------------------------------- */

/* A file that this run has hashed before. */
static void take_known(struct receive *r, struct roster_file *f,
		       struct roster_file *known, int fd)
{
	f->is_old = known->is_old;
	f->has_restarted = known->has_restarted;
	if (known->state == FILE_DONE) {
		struct err ignored;
		memcpy(f->sha256, known->sha256, sizeof(f->sha256));
		if (roster_learn_size(&r->list, f, known->size, &ignored) != ERR_OK) {
			intake_forget(r, f); /* it was cut off, as it seems */
			return;
		}
		f->state = FILE_DONE;
		r->done++;
		r->bytes_done += f->size;
		if (f->said && strcmp(f->said, f->sha256) != 0)
			intake_forget(r, f); /* of two sources one is wrong */
		return;
	}
	f->part = take_ptr(known->part);
	r->bytes_done += f->part->have;
	part_read_note(f->part, r->host, fd);
}

/* Of a large file the rest may come meanwhile. One at a time: what is kept of others
 * is hashed before. */
static bool may_be_behind(const struct receive *r, const struct roster_file *f,
			  uint64_t size)
{
	return r->behind == NULL && f->size != RECEIVE_UNKNOWN && size < f->size;
}

static enum err_code take_kept(struct receive *r, struct roster_file *f, int fd,
			       uint64_t size, struct err *e)
{
	struct part *p = f->part = part_new(roster_says_sha1(f), e);
	if (p == NULL)
		return e ? e->code : ERR_NOMEM;
	p->stored = size;
	if (may_be_behind(r, f, size))
		p->split = part_find_ahead(fd, size, f->size);
	f->is_old = true;
	r->bytes_done += intake_bytes(p);
	part_read_note(p, r->host, fd);
	enum err_code rc = part_trim(p, fd, f->path, e);
	if (rc != ERR_OK)
		return rc;
	if (p->split)
		spread_resume(&r->spread, f);
	else if (!may_be_behind(r, f, size) || size < BEHIND_LEAST)
		return intake_catch_up(r, f, fd, e);
	r->behind = f;
	return ERR_OK;
}

/* Take up what lies there under the name of the file. */
static enum err_code adopt(struct receive *r, struct roster_file *f, struct err *e)
{
	autofd fd = -1;
	uint64_t size;
	struct roster_file *known = known_find(&r->known, f->path);
	enum err_code rc = part_find(&r->place, f->path, &fd, &size, e);
	if (rc != ERR_OK)
		return rc;
	if (fd >= 0 && f->size != RECEIVE_UNKNOWN && size > f->size)
		intake_forget(r, f); /* the descriptor is of no use then */
	else if (size && known && known_is_usable(known, f, size))
		take_known(r, f, known, fd);
	else if (size)
		rc = take_kept(r, f, fd, size, e);
	if (known) {
		part_free(take_ptr(known->part), &r->place);
		known->state = FILE_GONE;
	}
	if (rc != ERR_OK || f->state == FILE_DONE || roster_have(f) != f->size)
		return rc;
	/* All there, or nothing to come: a file of no bytes is made here. */
	if ((rc = intake_open(r, f, e)) != ERR_OK)
		return rc;
	rc = intake_complete(r, f, e);
	/* Bytes from before prove nothing against this source. */
	return rc == ERR_HASH_FILE && f->size ? ERR_OK : rc;
}

/* The first run at a content: thousands of names need not be looked for. */
static bool is_draft_empty(const struct receive *r)
{
	struct err ignored;
	autodir dir = folder_open(r->o.dir_fd, ".", &ignored);
	return dir && folder_next(dir) == NULL && errno == 0;
}

enum err_code receive_plan(struct receive *r, uint64_t *bytes_kept,
			   uint64_t *need, struct err *e)
{
	enum err_code rc = receive_check(r, e);
	if (rc == ERR_OK)
		rc = part_place_open(&r->place, r->o.dir_fd, e);
	if (rc != ERR_OK)
		return rc;
	r->cursor = 0;
	bool is_empty = is_draft_empty(r);
	for (size_t i = 0; i < r->list.count; i++) {
		/* nothing to take up; but a file of no bytes is made */
		if (!is_empty || r->list.files[i].size == 0)
			rc = adopt(r, &r->list.files[i], e);
		if (rc == ERR_OK)
			rc = intake_ask_stop(r, FILE_COST, e);
		if (rc != ERR_OK)
			return rc;
	}
	r->is_planned = true;
	r->bytes_resumed = r->bytes_done;
	*bytes_kept = r->bytes_done;
	*need = 0;
	for (size_t i = 0; i < r->list.count; i++) {
		const struct roster_file *f = &r->list.files[i];
		if (f->size != RECEIVE_UNKNOWN)
			*need += f->size - (f->part ? intake_bytes(f->part) :
						      roster_have(f));
	}
	return ERR_OK;
}

/* --- asking, and the answer ----------------------------------------------- */

bool receive_next(struct receive *r, struct receive_ask *out)
{
	while (r->is_planned && r->cursor < r->list.count) {
		struct roster_file *f = &r->list.files[r->cursor++];
		if (f->state != FILE_IDLE)
			continue;
		f->state = FILE_ASKED;
		f->asked = roster_have(f);
		*out = (struct receive_ask){ .index = f->index,
					     .offset = f->asked,
					     .end = RECEIVE_UNKNOWN,
					     .size = f->size,
					     .path = f->path };
		if (f->asked)
			memcpy(out->etag, f->part->etag, sizeof(out->etag));
		if (f->part && f->part->split)
			out->end = split_first(f->part->split)->end;
		return true;
	}
	return false;
}

bool receive_is_behind(const struct receive *r)
{
	const struct part *p = r->behind ? r->behind->part : NULL;
	return p && p->fd >= 0 && part_is_behind(p);
}

enum err_code receive_catch_up(struct receive *r, struct err *e)
{
	struct part *p = r->behind->part;
	return part_catch_up(p, p->fd, &r->place, r->behind->path, BEHIND_STEP, e);
}

bool receive_next_part(struct receive *r, const struct spread_case *c,
		       struct receive_ask *out)
{
	return parts_next(r, c, out);
}

bool receive_next_trim(struct receive *r, struct receive_trim *out)
{
	return parts_next_trim(r, out);
}

static struct roster_file *look(struct receive *r, uint64_t index,
				enum roster_state state, struct err *e)
{
	struct roster_file *f = r->is_planned ? roster_find(&r->list, index) : NULL;
	if (f && f->state == state)
		return f;
	err_set(e, ERR_NET_LIED, "an answer about file number %" PRIu64 ", which %s",
		index, f ? "is not at that step" : "nobody listed");
	return NULL;
}

/* The server sends all of it, though we asked for the rest. */
static enum err_code start_over(struct receive *r, struct roster_file *f,
				struct err *e)
{
	if (f->has_restarted)
		return err_set(e, ERR_HTTP, "%.200s: the server begins it anew "
			       "instead of going on, for the second time", f->path);
	f->has_restarted = true;
	f->is_old = false;
	r->bytes_done -= intake_bytes(f->part);
	part_unsplit(f->part);
	return part_restart(f->part, f->path, e);
}

enum err_code receive_head(struct receive *r, const struct receive_begun *h,
			   struct err *e)
{
	struct stream *s = parts_find(r, h->index, h->asked);
	if (s)
		return parts_head(r, s, h, e);
	struct roster_file *f = look(r, h->index, FILE_ASKED, e);
	if (f == NULL)
		return ERR_NET_LIED;
	uint64_t have = roster_have(f), offset = h->offset, total = h->total;
	if (h->asked != f->asked)
		return err_set(e, ERR_NET_LIED, "%.200s: nothing was asked for at %"
			       PRIu64, f->path, h->asked);
	if (offset && offset != have)
		return err_set(e, ERR_NET_LIED, "%.200s: asked for it from %" PRIu64
			       ", it comes from %" PRIu64, f->path, have, offset);
	if (total != RECEIVE_UNKNOWN &&
	    (total < offset || (f->size != RECEIVE_UNKNOWN && total != f->size)))
		return err_set(e, ERR_LENGTH, "%.200s: the server has %" PRIu64
			       " bytes of it, not %" PRIu64, f->path, total,
			       f->size != RECEIVE_UNKNOWN ? f->size : offset);
	enum err_code rc = ERR_OK;
	if (total != RECEIVE_UNKNOWN)
		rc = roster_learn_size(&r->list, f, total, e);
	if (rc == ERR_OK)
		rc = intake_open(r, f, e);
	if (rc == ERR_OK && offset < have)
		rc = start_over(r, f, e);
	if (rc == ERR_OK)
		rc = intake_take_etag(f, offset, h->etag, e);
	if (rc == ERR_OK) {
		f->state = FILE_COMING;
		spread_begun(&r->spread, f);
	}
	if (rc == ERR_OK && f->part->split)
		split_find(f->part->split, f->asked)->state = STREAM_COMING;
	if (rc == ERR_CHANGED)
		intake_forget(r, f);
	return rc;
}

/* May `len` bytes more come? */
static enum err_code check_room(struct receive *r, struct roster_file *f,
				size_t len, struct err *e)
{
	const struct roster_limits *limits = &r->list.limits;
	uint64_t have = part_length(f->part), done = r->bytes_done + len;
	if (f->size != RECEIVE_UNKNOWN && len > f->size - have) {
		uint64_t size = f->size;
		/* whole, as it seems; but nobody knows what it is */
		intake_forget(r, f);
		return err_set(e, ERR_LENGTH, "%.200s: more than its %" PRIu64
			       " bytes come", f->path, size);
	}
	if (limits->size != RECEIVE_UNKNOWN && done > limits->size)
		return err_set(e, ERR_SIZE, "more bytes come than the %" PRIu64
			       " that policy says", limits->size);
	if (done > limits->most_bytes)
		return err_set(e, ERR_SPACE_CACHE, "more bytes come than the %" PRIu64
			       " there is room for", limits->most_bytes);
	return ERR_OK;
}

static bool fits(const struct roster_file *f, const struct stream *s,
		 const struct receive_bytes *b)
{
	if (f->part->split)
		return s && split_fits(s, b->offset, b->len);
	return b->asked == f->asked && b->offset == part_length(f->part);
}

enum err_code receive_data(struct receive *r, const struct receive_bytes *b,
			   struct err *e)
{
	struct roster_file *f = look(r, b->index, FILE_COMING, e);
	if (f == NULL)
		return ERR_NET_LIED;
	struct part *p = f->part;
	struct stream *s = p->split ? split_find(p->split, b->asked) : NULL;
	if (!fits(f, s, b))
		return err_set(e, ERR_NET_LIED, "%.200s: %zu bytes for %" PRIu64
			       " of what was asked for at %" PRIu64 ", where %" PRIu64
			       " are", f->path, b->len, b->offset, b->asked,
			       s ? s->next : part_length(p));
	if (s && s->state == STREAM_UNWANTED) {
		s->next += b->len;
		return ERR_OK;
	}
	enum err_code rc = check_room(r, f, b->len, e);
	if (rc != ERR_OK)
		return rc;
	uint64_t before = intake_bytes(p);
	rc = s ? part_put(p, &r->place, f->path, s, b->at, b->len, e) :
		 part_append(p, &r->place, f->path, b->at, b->len, e);
	r->bytes_done += intake_bytes(p) - before;
	r->bytes_received += intake_bytes(p) - before;
	/* Small files are over before a note could be of use. */
	if (rc == ERR_OK && part_length(p) < f->size)
		part_write_note(p, r->host);
	return rc;
}

/* --- the end of an answer ------------------------------------------------- */

enum err_code receive_end(struct receive *r, uint64_t index, uint64_t asked,
			  struct err *e)
{
	struct stream *s = parts_find(r, index, asked);
	if (s)
		return parts_end(r, s, index, e);
	struct roster_file *f = r->is_planned ? roster_find(&r->list, index) : NULL;
	/* No head, but bytes from before: the server said that they are all
	 * (416 at the full size). */
	bool is_all = f && f->state == FILE_ASKED && roster_have(f) > 0;
	if (f && (asked != f->asked || (f->part && f->part->split)))
		return err_set(e, ERR_NET_LIED, "%.200s: nothing comes from %" PRIu64,
			       f->path, asked);
	if (!is_all && (f = look(r, index, FILE_COMING, e)) == NULL)
		return ERR_NET_LIED;
	uint64_t have = roster_have(f);
	enum err_code rc = ERR_OK;
	if (f->size != RECEIVE_UNKNOWN && have != f->size)
		rc = err_set(e, ERR_LENGTH, "%.200s: ended after %" PRIu64
			     " of %" PRIu64 " bytes", f->path, have, f->size);
	if (rc == ERR_OK)
		rc = intake_open(r, f, e);
	if (rc != ERR_OK) {
		intake_end_badly(r, f);
		return rc;
	}
	rc = roster_learn_size(&r->list, f, have, e);
	if (rc != ERR_OK) {
		intake_forget(r, f); /* ended, but where it cannot end */
		return rc;
	}
	return intake_complete(r, f, e);
}

enum err_code receive_fail(struct receive *r, uint64_t index, uint64_t asked,
			   const struct err *why, struct err *e)
{
	struct roster_file *f = roster_find(&r->list, index);
	struct stream *s = parts_find(r, index, asked);
	enum err_code rc;
	if (s && parts_fail(r, s, f, why, &rc, e))
		return rc;
	/* no parts from this server: on with what lies before the first gap */
	if (f && f->state == FILE_ASKED && f->part && f->part->split &&
	    why->code == ERR_HTTP) {
		r->bytes_done -= part_unsplit(f->part);
		r->spread.is_refused = true;
		intake_reopen(r, f);
		return ERR_OK;
	}
	if (f && intake_is_pending(f) && why->code == ERR_CHANGED)
		intake_forget(r, f);
	else if (f && intake_is_pending(f))
		intake_end_badly(r, f);
	*e = *why;
	return e->code;
}

void receive_fail_all(struct receive *r)
{
	for (size_t i = 0; i < r->list.count; i++)
		if (intake_is_pending(&r->list.files[i]))
			intake_end_badly(r, &r->list.files[i]);
}

/* --- the whole ------------------------------------------------------------ */

bool receive_is_complete(const struct receive *r)
{
	return r->is_planned && r->done == r->list.count;
}

enum err_code receive_listing(struct receive *r, struct listing *out,
			      struct err *e)
{
	enum err_code rc = intake_sync(r, e);
	for (size_t i = 0; rc == ERR_OK && i < r->list.count; i++) {
		const struct roster_file *f = &r->list.files[i];
		if (f->state == FILE_DONE)
			rc = listing_add(out, f->path, f->sha256, e);
	}
	return rc;
}

/* What failed must not be what a later run begins with, whoever it came from. */
bool receive_distrust(struct receive *r)
{
	bool is_mixed = false;
	for (size_t i = 0; i < r->list.count; i++) {
		struct roster_file *f = &r->list.files[i];
		is_mixed |= f->is_old && roster_have(f);
		intake_forget(r, f);
	}
	struct err ignored;
	for (size_t i = 0; i < r->known.count; i++)
		folder_remove(r->o.dir_fd, r->known.files[i].path, &ignored);
	known_free(&r->known);
	r->bytes_resumed = 0;
	r->cursor = 0;
	return is_mixed;
}

void receive_figures(const struct receive *r, struct receive_figures *out)
{
	*out = (struct receive_figures){
		.files = r->list.count,
		.files_done = r->done,
		.bytes_total = r->list.bytes_total,
		.bytes_done = r->bytes_done,
		.bytes_resumed = r->bytes_resumed,
		.bytes_received = r->bytes_received,
	};
}
