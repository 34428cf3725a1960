#include "agent/net/loclist.h"

#include "agent/net/head.h"
#include "common/url.h"
#include "common/xml.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define TOKEN_MAX 16384    /* bytes: what the keeper takes (agent/wire.h) */
#define GROUPS_MAX 8192    /* bytes of lines: the same */
#define GROUP_WORD_MAX 64
#define MPLIST_MAX 32      /* management points of one list */
#define ALGORITHM_SHA256 32780 /* CryptoAPI, docs/wire.md 4.5 */

/* --- elements: docs/wire.md 4.1 ------------------------------------------ */

/* What an element is, by its name and by what its parent is. */
enum node {
	OTHER, /* not known: passed over with everything in it */
	DOCUMENT,
	REPLY, GROUPS, GROUP, CACHES, CACHE, INFO, HASHES, HASH, SITES, SITE,
	MPSITE, RECORDS, RECORD, URL, CAPABILITIES, PROPERTY, VERSION, SERVER,
	DP_TYPE, LOCALITY, TOKEN,
	MPLIST, MP, MP_CAPABILITIES, MP_PROPERTY,
};

struct parse {
	const struct rule *rules;
	const char *what;
	enum node path[XML_MAX_DEPTH + 1]; /* of the open elements, by depth */
	/* of a location reply */
	struct loclist *list;
	size_t urls;                  /* seen so far, repeated ones too */
	uint32_t sums[LOCLIST_MAX];   /* of the items' URLs, for comparing */
	size_t site_first;            /* the site's first item */
	size_t record_first;          /* the record's first item */
	struct loclist_item record;   /* what its items have in common */
	char *site_locality;          /* owned; NULL = not yet known */
	uint64_t preference;          /* of the hash kept */
	/* of an MPLIST */
	struct buf *points;
	unsigned count;
	char point[URL_HOST_MAX + 1];
	uint64_t point_ssl_state;
};

typedef enum err_code on_item(struct parse *p, const struct xml_item *item,
			      struct err *e);

struct rule {
	enum node parent;
	const char *name; /* "*Token": every name that ends so */
	enum node node;
	on_item *open, *close; /* NULL = nothing to do */
};

static enum err_code no_memory(const struct parse *p, struct err *e)
{
	return err_set(e, ERR_NOMEM, "%s: no memory", p->what);
}

/* An attribute, trimmed; empty where absent. */
static struct span value_of(const struct xml_item *item, const char *name)
{
	const char *value = xml_attribute(item, name);
	return value ? span_trim(span_of(value)) : (struct span){ "", 0 };
}

static bool ends_in_token(const char *name)
{
	size_t n = strlen(name);
	return n >= 5 && strcmp(name + n - 5, "Token") == 0;
}

static enum err_code keep(struct parse *p, char **field, struct span text,
			  struct err *e)
{
	free(*field);
	*field = strndup(text.at, text.len);
	return *field ? ERR_OK : no_memory(p, e);
}

/* A decimal number; 0 for whatever is none, or is greater than max. */
static uint64_t number(struct span text, uint64_t max)
{
	uint64_t n;
	return head_parse_number(text, &n) && n <= max ? n : 0;
}

/* --- hashes: docs/wire.md 4.5 -------------------------------------------- */

static bool is_hex(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!isxdigit((unsigned char)s.at[i]))
			return false;
	return s.len > 0;
}

/* The highest preference wins; of equal ones the first. */
static void offer_hash(struct parse *p, struct span hex, struct span algorithm,
		       struct span preference)
{
	char *out = p->list->hash;
	size_t size = sizeof(p->list->hash);
	uint64_t alg = number(algorithm, UINT32_MAX);
	uint64_t pref = number(preference, UINT32_MAX);
	if (!is_hex(hex) || hex.len > 128 || (out[0] && pref <= p->preference))
		return;
	p->preference = pref;
	if (alg == ALGORITHM_SHA256 && hex.len == 64) {
		snprintf(out, size, "sha256:%.*s", SPAN_ARG(hex));
		for (; *out; out++)
			*out = (char)tolower((unsigned char)*out);
	} else {
		snprintf(out, size, "%" PRIu64 ":%" PRIu64 ":%.*s", pref, alg,
			 SPAN_ARG(hex));
	}
}

