#include "agent/net/ccm.h"

#include "common/own.h"
#include "common/utf8.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#define ZLIB_CONST
#include <zlib.h>

#define BOUNDARY_MAX 70          /* bytes, RFC 2046 s5.1.1 */
#define PART_HEAD_MAX (8u << 10) /* header block of one part, bytes */
#define RATIO_FROM (64u << 10)   /* inflated bytes that any reply may have */
#define ENCODED_MAX (1u << 20)   /* of a request, bytes */

static const struct span mark = { "\xff\xfe", 2 }; /* of UTF-16LE */

/* --- texts --------------------------------------------------------------- */

static void add_unit(struct buf *out, uint32_t unit)
{
	char bytes[2] = { (char)(unit & 0xff), (char)(unit >> 8) };
	buf_add(out, bytes, sizeof(bytes));
}

enum err_code ccm_utf8_to_utf16(struct span text, struct buf *out, struct err *e)
{
	while (text.len) {
		uint32_t point = 0;
		size_t n = utf8_first(text, &point);
		if (n == 0)
			return err_set(e, ERR_INTERNAL, "encode message: not UTF-8");
		if (point >= 0x10000) {
			point -= 0x10000;
			add_unit(out, 0xd800 | point >> 10);
			point = 0xdc00 | (point & 0x3ff);
		}
		add_unit(out, point);
		text.at += n;
		text.len -= n;
	}
	return out->failed ? err_set(e, ERR_NOMEM, "encode message: no memory") :
			     ERR_OK;
}

static void add_point(struct buf *out, uint32_t p)
{
	char bytes[4];
	size_t n = p < 0x80 ? 1 : p < 0x800 ? 2 : p < 0x10000 ? 3 : 4;
	static const unsigned char leads[] = { 0, 0x00, 0xc0, 0xe0, 0xf0 };
	for (size_t i = n; i-- > 1; p >>= 6)
		bytes[i] = (char)(0x80 | (p & 0x3f));
	bytes[0] = (char)(leads[n] | p);
	buf_add(out, bytes, n);
}

static uint32_t unit_at(struct span text, size_t at)
{
	if (text.len - at < 2)
		return 0;
	return (unsigned char)text.at[at] |
	       (uint32_t)(unsigned char)text.at[at + 1] << 8;
}

enum err_code ccm_utf16_to_utf8(struct span text, struct buf *out, struct err *e)
{
	if (text.len % 2)
		return err_set(e, ERR_MP_REPLY,
			       "an odd number of bytes (%zu) is no UTF-16 text",
			       text.len);
	for (size_t at = 0; at < text.len; at += 2) {
		uint32_t p = unit_at(text, at);
		if (p == 0)
			return err_set(e, ERR_MP_REPLY,
				       "a NUL inside the text, at byte %zu", at);
		if (p >= 0xd800 && p <= 0xdfff) {
			uint32_t low = unit_at(text, at + 2);
			if (p >= 0xdc00 || low < 0xdc00 || low > 0xdfff)
				return err_set(e, ERR_MP_REPLY,
					       "half a character of UTF-16, at "
					       "byte %zu", at);
			p = 0x10000 + ((p & 0x3ff) << 10 | (low & 0x3ff));
			at += 2;
		}
		add_point(out, p);
		if (out->failed)
			return err_set(e, ERR_MP_REPLY,
				       "a text of more than %zu KiB, or no memory",
				       out->max >> 10);
	}
	return ERR_OK;
}

/* --- request: docs/wire.md 1.4, 1.5 -------------------------------------- */

/* Host names, ids and endpoints: no other character has a business in them. */
static void add_word(struct buf *out, const char *word)
{
	for (; *word; word++)
		buf_char(out, isalnum((unsigned char)*word) ||
			      strchr("-._:{}[]", *word) ? *word : '?');
}

