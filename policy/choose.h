#ifndef POLICY_CHOOSE_H
#define POLICY_CHOOSE_H

#include "policy/source.h"

/* [sources] cloud = fallback, prefer, never */
enum choose_cloud {
	CHOOSE_CLOUD_FALLBACK,
	CHOOSE_CLOUD_PREFER,
	CHOOSE_CLOUD_NEVER,
};

struct choose_rules {
	bool cloud_allow;               /* [cloud] allow */
	enum choose_cloud cloud;        /* of the deployment */
	const char *from;               /* --from: "on-prem", "cloud", a host; NULL */
	bool has_token;                 /* a token for CCMTOKENAUTH DPs is there */
	/* Measured connect time by source index, ms; NULL or <0 = not measured. */
	const int64_t *connect_ms;
	/* By source index: how many seconds ago its host was found not to have this
	 * content, and not to be well; NULL or <0 = nothing known. */
	const int64_t *absent_s, *ill_s;
};

#define CHOOSE_HOST_SIZE (URL_HOST_MAX + 8)

struct choose_item {
	size_t source;        /* index in the list */
	unsigned rank;        /* 1.. in the order they would be tried */
	enum source_kind kind;
	bool usable;
	bool refused_cloud;   /* refused only because cloud is not allowed */
	char host[CHOOSE_HOST_SIZE]; /* "host" or "host:port" where not default */
	char reason[160];     /* the rule that placed or refused it */
};

struct choose_result {
	struct choose_item *items; /* owned; all sources: usable first, by rank */
	size_t count;
	size_t usable;             /* the first so many may be tried */
};

void choose_free(struct choose_result *r);

/* How a result names the host of that URL. */
void choose_host(const struct url *u, char out[CHOOSE_HOST_SIZE]);

/*
 * Order the sources (docs/wire.md 4.3): locality words by rank (LOCAL, SUBNET,
 * BOUNDARYGROUP, neighbour words, SITE / FALLBACK), unknown words after the
 * known ones, equal ones in the order of the reply; cloud last, or first with
 * `prefer`; several cloud sources by measured connect time. On-premises a host
 * that lately had not the content, or was not well, comes after the others, and
 * still before the cloud; a host that --from names is not held to that. Same
 * input, same output: no clock, no chance.
 *
 * ERR_OK; ERR_NO_LOCATION: the list is empty; ERR_CLOUD_REFUSED: only cloud
 * sources, and rules forbid them; ERR_NOT_USABLE: all refused for other
 * reasons (named). The result is filled in every case but ERR_NOMEM.
 */
enum err_code choose_sources(const struct source_list *list,
			     const struct choose_rules *rules,
			     struct choose_result *out, struct err *e);

#endif
