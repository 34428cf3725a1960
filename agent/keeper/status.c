#include "agent/keeper/status.h"

#include "common/jsonout.h"
#include "common/own.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* For --why: how far back it looks for the transfer that brought a content. */
#define TRANSFERS_BACK 50

/* --- pieces --------------------------------------------------------------- */

static void put(json_t *o, const char *key, json_t *value)
{
	json_object_set_new(o, key, value);
}

/*
 * The long lists are written item by item, and never stand in memory as a whole
 * tree. What begins an object, or a list, needs no comma behind it.
 */
static void add_item(struct buf *out, json_t *value)
{
	if (out->len && strchr("{[:", out->at[out->len - 1]) == NULL)
		buf_char(out, ',');
	jsonout_add(out, value);
}

static void begin_key(struct buf *out, const char *key)
{
	buf_print(out, "%s\"%s\":",
		  out->len && out->at[out->len - 1] != '{' ? "," : "", key);
}

static void add_key(struct buf *out, const char *key, json_t *value)
{
	begin_key(out, key);
	jsonout_add(out, value);
}

static void begin(struct buf *out)
{
	buf_clear(out);
	if (out->max == 0)
		out->max = STATUS_MAX;
	buf_char(out, '{');
}

static enum err_code finish(struct buf *out, const char *note, struct err *e)
{
	add_key(out, "note", jsonout_text_or_null(note));
	add_key(out, "error", json_null());
	buf_char(out, '}');
	if (out->failed)
		return err_set(e, ERR_NOMEM, "no memory for the status");
	return ERR_OK;
}

/* "ABC00042.3" as two fields. */
static void put_name(json_t *o, const char *name)
{
	struct content c = { 0 };
	if (content_parse(name, &c, NULL) != ERR_OK)
		c.version = 0;
	put(o, "content", jsonout_text(c.id[0] ? c.id : name));
	put(o, "version", jsonout_number(c.version));
}

/* Is it the one that is asked for? */
static bool is_wanted(const struct content *want, const char *name)
{
	struct content c = { 0 };
	if (want == NULL)
		return true;
	return content_parse(name, &c, NULL) == ERR_OK &&
	       strcasecmp(c.id, want->id) == 0 &&
	       (!want->has_version || want->version == c.version);
}

static json_t *source(const char *kind, const char *host)
{
	if (kind[0] == '\0')
		return json_null();
	json_t *o = json_object();
	put(o, "kind", jsonout_text(kind));
	put(o, "host", jsonout_text(host));
	return o;
}

