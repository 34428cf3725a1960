#include "tests/unit/test.h"

#include "agent/net/ccm.h"

#include <stdlib.h>
#include <time.h>
#include <zlib.h>

/* Replies are composed here, by hand, and not by the encoder under test. */

#define TYPE "multipart/mixed; boundary=\"bnd\""
#define BINARY "content-type: application/octet-stream\r\n\r\n"
#define TEXT "content-type: text/plain; charset=UTF-16\r\n\r\n"
#define END "\r\n--bnd--\r\n"

static const struct ccm_message example = {
	.endpoint = "MP_LocationManager",
	.reply_to = "LS_ReplyLocations",
	.source_id = "GUID:D2A91F63-7C18-4B57-8E0A-5523C0A1B9F4",
	.source_host = "pear",
	.target_host = "mp2.example.com",
	.body = { "<A b=\"\xc3\xa9\"/>", 11 },
	.message_id = "7B0D5E90-31C2-4E0B-9A44-0F5B6D2C8E71",
	.boundary = "bnd",
	.sent_time = "2026-03-02T07:45:10Z",
};

/* ASCII as UTF-16LE. */
static void add_wide(struct buf *out, const char *text)
{
	for (; *text; text++) {
		buf_char(out, *text);
		buf_char(out, '\0');
	}
}

static void add_zlib(struct buf *out, struct span raw)
{
	uLongf n = compressBound(raw.len);
	Bytef *area = malloc(n);
	assert_non_null(area);
	assert_int_equal(compress(area, &n, (const Bytef *)raw.at, raw.len), Z_OK);
	buf_add(out, area, n);
	free(area);
}

static void add_msg(struct buf *out)
{
	buf_text(out, "--bnd\r\n" TEXT "\xff\xfe");
	add_wide(out, "<Msg SchemaVersion=\"1.1\"><Hooks/></Msg>");
	buf_text(out, "\r\n--bnd\r\n");
}

/* A whole compressed reply around a document given as UTF-16. */
static void compose(struct buf *out, struct span document)
{
	out->max = 64u << 20;
	add_msg(out);
	buf_text(out, BINARY);
	add_zlib(out, document);
	buf_text(out, END);
}

/* A whole plain reply. */
static void compose_plain(struct buf *out, struct span document)
{
	add_msg(out);
	buf_text(out, TEXT);
	buf_span(out, document);
	buf_text(out, END);
}

static enum err_code decode(const struct buf *body, const char *type,
			    struct buf *xml, struct err *e)
{
	/* its own allocation, so that ASan sees every byte too many */
	char *copy = malloc(body->len ? body->len : 1);
	assert_non_null(copy);
	if (body->len)
		memcpy(copy, body->at, body->len);
	enum err_code rc = ccm_decode((struct span){ copy, body->len }, type, xml, e);
	free(copy);
	return rc;
}

static void expect_text(const struct buf *body, const char *type,
			const char *expected)
{
	struct err e = { 0 };
	autobuf xml = { 0 };
	assert_ok(decode(body, type, &xml, &e));
	assert_string_equal(xml.at, expected);
}

static void expect_refused(struct span body, const char *type, const char *why)
{
	struct err e = { 0 };
	autobuf xml = { 0 };
	autobuf copy = { .max = 64u << 20 };
	buf_span(&copy, body);
	assert_err(decode(&copy, type, &xml, &e), ERR_MP_REPLY);
	if (!strstr(e.text, why))
		fail_msg("\"%s\" is not in \"%s\"", why, e.text);
}

/* --- encode -------------------------------------------------------------- */

static void encode(const struct ccm_message *m, struct buf *out)
{
	struct err e = { 0 };
	assert_ok(ccm_encode(m, out, &e));
}

static const char *find(const struct buf *b, const char *bytes, size_t len)
{
	return memmem(b->at, b->len, bytes, len);
}

