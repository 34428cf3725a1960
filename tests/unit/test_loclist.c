#include "tests/unit/test.h"

#include "agent/net/loclist.h"

#include "agent/net/ccm.h"

#include <stdlib.h>
#include <time.h>

/* Every element and attribute of docs/wire.md 4.1, and some of no release yet. */
static const char full[] =
	"<?xml version=\"1.0\" encoding=\"utf-16\"?>\n"
	"<ContentLocationReply SchemaVersion=\"1.00\" BGRVersion=\"1\" "
	"ContentFlags=\"200960\" HashAlgorithm=\"32772\" AlgorithmPreference=\"2\" "
	"Hash=\"0123456789ABCDEF0123456789ABCDEF01234567\" ExcludeFileListHash=\"\" "
	"RelatedContentID=\"\" Future=\"x\">"
	"<BoundaryGroups BoundaryGroupListRetrieveTime=\"2026-03-02T07:45:11.040\" "
	"IsOnVPN=\"0\">"
	"<BoundaryGroup GroupID=\"11\" "
	"GroupGUID=\"90C4B1D7-2F3E-4A60-8C55-1D7E20F3A6B8\" GroupFlag=\"1\"/>"
	"<BoundaryGroup GroupID=\"16777217\" "
	"GroupGUID=\"6D1C2B3A-0000-4000-8000-00000000BBBB\"/>"
	"<DOINCServers><DOINCServer DOINCServer=\"cache1.example.com\"/></DOINCServers>"
	"</BoundaryGroups>"
	"<ContentInfo PackageFlags=\"0\"><ContentHashValues>"
	"<Hash Algorithm=\"32772\" HashString=\"ff\" HashPreference=\"1\"/>"
	"<Hash Algorithm=\"32780\" HashString=\"3B4C5D6E7F8091A2B3C4D5E6F708192A"
	"3B4C5D6E7F8091A2B3C4D5E6F708192A\" HashPreference=\"4\"/>"
	"<Hash Algorithm=\"99999\" HashString=\"\" HashPreference=\"9\"/>"
	"</ContentHashValues></ContentInfo>"
	"<Sites>"
	"<Site><MPSite SiteCode=\"LAB\" MasterSiteCode=\"LAB\" SiteLocality=\"LOCAL\" "
	"IISPreferedPort=\"80\" IISSSLPreferedPort=\"443\"/><LocationRecords>"
	"<LocationRecord>"
	"<URL Name=\" http://dp5.example.com/SMS_DP_SMSPKG$/LAB0001A\n\" Signature=\""
	"http://dp5.example.com/SMS_DP_SMSSIG$/LAB0001A.6.tar\" Capability=\"0\"/>"
	"<URL Name=\"http://dp5.example.com/SMS_DP_SMSPKG$/LAB0001A\" Signature=\"2\"/>"
	"<URL Name=\"https://dp5.example.com/CCMTOKENAUTH_SMS_DP_SMSPKG$/LAB0001A\"/>"
	"<SMBPath Name=\"\\\\dp5\\SMSPKGD$\\LAB0001A\\\"/>"
	"<ADSite Name=\"Orchard\"/><IPSubnets><IPSubnet Address=\"\"/></IPSubnets>"
	"<Metric Value=\"\"/><Version>\n 9128 </Version>"
	"<Capabilities SchemaVersion=\"1.0\"><Property Name=\"SSLState\" Value=\"31\"/>"
	"<Property Name=\"AuthMethod\" Value=\"1024\"/>"
	"<Property Name=\"Other\" Value=\"7\"/></Capabilities>"
	"<ServerRemoteName>dp5.example.com</ServerRemoteName>"
	"<DPType>SERVER</DPType><Windows Trust=\"1\"/>"
	"<Locality>BOUNDARYGROUP</Locality>"
	"<Surprise><URL Name=\"http://no.example.com/\"/><Locality>NO</Locality>"
	"<NoToken>no</NoToken></Surprise>"
	"</LocationRecord>"
	"<LocationRecord><URL Signature=\"\" Name=\"https://content.example.org/"
	"downloadrestservice.svc/getcontentxmlsecure?pid=LAB0001A&amp;cid=LAB0001A\"/>"
	"<ServerRemoteName>content.example.org</ServerRemoteName>"
	"<Locality></Locality><AccessToken> eyJ0.a.b </AccessToken></LocationRecord>"
	"</LocationRecords></Site>"
	"<Site><LocationRecords><LocationRecord>"
	"<Locality>NEVERHEARDOF</Locality>"
	"<URL Name=\"http://dp9.far.example.com:8080/SMS_DP_SMSPKG$/LAB0001A\"/>"
	"<URL Name=\"http://dp5.example.com/SMS_DP_SMSPKG$/LAB0001A\"/>"
	"</LocationRecord></LocationRecords>"
	"<MPSite SiteCode=\"XYZ\" MasterSiteCode=\"XYZ\" SiteLocality=\"FALLBACK\"/>"
	"</Site>"
	"<Site><MPSite SiteCode=\"LAB\" SiteLocality=\"LOCAL\"/><LocationRecords/>"
	"</Site></Sites><RelatedContentIDs/></ContentLocationReply>";

