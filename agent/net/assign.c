#include "agent/net/assign.h"

#include "agent/net/mp.h"
#include "agent/net/pollist.h"
#include "agent/net/polreq.h"
#include "agent/net/relay.h"
#include "common/clock.h"
#include "common/own.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define AT_ONCE 4      /* bodies */
#define TOLD_MAX 32    /* failed tries that are told; a peer decides how many fail */
#define FOUND_BYTES_MAX (16u << 20) /* of all assignments together */

/* An assignment that waits until all bodies have come. */
struct kept {
	struct wire_assignment fields; /* texts: in `text` */
	char *text;                    /* owned */
};

struct fetch {
	struct assign *assign;
	struct exchange *exchange; /* NULL = free */
	struct pollist_item *item; /* borrowed from the list */
};

struct assign {
	struct assign_request request;
	struct exchange_how how;
	enum wire_type type;
	struct wire_relay relay;
	char *relay_texts; /* owned: its texts */
	struct buf token_line;
	char smsid[65], fqdn[WIRE_NAME + 1];
	char **bases; /* owned, each owned */
	size_t base_count, next_base;
	unsigned told;
	struct exchange *exchange;
	struct exchange_tally tally;
	bool is_unknown; /* one of those asked does not know us */
	/* ASSIGNMENTS, of bases[next_base - 1] */
	struct pollist policies;
	struct fetch fetches[AT_ONCE];
	size_t next_body;
	int64_t until_ms;
	struct kept *kept; /* owned */
	size_t kept_count, kept_room, kept_bytes;
};

static void advance(struct assign *a);

/* --- life ---------------------------------------------------------------- */

/* What the management point said so far counts for nothing. */
static void forget(struct assign *a)
{
	for (size_t i = 0; i < AT_ONCE; i++)
		exchange_cancel(take_ptr(a->fetches[i].exchange));
	for (size_t i = 0; i < a->kept_count; i++)
		free(a->kept[i].text);
	free(take_ptr(a->kept));
	a->kept_count = a->kept_room = a->kept_bytes = a->next_body = 0;
	pollist_free(&a->policies);
}

void assign_cancel(struct assign *a)
{
	if (a == NULL)
		return;
	exchange_cancel(a->exchange);
	forget(a);
	for (size_t i = 0; i < a->base_count; i++)
		free(a->bases[i]);
	free(a->bases);
	free(a->relay_texts);
	buf_free(&a->token_line);
	free(a);
}

static enum err_code no_memory(struct err *e)
{
	return err_set(e, ERR_NOMEM, "no memory for a question to the site");
}

static void end(struct assign *a, const struct err *result)
{
	struct assign_request r = a->request;
	assign_cancel(a);
	r.done(r.arg, result);
}

static void on_attempt(void *arg, const char *url, const struct err *why)
{
	struct assign *a = arg;
	if (a->request.on_attempt && a->told++ < TOLD_MAX)
		a->request.on_attempt(a->request.arg, url, why);
}

static void on_note(void *arg, const char *label, struct span text)
{
	struct assign *a = arg;
	if (a->request.on_note)
		a->request.on_note(a->request.arg, label, text);
}

static const char *base_of(const struct assign *a)
{
	return a->bases[a->next_base - 1];
}

/* --- assignments that were found ----------------------------------------- */

static void move(struct span *s, char **at)
{
	if (s->len)
		memcpy(*at, s->at, s->len);
	s->at = *at;
	*at += s->len;
}

static enum err_code keep(struct assign *a, const struct wire_assignment *fields,
			  struct err *e)
{
	struct wire_assignment m = *fields;
	struct span *texts[] = { &m.policy_id, &m.policy_version, &m.advertisement,
				 &m.package, &m.name, &m.hash, &m.active_time,
				 &m.mandatory };
	size_t bytes = 1, count = sizeof(texts) / sizeof(texts[0]);
	for (size_t i = 0; i < count; i++) {
		if (texts[i]->len > WIRE_TEXT)
			texts[i]->len = WIRE_TEXT; /* no field takes more */
		bytes += texts[i]->len;
	}
	a->kept_bytes += bytes + sizeof(struct kept);
	if (a->kept_bytes > FOUND_BYTES_MAX)
		return err_set(e, ERR_LIMIT, "more deployments than any site has");
	if (a->kept_count == a->kept_room) {
		size_t room = a->kept_room ? 2 * a->kept_room : 32;
		struct kept *more = realloc(a->kept, room * sizeof(*more));
		if (more == NULL)
			return no_memory(e);
		a->kept = more;
		a->kept_room = room;
	}
	char *text = malloc(bytes), *at = text;
	if (text == NULL)
		return no_memory(e);
	for (size_t i = 0; i < count; i++)
		move(texts[i], &at);
	a->kept[a->kept_count++] = (struct kept){ m, text };
	return ERR_OK;
}

