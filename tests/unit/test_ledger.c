#include "tests/unit/test.h"

#include "agent/keeper/database.h"
#include "agent/keeper/ledger.h"
#include "common/clock.h"
#include "common/own.h"
#include "common/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOW 1800000000
#define DAY 86400

/* A literal for a field that others own and free. */
#define TEXT(literal) ((char *)(uintptr_t)(literal))

static char path[512];

static struct record *open_again(void)
{
	struct err e = { 0 };
	struct record *r = record_open(path, &e);
	if (r == NULL)
		print_error("%s\n", e.text);
	assert_non_null(r);
	return r;
}

static struct record *open_new(void)
{
	snprintf(path, sizeof(path), "%s/s", test_folder());
	return open_again();
}

static int64_t number(struct record *r, const char *sql)
{
	struct err e = { 0 };
	struct database *d = record_database(r);
	sqlite3_stmt *s = database_statement(d, sql, &e);
	assert_non_null(s);
	assert_int_equal(sqlite3_step(s), SQLITE_ROW);
	int64_t n = sqlite3_column_int64(s, 0);
	assert_ok(database_end(d, s, &e));
	return n;
}

static struct ledger_job job_of(const char *name)
{
	struct ledger_job job = {
		.deployment = "ABC20017", .title = "Contoso VPN", .is_required = true,
		.is_in_policy = true, .priority = 2, .available_s = NOW,
		.deadline_s = NOW + DAY,
		.past = { .first_seen_s = NOW - 5, .is_here = true, .tries = 3,
			  .failed_s = NOW - 4, .delay_s = 240,
			  .search_since_s = NOW - 100, .has_given_up = true },
		.last_s = NOW - 3,
		.last = { .code = ERR_CONNECT, .text = "connect dp01: refused" },
		.path = "/var/cache/x", .arrived_s = NOW - 2,
	};
	snprintf(job.name, sizeof(job.name), "%s", name);
	memset(job.hash, 'a', sizeof(job.hash) - 1);
	return job;
}

static void assert_same_job(const struct ledger_job *a, const struct ledger_job *b)
{
	assert_string_equal(a->name, b->name);
	assert_string_equal(a->deployment, b->deployment);
	assert_string_equal(a->title, b->title);
	assert_string_equal(a->hash, b->hash);
	assert_string_equal(a->path, b->path);
	assert_int_equal(a->is_required, b->is_required);
	assert_int_equal(a->is_in_policy, b->is_in_policy);
	assert_int_equal(a->priority, b->priority);
	assert_int_equal(a->available_s, b->available_s);
	assert_int_equal(a->deadline_s, b->deadline_s);
	assert_int_equal(a->past.first_seen_s, b->past.first_seen_s);
	assert_int_equal(a->past.is_here, b->past.is_here);
	assert_int_equal(a->past.tries, b->past.tries);
	assert_int_equal(a->past.failed_s, b->past.failed_s);
	assert_int_equal(a->past.delay_s, b->past.delay_s);
	assert_int_equal(a->past.search_since_s, b->past.search_since_s);
	assert_int_equal(a->past.has_given_up, b->past.has_given_up);
	assert_int_equal(a->last_s, b->last_s);
	assert_int_equal(a->arrived_s, b->arrived_s);
	assert_int_equal(a->last.code, b->last.code);
	assert_string_equal(a->last.text, b->last.text);
}

/* --- jobs ----------------------------------------------------------------- */

TEST(ledger_job__put_get__all_fields)
{
	struct err e = { 0 };
	struct ledger_job in = job_of("ABC00042.3"), out;
	struct record *r = open_new();
	assert_false(ledger_get_job(r, "ABC00042.3", &out));
	assert_ok(ledger_put_job(r, &in, &e));
	record_close(r);
	r = open_again();
	assert_true(ledger_get_job(r, "ABC00042.3", &out));
	assert_same_job(&in, &out);
	struct ledger_job other = { .name = "ABC00042.3" };
	assert_ok(ledger_put_job(r, &other, &e));
	assert_true(ledger_get_job(r, "ABC00042.3", &out));
	assert_same_job(&other, &out);
	assert_false(ledger_get_job(r, "x' OR 1=1 --", &out));
	record_close(r);
}

static bool count_jobs(void *arg, const struct ledger_job *job)
{
	struct buf *b = arg;
	buf_print(b, "%s%s ", job->name, job->is_in_policy ? "" : "-");
	return strcmp(job->name, "stop") != 0;
}

