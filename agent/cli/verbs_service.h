#ifndef AGENT_CLI_VERBS_SERVICE_H
#define AGENT_CLI_VERBS_SERVICE_H

#include "agent/cli/verbs.h"

/*
 * The verbs of the service: to be it, to do its work once, to ask it. What it knows
 * is asked of it over the control socket; where none runs, it is read from its state,
 * by whoever may.
 */
void verbs_daemon(struct verbs_run *r);
void verbs_once(struct verbs_run *r);
void verbs_status(struct verbs_run *r); /* --status, --why, --history */
void verbs_poll(struct verbs_run *r);
void verbs_stop(struct verbs_run *r);

#endif
