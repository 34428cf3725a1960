#include "agent/net/pollist.h"

#include "agent/net/ccm.h"
#include "agent/net/head.h"
#include "common/own.h"
#include "common/url.h"
#include "common/xml.h"

#include <stdio.h>
#include <stdlib.h>

/* --- registration -------------------------------------------------------- */

static enum err_code on_registered(void *arg, const struct xml_item *item,
				   struct err *e)
{
	char *smsid = arg;
	if (item->event != XML_OPEN || item->depth != 1)
		return ERR_OK;
	const char *value = xml_attribute(item, "SMSID");
	struct span id = span_trim(span_of(value ? value : ""));
	if (id.len == 0 || id.len >= 64)
		return err_set(e, ERR_MP_REPLY, "registration reply: <%.40s> without "
			       "an SMSID", item->name);
	snprintf(smsid, 64, "%.*s", SPAN_ARG(id));
	return ERR_OK;
}

enum err_code pollist_parse_registered(struct span xml, char smsid[64],
				       struct err *e)
{
	smsid[0] = '\0';
	return xml_parse(xml, "registration reply", ERR_MP_REPLY, on_registered,
			 smsid, e);
}

/* --- assignments --------------------------------------------------------- */

void pollist_free(struct pollist *l)
{
	for (size_t i = 0; i < l->count; i++) {
		free(l->items[i].id);
		free(l->items[i].version);
		free(l->items[i].query);
	}
	free(l->items);
	*l = (struct pollist){ 0 };
}

struct list_parse {
	struct pollist *list;
	const char *host;
	unsigned policy_depth; /* of the open Policy; 0 = none */
	bool has_location;
};

static enum err_code no_memory(struct err *e)
{
	return err_set(e, ERR_NOMEM, "policy: no memory");
}

static char *text_of(const struct xml_item *item, const char *name)
{
	const char *value = xml_attribute(item, name);
	struct span text = span_trim(span_of(value ? value : ""));
	return strndup(text.at, text.len < WIRE_NAME ? text.len : WIRE_NAME);
}

static enum err_code open_policy(struct list_parse *p, const struct xml_item *item,
				 struct err *e)
{
	struct pollist *l = p->list;
	if (l->count == POLLIST_MAX)
		return err_set(e, ERR_MP_REPLY, "more than %d policies", POLLIST_MAX);
	if (l->count == l->room) {
		size_t room = l->room ? 2 * l->room : 64;
		struct pollist_item *more = realloc(l->items, room * sizeof(*more));
		if (more == NULL)
			return no_memory(e);
		l->items = more;
		l->room = room;
	}
	const char *flags = xml_attribute(item, "PolicyFlags");
	uint64_t number = 0;
	if (!head_parse_number(span_trim(span_of(flags ? flags : "0")), &number))
		number = 0;
	struct pollist_item *i = &l->items[l->count++];
	*i = (struct pollist_item){ .id = text_of(item, "PolicyID"),
				    .version = text_of(item, "PolicyVersion"),
				    .flags = (uint32_t)number };
	p->policy_depth = item->depth;
	p->has_location = false;
	return i->id && i->version ? ERR_OK : no_memory(e);
}

/* Behind "http://<mp>" or the very host that answers: the rest; else false. */
static bool skip_host(struct span *at, const char *host)
{
	static const char *const schemes[] = { "http://", "https://" };
	for (size_t i = 0; i < 2; i++) {
		if (!span_begins_nocase(*at, schemes[i]))
			continue;
		struct span rest = span_after(*at, strlen(schemes[i]));
		struct span name = { "", 0 };
		span_split(&rest, '/', &name);
		struct span port = name;
		span_split(&port, ':', &name);
		if (!span_is_nocase(name, "<mp>") && !span_is_nocase(name, host))
			return false;
		*at = rest;
		return true;
	}
	return false;
}

/* Nothing in it may be more than a query. */
static bool is_query(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.at[i] <= 0x20 || s.at[i] > 0x7e || strchr("#<>\"\\", s.at[i]))
			return false;
	return s.len > 0 && s.len <= POLLIST_QUERY_MAX;
}

static enum err_code close_location(struct list_parse *p, struct span text,
				    struct err *e)
{
	static const char path[] = "SMS_MP/.sms_pol?";
	struct pollist_item *i = &p->list->items[p->list->count - 1];
	struct span rest = text;
	if (p->has_location || !skip_host(&rest, p->host) ||
	    !span_begins_nocase(rest, path) ||
	    !is_query(span_after(rest, strlen(path))))
		return ERR_OK; /* close_policy() counts it */
	rest = span_after(rest, strlen(path));
	i->query = strndup(rest.at, rest.len);
	p->has_location = true;
	return i->query ? ERR_OK : no_memory(e);
}

/* One without a location that can be used is dropped again. */
static void close_policy(struct list_parse *p, const char *where)
{
	struct pollist *l = p->list;
	p->policy_depth = 0;
	if (p->has_location)
		return;
	struct pollist_item *i = &l->items[--l->count];
	if (l->refused++ == 0)
		snprintf(l->refused_text, sizeof(l->refused_text), "%s%s", i->id,
			 where);
	free(i->id);
	free(i->version);
}

