#include "tests/unit/test.h"

#include "agent/keeper/sitepolicy.h"
#include "policy/deployment.h"

#include <stdio.h>
#include <stdlib.h>

static void own_sitepolicy(struct sitepolicy *p)
{
	sitepolicy_free(p);
}
#define autositepolicy __attribute__((cleanup(own_sitepolicy))) struct sitepolicy

static const struct wire_assignment example = {
	.policy_id = { "LAB20001-LAB0001A-6F6BCC28", 26 },
	.policy_version = { "1.00", 4 },
	.advertisement = { "LAB20001", 8 },
	.package = { "LAB0001A", 8 },
	.version = 6,
	.name = { "Pear tools", 10 },
	.hash = { "0A1B", 4 },
	.size = WIRE_UNKNOWN,
	.has_files = 1,
	.active_time = { "20260115102030.000000+***", 25 },
	.mandatory = { "TRUE", 4 },
};

static void add(struct sitepolicy *p, const struct wire_assignment *a)
{
	struct err e = { 0 };
	assert_ok(sitepolicy_add(p, a, &e));
}

static void print(struct sitepolicy *p, struct buf *out)
{
	struct err e = { 0 };
	assert_ok(sitepolicy_print(p, out, &e));
}

/* What the keeper's policy makes of the bundle: everything, without a problem. */
static void load(const struct buf *bundle, struct deployment_list *out)
{
	struct err e = { 0 };
	autobuf problems = { 0 };
	assert_ok(deployment_parse(buf_as_span(bundle), "mp", true, out, &problems,
				   &e));
	assert_int_equal(problems.len, 0);
}

/* --- times --------------------------------------------------------------- */

TEST(sitepolicy_time__forms_of_wmi)
{
	static const struct {
		const char *text;
		int64_t at_s; /* -1 = none */
	} table[] = {
		{ "20260115102030.000000+***", 1768472430 },
		{ "20260115102030.000000+000", 1768472430 },
		{ "20260115112030.500000+060", 1768472430 },
		{ "20260115052030.000000-300", 1768472430 },
		{ " 20260115102030.******+*** ", 1768472430 },
		{ "19700101000000.000000+000", 0 },
		{ "20260115102030.000000:000", -1 },
		{ "00000012102030.000000:000", -1 },
		{ "2026011510****.000000+***", -1 },
		{ "20261315102030.000000+***", -1 },
		{ "20260230102030.000000+***", -1 },
		{ "20260115252030.000000+***", -1 },
		{ "20260115102030.000000+06", -1 },
		{ "20260115102030.000000+06*", -1 },
		{ "20260115102030.000000+0600", -1 },
		{ "20260115102030.00000x+***", -1 },
		{ "2026-01-15T10:20:30Z", -1 },
		{ "", -1 },
		{ "TRUE", -1 },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int64_t at_s = -1;
		bool ok = sitepolicy_time(span_of(table[i].text), &at_s);
		if (ok != (table[i].at_s >= 0) || at_s != table[i].at_s)
			fail_msg("%s: %d %lld", table[i].text, ok, (long long)at_s);
	}
}

/* --- one assignment ------------------------------------------------------ */

TEST(sitepolicy_print__one__bundle_byte_by_byte)
{
	autositepolicy p = { 0 };
	autobuf out = { 0 };
	add(&p, &example);
	print(&p, &out);
	assert_string_equal(out.at,
			    "; cloud-dp-agent policy bundle\n"
			    "; file LAB20001-LAB0001A.6.ini 156\n"
			    "[deployment]\n"
			    "id = LAB20001\n"
			    "name = Pear tools\n"
			    "package = LAB0001A\n"
			    "version = 6\n"
			    "purpose = required\n"
			    "available = 2026-01-15T10:20:30Z\n"
			    "\n"
			    "[content]\n"
			    "site_hash = 0A1B\n");
}

TEST(sitepolicy_print__none__empty_policy_that_can_be_read)
{
	autositepolicy p = { 0 };
	autobuf out = { 0 };
	struct deployment_list list = { 0 };
	print(&p, &out);
	load(&out, &list);
	assert_int_equal(list.count, 0);
	deployment_list_free(&list);
}

TEST(sitepolicy_add__mandatory__purpose_and_deadline)
{
	static const struct {
		const char *text;
		bool is_required;
		int64_t deadline_s;
	} table[] = {
		{ "TRUE", true, 0 },
		{ "1", true, 0 },
		{ "0001170000100008", true, 0 }, /* some schedule */
		{ "20260116102030.000000+***", true, 1768558830 },
		{ "20260114102030.000000+***", true, 0 }, /* before it begins */
		{ "", false, 0 },
		{ "FALSE", false, 0 },
		{ " false ", false, 0 },
		{ "0", false, 0 },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		autositepolicy p = { 0 };
		autobuf out = { 0 };
		struct deployment_list list = { 0 };
		struct wire_assignment a = example;
		a.mandatory = span_of(table[i].text);
		add(&p, &a);
		print(&p, &out);
		load(&out, &list);
		assert_int_equal(list.count, 1);
		assert_int_equal(list.items[0].is_required, table[i].is_required);
		assert_int_equal(list.items[0].deadline_s, table[i].deadline_s);
		assert_int_equal(list.items[0].available_s, 1768472430);
		assert_string_equal(list.items[0].hash, "");
		assert_string_equal(list.items[0].site_hash, "0A1B");
		deployment_list_free(&list);
	}
}

