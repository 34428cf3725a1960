#include "tests/unit/capture.h"
#include "tests/unit/test.h"

#include "agent/cli/show.h"
#include "agent/cli/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char url[] = "https://dp.example.net/a?sig=SECRET&x=1";
static char host[] = "dp.example.net";
static char hostile[] = "evil\033[31m\xff\n\"name";
static char path[] = "/var/cache/x/content/ABC00042.3";

static struct job_report report_of(struct job_attempt *attempts, size_t count)
{
	struct job_report r = {
		.content = { .id = "ABC00042", .version = 3, .has_version = true },
		.result = JOB_VERIFIED,
		.path = path,
		.figures = { .files = 2, .bytes_total = 30, .bytes_received = 20,
			     .bytes_resumed = 10 },
		.duration_ms = 1500,
		.attempts = attempts,
		.attempt_count = count,
		.delivered = (int)count - 1,
	};
	memset(r.hash, 'a', 64);
	return r;
}

TEST(show_download__json__has_the_fields_of_the_contract)
{
	struct job_attempt attempts[] = {
		{ .kind = SOURCE_ON_PREM, .host = hostile, .url = url },
		{ .kind = SOURCE_CLOUD, .host = host, .url = url,
		  .bytes_received = 20 },
	};
	struct job_report r = report_of(attempts, 2);
	struct err e = { 0 };
	autocapture c;
	err_set(&attempts[0].why, ERR_TLS_NAME, "for %s", hostile);
	capture(&c, stdout);
	show_download(&r, &e, true);
	const char *text = captured(&c);
	assert_one_object(text);
	assert_has(text, "\"content\":\"ABC00042\",\"version\":3,"
			 "\"result\":\"verified\",\"hash\":\"sha256:aaaa");
	assert_has(text, "\"path\":\"/var/cache/x/content/ABC00042.3\",\"files\":2,"
			 "\"bytes_total\":30,\"bytes_received\":20,"
			 "\"bytes_resumed\":10,\"duration_ms\":1500,"
			 "\"source\":{\"kind\":\"cloud\",\"host\":"
			 "\"dp.example.net\",\"url\":");
	assert_has(text, "\"code\":\"TLS\",\"exit\":21,\"step\":\"verify\"");
	assert_has(text, "\"detail\":\"TLS_NAME\",\"advice\":\"");
	assert_has(text, "evil\\\\x1b[31m\\\\xff\\\\x0a\\\"name");
	assert_has(text, "\"error\":null}\n");
	assert_lacks(text, "SECRET");
}

TEST(show_download__text__ends_with_the_path)
{
	struct job_attempt attempts[] = { { .host = host, .url = url } };
	struct job_report r = report_of(attempts, 1);
	struct err e = { 0 };
	autocapture c;
	capture(&c, stdout);
	show_download(&r, &e, false);
	const char *text = captured(&c);
	assert_has(text, "ABC00042.3: verified, 2 files, 30 B in 1.5 s");
	assert_has(text, "\n/var/cache/x/content/ABC00042.3\n");
	assert_lacks(text, "SECRET");
	assert_string_equal(strrchr(text, '/'), "/ABC00042.3\n");
}

TEST(show_download__quiet__is_the_path_alone)
{
	struct job_report r = report_of(NULL, 0);
	struct err e = { 0 };
	autocapture c;
	show_open(&(struct show_style){ .is_quiet = true });
	capture(&c, stdout);
	show_download(&r, &e, false);
	const char *text = captured(&c);
	show_open(&(struct show_style){ 0 });
	assert_string_equal(text, "/var/cache/x/content/ABC00042.3\n");
}

TEST(show_download__failed_text__says_nothing_on_standard_output)
{
	struct job_report r = { .delivered = -1 };
	struct err e = { .code = ERR_HASH, .text = "differs" };
	autocapture c;
	capture(&c, stdout);
	show_download(&r, &e, false);
	assert_string_equal(captured(&c), "");
}

TEST(show_locate__json__lists_sources_in_order)
{
	char none[] = "", word[] = "SUBNET";
	struct source sources[] = {
		{ .url = url, .locality = none },
		{ .url = url, .locality = word },
	};
	struct choose_item items[] = {
		{ .source = 1, .rank = 1, .kind = SOURCE_ON_PREM, .usable = true,
		  .host = "dp1", .reason = "near" },
		{ .source = 0, .rank = 2, .kind = SOURCE_PEER, .host = "dp2",
		  .reason = "peers are not used" },
	};
	struct job_report r = report_of(NULL, 0);
	struct err e = { .code = ERR_NO_LOCATION, .text = "none" };
	r.location.sources = (struct source_list){ .items = sources, .count = 2 };
	r.location.management_point = host;
	r.chosen = (struct choose_result){ .items = items, .count = 2,
					   .usable = 1 };
	autocapture c;
	capture(&c, stdout);
	show_locate(&r, false, &e, true);
	const char *text = captured(&c);
	assert_one_object(text);
	assert_has(text, "\"cloud_allowed\":false,\"locations\":[{\"rank\":1,"
			 "\"kind\":\"on-prem\",\"host\":\"dp1\",\"url\":\"https://"
			 "dp.example.net/a?sig=***&x=1\",\"locality\":\"SUBNET\","
			 "\"usable\":true,\"reason\":\"near\"},{\"rank\":2");
	assert_has(text, "\"kind\":\"peer\"");
	assert_has(text, "\"exit\":11,\"step\":\"locate\",\"text\":\"none\"");
}

