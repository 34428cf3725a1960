#include "policy/settings.h"

#include "common/log.h"
#include "common/own.h"
#include "common/url.h"
#include "policy/check.h"
#include "policy/rate.h"
#include "policy/window.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#define SECOND 1000u
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define ANY_SIZE INT64_MAX

static const struct schema_word tls_versions[] = { { "1.2", 12 }, { "1.3", 13 },
						   { NULL, 0 } };
static const struct schema_word profiles[] = { { "strict", 1 },
					       { "standard", 0 }, { NULL, 0 } };
static const struct schema_word revocations[] = { { "off", 0 }, { "leaf", 1 },
						  { "chain", 2 }, { NULL, 0 } };
static const struct schema_word state_messages[] = {
	{ "no", 0 }, { "yes", 1 }, { "auto", 2 }, { NULL, 0 },
};
static const struct schema_word backgrounds[] = {
	{ "no", SETTINGS_BACKGROUND_NO },
	{ "yes", SETTINGS_BACKGROUND_YES },
	{ "auto", SETTINGS_BACKGROUND_AUTO },
	{ NULL, 0 },
};
static const struct schema_word levels[] = {
	{ "error", LOG_ERROR }, { "warning", LOG_WARNING }, { "info", LOG_INFO },
	{ "debug", LOG_DEBUG }, { NULL, 0 },
};

#define ROW(k, sec, name, member) \
	.kind = SCHEMA_##k, .section = sec, .key = name, \
	.offset = offsetof(struct settings, member)

/*
 * Section, key, field; default; range, words or check; what it is. Ranges are
 * those that the wire between keeper and net carries, or narrower.
 */
