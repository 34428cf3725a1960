#include "agent/cli/show_json.h"

#include "agent/cli/words.h"
#include "common/jsonout.h"
#include "common/log.h"
#include "common/own.h"

#include <stdio.h>
#include <stdlib.h>

/* --- values --------------------------------------------------------------- */

/* Of settings: escaped, not masked. Secrets stand in files, and what looks like
 * one in settings (token_header) is none. */
static json_t *escaped(struct span value)
{
	autobuf all = { 0 };
	log_escape(value, 0, &all);
	return json_string(all.at ? all.at : "");
}

/* The end of each verb: its error, and out with it. Takes o. */
static void say(json_t *o, const struct err *e)
{
	json_object_set_new(o, "error", jsonout_error(e));
	if (json_dumpf(o, stdout, JSON_COMPACT) != 0)
		fputs("{}", stdout); /* no memory */
	fputc('\n', stdout);
	json_decref(o);
}

static void set_content(json_t *o, const struct content *c)
{
	json_object_set_new(o, "content", jsonout_text(c->id));
	json_object_set_new(o, "version", jsonout_number(c->version));
}

/* A host without the port that people are shown: the URL has it. */
static json_t *host(const char *with_port)
{
	const char *end = strrchr(with_port, ':');
	struct span s = span_of(with_port);
	if (with_port[0] == '[' && (end = strchr(with_port, ']')) != NULL)
		s = (struct span){ with_port + 1, (size_t)(end - with_port - 1) };
	else if (end && strchr(with_port, ':') == end)
		s.len = (size_t)(end - with_port);
	return json_stringn(s.at, s.len);
}

/* --- download ------------------------------------------------------------- */

static json_t *source(const struct job_attempt *a)
{
	json_t *o = json_object();
	json_object_set_new(o, "kind", json_string(source_kind_name(a->kind)));
	json_object_set_new(o, "host", host(a->host));
	json_object_set_new(o, "url", jsonout_text(a->url));
	return o;
}

static json_t *attempts(const struct job_report *r)
{
	json_t *list = json_array();
	for (size_t i = 0; i < r->attempt_count; i++) {
		const struct job_attempt *a = &r->attempts[i];
		json_t *o = source(a);
		json_object_set_new(o, "bytes_received",
				    jsonout_number(a->bytes_received));
		json_object_set_new(o, "duration_ms", json_integer(a->duration_ms));
		json_object_set_new(o, "error", jsonout_error(&a->why));
		json_array_append_new(list, o);
	}
	return list;
}

/* Who was asked, and who of them failed. */
static void set_asked(json_t *o, const struct ask_location *l)
{
	json_t *list = json_array();
	for (size_t i = 0; i < l->attempt_count; i++) {
		json_t *one = json_object();
		json_object_set_new(one, "url", jsonout_text(l->attempts[i].url));
		json_object_set_new(one, "error", jsonout_error(&l->attempts[i].why));
		json_array_append_new(list, one);
	}
	json_object_set_new(o, "management_point",
			    jsonout_text_or_null(l->management_point));
	json_object_set_new(o, "management_point_attempts", list);
}

static json_t *locations(const struct job_report *r)
{
	json_t *list = json_array();
	for (size_t i = 0; i < r->chosen.count; i++) {
		const struct choose_item *c = &r->chosen.items[i];
		const struct source *s = &r->location.sources.items[c->source];
		json_t *o = json_object();
		json_object_set_new(o, "rank", jsonout_number(c->rank));
		json_object_set_new(o, "kind",
				    json_string(source_kind_name(c->kind)));
		json_object_set_new(o, "host", host(c->host));
		json_object_set_new(o, "url", jsonout_text(s->url));
		json_object_set_new(o, "locality", jsonout_text(s->locality));
		json_object_set_new(o, "usable", json_boolean(c->usable));
		json_object_set_new(o, "reason", jsonout_text(c->reason));
		json_array_append_new(list, o);
	}
	return list;
}

void show_json_download(const struct job_report *r, const struct err *e)
{
	json_t *o = json_object();
	set_content(o, &r->content);
	json_object_set_new(o, "result", json_string(job_result_word(r->result)));
	json_object_set_new(o, "hash", jsonout_hash(r->hash));
	json_object_set_new(o, "path", jsonout_text_or_null(r->path));
	json_object_set_new(o, "files", jsonout_number(r->figures.files));
	json_object_set_new(o, "bytes_total",
			    jsonout_number(r->figures.bytes_total));
	json_object_set_new(o, "bytes_received",
			    jsonout_number(r->figures.bytes_received));
	json_object_set_new(o, "bytes_resumed",
			    jsonout_number(r->figures.bytes_resumed));
	json_object_set_new(o, "duration_ms", json_integer(r->duration_ms));
	bool is_there = r->delivered >= 0 &&
			(size_t)r->delivered < r->attempt_count;
	json_object_set_new(o, "source", is_there ?
			    source(&r->attempts[r->delivered]) : json_null());
	json_object_set_new(o, "attempts", attempts(r));
	set_asked(o, &r->location);
	if (r->result == JOB_PLANNED)
		json_object_set_new(o, "locations", locations(r));
	say(o, e);
}