TEST(ccm_encode__plain__is_the_table_of_1_4_byte_by_byte)
{
	autobuf got = { 0 };
	autobuf expected = { 0 };
	struct ccm_message m = example;
	m.is_plain = true;
	encode(&m, &got);
	buf_text(&expected, "--bnd\r\ncontent-type: text/plain; charset=UTF-16\r\n"
			    "\r\n\xff\xfe");
	add_wide(&expected,
		 "<Msg SchemaVersion=\"1.1\" ReplyCompression=\"zlib\">"
		 "<ID>{7B0D5E90-31C2-4E0B-9A44-0F5B6D2C8E71}</ID>"
		 "<CorrelationID>{00000000-0000-0000-0000-000000000000}"
		 "</CorrelationID>"
		 "<SourceID>GUID:D2A91F63-7C18-4B57-8E0A-5523C0A1B9F4</SourceID>"
		 "<SourceHost>pear</SourceHost>"
		 "<TargetAddress>mp:[http]MP_LocationManager</TargetAddress>"
		 "<TargetEndpoint>MP_LocationManager</TargetEndpoint>"
		 "<TargetHost>mp2.example.com</TargetHost>"
		 "<ReplyTo>direct:pear:LS_ReplyLocations</ReplyTo>"
		 "<ReplyMode>Sync</ReplyMode><Protocol>http</Protocol>"
		 "<Priority>3</Priority><Timeout>60000</Timeout>"
		 "<SentTime>2026-03-02T07:45:10Z</SentTime>"
		 "<Body Type=\"ByteRange\" Offset=\"0\" Length=\"22\"/>"
		 "<Payload Type=\"inline\"/><Hooks/></Msg>");
	buf_text(&expected, "\r\n--bnd\r\n"
			    "content-type: text/plain; charset=UTF-16\r\n\r\n");
	buf_add(&expected, "<\0A\0 \0b\0=\0\"\0\xe9\0\"\0/\0>\0\0\0\0\0", 24);
	buf_text(&expected, "\r\n--bnd--\r\n");
	assert_int_equal(got.len, expected.len);
	assert_memory_equal(got.at, expected.at, got.len);
}

TEST(ccm_encode__compressed__document_with_one_zero_in_one_zlib_stream)
{
	autobuf got = { 0 };
	autobuf hook = { 0 };
	encode(&example, &got);
	add_wide(&hook, "<Hooks><Hook3 Name=\"zlib-compress\"/></Hooks></Msg>");
	buf_text(&hook, "\r\n--bnd\r\ncontent-type: application/octet-stream\r\n\r\n");
	const char *at = find(&got, hook.at, hook.len);
	assert_non_null(at);
	at += hook.len;
	size_t len = (size_t)(got.at + got.len - at) - strlen(END);
	assert_memory_equal(at + len, END, strlen(END));
	Bytef raw[64];
	uLongf n = sizeof(raw);
	assert_int_equal(uncompress(raw, &n, (const Bytef *)at, len), Z_OK);
	assert_int_equal(n, 22);
	assert_memory_equal(raw, "<\0A\0 \0b\0=\0\"\0\xe9\0\"\0/\0>\0\0\0", 22);
}

TEST(ccm_encode__anonymous__source_id_is_empty)
{
	autobuf got = { 0 };
	autobuf expected = { 0 };
	struct ccm_message m = example;
	m.source_id = "";
	encode(&m, &got);
	add_wide(&expected, "<SourceID></SourceID>");
	assert_non_null(find(&got, expected.at, expected.len));
}

/* Signs by writing down what it was given, in hex. */
static enum err_code sign(const void *arg, struct span bytes, struct buf *hex,
			  struct err *e)
{
	if (arg)
		return err_set(e, ERR_INTERNAL, "no key");
	for (size_t i = 0; i < bytes.len; i++)
		buf_print(hex, "%02X", (unsigned char)bytes.at[i]);
	return ERR_OK;
}

/* The text of the <Msg> in front of a message: ASCII again. */
static void msg_of(const struct buf *message, struct buf *out)
{
	const char *at = find(message, "\xff\xfe", 2);
	assert_non_null(at);
	for (at += 2; at[0] != '\r'; at += 2)
		buf_char(out, at[0]);
}

