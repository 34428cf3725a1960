#include "tests/unit/test.h"

#include "agent/net/dns.h"
#include "common/clock.h"
#include "common/sandbox.h"
#include "tests/unit/stub_dns.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT_OF(a) (sizeof(a) / sizeof(*(a)))

/* -- the parser ------------------------------------------------------------ */

static struct dns_record found[DNS_RECORDS_MAX];
static struct dns_records records = { found, DNS_RECORDS_MAX, 0 };
static struct msg m;
static struct err e;

/* From memory of exactly that size, so that ASan sees a read behind it. */
static enum err_code parse(size_t len, const char *name, enum dns_type type)
{
	struct dns_question asked = { name, type };
	char *copy = malloc(len ? len : 1);
	assert_non_null(copy);
	memcpy(copy, m.at, len);
	e = (struct err){ 0 };
	enum err_code rc = dnsmsg_parse((struct span){ copy, len },
					name ? &asked : NULL, &records, &e);
	free(copy);
	if (rc != ERR_OK && rc != ERR_DNS_NXDOMAIN)
		assert_int_equal(records.count, 0);
	return rc;
}

static enum err_code parse_a(void)
{
	return parse(m.len, "a.test", DNS_A);
}

static void begin(void)
{
	msg_begin(&m, 7, MSG_FLAGS, "a.test", T_A);
}

static void chain(void)
{
	begin();
	msg_record(&m, "a.test", T_CNAME, 300, "B.Cloud.test");
	msg_record(&m, "B.cloud.test", T_TXT, 60, "x");
	msg_record(&m, "b.cloud.test", T_A, 30, "192.0.2.1");
	msg_record(&m, "b.cloud.test", T_AAAA, 30, "2001:db8::1");
}

TEST(dnsmsg_parse__chain__all_records)
{
	chain();
	assert_ok(parse_a());
	assert_int_equal(records.count, 3);
	assert_int_equal(found[0].type, DNS_CNAME);
	assert_string_equal(found[0].owner, "a.test");
	assert_string_equal(found[0].target, "b.cloud.test");
	assert_int_equal(found[0].ttl_s, 300);
	assert_string_equal(found[1].owner, "b.cloud.test");
	assert_string_equal(found[1].address, "192.0.2.1");
	assert_string_equal(found[2].address, "2001:db8::1");
}

TEST(dnsmsg_parse__cut_at_every_octet__reply)
{
	chain();
	for (size_t len = 0; len < m.len; len++)
		assert_err(parse(len, "a.test", DNS_A), ERR_DNS_REPLY);
}

TEST(dnsmsg_parse__every_octet_every_value__no_crash)
{
	chain();
	for (size_t i = 0; i < m.len; i++) {
		unsigned char was = m.at[i];
		for (unsigned v = 0; v < 256; v++) {
			m.at[i] = (unsigned char)v;
			parse_a();
			assert_true(records.count <= DNS_RECORDS_MAX);
		}
		m.at[i] = was;
	}
}

TEST(dnsmsg_parse__question__must_be_ours)
{
	begin();
	assert_ok(parse(m.len, "A.TEST", DNS_A));
	assert_ok(parse(m.len, NULL, DNS_A));
	assert_err(parse(m.len, "b.test", DNS_A), ERR_DNS_REPLY);
	assert_err(parse(m.len, "a.test", DNS_AAAA), ERR_DNS_REPLY);
	m.at[m.len - 1] = 3; /* class CHAOS */
	assert_err(parse_a(), ERR_DNS_REPLY);
}

TEST(dnsmsg_parse__header__must_be_an_answer)
{
	begin();
	m.at[2] &= 0x7f;
	assert_err(parse_a(), ERR_DNS_REPLY);
	begin();
	m.at[2] |= 0x28; /* opcode UPDATE */
	assert_err(parse_a(), ERR_DNS_REPLY);
	begin();
	m.at[5] = 0; /* no question */
	assert_err(parse_a(), ERR_DNS_REPLY);
	begin();
	m.at[5] = 2;
	assert_err(parse_a(), ERR_DNS_REPLY);
	begin();
	m.at[2] |= 0x02; /* TC */
	assert_err(parse_a(), ERR_DNS_REPLY);
}

