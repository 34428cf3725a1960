#include "agent/net/tools.h"

#include "agent/net/dns.h"
#include "agent/net/download.h"
#include "agent/net/http.h"
#include "agent/net/resolve.h"
#include "agent/net/verify.h"
#include "common/fs.h"
#include "common/own.h"
#include "common/priority.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define FILE_MAX (4u << 20) /* any file that is handed over but the ring */

enum err_code tools_take_file(struct tools *t, struct wire_msg *m,
			      struct err *e)
{
	autofd fd = take_fd(&m->fd);
	char name[256];
	snprintf(name, sizeof(name), "%.*s", SPAN_ARG(m->file.name));
	if (m->file.kind == WIRE_FILE_RING) {
		/* its size is known with CONFIG, which comes last */
		off_t size = lseek(fd, 0, SEEK_END);
		void *p = size > 0 ? mmap(NULL, (size_t)size,
					  PROT_READ | PROT_WRITE, MAP_SHARED, fd,
					  0) : MAP_FAILED;
		if (p == MAP_FAILED)
			return err_set(e, ERR_INTERNAL, "map the ring: %m");
		t->ring = p;
		return ERR_OK;
	}
	struct buf *b = &t->files[m->file.kind];
	buf_clear(b);
	b->max = m->file.kind == WIRE_FILE_REPLY ? (10u << 20) : FILE_MAX;
	enum err_code rc = fs_read_fd(fd, name, b, e);
	if (rc == ERR_FOLDER) {
		/* not the cache or the state, but what somebody named */
		bool is_input = m->file.kind == WIRE_FILE_CHAIN ||
				m->file.kind == WIRE_FILE_REPLY;
		rc = e->code = is_input ? ERR_INPUT : ERR_CONFIG;
	}
	if (rc == ERR_OK && m->file.kind == WIRE_FILE_TOKEN) {
		struct span token = span_trim(buf_as_span(b));
		memmove(b->at, token.at, token.len);
		b->len = token.len;
		b->at[b->len] = '\0';
	}
	return rc;
}

static enum err_code open_names(struct tools *t, struct err *e)
{
	const struct wire_config *c = &t->config->config;
	struct dns_options d = { .servers = c->dns_servers,
				 .timeout_ms = (unsigned)c->dns_timeout_ms,
				 .tries = (unsigned)c->dns_tries };
	t->dns = dns_new(&d, e);
	if (t->dns == NULL)
		return e->code;
	/* the system's resolver knows the hosts file, a configured server not */
	t->hosts.max = 256 << 10;
	if (c->dns_servers.len == 0 &&
	    fs_read_all(AT_FDCWD, "/etc/hosts", &t->hosts, NULL) != ERR_OK)
		buf_clear(&t->hosts);
	struct resolve_options r = {
		.dns = t->dns,
		.max_hops = (unsigned)c->max_hops,
		.suffixes = c->cloud_suffixes,
		.public_only = c->cloud_public_only,
		.hosts = buf_as_span(&t->hosts),
	};
	t->resolve = resolve_new(&r, e);
	return t->resolve ? ERR_OK : e->code;
}

static enum err_code open_trust(struct tools *t, struct err *e)
{
	const struct wire_config *c = &t->config->config;
	struct verify_options v = {
		.ca_pem = buf_as_span(&t->files[WIRE_FILE_CA]),
		.crl_pem = buf_as_span(&t->files[WIRE_FILE_CRL]),
		.is_strict = c->tls_strict,
		.revocation = (enum verify_revocation)c->revocation,
		.tls_minimum = (unsigned)c->tls_minimum,
		.client_cert_pem = buf_as_span(&t->files[WIRE_FILE_CERT]),
		.client_key_pem = buf_as_span(&t->files[WIRE_FILE_KEY]),
	};
	t->verify = verify_new(&v, e);
	return t->verify ? ERR_OK : e->code;
}

void tools_pace(struct tools *t, const struct wire_pace *m)
{
	if (m->is_idle && !t->pace.is_idle)
		priority_lower(&(struct priority_report){ 0 });
	t->pace = *m;
	if (t->http == NULL)
		return; /* done by tools_open() */
	struct pace_rates rates = {
		.limits = { [PACE_LIMIT_ALL] = m->rate,
			    [PACE_LIMIT_ON_PREM] = m->rate_on_prem,
			    [PACE_LIMIT_CLOUD] = m->rate_cloud },
		.connections = (unsigned)t->config->config.connections,
		.may_change = m->may_change,
		.is_background = m->is_background,
	};
	http_pace(t->http, &rates);
}

static enum err_code open_http(struct tools *t, struct wire_out *out, struct err *e)
{
	const struct wire_config *c = &t->config->config;
	struct http_options h = {
		.resolve = t->resolve,
		.verify = t->verify,
		.client_cert_pem = buf_as_span(&t->files[WIRE_FILE_CERT]),
		.client_key_pem = buf_as_span(&t->files[WIRE_FILE_KEY]),
		.connections = (unsigned)c->connections,
		.connect_timeout_ms = (unsigned)c->connect_timeout_ms,
		.stall_timeout_ms = (unsigned)c->stall_timeout_ms,
		.proxy_http = c->proxy_http,
		.proxy_https = c->proxy_https,
		.proxy_bypass = c->proxy_bypass,
	};
	t->http = http_new(&h, e);
	if (t->http == NULL)
		return e->code;
	struct wire_pace pace = t->pace;
	tools_pace(t, &pace);
	struct download_options d = {
		.http = t->http,
		.out = out,
		.connections = (unsigned)c->connections,
		.ring = t->ring,
		.slots = t->ring ? (unsigned)c->ring_slots : 0,
		.slot_bytes = c->slot_bytes,
	};
	t->download = download_new(&d, e);
	return t->download ? ERR_OK : e->code;
}

enum err_code tools_open_identity(struct tools *t, struct err *e)
{
	struct buf *pem = &t->files[WIRE_FILE_IDENTITY];
	if (pem->len == 0)
		return ERR_OK;
	identity_free(take_ptr(t->identity));
	t->identity = identity_new(buf_as_span(pem), e);
	explicit_bzero(pem->at, pem->len);
	buf_clear(pem);
	return t->identity ? ERR_OK : e->code;
}

enum err_code tools_open(struct tools *t, const struct wire_msg *config,
			 struct wire_out *out, struct err *e)
{
	t->config = config;
	enum err_code rc = open_names(t, e);
	if (rc == ERR_OK)
		rc = open_trust(t, e);
	if (rc == ERR_OK)
		rc = tools_open_identity(t, e);
	return rc == ERR_OK ? open_http(t, out, e) : rc;
}
