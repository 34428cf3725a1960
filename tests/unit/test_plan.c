#include "tests/unit/test.h"

#include "agent/keeper/plan.h"
#include "common/own.h"
#include "tests/unit/stage.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOW 1800000000
#define HOUR 3600

static void make_at(struct plan *p, struct stage *s, struct deployment_list *l,
		    int64_t now_s)
{
	struct err e = { 0 };
	assert_ok(plan_make(p, &s->settings, l, s->record, false, now_s, &e));
	assert_int_equal(l->count, 0);
}

static const char *word_of(struct plan *p, const char *name)
{
	struct plan_item *item = plan_find(p, name);
	assert_non_null(item);
	return plan_word(item);
}

/* How often a line of the events file tells `event` of `content`. */
static unsigned told(const struct stage *s, const char *event, const char *id)
{
	char a[100], b[200];
	unsigned count = 0;
	autofree char *text = stage_read(s, "events");
	snprintf(a, sizeof(a), "\"event\":\"%s\"", event);
	snprintf(b, sizeof(b), "\"content\":\"%s\"", id);
	for (char *at = text, *end; at && (end = strchr(at, '\n')); at = end + 1) {
		*end = '\0';
		count += strstr(at, a) && strstr(at, b);
	}
	return count;
}

TEST(plan__empty_policy__nothing_to_do)
{
	struct stage s;
	struct plan p;
	struct deployment_list l = { 0 };
	stage_open(&s, NULL);
	make_at(&p, &s, &l, NOW);
	assert_int_equal(p.count, 0);
	assert_null(plan_first(&p));
	assert_true(p.next_s == INT64_MAX);
	assert_string_equal(p.client_id, "GUID:00000000-0000-4000-8000-00000000000A");
	plan_free(&p);
	stage_close(&s);
}

TEST(plan__several__order_of_priority_then_deadline)
{
	struct stage s;
	struct plan p;
	struct deployment_list l = { 0 };
	stage_open(&s, NULL);
	stage_deploy(&l, "A0000001.1", "a");
	stage_deploy(&l, "A0000002.1", "b")->deadline_s = NOW - 2;
	stage_deploy(&l, "A0000003.1", "c")->deadline_s = NOW - 3;
	stage_deploy(&l, "A0000004.1", "d")->priority = 2;
	stage_deploy(&l, "A0000005.1", "e")->priority = 0;
	make_at(&p, &s, &l, NOW);
	const char *want[] = { "A0000004.1", "A0000003.1", "A0000002.1",
			       "A0000001.1", "A0000005.1" };
	for (size_t i = 0; i < 5; i++) {
		struct plan_item *item = plan_first(&p);
		assert_non_null(item);
		assert_string_equal(item->name, want[i]);
		item->is_running = true;
		assert_string_equal(plan_word(item), "running");
	}
	assert_null(plan_first(&p));
	plan_free(&p);
	stage_close(&s);
}

TEST(plan__available_later__next_moment)
{
	struct stage s;
	struct plan p;
	struct deployment_list l = { 0 };
	stage_open(&s, NULL);
	stage_deploy(&l, "A0000001.1", "a")->available_s = NOW + 2 * HOUR;
	stage_deploy(&l, "A0000002.1", "b")->available_s = NOW + HOUR;
	stage_deploy(&l, "A0000003.1", "c")->is_required = false;
	stage_deploy(&l, "A0000004.1", NULL);
	make_at(&p, &s, &l, NOW);
	assert_null(plan_first(&p));
	assert_int_equal(p.next_s, NOW + HOUR);
	assert_string_equal(word_of(&p, "a0000001.1"), "waiting");
	assert_string_equal(word_of(&p, "A0000003.1"), "on request");
	assert_string_equal(word_of(&p, "A0000004.1"), "no hash");
	plan_decide(&p, NOW + HOUR);
	assert_string_equal(plan_first(&p)->name, "A0000002.1");
	assert_int_equal(p.next_s, NOW + 2 * HOUR);
	plan_free(&p);
	stage_close(&s);
}

TEST(plan__newer_version__replaces_the_older)
{
	struct stage s;
	struct plan p;
	struct deployment_list l = { 0 };
	stage_open(&s, NULL);
	stage_deploy(&l, "ABC00042.3", "three");
	stage_deploy(&l, "abc00042.4", "four");
	stage_deploy(&l, "ABC00043.1", "other");
	make_at(&p, &s, &l, NOW);
	assert_string_equal(word_of(&p, "ABC00042.3"), "superseded");
	assert_int_equal(plan_find(&p, "ABC00042.3")->newer_version, 4);
	assert_string_equal(word_of(&p, "ABC00042.4"), "due now");
	assert_string_equal(word_of(&p, "ABC00043.1"), "due now");
	plan_free(&p);
	stage_close(&s);
}