static void add_element(struct buf *out, const char *name, const char *prefix,
			const char *word)
{
	buf_print(out, "<%s>%s", name, prefix);
	add_word(out, word);
	buf_print(out, "</%s>", name);
}

static void add_property(struct buf *out, const char *name, const char *value)
{
	buf_print(out, "<Property Name=\"%s\">", name);
	add_word(out, value);
	buf_text(out, "</Property>");
}

static enum err_code add_signature(const struct ccm_message *m, const char *name,
				   struct span bytes, struct buf *out,
				   struct err *e)
{
	autobuf hex = { 0 };
	enum err_code rc = m->sign(m->sign_arg, bytes, &hex, e);
	if (rc == ERR_OK)
		add_property(out, name, hex.at ? hex.at : "");
	return rc;
}

/* Who we are: the id in capitals, in UTF-16 with its zero. */
static enum err_code add_id_signature(const struct ccm_message *m, struct buf *out,
				      struct err *e)
{
	autobuf wide = { 0 };
	for (const char *p = m->source_id; *p; p++)
		add_unit(&wide, (uint32_t)toupper((unsigned char)*p));
	add_unit(&wide, 0);
	return add_signature(m, "ClientIDSignature", buf_as_span(&wide), out, e);
}

/* docs/wire.md 2.4; `document` is part 2 as it is sent. */
static enum err_code add_hooks(const struct ccm_message *m, struct span document,
			       struct buf *out, struct err *e)
{
	enum err_code rc = ERR_OK;
	if (m->is_plain && m->sign == NULL) {
		buf_text(out, "<Hooks/>");
		return ERR_OK;
	}
	buf_text(out, "<Hooks>");
	if (m->sign) {
		buf_text(out, "<Hook2 Name=\"clientauth\">");
		add_property(out, "AuthSenderMachine", m->source_host);
		buf_text(out, "<Property Name=\"PublicKey\">");
		buf_span(out, m->public_key);
		buf_text(out, "</Property>");
		rc = add_id_signature(m, out, e);
		if (rc == ERR_OK)
			rc = add_signature(m, "PayloadSignature", document, out, e);
		add_property(out, "ClientCapabilities", "NonSSL");
		add_property(out, "HashAlgorithm", "1.2.840.113549.1.1.11");
		buf_text(out, "</Hook2>");
	}
	if (!m->is_plain)
		buf_text(out, "<Hook3 Name=\"zlib-compress\"/>");
	buf_text(out, "</Hooks>");
	return rc;
}

/* length: of the document, not compressed, with its zero. */
static enum err_code print_msg(const struct ccm_message *m, size_t length,
			       struct span document, struct buf *out, struct err *e)
{
	buf_text(out, "<Msg SchemaVersion=\"1.1\" ReplyCompression=\"zlib\"><ID>{");
	add_word(out, m->message_id);
	buf_text(out, "}</ID><CorrelationID>"
		      "{00000000-0000-0000-0000-000000000000}</CorrelationID>");
	add_element(out, "SourceID", "", m->source_id);
	add_element(out, "SourceHost", "", m->source_host);
	add_element(out, "TargetAddress", "mp:[http]", m->endpoint);
	add_element(out, "TargetEndpoint", "", m->endpoint);
	add_element(out, "TargetHost", "", m->target_host);
	buf_text(out, "<ReplyTo>direct:");
	add_word(out, m->source_host);
	buf_char(out, ':');
	add_word(out, m->reply_to);
	buf_text(out, "</ReplyTo><ReplyMode>Sync</ReplyMode>"
		      "<Protocol>http</Protocol><Priority>3</Priority>"
		      "<Timeout>60000</Timeout>");
	add_element(out, "SentTime", "", m->sent_time);
	buf_print(out, "<Body Type=\"ByteRange\" Offset=\"0\" Length=\"%zu\"/>"
		       "<Payload Type=\"inline\"/>", length);
	enum err_code rc = add_hooks(m, document, out, e);
	buf_text(out, "</Msg>");
	return rc;
}

