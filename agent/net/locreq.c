#include "agent/net/locreq.h"

#include "agent/net/ccm.h"
#include "common/utf8.h"

/* --- text ---------------------------------------------------------------- */

/* XML 1.0 s2.2: what may stand in a document at all. */
static bool is_character(uint32_t p)
{
	return p == '\t' || p == '\n' || p == '\r' ||
	       (p >= 0x20 && p != 0xfffe && p != 0xffff);
}

void locreq_escape(struct span text, struct buf *out)
{
	while (text.len) {
		uint32_t p = 0;
		size_t n = utf8_first(text, &p);
		if (n == 0 || !is_character(p))
			buf_char(out, '?');
		else if (strchr("&<>\"'\t\n\r", text.at[0]))
			/* by number: a parser would turn a line end into a space */
			buf_print(out, "&#%u;", (unsigned)p);
		else
			buf_add(out, text.at, n);
		n = n ? n : 1;
		text.at += n;
		text.len -= n;
	}
}

static void add(struct buf *out, const char *name, struct span value)
{
	buf_print(out, " %s=\"", name);
	locreq_escape(value, out);
	buf_char(out, '"');
}

/* <element attribute="value"/> */
static void add_element(struct buf *out, const char *element,
			const char *attribute, struct span value)
{
	buf_print(out, "<%s", element);
	add(out, attribute, value);
	buf_text(out, "/>");
}

/* The next word of a line; "" where there is none. */
static struct span word(struct span *line)
{
	struct span w = { "", 0 };
	span_split(line, ' ', &w);
	return w;
}

/* --- the document, in the order of docs/wire.md 3.1 ---------------------- */

/* docs/wire.md 3.2 */
static void add_package(const struct locreq *r, struct buf *out)
{
	buf_text(out, "<Package");
	add(out, "ID", r->request_id);
	buf_print(out, " Version=\"%u\"/>", (unsigned)r->version);
	add_element(out, "AssignedSite", "SiteCode", r->site_code);
}

/* docs/wire.md 3.4: what we can take. */
static void add_flags(const struct locreq *r, struct buf *out)
{
	const struct {
		const char *name;
		bool is_on;
	} flags[] = {
		{ "AllowHTTP", true },
		{ "AllowSMB", false },
		{ "AllowMulticast", false },
		{ "AllowSuperPeer", false },
		{ "AllowWUMU", false },
		{ "UseAzure", r->use_azure },
		{ "UseInternetDP", r->is_internet },
		{ "DPTokenAuth", r->has_token },
		{ "DistributeOnDemand", false },
	};
	add(out, "LocationType", r->location_type);
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		add(out, flags[i].name, span_of(flags[i].is_on ? "1" : "0"));
}

/* IPv4 only: the form of IPv6 in this place is not known (U20). */
static void add_addresses(struct span lines, struct buf *out)
{
	struct span line;
	buf_text(out, "<IPAddresses>");
	while (span_split(&lines, '\n', &line)) {
		if (!span_is(word(&line), "ADDRESS"))
			continue;
		struct span subnet = word(&line), address = word(&line);
		if (!subnet.len || !address.len ||
		    memchr(subnet.at, ':', subnet.len) ||
		    memchr(address.at, ':', address.len))
			continue;
		buf_text(out, "<IPAddress");
		add(out, "SubnetAddress", subnet);
		add(out, "Address", address);
		buf_text(out, "/>");
	}
	buf_text(out, "</IPAddresses>");
}

/* VPN boundaries match by name or description: we have one for both. */
static void add_adapters(struct span lines, struct buf *out)
{
	struct span line;
	buf_text(out, "<Adapters>");
	while (span_split(&lines, '\n', &line)) {
		if (!span_is(word(&line), "ADAPTER"))
			continue;
		struct span name = word(&line), type = word(&line);
		if (!name.len || !type.len)
			continue;
		buf_text(out, "<Adapter");
		add(out, "Name", name);
		add(out, "IfType", type);
		add(out, "PhysicalAddressExists", SPAN_LIT("1"));
		add(out, "DnsSuffix", span_trim(line));
		add(out, "Description", name);
		buf_text(out, "/>");
	}
	buf_text(out, "</Adapters>");
}

/* One line of what the last reply said; cache servers go into *servers. */
static void add_group(struct span line, struct buf *out, struct buf *servers)
{
	struct span kind = word(&line);
	if (span_is(kind, "DOINC")) {
		add_element(servers, "DOINCServer", "DOINCServer", word(&line));
		return;
	}
	if (!span_is(kind, "GROUP"))
		return;
	buf_text(out, "<BoundaryGroup");
	add(out, "GroupID", word(&line));
	add(out, "GroupGUID", word(&line));
	add(out, "GroupFlag", word(&line));
	buf_text(out, "/>");
}

/* docs/wire.md 3.5: a client that had no reply yet leaves the element out. */
static void add_groups(const struct locreq *r, struct buf *out)
{
	struct span lines = r->boundary_groups, line, time = { "", 0 };
	autobuf servers = { .max = out->max };
	while (span_split(&lines, '\n', &line))
		if (span_is(word(&line), "TIME"))
			time = word(&line);
	if (time.len == 0)
		return;
	buf_text(out, "<BoundaryGroups");
	add(out, "BoundaryGroupListRetrieveTime", time);
	add(out, "IsOnVPN", span_of(r->is_on_vpn ? "1" : "0"));
	buf_char(out, '>');
	lines = r->boundary_groups;
	while (span_split(&lines, '\n', &line))
		add_group(line, out, &servers);
	buf_text(out, "<DOINCServers>");
	buf_span(out, buf_as_span(&servers));
	buf_text(out, "</DOINCServers></BoundaryGroups>");
	out->failed |= servers.failed;
}

enum err_code locreq_print(const struct locreq *r, struct buf *out,
			   struct err *e)
{
	buf_print(out, "<ContentLocationRequest SchemaVersion=\"1.00\" "
		       "BGRVersion=\"1\" ClientInOperation=\"PT%uM\" "
		       "ExcludeFileList=\"\">", r->minutes);
	add_package(r, out);
	buf_text(out, "<ClientLocationInfo");
	add_flags(r, out);
	buf_char(out, '>');
	add_element(out, "ADSite", "Name", r->ad_site);
	add_element(out, "Forest", "Name", r->forest);
	add_element(out, "Domain", "Name", r->domain);
	add_addresses(r->interfaces, out);
	add_adapters(r->interfaces, out);
	add_groups(r, out);
	buf_text(out, "</ClientLocationInfo></ContentLocationRequest>");
	return out->failed ? err_set(e, ERR_NOMEM, "location request: no memory") :
			     ERR_OK;
}
