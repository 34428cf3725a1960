#include "tests/unit/test.h"

#include "common/folder.h"
#include "common/fs.h"
#include "common/own.h"
#include "tests/unit/files.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* ---- fs_open_root ---- */

TEST(fs_open_root__absent__made_with_parents_whatever_the_umask)
{
	static const mode_t masks[] = { 0, 022, 077, 0777 };
	for (size_t i = 0; i < 4; i++) {
		struct err e = { 0 };
		autofd dir = files_new();
		mode_t old = umask(masks[i]);
		autofd fd = fs_open_root(files_path("p/q//r/"), 0700, &e);
		umask(old);
		assert_true(fd >= 0);
		assert_int_equal(files_mode(dir, "p"), 0755);
		assert_int_equal(files_mode(dir, "p/q"), 0755);
		assert_int_equal(files_mode(dir, "p/q/r"), 0700);
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	}
}

TEST(fs_open_root__exists__mode_left_alone)
{
	struct err e = { 0 };
	autofd dir = files_new();
	assert_int_equal(mkdirat(dir, "d", 0750), 0);
	autofd fd = fs_open_root(files_path("d"), 0700, &e);
	assert_true(fd >= 0);
	assert_int_equal(files_mode(dir, "d"), 0750);
}

TEST(fs_open_root__writable_by_others__refused)
{
	static const mode_t modes[] = { 0770, 0702, 01777 };
	for (size_t i = 0; i < 3; i++) {
		struct err e = { 0 };
		autofd dir = files_new();
		assert_int_equal(mkdirat(dir, "d", 0700), 0);
		assert_int_equal(fchmodat(dir, "d", modes[i], 0), 0);
		assert_int_equal(fs_open_root(files_path("d"), 0700, &e), -1);
		assert_err(e.code, ERR_FOLDER);
		assert_non_null(strstr(e.text, "group or others"));
	}
}

TEST(fs_open_root__belongs_to_another__refused)
{
	struct err e = { 0 };
	if (geteuid() != 0)
		skip();
	autofd dir = files_new();
	assert_int_equal(mkdirat(dir, "d", 0700), 0);
	assert_int_equal(fchownat(dir, "d", 65534, 65534, 0), 0);
	assert_int_equal(fs_open_root(files_path("d"), 0700, &e), -1);
	assert_non_null(strstr(e.text, "belongs to user 65534"));
}

TEST(fs_open_root__last_is_link__refused_even_with_slash)
{
	struct err e = { 0 };
	autofd dir = files_new();
	assert_int_equal(mkdirat(dir, "real", 0700), 0);
	assert_int_equal(symlinkat("real", dir, "link"), 0);
	assert_int_equal(fs_open_root(files_path("link"), 0700, &e), -1);
	assert_err(e.code, ERR_FOLDER);
	assert_int_equal(fs_open_root(files_path("link//"), 0700, &e), -1);
	assert_int_equal(symlinkat("nowhere", dir, "dangling"), 0);
	assert_int_equal(fs_open_root(files_path("dangling"), 0700, &e), -1);
	assert_false(files_there(dir, "nowhere"));
}

TEST(fs_open_root__link_above_the_last__followed)
{
	struct err e = { 0 };
	autofd dir = files_new();
	assert_int_equal(mkdirat(dir, "real", 0700), 0);
	assert_int_equal(symlinkat("real", dir, "link"), 0);
	autofd fd = fs_open_root(files_path("link/new"), 0700, &e);
	assert_true(fd >= 0);
	assert_true(files_there(dir, "real/new"));
}

TEST(fs_open_root__relative_and_root__opened)
{
	struct err e = { 0 };
	autofd old = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	autofd dir = files_new();
	assert_int_equal(fchdir(dir), 0);
	autofd fd = fs_open_root("x/y", 0, &e);
	autofd here = fs_open_root(".", 0, &e);
	assert_int_equal(fchdir(old), 0);
	assert_true(fd >= 0);
	assert_true(here >= 0);
	assert_int_equal(files_mode(dir, "x/y"), 0755);
	autofd top = fs_open_root("///", 0, &e);
	assert_true(top >= 0);
}

