#include "agent/net/resolve.h"

#include "common/clock.h"
#include "common/url.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define MEMORY_MAX 32      /* results remembered */
#define TTL_MAX_S 300
#define TTL_FAILURE_S 5
#define GRACE_MS 1000      /* for the second family, RFC 8305 s3 (there 50) */

enum { TRACK_V6, TRACK_V4, TRACK_COUNT };

enum walk_state {
	WALK_ASKING, /* waits for the tracks */
	WALK_READY,  /* waits for resolve_process() to deliver `result` */
};

struct resolve_walk {
	struct resolve *owner;
	struct resolve_walk *next;
	enum walk_state state;
	enum resolve_leg leg;
	resolve_done *done;
	void *arg;
	struct track tracks[TRACK_COUNT];
	int64_t grace_end_ms; /* 0 = no family has come yet */
	struct resolve_result result;
};

struct memory {
	struct resolve_result *result; /* owned; NULL = free */
	enum resolve_leg leg;
	int64_t expires_ms;
};

struct resolve {
	struct dns *dns; /* borrowed */
	unsigned max_hops;
	bool public_only;
	char *suffixes, *hosts; /* owned */
	struct resolve_walk *walks; /* owned */
	struct memory memory[MEMORY_MAX];
};

static bool is_under_way(const struct resolve_walk *w)
{
	return w->tracks[TRACK_V6].query || w->tracks[TRACK_V4].query;
}

static bool is_same_question(const struct resolve_walk *a,
			     const struct resolve_walk *b)
{
	return a != b && a->leg == b->leg &&
	       strcmp(a->result.name, b->result.name) == 0;
}

/* Many transfers begin at once: one walk asks, the others wait for it. */
static bool waits_for(const struct resolve_walk *w, const struct resolve_walk *leader)
{
	return w->state == WALK_ASKING && !is_under_way(w) &&
	       is_same_question(w, leader);
}

/* -- memory ---------------------------------------------------------------- */

static const struct resolve_result *recall(struct resolve *r, const char *name,
					   enum resolve_leg leg)
{
	int64_t now = clock_now_ms();
	for (unsigned i = 0; i < MEMORY_MAX; i++) {
		struct memory *m = &r->memory[i];
		if (m->result && m->expires_ms > now && m->leg == leg &&
		    strcmp(m->result->name, name) == 0)
			return m->result;
	}
	return NULL;
}

/* How long: by the lowest TTL, whatever the longest of the chain says. */
static uint32_t lifetime_s(const struct resolve_result *result)
{
	uint32_t ttl_s = TTL_MAX_S;
	if (result->result.code != ERR_OK)
		return err_exit(result->result.code) == CLASS_DNS ?
			       TTL_FAILURE_S : 0;
	for (unsigned i = 0; i < result->hop_count; i++)
		if (result->hops[i].ttl_s < ttl_s)
			ttl_s = result->hops[i].ttl_s;
	for (unsigned i = 0; i < result->address_count; i++)
		if (result->addresses[i].ttl_s < ttl_s)
			ttl_s = result->addresses[i].ttl_s;
	return ttl_s;
}

static void forget(struct memory *m)
{
	free(m->result);
	*m = (struct memory){ 0 };
}

/* Without memory for it the next walk just asks again. */
static void remember(struct resolve *r, const struct resolve_walk *w)
{
	uint32_t ttl_s = lifetime_s(&w->result);
	struct memory *place = &r->memory[0];
	if (ttl_s == 0)
		return;
	for (unsigned i = 0; i < MEMORY_MAX; i++) {
		struct memory *m = &r->memory[i];
		bool is_same = m->result && m->leg == w->leg &&
			       strcmp(m->result->name, w->result.name) == 0;
		if (is_same) {
			place = m;
			break;
		}
		if (m->expires_ms < place->expires_ms)
			place = m;
	}
	forget(place);
	place->result = malloc(sizeof(*place->result));
	if (place->result == NULL)
		return;
	*place->result = w->result;
	place->leg = w->leg;
	place->expires_ms = clock_now_ms() + (int64_t)ttl_s * 1000;
}

/* -- what the cloud legs refuse -------------------------------------------- */

