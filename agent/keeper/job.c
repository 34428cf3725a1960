#include "agent/keeper/job.h"

#include "agent/keeper/steps.h"
#include "agent/keeper/transfer.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mask.h"
#include "common/own.h"
#include "common/priority.h"
#include "common/signals.h"
#include "policy/next.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SOURCE_GRACE_MS 60000 /* a source's time before its rate counts */
#define ATTEMPTS_MAX 1000

/* --- one attempt, in the report ------------------------------------------------- */

static struct job_attempt *begin_attempt(struct job *j, const char *url,
					 const char *host, enum source_kind kind)
{
	struct job_report *r = j->report;
	struct job_attempt *more =
		realloc(r->attempts, (r->attempt_count + 1) * sizeof(*more));
	if (more == NULL)
		return NULL;
	r->attempts = more;
	struct job_attempt *a = &more[r->attempt_count++];
	autobuf masked = { 0 };
	mask_values(span_of(url), &masked);
	*a = (struct job_attempt){ .kind = kind,
				   .host = strdup(host),
				   .url = buf_take(&masked) };
	return a;
}

static void end_attempt(struct job *j, const struct receive_figures *before,
			int64_t began_ms, const struct err *e)
{
	struct job_report *r = j->report;
	struct job_attempt *a = &r->attempts[r->attempt_count - 1];
	a->why = *e;
	a->bytes_received =
		r->figures.bytes_received - before->bytes_received;
	a->duration_ms = clock_now_ms() - began_ms;
	if (e->code == ERR_OK)
		r->delivered = (int)r->attempt_count - 1;
	else
		log_warning("ContentTransferManager", "%s: %s", a->host, e->text);
}

/* --- one run at one source ------------------------------------------------------- */

/* Asked every few MiB of kept bytes: time to stop, and time to tell how far. */
static enum err_code on_stop(void *arg, struct err *e)
{
	struct job *j = arg;
	receive_figures(j->receive, &j->report->figures);
	job_tell(j, "check kept files");
	return signals_check(e);
}

static void on_tick(void *arg)
{
	struct job *j = arg;
	receive_figures(j->receive, &j->report->figures);
	job_tell(j, "transfer");
}

/* Room for what is still to come; figures are known with the list. */
static enum err_code reserve(struct job *j, uint64_t need, struct err *e)
{
	const struct settings *s = j->request->settings;
	job_tell(j, "reserve");
	if (j->cache == NULL)
		return cache_check_disk(j->draft.dir_fd, need, s->min_free, e);
	unsigned evicted = 0;
	enum err_code rc = cache_reserve(j->cache, j->name, need, &evicted, e);
	if (evicted)
		log_info("CAS", "%u contents left the cache to make room for %s",
			 evicted, j->name);
	return rc;
}

static int64_t source_deadline(const struct job *j, uint64_t need)
{
	uint64_t rate = pacing_minimum(&j->pacing);
	int64_t at = INT64_MAX;
	if (rate && need / rate < (uint64_t)INT32_MAX)
		at = clock_now_ms() + SOURCE_GRACE_MS +
		     (int64_t)(need / rate) * 1000;
	return at < j->deadline_ms ? at : j->deadline_ms;
}

/* The content hash over everything that came: the last word. */
static enum err_code check(struct job *j, struct err *e)
{
	char hex[DIGEST_HEX_SIZE];
	job_tell(j, "check");
	listing_free(&j->listing);
	if (receive_listing(j->receive, &j->listing, e) != ERR_OK ||
	    listing_hash(&j->listing, hex, e) != ERR_OK)
		return e->code;
	receive_figures(j->receive, &j->report->figures);
	uint64_t size = j->request->deployment ? j->request->deployment->size :
						 DEPLOYMENT_SIZE_UNKNOWN;
	if (size != DEPLOYMENT_SIZE_UNKNOWN &&
	    size != j->report->figures.bytes_done)
		return err_set(e, ERR_SIZE,
			       "content has %" PRIu64 " bytes, policy says %" PRIu64,
			       j->report->figures.bytes_done, size);
	if (j->hash[0] && strcmp(hex, j->hash) != 0)
		return err_set(e, ERR_HASH,
			       "content hash is sha256:%s, policy says sha256:%s",
			       hex, j->hash);
	snprintf(j->report->hash, sizeof(j->report->hash), "%s", hex);
	return ERR_OK;
}

