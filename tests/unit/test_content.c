#include "tests/unit/test.h"

#include "policy/content.h"

#include <stdio.h>
#include <stdlib.h>

#define GUID "9f2c6a10-0000-4000-8000-0123456789ab"

static struct content parse(const char *text)
{
	struct content c = { 0 };
	struct err e = { 0 };
	assert_ok(content_parse(text, &c, &e));
	return c;
}

static void refused(const char *text, const char *reason)
{
	struct content c = { 0 };
	struct err e = { 0 };
	assert_err(content_parse(text, &c, &e), ERR_USAGE);
	if (strstr(e.text, reason) == NULL)
		fail_msg("%s: %s", text, e.text);
}

TEST(content_parse__package_with_version__split)
{
	struct content c = parse("ABC00042.3");
	assert_string_equal(c.id, "ABC00042");
	assert_int_equal(c.version, 3);
	assert_true(c.has_version);
}

TEST(content_parse__package_alone__no_version)
{
	struct content c = parse("ABC00042");
	assert_false(c.has_version);
	assert_int_equal(c.version, 0);
}

TEST(content_parse__application__guid_kept)
{
	struct content c = parse("Content_" GUID ".12");
	assert_string_equal(c.id, "Content_" GUID);
	assert_int_equal(c.version, 12);
}

TEST(content_parse__guid_in_braces__bare_guid)
{
	assert_string_equal(parse("{" GUID "}").id, GUID);
	assert_string_equal(parse("{" GUID "}.7").id, GUID);
	assert_int_equal(parse(GUID ".4294967295").version, UINT32_MAX);
}

TEST(content_parse__last_dot_without_digits__part_of_the_id)
{
	assert_string_equal(parse("a.b").id, "a.b");
	assert_string_equal(parse("a.3b").id, "a.3b");
}

TEST(content_parse__bad_version__refused)
{
	refused("ABC00042.0", "version");
	refused("ABC00042.03", "version");
	refused("ABC00042.4294967296", "version");
	refused("ABC00042.99999999999999999999999", "version");
	refused("ABC00042.", "version");
}

TEST(content_parse__names_that_are_paths__refused)
{
	const char *bad[] = { "", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b",
			      "-rf", "--help", ".5", "a b", "a\nb", "\xff", "a%2fb",
			      "$(id)", "a..", "a..3" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refused(bad[i], "content ");
}

TEST(content_parse__too_long__refused)
{
	char text[CONTENT_ID_MAX + 2];
	memset(text, 'a', sizeof(text) - 1);
	text[CONTENT_ID_MAX + 1] = '\0';
	refused(text, "128");
	text[CONTENT_ID_MAX] = '\0';
	assert_int_equal(strlen(parse(text).id), CONTENT_ID_MAX);
}

TEST(content_name__with_and_without_version__written)
{
	char name[CONTENT_NAME_SIZE];
	struct content c = parse("ABC00042.4294967295");
	content_name(&c, name);
	assert_string_equal(name, "ABC00042.4294967295");
	c = parse("ABC00042");
	content_name(&c, name);
	assert_string_equal(name, "ABC00042");
}

TEST(content_same__case_differs__same_but_version_counts)
{
	struct content a = parse("abc00042.3"), b = parse("ABC00042.3");
	assert_true(content_same(&a, &b));
	b = parse("ABC00042.4");
	assert_false(content_same(&a, &b));
	b = parse("ABC00042");
	assert_false(content_same(&a, &b));
}

TEST(content_request_id__each_kind__prefix_and_location_type)
{
	char id[CONTENT_NAME_SIZE];
	const char *type;
	content_request_id("ABC00042", id, &type);
	assert_string_equal(id, "ABC00042");
	assert_string_equal(type, "SMSPackage");
	content_request_id("Content_" GUID, id, &type);
	assert_string_equal(id, "UID:Content_" GUID);
	assert_string_equal(type, "SMSUpdate");
	content_request_id(GUID, id, &type);
	assert_string_equal(id, "UID:" GUID);
	assert_string_equal(type, "SMSUpdate");
}
