#include "tests/unit/capture.h"
#include "tests/unit/test.h"

#include "agent/cli/show.h"
#include "agent/cli/show_once.h"
#include "agent/cli/show_service.h"
#include "common/clock.h"

#include <stdio.h>
#include <string.h>

#define NOW_MS 1800000000000 /* 2027-01-15T08:00:00Z */
#define TEXT(literal) ((char *)(uintptr_t)(literal))

static const struct err good;

/* The text of an answer, as of NOW. Owned by c. */
static const char *shown(struct capture *c, const char *reply,
			 void (*show)(struct span, const struct err *, bool))
{
	static const struct clock_fake fake = { .now_ms = 1, .wall_ms = NOW_MS };
	clock_set_fake(&fake);
	capture(c, stdout);
	show(span_of(reply), &good, false);
	const char *text = captured(c);
	clock_set_fake(NULL);
	return text;
}

static void show_status(struct span reply, const struct err *e, bool json)
{
	show_service_status(reply, false, e, json);
}

static void show_job(struct span reply, const struct err *e, bool json)
{
	show_service_status(reply, true, e, json);
}

#define SERVICE                                                               \
	"\"service\":{\"running\":true,\"pid\":4711,\"since\":"               \
	"\"2027-01-15T06:00:00Z\",\"polling\":false,\"next_poll\":"           \
	"\"2027-01-15T08:48:00Z\"},"
#define POLICY                                                                \
	"\"policy\":{\"source\":\"/p\",\"last_poll\":\"2027-01-15T07:48:00Z\"," \
	"\"last_good_poll\":\"2027-01-15T06:48:00Z\",\"deployments\":1,"      \
	"\"error\":{\"text\":\"signed by a stranger\"}},"
#define FAILED                                                                \
	"{\"content\":\"ABC00042\",\"version\":3,\"name\":\"VPN\","            \
	"\"deployment\":\"ABC20017\",\"purpose\":\"required\",\"priority\":"   \
	"\"high\",\"state\":\"waiting\",\"reason\":\"failed 2 times\","        \
	"\"next_try\":\"2027-01-15T08:03:00Z\",\"due\":null,\"tries\":2,"      \
	"\"last\":{\"time\":\"2027-01-15T07:59:00Z\",\"error\":{\"text\":"     \
	"\"no source\"}},\"deadline\":\"2027-01-16T08:00:00Z\"}"

TEST(show_service_status__text__service_policy_and_jobs)
{
	autocapture c;
	const char *text = shown(&c, "{" SERVICE POLICY "\"jobs\":[" FAILED ","
		"{\"content\":\"X1\",\"version\":12,\"name\":\"Office\",\"state\":"
		"\"here\",\"reason\":\"it is here\",\"arrived\":"
		"\"2027-01-15T05:00:00Z\"},{\"content\":\"Y1\",\"version\":1,"
		"\"state\":\"running\",\"name\":null,\"progress\":{\"step\":"
		"\"transfer\",\"host\":\"dp01\",\"bytes_done\":1024,"
		"\"bytes_total\":2048}}],\"note\":null,\"error\":null}",
		show_status);
	assert_has(text, "service  running since 2027-01-15T06:00:00Z (2 h ago), "
			 "process 4711\n"
			 "         next poll 2027-01-15T08:48:00Z (in 48 min)\n"
			 "policy   /p: 1 deployment\n"
			 "         last poll 2027-01-15T07:48:00Z (12 min ago)\n"
			 "         failed: signed by a stranger\n"
			 "         last good poll 2027-01-15T06:48:00Z (1 h 12 min "
			 "ago)\n");
	assert_has(text, "\nCONTENT     STATE    WHEN, NAME\n"
			 "ABC00042.3  waiting  2027-01-15T08:03:00Z (in 3 min)  VPN\n"
			 "    failed 2 times\n"
			 "    failed 2 times, last 2027-01-15T07:59:00Z (1 min ago): "
			 "no source\n"
			 "X1.12       here     since 2027-01-15T05:00:00Z (3 h ago)  "
			 "Office\n"
			 "Y1.1        running  transfer, dp01, 1.0 KiB of 2.0 KiB\n");
	assert_lacks(text, "\033");
}

