#ifndef AGENT_KEEPER_KNOWN_H
#define AGENT_KEEPER_KNOWN_H

#include "agent/keeper/roster.h"

/*
 * What the draft holds from the sources before, as this run hashed it: so that
 * another source's list does not make us read it all again.
 */
struct known {
	struct roster_file *files; /* owned, with paths and parts; by path */
	size_t count;
};

void known_free(struct known *k);

/*
 * Take over the files of a list that hold bytes, and roster_clear() it. Those of
 * another host (is_same_host says whether the next list's is this one) are old
 * from now on. Only ERR_NOMEM, and nothing has changed then.
 */
enum err_code known_add(struct known *k, struct roster *list, bool is_same_host,
			struct err *e);

/* NULL where there is none, or it was taken (FILE_GONE). */
struct roster_file *known_find(const struct known *k, char *path);

/* Is what we know of it true, and enough for the listed `f`? `size`: what the
 * disk has of it. */
bool known_is_usable(const struct roster_file *known,
		     const struct roster_file *f, uint64_t size);

#endif