TEST(plan__newer_version_not_yet_available__older_stays_due)
{
	struct stage s;
	struct plan p;
	struct deployment_list l = { 0 };
	stage_open(&s, NULL);
	stage_deploy(&l, "ABC00042.3", "three");
	stage_deploy(&l, "ABC00042.4", "four")->available_s = NOW + HOUR;
	make_at(&p, &s, &l, NOW);
	assert_string_equal(word_of(&p, "ABC00042.3"), "due now");
	plan_decide(&p, NOW + HOUR);
	assert_string_equal(word_of(&p, "ABC00042.3"), "superseded");
	plan_free(&p);
	stage_close(&s);
}

TEST(plan__newer_version_on_request__older_stays_due)
{
	struct stage s;
	struct plan p;
	struct deployment_list l = { 0 };
	stage_open(&s, NULL);
	stage_deploy(&l, "ABC00042.2", "two")->is_required = false;
	stage_deploy(&l, "ABC00042.3", "three");
	stage_deploy(&l, "ABC00042.4", "four")->is_required = false;
	make_at(&p, &s, &l, NOW);
	assert_string_equal(word_of(&p, "ABC00042.2"), "superseded");
	assert_string_equal(word_of(&p, "ABC00042.3"), "due now");
	assert_string_equal(word_of(&p, "ABC00042.4"), "on request");
	plan_free(&p);
	stage_close(&s);
}

TEST(plan__several_deployments_of_one_content__the_most_urgent_counts)
{
	struct stage s;
	struct plan p;
	struct deployment_list l = { 0 };
	stage_open(&s, NULL);
	struct deployment *d = stage_deploy(&l, "ABC00042.3", "three");
	d->is_required = false;
	d->priority = 2;
	stage_deploy(&l, "abc00042.3", "three")->priority = 0;
	stage_deploy(&l, "ABC00042.3", "three")->deadline_s = NOW - 1;
	make_at(&p, &s, &l, NOW);
	assert_int_equal(p.count, 1);
	assert_true(p.items[0].deployment->is_required);
	assert_int_equal(p.items[0].deployment->deadline_s, NOW - 1);
	plan_free(&p);
	stage_close(&s);
}

TEST(plan__in_cache_with_the_hash__here)
{
	struct stage s;
	struct plan p;
	struct deployment_list l = { 0 };
	struct ledger_job job;
	stage_open(&s, NULL);
	stage_publish(&s, "abc00042.3", "three");
	stage_publish(&s, "ABC00043.1", "damaged");
	stage_deploy(&l, "ABC00042.3", "three");
	stage_deploy(&l, "ABC00043.1", "right");
	make_at(&p, &s, &l, NOW);
	assert_string_equal(word_of(&p, "ABC00042.3"), "here");
	assert_string_equal(word_of(&p, "ABC00043.1"), "due now");
	assert_true(ledger_get_job(s.record, "ABC00042.3", &job));
	assert_true(job.past.is_here);
	assert_non_null(strstr(job.path, "/cache/content/abc00042.3"));
	/* its state was lost, not the content: nobody waits for it */
	assert_int_equal(told(&s, "waiting", "ABC00042"), 0);
	assert_int_equal(told(&s, "waiting", "ABC00043"), 1);
	plan_free(&p);
	stage_close(&s);
}

TEST(plan__new_and_gone__told_once)
{
	struct stage s;
	struct plan p;
	struct deployment_list l = { 0 };
	struct ledger_job job;
	stage_open(&s, NULL);
	for (int i = 0; i < 3; i++) {
		stage_deploy(&l, "ABC00042.3", "three");
		stage_deploy(&l, "ABC00043.1", "one");
		make_at(&p, &s, &l, NOW + i);
		plan_free(&p);
	}
	assert_int_equal(told(&s, "waiting", "ABC00042"), 1);
	for (int i = 0; i < 3; i++) {
		stage_deploy(&l, "ABC00043.1", "one");
		make_at(&p, &s, &l, NOW + 10 + i);
		assert_null(plan_find(&p, "ABC00042.3"));
		plan_free(&p);
	}
	assert_int_equal(told(&s, "withdrawn", "ABC00042"), 1);
	assert_int_equal(told(&s, "withdrawn", "ABC00043"), 0);
	assert_true(ledger_get_job(s.record, "ABC00042.3", &job));
	assert_false(job.is_in_policy);
	stage_close(&s);
}