static void fill_walk(struct ask_walk *w)
{
	snprintf(w->name, sizeof(w->name), "a.example");
	snprintf(w->canonical, sizeof(w->canonical), "b.example");
	w->port = 443;
	w->hop_count = w->address_count = w->chain_count = 1;
	snprintf(w->hops[0].owner, sizeof(w->hops[0].owner), "a.example");
	snprintf(w->hops[0].target, sizeof(w->hops[0].target), "b.example");
	snprintf(w->hops[0].server, sizeof(w->hops[0].server), "127.0.0.1:53");
	w->hops[0].ttl_s = 300;
	w->hops[0].duration_ms = 2;
	snprintf(w->addresses[0].text, sizeof(w->addresses[0].text), "::1");
	w->addresses[0].ttl_s = 60;
	w->has_tls = true;
	snprintf(w->chain[0].subject, sizeof(w->chain[0].subject), "CN=x");
	snprintf(w->chain[0].names, sizeof(w->chain[0].names), "one\ntwo\n");
	snprintf(w->chain[0].problem, sizeof(w->chain[0].problem), "too old");
}

TEST(show_walk__text__has_a_line_for_each_hop)
{
	struct ask_walk *w = calloc(1, sizeof(*w));
	struct err e = { 0 };
	autocapture c;
	assert_non_null(w);
	fill_walk(w);
	capture(&c, stdout);
	show_walk(w, true, &e, false);
	const char *text = captured(&c);
	free(w);
	assert_has(text, "a.example  CNAME  b.example  (ttl 300 s, 127.0.0.1:53, "
			 "2 ms)\nb.example  AAAA  ::1  (ttl 60 s)\n");
	assert_has(text, "CN=x\n");
	assert_has(text, "problem    too old\n");
	assert_has(text, "NOT TRUSTED");
}

TEST(show_walk__json__has_tls_only_where_asked)
{
	struct ask_walk *w = calloc(1, sizeof(*w));
	struct err e = { 0 };
	autocapture with;
	assert_non_null(w);
	fill_walk(w);
	capture(&with, stdout);
	show_walk(w, true, &e, true);
	assert_has(captured(&with), "\"chain\":[{\"subject\":\"CN=x\",\"issuer\":\"\","
				    "\"not_before\":\"\",\"not_after\":\"\","
				    "\"names\":[\"one\",\"two\"],"
				    "\"problem\":\"too old\"}]},\"error\":null}\n");
	autocapture without;
	capture(&without, stdout);
	show_walk(w, false, &e, true);
	const char *text = captured(&without);
	free(w);
	assert_lacks(text, "\"tls\"");
	assert_has(text, "\"hops\":[{\"owner\":\"a.example\",\"target\":\"b.example\","
			 "\"ttl_s\":300,\"server\":\"127.0.0.1:53\","
			 "\"duration_ms\":2}],\"canonical\":\"b.example\","
			 "\"addresses\":[{\"address\":\"::1\",\"ttl_s\":60}]");
}

TEST(show_diagnose__steps__are_numbered_with_a_verdict)
{
	char step[] = "resolve", source[] = "dp", detail[] = "no such name";
	struct job_step steps[] = { { .step = step, .source = source,
				      .detail = detail, .duration_ms = 4 } };
	struct job_report r = report_of(NULL, 0);
	struct err e = { .code = ERR_DNS_NXDOMAIN, .text = "no such name" };
	r.steps = steps;
	r.step_count = 1;
	autocapture text;
	capture(&text, stdout);
	show_diagnose(&r, &e, false);
	assert_has(captured(&text), "  1  resolve  FAILED  dp: no such name (4 ms)\n"
				    "verdict: would fail at step resolve: ");
	autocapture json;
	capture(&json, stdout);
	show_diagnose(&r, &e, true);
	assert_has(captured(&json), "\"steps\":[{\"number\":1,\"step\":\"resolve\","
				    "\"source\":\"dp\",\"ok\":false,\"detail\":"
				    "\"no such name\",\"duration_ms\":4}],"
				    "\"verdict\":\"would fail");
}

TEST(show_cache_verify__json__names_the_damaged)
{
	struct cache_item items[2] = {
		{ .name = "A1.1", .content = { .id = "A1", .version = 1 } },
		{ .name = "B1.2", .content = { .id = "B1", .version = 2 },
		  .is_partial = true },
	};
	char damaged[] = "damaged";
	char *problems[] = { damaged, NULL };
	struct err e = { .code = ERR_HASH, .text = "1 is damaged" };
	autocapture c;
	capture(&c, stdout);
	show_cache_verify(items, problems, 2, &e, true);
	const char *text = captured(&c);
	assert_one_object(text);
	assert_has(text, "\"verified\":false,\"problem\":\"damaged\"");
	assert_has(text, "\"partial\":true,\"in_use\":false,\"verified\":null,"
			 "\"problem\":null");
	assert_has(text, "\"exit\":23");
}