static const char *jobs(struct record *r, struct buf *out)
{
	struct err e = { 0 };
	buf_clear(out);
	assert_ok(ledger_each_job(r, count_jobs, out, &e));
	return out->len ? out->at : "";
}

TEST(ledger_each_job__several__by_name_until_told_to_stop)
{
	struct err e = { 0 };
	autobuf got = { 0 };
	static const char *const names[] = { "z", "stop", "b", "a" };
	struct record *r = open_new();
	for (size_t i = 0; i < 4; i++) {
		struct ledger_job job = job_of(names[i]);
		assert_ok(ledger_put_job(r, &job, &e));
	}
	assert_string_equal(jobs(r, &got), "a b stop ");
	record_close(r);
}

TEST(ledger_set_policy__other_jobs__withdrawn_and_forgotten_in_the_end)
{
	struct err e = { 0 };
	autobuf got = { 0 };
	struct ledger_job two[] = { job_of("A.1"), job_of("B.1") }, out;
	struct record *r = open_new();
	assert_ok(ledger_set_policy(r, two, 2, NOW, &e));
	assert_string_equal(jobs(r, &got), "A.1 B.1 ");
	two[1].past.tries = 9;
	assert_ok(ledger_set_policy(r, &two[1], 1, NOW + DAY, &e));
	assert_string_equal(jobs(r, &got), "A.1- B.1 ");
	assert_true(ledger_get_job(r, "A.1", &out)); /* what it did stays known */
	assert_int_equal(out.past.tries, 3);
	assert_true(ledger_get_job(r, "B.1", &out));
	assert_int_equal(out.past.tries, 9);
	/* withdrawing it again is no new begin */
	assert_ok(ledger_set_policy(r, &two[1], 1, NOW + 80 * DAY, &e));
	assert_string_equal(jobs(r, &got), "A.1- B.1 ");
	assert_ok(ledger_set_policy(r, &two[1], 1, NOW + 92 * DAY, &e));
	assert_string_equal(jobs(r, &got), "B.1 ");
	assert_ok(ledger_set_policy(r, NULL, 0, NOW + 92 * DAY, &e));
	assert_string_equal(jobs(r, &got), "B.1- ");
	assert_ok(ledger_set_policy(r, &two[1], 1, NOW + 100 * DAY, &e));
	assert_string_equal(jobs(r, &got), "B.1 ");
	record_close(r);
}

TEST(ledger_set_policy__same_twice__nothing_is_written)
{
	struct err e = { 0 };
	struct ledger_job two[] = { job_of("A.1"), job_of("B.1") };
	struct record *r = open_new();
	assert_ok(ledger_set_policy(r, two, 2, NOW, &e));
	int64_t before = number(r, "SELECT total_changes()");
	assert_ok(ledger_set_policy(r, two, 2, NOW + 60, &e));
	/* the two names of the temporary list, in and out */
	assert_int_equal(number(r, "SELECT total_changes()") - before, 4);
	record_close(r);
}

TEST(ledger_set_policy__same_name_twice__last_counts)
{
	struct err e = { 0 };
	struct ledger_job two[] = { job_of("A.1"), job_of("A.1") }, out;
	two[1].priority = 0;
	struct record *r = open_new();
	assert_ok(ledger_set_policy(r, two, 2, NOW, &e));
	assert_true(ledger_get_job(r, "A.1", &out));
	assert_int_equal(out.priority, 0);
	record_close(r);
}

TEST(ledger_set_policy__clock_ran_ahead__withdrawn_since_now)
{
	struct err e = { 0 };
	autobuf got = { 0 };
	struct ledger_job job = job_of("A.1");
	struct record *r = open_new();
	assert_ok(ledger_set_policy(r, &job, 1, NOW, &e));
	assert_ok(ledger_set_policy(r, NULL, 0, NOW + 3LL * 365 * DAY, &e));
	assert_ok(ledger_set_policy(r, NULL, 0, NOW, &e));
	assert_ok(ledger_set_policy(r, NULL, 0, NOW + 91 * DAY, &e));
	assert_string_equal(jobs(r, &got), "");
	record_close(r);
}

