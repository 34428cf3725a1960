#include "tests/unit/test.h"

#include "agent/keeper/outbox.h"
#include "common/own.h"

#include <stdio.h>
#include <string.h>

static struct record *open_new(void)
{
	struct err e = { 0 };
	char path[512];
	snprintf(path, sizeof(path), "%s/s", test_folder());
	struct record *r = record_open(path, &e);
	assert_non_null(r);
	return r;
}

static void add(struct record *r, const char *topic, enum outbox_state state)
{
	struct err e = { 0 };
	struct outbox_item item = { .at_s = 1000, .state = state };
	snprintf(item.topic, sizeof(item.topic), "%s", topic);
	snprintf(item.details, sizeof(item.details), "of %s", topic);
	assert_ok(outbox_add(r, &item, &e));
}

TEST(outbox_first__several__oldest_first_until_removed)
{
	struct err e = { 0 };
	struct outbox_item item;
	uint64_t waiting, lost;
	struct record *r = open_new();
	assert_false(outbox_first(r, &item));
	add(r, "ABC.1", OUTBOX_WAITING);
	add(r, "ABC.2", OUTBOX_ARRIVED);
	assert_true(outbox_first(r, &item));
	assert_string_equal(item.topic, "ABC.1");
	assert_string_equal(item.details, "of ABC.1");
	assert_int_equal(item.state, OUTBOX_WAITING);
	assert_int_equal(item.at_s, 1000);
	int64_t first = item.id;
	assert_true(outbox_first(r, &item)); /* stays until it is removed */
	assert_int_equal(item.id, first);
	assert_ok(outbox_remove(r, first, &e));
	assert_true(outbox_first(r, &item));
	assert_string_equal(item.topic, "ABC.2");
	assert_int_equal(item.state, OUTBOX_ARRIVED);
	outbox_count(r, &waiting, &lost);
	assert_int_equal(waiting, 1);
	assert_int_equal(lost, 0);
	assert_ok(outbox_remove(r, item.id, &e));
	assert_ok(outbox_remove(r, item.id, &e)); /* another one was quicker */
	assert_false(outbox_first(r, &item));
	record_close(r);
}

TEST(outbox_remove__then_add__no_id_twice)
{
	struct err e = { 0 };
	struct outbox_item old, new;
	struct record *r = open_new();
	add(r, "ABC.1", OUTBOX_WAITING);
	assert_true(outbox_first(r, &old));
	assert_ok(outbox_remove(r, old.id, &e));
	add(r, "ABC.2", OUTBOX_WAITING);
	assert_true(outbox_first(r, &new));
	assert_true(new.id > old.id);
	/* somebody who was slow removes what he sent */
	assert_ok(outbox_remove(r, old.id, &e));
	assert_true(outbox_first(r, &new));
	record_close(r);
}

TEST(outbox_add__no_room__oldest_go_and_are_counted)
{
	struct outbox_item item;
	uint64_t waiting, lost;
	char topic[32];
	struct record *r = open_new();
	for (int i = 0; i < OUTBOX_MAX + 30; i++) {
		snprintf(topic, sizeof(topic), "ABC.%d", i);
		add(r, topic, OUTBOX_FAILED);
	}
	outbox_count(r, &waiting, &lost);
	assert_int_equal(waiting, OUTBOX_MAX);
	assert_int_equal(lost, 30);
	assert_true(outbox_first(r, &item));
	assert_string_equal(item.topic, "ABC.30");
	record_close(r);
}

TEST(outbox_add__long_and_hostile_details__cut_and_well_formed)
{
	struct err e = { 0 };
	struct outbox_item in = { .state = OUTBOX_FAILED }, out;
	struct record *r = open_new();
	memset(in.topic, 'T', sizeof(in.topic) - 1);
	for (size_t i = 0; i + 2 < sizeof(in.details); i += 2)
		memcpy(in.details + i, "\xc3\xa4", 2);
	in.details[sizeof(in.details) - 2] = '\xc3'; /* half a character */
	assert_ok(outbox_add(r, &in, &e));
	assert_true(outbox_first(r, &out));
	assert_int_equal(strlen(out.topic), sizeof(in.topic) - 1);
	assert_int_equal(strlen(out.details), sizeof(in.details) - 2);
	assert_int_equal(out.details[sizeof(in.details) - 2], '\0');
	record_close(r);
}