static enum err_code run_source(struct job *j, struct transfer *t, struct err *e)
{
	uint64_t kept, need;
	job_tell(j, "list");
	if (transfer_list(t, e) != ERR_OK)
		return e->code;
	job_tell(j, "check kept files");
	if (receive_plan(j->receive, &kept, &need, e) != ERR_OK)
		return e->code;
	receive_figures(j->receive, &j->report->figures);
	log_info("DataTransferService",
		 "%s lists %" PRIu64 " files of %s; %" PRIu64
		 " bytes to come, %" PRIu64 " kept from before",
		 t->host, j->report->figures.files, j->name, need, kept);
	if (reserve(j, need, e) != ERR_OK)
		return e->code;
	t->deadline_ms = source_deadline(j, need);
	if (j->transfer_began_ms == 0)
		j->transfer_began_ms = clock_now_ms();
	enum err_code rc = transfer_run(t, e);
	on_tick(j);
	if (rc != ERR_OK)
		return rc;
	/* all is there: what net and the ring hold is room for the listing now */
	worker_stop(take_ptr(j->worker));
	return check(j, e);
}

/* --- one source, as often as it deserves ------------------------------------------- */

/* The location again, with a fresh token or signature, by its host. */
static enum err_code relocate(struct job *j, const char *host, struct source *s,
			      struct err *e)
{
	struct ask_location fresh = { 0 };
	struct choose_result chosen = { 0 };
	log_info("LocationServices", "access to %s ran out: locating %s again",
		 host, j->name);
	enum err_code rc = job_ask_location(j, &fresh, &chosen, e);
	bool found = false;
	for (size_t i = 0; rc == ERR_OK && i < chosen.usable && !found; i++) {
		if (strcmp(chosen.items[i].host, host) != 0 ||
		    chosen.items[i].kind != SOURCE_CLOUD)
			continue;
		/* keep the fresh list: s borrows from it from now on */
		*s = fresh.sources.items[chosen.items[i].source];
		found = true;
	}
	if (rc == ERR_OK && !found)
		rc = err_set(e, ERR_ABSENT,
			     "the management point no longer names %s", host);
	choose_free(&chosen);
	ask_location_free(&j->relocated);
	j->relocated = fresh;
	return rc;
}

static struct transfer transfer_of(struct job *j, const struct source *s,
				   const char *host, enum source_kind kind)
{
	struct transfer t = {
		.worker = j->worker,
		.receive = j->receive,
		.content = &j->report->content,
		.kind = kind == SOURCE_CLOUD ? WIRE_SOURCE_CLOUD : WIRE_SOURCE_DP,
		.url = s->url,
		.token = s->token,
		.host = host,
		.pacing = &j->pacing,
		.deadline_ms = j->deadline_ms,
		.on_tick = on_tick,
		.arg = j,
	};
	if (kind != SOURCE_CLOUD && j->record)
		record_get_host(j->record, host, &t.rung, &t.form);
	return t;
}

/*
 * The site encrypts what it uploads, with a key that never reaches us by a known
 * way (docs/wire.md 6.4). Bytes from the cloud of the right length and the wrong
 * hash look like that, unless on-premises copies were wrong, too.
 */
static void suspect_ciphertext(const struct job *j, enum source_kind kind,
			       struct err *e)
{
	if (kind != SOURCE_CLOUD ||
	    (e->code != ERR_HASH && e->code != ERR_HASH_FILE))
		return;
	for (size_t i = 0; i < j->report->attempt_count; i++) {
		const struct job_attempt *a = &j->report->attempts[i];
		if (a->kind != SOURCE_CLOUD && err_exit(a->why.code) == CLASS_HASH)
			return;
	}
	err_set(e, e->code, "%s; its length is right: it looks like ciphertext, "
		"and no key is known", e->text);
}

