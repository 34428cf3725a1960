#ifndef AGENT_NET_LOCLIST_H
#define AGENT_NET_LOCLIST_H

#include "common/buf.h"
#include "common/err.h"
#include "common/span.h"

#include <stddef.h>
#include <stdint.h>

/* One URL of a ContentLocationReply, in document order (docs/wire.md 4.1). */
struct loclist_item {
	/* all owned; "" where absent */
	char *url, *signature, *locality, *site_locality, *dp_type, *version,
		*server;
	char *token; /* attribute or child whose name ends in "Token" */
	uint32_t ssl_state, auth_method;
};

#define LOCLIST_MAX 2000 /* URLs; more is ERR_MP_REPLY */

struct loclist {
	struct loclist_item *items; /* duplicates by URL are gone */
	size_t count, room;
	char hash[256];          /* "sha256:HEX", "4:32772:HEX", "" */
	uint64_t content_flags;  /* 0 = none */
	struct buf boundary_groups; /* lines, as locreq.h takes them */
};

void loclist_free(struct loclist *l); /* zero is fine */

/*
 * Parse the reply, UTF-8 or UTF-16 XML. Unknown elements are passed over, sites
 * merged, values trimmed. ERR_MP_REPLY when the root is not
 * ContentLocationReply, or the XML is refused.
 * what   names the document in messages
 */
enum err_code loclist_parse(struct span xml, const char *what,
			    struct loclist *out, struct err *e);

/* MPLIST: management points as base URLs, each ended by a line feed; http for
 * SSLState 0, https else (docs/wire.md 1.1). At most 32. */
enum err_code loclist_parse_mplist(struct span xml, const char *what,
				   struct buf *out, struct err *e);

#endif
