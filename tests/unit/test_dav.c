#include "tests/unit/test.h"

#include "agent/net/dav.h"
#include "agent/net/davhref.h"
#include "agent/net/davlist.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASE "http://dp5.example.com/SMS_DP_SMSPKG$/LAB0001A"

/* One folder and what its list gives. */
struct lab {
	struct url root, asked;
	struct entry_list files;
	struct buf folders;
	struct davlist list;
	struct err e;
};

static void own_lab(struct lab *l)
{
	url_free(&l->root);
	url_free(&l->asked);
	entry_list_free(&l->files);
	buf_free(&l->folders);
}
#define autolab __attribute__((cleanup(own_lab))) struct lab

static void begin(struct lab *l, const char *root, const char *asked)
{
	*l = (struct lab){ 0 };
	if (url_parse(span_of(root), &l->root, &l->e) != ERR_OK ||
	    url_parse(span_of(asked), &l->asked, &l->e) != ERR_OK)
		fail_msg("%s", l->e.text);
}

static enum err_code parse(struct lab *l, const char *xml)
{
	l->list = (struct davlist){ .root = &l->root, .asked = &l->asked,
				    .files = &l->files, .folders = &l->folders };
	return davlist_xml(&l->list, span_of(xml), &l->e);
}

static enum err_code parse_page(struct lab *l, const char *html)
{
	l->list = (struct davlist){ .root = &l->root, .asked = &l->asked,
				    .files = &l->files, .folders = &l->folders };
	return davlist_html(&l->list, span_of(html), &l->e);
}

/* "path size\n..." of files, then "folder/\n...", in document order. */
static const char *found(struct lab *l)
{
	static char text[4096];
	int n = 0;
	text[0] = '\0';
	for (size_t i = 0; i < l->files.count; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n,
			      l->files.items[i].size == WIRE_UNKNOWN ?
				      "%s ?\n" : "%s %llu\n",
			      entry_path(&l->files, i),
			      (unsigned long long)l->files.items[i].size);
	for (size_t at = 0; at < l->folders.len;
	     at += strlen(l->folders.at + at) + 1)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%s/\n",
			      l->folders.at + at);
	return text;
}

#define MULTI(responses) \
	"<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\">" responses \
	"</D:multistatus>"
#define PROPS(href, props)                                               \
	"<D:response><D:href>" href "</D:href><D:propstat><D:prop>" props \
	"</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
#define COLLECTION "<D:resourcetype><D:collection/></D:resourcetype>"
#define FOLDER(href) PROPS(href, COLLECTION)
#define FILE_OF(href, size) \
	PROPS(href, "<D:getcontentlength>" size "</D:getcontentlength>")
#define SELF FOLDER("/SMS_DP_SMSPKG$/LAB0001A/")

/* One href beside that of the folder, in the root. */
static enum err_code parse_href(struct lab *l, const char *href)
{
	char xml[8192];
	snprintf(xml, sizeof(xml), MULTI(SELF FILE_OF("%s", "1")), href);
	begin(l, BASE, BASE);
	return parse(l, xml);
}

/* --- what servers send ------------------------------------------------------- */

