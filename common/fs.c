#include "common/fs.h"

#include "common/clock.h"
#include "common/own.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#define FILE_MODE 0644
#define FOLDER_MODE 0755
#define BENEATH (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
#define READ_FOLDER (O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
#define TRIES 16 /* against EAGAIN, and names that come and go */

enum err_code fs_fail(struct err *e, const char *what, const char *path)
{
	int no = errno;
	bool is_full = no == ENOSPC || no == EDQUOT;
	enum err_code rc = err_set(e, is_full ? ERR_SPACE_DISK : ERR_FOLDER,
				   "%s %.200s: %m", what, path);
	errno = no;
	return rc;
}

static enum err_code fail_as(struct err *e, int no, const char *what,
			     const char *path)
{
	errno = no;
	return fs_fail(e, what, path);
}

static int open2(int dir_fd, const char *path, int flags, mode_t mode,
		 uint64_t resolve)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.mode = mode,
		.resolve = resolve,
	};
	long fd = -1;
	/* EAGAIN: a rename went on somewhere while ".." was checked. */
	for (int i = 0; i < TRIES; i++) {
		fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return (int)fd;
}

/* A file that we have just made: has the umask taken rights away? */
static int set_mode(int fd, mode_t mode)
{
	struct stat st;
	if (fstat(fd, &st) == 0 &&
	    ((st.st_mode & 07777) == mode || fchmod(fd, mode) == 0))
		return fd;
	close(fd);
	return -1;
}

/* Make it exclusively first: only so do we know that the mode is ours to set. */
static int open_or_make(int dir_fd, const char *path, int flags, mode_t mode)
{
	for (int i = 0; i < TRIES; i++) {
		int fd = open2(dir_fd, path, flags | O_EXCL, mode, BENEATH);
		if (fd >= 0)
			return set_mode(fd, mode);
		if (errno != EEXIST || (flags & O_EXCL))
			return -1;
		fd = open2(dir_fd, path, flags & ~O_CREAT, 0, BENEATH);
		if (fd >= 0 || errno != ENOENT)
			return fd;
	}
	return -1;
}

/*
 * What was opened may have been planted: pipes, devices and sockets are
 * refused, and files with another name are not written to (threats F2, F6).
 */
static const char *refuse_kind(int fd, int flags, struct stat *st)
{
	if (flags & O_PATH)
		return NULL;
	if (fstat(fd, st) != 0)
		return "cannot be examined";
	if (S_ISDIR(st->st_mode))
		return NULL;
	if (!S_ISREG(st->st_mode))
		return "is neither a file nor a folder";
	if ((flags & O_ACCMODE) != O_RDONLY && st->st_nlink > 1)
		return "has a second name (hard link)";
	return NULL;
}

int fs_open_at(int dir_fd, const char *path, int flags, mode_t mode,
	       struct err *e)
{
	struct stat st;
	return fs_open_stat(dir_fd, path, flags, mode, &st, e);
}

int fs_open_stat(int dir_fd, const char *path, int flags, mode_t mode,
		 struct stat *st, struct err *e)
{
	/* Without O_NONBLOCK a planted pipe would hold us up for ever; cutting
	 * to zero bytes waits until we know what we have. */
	int how = (flags & ~O_TRUNC) | O_NOFOLLOW;
	if (!(flags & O_PATH))
		how |= O_NONBLOCK;
	int fd = flags & O_CREAT ?
			 open_or_make(dir_fd, path, how, mode ? mode : FILE_MODE) :
			 open2(dir_fd, path, how, 0, BENEATH);
	if (fd < 0) {
		fs_fail(e, "open", path);
		return -1;
	}
	const char *reason = refuse_kind(fd, flags, st);
	if (reason) {
		close(fd);
		err_set(e, ERR_FOLDER, "open %.200s: it %s", path, reason);
		errno = EPERM;
		return -1;
	}
	if ((flags & O_TRUNC) && ftruncate(fd, 0) != 0) {
		fs_fail(e, "empty", path);
		close(fd);
		return -1;
	}
	return fd;
}

