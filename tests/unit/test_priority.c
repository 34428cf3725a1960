#include "tests/unit/test.h"

#include "common/priority.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NO_RIGHT 77

/* What is lowered stays so: each in a process of its own. Status of `check`. */
static int in_child(int (*check)(void))
{
	int status = 0;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(check());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static int lower_and_look(void)
{
	struct priority_report got;
	priority_lower(&got);
	long io = syscall(SYS_ioprio_get, 1, 0);
	if (got.is_cpu_idle && sched_getscheduler(0) != SCHED_IDLE)
		return 1;
	if (got.is_io_idle && io >> 13 != 3)
		return 2;
	if (got.is_io_last && io != (2 << 13 | 7))
		return 3;
	/* one of each is always granted without a filter of system calls */
	if (!got.is_cpu_idle && !got.is_nice)
		return 4;
	return got.is_io_idle || got.is_io_last ? 0 : 5;
}

TEST(priority_lower__an_ordinary_process__is_what_it_reports)
{
	assert_int_equal(in_child(lower_and_look), 0);
}

static int lower_without_privilege(void)
{
	if (geteuid() == 0 && setuid(65534) != 0)
		return 10;
	return lower_and_look();
}

TEST(priority_lower__no_privilege__granted_as_well)
{
	assert_int_equal(in_child(lower_without_privilege), 0);
}

static int lower_and_ask(void)
{
	struct priority_report got;
	bool before = priority_is_low();
	priority_lower(&got);
	return !before && priority_is_low() ? 0 : 1;
}

TEST(priority_is_low__before_and_after__told)
{
	if (priority_is_low()) /* started by somebody who is low himself */
		skip();
	assert_int_equal(in_child(lower_and_ask), 0);
}

static int child_inherits(void)
{
	struct priority_report got;
	priority_lower(&got);
	int status = 0;
	pid_t pid = fork();
	if (pid == 0)
		_exit(priority_is_low() ? 0 : 1);
	return waitpid(pid, &status, 0) == pid ? WEXITSTATUS(status) : 2;
}

TEST(priority_lower__what_it_starts__is_low_as_well)
{
	assert_int_equal(in_child(child_inherits), 0);
}

static int there_and_back(void)
{
	struct priority_report got;
	priority_lower(&got);
	if (!priority_restore() || priority_is_low())
		return 1;
	return sched_getscheduler(0) == SCHED_OTHER ? 0 : 2;
}

TEST(priority_restore__root__as_before)
{
	if (geteuid() != 0)
		skip();
	assert_int_equal(in_child(there_and_back), 0);
}

static int back_within_the_limit(void)
{
	struct rlimit allowed = { 0, 20 };
	if (setrlimit(RLIMIT_NICE, &allowed) != 0)
		return NO_RIGHT;
	if (setuid(65534) != 0)
		return 10;
	return there_and_back();
}

TEST(priority_restore__an_ordinary_user_with_a_limit_of_nice_0__as_before)
{
	if (geteuid() != 0)
		skip();
	int status = in_child(back_within_the_limit);
	if (status == NO_RIGHT) /* a root without CAP_SYS_RESOURCE */
		skip();
	assert_int_equal(status, 0);
}

static int back_without_it(void)
{
	struct priority_report got;
	if (setuid(65534) != 0)
		return 10;
	priority_lower(&got);
	return priority_restore() ? 1 : 0;
}

TEST(priority_restore__an_ordinary_user__refused_and_told)
{
	struct rlimit now;
	if (geteuid() != 0 || getrlimit(RLIMIT_NICE, &now) != 0 ||
	    now.rlim_max >= 20)
		skip();
	assert_int_equal(in_child(back_without_it), 0);
}
