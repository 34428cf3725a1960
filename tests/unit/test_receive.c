#include "tests/unit/test.h"

#include "agent/keeper/receive.h"
#include "agent/wire.h"
#include "common/digest.h"
#include "common/fs.h"
#include "common/own.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* The tests play the net role, which may say anything. */
static char folder[256];
static int dir = -1;
static struct err e;

static struct receive *new_with(struct receive_options o)
{
	if (o.size == 0)
		o.size = RECEIVE_UNKNOWN;
	if (o.most_bytes == 0)
		o.most_bytes = UINT64_MAX;
	o.dir_fd = dir;
	e = (struct err){ 0 };
	struct receive *r = receive_new(&o, &e);
	assert_non_null(r);
	return r;
}

/* In a new draft, or in the one of before. */
static struct receive *fresh(struct receive_options o)
{
	snprintf(folder, sizeof(folder), "%s", test_folder());
	own_close(&dir);
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir >= 0);
	return new_with(o);
}
#define ANY (struct receive_options){ 0 }

static const char *at(const char *name)
{
	static char paths[2][512]; /* for two in one call */
	static unsigned turn;
	char *path = paths[turn++ % 2];
	snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
	return path;
}

static void hex_of(const char *text, char out[DIGEST_HEX_SIZE])
{
	autodigest struct digest *d = digest_new(DIGEST_SHA256, &e);
	digest_add(d, text, strlen(text));
	assert_ok(digest_hex(d, out, &e));
}

struct listed {
	const char *path, *hash;
	uint64_t size;
};

static enum err_code list(struct receive *r, const char *host,
			  const struct listed *l, size_t count)
{
	uint64_t kept, need;
	e = (struct err){ 0 };
	enum err_code rc = receive_begin(r, host, &e);
	for (size_t i = 0; rc == ERR_OK && i < count; i++)
		rc = receive_file(r, i, l[i].path, l[i].size,
				  l[i].hash ? l[i].hash : "", &e);
	return rc == ERR_OK ? receive_plan(r, &kept, &need, &e) : rc;
}
#define LIST(r, host, ...)                                            \
	list(r, host, (const struct listed[]){ __VA_ARGS__ },         \
	     sizeof((const struct listed[]){ __VA_ARGS__ }) /         \
		     sizeof(struct listed))

/* What net says is of the FETCH that was asked for last, unless a test says else. */
#define INDEXES 16
static uint64_t last_asked[INDEXES];

static bool next(struct receive *r, struct receive_ask *ask)
{
	bool is_asked = receive_next(r, ask);
	if (is_asked && ask->index < INDEXES)
		last_asked[ask->index] = ask->offset;
	return is_asked;
}

static uint64_t asked_of(uint64_t index)
{
	return index < INDEXES ? last_asked[index] : 0;
}

static enum err_code head(struct receive *r, uint64_t index, uint64_t offset,
			  uint64_t total, const char *etag)
{
	return receive_head(r, &(struct receive_begun){ .index = index,
							.asked = asked_of(index),
							.offset = offset,
							.total = total,
							.etag = etag }, &e);
}

static enum err_code end(struct receive *r, uint64_t index)
{
	return receive_end(r, index, asked_of(index), &e);
}

static void fail_with(struct receive *r, uint64_t index, enum err_code code)
{
	const struct err why = { .code = code };
	struct err ignored = { 0 };
	assert_err(receive_fail(r, index, asked_of(index), &why, &ignored), code);
}

static void break_off(struct receive *r, uint64_t index)
{
	fail_with(r, index, ERR_BROKEN);
}

static enum err_code data(struct receive *r, uint64_t index, uint64_t offset,
			  const char *text)
{
	return receive_data(r, &(struct receive_bytes){ .index = index,
							.asked = asked_of(index),
							.offset = offset,
							.at = text,
							.len = strlen(text) }, &e);
}

/* The whole file `index`, honestly, from where it is asked. */
static enum err_code deliver(struct receive *r, const char *text)
{
	struct receive_ask ask;
	assert_true(next(r, &ask));
	enum err_code rc = head(r, ask.index, ask.offset, strlen(text),
				ask.etag[0] ? ask.etag : "\"e\"");
	if (rc == ERR_OK)
		rc = data(r, ask.index, ask.offset, text + ask.offset);
	return rc == ERR_OK ? end(r, ask.index) : rc;
}

static struct receive_figures figures(const struct receive *r)
{
	struct receive_figures f;
	receive_figures(r, &f);
	return f;
}

