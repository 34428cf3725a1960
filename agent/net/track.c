#include "agent/net/track.h"

#include "common/buf.h"
#include "common/own.h"

#include <stdio.h>

static void on_answer(void *arg, const struct dns_answer *answer);

static enum err_code ask(struct track *t, struct err *e)
{
	t->query = dns_ask(t->dns, t->at, t->type, on_answer, t, e);
	return t->query ? ERR_OK : e->code;
}

/* "resolve NAME[, hop 2, a -> b]": in front of every error of a track. */
static enum err_code in_track(const struct track *t, struct err *e)
{
	if (t->hop_count == 0)
		return err_prefix(e, "resolve %.160s", t->name);
	const struct resolve_hop *last = &t->hops[t->hop_count - 1];
	if (t->hop_count == 1) /* then the alias is the name */
		return err_prefix(e, "resolve %.120s, hop 1 to %.120s", t->name,
				  last->target);
	return err_prefix(e, "resolve %.100s, hop %u, %.100s to %.100s", t->name,
			  t->hop_count, last->owner, last->target);
}

/* "a -> b -> c -> a" */
static enum err_code tell_loop(const struct track *t, const char *back_to,
			       struct err *e)
{
	autobuf text = { .max = sizeof(e->text) };
	bool is_inside = false;
	for (unsigned i = 0; i < t->hop_count; i++) {
		is_inside |= strcasecmp(t->hops[i].owner, back_to) == 0;
		if (is_inside)
			buf_print(&text, "%s -> ", t->hops[i].owner);
	}
	buf_text(&text, back_to);
	err_set(e, ERR_DNS_LOOP, "resolve %.120s: the aliases form a loop: %.300s "
		"(says %s)", t->name, buf_as_span(&text).at,
		t->hops[t->hop_count - 1].server);
	return ERR_DNS_LOOP;
}

static bool was_visited(const struct track *t, const char *name)
{
	if (strcasecmp(t->name, name) == 0)
		return true;
	for (unsigned i = 0; i < t->hop_count; i++)
		if (strcasecmp(t->hops[i].target, name) == 0)
			return true;
	return false;
}

static enum err_code add_hop(struct track *t, const struct dns_record *alias,
			     const struct dns_answer *a, struct err *e)
{
	unsigned max = t->max_hops;
	bool is_loop = was_visited(t, alias->target);
	if (t->hop_count == max && !is_loop)
		return err_set(e, ERR_DNS_HOPS, "resolve %.120s: more than %u "
			       "aliases: hop %u is %.120s to %.120s (says %s)",
			       t->name, max, max + 1, alias->owner,
			       alias->target, a->server);
	if (t->hop_count < RESOLVE_HOPS_MAX) {
		struct resolve_hop *hop = &t->hops[t->hop_count++];
		memcpy(hop->owner, alias->owner, sizeof(hop->owner));
		memcpy(hop->target, alias->target, sizeof(hop->target));
		memcpy(hop->server, a->server, sizeof(hop->server));
		hop->ttl_s = alias->ttl_s;
		hop->duration_ms = a->duration_ms;
	}
	if (is_loop)
		return tell_loop(t, alias->target, e);
	memcpy(t->at, alias->target, sizeof(t->at));
	return ERR_OK;
}

/* The alias of a name, wherever it stands; NULL = it has none. A name has one
 * alias or none (RFC 2181 s10.1). */
static enum err_code find_alias(const struct track *t, const struct dns_answer *a,
				const struct dns_record **found, struct err *e)
{
	*found = NULL;
	for (unsigned i = 0; i < a->count; i++) {
		const struct dns_record *one = &a->records[i];
		if (one->type != DNS_CNAME || strcasecmp(one->owner, t->at) != 0)
			continue;
		if (*found && strcmp((*found)->target, one->target) != 0) {
			err_set(e, ERR_DNS_REPLY, "%s says that %.120s is an alias "
				"of both %.100s and %.100s", a->server, t->at,
				(*found)->target, one->target);
			return in_track(t, e);
		}
		*found = one;
	}
	return ERR_OK;
}

/* As far along the chain as this answer leads. What else stands at the owner
 * of an alias is not looked at (RFC 1034 s3.6.2). */
static enum err_code follow(struct track *t, const struct dns_answer *a,
			    struct err *e)
{
	enum err_code rc;
	const struct dns_record *alias;
	while ((rc = find_alias(t, a, &alias, e)) == ERR_OK && alias)
		if ((rc = add_hop(t, alias, a, e)) != ERR_OK)
			break;
	return rc;
}

static void take_addresses(struct track *t, const struct dns_answer *a)
{
	for (unsigned i = 0; i < a->count; i++) {
		const struct dns_record *one = &a->records[i];
		if (one->type != t->type || strcasecmp(one->owner, t->at) != 0)
			continue;
		struct resolve_address address = {
			.is_v6 = one->type == DNS_AAAA,
			.ttl_s = one->ttl_s,
		};
		memcpy(address.text, one->address, sizeof(address.text));
		address_add(t->addresses, &t->address_count,
			    RESOLVE_ADDRESSES_MAX, &address);
	}
}

static enum err_code digest_answer(struct track *t, const struct dns_answer *a,
				   struct err *e)
{
	unsigned hops_before = t->hop_count;
	enum err_code rc = follow(t, a, e);
	if (rc != ERR_OK)
		return rc;
	if (a->result.code == ERR_DNS_NXDOMAIN) {
		/* The code speaks of the last name of the chain (RFC 6604 s3). */
		err_set(e, t->hop_count ? ERR_DNS_DANGLING : ERR_DNS_NXDOMAIN,
			"%s does not exist: NXDOMAIN from %s",
			t->hop_count ? "the alias's target" : "the name", a->server);
		return in_track(t, e);
	}
	if (a->result.code != ERR_OK) {
		*e = a->result;
		return in_track(t, e);
	}
	take_addresses(t, a);
	if (t->address_count)
		return ERR_OK;
	/* An alias alone does not say that its target has no address: knot and
	 * bind leave asking on to us. */
	if (t->hop_count > hops_before)
		return ask(t, e);
	err_set(e, ERR_DNS_NODATA, "no %s record, NOERROR from %s",
		dnsmsg_type_name(t->type), a->server);
	return in_track(t, e);
}

static void on_answer(void *arg, const struct dns_answer *answer)
{
	struct track *t = arg;
	t->query = NULL;
	digest_answer(t, answer, &t->result);
	if (t->query == NULL)
		t->ended(t);
}

enum err_code track_start(struct track *t)
{
	snprintf(t->at, sizeof(t->at), "%s", t->name);
	return ask(t, &t->result);
}

void track_cancel(struct track *t)
{
	dns_cancel(take_ptr(t->query));
}
