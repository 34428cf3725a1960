#include "tests/unit/test.h"

#include "agent/net/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERVICE                                                          \
	"https://content.example.org/downloadrestservice.svc/"           \
	"getcontentxmlsecure?pid=LAB0001A&cid=LAB0001A&et=2026-03-02T15:45:11"
#define HEX "9F2C000000000000000000000000000000000000000000000000000000000001"
#define HEX_LOW "9f2c000000000000000000000000000000000000000000000000000000000001"
#define HEX1 "9F2C000000000000000000000000000000000001"
#define HEX1_LOW "9f2c000000000000000000000000000000000001"
#define CONTENT(files) "<Content ContentId=\"LAB0001A\" Version=\"6\">" files \
	"</Content>"
#define FILE_OF(attributes) CONTENT("<FileContent " attributes "/>")

struct lab {
	struct entry_list files;
	struct err e;
};

static void own_lab(struct lab *l)
{
	entry_list_free(&l->files);
}
#define autolab __attribute__((cleanup(own_lab))) struct lab

static enum err_code parse_as(struct lab *l, const char *xml, const char *id,
			      uint64_t version)
{
	entry_list_free(&l->files);
	l->e = (struct err){ 0 };
	return manifest_parse(span_of(xml), SERVICE, span_of(id), version,
			      &l->files, &l->e);
}

static enum err_code parse(struct lab *l, const char *xml)
{
	return parse_as(l, xml, "LAB0001A", 6);
}

TEST(manifest_parse__sample_of_the_wire_page__is_read)
{
	autolab l = { 0 };
	struct err e = { 0 };
	assert_ok(parse(&l, CONTENT(
		"<FileContent Name=\"setup\\tool.bin\" Hash=\"" HEX "\" "
		"HashAlgorithm=\"SHA256\" Size=\"40960\" "
		"Url=\"https://store.example.net/c/41?sv=2024&amp;sig=x%2By\"/>"
		"<FileContent Name=\"read me\" Hash=\"" HEX1 "\" "
		"HashAlgorithm=\"SHA1\" Size=\"17\"/>")));
	assert_int_equal(l.files.count, 2);
	assert_string_equal(entry_path(&l.files, 0), "read me");
	assert_string_equal(entry_url(&l.files, 0),
		"https://content.example.org/downloadrestservice.svc/"
		"getcontentfile?pid=LAB0001A&cid=LAB0001A&et=2026-03-02T15:45:11"
		"&name=read%20me");
	assert_string_equal(entry_hash(&l.files, 0), HEX1_LOW);
	assert_int_equal(l.files.items[0].size, 17);
	assert_string_equal(entry_path(&l.files, 1), "setup/tool.bin");
	assert_string_equal(entry_url(&l.files, 1),
			    "https://store.example.net/c/41?sv=2024&sig=x%2By");
	assert_string_equal(entry_hash(&l.files, 1), HEX_LOW);
	assert_int_equal(l.files.items[1].size, 40960);
}

TEST(manifest_parse__other_attribute_names__are_read)
{
	autolab l = { 0 };
	struct err e = { 0 };
	static const char *const forms[] = {
		FILE_OF("RelativePath=\"a\" Length=\"5\" Uri=\"https://s/x\""),
		FILE_OF("Path=\"a\" Size=\"5\" Href=\"https://s/x\""),
		FILE_OF("Name=\"a\" Path=\"b\" Size=\"5\" Url=\"https://s/x\""),
		CONTENT("<Files><FileContent Name=\"a\" Size=\"5\" "
			"Url=\"https://s/x\" New=\"1\"/></Files><More/>"),
		("<c:Content xmlns:c=\"urn:x\" ContentId=\"LAB0001A\"><c:FileContent "
		 "Name=\"a\" Size=\"5\" Url=\"https://s/x\"/></c:Content>"),
	};
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		assert_ok(parse(&l, forms[i]));
		assert_int_equal(l.files.count, 1);
		assert_string_equal(entry_path(&l.files, 0), "a");
		assert_string_equal(entry_url(&l.files, 0), "https://s/x");
		assert_int_equal(l.files.items[0].size, 5);
	}
}

TEST(manifest_parse__nothing_but_a_name__is_unknown)
{
	autolab l = { 0 };
	struct err e = { 0 };
	assert_ok(parse(&l, FILE_OF("Name=\"a\" Url=\"\" Hash=\"\"")));
	assert_true(l.files.items[0].size == WIRE_UNKNOWN);
	assert_string_equal(entry_hash(&l.files, 0), "");
	assert_non_null(strstr(entry_url(&l.files, 0), "/getcontentfile?"));
}

