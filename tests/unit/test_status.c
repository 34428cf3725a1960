#include "tests/unit/stage.h"
#include "tests/unit/test.h"

#include "agent/keeper/status.h"
#include "common/own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#define NOW 1800000000 /* 2027-01-15T08:00:00Z */
#define TEXT(literal) ((char *)(uintptr_t)(literal))

/* A stage with policy on it, and the answer that was made last. */
struct scene {
	struct stage stage;
	struct plan plan;
	struct buf out;
	json_t *root;
};

static void scene_open(struct scene *s)
{
	*s = (struct scene){ 0 };
	stage_open(&s->stage, NULL);
	s->out = (struct buf){ 0 };
}

static void scene_close(struct scene *s)
{
	json_decref(s->root);
	plan_free(&s->plan);
	buf_free(&s->out);
	stage_close(&s->stage);
}
#define autoscene __attribute__((cleanup(scene_close))) struct scene

/* Takes the policy. */
static void plan_it(struct scene *s, struct deployment_list *policy)
{
	struct err e = { 0 };
	assert_ok(plan_make(&s->plan, &s->stage.settings, policy, s->stage.record,
			    false, NOW, &e));
}

static json_t *parsed(struct scene *s)
{
	json_error_t why;
	json_decref(s->root);
	s->root = json_loadb(s->out.at, s->out.len, JSON_REJECT_DUPLICATES, &why);
	if (s->root == NULL)
		fail_msg("%s: %s", why.text, s->out.at);
	return s->root;
}

static json_t *status(struct scene *s, const struct status_service *service,
		      const struct content *content)
{
	struct err e = { 0 };
	assert_ok(status_print(&s->stage.settings, &s->plan, service, s->stage.record,
			       content, NOW, &s->out, &e));
	return parsed(s);
}

static json_t *why(struct scene *s, const char *name)
{
	struct err e = { 0 };
	struct content c;
	assert_ok(content_parse(name, &c, &e));
	assert_ok(status_print_why(&s->plan, s->stage.record, &c, &s->out, &e));
	return parsed(s);
}

/* The value at "a/b/0/c", as compact text; "(none)". Static. */
static const char *at(const json_t *o, const char *path)
{
	static char text[2048];
	char copy[200], *rest = copy, *word;
	snprintf(copy, sizeof(copy), "%s", path);
	while (o && (word = strsep(&rest, "/")) != NULL)
		o = json_is_array(o) ? json_array_get(o, (size_t)(word[0] - '0')) :
				       json_object_get(o, word);
	autofree char *dumped =
		o ? json_dumps(o, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	snprintf(text, sizeof(text), "%s", dumped ? dumped : "(none)");
	return text;
}

static void assert_keys(const json_t *o, const char *want)
{
	autobuf have = { 0 };
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)o, key, value)
		buf_print(&have, "%s%s", have.len ? " " : "", key);
	assert_string_equal(have.at ? have.at : "", want);
}

static struct deployment *deploy(struct deployment_list *l, const char *name)
{
	struct deployment *d = stage_deploy(l, name, name);
	d->available_s = NOW - 100;
	d->deadline_s = NOW - 50;
	return d;
}

/* One run in the ledger: delivered by dp2 after dp1 failed, or failed. */
static void record_run(struct scene *s, const char *name, bool is_good)
{
	struct err e = { 0 }, result = { 0 };
	struct job_attempt attempts[2] = {
		{ .kind = SOURCE_ON_PREM, .host = TEXT("dp1"),
		  .url = TEXT("http://dp1/x\n"), .duration_ms = 5 },
		{ .kind = SOURCE_CLOUD, .host = TEXT("dp2"),
		  .url = TEXT("https://dp2/?sig=SECRET"), .bytes_received = 70,
		  .duration_ms = 2500 },
	};
	struct source sources[1] = { { .url = TEXT("http://dp1/x"),
				       .locality = TEXT("SUBNET") } };
	struct choose_item items[1] = {
		{ .source = 0, .rank = 1, .kind = SOURCE_ON_PREM, .usable = true,
		  .host = "dp1", .reason = "in the same subnet" },
	};
	struct job_report r = {
		.result = is_good ? JOB_VERIFIED : JOB_FAILED,
		.figures = { .bytes_total = 100, .bytes_received = 70,
			     .bytes_resumed = 30 },
		.duration_ms = 2600,
		.attempts = attempts,
		.attempt_count = is_good ? 2 : 1,
		.delivered = is_good ? 1 : -1,
		.location = { .management_point = TEXT("http://mp01"),
			      .sources = { sources, 1 } },
		.chosen = { .items = items, .count = 1, .usable = 1 },
	};
	assert_ok(content_parse(name, &r.content, &e));
	err_set(&attempts[0].why, ERR_CONNECT, "connect dp1: \x1b[31mrefused");
	if (!is_good)
		result = attempts[0].why;
	assert_ok(ledger_add_run(s->stage.record, &r, &result,
				 is_good ? "service" : "hand", NOW - 10, &e));
}

