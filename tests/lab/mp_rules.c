#include "mp_rules.h"

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEX "[0-9A-Fa-f]"
#define GUID HEX "{8}-" HEX "{4}-" HEX "{4}-" HEX "{4}-" HEX "{12}"
#define TIME "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
#define FLAG "[01]"
#define NUMBER "[0-9]{1,10}"
#define GROUPS "ClientLocationInfo/BoundaryGroups"
#define ADAPTER "ClientLocationInfo/Adapters/Adapter"
#define IP "ClientLocationInfo/IPAddresses/IPAddress"
#define OID "1\\.2\\.840\\.113549\\.1\\.1\\.11"
#define MACHINE "ReportHeader/Identification/Machine"
#define DETAILS "ReportHeader/ReportDetails"
#define STATE "ReportBody/StateMessage"
#define CIM_TIME "[0-9]{14}\\.[0-9]{6}[+-][0-9]{3}"
#define ANY ".*"
#define SOME ".+"

/* protocol.md 1.5 */
const struct mp_rule mp_rules_msg[] = {
	{"", NULL, NULL, REQUIRED},
	{"", "SchemaVersion", "1\\.1", REQUIRED},
	{"", "ReplyCompression", "zlib|none", OPTIONAL},
	{"Body", NULL, NULL, REQUIRED},
	{"Body", "Type", "ByteRange", REQUIRED},
	{"Body", "Length", "[1-9][0-9]{0,8}", REQUIRED},
	{"Body", "Offset", "0", REQUIRED},
	{"CorrelationID", "#", "\\{" GUID "\\}|" GUID, REQUIRED},
	{"Hooks", NULL, NULL, REQUIRED},
	{"Hooks/Hook2", "Name", "clientauth", REQUIRED},
	{"Hooks/Hook2/Property", "Name", SOME, REQUIRED},
	{"Hooks/Hook2/Property", "#", ANY, OPTIONAL},
	{"Hooks/Hook3", "Name", "zlib-compress", REQUIRED},
	{"ID", "#", "\\{" GUID "\\}|" GUID, REQUIRED},
	{"Payload", NULL, NULL, REQUIRED},
	{"Payload", "Type", "inline", REQUIRED},
	{"Priority", "#", NUMBER, REQUIRED},
	{"Protocol", "#", "http", REQUIRED},
	{"ReplyCapabilities", NULL, NULL, OPTIONAL},
	{"ReplyCapabilities/AllowRegistrationReset", "#", SOME, OPTIONAL},
	{"ReplyMode", "#", "Sync", REQUIRED},
	{"ReplyTo", "#", "direct:[^:]+:[^:]+", REQUIRED},
	{"ReqVersion", "#", NUMBER, OPTIONAL},
	{"SentTime", "#", TIME "Z", REQUIRED},
	/* who registers has none yet; the other endpoints look for it */
	{"SourceID", "#", "(GUID:" GUID ")?", OPTIONAL},
	{"SourceHost", "#", SOME, REQUIRED},
	{"TargetAddress", "#", "mp:.+|raw:.+", REQUIRED},
	{"TargetEndpoint", "#", SOME, REQUIRED},
	{"TargetHost", "#", SOME, REQUIRED},
	{"Timeout", "#", NUMBER, REQUIRED},
	{0},
};