TEST(dnsmsg_parse__response_codes__told_apart)
{
	for (unsigned rcode = 1; rcode < 16; rcode++) {
		msg_begin(&m, 7, MSG_FLAGS | rcode, "a.test", T_A);
		assert_err(parse_a(), rcode == 3 ? ERR_DNS_NXDOMAIN :
						   ERR_DNS_SERVER);
	}
	msg_begin(&m, 7, MSG_FLAGS | 5, "a.test", T_A);
	parse_a();
	assert_string_equal(e.text, "REFUSED");
}

TEST(dnsmsg_parse__nxdomain_behind_alias__alias_is_kept)
{
	msg_begin(&m, 7, MSG_FLAGS | 3, "a.test", T_A);
	msg_record(&m, "a.test", T_CNAME, 60, "gone.test");
	assert_err(parse_a(), ERR_DNS_NXDOMAIN);
	assert_int_equal(records.count, 1);
	assert_string_equal(found[0].target, "gone.test");
}

TEST(dnsmsg_parse__referral__server)
{
	msg_begin(&m, 7, MSG_FLAGS & ~0x80u, "a.test", T_A);
	msg_count(&m, 8);
	msg_head(&m, "test", T_NS, 60, 4);
	msg_name(&m, "ns");
	assert_err(parse_a(), ERR_DNS_SERVER);
	m.at[2] |= 4; /* authoritative: then it is NODATA (RFC 2308 s2.2) */
	assert_ok(parse_a());
}

TEST(dnsmsg_parse__soa_without_ns__no_data)
{
	msg_begin(&m, 7, MSG_FLAGS & ~0x80u, "a.test", T_A);
	msg_count(&m, 8);
	msg_head(&m, "test", T_SOA, 60, 4);
	msg_name(&m, "ns");
	assert_ok(parse_a());
	assert_int_equal(records.count, 0);
}

/* A CNAME whose data is what the test says, owner by pointer to the question. */
static void alias_bytes(const void *data, size_t len)
{
	begin();
	msg_count(&m, 6);
	msg_u16(&m, 0xc00c);
	msg_u16(&m, T_CNAME);
	msg_u16(&m, 1);
	msg_u32(&m, 60);
	msg_u16(&m, (unsigned)len);
	msg_bytes(&m, data, len);
}
#define ALIAS(lit) alias_bytes(lit, sizeof(lit) - 1)
#define DATA_AT 36u /* offset of that data: header 12, question 12, record 12 */

TEST(dnsmsg_parse__pointer_to_question__followed)
{
	ALIAS("\1x\xc0\x0e"); /* x.test */
	assert_ok(parse_a());
	assert_string_equal(found[0].owner, "a.test");
	assert_string_equal(found[0].target, "x.test");
}

TEST(dnsmsg_parse__pointers__strictly_backwards)
{
	ALIAS("\xc0\x24"); /* itself */
	assert_int_equal(m.at[DATA_AT], 0xc0);
	assert_err(parse_a(), ERR_DNS_REPLY);
	ALIAS("\1x\xc0\x24"); /* its own first label */
	assert_err(parse_a(), ERR_DNS_REPLY);
	ALIAS("\xc0\x26\xc0\x24"); /* forward, and back again */
	assert_err(parse_a(), ERR_DNS_REPLY);
	ALIAS("\xc0\x26"); /* behind the end */
	assert_err(parse_a(), ERR_DNS_REPLY);
	ALIAS("\xff\xff");
	assert_err(parse_a(), ERR_DNS_REPLY);
	ALIAS("\xc0\x00"); /* into the header */
	assert_err(parse_a(), ERR_DNS_REPLY);
	ALIAS("\xc0"); /* half a pointer */
	assert_err(parse_a(), ERR_DNS_REPLY);
}

TEST(dnsmsg_parse__two_names_that_point_at_each_other__reply)
{
	begin();
	msg_count(&m, 6);
	size_t at = m.len; /* owner of the first: label, then the second's */
	msg_bytes(&m, "\1x\xc0", 3);
	msg_u8(&m, (unsigned)at + 15);
	msg_bytes(&m, "\0\1\0\1\0\0\0\1\0\4\1\2\3\4", 14);
	assert_err(parse_a(), ERR_DNS_REPLY);
}

TEST(dnsmsg_parse__kinds_of_label__only_plain)
{
	ALIAS("\x40x\0");
	assert_err(parse_a(), ERR_DNS_REPLY);
	ALIAS("\x81x\0");
	assert_err(parse_a(), ERR_DNS_REPLY);
}

