#include "agent/cli/show.h"

#include "agent/cli/show_json.h"
#include "agent/cli/words.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/own.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct show_style style;

void show_open(const struct show_style *wanted)
{
	style = *wanted;
}

/* --- words and figures ---------------------------------------------------- */

#define RED SHOW_RED
#define GREEN SHOW_GREEN
#define BOLD SHOW_BOLD
#define PLAIN SHOW_PLAIN

/* A colour, or nothing where nobody can see it. */
static const char *out(const char *colour)
{
	return style.colour_out ? colour : "";
}

const char *show_colour(const char *colour)
{
	return out(colour);
}

bool show_is_quiet(void)
{
	return style.is_quiet;
}

static const char *err(const char *colour)
{
	return style.colour_err ? colour : "";
}

/* printf for what others wrote: every %s argument must come from clean(). */
static char *clean(const char *text)
{
	char *copy = log_clean(text ? text : "");
	return copy ? copy : strdup("(no memory)");
}
#define autoclean autofree char *

/* --- --locate, --replay, --dry-run ---------------------------------------- */

/* Columns as wide as what stands in them. */
struct widths {
	int kind, host, locality;
};

static void widen(int *width, const char *text)
{
	int len = (int)strlen(text);
	if (len > *width)
		*width = len;
}

static struct widths measure(const struct job_report *r)
{
	struct widths w = { 4, 4, 8 };
	for (size_t i = 0; i < r->chosen.count; i++) {
		const struct choose_item *c = &r->chosen.items[i];
		autoclean locality =
			clean(r->location.sources.items[c->source].locality);
		widen(&w.kind, source_kind_name(c->kind));
		widen(&w.host, c->host);
		widen(&w.locality, locality ? locality : "");
	}
	return w;
}

static void print_location(const struct job_report *r, size_t i,
			   const struct widths *w)
{
	const struct choose_item *c = &r->chosen.items[i];
	const struct source *s = &r->location.sources.items[c->source];
	autoclean locality = clean(s->locality);
	autoclean reason = clean(c->reason);
	autoclean host = clean(c->host);
	autoclean url = clean(s->url);
	printf("%4u  %-*s  %-*s  %-*s  %s%-6s%s  %s\n", c->rank, w->kind,
	       source_kind_name(c->kind), w->host, host, w->locality, locality,
	       out(c->usable ? GREEN : RED), c->usable ? "yes" : "no", out(PLAIN),
	       reason);
	printf("      %s\n", url);
}

static void print_locations(const struct job_report *r)
{
	struct widths w = measure(r);
	if (r->chosen.count == 0)
		return;
	printf("%sRANK  %-*s  %-*s  %-*s  USABLE  REASON%s\n", out(BOLD), w.kind,
	       "KIND", w.host, "HOST", w.locality, "LOCALITY", out(PLAIN));
	for (size_t i = 0; i < r->chosen.count; i++)
		print_location(r, i, &w);
}

static void print_located(const struct job_report *r, bool cloud_allowed)
{
	char name[CONTENT_NAME_SIZE];
	autoclean mp = clean(r->location.management_point);
	autoclean site_hash = clean(r->location.hash);
	content_name(&r->content, name);
	if (r->location.management_point == NULL) /* nobody answered */
		return;
	printf("%s%s%s: %zu source%s%s%s, %zu usable; cloud %sallowed\n",
	       out(BOLD), name[0] ? name : "stored reply", out(PLAIN),
	       r->chosen.count, words_plural(r->chosen.count), mp[0] ? " from " : "", mp,
	       r->chosen.usable, cloud_allowed ? "" : "not ");
	if (site_hash[0])
		printf("hash of the site: %s (not verifiable here)\n", site_hash);
	print_locations(r);
}

void show_locate(const struct job_report *r, bool cloud_allowed,
		 const struct err *e, bool json)
{
	if (json)
		show_json_locate(r, cloud_allowed, e);
	else
		print_located(r, cloud_allowed);
}

/* --- --download ----------------------------------------------------------- */

