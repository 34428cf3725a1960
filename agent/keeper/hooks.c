#include "agent/keeper/hooks.h"

#include "agent/keeper/ledger.h"
#include "common/clock.h"
#include "common/folder.h"
#include "common/log.h"
#include "common/own.h"
#include "common/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
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

#define COMPONENT "hooks"
#define OUTPUT_MAX (64u << 10) /* bytes of one hook that reach the log */
#define LINE_MAX_BYTES 1000
#define GRACE_MS 5000      /* from SIGTERM to SIGKILL, when its time is over */
#define SHORT_GRACE_MS 500 /* and when ours is */
#define STATUS_NOT_RUN 127 /* as shells have it */
#define PROGRAMS_MAX 1000
#define CLEAR_OF_STANDARD 10 /* where dup2() to 0, 1, 2 does no harm */
#define TEMPLATE "cloud-dp-content@"

static const char path_variable[] =
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/* --- what is to be run ---------------------------------------------------- */

struct programs {
	char **names; /* owned, as are its texts */
	size_t count;
};

static void own_programs(struct programs *p)
{
	for (size_t i = 0; i < p->count; i++)
		free(p->names[i]);
	free(p->names);
}

static bool is_safe(const struct stat *st)
{
	return (st->st_uid == 0 || st->st_uid == geteuid()) &&
	       (st->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

static bool is_left_alone(const char *name)
{
	size_t len = strlen(name);
	return name[0] == '.' || name[len - 1] == '~';
}

/* A program is a file, not a link: what a link leads to may stand in a folder that
 * others can write to. */
static bool is_program(int dir_fd, const char *folder, const char *name)
{
	struct stat st;
	if (is_left_alone(name) ||
	    fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return false;
	if (S_ISLNK(st.st_mode)) {
		log_warning(COMPONENT, "hook %s/%s is not run: it is a link", folder,
			    name);
		return false;
	}
	if (!S_ISREG(st.st_mode) || (st.st_mode & 0111) == 0)
		return false;
	if (!is_safe(&st))
		log_warning(COMPONENT, "hook %s/%s is not run: it must be owned by "
			    "root or the agent's user and not be writable by others",
			    folder, name);
	return is_safe(&st);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum err_code add_program(struct programs *p, const char *name,
				 struct err *e)
{
	char **more = reallocarray(p->names, p->count + 1, sizeof(*more));
	if (more == NULL)
		return err_set(e, ERR_NOMEM, "no memory for hooks");
	p->names = more;
	more[p->count] = strdup(name);
	if (more[p->count] == NULL)
		return err_set(e, ERR_NOMEM, "no memory for hooks");
	p->count++;
	return ERR_OK;
}

/* A folder that is not there holds nothing to run: packages bring it or not. */
static enum err_code list_programs(const char *folder, struct programs *out,
				   struct err *e)
{
	struct stat st;
	autofd fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return ERR_OK;
	if (fd < 0 || fstat(fd, &st) != 0)
		return err_set(e, ERR_FOLDER, "open [hooks] on_content %.200s: %m",
			       folder);
	if (!is_safe(&st))
		return err_set(e, ERR_FOLDER, "[hooks] on_content %.200s: it must be "
			       "owned by root or the agent's user and not be writable "
			       "by others", folder);
	autodir dir = folder_open(fd, ".", e);
	if (dir == NULL)
		return e->code;
	const char *name;
	while ((name = folder_next(dir)) != NULL && out->count < PROGRAMS_MAX)
		if (is_program(fd, folder, name) &&
		    add_program(out, name, e) != ERR_OK)
			return e->code;
	if (out->count)
		qsort(out->names, out->count, sizeof(*out->names), by_name);
	return ERR_OK;
}

/* --- one process ---------------------------------------------------------- */

/* What the child needs from before the fork. */
struct hook {
	const char *name; /* for people */
	const char *program;
	char *const *argv, *const *envp;
	pid_t parent, pid;
	int pid_fd, output_fd; /* owned; -1 */
	size_t told;           /* bytes that went to the log */
	char line[LINE_MAX_BYTES];
	size_t line_len;
};

/* The child, to its end: only calls that are safe between fork and exec. */
static _Noreturn void become(const struct hook *h, int output)
{
	sigset_t none;
	int opened = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int null = fcntl(opened, F_DUPFD_CLOEXEC, CLEAR_OF_STANDARD);
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != h->parent)
		_exit(STATUS_NOT_RUN);
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL); /* fails for KILL, STOP: as it should */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (null >= 0 && dup2(null, 0) >= 0 && dup2(output, 1) >= 0 &&
	    dup2(output, 2) >= 0 && close_range(3, ~0U, 0) == 0 && chdir("/") == 0)
		execve(h->program, h->argv, h->envp);
	_exit(STATUS_NOT_RUN);
}

static enum err_code start(struct hook *h, struct err *e)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) != 0)
		return err_set(e, ERR_INTERNAL, "pipe: %m");
	autofd output = fcntl(ends[1], F_DUPFD_CLOEXEC, CLEAR_OF_STANDARD);
	close(ends[1]);
	h->output_fd = ends[0];
	if (output < 0 || fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0)
		return err_set(e, ERR_INTERNAL, "pipe: %m");
	h->parent = getpid();
	h->pid = fork();
	if (h->pid == 0)
		become(h, output);
	if (h->pid < 0)
		return err_set(e, ERR_INTERNAL, "fork: %m");
	setpgid(h->pid, h->pid); /* whoever of us comes first */
	h->pid_fd = pidfd_open(h->pid, 0);
	if (h->pid_fd >= 0)
		return ERR_OK;
	err_set(e, ERR_INTERNAL, "pidfd_open: %m");
	kill(-h->pid, SIGKILL);
	waitpid(h->pid, NULL, 0);
	return e ? e->code : ERR_INTERNAL;
}

