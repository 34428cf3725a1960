#include "agent/cli/verbs_service.h"

#include "agent/cli/client.h"
#include "agent/cli/progress.h"
#include "agent/cli/show_once.h"
#include "agent/cli/show_service.h"
#include "agent/keeper/daemon.h"
#include "agent/keeper/once.h"
#include "agent/keeper/poll.h"
#include "agent/keeper/status.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/own.h"
#include "policy/value.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ASK_MS 30000 /* with 10,000 deployments the service thinks a moment */

/* With a wrong command line nothing goes to standard output. */
static bool is_shown(const struct verbs_run *r)
{
	return err_exit(r->e.code) != CLASS_USAGE;
}

/* What went well on the second try may have left a word behind in r->e. */
static void settle(struct verbs_run *r, enum err_code rc)
{
	if (rc == ERR_OK)
		r->e = (struct err){ 0 };
}

/* --- --daemon ------------------------------------------------------------- */

static enum err_code load_again(void *arg, struct settings *out,
				struct buf *problems, struct err *e)
{
	const struct verbs_run *r = arg;
	return r->host->load(r, out, problems, e);
}

static void on_settings(void *arg, const struct settings *s)
{
	const struct verbs_run *r = arg;
	r->host->open_log(r, s);
}

static int on_download(void *arg, int argc, char **argv)
{
	const struct verbs_run *r = arg;
	return r->host->run_handed(r, argc, argv);
}

/* A variable that is for us alone: whom we start would speak in our name. Owned. */
static char *take_variable(const struct verbs_run *r, const char *name)
{
	const char *value = r->host->environment(name);
	char *copy = value && value[0] ? strdup(value) : NULL;
	unsetenv(name);
	return copy;
}

/* sd_watchdog_enabled(3): the watchdog is ours where no pid is named, or ours. */
static int64_t take_watchdog(const struct verbs_run *r)
{
	autofree char *time = take_variable(r, "WATCHDOG_USEC");
	autofree char *whose = take_variable(r, "WATCHDOG_PID");
	uint64_t us = 0, pid = 0;
	if (time == NULL || !value_number(span_of(time), &us) || us > INT64_MAX)
		return 0;
	if (whose && (!value_number(span_of(whose), &pid) || pid != (uint64_t)getpid()))
		return 0;
	return (int64_t)us;
}

void verbs_daemon(struct verbs_run *r)
{
	if (r->e.code != ERR_OK)
		return;
	autofree char *notify = take_variable(r, "NOTIFY_SOCKET");
	struct daemon_options o = {
		.settings = r->settings,
		.policy = r->options.policy,
		.policy_must_exist = r->policy_must_exist,
		.load = load_again,
		.on_settings = on_settings,
		.download = on_download,
		.arg = r,
		.notify_socket = notify,
		.watchdog_us = take_watchdog(r),
	};
	r->settings = (struct settings){ 0 }; /* taken */
	settle(r, daemon_run(&o, &r->e));
}

/* --- --once --------------------------------------------------------------- */

void verbs_once(struct verbs_run *r)
{
	const struct options *o = &r->options;
	struct once_report report = { 0 };
	if (r->e.code == ERR_OK) {
		struct progress *progress = progress_open(o->progress, o->quiet);
		struct once_options once = {
			.settings = &r->settings,
			.policy = o->policy,
			.policy_must_exist = r->policy_must_exist,
			.is_dry_run = o->dry_run,
			.on_progress = progress_show,
			.arg = progress,
		};
		settle(r, once_run(&once, &report, &r->e));
		progress_close(progress);
	}
	if (is_shown(r))
		show_once(&report, o->dry_run, &r->e, o->json);
	buf_span(&r->problems, buf_as_span(&report.problems));
	once_report_free(&report);
}

/* --- --status, --why, --history ------------------------------------------- */

static const struct content *content_of(const struct verbs_run *r)
{
	return r->content.id[0] ? &r->content : NULL;
}

static enum err_code ask_service(struct verbs_run *r, struct buf *reply,
				 bool *is_there, struct err *e)
{
	enum control_verb verb = r->options.verb == VERB_STATUS ? CONTROL_STATUS :
				 r->options.verb == VERB_WHY	? CONTROL_WHY :
								  CONTROL_HISTORY;
	autobuf request = { 0 };
	order_print(verb, content_of(r), NULL, &request);
	struct client_question q = { .path = r->settings.control_socket,
				     .request = buf_as_span(&request),
				     .wait_ms = ASK_MS };
	enum err_code rc = client_ask(&q, reply, e);
	*is_there = q.is_there;
	return rc;
}

/* Opening it would make it: somebody who looks on a fresh machine leaves nothing
 * behind. NULL with ERR_OK: there is none. */
