#include "agent/keeper/child.h"

#include "common/own.h"
#include "common/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* One write to the pipe: whole or not at all. */
struct told {
	struct status_run run;
	struct err error;
};
_Static_assert(sizeof(struct told) <= PIPE_BUF, "a record is one write");

/* Of the process that is a child itself. */
static int tell_fd = -1;
static struct told told;

static void tell(void)
{
	ssize_t n = write(tell_fd, &told, sizeof(told));
	(void)n; /* a full pipe: the next one says more */
}

void child_report(void *unused, const struct job_progress *p)
{
	(void)unused;
	if (tell_fd < 0)
		return;
	struct status_run *r = &told.run;
	snprintf(r->step, sizeof(r->step), "%s", p->step);
	snprintf(r->host, sizeof(r->host), "%s", p->host ? p->host : "");
	r->bytes_done = p->figures.bytes_done;
	r->bytes_total = p->figures.bytes_total;
	tell();
}

int child_fail(const struct err *e)
{
	told.error = *e;
	if (tell_fd >= 0)
		tell();
	return err_exit(e->code);
}

/* The child, to its end. */
static _Noreturn void be_child(pid_t parent, int (*work)(void *arg), void *arg)
{
	struct err e = { 0 };
	/* The service manager sends SIGTERM when the daemon dies; so do we. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(CLASS_TERMINATED);
	if (signals_after_fork(&e) != ERR_OK)
		_exit(child_fail(&e));
	int status = work(arg);
	fflush(NULL);
	/* Not exit(): what the parent has open is not ours to close in order. */
	_exit(status);
}

enum err_code child_start(struct child *c, const struct status_run *run,
			  int (*work)(void *arg), void *arg, const int *close_fds,
			  unsigned n, struct err *e)
{
	int pipes[2];
	pid_t parent = getpid();
	*c = CHILD_NONE;
	if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK) != 0)
		return err_set(e, ERR_INTERNAL, "start work: pipe: %m");
	autofd ours = pipes[0];
	autofd theirs = pipes[1];
	fflush(NULL); /* else both would write it */
	pid_t pid = fork();
	if (pid < 0)
		return err_set(e, errno == ENOMEM ? ERR_NOMEM : ERR_INTERNAL,
			       "start work: fork: %m");
	if (pid == 0) {
		for (unsigned i = 0; i < n; i++)
			if (close_fds[i] >= 0)
				close(close_fds[i]);
		close(ours);
		tell_fd = theirs;
		told = (struct told){ .run = *run };
		be_child(parent, work, arg);
	}
	c->pid_fd = pidfd_open(pid, 0);
	if (c->pid_fd < 0) {
		err_set(e, ERR_INTERNAL, "start work: pidfd: %m");
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return ERR_INTERNAL;
	}
	c->pid = pid;
	c->progress_fd = take_fd(&ours);
	c->run = *run;
	return ERR_OK;
}

void child_read(struct child *c)
{
	struct told got;
	while (c->progress_fd >= 0) {
		ssize_t n = read(c->progress_fd, &got, sizeof(got));
		if (n != sizeof(got)) {
			/* The end: nothing more to poll for. */
			if (n >= 0) {
				close(c->progress_fd);
				c->progress_fd = -1;
			}
			return;
		}
		c->run = got.run;
		c->error = got.error;
	}
}

void child_stop(struct child *c, int signal_number)
{
	if (c->pid <= 0)
		return;
	/* It is not reaped yet, so the number is still its own. */
	kill(c->pid, signal_number);
	c->stop_signal = signal_number;
}

int child_reap(struct child *c, char *how, size_t size)
{
	int status = 0;
	pid_t got;
	do
		got = waitpid(c->pid, &status, 0);
	while (got < 0 && errno == EINTR);
	child_read(c); /* its last words */
	own_close(&c->pid_fd);
	own_close(&c->progress_fd);
	c->pid = 0;
	c->pid_fd = c->progress_fd = -1;
	snprintf(how, size, "%s", "");
	if (got > 0 && WIFEXITED(status))
		return WEXITSTATUS(status);
	if (got < 0) {
		snprintf(how, size, "it was not ours to wait for");
		return CLASS_INTERNAL;
	}
	const char *name = sigabbrev_np(WTERMSIG(status));
	snprintf(how, size, "killed by signal %d (SIG%s)", WTERMSIG(status),
		 name ? name : "?");
	return 128 + WTERMSIG(status);
}
