#ifndef AGENT_NET_EXCHANGE_H
#define AGENT_NET_EXCHANGE_H

#include "agent/net/http.h"
#include "agent/net/identity.h"
#include "agent/wire.h"

/*
 * One question to one management point and its answer: a message in its envelope
 * (docs/wire.md 1.3 to 1.7), or one of the GETs beside it (1.8, 8.2). There is no
 * second way to speak to a management point.
 */
struct exchange;

/* What all questions of one call have in common. Borrowed until they ended. */
struct exchange_how {
	struct http *http;
	const struct wire_config *config;
	const char *token_line;  /* header line; NULL = no token */
	bool has_certificate;    /* mutual TLS is possible */
	const struct identity *identity; /* for signed ones; NULL = none */
	/* the XML that was sent and received, for the debug log; may be NULL */
	void (*on_note)(void *arg, const char *label, struct span text);
	/* every failed try, as it fails; may be NULL */
	void (*on_attempt)(void *arg, const char *url, const struct err *why);
	void *arg; /* for these two */
};

struct exchange_answer {
	/* MP_AUTH, MP_STATUS, MP_REPLY, those of http. Where the management point
	 * said HTTP 200 and no byte more, is_empty is set, too. */
	struct err result;
	bool has_answered;  /* HTTP, whatever it was */
	bool is_empty;
	long status;        /* HTTP; 0 = none came */
	struct span body;   /* XML in UTF-8; the bytes of a GET */
	const char *url;    /* answered this, after redirects; borrowed */
};

struct exchange_request {
	/*
	 * "https://mp01.example.net" (path ccm_system, or ccm_system_tokenauth where
	 * a token is there and the scheme is https), or a gateway base
	 * ".../CCM_Proxy_MutualAuth/<id>", which a token turns into
	 * CCM_Proxy_ServerAuth. With a token that way is tried first, then the plain
	 * one on 401, 403 and 404.
	 */
	const char *base;
	bool is_trusted; /* else neither token nor certificate */
	/* A message: endpoint, where its document is, and who asks. All copied. */
	const char *endpoint; /* "MP_LocationManager"; NULL = a GET */
	const char *reply_to; /* "LS_ReplyLocations" */
	const char *name;     /* of the document, for on_note: "Request", "Reply" are
			       * added; a literal */
	struct span source_id;
	struct span body;     /* XML, UTF-8 */
	bool is_signed;       /* needs how->identity and source_id */
	bool takes_empty;     /* 200 and no byte more is an answer */
	/* A GET: the path behind the base, and the query. */
	const char *path, *query;
	bool has_client_token; /* with the headers that prove source_id */
	size_t max_body;      /* bytes of its answer */
	/* Once, unless cancelled; the handle is gone by then. */
	void (*done)(void *arg, const struct exchange_answer *answer);
	void *arg;
};

/* NULL with *e set, when nothing could begin; on_attempt was called then. */
struct exchange *exchange_start(const struct exchange_how *how,
				const struct exchange_request *request,
				struct err *e);
void exchange_cancel(struct exchange *x); /* silent; NULL is fine */

/* Is the base (or path) one of a gateway's? */
bool exchange_is_gateway(const char *base);

/*
 * How it went with several management points. Zero is: none asked yet.
 */
struct exchange_tally {
	unsigned tried;
	struct err last;
	char last_base[256];
};
void exchange_tally_add(struct exchange_tally *t, const char *base,
			const struct err *why);
/* All failed: the last one, in class MP: its own code where one was asked, ERR_MP
 * with their number where several were. */
enum err_code exchange_tally_sum(const struct exchange_tally *t, struct err *e);

#endif
