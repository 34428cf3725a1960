#ifndef AGENT_KEEPER_SPREAD_H
#define AGENT_KEEPER_SPREAD_H

#include "agent/keeper/roster.h"
#include "agent/keeper/split.h"

/*
 * When is a large file to come in several streams? A fast link is filled by one,
 * and a second would only be unfair to others. Storage in the cloud limits each
 * connection, so there it is several at once; on-premises only where one is slow,
 * which it is where the way is long, and a few where many have not helped: then it is
 * the link that is. Where we keep to a limit, one stream is tried first, and will do
 * if it reaches that.
 */
struct spread {
	struct roster_file *file; /* borrowed; the one looked at, NULL = none */
	int64_t looked_ms;        /* when files were last compared */
	int64_t since_ms;         /* when counting began */
	uint64_t since_bytes;     /* of the file, then */
	double rate;              /* bytes a ms, of one stream */
	unsigned allowed;         /* streams */
	bool is_measured;         /* `rate` is known */
	bool is_settled;          /* how many has been decided */
	bool is_refused;          /* this source gives no parts */
};

struct spread_case {
	int64_t now_ms;       /* boot clock */
	unsigned connections; /* that may be used, 1..64 */
	unsigned pending;     /* of them, in use */
	uint64_t margin;      /* as split_case */
	unsigned wait_ms;     /* from a request to its answer */
	uint64_t limit;       /* that we keep to, bytes a second; 0 = none */
	bool is_cloud;
};

/* The next part to ask for, and of which file (*file); NULL: none now. To be called
 * often, also where no connection is free: rates are measured here. */
const struct stream *spread_next(struct spread *s, struct roster *list,
				 const struct spread_case *c,
				 struct roster_file **file);

/* A file has parts from an earlier run: it is the one. */
void spread_resume(struct spread *s, struct roster_file *file);

/* A file has begun to come: it may be the one. */
void spread_begun(struct spread *s, const struct roster_file *file);

/* A stream of it has failed and will be asked for again: with less at once. */
void spread_failed(struct spread *s);

#endif