TEST(ccm_encode__signed__hook_over_part_2_as_sent)
{
	for (int is_plain = 0; is_plain < 2; is_plain++) {
		autobuf got = { 0 };
		autobuf msg = { 0 };
		autobuf expected = { .max = 1 << 16 };
		struct ccm_message m = example;
		m.is_plain = is_plain;
		m.source_id = "GUID:ab";
		m.sign = sign;
		m.public_key = SPAN_LIT("0602");
		encode(&m, &got);
		msg_of(&got, &msg);
		/* part 2, by hand: behind the last empty line, before the end */
		const char *part = find(&got, is_plain ? TEXT "<" : BINARY,
					strlen(is_plain ? TEXT "<" : BINARY));
		assert_non_null(part);
		part += strlen(is_plain ? TEXT : BINARY);
		struct span sent = { part, (size_t)(got.at + got.len - part) -
						   strlen(END) };
		buf_text(&expected, "<Hooks><Hook2 Name=\"clientauth\">"
				    "<Property Name=\"AuthSenderMachine\">pear"
				    "</Property><Property Name=\"PublicKey\">0602"
				    "</Property><Property Name=\"ClientIDSignature\">"
				    "47005500490044003A00410042000000</Property>"
				    "<Property Name=\"PayloadSignature\">");
		struct err e = { 0 };
		assert_ok(sign(NULL, sent, &expected, &e));
		buf_text(&expected, "</Property><Property Name="
				    "\"ClientCapabilities\">NonSSL</Property>"
				    "<Property Name=\"HashAlgorithm\">"
				    "1.2.840.113549.1.1.11</Property></Hook2>");
		buf_text(&expected, is_plain ? "" :
					       "<Hook3 Name=\"zlib-compress\"/>");
		buf_text(&expected, "</Hooks></Msg>");
		if (!strstr(msg.at, expected.at))
			fail_msg("%s\nis not in\n%s", expected.at, msg.at);
	}
}

TEST(ccm_encode__cannot_be_signed__no_message)
{
	struct err e = { 0 };
	autobuf out = { 0 };
	struct ccm_message m = example;
	m.sign = sign;
	m.sign_arg = "x";
	assert_err(ccm_encode(&m, &out, &e), ERR_INTERNAL);
}

TEST(ccm_encode__host_with_markup__becomes_question_marks)
{
	autobuf got = { 0 };
	autobuf expected = { 0 };
	struct ccm_message m = example;
	m.source_host = "a<b>&\n";
	encode(&m, &got);
	add_wide(&expected, "<SourceHost>a?b??" "?</SourceHost>");
	assert_non_null(find(&got, expected.at, expected.len));
}

TEST(ccm_encode__body_not_utf8__internal)
{
	static const char *const bad[] = { "\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80",
					   "\xf4\x90\x80\x80", "a\x80" };
	for (size_t i = 0; i < 6; i++) {
		struct err e = { 0 };
		autobuf out = { 0 };
		struct ccm_message m = example;
		m.body = span_of(bad[i]);
		assert_err(ccm_encode(&m, &out, &e), ERR_INTERNAL);
	}
}

TEST(ccm_content_type__quotes_the_boundary)
{
	autobuf out = { 0 };
	ccm_content_type(&example, &out);
	assert_string_equal(out.at, TYPE);
}

TEST(ccm__what_is_encoded__is_decoded_again)
{
	for (int is_plain = 0; is_plain < 2; is_plain++) {
		autobuf out = { 0 };
		struct ccm_message m = example;
		m.is_plain = is_plain;
		encode(&m, &out);
		expect_text(&out, TYPE, "<A b=\"\xc3\xa9\"/>");
	}
}

/* --- UTF-16 -------------------------------------------------------------- */

TEST(ccm_utf16__all_lengths_of_utf8__there_and_back)
{
	static const char text[] = "z\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf"
				   "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf";
	struct err e = { 0 };
	autobuf wide = { 0 };
	autobuf back = { 0 };
	assert_ok(ccm_utf8_to_utf16(span_of(text), &wide, &e));
	assert_int_equal(wide.len, 20);
	assert_memory_equal(wide.at, "z\0\x7f\0\x80\0\xff\7\0\x08\xff\xff"
				     "\0\xd8\0\xdc\xff\xdb\xff\xdf", 20);
	assert_ok(ccm_utf16_to_utf8(buf_as_span(&wide), &back, &e));
	assert_string_equal(back.at, text);
}

