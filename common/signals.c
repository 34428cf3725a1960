#include "common/signals.h"

#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <unistd.h>

static int fd = -1;
static int seen;

enum err_code signals_open(struct err *e)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* then write() says EFBIG */
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return err_set(e, ERR_INTERNAL, "block signals: %m");
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return err_set(e, ERR_INTERNAL, "open signalfd: %m");
	return ERR_OK;
}

int signals_fd(void)
{
	return fd;
}

enum err_code signals_check(struct err *e)
{
	struct signalfd_siginfo info;
	if (!seen && fd >= 0 && read(fd, &info, sizeof(info)) == sizeof(info))
		seen = (int)info.ssi_signo;
	if (seen == SIGINT)
		return err_set(e, ERR_SIGINT, "interrupted");
	if (seen == SIGTERM)
		return err_set(e, ERR_SIGTERM, "asked to end (SIGTERM)");
	return ERR_OK;
}
