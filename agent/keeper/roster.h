#ifndef AGENT_KEEPER_ROSTER_H
#define AGENT_KEEPER_ROSTER_H

#include "agent/keeper/part.h"
#include "common/err.h"
#include "common/listing.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * The files that one source lists, in its order, and the judgement of the list
 * as such: names, numbers, sizes. No file is touched here.
 */
#define ROSTER_UNKNOWN UINT64_MAX /* a size that nobody named */

enum roster_state {
	FILE_IDLE,   /* may be asked for */
	FILE_ASKED,  /* we wait for the head */
	FILE_COMING, /* we wait for bytes, or the end */
	FILE_DONE,   /* complete, its hash known and judged */
	FILE_GONE,   /* remembered ones only: taken over, or no use */
};

/* There may be WIRE_MAX_FILES of them. */
struct roster_file {
	char *path;                   /* owned */
	char *said;                   /* SHA-256 or SHA-1 by the source, hex; owned;
				       * NULL = none */
	uint64_t size;                /* bytes, or ROSTER_UNKNOWN */
	uint64_t asked;               /* offset of the last FETCH for all the rest */
	struct part *part;            /* owned by receive; NULL = no byte of it,
				       * or complete */
	uint32_t index;               /* the source's */
	uint8_t state;                /* enum roster_state */
	bool is_old;                  /* holds bytes from before this source */
	bool has_restarted;           /* the source began it anew once */
	char sha256[DIGEST_HEX_SIZE]; /* of the complete file */
};

/* What a list must agree with. */
struct roster_limits {
	const struct listing *wanted; /* sorted; borrowed; NULL = none */
	uint64_t size;                /* of the content, or ROSTER_UNKNOWN */
	uint64_t most_bytes;
};

struct roster {
	struct roster_limits limits;
	struct roster_file *files; /* owned */
	size_t count, room;
	uint32_t *by_index;        /* place + 1, by the source's index; owned */
	size_t index_room;
	uint64_t names_bytes;
	uint64_t bytes_total;      /* of known sizes; after roster_check */
	size_t unknown;            /* files without; after roster_check */
};

void roster_free(struct roster *l); /* texts too, parts not */
/* For another list: the files must have been taken out. */
void roster_clear(struct roster *l);

/* One line of the list; as receive_file(). */
enum err_code roster_add(struct roster *l, uint64_t index, const char *path,
			 uint64_t size, const char *hash, struct err *e);

/* The list is complete; as receive_check(). */
enum err_code roster_check(struct roster *l, struct err *e);

/* Sizes against the limits, as far as they are known. */
enum err_code roster_judge_total(const struct roster *l, struct err *e);

/* A size that the list did not name: at the head, or at the end. */
enum err_code roster_learn_size(struct roster *l, struct roster_file *f,
				uint64_t size, struct err *e);

static inline bool roster_says_sha1(const struct roster_file *f)
{
	return f->said && strlen(f->said) == 40;
}

/* Bytes of the file that the draft holds, in order and hashed. */
static inline uint64_t roster_have(const struct roster_file *f)
{
	return f->state == FILE_DONE ? f->size : f->part ? part_length(f->part) : 0;
}

/* f->sha256 (and sha1, where the source names one) against what policy and the
 * source say: ERR_HASH_FILE with both hashes. */
enum err_code roster_judge_hash(const struct roster *l,
				const struct roster_file *f, const char *sha1,
				struct err *e);

/* By the source's index: NULL where no such file is wanted. */
struct roster_file *roster_find(const struct roster *l, uint64_t index);

#endif