TEST(plan__policy_with_holes__nothing_is_taken_for_gone)
{
	struct stage s;
	struct plan p;
	struct deployment_list l = { 0 };
	struct ledger_job job;
	stage_open(&s, NULL);
	stage_deploy(&l, "ABC00042.3", "three");
	make_at(&p, &s, &l, NOW);
	plan_free(&p);
	/* its file cannot be read, and another one is new */
	stage_deploy(&l, "ABC00043.1", "one");
	l.is_incomplete = true;
	make_at(&p, &s, &l, NOW + HOUR);
	assert_null(plan_find(&p, "ABC00042.3"));
	plan_free(&p);
	assert_true(ledger_get_job(s.record, "ABC00042.3", &job));
	assert_true(job.is_in_policy);
	assert_true(ledger_get_job(s.record, "ABC00043.1", &job));
	assert_true(job.is_in_policy);
	assert_int_equal(told(&s, "withdrawn", "ABC00042"), 0);
	assert_int_equal(told(&s, "waiting", "ABC00043"), 1);
	stage_deploy(&l, "ABC00042.3", "three");
	make_at(&p, &s, &l, NOW + 2 * HOUR);
	assert_int_equal(plan_find(&p, "ABC00042.3")->past.first_seen_s, NOW);
	plan_free(&p);
	assert_int_equal(told(&s, "waiting", "ABC00042"), 1);
	assert_int_equal(told(&s, "withdrawn", "ABC00043"), 1);
	stage_close(&s);
}

TEST(plan__under_way_and_the_clock_goes_back__goes_on)
{
	struct stage s;
	struct plan p;
	struct deployment_list l = { 0 };
	stage_open(&s, NULL);
	stage_deploy(&l, "ABC00042.3", "three");
	make_at(&p, &s, &l, NOW);
	p.items[0].past.failed_s = NOW;
	p.items[0].past.delay_s = p.items[0].past.tries = 100;
	plan_decide(&p, NOW + 100);
	assert_string_equal(word_of(&p, "ABC00042.3"), "due now");
	p.items[0].is_running = true;
	plan_decide(&p, NOW + 90);
	assert_int_equal(p.items[0].answer.state, DUE_NOW);
	p.items[0].is_running = false;
	plan_decide(&p, NOW + 90);
	assert_int_equal(p.items[0].answer.state, DUE_LATER);
	plan_free(&p);
	stage_close(&s);
}

/* A job that failed three times an hour ago and may not be tried yet. */
static void fail_before(struct stage *s, const char *name)
{
	struct ledger_job job;
	struct err e = { 0 };
	assert_true(ledger_get_job(s->record, name, &job));
	job.past.tries = 3;
	job.past.failed_s = NOW;
	job.past.delay_s = 2 * HOUR;
	job.past.has_given_up = true;
	assert_ok(ledger_put_job(s->record, &job, &e));
}

TEST(plan__failed_before__waits_as_the_ledger_says)
{
	struct stage s;
	struct plan p;
	struct deployment_list l = { 0 };
	stage_open(&s, NULL);
	stage_deploy(&l, "ABC00042.3", "three");
	make_at(&p, &s, &l, NOW);
	plan_free(&p);
	fail_before(&s, "ABC00042.3");
	stage_deploy(&l, "ABC00042.3", "three");
	make_at(&p, &s, &l, NOW + HOUR);
	assert_int_equal(p.items[0].past.tries, 3);
	assert_int_equal(p.items[0].past.first_seen_s, NOW);
	assert_int_equal(p.items[0].answer.at_s, NOW + 2 * HOUR);
	plan_free(&p);
	stage_close(&s);
}

TEST(plan__other_hash_in_policy__begins_anew)
{
	struct stage s;
	struct plan p;
	struct deployment_list l = { 0 };
	stage_open(&s, NULL);
	stage_publish(&s, "ABC00042.3", "three");
	stage_deploy(&l, "ABC00042.3", "three");
	make_at(&p, &s, &l, NOW);
	assert_string_equal(plan_word(&p.items[0]), "here");
	plan_free(&p);
	fail_before(&s, "ABC00042.3");
	stage_deploy(&l, "ABC00042.3", "three, corrected");
	make_at(&p, &s, &l, NOW + 1);
	assert_string_equal(plan_word(&p.items[0]), "due now");
	assert_int_equal(p.items[0].past.tries, 0);
	assert_false(p.items[0].past.has_given_up);
	plan_free(&p);
	stage_close(&s);
}

TEST(plan__deployed_again__seen_for_the_first_time)
{
	struct stage s;
	struct plan p;
	struct deployment_list l = { 0 };
	stage_open(&s, NULL);
	stage_deploy(&l, "ABC00042.3", "three");
	make_at(&p, &s, &l, NOW);
	plan_free(&p);
	fail_before(&s, "ABC00042.3");
	make_at(&p, &s, &l, NOW + 1);
	plan_free(&p);
	stage_deploy(&l, "ABC00042.3", "three");
	make_at(&p, &s, &l, NOW + 2);
	assert_int_equal(p.items[0].past.first_seen_s, NOW + 2);
	assert_int_equal(p.items[0].past.tries, 0);
	plan_free(&p);
	stage_close(&s);
}

