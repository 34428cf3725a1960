#ifndef POLICY_DEPLOYMENT_H
#define POLICY_DEPLOYMENT_H

#include "common/listing.h"
#include "common/span.h"
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
	uint64_t priority;      /* 0 low, 1 normal, 2 high */
	int64_t available_s, deadline_s; /* epoch; 0 = not named */
	char hash[DIGEST_HEX_SIZE];      /* "" = none named */
	uint64_t size;          /* bytes; DEPLOYMENT_SIZE_UNKNOWN */
	struct listing files;   /* sorted; empty = no file list */
	enum choose_cloud cloud;
	char *site_hash;        /* owned; the site's own folder hash, "" = none:
				 * for people, never compared */
};

struct deployment_list {
	struct deployment *items; /* owned */
	size_t count, room;
	/* Something could not be read: what is not in it may be deployed all the
	 * same. Whoever loads several sources says so (poll_load). */
	bool is_incomplete;
};
void deployment_list_free(struct deployment_list *l);

/*
 * Read policy from disk: one file (a deployment or a bundle, policy/bundle.h), or
 * every *.ini of a folder in bytewise order of name (others are left alone). A
 * source that does not exist is an empty list when `must_exist` is false. Files
 * and the folder must be owned by root or us and not be writable by group or
 * others. All problems go to `problems`, one line each with file and line, among
 * them: `files` that do not hash to `hash`, two deployments that name different
 * hashes for one content and version (both are left out). Adds to *out, which may
 * hold some of other sources already: conflicts with those count too. A URL, or
 * "mp", is a problem: that is fetched first, and read by deployment_parse.
 *
 * ERR_CONFIG is never returned; ERR_POLICY with `problems`; the deployments
 * without any problem are in *out all the same.
 */
enum err_code deployment_load(const char *source, bool must_exist,
			      struct deployment_list *out, struct buf *problems,
			      struct err *e);
/*
 * The same from a text whose origin was proved otherwise (its signature, say):
 * one deployment or a bundle. `path` is how problems name it. File lists come from
 * the bundle alone, never from disk. is_site: the text was made from the site's
 * policy, and cannot name a hash: [content] hash and files are problems in it.
 */
enum err_code deployment_parse(struct span text, const char *path, bool is_site,
			       struct deployment_list *out, struct buf *problems,
			       struct err *e);

/*
 * A deployment without hash takes hash, size and file list of another one of the
 * same content and version that has them: the site says when, a local file says
 * what. Call it when all sources are loaded. (Without memory some stay as they
 * are: content without a hash is not fetched.)
 */
void deployment_join(struct deployment_list *l);

/*
 * The deployment of a content. Without a version in `want`: the one with the
 * highest version. NULL where none names it.
 */
const struct deployment *deployment_find(const struct deployment_list *l,
					 const struct content *want);

#endif
