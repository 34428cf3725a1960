#ifndef AGENT_CLI_SHOW_ONCE_H
#define AGENT_CLI_SHOW_ONCE_H

#include "agent/keeper/once.h"

/* --once on standard output: a line for each job of policy, what was due first; or
 * one JSON object. */
void show_once(const struct once_report *r, bool is_dry_run, const struct err *e,
	       bool json);

#endif
