#include "agent/net/net.h"

#include "agent/net/assign.h"
#include "agent/net/dav.h"
#include "agent/net/dns.h"
#include "agent/net/document.h"
#include "agent/net/download.h"
#include "agent/net/http.h"
#include "agent/net/loclist.h"
#include "agent/net/manifest.h"
#include "agent/net/mp.h"
#include "agent/net/resolve.h"
#include "agent/net/tools.h"
#include "agent/net/verify.h"
#include "common/log.h"
#include "common/own.h"
#include "common/sandbox.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

struct net {
	int sock;
	struct wire_out *out; /* flushed before each sleep */
	struct tools tools;
	/* the call under way: at most one of these */
	struct mp *mp;
	struct resolve_walk *walk;
	struct http_call *probe;
	char probe_name[WIRE_NAME + 1];
	struct dav *dav;
	struct manifest *manifest;
	struct assign *assign;
	struct document *document; /* NULL until one was asked for */
	/* what LIST found; FETCH refers to it */
	struct entry_list *listing;
	struct buf list_token; /* header line for the source being listed */
	struct buf list_url;
};

/* --- to the keeper -------------------------------------------------------- */

/* Without the keeper there is nothing left to do. */
static void must(enum err_code rc)
{
	if (rc != ERR_OK)
		_exit(0);
}

/* This process may have only so much memory: it is used up by what a peer sends,
 * and then another source can help. */
static void done(struct net *n, const struct err *e)
{
	struct wire_done m = { .code = e->code == ERR_NOMEM ? ERR_LIMIT : e->code,
			       .text = span_of(e->text),
			       .retry_after_s = e->retry_after_s };
	must(wire_put(n->out, WIRE_DONE, &m, NULL));
}

/* The set-up failed: that is all there is to say. */
static _Noreturn void refuse(struct net *n, const struct err *e)
{
	done(n, e);
	must(wire_flush(n->out, NULL));
	_exit(0);
}

static void on_attempt(void *arg, const char *url, const struct err *why)
{
	struct net *n = arg;
	struct wire_attempt m = { .url = span_of(url),
				  .code = why->code,
				  .text = span_of(why->text) };
	must(wire_put(n->out, WIRE_ATTEMPT, &m, NULL));
}

static void note(struct net *n, enum log_level level, const char *component,
		 struct span text)
{
	struct wire_note m = { .level = level,
			       .component = span_of(component),
			       .text = text };
	must(wire_put(n->out, WIRE_NOTE, &m, NULL));
}

static void note_text(struct net *n, const char *component, const char *label,
		      struct span text)
{
	autobuf line = { .max = 16384 };
	buf_print(&line, "%s : ", label);
	buf_add(&line, text.at, text.len < 15000 ? text.len : 15000);
	note(n, LOG_DEBUG, component, buf_as_span(&line));
}

static void on_note(void *arg, const char *label, struct span text)
{
	note_text(arg, "LocationServices", label, text);
}

/* --- LOCATE, REPLAY ------------------------------------------------------- */

static void send_locations(struct net *n, struct loclist *list, const char *from)
{
	for (size_t i = 0; i < list->count; i++) {
		const struct loclist_item *l = &list->items[i];
		struct wire_location m = {
			.url = span_of(l->url),
			.locality = span_of(l->locality),
			.site_locality = span_of(l->site_locality),
			.dp_type = span_of(l->dp_type),
			.version = span_of(l->version),
			.server = span_of(l->server),
			.signature = span_of(l->signature),
			.ssl_state = l->ssl_state,
			.auth_method = l->auth_method,
			.token = span_of(l->token),
		};
		must(wire_put(n->out, WIRE_LOCATION, &m, NULL));
	}
	struct wire_located m = {
		.management_point = span_of(from),
		.hash = span_of(list->hash),
		.content_flags = list->content_flags,
		.boundary_groups = buf_as_span(&list->boundary_groups),
		.count = list->count,
	};
	must(wire_put(n->out, WIRE_LOCATED, &m, NULL));
}

static void on_located(void *arg, struct loclist *list, const char *from,
		       const struct err *result)
{
	struct net *n = arg;
	n->mp = NULL;
	if (result->code == ERR_OK)
		send_locations(n, list, from);
	done(n, result);
}

