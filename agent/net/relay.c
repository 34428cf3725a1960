#include "agent/net/relay.h"

#include "agent/net/locreq.h"
#include "agent/net/polreq.h"
#include "common/clock.h"
#include "common/utf8.h"

#include <stdio.h>

#define CIM_SIZE 32

/* "2026-11-22T10:00:00Z" -> "20261122100000.000000+000" */
static enum err_code cim_time(struct span time, char out[CIM_SIZE], struct err *e)
{
	char text[CLOCK_RFC3339_SIZE], digits[CLOCK_RFC3339_SIZE];
	int64_t at_s;
	size_t n = 0;
	snprintf(text, sizeof(text), "%.*s", SPAN_ARG(time));
	if (clock_parse_rfc3339(text, &at_s) != 0)
		return err_set(e, ERR_INTERNAL, "state message: \"%s\" is no time",
			       text);
	clock_rfc3339(at_s, text); /* UTC, whatever it was */
	for (const char *p = text; *p; p++)
		if (*p >= '0' && *p <= '9')
			digits[n++] = *p;
	digits[n] = '\0';
	snprintf(out, CIM_SIZE, "%.14s.000000+000", digits);
	return ERR_OK;
}

/* What CDATA cannot hold: other characters than XML's, and its own end. */
static void add_cdata(struct buf *out, struct span text)
{
	buf_text(out, "<![CDATA[");
	while (text.len) {
		uint32_t p = 0;
		size_t n = utf8_first(text, &p);
		bool is_end = text.len >= 3 && memcmp(text.at, "]]>", 3) == 0;
		if (is_end)
			buf_text(out, "]]]]><![CDATA[>");
		else if (n == 0 || p == 0xfffe || p == 0xffff ||
			 (p < 0x20 && p != '\t' && p != '\n'))
			buf_char(out, '?');
		else
			buf_add(out, text.at, n);
		n = is_end ? 3 : n ? n : 1;
		text.at += n;
		text.len -= n;
	}
	buf_text(out, "]]>");
}

static void add_header(const struct wire_relay *m, struct span host_name,
		       const char *time, struct buf *out)
{
	buf_text(out, "<ReportHeader><Identification><Machine>"
		      "<ClientInstalled>1</ClientInstalled>"
		      "<ClientType>1</ClientType><ClientID>");
	locreq_escape(m->smsid, out);
	buf_text(out, "</ClientID><ClientVersion>" POLREQ_VERSION "</ClientVersion>"
		      "<NetBIOSName>");
	locreq_escape(polreq_short_name(host_name), out);
	buf_print(out, "</NetBIOSName></Machine></Identification><ReportDetails>"
		       "<ReportContent>State Message Data</ReportContent>"
		       "<ReportType>Full</ReportType><Date>%s</Date>"
		       "<Version>1.0</Version><Format>1.0</Format></ReportDetails>"
		       "</ReportHeader>", time);
}

enum err_code relay_print(const struct wire_relay *m, struct span host_name,
			  struct buf *out, struct err *e)
{
	char time[CIM_SIZE];
	if (cim_time(m->time, time, e) != ERR_OK)
		return e->code;
	buf_text(out, "<Report>");
	add_header(m, host_name, time, out);
	buf_print(out, "<ReportBody><StateMessage MessageTime=\"%s\"><Topic ID=\"",
		  time);
	locreq_escape(m->topic, out);
	buf_print(out, "\" Type=\"%u\" IDType=\"3\" User=\"\" UserSID=\"\"/>"
		       "<State ID=\"%u\" Criticality=\"0\"/><StateDetails Type=\"1\">",
		  (unsigned)m->topic_type, (unsigned)m->state);
	add_cdata(out, m->details);
	buf_text(out, "</StateDetails><UserParameters Flags=\"0\" Count=\"0\"/>"
		      "</StateMessage></ReportBody></Report>");
	return out->failed ? err_set(e, ERR_NOMEM, "state message: no memory") :
			     ERR_OK;
}
