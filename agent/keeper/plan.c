#include "agent/keeper/plan.h"

#include "agent/keeper/cache.h"
#include "agent/keeper/database.h"
#include "agent/keeper/events.h"
#include "common/clock.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/own.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMPONENT "PolicyAgent"

static enum err_code no_memory(struct err *e)
{
	return err_set(e, ERR_NOMEM, "no memory for a plan");
}

/* --- which deployments ---------------------------------------------------- */

static int by_package(const struct deployment *a, const struct deployment *b)
{
	int order = strcasecmp(a->content.id, b->content.id);
	if (order)
		return order;
	return (a->content.version < b->content.version) -
	       (a->content.version > b->content.version);
}

/* Package, newest version, then the most urgent deployment of it. */
static int by_content(const void *a, const void *b)
{
	const struct deployment *x = *(const struct deployment *const *)a;
	const struct deployment *y = *(const struct deployment *const *)b;
	int order = by_package(x, y);
	if (order == 0)
		order = y->is_required - x->is_required;
	return order ? order : due_compare(x, y);
}

static int by_work(const void *a, const void *b)
{
	const struct plan_item *x = a, *y = b;
	return due_compare(x->deployment, y->deployment);
}

/* Items in the order of by_content(), one for each content. */
static enum err_code make_items(struct plan *p, struct err *e)
{
	size_t n = p->policy.count;
	autofree const struct deployment **all = calloc(n + 1, sizeof(*all));
	p->items = calloc(n + 1, sizeof(*p->items));
	p->packages = calloc(n + 1, sizeof(*p->packages));
	if (all == NULL || p->items == NULL || p->packages == NULL)
		return no_memory(e);
	for (size_t i = 0; i < n; i++)
		all[i] = &p->policy.items[i];
	qsort(all, n, sizeof(*all), by_content);
	for (size_t i = 0; i < n; i++) {
		if (i && by_package(all[i - 1], all[i]) == 0)
			continue;
		struct plan_item *item = &p->items[p->count++];
		item->deployment = all[i];
		content_name(&all[i]->content, item->name);
	}
	return ERR_OK;
}

static int by_item_content(const void *a, const void *b, void *items)
{
	const struct plan_item *all = items;
	return by_package(all[*(const size_t *)a].deployment,
			  all[*(const size_t *)b].deployment);
}

static void sort_items(struct plan *p)
{
	qsort(p->items, p->count, sizeof(*p->items), by_work);
	for (size_t i = 0; i < p->count; i++)
		p->packages[i] = i;
	qsort_r(p->packages, p->count, sizeof(*p->packages), by_item_content,
		p->items);
}

/* --- what lies in the cache ----------------------------------------------- */

struct stock {
	bool is_known; /* else nothing is: whoever asks may not look */
	char *path;    /* owned; of the cache */
	struct cache_item *items; /* owned; by name, whatever its case */
	size_t count;
};

static void own_stock(struct stock *s)
{
	free(s->path);
	free(s->items);
}
#define autostock __attribute__((cleanup(own_stock))) struct stock

static int by_name(const void *a, const void *b)
{
	const struct cache_item *x = a, *y = b;
	return strcasecmp(x->name, y->name);
}

static struct cache *open_cache(const struct settings *s, bool read_only,
				struct err *e)
{
	/* Opening makes what is not there. */
	if (read_only && access(s->cache_directory, F_OK) != 0)
		return NULL;
	return cache_open(s->cache_directory, s->cache_size, s->min_free, e);
}

/* All published contents at once: 10,000 deployments would look 10,000 times. */
static void look_at_cache(const struct settings *s, bool read_only,
			  struct stock *out)
{
	struct err e = { .text = "it cannot be opened" };
	struct cache *c = open_cache(s, read_only, &e);
	out->is_known = c && cache_list(c, &out->items, &out->count, &e) == ERR_OK;
	cache_close(c);
	if (!out->is_known)
		log_event(read_only ? LOG_DEBUG : LOG_WARNING, COMPONENT,
			  "what the cache holds is not known: %s", e.text);
	out->path = realpath(s->cache_directory, NULL);
	size_t kept = 0;
	for (size_t i = 0; i < out->count; i++)
		if (!out->items[i].is_partial)
			out->items[kept++] = out->items[i];
	out->count = kept;
	if (kept)
		qsort(out->items, kept, sizeof(*out->items), by_name);
}

