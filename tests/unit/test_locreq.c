#include "tests/unit/test.h"

#include "agent/net/locreq.h"

static const struct locreq bare = {
	.request_id = { "LAB0001A", 8 },
	.location_type = { "SMSPackage", 10 },
	.version = 6,
	.site_code = { "LAB", 3 },
};

static void print(const struct locreq *r, struct buf *out)
{
	struct err e = { 0 };
	assert_ok(locreq_print(r, out, &e));
}

static void expect_part(const struct locreq *r, const char *part)
{
	autobuf out = { 0 };
	print(r, &out);
	if (!strstr(out.at, part))
		fail_msg("\"%s\" is not in \"%s\"", part, out.at);
}

static void expect_without(const struct locreq *r, const char *part)
{
	autobuf out = { 0 };
	print(r, &out);
	if (strstr(out.at, part))
		fail_msg("\"%s\" is in \"%s\"", part, out.at);
}

TEST(locreq_print__everything_known__is_the_document_of_3_1)
{
	autobuf out = { 0 };
	struct locreq r = bare;
	r.forest = r.domain = SPAN_LIT("fruit.example.com");
	r.ad_site = SPAN_LIT("Orchard");
	r.use_azure = true;
	r.minutes = 12;
	r.interfaces = SPAN_LIT("ADDRESS 192.0.2.0 192.0.2.44\n"
				"ADAPTER ens3 6 fruit.example.com\n");
	r.boundary_groups = SPAN_LIT(
		"TIME 2026-03-02T07:33:08.500\n"
		"GROUP 11 90C4B1D7-2F3E-4A60-8C55-1D7E20F3A6B8 0\n"
		"DOINC cache1.example.com\n");
	print(&r, &out);
	assert_string_equal(
		out.at,
		"<ContentLocationRequest SchemaVersion=\"1.00\" BGRVersion=\"1\" "
		"ClientInOperation=\"PT12M\" ExcludeFileList=\"\">"
		"<Package ID=\"LAB0001A\" Version=\"6\"/>"
		"<AssignedSite SiteCode=\"LAB\"/>"
		"<ClientLocationInfo LocationType=\"SMSPackage\" AllowHTTP=\"1\" "
		"AllowSMB=\"0\" AllowMulticast=\"0\" AllowSuperPeer=\"0\" "
		"AllowWUMU=\"0\" UseAzure=\"1\" UseInternetDP=\"0\" "
		"DPTokenAuth=\"0\" DistributeOnDemand=\"0\">"
		"<ADSite Name=\"Orchard\"/><Forest Name=\"fruit.example.com\"/>"
		"<Domain Name=\"fruit.example.com\"/>"
		"<IPAddresses><IPAddress SubnetAddress=\"192.0.2.0\" "
		"Address=\"192.0.2.44\"/></IPAddresses>"
		"<Adapters><Adapter Name=\"ens3\" IfType=\"6\" "
		"PhysicalAddressExists=\"1\" DnsSuffix=\"fruit.example.com\" "
		"Description=\"ens3\"/></Adapters>"
		"<BoundaryGroups BoundaryGroupListRetrieveTime=\""
		"2026-03-02T07:33:08.500\" IsOnVPN=\"0\">"
		"<BoundaryGroup GroupID=\"11\" GroupGUID=\""
		"90C4B1D7-2F3E-4A60-8C55-1D7E20F3A6B8\" GroupFlag=\"0\"/>"
		"<DOINCServers><DOINCServer DOINCServer=\"cache1.example.com\"/>"
		"</DOINCServers></BoundaryGroups>"
		"</ClientLocationInfo></ContentLocationRequest>");
}

TEST(locreq_print__nothing_known__elements_are_there_and_empty)
{
	expect_part(&bare, "ClientInOperation=\"PT0M\"");
	expect_part(&bare, "<ADSite Name=\"\"/><Forest Name=\"\"/><Domain Name=\"\"/>"
			   "<IPAddresses></IPAddresses><Adapters></Adapters>");
	expect_without(&bare, "BoundaryGroup");
}

TEST(locreq_print__cloud_not_asked_for__use_azure_0)
{
	expect_part(&bare, "UseAzure=\"0\"");
}

TEST(locreq_print__gateway_and_token__use_internet_dp_and_dp_token_auth)
{
	struct locreq r = bare;
	r.is_internet = r.has_token = true;
	expect_part(&r, "UseInternetDP=\"1\" DPTokenAuth=\"1\"");
}