/* One attempt, with its line in the report. */
static enum err_code attempt(struct job *j, struct source *s,
			     const struct choose_item *item, struct err *e)
{
	struct receive_figures before = j->report->figures;
	int64_t began = clock_now_ms();
	if (begin_attempt(j, s->url, item->host, item->kind) == NULL)
		return err_set(e, ERR_NOMEM, "no memory for an attempt");
	struct transfer t = transfer_of(j, s, item->host, item->kind);
	enum wire_rung rung = t.rung;
	enum wire_form form = t.form;
	j->host = item->host;
	run_source(j, &t, e);
	suspect_ciphertext(j, item->kind, e);
	receive_figures(j->receive, &j->report->figures);
	if (item->kind != SOURCE_CLOUD && j->record && t.files &&
	    (t.rung != rung || t.form != form))
		record_set_host(j->record, item->host, t.rung, t.form, NULL);
	end_attempt(j, &before, began, e);
	return e->code;
}

/* Only what a later source or attempt could mend is tried again. */
static enum err_code try_source(struct job *j, const struct choose_item *item,
				struct err *e)
{
	struct source s = j->report->location.sources.items[item->source];
	unsigned attempts = 0, relocations = 0;
	for (;;) {
		uint64_t before = j->report->figures.bytes_received;
		*e = (struct err){ 0 };
		if (attempt(j, &s, item, e) == ERR_OK)
			return ERR_OK;
		struct err start = { 0 };
		if (j->worker == NULL && job_start(j, true, &start) != ERR_OK) {
			*e = start;
			return e->code;
		}
		if (e->code == ERR_NET_DIED || e->code == ERR_NET_LIED) {
			struct err died = *e;
			if (job_restart_worker(j, e) == ERR_OK)
				*e = died;
			return e->code;
		}
		bool second_chance =
			e->code == ERR_HASH && receive_distrust(j->receive);
		if (j->report->figures.bytes_received > before && !second_chance &&
		    e->code != ERR_HASH)
			attempts = relocations = 0;
		attempts++;
		struct next_input in = {
			.code = e->code,
			.attempts_done = attempts,
			.attempts_allowed =
				(unsigned)j->request->settings->attempts,
			.relocations_done = relocations,
			.retry_after_s = e->retry_after_s,
			.patience_left_ms = j->patience_ms,
			.time_left_ms = j->deadline_ms == INT64_MAX ?
						INT64_MAX :
						j->deadline_ms - clock_now_ms(),
			.chance = clock_chance(),
		};
		struct next_step step = next_decide(&in);
		if (second_chance)
			step = (struct next_step){ .action = NEXT_DO_AGAIN };
		if (step.action == NEXT_DO_SOURCE || step.action == NEXT_DO_GIVE_UP ||
		    j->report->attempt_count >= ATTEMPTS_MAX)
			return e->code;
		log_info("ContentTransferManager", "%s: %s", item->host,
			 second_chance ? "begins anew, without kept bytes" :
					 step.reason);
		if (e->code == ERR_BUSY)
			j->patience_ms -= step.delay_ms;
		struct err stop = { 0 };
		if (step.action == NEXT_DO_RELOCATE) {
			relocations++;
			if (relocate(j, item->host, &s, &stop) != ERR_OK) {
				*e = stop;
				return e->code;
			}
		} else if (worker_sleep(step.delay_ms, &stop) != ERR_OK) {
			*e = stop;
			return e->code;
		}
	}
}

/* --- all sources --------------------------------------------------------------------- */

/* No room for what a source says the content is: where policy names no size, the
 * next may say something else. */
static bool is_claim(const struct job *j, enum err_code code)
{
	const struct deployment *d = j->request->deployment;
	bool has_size = d && d->size != DEPLOYMENT_SIZE_UNKNOWN;
	return err_exit(code) == CLASS_SPACE && !has_size;
}