static enum err_code on_assignments(void *arg, const struct xml_item *item,
				    struct err *e)
{
	struct list_parse *p = arg;
	bool is_open = item->event == XML_OPEN;
	if (item->depth == 1 && is_open && strcmp(item->name, "ReplyAssignments") != 0)
		return err_set(e, ERR_MP_REPLY, "policy reply: a document <%.40s>",
			       item->name);
	if (p->policy_depth == 0) {
		if (is_open && item->depth > 1 && strcmp(item->name, "Policy") == 0)
			return open_policy(p, item, e);
		return ERR_OK;
	}
	if (!is_open && item->depth == p->policy_depth + 1 &&
	    strcmp(item->name, "PolicyLocation") == 0)
		return close_location(p, item->text, e);
	if (!is_open && item->depth == p->policy_depth)
		close_policy(p, ": its location is none of this management point");
	return ERR_OK;
}

enum err_code pollist_parse(struct span xml, const char *host, struct pollist *out,
			    struct err *e)
{
	struct list_parse p = { .list = out, .host = host };
	return xml_parse(xml, "policy reply", ERR_MP_REPLY, on_assignments, &p, e);
}

/* --- the body: WMI instances --------------------------------------------- */

enum field {
	PACKAGE, VERSION, HASH, SIZE, HAS_FILES, NAME, ADVERTISEMENT, ACTIVE,
	MANDATORY, FIELDS,
};

/* docs/wire.md 8.3 */
static const char *const field_names[FIELDS] = {
	[PACKAGE] = "PKG_PackageID",
	[VERSION] = "PKG_SourceVersion",
	[HASH] = "PKG_SourceHash",
	[SIZE] = "PKG_ContentSize",
	[HAS_FILES] = "PKG_PSF_ContainsSourceFiles",
	[NAME] = "PKG_Name",
	[ADVERTISEMENT] = "ADV_AdvertisementID",
	[ACTIVE] = "ADV_ActiveTime",
	[MANDATORY] = "ADV_MandatoryAssignments",
};

struct body_parse {
	pollist_found *found;
	void *arg;
	unsigned instance_depth; /* of the open instance that we read; 0 = none */
	enum field field;        /* of the open property; FIELDS = none of ours */
	struct buf values[FIELDS];
	bool has_packed;         /* an element that is zlib in hex is open */
	unsigned packed_depth;
	struct buf packed;       /* its text */
};

static void own_body_parse(struct body_parse *p)
{
	for (size_t i = 0; i < FIELDS; i++)
		buf_free(&p->values[i]);
	buf_free(&p->packed);
}
#define autobodyparse __attribute__((cleanup(own_body_parse))) struct body_parse

static bool is_named(const struct xml_item *item, const char *attribute,
		     const char *value)
{
	const char *has = xml_attribute(item, attribute);
	return has && strcasecmp(has, value) == 0; /* WMI does not mind the case */
}

static void on_open(struct body_parse *p, const struct xml_item *item)
{
	if (strcmp(item->name, "PolicyXML") == 0 &&
	    is_named(item, "Compression", "zlib") && !p->has_packed) {
		p->has_packed = true;
		p->packed_depth = item->depth;
	}
	if (p->instance_depth == 0) {
		if (strcmp(item->name, "instance") == 0 &&
		    is_named(item, "class", "CCM_SoftwareDistribution")) {
			p->instance_depth = item->depth;
			p->field = FIELDS;
			for (size_t i = 0; i < FIELDS; i++)
				buf_clear(&p->values[i]);
		}
		return;
	}
	if (item->depth != p->instance_depth + 1)
		return;
	p->field = FIELDS;
	for (size_t i = 0; i < FIELDS && strcmp(item->name, "property") == 0; i++)
		if (is_named(item, "name", field_names[i]))
			p->field = (enum field)i;
}

static uint64_t number_or(const struct buf *b, uint64_t otherwise)
{
	uint64_t n;
	return head_parse_number(buf_as_span(b), &n) ? n : otherwise;
}

static enum err_code tell(struct body_parse *p, struct err *e)
{
	const struct buf *v = p->values;
	struct span files = buf_as_span(&v[HAS_FILES]);
	struct wire_assignment a = {
		.policy_id = SPAN_LIT(""),
		.policy_version = SPAN_LIT(""),
		.advertisement = buf_as_span(&v[ADVERTISEMENT]),
		.package = buf_as_span(&v[PACKAGE]),
		.version = number_or(&v[VERSION], 0),
		.name = buf_as_span(&v[NAME]),
		.hash = buf_as_span(&v[HASH]),
		.size = number_or(&v[SIZE], WIRE_UNKNOWN),
		.has_files = !span_is_nocase(files, "false") && !span_is(files, "0"),
		.active_time = buf_as_span(&v[ACTIVE]),
		.mandatory = buf_as_span(&v[MANDATORY]),
	};
	for (size_t i = 0; i < FIELDS; i++)
		if (v[i].failed)
			return no_memory(e);
	return p->found(p->arg, &a, e);
}

