/*
 * How the site is set: DIR/site, read at every request, lines `KEY VALUE`. What
 * stands in brackets is so without a line.
 *
 *   approval yes|no     [yes] a client that is not approved gets no secret policy
 *   settle N            [0] the first N signed messages of a new client are answered
 *                       with an empty body: the site does not know it yet
 *   minutes N           [10] how far the time of a ClientToken may be from ours; the
 *                       record does not say
 *   envelope PAD-CIPHER [pkcs1-3des] of secret policies: pkcs1 or oaep, 3des or aes
 *   clear               secret policies are sent in clear, as where the whole site
 *                       speaks https only
 *   compressed element  [element] <PolicyXML Compression="zlib">HEX</PolicyXML>;
 *              text     the hex text alone
 *   url hash            policies are named by their hash, not by their version
 *   no_mark             documents without a byte order mark
 */
#ifndef LAB_MP_SITE_H
#define LAB_MP_SITE_H

#include "mp_identity.h"
#include "standin.h"

struct site {
	bool is_approving;
	long settle, minutes;
	struct envelope envelope;
	bool is_clear, is_text, is_by_hash, has_mark;
};

void site_read(struct site *s, const struct request *q);

/* Count a signed message of this client; how many there were before. */
long site_count(const struct request *q, const char *smsid);
/* It registers anew. */
void site_count_anew(const struct request *q, const char *smsid);

#endif
