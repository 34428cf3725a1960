#ifndef AGENT_KEEPER_PART_H
#define AGENT_KEEPER_PART_H

#include "common/digest.h"
#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * One incomplete file in a draft: its bytes, all of them hashed, and the note
 * of where they came from. It is always a file of our own: what somebody
 * planted in its place is removed, never written to (threats F2, F6).
 */
#define PART_ETAG_SIZE 257

struct part {
	int fd;                    /* -1 while nothing comes; owned */
	uint64_t have;             /* bytes in the file */
	uint64_t flushed;          /* of them, on their way to the disk */
	struct digest *sha256;     /* of them; owned */
	struct digest *sha1;       /* owned; NULL where nobody names a SHA-1 */
	char etag[PART_ETAG_SIZE]; /* validator of all the bytes at the host of
				    * now; "" = none */
	bool has_note;             /* the file carries a note */
};

/* The draft that the parts lie in. */
struct part_place {
	int dir_fd;   /* borrowed */
	dev_t device; /* where it lies */
};

/* An empty one, no file made yet. Returns owned, or NULL with *e set. */
struct part *part_new(bool needs_sha1, struct err *e);
void part_free(struct part *p); /* closes; the file stays. NULL is fine */

/*
 * Open what the draft holds under `path` from before. *fd is -1 where that is
 * nothing, or was nothing of ours and is removed now.
 */
enum err_code part_find(const struct part_place *place, const char *path, int *fd,
			uint64_t *size_bytes, struct err *e);

/*
 * Open for writing behind the bytes we have (anything behind them is cut off),
 * making the file (0644) and its folders where they are missing. size: what it
 * will have, to get the disk blocks of a large one now: ERR_SPACE_DISK.
 */
enum err_code part_open(struct part *p, const struct part_place *place,
			const char *path, uint64_t size, struct err *e);
void part_close(struct part *p);

/* Give back the disk blocks that were reserved for what did not come: whoever
 * asks for room must not find them taken. */
enum err_code part_trim(const struct part *p, int fd, const char *path,
			struct err *e);

/* Write and hash bytes that nobody else can change. */
enum err_code part_append(struct part *p, const char *path, const void *bytes,
			  size_t len, struct err *e);
/* Hash bytes that are in the file already. */
void part_hash(struct part *p, const void *bytes, size_t len);
/* Back to zero bytes; the file is open. */
enum err_code part_restart(struct part *p, const char *path, struct err *e);

/* The note: "HOST\nETAG" in user.cloud-dp-agent.etag. part_read_note sets etag
 * where it is of this host. */
void part_read_note(struct part *p, const char *host, int fd);
void part_write_note(struct part *p, const char *host);
void part_drop_note(struct part *p);

#endif
