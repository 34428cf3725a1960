#include "tests/unit/test.h"

#include "agent/keeper/database.h"
#include "agent/keeper/record.h"
#include "common/clock.h"
#include "common/own.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[256];

static const char *at(const char *name)
{
	static char path[512];
	snprintf(path, sizeof(path), "%s/s/%s", folder, name);
	return path;
}

static const char *fresh(void)
{
	snprintf(folder, sizeof(folder), "%s", test_folder());
	return at("");
}

static struct record *open_again(void)
{
	struct err e = { 0 };
	struct record *r = record_open(at(""), &e);
	if (r == NULL)
		print_error("%s\n", e.text);
	assert_non_null(r);
	return r;
}

static void write_at(const char *name, long offset, const void *bytes, size_t len)
{
	autofd fd = open(at(name), O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, offset), (ssize_t)len);
}

TEST(record_host__set_get__round_trip)
{
	struct err e = { 0 };
	enum wire_rung rung = WIRE_RUNG_AS_GIVEN;
	enum wire_form form = WIRE_FORM_UNKNOWN;
	fresh();
	struct record *r = open_again();
	assert_false(record_get_host(r, "dp01", &rung, &form));
	assert_ok(record_set_host(r, "dp01", WIRE_RUNG_TOKEN, WIRE_FORM_PLAIN, &e));
	assert_ok(record_set_host(r, "dp02", WIRE_RUNG_PLAIN, WIRE_FORM_SCCM, &e));
	record_close(r);
	r = open_again();
	assert_true(record_get_host(r, "dp01", &rung, &form));
	assert_int_equal(rung, WIRE_RUNG_TOKEN);
	assert_int_equal(form, WIRE_FORM_PLAIN);
	/* a value that a later agent may have written */
	assert_ok(record_set_host(r, "dp02", (enum wire_rung)77, WIRE_FORM_SCCM, &e));
	assert_false(record_get_host(r, "dp02", &rung, &form));
	assert_int_equal(rung, WIRE_RUNG_TOKEN);
	assert_false(record_get_host(r, "dp01' OR 1=1 --", &rung, &form));
	record_close(r);
}

TEST(record_text__set_get__round_trip)
{
	struct err e = { 0 };
	autobuf out = { 0 };
	fresh();
	struct record *r = open_again();
	record_get_text(r, "k", &out);
	assert_int_equal(out.len, 0);
	assert_ok(record_set_text(r, "k", SPAN_LIT("one\ntwo\n"), &e));
	record_get_text(r, "k", &out);
	assert_string_equal(out.at, "one\ntwo\n");
	assert_ok(record_set_text(r, "k", (struct span){ 0 }, &e));
	record_get_text(r, "k", &out);
	assert_int_equal(out.len, 0);
	assert_err(record_set_text(r, "k", (struct span){ "", 2u << 20 }, &e),
		   ERR_INTERNAL);
	record_close(r);
}

TEST(record_search__begin_again_done__age)
{
	fresh();
	struct record *r = open_again();
	assert_int_equal(record_search_since(r, "ABC.1", 1000), 1000);
	assert_int_equal(record_search_since(r, "ABC.1", 1600), 1000);
	/* the clock went back: never a negative age, and it grows again */
	assert_int_equal(record_search_since(r, "ABC.1", 900), 900);
	assert_int_equal(record_search_since(r, "ABC.1", 950), 900);
	record_search_done(r, "ABC.1");
	assert_int_equal(record_search_since(r, "ABC.1", 2000), 2000);
	record_close(r);
}

TEST(record_open__more_than_1000_hosts__newest_stay)
{
	struct err e = { 0 };
	struct clock_fake clock = { .wall_ms = 1800000000000 };
	enum wire_rung rung;
	enum wire_form form;
	char name[32];
	fresh();
	struct record *r = open_again();
	clock_set_fake(&clock);
	assert_ok(database_begin(record_database(r), &e));
	for (int i = 0; i < 1003; i++) {
		snprintf(name, sizeof(name), "dp%04d", i);
		clock.wall_ms += 1000;
		assert_ok(record_set_host(r, name, WIRE_RUNG_PLAIN, WIRE_FORM_SCCM,
					  &e));
	}
	assert_ok(database_commit(record_database(r), &e));
	clock_set_fake(NULL);
	record_close(r);
	r = open_again();
	assert_false(record_get_host(r, "dp0002", &rung, &form));
	assert_true(record_get_host(r, "dp0003", &rung, &form));
	assert_true(record_get_host(r, "dp1002", &rung, &form));
	record_close(r);
}

TEST(record_client_id__none__made_once_and_private)
{
	struct err e = { 0 };
	struct stat st;
	fresh();
	autofree char *a = record_client_id(at(""), "", &e);
	autofree char *b = record_client_id(at(""), NULL, &e);
	assert_non_null(a);
	assert_string_equal(a, b);
	assert_int_equal(strlen(a), 41);
	assert_memory_equal(a, "GUID:", 5);
	assert_int_equal(a[19], '4'); /* version */
	assert_non_null(strchr("89AB", a[24])); /* variant */
	assert_int_equal(stat(at("client-id"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

TEST(record_client_id__configured__as_it_is)
{
	struct err e = { 0 };
	fresh();
	autofree char *a = record_client_id(at(""), "GUID:configured", &e);
	assert_string_equal(a, "GUID:configured");
	assert_int_equal(access(at("client-id"), F_OK), -1);
}

TEST(record_client_id__file_is_no_id__made_anew)
{
	static const char *const bad[] = {
		"", "GUID:", "GUID:4F0E7B1C-0000-4000-8000-123456789AB",
		"GUID:4F0E7B1C-0000-4000-8000-123456789ABCD",
		"GUID:4F0E7B1C-0000-4000-8000-123456789ABG",
		"guid:4F0E7B1C-0000-4000-8000-123456789ABC",
		"GUID:4F0E7B1C-0000-4000-8000-123456789ABC\r\nX: y",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err e = { 0 };
		fresh();
		mkdir(at(""), 0700);
		write_at("client-id", 0, bad[i], strlen(bad[i]));
		autofree char *a = record_client_id(at(""), "", &e);
		assert_non_null(a);
		assert_int_equal(strlen(a), 41);
		autofree char *b = record_client_id(at(""), "", &e);
		assert_string_equal(a, b);
	}
}

TEST(record_client_id__file_is_an_id__kept)
{
	static const char id[] = "GUID:4f0e7b1c-0000-4000-8000-123456789ABC";
	struct err e = { 0 };
	fresh();
	mkdir(at(""), 0700);
	write_at("client-id", 0, id, strlen(id));
	write_at("client-id", (long)strlen(id), "\r\n", 2);
	autofree char *a = record_client_id(at(""), "", &e);
	assert_string_equal(a, id);
}
