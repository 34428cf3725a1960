#include "policy/choose.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * Ranks follow the vendor's order of preference (docs/wire.md 4.4): 1 DP on this
 * computer, 3 same subnet, 5 own boundary group, 6 neighbour group, 7 default
 * group of the site, 9 internet, 10 cloud. The set of words is open, so what
 * we do not know comes after what lies on-premises for certain.
 */
enum { RANK_UNKNOWN = 8, RANK_INTERNET = 9, RANK_CLOUD = 10 };

static const struct {
	const char *word;
	bool is_prefix;
	unsigned rank;
	const char *meaning;
} localities[] = {
	{ "LOCAL", false, 1, "on this computer" },
	{ "SUBNET", false, 3, "in the same subnet" },
	{ "BOUNDARYGROUP", false, 5, "in the current boundary group" },
	{ "NEIGHBOR", true, 6, "in a neighbour boundary group" },
	{ "NEIGHBOUR", true, 6, "in a neighbour boundary group" },
	{ "SITE", false, 7, "in the default boundary group of the site" },
	{ "DEFAULT", true, 7, "in the default boundary group of the site" },
	{ "FALLBACK", false, 7, "fallback of the site" },
	{ "REMOTE", false, 7, "remote" },
	{ "INTERNET", true, RANK_INTERNET, "internet-facing" },
};

/* One source while it is being placed. */
struct place {
	struct choose_item item;
	unsigned group;     /* 0 = preferred cloud, 1 = the others, 2 = refused */
	unsigned rank;      /* of the locality */
	bool is_fallback;   /* of another site: after equals of ours */
	bool is_doubtful;   /* what its host did lately: after the others */
	int64_t connect_ms; /* INT64_MAX = not measured */
};

void choose_free(struct choose_result *r)
{
	free(r->items);
	*r = (struct choose_result){ 0 };
}

__attribute__((format(printf, 2, 3))) static void
say(struct place *p, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(p->item.reason, sizeof(p->item.reason), fmt, ap);
	va_end(ap);
}

__attribute__((format(printf, 2, 3))) static void
refuse(struct place *p, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(p->item.reason, sizeof(p->item.reason), fmt, ap);
	va_end(ap);
	p->item.usable = false;
}

void choose_host(const struct url *u, char out[CHOOSE_HOST_SIZE])
{
	bool is_ipv6 = strchr(u->host, ':') != NULL;
	if (u->port == (u->is_https ? 443 : 80))
		snprintf(out, CHOOSE_HOST_SIZE, "%s", u->host);
	else
		snprintf(out, CHOOSE_HOST_SIZE, "%s%s%s:%u", is_ipv6 ? "[" : "",
			 u->host, is_ipv6 ? "]" : "", u->port);
}

/* Did --from ask for this one? */
static bool is_asked_for(const struct place *p, const struct url *u,
			 const char *from)
{
	enum source_kind kind = p->item.kind;
	if (from == NULL)
		return true;
	if (strcmp(from, "cloud") == 0)
		return kind == SOURCE_CLOUD;
	if (strcmp(from, "on-prem") == 0)
		return kind == SOURCE_ON_PREM || kind == SOURCE_INTERNET ||
		       kind == SOURCE_UNKNOWN;
	struct span host = span_of(from);
	if (host.len && host.at[host.len - 1] == '.')
		host.len--;
	return span_is_nocase(host, u->host) ||
	       span_is_nocase(host, p->item.host);
}

static void place_cloud(struct place *p, const struct url *u,
			const struct choose_rules *rules)
{
	bool is_preferred = rules->cloud == CHOOSE_CLOUD_PREFER;
	p->rank = RANK_CLOUD;
	p->group = is_preferred ? 0 : 1;
	if (!rules->cloud_allow) {
		p->item.refused_cloud = true;
		refuse(p, "[cloud] allow = no forbids cloud sources");
	} else if (rules->cloud == CHOOSE_CLOUD_NEVER) {
		p->item.refused_cloud = true;
		refuse(p, "[sources] cloud = never in the deployment policy forbids "
		       "cloud sources");
	} else if (!u->is_https) {
		refuse(p, "cloud sources are used over https only");
	} else {
		char connect[48] = "";
		if (p->connect_ms != INT64_MAX)
			snprintf(connect, sizeof(connect), ", connects in %" PRId64
				 " ms", p->connect_ms);
		say(p, "cloud: %s ([sources] cloud = %s)%s",
		    is_preferred ? "before on-premises" : "after on-premises",
		    is_preferred ? "prefer" : "fallback", connect);
	}
}

