#include "agent/keeper/control.h"

#include "common/fs.h"
#include "common/jsonout.h"
#include "common/log.h"
#include "common/own.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define PEERS_MAX (CONTROL_FDS - 1)
#define BACKLOG 128
#define ACCEPTS 64                        /* in one turn */
#define HELD_MAX ((uint64_t)64 << 20)     /* bytes of answers that nobody reads */
#define FOLDER_MODE 0750
#define SOCKET_UMASK 0117                 /* leaves 0660 */
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct control_peer {
	struct control *control;
	int fd; /* owned; -1 = over, freed in the next turn */
	enum {
		READING, /* for the end of its line */
		WAITING, /* for the handler to answer */
		SENDING, /* the rest of the answer */
	} state;
	bool may_change;     /* root or our own user */
	struct ucred who;
	uint64_t number;     /* the younger, the larger */
	char line[CONTROL_LINE];
	size_t len;
	int fds[3];          /* owned; that came with the line */
	unsigned fd_count;
	struct control_request request; /* once it is read */
	char *rest;          /* owned; what was not sent at once */
	size_t rest_len, rest_sent;
	void *tag;
};

struct control {
	int listen_fd, folder_fd; /* owned */
	int spare_fd;             /* owned; given up to refuse when none is left */
	int arriving_fd;          /* borrowed: accepted, and no peer so far; -1 */
	char name[NAME_MAX + 1];  /* of the socket, in its folder */
	dev_t device;             /* of the socket file that is ours */
	ino_t inode;
	struct control_handlers handlers;
	struct control_peer *peers[PEERS_MAX];
	unsigned count;
	uint64_t made;            /* connections so far */
	uint64_t held;            /* bytes of all the rests */
};

/* --- one connection: its end ---------------------------------------------- */

static void close_fds(int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		own_close(&fds[i]);
}

static void end_peer(struct control_peer *p)
{
	own_close(&p->fd);
	p->fd = -1;
	close_fds(p->fds, p->fd_count);
	p->fd_count = 0;
	p->control->held -= p->rest_len - p->rest_sent;
	free(p->rest);
	p->rest = NULL;
	p->rest_len = p->rest_sent = 0;
}

static void free_peer(struct control_peer *p)
{
	end_peer(p);
	order_free(&p->request);
	free(p);
}

/* Whoever holds a peer on the way here may still look at it: freed later. */
static void sweep(struct control *c)
{
	unsigned kept = 0;
	for (unsigned i = 0; i < c->count; i++)
		if (c->peers[i]->fd >= 0)
			c->peers[kept++] = c->peers[i];
		else
			free_peer(c->peers[i]);
	c->count = kept;
}

/* It went away, or has to. */
static void drop(struct control_peer *p)
{
	if (p->state == WAITING && p->control->handlers.on_gone)
		p->control->handlers.on_gone(p->control->handlers.arg, p);
	end_peer(p);
}

/*
 * Who has to go when there is no room: the oldest that is not waiting for us, and
 * first one of those who may only ask. For such a one, nobody else goes.
 */
static struct control_peer *find_idle(struct control *c, bool may_change,
				      const struct control_peer *but)
{
	struct control_peer *oldest = NULL;
	for (unsigned i = 0; i < c->count; i++) {
		struct control_peer *p = c->peers[i];
		if (p == but || p->fd < 0 || p->state == WAITING ||
		    (p->may_change && !may_change))
			continue;
		if (oldest == NULL || oldest->may_change > p->may_change ||
		    (oldest->may_change == p->may_change &&
		     oldest->number > p->number))
			oldest = p;
	}
	return oldest;
}

/* --- answers -------------------------------------------------------------- */

