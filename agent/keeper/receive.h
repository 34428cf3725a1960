#ifndef AGENT_KEEPER_RECEIVE_H
#define AGENT_KEEPER_RECEIVE_H

#include "agent/keeper/intake.h"
#include "common/err.h"
#include "common/listing.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The files of one content, received into a draft folder. Everything that the
 * net role says about them is judged here: names, numbers, lengths, order,
 * hashes. No network, no messages: the job feeds it.
 *
 * A source's list is taken by receive_begin / receive_file / receive_plan;
 * files that are complete from an earlier source or run are kept when their
 * size fits, partial ones go on where they end (their bytes hashed again).
 */
struct receive *receive_new(const struct receive_options *options,
			    struct err *e);
void receive_free(struct receive *r); /* closes, keeps what is on the disk */

/* A new source: its list follows. Knowledge of complete files stays. */
enum err_code receive_begin(struct receive *r, const char *source_host,
			    struct err *e);

/*
 * One listed file. path: relpath_check, no twin by ASCII case, no file that is
 * another's folder: else ERR_NAME. hash: what the source says of it ("" or 64 /
 * 40 hex): only makes stricter. With a wanted list: a path that is not on it is
 * passed over, one whose SHA-256 contradicts it is ERR_HASH_FILE.
 */
enum err_code receive_file(struct receive *r, uint64_t index, const char *path,
			   uint64_t size, const char *hash, struct err *e);

/*
 * The list is complete. Checks that nothing wanted is missing (ERR_ABSENT names
 * it), that the sizes add up to the policy's (ERR_SIZE) and stay below
 * most_bytes (ERR_SPACE_CACHE). Looks at what the draft holds already, hashing
 * kept bytes; but of one large file only while the rest comes, or when it has.
 * bytes_kept: usable from before. need: still to come (files of
 * unknown size not counted).
 */
enum err_code receive_plan(struct receive *r, uint64_t *bytes_kept,
			   uint64_t *need, struct err *e);

/* The part of receive_plan that judges the list alone and touches no file. */
enum err_code receive_check(struct receive *r, struct err *e);

/* What to ask for next, in list order; false when nothing is left to ask.
 * The file counts as asked from now on. */
bool receive_next(struct receive *r, struct receive_ask *out);

/* Do kept bytes of a file that comes wait for their hash? Then receive_catch_up()
 * does some of it, a millisecond's work: whenever nothing else is to be done. */
bool receive_is_behind(const struct receive *r);
enum err_code receive_catch_up(struct receive *r, struct err *e);

/*
 * When that has nothing more: another part of a large file that is coming, to come
 * beside it (keeper/spread says when). False: nothing now.
 */
bool receive_next_part(struct receive *r, const struct spread_case *c,
		       struct receive_ask *out);
/* Is there an answer of which less is needed than was asked for? Then the FETCH of
 * index and asked is to end before `end`. Each is told once. */
bool receive_next_trim(struct receive *r, struct receive_trim *out);

/* The answer to the FETCH at `asked` begins. offset: as asked, or 0 (start over: kept bytes go, once a
 * source for each file; again is ERR_HTTP). Anything else is ERR_NET_LIED. total RECEIVE_UNKNOWN
 * is fine. A total that is not the listed size: ERR_LENGTH. */
enum err_code receive_head(struct receive *r, const struct receive_begun *head,
			   struct err *e);

/* Bytes of the answer to the FETCH at `asked`, which must follow the ones before: else
 * ERR_NET_LIED; beyond the size
 * or most_bytes: ERR_LENGTH, ERR_SPACE_CACHE. What is hashed of them is what is
 * written, whatever net does to them meanwhile (part_append). */
struct receive_bytes {
	uint64_t index, asked, offset;
	const void *at; /* borrowed; may change */
	size_t len;
};
enum err_code receive_data(struct receive *r, const struct receive_bytes *b,
			   struct err *e);

/*
 * The answer ended well: exact length, the source's hash and the wanted hash
 * (ERR_HASH_FILE names the file and both hashes; its bytes go), close. Large
 * files are synced here, small ones many at a time; all are when
 * receive_listing returns. Without a head, but with kept bytes: the server said
 * that they are all (416).
 */
enum err_code receive_end(struct receive *r, uint64_t index, uint64_t asked,
			  struct err *e);
/*
 * It ended badly: the bytes stay for resume, the file may be asked again; but with
 * ERR_CHANGED, the server has another version now, they go. Returns *why, or ERR_OK
 * where it was one of several parts, the others go on, and no harm is done.
 */
enum err_code receive_fail(struct receive *r, uint64_t index, uint64_t asked,
			   const struct err *why, struct err *e);
/* The same for every file that was asked and has not ended. */
void receive_fail_all(struct receive *r);

/* Is every file of the list complete? */
bool receive_is_complete(const struct receive *r);

/* Owned by the caller: the listing of all files, complete ones only, which are
 * on the disk then. */
enum err_code receive_listing(struct receive *r, struct listing *out,
			      struct err *e);

/*
 * The content hash was wrong: all files are thrown away and may be asked anew.
 * True when bytes from before this source (kept or of another source) were among
 * them: the same source deserves a second chance. False: everything came from
 * this source.
 */
bool receive_distrust(struct receive *r);

/* Figures for progress and reports. */
struct receive_figures {
	uint64_t files, files_done;
	uint64_t bytes_total;    /* of known sizes */
	uint64_t bytes_done;     /* in the draft now, kept ones included */
	uint64_t bytes_resumed;  /* kept from earlier runs or sources, usable */
	uint64_t bytes_received; /* by receive_data, this run */
};
void receive_figures(const struct receive *r, struct receive_figures *out);

#endif