void show_json_locate(const struct job_report *r, bool cloud_allowed,
		      const struct err *e)
{
	json_t *o = json_object();
	set_content(o, &r->content);
	json_object_set_new(o, "cloud_allowed", json_boolean(cloud_allowed));
	json_object_set_new(o, "locations", locations(r));
	set_asked(o, &r->location);
	json_object_set_new(o, "site_hash", jsonout_text_or_null(r->location.hash));
	say(o, e);
}

/* --- names and certificates ----------------------------------------------- */

static json_t *hops(const struct ask_walk *w)
{
	json_t *list = json_array();
	for (unsigned i = 0; i < w->hop_count; i++) {
		const struct ask_hop *h = &w->hops[i];
		json_t *o = json_object();
		json_object_set_new(o, "owner", jsonout_text(h->owner));
		json_object_set_new(o, "target", jsonout_text(h->target));
		json_object_set_new(o, "ttl_s", jsonout_number(h->ttl_s));
		json_object_set_new(o, "server", jsonout_text(h->server));
		json_object_set_new(o, "duration_ms", jsonout_number(h->duration_ms));
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *addresses(const struct ask_walk *w)
{
	json_t *list = json_array();
	for (unsigned i = 0; i < w->address_count; i++) {
		json_t *o = json_object();
		json_object_set_new(o, "address", jsonout_text(w->addresses[i].text));
		json_object_set_new(o, "ttl_s", jsonout_number(w->addresses[i].ttl_s));
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *certificate(const struct ask_certificate *c)
{
	json_t *o = json_object(), *names = json_array();
	struct span rest = span_of(c->names), name;
	while (span_split(&rest, '\n', &name))
		if (name.len)
			json_array_append_new(names, jsonout_span(name));
	json_object_set_new(o, "subject", jsonout_text(c->subject));
	json_object_set_new(o, "issuer", jsonout_text(c->issuer));
	json_object_set_new(o, "not_before", jsonout_text(c->not_before));
	json_object_set_new(o, "not_after", jsonout_text(c->not_after));
	json_object_set_new(o, "names", names);
	json_object_set_new(o, "problem", jsonout_text_or_null(c->problem));
	return o;
}

static json_t *tls(const struct ask_walk *w)
{
	if (!w->has_tls && w->chain_count == 0)
		return json_null();
	json_t *o = json_object(), *chain = json_array();
	for (unsigned i = 0; i < w->chain_count; i++)
		json_array_append_new(chain, certificate(&w->chain[i]));
	json_object_set_new(o, "version", jsonout_text_or_null(w->tls_version));
	json_object_set_new(o, "name_checked", jsonout_text(w->name_checked));
	json_object_set_new(o, "verified", json_boolean(w->is_verified));
	json_object_set_new(o, "address", jsonout_text_or_null(w->peer));
	json_object_set_new(o, "connect_ms", jsonout_number(w->connect_ms));
	json_object_set_new(o, "chain", chain);
	return o;
}

void show_json_walk(const struct ask_walk *w, bool with_tls,
		    const struct err *e)
{
	json_t *o = json_object();
	json_object_set_new(o, "name", jsonout_text(w->name));
	json_object_set_new(o, "port", jsonout_number(w->port));
	json_object_set_new(o, "hops", hops(w));
	json_object_set_new(o, "canonical", jsonout_text(w->canonical));
	json_object_set_new(o, "addresses", addresses(w));
	if (with_tls)
		json_object_set_new(o, "tls", tls(w));
	say(o, e);
}

/* --- diagnosis ------------------------------------------------------------ */

void show_json_diagnose(const struct job_report *r, const char *verdict,
			const struct err *e)
{
	json_t *o = json_object(), *list = json_array();
	for (size_t i = 0; i < r->step_count; i++) {
		const struct job_step *s = &r->steps[i];
		json_t *step = json_object();
		json_object_set_new(step, "number", jsonout_number(i + 1));
		json_object_set_new(step, "step", jsonout_text(s->step));
		json_object_set_new(step, "source", jsonout_text_or_null(s->source));
		json_object_set_new(step, "ok", json_boolean(s->ok));
		json_object_set_new(step, "detail", jsonout_text(s->detail));
		json_object_set_new(step, "duration_ms",
				    json_integer(s->duration_ms));
		json_array_append_new(list, step);
	}
	set_content(o, &r->content);
	json_object_set_new(o, "steps", list);
	json_object_set_new(o, "verdict", jsonout_text(verdict));
	say(o, e);
}

/* --- cache ---------------------------------------------------------------- */

void show_json_cache(const struct cache_item *items, char *const *problems,
		     size_t count, const struct err *e)
{
	json_t *o = json_object(), *list = json_array();
	uint64_t bytes = 0;
	for (size_t i = 0; i < count; i++) {
		const struct cache_item *c = &items[i];
		json_t *one = json_object();
		set_content(one, &c->content);
		json_object_set_new(one, "hash", jsonout_hash(c->hash));
		json_object_set_new(one, "files", jsonout_number(c->files));
		json_object_set_new(one, "bytes", jsonout_number(c->bytes));
		json_object_set_new(one, "last_used", jsonout_moment(c->last_used_s));
		json_object_set_new(one, "partial", json_boolean(c->is_partial));
		json_object_set_new(one, "in_use", json_boolean(c->is_in_use));
		if (problems) {
			bool is_judged = problems[i] != NULL;
			json_object_set_new(one, "verified", is_judged ?
					    json_boolean(!problems[i][0]) :
					    json_null());
			json_object_set_new(one, "problem",
					    jsonout_text_or_null(problems[i]));
		}
		json_array_append_new(list, one);
		bytes += c->bytes;
	}
	json_object_set_new(o, "contents", list);
	json_object_set_new(o, "bytes_total", jsonout_number(bytes));
	say(o, e);
}

void show_json_cache_change(const char *verb, unsigned removed, uint64_t bytes,
			    const struct err *e)
{
	json_t *o = json_object();
	json_object_set_new(o, "action", jsonout_text(verb));
	json_object_set_new(o, "removed", jsonout_number(removed));
	json_object_set_new(o, "bytes", jsonout_number(bytes));
	say(o, e);
}

/* --- settings ------------------------------------------------------------- */

/* settings_print writes "key = value    ; origin"; values hold no line feeds, and
 * an origin no four spaces and semicolon but in a very odd file name. */
static json_t *setting(struct span line)
{
	json_t *o = json_object();
	const char *equals = memmem(line.at, line.len, " =", 2);
	const char *origin = NULL, *end = line.at + line.len;
	for (const char *p = line.at; equals && p + 6 <= end; p++)
		if (memcmp(p, "    ; ", 6) == 0)
			origin = p;
	if (equals == NULL || origin == NULL || origin < equals + 2)
		return o;
	struct span key = { line.at, (size_t)(equals - line.at) };
	struct span value = { equals + 2, (size_t)(origin - equals) - 2 };
	struct span from = { origin + 6, (size_t)(end - origin) - 6 };
	json_object_set_new(o, "key", escaped(key));
	json_object_set_new(o, "value", escaped(span_trim(value)));
	json_object_set_new(o, "origin", escaped(from));
	return o;
}

static json_t *deployment(const struct deployment *d)
{
	json_t *o = json_object();
	json_object_set_new(o, "file", jsonout_text(d->path));
	json_object_set_new(o, "id", jsonout_text(d->id));
	json_object_set_new(o, "name", jsonout_text(d->name));
	set_content(o, &d->content);
	json_object_set_new(o, "purpose",
			    json_string(d->is_required ? "required" : "available"));
	json_object_set_new(o, "available", jsonout_moment(d->available_s));
	json_object_set_new(o, "deadline", jsonout_moment(d->deadline_s));
	json_object_set_new(o, "hash", jsonout_hash(d->hash));
	json_object_set_new(o, "size", d->size == DEPLOYMENT_SIZE_UNKNOWN ?
			    json_null() : jsonout_number(d->size));
	json_object_set_new(o, "files", jsonout_number(d->files.count));
	json_object_set_new(o, "cloud", json_string(words_cloud(d->cloud)));
	return o;
}

void show_json_config(const struct settings *s, const char *policy,
		      const struct deployment_list *deployments,
		      struct span problems, const struct err *e)
{
	json_t *o = json_object(), *list = json_array();
	autobuf all = { 0 };
	struct span rest, line;
	if (s->origins)
		settings_print(s, &all);
	for (rest = buf_as_span(&all); span_split(&rest, '\n', &line);)
		json_array_append_new(list, setting(line));
	json_object_set_new(o, "settings", list);
	json_object_set_new(o, "policy", jsonout_text_or_null(policy));
	list = json_array();
	for (size_t i = 0; i < deployments->count; i++)
		json_array_append_new(list, deployment(&deployments->items[i]));
	json_object_set_new(o, "deployments", list);
	list = json_array();
	for (rest = problems; span_split(&rest, '\n', &line);)
		json_array_append_new(list, jsonout_span(line));
	json_object_set_new(o, "problems", list);
	say(o, e);
}
