#include "tests/unit/test.h"

#include "agent/keeper/cache.h"
#include "agent/keeper/task.h"
#include "common/own.h"
#include "tests/unit/stage.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Jobs that end before the network: the rest is for tests/e2e. */

static struct job_request request_of(const struct stage *s,
				     const struct deployment *d)
{
	return (struct job_request){ .settings = &s->settings,
				     .deployment = d,
				     .content = d->content };
}

static bool on_transfer(void *arg, const struct ledger_transfer *t)
{
	struct buf *out = arg;
	buf_print(out, "%s %s %s %s;", t->name, t->result, t->by,
		  err_name(t->error.code));
	return true;
}

static void assert_history(struct stage *s, const char *want)
{
	autobuf have = { 0 };
	struct err e = { 0 };
	assert_ok(ledger_each_transfer(s->record, NULL, 10, on_transfer, &have, &e));
	assert_string_equal(have.at ? have.at : "", want);
}

TEST(task__no_hash__failed_and_told)
{
	struct stage s;
	struct deployment_list l = { 0 };
	struct job_report report;
	struct ledger_job job;
	struct err e = { 0 };
	stage_open(&s, NULL);
	struct deployment *d = stage_deploy(&l, "ABC00042.3", NULL);
	struct job_request q = request_of(&s, d);
	assert_err(task_run(&q, "hand", &report, &e), ERR_NO_HASH);
	job_report_free(&report);
	assert_history(&s, "ABC00042.3 failed hand NO_HASH;");
	assert_true(ledger_get_job(s.record, "ABC00042.3", &job));
	assert_int_equal(job.past.tries, 1);
	assert_int_equal(job.last.code, ERR_NO_HASH);
	autofree char *text = stage_read(&s, "events");
	assert_non_null(strstr(text, "\"event\":\"failed\""));
	deployment_list_free(&l);
	stage_close(&s);
}

TEST(task__only_the_sites_hash__says_what_to_do)
{
	struct stage s;
	struct deployment_list l = { 0 };
	struct job_report report;
	struct err e = { 0 };
	stage_open(&s, NULL);
	struct deployment *d = stage_deploy(&l, "ABC00042.3", NULL);
	free(d->site_hash);
	d->site_hash = strdup("SHA256:ABCD");
	struct job_request q = request_of(&s, d);
	assert_err(task_run(&q, "service", &report, &e), ERR_NO_HASH);
	assert_non_null(strstr(e.text, "SHA256:ABCD"));
	assert_non_null(strstr(e.text, "name hash = sha256:... in a file of "
			       "[policy] local"));
	job_report_free(&report);
	deployment_list_free(&l);
	stage_close(&s);
}

TEST(task__cached__job_is_here_and_nothing_new_is_told)
{
	struct stage s;
	struct deployment_list l = { 0 };
	struct job_report report;
	struct ledger_job job;
	struct err e = { 0 };
	stage_open(&s, NULL);
	stage_publish(&s, "ABC00042.3", "three");
	struct deployment *d = stage_deploy(&l, "ABC00042.3", "three");
	struct job_request q = request_of(&s, d);
	assert_ok(task_run(&q, "service", &report, &e));
	assert_int_equal(report.result, JOB_CACHED);
	assert_history(&s, "ABC00042.3 cached service OK;");
	assert_true(ledger_get_job(s.record, "ABC00042.3", &job));
	assert_true(job.past.is_here);
	assert_string_equal(job.path, report.path);
	assert_int_not_equal(access(stage_path(&s, "events"), F_OK), 0);
	job_report_free(&report);
	deployment_list_free(&l);
	stage_close(&s);
}

TEST(task__content_nobody_deployed__history_but_no_job)
{
	struct stage s;
	struct job_request q = { 0 };
	struct job_report report;
	struct ledger_job job;
	struct err e = { 0 };
	stage_open(&s, NULL);
	q.settings = &s.settings;
	assert_ok(content_parse("ABC00042.3", &q.content, &e));
	assert_err(task_run(&q, "hand", &report, &e), ERR_NO_HASH);
	assert_history(&s, "ABC00042.3 failed hand NO_HASH;");
	assert_false(ledger_get_job(s.record, "ABC00042.3", &job));
	job_report_free(&report);
	stage_close(&s);
}

TEST(task__dry_run__leaves_nothing)
{
	struct stage s;
	struct deployment_list l = { 0 };
	struct job_report report;
	struct err e = { 0 };
	stage_open(&s, NULL);
	struct job_request q = request_of(&s, stage_deploy(&l, "ABC00042.3", NULL));
	q.dry_run = true;
	assert_err(task_run(&q, "hand", &report, &e), ERR_NO_HASH);
	assert_history(&s, "");
	assert_int_not_equal(access(stage_path(&s, "events"), F_OK), 0);
	job_report_free(&report);
	deployment_list_free(&l);
	stage_close(&s);
}

TEST(task__no_state_folder__the_error_is_the_jobs)
{
	struct stage s;
	struct deployment_list l = { 0 };
	struct job_report report;
	struct err e = { 0 };
	stage_open(&s, NULL);
	free(s.settings.state_directory);
	s.settings.state_directory = strdup("/proc/nowhere");
	struct job_request q = request_of(&s, stage_deploy(&l, "ABC00042.3", NULL));
	assert_err(task_run(&q, "hand", &report, &e), ERR_NO_HASH);
	job_report_free(&report);
	deployment_list_free(&l);
	stage_close(&s);
}

TEST(cache_age_older__room_is_needed__older_versions_leave_first)
{
	struct stage s;
	struct err e = { 0 };
	struct content content;
	struct draft draft;
	unsigned evicted = 0;
	stage_open(&s, NULL);
	stage_publish(&s, "ABC00042.3", "older");
	stage_publish(&s, "ABC00043.1", "other");
	stage_publish(&s, "ABC00042.4", "newer");
	struct cache *c = cache_open(s.settings.cache_directory, 20, 0, &e);
	assert_ok(content_parse("abc00042.4", &content, &e));
	assert_ok(cache_age_older(c, &content, &e));
	assert_ok(content_parse("ABC00099.1", &content, &e));
	assert_ok(cache_age_older(c, &content, &e)); /* none there: no harm */
	assert_ok(content_parse("ABC00050.1", &content, &e));
	assert_ok(cache_begin(c, &content, &draft, &e));
	assert_ok(cache_reserve(c, "ABC00050.1", 10, &evicted, &e));
	draft_close(&draft);
	assert_int_equal(evicted, 1);
	assert_int_not_equal(access(stage_path(&s, "cache/content/ABC00042.3"),
				    F_OK), 0);
	assert_int_equal(access(stage_path(&s, "cache/content/ABC00043.1"), F_OK), 0);
	cache_close(c);
	stage_close(&s);
}