TEST(show_service_status__no_service__is_the_first_word)
{
	autocapture c;
	const char *text = shown(&c, "{\"service\":{\"running\":false},\"jobs\":[],"
				     "\"note\":\"neither policy nor history has X\"}",
				 show_status);
	assert_string_equal(text, "no service is running\n"
				  "neither policy nor history has X\n");
}

TEST(show_service_status__one_content__is_a_block)
{
	autocapture c;
	const char *text = shown(&c, "{" SERVICE "\"jobs\":[" FAILED "]}", show_job);
	assert_has(text, "\nABC00042.3  VPN\n"
			 "    state        waiting\n"
			 "    reason       failed 2 times\n"
			 "    policy       required, priority high, deployment "
			 "ABC20017\n"
			 "    deadline     2027-01-16T08:00:00Z (in 1 d)\n"
			 "    next try     2027-01-15T08:03:00Z (in 3 min)\n");
}

TEST(show_service_status__json__is_passed_on)
{
	autocapture c;
	struct err e = { 0 };
	capture(&c, stdout);
	show_status(SPAN_LIT("{\"jobs\":[],\"more\":{\"x\":1},\"error\":null}"),
		    &good, true);
	assert_string_equal(captured(&c),
			    "{\"jobs\":[],\"more\":{\"x\":1},\"error\":null}\n");
	autocapture d;
	err_set(&e, ERR_FOLDER, "not for this user");
	capture(&d, stdout);
	show_status(SPAN_LIT("{\"jobs\":[],\"error\":null}"), &e, true);
	const char *text = captured(&d);
	assert_one_object(text);
	assert_has(text, "{\"jobs\":[],\"error\":{\"code\":\"STATE\",\"exit\":31,");
}

TEST(show_service__refusal__is_an_object_with_its_error)
{
	autocapture c;
	capture(&c, stdout);
	show_service_history(SPAN_LIT("{\"exit\":31,\"error\":{\"code\":\"STATE\"}}"),
			     &good, true);
	assert_string_equal(captured(&c), "{\"error\":{\"code\":\"STATE\"}}\n");
}

TEST(show_service__nonsense__shows_nothing)
{
	static const char *const replies[] = {
		"", "[]", "x", "{}", "{\"jobs\":7,\"service\":[],\"policy\":\"x\"}",
		"{\"jobs\":[7,null,{\"last\":3}],\"transfers\":{}}",
	};
	for (size_t i = 0; i < sizeof(replies) / sizeof(*replies); i++) {
		autocapture a, b, d;
		assert_lacks(shown(&a, replies[i], show_status), "(null)");
		assert_lacks(shown(&b, replies[i], show_service_why), "(null)");
		assert_lacks(shown(&d, replies[i], show_service_history), "(null)");
	}
}

TEST(show_service_status__control_characters__never_reach_the_terminal)
{
	autocapture c;
	const char *text = shown(&c, "{\"jobs\":[{\"content\":\"A\\u001b[2J\","
				     "\"version\":1,\"state\":\"wait\\u0007\","
				     "\"name\":\"\\u202ex\",\"reason\":\"a\\nb\"}],"
				     "\"note\":\"\\u009b31m\"}", show_status);
	assert_lacks(text, "\033");
	assert_lacks(text, "\007");
	assert_lacks(text, "\xe2\x80\xae");
	assert_lacks(text, "a\nb");
	assert_has(text, "A\\x1b[2J.1");
}

