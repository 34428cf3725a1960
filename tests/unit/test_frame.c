#include "tests/unit/test.h"

#include "common/frame.h"
#include "common/own.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void make_pair(int pair[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair),
			 0);
}

static int count_fds(void)
{
	int n = 0;
	DIR *d = opendir("/proc/self/fd");
	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Send past frame_send: `n` descriptors, all of them `fd`. */
static void send_raw(int sock, const void *bytes, size_t len, size_t n, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(32 * sizeof(int))];
	} control = { 0 };
	struct iovec part = { (void *)(uintptr_t)bytes, len };
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1 };
	if (n) {
		m.msg_control = control.bytes;
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(n * sizeof(int));
		for (size_t i = 0; i < n; i++)
			memcpy(CMSG_DATA(h) + i * sizeof(int), &fd, sizeof(int));
	}
	assert_int_equal(sendmsg(sock, &m, MSG_NOSIGNAL), (ssize_t)len);
}

TEST(frame__message__arrives_whole)
{
	static char out[FRAME_MAX], in[FRAME_MAX];
	int pair[2], fd = 7;
	size_t len = 0;
	struct err e = { 0 };
	make_pair(pair);
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (char)(i * 31);
	for (size_t n = 1; n <= FRAME_MAX; n = n * 2) {
		assert_ok(frame_send(pair[0], out, n, -1, &e));
		assert_ok(frame_receive(pair[1], 1, in, sizeof(in), &len, &fd, &e));
		assert_int_equal(len, n);
		assert_int_equal(fd, -1);
		assert_memory_equal(in, out, n);
	}
	close(pair[0]);
	close(pair[1]);
}

TEST(frame__descriptor__arrives_close_on_exec)
{
	char in[16];
	int pair[2], fd = -1;
	size_t len = 0;
	struct err e = { 0 };
	make_pair(pair);
	int null = open("/dev/null", O_RDONLY);
	assert_ok(frame_send(pair[0], "x", 1, null, &e));
	assert_ok(frame_receive(pair[1], 1, in, sizeof(in), &len, &fd, &e));
	assert_true(fd >= 0 && fd != null);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	close(null);
	close(pair[0]);
	close(pair[1]);
}

TEST(frame_receive__several_descriptors__refused_and_closed)
{
	static const size_t counts[] = { 2, 3, 8, 9, 32 };
	char in[16];
	int pair[2], fd = -1;
	size_t len = 0;
	struct err e = { 0 };
	make_pair(pair);
	int null = open("/dev/null", O_RDONLY);
	int before = count_fds();
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		send_raw(pair[0], "x", 1, counts[i], null);
		assert_err(frame_receive(pair[1], 1, in, sizeof(in), &len, &fd, &e),
			   ERR_NET_LIED);
		assert_int_equal(fd, -1);
		assert_int_equal(len, 0);
		assert_int_equal(count_fds(), before);
	}
	close(null);
	close(pair[0]);
	close(pair[1]);
}

TEST(frame_receive__too_long__refused_and_descriptor_closed)
{
	char in[16] = "";
	int pair[2], fd = -1;
	size_t len = 0;
	struct err e = { 0 };
	make_pair(pair);
	int null = open("/dev/null", O_RDONLY);
	int before = count_fds();
	send_raw(pair[0], "12345678901234567", 17, 1, null);
	assert_err(frame_receive(pair[1], 1, in, sizeof(in), &len, &fd, &e),
		   ERR_NET_LIED);
	assert_int_equal(fd, -1);
	assert_int_equal(count_fds(), before);
	close(null);
	close(pair[0]);
	close(pair[1]);
}

TEST(frame_receive__empty_message_with_descriptor__closed)
{
	char in[16];
	int pair[2], fd = -1;
	size_t len = 0;
	struct err e = { 0 };
	make_pair(pair);
	int null = open("/dev/null", O_RDONLY);
	int before = count_fds();
	send_raw(pair[0], "", 0, 1, null);
	assert_err(frame_receive(pair[1], 1, in, sizeof(in), &len, &fd, &e),
		   ERR_NET_DIED);
	assert_int_equal(fd, -1);
	assert_int_equal(count_fds(), before);
	close(null);
	close(pair[0]);
	close(pair[1]);
}

TEST(frame__peer_gone__net_died)
{
	char in[16];
	int pair[2], fd;
	size_t len;
	struct err e = { 0 };
	make_pair(pair);
	close(pair[1]);
	assert_err(frame_send(pair[0], "x", 1, -1, &e), ERR_NET_DIED);
	assert_err(frame_receive(pair[0], 1, in, sizeof(in), &len, &fd, &e),
		   ERR_NET_DIED);
	assert_err(frame_receive(pair[0], 0, in, sizeof(in), &len, &fd, &e),
		   ERR_NET_DIED);
	close(pair[0]);
}

TEST(frame__peer_gone_with_unread_message__net_died)
{
	char in[16];
	int pair[2], fd;
	size_t len;
	struct err e = { 0 };
	make_pair(pair);
	assert_ok(frame_send(pair[0], "x", 1, -1, &e));
	close(pair[1]);
	assert_err(frame_receive(pair[0], 1, in, sizeof(in), &len, &fd, &e),
		   ERR_NET_DIED);
	close(pair[0]);
}

TEST(frame_receive__message_left_by_the_dead__still_read)
{
	char in[16];
	int pair[2], fd;
	size_t len = 0;
	struct err e = { 0 };
	make_pair(pair);
	assert_ok(frame_send(pair[1], "x", 1, -1, &e));
	close(pair[1]);
	assert_ok(frame_receive(pair[0], 1, in, sizeof(in), &len, &fd, &e));
	assert_int_equal(len, 1);
	assert_err(frame_receive(pair[0], 1, in, sizeof(in), &len, &fd, &e),
		   ERR_NET_DIED);
	close(pair[0]);
}

TEST(frame_receive__nothing_there__no_wait)
{
	char in[16];
	int pair[2], fd = 3;
	size_t len = 9;
	struct err e = { 0 };
	make_pair(pair);
	assert_ok(frame_receive(pair[0], 0, in, sizeof(in), &len, &fd, &e));
	assert_int_equal(len, 0);
	assert_int_equal(fd, -1);
	close(pair[0]);
	close(pair[1]);
}

TEST(frame_send__bad_length__internal)
{
	static char big[FRAME_MAX + 1];
	int pair[2];
	struct err e = { 0 };
	make_pair(pair);
	assert_err(frame_send(pair[0], big, 0, -1, &e), ERR_INTERNAL);
	assert_err(frame_send(pair[0], big, sizeof(big), -1, &e), ERR_INTERNAL);
	assert_err(frame_send(-1, big, 1, -1, &e), ERR_INTERNAL);
	close(pair[0]);
	close(pair[1]);
}
