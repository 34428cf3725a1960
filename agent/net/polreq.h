#ifndef AGENT_NET_POLREQ_H
#define AGENT_NET_POLREQ_H

#include "agent/net/identity.h"

/*
 * What a client says to its site to be known and to be told its policy
 * (docs/wire.md 2.5, 8.1). Texts borrowed.
 */
struct polreq {
	struct span host_name; /* of this machine; its first label is used */
	struct span fqdn;
	struct span smsid;     /* "GUID:..."; not of a registration */
	struct span site_code; /* not of a registration */
	const char *time;      /* "2026-11-22T10:00:00Z"; of a registration */
};

/* Agent's version in the form that a site expects: docs/wire.md 2.5. */
#define POLREQ_VERSION "5.00.9040.0000"

/* ClientRegistrationRequest, signed. ERR_NOMEM, ERR_INTERNAL. */
enum err_code polreq_print_registration(const struct polreq *r,
					const struct identity *identity,
					struct buf *out, struct err *e);
/* RequestAssignments. ERR_NOMEM. */
enum err_code polreq_print_assignments(const struct polreq *r, struct buf *out,
				       struct err *e);

/* "pear.example.com" -> "pear"; never empty. */
struct span polreq_short_name(struct span host);

#endif