static void own_loclist(struct loclist *l)
{
	loclist_free(l);
}
#define autoloclist __attribute__((cleanup(own_loclist))) struct loclist

static void parse(const char *xml, struct loclist *l)
{
	struct err e = { 0 };
	assert_ok(loclist_parse(span_of(xml), "test", l, &e));
}

static void expect_refused(struct span xml, const char *why)
{
	struct err e = { 0 };
	struct loclist l;
	assert_err(loclist_parse(xml, "location reply of mp1", &l, &e), ERR_MP_REPLY);
	if (!strstr(e.text, why) || !strstr(e.text, "location reply of mp1"))
		fail_msg("\"%s\" is not in \"%s\"", why, e.text);
	assert_null(l.items);
	loclist_free(&l);
}

#define BEGIN "<ContentLocationReply><Sites><Site><LocationRecords>"
#define END "</LocationRecords></Site></Sites></ContentLocationReply>"
#define RECORD(inside) BEGIN "<LocationRecord>" inside "</LocationRecord>" END

/* --- the grammar --------------------------------------------------------- */

static void expect_item(const struct loclist_item *i, const char *url,
			const char *locality, const char *site_locality,
			const char *server, const char *token)
{
	assert_string_equal(i->url, url);
	assert_string_equal(i->locality, locality);
	assert_string_equal(i->site_locality, site_locality);
	assert_string_equal(i->server, server);
	assert_string_equal(i->token, token);
}

static void expect_full(const struct loclist *l)
{
	assert_int_equal(l->count, 4);
	expect_item(&l->items[0], "http://dp5.example.com/SMS_DP_SMSPKG$/LAB0001A",
		    "BOUNDARYGROUP", "LOCAL", "dp5.example.com", "");
	assert_string_equal(l->items[0].signature,
			    "http://dp5.example.com/SMS_DP_SMSSIG$/LAB0001A.6.tar");
	assert_string_equal(l->items[0].version, "9128");
	assert_string_equal(l->items[0].dp_type, "SERVER");
	assert_int_equal(l->items[0].ssl_state, 31);
	assert_int_equal(l->items[0].auth_method, 1024);
	expect_item(&l->items[1],
		    "https://dp5.example.com/CCMTOKENAUTH_SMS_DP_SMSPKG$/LAB0001A",
		    "BOUNDARYGROUP", "LOCAL", "dp5.example.com", "");
	assert_string_equal(l->items[1].signature, "");
	assert_int_equal(l->items[1].auth_method, 1024);
	expect_item(&l->items[2],
		    "https://content.example.org/downloadrestservice.svc/"
		    "getcontentxmlsecure?pid=LAB0001A&cid=LAB0001A",
		    "", "LOCAL", "content.example.org", "eyJ0.a.b");
	assert_int_equal(l->items[2].ssl_state, 0);
	assert_string_equal(l->items[2].dp_type, "");
	expect_item(&l->items[3],
		    "http://dp9.far.example.com:8080/SMS_DP_SMSPKG$/LAB0001A",
		    "NEVERHEARDOF", "FALLBACK", "", "");
	assert_int_equal(l->content_flags, 200960);
	assert_string_equal(l->hash, "sha256:3b4c5d6e7f8091a2b3c4d5e6f708192a"
				     "3b4c5d6e7f8091a2b3c4d5e6f708192a");
	assert_string_equal(
		l->boundary_groups.at,
		"TIME 2026-03-02T07:45:11.040\n"
		"GROUP 11 90C4B1D7-2F3E-4A60-8C55-1D7E20F3A6B8 1\n"
		"GROUP 16777217 6D1C2B3A-0000-4000-8000-00000000BBBB 0\n"
		"DOINC cache1.example.com\n");
}

