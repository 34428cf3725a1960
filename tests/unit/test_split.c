#include "tests/unit/test.h"

#include "agent/keeper/split.h"

#include <string.h>

#define MIB (1ull << 20)
#define SIZE (1024 * MIB)

static struct split s;
static const struct split_case eight = { .connections = 8, .margin = 4 * MIB };

static struct stream *ask(void)
{
	const struct stream *t = split_next(&s, &eight);
	return t ? split_find(&s, t->asked) : NULL;
}

/* The second part was asked for, and the server has agreed. */
static void agree(uint64_t have)
{
	uint64_t name, end;
	split_begin(&s, 0, have, SIZE);
	struct stream *second = ask();
	assert_non_null(second);
	split_begun(&s, eight.margin, second);
	assert_true(split_next_cut(&s, &name, &end));
	assert_true(name == 0);
	assert_true(end == second->asked);
	assert_false(split_next_cut(&s, &name, &end)); /* told once */
}

TEST(split_next__one_stream__second_part_beyond_what_may_be_under_way)
{
	split_begin(&s, 0, 3 * MIB + 5, SIZE);
	struct stream *second = ask();
	assert_non_null(second);
	assert_true(second->asked >= 3 * MIB + 5 + eight.margin);
	assert_true(second->asked % SPLIT_STEP == 0);
	assert_true(second->end > second->asked && second->end <= SIZE);
	uint64_t end = second->end;
	assert_true(ask()->asked == end);
}

TEST(split_next__too_little_left__nothing)
{
	split_begin(&s, 0, SIZE - 8 * MIB, SIZE);
	assert_null(ask());
}

TEST(split_next__agreed__as_many_as_there_are_connections)
{
	unsigned more = 0;
	agree(MIB);
	while (ask())
		more++;
	assert_int_equal(more, 6);
}

/*
 * Eight streams fetch the file, the first of them alone until there are parts. Returns
 * the requests; *waste is for how many of the steps at the end a stream has nothing to
 * do.
 */
static unsigned fetch_all(const uint64_t speeds[8], unsigned *waste)
{
	uint64_t asked[8] = { 0 }, reach = 0, name, end;
	bool is_asked[8] = { true };
	unsigned requests = 7, idle = 0;
	agree(MIB);
	for (unsigned i = 1; i < 8; i++) {
		asked[i] = i == 1 ? s.streams[1].asked : ask()->asked;
		is_asked[i] = true;
	}
	*waste = 0;
	while (s.count) {
		unsigned busy = 0;
		for (unsigned i = 0; i < 8; i++) {
			struct stream *t = is_asked[i] ? split_find(&s, asked[i]) : NULL;
			if (t == NULL) {
				t = ask();
				is_asked[i] = t != NULL;
				if (t == NULL)
					continue;
				asked[i] = t->asked;
				requests++;
			}
			uint64_t left = t->end - t->next;
			t->state = STREAM_COMING;
			t->next += left < speeds[i] ? left : speeds[i];
			busy++;
			if (t->next == t->end)
				split_ended(&s, t);
		}
		while (split_next_cut(&s, &name, &end))
			assert_true(split_find(&s, name)->end == end);
		idle = busy < 8 ? idle + 1 : 0;
		reach = split_reach(&s, reach);
	}
	assert_true(reach == SIZE);
	*waste = idle;
	return requests;
}

TEST(split_next__equally_fast__all_end_together_after_few_requests)
{
	const uint64_t speeds[8] = { MIB, MIB, MIB, MIB, MIB, MIB, MIB, MIB };
	unsigned waste;
	assert_in_range(fetch_all(speeds, &waste), 7, 3 * 8);
	assert_in_range(waste, 0, 4); /* of about 128 */
}

TEST(split_next__one_is_slow__others_help_it)
{
	const uint64_t speeds[8] = { MIB, MIB, MIB, MIB / 4, MIB, MIB, MIB, MIB };
	unsigned waste;
	assert_in_range(fetch_all(speeds, &waste), 7, 4 * 8);
	/* not for what is hardly more than may be under way: 12 MiB, 48 steps */
	assert_in_range(waste, 0, 48);
}

TEST(split_begun__first_stream_has_come_near__parts_are_unwanted)
{
	uint64_t name, end;
	split_begin(&s, 0, 0, SIZE);
	uint64_t second = ask()->asked, third = ask()->asked;
	s.streams[0].next = second - eight.margin;
	split_begun(&s, eight.margin, split_find(&s, third));
	for (int i = 0; i < 2; i++) {
		assert_true(split_next_cut(&s, &name, &end));
		assert_true((name == second || name == third) && end == name);
	}
	assert_false(split_next_cut(&s, &name, &end));
	/* what comes of it all the same has a place to be thrown away at */
	assert_true(split_fits(split_find(&s, third), third, MIB));
	split_ended(&s, split_find(&s, third));
	assert_true(split_failed(&s, split_find(&s, second)));
	assert_int_equal(s.count, 1);
	assert_true(s.streams[0].end == SIZE);
	assert_non_null(ask()); /* and it may be tried again */
}

