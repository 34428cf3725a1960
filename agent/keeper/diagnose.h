#ifndef AGENT_KEEPER_DIAGNOSE_H
#define AGENT_KEEPER_DIAGNOSE_H

#include "agent/keeper/report.h"

/* --diagnose: every step for every source, in report->steps; writes nothing.
 * The error is what job_download would end with. */
enum err_code job_diagnose(const struct job_request *request,
			   struct job_report *report, struct err *e);

#endif
