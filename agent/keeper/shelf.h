#ifndef AGENT_KEEPER_SHELF_H
#define AGENT_KEEPER_SHELF_H

#include "common/digest.h"
#include "common/err.h"
#include "policy/content.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * The folders of the cache (cache.h): what lies in them, and under whose lock.
 * But for struct cache_item, all of it is for cache.c alone, which decides what
 * is to lie there.
 */
struct cache_item {
	struct content content;
	char name[CONTENT_NAME_SIZE];
	char hash[DIGEST_HEX_SIZE]; /* content hash by the stored listing */
	uint64_t bytes, files;
	int64_t last_used_s;        /* epoch */
	bool is_partial;            /* in the making, or left by a stop */
	bool is_in_use;             /* locked by somebody */
	uint64_t promised;          /* bytes it will have, by who has the lock */
};

struct cache {
	char *path; /* absolute, without links; owned */
	int root_fd, content_fd, listing_fd, partial_fd, lock_fd; /* owned */
	uint64_t size, min_free; /* bytes */
	/* Contents that do not make room for others; NULL = all do. Borrowed. */
	bool (*is_kept)(void *arg, const char *name);
	void *kept_arg;
};

/* As cache_open(), cache_close(), cache_list(). */
struct cache *shelf_open(const char *directory, uint64_t size_bytes,
			 uint64_t min_free_bytes, struct err *e);
void shelf_close(struct cache *c);
enum err_code shelf_list(struct cache *c, struct cache_item **out, size_t *count,
			 struct err *e);

#define SHELF_LISTING_SIZE (CONTENT_NAME_SIZE + 8) /* NAME.sha256 */
void shelf_listing_name(const char *name, char out[SHELF_LISTING_SIZE]);

/* Is it the name of a content, exactly as we write it? Fills its parts. */
bool shelf_take_name(const char *name, struct cache_item *out);

/* Folder and listing are both there: publishing ends with the one, removing
 * begins with the other. */
bool shelf_is_published(struct cache *c, const char *name);

/* Fill *out for a folder of content/ or partial/; one of content/ without a
 * listing is a leftover too. False where it is no content's. */
bool shelf_look(struct cache *c, const char *name, bool is_partial,
		struct cache_item *out);

/* Time of last change of an entry, epoch s; 0 = not there. */
int64_t shelf_changed_s(int dir_fd, const char *name);

/* How many bytes `name`, which we have locked, will have in the end: written into
 * its lock file, so that others leave room for it. */
enum err_code shelf_promise(struct cache *c, const char *name, uint64_t bytes,
			    struct err *e);
/* The flock on lock/NAME: descriptor in *out. ERR_LOCKED. */
enum err_code shelf_lock(struct cache *c, const char *name, int *out,
			 struct err *e);

/* The folder partial/NAME, whatever else stood under that name; -1 with *e. */
int shelf_open_partial(struct cache *c, const char *name, struct err *e);

/* Remove content/NAME; the caller has the lock. */
enum err_code shelf_remove_published(struct cache *c, const char *name,
				     struct err *e);
/* Remove what an item is; ERR_LOCKED when somebody works on it. */
enum err_code shelf_remove_item(struct cache *c, const struct cache_item *item,
				struct err *e);

#endif