/* observed: nginx 1.22.1 with dav-ext 3.0.0, shortened */
TEST(dav_parse__nginx__files_and_folders)
{
	autolab l;
	begin(&l, BASE, BASE);
	assert_err(parse(&l,
		"<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n"
		"<D:multistatus xmlns:D=\"DAV:\">\n<D:response>\n"
		"<D:href>/SMS_DP_SMSPKG$/LAB0001A</D:href>\n<D:propstat>\n"
		"<D:prop>\n<D:displayname>LAB0001A</D:displayname>\n"
		"<D:resourcetype><D:collection/></D:resourcetype>\n"
		"<D:lockdiscovery/>\n<D:supportedlock>\n</D:supportedlock>\n"
		"</D:prop>\n<D:status>HTTP/1.1 200 OK</D:status>\n"
		"</D:propstat>\n</D:response>\n<D:response>\n"
		"<D:href>/SMS_DP_SMSPKG$/LAB0001A/gr%C3%B6%C3%9Fe.txt</D:href>\n"
		"<D:propstat>\n<D:prop>\n"
		"<D:getcontentlength>2</D:getcontentlength>\n"
		"<D:resourcetype></D:resourcetype>\n<D:lockdiscovery/>\n"
		"</D:prop>\n<D:status>HTTP/1.1 200 OK</D:status>\n"
		"</D:propstat>\n</D:response>\n<D:response>\n"
		"<D:href>/SMS_DP_SMSPKG$/LAB0001A/a&amp;b.config</D:href>\n"
		"<D:propstat>\n<D:prop>\n"
		"<D:getcontentlength>3</D:getcontentlength>\n"
		"<D:resourcetype></D:resourcetype>\n</D:prop>\n"
		"<D:status>HTTP/1.1 200 OK</D:status>\n</D:propstat>\n"
		"</D:response>\n<D:response>\n"
		"<D:href>/SMS_DP_SMSPKG$/LAB0001A/setup/</D:href>\n<D:propstat>\n"
		"<D:prop>\n<D:resourcetype><D:collection/></D:resourcetype>\n"
		"</D:prop>\n<D:status>HTTP/1.1 200 OK</D:status>\n"
		"</D:propstat>\n</D:response>\n</D:multistatus>\n"), ERR_OK);
	assert_string_equal(found(&l),
			    "gr\xc3\xb6\xc3\x9f" "e.txt 2\na&b.config 3\nsetup/\n");
	assert_false(l.list.is_file);
	assert_int_equal(l.list.responses, 4);
}

/* observed: Apache 2.4.71 mod_dav, asked for a subfolder */
TEST(dav_parse__apache__takes_propstat_200_only)
{
	autolab l;
	begin(&l, BASE, BASE "/setup/");
	assert_err(parse(&l,
		"<?xml version=\"1.0\" encoding=\"utf-8\"?>\n"
		"<D:multistatus xmlns:D=\"DAV:\" xmlns:ns0=\"DAV:\">\n"
		"<D:response xmlns:lp1=\"DAV:\" xmlns:g0=\"DAV:\">\n"
		"<D:href>/SMS_DP_SMSPKG$/LAB0001A/setup/</D:href>\n"
		"<D:propstat>\n<D:prop>\n"
		"<lp1:resourcetype><D:collection/></lp1:resourcetype>\n"
		"</D:prop>\n<D:status>HTTP/1.1 200 OK</D:status>\n"
		"</D:propstat>\n<D:propstat>\n<D:prop>\n<g0:getcontentlength/>\n"
		"</D:prop>\n<D:status>HTTP/1.1 404 Not Found</D:status>\n"
		"</D:propstat>\n</D:response>\n"
		"<D:response xmlns:lp1=\"DAV:\">\n"
		"<D:href>/SMS_DP_SMSPKG$/LAB0001A/setup/tool.bin</D:href>\n"
		"<D:propstat>\n<D:prop>\n"
		"<lp1:getcontentlength>5</lp1:getcontentlength>\n"
		"<lp1:resourcetype/>\n</D:prop>\n"
		"<D:status>HTTP/1.1 200 OK</D:status>\n</D:propstat>\n"
		"<D:propstat><D:prop><D:getcontentlength>77</D:getcontentlength>"
		"<D:resourcetype><D:collection/></D:resourcetype></D:prop>"
		"<D:status>HTTP/1.1 404 Not Found</D:status></D:propstat>"
		"</D:response>\n</D:multistatus>\n"), ERR_OK);
	assert_string_equal(found(&l), "setup/tool.bin 5\n");
}

TEST(dav_parse__lighttpd__folder_with_a_length)
{
	autolab l;
	begin(&l, BASE, BASE);
	assert_err(parse(&l,
		"<?xml version=\"1.0\" encoding=\"utf-8\"?>"
		"<D:multistatus xmlns:D=\"DAV:\" "
		"xmlns:ns0=\"urn:uuid:c2f41010-65b3-11d1-a29f-00aa00c14882/\">"
		"<D:response><D:href>/SMS_DP_SMSPKG$/LAB0001A/</D:href><D:propstat>"
		"<D:prop><D:getcontentlength>4096</D:getcontentlength>"
		"<D:getcontenttype>httpd/unix-directory</D:getcontenttype>"
		"<D:resourcetype><D:collection/></D:resourcetype></D:prop>"
		"<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
		"<D:response><D:href>/SMS_DP_SMSPKG$/LAB0001A/setup</D:href>"
		"<D:propstat><D:prop>"
		"<D:getcontentlength>4096</D:getcontentlength>"
		"<D:getlastmodified ns0:dt=\"dateTime.rfc1123\">"
		"Sun, 22 Nov 2026 11:01:48 GMT</D:getlastmodified>"
		"<D:resourcetype><D:collection/></D:resourcetype></D:prop>"
		"<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
		"</D:multistatus>"), ERR_OK);
	assert_string_equal(found(&l), "setup/\n");
}

