#ifndef AGENT_NET_STALL_H
#define AGENT_NET_STALL_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Has a server gone silent? Only the time counts in which we would have taken what
 * it sends: curl's own CURLOPT_LOW_SPEED_TIME takes a transfer that a rate limit
 * or a slow disk held up for one that stalled. Pure; times in ms.
 *
 * A transfer is slow while less than STALL_RATE bytes a second come, looked at once a
 * second; it has stalled when it was slow for the whole time allowed.
 */
#define STALL_RATE 1024

struct stall {
	int64_t step_ms;     /* the second under way began */
	uint64_t step_bytes; /* and so many bytes had come */
	int64_t slow_ms;     /* slow since; 0 = it is not */
	int64_t held_ms;     /* we hold it up since; 0 = we do not */
};

/* The request has been sent. */
void stall_begin(struct stall *s, int64_t now_ms);
/* We take nothing (a request was sent, then); we take again. Twice the same:
 * nothing changes. */
void stall_hold(struct stall *s, int64_t now_ms);
void stall_release(struct stall *s, int64_t now_ms);
/* bytes: all that came and went since begin. True: slow for limit_ms. */
bool stall_is_over(struct stall *s, uint64_t bytes, int64_t now_ms, int64_t limit_ms);

#endif