TEST(loclist_parse__full_grammar__all_of_it_in_document_order)
{
	autoloclist l = { 0 };
	parse(full, &l);
	expect_full(&l);
}

TEST(loclist_parse__utf16_with_and_without_mark__the_same)
{
	for (int has_mark = 0; has_mark < 2; has_mark++) {
		struct err e = { 0 };
		autobuf wide = { 0 };
		autoloclist l = { 0 };
		if (has_mark)
			buf_add(&wide, "\xff\xfe", 2);
		assert_ok(ccm_utf8_to_utf16(span_of(full), &wide, &e));
		assert_ok(loclist_parse(buf_as_span(&wide), "test", &l, &e));
		expect_full(&l);
	}
}

TEST(loclist_parse__utf8_that_declares_utf16__read_as_utf8)
{
	static const char *const forms[] = {
		"<?xml version='1.0' encoding='UTF-16'?>" RECORD("<URL Name=\"a\"/>"),
		"\xef\xbb\xbf<?xml version='1.0' encoding='utf-16'?>\r\n"
			RECORD("<URL Name=\"a\"/>"),
		"<?xml version='1.0' encoding='utf-8'?>" RECORD("<URL Name=\"a\"/>"),
		"<?xml version='1.0'?>" RECORD("<URL Name=\"a\"/><!-- utf-16 -->"),
	};
	for (size_t i = 0; i < 4; i++) {
		autoloclist l = { 0 };
		parse(forms[i], &l);
		assert_int_equal(l.count, 1);
	}
	expect_refused(SPAN_LIT("<?xml version='1.0' encoding='utf-16'?>"), "empty");
	expect_refused(SPAN_LIT("<?xml encoding='utf-16"), "line 1");
}

TEST(loclist_parse__empty_lists__no_error)
{
	static const char *const empty[] = {
		BEGIN END,
		"<ContentLocationReply><Sites><Site><MPSite SiteCode=\"LAB\" "
		"SiteLocality=\"LOCAL\"/><LocationRecords/></Site></Sites>"
		"</ContentLocationReply>",
		"<ContentLocationReply/>",
		RECORD(""),
		RECORD("<URL/>"),
		RECORD("<URL Name=\" \"/>"),
		/* known names in places where they mean nothing */
		("<ContentLocationReply><URL Name=\"http://a/\"/><LocationRecord>"
		 "<URL Name=\"http://a/\"/></LocationRecord></ContentLocationReply>"),
	};
	for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
		autoloclist l = { 0 };
		parse(empty[i], &l);
		assert_int_equal(l.count, 0);
		assert_string_equal(l.hash, "");
		assert_int_equal(l.boundary_groups.len, 0);
	}
}

TEST(loclist_parse__namespace_prefix__read_by_local_name)
{
	autoloclist l = { 0 };
	parse("<n:ContentLocationReply xmlns:n=\"urn:x\"><n:Sites><n:Site>"
	      "<n:LocationRecords><n:LocationRecord><n:URL Name=\"http://a/\"/>"
	      "</n:LocationRecord></n:LocationRecords></n:Site></n:Sites>"
	      "</n:ContentLocationReply>", &l);
	assert_int_equal(l.count, 1);
}

