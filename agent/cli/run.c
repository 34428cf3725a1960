#include "agent/cli/run.h"

#include "agent/cli/become.h"
#include "agent/cli/show.h"
#include "agent/cli/verbs.h"
#include "agent/cli/verbs_service.h"
#include "agent/keeper/ask.h"
#include "agent/keeper/child.h"
#include "agent/keeper/poll.h"
#include "agent/keeper/record.h"
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
	/* It looks into the agent's own folders, or works on them. */
	NEEDS_FOLDERS = 1 << 4,
};

static const struct {
	void (*run)(struct verbs_run *r);
	unsigned needs;
} verbs[] = {
	[VERB_DOWNLOAD] = { verbs_download,
			    NEEDS_CONTENT | NEEDS_POLICY | NEEDS_LOG | NEEDS_FOLDERS },
	[VERB_LOCATE] = { verbs_locate,
			  NEEDS_CONTENT | NEEDS_POLICY | NEEDS_LOG | NEEDS_FOLDERS },
	[VERB_DIAGNOSE] = { verbs_diagnose,
			    NEEDS_CONTENT | NEEDS_POLICY | NEEDS_FOLDERS },
	[VERB_REPLAY] = { verbs_locate, 0 },
	[VERB_RESOLVE] = { verbs_walk, NEEDS_TARGET },
	[VERB_VERIFY_SERVER] = { verbs_walk, NEEDS_TARGET },
	[VERB_CHECK_CHAIN] = { verbs_check_chain, 0 },
	[VERB_DAEMON] = { verbs_daemon, NEEDS_LOG | NEEDS_FOLDERS },
	[VERB_ONCE] = { verbs_once, NEEDS_LOG | NEEDS_FOLDERS },
	[VERB_STATUS] = { verbs_status, NEEDS_FOLDERS },
	[VERB_WHY] = { verbs_status, NEEDS_CONTENT | NEEDS_FOLDERS },
	[VERB_HISTORY] = { verbs_status, NEEDS_FOLDERS },
	[VERB_POLL] = { verbs_poll, 0 },
	[VERB_STOP] = { verbs_stop, NEEDS_CONTENT },
	[VERB_CACHE] = { verbs_cache, NEEDS_LOG | NEEDS_FOLDERS },
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
	if (o->verb == VERB_STATUS)
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

static enum err_code load_settings(const struct verbs_run *r, struct settings *out,
				   struct buf *problems, struct err *e)
{
	const struct options *o = &r->options;
	struct settings_input in = {
		.path = o->config ? o->config : CONFIG_PATH,
		.path_must_exist = o->config != NULL,
		.overrides = o->sets,
		.override_count = o->set_count,
		.environment = environment,
	};
	return settings_load(&in, out, problems, e);
}

/* Did the administrator set it, or is it what we are born with? */
static bool is_default(const struct settings *s, const char *section,
		       const char *key)
{
	size_t i = schema_find(settings_rows, settings_row_count, section, key);
	return i < s->origin_count && strcmp(s->origins[i], "default") == 0;
}

static int log_fd = -1; /* the folder of the log files, while there are some */

static void close_log(void)
{
	log_close();
	own_close(&log_fd);
	log_fd = -1;
}

static void open_log(const struct verbs_run *r, const struct settings *s)
{
	const struct options *o = &r->options;
	const char *folder = s->log_directory;
	/* The journal has what the service does; a person has asked for a result. */
	bool is_daemon = o->verb == VERB_DAEMON;
	struct err e = { 0 };
	struct log_options log = {
		.stderr_level = o->quiet   ? LOG_ERROR :
				o->verbose ? LOG_DEBUG :
				is_daemon  ? LOG_INFO :
					     LOG_WARNING,
		.file_level = (enum log_level)s->log_level,
		.colour = !is_daemon && may_colour(STDERR_FILENO),
		.dir_fd = -1,
	};
	close_log();
	log_open(&log);
	if (!(verbs[o->verb].needs & NEEDS_LOG) || folder == NULL || !folder[0])
		return;
	log.dir_fd = log_fd = fs_open_root(folder, LOG_MODE, &e);
	if (log.dir_fd >= 0)
		log_open(&log);
	/* An ordinary user cannot write to /var/log, nor root to the service's logs
	 * with --to, and need not hear it. */
	else if ((is_default(s, "log", "directory") && geteuid() != 0) ||
		 record_is_foreign(s->state_directory))
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
	return poll_load(&r->settings, r->policy_source, r->policy_must_exist,
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

static void prepare(struct verbs_run *r)
{
	/* A child of the service has begun all that already. */
	if (r->tell_service == NULL && (signals_open(&r->e) != ERR_OK ||
					sandbox_enter_keeper(&r->e) != ERR_OK))
		return;
	/* What went well may have left a word behind in e. */
	if (load_settings(r, &r->settings, &r->problems, &r->e) == ERR_OK)
		r->e = (struct err){ 0 };
	r->policy_must_exist = r->options.policy ||
			       !is_default(&r->settings, "policy", "source");
	/* With --to it is root's folder that is worked on. */
	if ((verbs[r->options.verb].needs & NEEDS_FOLDERS) && !r->options.to &&
	    become_owner(r->settings.state_directory, &r->e) != ERR_OK)
		return;
	open_log(r, &r->settings);
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
	if (o->verb == VERB_VERSION) {
		puts("agent " AGENT_VERSION);
	} else if (o->verb == VERB_HELP) {
		print_text(o->object ? options_completion : options_help);
	} else if (read_words(r, &r->e) == ERR_OK) {
		prepare(r);
		verbs[o->verb].run(r);
		tell_problems(r);
		close_log();
	}
}

/* A result that nobody got is none. */
static void check_output(struct err *e)
{
	bool is_bad = fflush(stdout) != 0 || ferror(stdout);
	if (is_bad && e->code == ERR_OK)
		err_set(e, ERR_INTERNAL, "cannot write to standard output: %m");
}

/* Everything behind the parsing of the words. Frees r. */
static int run_parsed(struct verbs_run *r)
{
	bool is_parsed = r->e.code == ERR_OK;
	struct show_style style = { .colour_out = may_colour(STDOUT_FILENO),
				    .colour_err = may_colour(STDERR_FILENO) };
	style.is_quiet = r->options.quiet;
	show_open(&style);
	if (is_parsed)
		run_verb(r);
	check_output(&r->e);
	show_error(is_parsed ? options_word(r->options.verb) : NULL,
		   is_parsed ? r->options.object : NULL, &r->e);
	int status = r->is_done && r->e.code == ERR_OK ? r->status :
							 err_exit(r->e.code);
	deployment_list_free(&r->policy);
	settings_free(&r->settings);
	buf_free(&r->problems);
	options_free(&r->options);
	return status;
}

/* --- a download that was handed to the service ---------------------------- */

/* What the asker may say to a service that goes by its own settings. */
static enum err_code check_handed(const struct options *o, struct err *e)
{
	if (o->verb != VERB_DOWNLOAD || o->config || o->policy || o->set_count ||
	    o->to || o->allow_unverified || o->dry_run)
		return err_set(e, ERR_USAGE, "the service downloads into its own "
			       "cache, by its own settings and policy");
	return ERR_OK;
}

static enum err_code take_settings(struct options *o, const struct options *service,
				   struct err *e)
{
	o->config = service->config;
	o->policy = service->policy;
	if (service->set_count == 0)
		return ERR_OK;
	o->sets = calloc(service->set_count, sizeof(*o->sets));
	if (o->sets == NULL)
		return err_set(e, ERR_NOMEM, "no memory for --set");
	memcpy(o->sets, service->sets, service->set_count * sizeof(*o->sets));
	o->set_count = service->set_count;
	return ERR_OK;
}

static const struct verbs_host host;

static int run_handed(const struct verbs_run *service, int argc, char **argv)
{
	static char program[] = "agent";
	struct verbs_run r = { .host = &host, .tell_service = child_report };
	autofree char **words = calloc((size_t)argc + 2, sizeof(*words));
	if (words == NULL)
		return err_exit(ERR_NOMEM);
	words[0] = program;
	memcpy(words + 1, argv, (size_t)argc * sizeof(*words));
	if (options_parse(argc + 1, words, &r.options, &r.e) == ERR_OK &&
	    check_handed(&r.options, &r.e) == ERR_OK &&
	    take_settings(&r.options, &service->options, &r.e) == ERR_OK)
		r.e = (struct err){ 0 };
	return run_parsed(&r);
}

static const struct verbs_host host = {
	.environment = environment,
	.load = load_settings,
	.open_log = open_log,
	.run_handed = run_handed,
};

int run_cli(int argc, char **argv)
{
	struct verbs_run r = { .host = &host };
	if (options_parse(argc, argv, &r.options, &r.e) == ERR_OK)
		r.e = (struct err){ 0 };
	return run_parsed(&r);
}
