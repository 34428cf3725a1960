#include "tests/unit/test.h"

#include "agent/keeper/events.h"
#include "common/own.h"
#include "tests/unit/stage.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define AT 1795000000
#define AT_TEXT "2026-11-18T11:06:40Z"

static const char *const with_messages[] = { "report.state_messages=yes", NULL };

static struct content content_of(const char *text)
{
	struct content c;
	struct err e = { 0 };
	assert_ok(content_parse(text, &c, &e));
	return c;
}

/* Line `n` of the events file; NULL where there is none. */
static json_t *line(const struct stage *s, unsigned n)
{
	autofree char *text = stage_read(s, "events");
	char *at = text, *end;
	for (; at && (end = strchr(at, '\n')); at = end + 1) {
		*end = '\0';
		if (n-- == 0)
			return json_loads(at, JSON_REJECT_DUPLICATES, NULL);
	}
	return NULL;
}

static void assert_text(json_t *o, const char *key, const char *want)
{
	const char *have = json_string_value(json_object_get(o, key));
	assert_string_equal(have ? have : "(none)", want);
}

TEST(events__waiting__a_line)
{
	struct stage s;
	struct content c = content_of("ABC00042.3");
	struct stat st;
	stage_open(&s, NULL);
	events_tell(&s.settings, s.record, OUTBOX_WAITING, &c, NULL, NULL, AT);
	json_t *o = line(&s, 0);
	assert_text(o, "time", AT_TEXT);
	assert_text(o, "event", "waiting");
	assert_text(o, "content", "ABC00042");
	assert_int_equal(json_integer_value(json_object_get(o, "version")), 3);
	assert_true(json_is_null(json_object_get(o, "error")));
	json_decref(o);
	assert_int_equal(stat(stage_path(&s, "events"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	stage_close(&s);
}

TEST(events__arrived__with_its_report)
{
	struct stage s;
	char host[] = "dp01.example.net", path[] = "/cache/content/ABC00042.3";
	char url[] = "https://dp01.example.net/x?sig=secret";
	struct job_attempt attempts[] = {
		{ .kind = SOURCE_ON_PREM, .host = host, .url = url }
	};
	struct job_report r = { .content = content_of("ABC00042.3"),
				.result = JOB_VERIFIED,
				.path = path,
				.figures.bytes_total = 12,
				.figures.bytes_received = 10,
				.duration_ms = 34,
				.attempts = attempts,
				.attempt_count = 1 };
	stage_open(&s, with_messages);
	events_tell(&s.settings, s.record, OUTBOX_ARRIVED, &r.content, &r, NULL, AT);
	json_t *o = line(&s, 0);
	assert_text(o, "event", "arrived");
	assert_text(o, "result", "verified");
	assert_text(o, "path", path);
	assert_text(json_object_get(o, "source"), "kind", "on-prem");
	assert_text(json_object_get(o, "source"), "host", host);
	assert_int_equal(json_integer_value(json_object_get(o, "bytes_total")), 12);
	assert_int_equal(json_integer_value(json_object_get(o, "bytes_received")), 10);
	assert_int_equal(json_integer_value(json_object_get(o, "duration_ms")), 34);
	json_decref(o);
	autofree char *text = stage_read(&s, "events");
	assert_null(strstr(text, "secret"));
	struct outbox_item item;
	assert_true(outbox_first(s.record, &item));
	assert_int_equal(item.state, OUTBOX_ARRIVED);
	assert_int_equal(item.at_s, AT);
	assert_string_equal(item.topic, "ABC00042.3");
	assert_string_equal(item.details,
			    "verified from dp01.example.net: 12 bytes in 34 ms");
	stage_close(&s);
}

TEST(events__failed__with_its_error)
{
	struct stage s;
	struct job_report r = { .content = content_of("ABC00042.3"),
				.delivered = -1 };
	struct err why;
	stage_open(&s, with_messages);
	err_set(&why, ERR_DNS_LOOP, "walk \"a\x01\": it loops\nnew line");
	events_tell(&s.settings, s.record, OUTBOX_FAILED, &r.content, &r, &why, AT);
	json_t *o = line(&s, 0), *error = json_object_get(o, "error");
	assert_text(o, "event", "failed");
	assert_text(error, "code", "DNS");
	assert_text(error, "detail", "DNS_LOOP");
	assert_int_equal(json_integer_value(json_object_get(error, "exit")), 20);
	assert_true(json_is_null(json_object_get(o, "source")));
	json_decref(o);
	assert_null(line(&s, 1)); /* a line end in a text makes no line */
	struct outbox_item item;
	assert_true(outbox_first(s.record, &item));
	assert_non_null(strstr(item.details, "DNS_LOOP: walk"));
	stage_close(&s);
}

TEST(events__rotated__the_new_file_gets_the_next)
{
	struct stage s;
	char moved[600];
	struct content c = content_of("ABC00042.3");
	stage_open(&s, NULL);
	events_tell(&s.settings, NULL, OUTBOX_WAITING, &c, NULL, NULL, AT);
	events_tell(&s.settings, NULL, OUTBOX_TRANSFER, &c, NULL, NULL, AT);
	snprintf(moved, sizeof(moved), "%s", stage_path(&s, "events.1"));
	assert_int_equal(rename(stage_path(&s, "events"), moved), 0);
	events_tell(&s.settings, NULL, OUTBOX_WITHDRAWN, &c, NULL, NULL, AT);
	json_t *o = line(&s, 0);
	assert_text(o, "event", "withdrawn");
	json_decref(o);
	assert_null(line(&s, 1));
	stage_close(&s);
}

TEST(events__file_is_a_link__refused)
{
	struct stage s;
	struct stat st;
	char target[600];
	struct content c = content_of("ABC00042.3");
	stage_open(&s, NULL);
	snprintf(target, sizeof(target), "%s", stage_path(&s, "target"));
	assert_int_equal(symlink(target, stage_path(&s, "events")), 0);
	events_tell(&s.settings, NULL, OUTBOX_WAITING, &c, NULL, NULL, AT);
	assert_int_not_equal(stat(target, &st), 0);
	stage_close(&s);
}

TEST(events__file_is_a_pipe_nobody_reads__not_waited_for)
{
	struct stage s;
	struct content c = content_of("ABC00042.3");
	stage_open(&s, NULL);
	assert_int_equal(mkfifo(stage_path(&s, "events"), 0600), 0);
	events_tell(&s.settings, NULL, OUTBOX_WAITING, &c, NULL, NULL, AT);
	stage_close(&s);
}

static bool are_sent(const char *state_messages, const char *source)
{
	struct stage s;
	char words[2][100];
	snprintf(words[0], sizeof(words[0]), "report.state_messages=%s",
		 state_messages);
	snprintf(words[1], sizeof(words[1]), "policy.source=%s", source);
	const char *set[] = { words[0], words[1], NULL };
	uint64_t waiting = 0, lost = 0;
	struct content c = content_of("ABC00042.3");
	stage_open(&s, set);
	bool are = events_are_sent(&s.settings);
	events_tell(&s.settings, s.record, OUTBOX_WAITING, &c, NULL, NULL, AT);
	outbox_count(s.record, &waiting, &lost);
	assert_int_equal(waiting, are);
	stage_close(&s);
	return are;
}

TEST(events__state_messages__as_settings_want_them)
{
	assert_true(are_sent("yes", "/policy.d"));
	assert_false(are_sent("no", "mp"));
	assert_true(are_sent("auto", "mp"));
	assert_false(are_sent("auto", "/policy.d"));
}

TEST(events_send__nothing_waits__no_process_is_started)
{
	struct stage s;
	struct err e = { 0 };
	stage_open(&s, with_messages);
	assert_ok(events_send(&s.settings, s.record, &e));
	stage_close(&s);
}
