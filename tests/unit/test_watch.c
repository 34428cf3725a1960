#include "tests/unit/test.h"
#include "tests/unit/files.h"

#include "agent/keeper/watch.h"
#include "common/clock.h"
#include "common/own.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void own_watch(struct watch *w)
{
	watch_close(w);
}
#define autowatch __attribute__((cleanup(own_watch))) struct watch

static bool is_readable(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	return poll(&p, 1, timeout_ms) == 1;
}

/* A watch on `name` of a new folder, whose descriptor is in *dir. */
static struct watch watching(const char *name, int *dir)
{
	struct watch w;
	struct err e = { 0 };
	if (*dir < 0)
		*dir = files_new();
	const char *paths[] = { files_path(name), NULL };
	assert_ok(watch_open(&w, &e));
	assert_ok(watch_paths(&w, paths, &e));
	return w;
}

TEST(watch_files__nothing_happens__false)
{
	autofd dir = -1;
	autowatch w = watching("", &dir);
	assert_false(is_readable(w.files_fd, 0));
	assert_false(watch_files_changed(&w));
}

TEST(watch_files__file_is_written__once)
{
	autofd dir = -1;
	autowatch w = watching("", &dir);
	files_put(dir, "a.ini", "x");
	assert_true(is_readable(w.files_fd, 0));
	assert_true(watch_files_changed(&w));
	assert_false(watch_files_changed(&w));
}

/* A hundred files are one change. */
TEST(watch_files__burst__one_change)
{
	autofd dir = -1;
	autowatch w = watching("", &dir);
	for (int i = 0; i < 100; i++) {
		char name[32];
		snprintf(name, sizeof(name), "%d.ini", i);
		files_put(dir, name, "x");
	}
	assert_true(watch_files_changed(&w));
	assert_false(watch_files_changed(&w));
}

TEST(watch_files__rename_remove_chmod__changes)
{
	autofd dir = files_new();
	files_put(dir, ".a.new", "x");
	files_put(dir, "b.ini", "x");
	files_put(dir, "c.ini", "x");
	autowatch w = watching("", &dir);
	assert_int_equal(renameat(dir, ".a.new", dir, "a.ini"), 0);
	assert_true(watch_files_changed(&w));
	assert_int_equal(unlinkat(dir, "b.ini", 0), 0);
	assert_true(watch_files_changed(&w));
	assert_int_equal(fchmodat(dir, "c.ini", 0600, 0), 0);
	assert_true(watch_files_changed(&w));
}

TEST(watch_files__temporary_names__are_none)
{
	static const char *const names[] = { ".a.ini.swp", "a.ini~", "a.ini.dpkg-new",
					     ".hidden", "a.swp", "a.tmp" };
	autofd dir = -1;
	autowatch w = watching("", &dir);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		files_put(dir, names[i], "x");
		assert_false(watch_files_changed(&w));
	}
}

/* A file that is only begun is not told before it is closed. */
TEST(watch_files__half_written__when_it_is_closed)
{
	autofd dir = -1;
	autowatch w = watching("", &dir);
	int fd = openat(dir, "a.ini", O_WRONLY | O_CREAT, 0644);
	assert_int_equal(write(fd, "[dep", 4), 4);
	assert_false(watch_files_changed(&w));
	close(fd);
	assert_true(watch_files_changed(&w));
}

TEST(watch_files__single_file__with_its_companions_alone)
{
	autofd dir = files_new();
	files_put(dir, "policy.ini", "x");
	autowatch w = watching("policy.ini", &dir);
	files_put(dir, "agent.conf", "x");
	assert_false(watch_files_changed(&w));
	files_put(dir, "policy.ini", "y");
	assert_true(watch_files_changed(&w));
	files_put(dir, "policy.ini.p7s", "y");
	assert_true(watch_files_changed(&w));
}

TEST(watch_files__folder_does_not_exist_yet__its_making)
{
	autofd dir = -1;
	struct err e = { 0 };
	autowatch w = watching("etc/policy.d", &dir);
	files_put(dir, "other", "x");
	assert_int_equal(mkdirat(dir, "elsewhere", 0755), 0);
	assert_false(watch_files_changed(&w));
	assert_int_equal(mkdirat(dir, "etc", 0755), 0);
	assert_true(watch_files_changed(&w));
	char path[300];
	snprintf(path, sizeof(path), "%s", files_path("etc/policy.d"));
	const char *paths[] = { path, NULL };
	assert_ok(watch_paths(&w, paths, &e));
	assert_int_equal(mkdirat(dir, "etc/policy.d", 0755), 0);
	assert_true(watch_files_changed(&w));
	assert_ok(watch_paths(&w, paths, &e));
	files_put(dir, "etc/policy.d/a.ini", "x");
	assert_true(watch_files_changed(&w));
}

