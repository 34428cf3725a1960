#include "agent/keeper/parts.h"

#include <inttypes.h>
#include <string.h>

bool parts_next(struct receive *r, const struct spread_case *c,
		struct receive_ask *out)
{
	struct roster_file *f;
	const struct stream *part =
		r->is_planned ? spread_next(&r->spread, &r->list, c, &f) : NULL;
	if (part == NULL)
		return false;
	r->margin = c->margin;
	r->cut = f;
	*out = (struct receive_ask){ .index = f->index,
				     .offset = part->asked,
				     .end = part->end,
				     .size = f->size,
				     .path = f->path };
	memcpy(out->etag, f->part->etag, sizeof(out->etag));
	return true;
}

bool parts_next_trim(struct receive *r, struct receive_trim *out)
{
	struct roster_file *f = r->cut;
	if (f && f->part && f->part->split &&
	    split_next_cut(f->part->split, &out->asked, &out->end)) {
		out->index = f->index;
		return true;
	}
	r->cut = NULL;
	return false;
}

/* Is the FETCH that net speaks of a part of a file that comes in several? */
struct stream *parts_find(struct receive *r, uint64_t index, uint64_t asked)
{
	struct roster_file *f = r->is_planned ? roster_find(&r->list, index) : NULL;
	return f && f->state == FILE_COMING && f->part->split ?
		       split_find(f->part->split, asked) : NULL;
}

/* Another part of a file begins. */
enum err_code parts_head(struct receive *r, struct stream *s,
			 const struct receive_begun *h, struct err *e)
{
	struct roster_file *f = roster_find(&r->list, h->index);
	if (s->state == STREAM_UNWANTED)
		return ERR_OK;
	if (s->state != STREAM_ASKED || h->offset != h->asked)
		return err_set(e, ERR_NET_LIED, "%.200s: the part from %" PRIu64
			       " is not at that step", f->path, h->asked);
	if (h->total != f->size)
		return err_set(e, ERR_LENGTH, "%.200s: the server has %" PRIu64
			       " bytes of it, not %" PRIu64, f->path, h->total, f->size);
	enum err_code rc = intake_take_etag(f, h->offset, h->etag, e);
	if (rc != ERR_OK) {
		intake_forget(r, f);
		return rc;
	}
	split_begun(f->part->split, r->margin, s);
	r->cut = f;
	return ERR_OK;
}

/* A file that comes in parts is whole when all of it is hashed, and net has no more
 * to say of it. */
static enum err_code settle(struct receive *r, struct roster_file *f,
				  struct err *e)
{
	struct split *split = f->part->split;
	split_reach(split, part_length(f->part));
	if (part_length(f->part) < f->size)
		return ERR_OK;
	if (split_is_busy(split)) {
		split_whole(split);
		r->cut = f;
		return ERR_OK;
	}
	part_unsplit(f->part);
	return intake_complete(r, f, e);
}

/* One part of several ended. */
enum err_code parts_end(struct receive *r, struct stream *s, uint64_t index,
			struct err *e)
{
	struct roster_file *f = roster_find(&r->list, index);
	if (s->state == STREAM_ASKED ||
	    (s->state == STREAM_COMING && s->next != s->end)) {
		err_set(e, ERR_LENGTH, "%.200s: a part ended at %" PRIu64 " instead of %"
			PRIu64, f->path, s->next, s->end);
		intake_end_badly(r, f);
		return e->code;
	}
	split_ended(f->part->split, s);
	return settle(r, f, e);
}

bool parts_fail(struct receive *r, struct stream *s, struct roster_file *f,
		const struct err *why, enum err_code *rc, struct err *e)
{
	struct split *split = f->part->split;
	/* before there are parts, no answer to such a question is an error */
	if (why->code == ERR_CHANGED && split->is_agreed)
		return false;
	r->spread.is_refused |= !split->is_agreed;
	spread_failed(&r->spread);
	if (!split_failed(split, s))
		return false;
	*rc = settle(r, f, e);
	return true;
}
