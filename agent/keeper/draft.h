#ifndef AGENT_KEEPER_DRAFT_H
#define AGENT_KEEPER_DRAFT_H

#include "common/err.h"
#include "common/listing.h"

#include <stdbool.h>

/*
 * One content in the making: a folder that nobody else sees, which becomes the
 * published folder by one rename, or stays for a later resume. In the cache it
 * is partial/NAME; for --to DIR it is ".BASE.cloud-dp-agent-partial" beside
 * DIR.
 */
struct draft {
	int dir_fd;     /* of the folder in the making; owned */
	int lock_fd;    /* flock held while the draft is open; owned */
	int from_fd;    /* folder that holds it; owned */
	int to_fd;      /* folder that will hold the published one; owned */
	char *from_name, *to_name; /* owned */
	char *path;     /* of the published folder, absolute; owned */
	bool is_cache;
};

/*
 * --to DIR: DIR must be absent or an empty folder. ERR_FOLDER (names why),
 * ERR_LOCKED when another agent works on it.
 */
enum err_code draft_open_at(const char *path, struct draft *out, struct err *e);

/*
 * Remove from the draft whatever is not a regular file of `listing`: leftovers
 * of another source. Then fsync all folders, and rename to the final name,
 * which must not exist (an empty --to DIR is replaced). The files themselves
 * were synced by receive. After it dir_fd is that of the published folder.
 */
enum err_code draft_publish(struct draft *d, struct listing *listing,
			    struct err *e);

/* Throw the whole draft away. */
enum err_code draft_drop(struct draft *d, struct err *e);

/* Let go of the lock and the descriptors; what is there stays. Zero is fine,
 * with dir_fd etc. -1. An empty draft folder is removed. */
void draft_close(struct draft *d);
#define DRAFT_NONE \
	(struct draft){ .dir_fd = -1, .lock_fd = -1, .from_fd = -1, .to_fd = -1 }

#endif