TEST(show_service_why__text__tells_the_story)
{
	autocapture c;
	const char *text = shown(&c,
		"{\"content\":\"ABC00042\",\"version\":3,\"state\":\"here\","
		"\"reason\":\"it is here\",\"path\":\"/c/ABC00042.3\","
		"\"decided\":\"2027-01-15T07:00:00Z\",\"management_point\":"
		"\"http://mp01\",\"locations\":[{\"rank\":1,\"kind\":\"on-prem\","
		"\"host\":\"dp01\",\"url\":\"http://dp01/x\",\"locality\":\"SUBNET\","
		"\"usable\":true,\"reason\":\"in the same subnet\"},{\"rank\":2,"
		"\"kind\":\"peer\",\"host\":\"pc7\",\"url\":\"http://pc7/\","
		"\"locality\":\"\",\"usable\":false,\"reason\":\"peers are not "
		"used\"}],\"attempts\":[{\"kind\":\"on-prem\",\"host\":\"dp02\","
		"\"duration_ms\":2100,\"bytes_received\":0,\"error\":{\"text\":"
		"\"connect dp02: refused\"}},{\"kind\":\"on-prem\",\"host\":"
		"\"dp01\",\"duration_ms\":40,\"bytes_received\":2048,\"error\":null}"
		"],\"hooks\":[{\"program\":\"10-install\",\"status\":3,\"text\":"
		"\"exit status 3\"}],\"last\":{\"time\":\"2027-01-15T07:00:00Z\","
		"\"result\":\"verified\",\"by\":\"service\",\"error\":null},"
		"\"delivered\":{\"kind\":\"on-prem\",\"host\":\"dp01\",\"time\":"
		"\"2027-01-15T07:00:02Z\",\"by\":\"service\"},\"note\":null}",
		show_service_why);
	assert_has(text, "ABC00042.3 came from dp01 (on-prem) 2027-01-15T07:00:02Z "
			 "(59 min ago), fetched by the service\n"
			 "    path         /c/ABC00042.3\n");
	assert_has(text, "decided 2027-01-15T07:00:00Z (1 h ago), asked was "
			 "http://mp01: 2 sources\n"
			 "   1  dp01 (on-prem): usable, in the same subnet\n"
			 "      http://dp01/x  SUBNET\n"
			 "   2  pc7 (peer): not usable, peers are not used\n");
	assert_has(text, "  dp02 (on-prem), 2.1 s, 0 B: connect dp02: refused\n"
			 "  dp01 (on-prem), 40 ms, 2.0 KiB: delivered\n");
	assert_has(text, "  10-install: 3, exit status 3\n");
	assert_has(text, "now: here, it is here\n");
}

TEST(show_service_why__failed__says_what_comes_next)
{
	autocapture c, none;
	const char *text = shown(&c,
		"{\"content\":\"A\",\"version\":1,\"state\":\"waiting\",\"next_try\":"
		"\"2027-01-15T08:10:00Z\",\"gives_up\":\"2027-01-15T16:00:00Z\","
		"\"last\":{\"time\":\"2027-01-15T07:59:00Z\",\"error\":{\"text\":"
		"\"no source\"}},\"delivered\":null}", show_service_why);
	assert_has(text, "A.1 has not come yet\n");
	assert_has(text, "last try     2027-01-15T07:59:00Z (1 min ago): no source\n");
	assert_has(text, "next try 2027-01-15T08:10:00Z (in 10 min)\n"
			 "gives up 2027-01-15T16:00:00Z (in 8 h)\n");
	text = shown(&none, "{\"content\":\"A\",\"version\":0,\"note\":\"nothing is "
			    "recorded about A\"}", show_service_why);
	assert_string_equal(text, "nothing is recorded about A\n");
}

TEST(show_service_history__text__is_a_table)
{
	autocapture c, none;
	const char *text = shown(&c,
		"{\"transfers\":[{\"time\":\"2027-01-15T07:00:00Z\",\"content\":"
		"\"ABC00042\",\"version\":3,\"result\":\"verified\",\"by\":"
		"\"service\",\"source\":{\"kind\":\"cloud\",\"host\":\"c1\"},"
		"\"bytes_received\":1536,\"duration_ms\":1500,\"error\":null},"
		"{\"time\":\"2027-01-15T06:00:00Z\",\"content\":\"X\",\"version\":1,"
		"\"result\":\"failed\",\"by\":\"hand\",\"source\":null,\"error\":"
		"{\"text\":\"no source\"}}]}", show_service_history);
	assert_string_equal(text,
		"TIME                  CONTENT     RESULT        RECEIVED      TOOK  "
		"BY       SOURCE\n"
		"2027-01-15T07:00:00Z  ABC00042.3  verified       1.5 KiB     1.5 s  "
		"service  c1 (cloud)\n"
		"2027-01-15T06:00:00Z  X.1         failed             0 B      0 ms  "
		"hand     -\n"
		"    no source\n");
	assert_string_equal(shown(&none, "{\"transfers\":[]}", show_service_history),
			    "no transfer is recorded\n");
}

