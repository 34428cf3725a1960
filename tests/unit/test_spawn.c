#include "tests/unit/test.h"

#include "common/frame.h"
#include "common/own.h"
#include "common/spawn.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * The test program is its own child: with --role=... it does what the role
 * says before cmocka's main() begins.
 */

static void answer(const char *text)
{
	struct err e = { 0 };
	if (frame_send(SPAWN_ROLE_FD, text, strlen(text) + 1, -1, &e) != ERR_OK)
		_exit(3);
}

static bool is_null(int fd)
{
	struct stat st, null;
	return fstat(fd, &st) == 0 && stat("/dev/null", &null) == 0 &&
	       st.st_rdev == null.st_rdev && S_ISCHR(st.st_mode);
}

/* Everything that a role may rely on, as one line. */
static void describe(int argc, char **argv)
{
	char text[512];
	int fds = 0, death = 0, handled = 0, envs = 0;
	sigset_t blocked;
	DIR *d = opendir("/proc/self/fd");
	while (d && readdir(d))
		fds++;
	if (d)
		closedir(d);
	prctl(PR_GET_PDEATHSIG, &death);
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	for (int s = 1; s < NSIG; s++) {
		struct sigaction a;
		if (sigaction(s, NULL, &a) == 0 && a.sa_handler == SIG_IGN)
			handled++;
		if (sigismember(&blocked, s) == 1)
			handled++;
	}
	for (char **v = environ; *v; v++)
		envs += strncmp(*v, "ASAN_", 5) != 0 && strncmp(*v, "UBSAN_", 6) != 0;
	snprintf(text, sizeof(text),
		 "%s fds=%d null=%d%d death=%d signals=%d env=%d argc=%d", argv[0],
		 fds - 3 /* ".", "..", d */, is_null(0), is_null(1), death, handled,
		 envs, argc);
	answer(text);
}

__attribute__((constructor)) static void play_role(int argc, char **argv)
{
	const char *role = argc > 1 ? argv[1] : "";
	if (strcmp(role, "--role=describe") == 0) {
		describe(argc, argv);
		_exit(0);
	}
	if (strcmp(role, "--role=terminal") == 0) {
		char text[64];
		snprintf(text, sizeof(text), "tty=%d writes=%d leads=%d", isatty(2),
			 (fcntl(2, F_GETFL) & O_ACCMODE) == O_WRONLY,
			 getsid(0) == getpid());
		answer(text);
		_exit(0);
	}
	if (strcmp(role, "--role=status") == 0)
		_exit(7);
	if (strcmp(role, "--role=crash") == 0) {
		prctl(PR_SET_DUMPABLE, 0);
		signal(SIGSEGV, SIG_DFL); /* a sanitizer has its own idea */
		kill(getpid(), SIGSEGV);
	}
	if (strcmp(role, "--role=wait") == 0) {
		answer("ready");
		for (;;)
			pause();
	}
}

static void receive(int sock, char *text, size_t size)
{
	size_t len = 0;
	int fd = -1;
	struct err e = { 0 };
	assert_ok(frame_receive(sock, 1, text, size, &len, &fd, &e));
	assert_true(len > 0 && text[len - 1] == '\0');
}

static void assert_end(const char *role, const char *expected)
{
	autofd sock = -1;
	char byte[16], why[128];
	size_t len;
	int fd;
	struct err e = { 0 };
	pid_t pid = spawn_role(role, &sock, &e);
	assert_true(pid > 0);
	assert_err(frame_receive(sock, 1, byte, sizeof(byte), &len, &fd, &e),
		   ERR_NET_DIED);
	spawn_reap(pid, why, sizeof(why));
	assert_string_equal(why, expected);
	assert_int_equal(waitpid(pid, NULL, 0), -1);
}

TEST(spawn_role__child__finds_what_the_header_says)
{
	static const char expected[] =
		"agent fds=4 null=11 death=9 signals=0 env=0 argc=2";
	autofd sock = -1;
	char text[512], why[128];
	struct err e = { 0 };
	sigset_t usr1;
	/* What must not be inherited. */
	int leak = dup(2), high = fcntl(2, F_DUPFD, 500);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	signal(SIGPIPE, SIG_IGN);
	setenv("SECRET", "x", 1);
	pid_t pid = spawn_role("describe", &sock, &e);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_UNBLOCK, &usr1, NULL);
	unsetenv("SECRET");
	close(leak);
	close(high);
	assert_true(pid > 0);
	assert_true(fcntl(sock, F_GETFD) & FD_CLOEXEC);
	receive(sock, text, sizeof(text));
	assert_string_equal(text, expected);
	spawn_reap(pid, why, sizeof(why));
}

