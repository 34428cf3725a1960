#include "agent/keeper/site.h"

#include "agent/keeper/identity.h"
#include "agent/keeper/record.h"
#include "agent/keeper/sitepolicy.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mask.h"
#include "common/own.h"
#include "policy/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define COMPONENT "PolicyAgent"
/* After a registration the site needs some seconds (docs/wire.md 2.5). */
#define SETTLE_MS 4000
#define SETTLE_TRIES 5
#define TOLD_MAX 64 /* failed tries in the log */
#define HEARD_MAX 100000 /* failed tries at all */
#define ENROLL_WAIT_MS 120000 /* for another process that registers */
#define ENROLL_PAUSE_MS 50
/*
 * Topic type of our state messages. The record names none for content that arrived,
 * and the known numbers (7200 to 7203) feed reports with details of another form:
 * one that nobody else uses cannot spoil them (docs/wire.md 10).
 */
#define TOPIC_TYPE 61042

/* --- the network process ------------------------------------------------- */

struct worker *site_start(const struct settings *s, struct err *e)
{
	autofree char *path = NULL;
	if (identity_ensure(s->state_directory, &path, e) != ERR_OK)
		return NULL;
	autofree char *id = record_client_id(s->state_directory, s->client_id, e);
	if (id == NULL)
		return NULL;
	struct worker_options o = { .settings = s,
				    .client_id = id,
				    .identity_file = path };
	return worker_start(&o, e);
}

/* --- what every question needs ------------------------------------------- */

struct names {
	struct buf points; /* management points, a line each */
	char fqdn[WIRE_NAME + 1];
	char smsid[64];    /* "" = not registered */
	bool is_unknown;   /* a management point said so in the last answer */
	unsigned heard;    /* failed tries */
};

static void own_names(struct names *n)
{
	buf_free(&n->points);
}
#define autonames __attribute__((cleanup(own_names))) struct names

/* The host's name with its domain, as far as this machine knows one. */
static void full_name(const struct settings *s, char *out, size_t size)
{
	char host[256] = "";
	gethostname(host, sizeof(host) - 1);
	bool is_full = strchr(host, '.') != NULL;
	if (!is_full && s->domain && s->domain[0])
		snprintf(out, size, "%s.%s", host, s->domain);
	else
		snprintf(out, size, "%s", host[0] ? host : "localhost");
}

static enum err_code take_names(const struct settings *s, struct names *out,
				struct err *e)
{
	const struct settings_list *l = &s->management_points;
	if (l->count == 0)
		return err_set(e, ERR_CONFIG,
			       "[site] management_point: none is configured");
	for (size_t i = 0; i < l->count; i++)
		buf_print(&out->points, "%s\n", l->items[i]);
	if (out->points.failed)
		return err_set(e, ERR_NOMEM, "no memory for a question to the site");
	full_name(s, out->fqdn, sizeof(out->fqdn));
	return identity_get_smsid(s->state_directory, out->smsid, e);
}

/* A network process that lies must not keep us listening for ever. */
static enum err_code count_heard(struct names *n, struct err *e)
{
	if (n->heard++ < HEARD_MAX)
		return ERR_OK;
	return err_set(e, ERR_NET_LIED, "more than %d failed tries", HEARD_MAX);
}

static enum err_code take_attempt(struct names *n, const struct wire_attempt *m,
				  struct err *e)
{
	autobuf url = { 0 };
	enum err_code rc = count_heard(n, e);
	if (rc != ERR_OK || n->heard > TOLD_MAX)
		return rc;
	mask_values(m->url, &url);
	log_warning(COMPONENT, "%s: %.*s", url.at ? url.at : "", SPAN_ARG(m->text));
	return ERR_OK;
}

/* --- registration -------------------------------------------------------- */

static enum err_code on_registered(void *arg, const struct wire_msg *m,
				   struct err *e)
{
	struct names *n = arg;
	struct err why;
	if (m->type == WIRE_ATTEMPT)
		return take_attempt(n, &m->attempt, e);
	if (m->type != WIRE_REGISTERED || n->smsid[0] ||
	    m->registered.smsid.len >= sizeof(n->smsid))
		return worker_lied(m, e);
	snprintf(n->smsid, sizeof(n->smsid), "%.*s", SPAN_ARG(m->registered.smsid));
	if (check_client_id(n->smsid, &why) != ERR_OK)
		return err_set(e, ERR_MP_REPLY, "registration: the site's id \"%s\" %s",
			       n->smsid, why.text);
	log_info(COMPONENT, "registered with the site as %s by %.*s", n->smsid,
		 SPAN_ARG(m->registered.management_point));
	return ERR_OK;
}

