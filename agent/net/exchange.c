#include "agent/net/exchange.h"

#include "agent/net/ccm.h"
#include "common/clock.h"
#include "common/own.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define TIMEOUT_MS 60000u /* of one request */
#define URL_ROOM (2 * URL_MAX)
#define SOURCE_ID_SIZE 80

/* Whose identity we show: docs/wire.md 1.2, 2.2, 2.3. */
enum way {
	WAY_TOKEN,
	WAY_PLAIN, /* with a certificate where there is one */
};

struct exchange {
	const struct exchange_how *how;
	struct exchange_request request; /* texts: those below */
	char *base, *endpoint, *reply_to, *path, *query; /* owned */
	char source_id[SOURCE_ID_SIZE];
	struct buf body, url;
	enum way way;
	struct http_call *call;
};

/* --- life ---------------------------------------------------------------- */

void exchange_cancel(struct exchange *x)
{
	if (x == NULL)
		return;
	http_cancel(x->call);
	free(x->base);
	free(x->endpoint);
	free(x->reply_to);
	free(x->path);
	free(x->query);
	buf_free(&x->body);
	buf_free(&x->url);
	free(x);
}

static enum err_code no_memory(struct err *e)
{
	return err_set(e, ERR_NOMEM, "no memory for a message");
}

static void note(const struct exchange *x, const char *suffix, struct span text)
{
	char label[64];
	if (x->how->on_note == NULL || x->request.name == NULL)
		return;
	snprintf(label, sizeof(label), "%s%s", x->request.name, suffix);
	x->how->on_note(x->how->arg, label, text);
}

static void report(const struct exchange *x, const struct err *why)
{
	if (x->how->on_attempt)
		x->how->on_attempt(x->how->arg, x->url.len ? x->url.at : x->base,
				   why);
}

/* --- the URL ------------------------------------------------------------- */

bool exchange_is_gateway(const char *base)
{
	return strcasestr(base, "/CCM_Proxy_") != NULL;
}

/*
 * The path of a base and what follows it. A gateway has two doors, and the site
 * names only the first: with a token it is the other (docs/wire.md 1.2).
 */
static void print_path(const struct exchange *x, const char *base,
		       const char *tail, struct buf *out)
{
	static const char mutual[] = "/CCM_Proxy_MutualAuth/";
	static const char server[] = "/CCM_Proxy_ServerAuth/";
	const char *from = x->way == WAY_TOKEN ? mutual : server;
	const char *to = x->way == WAY_TOKEN ? server : mutual;
	bool may_swap = x->way == WAY_TOKEN || x->how->has_certificate;
	size_t len = strlen(base);
	while (len && base[len - 1] == '/')
		len--;
	const char *door = may_swap ? strcasestr(base, from) : NULL;
	size_t before = door ? (size_t)(door - base) : len;
	buf_add(out, base, before);
	if (door) {
		buf_text(out, to);
		before += strlen(from);
		buf_add(out, base + before, before < len ? len - before : 0);
	}
	buf_text(out, tail);
}

/* x->url: where the request goes; *to: the base. */
static enum err_code print_url(struct exchange *x, struct url *to, struct err *e)
{
	autobuf path = { .max = URL_ROOM };
	if (url_parse(span_of(x->base), to, e) != ERR_OK)
		return e->code;
	if (to->query)
		return err_set(e, ERR_USAGE, "the URL has a query");
	print_path(x, to->path, x->path ? x->path :
		   x->way == WAY_TOKEN ? "/ccm_system_tokenauth/request" :
					 "/ccm_system/request", &path);
	struct url u = *to; /* borrows */
	u.path = path.at;
	u.query = x->query;
	buf_clear(&x->url);
	if (!path.failed)
		url_print(&u, &x->url);
	return path.failed || x->url.failed ? no_memory(e) : ERR_OK;
}

/* --- what we send -------------------------------------------------------- */

static void short_name(struct span host, char *out, size_t size)
{
	struct span name = { "", 0 };
	span_split(&host, '.', &name);
	if (name.len == 0)
		name = SPAN_LIT("localhost");
	snprintf(out, size, "%.*s", SPAN_ARG(name));
}

/* RFC 9562 s5.4 */
static void new_guid(char out[37])
{
	uint32_t a = clock_chance(), b = clock_chance(), c = clock_chance();
	snprintf(out, 37, "%08X-%04X-4%03X-%04X-%04X%08X", a, b >> 16, b & 0xfff,
		 0x8000 | (c >> 16 & 0x3fff), c & 0xffff, clock_chance());
}

static enum err_code sign(const void *arg, struct span bytes, struct buf *hex,
			  struct err *e)
{
	return identity_sign(arg, bytes, hex, e);
}

