#ifndef AGENT_KEEPER_CACHE_H
#define AGENT_KEEPER_CACHE_H

#include "agent/keeper/draft.h"
#include "agent/keeper/shelf.h"
#include "common/err.h"
#include "policy/content.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * The content cache: one folder of our own, mode 0700.
 *
 *   content/NAME/          published, NAME = "ABC00042.3"
 *   listing/NAME.sha256    its listing as sha256sum writes it; its time of last
 *                          change is the last use of the content
 *   partial/NAME/          in the making (draft.h)
 *   lock/NAME              flock: who works on NAME
 *
 * What lies on the disk is the truth; there is no index that could be wrong.
 */

/* size 0 = no quota. min_free: kept free on the file system. ERR_FOLDER. */
struct cache *cache_open(const char *directory, uint64_t size_bytes,
			 uint64_t min_free_bytes, struct err *e);
void cache_close(struct cache *c); /* NULL is fine */

/*
 * From now on contents of which is_kept(arg, name) is true are not evicted by
 * cache_reserve: what policy requires would only come again and push out the next.
 * NULL = all may go. arg is borrowed until cache_close.
 */
void cache_keep(struct cache *c, bool (*is_kept)(void *arg, const char *name),
		void *arg);

/*
 * Begin or go on with a content: takes the flock on lock/NAME, makes or opens
 * partial/NAME. ERR_LOCKED, at once, when another agent has it.
 */
enum err_code cache_begin(struct cache *c, const struct content *content,
			  struct draft *out, struct err *e);

/* Is it published? Fills *out and *path (owned by the caller, absolute).
 * Without a version in `content`: the highest one. Does not judge bytes. */
bool cache_find(struct cache *c, const struct content *content,
		struct cache_item *out, char **path);

/* Hash the published files again: the content hash of what is there now. */
enum err_code cache_hash(struct cache *c, const struct cache_item *item,
			 char out[DIGEST_HEX_SIZE], struct err *e);

/* Mark as used now. */
void cache_touch(struct cache *c, const struct cache_item *item);
/* The opposite for published versions older than `content`: where room is needed,
 * they are the first to leave. */
enum err_code cache_age_older(struct cache *c, const struct content *content,
			      struct err *e);

/*
 * Before a transfer: is there room for `need` more bytes for `name` (which is
 * locked by us)? Evicts published contents, least recently used first, never
 * one that is locked, then leftover partials of others, while quota or min_free
 * ask for it. *evicted (may be NULL) counts contents. What is granted is promised:
 * other agents count it as used, from now until the lock is let go.
 * ERR_SPACE_CACHE: more than the quota can ever hold, or the rest is in use;
 * ERR_SPACE_DISK: the disk; the texts name figures.
 */
enum err_code cache_reserve(struct cache *c, const char *name, uint64_t need,
			    unsigned *evicted, struct err *e);
/* The same for a draft beside --to: only the disk is asked. */
enum err_code cache_check_disk(int dir_fd, uint64_t need, uint64_t min_free,
			       struct err *e);

/* Store the listing, publish the draft (draft_publish). An older folder of that
 * name (damaged) is removed first. */
enum err_code cache_publish(struct cache *c, struct draft *d,
			    const struct content *content,
			    struct listing *listing, struct err *e);

/* All contents and leftovers by name. Returns owned array in *out. */
enum err_code cache_list(struct cache *c, struct cache_item **out, size_t *count,
			 struct err *e);

/* Remove a content and its leftovers. ERR_LOCKED; ERR_USAGE when not there. */
enum err_code cache_remove(struct cache *c, const struct content *content,
			   struct err *e);

/* Evict until quota and min_free hold; leftovers of drafts nobody works on that
 * are older than a week go too. Counts what went. */
enum err_code cache_trim(struct cache *c, unsigned *removed, uint64_t *bytes,
			 struct err *e);

#endif