TEST(loclist_parse__numbers_that_are_none__zero)
{
	autoloclist l = { 0 };
	parse("<ContentLocationReply ContentFlags=\"-1\"><Sites><Site><LocationRecords>"
	      "<LocationRecord><URL Name=\"http://a/\"/><Capabilities>"
	      "<Property Name=\"SSLState\" Value=\"4294967296\"/>"
	      "<Property Name=\"AuthMethod\" Value=\"0x400\"/><Property/>"
	      "</Capabilities></LocationRecord>" END, &l);
	assert_int_equal(l.content_flags, 0);
	assert_int_equal(l.items[0].ssl_state, 0);
	assert_int_equal(l.items[0].auth_method, 0);
}

/* --- hashes -------------------------------------------------------------- */

static void expect_hash(const char *attributes, const char *hash)
{
	autobuf xml = { 0 };
	autoloclist l = { 0 };
	buf_print(&xml, "<ContentLocationReply %s/>", attributes);
	parse(xml.at, &l);
	assert_string_equal(l.hash, hash);
}

TEST(loclist_parse__root_hashes__by_algorithm)
{
	expect_hash("HashAlgorithm=\"32772\" AlgorithmPreference=\"4\" Hash=\"AbCd\"",
		    "4:32772:AbCd");
	expect_hash("HashAlgorithm=\"32780\" AlgorithmPreference=\"4\" Hash=\"AbCd\"",
		    "4:32780:AbCd");
	expect_hash("Hash=\"ab\"", "0:0:ab");
	expect_hash("HashAlgorithm=\"32780\" Hash=\"\"", "");
	expect_hash("HashAlgorithm=\"32780\" Hash=\"no hex\"", "");
}

/* --- boundary groups ----------------------------------------------------- */

TEST(loclist_parse__boundary_groups_with_odd_words__left_out)
{
	autoloclist l = { 0 };
	parse("<ContentLocationReply><BoundaryGroups BoundaryGroupListRetrieveTime=\""
	      "2026&#10;GROUP\"><BoundaryGroup GroupID=\"x\" GroupGUID=\"1-2\"/>"
	      "<BoundaryGroup GroupID=\"1\" GroupGUID=\"1 2\"/>"
	      "<BoundaryGroup GroupID=\"2\"/>"
	      "<BoundaryGroup GroupID=\"3\" GroupGUID=\"{1-2}\" GroupFlag=\"&#10;\"/>"
	      "<DOINCServers><DOINCServer DOINCServer=\"a b\"/><DOINCServer/>"
	      "<DOINCServer DOINCServer=\"10.0.0.1\"/></DOINCServers>"
	      "</BoundaryGroups></ContentLocationReply>", &l);
	assert_string_equal(l.boundary_groups.at, "GROUP 3 {1-2} 0\nDOINC 10.0.0.1\n");
}

TEST(loclist_parse__very_many_boundary_groups__whole_lines_that_fit)
{
	autobuf xml = { 0 };
	autoloclist l = { 0 };
	buf_text(&xml, "<ContentLocationReply><BoundaryGroups>");
	for (int i = 0; i < 1000; i++)
		buf_print(&xml, "<BoundaryGroup GroupID=\"%d\" GroupGUID="
			  "\"6D1C2B3A-0000-4000-8000-00000000BBBB\"/>", i);
	buf_text(&xml, "</BoundaryGroups></ContentLocationReply>");
	parse(xml.at, &l);
	assert_true(l.boundary_groups.len > 8000 && l.boundary_groups.len <= 8192);
	assert_int_equal(l.boundary_groups.at[l.boundary_groups.len - 1], '\n');
}

/* --- tokens: docs/wire.md 6.2, U2 ---------------------------------------- */

