#ifndef POLICY_SETTINGS_H
#define POLICY_SETTINGS_H

#include "common/buf.h"
#include "common/err.h"
#include "policy/schema.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum settings_background {
	SETTINGS_BACKGROUND_NO,
	SETTINGS_BACKGROUND_YES,
	SETTINGS_BACKGROUND_AUTO, /* jobs of the service, before their deadline */
};

/*
 * agent.conf(5). The meaning, default and range of every key stand in the
 * table of policy/settings.c, from which --check-config and the man page come.
 */
struct settings {
	/* [site] */
	char *site_code;
	struct settings_list management_points;
	char *forest, *domain, *ad_site;
	bool compression; /* zlib in requests to the management point */
	/* [client] */
	char *client_id, *certificate, *key, *token_file, *token_header;
	/* [policy] */
	char *policy_source;
	int64_t poll_interval_ms;
	char *policy_signer;
	char *policy_local; /* folder read beside a source on the network */
	/* [schedule] */
	struct settings_list windows; /* texts for policy/window */
	/* [hooks] */
	char *hooks_on_content; /* folder; "" = none */
	int64_t hooks_timeout_ms;
	/* [report] */
	uint64_t state_messages; /* 0 no, 1 yes, 2 auto: where policy is the site's */
	char *events_file;  /* JSON lines; "" = none */
	char *metrics_file; /* OpenMetrics; "" = none */
	/* [cloud] */
	bool cloud_allow, cloud_public_only;
	struct settings_list cloud_suffixes;
	/* [dns] */
	struct settings_list dns_servers;
	int64_t dns_timeout_ms;
	uint64_t dns_tries, max_hops;
	/* [tls] */
	char *ca_file;
	uint64_t tls_minimum; /* 12, 13 */
	bool tls_strict;
	uint64_t revocation; /* 0 off, 1 leaf, 2 chain */
	char *crl_file;
	/* [proxy] */
	char *proxy_url;
	struct settings_list proxy_bypass;
	/* [transfer] */
	uint64_t connections, rate_limit, attempts;
	int64_t connect_timeout_ms, stall_timeout_ms;
	int64_t deadline_ms;      /* whole download; 0 = none */
	uint64_t minimum_rate;    /* bytes/s averaged over a source; 0 = none */
	uint64_t rate_limit_on_prem, rate_limit_cloud; /* beside rate_limit */
	struct settings_list rate_schedule; /* texts for policy/rate */
	uint64_t background;      /* enum settings_background */
	/* [cache] */
	char *cache_directory;
	uint64_t cache_size, min_free;
	/* [state] */
	char *state_directory;
	/* [log] */
	char *log_directory; /* "" = no files */
	uint64_t log_level;  /* enum log_level */
	/* [control] */
	char *control_socket;

	/* Where each value came from: "default", "--set", "environment" or
	 * "FILE:LINE"; rows of the table in order. A list that was given has
	 * one line a value. */
	char **origins;
	size_t origin_count;
	/* What the proxy variables said; used where proxy_url is "". */
	char *environment_http_proxy, *environment_https_proxy;
	struct settings_list environment_no_proxy;
};

/* The table of agent.conf: one row a key, in the order of the man page. */
extern const struct schema_row settings_rows[];
extern const size_t settings_row_count;

void settings_free(struct settings *s); /* zero is fine */

/*
 * All problems of one run, each one line "FILE:LINE: what is wrong" (or
 * "--set KEY: ..."), line-separated.
 */
struct settings_input {
	const char *path;       /* agent.conf; NULL = defaults only */
	bool path_must_exist;   /* --config was given */
	char *const *overrides; /* "SECTION.KEY=VALUE", borrowed */
	size_t override_count;
	const char *(*environment)(const char *name); /* NULL = none */
};

/*
 * Read settings: defaults, then the file, then overrides, then the proxy
 * environment (http_proxy, https_proxy, HTTPS_PROXY, all_proxy, ALL_PROXY,
 * no_proxy, NO_PROXY; HTTP_PROXY is ignored as curl does) where the file names
 * no proxy. Unknown section or key, bad value, line too long: problems. The
 * file must be owned by root or us and not writable by group or others.
 *
 * ERR_CONFIG: `problems` says what; everything that could be read is set all
 * the same, so that --check-config can show it. ERR_USAGE: only --set is bad.
 */
enum err_code settings_load(const struct settings_input *in,
			    struct settings *out, struct buf *problems,
			    struct err *e);

/* One line a setting: "section.key = value    ; FILE:LINE". Keys of lists once
 * per value; an unset one as "section.key =    ; default". */
void settings_print(const struct settings *s, struct buf *out);

/* The proxy for a scheme: "" = none. Borrowed from s. */
const char *settings_proxy(const struct settings *s, bool https);
const struct settings_list *settings_no_proxy(const struct settings *s);

#endif