TEST(dav_parse__iis__absolute_urls_in_any_spelling)
{
	autolab l;
	begin(&l, BASE, BASE);
	assert_err(parse(&l, MULTI(
		PROPS("http://DP5.Example.COM:80/sms_dp_smspkg$/lab0001a/",
		      "<D:iscollection>1</D:iscollection>")
		PROPS("http://DP5.Example.COM:80/sms_dp_smspkg$/lab0001a/Setup",
		      "<D:iscollection>1</D:iscollection>"
		      "<D:getcontentlength>0</D:getcontentlength>")
		PROPS("http://dp5.example.com/SMS_DP_SMSPKG%24/LAB0001A/A%20b.TXT",
		      "<D:iscollection>0</D:iscollection>"
		      "<D:getcontentlength>8</D:getcontentlength>"))), ERR_OK);
	assert_string_equal(found(&l), "A b.TXT 8\nSetup/\n");
}

TEST(dav_parse__iis_sccm_hrefs__are_paths)
{
	autolab l;
	begin(&l, BASE, BASE);
	assert_err(parse(&l, MULTI(
		FOLDER(BASE "/sccm?/")
		FILE_OF(BASE "/sccm?/web.config", "7")
		FILE_OF("/SMS_DP_SMSPKG$/LAB0001A/SCCM?/b", "8")
		FOLDER(BASE "/sccm?/setup/"))), ERR_OK);
	assert_string_equal(found(&l), "web.config 7\nb 8\nsetup/\n");
}

TEST(dav_parse__other_virtual_directory__is_the_same_place)
{
	autolab l;
	begin(&l, "https://dp5.example.com/NOCERT_SMS_DP_SMSPKG$/LAB0001A",
	      "https://dp5.example.com/NOCERT_SMS_DP_SMSPKG$/LAB0001A/s/");
	assert_err(parse(&l, MULTI(
		FOLDER("https://dp5.example.com/SMS_DP_SMSPKG$/LAB0001A/s/")
		FILE_OF("/CCMTOKENAUTH_SMS_DP_SMSPKG$/LAB0001A/s/a", "1"))),
		ERR_OK);
	assert_string_equal(found(&l), "s/a 1\n");
}

TEST(dav_parse__plain_server__compares_case)
{
	autolab l;
	begin(&l, "http://files.example.com/Lab", "http://files.example.com/Lab");
	assert_err(parse(&l, MULTI(FOLDER("/Lab/") FILE_OF("/lab/a", "1"))),
		   ERR_LISTING);
}

TEST(dav_parse__below_the_root__compares_case)
{
	autolab l;
	begin(&l, BASE, BASE "/Setup/");
	assert_err(parse(&l, MULTI(FILE_OF(BASE "/setup/a", "1"))), ERR_LISTING);
}

TEST(dav_parse__root_of_the_server__works)
{
	autolab l;
	begin(&l, "http://files.example.com", "http://files.example.com");
	assert_err(parse(&l, MULTI(FOLDER("/") FILE_OF("/a", "1") FOLDER("/b/"))),
		   ERR_OK);
	assert_string_equal(found(&l), "a 1\nb/\n");
}

TEST(dav_parse__public_entry__does_the_same)
{
	autolab l;
	begin(&l, BASE, BASE);
	assert_err(dav_parse(SPAN_LIT(MULTI(SELF FILE_OF(BASE "/a", "1"))), &l.root,
			     &l.asked, &l.files, &l.folders, &l.e), ERR_OK);
	assert_string_equal(found(&l), "a 1\n");
}

