/*
 * Is the sandbox of the net role closed? Each try runs in a fresh child that
 * has entered it, on things that the rights of files would allow; each must be
 * refused. With --control nobody enters the sandbox, and each should succeed:
 * that shows that the tries are real ones.
 *
 * Run as root, as an ordinary user, and as one with capabilities: tests/jail/as-user.
 */
#include "common/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif

/* What the child finds: descriptors that it inherits, and its parent. */
static struct {
	pid_t parent;
	char folder[64];
	int folder_fd;   /* anybody may write into it */
	int read_only_fd;
	int writable_fd; /* like a standard error that goes into a file */
	int ring_fd;     /* executable bytes in a memfd as the ring is made */
	bool ring_is_noexec;
	char secret[8];
	struct sockaddr_un listener; /* abstract */
	socklen_t listener_len;
	bool is_root;
	uid_t uid;            /* of before */
	bool is_control;
	int abi;         /* of the kernel, whatever the sandbox says */
} jail = { .secret = "secret!" };

static bool opens(const char *name, int flags)
{
	int fd = openat(jail.folder_fd, name, flags, 0666);
	return fd >= 0;
}

static bool try_read_passwd(void)
{
	return open("/etc/passwd", O_RDONLY) >= 0;
}

static bool try_read_file(void)
{
	return opens("victim", O_RDONLY);
}

static bool try_write_file(void)
{
	return opens("victim", O_WRONLY);
}

static bool try_append_file(void)
{
	return opens("victim", O_WRONLY | O_APPEND);
}

static bool try_create_file(void)
{
	return opens("new", O_WRONLY | O_CREAT);
}

static bool try_create_tmp(void)
{
	char name[] = "/tmp/jail-child-XXXXXX";
	int fd = mkstemp(name);
	if (fd >= 0)
		unlink(name);
	return fd >= 0;
}

static bool try_create_cwd(void)
{
	return open("new-cwd", O_WRONLY | O_CREAT, 0600) >= 0;
}

static bool try_unnamed_file(void)
{
	return opens(".", O_WRONLY | O_TMPFILE);
}

static bool try_read_folder(void)
{
	return opens(".", O_RDONLY | O_DIRECTORY);
}

static bool try_read_root(void)
{
	return open("/", O_RDONLY | O_DIRECTORY) >= 0;
}

static bool try_truncate(void)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/victim", jail.folder);
	return fchdir(jail.folder_fd) == 0 &&
	       (truncate("victim", 0) == 0 || truncate(path, 0) == 0);
}

static bool try_mkdir(void)
{
	return mkdirat(jail.folder_fd, "new-folder", 0700) == 0;
}

static bool try_rmdir(void)
{
	return unlinkat(jail.folder_fd, "sub", AT_REMOVEDIR) == 0;
}

static bool try_unlink(void)
{
	return unlinkat(jail.folder_fd, "doomed", 0) == 0;
}

static bool try_rename(void)
{
	return renameat(jail.folder_fd, "victim", jail.folder_fd, "renamed") == 0 &&
	       renameat(jail.folder_fd, "renamed", jail.folder_fd, "victim") == 0;
}

static bool try_rename_across(void)
{
	return renameat(jail.folder_fd, "moved", jail.folder_fd, "other/moved") == 0;
}

static bool try_symlink(void)
{
	return symlinkat("/etc", jail.folder_fd, "symlink") == 0;
}

static bool try_link(void)
{
	return linkat(jail.folder_fd, "victim", jail.folder_fd, "link", 0) == 0;
}

static bool try_mkfifo(void)
{
	return mkfifoat(jail.folder_fd, "fifo", 0600) == 0;
}

/* The one device that needs no privilege (overlayfs uses it as a mark). */
static bool try_mknod(void)
{
	return mknodat(jail.folder_fd, "device", S_IFCHR | 0600, 0) == 0;
}