static enum err_code open_reply(struct parse *p, const struct xml_item *item,
				struct err *e)
{
	(void)e;
	p->list->content_flags = number(value_of(item, "ContentFlags"), UINT64_MAX);
	offer_hash(p, value_of(item, "Hash"), value_of(item, "HashAlgorithm"),
		   value_of(item, "AlgorithmPreference"));
	return ERR_OK;
}

static enum err_code open_hash(struct parse *p, const struct xml_item *item,
			       struct err *e)
{
	(void)e;
	offer_hash(p, value_of(item, "HashString"), value_of(item, "Algorithm"),
		   value_of(item, "HashPreference"));
	return ERR_OK;
}

/* --- boundary groups: docs/wire.md 3.5 ----------------------------------- */

/* They come back to us by way of the keeper, line by line and word by word: one
 * that would not fit that form is left out. */
static bool is_word(struct span s, const char *marks)
{
	if (s.len == 0 || s.len > GROUP_WORD_MAX)
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!isalnum((unsigned char)s.at[i]) &&
		    (!s.at[i] || !strchr(marks, s.at[i])))
			return false;
	return true;
}

static enum err_code add_line(struct parse *p, const char *line, struct err *e)
{
	struct buf *out = &p->list->boundary_groups;
	if (out->len + strlen(line) + 1 > GROUPS_MAX)
		return ERR_OK; /* whole lines only */
	buf_text(out, line);
	buf_char(out, '\n');
	return out->failed ? no_memory(p, e) : ERR_OK;
}

static enum err_code open_groups(struct parse *p, const struct xml_item *item,
				 struct err *e)
{
	struct span time = value_of(item, "BoundaryGroupListRetrieveTime");
	char line[GROUP_WORD_MAX + 16];
	if (!is_word(time, "-:.+"))
		return ERR_OK;
	snprintf(line, sizeof(line), "TIME %.*s", SPAN_ARG(time));
	return add_line(p, line, e);
}

static enum err_code open_group(struct parse *p, const struct xml_item *item,
				struct err *e)
{
	struct span id = value_of(item, "GroupID"), guid = value_of(item, "GroupGUID");
	struct span flag = value_of(item, "GroupFlag");
	char line[3 * GROUP_WORD_MAX + 16];
	uint64_t n;
	if (!head_parse_number(id, &n) || !is_word(guid, "-{}"))
		return ERR_OK;
	if (!head_parse_number(flag, &n))
		flag = SPAN_LIT("0"); /* optional in a reply */
	snprintf(line, sizeof(line), "GROUP %.*s %.*s %.*s", SPAN_ARG(id),
		 SPAN_ARG(guid), SPAN_ARG(flag));
	return add_line(p, line, e);
}

static enum err_code open_cache(struct parse *p, const struct xml_item *item,
				struct err *e)
{
	struct span host = value_of(item, "DOINCServer");
	char line[URL_HOST_MAX + 16];
	if (!url_is_hostname(host) && !url_is_ip(host))
		return ERR_OK;
	snprintf(line, sizeof(line), "DOINC %.*s", SPAN_ARG(host));
	return add_line(p, line, e);
}

/* --- records: docs/wire.md 4.1, 4.2 -------------------------------------- */

static void free_item(struct loclist_item *i)
{
	free(i->url);
	free(i->signature);
	free(i->locality);
	free(i->site_locality);
	free(i->dp_type);
	free(i->version);
	free(i->server);
	free(i->token);
	*i = (struct loclist_item){ 0 };
}

static enum err_code open_mpsite(struct parse *p, const struct xml_item *item,
				 struct err *e)
{
	return keep(p, &p->site_locality, value_of(item, "SiteLocality"), e);
}

static enum err_code open_site(struct parse *p, const struct xml_item *item,
			       struct err *e)
{
	(void)item, (void)e;
	p->site_first = p->list->count;
	free(p->site_locality);
	p->site_locality = NULL;
	return ERR_OK;
}

/* Only now: MPSITE may stand behind the records. */
static enum err_code close_site(struct parse *p, const struct xml_item *item,
				struct err *e)
{
	(void)item;
	struct span locality = span_of(p->site_locality ? p->site_locality : "");
	enum err_code rc = ERR_OK;
	for (size_t i = p->site_first; i < p->list->count && rc == ERR_OK; i++)
		rc = keep(p, &p->list->items[i].site_locality, locality, e);
	return rc;
}