TEST(dav_parse__depth_ignored_by_server__deeper_names_wait)
{
	autolab l;
	begin(&l, BASE, BASE);
	assert_err(parse(&l, MULTI(SELF FOLDER(BASE "/s/") FILE_OF(BASE "/s/a", "1")
				   FILE_OF(BASE "/b", "2"))), ERR_OK);
	assert_string_equal(found(&l), "b 2\ns/\n");
}

TEST(dav_parse__nothing_inside__is_no_error)
{
	autolab l;
	begin(&l, BASE, BASE);
	assert_err(parse(&l, MULTI(SELF)), ERR_OK);
	assert_string_equal(found(&l), "");
	assert_err(parse(&l, MULTI("")), ERR_OK);
}

TEST(dav_parse__one_response_no_collection__is_a_file)
{
	autolab l;
	begin(&l, BASE "/tool.bin", BASE "/tool.bin");
	assert_err(parse(&l, MULTI(FILE_OF(
		"/SMS_DP_SMSPKG$/LAB0001A/tool.bin", "5"))), ERR_OK);
	assert_true(l.list.is_file);
	assert_int_equal(l.list.responses, 1);
	assert_int_equal(l.list.size, 5);
	assert_string_equal(found(&l), "");
}

TEST(dav_parse__no_length__is_unknown)
{
	autolab l;
	begin(&l, BASE, BASE);
	assert_err(parse(&l, MULTI(SELF PROPS(BASE "/a", ""))), ERR_OK);
	assert_string_equal(found(&l), "a ?\n");
}

TEST(dav_parse__href_inside_a_property__is_not_the_entry)
{
	autolab l;
	begin(&l, BASE, BASE);
	assert_err(parse(&l, MULTI(PROPS(BASE "/a",
		"<D:lockdiscovery><D:lockroot><D:href>/etc/passwd</D:href>"
		"</D:lockroot></D:lockdiscovery>"
		"<D:x><D:getcontentlength>9</D:getcontentlength></D:x>"
		"<D:x><D:collection/></D:x>"
		"<D:getcontentlength>3</D:getcontentlength>"))), ERR_OK);
	assert_string_equal(found(&l), "a 3\n");
}

TEST(dav_parse__entry_gone__is_left_out)
{
	autolab l;
	begin(&l, BASE, BASE);
	assert_err(parse(&l, MULTI(SELF "<D:response><D:href>" BASE "/a</D:href>"
		"<D:status>HTTP/1.1 404 Not Found</D:status></D:response>")),
		ERR_OK);
	assert_string_equal(found(&l), "");
}

TEST(dav_parse__entry_forbidden__is_listing)
{
	autolab l;
	begin(&l, BASE, BASE);
	assert_err(parse(&l, MULTI(SELF "<D:response><D:href>" BASE "/a</D:href>"
		"<D:status>HTTP/1.1 403 Forbidden</D:status></D:response>")),
		ERR_LISTING);
	assert_non_null(strstr(l.e.text, "/a\""));
}

/* --- what nobody honest sends ---------------------------------------------------- */

