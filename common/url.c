#include "common/url.h"

#include "common/own.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <stdlib.h>

/* Longest label of a host name, bytes (RFC 1035 s2.3.4). */
#define LABEL_MAX 63

static void own_handle(CURLU **h)
{
	curl_url_cleanup(*h); /* NULL is fine */
}
#define autohandle __attribute__((cleanup(own_handle))) CURLU

static void own_part(char **part)
{
	curl_free(*part);
}
#define autopart __attribute__((cleanup(own_part))) char

/* ctype functions of the C locale: the agent never calls setlocale(). */
static bool is_alnum(char c)
{
	return isalnum((unsigned char)c) != 0;
}

void url_free(struct url *u)
{
	if (u == NULL)
		return;
	free(u->path);
	free(u->query);
	*u = (struct url){ 0 };
}

bool url_is_ip(struct span host)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr bytes;
	if (host.len == 0 || host.len >= sizeof(text) ||
	    memchr(host.at, 0, host.len))
		return false;
	memcpy(text, host.at, host.len);
	text[host.len] = '\0';
	return inet_pton(AF_INET, text, &bytes) == 1 ||
	       inet_pton(AF_INET6, text, &bytes) == 1;
}

/* All digits, or "0x" and hexadecimal digits. */
static bool is_number(struct span label)
{
	bool is_hex = span_begins_nocase(label, "0x");
	for (size_t i = is_hex ? 2 : 0; i < label.len; i++) {
		unsigned char c = (unsigned char)label.at[i];
		if (is_hex ? !isxdigit(c) : !isdigit(c))
			return false;
	}
	return true;
}

static bool is_label(struct span label)
{
	if (label.len < 1 || label.len > LABEL_MAX ||
	    label.at[0] == '-' || label.at[label.len - 1] == '-')
		return false;
	for (size_t i = 0; i < label.len; i++) {
		char c = label.at[i];
		if (!is_alnum(c) && c != '-' && c != '_')
			return false;
	}
	return true;
}

bool url_is_hostname(struct span host)
{
	struct span label = { 0 };
	if (host.len && host.at[host.len - 1] == '.')
		host.len--;
	if (host.len == 0 || host.len > URL_HOST_MAX ||
	    host.at[host.len - 1] == '.')
		return false;
	while (span_split(&host, '.', &label))
		if (!is_label(label))
			return false;
	/* inet_aton() and its many users read "1", "1.2" and "0x7f.1" as IPv4
	 * addresses: what ends in a number is no name (WHATWG URL s3.5). */
	return !is_number(label);
}

/* Everything that can be said of the text before it is taken apart. */
static enum err_code check_text(struct span text, struct err *e)
{
	if (text.len == 0)
		return err_set(e, ERR_USAGE, "the URL is empty");
	if (text.len > URL_MAX)
		return err_set(e, ERR_USAGE, "the URL is longer than %d bytes",
			       URL_MAX);
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.at[i];
		/* RFC 3986 s2 has none of these; {|}^` are met in the field and
		 * harm nobody. */
		if (c <= ' ' || c >= 0x7f || strchr("\\\"<>", c))
			return err_set(e, ERR_USAGE,
				       "the URL holds the byte 0x%02x", c);
		if (c == '#')
			return err_set(e, ERR_USAGE, "the URL has a fragment");
		if (c == '%' && (i + 2 >= text.len ||
				 !isxdigit((unsigned char)text.at[i + 1]) ||
				 !isxdigit((unsigned char)text.at[i + 2])))
			return err_set(e, ERR_USAGE,
				       "the URL has a %% without two digits");
	}
	return ERR_OK;
}

/* Scheme and authority: *authority is what stands between "//" and the path. */
static enum err_code check_origin(struct span text, struct url *u,
				  struct span *authority, struct err *e)
{
	u->is_https = span_begins_nocase(text, "https://");
	if (!u->is_https && !span_begins_nocase(text, "http://"))
		return err_set(e, ERR_USAGE,
			       "the URL begins neither with http:// nor https://");
	*authority = span_after(text, u->is_https ? 8 : 7);
	size_t len = 0;
	while (len < authority->len && !strchr("/?", authority->at[len]))
		len++;
	authority->len = len;
	if (len == 0)
		return err_set(e, ERR_USAGE, "the URL has no host");
	if (memchr(authority->at, '@', len))
		return err_set(e, ERR_USAGE, "the URL has a user part");
	return ERR_OK;
}

/* IPv6 in brackets: normalised, so that equal addresses are equal texts. */
static enum err_code take_ipv6(struct url *u, char *host, struct err *e)
{
	struct in6_addr bytes;
	size_t len = strlen(host);
	if (len < 3 || host[len - 1] != ']')
		return err_set(e, ERR_USAGE, "the URL has a broken IPv6 address");
	host[len - 1] = '\0';
	if (inet_pton(AF_INET6, host + 1, &bytes) != 1 ||
	    inet_ntop(AF_INET6, &bytes, u->host, sizeof(u->host)) == NULL)
		return err_set(e, ERR_USAGE, "the URL has a broken IPv6 address");
	u->is_ip = true;
	return ERR_OK;
}

