#ifndef AGENT_KEEPER_PART_H
#define AGENT_KEEPER_PART_H

#include "agent/keeper/split.h"
#include "common/digest.h"
#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * One incomplete file in a draft: its bytes, their hash, and the note of where they
 * came from. It is always a file of our own: what somebody planted in its place is
 * removed, never written to (threats F2, F6).
 *
 * Either the hash is ahead of the file, by what is in the block, or behind it: then
 * bytes from before lie in the file, and part_catch_up() hashes them while others
 * come.
 */
#define PART_ETAG_SIZE 257
#define PART_BLOCK_BYTES (1u << 20)
#define PART_AHEAD_LEAST (16u << 20) /* bytes ahead of their turn that are worth to be
				      * kept, and to hash the others anew for */
#define PART_BLOCKS 6 /* the keeper's share of 24 MiB allows no more */

struct part {
	int fd;                    /* -1 while nothing comes; owned */
	uint64_t have;             /* bytes that are hashed */
	uint64_t stored;           /* bytes in the file, without a gap */
	uint64_t flushed;          /* of them, on their way to the disk */
	char *block;               /* of the place, while a large file is open; NULL =
				    * what comes is written at once */
	struct split *split;       /* owned; NULL = the bytes come in one stream */
	bool is_direct;            /* the file is open with O_DIRECT */
	bool may_direct;           /* the file system has not refused that */
	struct digest *sha256;     /* of them; owned */
	struct digest *sha1;       /* owned; NULL where nobody names a SHA-1 */
	char etag[PART_ETAG_SIZE]; /* validator of all the bytes at the host of
				    * now; "" = none */
	bool has_note;             /* the file carries a note */
};

/* The draft that the parts lie in, and memory that they share. */
struct part_place {
	int dir_fd;     /* borrowed */
	dev_t device;   /* where it lies */
	uid_t user;     /* whose its files must be: ours */
	bool is_memory; /* tmpfs: there is no disk behind it */
	char *copy;     /* PART_COPY_BYTES; owned */
	char *blocks[PART_BLOCKS]; /* not in use, page-aligned; owned */
	unsigned block_count;
	unsigned blocks_made;
};
#define PART_COPY_BYTES (256u << 10)

/* Look at the draft; its copy buffer is made. ERR_FOLDER, ERR_NOMEM. */
enum err_code part_place_open(struct part_place *place, int dir_fd, struct err *e);
void part_place_close(struct part_place *place); /* zero is fine */

/* Bytes that we have, in a row from the first. */
static inline uint64_t part_length(const struct part *p)
{
	return p->have > p->stored ? p->have : p->stored;
}
static inline bool part_is_behind(const struct part *p)
{
	return p->have < p->stored;
}

/* An empty one, no file made yet. Returns owned, or NULL with *e set. */
struct part *part_new(bool needs_sha1, struct err *e);
/* Closes; the file stays, without what was not stored. NULL is fine. */
void part_free(struct part *p, struct part_place *place);

/*
 * Open what the draft holds under `path` from before. *fd is -1 where that is
 * nothing, or was nothing of ours and is removed now. size_bytes: up to the first
 * gap; the file may be longer.
 */
enum err_code part_find(const struct part_place *place, const char *path, int *fd,
			uint64_t *size_bytes, struct err *e);

/*
 * What several streams have left in the file beyond that: a split that goes on with
 * the bytes before `from` and those, owned; NULL where they are not worth it
 * (PART_AHEAD_LEAST). size: of the whole file.
 */
struct split *part_find_ahead(int fd, uint64_t from, uint64_t size);

/*
 * Open for writing behind the bytes we have (anything behind them is cut off, but
 * what the split knows of),
 * making the file (0644) and its folders where they are missing. size: what it
 * will have, to get the disk blocks of a large one now: ERR_SPACE_DISK.
 */
enum err_code part_open(struct part *p, struct part_place *place, const char *path,
			uint64_t size, struct err *e);
void part_close(struct part *p, struct part_place *place);

/* Give back the disk blocks that were reserved for what did not come: whoever
 * asks for room must not find them taken. What came ahead of its turn stays, as long
 * as there is a split. */
enum err_code part_trim(const struct part *p, int fd, const char *path,
			struct err *e);

/*
 * Take bytes that somebody else may still change: what is hashed must be what is
 * written. Those of a large file are copied into the block, hashed there, and written
 * block by block, past the page cache where the file system can: thousands of other
 * programs' pages stay where they are, and it costs less. Others are written, and
 * hashed from the file; by part_catch_up() where the hash is behind anyway.
 */
enum err_code part_append(struct part *p, struct part_place *place, const char *path,
			  const void *bytes, size_t len, struct err *e);
/*
 * Bytes of one of several streams: those that come next as part_append() does,
 * others are written where they belong, to be hashed from the file when those
 * before them are there.
 */
enum err_code part_put(struct part *p, struct part_place *place, const char *path,
		       struct stream *stream, const void *bytes, size_t len,
		       struct err *e);
/* Several streams are no more; what came ahead of its turn does not count any more.
 * Returns how many bytes that were. */
uint64_t part_unsplit(struct part *p);
/* Write what is still in the block. Where it fails, only `stored` bytes are kept. */
enum err_code part_store(struct part *p, const char *path, struct err *e);
/*
 * Hash bytes that are in the file already, `most` at most. fd: of the file, open for
 * reading. They leave the page cache: nobody else reads an incomplete file.
 */
enum err_code part_catch_up(struct part *p, int fd, struct part_place *place,
			    const char *path, uint64_t most, struct err *e);
/* Back to zero bytes; the file is open. */
enum err_code part_restart(struct part *p, const char *path, struct err *e);

/* The note: "HOST\nETAG" in user.cloud-dp-agent.etag. part_read_note sets etag
 * where it is of this host. */
void part_read_note(struct part *p, const char *host, int fd);
void part_write_note(struct part *p, const char *host);
void part_drop_note(struct part *p);

#endif