static void assert_file(const char *path, const char *text)
{
	autobuf got = { 0 };
	struct stat st;
	assert_ok(fs_read_all(dir, path, &got, &e));
	assert_string_equal(got.at ? got.at : "", text);
	assert_int_equal(lstat(at(path), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_equal(st.st_nlink, 1);
}

static void plant(const char *path, const char *text)
{
	assert_ok(fs_make_parents(dir, path, &e));
	autofd fd = open(at(path), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* --- the way it should be --------------------------------------------------- */

TEST(receive__two_files__complete_with_their_hashes)
{
	struct receive *r = fresh(ANY);
	autolisting l = { 0 };
	char hex[DIGEST_HEX_SIZE];
	hex_of("hello", hex);
	assert_ok(LIST(r, "dp", { "b/c", hex, 5 }, { "a", NULL, 0 }));
	assert_false(receive_is_complete(r));
	assert_file("a", ""); /* nothing to come: made at once */
	assert_ok(deliver(r, "hello"));
	assert_true(receive_is_complete(r));
	assert_file("b/c", "hello");
	assert_ok(receive_listing(r, &l, &e));
	assert_int_equal(l.count, 2);
	assert_string_equal(l.lines[0].path, "b/c");
	assert_string_equal(l.lines[0].hex, hex);
	struct receive_ask ask;
	assert_false(next(r, &ask));
	struct receive_figures f = figures(r);
	assert_int_equal(f.files, 2);
	assert_int_equal(f.files_done, 2);
	assert_int_equal(f.bytes_total, 5);
	assert_int_equal(f.bytes_done, 5);
	assert_int_equal(f.bytes_received, 5);
	assert_int_equal(f.bytes_resumed, 0);
	receive_free(r);
}

TEST(receive__umask_takes_all__modes_are_fixed)
{
	mode_t old = umask(0777);
	struct receive *r = fresh(ANY);
	assert_ok(LIST(r, "dp", { "b/c", NULL, 5 }));
	assert_ok(deliver(r, "hello"));
	umask(old);
	assert_file("b/c", "hello");
	receive_free(r);
}

TEST(receive__sizes_unknown__learned_on_the_way)
{
	struct receive *r = fresh((struct receive_options){ .size = 7 });
	struct receive_ask ask;
	assert_ok(LIST(r, "dp", { "a", NULL, RECEIVE_UNKNOWN },
		       { "b", NULL, RECEIVE_UNKNOWN }));
	assert_ok(deliver(r, "hello"));
	assert_true(next(r, &ask));
	assert_ok(head(r, 1, 0, RECEIVE_UNKNOWN, ""));
	assert_ok(data(r, 1, 0, "ab"));
	assert_ok(end(r, 1));
	assert_true(receive_is_complete(r));
	assert_int_equal(figures(r).bytes_total, 7);
	receive_free(r);
}

TEST(receive__more_than_a_copy_at_once__all_of_it)
{
	enum { BIG = 1000000 };
	struct receive *r = fresh(ANY);
	struct receive_ask ask;
	autofree char *bytes = malloc(BIG);
	assert_non_null(bytes);
	memset(bytes, 'x', BIG);
	assert_ok(LIST(r, "dp", { "a", NULL, 3 * (uint64_t)BIG }));
	assert_true(next(r, &ask));
	assert_ok(head(r, 0, 0, RECEIVE_UNKNOWN, ""));
	for (uint64_t i = 0; i < 3; i++)
		assert_ok(receive_data(r, &(struct receive_bytes){ .offset = i * BIG,
								   .at = bytes,
								   .len = BIG }, &e));
	assert_ok(end(r, 0));
	autofd fd = open(at("a"), O_RDONLY);
	char hex[DIGEST_HEX_SIZE];
	uint64_t size;
	autolisting l = { 0 };
	assert_ok(digest_file(fd, hex, &size, &e));
	assert_int_equal(size, 3 * BIG);
	assert_ok(receive_listing(r, &l, &e));
	assert_string_equal(l.lines[0].hex, hex);
	receive_free(r);
}

/* --- lists that lie ---------------------------------------------------------- */

static void assert_list_refused(enum err_code code, const char *a, const char *b,
				const char *text)
{
	struct receive *r = fresh(ANY);
	assert_err(LIST(r, "dp", { "first", NULL, 1 }, { a, NULL, 1 },
			{ "between", NULL, 1 }, { b, NULL, 1 }), code);
	if (strstr(e.text, text) == NULL)
		print_error("%s\n", e.text);
	assert_non_null(strstr(e.text, text));
	struct receive_ask ask;
	assert_false(next(r, &ask));
	receive_free(r);
}

TEST(receive_plan__names_in_conflict__named)
{
	assert_list_refused(ERR_NAME, "a/B.txt", "A/b.txt", "a/B.txt");
	assert_list_refused(ERR_NAME, "a/B.txt", "A/b.txt", "A/b.txt");
	assert_list_refused(ERR_NAME, "x", "x", "listed twice");
	assert_list_refused(ERR_NAME, "x/y/z", "x/y", "folder of \"x/y/z\"");
	assert_list_refused(ERR_NAME, "X", "x/y", "folder of \"x/y\"");
}

TEST(receive_plan__names_alike_but_not_in_conflict__accepted)
{
	struct receive *r = fresh(ANY);
	assert_ok(LIST(r, "dp", { "a", NULL, 1 }, { "a-b", NULL, 1 },
		       { "a.b/c", NULL, 1 }, { "a b", NULL, 1 },
		       { "A.b/d", NULL, 1 }, { "\xc3\xa9", NULL, 1 },
		       { "\xc3\x89", NULL, 1 }));
	receive_free(r);
}

TEST(receive_file__name_that_may_not_be__refused)
{
	static const char *const bad[] = { "", "/etc/passwd", "../x", "a/../b",
					   "a\\b", "a\nb", "a//b", ".", "a/" };
	struct receive *r = fresh(ANY);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_ok(receive_begin(r, "dp", &e));
		assert_err(receive_file(r, 0, bad[i], 1, "", &e), ERR_NAME);
	}
	receive_free(r);
}

TEST(receive_file__numbers_and_hashes_that_cannot_be__refused)
{
	struct receive *r = fresh(ANY);
	assert_ok(receive_begin(r, "dp", &e));
	assert_ok(receive_file(r, 7, "a", 1, "", &e));
	assert_err(receive_file(r, 7, "b", 1, "", &e), ERR_NET_LIED);
	assert_err(receive_file(r, WIRE_MAX_FILES, "b", 1, "", &e), ERR_NET_LIED);
	assert_err(receive_file(r, UINT64_MAX, "b", 1, "", &e), ERR_NET_LIED);
	assert_err(receive_file(r, 8, "b", 1, "abc", &e), ERR_LISTING);
	assert_err(receive_file(r, 9, "b", (uint64_t)INT64_MAX + 1, "", &e),
		   ERR_LISTING);
	receive_free(r);
}

TEST(receive_plan__sizes_do_not_add_up__err_size)
{
	struct receive *r = fresh((struct receive_options){ .size = 10 });
	assert_err(LIST(r, "dp", { "a", NULL, 5 }, { "b", NULL, 4 }), ERR_SIZE);
	assert_err(LIST(r, "dp", { "a", NULL, 5 }, { "b", NULL, 6 }), ERR_SIZE);
	assert_err(LIST(r, "dp", { "a", NULL, 11 },
			{ "b", NULL, RECEIVE_UNKNOWN }), ERR_SIZE);
	assert_ok(LIST(r, "dp", { "a", NULL, 5 }, { "b", NULL, 5 }));
	receive_free(r);
	r = fresh((struct receive_options){ .most_bytes = 10 });
	assert_err(LIST(r, "dp", { "a", NULL, 11 }), ERR_SPACE_CACHE);
	assert_err(LIST(r, "dp", { "a", NULL, INT64_MAX }, { "b", NULL, INT64_MAX },
			{ "c", NULL, 9 }), ERR_LISTING);
	receive_free(r);
}

TEST(receive__wanted_list__only_that_and_all_of_it)
{
	autolisting wanted = { 0 };
	char hex[DIGEST_HEX_SIZE], other[DIGEST_HEX_SIZE];
	hex_of("hello", hex);
	hex_of("other", other);
	assert_ok(listing_add(&wanted, "a", hex, &e));
	assert_ok(listing_add(&wanted, "b/c", hex, &e));
	listing_sort(&wanted);
	struct receive *r = fresh((struct receive_options){ .wanted = &wanted });
	assert_err(LIST(r, "dp", { "a", NULL, 5 }, { "z", NULL, 5 }), ERR_ABSENT);
	assert_non_null(strstr(e.text, "b/c is missing"));
	assert_err(LIST(r, "dp", { "b/c", NULL, 5 }), ERR_ABSENT);
	assert_non_null(strstr(e.text, "a is missing"));
	assert_err(LIST(r, "dp", { "a", other, 5 }), ERR_HASH_FILE);
	/* of one file that is not wanted nothing is taken */
	assert_ok(LIST(r, "dp", { "z", NULL, 5 }, { "b/c", hex, 5 },
		       { "a", NULL, 5 }));
	assert_err(head(r, 0, 0, 5, ""), ERR_NET_LIED);
	assert_ok(deliver(r, "hello"));
	assert_err(deliver(r, "HELLO"), ERR_HASH_FILE);
	assert_non_null(strstr(e.text, hex));
	assert_int_equal(access(at("a"), F_OK), -1);
	assert_false(receive_is_complete(r));
	assert_ok(deliver(r, "hello"));
	assert_true(receive_is_complete(r));
	receive_free(r);
}

TEST(receive_plan__empty_file_that_should_not_be__err_hash_file)
{
	char hex[DIGEST_HEX_SIZE];
	hex_of("hello", hex);
	struct receive *r = fresh(ANY);
	assert_err(LIST(r, "dp", { "a", hex, 0 }), ERR_HASH_FILE);
	receive_free(r);
}

/* --- answers that lie -------------------------------------------------------- */

TEST(receive__messages_out_of_step__net_lied)
{
	struct receive *r = fresh(ANY);
	struct receive_ask ask;
	assert_false(next(r, &ask)); /* no list yet */
	assert_err(head(r, 0, 0, 5, ""), ERR_NET_LIED);
	assert_ok(LIST(r, "dp", { "a", NULL, 5 }, { "b", NULL, 5 }));
	assert_err(receive_file(r, 9, "late", 1, "", &e), ERR_NET_LIED);
	assert_err(head(r, 0, 0, 5, ""), ERR_NET_LIED); /* not asked */
	assert_true(next(r, &ask));
	assert_err(data(r, 0, 0, "x"), ERR_NET_LIED); /* before the head */
	assert_err(end(r, 0), ERR_NET_LIED);
	assert_err(head(r, 0, 3, 5, ""), ERR_NET_LIED);
	assert_err(head(r, 1, 0, 5, ""), ERR_NET_LIED);
	assert_err(head(r, 2, 0, 5, ""), ERR_NET_LIED);
	assert_err(head(r, UINT64_MAX, 0, 5, ""), ERR_NET_LIED);
	assert_ok(head(r, 0, 0, 5, ""));
	assert_err(head(r, 0, 0, 5, ""), ERR_NET_LIED); /* twice */
	assert_err(data(r, 0, 1, "x"), ERR_NET_LIED);
	assert_err(data(r, 1, 0, "x"), ERR_NET_LIED);
	assert_ok(data(r, 0, 0, "he"));
	assert_err(data(r, 0, 0, "he"), ERR_NET_LIED);
	assert_err(data(r, 0, 4, "o"), ERR_NET_LIED);
	assert_ok(data(r, 0, 2, "llo"));
	assert_ok(end(r, 0));
	assert_err(end(r, 0), ERR_NET_LIED);
	assert_err(data(r, 0, 5, "x"), ERR_NET_LIED);
	break_off(r, 0); /* of no effect */
	break_off(r, UINT64_MAX);
	fail_with(r, 0, ERR_CHANGED);
	assert_file("a", "hello");
	receive_free(r);
}

TEST(receive__too_short__err_length_and_kept)
{
	struct receive *r = fresh(ANY);
	struct receive_ask ask;
	assert_ok(LIST(r, "dp", { "a", NULL, 5 }));
	assert_true(next(r, &ask));
	assert_err(head(r, 0, 0, 6, ""), ERR_LENGTH);
	assert_ok(head(r, 0, 0, 5, ""));
	assert_ok(data(r, 0, 0, "hel"));
	assert_err(end(r, 0), ERR_LENGTH);
	assert_true(next(r, &ask));
	assert_int_equal(ask.offset, 3);
	assert_ok(head(r, 0, 3, 5, ""));
	assert_ok(data(r, 0, 3, "lo"));
	assert_ok(end(r, 0));
	assert_file("a", "hello");
	receive_free(r);
}

TEST(receive__too_long__err_length_and_gone)
{
	struct receive *r = fresh(ANY);
	struct receive_ask ask;
	assert_ok(LIST(r, "dp", { "a", NULL, 5 }));
	assert_true(next(r, &ask));
	assert_ok(head(r, 0, 0, RECEIVE_UNKNOWN, ""));
	assert_ok(data(r, 0, 0, "hello"));
	assert_err(data(r, 0, 5, "!"), ERR_LENGTH);
	assert_int_equal(access(at("a"), F_OK), -1);
	assert_int_equal(figures(r).bytes_done, 0);
	receive_free(r);
}

TEST(receive__endless_file_of_unknown_size__stopped)
{
	struct receive *r = fresh((struct receive_options){ .size = 8 });
	struct receive_ask ask;
	assert_ok(LIST(r, "dp", { "a", NULL, RECEIVE_UNKNOWN }));
	assert_true(next(r, &ask));
	assert_ok(head(r, 0, 0, RECEIVE_UNKNOWN, ""));
	assert_ok(data(r, 0, 0, "12345678"));
	assert_err(data(r, 0, 8, "9"), ERR_SIZE);
	receive_free(r);
	r = fresh((struct receive_options){ .most_bytes = 8 });
	assert_ok(LIST(r, "dp", { "a", NULL, RECEIVE_UNKNOWN }));
	assert_true(next(r, &ask));
	assert_err(head(r, 0, 0, 9, ""), ERR_SPACE_CACHE);
	receive_free(r);
	r = fresh((struct receive_options){ .most_bytes = 8 });
	assert_ok(LIST(r, "dp", { "a", NULL, RECEIVE_UNKNOWN }));
	assert_true(next(r, &ask));
	assert_ok(head(r, 0, 0, RECEIVE_UNKNOWN, ""));
	assert_err(data(r, 0, 0, "123456789"), ERR_SPACE_CACHE);
	receive_free(r);
}

TEST(receive__content_of_unknown_sizes_too_small__err_size)
{
	struct receive *r = fresh((struct receive_options){ .size = 8 });
	struct receive_ask ask;
	assert_ok(LIST(r, "dp", { "a", NULL, RECEIVE_UNKNOWN }));
	assert_true(next(r, &ask));
	assert_ok(head(r, 0, 0, RECEIVE_UNKNOWN, ""));
	assert_ok(data(r, 0, 0, "1234567"));
	assert_err(end(r, 0), ERR_SIZE);
	assert_false(receive_is_complete(r));
	/* nor does it stand in the way of another source */
	assert_ok(LIST(r, "dp2", { "a", NULL, RECEIVE_UNKNOWN }));
	assert_ok(deliver(r, "12345678"));
	receive_free(r);
}

TEST(receive_end__hash_of_the_source_differs__err_hash_file)
{
	static const char sha1[] = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d";
	char hex[DIGEST_HEX_SIZE];
	hex_of("hello", hex);
	struct receive *r = fresh(ANY);
	assert_ok(LIST(r, "dp", { "a", hex, 5 }, { "b", sha1, 5 },
		       { "c", sha1, 5 }));
	assert_err(deliver(r, "HELLO"), ERR_HASH_FILE);
	assert_int_equal(access(at("a"), F_OK), -1);
	assert_ok(deliver(r, "hello"));
	assert_ok(deliver(r, "hello"));
	assert_err(deliver(r, "HELLO"), ERR_HASH_FILE);
	assert_non_null(strstr(e.text, sha1));
	receive_free(r);
}

/* --- going on ------------------------------------------------------------------ */

/* "hel" of "hello" from dp1, then the process ended. */
static struct receive *interrupted(void)
{
	struct receive *r = fresh(ANY);
	struct receive_ask ask;
	assert_ok(LIST(r, "dp1", { "a", NULL, 5 }));
	assert_true(next(r, &ask));
	assert_string_equal(ask.etag, "");
	assert_ok(head(r, 0, 0, 5, "\"v1\""));
	assert_ok(data(r, 0, 0, "hel"));
	receive_free(r);
	return new_with(ANY);
}

static bool has_note(const char *name)
{
	char text[600];
	return getxattr(at(name), "user.cloud-dp-agent.etag", text,
			sizeof(text)) > 0;
}

TEST(receive__killed_in_between__goes_on_and_hashes_the_kept_bytes)
{
	struct receive *r = interrupted();
	struct receive_ask ask;
	autolisting l = { 0 };
	char hex[DIGEST_HEX_SIZE];
	assert_true(has_note("a"));
	assert_ok(LIST(r, "DP1", { "a", NULL, 5 }));
	assert_int_equal(figures(r).bytes_resumed, 3);
	assert_true(next(r, &ask));
	assert_int_equal(ask.offset, 3);
	assert_string_equal(ask.etag, "\"v1\"");
	assert_ok(head(r, 0, 3, 5, "\"v1\""));
	assert_ok(data(r, 0, 3, "lo"));
	assert_ok(end(r, 0));
	assert_file("a", "hello");
	assert_false(has_note("a"));
	hex_of("hello", hex);
	assert_ok(receive_listing(r, &l, &e));
	assert_string_equal(l.lines[0].hex, hex);
	receive_free(r);
}

TEST(receive__etag_of_another_host__not_offered)
{
	struct receive *r = interrupted();
	struct receive_ask ask;
	assert_ok(LIST(r, "dp2", { "a", NULL, 5 }));
	assert_true(next(r, &ask));
	assert_int_equal(ask.offset, 3);
	assert_string_equal(ask.etag, "");
	assert_ok(head(r, 0, 3, 5, "\"other\""));
	assert_ok(data(r, 0, 3, "l"));
	assert_false(has_note("a")); /* bytes of two hosts: an etag of neither */
	break_off(r, 0);
	assert_true(next(r, &ask));
	assert_int_equal(ask.offset, 4);
	assert_string_equal(ask.etag, "");
	receive_free(r);
}

TEST(receive_head__another_etag_than_that_of_the_kept_bytes__changed)
{
	struct receive *r = interrupted();
	struct receive_ask ask;
	assert_ok(LIST(r, "dp1", { "a", NULL, 5 }));
	assert_true(next(r, &ask));
	assert_err(head(r, 0, 3, 5, "\"v2\""), ERR_CHANGED);
	assert_true(next(r, &ask)); /* from the beginning */
	assert_int_equal(ask.offset, 0);
	receive_free(r);
}

TEST(receive_fail__server_has_another_version__from_the_beginning)
{
	struct receive *r = interrupted();
	struct receive_ask ask;
	assert_ok(LIST(r, "dp1", { "a", NULL, 5 }));
	assert_true(next(r, &ask));
	fail_with(r, 0, ERR_CHANGED);
	assert_true(next(r, &ask));
	assert_int_equal(ask.offset, 0);
	assert_string_equal(ask.etag, "");
	receive_free(r);
}

TEST(receive_head__etag_that_cannot_be_one__not_kept)
{
	struct receive *r = fresh(ANY);
	struct receive_ask ask;
	assert_ok(LIST(r, "dp", { "a", NULL, 5 }));
	assert_true(next(r, &ask));
	assert_ok(head(r, 0, 0, 5, "x\r\nHost: evil"));
	assert_ok(data(r, 0, 0, "he"));
	break_off(r, 0);
	assert_true(next(r, &ask));
	assert_int_equal(ask.offset, 2);
	assert_string_equal(ask.etag, "");
	assert_false(has_note("a"));
	receive_free(r);
}

TEST(receive__server_starts_over__once_a_source)
{
	struct receive *r = interrupted();
	struct receive_ask ask;
	assert_ok(LIST(r, "dp1", { "a", NULL, 5 }));
	assert_true(next(r, &ask));
	assert_ok(head(r, 0, 0, 5, "\"v2\""));
	assert_int_equal(figures(r).bytes_done, 0);
	assert_ok(data(r, 0, 0, "HE"));
	receive_fail_all(r);
	/* the same source, listed again */
	assert_ok(LIST(r, "dp1", { "a", NULL, 5 }));
	assert_true(next(r, &ask));
	assert_int_equal(ask.offset, 2);
	assert_string_equal(ask.etag, "\"v2\"");
	assert_err(head(r, 0, 0, 5, "\"v2\""), ERR_HTTP);
	/* another source may */
	assert_ok(LIST(r, "dp2", { "a", NULL, 5 }));
	assert_true(next(r, &ask));
	assert_ok(head(r, 0, 0, 5, ""));
	assert_ok(data(r, 0, 0, "hello"));
	assert_ok(end(r, 0));
	assert_file("a", "hello");
	receive_free(r);
}

TEST(receive_end__all_there_by_416__complete)
{
	struct receive *r = interrupted();
	struct receive_ask ask;
	assert_ok(LIST(r, "dp1", { "a", NULL, RECEIVE_UNKNOWN }));
	assert_true(next(r, &ask));
	assert_int_equal(ask.offset, 3);
	assert_ok(end(r, 0));
	assert_true(receive_is_complete(r));
	assert_int_equal(figures(r).bytes_total, 3);
	receive_free(r);
	r = interrupted(); /* but not when more is known to come */
	assert_ok(LIST(r, "dp1", { "a", NULL, 5 }));
	assert_true(next(r, &ask));
	assert_err(end(r, 0), ERR_LENGTH);
	receive_free(r);
}

TEST(receive_plan__larger_than_listed__begun_anew)
{
	struct receive *r = interrupted();
	struct receive_ask ask;
	assert_ok(LIST(r, "dp1", { "a", NULL, 2 }));
	assert_int_equal(figures(r).bytes_resumed, 0);
	assert_true(next(r, &ask));
	assert_int_equal(ask.offset, 0);
	receive_free(r);
}

TEST(receive_plan__complete_from_an_earlier_run__hashed_and_kept)
{
	char hex[DIGEST_HEX_SIZE], wrong[DIGEST_HEX_SIZE];
	hex_of("hello", hex);
	hex_of("other", wrong);
	struct receive *r = fresh(ANY);
	plant("a", "hello");
	plant("b", "hello");
	struct receive_ask ask;
	assert_ok(LIST(r, "dp1", { "a", hex, 5 }, { "b", wrong, 5 }));
	assert_int_equal(figures(r).files_done, 1);
	assert_int_equal(figures(r).bytes_resumed, 5);
	assert_file("a", "hello");
	assert_true(next(r, &ask)); /* b proves nothing against dp1 */
	assert_string_equal(ask.path, "b");
	assert_int_equal(ask.offset, 0);
	assert_int_equal(access(at("b"), F_OK), -1);
	receive_free(r);
}

static enum err_code stop_at_once(void *arg, struct err *why)
{
	(*(unsigned *)arg)++;
	return err_set(why, ERR_SIGINT, "stopped");
}

TEST(receive_plan__signal_while_hashing__stops)
{
	unsigned asked = 0;
	struct receive *r = fresh((struct receive_options){
		.stop = stop_at_once, .stop_arg = &asked });
	autofd fd = open(at("a"), O_WRONLY | O_CREAT, 0644);
	autofree char *zeros = calloc(1, 16 << 20);
	assert_int_equal(write(fd, zeros, 16 << 20), 16 << 20);
	assert_err(LIST(r, "dp", { "a", NULL, 16 << 20 }), ERR_SIGINT);
	assert_int_equal(asked, 1);
	receive_free(r);
}

TEST(receive_plan__gap_in_a_file__bytes_before_it_count)
{
	struct receive *r = fresh(ANY);
	struct receive_ask ask;
	autofd fd = open(at("a"), O_WRONLY | O_CREAT, 0644);
	autofree char *bytes = calloc(1, 1 << 20);
	memset(bytes, 'x', 1 << 20);
	assert_int_equal(pwrite(fd, bytes, 1 << 20, 0), 1 << 20);
	assert_int_equal(pwrite(fd, bytes, 1 << 20, 3 << 20), 1 << 20);
	if (lseek(fd, 0, SEEK_HOLE) == 4 << 20)
		skip(); /* a file system without holes */
	assert_ok(LIST(r, "dp", { "a", NULL, 5 << 20 }));
	assert_true(next(r, &ask));
	assert_in_range(ask.offset, (1 << 20) - (64 << 10), 1 << 20);
	assert_int_equal(figures(r).bytes_resumed, ask.offset);
	receive_free(r);
}

TEST(receive__next_source__complete_files_are_not_hashed_again)
{
	struct receive *r = fresh(ANY);
	struct receive_ask ask;
	assert_ok(LIST(r, "dp1", { "a", NULL, 5 }, { "b", NULL, 5 }));
	assert_ok(deliver(r, "hello"));
	assert_true(next(r, &ask));
	assert_ok(head(r, 1, 0, 5, ""));
	assert_ok(data(r, 1, 0, "wor"));
	/* unreadable by the name, were it tried: the size alone is looked at */
	plant("a", "HELLO");
	assert_ok(LIST(r, "dp2", { "b", NULL, 5 }, { "a", NULL, 5 }));
	assert_int_equal(figures(r).bytes_resumed, 8);
	assert_ok(deliver(r, "world"));
	autolisting l = { 0 };
	char hex[DIGEST_HEX_SIZE];
	hex_of("hello", hex);
	assert_ok(receive_listing(r, &l, &e));
	assert_string_equal(l.lines[1].hex, hex);
	receive_free(r);
}

TEST(receive__source_between_lists_nothing__knowledge_stays)
{
	struct receive *r = fresh(ANY);
	assert_ok(LIST(r, "dp1", { "a", NULL, 5 }, { "b", NULL, 5 }));
	assert_ok(deliver(r, "hello"));
	assert_err(LIST(r, "dp2", { "../x", NULL, 5 }), ERR_NAME);
	assert_ok(LIST(r, "dp3", { "c", NULL, 5 }));
	assert_int_equal(figures(r).bytes_resumed, 0);
	assert_ok(LIST(r, "dp4", { "a", NULL, 5 }, { "c", NULL, 5 }));
	assert_int_equal(figures(r).bytes_resumed, 5);
	/* another source says that it is another file */
	char wrong[DIGEST_HEX_SIZE];
	hex_of("other", wrong);
	assert_ok(LIST(r, "dp5", { "a", wrong, 5 }));
	assert_int_equal(figures(r).bytes_resumed, 0);
	assert_ok(deliver(r, "other"));
	receive_free(r);
}

TEST(receive__sha1_named_by_the_next_source__judged)
{
	struct receive *r = fresh(ANY);
	assert_ok(LIST(r, "dp1", { "a", NULL, 5 }));
	assert_ok(deliver(r, "hello"));
	assert_ok(LIST(r, "cloud", { "a",
		       "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d", 5 }));
	assert_true(receive_is_complete(r));
	assert_ok(LIST(r, "cloud2", { "a",
		       "0000000000000000000000000000000000000000", 5 }));
	assert_false(receive_is_complete(r));
	receive_free(r);
}

TEST(receive_fail__last_byte_came_the_end_did_not__complete)
{
	struct receive *r = fresh(ANY);
	struct receive_ask ask;
	assert_ok(LIST(r, "dp", { "a", NULL, 5 }));
	assert_true(next(r, &ask));
	assert_ok(head(r, 0, 0, 5, "\"v\""));
	assert_ok(data(r, 0, 0, "hel"));
	assert_ok(data(r, 0, 3, "lo"));
	break_off(r, 0);
	assert_true(receive_is_complete(r));
	assert_false(has_note("a"));
	receive_free(r);
}

/* --- the last word ------------------------------------------------------------- */

TEST(receive_distrust__kept_bytes_were_flipped__all_anew_once)
{
	struct receive *r = interrupted();
	struct receive_ask ask;
	plant("a", "heX");
	assert_ok(LIST(r, "dp1", { "a", NULL, 5 }));
	assert_ok(deliver(r, "hello"));
	assert_file("a", "heXlo"); /* the content hash would be wrong now */
	assert_true(receive_distrust(r));
	assert_int_equal(access(at("a"), F_OK), -1);
	assert_false(receive_is_complete(r));
	assert_int_equal(figures(r).bytes_done, 0);
	assert_true(next(r, &ask));
	assert_int_equal(ask.offset, 0);
	break_off(r, 0);
	assert_ok(LIST(r, "dp1", { "a", NULL, 5 }));
	assert_ok(deliver(r, "hello"));
	assert_file("a", "hello");
	assert_false(receive_distrust(r)); /* all of it is dp1's */
	receive_free(r);
}

TEST(receive_distrust__same_source_after_a_break__not_mixed)
{
	struct receive *r = fresh(ANY);
	struct receive_ask ask;
	assert_ok(LIST(r, "dp1", { "a", NULL, 5 }, { "b", NULL, 2 }));
	assert_ok(deliver(r, "hello"));
	assert_true(next(r, &ask));
	assert_ok(head(r, 1, 0, 2, ""));
	assert_ok(data(r, 1, 0, "1"));
	assert_ok(LIST(r, "dp1", { "a", NULL, 5 }, { "b", NULL, 2 }));
	assert_ok(deliver(r, "12"));
	assert_false(receive_distrust(r));
	receive_free(r);
}

TEST(receive_distrust__of_two_sources__mixed)
{
	struct receive *r = fresh(ANY);
	assert_ok(LIST(r, "dp1", { "a", NULL, 5 }, { "b", NULL, 2 }));
	assert_ok(deliver(r, "hello"));
	assert_ok(LIST(r, "dp2", { "a", NULL, 5 }, { "b", NULL, 2 }));
	assert_ok(deliver(r, "12"));
	assert_true(receive_distrust(r));
	receive_free(r);
}

/* --- planted things (threats F2, F6) ----------------------------------------------- */

static void assert_canary(void)
{
	autobuf got = { 0 };
	assert_ok(fs_read_all(AT_FDCWD, at("canary"), &got, &e));
	assert_string_equal(got.at, "canary");
}

TEST(receive__links_pipes_and_folders_in_the_draft__replaced)
{
	struct receive *r = fresh(ANY);
	plant("canary", "canary");
	mkdir(at("real"), 0755);
	assert_int_equal(symlink("canary", at("link")), 0);
	assert_int_equal(link(at("canary"), at("hard")), 0);
	assert_int_equal(mkfifo(at("pipe"), 0644), 0);
	plant("folder/x", "x");
	assert_int_equal(symlink("real", at("way")), 0);
	plant("file", "canary");
	assert_ok(LIST(r, "dp", { "link", NULL, 6 }, { "hard", NULL, 6 },
		       { "pipe", NULL, 6 }, { "folder", NULL, 6 },
		       { "way/a", NULL, 6 }, { "file/a", NULL, 6 }));
	assert_int_equal(figures(r).bytes_resumed, 0);
	for (int i = 0; i < 6; i++)
		assert_ok(deliver(r, "123456"));
	assert_true(receive_is_complete(r));
	assert_file("link", "123456");
	assert_file("hard", "123456");
	assert_file("pipe", "123456");
	assert_file("folder", "123456");
	assert_file("way/a", "123456");
	assert_file("file/a", "123456");
	assert_int_equal(access(at("real/a"), F_OK), -1);
	assert_canary();
	receive_free(r);
}

TEST(receive__planted_between_plan_and_answer__replaced)
{
	struct receive *r = fresh(ANY);
	plant("canary", "canary");
	assert_ok(LIST(r, "dp", { "a", NULL, 6 }, { "b/c", NULL, 6 },
		       { "d", NULL, 6 }));
	assert_int_equal(symlink("canary", at("a")), 0);
	assert_int_equal(symlink("/tmp", at("b")), 0);
	assert_int_equal(link(at("canary"), at("d")), 0);
	for (int i = 0; i < 3; i++)
		assert_ok(deliver(r, "123456"));
	assert_file("a", "123456");
	assert_file("b/c", "123456");
	assert_file("d", "123456");
	assert_canary();
	receive_free(r);
}

TEST(receive__kept_bytes_cut_off_before_the_answer__err_folder)
{
	struct receive *r = interrupted();
	struct receive_ask ask;
	assert_ok(LIST(r, "dp1", { "a", NULL, 5 }));
	assert_true(next(r, &ask));
	assert_int_equal(truncate(at("a"), 1), 0);
	assert_err(head(r, 0, 3, 5, ""), ERR_FOLDER);
	receive_free(r);
}

/* --- many ----------------------------------------------------------------------- */

TEST(receive__as_many_files_as_can_be__planned_and_asked)
{
	struct receive *r = fresh(ANY);
	struct receive_ask ask;
	uint64_t kept, need, asked = 0;
	char path[64];
	for (int round = 0; round < 2; round++) {
		assert_ok(receive_begin(r, "dp", &e));
		for (uint64_t i = WIRE_MAX_FILES; i-- > 0;) {
			snprintf(path, sizeof(path), "folder%llu/file-%llu",
				 (unsigned long long)i % 100,
				 (unsigned long long)i);
			assert_ok(receive_file(r, i, path, 3, "", &e));
		}
		assert_ok(receive_plan(r, &kept, &need, &e));
		assert_int_equal(need, 3 * WIRE_MAX_FILES);
	}
	while (next(r, &ask))
		asked++;
	assert_int_equal(asked, WIRE_MAX_FILES);
	assert_int_equal(ask.index, 0); /* in the order of the list */
	break_off(r, 5);
	assert_true(next(r, &ask));
	assert_int_equal(ask.index, 5);
	receive_free(r);
}

TEST(receive_file__names_without_end__err_limit)
{
	struct receive *r = fresh(ANY);
	char path[1025];
	enum err_code rc = ERR_OK;
	memset(path, 'x', sizeof(path));
	for (size_t i = 250; i < 1000; i += 250)
		path[i] = '/';
	path[1000] = '\0';
	assert_ok(receive_begin(r, "dp", &e));
	for (uint64_t i = 0; rc == ERR_OK && i < WIRE_MAX_FILES; i++) {
		char number[16];
		snprintf(number, sizeof(number), "%08llu", (unsigned long long)i);
		memcpy(path, number, 8);
		rc = receive_file(r, i, path, 3, "", &e);
	}
	assert_err(rc, ERR_LIMIT);
	receive_free(r);
}

/* --- a file in several parts ----------------------------------------------- */

#define MIB (1ull << 20)

static enum err_code bytes_of(struct receive *r, uint64_t asked, uint64_t offset,
			      size_t len)
{
	static char zeros[2 * MIB];
	return receive_data(r, &(struct receive_bytes){ .asked = asked,
							.offset = offset,
							.at = zeros,
							.len = len }, &e);
}

/* Of the first stream. */
static enum err_code bytes_at(struct receive *r, uint64_t offset, size_t len)
{
	return bytes_of(r, asked_of(0), offset, len);
}

/* A large file that is coming, and the second part of it asked for. */
static struct receive *two_parts(struct receive_ask *part)
{
	const struct spread_case c = { .connections = 2, .margin = MIB,
				       .is_cloud = true, .now_ms = 1000 };
	struct receive_ask ask;
	struct receive *r = fresh(ANY);
	assert_ok(LIST(r, "cloud", { "a", NULL, 256 * MIB }));
	assert_true(next(r, &ask));
	assert_ok(head(r, 0, 0, 256 * MIB, "\"v\""));
	assert_ok(bytes_at(r, 0, MIB));
	assert_true(receive_next_part(r, &c, part));
	assert_true(part->offset > 2 * MIB && part->end > part->offset);
	assert_string_equal(part->etag, "\"v\"");
	return r;
}

static enum err_code part_begins(struct receive *r, uint64_t asked, uint64_t offset,
				 const char *etag)
{
	return receive_head(r, &(struct receive_begun){ .asked = asked,
							.offset = offset,
							.total = 256 * MIB,
							.etag = etag }, &e);
}

TEST(receive_head__of_a_part__first_stream_is_cut)
{
	struct receive_ask part;
	struct receive_trim trim;
	struct receive *r = two_parts(&part);
	assert_false(receive_next_trim(r, &trim));
	assert_ok(part_begins(r, part.offset, part.offset, "\"v\""));
	assert_true(receive_next_trim(r, &trim));
	assert_true(trim.index == 0 && trim.asked == 0 && trim.end == part.offset);
	assert_false(receive_next_trim(r, &trim)); /* told once */
	/* what comes ahead counts, and only what is in order is kept */
	assert_ok(bytes_of(r, part.offset, part.offset, MIB));
	assert_ok(bytes_at(r, MIB, MIB));
	assert_int_equal(figures(r).bytes_done, 3 * MIB);
	receive_fail_all(r);
	assert_int_equal(figures(r).bytes_done, 2 * MIB);
	receive_free(r);
}

TEST(receive_data__of_a_part_where_it_does_not_belong__net_lied)
{
	struct receive_ask part;
	struct receive_trim trim;
	struct receive *r = two_parts(&part);
	assert_err(bytes_of(r, part.offset, part.offset, 1), ERR_NET_LIED); /* no head */
	assert_err(part_begins(r, part.offset + 1, part.offset + 1, ""), ERR_NET_LIED);
	assert_err(part_begins(r, part.offset, 0, ""), ERR_NET_LIED);
	assert_ok(part_begins(r, part.offset, part.offset, "\"v\""));
	assert_err(part_begins(r, part.offset, part.offset, "\"v\""), ERR_NET_LIED);
	assert_true(receive_next_trim(r, &trim));
	assert_err(bytes_of(r, part.offset, part.offset + 1, 1), ERR_NET_LIED);
	assert_err(bytes_of(r, part.end, part.end, 1), ERR_NET_LIED);
	assert_err(bytes_at(r, part.offset, 1), ERR_NET_LIED);
	assert_err(bytes_at(r, 0, 1), ERR_NET_LIED);
	/* the first stream ends where the second begins */
	for (uint64_t at = MIB; at + MIB <= part.offset; at += MIB)
		assert_ok(bytes_at(r, at, MIB));
	assert_err(bytes_at(r, part.offset, 1), ERR_NET_LIED);
	/* which has brought nothing yet, although all before it is there */
	assert_ok(bytes_of(r, part.offset, part.offset, MIB));
	assert_err(receive_end(r, 0, 5, &e), ERR_NET_LIED);
	receive_free(r);
}

TEST(receive_head__of_a_part_of_another_version__changed)
{
	struct receive_ask part;
	struct receive *r = two_parts(&part);
	assert_err(part_begins(r, part.offset, part.offset, "\"w\""), ERR_CHANGED);
	assert_int_equal(figures(r).bytes_done, 0);
	receive_free(r);
}

TEST(receive_fail__of_a_part_nobody_agreed_on__no_harm_and_not_again)
{
	const struct err why = { .code = ERR_HTTP };
	const struct spread_case c = { .connections = 8, .margin = MIB,
				       .is_cloud = true, .now_ms = 60000 };
	struct receive_ask part, again;
	struct receive *r = two_parts(&part);
	assert_ok(receive_fail(r, 0, part.offset, &why, &e));
	assert_false(receive_next_part(r, &c, &again));
	assert_ok(bytes_at(r, MIB, MIB));
	assert_err(receive_fail(r, 0, 0, &why, &e), ERR_HTTP);
	assert_int_equal(figures(r).bytes_done, 2 * MIB);
	receive_free(r);
}

TEST(receive_end__of_a_part_too_early__err_length)
{
	struct receive_ask part;
	struct receive_trim trim;
	struct receive *r = two_parts(&part);
	assert_ok(part_begins(r, part.offset, part.offset, "\"v\""));
	assert_true(receive_next_trim(r, &trim));
	assert_ok(bytes_of(r, part.offset, part.offset, MIB));
	assert_err(receive_end(r, 0, part.offset, &e), ERR_LENGTH);
	receive_free(r);
}

/* --- kept bytes that are hashed beside the rest ----------------------------- */

/* A draft that holds `kept` zeros of a file of 10 MiB. */
static void plant_zeros(size_t kept)
{
	autofree char *zeros = calloc(1, kept);
	autofd fd = open(at("a"), O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_int_equal(write(fd, zeros, kept), (ssize_t)kept);
}

static struct receive *kept_zeros(struct receive_options o, size_t kept,
				  const char *hash)
{
	struct receive_ask ask;
	struct receive *r = fresh(o);
	plant_zeros(kept);
	assert_ok(LIST(r, "dp", { "a", hash, 10 * MIB }));
	assert_int_equal(figures(r).bytes_done, kept);
	assert_true(next(r, &ask));
	assert_int_equal(ask.offset, kept);
	return r;
}

static void hex_of_zeros(size_t len, char out[DIGEST_HEX_SIZE])
{
	autodigest struct digest *d = digest_new(DIGEST_SHA256, &e);
	autofree char *zeros = calloc(1, len);
	digest_add(d, zeros, len);
	assert_ok(digest_hex(d, out, &e));
}

static void assert_zeros_delivered(struct receive *r)
{
	autolisting got = { 0 };
	char want[DIGEST_HEX_SIZE];
	hex_of_zeros(10 * MIB, want);
	assert_ok(receive_listing(r, &got, &e));
	assert_int_equal(got.count, 1);
	assert_string_equal(got.lines[0].hex, want);
	assert_int_equal(figures(r).bytes_done, 10 * MIB);
}

TEST(receive_catch_up__while_the_rest_comes__whole)
{
	struct receive *r = kept_zeros(ANY, 9 * MIB, NULL);
	unsigned steps = 0;
	assert_false(receive_is_behind(r)); /* it is not open */
	assert_ok(head(r, 0, 9 * MIB, 10 * MIB, ""));
	for (; receive_is_behind(r) && steps < 4; steps++)
		assert_ok(receive_catch_up(r, &e));
	assert_int_equal(steps, 4);
	assert_ok(bytes_at(r, 9 * MIB, MIB / 2));
	while (receive_is_behind(r))
		assert_ok(receive_catch_up(r, &e));
	/* and from here as ever */
	assert_ok(bytes_at(r, 9 * MIB + MIB / 2, MIB / 2));
	assert_ok(end(r, 0));
	assert_zeros_delivered(r);
	receive_free(r);
}

TEST(receive_end__kept_bytes_not_yet_hashed__hashed_now)
{
	struct receive *r = kept_zeros(ANY, 9 * MIB, NULL);
	assert_ok(head(r, 0, 9 * MIB, 10 * MIB, ""));
	assert_ok(bytes_at(r, 9 * MIB, MIB));
	assert_ok(end(r, 0));
	assert_zeros_delivered(r);
	receive_free(r);
}

TEST(receive_end__kept_bytes_were_wrong__err_hash_file)
{
	char want[DIGEST_HEX_SIZE];
	hex_of("something else", want);
	struct receive *r = kept_zeros(ANY, 9 * MIB, want);
	assert_ok(head(r, 0, 9 * MIB, 10 * MIB, ""));
	assert_ok(bytes_at(r, 9 * MIB, MIB));
	assert_err(end(r, 0), ERR_HASH_FILE);
	assert_int_equal(figures(r).bytes_done, 0);
	assert_int_equal(access(at("a"), F_OK), -1);
	receive_free(r);
}

TEST(receive_fail_all__kept_bytes_not_yet_hashed__nothing_is_lost)
{
	struct receive_ask ask;
	struct receive *r = kept_zeros(ANY, 9 * MIB, NULL);
	assert_ok(head(r, 0, 9 * MIB, 10 * MIB, ""));
	assert_ok(bytes_at(r, 9 * MIB, MIB / 2));
	assert_ok(receive_catch_up(r, &e));
	receive_fail_all(r);
	assert_ok(LIST(r, "other", { "a", NULL, 10 * MIB }));
	assert_true(next(r, &ask));
	assert_int_equal(ask.offset, 9 * MIB + MIB / 2);
	assert_ok(head(r, 0, ask.offset, 10 * MIB, ""));
	assert_ok(bytes_at(r, ask.offset, MIB / 2));
	assert_ok(end(r, 0));
	assert_zeros_delivered(r);
	receive_free(r);
}

TEST(receive_begin__kept_bytes_neither_hashed_nor_asked__found_again)
{
	struct receive_ask ask;
	struct receive *r = fresh(ANY);
	plant_zeros(9 * MIB);
	assert_ok(LIST(r, "dp", { "a", NULL, 10 * MIB }));
	assert_ok(LIST(r, "other", { "a", NULL, 10 * MIB }));
	assert_int_equal(figures(r).bytes_done, 9 * MIB);
	assert_true(next(r, &ask));
	assert_int_equal(ask.offset, 9 * MIB);
	receive_free(r);
}

TEST(receive_head__begins_anew_before_kept_bytes_are_hashed__they_go)
{
	struct receive *r = kept_zeros(ANY, 9 * MIB, NULL);
	assert_ok(head(r, 0, 0, 10 * MIB, ""));
	assert_false(receive_is_behind(r));
	assert_int_equal(figures(r).bytes_done, 0);
	for (uint64_t at = 0; at < 10 * MIB; at += MIB)
		assert_ok(bytes_at(r, at, MIB));
	assert_ok(end(r, 0));
	assert_zeros_delivered(r);
	receive_free(r);
}

static enum err_code stop_now(void *arg, struct err *why)
{
	return *(bool *)arg ? err_set(why, ERR_SIGINT, "stop") : ERR_OK;
}

TEST(receive_end__stopped_while_it_hashes__all_of_it_is_kept)
{
	struct stat st;
	bool is_stop = false;
	struct receive *r = kept_zeros((struct receive_options){ .stop = stop_now,
								 .stop_arg = &is_stop },
				       9 * MIB, NULL);
	assert_ok(head(r, 0, 9 * MIB, 10 * MIB, ""));
	assert_ok(bytes_at(r, 9 * MIB, MIB));
	is_stop = true;
	assert_err(end(r, 0), ERR_SIGINT);
	receive_fail_all(r);
	assert_int_equal(stat(at("a"), &st), 0);
	assert_int_equal(st.st_size, 10 * MIB);
	receive_free(r);
}

TEST(receive_catch_up__somebody_cut_the_file_off__err_folder)
{
	struct receive *r = kept_zeros(ANY, 9 * MIB, NULL);
	assert_ok(head(r, 0, 9 * MIB, 10 * MIB, ""));
	assert_int_equal(truncate(at("a"), 0), 0);
	assert_err(receive_catch_up(r, &e), ERR_FOLDER);
	receive_free(r);
}

TEST(receive_plan__two_large_kept_files__one_is_hashed_at_once)
{
	struct receive_ask ask;
	struct receive *r = fresh(ANY);
	plant_zeros(9 * MIB);
	assert_int_equal(rename(at("a"), at("b")), 0);
	plant_zeros(9 * MIB);
	assert_ok(LIST(r, "dp", { "a", NULL, 10 * MIB }, { "b", NULL, 10 * MIB }));
	assert_true(next(r, &ask) && next(r, &ask));
	assert_int_equal(ask.index, 1);
	assert_ok(head(r, 1, 9 * MIB, 10 * MIB, ""));
	assert_false(receive_is_behind(r));
	assert_ok(head(r, 0, 9 * MIB, 10 * MIB, ""));
	assert_true(receive_is_behind(r));
	receive_free(r);
}

TEST(receive_next_part__kept_bytes_not_yet_hashed__behind_them)
{
	const struct spread_case c = { .connections = 2, .margin = MIB,
				       .is_cloud = true, .now_ms = 1000 };
	struct receive_ask ask, part;
	struct receive_trim trim;
	struct receive *r = fresh(ANY);
	plant_zeros(9 * MIB);
	assert_ok(LIST(r, "cloud", { "a", NULL, 100 * MIB }));
	assert_true(next(r, &ask));
	assert_ok(head(r, 0, 9 * MIB, 100 * MIB, "\"v\""));
	assert_true(receive_next_part(r, &c, &part));
	assert_true(part.offset > 9 * MIB);
	assert_ok(receive_head(r, &(struct receive_begun){ .asked = part.offset,
							   .offset = part.offset,
							   .total = 100 * MIB,
							   .etag = "\"v\"" }, &e));
	assert_true(receive_next_trim(r, &trim));
	assert_ok(bytes_of(r, part.offset, part.offset, MIB));
	for (uint64_t at = 9 * MIB; at < part.offset; at += MIB)
		assert_ok(bytes_at(r, at, MIB));
	assert_int_equal(figures(r).bytes_done, part.offset + MIB);
	while (receive_is_behind(r))
		assert_ok(receive_catch_up(r, &e));
	assert_ok(bytes_of(r, part.offset, part.offset + MIB, MIB));
	receive_fail_all(r);
	assert_int_equal(figures(r).bytes_done, part.offset + 2 * MIB);
	receive_free(r);
}

/* --- parts that an earlier run has left -------------------------------------- */

/* 256 MiB of zeros, of which 3 MiB and 20 MiB further on came before a stop. */
static uint64_t stop_with_parts(void)
{
	struct receive_ask part;
	struct receive_trim trim;
	struct receive *r = two_parts(&part);
	assert_ok(part_begins(r, part.offset, part.offset, "\"v\""));
	assert_true(receive_next_trim(r, &trim));
	for (uint64_t at = MIB; at < 3 * MIB; at += MIB)
		assert_ok(bytes_at(r, at, MIB));
	for (uint64_t at = part.offset; at < part.offset + 20 * MIB; at += MIB)
		assert_ok(bytes_of(r, part.offset, at, MIB));
	receive_fail_all(r);
	assert_int_equal(figures(r).bytes_done, 23 * MIB); /* the next plan looks */
	receive_free(r);
	return part.offset;
}

static struct receive *with_parts(struct receive_ask *ask, uint64_t *begin)
{
	*begin = stop_with_parts();
	struct receive *r = new_with(ANY);
	assert_ok(LIST(r, "cloud", { "a", NULL, 256 * MIB }));
	assert_in_range(figures(r).bytes_resumed, 22 * MIB, 23 * MIB);
	assert_true(next(r, ask));
	assert_in_range(ask->offset, 2 * MIB, 3 * MIB);
	assert_int_equal(ask->end, *begin);
	assert_string_equal(ask->etag, "\"v\"");
	return r;
}

static void fetch_parts(struct receive *r)
{
	const struct spread_case c = { .connections = 2, .margin = MIB,
				       .is_cloud = true, .now_ms = 1000 };
	struct receive_ask part;
	while (receive_next_part(r, &c, &part)) {
		assert_ok(part_begins(r, part.offset, part.offset, "\"v\""));
		for (uint64_t at = part.offset, n; at < part.end; at += n) {
			n = part.end - at < MIB ? part.end - at : MIB;
			assert_ok(bytes_of(r, part.offset, at, n));
		}
		assert_ok(receive_end(r, 0, part.offset, &e));
	}
}

TEST(receive_next__parts_of_an_earlier_run__only_the_gaps)
{
	autolisting got = { 0 };
	char want[DIGEST_HEX_SIZE];
	struct receive_ask ask;
	uint64_t begin;
	struct receive *r = with_parts(&ask, &begin);
	assert_ok(head(r, 0, ask.offset, 256 * MIB, "\"v\""));
	for (uint64_t at = ask.offset, n; at < begin; at += n) {
		n = begin - at < MIB ? begin - at : MIB;
		assert_ok(bytes_at(r, at, n));
	}
	assert_ok(end(r, 0));
	fetch_parts(r);
	assert_true(receive_is_complete(r));
	struct receive_figures f = figures(r);
	assert_int_equal(f.bytes_done, 256 * MIB);
	assert_int_equal(f.bytes_resumed + f.bytes_received, 256 * MIB);
	hex_of_zeros(256 * MIB, want);
	assert_ok(receive_listing(r, &got, &e));
	assert_string_equal(got.lines[0].hex, want);
	receive_free(r);
}

TEST(receive_fail__no_parts_any_more__on_with_what_is_in_a_row)
{
	const struct err why = { .code = ERR_HTTP };
	struct receive_ask ask, again;
	uint64_t begin;
	struct receive *r = with_parts(&ask, &begin);
	assert_ok(receive_fail(r, 0, ask.offset, &why, &e));
	assert_int_equal(figures(r).bytes_done, ask.offset);
	assert_true(next(r, &again));
	assert_true(again.offset == ask.offset && again.end == RECEIVE_UNKNOWN);
	/* and now it is an error */
	assert_err(receive_fail(r, 0, again.offset, &why, &e), ERR_HTTP);
	receive_free(r);
}

TEST(receive_fail__of_the_first_gap__nothing_is_lost)
{
	const struct err why = { .code = ERR_BROKEN };
	struct receive_ask ask;
	uint64_t begin;
	struct receive *r = with_parts(&ask, &begin);
	assert_err(receive_fail(r, 0, ask.offset, &why, &e), ERR_BROKEN);
	assert_ok(LIST(r, "other", { "a", NULL, 256 * MIB }));
	assert_in_range(figures(r).bytes_resumed, 22 * MIB, 23 * MIB);
	receive_free(r);
}

TEST(receive_head__begins_anew_instead_of_the_gap__all_of_it_goes)
{
	struct receive_ask ask;
	uint64_t begin;
	struct receive *r = with_parts(&ask, &begin);
	assert_ok(head(r, 0, 0, 256 * MIB, "\"v\""));
	assert_int_equal(figures(r).bytes_done, 0);
	assert_ok(bytes_at(r, 0, MIB));
	receive_free(r);
}

TEST(receive_head__of_the_gap_another_version__changed)
{
	struct receive_ask ask;
	uint64_t begin;
	struct receive *r = with_parts(&ask, &begin);
	assert_err(head(r, 0, ask.offset, 256 * MIB, "\"w\""), ERR_CHANGED);
	assert_int_equal(figures(r).bytes_done, 0);
	assert_int_equal(access(at("a"), F_OK), -1);
	receive_free(r);
}