const struct schema_row settings_rows[] = {
	{ ROW(TEXT, "site", "code", site_code), .check = check_site_code,
	  .what = "code of the assigned site" },
	{ ROW(LIST, "site", "management_point", management_points),
	  .check = check_web, .what = "base URL, tried in order" },
	{ ROW(TEXT, "site", "forest", forest), .check = check_host,
	  .what = "forest, for boundaries by Active Directory" },
	{ ROW(TEXT, "site", "domain", domain), .check = check_host,
	  .what = "domain, for boundaries by Active Directory" },
	{ ROW(TEXT, "site", "ad_site", ad_site), .check = check_label,
	  .what = "Active Directory site, for boundaries" },
	{ ROW(BOOL, "site", "compression", compression), .fallback = "yes",
	  .what = "compress requests to the management point" },

	{ ROW(TEXT, "client", "id", client_id), .check = check_client_id,
	  .what = "id of this client; made once and kept when absent" },
	{ ROW(PATH, "client", "certificate", certificate),
	  .what = "PEM file: client certificate and its chain" },
	{ ROW(PATH, "client", "key", key), .what = "PEM file: its key" },
	{ ROW(PATH, "client", "token_file", token_file),
	  .what = "file with a token for cloud management gateways" },
	{ ROW(TEXT, "client", "token_header", token_header),
	  .fallback = "Authorization: Bearer", .check = check_header,
	  .what = "header that the token is sent in" },

	{ ROW(TEXT, "policy", "source", policy_source),
	  .fallback = "/etc/cloud-dp-agent/policy.d", .check = check_policy_source,
	  .what = "policy file, folder, https URL, or mp = the site" },
	{ ROW(TIME, "policy", "poll_interval", poll_interval_ms),
	  .fallback = "60m", .low = SECOND, .high = 30ull * DAY,
	  .what = "how often the service reads policy" },
	{ ROW(PATH, "policy", "signer", policy_signer),
	  .what = "PEM file: certificates, one of which policy must be signed "
		  "with" },
	{ ROW(PATH, "policy", "local", policy_local),
	  .fallback = "/etc/cloud-dp-agent/policy.d", .may_be_empty = true,
	  .what = "folder that is read beside a source on the network" },

	{ ROW(LIST, "schedule", "window", windows), .check = window_check,
	  .what = "when content may be fetched: Mon-Fri 19:00-06:00; none = "
		  "always" },

	{ ROW(PATH, "hooks", "on_content", hooks_on_content),
	  .may_be_empty = true,
	  .what = "folder of programs that are run when content arrives" },
	{ ROW(TIME, "hooks", "timeout", hooks_timeout_ms), .fallback = "10m",
	  .low = SECOND, .high = DAY, .what = "for one of them" },

	{ ROW(WORD, "report", "state_messages", state_messages),
	  .fallback = "auto", .words = state_messages,
	  .what = "tell the management point; auto: where policy is the "
		  "site's" },
	{ ROW(PATH, "report", "events_file", events_file), .may_be_empty = true,
	  .what = "file that gets a JSON line for each event" },
	{ ROW(PATH, "report", "metrics_file", metrics_file),
	  .may_be_empty = true,
	  .what = "OpenMetrics file for node_exporter's textfile collector" },

	{ ROW(BOOL, "cloud", "allow", cloud_allow), .fallback = "yes",
	  .what = "allow access to cloud distribution points" },
	{ ROW(LIST, "cloud", "suffix", cloud_suffixes), .check = check_host,
	  .what = "names that a cloud alias may lead to; none = any" },
	{ ROW(BOOL, "cloud", "public_only", cloud_public_only), .fallback = "no",
	  .what = "refuse cloud addresses that are not public" },

	{ ROW(LIST, "dns", "server", dns_servers), .check = check_dns_server,
	  .what = "name server; none = those of the system" },
	{ ROW(TIME, "dns", "timeout", dns_timeout_ms), .fallback = "2s",
	  .low = 10, .high = 10 * MINUTE,
	  .what = "for one question to one server" },
	{ ROW(NUMBER, "dns", "tries", dns_tries), .fallback = "3", .low = 1,
	  .high = 100, .what = "rounds over all servers" },
	{ ROW(NUMBER, "dns", "max_hops", max_hops), .fallback = "8", .low = 1,
	  .high = 64, .what = "aliases that are followed" },

	{ ROW(PATH, "tls", "ca_file", ca_file),
	  .what = "PEM file of trusted roots; none = those of the system" },
	{ ROW(WORD, "tls", "minimum", tls_minimum), .fallback = "1.2",
	  .words = tls_versions, .what = "lowest version of TLS" },
	{ ROW(BOOL, "tls", "profile", tls_strict), .fallback = "strict",
	  .words = profiles, .what = "strict: RFC 5280 as written; standard: "
				     "for sloppy internal CAs" },
	{ ROW(WORD, "tls", "revocation", revocation), .fallback = "off",
	  .words = revocations, .what = "certificates that must not be revoked" },
	{ ROW(PATH, "tls", "crl_file", crl_file),
	  .what = "PEM file of revocation lists" },

	{ ROW(TEXT, "proxy", "url", proxy_url), .check = check_proxy,
	  .what = "URL, or none = never; absent = the environment" },
	{ ROW(LIST, "proxy", "bypass", proxy_bypass), .check = check_bypass,
	  .what = "host or suffix that no proxy is used for" },

	{ ROW(NUMBER, "transfer", "connections", connections), .fallback = "8",
	  .low = 1, .high = 64, .what = "to one source at a time" },
	{ ROW(SIZE, "transfer", "rate_limit", rate_limit), .fallback = "0",
	  .high = ANY_SIZE, .what = "bytes a second in all; 0 = none" },
	{ ROW(SIZE, "transfer", "rate_limit_on_prem", rate_limit_on_prem),
	  .fallback = "0", .high = ANY_SIZE,
	  .what = "from distribution points; 0 = none" },
	{ ROW(SIZE, "transfer", "rate_limit_cloud", rate_limit_cloud),
	  .fallback = "0", .high = ANY_SIZE,
	  .what = "from cloud services and storage; 0 = none" },
	{ ROW(LIST, "transfer", "rate_schedule", rate_schedule),
	  .check = rate_check,
	  .what = "other rates by the hour: Mon-Fri 08:00-18:00 200k cloud" },
	{ ROW(WORD, "transfer", "background", background), .fallback = "auto",
	  .words = backgrounds,
	  .what = "yield to other traffic; auto: the service, before the "
		  "deadline" },
	{ ROW(TIME, "transfer", "connect_timeout", connect_timeout_ms),
	  .fallback = "10s", .low = 10, .high = HOUR, .what = "for TCP and TLS" },
	{ ROW(TIME, "transfer", "stall_timeout", stall_timeout_ms),
	  .fallback = "30s", .low = 10, .high = HOUR,
	  .what = "longest silence in a transfer" },
	{ ROW(NUMBER, "transfer", "attempts", attempts), .fallback = "3",
	  .low = 1, .high = 100, .what = "per source, without progress" },
	{ ROW(TIME, "transfer", "deadline", deadline_ms), .fallback = "1d",
	  .high = 365ull * DAY, .what = "for a whole download; 0 = none" },
	{ ROW(SIZE, "transfer", "minimum_rate", minimum_rate), .fallback = "1k",
	  .high = ANY_SIZE,
	  .what = "bytes a second that a source must reach; 0 = none" },

	{ ROW(PATH, "cache", "directory", cache_directory),
	  .fallback = "/var/cache/cloud-dp-agent", .what = "the content cache" },
	{ ROW(SIZE, "cache", "size", cache_size), .fallback = "5G", .low = 1,
	  .high = ANY_SIZE, .what = "the cache never holds more" },
	{ ROW(SIZE, "cache", "min_free", min_free), .fallback = "1G",
	  .high = ANY_SIZE, .what = "kept free on its file system" },

	{ ROW(PATH, "state", "directory", state_directory),
	  .fallback = "/var/lib/cloud-dp-agent", .what = "jobs, history, budgets" },

	{ ROW(PATH, "log", "directory", log_directory),
	  .fallback = "/var/log/cloud-dp-agent", .may_be_empty = true,
	  .what = "logs in CMTrace form; empty = no files" },
	{ ROW(WORD, "log", "level", log_level), .fallback = "info",
	  .words = levels, .what = "how much the logs hold" },

	{ ROW(TEXT, "control", "socket", control_socket),
	  .fallback = "/run/cloud-dp-agent/control.sock", .check = check_socket,
	  .may_be_empty = true, .what = "of the service; empty = none" },
};
#define ROWS (sizeof(settings_rows) / sizeof(settings_rows[0]))
const size_t settings_row_count = ROWS;