TEST(ledger_put_job__by_hand_again_and_again__bounded)
{
	struct err e = { 0 };
	struct clock_fake clock = { .wall_ms = NOW * 1000LL };
	struct database *d;
	struct record *r = open_new();
	clock_set_fake(&clock);
	d = record_database(r);
	assert_ok(database_begin(d, &e));
	for (int i = 0; i < LEDGER_GONE + 5; i++) {
		struct ledger_job job = { .is_in_policy = false };
		snprintf(job.name, sizeof(job.name), "H%05d", i);
		clock.wall_ms += 1000;
		assert_ok(ledger_put_job(r, &job, &e));
	}
	assert_ok(database_commit(d, &e));
	clock_set_fake(NULL);
	struct ledger_job job = job_of("A.1"), out;
	assert_ok(ledger_set_policy(r, &job, 1, NOW + DAY, &e));
	assert_int_equal(number(r, "SELECT count(*) FROM job"), LEDGER_GONE + 1);
	assert_false(ledger_get_job(r, "H00004", &out));
	assert_true(ledger_get_job(r, "H00005", &out));
	record_close(r);
}

TEST(ledger_set_policy__10000_jobs__quick_and_all_there)
{
	enum { COUNT = 10000 };
	struct err e = { 0 };
	struct ledger_job *many = calloc(COUNT, sizeof(*many));
	assert_non_null(many);
	for (int i = 0; i < COUNT; i++) {
		many[i] = job_of("");
		snprintf(many[i].name, sizeof(many[i].name), "ABC%05d.1", i);
	}
	struct record *r = open_new();
	int64_t began = clock_now_ms();
	assert_ok(ledger_set_policy(r, many, COUNT, NOW, &e));
	int64_t first = clock_now_ms() - began;
	began = clock_now_ms();
	assert_ok(ledger_set_policy(r, many, COUNT, NOW + 60, &e));
	int64_t again = clock_now_ms() - began;
	print_message("10000 jobs: %lld ms new, %lld ms unchanged\n",
		      (long long)first, (long long)again);
	assert_true(first < 5000); /* about 0.1 s; but machines can be busy */
	assert_int_equal(number(r, "SELECT count(*) FROM job WHERE in_policy = 1"
				" AND tries = 3"), COUNT);
	record_close(r);
	free(many);
}

/* --- runs ----------------------------------------------------------------- */

/* One run of "ABC00042.3" with three attempts, put together by hand. */
struct scene {
	struct job_report report;
	struct job_attempt attempts[3];
	struct source sources[3];
	struct choose_item items[3];
	struct err result;
};

static void set_scene(struct scene *s)
{
	*s = (struct scene){ 0 };
	s->attempts[0] = (struct job_attempt){
		.kind = SOURCE_ON_PREM, .host = TEXT("dp01"),
		.url = TEXT("http://dp01/a"), .duration_ms = 1000,
		.why = { .code = ERR_ABSENT, .text = "404 for ABC00042" } };
	s->attempts[1] = (struct job_attempt){
		.kind = SOURCE_INTERNET, .host = TEXT("dp02"),
		.url = TEXT("http://dp02/a"), .bytes_received = 100,
		.duration_ms = 2000, .why = { .code = ERR_STALLED, .text = "slow" } };
	s->attempts[2] = (struct job_attempt){
		.kind = SOURCE_CLOUD, .host = TEXT("cloud"),
		.url = TEXT("https://cloud/a?sig=***"), .bytes_received = 5000,
		.duration_ms = 60000 };
	s->sources[0] = (struct source){ .url = TEXT("http://dp01/a"),
					 .locality = TEXT("SUBNET") };
	s->sources[1] = (struct source){ .url = TEXT("http://dp02/a"),
					 .locality = TEXT("SITE") };
	s->sources[2] = (struct source){
		.url = TEXT("https://cloud/a?sig=verysecret"),
		.locality = TEXT("") };
	for (size_t i = 0; i < 3; i++) {
		struct choose_item *item = &s->items[i];
		*item = (struct choose_item){ .source = i, .rank = (unsigned)i + 1,
					      .kind = s->attempts[i].kind,
					      .usable = i < 2 };
		snprintf(item->host, sizeof(item->host), "%s", s->attempts[i].host);
		snprintf(item->reason, sizeof(item->reason), "reason %zu", i);
	}
	s->report = (struct job_report){
		.content = { "ABC00042", 3, true }, .result = JOB_VERIFIED,
		.figures = { .bytes_received = 5100, .bytes_resumed = 20,
			     .bytes_total = 5120 },
		.duration_ms = 63000, .attempts = s->attempts, .attempt_count = 3,
		.delivered = 2,
		.location = { .sources = { s->sources, 3, 3 },
			      .management_point = TEXT("https://mp01") },
		.chosen = { s->items, 3, 2 } };
}

static void add_run(struct record *r, struct scene *s, int64_t began_s)
{
	struct err e = { 0 };
	assert_ok(ledger_add_run(r, &s->report, &s->result, "service", began_s, &e));
}

