/*
 * Stand-in management point of the laboratory: strict about what it receives, and
 * scriptable about what it answers (script.h).
 *
 *   mp --dir DIR [--port N] [--address A] [--tls CERT KEY] [--client-ca CA]
 *      [--token TOKEN] [--token-header 'NAME: PREFIX']
 *
 * DIR/replies/<id>.<version>.xml or <id>.xml: ContentLocationReply, UTF-8, ':' of
 * the id written '_'; DIR/mplist.xml: answer to MPLIST; DIR/policies: mp_policy.h;
 * DIR/site: how the site is set (mp_site.h). Written: DIR/mp.log, one line a request,
 * `time` in seconds with milliseconds; DIR/clients: who is registered
 * (mp_identity.h), read again after a restart; DIR/state_messages.jsonl; and for
 * people DIR/last_header.xml, DIR/last_body.xml.
 */
#include "mp_location.h"
#include "mp_policy.h"
#include "mp_register.h"
#include "mp_relay.h"
#include "mp_request.h"
#include "script.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- who may ask ---- */

enum way { DIRECT, MUTUAL, SERVER };    /* the path begins with which proxy base */

static bool need_client(struct request *q, struct reply *r)
{
	if (q->is_client_good)
		return true;
	refuse(q, r, 403, "Client certificate required", "%s",
		q->client_subject ? "client certificate not trusted"
		: "no client certificate");
	return false;
}

static bool need_token(struct request *q, struct reply *r)
{
	if (!q->options->cert) {
		refuse(q, r, 403, NULL, "tokens are taken over https only");
		return false;
	}
	if (q->is_token_good)
		return true;
	refuse(q, r, 401, "CMGService_Invalid_Token", "%s",
		q->has_token ? "wrong token" : "no token");
	return false;
}

/*
 * Take a proxy base off `*path`: /CCM_Proxy_MutualAuth/<id>/... wants the client's
 * certificate, /CCM_Proxy_ServerAuth/<id>/... its token.
 */
static bool pass_proxy(struct request *q, struct reply *r, const char **path,
	enum way *way)
{
	static const char mutual[] = "/CCM_Proxy_MutualAuth/";
	static const char server[] = "/CCM_Proxy_ServerAuth/";

	*way = DIRECT;
	if (!strncasecmp(*path, mutual, sizeof mutual - 1))
		*way = MUTUAL;
	else if (!strncasecmp(*path, server, sizeof server - 1))
		*way = SERVER;
	if (*way == DIRECT)
		return true;
	if (!q->options->cert) {
		refuse(q, r, 403, NULL, "a gateway speaks https only");
		return false;
	}
	*path += sizeof mutual - 1;
	size_t n = strspn(*path, "0123456789");
	if (n == 0 || n > 20 || (*path)[n] != '/') {
		refuse(q, r, 404, NULL, "no gateway id in the path");
		return false;
	}
	*path += n;
	note(q, "way", *way == MUTUAL ? "mutual" : "server");
	return *way == MUTUAL ? need_client(q, r) : need_token(q, r);
}

/* ---- what is asked ---- */

static const struct {
	const char *name;
	const char *kind;       /* for scripts */
	void (*serve)(const struct script *s, const struct mp_request *m,
		struct request *q, struct reply *r);
} endpoints[] = {
	{"MP_LocationManager", "location", mp_locate},
	{"MP_ClientRegistration", "registration", mp_register},
	{"MP_PolicyManager", "assignments", mp_assign},
	{"MP_RelayEndpoint", "relay", mp_relay},
};
enum { ENDPOINTS = sizeof endpoints / sizeof *endpoints };

/* ENDPOINTS when there is none of that name. */
static size_t find_endpoint(const struct mp_request *m)
{
	const char *name = mp_request_endpoint(m);
	size_t i = 0;

	while (i < ENDPOINTS && strcmp(name, endpoints[i].name))
		i++;
	return i;
}

static void message(struct request *q, struct reply *r, enum way way)
{
	struct mp_request m = {.is_gateway = way != DIRECT};
	struct script s;

	if (strcmp(q->method, "CCM_POST")) {
		refuse(q, r, 405, NULL, "method %s", q->method);
		return;
	}
	bool is_parsed = mp_request_parse(&m, q, r);
	size_t i = is_parsed ? find_endpoint(&m) : ENDPOINTS;
	script_load(&s, q, i < ENDPOINTS ? endpoints[i].kind : "location", "location");
	if (i < ENDPOINTS)
		endpoints[i].serve(&s, &m, q, r);
	else if (is_parsed)
		refuse(q, r, 500, NULL, "unknown TargetEndpoint %s",
			mp_request_endpoint(&m));
	if (script_has(&s, "mplist_only"))
		refuse(q, r, 500, NULL, "script: mplist_only");
	script_apply(&s, q, r);
	script_free(&s);
	mp_request_free(&m);
}

/* /SMS_MP/.sms_aut?MPLIST: the file mplist.xml; other verbs find theirs alike. */
static void helper(struct request *q, struct reply *r)
{
	size_t n = q->query ? strcspn(q->query, "&") : 0;
	char verb[33] = "", name[64];
	struct script s;

	if (strcmp(q->method, "GET")) {
		refuse(q, r, 405, NULL, "method %s", q->method);
		return;
	}
	script_load(&s, q, "mplist", "location");
	for (size_t i = 0; i < n && i < sizeof verb - 1; i++) {
		unsigned char c = (unsigned char)q->query[i];
		verb[i] = isalnum(c) ? (char)tolower(c) : '_';
	}
	snprintf(name, sizeof name, "%s.xml", verb);
	if (read_file(q->options->dir, name, &r->body))
		snprintf(r->content_type, sizeof r->content_type, "text/xml");
	else
		refuse(q, r, 404, NULL, "no file %s", name);
	script_apply(&s, q, r);
	script_free(&s);
}

void serve(struct request *q, struct reply *r)
{
	const char *path = q->path;
	enum way way;

	/* a page without secrets that gateways answer to anybody */
	if (!strcasecmp(path, "/CCM_Proxy_MutualAuth/ServiceMetadata")
	    || !strcasecmp(path, "/CCM_Proxy_ServerAuth/ServiceMetadata")) {
		buf_puts(&r->body, "{}");
		snprintf(r->content_type, sizeof r->content_type, "application/json");
		return;
	}
	if (!pass_proxy(q, r, &path, &way))
		return;
	if (!strcasecmp(path, "/SMS_MP/.sms_aut")) {
		helper(q, r);
	} else if (!strcasecmp(path, "/SMS_MP/.sms_pol")) {
		mp_policy(q, r);
	} else if (!strcasecmp(path, "/ccm_system/request")) {
		if (q->options->client_ca && way != SERVER && !need_client(q, r))
			return;
		message(q, r, way);
	} else if (!strcasecmp(path, "/ccm_system_tokenauth/request")) {
		if (need_token(q, r))
			message(q, r, way);
	} else {
		refuse(q, r, 404, NULL, "unknown path");
	}
}

int main(int argc, char **argv)
{
	return standin_main("mp", argc, argv);
}
