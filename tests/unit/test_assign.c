#include "tests/unit/test.h"

#include "agent/keeper/identity.h"
#include "agent/net/ccm.h"
#include "agent/net/pollist.h"
#include "agent/net/polreq.h"
#include "agent/net/relay.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

/* What is said to a site and what it says; the conversation is in tests/e2e. */

/* --- registration -------------------------------------------------------- */

static struct identity *make_identity(void)
{
	struct err e = { 0 };
	autobuf pem = { 0 };
	char *path = NULL;
	assert_ok(identity_ensure(test_folder(), &path, &e));
	assert_ok(fs_read_all(AT_FDCWD, path, &pem, &e));
	free(path);
	struct identity *i = identity_new(buf_as_span(&pem), &e);
	assert_non_null(i);
	return i;
}

static const struct polreq example = {
	.host_name = { "pear.example.com", 16 },
	.fqdn = { "pear.example.com", 16 },
	.smsid = { "GUID:D2A91F63-7C18-4B57-8E0A-5523C0A1B9F4", 41 },
	.site_code = { "lab", 3 },
	.time = "2026-03-02T07:45:10Z",
};

TEST(polreq_print_registration__data_and_its_signature)
{
	struct err e = { 0 };
	autobuf xml = { 0 };
	autobuf signature = { 0 };
	struct identity *i = make_identity();
	assert_ok(polreq_print_registration(&example, i, &xml, &e));
	const char *data = strstr(xml.at, "<Data ");
	const char *end = strstr(xml.at, "</Data>");
	assert_non_null(data);
	assert_non_null(end);
	struct span signed_text = { data, (size_t)(end + 7 - data) };
	assert_ok(identity_sign_text(i, signed_text, false, &signature, &e));
	assert_memory_equal(xml.at, "<ClientRegistrationRequest><Data HashAlgorithm="
			    "\"1.2.840.113549.1.1.11\" SMSID=\"\" RequestType="
			    "\"Registration\" TimeStamp=\"2026-03-02T07:45:10Z\">",
			    139);
	/* PKCS#1 v1.5 gives the same signature each time */
	autobuf tail = { 0 };
	buf_print(&tail, "</Data><Signature><SignatureValue>%s</SignatureValue>"
			 "</Signature></ClientRegistrationRequest>", signature.at);
	assert_string_equal(end, tail.at);
	autobuf both = { 0 };
	struct span der = identity_certificate(i);
	buf_print(&both, "<Certificates><Encryption Encoding=\"HexBinary\" "
			 "KeyType=\"1\">%.*s</Encryption><Signing Encoding="
			 "\"HexBinary\" KeyType=\"1\">%.*s</Signing></Certificates>"
			 "<DiscoveryProperties><Property Name=\"Netbios Name\" "
			 "Value=\"pear\"/><Property Name=\"FQ Name\" Value="
			 "\"pear.example.com\"/>", SPAN_ARG(der), SPAN_ARG(der));
	assert_non_null(strstr(xml.at, both.at));
	identity_free(i);
}

TEST(polreq_print_assignments__as_recorded)
{
	struct err e = { 0 };
	autobuf xml = { 0 };
	assert_ok(polreq_print_assignments(&example, &xml, &e));
	assert_string_equal(xml.at,
		"<RequestAssignments SchemaVersion=\"1.00\" ACK=\"false\" "
		"RequestType=\"Always\"><Identification><Machine><ClientID>"
		"GUID:D2A91F63-7C18-4B57-8E0A-5523C0A1B9F4</ClientID><FQDN>"
		"pear.example.com</FQDN><NetBIOSName>pear</NetBIOSName><SID/>"
		"</Machine><User/></Identification><PolicySource>SMS:LAB"
		"</PolicySource><Resource ResourceType=\"Machine\"/>"
		"<ServerCookie/></RequestAssignments>");
}