TEST(dav_parse__hostile_hrefs__are_listing_and_named)
{
	static const char *const bad[] = {
		"/SMS_DP_SMSPKG$/LAB0001A/../x", "/SMS_DP_SMSPKG$/LAB0001A/..",
		"/SMS_DP_SMSPKG$/LAB0001A/%2e%2e/x", "/SMS_DP_SMSPKG$/LAB0001A/.%2E",
		"/SMS_DP_SMSPKG$/LAB0001A/s/../../x", "../x", "a/../../x",
		"/SMS_DP_SMSPKG$/LAB0001A/a%2Fb", "/SMS_DP_SMSPKG$/LAB0001A/a%2fb",
		"/SMS_DP_SMSPKG$/LAB0001A/..%2f..%2fx",
		"/SMS_DP_SMSPKG$/LAB0001A/..%5c..%5cx",
		"/SMS_DP_SMSPKG$/LAB0001A/a\\b", "/SMS_DP_SMSPKG$/LAB0001A/a%5Cb",
		"\\\\host\\share", "C:\\x", "C:/x",
		"/SMS_DP_SMSPKG$/LAB0001A/a%00b", "/SMS_DP_SMSPKG$/LAB0001A/a%",
		"/SMS_DP_SMSPKG$/LAB0001A/a%4", "/SMS_DP_SMSPKG$/LAB0001A/a%zz",
		"/SMS_DP_SMSPKG$/LAB0001A/.", "/SMS_DP_SMSPKG$/LAB0001A/./a",
		"/etc/passwd", "/", "/SMS_DP_SMSPKG$/", "/SMS_DP_SMSPKG$/LAB0001B/a",
		"/SMS_DP_SMSPKG$/LAB0001A-evil/a", "/SMS_DP_SMSPKG$/LAB0001",
		"/SMS_DP_SMSPKG$/LAB0001Aa", "/x/SMS_DP_SMSPKG$/LAB0001A/a",
		"/SMS_DP_SMSSIG$/LAB0001A/a", "/LAB0001A/a",
		"/%53MS_DP_SMSPKG$%2FLAB0001A/a",
		"http://evil.example.net/SMS_DP_SMSPKG$/LAB0001A/a",
		"http://dp5.example.com.evil.net/SMS_DP_SMSPKG$/LAB0001A/a",
		"http://dp5.example.com:8080/SMS_DP_SMSPKG$/LAB0001A/a",
		"https://dp5.example.com/SMS_DP_SMSPKG$/LAB0001A/a",
		"http://user@dp5.example.com/SMS_DP_SMSPKG$/LAB0001A/a",
		"http://dp5.example.com@evil.net/SMS_DP_SMSPKG$/LAB0001A/a",
		"http:///SMS_DP_SMSPKG$/LAB0001A/a", "http://",
		"//evil.example.net/SMS_DP_SMSPKG$/LAB0001A/a",
		"file:///SMS_DP_SMSPKG$/LAB0001A/a", "javascript:alert(1)",
		"ftp://dp5.example.com/SMS_DP_SMSPKG$/LAB0001A/a",
		"/SMS_DP_SMSPKG$/LAB0001A/a?x=1", "/SMS_DP_SMSPKG$/LAB0001A?a",
		"/SMS_DP_SMSPKG$/LAB0001A/sccm?a",
		"/SMS_DP_SMSPKG$/LAB0001A/sccm?/../a",
		"/SMS_DP_SMSPKG$/LAB0001A/sccm?/a%2fb", "?/a",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		autolab l;
		if (parse_href(&l, bad[i]) != ERR_LISTING)
			fail_msg("not refused: %s", bad[i]);
		if (strstr(l.e.text, bad[i]) == NULL)
			fail_msg("%s is not in: %s", bad[i], l.e.text);
		assert_int_equal(l.files.count, 0);
		assert_int_equal(l.folders.len, 0);
	}
}

TEST(dav_parse__odd_names__are_left_to_the_keeper)
{
	static const char *const odd[][2] = {
		{ "a%0Ab", "a\nb 1\n" },	 { "%E2%80%AE", "\xe2\x80\xae 1\n" },
		{ "%FF", "\xff 1\n" },		 { "...", "... 1\n" },
		{ "a%2525", "a%25 1\n" },	 { "C#.txt", "C#.txt 1\n" },
		{ "a b", "a b 1\n" },		 { "gr\xc3\xb6n", "gr\xc3\xb6n 1\n" },
		{ "-rf", "-rf 1\n" },		 { "con", "con 1\n" },
		{ "a%3Fb", "a?b 1\n" },		 { "a:b", "a:b 1\n" },
		{ "sccm", "sccm 1\n" },		 { "/a", "a 1\n" },
	};
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		autolab l;
		char href[256];
		snprintf(href, sizeof(href), "/SMS_DP_SMSPKG$/LAB0001A/%s",
			 odd[i][0]);
		assert_err(parse_href(&l, href), ERR_OK);
		assert_string_equal(found(&l), odd[i][1]);
	}
}

TEST(dav_parse__relative_hrefs__are_below_the_asked)
{
	autolab l;
	begin(&l, BASE, BASE "/s");
	assert_err(parse(&l, MULTI(FOLDER("") FILE_OF("a", "1") FILE_OF("./b", "2"))),
		   ERR_OK);
	assert_string_equal(found(&l), "s/a 1\ns/b 2\n");
}

TEST(dav_parse__folder_above_the_asked__is_listing)
{
	autolab l;
	begin(&l, BASE, BASE "/s");
	assert_err(parse(&l, MULTI(FOLDER(BASE "/"))), ERR_LISTING);
	assert_err(parse(&l, MULTI(FILE_OF(BASE "/a", "1"))), ERR_LISTING);
}

