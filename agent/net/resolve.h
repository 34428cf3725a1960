#ifndef AGENT_NET_RESOLVE_H
#define AGENT_NET_RESOLVE_H

#include "agent/net/track.h"

/*
 * The walk: Service FQDN -> CNAME -> ... -> addresses (RFC 1034 s3.6.2,
 * RFC 2181 s10.1). Records may come in any order; a chain that stops at an
 * alias is asked on; A and AAAA are asked side by side, each along its own
 * aliases.
 */
struct resolve_result {
	struct err result;
	char name[256];      /* asked for: lower case, no trailing dot */
	char canonical[256]; /* at the end of the aliases */
	struct resolve_hop hops[RESOLVE_HOPS_MAX]; /* where A and AAAA differ:
			      * one chain, then what only the other has */
	unsigned hop_count;  /* filled also when the walk failed behind them */
	struct resolve_address addresses[RESOLVE_ADDRESSES_MAX];
	unsigned address_count; /* v6 and v4 by turns (RFC 8305 s4), v6 first;
				 * 0 unless the result is OK */
};

struct resolve_options {
	struct dns *dns;      /* borrowed, outlives this */
	unsigned max_hops;    /* aliases followed: as many pass, one more fails */
	struct span suffixes; /* [cloud] suffix, each ended by a line feed */
	bool public_only;     /* cloud: refuse private and loopback addresses */
	struct span hosts;    /* text of the hosts file, "" = none consulted */
};

struct resolve; /* walks under way and results remembered for their TTL */
struct resolve *resolve_new(const struct resolve_options *options,
			    struct err *e); /* copies the texts */
/* Walks end silently. Not from inside a callback. */
void resolve_free(struct resolve *r);

typedef void resolve_done(void *arg, const struct resolve_result *result);

/* What the name is for decides what it may lead to. */
enum resolve_leg {
	RESOLVE_SITE,    /* management point, distribution point: anywhere */
	RESOLVE_SERVICE, /* cloud service: where the chain has aliases, its last
			  * name must lie within one of the suffixes (none
			  * given = any), else DNS_SUFFIX */
	RESOLVE_STORAGE, /* a host that a manifest named: it must lie within
			  * them itself too */
};

/*
 * Walk `name` (host name, trailing dot allowed, or an IP literal, which is its
 * own answer). "localhost" is the loopback (RFC 6761 s6.3) and never asked.
 *
 * On the cloud legs (SERVICE, STORAGE) unspecified, multicast, reserved and
 * link-local addresses (embedded in IPv6 too: RFC 4291 s2.5.5, 6052, 3056) are
 * DNS_ADDRESS, private and loopback ones as well with public_only. One of them
 * spoils the whole answer.
 *
 * Errors: DNS_NAME, DNS_NXDOMAIN, DNS_NODATA, DNS_DANGLING (NXDOMAIN behind an
 * alias; the text names the alias, the target and the server), DNS_LOOP,
 * DNS_HOPS, DNS_SERVER, DNS_TIMEOUT, DNS_REPLY, DNS_SUFFIX, DNS_ADDRESS; each
 * text names the hop, the code and the server. One family failing is no error
 * while the other has addresses; one that is silent is waited for one second
 * after the other has come.
 *
 * Results are remembered for their lowest TTL (at most 300 s), failures 5 s.
 * `done` exactly once, from resolve_process(), unless cancelled; the handle is
 * void then. NULL with *e set: DNS_NAME, NOMEM.
 */
struct resolve_walk *resolve_start(struct resolve *r, const char *name,
				   enum resolve_leg leg, resolve_done *done,
				   void *arg, struct err *e);
void resolve_cancel(struct resolve_walk *w); /* silent; NULL is fine */

/* What is remembered of that walk, so that no walk is needed; NULL = nothing.
 * Borrowed until the next call to resolve. */
const struct resolve_result *resolve_recall(struct resolve *r, const char *name,
					    enum resolve_leg leg);

/* Call once per turn of the loop, after dns_process(): delivers what is ready.
 * Returns ms until it wants to be called again, or -1. */
int resolve_process(struct resolve *r);

#endif
