#include "agent/keeper/spread.h"

#include <limits.h>
#include <stdlib.h>

#define LOOK_MS 100
#define WORTH_BYTES (64ull << 20) /* less is over before it pays */
#define SURE_BYTES (128ull << 20) /* where nobody knows how fast one stream is */
#define FAR_MS 100                /* a window a round trip: one stream is slow there */
#define TRIAL_MS 200              /* how fast is one stream? */
#define HELP_MS 3000              /* have more helped? A new one begins slowly */
#define HELP_FACTOR 1.3
#define FEW 2                     /* where they have not */
#define SLOW (32.0 * 1024 * 1024 / 1000) /* bytes a ms */
#define NEAR_LIMIT 0.8            /* of it: what one stream is held to */
#define LONG_MS 3000              /* what is left must take so long */

static uint64_t bytes_of(const struct roster_file *f)
{
	return part_length(f->part) + (f->part->split ? f->part->split->ahead : 0);
}

static uint64_t bytes_left(const struct roster_file *f)
{
	return f->size == ROSTER_UNKNOWN ? 0 : f->size - part_length(f->part);
}

void spread_resume(struct spread *s, struct roster_file *file)
{
	*s = (struct spread){ .file = file, .allowed = UINT_MAX, .is_settled = true };
}

void spread_begun(struct spread *s, const struct roster_file *file)
{
	if (bytes_left(file) >= WORTH_BYTES)
		s->looked_ms = 0;
}

/* The file that would come last. */
static struct roster_file *find_largest(const struct roster *list)
{
	struct roster_file *best = NULL;
	for (size_t i = 0; i < list->count; i++) {
		struct roster_file *f = &list->files[i];
		if (f->state == FILE_COMING && !f->has_restarted &&
		    f->part->fd >= 0 && bytes_left(f) >= WORTH_BYTES &&
		    (best == NULL || bytes_left(f) > bytes_left(best)))
			best = f;
	}
	return best;
}

static void begin_count(struct spread *s, int64_t now_ms)
{
	s->since_ms = now_ms;
	s->since_bytes = bytes_of(s->file);
}

static bool has_parts(const struct roster_file *f)
{
	return f->part->split && f->part->split->is_agreed;
}

/* Is one stream the reason that no more comes? */
static bool is_slow(double rate, const struct spread_case *c)
{
	double limit = (double)c->limit / 1000 * NEAR_LIMIT;
	return rate < SLOW && (c->limit == 0 || rate < limit);
}

/* How many streams the file may have now. */
static unsigned allow(struct spread *s, const struct spread_case *c)
{
	if (s->allowed > c->connections)
		s->allowed = c->connections;
	if (s->is_settled)
		return s->allowed;
	int64_t ms = c->now_ms - s->since_ms;
	bool is_trial = s->allowed == 1 || !s->is_measured;
	/* others were asked for without a trial, which lasts until one comes */
	bool is_alone = s->allowed > 1 && !has_parts(s->file);
	if (ms < (is_trial ? TRIAL_MS : HELP_MS) || (is_trial && is_alone))
		return s->allowed;
	double rate = (double)(bytes_of(s->file) - s->since_bytes) / (double)ms;
	double left = (double)(s->file->size - bytes_of(s->file));
	if (s->allowed == 1 && is_slow(rate, c) && left > rate * LONG_MS)
		s->allowed = c->connections;
	s->is_settled = !is_trial;
	if (s->is_settled && rate < s->rate * HELP_FACTOR)
		s->allowed = FEW;
	s->rate = rate;
	s->is_measured = true;
	begin_count(s, c->now_ms);
	return s->allowed;
}

static bool look(struct spread *s, const struct roster *list,
		 const struct spread_case *c)
{
	bool is_split = s->file && s->file->part && s->file->part->split;
	if (is_split || c->now_ms - s->looked_ms < LOOK_MS)
		return is_split || s->file;
	struct roster_file *best = find_largest(list);
	s->looked_ms = c->now_ms;
	if (best == s->file)
		return best != NULL;
	s->file = best;
	if (best == NULL)
		return false;
	bool is_far = c->wait_ms >= FAR_MS && bytes_left(best) >= SURE_BYTES;
	bool is_sure = c->limit == 0 && (c->is_cloud || is_far);
	s->allowed = is_sure ? c->connections : 1;
	s->is_settled = is_sure && c->is_cloud;
	s->is_measured = false;
	begin_count(s, c->now_ms);
	return true;
}

void spread_failed(struct spread *s)
{
	s->is_settled = true;
	s->allowed = s->allowed > 1 ? s->allowed / 2 : 1;
}

const struct stream *spread_next(struct spread *s, struct roster *list,
				 const struct spread_case *c,
				 struct roster_file **file)
{
	if (!look(s, list, c))
		return NULL;
	struct roster_file *f = *file = s->file;
	if (f->state != FILE_COMING || f->part->fd < 0)
		return NULL;
	/* one that is cut into parts needs them all, whatever has failed */
	if (!has_parts(f) && (s->is_refused || c->connections < 2))
		return NULL;
	unsigned allowed = allow(s, c);
	struct split_case now = {
		.connections = allowed < c->connections ? allowed : c->connections,
		.margin = c->margin,
	};
	if (f->part->split == NULL) {
		if (now.connections < 2)
			return NULL;
		f->part->split = malloc(sizeof(*f->part->split));
		if (f->part->split == NULL)
			return NULL; /* then in one stream */
		split_begin(f->part->split, f->asked, part_length(f->part),
			    f->size);
	}
	return c->pending < c->connections ? split_next(f->part->split, &now) : NULL;
}