static enum err_code on_found(void *arg, const struct wire_assignment *fields,
			      struct err *e)
{
	struct fetch *f = arg;
	struct wire_assignment m = *fields;
	m.policy_id = span_of(f->item->id);
	m.policy_version = span_of(f->item->version);
	return keep(f->assign, &m, e);
}

/* --- bodies -------------------------------------------------------------- */

/* This management point is done with. */
static void give_up(struct assign *a, const struct err *why)
{
	exchange_tally_add(&a->tally, base_of(a), why);
	forget(a);
	advance(a);
}

/* Of a redirect, the end counts: it must be where we asked. */
static bool is_from_base(const struct assign *a, const char *from)
{
	autourl base = { 0 };
	autourl url = { 0 };
	struct err e;
	return url_parse(span_of(base_of(a)), &base, &e) == ERR_OK &&
	       url_parse(span_of(from), &url, &e) == ERR_OK &&
	       url_same_origin(&base, &url);
}

/* ERR_OK: the body was used, or is left out. */
static enum err_code judge_body(struct fetch *f, const struct exchange_answer *r,
				struct err *e)
{
	struct assign *a = f->assign;
	bool is_gone = r->status >= 400 && r->status < 500 && r->status != 401 &&
		       r->status != 403;
	if (r->has_answered && !is_from_base(a, r->url))
		return err_set(e, ERR_MP_REPLY, "it sends us to %.200s", r->url);
	if (r->result.code != ERR_OK) {
		*e = r->result;
		return is_gone ? ERR_OK : e->code; /* exchange told of it */
	}
	enum err_code rc = pollist_read_body(r->body, a->request.identity, on_found,
					     f, e);
	if (rc != ERR_MP_REPLY)
		return rc;
	err_prefix(e, "policy %s is left out", f->item->id);
	on_attempt(a, r->url, e);
	return ERR_OK;
}

static void fetch_bodies(struct assign *a);

static void on_body(void *arg, const struct exchange_answer *r)
{
	struct fetch *f = arg;
	struct assign *a = f->assign;
	struct err e = { 0 };
	f->exchange = NULL; /* it is gone */
	enum err_code rc = judge_body(f, r, &e);
	if (rc == ERR_OK && clock_now_ms() > a->until_ms)
		rc = err_set(&e, ERR_DEADLINE, "%zu of %zu policies after %d minutes",
			     a->next_body, a->policies.count, ASSIGN_MS / 60000);
	if (rc == ERR_NOMEM || rc == ERR_LIMIT) {
		end(a, &e); /* another one has no smaller policy */
	} else if (rc != ERR_OK) {
		err_prefix(&e, "policy %s", f->item->id);
		give_up(a, &e);
	} else {
		fetch_bodies(a);
	}
}

static struct exchange *ask_body(struct assign *a, struct fetch *f, struct err *e)
{
	uint32_t wants_proof = POLLIST_NEEDS_AUTH | POLLIST_SECRET;
	struct exchange_request r = {
		.base = base_of(a),
		.is_trusted = true,
		.path = "/SMS_MP/.sms_pol",
		.query = f->item->query,
		.source_id = span_of(a->smsid),
		.has_client_token = f->item->flags & wants_proof,
		.max_body = POLLIST_BODY_MAX,
		.done = on_body,
		.arg = f,
	};
	return exchange_start(&a->how, &r, e);
}

static void tell_all(struct assign *a)
{
	struct err ok = { 0 };
	for (size_t i = 0; i < a->kept_count; i++)
		a->request.send(a->request.arg, WIRE_ASSIGNMENT, &a->kept[i].fields);
	end(a, &ok);
}

/* The inner network's policies are none for who comes through a gateway. */
static struct pollist_item *next_item(struct assign *a)
{
	bool is_outside = exchange_is_gateway(base_of(a));
	while (a->policies.items && a->next_body < a->policies.count) {
		struct pollist_item *i = &a->policies.items[a->next_body++];
		if (!is_outside || !(i->flags & POLLIST_INTRANET_ONLY))
			return i;
	}
	return NULL;
}

