#include "policy/content.h"

#include "common/relpath.h"
#include "policy/value.h"

#include <inttypes.h>
#include <stdio.h>

#define GUID_LEN 36

static bool is_guid(struct span s)
{
	if (s.len != GUID_LEN)
		return false;
	for (size_t i = 0; i < GUID_LEN; i++) {
		bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;
		if (is_dash ? s.at[i] != '-'
			    : !s.at[i] || !strchr("0123456789abcdefABCDEF", s.at[i]))
			return false;
	}
	return true;
}

/* Split "ID.DIGITS"; *version is empty where no digits end the text. */
static struct span split_version(struct span text, struct span *version)
{
	size_t at = text.len;
	while (at && text.at[at - 1] >= '0' && text.at[at - 1] <= '9')
		at--;
	*version = (struct span){ text.at + at, 0 };
	if (at == text.len || at == 0 || text.at[at - 1] != '.')
		return text;
	version->len = text.len - at;
	return (struct span){ text.at, at - 1 };
}

static enum err_code parse_version(struct span text, uint32_t *out,
				   struct err *e)
{
	uint64_t n;
	if (!value_number(text, &n) || n == 0 || n > UINT32_MAX ||
	    text.at[0] == '0')
		return err_set(e, ERR_USAGE,
			       "version %.*s must be a number from 1 to "
			       "4294967295 without leading zeros",
			       (int)(text.len > 40 ? 40 : text.len), text.at);
	*out = (uint32_t)n;
	return ERR_OK;
}

enum err_code content_parse(const char *text, struct content *out,
			    struct err *e)
{
	struct content c = { 0 };
	struct span version, id = split_version(span_of(text), &version);
	enum err_code rc;
	if (version.len && (rc = parse_version(version, &c.version, e)) != ERR_OK)
		return err_prefix(e, "content %.150s", text);
	c.has_version = version.len > 0;
	/* One spelling for the cache and for comparing: GUIDs without braces. */
	if (id.len == GUID_LEN + 2 && id.at[0] == '{' && id.at[id.len - 1] == '}' &&
	    is_guid((struct span){ id.at + 1, GUID_LEN }))
		id = (struct span){ id.at + 1, GUID_LEN };
	struct err why = { 0 };
	if (id.len > CONTENT_ID_MAX || relpath_check_id(id, &why) != ERR_OK)
		return err_set(e, ERR_USAGE,
			       "content %.150s: an id is 1 to %d letters, digits, "
			       "'_', '-', '.' or braces (ABC00042, Content_GUID, "
			       "GUID)%s%s", text, CONTENT_ID_MAX,
			       why.text[0] ? ": " : "", why.text);
	if (id.at[id.len - 1] == '.')
		return err_set(e, ERR_USAGE,
			       "content %.150s: no version after the last dot", text);
	memcpy(c.id, id.at, id.len);
	*out = c;
	return ERR_OK;
}

void content_name(const struct content *c, char out[CONTENT_NAME_SIZE])
{
	if (c->has_version)
		snprintf(out, CONTENT_NAME_SIZE, "%s.%" PRIu32, c->id, c->version);
	else
		snprintf(out, CONTENT_NAME_SIZE, "%s", c->id);
}

bool content_same(const struct content *a, const struct content *b)
{
	return strcasecmp(a->id, b->id) == 0 && a->has_version == b->has_version &&
	       a->version == b->version;
}

void content_request_id(const char *id, char out[CONTENT_NAME_SIZE],
			const char **location_type)
{
	bool is_update = is_guid(span_of(id)) ||
			 strncasecmp(id, "Content_", strlen("Content_")) == 0;
	*location_type = is_update ? "SMSUpdate" : "SMSPackage";
	snprintf(out, CONTENT_NAME_SIZE, "%s%s", is_update ? "UID:" : "", id);
}