/* How many bytes went out; -1 = it is gone. */
static ssize_t push(int fd, const char *at, size_t len)
{
	size_t sent = 0;
	while (sent < len) {
		ssize_t n = send(fd, at + sent, len - sent,
				 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			return -1;
		sent += (size_t)n;
	}
	return (ssize_t)sent;
}

static void send_rest(struct control_peer *p)
{
	ssize_t n = push(p->fd, p->rest + p->rest_sent, p->rest_len - p->rest_sent);
	if (n > 0) {
		p->rest_sent += (size_t)n;
		p->control->held -= (uint64_t)n;
	}
	if (n < 0 || p->rest_sent == p->rest_len)
		end_peer(p);
}

/* Keep what could not be sent. Those who never read make room for others. */
static bool hold(struct control_peer *p, const char *at, size_t len)
{
	struct control *c = p->control;
	while (c->held + len > HELD_MAX) {
		struct control_peer *other = find_idle(c, p->may_change, p);
		if (other == NULL)
			return false;
		log_debug("agent", "control: pid %d does not read its answer",
			  (int)other->who.pid);
		drop(other);
	}
	p->rest = malloc(len);
	if (p->rest == NULL)
		return false;
	memcpy(p->rest, at, len);
	p->rest_len = len;
	c->held += len;
	return true;
}

void control_answer(struct control_peer *p, struct span text)
{
	if (p->fd < 0)
		return;
	p->state = SENDING;
	ssize_t n = push(p->fd, text.at, text.len);
	if (n < 0 || (size_t)n == text.len ||
	    !hold(p, text.at + n, text.len - (size_t)n))
		end_peer(p);
}

void control_answer_err(struct control_peer *p, const struct err *e)
{
	autobuf text = { 0 };
	json_t *o = json_object();
	json_object_set_new(o, "exit", json_integer(err_exit(e->code)));
	json_object_set_new(o, "error", jsonout_error(e));
	jsonout_add(&text, o);
	control_answer(p, buf_as_span(&text));
}

void control_answer_exit(struct control_peer *p, int status)
{
	char text[64];
	int len = snprintf(text, sizeof(text), "{\"exit\":%d,\"error\":null}",
			   status);
	control_answer(p, (struct span){ text, (size_t)len });
}

void control_set_tag(struct control_peer *p, void *tag)
{
	p->tag = tag;
}

void *control_tag(const struct control_peer *p)
{
	return p->tag;
}

/* --- requests ------------------------------------------------------------- */

/* The line is there, without its end. */
static void take_line(struct control_peer *p, size_t len)
{
	struct err e = { 0 };
	struct control *c = p->control;
	struct control_request *q = &p->request;
	q->uid = p->who.uid;
	q->pid = p->who.pid;
	enum err_code rc = order_read((struct span){ p->line, len }, p->may_change, q,
				      &e);
	unsigned wanted = q->verb == CONTROL_DOWNLOAD ? COUNT(p->fds) : 0;
	if (rc == ERR_OK && p->fd_count != wanted)
		rc = err_set(&e, ERR_USAGE, "the request wants %u descriptors with it, "
			     "not %u", wanted, p->fd_count);
	if (rc != ERR_OK) {
		control_answer_err(p, &e);
		return;
	}
	for (unsigned i = 0; i < COUNT(q->fds); i++)
		q->fds[i] = i < p->fd_count ? take_fd(&p->fds[i]) : -1;
	p->fd_count = 0;
	p->state = WAITING;
	c->handlers.on_request(c->handlers.arg, p, q);
	close_fds(q->fds, COUNT(q->fds));
}

/* Descriptors of a message: three at most, others are closed. */
static bool take_fds(struct control_peer *p, struct msghdr *m)
{
	bool is_good = !(m->msg_flags & MSG_CTRUNC);
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(fd));
			if (p->fd_count < COUNT(p->fds)) {
				p->fds[p->fd_count++] = fd;
			} else {
				close(fd);
				is_good = false;
			}
		}
	}
	return is_good;
}

/*
 * What came; as recv(). Only from those who may hand something over are descriptors
 * received: the mere close() of one may hang (a FUSE file whose server is the
 * sender), while the kernel lets go of those that nobody received without asking
 * anybody. *is_good: not more of them than three.
 */
