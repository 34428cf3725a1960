#ifndef AGENT_NET_MP_H
#define AGENT_NET_MP_H

#include "agent/net/exchange.h"
#include "agent/net/loclist.h"
#include "agent/net/locreq.h"
#include "agent/wire.h"

/*
 * Ask management points where a content is: each configured one in order, then
 * those that their MPLIST names and that were not asked yet (docs/wire.md 1).
 */
struct mp;

struct mp_request {
	const struct wire_config *config; /* borrowed until done */
	const struct wire_locate *locate; /* copied */
	struct span token;        /* client token; "" = none; copied */
	bool has_certificate;     /* mutual TLS is possible */
	/* every failed try, as it fails; text and url borrowed */
	void (*on_attempt)(void *arg, const char *url, const struct err *why);
	/* the XML that was sent and received, for the debug log */
	void (*on_note)(void *arg, const char *label, struct span text);
	/* Once; the handle is gone by then. list is NULL with result.code !=
	 * ERR_OK, else it is freed after the call, unless its content was taken
	 * (copied and set to zero). from = base URL. */
	void (*done)(void *arg, struct loclist *list, const char *from,
		     const struct err *result);
	void *arg;
};

/*
 * How one management point is asked: agent/net/exchange.
 *
 * What an MPLIST over http names gets neither token nor certificate: else a liar
 * on the way could have them sent to himself. One learnt over https is asked
 * over https only.
 *
 * The error, when all fail, is the last one in class MP: with its own code where
 * one management point was asked, ERR_MP with their number where several were.
 * NULL with *e set: ERR_CONFIG (none configured, unusable token), ERR_USAGE
 * (content id), NOMEM, or that very error, when no request could even begin
 * (on_attempt was then called from inside).
 */
struct mp *mp_start(struct http *http, const struct mp_request *request,
		    struct err *e);
void mp_cancel(struct mp *m); /* silent; NULL is fine */

/*
 * The header line of a token (docs/wire.md 2.3): "Authorization: Bearer" + token
 * -> "Authorization: Bearer <token>"; a header text that is a bare name
 * ("X-Token:" or "X-Token") -> "X-Token: <token>". Both are trimmed. What cannot
 * stand in a header (a line end, above all) leaves `out` as it was, but failed.
 */
void mp_token_line(struct span token_header, struct span token, struct buf *out);

#endif
