#ifndef AGENT_KEEPER_DAEMON_H
#define AGENT_KEEPER_DAEMON_H

#include "common/buf.h"
#include "common/err.h"
#include "policy/settings.h"

/*
 * The service: polls policy, runs what is due, answers on the control socket.
 * One loop, which sleeps until something happens; all work is done by children
 * (child.h), so that it always answers. Ends with ERR_OK on SIGTERM and SIGINT,
 * within two seconds; SIGHUP reads the settings again (bad ones are told, and the
 * old ones kept).
 */
struct daemon_options {
	struct settings settings; /* taken */
	const char *policy;       /* --policy; NULL */
	bool policy_must_exist;
	/* Read the settings again; as settings_load. */
	enum err_code (*load)(void *arg, struct settings *out,
			      struct buf *problems, struct err *e);
	/* New settings are in force: log files, above all. */
	void (*on_settings)(void *arg, const struct settings *s);
	/* A download that was handed over: run by a child, whose standard streams
	 * are those of the asker already. Returns its exit status. on_progress is
	 * child_report, besides what the arguments ask for. */
	int (*download)(void *arg, int argc, char **argv);
	void *arg;
	/* What systemd told in the environment; NULL, 0 = no systemd. */
	const char *notify_socket;
	int64_t watchdog_us;
};

enum err_code daemon_run(struct daemon_options *o, struct err *e);

#endif
