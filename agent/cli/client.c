#include "agent/cli/client.h"

#include "common/clock.h"
#include "common/jsonout.h"
#include "common/own.h"
#include "common/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define REPLY_MAX ((size_t)64 << 20)
#define CONNECT_MS 5000 /* while others stand in line before us */
#define PAUSE_MS 20

/* --- connecting ----------------------------------------------------------- */

/* A path that is too long for an address is reached by its folder. */
static enum err_code give_address(const char *path, struct sockaddr_un *out,
				  int *folder_fd, struct err *e)
{
	const char *slash = strrchr(path, '/');
	*out = (struct sockaddr_un){ .sun_family = AF_UNIX };
	int len = snprintf(out->sun_path, sizeof(out->sun_path), "%s", path);
	if (len < (int)sizeof(out->sun_path))
		return ERR_OK;
	autofree char *folder = slash ? strndup(path, (size_t)(slash - path)) : NULL;
	if (folder)
		*folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*folder_fd >= 0)
		len = snprintf(out->sun_path, sizeof(out->sun_path),
			       "/proc/self/fd/%d%s", *folder_fd, slash);
	if (*folder_fd < 0 || len >= (int)sizeof(out->sun_path))
		return err_set(e, ERR_SERVICE, "no service listens on %.200s", path);
	return ERR_OK;
}

/* Wait for `events` on fd (-1 = nothing), a signal, or the end of the time. */
static enum err_code await(int fd, short events, int64_t until_ms, struct err *e)
{
	struct pollfd fds[2] = { { .fd = signals_fd(), .events = POLLIN },
				 { .fd = fd, .events = events } };
	int64_t left = until_ms - clock_now_ms();
	int wait = until_ms == INT64_MAX ? -1 :
		   left <= 0		 ? 0 :
		   left > INT_MAX	 ? INT_MAX :
					   (int)left;
	if (poll(fds, 2, wait) < 0 && errno != EINTR)
		return err_set(e, ERR_INTERNAL, "wait for the service: %m");
	return signals_check(e);
}

static enum err_code fail_connect(struct client_question *q, struct err *e)
{
	if (errno == EACCES || errno == EPERM)
		return err_set(e, ERR_NOT_ALLOWED, "this user may not speak with the "
			       "service (%.200s: %m)", q->path);
	q->is_there = errno == EAGAIN;
	if (q->is_there)
		return err_set(e, ERR_SERVICE, "the service on %.200s lets nobody in: "
			       "too many ask", q->path);
	return err_set(e, ERR_SERVICE, "no service listens on %.200s", q->path);
}

static int open_connection(struct client_question *q, struct err *e)
{
	struct sockaddr_un address;
	autofd folder = -1;
	autofd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int64_t until = clock_now_ms() + CONNECT_MS;
	if (fd < 0) {
		err_set(e, ERR_INTERNAL, "make a socket: %m");
		return -1;
	}
	if (q->path == NULL || q->path[0] == '\0') {
		err_set(e, ERR_SERVICE, "[control] socket names none");
		return -1;
	}
	if (give_address(q->path, &address, &folder, e) != ERR_OK)
		return -1;
	while (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		if (errno != EAGAIN || clock_now_ms() >= until) {
			fail_connect(q, e);
			return -1;
		}
		if (await(-1, 0, clock_now_ms() + PAUSE_MS, e) != ERR_OK)
			return -1;
	}
	q->is_there = true;
	return take_fd(&fd);
}

/* --- asking --------------------------------------------------------------- */

/* Our terminal is for root's service or our own. Root goes by its settings. */
static enum err_code check_peer(int fd, const char *path, struct err *e)
{
	struct ucred who;
	socklen_t len = sizeof(who);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0)
		return err_set(e, ERR_SERVICE, "who listens on %.200s: %m", path);
	if (who.uid != 0 && who.uid != geteuid() && geteuid() != 0)
		return err_set(e, ERR_SERVICE, "on %.200s listens user %u, not root "
			       "or this one", path, (unsigned)who.uid);
	return ERR_OK;
}

