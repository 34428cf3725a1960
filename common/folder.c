#include "common/folder.h"

#include "common/fs.h"
#include "common/own.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- reading ---- */

static DIR *dir_of(int *fd)
{
	DIR *dir = *fd >= 0 ? fdopendir(*fd) : NULL;
	if (dir)
		*fd = -1; /* now the folder's */
	return dir;
}

DIR *folder_open(int dir_fd, const char *path, struct err *e)
{
	autofd fd = fs_open_at(dir_fd, path, O_RDONLY | O_DIRECTORY, 0, e);
	DIR *dir = dir_of(&fd);
	if (dir == NULL && fd >= 0)
		fs_fail(e, "read folder", path);
	return dir;
}

static const struct dirent *next_entry(DIR *dir)
{
	const struct dirent *entry;
	do {
		errno = 0;
		entry = readdir(dir);
	} while (entry && (strcmp(entry->d_name, ".") == 0 ||
			   strcmp(entry->d_name, "..") == 0));
	return entry;
}

const char *folder_next(DIR *dir)
{
	const struct dirent *entry = next_entry(dir);
	return entry ? entry->d_name : NULL;
}

/* ---- removing ---- */

/*
 * A folder about to be emptied, never on another file system. Whoever made it
 * may have taken our own rights away: take them back.
 */
static int open_doomed(int dir_fd, const char *name)
{
	int fd = fs_enter(dir_fd, name, false);
	if (fd < 0 && errno == EACCES &&
	    fchmodat(dir_fd, name, 0700, AT_SYMLINK_NOFOLLOW) == 0)
		fd = fs_enter(dir_fd, name, false);
	struct stat st;
	if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 0700) != 0700)
		fchmod(fd, 0700); /* where it fails, unlinkat() says why */
	return fd;
}

/*
 * Remove what is no folder, or an empty folder.
 * Returns 0; 1 for a folder that is not empty; -1 with errno.
 */
static int unlink_one(int dir_fd, const char *name)
{
	if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return -1;
	if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	return errno == ENOTEMPTY || errno == EEXIST ? 1 : -1;
}

