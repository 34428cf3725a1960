#include "agent/keeper/ask.h"

#include "common/log.h"
#include "common/mask.h"
#include "common/own.h"
#include "common/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- locations ------------------------------------------------------------------ */

void ask_location_free(struct ask_location *l)
{
	if (l == NULL)
		return;
	source_list_free(&l->sources);
	free(l->management_point);
	free(l->boundary_groups);
	for (size_t i = 0; i < l->attempt_count; i++)
		free(l->attempts[i].url);
	free(l->attempts);
	*l = (struct ask_location){ 0 };
}

static char *text_of(struct span s)
{
	return strndup(s.at ? s.at : "", s.len);
}

static enum err_code add_source(struct ask_location *out,
				const struct wire_location *m, struct err *e)
{
	autofree char *url = text_of(m->url);
	autofree char *locality = text_of(m->locality);
	autofree char *site = text_of(m->site_locality);
	autofree char *server = text_of(m->server);
	autofree char *token = text_of(m->token);
	if (!url || !locality || !site || !server || !token)
		return err_set(e, ERR_NOMEM, "no memory for locations");
	struct source s = { .url = url,
			    .locality = locality,
			    .site_locality = site,
			    .server = server,
			    .token = token,
			    .ssl_state = (uint32_t)m->ssl_state,
			    .auth_method = (uint32_t)m->auth_method };
	return source_list_add(&out->sources, &s, e);
}

#define ATTEMPTS_MAX 64

static enum err_code add_attempt(struct ask_location *out,
				 const struct wire_attempt *m, struct err *e)
{
	if (out->attempt_count == ATTEMPTS_MAX)
		return ERR_OK;
	struct ask_attempt *more = realloc(
		out->attempts, (out->attempt_count + 1) * sizeof(*more));
	if (more == NULL)
		return err_set(e, ERR_NOMEM, "no memory for attempts");
	out->attempts = more;
	struct ask_attempt *a = &more[out->attempt_count++];
	*a = (struct ask_attempt){ 0 };
	autobuf masked = { 0 };
	mask_values(m->url, &masked);
	a->url = buf_take(&masked);
	err_set(&a->why, (enum err_code)m->code, "%.*s", SPAN_ARG(m->text));
	log_warning("LocationServices", "%s: %s", a->url ? a->url : "",
		    a->why.text);
	return ERR_OK;
}

static enum err_code on_location(void *arg, const struct wire_msg *m,
				 struct err *e)
{
	struct ask_location *out = arg;
	if (m->type == WIRE_LOCATION)
		return add_source(out, &m->location, e);
	if (m->type == WIRE_ATTEMPT)
		return add_attempt(out, &m->attempt, e);
	if (m->type != WIRE_LOCATED || out->management_point)
		return worker_lied(m, e);
	if (m->located.count != out->sources.count)
		return err_set(e, ERR_NET_LIED, "%zu locations, %llu announced",
			       out->sources.count,
			       (unsigned long long)m->located.count);
	out->management_point = text_of(m->located.management_point);
	out->boundary_groups = text_of(m->located.boundary_groups);
	out->content_flags = m->located.content_flags;
	snprintf(out->hash, sizeof(out->hash), "%.*s", SPAN_ARG(m->located.hash));
	if (out->management_point == NULL || out->boundary_groups == NULL)
		return err_set(e, ERR_NOMEM, "no memory for locations");
	return ERR_OK;
}

static enum err_code complete(struct ask_location *out, struct err *e)
{
	if (out->management_point)
		return ERR_OK;
	return err_set(e, ERR_NET_LIED, "a location reply without its end");
}

