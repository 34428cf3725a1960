#ifndef AGENT_KEEPER_SITE_H
#define AGENT_KEEPER_SITE_H

#include "agent/keeper/outbox.h"
#include "agent/keeper/worker.h"
#include "common/buf.h"
#include "policy/settings.h"

/*
 * The Configuration Manager site, as a source of policy and as the one that is told
 * what became of it (docs/wire.md 2.4, 2.5, 8, 10).
 */

/* A network process with the identity of this machine, made where it is missing.
 * Errors as worker_start and identity_ensure. Returns owned. */
struct worker *site_start(const struct settings *s, struct err *e);

/*
 * The site's policy for this machine as a bundle of deployments. Registers first
 * where that was never done, and once anew when no management point knows this
 * client; a site that just got to know it is asked again for a while, since it is
 * not ready at once.
 *
 * Errors    CONFIG ([site] code or management_point missing), those of class MP;
 *           MP_AUTH: the site does not know this client, also after registering
 */
enum err_code site_fetch(const struct settings *s, struct buf *bundle,
			 struct err *e);

/*
 * Send one state record as a state message. ERR_OK: a management point took it.
 * w        any network process: the identity is handed over here
 * Errors   those of class MP; MP_AUTH also when this machine had to be registered
 *          first: the site is not ready at once, so the record waits
 */
enum err_code site_relay(struct worker *w, const struct settings *s,
			 const struct outbox_item *item, struct err *e);

#endif