static bool try_bind_unix_path(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "socket" };
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	return fchdir(jail.folder_fd) == 0 &&
	       bind(s, (struct sockaddr *)&a, sizeof(a)) == 0;
}

static bool try_open_null(void)
{
	return open("/dev/null", O_RDWR) >= 0;
}

static bool try_write_read_only(void)
{
	if (write(jail.read_only_fd, "x", 1) == 1)
		return true;
	return mmap(NULL, 1, PROT_WRITE, MAP_SHARED, jail.read_only_fd, 0) !=
	       MAP_FAILED;
}

static bool try_reopen_writable(void)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", jail.read_only_fd);
	return open(path, O_RDWR) >= 0;
}

static bool try_write_inherited(void)
{
	return write(jail.writable_fd, "x", 1) == 1;
}

static bool try_exec(void)
{
	char *argv[] = { (char[]){ "true" }, NULL };
	execve("/bin/true", argv, NULL);
	return false; /* success does not come back: nobody answers */
}

static bool try_exec_descriptor(void)
{
	char *argv[] = { (char[]){ "true" }, NULL };
	syscall(SYS_execveat, jail.folder_fd, "program", argv, NULL, 0);
	return false;
}

static bool try_exec_memfd(void)
{
	char *argv[] = { (char[]){ "true" }, NULL };
	static const char script[] = "#!/bin/true\n";
	int fd = memfd_create("x", 0);
	if (write(fd, script, sizeof(script) - 1) > 0)
		syscall(SYS_execveat, fd, "", argv, NULL, AT_EMPTY_PATH);
	return false;
}

static bool try_write_memfd(void)
{
	int fd = memfd_create("x", 0);
	return write(fd, "x", 1) == 1 || ftruncate(fd, 4096) == 0;
}

static bool try_exec_ring(void)
{
	char *argv[] = { (char[]){ "true" }, NULL };
	syscall(SYS_execveat, jail.ring_fd, "", argv, NULL, AT_EMPTY_PATH);
	fchmod(jail.ring_fd, 0777);
	syscall(SYS_execveat, jail.ring_fd, "", argv, NULL, AT_EMPTY_PATH);
	return false;
}

static bool try_fork(void)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	return pid > 0;
}

static bool try_thread(void)
{
	static char stack[16384] __attribute__((aligned(16)));
	long rc = syscall(SYS_clone, SIGCHLD | CLONE_VFORK, stack + 8192, 0, 0, 0);
	if (rc == 0)
		_exit(0);
	return rc > 0;
}

static bool try_ptrace(void)
{
	return ptrace(PTRACE_SEIZE, jail.parent, 0, 0) == 0;
}

static bool try_kill_0(void)
{
	return kill(jail.parent, 0) == 0;
}

static bool try_kill_cont(void)
{
	return kill(jail.parent, SIGCONT) == 0;
}

static bool try_proc_mem(void)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/mem", jail.parent);
	return open(path, O_RDONLY) >= 0;
}

static bool try_read_memory(void)
{
	char got[sizeof(jail.secret)];
	struct iovec to = { got, sizeof(got) };
	struct iovec from = { jail.secret, sizeof(jail.secret) };
	return process_vm_readv(jail.parent, &to, 1, &from, 1, 0) > 0;
}

static bool try_take_descriptor(void)
{
	long pidfd = syscall(SYS_pidfd_open, jail.parent, 0);
	return pidfd >= 0 && syscall(SYS_pidfd_getfd, pidfd, 0, 0) >= 0;
}

static bool try_setuid(void)
{
	return setuid(0) == 0;
}

static bool try_setresuid(void)
{
	return setresuid((uid_t)-1, 0, (uid_t)-1) == 0;
}

static bool try_setgid(void)
{
	return setgid(0) == 0 || setresgid(0, 0, 0) == 0;
}

static bool try_setgroups(void)
{
	gid_t root = 0;
	return setgroups(1, &root) == 0;
}

