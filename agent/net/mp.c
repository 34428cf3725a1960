#include "agent/net/mp.h"

#include "agent/net/ccm.h"
#include "common/clock.h"
#include "common/own.h"
#include "policy/content.h"

#include <stdio.h>
#include <stdlib.h>

#define TIMEOUT_MS 60000u  /* of one request */
#define SEARCH_MS 180000   /* from then on only configured ones are asked */
#define LEARNT_MAX 32
#define URL_ROOM (2 * URL_MAX)

/* A management point to ask. */
struct point {
	char *base;         /* owned; as configured, or as an MPLIST named it */
	bool is_trusted;    /* with token and certificate */
	bool has_answered;  /* anything at all, so that MPLIST is worth a try */
};

/* Whose identity we show: docs/wire.md 1.2, 2.2, 2.3. */
enum way {
	WAY_TOKEN,
	WAY_PLAIN, /* with a certificate where there is one */
};

enum asking {
	ASKING_LOCATION, /* waiting for a ContentLocationReply */
	ASKING_LIST,     /* waiting for an MPLIST */
};

struct mp {
	struct http *http;
	struct mp_request request; /* config is borrowed, the rest is below */
	struct wire_locate locate; /* its texts are not used */
	char content_id[CONTENT_ID_MAX + 1];
	struct buf token_line, groups;
	int64_t began_ms;
	struct point *points; /* owned: the configured ones, then the learnt ones */
	size_t count, configured;
	size_t next;      /* not yet asked where the content is */
	size_t next_list; /* not yet asked for its MPLIST */
	/* the request under way */
	struct http_call *call;
	enum asking asking;
	enum way way;
	struct point *point;
	struct buf url;
	/* how it went so far */
	unsigned tried;
	struct err last;
	char last_base[256];
};

static void advance(struct mp *m);

/* --- life ---------------------------------------------------------------- */

void mp_cancel(struct mp *m)
{
	if (m == NULL)
		return;
	http_cancel(m->call);
	for (size_t i = 0; i < m->count; i++)
		free(m->points[i].base);
	free(m->points);
	buf_free(&m->token_line);
	buf_free(&m->groups);
	buf_free(&m->url);
	free(m);
}

static enum err_code no_memory(struct err *e)
{
	return err_set(e, ERR_NOMEM, "no memory for a location request");
}

static void note(const struct mp *m, const char *label, struct span text)
{
	if (m->request.on_note)
		m->request.on_note(m->request.arg, label, text);
}

static bool is_header_text(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.at[i] < 0x20 || (unsigned char)s.at[i] > 0x7e)
			return false;
	return s.len > 0;
}

void mp_token_line(struct span header, struct span token, struct buf *out)
{
	header = span_trim(header);
	token = span_trim(token);
	if (!is_header_text(header) || !is_header_text(token) ||
	    header.at[0] == ':') {
		out->failed = true;
		return;
	}
	buf_span(out, header);
	buf_text(out, memchr(header.at, ':', header.len) ? " " : ": ");
	buf_span(out, token);
}

/* --- what we send -------------------------------------------------------- */

static bool is_gateway(const char *path)
{
	return strcasestr(path, "/CCM_Proxy_") != NULL;
}

/*
 * The path of a base and what follows it. A gateway has two doors, and the site
 * names only the first: with a token it is the other (docs/wire.md 1.2).
 */