TEST(loclist_parse__token_as_attribute_or_child__for_all_urls_of_the_record)
{
	autoloclist l = { 0 };
	parse(BEGIN "<LocationRecord SasToken=\" abc \"><URL Name=\"https://a/1\"/>"
	      "<URL Name=\"https://a/2\"/></LocationRecord>"
	      "<LocationRecord><URL Name=\"https://a/3\"/><Token>def</Token>"
	      "<OtherToken>later</OtherToken></LocationRecord>"
	      "<LocationRecord><URL Name=\"https://a/4\"/></LocationRecord>" END, &l);
	assert_int_equal(l.count, 4);
	assert_string_equal(l.items[0].token, "abc");
	assert_string_equal(l.items[1].token, "abc");
	assert_string_equal(l.items[2].token, "def");
	assert_string_equal(l.items[3].token, "");
}

TEST(loclist_parse__flags_that_sound_like_tokens__are_none)
{
	autoloclist l = { 0 };
	parse(BEGIN "<LocationRecord DPTokenAuth=\"1\" NeedsToken=\"1\">"
	      "<URL Name=\"https://a/1\"/><UseToken>True</UseToken><AToken/>"
	      "<TokenIssuer>x</TokenIssuer></LocationRecord>" END, &l);
	assert_string_equal(l.items[0].token, "");
}

TEST(loclist_parse__token_that_is_no_header_value__refused)
{
	autobuf xml = { 0 };
	expect_refused(SPAN_LIT(RECORD("<Token>a&#13;&#10;X: y</Token>")), "0x0d");
	expect_refused(SPAN_LIT(RECORD("<Token>a\nb</Token>")), "0x0a");
	expect_refused(SPAN_LIT(RECORD("<Token>\xc3\xa9</Token>")), "0xc3");
	buf_text(&xml, BEGIN "<LocationRecord AToken=\"");
	for (int i = 0; i < 16385; i++)
		buf_char(&xml, 'a');
	buf_text(&xml, "\"/>" END);
	expect_refused(buf_as_span(&xml), "token of more than 16384");
}

/* --- refused: P5, R3 ----------------------------------------------------- */

TEST(loclist_parse__another_document__refused_with_its_name)
{
	expect_refused(SPAN_LIT("<html><body/></html>"), "<html>");
	expect_refused(SPAN_LIT("<MPList/>"), "<MPList>");
	expect_refused(SPAN_LIT("<contentlocationreply/>"), "<contentlocationreply>");
	expect_refused(SPAN_LIT("<Sites><ContentLocationReply/></Sites>"), "<Sites>");
}

TEST(loclist_parse__no_xml__refused)
{
	expect_refused(SPAN_LIT(""), "empty");
	expect_refused(SPAN_LIT("Service unavailable"), "line 1");
	expect_refused(SPAN_LIT("<ContentLocationReply>"), "no element");
	expect_refused(SPAN_LIT("<ContentLocationReply/><a/>"), "junk");
	expect_refused(SPAN_LIT("<!DOCTYPE x><ContentLocationReply/>"), "DTD");
}

TEST(loclist_parse__cut_anywhere__refused)
{
	for (size_t n = 0; n < sizeof(full) - 1; n += 7) {
		struct err e = { 0 };
		struct loclist l;
		assert_err(loclist_parse((struct span){ full, n }, "cut", &l, &e),
			   ERR_MP_REPLY);
	}
}

static void add_locations(struct buf *out, int count)
{
	out->max = 128u << 20;
	buf_text(out, BEGIN);
	for (int i = 0; i < count; i++)
		buf_print(out, "<LocationRecord><URL Name=\"https://dp%d.test/p\"/>"
			  "</LocationRecord>", i);
	buf_text(out, END);
}

TEST(loclist_parse__two_thousand_urls__are_the_most)
{
	autobuf most = { 0 };
	autobuf more = { 0 };
	autoloclist l = { 0 };
	add_locations(&most, 2000);
	parse(most.at, &l);
	assert_int_equal(l.count, 2000);
	add_locations(&more, 2001);
	expect_refused(buf_as_span(&more), "more than 2000 URLs");
}

