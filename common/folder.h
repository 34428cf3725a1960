#ifndef COMMON_FOLDER_H
#define COMMON_FOLDER_H

#include "common/err.h"

#include <dirent.h>
#include <stdint.h>

/*
 * Whole folders beneath a folder that is held open, of any depth, without
 * recursion and without following links. Errors as in common/fs.
 */

static inline void folder_own(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}
#define autodir __attribute__((cleanup(folder_own))) DIR *

/* Open a folder to read its names (closedir() it); NULL with *e set. */
DIR *folder_open(int dir_fd, const char *path, struct err *e);
/* The next name but "." and "..", good until the next call; NULL at the end, with
 * errno 0, or with the errno of what went wrong. */
const char *folder_next(DIR *dir);

/* Remove a file or a whole folder, without crossing file systems. Absent is
 * ERR_OK. */
enum err_code folder_remove(int dir_fd, const char *path, struct err *e);

/* fsync every folder of a tree, deepest first (files are synced by whoever
 * wrote them). */
enum err_code folder_sync(int dir_fd, const char *path, struct err *e);

/* Number of the regular files below a folder, and the sum of their sizes; bytes
 * and files may be NULL. */
enum err_code folder_size(int dir_fd, const char *path, uint64_t *bytes,
			  uint64_t *files, struct err *e);

#endif
