#include "agent/keeper/steps.h"

#include "agent/keeper/ledger.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 60000 /* of one download by hand, over all Retry-After */

/* --- begin and end ------------------------------------------------------------------ */

void job_begin(struct job *j, const struct job_request *request,
	       struct job_report *report)
{
	*report = (struct job_report){ .content = request->content,
				       .delivered = -1 };
	*j = (struct job){ .request = request,
			   .report = report,
			   .host = "",
			   .draft = DRAFT_NONE,
			   .began_ms = clock_now_ms(),
			   .deadline_ms = INT64_MAX,
			   .patience_ms = request->by_service ? 0 : PATIENCE_MS };
	struct pacing_job considerate = {
		.settings = request->settings,
		.by_service = request->by_service,
		.owns_process = request->owns_process,
		.deadline_s = request->deployment ?
				      request->deployment->deadline_s : 0,
	};
	pacing_begin(&j->pacing, &considerate, clock_wall_s());
	if (request->settings->deadline_ms > 0)
		j->deadline_ms = j->began_ms + request->settings->deadline_ms;
	content_name(&report->content, j->name);
}

void job_end(struct job *j)
{
	if (j->receive)
		receive_figures(j->receive, &j->report->figures);
	j->report->duration_ms = clock_now_ms() - j->began_ms;
	worker_stop(j->worker);
	receive_free(j->receive);
	draft_close(&j->draft);
	cache_close(j->cache);
	record_close(j->record);
	listing_free(&j->listing);
	ask_location_free(&j->relocated);
	free(j->client_id);
}

void job_tell(struct job *j, const char *step)
{
	if (j->request->on_progress == NULL)
		return;
	struct job_progress p = { .step = step,
				  .host = j->host,
				  .figures = j->report->figures,
				  .now_ms = clock_now_ms(),
				  .transfer_began_ms = j->transfer_began_ms };
	j->request->on_progress(j->request->arg, &p);
}

/* --- the first steps ------------------------------------------------------------------ */

enum err_code job_settle(struct job *j, struct err *e)
{
	const struct job_request *q = j->request;
	const struct deployment *d = q->deployment;
	struct content *c = &j->report->content;
	if (d && !c->has_version && d->content.has_version)
		*c = d->content;
	content_name(c, j->name);
	const char *policy = d && d->hash[0] ? d->hash : NULL;
	if (q->hash && policy && strcmp(q->hash, policy) != 0)
		return err_set(e, ERR_USAGE,
			       "--hash sha256:%s differs from sha256:%s in %s",
			       q->hash, policy, d->path);
	if (q->hash || policy)
		snprintf(j->hash, sizeof(j->hash), "%s",
			 q->hash ? q->hash : policy);
	else if (!q->allow_unverified)
		return job_no_hash(d, j->name, e);
	return ERR_OK;
}

enum err_code job_no_hash(const struct deployment *d, const char *name,
			  struct err *e)
{
	if (d && d->site_hash && d->site_hash[0])
		return err_set(e, ERR_NO_HASH, "policy names only the site's own "
			       "folder hash %.100s for %s, which cannot be computed "
			       "here: name hash = sha256:... in a file of [policy] "
			       "local", d->site_hash, name);
	return err_set(e, ERR_NO_HASH, "nobody named a hash for %s: %s", name,
		       d ? "its policy has none" : "no policy file is about it");
}

enum err_code job_open_state(struct job *j, struct err *e)
{
	const struct settings *s = j->request->settings;
	bool is_foreign = record_is_foreign(s->state_directory);
	if (!is_foreign)
		j->record = record_open(s->state_directory, e);
	if (j->record == NULL && !is_foreign)
		return e->code;
	j->client_id = record_client_id(s->state_directory, s->client_id, e);
	return j->client_id ? ERR_OK : e->code;
}

enum err_code job_open_cache(struct job *j, struct err *e)
{
	const struct settings *s = j->request->settings;
	if (j->request->to)
		return ERR_OK;
	j->cache = cache_open(s->cache_directory, s->cache_size, s->min_free, e);
	if (j->cache)
		cache_keep(j->cache, j->request->is_kept, j->request->kept_arg);
	return j->cache ? ERR_OK : e->code;
}

enum err_code job_start(struct job *j, bool needs_ring, struct err *e)
{
	struct worker_options o = {
		.settings = j->request->settings,
		.client_id = j->client_id ? j->client_id : "",
		.needs_ring = needs_ring,
		.pace = needs_ring ? &j->pacing.now : NULL,
	};
	pacing_turn(&j->pacing, clock_wall_s());
	j->worker = worker_start(&o, e);
	return j->worker ? ERR_OK : e->code;
}

enum err_code job_restart_worker(struct job *j, struct err *e)
{
	worker_stop(take_ptr(j->worker));
	log_error("agent", "%s; starting another one", e->text);
	return job_start(j, true, e);
}

/* --- locate and choose --------------------------------------------------------------- */

/*
 * Seconds ago by source: absent, then ill; NULL where nothing is remembered. Only the
 * service goes by it: who looks for a fault by hand wants the order of the reply.
 */
