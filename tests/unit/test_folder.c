#include "tests/unit/test.h"

#include "common/folder.h"
#include "common/fs.h"
#include "common/own.h"
#include "tests/unit/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- folder_remove ---- */

TEST(folder_remove__file_link_folder_or_nothing__gone)
{
	struct err e = { 0 };
	autofd dir = files_new();
	files_put(dir, "file", "x");
	assert_int_equal(mkdirat(dir, "empty", 0700), 0);
	assert_int_equal(symlinkat("/etc", dir, "link"), 0);
	assert_ok(folder_remove(dir, "file", &e));
	assert_ok(folder_remove(dir, "empty", &e));
	assert_ok(folder_remove(dir, "link", &e));
	assert_ok(folder_remove(dir, "absent", &e));
	assert_ok(folder_remove(dir, "absent/below", &e));
	assert_int_equal(files_count(dir), 0);
	assert_true(files_there(AT_FDCWD, "/etc/passwd"));
}

TEST(folder_remove__odd_tree__gone_links_not_followed)
{
	struct err e = { 0 };
	autofd dir = files_new();
	files_put(dir, "canary", "x");
	assert_ok(fs_make_dirs(dir, "t/a/b/c", &e));
	assert_ok(fs_make_dirs(dir, "t/a/d/.remove-0", &e));
	assert_ok(fs_make_dirs(dir, "t/.remove-0/.remove-1/.remove-0", &e));
	files_put(dir, "t/.remove-0/.remove-1/f", "");
	files_put(dir, "t/a/b/c/ \n\xff\\", "");
	files_put(dir, "t/a/d/.remove-0/x", "");
	files_put(dir, "t/-rf", "");
	symlinkat("../../canary", dir, "t/a/link");
	symlinkat("../..", dir, "t/a/b/up");
	mkfifoat(dir, "t/a/pipe", 0);
	for (int i = 0; i < 300; i++) {
		char path[64];
		snprintf(path, sizeof(path), "t/wide/%d/x", i);
		assert_ok(fs_make_dirs(dir, path, &e));
	}
	assert_ok(folder_remove(dir, "t", &e));
	assert_false(files_there(dir, "t"));
	files_assert(dir, "canary", "x");
}

TEST(folder_remove__3000_deep__gone)
{
	struct err e = { 0 };
	autofd dir = files_new();
	int at = dup(dir);
	for (int i = 0; i < 3000; i++) {
		static const char name[] = "component-of-a-very-deep-path";
		assert_int_equal(mkdirat(at, name, 0700), 0);
		files_put(at, "f", "");
		int next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(at);
		at = next;
	}
	close(at);
	assert_ok(folder_remove(dir, "component-of-a-very-deep-path", &e));
	assert_int_equal(files_count(dir), 1); /* "f" of the first round */
}

TEST(folder_remove__way_out_or_no_name__refused)
{
	static const char *const bad[] = { "..", ".", "", "../x", "/tmp/x", "a/..",
					   "link/x", "a/" };
	struct err e = { 0 };
	autofd outside = files_new();
	files_put(outside, "x", "");
	char target[128];
	snprintf(target, sizeof(target), "%s", files_path(""));
	autofd dir = files_new();
	assert_int_equal(mkdirat(dir, "a", 0700), 0);
	assert_int_equal(symlinkat(target, dir, "link"), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_err(folder_remove(dir, bad[i], &e), ERR_FOLDER);
	assert_true(files_there(outside, "x"));
	assert_true(files_there(dir, "a"));
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
	if (folder_remove(dir, "t", &e) != ERR_OK)
		return 3;
	return files_there(dir, "t") ? 4 : 0;
}

TEST(folder_remove__own_rights_taken_away__gone)
{
	autofd dir = files_new();
	uid_t uid = 0;
	if (geteuid() == 0) {
		uid = 65534;
		assert_int_equal(fchown(dir, uid, uid), 0);
	}
	assert_int_equal(files_in_child(remove_without_rights, dir, uid), 0);
}

static int remove_mounted(__attribute__((unused)) int dir)
{
	struct err e = { 0 };
	autofd in = files_mount_small();
	if (in < 0)
		return 77;
	autofd canary = openat(in, "canary", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (canary < 0 || folder_remove(AT_FDCWD, "t", &e) != ERR_FOLDER)
		return 1;
	return files_there(in, "canary") ? 0 : 2;
}

TEST(folder_remove__other_file_system_inside__left_alone)
{
	autofd dir = files_new();
	int status = files_in_child(remove_mounted, dir, 0);
	if (status == 77)
		skip();
	assert_int_equal(status, 0);
}

/* ---- walking ---- */

TEST(folder_size__tree__regular_files_only)
{
	struct err e = { 0 };
	uint64_t bytes = 0, files = 0;
	autofd dir = files_new();
	assert_ok(fs_make_dirs(dir, "t/a/b", &e));
	files_put(dir, "t/one", "1");
	files_put(dir, "t/a/b/three", "333");
	files_put(dir, "t/a/zero", "");
	symlinkat("/etc/passwd", dir, "t/link");
	assert_ok(folder_size(dir, "t", &bytes, &files, &e));
	assert_int_equal(bytes, 4);
	assert_int_equal(files, 3);
	assert_ok(folder_size(dir, ".", &bytes, NULL, &e));
	assert_int_equal(bytes, 4);
	assert_err(folder_size(dir, "absent", &bytes, &files, &e), ERR_FOLDER);
	assert_err(folder_size(dir, "t/link", &bytes, &files, &e), ERR_FOLDER);
	assert_err(folder_size(dir, "..", &bytes, &files, &e), ERR_FOLDER);
}

TEST(folder_sync__tree__ok)
{
	struct err e = { 0 };
	autofd dir = files_new();
	assert_ok(fs_make_dirs(dir, "t/a/b", &e));
	assert_ok(fs_make_dirs(dir, "t/c", &e));
	assert_ok(folder_sync(dir, "t", &e));
	assert_ok(folder_sync(dir, ".", &e));
	assert_err(folder_sync(dir, "absent", &e), ERR_FOLDER);
}
