#include "tests/unit/test.h"

#include "agent/net/address.h"
#include "agent/net/resolve.h"
#include "common/clock.h"
#include "tests/unit/stub_dns.h"

#include <stdio.h>
#include <string.h>

#define COUNT_OF(a) (sizeof(a) / sizeof(*(a)))
#define CNAME(o, t) { .owner = o, .type = T_CNAME, .data = t }
#define A(o, a) { .owner = o, .type = T_A, .data = a }
#define AAAA(o, a) { .owner = o, .type = T_AAAA, .data = a }

static const struct stub_record zone[] = {
	{ .owner = "svc.test", .type = T_CNAME, .data = "cloud.cloudapp.net",
	  .ttl_s = 20 },
	{ .owner = "cloud.cloudapp.net", .type = T_CNAME,
	  .data = "vip.cloudapp.net", .ttl_s = 10 },
	A("vip.cloudapp.net", "192.0.2.1"),
	AAAA("vip.cloudapp.net", "2001:db8::1"),
	A("plain.test", "192.0.2.2"),
	A("plain.test", "192.0.2.3"),
	A("plain.test", "192.0.2.4"),
	A("plain.test", "192.0.2.3"),
	AAAA("plain.test", "2001:db8::2"),
	AAAA("plain.test", "2001:db8::3"),
	{ .owner = "now.test", .type = T_A, .data = "192.0.2.9",
	  .has_no_ttl = true },
	{ .owner = "long.test", .type = T_A, .data = "192.0.2.9",
	  .ttl_s = 86400 },
	CNAME("gone.test", "deleted.cloudapp.net"),
	{ .owner = "text.test", .type = T_TXT, .data = "x" },
	CNAME("totext.test", "text.test"),
	CNAME("self.test", "self.test"),
	CNAME("one.test", "Two.test"),
	CNAME("two.test", "one.test"),
	CNAME("into.test", "one.test"),
	CNAME("space.test", "a b.test"),
	CNAME("root.test", "."),
	CNAME("out.test", "vip.evilcloudapp.net"),
	A("vip.evilcloudapp.net", "192.0.2.1"),
	CNAME("mixed.test", "plain.test"),
	A("mixed.test", "203.0.113.66"),
	AAAA("other.test", "2001:db8::66"),
	A("other.test", "203.0.113.66"),
	A("meta.test", "169.254.169.254"),
	AAAA("mapped.test", "::ffff:169.254.169.254"),
	A("half.test", "192.0.2.1"),
	AAAA("half.test", "fe80::1"),
	A("private.test", "10.0.0.1"),
	A("four.test", "192.0.2.4"),
	AAAA("six.test", "2001:db8::6"),
	CNAME("c1.test", "c2.test"), CNAME("c2.test", "c3.test"),
	CNAME("c3.test", "c4.test"), CNAME("c4.test", "c5.test"),
	CNAME("c5.test", "c6.test"), CNAME("c6.test", "c7.test"),
	CNAME("c7.test", "c8.test"), CNAME("c8.test", "c9.test"),
	CNAME("c9.test", "four.test"),
};

struct world {
	struct stub stubs[2];
	struct dns *dns;
	struct resolve *resolve;
	struct resolve_result got;
	unsigned calls;
};
static struct world w;
static struct err e;

static struct resolve_options defaults(void)
{
	return (struct resolve_options){ .max_hops = 8 };
}

static void world_open_with(const struct stub_record *records, size_t count,
			    unsigned timeout_ms, struct resolve_options o)
{
	char servers[128];
	w = (struct world){ .calls = 0 };
	for (size_t i = 0; i < 2; i++)
		stub_open(&w.stubs[i], records, count);
	snprintf(servers, sizeof(servers), "%s%s", w.stubs[0].address,
		 w.stubs[1].address);
	struct dns_options d = { .servers = span_of(servers),
				 .timeout_ms = timeout_ms, .tries = 1 };
	w.dns = dns_new(&d, &e);
	assert_non_null(w.dns);
	o.dns = w.dns;
	w.resolve = resolve_new(&o, &e);
	assert_non_null(w.resolve);
}

static void world_open(struct resolve_options o)
{
	world_open_with(zone, COUNT_OF(zone), 2000, o);
}

static void world_close(void)
{
	resolve_free(w.resolve);
	dns_free(w.dns);
	stub_close(&w.stubs[0]);
	stub_close(&w.stubs[1]);
	clock_set_fake(NULL);
}

static void on_done(void *arg, const struct resolve_result *r)
{
	struct world *world = arg;
	world->got = *r;
	world->calls++;
}