TEST(manifest_parse__service_without_query__gets_a_name)
{
	autolab l = { 0 };
	struct err e = { 0 };
	assert_ok(manifest_parse(SPAN_LIT(FILE_OF("Name=\"s/a&amp;b?\"")),
				 "https://h/s.svc/getcontentxmlsecure",
				 SPAN_LIT("LAB0001A"), 6, &l.files, &e));
	assert_string_equal(entry_url(&l.files, 0),
			    "https://h/s.svc/getcontentfile?name=s/a%26b%3F");
}

TEST(manifest_parse__no_files__is_no_error)
{
	autolab l = { 0 };
	struct err e = { 0 };
	assert_ok(parse(&l, CONTENT("")));
	assert_int_equal(l.files.count, 0);
}

TEST(manifest_parse__content_id__matches_in_each_spelling)
{
	static const struct {
		const char *asked;
		uint64_t version;
		const char *named;
		bool is_same;
	} table[] = {
		{ "LAB0001A", 6, "LAB0001A", true },
		{ "LAB0001A", 6, "lab0001a", true },
		{ "LAB0001A", 6, "LAB0001A.6", true },
		{ "LAB0001A", 6, "LAB0001A.7", false },
		{ "LAB0001A", 0, "LAB0001A.7", true },
		{ "Content_1.6", 6, "content_1", true },
		{ "Content_1.7", 6, "Content_1", false },
		{ "Content_1.6", 6, "Content_1.6", true },
		{ "Content_1.6", 6, "Content_1.7", false },
		{ "LAB0001A", 6, "LAB0001B", false },
		{ "LAB0001A", 6, "LAB0001", false },
		{ "LAB0001A", 6, "LAB0001A.", false },
		{ "LAB0001A", 6, "LAB0001A.x", false },
		{ "LAB0001A", 6, "LAB0001A.6.6", false },
		{ "LAB0001A", 6, "", false },
		{ "", 6, "LAB0001A", false },
		{ "", 0, "", false },
		{ "", 6, ".6", false },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		autolab l = { 0 };
		char xml[256];
		snprintf(xml, sizeof(xml), "<Content ContentId=\"%s\"/>",
			 table[i].named);
		if (parse_as(&l, xml, table[i].asked, table[i].version) !=
		    (table[i].is_same ? ERR_OK : ERR_LISTING))
			fail_msg("%s and %s", table[i].asked, table[i].named);
	}
}

TEST(manifest_parse__no_content_id__is_listing)
{
	autolab l = { 0 };
	assert_err(parse(&l, "<Content Version=\"6\"/>"), ERR_LISTING);
}

TEST(manifest_parse__version__must_be_the_one)
{
	autolab l = { 0 };
	struct err e = { 0 };
	assert_err(parse_as(&l, CONTENT(""), "LAB0001A", 7), ERR_LISTING);
	assert_ok(parse_as(&l, CONTENT(""), "LAB0001A", 0));
	assert_ok(parse_as(&l, "<Content ContentId=\"LAB0001A\"/>", "LAB0001A", 7));
	assert_err(parse_as(&l, "<Content ContentId=\"LAB0001A\" Version=\"x\"/>",
			    "LAB0001A", 0), ERR_LISTING);
	assert_err(parse_as(&l, "<Content ContentId=\"LAB0001A\" Version=\"\"/>",
			    "LAB0001A", 6), ERR_LISTING);
}

TEST(manifest_parse__another_root__is_listing_naming_it)
{
	autolab l = { 0 };
	assert_err(parse(&l, "<html><body/></html>"), ERR_LISTING);
	assert_non_null(strstr(l.e.text, "<html>"));
	assert_err(parse(&l, "not XML"), ERR_LISTING);
	assert_err(parse(&l, ""), ERR_LISTING);
	assert_err(parse(&l, "<!DOCTYPE x [<!ENTITY a \"b\">]>" CONTENT("")),
		   ERR_LISTING);
}

