#include "tests/unit/test.h"

#include "agent/keeper/once.h"
#include "common/own.h"
#include "tests/unit/stage.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What needs no network; the rest is for tests/e2e/test_once.py. */

static void put_policy(const struct stage *s, const char *name, const char *text)
{
	char file[100];
	mkdir(stage_path(s, "policy.d"), 0755);
	snprintf(file, sizeof(file), "policy.d/%s", name);
	autofd fd = open(stage_path(s, file), O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static enum err_code run(const struct stage *s, bool is_dry_run,
			 struct once_report *out, struct err *e)
{
	struct once_options o = { .settings = &s->settings,
				  .policy_must_exist = true,
				  .is_dry_run = is_dry_run };
	*e = (struct err){ 0 };
	return once_run(&o, out, e);
}

#define DEPLOYED(id)                                                          \
	"[deployment]\nid = D1\npackage = " id "\nversion = 3\n"              \
	"purpose = required\navailable = 2020-01-01T00:00:00Z\n"

TEST(once__nothing_due__ok)
{
	struct stage s;
	struct once_report r;
	struct err e;
	char text[600];
	struct deployment_list l = { 0 };
	stage_open(&s, NULL);
	stage_publish(&s, "ABC00042.3", "three");
	snprintf(text, sizeof(text),
		 DEPLOYED("ABC00042") "[content]\nhash = sha256:%s\n",
		 stage_deploy(&l, "ABC00042.3", "three")->hash);
	put_policy(&s, "a.ini", text);
	assert_ok(run(&s, false, &r, &e));
	assert_int_equal(r.count, 0);
	assert_int_equal(r.plan.count, 1);
	assert_string_equal(plan_word(&r.plan.items[0]), "here");
	once_report_free(&r);
	autofree char *metrics = stage_read(&s, "metrics.prom");
	assert_non_null(strstr(metrics, "cloud_dp_agent_poll_success 1\n"));
	struct ledger_poll poll = { 0 };
	ledger_get_poll(s.record, &poll);
	assert_int_equal(poll.deployments, 1);
	assert_true(poll.good_s > 0 && poll.good_s == poll.last_s);
	deployment_list_free(&l);
	stage_close(&s);
}

TEST(once__required_without_hash__reported_and_no_network)
{
	struct stage s;
	struct once_report r;
	struct err e;
	stage_open(&s, NULL);
	put_policy(&s, "a.ini", DEPLOYED("ABC00042"));
	assert_err(run(&s, false, &r, &e), ERR_NO_HASH);
	assert_int_equal(r.count, 1);
	assert_false(r.jobs[0].was_run);
	assert_string_equal(r.jobs[0].name, "ABC00042.3");
	assert_int_equal(r.jobs[0].error.code, ERR_NO_HASH);
	once_report_free(&r);
	stage_close(&s);
}

TEST(once__a_policy_file_is_bad__the_others_count)
{
	struct stage s;
	struct once_report r;
	struct err e;
	struct ledger_poll poll = { 0 };
	stage_open(&s, NULL);
	put_policy(&s, "a.ini", "[deployment]\npackage = ABC00");
	put_policy(&s, "b.ini", "[deployment]\nid = D2\npackage = ABC00043\n"
		   "version = 1\npurpose = available\n");
	assert_err(run(&s, false, &r, &e), ERR_POLICY);
	assert_int_equal(r.plan.count, 1);
	assert_true(r.problems.len > 0);
	assert_int_equal(r.poll_error.code, ERR_POLICY);
	once_report_free(&r);
	ledger_get_poll(s.record, &poll);
	assert_int_equal(poll.error.code, ERR_POLICY);
	assert_int_equal(poll.good_s, 0);
	/* a required one without a hash weighs more */
	put_policy(&s, "b.ini", DEPLOYED("ABC00043"));
	assert_err(run(&s, false, &r, &e), ERR_NO_HASH);
	once_report_free(&r);
	stage_close(&s);
}

TEST(once__policy_is_not_there__error)
{
	struct stage s;
	struct once_report r;
	struct err e;
	stage_open(&s, NULL);
	assert_err(run(&s, false, &r, &e), ERR_POLICY);
	once_report_free(&r);
	stage_close(&s);
}

TEST(once__dry_run__nothing_is_written)
{
	struct stage s;
	struct once_report r;
	struct err e;
	stage_open(&s, NULL);
	put_policy(&s, "a.ini", DEPLOYED("ABC00042") "[content]\nhash = sha256:"
		   "00000000000000000000000000000000"
		   "00000000000000000000000000000000\n");
	assert_ok(run(&s, true, &r, &e));
	assert_int_equal(r.count, 0);
	assert_string_equal(plan_word(&r.plan.items[0]), "due now");
	once_report_free(&r);
	static const char *const none[] = { "events", "metrics.prom", "cache",
					    "state/service.lock" };
	for (size_t i = 0; i < 4; i++)
		assert_int_not_equal(access(stage_path(&s, none[i]), F_OK), 0);
	stage_close(&s);
}

TEST(once_lock__held__names_the_process)
{
	struct stage s;
	struct once_report r;
	struct err e = { 0 };
	char pid[32];
	stage_open(&s, NULL);
	autofd lock = once_lock(s.settings.state_directory, &e);
	assert_true(lock >= 0);
	assert_int_equal(once_lock(s.settings.state_directory, &e), -1);
	assert_int_equal(e.code, ERR_LOCKED);
	snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	assert_non_null(strstr(e.text, pid));
	assert_err(run(&s, false, &r, &e), ERR_LOCKED);
	once_report_free(&r);
	own_close(&lock);
	lock = once_lock(s.settings.state_directory, &e);
	assert_true(lock >= 0);
	stage_close(&s);
}

TEST(once_lock__no_folder__error)
{
	struct err e = { 0 };
	assert_int_equal(once_lock("/proc/nowhere", &e), -1);
	assert_int_equal(e.code, ERR_FOLDER);
}