TEST(pollist_parse_registered__any_root_with_an_id)
{
	struct err e = { 0 };
	char id[64];
	assert_ok(pollist_parse_registered(
		SPAN_LIT("<Anything X=\"1\" SMSID=\" GUID:AB \"><More/></Anything>"),
		id, &e));
	assert_string_equal(id, "GUID:AB");
}

TEST(pollist_parse_registered__none_or_too_long__refused)
{
	static const char *const table[] = {
		"<R/>", "<R SMSID=\"\"/>", "<R><S SMSID=\"GUID:AB\"/></R>", "", "<R",
		"<R SMSID=\"0123456789012345678901234567890123456789012345678901234567"
		"89ABCDEF\"/>",
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct err e = { 0 };
		char id[64];
		assert_err(pollist_parse_registered(span_of(table[i]), id, &e),
			   ERR_MP_REPLY);
	}
}

/* --- assignments --------------------------------------------------------- */

static void own_pollist(struct pollist *l)
{
	pollist_free(l);
}
#define autopollist __attribute__((cleanup(own_pollist))) struct pollist

#define REPLY(inside) "<ReplyAssignments SchemaVersion=\"1.00\">" inside \
	"</ReplyAssignments>"
#define POLICY(flags, location) "<PolicyAssignment><Policy PolicyID=\"{p}\" " \
	"PolicyVersion=\"1.00\" PolicyType=\"Machine\" PolicyFlags=\"" flags "\">" \
	"<PolicyLocation PolicyHash=\"SHA256:00\"><![CDATA[" location "]]>" \
	"</PolicyLocation></Policy></PolicyAssignment>"

TEST(pollist_parse__locations_of_the_answering_host__taken)
{
	static const char *const good[] = {
		REPLY(POLICY("6", "http://<mp>/SMS_MP/.sms_pol?{p}.1_00")),
		REPLY(POLICY("6", " HTTPS://<MP>/sms_mp/.SMS_POL?{p}.1_00 ")),
		REPLY(POLICY("6", "http://mp2.example.com/SMS_MP/.sms_pol?{p}.1_00")),
		REPLY(POLICY("6", "https://MP2.example.com:443/SMS_MP/.sms_pol?"
				  "{p}.1_00")),
	};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct err e = { 0 };
		autopollist l = { 0 };
		assert_ok(pollist_parse(span_of(good[i]), "mp2.example.com", &l, &e));
		assert_int_equal(l.count, 1);
		assert_int_equal(l.refused, 0);
		assert_string_equal(l.items[0].id, "{p}");
		assert_string_equal(l.items[0].version, "1.00");
		assert_string_equal(l.items[0].query, "{p}.1_00");
		assert_int_equal(l.items[0].flags,
				 POLLIST_NEEDS_AUTH | POLLIST_SECRET);
	}
}

TEST(pollist_parse__locations_elsewhere__refused_and_counted)
{
	static const char *const bad[] = {
		REPLY(POLICY("0", "http://evil.example.com/SMS_MP/.sms_pol?{p}")),
		REPLY(POLICY("0", "http://<mp>@evil.example.com/SMS_MP/.sms_pol?{p}")),
		REPLY(POLICY("0", "http://<mp>.evil.example.com/SMS_MP/.sms_pol?{p}")),
		REPLY(POLICY("0", "http://mp2.example.com.evil/SMS_MP/.sms_pol?{p}")),
		REPLY(POLICY("0", "http://<mp>/ccm_system/request?{p}")),
		REPLY(POLICY("0", "http://<mp>/SMS_MP/../x/.sms_pol?{p}")),
		REPLY(POLICY("0", "http://<mp>/SMS_MP/.sms_pol")),
		REPLY(POLICY("0", "http://<mp>/SMS_MP/.sms_pol?")),
		REPLY(POLICY("0", "http://<mp>/SMS_MP/.sms_pol?a b")),
		REPLY(POLICY("0", "http://<mp>/SMS_MP/.sms_pol?a#b")),
		REPLY(POLICY("0", "http://<mp>/SMS_MP/.sms_pol?\xc3\xa9")),
		REPLY(POLICY("0", "file:///SMS_MP/.sms_pol?{p}")),
		REPLY(POLICY("0", "")),
		REPLY("<PolicyAssignment><Policy PolicyID=\"{p}\"/>"
		      "</PolicyAssignment>"),
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err e = { 0 };
		autopollist l = { 0 };
		assert_ok(pollist_parse(span_of(bad[i]), "mp2.example.com", &l, &e));
		assert_int_equal(l.count, 0);
		assert_int_equal(l.refused, 1);
		assert_non_null(strstr(l.refused_text, "{p}"));
	}
}