/* One load: what is being filled, and whose fault the problems are. */
struct load {
	struct settings *settings;
	struct buf *problems;
	bool set_is_bad, file_is_bad;
};

void settings_free(struct settings *s)
{
	schema_free(settings_rows, ROWS, s);
	for (size_t i = 0; s->origins && i < s->origin_count; i++)
		free(s->origins[i]);
	free(s->origins);
	free(s->environment_http_proxy);
	free(s->environment_https_proxy);
	schema_list_free(&s->environment_no_proxy);
	*s = (struct settings){ 0 };
}

/* ---- origins ---- */

static size_t row_of(const char *section, const char *key)
{
	return schema_find(settings_rows, ROWS, section, key);
}

static enum err_code set_origin(struct settings *s, size_t row, const char *text,
				struct err *e)
{
	char *copy = strdup(text);
	if (copy == NULL)
		return err_set(e, ERR_NOMEM, "no memory for a setting");
	free(s->origins[row]);
	s->origins[row] = copy;
	return ERR_OK;
}

static bool is_default(const struct settings *s, size_t row)
{
	return strcmp(s->origins[row], "default") == 0;
}

/* The value came from `text`; lists keep one line for each value. */
static enum err_code add_origin(struct settings *s, size_t row, const char *text,
				struct err *e)
{
	if (settings_rows[row].kind != SCHEMA_LIST || is_default(s, row))
		return set_origin(s, row, text, e);
	autobuf all = { 0 };
	buf_print(&all, "%s\n%s", s->origins[row], text);
	if (all.failed)
		return err_set(e, ERR_NOMEM, "no memory for a setting");
	return set_origin(s, row, all.at, e);
}

static enum err_code start(struct settings *s, struct err *e)
{
	s->origins = calloc(ROWS, sizeof(*s->origins));
	if (s->origins == NULL)
		return err_set(e, ERR_NOMEM, "no memory for the settings");
	s->origin_count = ROWS;
	enum err_code rc = schema_set_defaults(settings_rows, ROWS, s, e);
	for (size_t i = 0; rc == ERR_OK && i < ROWS; i++)
		rc = set_origin(s, i, "default", e);
	return rc;
}

/* ---- the file ---- */

static enum err_code on_set(struct schema_fill *fill, size_t row,
			    const struct ini_item *item, struct err *e)
{
	autobuf text = { 0 };
	buf_print(&text, "%s:%u", item->path, item->line);
	if (text.failed)
		return err_set(e, ERR_NOMEM, "no memory for a setting");
	return add_origin(fill->base, row, text.at, e);
}