TEST(dnsmsg_parse__alias_data_and_length_differ__reply)
{
	ALIAS("\1x\0junk");
	assert_err(parse_a(), ERR_DNS_REPLY);
	ALIAS("\1x"); /* the name runs out of the data */
	msg_u8(&m, 0);
	assert_err(parse_a(), ERR_DNS_REPLY);
	ALIAS("");
	assert_err(parse_a(), ERR_DNS_REPLY);
}

TEST(dnsmsg_parse__target_no_host_name__reply_names_it)
{
	static const struct {
		const char *data;
		size_t len;
		const char *told;
	} bad[] = {
#define BAD(lit, told) { lit, sizeof(lit) - 1, told }
		BAD("\0", " ., "),
		BAD("\3a\0b\4test\0", "a\\000b.test"),
		BAD("\3a/b\4test\0", "a/b.test"),
		BAD("\3a b\4test\0", "a\\032b.test"),
		BAD("\3a\nb\4test\0", "a\\010b.test"),
		BAD("\3a.b\4test\0", "a\\.b.test"),
		BAD("\3a\\b\4test\0", "a\\\\b.test"),
		BAD("\x08<script>\0", "<script>"),
		BAD("\2\xc3\xa9\0", "\\195\\169"),
		BAD("\1" "1" "\1" "2" "\1" "3" "\1" "4" "\0", "1.2.3.4"),
		BAD("\2..\0", "\\.\\."),
		BAD("\1-\0", "-"),
#undef BAD
	};
	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		alias_bytes(bad[i].data, bad[i].len);
		assert_err(parse_a(), ERR_DNS_REPLY);
		if (strstr(e.text, bad[i].told) == NULL)
			fail_msg("%s does not name %s", e.text, bad[i].told);
	}
}

/* A name of n octets in all: labels of 49 letters. */
static size_t long_name(unsigned char *out, size_t n, unsigned char letter)
{
	size_t at = 0;
	while (n - at > 1) {
		size_t label = n - at - 2 < 49 ? n - at - 2 : 49;
		if (n - at - 2 == 50) /* leave no empty label behind */
			label = 48;
		out[at++] = (unsigned char)label;
		memset(out + at, letter, label);
		at += label;
	}
	out[at++] = 0;
	return at;
}

TEST(dnsmsg_parse__target_of_255_octets__passes)
{
	unsigned char data[300];
	alias_bytes(data, long_name(data, 255, 'a'));
	assert_ok(parse_a());
	assert_int_equal(strlen(found[0].target), 253);
	alias_bytes(data, long_name(data, 256, 'a'));
	assert_err(parse_a(), ERR_DNS_REPLY);
	alias_bytes(data, long_name(data, 255, 0x07)); /* 253 times \007 */
	assert_err(parse_a(), ERR_DNS_REPLY);
}

TEST(dnsmsg_parse__long_by_pointer__limit_holds)
{
	unsigned char data[300];
	alias_bytes(data, long_name(data, 250, 'a'));
	for (int i = 0; i < 3; i++) { /* 252, 254, 256 octets */
		msg_count(&m, 6);
		size_t at = m.len;
		msg_bytes(&m, "\1x", 2);
		msg_u16(&m, i ? 0xc000u + (unsigned)at - 4 - 14 : 0xc000u + DATA_AT);
		msg_bytes(&m, "\0\1\0\1\0\0\0\1\0\4\1\2\3\4", 14);
		if (i < 2)
			assert_ok(parse_a());
	}
	assert_err(parse_a(), ERR_DNS_REPLY);
}

TEST(dnsmsg_parse__owner_no_host_name__reply)
{
	begin();
	msg_record(&m, "a b.test", T_A, 60, "192.0.2.1");
	assert_err(parse_a(), ERR_DNS_REPLY);
}

TEST(dnsmsg_parse__lengths_of_addresses__exact)
{
	static const unsigned lengths[] = { 0, 3, 5, 16, 65535 };
	for (size_t i = 0; i < COUNT_OF(lengths); i++) {
		begin();
		msg_count(&m, 6);
		msg_head(&m, "a.test", T_A, 60, lengths[i]);
		for (unsigned k = 0; k < lengths[i] && k < 16; k++)
			msg_u8(&m, 1);
		assert_err(parse_a(), ERR_DNS_REPLY);
	}
	begin();
	msg_count(&m, 6);
	msg_head(&m, "a.test", T_AAAA, 60, 4);
	msg_u32(&m, 1);
	assert_err(parse_a(), ERR_DNS_REPLY);
}

