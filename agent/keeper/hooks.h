#ifndef AGENT_KEEPER_HOOKS_H
#define AGENT_KEEPER_HOOKS_H

#include "agent/keeper/record.h"
#include "policy/content.h"
#include "policy/settings.h"

/*
 * Run what the administrator wants run when content arrived: each executable file
 * of [hooks] on_content, in bytewise order of name (hidden ones and editors' "~"
 * are left alone), with three arguments: content id, version, path; and the same in
 * CONTENT_ID, CONTENT_VERSION, CONTENT_PATH. Standard input is empty, output goes
 * to the log. Where the unit template cloud-dp-content@.service exists, `systemctl
 * start` of its instance ID.VERSION (escaped) is one more. Each has [hooks] timeout,
 * then SIGTERM, 5 s, SIGKILL for its process group; SIGTERM to us ends the waiting
 * at once and the hook with it. Folder and programs must be owned by root or us and
 * not be writable by others, programs be no links. Exit statuses go to the ledger
 * and the log; a hook that fails does not make the content fail. ERR_OK, or that of
 * signals_check. r may be NULL: only the log tells then.
 */
enum err_code hooks_run(const struct settings *s, struct record *r,
			const struct content *content, const char *path,
			struct err *e);

/* Where systemd and its units are; hooks_run() takes those of this machine. */
struct hooks_places {
	const char *systemctl;           /* absolute path; NULL = there is none */
	const char *const *unit_folders; /* NULL-ended */
	const char *running;             /* a folder that systemd makes */
};
enum err_code hooks_run_at(const struct hooks_places *places,
			   const struct settings *s, struct record *r,
			   const struct content *content, const char *path,
			   struct err *e);

#endif
