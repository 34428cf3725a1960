#include "common/spawn.h"

#include "common/own.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* While the child arranges 0..3, what it still needs stays above them. */
#define OUT_OF_THE_WAY 10
#define EXE_FD (SPAWN_ROLE_FD + 1) /* closes itself at exec */
#define STATUS_NOT_RUN 127         /* as shells have it */

#if defined(__SANITIZE_ADDRESS__)
#define KEEP_SANITIZER_OPTIONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KEEP_SANITIZER_OPTIONS 1
#endif
#endif

/* What the child needs from before the fork. */
struct child {
	pid_t parent;
	int sock, exe;   /* borrowed */
	bool has_stderr; /* else 2 may be one of the descriptors made here */
	char option[64];
	char *argv[3];
	char *envp[3];
};

/* Fill envp[0..3) with what sanitizers need, which is nothing elsewhere. */
static void choose_environment(char *envp[3])
{
	size_t n = 0;
#ifdef KEEP_SANITIZER_OPTIONS
	for (char **v = environ; v && *v && n < 2; v++)
		if (strncmp(*v, "ASAN_OPTIONS=", 13) == 0 ||
		    strncmp(*v, "UBSAN_OPTIONS=", 14) == 0)
			envp[n++] = *v;
#endif
	envp[n] = NULL;
}

/*
 * Our own program: by descriptor, so that it is the very file that runs now
 * even when it was replaced (an update) or its path is out of reach.
 */
static int open_self(void)
{
	int fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	const char *path = (const char *)getauxval(AT_EXECFN); /* no /proc */
	return path ? open(path, O_PATH | O_CLOEXEC) : -1;
}

static void reset_signals(void)
{
	sigset_t none;
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL); /* fails for KILL, STOP: as it should */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

int spawn_write_only(int fd)
{
	char path[32];
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || (flags & O_ACCMODE) != O_RDWR || !isatty(fd))
		return fcntl(fd, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
}

/* 2 stays, for the words of whoever runs us; where a terminal cannot be opened
 * again (it is another's), as it is. */
static int keep_stderr(void)
{
	int opened = spawn_write_only(2);
	return opened >= 0 ? dup2(opened, 2) : fcntl(2, F_SETFD, 0);
}

/* Leave 0, 1 = /dev/null, 2 = for writing, 3 = sock, 4 = exe, nothing else. */
static int arrange_descriptors(const struct child *c)
{
	int sock = fcntl(c->sock, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
	int exe = fcntl(c->exe, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (sock < 0 || exe < 0 || null < 0)
		return -1;
	null = fcntl(null, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
		return -1;
	/* An absent 2 would become the next file that somebody opens. */
	if ((c->has_stderr ? keep_stderr() : dup2(null, 2)) < 0)
		return -1;
	if (dup2(sock, SPAWN_ROLE_FD) < 0 || dup3(exe, EXE_FD, O_CLOEXEC) < 0)
		return -1;
	return close_range(EXE_FD + 1, ~0U, 0);
}

/* The child, to its end. */
static _Noreturn void become(const struct child *c)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != c->parent)
		_exit(STATUS_NOT_RUN); /* it died before we asked */
	if (setsid() < 0)
		_exit(STATUS_NOT_RUN);
	reset_signals();
	if (arrange_descriptors(c) == 0)
		execveat(EXE_FD, "", c->argv, c->envp, AT_EMPTY_PATH);
	_exit(STATUS_NOT_RUN);
}

/*
 * The service is not root, so it cannot make the role another user. Its manager can:
 * cloud-dp-ROLE.socket starts one for each connection (Accept=yes), with our end's
 * peer as descriptor 3. Only the kernel's word counts that root listens there. Who
 * is root starts the role itself, as does everybody where there is no such socket.
 */
static int ask_manager(const char *role)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct ucred who = { .uid = (uid_t)-1 };
	socklen_t size = sizeof(who);
	if (geteuid() == 0)
		return -1;
	snprintf(to.sun_path, sizeof(to.sun_path), "/run/cloud-dp-%s.socket", role);
	autofd s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (s < 0 || connect(s, (const struct sockaddr *)&to, sizeof(to)) != 0 ||
	    getsockopt(s, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0 || who.uid != 0)
		return -1;
	return take_fd(&s);
}

pid_t spawn_role(const char *role, int *sock, struct err *e)
{
	char name[] = "agent";
	struct child c = { .parent = getpid(),
			   .has_stderr = fcntl(2, F_GETFD) >= 0 };
	int pair[2];
	int n = snprintf(c.option, sizeof(c.option), "--role=%s", role);
	if (n < 0 || (size_t)n >= sizeof(c.option)) {
		err_set(e, ERR_INTERNAL, "start role: its name is too long");
		return -1;
	}
	*sock = ask_manager(role);
	if (*sock >= 0)
		return 0;
	c.argv[0] = name;
	c.argv[1] = c.option;
	choose_environment(c.envp);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
		err_set(e, ERR_INTERNAL, "start role %s: socket pair: %m", role);
		return -1;
	}
	autofd ours = pair[0];
	autofd theirs = pair[1];
	autofd exe = open_self();
	if (exe < 0) {
		err_set(e, ERR_INTERNAL, "start role %s: open this program: %m",
			role);
		return -1;
	}
	c.sock = theirs;
	c.exe = exe;
	pid_t pid = fork();
	if (pid < 0) {
		err_set(e, ERR_INTERNAL, "start role %s: fork: %m", role);
		return -1;
	}
	if (pid == 0)
		become(&c);
	*sock = take_fd(&ours);
	return pid;
}

static pid_t wait_for(pid_t pid, int *status, int options)
{
	pid_t got;
	do
		got = waitpid(pid, status, options);
	while (got < 0 && errno == EINTR);
	return got;
}

void spawn_reap(pid_t pid, char *out, size_t size)
{
	int status = 0;
	bool is_killed = false;
	if (pid <= 0) {
		snprintf(out, size, pid == 0 ? "as a unit of its own, see its log" :
					       "never ran");
		return;
	}
	pid_t got = wait_for(pid, &status, WNOHANG);
	if (got == 0) {
		/* One that is just dying of something else keeps its status. */
		is_killed = kill(pid, SIGKILL) == 0;
		got = wait_for(pid, &status, 0);
	}
	if (got < 0)
		snprintf(out, size, "was not ours to wait for");
	else if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_NOT_RUN)
		snprintf(out, size, "could not be run");
	else if (WIFEXITED(status))
		snprintf(out, size, "ended with status %d", WEXITSTATUS(status));
	else if (is_killed && WTERMSIG(status) == SIGKILL)
		snprintf(out, size, "was stopped");
	else
		snprintf(out, size, "was killed by signal %d (SIG%s)",
			 WTERMSIG(status), sigabbrev_np(WTERMSIG(status))
			 ? sigabbrev_np(WTERMSIG(status)) : "?");
}