static enum err_code locate(struct net *n, const struct wire_locate *m,
			    struct err *e)
{
	struct mp_request r = {
		.config = &n->tools.config->config,
		.locate = m,
		.token = buf_as_span(&n->tools.files[WIRE_FILE_TOKEN]),
		.has_certificate = n->tools.files[WIRE_FILE_CERT].len > 0,
		.on_attempt = on_attempt,
		.on_note = on_note,
		.done = on_located,
		.arg = n,
	};
	n->mp = mp_start(n->tools.http, &r, e);
	return n->mp ? ERR_OK : e->code;
}

static enum err_code replay(struct net *n, struct err *e)
{
	struct loclist list = { 0 };
	struct err result = { 0 };
	(void)e;
	if (loclist_parse(buf_as_span(&n->tools.files[WIRE_FILE_REPLY]),
			  "stored location reply", &list, &result) == ERR_OK)
		send_locations(n, &list, "");
	else
		result.code = ERR_INPUT; /* a file that cannot be used */
	loclist_free(&list);
	done(n, &result);
	return ERR_OK;
}

/* --- RESOLVE, PROBE, CHECK_CHAIN ------------------------------------------ */

static void send_walk(struct net *n, const struct resolve_result *r)
{
	for (unsigned i = 0; i < r->hop_count; i++) {
		const struct resolve_hop *h = &r->hops[i];
		struct wire_hop m = { .owner = span_of(h->owner),
				      .target = span_of(h->target),
				      .ttl_s = h->ttl_s,
				      .server = span_of(h->server),
				      .duration_ms = h->duration_ms };
		must(wire_put(n->out, WIRE_HOP, &m, NULL));
	}
	for (unsigned i = 0; i < r->address_count; i++) {
		struct wire_address m = {
			.address = span_of(r->addresses[i].text),
			.ttl_s = r->addresses[i].ttl_s,
		};
		must(wire_put(n->out, WIRE_ADDRESS, &m, NULL));
	}
}

static void send_story(struct net *n, const struct verify_story *s)
{
	for (unsigned i = 0; i < s->count; i++) {
		const struct verify_certificate *c = &s->chain[i];
		struct wire_certificate m = {
			.position = i,
			.subject = span_of(c->subject),
			.issuer = span_of(c->issuer),
			.not_before = span_of(c->not_before),
			.not_after = span_of(c->not_after),
			.names = span_of(c->names),
			.problem = span_of(c->problem),
		};
		must(wire_put(n->out, WIRE_CERTIFICATE, &m, NULL));
	}
}

static void on_walked(void *arg, const struct resolve_result *r)
{
	struct net *n = arg;
	n->walk = NULL;
	send_walk(n, r);
	done(n, &r->result);
}

static enum err_code resolve(struct net *n, const struct wire_resolve *m,
			     struct err *e)
{
	char name[WIRE_NAME + 1];
	snprintf(name, sizeof(name), "%.*s", SPAN_ARG(m->name));
	n->walk = resolve_start(n->tools.resolve, name,
				m->is_cloud ? RESOLVE_SERVICE : RESOLVE_SITE,
				on_walked, n, e);
	return n->walk ? ERR_OK : e->code;
}

static void on_probed(void *arg, const struct http_response *r)
{
	struct net *n = arg;
	n->probe = NULL;
	if (r->walk)
		send_walk(n, r->walk);
	if (r->story)
		send_story(n, r->story);
	struct wire_tls m = {
		.version = span_of(r->story ? r->story->tls_version : ""),
		.name_checked = span_of(r->story ? n->probe_name : ""),
		.verified = r->story && r->story->result.code == ERR_OK &&
			    r->result.code == ERR_OK,
		.address = span_of(r->address),
		.connect_ms = r->connect_ms,
	};
	must(wire_put(n->out, WIRE_TLS, &m, NULL));
	done(n, &r->result);
}

