#ifndef AGENT_KEEPER_POLL_H
#define AGENT_KEEPER_POLL_H

#include "policy/deployment.h"
#include "policy/settings.h"

#include <stdbool.h>

/*
 * Where policy comes from (agent-policy(5), SOURCES): a file, a folder, an https
 * URL, the site. What comes over the network is fetched and judged by poll_fetch,
 * kept whole in state/policy.bundle (0600; beside it state/policy.origin: source,
 * etag, signing time), and read from there by poll_load like any file, also when
 * the network is away.
 */

/* Is there anything that poll_fetch must do? source NULL = that of settings. */
bool poll_is_remote(const struct settings *s, const char *source);

/*
 * Fetch policy from the network: conditional GET and signature, or registration
 * and RequestAssignments. *changed: a new policy lies in the state folder.
 * Errors: CONFIG (no signer for a URL, ...), SIGNATURE, ROLLBACK, POLICY (the
 * bundle cannot be read: it is not kept), those of the network. The policy of
 * before stays with every error.
 */
enum err_code poll_fetch(const struct settings *s, const char *source,
			 bool *changed, struct err *e);

/*
 * All deployments: of the file or folder (a single file must be signed where
 * [policy] signer is set: in it, or in FILE.p7s beside it), or of what poll_fetch
 * kept and [policy] local. Joined. Problems and errors as deployment_load. A source
 * on the network that was never fetched is an empty list. out->is_incomplete: with
 * every error, and where nothing (whole) is kept of a source on the network.
 */
enum err_code poll_load(const struct settings *s, const char *source,
			bool must_exist, struct deployment_list *out,
			struct buf *problems, struct err *e);

#endif