TEST(show_config__json__splits_key_value_and_origin)
{
	char suffix[] = "cloud.suffix=a.net";
	char *sets[] = { suffix };
	struct settings_input in = { .overrides = sets, .override_count = 1 };
	struct deployment_list none = { 0 };
	struct settings s;
	struct err e = { 0 };
	autobuf problems = { 0 };
	autocapture c;
	assert_ok(settings_load(&in, &s, &problems, &e));
	capture(&c, stdout);
	show_config(&s, "/p", &none, SPAN_LIT("a.ini:3: wrong\nb.ini: bad\n"), &e,
		    true);
	const char *text = captured(&c);
	settings_free(&s);
	assert_one_object(text);
	assert_has(text, "{\"key\":\"cloud.suffix\",\"value\":\"a.net\","
			 "\"origin\":\"--set\"}");
	assert_has(text, "{\"key\":\"site.code\",\"value\":\"\","
			 "\"origin\":\"default\"}");
	assert_has(text, "\"value\":\"Authorization: Bearer\"");
	assert_has(text, "\"problems\":[\"a.ini:3: wrong\",\"b.ini: bad\"]");
}

TEST(show_error__lines__say_what_step_and_what_to_try)
{
	struct err e = { 0 };
	autocapture c;
	err_set(&e, ERR_DNS_LOOP, "a%s", hostile);
	capture(&c, stderr);
	show_error("--resolve", "a.example", &e);
	assert_string_equal(captured(&c),
			    "agent: resolve a.example: aevil\\x1b[31m\\xff\\x0a"
			    "\"name\n"
			    "agent: failed at step resolve: DNS_LOOP, exit status "
			    "20\n"
			    "agent: try: correct the looping CNAME records\n");
}

TEST(show_error__text_that_names_the_verb__is_not_told_twice)
{
	struct err e = { 0 };
	autocapture c;
	err_set(&e, ERR_SIGINT, "resolve a.example: interrupted");
	capture(&c, stderr);
	show_error("--resolve", "a.example", &e);
	assert_string_equal(captured(&c),
			    "agent: resolve a.example: interrupted\n"
			    "agent: try: run it again: it goes on where it was "
			    "stopped\n");
}

TEST(show_attempts__several__each_with_its_own_error)
{
	struct job_attempt attempts[] = {
		{ .kind = SOURCE_ON_PREM, .host = host, .duration_ms = 12,
		  .why = { .code = ERR_ABSENT, .text = "it is not there" } },
		{ .kind = SOURCE_CLOUD, .host = hostile,
		  .why = { .code = ERR_TLS_TIME, .text = "too old" } },
	};
	struct job_report r = report_of(attempts, 2);
	struct err e = { .code = ERR_TLS_TIME, .text = "too old" };
	autocapture c;
	capture(&c, stderr);
	show_attempts(&r, &e);
	assert_string_equal(captured(&c),
			    "agent: tried dp.example.net (on-prem, 12 ms): it is "
			    "not there\n"
			    "agent: tried evil\\x1b[31m\\xff\\x0a\"name (cloud, "
			    "0 ms): too old\n");
}

TEST(words_bytes__figures__shortest_unit)
{
	char at[WORDS_SIZE];
	assert_string_equal(words_bytes(0, at), "0 B");
	assert_string_equal(words_bytes(1023, at), "1023 B");
	assert_string_equal(words_bytes(1536, at), "1.5 KiB");
	assert_string_equal(words_bytes(5ull << 30, at), "5.0 GiB");
	assert_string_equal(words_bytes(UINT64_MAX, at), "16.0 EiB");
}

TEST(words_time__figures__readable)
{
	char at[WORDS_SIZE];
	assert_string_equal(words_time(-1, at), "0 ms");
	assert_string_equal(words_time(999, at), "999 ms");
	assert_string_equal(words_time(1500, at), "1.5 s");
	assert_string_equal(words_time(59999, at), "1:00 min");
	assert_string_equal(words_time(65000, at), "1:05 min");
	assert_string_equal(words_time(7201000, at), "2:00:01 h");
}

TEST(words_away__moments__are_two_units_at_most)
{
	static const struct {
		int64_t at, now;
		const char *want;
	} cases[] = {
		{ 100, 100, "now" }, { 101, 100, "in 1 s" }, { 100, 159, "59 s ago" },
		{ 160, 100, "in 1 min" }, { 3700, 0, "in 1 h 1 min" },
		{ 0, 3600, "1 h ago" }, { 11520, 0, "in 3 h 12 min" },
		{ 0, 90000, "1 d 1 h ago" }, { 8640000, 0, "in 100 d" },
		{ INT64_MAX, 0, "in 106751991167300" },
	};
	char out[WORDS_SIZE];
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		words_away(cases[i].at, cases[i].now, out);
		assert_memory_equal(out, cases[i].want, strlen(cases[i].want));
	}
}