static json_t *attempts(const struct ledger_transfer *t)
{
	json_t *list = json_array();
	for (size_t i = 0; i < t->attempt_count; i++) {
		const struct ledger_attempt *a = &t->attempts[i];
		json_t *o = json_object();
		put(o, "kind", jsonout_text(a->kind));
		put(o, "host", jsonout_text(a->host));
		put(o, "url", jsonout_text(a->url));
		put(o, "bytes_received", jsonout_number(a->bytes_received));
		put(o, "duration_ms", json_integer(a->duration_ms));
		put(o, "error", jsonout_error(&a->why));
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *hooks(const struct ledger_transfer *t)
{
	json_t *list = json_array();
	for (size_t i = 0; i < t->hook_count; i++) {
		json_t *o = json_object();
		put(o, "program", jsonout_text(t->hooks[i].program));
		put(o, "status", json_integer(t->hooks[i].status));
		put(o, "text", jsonout_text_or_null(t->hooks[i].text));
		json_array_append_new(list, o);
	}
	return list;
}

/* --- --status: service and policy ----------------------------------------- */

static json_t *service_of(const struct status_service *s)
{
	json_t *o = json_object();
	bool is_running = s && s->is_running;
	put(o, "running", json_boolean(is_running));
	put(o, "pid", is_running ? json_integer(s->pid) : json_null());
	put(o, "since", jsonout_moment(is_running ? s->since_s : 0));
	put(o, "polling", json_boolean(is_running && s->is_polling));
	put(o, "next_poll", jsonout_moment(is_running ? s->next_poll_s : 0));
	return o;
}

static json_t *policy_of(const struct settings *s, const struct plan *plan,
			 const struct ledger_poll *poll, bool is_running)
{
	json_t *o = json_object();
	bool is_told = is_running && poll->source[0]; /* --policy of the service */
	put(o, "source", jsonout_text(is_told ? poll->source : s->policy_source));
	put(o, "last_poll", jsonout_moment(poll->last_s));
	put(o, "last_good_poll", jsonout_moment(poll->good_s));
	put(o, "deployments",
	    jsonout_number(plan ? plan->policy.count : poll->deployments));
	put(o, "error", jsonout_error(&poll->error));
	return o;
}

/* Which cache this is about: whoever hands a download over compares it. */
static json_t *cache_of(const struct settings *s)
{
	json_t *o = json_object();
	autofree char *real = realpath(s->cache_directory, NULL);
	put(o, "directory", jsonout_text(real ? real : s->cache_directory));
	put(o, "size", jsonout_number(s->cache_size));
	return o;
}

/* --- --status: jobs ------------------------------------------------------- */

/* What is known of one content, from up to three places. */
struct view {
	const char *name;
	const struct plan_item *item;    /* NULL = not in policy */
	const struct ledger_job *known;  /* NULL = not in the ledger */
	const struct status_run *run;    /* NULL = not under way */
};

static json_t *progress_of(const struct status_run *run)
{
	if (run == NULL)
		return json_null();
	json_t *o = json_object();
	put(o, "step", jsonout_text(run->step));
	put(o, "host", jsonout_text_or_null(run->host));
	put(o, "bytes_done", jsonout_number(run->bytes_done));
	put(o, "bytes_total", jsonout_number(run->bytes_total));
	put(o, "by", jsonout_text(run->by));
	put(o, "began", jsonout_moment(run->began_s));
	return o;
}

static void put_policy(json_t *o, const struct view *v)
{
	static const char *const priorities[] = { "low", "normal", "high" };
	const struct deployment *d = v->item ? v->item->deployment : NULL;
	const struct ledger_job *k = v->known;
	bool is_known = d || k;
	uint64_t priority = d ? d->priority : k ? k->priority : 0;
	bool is_required = d ? d->is_required : k && k->is_required;
	put(o, "deployment", jsonout_text_or_null(d ? d->id : k ? k->deployment : ""));
	put(o, "name", jsonout_text_or_null(d ? d->name : k ? k->title : ""));
	put(o, "purpose", !is_known ? json_null() :
			  json_string(is_required ? "required" : "available"));
	put(o, "priority", !is_known ? json_null() :
			   json_string(priorities[priority > 2 ? 2 : priority]));
	put(o, "available", jsonout_moment(d ? d->available_s :
					   k ? k->available_s : 0));
	put(o, "deadline", jsonout_moment(d ? d->deadline_s : k ? k->deadline_s : 0));
}

static const char *state_of(const struct view *v)
{
	if (v->run)
		return "running";
	if (v->item)
		return plan_word(v->item);
	return v->known && !v->known->is_in_policy ? "withdrawn" : "not in policy";
}

/* When, by the plan. */
static void put_times(json_t *o, const struct plan_item *item)
{
	const struct due_answer *a = item ? &item->answer : NULL;
	int64_t next_s = a && a->state == DUE_LATER ? a->at_s : 0;
	put(o, "due", jsonout_moment(!a ? 0 : a->planned_s ? a->planned_s : next_s));
	put(o, "next_try", jsonout_moment(next_s == INT64_MAX ? 0 : next_s));
	put(o, "gives_up", jsonout_moment(a ? a->gives_up_s : 0));
}

static json_t *last_of(const struct ledger_job *known)
{
	if (known == NULL || known->last_s <= 0)
		return json_null();
	json_t *o = json_object();
	put(o, "time", jsonout_moment(known->last_s));
	put(o, "error", jsonout_error(&known->last));
	return o;
}

static json_t *job_of(const struct view *v)
{
	json_t *o = json_object();
	const struct ledger_job *k = v->known;
	bool is_here = v->item ? v->item->past.is_here : k && k->past.is_here;
	put_name(o, v->name);
	put_policy(o, v);
	put(o, "state", json_string(state_of(v)));
	put(o, "reason", jsonout_text_or_null(v->item ? v->item->answer.reason : ""));
	put_times(o, v->item);
	put(o, "tries", jsonout_number(v->item ? v->item->past.tries :
				       k ? k->past.tries : 0));
	put(o, "last", last_of(k));
	put(o, "arrived", jsonout_moment(is_here && k && k->arrived_s > 0 ? k->arrived_s : 0));
	put(o, "path", is_here && k ? jsonout_text_or_null(k->path) : json_null());
	put(o, "progress", progress_of(v->run));
	return o;
}

static const struct status_run *find_run(const struct status_service *s,
					 const char *name)
{
	for (size_t i = 0; s && i < s->run_count; i++)
		if (strcasecmp(s->runs[i].name, name) == 0)
			return &s->runs[i];
	return NULL;
}

static const struct plan_item *find_item(const struct plan *plan, const char *name)
{
	for (size_t i = 0; plan && i < plan->count; i++)
		if (strcasecmp(plan->items[i].name, name) == 0)
			return &plan->items[i];
	return NULL;
}

struct jobs {
	const struct plan *plan;
	const struct status_service *service;
	struct record *record;
	const struct content *want; /* NULL = all */
	struct buf *out;
	unsigned long count;
};

static void add_job(struct jobs *j, const char *name, const struct plan_item *item)
{
	struct ledger_job known;
	bool is_known = j->record && ledger_get_job(j->record, name, &known);
	struct view v = { .name = name,
			  .item = item,
			  .known = is_known ? &known : NULL,
			  .run = find_run(j->service, name) };
	add_item(j->out, job_of(&v));
	j->count++;
}

/* Downloads by hand of what policy does not name. */
static void add_runs(struct jobs *j)
{
	for (size_t i = 0; j->service && i < j->service->run_count; i++) {
		const char *name = j->service->runs[i].name;
		if (is_wanted(j->want, name) && find_item(j->plan, name) == NULL)
			add_job(j, name, NULL);
	}
}

/* What only the ledger knows: withdrawn, or policy cannot be read. */
static bool add_known(void *arg, const struct ledger_job *known)
{
	struct jobs *j = arg;
	bool is_shown = !is_wanted(j->want, known->name) ||
			(j->want == NULL && !known->is_in_policy) ||
			find_item(j->plan, known->name) ||
			find_run(j->service, known->name);
	if (is_shown)
		return true;
	struct view v = { .name = known->name, .known = known };
	add_item(j->out, job_of(&v));
	j->count++;
	return true;
}

static enum err_code add_jobs(struct jobs *j, struct err *e)
{
	begin_key(j->out, "jobs");
	buf_char(j->out, '[');
	for (size_t i = 0; j->plan && i < j->plan->count; i++)
		if (is_wanted(j->want, j->plan->items[i].name))
			add_job(j, j->plan->items[i].name, &j->plan->items[i]);
	add_runs(j);
	enum err_code rc = ERR_OK;
	/* Ten thousand jobs are all in the plan, as a rule. */
	if (j->record && (j->plan == NULL || j->want))
		rc = ledger_each_job(j->record, add_known, j, e);
	buf_char(j->out, ']');
	return rc;
}

enum err_code status_print(const struct settings *s, const struct plan *plan,
			   const struct status_service *service,
			   struct record *r, const struct content *content,
			   int64_t now_s, struct buf *out, struct err *e)
{
	struct ledger_poll poll = { 0 };
	struct jobs jobs = { .plan = plan, .service = service, .record = r,
			     .want = content, .out = out };
	autobuf note = { 0 };
	char name[CONTENT_NAME_SIZE];
	if (r)
		ledger_get_poll(r, &poll);
	begin(out);
	add_key(out, "time", jsonout_moment(now_s));
	add_key(out, "service", service_of(service));
	add_key(out, "policy",
		policy_of(s, plan, &poll, service && service->is_running));
	add_key(out, "cache", cache_of(s));
	if (add_jobs(&jobs, e) != ERR_OK)
		return e->code;
	if (content && jobs.count == 0) {
		content_name(content, name);
		buf_print(&note, "neither policy nor history has %s", name);
	}
	return finish(out, note.at, e);
}

/* --- --why ---------------------------------------------------------------- */

/* The newest version of a content that anybody knows. */
struct newest {
	const struct content *want;
	struct content found; /* version 0 = none */
};

static void consider(struct newest *n, const char *name)
{
	struct content c = { 0 };
	if (content_parse(name, &c, NULL) == ERR_OK && is_wanted(n->want, name) &&
	    (!n->found.has_version || c.version > n->found.version))
		n->found = c;
}

static bool consider_job(void *arg, const struct ledger_job *job)
{
	consider(arg, job->name);
	return true;
}

static bool consider_transfer(void *arg, const struct ledger_transfer *t)
{
	consider(arg, t->name);
	return true;
}

static enum err_code find_newest(const struct plan *plan, struct record *r,
				 const struct content *want, struct content *out,
				 struct err *e)
{
	struct newest n = { .want = want };
	enum err_code rc = ERR_OK;
	*out = *want;
	if (want->has_version)
		return ERR_OK;
	for (size_t i = 0; plan && i < plan->count; i++)
		consider(&n, plan->items[i].name);
	if (r)
		rc = ledger_each_job(r, consider_job, &n, e);
	if (r && rc == ERR_OK && !n.found.has_version) /* only by hand, then */
		rc = ledger_each_transfer(r, NULL, LEDGER_TRANSFERS,
					  consider_transfer, &n, e);
	if (n.found.has_version)
		*out = n.found;
	return rc;
}

static json_t *locations(const struct ledger_decision *d)
{
	json_t *list = json_array();
	for (size_t i = 0; i < d->count; i++) {
		const struct ledger_source *s = &d->sources[i];
		json_t *o = json_object();
		put(o, "rank", jsonout_number(s->rank));
		put(o, "kind", jsonout_text(s->kind));
		put(o, "host", jsonout_text(s->host));
		put(o, "url", jsonout_text(s->url));
		put(o, "locality", jsonout_text(s->locality));
		put(o, "usable", json_boolean(s->is_usable));
		put(o, "reason", jsonout_text(s->reason));
		json_array_append_new(list, o);
	}
	return list;
}

/* What the transfers of one content have to tell; the newest comes first. */
struct story {
	json_t *attempts, *hooks, *last, *delivered; /* owned; NULL = not yet */
};

static bool read_transfer(void *arg, const struct ledger_transfer *t)
{
	struct story *s = arg;
	if (s->last == NULL) {
		s->attempts = attempts(t);
		s->hooks = hooks(t);
		s->last = json_object();
		put(s->last, "time", jsonout_moment(t->began_s));
		put(s->last, "result", jsonout_text(t->result));
		put(s->last, "by", jsonout_text(t->by));
		put(s->last, "error", jsonout_error(&t->error));
	}
	if (t->error.code != ERR_OK || t->kind[0] == '\0')
		return true;
	s->delivered = source(t->kind, t->host);
	put(s->delivered, "time", jsonout_moment(t->began_s + t->duration_ms / 1000));
	put(s->delivered, "by", jsonout_text(t->by));
	put(s->delivered, "bytes_received", jsonout_number(t->bytes_received));
	return false;
}

static enum err_code add_transfers(struct record *r, const char *name,
				   bool *is_known, struct buf *out, struct err *e)
{
	struct story s = { 0 };
	enum err_code rc = ERR_OK;
	if (r)
		rc = ledger_each_transfer(r, name, TRANSFERS_BACK, read_transfer, &s,
					  e);
	*is_known |= s.last != NULL;
	add_key(out, "attempts", s.attempts ? s.attempts : json_array());
	add_key(out, "hooks", s.hooks ? s.hooks : json_array());
	add_key(out, "last", s.last ? s.last : json_null());
	add_key(out, "delivered", s.delivered ? s.delivered : json_null());
	return rc;
}

static void add_decision(struct record *r, const char *name, bool *is_known,
			 struct buf *out)
{
	struct ledger_decision d = { 0 };
	bool is_there = r && ledger_get_decision(r, name, &d);
	*is_known |= is_there;
	add_key(out, "decided", jsonout_moment(d.at_s));
	add_key(out, "management_point", jsonout_text_or_null(d.management_point));
	add_key(out, "locations", locations(&d));
	add_key(out, "location_error", jsonout_error(&d.error));
	if (is_there)
		ledger_decision_free(&d);
}

/* The job as --status has it, field by field into the object that is open. */
static void add_state(const struct plan_item *item, const struct ledger_job *known,
		      const char *name, struct buf *out)
{
	static const char *const keys[] = {
		"content", "version", "name", "state", "reason", "deadline", "due",
		"next_try", "gives_up", "tries", "arrived", "path", NULL,
	};
	struct view v = { .name = name, .item = item, .known = known };
	json_t *job = job_of(&v);
	for (size_t i = 0; keys[i]; i++) {
		json_t *value = json_object_get(job, keys[i]);
		if (value)
			add_key(out, keys[i], json_incref(value));
	}
	json_decref(job);
}

enum err_code status_print_why(const struct plan *plan, struct record *r,
			       const struct content *content, struct buf *out,
			       struct err *e)
{
	struct content found;
	struct ledger_job job;
	char name[CONTENT_NAME_SIZE];
	autobuf note = { 0 };
	if (find_newest(plan, r, content, &found, e) != ERR_OK)
		return e->code;
	content_name(&found, name);
	const struct plan_item *item = find_item(plan, name);
	const struct ledger_job *known =
		r && ledger_get_job(r, name, &job) ? &job : NULL;
	bool is_known = item || known;
	begin(out);
	add_state(item, known, name, out);
	add_decision(r, name, &is_known, out);
	if (add_transfers(r, name, &is_known, out, e) != ERR_OK)
		return e->code;
	if (!is_known)
		buf_print(&note, "nothing is recorded about %s", name);
	return finish(out, note.at, e);
}

/* --- --history ------------------------------------------------------------ */

static bool add_transfer(void *arg, const struct ledger_transfer *t)
{
	struct buf *out = arg;
	json_t *o = json_object();
	put(o, "time", jsonout_moment(t->began_s));
	put_name(o, t->name);
	put(o, "result", jsonout_text(t->result));
	put(o, "by", jsonout_text(t->by));
	put(o, "source", source(t->kind, t->host));
	put(o, "bytes_total", jsonout_number(t->bytes_total));
	put(o, "bytes_received", jsonout_number(t->bytes_received));
	put(o, "bytes_resumed", jsonout_number(t->bytes_resumed));
	put(o, "duration_ms", json_integer(t->duration_ms));
	put(o, "attempts", attempts(t));
	put(o, "hooks", hooks(t));
	put(o, "error", jsonout_error(&t->error));
	add_item(out, o);
	return !out->failed;
}

enum err_code status_print_history(struct record *r, struct buf *out,
				   struct err *e)
{
	enum err_code rc = ERR_OK;
	begin(out);
	begin_key(out, "transfers");
	buf_char(out, '[');
	if (r)
		rc = ledger_each_transfer(r, NULL, STATUS_HISTORY, add_transfer, out,
					  e);
	buf_char(out, ']');
	return rc == ERR_OK ? finish(out, "", e) : rc;
}
