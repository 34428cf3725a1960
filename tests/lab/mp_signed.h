/* Whether a message, or a GET, comes from the client that it names. */
#ifndef LAB_MP_SIGNED_H
#define LAB_MP_SIGNED_H

#include "mp_identity.h"
#include "mp_request.h"

enum signed_state { UNSIGNED, SIGNED, BADLY_SIGNED };

/*
 * The hook `clientauth` of protocol.md 2.3 against the certificates of SourceID.
 * SIGNED: `who` is the client. BADLY_SIGNED: `why` is what is wrong: unknown client,
 * a property missing or of another form, a signature of something else.
 */
enum signed_state signed_message(const struct mp_request *m, struct request *q,
	struct client *who, struct buf *why);

/*
 * The headers ClientToken and ClientTokenSignature. The token's time may differ from
 * ours by `minutes`.
 */
enum signed_state signed_get(struct request *q, long minutes, struct client *who,
	struct buf *why);

#endif