/* --- its output ----------------------------------------------------------- */

static void end_line(struct hook *h)
{
	if (h->line_len)
		log_info(COMPONENT, "hook %s: %.*s", h->name, (int)h->line_len,
			 h->line);
	h->line_len = 0;
}

static void take_output(struct hook *h, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len && h->told < OUTPUT_MAX; i++) {
		if (bytes[i] == '\n' || h->line_len == sizeof(h->line))
			end_line(h);
		if (bytes[i] != '\n')
			h->line[h->line_len++] = bytes[i];
		if (++h->told == OUTPUT_MAX) {
			end_line(h);
			log_info(COMPONENT, "hook %s: more than %u bytes of output: "
				 "the rest is not kept", h->name, OUTPUT_MAX);
		}
	}
}

/* All that is there now; at its end, or with an error, the pipe is closed. */
static void read_output(struct hook *h)
{
	char bytes[4096];
	ssize_t n = -1;
	/* A writer that never pauses must not keep us from looking at the time. */
	for (int turn = 0; turn < 64 && h->output_fd >= 0; turn++) {
		n = read(h->output_fd, bytes, sizeof(bytes));
		if (n > 0)
			take_output(h, bytes, (size_t)n);
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			own_close(&h->output_fd), h->output_fd = -1;
		else if (errno == EAGAIN)
			return;
	}
}

/* --- waiting -------------------------------------------------------------- */

/* Until it ends, or the moment, or (where `stop` is asked for) a signal to us.
 * Whether it has ended. */
static bool wait_until(struct hook *h, int64_t at_ms, bool heeds_signals)
{
	for (;;) {
		int64_t left = at_ms - clock_now_ms();
		bool is_stopped = heeds_signals && signals_check(NULL) != ERR_OK;
		struct pollfd fds[] = {
			{ .fd = h->pid_fd, .events = POLLIN },
			{ .fd = h->output_fd, .events = POLLIN },
			{ .fd = heeds_signals ? signals_fd() : -1, .events = POLLIN },
		};
		int timeout = left <= 0 || is_stopped ? 0 :
			      left > INT_MAX	      ? INT_MAX : (int)left;
		int n = poll(fds, 3, timeout);
		if (n < 0 && errno != EINTR)
			return false;
		if (n > 0 && fds[1].revents)
			read_output(h);
		if (n > 0 && fds[0].revents)
			return true;
		if (is_stopped || left <= 0)
			return false;
	}
}

