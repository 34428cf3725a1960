#include "agent/net/throttle.h"

#include "agent/net/gauge.h"
#include "common/clock.h"
#include "policy/rate.h"

#include <stdio.h>
#include <unistd.h>

#define MS_NS 1000000
#define TURN_MAX_MS 3600000
#define DELAY_OLD_MS 3000
#define DOUBT_MS 500      /* it takes so long for so long: ask the way itself */
#define CLEAR_MS 10000    /* what the probe said holds for so long */
#define PROBE_EVERY_MS 5000

static int64_t now_ns(void)
{
	return clock_now_ms() * MS_NS;
}

/* --- sockets ---------------------------------------------------------------- */

static size_t least_of(size_t a, size_t b)
{
	return a && (b == 0 || a < b) ? a : b;
}

/* What a connection may hold for the limits of its lane; 0 = what the kernel likes. */
static size_t buffer_of(const struct throttle *t, enum pace_lane lane)
{
	uint64_t rate = pace_rate(&t->pace, lane);
	return pace_buffer_bytes(rate, rate_width(rate, t->rates.connections));
}

/* Before connect(): the kernel offers its whole first window to the peer, and 64 KiB
 * are seconds at a low rate. */
static int on_open(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	const struct throttle_flow *flow = arg;
	struct throttle *t = flow->throttle;
	size_t bytes = buffer_of(t, flow->lane);
	if (purpose != CURLSOCKTYPE_IPCXN)
		return CURL_SOCKOPT_OK;
	if (bytes)
		gauge_set_buffer(fd, bytes);
	if (t->socket_count < THROTTLE_SOCKETS)
		t->sockets[t->socket_count++] = (struct throttle_socket){
		    .fd = fd, .lane = flow->lane, .buffer = bytes};
	return CURL_SOCKOPT_OK;
}

static int on_close(void *arg, curl_socket_t fd)
{
	struct throttle *t = arg;
	for (unsigned i = 0; i < t->socket_count; i++)
		if (t->sockets[i].fd == fd) {
			t->sockets[i] = t->sockets[--t->socket_count];
			break;
		}
	return close(fd);
}

/*
 * The limit has changed under a connection: a smaller buffer holds from the next
 * window on. A larger one helps as far as the window was scaled when the connection
 * was made; and what once had a size cannot be left to the kernel again.
 */
static void fit(struct throttle_socket *s, size_t bytes)
{
	s->buffer = bytes;
	gauge_fit_buffer(s->fd, bytes ? bytes : PACE_BUFFER_MAX);
}

/* --- limits ------------------------------------------------------------------ */

static bool is_wider(size_t now, size_t before)
{
	return before != 0 && (now == 0 || now > before);
}

static void set_background(struct throttle *t, int64_t at_ns)
{
	bool is_on = t->rates.is_background;
	t->taken = 0;
	if (is_on)
		yield_begin(&t->yield, clock_now_ms());
	pace_set(&t->pace, PACE_LIMIT_YIELD, is_on ? (uint64_t)t->yield.rate : 0,
		 at_ns);
	for (unsigned i = 0; i < t->socket_count && !is_on; i++)
		if (t->sockets[i].buffer)
			fit(&t->sockets[i], buffer_of(t, t->sockets[i].lane));
}

void throttle_open(struct throttle *t)
{
	*t = (struct throttle){ .probe = PROBE_NONE };
}

void throttle_set(struct throttle *t, const struct pace_rates *rates)
{
	size_t before[PACE_LANES];
	int64_t at_ns = now_ns();
	bool is_first = t->rates.connections == 0;
	bool was_background = t->rates.is_background;
	for (unsigned i = 0; i < PACE_LANES; i++)
		before[i] = is_first ? 0 : buffer_of(t, i);
	t->rates = *rates;
	for (unsigned i = 0; i < PACE_LIMITS; i++)
		if (i != PACE_LIMIT_YIELD)
			pace_set(&t->pace, i, rates->limits[i], at_ns);
	for (unsigned i = 0; i < PACE_LANES; i++)
		if (is_wider(buffer_of(t, i), before[i]))
			t->widened_ms = clock_now_ms();
	for (unsigned i = 0; i < t->socket_count; i++) {
		struct throttle_socket *s = &t->sockets[i];
		size_t bytes = buffer_of(t, s->lane);
		if (bytes != before[s->lane])
			fit(s, bytes);
	}
	if (rates->is_background != was_background)
		set_background(t, at_ns);
}

/* --- yielding ----------------------------------------------------------------- */

/* A delay that has not moved for long was not measured anew: nothing comes, or too
 * little for it. */
static bool is_old(const struct throttle_socket *s, const struct gauge *g,
		   int64_t now_ms)
{
	return now_ms - s->delay_ms > DELAY_OLD_MS &&
	       g->now_us > g->least_us + YIELD_TARGET_US / 4;
}