static enum err_code add_deflated(struct buf *out, struct span text, struct err *e)
{
	uLongf room = compressBound(text.len);
	autofree Bytef *area = malloc(room);
	if (area == NULL || compress2(area, &room, (const Bytef *)text.at,
				      text.len, Z_BEST_COMPRESSION) != Z_OK)
		return err_set(e, ERR_NOMEM, "encode message: no memory");
	buf_add(out, area, room);
	return ERR_OK;
}

static enum err_code add_document(const struct ccm_message *m, struct span text,
				  struct buf *out, struct err *e)
{
	if (!m->is_plain)
		return add_deflated(out, text, e);
	buf_span(out, text);
	add_unit(out, 0); /* the plain form has one more: docs/wire.md 1.4 */
	return ERR_OK;
}

enum err_code ccm_encode(const struct ccm_message *m, struct buf *out,
			 struct err *e)
{
	autobuf text = { .max = 2 * ENCODED_MAX };
	autobuf document = { .max = 2 * ENCODED_MAX };
	autobuf msg = { .max = ENCODED_MAX };
	enum err_code rc = ccm_utf8_to_utf16(m->body, &text, e);
	add_unit(&text, 0);
	if (rc == ERR_OK)
		rc = add_document(m, buf_as_span(&text), &document, e);
	if (rc == ERR_OK)
		rc = print_msg(m, text.len, buf_as_span(&document), &msg, e);
	if (rc != ERR_OK)
		return rc;
	if (out->max == 0)
		out->max = 4 * ENCODED_MAX;
	buf_print(out, "--%s\r\ncontent-type: text/plain; charset=UTF-16\r\n\r\n",
		  m->boundary);
	buf_span(out, mark);
	rc = ccm_utf8_to_utf16(buf_as_span(&msg), out, e);
	if (rc != ERR_OK)
		return rc;
	buf_print(out, "\r\n--%s\r\ncontent-type: %s\r\n\r\n", m->boundary,
		  m->is_plain ? "text/plain; charset=UTF-16" :
				"application/octet-stream");
	buf_span(out, buf_as_span(&document));
	buf_print(out, "\r\n--%s--\r\n", m->boundary);
	return text.failed || document.failed || msg.failed || out->failed ?
		       err_set(e, ERR_NOMEM, "encode message: no memory") : ERR_OK;
}

void ccm_content_type(const struct ccm_message *m, struct buf *out)
{
	buf_print(out, "multipart/mixed; boundary=\"%s\"", m->boundary);
}

/* --- reply: multipart (RFC 2046 s5.1, docs/wire.md 1.6) ------------------ */

struct part {
	struct span type; /* value of content-type, empty = none */
	struct span data;
};

struct parts {
	struct part at[CCM_PARTS_MAX];
	size_t count;
};

/* A line "--B" or "--B--". */
struct delimiter {
	size_t begin, after; /* offsets; after its line end */
	bool is_last;
	bool is_lf; /* ended by a line feed alone */
};

static enum err_code refuse(struct err *e, const char *why)
{
	return err_set(e, ERR_MP_REPLY, "%s", why);
}

/* The value of a parameter, quoted or not; *rest moves behind it. */
static bool take_value(struct span *rest, struct span *value)
{
	*rest = span_trim(*rest);
	*value = (struct span){ rest->at, 0 };
	if (rest->len == 0 || rest->at[0] != '"') {
		span_split(rest, ';', value);
		*value = span_trim(*value);
		return true;
	}
	rest->at++, rest->len--;
	if (memchr(rest->at, '"', rest->len) == NULL)
		return false;
	span_split(rest, '"', value);
	struct span nothing;
	span_split(rest, ';', &nothing);
	return true;
}