TEST(show_service_done__text_and_json__tell_the_action)
{
	struct err e = { 0 };
	autocapture a, b, d;
	capture(&a, stdout);
	show_service_done("poll", "policy was polled", &good, false);
	assert_string_equal(captured(&a), "policy was polled\n");
	capture(&b, stdout);
	show_service_done("poll", "policy was polled", &good, true);
	assert_string_equal(captured(&b), "{\"action\":\"poll\",\"error\":null}\n");
	err_set(&e, ERR_SERVICE, "no service");
	capture(&d, stdout);
	show_service_done("poll", "policy was polled", &e, false);
	assert_string_equal(captured(&d), "");
}

/* --- --once --------------------------------------------------------------- */

TEST(show_once__report__as_text_and_json)
{
	static struct deployment deployments[] = {
		{ .content = { .id = "ABC00042", .version = 3 } },
		{ .content = { .id = "X1", .version = 1 } },
		{ .content = { .id = "Y1", .version = 2 } },
	};
	static struct plan_item items[] = {
		{ .deployment = &deployments[0], .name = "ABC00042.3",
		  .answer = { .state = DUE_NOW, .reason = "past its deadline" } },
		{ .deployment = &deployments[1], .name = "X1.1",
		  .answer = { .state = DUE_NOW, .reason = "past its deadline" } },
		{ .deployment = &deployments[2], .name = "Y1.2",
		  .answer = { .state = DUE_LATER, .at_s = NOW_MS / 1000 + 60,
			      .reason = "its window opens then" } },
	};
	struct once_job jobs[] = {
		{ .name = "ABC00042.3", .was_run = true,
		  .report = { .result = JOB_VERIFIED, .path = TEXT("/c/ABC00042.3"),
			      .duration_ms = 1500,
			      .figures = { .bytes_total = 2048,
					   .bytes_received = 1024 } } },
		{ .name = "X1.1", .was_run = true, .error = { .code = ERR_CONNECT } },
	};
	struct once_report r = { .plan = { .items = items, .count = 3 },
				 .jobs = jobs, .count = 2 };
	static const struct clock_fake fake = { .now_ms = 1, .wall_ms = NOW_MS };
	autocapture text, json;
	err_set(&jobs[1].error, ERR_CONNECT, "connect dp01: \033[1mrefused");
	buf_text(&r.problems, "a.ini:3: odd\nb.ini:4: odder\n");
	clock_set_fake(&fake);
	capture(&text, stdout);
	show_once(&r, false, &good, false);
	const char *lines = captured(&text);
	clock_set_fake(NULL);
	capture(&json, stdout);
	show_once(&r, false, &jobs[1].error, true);
	const char *object = captured(&json);
	buf_free(&r.problems);
	assert_string_equal(lines,
		"ABC00042.3: verified, 2.0 KiB in 1.5 s, /c/ABC00042.3\n"
		"X1.1: failed, connect dp01: \\x1b[1mrefused\n"
		"Y1.2: waiting until 2027-01-15T08:01:00Z (in 1 min), its window "
		"opens then\n"
		"3 deployments, 2 due, 1 failed\n");
	assert_one_object(object);
	assert_has(object, "{\"jobs\":[{\"content\":\"ABC00042\",\"version\":3,"
			   "\"state\":\"due now\",\"due\":null,\"reason\":\"past its "
			   "deadline\",\"result\":\"verified\",\"path\":"
			   "\"/c/ABC00042.3\",\"bytes_received\":1024,"
			   "\"error\":null},");
	assert_has(object, "\"result\":\"failed\",\"path\":null,\"bytes_received\":0,"
			   "\"error\":{\"code\":\"TRANSFER\"");
	assert_has(object, "\"state\":\"waiting\",\"due\":\"2027-01-15T08:01:00Z\","
			   "\"reason\":\"its window opens then\",\"result\":null,");
	assert_has(object, "\"problems\":[\"a.ini:3: odd\",\"b.ini:4: odder\"],"
			   "\"error\":{\"code\":\"TRANSFER\",\"exit\":22,");
}
