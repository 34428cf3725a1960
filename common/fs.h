#ifndef COMMON_FS_H
#define COMMON_FS_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/*
 * Files, always beneath a folder that is held open: openat2(2) with
 * RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS, O_CLOEXEC,
 * O_NOFOLLOW. Modes are set explicitly and do not depend on the umask:
 * files 0644, folders 0755 unless said otherwise. All errors are ERR_FOLDER
 * (ENOSPC, EDQUOT: ERR_SPACE_DISK) and name the path and the reason.
 */

/*
 * Open, making it where needed (parents too), a folder of our own named by the
 * administrator: absolute or relative path; a component may be a symbolic link
 * except the last. A folder that exists must belong to us or root and must not
 * be writable by group or others (sticky /tmp-like parents are fine).
 */
int fs_open_root(const char *path, mode_t mode, struct err *e);

/* Beneath dir_fd; -1 with *e set. flags as open(2); mode used with O_CREAT. */
int fs_open_at(int dir_fd, const char *path, int flags, mode_t mode,
	       struct err *e);
/* The same, and what was opened; not with O_PATH. */
int fs_open_stat(int dir_fd, const char *path, int flags, mode_t mode,
		 struct stat *st, struct err *e);
/* Make all folders of `path` beneath dir_fd (mode 0755). */
enum err_code fs_make_dirs(int dir_fd, const char *path, struct err *e);
/* Make the folders above the last component of `path`. */
enum err_code fs_make_parents(int dir_fd, const char *path, struct err *e);

enum err_code fs_sync(int fd, const char *what, struct err *e);

/* rename old to new beneath the two folders, never replacing, then fsync both
 * folders. ERR_FOLDER when new exists. */
enum err_code fs_publish(int old_dir_fd, const char *old_name, int new_dir_fd,
			 const char *new_name, struct err *e);

/* Write all or fail; at a fixed offset. */
enum err_code fs_write_at(int fd, const void *bytes, size_t len, uint64_t offset,
			  const char *what, struct err *e);

/* Write a small file so that a reader sees the old or the new one, whole:
 * temporary name, fsync, rename, fsync folder. */
enum err_code fs_replace(int dir_fd, const char *name, const void *bytes,
			 size_t len, mode_t mode, struct err *e);

/* Read a whole file of at most out->max bytes (path as open(2), relative to
 * dir_fd, AT_FDCWD allowed; links are followed: for files the administrator
 * names). Only regular files. */
enum err_code fs_read_all(int dir_fd, const char *path, struct buf *out,
			  struct err *e);
enum err_code fs_read_fd(int fd, const char *what, struct buf *out,
			 struct err *e);

/* Bytes free for us and in all on the file system. */
enum err_code fs_space(int fd, uint64_t *free_bytes, uint64_t *total_bytes,
		       struct err *e);

/* A user extended attribute as short text; false where there is none or the
 * file system has no such thing. */
bool fs_get_note(int fd, const char *name, char *out, size_t size);
bool fs_set_note(int fd, const char *name, const char *text);
void fs_drop_note(int fd, const char *name);

/* ---- what the calls above are made of, for common/folder ---- */

/* Open a folder beneath dir_fd to read its names, on another file system only
 * where may_cross; -1 with errno. */
int fs_enter(int dir_fd, const char *path, bool may_cross);
/* The folder that holds `path`; *name is its last component, within path. -1
 * with errno where there is no such folder or the name cannot be one. */
int fs_enter_parent(int dir_fd, const char *path, const char **name);
/* "<what> <path>: <errno>" with the code that errno asks for; errno stays. */
enum err_code fs_fail(struct err *e, const char *what, const char *path);

#endif