/* Is the name within one of the suffixes, or are there none? */
static bool suffix_allows(const struct resolve *r, const char *name)
{
	struct span rest = span_of(r->suffixes), line;
	bool has_any = false;
	while (span_split(&rest, '\n', &line)) {
		char suffix[256];
		line = span_trim(line);
		if (line.len == 0)
			continue;
		has_any = true;
		if (line.len >= sizeof(suffix))
			continue;
		memcpy(suffix, line.at, line.len);
		suffix[line.len] = '\0';
		if (url_host_within(name, suffix))
			return true;
	}
	return !has_any;
}

/* May a chain of this walk end so? */
static enum err_code check_end(const struct resolve_walk *w, const struct track *t,
			       struct err *e)
{
	const struct resolve *r = w->owner;
	if (w->leg == RESOLVE_SITE)
		return ERR_OK;
	if (t->hop_count > 0 && !suffix_allows(r, t->at))
		return err_set(e, ERR_DNS_SUFFIX,
			       "resolve %.200s: its aliases lead to %.200s (says %s), "
			       "which is outside [cloud] suffix", w->result.name,
			       t->at, t->hops[t->hop_count - 1].server);
	for (unsigned i = 0; i < t->address_count; i++) {
		const char *text = t->addresses[i].text;
		const char *what = address_refusal(text, r->public_only);
		if (what)
			return err_set(e, ERR_DNS_ADDRESS,
				       "resolve %.200s: %.200s has the %s address "
				       "%s, which no cloud service can have",
				       w->result.name, t->at, what, text);
	}
	return ERR_OK;
}

/* -- the end of a walk ----------------------------------------------------- */

/* Of two families that failed the one that tells more is reported. */
static int weight(enum err_code code)
{
	static const enum err_code order[] = {
		ERR_DNS_NODATA, ERR_DNS_TIMEOUT, ERR_DNS_SERVER, ERR_DNS_REPLY,
		ERR_NOMEM, ERR_DNS_NXDOMAIN, ERR_DNS_DANGLING, ERR_DNS_HOPS,
		ERR_DNS_LOOP, ERR_DNS_ADDRESS, ERR_DNS_SUFFIX,
	};
	for (int i = 0; i < (int)(sizeof(order) / sizeof(*order)); i++)
		if (order[i] == code)
			return i;
	return -1;
}

static void add_hop_once(struct resolve_result *out, const struct resolve_hop *hop)
{
	for (unsigned i = 0; i < out->hop_count; i++)
		if (strcasecmp(out->hops[i].owner, hop->owner) == 0 &&
		    strcasecmp(out->hops[i].target, hop->target) == 0)
			return;
	if (out->hop_count < RESOLVE_HOPS_MAX)
		out->hops[out->hop_count++] = *hop;
}

static void interleave(struct resolve_walk *w)
{
	struct resolve_result *out = &w->result;
	for (unsigned i = 0; i < RESOLVE_ADDRESSES_MAX; i++)
		for (unsigned k = 0; k < TRACK_COUNT; k++)
			if (i < w->tracks[k].address_count)
				address_add(out->addresses, &out->address_count,
					    RESOLVE_ADDRESSES_MAX,
					    &w->tracks[k].addresses[i]);
}

/* The family whose chain and error stand for the whole. */
static struct track *leading_track(struct resolve_walk *w)
{
	struct track *v6 = &w->tracks[TRACK_V6], *v4 = &w->tracks[TRACK_V4];
	if (v6->address_count && v4->address_count)
		return v6->result.code ? v6 : v4->result.code ? v4 : v6;
	if (v6->address_count || v4->address_count)
		return v6->address_count ? v6 : v4;
	return weight(v6->result.code) > weight(v4->result.code) ? v6 : v4;
}

static void conclude(struct resolve_walk *w)
{
	struct resolve_result *out = &w->result;
	for (unsigned k = 0; k < TRACK_COUNT; k++) {
		struct track *t = &w->tracks[k];
		track_cancel(t);
		if (t->address_count)
			check_end(w, t, &t->result);
	}
	struct track *lead = leading_track(w);
	out->result = lead->result;
	if (lead->result.code == ERR_DNS_NODATA &&
	    w->tracks[TRACK_V6].result.code == ERR_DNS_NODATA)
		err_set(&out->result, ERR_DNS_NODATA, "%s (AAAA neither)",
			lead->result.text);
	memcpy(out->canonical, lead->at, sizeof(out->canonical));
	for (unsigned i = 0; i < lead->hop_count; i++)
		out->hops[out->hop_count++] = lead->hops[i];
	for (unsigned k = 0; k < TRACK_COUNT; k++)
		for (unsigned i = 0; i < w->tracks[k].hop_count; i++)
			add_hop_once(out, &w->tracks[k].hops[i]);
	if (out->result.code == ERR_OK)
		interleave(w);
	remember(w->owner, w);
	w->state = WALK_READY;
	for (struct resolve_walk *o = w->owner->walks; o; o = o->next)
		if (waits_for(o, w)) {
			o->result = w->result;
			o->state = WALK_READY;
		}
}

