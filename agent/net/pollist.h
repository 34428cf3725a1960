#ifndef AGENT_NET_POLLIST_H
#define AGENT_NET_POLLIST_H

#include "agent/net/identity.h"
#include "agent/wire.h"

/* What a site says to its client: docs/wire.md 2.5, 8. */

/* PolicyFlags: docs/wire.md 8.1 */
enum pollist_flags {
	POLLIST_NEEDS_AUTH = 2,
	POLLIST_SECRET = 4,
	POLLIST_INTRANET_ONLY = 8,
};

#define POLLIST_MAX 10000          /* policies; more is ERR_MP_REPLY */
#define POLLIST_QUERY_MAX 1024     /* bytes */
#define POLLIST_BODY_MAX (1u << 20)  /* of one body as it comes, bytes */
#define POLLIST_CLEAR_MAX (4u << 20) /* opened and inflated, bytes */

/* One policy whose body can be fetched from the management point that named it. */
struct pollist_item {
	char *id, *version; /* owned; "" where absent */
	char *query;        /* owned; of /SMS_MP/.sms_pol */
	uint32_t flags;
};
struct pollist {
	struct pollist_item *items; /* owned */
	size_t count, room;
	size_t refused;      /* their location leads elsewhere, or is none */
	char refused_text[256]; /* the first of them */
};
void pollist_free(struct pollist *l); /* zero is fine */

/* Reply to a registration: the root's SMSID, whatever the root is called.
 * ERR_MP_REPLY where there is none. */
enum err_code pollist_parse_registered(struct span xml, char smsid[64],
				       struct err *e);

/*
 * ReplyAssignments. `host`: of the management point that answered; a location of
 * another host, or of another path than /SMS_MP/.sms_pol, is refused and counted.
 * ERR_MP_REPLY.
 */
enum err_code pollist_parse(struct span xml, const char *host, struct pollist *out,
			    struct err *e);

/*
 * The body of one policy as it came: sealed or in clear, XML in any encoding, or
 * zlib as hex text, by itself or inside the XML. Each CCM_SoftwareDistribution in
 * it is told, with texts borrowed for the call; other classes are passed over.
 * found returns ERR_OK to go on.
 *
 * identity  NULL = sealed ones cannot be read
 * Errors    ERR_MP_REPLY with the reason, ERR_NOMEM, those of `found`
 */
typedef enum err_code pollist_found(void *arg, const struct wire_assignment *a,
				    struct err *e);
enum err_code pollist_read_body(struct span body, const struct identity *identity,
				pollist_found *found, void *arg, struct err *e);

#endif
