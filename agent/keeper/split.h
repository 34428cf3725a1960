#ifndef AGENT_KEEPER_SPLIT_H
#define AGENT_KEEPER_SPLIT_H

#include <stdbool.h>
#include <stdint.h>

/*
 * One large file that comes in several streams at once, each with a part of its
 * own: a window that slides over the file, so that the bytes can be hashed in
 * their order soon after they came. Only the arithmetic; no file, no message, no
 * clock.
 *
 * It begins with the one stream that asks for the whole file. Others ask for parts
 * further on: only when the server gives one of them the first is told to end where
 * the parts begin. So a server that knows no ranges costs a few requests, nothing
 * else.
 */
#define SPLIT_MAX 128
#define SPLIT_STEP (1u << 20)  /* bytes; parts begin at multiples of it */

enum stream_state {
	STREAM_IDLE,   /* to be asked for, again */
	STREAM_ASKED,  /* waits for the head */
	STREAM_COMING, /* waits for bytes, or the end */
	STREAM_DONE,   /* all there; not yet hashed */
	STREAM_UNWANTED, /* waits for the end; what comes is of no use */
};

struct stream {
	uint64_t asked; /* where it begins; its name towards net */
	uint64_t next;  /* byte that comes next */
	uint64_t end;   /* exclusive */
	enum stream_state state;
	bool is_cut;    /* net is to be told of `end` */
};

struct split {
	struct stream streams[SPLIT_MAX]; /* any order */
	unsigned count;
	uint64_t size;     /* of the file */
	uint64_t frontier; /* nobody was asked for what lies behind it */
	uint64_t ahead;    /* bytes that came and are not hashed yet */
	unsigned failures; /* in a row that brought nothing */
	bool is_agreed;    /* the server gives parts, and the first stream is cut */
};

/* What is decided by. */
struct split_case {
	unsigned connections; /* 1..64: streams at once, at most */
	uint64_t margin;      /* bytes that may be under way beyond those we know of */
};

/* The first stream, asked for at `asked`, has brought the bytes before `have`. */
void split_begin(struct split *s, uint64_t asked, uint64_t have, uint64_t size);

/*
 * Or it goes on with what streams of an earlier run have left: the bytes before
 * `have`, and those that split_keep() names, in their order, with a gap before each.
 * split_first() asks for what is in the first gap.
 */
void split_resume(struct split *s, uint64_t have, uint64_t size);
void split_keep(struct split *s, uint64_t begin, uint64_t end);
const struct stream *split_first(struct split *s);

/*
 * The next part to ask for, which counts as asked from now on; valid until the next
 * call. NULL: nothing now. The parts are such that all streams end together, if they
 * are about equally fast; one that turns out to be slow is cut (split_next_cut) where
 * another can help.
 */
const struct stream *split_next(struct split *s, const struct split_case *c);

/* The stream of that name; NULL where there is none that has not ended. */
struct stream *split_find(struct split *s, uint64_t asked);
/* May it bring `len` bytes from `offset` on? Unwanted ones may be any number. */
bool split_fits(const struct stream *stream, uint64_t offset, uint64_t len);

/*
 * A part begins to come. The first one decides: where the first stream is far enough
 * from it, that ends at the begin of the parts from now on; else the parts are
 * unwanted.
 */
void split_begun(struct split *s, uint64_t margin, struct stream *part);

/* What net must be told: the stream *name ends before *end. False: nothing more. */
bool split_next_cut(struct split *s, uint64_t *name, uint64_t *end);

/* It has ended well, wherever that was to be. */
void split_ended(struct split *s, struct stream *stream);

/* It ended early. What came of it stays, the rest will be asked for again; false
 * where nothing came so often enough, or for the first stream before there are parts.
 * A part before that: when all have failed there will be none. */
bool split_failed(struct split *s, struct stream *stream);

/* All bytes are here: parts that have not begun are of no use any more. */
void split_whole(struct split *s);
/* Has net more to say of some stream? */
bool split_is_busy(const struct split *s);

/* How far bytes are in the file without a gap, from `have` on. What lies before
 * `have` is forgotten. */
uint64_t split_reach(struct split *s, uint64_t have);

#endif
