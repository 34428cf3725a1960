/*
 * Endpoint MP_RelayEndpoint: state messages (protocol.md 11), kept as lines of
 * DIR/state_messages.jsonl. Clients do not wait for a reply: 200 without a body
 * (Microsoft's log of a client says "doesn't have reply", that of IIS 200).
 */
#ifndef LAB_MP_RELAY_H
#define LAB_MP_RELAY_H

#include "mp_request.h"
#include "script.h"

void mp_relay(const struct script *s, const struct mp_request *m, struct request *q,
	struct reply *r);

#endif
