#ifndef AGENT_CLI_HANDOVER_H
#define AGENT_CLI_HANDOVER_H

#include "agent/cli/options.h"
#include "policy/content.h"
#include "policy/settings.h"

/* Is there a running service that keeps our cache, and must obey us? Content is only
 * to say whom the asking is about. */
bool handover_is_there(const struct settings *s, const struct content *content);

/*
 * --download by the running service instead of ourselves: where there is one that
 * keeps the same cache, we may tell it what to do, and nothing on the command line
 * asks for what only we have. Its child writes to our standard output and error.
 *
 * true: it is done, *status its exit status, and there is nothing more to say; or it
 * broke off, which *e tells (nothing may be tried again: it may have been done).
 * SIGINT and SIGTERM stop the service's job and are the status. false: nothing has
 * happened, work alone.
 */
bool handover_download(const struct options *o, const struct settings *s,
		       const struct content *content, int *status,
		       struct err *e);

#endif