/* Make one folder, or take the one there is; fd or -1 with errno. */
static int make_folder(int dir_fd, const char *name, mode_t mode,
		       uint64_t resolve)
{
	/* Under umask 0777 we could not even open what we made. */
	mode_t old = umask(0);
	bool is_ours = mkdirat(dir_fd, name, mode) == 0;
	umask(old);
	if (!is_ours && errno != EEXIST)
		return -1;
	autofd fd = open2(dir_fd, name, READ_FOLDER, 0, resolve);
	if (fd >= 0 && is_ours && fchmod(fd, mode) != 0)
		return -1;
	return take_fd(&fd);
}

/* One step down an administrator's path; his links are followed. */
static int enter_root(int dir_fd, const char *name)
{
	int fd = open2(dir_fd, name, O_PATH | O_DIRECTORY, 0, 0);
	if (fd < 0 && errno == ENOENT)
		fd = make_folder(dir_fd, name, FOLDER_MODE, 0);
	return fd;
}

/* The path, without slashes at its end: those would follow a last link. */
static bool copy_path(const char *path, char at[PATH_MAX])
{
	size_t len = strlen(path);
	while (len > 1 && path[len - 1] == '/')
		len--;
	errno = len ? ENAMETOOLONG : ENOENT;
	if (len == 0 || len >= PATH_MAX)
		return false;
	memcpy(at, path, len);
	at[len] = '\0';
	return true;
}

static int open_root(const char *path, mode_t mode)
{
	char at[PATH_MAX], *name = at;
	if (!copy_path(path, at))
		return -1;
	autofd dir = open2(AT_FDCWD, at[0] == '/' ? "/" : ".",
			   O_PATH | O_DIRECTORY, 0, 0);
	for (char *slash; dir >= 0 && (slash = strchr(name, '/')) != NULL;
	     name = slash + 1) {
		*slash = '\0';
		if (slash == name)
			continue;
		int next = enter_root(dir, name);
		own_close(&dir);
		dir = next;
	}
	if (dir < 0)
		return -1;
	if (name[0] == '\0') { /* only of "/" nothing is left */
		memcpy(at, ".", 2);
		name = at;
	}
	int fd = open2(dir, name, READ_FOLDER, 0, 0);
	if (fd < 0 && errno == ENOENT)
		fd = make_folder(dir, name, mode ? mode : FOLDER_MODE, 0);
	return fd;
}

int fs_open_root(const char *path, mode_t mode, struct err *e)
{
	autofd fd = open_root(path, mode);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) != 0) {
		fs_fail(e, "open folder", path);
		return -1;
	}
	if (st.st_uid != geteuid() && st.st_uid != 0) {
		err_set(e, ERR_FOLDER,
			"open folder %.200s: it belongs to user %u, not to us or root",
			path, (unsigned)st.st_uid);
		return -1;
	}
	if (st.st_mode & (S_IWGRP | S_IWOTH)) {
		err_set(e, ERR_FOLDER,
			"open folder %.200s: group or others may write to it (%04o)",
			path, (unsigned)(st.st_mode & 07777));
		return -1;
	}
	return take_fd(&fd);
}

enum err_code fs_make_dirs(int dir_fd, const char *path, struct err *e)
{
	char at[PATH_MAX], *rest = at;
	if (path[0] == '/')
		return fail_as(e, EXDEV, "make folder", path);
	if (!copy_path(path, at))
		return fs_fail(e, "make folder", path);
	autofd dir = open2(dir_fd, at, READ_FOLDER, 0, BENEATH);
	if (dir >= 0)
		return ERR_OK;
	dir = open2(dir_fd, ".", READ_FOLDER, 0, BENEATH);
	for (char *name; dir >= 0 && (name = strsep(&rest, "/")) != NULL;) {
		if (name[0] == '\0')
			continue;
		int next = make_folder(dir, name, FOLDER_MODE, BENEATH);
		own_close(&dir);
		dir = next;
	}
	return dir < 0 ? fs_fail(e, "make folder", path) : ERR_OK;
}