TEST(locreq_print__update__uid_and_type)
{
	struct locreq r = bare;
	r.request_id = SPAN_LIT("UID:Content_1f0c2d3e-0000-4000-8000-0123456789ab");
	r.location_type = SPAN_LIT("SMSUpdate");
	r.version = 0;
	expect_part(&r, "<Package ID=\"UID:Content_1f0c2d3e-0000-4000-8000-"
			"0123456789ab\" Version=\"0\"/>");
	expect_part(&r, "LocationType=\"SMSUpdate\"");
}

/* docs/wire.md 3.5: the form of IPv6 in this place is not known. */
TEST(locreq_print__ipv6_and_broken_lines__left_out)
{
	struct locreq r = bare;
	r.interfaces = SPAN_LIT("ADDRESS 2001:db8:: 2001:db8::7\nADDRESS 10.0.0.0\n"
				"ADDRESS\n\nNOISE 1 2\nADAPTER tun0\nADAPTER\n"
				"ADDRESS 10.1.0.0 10.1.0.9");
	expect_part(&r, "<IPAddresses><IPAddress SubnetAddress=\"10.1.0.0\" "
			"Address=\"10.1.0.9\"/></IPAddresses><Adapters></Adapters>");
}

TEST(locreq_print__adapter_without_suffix__empty_suffix)
{
	struct locreq r = bare;
	r.interfaces = SPAN_LIT("ADAPTER wg0 131\nADAPTER ens3 6 \n");
	expect_part(&r, "<Adapter Name=\"wg0\" IfType=\"131\" "
			"PhysicalAddressExists=\"1\" DnsSuffix=\"\" "
			"Description=\"wg0\"/>"
			"<Adapter Name=\"ens3\" IfType=\"6\" "
			"PhysicalAddressExists=\"1\" DnsSuffix=\"\" "
			"Description=\"ens3\"/>");
}

TEST(locreq_print__groups_without_time__left_out)
{
	struct locreq r = bare;
	r.boundary_groups = SPAN_LIT(
		"GROUP 11 90C4B1D7-2F3E-4A60-8C55-1D7E20F3A6B8 0\n");
	expect_without(&r, "BoundaryGroup");
}

TEST(locreq_print__on_vpn_without_servers__said_so)
{
	struct locreq r = bare;
	r.is_on_vpn = true;
	r.boundary_groups = SPAN_LIT("TIME 2026-03-02T07:33:08\n");
	expect_part(&r, "<BoundaryGroups BoundaryGroupListRetrieveTime=\""
			"2026-03-02T07:33:08\" IsOnVPN=\"1\"><DOINCServers>"
			"</DOINCServers></BoundaryGroups>");
}

TEST(locreq_print__markup_in_every_text__escaped)
{
	struct locreq r = bare;
	r.request_id = r.location_type = r.site_code = r.forest = r.domain =
		r.ad_site = SPAN_LIT("\"/><X y='&");
	r.interfaces = SPAN_LIT("ADDRESS \"/><X \"/><X\n"
				"ADAPTER \"/><X \"/><X \"/><X\n");
	r.boundary_groups = SPAN_LIT("TIME \"/><X\nGROUP \"/><X \"/><X \"/><X\n"
				     "DOINC \"/><X\n");
	expect_without(&r, "<X");
	expect_part(&r, "<Forest Name=\"&#34;/&#62;&#60;X y=&#39;&#38;\"/>");
}

TEST(locreq_print__no_room__nomem)
{
	struct err e = { 0 };
	autobuf out = { .max = 100 };
	assert_err(locreq_print(&bare, &out, &e), ERR_NOMEM);
}

TEST(locreq_escape__what_xml_forbids__question_marks)
{
	static const char text[] = "a\0\x01\x1b\x7f\xff\xc3\xa9\xed\xa0\x80"
				   "\xef\xbf\xbe\xf0\x9f\x8d\x90";
	autobuf out = { 0 };
	locreq_escape((struct span){ text, sizeof(text) - 1 }, &out);
	assert_string_equal(out.at, "a???\x7f?\xc3\xa9????\xf0\x9f\x8d\x90");
}

TEST(locreq_escape__line_ends__by_number)
{
	autobuf out = { 0 };
	locreq_escape(SPAN_LIT("a\r\n\tb"), &out);
	assert_string_equal(out.at, "a&#13;&#10;&#9;b");
}
