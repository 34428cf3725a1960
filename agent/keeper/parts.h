#ifndef AGENT_KEEPER_PARTS_H
#define AGENT_KEEPER_PARTS_H

#include "agent/keeper/intake.h"

/*
 * What keeper/receive does with a file that comes in several streams (split): the
 * counterparts of receive_next(), receive_head(), receive_end() and receive_fail().
 */

/* As receive_next_part(), receive_next_trim(). */
bool parts_next(struct receive *r, const struct spread_case *c,
		struct receive_ask *out);
bool parts_next_trim(struct receive *r, struct receive_trim *out);

/* The stream that the FETCH is, which has not ended; NULL where the file comes in
 * one, or net speaks of nothing that was asked for. */
struct stream *parts_find(struct receive *r, uint64_t index, uint64_t asked);

/* A part begins. NET_LIED: not where it was asked for; LENGTH, CHANGED: of another
 * file than the rest. */
enum err_code parts_head(struct receive *r, struct stream *s,
			 const struct receive_begun *h, struct err *e);

/* A stream has ended well. The file is whole when all of it is hashed, and net has
 * no more to say of it: then as intake_complete(). LENGTH: it ended too early. */
enum err_code parts_end(struct receive *r, struct stream *s, uint64_t index,
			struct err *e);

/* A stream has ended badly. True: no harm is done; *rc as parts_end(). */
bool parts_fail(struct receive *r, struct stream *s, struct roster_file *f,
		const struct err *why, enum err_code *rc, struct err *e);

#endif
