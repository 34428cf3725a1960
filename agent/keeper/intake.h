#ifndef AGENT_KEEPER_INTAKE_H
#define AGENT_KEEPER_INTAKE_H

#include "agent/keeper/known.h"
#include "agent/keeper/part.h"
#include "agent/keeper/roster.h"
#include "agent/keeper/spread.h"
#include "agent/wire.h"

/*
 * What keeper/receive and keeper/parts share: what is asked and answered, and what
 * becomes of one file of the list, on the disk and in the figures. Nobody else looks
 * into struct receive or calls what stands below it.
 */
#define RECEIVE_UNKNOWN UINT64_MAX

struct receive_options {
	int dir_fd;                   /* the draft folder; borrowed */
	const struct listing *wanted; /* policy's file list, sorted; borrowed;
				       * count 0 = none */
	uint64_t size;     /* of the whole content by policy; or UNKNOWN */
	uint64_t most_bytes;  /* more than that is refused: quota, disk */
	enum err_code (*stop)(void *arg, struct err *e); /* signals; may be NULL */
	void *stop_arg;
};

/* What to ask for. */
struct receive_ask {
	uint64_t index, offset, size;
	uint64_t end; /* of the part that is asked for; UNKNOWN = all the rest */
	char etag[257]; /* validator of the kept bytes at this host; "" = none */
	const char *path;
};
/* A FETCH that is to end earlier. */
struct receive_trim {
	uint64_t index, asked, end;
};
/* An answer that begins. */
struct receive_begun {
	uint64_t index, asked, offset, total;
	const char *etag;
};

struct receive {
	struct receive_options o;
	char host[WIRE_NAME + 1];    /* of the source of now; "" = no notes */
	struct roster list;          /* what it lists */
	struct known known;          /* what else is in the draft, from sources
				      * before, hashed */
	size_t cursor;               /* no idle file of the list before it */
	size_t done;                 /* complete files */
	uint64_t bytes_done, bytes_resumed, bytes_received;
	uint64_t since_stop, unsynced; /* bytes */
	struct part_place place;
	bool is_planned;
	struct spread spread;        /* large files in several streams */
	uint64_t margin;             /* of the last receive_next_part() */
	struct roster_file *cut;     /* some of its streams may end earlier; NULL */
	struct roster_file *behind;  /* its kept bytes are hashed while the rest
				      * comes; NULL = none */
};

/* So much work was done: it may be time to stop. */
enum err_code intake_ask_stop(struct receive *r, uint64_t bytes, struct err *e);
/* Hash all that lies in the file. fd: as part_catch_up(). */
enum err_code intake_catch_up(struct receive *r, struct roster_file *f, int fd,
			      struct err *e);

/* It can be asked for (again). */
void intake_reopen(struct receive *r, struct roster_file *f);

/* Its bytes go, from the disk and from the figures. */
void intake_forget(struct receive *r, struct roster_file *f);

/* Open it for writing behind what there is of it; as part_open(). */
enum err_code intake_open(struct receive *r, struct roster_file *f, struct err *e);

/* Which version of the file are the bytes of that come from `offset` on? CHANGED:
 * of another than those before. */
enum err_code intake_take_etag(struct roster_file *f, uint64_t offset,
			       const char *etag, struct err *e);

/* All bytes are there, the part is open: judge the hash (HASH_FILE), write and sync.
 * Where it fails, they are forgotten; but what a full disk took of them, or what a
 * stop left unhashed, is kept. */
enum err_code intake_complete(struct receive *r, struct roster_file *f,
			      struct err *e);

/* All files that are complete are on the disk when this returns. */
enum err_code intake_sync(struct receive *r, struct err *e);

/* Asked for, and not ended. */
bool intake_is_pending(const struct roster_file *f);
/* It ends before its time: what is there stays, and it may be asked for again. */
void intake_end_badly(struct receive *r, struct roster_file *f);

/* Bytes in the draft, hashed or not. */
uint64_t intake_bytes(const struct part *p);

#endif
