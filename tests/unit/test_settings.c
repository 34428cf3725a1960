#include "tests/unit/test.h"

#include "common/log.h"
#include "policy/settings.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* One load of a file with this text (NULL: without), and its problems. */
struct loaded {
	struct settings s;
	struct buf problems;
	struct err e;
	enum err_code rc;
	char path[200];
};

static char *const *overrides;
static size_t override_count;
static const char *(*environment)(const char *name);

static void load(struct loaded *l, const char *text)
{
	*l = (struct loaded){ 0 };
	struct settings_input in = {
		.overrides = overrides, .override_count = override_count,
		.environment = environment, .path_must_exist = true,
	};
	if (text) {
		snprintf(l->path, sizeof(l->path), "%s/agent.conf", test_folder());
		FILE *f = fopen(l->path, "we");
		assert_non_null(f);
		fputs(text, f);
		fclose(f);
		chmod(l->path, 0644);
		in.path = l->path;
	}
	l->rc = settings_load(&in, &l->s, &l->problems, &l->e);
	overrides = NULL;
	override_count = 0;
	environment = NULL;
}

static void unload(struct loaded *l)
{
	settings_free(&l->s);
	buf_free(&l->problems);
}
#define autoloaded __attribute__((cleanup(unload))) struct loaded

static void assert_loaded(const struct loaded *l)
{
	if (l->rc != ERR_OK || l->problems.len)
		fail_msg("%s: %s", err_name(l->rc), l->problems.at);
}

/* The problems hold "PATH<rest>". */
static void assert_problem(const struct loaded *l, const char *rest)
{
	autobuf line = { 0 };
	buf_print(&line, "%s%s", l->path, rest);
	if (!l->problems.at || !strstr(l->problems.at, line.at))
		fail_msg("no \"%s\" in: %s", line.at, l->problems.at);
}

static void set(char *const *texts, size_t count)
{
	overrides = texts;
	override_count = count;
}
#define SET(...)                                                          \
	set((char *[]){ __VA_ARGS__ },                                    \
	    sizeof((char *[]){ __VA_ARGS__ }) / sizeof(char *))

TEST(settings_load__nothing_given__the_documented_defaults)
{
	autoloaded l;
	load(&l, NULL);
	assert_loaded(&l);
	assert_string_equal(l.s.site_code, "");
	assert_true(l.s.compression);
	assert_string_equal(l.s.token_header, "Authorization: Bearer");
	assert_string_equal(l.s.policy_source, "/etc/cloud-dp-agent/policy.d");
	assert_int_equal(l.s.poll_interval_ms, 3600000);
	assert_string_equal(l.s.policy_local, "/etc/cloud-dp-agent/policy.d");
	assert_int_equal(l.s.windows.count, 0);
	assert_string_equal(l.s.hooks_on_content, "");
	assert_int_equal(l.s.hooks_timeout_ms, 600000);
	assert_int_equal(l.s.state_messages, 2);
	assert_string_equal(l.s.events_file, "");
	assert_string_equal(l.s.metrics_file, "");
	assert_true(l.s.cloud_allow);
	assert_false(l.s.cloud_public_only);
	assert_int_equal(l.s.cloud_suffixes.count, 0);
	assert_int_equal(l.s.dns_timeout_ms, 2000);
	assert_int_equal(l.s.dns_tries, 3);
	assert_int_equal(l.s.max_hops, 8);
	assert_int_equal(l.s.tls_minimum, 12);
	assert_true(l.s.tls_strict);
	assert_int_equal(l.s.revocation, 0);
	assert_int_equal(l.s.connections, 8);
	assert_int_equal(l.s.rate_limit, 0);
	assert_int_equal(l.s.rate_limit_on_prem, 0);
	assert_int_equal(l.s.rate_limit_cloud, 0);
	assert_int_equal(l.s.rate_schedule.count, 0);
	assert_int_equal(l.s.background, SETTINGS_BACKGROUND_AUTO);
	assert_int_equal(l.s.connect_timeout_ms, 10000);
	assert_int_equal(l.s.stall_timeout_ms, 30000);
	assert_int_equal(l.s.attempts, 3);
	assert_int_equal(l.s.deadline_ms, 86400000);
	assert_int_equal(l.s.minimum_rate, 1024);
	assert_int_equal(l.s.cache_size, 5ull << 30);
	assert_int_equal(l.s.min_free, 1ull << 30);
	assert_string_equal(l.s.log_directory, "/var/log/cloud-dp-agent");
	assert_int_equal(l.s.log_level, LOG_INFO);
	assert_string_equal(l.s.control_socket, "/run/cloud-dp-agent/control.sock");
	assert_string_equal(l.s.origins[0], "default");
	assert_int_equal(l.s.origin_count, settings_row_count);
}