static bool wants_token(const struct source *s, const struct url *u)
{
	return s->auth_method == 1024 || strcasestr(u->path, "/CCMTOKENAUTH_");
}

static void place_on_prem(struct place *p, const struct source *s,
			  const struct url *u, const struct choose_rules *rules)
{
	const char *word = s->locality, *meaning = NULL, *token = "";
	for (size_t i = 0; !meaning && i < sizeof(localities) / sizeof(*localities);
	     i++) {
		const char *known = localities[i].word;
		if (localities[i].is_prefix ?
			    strncasecmp(word, known, strlen(known)) != 0 :
			    strcasecmp(word, known) != 0)
			continue;
		p->rank = localities[i].rank;
		meaning = localities[i].meaning;
	}
	if (wants_token(s, u) && u->is_https)
		token = rules->has_token ? "; takes our token" :
			"; wants a token, there is none: tried without";
	const char *form = p->item.kind == SOURCE_UNKNOWN ?
				   "; path of no known kind, tried as it stands" : "";
	if (meaning)
		say(p, "locality %.30s: %s%s%s%s", word, meaning,
		    p->is_fallback ? ", site FALLBACK" : "", token, form);
	else if (word[0])
		say(p, "locality %.30s is not known: after the known ones%s%s", word,
		    token, form);
	else
		say(p, "no locality: after the known ones%s%s", token, form);
}

/* --from took a word for a kind, not the name of a host? */
static bool is_kind(const char *from)
{
	return from == NULL || strcmp(from, "on-prem") == 0 ||
	       strcmp(from, "cloud") == 0;
}

/* What is known of the host counts among its equals: it neither refuses a source
 * nor lets the cloud come first. */
static void doubt(struct place *p, const struct choose_rules *rules)
{
	size_t i = p->item.source;
	int64_t absent = rules->absent_s ? rules->absent_s[i] : -1;
	int64_t ill = rules->ill_s ? rules->ill_s[i] : -1;
	int64_t ago = absent >= 0 ? absent : ill;
	char placed[sizeof(p->item.reason)];
	if (ago < 0 || p->item.kind == SOURCE_CLOUD || !is_kind(rules->from))
		return;
	p->is_doubtful = true;
	memcpy(placed, p->item.reason, sizeof(placed));
	say(p, "%s %" PRId64 " %s ago: after the others; %s",
	    absent >= 0 ? "did not have it" : "was not well",
	    ago < 60 ? ago : ago / 60, ago < 60 ? "s" : "min", placed);
}

static void place_known(struct place *p, const struct source *s,
			const struct url *u, const struct choose_rules *rules)
{
	p->item.usable = true;
	switch (p->item.kind) {
	case SOURCE_CLOUD:
		place_cloud(p, u, rules);
		break;
	case SOURCE_PEER:
		refuse(p, "peers are not used by this agent");
		break;
	case SOURCE_MICROSOFT_UPDATE:
		refuse(p, "Microsoft Update: single files, not served by a "
		       "distribution point");
		break;
	case SOURCE_ON_PREM:
	case SOURCE_INTERNET:
	case SOURCE_UNKNOWN:
		place_on_prem(p, s, u, rules);
		break;
	}
	if (p->item.usable && !is_asked_for(p, u, rules->from))
		refuse(p, "not asked for (--from %.100s)", rules->from);
	if (p->item.usable)
		doubt(p, rules);
}