static bool try_bind_tcp(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int s = socket(AF_INET, SOCK_STREAM, 0);
	return bind(s, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(s, 1) == 0;
}

static bool try_mount(void)
{
	return mount("none", "/", "tmpfs", 0, NULL) == 0 ||
	       mount(jail.folder, jail.folder, NULL, MS_BIND, NULL) == 0;
}

static bool try_chroot(void)
{
	return chroot("/") == 0;
}

static bool try_user_namespace(void)
{
	return unshare(CLONE_NEWUSER) == 0;
}

static bool try_other_namespaces(void)
{
	return unshare(CLONE_NEWNS) == 0 || unshare(CLONE_NEWNET) == 0;
}

static bool try_abstract_socket(void)
{
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	return connect(s, (struct sockaddr *)&jail.listener,
		       jail.listener_len) == 0;
}

static bool try_raise_limits(void)
{
	static const __rlimit_resource_t limits[] = {
		RLIMIT_NPROC, RLIMIT_FSIZE, RLIMIT_CORE, RLIMIT_NOFILE,
#ifndef __SANITIZE_ADDRESS__
		RLIMIT_DATA,
#endif
	};
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct rlimit r;
		getrlimit(limits[i], &r);
		if (r.rlim_max == RLIM_INFINITY)
			return true; /* there is no limit at all */
		r.rlim_cur = ++r.rlim_max;
		if (setrlimit(limits[i], &r) == 0)
			return true;
	}
	return false;
}

static bool try_many_descriptors(void)
{
	return dup2(jail.folder_fd, 300) >= 0;
}

static bool try_much_memory(void)
{
	return mmap(NULL, SANDBOX_DATA_MAX + (1u << 20), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

static bool try_core_dump(void)
{
	struct rlimit all = { 1u << 20, 1u << 20 };
	setrlimit(RLIMIT_CORE, &all);
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	if (fchdir(jail.folder_fd) == 0)
		signal(SIGABRT, SIG_DFL);
	kill(getpid(), SIGABRT); /* the parent looks for a core */
	return true;
}

/* These succeed when something was not given up. */

static bool try_keep_privileges(void)
{
	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1;
}

static bool try_be_dumpable(void)
{
	return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0;
}

static bool try_outlive_parent(void)
{
	int s = 0;
	prctl(PR_GET_PDEATHSIG, &s, 0, 0, 0);
	return s != SIGKILL;
}

static bool try_be_root(void)
{
	return getuid() == 0 || geteuid() == 0 || getgid() == 0 ||
	       getegid() == 0;
}

static bool try_keep_groups(void)
{
	return getgroups(0, NULL) != 0;
}

static bool try_keep_capability(void)
{
	/* What a service manager would give; RAISE needs it permitted. */
	static const unsigned long given[] = { CAP_NET_BIND_SERVICE, CAP_SETUID,
					       CAP_SETGID };
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct have[2] = { { 0 } };
	for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++)
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, given[i], 0, 0) ==
			    0 ||
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, given[i], 0, 0) ==
			    1)
			return true;
	if (syscall(SYS_capget, &header, have) != 0)
		return true;
	return have[0].permitted || have[0].effective || have[0].inheritable ||
	       have[1].permitted || have[1].effective || have[1].inheritable ||
	       chroot("/") == 0;
}

static bool try_keep_user(void)
{
	uid_t ru, eu, su;
	return getresuid(&ru, &eu, &su) != 0 || ru == jail.uid || eu == jail.uid ||
	       su == jail.uid || setresuid((uid_t)-1, jail.uid, (uid_t)-1) == 0;
}

static bool try_keep_bounding_set(void)
{
	for (unsigned long c = 0;; c++) {
		int is_in = prctl(PR_CAPBSET_READ, c, 0, 0, 0);
		if (is_in != 0)
			return is_in > 0;
	}
}

enum needs {
	NEEDS_NOTHING = 0,
	NEEDS_ROOT = 1,    /* says nothing where we never were root */
	NEEDS_NOEXEC = 2,  /* memfd that can be sealed against execution */
	NEEDS_NO_ASAN = 4,
};

