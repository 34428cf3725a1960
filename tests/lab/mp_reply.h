/* What the stand-in management point answers to a message. */
#ifndef LAB_MP_REPLY_H
#define LAB_MP_REPLY_H

#include "mp_request.h"
#include "script.h"

/*
 * The multipart reply of protocol.md 1.6 with `text` (UTF-8) as its document, in
 * the form that the client asked for and the script did not change.
 */
void mp_reply(const struct script *s, const struct mp_request *m, struct request *q,
	struct reply *r, const struct buf *text);

/*
 * 200 without a body: what an endpoint that wants signatures answers to a client it
 * does not know, or whose signature is wrong (protocol.md 1.7). `why` goes to the
 * log, as "refused" and as a violation.
 */
void mp_reply_nothing(struct request *q, struct reply *r, const char *why);

/* As in ISO 8601 with Z; 32 bytes. */
void mp_time(char *out, size_t size);

#endif
