#include "policy/source.h"

#include <stdlib.h>

#define SOURCES_MAX 10000

/* Service of the cloud, docs/wire.md 4.3: the path decides, never the DPType. */
#define CLOUD_SERVICE "downloadrestservice.svc"
#define PEER_FOLDER "SCCM_BranchCache$"
#define PEER_PORT 8003 /* docs/wire.md 4.3 */

static void drop(struct source *s)
{
	free(s->url);
	free(s->locality);
	free(s->site_locality);
	free(s->server);
	if (s->token)
		explicit_bzero(s->token, strlen(s->token));
	free(s->token);
}

void source_list_free(struct source_list *l)
{
	for (size_t i = 0; i < l->count; i++)
		drop(&l->items[i]);
	free(l->items);
	*l = (struct source_list){ 0 };
}

static char *copy(const char *text)
{
	return strdup(text ? text : "");
}

static bool grow(struct source_list *l)
{
	if (l->count < l->room)
		return true;
	size_t room = l->room ? l->room * 2 : 8;
	struct source *items = reallocarray(l->items, room, sizeof(*items));
	if (items == NULL)
		return false;
	l->items = items;
	l->room = room;
	return true;
}

enum err_code source_list_add(struct source_list *l, const struct source *s,
			      struct err *e)
{
	if (l->count >= SOURCES_MAX)
		return err_set(e, ERR_LIMIT, "more than %d locations", SOURCES_MAX);
	struct source c = {
		.url = copy(s->url),
		.locality = copy(s->locality),
		.site_locality = copy(s->site_locality),
		.server = copy(s->server),
		.token = copy(s->token),
		.ssl_state = s->ssl_state,
		.auth_method = s->auth_method,
	};
	if (!c.url || !c.locality || !c.site_locality || !c.server || !c.token ||
	    !grow(l)) {
		drop(&c);
		return err_set(e, ERR_NOMEM, "no memory for a location");
	}
	l->items[l->count++] = c;
	return ERR_OK;
}

static bool ends_with(struct span s, const char *end)
{
	size_t len = strlen(end);
	return s.len >= len &&
	       strncasecmp(s.at + s.len - len, end, len) == 0;
}

/* Has the path this folder? IIS compares without regard to case. */
static bool has_folder(const struct url *u, const char *folder, bool any_prefix)
{
	struct span rest = span_of(u->path), part;
	while (span_split(&rest, '/', &part))
		if (any_prefix ? ends_with(part, folder)
			       : span_is_nocase(part, folder))
			return true;
	return false;
}

enum source_kind source_kind(const struct source *s, const struct url *u)
{
	if (u == NULL)
		return SOURCE_UNKNOWN;
	struct span word = span_of(s->locality ? s->locality : "");
	if (has_folder(u, CLOUD_SERVICE, false))
		return SOURCE_CLOUD;
	if (u->port == PEER_PORT || has_folder(u, PEER_FOLDER, false) ||
	    ends_with(word, "PEER"))
		return SOURCE_PEER;
	if (span_is_nocase(word, "WUMU") ||
	    url_host_within(u->host, "windowsupdate.com"))
		return SOURCE_MICROSOFT_UPDATE;
	if (word.len >= 8 && strncasecmp(word.at, "INTERNET", 8) == 0)
		return SOURCE_INTERNET;
	/* SMS_DP_SMSPKG$, and behind NOCERT_ or CCMTOKENAUTH_. */
	if (has_folder(u, "SMS_DP_SMSPKG$", true) ||
	    has_folder(u, "SMS_DP_SMSPKG%24", true))
		return SOURCE_ON_PREM;
	return SOURCE_UNKNOWN;
}

const char *source_kind_name(enum source_kind kind)
{
	switch (kind) {
	case SOURCE_ON_PREM:
		return "on-prem";
	case SOURCE_CLOUD:
		return "cloud";
	case SOURCE_PEER:
		return "peer";
	case SOURCE_INTERNET:
		return "internet";
	case SOURCE_MICROSOFT_UPDATE:
		return "microsoft-update";
	case SOURCE_UNKNOWN:
		break;
	}
	return "unknown";
}