/*
 * docs/wire.md 6.2, U1, U2: where the access token stands is not known. A flag
 * of such a name is none. It will be a header value, so that control characters
 * in it are an attack, or a form of which nobody has told us.
 */
static enum err_code offer_token(struct parse *p, struct span text, struct err *e)
{
	static const char *const flags[] = { "0", "1", "true", "false" };
	if (text.len == 0 || p->record.token)
		return ERR_OK;
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (span_is_nocase(text, flags[i]))
			return ERR_OK;
	if (text.len > TOKEN_MAX)
		return err_set(e, ERR_MP_REPLY, "%s: a token of more than %d bytes",
			       p->what, TOKEN_MAX);
	for (size_t i = 0; i < text.len; i++)
		if ((unsigned char)text.at[i] < 0x20 ||
		    (unsigned char)text.at[i] > 0x7e)
			return err_set(e, ERR_MP_REPLY, "%s: a token holds the byte "
				       "0x%02x", p->what, (unsigned char)text.at[i]);
	return keep(p, &p->record.token, text, e);
}

static enum err_code open_record(struct parse *p, const struct xml_item *item,
				 struct err *e)
{
	free_item(&p->record);
	p->record_first = p->list->count;
	enum err_code rc = ERR_OK;
	const char *const *a = item->attributes;
	for (; a[0] && rc == ERR_OK; a += 2)
		if (ends_in_token(a[0]))
			rc = offer_token(p, span_trim(span_of(a[1])), e);
	return rc;
}

/* The URLs of a record have everything else in common. */
static enum err_code close_record(struct parse *p, const struct xml_item *item,
				  struct err *e)
{
	(void)item;
	enum err_code rc = ERR_OK;
	for (size_t i = p->record_first; i < p->list->count && rc == ERR_OK; i++) {
		struct loclist_item *to = &p->list->items[i];
		const struct {
			char **to;
			const char *from;
		} texts[] = {
			{ &to->locality, p->record.locality },
			{ &to->dp_type, p->record.dp_type },
			{ &to->version, p->record.version },
			{ &to->server, p->record.server },
			{ &to->token, p->record.token },
		};
		to->ssl_state = p->record.ssl_state;
		to->auth_method = p->record.auth_method;
		for (size_t t = 0; t < 5 && rc == ERR_OK; t++)
			rc = keep(p, texts[t].to,
				  span_of(texts[t].from ? texts[t].from : ""), e);
	}
	return rc;
}

/* FNV-1a: a list of long and similar URLs is compared in no time. */
static uint32_t sum(struct span s)
{
	uint32_t n = 2166136261u;
	for (size_t i = 0; i < s.len; i++)
		n = (n ^ (unsigned char)s.at[i]) * 16777619u;
	return n;
}

static bool is_known(const struct parse *p, struct span url, uint32_t url_sum)
{
	for (size_t i = 0; i < p->list->count; i++)
		if (p->sums[i] == url_sum && span_is(url, p->list->items[i].url))
			return true;
	return false;
}

static enum err_code make_room(struct parse *p, struct err *e)
{
	struct loclist *l = p->list;
	if (l->count < l->room)
		return ERR_OK;
	size_t room = l->room ? 2 * l->room : 16;
	struct loclist_item *items = realloc(l->items, room * sizeof(*items));
	if (items == NULL)
		return no_memory(p, e);
	l->items = items;
	l->room = room;
	return ERR_OK;
}

static enum err_code open_url(struct parse *p, const struct xml_item *item,
			      struct err *e)
{
	struct span url = value_of(item, "Name");
	uint32_t url_sum = sum(url);
	if (++p->urls > LOCLIST_MAX)
		return err_set(e, ERR_MP_REPLY, "%s: more than %d URLs", p->what,
			       LOCLIST_MAX);
	if (url.len > URL_MAX)
		return err_set(e, ERR_MP_REPLY, "%s: a URL of more than %d bytes",
			       p->what, URL_MAX);
	if (url.len == 0 || is_known(p, url, url_sum))
		return ERR_OK;
	enum err_code rc = make_room(p, e);
	if (rc != ERR_OK)
		return rc;
	p->sums[p->list->count] = url_sum;
	struct loclist_item *i = &p->list->items[p->list->count++];
	*i = (struct loclist_item){ 0 };
	rc = keep(p, &i->url, url, e);
	return rc == ERR_OK ? keep(p, &i->signature, value_of(item, "Signature"), e) :
			      rc;
}

