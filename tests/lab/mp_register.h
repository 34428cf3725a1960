/* Endpoint MP_ClientRegistration (protocol.md 2.4). */
#ifndef LAB_MP_REGISTER_H
#define LAB_MP_REGISTER_H

#include "mp_request.h"
#include "script.h"

void mp_register(const struct script *s, const struct mp_request *m,
	struct request *q, struct reply *r);

#endif