/* One turn of a loop as the net role has it. */
static void turn(int longest_ms)
{
	struct pollfd fds[DNS_POLL_MAX + 6];
	unsigned calls = w.calls;
	int wait_ms = resolve_process(w.resolve);
	if (w.calls != calls)
		return;
	if (wait_ms < 0 || wait_ms > longest_ms)
		wait_ms = longest_ms;
	unsigned n = stub_poll_fds(&w.stubs[0], fds);
	n += stub_poll_fds(&w.stubs[1], fds + n);
	unsigned ours = n;
	n += dns_poll_fds(w.dns, fds + n, DNS_POLL_MAX);
	poll(fds, n, dns_timeout_ms(w.dns, wait_ms));
	stub_process(&w.stubs[0]);
	stub_process(&w.stubs[1]);
	dns_process(w.dns, fds + ours, n - ours);
	resolve_process(w.resolve);
}

static struct resolve_walk *start(const char *name, enum resolve_leg leg)
{
	w.calls = 0;
	struct resolve_walk *walk = resolve_start(w.resolve, name, leg, on_done,
						  &w, &e);
	assert_non_null(walk);
	assert_int_equal(w.calls, 0); /* never from inside */
	return walk;
}

static void finish(void)
{
	for (int i = 0; i < 10000 && w.calls == 0; i++)
		turn(100);
	assert_int_equal(w.calls, 1);
}

static enum err_code walk_on(const char *name, enum resolve_leg leg)
{
	start(name, leg);
	finish();
	e = w.got.result;
	return e.code;
}

static enum err_code walk(const char *name)
{
	return walk_on(name, RESOLVE_SITE);
}

static void assert_told(const char *part)
{
	if (strstr(w.got.result.text, part) == NULL)
		fail_msg("\"%s\" does not tell \"%s\"", w.got.result.text, part);
}

static unsigned asked(void)
{
	return w.stubs[0].asked + w.stubs[1].asked;
}

/* -- the chain ------------------------------------------------------------- */

TEST(resolve__chain_in_any_form__same_hops_and_addresses)
{
	static const enum stub_mood moods[] = {
		STUB_WHOLE, STUB_BARE, STUB_REVERSED, STUB_UPPER, STUB_TRUNCATED,
		STUB_TWICE, STUB_STRANGER, STUB_TCP_DRIP,
	};
	for (size_t i = 0; i < COUNT_OF(moods) * 2; i++) {
		world_open(defaults());
		w.stubs[0].mood = moods[i / 2];
		if (i % 2) /* A whole, AAAA in another form */
			w.stubs[0].mood = STUB_WHOLE;
		w.stubs[0].aaaa_mood = moods[i / 2];
		assert_ok(walk("svc.test"));
		assert_string_equal(w.got.name, "svc.test");
		assert_string_equal(w.got.canonical, "vip.cloudapp.net");
		assert_int_equal(w.got.hop_count, 2);
		assert_string_equal(w.got.hops[0].target, "cloud.cloudapp.net");
		assert_string_equal(w.got.hops[1].target, "vip.cloudapp.net");
		assert_int_equal(w.got.hops[1].ttl_s, 10);
		assert_memory_equal(w.got.hops[1].server, w.stubs[0].address,
				    strlen(w.got.hops[1].server));
		assert_int_equal(w.got.address_count, 2);
		assert_string_equal(w.got.addresses[0].text, "2001:db8::1");
		assert_true(w.got.addresses[0].is_v6);
		assert_string_equal(w.got.addresses[1].text, "192.0.2.1");
		assert_int_equal(w.stubs[1].asked, 0);
		world_close();
	}
}

TEST(resolve__several_addresses__by_turns_and_once)
{
	static const char *const order[] = { "2001:db8::2", "192.0.2.2",
					     "2001:db8::3", "192.0.2.3",
					     "192.0.2.4" };
	world_open(defaults());
	assert_ok(walk("plain.test"));
	assert_int_equal(w.got.hop_count, 0);
	assert_string_equal(w.got.canonical, "plain.test");
	assert_int_equal(w.got.address_count, COUNT_OF(order));
	for (size_t i = 0; i < COUNT_OF(order); i++)
		assert_string_equal(w.got.addresses[i].text, order[i]);
	world_close();
}

TEST(resolve__more_addresses_than_room__first_32)
{
	static char text[50][24];
	static struct stub_record many[50];
	for (unsigned i = 0; i < 50; i++) {
		snprintf(text[i], sizeof(text[i]), "192.0.2.%u", i);
		many[i] = (struct stub_record)A("many.test", text[i]);
	}
	world_open_with(many, 50, 2000, defaults());
	w.stubs[0].mood = STUB_TRUNCATED; /* so much does not fit into UDP */
	assert_ok(walk("many.test"));
	assert_int_equal(w.got.address_count, RESOLVE_ADDRESSES_MAX);
	world_close();
}

