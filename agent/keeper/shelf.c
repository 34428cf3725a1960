#include "agent/keeper/shelf.h"

#include "common/folder.h"
#include "common/fs.h"
#include "common/own.h"
#include "policy/value.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define FOLDER (O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
#define LOCK_TRIES 5
#define LOCK_PAUSE_MS 10

static enum err_code no_memory(struct err *e)
{
	return err_set(e, ERR_NOMEM, "look after the cache: no memory");
}

/* --- opening -------------------------------------------------------------- */

static enum err_code open_folder(struct cache *c, const char *name, int *fd,
				 struct err *e)
{
	enum err_code rc = fs_make_dirs(c->root_fd, name, e);
	if (rc != ERR_OK)
		return rc;
	*fd = fs_open_at(c->root_fd, name, FOLDER, 0, e);
	return *fd < 0 ? e->code : ERR_OK;
}

static enum err_code open_all(struct cache *c, const char *directory,
			      struct err *e)
{
	c->root_fd = fs_open_root(directory, 0700, e);
	if (c->root_fd < 0)
		return e->code;
	c->path = realpath(directory, NULL);
	if (c->path == NULL)
		return err_set(e, ERR_FOLDER, "open folder %.200s: %m", directory);
	if (open_folder(c, "content", &c->content_fd, e) != ERR_OK ||
	    open_folder(c, "listing", &c->listing_fd, e) != ERR_OK ||
	    open_folder(c, "partial", &c->partial_fd, e) != ERR_OK ||
	    open_folder(c, "lock", &c->lock_fd, e) != ERR_OK)
		return err_prefix(e, "cache %.200s", directory);
	return ERR_OK;
}

struct cache *shelf_open(const char *directory, uint64_t size_bytes,
			 uint64_t min_free_bytes, struct err *e)
{
	struct err own = { 0 };
	struct cache *c = calloc(1, sizeof(*c));
	if (c == NULL) {
		no_memory(e);
		return NULL;
	}
	*c = (struct cache){ .root_fd = -1, .content_fd = -1, .listing_fd = -1,
			     .partial_fd = -1, .lock_fd = -1, .size = size_bytes,
			     .min_free = min_free_bytes };
	if (open_all(c, directory, &own) == ERR_OK)
		return c;
	err_set(e, own.code, "%s", own.text);
	shelf_close(c);
	return NULL;
}

void shelf_close(struct cache *c)
{
	if (c == NULL)
		return;
	own_close(&c->root_fd);
	own_close(&c->content_fd);
	own_close(&c->listing_fd);
	own_close(&c->partial_fd);
	own_close(&c->lock_fd);
	free(c->path);
	free(c);
}

/* --- locks ---------------------------------------------------------------- */

/* The file under the name is still the one we have locked: else its owner has
 * removed it in between, and the next one is locked by somebody else. */
