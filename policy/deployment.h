#ifndef POLICY_DEPLOYMENT_H
#define POLICY_DEPLOYMENT_H

#include "common/listing.h"
#include "policy/choose.h"
#include "policy/content.h"
#include "policy/settings.h"

#define DEPLOYMENT_SIZE_UNKNOWN UINT64_MAX

/* One file of policy.d: agent-policy(5). */
struct deployment {
	char *path;             /* owned; the policy file */
	char *id, *name;        /* owned; "", "ID.VERSION" where not named */
	struct content content; /* package and version */
	bool is_required;       /* purpose = required */
	int64_t available_s, deadline_s; /* epoch; 0 = not named */
	char hash[DIGEST_HEX_SIZE];      /* "" = none named */
	uint64_t size;          /* bytes; DEPLOYMENT_SIZE_UNKNOWN */
	struct listing files;   /* sorted; empty = no file list */
	enum choose_cloud cloud;
};

struct deployment_list {
	struct deployment *items; /* owned */
	size_t count;
};
void deployment_list_free(struct deployment_list *l);

/*
 * Read policy: one file, or every *.ini of a folder in bytewise order of name
 * (others are left alone). A source that does not exist is an empty list when
 * `must_exist` is false. An https URL is refused with a word that says the
 * service reads it (next issue). Files and the folder must be owned by root or
 * us and not be writable by group or others. All problems go to `problems`, one line each
 * with file and line, among them: `files` that do not hash to `hash`, two
 * deployments that name different hashes for one content and version.
 *
 * ERR_CONFIG is never returned; ERR_POLICY with `problems`; the deployments
 * without any problem are in *out all the same.
 */
enum err_code deployment_load(const char *source, bool must_exist,
			      struct deployment_list *out, struct buf *problems,
			      struct err *e);

/*
 * The deployment of a content. Without a version in `want`: the one with the
 * highest version. NULL where none names it.
 */
const struct deployment *deployment_find(const struct deployment_list *l,
					 const struct content *want);

#endif
