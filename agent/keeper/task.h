#ifndef AGENT_KEEPER_TASK_H
#define AGENT_KEEPER_TASK_H

#include "agent/keeper/job.h"

/*
 * A download with everything round it: job_download, then ledger, events, hooks,
 * and the older versions of the package become the first to leave the cache. Used
 * by --download, --once and the service alike, so that all three leave the same
 * traces.
 *
 * by: "hand" or "service". Traces that cannot be left are warnings; the error is
 * the job's. With --to, a dry run, or no state folder that can be written, only
 * what makes sense is done.
 */
enum err_code task_run(const struct job_request *request, const char *by,
		       struct job_report *report, struct err *e);

#endif
