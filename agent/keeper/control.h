#ifndef AGENT_KEEPER_CONTROL_H
#define AGENT_KEEPER_CONTROL_H

#include "agent/keeper/order.h"

#include <poll.h>

/*
 * The control socket of the service (docs/architecture.md, control): a stream
 * socket, mode 0660, in [control] socket. One request a connection (order.h); the
 * answer is JSON text until the end. Who may connect is the file's mode and folder
 * (the agent's group); who may change something is root or the agent's own user, by
 * SO_PEERCRED.
 *
 * A download comes with three descriptors (SCM_RIGHTS): standard input, output and
 * error of the asker, which the job writes to as if the asker had run it. The asker
 * that goes away, or shuts its side, stops it.
 *
 * Answer to the verbs that change something: {"exit":0,"error":null}, or why not, as
 * agent(8) has errors. A download that was begun is answered with its exit status
 * and "error":null, whatever came of it (it has told its asker itself); an error
 * there means that nothing was begun.
 */
struct control;
struct control_peer; /* one connection that waits for its answer */

struct control_handlers {
	/* A request that is allowed; its arguments live as long as the peer. The
	 * handler answers now or later. */
	void (*on_request)(void *arg, struct control_peer *peer,
			   struct control_request *q);
	/* The asker is gone before its answer; `peer` is invalid after the call. */
	void (*on_gone)(void *arg, struct control_peer *peer);
	void *arg;
};

/*
 * Listen. A file in the way that is a socket nobody listens to is removed.
 * ERR_LOCKED: another service listens there. ERR_FOLDER.
 */
struct control *control_open(const char *path, const struct control_handlers *h,
			     struct err *e);
/* Tells nobody (on_gone); removes the socket file, where it is ours. NULL is fine. */
void control_close(struct control *c);

/* For the loop: descriptors to poll (at most CONTROL_FDS), then what came. */
#define CONTROL_FDS 129
unsigned control_fds(const struct control *c, struct pollfd *out);
void control_turn(struct control *c, const struct pollfd *fds, unsigned n);

/* Every descriptor that belongs to the socket, those that came with half a request
 * too: a child must keep none of them. At most CONTROL_OWN_FDS. */
#define CONTROL_OWN_FDS (4 + (CONTROL_FDS - 1) * 4)
unsigned control_list_fds(const struct control *c, int *out);

/* Send the whole answer and close, in the background; `text` is copied. The peer is
 * invalid after the call. */
void control_answer(struct control_peer *peer, struct span text);
/* {"exit":..,"error":..} */
void control_answer_err(struct control_peer *peer, const struct err *e);
/* {"exit":STATUS,"error":null}: a download that was begun has ended. */
void control_answer_exit(struct control_peer *peer, int status);
/* The user data of the daemon with a peer. */
void control_set_tag(struct control_peer *peer, void *tag);
void *control_tag(const struct control_peer *peer);

#endif
