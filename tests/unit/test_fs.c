#ifndef _GNU_SOURCE
#endif

#include "tests/unit/test.h"

#include "common/fs.h"
#include "common/own.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char folder[128];

static int new_folder(void)
{
	snprintf(folder, sizeof(folder), "%s", test_folder());
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static const char *in_folder(const char *name)
{
	static char path[256];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static void put(int dir, const char *path, const char *text)
{
	autofd fd = openat(dir, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static mode_t mode_of(int dir, const char *path)
{
	struct stat st;
	assert_int_equal(fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_mode & 07777;
}

static bool is_there(int dir, const char *path)
{
	return faccessat(dir, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static unsigned count_entries(int dir)
{
	autofd fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(take_fd(&fd));
	unsigned n = 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void assert_text(int dir, const char *path, const char *want)
{
	struct err e = { 0 };
	autobuf b = { 0 };
	assert_ok(fs_read_all(dir, path, &b, &e));
	assert_string_equal(b.at ? b.at : "", want);
}

/* ---- fs_open_root ---- */

TEST(fs_open_root__absent__made_with_parents_whatever_the_umask)
{
	static const mode_t masks[] = { 0, 022, 077, 0777 };
	for (size_t i = 0; i < 4; i++) {
		struct err e = { 0 };
		autofd dir = new_folder();
		mode_t old = umask(masks[i]);
		autofd fd = fs_open_root(in_folder("p/q//r/"), 0700, &e);
		umask(old);
		assert_true(fd >= 0);
		assert_int_equal(mode_of(dir, "p"), 0755);
		assert_int_equal(mode_of(dir, "p/q"), 0755);
		assert_int_equal(mode_of(dir, "p/q/r"), 0700);
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	}
}

TEST(fs_open_root__exists__mode_left_alone)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	assert_int_equal(mkdirat(dir, "d", 0750), 0);
	autofd fd = fs_open_root(in_folder("d"), 0700, &e);
	assert_true(fd >= 0);
	assert_int_equal(mode_of(dir, "d"), 0750);
}

TEST(fs_open_root__writable_by_others__refused)
{
	static const mode_t modes[] = { 0770, 0702, 01777 };
	for (size_t i = 0; i < 3; i++) {
		struct err e = { 0 };
		autofd dir = new_folder();
		assert_int_equal(mkdirat(dir, "d", 0700), 0);
		assert_int_equal(fchmodat(dir, "d", modes[i], 0), 0);
		assert_int_equal(fs_open_root(in_folder("d"), 0700, &e), -1);
		assert_err(e.code, ERR_FOLDER);
		assert_non_null(strstr(e.text, "group or others"));
	}
}

TEST(fs_open_root__belongs_to_another__refused)
{
	struct err e = { 0 };
	if (geteuid() != 0)
		skip();
	autofd dir = new_folder();
	assert_int_equal(mkdirat(dir, "d", 0700), 0);
	assert_int_equal(fchownat(dir, "d", 65534, 65534, 0), 0);
	assert_int_equal(fs_open_root(in_folder("d"), 0700, &e), -1);
	assert_non_null(strstr(e.text, "belongs to user 65534"));
}

TEST(fs_open_root__last_is_link__refused_even_with_slash)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	assert_int_equal(mkdirat(dir, "real", 0700), 0);
	assert_int_equal(symlinkat("real", dir, "link"), 0);
	assert_int_equal(fs_open_root(in_folder("link"), 0700, &e), -1);
	assert_err(e.code, ERR_FOLDER);
	assert_int_equal(fs_open_root(in_folder("link//"), 0700, &e), -1);
	assert_int_equal(symlinkat("nowhere", dir, "dangling"), 0);
	assert_int_equal(fs_open_root(in_folder("dangling"), 0700, &e), -1);
	assert_false(is_there(dir, "nowhere"));
}

TEST(fs_open_root__link_above_the_last__followed)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	assert_int_equal(mkdirat(dir, "real", 0700), 0);
	assert_int_equal(symlinkat("real", dir, "link"), 0);
	autofd fd = fs_open_root(in_folder("link/new"), 0700, &e);
	assert_true(fd >= 0);
	assert_true(is_there(dir, "real/new"));
}

TEST(fs_open_root__relative_and_root__opened)
{
	struct err e = { 0 };
	autofd old = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	autofd dir = new_folder();
	assert_int_equal(fchdir(dir), 0);
	autofd fd = fs_open_root("x/y", 0, &e);
	autofd here = fs_open_root(".", 0, &e);
	assert_int_equal(fchdir(old), 0);
	assert_true(fd >= 0);
	assert_true(here >= 0);
	assert_int_equal(mode_of(dir, "x/y"), 0755);
	autofd top = fs_open_root("///", 0, &e);
	assert_true(top >= 0);
}

TEST(fs_open_root__file_or_empty_or_too_long__state)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	put(dir, "f", "");
	char longer[5000];
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(fs_open_root(in_folder("f"), 0700, &e), -1);
	assert_int_equal(fs_open_root(in_folder("f/g"), 0700, &e), -1);
	assert_int_equal(fs_open_root("", 0700, &e), -1);
	assert_int_equal(fs_open_root(longer, 0700, &e), -1);
	assert_err(e.code, ERR_FOLDER);
	assert_int_equal(mode_of(dir, "f"), 0644);
}

/* ---- fs_open_at ---- */

TEST(fs_open_at__create__mode_whatever_the_umask)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	mode_t old = umask(0777);
	autofd a = fs_open_at(dir, "a", O_WRONLY | O_CREAT, 0, &e);
	umask(0);
	autofd b = fs_open_at(dir, "b", O_WRONLY | O_CREAT | O_EXCL, 0600, &e);
	umask(old);
	assert_true(a >= 0 && b >= 0);
	assert_int_equal(mode_of(dir, "a"), 0644);
	assert_int_equal(mode_of(dir, "b"), 0600);
	assert_int_equal(fcntl(a, F_GETFD), FD_CLOEXEC);
}

TEST(fs_open_at__create_existing__opened_mode_kept)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	put(dir, "a", "old");
	assert_int_equal(fchmodat(dir, "a", 0600, 0), 0);
	autofd fd = fs_open_at(dir, "a", O_RDWR | O_CREAT, 0644, &e);
	assert_true(fd >= 0);
	assert_int_equal(mode_of(dir, "a"), 0600);
	assert_text(dir, "a", "old");
	assert_int_equal(fs_open_at(dir, "a", O_RDWR | O_CREAT | O_EXCL, 0, &e), -1);
	assert_int_equal(errno, EEXIST);
	autofd cut = fs_open_at(dir, "a", O_WRONLY | O_TRUNC, 0, &e);
	assert_true(cut >= 0);
	assert_text(dir, "a", "");
}

TEST(fs_open_at__way_out__refused)
{
	static const char *const out[] = {
		"..", "../x", "/etc/passwd", "sub/../../x", "link", "dirlink/x",
		"sub/up/x", "proc", "absolute/passwd", "dangling",
	};
	struct err e = { 0 };
	autofd dir = new_folder();
	assert_int_equal(mkdirat(dir, "sub", 0700), 0);
	put(dir, "x", "");
	put(dir, "sub/x", "");
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
	assert_false(is_there(dir, "made"));
}

TEST(fs_open_at__pipe__refused_without_waiting)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	assert_int_equal(mkfifoat(dir, "pipe", 0600), 0);
	assert_int_equal(fs_open_at(dir, "pipe", O_RDONLY, 0, &e), -1);
	assert_non_null(strstr(e.text, "neither"));
	assert_int_equal(fs_open_at(dir, "pipe", O_WRONLY | O_CREAT, 0, &e), -1);
	assert_int_equal(fs_open_at(dir, "pipe", O_RDWR, 0, &e), -1);
}

TEST(fs_open_at__hard_link__read_but_not_written_nor_cut)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	put(dir, "a", "canary");
	assert_int_equal(linkat(dir, "a", dir, "b", 0), 0);
	autofd fd = fs_open_at(dir, "b", O_RDONLY, 0, &e);
	assert_true(fd >= 0);
	assert_int_equal(
		fs_open_at(dir, "b", O_WRONLY | O_CREAT | O_TRUNC, 0, &e), -1);
	assert_non_null(strstr(e.text, "hard link"));
	assert_text(dir, "a", "canary");
}

