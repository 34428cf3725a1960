#include "agent/net/gauge.h"

#include <linux/tcp.h> /* the C library's ends before tcpi_min_rtt */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define NOT_KNOWN UINT32_MAX /* tcpi_min_rtt before the first sample */
#define WINDOW_ANY (1 << 30)

/* FNV-1a, over the address alone: all connections to a host are one way. */
static uint64_t hash_of(const void *bytes, size_t n)
{
	uint64_t h = 14695981039346656037ULL;
	for (const unsigned char *p = bytes; n; n--, p++)
		h = (h ^ *p) * 1099511628211ULL;
	return h ? h : 1;
}

static uint64_t peer_of(int fd)
{
	struct sockaddr_storage to = {0};
	socklen_t size = sizeof(to);
	if (getpeername(fd, (struct sockaddr *)&to, &size) != 0)
		return 0;
	if (to.ss_family == AF_INET) {
		struct sockaddr_in v4;
		memcpy(&v4, &to, sizeof(v4));
		return hash_of(&v4.sin_addr, sizeof(v4.sin_addr));
	}
	if (to.ss_family == AF_INET6) {
		struct sockaddr_in6 v6;
		memcpy(&v6, &to, sizeof(v6));
		return hash_of(&v6.sin6_addr, sizeof(v6.sin6_addr));
	}
	return 0;
}

bool gauge_read(int fd, struct gauge *out)
{
	struct tcp_info info = {0};
	socklen_t size = sizeof(info);
	*out = (struct gauge){ .peer = peer_of(fd) };
	if (out->peer == 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
		return false;
	out->least_us = info.tcpi_min_rtt == NOT_KNOWN ? 0 : info.tcpi_min_rtt;
	out->now_us = info.tcpi_rcv_rtt;
	out->overtaken = info.tcpi_rcv_ooopack;
	return true;
}

void gauge_set_buffer(int fd, size_t bytes)
{
	int size = (int)bytes;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

void gauge_fit_buffer(int fd, size_t bytes)
{
	int any = WINDOW_ANY;
	gauge_set_buffer(fd, bytes);
	setsockopt(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &any, sizeof(any));
}