static bool is_final(enum err_code code)
{
	return err_next(code) == NEXT_GIVE_UP;
}

static enum err_code try_sources(struct job *j, struct err *e)
{
	struct job_report *r = j->report;
	struct err last = { 0 };
	unsigned retry_after_s = 0; /* the longest: none is asked before its time */
	for (size_t i = 0; i < r->chosen.usable; i++) {
		if (r->chosen.items[i].kind == SOURCE_CLOUD &&
		    (i == 0 || r->chosen.items[i - 1].kind != SOURCE_CLOUD))
			job_order_cloud(j, i);
		struct err one = { 0 };
		if (try_source(j, &r->chosen.items[i], &one) == ERR_OK)
			return ERR_OK;
		last = one;
		if (one.retry_after_s > retry_after_s)
			retry_after_s = one.retry_after_s;
		if (is_final(one.code) && !is_claim(j, one.code))
			break;
		if (clock_now_ms() >= j->deadline_ms) {
			err_set(&last, ERR_DEADLINE,
				"the whole download took longer than [transfer] "
				"deadline; last: %s", one.text);
			break;
		}
	}
	*e = last;
	e->retry_after_s = retry_after_s;
	return e->code;
}

static enum err_code publish(struct job *j, struct err *e)
{
	job_tell(j, "publish");
	enum err_code rc =
		j->cache ? cache_publish(j->cache, &j->draft, &j->report->content,
					 &j->listing, e) :
			   draft_publish(&j->draft, &j->listing, e);
	if (rc != ERR_OK)
		return rc;
	j->report->path = strdup(j->draft.path);
	j->report->result = j->hash[0] ? JOB_VERIFIED : JOB_UNVERIFIED;
	log_info("CAS", "Hash verification succeeded for content %s: %s", j->name,
		 j->report->path);
	return j->report->path ? ERR_OK :
				 err_set(e, ERR_NOMEM, "no memory for a path");
}

/* Published already, and its bytes are still the right ones? */
static void found(struct job *j, char *path, uint64_t files, uint64_t bytes)
{
	struct job_report *r = j->report;
	r->result = JOB_CACHED;
	r->path = path;
	r->figures = (struct receive_figures){ .files = files,
					       .files_done = files,
					       .bytes_total = bytes,
					       .bytes_done = bytes };
	snprintf(r->hash, sizeof(r->hash), "%s", j->hash);
}

static enum err_code interrupted(void *arg)
{
	(void)arg;
	return signals_check(NULL);
}

/* --to DIR that holds exactly this content already, from an earlier run. */
static bool is_in_place(struct job *j)
{
	autolisting there = { 0 };
	char hex[DIGEST_HEX_SIZE];
	uint64_t bytes = 0;
	if (j->request->to == NULL || j->hash[0] == '\0')
		return false;
	autofd fd = open(j->request->to,
			 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 ||
	    listing_walk(fd, &there, &bytes, interrupted, NULL, NULL) != ERR_OK ||
	    there.count == 0 || listing_hash(&there, hex, NULL) != ERR_OK ||
	    strcmp(hex, j->hash) != 0)
		return false;
	found(j, realpath(j->request->to, NULL), there.count, bytes);
	return true;
}

static bool is_cached(struct job *j)
{
	struct cache_item item;
	autofree char *path = NULL;
	char hex[DIGEST_HEX_SIZE];
	struct err e = { 0 };
	if (j->cache == NULL || j->hash[0] == '\0' ||
	    !cache_find(j->cache, &j->report->content, &item, &path))
		return false;
	job_tell(j, "check cache");
	if (cache_hash(j->cache, &item, hex, &e) != ERR_OK) {
		if (signals_check(NULL) == ERR_OK)
			log_warning("CAS", "%s in the cache: %s", item.name, e.text);
		return false;
	}
	if (strcmp(hex, j->hash) != 0) {
		log_warning("CAS", "%s in the cache has hash sha256:%s, not "
			    "sha256:%s: it is fetched again", item.name, hex,
			    j->hash);
		return false;
	}
	cache_touch(j->cache, &item);
	found(j, take_ptr(path), item.files, item.bytes);
	return true;
}