static enum err_code print_message(const struct exchange *x, const struct url *to,
				   struct buf *type, struct buf *body, struct err *e)
{
	const struct wire_config *c = x->how->config;
	const struct identity *signer = x->request.is_signed ? x->how->identity : NULL;
	char host[256], guid[37], boundary[37], time[CLOCK_RFC3339_SIZE];
	note(x, "Request", buf_as_span(&x->body));
	short_name(c->host_name, host, sizeof(host));
	new_guid(guid);
	new_guid(boundary);
	clock_rfc3339(clock_wall_s(), time);
	struct ccm_message message = {
		.endpoint = x->endpoint,
		.reply_to = x->reply_to,
		.source_id = x->source_id,
		.source_host = host,
		.target_host = to->host,
		.body = buf_as_span(&x->body),
		.is_plain = c->plain_message,
		.sign = signer ? sign : NULL,
		.sign_arg = signer,
		.message_id = guid,
		.boundary = boundary,
		.sent_time = time,
	};
	if (signer)
		message.public_key = identity_public_key(signer);
	buf_text(type, "Content-Type: ");
	ccm_content_type(&message, type);
	return ccm_encode(&message, body, e);
}

/* docs/wire.md 2.4: who asks, when, and the proof of both. */
static enum err_code print_client_token(const struct exchange *x,
					struct buf *token, struct buf *signature,
					struct err *e)
{
	char time[CLOCK_RFC3339_SIZE], text[SOURCE_ID_SIZE + CLOCK_RFC3339_SIZE + 4];
	clock_rfc3339(clock_wall_s(), time);
	snprintf(text, sizeof(text), "%s;%s;2", x->source_id, time);
	buf_print(token, "ClientToken: %s", text);
	buf_text(signature, "ClientTokenSignature: ");
	enum err_code rc = identity_sign_text(x->how->identity, span_of(text), true,
					      signature, e);
	return rc == ERR_OK && token->failed ? no_memory(e) : rc;
}

static void on_done(void *arg, const struct http_response *r);

static enum err_code begin(struct exchange *x, struct err *e)
{
	autourl to = { 0 };
	autobuf first = { 0 };
	autobuf second = { 0 };
	autobuf body = { 0 };
	bool is_message = x->endpoint != NULL;
	enum err_code rc = print_url(x, &to, e);
	if (rc == ERR_OK && is_message)
		rc = print_message(x, &to, &first, &body, e);
	else if (rc == ERR_OK && x->request.has_client_token)
		rc = print_client_token(x, &first, &second, e);
	if (rc != ERR_OK)
		return rc;
	/* The client token is good for one management point, which has it: it may
	 * be sent as it is over http, where IIS expects it, and nowhere else. */
	const char *headers[] = { "User-Agent: ConfigMgr Messaging HTTP Sender",
				  first.at, second.at, NULL };
	struct http_request request = {
		.method = is_message ? "CCM_POST" : "GET",
		.url = x->url.at,
		.headers = headers,
		.secret_header = x->way == WAY_TOKEN ? x->how->token_line : NULL,
		.body = buf_as_span(&body),
		.has_body = is_message,
		.leg = HTTP_SITE,
		.stays = x->request.has_client_token,
		.offer_client = x->way == WAY_PLAIN && x->request.is_trusted &&
				x->how->has_certificate,
		.only_http1 = true, /* HTTP/2 has no reason phrase */
		.max_body = is_message ? CCM_REPLY_MAX : x->request.max_body,
		.timeout_ms = TIMEOUT_MS,
		.done = on_done,
		.arg = x,
	};
	x->call = http_start(x->how->http, &request, e);
	return x->call ? ERR_OK : e->code;
}

/* --- what comes back ----------------------------------------------------- */

/* docs/wire.md 1.7: the words are in the reason phrase. */
static const char *explain(const struct http_response *r)
{
	static const char *const table[][2] = {
		{ "CMGService_Invalid_Token",
		  "the token is missing, ran out, or was unused for 30 days" },
		{ "CMGConnector_Clientcertificaterequired",
		  "the gateway's connection point has no certificate" },
		{ "CMGConnector_Forbidden", "IIS binding or certificate of the "
		  "management point behind the gateway is wrong" },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strcasecmp(r->head.reason, table[i][0]) == 0)
			return table[i][1];
	if (r->head.status == 403 && strncasecmp(r->url, "http:", 5) == 0)
		return "it may speak https only";
	return NULL;
}

static enum err_code check_status(const struct http_response *r, struct err *e)
{
	long status = r->head.status;
	if (status == 200)
		return ERR_OK;
	const char *why = explain(r);
	err_set(e, status == 401 || status == 403 ? ERR_MP_AUTH : ERR_MP_STATUS,
		"it answered HTTP %ld%s%s%s%s%s", status,
		r->head.reason[0] ? " " : "", r->head.reason,
		why ? " (" : "", why ? why : "", why ? ")" : "");
	e->retry_after_s = r->head.retry_after_s;
	return e->code;
}