/* --- status --------------------------------------------------------------- */

TEST(status_print__no_service_no_policy__has_all_fields)
{
	autoscene s;
	scene_open(&s);
	json_t *o = status(&s, NULL, NULL);
	assert_keys(o, "time service policy cache jobs note error");
	assert_string_equal(at(o, "service"),
			    "{\"running\":false,\"pid\":null,\"since\":null,"
			    "\"polling\":false,\"next_poll\":null}");
	assert_string_equal(at(o, "time"), "\"2027-01-15T08:00:00Z\"");
	assert_string_equal(at(o, "policy/last_poll"), "null");
	assert_string_equal(at(o, "policy/deployments"), "0");
	assert_string_equal(at(o, "jobs"), "[]");
	assert_string_equal(at(o, "error"), "null");
	assert_string_equal(at(o, "note"), "null");
}

TEST(status_print__service__is_described)
{
	struct err e = { 0 };
	struct ledger_poll poll = { .last_s = NOW - 60, .good_s = NOW - 3600,
				    .error = { .code = ERR_SIGNATURE,
					       .text = "by a stranger" },
				    .source = "https://policy.example/p" };
	struct status_service service = { .is_running = true, .pid = 4711,
					  .since_s = NOW - 7200, .is_polling = true,
					  .next_poll_s = NOW + 3600 };
	autoscene s;
	scene_open(&s);
	assert_ok(ledger_set_poll(s.stage.record, &poll, &e));
	json_t *o = status(&s, &service, NULL);
	assert_string_equal(at(o, "service"),
			    "{\"running\":true,\"pid\":4711,\"since\":"
			    "\"2027-01-15T06:00:00Z\",\"polling\":true,\"next_poll\":"
			    "\"2027-01-15T09:00:00Z\"}");
	assert_string_equal(at(o, "policy/source"), "\"https://policy.example/p\"");
	assert_string_equal(at(o, "policy/last_good_poll"),
			    "\"2027-01-15T07:00:00Z\"");
	assert_string_equal(at(o, "policy/error/detail"), "\"SIGNATURE\"");
	assert_string_equal(at(o, "policy/error/exit"), "3");
}

TEST(status_print__jobs__have_the_fields_of_the_contract)
{
	struct deployment_list policy = { 0 };
	autoscene s;
	scene_open(&s);
	deploy(&policy, "ABC00042.3");
	plan_it(&s, &policy);
	json_t *o = status(&s, NULL, NULL);
	assert_keys(json_array_get(json_object_get(o, "jobs"), 0),
		    "content version deployment name purpose priority available "
		    "deadline state reason due next_try gives_up tries last arrived "
		    "path progress");
	assert_string_equal(at(o, "jobs/0/content"), "\"ABC00042\"");
	assert_string_equal(at(o, "jobs/0/version"), "3");
	assert_string_equal(at(o, "jobs/0/state"), "\"due now\"");
	assert_string_equal(at(o, "jobs/0/purpose"), "\"required\"");
	assert_string_equal(at(o, "jobs/0/deadline"), "\"2027-01-15T07:59:10Z\"");
	assert_string_equal(at(o, "jobs/0/last"), "null");
	assert_string_equal(at(o, "jobs/0/path"), "null");
	assert_string_equal(at(o, "policy/deployments"), "1");
}