TEST(ccm_utf16_to_utf8__broken__mp_reply)
{
	static const struct {
		struct span text;
		const char *why;
	} table[] = {
		{ { "a\0b", 3 }, "odd number" },
		{ { "a\0\0\0b\0", 6 }, "NUL" },
		{ { "\0\xd8", 2 }, "half a character" },
		{ { "\0\xd8" "a\0", 4 }, "half a character" },
		{ { "\0\xdc\0\xd8", 4 }, "half a character" },
		{ { "\0\xd8\0\xd8", 4 }, "half a character" },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct err e = { 0 };
		autobuf out = { 0 };
		assert_err(ccm_utf16_to_utf8(table[i].text, &out, &e), ERR_MP_REPLY);
		assert_non_null(strstr(e.text, table[i].why));
	}
}

/* --- decode: what a management point may send ---------------------------- */

TEST(ccm_decode__compressed__text)
{
	autobuf body = { 0 };
	compose(&body, (struct span){ "<\0a\0/\0>\0\0\0", 10 });
	expect_text(&body, TYPE, "<a/>");
}

TEST(ccm_decode__plain__second_part)
{
	autobuf body = { 0 };
	compose_plain(&body, (struct span){ "<\0a\0/\0>\0\0\0\0\0", 12 });
	expect_text(&body, TYPE, "<a/>");
}

TEST(ccm_decode__mark_and_any_zeros__text)
{
	static const struct span forms[] = {
		{ "<\0a\0/\0>\0", 8 },
		{ "\xff\xfe<\0a\0/\0>\0", 10 },
		{ "\xff\xfe<\0a\0/\0>\0\0\0\0\0\0\0", 16 },
	};
	for (size_t i = 0; i < 3; i++) {
		autobuf packed = { 0 };
		autobuf plain = { 0 };
		compose(&packed, forms[i]);
		compose_plain(&plain, forms[i]);
		expect_text(&packed, TYPE, "<a/>");
		expect_text(&plain, TYPE, "<a/>");
	}
}

TEST(ccm_decode__parts_in_the_other_order__document)
{
	autobuf packed = { 0 };
	autobuf plain = { 0 };
	buf_text(&packed, "--bnd\r\n" BINARY);
	add_zlib(&packed, (struct span){ "<\0a\0/\0>\0\0\0", 10 });
	buf_text(&plain, "--bnd\r\n" TEXT);
	buf_add(&plain, "<\0a\0/\0>\0\0\0", 10);
	struct buf *both[] = { &packed, &plain };
	for (int i = 0; i < 2; i++) {
		buf_text(both[i], "\r\n--bnd\r\n" TEXT "\xff\xfe");
		add_wide(both[i], "<Msg/>");
		buf_text(both[i], END);
		expect_text(both[i], TYPE, "<a/>");
	}
}

TEST(ccm_decode__content_types_in_the_wild__boundary_found)
{
	static const char *const types[] = {
		"multipart/mixed; boundary=bnd",
		"multipart/mixed;boundary=\"bnd\"",
		"MULTIPART/MIXED; Boundary=bnd",
		"multipart/mixed; charset=utf-16; boundary=bnd ; x=\"a;b=c\"",
		"multipart/mixed; x=\"boundary=no;\"; boundary = \"bnd\"",
		"multipart/form-data; boundary=bnd",
	};
	autobuf body = { 0 };
	compose(&body, (struct span){ "<\0a\0/\0>\0\0\0", 10 });
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		expect_text(&body, types[i], "<a/>");
}

TEST(ccm_decode__content_types_without_boundary__refused)
{
	static const char *const types[] = {
		"", ";", "multipart", "multipart/", "multipart/mixed",
		"multipart/mixed;", "multipart/mixed; boundary",
		"multipart/mixed; boundary=", "multipart/mixed; boundary=\"\"",
		"multipart/mixed; boundary=\"bnd", "text/html; charset=utf-8",
		"text/plain; boundary=bnd", "multipart/mixed; boundary=\"b\x01\"",
		("multipart/mixed; boundary=seventy-one-bytes-are-one-more-than-the-"
		 "seventy-that-rfc-2046-allows-xy"),
	};
	autobuf body = { 0 };
	compose(&body, (struct span){ "<\0a\0/\0>\0\0\0", 10 });
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		expect_refused(buf_as_span(&body), types[i], "content type");
}

