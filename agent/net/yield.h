#ifndef AGENT_NET_YIELD_H
#define AGENT_NET_YIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What other traffic leaves of a link, found by whoever receives: LEDBAT (RFC 6817)
 * turned round. There the sender steers its window by the one-way delay that the
 * receiver reports. Here the receiver steers the rate at which it takes, by the time
 * from an acknowledgement of its own to the data that answers it, which the kernel
 * measures (tcpi_rcv_rtt of tcp(7)); a queue on either way counts. Nothing is asked
 * of the server. (TCP-LP and the like, `lp` in net.ipv4.tcp_congestion_control, are
 * for senders: set on a socket that downloads it would slow down requests.)
 *
 * Delay beyond the base, the least of the last ten minutes at that peer, is queueing.
 * Below YIELD_TARGET_US the rate grows, the less the nearer; above it shrinks; at
 * twice the target, or where packets were lost, it is halved. It begins low and
 * doubles until the first sign of a queue. Alone on a link that makes a queue of the
 * target and all of the link; beside a transfer that fills the queue, YIELD_FLOOR: it
 * always goes on. As with all of its kind, a queue that never was empty in ten
 * minutes is taken for the way. A server that waits before it sends, since it limits
 * what it gives, looks like a queue, too: net/throttle asks the way itself then
 * (net/probe), and says yield_cleared().
 *
 * Pure: times and samples are handed in.
 */
#define YIELD_TARGET_US 25000
#define YIELD_FLOOR     8000 /* bytes a second, never less */
#define YIELD_TURN_MS   100  /* how often yield_turn() wants to be called */
#define YIELD_PEERS     8
#define YIELD_HISTORY   10 /* minutes (RFC 6817 s2.4.2: BASE_HISTORY) */

struct yield_peer {
	uint64_t key;                    /* 0 = the place is free */
	int64_t minute;                  /* of the newest of base_us */
	uint32_t base_us[YIELD_HISTORY]; /* least in each minute; 0 = none */
};

/* Zero is valid: not begun. */
struct yield {
	struct yield_peer peers[YIELD_PEERS];
	double rate;      /* bytes a second; 0 = not begun */
	unsigned streak;  /* turns without a queue */
	bool is_settled;  /* the doubling is over */
	int64_t turn_ms;  /* of the last yield_turn() */
	int64_t cut_ms;   /* of the last halving */
	int64_t doubled_ms;
	uint64_t bytes;   /* taken, as told at the last turn */
	double seen;      /* most that came lately, bytes a second */
	double best;      /* the same, fading in a quarter of an hour */
	unsigned silent;  /* turns without a measurement */
	uint32_t base_us; /* of the sample that came last */
	/* of the turn under way */
	bool has_delay, is_new, has_loss;
	uint32_t queue_us, round_us; /* the worst of its samples */
};

void yield_begin(struct yield *y, int64_t now_ms);

/* Time to and from a peer, of one connection: the least that is known of it (0 =
 * nothing), and now (0 = not measured anew). */
void yield_sample(struct yield *y, uint64_t peer, uint32_t least_us, uint32_t now_us,
		  int64_t now_ms);
/* The last sample was measured since the turn before: only that halves the rate. */
void yield_measured(struct yield *y);
/* What was measured was not the way, but the server: double again from where it all
 * began, at least. */
void yield_cleared(struct yield *y);
/* Packets were lost, or overtaken. */
void yield_lost(struct yield *y);

/*
 * bytes: taken since begin, in all. Returns the rate until the next turn. What trickles
 * is not measured by the kernel: after a second without, one turn is a probe, at a
 * quarter of what the link is known to have.
 */
uint64_t yield_turn(struct yield *y, uint64_t bytes, int64_t now_ms);

/*
 * What SO_RCVBUF should be for each of so many connections; 0 = leave it (while
 * doubling). The window is what the base and the target hold at the rate that is
 * seen: so a queue of our own cannot become longer than that, whatever the rate, and
 * a lower rate is felt by the sender at once.
 */
size_t yield_buffer_bytes(const struct yield *y, unsigned connections);

#endif