static enum err_code read_file(struct load *l, const struct settings_input *in,
			       struct err *e)
{
	autobuf text = { 0 };
	unsigned lines[ROWS] = { 0 };
	bool is_absent;
	size_t before = l->problems->len;
	enum err_code rc = ini_load(AT_FDCWD, in->path, INI_FILE_MAX, &text,
				    &is_absent, e);
	if (rc == ERR_INPUT && is_absent && !in->path_must_exist)
		return ERR_OK;
	if (rc == ERR_INPUT)
		ini_problem(l->problems, in->path, 0, "%s", e->text);
	else if (rc != ERR_OK)
		return rc;
	struct schema_fill fill = {
		.rows = settings_rows, .count = ROWS, .base = l->settings,
		.lines = lines, .problems = l->problems, .on_set = on_set,
	};
	if (rc == ERR_OK)
		rc = ini_parse_text(buf_as_span(&text), in->path, schema_on_item,
				    &fill, l->problems, e);
	l->file_is_bad |= l->problems->len > before;
	return rc == ERR_INPUT ? ERR_OK : rc;
}

/* ---- --set ---- */

/* One line a problem, whatever the command line holds. */
static void flatten(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ')
			*text = '?';
}

static void bad_set(struct load *l, const char *key, const char *problem)
{
	char path[128], text[640];
	snprintf(path, sizeof(path), "--set %.100s", key);
	snprintf(text, sizeof(text), "%s", problem);
	flatten(path);
	flatten(text);
	l->set_is_bad = true;
	ini_problem(l->problems, path, 0, "%s", text);
}

/* "SECTION.KEY=VALUE": the row, and where the value begins; else a problem. */
static size_t find_set(struct load *l, const char *text, const char **value)
{
	char section[64], key[64], both[64];
	const char *equals = strchr(text, '='), *dot = strchr(text, '.');
	if (equals == NULL || dot == NULL || dot > equals || dot == text ||
	    dot + 1 == equals || equals - text >= (ptrdiff_t)sizeof(key)) {
		bad_set(l, text, "must be SECTION.KEY=VALUE");
		return ROWS;
	}
	snprintf(section, sizeof(section), "%.*s", (int)(dot - text), text);
	snprintf(key, sizeof(key), "%.*s", (int)(equals - dot) - 1, dot + 1);
	*value = equals + 1;
	size_t found = row_of(section, key);
	if (found < ROWS)
		return found;
	bool is_section = false;
	for (size_t i = 0; i < ROWS; i++)
		is_section |= strcmp(settings_rows[i].section, section) == 0;
	autobuf why = { 0 };
	schema_explain(settings_rows, ROWS, section, is_section ? key : NULL, &why);
	snprintf(both, sizeof(both), "%.*s", (int)(equals - text), text);
	bad_set(l, both, why.at ? why.at : "unknown key");
	return ROWS;
}

static enum err_code set_one(struct load *l, const char *text, bool is_set[ROWS],
			     struct err *e)
{
	const char *value = "";
	size_t i = find_set(l, text, &value);
	if (i == ROWS)
		return ERR_OK;
	const struct schema_row *row = &settings_rows[i];
	struct settings *s = l->settings;
	struct err why = { 0 };
	enum err_code rc = ERR_OK;
	/* Values of the command line take the place of those in the file. */
	if (row->kind == SCHEMA_LIST && !is_set[i]) {
		schema_clear(row, s);
		if ((rc = set_origin(s, i, "default", e)) != ERR_OK)
			return rc;
	}
	is_set[i] = true;
	rc = schema_set(row, s, value, &why);
	if (rc == ERR_OK)
		return add_origin(s, i, "--set", e);
	if (rc == ERR_NOMEM)
		return err_set(e, rc, "%s", why.text);
	autobuf problem = { 0 };
	char both[64];
	snprintf(both, sizeof(both), "%s.%s", row->section, row->key);
	schema_complain(row, value, &why, &problem);
	bad_set(l, both, problem.at ? problem.at : why.text);
	return ERR_OK;
}

static enum err_code read_overrides(struct load *l,
				    const struct settings_input *in,
				    struct err *e)
{
	bool is_set[ROWS] = { false };
	enum err_code rc = ERR_OK;
	for (size_t i = 0; rc == ERR_OK && i < in->override_count; i++)
		rc = set_one(l, in->overrides[i], is_set, e);
	return rc;
}