/* "ended with status 3", ...; the status for the ledger. */
static int describe(int status, const char *why, char *out, size_t size)
{
	if (why)
		snprintf(out, size, "was stopped: %s", why);
	else if (WIFSIGNALED(status))
		snprintf(out, size, "was killed by signal %d (SIG%s)",
			 WTERMSIG(status), sigabbrev_np(WTERMSIG(status))
			 ? sigabbrev_np(WTERMSIG(status)) : "?");
	else if (WEXITSTATUS(status) == STATUS_NOT_RUN)
		snprintf(out, size, "could not be run, or ended with status %d",
			 STATUS_NOT_RUN);
	else
		snprintf(out, size, "ended with status %d", WEXITSTATUS(status));
	return why || !WIFEXITED(status) ? -1 : WEXITSTATUS(status);
}

/* Let it run its time, then end it: its exit status or -1, with a word on it. */
static int attend(struct hook *h, int64_t timeout_ms, char *word, size_t size)
{
	char limit[64];
	const char *why = NULL;
	int status = 0;
	if (!wait_until(h, clock_now_ms() + timeout_ms, true)) {
		bool is_ours = signals_check(NULL) != ERR_OK;
		snprintf(limit, sizeof(limit), "[hooks] timeout, %" PRId64 " s, is "
			 "over", timeout_ms / 1000);
		why = is_ours ? "the agent ends" : limit;
		kill(-h->pid, SIGTERM);
		wait_until(h, clock_now_ms() + (is_ours ? SHORT_GRACE_MS : GRACE_MS),
			   !is_ours);
		kill(-h->pid, SIGKILL);
	}
	while (waitpid(h->pid, &status, 0) < 0 && errno == EINTR)
		;
	read_output(h);
	end_line(h);
	return describe(status, why, word, size);
}

/* --- one hook ------------------------------------------------------------- */

/* What all hooks of one content are told. */
struct subject {
	const struct settings *settings;
	struct record *record; /* NULL */
	char name[CONTENT_NAME_SIZE];
	const char *id, *path;
	char version[16];
	char *envp[5]; /* owned from 1 on, NULL-ended */
};

static void tell(const struct subject *s, const char *program, int status,
		 const char *word)
{
	struct err e = { 0 };
	if (status == 0)
		log_info(COMPONENT, "hook %s for %s %s", program, s->name, word);
	else
		log_warning(COMPONENT, "hook %s for %s %s", program, s->name, word);
	if (s->record && ledger_add_hook(s->record, s->name, program, status, word,
					 &e) != ERR_OK)
		log_warning(COMPONENT, "hook %s is not in the history: %s", program,
			    e.text);
}

static void run_one(const struct subject *s, const char *name,
		    const char *program, char *const *argv)
{
	struct hook h = { .name = name, .program = program, .argv = argv,
			  .envp = s->envp, .pid_fd = -1, .output_fd = -1 };
	struct err e = { 0 };
	char word[256];
	int status = -1;
	if (start(&h, &e) == ERR_OK)
		status = attend(&h, s->settings->hooks_timeout_ms, word,
				sizeof(word));
	else
		snprintf(word, sizeof(word), "could not be run: %.200s", e.text);
	own_close(&h.pid_fd);
	own_close(&h.output_fd);
	tell(s, name, status, word);
}

static enum err_code run_folder(struct subject *s, struct err *e)
{
	__attribute__((cleanup(own_programs))) struct programs p = { 0 };
	const char *named = s->settings->hooks_on_content;
	if (named == NULL || named[0] == '\0')
		return ERR_OK;
	enum err_code rc = list_programs(named, &p, e);
	autofree char *folder = realpath(named, NULL);
	for (size_t i = 0; rc == ERR_OK && folder && i < p.count; i++) {
		char program[PATH_MAX];
		char *argv[] = { program, (char *)s->id, s->version,
				 (char *)s->path, NULL };
		int n = snprintf(program, sizeof(program), "%s/%s", folder,
				 p.names[i]);
		if (n > 0 && (size_t)n < sizeof(program))
			run_one(s, p.names[i], program, argv);
		rc = signals_check(e);
	}
	return rc;
}

/* --- the unit ------------------------------------------------------------- */

