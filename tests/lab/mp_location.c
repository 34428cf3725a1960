#include "mp_location.h"
#include "mp_reply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Cut every LocationRecord that leads to the cloud service; how many. */
static int cut_cloud(struct buf *xml)
{
	static const char first[] = "<LocationRecord", last[] = "</LocationRecord>";
	struct buf out = {0};
	const char *at = buf_text(xml), *start, *stop;
	int n = 0;

	while ((start = strstr(at, first)) && (stop = strstr(start, last))) {
		/* <LocationRecords> begins alike */
		if (start[sizeof first - 1] == 's') {
			buf_add(&out, at, (size_t)(start - at) + sizeof first);
			at = start + sizeof first;
			continue;
		}
		stop += sizeof last - 1;
		buf_add(&out, at, (size_t)(start - at));
		char *record = must_dup(start, (size_t)(stop - start));
		if (strcasestr(record, "downloadrestservice.svc"))
			n++;
		else
			buf_puts(&out, record);
		free(record);
		at = stop;
	}
	buf_puts(&out, at);
	buf_free(xml);
	*xml = out;
	return n;
}

static void empty_reply(const struct mp_request *m, struct buf *out)
{
	const struct element *assigned = xml_child(m->body, "AssignedSite");
	const char *site = xml_attribute(assigned, "SiteCode");

	buf_puts(out, "<ContentLocationReply SchemaVersion=\"1.00\" BGRVersion=\"1\">"
		"<ContentInfo PackageFlags=\"0\"><ContentHashValues/></ContentInfo>"
		"<Sites><Site><MPSite SiteCode=\"");
	buf_xml(out, site ? site : "");
	buf_puts(out, "\" MasterSiteCode=\"");
	buf_xml(out, site ? site : "");
	buf_puts(out, "\" SiteLocality=\"LOCAL\"/><LocationRecords/></Site></Sites>"
		"<RelatedContentIDs/></ContentLocationReply>");
}

/* The text of the reply, UTF-8. */
static void compose_location(const struct mp_request *m, struct request *q,
	struct buf *out)
{
	const struct element *package = xml_child(m->body, "Package");
	const char *id = xml_attribute(package, "ID");
	const char *version = xml_attribute(package, "Version");
	const char *azure = xml_attribute(xml_child(m->body, "ClientLocationInfo"),
		"UseAzure");
	char name[256], flat[256];
	bool is_found = false;

	snprintf(flat, sizeof flat, "%s", id);
	for (char *s = flat; *s; s++)
		if (*s == ':')
			*s = '_';
	if (version && version[0] && strlen(version) == strspn(version, "0123456789")
	    && (size_t)snprintf(name, sizeof name, "replies/%s.%s.xml", flat,
			version) < sizeof name)
		is_found = read_file(q->options->dir, name, out);
	if (!is_found && (size_t)snprintf(name, sizeof name, "replies/%s.xml",
			flat) < sizeof name)
		is_found = read_file(q->options->dir, name, out);
	note(q, "reply_file", is_found ? name : NULL);
	if (!is_found)
		empty_reply(m, out);
	if (azure && !strcmp(azure, "0")) {
		char count[16];
		snprintf(count, sizeof count, "%d", cut_cloud(out));
		note_raw(q, "cloud_records_cut", count);
	}
}

void mp_locate(const struct script *s, const struct mp_request *m, struct request *q,
	struct reply *r)
{
	struct buf text = {0};

	if (!mp_request_check_location(m, q, r))
		return;
	const char *internet = xml_attribute(xml_child(m->body, "ClientLocationInfo"),
		"UseInternetDP");
	if (m->is_gateway && (!internet || strcmp(internet, "1")))
		violation(q, "through a gateway without UseInternetDP=\"1\"");
	compose_location(m, q, &text);
	mp_reply(s, m, q, r, &text);
	buf_free(&text);
}