static bool take_transfer(void *arg, const struct ledger_transfer *t)
{
	struct buf *b = arg;
	buf_print(b, "%lld %s %s %s %s|%s %s %llu+%llu/%llu %s\n",
		  (long long)t->began_s, t->name, t->result, t->by, t->kind, t->host,
		  err_name(t->error.code), (unsigned long long)t->bytes_received,
		  (unsigned long long)t->bytes_resumed,
		  (unsigned long long)t->bytes_total, t->error.text);
	for (size_t i = 0; i < t->attempt_count; i++)
		buf_print(b, "  %s %s %s %s %llu %lld %s\n", t->attempts[i].kind,
			  t->attempts[i].host, t->attempts[i].url,
			  err_name(t->attempts[i].why.code),
			  (unsigned long long)t->attempts[i].bytes_received,
			  (long long)t->attempts[i].duration_ms,
			  t->attempts[i].why.text);
	for (size_t i = 0; i < t->hook_count; i++)
		buf_print(b, "  hook %s %d %s\n", t->hooks[i].program,
			  t->hooks[i].status, t->hooks[i].text);
	return true;
}

static const char *transfers(struct record *r, const char *name, size_t most,
			     struct buf *out)
{
	struct err e = { 0 };
	buf_clear(out);
	assert_ok(ledger_each_transfer(r, name, most, take_transfer, out, &e));
	return out->len ? out->at : "";
}

TEST(ledger_add_run__delivered_by_the_third__transfer_with_attempts)
{
	struct err e = { 0 };
	autobuf got = { 0 };
	struct scene s;
	struct record *r = open_new();
	set_scene(&s);
	s.result = (struct err){ .code = ERR_STALLED, .text = "left over" };
	add_run(r, &s, NOW);
	assert_ok(ledger_add_hook(r, "ABC00042.3", "10-tell", 0, "", &e));
	assert_ok(ledger_add_hook(r, "ABC00042.3", "20-fail", -1, "killed", &e));
	assert_ok(ledger_add_hook(r, "unknown.1", "10-tell", 0, "", &e));
	record_close(r);
	r = open_again();
	assert_string_equal(
		transfers(r, NULL, 10, &got),
		"1800000000 ABC00042.3 verified service cloud|cloud OK 5100+20/5120 \n"
		"  on-prem dp01 http://dp01/a ABSENT 0 1000 404 for ABC00042\n"
		"  internet dp02 http://dp02/a STALLED 100 2000 slow\n"
		"  cloud cloud https://cloud/a?sig=*** OK 5000 60000 \n"
		"  hook 10-tell 0 \n"
		"  hook 20-fail -1 killed\n");
	record_close(r);
}

TEST(ledger_each_transfer__several__newest_first_by_name)
{
	autobuf got = { 0 };
	struct scene s;
	struct record *r = open_new();
	set_scene(&s);
	s.report.attempt_count = 0;
	s.report.delivered = -1;
	s.report.result = JOB_FAILED;
	s.result = (struct err){ .code = ERR_NO_LOCATION, .text = "nobody" };
	add_run(r, &s, NOW);
	s.report.result = JOB_CACHED;
	add_run(r, &s, NOW + 1);
	s.report.content.version = 4;
	add_run(r, &s, NOW + 2);
	assert_string_equal(
		transfers(r, NULL, 2, &got),
		"1800000002 ABC00042.4 cached service | OK 5100+20/5120 \n"
		"1800000001 ABC00042.3 cached service | OK 5100+20/5120 \n");
	assert_string_equal(
		transfers(r, "ABC00042.3", 10, &got),
		"1800000001 ABC00042.3 cached service | OK 5100+20/5120 \n"
		"1800000000 ABC00042.3 failed service | NO_LOCATION 5100+20/5120"
		" nobody\n");
	assert_string_equal(transfers(r, "none", 10, &got), "");
	record_close(r);
}

TEST(ledger_add_run__many_attempts__first_and_last_half)
{
	enum { COUNT = 1000 };
	autobuf got = { 0 };
	struct scene s;
	struct record *r = open_new();
	set_scene(&s);
	struct job_attempt *many = calloc(COUNT, sizeof(*many));
	assert_non_null(many);
	for (size_t i = 0; i < COUNT; i++) {
		many[i] = s.attempts[1];
		many[i].duration_ms = (int64_t)i;
	}
	s.report.attempts = many;
	s.report.attempt_count = COUNT;
	s.report.delivered = -1;
	s.report.result = JOB_FAILED;
	s.result = many[COUNT - 1].why;
	add_run(r, &s, NOW);
	free(many);
	transfers(r, NULL, 1, &got);
	assert_int_equal(number(r, "SELECT count(*) FROM attempt"),
			 LEDGER_ATTEMPTS_RUN);
	assert_non_null(strstr(got.at, "STALLED 100 31 slow\n"));
	assert_null(strstr(got.at, "STALLED 100 32 slow\n"));
	assert_non_null(strstr(got.at, "STALLED 100 999 slow\n"));
	record_close(r);
}

