/*
 * Policy (protocol.md 8): endpoint MP_PolicyManager, and GET /SMS_MP/.sms_pol.
 *
 * DIR/policies/<id>.xml is a document, UTF-8; DIR/policies/<id>.conf says what it
 * is, lines `KEY VALUE`: version 1.00, category X, type Machine, flags N (the sum of
 * PolicyFlags). Read at every request; assignments in bytewise order of the ids.
 */
#ifndef LAB_MP_POLICY_H
#define LAB_MP_POLICY_H

#include "mp_request.h"
#include "script.h"

void mp_assign(const struct script *s, const struct mp_request *m, struct request *q,
	struct reply *r);

/* GET .sms_pol?<id>.<version> or ?<id>.SHA256:<hash> */
void mp_policy(struct request *q, struct reply *r);

#endif