static enum err_code on_close(struct body_parse *p, const struct xml_item *item,
			      struct err *e)
{
	if (p->has_packed && item->depth == p->packed_depth && p->packed.len == 0)
		buf_span(&p->packed, item->text);
	if (p->instance_depth == 0)
		return ERR_OK;
	if (item->depth == p->instance_depth) {
		p->instance_depth = 0;
		return tell(p, e);
	}
	/* of several values the first one */
	if (item->depth == p->instance_depth + 2 && p->field != FIELDS &&
	    strcmp(item->name, "value") == 0 && p->values[p->field].len == 0)
		buf_span(&p->values[p->field], item->text);
	return ERR_OK;
}

static enum err_code on_body(void *arg, const struct xml_item *item, struct err *e)
{
	struct body_parse *p = arg;
	if (item->event == XML_CLOSE)
		return on_close(p, item, e);
	on_open(p, item);
	return ERR_OK;
}

/* --- the body: what it is wrapped in ------------------------------------- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A text of nothing but hex digits, one byte a character or two, as bytes. */
static bool unhex(struct span text, struct buf *out)
{
	if (text.len >= 2 && memcmp(text.at, "\xff\xfe", 2) == 0)
		text = span_after(text, 2);
	size_t step = text.len >= 2 && text.at[1] == '\0' ? 2 : 1;
	int high = -1;
	for (size_t i = 0; i + step <= text.len; i += step) {
		char c = text.at[i];
		bool is_blank = strchr(" \t\r\n", c) != NULL; /* NUL as well */
		int digit = hex_digit(c);
		if ((step == 2 && text.at[i + 1]) || (digit < 0 && !is_blank))
			return false;
		if (digit < 0)
			continue;
		if (high >= 0)
			buf_char(out, (char)(high << 4 | digit));
		high = high >= 0 ? -1 : digit;
	}
	return high < 0 && out->len > 0 && !out->failed;
}

/* zlib in hex becomes what it was; anything else stays. R2: with the bounds of a
 * reply, and a smaller one of its own. */
static enum err_code unpack(struct span text, struct buf *out, bool *is_packed,
			    struct err *e)
{
	autobuf packed = { .max = POLLIST_BODY_MAX };
	*is_packed = unhex(text, &packed);
	if (!*is_packed)
		return ERR_OK;
	out->max = POLLIST_CLEAR_MAX;
	enum err_code rc = ccm_inflate(buf_as_span(&packed), out, e);
	if (rc == ERR_NOMEM && out->len > POLLIST_CLEAR_MAX / 2)
		rc = err_set(e, ERR_MP_REPLY, "the body becomes more than %u MiB",
			     POLLIST_CLEAR_MAX >> 20);
	return rc;
}

/* Some bodies end in the zero of a C string. */
static struct span without_zeros(struct span text)
{
	while (text.len >= 2 && text.at[text.len - 1] == '\0' &&
	       text.at[text.len - 2] == '\0')
		text.len -= 2;
	return text;
}

static enum err_code read_xml(struct body_parse *p, struct span text, struct err *e)
{
	return xml_parse(without_zeros(text), "policy body", ERR_MP_REPLY, on_body, p,
			 e);
}

static enum err_code read_clear(struct span body, pollist_found *found, void *arg,
				struct err *e)
{
	autobodyparse p = { .found = found, .arg = arg };
	autobodyparse inner = { .found = found, .arg = arg };
	autobuf text = { 0 };
	autobuf second = { 0 };
	bool is_packed = false, is_packed_again = false;
	p.packed.max = POLLIST_CLEAR_MAX;
	enum err_code rc = unpack(body, &text, &is_packed, e);
	if (rc == ERR_OK)
		rc = read_xml(&p, is_packed ? buf_as_span(&text) : body, e);
	if (rc != ERR_OK || !p.has_packed)
		return rc;
	rc = unpack(buf_as_span(&p.packed), &second, &is_packed_again, e);
	if (rc == ERR_OK && !is_packed_again)
		rc = err_set(e, ERR_MP_REPLY, "policy body: <PolicyXML> is not hex");
	/* what it holds is not unpacked a second time */
	return rc == ERR_OK ? read_xml(&inner, buf_as_span(&second), e) : rc;
}

enum err_code pollist_read_body(struct span body, const struct identity *identity,
				pollist_found *found, void *arg, struct err *e)
{
	autobuf clear = { .max = POLLIST_CLEAR_MAX };
	if (!identity_is_sealed(body))
		return read_clear(body, found, arg, e);
	if (identity == NULL)
		return err_set(e, ERR_MP_REPLY, "sealed body: this machine has no key");
	enum err_code rc = identity_open(identity, body, &clear, e);
	return rc == ERR_OK ? read_clear(buf_as_span(&clear), found, arg, e) : rc;
}