TEST(resolve__one_family_only__enough)
{
	world_open(defaults());
	assert_ok(walk("four.test"));
	assert_int_equal(w.got.address_count, 1);
	assert_ok(walk("six.test"));
	assert_int_equal(w.got.address_count, 1);
	assert_true(w.got.addresses[0].is_v6);
	world_close();
}

TEST(resolve__hops__eight_pass_the_ninth_fails)
{
	static const enum stub_mood moods[] = { STUB_WHOLE, STUB_BARE };
	for (size_t i = 0; i < COUNT_OF(moods); i++) {
		world_open(defaults());
		w.stubs[0].mood = moods[i];
		assert_ok(walk("c2.test"));
		assert_int_equal(w.got.hop_count, 8);
		assert_err(walk("c1.test"), ERR_DNS_HOPS);
		assert_int_equal(w.got.hop_count, 8);
		assert_int_equal(w.got.address_count, 0);
		assert_told("more than 8");
		assert_told("c9.test to four.test");
		world_close();
	}
}

TEST(resolve__hops__limit_of_none_and_of_64)
{
	static char names[67][16];
	static struct stub_record chain[67];
	struct resolve_options o = defaults();
	for (unsigned i = 0; i < 67; i++)
		snprintf(names[i], sizeof(names[i]), "n%u.test", i);
	for (unsigned i = 0; i < 66; i++)
		chain[i] = (struct stub_record)CNAME(names[i], names[i + 1]);
	chain[66] = (struct stub_record)A("n66.test", "192.0.2.1");
	o.max_hops = 1000; /* counts as 64 */
	world_open_with(chain, 67, 2000, o);
	w.stubs[0].mood = STUB_BARE;
	assert_ok(walk("n2.test"));
	assert_int_equal(w.got.hop_count, 64);
	assert_err(walk("n1.test"), ERR_DNS_HOPS);
	world_close();
	o.max_hops = 0;
	world_open(o);
	assert_ok(walk("plain.test"));
	assert_err(walk("svc.test"), ERR_DNS_HOPS);
	assert_err(walk("self.test"), ERR_DNS_LOOP);
	world_close();
}

TEST(resolve__loops__named)
{
	static const enum stub_mood moods[] = { STUB_WHOLE, STUB_BARE };
	for (size_t i = 0; i < COUNT_OF(moods); i++) {
		world_open(defaults());
		w.stubs[0].mood = moods[i];
		assert_err(walk("self.test"), ERR_DNS_LOOP);
		assert_told("self.test -> self.test");
		assert_err(walk("one.test"), ERR_DNS_LOOP);
		assert_told("one.test -> two.test -> one.test");
		assert_int_equal(w.got.hop_count, 2);
		assert_err(walk("into.test"), ERR_DNS_LOOP);
		assert_told(": one.test -> two.test -> one.test");
		assert_int_equal(w.got.hop_count, 3);
		world_close();
	}
}

TEST(resolve__address_at_the_owner_of_an_alias__not_taken)
{
	world_open(defaults());
	w.stubs[0].mood = STUB_MIXED;
	assert_ok(walk("mixed.test"));
	assert_string_equal(w.got.canonical, "plain.test");
	for (unsigned i = 0; i < w.got.address_count; i++)
		assert_string_not_equal(w.got.addresses[i].text, "203.0.113.66");
	world_close();
}

TEST(resolve__two_aliases_of_one_name__reply)
{
	world_open(defaults());
	w.stubs[0].mood = w.stubs[1].mood = STUB_TWO_ALIASES;
	assert_err(walk("svc.test"), ERR_DNS_REPLY);
	assert_told("other.test");
	assert_told("cloud.cloudapp.net");
	world_close();
}

TEST(resolve__target_no_host_name__reply_names_it)
{
	world_open(defaults());
	assert_err(walk("space.test"), ERR_DNS_REPLY);
	assert_told("a\\032b.test");
	assert_err(walk("root.test"), ERR_DNS_REPLY);
	assert_told(" ., which is no host name");
	world_close();
}

TEST(resolve__families_go_different_ways__both_shown)
{
	world_open(defaults());
	w.stubs[0].aaaa_mood = STUB_OTHER_ALIAS;
	assert_ok(walk("svc.test"));
	assert_int_equal(w.got.address_count, 2);
	assert_int_equal(w.got.hop_count, 3);
	assert_string_equal(w.got.canonical, "other.test");
	world_close();
}

/* -- failures -------------------------------------------------------------- */

TEST(resolve__no_such_name__nxdomain)
{
	world_open(defaults());
	assert_err(walk("nobody.test"), ERR_DNS_NXDOMAIN);
	assert_told("resolve nobody.test");
	assert_told("127.0.0.1:");
	assert_int_equal(w.got.hop_count, 0);
	assert_string_equal(w.got.canonical, "nobody.test");
	world_close();
}

