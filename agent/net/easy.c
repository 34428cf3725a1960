#include "agent/net/easy.h"

#include "common/clock.h"
#include "common/own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- from curl's callbacks ------------------------------------------------ */

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;
	(void)size;
	if (!head_line(&c->response.head, (struct span){ line, n },
		       clock_wall_s())) {
		err_set(&c->sink_error, ERR_LIMIT,
			"more than %u KiB of response headers",
			HEAD_MAX_BYTES >> 10);
		return 0;
	}
	return n;
}

static bool is_2xx(const struct http_call *c)
{
	return c->response.head.status >= 200 && c->response.head.status < 300;
}

/* The sink is told of the head once, before the first byte of a 2xx body, or
 * at the end where there is none. */
bool easy_give_head(struct http_call *c)
{
	if (c->head_given || c->request.on_head == NULL || !is_2xx(c))
		return true;
	c->head_given = true;
	return c->request.on_head(c->request.arg, &c->response.head,
				  &c->sink_error) == ERR_OK;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;
	(void)size;
	if (c->response.head.bad_length) {
		err_set(&c->sink_error, ERR_HTTP,
			"contradictory Content-Length headers");
		return 0;
	}
	if (!easy_give_head(c))
		return 0;
	if (c->request.on_data && is_2xx(c)) {
		if (!throttle_may_take(&c->flow))
			return CURL_WRITEFUNC_PAUSE;
		switch (c->request.on_data(c->request.arg, (struct span){ bytes, n },
					   &c->sink_error)) {
		case HTTP_PAUSE:
			throttle_pause(&c->flow);
			return CURL_WRITEFUNC_PAUSE;
		case HTTP_ABORT:
			return 0;
		case HTTP_TAKEN:
			throttle_took(&c->flow, n);
			c->response.received += n;
			return n;
		}
	}
	buf_add(&c->collected, bytes, n);
	if (c->collected.failed && c->request.on_data == NULL) {
		err_set(&c->sink_error, ERR_LIMIT, "an answer of more than %zu KiB",
			c->collected.max >> 10);
		return 0;
	}
	c->response.received += n;
	return n;
}

static CURLcode on_tls(CURL *easy, void *ssl_ctx, void *arg)
{
	struct http_call *c = arg;
	(void)easy;
	/* large, and most requests go over a connection that is there already */
	if (c->story == NULL)
		c->story = malloc(sizeof(*c->story));
	if (c->story == NULL) {
		err_set(&c->sink_error, ERR_NOMEM, "no memory for a chain");
		return CURLE_ABORTED_BY_CALLBACK;
	}
	enum err_code rc = verify_install(c->http->options.verify, ssl_ctx,
					  c->url.host, c->url.is_ip,
					  c->request.offer_client,
					  c->story, &c->sink_error);
	return rc == ERR_OK ? CURLE_OK : CURLE_ABORTED_BY_CALLBACK;
}

/* --- curl's options, all of them ------------------------------------------ */

/* "" = none: not configured, or the host is on the bypass list. */
const char *easy_proxy(const struct http_call *c)
{
	const struct buf *p = c->url.is_https ? &c->http->proxy_https :
						&c->http->proxy_http;
	struct span rest = buf_as_span(&c->http->bypass), one;
	while (span_split(&rest, '\n', &one)) {
		char suffix[URL_HOST_MAX + 1];
		snprintf(suffix, sizeof(suffix), "%.*s", SPAN_ARG(one));
		const char *bare = suffix[0] == '.' ? suffix + 1 : suffix;
		if (strcmp(suffix, "*") == 0 ||
		    url_host_within(c->url.host, bare))
			return "";
	}
	return p->at ? p->at : "";
}

/* verify_install shows the client certificate; curl is told of it as well, so
 * that it keeps connections with and without one apart. */