/* --- decisions ------------------------------------------------------------ */

TEST(ledger_decision__run_that_chose__sources_with_reasons)
{
	struct ledger_decision d;
	struct scene s;
	struct record *r = open_new();
	assert_false(ledger_get_decision(r, "ABC00042.3", &d));
	set_scene(&s);
	s.report.result = JOB_FAILED; /* by its last source: no fault of choosing */
	s.result = s.attempts[1].why;
	add_run(r, &s, NOW);
	assert_true(ledger_get_decision(r, "ABC00042.3", &d));
	assert_int_equal(d.at_s, NOW);
	assert_string_equal(d.management_point, "https://mp01");
	assert_int_equal(d.error.code, ERR_OK);
	assert_int_equal(d.count, 3);
	assert_int_equal(d.sources[0].rank, 1);
	assert_true(d.sources[0].is_usable);
	assert_string_equal(d.sources[0].kind, "on-prem");
	assert_string_equal(d.sources[0].host, "dp01");
	assert_string_equal(d.sources[0].url, "http://dp01/a");
	assert_string_equal(d.sources[0].locality, "SUBNET");
	assert_string_equal(d.sources[0].reason, "reason 0");
	assert_false(d.sources[2].is_usable);
	assert_null(strstr(d.sources[2].url, "verysecret"));
	ledger_decision_free(&d);
	record_close(r);
}

TEST(ledger_decision__run_that_did_not_come_so_far__old_one_stays)
{
	struct ledger_decision d;
	struct scene s, cached;
	struct record *r = open_new();
	set_scene(&s);
	add_run(r, &s, NOW);
	set_scene(&cached);
	cached.report.location = (struct ask_location){ 0 };
	cached.report.chosen = (struct choose_result){ 0 };
	cached.report.result = JOB_CACHED;
	add_run(r, &cached, NOW + 1);
	assert_true(ledger_get_decision(r, "ABC00042.3", &d));
	assert_int_equal(d.at_s, NOW);
	assert_int_equal(d.count, 3);
	ledger_decision_free(&d);
	/* no source is a decision, too */
	s.report.chosen = (struct choose_result){ 0 };
	s.report.result = JOB_FAILED;
	s.result = (struct err){ .code = ERR_NO_LOCATION, .text = "knows none" };
	add_run(r, &s, NOW + 2);
	assert_true(ledger_get_decision(r, "ABC00042.3", &d));
	assert_int_equal(d.at_s, NOW + 2);
	assert_int_equal(d.count, 0);
	assert_err(d.error.code, ERR_NO_LOCATION);
	assert_string_equal(d.error.text, "knows none");
	ledger_decision_free(&d);
	assert_int_equal(number(r, "SELECT count(*) FROM source"), 0);
	record_close(r);
}

TEST(ledger_add_run__dry_run__decision_only)
{
	autobuf got = { 0 };
	struct ledger_decision d;
	struct ledger_sums sums;
	struct err e = { 0 };
	struct scene s;
	struct record *r = open_new();
	set_scene(&s);
	s.report.result = JOB_PLANNED;
	add_run(r, &s, NOW);
	assert_string_equal(transfers(r, NULL, 10, &got), "");
	assert_true(ledger_get_decision(r, "ABC00042.3", &d));
	assert_int_equal(d.count, 3);
	ledger_decision_free(&d);
	assert_ok(ledger_get_sums(r, &sums, &e));
	assert_int_equal(sums.bytes_cloud + sums.bytes_on_prem + sums.arrived, 0);
	record_close(r);
}

