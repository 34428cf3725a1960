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

static void begin(uint64_t size)
{
	free(part.split);
	part = (struct part){ .fd = 0 };
	file = (struct roster_file){ .size = size, .state = FILE_COMING,
				     .part = &part };
	list = (struct roster){ .files = &file, .count = 1 };
	s = (struct spread){ 0 };
	now_ms = 1000;
}

/* Ask until there is nothing more; how many were asked for. */
static unsigned ask(bool is_cloud)
{
	const struct spread_case c = { .now_ms = now_ms, .connections = 8,
				       .margin = 4 * MIB, .is_cloud = is_cloud };
	struct roster_file *of;
	unsigned count = 0;
	while (spread_next(&s, &list, &c, &of)) {
		assert_ptr_equal(of, &file);
		count++;
	}
	return count;
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
	uint64_t name, end;
	part.split->streams[1].state = STREAM_COMING;
	assert_true(split_agreed(part.split, 4 * MIB, &part.split->streams[1], &name,
				 &end));
}

TEST(spread_next__on_prem_fast__one_stream)
{
	begin(4096 * MIB);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(ask(false), 0);
		pass(100, 100 * MIB);
	}
}

TEST(spread_next__on_prem_slow__second_after_a_while_more_while_they_help)
{
	begin(4096 * MIB);
	assert_int_equal(ask(false), 0);
	pass(100, 8 * MIB);
	assert_int_equal(ask(false), 0);
	pass(300, 8 * MIB);
	assert_int_equal(ask(false), 1);
	agree();
	pass(1000, 16 * MIB);
	assert_int_equal(ask(false), 0);
	pass(600, 16 * MIB);
	assert_int_equal(ask(false), 2);
	pass(1600, 16 * MIB); /* four are no faster than two */
	assert_int_equal(ask(false), 0);
	pass(60000, 32 * MIB);
	assert_int_equal(ask(false), 0);
}

TEST(spread_next__on_prem_slow_but_soon_over__one_stream)
{
	begin(66 * MIB);
	ask(false);
	pass(400, 31 * MIB);
	assert_int_equal(ask(false), 0);
}

TEST(spread_next__cloud__all_connections_once_agreed)
{
	begin(1024 * MIB);
	assert_int_equal(ask(true), 1);
	agree();
	assert_int_equal(ask(true), 6);
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
	assert_int_equal(ask(true), 1);
	agree();
	spread_failed(&s);
	assert_int_equal(ask(true), 2);
	for (int i = 0; i < 9; i++)
		spread_failed(&s);
	assert_int_equal(s.allowed, 1);
	free(part.split);
	part.split = NULL;
}
