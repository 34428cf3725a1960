#ifndef AGENT_CLI_SHOW_JSON_H
#define AGENT_CLI_SHOW_JSON_H

#include "agent/keeper/cache.h"
#include "agent/keeper/report.h"

/*
 * The JSON half of show.h, for it alone: each function writes one object and a
 * line feed to standard output. Fields: agent(8), JSON OUTPUT.
 */
void show_json_download(const struct job_report *r, const struct err *e);
void show_json_locate(const struct job_report *r, bool cloud_allowed,
		      const struct err *e);
void show_json_walk(const struct ask_walk *w, bool with_tls,
		    const struct err *e);
void show_json_diagnose(const struct job_report *r, const char *verdict,
			const struct err *e);
/* problems: NULL = --cache list. */
void show_json_cache(const struct cache_item *items, char *const *problems,
		     size_t count, const struct err *e);
void show_json_cache_change(const char *verb, unsigned removed, uint64_t bytes,
			    const struct err *e);
void show_json_config(const struct settings *s, const char *policy,
		      const struct deployment_list *deployments,
		      struct span problems, const struct err *e);

#endif
