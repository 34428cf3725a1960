#include "agent/keeper/diagnose.h"

#include "agent/keeper/steps.h"
#include "agent/keeper/transfer.h"
#include "common/clock.h"
#include "common/own.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRY_MS 60000

/*
 * --diagnose: the whole way of a download in numbered steps, for every source,
 * writing nothing that lasts. Its verdict is that of the first usable source,
 * its error what --download would end with.
 */

static void add_step(struct job *j, const char *step, const char *source,
		     int64_t began_ms, bool ok, const char *detail)
{
	struct job_report *r = j->report;
	struct job_step *more =
		realloc(r->steps, (r->step_count + 1) * sizeof(*more));
	if (more == NULL)
		return;
	r->steps = more;
	r->steps[r->step_count++] = (struct job_step){
		.step = strdup(step),
		.source = strdup(source),
		.detail = strdup(detail),
		.ok = ok,
		.duration_ms = clock_now_ms() - began_ms,
	};
}

/* The step's line, from its error or from what went well. */
static enum err_code told(struct job *j, const char *step, const char *source,
			  int64_t began_ms, const struct err *e,
			  const char *detail)
{
	add_step(j, step, source, began_ms, e->code == ERR_OK,
		 e->code == ERR_OK ? detail : e->text);
	return e->code;
}

static enum err_code diagnose_policy(struct job *j, struct err *e)
{
	int64_t began = clock_now_ms();
	char detail[256];
	job_settle(j, e);
	snprintf(detail, sizeof(detail), "%s, expected hash sha256:%s", j->name,
		 j->hash);
	return told(j, "policy", "", began, e, detail);
}

/* Published and intact? Then a download would not even ask. */
static bool diagnose_cache(struct job *j)
{
	int64_t began = clock_now_ms();
	struct cache_item item;
	autofree char *path = NULL;
	char hex[DIGEST_HEX_SIZE] = "", detail[256];
	struct err e = { 0 };
	if (j->request->to || job_open_cache(j, &e) != ERR_OK) {
		if (e.code != ERR_OK)
			told(j, "cache", "", began, &e, "");
		return false;
	}
	if (!cache_find(j->cache, &j->report->content, &item, &path)) {
		add_step(j, "cache", "", began, true, "not in the cache");
		return false;
	}
	cache_hash(j->cache, &item, hex, &e);
	bool good = e.code == ERR_OK && strcmp(hex, j->hash) == 0;
	snprintf(detail, sizeof(detail), "%s: %s", item.name,
		 good ? "in the cache, its bytes match" :
			"in the cache, but damaged: it would be fetched again");
	add_step(j, "cache", "", began, good, detail);
	return good;
}

static enum err_code diagnose_locate(struct job *j, struct err *e)
{
	int64_t began = clock_now_ms();
	char detail[256];
	struct job_report *r = j->report;
	job_ask_location(j, &r->location, &r->chosen, e);
	for (size_t i = 0; i < r->location.attempt_count; i++)
		told(j, "locate", r->location.attempts[i].url, began,
		     &r->location.attempts[i].why, "");
	bool answered = r->location.management_point != NULL;
	snprintf(detail, sizeof(detail), "%s names %zu sources",
		 answered ? r->location.management_point : "",
		 r->location.sources.count);
	if (!answered || e->code == ERR_NO_LOCATION)
		return told(j, "locate", "", began, e, detail);
	add_step(j, "locate", "", began, true, detail);
	snprintf(detail, sizeof(detail), "%zu of %zu sources may be used",
		 r->chosen.usable, r->chosen.count);
	return told(j, "choose", "", began, e, detail);
}

/* --- one source ---------------------------------------------------------------------- */

static enum err_code diagnose_names(struct job *j, const struct choose_item *c,
				    const char *url, struct err *e)
{
	autofree struct ask_walk *w = calloc(1, sizeof(*w));
	char detail[512];
	int64_t began = clock_now_ms();
	if (w == NULL)
		return err_set(e, ERR_NOMEM, "no memory for a walk");
	bool is_cloud = c->kind == SOURCE_CLOUD;
	ask_resolve(j->worker, url, is_cloud, w, e);
	snprintf(detail, sizeof(detail), "%u aliases, %s, %u addresses, first %s",
		 w->hop_count, w->canonical, w->address_count,
		 w->address_count ? w->addresses[0].text : "none");
	if (told(j, "resolve", c->host, began, e, detail) != ERR_OK)
		return e->code;
	began = clock_now_ms();
	*w = (struct ask_walk){ 0 };
	ask_probe(j->worker, url, is_cloud, w, e);
	snprintf(detail, sizeof(detail), "connected to %s in %" PRIu64 " ms%s%s",
		 w->peer, w->connect_ms, w->is_verified ? ", trusted, " : "",
		 w->tls_version);
	return told(j, w->has_tls && w->chain_count ? "verify" : "connect",
		    c->host, began, e, detail);
}