TEST(watch_files__folder_is_removed__change)
{
	autofd dir = files_new();
	assert_int_equal(mkdirat(dir, "policy.d", 0755), 0);
	autowatch w = watching("policy.d", &dir);
	assert_int_equal(unlinkat(dir, "policy.d", AT_REMOVEDIR), 0);
	assert_true(watch_files_changed(&w));
}

TEST(watch_paths__several_and_empty_ones__each)
{
	struct err e = { 0 };
	char one[300], other[300];
	autowatch w = WATCH_NONE;
	autofd dir = files_new();
	mkdirat(dir, "one", 0755);
	mkdirat(dir, "two", 0755);
	snprintf(one, sizeof(one), "%s", files_path("one"));
	snprintf(other, sizeof(other), "%s", files_path("two/"));
	const char *paths[] = { "", one, other, NULL };
	assert_ok(watch_open(&w, &e));
	assert_ok(watch_paths(&w, paths, &e));
	files_put(dir, "one/a.ini", "x");
	assert_true(watch_files_changed(&w));
	files_put(dir, "two/a.ini", "x");
	assert_true(watch_files_changed(&w));
}

TEST(watch_set_timer__moment__wakes_then)
{
	struct err e = { 0 };
	autowatch w = WATCH_NONE;
	assert_ok(watch_open(&w, &e));
	assert_false(is_readable(w.timer_fd, 0));
	int64_t at_ms = clock_now_ms() + 30;
	watch_set_timer(&w, at_ms);
	assert_true(is_readable(w.timer_fd, 10000));
	assert_true(clock_now_ms() >= at_ms);
	watch_drain_timer(&w);
	assert_false(is_readable(w.timer_fd, 0));
	/* one that has passed, after it was drained, wakes again */
	watch_set_timer(&w, at_ms);
	assert_true(is_readable(w.timer_fd, 10000));
}

TEST(watch_set_timer__never__does_not_wake)
{
	struct err e = { 0 };
	autowatch w = WATCH_NONE;
	assert_ok(watch_open(&w, &e));
	watch_set_timer(&w, clock_now_ms() + 20);
	watch_set_timer(&w, INT64_MAX);
	assert_false(is_readable(w.timer_fd, 60));
}

/* The clock of tests stands still; the waiting is real all the same. */
TEST(watch_set_timer__replaced_clock__relative)
{
	const struct clock_fake fake = { .now_ms = 5000000 };
	struct err e = { 0 };
	autowatch w = WATCH_NONE;
	assert_ok(watch_open(&w, &e));
	clock_set_fake(&fake);
	watch_set_timer(&w, 5000001);
	clock_set_fake(NULL);
	assert_true(is_readable(w.timer_fd, 10000));
}

TEST(watch_clock_was_set__nobody_set_it__false)
{
	struct err e = { 0 };
	autowatch w = WATCH_NONE;
	assert_ok(watch_open(&w, &e));
	assert_false(is_readable(w.clock_fd, 0));
	assert_false(watch_clock_was_set(&w));
}

/* --- the network: in a name space of its own ------------------------------- */

static int set_address(int s, const char *text_up)
{
	struct ifreq q = { .ifr_name = "lo" };
	struct sockaddr_in a = { .sin_family = AF_INET };
	q.ifr_flags = IFF_UP;
	if (text_up == NULL)
		return ioctl(s, SIOCSIFFLAGS, &q);
	a.sin_addr.s_addr = htonl(0xc0000201); /* 192.0.2.1 */
	memcpy(&q.ifr_addr, &a, sizeof(a));
	return ioctl(s, SIOCSIFADDR, &q);
}

static int watch_a_network(void)
{
	struct watch w;
	struct err e = { 0 };
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0 &&
	    unshare(CLONE_NEWNET) != 0)
		return 99;
	autofd s = socket(AF_INET, SOCK_DGRAM, 0);
	if (watch_open(&w, &e) != ERR_OK || watch_link_is_back(&w))
		return 1;
	if (watch_link(&w, true, &e) != ERR_OK || w.link_fd < 0)
		return 2;
	/* 127.0.0.1 leads nowhere */
	if (set_address(s, NULL) != 0 || !is_readable(w.link_fd, 10000) ||
	    watch_link_is_back(&w))
		return 3;
	if (set_address(s, "up") != 0 || !is_readable(w.link_fd, 10000) ||
	    !watch_link_is_back(&w) || watch_link_is_back(&w))
		return 4;
	if (watch_link(&w, false, &e) != ERR_OK || w.link_fd >= 0)
		return 5;
	watch_close(&w);
	return 0;
}

TEST(watch_link__an_address_appears__back)
{
	int status = 0;
	pid_t pid = fork();
	if (pid == 0)
		_exit(watch_a_network());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 99)
		skip(); /* no name space to be had */
	assert_int_equal(WEXITSTATUS(status), 0);
}
