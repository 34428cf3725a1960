#include "agent/cli/become.h"

#include "common/log.h"

#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

enum err_code become_owner(const char *folder, struct err *e)
{
	struct stat st;
	if (geteuid() != 0 || folder == NULL || stat(folder, &st) != 0 ||
	    st.st_uid == 0)
		return ERR_OK;
	const struct passwd *p = getpwuid(st.st_uid);
	gid_t group = p ? p->pw_gid : st.st_gid;
	int rc = p ? initgroups(p->pw_name, group) : setgroups(0, NULL);
	if (rc != 0 || setresgid(group, group, group) != 0 ||
	    setresuid(st.st_uid, st.st_uid, st.st_uid) != 0)
		return err_set(e, ERR_INTERNAL, "become user %u, who owns %.200s: %m",
			       (unsigned)st.st_uid, folder);
	log_debug("agent", "working as user %u, who owns %s", (unsigned)st.st_uid,
		  folder);
	return ERR_OK;
}