static enum err_code probe(struct net *n, const struct wire_probe *m,
			   struct err *e)
{
	autobuf url = { 0 };
	char name[WIRE_NAME + 1];
	snprintf(name, sizeof(name), "%.*s", SPAN_ARG(m->name));
	snprintf(n->probe_name, sizeof(n->probe_name), "%s", name);
	buf_print(&url, strchr(name, ':') ? "%s://[%s]:%u/" : "%s://%s:%u/",
		  m->is_tls ? "https" : "http", name, (unsigned)m->port);
	struct http_request r = {
		.method = "GET",
		.url = url.at ? url.at : "",
		.leg = m->is_cloud ? HTTP_SERVICE : HTTP_SITE,
		.offer_client = !m->is_cloud,
		.connect_only = true,
		.done = on_probed,
		.arg = n,
	};
	n->probe = http_start(n->tools.http, &r, e);
	return n->probe ? ERR_OK : e->code;
}

static enum err_code check_chain(struct net *n, const struct wire_check_chain *m,
				 struct err *e)
{
	struct verify_story *s = calloc(1, sizeof(*s));
	char name[WIRE_NAME + 1];
	if (s == NULL)
		return err_set(e, ERR_NOMEM, "no memory for a chain");
	snprintf(name, sizeof(name), "%.*s", SPAN_ARG(m->name));
	verify_pem(n->tools.verify, buf_as_span(&n->tools.files[WIRE_FILE_CHAIN]),
		   name, url_is_ip(m->name),
		   m->at == WIRE_UNKNOWN ? INT64_MIN : (int64_t)m->at, s);
	send_story(n, s);
	struct wire_tls t = { .version = SPAN_LIT(""),
			      .name_checked = m->name,
			      .verified = s->result.code == ERR_OK,
			      .address = SPAN_LIT("") };
	must(wire_put(n->out, WIRE_TLS, &t, NULL));
	done(n, &s->result);
	free(s);
	return ERR_OK;
}

/* --- LIST ----------------------------------------------------------------- */

static void send_entries(struct net *n)
{
	const struct entry_list *l = n->listing;
	for (size_t i = 0; i < l->count; i++) {
		autourl url = { 0 };
		const char *at = entry_url(l, i);
		if (at[0])
			url_parse(span_of(at), &url, NULL);
		struct wire_entry m = { .index = i,
					.path = span_of(entry_path(l, i)),
					.size = l->items[i].size,
					.hash = span_of(entry_hash(l, i)),
					.host = span_of(url.host) };
		must(wire_put(n->out, WIRE_ENTRY, &m, NULL));
	}
}

static void take_listing(struct net *n, struct entry_list *files)
{
	if (n->listing) {
		entry_list_free(n->listing);
		free(n->listing);
	}
	n->listing = files;
}

/* The list is good: what FETCH will refer to, and the keeper's copy of it. */
static void listed(struct net *n, const struct download_source *source,
		   enum wire_rung rung)
{
	struct err e = { 0 };
	if (download_set_source(n->tools.download, source, &e) == ERR_OK) {
		send_entries(n);
		struct wire_listed m = { .count = n->listing->count,
					 .rung = rung,
					 .form = source->form };
		must(wire_put(n->out, WIRE_LISTED, &m, NULL));
	}
	done(n, &e);
}

static void on_dav(void *arg, const struct dav_result *r)
{
	struct net *n = arg;
	n->dav = NULL;
	take_listing(n, r->files);
	if (r->result.code != ERR_OK) {
		done(n, &r->result);
		return;
	}
	struct download_source s = {
		.kind = WIRE_SOURCE_DP,
		.files = n->listing,
		.base_url = r->base_url,
		.form = r->form,
		.is_single_file = r->is_single_file,
		.is_multiplexed = r->is_multiplexed,
		.connect_ms = r->connect_ms,
		.token_line = r->needs_token ? n->list_token.at : NULL,
		.token_for_files = r->needs_token,
		.offer_client = r->rung != WIRE_RUNG_NOCERT,
	};
	listed(n, &s, r->rung);
}

static void on_manifest(void *arg, const struct err *result,
			struct entry_list *files)
{
	struct net *n = arg;
	n->manifest = NULL;
	take_listing(n, files);
	if (result->code != ERR_OK) {
		done(n, result);
		return;
	}
	struct download_source s = {
		.kind = WIRE_SOURCE_CLOUD,
		.files = n->listing,
		.base_url = n->list_url.at,
		.form = WIRE_FORM_PLAIN,
		.token_line = n->list_token.len ? n->list_token.at : NULL,
		.token_for_files = true,
	};
	listed(n, &s, WIRE_RUNG_AS_GIVEN);
}