static const struct cache_item *find_in(const struct stock *s,
					const struct plan_item *item)
{
	struct cache_item key = { 0 };
	if (s->count == 0 || item->deployment->hash[0] == '\0')
		return NULL;
	snprintf(key.name, sizeof(key.name), "%s", item->name);
	const struct cache_item *found = bsearch(&key, s->items, s->count,
						 sizeof(key), by_name);
	return found && strcmp(found->hash, item->deployment->hash) == 0 ? found :
									    NULL;
}

/* --- what the ledger knows ------------------------------------------------ */

struct job_key {
	const char *name; /* borrowed from the job */
	size_t at;
};

/* The jobs of the ledger as they are to be; those of policy in the items' order. */
struct merge {
	const struct plan *plan;
	struct ledger_job *jobs; /* owned */
	struct job_key *keys;    /* owned; by name */
	bool *known;             /* owned; policy named it before */
	struct content *gone;    /* owned; withdrawn now */
	size_t gone_count;
	bool is_changed, has_failed;
};

static void own_merge(struct merge *m)
{
	free(m->jobs);
	free(m->keys);
	free(m->known);
	free(m->gone);
}
#define automerge __attribute__((cleanup(own_merge))) struct merge

static int by_key(const void *a, const void *b)
{
	const struct job_key *x = a, *y = b;
	return strcmp(x->name, y->name);
}

/* Withdrawn: said once, which is_in_policy of the ledger remembers. */
static bool add_gone(struct merge *m, const struct ledger_job *job)
{
	struct err ignored;
	struct content *more =
		reallocarray(m->gone, m->gone_count + 1, sizeof(*more));
	m->is_changed = true;
	m->has_failed = more == NULL;
	if (more == NULL)
		return false;
	m->gone = more;
	if (content_parse(job->name, &more[m->gone_count], &ignored) == ERR_OK)
		m->gone_count++;
	return true;
}

static bool on_job(void *arg, const struct ledger_job *job)
{
	struct merge *m = arg;
	struct job_key key = { .name = job->name };
	const struct job_key *found = bsearch(&key, m->keys, m->plan->count,
					      sizeof(key), by_key);
	if (found) {
		m->jobs[found->at] = *job; /* the key's name in it is the same */
		return true;
	}
	if (!job->is_in_policy || m->plan->policy.is_incomplete)
		return true; /* what could not be read may name it all the same */
	return add_gone(m, job);
}

static enum err_code begin_merge(struct merge *m, struct err *e)
{
	const struct plan *p = m->plan;
	m->jobs = calloc(p->count + 1, sizeof(*m->jobs));
	m->keys = calloc(p->count + 1, sizeof(*m->keys));
	m->known = calloc(p->count + 1, sizeof(*m->known));
	if (m->jobs == NULL || m->keys == NULL || m->known == NULL)
		return no_memory(e);
	for (size_t i = 0; i < p->count; i++) {
		snprintf(m->jobs[i].name, sizeof(m->jobs[i].name), "%s",
			 p->items[i].name);
		m->keys[i] = (struct job_key){ m->jobs[i].name, i };
	}
	qsort(m->keys, p->count, sizeof(*m->keys), by_key);
	return ERR_OK;
}

/* Did it say something else before? */
static bool set_text(char *out, size_t size, const char *value)
{
	bool is_same = strncmp(out, value ? value : "", size - 1) == 0;
	if (!is_same)
		snprintf(out, size, "%s", value ? value : "");
	return !is_same;
}

#define SET(field, value)                         \
	({                                        \
		bool differs_ = (field) != (value); \
		(field) = (value);                \
		differs_;                         \
	})

/* The job as policy has it; whether that is news. */
static bool set_policy(struct ledger_job *job, const struct deployment *d)
{
	bool is_new = set_text(job->deployment, sizeof(job->deployment), d->id);
	is_new |= set_text(job->title, sizeof(job->title), d->name);
	is_new |= set_text(job->hash, sizeof(job->hash), d->hash);
	is_new |= SET(job->is_required, d->is_required);
	is_new |= SET(job->is_in_policy, true);
	is_new |= SET(job->priority, d->priority);
	is_new |= SET(job->available_s, d->available_s);
	is_new |= SET(job->deadline_s, d->deadline_s);
	return is_new;
}

