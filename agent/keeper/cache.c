#include "agent/keeper/cache.h"

#include "common/clock.h"
#include "common/folder.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/own.h"
#include "common/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define FOLDER (O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
#define LEFTOVER_S (7 * 86400)
#define TEMPORARY_S 3600 /* fs_replace() was killed so long ago */

struct cache *cache_open(const char *directory, uint64_t size_bytes,
			 uint64_t min_free_bytes, struct err *e)
{
	return shelf_open(directory, size_bytes, min_free_bytes, e);
}

void cache_close(struct cache *c)
{
	shelf_close(c);
}

enum err_code cache_list(struct cache *c, struct cache_item **out, size_t *count,
			 struct err *e)
{
	return shelf_list(c, out, count, e);
}

/* --- finding -------------------------------------------------------------- */

/* The highest published version of an id, whatever its case, or the wanted. */
static bool find_published(struct cache *c, const struct content *wanted,
			   char out[CONTENT_NAME_SIZE])
{
	struct content best = { 0 };
	struct cache_item item;
	const char *name;
	struct err ignored;
	autodir dir = folder_open(c->content_fd, ".", &ignored);
	out[0] = '\0';
	while (dir && (name = folder_next(dir)) != NULL) {
		if (!shelf_take_name(name, &item) ||
		    strcasecmp(item.content.id, wanted->id) != 0 ||
		    (wanted->has_version && !content_same(&item.content, wanted)) ||
		    (out[0] && item.content.version <= best.version) ||
		    !shelf_is_published(c, item.name))
			continue;
		best = item.content;
		memcpy(out, item.name, CONTENT_NAME_SIZE);
	}
	return out[0] != '\0';
}

bool cache_find(struct cache *c, const struct content *content,
		struct cache_item *out, char **path)
{
	char name[CONTENT_NAME_SIZE];
	*path = NULL;
	if (!find_published(c, content, name) || !shelf_look(c, name, false, out) ||
	    out->is_partial)
		return false;
	if (asprintf(path, "%s/content/%s", c->path, name) < 0)
		*path = NULL;
	return *path != NULL;
}

static enum err_code on_stop(void *arg)
{
	(void)arg;
	return signals_check(NULL);
}

enum err_code cache_hash(struct cache *c, const struct cache_item *item,
			 char out[DIGEST_HEX_SIZE], struct err *e)
{
	autolisting found = { 0 };
	struct err own = { 0 };
	out[0] = '\0';
	autofd fd = fs_open_at(c->content_fd, item->name, FOLDER, 0, &own);
	if (fd < 0 ||
	    listing_walk(fd, &found, NULL, on_stop, NULL, &own) != ERR_OK ||
	    listing_hash(&found, out, &own) != ERR_OK)
		return err_set(e, own.code, "hash %s in the cache: %s", item->name,
			       own.text);
	return ERR_OK;
}

#define LONG_AGO_MS 1000 /* older than any use */

static void touch(struct cache *c, const char *name, int64_t at_ms)
{
	char listing[SHELF_LISTING_SIZE];
	struct timespec t = { .tv_sec = at_ms / 1000,
			      .tv_nsec = at_ms % 1000 * 1000000 };
	shelf_listing_name(name, listing);
	utimensat(c->listing_fd, listing, (struct timespec[]){ t, t },
		  AT_SYMLINK_NOFOLLOW);
}

void cache_touch(struct cache *c, const struct cache_item *item)
{
	touch(c, item->name, clock_wall_ms());
}

enum err_code cache_age_older(struct cache *c, const struct content *content,
			      struct err *e)
{
	struct cache_item item;
	const char *name;
	autodir dir = folder_open(c->content_fd, ".", e);
	if (dir == NULL)
		return ERR_FOLDER;
	while ((name = folder_next(dir)) != NULL)
		if (shelf_take_name(name, &item) && item.content.has_version &&
		    item.content.version < content->version &&
		    strcasecmp(item.content.id, content->id) == 0)
			touch(c, item.name, LONG_AGO_MS);
	return errno ? fs_fail(e, "read folder", c->path) : ERR_OK;
}

/* --- making --------------------------------------------------------------- */

/* As it is spelled in the cache already: ids are alike whatever their case. */
static void spell(struct cache *c, const struct content *content,
		  char out[CONTENT_NAME_SIZE])
{
	const int folders[] = { c->content_fd, c->partial_fd };
	struct err ignored;
	content_name(content, out);
	for (size_t i = 0; i < 2; i++) {
		struct cache_item item;
		const char *name;
		autodir dir = folder_open(folders[i], ".", &ignored);
		while (dir && (name = folder_next(dir)) != NULL)
			if (shelf_take_name(name, &item) &&
			    content_same(&item.content, content)) {
				memcpy(out, item.name, CONTENT_NAME_SIZE);
				return;
			}
	}
}

