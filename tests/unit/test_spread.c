#include "tests/unit/test.h"

#include "agent/keeper/spread.h"

#include <stdlib.h>

#define MIB (1ull << 20)

/* One file that is coming. Time and bytes go on as the test says. */
static struct part part;
static struct roster_file file;
static struct roster list;
static struct spread s;
static int64_t now_ms;
static unsigned wait_ms;
static uint64_t limit;

static void begin(uint64_t size)
{
	free(part.split);
	part = (struct part){ .fd = 0 };
	file = (struct roster_file){ .size = size, .state = FILE_COMING,
				     .part = &part };
	list = (struct roster){ .files = &file, .count = 1 };
	s = (struct spread){ 0 };
	now_ms = 1000;
	wait_ms = 1;
	limit = 0;
}

/* Ask until there is nothing more; how many were asked for. */
static unsigned ask(bool is_cloud)
{
	const struct spread_case c = { .now_ms = now_ms, .connections = 8,
				       .margin = 4 * MIB, .wait_ms = wait_ms,
				       .limit = limit, .is_cloud = is_cloud };
	struct roster_file *of;
	unsigned count = 0;
	while (spread_next(&s, &list, &c, &of)) {
		assert_ptr_equal(of, &file);
		count++;
	}
	return count;
}

/* Nothing can be asked for, since all connections are at work. */
static void look_only(void)
{
	const struct spread_case c = { .now_ms = now_ms, .connections = 8,
				       .pending = 8, .margin = 4 * MIB,
				       .wait_ms = wait_ms };
	struct roster_file *of;
	assert_null(spread_next(&s, &list, &c, &of));
}

static void pass(int64_t ms, uint64_t bytes_a_second)
{
	now_ms += ms;
	uint64_t bytes = bytes_a_second * (uint64_t)ms / 1000;
	part.have += bytes;
	if (part.split)
		part.split->streams[0].next += bytes;
}

static void agree(void)
{
	split_begun(part.split, 4 * MIB, &part.split->streams[1]);
	assert_true(part.split->is_agreed);
}

TEST(spread_next__on_prem_fast__one_stream)
{
	begin(4096 * MIB);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(ask(false), 0);
		pass(100, 100 * MIB);
	}
}

TEST(spread_next__on_prem_slow__all_connections_few_where_they_do_not_help)
{
	begin(4096 * MIB);
	assert_int_equal(ask(false), 0);
	pass(100, 8 * MIB);
	assert_int_equal(ask(false), 0);
	pass(200, 8 * MIB);
	assert_int_equal(ask(false), 7);
	agree();
	assert_int_equal(s.allowed, 8);
	pass(3000, 10 * MIB); /* eight are no faster than one */
	ask(false);
	assert_int_equal(s.allowed, 2);
	pass(60000, 10 * MIB);
	ask(false);
	assert_int_equal(s.allowed, 2);
	free(part.split);
	part.split = NULL;
}

TEST(spread_next__on_prem_slow_and_many_help__all_of_them)
{
	begin(4096 * MIB);
	ask(false);
	pass(400, 8 * MIB);
	assert_int_equal(ask(false), 7);
	agree();
	pass(3000, 60 * MIB);
	ask(false);
	pass(3000, 60 * MIB);
	ask(false);
	assert_int_equal(s.allowed, 8);
	free(part.split);
	part.split = NULL;
}

/* Far away: several were asked for at once. Then, for three seconds: */
static void go_on_far(uint64_t bytes_a_second)
{
	begin(1024 * MIB);
	wait_ms = 150;
	assert_int_equal(ask(false), 7);
	pass(450, 8 * MIB);
	look_only(); /* the first stream is still alone */
	agree();
	look_only(); /* so fast was one */
	pass(3000, bytes_a_second);
	look_only();
	free(part.split);
	part.split = NULL;
}

TEST(spread_next__on_prem_far__several_at_once)
{
	go_on_far(60 * MIB);
	assert_int_equal(s.allowed, 8);
}

TEST(spread_next__on_prem_far_and_many_do_not_help__few)
{
	go_on_far(9 * MIB);
	assert_int_equal(s.allowed, 2);
}

TEST(spread_next__on_prem_far_but_not_large__tried_first)
{
	begin(100 * MIB);
	wait_ms = 150;
	assert_int_equal(ask(false), 0);
	pass(200, 8 * MIB);
	assert_true(ask(false) > 0);
	free(part.split);
	part.split = NULL;
}

TEST(spread_next__limit_that_one_stream_reaches__one)
{
	begin(1024 * MIB);
	limit = 8 * MIB;
	assert_int_equal(ask(true), 0); /* not even from the cloud */
	pass(300, 8 * MIB);
	assert_int_equal(ask(true), 0);
	/* and where it does not */
	pass(300, 2 * MIB);
	assert_int_equal(ask(true), 7);
	free(part.split);
	part.split = NULL;
}

TEST(spread_begun__large_file__looked_at_without_delay)
{
	begin(1024 * MIB);
	file.state = FILE_ASKED;
	wait_ms = 150;
	assert_int_equal(ask(false), 0);
	now_ms += 10; /* sooner than it would be looked for again */
	file.state = FILE_COMING;
	assert_int_equal(ask(false), 0);
	spread_begun(&s, &file);
	assert_int_equal(ask(false), 7);
	free(part.split);
	part.split = NULL;
}

TEST(spread_next__on_prem_slow_but_soon_over__one_stream)
{
	begin(66 * MIB);
	ask(false);
	pass(400, 31 * MIB);
	assert_int_equal(ask(false), 0);
}

TEST(spread_next__cloud__all_connections)
{
	begin(1024 * MIB);
	assert_int_equal(ask(true), 7);
	free(part.split);
	part.split = NULL;
}

TEST(spread_next__cloud_small_file__one_stream)
{
	begin(63 * MIB);
	assert_int_equal(ask(true), 0);
}

TEST(spread_next__server_has_begun_anew_or_refused__one_stream)
{
	begin(1024 * MIB);
	file.has_restarted = true;
	assert_int_equal(ask(true), 0);
	begin(1024 * MIB);
	s.is_refused = true;
	assert_int_equal(ask(true), 0);
}

TEST(spread_failed__cloud__half_as_many)
{
	begin(1024 * MIB);
	spread_failed(&s); /* of another file: no matter */
	assert_int_equal(ask(true), 7);
	agree();
	spread_failed(&s);
	assert_int_equal(s.allowed, 4);
	assert_int_equal(ask(true), 0);
	for (int i = 0; i < 9; i++)
		spread_failed(&s);
	assert_int_equal(s.allowed, 1);
	free(part.split);
	part.split = NULL;
}