TEST(fs_open_root__file_or_empty_or_too_long__state)
{
	struct err e = { 0 };
	autofd dir = files_new();
	files_put(dir, "f", "");
	char longer[5000];
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(fs_open_root(files_path("f"), 0700, &e), -1);
	assert_int_equal(fs_open_root(files_path("f/g"), 0700, &e), -1);
	assert_int_equal(fs_open_root("", 0700, &e), -1);
	assert_int_equal(fs_open_root(longer, 0700, &e), -1);
	assert_err(e.code, ERR_FOLDER);
	assert_int_equal(files_mode(dir, "f"), 0644);
}

/* ---- fs_open_at ---- */

TEST(fs_open_at__create__mode_whatever_the_umask)
{
	struct err e = { 0 };
	autofd dir = files_new();
	mode_t old = umask(0777);
	autofd a = fs_open_at(dir, "a", O_WRONLY | O_CREAT, 0, &e);
	umask(0);
	autofd b = fs_open_at(dir, "b", O_WRONLY | O_CREAT | O_EXCL, 0600, &e);
	umask(old);
	assert_true(a >= 0 && b >= 0);
	assert_int_equal(files_mode(dir, "a"), 0644);
	assert_int_equal(files_mode(dir, "b"), 0600);
	assert_int_equal(fcntl(a, F_GETFD), FD_CLOEXEC);
}

TEST(fs_open_at__create_existing__opened_mode_kept)
{
	struct err e = { 0 };
	autofd dir = files_new();
	files_put(dir, "a", "old");
	assert_int_equal(fchmodat(dir, "a", 0600, 0), 0);
	autofd fd = fs_open_at(dir, "a", O_RDWR | O_CREAT, 0644, &e);
	assert_true(fd >= 0);
	assert_int_equal(files_mode(dir, "a"), 0600);
	files_assert(dir, "a", "old");
	assert_int_equal(fs_open_at(dir, "a", O_RDWR | O_CREAT | O_EXCL, 0, &e), -1);
	assert_int_equal(errno, EEXIST);
	autofd cut = fs_open_at(dir, "a", O_WRONLY | O_TRUNC, 0, &e);
	assert_true(cut >= 0);
	files_assert(dir, "a", "");
}

TEST(fs_open_at__way_out__refused)
{
	static const char *const out[] = {
		"..", "../x", "/etc/passwd", "sub/../../x", "link", "dirlink/x",
		"sub/up/x", "proc", "absolute/passwd", "dangling",
	};
	struct err e = { 0 };
	autofd dir = files_new();
	assert_int_equal(mkdirat(dir, "sub", 0700), 0);
	files_put(dir, "x", "");
	files_put(dir, "sub/x", "");
	symlinkat("x", dir, "link");
	symlinkat("sub", dir, "dirlink");
	symlinkat("..", dir, "sub/up");
	symlinkat("/proc/self/fd/1", dir, "proc");
	symlinkat("/etc", dir, "absolute");
	symlinkat("made", dir, "dangling");
	for (size_t i = 0; i < sizeof(out) / sizeof(*out); i++) {
		assert_int_equal(fs_open_at(dir, out[i], O_RDONLY, 0, &e), -1);
		assert_err(e.code, ERR_FOLDER);
		assert_non_null(strstr(e.text, out[i]));
		assert_int_equal(
			fs_open_at(dir, out[i], O_WRONLY | O_CREAT, 0, &e), -1);
	}
	assert_false(files_there(dir, "made"));
}

TEST(fs_open_at__pipe__refused_without_waiting)
{
	struct err e = { 0 };
	autofd dir = files_new();
	assert_int_equal(mkfifoat(dir, "pipe", 0600), 0);
	assert_int_equal(fs_open_at(dir, "pipe", O_RDONLY, 0, &e), -1);
	assert_non_null(strstr(e.text, "neither"));
	assert_int_equal(fs_open_at(dir, "pipe", O_WRONLY | O_CREAT, 0, &e), -1);
	assert_int_equal(fs_open_at(dir, "pipe", O_RDWR, 0, &e), -1);
}

TEST(fs_open_at__hard_link__read_but_not_written_nor_cut)
{
	struct err e = { 0 };
	autofd dir = files_new();
	files_put(dir, "a", "canary");
	assert_int_equal(linkat(dir, "a", dir, "b", 0), 0);
	autofd fd = fs_open_at(dir, "b", O_RDONLY, 0, &e);
	assert_true(fd >= 0);
	assert_int_equal(
		fs_open_at(dir, "b", O_WRONLY | O_CREAT | O_TRUNC, 0, &e), -1);
	assert_non_null(strstr(e.text, "hard link"));
	files_assert(dir, "a", "canary");
}