enum err_code fs_make_parents(int dir_fd, const char *path, struct err *e)
{
	char at[PATH_MAX];
	const char *slash = strrchr(path, '/');
	if (slash == NULL)
		return ERR_OK;
	if ((size_t)(slash - path) >= sizeof(at))
		return fail_as(e, ENAMETOOLONG, "make folder", path);
	snprintf(at, sizeof(at), "%.*s", (int)(slash - path), path);
	return fs_make_dirs(dir_fd, at, e);
}

int fs_enter(int dir_fd, const char *path, bool may_cross)
{
	return open2(dir_fd, path, READ_FOLDER, 0,
		     may_cross ? BENEATH : BENEATH | RESOLVE_NO_XDEV);
}

int fs_enter_parent(int dir_fd, const char *path, const char **name)
{
	char at[PATH_MAX] = ".";
	const char *slash = strrchr(path, '/');
	*name = slash ? slash + 1 : path;
	errno = EINVAL;
	if (!**name || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0)
		return -1;
	errno = ENAMETOOLONG;
	if (slash && (size_t)(slash - path) >= sizeof(at))
		return -1;
	if (slash) /* "/name" leaves "/", which openat2 refuses */
		snprintf(at, sizeof(at), "%.*s",
			 slash == path ? 1 : (int)(slash - path), path);
	return fs_enter(dir_fd, at, true);
}

/* ---- writing and reading ---- */

enum err_code fs_sync(int fd, const char *what, struct err *e)
{
	while (fsync(fd) != 0)
		if (errno != EINTR)
			return fs_fail(e, "sync", what);
	return ERR_OK;
}