/* As systemd-escape(1): what is not [A-Za-z0-9:_.], and a dot in front, as \xHH. */
static void escape(const char *name, char *out, size_t size)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrst"
				    "uvwxyz0123456789:_.";
	size_t at = 0;
	for (size_t i = 0; name[i] && at + 5 < size; i++) {
		bool is_plain = strchr(plain, name[i]) && !(i == 0 && name[i] == '.');
		if (is_plain)
			out[at++] = name[i];
		else
			at += (size_t)snprintf(out + at, size - at, "\\x%02x",
					       (unsigned char)name[i]);
	}
	out[at] = '\0';
}

static bool has_unit(const struct hooks_places *places)
{
	struct stat st;
	char path[PATH_MAX];
	if (places->systemctl == NULL || stat(places->running, &st) != 0 ||
	    !S_ISDIR(st.st_mode))
		return false;
	for (const char *const *f = places->unit_folders; *f; f++) {
		snprintf(path, sizeof(path), "%s/" TEMPLATE ".service", *f);
		if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
			return true;
	}
	return false;
}

static enum err_code run_unit(const struct hooks_places *places,
			      struct subject *s, struct err *e)
{
	char instance[4 * CONTENT_NAME_SIZE + 8];
	char unit[sizeof(instance) + 32];
	char command[] = "systemctl", verb[] = "start", quiet[] = "--no-ask-password";
	char *argv[] = { command, verb, quiet, unit, NULL };
	if (!has_unit(places))
		return ERR_OK;
	escape(s->name, instance, sizeof(instance));
	snprintf(unit, sizeof(unit), TEMPLATE "%s.service", instance);
	run_one(s, unit, places->systemctl, argv);
	return signals_check(e);
}

/* --- all ------------------------------------------------------------------ */

static void own_environment(struct subject *s)
{
	for (size_t i = 1; i < 4; i++)
		free(s->envp[i]);
}

static enum err_code begin(struct subject *s, const struct content *content,
			   struct err *e)
{
	const char *names[] = { "CONTENT_ID", "CONTENT_VERSION", "CONTENT_PATH" };
	const char *values[] = { s->id, s->version, s->path };
	content_name(content, s->name);
	snprintf(s->version, sizeof(s->version), "%" PRIu32, content->version);
	s->envp[0] = (char *)path_variable;
	for (size_t i = 0; i < 3; i++)
		if (asprintf(&s->envp[i + 1], "%s=%s", names[i], values[i]) < 0) {
			s->envp[i + 1] = NULL;
			return err_set(e, ERR_NOMEM, "no memory for hooks");
		}
	return ERR_OK;
}

enum err_code hooks_run_at(const struct hooks_places *places,
			   const struct settings *s, struct record *r,
			   const struct content *content, const char *path,
			   struct err *e)
{
	__attribute__((cleanup(own_environment))) struct subject subject = {
		.settings = s, .record = r, .id = content->id, .path = path,
	};
	struct err own = { 0 };
	enum err_code rc = begin(&subject, content, &own);
	if (rc == ERR_OK)
		rc = run_folder(&subject, &own);
	if (rc != ERR_OK && signals_check(NULL) == ERR_OK) {
		/* The content is there all the same: a human must look here. */
		log_error(COMPONENT, "hooks for %s are not run: %s", subject.name,
			  own.text);
		rc = ERR_OK;
	}
	if (rc == ERR_OK && subject.envp[3])
		rc = run_unit(places, &subject, &own);
	return rc == ERR_OK ? ERR_OK : err_set(e, rc, "%s", own.text);
}

enum err_code hooks_run(const struct settings *s, struct record *r,
			const struct content *content, const char *path,
			struct err *e)
{
	static const char *const folders[] = {
		"/etc/systemd/system",	   "/run/systemd/system",
		"/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
		"/lib/systemd/system",	   NULL,
	};
	struct hooks_places places = { NULL, folders, "/run/systemd/system" };
	if (access("/usr/bin/systemctl", X_OK) == 0)
		places.systemctl = "/usr/bin/systemctl";
	else if (access("/bin/systemctl", X_OK) == 0)
		places.systemctl = "/bin/systemctl";
	return hooks_run_at(&places, s, r, content, path, e);
}
