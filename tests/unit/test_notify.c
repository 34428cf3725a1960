#include "tests/unit/test.h"

#include "common/notify.h"
#include "common/own.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* A manager's socket at that name; what was told comes by recv(). */
static int listen_at(const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	size_t len = strlen(name);
	memcpy(a.sun_path, name, len);
	if (name[0] == '@')
		a.sun_path[0] = '\0';
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len +
				     (name[0] != '@'));
	assert_int_equal(bind(fd, (struct sockaddr *)&a, size), 0);
	return fd;
}

static void assert_told(int fd, const char *want)
{
	char text[256] = "";
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);
	assert_true(n >= 0);
	assert_string_equal(text, want);
}

TEST(notify_send__path__arrives_as_one_datagram)
{
	char path[200];
	struct err e = { 0 };
	snprintf(path, sizeof(path), "%s/notify", test_folder());
	autofd fd = listen_at(path);
	assert_ok(notify_send(path, "READY=1\nSTATUS=well", &e));
	assert_told(fd, "READY=1\nSTATUS=well");
}

TEST(notify_send__abstract_name__arrives)
{
	char name[64];
	struct err e = { 0 };
	snprintf(name, sizeof(name), "@agent-unit-notify-%d", (int)getpid());
	autofd fd = listen_at(name);
	assert_ok(notify_send(name, "WATCHDOG=1", &e));
	assert_told(fd, "WATCHDOG=1");
}

TEST(notify_send__no_manager__nothing_happens)
{
	struct err e = { 0 };
	assert_ok(notify_send(NULL, "READY=1", &e));
	assert_ok(notify_send("", "READY=1", &e));
}

TEST(notify_send__nobody_there__internal)
{
	char path[200];
	struct err e = { 0 };
	snprintf(path, sizeof(path), "%s/nobody", test_folder());
	assert_err(notify_send(path, "READY=1", &e), ERR_INTERNAL);
	assert_non_null(strstr(e.text, "nobody"));
}

TEST(notify_send__no_address__internal)
{
	char longest[200];
	struct err e = { 0 };
	assert_err(notify_send("vsock:2:1234", "READY=1", &e), ERR_INTERNAL);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[0] = '/';
	longest[sizeof(longest) - 1] = '\0';
	assert_err(notify_send(longest, "READY=1", &e), ERR_INTERNAL);
}

/* A manager that does not read must not stop the service. */
TEST(notify_send__queue_is_full__does_not_wait)
{
	char path[200];
	struct err e = { 0 };
	snprintf(path, sizeof(path), "%s/full", test_folder());
	autofd fd = listen_at(path);
	enum err_code rc = ERR_OK;
	for (int i = 0; i < 100000 && rc == ERR_OK; i++)
		rc = notify_send(path, "WATCHDOG=1", &e);
	assert_err(rc, ERR_INTERNAL);
}