static ssize_t receive(struct control_peer *p, bool *is_good)
{
	union {
		char bytes[CMSG_SPACE(3 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec v = { p->line + p->len, sizeof(p->line) - p->len };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	if (p->may_change) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
	}
	ssize_t n = recvmsg(p->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	*is_good = true;
	if (n > 0 && p->may_change)
		*is_good = take_fds(p, &m);
	return n;
}

static void refuse(struct control_peer *p, const char *why)
{
	struct err e = { 0 };
	err_set(&e, ERR_USAGE, "the request %s", why);
	control_answer_err(p, &e);
}

static void read_peer(struct control_peer *p)
{
	bool is_good;
	ssize_t n = receive(p, &is_good);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		end_peer(p);
		return;
	}
	const char *end = memchr(p->line + p->len, '\n', (size_t)n);
	p->len += (size_t)n;
	if (!is_good)
		refuse(p, "comes with more than three descriptors");
	else if (end && end + 1 == p->line + p->len)
		take_line(p, p->len - 1);
	else if (end)
		refuse(p, "is followed by something");
	else if (p->len == sizeof(p->line))
		refuse(p, "is too long");
	else if (n == 0)
		refuse(p, "has no end");
}

/* --- the listening socket ------------------------------------------------- */

/* Many at once are served in turn, as they have sent their line by now: it is the
 * silent who go. */
static bool make_room(struct control *c, bool may_change)
{
	if (c->count < PEERS_MAX)
		return true;
	for (unsigned i = 0; i < c->count; i++)
		if (c->peers[i]->fd >= 0 && c->peers[i]->state == READING)
			read_peer(c->peers[i]);
	sweep(c);
	struct control_peer *idle = find_idle(c, may_change, NULL);
	if (c->count == PEERS_MAX && idle)
		drop(idle);
	sweep(c);
	return c->count < PEERS_MAX;
}

static void add_peer(struct control *c, int fd)
{
	autofd own = fd;
	struct ucred who;
	socklen_t len = sizeof(who);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0)
		return;
	bool may_change = who.uid == 0 || who.uid == geteuid();
	c->arriving_fd = fd; /* room is made by work, which may be a child's */
	bool has_room = make_room(c, may_change);
	c->arriving_fd = -1;
	if (!has_room)
		return;
	struct control_peer *p = calloc(1, sizeof(*p));
	if (p == NULL)
		return;
	p->control = c;
	p->fd = take_fd(&own);
	p->may_change = may_change;
	p->who = who;
	p->number = c->made++;
	c->peers[c->count++] = p;
}

static int open_spare(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Without descriptors left the socket would stay ready for ever, and we would
 * never sleep again: the next in line is let in and thrown out. */
static void refuse_one(struct control *c)
{
	own_close(&c->spare_fd);
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	own_close(&fd);
	c->spare_fd = open_spare();
}

static void accept_peers(struct control *c)
{
	for (int i = 0; i < ACCEPTS; i++) {
		int fd = accept4(c->listen_fd, NULL, NULL,
				 SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0)
			add_peer(c, fd);
		else if (errno == EMFILE || errno == ENFILE)
			refuse_one(c);
		else if (errno != EINTR && errno != ECONNABORTED)
			return;
	}
}

/* The socket's address. One whose path is too long for it is reached by its
 * folder. */
static enum err_code give_address(const char *path, int folder_fd,
				  const char *name, struct sockaddr_un *out,
				  struct err *e)
{
	*out = (struct sockaddr_un){ .sun_family = AF_UNIX };
	int len = snprintf(out->sun_path, sizeof(out->sun_path), "%s", path);
	if (len >= (int)sizeof(out->sun_path))
		len = snprintf(out->sun_path, sizeof(out->sun_path),
			       "/proc/self/fd/%d/%s", folder_fd, name);
	if (len >= (int)sizeof(out->sun_path))
		return err_set(e, ERR_FOLDER, "socket %.200s: the name is too long",
			       path);
	return ERR_OK;
}

static int bind_socket(int fd, const struct sockaddr_un *address)
{
	mode_t old = umask(SOCKET_UMASK);
	int rc = bind(fd, (const struct sockaddr *)address, sizeof(*address));
	umask(old);
	return rc;
}

/* Something lies in the way: leftover of a service that was killed? */
static enum err_code clear_way(struct control *c, const char *path,
			       const struct sockaddr_un *address, struct err *e)
{
	struct stat st;
	autofd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fstatat(c->folder_fd, c->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? ERR_OK : fs_fail(e, "examine", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, ERR_FOLDER, "socket %.200s: something else has that "
			       "name", path);
	if (fd < 0)
		return err_set(e, ERR_INTERNAL, "make a socket: %m");
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
	    errno != ECONNREFUSED)
		return err_set(e, ERR_LOCKED, "socket %.200s: another service listens "
			       "there", path);
	if (unlinkat(c->folder_fd, c->name, 0) != 0 && errno != ENOENT)
		return fs_fail(e, "remove", path);
	return ERR_OK;
}

static enum err_code start_listening(struct control *c, const char *path,
				     struct err *e)
{
	struct sockaddr_un address;
	struct stat st;
	if (give_address(path, c->folder_fd, c->name, &address, e) != ERR_OK)
		return e->code;
	int rc = bind_socket(c->listen_fd, &address);
	if (rc != 0 && errno == EADDRINUSE) {
		if (clear_way(c, path, &address, e) != ERR_OK)
			return e->code;
		rc = bind_socket(c->listen_fd, &address);
	}
	if (rc != 0 || listen(c->listen_fd, BACKLOG) != 0 ||
	    fstatat(c->folder_fd, c->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return fs_fail(e, "listen on", path);
	c->device = st.st_dev;
	c->inode = st.st_ino;
	return ERR_OK;
}

/* The folder of the path, and its last part. */
static int open_folder(const char *path, char name[NAME_MAX + 1], struct err *e)
{
	const char *slash = strrchr(path, '/');
	const char *last = slash ? slash + 1 : path;
	size_t len = slash == path ? 1 : slash ? (size_t)(slash - path) : 0;
	autofree char *folder = len ? strndup(path, len) : strdup(".");
	if (last[0] == '\0' || strlen(last) > NAME_MAX) {
		err_set(e, ERR_FOLDER, "socket %.200s: that cannot be a file", path);
		return -1;
	}
	snprintf(name, NAME_MAX + 1, "%s", last);
	if (folder)
		return fs_open_root(folder, FOLDER_MODE, e);
	err_set(e, ERR_NOMEM, "no memory for the control socket");
	return -1;
}

struct control *control_open(const char *path, const struct control_handlers *h,
			     struct err *e)
{
	struct control *c = calloc(1, sizeof(*c));
	if (c == NULL) {
		err_set(e, ERR_NOMEM, "no memory for the control socket");
		return NULL;
	}
	c->handlers = *h;
	c->listen_fd = c->spare_fd = c->arriving_fd = -1;
	c->folder_fd = open_folder(path, c->name, e);
	if (c->folder_fd >= 0) {
		c->spare_fd = open_spare();
		c->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC |
					       SOCK_NONBLOCK, 0);
		if (c->listen_fd < 0)
			err_set(e, ERR_INTERNAL, "make a socket: %m");
		else if (start_listening(c, path, e) == ERR_OK)
			return c;
	}
	control_close(c);
	return NULL;
}

void control_close(struct control *c)
{
	struct stat st;
	if (c == NULL)
		return;
	for (unsigned i = 0; i < c->count; i++)
		free_peer(c->peers[i]);
	/* Somebody may have put another in its place. */
	if (c->inode &&
	    fstatat(c->folder_fd, c->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_dev == c->device && st.st_ino == c->inode)
		unlinkat(c->folder_fd, c->name, 0);
	own_close(&c->listen_fd);
	own_close(&c->folder_fd);
	own_close(&c->spare_fd);
	free(c);
}

/* --- the loop ------------------------------------------------------------- */

unsigned control_fds(const struct control *c, struct pollfd *out)
{
	unsigned n = 0;
	out[n++] = (struct pollfd){ .fd = c->listen_fd, .events = POLLIN };
	for (unsigned i = 0; i < c->count; i++) {
		const struct control_peer *p = c->peers[i];
		short events = p->state == READING ? POLLIN :
			       p->state == WAITING ? POLLRDHUP :
						     POLLOUT;
		if (p->fd >= 0)
			out[n++] = (struct pollfd){ .fd = p->fd, .events = events };
	}
	return n;
}

unsigned control_list_fds(const struct control *c, int *out)
{
	const int own[] = { c->listen_fd, c->folder_fd, c->spare_fd, c->arriving_fd };
	unsigned n = 0;
	for (size_t i = 0; i < COUNT(own); i++)
		out[n++] = own[i];
	for (unsigned i = 0; i < c->count; i++) {
		out[n++] = c->peers[i]->fd;
		for (unsigned k = 0; k < c->peers[i]->fd_count; k++)
			out[n++] = c->peers[i]->fds[k];
	}
	return n;
}

static void turn_peer(struct control_peer *p, short events)
{
	switch (p->state) {
	case READING:
		read_peer(p);
		break;
	case WAITING:
		if (events & (POLLRDHUP | POLLHUP | POLLERR))
			drop(p);
		break;
	case SENDING:
		if (events & POLLERR)
			end_peer(p);
		else
			send_rest(p);
		break;
	}
}

void control_turn(struct control *c, const struct pollfd *fds, unsigned n)
{
	bool is_asked = false;
	for (unsigned i = 0; i < n; i++) {
		if (fds[i].fd < 0 || fds[i].revents == 0)
			continue;
		is_asked |= fds[i].fd == c->listen_fd;
		for (unsigned k = 0; k < c->count; k++)
			if (c->peers[k]->fd == fds[i].fd) {
				turn_peer(c->peers[k], fds[i].revents);
				break;
			}
	}
	sweep(c);
	if (is_asked) /* last: new ones may get the numbers of old descriptors */
		accept_peers(c);
}