TEST(fs_open_at__absent__errno_tells)
{
	struct err e = { 0 };
	autofd dir = new_folder();
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
	autofd outside = new_folder();
	put(outside, "x", "canary");
	char target[128];
	snprintf(target, sizeof(target), "%s", folder);
	autofd dir = new_folder();
	assert_int_equal(mkdirat(dir, "flip", 0700), 0);
	assert_int_equal(symlinkat(target, dir, "flop"), 0);
	put(dir, "flip/x", "inside");
	pid_t pid = start_flipper(dir);
	int opened = 0, escaped = 0, removed = 0;
	for (int i = 0; i < 5000; i++) {
		autofd fd = fs_open_at(dir, "flip/x", O_RDONLY, 0, &e);
		char c = 0;
		if (fd >= 0 && read(fd, &c, 1) == 1)
			opened++, escaped += c == 'c';
		autofd made = fs_open_at(dir, "flip/n", O_WRONLY | O_CREAT, 0, &e);
		(void)made;
		removed += fs_remove_tree(dir, "flip/n", &e) == ERR_OK;
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(escaped, 0);
	assert_true(opened > 0 && removed > 0);
	assert_int_equal(count_entries(outside), 1);
}

/* ---- folders ---- */

TEST(fs_make_dirs__nested__made_with_modes)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	mode_t old = umask(077);
	assert_ok(fs_make_dirs(dir, "a/b//c/", &e));
	assert_ok(fs_make_dirs(dir, "a/b/c", &e));
	assert_ok(fs_make_parents(dir, "a/x/file", &e));
	assert_ok(fs_make_parents(dir, "file", &e));
	umask(old);
	assert_int_equal(mode_of(dir, "a/b/c"), 0755);
	assert_int_equal(mode_of(dir, "a/x"), 0755);
	assert_false(is_there(dir, "a/x/file"));
	assert_false(is_there(dir, "file"));
}

