#include "mp_reply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zlib.h>

#define BOUNDARY "aAbBcCdDv1234567890VxXyYzZ"

void mp_time(char *out, size_t size)
{
	time_t now = time(NULL);
	struct tm tm;

	strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
}

void mp_reply_nothing(struct request *q, struct reply *r, const char *why)
{
	refuse(q, r, 200, NULL, "%s", why);
	violation(q, "%s", why);
	buf_free(&r->body);
	r->content_type[0] = 0;
}

/* The reply's text as it goes on the wire, before it is compressed. */
static void compose_utf16(const struct script *s, struct request *q,
	const struct buf *usual, struct buf *out)
{
	struct buf text = {0};

	if (script_file(s, q, "bodyraw", out))
		return;
	if (!script_file(s, q, "body", &text))
		buf_add(&text, buf_text(usual), usual->n);
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

	mp_time(when, sizeof when);
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

void mp_reply(const struct script *s, const struct mp_request *m, struct request *q,
	struct reply *r, const struct buf *usual)
{
	const char *wanted = xml_attribute(m->msg, "ReplyCompression");
	bool is_packed = !wanted || strcmp(wanted, "none");
	struct buf text = {0}, header = {0}, data = {0};

	if (script_has(s, "plain"))
		is_packed = false;
	if (script_has(s, "zlib") || script_has(s, "rawpart2"))
		is_packed = true;
	compose_utf16(s, q, usual, &text);
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