enum err_code cache_begin(struct cache *c, const struct content *content,
			  struct draft *out, struct err *e)
{
	struct err own = { 0 };
	struct draft d = DRAFT_NONE;
	char name[CONTENT_NAME_SIZE];
	*out = DRAFT_NONE;
	spell(c, content, name);
	enum err_code rc = shelf_lock(c, name, &d.lock_fd, &own);
	if (rc != ERR_OK)
		return err_set(e, rc, "%s", own.text);
	futimens(d.lock_fd, NULL); /* how old a leftover is */
	d.is_cache = true;
	d.from_name = strdup(name);
	d.to_name = strdup(name);
	if (asprintf(&d.path, "%s/content/%s", c->path, name) < 0)
		d.path = NULL;
	d.from_fd = fcntl(c->partial_fd, F_DUPFD_CLOEXEC, 0);
	d.to_fd = fcntl(c->content_fd, F_DUPFD_CLOEXEC, 0);
	if (!d.from_name || !d.to_name || !d.path)
		rc = err_set(&own, ERR_NOMEM, "begin %s: no memory", name);
	else if (d.from_fd < 0 || d.to_fd < 0)
		rc = err_set(&own, ERR_FOLDER, "open the cache: %m");
	else if ((d.dir_fd = shelf_open_partial(c, name, &own)) < 0)
		rc = own.code;
	if (rc == ERR_OK) {
		*out = d;
		return ERR_OK;
	}
	draft_close(&d);
	return err_set(e, rc, "%s", own.text);
}

enum err_code cache_publish(struct cache *c, struct draft *d,
			    const struct content *content,
			    struct listing *listing, struct err *e)
{
	char name[CONTENT_NAME_SIZE], file[SHELF_LISTING_SIZE];
	struct err own = { 0 };
	content_name(content, name);
	if (d->to_name == NULL || strcasecmp(name, d->to_name) != 0)
		return err_set(e, ERR_INTERNAL, "publish %s as %s", d->to_name, name);
	shelf_listing_name(d->to_name, file);
	autofree char *text = listing_text(listing, e);
	if (text == NULL)
		return ERR_NOMEM;
	enum err_code rc = shelf_remove_published(c, d->to_name, &own);
	if (rc == ERR_OK)
		rc = fs_replace(c->listing_fd, file, text, strlen(text), 0, &own);
	if (rc == ERR_OK && (rc = draft_publish(d, listing, &own)) != ERR_OK)
		unlinkat(c->listing_fd, file, 0);
	if (rc != ERR_OK)
		return err_set(e, rc, "publish %s: %s", name, own.text);
	touch(c, d->to_name, clock_wall_ms());
	return ERR_OK;
}

/* --- room ----------------------------------------------------------------- */