TEST(dnsmsg_parse__other_class__reply)
{
	begin();
	msg_record(&m, "a.test", T_A, 60, "192.0.2.1");
	m.at[m.len - 4 - 2 - 4 - 1] = 4; /* HESIOD */
	assert_err(parse_a(), ERR_DNS_REPLY);
}

TEST(dnsmsg_parse__ttl_with_highest_bit__zero)
{
	begin();
	msg_record(&m, "a.test", T_A, 0x80000001u, "192.0.2.1");
	assert_ok(parse_a());
	assert_int_equal(found[0].ttl_s, 0);
}

TEST(dnsmsg_parse__256_answers__pass_and_one_more_not)
{
	begin();
	for (int i = 0; i < DNS_RECORDS_MAX; i++)
		msg_record(&m, "a.test", T_A, 60, "192.0.2.1");
	assert_ok(parse_a());
	assert_int_equal(records.count, DNS_RECORDS_MAX);
	msg_record(&m, "a.test", T_A, 60, "192.0.2.1");
	assert_err(parse_a(), ERR_DNS_REPLY);
}

TEST(dnsmsg_parse__10000_answers__reply)
{
	begin();
	m.at[6] = 10000 >> 8;
	m.at[7] = 10000 & 0xff;
	while (m.len + 16 <= 65535)
		msg_bytes(&m, "\xc0\x0c\0\1\0\1\0\0\0\1\0\4\1\2\3\4", 16);
	assert_err(parse_a(), ERR_DNS_REPLY);
}

TEST(dnsmsg_parse__count_beyond_the_records__reply)
{
	begin();
	msg_record(&m, "a.test", T_A, 60, "192.0.2.1");
	msg_count(&m, 6);
	assert_err(parse_a(), ERR_DNS_REPLY);
}

/* -- questions over sockets ------------------------------------------------ */

static const struct stub_record zone[] = {
	{ .owner = "a.test", .type = T_A, .data = "192.0.2.1" },
	{ .owner = "a.test", .type = T_AAAA, .data = "2001:db8::1" },
	{ .owner = "alias.test", .type = T_CNAME, .data = "a.test" },
};

struct reply {
	struct dns_answer answer;
	struct dns_record first;
	unsigned calls;
};

struct world {
	struct stub stubs[2];
	struct dns *dns;
	struct reply reply;
};

static void on_done(void *arg, const struct dns_answer *a)
{
	struct reply *r = arg;
	r->answer = *a;
	if (a->count)
		r->first = a->records[0];
	r->calls++;
}

static void world_open(struct world *w, unsigned timeout_ms, unsigned tries)
{
	char servers[128];
	*w = (struct world){ .dns = NULL };
	for (size_t i = 0; i < 2; i++)
		stub_open(&w->stubs[i], zone, COUNT_OF(zone));
	snprintf(servers, sizeof(servers), "%s%s", w->stubs[0].address,
		 w->stubs[1].address);
	struct dns_options o = { .servers = span_of(servers),
				 .timeout_ms = timeout_ms, .tries = tries };
	w->dns = dns_new(&o, &e);
	assert_non_null(w->dns);
}

static void world_close(struct world *w)
{
	dns_free(w->dns);
	stub_close(&w->stubs[0]);
	stub_close(&w->stubs[1]);
}

/* One turn of a loop as the net role has it. */
static void turn(struct world *w, int longest_ms)
{
	struct pollfd fds[DNS_POLL_MAX + 6];
	unsigned n = stub_poll_fds(&w->stubs[0], fds);
	n += stub_poll_fds(&w->stubs[1], fds + n);
	unsigned ours = n;
	n += dns_poll_fds(w->dns, fds + n, DNS_POLL_MAX);
	poll(fds, n, dns_timeout_ms(w->dns, longest_ms));
	stub_process(&w->stubs[0]);
	stub_process(&w->stubs[1]);
	dns_process(w->dns, fds + ours, n - ours);
}

static void run(struct world *w)
{
	int64_t end_ms = clock_now_ms() + 10000;
	while (w->reply.calls == 0 && clock_now_ms() < end_ms)
		turn(w, 1000);
	assert_int_equal(w->reply.calls, 1);
}

static const struct dns_answer *ask(struct world *w, const char *name,
				    enum dns_type type)
{
	w->reply = (struct reply){ .calls = 0 };
	assert_non_null(dns_ask(w->dns, name, type, on_done, &w->reply, &e));
	assert_int_equal(w->reply.calls, 0);
	run(w);
	return &w->reply.answer;
}

