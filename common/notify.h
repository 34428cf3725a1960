#ifndef COMMON_NOTIFY_H
#define COMMON_NOTIFY_H

#include "common/err.h"

/*
 * Tell systemd how the service is doing: "READY=1", "STATUS=...", line-separated, as
 * one datagram to the socket that it named in NOTIFY_SOCKET (a path, or behind "@" an
 * abstract name). Never waits: a manager that does not read is not our trouble.
 * socket_path NULL or "": no systemd, ERR_OK. ERR_INTERNAL.
 * Source: sd_notify(3). Not by libsystemd, which would bring three compression
 * libraries into the process that holds the keys.
 */
enum err_code notify_send(const char *socket_path, const char *lines,
			  struct err *e);

#endif
