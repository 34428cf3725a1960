#include "common/frame.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for more descriptors than are allowed, to see (and close) a second. */
#define FDS_SEEN 8

/* Room for control data, aligned as the kernel wants it. */
union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(FDS_SEEN * sizeof(int))];
};

static enum err_code died(struct err *e, const char *doing)
{
	return err_set(e, ERR_NET_DIED, "%s: the peer is gone", doing);
}

/* The socket may be non-blocking on our side: sending waits all the same. */
static void wait_writable(int sock)
{
	struct pollfd p = { .fd = sock, .events = POLLOUT };
	poll(&p, 1, -1);
}

static void attach(struct msghdr *m, union control *c, int fd)
{
	m->msg_control = c->bytes;
	m->msg_controllen = CMSG_SPACE(sizeof(fd));
	struct cmsghdr *h = CMSG_FIRSTHDR(m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(h), &fd, sizeof(fd));
}

enum err_code frame_send(int sock, const void *bytes, size_t len, int fd,
			 struct err *e)
{
	struct iovec part = { (void *)(uintptr_t)bytes, len };
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1 };
	union control control = { 0 };
	/* An empty message would look like the end of the peer. */
	if (len == 0 || len > FRAME_MAX)
		return err_set(e, ERR_INTERNAL, "message of %zu bytes", len);
	if (fd >= 0)
		attach(&m, &control, fd);
	for (;;) {
		ssize_t n = sendmsg(sock, &m, MSG_NOSIGNAL);
		if (n == (ssize_t)len)
			return ERR_OK;
		if (n >= 0)
			return err_set(e, ERR_INTERNAL, "message sent in part");
		if (errno == EAGAIN)
			wait_writable(sock);
		else if (errno == EPIPE || errno == ECONNRESET ||
			 errno == ENOTCONN)
			return died(e, "send message");
		else if (errno != EINTR)
			return err_set(e, ERR_INTERNAL, "send message: %m");
	}
}

/* Collect the descriptors of `m` into fds, and return how many came. */
static size_t collect(struct msghdr *m, int fds[FDS_SEEN])
{
	size_t count = 0;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		size_t bytes = h->cmsg_len - CMSG_LEN(0);
		for (size_t i = 0; i + sizeof(int) <= bytes && count < FDS_SEEN;
		     i += sizeof(int))
			memcpy(&fds[count++], CMSG_DATA(h) + i, sizeof(int));
	}
	return count;
}

/* recvmsg() until it is no signal, and no false alarm when we may wait. */
static ssize_t receive(int sock, int wait, struct msghdr *m)
{
	size_t room = m->msg_controllen;
	for (;;) {
		m->msg_controllen = room;
		ssize_t n = recvmsg(sock, m, MSG_CMSG_CLOEXEC |
				    (wait ? 0 : MSG_DONTWAIT));
		if (n >= 0 || (errno != EINTR && (!wait || errno != EAGAIN)))
			return n;
		if (errno == EAGAIN) {
			struct pollfd p = { .fd = sock, .events = POLLIN };
			poll(&p, 1, -1);
		}
	}
}

enum err_code frame_receive(int sock, int wait, void *bytes, size_t size,
			    size_t *len, int *fd, struct err *e)
{
	struct iovec part = { bytes, size };
	union control control = { 0 };
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };
	*len = 0;
	*fd = -1;
	ssize_t n = receive(sock, wait, &m);
	if (n < 0 && errno == EAGAIN)
		return ERR_OK;
	if (n < 0 && errno == ECONNRESET)
		return died(e, "receive message");
	if (n < 0)
		return err_set(e, ERR_INTERNAL, "receive message: %m");
	int fds[FDS_SEEN];
	size_t count = collect(&m, fds);
	enum err_code rc = ERR_OK;
	if (m.msg_flags & MSG_TRUNC)
		rc = err_set(e, ERR_NET_LIED, "message is too long");
	else if (count > 1 || (m.msg_flags & MSG_CTRUNC))
		rc = err_set(e, ERR_NET_LIED, "message carries descriptors");
	else if (n == 0)
		rc = died(e, "receive message");
	for (size_t i = 0; i < count && rc != ERR_OK; i++)
		close(fds[i]);
	if (rc != ERR_OK)
		return rc;
	if (count == 1)
		*fd = fds[0];
	*len = (size_t)n;
	return ERR_OK;
}