/* -- names that are not asked ---------------------------------------------- */

/* `text` as an address of the walk, with the name as it is; false = no address. */
static bool add_literal(struct resolve_walk *w, struct span text)
{
	struct resolve_address address;
	if (!address_parse(text, &address))
		return false;
	struct track *t = &w->tracks[address.is_v6 ? TRACK_V6 : TRACK_V4];
	address_add(t->addresses, &t->address_count, RESOLVE_ADDRESSES_MAX,
		    &address);
	return true;
}

static bool next_word(struct span *rest, struct span *word)
{
	*rest = span_trim(*rest);
	size_t n = 0;
	while (n < rest->len && rest->at[n] != ' ' && rest->at[n] != '\t')
		n++;
	*word = (struct span){ rest->at, n };
	rest->at += n;
	rest->len -= n;
	return n > 0;
}

/* All addresses that the hosts file has for the name, hosts(5). */
static bool add_from_hosts(struct resolve_walk *w)
{
	struct span rest = span_of(w->owner->hosts), line;
	bool has_any = false;
	while (span_split(&rest, '\n', &line)) {
		struct span content, address, name;
		if (!span_split(&line, '#', &content) ||
		    !next_word(&content, &address))
			continue;
		while (next_word(&content, &name))
			if (span_is_nocase(name, w->result.name))
				has_any |= add_literal(w, address);
	}
	return has_any;
}

static bool add_localhost(struct resolve_walk *w)
{
	if (!url_host_within(w->result.name, "localhost"))
		return false;
	return add_literal(w, SPAN_LIT("::1")) &&
	       add_literal(w, SPAN_LIT("127.0.0.1"));
}

/* True when the walk is at its end without a question. */
static bool answer_here(struct resolve_walk *w)
{
	const char *name = w->result.name;
	const struct resolve_result *known = recall(w->owner, name, w->leg);
	if (known) {
		w->result = *known;
		w->state = WALK_READY;
		return true;
	}
	if (w->leg == RESOLVE_STORAGE && !suffix_allows(w->owner, name)) {
		err_set(&w->result.result, ERR_DNS_SUFFIX,
			"resolve %.200s: it is outside [cloud] suffix", name);
		snprintf(w->result.canonical, sizeof(w->result.canonical), "%s",
			 name);
		w->state = WALK_READY;
		return true;
	}
	if (!add_literal(w, span_of(name)) && !add_localhost(w) &&
	    !add_from_hosts(w))
		return false;
	conclude(w);
	return true;
}

/* -- the handle ------------------------------------------------------------ */

struct resolve *resolve_new(const struct resolve_options *options, struct err *e)
{
	struct resolve *r = calloc(1, sizeof(*r));
	if (r == NULL) {
		err_set(e, ERR_NOMEM, "no memory for name resolution");
		return NULL;
	}
	r->dns = options->dns;
	r->max_hops = options->max_hops < RESOLVE_HOPS_MAX ? options->max_hops :
							     RESOLVE_HOPS_MAX;
	r->public_only = options->public_only;
	r->suffixes = strndup(options->suffixes.at ? options->suffixes.at : "",
			      options->suffixes.len);
	r->hosts = strndup(options->hosts.at ? options->hosts.at : "",
			   options->hosts.len);
	if (r->suffixes == NULL || r->hosts == NULL) {
		err_set(e, ERR_NOMEM, "no memory for name resolution");
		resolve_free(r);
		return NULL;
	}
	return r;
}

static void walk_free(struct resolve_walk *w)
{
	for (unsigned k = 0; k < TRACK_COUNT; k++)
		track_cancel(&w->tracks[k]);
	free(w);
}

static void unlink_walk(struct resolve_walk *w)
{
	struct resolve_walk **at = &w->owner->walks;
	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
}

void resolve_free(struct resolve *r)
{
	if (r == NULL)
		return;
	for (struct resolve_walk *w = r->walks, *next; w; w = next) {
		next = w->next;
		walk_free(w);
	}
	for (unsigned i = 0; i < MEMORY_MAX; i++)
		forget(&r->memory[i]);
	free(r->suffixes);
	free(r->hosts);
	free(r);
}


