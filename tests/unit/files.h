#ifndef TESTS_UNIT_FILES_H
#define TESTS_UNIT_FILES_H

#include <stdbool.h>
#include <sys/types.h>

/* Files and folders for tests of what works on them. */

/* A fresh empty folder, opened: the caller's to close. */
int files_new(void);
/* Path of `name` in the folder made last; "" names the folder. Static. */
const char *files_path(const char *name);

void files_put(int dir, const char *path, const char *text);
void files_assert(int dir, const char *path, const char *want);
mode_t files_mode(int dir, const char *path);
bool files_there(int dir, const char *path);
unsigned files_count(int dir); /* entries */

/* Run in a child as another user, 0 = as ourselves; what run returned. */
int files_in_child(int (*run)(int dir), int dir, uid_t uid);
/* In a child: a name space of our own with a file system of 64 KiB as "t/m" of
 * the folder made last, which becomes the working folder; -1 = not allowed. */
int files_mount_small(void);

#endif