static enum err_code open_record(const struct settings *s, struct record **out,
				 struct err *e)
{
	autobuf path = { 0 };
	struct stat st;
	*out = NULL;
	buf_print(&path, "%s/state.db", s->state_directory);
	if (path.at == NULL || stat(path.at, &st) == 0) {
		*out = record_open(s->state_directory, e);
		return *out ? ERR_OK : e->code;
	}
	if (errno == ENOENT || errno == ENOTDIR)
		return ERR_OK;
	return err_set(e, ERR_FOLDER, "read %.200s: %m", path.at);
}

/* What policy has now, as the service would see it. Of its problems the error names
 * the first; --check-config is for the rest. */
static enum err_code make_plan(const struct verbs_run *r, struct record *record,
			       struct plan *plan, struct err *e)
{
	struct deployment_list policy = { 0 };
	autobuf problems = { 0 };
	struct err own = { 0 };
	enum err_code rc = poll_load(&r->settings, r->options.policy,
				     r->policy_must_exist, &policy, &problems, e);
	if (rc == ERR_NOMEM || plan_make(plan, &r->settings, &policy, record, true,
					 clock_wall_s(), &own) != ERR_OK) {
		deployment_list_free(&policy);
		return rc != ERR_OK ? rc : err_set(e, own.code, "%s", own.text);
	}
	return rc;
}

static enum err_code print_alone(struct verbs_run *r, struct record *record,
				 struct buf *reply, struct err *e)
{
	struct settings s = r->settings; /* shallow: for the name of the policy */
	struct plan plan = { 0 };
	struct err printing = { 0 };
	enum options_verb verb = r->options.verb;
	enum err_code rc = verb == VERB_HISTORY ? ERR_OK :
						  make_plan(r, record, &plan, e);
	autofree char *policy = strdup(r->options.policy ? r->options.policy :
				       s.policy_source);
	s.policy_source = policy;
	enum err_code printed =
		verb == VERB_HISTORY ? status_print_history(record, reply, &printing) :
		verb == VERB_WHY ?
			status_print_why(&plan, record, content_of(r), reply,
					 &printing) :
			status_print(&s, &plan, NULL, record, content_of(r),
				     clock_wall_s(), reply, &printing);
	plan_free(&plan);
	if (printed == ERR_OK)
		return rc;
	buf_clear(reply); /* half an object is none */
	return err_set(e, printed, "%s", printing.text);
}

/*
 * No service answers. What cannot be read is said, and the rest given: policy is
 * often readable where the state is not.
 */
static enum err_code read_alone(struct verbs_run *r, struct buf *reply,
				const struct err *asked, struct err *e)
{
	struct record *record;
	struct err state = { 0 };
	enum err_code opened = open_record(&r->settings, &record, &state);
	enum err_code rc = print_alone(r, record, reply, e);
	record_close(record);
	if (opened == ERR_OK && asked->code == ERR_NOT_ALLOWED)
		log_warning("agent", "%s: this is what its state tells", asked->text);
	if (opened == ERR_OK)
		return rc;
	return asked->code == ERR_NOT_ALLOWED ?
		       err_set(e, opened, "%s; nor is its state for this user: %s",
			       asked->text, state.text) :
		       err_set(e, opened, "no service runs, and its state is not for "
			       "this user: %s", state.text);
}

static void answer(struct verbs_run *r, struct buf *reply)
{
	bool is_there = false;
	struct err asked = { 0 };
	enum err_code rc = ask_service(r, reply, &is_there, &asked);
	if (rc == ERR_OK) {
		struct client_result result;
		client_read_result(buf_as_span(reply), &result, &asked);
		r->e = result.error;
	} else if (rc == ERR_SIGINT || rc == ERR_SIGTERM) {
		r->e = asked;
	} else {
		buf_clear(reply);
		settle(r, read_alone(r, reply, &asked, &r->e));
		if (is_there) /* and says nothing: that is the greater trouble */
			r->e = asked;
	}
}

void verbs_status(struct verbs_run *r)
{
	bool json = r->options.json;
	autobuf reply = { .max = STATUS_MAX };
	if (r->e.code == ERR_OK)
		answer(r, &reply);
	if (!is_shown(r))
		return;
	if (r->options.verb == VERB_STATUS)
		show_service_status(buf_as_span(&reply), content_of(r) != NULL, &r->e,
				    json);
	else if (r->options.verb == VERB_WHY)
		show_service_why(buf_as_span(&reply), &r->e, json);
	else
		show_service_history(buf_as_span(&reply), &r->e, json);
}

/* --- --poll, --stop ------------------------------------------------------- */

static void order(struct verbs_run *r, enum control_verb verb, const char *action,
		  const char *done)
{
	bool is_there;
	if (r->e.code == ERR_OK)
		settle(r, client_order(r->settings.control_socket, verb, content_of(r),
				       &is_there, &r->e));
	if (is_shown(r))
		show_service_done(action, done, &r->e, r->options.json);
}

void verbs_poll(struct verbs_run *r)
{
	order(r, CONTROL_POLL, "poll", "policy was polled");
}

void verbs_stop(struct verbs_run *r)
{
	order(r, CONTROL_STOP, "stop", "stopped; the next try goes on from there");
}
