#include "agent/keeper/watch.h"

#include "common/clock.h"
#include "common/own.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdalign.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* IN_CREATE: of folders, see matters(); of files their writing is enough. */
#define FILE_EVENTS                                                             \
	(IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB | \
	 IN_CREATE | IN_DELETE_SELF | IN_MOVE_SELF)
#define FAR_FUTURE_S 253402300799 /* 9999-12-31 */

/* --- files ------------------------------------------------------------------ */

static bool ends_with(const char *text, const char *with)
{
	size_t len = strlen(text), tail = strlen(with);
	return len >= tail && strcmp(text + len - tail, with) == 0;
}

/* Of an editor or a package manager, on their way to the real name. */
static bool is_temporary(const char *name)
{
	return name[0] == '.' || ends_with(name, "~") || ends_with(name, ".tmp") ||
	       ends_with(name, ".swp") || ends_with(name, ".swx") ||
	       strstr(name, ".dpkg-") != NULL;
}

static bool is_wanted(const struct watch_place *p, const char *name)
{
	if (p->name[0] == '\0')
		return !is_temporary(name);
	return p->is_exact ? strcmp(name, p->name) == 0 :
			     strncmp(name, p->name, strlen(p->name)) == 0 &&
				     !is_temporary(name);
}

/* One event: does anything that we were asked to watch look different now? */
static bool matters(const struct watch *w, const struct inotify_event *event)
{
	if (event->mask & IN_Q_OVERFLOW)
		return true;
	bool is_new_file = (event->mask & IN_CREATE) && !(event->mask & IN_ISDIR);
	for (unsigned i = 0; i < w->place_count; i++) {
		const struct watch_place *p = &w->places[i];
		if (p->wd != event->wd)
			continue;
		/* about the folder itself: it has gone, or was let go */
		if (event->len == 0)
			return true;
		if (!is_new_file && is_wanted(p, event->name))
			return true;
	}
	return false;
}

bool watch_files_changed(struct watch *w)
{
	alignas(struct inotify_event) char events[16384];
	bool has_changed = false;
	ssize_t n;
	while (w->files_fd >= 0 &&
	       (n = read(w->files_fd, events, sizeof(events))) > 0)
		for (const char *at = events; at < events + n;) {
			const struct inotify_event *event =
				(const struct inotify_event *)(const void *)at;
			has_changed |= matters(w, event);
			at += sizeof(*event) + event->len;
		}
	return has_changed;
}

static void drop_slashes(char *path)
{
	for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
		path[n - 1] = '\0';
}

/* Up to the last dot: a file, its list of files, its signature. */
static void set_stem(struct watch_place *p, const char *name)
{
	const char *dot = strrchr(name, '.');
	size_t keep = dot && dot != name ? (size_t)(dot + 1 - name) : strlen(name);
	snprintf(p->name, sizeof(p->name), "%.*s", (int)keep, name);
}

/*
 * Watch one path, or what is there of it. Between looking and watching it may
 * come and go: then the caller's reading, which comes after, sees the truth.
 */
static void watch_one(struct watch *w, const char *wanted)
{
	struct watch_place *p = &w->places[w->place_count];
	char path[4096];
	int n = snprintf(path, sizeof(path), "%s%s", wanted[0] == '/' ? "" : "./",
			 wanted);
	*p = (struct watch_place){ .wd = -1 };
	if (n < 0 || (size_t)n >= sizeof(path))
		return;
	drop_slashes(path);
	p->wd = inotify_add_watch(w->files_fd, path, FILE_EVENTS | IN_ONLYDIR);
	char *slash = strrchr(path, '/');
	for (unsigned up = 0; p->wd < 0 && slash; up++) {
		p->is_exact = up > 0;
		if (p->is_exact)
			snprintf(p->name, sizeof(p->name), "%s", slash + 1);
		else
			set_stem(p, slash + 1);
		*slash = '\0';
		p->wd = inotify_add_watch(w->files_fd, path[0] ? path : "/",
					  FILE_EVENTS | IN_ONLYDIR);
		slash = strrchr(path, '/');
	}
	if (p->wd >= 0)
		w->place_count++;
}

enum err_code watch_paths(struct watch *w, const char *const *paths,
			  struct err *e)
{
	/* A new one, so that nothing of the old is left in it. */
	if (w->files_fd >= 0)
		close(w->files_fd);
	w->place_count = 0;
	w->files_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->files_fd < 0)
		return err_set(e, ERR_INTERNAL, "watch the policy files: %m");
	for (; *paths; paths++)
		if ((*paths)[0] && w->place_count < WATCH_PATHS)
			watch_one(w, *paths);
	return ERR_OK;
}