TEST(settings_load__all_kinds_of_values__read)
{
	autoloaded l;
	load(&l, "[site]\ncode = ABC\nmanagement_point = https://a\n"
		 "management_point = http://b:8080\n"
		 "[cloud]\nallow = no\nsuffix = cloudapp.net\n"
		 "[dns]\nserver = 127.0.0.1:5353\ntimeout = 250ms\n"
		 "[tls]\nminimum = 1.3\nprofile = standard\nrevocation = chain\n"
		 "[cache]\nsize = 10M\nmin_free = 0\n"
		 "[log]\ndirectory =   ; no files\nlevel = debug\n"
		 "[control]\nsocket =\n[transfer]\ndeadline = 0\n");
	assert_loaded(&l);
	assert_string_equal(l.s.site_code, "ABC");
	assert_int_equal(l.s.management_points.count, 2);
	assert_string_equal(l.s.management_points.items[1], "http://b:8080");
	assert_false(l.s.cloud_allow);
	assert_string_equal(l.s.cloud_suffixes.items[0], "cloudapp.net");
	assert_int_equal(l.s.dns_timeout_ms, 250);
	assert_int_equal(l.s.tls_minimum, 13);
	assert_false(l.s.tls_strict);
	assert_int_equal(l.s.revocation, 2);
	assert_int_equal(l.s.cache_size, 10u << 20);
	assert_int_equal(l.s.min_free, 0);
	assert_string_equal(l.s.log_directory, "");
	assert_int_equal(l.s.log_level, LOG_DEBUG);
	assert_string_equal(l.s.control_socket, "");
	assert_int_equal(l.s.deadline_ms, 0);
}

TEST(settings_load__many_problems__all_in_one_run_with_lines)
{
	autoloaded l;
	load(&l, "[site]\ncode = ABCD\nmangement_point = https://a\n[dns]\n"
		 "tries = 101\ntimeout = 5\ntimeout = 6\nmax_hops = -1\n[cahce]\n"
		 "size = 5G\n[cloud]\nallow = maybe\n[cache]\nsize = 1.5G\n"
		 "directory =\n[tls]\nminimum = 1.1\nverify = no\n");
	assert_err(l.rc, ERR_CONFIG);
	assert_problem(&l, ":2: [site] code = ABCD: must be three letters or digits");
	assert_problem(&l, ":3: unknown key mangement_point in [site]; did you mean "
			   "management_point?");
	assert_problem(&l, ":5: [dns] tries = 101: must be a number from 1 to 100");
	assert_problem(&l, ":7: [dns] timeout stands already in line 6");
	assert_problem(&l, ":8: [dns] max_hops = -1: must be a number from 1 to 64");
	assert_problem(&l, ":9: unknown section [cahce]; there are [site]");
	assert_problem(&l, ":12: [cloud] allow = maybe: must be yes or no");
	assert_problem(&l, ":14: [cache] size = 1.5G: must be a size (bytes, or with "
			   "k, M or G) from 1 up");
	assert_problem(&l, ":15: [cache] directory = : must not be empty");
	assert_problem(&l, ":17: [tls] minimum = 1.1: must be 1.2 or 1.3");
	assert_problem(&l, ":18: unknown key verify in [tls]");
	assert_non_null(strstr(l.e.text, "(and 10 more problems)"));
	assert_int_equal(l.s.dns_timeout_ms, 5000); /* what could be read is set */
}