TEST(loclist_parse__million_locations__refused_soon)
{
	autobuf xml = { 0 };
	clock_t begin = clock();
	add_locations(&xml, 100000);
	expect_refused(buf_as_span(&xml), "more than 2000 URLs");
	buf_clear(&xml);
	add_locations(&xml, 1000000);
	expect_refused(buf_as_span(&xml), "longer than");
	assert_true(clock() - begin < 4 * CLOCKS_PER_SEC);
}

TEST(loclist_parse__one_url_ten_thousand_times__refused)
{
	autobuf xml = { 0 };
	buf_text(&xml, BEGIN "<LocationRecord>");
	for (int i = 0; i < 10000; i++)
		buf_text(&xml, "<URL Name=\"http://a/\"/>");
	buf_text(&xml, "</LocationRecord>" END);
	expect_refused(buf_as_span(&xml), "more than 2000 URLs");
}

TEST(loclist_parse__url_longer_than_any__refused)
{
	autobuf xml = { 0 };
	buf_text(&xml, BEGIN "<LocationRecord><URL Name=\"http://a/");
	for (int i = 0; i < 4096; i++)
		buf_char(&xml, 'a');
	buf_text(&xml, "\"/></LocationRecord>" END);
	expect_refused(buf_as_span(&xml), "URL of more than 4096");
}

TEST(loclist_free__twice__nothing)
{
	struct loclist l = { 0 };
	parse(full, &l);
	loclist_free(&l);
	loclist_free(&l);
	loclist_free(NULL);
}

/* --- MPLIST -------------------------------------------------------------- */

#define SSL(value) "<Capabilities SchemaVersion=\"1.0\"><Property Name=\"SSLState\" " \
	"Value=\"" value "\"/></Capabilities>"

TEST(loclist_parse_mplist__several__base_urls)
{
	struct err e = { 0 };
	autobuf out = { 0 };
	assert_ok(loclist_parse_mplist(SPAN_LIT(
		"<MPList>"
		"<MP Name=\"MP1\" FQDN=\"mp1.example.com\"><Version>9128</Version>"
		SSL("0") "</MP>"
		"<MP Name=\"MP2.EXAMPLE.COM\" FQDN=\"mp2.example.com\">" SSL("31")
		"</MP>"
		"<MP Name=\"mp3.example.com\" FQDN=\"\">" SSL("159") "</MP>"
		"<MP FQDN=\"mp4.example.com\"/>"
		"<MP Name=\"no host\" FQDN=\"evil.example.com/x?\">" SSL("31") "</MP>"
		"<MP/><Unknown><MP FQDN=\"no.example.com\"/></Unknown>"
		"</MPList>"), "MPLIST", &out, &e));
	assert_string_equal(out.at, "http://mp1.example.com\n"
				    "https://mp2.example.com\n"
				    "https://mp3.example.com\n"
				    "http://mp4.example.com\n");
}

TEST(loclist_parse_mplist__very_many__the_first_32)
{
	struct err e = { 0 };
	autobuf xml = { 0 };
	autobuf out = { 0 };
	size_t lines = 0;
	buf_text(&xml, "<MPList>");
	for (int i = 0; i < 1000; i++)
		buf_print(&xml, "<MP FQDN=\"mp%d.test\"/>", i);
	buf_text(&xml, "</MPList>");
	assert_ok(loclist_parse_mplist(buf_as_span(&xml), "MPLIST", &out, &e));
	for (size_t i = 0; i < out.len; i++)
		lines += out.at[i] == '\n';
	assert_int_equal(lines, 32);
	assert_non_null(strstr(out.at, "//mp31.test\n"));
}

TEST(loclist_parse_mplist__another_document__refused)
{
	struct err e = { 0 };
	autobuf out = { 0 };
	assert_err(loclist_parse_mplist(SPAN_LIT("<ContentLocationReply/>"), "MPLIST",
					&out, &e), ERR_MP_REPLY);
}