static bool is_in_place(int dir_fd, const char *name, int fd)
{
	struct stat a, b;
	return fstat(fd, &a) == 0 &&
	       fstatat(dir_fd, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static enum err_code busy(const char *name, struct err *e)
{
	return err_set(e, ERR_LOCKED, "another agent works on %s", name);
}

/*
 * Whoever only looks whether a lock is free has it for a moment (is_locked):
 * that must not look like an agent at work, so wait these few moments.
 */
enum err_code shelf_lock(struct cache *c, const char *name, int *out,
			 struct err *e)
{
	for (int i = 0; i < LOCK_TRIES; i++) {
		autofd fd = fs_open_at(c->lock_fd, name, O_RDWR | O_CREAT, 0, e);
		if (fd < 0)
			return e->code;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
			if (!is_in_place(c->lock_fd, name, fd))
				continue;
			*out = take_fd(&fd);
			return ERR_OK;
		}
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_set(e, ERR_FOLDER, "lock %s: %m", name);
		if (i + 1 < LOCK_TRIES)
			poll(NULL, 0, LOCK_PAUSE_MS);
	}
	return busy(name, e);
}

enum err_code shelf_promise(struct cache *c, const char *name, uint64_t bytes,
			    struct err *e)
{
	char text[32];
	int len = snprintf(text, sizeof(text), "%" PRIu64 "\n", bytes);
	autofd fd = fs_open_at(c->lock_fd, name, O_WRONLY | O_TRUNC, 0, e);
	return fd < 0 ? ERR_FOLDER :
			fs_write_at(fd, text, (size_t)len, 0, name, e);
}

static uint64_t promised(struct cache *c, const char *name)
{
	autobuf text = { .max = 31 };
	uint64_t bytes = 0;
	if (fs_read_all(c->lock_fd, name, &text, NULL) == ERR_OK && text.len)
		value_number(span_trim(buf_as_span(&text)), &bytes);
	return bytes;
}

static bool is_locked(struct cache *c, const char *name)
{
	autofd fd = fs_open_at(c->lock_fd, name, O_RDONLY, 0, NULL);
	return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 &&
	       errno == EWOULDBLOCK;
}

/* --- what there is -------------------------------------------------------- */

void shelf_listing_name(const char *name, char out[SHELF_LISTING_SIZE])
{
	snprintf(out, SHELF_LISTING_SIZE, "%s.sha256", name);
}

/* Only names that we would give ourselves are contents. */
bool shelf_take_name(const char *name, struct cache_item *out)
{
	char again[CONTENT_NAME_SIZE];
	struct err ignored;
	*out = (struct cache_item){ 0 };
	if (name[0] == '.' || content_parse(name, &out->content, &ignored) != ERR_OK)
		return false;
	content_name(&out->content, again);
	snprintf(out->name, sizeof(out->name), "%s", again);
	return strcmp(name, again) == 0;
}

/* What the stored listing says; false where there is none. */
static bool read_listing(struct cache *c, struct cache_item *item)
{
	char name[SHELF_LISTING_SIZE];
	struct stat st;
	shelf_listing_name(item->name, name);
	autofd fd = fs_open_at(c->listing_fd, name, O_RDONLY, 0, NULL);
	if (fd < 0 || fstat(fd, &st) != 0 ||
	    digest_file(fd, item->hash, NULL, NULL) != ERR_OK)
		return false;
	item->last_used_s = st.st_mtim.tv_sec;
	return true;
}

int64_t shelf_changed_s(int dir_fd, const char *name)
{
	struct stat st;
	return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ?
		       st.st_mtim.tv_sec : 0;
}

/* Fill *out for a folder of content/ (or, is_partial, of partial/). A folder
 * of content/ without a listing is a leftover of a removal: never published. */
bool shelf_look(struct cache *c, const char *name, bool is_partial,
		struct cache_item *out)
{
	int dir_fd = is_partial ? c->partial_fd : c->content_fd;
	if (!shelf_take_name(name, out))
		return false;
	out->is_partial = is_partial || !read_listing(c, out);
	if (out->is_partial) {
		int64_t begun = shelf_changed_s(c->lock_fd, name);
		out->last_used_s = shelf_changed_s(dir_fd, name);
		if (begun > out->last_used_s)
			out->last_used_s = begun;
	}
	out->is_in_use = is_locked(c, name);
	if (out->is_in_use && out->is_partial)
		out->promised = promised(c, name);
	return folder_size(dir_fd, name, &out->bytes, &out->files, NULL) == ERR_OK;
}

struct items {
	struct cache_item *at; /* owned */
	size_t count, room;
};

static enum err_code add_item(struct items *l, const struct cache_item *item,
			      struct err *e)
{
	if (l->count == l->room) {
		size_t room = l->room ? l->room * 2 : 16;
		struct cache_item *at = reallocarray(l->at, room, sizeof(*at));
		if (at == NULL)
			return no_memory(e);
		l->at = at;
		l->room = room;
	}
	l->at[l->count++] = *item;
	return ERR_OK;
}

static enum err_code list_folder(struct cache *c, bool is_partial,
				 struct items *out, struct err *e)
{
	autodir dir = folder_open(is_partial ? c->partial_fd : c->content_fd, ".", e);
	if (dir == NULL)
		return e->code;
	const char *name;
	struct cache_item item;
	enum err_code rc = ERR_OK;
	while (rc == ERR_OK && (name = folder_next(dir)) != NULL)
		if (shelf_look(c, name, is_partial, &item))
			rc = add_item(out, &item, e);
	if (rc == ERR_OK && errno)
		rc = err_set(e, ERR_FOLDER, "read the cache: %m");
	return rc;
}

static int by_name(const void *a, const void *b)
{
	const struct cache_item *x = a, *y = b;
	int order = strcmp(x->name, y->name);
	return order ? order : x->is_partial - y->is_partial;
}

enum err_code shelf_list(struct cache *c, struct cache_item **out, size_t *count,
			 struct err *e)
{
	struct items items = { 0 };
	struct err own = { 0 };
	*out = NULL;
	*count = 0;
	if (list_folder(c, false, &items, &own) != ERR_OK ||
	    list_folder(c, true, &items, &own) != ERR_OK) {
		free(items.at);
		return err_set(e, own.code, "%s", own.text);
	}
	if (items.count)
		qsort(items.at, items.count, sizeof(*items.at), by_name);
	*out = items.at;
	*count = items.count;
	return ERR_OK;
}

/* Both must be there: publishing and removing begin and end with the listing. */
bool shelf_is_published(struct cache *c, const char *name)
{
	char listing[SHELF_LISTING_SIZE];
	shelf_listing_name(name, listing);
	return faccessat(c->listing_fd, listing, F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
	       faccessat(c->content_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int shelf_open_partial(struct cache *c, const char *name, struct err *e)
{
	int fd = -1;
	if (fs_make_dirs(c->partial_fd, name, e) == ERR_OK)
		fd = fs_open_at(c->partial_fd, name, FOLDER, 0, e);
	if (fd >= 0 || folder_remove(c->partial_fd, name, e) != ERR_OK ||
	    fs_make_dirs(c->partial_fd, name, e) != ERR_OK)
		return fd;
	return fs_open_at(c->partial_fd, name, FOLDER, 0, e);
}

/* --- removing ------------------------------------------------------------- */

/* Its listing first: without it, what is left is no published content. */
enum err_code shelf_remove_published(struct cache *c, const char *name,
				     struct err *e)
{
	char listing[SHELF_LISTING_SIZE];
	shelf_listing_name(name, listing);
	if (unlinkat(c->listing_fd, listing, 0) != 0 && errno != ENOENT)
		return err_set(e, ERR_FOLDER, "remove the listing of %s: %m", name);
	return folder_remove(c->content_fd, name, e);
}

/* Remove what an item is, unless somebody works on it: then ERR_LOCKED. */
enum err_code shelf_remove_item(struct cache *c, const struct cache_item *item,
				struct err *e)
{
	autofd lock = -1;
	enum err_code rc = shelf_lock(c, item->name, &lock, e);
	if (rc != ERR_OK)
		return rc;
	if (!item->is_partial)
		rc = shelf_remove_published(c, item->name, e);
	else if (!shelf_is_published(c, item->name)) /* the rest of a removal */
		rc = shelf_remove_published(c, item->name, e);
	if (rc == ERR_OK && item->is_partial)
		rc = folder_remove(c->partial_fd, item->name, e);
	if (rc == ERR_OK && !item->is_partial &&
	    faccessat(c->partial_fd, item->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return ERR_OK; /* its age stands in the lock file */
	if (rc == ERR_OK)
		unlinkat(c->lock_fd, item->name, 0);
	return rc;
}

