#ifndef AGENT_NET_RELAY_H
#define AGENT_NET_RELAY_H

#include "agent/wire.h"
#include "common/buf.h"

/*
 * The report with one state message (docs/wire.md 10): XML in UTF-8, for
 * MP_RelayEndpoint. host_name: of this machine. ERR_NOMEM; ERR_INTERNAL when the
 * time is none.
 */
enum err_code relay_print(const struct wire_relay *m, struct span host_name,
			  struct buf *out, struct err *e);

#endif
