#include "tests/unit/test.h"

#include "agent/keeper/draft.h"
#include "common/fs.h"
#include "common/own.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char base[256];

static const char *in_folder(const char *name)
{
	static char path[512];
	snprintf(path, sizeof(path), "%s/%s", base, name);
	return path;
}

static void fresh(void)
{
	snprintf(base, sizeof(base), "%s", test_folder());
}

static void put(int dir_fd, const char *path, const char *text)
{
	struct err e = { 0 };
	assert_ok(fs_make_parents(dir_fd, path, &e));
	autofd fd = fs_open_at(dir_fd, path, O_WRONLY | O_CREAT, 0, &e);
	assert_true(fd >= 0);
	assert_ok(fs_write_at(fd, text, strlen(text), 0, path, &e));
}

static bool exists(const char *path)
{
	struct stat st;
	return lstat(path, &st) == 0;
}

#define PARTIAL ".out.cloud-dp-agent-partial"

TEST(draft_open_at__absent_folder__partial_beside_it)
{
	struct err e = { 0 };
	struct draft d;
	struct stat st;
	fresh();
	assert_ok(draft_open_at(in_folder("out/"), &d, &e));
	assert_string_equal(d.path, in_folder("out"));
	assert_int_equal(lstat(in_folder(PARTIAL), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_false(exists(in_folder("out")));
	draft_close(&d);
	assert_int_equal(d.dir_fd, -1);
	assert_false(exists(in_folder(PARTIAL))); /* empty: gone */
	draft_close(&d);
}

TEST(draft_close__with_files__kept_for_resume)
{
	struct err e = { 0 };
	struct draft d;
	fresh();
	assert_ok(draft_open_at(in_folder("out"), &d, &e));
	put(d.dir_fd, "a", "1");
	draft_close(&d);
	assert_true(exists(in_folder(PARTIAL "/a")));
	assert_ok(draft_open_at(in_folder("out"), &d, &e));
	assert_ok(draft_drop(&d, &e));
	assert_false(exists(in_folder(PARTIAL)));
	draft_close(&d);
}

static void assert_refused(const char *path, const char *reason)
{
	struct err e = { 0 };
	struct draft d;
	assert_err(draft_open_at(path, &d, &e), ERR_FOLDER);
	if (strstr(e.text, reason) == NULL)
		print_error("%s\n", e.text);
	assert_non_null(strstr(e.text, reason));
	assert_int_equal(d.dir_fd, -1);
	draft_close(&d);
}

TEST(draft_open_at__cannot_be_target__refused_with_reason)
{
	fresh();
	mkdir(in_folder("full"), 0755);
	close(open(in_folder("full/file"), O_CREAT | O_WRONLY, 0644));
	close(open(in_folder("file"), O_CREAT | O_WRONLY, 0644));
	assert_int_equal(symlink("full", in_folder("link")), 0);
	assert_refused(in_folder("full"), "not empty, it holds file");
	assert_refused(in_folder("file"), "is not a folder");
	assert_refused(in_folder("link"), "symbolic link");
	assert_refused(in_folder("absent/out"), "No such file");
	assert_refused("", "empty");
	assert_refused("/", "name of its own");
	assert_refused(in_folder(".."), "name of its own");
	char name[300];
	memset(name, 'a', sizeof(name));
	name[240] = '\0';
	assert_refused(in_folder(name), "too long");
	assert_false(exists(in_folder(".full.cloud-dp-agent-partial")));
}

TEST(draft_open_at__partial_is_link__refused)
{
	fresh();
	mkdir(in_folder("elsewhere"), 0755);
	assert_int_equal(symlink("elsewhere", in_folder(PARTIAL)), 0);
	assert_refused(in_folder("out"), PARTIAL);
}

TEST(draft_open_at__partial_others_may_write_to__refused)
{
	fresh();
	mkdir(in_folder(PARTIAL), 0755);
	assert_int_equal(chmod(in_folder(PARTIAL), 0777), 0);
	assert_refused(in_folder("out"), "others may write");
}

TEST(draft_open_at__another_agent__locked)
{
	struct err e = { 0 };
	struct draft a, b;
	fresh();
	assert_ok(draft_open_at(in_folder("out"), &a, &e));
	assert_err(draft_open_at(in_folder("out"), &b, &e), ERR_LOCKED);
	draft_close(&b);
	assert_true(exists(in_folder(PARTIAL)));
	draft_close(&a);
	assert_ok(draft_open_at(in_folder("out"), &b, &e));
	draft_close(&b);
}

TEST(draft_open_at__relative_path__absolute_result)
{
	struct err e = { 0 };
	struct draft d;
	char old[512];
	fresh();
	assert_non_null(getcwd(old, sizeof(old)));
	assert_int_equal(chdir(base), 0);
	assert_ok(draft_open_at("out", &d, &e));
	assert_int_equal(chdir(old), 0);
	assert_string_equal(d.path, in_folder("out"));
	draft_close(&d);
}

TEST(draft_publish__leftovers__only_listed_files_remain)
{
	struct err e = { 0 };
	struct draft d;
	struct stat st;
	autolisting l = { 0 };
	fresh();
	mkdir(in_folder("out"), 0700); /* empty: is replaced */
	assert_ok(draft_open_at(in_folder("out"), &d, &e));
	put(d.dir_fd, "a/b/c", "1");
	put(d.dir_fd, "z", "2");
	put(d.dir_fd, "a.old", "3");
	put(d.dir_fd, "a/old/x/y", "4");
	assert_int_equal(symlinkat("/etc/passwd", d.dir_fd, "link"), 0);
	assert_int_equal(mkfifoat(d.dir_fd, "a/pipe", 0600), 0);
	assert_int_equal(mkdirat(d.dir_fd, "empty", 0700), 0);
	assert_ok(listing_add(&l, "z", HEX, &e));
	assert_ok(listing_add(&l, "a/b/c", HEX, &e));
	assert_ok(draft_publish(&d, &l, &e));
	assert_true(exists(in_folder("out/a/b/c")));
	assert_true(exists(in_folder("out/z")));
	assert_false(exists(in_folder("out/a.old")));
	assert_false(exists(in_folder("out/a/old")));
	assert_false(exists(in_folder("out/a/pipe")));
	assert_false(exists(in_folder("out/link")));
	assert_false(exists(in_folder("out/empty")));
	assert_false(exists(in_folder(PARTIAL)));
	assert_int_equal(lstat(in_folder("out"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	draft_close(&d);
	assert_true(exists(in_folder("out/z")));
}

TEST(draft_publish__listed_file_is_missing__refused)
{
	struct err e = { 0 };
	struct draft d;
	autolisting l = { 0 };
	fresh();
	assert_ok(draft_open_at(in_folder("out"), &d, &e));
	put(d.dir_fd, "a", "1");
	assert_int_equal(linkat(d.dir_fd, "a", AT_FDCWD, in_folder("other"), 0), 0);
	assert_ok(listing_add(&l, "a", HEX, &e)); /* has a second name */
	assert_err(draft_publish(&d, &l, &e), ERR_FOLDER);
	assert_false(exists(in_folder("out")));
	draft_close(&d);
}

TEST(draft_publish__target_filled_meanwhile__refused_and_kept)
{
	struct err e = { 0 };
	struct draft d;
	autolisting l = { 0 };
	fresh();
	assert_ok(draft_open_at(in_folder("out"), &d, &e));
	put(d.dir_fd, "a", "1");
	assert_ok(listing_add(&l, "a", HEX, &e));
	mkdir(in_folder("out"), 0755);
	close(open(in_folder("out/theirs"), O_CREAT | O_WRONLY, 0644));
	assert_err(draft_publish(&d, &l, &e), ERR_FOLDER);
	draft_close(&d);
	assert_true(exists(in_folder("out/theirs")));
	assert_true(exists(in_folder(PARTIAL "/a")));
}

TEST(draft_publish__any_umask__fixed_modes)
{
	struct err e = { 0 };
	struct draft d;
	struct stat st;
	autolisting l = { 0 };
	fresh();
	mode_t old = umask(0777);
	enum err_code rc = draft_open_at(in_folder("out"), &d, &e);
	if (rc == ERR_OK) {
		put(d.dir_fd, "a/b", "1");
		assert_ok(listing_add(&l, "a/b", HEX, &e));
		rc = draft_publish(&d, &l, &e);
	}
	umask(old);
	assert_ok(rc);
	draft_close(&d);
	assert_int_equal(lstat(in_folder("out/a"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(lstat(in_folder("out/a/b"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
}