/* The token of the location, else the client's own (docs/wire.md 11). */
static bool token_line(struct net *n, struct span token)
{
	buf_clear(&n->list_token);
	if (token.len == 0)
		token = buf_as_span(&n->tools.files[WIRE_FILE_TOKEN]);
	if (token.len == 0)
		return false;
	mp_token_line(n->tools.config->config.token_header, token, &n->list_token);
	return !n->list_token.failed;
}

static enum err_code list(struct net *n, const struct wire_list *m, struct err *e)
{
	download_cancel(n->tools.download);
	take_listing(n, NULL);
	buf_clear(&n->list_url);
	buf_span(&n->list_url, m->url);
	bool has_token = token_line(n, m->token);
	if (m->kind == WIRE_SOURCE_CLOUD) {
		struct manifest_request r = {
			.url = n->list_url.at,
			.token_line = has_token ? n->list_token.at : NULL,
			.content_id = m->content_id,
			.version = m->version,
			.done = on_manifest,
			.on_note = on_note,
			.arg = n,
		};
		n->manifest = manifest_start(n->tools.http, &r, e);
		return n->manifest ? ERR_OK : e->code;
	}
	struct dav_request r = {
		.url = n->list_url.at,
		.rung = (enum wire_rung)m->rung,
		.form = (enum wire_form)m->form,
		.token_line = has_token ? n->list_token.at : NULL,
		.has_certificate = n->tools.files[WIRE_FILE_CERT].len > 0,
		.on_attempt = on_attempt,
		.done = on_dav,
		.arg = n,
	};
	n->dav = dav_start(n->tools.http, &r, e);
	return n->dav ? ERR_OK : e->code;
}

/* --- REGISTRATION, ASSIGNMENTS, RELAY -------------------------------------- */

static void on_site_note(void *arg, const char *label, struct span text)
{
	note_text(arg, "PolicyAgent", label, text);
}

static void on_site_send(void *arg, enum wire_type type, const void *fields)
{
	struct net *n = arg;
	must(wire_put(n->out, type, fields, NULL));
}

static void on_site(void *arg, const struct err *result)
{
	struct net *n = arg;
	n->assign = NULL;
	done(n, result);
}

static enum err_code ask_site(struct net *n, const struct wire_msg *m, struct err *e)
{
	enum err_code rc = tools_open_identity(&n->tools, e);
	if (rc != ERR_OK)
		return rc;
	struct assign_request r = {
		.http = n->tools.http,
		.config = &n->tools.config->config,
		.identity = n->tools.identity,
		.token = buf_as_span(&n->tools.files[WIRE_FILE_TOKEN]),
		.has_certificate = n->tools.files[WIRE_FILE_CERT].len > 0,
		.call = m,
		.on_attempt = on_attempt,
		.on_note = on_site_note,
		.send = on_site_send,
		.done = on_site,
		.arg = n,
	};
	n->assign = assign_start(&r, e);
	return n->assign ? ERR_OK : e->code;
}

/* --- DOCUMENT --------------------------------------------------------------- */

static void on_document(void *arg, const struct err *result)
{
	done(arg, result);
}

static enum err_code fetch_document(struct net *n, const struct wire_document *m,
				    struct err *e)
{
	const struct wire_config *c = &n->tools.config->config;
	struct document_options o = {
		.http = n->tools.http,
		.out = n->out,
		.ring = n->tools.ring,
		.slots = n->tools.ring ? (unsigned)c->ring_slots : 0,
		.slot_bytes = c->slot_bytes,
		.done = on_document,
		.arg = n,
	};
	if (n->document == NULL)
		n->document = document_new(&o, e);
	return n->document ? document_start(n->document, m, e) : e->code;
}

static void cancel(struct net *n)
{
	struct wire_done m = { .answers_cancel = 1 };
	mp_cancel(take_ptr(n->mp));
	resolve_cancel(take_ptr(n->walk));
	http_cancel(take_ptr(n->probe));
	dav_cancel(take_ptr(n->dav));
	manifest_cancel(take_ptr(n->manifest));
	assign_cancel(take_ptr(n->assign));
	document_cancel(n->document);
	download_cancel(n->tools.download);
	must(wire_put(n->out, WIRE_DONE, &m, NULL));
}