static const struct attempt {
	const char *name;
	bool (*run)(void); /* did it succeed? */
	int abi;           /* of Landlock that refuses it; 0 = all kernels do */
	int needs;         /* enum needs */
} attempts[] = {
	{ "read-passwd", try_read_passwd, 1, 0 },
	{ "read-file", try_read_file, 1, 0 },
	{ "write-file", try_write_file, 1, 0 },
	{ "append-file", try_append_file, 1, 0 },
	{ "create-file", try_create_file, 1, 0 },
	{ "create-in-tmp", try_create_tmp, 1, 0 },
	{ "create-in-cwd", try_create_cwd, 1, 0 },
	{ "unnamed-file", try_unnamed_file, 1, 0 },
	{ "read-folder", try_read_folder, 1, 0 },
	{ "read-root", try_read_root, 1, 0 },
	{ "truncate", try_truncate, 3, 0 },
	{ "mkdir", try_mkdir, 1, 0 },
	{ "rmdir", try_rmdir, 1, 0 },
	{ "unlink", try_unlink, 1, 0 },
	{ "rename", try_rename, 1, 0 },
	{ "rename-across", try_rename_across, 1, 0 },
	{ "symlink", try_symlink, 1, 0 },
	{ "link", try_link, 1, 0 },
	{ "mkfifo", try_mkfifo, 1, 0 },
	{ "mknod", try_mknod, 1, 0 },
	{ "bind-unix-path", try_bind_unix_path, 1, 0 },
	{ "open-dev-null", try_open_null, 1, 0 },
	{ "write-read-only", try_write_read_only, 0, 0 },
	{ "reopen-writable", try_reopen_writable, 1, 0 },
	{ "write-inherited", try_write_inherited, 0, 0 },
	{ "exec", try_exec, 1, 0 },
	{ "exec-descriptor", try_exec_descriptor, 1, 0 },
	{ "exec-memfd", try_exec_memfd, 0, 0 },
	{ "write-memfd", try_write_memfd, 0, 0 },
	{ "exec-ring", try_exec_ring, 0, NEEDS_NOEXEC },
	{ "fork", try_fork, 0, 0 },
	{ "clone", try_thread, 0, 0 },
	{ "ptrace-parent", try_ptrace, 1, 0 },
	{ "kill-parent-0", try_kill_0, 6, 0 },
	{ "kill-parent-cont", try_kill_cont, 6, 0 },
	{ "open-parent-mem", try_proc_mem, 1, 0 },
	{ "read-parent-memory", try_read_memory, 1, 0 },
	{ "take-parent-descriptor", try_take_descriptor, 1, 0 },
	{ "setuid", try_setuid, 0, 0 },
	{ "setresuid", try_setresuid, 0, 0 },
	{ "setgid", try_setgid, 0, 0 },
	{ "setgroups", try_setgroups, 0, 0 },
	{ "bind-tcp", try_bind_tcp, 4, 0 },
	{ "mount", try_mount, 0, 0 },
	{ "chroot", try_chroot, 0, 0 },
	{ "user-namespace", try_user_namespace, 0, NEEDS_ROOT },
	{ "other-namespaces", try_other_namespaces, 0, 0 },
	{ "abstract-socket", try_abstract_socket, 6, 0 },
	{ "raise-limits", try_raise_limits, 0, 0 },
	{ "many-descriptors", try_many_descriptors, 0, 0 },
	{ "much-memory", try_much_memory, 0, NEEDS_NO_ASAN },
	{ "core-dump", try_core_dump, 0, 0 },
	{ "keep-privileges", try_keep_privileges, 0, 0 },
	{ "be-dumpable", try_be_dumpable, 0, 0 },
	{ "outlive-parent", try_outlive_parent, 0, 0 },
	{ "be-root", try_be_root, 0, NEEDS_ROOT },
	{ "keep-groups", try_keep_groups, 0, NEEDS_ROOT },
	{ "keep-user", try_keep_user, 0, NEEDS_ROOT },
	{ "keep-bounding-set", try_keep_bounding_set, 0, NEEDS_ROOT },
	{ "keep-capability", try_keep_capability, 0, 0 },
};