TEST(resolve__alias_to_nobody__dangling)
{
	static const enum stub_mood moods[] = { STUB_WHOLE, STUB_BARE };
	for (size_t i = 0; i < COUNT_OF(moods); i++) {
		world_open(defaults());
		w.stubs[0].mood = moods[i];
		assert_err(walk("gone.test"), ERR_DNS_DANGLING);
		assert_told("gone.test");
		assert_told("deleted.cloudapp.net");
		assert_told("NXDOMAIN from 127.0.0.1:");
		assert_int_equal(w.got.hop_count, 1);
		assert_string_equal(w.got.canonical, "deleted.cloudapp.net");
		world_close();
	}
}

TEST(resolve__name_without_address__nodata)
{
	static const enum stub_mood moods[] = { STUB_WHOLE, STUB_BARE };
	for (size_t i = 0; i < COUNT_OF(moods); i++) {
		world_open(defaults());
		w.stubs[0].mood = moods[i];
		assert_err(walk("text.test"), ERR_DNS_NODATA);
		assert_told("no A record");
		assert_err(walk("totext.test"), ERR_DNS_NODATA);
		assert_told("hop 1 to text.test");
		assert_int_equal(w.got.hop_count, 1);
		world_close();
	}
}

TEST(resolve__one_family_fails__other_is_enough)
{
	static const enum stub_mood moods[] = {
		STUB_SERVFAIL, STUB_REFUSED, STUB_NOTIMP, STUB_EMPTY,
		STUB_NXDOMAIN, STUB_CUT, STUB_TWO_ALIASES,
	};
	for (size_t i = 0; i < COUNT_OF(moods); i++) {
		world_open(defaults());
		w.stubs[0].aaaa_mood = w.stubs[1].aaaa_mood = moods[i];
		assert_ok(walk("svc.test"));
		assert_int_equal(w.got.address_count, 1);
		assert_string_equal(w.got.addresses[0].text, "192.0.2.1");
		assert_int_equal(w.got.hop_count, 2);
		world_close();
	}
}

TEST(resolve__one_family_silent__other_waits_a_second)
{
	struct clock_fake fake = { .now_ms = 1000 };
	world_open(defaults());
	clock_set_fake(&fake);
	w.stubs[0].aaaa_mood = STUB_SILENT;
	start("svc.test", RESOLVE_SITE);
	for (int i = 0; i < 5; i++)
		turn(10);
	assert_int_equal(w.calls, 0);
	assert_int_equal(resolve_process(w.resolve), 1000);
	fake.now_ms += 1000;
	resolve_process(w.resolve);
	assert_int_equal(w.calls, 1);
	assert_err(w.got.result.code, ERR_OK);
	assert_int_equal(w.got.address_count, 1);
	world_close();
}

TEST(resolve__every_server_ill__code_and_server_told)
{
	static const struct {
		enum stub_mood mood;
		enum err_code code;
		const char *told;
	} cases[] = {
		{ STUB_SERVFAIL, ERR_DNS_SERVER, "SERVFAIL" },
		{ STUB_REFUSED, ERR_DNS_SERVER, "REFUSED" },
		{ STUB_FORMERR, ERR_DNS_SERVER, "FORMERR" },
		{ STUB_NOTIMP, ERR_DNS_SERVER, "NOTIMP" },
		{ STUB_REFERRAL, ERR_DNS_SERVER, "referral" },
		{ STUB_SILENT, ERR_DNS_TIMEOUT, "no answer within 50 ms" },
		{ STUB_WRONG_QUESTION, ERR_DNS_TIMEOUT, "no answer" },
		{ STUB_CUT, ERR_DNS_REPLY, "past the end" },
		{ STUB_EMPTY, ERR_DNS_NODATA, "NOERROR" },
		{ STUB_NXDOMAIN, ERR_DNS_NXDOMAIN, "NXDOMAIN" },
	};
	for (size_t i = 0; i < COUNT_OF(cases); i++) {
		world_open_with(zone, COUNT_OF(zone), 50, defaults());
		w.stubs[0].mood = w.stubs[1].mood = cases[i].mood;
		assert_err(walk("plain.test"), cases[i].code);
		assert_told(cases[i].told);
		assert_told("plain.test");
		assert_told("127.0.0.1:");
		world_close();
	}
}

TEST(resolve__server_fails_behind_an_alias__hop_told)
{
	world_open(defaults());
	w.stubs[0].mood = STUB_BARE;
	start("svc.test", RESOLVE_SITE);
	while (asked() < 2)
		turn(10);
	w.stubs[0].mood = w.stubs[1].mood = STUB_SERVFAIL;
	finish();
	assert_err(w.got.result.code, ERR_DNS_SERVER);
	assert_told("resolve svc.test, hop 1 to cloud.cloudapp.net");
	assert_int_equal(w.got.hop_count, 1);
	world_close();
}

