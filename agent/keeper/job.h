#ifndef AGENT_KEEPER_JOB_H
#define AGENT_KEEPER_JOB_H

#include "agent/keeper/report.h"

/*
 * One content from policy to the cache: policy -> locate -> choose -> (resolve,
 * verify) list -> reserve -> transfer -> check -> publish, over as many sources
 * and attempts as it takes (docs/architecture.md, the way of a job).
 */

/* The error is that of the last source tried (or of the step that failed). The
 * report is filled in every case. */
enum err_code job_download(const struct job_request *request,
			   struct job_report *report, struct err *e);

/* --locate: locate and choose only. report->location and ->chosen. */
enum err_code job_locate(const struct job_request *request,
			 struct job_report *report, struct err *e);

/* --replay: choose from a stored reply; no network, no state. */
enum err_code job_replay(const struct job_request *request, const char *path,
			 struct job_report *report, struct err *e);

#endif
