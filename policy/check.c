#include "policy/check.h"

#include "common/relpath.h"
#include "common/url.h"
#include "policy/value.h"

#include <sys/un.h>

static bool is_hex_digits(const char *s, size_t n)
{
	return strspn(s, "0123456789abcdefABCDEF") >= n;
}

static enum err_code refuse(struct err *e, const char *must)
{
	return err_set(e, ERR_CONFIG, "must be %s", must);
}

enum err_code check_site_code(const char *value, struct err *e)
{
	if (strlen(value) == 3 &&
	    strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			  "abcdefghijklmnopqrstuvwxyz0123456789") == 3)
		return ERR_OK;
	return refuse(e, "three letters or digits");
}

enum err_code check_client_id(const char *value, struct err *e)
{
	static const size_t groups[] = { 8, 4, 4, 4, 12 };
	bool is_good = strncasecmp(value, "GUID:", 5) == 0;
	const char *at = is_good ? value + 5 : value;
	for (size_t i = 0; is_good && i < 5; i++) {
		is_good = is_hex_digits(at, groups[i]);
		at += is_good ? groups[i] : 0;
		if (is_good && i < 4)
			is_good = *at++ == '-';
	}
	if (is_good && *at == '\0')
		return ERR_OK;
	return refuse(e, "as GUID:4F0E7B1C-0000-4000-8000-123456789ABC");
}

/* RFC 9110 s5.6.2 (token), s5.5: visible ASCII for the value. */
enum err_code check_header(const char *value, struct err *e)
{
	size_t name = strspn(value, "abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789!#$%&'*+-.^_`|~");
	bool is_good = name > 0 && value[name] == ':' && strlen(value) <= 256;
	for (const char *p = value; *p; p++)
		is_good = is_good && (unsigned char)*p >= 0x20 &&
			  (unsigned char)*p < 0x7f;
	return is_good ? ERR_OK : refuse(e, "a header as Authorization: Bearer");
}

static enum err_code parse_web(const char *value, const char *what,
			       struct url *u, struct err *e)
{
	struct err why = { 0 };
	enum err_code rc = url_parse(span_of(value), u, &why);
	if (rc == ERR_NOMEM)
		return err_set(e, rc, "%s", why.text);
	if (rc != ERR_OK)
		return err_set(e, ERR_CONFIG, "must be %s: %s", what, why.text);
	return ERR_OK;
}

enum err_code check_web(const char *value, struct err *e)
{
	autourl u = { 0 };
	enum err_code rc = parse_web(value, "an http or https URL", &u, e);
	if (rc != ERR_OK)
		return rc;
	return u.query ? refuse(e, "a URL without '?'") : ERR_OK;
}

enum err_code check_host(const char *value, struct err *e)
{
	return url_is_hostname(span_of(value)) ?
	       ERR_OK : refuse(e, "a host name as example.net (no '*', no port, "
			       "no leading dot)");
}

enum err_code check_label(const char *value, struct err *e)
{
	return strlen(value) <= 64 ? ERR_OK : refuse(e, "a name of 1 to 64 bytes");
}

enum err_code check_bypass(const char *value, struct err *e)
{
	const char *bare = value[0] == '.' ? value + 1 : value;
	if (strcmp(value, "*") == 0 || url_is_ip(span_of(value)) ||
	    url_is_hostname(span_of(bare)))
		return ERR_OK;
	return refuse(e, "a host name, a suffix as .example.net, an address or *");
}

enum err_code check_proxy(const char *value, struct err *e)
{
	if (strcmp(value, "none") == 0)
		return ERR_OK;
	autourl u = { 0 };
	return parse_web(value, "none or the URL of an http proxy", &u, e);
}

enum err_code check_dns_server(const char *value, struct err *e)
{
	struct span host = span_of(value), port = { "53", 2 };
	const char *colon = strrchr(value, ':'), *end = strchr(value, ']');
	uint64_t n = 0;
	if (value[0] == '[' && end) {
		host = (struct span){ value + 1, (size_t)(end - value) - 1 };
		if (end[1] == ':')
			port = span_of(end + 2);
		else if (end[1])
			port.len = 0;
	} else if (colon && strchr(value, ':') == colon) { /* not IPv6 */
		host.len = (size_t)(colon - value);
		port = span_of(colon + 1);
	}
	if (!url_is_ip(host) || (value[0] == '[' && !memchr(host.at, ':', host.len)) ||
	    !value_number(port, &n) || n < 1 || n > 65535)
		return refuse(e, "an address as 192.0.2.53, 192.0.2.53:5353 or "
			      "[2001:db8::53]:5353");
	return ERR_OK;
}

enum err_code check_policy_source(const char *value, struct err *e)
{
	if (strstr(value, "://") == NULL)
		return ERR_OK; /* a path, or "mp" */
	autourl u = { 0 };
	enum err_code rc = parse_web(value, "a path, an https URL or mp", &u, e);
	if (rc == ERR_OK && !u.is_https)
		return refuse(e, "a file, a folder, an https URL or mp");
	return rc;
}

enum err_code check_socket(const char *value, struct err *e)
{
	struct sockaddr_un a;
	if (strlen(value) < sizeof(a.sun_path))
		return ERR_OK;
	return err_set(e, ERR_CONFIG, "must be shorter than %zu bytes",
		       sizeof(a.sun_path));
}

enum err_code check_file_name(const char *value, struct err *e)
{
	struct err why = { 0 };
	if (strchr(value, '/'))
		return refuse(e, "the name of a file beside the policy file, "
			      "without '/'");
	if (relpath_check(span_of(value), &why) != ERR_OK)
		return err_set(e, ERR_CONFIG, "must be a file name: %s", why.text);
	return ERR_OK;
}