TEST(resolve__first_server_ill__second_asked)
{
	static const enum stub_mood moods[] = { STUB_SERVFAIL, STUB_REFUSED,
						STUB_SILENT, STUB_NOISE };
	for (size_t i = 0; i < COUNT_OF(moods); i++) {
		world_open_with(zone, COUNT_OF(zone), 50, defaults());
		w.stubs[0].mood = moods[i];
		assert_ok(walk("svc.test"));
		assert_memory_equal(w.got.hops[0].server, w.stubs[1].address,
				    strlen(w.got.hops[0].server));
		if (moods[i] == STUB_SILENT)
			assert_true(w.got.hops[0].duration_ms >= 45);
		world_close();
	}
}

TEST(resolve__no_host_name__dns_name)
{
	static const char *const bad[] = { "", ".", "a b", "a..b", "1.2.3", "[::1]",
					   "http://a.test/", "fe80::1%lo",
					   "a.test..", "127.0.0.1." };
	world_open(defaults());
	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		assert_null(resolve_start(w.resolve, bad[i], RESOLVE_SITE, on_done,
					  &w, &e));
		assert_err(e.code, ERR_DNS_NAME);
	}
	assert_int_equal(resolve_process(w.resolve), -1);
	world_close();
}

/* -- names that nobody is asked about -------------------------------------- */

TEST(resolve__trailing_dot_and_case__one_name)
{
	world_open(defaults());
	assert_ok(walk("SVC.Test."));
	assert_string_equal(w.got.name, "svc.test");
	assert_int_equal(w.got.address_count, 2);
	unsigned before = asked();
	assert_ok(walk("svc.tesT"));
	assert_int_equal(asked(), before);
	world_close();
}

TEST(resolve__literals_and_localhost__never_asked)
{
	static const struct {
		const char *name, *canonical, *first;
		unsigned count;
	} cases[] = {
		{ "192.0.2.7", "192.0.2.7", "192.0.2.7", 1 },
		{ "2001:DB8:0::7", "2001:db8:0::7", "2001:db8::7", 1 },
		{ "localhost", "localhost", "::1", 2 },
		{ "LOCALHOST.", "localhost", "::1", 2 },
		{ "a.localhost", "a.localhost", "::1", 2 },
	};
	world_open(defaults());
	for (size_t i = 0; i < COUNT_OF(cases); i++) {
		assert_ok(walk(cases[i].name));
		assert_string_equal(w.got.canonical, cases[i].canonical);
		assert_int_equal(w.got.address_count, cases[i].count);
		assert_string_equal(w.got.addresses[0].text, cases[i].first);
	}
	assert_int_equal(asked(), 0);
	world_close();
}

TEST(resolve__hosts_file__before_dns)
{
	struct resolve_options o = defaults();
	o.hosts = SPAN_LIT("# comment\n"
			   "10.0.0.1\tdp01.corp.test DP01 # svc.test\r\n"
			   "  fd00::1   dp01.corp.test\n"
			   "not.an.address svc.test\n"
			   "10.0.0.9\n"
			   "\n"
			   "10.0.0.2 last.test");
	world_open(o);
	assert_ok(walk("DP01.corp.test."));
	assert_int_equal(w.got.address_count, 2);
	assert_string_equal(w.got.addresses[0].text, "fd00::1");
	assert_string_equal(w.got.addresses[1].text, "10.0.0.1");
	assert_string_equal(w.got.canonical, "dp01.corp.test");
	assert_int_equal(w.got.hop_count, 0);
	assert_ok(walk("dp01"));
	assert_ok(walk("last.test"));
	assert_int_equal(asked(), 0);
	assert_ok(walk("svc.test"));
	assert_int_equal(asked(), 2);
	world_close();
}

/* -- memory ---------------------------------------------------------------- */

TEST(resolve__asked_again__remembered_for_the_lowest_ttl)
{
	struct clock_fake fake = { .now_ms = 1000 };
	world_open(defaults());
	clock_set_fake(&fake);
	assert_ok(walk("svc.test"));
	struct resolve_result first = w.got;
	unsigned before = asked();
	fake.now_ms += 9999;
	assert_ok(walk("svc.test"));
	assert_int_equal(asked(), before);
	assert_memory_equal(&first, &w.got, sizeof(first));
	fake.now_ms += 1;
	assert_ok(walk("svc.test"));
	assert_int_equal(asked(), before + 2);
	world_close();
}

TEST(resolve__ttl_of_a_day__remembered_for_300_s)
{
	struct clock_fake fake = { .now_ms = 1000 };
	world_open(defaults());
	clock_set_fake(&fake);
	assert_ok(walk("long.test"));
	fake.now_ms += 299999;
	assert_ok(walk("long.test"));
	assert_int_equal(asked(), 2);
	fake.now_ms += 1;
	assert_ok(walk("long.test"));
	assert_int_equal(asked(), 4);
	world_close();
}