TEST(ledger_add_run__hostile_list__first_sources_cut_and_no_index_trusted)
{
	enum { COUNT = 500 };
	struct ledger_decision d;
	struct scene s;
	struct record *r = open_new();
	set_scene(&s);
	struct choose_item *items = calloc(COUNT, sizeof(*items));
	assert_non_null(items);
	for (size_t i = 0; i < COUNT; i++)
		items[i] = (struct choose_item){ .source = i * 1000,
						 .rank = (unsigned)i + 1 };
	char word[3000];
	memset(word, 'A', sizeof(word) - 1);
	word[sizeof(word) - 1] = '\0';
	s.sources[0].locality = word;
	s.sources[0].url = TEXT("http://dp/\xff\xc3");
	s.report.chosen = (struct choose_result){ items, COUNT, 0 };
	add_run(r, &s, NOW);
	free(items);
	assert_true(ledger_get_decision(r, "ABC00042.3", &d));
	assert_int_equal(d.count, LEDGER_SOURCES_RUN);
	assert_int_equal(strlen(d.sources[0].locality), 63);
	assert_string_equal(d.sources[0].url, "http://dp/?");
	assert_string_equal(d.sources[1].url, "");
	ledger_decision_free(&d);
	record_close(r);
}

/* --- sums ----------------------------------------------------------------- */

static struct ledger_sums sums_of(struct record *r)
{
	struct err e = { 0 };
	struct ledger_sums sums;
	assert_ok(ledger_get_sums(r, &sums, &e));
	return sums;
}

TEST(ledger_get_sums__runs_over_months__old_hours_are_kept_as_sums)
{
	struct scene s;
	struct record *r = open_new();
	set_scene(&s);
	s.attempts[0].bytes_received = 11;
	for (int i = 0; i < 64; i++)
		add_run(r, &s, NOW + i * 10 * DAY);
	struct ledger_sums sums = sums_of(r);
	assert_int_equal(sums.bytes_on_prem, 64 * 11);
	assert_int_equal(sums.bytes_cloud, 64 * 5000);
	assert_int_equal(sums.bytes_other, 64 * 100);
	assert_int_equal(sums.arrived, 64);
	assert_int_equal(sums.failure_count, 0);
	/* the last 90 days, three kinds */
	assert_int_equal(number(r, "SELECT count(*) FROM traffic"), 9 * 3);
	record_close(r);
}

TEST(ledger_get_sums__same_hour_and_the_next__by_hour_and_kind)
{
	struct scene s;
	struct record *r = open_new();
	set_scene(&s);
	add_run(r, &s, NOW);
	add_run(r, &s, NOW + 10);
	add_run(r, &s, NOW + 3600);
	assert_int_equal(number(r, "SELECT bytes FROM traffic WHERE kind = 'cloud'"
				" AND hour = 1800000000 / 3600"), 10000);
	assert_int_equal(number(r, "SELECT bytes FROM traffic WHERE kind = 'cloud'"
				" AND hour = 1800000000 / 3600 + 1"), 5000);
	record_close(r);
}

TEST(ledger_get_sums__failures__by_class)
{
	struct scene s;
	struct record *r = open_new();
	set_scene(&s);
	s.report.result = JOB_FAILED;
	s.result.code = ERR_CONNECT;
	add_run(r, &s, NOW);
	s.result.code = ERR_STALLED;
	add_run(r, &s, NOW);
	s.result.code = ERR_HASH;
	add_run(r, &s, NOW);
	struct ledger_sums sums = sums_of(r);
	assert_int_equal(sums.failure_count, 2);
	assert_string_equal(sums.failures[0].class_name, "HASH");
	assert_int_equal(sums.failures[0].count, 1);
	assert_string_equal(sums.failures[1].class_name, "TRANSFER");
	assert_int_equal(sums.failures[1].count, 2);
	assert_int_equal(sums.arrived, 0);
	record_close(r);
}

TEST(ledger_get_sums__more_than_a_column_holds__its_largest)
{
	struct scene s;
	struct record *r = open_new();
	set_scene(&s);
	s.attempts[2].bytes_received = UINT64_MAX;
	add_run(r, &s, NOW);
	add_run(r, &s, NOW);
	for (int i = 0; i < 16; i++)
		add_run(r, &s, NOW + 100LL * DAY + i);
	assert_true(sums_of(r).bytes_cloud >= 9000000000000000000u);
	record_close(r);
}

/* --- hosts ---------------------------------------------------------------- */

static void assert_host(struct record *r, const char *host, int64_t now_s,
			int64_t absent, int64_t ill)
{
	int64_t a = -1, b = -1;
	ledger_get_host(r, host, "ABC00042.3", now_s, &a, &b);
	assert_int_equal(a, absent);
	assert_int_equal(b, ill);
}