static int64_t *recall_hosts(struct job *j, const struct source_list *list)
{
	int64_t now = clock_wall_s(), absent, ill;
	if (!j->request->by_service || j->record == NULL || list->count == 0)
		return NULL;
	int64_t *ago = malloc(2 * list->count * sizeof(*ago));
	for (size_t i = 0; ago && i < list->count; i++) {
		char host[CHOOSE_HOST_SIZE];
		autourl u = { 0 };
		absent = ill = 0;
		if (url_parse(span_of(list->items[i].url), &u, NULL) == ERR_OK) {
			choose_host(&u, host);
			ledger_get_host(j->record, host, j->name, now, &absent, &ill);
		}
		ago[i] = absent ? now - absent : -1;
		ago[list->count + i] = ill ? now - ill : -1;
	}
	return ago;
}

enum err_code job_choose(struct job *j, const struct source_list *list,
			 struct choose_result *out, struct err *e)
{
	autofree int64_t *ago = recall_hosts(j, list);
	const struct job_request *q = j->request;
	struct choose_rules rules = {
		.cloud_allow = q->settings->cloud_allow,
		.cloud = q->deployment ? q->deployment->cloud :
					 CHOOSE_CLOUD_FALLBACK,
		.from = q->from,
		.has_token = q->settings->token_file &&
			     q->settings->token_file[0],
		.absent_s = ago,
		.ill_s = ago ? ago + list->count : NULL,
	};
	return choose_sources(list, &rules, out, e);
}

static const char *boundary_groups(struct job *j, struct buf *out)
{
	if (j->record)
		record_get_text(j->record, "boundary_groups", out);
	return out->at ? out->at : "";
}

static enum err_code locate(struct job *j, struct ask_location *out,
			    struct err *e)
{
	autobuf groups = { .max = WIRE_LISTS };
	int64_t now = clock_wall_s(), since = now;
	if (j->record)
		since = record_search_since(j->record, j->name, now);
	struct ask_locate_request r = {
		.settings = j->request->settings,
		.content = &j->report->content,
		.minutes = now > since ? (unsigned)((now - since) / 60) : 0,
		.boundary_groups = boundary_groups(j, &groups),
		.use_azure = j->request->settings->cloud_allow,
	};
	if (ask_locate(j->worker, &r, out, e) != ERR_OK)
		return e->code;
	if (j->record && out->boundary_groups[0])
		record_set_text(j->record, "boundary_groups",
				span_of(out->boundary_groups), NULL);
	if (out->hash[0])
		log_info("LocationServices", "the reply names hash %s for %s: the "
			 "site's own folder hash, not verifiable here",
			 out->hash, j->name);
	return ERR_OK;
}

enum err_code job_ask_location(struct job *j, struct ask_location *location,
			       struct choose_result *chosen, struct err *e)
{
	if (locate(j, location, e) != ERR_OK)
		return e->code;
	job_choose(j, &location->sources, chosen, e);
	if (e->code == ERR_NO_LOCATION) {
		err_set(e, ERR_NO_LOCATION, "%s knows no source for %s",
			location->management_point, j->name);
		if (!j->request->settings->cloud_allow)
			err_set(e, ERR_NO_LOCATION,
				"%s; cloud sources were not asked for: "
				"[cloud] allow = no", e->text);
	}
	for (size_t i = 0; i < chosen->count; i++)
		log_info("LocationServices", "Distribution Point='%s', %s: %s",
			 chosen->items[i].host,
			 chosen->items[i].usable ? "usable" : "refused",
			 chosen->items[i].reason);
	return e->code;
}

/* --- several cloud sources ------------------------------------------------------------- */

static int64_t measure(struct job *j, const char *host)
{
	struct ask_walk *walk = calloc(1, sizeof(*walk));
	struct err e = { 0 };
	int64_t ms = INT64_MAX; /* not reachable: behind the others */
	if (walk && ask_probe(j->worker, host, true, walk, &e) == ERR_OK)
		ms = (int64_t)walk->connect_ms;
	free(walk);
	return ms;
}

void job_order_cloud(struct job *j, size_t at)
{
	struct choose_result *c = &j->report->chosen;
	const struct source_list *l = &j->report->location.sources;
	size_t end = at;
	while (end < c->usable && c->items[end].kind == SOURCE_CLOUD)
		end++;
	if (end - at < 2 || j->host == NULL || l->count == 0)
		return;
	autofree int64_t *ms = malloc(l->count * sizeof(*ms));
	if (ms == NULL)
		return;
	for (size_t i = 0; i < l->count; i++)
		ms[i] = -1;
	for (size_t i = at; i < end; i++)
		ms[c->items[i].source] = measure(j, c->items[i].host);
	/* stable: the order of the reply on a tie */
	for (size_t i = at + 1; i < end; i++)
		for (size_t k = i; k > at && ms[c->items[k].source] <
						     ms[c->items[k - 1].source];
		     k--) {
			struct choose_item swap = c->items[k];
			c->items[k] = c->items[k - 1];
			c->items[k - 1] = swap;
		}
}