static void fetch_bodies(struct assign *a)
{
	struct err e = { 0 };
	bool is_busy = false;
	for (size_t i = 0; i < AT_ONCE; i++) {
		struct fetch *f = &a->fetches[i];
		if (f->exchange == NULL && (f->item = next_item(a)) != NULL) {
			f->assign = a;
			f->exchange = ask_body(a, f, &e);
			if (f->exchange == NULL) {
				err_prefix(&e, "policy %s", f->item->id);
				give_up(a, &e);
				return;
			}
		}
		is_busy |= f->exchange != NULL;
	}
	if (!is_busy)
		tell_all(a);
}

/* --- the three questions ------------------------------------------------- */

static enum err_code print_question(const struct assign *a, struct buf *xml,
				    struct exchange_request *r, struct err *e)
{
	const struct wire_config *c = a->request.config;
	char time[CLOCK_RFC3339_SIZE];
	clock_rfc3339(clock_wall_s(), time);
	struct polreq p = { .host_name = c->host_name,
			    .fqdn = span_of(a->fqdn),
			    .smsid = span_of(a->smsid),
			    .site_code = c->site_code,
			    .time = time };
	r->is_signed = a->type != WIRE_REGISTRATION;
	if (a->type == WIRE_REGISTRATION) {
		r->endpoint = "MP_ClientRegistration";
		r->reply_to = "ClientRegistration";
		r->name = "ClientRegistration";
		return polreq_print_registration(&p, a->request.identity, xml, e);
	}
	if (a->type == WIRE_ASSIGNMENTS) {
		r->endpoint = "MP_PolicyManager";
		r->reply_to = "PolicyAgent_ReplyAssignments";
		r->name = "Assignments";
		return polreq_print_assignments(&p, xml, e);
	}
	r->endpoint = "MP_RelayEndpoint";
	r->reply_to = "StateMessage";
	r->name = "StateMessage";
	r->takes_empty = true; /* HTTP 200 is all there is to say */
	return relay_print(&a->relay, c->host_name, xml, e);
}

static enum err_code take_registration(struct assign *a, struct span xml,
				       struct err *e)
{
	char smsid[64];
	enum err_code rc = pollist_parse_registered(xml, smsid, e);
	if (rc != ERR_OK)
		return rc;
	struct wire_registered m = { .smsid = span_of(smsid),
				     .management_point = span_of(base_of(a)) };
	a->request.send(a->request.arg, WIRE_REGISTERED, &m);
	return ERR_OK;
}

static enum err_code take_assignments(struct assign *a, struct span xml,
				      struct err *e)
{
	autourl url = { 0 };
	enum err_code rc = url_parse(span_of(base_of(a)), &url, e);
	if (rc == ERR_OK)
		rc = pollist_parse(xml, url.host, &a->policies, e);
	if (rc != ERR_OK || a->policies.refused == 0)
		return rc;
	struct err why;
	err_set(&why, ERR_MP_REPLY, "%zu policies are left out, the first: %s",
		a->policies.refused, a->policies.refused_text);
	on_attempt(a, base_of(a), &why);
	return ERR_OK;
}

static void on_answer(void *arg, const struct exchange_answer *r)
{
	struct assign *a = arg;
	struct err e = { 0 };
	a->exchange = NULL; /* it is gone */
	a->is_unknown |= r->is_empty;
	enum err_code rc = r->result.code;
	if (rc == ERR_OK && a->type == WIRE_REGISTRATION)
		rc = take_registration(a, r->body, &e);
	else if (rc == ERR_OK && a->type == WIRE_ASSIGNMENTS)
		rc = take_assignments(a, r->body, &e);
	else if (rc != ERR_OK)
		e = r->result;
	if (rc != ERR_OK) {
		if (r->result.code == ERR_OK)
			on_attempt(a, r->url, &e);
		give_up(a, &e);
	} else if (a->type == WIRE_ASSIGNMENTS) {
		a->until_ms = clock_now_ms() + ASSIGN_MS;
		fetch_bodies(a);
	} else {
		struct err ok = { 0 };
		end(a, &ok);
	}
}

static struct exchange *ask(struct assign *a, struct err *e)
{
	autobuf xml = { 0 };
	struct exchange_request r = { .base = base_of(a),
				      .is_trusted = true,
				      .source_id = span_of(a->smsid),
				      .done = on_answer,
				      .arg = a };
	if (print_question(a, &xml, &r, e) != ERR_OK)
		return NULL;
	r.body = buf_as_span(&xml);
	return exchange_start(&a->how, &r, e);
}

static void sum_up(const struct assign *a, struct err *e)
{
	struct wire_registered nobody = { .smsid = SPAN_LIT(""),
					  .management_point = SPAN_LIT("") };
	exchange_tally_sum(&a->tally, e);
	if (a->type == WIRE_ASSIGNMENTS && a->is_unknown)
		a->request.send(a->request.arg, WIRE_REGISTERED, &nobody);
}