static uint64_t add(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t missing(uint64_t wanted, uint64_t there)
{
	return wanted > there ? wanted - there : 0;
}

enum err_code cache_check_disk(int dir_fd, uint64_t need, uint64_t min_free,
			       struct err *e)
{
	uint64_t room, total;
	if (need == 0) /* all of it is on the disk already */
		return ERR_OK;
	enum err_code rc = fs_space(dir_fd, &room, &total, e);
	if (rc == ERR_OK && room < add(need, min_free))
		rc = err_set(e, ERR_SPACE_DISK, "%" PRIu64 " bytes are to come and %"
			     PRIu64 " to stay free, the disk has %" PRIu64
			     " bytes free", need, min_free, room);
	return rc;
}

void cache_keep(struct cache *c, bool (*is_kept)(void *arg, const char *name),
		void *arg)
{
	c->is_kept = is_kept;
	c->kept_arg = arg;
}

/* What is to be done, and what was done, in one round of making room. */
struct room {
	const char *own;    /* name that we have locked; NULL */
	uint64_t need;      /* bytes to come */
	uint64_t used;      /* bytes in the cache */
	uint64_t free;      /* bytes on the disk */
	uint64_t evictable; /* bytes */
	uint64_t total;     /* bytes that our own will have */
	unsigned contents;  /* removed */
	unsigned removed;   /* contents and leftovers */
	uint64_t bytes;     /* of them */
};

static bool is_own(const struct room *m, const struct cache_item *item)
{
	return m->own && strcasecmp(m->own, item->name) == 0;
}

/* Bytes that must go before the rest fits. */
static uint64_t quota_lacks(const struct cache *c, const struct room *m)
{
	return c->size ? missing(add(m->used, m->need), c->size) : 0;
}

static uint64_t disk_lacks(const struct cache *c, const struct room *m)
{
	return missing(add(m->need, c->min_free), m->free);
}

/* What may go, in the order in which it goes: published before leftovers, the
 * one we are about to replace before others, then by last use. */
static bool may_go(const struct cache *c, const struct room *m,
		   const struct cache_item *item)
{
	if (is_own(m, item))
		return !item->is_partial;
	bool is_kept = m->need && !item->is_partial && c->is_kept &&
		       c->is_kept(c->kept_arg, item->name);
	return !item->is_in_use && !is_kept;
}

static int by_use(const void *a, const void *b)
{
	const struct cache_item *x = a, *y = b;
	if (x->is_partial != y->is_partial)
		return x->is_partial - y->is_partial;
	return (x->last_used_s > y->last_used_s) - (x->last_used_s < y->last_used_s);
}

static enum err_code refuse(const struct cache *c, const struct room *m,
			    struct err *e)
{
	if (quota_lacks(c, m) > m->evictable)
		return err_set(e, ERR_SPACE_CACHE, "%" PRIu64 " bytes are to come; "
			       "the cache holds %" PRIu64 " of %" PRIu64
			       " bytes, of which %" PRIu64 " may go", m->need,
			       m->used, c->size, m->evictable);
	if (disk_lacks(c, m) > m->evictable)
		return err_set(e, ERR_SPACE_DISK, "%" PRIu64 " bytes are to come and "
			       "%" PRIu64 " to stay free; the disk has %" PRIu64
			       " bytes free, and %" PRIu64 " may go", m->need,
			       c->min_free, m->free, m->evictable);
	return ERR_OK;
}

static enum err_code evict(struct cache *c, struct room *m,
			   const struct cache_item *item, struct err *e)
{
	uint64_t total;
	/* The lock of our own name is ours: asking again would refuse us. */
	enum err_code rc = is_own(m, item) ? shelf_remove_published(c, item->name, e) :
					     shelf_remove_item(c, item, e);
	m->evictable = missing(m->evictable, item->bytes);
	if (rc == ERR_LOCKED)
		return ERR_OK;
	if (rc != ERR_OK)
		return rc;
	m->used = missing(m->used, item->bytes);
	m->bytes += item->bytes;
	m->contents += !item->is_partial;
	m->removed++;
	log_info("CAS", "%s left the cache: bytes=%" PRIu64 " last_used=%" PRId64,
		 item->name, item->bytes, item->last_used_s);
	return fs_space(c->content_fd, &m->free, &total, e);
}

/* is_all_or_nothing: evict only where that makes the room that is asked for. */
static enum err_code make_room(struct cache *c, struct room *m,
			       bool is_all_or_nothing, struct err *e)
{
	struct cache_item *items autofree = NULL;
	size_t count;
	uint64_t total, own_bytes = 0;
	enum err_code rc = cache_list(c, &items, &count, e);
	if (rc == ERR_OK)
		rc = fs_space(c->content_fd, &m->free, &total, e);
	for (size_t i = 0; rc == ERR_OK && i < count; i++) {
		/* what another agent is about to fill is as good as used */
		uint64_t coming = is_own(m, &items[i]) ? 0 :
				  missing(items[i].promised, items[i].bytes);
		m->used = add(add(m->used, items[i].bytes), coming);
		m->free = missing(m->free, coming);
		if (may_go(c, m, &items[i]))
			m->evictable = add(m->evictable, items[i].bytes);
		else if (is_own(m, &items[i]))
			own_bytes = add(own_bytes, items[i].bytes);
	}
	m->total = add(own_bytes, m->need);
	if (rc == ERR_OK && c->size && add(own_bytes, m->need) > c->size)
		rc = err_set(e, ERR_SPACE_CACHE, "the content has %" PRIu64
			     " bytes, the whole cache may have %" PRIu64,
			     add(own_bytes, m->need), c->size);
	if (rc == ERR_OK && is_all_or_nothing)
		rc = refuse(c, m, e);
	if (rc != ERR_OK)
		return rc;
	if (count)
		qsort(items, count, sizeof(*items), by_use);
	for (int pass = 0; pass < 2; pass++) /* our own name first */
		for (size_t i = 0; rc == ERR_OK && i < count; i++) {
			if (quota_lacks(c, m) == 0 && disk_lacks(c, m) == 0)
				return ERR_OK;
			if (may_go(c, m, &items[i]) && is_own(m, &items[i]) == !pass)
				rc = evict(c, m, &items[i], e);
		}
	m->evictable = 0; /* all of it went, or somebody took it up */
	return rc == ERR_OK ? refuse(c, m, e) : rc;
}

enum err_code cache_reserve(struct cache *c, const char *name, uint64_t need,
			    unsigned *evicted, struct err *e)
{
	struct room m = { .own = name, .need = need };
	/* one at a time: two must not both see the same room as free */
	autofd turn = need ? openat(c->lock_fd, ".", O_RDONLY | O_CLOEXEC) : -1;
	if (need && (turn < 0 || flock(turn, LOCK_EX) != 0))
		return err_set(e, ERR_FOLDER, "lock the cache: %m");
	enum err_code rc = need ? make_room(c, &m, true, e) : ERR_OK;
	if (rc == ERR_OK && need)
		rc = shelf_promise(c, name, m.total, e);
	if (evicted)
		*evicted = m.contents;
	return rc;
}

/* --- looking after it ----------------------------------------------------- */

enum err_code cache_remove(struct cache *c, const struct content *content,
			   struct err *e)
{
	struct cache_item *items autofree = NULL;
	size_t count, found = 0;
	enum err_code rc = cache_list(c, &items, &count, e);
	for (size_t i = 0; rc == ERR_OK && i < count; i++) {
		const struct content *is = &items[i].content;
		if (strcasecmp(is->id, content->id) != 0 ||
		    (content->has_version && !content_same(is, content)))
			continue;
		found++;
		rc = shelf_remove_item(c, &items[i], e);
	}
	char name[CONTENT_NAME_SIZE];
	content_name(content, name);
	if (rc == ERR_OK && found == 0)
		rc = err_set(e, ERR_USAGE, "%s is not in the cache", name);
	return rc;
}

/* Leftovers that nobody came back for, and rests of removals. */
static enum err_code drop_leftovers(struct cache *c, struct room *m,
				    struct err *e)
{
	struct cache_item *items autofree = NULL;
	size_t count;
	enum err_code rc = cache_list(c, &items, &count, e);
	int64_t oldest_s = clock_wall_s() - LEFTOVER_S;
	for (size_t i = 0; rc == ERR_OK && i < count; i++)
		if (items[i].is_partial && !items[i].is_in_use &&
		    items[i].last_used_s < oldest_s)
			rc = evict(c, m, &items[i], e);
	return rc;
}

/* Listings without a folder, and temporary files of fs_replace(). */
static enum err_code drop_listings(struct cache *c, struct err *e)
{
	autodir dir = folder_open(c->listing_fd, ".", e);
	const char *entry;
	struct cache_item item;
	struct err ignored;
	if (dir == NULL)
		return e ? e->code : ERR_FOLDER;
	while ((entry = folder_next(dir)) != NULL) {
		char name[NAME_MAX + 1];
		size_t len = strlen(entry);
		snprintf(name, sizeof(name), "%s", entry);
		if (len > 7 && strcmp(name + len - 7, ".sha256") == 0)
			name[len - 7] = '\0';
		bool is_temporary = name[0] == '.' && len > 4 &&
				    strcmp(name + len - 4, ".new") == 0;
		if (is_temporary && shelf_changed_s(c->listing_fd, name) <
					    clock_wall_s() - TEMPORARY_S)
			unlinkat(c->listing_fd, name, 0);
		if (!shelf_take_name(name, &item) ||
		    faccessat(c->content_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			continue;
		autofd lock = -1; /* or it is just being published */
		if (shelf_lock(c, name, &lock, &ignored) == ERR_OK &&
		    !shelf_is_published(c, name))
			shelf_remove_published(c, name, &ignored);
	}
	return ERR_OK;
}

enum err_code cache_trim(struct cache *c, unsigned *removed, uint64_t *bytes,
			 struct err *e)
{
	struct room m = { 0 };
	enum err_code rc = drop_leftovers(c, &m, e);
	if (rc == ERR_OK)
		rc = drop_listings(c, e);
	m.used = m.evictable = 0;
	if (rc == ERR_OK)
		rc = make_room(c, &m, false, e);
	*removed = m.removed;
	*bytes = m.bytes;
	return rc;
}
