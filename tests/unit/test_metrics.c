#include "tests/unit/test.h"

#include "agent/keeper/expiry.h"
#include "agent/keeper/metrics.h"
#include "agent/keeper/outbox.h"
#include "common/own.h"
#include "tests/unit/stage.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOW 1800000000

/* --- a reader of OpenMetrics, as strict as we need ------------------------ */

struct family {
	char name[100], type[20];
	bool has_help;
	unsigned samples;
};

static bool is_name(const char *at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!islower((unsigned char)at[i]) && at[i] != '_')
			return false;
	return len > 0;
}

/* "{key="value"}" or nothing; behind it, or NULL. */
static const char *skip_labels(const char *at)
{
	if (*at != '{')
		return at;
	const char *eq = strchr(at, '=');
	if (eq == NULL || !is_name(at + 1, (size_t)(eq - at - 1)) || eq[1] != '"')
		return NULL;
	const char *end = strchr(eq + 2, '"');
	return end && end[1] == '}' ? end + 2 : NULL;
}

/* One line of a sample belongs to the family before it. */
static void check_sample(struct family *f, const char *text)
{
	size_t len = strcspn(text, "{ ");
	const char *suffix = strcmp(f->type, "counter") == 0 ? "_total" : "";
	char want[130], *end;
	snprintf(want, sizeof(want), "%s%s", f->name, suffix);
	if (len != strlen(want) || strncmp(text, want, len) != 0)
		fail_msg("%s is no sample of %s %s", text, f->type, f->name);
	const char *at = skip_labels(text + len);
	if (at == NULL || *at != ' ')
		fail_msg("bad labels: %s", text);
	strtod(at + 1, &end);
	if (end == at + 1 || *end)
		fail_msg("bad value: %s", text);
	assert_true(*suffix == '\0' || at[1] != '-');
	f->samples++;
}

static void begin_family(struct family *f, const char *text)
{
	size_t len = strcspn(text, " ");
	assert_true(len < sizeof(f->name) && is_name(text, len));
	assert_int_equal(strncmp(text, "cloud_dp_agent_", 15), 0);
	*f = (struct family){ 0 };
	memcpy(f->name, text, len);
	snprintf(f->type, sizeof(f->type), "%s", text + len + 1);
	if (strcmp(f->type, "gauge") != 0 && strcmp(f->type, "counter") != 0)
		fail_msg("type of %s: %s", f->name, f->type);
}

static void check_form(const char *text)
{
	struct family f = { 0 };
	autofree char *copy = strdup(text);
	bool is_ended = false;
	for (char *at = copy, *end; (end = strchr(at, '\n')); at = end + 1) {
		*end = '\0';
		assert_false(is_ended);
		if (strncmp(at, "# TYPE ", 7) == 0) {
			begin_family(&f, at + 7);
		} else if (strncmp(at, "# HELP ", 7) == 0) {
			assert_int_equal(strncmp(at + 7, f.name, strlen(f.name)), 0);
			f.has_help = true;
		} else if (strcmp(at, "# EOF") == 0) {
			is_ended = true;
		} else {
			assert_true(f.has_help);
			check_sample(&f, at);
		}
	}
	assert_true(is_ended);
	assert_int_equal(text[strlen(text) - 1], '\n');
}

static void assert_sample(const char *text, const char *line)
{
	char want[200];
	snprintf(want, sizeof(want), "\ncloud_dp_agent_%s\n", line);
	if (strstr(text, want) == NULL)
		fail_msg("%s is missing in\n%s", want, text);
}

/* --- the tests ------------------------------------------------------------ */

static char *write_and_read(struct stage *s, struct plan *p)
{
	metrics_write(&s->settings, s->record, p, NOW);
	char *text = stage_read(s, "metrics.prom");
	assert_non_null(text);
	return text;
}

