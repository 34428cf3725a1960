#ifndef POLICY_SOURCE_H
#define POLICY_SOURCE_H

#include "common/err.h"
#include "common/span.h"
#include "common/url.h"

#include <stdbool.h>
#include <stdint.h>

enum source_kind {
	SOURCE_ON_PREM,
	SOURCE_CLOUD,
	SOURCE_PEER,
	SOURCE_INTERNET,
	SOURCE_MICROSOFT_UPDATE,
	SOURCE_UNKNOWN,
};

/* One URL of a location reply, as the management point gave it. */
struct source {
	char *url;           /* owned; verbatim */
	char *locality;      /* owned; "" = none */
	char *site_locality; /* owned */
	char *server;        /* owned; ServerRemoteName */
	char *token;         /* owned; "" = none; secret */
	uint32_t ssl_state, auth_method;
};

struct source_list {
	struct source *items; /* owned */
	size_t count, room;
};

void source_list_free(struct source_list *l); /* zero is fine */
/* Copies every text of `s`. ERR_NOMEM; ERR_LIMIT beyond 10000. */
enum err_code source_list_add(struct source_list *l, const struct source *s,
			      struct err *e);

/*
 * What kind of source a record is: by the URL's path for the cloud
 * ("downloadrestservice.svc", docs/wire.md 4.2), by locality and URL for the
 * others. `u` is the parsed url, or NULL where it does not parse: unknown.
 */
enum source_kind source_kind(const struct source *s, const struct url *u);
const char *source_kind_name(enum source_kind kind); /* "on-prem" */

#endif
