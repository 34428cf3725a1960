#ifndef AGENT_KEEPER_METRICS_H
#define AGENT_KEEPER_METRICS_H

#include "agent/keeper/plan.h"

/*
 * Write [report] metrics_file (OpenMetrics 1.0, for node_exporter's textfile
 * collector), whole or not at all: jobs by state, bytes by source kind, failures by
 * class, cache use, age of the last good poll, days until [client] certificate
 * ends, outbox. Names and meaning: cloud-dp-agent.service(8), METRICS. Nothing
 * happens where the file is not named. A failure is a warning in the log.
 */
void metrics_write(const struct settings *s, struct record *r,
		   const struct plan *plan, int64_t now_s);

#endif