/*
 * curl undoes percent-encoding in hosts and rewrites "0x7f.1" into 127.0.0.1.
 * A host that is not spelled in the text as it will be used is refused, so
 * that nobody who looks at the URL sees another host than the one we ask.
 */
static enum err_code take_host(struct url *u, char *host, struct span authority,
			       struct err *e)
{
	if (host[0] == '[')
		return take_ipv6(u, host, e);
	size_t len = strlen(host);
	if (!span_begins_nocase(authority, host) ||
	    (authority.len > len && authority.at[len] != ':'))
		return err_set(e, ERR_USAGE, "the URL hides its host");
	struct span name = { host, len };
	u->is_ip = url_is_ip(name);
	if (!u->is_ip && !url_is_hostname(name))
		return err_set(e, ERR_USAGE, "the URL has an impossible host");
	if (host[len - 1] == '.')
		len--;
	for (size_t i = 0; i < len; i++)
		u->host[i] = (char)tolower((unsigned char)host[i]);
	u->host[len] = '\0';
	return ERR_OK;
}

static enum err_code take_port(struct url *u, CURLU *h, struct err *e)
{
	autopart *text = NULL;
	unsigned long port = 0;
	if (curl_url_get(h, CURLUPART_PORT, &text, CURLU_DEFAULT_PORT) != CURLUE_OK)
		return err_set(e, ERR_USAGE, "the URL has an impossible port");
	for (const char *c = text; *c; c++) /* curl lets digits pass only */
		port = port * 10 + (unsigned long)(*c - '0');
	if (port < 1 || port > UINT16_MAX)
		return err_set(e, ERR_USAGE, "the URL has an impossible port");
	u->port = (uint16_t)port;
	return ERR_OK;
}

/* Path and query of the handle, as given. */
static enum err_code take_rest(struct url *u, CURLU *h, struct err *e)
{
	autopart *path = NULL;
	autopart *query = NULL;
	if (curl_url_get(h, CURLUPART_PATH, &path, 0) != CURLUE_OK || !path)
		return err_set(e, ERR_NOMEM, "parse URL: out of memory");
	CURLUcode code = curl_url_get(h, CURLUPART_QUERY, &query, 0);
	if (code != CURLUE_OK && code != CURLUE_NO_QUERY)
		return err_set(e, ERR_NOMEM, "parse URL: out of memory");
	u->path = strdup(path[0] ? path : "/");
	u->query = query ? strdup(query) : NULL;
	if (u->path == NULL || (query && u->query == NULL))
		return err_set(e, ERR_NOMEM, "parse URL: out of memory");
	return ERR_OK;
}

static enum err_code take_parts(struct span text, struct url *u, struct err *e)
{
	struct span authority = { 0 };
	enum err_code rc = check_text(text, e);
	if (rc == ERR_OK)
		rc = check_origin(text, u, &authority, e);
	if (rc != ERR_OK)
		return rc;
	autohandle *h = curl_url();
	autofree char *copy = strndup(text.at, text.len);
	autopart *host = NULL;
	autopart *zone = NULL;
	if (h == NULL || copy == NULL)
		return err_set(e, ERR_NOMEM, "parse URL: out of memory");
	CURLUcode code = curl_url_set(h, CURLUPART_URL, copy,
				      CURLU_PATH_AS_IS | CURLU_DISALLOW_USER);
	if (code == CURLUE_OK)
		code = curl_url_get(h, CURLUPART_HOST, &host, 0);
	if (code == CURLUE_OUT_OF_MEMORY)
		return err_set(e, ERR_NOMEM, "parse URL: out of memory");
	if (code != CURLUE_OK || host == NULL || host[0] == '\0')
		return err_set(e, ERR_USAGE, "the URL is malformed: %s",
			       curl_url_strerror(code));
	if (curl_url_get(h, CURLUPART_ZONEID, &zone, 0) == CURLUE_OK)
		return err_set(e, ERR_USAGE, "the URL has an IPv6 zone");
	rc = take_host(u, host, authority, e);
	if (rc == ERR_OK)
		rc = take_port(u, h, e);
	return rc == ERR_OK ? take_rest(u, h, e) : rc;
}

enum err_code url_parse(struct span text, struct url *out, struct err *e)
{
	*out = (struct url){ 0 };
	enum err_code rc = take_parts(text, out, e);
	if (rc != ERR_OK)
		url_free(out);
	return rc;
}

void url_print(const struct url *u, struct buf *out)
{
	bool is_ipv6 = strchr(u->host, ':') != NULL;
	buf_print(out, "%s://%s%s%s", u->is_https ? "https" : "http",
		  is_ipv6 ? "[" : "", u->host, is_ipv6 ? "]" : "");
	if (u->port != (u->is_https ? 443 : 80))
		buf_print(out, ":%u", u->port);
	buf_text(out, u->path ? u->path : "/");
	if (u->query) {
		buf_char(out, '?');
		buf_text(out, u->query);
	}
}