/*
 * It takes long for a while: how long does the way alone take? The same again before
 * what was found out is too old to be believed.
 */
static void doubt(struct throttle *t, const struct throttle_socket *s,
		  const struct gauge *g, int64_t now_ms)
{
	bool is_clear = now_ms < t->clear_ms && g->peer == t->clear_peer;
	if (g->now_us < g->least_us + YIELD_TARGET_US)
		return;
	t->is_long = true;
	if (t->doubt_ms == 0)
		t->doubt_ms = now_ms;
	if (t->probe.fd >= 0 || now_ms - t->doubt_ms < DOUBT_MS ||
	    now_ms - t->probed_ms < PROBE_EVERY_MS ||
	    (is_clear && t->clear_ms - now_ms > CLEAR_MS / 2))
		return;
	t->probed_ms = now_ms;
	if (probe_begin(&t->probe, s->fd, now_ms) && !is_clear) {
		t->clear_ms = 0;
		t->clear_peer = g->peer;
		t->clear_us = g->least_us;
	}
}

/* What became of the probe? clear_us is the least that was known of the way. */
static void take_probe(struct throttle *t, int64_t now_ms)
{
	uint32_t round_us = 0;
	if (t->probe.fd < 0)
		return;
	enum probe_state state = probe_look(&t->probe, now_ms, &round_us);
	if (state == PROBE_WAITS)
		return;
	bool was_clear = now_ms < t->clear_ms;
	bool is_clear = state == PROBE_ANSWERED &&
			round_us < t->clear_us + YIELD_TARGET_US / 2;
	t->clear_ms = is_clear ? now_ms + CLEAR_MS : 0;
	if (is_clear && !was_clear)
		yield_cleared(&t->yield);
}

static void look_at(struct throttle *t, struct throttle_socket *s, int64_t now_ms)
{
	struct yield *y = &t->yield;
	struct gauge g;
	if (!gauge_read(s->fd, &g))
		return;
	doubt(t, s, &g, now_ms);
	bool is_clear = now_ms < t->clear_ms && g.peer == t->clear_peer;
	bool is_new = g.now_us != s->delay_us;
	if (is_new)
		s->delay_ms = now_ms;
	if (g.overtaken > s->overtaken)
		yield_lost(y);
	s->delay_us = g.now_us;
	s->overtaken = g.overtaken;
	uint32_t way_us = is_clear && g.now_us > t->clear_us ? t->clear_us : g.now_us;
	yield_sample(y, g.peer, g.least_us, is_old(s, &g, now_ms) ? 0 : way_us,
		     now_ms);
	if (is_new)
		yield_measured(y);
}

/* A change of a quarter is worth a system call. */
static bool is_other(size_t now, size_t before)
{
	return now &&
	       (before == 0 || now > before + before / 4 || now < before - before / 4);
}

static unsigned count_flows(const struct throttle *t)
{
	unsigned n = 0;
	for (const struct throttle_flow *f = t->flows; f; f = f->next)
		n++;
	return n;
}

static void look(struct throttle *t, int64_t now_ms)
{
	take_probe(t, now_ms);
	t->is_long = false;
	for (unsigned i = 0; i < t->socket_count; i++)
		look_at(t, &t->sockets[i], now_ms);
	if (!t->is_long)
		t->doubt_ms = 0;
	uint64_t rate = yield_turn(&t->yield, t->taken, now_ms);
	pace_set(&t->pace, PACE_LIMIT_YIELD, rate, now_ns());
	size_t share = yield_buffer_bytes(&t->yield, count_flows(t));
	for (unsigned i = 0; i < t->socket_count; i++) {
		struct throttle_socket *s = &t->sockets[i];
		size_t bytes = least_of(share, buffer_of(t, s->lane));
		if (is_other(bytes, s->buffer))
			fit(s, bytes);
	}
}

/* --- flows ------------------------------------------------------------------- */

/* Silence, told by ourselves: curl's own measure would count the time in which we
 * hold a transfer up. */
static int on_progress(void *arg, curl_off_t down_total, curl_off_t down,
		       curl_off_t up_total, curl_off_t up)
{
	struct throttle_flow *f = arg;
	curl_off_t sent_us = 0;
	(void)down_total;
	(void)up_total;
	if (f->stall.step_ms == 0) {
		/* connecting has limits of its own */
		curl_easy_getinfo(f->easy, CURLINFO_PRETRANSFER_TIME_T, &sent_us);
		if (sent_us > 0)
			stall_begin(&f->stall, clock_now_ms());
		return 0;
	}
	f->is_stalled = stall_is_over(&f->stall, (uint64_t)(down + up), clock_now_ms(),
				      f->limit_ms);
	return f->is_stalled;
}

