#ifndef AGENT_NET_REQUEST_H
#define AGENT_NET_REQUEST_H

#include "agent/net/head.h"
#include "agent/net/resolve.h"
#include "agent/net/verify.h"
#include "common/err.h"

#include <stdbool.h>

/* What is asked of http, and what it answers. */
/* What http is set up with. */
struct http_options {
	struct resolve *resolve;     /* borrowed */
	const struct verify *verify; /* borrowed */
	struct span client_cert_pem, client_key_pem; /* copied; may be empty */
	unsigned connections;        /* at once, to all hosts */
	unsigned connect_timeout_ms; /* TCP and TLS */
	unsigned stall_timeout_ms;   /* silence in a transfer */
	struct span proxy_http, proxy_https; /* URL; "" = none */
	struct span proxy_bypass;    /* host suffixes, each ended by a line feed */
};

/* Whom the request goes to decides what the name may lead to. */
enum http_leg {
	HTTP_SITE,    /* management point, on-premises distribution point */
	HTTP_SERVICE, /* cloud service: its aliases end within [cloud] suffix */
	HTTP_STORAGE, /* a host that a manifest named: must lie within itself */
};

enum http_take {
	HTTP_TAKEN,
	HTTP_PAUSE, /* not now: http_resume() brings the same bytes again */
	HTTP_ABORT, /* *e of the sink says why */
};

struct http_response;

struct http_request {
	const char *method;          /* "GET", "PROPFIND", "CCM_POST" */
	const char *url;
	const char *const *headers;  /* NULL-ended "Name: value"; none secret */
	const char *secret_header;   /* never leaves its origin; NULL = none */
	struct span body;
	bool has_body;
	enum http_leg leg;
	bool stays;                  /* no redirect to another origin is followed */
	bool offer_client;           /* show the client certificate when asked */
	bool only_http1;             /* keep the reason phrase */
	bool connect_only;           /* resolve, connect, verify; no request */
	size_t max_body;             /* of what is collected, bytes */
	unsigned timeout_ms;         /* of the whole request; 0 = none */
	/* The sink: where given, a 2xx body goes there, piece by piece, after
	 * on_head agreed; other bodies are collected as ever. *e is filled by
	 * whoever returns something else than ERR_OK / HTTP_TAKEN. */
	enum err_code (*on_head)(void *arg, const struct head *head,
				 struct err *e);
	enum http_take (*on_data)(void *arg, struct span bytes, struct err *e);
	void (*done)(void *arg, const struct http_response *response);
	void *arg;
};

struct http_response {
	struct err result;   /* of the transport; ERR_OK whatever the status */
	struct head head;
	struct span body;    /* collected; borrowed for the call */
	const char *url;     /* asked last, after redirects; borrowed */
	char address[64];    /* of the peer */
	unsigned connect_ms; /* TCP only */
	uint64_t received;   /* body bytes */
	bool is_multiplexed; /* HTTP/2: others can share the connection */
	const struct resolve_result *walk;  /* of the last host; NULL = none */
	const struct verify_story *story;   /* NULL = no TLS */
};

/*
 * The error that a status is, for a request whose caller wanted 2xx: ABSENT
 * (404, 410), DENIED (401, 403), BUSY (429, 503, or any with Retry-After),
 * SERVER (5xx), else STATUS; the text names status, reason and `what`.
 * ERR_OK for 2xx.
 */
enum err_code http_status(const struct http_response *response,
			  const char *what, struct err *e);

#endif
