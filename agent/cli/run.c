#include "agent/cli/run.h"

#include "agent/cli/show.h"
#include "agent/cli/verbs.h"
#include "agent/keeper/ask.h"
#include "common/clock.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/own.h"
#include "common/sandbox.h"
#include "common/signals.h"
#include "common/url.h"
#include "policy/value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef AGENT_VERSION
#define AGENT_VERSION "0.1"
#endif
#define CONFIG_PATH "/etc/cloud-dp-agent/agent.conf"
#define LOG_MODE 0750

/* What a verb needs before it can do anything. */
enum {
	NEEDS_CONTENT = 1 << 0, /* its object is a CONTENT */
	NEEDS_TARGET = 1 << 1,  /* its object is a host or URL */
	NEEDS_POLICY = 1 << 2,
	/* It writes log files. The others only ask, and leave nothing behind. */
	NEEDS_LOG = 1 << 3,
};

static const struct {
	void (*run)(struct verbs_run *r);
	unsigned needs;
} verbs[] = {
	[VERB_DOWNLOAD] = { verbs_download,
			    NEEDS_CONTENT | NEEDS_POLICY | NEEDS_LOG },
	[VERB_LOCATE] = { verbs_locate,
			  NEEDS_CONTENT | NEEDS_POLICY | NEEDS_LOG },
	[VERB_DIAGNOSE] = { verbs_diagnose, NEEDS_CONTENT | NEEDS_POLICY },
	[VERB_REPLAY] = { verbs_locate, 0 },
	[VERB_RESOLVE] = { verbs_walk, NEEDS_TARGET },
	[VERB_VERIFY_SERVER] = { verbs_walk, NEEDS_TARGET },
	[VERB_CHECK_CHAIN] = { verbs_check_chain, 0 },
	[VERB_CACHE] = { verbs_cache, NEEDS_LOG },
	[VERB_CHECK_CONFIG] = { verbs_check_config, NEEDS_POLICY },
	[VERB_HELP] = { NULL, 0 },
};

/* The one place that looks at the environment. */
static const char *environment(const char *name)
{
	return getenv(name);
}

static bool may_colour(int fd)
{
	const char *no = environment("NO_COLOR"), *term = environment("TERM");
	return isatty(fd) && (no == NULL || no[0] == '\0') && term &&
	       strcmp(term, "dumb") != 0;
}

/* --- what the words mean -------------------------------------------------- */

static enum err_code read_time(const char *text, int64_t *out, struct err *e)
{
	uint64_t epoch;
	if (value_number(span_of(text), &epoch)) {
		*out = (int64_t)epoch;
		return ERR_OK;
	}
	if (clock_parse_rfc3339(text, out) == 0 && *out >= 0)
		return ERR_OK;
	return err_set(e, ERR_USAGE, "--at %.60s: must be seconds since 1970 or a "
		       "time as 2026-11-22T00:00:00Z", text);
}

static enum err_code check_from(const struct options *o, struct err *e)
{
	char host[WIRE_NAME + 1];
	uint16_t port;
	bool is_tls, is_cloud = strcmp(o->from, "cloud") == 0;
	bool is_walk = o->verb == VERB_RESOLVE || o->verb == VERB_VERIFY_SERVER;
	if (is_cloud || (!is_walk && strcmp(o->from, "on-prem") == 0))
		return ERR_OK;
	if (is_walk)
		return err_set(e, ERR_USAGE, "--from %.100s: with %s it can only "
			       "be cloud", o->from, options_word(o->verb));
	if (strstr(o->from, "://") ||
	    ask_parse_target(o->from, host, &port, &is_tls, e) != ERR_OK)
		return err_set(e, ERR_USAGE, "--from %.100s: must be on-prem, cloud "
			       "or a host", o->from);
	return ERR_OK;
}

