#include "agent/keeper/events.h"

#include "agent/keeper/site.h"
#include "common/clock.h"
#include "common/jsonout.h"
#include "common/log.h"
#include "common/own.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define COMPONENT "StatusAgent"
#define EVENT_MODE 0640

static const char *const names[] = {
	[OUTBOX_WAITING] = "waiting",     [OUTBOX_TRANSFER] = "transfer",
	[OUTBOX_ARRIVED] = "arrived",     [OUTBOX_FAILED] = "failed",
	[OUTBOX_WITHDRAWN] = "withdrawn",
};

/* What one event is about. */
struct event {
	enum outbox_state state;
	const struct content *content;
	const struct job_report *report; /* NULL */
	const struct err *why;           /* NULL: nothing went wrong */
	int64_t now_s;
};

static const struct job_attempt *delivered(const struct job_report *r)
{
	return r && r->delivered >= 0 && (size_t)r->delivered < r->attempt_count ?
		       &r->attempts[r->delivered] : NULL;
}

/* --- a line in the events file -------------------------------------------- */

/* As elsewhere, but without advice: nobody reads it here. */
static json_t *error(const struct err *e)
{
	static const struct err none = { 0 };
	json_t *o = jsonout_error(e ? e : &none);
	json_object_del(o, "advice");
	return o;
}

static json_t *source(const struct job_attempt *a)
{
	if (a == NULL)
		return json_null();
	return json_pack("{s:s, s:o, s:o}", "kind", source_kind_name(a->kind),
			 "host", jsonout_text(a->host), "url", jsonout_text(a->url));
}

/* One object, one line; owned, NULL for no memory. Without a report: of what
 * happened before any transfer. */
static char *line_of(const struct event *v)
{
	char at[CLOCK_RFC3339_SIZE];
	const struct job_report *r = v->report;
	json_t *o = json_object();
	clock_rfc3339(v->now_s, at);
	json_object_set_new(o, "time", json_string(at));
	json_object_set_new(o, "event", json_string(names[v->state]));
	json_object_set_new(o, "content", jsonout_text(v->content->id));
	json_object_set_new(o, "version", v->content->has_version ?
				    json_integer(v->content->version) : json_null());
	if (r) {
		json_object_set_new(o, "result",
				    json_string(job_result_word(r->result)));
		json_object_set_new(o, "path", jsonout_text_or_null(r->path));
		json_object_set_new(o, "source", source(delivered(r)));
		json_object_set_new(o, "bytes_total",
				    jsonout_number(r->figures.bytes_total));
		json_object_set_new(o, "bytes_received",
				    jsonout_number(r->figures.bytes_received));
		json_object_set_new(o, "duration_ms",
				    json_integer(r->duration_ms));
	}
	json_object_set_new(o, "error", error(v->why));
	char *json = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	return json;
}

/*
 * Opened for each line, since others rotate it; one write at the end of the file,
 * so that two agents do not mix their lines. A link there could make us write into
 * any file of ours, and a pipe could hold us up.
 */
static enum err_code append(const char *path, struct span line, struct err *e)
{
	struct stat st;
	autofd fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW |
			 O_NONBLOCK | O_CLOEXEC, EVENT_MODE);
	if (fd < 0 && errno == ELOOP)
		return err_set(e, ERR_FOLDER, "open %.200s: it is a link", path);
	if (fd < 0)
		return err_set(e, ERR_FOLDER, "open %.200s: %m", path);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return err_set(e, ERR_FOLDER, "open %.200s: it is not a file", path);
	ssize_t n = write(fd, line.at, line.len);
	if (n < 0)
		return err_set(e, ERR_FOLDER, "write to %.200s: %m", path);
	if ((size_t)n == line.len)
		return ERR_OK;
	if (ftruncate(fd, st.st_size) != 0)
		return err_set(e, ERR_FOLDER, "%.200s holds half a line: %m", path);
	return err_set(e, ERR_SPACE_DISK, "write to %.200s: no room for a line",
		       path);
}