/* The parent's 0..4 are closed: its own descriptors take their places. */
TEST(spawn_role__low_descriptors_closed__same)
{
	pid_t helper = fork();
	if (helper == 0) {
		int sock = -1, fd;
		char text[512] = "";
		size_t len;
		struct err e = { 0 };
		for (int i = 0; i < 64; i++)
			close(i);
		pid_t pid = spawn_role("describe", &sock, &e);
		if (pid < 0)
			_exit(1);
		if (frame_receive(sock, 1, text, sizeof(text), &len, &fd, &e) != ERR_OK)
			_exit(2);
		waitpid(pid, NULL, 0);
		_exit(strstr(text, "fds=4 null=11 ") ? 0 : 3);
	}
	int status = 0;
	assert_int_equal(waitpid(helper, &status, 0), helper);
	assert_int_equal(status, 0);
}

/* Another user, who reads from the network: it must neither hear what is typed at our
 * terminal nor type there itself. */
TEST(spawn_role__stderr_is_a_terminal__only_written_to)
{
	autofd main_side = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	autofd sock = -1;
	char text[512], why[128];
	struct err e = { 0 };
	if (main_side < 0 || grantpt(main_side) != 0 || unlockpt(main_side) != 0)
		skip();
	autofd terminal = open(ptsname(main_side), O_RDWR | O_NOCTTY | O_CLOEXEC);
	autofd before = fcntl(2, F_DUPFD_CLOEXEC, 10);
	assert_true(terminal >= 0 && before >= 0);
	dup2(terminal, 2);
	pid_t pid = spawn_role("terminal", &sock, &e);
	dup2(before, 2);
	assert_true(pid > 0);
	receive(sock, text, sizeof(text));
	spawn_reap(pid, why, sizeof(why));
	assert_string_equal(text, "tty=1 writes=1 leads=1");
}

TEST(spawn_role__role_name_too_long__internal)
{
	char role[100];
	int sock = -1;
	struct err e = { 0 };
	memset(role, 'x', sizeof(role) - 1);
	role[sizeof(role) - 1] = '\0';
	assert_int_equal(spawn_role(role, &sock, &e), -1);
	assert_err(e.code, ERR_INTERNAL);
	assert_int_equal(sock, -1);
}

TEST(spawn_reap__exit__status_is_told)
{
	assert_end("status", "ended with status 7");
}

TEST(spawn_reap__crash__signal_is_told)
{
	assert_end("crash", "was killed by signal 11 (SIGSEGV)");
}

TEST(spawn_reap__still_running__stopped)
{
	autofd sock = -1;
	char text[64], why[128];
	struct err e = { 0 };
	pid_t pid = spawn_role("wait", &sock, &e);
	assert_true(pid > 0);
	receive(sock, text, sizeof(text));
	spawn_reap(pid, why, sizeof(why));
	assert_string_equal(why, "was stopped");
}

TEST(spawn_reap__no_child__says_so)
{
	char why[128];
	spawn_reap(-1, why, sizeof(why));
	assert_string_equal(why, "never ran");
	spawn_reap(getpid(), why, sizeof(why));
	assert_string_equal(why, "was not ours to wait for");
}

/* The keeper is killed: its net must not outlive it. */
TEST(spawn_role__parent_dies__child_dies)
{
	int pair[2];
	char byte;
	assert_int_equal(pipe(pair), 0);
	pid_t helper = fork();
	if (helper == 0) {
		int sock = -1, fd;
		char text[64];
		size_t len;
		struct err e = { 0 };
		pid_t pid = spawn_role("wait", &sock, &e);
		if (pid < 0 || frame_receive(sock, 1, text, sizeof(text), &len, &fd,
					     &e) != ERR_OK)
			_exit(1);
		if (write(pair[1], &pid, sizeof(pid)) != sizeof(pid))
			_exit(1);
		_exit(0);
	}
	pid_t grandchild = 0;
	close(pair[1]);
	assert_int_equal(read(pair[0], &grandchild, sizeof(grandchild)),
			 sizeof(grandchild));
	waitpid(helper, NULL, 0);
	/* The child holds no end of the pipe; a pidfd tells when it ended. */
	autofd ended = (int)syscall(SYS_pidfd_open, grandchild, 0);
	struct pollfd p = { .fd = ended, .events = POLLIN };
	if (ended >= 0)
		assert_int_equal(poll(&p, 1, 10000), 1);
	else
		assert_int_equal(errno, ESRCH);
	assert_int_equal(read(pair[0], &byte, 1), 0);
	close(pair[0]);
}
