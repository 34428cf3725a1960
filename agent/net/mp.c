#include "agent/net/mp.h"

#include "common/clock.h"
#include "common/own.h"
#include "policy/content.h"

#include <stdio.h>
#include <stdlib.h>

#define SEARCH_MS 180000   /* from then on only configured ones are asked */
#define LEARNT_MAX 32
#define LIST_BYTES_MAX (4u << 20)

/* A management point to ask. */
struct point {
	char *base;         /* owned; as configured, or as an MPLIST named it */
	bool is_trusted;    /* with token and certificate */
	bool has_answered;  /* anything at all, so that MPLIST is worth a try */
};

enum asking {
	ASKING_LOCATION, /* waiting for a ContentLocationReply */
	ASKING_LIST,     /* waiting for an MPLIST */
};

struct mp {
	struct exchange_how how, silent; /* the second: of lists, no attempts */
	struct mp_request request; /* config is borrowed, the rest is below */
	struct wire_locate locate; /* its texts are not used */
	char content_id[CONTENT_ID_MAX + 1];
	struct buf token_line, groups;
	int64_t began_ms;
	struct point *points; /* owned: the configured ones, then the learnt ones */
	size_t count, configured;
	size_t next;      /* not yet asked where the content is */
	size_t next_list; /* not yet asked for its MPLIST */
	/* the question under way */
	struct exchange *exchange;
	enum asking asking;
	struct point *point;
	struct exchange_tally tally;
};

static void advance(struct mp *m);

/* --- life ---------------------------------------------------------------- */

void mp_cancel(struct mp *m)
{
	if (m == NULL)
		return;
	exchange_cancel(m->exchange);
	for (size_t i = 0; i < m->count; i++)
		free(m->points[i].base);
	free(m->points);
	buf_free(&m->token_line);
	buf_free(&m->groups);
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

static enum err_code print_request(const struct mp *m, struct buf *xml, struct err *e)
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
		.is_internet = exchange_is_gateway(m->point->base),
		.has_token = m->token_line.len > 0,
		.minutes = (unsigned)l->minutes,
		.interfaces = c->interfaces,
		.is_on_vpn = is_on_vpn(c->interfaces),
		.boundary_groups = buf_as_span(&m->groups),
	};
	return locreq_print(&r, xml, e);
}

/* --- other management points: docs/wire.md 1.8 --------------------------- */

static bool is_same_point(const char *base, const struct url *u)
{
	autourl other = { 0 };
	struct err e;
	if (url_parse(span_of(base), &other, &e) != ERR_OK)
		return false;
	return url_same_origin(&other, u) &&
	       exchange_is_gateway(other.path) == exchange_is_gateway(u->path);
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
static void read_list(struct mp *m, const struct exchange_answer *a)
{
	autobuf bases = { 0 };
	struct err e;
	struct span rest, base;
	if (a->result.code != ERR_OK)
		return;
	note(m, "MPList", a->body);
	if (loclist_parse_mplist(a->body, "MPLIST", &bases, &e) != ERR_OK)
		return;
	rest = buf_as_span(&bases);
	while (span_split(&rest, '\n', &base))
		learn(m, m->point, base);
}

/* --- the order of things ------------------------------------------------- */

static void end(struct mp *m, struct loclist *list, const struct err *result)
{
	struct mp_request r = m->request;
	char *from = list ? take_ptr(m->point->base) : NULL;
	mp_cancel(m);
	r.done(r.arg, list, from ? from : "", result);
	free(from);
}

/* What was said as an answer makes no sense. */
static void misunderstood(struct mp *m, const struct exchange_answer *a,
			  const struct err *why)
{
	if (m->request.on_attempt)
		m->request.on_attempt(m->request.arg, a->url, why);
	exchange_tally_add(&m->tally, m->point->base, why);
}

static void on_answer(void *arg, const struct exchange_answer *a)
{
	struct mp *m = arg;
	struct err e = { 0 };
	struct loclist list = { 0 };
	m->exchange = NULL; /* it is gone */
	m->point->has_answered |= a->has_answered;
	if (m->asking == ASKING_LIST) {
		read_list(m, a);
	} else if (a->result.code != ERR_OK) {
		exchange_tally_add(&m->tally, m->point->base, &a->result);
	} else if (loclist_parse(a->body, "location reply", &list, &e) == ERR_OK) {
		e.code = ERR_OK;
		end(m, &list, &e);
		loclist_free(&list);
		return;
	} else {
		misunderstood(m, a, &e);
	}
	advance(m);
	if (m->exchange)
		return;
	exchange_tally_sum(&m->tally, &e);
	end(m, NULL, &e);
}

/* NULL with *e: exchange has told of it, where it came as far. */
static struct exchange *begin(struct mp *m, struct err *e)
{
	autobuf xml = { 0 };
	struct exchange_request r = {
		.base = m->point->base,
		.is_trusted = m->point->is_trusted,
		.max_body = LIST_BYTES_MAX,
		.done = on_answer,
		.arg = m,
	};
	if (m->asking == ASKING_LIST) {
		r.path = "/SMS_MP/.sms_aut";
		r.query = "MPLIST";
		return exchange_start(&m->silent, &r, e);
	}
	if (print_request(m, &xml, e) != ERR_OK)
		return NULL;
	r.endpoint = "MP_LocationManager";
	r.reply_to = "LS_ReplyLocations";
	r.name = "ContentLocation";
	r.source_id = m->request.config->client_id;
	r.body = buf_as_span(&xml);
	return exchange_start(&m->how, &r, e);
}

/* The next one to be asked where the content is, and when there is none left, the
 * next configured one that may know others. */
static bool choose(struct mp *m)
{
	bool is_late = clock_now_ms() - m->began_ms > SEARCH_MS;
	if (m->next < (is_late ? m->configured : m->count)) {
		m->asking = ASKING_LOCATION;
		m->point = &m->points[m->next++];
	} else {
		while (m->next_list < m->configured &&
		       !m->points[m->next_list].has_answered)
			m->next_list++;
		if (m->next_list == m->configured || is_late)
			return false;
		m->asking = ASKING_LIST;
		m->point = &m->points[m->next_list++];
	}
	return true;
}

/* Begin the next question; m->exchange stays NULL when nothing is left to try. */
static void advance(struct mp *m)
{
	while (m->exchange == NULL && choose(m)) {
		struct err e = { 0 };
		m->exchange = begin(m, &e);
		if (m->exchange == NULL && m->asking == ASKING_LOCATION)
			exchange_tally_add(&m->tally, m->point->base, &e);
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

static void set_how(struct mp *m, struct http *http)
{
	m->how = (struct exchange_how){
		.http = http,
		.config = m->request.config,
		.token_line = m->token_line.len ? m->token_line.at : NULL,
		.has_certificate = m->request.has_certificate,
		.on_note = m->request.on_note,
		.on_attempt = m->request.on_attempt,
		.arg = m->request.arg,
	};
	m->silent = m->how;
	m->silent.on_attempt = NULL;
	m->silent.on_note = NULL;
}

struct mp *mp_start(struct http *http, const struct mp_request *request,
		    struct err *e)
{
	struct mp *m = calloc(1, sizeof(*m));
	if (m == NULL) {
		no_memory(e);
		return NULL;
	}
	m->request = *request;
	if (prepare(m, e) == ERR_OK) {
		set_how(m, http);
		advance(m);
		if (m->exchange)
			return m;
		exchange_tally_sum(&m->tally, e);
	}
	mp_cancel(m);
	return NULL;
}
