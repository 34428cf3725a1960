#include "common/sandbox.h"

#include "common/own.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <pwd.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NET_USER "cloud-dp-net"
#define NET_FALLBACK_USER "nobody"
#define NET_FALLBACK_ID 65534 /* where no user of either name exists */
#define NOFILE_MAX 256

#if defined(__SANITIZE_ADDRESS__)
#define HAS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || \
	__has_feature(thread_sanitizer)
#define HAS_SANITIZER 1
#endif
#endif
#ifndef HAS_SANITIZER
#define HAS_SANITIZER 0
#endif

/*
 * Landlock rights, by the ABI that brought them. The headers of Debian 12 end
 * at ABI 2; source: linux/landlock.h of Linux 6.12, landlock(7).
 */
#define FS_ABI_1 ((1ULL << 13) - 1) /* EXECUTE ... MAKE_SYM */
#define FS_ABI_2 (1ULL << 13)       /* REFER */
#define FS_ABI_3 (1ULL << 14)       /* TRUNCATE */
#define FS_ABI_5 (1ULL << 15)       /* IOCTL_DEV */
#define NET_ABI_4_BIND_TCP (1ULL << 0)
#define SCOPE_ABI_6_ABSTRACT_UNIX (1ULL << 0)
#define SCOPE_ABI_6_SIGNAL (1ULL << 1)

/* struct landlock_ruleset_attr as of ABI 6. */
struct ruleset {
	uint64_t handled_access_fs;
	uint64_t handled_access_net; /* ABI 4 */
	uint64_t scoped;             /* ABI 6 */
};

struct ids {
	uid_t uid;
	gid_t gid;
};

static enum err_code failed(struct err *e, const char *what)
{
	return err_set(e, ERR_INTERNAL, "close sandbox: %s: %m", what);
}

static struct ids find_net_user(void)
{
	const struct passwd *p = getpwnam(NET_USER);
	if (p == NULL)
		p = getpwnam(NET_FALLBACK_USER);
	/* A user that is root by another name would be no change. */
	if (p == NULL || p->pw_uid == 0 || p->pw_gid == 0)
		return (struct ids){ NET_FALLBACK_ID, NET_FALLBACK_ID };
	return (struct ids){ p->pw_uid, p->pw_gid };
}

/* All three of each, and no way back. */
static bool has_become(struct ids to)
{
	uid_t ru, eu, su;
	gid_t rg, eg, sg;
	return getresuid(&ru, &eu, &su) == 0 && getresgid(&rg, &eg, &sg) == 0 &&
	       ru == to.uid && eu == to.uid && su == to.uid && rg == to.gid &&
	       eg == to.gid && sg == to.gid && getgroups(0, NULL) == 0 &&
	       setresuid((uid_t)-1, 0, (uid_t)-1) != 0 &&
	       setresgid((gid_t)-1, 0, (gid_t)-1) != 0;
}

/*
 * A folder without files that is always there. For kernels without Landlock,
 * and because no user namespace can be made inside another root, which neither
 * Landlock nor a limit prevents. Where it fails, Landlock does the rest.
 */
static void change_root(void)
{
	if (chroot("/proc/self/fdinfo") != 0 || chdir("/") != 0)
		return;
}

static enum err_code change_user(struct ids to, struct err *e)
{
	change_root();
	if (setgroups(0, NULL) != 0)
		return failed(e, "drop groups");
	if (setresgid(to.gid, to.gid, to.gid) != 0)
		return failed(e, "change group");
	if (setresuid(to.uid, to.uid, to.uid) != 0)
		return failed(e, "change user");
	return ERR_OK;
}

static bool has_no_capability(struct __user_cap_header_struct *header)
{
	struct __user_cap_data_struct have[2] = { { 0 } }, none[2] = { { 0 } };
	return syscall(SYS_capget, header, have) == 0 &&
	       memcmp(have, none, sizeof(have)) == 0;
}

/* Those that a service manager gave to a user other than root. Where there are
 * none, as in our units, its filter refuses the very call. */
static enum err_code drop_capabilities(struct err *e)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct none[2] = { { 0 } };
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (!has_no_capability(&header) &&
	    syscall(SYS_capset, &header, none) != 0)
		return failed(e, "drop capabilities");
	return ERR_OK;
}

/* What no program that it could ever run may have. Only who has CAP_SETPCAP can
 * say so; for the others there is no_new_privs. Before the user changes. */