static enum err_code check_response(const struct http_response *r, struct err *e)
{
	if (r->result.code != ERR_OK) {
		*e = r->result;
		return e->code;
	}
	enum err_code rc = check_status(r, e);
	if (rc == ERR_OK && r->head.has_encoding)
		rc = err_set(e, ERR_MP_REPLY, "a content coding nobody asked for");
	return rc;
}

static enum err_code read_reply(const struct exchange *x,
				const struct http_response *r, struct buf *xml,
				struct exchange_answer *a)
{
	struct err *e = &a->result;
	enum err_code rc = check_response(r, e);
	a->has_answered = r->result.code == ERR_OK;
	a->status = a->has_answered ? r->head.status : 0;
	a->is_empty = rc == ERR_OK && r->body.len == 0;
	a->body = r->body;
	if (rc != ERR_OK || x->endpoint == NULL ||
	    (a->is_empty && x->request.takes_empty))
		return rc;
	rc = ccm_decode(r->body, r->head.content_type, xml, e);
	if (rc != ERR_OK)
		return rc;
	note(x, "Reply", buf_as_span(xml));
	a->body = buf_as_span(xml);
	return ERR_OK;
}

/* The token comes first; refused, the plain path: with the certificate where
 * there is one, else as anyone may ask (but a gateway lets nobody in so). */
static bool may_try_other_way(const struct exchange *x,
			      const struct http_response *r)
{
	long status = r->head.status;
	return x->way == WAY_TOKEN &&
	       (x->how->has_certificate || !exchange_is_gateway(x->base)) &&
	       r->result.code == ERR_OK &&
	       (status == 401 || status == 403 || status == 404);
}

static void on_done(void *arg, const struct http_response *r)
{
	struct exchange *x = arg;
	autobuf xml = { 0 };
	struct exchange_answer answer = { .url = r->url };
	x->call = NULL; /* http frees it */
	if (read_reply(x, r, &xml, &answer) == ERR_OK)
		answer.result.code = ERR_OK;
	else
		report(x, &answer.result);
	if (may_try_other_way(x, r)) {
		x->way = WAY_PLAIN;
		if (begin(x, &answer.result) == ERR_OK)
			return;
		report(x, &answer.result);
	}
	struct exchange_request request = x->request;
	exchange_cancel(x);
	request.done(request.arg, &answer);
}

/* --- beginning ----------------------------------------------------------- */

static bool copy(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return from == NULL || *to;
}

static enum err_code take(struct exchange *x, const struct exchange_request *r,
			  struct err *e)
{
	bool is_https = strncasecmp(r->base, "https:", 6) == 0;
	x->request = *r;
	x->way = is_https && r->is_trusted && x->how->token_line ? WAY_TOKEN :
								   WAY_PLAIN;
	x->url.max = URL_ROOM;
	x->body.max = CCM_REPLY_MAX;
	buf_span(&x->body, r->body);
	snprintf(x->source_id, sizeof(x->source_id), "%.*s", SPAN_ARG(r->source_id));
	if (!copy(&x->base, r->base) || !copy(&x->endpoint, r->endpoint) ||
	    !copy(&x->reply_to, r->reply_to) || !copy(&x->path, r->path) ||
	    !copy(&x->query, r->query) || x->body.failed)
		return no_memory(e);
	bool needs_key = r->is_signed || r->has_client_token;
	if (needs_key && x->how->identity == NULL)
		return err_set(e, ERR_CONFIG, "this machine has no key for the site "
			       "yet");
	for (char *p = x->source_id; needs_key && *p; p++) /* as it is signed */
		*p = (char)toupper((unsigned char)*p);
	return ERR_OK;
}

struct exchange *exchange_start(const struct exchange_how *how,
				const struct exchange_request *request,
				struct err *e)
{
	struct exchange *x = calloc(1, sizeof(*x));
	if (x == NULL) {
		no_memory(e);
		return NULL;
	}
	x->how = how;
	if (take(x, request, e) == ERR_OK) {
		if (begin(x, e) == ERR_OK)
			return x;
		report(x, e);
	}
	exchange_cancel(x);
	return NULL;
}

/* --- several of them ----------------------------------------------------- */

void exchange_tally_add(struct exchange_tally *t, const char *base,
			const struct err *why)
{
	t->tried++;
	t->last = *why;
	snprintf(t->last_base, sizeof(t->last_base), "%s", base);
}

enum err_code exchange_tally_sum(const struct exchange_tally *t, struct err *e)
{
	*e = t->last;
	if (t->tried > 1) {
		e->code = ERR_MP;
		return err_prefix(e, "none of %u management points gave a usable "
				  "reply; the last, %s", t->tried, t->last_base);
	}
	if (err_exit(e->code) != CLASS_MP)
		e->code = ERR_MP;
	return err_prefix(e, "management point %s", t->last_base);
}