TEST(settings_load__absent_file__only_an_error_when_named)
{
	struct settings_input in = { .path = "/nonexistent/agent.conf" };
	autoloaded l = { 0 };
	l.rc = settings_load(&in, &l.s, &l.problems, &l.e);
	assert_loaded(&l);
	settings_free(&l.s);
	in.path_must_exist = true;
	assert_err(settings_load(&in, &l.s, &l.problems, &l.e), ERR_CONFIG);
	assert_problem(&l, "/nonexistent/agent.conf: cannot open it: No such file");
}

TEST(settings_load__file_writable_by_group__refused)
{
	autoloaded l;
	load(&l, "[site]\n");
	struct settings_input in = { .path = l.path };
	chmod(l.path, 0664);
	settings_free(&l.s);
	assert_err(settings_load(&in, &l.s, &l.problems, &l.e), ERR_CONFIG);
	assert_problem(&l, ": mode 0664: must not be writable");
}

TEST(settings_load__certificate_without_key__problem_with_its_line)
{
	autoloaded a, b, c;
	load(&a, "[client]\ncertificate = /c.pem\n");
	assert_err(a.rc, ERR_CONFIG);
	assert_problem(&a, ":2: [client] certificate without key");
	load(&b, "[client]\nkey = /c.key\n");
	assert_problem(&b, ":2: [client] key without certificate");
	SET("client.key=/k");
	load(&c, NULL);
	assert_err(c.rc, ERR_USAGE);
}

TEST(settings_load__keys_of_the_service__read)
{
	autoloaded l;
	load(&l, "[policy]\nsource = mp\nlocal =\n[schedule]\n"
		 "window = Mon-Fri 19:00-06:00\nwindow = Sat,Sun 0:00-24:00\n"
		 "[hooks]\non_content = /h\ntimeout = 90\n[report]\n"
		 "state_messages = no\nevents_file = /e\nmetrics_file = /m\n");
	assert_loaded(&l);
	assert_string_equal(l.s.policy_source, "mp");
	assert_string_equal(l.s.policy_local, "");
	assert_int_equal(l.s.windows.count, 2);
	assert_string_equal(l.s.windows.items[1], "Sat,Sun 0:00-24:00");
	assert_string_equal(l.s.hooks_on_content, "/h");
	assert_int_equal(l.s.hooks_timeout_ms, 90000);
	assert_int_equal(l.s.state_messages, 0);
	assert_string_equal(l.s.events_file, "/e");
	assert_string_equal(l.s.metrics_file, "/m");
}

TEST(settings_load__bad_windows__problems)
{
	autoloaded a, b, c;
	load(&a, "[schedule]\nwindow = Mo-Fr 8-9\nwindow = 8:00-9:00\n[report]\n"
		 "state_messages = maybe\n");
	assert_err(a.rc, ERR_CONFIG);
	assert_problem(&a, ":2: [schedule] window = Mo-Fr 8-9: must be days and times "
			   "as Mon-Fri 19:00-06:00: days are");
	assert_problem(&a, ":5: [report] state_messages = maybe: must be no, yes or "
			   "auto");
	autobuf text = { 0 };
	buf_text(&text, "[schedule]\n");
	for (unsigned i = 0; i < 34; i++)
		buf_text(&text, "window = 8:00-9:00\n");
	load(&b, text.at);
	assert_err(b.rc, ERR_CONFIG);
	assert_problem(&b, ":34: [schedule] window stands 34 times: at most 32");
	char one[] = "schedule.window=8:00-9:00", *sets[33];
	for (size_t i = 0; i < 33; i++)
		sets[i] = one;
	set(sets, 33);
	load(&c, NULL);
	assert_err(c.rc, ERR_USAGE);
	assert_problem(&c, "--set schedule.window: [schedule] window stands 33 times");
}