/* Lower case and without the trailing dot: the key of everything here. */
static bool copy_name(const char *name, char out[256])
{
	struct span text = span_of(name);
	if (!url_is_ip(text) && !url_is_hostname(text))
		return false;
	if (text.at[text.len - 1] == '.')
		text.len--;
	for (size_t i = 0; i < text.len; i++)
		out[i] = (char)tolower((unsigned char)text.at[i]);
	out[text.len] = '\0';
	return true;
}

static void on_track_ended(struct track *t)
{
	struct resolve_walk *w = t->arg;
	if (t->result.code == ERR_OK && w->grace_end_ms == 0)
		w->grace_end_ms = clock_now_ms() + GRACE_MS;
	if (!is_under_way(w))
		conclude(w);
}

static void begin_tracks(struct resolve_walk *w)
{
	for (unsigned k = 0; k < TRACK_COUNT; k++)
		track_start(&w->tracks[k]);
	if (!is_under_way(w))
		conclude(w);
}

void resolve_cancel(struct resolve_walk *w)
{
	if (w == NULL)
		return;
	unlink_walk(w);
	if (w->state == WALK_ASKING && is_under_way(w))
		for (struct resolve_walk *o = w->owner->walks; o; o = o->next)
			if (waits_for(o, w)) {
				begin_tracks(o); /* now it asks for the others */
				break;
			}
	walk_free(w);
}

static bool is_asked_already(const struct resolve_walk *w)
{
	for (const struct resolve_walk *o = w->owner->walks; o; o = o->next)
		if (o->state == WALK_ASKING && is_under_way(o) &&
		    is_same_question(o, w))
			return true;
	return false;
}

const struct resolve_result *resolve_recall(struct resolve *r, const char *name,
					    enum resolve_leg leg)
{
	char clean[256] = "";
	return copy_name(name, clean) ? recall(r, clean, leg) : NULL;
}

struct resolve_walk *resolve_start(struct resolve *r, const char *name,
				   enum resolve_leg leg, resolve_done *done,
				   void *arg, struct err *e)
{
	char clean[256] = "";
	if (!copy_name(name, clean)) {
		err_set(e, ERR_DNS_NAME, "resolve \"%.300s\": no host name", name);
		return NULL;
	}
	struct resolve_walk *w = calloc(1, sizeof(*w));
	if (w == NULL) {
		err_set(e, ERR_NOMEM, "no memory to resolve %s", clean);
		return NULL;
	}
	w->owner = r;
	w->leg = leg;
	w->done = done;
	w->arg = arg;
	memcpy(w->result.name, clean, sizeof(clean));
	for (unsigned k = 0; k < TRACK_COUNT; k++) {
		struct track *t = &w->tracks[k];
		t->dns = r->dns;
		t->name = w->result.name;
		t->type = k == TRACK_V6 ? DNS_AAAA : DNS_A;
		t->max_hops = r->max_hops;
		t->ended = on_track_ended;
		t->arg = w;
		memcpy(t->at, clean, sizeof(clean));
	}
	w->next = r->walks;
	r->walks = w;
	if (!answer_here(w) && !is_asked_already(w))
		begin_tracks(w);
	return w;
}

static struct resolve_walk *first_ready(struct resolve *r)
{
	struct resolve_walk *w = r->walks;
	while (w && w->state != WALK_READY)
		w = w->next;
	return w;
}

int resolve_process(struct resolve *r)
{
	int64_t now = clock_now_ms(), wait_ms = -1;
	unsigned due = 0;
	for (struct resolve_walk *w = r->walks; w; w = w->next) {
		if (w->state == WALK_ASKING && w->grace_end_ms &&
		    w->grace_end_ms <= now)
			conclude(w);
		due += w->state == WALK_READY;
	}
	/* No more than were due: who asks again at once for what is remembered
	 * gets its turn in the next round. */
	struct resolve_walk *w;
	while (due-- > 0 && (w = first_ready(r)) != NULL) {
		unlink_walk(w);
		w->done(w->arg, &w->result);
		walk_free(w);
	}
	if (first_ready(r))
		return 0;
	for (w = r->walks; w; w = w->next)
		if (w->grace_end_ms && (wait_ms < 0 ||
					w->grace_end_ms - now < wait_ms))
			wait_ms = w->grace_end_ms - now;
	return (int)wait_ms;
}