/* ---- the environment ---- */

typedef const char *environment(const char *name);

/* The first that is set and not empty; *found is its name. */
static const char *first_of(environment *get, const char *const *names,
			    const char **found)
{
	for (; *names; names++) {
		const char *value = get(*names);
		*found = *names;
		if (value && value[0])
			return value;
	}
	return NULL;
}

/* A proxy as curl takes it: without a scheme it is http. */
static enum err_code read_proxy(struct load *l, environment *get,
				const char *const *names, char **out,
				struct err *e)
{
	const char *name, *value = first_of(get, names, &name);
	if (value == NULL)
		return ERR_OK;
	autobuf text = { 0 };
	buf_print(&text, "%s%s", strstr(value, "://") ? "" : "http://", value);
	if (text.failed)
		return err_set(e, ERR_NOMEM, "no memory for %s", name);
	struct err why = { 0 };
	autourl u = { 0 };
	enum err_code rc = url_parse(buf_as_span(&text), &u, &why);
	if (rc == ERR_NOMEM)
		return err_set(e, rc, "%s", why.text);
	if (rc != ERR_OK) { /* without the value: it may hold a password */
		ini_problem(l->problems, "environment", 0,
			    "%s: must be the URL of an http proxy (%s); "
			    "set [proxy] url to something else or to none",
			    name, why.text);
		l->file_is_bad = true;
		return ERR_OK;
	}
	*out = buf_take(&text);
	return *out ? ERR_OK : err_set(e, ERR_NOMEM, "no memory for %s", name);
}

static enum err_code read_no_proxy(struct load *l, environment *get,
				   struct err *e)
{
	static const char *const names[] = { "no_proxy", "NO_PROXY", NULL };
	const char *name, *value = first_of(get, names, &name);
	struct span rest = span_of(value ? value : ""), part;
	enum err_code rc = ERR_OK;
	while (rc == ERR_OK && span_split(&rest, ',', &part)) {
		part = span_trim(part);
		autofree char *text = strndup(part.at, part.len);
		if (text == NULL)
			return err_set(e, ERR_NOMEM, "no memory for %s", name);
		/* Others write networks and ports here: not for us. */
		if (text[0] && check_bypass(text, NULL) == ERR_OK)
			rc = schema_list_add(&l->settings->environment_no_proxy,
					     text, e);
	}
	if (rc != ERR_CONFIG)
		return rc;
	ini_problem(l->problems, "environment", 0, "%s is too long", name);
	l->file_is_bad = true;
	return ERR_OK;
}

/* HTTP_PROXY is left out as curl does: a CGI peer could set it. */
static enum err_code read_environment(struct load *l, environment *get,
				      struct err *e)
{
	static const char *const http[] = { "http_proxy", "all_proxy", "ALL_PROXY",
					    NULL };
	static const char *const https[] = { "https_proxy", "HTTPS_PROXY",
					     "all_proxy", "ALL_PROXY", NULL };
	struct settings *s = l->settings;
	enum err_code rc;
	if (get == NULL || s->proxy_url[0])
		return ERR_OK;
	if ((rc = read_proxy(l, get, http, &s->environment_http_proxy, e)) ||
	    (rc = read_proxy(l, get, https, &s->environment_https_proxy, e)) ||
	    (rc = read_no_proxy(l, get, e)))
		return rc;
	if (s->environment_http_proxy || s->environment_https_proxy)
		rc = set_origin(s, row_of("proxy", "url"), "environment", e);
	if (rc == ERR_OK && s->environment_no_proxy.count && !s->proxy_bypass.count)
		rc = set_origin(s, row_of("proxy", "bypass"), "environment", e);
	return rc;
}

/* ---- all together ---- */

/* Two keys that make sense only as a pair. */
static void check_pair(struct load *l)
{
	const struct settings *s = l->settings;
	if (!s->certificate[0] == !s->key[0])
		return;
	const char *has = s->certificate[0] ? "certificate" : "key";
	const char *lacks = s->certificate[0] ? "key" : "certificate";
	const char *origin = s->origins[row_of("client", has)];
	if (strcmp(origin, "--set") == 0) {
		origin = s->certificate[0] ? "--set client.certificate"
					   : "--set client.key";
		l->set_is_bad = true;
	} else {
		l->file_is_bad = true;
	}
	ini_problem(l->problems, origin, 0,
		    "[client] %s without %s: give both or none", has, lacks);
}