TEST(ccm_decode__preamble_epilogue_more_headers__text)
{
	autobuf body = { 0 };
	buf_text(&body, "This is a message\r\nof --bnd parts, not --bndx\r\n--bndx\r\n"
			"--bnd  \r\nX-Odd: 1\r\n\tgoes on\r\n" TEXT);
	add_wide(&body, "<Msg/>");
	buf_text(&body, "\r\n--bnd\r\nContent-Disposition: form-data; name=\"x\"\r\n"
			"Content-Length: 99999999999999999999\r\n"
			"Content-Transfer-Encoding: Binary\r\n"
			"CONTENT-TYPE:application/octet-stream ; a=b\r\n\r\n");
	add_zlib(&body, (struct span){ "<\0a\0/\0>\0\0\0", 10 });
	buf_text(&body, "\r\n--bnd-- \t\r\n--bnd\r\n\r\nafter the end");
	expect_text(&body, TYPE, "<a/>");
}

TEST(ccm_decode__line_feeds_only__carriage_return_stays_with_the_content)
{
	autobuf body = { 0 };
	buf_text(&body, "--bnd\n\n<");
	buf_char(&body, '\0');
	buf_text(&body, "M");
	buf_char(&body, '\0');
	buf_text(&body, "\n--bnd\n\n");
	buf_add(&body, "<\0a\0/\0>\0\r", 9); /* U+0D0D: its last byte is a CR */
	buf_text(&body, "\r\n--bnd--");
	expect_text(&body, TYPE, "<a/>\xe0\xb4\x8d");
}

TEST(ccm_decode__crlf_behind_the_stream__is_no_junk)
{
	autobuf body = { 0 };
	add_msg(&body);
	buf_text(&body, BINARY);
	add_zlib(&body, (struct span){ "<\0a\0/\0>\0\0\0", 10 });
	buf_text(&body, "\r\n" END);
	expect_text(&body, TYPE, "<a/>");
}

TEST(ccm_decode__stream_that_holds_delimiter_like_bytes__text)
{
	autobuf body = { 0 };
	buf_text(&body, "--bnd\r\n" TEXT "\r\n--bnd\r\n" BINARY);
	/* a stored block: zlib passes these bytes through */
	static const char raw[] = "-\0-\0\n\0-\0-\0b\0n\0d\0x\0";
	Bytef area[128];
	uLongf n = sizeof(area);
	assert_int_equal(compress2(area, &n, (const Bytef *)raw, sizeof(raw) - 1, 0),
			 Z_OK);
	buf_add(&body, area, n);
	buf_text(&body, END);
	expect_text(&body, TYPE, "--\n--bndx");
}

/* --- decode: P5, what is no reply ---------------------------------------- */

TEST(ccm_decode__empty_body__client_not_known)
{
	struct err e = { 0 };
	autobuf body = { 0 };
	autobuf xml = { 0 };
	assert_err(decode(&body, TYPE, &xml, &e), ERR_MP_AUTH);
	assert_non_null(strstr(e.text, "does not know this client"));
}

TEST(ccm_decode__login_page__refused_with_its_type)
{
	expect_refused(SPAN_LIT("<html><body>Sign in</body></html>"),
		       "text/html; charset=utf-8", "\"text/html; charset=utf-8\"");
}