TEST(resolve__ttl_zero__not_remembered)
{
	world_open(defaults());
	assert_ok(walk("now.test"));
	assert_ok(walk("now.test"));
	assert_int_equal(asked(), 4);
	world_close();
}

TEST(resolve__failure__remembered_for_5_s)
{
	struct clock_fake fake = { .now_ms = 1000 };
	world_open(defaults());
	clock_set_fake(&fake);
	assert_err(walk("nobody.test"), ERR_DNS_NXDOMAIN);
	fake.now_ms += 4999;
	assert_err(walk("nobody.test"), ERR_DNS_NXDOMAIN);
	assert_int_equal(asked(), 2);
	assert_told("NXDOMAIN");
	fake.now_ms += 1;
	assert_err(walk("nobody.test"), ERR_DNS_NXDOMAIN);
	assert_int_equal(asked(), 4);
	world_close();
}

TEST(resolve__many_names__memory_is_bounded)
{
	char name[32];
	world_open(defaults());
	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < 100; i++) {
			snprintf(name, sizeof(name), "n%u.test", i);
			assert_err(walk(name), ERR_DNS_NXDOMAIN);
		}
	assert_true(asked() >= 200);
	world_close();
}

static void on_done_again(void *arg, const struct resolve_result *r)
{
	on_done(arg, r);
	resolve_start(w.resolve, "nobody.test", RESOLVE_SITE, on_done_again, arg,
		      &e);
}

TEST(resolve__asked_again_from_the_callback__one_a_turn)
{
	world_open(defaults());
	assert_err(walk("nobody.test"), ERR_DNS_NXDOMAIN);
	w.calls = 0;
	resolve_start(w.resolve, "nobody.test", RESOLVE_SITE, on_done_again, &w,
		      &e);
	assert_int_equal(resolve_process(w.resolve), 0);
	assert_int_equal(w.calls, 1);
	assert_int_equal(resolve_process(w.resolve), 0);
	assert_int_equal(w.calls, 2);
	world_close();
}

/* -- the cloud legs -------------------------------------------------------- */

TEST(resolve__suffix__whole_labels_of_the_last_name)
{
	static const struct {
		const char *suffixes, *name;
		enum resolve_leg leg;
		enum err_code code;
	} cases[] = {
		{ "cloudapp.net\n", "svc.test", RESOLVE_SERVICE, ERR_OK },
		{ "azure.com\nCloudApp.Net\n", "svc.test", RESOLVE_SERVICE, ERR_OK },
		{ ".cloudapp.net\n", "svc.test", RESOLVE_SERVICE, ERR_OK },
		{ "vip.cloudapp.net", "svc.test", RESOLVE_SERVICE, ERR_OK },
		{ "", "out.test", RESOLVE_SERVICE, ERR_OK },
		{ "\n \n", "out.test", RESOLVE_SERVICE, ERR_OK },
		{ "cloudapp.net\n", "out.test", RESOLVE_SERVICE, ERR_DNS_SUFFIX },
		{ "test\n", "svc.test", RESOLVE_SERVICE, ERR_DNS_SUFFIX },
		{ "cloud.cloudapp.net\n", "svc.test", RESOLVE_SERVICE,
		  ERR_DNS_SUFFIX },
		{ "cloudapp.net\n", "out.test", RESOLVE_SITE, ERR_OK },
		/* no alias, no rule; but a manifest's host must lie within */
		{ "cloudapp.net\n", "plain.test", RESOLVE_SERVICE, ERR_OK },
		{ "cloudapp.net\n", "192.0.2.1", RESOLVE_SERVICE, ERR_OK },
		{ "cloudapp.net\n", "plain.test", RESOLVE_STORAGE,
		  ERR_DNS_SUFFIX },
		{ "cloudapp.net\n", "192.0.2.1", RESOLVE_STORAGE,
		  ERR_DNS_SUFFIX },
		{ "cloudapp.net\n", "svc.test", RESOLVE_STORAGE, ERR_DNS_SUFFIX },
		{ "cloudapp.net\n", "cloud.cloudapp.net", RESOLVE_STORAGE,
		  ERR_OK },
		{ "cloudapp.net\n", "vip.cloudapp.net", RESOLVE_STORAGE, ERR_OK },
		{ "test\n", "out.test", RESOLVE_STORAGE, ERR_DNS_SUFFIX },
		{ "", "plain.test", RESOLVE_STORAGE, ERR_OK },
	};
	for (size_t i = 0; i < COUNT_OF(cases); i++) {
		struct resolve_options o = defaults();
		o.suffixes = span_of(cases[i].suffixes);
		world_open(o);
		assert_err(walk_on(cases[i].name, cases[i].leg), cases[i].code);
		if (cases[i].code != ERR_OK) {
			assert_told("[cloud] suffix");
			assert_int_equal(w.got.address_count, 0);
		}
		world_close();
	}
}