TEST(sitepolicy_add__name_with_anything__one_line_that_ini_takes)
{
	static const char *const table[][2] = {
		{ "plain", "plain" },
		{ "a ; b;c", "a , b,c" },
		{ "; all comment", ", all comment" },
		{ "line\nhash = sha256:00\r\n[content]",
		  "linehash = sha256:00[content]" },
		{ "  trimmed\t", "trimmed" },
		{ "b\xc3\xa4r \xff\x01\x7f\xc2\x85z", "b\xc3\xa4r z" },
		{ "[section]", "[section]" },
		{ "a = b", "a = b" },
		{ "\x01", "LAB0001A.6" },
		{ "", "LAB0001A.6" },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		autositepolicy p = { 0 };
		autobuf out = { 0 };
		struct deployment_list list = { 0 };
		struct wire_assignment a = example;
		a.name = span_of(table[i][0]);
		add(&p, &a);
		print(&p, &out);
		load(&out, &list);
		assert_int_equal(list.count, 1);
		assert_string_equal(list.items[0].name, table[i][1]);
		assert_string_equal(list.items[0].hash, "");
		deployment_list_free(&list);
	}
}

TEST(sitepolicy_add__long_name__cut_at_a_character)
{
	autositepolicy p = { 0 };
	autobuf out = { 0 };
	autobuf name = { 0 };
	struct deployment_list list = { 0 };
	struct wire_assignment a = example;
	for (int i = 0; i < 100; i++)
		buf_text(&name, "\xe2\x82\xac");
	a.name = buf_as_span(&name);
	add(&p, &a);
	print(&p, &out);
	load(&out, &list);
	assert_int_equal(strlen(list.items[0].name), 150);
	deployment_list_free(&list);
}

TEST(sitepolicy_add__odd_hash__left_out)
{
	static const char *const odd[] = { "a b", "ab;", "\n", "sha256:\xc3\xa4" };
	for (size_t i = 0; i < 4; i++) {
		autositepolicy p = { 0 };
		autobuf out = { 0 };
		struct wire_assignment a = example;
		a.hash = span_of(odd[i]);
		add(&p, &a);
		print(&p, &out);
		assert_null(strstr(out.at, "[content]"));
	}
}

TEST(sitepolicy_add__unusable__left_out_and_counted)
{
	struct wire_assignment table[11];
	static char long_id[200];
	memset(long_id, 'A', sizeof(long_id) - 1);
	size_t n = 0;
	for (size_t i = 0; i < 11; i++)
		table[i] = example;
	table[n++].has_files = 0;
	table[n++].advertisement = SPAN_LIT("");
	table[n++].advertisement = SPAN_LIT("../x");
	table[n++].advertisement = SPAN_LIT("a b");
	table[n++].advertisement = span_of(long_id);
	table[n++].package = SPAN_LIT("");
	table[n++].package = SPAN_LIT("a/b");
	table[n++].package = SPAN_LIT("LAB0001A.7");
	table[n++].package = span_of(long_id);
	table[n++].version = 0;
	table[n++].version = 1ull << 32;
	autositepolicy p = { 0 };
	for (size_t i = 0; i < n; i++)
		add(&p, &table[i]);
	assert_int_equal(p.count, 0);
	assert_int_equal(p.left_out, n);
}

/* --- several ------------------------------------------------------------- */

TEST(sitepolicy_print__any_order__the_same_bytes)
{
	struct wire_assignment a = example, b = example, c = example;
	autositepolicy one = { 0 };
	autositepolicy two = { 0 };
	autobuf first = { 0 };
	autobuf second = { 0 };
	b.advertisement = SPAN_LIT("LAB20002");
	c.advertisement = SPAN_LIT("{1F0C2D3E}");
	c.mandatory = SPAN_LIT("");
	add(&one, &a), add(&one, &b), add(&one, &c);
	add(&two, &c), add(&two, &b), add(&two, &a);
	print(&one, &first);
	print(&two, &second);
	assert_string_equal(first.at, second.at);
	struct deployment_list list = { 0 };
	load(&first, &list);
	assert_int_equal(list.count, 3);
	deployment_list_free(&list);
}

TEST(sitepolicy_print__two_programs_of_one_package__once_and_required)
{
	struct wire_assignment a = example, b = example;
	autositepolicy p = { 0 };
	autobuf out = { 0 };
	struct deployment_list list = { 0 };
	a.mandatory = SPAN_LIT("");
	add(&p, &a), add(&p, &b), add(&p, &a);
	print(&p, &out);
	load(&out, &list);
	assert_int_equal(list.count, 1);
	assert_true(list.items[0].is_required);
	deployment_list_free(&list);
}

TEST(sitepolicy_add__more_than_a_site_has__refused)
{
	autositepolicy p = { 0 };
	struct err e = { 0 };
	enum err_code rc = ERR_OK;
	for (int i = 0; rc == ERR_OK && i <= SITEPOLICY_MAX; i++) {
		char id[16];
		struct wire_assignment a = example;
		snprintf(id, sizeof(id), "A%d", i);
		a.advertisement = span_of(id);
		rc = sitepolicy_add(&p, &a, &e);
	}
	assert_err(rc, ERR_NET_LIED);
	assert_int_equal(p.count, SITEPOLICY_MAX);
}