static enum err_code write_line(const char *path, const struct event *v,
				struct err *e)
{
	autofree char *json = line_of(v);
	autobuf line = { 0 };
	buf_text(&line, json ? json : "");
	buf_char(&line, '\n');
	if (json == NULL || line.failed)
		return err_set(e, ERR_NOMEM, "no memory for an event");
	return append(path, buf_as_span(&line), e);
}

/* --- a record for the management point ------------------------------------ */

/* Plain words: "verified from dp01.example.net: 123 bytes in 4 s". */
static void describe(const struct event *v, char *out, size_t size)
{
	const struct job_attempt *a = delivered(v->report);
	if (v->why)
		snprintf(out, size, "%s: %s", err_name(v->why->code), v->why->text);
	else if (v->report && v->state == OUTBOX_ARRIVED)
		snprintf(out, size, "%s%s%s: %" PRIu64 " bytes in %" PRId64 " ms",
			 job_result_word(v->report->result), a ? " from " : "",
			 a ? a->host : "", v->report->figures.bytes_total,
			 v->report->duration_ms);
	else
		snprintf(out, size, "%s", names[v->state]);
}

static enum err_code add_record(struct record *r, const struct event *v,
				struct err *e)
{
	struct outbox_item item = { .at_s = v->now_s, .state = v->state };
	content_name(v->content, item.topic);
	describe(v, item.details, sizeof(item.details));
	autofree char *clean = log_clean(item.details);
	if (clean)
		snprintf(item.details, sizeof(item.details), "%s", clean);
	return outbox_add(r, &item, e);
}

bool events_are_sent(const struct settings *s)
{
	return s->state_messages == 1 ||
	       (s->state_messages == 2 && s->policy_source &&
		strcmp(s->policy_source, "mp") == 0);
}

void events_tell(const struct settings *s, struct record *r,
		 enum outbox_state state, const struct content *content,
		 const struct job_report *report, const struct err *why,
		 int64_t now_s)
{
	struct event v = { state, content, report,
			   why && why->code != ERR_OK ? why : NULL, now_s };
	struct err e = { 0 };
	if (s->events_file && s->events_file[0] &&
	    write_line(s->events_file, &v, &e) != ERR_OK)
		log_warning(COMPONENT, "an event is not written: %s", e.text);
	if (r && events_are_sent(s) && add_record(r, &v, &e) != ERR_OK)
		log_warning(COMPONENT, "a state message is lost: %s", e.text);
}

/* --- sending -------------------------------------------------------------- */

static enum err_code send_all(const struct settings *s, struct record *r,
			      struct worker *w, unsigned *sent, struct err *e)
{
	struct outbox_item item;
	while (outbox_first(r, &item)) {
		enum err_code rc = site_relay(w, s, &item, e);
		if (rc == ERR_OK)
			rc = outbox_remove(r, item.id, e);
		if (rc != ERR_OK)
			return rc;
		(*sent)++;
	}
	return ERR_OK;
}

enum err_code events_send(const struct settings *s, struct record *r,
			  struct err *e)
{
	uint64_t waiting = 0, lost = 0;
	unsigned sent = 0;
	outbox_count(r, &waiting, &lost);
	if (waiting == 0 || !events_are_sent(s))
		return ERR_OK;
	autofree char *id = record_client_id(s->state_directory, s->client_id, e);
	if (id == NULL)
		return e ? e->code : ERR_FOLDER;
	struct worker_options o = { .settings = s, .client_id = id };
	struct worker *w = worker_start(&o, e);
	if (w == NULL)
		return e ? e->code : ERR_INTERNAL;
	enum err_code rc = send_all(s, r, w, &sent, e);
	worker_stop(w);
	if (sent)
		log_info(COMPONENT, "%u of %" PRIu64 " state messages taken by the "
			 "management point", sent, waiting);
	return rc;
}