/* protocol.md 3; DeploymentFlags is absent on purpose: "omit the attribute" */
const struct mp_rule mp_rules_location[] = {
	{"", NULL, NULL, REQUIRED},
	{"", "SchemaVersion", "1\\.00", REQUIRED},
	{"", "BGRVersion", "1", OPTIONAL},
	{"", "ClientInOperation", "PT[0-9]+M", OPTIONAL},
	{"", "ExcludeFileList", ANY, OPTIONAL},
	{"Package", NULL, NULL, REQUIRED},
	{"Package", "ID", "[A-Z0-9]{3}[0-9A-F]{5}|UID:(Content_)?" GUID, REQUIRED},
	{"Package", "Version", NUMBER, REQUIRED},
	{"AssignedSite", NULL, NULL, REQUIRED},
	{"AssignedSite", "SiteCode", "[A-Z0-9]{3}", REQUIRED},
	{"ClientLocationInfo", NULL, NULL, REQUIRED},
	{"ClientLocationInfo", "LocationType", "SMSPackage|SMSPACKAGE|SMSUpdate",
		REQUIRED},
	{"ClientLocationInfo", "DistributeOnDemand", FLAG, OPTIONAL},
	{"ClientLocationInfo", "UseAzure", FLAG, OPTIONAL},
	{"ClientLocationInfo", "AllowWUMU", FLAG, OPTIONAL},
	{"ClientLocationInfo", "UseInternetDP", FLAG, OPTIONAL},
	{"ClientLocationInfo", "AllowHTTP", FLAG, OPTIONAL},
	{"ClientLocationInfo", "AllowSMB", FLAG, OPTIONAL},
	{"ClientLocationInfo", "AllowMulticast", FLAG, OPTIONAL},
	{"ClientLocationInfo", "AllowSuperPeer", FLAG, OPTIONAL},
	{"ClientLocationInfo", "DPTokenAuth", FLAG, OPTIONAL},
	{"ClientLocationInfo", "UseProtected", FLAG, OPTIONAL},
	{"ClientLocationInfo", "AllowCaching", FLAG, OPTIONAL},
	{"ClientLocationInfo", "AllowFileStreaming", FLAG, OPTIONAL},
	{"ClientLocationInfo", "BranchDPFlags", NUMBER, OPTIONAL},
	{"ClientLocationInfo/ADSite", NULL, NULL, REQUIRED},
	{"ClientLocationInfo/ADSite", "Name", ANY, REQUIRED},
	{"ClientLocationInfo/Forest", NULL, NULL, REQUIRED},
	{"ClientLocationInfo/Forest", "Name", ANY, REQUIRED},
	{"ClientLocationInfo/Domain", NULL, NULL, REQUIRED},
	{"ClientLocationInfo/Domain", "Name", ANY, REQUIRED},
	{"ClientLocationInfo/IPAddresses", NULL, NULL, REQUIRED},
	{IP, "SubnetAddress",
		"[0-9.]{7,15}|[0-9A-Fa-f:.]{2,45}", REQUIRED},
	{IP, "Address",
		"[0-9.]{7,15}|[0-9A-Fa-f:.]{2,45}", REQUIRED},
	{"ClientLocationInfo/Adapters", NULL, NULL, OPTIONAL},
	{ADAPTER, "Name", SOME, REQUIRED},
	{ADAPTER, "IfType", NUMBER, REQUIRED},
	{ADAPTER, "PhysicalAddressExists", FLAG, REQUIRED},
	{ADAPTER, "DnsSuffix", ANY, REQUIRED},
	{ADAPTER, "Description", ANY, REQUIRED},
	{GROUPS, "BoundaryGroupListRetrieveTime",
		TIME "(\\.[0-9]+)?", REQUIRED},
	{GROUPS, "IsOnVPN", FLAG, REQUIRED},
	{GROUPS "/BoundaryGroup", "GroupID", NUMBER, REQUIRED},
	{GROUPS "/BoundaryGroup", "GroupGUID", GUID, REQUIRED},
	{GROUPS "/BoundaryGroup", "GroupFlag", NUMBER,
		OPTIONAL},
	{GROUPS "/DOINCServers", NULL, NULL, OPTIONAL},
	{GROUPS "/DOINCServers/DOINCServer", "DOINCServer",
		SOME, REQUIRED},
	{0},
};

/* protocol.md 2.4 */
const struct mp_rule mp_rules_registration[] = {
	{"", NULL, NULL, REQUIRED},
	{"Data", NULL, NULL, REQUIRED},
	{"Data", "HashAlgorithm", OID, REQUIRED},
	{"Data", "SMSID", "(GUID:" GUID ")?", REQUIRED},
	{"Data", "RequestType", "Registration", REQUIRED},
	{"Data", "TimeStamp", TIME "Z", REQUIRED},
	{"Data/AgentInformation", NULL, NULL, REQUIRED},
	{"Data/AgentInformation", "AgentIdentity", SOME, REQUIRED},
	{"Data/AgentInformation", "AgentVersion", "5\\.00\\.[0-9]{4}\\.[0-9]{4}",
		REQUIRED},
	{"Data/AgentInformation", "AgentType", "0", REQUIRED},
	{"Data/Certificates", NULL, NULL, REQUIRED},
	{"Data/Certificates/Encryption", "#", HEX "+", REQUIRED},
	{"Data/Certificates/Encryption", "Encoding", "HexBinary", REQUIRED},
	{"Data/Certificates/Encryption", "KeyType", "1", REQUIRED},
	{"Data/Certificates/Signing", "#", HEX "+", REQUIRED},
	{"Data/Certificates/Signing", "Encoding", "HexBinary", REQUIRED},
	{"Data/Certificates/Signing", "KeyType", "1", REQUIRED},
	{"Data/DiscoveryProperties", NULL, NULL, REQUIRED},
	{"Data/DiscoveryProperties/Property", "Name",
		"Netbios Name|FQ Name|Locale ID|InternetFlag", REQUIRED},
	{"Data/DiscoveryProperties/Property", "Value", ANY, REQUIRED},
	{"Signature", NULL, NULL, REQUIRED},
	{"Signature/SignatureValue", "#", "[0-9A-F]{512}", REQUIRED},
	{0},
};