TEST(fs_open_at__absent__errno_tells)
{
	struct err e = { 0 };
	autofd dir = files_new();
	assert_int_equal(fs_open_at(dir, "no", O_RDONLY, 0, &e), -1);
	assert_int_equal(errno, ENOENT);
	assert_string_equal(e.text, "open no: No such file or directory");
}

/* A folder and a link to the outside change places all the time. */
static pid_t start_flipper(int dir)
{
	pid_t pid = fork();
	if (pid == 0)
		for (;;)
			renameat2(dir, "flip", dir, "flop", RENAME_EXCHANGE);
	assert_true(pid > 0);
	return pid;
}

TEST(fs_open_at__racing_link__never_outside)
{
	struct err e = { 0 };
	autofd outside = files_new();
	files_put(outside, "x", "canary");
	char target[128];
	snprintf(target, sizeof(target), "%s", files_path(""));
	autofd dir = files_new();
	assert_int_equal(mkdirat(dir, "flip", 0700), 0);
	assert_int_equal(symlinkat(target, dir, "flop"), 0);
	files_put(dir, "flip/x", "inside");
	pid_t pid = start_flipper(dir);
	int opened = 0, escaped = 0, removed = 0;
	for (int i = 0; i < 5000; i++) {
		autofd fd = fs_open_at(dir, "flip/x", O_RDONLY, 0, &e);
		char c = 0;
		if (fd >= 0 && read(fd, &c, 1) == 1)
			opened++, escaped += c == 'c';
		autofd made = fs_open_at(dir, "flip/n", O_WRONLY | O_CREAT, 0, &e);
		(void)made;
		removed += folder_remove(dir, "flip/n", &e) == ERR_OK;
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(escaped, 0);
	assert_true(opened > 0 && removed > 0);
	assert_int_equal(files_count(outside), 1);
}

/* ---- folders ---- */

TEST(fs_make_dirs__nested__made_with_modes)
{
	struct err e = { 0 };
	autofd dir = files_new();
	mode_t old = umask(077);
	assert_ok(fs_make_dirs(dir, "a/b//c/", &e));
	assert_ok(fs_make_dirs(dir, "a/b/c", &e));
	assert_ok(fs_make_parents(dir, "a/x/file", &e));
	assert_ok(fs_make_parents(dir, "file", &e));
	umask(old);
	assert_int_equal(files_mode(dir, "a/b/c"), 0755);
	assert_int_equal(files_mode(dir, "a/x"), 0755);
	assert_false(files_there(dir, "a/x/file"));
	assert_false(files_there(dir, "file"));
}

TEST(fs_make_dirs__way_out_or_file__refused)
{
	static const char *const bad[] = { "../x", "/tmp/x", "a/../../x", "link/x",
					   "file/x", "file", "", "link" };
	struct err e = { 0 };
	autofd outside = files_new();
	char target[128];
	snprintf(target, sizeof(target), "%s", files_path(""));
	autofd dir = files_new();
	assert_int_equal(symlinkat(target, dir, "link"), 0);
	files_put(dir, "file", "");
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_err(fs_make_dirs(dir, bad[i], &e), ERR_FOLDER);
	assert_int_equal(files_count(outside), 0);
	assert_err(fs_make_parents(dir, "/x", &e), ERR_FOLDER);
}

static int fill_disk(__attribute__((unused)) int dir)
{
	static const char block[128 << 10] = "x";
	struct err e = { 0 };
	autofd in = files_mount_small();
	if (in < 0)
		return 77;
	if (fs_replace(in, "state", "old", 3, 0, &e) != ERR_OK)
		return 1;
	if (fs_replace(in, "state", block, sizeof(block), 0, &e) != ERR_SPACE_DISK)
		return 2;
	if (files_count(in) != 1) /* no temporary file is left */
		return 3;
	autobuf b = { 0 };
	if (fs_read_all(in, "state", &b, &e) != ERR_OK || strcmp(b.at, "old") != 0)
		return 4;
	autofd fd = fs_open_at(in, "big", O_RDWR | O_CREAT, 0, &e);
	if (fs_write_at(fd, block, sizeof(block), 0, "big", &e) != ERR_SPACE_DISK)
		return 5;
	uint64_t room = 0, total = 0;
	if (fs_space(in, &room, &total, &e) != ERR_OK || total != 65536)
		return 6;
	return strstr(e.text, "big") && room == 0 ? 0 : 7;
}

TEST(fs_replace__disk_full__space_old_file_kept)
{
	autofd dir = files_new();
	int status = files_in_child(fill_disk, dir, 0);
	if (status == 77)
		skip();
	assert_int_equal(status, 0);
}

/* ---- writing and reading ---- */

TEST(fs_sync__not_open__state)
{
	struct err e = { 0 };
	assert_err(fs_sync(-1, "thing", &e), ERR_FOLDER);
	assert_string_equal(e.text, "sync thing: Bad file descriptor");
}

/* ---- publish, write, replace ---- */

TEST(fs_publish__file_and_folder__moved)
{
	struct err e = { 0 };
	autofd from = files_new();
	autofd to = files_new();
	files_put(from, "f", "x");
	assert_ok(fs_make_dirs(from, "d/e", &e));
	assert_ok(fs_publish(from, "f", to, "g", &e));
	assert_ok(fs_publish(from, "d", to, "h", &e));
	assert_ok(fs_publish(to, "g", to, "h/e/g", &e));
	assert_true(files_there(to, "h/e/g"));
	assert_int_equal(files_count(from), 0);
}

TEST(fs_publish__name_taken__state_and_kept)
{
	struct err e = { 0 };
	autofd dir = files_new();
	files_put(dir, "f", "new");
	files_put(dir, "g", "old");
	assert_int_equal(symlinkat("x", dir, "l"), 0);
	assert_err(fs_publish(dir, "f", dir, "g", &e), ERR_FOLDER);
	assert_err(fs_publish(dir, "f", dir, "l", &e), ERR_FOLDER);
	files_assert(dir, "g", "old");
	files_assert(dir, "f", "new");
}

TEST(fs_publish__way_out__refused)
{
	struct err e = { 0 };
	autofd dir = files_new();
	files_put(dir, "f", "x");
	assert_int_equal(symlinkat("..", dir, "up"), 0);
	assert_err(fs_publish(dir, "f", dir, "../g", &e), ERR_FOLDER);
	assert_err(fs_publish(dir, "f", dir, "up/g", &e), ERR_FOLDER);
	assert_err(fs_publish(dir, "f", dir, "..", &e), ERR_FOLDER);
	assert_err(fs_publish(dir, "f", dir, "", &e), ERR_FOLDER);
	assert_err(fs_publish(dir, "absent", dir, "g", &e), ERR_FOLDER);
	assert_true(files_there(dir, "f"));
}

TEST(fs_write_at__offset__bytes_there)
{
	struct err e = { 0 };
	autofd dir = files_new();
	autofd fd = fs_open_at(dir, "f", O_RDWR | O_CREAT, 0, &e);
	assert_ok(fs_write_at(fd, "world", 5, 6, "f", &e));
	assert_ok(fs_write_at(fd, "hello ", 6, 0, "f", &e));
	assert_ok(fs_write_at(fd, NULL, 0, 0, "f", &e));
	files_assert(dir, "f", "hello world");
}

TEST(fs_write_at__impossible__state)
{
	struct err e = { 0 };
	autofd dir = files_new();
	files_put(dir, "f", "");
	autofd fd = fs_open_at(dir, "f", O_RDONLY, 0, &e);
	assert_err(fs_write_at(fd, "x", 1, 0, "f", &e), ERR_FOLDER);
	assert_err(fs_write_at(fd, "x", 1, UINT64_MAX, "f", &e), ERR_FOLDER);
	assert_err(fs_write_at(fd, "x", 1, INT64_MAX, "f", &e), ERR_FOLDER);
}

TEST(fs_replace__new_and_old__whole_and_alone)
{
	struct err e = { 0 };
	autofd dir = files_new();
	mode_t old = umask(0777);
	assert_ok(fs_replace(dir, "f", "one", 3, 0600, &e));
	assert_ok(fs_replace(dir, "f", "two two", 7, 0, &e));
	umask(old);
	files_assert(dir, "f", "two two");
	assert_int_equal(files_mode(dir, "f"), 0644);
	assert_int_equal(files_count(dir), 1);
}

TEST(fs_replace__link_there__link_replaced_not_followed)
{
	struct err e = { 0 };
	autofd dir = files_new();
	files_put(dir, "canary", "x");
	assert_int_equal(symlinkat("canary", dir, "f"), 0);
	assert_ok(fs_replace(dir, "f", "new", 3, 0, &e));
	files_assert(dir, "canary", "x");
	files_assert(dir, "f", "new");
}

TEST(fs_replace__impossible__state_nothing_left)
{
	struct err e = { 0 };
	autofd dir = files_new();
	assert_int_equal(mkdirat(dir, "d", 0700), 0);
	assert_err(fs_replace(dir, "d", "x", 1, 0, &e), ERR_FOLDER);
	assert_err(fs_replace(dir, "../x", "x", 1, 0, &e), ERR_FOLDER);
	assert_err(fs_replace(dir, "no/x", "x", 1, 0, &e), ERR_FOLDER);
	char name[251];
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_err(fs_replace(dir, name, "x", 1, 0, &e), ERR_FOLDER);
	assert_int_equal(files_count(dir), 1);
}

/* ---- reading ---- */

TEST(fs_read_all__up_to_max__read_above__state)
{
	struct err e = { 0 };
	autofd dir = files_new();
	files_put(dir, "f", "12345");
	autobuf b = { .max = 5 };
	buf_text(&b, "old");
	assert_ok(fs_read_all(dir, "f", &b, &e));
	assert_string_equal(b.at, "12345");
	autobuf small = { .max = 4 };
	assert_err(fs_read_all(dir, "f", &small, &e), ERR_FOLDER);
	assert_non_null(strstr(e.text, "more than 4 bytes"));
}

TEST(fs_read_all__many_blocks__whole)
{
	struct err e = { 0 };
	autofd dir = files_new();
	char *block = calloc(1, 100000);
	assert_ok(fs_replace(dir, "f", block, 100000, 0, &e));
	free(block);
	autobuf b = { 0 };
	assert_ok(fs_read_all(AT_FDCWD, files_path("f"), &b, &e));
	assert_int_equal(b.len, 100000);
	autobuf small = { .max = 99999 };
	assert_err(fs_read_all(dir, "f", &small, &e), ERR_FOLDER);
}

TEST(fs_read_all__link__followed)
{
	autofd dir = files_new();
	files_put(dir, "f", "text");
	assert_int_equal(symlinkat("f", dir, "link"), 0);
	files_assert(dir, "link", "text");
}

TEST(fs_read_all__pipe_folder_or_absent__state)
{
	struct err e = { 0 };
	autobuf b = { 0 };
	autofd dir = files_new();
	assert_int_equal(mkfifoat(dir, "pipe", 0600), 0);
	assert_err(fs_read_all(dir, "pipe", &b, &e), ERR_FOLDER);
	assert_non_null(strstr(e.text, "no regular file"));
	assert_err(fs_read_all(dir, ".", &b, &e), ERR_FOLDER);
	assert_err(fs_read_all(dir, "absent", &b, &e), ERR_FOLDER);
	assert_err(fs_read_fd(-1, "fd", &b, &e), ERR_FOLDER);
}

TEST(fs_space__folder__sane)
{
	struct err e = { 0 };
	uint64_t room = 0, total = 0;
	autofd dir = files_new();
	assert_ok(fs_space(dir, &room, &total, &e));
	assert_true(total > 0 && room <= total);
	assert_err(fs_space(-1, &room, &total, &e), ERR_FOLDER);
}

/* ---- notes ---- */

TEST(fs_note__set_get_drop__as_set)
{
	struct err e = { 0 };
	char text[16] = "?";
	autofd dir = files_new();
	autofd fd = fs_open_at(dir, "f", O_RDWR | O_CREAT, 0, &e);
	assert_false(fs_get_note(fd, "agent.etag", text, sizeof(text)));
	assert_string_equal(text, "");
	if (!fs_set_note(fd, "agent.etag", "\"abc\""))
		skip(); /* no such thing on this file system */
	assert_true(fs_get_note(fd, "agent.etag", text, sizeof(text)));
	assert_string_equal(text, "\"abc\"");
	assert_true(fs_set_note(fd, "agent.etag", "0123456789abcde"));
	assert_true(fs_get_note(fd, "agent.etag", text, sizeof(text)));
	assert_false(fs_get_note(fd, "agent.etag", text, 15)); /* too long */
	assert_string_equal(text, "");
	assert_false(fs_get_note(fd, "agent.etag", text, 1));
	fs_drop_note(fd, "agent.etag");
	fs_drop_note(fd, "agent.etag");
	assert_false(fs_get_note(fd, "agent.etag", text, sizeof(text)));
}