TEST(fs_make_dirs__way_out_or_file__refused)
{
	static const char *const bad[] = { "../x", "/tmp/x", "a/../../x", "link/x",
					   "file/x", "file", "", "link" };
	struct err e = { 0 };
	autofd outside = new_folder();
	char target[128];
	snprintf(target, sizeof(target), "%s", folder);
	autofd dir = new_folder();
	assert_int_equal(symlinkat(target, dir, "link"), 0);
	put(dir, "file", "");
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_err(fs_make_dirs(dir, bad[i], &e), ERR_FOLDER);
	assert_int_equal(count_entries(outside), 0);
	assert_err(fs_make_parents(dir, "/x", &e), ERR_FOLDER);
}

/* ---- fs_remove_tree ---- */

TEST(fs_remove_tree__file_link_folder_or_nothing__gone)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	put(dir, "file", "x");
	assert_int_equal(mkdirat(dir, "empty", 0700), 0);
	assert_int_equal(symlinkat("/etc", dir, "link"), 0);
	assert_ok(fs_remove_tree(dir, "file", &e));
	assert_ok(fs_remove_tree(dir, "empty", &e));
	assert_ok(fs_remove_tree(dir, "link", &e));
	assert_ok(fs_remove_tree(dir, "absent", &e));
	assert_ok(fs_remove_tree(dir, "absent/below", &e));
	assert_int_equal(count_entries(dir), 0);
	assert_true(is_there(AT_FDCWD, "/etc/passwd"));
}