TEST(status_print__content_that_is_here__says_since_when_and_where)
{
	struct err e = { 0 };
	struct deployment_list policy = { 0 };
	struct ledger_job job;
	autoscene s;
	scene_open(&s);
	stage_publish(&s.stage, "ABC00042.3", "ABC00042.3");
	deploy(&policy, "ABC00042.3");
	plan_it(&s, &policy);
	assert_true(ledger_get_job(s.stage.record, "ABC00042.3", &job));
	job.arrived_s = NOW - 60;
	snprintf(job.path, sizeof(job.path), "/cache/ABC00042.3");
	assert_ok(ledger_put_job(s.stage.record, &job, &e));
	json_t *o = status(&s, NULL, NULL);
	assert_string_equal(at(o, "jobs/0/state"), "\"here\"");
	assert_string_equal(at(o, "jobs/0/arrived"), "\"2027-01-15T07:59:00Z\"");
	assert_string_equal(at(o, "jobs/0/path"), "\"/cache/ABC00042.3\"");
}

TEST(status_print__job_under_way__shows_its_progress)
{
	struct deployment_list policy = { 0 };
	struct status_run runs[] = {
		{ .name = "abc00042.3", .step = "transfer", .host = "dp\x1b[1m",
		  .by = "service", .bytes_done = 5, .bytes_total = 10,
		  .began_s = NOW - 3 },
		{ .name = "XYZ00001.1", .step = "locate", .by = "hand" },
	};
	struct status_service service = { .is_running = true, .runs = runs,
					  .run_count = 2 };
	autoscene s;
	scene_open(&s);
	deploy(&policy, "ABC00042.3");
	plan_it(&s, &policy);
	json_t *o = status(&s, &service, NULL);
	assert_string_equal(at(o, "jobs/0/state"), "\"running\"");
	assert_string_equal(at(o, "jobs/0/progress"),
			    "{\"step\":\"transfer\",\"host\":\"dp\\\\x1b[1m\","
			    "\"bytes_done\":5,\"bytes_total\":10,\"by\":\"service\","
			    "\"began\":\"2027-01-15T07:59:57Z\"}");
	/* By hand, and unknown to policy. */
	assert_string_equal(at(o, "jobs/1/content"), "\"XYZ00001\"");
	assert_string_equal(at(o, "jobs/1/state"), "\"running\"");
	assert_string_equal(at(o, "jobs/1/purpose"), "null");
	assert_string_equal(at(o, "jobs/2"), "(none)");
}

TEST(status_print__one_content__and_its_versions)
{
	struct deployment_list policy = { 0 };
	struct content any = { .id = "abc00042" };
	struct content one = { .id = "ABC00042", .version = 3, .has_version = true };
	struct content none = { .id = "NOPE0001", .version = 1, .has_version = true };
	autoscene s;
	scene_open(&s);
	deploy(&policy, "ABC00042.2");
	deploy(&policy, "ABC00042.3");
	deploy(&policy, "XYZ00001.1");
	plan_it(&s, &policy);
	json_t *o = status(&s, NULL, &any);
	assert_string_equal(at(o, "jobs/2"), "(none)");
	assert_string_not_equal(at(o, "jobs/1"), "(none)");
	o = status(&s, NULL, &one);
	assert_string_equal(at(o, "jobs/0/version"), "3");
	assert_string_equal(at(o, "jobs/1"), "(none)");
	o = status(&s, NULL, &none);
	assert_string_equal(at(o, "jobs"), "[]");
	assert_string_equal(at(o, "note"),
			    "\"neither policy nor history has NOPE0001.1\"");
	assert_string_equal(at(o, "error"), "null");
}

TEST(status_print__withdrawn__is_told_of_when_asked_for)
{
	struct err e = { 0 };
	struct deployment_list policy = { 0 }, none = { 0 };
	struct content c = { .id = "ABC00042" };
	autoscene s;
	scene_open(&s);
	deploy(&policy, "ABC00042.3");
	plan_it(&s, &policy);
	plan_free(&s.plan);
	s.plan = (struct plan){ 0 };
	assert_ok(plan_make(&s.plan, &s.stage.settings, &none, s.stage.record, false,
			    NOW, &e));
	assert_string_equal(at(status(&s, NULL, NULL), "jobs"), "[]");
	assert_string_equal(at(status(&s, NULL, &c), "jobs/0/state"),
			    "\"withdrawn\"");
}