static void set_client(struct http_call *c)
{
	struct http *h = c->http;
	if (!c->request.offer_client || !c->url.is_https || !h->client_cert.len)
		return;
	struct curl_blob cert = { h->client_cert.at, h->client_cert.len,
				  CURL_BLOB_NOCOPY };
	struct curl_blob key = { h->client_key.at, h->client_key.len,
				 CURL_BLOB_NOCOPY };
	curl_easy_setopt(c->easy, CURLOPT_SSLCERT_BLOB, &cert);
	curl_easy_setopt(c->easy, CURLOPT_SSLKEY_BLOB, &key);
}

static void set_tls(struct http_call *c)
{
	CURL *easy = c->easy;
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(easy, CURLOPT_SSL_OPTIONS, (long)CURLSSLOPT_NO_PARTIALCHAIN);
	/* the verify callback does not run on a resumed session */
	curl_easy_setopt(easy, CURLOPT_SSL_SESSIONID_CACHE, 0L);
	/* no file can be opened here; the anchors come from verify */
	curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
	curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_tls);
	curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, c);
	set_client(c);
}

static void set_limits(struct http_call *c)
{
	const struct http_options *o = &c->http->options;
	curl_easy_setopt(c->easy, CURLOPT_CONNECTTIMEOUT_MS,
			 (long)o->connect_timeout_ms);
	if (c->deadline_ms) {
		int64_t left = c->deadline_ms - clock_now_ms();
		curl_easy_setopt(c->easy, CURLOPT_TIMEOUT_MS,
				 (long)(left > 1 ? left : 1));
	}
}

bool easy_append(struct curl_slist **list, const char *line)
{
	struct curl_slist *more = curl_slist_append(*list, line);
	if (more)
		*list = more;
	return more != NULL;
}

static bool set_headers(struct http_call *c)
{
	bool ok = true;
	curl_slist_free_all(take_ptr(c->sent));
	if (c->secret_header == NULL) {
		curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
		return true;
	}
	for (struct curl_slist *s = c->headers; s; s = s->next)
		ok = ok && easy_append(&c->sent, s->data);
	ok = ok && easy_append(&c->sent, c->secret_header);
	curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->sent);
	return ok;
}

bool easy_take_addresses(struct http_call *c, const struct resolve_result *found)
{
	autobuf line = { 0 };
	curl_slist_free_all(take_ptr(c->addresses));
	/* curl reads an IPv6 address itself, and cannot have one on such a line */
	if (strchr(c->connect_host, ':'))
		return true;
	/* the host that curl connects to: the proxy's, where there is one */
	buf_print(&line, "%s:%u:", c->connect_host, (unsigned)c->connect_port);
	for (unsigned i = 0; i < found->address_count; i++) {
		const struct resolve_address *a = &found->addresses[i];
		buf_print(&line, a->is_v6 ? "%s[%s]" : "%s%s", i ? "," : "",
			  a->text);
	}
	c->addresses = curl_slist_append(NULL, line.at ? line.at : "");
	return !line.failed && c->addresses;
}

static void set_request(struct http_call *c)
{
	CURL *easy = c->easy;
	curl_easy_setopt(easy, CURLOPT_URL, c->url_text.at);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	/* where the request names none itself */
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "SMS CCM 5.0");
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	/* always set, so that curl never looks into the environment */
	curl_easy_setopt(easy, CURLOPT_PROXY, c->through_proxy ? easy_proxy(c) : "");
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
			 c->request.only_http1 ? (long)CURL_HTTP_VERSION_1_1 :
						 (long)CURL_HTTP_VERSION_2TLS);
	curl_easy_setopt(easy, CURLOPT_PIPEWAIT, c->request.only_http1 ? 0L : 1L);
	if (c->request.connect_only) {
		/* a connection that is there already was judged before */
		curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
		curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
	}
	if (c->request.has_body) {
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
				 (curl_off_t)c->body.len);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
				 c->body.at ? c->body.at : "");
	}
	if (strcmp(c->method, "HEAD") == 0)
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	else if (strcmp(c->method, "GET") != 0)
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, c->method);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, c);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, c->error_text);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, c);
}