TEST(settings_load__set__stronger_than_the_file)
{
	autoloaded l;
	SET("dns.tries=5", "site.management_point=https://x",
	    "site.management_point=https://y", "cloud.allow=no", "dns.tries=6",
	    "log.directory=");
	load(&l, "[dns]\ntries = 4\n[site]\nmanagement_point = https://a\n");
	assert_loaded(&l);
	assert_int_equal(l.s.dns_tries, 6);
	assert_int_equal(l.s.management_points.count, 2);
	assert_string_equal(l.s.management_points.items[0], "https://x");
	assert_false(l.s.cloud_allow);
	assert_string_equal(l.s.log_directory, "");
}

TEST(settings_load__bad_set__usage_naming_it)
{
	autoloaded l;
	SET("dns.tires=5", "nothing", "a=b.c", "dns.tries=x", "foo.bar=1", ".a=1",
	    "dns.=1", "cache.size=1\n2");
	load(&l, NULL);
	assert_err(l.rc, ERR_USAGE);
	assert_problem(&l, "--set dns.tires: unknown key tires in [dns]");
	assert_problem(&l, "--set nothing: must be SECTION.KEY=VALUE");
	assert_problem(&l, "--set a=b.c: must be");
	assert_problem(&l, "--set dns.tries: [dns] tries = x: must be a number");
	assert_problem(&l, "--set foo.bar: unknown section [foo]");
	assert_problem(&l, "--set .a=1: must be");
	assert_problem(&l, "--set dns.=1: must be");
	assert_problem(&l, "--set cache.size: [cache] size = 1?2: must be");
}

TEST(settings_load__file_and_set_bad__config)
{
	autoloaded l;
	SET("dns.tries=0");
	load(&l, "[dns]\ntries = 0\n");
	assert_err(l.rc, ERR_CONFIG);
}

/* ---- proxies ---- */

static const char *env_all(const char *name)
{
	if (strcmp(name, "http_proxy") == 0)
		return "http://lower:1";
	if (strcmp(name, "HTTP_PROXY") == 0)
		return "http://evil:1";
	if (strcmp(name, "HTTPS_PROXY") == 0)
		return "upper:2";
	if (strcmp(name, "no_proxy") == 0)
		return "localhost, .example.net,10.0.0.0/8";
	return NULL;
}

static const char *env_evil(const char *name)
{
	return strcmp(name, "HTTP_PROXY") == 0 ? "http://evil:1" : "";
}

static const char *env_password(const char *name)
{
	return strcmp(name, "https_proxy") == 0 ? "http://me:secret@p:1" : NULL;
}

static const char *env_every(const char *name)
{
	return strcmp(name, "ALL_PROXY") == 0 ? "http://every:3" : NULL;
}

TEST(settings_load__proxy_variables__used_as_curl_does)
{
	autoloaded l, m;
	environment = env_all;
	load(&l, NULL);
	assert_loaded(&l);
	assert_string_equal(settings_proxy(&l.s, false), "http://lower:1");
	assert_string_equal(settings_proxy(&l.s, true), "http://upper:2");
	assert_int_equal(settings_no_proxy(&l.s)->count, 2);
	assert_string_equal(settings_no_proxy(&l.s)->items[1], ".example.net");
	environment = env_every;
	load(&m, NULL);
	assert_string_equal(settings_proxy(&m.s, false), "http://every:3");
	assert_string_equal(settings_proxy(&m.s, true), "http://every:3");
}

TEST(settings_load__upper_case_HTTP_PROXY__ignored)
{
	autoloaded l;
	environment = env_evil;
	load(&l, NULL);
	assert_string_equal(settings_proxy(&l.s, false), "");
}

TEST(settings_load__proxy_in_the_file__environment_is_not_asked)
{
	autoloaded l, m;
	environment = env_all;
	load(&l, "[proxy]\nurl = http://mine:3\nbypass = a.net\n");
	assert_loaded(&l);
	assert_string_equal(settings_proxy(&l.s, true), "http://mine:3");
	assert_int_equal(settings_no_proxy(&l.s)->count, 1);
	environment = env_all;
	load(&m, "[proxy]\nurl = none\n");
	assert_string_equal(settings_proxy(&m.s, true), "");
	assert_int_equal(settings_no_proxy(&m.s)->count, 0);
}

