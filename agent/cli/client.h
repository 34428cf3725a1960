#ifndef AGENT_CLI_CLIENT_H
#define AGENT_CLI_CLIENT_H

#include "agent/keeper/order.h"

#include <stdint.h>

/*
 * The asker's side of the control socket (agent/keeper/control.h): connect, send,
 * read all of the answer (64 MiB at most).
 *
 * ERR_SERVICE with !is_there: nobody listens (the usual case: no service).
 * ERR_NOT_ALLOWED: this user may not connect. ERR_SERVICE with is_there: it broke, or
 * did not answer in time; with is_sent the request may have been carried out. SIGINT
 * and SIGTERM (signals_check) end the waiting: the connection is shut, which stops a
 * job, and their code returned.
 */
struct client_question {
	const char *path;       /* of the socket; "" = none */
	struct span request;    /* as order_print has it */
	const int *fds;         /* NULL, or three to hand over; borrowed */
	int64_t wait_ms;        /* for the answer; 0 = as long as it takes */
	bool is_there, is_sent; /* told */
};
enum err_code client_ask(struct client_question *q, struct buf *reply,
			 struct err *e);

/*
 * The answer to a verb that changes something: its exit status and its error.
 * ERR_SERVICE when it is no such answer.
 */
struct client_result {
	int exit;
	struct err error; /* of the service */
};
enum err_code client_read_result(struct span reply, struct client_result *out,
				 struct err *e);

/* Ask for such a verb, and wait until it is done; the service's error is returned
 * like one of our own.
 * *is_there: somebody listens. */
enum err_code client_order(const char *path, enum control_verb verb,
			   const struct content *content, bool *is_there,
			   struct err *e);

/* A text of an answer that is an object, by its two keys: "cache", "directory".
 * false where there is none. */
bool client_find_text(struct span reply, const char *outer, const char *inner,
		      char *out, size_t size);

#endif
