#include "tests/unit/files.h"

#include "tests/unit/test.h"

#include "common/fs.h"
#include "common/own.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char folder[128];

int files_new(void)
{
	snprintf(folder, sizeof(folder), "%s", test_folder());
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

const char *files_path(const char *name)
{
	static char path[256];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

void files_put(int dir, const char *path, const char *text)
{
	autofd fd = openat(dir, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

mode_t files_mode(int dir, const char *path)
{
	struct stat st;
	assert_int_equal(fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_mode & 07777;
}

bool files_there(int dir, const char *path)
{
	return faccessat(dir, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

unsigned files_count(int dir)
{
	autofd fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(take_fd(&fd));
	unsigned n = 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

void files_assert(int dir, const char *path, const char *want)
{
	struct err e = { 0 };
	autobuf b = { 0 };
	assert_ok(fs_read_all(dir, path, &b, &e));
	assert_string_equal(b.at ? b.at : "", want);
}

/* Run in a child of another user; the exit status is 0 when all went well. */
int files_in_child(int (*run)(int dir), int dir, uid_t uid)
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

/* A name space of our own with a file system of 64 KiB in "t/m". The folder is
 * entered anew: what was open before stays in the old name space. */
int files_mount_small(void)
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