/* Connections from before a limit was raised cannot become as wide as new ones. */
static void leave_narrow(const struct throttle *t, CURL *easy)
{
	int64_t age_s = (clock_now_ms() - t->widened_ms) / 1000;
	if (t->widened_ms == 0)
		return;
	if (age_s < 1)
		curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
	else
		curl_easy_setopt(easy, CURLOPT_MAXLIFETIME_CONN, (long)age_s);
}

void throttle_begin(struct throttle *t, struct throttle_flow *flow, CURL *easy,
		    enum pace_lane lane, int64_t silence_ms)
{
	uint64_t rate = pace_rate(&t->pace, lane);
	throttle_end(flow);
	*flow = (struct throttle_flow){ .throttle = t,
				       .next = t->flows,
				       .easy = easy,
				       .lane = lane,
				       .limit_ms = silence_ms };
	t->flows = flow;
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)pace_read_bytes(rate));
	curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_open);
	curl_easy_setopt(easy, CURLOPT_SOCKOPTDATA, flow);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, t);
	curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(easy, CURLOPT_XFERINFODATA, flow);
	curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
	/* no limit of its own, but curl looks at each transfer once a second */
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, 0L);
	leave_narrow(t, easy);
	/* With HTTP/2 libcurl 7.88 offers each stream a window of 32 MB, which no
	 * option makes smaller: nothing that could be limited. */
	if (rate || t->rates.may_change || t->rates.is_background) {
		curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
				 (long)CURL_HTTP_VERSION_1_1);
		curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 0L);
	}
}

void throttle_end(struct throttle_flow *flow)
{
	if (flow->throttle == NULL)
		return;
	for (struct throttle_flow **p = &flow->throttle->flows; *p; p = &(*p)->next)
		if (*p == flow) {
			*p = flow->next;
			break;
		}
	flow->throttle = NULL;
}

bool throttle_may_take(struct throttle_flow *flow)
{
	struct throttle *t = flow->throttle;
	if (pace_wait_ns(&t->pace, flow->lane, now_ns()) <= 0)
		return true;
	flow->turn = ++t->turns;
	stall_hold(&flow->stall, clock_now_ms());
	return false;
}

void throttle_took(struct throttle_flow *flow, size_t bytes)
{
	flow->throttle->taken += bytes;
	pace_took(&flow->throttle->pace, flow->lane, bytes, now_ns());
}

void throttle_pause(struct throttle_flow *flow)
{
	flow->is_paused = true;
	stall_hold(&flow->stall, clock_now_ms());
}

static void go_on(struct throttle_flow *flow)
{
	flow->turn = 0;
	flow->is_paused = false;
	stall_release(&flow->stall, clock_now_ms());
	curl_easy_pause(flow->easy, CURLPAUSE_CONT);
}

void throttle_resume(struct throttle_flow *flow)
{
	if (flow->throttle && flow->is_paused)
		go_on(flow);
}

/* Who has waited longest of those whose limits allow it; *wait_ns: until the first
 * of the others may. */
static struct throttle_flow *first_of(const struct throttle *t, int64_t *wait_ns)
{
	struct throttle_flow *first = NULL;
	int64_t at_ns = now_ns();
	*wait_ns = INT64_MAX;
	for (struct throttle_flow *f = t->flows; f; f = f->next) {
		if (f->turn == 0)
			continue;
		int64_t own_ns = pace_wait_ns(&t->pace, f->lane, at_ns);
		if (own_ns <= 0 && (first == NULL || f->turn < first->turn))
			first = f;
		if (own_ns > 0 && own_ns < *wait_ns)
			*wait_ns = own_ns;
	}
	return first;
}

/* ms until the link is to be looked at again; -1 = there is nothing to look at. */
static int turn_of_yield(struct throttle *t)
{
	int64_t now_ms = clock_now_ms();
	if (!t->rates.is_background || t->flows == NULL)
		return -1;
	int64_t left_ms = t->yield.turn_ms + YIELD_TURN_MS - now_ms;
	if (left_ms > 0)
		return (int)left_ms;
	look(t, now_ms);
	return YIELD_TURN_MS;
}

int throttle_turn(struct throttle *t)
{
	struct throttle_flow *f;
	int64_t wait_ns, ms = TURN_MAX_MS;
	int look_ms = turn_of_yield(t);
	while ((f = first_of(t, &wait_ns)) != NULL)
		go_on(f);
	if (wait_ns == INT64_MAX)
		return look_ms;
	if (wait_ns / MS_NS + 1 < ms)
		ms = wait_ns / MS_NS + 1;
	return look_ms >= 0 && look_ms < ms ? look_ms : (int)ms;
}