/* What was tried for other bytes says nothing about these. */
static void forget_tries(struct due_past *past)
{
	*past = (struct due_past){ .first_seen_s = past->first_seen_s };
}

static bool set_place(struct ledger_job *job, const struct stock *stock,
		      const struct cache_item *found)
{
	char path[sizeof(job->path)] = "";
	bool was_here = job->past.is_here;
	bool is_here = found && job->arrived_s != LEDGER_ARRIVING;
	if (!stock->is_known)
		return false;
	if (found && stock->path)
		snprintf(path, sizeof(path), "%s/content/%s", stock->path,
			 found->name);
	if (is_here && !was_here)
		due_arrived(&job->past);
	job->past.is_here = is_here;
	job->arrived_s = found || job->arrived_s < 0 ? job->arrived_s : 0;
	return set_text(job->path, sizeof(job->path), path) || was_here != is_here;
}

/* One job with policy and cache; an event where it is new. */
static void merge_one(struct merge *m, size_t i, const struct stock *stock,
		      int64_t now_s)
{
	struct ledger_job *job = &m->jobs[i];
	struct plan_item *item = &m->plan->items[i];
	bool is_other = strcmp(job->hash, item->deployment->hash) != 0;
	/* Deployed again is deployed anew: a first sight of last year would have the
	 * whole fleet come at once. */
	if (job->past.first_seen_s == 0 || !job->is_in_policy)
		job->past = (struct due_past){ 0 };
	else if (is_other)
		forget_tries(&job->past);
	due_seen(&job->past, now_s);
	bool is_news = set_policy(job, item->deployment);
	is_news |= set_place(job, stock, find_in(stock, item));
	m->is_changed |= is_news;
	item->past = job->past;
}

/* What is new and what is gone, once the ledger has it: else every poll would tell
 * it again. */
static void tell_changes(const struct merge *m, const struct settings *s,
			 struct record *r, int64_t now_s)
{
	const struct plan *p = m->plan;
	for (size_t i = 0; i < p->count; i++)
		if (!m->known[i] && !p->items[i].past.is_here)
			events_tell(s, r, OUTBOX_WAITING,
				    &p->items[i].deployment->content, NULL, NULL,
				    now_s);
	for (size_t i = 0; i < m->gone_count; i++)
		events_tell(s, r, OUTBOX_WITHDRAWN, &m->gone[i], NULL, NULL, now_s);
}

/* Without a record, or one that cannot be read, all is new. */
static enum err_code merge_all(struct merge *m, const struct stock *stock,
			       struct record *r, int64_t now_s, struct err *e)
{
	enum err_code rc = r ? ledger_each_job(r, on_job, m, e) : ERR_OK;
	for (size_t i = 0; i < m->plan->count; i++) {
		m->known[i] = m->jobs[i].is_in_policy;
		merge_one(m, i, stock, now_s);
	}
	return m->has_failed ? no_memory(e) : rc;
}

static enum err_code write_jobs(const struct merge *m, struct record *r,
				int64_t now_s, struct err *e)
{
	enum err_code rc = ERR_OK;
	if (!m->plan->policy.is_incomplete)
		return ledger_set_policy(r, m->jobs, m->plan->count, now_s, e);
	for (size_t i = 0; rc == ERR_OK && i < m->plan->count; i++)
		rc = ledger_put_job(r, &m->jobs[i], e);
	return rc;
}

