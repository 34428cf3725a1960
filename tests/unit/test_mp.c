#include "tests/unit/test.h"

#include "agent/net/ccm.h"
#include "agent/net/dns.h"
#include "agent/net/mp.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * Management points on loopback ports, driven by the loop of the test. TLS,
 * tokens and gateways are tests/e2e's business.
 */
struct site {
	const char *post; /* whole response to CCM_POST; NULL = closed at once */
	const char *list; /* whole response to MPLIST; NULL = 404 */
	int listener, connection;
	char base[64];
	char in[16384];   /* the last request; UTF-16 in it has its zeros */
	size_t in_len;
	unsigned posts, lists;
};

#define REPLY(text) "HTTP/1.1 200 OK\r\nConnection: close\r\n" \
	"Content-Type: multipart/mixed; boundary=b\r\n\r\n" text
#define STATUS(line) "HTTP/1.1 " line "\r\nConnection: close\r\n" \
	"Content-Length: 0\r\n\r\n"

static void site_open(struct site *s, const char *post, const char *list)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	*s = (struct site){ .post = post, .list = list, .connection = -1 };
	s->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s->listener, (struct sockaddr *)&at, len), 0);
	assert_int_equal(listen(s->listener, 8), 0);
	assert_int_equal(getsockname(s->listener, (struct sockaddr *)&at, &len), 0);
	snprintf(s->base, sizeof(s->base), "http://127.0.0.1:%u",
		 ntohs(at.sin_port));
}

static void site_close(struct site *s)
{
	close(s->listener);
	if (s->connection >= 0)
		close(s->connection);
}

/* The whole of a request: head, and as many bytes as it announces. */
static bool is_whole(const struct site *s)
{
	static const char length[] = "Content-Length: ";
	const char *end = memmem(s->in, s->in_len, "\r\n\r\n", 4);
	if (end == NULL)
		return false;
	size_t body = 0;
	const char *at = memmem(s->in, (size_t)(end - s->in), length, strlen(length));
	for (at = at ? at + strlen(length) : end; *at >= '0' && *at <= '9'; at++)
		body = body * 10 + (size_t)(*at - '0');
	return s->in_len >= (size_t)(end + 4 - s->in) + body;
}

/* A reply in the plain form, the document in UTF-16. */
static void answer(struct site *s)
{
	static const char document[] = "<ContentLocationReply><Sites><Site>"
		"<LocationRecords><LocationRecord><URL Name=\"http://dp/x\"/>"
		"</LocationRecord></LocationRecords></Site></Sites>"
		"</ContentLocationReply>";
	bool is_list = memcmp(s->in, "GET ", 4) == 0;
	const char *text = is_list ? s->list : s->post;
	autobuf out = { 0 };
	struct err e;
	(void)(is_list ? s->lists++ : s->posts++);
	if (is_list && text == NULL)
		text = STATUS("404 Not Found");
	if (text && strcmp(text, "good") == 0) {
		buf_text(&out, REPLY("--b\r\n\r\n\r\n--b\r\n\r\n"));
		assert_ok(ccm_utf8_to_utf16(span_of(document), &out, &e));
		buf_text(&out, "\r\n--b--");
	} else if (text) {
		buf_text(&out, text);
	}
	if (out.len)
		assert_int_equal(write(s->connection, out.at, out.len), out.len);
	close(s->connection);
	s->connection = -1;
}

