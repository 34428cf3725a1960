/*
 * Stand-in management point of the laboratory: strict about what it receives, and
 * scriptable about what it answers (script.h).
 *
 *   mp --dir DIR [--port N] [--address A] [--tls CERT KEY] [--client-ca CA]
 *      [--token TOKEN] [--token-header 'NAME: PREFIX']
 *
 * DIR/replies/<id>.<version>.xml or <id>.xml: ContentLocationReply, UTF-8, ':' of
 * the id written '_'; DIR/mplist.xml: answer to MPLIST. Written: DIR/mp.log, and
 * for people DIR/last_header.xml, DIR/last_body.xml.
 */
#include "mp_request.h"
#include "script.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <zlib.h>

#define BOUNDARY "aAbBcCdDv1234567890VxXyYzZ"

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

/* ---- the reply ---- */

/* Cut every LocationRecord that leads to the cloud service; how many. */
static int cut_cloud(struct buf *xml)
{
	static const char first[] = "<LocationRecord", last[] = "</LocationRecord>";
	struct buf out = {0};
	const char *at = buf_text(xml), *start, *stop;
	int n = 0;

	while ((start = strstr(at, first)) && (stop = strstr(start, last))) {
		/* <LocationRecords> begins alike */
		if (start[sizeof first - 1] == 's') {
			buf_add(&out, at, (size_t)(start - at) + sizeof first);
			at = start + sizeof first;
			continue;
		}
		stop += sizeof last - 1;
		buf_add(&out, at, (size_t)(start - at));
		char *record = must_dup(start, (size_t)(stop - start));
		if (strcasestr(record, "downloadrestservice.svc"))
			n++;
		else
			buf_puts(&out, record);
		free(record);
		at = stop;
	}
	buf_puts(&out, at);
	buf_free(xml);
	*xml = out;
	return n;
}

static void empty_reply(const struct mp_request *m, struct buf *out)
{
	const struct element *assigned = xml_child(m->body, "AssignedSite");
	const char *site = xml_attribute(assigned, "SiteCode");

	buf_puts(out, "<ContentLocationReply SchemaVersion=\"1.00\" BGRVersion=\"1\">"
		"<ContentInfo PackageFlags=\"0\"><ContentHashValues/></ContentInfo>"
		"<Sites><Site><MPSite SiteCode=\"");
	buf_xml(out, site ? site : "");
	buf_puts(out, "\" MasterSiteCode=\"");
	buf_xml(out, site ? site : "");
	buf_puts(out, "\" SiteLocality=\"LOCAL\"/><LocationRecords/></Site></Sites>"
		"<RelatedContentIDs/></ContentLocationReply>");
}

/* The text of the reply, UTF-8. */
static void compose_text(const struct mp_request *m, struct request *q,
	struct buf *out)
{
	const struct element *package = xml_child(m->body, "Package");
	const char *id = xml_attribute(package, "ID");
	const char *version = xml_attribute(package, "Version");
	const char *azure = xml_attribute(xml_child(m->body, "ClientLocationInfo"),
		"UseAzure");
	char name[256], flat[256];
	bool is_found = false;

	snprintf(flat, sizeof flat, "%s", id);
	for (char *s = flat; *s; s++)
		if (*s == ':')
			*s = '_';
	if (version && version[0] && strlen(version) == strspn(version, "0123456789")
	    && (size_t)snprintf(name, sizeof name, "replies/%s.%s.xml", flat,
			version) < sizeof name)
		is_found = read_file(q->options->dir, name, out);
	if (!is_found && (size_t)snprintf(name, sizeof name, "replies/%s.xml",
			flat) < sizeof name)
		is_found = read_file(q->options->dir, name, out);
	note(q, "reply_file", is_found ? name : NULL);
	if (!is_found)
		empty_reply(m, out);
	if (azure && !strcmp(azure, "0")) {
		char count[16];
		snprintf(count, sizeof count, "%d", cut_cloud(out));
		note_raw(q, "cloud_records_cut", count);
	}
}

/* The reply's text as it goes on the wire, before it is compressed. */
static void compose_utf16(const struct script *s, const struct mp_request *m,
	struct request *q, struct buf *out)
{
	struct buf text = {0};

	if (script_file(s, q, "bodyraw", out))
		return;
	if (!script_file(s, q, "body", &text))
		compose_text(m, q, &text);
	if (script_has(s, "bom"))
		buf_add(out, "\xff\xfe", 2);
	if (!utf8_to_utf16(out, text.p, text.n))
		fprintf(stderr, "mp: the reply is not valid UTF-8\n");
	if (!script_has(s, "nonul"))
		buf_add(out, "\0\0", 2);
	buf_free(&text);
}

static void pack(struct buf *out, const struct buf *in)
{
	uLongf n = compressBound(in->n);
	char *area = must_alloc(n);

	if (compress2((unsigned char *)area, &n, (const unsigned char *)buf_text(in),
			in->n, 6) != Z_OK)
		abort();
	buf_add(out, area, n);
	free(area);
}

