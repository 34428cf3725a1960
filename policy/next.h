#ifndef POLICY_NEXT_H
#define POLICY_NEXT_H

#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

/* What happened at a source, and what is left. All times ms. */
struct next_input {
	enum err_code code;
	unsigned attempts_done;    /* at this source, since it last made progress */
	unsigned attempts_allowed; /* [transfer] attempts */
	unsigned relocations_done; /* since progress: expiry is answered once */
	unsigned retry_after_s;    /* 0 = the server named none */
	int64_t patience_left_ms;  /* of the 60 s a download waits in all */
	int64_t time_left_ms;      /* of the whole download; INT64_MAX = no limit */
	uint32_t chance;
};

enum next_action {
	NEXT_DO_AGAIN,    /* same source after delay_ms */
	NEXT_DO_RELOCATE, /* ask for locations again, then the same source */
	NEXT_DO_SOURCE,   /* next source */
	NEXT_DO_GIVE_UP,
};

struct next_step {
	enum next_action action;
	int64_t delay_ms;
	char reason[120]; /* for the log: why this, with figures */
};

/* Pure: same input, same output. Back-off: 1 s doubled up to 30 s. */
struct next_step next_decide(const struct next_input *in);

#endif