/* The multipart corpus of generate-hostile-inputs.py, as far as it is short. */
TEST(ccm_decode__odd_multipart__refused_with_its_reason)
{
	static const struct {
		struct span body;
		const char *why;
	} table[] = {
#define CASE(text, why) { { text, sizeof(text) - 1 }, why }
		CASE("no boundary here", "boundary does not occur"),
		CASE("--bn\r\n\r\nx\r\n--bn--", "boundary does not occur"),
		CASE("x--bnd\r\n\r\nx\r\ny--bnd--", "boundary does not occur"),
		CASE("--bnd", "boundary does not occur"),
		CASE("--bnd\r", "boundary does not occur"),
		CASE("--bnd\r\n", "headers of a part have no end"),
		CASE("--bnd\r\nContent-Type: text/xml\r\n\r\n<a/>", "last boundary"),
		CASE("--bnd\r\n\r\nx\r\n--bnd\r\n\r\ny\r\n--bnd-", "last boundary"),
		CASE("--bnd\nContent-Type: text/xml\n\n<a/>\n--bnd--", "no part"),
		CASE("junk\r\n--bnd\r\n\r\nx\r\n--bnd--\r\nepilogue", "no part"),
		CASE("--bnd\r\n\r\n\r\n--bnd--", "no part"),
		CASE("--bnd\r\n\r\n--bnd--", "no part"),
		CASE("--bnd\r\n--bnd--", "headers of a part have no end"),
		CASE("--bnd\r\n--bnd--\r\n\r\n", "no header"),
		CASE("--bndx\r\n\r\nA\r\n--bnd--", "no part"),
		CASE("--bnd\r\n\r\nfoo\r\n--bn\r\nd\r\n--bnd--", "no part"),
		CASE("--bnd\r\nContent-Type: te\0xt\r\n\r\nz\r\n--bnd--", "no header"),
		CASE("--bnd\r\nContent-Type: multipart/mixed; boundary=bnd\r\n\r\n"
		     "--bnd\r\n\r\nz\r\n--bnd--\r\n--bnd--", "no part"),
		CASE("--bnd--\r\n--bnd\r\n\r\nz\r\n--bnd--", "no part"),
		CASE("--bnd\r\nContent-Transfer-Encoding: base64\r\n\r\nPGE+\r\n"
		     "--bnd--", "transfer encoding"),
		CASE("--bnd\r\nContent-Length: 99999999999999999999\r\n\r\nz\r\n"
		     "--bnd--", "no part"),
		CASE("--bnd\r\nContent-Type: a/b\r\nContent-Type: c/d\r\n\r\nz\r\n"
		     "--bnd--", "two content types"),
		CASE("--bnd\r\n\r\nx\r\n--bnd\r\n\r\n\r\n--bnd--", "empty"),
		CASE("--bnd\r\n\r\nx\r\n--bnd\r\n\r\n\0\0\0\0\r\n--bnd--", "empty"),
		CASE("--bnd\r\n\r\nx\r\n--bnd\r\n\r\nyyy\r\n--bnd--", "odd number"),
		CASE("--bnd\r\nContent-Type: application/octet-stream\r\n\r\nx\r\n"
		     "--bnd\r\nContent-Type: application/octet-stream\r\n\r\nx\r\n"
		     "--bnd--", "two parts are documents"),
		CASE("--bnd\r\nContent-Type: image/png\r\n\r\nx\r\n"
		     "--bnd\r\nContent-Type: image/png\r\n\r\nx\r\n--bnd--", "no part"),
		CASE("\0", "boundary does not occur"),
#undef CASE
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		expect_refused(table[i].body, TYPE, table[i].why);
}

static void repeat(struct buf *out, const char *text, size_t times)
{
	out->max = 64u << 20;
	while (times--)
		buf_text(out, text);
}

TEST(ccm_decode__headers_or_parts_without_end__refused_soon)
{
	autobuf lines = { 0 };
	autobuf line = { 0 };
	autobuf parts = { 0 };
	autobuf near = { 0 };
	clock_t begin = clock();
	buf_text(&lines, "--bnd\r\n");
	repeat(&lines, "X: y\r\n", 200000);
	buf_text(&lines, "\r\nz\r\n--bnd--");
	expect_refused(buf_as_span(&lines), TYPE, "headers of a part");
	buf_text(&line, "--bnd\r\nX: ");
	repeat(&line, "yyyyyyyy", 500000);
	buf_text(&line, "\r\n\r\nz\r\n--bnd--");
	expect_refused(buf_as_span(&line), TYPE, "headers of a part");
	repeat(&parts, "--bnd\r\n\r\n\r\n", 200000);
	buf_text(&parts, "--bnd--");
	expect_refused(buf_as_span(&parts), TYPE, "more than 16 parts");
	buf_text(&near, "--bnd\r\n\r\n");
	repeat(&near, "\n--bndx", 20000);
	expect_refused(buf_as_span(&near), TYPE, "last boundary");
	assert_true(clock() - begin < 2 * CLOCKS_PER_SEC);
}

TEST(ccm_decode__sixteen_parts__are_not_too_many)
{
	autobuf body = { 0 };
	repeat(&body, "--bnd\r\nContent-Type: image/png\r\n\r\nx\r\n", 15);
	buf_text(&body, "--bnd\r\n" BINARY);
	add_zlib(&body, (struct span){ "<\0a\0/\0>\0\0\0", 10 });
	buf_text(&body, END);
	expect_text(&body, TYPE, "<a/>");
}

TEST(ccm_decode__longer_than_any_reply__refused)
{
	autobuf body = { 0 };
	repeat(&body, "xxxxxxxx", (CCM_REPLY_MAX >> 3) + 1);
	expect_refused(buf_as_span(&body), TYPE, "more than 4 MiB");
}

TEST(ccm_decode__cut_anywhere__refused)
{
	autobuf body = { 0 };
	compose(&body, (struct span){ "<\0a\0/\0>\0\0\0", 10 });
	/* the line end of the last boundary is optional */
	for (size_t n = 1; n < body.len - 2; n++) {
		struct err e = { 0 };
		autobuf xml = { 0 };
		struct buf part = { .at = body.at, .len = n };
		assert_err(decode(&part, TYPE, &xml, &e), ERR_MP_REPLY);
		assert_true(e.text[0]);
	}
}

TEST(ccm_decode__any_bit_flipped__never_worse_than_an_error)
{
	autobuf body = { 0 };
	compose_plain(&body, (struct span){ "<\0a\0/\0>\0\0\0", 10 });
	autobuf packed = { 0 };
	compose(&packed, (struct span){ "<\0a\0/\0>\0\0\0", 10 });
	struct buf *both[] = { &body, &packed };
	for (size_t i = 0; i < 2; i++)
		for (size_t bit = 0; bit < 8 * both[i]->len; bit++) {
			struct err e = { 0 };
			autobuf xml = { 0 };
			char *at = &both[i]->at[bit / 8];
			*at = (char)(*at ^ 1 << bit % 8);
			enum err_code rc = decode(both[i], TYPE, &xml, &e);
			assert_true(rc == ERR_OK || rc == ERR_MP_REPLY);
			*at = (char)(*at ^ 1 << bit % 8);
		}
}

/* --- inflate: R2 --------------------------------------------------------- */

static enum err_code inflate_copy(struct span in, struct buf *out, struct err *e)
{
	char *copy = malloc(in.len ? in.len : 1);
	assert_non_null(copy);
	memcpy(copy, in.at, in.len);
	enum err_code rc = ccm_inflate((struct span){ copy, in.len }, out, e);
	free(copy);
	return rc;
}

static void expect_no_stream(struct span in, const char *why)
{
	struct err e = { 0 };
	autobuf out = { 0 };
	assert_err(inflate_copy(in, &out, &e), ERR_MP_REPLY);
	if (!strstr(e.text, why))
		fail_msg("\"%s\" is not in \"%s\"", why, e.text);
	assert_true(out.len <= CCM_INFLATED_MAX);
}

static void reply_stream(struct buf *out)
{
	autobuf raw = { 0 };
	repeat(&raw, "<Reply/>", 50);
	add_zlib(out, buf_as_span(&raw));
}

TEST(ccm_inflate__cut_anywhere__ends_too_early)
{
	autobuf s = { 0 };
	reply_stream(&s);
	for (size_t n = 0; n < s.len; n++)
		expect_no_stream((struct span){ s.at, n }, "ends too early");
}

TEST(ccm_inflate__any_bit_flipped__same_bytes_or_refused)
{
	autobuf s = { 0 };
	reply_stream(&s);
	for (size_t bit = 0; bit < 8 * s.len; bit++) {
		struct err e = { 0 };
		autobuf out = { 0 };
		s.at[bit / 8] = (char)(s.at[bit / 8] ^ 1 << bit % 8);
		if (inflate_copy(buf_as_span(&s), &out, &e) == ERR_OK)
			assert_int_equal(out.len, 400); /* a bit of no meaning */
		else
			assert_err(e.code, ERR_MP_REPLY);
		s.at[bit / 8] = (char)(s.at[bit / 8] ^ 1 << bit % 8);
	}
}

TEST(ccm_inflate__junk_behind_the_stream__refused)
{
	static const char *const junk[] = { "x", "\n", "\r", "\r\n\r\n", "\r\nx" };
	for (size_t i = 0; i < 5; i++) {
		autobuf s = { 0 };
		reply_stream(&s);
		buf_text(&s, junk[i]);
		expect_no_stream(buf_as_span(&s), "behind the compressed stream");
	}
	autobuf two = { 0 };
	reply_stream(&two);
	reply_stream(&two);
	expect_no_stream(buf_as_span(&two), "behind the compressed stream");
}

/* A stream with other window bits: 31 = gzip, -15 = bare deflate. */
static void add_deflated(struct buf *out, int window_bits, const char *dictionary,
			 size_t mebibytes)
{
	static const Bytef zeros[1u << 20];
	static Bytef area[1u << 20];
	z_stream z = { 0 };
	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, window_bits, 9,
				      Z_DEFAULT_STRATEGY), Z_OK);
	if (dictionary)
		deflateSetDictionary(&z, (const Bytef *)dictionary,
				     (uInt)strlen(dictionary));
	out->max = 64u << 20;
	for (size_t i = 0; i < mebibytes || i == 0; i++) {
		z.next_in = (Bytef *)(uintptr_t)zeros;
		z.avail_in = mebibytes ? sizeof(zeros) : 8;
		do {
			z.next_out = area;
			z.avail_out = sizeof(area);
			deflate(&z, i + 1 >= mebibytes ? Z_FINISH : Z_NO_FLUSH);
			buf_add(out, area, sizeof(area) - z.avail_out);
		} while (z.avail_out == 0);
	}
	deflateEnd(&z);
}