TEST(ledger_get_host__after_a_run__absent_and_ill_for_a_while)
{
	struct scene s;
	int64_t a, b, end = NOW + 63;
	struct record *r = open_new();
	set_scene(&s);
	add_run(r, &s, NOW);
	/* at the time at which each attempt ended */
	assert_host(r, "dp01", end, NOW + 1, 0);
	assert_host(r, "dp02", end, 0, NOW + 3);
	assert_host(r, "cloud", end, 0, 0);
	ledger_get_host(r, "dp01", "ABC00042.4", end, &a, &b);
	assert_int_equal(a, 0); /* another content */
	assert_host(r, "dp01", NOW + LEDGER_ABSENT_S, NOW + 1, 0);
	assert_host(r, "dp01", NOW + 1 + LEDGER_ABSENT_S, 0, 0);
	assert_host(r, "dp02", NOW + 2 + LEDGER_ILL_S, 0, NOW + 3);
	assert_host(r, "dp02", NOW + 3 + LEDGER_ILL_S, 0, 0);
	/* the clock was put back: nothing is known */
	assert_host(r, "dp01", NOW - DAY, 0, 0);
	record_close(r);
}

TEST(ledger_get_host__delivered_since__forgotten)
{
	struct scene s;
	struct record *r = open_new();
	set_scene(&s);
	add_run(r, &s, NOW);
	s.attempts[0].why.code = ERR_OK;
	s.attempts[1].why.code = ERR_OK;
	add_run(r, &s, NOW + 100);
	assert_host(r, "dp01", NOW + 200, 0, 0);
	assert_host(r, "dp02", NOW + 200, 0, 0);
	record_close(r);
}

TEST(ledger_get_host__each_code__absent_ill_or_neither)
{
	static const struct {
		enum err_code code;
		bool is_absent, is_ill;
	} cases[] = {
		{ ERR_ABSENT, true, false },      { ERR_CONNECT, false, true },
		{ ERR_STALLED, false, true },     { ERR_BROKEN, false, true },
		{ ERR_DEADLINE, false, true },    { ERR_SERVER, false, true },
		{ ERR_BUSY, false, true },        { ERR_DNS_TIMEOUT, false, true },
		{ ERR_DNS_SERVER, false, true },  { ERR_TLS_CHAIN, false, true },
		{ ERR_TLS_CLIENT, false, true },  { ERR_DENIED, false, false },
		{ ERR_HASH, false, false },       { ERR_DNS_NXDOMAIN, false, false },
		{ ERR_SPACE_DISK, false, false }, { ERR_SIGTERM, false, false },
	};
	struct scene s;
	struct record *r = open_new();
	set_scene(&s);
	s.report.attempt_count = 1;
	s.report.delivered = -1;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char host[16];
		snprintf(host, sizeof(host), "host%zu", i);
		s.attempts[0].host = host;
		s.attempts[0].why.code = cases[i].code;
		add_run(r, &s, NOW);
		assert_host(r, host, NOW + 63, cases[i].is_absent ? NOW + 63 : 0,
			    cases[i].is_ill ? NOW + 63 : 0);
	}
	record_close(r);
}

/* --- limits --------------------------------------------------------------- */

TEST(ledger_add_run__more_than_the_limits__newest_stay)
{
	enum { COUNT = LEDGER_TRANSFERS + 200 };
	struct err e = { 0 };
	struct scene s;
	autobuf got = { 0 };
	struct record *r = open_new();
	struct job_attempt many[8];
	struct choose_item items[16];
	set_scene(&s);
	for (size_t i = 0; i < 8; i++)
		many[i] = s.attempts[i % 2];
	for (size_t i = 0; i < 16; i++)
		items[i] = s.items[i % 3], items[i].rank = (unsigned)i + 1;
	s.report.attempts = many;
	s.report.attempt_count = 8;
	s.report.delivered = -1;
	s.report.chosen = (struct choose_result){ items, 16, 2 };
	assert_ok(database_begin(record_database(r), &e));
	for (int i = 0; i < COUNT; i++) {
		s.report.content.version = (uint32_t)i + 1;
		add_run(r, &s, NOW + i * 60);
	}
	assert_ok(database_commit(record_database(r), &e));
	assert_int_equal(number(r, "SELECT count(*) FROM transfer"),
			 LEDGER_TRANSFERS);
	assert_true(number(r, "SELECT count(*) FROM attempt") <
		    LEDGER_ATTEMPTS + 16 * 8 + 8);
	assert_int_equal(number(r, "SELECT count(*) FROM attempt WHERE transfer NOT IN"
				" (SELECT id FROM transfer)"), 0);
	assert_true(number(r, "SELECT count(*) FROM source") <=
		    LEDGER_SOURCES + 16 * 16);
	assert_int_equal(number(r, "SELECT count(*) FROM source WHERE name NOT IN"
				" (SELECT name FROM decision)"), 0);
	/* one a minute, and each is remembered for two hours at most */
	assert_true(number(r, "SELECT count(*) FROM absent") <= 120 + 16 + 1);
	transfers(r, "ABC00042.5200", 1, &got);
	assert_non_null(strstr(got.len ? got.at : "", "ABC00042.5200"));
	assert_string_equal(transfers(r, "ABC00042.1", 1, &got), "");
	record_close(r);
}

