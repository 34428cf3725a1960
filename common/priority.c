#include "common/priority.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/ioprio.h; the C library has no wrapper. */
#define IO_WHO_PROCESS 1
#define IO_CLASS_NONE 0 /* by the CPU priority */
#define IO_CLASS_BEST_EFFORT 2
#define IO_CLASS_IDLE 3
#define IO_VALUE(class, level) ((class) << 13 | (level))
#define IO_LEVEL_LAST 7

#define NICE_LAST 19

static bool set_io(int value)
{
	return syscall(SYS_ioprio_set, IO_WHO_PROCESS, 0, value) == 0;
}

static bool set_cpu_idle(void)
{
	struct sched_param none = {0};
	return sched_setscheduler(0, SCHED_IDLE, &none) == 0;
}

void priority_lower(struct priority_report *got)
{
	*got = (struct priority_report){ .is_cpu_idle = set_cpu_idle() };
	if (!got->is_cpu_idle)
		got->is_nice = setpriority(PRIO_PROCESS, 0, NICE_LAST) == 0;
	got->is_io_idle = set_io(IO_VALUE(IO_CLASS_IDLE, 0));
	if (!got->is_io_idle)
		got->is_io_last = set_io(IO_VALUE(IO_CLASS_BEST_EFFORT, IO_LEVEL_LAST));
}

/* The limit that counts is the soft one. */
static void use_whole_limit(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NICE, &r) != 0)
		return;
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_NICE, &r);
}

bool priority_restore(void)
{
	struct sched_param none = { 0 };
	use_whole_limit();
	if (sched_getscheduler(0) == SCHED_IDLE)
		sched_setscheduler(0, SCHED_OTHER, &none);
	if (getpriority(PRIO_PROCESS, 0) == NICE_LAST)
		setpriority(PRIO_PROCESS, 0, 0);
	set_io(IO_VALUE(IO_CLASS_NONE, 0));
	return !priority_is_low();
}

bool priority_is_low(void)
{
	errno = 0;
	return sched_getscheduler(0) == SCHED_IDLE ||
	       (getpriority(PRIO_PROCESS, 0) == NICE_LAST && errno == 0);
}