TEST(pollist_parse__good_among_bad__order_kept)
{
	struct err e = { 0 };
	autopollist l = { 0 };
	assert_ok(pollist_parse(SPAN_LIT(REPLY(
		POLICY("0", "http://<mp>/SMS_MP/.sms_pol?one")
		POLICY("0", "http://evil/SMS_MP/.sms_pol?two")
		"<Unknown><Policy2/></Unknown>"
		POLICY("x", "http://<mp>/SMS_MP/.sms_pol?three"))), "mp", &l, &e));
	assert_int_equal(l.count, 2);
	assert_int_equal(l.refused, 1);
	assert_string_equal(l.items[0].query, "one");
	assert_string_equal(l.items[1].query, "three");
	assert_int_equal(l.items[1].flags, 0);
}

TEST(pollist_parse__other_document__refused)
{
	struct err e = { 0 };
	autopollist l = { 0 };
	assert_err(pollist_parse(SPAN_LIT("<html><body/></html>"), "mp", &l, &e),
		   ERR_MP_REPLY);
	assert_non_null(strstr(e.text, "<html>"));
}

TEST(pollist_parse__too_many__refused)
{
	struct err e = { 0 };
	autopollist l = { 0 };
	autobuf xml = { .max = 8u << 20 };
	buf_text(&xml, "<ReplyAssignments>");
	for (int i = 0; i <= POLLIST_MAX; i++)
		buf_text(&xml, POLICY("0", "http://<mp>/SMS_MP/.sms_pol?x"));
	buf_text(&xml, "</ReplyAssignments>");
	assert_err(pollist_parse(buf_as_span(&xml), "mp", &l, &e), ERR_MP_REPLY);
	assert_non_null(strstr(e.text, "more than 10000"));
}

/* --- bodies -------------------------------------------------------------- */

static enum err_code on_found(void *arg, const struct wire_assignment *a,
			      struct err *e)
{
	struct buf *out = arg;
	(void)e;
	buf_print(out, "%.*s|%.*s|%llu|%.*s|%.*s|%d|%.*s|%.*s\n",
		  SPAN_ARG(a->advertisement), SPAN_ARG(a->package),
		  (unsigned long long)a->version, SPAN_ARG(a->name),
		  SPAN_ARG(a->hash), (int)a->has_files, SPAN_ARG(a->active_time),
		  SPAN_ARG(a->mandatory));
	return ERR_OK;
}

#define PROPERTY(name, value) "<property name=\"" name "\" type=\"8\">\n\t<value>\n" \
	"<![CDATA[" value "]]>\n</value>\n</property>"
#define INSTANCE(class) "<instance class=\"" class "\">" \
	PROPERTY("ADV_AdvertisementID", "LAB20001") \
	PROPERTY("PKG_PackageID", "LAB0001A") PROPERTY("PKG_version", "9.9") \
	PROPERTY("PKG_SourceVersion", "6") PROPERTY("PKG_Name", "A & B <c>") \
	PROPERTY("PKG_SourceHash", "AB12") \
	PROPERTY("PKG_PSF_ContainsSourceFiles", "TRUE") \
	PROPERTY("ADV_ActiveTime", "20260115102030.000000+***") \
	PROPERTY("ADV_MandatoryAssignments", "TRUE") "</instance>"
