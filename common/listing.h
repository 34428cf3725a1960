#ifndef COMMON_LISTING_H
#define COMMON_LISTING_H

#include "common/digest.h"
#include "common/err.h"
#include "common/span.h"

#include <stddef.h>
#include <stdint.h>

/*
 * The content listing: what `sha256sum` would print for every regular file of
 * a folder, sorted by path bytewise. Its SHA-256 is the content hash
 * (agent-policy(5), CONTENT HASH).
 */
struct listing_line {
	char *path;                /* owned */
	char hex[DIGEST_HEX_SIZE]; /* lower case */
};

struct listing {
	struct listing_line *lines; /* owned */
	size_t count, room;
};

void listing_free(struct listing *l); /* NULL and zero are fine */
/* path is copied. ERR_NOMEM. */
enum err_code listing_add(struct listing *l, const char *path,
			  const char *hex, struct err *e);
void listing_sort(struct listing *l);
/* After listing_sort: the line of `path`, or NULL. */
const struct listing_line *listing_find(const struct listing *l,
					const char *path);
/* Sorts, then writes the content hash. */
enum err_code listing_hash(struct listing *l, char out[DIGEST_HEX_SIZE],
			   struct err *e);
/* Sorts, then returns the text (owned, NUL-terminated), NULL with *e set. */
char *listing_text(struct listing *l, struct err *e);

/*
 * Parse what sha256sum writes, text or binary mode ("  " or " *"), any order.
 * Paths must pass relpath_check; a leading "./" is taken off; a path twice, a
 * backslash-escaped line or anything else is ERR_POLICY with the line number.
 */
enum err_code listing_parse(struct span text, struct listing *out,
			    struct err *e);

/*
 * Hash every regular file below dir_fd. Anything that is no regular file and
 * no folder, or has a name that relpath refuses, is an error that names it.
 * *bytes (may be NULL) counts file bytes. stop (may be NULL) is asked now and
 * then; a code other than ERR_OK ends the walk with it.
 */
enum err_code listing_walk(int dir_fd, struct listing *out, uint64_t *bytes,
			   enum err_code (*stop)(void *arg), void *arg,
			   struct err *e);

static inline void own_listing(struct listing *l)
{
	listing_free(l);
}
#define autolisting __attribute__((cleanup(own_listing))) struct listing

#endif
