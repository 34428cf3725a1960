#include "agent/keeper/metrics.h"

#include "agent/keeper/cache.h"
#include "agent/keeper/expiry.h"
#include "agent/keeper/outbox.h"
#include "common/clock.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/own.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX "cloud_dp_agent_"
#define METRICS_MODE 0644
#define DAY_S 86400

/* --- the form ------------------------------------------------------------- */

/* OpenMetrics 1.0: a family is announced once, then come its samples. */
static void family(struct buf *out, const char *name, const char *type,
		   const char *help)
{
	buf_print(out, "# TYPE " PREFIX "%s %s\n# HELP " PREFIX "%s %s\n", name, type,
		  name, help);
}

static void gauge(struct buf *out, const char *name, const char *help,
		  int64_t value)
{
	family(out, name, "gauge", help);
	buf_print(out, PREFIX "%s %" PRId64 "\n", name, value);
}

static void counter(struct buf *out, const char *name, const char *help,
		    uint64_t value)
{
	family(out, name, "counter", help);
	buf_print(out, PREFIX "%s_total %" PRIu64 "\n", name, value);
}

/* --- what is counted ------------------------------------------------------ */

/* Every word each time, so that one that falls to nothing is a zero. */
static void print_jobs(struct buf *out, const struct plan *plan)
{
	static const char *const words[] = { "due now", "waiting",    "here",
					     "running", "on request", "superseded",
					     "no hash" };
	family(out, "jobs", "gauge", "Deployments of the policy by state.");
	for (size_t w = 0; w < sizeof(words) / sizeof(words[0]); w++) {
		uint64_t count = 0;
		for (size_t i = 0; i < plan->count; i++)
			count += strcmp(plan_word(&plan->items[i]), words[w]) == 0;
		buf_print(out, PREFIX "jobs{state=\"%s\"} %" PRIu64 "\n", words[w],
			  count);
	}
}

static uint64_t count_late(const struct plan *plan, int64_t now_s)
{
	uint64_t late = 0;
	for (size_t i = 0; i < plan->count; i++) {
		const struct plan_item *item = &plan->items[i];
		const struct deployment *d = item->deployment;
		late += d->is_required && d->deadline_s && d->deadline_s <= now_s &&
			item->answer.state != DUE_DONE &&
			item->answer.state != DUE_SUPERSEDED;
	}
	return late;
}

/* Class names are ours, so they need no escapes. */
static void print_sums(struct buf *out, struct record *r)
{
	struct ledger_sums sums = { 0 };
	struct err e = { 0 };
	if (r == NULL || ledger_get_sums(r, &sums, &e) != ERR_OK)
		return;
	family(out, "received_bytes", "counter",
	       "Content bytes received over the network, by kind of source.");
	buf_print(out, PREFIX "received_bytes_total{source=\"on-prem\"} %" PRIu64 "\n",
		  sums.bytes_on_prem);
	buf_print(out, PREFIX "received_bytes_total{source=\"cloud\"} %" PRIu64 "\n",
		  sums.bytes_cloud);
	family(out, "failures", "counter",
	       "Runs that failed, by class of error (agent(8), EXIT STATUS).");
	for (size_t i = 0; i < sums.failure_count; i++)
		buf_print(out, PREFIX "failures_total{class=\"%s\"} %" PRIu64 "\n",
			  sums.failures[i].class_name, sums.failures[i].count);
	counter(out, "arrivals", "Contents that arrived.", sums.arrived);
}

static void print_polls(struct buf *out, struct record *r, int64_t now_s)
{
	struct ledger_poll poll = { 0 };
	if (r == NULL)
		return;
	ledger_get_poll(r, &poll);
	gauge(out, "poll_success", "1 where the last poll of policy went well.",
	      poll.last_s && poll.error.code == ERR_OK);
	if (poll.good_s == 0)
		return;
	gauge(out, "poll_last_success_timestamp_seconds",
	      "When policy was read well the last time.", poll.good_s);
	gauge(out, "poll_age_seconds",
	      "How long before this file was written that was.",
	      now_s > poll.good_s ? now_s - poll.good_s : 0);
}

static void print_outbox(struct buf *out, struct record *r)
{
	uint64_t waiting = 0, lost = 0;
	if (r == NULL)
		return;
	outbox_count(r, &waiting, &lost);
	gauge(out, "outbox_messages", "State messages that wait to be sent.",
	      waiting > INT64_MAX ? INT64_MAX : (int64_t)waiting);
	counter(out, "outbox_lost", "State messages thrown away for lack of room.",
		lost);
}