/* Writes "--" and the boundary. */
static enum err_code find_boundary(const char *content_type, char *out,
				   size_t size, struct err *e)
{
	struct span rest = span_of(content_type), type = { "", 0 }, name, value;
	if (!span_split(&rest, ';', &type) || type.len < 10 ||
	    strncasecmp(type.at, "multipart/", 10) != 0)
		return err_set(e, ERR_MP_REPLY,
			       "content type \"%.80s\" is not multipart/mixed",
			       content_type);
	while (span_split(&rest, '=', &name)) {
		if (!take_value(&rest, &value))
			break;
		if (!span_is_nocase(span_trim(name), "boundary"))
			continue;
		bool is_good = value.len >= 1 && value.len <= BOUNDARY_MAX;
		for (size_t i = 0; is_good && i < value.len; i++)
			is_good = isprint((unsigned char)value.at[i]);
		if (!is_good)
			break;
		snprintf(out, size, "--%.*s", SPAN_ARG(value));
		return ERR_OK;
	}
	return err_set(e, ERR_MP_REPLY, "no usable boundary in content type "
		       "\"%.80s\"", content_type);
}

/* What follows the boundary on its line: "--", blanks, the line end. */
static bool ends_line(struct span body, size_t at, struct delimiter *d)
{
	d->is_last = body.len - at >= 2 && memcmp(body.at + at, "--", 2) == 0;
	at += d->is_last ? 2 : 0;
	while (at < body.len && (body.at[at] == ' ' || body.at[at] == '\t'))
		at++;
	d->after = at;
	if (at == body.len)
		return d->is_last;
	d->is_lf = body.at[at] == '\n';
	if (!d->is_lf && (body.at[at] != '\r' || body.len - at < 2 ||
			  body.at[at + 1] != '\n'))
		return false;
	d->after += d->is_lf ? 1 : 2;
	return true;
}

/* The next delimiter line at or behind `at`; a longer word than the boundary, or
 * one inside a line, is content. */
static bool find_delimiter(struct span body, struct span boundary, size_t at,
			   struct delimiter *d)
{
	while (at < body.len) {
		const char *hit = memmem(body.at + at, body.len - at,
					 boundary.at, boundary.len);
		if (hit == NULL)
			return false;
		d->begin = (size_t)(hit - body.at);
		if ((d->begin == 0 || hit[-1] == '\n') &&
		    ends_line(body, d->begin + boundary.len, d))
			return true;
		at = d->begin + 1;
	}
	return false;
}

static enum err_code part_header(struct part *p, struct span line, struct err *e)
{
	struct span name = { "", 0 };
	if (line.at[0] == ' ' || line.at[0] == '\t')
		return ERR_OK; /* goes on with parameters that we pass over */
	if (memchr(line.at, '\0', line.len) || !memchr(line.at, ':', line.len))
		return refuse(e, "a part has a line that is no header");
	span_split(&line, ':', &name);
	struct span value = span_trim(line);
	if (span_is_nocase(name, "content-type")) {
		if (p->type.len)
			return refuse(e, "a part has two content types");
		p->type = value;
	} else if (span_is_nocase(name, "content-transfer-encoding") &&
		   !span_is_nocase(value, "binary") &&
		   !span_is_nocase(value, "8bit") &&
		   !span_is_nocase(value, "7bit")) {
		return refuse(e, "a part has a transfer encoding");
	}
	return ERR_OK;
}

/* The header block of a part; *at moves behind the empty line. */
static enum err_code part_head(struct span body, size_t *at, struct part *p,
			       struct err *e)
{
	size_t first = *at;
	for (;;) {
		struct span line = { body.at + *at, 0 };
		const char *end = memchr(line.at, '\n', body.len - *at);
		if (end == NULL || (size_t)(end - body.at) - first >= PART_HEAD_MAX)
			return refuse(e, "the headers of a part have no end, or "
				      "more than 8 KiB");
		line.len = (size_t)(end - line.at);
		*at += line.len + 1;
		if (line.len && line.at[line.len - 1] == '\r')
			line.len--;
		if (line.len == 0)
			return ERR_OK;
		enum err_code rc = part_header(p, line, e);
		if (rc != ERR_OK)
			return rc;
	}
}