TEST(ccm_inflate__other_formats__refused)
{
	autobuf gzip = { 0 };
	autobuf bare = { 0 };
	autobuf dictionary = { 0 };
	add_deflated(&gzip, 31, NULL, 0);
	add_deflated(&bare, -15, NULL, 0);
	add_deflated(&dictionary, 15, "<Reply/>", 0);
	expect_no_stream(buf_as_span(&gzip), "no zlib stream");
	expect_no_stream(buf_as_span(&bare), "no zlib stream");
	expect_no_stream(buf_as_span(&dictionary), "dictionary");
	expect_no_stream(SPAN_LIT("junkjunkjunk"), "no zlib stream");
}

TEST(ccm_inflate__bomb__refused_early_with_little_output)
{
	autobuf s = { 0 };
	autobuf out = { 0 };
	struct err e = { 0 };
	add_deflated(&s, 15, NULL, 64);
	clock_t begin = clock();
	assert_err(inflate_copy(buf_as_span(&s), &out, &e), ERR_MP_REPLY);
	assert_true(clock() - begin < CLOCKS_PER_SEC);
	assert_true(out.len <= CCM_INFLATED_MAX);
}

TEST(ccm_inflate__small_bomb__ratio)
{
	autobuf s = { 0 };
	add_deflated(&s, 15, NULL, 1);
	assert_true(s.len < 2048);
	expect_no_stream(buf_as_span(&s), "times longer");
}

