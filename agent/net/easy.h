#ifndef AGENT_NET_EASY_H
#define AGENT_NET_EASY_H

#include "agent/net/request.h"
#include "agent/net/throttle.h"
#include "common/buf.h"
#include "common/url.h"

#include <curl/curl.h>

#define HTTP_IDLE_MAX 64 /* as many as there can be [transfer] connections */

/*
 * One request as curl sees it: the one place that sets curl's options, is called
 * back by it, and says its codes in our words. For http alone.
 */
struct http_call {
	struct http *http;
	struct http_call *next; /* all calls of http */
	/* the request, owned */
	struct http_request request;
	char *method, *secret_header;
	struct curl_slist *headers; /* without the secret one */
	struct curl_slist *sent;    /* with it, for the origin it is meant for; NULL =
				     * there is none */
	struct curl_slist *addresses; /* of connect_host, for CURLOPT_RESOLVE */
	bool through_proxy;
	char connect_host[URL_HOST_MAX + 1]; /* the proxy's, or the URL's */
	uint16_t connect_port;
	struct buf body;
	/* what we wait for: walk, then easy, then delivery */
	struct resolve_walk *walk;
	CURL *easy;
	bool in_multi;
	bool finished;
	struct url url;
	struct buf url_text;
	unsigned redirects;
	int64_t deadline_ms; /* on the boot clock; 0 = none */
	struct resolve_result *resolved; /* owned; connect_only: else NULL */
	struct verify_story *story; /* owned; NULL = no TLS connection made here */
	char error_text[CURL_ERROR_SIZE];
	struct err sink_error;
	bool head_given;
	struct throttle_flow flow;
	struct buf collected;
	struct http_response response;
};

struct http {
	struct http_options options;
	CURLM *multi;
	struct http_call *calls;
	CURL *idle[HTTP_IDLE_MAX]; /* handles to be used again; owned */
	unsigned idle_count;
	struct buf client_cert, client_key, proxy_http, proxy_https, bypass;
	struct throttle throttle;
};

/* "Name: value" behind *list; false: no memory. */
bool easy_append(struct curl_slist **list, const char *line);
/* The proxy for the call's host; "" = none configured, or on the bypass list. */
const char *easy_proxy(const struct http_call *c);
/* The addresses that curl is to connect to. False: no memory. */
bool easy_take_addresses(struct http_call *c, const struct resolve_result *found);
/* Make c->easy, or take one from h->idle, and set everything on it. False: no
 * memory. */
bool easy_open(struct http_call *c);
/* Let go of c->easy, which is in no multi handle any more. */
void easy_close(struct http_call *c);
/* Tell the sink of the head, once; false: it refuses (c->sink_error). */
bool easy_give_head(struct http_call *c);
/* After the end: peer and times, and what the code means, in c->response. */
enum err_code easy_ended(struct http_call *c, CURLcode code);

#endif