static void print_summary(const struct job_report *r)
{
	char name[CONTENT_NAME_SIZE], size[WORDS_SIZE], time[WORDS_SIZE];
	char received[WORDS_SIZE], resumed[WORDS_SIZE];
	content_name(&r->content, name);
	printf("%s%s%s: %s%s%s, %" PRIu64 " file%s, %s in %s", out(BOLD), name,
	       out(PLAIN), out(GREEN), job_result_word(r->result), out(PLAIN),
	       r->figures.files, words_plural(r->figures.files),
	       words_bytes(r->figures.bytes_total, size),
	       words_time(r->duration_ms, time));
	if (r->result != JOB_CACHED)
		printf(" (%s over the network, %s kept from before)",
		       words_bytes(r->figures.bytes_received, received),
		       words_bytes(r->figures.bytes_resumed, resumed));
	putchar('\n');
	if (r->delivered >= 0 && (size_t)r->delivered < r->attempt_count) {
		const struct job_attempt *a = &r->attempts[r->delivered];
		autoclean host = clean(a->host);
		autoclean url = clean(a->url);
		printf("from %s (%s): %s\n", host, source_kind_name(a->kind), url);
	}
	if (r->hash[0])
		printf("hash sha256:%s%s\n", r->hash,
		       r->result == JOB_UNVERIFIED ? " (nobody said what it "
						     "should be)" : "");
}

/* The path as it is for scripts; for a terminal nothing that could move it. */
static void print_path(const char *path)
{
	autoclean shown = clean(path);
	puts(isatty(STDOUT_FILENO) && shown ? shown : path);
}

void show_download(const struct job_report *r, const struct err *e, bool json)
{
	char name[CONTENT_NAME_SIZE];
	if (json) {
		show_json_download(r, e);
		return;
	}
	if (e->code != ERR_OK)
		return;
	if (r->result == JOB_PLANNED) {
		content_name(&r->content, name);
		printf("%s%s%s: planned, nothing was transferred; these would be "
		       "tried in order\n", out(BOLD), name, out(PLAIN));
		print_locations(r);
	} else if (!style.is_quiet) {
		print_summary(r);
	}
	if (r->path)
		print_path(r->path);
}

/* --- --resolve, --verify-server, --check-chain ---------------------------- */

static void print_hops(const struct ask_walk *w)
{
	for (unsigned i = 0; i < w->hop_count; i++) {
		const struct ask_hop *h = &w->hops[i];
		autoclean owner = clean(h->owner);
		autoclean target = clean(h->target);
		autoclean server = clean(h->server);
		printf("%s  CNAME  %s  (ttl %" PRIu64 " s, %s, %" PRIu64 " ms)\n",
		       owner, target, h->ttl_s, server, h->duration_ms);
	}
	autoclean canonical = clean(w->canonical);
	for (unsigned i = 0; i < w->address_count; i++) {
		autoclean address = clean(w->addresses[i].text);
		bool is_v6 = strchr(w->addresses[i].text, ':') != NULL;
		printf("%s  %s  %s  (ttl %" PRIu64 " s)\n", canonical,
		       is_v6 ? "AAAA" : "A", address, w->addresses[i].ttl_s);
	}
}

static void print_certificate(unsigned number, const struct ask_certificate *c)
{
	autoclean subject = clean(c->subject);
	autoclean issuer = clean(c->issuer);
	autoclean problem = clean(c->problem);
	autoclean begin = clean(c->not_before);
	autoclean end = clean(c->not_after);
	struct span rest = span_of(c->names), one;
	printf("%2u  %s%s%s\n", number, out(BOLD), subject[0] ? subject :
	       "(no subject)", out(PLAIN));
	printf("    issued by  %s\n", issuer);
	printf("    valid      %s to %s\n", begin, end);
	for (const char *label = "names"; span_split(&rest, '\n', &one);
	     label = "") {
		autofree char *copy = strndup(one.at, one.len);
		autoclean name = clean(copy);
		printf("    %-9s  %s\n", label, name);
	}
	printf("    problem    %s%s%s\n", out(problem[0] ? RED : GREEN),
	       problem[0] ? problem : "none", out(PLAIN));
}

static void print_tls(const struct ask_walk *w)
{
	if (!w->has_tls && w->chain_count == 0)
		return;
	autoclean version = clean(w->tls_version);
	autoclean peer = clean(w->peer);
	autoclean name = clean(w->name_checked);
	if (peer[0])
		printf("connected to %s port %u in %" PRIu64 " ms%s%s\n", peer,
		       w->port, w->connect_ms, version[0] ? ", " : "", version);
	for (unsigned i = 0; i < w->chain_count; i++)
		print_certificate(i + 1, &w->chain[i]);
	if (w->chain_count)
		printf("%s%s%s as %s\n", out(w->is_verified ? GREEN : RED),
		       w->is_verified ? "trusted" : "NOT TRUSTED", out(PLAIN), name);
}