TEST(dav_parse__asked_is_not_where_it_should__is_listing)
{
	static const char *const elsewhere[] = {
		"http://dp5.example.com/SMS_DP_SMSPKG$/LAB0001B",
		"http://dp6.example.com/SMS_DP_SMSPKG$/LAB0001A",
		BASE "/%2e%2e", BASE "/a%2fb",
	};
	for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++) {
		autolab l;
		begin(&l, BASE, elsewhere[i]);
		assert_err(parse(&l, MULTI("")), ERR_LISTING);
	}
	autolab l;
	begin(&l, BASE, BASE "/b");
	l.list = (struct davlist){ .root = &l.root, .asked = &l.asked,
				   .folder = "a", .files = &l.files,
				   .folders = &l.folders };
	assert_err(davlist_xml(&l.list, SPAN_LIT(MULTI("")), &l.e), ERR_LISTING);
}

TEST(dav_parse__impossible_lengths__are_listing)
{
	static const char *const bad[] = { "-1", "+1", "1e3", "0x10", "1 2", "1.0",
					   "99999999999999999999" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		autolab l;
		char xml[1024];
		snprintf(xml, sizeof(xml), MULTI(FILE_OF(BASE "/a", "%s")), bad[i]);
		begin(&l, BASE, BASE);
		assert_err(parse(&l, xml), ERR_LISTING);
	}
}

TEST(dav_parse__not_a_multistatus__is_listing_naming_the_root)
{
	autolab l;
	begin(&l, BASE, BASE);
	assert_err(parse(&l, "<html><body/></html>"), ERR_LISTING);
	assert_non_null(strstr(l.e.text, "<html>"));
	assert_err(parse(&l, ""), ERR_LISTING);
	assert_err(parse(&l, "no XML"), ERR_LISTING);
	assert_err(parse(&l, "<!DOCTYPE x><D:multistatus/>"), ERR_LISTING);
	assert_err(parse(&l, "<D:multistatus xmlns:D=\"DAV:\">" SELF), ERR_LISTING);
}

TEST(dav_parse__entry_without_or_with_two_hrefs__is_listing)
{
	autolab l;
	begin(&l, BASE, BASE);
	assert_err(parse(&l, MULTI("<D:response></D:response>")), ERR_LISTING);
	assert_err(parse(&l, MULTI("<D:response><D:href>" BASE "/a</D:href><D:href>"
				   BASE "/b</D:href></D:response>")), ERR_LISTING);
}

TEST(dav_parse__long_href__is_listing)
{
	autolab l;
	char href[5000];
	memset(href, 'a', sizeof(href) - 1);
	memcpy(href, BASE "/", strlen(BASE "/"));
	href[sizeof(href) - 1] = '\0';
	assert_err(parse_href(&l, href), ERR_LISTING);
}

TEST(dav_parse__too_deep__is_limit)
{
	autolab l;
	autobuf asked = { 0 }, xml = { 0 };
	buf_text(&asked, BASE);
	for (unsigned i = 0; i < 31; i++)
		buf_text(&asked, "/d");
	begin(&l, BASE, asked.at);
	buf_print(&xml, MULTI(FOLDER("%s/e/")), asked.at);
	assert_err(parse(&l, xml.at), ERR_OK);
	own_lab(&l);
	buf_text(&asked, "/d");
	begin(&l, BASE, asked.at);
	buf_clear(&xml);
	buf_print(&xml, MULTI(FOLDER("%s/e/")), asked.at);
	assert_err(parse(&l, xml.at), ERR_LIMIT);
}

TEST(dav_parse__too_many_folders__is_limit)
{
	autolab l;
	begin(&l, BASE, BASE);
	l.folders.max = 8;
	assert_err(parse(&l, MULTI(FOLDER("abc/") FOLDER("def/"))), ERR_OK);
	assert_err(parse(&l, MULTI(FOLDER("g/"))), ERR_LIMIT);
}

/* --- index pages -------------------------------------------------------------- */

