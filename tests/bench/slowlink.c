/*
 * A slow link: a TCP proxy that delays, and caps what comes towards the client.
 *
 *   slowlink [--listen ADDRESS] --connect ADDRESS:PORT [--delay MS] [--each BYTES]
 *            [--all BYTES] [--window BYTES] [--log FILE --mark BYTES]
 *
 * --delay   each way, so twice that is one round trip; a fraction is good
 * --each    bytes a second that one connection gets
 * --all     bytes a second of all connections together
 * --window  bytes on the way to the client at most, a connection (4 MiB)
 * --log     a line for each event: SECONDS EVENT CONNECTION UP DOWN, SECONDS of the
 *           monotonic clock, UP and DOWN bytes passed on so far; events are open,
 *           mark (DOWN has passed --mark) and close
 *
 * Prints `ready PORT`. The kernel accepts a connection at once, as no link of that
 * length would: so the first bytes of a client wait one round trip more than all
 * others. TCP, TLS 1.3 and a request then cost three round trips until the first byte
 * of the answer, as they do in the world. There is no loss and no slow start.
 *
 * What was read waits in a ring of --window bytes until it is due; a ring that is full
 * is not read into, so the server feels it and memory is bounded.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECOND    INT64_C(1000000000)
#define NEVER     INT64_MAX
#define UP_WINDOW (256 << 10)
#define MARKS     1024
#define BURST_NS  (SECOND / 100) /* what a bucket may save up: 10 ms of its rate */
#define MOST      1024           /* connections */

/* Bytes read up to `end`, counted from the first of the direction, are due then. */
struct mark {
	uint64_t end;
	int64_t due;
};

struct bucket {
	uint64_t rate; /* bytes a second; 0: no limit */
	int64_t at;    /* when the next byte may pass; lags at most BURST_NS behind */
};

/* One direction of a connection: read from `in`, written to `out`. */
struct lane {
	int in, out;
	char *ring;
	size_t size;
	uint64_t got, sent; /* bytes read and written, from the first */
	struct mark marks[MARKS];
	unsigned int first, count; /* of the marks that wait */
	int64_t extra;             /* delay of the next bytes beyond the usual */
	bool has_ended, is_closed; /* end read; end passed on */
	int64_t end_due;
	struct bucket *caps[2];
};

struct link {
	struct lane up, down; /* client to server, server to client */
	struct bucket each;
	unsigned int number;
	bool is_marked;
};

static int64_t delay_ns;
static uint64_t each_rate, mark_bytes = 8192;
static size_t window = 4 << 20;
static struct bucket all_bucket;
static FILE *log_file;
static struct link *links[MOST];
static unsigned int link_count, next_number;
static int poll_fd;

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "slowlink: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void note(const struct link *l, const char *event)
{
	if (!log_file)
		return;
	fprintf(log_file, "%.6f %s %u %llu %llu\n", (double)now_ns() / 1e9, event,
		l->number, (unsigned long long)l->up.sent,
		(unsigned long long)l->down.sent);
	fflush(log_file);
}

/* -- rates ------------------------------------------------------------------- */

/* How many bytes a bucket lets pass now; *next: when one more may. */
static size_t bucket_room(struct bucket *b, int64_t now, int64_t *next)
{
	if (!b || !b->rate)
		return SIZE_MAX;
	if (b->at < now - BURST_NS)
		b->at = now - BURST_NS;
	size_t room =
	    b->at >= now ? 0 : (size_t)((double)(now - b->at) * (double)b->rate / 1e9);
	/* in portions of 2 ms: each costs a wake */
	size_t portion = b->rate / 500 + 1;
	if (room < portion) {
		int64_t when =
			b->at + (int64_t)((double)portion * 1e9 / (double)b->rate) + 1;
		if (when < *next)
			*next = when;
		return 0;
	}
	return room;
}

static void bucket_take(struct bucket *b, size_t bytes)
{
	if (b && b->rate)
		b->at += (int64_t)((double)bytes * 1e9 / (double)b->rate);
}

/* -- one direction ------------------------------------------------------------- */