/* One transaction: a job that ends in between must not be overwritten. */
static enum err_code merge_and_write(struct merge *m, const struct stock *stock,
				     const struct settings *s, struct record *r,
				     int64_t now_s)
{
	struct database *d = record_database(r);
	struct err e = { 0 };
	enum err_code rc = database_begin(d, &e);
	bool is_begun = rc == ERR_OK;
	rc = merge_all(m, stock, is_begun ? r : NULL, now_s, &e);
	if (is_begun && rc == ERR_OK && m->is_changed &&
	    (rc = write_jobs(m, r, now_s, &e)) == ERR_OK)
		tell_changes(m, s, r, now_s);
	if (is_begun && rc == ERR_OK)
		rc = database_commit(d, &e);
	else if (is_begun)
		database_rollback(d);
	if (rc != ERR_OK || !is_begun)
		log_warning(COMPONENT, "what is to be done is not recorded: %s",
			    e.text);
	return rc == ERR_NOMEM ? rc : ERR_OK;
}

static enum err_code merge_ledger(struct plan *p, const struct settings *s,
				  struct record *r, bool read_only, int64_t now_s,
				  struct err *e)
{
	automerge m = { .plan = p };
	autostock stock = { 0 };
	struct err own = { 0 };
	if (begin_merge(&m, e) != ERR_OK)
		return no_memory(e);
	look_at_cache(s, read_only, &stock);
	enum err_code rc = r && !read_only ?
				   merge_and_write(&m, &stock, s, r, now_s) :
				   merge_all(&m, &stock, r, now_s, &own);
	if (rc != ERR_OK && rc != ERR_NOMEM)
		log_warning(COMPONENT, "what was tried is not known: %s", own.text);
	return rc == ERR_NOMEM ? no_memory(e) : ERR_OK;
}

/* --- all together --------------------------------------------------------- */

static enum err_code read_windows(struct plan *p, const struct settings *s,
				  struct err *e)
{
	if (s->windows.count > WINDOW_MAX)
		return err_set(e, ERR_CONFIG, "[schedule] window: more than %d",
			       WINDOW_MAX);
	for (size_t i = 0; i < s->windows.count; i++)
		if (window_parse(s->windows.items[i], &p->windows[i], e) != ERR_OK)
			return err_prefix(e, "[schedule] window %.60s",
					  s->windows.items[i]);
	p->window_count = s->windows.count;
	return ERR_OK;
}

/* Who this is, for its place in the crowd. Only looking makes no id. */
static void find_client_id(struct plan *p, const struct settings *s, bool read_only)
{
	char path[4096];
	autobuf text = { .max = 4096 };
	struct err e = { 0 };
	bool is_set = s->client_id && s->client_id[0];
	if (is_set || !read_only) {
		autofree char *id =
			record_client_id(s->state_directory, s->client_id, &e);
		if (id)
			snprintf(p->client_id, sizeof(p->client_id), "%s", id);
		else
			log_warning(COMPONENT, "no client id: %s", e.text);
		return;
	}
	snprintf(path, sizeof(path), "%s/client-id", s->state_directory);
	if (fs_read_all(AT_FDCWD, path, &text, &e) == ERR_OK)
		snprintf(p->client_id, sizeof(p->client_id), "%.*s",
			 SPAN_ARG(span_trim(buf_as_span(&text))));
}

enum err_code plan_make(struct plan *p, const struct settings *s,
			struct deployment_list *policy, struct record *r,
			bool read_only, int64_t now_s, struct err *e)
{
	*p = (struct plan){ .policy = *policy, .next_s = INT64_MAX };
	*policy = (struct deployment_list){ 0 };
	find_client_id(p, s, read_only);
	enum err_code rc = read_windows(p, s, e);
	if (rc == ERR_OK)
		rc = make_items(p, e);
	if (rc == ERR_OK)
		rc = merge_ledger(p, s, r, read_only, now_s, e);
	if (rc != ERR_OK) {
		plan_free(p);
		return rc;
	}
	sort_items(p);
	plan_decide(p, now_s);
	return ERR_OK;
}

void plan_free(struct plan *p)
{
	deployment_list_free(&p->policy);
	free(p->items);
	free(p->packages);
	*p = (struct plan){ 0 };
}

/* --- deciding ------------------------------------------------------------- */

/*
 * A version that cannot be had yet replaces none, and one that comes only on
 * request does not replace one that must come: a pilot of the next version would
 * stop the rollout of this one.
 */
