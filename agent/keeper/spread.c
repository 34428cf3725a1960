#include "agent/keeper/spread.h"

#include <stdlib.h>

#define LOOK_MS 100
#define WORTH_BYTES (64ull << 20) /* less is over before it pays */
#define TRIAL_MS 200              /* how fast is one stream? */
#define HELP_MS 3000              /* have more helped? A new one begins slowly */
#define HELP_FACTOR 1.3
#define FEW 2                     /* where they have not */
#define SLOW (32.0 * 1024 * 1024 / 1000) /* bytes a ms */
#define LONG_MS 3000              /* what is left must take so long */

static uint64_t bytes_of(const struct roster_file *f)
{
	return part_length(f->part) + (f->part->split ? f->part->split->ahead : 0);
}

/* The file that would come last. */
static struct roster_file *find_largest(const struct roster *list)
{
	struct roster_file *best = NULL;
	for (size_t i = 0; i < list->count; i++) {
		struct roster_file *f = &list->files[i];
		if (f->state == FILE_COMING && f->size != ROSTER_UNKNOWN &&
		    !f->has_restarted && f->part->fd >= 0 &&
		    f->size - part_length(f->part) >= WORTH_BYTES &&
		    (best == NULL ||
		     f->size - part_length(f->part) >
			     best->size - part_length(best->part)))
			best = f;
	}
	return best;
}

static void begin_count(struct spread *s, int64_t now_ms)
{
	s->since_ms = now_ms;
	s->since_bytes = bytes_of(s->file);
}

/* How many streams the file may have now. */
static unsigned allow(struct spread *s, const struct spread_case *c)
{
	if (s->is_settled)
		return s->allowed;
	int64_t ms = c->now_ms - s->since_ms;
	bool is_trial = s->allowed == 1;
	if (ms < (is_trial ? TRIAL_MS : HELP_MS))
		return s->allowed;
	double rate = (double)(bytes_of(s->file) - s->since_bytes) / (double)ms;
	double left = (double)(s->file->size - bytes_of(s->file));
	if (is_trial && rate < SLOW && left > rate * LONG_MS)
		s->allowed = c->connections;
	s->is_settled = !is_trial;
	if (s->is_settled && rate < s->rate * HELP_FACTOR)
		s->allowed = FEW;
	s->rate = rate;
	begin_count(s, c->now_ms);
	return s->allowed;
}

static bool look(struct spread *s, const struct roster *list,
		 const struct spread_case *c)
{
	bool is_split = s->file && s->file->state == FILE_COMING &&
			s->file->part->split;
	if (is_split || c->now_ms - s->looked_ms < LOOK_MS)
		return is_split || s->file;
	struct roster_file *best = find_largest(list);
	s->looked_ms = c->now_ms;
	if (best == s->file)
		return best != NULL;
	s->file = best;
	s->allowed = c->is_cloud ? c->connections : 1;
	s->is_settled = c->is_cloud;
	if (best)
		begin_count(s, c->now_ms);
	return best != NULL;
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
	bool has_parts = f->part->split && f->part->split->is_agreed;
	if (!has_parts && (s->is_refused || c->connections < 2))
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
	return split_next(f->part->split, &now);
}