/* Begin with the next one; a->exchange stays NULL when none is left. */
static bool begin_next(struct assign *a)
{
	while (a->exchange == NULL && a->next_base < a->base_count) {
		struct err e = { 0 };
		a->next_base++;
		a->exchange = ask(a, &e);
		if (a->exchange == NULL)
			exchange_tally_add(&a->tally, base_of(a), &e);
	}
	return a->exchange != NULL;
}

static void advance(struct assign *a)
{
	struct err e = { 0 };
	if (begin_next(a))
		return;
	sum_up(a, &e);
	end(a, &e);
}

/* --- beginning ----------------------------------------------------------- */

static enum err_code take_bases(struct assign *a, struct span lines, struct err *e)
{
	size_t count = 1;
	struct span base;
	for (size_t i = 0; i < lines.len; i++)
		count += lines.at[i] == '\n';
	a->bases = calloc(count, sizeof(*a->bases));
	if (a->bases == NULL)
		return no_memory(e);
	while (span_split(&lines, '\n', &base)) {
		base = span_trim(base);
		if (base.len == 0)
			continue;
		a->bases[a->base_count] = strndup(base.at, base.len);
		if (a->bases[a->base_count++] == NULL)
			return no_memory(e);
	}
	return a->base_count ? ERR_OK :
			       err_set(e, ERR_CONFIG,
				       "[site] management_point is not set");
}

/* The texts of a RELAY outlive its message. */
static enum err_code take_relay(struct assign *a, const struct wire_relay *m,
				struct err *e)
{
	a->relay = *m;
	struct span *texts[] = { &a->relay.topic, &a->relay.time, &a->relay.details };
	char *at = malloc(1 + m->topic.len + m->time.len + m->details.len);
	if (at == NULL)
		return no_memory(e);
	a->relay_texts = at;
	a->relay.smsid = span_of(a->smsid);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		move(texts[i], &at);
	return ERR_OK;
}

static void take_names(struct assign *a, struct span fqdn, struct span smsid)
{
	snprintf(a->fqdn, sizeof(a->fqdn), "%.*s", SPAN_ARG(fqdn));
	snprintf(a->smsid, sizeof(a->smsid), "%.*s", SPAN_ARG(smsid));
	for (char *p = a->smsid; *p; p++) /* as it is signed */
		*p = (char)toupper((unsigned char)*p);
}

static enum err_code take_call(struct assign *a, const struct wire_msg *call,
			       struct err *e)
{
	a->type = call->type;
	if (call->type == WIRE_REGISTRATION) {
		take_names(a, call->registration.fqdn, SPAN_LIT(""));
		return take_bases(a, call->registration.management_points, e);
	}
	if (call->type == WIRE_ASSIGNMENTS) {
		if (a->request.config->site_code.len == 0)
			return err_set(e, ERR_CONFIG, "[site] code is not set");
		take_names(a, call->assignments.fqdn, call->assignments.smsid);
		return take_bases(a, call->assignments.management_points, e);
	}
	take_names(a, call->relay.fqdn, call->relay.smsid);
	enum err_code rc = take_relay(a, &call->relay, e);
	return rc == ERR_OK ? take_bases(a, call->relay.management_points, e) : rc;
}

static enum err_code prepare(struct assign *a, struct err *e)
{
	const struct assign_request *r = &a->request;
	if (r->identity == NULL)
		return err_set(e, ERR_CONFIG, "this machine has no key for the site");
	if (span_trim(r->token).len)
		mp_token_line(r->config->token_header, r->token, &a->token_line);
	if (a->token_line.failed)
		return err_set(e, ERR_CONFIG, "[client] token_header and the token "
			       "of token_file do not make a header");
	a->how = (struct exchange_how){
		.http = r->http,
		.config = r->config,
		.token_line = a->token_line.len ? a->token_line.at : NULL,
		.has_certificate = r->has_certificate,
		.identity = r->identity,
		.on_note = on_note,
		.on_attempt = on_attempt,
		.arg = a,
	};
	return take_call(a, r->call, e);
}

struct assign *assign_start(const struct assign_request *request, struct err *e)
{
	struct assign *a = calloc(1, sizeof(*a));
	if (a == NULL) {
		no_memory(e);
		return NULL;
	}
	a->request = *request;
	if (prepare(a, e) == ERR_OK) {
		if (begin_next(a))
			return a;
		sum_up(a, e);
	}
	assign_cancel(a);
	return NULL;
}
