#include "tests/unit/test.h"

#include "agent/keeper/child.h"
#include "common/own.h"
#include "common/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct status_run nothing = { .name = "ABC00042.3", .by = "service" };

static struct child start(int (*work)(void *arg), void *arg)
{
	struct child c = CHILD_NONE;
	struct err e = { 0 };
	assert_ok(child_start(&c, &nothing, work, arg, NULL, 0, &e));
	return c;
}

static void await(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 20000), 1);
}

/* Wait for a signal as the job does. */
static int wait_for_signal(void *arg)
{
	struct err e = { 0 };
	struct pollfd p = { .fd = signals_fd(), .events = POLLIN };
	child_report(arg, &(struct job_progress){ .step = "ready", .host = "" });
	while (signals_check(&e) == ERR_OK)
		poll(&p, 1, -1);
	return err_exit(e.code);
}

static void await_step(struct child *c, const char *step)
{
	while (strcmp(c->run.step, step) != 0) {
		await(c->progress_fd);
		child_read(c);
		assert_true(c->progress_fd >= 0);
	}
}

static int return_seven(void *arg)
{
	(void)arg;
	return 7;
}

TEST(child_reap__exit__status_and_no_word)
{
	char how[80];
	struct child c = start(return_seven, NULL);
	await(c.pid_fd);
	assert_int_equal(child_reap(&c, how, sizeof(how)), 7);
	assert_string_equal(how, "");
	assert_int_equal(c.pid, 0);
	assert_int_equal(c.pid_fd, -1);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static int crash(void *arg)
{
	(void)arg;
	prctl(PR_SET_DUMPABLE, 0);
	signal(SIGSEGV, SIG_DFL); /* a sanitizer has its own idea */
	kill(getpid(), SIGSEGV);
	return 0;
}

TEST(child_reap__crash__signal_is_told)
{
	char how[80];
	struct child c = start(crash, NULL);
	assert_int_equal(child_reap(&c, how, sizeof(how)), 128 + SIGSEGV);
	assert_string_equal(how, "killed by signal 11 (SIGSEGV)");
}

static int report_twice(void *arg)
{
	struct job_progress p = { .step = "locate", .host = "" };
	child_report(arg, &p);
	p.step = "transfer";
	p.host = "dp01.example.net";
	p.figures.bytes_done = 5;
	p.figures.bytes_total = 9;
	child_report(arg, &p);
	return 0;
}

TEST(child_read__two_reports__the_last_one)
{
	char how[80];
	struct child c = start(report_twice, NULL);
	await(c.pid_fd);
	child_read(&c);
	assert_string_equal(c.run.step, "transfer");
	assert_string_equal(c.run.host, "dp01.example.net");
	assert_string_equal(c.run.name, "ABC00042.3");
	assert_string_equal(c.run.by, "service");
	assert_int_equal(c.run.bytes_done, 5);
	assert_int_equal(c.run.bytes_total, 9);
	assert_int_equal(c.error.code, ERR_OK);
	assert_int_equal(child_reap(&c, how, sizeof(how)), 0);
}

static int end_badly(void *arg)
{
	struct err e = { 0 };
	(void)arg;
	err_set(&e, ERR_BUSY, "dp01 is busy");
	e.retry_after_s = 120;
	return child_fail(&e);
}

TEST(child_fail__parent__has_the_whole_error)
{
	char how[80];
	struct child c = start(end_badly, NULL);
	assert_int_equal(child_reap(&c, how, sizeof(how)), err_exit(ERR_BUSY));
	assert_err(c.error.code, ERR_BUSY);
	assert_string_equal(c.error.text, "dp01 is busy");
	assert_int_equal(c.error.retry_after_s, 120);
}

static int report_very_often(void *arg)
{
	for (int i = 0; i < 10000; i++)
		child_report(arg, &(struct job_progress){ .step = "transfer",
							  .host = "" });
	return 3;
}

/* A parent that does not read stops nobody. */
TEST(child_report__pipe_is_full__does_not_wait)
{
	char how[80];
	struct child c = start(report_very_often, NULL);
	await(c.pid_fd);
	assert_int_equal(child_reap(&c, how, sizeof(how)), 3);
	assert_string_equal(c.run.step, "transfer");
}

TEST(child_stop__sigterm__seen_as_a_job_sees_it)
{
	char how[80];
	struct child c = start(wait_for_signal, NULL);
	await_step(&c, "ready");
	child_stop(&c, SIGTERM);
	assert_int_equal(c.stop_signal, SIGTERM);
	assert_int_equal(child_reap(&c, how, sizeof(how)), 143);
	assert_string_equal(how, "");
	c = start(wait_for_signal, NULL);
	await_step(&c, "ready");
	child_stop(&c, SIGINT);
	assert_int_equal(child_reap(&c, how, sizeof(how)), 130);
}

/* What the daemon has seen is none of the child's business, and what it blocks,
 * ignores or handles is not inherited. */
static int look_at_signals(void *arg)
{
	struct sigaction a;
	sigset_t blocked;
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	if (signals_check(NULL) != ERR_OK || signals_take_hup())
		return 1;
	if (sigismember(&blocked, SIGHUP) || sigismember(&blocked, SIGUSR1) ||
	    !sigismember(&blocked, SIGTERM) || !sigismember(&blocked, SIGINT))
		return 2;
	if (sigaction(SIGUSR1, NULL, &a) != 0 || a.sa_handler != SIG_DFL)
		return 3;
	if (sigaction(SIGPIPE, NULL, &a) != 0 || a.sa_handler != SIG_IGN)
		return 4;
	int death = 0;
	prctl(PR_GET_PDEATHSIG, &death);
	if (death != SIGTERM)
		return 5;
	/* The descriptor is its own: reading it takes nothing from the parent. */
	return signals_fd() == *(int *)arg ? 0 : 6;
}

/* In a process of its own: signals are for the whole of it. */
static int be_service(void)
{
	char how[80];
	struct err e = { 0 };
	struct child c;
	sigset_t usr1;
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	if (signals_open_service(&e) != ERR_OK)
		return 20;
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	signal(SIGUSR1, SIG_IGN);
	kill(getpid(), SIGHUP);
	kill(getpid(), SIGTERM);
	int fd = signals_fd();
	if (child_start(&c, &nothing, look_at_signals, &fd, NULL, 0, &e) != ERR_OK)
		return 21;
	int status = child_reap(&c, how, sizeof(how));
	if (status != 0)
		return status;
	/* and they are all still there for us */
	if (!signals_take_hup() || signals_take_hup())
		return 22;
	return signals_check(&e) == ERR_SIGTERM ? 0 : 23;
}

TEST(child_start__signals__as_after_signals_open)
{
	int status = 0;
	pid_t pid = fork();
	if (pid == 0)
		_exit(be_service());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static int is_open(void *arg)
{
	const int *fds = arg;
	struct stat st;
	int open_ones = 0;
	for (int i = 0; i < 2; i++) /* another one may have its number by now */
		if (fstat(fds[i], &st) == 0 && S_ISFIFO(st.st_mode))
			open_ones |= 1 << i;
	return open_ones;
}

TEST(child_start__close_fds__closed_in_the_child_alone)
{
	char how[80];
	struct child c;
	struct err e = { 0 };
	int fds[2];
	assert_int_equal(pipe(fds), 0);
	const int close_fds[] = { fds[0], -1 };
	assert_ok(child_start(&c, &nothing, is_open, fds, close_fds, 2, &e));
	assert_int_equal(child_reap(&c, how, sizeof(how)), 2);
	assert_int_equal(is_open(fds), 3);
	close(fds[0]);
	close(fds[1]);
}

/* The daemon is killed: its children end as by SIGTERM. */
TEST(child_start__parent_dies__sigterm)
{
	int pair[2], status = 0;
	assert_int_equal(pipe(pair), 0);
	pid_t helper = fork();
	if (helper == 0) {
		struct child c;
		struct err e = { 0 };
		if (child_start(&c, &nothing, wait_for_signal, NULL, pair, 1, &e) !=
		    ERR_OK)
			_exit(1);
		await_step(&c, "ready");
		if (write(pair[1], &c.pid, sizeof(c.pid)) != sizeof(c.pid))
			_exit(1);
		_exit(0);
	}
	pid_t grandchild = 0;
	char byte;
	close(pair[1]);
	assert_int_equal(read(pair[0], &grandchild, sizeof(grandchild)),
			 sizeof(grandchild));
	waitpid(helper, &status, 0);
	assert_int_equal(status, 0);
	/* It holds the other end of the pipe until it ends. */
	await(pair[0]);
	assert_int_equal(read(pair[0], &byte, 1), 0);
	close(pair[0]);
}