void show_walk(const struct ask_walk *w, bool with_tls, const struct err *e,
	       bool json)
{
	if (json) {
		show_json_walk(w, with_tls, e);
		return;
	}
	print_hops(w);
	if (with_tls)
		print_tls(w);
}

/* --- --diagnose ----------------------------------------------------------- */

static void give_verdict(const struct job_report *r, const struct err *e,
			 struct buf *verdict)
{
	if (e->code != ERR_OK) {
		buf_print(verdict, "would fail at step %s: %s", err_step(e->code),
			  e->text);
		return;
	}
	const char *from = "";
	for (size_t i = 0; i < r->step_count && !from[0]; i++)
		if (r->steps[i].ok && r->steps[i].source[0] &&
		    strcmp(r->steps[i].step, "transfer") == 0)
			from = r->steps[i].source;
	if (from[0])
		buf_print(verdict, "could be downloaded from %s", from);
	else
		buf_text(verdict, "nothing is in the way");
}

static void print_steps(const struct job_report *r, const char *verdict)
{
	int widest = 4;
	autoclean shown = clean(verdict);
	for (size_t i = 0; i < r->step_count; i++)
		widen(&widest, r->steps[i].step);
	for (size_t i = 0; i < r->step_count; i++) {
		const struct job_step *s = &r->steps[i];
		char time[WORDS_SIZE];
		autoclean source = clean(s->source);
		autoclean detail = clean(s->detail);
		printf("%3zu  %-*s  %s%-6s%s  %s%s%s (%s)\n", i + 1, widest,
		       s->step, out(s->ok ? GREEN : RED), s->ok ? "ok" : "FAILED",
		       out(PLAIN), source, source[0] ? ": " : "", detail,
		       words_time(s->duration_ms, time));
	}
	printf("%sverdict:%s %s\n", out(BOLD), out(PLAIN), shown);
}

void show_diagnose(const struct job_report *r, const struct err *e, bool json)
{
	autobuf verdict = { 0 };
	give_verdict(r, e, &verdict);
	const char *text = verdict.at ? verdict.at : "";
	if (json)
		show_json_diagnose(r, text, e);
	else if (r->step_count)
		print_steps(r, text);
}

/* --- --cache -------------------------------------------------------------- */

static const char *state_of(const struct cache_item *c)
{
	if (c->is_partial)
		return c->is_in_use ? "partial, in use" : "partial";
	return c->is_in_use ? "in use" : "";
}

void show_cache_list(const struct cache_item *items, size_t count,
		     const struct err *e, bool json)
{
	char size[WORDS_SIZE], used[CLOCK_RFC3339_SIZE];
	uint64_t bytes = 0;
	int widest = 7;
	if (json) {
		show_json_cache(items, NULL, count, e);
		return;
	}
	if (e->code != ERR_OK)
		return;
	for (size_t i = 0; i < count; i++)
		widen(&widest, items[i].name);
	if (count)
		printf("%s%-*s  %10s  %6s  %-20s  STATE%s\n", out(BOLD), widest,
		       "CONTENT", "SIZE", "FILES", "LAST USED", out(PLAIN));
	for (size_t i = 0; i < count; i++) {
		const struct cache_item *c = &items[i];
		clock_rfc3339(c->last_used_s, used);
		printf("%-*s  %10s  %6" PRIu64 "  %-20s  %s\n", widest, c->name,
		       words_bytes(c->bytes, size), c->files, used, state_of(c));
		bytes += c->bytes;
	}
	printf("%zu content%s, %s\n", count, words_plural(count),
	       words_bytes(bytes, size));
}

void show_cache_verify(const struct cache_item *items, char *const *problems,
		       size_t count, const struct err *e, bool json)
{
	if (json) {
		show_json_cache(items, problems, count, e);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		autoclean problem = clean(problems[i]);
		if (problems[i] == NULL)
			printf("%s: not judged, %s\n", items[i].name,
			       items[i].is_partial ? "it is not complete" :
						     "not reached");
		else
			printf("%s: %s%s%s\n", items[i].name,
			       out(problem[0] ? RED : GREEN),
			       problem[0] ? problem : "good", out(PLAIN));
	}
}