TEST(ccm_decode__honest_list_of_the_greatest_length__is_no_bomb)
{
	autobuf text = { .max = 16u << 20 };
	autobuf wide = { .max = 16u << 20 };
	autobuf body = { 0 };
	autobuf xml = { 0 };
	struct err e = { 0 };
	for (int i = 0; i < 2000; i++)
		buf_print(&text, "<LocationRecord><URL Name=\"http://dp%04d.example"
			  "/SMS_DP_SMSPKG$/ABC00042\" Signature=\"http://dp%04d."
			  "example/SMS_DP_SMSSIG$/ABC00042.3.tar\"/><ADSite Name="
			  "\"Default-First-Site-Name\"/><IPSubnets><IPSubnet Add"
			  "ress=\"\"/></IPSubnets><Metric Value=\"\"/><Version>9128"
			  "</Version><Capabilities SchemaVersion=\"1.0\"><Property"
			  " Name=\"SSLState\" Value=\"0\"/></Capabilities><ServerRe"
			  "moteName>dp%04d.example</ServerRemoteName><DPType>"
			  "SERVER</DPType><Windows Trust=\"1\"/><Locality>"
			  "BOUNDARYGROUP</Locality></LocationRecord>", i, i, i);
	add_wide(&wide, text.at);
	compose(&body, buf_as_span(&wide));
	assert_ok(decode(&body, TYPE, &xml, &e));
	assert_int_equal(xml.len, text.len);
}