TEST(manifest_parse__hash_algorithms)
{
	static const struct {
		const char *attributes;
		const char *hash; /* NULL = LISTING */
	} table[] = {
		{ "Hash=\"" HEX "\" HashAlgorithm=\"sha256\"", HEX_LOW },
		{ "Hash=\"" HEX "\" HashAlgorithm=\"SHA-256\"", HEX_LOW },
		{ "Hash=\"" HEX "\" HashAlgorithm=\"32780\"", HEX_LOW },
		{ "Hash=\"" HEX1 "\" HashAlgorithm=\"32772\"", HEX1_LOW },
		{ "Hash=\"" HEX "\"", HEX_LOW },
		{ "Hash=\"" HEX1 "\"", HEX1_LOW },
		{ "HashAlgorithm=\"SHA256\"", "" },
		{ "Hash=\"" HEX1 "\" HashAlgorithm=\"SHA256\"", NULL },
		{ "Hash=\"" HEX "\" HashAlgorithm=\"SHA1\"", NULL },
		{ "Hash=\"" HEX "\" HashAlgorithm=\"MD5\"", NULL },
		{ "Hash=\"" HEX "0\"", NULL },
		{ "Hash=\" " HEX "\"", NULL },
		{ "Hash=\"SHA256:" HEX "\"", NULL },
		{ "Hash=\"xyz\"", NULL },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		autolab l = { 0 };
		char xml[512];
		snprintf(xml, sizeof(xml), FILE_OF("Name=\"a\" %s"),
			 table[i].attributes);
		enum err_code rc = parse(&l, xml);
		if (rc != (table[i].hash ? ERR_OK : ERR_LISTING))
			fail_msg("%s: %s", table[i].attributes, l.e.text);
		if (table[i].hash)
			assert_string_equal(entry_hash(&l.files, 0), table[i].hash);
	}
}

TEST(manifest_parse__impossible_sizes__are_listing)
{
	static const char *const bad[] = { "-1", "+1", "1 ", "0x10", "1.5", "5 MB",
					   "99999999999999999999" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		autolab l = { 0 };
		char xml[256];
		snprintf(xml, sizeof(xml), FILE_OF("Name=\"a\" Size=\"%s\""),
			 bad[i]);
		assert_err(parse(&l, xml), ERR_LISTING);
		assert_non_null(strstr(l.e.text, bad[i]));
	}
}

TEST(manifest_parse__places_that_are_none__are_listing)
{
	static const char *const bad[] = {
		"http://s.example.net/x", "ftp://s/x", "file:///etc/passwd",
		"//s/x", "/x", "x", "https://", "https://user@s/x", "https://s/a b",
		"https://s/x#y", "https://s:0/x", "https://s/%zz", "javascript:x",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		autolab l = { 0 };
		char xml[256];
		snprintf(xml, sizeof(xml), FILE_OF("Name=\"n1\" Url=\"%s\""),
			 bad[i]);
		if (parse(&l, xml) != ERR_LISTING)
			fail_msg("not refused: %s", bad[i]);
		assert_non_null(strstr(l.e.text, "n1"));
	}
}

TEST(manifest_parse__file_without_a_name__is_listing)
{
	autolab l = { 0 };
	assert_err(parse(&l, FILE_OF("Size=\"5\"")), ERR_LISTING);
	assert_err(parse(&l, FILE_OF("Name=\"\"")), ERR_LISTING);
}

TEST(manifest_parse__same_name_twice__is_listing)
{
	autolab l = { 0 };
	assert_err(parse(&l, CONTENT("<FileContent Name=\"s/a\"/>"
				     "<FileContent Name=\"b\"/>"
				     "<FileContent Name=\"s\\a\"/>")), ERR_LISTING);
	assert_non_null(strstr(l.e.text, "s/a"));
}

TEST(manifest_parse__odd_names__are_left_to_the_keeper)
{
	autolab l = { 0 };
	struct err e = { 0 };
	assert_ok(parse(&l, FILE_OF("Name=\"..\\..\\etc\\passwd\"")));
	assert_string_equal(entry_path(&l.files, 0), "../../etc/passwd");
	assert_ok(parse(&l, FILE_OF("Name=\"C:\\x\"")));
	assert_string_equal(entry_path(&l.files, 0), "C:/x");
}

TEST(manifest_parse__long_name__is_limit)
{
	autolab l = { 0 };
	autobuf xml = { 0 };
	buf_text(&xml, "<Content ContentId=\"LAB0001A\"><FileContent Name=\"");
	for (unsigned i = 0; i < 5000; i++)
		buf_char(&xml, 'a');
	buf_text(&xml, "\"/></Content>");
	assert_err(parse(&l, xml.at), ERR_LIMIT);
}