static void drop_bounding_set(void)
{
	for (unsigned long c = 0; prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
		if (prctl(PR_CAPBSET_DROP, c, 0, 0, 0) != 0)
			return;
}

static enum err_code leave_user(struct sandbox_report *got, struct err *e)
{
	struct ids to = find_net_user();
	bool may_change = geteuid() == 0;
	drop_bounding_set();
	enum err_code rc = may_change ? change_user(to, e) : ERR_OK;
	if (rc == ERR_OK)
		rc = drop_capabilities(e);
	/* Asked when the capabilities are gone: with them there is a way back. */
	if (rc == ERR_OK && may_change && !has_become(to))
		return err_set(e, ERR_INTERNAL,
			       "close sandbox: the user did not change for good");
	got->user_changed = rc == ERR_OK && may_change;
	return rc;
}

static enum err_code close_process(struct err *e)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return failed(e, "no new privileges");
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		return failed(e, "not dumpable");
	/* A change of user clears what spawn_role() set. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
		return failed(e, "parent death signal");
	return ERR_OK;
}

/* Both limits, down only. */
static enum err_code limit(__rlimit_resource_t what, rlim_t max,
			   const char *name, struct err *e)
{
	struct rlimit r;
	if (getrlimit(what, &r) != 0)
		return failed(e, name);
	if (r.rlim_max > max)
		r.rlim_max = max;
	r.rlim_cur = r.rlim_max;
	return setrlimit(what, &r) == 0 ? ERR_OK : failed(e, name);
}

static enum err_code limit_all(struct err *e)
{
	static const struct {
		__rlimit_resource_t what;
		rlim_t max;
		const char *name;
	} limits[] = {
		{ RLIMIT_NPROC, 0, "limit of processes" },
		{ RLIMIT_FSIZE, 0, "limit of file size" },
		{ RLIMIT_CORE, 0, "limit of core size" },
		{ RLIMIT_NOFILE, NOFILE_MAX, "limit of descriptors" },
		/* Sanitizers reserve terabytes. */
		{ RLIMIT_DATA, HAS_SANITIZER ? RLIM_INFINITY : SANDBOX_DATA_MAX,
		  "limit of memory" },
	};
	/* A write beyond the limit is then an error (EFBIG), not the end. */
	if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR)
		return failed(e, "ignore SIGXFSZ");
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		enum err_code rc = limit(limits[i].what, limits[i].max,
					 limits[i].name, e);
		if (rc != ERR_OK)
			return rc;
	}
	return ERR_OK;
}

/* Everything that ABI `abi` can refuse. */
static struct ruleset refuse_all(int abi)
{
	struct ruleset r = { .handled_access_fs = FS_ABI_1 };
	if (abi >= 2)
		r.handled_access_fs |= FS_ABI_2;
	if (abi >= 3)
		r.handled_access_fs |= FS_ABI_3;
	if (abi >= 4)
		r.handled_access_net = NET_ABI_4_BIND_TCP; /* may connect */
	if (abi >= 5)
		r.handled_access_fs |= FS_ABI_5;
	if (abi >= 6)
		r.scoped = SCOPE_ABI_6_ABSTRACT_UNIX | SCOPE_ABI_6_SIGNAL;
	return r;
}

static enum err_code enter_landlock(struct sandbox_report *got, struct err *e)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0,
			   LANDLOCK_CREATE_RULESET_VERSION);
	if (abi < 1)
		return ERR_OK; /* not built in, or not switched on: reported */
	struct ruleset r = refuse_all((int)abi);
	/* Kernels take a longer struct than theirs if the rest is zero. */
	autofd rules = (int)syscall(SYS_landlock_create_ruleset, &r, sizeof(r), 0);
	if (rules < 0)
		return failed(e, "make Landlock rules");
	if (syscall(SYS_landlock_restrict_self, rules, 0) != 0)
		return failed(e, "enter Landlock");
	autofd root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root >= 0)
		return err_set(e, ERR_INTERNAL,
			       "close sandbox: Landlock refuses nothing");
	got->landlock_abi = (int)abi;
	return ERR_OK;
}

enum err_code sandbox_enter_net(struct sandbox_report *got, struct err *e)
{
	*got = (struct sandbox_report){ 0 };
	enum err_code rc = leave_user(got, e);
	if (rc == ERR_OK)
		rc = close_process(e);
	if (rc == ERR_OK)
		rc = limit_all(e);
	if (rc == ERR_OK)
		rc = enter_landlock(got, e);
	got->uid = getuid();
	return rc;
}

enum err_code sandbox_enter_keeper(struct err *e)
{
	/* Kernels without ambient capabilities have none to clear. */
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		return failed(e, "not dumpable");
	return limit(RLIMIT_CORE, 0, "limit of core size", e);
}
