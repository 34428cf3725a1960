#include "agent/keeper/split.h"

#include <stddef.h>

#define PART_LEAST (4ull << 20)
#define PART_MOST (64ull << 20)
#define LAST_PART (24ull << 20)  /* up to that a stream gets all that is its own */
#define FIRST_LEAST (16ull << 20) /* that the first stream has before it */
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

void split_resume(struct split *s, uint64_t have, uint64_t size)
{
	*s = (struct split){ .size = size, .frontier = have, .is_agreed = true };
}

void split_keep(struct split *s, uint64_t begin, uint64_t end)
{
	add(s, s->frontier, begin);
	struct stream *kept = add(s, begin, end);
	kept->next = end;
	kept->state = STREAM_DONE;
	s->frontier = end;
	s->ahead += end - begin;
}

static uint64_t round_up(uint64_t n)
{
	return (n + SPLIT_STEP - 1) / SPLIT_STEP * SPLIT_STEP;
}

static uint64_t rest_of(const struct split *s, unsigned i)
{
	const struct stream *t = &s->streams[i];
	/* the first ends who knows where, but soon */
	bool is_near = i == 0 && !s->is_agreed;
	return is_active(t) && t->next < t->end && !is_near ? t->end - t->next : 0;
}

/* If all streams are equally fast, and what nobody was asked for yet goes to those that
 * have the least to do: how much will each have, to end together with the others? */
static uint64_t fair_share(const struct split *s, unsigned connections)
{
	uint64_t share = UINT64_MAX, before;
	do {
		uint64_t sum = s->size - s->frontier;
		unsigned sharing = connections;
		before = share;
		for (unsigned i = 0; i < s->count; i++) {
			uint64_t rest = rest_of(s, i);
			if (rest && rest >= before)
				sharing--;
			else
				sum += rest;
		}
		share = sum / sharing;
	} while (share < before);
	return share;
}

/* Most of its share, since they are not equally fast; the end of it at once, since each
 * request costs a round trip. */
static uint64_t part_size(const struct split *s, unsigned connections)
{
	uint64_t left = s->size - s->frontier, share = fair_share(s, connections);
	uint64_t part = round_up(share > LAST_PART ? share / 4 * 3 : share);
	part = part < PART_LEAST ? PART_LEAST : part > PART_MOST ? PART_MOST : part;
	/* nor a remainder that is not worth a request */
	return left < part + PART_LEAST ? left : part;
}

static const struct stream *ask(struct stream *stream)
{
	stream->state = STREAM_ASKED;
	return stream;
}

const struct stream *split_first(struct split *s)
{
	return ask(&s->streams[0]);
}

/* The first stream alone is there: how far is far enough not to meet it, and no less
 * than is its own? */
static bool find_begin(struct split *s, const struct split_case *c)
{
	uint64_t next = s->streams[0].next, first = (s->size - next) / c->connections;
	first = first < FIRST_LEAST ? FIRST_LEAST : first > PART_MOST ? PART_MOST : first;
	uint64_t begin = round_up(next + c->margin + first);
	if (begin >= s->size || s->size - begin < PART_LEAST)
		return false;
	s->frontier = begin;
	return true;
}

/* Nobody is left to be asked: the stream that has the most to do gives half of it
 * away, far enough from where it may be now. */
static const struct stream *take_half(struct split *s, uint64_t margin)
{
	struct stream *most = NULL;
	for (unsigned i = 0; i < s->count; i++) {
		struct stream *t = &s->streams[i];
		if (t->state == STREAM_COMING && !t->is_cut &&
		    (most == NULL || t->end - t->next > most->end - most->next))
			most = t;
	}
	if (most == NULL || most->end - most->next < margin + 2 * PART_LEAST)
		return NULL;
	uint64_t end = most->end, from = most->next + margin;
	most->end = round_up(from + (end - from) / 2);
	most->is_cut = true;
	return ask(add(s, most->end, end));
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
	if (s->count + active + 2 > SPLIT_MAX)
		return NULL;
	if (s->frontier >= s->size)
		return s->is_agreed ? take_half(s, c->margin) : NULL;
	uint64_t begin = s->frontier;
	s->frontier += part_size(s, c->connections);
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