/* --- the loop ------------------------------------------------------------- */

static enum err_code start_call(struct net *n, struct wire_msg *m, struct err *e)
{
	if (m->type == WIRE_LOCATE)
		return locate(n, &m->locate, e);
	if (m->type == WIRE_REPLAY)
		return replay(n, e);
	if (m->type == WIRE_RESOLVE)
		return resolve(n, &m->resolve, e);
	if (m->type == WIRE_PROBE)
		return probe(n, &m->probe, e);
	if (m->type == WIRE_CHECK_CHAIN)
		return check_chain(n, &m->check_chain, e);
	if (m->type == WIRE_LIST)
		return list(n, &m->list, e);
	if (m->type == WIRE_REGISTRATION || m->type == WIRE_ASSIGNMENTS ||
	    m->type == WIRE_RELAY)
		return ask_site(n, m, e);
	if (m->type == WIRE_DOCUMENT)
		return fetch_document(n, &m->document, e);
	return err_set(e, ERR_INTERNAL, "keeper sent %s", wire_name(m->type));
}

static void on_message(struct net *n, struct wire_msg *m)
{
	struct err e = { 0 };
	if (m->type == WIRE_FILE) {
		if (tools_take_file(&n->tools, m, &e) != ERR_OK)
			refuse(n, &e);
	} else if (m->type == WIRE_PACE) {
		tools_pace(&n->tools, &m->pace);
	} else if (n->tools.config == NULL) {
		_exit(1); /* CONFIG is taken by net_main */
	} else if (m->type == WIRE_FETCH) {
		must(download_fetch(n->tools.download, &m->fetch, &e));
	} else if (m->type == WIRE_TRIM) {
		download_trim(n->tools.download, &m->trim);
	} else if (m->type == WIRE_SLOT) {
		if (!document_slot(n->document, m->slot.slot))
			must(download_slot(n->tools.download, m->slot.slot, &e));
	} else if (m->type == WIRE_CANCEL) {
		cancel(n);
	} else if (start_call(n, m, &e) != ERR_OK) {
		done(n, &e);
	}
}

/* The last of the set-up messages: prepare, close the sandbox, say so. */
static void configure(struct net *n, const struct wire_msg *config)
{
	struct err e = { 0 };
	struct sandbox_report got = { 0 };
	if (tools_open(&n->tools, config, n->out, &e) != ERR_OK ||
	    sandbox_enter_net(&got, &e) != ERR_OK)
		refuse(n, &e);
	struct wire_ready m = { .uid = got.uid,
				.user_changed = got.user_changed,
				.landlock_abi = (uint64_t)got.landlock_abi };
	must(wire_put(n->out, WIRE_READY, &m, NULL));
}

/* Everything up to CONFIG, blocking: the keeper sends it in one go. */
static void take_setup(struct net *n, struct wire_msg *m)
{
	for (;;) {
		must(wire_receive(n->sock, 1, m, NULL));
		if (m->type == WIRE_CONFIG)
			break;
		on_message(n, m);
	}
	configure(n, m);
}

int net_main(int sock)
{
	static struct net net;
	struct net *n = &net;
	struct wire_msg *config = calloc(1, sizeof(*config));
	struct wire_msg *m = calloc(1, sizeof(*m));
	n->out = calloc(1, sizeof(*n->out));
	if (m == NULL || config == NULL || n->out == NULL)
		return 1;
	n->sock = n->out->sock = sock;
	prctl(PR_SET_NAME, "agent-net");
	http_global();
	take_setup(n, config);
	for (;;) {
		struct pollfd keeper = { .fd = sock, .events = POLLIN };
		int timeout_ms = http_due(n->tools.http, n->tools.dns, 60000);
		must(wire_flush(n->out, NULL));
		http_turn(n->tools.http, n->tools.dns, &keeper, 1, timeout_ms);
		for (;;) {
			must(wire_receive(sock, 0, m, NULL));
			if (m->type == WIRE_NONE)
				break;
			on_message(n, m);
		}
	}
}