static enum err_code open_property(struct parse *p, const struct xml_item *item,
				   struct err *e)
{
	(void)e;
	struct span name = value_of(item, "Name");
	uint32_t value = (uint32_t)number(value_of(item, "Value"), UINT32_MAX);
	if (span_is(name, "SSLState"))
		p->record.ssl_state = value;
	else if (span_is(name, "AuthMethod"))
		p->record.auth_method = value;
	return ERR_OK;
}

static enum err_code close_version(struct parse *p, const struct xml_item *item,
				   struct err *e)
{
	return keep(p, &p->record.version, item->text, e);
}

static enum err_code close_server(struct parse *p, const struct xml_item *item,
				  struct err *e)
{
	return keep(p, &p->record.server, item->text, e);
}

static enum err_code close_dp_type(struct parse *p, const struct xml_item *item,
				   struct err *e)
{
	return keep(p, &p->record.dp_type, item->text, e);
}

static enum err_code close_locality(struct parse *p, const struct xml_item *item,
				    struct err *e)
{
	return keep(p, &p->record.locality, item->text, e);
}

static enum err_code close_token(struct parse *p, const struct xml_item *item,
				 struct err *e)
{
	return offer_token(p, item->text, e);
}

static const struct rule reply_rules[] = {
	{ DOCUMENT, "ContentLocationReply", REPLY, open_reply, NULL },
	{ REPLY, "BoundaryGroups", GROUPS, open_groups, NULL },
	{ GROUPS, "BoundaryGroup", GROUP, open_group, NULL },
	{ GROUPS, "DOINCServers", CACHES, NULL, NULL },
	{ CACHES, "DOINCServer", CACHE, open_cache, NULL },
	{ REPLY, "ContentInfo", INFO, NULL, NULL },
	{ INFO, "ContentHashValues", HASHES, NULL, NULL },
	{ HASHES, "Hash", HASH, open_hash, NULL },
	{ REPLY, "Sites", SITES, NULL, NULL },
	{ SITES, "Site", SITE, open_site, close_site },
	{ SITE, "MPSite", MPSITE, open_mpsite, NULL },
	{ SITE, "LocationRecords", RECORDS, NULL, NULL },
	{ RECORDS, "LocationRecord", RECORD, open_record, close_record },
	{ RECORD, "URL", URL, open_url, NULL },
	{ RECORD, "Capabilities", CAPABILITIES, NULL, NULL },
	{ CAPABILITIES, "Property", PROPERTY, open_property, NULL },
	{ RECORD, "Version", VERSION, NULL, close_version },
	{ RECORD, "ServerRemoteName", SERVER, NULL, close_server },
	{ RECORD, "DPType", DP_TYPE, NULL, close_dp_type },
	{ RECORD, "Locality", LOCALITY, NULL, close_locality },
	{ RECORD, "*Token", TOKEN, NULL, close_token },
	{ OTHER, NULL, OTHER, NULL, NULL },
};

/* --- MPLIST: docs/wire.md 1.8 -------------------------------------------- */

static enum err_code open_mp(struct parse *p, const struct xml_item *item,
			     struct err *e)
{
	(void)e;
	struct span host = value_of(item, "FQDN");
	if (host.len == 0)
		host = value_of(item, "Name");
	p->point_ssl_state = 0;
	p->point[0] = '\0';
	if (url_is_hostname(host))
		snprintf(p->point, sizeof(p->point), "%.*s", SPAN_ARG(host));
	return ERR_OK;
}

static enum err_code open_mp_property(struct parse *p, const struct xml_item *item,
				      struct err *e)
{
	(void)e;
	if (span_is(value_of(item, "Name"), "SSLState"))
		p->point_ssl_state = number(value_of(item, "Value"), UINT32_MAX);
	return ERR_OK;
}

static enum err_code close_mp(struct parse *p, const struct xml_item *item,
			      struct err *e)
{
	(void)item;
	if (p->point[0] == '\0' || p->count == MPLIST_MAX)
		return ERR_OK; /* only ever added to those that we have */
	p->count++;
	buf_print(p->points, "%s://%s\n", p->point_ssl_state ? "https" : "http",
		  p->point);
	return p->points->failed ? no_memory(p, e) : ERR_OK;
}