#define BODY "<?xml version=\"1.0\"?><Policy><PolicyRule><PolicyAction " \
	"PolicyActionType=\"WMI-XML\">" INSTANCE("CCM_Other") \
	INSTANCE("CCM_SoftwareDistribution") "</PolicyAction></PolicyRule></Policy>"
#define FOUND "LAB20001|LAB0001A|6|A & B <c>|AB12|1|20260115102030.000000+***|TRUE\n"

static void expect_found(struct span body, const char *expected)
{
	struct err e = { 0 };
	autobuf out = { 0 };
	char *copy = malloc(body.len + 1);
	memcpy(copy, body.at, body.len);
	assert_ok(pollist_read_body((struct span){ copy, body.len }, NULL, on_found,
				    &out, &e));
	free(copy);
	assert_string_equal(out.at ? out.at : "", expected);
}

static void widen(struct span text, bool with_mark, struct buf *out)
{
	struct err e = { 0 };
	if (with_mark)
		buf_add(out, "\xff\xfe", 2);
	assert_ok(ccm_utf8_to_utf16(text, out, &e));
}

static void add_hex(struct span raw, struct buf *out)
{
	uLongf n = compressBound(raw.len);
	Bytef *area = malloc(n);
	assert_int_equal(compress(area, &n, (const Bytef *)raw.at, raw.len), Z_OK);
	for (uLongf i = 0; i < n; i++)
		buf_print(out, "%02X%s", area[i], i % 32 ? "" : "\r\n");
	free(area);
}

TEST(pollist_read_body__every_encoding__fields_of_our_class)
{
	autobuf marked = { 0 };
	autobuf bare = { 0 };
	widen(SPAN_LIT(BODY), true, &marked);
	widen(SPAN_LIT(BODY), false, &bare);
	expect_found(SPAN_LIT(BODY), FOUND);
	expect_found(SPAN_LIT("\xef\xbb\xbf" BODY), FOUND);
	expect_found(buf_as_span(&marked), FOUND);
	expect_found(buf_as_span(&bare), FOUND);
	buf_add(&bare, "\0\0", 2); /* as a C string ends */
	expect_found(buf_as_span(&bare), FOUND);
}

TEST(pollist_read_body__zlib_in_hex__every_wrapping)
{
	for (int kind = 0; kind < 8; kind++) {
		autobuf raw = { 0 };
		autobuf text = { 0 };
		autobuf body = { 0 };
		if (kind & 1)
			widen(SPAN_LIT(BODY), true, &raw);
		else
			buf_text(&raw, BODY);
		buf_text(&text, kind & 2 ? "<PolicyXML Compression=\"zlib\"><![CDATA[" :
					   "");
		add_hex(buf_as_span(&raw), &text);
		buf_text(&text, kind & 2 ? "]]></PolicyXML>" : "");
		if (kind & 4)
			widen(buf_as_span(&text), kind & 1, &body);
		else
			buf_span(&body, buf_as_span(&text));
		expect_found(buf_as_span(&body), FOUND);
	}
}

TEST(pollist_read_body__fields_that_are_absent_or_odd)
{
	expect_found(SPAN_LIT("<Policy><instance class=\"ccm_softwaredistribution\"/>"
			      "</Policy>"), "||0|||1||\n");
	expect_found(SPAN_LIT(
		"<instance class=\"CCM_SoftwareDistribution\">"
		"<property name=\"PKG_SourceVersion\"><value>-3</value></property>"
		"<property name=\"PKG_PSF_ContainsSourceFiles\"><value>FALSE</value>"
		"</property><property name=\"pkg_name\"><value/><value>two</value>"
		"<value>three</value></property>"
		"<other name=\"PKG_Name\"><value>no</value></other>"
		"<property name=\"X\"><value>no</value></property></instance>"),
		"||0|two||0||\n");
}

