#ifndef COMMON_FRAME_H
#define COMMON_FRAME_H

#include "common/err.h"

#include <stddef.h>

/*
 * Messages over a Unix SOCK_SEQPACKET pair, each with at most one descriptor.
 */
#define FRAME_MAX 65536 /* bytes */

/* Blocking send. fd -1 = none (borrowed). ERR_NET_DIED when the peer is gone. */
enum err_code frame_send(int sock, const void *bytes, size_t len, int fd,
			 struct err *e);

/*
 * Receive one message that is there or comes. `*fd` is -1 or a descriptor that
 * the caller owns (close-on-exec). More than one descriptor, or a message
 * longer than `size`, is ERR_NET_LIED. End of the peer: ERR_NET_DIED.
 * with `wait` false and nothing there: ERR_OK and *len 0.
 */
enum err_code frame_receive(int sock, int wait, void *bytes, size_t size,
			    size_t *len, int *fd, struct err *e);

#endif