static enum err_code check_name(const char *name, struct err *e)
{
	struct span s = span_of(name);
	if (s.len <= WIRE_NAME && (url_is_hostname(s) || url_is_ip(s)))
		return ERR_OK;
	return err_set(e, ERR_USAGE, "--name %.100s: must be a host name or an "
		       "address", name);
}

/* The CONTENT of the command line, wherever the verb has it; NULL = none. */
static const char *content_of(const struct options *o)
{
	if (verbs[o->verb].needs & NEEDS_CONTENT)
		return o->object;
	return o->verb == VERB_REPLAY || o->verb == VERB_CACHE ? o->second : NULL;
}

/* Everything that is wrong with the command line by itself. */
static enum err_code read_words(struct verbs_run *r, struct err *e)
{
	const struct options *o = &r->options;
	const char *content = content_of(o);
	char host[WIRE_NAME + 1];
	uint16_t port;
	bool is_tls;
	r->at_s = INT64_MIN;
	if ((content && content_parse(content, &r->content, e) != ERR_OK) ||
	    (o->from && check_from(o, e) != ERR_OK) ||
	    (o->name && check_name(o->name, e) != ERR_OK) ||
	    (o->at && read_time(o->at, &r->at_s, e) != ERR_OK))
		return e->code;
	if (o->hash && digest_parse(o->hash, r->hash, e) != ERR_OK)
		return err_prefix(e, "--hash");
	if (verbs[o->verb].needs & NEEDS_TARGET)
		return ask_parse_target(o->object, host, &port, &is_tls, e);
	return ERR_OK;
}

/* --- settings, log, policy ------------------------------------------------ */

static enum err_code load_settings(struct verbs_run *r, struct err *e)
{
	const struct options *o = &r->options;
	struct settings_input in = {
		.path = o->config ? o->config : CONFIG_PATH,
		.path_must_exist = o->config != NULL,
		.overrides = o->sets,
		.override_count = o->set_count,
		.environment = environment,
	};
	return settings_load(&in, &r->settings, &r->problems, e);
}

/* Did the administrator set it, or is it what we are born with? */
static bool is_default(const struct settings *s, const char *section,
		       const char *key)
{
	size_t i = schema_find(settings_rows, settings_row_count, section, key);
	return i < s->origin_count && strcmp(s->origins[i], "default") == 0;
}

static void open_log(const struct verbs_run *r, int *log_fd)
{
	const struct options *o = &r->options;
	const char *folder = r->settings.log_directory;
	struct err e = { 0 };
	struct log_options log = {
		.stderr_level = o->quiet   ? LOG_ERROR :
				o->verbose ? LOG_DEBUG :
					     LOG_WARNING,
		.file_level = (enum log_level)r->settings.log_level,
		.colour = may_colour(STDERR_FILENO),
		.dir_fd = -1,
	};
	log_open(&log);
	if (!(verbs[o->verb].needs & NEEDS_LOG) || folder == NULL || !folder[0])
		return;
	log.dir_fd = *log_fd = fs_open_root(folder, LOG_MODE, &e);
	if (log.dir_fd >= 0)
		log_open(&log);
	/* An ordinary user cannot write to /var/log, and need not hear it. */
	else if (is_default(&r->settings, "log", "directory") && geteuid() != 0)
		log_debug("agent", "no log files: %s", e.text);
	else
		log_warning("agent", "no log files: %s", e.text);
}

static bool needs_policy(const struct options *o)
{
	if (o->verb == VERB_REPLAY)
		return o->second != NULL;
	if (o->verb == VERB_CACHE)
		return strcmp(o->object, "verify") == 0;
	return verbs[o->verb].needs & NEEDS_POLICY;
}