bool easy_open(struct http_call *c)
{
	struct http *h = c->http;
	c->easy = h->idle_count ? h->idle[--h->idle_count] : curl_easy_init();
	if (c->easy == NULL || !set_headers(c))
		return false;
	curl_easy_setopt(c->easy, CURLOPT_RESOLVE, c->addresses);
	set_request(c);
	set_tls(c);
	set_limits(c);
	throttle_begin(&c->http->throttle, &c->flow, c->easy,
		       c->request.leg == HTTP_SITE ? PACE_ON_PREM : PACE_CLOUD,
		       c->http->options.stall_timeout_ms);
	return true;
}

void easy_close(struct http_call *c)
{
	struct http *h = c->http;
	CURL *easy = take_ptr(c->easy);
	if (h->idle_count == HTTP_IDLE_MAX) {
		curl_easy_cleanup(easy);
		return;
	}
	curl_easy_reset(easy);
	h->idle[h->idle_count++] = easy;
}

/* --- what curl says, in our words -------------------------------------------- */

static const char *said(const struct http_call *c, CURLcode code)
{
	return c->error_text[0] ? c->error_text : curl_easy_strerror(code);
}

static enum err_code stalled(struct http_call *c, const char *host)
{
	return err_set(&c->response.result, ERR_STALLED,
		       "%s sent next to nothing for %u s", host,
		       c->http->options.stall_timeout_ms / 1000);
}

/* A time-out is one of four: no connection, no TLS, silence, or too long. */
static enum err_code timed_out(struct http_call *c, const char *host)
{
	struct err *e = &c->response.result;
	curl_off_t connected = 0, secured = 0;
	curl_easy_getinfo(c->easy, CURLINFO_CONNECT_TIME_T, &connected);
	curl_easy_getinfo(c->easy, CURLINFO_APPCONNECT_TIME_T, &secured);
	unsigned limit_s = (c->http->options.connect_timeout_ms + 999) / 1000;
	if (connected == 0)
		return err_set(e, ERR_CONNECT, "no connection to %s within %u s",
			       host, limit_s);
	if (c->url.is_https && secured == 0)
		return err_set(e, ERR_TLS_HANDSHAKE,
			       "no TLS handshake with %s within %u s", host,
			       limit_s);
	if (c->deadline_ms && clock_now_ms() >= c->deadline_ms)
		return err_set(e, ERR_DEADLINE, "%s did not finish in time", host);
	return stalled(c, host);
}

static bool wants_client_certificate(const char *text)
{
	return strstr(text, "certificate required") ||
	       strstr(text, "bad certificate") ||
	       strstr(text, "unknown ca");
}

static enum err_code tls_failed(struct http_call *c, CURLcode code,
				const char *host)
{
	struct err *e = &c->response.result;
	const char *text = said(c, code);
	bool is_judged = c->story && c->story->is_judged;
	if (is_judged && c->story->result.code != ERR_OK) {
		*e = c->story->result;
		return err_prefix(e, "%s", host);
	}
	if (c->sink_error.code != ERR_OK) {
		*e = c->sink_error;
		return e->code;
	}
	if (code == CURLE_SSL_CERTPROBLEM || wants_client_certificate(text))
		return err_set(e, ERR_TLS_CLIENT, "%s: %s", host, text);
	if (code == CURLE_PEER_FAILED_VERIFICATION && is_judged)
		return err_set(e, ERR_TLS_NAME, "%s: %s", host, text);
	return err_set(e, ERR_TLS_HANDSHAKE, "no TLS session with %s: %s", host,
		       text);
}