static void print_cache(struct buf *out, const struct settings *s)
{
	autofree struct cache_item *items = NULL;
	size_t count = 0;
	uint64_t bytes = 0, partial_bytes = 0;
	int64_t contents = 0;
	struct err e = { 0 };
	struct cache *c = access(s->cache_directory, F_OK) == 0 ?
		cache_open(s->cache_directory, s->cache_size, s->min_free, &e) : NULL;
	bool is_read = c && cache_list(c, &items, &count, &e) == ERR_OK;
	cache_close(c);
	if (!is_read)
		return;
	for (size_t i = 0; i < count; i++) {
		contents += !items[i].is_partial;
		*(items[i].is_partial ? &partial_bytes : &bytes) += items[i].bytes;
	}
	gauge(out, "cache_contents", "Contents published in the cache.", contents);
	family(out, "cache_bytes", "gauge",
	       "Bytes in the cache: of published contents, and of those in the "
	       "making.");
	buf_print(out, PREFIX "cache_bytes{kind=\"published\"} %" PRIu64 "\n", bytes);
	buf_print(out, PREFIX "cache_bytes{kind=\"partial\"} %" PRIu64 "\n",
		  partial_bytes);
	family(out, "cache_limit_bytes", "gauge", "[cache] size; 0 = none.");
	buf_print(out, PREFIX "cache_limit_bytes %" PRIu64 "\n", s->cache_size);
}

/* Nothing where no certificate is named; a word in the log where it is bad. */
static void print_certificate(struct buf *out, const struct settings *s,
			      int64_t now_s)
{
	int64_t end_s = 0;
	struct err e = { 0 };
	if (s->certificate == NULL || s->certificate[0] == '\0')
		return;
	if (expiry_read(s->certificate, &end_s, &e) != ERR_OK) {
		log_warning("agent", "[client] certificate: %s", e.text);
		return;
	}
	gauge(out, "certificate_expiry_timestamp_seconds",
	      "When [client] certificate ends.", end_s);
	/* rounded down: on its last day it has none left, then less than none */
	int64_t left_s = end_s - now_s;
	gauge(out, "certificate_days", "Whole days until then.",
	      left_s >= 0 ? left_s / DAY_S : -((-left_s + DAY_S - 1) / DAY_S));
}

static void print_all(struct buf *out, const struct settings *s, struct record *r,
		      const struct plan *plan, int64_t now_s)
{
	print_jobs(out, plan);
	gauge(out, "late_jobs", "Required deployments past their deadline that are "
	      "not here.", (int64_t)count_late(plan, now_s));
	print_sums(out, r);
	print_polls(out, r, now_s);
	print_outbox(out, r);
	print_cache(out, s);
	print_certificate(out, s, now_s);
	gauge(out, "written_timestamp_seconds", "When this file was written.", now_s);
	buf_text(out, "# EOF\n");
}

/* --- the file ------------------------------------------------------------- */

/*
 * The collector must see the old or the new one, whole. Its folder belongs to
 * somebody else (node_exporter), so it is not judged as folders of ours are; the
 * temporary name ends in a way that the collector does not read.
 */
static enum err_code replace(const char *path, struct span text, struct err *e)
{
	autofree char *temporary = NULL;
	if (asprintf(&temporary, "%s.new", path) < 0) {
		temporary = NULL;
		return err_set(e, ERR_NOMEM, "no memory for a path");
	}
	unlink(temporary); /* of one that was killed */
	autofd fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW |
			 O_CLOEXEC, METRICS_MODE);
	if (fd < 0)
		return err_set(e, ERR_FOLDER, "make %.200s: %m", temporary);
	enum err_code rc = fs_write_at(fd, text.at, text.len, 0, temporary, e);
	if (rc == ERR_OK && fchmod(fd, METRICS_MODE) != 0)
		rc = err_set(e, ERR_FOLDER, "mode of %.200s: %m", temporary);
	if (rc == ERR_OK && rename(temporary, path) != 0)
		rc = err_set(e, ERR_FOLDER, "make %.200s: %m", path);
	if (rc != ERR_OK)
		unlink(temporary);
	return rc;
}

void metrics_write(const struct settings *s, struct record *r,
		   const struct plan *plan, int64_t now_s)
{
	autobuf text = { 0 };
	struct err e = { 0 };
	if (s->metrics_file == NULL || s->metrics_file[0] == '\0')
		return;
	print_all(&text, s, r, plan, now_s);
	enum err_code rc = text.failed ?
		err_set(&e, ERR_NOMEM, "no memory for metrics") :
		replace(s->metrics_file, buf_as_span(&text), &e);
	if (rc != ERR_OK)
		log_warning("agent", "[report] metrics_file is not written: %s",
			    e.text);
}