/* "ftp:x" has a scheme, "a/b:c" has none (RFC 3986 s4.2). */
static bool has_scheme(struct span s)
{
	size_t i = 0;
	while (i < s.len && (is_alnum(s.at[i]) || strchr("+-.", s.at[i])))
		i++;
	return i > 0 && i < s.len && s.at[i] == ':' &&
	       isalpha((unsigned char)s.at[0]);
}

/* Let curl resolve `reference`, already checked, against `base`. */
static enum err_code join_text(const char *base, const char *reference,
			       struct buf *out, struct err *e)
{
	autohandle *h = curl_url();
	autopart *joined = NULL;
	if (h == NULL)
		return err_set(e, ERR_NOMEM, "join URL: out of memory");
	CURLUcode code = curl_url_set(h, CURLUPART_URL, base, 0);
	if (code == CURLUE_OK && reference[0])
		code = curl_url_set(h, CURLUPART_URL, reference, 0);
	if (code == CURLUE_OK)
		code = curl_url_get(h, CURLUPART_URL, &joined, 0);
	if (code == CURLUE_OUT_OF_MEMORY)
		return err_set(e, ERR_NOMEM, "join URL: out of memory");
	if (code != CURLUE_OK || joined == NULL)
		return err_set(e, ERR_USAGE, "the URL reference is malformed: %s",
			       curl_url_strerror(code));
	buf_text(out, joined);
	return ERR_OK;
}

enum err_code url_join(const struct url *base, struct span reference,
		       struct url *out, struct err *e)
{
	autobuf from = { .max = 2 * URL_MAX };
	autobuf to = { .max = 4 * URL_MAX };
	autobuf joined = { .max = 4 * URL_MAX };
	enum err_code rc;
	*out = (struct url){ 0 };
	url_print(base, &from);
	/* "//host/path" takes only our scheme. */
	if (span_begins_nocase(reference, "//"))
		buf_text(&to, base->is_https ? "https:" : "http:");
	if (reference.len > URL_MAX)
		return err_set(e, ERR_USAGE, "the URL is longer than %d bytes",
			       URL_MAX);
	buf_span(&to, reference);
	if (to.failed || from.failed)
		return err_set(e, ERR_NOMEM, "join URL: out of memory");
	struct span text = buf_as_span(&to);
	if (text.len) {
		rc = check_text(text, e);
		/* An authority is judged as it stands, before curl polishes it. */
		if (rc == ERR_OK && has_scheme(text)) {
			autourl seen = { 0 };
			rc = url_parse(text, &seen, e);
		}
		if (rc != ERR_OK)
			return rc;
	}
	rc = join_text(from.at, text.at, &joined, e);
	if (rc != ERR_OK)
		return rc;
	if (joined.failed)
		return err_set(e, ERR_NOMEM, "join URL: out of memory");
	return url_parse(buf_as_span(&joined), out, e);
}

void url_encode_path(struct span path, struct buf *out)
{
	for (size_t i = 0; i < path.len; i++) {
		char c = path.at[i];
		if (is_alnum(c) || (c && strchr("-._~/", c)))
			buf_char(out, c);
		else
			buf_print(out, "%%%02X", (unsigned char)c);
	}
}

static int hex_value(char c)
{
	const char *digits = "0123456789abcdef";
	const char *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;
	return at ? (int)(at - digits) : -1;
}

int url_decode_byte(struct span text, size_t i)
{
	if (text.len - i < 3 || text.at[i] != '%')
		return -1;
	int high = hex_value(text.at[i + 1]), low = hex_value(text.at[i + 2]);
	return high < 0 || low < 0 ? -1 : high * 16 + low;
}

bool url_decode(struct span text, struct buf *out)
{
	for (size_t i = 0; i < text.len; i++) {
		if (text.at[i] != '%') {
			buf_char(out, text.at[i]);
			continue;
		}
		int byte = url_decode_byte(text, i);
		if (byte <= 0)
			return false;
		buf_char(out, (char)byte);
		i += 2;
	}
	return !out->failed;
}

bool url_same_origin(const struct url *a, const struct url *b)
{
	return a->is_https == b->is_https && a->port == b->port &&
	       strcmp(a->host, b->host) == 0;
}

bool url_host_within(const char *name, const char *suffix)
{
	struct span n = span_of(name), s = span_of(suffix);
	if (s.len && s.at[0] == '.')
		s = span_after(s, 1);
	if (s.len && s.at[s.len - 1] == '.')
		s.len--;
	if (n.len && n.at[n.len - 1] == '.')
		n.len--;
	if (s.len == 0 || n.len < s.len ||
	    strncasecmp(n.at + n.len - s.len, s.at, s.len) != 0)
		return false;
	if (n.len == s.len)
		return true;
	/* 10.1.2.3 is not "below" 2.3. */
	return n.at[n.len - s.len - 1] == '.' && !url_is_ip(n);
}
