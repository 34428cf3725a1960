#include "agent/keeper/draft.h"

#include "common/folder.h"
#include "common/fs.h"
#include "common/own.h"
#include "common/relpath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define NAME_FORM ".%s.cloud-dp-agent-partial"
#define FOLDER (O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
#define TRIES 8 /* against drafts that come and go while we lock */

static enum err_code no_memory(struct err *e)
{
	return err_set(e, ERR_NOMEM, "open a draft: no memory");
}

/* --- beside --to DIR ------------------------------------------------------ */

/* Set d's names and folders from DIR, which need not exist; its parent must. */
static enum err_code find_place(const char *path, struct draft *d, struct err *e)
{
	char at[PATH_MAX];
	size_t len = strlen(path);
	while (len > 1 && path[len - 1] == '/')
		len--;
	if (len == 0 || len >= sizeof(at))
		return err_set(e, ERR_FOLDER, "use folder \"%.200s\": %s", path,
			       len ? "the path is too long" : "the path is empty");
	snprintf(at, sizeof(at), "%.*s", (int)len, path);
	char *slash = strrchr(at, '/');
	const char *base = slash ? slash + 1 : at;
	if (!base[0] || strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
		return err_set(e, ERR_FOLDER, "use folder %.200s: it must have a "
			       "name of its own, not \"/\", \".\" or \"..\"", path);
	if (strlen(base) + strlen(NAME_FORM) - 2 > NAME_MAX)
		return err_set(e, ERR_FOLDER, "use folder %.200s: its name is too "
			       "long for the partial folder beside it", path);
	if (asprintf(&d->from_name, NAME_FORM, base) < 0) {
		d->from_name = NULL;
		return no_memory(e);
	}
	d->to_name = strdup(base);
	if (slash)
		slash[slash == at] = '\0';
	autofree char *parent = realpath(slash ? at : ".", NULL);
	if (parent == NULL)
		return err_set(e, ERR_FOLDER, "use folder %.200s: its parent: %m",
			       path);
	if (d->to_name == NULL ||
	    asprintf(&d->path, "%s/%s", strcmp(parent, "/") ? parent : "",
		     d->to_name) < 0) {
		d->path = NULL;
		return no_memory(e);
	}
	d->from_fd = open(parent, FOLDER | O_CLOEXEC);
	d->to_fd = d->from_fd < 0 ? -1 : fcntl(d->from_fd, F_DUPFD_CLOEXEC, 0);
	if (d->to_fd < 0)
		return err_set(e, ERR_FOLDER, "open folder %.200s: %m", parent);
	return ERR_OK;
}

/* DIR is absent, or a folder with nothing in it. */
static enum err_code check_target(const struct draft *d, struct err *e)
{
	struct stat st;
	const char *reason = NULL;
	if (fstatat(d->to_fd, d->to_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		if (errno == ENOENT)
			return ERR_OK;
		return err_set(e, ERR_FOLDER, "use folder %.200s: %m", d->path);
	}
	if (S_ISLNK(st.st_mode))
		reason = "it is a symbolic link";
	else if (!S_ISDIR(st.st_mode))
		reason = "it exists and is not a folder";
	if (reason == NULL) {
		autodir dir = folder_open(d->to_fd, d->to_name, e);
		if (dir == NULL)
			return ERR_FOLDER;
		const char *name = folder_next(dir);
		if (name)
			return err_set(e, ERR_FOLDER, "use folder %.200s: it is not "
				       "empty, it holds %.100s", d->path, name);
	}
	return reason ? err_set(e, ERR_FOLDER, "use folder %.200s: %s", d->path,
				reason) :
			ERR_OK;
}

/* Anybody may write beside DIR (/tmp): take only a folder that nobody but us
 * can have filled. */
static enum err_code check_owner(const struct draft *d, struct err *e)
{
	struct stat st;
	if (fstat(d->dir_fd, &st) != 0)
		return err_set(e, ERR_FOLDER, "look at %.200s: %m", d->from_name);
	if (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return err_set(e, ERR_FOLDER, "use folder %.200s: %.200s beside it "
			       "belongs to somebody else or others may write to it",
			       d->path, d->from_name);
	return ERR_OK;
}

/* Whoever had the lock may have published or removed what we opened. */
static bool is_in_place(const struct draft *d)
{
	struct stat a, b;
	return fstat(d->dir_fd, &a) == 0 &&
	       fstatat(d->from_fd, d->from_name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static enum err_code open_locked(struct draft *d, struct err *e)
{
	for (int i = 0; i < TRIES; i++) {
		enum err_code rc = fs_make_dirs(d->from_fd, d->from_name, e);
		if (rc != ERR_OK)
			return rc;
		autofd fd = fs_open_at(d->from_fd, d->from_name, FOLDER, 0, e);
		if (fd < 0)
			return e->code;
		if (flock(fd, LOCK_EX | LOCK_NB) != 0)
			return errno == EWOULDBLOCK ?
				       err_set(e, ERR_LOCKED, "another agent "
					       "works on %.200s", d->path) :
				       err_set(e, ERR_FOLDER, "lock %.200s: %m",
					       d->from_name);
		d->dir_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		d->lock_fd = take_fd(&fd);
		if (d->dir_fd >= 0 && is_in_place(d))
			return check_owner(d, e);
		own_close(&d->dir_fd);
		own_close(&d->lock_fd);
		d->dir_fd = d->lock_fd = -1;
	}
	return err_set(e, ERR_LOCKED, "another agent works on %.200s", d->path);
}

enum err_code draft_open_at(const char *path, struct draft *out, struct err *e)
{
	struct err own = { 0 };
	struct draft d = DRAFT_NONE;
	enum err_code rc = find_place(path, &d, &own);
	if (rc == ERR_OK) /* before anything is made */
		rc = check_target(&d, &own);
	if (rc == ERR_OK)
		rc = open_locked(&d, &own);
	if (rc == ERR_OK) /* whoever had the lock may have published */
		rc = check_target(&d, &own);
	if (rc != ERR_OK) {
		draft_close(&d);
		*out = DRAFT_NONE;
		return err_set(e, rc, "%s", own.text);
	}
	*out = d;
	return ERR_OK;
}

/* --- publishing ----------------------------------------------------------- */

/* Does a path of the sorted listing begin with `folder` and a slash? */
static bool is_folder_of(const struct listing *l, const char *folder)
{
	size_t low = 0, high = l->count, len = strlen(folder);
	char key[RELPATH_MAX + 2];
	if (len > RELPATH_MAX)
		return false;
	snprintf(key, sizeof(key), "%s/", folder);
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (strcmp(l->lines[mid].path, key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low < l->count && strncmp(l->lines[low].path, key, len + 1) == 0;
}

/* A walk through the draft, with the folders still to read; all of them are
 * folders of listed files, so depth and length are within relpath's limits. */
struct sweep {
	int dir_fd;
	const struct listing *listing;
	struct listing folders; /* paths only */
	size_t found;           /* listed files that are there */
};

static enum err_code sweep_entry(struct sweep *s, int fd, const char *folder,
				 const char *name, struct err *e)
{
	char path[RELPATH_MAX + 1 + NAME_MAX + 1];
	struct stat st;
	snprintf(path, sizeof(path), "%s%s%s", folder, folder[0] ? "/" : "", name);
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return err_set(e, ERR_FOLDER, "look at %.200s: %m", path);
	if (S_ISDIR(st.st_mode) && is_folder_of(s->listing, path))
		return listing_add(&s->folders, path, "", e);
	if (S_ISREG(st.st_mode) && st.st_nlink == 1 &&
	    listing_find(s->listing, path)) {
		s->found++;
		return ERR_OK;
	}
	return folder_remove(fd, name, e);
}

static enum err_code sweep_folder(struct sweep *s, const char *folder,
				  struct err *e)
{
	autodir dir = folder_open(s->dir_fd, folder[0] ? folder : ".", e);
	if (dir == NULL)
		return e->code;
	const char *name;
	while ((name = folder_next(dir)) != NULL) {
		enum err_code rc = sweep_entry(s, dirfd(dir), folder, name, e);
		if (rc != ERR_OK)
			return rc;
	}
	return errno ? err_set(e, ERR_FOLDER, "read folder %.200s: %m", folder) :
		       ERR_OK;
}

/* Afterwards the draft holds the files of the listing, nothing else. */
static enum err_code sweep(const struct draft *d, const struct listing *listing,
			   struct err *e)
{
	struct sweep s = { .dir_fd = d->dir_fd, .listing = listing };
	enum err_code rc = listing_add(&s.folders, "", "", e);
	while (rc == ERR_OK && s.folders.count) {
		autofree char *folder = s.folders.lines[--s.folders.count].path;
		rc = sweep_folder(&s, folder, e);
	}
	listing_free(&s.folders);
	if (rc == ERR_OK && s.found != listing->count)
		rc = err_set(e, ERR_FOLDER, "publish %.200s: %zu of %zu files "
			     "vanished from the draft", d->path,
			     listing->count - s.found, listing->count);
	return rc;
}

enum err_code draft_publish(struct draft *d, struct listing *listing,
			    struct err *e)
{
	struct err own = { 0 };
	listing_sort(listing);
	enum err_code rc = sweep(d, listing, &own);
	if (rc == ERR_OK)
		rc = folder_sync(d->from_fd, d->from_name, &own);
	if (rc == ERR_OK && !d->is_cache &&
	    unlinkat(d->to_fd, d->to_name, AT_REMOVEDIR) != 0 && errno != ENOENT)
		rc = err_set(&own, ERR_FOLDER, "replace %.200s: %m", d->path);
	if (rc == ERR_OK)
		rc = fs_publish(d->from_fd, d->from_name, d->to_fd, d->to_name,
				&own);
	if (rc != ERR_OK)
		return err_set(e, rc, "%s", own.text);
	/* Another agent may make a new draft of this name from now on. */
	free(take_ptr(d->from_name));
	return ERR_OK;
}

/* --- the end -------------------------------------------------------------- */

enum err_code draft_drop(struct draft *d, struct err *e)
{
	if (d->from_name == NULL)
		return ERR_OK;
	enum err_code rc = folder_remove(d->from_fd, d->from_name, e);
	if (rc == ERR_OK)
		free(take_ptr(d->from_name));
	return rc;
}

void draft_close(struct draft *d)
{
	/* Only under the lock: else it could be another agent's new draft. */
	if (d->from_name && d->lock_fd >= 0)
		unlinkat(d->from_fd, d->from_name, AT_REMOVEDIR);
	own_close(&d->dir_fd);
	own_close(&d->from_fd);
	own_close(&d->to_fd);
	own_close(&d->lock_fd);
	free(d->from_name);
	free(d->to_name);
	free(d->path);
	*d = DRAFT_NONE;
}
