#ifndef AGENT_NET_PROBE_H
#define AGENT_NET_PROBE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * How long is the way to a peer right now, whatever its program does? A connection
 * is made and dropped: the answer to a SYN is the kernel's over there (RFC 9293
 * s3.5). For a moment of doubt, not for steady measuring.
 */
struct probe {
	int fd; /* of the attempt under way, owned; -1 = none */
	int64_t began_ms;
};
#define PROBE_NONE (struct probe){ .fd = -1 }

enum probe_state {
	PROBE_WAITS,
	PROBE_ANSWERED,
	PROBE_SILENT, /* refused, or nothing came in time */
};

/* To the peer that the connection `like_fd` has. False: that cannot be begun. */
bool probe_begin(struct probe *p, int like_fd, int64_t now_ms);
/* round_us: there and back, when PROBE_ANSWERED; the attempt is over then. */
enum probe_state probe_look(struct probe *p, int64_t now_ms, uint32_t *round_us);

#endif
