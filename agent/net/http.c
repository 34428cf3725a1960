#include "agent/net/http.h"

#include "agent/net/easy.h"
#include "common/clock.h"
#include "common/own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REDIRECTS_MAX 5
#define ERROR_BODY_MAX (64u << 10) /* of a non-2xx answer, where a sink is */
#define POLL_EXTRA_MAX 64

/* --- life ---------------------------------------------------------------- */

void http_global(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

struct http *http_new(const struct http_options *options, struct err *e)
{
	struct http *h = calloc(1, sizeof(*h));
	if (h)
		h->multi = curl_multi_init();
	if (h == NULL || h->multi == NULL) {
		free(h);
		err_set(e, ERR_NOMEM, "no memory for the HTTP client");
		return NULL;
	}
	h->options = *options;
	throttle_open(&h->throttle);
	buf_span(&h->client_cert, options->client_cert_pem);
	buf_span(&h->client_key, options->client_key_pem);
	buf_span(&h->proxy_http, options->proxy_http);
	buf_span(&h->proxy_https, options->proxy_https);
	buf_span(&h->bypass, options->proxy_bypass);
	/* one more than transfers, for a listing beside them */
	curl_multi_setopt(h->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS,
			  (long)options->connections + 2);
	curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS,
			  (long)options->connections + 2);
	return h;
}

static void drop_easy(struct http_call *c)
{
	if (c->easy == NULL)
		return;
	throttle_end(&c->flow);
	if (c->in_multi) {
		curl_multi_remove_handle(c->http->multi, c->easy);
		c->in_multi = false;
	}
	easy_close(c);
}

void http_cancel(struct http_call *c)
{
	if (c == NULL)
		return;
	for (struct http_call **p = &c->http->calls; *p; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			break;
		}
	resolve_cancel(c->walk);
	drop_easy(c);
	curl_slist_free_all(c->headers);
	curl_slist_free_all(c->sent);
	curl_slist_free_all(c->addresses);
	free(c->resolved);
	free(c->story);
	free(c->method);
	free(c->secret_header);
	buf_free(&c->body);
	buf_free(&c->url_text);
	buf_free(&c->collected);
	url_free(&c->url);
	free(c);
}

void http_free(struct http *h)
{
	if (h == NULL)
		return;
	while (h->calls)
		http_cancel(h->calls);
	while (h->idle_count)
		curl_easy_cleanup(h->idle[--h->idle_count]);
	curl_multi_cleanup(h->multi);
	buf_free(&h->client_cert);
	buf_free(&h->client_key);
	buf_free(&h->proxy_http);
	buf_free(&h->proxy_https);
	buf_free(&h->bypass);
	free(h);
}

/* --- the way of a call ----------------------------------------------------- */

static void finish(struct http_call *c, enum err_code code, const char *text)
{
	if (code != ERR_OK)
		err_set(&c->response.result, code, "%s", text);
	c->finished = true; /* delivered by the next turn, never from inside */
}

static void begin_transfer(struct http_call *c)
{
	struct http *h = c->http;
	if (!easy_open(c)) {
		finish(c, ERR_NOMEM, "no memory for a request");
		return;
	}
	if (curl_multi_add_handle(h->multi, c->easy) != CURLM_OK) {
		finish(c, ERR_INTERNAL, "curl does not take the request");
		return;
	}
	c->in_multi = true;
}

static void on_walked(void *arg, const struct resolve_result *r)
{
	struct http_call *c = arg;
	c->walk = NULL;
	if (c->request.connect_only && c->resolved == NULL)
		c->resolved = malloc(sizeof(*c->resolved));
	if (c->resolved)
		*c->resolved = *r;
	if (r->result.code != ERR_OK)
		finish(c, r->result.code, r->result.text);
	else if (!easy_take_addresses(c, r))
		finish(c, ERR_NOMEM, "no memory for addresses");
	else
		begin_transfer(c);
}

static enum resolve_leg leg_of(const struct http_call *c)
{
	switch (c->through_proxy ? HTTP_SITE : c->request.leg) {
	case HTTP_SITE:
		return RESOLVE_SITE;
	case HTTP_SERVICE:
		return RESOLVE_SERVICE;
	case HTTP_STORAGE:
		return RESOLVE_STORAGE;
	}
	return RESOLVE_STORAGE;
}

/* Through a proxy it is the proxy that resolves the host: only the proxy's own
 * name is looked up here, and the alias rules of the cloud cannot be applied. */
