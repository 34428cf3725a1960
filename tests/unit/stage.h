#ifndef TESTS_UNIT_STAGE_H
#define TESTS_UNIT_STAGE_H

#include "agent/keeper/ledger.h"
#include "policy/deployment.h"
#include "policy/settings.h"

/*
 * A keeper's surroundings in a fresh folder: settings whose cache, state, events
 * and metrics lie below it, and policy made in memory.
 */
struct stage {
	struct settings settings;
	struct record *record;
	char folder[256];
};

/* overrides: NULL-ended, "SECTION.KEY=VALUE", besides those that place the
 * folders; NULL = none. */
void stage_open(struct stage *s, const char *const *overrides);
void stage_close(struct stage *s);
/* A path below the folder: static. */
const char *stage_path(const struct stage *s, const char *name);
/* All of a file below the folder; "" where it is not there. Owned. */
char *stage_read(const struct stage *s, const char *name);

/* Add a deployment of "ABC00042.3": required, a hash made from `text` (that of a
 * content whose one file "file" holds it; NULL = none). The rest is the caller's
 * to set. The pointer holds until the next one is added. */
struct deployment *stage_deploy(struct deployment_list *l, const char *name,
				const char *text);
/* Publish such a content in the cache. */
void stage_publish(const struct stage *s, const char *name, const char *text);

#endif
