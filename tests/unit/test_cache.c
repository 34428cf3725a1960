#include "tests/unit/test.h"

#include "agent/keeper/cache.h"
#include "common/clock.h"
#include "common/folder.h"
#include "common/fs.h"
#include "common/own.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static char base[256];

static const char *at(const char *name)
{
	static char path[512];
	snprintf(path, sizeof(path), "%s/c/%s", base, name);
	return path;
}

static struct cache *open_new(uint64_t size, uint64_t min_free)
{
	struct err e = { 0 };
	snprintf(base, sizeof(base), "%s", test_folder());
	struct cache *c = cache_open(at(""), size, min_free, &e);
	if (c == NULL)
		print_error("%s\n", e.text);
	assert_non_null(c);
	return c;
}

static struct content content_of(const char *text)
{
	struct err e = { 0 };
	struct content c;
	assert_ok(content_parse(text, &c, &e));
	return c;
}

static bool exists(const char *path)
{
	struct stat st;
	return lstat(path, &st) == 0;
}

static void put(int dir_fd, const char *path, size_t len)
{
	struct err e = { 0 };
	autofree char *bytes = calloc(1, len + 1);
	assert_non_null(bytes);
	assert_ok(fs_make_parents(dir_fd, path, &e));
	autofd fd = fs_open_at(dir_fd, path, O_WRONLY | O_CREAT, 0, &e);
	assert_true(fd >= 0);
	assert_ok(fs_write_at(fd, bytes, len, 0, path, &e));
}

/* Make and publish a content of one file of `len` zero bytes, last used then. */
static void publish(struct cache *c, const char *id, size_t len, int64_t used_s)
{
	struct err e = { 0 };
	struct draft d;
	struct content content = content_of(id);
	autolisting l = { 0 };
	assert_ok(cache_begin(c, &content, &d, &e));
	put(d.dir_fd, "dir/file", len);
	assert_ok(listing_walk(d.dir_fd, &l, NULL, NULL, NULL, &e));
	assert_ok(cache_publish(c, &d, &content, &l, &e));
	draft_close(&d);
	char name[300];
	snprintf(name, sizeof(name), "listing/%s.sha256", id);
	struct timespec t = { .tv_sec = used_s };
	assert_int_equal(utimensat(AT_FDCWD, at(name), (struct timespec[]){ t, t },
				   0), 0);
}

static bool is_published(struct cache *c, const char *id)
{
	struct cache_item item;
	struct content content = content_of(id);
	autofree char *path = NULL;
	return cache_find(c, &content, &item, &path);
}

