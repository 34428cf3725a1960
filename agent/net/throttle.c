#include "agent/net/throttle.h"

#include "common/clock.h"
#include "policy/rate.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#define MS_NS       1000000
#define TURN_MAX_MS 3600000

static int64_t now_ns(void)
{
	return clock_now_ms() * MS_NS;
}

/* --- sockets ---------------------------------------------------------------- */

static size_t buffer_of(const struct throttle *t, enum pace_lane lane)
{
	uint64_t rate = pace_rate(&t->pace, lane);
	return pace_buffer_bytes(rate, rate_width(rate, t->rates.connections));
}

static void set_buffer(int fd, size_t bytes)
{
	int size = (int)bytes;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

/* Before connect(): the kernel offers its whole first window to the peer, and 64 KiB
 * are seconds at a low rate. */
static int on_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	const struct throttle_flow *flow = arg;
	size_t bytes = buffer_of(flow->throttle, flow->lane);
	if (purpose == CURLSOCKTYPE_IPCXN && bytes)
		set_buffer(fd, bytes);
	return CURL_SOCKOPT_OK;
}

/*
 * The limit has changed under a transfer: a smaller buffer holds from the next
 * window on. A larger one helps as far as the window was scaled when the connection
 * was made; and what once had a size cannot be left to the kernel again.
 */
static void fit_socket(const struct throttle_flow *flow)
{
	curl_socket_t fd = CURL_SOCKET_BAD;
	size_t bytes = buffer_of(flow->throttle, flow->lane);
	int clamp = 1 << 30;
	if (curl_easy_getinfo(flow->easy, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK ||
	    fd == CURL_SOCKET_BAD)
		return;
	set_buffer(fd, bytes ? bytes : PACE_BUFFER_MAX);
	setsockopt(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &clamp, sizeof(clamp));
}

/* --- limits ------------------------------------------------------------------ */

static bool is_wider(size_t now, size_t before)
{
	return before != 0 && (now == 0 || now > before);
}

void throttle_set(struct throttle *t, const struct pace_rates *rates)
{
	size_t before[PACE_LANES];
	int64_t at_ns = now_ns();
	bool is_first = t->rates.connections == 0;
	for (unsigned i = 0; i < PACE_LANES; i++)
		before[i] = is_first ? 0 : buffer_of(t, i);
	t->rates = *rates;
	for (unsigned i = 0; i < PACE_LIMITS; i++)
		if (i != PACE_LIMIT_YIELD)
			pace_set(&t->pace, i, rates->limits[i], at_ns);
	for (unsigned i = 0; i < PACE_LANES; i++)
		if (is_wider(buffer_of(t, i), before[i]))
			t->widened_ms = clock_now_ms();
	for (struct throttle_flow *f = t->flows; f; f = f->next)
		if (buffer_of(t, f->lane) != before[f->lane])
			fit_socket(f);
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
	*flow = (struct throttle_flow){.throttle = t,
				       .next = t->flows,
				       .easy = easy,
				       .lane = lane,
				       .limit_ms = silence_ms};
	t->flows = flow;
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)pace_read_bytes(rate));
	curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_socket);
	curl_easy_setopt(easy, CURLOPT_SOCKOPTDATA, flow);
	curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(easy, CURLOPT_XFERINFODATA, flow);
	curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
	/* no limit of its own, but curl looks at each transfer once a second */
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, 0L);
	leave_narrow(t, easy);
	/* With HTTP/2 libcurl 7.88 offers each stream a window of 32 MB, which no
	 * option makes smaller: nothing that could be limited. */
	if (rate || t->rates.may_change) {
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

int throttle_turn(struct throttle *t)
{
	struct throttle_flow *f;
	int64_t wait_ns;
	while ((f = first_of(t, &wait_ns)) != NULL)
		go_on(f);
	if (wait_ns == INT64_MAX)
		return -1;
	int64_t ms = wait_ns / MS_NS + 1;
	return ms < TURN_MAX_MS ? (int)ms : TURN_MAX_MS;
}