static unsigned asked(const struct world *w)
{
	return w->stubs[0].asked + w->stubs[1].asked;
}

TEST(dns_ask__address__comes_with_server_and_ttl)
{
	struct world w;
	world_open(&w, 2000, 1);
	const struct dns_answer *a = ask(&w, "a.test", DNS_A);
	assert_err(a->result.code, ERR_OK);
	assert_int_equal(a->count, 1);
	assert_string_equal(w.reply.first.address, "192.0.2.1");
	assert_int_equal(w.reply.first.ttl_s, 60);
	assert_int_equal(strncmp(a->server, w.stubs[0].address,
				 strlen(a->server)), 0);
	assert_int_equal(asked(&w), 1);
	world_close(&w);
}

TEST(dns_ask__three_types__each_answered)
{
	struct world w;
	world_open(&w, 2000, 1);
	ask(&w, "a.test", DNS_AAAA);
	assert_string_equal(w.reply.first.address, "2001:db8::1");
	ask(&w, "alias.test", DNS_CNAME);
	assert_string_equal(w.reply.first.target, "a.test");
	world_close(&w);
}

TEST(dns_ask__short_name_and_trailing_dot__asked_as_they_are)
{
	struct world w;
	world_open(&w, 2000, 1);
	assert_err(ask(&w, "dp01", DNS_A)->result.code, ERR_DNS_NXDOMAIN);
	assert_string_equal(w.stubs[0].last_name, "dp01");
	assert_int_equal(asked(&w), 1);
	assert_err(ask(&w, "A.Test.", DNS_A)->result.code, ERR_OK);
	assert_int_equal(w.reply.answer.count, 1);
	world_close(&w);
}

TEST(dns_ask__no_host_name__dns_name)
{
	static const char *const bad[] = { "", ".", "a b.test", "192.0.2.1", "::1",
					   "a..test", "a/b", "\xc3\xa9.test" };
	struct world w;
	world_open(&w, 2000, 1);
	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		assert_null(dns_ask(w.dns, bad[i], DNS_A, on_done, &w.reply, &e));
		assert_err(e.code, ERR_DNS_NAME);
	}
	assert_int_equal(dns_timeout_ms(w.dns, -1), -1);
	world_close(&w);
}

TEST(dns_ask__upper_case_answer__accepted)
{
	struct world w;
	world_open(&w, 2000, 1);
	w.stubs[0].mood = STUB_UPPER;
	assert_err(ask(&w, "a.test", DNS_A)->result.code, ERR_OK);
	assert_string_equal(w.reply.first.owner, "A.TEST");
	world_close(&w);
}

/* What one server does to us, and what comes of it with the second one well,
 * and with both so. */
static const struct mood_case {
	enum stub_mood mood;
	enum err_code alone;
	bool asks_next;
} moods[] = {
	{ STUB_SERVFAIL, ERR_DNS_SERVER, true },
	{ STUB_REFUSED, ERR_DNS_SERVER, true },
	{ STUB_FORMERR, ERR_DNS_SERVER, true },
	{ STUB_NOTIMP, ERR_DNS_SERVER, true },
	{ STUB_REFERRAL, ERR_DNS_SERVER, true },
	{ STUB_SILENT, ERR_DNS_TIMEOUT, true },
	{ STUB_WRONG_ID, ERR_DNS_TIMEOUT, true },
	{ STUB_WRONG_QUESTION, ERR_DNS_TIMEOUT, true },
	{ STUB_WRONG_PORT, ERR_DNS_TIMEOUT, true },
	{ STUB_NO_ANSWER_BIT, ERR_DNS_REPLY, true },
	{ STUB_CUT, ERR_DNS_REPLY, true },
	{ STUB_NOISE, ERR_DNS_REPLY, true },
	{ STUB_TCP_TRUNCATED, ERR_DNS_REPLY, true },
	{ STUB_TCP_SHORT, ERR_DNS_TIMEOUT, true },
	{ STUB_TCP_HUGE, ERR_DNS_TIMEOUT, true },
	{ STUB_TCP_CLOSED, ERR_DNS_TIMEOUT, true },
	{ STUB_NXDOMAIN, ERR_DNS_NXDOMAIN, false },
	{ STUB_EMPTY, ERR_OK, false },
	{ STUB_ZERO_BYTES, ERR_OK, false },
	{ STUB_SHORT, ERR_OK, false },
	{ STUB_TWICE, ERR_OK, false },
	{ STUB_TRUNCATED, ERR_OK, false },
	{ STUB_TCP_DRIP, ERR_OK, false },
};