static enum err_code begin_walk(struct http_call *c, struct err *e)
{
	const char *proxy = easy_proxy(c);
	c->through_proxy = proxy[0] != '\0';
	snprintf(c->connect_host, sizeof(c->connect_host), "%s", c->url.host);
	c->connect_port = c->url.port;
	if (c->through_proxy) {
		autourl url = { 0 };
		if (url_parse(span_of(proxy), &url, e) != ERR_OK)
			return err_prefix(e, "proxy");
		snprintf(c->connect_host, sizeof(c->connect_host), "%s", url.host);
		c->connect_port = url.port;
	}
	struct resolve *resolve = c->http->options.resolve;
	const struct resolve_result *known =
		resolve_recall(resolve, c->connect_host, leg_of(c));
	if (known) {
		on_walked(c, known);
		return ERR_OK;
	}
	c->walk = resolve_start(resolve, c->connect_host, leg_of(c), on_walked, c,
				e);
	return c->walk ? ERR_OK : e->code;
}

static enum err_code take_url(struct http_call *c, struct url *url, struct err *e)
{
	url_free(&c->url);
	c->url = *url;
	*url = (struct url){ 0 };
	buf_clear(&c->url_text);
	url_print(&c->url, &c->url_text);
	return c->url_text.failed ? err_set(e, ERR_NOMEM, "no memory for a URL") :
				    ERR_OK;
}

static bool copy_request(struct http_call *c, const struct http_request *r)
{
	c->request = *r;
	c->method = strdup(r->method);
	bool ok = c->method != NULL;
	if (r->secret_header) {
		c->secret_header = strdup(r->secret_header);
		ok = ok && c->secret_header;
	}
	for (const char *const *p = r->headers; ok && p && *p; p++)
		ok = easy_append(&c->headers, *p);
	ok = ok && easy_append(&c->headers, "Accept-Encoding: identity") &&
	     easy_append(&c->headers, "Expect:");
	c->body.max = 4u << 20;
	buf_span(&c->body, r->body);
	c->collected.max = r->on_data ? ERROR_BODY_MAX : r->max_body;
	if (r->timeout_ms)
		c->deadline_ms = clock_now_ms() + r->timeout_ms;
	return ok && !c->body.failed;
}

struct http_call *http_start(struct http *h, const struct http_request *r,
			     struct err *e)
{
	autourl url = { 0 };
	if (url_parse(span_of(r->url), &url, e) != ERR_OK) {
		if (e->code != ERR_NOMEM)
			e->code = ERR_HTTP; /* others wrote it, not the user */
		return NULL;
	}
	struct http_call *c = calloc(1, sizeof(*c));
	if (c == NULL) {
		err_set(e, ERR_NOMEM, "no memory for a request");
		return NULL;
	}
	c->http = h;
	c->next = h->calls;
	h->calls = c;
	if (!copy_request(c, r)) {
		err_set(e, ERR_NOMEM, "no memory for a request");
		http_cancel(c);
		return NULL;
	}
	if (r->secret_header && !url.is_https) {
		err_set(e, ERR_INTERNAL, "a token must not go over http: %s",
			url.host);
		http_cancel(c);
		return NULL;
	}
	if (take_url(c, &url, e) != ERR_OK || begin_walk(c, e) != ERR_OK) {
		http_cancel(c);
		return NULL;
	}
	return c;
}

void http_resume(struct http_call *c)
{
	throttle_resume(&c->flow);
}

void http_pace(struct http *h, const struct pace_rates *rates)
{
	throttle_set(&h->throttle, rates);
}

/* --- redirects: ours, not curl's -------------------------------------------- */

static bool is_redirect(const struct http_call *c)
{
	long s = c->response.head.status;
	return (s == 301 || s == 302 || s == 303 || s == 307 || s == 308) &&
	       c->response.head.location[0];
}

static enum err_code check_redirect(const struct http_call *c,
				    const struct url *to, struct err *e)
{
	const char *from = c->url.host;
	if (c->redirects >= REDIRECTS_MAX)
		return err_set(e, ERR_REDIRECT, "more than %d redirects, last to %s",
			       REDIRECTS_MAX, to->host);
	if (c->url.is_https && !to->is_https)
		return err_set(e, ERR_REDIRECT,
			       "%s redirects from https to http, to %s", from,
			       to->host);
	if (c->request.stays && !url_same_origin(&c->url, to))
		return err_set(e, ERR_REDIRECT, "%s sends us to another server, %s",
			       from, to->host);
	if (c->request.leg != HTTP_SITE && to->is_ip && !c->url.is_ip)
		return err_set(e, ERR_REDIRECT,
			       "%s redirects to a bare address, %s", from,
			       to->host);
	if (strcmp(c->method, "GET") != 0 && strcmp(c->method, "HEAD") != 0 &&
	    strcmp(c->method, "PROPFIND") != 0)
		return err_set(e, ERR_REDIRECT, "%s redirects a %s to %s", from,
			       c->method, to->host);
	return ERR_OK;
}