/* observed: nginx 1.22.1 autoindex */
TEST(davlist_html__nginx__links_of_the_folder)
{
	autolab l;
	begin(&l, BASE, BASE "/");
	assert_err(parse_page(&l,
		"<html>\n<head><title>Index of /</title></head>\n<body>\n"
		"<h1>Index of /</h1><hr><pre><a href=\"../\">../</a>\n"
		"<a href=\"setup/\">setup/</a>        22-Nov-2026 11:01     -\n"
		"<a href=\"a%26b.config\">a&amp;b.config</a>   22-Nov-2026   2\n"
		"<a href=\"read%20me.txt\">read me.txt</a>  22-Nov-2026      3\n"
		"</pre><hr></body>\n</html>\n"), ERR_OK);
	assert_string_equal(found(&l), "a&b.config ?\nread me.txt ?\nsetup/\n");
}

/* observed: Apache 2.4.71 mod_autoindex */
TEST(davlist_html__apache__sort_links_are_navigation)
{
	autolab l;
	begin(&l, BASE, BASE "/setup/");
	assert_err(parse_page(&l,
		"<pre>      <a href=\"?C=N;O=D\">Name</a>  <a href=\"?C=M;O=A\">"
		"Last modified</a><hr>      <a href=\"/SMS_DP_SMSPKG$/\">"
		"Parent Directory</a>   -   \n"
		"      <a href=\"a&amp;b.config\">a&amp;b.config</a>   2   \n"
		"<a href=\"sub/\"><img src=\"/icons/folder.gif\"></a> "
		"<a href=\"sub/\">sub/</a>    -   \n"
		"<hr></pre><address>Apache at <a href=\"http://httpd.apache.org/\">"
		"x</a></address>"), ERR_OK);
	assert_string_equal(found(&l), "setup/a&b.config ?\nsetup/sub/\n");
}

TEST(davlist_html__iis__dir_before_a_folder)
{
	autolab l;
	begin(&l, BASE, BASE "/");
	assert_err(parse_page(&l,
		"<html><body><pre><A HREF=\"/SMS_DP_SMSPKG$/\">"
		"[To Parent Directory]</A><br><br>"
		" 11/22/2026 11:01 AM        &lt;dir&gt; "
		"<A HREF=\"/sms_dp_smspkg$/lab0001a/Setup\">Setup</A><br>"
		" 11/22/2026 11:01 AM            5 "
		"<A HREF=\"/SMS_DP_SMSPKG$/LAB0001A/tool.bin\">tool.bin</A><br>"
		" <dir> <a href='http://DP5.example.com:80/SMS_DP_SMSPKG$/LAB0001A/"
		"sccm?/b'>b</a><br><a href=c>c</a></pre>"), ERR_OK);
	assert_string_equal(found(&l), "tool.bin ?\nc ?\nSetup/\nb/\n");
}

TEST(davlist_html__odd_markup__is_survived)
{
	autolab l;
	begin(&l, BASE, BASE "/");
	assert_err(parse_page(&l,
		"<!-- <a href=no1> --><a name=x href = \"y1\" class='>'>"
		"<a\nhref='y2'><a/><a><a href><a href=><abbr href=no2>"
		"<A CLASS=\"q\" HREF=y3#frag><a href=\"#top\"><a href=\"&#x79;4\">"
		"<a href=\"&#121;5&bogus;&#0;&#99999999;\"><a href=' y6 '>"
		"<a href=./><a href=.>"
		"<a href=mailto:x@y><a href=javascript:void(0)><a href=\"no3"),
		ERR_OK);
	assert_string_equal(found(&l), "y1 ?\ny2 ?\ny3 ?\ny4 ?\ny5&bogus;& ?\ny6 ?\n");
}

TEST(davlist_html__outside__is_left_out)
{
	autolab l;
	begin(&l, BASE, BASE "/s/");
	assert_err(parse_page(&l,
		"<a href=/etc/passwd><a href=../x><a href=..><a href=/>"
		"<a href=//evil.example.net/a><a href=https://dp5.example.com/"
		"SMS_DP_SMSPKG$/LAB0001A/s/a><a href=deep/er><a href=a?x=1>"
		"<a href=/SMS_DP_SMSPKG$/LAB0001A/t/a>"), ERR_OK);
	assert_string_equal(found(&l), "");
}

