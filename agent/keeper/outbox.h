#ifndef AGENT_KEEPER_OUTBOX_H
#define AGENT_KEEPER_OUTBOX_H

#include "agent/keeper/record.h"

#include <stdint.h>

/*
 * State records that the management point has not taken yet, oldest first. At
 * most OUTBOX_MAX: beyond it the oldest go, and how many went is kept.
 */
#define OUTBOX_MAX 2000

struct outbox_item {
	int64_t id, at_s;
	char topic[257];    /* content "ID.VERSION" */
	unsigned state;     /* enum outbox_state */
	char details[1024]; /* plain text: result and reason */
};

/* StateID of the messages: docs/wire.md 10. */
enum outbox_state {
	OUTBOX_WAITING = 1,   /* in policy, not yet fetched */
	OUTBOX_TRANSFER,
	OUTBOX_ARRIVED,
	OUTBOX_FAILED,
	OUTBOX_WITHDRAWN,
};

enum err_code outbox_add(struct record *r, const struct outbox_item *item,
			 struct err *e);
/* The oldest; false when there is none. */
bool outbox_first(struct record *r, struct outbox_item *out);
enum err_code outbox_remove(struct record *r, int64_t id, struct err *e);
/* How many wait, and how many were thrown away for lack of room. */
void outbox_count(struct record *r, uint64_t *waiting, uint64_t *lost);

#endif
