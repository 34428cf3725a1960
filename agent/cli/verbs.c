#include "agent/cli/verbs.h"

#include "agent/cli/client.h"
#include "agent/cli/handover.h"
#include "agent/cli/progress.h"
#include "agent/cli/show.h"
#include "agent/cli/words.h"
#include "agent/keeper/diagnose.h"
#include "agent/keeper/job.h"
#include "agent/keeper/task.h"
#include "common/own.h"
#include "common/signals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* With a wrong command line nothing goes to standard output. */
static bool is_shown(const struct verbs_run *r)
{
	return err_exit(r->e.code) != CLASS_USAGE;
}

/* What went well on the second try may have left a word behind in r->e. */
static void settle(struct verbs_run *r, enum err_code rc)
{
	if (rc == ERR_OK)
		r->e = (struct err){ 0 };
}

/* --- jobs ----------------------------------------------------------------- */

static struct job_request request_of(const struct verbs_run *r)
{
	return (struct job_request){
		.settings = &r->settings,
		.deployment = r->content.id[0] ?
				      deployment_find(&r->policy, &r->content) :
				      NULL,
		.content = r->content,
		.hash = r->hash[0] ? r->hash : NULL,
		.allow_unverified = r->options.allow_unverified,
		.to = r->options.to,
		.from = r->options.from,
		.dry_run = r->options.dry_run,
		.owns_process = true,
	};
}

struct listeners {
	struct progress *terminal;
	void (*service)(void *unused, const struct job_progress *p); /* NULL */
};

static void tell_progress(void *arg, const struct job_progress *p)
{
	struct listeners *l = arg;
	progress_show(l->terminal, p);
	if (l->service)
		l->service(NULL, p);
}

void verbs_download(struct verbs_run *r)
{
	const struct options *o = &r->options;
	if (r->e.code == ERR_OK && r->tell_service == NULL)
		r->is_done = handover_download(o, &r->settings, &r->content,
					       &r->status, &r->e);
	if (r->is_done)
		return;
	struct job_report report = { .content = r->content, .delivered = -1 };
	struct job_request request = request_of(r);
	if (r->e.code == ERR_OK) {
		struct listeners l = { progress_open(o->progress, o->quiet),
				       r->tell_service };
		request.on_progress = tell_progress;
		request.arg = &l;
		settle(r, task_run(&request, "hand", &report, &r->e));
		progress_close(l.terminal);
	}
	if (is_shown(r))
		show_download(&report, &r->e, o->json);
	show_attempts(&report, &r->e);
	job_report_free(&report);
}

void verbs_locate(struct verbs_run *r)
{
	struct job_report report = { .content = r->content, .delivered = -1 };
	struct job_request request = request_of(r);
	bool cloud_allowed = r->settings.cloud_allow &&
			     (request.deployment == NULL ||
			      request.deployment->cloud != CHOOSE_CLOUD_NEVER);
	if (r->e.code == ERR_OK && r->options.verb == VERB_REPLAY)
		settle(r, job_replay(&request, r->options.object, &report,
				     &r->e));
	else if (r->e.code == ERR_OK)
		settle(r, job_locate(&request, &report, &r->e));
	if (is_shown(r))
		show_locate(&report, cloud_allowed, &r->e, r->options.json);
	show_attempts(&report, &r->e);
	job_report_free(&report);
}

void verbs_diagnose(struct verbs_run *r)
{
	struct job_report report = { .content = r->content, .delivered = -1 };
	struct job_request request = request_of(r);
	if (r->e.code == ERR_OK)
		settle(r, job_diagnose(&request, &report, &r->e));
	if (is_shown(r))
		show_diagnose(&report, &r->e, r->options.json);
	job_report_free(&report);
}

/* --- names and certificates ----------------------------------------------- */

/*
 * A question to the net role, which gets no secret that the question does not
 * need. Shallow: the texts stay those of r->settings.
 */
static struct settings without_secrets(const struct verbs_run *r, bool keeps_key)
{
	static char none[] = "";
	struct settings s = r->settings;
	s.token_file = none;
	if (!keeps_key)
		s.certificate = s.key = none;
	return s;
}

