#ifndef AGENT_CLI_VERBS_H
#define AGENT_CLI_VERBS_H

#include "agent/cli/options.h"
#include "policy/deployment.h"

/*
 * What each verb does once options, settings and policy are there. A verb also
 * runs when r->e tells that they are not: then it only shows that, so that
 * --json always answers with the verb's own object.
 */
struct verbs_run {
	struct options options;
	struct settings settings;
	struct buf problems;           /* of settings and policy, a line each */
	struct deployment_list policy;
	const char *policy_source;     /* borrowed; NULL = not read */
	struct content content;        /* of CONTENT; id "" = none */
	char hash[DIGEST_HEX_SIZE];    /* of --hash; "" = none */
	int64_t at_s;                  /* of --at; INT64_MIN = now */
	struct err e;
};

void verbs_download(struct verbs_run *r);
void verbs_locate(struct verbs_run *r); /* and --replay */
void verbs_diagnose(struct verbs_run *r);
void verbs_walk(struct verbs_run *r); /* --resolve and --verify-server */
void verbs_check_chain(struct verbs_run *r);
void verbs_cache(struct verbs_run *r);
void verbs_check_config(struct verbs_run *r);

#endif