static void lane_read(struct lane *d, int64_t now)
{
	while (!d->has_ended && d->got - d->sent < d->size && d->count < MARKS) {
		size_t at = (size_t)(d->got % d->size);
		size_t room = d->size - (size_t)(d->got - d->sent);
		if (room > d->size - at)
			room = d->size - at;
		if (room > 65536)
			room = 65536;
		ssize_t n = recv(d->in, d->ring + at, room, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		int64_t due = now + delay_ns + d->extra;
		if (n <= 0) {
			/* a broken connection ends like a good one, after what it sent
			 */
			d->has_ended = true;
			d->end_due = due;
			return;
		}
		d->got += (uint64_t)n;
		d->marks[(d->first + d->count++) % MARKS] = (struct mark){d->got, due};
		if ((size_t)n < room)
			return;
	}
}

/* Bytes that may be written now; lowers *next to when more may. */
static size_t lane_ready(struct lane *d, int64_t now, int64_t *next)
{
	uint64_t end = d->sent;

	for (unsigned int i = 0; i < d->count; i++) {
		const struct mark *m = &d->marks[(d->first + i) % MARKS];
		if (m->due > now) {
			if (m->due < *next)
				*next = m->due;
			break;
		}
		end = m->end;
	}
	size_t ready = (size_t)(end - d->sent);
	for (int i = 0; i < 2 && ready; i++) {
		size_t room = bucket_room(d->caps[i], now, next);
		if (room < ready)
			ready = room;
	}
	return ready;
}

/* Returns false when the other side is gone. */
static bool lane_write(struct lane *d, int64_t now, int64_t *next)
{
	for (;;) {
		size_t ready = lane_ready(d, now, next);
		if (!ready)
			break;
		size_t at = (size_t)(d->sent % d->size);
		if (ready > d->size - at)
			ready = d->size - at;
		ssize_t n =
		    send(d->out, d->ring + at, ready, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0)
			return false;
		d->sent += (uint64_t)n;
		d->extra = 0;
		for (int i = 0; i < 2; i++)
			bucket_take(d->caps[i], (size_t)n);
		while (d->count && d->marks[d->first].end <= d->sent) {
			d->first = (d->first + 1) % MARKS;
			d->count--;
		}
	}
	if (d->has_ended && !d->is_closed && d->got == d->sent) {
		if (d->end_due > now) {
			if (d->end_due < *next)
				*next = d->end_due;
		} else {
			shutdown(d->out, SHUT_WR);
			d->is_closed = true;
		}
	}
	return true;
}

/* -- connections ------------------------------------------------------------------ */

/* Edges only: every wake looks at all connections, so none is missed, and one that
 * waits for its delay does not wake us all the time. */
static void watch(int fd, struct link *l, unsigned int events)
{
	struct epoll_event e = {.events = events, .data.ptr = l};

	if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &e) < 0)
		die("epoll_ctl");
}

static void link_free(struct link *l)
{
	note(l, "close");
	close(l->up.in);
	close(l->down.in);
	free(l->up.ring);
	free(l->down.ring);
	free(l);
}

static void link_open(int client, const struct sockaddr_in *where)
{
	struct link *l = calloc(1, sizeof(*l));
	int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	if (!l || server < 0)
		die("connection");
	if (connect(server, (const struct sockaddr *)where, sizeof(*where)) < 0) {
		close(client);
		close(server);
		free(l);
		return;
	}
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	l->number = next_number++;
	l->each.rate = each_rate;
	l->up = (struct lane){
	    .in = client, .out = server, .size = UP_WINDOW, .extra = 2 * delay_ns};
	l->down = (struct lane){.in = server,
				.out = client,
				.size = window,
				.caps = {&l->each, &all_bucket}};
	l->up.ring = malloc(l->up.size);
	l->down.ring = malloc(l->down.size);
	if (!l->up.ring || !l->down.ring)
		die("connection");
	links[link_count++] = l;
	watch(client, l, EPOLLIN | EPOLLOUT | EPOLLET);
	watch(server, l, EPOLLIN | EPOLLOUT | EPOLLET);
	note(l, "open");
}

