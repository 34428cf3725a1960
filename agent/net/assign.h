#ifndef AGENT_NET_ASSIGN_H
#define AGENT_NET_ASSIGN_H

#include "agent/net/exchange.h"

/*
 * What the keeper asks of the site itself: REGISTRATION, ASSIGNMENTS, RELAY. Each
 * configured management point in order, until one gives a usable answer.
 *
 * ASSIGNMENTS: a signed RequestAssignments, then the body of every policy, a few at
 * a time, from the management point that answered and from no other; then one
 * ASSIGNMENT for each CCM_SoftwareDistribution in them. All or nothing: a management
 * point that does not give a body (no connection, 401, 403, 5xx, or not within
 * ASSIGN_MS) is given up and the next one asked from the start. A policy that is
 * gone by now (other 4xx) or cannot be read is left out and told to on_attempt.
 * When it fails, and a management point said that it does not know this client (HTTP
 * 200 and no byte), a REGISTERED with an empty smsid says so: registering may help.
 */
struct assign;

#define ASSIGN_MS 600000 /* for all bodies of one management point */

struct assign_request {
	struct http *http;
	const struct wire_config *config; /* borrowed until done */
	const struct identity *identity;  /* borrowed; NULL = none handed over */
	struct span token;                /* client token; "" = none; copied */
	bool has_certificate;
	const struct wire_msg *call;      /* one of the three; copied */
	void (*on_attempt)(void *arg, const char *url, const struct err *why);
	void (*on_note)(void *arg, const char *label, struct span text);
	/* REGISTERED, ASSIGNMENT */
	void (*send)(void *arg, enum wire_type type, const void *fields);
	/* Once; the handle is gone by then. Errors of class MP as mp.h says them. */
	void (*done)(void *arg, const struct err *result);
	void *arg;
};

/* NULL with *e set: CONFIG (no identity, no site code, none configured, unusable
 * token), NOMEM, or the error of a call that could not even begin. */
struct assign *assign_start(const struct assign_request *request, struct err *e);
void assign_cancel(struct assign *a); /* silent; NULL is fine */

#endif