static void print_path(const struct mp *m, const char *base, const char *tail,
		       struct buf *out)
{
	static const char mutual[] = "/CCM_Proxy_MutualAuth/";
	static const char server[] = "/CCM_Proxy_ServerAuth/";
	const char *from = m->way == WAY_TOKEN ? mutual : server;
	const char *to = m->way == WAY_TOKEN ? server : mutual;
	bool may_swap = m->way == WAY_TOKEN || m->request.has_certificate;
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

/* m->url: where the request goes; *to: the base. */
static enum err_code print_url(struct mp *m, struct url *to, struct err *e)
{
	autobuf path = { .max = URL_ROOM };
	bool is_list = m->asking == ASKING_LIST;
	if (url_parse(span_of(m->point->base), to, e) != ERR_OK)
		return e->code;
	if (to->query)
		return err_set(e, ERR_USAGE, "the URL has a query");
	print_path(m, to->path, is_list ? "/SMS_MP/.sms_aut" :
		   m->way == WAY_TOKEN ? "/ccm_system_tokenauth/request" :
					 "/ccm_system/request", &path);
	struct url u = *to; /* borrows */
	char verb[] = "MPLIST";
	u.path = path.at;
	u.query = is_list ? verb : NULL;
	buf_clear(&m->url);
	if (!path.failed)
		url_print(&u, &m->url);
	return path.failed || m->url.failed ?
		       no_memory(e) : ERR_OK;
}

/* IANA's numbers of what a VPN looks like: PPP, and a tunnel. */
static bool is_on_vpn(struct span lines)
{
	struct span line, kind, name, type;
	while (span_split(&lines, '\n', &line))
		if (span_split(&line, ' ', &kind) && span_is(kind, "ADAPTER") &&
		    span_split(&line, ' ', &name) &&
		    span_split(&line, ' ', &type) &&
		    (span_is(type, "23") || span_is(type, "131")))
			return true;
	return false;
}

static enum err_code print_request(const struct mp *m, const struct url *to,
				   struct buf *xml, struct err *e)
{
	const struct wire_config *c = m->request.config;
	const struct wire_locate *l = &m->locate;
	char id[CONTENT_NAME_SIZE];
	const char *type;
	content_request_id(m->content_id, id, &type);
	struct locreq r = {
		.request_id = span_of(id),
		.location_type = span_of(type),
		.version = (uint32_t)l->version,
		.site_code = c->site_code,
		.forest = c->forest,
		.domain = c->domain,
		.ad_site = c->ad_site,
		.use_azure = l->use_azure,
		.is_internet = is_gateway(to->path),
		.has_token = m->token_line.len > 0,
		.minutes = (unsigned)l->minutes,
		.interfaces = c->interfaces,
		.is_on_vpn = is_on_vpn(c->interfaces),
		.boundary_groups = buf_as_span(&m->groups),
	};
	return locreq_print(&r, xml, e);
}

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

static enum err_code print_message(const struct mp *m, const struct url *to,
				   struct buf *type, struct buf *body, struct err *e)
{
	autobuf xml = { 0 };
	char source_id[80], host[256], guid[37], boundary[37];
	char time[CLOCK_RFC3339_SIZE];
	enum err_code rc = print_request(m, to, &xml, e);
	if (rc != ERR_OK)
		return rc;
	note(m, "ContentLocationRequest", buf_as_span(&xml));
	snprintf(source_id, sizeof(source_id), "%.*s",
		 SPAN_ARG(m->request.config->client_id));
	short_name(m->request.config->host_name, host, sizeof(host));
	new_guid(guid);
	new_guid(boundary);
	clock_rfc3339(clock_wall_s(), time);
	struct ccm_message message = {
		.endpoint = "MP_LocationManager",
		.reply_to = "LS_ReplyLocations",
		.source_id = source_id,
		.source_host = host,
		.target_host = to->host,
		.body = buf_as_span(&xml),
		.is_plain = m->request.config->plain_message,
		.message_id = guid,
		.boundary = boundary,
		.sent_time = time,
	};
	ccm_content_type(&message, type);
	return ccm_encode(&message, body, e);
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

static enum err_code read_reply(const struct mp *m, const struct http_response *r,
				struct loclist *list, struct err *e)
{
	autobuf xml = { 0 };
	enum err_code rc = check_response(r, e);
	if (rc == ERR_OK)
		rc = ccm_decode(r->body, r->head.content_type, &xml, e);
	if (rc != ERR_OK)
		return rc;
	note(m, "ContentLocationReply", buf_as_span(&xml));
	return loclist_parse(buf_as_span(&xml), "location reply", list, e);
}

/* --- other management points: docs/wire.md 1.8 --------------------------- */

static bool is_same_point(const char *base, const struct url *u)
{
	autourl other = { 0 };
	struct err e;
	if (url_parse(span_of(base), &other, &e) != ERR_OK)
		return false;
	return url_same_origin(&other, u) &&
	       is_gateway(other.path) == is_gateway(u->path);
}

static void learn(struct mp *m, const struct point *from, struct span base)
{
	autourl url = { 0 };
	struct err e;
	bool is_safe = strncasecmp(from->base, "https:", 6) == 0;
	if (m->count == m->configured + LEARNT_MAX ||
	    url_parse(base, &url, &e) != ERR_OK || (is_safe && !url.is_https))
		return;
	for (size_t i = 0; i < m->count; i++)
		if (is_same_point(m->points[i].base, &url))
			return;
	char *copy = strndup(base.at, base.len);
	if (copy)
		m->points[m->count++] = (struct point){ copy, is_safe, false };
}

/* No answer, or one that is none, is no error. */
static void read_list(struct mp *m, const struct http_response *r)
{
	autobuf bases = { 0 };
	struct err e;
	struct span rest, base;
	if (check_response(r, &e) != ERR_OK)
		return;
	note(m, "MPList", r->body);
	if (loclist_parse_mplist(r->body, "MPLIST", &bases, &e) != ERR_OK)
		return;
	rest = buf_as_span(&bases);
	while (span_split(&rest, '\n', &base))
		learn(m, m->point, base);
}

/* --- the order of things ------------------------------------------------- */

static void failed(struct mp *m, const struct err *why)
{
	if (m->asking == ASKING_LIST)
		return;
	m->last = *why;
	snprintf(m->last_base, sizeof(m->last_base), "%s", m->point->base);
	if (m->request.on_attempt)
		m->request.on_attempt(m->request.arg,
				      m->url.len ? m->url.at : m->point->base, why);
}

/* All failed: the error is of class MP whatever the last one was. */
static void sum_up(const struct mp *m, struct err *e)
{
	*e = m->last;
	if (m->tried > 1) {
		e->code = ERR_MP;
		err_prefix(e, "none of %u management points gave a usable reply; "
			   "the last, %s", m->tried, m->last_base);
		return;
	}
	if (err_exit(e->code) != CLASS_MP)
		e->code = ERR_MP;
	err_prefix(e, "management point %s", m->last_base);
}

static void end(struct mp *m, struct loclist *list, const struct err *result)
{
	struct mp_request r = m->request;
	char *from = list ? take_ptr(m->point->base) : NULL;
	mp_cancel(m);
	r.done(r.arg, list, from ? from : "", result);
	free(from);
}

/* The token comes first; refused, the plain path: with the certificate where
 * there is one, else as anyone may ask (but a gateway lets nobody in so). */
static bool may_try_other_way(const struct mp *m, const struct http_response *r)
{
	long status = r->head.status;
	return m->way == WAY_TOKEN &&
	       (m->request.has_certificate || !is_gateway(m->point->base)) &&
	       r->result.code == ERR_OK &&
	       (status == 401 || status == 403 || status == 404);
}

static void on_done(void *arg, const struct http_response *r);

static enum err_code begin(struct mp *m, struct err *e)
{
	autourl to = { 0 };
	autobuf type = { 0 };
	autobuf body = { 0 };
	bool is_location = m->asking == ASKING_LOCATION;
	enum err_code rc = print_url(m, &to, e);
	buf_text(&type, "Content-Type: ");
	if (rc == ERR_OK && is_location)
		rc = print_message(m, &to, &type, &body, e);
	if (rc != ERR_OK)
		return rc;
	const char *headers[] = { "User-Agent: ConfigMgr Messaging HTTP Sender",
				  is_location ? type.at : NULL, NULL };
	struct http_request request = {
		.method = is_location ? "CCM_POST" : "GET",
		.url = m->url.at,
		.headers = headers,
		.secret_header = m->way == WAY_TOKEN ? m->token_line.at : NULL,
		.body = buf_as_span(&body),
		.has_body = is_location,
		.leg = HTTP_SITE,
		.offer_client = m->way == WAY_PLAIN && m->point->is_trusted &&
				m->request.has_certificate,
		.only_http1 = true, /* HTTP/2 has no reason phrase */
		.max_body = CCM_REPLY_MAX,
		.timeout_ms = TIMEOUT_MS,
		.done = on_done,
		.arg = m,
	};
	m->call = http_start(m->http, &request, e);
	return m->call ? ERR_OK : e->code;
}

static void on_done(void *arg, const struct http_response *r)
{
	struct mp *m = arg;
	struct err e = { 0 };
	struct loclist list = { 0 };
	m->call = NULL; /* http frees it */
	if (r->result.code == ERR_OK)
		m->point->has_answered = true;
	if (m->asking == ASKING_LOCATION) {
		if (read_reply(m, r, &list, &e) == ERR_OK) {
			end(m, &list, &e);
			loclist_free(&list);
			return;
		}
		failed(m, &e);
	} else {
		read_list(m, r);
	}
	if (may_try_other_way(m, r)) {
		m->way = WAY_PLAIN;
		if (begin(m, &e) == ERR_OK)
			return;
		failed(m, &e);
	}
	advance(m);
	if (m->call)
		return;
	sum_up(m, &e);
	end(m, NULL, &e);
}

/* The next one to be asked where the content is, and when there is none left, the
 * next configured one that may know others. */
static bool choose(struct mp *m)
{
	bool is_late = clock_now_ms() - m->began_ms > SEARCH_MS;
	if (m->next < (is_late ? m->configured : m->count)) {
		m->asking = ASKING_LOCATION;
		m->point = &m->points[m->next++];
		m->tried++;
	} else {
		while (m->next_list < m->configured &&
		       !m->points[m->next_list].has_answered)
			m->next_list++;
		if (m->next_list == m->configured || is_late)
			return false;
		m->asking = ASKING_LIST;
		m->point = &m->points[m->next_list++];
	}
	bool is_https = strncasecmp(m->point->base, "https:", 6) == 0;
	m->way = is_https && m->point->is_trusted && m->token_line.len ?
			 WAY_TOKEN : WAY_PLAIN;
	return true;
}

/* Begin the next request; m->call stays NULL when nothing is left to try. */
static void advance(struct mp *m)
{
	while (m->call == NULL && choose(m)) {
		struct err e = { 0 };
		buf_clear(&m->url);
		if (begin(m, &e) != ERR_OK)
			failed(m, &e);
	}
}

static enum err_code take_points(struct mp *m, struct span lines, struct err *e)
{
	size_t count = LEARNT_MAX + 1;
	struct span base;
	for (size_t i = 0; i < lines.len; i++)
		count += lines.at[i] == '\n';
	m->points = calloc(count, sizeof(*m->points));
	if (m->points == NULL)
		return no_memory(e);
	m->count = 0;
	while (span_split(&lines, '\n', &base)) {
		base = span_trim(base);
		if (base.len == 0)
			continue;
		char *copy = strndup(base.at, base.len);
		if (copy == NULL)
			return no_memory(e);
		m->points[m->count++] = (struct point){ copy, true, false };
	}
	m->configured = m->count;
	return m->count ? ERR_OK : err_set(e, ERR_CONFIG,
					   "[site] management_point is not set");
}

static enum err_code prepare(struct mp *m, struct err *e)
{
	const struct wire_locate *l = m->request.locate;
	if (l->content_id.len == 0 || l->content_id.len > CONTENT_ID_MAX)
		return err_set(e, ERR_USAGE, "a content id of %zu bytes",
			       l->content_id.len);
	memcpy(m->content_id, l->content_id.at, l->content_id.len);
	m->locate = *l;
	buf_span(&m->groups, l->boundary_groups);
	m->url.max = URL_ROOM;
	m->began_ms = clock_now_ms();
	if (span_trim(m->request.token).len)
		mp_token_line(m->request.config->token_header, m->request.token,
			      &m->token_line);
	if (m->token_line.failed)
		return err_set(e, ERR_CONFIG, "[client] token_header and the token "
			       "of token_file do not make a header");
	return m->groups.failed ? no_memory(e) :
				  take_points(m, l->management_points, e);
}

struct mp *mp_start(struct http *http, const struct mp_request *request,
		    struct err *e)
{
	struct mp *m = calloc(1, sizeof(*m));
	if (m == NULL) {
		no_memory(e);
		return NULL;
	}
	m->http = http;
	m->request = *request;
	if (prepare(m, e) == ERR_OK) {
		advance(m);
		if (m->call)
			return m;
		sum_up(m, e);
	}
	mp_cancel(m);
	return NULL;
}
