#ifndef AGENT_NET_HTTP_H
#define AGENT_NET_HTTP_H

#include "agent/net/pace.h"
#include "agent/net/request.h"
#include "common/url.h"

#include <poll.h>
#include <stdbool.h>

/*
 * HTTP requests over curl's multi interface: the one place that sets curl's
 * options and maps its codes. Every host is resolved by resolve (curl is given
 * the addresses), every server judged by verify, every redirect followed here
 * and not by curl (docs/security.md P2, P3, N4).
 */
struct http;

/* Once, before anything else and before the sandbox closes: what curl and
 * OpenSSL read from disk is read now. */
void http_global(void);

struct http *http_new(const struct http_options *options, struct err *e);
void http_free(struct http *h); /* pending requests end silently */

/*
 * Start. Texts are copied. `done` is called exactly once, never from inside,
 * unless cancelled. NULL with *e set: NOMEM, a URL that is none (HTTP).
 */
struct http_call *http_start(struct http *h, const struct http_request *request,
			     struct err *e);
void http_cancel(struct http_call *call); /* silent */
void http_resume(struct http_call *call); /* after HTTP_PAUSE */

/* Limits from now on, also for what is under way; none before the first call. */
void http_pace(struct http *h, const struct pace_rates *rates);
/* Do what is due without a sleep; returns for how long http_turn() may sleep, at
 * most timeout_ms. */
int http_due(struct http *h, struct dns *dns, int timeout_ms);

/*
 * One turn of the loop: sleep until a transfer, one of extra[0..n), DNS or the
 * timeout wants attention, then do what is due. revents are set.
 */
void http_turn(struct http *h, struct dns *dns, struct pollfd *extra,
	       unsigned n, int timeout_ms);

#endif