/* Move what is due; false when the connection has ended. */
static bool link_move(struct link *l, int64_t now, int64_t *next)
{
	uint64_t before, after = 0;
	int turns = 0;

	do {
		/* room that a write made is read into at once; but others wait, too */
		if (turns++ == 16) {
			*next = now;
			break;
		}
		before = after;
		lane_read(&l->up, now);
		lane_read(&l->down, now);
		if (!lane_write(&l->up, now, next) || !lane_write(&l->down, now, next))
			return false;
		after = l->up.got + l->up.sent + l->down.got + l->down.sent;
	} while (after != before);
	if (!l->is_marked && l->down.sent >= mark_bytes) {
		l->is_marked = true;
		note(l, "mark");
	}
	return !l->up.is_closed || !l->down.is_closed;
}

static int64_t move_all(void)
{
	int64_t now = now_ns(), next = NEVER;

	for (unsigned int i = 0; i < link_count;) {
		if (link_move(links[i], now, &next)) {
			i++;
			continue;
		}
		link_free(links[i]);
		links[i] = links[--link_count];
	}
	return next;
}

static void serve(int listener, const struct sockaddr_in *where)
{
	for (;;) {
		struct epoll_event events[64];
		int64_t next = move_all(), wait = next == NEVER ? 0 : next - now_ns();
		if (wait < 0)
			wait = 0;
		struct timespec t = {wait / SECOND, wait % SECOND};
		int n =
		    epoll_pwait2(poll_fd, events, 64, next == NEVER ? NULL : &t, NULL);
		if (n < 0 && errno != EINTR)
			die("epoll");
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr)
				continue;
			int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
			if (client >= 0 && link_count < MOST)
				link_open(client, where);
			else if (client >= 0)
				close(client);
		}
	}
}

/* -- options ---------------------------------------------------------------------- */

static double number(const char *name, const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= 0) || value > 1e12) {
		fprintf(stderr, "slowlink: %s %s: not a number\n", name, text);
		exit(2);
	}
	return value;
}

static struct sockaddr_in address(const char *text)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	char host[64];
	const char *colon = strchr(text, ':');
	size_t length = colon ? (size_t)(colon - text) : strlen(text);

	if (length < sizeof(host)) {
		memcpy(host, text, length);
		host[length] = '\0';
		if (colon)
			a.sin_port = htons((uint16_t)number("port", colon + 1));
		if (inet_pton(AF_INET, host, &a.sin_addr) == 1)
			return a;
	}
	fprintf(stderr, "slowlink: %s: not an address\n", text);
	exit(2);
}

int main(int argc, char **argv)
{
	struct sockaddr_in here = address("127.0.0.1"), there = {0};

	for (int i = 1; i + 1 < argc; i += 2) {
		const char *name = argv[i], *value = argv[i + 1];
		if (strcmp(name, "--listen") == 0)
			here = address(value);
		else if (strcmp(name, "--connect") == 0)
			there = address(value);
		else if (strcmp(name, "--delay") == 0)
			delay_ns = (int64_t)(number(name, value) * 1e6);
		else if (strcmp(name, "--each") == 0)
			each_rate = (uint64_t)number(name, value);
		else if (strcmp(name, "--all") == 0)
			all_bucket.rate = (uint64_t)number(name, value);
		else if (strcmp(name, "--window") == 0)
			window = (size_t)number(name, value);
		else if (strcmp(name, "--mark") == 0)
			mark_bytes = (uint64_t)number(name, value);
		else if (strcmp(name, "--log") != 0)
			there.sin_port = 0;
		else if (!(log_file = fopen(value, "ae")))
			die(value);
	}
	if (argc % 2 == 0 || !there.sin_port || window < 4096) {
		fprintf(stderr, "usage: see tests/bench/slowlink.c\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t length = sizeof(here);
	if (listener < 0 || bind(listener, (struct sockaddr *)&here, length) < 0 ||
	    listen(listener, 256) < 0 ||
	    getsockname(listener, (struct sockaddr *)&here, &length) < 0)
		die("listen");
	poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (poll_fd < 0)
		die("epoll");
	watch(listener, NULL, EPOLLIN);
	printf("ready %u\n", ntohs(here.sin_port));
	fflush(stdout);
	serve(listener, &there);
}