TEST(resolve__suffix__hops_are_shown_where_it_refuses)
{
	struct resolve_options o = defaults();
	o.suffixes = SPAN_LIT("cloudapp.net\n");
	world_open(o);
	assert_err(walk_on("out.test", RESOLVE_SERVICE), ERR_DNS_SUFFIX);
	assert_int_equal(w.got.hop_count, 1);
	assert_string_equal(w.got.canonical, "vip.evilcloudapp.net");
	assert_told("vip.evilcloudapp.net (says 127.0.0.1:");
	world_close();
}

TEST(resolve__suffix__one_family_leads_out__refused)
{
	struct resolve_options o = defaults();
	o.suffixes = SPAN_LIT("cloudapp.net\n");
	world_open(o);
	w.stubs[0].aaaa_mood = STUB_OTHER_ALIAS;
	assert_err(walk_on("svc.test", RESOLVE_SERVICE), ERR_DNS_SUFFIX);
	assert_told("other.test");
	world_close();
}

TEST(resolve__legs__remembered_apart)
{
	struct resolve_options o = defaults();
	o.suffixes = SPAN_LIT("cloudapp.net\n");
	world_open(o);
	assert_ok(walk("out.test"));
	assert_err(walk_on("out.test", RESOLVE_SERVICE), ERR_DNS_SUFFIX);
	assert_ok(walk("out.test"));
	world_close();
}

TEST(resolve__addresses_no_cloud_has__refused_on_its_legs_only)
{
	static const struct {
		const char *name;
		enum err_code code, public_only;
	} cases[] = {
		{ "meta.test", ERR_DNS_ADDRESS, ERR_DNS_ADDRESS },
		{ "mapped.test", ERR_DNS_ADDRESS, ERR_DNS_ADDRESS },
		{ "half.test", ERR_DNS_ADDRESS, ERR_DNS_ADDRESS },
		{ "169.254.169.254", ERR_DNS_ADDRESS, ERR_DNS_ADDRESS },
		{ "0.0.0.0", ERR_DNS_ADDRESS, ERR_DNS_ADDRESS },
		{ "private.test", ERR_OK, ERR_DNS_ADDRESS },
		{ "127.0.0.1", ERR_OK, ERR_DNS_ADDRESS },
		{ "localhost", ERR_OK, ERR_DNS_ADDRESS },
		{ "svc.test", ERR_OK, ERR_OK },
	};
	struct resolve_options o = defaults();
	for (int pass = 0; pass < 2; pass++) {
		o.public_only = pass == 1;
		world_open(o);
		for (size_t i = 0; i < COUNT_OF(cases); i++) {
			enum err_code code = pass ? cases[i].public_only :
						    cases[i].code;
			assert_err(walk_on(cases[i].name, RESOLVE_SERVICE), code);
			if (code != ERR_OK)
				assert_int_equal(w.got.address_count, 0);
			assert_ok(walk(cases[i].name));
		}
		world_close();
	}
}

