#ifndef AGENT_NET_GAUGE_H
#define AGENT_NET_GAUGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the kernel knows of a TCP connection, and how much it may take in advance. */
struct gauge {
	uint64_t peer;      /* hash of its address, never 0 */
	uint32_t least_us;  /* shortest round trip of late; 0 = not known */
	uint32_t now_us;    /* from an acknowledgement to the data that answers it,
			     * smoothed; 0 = not known. Steps of a millisecond. */
	uint32_t overtaken; /* packets that came out of order since connect */
};

/* False: no TCP connection (any more). Source: tcp(7), struct tcp_info. */
bool gauge_read(int fd, struct gauge *out);

/* SO_RCVBUF: before connect() it sizes the first window as well. */
void gauge_set_buffer(int fd, size_t bytes);
/* The same for a connection: its window may be as large as the buffer again. */
void gauge_fit_buffer(int fd, size_t bytes);

#endif