TEST(dns_ask__first_server_in_any_mood__second_helps)
{
	static const enum dns_type types[] = { DNS_A, DNS_AAAA, DNS_CNAME };
	for (size_t i = 0; i < COUNT_OF(moods) * COUNT_OF(types); i++) {
		const struct mood_case *c = &moods[i / COUNT_OF(types)];
		struct world w;
		world_open(&w, c->alone == ERR_DNS_TIMEOUT ? 50 : 2000, 1);
		w.stubs[0].mood = c->mood;
		const struct dns_answer *a = ask(&w, "alias.test",
						 types[i % COUNT_OF(types)]);
		assert_err(a->result.code, c->asks_next ? ERR_OK : c->alone);
		assert_int_equal(w.stubs[1].asked, c->asks_next);
		if (a->result.code == ERR_OK && c->mood != STUB_EMPTY)
			assert_true(a->count >= 1);
		world_close(&w);
	}
}

TEST(dns_ask__both_servers_in_any_mood__bounded_and_told)
{
	for (size_t i = 0; i < COUNT_OF(moods); i++) {
		const struct mood_case *c = &moods[i];
		struct world w;
		world_open(&w, c->alone == ERR_DNS_TIMEOUT ? 50 : 2000, 2);
		w.stubs[0].mood = w.stubs[1].mood = c->mood;
		int64_t began_ms = clock_now_ms();
		const struct dns_answer *a = ask(&w, "a.test", DNS_A);
		assert_err(a->result.code, c->alone);
		assert_int_equal(asked(&w), c->asks_next ? 4 : 1);
		if (c->alone == ERR_DNS_TIMEOUT) /* 200, and a busy machine */
			assert_in_range(clock_now_ms() - began_ms, 0, 1500);
		if (c->asks_next) { /* the story names them both */
			char first[64], second[64];
			snprintf(first, sizeof(first), "%.*s",
				 (int)strcspn(w.stubs[0].address, "\n"),
				 w.stubs[0].address);
			snprintf(second, sizeof(second), "%.*s",
				 (int)strcspn(w.stubs[1].address, "\n"),
				 w.stubs[1].address);
			assert_non_null(strstr(a->result.text, first));
			assert_non_null(strstr(a->result.text, second));
			assert_string_equal(a->server, second);
		}
		world_close(&w);
	}
}

TEST(dns_ask__servfail_and_silence__servfail_is_told)
{
	struct world w;
	world_open(&w, 50, 1);
	w.stubs[0].mood = STUB_SERVFAIL;
	w.stubs[1].mood = STUB_SILENT;
	const struct dns_answer *a = ask(&w, "a.test", DNS_A);
	assert_err(a->result.code, ERR_DNS_SERVER);
	assert_non_null(strstr(a->result.text, "SERVFAIL"));
	assert_non_null(strstr(a->result.text, "no answer within 50 ms"));
	world_close(&w);
}

TEST(dns_ask__truncated__asked_again_over_tcp)
{
	struct world w;
	world_open(&w, 2000, 1);
	w.stubs[0].mood = STUB_TRUNCATED;
	assert_int_equal(ask(&w, "a.test", DNS_A)->count, 1);
	assert_int_equal(w.stubs[0].asked_tcp, 1);
	assert_int_equal(w.stubs[1].asked, 0);
	world_close(&w);
}

TEST(dns_ask__nobody_listens__at_once)
{
	struct world w;
	world_open(&w, 5000, 1);
	close(w.stubs[0].udp);
	close(w.stubs[1].udp);
	w.stubs[0].udp = w.stubs[1].udp = -1;
	int64_t began_ms = clock_now_ms();
	assert_err(ask(&w, "a.test", DNS_A)->result.code, ERR_DNS_TIMEOUT);
	assert_in_range(clock_now_ms() - began_ms, 0, 2000);
	assert_non_null(strstr(w.reply.answer.result.text, "cannot be reached"));
	world_close(&w);
}