static enum err_code load_policy(struct verbs_run *r, struct err *e)
{
	const char *named = r->options.policy;
	r->policy_source = named ? named : r->settings.policy_source;
	if (r->policy_source == NULL)
		return ERR_OK; /* no memory for settings */
	struct stat st;
	bool is_folder = stat(r->policy_source, &st) == 0 && S_ISDIR(st.st_mode);
	if (r->settings.policy_signer && r->settings.policy_signer[0] && !is_folder)
		return err_set(e, ERR_POLICY,
			       "%s: [policy] signer asks for a signed policy, and "
			       "this version cannot check signatures; a folder that "
			       "only root can write to needs none",
			       r->policy_source);
	return deployment_load(r->policy_source,
			       named || !is_default(&r->settings, "policy",
						    "source"),
			       &r->policy, &r->problems, e);
}

/* All problems, each a line as compilers write it. */
static void tell_problems(const struct verbs_run *r)
{
	struct span rest = buf_as_span(&r->problems), line;
	const char *end = memchr(rest.at, '\n', rest.len);
	bool is_one = end && end + 1 == rest.at + rest.len;
	/* One alone stands in the error itself. */
	if (is_one && r->e.code != ERR_OK)
		return;
	fflush(stdout);
	while (span_split(&rest, '\n', &line)) {
		autobuf text = { 0 };
		log_escape(line, 0, &text);
		fprintf(stderr, "%s\n", text.at ? text.at : "");
	}
}

/* --- all together --------------------------------------------------------- */

static void prepare(struct verbs_run *r, int *log_fd)
{
	if (signals_open(&r->e) != ERR_OK || sandbox_enter_keeper(&r->e) != ERR_OK)
		return;
	/* What went well may have left a word behind in e. */
	if (load_settings(r, &r->e) == ERR_OK)
		r->e = (struct err){ 0 };
	open_log(r, log_fd);
	/* --check-config wants all problems of one run. */
	bool is_check = r->options.verb == VERB_CHECK_CONFIG;
	if (!needs_policy(&r->options) || (r->e.code != ERR_OK && !is_check))
		return;
	struct err e = { 0 };
	if (load_policy(r, &e) != ERR_OK && r->e.code == ERR_OK)
		r->e = e;
}

static void print_text(void (*write)(struct buf *out))
{
	autobuf text = { 0 };
	write(&text);
	fputs(text.at ? text.at : "", stdout);
}

static void run_verb(struct verbs_run *r)
{
	const struct options *o = &r->options;
	autofd log_fd = -1;
	if (o->verb == VERB_VERSION) {
		puts("agent " AGENT_VERSION);
	} else if (o->verb == VERB_HELP) {
		print_text(o->object ? options_completion : options_help);
	} else if (options_is_service(o->verb)) {
		err_set(&r->e, ERR_USAGE, "this verb belongs to the service, which "
			"is not part of this version");
	} else if (read_words(r, &r->e) == ERR_OK) {
		prepare(r, &log_fd);
		verbs[o->verb].run(r);
		tell_problems(r);
		log_close();
	}
}

/* A result that nobody got is none. */
static void check_output(struct err *e)
{
	bool is_bad = fflush(stdout) != 0 || ferror(stdout);
	if (is_bad && e->code == ERR_OK)
		err_set(e, ERR_INTERNAL, "cannot write to standard output: %m");
}

int run_cli(int argc, char **argv)
{
	struct verbs_run r = { 0 };
	struct show_style style = { .colour_out = may_colour(STDOUT_FILENO),
				    .colour_err = may_colour(STDERR_FILENO) };
	bool is_parsed = options_parse(argc, argv, &r.options, &r.e) == ERR_OK;
	style.is_quiet = r.options.quiet;
	show_open(&style);
	if (is_parsed)
		run_verb(&r);
	check_output(&r.e);
	show_error(is_parsed ? options_word(r.options.verb) : NULL,
		   is_parsed ? r.options.object : NULL, &r.e);
	int status = err_exit(r.e.code);
	deployment_list_free(&r.policy);
	settings_free(&r.settings);
	buf_free(&r.problems);
	options_free(&r.options);
	return status;
}