static enum err_code open_draft(struct job *j, struct err *e)
{
	const struct job_request *q = j->request;
	enum err_code rc =
		j->cache ? cache_begin(j->cache, &j->report->content, &j->draft, e) :
			   draft_open_at(q->to, &j->draft, e);
	if (rc != ERR_OK)
		return rc;
	struct receive_options o = {
		.dir_fd = j->draft.dir_fd,
		.wanted = q->deployment && q->deployment->files.count ?
				  &q->deployment->files : NULL,
		.size = q->deployment ? q->deployment->size :
					DEPLOYMENT_SIZE_UNKNOWN,
		.most_bytes = j->cache && q->settings->cache_size ?
				      q->settings->cache_size : UINT64_MAX,
		.stop = on_stop,
		.stop_arg = j,
	};
	j->receive = receive_new(&o, e);
	return j->receive ? ERR_OK : e->code;
}

/* What nobody waits for takes what others leave of the machine. net is told by
 * PACE. */
static void give_way(struct job *j)
{
	struct priority_report got;
	if (!j->pacing.now.is_idle || j->request->dry_run)
		return;
	priority_lower(&got);
	log_debug("ContentTransferManager", "in the background: cpu=%s io=%s",
		  got.is_cpu_idle ? "idle" : got.is_nice ? "nice 19" : "as ever",
		  got.is_io_idle ? "idle" : got.is_io_last ? "last" : "as ever");
}

static enum err_code download(struct job *j, struct err *e)
{
	give_way(j);
	if (job_settle(j, e) != ERR_OK || job_open_state(j, e) != ERR_OK ||
	    job_open_cache(j, e) != ERR_OK)
		return e->code;
	if (is_cached(j) || is_in_place(j) || signals_check(e) != ERR_OK)
		return e->code;
	if (!j->request->dry_run && open_draft(j, e) != ERR_OK)
		return e->code;
	if (job_start(j, !j->request->dry_run, e) != ERR_OK)
		return e->code;
	job_tell(j, "locate");
	if (job_ask_location(j, &j->report->location, &j->report->chosen, e) !=
	    ERR_OK)
		return e->code;
	if (j->request->dry_run) {
		j->report->result = JOB_PLANNED;
		return ERR_OK;
	}
	if (try_sources(j, e) != ERR_OK || publish(j, e) != ERR_OK)
		return e->code;
	if (j->record)
		record_search_done(j->record, j->name);
	return ERR_OK;
}

enum err_code job_download(const struct job_request *request,
			   struct job_report *report, struct err *e)
{
	struct job j;
	job_begin(&j, request, report);
	download(&j, e);
	job_end(&j);
	if (e->code == ERR_OK && report->path)
		log_info("ContentTransferManager", "%s is at %s", j.name,
			 report->path);
	return e->code;
}

/* --- --locate, --replay ------------------------------------------------------------------ */

enum err_code job_locate(const struct job_request *request,
			 struct job_report *report, struct err *e)
{
	struct job j;
	job_begin(&j, request, report);
	const struct deployment *d = request->deployment;
	if (d && !report->content.has_version && d->content.has_version)
		report->content = d->content;
	content_name(&report->content, j.name);
	if (job_open_state(&j, e) == ERR_OK && job_start(&j, false, e) == ERR_OK)
		job_ask_location(&j, &report->location, &report->chosen, e);
	job_end(&j);
	return e->code;
}

enum err_code job_replay(const struct job_request *request, const char *path,
			 struct job_report *report, struct err *e)
{
	struct job j;
	job_begin(&j, request, report);
	if (job_start(&j, false, e) == ERR_OK &&
	    ask_replay(j.worker, path, &report->location, e) == ERR_OK &&
	    job_choose(&j, &report->location.sources, &report->chosen, e) ==
		    ERR_NO_LOCATION)
		err_set(e, ERR_NO_LOCATION, "the stored reply names no source");
	job_end(&j);
	return e->code;
}