static void walk(struct verbs_run *r, struct ask_walk *w)
{
	bool is_probe = r->options.verb == VERB_VERIFY_SERVER;
	/* The rules for cloud names, by which a suffix is refused, are for those
	 * who ask for them: a name does not tell what it is used for. */
	bool is_cloud = r->options.from != NULL;
	struct settings s = without_secrets(r, is_probe);
	struct worker_options o = { .settings = &s, .client_id = "" };
	struct worker *worker = worker_start(&o, &r->e);
	if (worker && is_probe)
		settle(r, ask_probe(worker, r->options.object, is_cloud, w, &r->e));
	else if (worker)
		settle(r, ask_resolve(worker, r->options.object, is_cloud, w,
				      &r->e));
	worker_stop(worker);
}

static void check_chain(struct verbs_run *r, struct ask_walk *w)
{
	struct settings s = without_secrets(r, false);
	if (r->options.crl)
		s.revocation = 2; /* the whole chain */
	struct worker_options o = { .settings = &s,
				    .client_id = "",
				    .ca_file = r->options.ca,
				    .crl_file = r->options.crl };
	struct worker *worker = worker_start(&o, &r->e);
	if (worker)
		settle(r, ask_check_chain(worker, r->options.object,
					  r->options.name, r->at_s, w, &r->e));
	worker_stop(worker);
}

static void ask(struct verbs_run *r, const char *name, bool with_tls,
		void (*question)(struct verbs_run *, struct ask_walk *))
{
	autofree struct ask_walk *w = calloc(1, sizeof(*w));
	if (w == NULL) {
		err_set(&r->e, ERR_NOMEM, "no memory for a walk");
		return;
	}
	snprintf(w->name, sizeof(w->name), "%s", name);
	if (r->e.code == ERR_OK)
		question(r, w);
	if (is_shown(r))
		show_walk(w, with_tls, &r->e, r->options.json);
}

void verbs_walk(struct verbs_run *r)
{
	ask(r, r->options.object, r->options.verb == VERB_VERIFY_SERVER, walk);
}

void verbs_check_chain(struct verbs_run *r)
{
	ask(r, r->options.name, true, check_chain);
}

/* --- the cache ------------------------------------------------------------ */

/* What a cache verb works on. */
struct stock {
	struct cache *cache;
	struct cache_item *items; /* owned */
	size_t count;
	char **problems;          /* owned, as are its texts */
};

static void own_stock(struct stock *s)
{
	for (size_t i = 0; s->problems && i < s->count; i++)
		free(s->problems[i]);
	free(s->problems);
	free(s->items);
	cache_close(s->cache);
}
#define autostock __attribute__((cleanup(own_stock))) struct stock

static enum err_code open_stock(const struct verbs_run *r, struct stock *s,
				struct err *e)
{
	const struct settings *c = &r->settings;
	s->cache = cache_open(c->cache_directory, c->cache_size, c->min_free, e);
	if (s->cache == NULL)
		return e->code;
	return cache_list(s->cache, &s->items, &s->count, e);
}

/* What is wrong with a published content? "" = nothing; owned. */
static char *judge(const struct verbs_run *r, struct stock *s,
		   const struct cache_item *item)
{
	char hex[DIGEST_HEX_SIZE];
	struct err e = { 0 };
	autobuf text = { 0 };
	const struct deployment *d = item->content.has_version ?
		deployment_find(&r->policy, &item->content) : NULL;
	if (cache_hash(s->cache, item, hex, &e) != ERR_OK)
		buf_text(&text, e.text);
	else if (item->hash[0] == '\0')
		buf_text(&text, "damaged: its listing is missing");
	else if (strcmp(hex, item->hash) != 0)
		buf_print(&text, "damaged: hash is sha256:%s, was sha256:%s when "
			  "it was published", hex, item->hash);
	else if (d && d->hash[0] && strcmp(hex, d->hash) != 0)
		buf_print(&text, "not what policy wants: hash is sha256:%s, policy "
			  "(%s) says sha256:%s", hex, d->path, d->hash);
	return buf_take(&text);
}

