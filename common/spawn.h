#ifndef COMMON_SPAWN_H
#define COMMON_SPAWN_H

#include "common/err.h"

#include <stddef.h>
#include <sys/types.h>

/*
 * Run this program again as `role` ("net"): `argv0 --role=ROLE`, descriptor 3
 * is one end of a socket pair, 0 and 1 are /dev/null, 2 is inherited (a terminal
 * for writing only), nothing else is open, its session is its own (so it can make up
 * no input of our terminal, TIOCSTI), the environment is empty but for what
 * sanitizers need, all signals have their default action and are unblocked, parent
 * death kills it.
 *
 * *sock  our end, SOCK_SEQPACKET, close-on-exec, owned by the caller
 * Returns the child's pid, or -1 with *e set (ERR_INTERNAL). 0 = it is no child of
 * ours: the service manager runs it (cloud-dp-net.socket), as a user of its own; it
 * ends when the socket is closed.
 */
#define SPAWN_ROLE_FD 3
pid_t spawn_role(const char *role, int *sock, struct err *e);

/*
 * A copy of fd for somebody who is trusted less. A terminal is mostly open for
 * reading, too, and whoever holds that hears what is typed: of one, the copy can
 * only be written to. -1 with errno: that cannot be had.
 */
int spawn_write_only(int fd);

/* Kill (if it still runs) and reap; pid 0: nothing to do. Describes how it ended in
 * `out`. */
void spawn_reap(pid_t pid, char *out, size_t size);

#endif
