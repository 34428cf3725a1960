#include "common/signals.h"

#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <unistd.h>

static int fd = -1;
static int seen;
static bool has_hup;

static enum err_code open_for(const sigset_t *set, struct err *e)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* then write() says EFBIG */
	if (sigprocmask(SIG_SETMASK, set, NULL) < 0)
		return err_set(e, ERR_INTERNAL, "block signals: %m");
	/* fd -1 makes one; else the mask of that one changes */
	int got = signalfd(fd, set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (got < 0)
		return err_set(e, ERR_INTERNAL, "open signalfd: %m");
	fd = got;
	return ERR_OK;
}

static sigset_t set_of(bool with_hup)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	if (with_hup)
		sigaddset(&set, SIGHUP);
	return set;
}

enum err_code signals_open(struct err *e)
{
	sigset_t set = set_of(false);
	return open_for(&set, e);
}

enum err_code signals_open_service(struct err *e)
{
	sigset_t set = set_of(true);
	return open_for(&set, e);
}

enum err_code signals_after_fork(struct err *e)
{
	/* The descriptor of the parent is shared with it. INT and TERM stay
	 * blocked all the while, so what was sent since the fork waits. */
	if (fd >= 0)
		close(fd);
	fd = -1;
	seen = 0;
	has_hup = false;
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL); /* fails for KILL, STOP: as it should */
	return signals_open(e);
}

int signals_fd(void)
{
	return fd;
}

static void read_all(void)
{
	struct signalfd_siginfo info;
	while (fd >= 0 && read(fd, &info, sizeof(info)) == sizeof(info)) {
		int number = (int)info.ssi_signo;
		if (number == SIGHUP)
			has_hup = true;
		else if (!seen)
			seen = number; /* the first one says how to end */
	}
}

bool signals_take_hup(void)
{
	read_all();
	bool had = has_hup;
	has_hup = false;
	return had;
}

enum err_code signals_check(struct err *e)
{
	if (!seen)
		read_all();
	if (seen == SIGINT)
		return err_set(e, ERR_SIGINT, "interrupted");
	if (seen == SIGTERM)
		return err_set(e, ERR_SIGTERM, "asked to end (SIGTERM)");
	return ERR_OK;
}
