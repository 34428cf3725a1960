#ifndef AGENT_NET_DNS_H
#define AGENT_NET_DNS_H

#include "agent/net/dnsmsg.h"
#include "common/err.h"
#include "common/span.h"

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * One question to the configured name servers, over c-ares, and every record
 * of the answer. Nothing is followed here: that is resolve's.
 *
 * One c-ares channel per server, so that it is known which one answered. The
 * servers are asked in order; SERVFAIL, REFUSED, NOTIMP, FORMERR, a broken
 * message or silence asks the next, `tries` times round; the time-outs are
 * ours. Truncated answers are asked again over TCP (RFC 1035 s4.2.2, RFC 7766).
 * Names are absolute: no search list, no ndots.
 */
struct dns;

struct dns_options {
	struct span servers; /* "IP", "IP:port", "[v6]:port", each ended by a
			      * line feed; empty = the system's, read from
			      * resolv.conf at dns_new, before the sandbox
			      * closes */
	unsigned timeout_ms; /* of one question to one server, TCP included */
	unsigned tries;      /* rounds over all servers, 1.. */
	const char *resolv_conf; /* NULL = /etc/resolv.conf; for tests */
};
#define DNS_SERVERS_MAX 16 /* more: an error; of the system's the first */
#define DNS_POLL_MAX (2 * DNS_SERVERS_MAX) /* most that dns_poll_fds() fills */

/* Errors: CONFIG (a server is no address, too many), NOMEM, INTERNAL. */
struct dns *dns_new(const struct dns_options *options, struct err *e);
/* Pending callbacks are dropped silently. Not from inside a callback, and
 * after whoever may still call dns_cancel(). */
void dns_free(struct dns *d);

struct dns_answer {
	struct err result; /* ERR_OK (records may be empty: NODATA),
			    * DNS_NXDOMAIN (records may hold a CNAME before it),
			    * DNS_SERVER, DNS_TIMEOUT, DNS_REPLY: what each
			    * server said in the last round; NOMEM */
	const struct dns_record *records; /* borrowed for the call; any order */
	unsigned count;
	char server[64];   /* the one that answered last, "127.0.0.1:53" */
	unsigned duration_ms;
};

typedef void dns_done(void *arg, const struct dns_answer *answer);

/*
 * Ask. `done` is called exactly once, from dns_process(), unless cancelled;
 * at the latest after tries * servers * timeout_ms. The handle is void then.
 * Returns a handle for dns_cancel(), NULL with *e set (DNS_NAME, NOMEM).
 */
struct dns_query *dns_ask(struct dns *d, const char *name, enum dns_type type,
			  dns_done *done, void *arg, struct err *e);
void dns_cancel(struct dns_query *q); /* silent; NULL is fine */

/*
 * For the loop: descriptors to poll, the longest sleep, and work to do.
 *
 * dns_timeout_ms  longest_ms or less; -1 stands for "no end", both ways
 * dns_process     to be called after every poll, whatever it said: with the
 *                 few sockets open it tries all (reads do not block), because
 *                 curl_multi_poll does not hand POLLERR on, by which a refused
 *                 UDP question shows. fds may be NULL.
 */
unsigned dns_poll_fds(struct dns *d, struct pollfd *fds, unsigned room);
int dns_timeout_ms(struct dns *d, int longest_ms);
void dns_process(struct dns *d, const struct pollfd *fds, unsigned count);

#endif