TEST(status_print__without_a_plan__goes_by_the_ledger)
{
	struct err e = { 0 };
	struct deployment_list policy = { 0 };
	autoscene s;
	scene_open(&s);
	deploy(&policy, "ABC00042.3");
	plan_it(&s, &policy);
	assert_ok(status_print(&s.stage.settings, NULL, NULL, s.stage.record, NULL,
			       NOW, &s.out, &e));
	json_t *o = parsed(&s);
	assert_string_equal(at(o, "jobs/0/content"), "\"ABC00042\"");
	assert_string_equal(at(o, "jobs/0/state"), "\"not in policy\"");
}

TEST(status_print__without_a_record__goes_by_the_plan)
{
	struct err e = { 0 };
	struct deployment_list policy = { 0 };
	autoscene s;
	scene_open(&s);
	deploy(&policy, "ABC00042.3");
	plan_it(&s, &policy);
	assert_ok(status_print(&s.stage.settings, &s.plan, NULL, NULL, NULL, NOW,
			       &s.out, &e));
	assert_string_equal(at(parsed(&s), "jobs/0/state"), "\"due now\"");
}

TEST(status_print__hostile_texts__stay_texts)
{
	struct deployment_list policy = { 0 };
	autoscene s;
	scene_open(&s);
	struct deployment *d = deploy(&policy, "ABC00042.3");
	free(d->name);
	d->name = strdup("\x1b]0;x\x07\"},{\xff\xe2\x80\xae");
	plan_it(&s, &policy);
	json_t *o = status(&s, NULL, NULL);
	assert_string_equal(at(o, "jobs/0/name"),
			    "\"\\\\x1b]0;x\\\\x07\\\"},{\\\\xff\\\\xe2\\\\x80"
			    "\\\\xae\"");
}

TEST(status_print__ten_thousand_jobs__fit)
{
	struct deployment_list policy = { 0 };
	char name[32];
	autoscene s;
	scene_open(&s);
	for (unsigned i = 0; i < 10000; i++) {
		snprintf(name, sizeof(name), "ABC%05u.1", i);
		deploy(&policy, name);
	}
	plan_it(&s, &policy);
	json_t *o = status(&s, NULL, NULL);
	assert_int_equal(json_array_size(json_object_get(o, "jobs")), 10000);
	assert_true(s.out.len < STATUS_MAX / 4);
}

TEST(status_print__no_room__is_an_error)
{
	struct err e = { 0 };
	struct deployment_list policy = { 0 };
	autobuf small = { .max = 300 };
	autoscene s;
	scene_open(&s);
	deploy(&policy, "ABC00042.3");
	plan_it(&s, &policy);
	assert_err(status_print(&s.stage.settings, &s.plan, NULL, s.stage.record, NULL,
				NOW, &small, &e), ERR_NOMEM);
}

/* --- why ------------------------------------------------------------------ */

TEST(status_print_why__after_a_run__tells_all_of_it)
{
	struct err e = { 0 };
	struct deployment_list policy = { 0 };
	autoscene s;
	scene_open(&s);
	deploy(&policy, "ABC00042.3");
	plan_it(&s, &policy);
	record_run(&s, "ABC00042.3", true);
	assert_ok(ledger_add_hook(s.stage.record, "ABC00042.3", "10-install", 3,
				  "exit status 3", &e));
	json_t *o = why(&s, "ABC00042.3");
	assert_keys(o, "content version name state reason deadline due next_try "
		       "gives_up tries arrived path decided management_point "
		       "locations location_error attempts hooks last delivered note "
		       "error");
	assert_string_equal(at(o, "management_point"), "\"http://mp01\"");
	assert_string_equal(at(o, "locations/0"),
			    "{\"rank\":1,\"kind\":\"on-prem\",\"host\":\"dp1\","
			    "\"url\":\"http://dp1/x\",\"locality\":\"SUBNET\","
			    "\"usable\":true,\"reason\":\"in the same subnet\"}");
	assert_string_equal(at(o, "location_error"), "null");
	assert_string_equal(at(o, "attempts/0/error/detail"), "\"CONNECT\"");
	assert_string_equal(at(o, "attempts/0/error/text"),
			    "\"connect dp1: \\\\x1b[31mrefused\"");
	assert_string_equal(at(o, "attempts/1/kind"), "\"cloud\"");
	assert_string_equal(at(o, "attempts/1/url"), "\"https://dp2/?sig=***\"");
	assert_string_equal(at(o, "attempts/1/error"), "null");
	assert_string_equal(at(o, "hooks/0"),
			    "{\"program\":\"10-install\",\"status\":3,"
			    "\"text\":\"exit status 3\"}");
	assert_string_equal(at(o, "last"),
			    "{\"time\":\"2027-01-15T07:59:50Z\",\"result\":"
			    "\"verified\",\"by\":\"service\",\"error\":null}");
	assert_string_equal(at(o, "delivered"),
			    "{\"kind\":\"cloud\",\"host\":\"dp2\",\"time\":"
			    "\"2027-01-15T07:59:52Z\",\"by\":\"service\","
			    "\"bytes_received\":70}");
	assert_string_equal(at(o, "error"), "null");
}