/*
 * 1 followed, 0 no redirect, -1 finished with an error.
 */
static int follow(struct http_call *c)
{
	struct err e = { 0 };
	autourl to = { 0 };
	if (!is_redirect(c))
		return 0;
	if (url_join(&c->url, span_of(c->response.head.location), &to, &e) !=
	    ERR_OK) {
		finish(c, ERR_REDIRECT, e.text);
		return -1;
	}
	if (check_redirect(c, &to, &e) != ERR_OK) {
		finish(c, e.code, e.text);
		return -1;
	}
	if (!url_same_origin(&c->url, &to)) {
		c->request.offer_client = false;
		free(take_ptr(c->secret_header));
	}
	c->redirects++;
	drop_easy(c);
	c->response.head = (struct head){ .bytes = c->response.head.bytes };
	buf_clear(&c->collected);
	if (take_url(c, &to, &e) != ERR_OK || begin_walk(c, &e) != ERR_OK)
		finish(c, e.code, e.text);
	return 1;
}

/* --- the loop ---------------------------------------------------------------- */

static void transfer_ended(struct http_call *c, CURLcode code)
{
	bool ok = easy_ended(c, code) == ERR_OK;
	if (ok && !c->request.connect_only && follow(c) != 0)
		return;
	if (ok && !easy_give_head(c))
		c->response.result = c->sink_error;
	drop_easy(c);
	c->finished = true;
}

static void deliver(struct http *h)
{
	/* `done` may start and cancel other calls: begin again after each */
	for (struct http_call *c = h->calls; c;) {
		if (!c->finished) {
			c = c->next;
			continue;
		}
		struct http_response *r = &c->response;
		r->body = buf_as_span(&c->collected);
		r->url = c->url_text.at ? c->url_text.at : "";
		r->walk = c->resolved;
		r->story = c->story && c->story->is_judged ? c->story : NULL;
		c->finished = false; /* exactly once, also if `done` loops */
		c->request.done(c->request.arg, r);
		http_cancel(c);
		c = h->calls;
	}
}

static bool any_finished(const struct http *h)
{
	for (const struct http_call *c = h->calls; c; c = c->next)
		if (c->finished)
			return true;
	return false;
}

int http_due(struct http *h, struct dns *dns, int timeout_ms)
{
	int remembered = resolve_process(h->options.resolve);
	if (remembered >= 0 && remembered < timeout_ms)
		timeout_ms = remembered;
	int paced = throttle_turn(&h->throttle);
	if (paced >= 0 && paced < timeout_ms)
		timeout_ms = paced;
	return any_finished(h) ? 0 : dns_timeout_ms(dns, timeout_ms);
}

void http_turn(struct http *h, struct dns *dns, struct pollfd *extra, unsigned n,
	       int timeout_ms)
{
	struct curl_waitfd fds[POLL_EXTRA_MAX];
	struct pollfd asked[POLL_EXTRA_MAX];
	unsigned count = n < POLL_EXTRA_MAX ? n : POLL_EXTRA_MAX;
	if (count)
		memcpy(asked, extra, count * sizeof(*asked));
	count += dns_poll_fds(dns, asked + count, POLL_EXTRA_MAX - count);
	for (unsigned i = 0; i < count; i++)
		fds[i] = (struct curl_waitfd){
			.fd = asked[i].fd,
			.events = (short)((asked[i].events & POLLIN ?
						   CURL_WAIT_POLLIN : 0) |
					  (asked[i].events & POLLOUT ?
						   CURL_WAIT_POLLOUT : 0)),
		};
	curl_multi_poll(h->multi, fds, count, timeout_ms, NULL);
	for (unsigned i = 0; i < count; i++) {
		asked[i].revents = (short)((fds[i].revents & CURL_WAIT_POLLIN ?
						    POLLIN : 0) |
					   (fds[i].revents & CURL_WAIT_POLLOUT ?
						    POLLOUT : 0));
		if (i < n)
			extra[i].revents = asked[i].revents;
	}
	dns_process(dns, asked + n, count - n);
	resolve_process(h->options.resolve);
	int running;
	curl_multi_perform(h->multi, &running);
	CURLMsg *m;
	while ((m = curl_multi_info_read(h->multi, &running)) != NULL) {
		struct http_call *c = NULL;
		CURLcode code = m->data.result;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &c);
		if (m->msg == CURLMSG_DONE && c)
			transfer_ended(c, code);
	}
	deliver(h);
}