static void reply_msg(const struct mp_request *m, bool is_packed, size_t length,
	struct buf *out)
{
	const char *id = xml_text(xml_child(m->msg, "ID"));
	const char *to = xml_text(xml_child(m->msg, "ReplyTo"));
	const char *from = xml_text(xml_child(m->msg, "TargetHost"));
	/* direct:<host>:<endpoint> */
	const char *endpoint = to ? strrchr(to, ':') : NULL;
	char when[32];
	time_t now = time(NULL);
	struct tm tm;

	strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	buf_puts(out, is_packed ? "<Msg ReplyCompression=\"zlib\"" : "<Msg");
	buf_printf(out, " SchemaVersion=\"1.1\"><Body Type=\"ByteRange\" "
		"Length=\"%zu\" Offset=\"0\"/><CorrelationID>", length);
	buf_xml(out, id ? id : "");
	buf_puts(out, "</CorrelationID>");
	buf_puts(out, is_packed
		? "<Hooks><Hook3 Name=\"zlib-compress\"/></Hooks>" : "<Hooks/>");
	buf_puts(out, "<ID>{8A3D0C52-1111-4000-8000-00000000B0B0}</ID>"
		"<Payload Type=\"inline\"/><Priority>0</Priority>"
		"<Protocol>http</Protocol><ReplyMode>Sync</ReplyMode><ReplyTo/>"
		"<SentTime>");
	buf_puts(out, when);
	buf_puts(out, "</SentTime><SourceHost>");
	buf_xml(out, from ? from : "");
	buf_puts(out, "</SourceHost><TargetAddress>");
	buf_xml(out, to ? to : "");
	buf_puts(out, "</TargetAddress><TargetEndpoint>");
	buf_xml(out, endpoint ? endpoint + 1 : "");
	buf_puts(out, "</TargetEndpoint><TargetHost/><Timeout>60000</Timeout></Msg>");
}

static void compose_reply(const struct script *s, const struct mp_request *m,
	struct request *q, struct reply *r)
{
	const char *wanted = xml_attribute(m->msg, "ReplyCompression");
	bool is_packed = !wanted || strcmp(wanted, "none");
	struct buf text = {0}, header = {0}, data = {0};

	if (script_has(s, "plain"))
		is_packed = false;
	if (script_has(s, "zlib") || script_has(s, "rawpart2"))
		is_packed = true;
	compose_utf16(s, m, q, &text);
	reply_msg(m, is_packed, text.n, &header);
	if (!script_file(s, q, "rawpart2", &data)) {
		if (is_packed)
			pack(&data, &text);
		else
			buf_add(&data, text.p, text.n);
	}
	buf_puts(&r->body, "--" BOUNDARY "\r\n"
		"content-type: text/plain; charset=UTF-16\r\n\r\n\xff\xfe");
	utf8_to_utf16(&r->body, header.p, header.n);
	buf_printf(&r->body, "\r\n--" BOUNDARY "\r\ncontent-type: %s\r\n\r\n",
		is_packed ? "application/octet-stream" : "text/plain; charset=UTF-16");
	buf_add(&r->body, data.p, data.n);
	buf_puts(&r->body, "\r\n--" BOUNDARY "--\r\n");
	snprintf(r->content_type, sizeof r->content_type,
		"multipart/mixed; boundary=\"" BOUNDARY "\"");
	buf_free(&text);
	buf_free(&header);
	buf_free(&data);
}

/* ---- what is asked ---- */

static void locate(const struct script *s, const struct mp_request *m,
	struct request *q, struct reply *r, enum way way)
{
	if (!mp_request_check_location(m, q, r))
		return;
	const char *internet = xml_attribute(xml_child(m->body, "ClientLocationInfo"),
		"UseInternetDP");
	if (way != DIRECT && (!internet || strcmp(internet, "1")))
		violation(q, "through a gateway without UseInternetDP=\"1\"");
	compose_reply(s, m, q, r);
}

/* The endpoints that exist; registration and policy will stand here too. */
static const struct {
	const char *name;
	void (*serve)(const struct script *s, const struct mp_request *m,
		struct request *q, struct reply *r, enum way way);
} endpoints[] = {
	{"MP_LocationManager", locate},
};

static void route(const struct script *s, const struct mp_request *m,
	struct request *q, struct reply *r, enum way way)
{
	const char *name = xml_text(xml_child(m->msg, "TargetEndpoint"));

	for (size_t i = 0; i < sizeof endpoints / sizeof *endpoints; i++) {
		if (name && !strcmp(name, endpoints[i].name)) {
			endpoints[i].serve(s, m, q, r, way);
			return;
		}
	}
	refuse(q, r, 500, NULL, "unknown TargetEndpoint %s", name ? name : "");
}

static void message(struct request *q, struct reply *r, enum way way)
{
	struct mp_request m = {0};
	struct script s;

	if (strcmp(q->method, "CCM_POST")) {
		refuse(q, r, 405, NULL, "method %s", q->method);
		return;
	}
	script_load(&s, q, "location", "location");
	if (mp_request_parse(&m, q, r))
		route(&s, &m, q, r, way);
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