static bool is_same(int a, int b)
{
	struct stat x, y;
	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

enum err_code fs_publish(int old_dir_fd, const char *old_name, int new_dir_fd,
			 const char *new_name, struct err *e)
{
	const char *from_name, *to_name;
	autofd from = fs_enter_parent(old_dir_fd, old_name, &from_name);
	if (from < 0)
		return fs_fail(e, "publish", old_name);
	autofd to = fs_enter_parent(new_dir_fd, new_name, &to_name);
	if (to < 0 ||
	    renameat2(from, from_name, to, to_name, RENAME_NOREPLACE) != 0)
		return fs_fail(e, "publish", new_name);
	enum err_code rc = fs_sync(to, new_name, e);
	if (rc == ERR_OK && !is_same(from, to))
		rc = fs_sync(from, old_name, e);
	return rc;
}

enum err_code fs_write_at(int fd, const void *bytes, size_t len, uint64_t offset,
			  const char *what, struct err *e)
{
	const char *at = bytes;
	if (offset > INT64_MAX - len || len > INT64_MAX)
		return fail_as(e, EFBIG, "write", what);
	while (len) {
		ssize_t n = pwrite(fd, at, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail_as(e, n ? errno : EIO, "write", what);
		at += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return ERR_OK;
}

/* Temporary names are ".NAME.xxxxxxxx.new": as they begin with a dot, no id
 * (relpath_check_id) can be one. */
static int make_temporary(int dir_fd, const char *name, mode_t mode,
			  char temporary[NAME_MAX + 1])
{
	for (int i = 0; i < TRIES; i++) {
		int n = snprintf(temporary, NAME_MAX + 1, ".%s.%08x.new", name,
				 clock_chance());
		errno = ENAMETOOLONG;
		if (n < 0 || n > NAME_MAX)
			return -1;
		int fd = open_or_make(dir_fd, temporary,
				      O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW,
				      mode);
		if (fd >= 0 || errno != EEXIST)
			return fd;
	}
	return -1;
}

enum err_code fs_replace(int dir_fd, const char *name, const void *bytes,
			 size_t len, mode_t mode, struct err *e)
{
	const char *last;
	char temporary[NAME_MAX + 1];
	autofd dir = fs_enter_parent(dir_fd, name, &last);
	if (dir < 0)
		return fs_fail(e, "write", name);
	autofd fd = make_temporary(dir, last, mode ? mode : FILE_MODE, temporary);
	if (fd < 0)
		return fs_fail(e, "write", name);
	enum err_code rc = fs_write_at(fd, bytes, len, 0, name, e);
	if (rc == ERR_OK)
		rc = fs_sync(fd, name, e);
	if (rc == ERR_OK && renameat(dir, temporary, dir, last) != 0)
		rc = fs_fail(e, "write", name);
	if (rc != ERR_OK) {
		unlinkat(dir, temporary, 0);
		return rc;
	}
	return fs_sync(dir, name, e);
}

enum err_code fs_read_all(int dir_fd, const char *path, struct buf *out,
			  struct err *e)
{
	/* A pipe must not hold us up before it is refused. */
	autofd fd = open2(dir_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, 0);
	if (fd < 0)
		return fs_fail(e, "open", path);
	return fs_read_fd(fd, path, out, e);
}

enum err_code fs_read_fd(int fd, const char *what, struct buf *out,
			 struct err *e)
{
	struct stat st;
	char block[16 << 10];
	buf_clear(out);
	if (fstat(fd, &st) != 0)
		return fs_fail(e, "read", what);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_FOLDER, "read %.200s: it is no regular file",
			       what);
	for (uint64_t at = 0;;) {
		ssize_t n = pread(fd, block, sizeof(block), (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fs_fail(e, "read", what);
		if (n == 0)
			return ERR_OK;
		at += (uint64_t)n;
		buf_add(out, block, (size_t)n);
		if (!out->failed)
			continue;
		size_t max = out->max ? out->max : (1u << 20);
		if (at <= max)
			return err_set(e, ERR_NOMEM, "read %.200s: no memory", what);
		return err_set(e, ERR_FOLDER,
			       "read %.200s: it has more than %zu bytes", what, max);
	}
}

enum err_code fs_space(int fd, uint64_t *free_bytes, uint64_t *total_bytes,
		       struct err *e)
{
	struct statvfs v;
	if (fstatvfs(fd, &v) != 0)
		return fs_fail(e, "measure", "the file system");
	/* Not f_bfree: what is kept for root is not for a cache. */
	*free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
	*total_bytes = (uint64_t)v.f_blocks * v.f_frsize;
	return ERR_OK;
}

/* ---- notes ---- */

static bool note_name(const char *name, char full[XATTR_NAME_MAX + 1])
{
	int n = snprintf(full, XATTR_NAME_MAX + 1, "user.%s", name);
	return n > 0 && n <= XATTR_NAME_MAX;
}

bool fs_get_note(int fd, const char *name, char *out, size_t size)
{
	char full[XATTR_NAME_MAX + 1];
	if (size == 0)
		return false;
	out[0] = '\0';
	if (size == 1 || !note_name(name, full))
		return false;
	ssize_t n = fgetxattr(fd, full, out, size - 1);
	bool is_text = n >= 0 && memchr(out, '\0', (size_t)n) == NULL;
	out[is_text ? n : 0] = '\0';
	return is_text;
}

bool fs_set_note(int fd, const char *name, const char *text)
{
	char full[XATTR_NAME_MAX + 1];
	return note_name(name, full) &&
	       fsetxattr(fd, full, text, strlen(text), 0) == 0;
}

void fs_drop_note(int fd, const char *name)
{
	char full[XATTR_NAME_MAX + 1];
	if (note_name(name, full))
		fremovexattr(fd, full);
}
