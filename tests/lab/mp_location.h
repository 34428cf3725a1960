/* Endpoint MP_LocationManager: where content lies (protocol.md 3 and 4). */
#ifndef LAB_MP_LOCATION_H
#define LAB_MP_LOCATION_H

#include "mp_request.h"
#include "script.h"

void mp_locate(const struct script *s, const struct mp_request *m, struct request *q,
	struct reply *r);

#endif