TEST(ledger_add_hook__more_than_the_limit__first_stay)
{
	struct err e = { 0 };
	struct scene s;
	struct record *r = open_new();
	set_scene(&s);
	add_run(r, &s, NOW);
	for (int i = 0; i < LEDGER_HOOKS_RUN + 5; i++)
		assert_ok(ledger_add_hook(r, "ABC00042.3", "h", i, "", &e));
	assert_int_equal(number(r, "SELECT count(*) FROM hook"), LEDGER_HOOKS_RUN);
	record_close(r);
}

TEST(ledger_add_run__fails_half_way__nothing_of_it_is_kept)
{
	struct err e = { 0 };
	struct database *d;
	struct scene s;
	struct record *r = open_new();
	d = record_database(r);
	set_scene(&s);
	sqlite3_stmt *trigger = database_statement(
		d, "CREATE TEMP TRIGGER no_more BEFORE INSERT ON ill BEGIN"
		" SELECT raise(FAIL, 'no'); END", &e);
	assert_non_null(trigger);
	assert_ok(database_run(d, trigger, &e));
	assert_err(ledger_add_run(r, &s.report, &s.result, "hand", NOW, &e),
		   ERR_FOLDER);
	assert_non_null(strstr(e.text, "ABC00042.3"));
	assert_int_equal(number(r, "SELECT (SELECT count(*) FROM transfer) +"
				" (SELECT count(*) FROM attempt) +"
				" (SELECT count(*) FROM decision) +"
				" (SELECT count(*) FROM traffic)"), 0);
	record_close(r);
}

TEST(ledger_add_run__error_text_cut_in_a_character__well_formed)
{
	struct err e = { 0 };
	autobuf got = { 0 };
	struct scene s;
	struct ledger_job in = job_of("A.1"), out;
	struct record *r = open_new();
	set_scene(&s);
	s.report.result = JOB_FAILED;
	s.result.code = ERR_HTTP;
	for (size_t i = 0; i + 2 < sizeof(s.result.text); i += 2)
		memcpy(s.result.text + i, "\xc3\xa4", 2);
	s.result.text[sizeof(s.result.text) - 2] = '\xc3';
	add_run(r, &s, NOW);
	assert_true(utf8_is_valid(span_of(transfers(r, NULL, 1, &got))));
	in.last = s.result;
	assert_ok(ledger_put_job(r, &in, &e));
	assert_true(ledger_get_job(r, "A.1", &out));
	assert_int_equal(strlen(out.last.text), sizeof(out.last.text) - 2);
	assert_true(utf8_is_valid(span_of(out.last.text)));
	record_close(r);
}

/* --- polls ---------------------------------------------------------------- */

TEST(ledger_poll__set_get__round_trip)
{
	struct err e = { 0 };
	struct ledger_poll out, in = { .last_s = NOW, .good_s = NOW - 60,
				       .error = { .code = ERR_SIGNATURE,
						  .text = "by a stranger" },
				       .deployments = 12,
				       .source = "https://example.net/p" };
	struct record *r = open_new();
	ledger_get_poll(r, &out);
	assert_int_equal(out.last_s, 0);
	assert_int_equal(out.error.code, ERR_OK);
	assert_ok(ledger_set_poll(r, &in, &e));
	ledger_get_poll(r, &out);
	assert_int_equal(out.last_s, NOW);
	assert_int_equal(out.good_s, NOW - 60);
	assert_err(out.error.code, ERR_SIGNATURE);
	assert_string_equal(out.error.text, "by a stranger");
	assert_int_equal(out.deployments, 12);
	assert_string_equal(out.source, "https://example.net/p");
	in.error.code = ERR_OK; /* its text is left over then */
	assert_ok(ledger_set_poll(r, &in, &e));
	ledger_get_poll(r, &out);
	assert_err(out.error.code, ERR_OK);
	assert_string_equal(out.error.text, "");
	record_close(r);
}
