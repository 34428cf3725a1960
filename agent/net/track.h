#ifndef AGENT_NET_TRACK_H
#define AGENT_NET_TRACK_H

#include "agent/net/address.h"
#include "agent/net/dns.h"

#define RESOLVE_HOPS_MAX 64
#define RESOLVE_ADDRESSES_MAX 32

struct resolve_hop {
	char owner[256], target[256];
	uint32_t ttl_s;
	char server[64];
	unsigned duration_ms; /* of the question whose answer held it */
};

/*
 * One address family's way along the aliases of a name, to its addresses. A
 * walk (agent/net/resolve.h) has two of them, side by side. All fields may be
 * read at any time; the caller sets those above the line.
 */
struct track {
	struct dns *dns;      /* borrowed */
	const char *name;     /* where it begins; borrowed, no trailing dot */
	enum dns_type type;   /* DNS_A or DNS_AAAA */
	unsigned max_hops;    /* as many pass, one more fails; 0..64 */
	void (*ended)(struct track *t); /* once, from dns_process() */
	void *arg;            /* for `ended` */
	/* ---- */
	struct dns_query *query; /* non-NULL = under way */
	char at[256];         /* last name of the chain so far */
	struct resolve_hop hops[RESOLVE_HOPS_MAX]; /* with the one that closed
			       * a loop, without the one too many */
	unsigned hop_count;
	struct resolve_address addresses[RESOLVE_ADDRESSES_MAX];
	unsigned address_count;
	struct err result;    /* DNS_NXDOMAIN, DNS_NODATA, DNS_DANGLING, DNS_LOOP,
			       * DNS_HOPS, DNS_SERVER, DNS_TIMEOUT, DNS_REPLY,
			       * NOMEM; each names the hop and the server */
};

/* Ask the first question. Where that fails, `result` says so, `query` is NULL
 * and `ended` is not called. */
enum err_code track_start(struct track *t);
void track_cancel(struct track *t); /* silent; keeps what it found */

#endif