TEST(cache_open__new_folder__modes_are_fixed)
{
	struct stat st;
	mode_t old = umask(0);
	struct cache *c = open_new(0, 0);
	umask(old);
	assert_int_equal(stat(at(""), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(at("content"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	cache_close(c);
	cache_close(NULL);
}

TEST(cache_open__not_a_folder__err_folder)
{
	struct err e = { 0 };
	char path[300];
	snprintf(path, sizeof(path), "%s/file", test_folder());
	close(open(path, O_CREAT | O_WRONLY, 0644));
	assert_null(cache_open(path, 0, 0, &e));
	assert_err(e.code, ERR_FOLDER);
	assert_non_null(strstr(e.text, path));
}

TEST(cache_publish__then_find__hash_of_the_listing)
{
	struct err e = { 0 };
	struct cache *c = open_new(0, 0);
	struct cache_item item;
	struct content content = content_of("ABC00042.3");
	char hex[DIGEST_HEX_SIZE];
	autofree char *path = NULL;
	publish(c, "ABC00042.3", 10, 1000);
	assert_true(cache_find(c, &content, &item, &path));
	assert_string_equal(path, at("content/ABC00042.3"));
	assert_string_equal(item.name, "ABC00042.3");
	assert_int_equal(item.bytes, 10);
	assert_int_equal(item.files, 1);
	assert_int_equal(item.last_used_s, 1000);
	assert_false(item.is_partial || item.is_in_use);
	assert_ok(cache_hash(c, &item, hex, &e));
	assert_string_equal(hex, item.hash);
	assert_false(exists(at("partial/ABC00042.3")));
	cache_touch(c, &item);
	free(take_ptr(path));
	assert_true(cache_find(c, &content, &item, &path));
	assert_true(item.last_used_s >= clock_wall_s() - 5);
	cache_close(c);
}

TEST(cache_hash__damaged__differs)
{
	struct err e = { 0 };
	struct cache *c = open_new(0, 0);
	struct cache_item item;
	struct content content = content_of("ABC00042.3");
	char hex[DIGEST_HEX_SIZE];
	autofree char *path = NULL;
	publish(c, "ABC00042.3", 10, 1000);
	assert_int_equal(truncate(at("content/ABC00042.3/dir/file"), 9), 0);
	assert_true(cache_find(c, &content, &item, &path));
	assert_ok(cache_hash(c, &item, hex, &e));
	assert_string_not_equal(hex, item.hash);
	cache_close(c);
}

TEST(cache_find__no_version__highest)
{
	struct cache *c = open_new(0, 0);
	struct cache_item item;
	struct content content = content_of("abc00042");
	autofree char *path = NULL;
	assert_false(cache_find(c, &content, &item, &path));
	assert_null(path);
	publish(c, "ABC00042.9", 1, 1000);
	publish(c, "ABC00042.10", 1, 1000);
	publish(c, "ABC00042", 1, 1000);
	publish(c, "ABC00043.99", 1, 1000);
	assert_true(cache_find(c, &content, &item, &path));
	assert_string_equal(item.name, "ABC00042.10");
	/* without its listing it counts as not published */
	assert_int_equal(unlink(at("listing/ABC00042.10.sha256")), 0);
	free(take_ptr(path));
	assert_true(cache_find(c, &content, &item, &path));
	assert_string_equal(item.name, "ABC00042.9");
	cache_close(c);
}

TEST(cache_find__half_of_it__not_published)
{
	struct cache *c = open_new(0, 0);
	publish(c, "ABC00042.3", 1, 1000);
	struct err e = { 0 };
	autofd fd = fs_open_root(at("content"), 0, &e);
	assert_ok(folder_remove(fd, "ABC00042.3", &e));
	assert_false(is_published(c, "ABC00042.3"));
	cache_close(c);
}

TEST(cache_begin__another_agent__locked)
{
	struct err e = { 0 };
	struct cache *c = open_new(0, 0);
	struct cache *other = cache_open(at(""), 0, 0, &e);
	struct draft a, b;
	struct content content = content_of("ABC00042.3");
	assert_ok(cache_begin(c, &content, &a, &e));
	assert_err(cache_begin(other, &content, &b, &e), ERR_LOCKED);
	assert_non_null(strstr(e.text, "ABC00042.3"));
	draft_close(&b);
	struct content same = content_of("abc00042.3"); /* by ASCII case */
	assert_err(cache_begin(other, &same, &b, &e), ERR_LOCKED);
	draft_close(&a);
	assert_ok(cache_begin(other, &same, &b, &e));
	draft_close(&b);
	cache_close(other);
	cache_close(c);
}

TEST(cache_begin__lock_file_removed_by_its_owner__new_one_is_locked)
{
	struct err e = { 0 };
	struct cache *c = open_new(0, 0);
	struct draft a, b;
	struct content content = content_of("ABC00042.3");
	assert_ok(cache_begin(c, &content, &a, &e));
	assert_int_equal(unlink(at("lock/ABC00042.3")), 0);
	assert_ok(cache_begin(c, &content, &b, &e));
	autofd fd = open(at("lock/ABC00042.3"), O_RDONLY);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
	draft_close(&a);
	draft_close(&b);
	cache_close(c);
}

TEST(cache_begin__something_else_under_its_name__replaced)
{
	struct err e = { 0 };
	struct cache *c = open_new(0, 0);
	struct draft d;
	struct content content = content_of("ABC00042.3");
	assert_int_equal(symlink("/etc", at("partial/ABC00042.3")), 0);
	assert_ok(cache_begin(c, &content, &d, &e));
	put(d.dir_fd, "a", 1);
	assert_true(exists(at("partial/ABC00042.3/a")));
	assert_false(exists("/etc/a"));
	draft_close(&d);
	cache_close(c);
}

TEST(cache_publish__damaged_one_is_there__replaced)
{
	struct cache *c = open_new(0, 0);
	publish(c, "ABC00042.3", 10, 1000);
	close(open(at("content/ABC00042.3/planted"), O_CREAT | O_WRONLY, 0644));
	publish(c, "ABC00042.3", 20, 1000);
	assert_false(exists(at("content/ABC00042.3/planted")));
	assert_true(is_published(c, "ABC00042.3"));
	cache_close(c);
}

TEST(cache_publish__cannot__no_listing_left)
{
	struct err e = { 0 };
	struct cache *c = open_new(0, 0);
	struct draft d;
	struct content content = content_of("ABC00042.3");
	autolisting l = { 0 };
	assert_ok(cache_begin(c, &content, &d, &e));
	put(d.dir_fd, "a", 1);
	assert_ok(listing_walk(d.dir_fd, &l, NULL, NULL, NULL, &e));
	assert_ok(listing_add(&l, "missing", l.lines[0].hex, &e));
	assert_err(cache_publish(c, &d, &content, &l, &e), ERR_FOLDER);
	draft_close(&d);
	assert_false(exists(at("listing/ABC00042.3.sha256")));
	assert_false(is_published(c, "ABC00042.3"));
	assert_true(exists(at("partial/ABC00042.3/a")));
	cache_close(c);
}

TEST(cache_list__published_partial_orphan_foreign__ours_by_name)
{
	struct err e = { 0 };
	struct cache *c = open_new(0, 0);
	struct draft d;
	struct content content = content_of("ABC00042.4");
	struct cache_item *items autofree = NULL;
	size_t count;
	publish(c, "ABC00042.3", 10, 1000);
	publish(c, "ABC00042.2", 10, 1000);
	assert_int_equal(unlink(at("listing/ABC00042.2.sha256")), 0);
	mkdir(at("content/.hidden"), 0755);
	mkdir(at("content/ABC00042.007"), 0755);
	assert_ok(cache_begin(c, &content, &d, &e));
	put(d.dir_fd, "a", 7);
	assert_ok(cache_list(c, &items, &count, &e));
	assert_int_equal(count, 3);
	assert_string_equal(items[0].name, "ABC00042.2");
	assert_true(items[0].is_partial); /* its listing is gone */
	assert_string_equal(items[1].name, "ABC00042.3");
	assert_false(items[1].is_partial || items[1].is_in_use);
	assert_string_equal(items[2].name, "ABC00042.4");
	assert_true(items[2].is_partial && items[2].is_in_use);
	assert_int_equal(items[2].bytes, 7);
	draft_close(&d);
	cache_close(c);
}

TEST(cache_reserve__quota__least_recently_used_goes_first)
{
	struct err e = { 0 };
	struct cache *c = open_new(100, 0);
	struct content busy = content_of("ABC00001.1");
	struct draft d;
	unsigned evicted;
	publish(c, "ABC00001.1", 30, 1); /* in use: stays */
	publish(c, "ABC00002.1", 30, 3);
	publish(c, "ABC00003.1", 30, 2);
	struct content ours = content_of("ABC00009.1");
	struct draft own;
	assert_ok(cache_begin(c, &busy, &d, &e));
	assert_ok(cache_begin(c, &ours, &own, &e));
	assert_ok(cache_reserve(c, "ABC00009.1", 10, &evicted, &e));
	assert_int_equal(evicted, 0);
	assert_ok(cache_reserve(c, "ABC00009.1", 20, &evicted, &e));
	assert_int_equal(evicted, 1);
	assert_false(is_published(c, "ABC00003.1"));
	assert_true(is_published(c, "ABC00002.1"));
	assert_ok(cache_reserve(c, "ABC00009.1", 70, &evicted, &e));
	assert_int_equal(evicted, 1);
	/* more than may go: nothing goes */
	publish(c, "ABC00002.1", 30, 3);
	assert_err(cache_reserve(c, "ABC00009.1", 71, &evicted, &e),
		   ERR_SPACE_CACHE);
	assert_int_equal(evicted, 0);
	assert_true(is_published(c, "ABC00002.1"));
	assert_err(cache_reserve(c, "ABC00009.1", 101, NULL, &e), ERR_SPACE_CACHE);
	assert_non_null(strstr(e.text, "101"));
	assert_true(is_published(c, "ABC00001.1"));
	draft_close(&own);
	draft_close(&d);
	cache_close(c);
}

static bool is_wanted(void *arg, const char *name)
{
	return strcmp(name, arg) == 0;
}

TEST(cache_reserve__kept_by_policy__another_goes_or_nothing)
{
	struct err e = { 0 };
	struct cache *c = open_new(100, 0);
	struct content ours = content_of("ABC00009.1");
	struct draft own;
	unsigned evicted;
	char kept[] = "ABC00001.1";
	publish(c, kept, 40, 1); /* the oldest */
	publish(c, "ABC00002.1", 40, 2);
	cache_keep(c, is_wanted, kept);
	assert_ok(cache_begin(c, &ours, &own, &e));
	assert_err(cache_reserve(c, "ABC00009.1", 61, NULL, &e), ERR_SPACE_CACHE);
	assert_ok(cache_reserve(c, "ABC00009.1", 60, &evicted, &e));
	assert_int_equal(evicted, 1);
	assert_true(is_published(c, kept));
	assert_false(is_published(c, "ABC00002.1"));
	/* by hand all of them may go */
	cache_keep(c, NULL, NULL);
	assert_ok(cache_reserve(c, "ABC00009.1", 61, &evicted, &e));
	assert_false(is_published(c, kept));
	draft_close(&own);
	cache_close(c);
}

TEST(cache_reserve__another_agent_is_promised_room__not_given_twice)
{
	struct err e = { 0 };
	struct cache *c = open_new(100, 0);
	struct content first = content_of("ABC00001.1");
	struct content second = content_of("ABC00002.1");
	struct draft a, b;
	assert_ok(cache_begin(c, &first, &a, &e));
	assert_ok(cache_begin(c, &second, &b, &e));
	assert_ok(cache_reserve(c, "ABC00001.1", 60, NULL, &e));
	/* not a byte of it has come yet */
	assert_err(cache_reserve(c, "ABC00002.1", 41, NULL, &e), ERR_SPACE_CACHE);
	assert_ok(cache_reserve(c, "ABC00002.1", 40, NULL, &e));
	draft_close(&a); /* it gives up: its promise goes with its lock */
	assert_ok(cache_reserve(c, "ABC00002.1", 100, NULL, &e));
	draft_close(&b);
	cache_close(c);
}

TEST(cache_reserve__partials__own_counts_others_go_last)
{
	struct err e = { 0 };
	struct cache *c = open_new(100, 0);
	struct content own = content_of("ABC00009.1"), left = content_of("ABC00005");
	struct draft d;
	unsigned evicted;
	assert_ok(cache_begin(c, &left, &d, &e));
	put(d.dir_fd, "a", 20);
	draft_close(&d);
	publish(c, "ABC00002.1", 20, 3);
	publish(c, "ABC00009.1", 10, 9); /* damaged, say: it goes first */
	assert_ok(cache_begin(c, &own, &d, &e));
	put(d.dir_fd, "a", 40);
	assert_ok(cache_reserve(c, "ABC00009.1", 20, &evicted, &e));
	assert_false(is_published(c, "ABC00009.1"));
	assert_int_equal(evicted, 1);
	assert_ok(cache_reserve(c, "ABC00009.1", 40, &evicted, &e));
	assert_int_equal(evicted, 1);
	assert_true(exists(at("partial/ABC00005")));
	assert_ok(cache_reserve(c, "ABC00009.1", 60, &evicted, &e));
	assert_int_equal(evicted, 0);
	assert_false(exists(at("partial/ABC00005")));
	assert_true(exists(at("partial/ABC00009.1/a")));
	assert_err(cache_reserve(c, "ABC00009.1", 61, NULL, &e), ERR_SPACE_CACHE);
	draft_close(&d);
	cache_close(c);
}

TEST(cache_reserve__min_free_cannot_be_kept__err_space_disk)
{
	struct err e = { 0 };
	struct cache *c = open_new(0, UINT64_MAX / 2);
	publish(c, "ABC00002.1", 20, 3);
	assert_err(cache_reserve(c, "ABC00009.1", 1, NULL, &e), ERR_SPACE_DISK);
	assert_true(is_published(c, "ABC00002.1"));
	assert_ok(cache_reserve(c, "ABC00009.1", 0, NULL, &e));
	autofd fd = open("/tmp", O_RDONLY | O_DIRECTORY);
	assert_err(cache_check_disk(fd, UINT64_MAX, 1, &e), ERR_SPACE_DISK);
	assert_ok(cache_check_disk(fd, 1, 1, &e));
	cache_close(c);
}

TEST(cache_remove__there_absent_locked__as_said)
{
	struct err e = { 0 };
	struct cache *c = open_new(0, 0);
	struct content a = content_of("ABC00001.1"), all = content_of("ABC00001");
	struct draft d;
	publish(c, "ABC00001.1", 1, 1);
	publish(c, "ABC00001.2", 1, 1);
	assert_ok(cache_begin(c, &a, &d, &e));
	assert_err(cache_remove(c, &a, &e), ERR_LOCKED);
	put(d.dir_fd, "a", 1);
	draft_close(&d);
	assert_ok(cache_remove(c, &a, &e));
	assert_false(exists(at("content/ABC00001.1")));
	assert_false(exists(at("listing/ABC00001.1.sha256")));
	assert_false(exists(at("partial/ABC00001.1")));
	assert_false(exists(at("lock/ABC00001.1")));
	assert_err(cache_remove(c, &a, &e), ERR_USAGE);
	assert_ok(cache_remove(c, &all, &e));
	assert_false(is_published(c, "ABC00001.2"));
	cache_close(c);
}

static void age(const char *path, int64_t age_s)
{
	struct timespec t = { .tv_sec = clock_wall_s() - age_s };
	assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[]){ t, t }, 0),
			 0);
}

TEST(cache_trim__old_leftovers_and_quota__gone)
{
	struct err e = { 0 };
	struct cache *c = open_new(50, 0);
	struct content old = content_of("ABC00005.1"), young = content_of("ABC00006.1");
	struct draft d;
	unsigned removed;
	uint64_t bytes;
	assert_ok(cache_begin(c, &old, &d, &e));
	put(d.dir_fd, "a", 5);
	draft_close(&d);
	assert_ok(cache_begin(c, &young, &d, &e));
	put(d.dir_fd, "a", 5);
	draft_close(&d);
	age(at("partial/ABC00005.1"), 8 * 86400);
	age(at("lock/ABC00005.1"), 8 * 86400);
	age(at("partial/ABC00006.1"), 8 * 86400); /* begun again since */
	publish(c, "ABC00001.1", 30, 1);
	publish(c, "ABC00002.1", 30, 2);
	close(open(at("listing/ABC00077.1.sha256"), O_CREAT | O_WRONLY, 0644));
	close(open(at("listing/.ABC.sha256.12345678.new"), O_CREAT | O_WRONLY, 0644));
	age(at("listing/.ABC.sha256.12345678.new"), 7200);
	assert_ok(cache_trim(c, &removed, &bytes, &e));
	assert_int_equal(removed, 2);
	assert_int_equal(bytes, 35);
	assert_false(exists(at("partial/ABC00005.1")));
	assert_true(exists(at("partial/ABC00006.1")));
	assert_false(is_published(c, "ABC00001.1"));
	assert_true(is_published(c, "ABC00002.1"));
	assert_false(exists(at("listing/ABC00077.1.sha256")));
	assert_false(exists(at("listing/.ABC.sha256.12345678.new")));
	cache_close(c);
}