/* Move a folder up into the root of the removal, under a name not in use. */
static int hoist(int from_fd, const char *name, int root_fd, unsigned *serial)
{
	char fresh[32];
	bool has_rights = false;
	for (;;) {
		snprintf(fresh, sizeof(fresh), ".remove-%u", (*serial)++);
		if (renameat2(from_fd, name, root_fd, fresh, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno == EACCES && !has_rights) {
			/* Its ".." changes: we must be able to write to it. */
			has_rights = true;
			if (fchmodat(from_fd, name, 0700,
				     AT_SYMLINK_NOFOLLOW) < 0)
				return -1;
		} else if (errno != EEXIST) {
			return errno == ENOENT ? 0 : -1;
		}
	}
}

/* Remove the folder `name` of the root; the folders in it move up to the root.
 * What appears meanwhile is left to the next pass. 0, or -1 with errno. */
static int flatten(int root_fd, const char *name, unsigned *serial)
{
	autofd fd = open_doomed(root_fd, name);
	autodir dir = dir_of(&fd);
	if (dir == NULL)
		return errno == ENOENT ? 0 : -1;
	const char *entry;
	while ((entry = folder_next(dir)) != NULL) {
		int left = unlink_one(dirfd(dir), entry);
		if (left > 0)
			left = hoist(dirfd(dir), entry, root_fd, serial);
		if (left < 0)
			return -1;
	}
	return errno || unlink_one(root_fd, name) < 0 ? -1 : 0;
}

/*
 * Empty a folder of any depth with two descriptors and no recursion: folders
 * inside folders are first moved up into the root, then removed from there.
 */
static int empty(DIR *root)
{
	unsigned serial = 0;
	bool is_empty;
	do {
		const char *name;
		is_empty = true;
		rewinddir(root);
		while ((name = folder_next(root)) != NULL) {
			is_empty = false;
			int left = unlink_one(dirfd(root), name);
			if (left > 0)
				left = flatten(dirfd(root), name, &serial);
			if (left < 0)
				return -1;
		}
		if (errno)
			return -1;
	} while (!is_empty);
	return 0;
}

enum err_code folder_remove(int dir_fd, const char *path, struct err *e)
{
	const char *name;
	autofd parent = fs_enter_parent(dir_fd, path, &name);
	if (parent < 0)
		return errno == ENOENT ? ERR_OK : fs_fail(e, "remove", path);
	int left = unlink_one(parent, name);
	if (left > 0) {
		autofd fd = open_doomed(parent, name);
		autodir root = dir_of(&fd);
		left = root ? empty(root) : -1;
		if (left == 0)
			left = unlinkat(parent, name, AT_REMOVEDIR);
	}
	return left != 0 && errno != ENOENT ? fs_fail(e, "remove", path) : ERR_OK;
}

/* ---- walking ---- */

/* All folders of a tree, each after the one that holds it. */
struct folders {
	char **paths; /* owned, as are the strings */
	size_t count, room;
};

static void own_folders(struct folders *f)
{
	while (f->count)
		free(f->paths[--f->count]);
	free(f->paths);
}
#define autofolders __attribute__((cleanup(own_folders))) struct folders

static bool folders_add(struct folders *f, const char *parent, const char *name)
{
	if (f->count == f->room) {
		size_t room = f->room ? f->room * 2 : 16;
		char **paths = reallocarray(f->paths, room, sizeof(*paths));
		if (paths == NULL)
			return false;
		f->paths = paths;
		f->room = room;
	}
	char *path;
	if (asprintf(&path, "%s%s%s", parent, *parent ? "/" : "", name) < 0)
		return false;
	f->paths[f->count++] = path;
	return true;
}

struct sums {
	uint64_t bytes, files;
};

/* sums NULL: only the folders are wanted. */
static enum err_code read_folder(int dir_fd, const char *path,
				 struct folders *found, struct sums *sums,
				 struct err *e)
{
	autofd fd = fs_enter(dir_fd, path, true);
	autodir dir = dir_of(&fd);
	if (dir == NULL)
		return fs_fail(e, "read folder", path);
	const struct dirent *entry;
	while ((entry = next_entry(dir)) != NULL) {
		struct stat st = { .st_mode = DTTOIF(entry->d_type) };
		/* sizes, or a file system that does not tell what the entry is */
		bool is_asked = entry->d_type == DT_UNKNOWN ||
				(sums && entry->d_type == DT_REG);
		if (is_asked &&
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW)) {
			if (errno == ENOENT)
				continue;
			return fs_fail(e, "read folder", path);
		}
		if (S_ISDIR(st.st_mode) && !folders_add(found, path, entry->d_name))
			return err_set(e, ERR_NOMEM, "walk %.200s: no memory", path);
		if (sums == NULL || !S_ISREG(st.st_mode))
			continue;
		sums->files++;
		if (__builtin_add_overflow(sums->bytes, (uint64_t)st.st_size,
					   &sums->bytes))
			sums->bytes = UINT64_MAX;
	}
	return errno ? fs_fail(e, "read folder", path) : ERR_OK;
}

static enum err_code walk(int dir_fd, const char *path, struct folders *found,
			  struct sums *sums, struct err *e)
{
	if (!folders_add(found, "", path))
		return err_set(e, ERR_NOMEM, "walk %.200s: no memory", path);
	enum err_code rc = ERR_OK;
	for (size_t i = 0; rc == ERR_OK && i < found->count; i++)
		rc = read_folder(dir_fd, found->paths[i], found, sums, e);
	return rc;
}

enum err_code folder_sync(int dir_fd, const char *path, struct err *e)
{
	autofolders found = { 0 };
	enum err_code rc = walk(dir_fd, path, &found, NULL, e);
	for (size_t i = found.count; rc == ERR_OK && i-- > 0;) {
		autofd fd = fs_enter(dir_fd, found.paths[i], true);
		rc = fd < 0 ? fs_fail(e, "open folder", found.paths[i]) :
			      fs_sync(fd, found.paths[i], e);
	}
	return rc;
}

enum err_code folder_size(int dir_fd, const char *path, uint64_t *bytes,
			   uint64_t *files, struct err *e)
{
	autofolders found = { 0 };
	struct sums sums = { 0 };
	enum err_code rc = walk(dir_fd, path, &found, &sums, e);
	if (bytes)
		*bytes = sums.bytes;
	if (files)
		*files = sums.files;
	return rc;
}