/* One part, from behind its delimiter to the next one, which *d becomes. */
static enum err_code take_part(struct span body, struct span boundary,
			       struct delimiter *d, struct part *p, struct err *e)
{
	size_t at = d->after;
	bool is_lf = d->is_lf;
	enum err_code rc = part_head(body, &at, p, e);
	if (rc != ERR_OK)
		return rc;
	if (!find_delimiter(body, boundary, at, d))
		return refuse(e, "the last boundary is missing");
	/* The line end before a delimiter is part of it. Where lines end in LF
	 * alone, a CR there is a byte of the content. */
	size_t end = d->begin;
	if (end > at)
		end--;
	if (end > at && !is_lf && body.at[end - 1] == '\r')
		end--;
	p->data = (struct span){ body.at + at, end - at };
	return ERR_OK;
}

static enum err_code split(struct span body, const char *content_type,
			   struct parts *out, struct err *e)
{
	char text[2 + BOUNDARY_MAX + 1];
	struct delimiter d = { 0 };
	enum err_code rc = find_boundary(content_type, text, sizeof(text), e);
	if (rc != ERR_OK)
		return rc;
	struct span boundary = span_of(text);
	if (!find_delimiter(body, boundary, 0, &d))
		return refuse(e, "the boundary does not occur");
	while (!d.is_last) {
		if (out->count == CCM_PARTS_MAX)
			return err_set(e, ERR_MP_REPLY, "more than %d parts",
				       CCM_PARTS_MAX);
		rc = take_part(body, boundary, &d, &out->at[out->count++], e);
		if (rc != ERR_OK)
			return rc;
	}
	return ERR_OK;
}

/* --- reply: the document ------------------------------------------------- */

static bool is_type(const struct part *p, const char *wanted)
{
	struct span rest = p->type, type = { "", 0 };
	span_split(&rest, ';', &type);
	type = span_trim(type);
	if (wanted[strlen(wanted) - 1] != '/')
		return span_is_nocase(type, wanted);
	return type.len > strlen(wanted) &&
	       strncasecmp(type.at, wanted, strlen(wanted)) == 0;
}

static struct span skip_mark(struct span text)
{
	if (text.len >= mark.len && memcmp(text.at, mark.at, mark.len) == 0)
		text.at += mark.len, text.len -= mark.len;
	return text;
}

static bool is_msg(const struct part *p)
{
	static const char begin[] = "<\0M\0s\0g";
	struct span text = skip_mark(p->data);
	return text.len >= sizeof(begin) &&
	       memcmp(text.at, begin, sizeof(begin)) == 0;
}

/* Which part is the document: docs/wire.md 1.6, in either order. */
static enum err_code choose(const struct parts *parts, const struct part **out,
			    bool *is_packed, struct err *e)
{
	const struct part *packed = NULL, *first = NULL, *second = NULL;
	for (size_t i = 0; i < parts->count; i++) {
		const struct part *p = &parts->at[i];
		if (is_type(p, "application/octet-stream")) {
			if (packed)
				return refuse(e, "two parts are documents");
			packed = p;
		} else if (p->type.len == 0 || is_type(p, "text/")) {
			if (first && !second)
				second = p;
			first = first ? first : p;
		}
	}
	*is_packed = packed != NULL;
	*out = packed ? packed : second && is_msg(second) ? first : second;
	return *out ? ERR_OK : refuse(e, "no part is the document");
}