static void find_newer(struct plan *p, int64_t now_s)
{
	const struct deployment *last = NULL;
	uint32_t any = 0, required = 0;
	for (size_t i = 0; i < p->count; i++) {
		struct plan_item *item = &p->items[p->packages[i]];
		const struct deployment *d = item->deployment;
		if (last == NULL || strcasecmp(last->content.id, d->content.id) != 0)
			any = required = 0;
		item->newer_version = d->is_required ? required : any;
		if (d->available_s <= now_s) {
			any = any ? any : d->content.version;
			if (d->is_required && !required)
				required = d->content.version;
		}
		last = d;
	}
}

static void decide_one(struct plan *p, struct plan_item *item, int64_t now_s)
{
	struct due_past past = item->past;
	struct due_rules rules = { .client_id = p->client_id,
				   .windows = p->windows,
				   .window_count = p->window_count,
				   .now_s = now_s,
				   .newer_version = item->newer_version };
	/* It has begun: what it waited for is over, also for a clock that went back. */
	if (item->is_running)
		past.failed_s = 0;
	due_decide(item->deployment, &past, &rules, &item->answer);
}

static void find_next(struct plan *p)
{
	p->next_s = INT64_MAX;
	for (size_t i = 0; i < p->count; i++)
		if (!p->items[i].is_running &&
		    p->items[i].answer.state == DUE_LATER &&
		    p->items[i].answer.at_s < p->next_s)
			p->next_s = p->items[i].answer.at_s;
}

void plan_decide(struct plan *p, int64_t now_s)
{
	find_newer(p, now_s);
	for (size_t i = 0; i < p->count; i++)
		decide_one(p, &p->items[i], now_s);
	find_next(p);
}

struct plan_item *plan_first(struct plan *p)
{
	for (size_t i = 0; i < p->count; i++)
		if (p->items[i].answer.state == DUE_NOW && !p->items[i].is_running)
			return &p->items[i];
	return NULL;
}

struct plan_item *plan_find(struct plan *p, const char *name)
{
	for (size_t i = 0; i < p->count; i++)
		if (strcasecmp(p->items[i].name, name) == 0)
			return &p->items[i];
	return NULL;
}

bool plan_keeps(void *plan, const char *name)
{
	const struct plan_item *item = plan_find(plan, name);
	return item && item->deployment->is_required &&
	       item->answer.state != DUE_SUPERSEDED;
}

/* --- after a run ---------------------------------------------------------- */

static bool is_in_cache(const struct plan_item *item, const struct settings *s)
{
	struct cache_item found;
	struct err e = { 0 };
	autofree char *path = NULL;
	const struct deployment *d = item->deployment;
	struct cache *c = open_cache(s, true, &e);
	bool is_there = c && d->hash[0] &&
			cache_find(c, &d->content, &found, &path) &&
			strcmp(found.hash, d->hash) == 0;
	cache_close(c);
	return is_there;
}

void plan_refresh(struct plan *p, struct plan_item *item, const struct settings *s,
		  struct record *r, int64_t now_s)
{
	struct ledger_job job;
	struct due_past before = item->past;
	bool is_known = r && ledger_get_job(r, item->name, &job) &&
			strcmp(job.hash, item->deployment->hash) == 0;
	if (is_known)
		item->past = job.past;
	item->past.first_seen_s = before.first_seen_s;
	bool is_here = is_in_cache(item, s) &&
		       !(is_known && job.arrived_s == LEDGER_ARRIVING);
	bool is_news = is_known && (item->past.failed_s != before.failed_s ||
				    item->past.tries != before.tries ||
				    item->past.delay_s != before.delay_s);
	if (is_here) {
		due_arrived(&item->past);
	} else if (!is_news) {
		struct err why = { .code = ERR_FOLDER };
		due_failed(&item->past, &why, now_s, clock_chance());
	}
	item->past.is_here = is_here;
	decide_one(p, item, now_s);
	find_next(p);
}

const char *plan_word(const struct plan_item *item)
{
	if (item->is_running)
		return "running";
	switch (item->answer.state) {
	case DUE_NOW:
		return "due now";
	case DUE_LATER:
		return "waiting";
	case DUE_DONE:
		return "here";
	case DUE_ON_REQUEST:
		return "on request";
	case DUE_SUPERSEDED:
		return "superseded";
	case DUE_NO_HASH:
		return "no hash";
	}
	return "";
}
