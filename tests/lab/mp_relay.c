#include "mp_relay.h"
#include "mp_reply.h"
#include "mp_rules.h"
#include "mp_signed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void put_attribute(struct buf *line, const char *name, const struct element *e,
	const char *attribute)
{
	buf_printf(line, ",\"%s\":", name);
	buf_json(line, xml_attribute(e, attribute));
}

static void put_parameters(struct buf *line, const struct element *box)
{
	int n = 0;

	buf_puts(line, ",\"parameters\":[");
	for (const struct element *e = box ? box->first : NULL; e; e = e->next) {
		buf_puts(line, n++ ? "," : "");
		buf_json(line, xml_text(e));
	}
	buf_puts(line, "]");
}

static void keep(const struct request *q, const struct element *message,
	const char *client, const char *signed_by)
{
	const struct element *topic = xml_child(message, "Topic");
	const struct element *state = xml_child(message, "State");
	struct timespec now;
	struct buf line = {0};

	clock_gettime(CLOCK_REALTIME, &now);
	buf_printf(&line, "{\"time\":%lld.%03ld,\"client\":", (long long)now.tv_sec,
		now.tv_nsec / 1000000);
	buf_json(&line, client);
	buf_puts(&line, ",\"signed_by\":");
	buf_json(&line, signed_by);
	put_attribute(&line, "message_time", message, "MessageTime");
	put_attribute(&line, "serial", message, "SerialNumber");
	put_attribute(&line, "topic", topic, "ID");
	put_attribute(&line, "topic_type", topic, "Type");
	put_attribute(&line, "state", state, "ID");
	put_attribute(&line, "criticality", state, "Criticality");
	buf_puts(&line, ",\"details\":");
	buf_json(&line, xml_text(xml_child(message, "StateDetails")));
	put_parameters(&line, xml_child(message, "UserParameters"));
	buf_puts(&line, "}\n");
	append_line(q->options->dir, "state_messages.jsonl", &line);
	buf_free(&line);
}

/* The header says who, and Count how many parameters there are. */
static void check_report(const struct mp_request *m, struct request *q,
	const char *client, const char *source)
{
	const struct element *e = xml_child(m->body, "ReportBody");

	mp_rules_check(q, m->body, mp_rules_report);
	if (client && source && strcasecmp(client, source))
		violation(q, "ClientID is %s, SourceID %s", client, source);
	for (e = e ? e->first : NULL; e; e = e->next) {
		const struct element *box = xml_child(e, "UserParameters");
		const char *count = xml_attribute(box, "Count");
		uint64_t said, n = 0;
		for (const struct element *p = box ? box->first : NULL; p; p = p->next)
			n++;
		if (count && (!read_number(&count, &said) || said != n))
			violation(q, "UserParameters: Count is not %llu",
				(unsigned long long)n);
	}
}

static void take(const struct mp_request *m, struct request *q, struct reply *r,
	const char *signed_by)
{
	const struct element *machine = xml_child(xml_child(xml_child(m->body,
		"ReportHeader"), "Identification"), "Machine");
	const char *client = xml_text(xml_child(machine, "ClientID"));
	const struct element *e = xml_child(m->body, "ReportBody");
	char count[16];
	int n = 0;

	check_report(m, q, client, xml_text(xml_child(m->msg, "SourceID")));
	for (e = e ? e->first : NULL; e; e = e->next) {
		if (strcmp(e->name, "StateMessage"))
			continue;
		keep(q, e, client, signed_by);
		n++;
	}
	snprintf(count, sizeof count, "%d", n);
	note_raw(q, "state_messages", count);
	r->status = 200;
}

/* Whether a real one wants a signature is not on record: both are taken. */
void mp_relay(const struct script *s, const struct mp_request *m, struct request *q,
	struct reply *r)
{
	struct buf why = {0};
	struct client who;
	enum signed_state state = signed_message(m, q, &who, &why);

	(void)s;
	note(q, "signed_by", state == SIGNED ? who.smsid : NULL);
	if (state == BADLY_SIGNED)
		mp_reply_nothing(q, r, buf_text(&why));
	else if (strcmp(m->body->name, "Report"))
		refuse(q, r, 500, NULL, "MP_RelayEndpoint got %s", m->body->name);
	else
		take(m, q, r, state == SIGNED ? who.smsid : NULL);
	client_free(&who);
	buf_free(&why);
}