static const struct rule mplist_rules[] = {
	{ DOCUMENT, "MPList", MPLIST, NULL, NULL },
	{ MPLIST, "MP", MP, open_mp, close_mp },
	{ MP, "Capabilities", MP_CAPABILITIES, NULL, NULL },
	{ MP_CAPABILITIES, "Property", MP_PROPERTY, open_mp_property, NULL },
	{ OTHER, NULL, OTHER, NULL, NULL },
};

/* --- both ---------------------------------------------------------------- */

static const struct rule *find_rule(const struct rule *r, enum node parent,
				    const char *name)
{
	for (; r->name; r++)
		if (r->parent == parent &&
		    (strcmp(r->name, name) == 0 ||
		     (r->name[0] == '*' && ends_in_token(name))))
			return r;
	return NULL;
}

static enum err_code take(void *arg, const struct xml_item *item, struct err *e)
{
	struct parse *p = arg;
	enum node parent = item->depth == 1 ? DOCUMENT : p->path[item->depth - 1];
	const struct rule *r = find_rule(p->rules, parent, item->name);
	if (item->event == XML_OPEN) {
		p->path[item->depth] = r ? r->node : OTHER;
		if (item->depth == 1 && r == NULL)
			return err_set(e, ERR_MP_REPLY,
				       "%s: it is a <%.64s>, not a <%s>", p->what,
				       item->name, p->rules[0].name);
		return r && r->open ? r->open(p, item, e) : ERR_OK;
	}
	return r && r->close ? r->close(p, item, e) : ERR_OK;
}

/*
 * .NET declares the encoding that a text had once: a reply that net/ccm made
 * UTF-8, or that somebody stored so, still says "utf-16", at which expat stops.
 */
static struct span skip_lie(struct span xml)
{
	static const char begin[] = "<?xml ", wide[] = "utf-16";
	struct span rest = xml;
	if (rest.len > 3 && memcmp(rest.at, "\xef\xbb\xbf", 3) == 0)
		rest.at += 3, rest.len -= 3;
	if (rest.len < strlen(begin) || memcmp(rest.at, begin, strlen(begin)) != 0)
		return xml;
	const char *end = memmem(rest.at, rest.len, "?>", 2);
	for (const char *at = rest.at; end && at + strlen(wide) < end; at++)
		if (strncasecmp(at, wide, strlen(wide)) == 0)
			return (struct span){ end + 2, rest.len -
						       (size_t)(end + 2 - rest.at) };
	return xml;
}

/* A reply ends in a zero character on the wire, and so in what was stored of it. */
static struct span without_zeros(struct span xml)
{
	bool is_wide = xml.len > 1 && (xml.at[0] == 0 || xml.at[1] == 0 ||
				       (unsigned char)xml.at[0] >= 0xfe);
	size_t unit = is_wide ? 2 : 1;
	while (xml.len > unit && memcmp(xml.at + xml.len - unit, "\0\0", unit) == 0)
		xml.len -= unit;
	return xml;
}

void loclist_free(struct loclist *l)
{
	if (l == NULL)
		return;
	for (size_t i = 0; i < l->count; i++)
		free_item(&l->items[i]);
	free(l->items);
	buf_free(&l->boundary_groups);
	*l = (struct loclist){ 0 };
}

enum err_code loclist_parse(struct span xml, const char *what,
			    struct loclist *out, struct err *e)
{
	struct parse p = { .rules = reply_rules, .what = what, .list = out };
	*out = (struct loclist){ .boundary_groups.max = GROUPS_MAX };
	enum err_code rc = xml_parse(skip_lie(without_zeros(xml)), what,
				     ERR_MP_REPLY, take, &p, e);
	free_item(&p.record);
	free(p.site_locality);
	if (rc != ERR_OK)
		loclist_free(out);
	return rc;
}

enum err_code loclist_parse_mplist(struct span xml, const char *what,
				   struct buf *out, struct err *e)
{
	struct parse p = { .rules = mplist_rules, .what = what, .points = out };
	return xml_parse(skip_lie(xml), what, ERR_MP_REPLY, take, &p, e);
}
