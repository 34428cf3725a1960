#ifndef AGENT_KEEPER_EVENTS_H
#define AGENT_KEEPER_EVENTS_H

#include "agent/keeper/outbox.h"
#include "agent/keeper/report.h"
#include "policy/settings.h"

/*
 * What happened, for others than the person at the terminal: state records in the
 * outbox (where [report] state_messages wants them), a JSON line in [report]
 * events_file. Losing one is a warning in the log, never an error.
 */
/* time, event ("waiting", "transfer", "arrived", "failed", "withdrawn"), content,
 * version, and of the report: result, path, source, bytes, duration, error. report
 * and why may be NULL. */
void events_tell(const struct settings *s, struct record *r,
		 enum outbox_state state, const struct content *content,
		 const struct job_report *report, const struct err *why,
		 int64_t now_s);

/* Does [report] state_messages mean that they are sent? */
bool events_are_sent(const struct settings *s);

/*
 * Send the outbox to the management point, oldest first, until it is empty or one
 * is not taken; what was taken is removed. Starts a network process of its own
 * when there is anything to send. The error is for the log: nothing is lost.
 */
enum err_code events_send(const struct settings *s, struct record *r,
			  struct err *e);

#endif
