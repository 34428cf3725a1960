#ifndef AGENT_CLI_SHOW_SERVICE_H
#define AGENT_CLI_SHOW_SERVICE_H

#include "common/err.h"
#include "common/span.h"

#include <stdbool.h>

/*
 * The answers about the service (agent/keeper/status.h) on standard output: as they
 * are, or as text for people. `reply` is such a JSON object, or empty where there is
 * none; e is the error of the verb, which takes the place of the answer's own.
 */
/* in_detail: --status CONTENT. */
void show_service_status(struct span reply, bool in_detail, const struct err *e,
			 bool json);
void show_service_why(struct span reply, const struct err *e, bool json);
void show_service_history(struct span reply, const struct err *e, bool json);
/* --poll, --stop: `what` is said where it went well. */
void show_service_done(const char *action, const char *what, const struct err *e,
		       bool json);

#endif
