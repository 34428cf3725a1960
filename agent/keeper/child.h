#ifndef AGENT_KEEPER_CHILD_H
#define AGENT_KEEPER_CHILD_H

#include "agent/keeper/report.h"
#include "agent/keeper/status.h"

#include <sys/types.h>

/*
 * Work of the service in a process of its own, forked from the daemon: what it
 * takes from memory goes back when it ends, what kills it kills only this work, and
 * the daemon goes on to answer. Nothing is handed over but what fork() copies; the
 * results are in the state folder, and what the daemon shows of it comes by a pipe.
 */
struct child {
	pid_t pid;       /* 0 = none */
	int pid_fd;      /* readable when it has ended; owned; -1 = none */
	int progress_fd; /* what child_report and child_fail tell; owned */
	struct status_run run; /* the last one read */
	struct err error;      /* what child_fail told; zero = nothing */
	int stop_signal; /* sent to it; 0 = none */
};
#define CHILD_NONE (struct child){ .pid_fd = -1, .progress_fd = -1 }

/*
 * Fork and run `work(arg)`, whose return is the exit status. The caller has called
 * signals_open(), so that no signal comes too early. In the child: signals
 * as after signals_open(), the default reaction to all others; death of the parent
 * is SIGTERM; close_fds (n of them) are closed. child_report() is a
 * job_request.on_progress that tells the parent. What stands in stdio buffers is
 * written before, by the parent, and at the end, by the child.
 */
enum err_code child_start(struct child *c, const struct status_run *run,
			  int (*work)(void *arg), void *arg, const int *close_fds,
			  unsigned n, struct err *e);
/* In the child. They never wait: a parent that is busy misses something. */
void child_report(void *unused, const struct job_progress *p);
/* The error it is about to end with; returns its exit status. */
int child_fail(const struct err *e);

/* Read what it told. */
void child_read(struct child *c);
void child_stop(struct child *c, int signal_number);
/* After pid_fd became readable, or to wait for it: exit status, or 128 + signal
 * with a word in `how` ("" = it ended by itself). Reads the rest of what it told. */
int child_reap(struct child *c, char *how, size_t size);

#endif
