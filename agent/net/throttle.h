#ifndef AGENT_NET_THROTTLE_H
#define AGENT_NET_THROTTLE_H

#include "agent/net/pace.h"
#include "agent/net/probe.h"
#include "agent/net/stall.h"
#include "agent/net/yield.h"

#include <curl/curl.h>

/*
 * How much of the link all transfers of curl take together: what net/pace allows and
 * what net/yield leaves to others, shared by turns, with socket buffers to match, and
 * stalls told from transfers that we hold up ourselves. For easy and http.
 */
#define THROTTLE_SOCKETS 160 /* more than curl keeps: connections + 2, and races */

/* A connection that curl has open, and what it said last (net/gauge). curl does not
 * tell which transfer it is for; it need not. */
struct throttle_socket {
	int fd;
	enum pace_lane lane;
	uint32_t delay_us, overtaken;
	int64_t delay_ms; /* when delay_us became another */
	size_t buffer;    /* it was given; 0 = the kernel's own */
};

struct throttle {
	struct pace_rates rates;
	struct pace pace;
	struct yield yield;          /* in the background alone */
	/* is it the way that takes so long, or the server? */
	struct probe probe;
	bool is_long;        /* it does, at one connection at least */
	int64_t doubt_ms;    /* since then; 0 = it does not */
	int64_t probed_ms;   /* when the last probe began */
	int64_t clear_ms;    /* until then it is the server */
	uint64_t clear_peer; /* that one */
	uint32_t clear_us;   /* the way to it */
	struct throttle_flow *flows; /* all under way; not owned */
	struct throttle_socket sockets[THROTTLE_SOCKETS];
	unsigned socket_count;
	uint64_t turns;
	uint64_t taken;     /* bytes, in all */
	int64_t widened_ms; /* since then buffers may be larger; 0 = always */
};

/* One transfer. Zero is valid: not begun. */
struct throttle_flow {
	struct throttle *throttle; /* NULL = not under way */
	struct throttle_flow *next;
	CURL *easy;
	enum pace_lane lane;
	uint64_t turn;      /* held up by a limit, in this order; 0 = not */
	bool is_paused;     /* by whoever takes the bytes */
	bool is_stalled;    /* out: ended for silence */
	int64_t limit_ms;   /* of silence */
	struct stall stall; /* step_ms 0 = the request has not been sent */
};

/* Before all else. */
void throttle_open(struct throttle *t);
void throttle_set(struct throttle *t, const struct pace_rates *rates);

/*
 * Before the transfer begins, after all other options: sets those of `easy` that
 * are about sizes of buffers, HTTP version, reuse of connections and silence. The
 * flow lives until throttle_end(), which is fine for one that never began.
 */
void throttle_begin(struct throttle *t, struct throttle_flow *flow, CURL *easy,
		    enum pace_lane lane, int64_t silence_ms);
void throttle_end(struct throttle_flow *flow);

/* In the write callback. False: not now; return CURL_WRITEFUNC_PAUSE, its turn will
 * come. */
bool throttle_may_take(struct throttle_flow *flow);
void throttle_took(struct throttle_flow *flow, size_t bytes);
/* Paused for another reason (HTTP_PAUSE); and again on its way. */
void throttle_pause(struct throttle_flow *flow);
void throttle_resume(struct throttle_flow *flow);

/* Look how long others are made to wait, then let go on what was held up and may
 * now. Returns ms until it wants to be called again, or -1. */
int throttle_turn(struct throttle *t);

#endif