/* One registers at a time. */
static int lock_state(const struct settings *s, struct err *e)
{
	autofd fd = open(s->state_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int64_t until_ms = clock_now_ms() + ENROLL_WAIT_MS;
	while (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0) {
		if (fd < 0 || errno != EWOULDBLOCK)
			err_set(e, ERR_FOLDER, "lock [state] directory: %m");
		else if (clock_now_ms() >= until_ms)
			err_set(e, ERR_LOCKED, "another agent registers with the "
				"site, and does not end");
		else if (worker_sleep(ENROLL_PAUSE_MS, e) == ERR_OK)
			continue;
		return -1;
	}
	return take_fd(&fd);
}

/* n->smsid: the id that the site does not know, or "". */
static enum err_code enroll(struct worker *w, const struct settings *s,
			    struct names *n, struct err *e)
{
	struct wire_registration m = { .management_points = buf_as_span(&n->points),
				       .fqdn = span_of(n->fqdn) };
	char unknown[sizeof(n->smsid)];
	memcpy(unknown, n->smsid, sizeof(unknown));
	autofd lock = lock_state(s, e);
	if (lock < 0 ||
	    identity_get_smsid(s->state_directory, n->smsid, e) != ERR_OK)
		return e->code;
	if (n->smsid[0] && strcmp(n->smsid, unknown) != 0)
		return ERR_OK; /* somebody has just done it */
	n->smsid[0] = '\0';
	enum err_code rc = worker_call(w, WIRE_REGISTRATION, &m, on_registered, n, e);
	if (rc != ERR_OK)
		return err_prefix(e, "register with the site");
	if (n->smsid[0] == '\0')
		return err_set(e, ERR_NET_LIED, "a registration without an id");
	return identity_set_smsid(s->state_directory, n->smsid, e);
}

/* --- assignments --------------------------------------------------------- */

struct asked {
	struct names *names;
	struct sitepolicy *out;
};

static enum err_code on_assignment(void *arg, const struct wire_msg *m,
				   struct err *e)
{
	struct asked *a = arg;
	if (m->type == WIRE_ATTEMPT)
		return take_attempt(a->names, &m->attempt, e);
	if (m->type == WIRE_REGISTERED && m->registered.smsid.len == 0) {
		a->names->is_unknown = true;
		return count_heard(a->names, e);
	}
	if (m->type != WIRE_ASSIGNMENT)
		return worker_lied(m, e);
	return sitepolicy_add(a->out, &m->assignment, e);
}

static enum err_code ask(struct worker *w, struct names *n, struct sitepolicy *out,
			 struct err *e)
{
	struct wire_assignments m = { .management_points = buf_as_span(&n->points),
				      .fqdn = span_of(n->fqdn),
				      .smsid = span_of(n->smsid) };
	struct asked a = { n, out };
	sitepolicy_free(out); /* of a try before */
	n->is_unknown = false;
	return worker_call(w, WIRE_ASSIGNMENTS, &m, on_assignment, &a, e);
}

/* A client that was just registered: not known yet is no error at first. */
static enum err_code ask_new(struct worker *w, struct names *n,
			     struct sitepolicy *out, struct err *e)
{
	enum err_code rc = ask(w, n, out, e);
	for (int i = 0; rc != ERR_OK && n->is_unknown && i < SETTLE_TRIES; i++) {
		rc = worker_sleep(SETTLE_MS, e);
		if (rc != ERR_OK)
			return rc;
		rc = ask(w, n, out, e);
	}
	if (rc != ERR_OK && n->is_unknown) {
		e->code = ERR_MP_AUTH;
		err_prefix(e, "the site does not accept this client, though it "
			   "registered as %s: is it approved?", n->smsid);
	}
	return rc == ERR_OK ? rc : e->code;
}

static enum err_code fetch(struct worker *w, const struct settings *s,
			   struct names *n, struct sitepolicy *out, struct err *e)
{
	if (n->smsid[0]) {
		enum err_code rc = ask(w, n, out, e);
		if (rc == ERR_OK || !n->is_unknown)
			return rc;
		log_warning(COMPONENT, "the site does not know this client as %s: "
			    "registering anew", n->smsid);
	}
	enum err_code rc = enroll(w, s, n, e);
	return rc == ERR_OK ? ask_new(w, n, out, e) : rc;
}

enum err_code site_fetch(const struct settings *s, struct buf *bundle,
			 struct err *e)
{
	autonames n = { 0 };
	struct sitepolicy policy = { 0 };
	if (s->site_code == NULL || s->site_code[0] == '\0')
		return err_set(e, ERR_CONFIG, "[site] code is not set: [policy] source "
			       "= mp needs it");
	struct worker *w = site_start(s, e);
	if (w == NULL)
		return e->code;
	enum err_code rc = take_names(s, &n, e);
	if (rc == ERR_OK)
		rc = fetch(w, s, &n, &policy, e);
	worker_stop(w);
	if (rc == ERR_OK)
		rc = sitepolicy_print(&policy, bundle, e);
	if (rc == ERR_OK)
		log_info(COMPONENT, "policy of site %s: deployments=%zu left_out=%zu",
			 s->site_code, policy.count, policy.left_out);
	sitepolicy_free(&policy);
	return rc;
}

/* --- state messages ------------------------------------------------------ */

static enum err_code on_relayed(void *arg, const struct wire_msg *m, struct err *e)
{
	if (m->type != WIRE_ATTEMPT)
		return worker_lied(m, e);
	return take_attempt(arg, &m->attempt, e);
}

enum err_code site_relay(struct worker *w, const struct settings *s,
			 const struct outbox_item *item, struct err *e)
{
	autonames n = { 0 };
	autofree char *path = NULL;
	char time[CLOCK_RFC3339_SIZE];
	enum err_code rc = identity_ensure(s->state_directory, &path, e);
	if (rc == ERR_OK)
		rc = worker_send_file(w, WIRE_FILE_IDENTITY, path, e);
	if (rc == ERR_OK)
		rc = take_names(s, &n, e);
	if (rc != ERR_OK)
		return rc;
	if (n.smsid[0] == '\0') {
		/* what a site that is not ready takes, it loses */
		rc = enroll(w, s, &n, e);
		return rc != ERR_OK ? rc :
			       err_set(e, ERR_MP_AUTH, "registered just now: state "
				       "messages wait for the next time");
	}
	clock_rfc3339(item->at_s, time);
	struct wire_relay m = { .management_points = buf_as_span(&n.points),
				.fqdn = span_of(n.fqdn),
				.smsid = span_of(n.smsid),
				.topic = span_of(item->topic),
				.topic_type = TOPIC_TYPE,
				.state = item->state,
				.time = span_of(time),
				.details = span_of(item->details) };
	return worker_call(w, WIRE_RELAY, &m, on_relayed, &n, e);
}