static enum err_code inflate_failed(int rc, const z_stream *z, struct err *e)
{
	switch (rc) {
	case Z_MEM_ERROR:
		return err_set(e, ERR_NOMEM, "inflate: no memory");
	case Z_BUF_ERROR:
		return refuse(e, "the compressed part ends too early");
	case Z_NEED_DICT:
		return refuse(e, "the compressed part wants a dictionary");
	default:
		return err_set(e, ERR_MP_REPLY, "the compressed part is no zlib "
			       "stream: %s", z->msg ? z->msg : "broken");
	}
}

/* R2: an end for the size, and one for how much a byte may become. */
static enum err_code inflate_all(z_stream *z, struct span in, struct buf *out,
				 struct err *e)
{
	unsigned char block[16u << 10];
	size_t total = 0;
	for (int rc = Z_OK; rc != Z_STREAM_END;) {
		z->next_out = block;
		z->avail_out = sizeof(block);
		rc = inflate(z, Z_NO_FLUSH);
		if (rc != Z_OK && rc != Z_STREAM_END)
			return inflate_failed(rc, z, e);
		size_t n = sizeof(block) - z->avail_out;
		total += n;
		if (total > CCM_INFLATED_MAX)
			return err_set(e, ERR_MP_REPLY, "the compressed part holds "
				       "more than %u MiB", CCM_INFLATED_MAX >> 20);
		if (total > RATIO_FROM && total / CCM_RATIO_MAX > in.len)
			return err_set(e, ERR_MP_REPLY, "the compressed part becomes "
				       "more than %u times longer", CCM_RATIO_MAX);
		buf_add(out, block, n);
	}
	struct span tail = { (const char *)z->next_in, z->avail_in };
	if (tail.len && !span_is(tail, "\r\n"))
		return err_set(e, ERR_MP_REPLY, "%zu bytes behind the compressed "
			       "stream", tail.len);
	return out->failed ? err_set(e, ERR_NOMEM, "inflate: no memory") : ERR_OK;
}

enum err_code ccm_inflate(struct span deflated, struct buf *out, struct err *e)
{
	if (deflated.len > CCM_REPLY_MAX)
		return refuse(e, "the compressed part is too long");
	if (out->max == 0)
		out->max = CCM_INFLATED_MAX;
	z_stream z = { .next_in = (const Bytef *)deflated.at,
		       .avail_in = (uInt)deflated.len };
	if (inflateInit(&z) != Z_OK)
		return err_set(e, ERR_NOMEM, "inflate: no memory");
	enum err_code rc = inflate_all(&z, deflated, out, e);
	inflateEnd(&z);
	return rc;
}

static enum err_code take_text(struct span text, struct buf *out, struct err *e)
{
	text = skip_mark(text);
	while (text.len >= 2 && unit_at(text, text.len - 2) == 0)
		text.len -= 2;
	if (text.len == 0)
		return refuse(e, "the document is empty");
	return ccm_utf16_to_utf8(text, out, e);
}

enum err_code ccm_decode(struct span http_body, const char *content_type,
			 struct buf *out, struct err *e)
{
	struct parts parts = { .count = 0 };
	const struct part *document = NULL;
	bool is_packed = false;
	autobuf inflated = { .max = CCM_INFLATED_MAX };
	if (http_body.len == 0)
		return err_set(e, ERR_MP_AUTH,
			       "an empty reply: the site does not know this client");
	if (http_body.len > CCM_REPLY_MAX)
		return err_set(e, ERR_MP_REPLY, "a reply of more than %u MiB",
			       CCM_REPLY_MAX >> 20);
	if (out->max == 0)
		out->max = CCM_TEXT_MAX;
	enum err_code rc = split(http_body, content_type, &parts, e);
	if (rc == ERR_OK)
		rc = choose(&parts, &document, &is_packed, e);
	if (rc != ERR_OK)
		return rc;
	if (!is_packed)
		return take_text(document->data, out, e);
	rc = ccm_inflate(document->data, &inflated, e);
	return rc == ERR_OK ? take_text(buf_as_span(&inflated), out, e) : rc;
}