TEST(pollist_read_body__no_policy_of_ours__nothing)
{
	expect_found(SPAN_LIT("<Policy><PolicyRule/></Policy>"), "");
	expect_found(SPAN_LIT("<a>" INSTANCE("CCM_TaskSequence") "</a>"), "");
}

#define TEXT(lit) { lit, sizeof(lit) - 1 }
TEST(pollist_read_body__cannot_be_read__refused)
{
	static const struct {
		struct span body;
		const char *why;
	} table[] = {
		{ TEXT(""), "empty" },
		{ TEXT("<a>"), "policy body" },
		{ TEXT("0102"), "no zlib" },
		{ TEXT("789C"), "too early" },
		{ TEXT("<PolicyXML Compression=\"zlib\">zz</PolicyXML>"), "not hex" },
		{ TEXT("<PolicyXML Compression=\"zlib\"/>"), "not hex" },
		{ TEXT("<!DOCTYPE a><a/>"), "DTD" },
		{ TEXT("\x30\x82\x01\x00"), "no key" },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct err e = { 0 };
		autobuf out = { 0 };
		assert_err(pollist_read_body(table[i].body, NULL, on_found, &out, &e),
			   ERR_MP_REPLY);
		if (!strstr(e.text, table[i].why))
			fail_msg("\"%s\" is not in \"%s\"", table[i].why, e.text);
	}
}

/* R2: a body of 1 MiB may not become a hundred of them. */
TEST(pollist_read_body__bomb__refused)
{
	struct err e = { 0 };
	autobuf raw = { .max = 16u << 20 };
	autobuf text = { .max = 16u << 20 };
	autobuf out = { 0 };
	for (int i = 0; i < 8 << 20; i += 16)
		buf_text(&raw, "<a/>  <b/>  <c/>");
	add_hex(buf_as_span(&raw), &text);
	assert_err(pollist_read_body(buf_as_span(&text), NULL, on_found, &out, &e),
		   ERR_MP_REPLY);
	assert_non_null(strstr(e.text, "becomes more than"));
}

/* --- state messages ------------------------------------------------------ */

TEST(relay_print__report_as_composed)
{
	struct err e = { 0 };
	autobuf xml = { 0 };
	struct wire_relay m = { .smsid = SPAN_LIT("GUID:AB"),
				.topic = SPAN_LIT("LAB0001A.6"), .topic_type = 61042,
				.state = 3, .time = SPAN_LIT("2026-03-02T07:45:10Z"),
				.details = SPAN_LIT("a ]]> b\x01\xff]]") };
	assert_ok(relay_print(&m, SPAN_LIT("pear.example.com"), &xml, &e));
	assert_non_null(strstr(xml.at, "<ClientID>GUID:AB</ClientID>"));
	assert_non_null(strstr(xml.at, "<NetBIOSName>pear</NetBIOSName>"));
	assert_non_null(strstr(xml.at,
		"<ReportBody><StateMessage MessageTime=\"20260302074510.000000+000\">"
		"<Topic ID=\"LAB0001A.6\" Type=\"61042\" IDType=\"3\" User=\"\" "
		"UserSID=\"\"/><State ID=\"3\" Criticality=\"0\"/><StateDetails "
		"Type=\"1\"><![CDATA[a ]]]]><![CDATA[> b??]]]]></StateDetails>"
		"<UserParameters Flags=\"0\" Count=\"0\"/></StateMessage>"
		"</ReportBody></Report>"));
}

TEST(relay_print__no_time__internal)
{
	struct err e = { 0 };
	autobuf xml = { 0 };
	struct wire_relay m = { .time = SPAN_LIT("yesterday"), .topic = SPAN_LIT("x"),
				.smsid = SPAN_LIT("x"), .details = SPAN_LIT("") };
	assert_err(relay_print(&m, SPAN_LIT("pear"), &xml, &e), ERR_INTERNAL);
}
