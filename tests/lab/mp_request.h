/* What a client sent to the stand-in management point. */
#ifndef LAB_MP_REQUEST_H
#define LAB_MP_REQUEST_H

#include "standin.h"
#include "xmldoc.h"

/* Zero is: nothing parsed. */
struct mp_request {
	struct element *msg;            /* the header, part 1 */
	struct element *body;           /* part 2 */
	struct buf sent;                /* part 2 as it was sent: what is signed */
	struct buf text;                /* part 2 as bare UTF-16LE */
	bool is_compressed;
	bool is_gateway;                /* came through one; the caller's */
};

/*
 * Take the multipart apart and parse both parts. What a management point could not
 * read is refused (false, `r` is the answer); every other deviation from
 * protocol.md 1.3 to 1.5 is noted as a violation.
 */
bool mp_request_parse(struct mp_request *m, struct request *q, struct reply *r);
void mp_request_free(struct mp_request *m);

/* TargetEndpoint, "" when there is none. */
const char *mp_request_endpoint(const struct mp_request *m);

/* Compare a ContentLocationRequest with protocol.md 3; same rules of refusal. */
bool mp_request_check_location(const struct mp_request *m, struct request *q,
	struct reply *r);

#endif
