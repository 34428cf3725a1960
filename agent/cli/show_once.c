#include "agent/cli/show_once.h"

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

static const struct once_job *find_job(const struct once_report *r, const char *name)
{
	for (size_t i = 0; i < r->count; i++)
		if (strcmp(r->jobs[i].name, name) == 0)
			return &r->jobs[i];
	return NULL;
}

/* When it is due, for what is not due now; 0 = it cannot be said. */
static int64_t due_of(const struct plan_item *item)
{
	const struct due_answer *a = &item->answer;
	return a->state == DUE_LATER && a->at_s != INT64_MAX ? a->at_s : 0;
}

/* --- JSON ----------------------------------------------------------------- */

static void put(json_t *o, const char *key, json_t *value)
{
	json_object_set_new(o, key, value);
}

static json_t *job_of(const struct plan_item *item, const struct once_job *job)
{
	json_t *o = json_object();
	bool was_run = job && job->was_run;
	put(o, "content", jsonout_text(item->deployment->content.id));
	put(o, "version", jsonout_number(item->deployment->content.version));
	put(o, "state", json_string(plan_word(item)));
	put(o, "due", jsonout_moment(due_of(item)));
	put(o, "reason", jsonout_text_or_null(item->answer.reason));
	put(o, "result", was_run ? json_string(job_result_word(job->report.result)) :
				   json_null());
	put(o, "path", was_run ? jsonout_text_or_null(job->report.path) : json_null());
	put(o, "bytes_received",
	    jsonout_number(was_run ? job->report.figures.bytes_received : 0));
	put(o, "error", job ? jsonout_error(&job->error) : json_null());
	return o;
}

static void show_json(const struct once_report *r, const struct err *e)
{
	json_t *o = json_object(), *jobs = json_array(), *problems = json_array();
	struct span rest, line;
	for (size_t i = 0; i < r->plan.count; i++)
		json_array_append_new(jobs,
				      job_of(&r->plan.items[i],
					     find_job(r, r->plan.items[i].name)));
	for (rest = buf_as_span(&r->problems); span_split(&rest, '\n', &line);)
		json_array_append_new(problems, jsonout_span(line));
	put(o, "jobs", jobs);
	put(o, "problems", problems);
	put(o, "error", jsonout_error(e));
	if (json_dumpf(o, stdout, JSON_COMPACT) != 0)
		fputs("{}", stdout); /* no memory */
	fputc('\n', stdout);
	json_decref(o);
}

/* --- text ----------------------------------------------------------------- */

static void print_done(const struct once_job *job)
{
	char bytes[WORDS_SIZE], time[WORDS_SIZE];
	const struct job_report *r = &job->report;
	bool is_bad = job->error.code != ERR_OK;
	autofree char *path = log_clean(r->path ? r->path : "");
	autofree char *why = log_clean(job->error.text);
	printf("%s%s%s: ", show_colour(SHOW_BOLD), job->name, show_colour(SHOW_PLAIN));
	printf("%s%s%s", show_colour(is_bad ? SHOW_RED : SHOW_GREEN),
	       is_bad ? "failed" : job_result_word(r->result), show_colour(SHOW_PLAIN));
	if (is_bad)
		printf(", %s\n", why ? why : "");
	else if (r->result == JOB_PLANNED || path == NULL || !path[0])
		printf("\n");
	else
		printf(", %s in %s, %s\n", words_bytes(r->figures.bytes_total, bytes),
		       words_time(r->duration_ms, time), path);
}

static void print_waiting(const struct plan_item *item)
{
	char at[CLOCK_RFC3339_SIZE], away[WORDS_SIZE];
	int64_t due_s = due_of(item);
	autofree char *reason = log_clean(item->answer.reason);
	printf("%s: %s", item->name, plan_word(item));
	if (due_s) {
		clock_rfc3339(due_s, at);
		printf(" until %s (%s)", at,
		       words_away(due_s, clock_wall_s(), away));
	}
	printf("%s%s\n", reason && reason[0] ? ", " : "", reason ? reason : "");
}

static void show_text(const struct once_report *r, bool is_dry_run)
{
	size_t failed = 0, due = r->count; /* those that were run, in any case */
	for (size_t i = 0; i < r->count; i++) {
		print_done(&r->jobs[i]);
		failed += r->jobs[i].error.code != ERR_OK;
	}
	if (show_is_quiet())
		return;
	for (size_t i = 0; i < r->plan.count; i++)
		if (find_job(r, r->plan.items[i].name) == NULL) {
			print_waiting(&r->plan.items[i]);
			due += r->plan.items[i].answer.state == DUE_NOW;
		}
	printf("%zu deployment%s, %zu due, %zu failed%s\n", r->plan.count,
	       words_plural(r->plan.count), due, failed,
	       is_dry_run ? "; nothing was transferred" : "");
}

void show_once(const struct once_report *r, bool is_dry_run, const struct err *e,
	       bool json)
{
	if (json)
		show_json(r, e);
	else
		show_text(r, is_dry_run);
}