TEST(metrics__new_agent__valid_and_zero)
{
	struct stage s;
	struct plan p = { 0 };
	struct stat st;
	stage_open(&s, NULL);
	autofree char *text = write_and_read(&s, &p);
	check_form(text);
	assert_sample(text, "jobs{state=\"due now\"} 0");
	assert_sample(text, "late_jobs 0");
	assert_sample(text, "poll_success 0");
	assert_sample(text, "outbox_lost_total 0");
	assert_sample(text, "received_bytes_total{source=\"cloud\"} 0");
	assert_null(strstr(text, "certificate"));
	assert_null(strstr(text, "poll_age"));
	assert_int_equal(stat(stage_path(&s, "metrics.prom"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_not_equal(stat(stage_path(&s, "metrics.prom.new"), &st), 0);
	assert_int_not_equal(stat(stage_path(&s, "cache"), &st), 0);
	stage_close(&s);
}

static void add_runs(struct stage *s)
{
	struct err none = { 0 }, e = { 0 }, why;
	char host[] = "dp01", url[] = "http://dp01/";
	struct job_attempt a = { .kind = SOURCE_ON_PREM, .host = host, .url = url,
				 .bytes_received = 700 };
	struct job_report r = { .result = JOB_VERIFIED,
				.attempts = &a,
				.attempt_count = 1,
				.figures.bytes_received = 700 };
	assert_ok(content_parse("ABC00042.3", &r.content, &e));
	assert_ok(ledger_add_run(s->record, &r, &none, "service", NOW - 5, &e));
	a.kind = SOURCE_CLOUD;
	a.bytes_received = 30;
	err_set(&why, ERR_DNS_LOOP, "it loops");
	a.why = why;
	r.result = JOB_FAILED;
	r.delivered = -1;
	assert_ok(ledger_add_run(s->record, &r, &why, "service", NOW - 4, &e));
	assert_ok(ledger_add_run(s->record, &r, &why, "service", NOW - 3, &e));
}

TEST(metrics__after_work__figures)
{
	struct stage s;
	struct plan p;
	struct err e = { 0 };
	struct deployment_list l = { 0 };
	struct ledger_poll poll = { .last_s = NOW - 60, .good_s = NOW - 60 };
	struct outbox_item item = { .at_s = NOW, .state = OUTBOX_WAITING };
	stage_open(&s, NULL);
	stage_publish(&s, "ABC00042.3", "three");
	stage_deploy(&l, "ABC00042.3", "three")->deadline_s = NOW - 9;
	stage_deploy(&l, "ABC00043.1", "one")->deadline_s = NOW - 9;
	stage_deploy(&l, "ABC00044.1", NULL);
	assert_ok(plan_make(&p, &s.settings, &l, s.record, false, NOW, &e));
	add_runs(&s);
	assert_ok(ledger_set_poll(s.record, &poll, &e));
	assert_ok(outbox_add(s.record, &item, &e));
	autofree char *text = write_and_read(&s, &p);
	check_form(text);
	assert_sample(text, "jobs{state=\"due now\"} 1");
	assert_sample(text, "jobs{state=\"here\"} 1");
	assert_sample(text, "jobs{state=\"no hash\"} 1");
	assert_sample(text, "late_jobs 1");
	assert_sample(text, "received_bytes_total{source=\"on-prem\"} 700");
	assert_sample(text, "received_bytes_total{source=\"cloud\"} 60");
	assert_sample(text, "failures_total{class=\"DNS\"} 2");
	assert_sample(text, "arrivals_total 1");
	assert_sample(text, "poll_success 1");
	assert_sample(text, "poll_age_seconds 60");
	assert_sample(text, "poll_last_success_timestamp_seconds 1799999940");
	assert_sample(text, "outbox_messages 1");
	assert_sample(text, "cache_contents 1");
	assert_sample(text, "cache_bytes{kind=\"published\"} 5");
	plan_free(&p);
	stage_close(&s);
}

TEST(metrics__folder_is_not_there__only_a_warning)
{
	struct stage s;
	struct plan p = { 0 };
	const char *set[] = { "report.metrics_file=/nonexistent/folder/x.prom", NULL };
	stage_open(&s, set);
	metrics_write(&s.settings, s.record, &p, NOW);
	assert_int_not_equal(access("/nonexistent", F_OK), 0);
	stage_close(&s);
}

TEST(metrics__not_named__no_file)
{
	struct stage s;
	struct plan p = { 0 };
	const char *set[] = { "report.metrics_file=", NULL };
	stage_open(&s, set);
	metrics_write(&s.settings, s.record, &p, NOW);
	assert_int_not_equal(access(stage_path(&s, "metrics.prom"), F_OK), 0);
	stage_close(&s);
}

/* --- the certificate ------------------------------------------------------ */

static void write_certificate(const char *path, int64_t not_after_s)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	FILE *f = fopen(path, "w");
	assert_true(key && x && f);
	ASN1_TIME_set(X509_getm_notBefore(x), NOW - 86400);
	ASN1_TIME_set(X509_getm_notAfter(x), not_after_s);
	X509_set_pubkey(x, key);
	X509_sign(x, key, EVP_sha256());
	assert_int_equal(PEM_write_X509(f, x), 1);
	fclose(f);
	X509_free(x);
	EVP_PKEY_free(key);
}

static void assert_days(int64_t left_s, const char *line)
{
	struct stage s;
	struct plan p = { 0 };
	char path[600];
	stage_open(&s, NULL);
	snprintf(path, sizeof(path), "%s", stage_path(&s, "client.pem"));
	write_certificate(path, NOW + left_s);
	free(s.settings.certificate);
	s.settings.certificate = strdup(path);
	autofree char *text = write_and_read(&s, &p);
	check_form(text);
	assert_sample(text, line);
	stage_close(&s);
}

TEST(metrics__client_certificate__days_left)
{
	assert_days(30 * 86400 + 5, "certificate_days 30");
	assert_days(3600, "certificate_days 0");
	assert_days(-3600, "certificate_days -1");
}

TEST(expiry__no_certificate__error)
{
	struct stage s;
	struct err e = { 0 };
	int64_t end_s = 0;
	stage_open(&s, NULL);
	assert_err(expiry_read(stage_path(&s, "absent"), &end_s, &e), ERR_CONFIG);
	FILE *f = fopen(stage_path(&s, "text"), "w");
	fputs("no certificate\n", f);
	fclose(f);
	assert_err(expiry_read(stage_path(&s, "text"), &end_s, &e), ERR_CONFIG);
	assert_non_null(strstr(e.text, "no certificate in it"));
	stage_close(&s);
}
