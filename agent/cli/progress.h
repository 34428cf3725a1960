#ifndef AGENT_CLI_PROGRESS_H
#define AGENT_CLI_PROGRESS_H

#include "agent/cli/options.h"
#include "agent/keeper/report.h"

/*
 * How far a download is, on standard error: a bar with rate and remaining time
 * on a terminal, else a line a step and every 10 per cent, or JSON lines. Log
 * lines and the bar do not disturb each other (log_set_hooks).
 */
struct progress;

/* wanted: as on the command line; is_quiet wins. Returns owned; never NULL but
 * for no memory, when nothing is shown. */
struct progress *progress_open(enum options_progress wanted, bool is_quiet);
void progress_show(void *progress, const struct job_progress *p);
void progress_close(struct progress *p); /* wipes the bar; NULL is fine */

#endif