static unsigned entries(const char *path)
{
	unsigned n = 0;
	DIR *dir = opendir(path);
	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

TEST(plan__read_only__nothing_is_written)
{
	struct stage s;
	struct plan p;
	struct err e = { 0 };
	struct deployment_list l = { 0 };
	struct ledger_job job;
	stage_open(&s, NULL);
	unsigned before = entries(s.folder);
	stage_deploy(&l, "ABC00042.3", "three");
	assert_ok(plan_make(&p, &s.settings, &l, s.record, true, NOW, &e));
	assert_string_equal(plan_word(&p.items[0]), "due now");
	plan_free(&p);
	assert_int_equal(entries(s.folder), before); /* no cache, no events */
	assert_false(ledger_get_job(s.record, "ABC00042.3", &job));
	stage_close(&s);
}

TEST(plan__no_record__decides_all_the_same)
{
	struct stage s;
	struct plan p;
	struct err e = { 0 };
	struct deployment_list l = { 0 };
	stage_open(&s, NULL);
	stage_deploy(&l, "ABC00042.3", "three");
	assert_ok(plan_make(&p, &s.settings, &l, NULL, false, NOW, &e));
	assert_string_equal(plan_word(&p.items[0]), "due now");
	/* a run that could leave no word: not due at once again */
	plan_refresh(&p, &p.items[0], &s.settings, NULL, NOW + 5);
	assert_string_equal(plan_word(&p.items[0]), "waiting");
	assert_int_equal(p.items[0].past.tries, 1);
	assert_int_equal(p.next_s, p.items[0].answer.at_s);
	plan_free(&p);
	stage_close(&s);
}

TEST(plan_refresh__arrived__here)
{
	struct stage s;
	struct plan p;
	struct deployment_list l = { 0 };
	stage_open(&s, NULL);
	stage_deploy(&l, "ABC00042.3", "three");
	make_at(&p, &s, &l, NOW);
	stage_publish(&s, "ABC00042.3", "three");
	plan_refresh(&p, &p.items[0], &s.settings, s.record, NOW + 5);
	assert_string_equal(plan_word(&p.items[0]), "here");
	plan_free(&p);
	stage_close(&s);
}

TEST(plan_refresh__failed__as_the_ledger_says)
{
	struct stage s;
	struct plan p;
	struct deployment_list l = { 0 };
	stage_open(&s, NULL);
	stage_deploy(&l, "ABC00042.3", "three");
	make_at(&p, &s, &l, NOW);
	fail_before(&s, "ABC00042.3");
	plan_refresh(&p, &p.items[0], &s.settings, s.record, NOW + 5);
	assert_int_equal(p.items[0].past.tries, 3);
	assert_int_equal(p.next_s, NOW + 2 * HOUR);
	plan_free(&p);
	stage_close(&s);
}

TEST(plan__windows__from_settings)
{
	struct stage s;
	struct plan p;
	struct deployment_list l = { 0 };
	/* Sunday, one minute: closed at NOW, a Friday in every zone */
	const char *set[] = { "schedule.window=Sun 03:00-03:01", NULL };
	stage_open(&s, set);
	stage_deploy(&l, "ABC00042.3", "three");
	stage_deploy(&l, "ABC00043.3", "late")->deadline_s = NOW - 1;
	make_at(&p, &s, &l, NOW);
	assert_string_equal(word_of(&p, "ABC00042.3"), "waiting");
	assert_string_equal(word_of(&p, "ABC00043.3"), "due now");
	assert_true(plan_find(&p, "ABC00043.3")->answer.is_urgent);
	plan_free(&p);
	stage_close(&s);
}

TEST(plan__ten_thousand_deployments__all_decided)
{
	struct stage s;
	struct plan p;
	struct deployment_list l = { 0 };
	char name[32];
	stage_open(&s, NULL);
	l.items = calloc(10000, sizeof(*l.items));
	for (unsigned i = 0; i < 10000; i++) {
		snprintf(name, sizeof(name), "P%07u.%u", i / 2, i % 2 + 1);
		struct deployment *d = stage_deploy(&l, name, i % 10 ? name : NULL);
		d->deadline_s = NOW + (int)i;
	}
	for (int turn = 0; turn < 2; turn++) {
		make_at(&p, &s, &l, NOW);
		assert_int_equal(p.count, 10000);
		assert_string_equal(word_of(&p, "P0000007.1"), "superseded");
		l = p.policy;
		p.policy = (struct deployment_list){ 0 };
		plan_free(&p);
	}
	assert_int_equal(told(&s, "waiting", "P0000007"), 2);
	deployment_list_free(&l);
	stage_close(&s);
}