TEST(fs_remove_tree__odd_tree__gone_links_not_followed)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	put(dir, "canary", "x");
	assert_ok(fs_make_dirs(dir, "t/a/b/c", &e));
	assert_ok(fs_make_dirs(dir, "t/a/d/.remove-0", &e));
	assert_ok(fs_make_dirs(dir, "t/.remove-0/.remove-1/.remove-0", &e));
	put(dir, "t/.remove-0/.remove-1/f", "");
	put(dir, "t/a/b/c/ \n\xff\\", "");
	put(dir, "t/a/d/.remove-0/x", "");
	put(dir, "t/-rf", "");
	symlinkat("../../canary", dir, "t/a/link");
	symlinkat("../..", dir, "t/a/b/up");
	mkfifoat(dir, "t/a/pipe", 0);
	for (int i = 0; i < 300; i++) {
		char path[64];
		snprintf(path, sizeof(path), "t/wide/%d/x", i);
		assert_ok(fs_make_dirs(dir, path, &e));
	}
	assert_ok(fs_remove_tree(dir, "t", &e));
	assert_false(is_there(dir, "t"));
	assert_text(dir, "canary", "x");
}

TEST(fs_remove_tree__3000_deep__gone)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	int at = dup(dir);
	for (int i = 0; i < 3000; i++) {
		static const char name[] = "component-of-a-very-deep-path";
		assert_int_equal(mkdirat(at, name, 0700), 0);
		put(at, "f", "");
		int next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(at);
		at = next;
	}
	close(at);
	assert_ok(fs_remove_tree(dir, "component-of-a-very-deep-path", &e));
	assert_int_equal(count_entries(dir), 1); /* "f" of the first round */
}

