#ifndef AGENT_CLI_VERBS_H
#define AGENT_CLI_VERBS_H

#include "agent/cli/options.h"
#include "agent/keeper/report.h"
#include "policy/deployment.h"

/*
 * What each verb does once options, settings and policy are there. A verb also
 * runs when r->e tells that they are not: then it only shows that, so that
 * --json always answers with the verb's own object.
 */
struct verbs_run {
	struct options options;
	const struct verbs_host *host; /* never NULL */
	struct settings settings;
	struct buf problems;           /* of settings and policy, a line each */
	struct deployment_list policy;
	const char *policy_source;     /* borrowed; NULL = not read */
	struct content content;        /* of CONTENT; id "" = none */
	char hash[DIGEST_HEX_SIZE];    /* of --hash; "" = none */
	int64_t at_s;                  /* of --at; INT64_MIN = now */
	bool policy_must_exist;        /* it was named, and is no default */
	/* We are a child of the service, to which the download was handed over: it
	 * wants to know how far it is. NULL = no. */
	void (*tell_service)(void *unused, const struct job_progress *p);
	/* Somebody else did it and told the rest: exit with `status`. */
	bool is_done;
	int status;
	struct err e;
};

/* What cli/run lends to verbs that last longer than one reading of the settings. */
struct verbs_host {
	const char *(*environment)(const char *name);
	enum err_code (*load)(const struct verbs_run *r, struct settings *out,
			      struct buf *problems, struct err *e);
	void (*open_log)(const struct verbs_run *r, const struct settings *s);
	/* A --download that was handed over, in a process of its own; its exit
	 * status. Settings and policy as those of r. */
	int (*run_handed)(const struct verbs_run *r, int argc, char **argv);
};

void verbs_download(struct verbs_run *r);
void verbs_locate(struct verbs_run *r); /* and --replay */
void verbs_diagnose(struct verbs_run *r);
void verbs_walk(struct verbs_run *r); /* --resolve and --verify-server */
void verbs_check_chain(struct verbs_run *r);
void verbs_cache(struct verbs_run *r);
void verbs_check_config(struct verbs_run *r);

#endif
