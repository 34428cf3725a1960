#ifndef AGENT_NET_ENTRY_H
#define AGENT_NET_ENTRY_H

#include "agent/wire.h"
#include "common/buf.h"
#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

/*
 * The files of one source, as dav and manifest list them and download fetches
 * them. Texts lie in one arena, so that 65,536 files stay small; limits are
 * those of agent/wire.h.
 */
struct entry {
	uint64_t size;      /* WIRE_UNKNOWN where nobody named it */
	uint32_t path;      /* these are offsets in the arena; 0 = "" */
	uint32_t url, hash; /* url "" = made from the path; hash: 64 or 40 hex, or "" */
};

struct entry_list {
	struct entry *items; /* owned */
	size_t count, room;
	struct buf arena;    /* NUL-ended texts; begins with one NUL */
	size_t names;        /* of them, paths and URLs; bytes */
};

#define ENTRY_NAMES_MAX (8u << 20) /* bytes of paths and URLs */

void entry_list_free(struct entry_list *l); /* zero is fine */
/* path and url are copied; url "" = made from the path. ERR_LIMIT, ERR_NOMEM.
 * Names are not judged here: the keeper does that. */
enum err_code entry_list_add(struct entry_list *l, struct span path,
			     struct span url, uint64_t size, const char *hash,
			     struct err *e);
/* By path, bytewise; a path that stands there twice is LISTING. */
enum err_code entry_list_sort(struct entry_list *l, struct err *e);
const char *entry_path(const struct entry_list *l, size_t index);
const char *entry_url(const struct entry_list *l, size_t index);
const char *entry_hash(const struct entry_list *l, size_t index);

#endif