enum err_code ask_locate(struct worker *w, const struct ask_locate_request *r,
			 struct ask_location *out, struct err *e)
{
	autobuf points = { 0 };
	const struct settings_list *l = &r->settings->management_points;
	for (size_t i = 0; i < l->count; i++)
		buf_print(&points, "%s\n", l->items[i]);
	if (l->count == 0)
		return err_set(e, ERR_CONFIG,
			       "[site] management_point: none is configured");
	struct wire_locate m = {
		.management_points = buf_as_span(&points),
		.content_id = span_of(r->content->id),
		.version = r->content->version,
		.use_azure = r->use_azure,
		.minutes = r->minutes < 1000000 ? r->minutes : 1000000,
		.boundary_groups = span_of(r->boundary_groups),
	};
	enum err_code rc = worker_call(w, WIRE_LOCATE, &m, on_location, out, e);
	return rc == ERR_OK ? complete(out, e) : rc;
}

enum err_code ask_replay(struct worker *w, const char *path,
			 struct ask_location *out, struct err *e)
{
	struct wire_replay m = { 0 };
	enum err_code rc = worker_send_file(w, WIRE_FILE_REPLY, path, e);
	if (rc == ERR_OK)
		rc = worker_call(w, WIRE_REPLAY, &m, on_location, out, e);
	return rc == ERR_OK ? complete(out, e) : err_prefix(e, "%s", path);
}

/* --- names and certificates --------------------------------------------------------- */

static enum err_code no_target(const char *target, struct err *e)
{
	return err_set(e, ERR_USAGE,
		       "%s is no host, host:port or http(s) URL", target);
}

/* Plain host or address: add what makes it a URL, so that one parser judges. */
static bool as_url(const char *target, struct buf *out)
{
	struct span t = span_of(target);
	if (strstr(target, "://")) {
		buf_span(out, t);
		return true;
	}
	if (strpbrk(target, "/?#@ \\"))
		return false;
	bool bare_v6 = target[0] != '[' && url_is_ip(t) && strchr(target, ':');
	buf_print(out, bare_v6 ? "https://[%s]/" : "https://%s/", target);
	return true;
}

enum err_code ask_parse_target(const char *target, char host[WIRE_NAME + 1],
			       uint16_t *port, bool *is_tls, struct err *e)
{
	autobuf text = { 0 };
	autourl url = { 0 };
	struct err why = { 0 };
	if (!as_url(target, &text))
		return no_target(target, e);
	if (url_parse(buf_as_span(&text), &url, &why) != ERR_OK) {
		no_target(target, e);
		return why.code == ERR_NOMEM ? ERR_NOMEM : e->code;
	}
	/* as the person wrote it: names are compared without case anyway */
	const char *as_written = strcasestr(target, url.host);
	snprintf(host, WIRE_NAME + 1, "%.*s", (int)strlen(url.host),
		 as_written ? as_written : url.host);
	*port = url.port;
	*is_tls = url.is_https;
	return ERR_OK;
}

static void keep(char *out, size_t size, struct span s)
{
	snprintf(out, size, "%.*s", SPAN_ARG(s));
}

static enum err_code add_hop(struct ask_walk *w, const struct wire_msg *m,
			     struct err *e)
{
	if (w->hop_count == ASK_HOPS_MAX)
		return worker_lied(m, e);
	struct ask_hop *h = &w->hops[w->hop_count++];
	keep(h->owner, sizeof(h->owner),
	     span_is_nocase(m->hop.owner, w->name) ? span_of(w->name) :
						     m->hop.owner);
	keep(h->target, sizeof(h->target), m->hop.target);
	keep(h->server, sizeof(h->server), m->hop.server);
	keep(w->canonical, sizeof(w->canonical), m->hop.target);
	h->ttl_s = m->hop.ttl_s;
	h->duration_ms = m->hop.duration_ms;
	return ERR_OK;
}

