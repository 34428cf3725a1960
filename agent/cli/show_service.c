#include "agent/cli/show_service.h"

#include "agent/cli/show.h"
#include "agent/cli/words.h"
#include "common/clock.h"
#include "common/jsonout.h"
#include "common/log.h"
#include "common/own.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOMENT_SIZE (CLOCK_RFC3339_SIZE + WORDS_SIZE + 4)

/* --- fields --------------------------------------------------------------- */

/* A text of the answer, fit for a terminal; "" where there is none. It lives as
 * long as the answer. */
static const char *text(const json_t *o, const char *key)
{
	json_t *value = json_object_get(o, key);
	if (!json_is_string(value))
		return "";
	autofree char *clean = log_clean(json_string_value(value));
	if (clean == NULL)
		return "";
	/* What is clean already stays where it is: somebody may be reading it. */
	if (strcmp(clean, json_string_value(value)) != 0 &&
	    json_string_set(value, clean) != 0)
		return "";
	return json_string_value(value);
}

static uint64_t number(const json_t *o, const char *key)
{
	json_int_t value = json_integer_value(json_object_get(o, key));
	return value < 0 ? 0 : (uint64_t)value;
}

static bool is_true(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

static const json_t *object(const json_t *o, const char *key)
{
	const json_t *value = json_object_get(o, key);
	return json_is_object(value) ? value : NULL;
}

/* "2026-11-22T10:00:00Z (in 3 h 12 min)"; "" where there is no such time. */
static const char *moment(const json_t *o, const char *key, char out[MOMENT_SIZE])
{
	const char *at = text(o, key);
	char away[WORDS_SIZE];
	int64_t wall_s;
	out[0] = '\0';
	if (clock_parse_rfc3339(at, &wall_s) == 0)
		snprintf(out, MOMENT_SIZE, "%.*s (%s)", CLOCK_RFC3339_SIZE, at,
			 words_away(wall_s, clock_wall_s(), away));
	return out;
}

/* "ABC00042.3" */
static const char *name_of(const json_t *o, char out[CONTENT_NAME_SIZE])
{
	uint64_t version = number(o, "version");
	snprintf(out, CONTENT_NAME_SIZE, "%s", text(o, "content"));
	size_t len = strlen(out);
	if (version)
		snprintf(out + len, CONTENT_NAME_SIZE - len, ".%" PRIu64, version);
	return out;
}

/* "dp01 (on-prem)" */
static void add_source(struct buf *out, const json_t *o)
{
	buf_print(out, "%s (%s)", text(o, "host"), text(o, "kind"));
}

static void widen(int *width, const char *what)
{
	int len = (int)strlen(what);
	if (len > *width)
		*width = len;
}

/* A line with a label in front, in columns. Nothing where `what` is empty. */
static void print_field(const char *label, const char *what)
{
	if (what[0])
		printf("    %-11s  %s\n", label, what);
}

static void print_moment(const json_t *o, const char *key, const char *label)
{
	char at[MOMENT_SIZE];
	print_field(label, moment(o, key, at));
}

/* --- the answer as a whole ------------------------------------------------ */

static json_t *read_reply(struct span reply, const struct err *e)
{
	json_t *root = json_loadb(reply.at, reply.len, 0, NULL);
	if (!json_is_object(root)) {
		json_decref(root);
		root = json_object();
	}
	json_object_del(root, "exit"); /* of a refusal: it stands in the error */
	if (e->code != ERR_OK || json_object_get(root, "error") == NULL)
		json_object_set_new(root, "error", jsonout_error(e));
	return root;
}

static void show(struct span reply, const struct err *e, bool json,
		 void (*print)(const json_t *root))
{
	json_t *root = read_reply(reply, e);
	if (!json) {
		print(root);
	} else {
		if (json_dumpf(root, stdout, JSON_COMPACT) != 0)
			fputs("{}", stdout); /* no memory */
		fputc('\n', stdout);
	}
	json_decref(root);
}

static void print_note(const json_t *root)
{
	const char *note = text(root, "note");
	if (note[0])
		printf("%s\n", note);
}

/* --- --status ------------------------------------------------------------- */

static void print_service(const json_t *root)
{
	const json_t *service = object(root, "service");
	char since[MOMENT_SIZE], next[MOMENT_SIZE];
	if (service == NULL)
		return;
	if (!is_true(service, "running")) {
		puts("no service is running");
		return;
	}
	printf("service  %srunning%s since %s, process %" PRIu64 "\n",
	       show_colour(SHOW_GREEN), show_colour(SHOW_PLAIN),
	       moment(service, "since", since), number(service, "pid"));
	if (is_true(service, "polling"))
		puts("         polls policy now");
	else if (moment(service, "next_poll", next)[0])
		printf("         next poll %s\n", next);
}

static void print_policy(const json_t *root)
{
	const json_t *policy = object(root, "policy");
	const json_t *error = object(policy, "error");
	char last[MOMENT_SIZE], good[MOMENT_SIZE];
	if (policy == NULL)
		return;
	uint64_t count = number(policy, "deployments");
	printf("policy   %s: %" PRIu64 " deployment%s\n", text(policy, "source"), count,
	       words_plural(count));
	if (moment(policy, "last_poll", last)[0])
		printf("         last poll %s\n", last);
	if (error == NULL)
		return;
	printf("         %sfailed:%s %s\n", show_colour(SHOW_RED),
	       show_colour(SHOW_PLAIN), text(error, "text"));
	if (moment(policy, "last_good_poll", good)[0])
		printf("         last good poll %s\n", good);
}

/* "transfer from dp01, 47.2 MiB of 104.9 MiB" */
static void add_progress(struct buf *out, const json_t *progress)
{
	char done[WORDS_SIZE], total[WORDS_SIZE];
	const char *host = text(progress, "host");
	uint64_t bytes = number(progress, "bytes_total");
	buf_text(out, text(progress, "step"));
	if (host[0])
		buf_print(out, ", %s", host);
	if (bytes)
		buf_print(out, ", %s of %s",
			  words_bytes(number(progress, "bytes_done"), done),
			  words_bytes(bytes, total));
}

/* The word on a job that tells most: how far, since when, or when. */
static void add_when(struct buf *out, const json_t *job)
{
	char at[MOMENT_SIZE];
	const json_t *progress = object(job, "progress");
	if (progress)
		add_progress(out, progress);
	else if (moment(job, "arrived", at)[0])
		buf_print(out, "since %s", at);
	else if (moment(job, "next_try", at)[0] || moment(job, "due", at)[0])
		buf_text(out, at);
}

/* "failed 2 times, last 2026-11-22T10:00:00Z (3 min ago): no source ..." */
static void add_failures(struct buf *out, const json_t *job)
{
	const json_t *last = object(job, "last"), *error = object(last, "error");
	uint64_t tries = number(job, "tries");
	char at[MOMENT_SIZE];
	if (error == NULL)
		return;
	buf_text(out, "failed");
	if (tries > 1)
		buf_print(out, " %" PRIu64 " times, last", tries);
	buf_print(out, " %s: %s", moment(last, "time", at), text(error, "text"));
}

static const char *state_colour(const char *state)
{
	if (strcmp(state, "here") == 0)
		return show_colour(SHOW_GREEN);
	if (strcmp(state, "running") == 0)
		return show_colour(SHOW_BOLD);
	return strcmp(state, "no hash") == 0 ? show_colour(SHOW_RED) : "";
}

struct widths {
	int name, state;
};

static void print_row(const json_t *job, const struct widths *w)
{
	char name[CONTENT_NAME_SIZE];
	autobuf when = { 0 }, failures = { 0 };
	const char *state = text(job, "state"), *title = text(job, "name");
	const char *colour = state_colour(state);
	bool is_quiet_state = object(job, "progress") || text(job, "arrived")[0];
	add_when(&when, job);
	printf("%-*s  %s%-*s%s  %s%s%s\n", w->name, name_of(job, name), colour,
	       w->state, state, colour[0] ? show_colour(SHOW_PLAIN) : "",
	       when.at ? when.at : "", when.len && title[0] ? "  " : "", title);
	add_failures(&failures, job);
	if (!is_quiet_state && text(job, "reason")[0])
		printf("    %s\n", text(job, "reason"));
	if (failures.len)
		printf("    %s\n", failures.at);
}

static void print_rows(const json_t *jobs)
{
	char name[CONTENT_NAME_SIZE];
	struct widths w = { 7, 5 };
	size_t i;
	json_t *job;
	if (json_array_size(jobs) == 0)
		return;
	json_array_foreach(jobs, i, job) {
		widen(&w.name, name_of(job, name));
		widen(&w.state, text(job, "state"));
	}
	printf("\n%s%-*s  %-*s  WHEN, NAME%s\n", show_colour(SHOW_BOLD), w.name,
	       "CONTENT", w.state, "STATE", show_colour(SHOW_PLAIN));
	json_array_foreach(jobs, i, job)
		print_row(job, &w);
}

static void print_job(const json_t *job)
{
	char name[CONTENT_NAME_SIZE];
	autobuf progress = { 0 }, failures = { 0 }, policy = { 0 };
	const char *state = text(job, "state"), *purpose = text(job, "purpose");
	printf("\n%s%s%s  %s\n", show_colour(SHOW_BOLD), name_of(job, name),
	       show_colour(SHOW_PLAIN), text(job, "name"));
	if (object(job, "progress"))
		add_progress(&progress, object(job, "progress"));
	if (purpose[0])
		buf_print(&policy, "%s, priority %s, deployment %s", purpose,
			  text(job, "priority"), text(job, "deployment"));
	add_failures(&failures, job);
	print_field("state", state);
	print_field("reason", text(job, "reason"));
	print_field("progress", progress.at ? progress.at : "");
	print_field("policy", policy.at ? policy.at : "");
	print_moment(job, "available", "available");
	print_moment(job, "deadline", "deadline");
	print_moment(job, "due", "due");
	print_moment(job, "next_try", "next try");
	print_moment(job, "gives_up", "gives up");
	print_field("last", failures.at ? failures.at : "");
	print_moment(job, "arrived", "arrived");
	print_field("path", text(job, "path"));
}

static void print_status(const json_t *root)
{
	print_service(root);
	print_policy(root);
	print_rows(json_object_get(root, "jobs"));
	print_note(root);
}

static void print_status_in_detail(const json_t *root)
{
	const json_t *jobs = json_object_get(root, "jobs");
	size_t i;
	json_t *job;
	print_service(root);
	json_array_foreach(jobs, i, job)
		print_job(job);
	print_note(root);
}

void show_service_status(struct span reply, bool in_detail, const struct err *e,
			 bool json)
{
	show(reply, e, json, in_detail ? print_status_in_detail : print_status);
}

/* --- --why ---------------------------------------------------------------- */

/* "ABC00042.3 came from dp01 (on-prem) 2026-... (3 h ago), fetched by the service" */
static void print_verdict(const json_t *root)
{
	char name[CONTENT_NAME_SIZE], at[MOMENT_SIZE];
	const json_t *from = object(root, "delivered"), *last = object(root, "last");
	autobuf source = { 0 };
	printf("%s%s%s ", show_colour(SHOW_BOLD), name_of(root, name),
	       show_colour(SHOW_PLAIN));
	if (from) {
		bool is_service = strcmp(text(from, "by"), "service") == 0;
		add_source(&source, from);
		printf("came from %s %s, fetched by %s\n", source.at,
		       moment(from, "time", at), is_service ? "the service" : "hand");
	} else if (last) {
		printf("has not come yet\n");
	} else {
		printf("was not tried yet\n");
	}
	print_field("path", text(root, "path"));
	if (object(last, "error"))
		printf("    %slast try%s     %s: %s\n", show_colour(SHOW_RED),
		       show_colour(SHOW_PLAIN), moment(last, "time", at),
		       text(object(last, "error"), "text"));
}

static void print_source(const json_t *s)
{
	autobuf who = { 0 };
	bool is_usable = is_true(s, "usable");
	const char *locality = text(s, "locality");
	add_source(&who, s);
	printf("%4" PRIu64 "  %s: %s%s%s, %s\n", number(s, "rank"), who.at,
	       show_colour(is_usable ? SHOW_GREEN : SHOW_RED),
	       is_usable ? "usable" : "not usable", show_colour(SHOW_PLAIN),
	       text(s, "reason"));
	printf("      %s%s%s\n", text(s, "url"), locality[0] ? "  " : "", locality);
}

static void print_decision(const json_t *root)
{
	char at[MOMENT_SIZE];
	const json_t *locations = json_object_get(root, "locations");
	const json_t *error = object(root, "location_error");
	const char *mp = text(root, "management_point");
	size_t i;
	json_t *source;
	if (!moment(root, "decided", at)[0])
		return;
	printf("\ndecided %s%s%s: %zu source%s\n", at, mp[0] ? ", asked was " : "",
	       mp, json_array_size(locations),
	       words_plural(json_array_size(locations)));
	json_array_foreach(locations, i, source)
		print_source(source);
	if (error)
		printf("    %s\n", text(error, "text"));
}

static void print_attempts(const json_t *root)
{
	const json_t *list = json_object_get(root, "attempts");
	char took[WORDS_SIZE], bytes[WORDS_SIZE];
	size_t i;
	json_t *a;
	if (json_array_size(list) == 0)
		return;
	puts("\nattempts of the last transfer:");
	json_array_foreach(list, i, a) {
		const json_t *error = object(a, "error");
		autobuf who = { 0 };
		add_source(&who, a);
		printf("  %s, %s, %s: %s%s%s\n", who.at,
		       words_time((int64_t)number(a, "duration_ms"), took),
		       words_bytes(number(a, "bytes_received"), bytes),
		       show_colour(error ? SHOW_RED : SHOW_GREEN),
		       error ? text(error, "text") : "delivered",
		       show_colour(SHOW_PLAIN));
	}
}

static void print_hooks(const json_t *root)
{
	const json_t *list = json_object_get(root, "hooks");
	size_t i;
	json_t *hook;
	if (json_array_size(list) == 0)
		return;
	puts("\nprograms that were run with it:");
	json_array_foreach(list, i, hook) {
		json_int_t status =
			json_integer_value(json_object_get(hook, "status"));
		printf("  %s: %s%" JSON_INTEGER_FORMAT "%s%s%s\n",
		       text(hook, "program"), show_colour(status ? SHOW_RED : ""),
		       status, show_colour(status ? SHOW_PLAIN : ""),
		       text(hook, "text")[0] ? ", " : "", text(hook, "text"));
	}
}

static void print_next(const json_t *root)
{
	char at[MOMENT_SIZE];
	const char *state = text(root, "state");
	if (state[0] == '\0')
		return;
	printf("\nnow: %s%s%s\n", state, text(root, "reason")[0] ? ", " : "",
	       text(root, "reason"));
	if (moment(root, "next_try", at)[0])
		printf("next try %s\n", at);
	if (moment(root, "gives_up", at)[0])
		printf("gives up %s\n", at);
	if (moment(root, "deadline", at)[0])
		printf("deadline %s\n", at);
}

static void print_why(const json_t *root)
{
	if (text(root, "content")[0] && text(root, "note")[0] == '\0') {
		print_verdict(root);
		print_decision(root);
		print_attempts(root);
		print_hooks(root);
		print_next(root);
	}
	print_note(root);
}

void show_service_why(struct span reply, const struct err *e, bool json)
{
	show(reply, e, json, print_why);
}

/* --- --history ------------------------------------------------------------ */

static void print_transfer(const json_t *t, int width)
{
	char name[CONTENT_NAME_SIZE], bytes[WORDS_SIZE], took[WORDS_SIZE];
	const json_t *error = object(t, "error"), *from = object(t, "source");
	autobuf source = { 0 };
	if (from)
		add_source(&source, from);
	printf("%s  %-*s  %s%-10s%s  %10s  %8s  %-7s  %s\n", text(t, "time"), width,
	       name_of(t, name), show_colour(error ? SHOW_RED : SHOW_GREEN),
	       text(t, "result"), show_colour(SHOW_PLAIN),
	       words_bytes(number(t, "bytes_received"), bytes),
	       words_time((int64_t)number(t, "duration_ms"), took), text(t, "by"),
	       source.at ? source.at : "-");
	if (error)
		printf("    %s\n", text(error, "text"));
}

static void print_history(const json_t *root)
{
	const json_t *list = json_object_get(root, "transfers");
	char name[CONTENT_NAME_SIZE];
	int width = 7;
	size_t i;
	json_t *t;
	json_array_foreach(list, i, t)
		widen(&width, name_of(t, name));
	if (json_array_size(list))
		printf("%s%-20s  %-*s  %-10s  %10s  %8s  %-7s  SOURCE%s\n",
		       show_colour(SHOW_BOLD), "TIME", width, "CONTENT", "RESULT",
		       "RECEIVED", "TOOK", "BY", show_colour(SHOW_PLAIN));
	else if (list)
		puts("no transfer is recorded");
	json_array_foreach(list, i, t)
		print_transfer(t, width);
}

void show_service_history(struct span reply, const struct err *e, bool json)
{
	show(reply, e, json, print_history);
}

/* --- --poll, --stop ------------------------------------------------------- */

void show_service_done(const char *action, const char *what, const struct err *e,
		       bool json)
{
	if (json) {
		json_t *o = json_object();
		json_object_set_new(o, "action", jsonout_text(action));
		json_object_set_new(o, "error", jsonout_error(e));
		json_dumpf(o, stdout, JSON_COMPACT);
		fputc('\n', stdout);
		json_decref(o);
	} else if (e->code == ERR_OK && !show_is_quiet()) {
		puts(what);
	}
}