TEST(status_print_why__later_failure__does_not_hide_who_delivered)
{
	autoscene s;
	scene_open(&s);
	record_run(&s, "ABC00042.3", true);
	record_run(&s, "ABC00042.3", false);
	json_t *o = why(&s, "ABC00042.3");
	assert_string_equal(at(o, "last/result"), "\"failed\"");
	assert_string_equal(at(o, "last/by"), "\"hand\"");
	assert_string_equal(at(o, "last/error/detail"), "\"CONNECT\"");
	assert_string_equal(at(o, "delivered/host"), "\"dp2\"");
	assert_string_equal(at(o, "state"), "\"not in policy\"");
}

TEST(status_print_why__no_version__is_the_highest_known)
{
	struct deployment_list policy = { 0 };
	autoscene s;
	scene_open(&s);
	deploy(&policy, "ABC00042.3");
	deploy(&policy, "ABC00042.10");
	plan_it(&s, &policy);
	assert_string_equal(at(why(&s, "abc00042"), "version"), "10");
	/* By hand only, and not in policy. */
	record_run(&s, "XYZ00001.7", true);
	record_run(&s, "XYZ00001.12", true);
	record_run(&s, "XYZ00001.9", false);
	json_t *o = why(&s, "XYZ00001");
	assert_string_equal(at(o, "version"), "12");
	assert_string_equal(at(o, "delivered/host"), "\"dp2\"");
}

TEST(status_print_why__unknown_content__says_so)
{
	autoscene s;
	scene_open(&s);
	json_t *o = why(&s, "NOPE0001");
	assert_string_equal(at(o, "content"), "\"NOPE0001\"");
	assert_string_equal(at(o, "note"),
			    "\"nothing is recorded about NOPE0001\"");
	assert_string_equal(at(o, "locations"), "[]");
	assert_string_equal(at(o, "last"), "null");
	assert_string_equal(at(o, "error"), "null");
}

/* --- history -------------------------------------------------------------- */

TEST(status_print_history__transfers__newest_first)
{
	struct err e = { 0 };
	autoscene s;
	scene_open(&s);
	record_run(&s, "ABC00042.3", false);
	record_run(&s, "ABC00042.3", true);
	assert_ok(status_print_history(s.stage.record, &s.out, &e));
	json_t *o = parsed(&s);
	assert_keys(o, "transfers note error");
	assert_keys(json_array_get(json_object_get(o, "transfers"), 0),
		    "time content version result by source bytes_total bytes_received "
		    "bytes_resumed duration_ms attempts hooks error");
	assert_string_equal(at(o, "transfers/0/result"), "\"verified\"");
	assert_string_equal(at(o, "transfers/0/source"),
			    "{\"kind\":\"cloud\",\"host\":\"dp2\"}");
	assert_string_equal(at(o, "transfers/0/bytes_resumed"), "30");
	assert_string_equal(at(o, "transfers/1/result"), "\"failed\"");
	assert_string_equal(at(o, "transfers/1/source"), "null");
	assert_string_equal(at(o, "transfers/1/error/code"), "\"TRANSFER\"");
	assert_string_equal(at(o, "transfers/2"), "(none)");
}

TEST(status_print_history__many__are_bounded)
{
	struct err e = { 0 };
	autoscene s;
	scene_open(&s);
	for (int i = 0; i < STATUS_HISTORY + 5; i++)
		record_run(&s, "ABC00042.3", true);
	assert_ok(status_print_history(s.stage.record, &s.out, &e));
	assert_int_equal(json_array_size(json_object_get(parsed(&s), "transfers")),
			 STATUS_HISTORY);
	assert_ok(status_print_history(NULL, &s.out, &e));
	assert_string_equal(at(parsed(&s), "transfers"), "[]");
}