TEST(split_failed__all_parts_before_one_has_begun__there_are_none)
{
	split_begin(&s, 0, 0, SIZE);
	uint64_t second = ask()->asked, third = ask()->asked;
	assert_true(split_failed(&s, split_find(&s, second)));
	assert_int_equal(s.count, 3);
	assert_true(split_failed(&s, split_find(&s, third)));
	assert_int_equal(s.count, 1);
	assert_false(split_failed(&s, &s.streams[0]));
}

TEST(split_failed__one_before_another_has_begun__it_is_asked_for_again)
{
	uint64_t name, end;
	split_begin(&s, 0, 0, SIZE);
	uint64_t second = ask()->asked, third = ask()->asked;
	assert_true(split_failed(&s, split_find(&s, second)));
	split_begun(&s, eight.margin, split_find(&s, third));
	assert_true(split_next_cut(&s, &name, &end));
	assert_true(name == 0 && end == second);
	assert_true(ask()->asked == second);
}

TEST(split_failed__in_the_midst__the_rest_is_asked_for_again)
{
	agree(MIB);
	struct stream *t = ask();
	uint64_t begin = t->asked, end = t->end;
	t->state = STREAM_COMING;
	t->next += 5;
	assert_true(split_failed(&s, t));
	t = ask();
	assert_true(t->asked == begin + 5 && t->end == end);
	assert_true(split_failed(&s, t)); /* not one byte: the same again */
	t = ask();
	assert_true(t->asked == begin + 5 && t->end == end);
}

TEST(split_failed__again_and_again__an_end)
{
	unsigned times = 0;
	agree(MIB);
	while (times < 1000 && split_failed(&s, ask()))
		times++;
	assert_in_range(times, 8, 64);
}

TEST(split_failed__all_connections_many_times__room_is_kept)
{
	agree(MIB);
	for (int round = 0; round < 100; round++) {
		struct stream *t;
		while ((t = ask()) != NULL) {
			t->state = STREAM_COMING;
			t->next++;
		}
		for (unsigned i = 0; i < s.count; i++)
			if (s.streams[i].state == STREAM_COMING &&
			    !split_failed(&s, &s.streams[i]))
				return;
		assert_true(s.count <= SPLIT_MAX);
	}
	fail();
}

TEST(split_reach__gap__up_to_it)
{
	agree(MIB);
	struct stream *second = &s.streams[1];
	uint64_t begin = second->asked;
	second->next += 7 * MIB;
	assert_true(split_reach(&s, MIB) == MIB);
	s.streams[0].next = begin - 1;
	assert_true(split_reach(&s, MIB) == begin - 1);
	s.streams[0].next = begin;
	split_ended(&s, &s.streams[0]);
	assert_true(split_reach(&s, begin) == begin + 7 * MIB);
	assert_int_equal(s.count, 1); /* the first has been forgotten */
}

TEST(split_keep__parts_of_an_earlier_run__gaps_are_asked_for)
{
	split_resume(&s, 10 * MIB, SIZE);
	split_keep(&s, 20 * MIB, 84 * MIB);
	split_keep(&s, 100 * MIB, 148 * MIB);
	assert_true(s.ahead == 112 * MIB);
	const struct stream *first = split_first(&s);
	assert_true(first->asked == 10 * MIB && first->end == 20 * MIB);
	struct stream *second = ask();
	assert_true(second->asked == 84 * MIB && second->end == 100 * MIB);
	assert_true(ask()->asked == 148 * MIB); /* and on as ever */
	struct stream *t = split_find(&s, 10 * MIB);
	t->next = t->end;
	split_ended(&s, t);
	assert_true(split_reach(&s, 10 * MIB) == 84 * MIB);
}

TEST(split_fits__other_bytes_than_those_that_come_next__false)
{
	agree(MIB);
	struct stream *first = &s.streams[0], *t = ask();
	assert_true(split_fits(first, MIB, first->end - MIB));
	assert_false(split_fits(first, MIB, first->end - MIB + 1));
	assert_false(split_fits(first, MIB + 1, 1));
	assert_false(split_fits(t, t->asked, 1)); /* its head has not come */
}

TEST(split_whole__first_stream_brought_all__net_is_told)
{
	uint64_t name = 0, end = 0;
	split_begin(&s, 0, 0, SIZE);
	uint64_t second = ask()->asked;
	s.streams[0].next = SIZE;
	split_ended(&s, &s.streams[0]);
	assert_true(split_is_busy(&s));
	split_whole(&s);
	assert_true(split_next_cut(&s, &name, &end));
	assert_true(name == second && end == name);
	split_whole(&s);
	assert_false(split_next_cut(&s, &name, &end)); /* told once */
	split_ended(&s, split_find(&s, name));
	assert_false(split_is_busy(&s));
}