/* protocol.md 8 */
const struct mp_rule mp_rules_assignments[] = {
	{"", NULL, NULL, REQUIRED},
	{"", "SchemaVersion", "1\\.00", REQUIRED},
	{"", "ACK", "false", REQUIRED},
	{"", "RequestType", "Always", REQUIRED},
	{"", "ValidationRequested", "CRC", OPTIONAL},
	{"Identification", NULL, NULL, REQUIRED},
	{"Identification/Machine", NULL, NULL, REQUIRED},
	{"Identification/Machine/ClientID", "#", "GUID:" GUID, REQUIRED},
	{"Identification/Machine/FQDN", "#", SOME, REQUIRED},
	{"Identification/Machine/NetBIOSName", "#", SOME, REQUIRED},
	{"Identification/Machine/SID", "#", ANY, REQUIRED},
	{"Identification/User", NULL, NULL, REQUIRED},
	{"PolicySource", "#", "SMS:[A-Z0-9]{3}", REQUIRED},
	{"Resource", NULL, NULL, REQUIRED},
	{"Resource", "ResourceType", "Machine", REQUIRED},
	{"ServerCookie", "#", ANY, REQUIRED},
	{0},
};

/*
 * protocol.md 11. What the record leaves out of it (the header, the attributes of
 * StateMessage) is as in Microsoft's published log of a client: SupportArticles-docs
 * "Track the software update deployment process".
 */
const struct mp_rule mp_rules_report[] = {
	{"", NULL, NULL, REQUIRED},
	{"ReportHeader", NULL, NULL, REQUIRED},
	{"ReportHeader/Identification", NULL, NULL, REQUIRED},
	{MACHINE, NULL, NULL, REQUIRED},
	{MACHINE "/ClientInstalled", "#", FLAG, OPTIONAL},
	{MACHINE "/ClientType", "#", NUMBER, OPTIONAL},
	{MACHINE "/Unknown", "#", FLAG, OPTIONAL},
	{MACHINE "/ClientID", "#", "GUID:" GUID, REQUIRED},
	{MACHINE "/ClientID", "IDType", NUMBER, OPTIONAL},
	{MACHINE "/ClientID", "IDFlag", NUMBER, OPTIONAL},
	{MACHINE "/ClientVersion", "#", SOME, OPTIONAL},
	{MACHINE "/NetBIOSName", "#", SOME, REQUIRED},
	{MACHINE "/CodePage", "#", NUMBER, OPTIONAL},
	{MACHINE "/SystemDefaultLCID", "#", NUMBER, OPTIONAL},
	{MACHINE "/Priority", "#", NUMBER, OPTIONAL},
	{"ReportHeader/ReportDetails", NULL, NULL, OPTIONAL},
	{DETAILS "/ReportContent", "#", SOME, OPTIONAL},
	{DETAILS "/ReportType", "#", "Full", OPTIONAL},
	{DETAILS "/Date", "#", CIM_TIME, OPTIONAL},
	{DETAILS "/Version", "#", "1\\.0", OPTIONAL},
	{DETAILS "/Format", "#", "1\\.0", OPTIONAL},
	{"ReportBody", NULL, NULL, REQUIRED},
	{STATE, NULL, NULL, REQUIRED},
	{STATE, "MessageTime", CIM_TIME, REQUIRED},
	{STATE, "SerialNumber", NUMBER, OPTIONAL},
	{STATE "/Topic", NULL, NULL, REQUIRED},
	{STATE "/Topic", "ID", SOME, REQUIRED},
	{STATE "/Topic", "Type", NUMBER, REQUIRED},
	{STATE "/Topic", "IDType", NUMBER, REQUIRED},
	{STATE "/Topic", "User", ANY, REQUIRED},
	{STATE "/Topic", "UserSID", ANY, REQUIRED},
	{STATE "/State", NULL, NULL, REQUIRED},
	{STATE "/State", "ID", NUMBER, REQUIRED},
	{STATE "/State", "Criticality", NUMBER, REQUIRED},
	{STATE "/StateDetails", "#", ANY, OPTIONAL},
	{STATE "/StateDetails", "Type", "1", REQUIRED},
	{STATE "/UserParameters", NULL, NULL, REQUIRED},
	{STATE "/UserParameters", "Flags", NUMBER, REQUIRED},
	{STATE "/UserParameters", "Count", NUMBER, REQUIRED},
	{STATE "/UserParameters/Param", "#", ANY, OPTIONAL},
	{0},
};