TEST(davlist_html__hidden_separators__are_listing)
{
	static const char *const bad[] = { "a%2fb", "%2e%2e/x", "a/../../x",
					   "..%2fx", "a%5cb", "a\\b", "a%00", "a%" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		autolab l;
		char html[64];
		snprintf(html, sizeof(html), "<a href=\"%s\">", bad[i]);
		begin(&l, BASE, BASE "/");
		if (parse_page(&l, html) != ERR_LISTING)
			fail_msg("not refused: %s", bad[i]);
	}
}

TEST(davlist_html__nul_and_empty__are_survived)
{
	autolab l;
	begin(&l, BASE, BASE "/");
	assert_err(parse_page(&l, ""), ERR_OK);
	assert_err(davlist_html(&l.list, SPAN_LIT("<a\0 href=x><a href=y\0z>"),
				&l.e), ERR_LISTING);
}

/* --- URLs ----------------------------------------------------------------------- */

static const char *file_url(const char *base, const char *path,
			    enum wire_form form)
{
	static char text[512];
	autobuf out = { 0 };
	dav_file_url(base, path, form, &out);
	snprintf(text, sizeof(text), "%s", out.at);
	return text;
}

TEST(dav_file_url__forms)
{
	assert_string_equal(file_url(BASE, "setup/tool.bin", WIRE_FORM_SCCM),
			    BASE "/sccm?/setup/tool.bin");
	assert_string_equal(file_url(BASE, "setup/tool.bin", WIRE_FORM_PLAIN),
			    BASE "/setup/tool.bin");
	assert_string_equal(file_url(BASE "/", "a", WIRE_FORM_PLAIN), BASE "/a");
}

TEST(dav_file_url__odd_names__are_escaped)
{
	assert_string_equal(file_url("http://h", "a b/c#d?e%f&g+\xc3\xb6",
				     WIRE_FORM_PLAIN),
			    "http://h/a%20b/c%23d%3Fe%25f%26g%2B%C3%B6");
}

static const char *on_rung(const char *url, enum wire_rung rung)
{
	static char text[512];
	autobuf out = { 0 };
	if (!dav_on_rung(url, rung, &out))
		return "none";
	snprintf(text, sizeof(text), "%s", out.at);
	return text;
}

TEST(dav_on_rung__family__is_replaced)
{
	static const char *const urls[] = {
		"https://dp/SMS_DP_SMSPKG$/ID/a", "https://dp/sms_dp_smspkg$/ID/a",
		"https://dp/NOCERT_SMS_DP_SMSPKG$/ID/a",
		"https://dp/CCMTOKENAUTH_SMS_DP_SMSPKG$/ID/a",
		"https://dp/SMS_DP_SMSPKG%24/ID/a",
	};
	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
		assert_string_equal(on_rung(urls[i], WIRE_RUNG_PLAIN),
				    "https://dp/SMS_DP_SMSPKG$/ID/a");
		assert_string_equal(on_rung(urls[i], WIRE_RUNG_NOCERT),
				    "https://dp/NOCERT_SMS_DP_SMSPKG$/ID/a");
		assert_string_equal(on_rung(urls[i], WIRE_RUNG_TOKEN),
				    "https://dp/CCMTOKENAUTH_SMS_DP_SMSPKG$/ID/a");
		assert_string_equal(on_rung(urls[i], WIRE_RUNG_AS_GIVEN), urls[i]);
	}
	assert_string_equal(on_rung("http://dp:80/SMS_DP_SMSPKG$?x",
				    WIRE_RUNG_NOCERT),
			    "http://dp:80/NOCERT_SMS_DP_SMSPKG$?x");
}

TEST(dav_on_rung__no_family__is_false)
{
	static const char *const urls[] = {
		"http://dp/content/ID", "http://dp", "http://dp/",
		"http://dp/xSMS_DP_SMSPKG$/ID", "http://dp/SMS_DP_SMSPKG/ID",
		"http://dp/SMS_DP_SMSSIG$/ID", "http://SMS_DP_SMSPKG$/ID",
		"http://dp/a?/SMS_DP_SMSPKG$/ID", "http://dp/a%2FSMS_DP_SMSPKG$",
	};
	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++)
		assert_string_equal(on_rung(urls[i], WIRE_RUNG_PLAIN), "none");
}