static enum err_code map(struct http_call *c, CURLcode code)
{
	struct err *e = &c->response.result;
	const char *host = c->connect_host, *text = said(c, code);
	/* every code that curl 7.88 can end such a request with; the rest are
	 * defects of ours and say so by number */
	if (code == CURLE_OK)
		return ERR_OK;
	if (code == CURLE_COULDNT_CONNECT)
		return err_set(e, c->through_proxy ? ERR_PROXY : ERR_CONNECT,
			       "connect to %s port %u: %s", host,
			       (unsigned)c->connect_port, text);
	if (code == CURLE_OPERATION_TIMEDOUT)
		return timed_out(c, host);
	if (code == CURLE_ABORTED_BY_CALLBACK && c->flow.is_stalled)
		return stalled(c, host);
	if (code == CURLE_PEER_FAILED_VERIFICATION ||
	    code == CURLE_SSL_CONNECT_ERROR || code == CURLE_SSL_CERTPROBLEM ||
	    code == CURLE_SSL_CIPHER || code == CURLE_ABORTED_BY_CALLBACK)
		return tls_failed(c, code, host);
	if (c->sink_error.code != ERR_OK) {
		*e = c->sink_error;
		return e->code;
	}
	if (code == CURLE_RECV_ERROR && wants_client_certificate(text))
		return err_set(e, ERR_TLS_CLIENT, "%s: %s", host, text);
	/* in TLS 1.3 the refusal may get lost behind the end of the connection */
	if ((code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR ||
	     code == CURLE_GOT_NOTHING) &&
	    c->story && c->story->wants_client && c->response.head.bytes == 0)
		return err_set(e, ERR_TLS_CLIENT, "%s asked for a client certificate, "
			       "got none, and ended the connection: %s", host, text);
	if (code == CURLE_PROXY || code == CURLE_COULDNT_RESOLVE_PROXY)
		return err_set(e, ERR_PROXY, "proxy %s: %s", host, text);
	if (code == CURLE_PARTIAL_FILE || code == CURLE_GOT_NOTHING ||
	    code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR ||
	    code == CURLE_HTTP2 || code == CURLE_HTTP2_STREAM)
		return err_set(e, ERR_BROKEN, "%s: %s", host, text);
	if (code == CURLE_WEIRD_SERVER_REPLY ||
	    code == CURLE_UNSUPPORTED_PROTOCOL ||
	    code == CURLE_BAD_CONTENT_ENCODING || code == CURLE_HTTP_POST_ERROR)
		return err_set(e, ERR_HTTP, "%s: %s", host, text);
	/* what curl says of a line of more than 100 KB, too: then the next source
	 * can help, and so it can where memory is scarce */
	long asked = 0;
	curl_easy_getinfo(c->easy, CURLINFO_REQUEST_SIZE, &asked);
	if (code == CURLE_OUT_OF_MEMORY && asked > 0)
		return err_set(e, ERR_LIMIT, "%s: more than curl takes in one header "
			       "line", host);
	if (code == CURLE_OUT_OF_MEMORY)
		return err_set(e, ERR_NOMEM, "no memory in curl");
	return err_set(e, ERR_HTTP, "%s: %s (curl code %d)", host, text,
		       (int)code);
}

static void note_peer(struct http_call *c)
{
	struct http_response *r = &c->response;
	const char *ip = NULL;
	curl_off_t looked_up = 0, connected = 0;
	long version = 0;
	curl_easy_getinfo(c->easy, CURLINFO_HTTP_VERSION, &version);
	r->is_multiplexed = version == CURL_HTTP_VERSION_2_0;
	if (curl_easy_getinfo(c->easy, CURLINFO_PRIMARY_IP, &ip) == CURLE_OK && ip)
		snprintf(r->address, sizeof(r->address), "%s", ip);
	curl_easy_getinfo(c->easy, CURLINFO_NAMELOOKUP_TIME_T, &looked_up);
	curl_easy_getinfo(c->easy, CURLINFO_CONNECT_TIME_T, &connected);
	if (connected > looked_up)
		r->connect_ms = (unsigned)((connected - looked_up) / 1000);
}

enum err_code easy_ended(struct http_call *c, CURLcode code)
{
	note_peer(c);
	return map(c, code);
}