TEST(settings_load__bad_proxy_variable__problem_without_password)
{
	autoloaded l;
	environment = env_password;
	load(&l, NULL);
	assert_err(l.rc, ERR_CONFIG);
	assert_problem(&l, "environment: https_proxy: must be");
	assert_null(strstr(l.problems.at, "secret"));
	assert_null(strstr(l.e.text, "secret"));
}

/* ---- print ---- */

TEST(settings_print__origins__each_value_has_its_own)
{
	autoloaded l;
	environment = env_all;
	SET("cache.size=1M");
	load(&l, "[site]\nmanagement_point = https://a\n\n"
		 "management_point = https://b\n[tls]\nprofile = standard\n");
	assert_loaded(&l);
	autobuf out = { 0 }, want = { 0 };
	settings_print(&l.s, &out);
	buf_print(&want, "site.code =    ; default\n"
			 "site.management_point = https://a    ; %s:2\n"
			 "site.management_point = https://b    ; %s:4\n"
			 "site.forest =    ; default\n", l.path, l.path);
	assert_memory_equal(out.at, want.at, want.len);
	assert_non_null(strstr(out.at, "cache.size = 1M    ; --set\n"));
	assert_non_null(strstr(out.at, "tls.minimum = 1.2    ; default\n"));
	assert_non_null(strstr(out.at, "tls.profile = standard    ; /"));
	assert_non_null(strstr(out.at, "policy.poll_interval = 1h    ; default\n"));
	assert_non_null(strstr(out.at, "schedule.window =    ; default\n"));
	assert_non_null(strstr(out.at, "hooks.on_content =    ; default\n"
				       "hooks.timeout = 10m    ; default\n"
				       "report.state_messages = auto    ; default\n"
				       "report.events_file =    ; default\n"
				       "report.metrics_file =    ; default\n"));
	assert_non_null(strstr(out.at, "proxy.url = http://upper:2    ; environment\n"
				       "proxy.url = http://lower:1    ; environment\n"
				       "proxy.bypass = localhost    ; environment\n"));
}

TEST(settings_load__rates_by_source_and_hour__read)
{
	autoloaded l;
	load(&l, "[transfer]\nrate_limit_on_prem = 2M\nrate_limit_cloud = 500k\n"
		 "rate_schedule = Mon-Fri 08:00-18:00 200k cloud\n"
		 "rate_schedule = 22:00-05:00 0\nbackground = yes\n");
	assert_loaded(&l);
	assert_int_equal(l.s.rate_limit_on_prem, 2 << 20);
	assert_int_equal(l.s.rate_limit_cloud, 500 << 10);
	assert_int_equal(l.s.rate_schedule.count, 2);
	assert_string_equal(l.s.rate_schedule.items[1], "22:00-05:00 0");
	assert_int_equal(l.s.background, SETTINGS_BACKGROUND_YES);
}

TEST(settings_load__bad_rates__named_with_their_lines)
{
	autoloaded l;
	load(&l, "[transfer]\nrate_limit_cloud = fast\n"
		 "rate_schedule = 08:00-18:00\nbackground = maybe\n");
	assert_err(l.rc, ERR_CONFIG);
	assert_problem(&l, ":2: [transfer] rate_limit_cloud = fast: must be");
	assert_problem(&l, ":3: [transfer] rate_schedule = 08:00-18:00: must be a "
			   "window and a rate");
	assert_problem(&l, ":4: [transfer] background = maybe: must be");
}

TEST(settings_load__more_rates_than_can_be_kept__the_line_is_named)
{
	autoloaded l;
	autobuf text = { 0 };
	buf_text(&text, "[transfer]\n");
	for (unsigned i = 0; i < 33; i++)
		buf_print(&text, "rate_schedule = %02u:00-%02u:30 1M\n", i % 24,
			  i % 24);
	load(&l, text.at);
	assert_err(l.rc, ERR_CONFIG);
	assert_problem(&l, ":34: [transfer] rate_schedule stands 33 times: at most "
			   "32 can be kept");
}