TEST(fs_remove_tree__way_out_or_no_name__refused)
{
	static const char *const bad[] = { "..", ".", "", "../x", "/tmp/x", "a/..",
					   "link/x", "a/" };
	struct err e = { 0 };
	autofd outside = new_folder();
	put(outside, "x", "");
	char target[128];
	snprintf(target, sizeof(target), "%s", folder);
	autofd dir = new_folder();
	assert_int_equal(mkdirat(dir, "a", 0700), 0);
	assert_int_equal(symlinkat(target, dir, "link"), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_err(fs_remove_tree(dir, bad[i], &e), ERR_FOLDER);
	assert_true(is_there(outside, "x"));
	assert_true(is_there(dir, "a"));
}

/* Run in a child of another user; the exit status is 0 when all went well. */
static int in_child(int (*run)(int dir), int dir, uid_t uid)
{
	pid_t pid = fork();
	if (pid == 0) {
		if (uid && (setgid(uid) != 0 || setuid(uid) != 0))
			_exit(77);
		_exit(run(dir));
	}
	int status = 0;
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static int remove_without_rights(int dir)
{
	struct err e = { 0 };
	if (fs_make_dirs(dir, "t/a/b/c", &e) || fs_make_dirs(dir, "t/d/e", &e))
		return 1;
	if (fchmodat(dir, "t/a/b/c", 0, 0) || fchmodat(dir, "t/a/b", 0500, 0) ||
	    fchmodat(dir, "t/a", 0, 0) || fchmodat(dir, "t/d/e", 0, 0) ||
	    fchmodat(dir, "t", 0100, 0))
		return 2;
	if (fs_remove_tree(dir, "t", &e) != ERR_OK)
		return 3;
	return is_there(dir, "t") ? 4 : 0;
}

TEST(fs_remove_tree__own_rights_taken_away__gone)
{
	autofd dir = new_folder();
	uid_t uid = 0;
	if (geteuid() == 0) {
		uid = 65534;
		assert_int_equal(fchown(dir, uid, uid), 0);
	}
	assert_int_equal(in_child(remove_without_rights, dir, uid), 0);
}

/* A name space of our own with a file system of 64 KiB in "t/m". The folder is
 * entered anew: what was open before stays in the old name space. */
static int mount_small(void)
{
	struct err e = { 0 };
	if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 || chdir(folder) != 0 ||
	    fs_make_dirs(AT_FDCWD, "t/m", &e) != ERR_OK)
		return -1;
	(void)mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
	if (mount("none", "t/m", "tmpfs", 0, "size=64k,mode=0755") != 0)
		return -1;
	return open("t/m", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int remove_mounted(__attribute__((unused)) int dir)
{
	struct err e = { 0 };
	autofd in = mount_small();
	if (in < 0)
		return 77;
	autofd canary = openat(in, "canary", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (canary < 0 || fs_remove_tree(AT_FDCWD, "t", &e) != ERR_FOLDER)
		return 1;
	return is_there(in, "canary") ? 0 : 2;
}

TEST(fs_remove_tree__other_file_system_inside__left_alone)
{
	autofd dir = new_folder();
	int status = in_child(remove_mounted, dir, 0);
	if (status == 77)
		skip();
	assert_int_equal(status, 0);
}

static int fill_disk(__attribute__((unused)) int dir)
{
	static const char block[128 << 10] = "x";
	struct err e = { 0 };
	autofd in = mount_small();
	if (in < 0)
		return 77;
	if (fs_replace(in, "state", "old", 3, 0, &e) != ERR_OK)
		return 1;
	if (fs_replace(in, "state", block, sizeof(block), 0, &e) != ERR_SPACE_DISK)
		return 2;
	if (count_entries(in) != 1) /* no temporary file is left */
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
	autofd dir = new_folder();
	int status = in_child(fill_disk, dir, 0);
	if (status == 77)
		skip();
	assert_int_equal(status, 0);
}

/* ---- walking ---- */

TEST(fs_tree_size__tree__regular_files_only)
{
	struct err e = { 0 };
	uint64_t bytes = 0, files = 0;
	autofd dir = new_folder();
	assert_ok(fs_make_dirs(dir, "t/a/b", &e));
	put(dir, "t/one", "1");
	put(dir, "t/a/b/three", "333");
	put(dir, "t/a/zero", "");
	symlinkat("/etc/passwd", dir, "t/link");
	assert_ok(fs_tree_size(dir, "t", &bytes, &files, &e));
	assert_int_equal(bytes, 4);
	assert_int_equal(files, 3);
	assert_ok(fs_tree_size(dir, ".", &bytes, NULL, &e));
	assert_int_equal(bytes, 4);
	assert_err(fs_tree_size(dir, "absent", &bytes, &files, &e), ERR_FOLDER);
	assert_err(fs_tree_size(dir, "t/link", &bytes, &files, &e), ERR_FOLDER);
	assert_err(fs_tree_size(dir, "..", &bytes, &files, &e), ERR_FOLDER);
}

TEST(fs_sync_dirs__tree__ok)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	assert_ok(fs_make_dirs(dir, "t/a/b", &e));
	assert_ok(fs_make_dirs(dir, "t/c", &e));
	assert_ok(fs_sync_dirs(dir, "t", &e));
	assert_ok(fs_sync_dirs(dir, ".", &e));
	assert_err(fs_sync_dirs(dir, "absent", &e), ERR_FOLDER);
}

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
	autofd from = new_folder();
	autofd to = new_folder();
	put(from, "f", "x");
	assert_ok(fs_make_dirs(from, "d/e", &e));
	assert_ok(fs_publish(from, "f", to, "g", &e));
	assert_ok(fs_publish(from, "d", to, "h", &e));
	assert_ok(fs_publish(to, "g", to, "h/e/g", &e));
	assert_true(is_there(to, "h/e/g"));
	assert_int_equal(count_entries(from), 0);
}

TEST(fs_publish__name_taken__state_and_kept)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	put(dir, "f", "new");
	put(dir, "g", "old");
	assert_int_equal(symlinkat("x", dir, "l"), 0);
	assert_err(fs_publish(dir, "f", dir, "g", &e), ERR_FOLDER);
	assert_err(fs_publish(dir, "f", dir, "l", &e), ERR_FOLDER);
	assert_text(dir, "g", "old");
	assert_text(dir, "f", "new");
}

TEST(fs_publish__way_out__refused)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	put(dir, "f", "x");
	assert_int_equal(symlinkat("..", dir, "up"), 0);
	assert_err(fs_publish(dir, "f", dir, "../g", &e), ERR_FOLDER);
	assert_err(fs_publish(dir, "f", dir, "up/g", &e), ERR_FOLDER);
	assert_err(fs_publish(dir, "f", dir, "..", &e), ERR_FOLDER);
	assert_err(fs_publish(dir, "f", dir, "", &e), ERR_FOLDER);
	assert_err(fs_publish(dir, "absent", dir, "g", &e), ERR_FOLDER);
	assert_true(is_there(dir, "f"));
}