static enum err_code place_one(struct place *p, const struct source_list *list,
			       size_t i, const struct choose_rules *rules,
			       struct err *e)
{
	const struct source *s = &list->items[i];
	struct err why = { 0 };
	autourl u = { 0 };
	*p = (struct place){ .item.source = i, .group = 1, .rank = RANK_UNKNOWN,
			     .connect_ms = INT64_MAX };
	p->is_fallback = strcasecmp(s->site_locality, "FALLBACK") == 0;
	if (rules->connect_ms && rules->connect_ms[i] >= 0)
		p->connect_ms = rules->connect_ms[i];
	enum err_code rc = url_parse(span_of(s->url), &u, &why);
	if (rc == ERR_NOMEM)
		return err_set(e, rc, "%s", why.text);
	p->item.kind = source_kind(s, rc == ERR_OK ? &u : NULL);
	if (rc != ERR_OK) {
		refuse(p, "%s", why.text);
	} else {
		choose_host(&u, p->item.host);
		place_known(p, s, &u, rules);
	}
	if (!p->item.usable)
		p->group = 2;
	return ERR_OK;
}

static int compare(const void *left, const void *right)
{
	const struct place *a = left, *b = right;
	if (a->group != b->group)
		return a->group < b->group ? -1 : 1;
	if (a->is_doubtful != b->is_doubtful && a->rank != RANK_CLOUD &&
	    b->rank != RANK_CLOUD)
		return a->is_doubtful ? 1 : -1;
	if (a->rank != b->rank)
		return a->rank < b->rank ? -1 : 1;
	if (a->is_fallback != b->is_fallback && a->rank != RANK_CLOUD)
		return a->is_fallback ? 1 : -1;
	if (a->rank == RANK_CLOUD && a->connect_ms != b->connect_ms)
		return a->connect_ms < b->connect_ms ? -1 : 1;
	return a->item.source < b->item.source ? -1 : 1;
}

/* Nothing may be used: whose doing is it? */
static enum err_code explain(const struct choose_result *r,
			     const struct choose_rules *rules, struct err *e)
{
	const struct choose_item *forbidden = NULL;
	bool is_elsewhere = false; /* a source on-premises has the content */
	bool is_cloud_only = rules->from && strcmp(rules->from, "cloud") == 0;
	if (r->count == 0)
		return err_set(e, ERR_NO_LOCATION, "no source is listed%s",
			       rules->cloud_allow ? "" : "; cloud sources were not "
			       "asked for, as [cloud] allow = no");
	for (size_t i = 0; i < r->count; i++) {
		const struct choose_item *item = &r->items[i];
		if (item->refused_cloud && !forbidden)
			forbidden = item;
		/* A URL that cannot be read has no host and is no source. */
		is_elsewhere |= item->host[0] && (item->kind == SOURCE_ON_PREM ||
						  item->kind == SOURCE_INTERNET ||
						  item->kind == SOURCE_UNKNOWN);
	}
	if (forbidden && (is_cloud_only || !is_elsewhere))
		return err_set(e, ERR_CLOUD_REFUSED, "only cloud sources %s (%s%s), "
			       "and %s",
			       is_elsewhere ? "were asked for" : "have it",
			       forbidden->host, r->count > 1 ? ", ..." : "",
			       forbidden->reason);
	return err_set(e, ERR_NOT_USABLE, "none of %zu source%s can be used; the "
		       "first%s%s: %s", r->count, r->count == 1 ? "" : "s",
		       r->items[0].host[0] ? ", " : "", r->items[0].host,
		       r->items[0].reason);
}

enum err_code choose_sources(const struct source_list *list,
			     const struct choose_rules *rules,
			     struct choose_result *out, struct err *e)
{
	*out = (struct choose_result){ 0 };
	if (list->count == 0)
		return explain(out, rules, e);
	struct place *places = calloc(list->count, sizeof(*places));
	out->items = calloc(list->count, sizeof(*out->items));
	enum err_code rc = ERR_OK;
	if (places == NULL || out->items == NULL)
		rc = err_set(e, ERR_NOMEM, "no memory to order %zu sources",
			     list->count);
	for (size_t i = 0; rc == ERR_OK && i < list->count; i++)
		rc = place_one(&places[i], list, i, rules, e);
	if (rc != ERR_OK) {
		free(places);
		choose_free(out);
		return rc;
	}
	qsort(places, list->count, sizeof(*places), compare);
	for (; out->count < list->count; out->count++) {
		struct choose_item *item = &out->items[out->count];
		*item = places[out->count].item;
		item->rank = (unsigned)out->count + 1;
		out->usable += item->usable;
	}
	free(places);
	return out->usable ? ERR_OK : explain(out, rules, e);
}