void show_cache_change(const char *verb, unsigned removed, uint64_t bytes,
		       const struct err *e, bool json)
{
	char size[WORDS_SIZE];
	if (json)
		show_json_cache_change(verb, removed, bytes, e);
	else if (e->code == ERR_OK && !style.is_quiet)
		printf("%u content%s removed, %s freed\n", removed,
		       words_plural(removed), words_bytes(bytes, size));
}

/* --- --check-config ------------------------------------------------------- */

static void print_deployments(const char *policy,
			      const struct deployment_list *l)
{
	autoclean source = clean(policy);
	printf("\npolicy %s: %zu deployment%s\n", source, l->count,
	       words_plural(l->count));
	for (size_t i = 0; i < l->count; i++) {
		const struct deployment *d = &l->items[i];
		char name[CONTENT_NAME_SIZE];
		autoclean title = clean(d->name);
		autoclean path = clean(d->path);
		content_name(&d->content, name);
		printf("  %s  %s  (%s, cloud %s, %s%s)    ; %s\n", name, title,
		       d->is_required ? "required" : "available", words_cloud(d->cloud),
		       d->hash[0] ? "sha256:" : "no hash", d->hash, path);
	}
}

void show_config(const struct settings *s, const char *policy,
		 const struct deployment_list *deployments,
		 struct span problems, const struct err *e, bool json)
{
	autobuf all = { 0 };
	struct span rest, line;
	if (json) {
		show_json_config(s, policy, deployments, problems, e);
		return;
	}
	if (s->origins)
		settings_print(s, &all);
	for (rest = buf_as_span(&all); span_split(&rest, '\n', &line);) {
		/* Escaped, not masked: secrets stand in files, and what looks
		 * like one here (token_header) is none. */
		autobuf shown = { 0 };
		log_escape(line, 0, &shown);
		puts(shown.at ? shown.at : "");
	}
	if (policy)
		print_deployments(policy, deployments);
}

/* --- errors, on standard error -------------------------------------------- */

static void print_attempt(const char *word, const char *where, const char *how,
			  const struct err *why)
{
	autoclean whom = clean(where);
	autoclean reason = clean(why->text);
	fprintf(stderr, "agent: %s %s%s: %s\n", word, whom, how, reason);
}

void show_attempts(const struct job_report *r, const struct err *e)
{
	/* One alone was told as a warning just now, or is the error itself. */
	size_t count = r->location.attempt_count + r->attempt_count;
	if (e->code == ERR_OK || (count < 2 && !style.is_quiet))
		return;
	fflush(stdout);
	for (size_t i = 0; i < r->location.attempt_count; i++)
		print_attempt("asked", r->location.attempts[i].url, "",
			      &r->location.attempts[i].why);
	for (size_t i = 0; i < r->attempt_count; i++) {
		const struct job_attempt *a = &r->attempts[i];
		char time[WORDS_SIZE], how[80];
		snprintf(how, sizeof(how), " (%s, %s)", source_kind_name(a->kind),
			 words_time(a->duration_ms, time));
		if (a->why.code != ERR_OK)
			print_attempt("tried", a->host, how, &a->why);
	}
}

/* Does the text say already what was tried? "resolve HOST: ..." */
static bool names_itself(const char *text, const char *name)
{
	size_t len = strlen(name);
	return len && strncmp(text, name, len) == 0 && text[len] == ' ';
}

void show_error(const char *verb, const char *object, const struct err *e)
{
	if (e->code == ERR_OK)
		return;
	autoclean what = clean(e->text[0] ? e->text : err_name(e->code));
	autoclean whom = clean(object);
	const char *name = verb ? verb + strspn(verb, "-") : "";
	fflush(stdout); /* so that these are the last lines of both */
	fprintf(stderr, "agent: %s", err(RED));
	if (name[0] && !names_itself(what, name))
		fprintf(stderr, "%s%s%s: ", name, whom[0] ? " " : "", whom);
	fprintf(stderr, "%s%s\n", what, err(PLAIN));
	bool is_plain = e->code == ERR_SIGINT || e->code == ERR_SIGTERM ||
			err_exit(e->code) == CLASS_USAGE;
	if (!is_plain)
		fprintf(stderr, "agent: failed at step %s: %s, exit status %d\n",
			err_step(e->code), err_name(e->code), err_exit(e->code));
	if (err_advice(e->code)[0])
		fprintf(stderr, "agent: %stry:%s %s\n", err(BOLD), err(PLAIN),
			err_advice(e->code));
}
