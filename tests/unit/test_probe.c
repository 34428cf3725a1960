#include "tests/unit/test.h"

#include "agent/net/probe.h"
#include "common/own.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

/* A listener on loopback, and a connection to it. */
static int listener, client;

static void begin(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(at);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&at, size), 0);
	assert_int_equal(listen(listener, 8), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &size), 0);
	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&at, size), 0);
}

static enum probe_state wait_for(struct probe *p, uint32_t *round_us)
{
	enum probe_state state;
	int fd = p->fd;
	struct pollfd one = { .fd = fd, .events = POLLOUT };
	poll(&one, 1, 5000);
	while ((state = probe_look(p, 0, round_us)) == PROBE_WAITS)
		poll(&one, 1, 5000);
	assert_int_equal(p->fd, -1);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	return state;
}

TEST(probe__peer_that_listens__answered)
{
	struct probe p = PROBE_NONE;
	uint32_t round_us = 0;
	begin();
	assert_true(probe_begin(&p, client, 0));
	assert_int_equal(wait_for(&p, &round_us), PROBE_ANSWERED);
	assert_true(round_us > 0);
	close(client);
	close(listener);
}

TEST(probe__peer_that_listens_no_more__silent)
{
	struct probe p = PROBE_NONE;
	uint32_t round_us = 0;
	begin();
	close(listener);
	if (probe_begin(&p, client, 0)) /* loopback may say so at once */
		assert_int_equal(wait_for(&p, &round_us), PROBE_SILENT);
	close(client);
}

TEST(probe__no_connection_to_begin_with__refused)
{
	struct probe p = PROBE_NONE;
	autofd fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_false(probe_begin(&p, fd, 0));
	assert_false(probe_begin(&p, -1, 0));
	assert_int_equal(p.fd, -1);
}
