#ifndef COMMON_PRIORITY_H
#define COMMON_PRIORITY_H

#include <stdbool.h>

/*
 * How much of the machine this process asks for while others want it, too. To lower
 * it is anybody's right, to go back not: an ordinary user may only where RLIMIT_NICE
 * allows nice 0 (sched(7); LimitNICE= in a unit). So whoever depends on the way back
 * uses a process of its own and ends it.
 */
struct priority_report {
	bool is_cpu_idle; /* SCHED_IDLE: runs when nobody else wants to */
	bool is_nice;     /* else nice 19 */
	bool is_io_idle;  /* idle class: reads and writes when nobody else does */
	bool is_io_last;  /* else the lowest of best effort */
};

/*
 * Lower this process, and what it starts from now on, as far as the kernel lets it:
 * idle CPU and I/O priority, or the next best where that is refused (a system call
 * filter, an old kernel). Never fails: *got says what was achieved.
 * Source: sched(7), ioprio_set(2).
 */
void priority_lower(struct priority_report *got);

/* As it is for everybody, as far as that is allowed. False: still low. */
bool priority_restore(void);

/* Has its CPU priority been lowered, by us or by whoever started us? */
bool priority_is_low(void);

#endif