TEST(dns_cancel__every_state__silent)
{
	struct world w;
	world_open(&w, 50, 2);
	w.stubs[0].mood = STUB_SILENT;
	dns_cancel(NULL);
	for (int turns = 0; turns < 6; turns++) {
		struct dns_query *q = dns_ask(w.dns, "a.test", DNS_A, on_done,
					      &w.reply, &e);
		struct dns_query *other = dns_ask(w.dns, "a.test", DNS_AAAA,
						  on_done, &w.reply, &e);
		for (int i = 0; i < turns && w.reply.calls == 0; i++)
			turn(&w, 20);
		if (w.reply.calls == 0) {
			dns_cancel(q);
			dns_cancel(other);
		}
		for (int i = 0; i < 4; i++)
			turn(&w, 20);
		if (turns < 2)
			assert_int_equal(w.reply.calls, 0);
		w.reply.calls = 0;
	}
	world_close(&w);
}

struct pair {
	struct dns_query *both[2];
	unsigned calls;
};

/* Whichever comes first ends the other. */
static void cancel_other(struct pair *p, unsigned me)
{
	p->calls++;
	p->both[me] = NULL;
	dns_cancel(p->both[1 - me]);
	p->both[1 - me] = NULL;
}

static void on_first(void *arg, const struct dns_answer *a)
{
	(void)a;
	cancel_other(arg, 0);
}

static void on_second(void *arg, const struct dns_answer *a)
{
	(void)a;
	cancel_other(arg, 1);
}

TEST(dns_cancel__inside_a_callback__other_never_called)
{
	struct world w;
	struct pair p = { .calls = 0 };
	world_open(&w, 2000, 1);
	p.both[0] = dns_ask(w.dns, "a.test", DNS_A, on_first, &p, &e);
	p.both[1] = dns_ask(w.dns, "b.test", DNS_A, on_second, &p, &e);
	for (int i = 0; i < 200 && p.calls == 0; i++)
		turn(&w, 100);
	for (int i = 0; i < 5; i++)
		turn(&w, 5);
	assert_int_equal(p.calls, 1);
	world_close(&w);
}

TEST(dns_free__questions_pending__silent)
{
	struct world w;
	world_open(&w, 2000, 1);
	w.stubs[0].mood = STUB_TCP_HUGE;
	for (int i = 0; i < 8; i++)
		assert_non_null(dns_ask(w.dns, "a.test", DNS_A, on_done, &w.reply,
					&e));
	for (int i = 0; i < 4; i++)
		turn(&w, 5);
	world_close(&w);
	assert_int_equal(w.reply.calls, 0);
	dns_free(NULL);
}

TEST(dns_ask__100_at_once__all_answered)
{
	struct world w;
	world_open(&w, 5000, 2);
	for (int i = 0; i < 100; i++)
		assert_non_null(dns_ask(w.dns, "a.test", i % 2 ? DNS_A : DNS_AAAA,
					on_done, &w.reply, &e));
	for (int i = 0; i < 2000 && w.reply.calls < 100; i++)
		turn(&w, 100);
	assert_int_equal(w.reply.calls, 100);
	assert_int_equal(dns_poll_fds(w.dns, (struct pollfd[4]){ 0 }, 4), 0);
	assert_int_equal(dns_timeout_ms(w.dns, 1234), 1234);
	world_close(&w);
}

/* In a child, because there is no way back. The stub is in the box too. */
static int ask_in_sandbox(void)
{
	struct world w;
	struct sandbox_report got;
	world_open(&w, 2000, 1);
	w.stubs[0].mood = STUB_TRUNCATED;
	if (sandbox_enter_net(&got, &e) != ERR_OK)
		return 2;
	if (got.landlock_abi && open("/etc/resolv.conf", O_RDONLY) >= 0)
		return 3;
	const struct dns_answer *a = ask(&w, "a.test", DNS_A);
	bool is_good = a->result.code == ERR_OK && a->count == 1;
	world_close(&w);
	return is_good ? 0 : 4;
}

