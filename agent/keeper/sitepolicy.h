#ifndef AGENT_KEEPER_SITEPOLICY_H
#define AGENT_KEEPER_SITEPOLICY_H

#include "agent/wire.h"
#include "common/buf.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * The site's policy as deployments of our own kind (docs/wire.md 8.4): one policy
 * file for each advertisement of a package, together one bundle (policy/bundle.h).
 * Nothing of the fields is believed: what cannot be used is left out, with a line in
 * the log, and each file is one that policy/deployment takes.
 */
struct sitepolicy {
	struct sitepolicy_file *files; /* owned */
	size_t count, room;
	size_t bytes;     /* of all texts */
	size_t left_out;  /* assignments that cannot be used */
};
void sitepolicy_free(struct sitepolicy *p); /* zero is fine */

#define SITEPOLICY_MAX 10000

/* ERR_NOMEM; ERR_NET_LIED: more than SITEPOLICY_MAX, or more than BUNDLE_MAX. */
enum err_code sitepolicy_add(struct sitepolicy *p, const struct wire_assignment *a,
			     struct err *e);
/* The bundle; the same bytes for the same assignments in any order. */
enum err_code sitepolicy_print(struct sitepolicy *p, struct buf *out,
			       struct err *e);

/*
 * A time as WMI writes it, "20260115102030.000000+060" (minutes east of UTC) or
 * "...+***" (no zone named; taken for UTC), as epoch seconds. False for anything
 * else, an interval or a time with '*' in its digits among it.
 * Source  DSP0004 (CIM), datetime
 */
bool sitepolicy_time(struct span text, int64_t *epoch_s);

#endif
