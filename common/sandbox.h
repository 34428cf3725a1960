#ifndef COMMON_SANDBOX_H
#define COMMON_SANDBOX_H

#include "common/err.h"

#include <stdbool.h>
#include <sys/types.h>

/*
 * What the net role gives up before it reads its first message. For good:
 *
 * - where it is root: all groups, gid and uid change to `cloud-dp-net` if that
 *   user exists, else `nobody`; the root folder changes to an empty one where that
 *   is allowed (the service is not root: its manager starts net as that user)
 * - all capabilities: effective, permitted, inheritable, ambient; the bounding set
 *   where that is allowed
 * - no_new_privs; not dumpable (no ptrace by others of the same user)
 * - Landlock: every file access right that the kernel knows is handled and none
 *   granted, so no file can be opened, made, run or removed; from ABI 4 no
 *   port can be bound, from ABI 6 no signal leaves and no abstract socket
 * - limits: no child processes, no file of any size written, no core, 256
 *   descriptors, data segment of SANDBOX_DATA_MAX (not under sanitizers)
 *
 * Not every kernel has everything: *got says what was achieved. Failing to
 * change user, set no_new_privs or a limit is an error; a missing or old
 * Landlock is reported, not an error.
 * Source: landlock(7), prctl(2), setrlimit(2); docs/security.md
 */
#define SANDBOX_DATA_MAX (48u << 20)

struct sandbox_report {
	uid_t uid;
	int landlock_abi; /* 0 = kernel has none */
	bool user_changed;
};

enum err_code sandbox_enter_net(struct sandbox_report *got, struct err *e);

/*
 * The keeper holds keys and trust: not dumpable, no core. Nothing is given up
 * that it needs. Ambient capabilities, where somebody gave it any, end with it: no
 * hook finds them.
 */
enum err_code sandbox_enter_keeper(struct err *e);

#endif