static void verify_all(struct verbs_run *r, struct stock *s)
{
	autobuf bad = { .max = 400 };
	size_t bad_count = 0;
	s->problems = calloc(s->count + 1, sizeof(*s->problems));
	if (s->problems == NULL) {
		err_set(&r->e, ERR_NOMEM, "no memory to verify the cache");
		return;
	}
	for (size_t i = 0; i < s->count; i++) {
		if (s->items[i].is_partial)
			continue;
		char *problem = judge(r, s, &s->items[i]);
		if (signals_check(&r->e) != ERR_OK) {
			free(problem);
			return;
		}
		s->problems[i] = problem;
		if (problem == NULL || problem[0] == '\0')
			continue;
		if (bad.len < 300)
			buf_print(&bad, "%s%s", bad_count ? ", " : "",
				  s->items[i].name);
		bad_count++;
	}
	if (bad_count)
		err_set(&r->e, ERR_HASH, "%zu content%s of the cache %s damaged (the "
			"next --download fetches it again): %s", bad_count,
			words_plural(bad_count), bad_count == 1 ? "is" : "are",
			bad.at ? bad.at : "");
}

/* CONTENT without a version means all its versions. */
static bool is_meant(const struct verbs_run *r, const struct cache_item *item)
{
	return strcasecmp(item->content.id, r->content.id) == 0 &&
	       (!r->content.has_version ||
		content_same(&item->content, &r->content));
}

/* A running service removes it itself: so it knows, and what it may be doing to it
 * at this moment ends. */
static enum err_code remove_one(struct verbs_run *r, struct stock *s,
				const struct content *c, bool by_service)
{
	bool is_there;
	if (by_service)
		return client_order(r->settings.control_socket, CONTROL_REMOVE, c,
				    &is_there, &r->e);
	return cache_remove(s->cache, c, &r->e);
}

static void remove_all(struct verbs_run *r, struct stock *s, unsigned *removed,
		       uint64_t *bytes)
{
	const char *last = "";
	bool by_service = handover_is_there(&r->settings, &r->content);
	for (size_t i = 0; i < s->count; i++) {
		const struct cache_item *item = &s->items[i];
		if (!is_meant(r, item))
			continue;
		/* Published and partial are two items of one name. */
		bool is_gone = strcmp(item->name, last) == 0;
		if (!is_gone &&
		    remove_one(r, s, &item->content, by_service) != ERR_OK)
			return;
		last = item->name;
		*removed += !is_gone;
		*bytes += item->bytes;
	}
	settle(r, ERR_OK);
	if (*removed == 0)
		err_set(&r->e, ERR_USAGE, "%s is not in the cache",
			r->options.second);
}

void verbs_cache(struct verbs_run *r)
{
	const char *action = r->options.object;
	bool json = r->options.json;
	unsigned removed = 0;
	uint64_t bytes = 0;
	autostock s = { 0 };
	if (r->e.code == ERR_OK)
		settle(r, open_stock(r, &s, &r->e));
	bool is_open = r->e.code == ERR_OK;
	if (strcmp(action, "list") == 0) {
		show_cache_list(s.items, s.count, &r->e, json);
	} else if (strcmp(action, "verify") == 0) {
		if (is_open)
			verify_all(r, &s);
		show_cache_verify(s.items, s.problems, s.problems ? s.count : 0,
				  &r->e, json);
	} else {
		if (is_open && strcmp(action, "trim") == 0)
			settle(r, cache_trim(s.cache, &removed, &bytes, &r->e));
		else if (is_open)
			remove_all(r, &s, &removed, &bytes);
		if (is_shown(r))
			show_cache_change(action, removed, bytes, &r->e, json);
	}
}

/* --- settings ------------------------------------------------------------- */

void verbs_check_config(struct verbs_run *r)
{
	if (is_shown(r))
		show_config(&r->settings, r->policy_source, &r->policy,
			    buf_as_span(&r->problems), &r->e, r->options.json);
}