/* A folder that no one sees and that is gone when its descriptor closes would
 * be best; a folder cannot be that, so it is made and removed at once. */
static int nowhere(struct err *e)
{
	char path[] = "/tmp/cloud-dp-agent-diagnose-XXXXXX";
	if (mkdtemp(path) == NULL) {
		err_set(e, ERR_FOLDER, "make %s: %m", path);
		return -1;
	}
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rmdir(path);
	if (fd < 0)
		err_set(e, ERR_FOLDER, "open %s: %m", path);
	return fd;
}

static enum err_code diagnose_files(struct job *j, const struct choose_item *c,
				    const struct source *s, int dir_fd,
				    struct err *e)
{
	const struct deployment *d = j->request->deployment;
	struct receive_options o = {
		.dir_fd = dir_fd,
		.wanted = d && d->files.count ? &d->files : NULL,
		.size = d ? d->size : RECEIVE_UNKNOWN,
		.most_bytes = UINT64_MAX,
	};
	char detail[256] = "";
	int64_t began = clock_now_ms();
	struct receive *receive = receive_new(&o, e);
	if (receive == NULL)
		return e->code;
	struct transfer t = { .worker = j->worker,
			      .receive = receive,
			      .content = &j->report->content,
			      .kind = c->kind == SOURCE_CLOUD ? WIRE_SOURCE_CLOUD :
								WIRE_SOURCE_DP,
			      .url = s->url,
			      .token = s->token,
			      .host = c->host,
			      .deadline_ms = began + TRY_MS };
	struct receive_figures f = { 0 };
	if (transfer_list(&t, e) == ERR_OK) {
		receive_check(receive, e);
		receive_figures(receive, &f);
	}
	snprintf(detail, sizeof(detail), "%" PRIu64 " files, %" PRIu64 " bytes",
		 f.files, f.bytes_total);
	if (told(j, "list", c->host, began, e, detail) == ERR_OK) {
		began = clock_now_ms();
		t.deadline_ms = began + TRY_MS;
		transfer_try(&t, detail, sizeof(detail), e);
		told(j, "transfer", c->host, began, e, detail);
	}
	receive_free(receive);
	return e->code;
}

static enum err_code diagnose_source(struct job *j, const struct choose_item *c,
				     struct err *e)
{
	const struct source *s = &j->report->location.sources.items[c->source];
	if (!c->usable) {
		add_step(j, "choose", c->host, clock_now_ms(), false, c->reason);
		return ERR_OK;
	}
	if (diagnose_names(j, c, s->url, e) != ERR_OK)
		return e->code;
	autofd dir_fd = nowhere(e);
	return dir_fd < 0 ? e->code : diagnose_files(j, c, s, dir_fd, e);
}

static enum err_code diagnose_sources(struct job *j, struct err *e)
{
	struct err last = { 0 };
	bool any = false;
	for (size_t i = 0; i < j->report->chosen.count; i++) {
		const struct choose_item *c = &j->report->chosen.items[i];
		struct err one = { 0 };
		diagnose_source(j, c, &one);
		if (one.code == ERR_SIGINT || one.code == ERR_SIGTERM) {
			*e = one;
			return e->code;
		}
		if (one.code == ERR_NET_DIED || one.code == ERR_NET_LIED) {
			struct err again = one;
			if (job_restart_worker(j, &again) != ERR_OK) {
				*e = again;
				return e->code;
			}
		}
		if (c->usable && one.code == ERR_OK)
			any = true;
		else if (c->usable)
			last = one;
	}
	if (!any)
		*e = last;
	return e->code;
}

enum err_code job_diagnose(const struct job_request *request,
			   struct job_report *report, struct err *e)
{
	struct job j;
	job_begin(&j, request, report);
	if (diagnose_policy(&j, e) == ERR_OK && !diagnose_cache(&j)) {
		int64_t began = clock_now_ms();
		if (job_open_state(&j, e) != ERR_OK || job_start(&j, true, e) != ERR_OK)
			told(&j, "state", "", began, e, "");
		else if (diagnose_locate(&j, e) == ERR_OK)
			diagnose_sources(&j, e);
	}
	job_end(&j);
	return e->code;
}