/* What a child tells: 'S' = the sandbox failed, else whether the try did. */
struct answer {
	char kind; /* 'E' entered, then 'R' refused or 'D' done */
	char text[200];
};

static _Noreturn void be_child(const struct attempt *a, int to)
{
	struct answer say = { .kind = 'E' };
	if (!jail.is_control) {
		struct sandbox_report got;
		struct err e = { 0 };
		if (sandbox_enter_net(&got, &e) != ERR_OK) {
			say.kind = 'S';
			snprintf(say.text, sizeof(say.text), "%s", e.text);
		}
		if (say.kind == 'E' && (got.landlock_abi != jail.abi ||
					got.user_changed != jail.is_root ||
					got.uid != getuid())) {
			say.kind = 'S';
			snprintf(say.text, sizeof(say.text), "a wrong report");
		}
	}
	if (write(to, &say, sizeof(say)) != sizeof(say) || say.kind == 'S')
		_exit(1);
	errno = 0;
	say.kind = a->run() ? 'D' : 'R';
	snprintf(say.text, sizeof(say.text), "%s", strerror(errno));
	if (write(to, &say, sizeof(say)) != sizeof(say))
		_exit(1);
	_exit(0);
}

/* Run one try; *last is the last that its child said. Did it succeed? */
static bool run(const struct attempt *a, struct answer *last)
{
	int pipes[2], status = 0;
	bool has_answer = false;
	*last = (struct answer){ 0 };
	if (pipe2(pipes, O_CLOEXEC) != 0)
		abort();
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0)
		be_child(a, pipes[1]);
	close(pipes[1]);
	while (read(pipes[0], last, sizeof(*last)) == sizeof(*last))
		has_answer = last->kind == 'R' || last->kind == 'D';
	close(pipes[0]);
	waitpid(pid, &status, 0);
	if (a->run == try_core_dump)
		return !WIFSIGNALED(status) || WCOREDUMP(status);
	/* No answer, but entered: it became another program. */
	return !has_answer || last->kind == 'D';
}

static const char *reason_to_skip(const struct attempt *a, char *text, size_t size)
{
	if (a->needs & NEEDS_ROOT && !jail.is_root)
		return "not run as root";
	if (a->needs & NEEDS_NOEXEC && !jail.ring_is_noexec)
		return "the kernel has no MFD_NOEXEC_SEAL (6.3)";
#if defined(__SANITIZE_ADDRESS__)
	if (a->needs & NEEDS_NO_ASAN)
		return "built with a sanitizer";
#endif
	if (a->abi <= jail.abi)
		return NULL;
	snprintf(text, size, "needs Landlock ABI %d, the kernel has %d", a->abi,
		 jail.abi);
	return text;
}

/* --- setting up ---------------------------------------------------------- */

static int make_file(const char *name)
{
	int fd = openat(jail.folder_fd, name, O_RDWR | O_CREAT | O_TRUNC, 0777);
	if (fd < 0 || fchmod(fd, 0777) != 0 || write(fd, "abc", 3) != 3)
		abort();
	return fd;
}

static void make_folder(const char *name)
{
	if (mkdirat(jail.folder_fd, name, 0777) != 0 ||
	    fchmodat(jail.folder_fd, name, 0777, 0) != 0)
		abort();
}

/* Copy /bin/true into `to`. */
static void copy_program(int to)
{
	char bytes[65536];
	ssize_t n;
	int from = open("/bin/true", O_RDONLY | O_CLOEXEC);
	while ((n = read(from, bytes, sizeof(bytes))) > 0)
		if (write(to, bytes, (size_t)n) != n)
			abort();
	close(from);
}

