#include "agent/keeper/split.h"

#include <stddef.h>

#define PART_LEAST (4ull << 20)
#define PART_MOST (64ull << 20)
#define FIRST_PART (16ull << 20) /* of what the first stream has before it */
#define FAILURES_MAX 16

static bool is_active(const struct stream *stream)
{
	return stream->state == STREAM_ASKED || stream->state == STREAM_COMING ||
	       stream->state == STREAM_UNWANTED;
}

static struct stream *add(struct split *s, uint64_t begin, uint64_t end)
{
	struct stream *new = &s->streams[s->count++];
	*new = (struct stream){ .asked = begin, .next = begin, .end = end };
	return new;
}

static void drop(struct split *s, struct stream *stream)
{
	*stream = s->streams[--s->count];
}

void split_begin(struct split *s, uint64_t asked, uint64_t have, uint64_t size)
{
	*s = (struct split){ .size = size, .frontier = size };
	struct stream *first = add(s, asked, size);
	first->next = have;
	first->state = STREAM_COMING;
}

static uint64_t round_up(uint64_t n)
{
	return (n + SPLIT_STEP - 1) / SPLIT_STEP * SPLIT_STEP;
}

/* Guided self-scheduling: a share of what is left, so that no stream is the last
 * one for long. */
static uint64_t part_size(uint64_t left, unsigned connections)
{
	uint64_t part = round_up(left / connections);
	part = part < PART_LEAST ? PART_LEAST : part > PART_MOST ? PART_MOST : part;
	/* nor a remainder that is not worth a request */
	return left < part + PART_LEAST ? left : part;
}

static const struct stream *ask(struct stream *stream)
{
	stream->state = STREAM_ASKED;
	return stream;
}

/* The first stream alone is there: how far is far enough not to meet it? */
static bool find_begin(struct split *s, const struct split_case *c)
{
	uint64_t begin = round_up(s->streams[0].next + c->margin + FIRST_PART);
	if (begin >= s->size || s->size - begin < PART_LEAST)
		return false;
	s->frontier = begin;
	return true;
}

const struct stream *split_next(struct split *s, const struct split_case *c)
{
	unsigned active = 0;
	for (unsigned i = 0; i < s->count; i++)
		active += is_active(&s->streams[i]);
	if (active >= c->connections)
		return NULL;
	for (unsigned i = 0; s->is_agreed && i < s->count; i++)
		if (s->streams[i].state == STREAM_IDLE)
			return ask(&s->streams[i]);
	if (s->count == 1 && !s->is_agreed && !find_begin(s, c))
		return NULL;
	/* split_failed() may need a place more for each that is active */
	if (s->frontier >= s->size || s->count + active + 2 > SPLIT_MAX)
		return NULL;
	uint64_t begin = s->frontier;
	s->frontier += part_size(s->size - begin, c->connections);
	return ask(add(s, begin, s->frontier));
}

struct stream *split_find(struct split *s, uint64_t asked)
{
	for (unsigned i = 0; i < s->count; i++)
		if (s->streams[i].asked == asked && is_active(&s->streams[i]))
			return &s->streams[i];
	return NULL;
}

bool split_fits(const struct stream *stream, uint64_t offset, uint64_t len)
{
	if (stream->next != offset)
		return false;
	return stream->state == STREAM_UNWANTED ||
	       (stream->state == STREAM_COMING && len <= stream->end - offset);
}

/* No other stream than the first is of use. */
static void give_up_parts(struct split *s)
{
	for (unsigned i = s->count; i-- > 1;) {
		struct stream *t = &s->streams[i];
		if (!is_active(t)) {
			drop(s, t);
			continue;
		}
		t->is_cut = t->state != STREAM_UNWANTED;
		t->state = STREAM_UNWANTED;
		t->end = t->asked;
	}
	s->frontier = s->size;
}

void split_begun(struct split *s, uint64_t margin, struct stream *part)
{
	struct stream *first = &s->streams[0];
	uint64_t lowest = s->size;
	part->state = STREAM_COMING;
	if (s->is_agreed)
		return;
	for (unsigned i = 1; i < s->count; i++)
		if (s->streams[i].asked < lowest)
			lowest = s->streams[i].asked;
	if (first->next + margin >= lowest) {
		give_up_parts(s);
		return;
	}
	first->end = lowest;
	first->is_cut = true;
	s->is_agreed = true;
}

bool split_next_cut(struct split *s, uint64_t *name, uint64_t *end)
{
	for (unsigned i = 0; i < s->count; i++) {
		struct stream *t = &s->streams[i];
		if (!t->is_cut)
			continue;
		t->is_cut = false;
		*name = t->asked;
		*end = t->end;
		return true;
	}
	return false;
}

void split_ended(struct split *s, struct stream *stream)
{
	if (stream->state == STREAM_UNWANTED)
		drop(s, stream);
	else
		stream->state = STREAM_DONE;
}

bool split_is_busy(const struct split *s)
{
	for (unsigned i = 0; i < s->count; i++)
		if (is_active(&s->streams[i]))
			return true;
	return false;
}

void split_whole(struct split *s)
{
	if (!s->is_agreed)
		give_up_parts(s);
}

static bool has_active_part(const struct split *s)
{
	for (unsigned i = 1; i < s->count; i++)
		if (is_active(&s->streams[i]))
			return true;
	return false;
}

bool split_failed(struct split *s, struct stream *stream)
{
	if (stream->state == STREAM_UNWANTED) {
		drop(s, stream);
		return true;
	}
	if (!s->is_agreed) {
		if (stream == &s->streams[0])
			return false;
		stream->state = STREAM_IDLE;
		if (!has_active_part(s))
			give_up_parts(s);
		return true;
	}
	s->failures = stream->next == stream->asked ? s->failures + 1 : 0;
	if (s->failures > FAILURES_MAX || s->count == SPLIT_MAX)
		return false;
	if (stream->next > stream->asked) {
		add(s, stream->next, stream->end);
		stream->end = stream->next;
		stream->state = STREAM_DONE;
	} else {
		stream->state = STREAM_IDLE;
	}
	return true;
}

uint64_t split_reach(struct split *s, uint64_t have)
{
	for (unsigned i = 0; i < s->count;) {
		struct stream *t = &s->streams[i];
		if (t->asked > have || t->next <= have) {
			i++;
			continue;
		}
		have = t->next;
		i = 0; /* another may go on from there */
	}
	for (unsigned i = s->count; i-- > 0;)
		if (s->streams[i].state == STREAM_DONE && s->streams[i].end <= have)
			drop(s, &s->streams[i]);
	return have;
}