static enum err_code add_certificate(struct ask_walk *w, const struct wire_msg *m,
				     struct err *e)
{
	const struct wire_certificate *from = &m->certificate;
	if (w->chain_count == ASK_CHAIN_MAX)
		return worker_lied(m, e);
	struct ask_certificate *c = &w->chain[w->chain_count++];
	keep(c->subject, sizeof(c->subject), from->subject);
	keep(c->issuer, sizeof(c->issuer), from->issuer);
	keep(c->not_before, sizeof(c->not_before), from->not_before);
	keep(c->not_after, sizeof(c->not_after), from->not_after);
	keep(c->names, sizeof(c->names), from->names);
	keep(c->problem, sizeof(c->problem), from->problem);
	return ERR_OK;
}

static enum err_code on_walk(void *arg, const struct wire_msg *m, struct err *e)
{
	struct ask_walk *w = arg;
	if (m->type == WIRE_HOP)
		return add_hop(w, m, e);
	if (m->type == WIRE_CERTIFICATE)
		return add_certificate(w, m, e);
	if (m->type == WIRE_ADDRESS) {
		if (w->address_count == ASK_ADDRESSES_MAX)
			return worker_lied(m, e);
		keep(w->addresses[w->address_count].text, 65, m->address.address);
		w->addresses[w->address_count++].ttl_s = m->address.ttl_s;
		return ERR_OK;
	}
	if (m->type != WIRE_TLS || w->has_tls)
		return worker_lied(m, e);
	w->has_tls = true;
	w->is_verified = m->tls.verified;
	w->connect_ms = m->tls.connect_ms;
	keep(w->tls_version, sizeof(w->tls_version), m->tls.version);
	keep(w->name_checked, sizeof(w->name_checked), m->tls.name_checked);
	keep(w->peer, sizeof(w->peer), m->tls.address);
	return ERR_OK;
}

static enum err_code ended(struct ask_walk *w, enum err_code rc,
			   const struct err *e)
{
	if (rc != ERR_OK)
		w->result = *e;
	return rc;
}

/* Whom it is about: the first fields of the answer. */
static enum err_code begin(struct ask_walk *out, const char *target, bool *is_tls,
			   struct err *e)
{
	enum err_code rc =
		ask_parse_target(target, out->name, &out->port, is_tls, e);
	if (rc == ERR_OK)
		keep(out->canonical, sizeof(out->canonical), span_of(out->name));
	return ended(out, rc, e);
}

enum err_code ask_resolve(struct worker *w, const char *target, bool is_cloud,
			  struct ask_walk *out, struct err *e)
{
	bool is_tls;
	enum err_code rc = begin(out, target, &is_tls, e);
	if (rc != ERR_OK)
		return rc;
	struct wire_resolve m = { .name = span_of(out->name),
				  .port = out->port,
				  .is_cloud = is_cloud };
	return ended(out, worker_call(w, WIRE_RESOLVE, &m, on_walk, out, e), e);
}

enum err_code ask_probe(struct worker *w, const char *target, bool is_cloud,
			struct ask_walk *out, struct err *e)
{
	bool is_tls;
	enum err_code rc = begin(out, target, &is_tls, e);
	if (rc != ERR_OK)
		return rc;
	struct wire_probe m = { .name = span_of(out->name),
				.port = out->port,
				.is_cloud = is_cloud,
				.is_tls = is_tls };
	return ended(out, worker_call(w, WIRE_PROBE, &m, on_walk, out, e), e);
}

enum err_code ask_check_chain(struct worker *w, const char *path,
			      const char *name, int64_t at_s,
			      struct ask_walk *out, struct err *e)
{
	keep(out->name, sizeof(out->name), span_of(name));
	keep(out->canonical, sizeof(out->canonical), span_of(name));
	struct wire_check_chain m = { .name = span_of(name),
				      .at = at_s < 0 ? WIRE_UNKNOWN :
						       (uint64_t)at_s };
	enum err_code rc = worker_send_file(w, WIRE_FILE_CHAIN, path, e);
	if (rc == ERR_OK)
		rc = worker_call(w, WIRE_CHECK_CHAIN, &m, on_walk, out, e);
	return ended(out, rc, e);
}