TEST(dns_ask__sandbox_closed_after_dns_new__still_answered)
{
	int status;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(ask_in_sandbox());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* -- configuration --------------------------------------------------------- */

static enum err_code try_servers(const char *servers, const char *resolv_conf)
{
	struct dns_options o = { .servers = span_of(servers), .timeout_ms = 50,
				 .tries = 1, .resolv_conf = resolv_conf };
	e = (struct err){ 0 };
	struct dns *d = dns_new(&o, &e);
	if (d == NULL)
		return e.code;
	/* Nobody is there; the answer names the last server. */
	struct reply r = { .calls = 0 };
	assert_non_null(dns_ask(d, "a.test", DNS_A, on_done, &r, &e));
	int64_t end_ms = clock_now_ms() + 10000;
	while (r.calls == 0 && clock_now_ms() < end_ms) {
		struct pollfd fds[DNS_POLL_MAX];
		unsigned n = dns_poll_fds(d, fds, DNS_POLL_MAX);
		poll(fds, n, dns_timeout_ms(d, 1000));
		dns_process(d, NULL, 0);
	}
	dns_free(d);
	snprintf(e.text, sizeof(e.text), "%s", r.answer.server);
	return r.calls == 1 ? ERR_OK : ERR_INTERNAL;
}

TEST(dns_new__forms_of_a_server__read)
{
	static const struct {
		const char *text, *is;
	} good[] = {
		{ "127.0.0.9", "127.0.0.9:53" },
		{ "127.0.0.9:5353\n", "127.0.0.9:5353" },
		{ " 127.0.0.9 \n\n", "127.0.0.9:53" },
		{ "::1", "[::1]:53" },
		{ "[::1]", "[::1]:53" },
		{ "[::1]:5353", "[::1]:5353" },
		{ "127.0.0.9:1\n127.0.0.9:65535\n", "127.0.0.9:65535" },
	};
	for (size_t i = 0; i < COUNT_OF(good); i++) {
		assert_ok(try_servers(good[i].text, NULL));
		assert_string_equal(e.text, good[i].is);
	}
}

TEST(dns_new__no_server__config)
{
	static const char *const bad[] = {
		"ns.example.net", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536",
		"127.0.0.1:5x", "127.0.0.1:+5", "[::1", "[::1]5", "::1]:53",
		"[127.0.0.1:53", "1.2.3", "1.2.3.4.5", "fe80::1%lo", ":53", "[]:53",
		"127.0.0.1 127.0.0.2", "x\n127.0.0.1\n",
		"1111:2222:3333:4444:5555:6666:7777:8888:9999",
	};
	for (size_t i = 0; i < COUNT_OF(bad); i++)
		assert_err(try_servers(bad[i], NULL), ERR_CONFIG);
}

TEST(dns_new__too_many_servers__config)
{
	char list[17 * 13 + 1] = "";
	for (size_t i = 0; i < 17; i++)
		snprintf(list + i * 13, 14, "127.0.0.9:53\n");
	assert_err(try_servers(list, NULL), ERR_CONFIG);
	assert_non_null(strstr(e.text, "16"));
}

static const char *resolv_conf(const char *text, size_t len)
{
	static char path[160];
	snprintf(path, sizeof(path), "%s/resolv.conf", test_folder());
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	fclose(f);
	return path;
}

TEST(dns_new__no_servers_given__the_systems)
{
	static const struct {
		const char *text;
		const char *last; /* server named in the answer */
	} files[] = {
		{ "nameserver 127.0.0.9\n", "127.0.0.9:53" },
		{ "search evil.test\noptions ndots:5\nnameserver 127.0.0.9",
		  "127.0.0.9:53" },
		{ "nameserver ::1\n", "[::1]:53" },
		{ "", "127.0.0.1:53" }, /* resolv.conf(5): the local one */
		{ "nameserver\nnameserver \n#\n;\n\n\x80\xff\n", "127.0.0.1:53" },
		{ "nameserver 127.0.0.8\nnameserver 127.0.0.9\n", "127.0.0.9:53" },
	};
	for (size_t i = 0; i < COUNT_OF(files); i++) {
		const char *path = resolv_conf(files[i].text,
					       strlen(files[i].text));
		assert_ok(try_servers("", path));
		assert_string_equal(e.text, files[i].last);
	}
}

TEST(dns_new__odd_resolv_conf__error_or_answer_but_no_crash)
{
	char many[100 * 24 + 1] = "";
	for (int i = 0; i < 100; i++)
		snprintf(many + strlen(many), 24, "nameserver 127.0.1.%d\n", i + 1);
	assert_ok(try_servers("", resolv_conf(many, strlen(many))));
	assert_string_equal(e.text, "127.0.1.16:53"); /* the first 16 */
	assert_ok(try_servers("", resolv_conf("\0nameserver 127.0.0.9\n", 22)));
	assert_ok(try_servers("", resolv_conf("nameserver 127.0.0.9\0\n", 22)));
	assert_ok(try_servers("", resolv_conf("nameserver fe80::1%lo\n", 22)));
	assert_ok(try_servers("", "/nonexistent/resolv.conf"));
	assert_string_equal(e.text, "127.0.0.1:53");
}