/* More values of a list than can be kept. */
static void check_count(struct load *l, size_t row, size_t max)
{
	const struct settings *s = l->settings;
	const struct schema_row *r = &settings_rows[row];
	size_t count = schema_values(r, s);
	if (count <= max)
		return;
	struct span rest = span_of(s->origins[row]), line = rest;
	for (size_t i = 0; i <= max; i++)
		span_split(&rest, '\n', &line);
	bool is_set = span_is(line, "--set");
	autobuf origin = { 0 };
	buf_print(&origin, "%.*s", SPAN_ARG(line));
	if (is_set)
		buf_print(&origin, " %s.%s", r->section, r->key);
	l->set_is_bad |= is_set;
	l->file_is_bad |= !is_set;
	ini_problem(l->problems, origin.at ? origin.at : "settings", 0,
		    "[%s] %s stands %zu times: at most %zu can be kept", r->section,
		    r->key, count, max);
}

enum err_code settings_load(const struct settings_input *in,
			    struct settings *out, struct buf *problems,
			    struct err *e)
{
	struct load l = { .settings = out, .problems = problems };
	size_t before = problems->len;
	enum err_code rc;
	*out = (struct settings){ 0 };
	if ((rc = start(out, e)) != ERR_OK)
		return rc;
	if (in->path && (rc = read_file(&l, in, e)) != ERR_OK)
		return rc;
	if ((rc = read_overrides(&l, in, e)) != ERR_OK ||
	    (rc = read_environment(&l, in->environment, e)) != ERR_OK)
		return rc;
	check_pair(&l);
	check_count(&l, row_of("schedule", "window"), WINDOW_MAX);
	check_count(&l, row_of("transfer", "rate_schedule"), RATE_RULES_MAX);
	bool only_set = l.set_is_bad && !l.file_is_bad;
	return ini_summary(problems, before, only_set ? ERR_USAGE : ERR_CONFIG, e);
}

static void print_line(const struct schema_row *row, const char *value,
		       struct span origin, struct buf *out)
{
	buf_print(out, "%s.%s =%s%s    ; %.*s\n", row->section, row->key,
		  value[0] ? " " : "", value, SPAN_ARG(origin));
}

/* What came from the environment stands in fields of its own. */
static void print_environment(const struct settings *s,
			      const struct schema_row *row, struct buf *out)
{
	struct span origin = SPAN_LIT("environment");
	if (row->kind == SCHEMA_LIST) {
		for (size_t i = 0; i < s->environment_no_proxy.count; i++)
			print_line(row, s->environment_no_proxy.items[i], origin,
				   out);
		return;
	}
	const char *http = s->environment_http_proxy;
	const char *https = s->environment_https_proxy;
	if (https)
		print_line(row, https, origin, out);
	if (http && (!https || strcmp(http, https) != 0))
		print_line(row, http, origin, out);
}

void settings_print(const struct settings *s, struct buf *out)
{
	for (size_t i = 0; i < ROWS; i++) {
		const struct schema_row *row = &settings_rows[i];
		struct span origins = span_of(s->origins[i]), origin = { "", 0 };
		size_t count = schema_values(row, s);
		if (span_is(origins, "environment")) {
			print_environment(s, row, out);
			continue;
		}
		if (count == 0)
			print_line(row, "", origins, out);
		for (size_t n = 0; n < count; n++) {
			autobuf value = { 0 };
			schema_print(row, s, n, &value);
			if (row->kind == SCHEMA_LIST)
				span_split(&origins, '\n', &origin);
			else
				origin = origins;
			print_line(row, value.at ? value.at : "", origin, out);
		}
	}
}

const char *settings_proxy(const struct settings *s, bool https)
{
	if (s->proxy_url && strcmp(s->proxy_url, "none") == 0)
		return "";
	if (s->proxy_url && s->proxy_url[0])
		return s->proxy_url;
	const char *found = https ? s->environment_https_proxy
				  : s->environment_http_proxy;
	return found ? found : "";
}

const struct settings_list *settings_no_proxy(const struct settings *s)
{
	bool is_ours = s->proxy_bypass.count || (s->proxy_url && s->proxy_url[0]);
	return is_ours ? &s->proxy_bypass : &s->environment_no_proxy;
}
