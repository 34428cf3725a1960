#include "agent/net/probe.h"

#include "common/own.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_MS 2000 /* a SYN that was lost is sent again after one second */

bool probe_begin(struct probe *p, int like_fd, int64_t now_ms)
{
	struct sockaddr_storage to = { 0 };
	socklen_t size = sizeof(to);
	const struct linger at_once = { .l_onoff = 1 };
	if (getpeername(like_fd, (struct sockaddr *)&to, &size) != 0)
		return false;
	autofd fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
			   0);
	if (fd < 0)
		return false;
	/* nothing is left behind when it is closed */
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	if (connect(fd, (const struct sockaddr *)&to, size) != 0 &&
	    errno != EINPROGRESS)
		return false;
	p->fd = take_fd(&fd);
	p->began_ms = now_ms;
	return true;
}

enum probe_state probe_look(struct probe *p, int64_t now_ms, uint32_t *round_us)
{
	struct tcp_info info = { 0 };
	socklen_t size = sizeof(info);
	bool is_known = getsockopt(p->fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0;
	bool is_over = !is_known || info.tcpi_state != TCP_SYN_SENT ||
		       now_ms - p->began_ms >= PATIENCE_MS;
	if (!is_over)
		return PROBE_WAITS;
	own_close(&p->fd);
	p->fd = -1;
	*round_us = info.tcpi_rtt;
	return is_known && info.tcpi_state == TCP_ESTABLISHED ? PROBE_ANSWERED :
								PROBE_SILENT;
}