TEST(address_refusal__table)
{
	static const struct {
		const char *text, *always, *public_only;
	} cases[] = {
		{ "0.0.0.0", "unspecified", "unspecified" },
		{ "0.255.255.255", "unspecified", "unspecified" },
		{ "1.0.0.0", NULL, NULL },
		{ "9.255.255.255", NULL, NULL },
		{ "10.0.0.0", NULL, "private" },
		{ "10.255.255.255", NULL, "private" },
		{ "11.0.0.0", NULL, NULL },
		{ "100.63.255.255", NULL, NULL },
		{ "100.64.0.0", NULL, "private" },
		{ "100.127.255.255", NULL, "private" },
		{ "100.128.0.0", NULL, NULL },
		{ "127.0.0.1", NULL, "loopback" },
		{ "127.255.255.255", NULL, "loopback" },
		{ "169.253.255.255", NULL, NULL },
		{ "169.254.0.0", "link-local", "link-local" },
		{ "169.254.255.255", "link-local", "link-local" },
		{ "172.15.255.255", NULL, NULL },
		{ "172.16.0.0", NULL, "private" },
		{ "172.31.255.255", NULL, "private" },
		{ "172.32.0.0", NULL, NULL },
		{ "192.0.1.0", NULL, NULL },
		{ "192.168.0.0", NULL, "private" },
		{ "192.169.0.0", NULL, NULL },
		{ "198.17.255.255", NULL, NULL },
		{ "198.19.255.255", NULL, "private" },
		{ "223.255.255.255", NULL, NULL },
		{ "224.0.0.0", "multicast", "multicast" },
		{ "239.255.255.255", "multicast", "multicast" },
		{ "240.0.0.0", "reserved", "reserved" },
		{ "255.255.255.255", "reserved", "reserved" },
		{ "::", "unspecified", "unspecified" },
		{ "::1", NULL, "loopback" },
		{ "::2", "unspecified", "unspecified" }, /* 0.0.0.2 inside */
		{ "fe80::1", "link-local", "link-local" },
		{ "febf:ffff::1", "link-local", "link-local" },
		{ "fec0::1", NULL, "private" },
		{ "fe7f::1", NULL, NULL },
		{ "ff02::1", "multicast", "multicast" },
		{ "fc00::1", NULL, "private" },
		{ "fdff::1", NULL, "private" },
		{ "2001:db8::1", NULL, NULL },
		{ "2603:1030::1", NULL, NULL },
		{ "::ffff:169.254.169.254", "link-local", "link-local" },
		{ "::ffff:224.0.0.1", "multicast", "multicast" },
		{ "::ffff:127.0.0.1", NULL, "loopback" },
		{ "::ffff:8.8.8.8", NULL, NULL },
		{ "::169.254.169.254", "link-local", "link-local" },
		{ "64:ff9b::169.254.169.254", "link-local", "link-local" },
		{ "64:ff9b::10.0.0.1", NULL, "private" },
		{ "64:ff9b::8.8.8.8", NULL, NULL },
		{ "2002:a9fe:a9fe::1", "link-local", "link-local" },
		{ "2002:0a00:0001::1", NULL, "private" },
		{ "2002:0808:0808::1", NULL, NULL },
		{ "fe80::1%eth0", "malformed", "malformed" },
	};
	for (size_t i = 0; i < COUNT_OF(cases); i++) {
		const char *always = address_refusal(cases[i].text, false);
		const char *strict = address_refusal(cases[i].text, true);
		if (cases[i].always)
			assert_string_equal(always ? always : cases[i].text,
					    cases[i].always);
		else if (always)
			fail_msg("%s is %s", cases[i].text, always);
		if (cases[i].public_only)
			assert_string_equal(strict ? strict : cases[i].text,
					    cases[i].public_only);
		else if (strict)
			fail_msg("%s is %s", cases[i].text, strict);
	}
}

/* -- the handle ------------------------------------------------------------ */

TEST(resolve_cancel__every_state__silent)
{
	resolve_cancel(NULL);
	resolve_free(NULL);
	for (int turns = 0; turns < 8; turns++) {
		world_open(defaults());
		w.stubs[0].mood = STUB_BARE;
		struct resolve_walk *walk_a = start("svc.test", RESOLVE_SITE);
		for (int i = 0; i < turns && w.calls == 0; i++)
			turn(10);
		if (w.calls == 0)
			resolve_cancel(walk_a);
		unsigned calls = w.calls;
		for (int i = 0; i < 5; i++)
			turn(2);
		assert_int_equal(w.calls, calls);
		world_close();
	}
}

struct pair {
	struct resolve_walk *both[2];
	unsigned calls;
};

static void on_either(void *arg, const struct resolve_result *r)
{
	struct pair *p = arg;
	unsigned me = strcmp(r->name, "localhost") == 0;
	p->calls++;
	resolve_cancel(p->both[1 - me]);
	p->both[0] = p->both[1] = NULL;
}

TEST(resolve_cancel__inside_a_callback__other_never_called)
{
	struct pair p = { .calls = 0 };
	world_open(defaults());
	p.both[0] = resolve_start(w.resolve, "192.0.2.1", RESOLVE_SITE, on_either,
				  &p, &e);
	p.both[1] = resolve_start(w.resolve, "localhost", RESOLVE_SITE, on_either,
				  &p, &e);
	for (int i = 0; i < 3; i++)
		turn(2);
	assert_int_equal(p.calls, 1);
	world_close();
}

TEST(resolve_free__walks_pending__silent)
{
	world_open(defaults());
	start("svc.test", RESOLVE_SITE);
	start("nobody.test", RESOLVE_SITE);
	start("localhost", RESOLVE_SITE);
	w.stubs[0].mood = STUB_SILENT;
	for (int i = 0; i < 3; i++)
		dns_process(w.dns, NULL, 0);
	world_close();
	assert_int_equal(w.calls, 0);
}

TEST(resolve__20_walks_at_once__all_end)
{
	world_open(defaults());
	w.stubs[0].mood = STUB_BARE;
	for (int i = 0; i < 20; i++)
		start("c2.test", RESOLVE_SITE);
	for (int i = 0; i < 2000 && w.calls < 20; i++)
		turn(50);
	assert_int_equal(w.calls, 20);
	assert_err(w.got.result.code, ERR_OK);
	world_close();
}