/* One message: a request is far smaller than what a new socket takes at once. */
static enum err_code send_request(int fd, struct client_question *q, struct err *e)
{
	union {
		char bytes[CMSG_SPACE(3 * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec v = { (void *)(uintptr_t)q->request.at, q->request.len };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	if (q->request.len > CONTROL_LINE)
		return err_set(e, ERR_SERVICE, "the request has %zu bytes, the service "
			       "takes %d", q->request.len, CONTROL_LINE);
	if (q->fds) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(3 * sizeof(int));
		memcpy(CMSG_DATA(h), q->fds, 3 * sizeof(int));
	}
	ssize_t n = sendmsg(fd, &m, MSG_NOSIGNAL);
	if (n != (ssize_t)q->request.len)
		return err_set(e, ERR_SERVICE, "ask the service: %m");
	q->is_sent = true;
	return ERR_OK;
}

static enum err_code read_reply(int fd, int64_t wait_ms, struct buf *reply,
				struct err *e)
{
	int64_t until = wait_ms ? clock_now_ms() + wait_ms : INT64_MAX;
	char piece[16384];
	for (;;) {
		ssize_t n = recv(fd, piece, sizeof(piece), MSG_DONTWAIT);
		if (n > 0)
			buf_add(reply, piece, (size_t)n);
		if (reply->failed)
			return err_set(e, ERR_SERVICE, "the service's answer is too "
				       "long");
		if (n > 0 || (n < 0 && errno == EINTR))
			continue;
		if (n == 0 && reply->len)
			return ERR_OK;
		if (n == 0 || errno != EAGAIN)
			return err_set(e, ERR_SERVICE, "the service ended before it "
				       "answered");
		if (clock_now_ms() >= until)
			return err_set(e, ERR_SERVICE, "the service does not answer");
		if (await(fd, POLLIN, until, e) != ERR_OK)
			return e->code;
	}
}

enum err_code client_ask(struct client_question *q, struct buf *reply,
			 struct err *e)
{
	q->is_there = q->is_sent = false;
	buf_clear(reply);
	if (reply->max == 0)
		reply->max = REPLY_MAX;
	autofd fd = open_connection(q, e);
	if (fd < 0 || (q->fds && check_peer(fd, q->path, e) != ERR_OK) ||
	    send_request(fd, q, e) != ERR_OK)
		return e->code;
	return read_reply(fd, q->wait_ms, reply, e);
}

/* --- answers -------------------------------------------------------------- */

/* The error that the service tells, as one of our own. */
static void read_error(const json_t *o, struct err *out)
{
	const char *detail = json_string_value(json_object_get(o, "detail"));
	const char *text = json_string_value(json_object_get(o, "text"));
	enum err_code code = ERR_SERVICE;
	for (int i = 1; detail && i < ERR_COUNT; i++)
		if (strcmp(err_name((enum err_code)i), detail) == 0)
			code = (enum err_code)i;
	err_set(out, code, "%s", text ? text : "the service does not say why");
}

enum err_code client_read_result(struct span reply, struct client_result *out,
				 struct err *e)
{
	*out = (struct client_result){ 0 };
	json_t *root = json_loadb(reply.at, reply.len, 0, NULL);
	const json_t *status = json_object_get(root, "exit");
	const json_t *error = json_object_get(root, "error");
	enum err_code rc = ERR_OK;
	if (!json_is_integer(status))
		rc = err_set(e, ERR_SERVICE, "the service's answer makes no sense: "
			     "%.100s", reply.at);
	else
		out->exit = (int)json_integer_value(status);
	if (json_is_object(error))
		read_error(error, &out->error);
	json_decref(root);
	return rc;
}

enum err_code client_order(const char *path, enum control_verb verb,
			   const struct content *content, bool *is_there,
			   struct err *e)
{
	autobuf request = { 0 }, reply = { 0 };
	struct client_result result;
	order_print(verb, content, NULL, &request);
	struct client_question q = { .path = path,
				     .request = buf_as_span(&request) };
	enum err_code rc = client_ask(&q, &reply, e);
	*is_there = q.is_there;
	if (rc == ERR_OK)
		rc = client_read_result(buf_as_span(&reply), &result, e);
	if (rc == ERR_OK && result.error.code != ERR_OK) {
		*e = result.error;
		rc = e->code;
	}
	return rc;
}

bool client_find_text(struct span reply, const char *outer, const char *inner,
		      char *out, size_t size)
{
	json_t *root = json_loadb(reply.at, reply.len, 0, NULL);
	const char *text = json_string_value(
		json_object_get(json_object_get(root, outer), inner));
	if (text)
		snprintf(out, size, "%s", text);
	json_decref(root);
	return text != NULL;
}
