#include "agent/cli/run.h"
#include "agent/net/net.h"
#include "common/spawn.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A closed descriptor 0, 1 or 2 would become the next file that is opened, and
 * what is meant for a person would be written into it. */
static bool open_standard(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return false;
	return true;
}

/* The net role is started by spawn_role() alone, which leaves a socket there. */
static bool is_net_role(int argc, char **argv)
{
	struct stat st;
	return argc == 2 && strcmp(argv[1], "--role=net") == 0 &&
	       fstat(SPAWN_ROLE_FD, &st) == 0 && S_ISSOCK(st.st_mode);
}

int main(int argc, char **argv)
{
	if (!open_standard())
		return 1;
	if (is_net_role(argc, argv))
		return net_main(SPAWN_ROLE_FD);
	return run_cli(argc, argv);
}