static bool matches(const char *pattern, const char *value)
{
	struct buf whole = {0};
	regex_t re;

	buf_printf(&whole, "^(%s)$", pattern);
	if (regcomp(&re, whole.p, REG_EXTENDED | REG_NOSUB))
		abort();
	bool is_match = regexec(&re, value, 0, NULL, 0) == 0;
	regfree(&re);
	buf_free(&whole);
	return is_match;
}

static bool is_rule_for(const struct mp_rule *rule, const char *path, const char *name)
{
	return !strcmp(rule->path, path)
		&& (!name || (rule->name && !strcmp(rule->name, name)));
}

static const struct mp_rule *find(const struct mp_rule *rules, const char *path,
	const char *name)
{
	for (; rules->path; rules++)
		if (is_rule_for(rules, path, name))
			return rules;
	return NULL;
}

static void check_attributes(struct request *q, const struct element *e,
	const char *path, const struct mp_rule *rules)
{
	for (size_t i = 0; i < e->n_attributes; i++) {
		const struct attribute *a = &e->attributes[i];
		const struct mp_rule *rule = find(rules, path, a->name);
		if (!rule)
			violation(q, "%s: unknown attribute %s", e->name, a->name);
		else if (!matches(rule->pattern, a->value))
			violation(q, "%s: %s=\"%s\"", e->name, a->name, a->value);
	}
	for (const struct mp_rule *rule = rules; rule->path; rule++) {
		const char *name = rule->need == REQUIRED ? rule->name : NULL;
		if (is_rule_for(rule, path, NULL) && name && name[0] != '#'
		    && !xml_attribute(e, name))
			violation(q, "%s: no attribute %s", e->name, name);
	}
}

static void check_text(struct request *q, const struct element *e, const char *path,
	const struct mp_rule *rules)
{
	const char *text = buf_text(&e->text);
	const struct mp_rule *rule = find(rules, path, "#");

	if (rule && !matches(rule->pattern, text))
		violation(q, "%s: text \"%s\"", e->name, text);
	if (!rule && text[strspn(text, " \t\r\n")])
		violation(q, "%s: unexpected text \"%s\"", e->name, text);
}

/* Children that must be there have a rule for the element itself or its text. */
static void check_children(struct request *q, const struct element *e,
	const char *path, const struct mp_rule *rules)
{
	size_t n = strlen(path);

	for (const struct mp_rule *rule = rules; rule->path; rule++) {
		const char *child = rule->path;
		if (rule->need != REQUIRED || (rule->name && rule->name[0] != '#'))
			continue;
		if (strncmp(child, path, n) || !child[n] || (n && child[n] != '/'))
			continue;
		child += n + (n > 0);
		if (!strchr(child, '/') && !xml_child(e, child))
			violation(q, "%s: no element %s", e->name, child);
	}
}

void mp_rules_check(struct request *q, const struct element *root,
	const struct mp_rule *rules)
{
	const struct element *e = root;
	struct buf path = {0};

	while (e) {
		bool is_known = find(rules, buf_text(&path), NULL);
		if (!is_known) {
			violation(q, "unknown element %s/%s", root->name, path.p);
		} else {
			check_attributes(q, e, buf_text(&path), rules);
			check_text(q, e, buf_text(&path), rules);
			check_children(q, e, buf_text(&path), rules);
		}
		/* next in document order; nothing below an unknown element */
		const struct element *next = is_known ? e->first : NULL;
		while (!next && e != root) {
			next = e->next;
			char *slash = path.n ? strrchr(path.p, '/') : NULL;
			path.n = slash ? (size_t)(slash - path.p) : 0;
			if (path.p)
				path.p[path.n] = 0;
			if (!next)
				e = e->parent;
		}
		e = next;
		if (e)
			buf_printf(&path, "%s%s", path.n ? "/" : "", e->name);
	}
	buf_free(&path);
}
