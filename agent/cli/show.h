#ifndef AGENT_CLI_SHOW_H
#define AGENT_CLI_SHOW_H

#include "agent/keeper/ask.h"
#include "agent/keeper/cache.h"
#include "agent/keeper/report.h"

#include <stdbool.h>

/*
 * Results on standard output: text for people, or one JSON object (interface:
 * agent(8), JSON OUTPUT). Whatever others wrote is escaped, secrets masked. An
 * error is also told on standard error by show_error, as the last lines.
 */
struct show_style {
	bool is_quiet;    /* the bare result */
	bool colour_out, colour_err; /* a terminal that may */
};
void show_open(const struct show_style *style);
bool show_is_quiet(void);

/* For modules that show more: a colour of standard output, or "" where nobody can
 * see it. */
#define SHOW_RED "\033[1;31m"
#define SHOW_GREEN "\033[32m"
#define SHOW_BOLD "\033[1m"
#define SHOW_PLAIN "\033[0m"
const char *show_colour(const char *colour);

void show_download(const struct job_report *r, const struct err *e, bool json);
void show_locate(const struct job_report *r, bool cloud_allowed,
		 const struct err *e, bool json);
/* with_tls: of --verify-server and --check-chain; `tls` is null in JSON where
 * none was reached. */
void show_walk(const struct ask_walk *w, bool with_tls, const struct err *e,
	       bool json);
void show_diagnose(const struct job_report *r, const struct err *e, bool json);
void show_cache_list(const struct cache_item *items, size_t count,
		     const struct err *e, bool json);
/* --cache verify: problems[i] "" = good; NULL = not judged, it is partial. */
void show_cache_verify(const struct cache_item *items, char *const *problems,
		       size_t count, const struct err *e, bool json);
void show_cache_change(const char *verb, unsigned removed, uint64_t bytes,
		       const struct err *e, bool json);
/* --check-config. problems: a line each; on standard error as text. policy: the
 * source of the deployments; NULL = not read. */
void show_config(const struct settings *s, const char *policy,
		 const struct deployment_list *deployments,
		 struct span problems, const struct err *e, bool json);

/* "agent: download ABC00042.3: <text>", the step, and what to try next. */
void show_error(const char *verb, const char *object, const struct err *e);
/* Before it: attempts that failed, each with its own error. */
void show_attempts(const struct job_report *r, const struct err *e);

#endif
