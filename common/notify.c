#include "common/notify.h"

#include "common/own.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

enum err_code notify_send(const char *socket_path, const char *lines,
			  struct err *e)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	if (socket_path == NULL || socket_path[0] == '\0')
		return ERR_OK;
	size_t len = strlen(socket_path);
	bool is_abstract = socket_path[0] == '@';
	if ((!is_abstract && socket_path[0] != '/') ||
	    len > sizeof(to.sun_path) - !is_abstract)
		return err_set(e, ERR_INTERNAL,
			       "tell the service manager: NOTIFY_SOCKET=%.120s is "
			       "no address of a socket", socket_path);
	memcpy(to.sun_path, socket_path, len);
	/* An abstract name begins with NUL and ends where it ends. */
	if (is_abstract)
		to.sun_path[0] = '\0';
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len +
				     !is_abstract);
	autofd s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0)
		return err_set(e, ERR_INTERNAL,
			       "tell the service manager: open a socket: %m");
	if (sendto(s, lines, strlen(lines), MSG_NOSIGNAL,
		   (const struct sockaddr *)&to, size) < 0)
		return err_set(e, ERR_INTERNAL, "tell the service manager at %s: %m",
			       socket_path);
	return ERR_OK;
}