static void make_ring(void)
{
	jail.ring_fd = memfd_create("ring", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
	jail.ring_is_noexec = jail.ring_fd >= 0;
	if (!jail.ring_is_noexec || jail.is_control)
		jail.ring_fd = memfd_create("ring", MFD_CLOEXEC);
	copy_program(jail.ring_fd);
}

static void make_listener(void)
{
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	jail.listener.sun_family = AF_UNIX;
	snprintf(jail.listener.sun_path + 1, 60, "agent-jail-%d", jail.parent);
	jail.listener_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
					strlen(jail.listener.sun_path + 1));
	if (bind(s, (struct sockaddr *)&jail.listener, jail.listener_len) != 0 ||
	    listen(s, 4) != 0)
		abort();
}

static void set_up(void)
{
	jail.parent = getpid();
	jail.uid = getuid();
	jail.is_root = geteuid() == 0;
	jail.abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0,
				LANDLOCK_CREATE_RULESET_VERSION);
	if (jail.abi < 0)
		jail.abi = 0;
	if (jail.is_root && setgroups(1, &(gid_t){ 1 }) != 0)
		abort(); /* a group that must be gone later */
	snprintf(jail.folder, sizeof(jail.folder), "/tmp/agent-jail-XXXXXX");
	if (mkdtemp(jail.folder) == NULL || chmod(jail.folder, 0777) != 0 ||
	    chdir(jail.folder) != 0)
		abort();
	jail.folder_fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	make_folder("sub");
	make_folder("other");
	close(make_file("doomed"));
	close(make_file("moved"));
	jail.writable_fd = make_file("victim");
	jail.read_only_fd = openat(jail.folder_fd, "victim", O_RDONLY | O_CLOEXEC);
	int program = make_file("program");
	if (ftruncate(program, 0) != 0 || lseek(program, 0, SEEK_SET) != 0)
		abort();
	copy_program(program);
	close(program);
	make_ring();
	make_listener();
}

static void clean_up(void)
{
	static const char *const names[] = {
		"victim", "doomed", "moved", "other/moved", "program", "new",
		"new-cwd", "renamed", "symlink", "link", "fifo", "device", "socket",
		"core",
	};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlinkat(jail.folder_fd, names[i], 0);
	unlinkat(jail.folder_fd, "sub", AT_REMOVEDIR);
	unlinkat(jail.folder_fd, "other", AT_REMOVEDIR);
	unlinkat(jail.folder_fd, "new-folder", AT_REMOVEDIR);
	if (chdir("/") == 0 && rmdir(jail.folder) != 0)
		printf("jail: left behind: %s\n", jail.folder);
}

/* One line; true when it passed. Skipped is neither. */
static void judge(const struct attempt *a, unsigned *passed, unsigned *failed)
{
	char text[100];
	struct answer last;
	bool has_succeeded = run(a, &last);
	if (last.kind == 'S' || last.kind == 0) {
		printf("FAIL %s: cannot enter: %s\n", a->name, last.text);
		(*failed)++;
		return;
	}
	if (jail.is_control) {
		printf("%s %s\n", has_succeeded ? "ok" : "REFUSED", a->name);
		(*(has_succeeded ? passed : failed))++;
		return;
	}
	if (!has_succeeded) {
		printf("ok %s\n", a->name);
		(*passed)++;
		return;
	}
	const char *why = reason_to_skip(a, text, sizeof(text));
	printf("%s %s%s%s\n", why ? "SKIPPED" : "FAIL", a->name, why ? ": " : "",
	       why ? why : "");
	if (!why)
		(*failed)++;
}

int main(int argc, char **argv)
{
	unsigned passed = 0, failed = 0;
	jail.is_control = argc > 1 && strcmp(argv[1], "--control") == 0;
	set_up();
	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++)
		judge(&attempts[i], &passed, &failed);
	clean_up();
	printf("jail: %u passed, %u failed\n", passed, failed);
	return failed != 0 && !jail.is_control;
}