TEST(fs_write_at__offset__bytes_there)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	autofd fd = fs_open_at(dir, "f", O_RDWR | O_CREAT, 0, &e);
	assert_ok(fs_write_at(fd, "world", 5, 6, "f", &e));
	assert_ok(fs_write_at(fd, "hello ", 6, 0, "f", &e));
	assert_ok(fs_write_at(fd, NULL, 0, 0, "f", &e));
	assert_text(dir, "f", "hello world");
}

TEST(fs_write_at__impossible__state)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	put(dir, "f", "");
	autofd fd = fs_open_at(dir, "f", O_RDONLY, 0, &e);
	assert_err(fs_write_at(fd, "x", 1, 0, "f", &e), ERR_FOLDER);
	assert_err(fs_write_at(fd, "x", 1, UINT64_MAX, "f", &e), ERR_FOLDER);
	assert_err(fs_write_at(fd, "x", 1, INT64_MAX, "f", &e), ERR_FOLDER);
}

TEST(fs_replace__new_and_old__whole_and_alone)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	mode_t old = umask(0777);
	assert_ok(fs_replace(dir, "f", "one", 3, 0600, &e));
	assert_ok(fs_replace(dir, "f", "two two", 7, 0, &e));
	umask(old);
	assert_text(dir, "f", "two two");
	assert_int_equal(mode_of(dir, "f"), 0644);
	assert_int_equal(count_entries(dir), 1);
}

TEST(fs_replace__link_there__link_replaced_not_followed)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	put(dir, "canary", "x");
	assert_int_equal(symlinkat("canary", dir, "f"), 0);
	assert_ok(fs_replace(dir, "f", "new", 3, 0, &e));
	assert_text(dir, "canary", "x");
	assert_text(dir, "f", "new");
}

TEST(fs_replace__impossible__state_nothing_left)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	assert_int_equal(mkdirat(dir, "d", 0700), 0);
	assert_err(fs_replace(dir, "d", "x", 1, 0, &e), ERR_FOLDER);
	assert_err(fs_replace(dir, "../x", "x", 1, 0, &e), ERR_FOLDER);
	assert_err(fs_replace(dir, "no/x", "x", 1, 0, &e), ERR_FOLDER);
	char name[251];
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_err(fs_replace(dir, name, "x", 1, 0, &e), ERR_FOLDER);
	assert_int_equal(count_entries(dir), 1);
}

/* ---- reading ---- */

TEST(fs_read_all__up_to_max__read_above__state)
{
	struct err e = { 0 };
	autofd dir = new_folder();
	put(dir, "f", "12345");
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
	autofd dir = new_folder();
	char *block = calloc(1, 100000);
	assert_ok(fs_replace(dir, "f", block, 100000, 0, &e));
	free(block);
	autobuf b = { 0 };
	assert_ok(fs_read_all(AT_FDCWD, in_folder("f"), &b, &e));
	assert_int_equal(b.len, 100000);
	autobuf small = { .max = 99999 };
	assert_err(fs_read_all(dir, "f", &small, &e), ERR_FOLDER);
}

TEST(fs_read_all__link__followed)
{
	autofd dir = new_folder();
	put(dir, "f", "text");
	assert_int_equal(symlinkat("f", dir, "link"), 0);
	assert_text(dir, "link", "text");
}

TEST(fs_read_all__pipe_folder_or_absent__state)
{
	struct err e = { 0 };
	autobuf b = { 0 };
	autofd dir = new_folder();
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
	autofd dir = new_folder();
	assert_ok(fs_space(dir, &room, &total, &e));
	assert_true(total > 0 && room <= total);
	assert_err(fs_space(-1, &room, &total, &e), ERR_FOLDER);
}

/* ---- notes ---- */

TEST(fs_note__set_get_drop__as_set)
{
	struct err e = { 0 };
	char text[16] = "?";
	autofd dir = new_folder();
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