static void site_process(struct site *s)
{
	if (s->connection < 0) {
		s->connection = accept4(s->listener, NULL, NULL,
					SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (s->connection < 0)
			return;
		memset(s->in, 0, sizeof(s->in));
		s->in_len = 0;
	}
	ssize_t n = read(s->connection, s->in + s->in_len,
			 sizeof(s->in) - 1 - s->in_len);
	if (n > 0)
		s->in_len += (size_t)n;
	if (is_whole(s))
		answer(s);
}

/* --- one location request ------------------------------------------------ */

struct world {
	struct site sites[3];
	size_t count;
	struct wire_config config;
	struct wire_locate locate;
	struct span token;
	struct buf bases, attempts, notes;
	unsigned dones;
	size_t locations;
	char from[128];
	struct err result;
	struct dns *dns;
	struct resolve *resolve;
	struct http *http;
};

static void on_attempt(void *arg, const char *url, const struct err *why)
{
	struct world *w = arg;
	buf_print(&w->attempts, "%s %s\n", strrchr(url, '/'), err_name(why->code));
}

static void on_note(void *arg, const char *label, struct span text)
{
	struct world *w = arg;
	buf_print(&w->notes, "%s %.*s\n", label, SPAN_ARG(text));
}

static void on_done(void *arg, struct loclist *list, const char *from,
		    const struct err *result)
{
	struct world *w = arg;
	w->dones++;
	w->result = *result;
	w->locations = list ? list->count : 0;
	assert_int_equal(list == NULL, result->code != ERR_OK);
	snprintf(w->from, sizeof(w->from), "%s", from);
}

static void world_add(struct world *w, const char *post, const char *list)
{
	struct site *s = &w->sites[w->count++];
	site_open(s, post, list);
	buf_print(&w->bases, "%s\n", s->base);
}

static struct mp *world_start(struct world *w, struct err *e)
{
	struct dns_options d = { .servers = SPAN_LIT("127.0.0.1:9\n"),
				 .timeout_ms = 100, .tries = 1 };
	w->dns = dns_new(&d, e);
	assert_non_null(w->dns);
	struct resolve_options r = { .dns = w->dns, .max_hops = 8 };
	w->resolve = resolve_new(&r, e);
	assert_non_null(w->resolve);
	struct http_options h = { .resolve = w->resolve, .connections = 4,
				  .connect_timeout_ms = 5000,
				  .stall_timeout_ms = 5000 };
	w->http = http_new(&h, e);
	assert_non_null(w->http);
	w->config.site_code = SPAN_LIT("LAB");
	w->config.host_name = SPAN_LIT("pear.example.com");
	w->config.token_header = SPAN_LIT("Authorization: Bearer");
	w->locate.management_points = buf_as_span(&w->bases);
	if (w->locate.content_id.len == 0)
		w->locate.content_id = SPAN_LIT("LAB0001A");
	struct mp_request q = { .config = &w->config, .locate = &w->locate,
				.token = w->token, .on_attempt = on_attempt,
				.on_note = on_note, .done = on_done, .arg = w };
	return mp_start(w->http, &q, e);
}

static void world_turn(struct world *w)
{
	struct pollfd fds[6];
	unsigned n = 0;
	for (size_t i = 0; i < w->count; i++) {
		struct site *s = &w->sites[i];
		fds[n++] = (struct pollfd){ s->listener, POLLIN, 0 };
		if (s->connection >= 0)
			fds[n++] = (struct pollfd){ s->connection, POLLIN, 0 };
	}
	http_turn(w->http, w->dns, fds, n, http_due(w->http, w->dns, 200));
	for (size_t i = 0; i < w->count; i++)
		site_process(&w->sites[i]);
}

static void world_run(struct world *w)
{
	struct err e = { 0 };
	struct mp *m = world_start(w, &e);
	if (m == NULL)
		fail_msg("%s", e.text);
	assert_int_equal(w->dones, 0);
	for (int i = 0; i < 1000 && !w->dones; i++)
		world_turn(w);
	assert_int_equal(w->dones, 1);
}

static void world_free(struct world *w)
{
	http_free(w->http);
	resolve_free(w->resolve);
	dns_free(w->dns);
	for (size_t i = 0; i < w->count; i++)
		site_close(&w->sites[i]);
	buf_free(&w->bases);
	buf_free(&w->attempts);
	buf_free(&w->notes);
}
#define autoworld __attribute__((cleanup(world_free))) struct world

static void expect_attempts(const struct world *w, const char *expected)
{
	assert_string_equal(w->attempts.at ? w->attempts.at : "", expected);
}

/* --- what is asked ------------------------------------------------------- */

TEST(mp_start__good_reply__list_and_base)
{
	autoworld w = { 0 };
	world_add(&w, "good", NULL);
	w.token = SPAN_LIT("secret");
	world_run(&w);
	struct site *s = &w.sites[0];
	assert_int_equal(w.result.code, ERR_OK);
	assert_int_equal(w.locations, 1);
	assert_string_equal(w.from, s->base);
	expect_attempts(&w, "");
	assert_memory_equal(s->in, "CCM_POST /ccm_system/request HTTP/1.1\r\n", 39);
	assert_non_null(strstr(s->in, "\r\nContent-Type: multipart/mixed; boundary="));
	assert_non_null(strstr(s->in, "\r\nUser-Agent: ConfigMgr Messaging HTTP "
				      "Sender\r\n"));
	assert_null(strstr(s->in, "Expect"));
	assert_null(strstr(s->in, "secret")); /* http */
	assert_non_null(strstr(w.notes.at, "ContentLocationRequest <Content"));
	assert_non_null(strstr(w.notes.at, "DPTokenAuth=\"1\""));
	assert_non_null(strstr(w.notes.at, "ContentLocationReply <Content"));
	assert_null(strstr(w.notes.at, "secret"));
}

TEST(mp_start__update_and_tunnel__request_says_so)
{
	autoworld w = { 0 };
	world_add(&w, "good", NULL);
	w.locate.content_id = SPAN_LIT("Content_1f0c2d3e-0000-4000-8000-0123456789ab");
	w.locate.version = 4;
	w.locate.minutes = 7;
	w.locate.boundary_groups = SPAN_LIT("TIME 2026-03-02T07:33:08\n");
	w.config.interfaces = SPAN_LIT("ADAPTER ens3 6\nADAPTER tun0 131\n");
	world_run(&w);
	assert_non_null(strstr(w.notes.at, "<Package ID=\"UID:Content_1f0c2d3e-0000-"
					   "4000-8000-0123456789ab\" Version=\"4\"/>"));
	assert_non_null(strstr(w.notes.at, "LocationType=\"SMSUpdate\""));
	assert_non_null(strstr(w.notes.at, "ClientInOperation=\"PT7M\""));
	assert_non_null(strstr(w.notes.at, "IsOnVPN=\"1\""));
	assert_non_null(strstr(w.notes.at, "UseAzure=\"0\" UseInternetDP=\"0\""));
}

/* --- how it fails -------------------------------------------------------- */

TEST(mp_start__one_that_fails__its_own_code_of_class_mp)
{
	static const struct {
		const char *post, *attempt, *text;
		enum err_code code;
	} table[] = {
		{ STATUS("403 Client certificate required"), "/request MP_AUTH\n",
		  "403 Client certificate required", ERR_MP_AUTH },
		{ STATUS("401 CMGService_Invalid_Token"), "/request MP_AUTH\n",
		  "401 CMGService_Invalid_Token (the token", ERR_MP_AUTH },
		{ STATUS("500 Internal Server Error"), "/request MP_STATUS\n",
		  "HTTP 500 Internal Server Error", ERR_MP_STATUS },
		{ STATUS("404 Not Found"), "/request MP_STATUS\n", "HTTP 404",
		  ERR_MP_STATUS },
		{ STATUS("200 OK"), "/request MP_AUTH\n", "empty reply", ERR_MP_AUTH },
		{ REPLY("--b--"), "/request MP_REPLY\n", "no part", ERR_MP_REPLY },
		{ "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 7\r\n"
		  "\r\n<html/>", "/request MP_REPLY\n", "text/html", ERR_MP_REPLY },
		{ NULL, "/request BROKEN\n", "127.0.0.1", ERR_MP },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		autoworld w = { 0 };
		world_add(&w, table[i].post, NULL);
		world_run(&w);
		assert_err(w.result.code, table[i].code);
		assert_int_equal(err_exit(w.result.code), CLASS_MP);
		assert_non_null(strstr(w.result.text, table[i].text));
		assert_non_null(strstr(w.result.text, w.sites[0].base));
		expect_attempts(&w, table[i].attempt);
		/* MPLIST of whoever answered */
		assert_int_equal(w.sites[0].lists, table[i].post != NULL);
	}
}

TEST(mp_start__first_fails__second_is_asked_and_no_list)
{
	autoworld w = { 0 };
	world_add(&w, STATUS("500 Internal Server Error"), NULL);
	world_add(&w, "good", NULL);
	world_add(&w, "good", NULL);
	world_run(&w);
	assert_int_equal(w.result.code, ERR_OK);
	assert_string_equal(w.from, w.sites[1].base);
	expect_attempts(&w, "/request MP_STATUS\n");
	assert_int_equal(w.sites[0].lists, 0);
	assert_int_equal(w.sites[2].posts, 0);
}

TEST(mp_start__all_fail__counted_last_one_named)
{
	autoworld w = { 0 };
	buf_text(&w.bases, "ftp://x\n");
	world_add(&w, STATUS("503 Service Unavailable"), NULL);
	world_add(&w, STATUS("403 Forbidden"), NULL);
	world_run(&w);
	assert_err(w.result.code, ERR_MP);
	assert_non_null(strstr(w.result.text, "none of 3 management points"));
	assert_non_null(strstr(w.result.text, w.sites[1].base));
	assert_non_null(strstr(w.result.text, "it may speak https only"));
	expect_attempts(&w, "/x USAGE\n/request MP_STATUS\n/request MP_AUTH\n");
}

/* The IP address is no name of a list, and the same name twice is one. */
TEST(mp_start__list_names_others__asked_after_the_configured_ones)
{
	autoworld w = { 0 };
	world_add(&w, STATUS("500 Internal Server Error"),
		  "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<MPList>"
		  "<MP FQDN=\"a.invalid\"/><MP FQDN=\"127.0.0.1\"/>"
		  "<MP FQDN=\"A.invalid\"/></MPList>");
	world_run(&w);
	assert_err(w.result.code, ERR_MP);
	assert_non_null(strstr(w.result.text, "none of 2 management points"));
	assert_non_null(strstr(w.result.text, "http://a.invalid"));
	assert_int_equal(w.sites[0].posts, 1);
	assert_int_equal(w.sites[0].lists, 1);
	assert_memory_equal(w.sites[0].in, "GET /SMS_MP/.sms_aut?MPLIST ", 28);
}

TEST(mp_start__nothing_to_ask__error_at_once)
{
	static const struct {
		const char *bases, *id, *token;
		enum err_code code;
	} table[] = {
		{ "", "LAB0001A", "", ERR_CONFIG },
		{ "\n \n", "LAB0001A", "", ERR_CONFIG },
		{ "http://a b/\n", "LAB0001A", "", ERR_MP },
		{ "http://127.0.0.1/?q\n", "LAB0001A", "", ERR_MP },
		{ "http://127.0.0.1/\n", "LAB0001A", "a\r\nb", ERR_CONFIG },
		{ "http://127.0.0.1/\n",
		  "Content_this-is-longer-than-any-content-id-that-there-may-be-in-a-"
		  "site-of-whatever-size-because-it-has-more-than-one-hundred-and-28-"
		  "bytes", "", ERR_USAGE },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		autoworld w = { 0 };
		struct err e = { 0 };
		buf_text(&w.bases, table[i].bases);
		w.locate.content_id = span_of(table[i].id);
		w.token = span_of(table[i].token);
		assert_null(world_start(&w, &e));
		assert_err(e.code, table[i].code);
		assert_int_equal(w.dones, 0);
	}
}

TEST(mp_cancel__request_under_way__silent)
{
	autoworld w = { 0 };
	struct err e = { 0 };
	world_add(&w, "good", NULL);
	struct mp *m = world_start(&w, &e);
	assert_non_null(m);
	world_turn(&w);
	mp_cancel(m);
	for (int i = 0; i < 3; i++)
		world_turn(&w);
	assert_int_equal(w.dones, 0);
	mp_cancel(NULL);
}

/* --- the header of a token ----------------------------------------------- */

TEST(mp_token_line__forms__one_line)
{
	static const struct {
		const char *header, *token, *line;
	} table[] = {
		{ "Authorization: Bearer", "abc", "Authorization: Bearer abc" },
		{ " Authorization: Bearer ", " abc\n", "Authorization: Bearer abc" },
		{ "CCMToken", "abc", "CCMToken: abc" },
		{ "CCMToken:", "abc", "CCMToken: abc" },
		{ "CCMToken: ", "abc", "CCMToken: abc" },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		autobuf out = { 0 };
		mp_token_line(span_of(table[i].header), span_of(table[i].token), &out);
		assert_false(out.failed);
		assert_string_equal(out.at, table[i].line);
	}
}

TEST(mp_token_line__no_header__failed_and_nothing_written)
{
	static const char *const table[][2] = {
		{ "Authorization: Bearer", "" }, { "Authorization: Bearer", " \n" },
		{ "Authorization: Bearer", "a\nb" }, { "X", "a\x7f" }, { "", "abc" },
		{ ":", "abc" }, { "X:\r\nY:", "abc" }, { "X", "\xc3\xa9" },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		autobuf out = { 0 };
		mp_token_line(span_of(table[i][0]), span_of(table[i][1]), &out);
		assert_true(out.failed);
		assert_int_equal(out.len, 0);
	}
}