/* --- network ---------------------------------------------------------------- */

enum err_code watch_link(struct watch *w, bool is_wanted, struct err *e)
{
	if (!is_wanted && w->link_fd >= 0) {
		close(w->link_fd);
		w->link_fd = -1;
	}
	if (!is_wanted || w->link_fd >= 0)
		return ERR_OK;
	struct sockaddr_nl from = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
			     RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE,
	};
	autofd s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
			  NETLINK_ROUTE);
	if (s < 0 || bind(s, (const struct sockaddr *)&from, sizeof(from)) < 0)
		return err_set(e, ERR_INTERNAL, "watch the network: %m");
	w->link_fd = take_fd(&s);
	return ERR_OK;
}

/* Can it lead out of this machine? */
static bool is_way_out(const struct nlmsghdr *h)
{
	if (h->nlmsg_type == RTM_NEWADDR) {
		const struct ifaddrmsg *a = NLMSG_DATA(h);
		return h->nlmsg_len >= NLMSG_LENGTH(sizeof(*a)) &&
		       a->ifa_scope < RT_SCOPE_LINK;
	}
	if (h->nlmsg_type == RTM_NEWROUTE) {
		const struct rtmsg *r = NLMSG_DATA(h);
		return h->nlmsg_len >= NLMSG_LENGTH(sizeof(*r)) &&
		       r->rtm_dst_len == 0 && r->rtm_type == RTN_UNICAST;
	}
	return false;
}

bool watch_link_is_back(struct watch *w)
{
	alignas(struct nlmsghdr) char bytes[16384];
	bool is_back = false;
	while (w->link_fd >= 0) {
		struct sockaddr_nl from = { 0 };
		socklen_t size = sizeof(from);
		ssize_t n = recvfrom(w->link_fd, bytes, sizeof(bytes), 0,
				     (struct sockaddr *)&from, &size);
		if (n < 0 && errno == ENOBUFS) {
			is_back = true; /* more than it could keep: look */
			continue;
		}
		if (n <= 0)
			break;
		if (from.nl_pid != 0)
			continue; /* only the kernel knows */
		unsigned left = (unsigned)n;
		for (const struct nlmsghdr *h = (const void *)bytes;
		     NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
			is_back |= is_way_out(h);
	}
	return is_back;
}

/* --- clocks ----------------------------------------------------------------- */

/* A moment that never comes, and a read that fails when the clock is set. */
static void arm_clock(int fd)
{
	const struct itimerspec never = { .it_value.tv_sec = FAR_FUTURE_S };
	timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never,
			NULL);
}

bool watch_clock_was_set(struct watch *w)
{
	uint64_t ticks;
	if (read(w->clock_fd, &ticks, sizeof(ticks)) < 0 && errno == EAGAIN)
		return false;
	arm_clock(w->clock_fd);
	return true;
}

void watch_set_timer(struct watch *w, int64_t at_ms)
{
	if (at_ms == w->timer_ms)
		return;
	struct itimerspec when = { 0 }; /* zero: never */
	int64_t left_ms = at_ms - clock_now_ms();
	if (at_ms != INT64_MAX) {
		if (left_ms < 0)
			left_ms = 0;
		when.it_value.tv_sec = left_ms / 1000;
		/* one more than nothing, which would mean never */
		when.it_value.tv_nsec = left_ms % 1000 * 1000000 + 1;
	}
	if (timerfd_settime(w->timer_fd, 0, &when, NULL) == 0)
		w->timer_ms = at_ms;
}

void watch_drain_timer(struct watch *w)
{
	uint64_t ticks;
	if (read(w->timer_fd, &ticks, sizeof(ticks)) == sizeof(ticks))
		w->timer_ms = INT64_MAX;
}

/* --- all -------------------------------------------------------------------- */

enum err_code watch_open(struct watch *w, struct err *e)
{
	*w = WATCH_NONE;
	w->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	w->clock_fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (w->timer_fd < 0 || w->clock_fd < 0) {
		err_set(e, ERR_INTERNAL, "make a timer: %m");
		watch_close(w);
		return ERR_INTERNAL;
	}
	arm_clock(w->clock_fd);
	return ERR_OK;
}

void watch_close(struct watch *w)
{
	int *const fds[] = { &w->files_fd, &w->link_fd, &w->timer_fd,
			     &w->clock_fd };
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		own_close(fds[i]);
	*w = WATCH_NONE;
}
