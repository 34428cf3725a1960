#ifndef COMMON_URL_H
#define COMMON_URL_H

#include "common/buf.h"
#include "common/err.h"
#include "common/span.h"

#include <stdbool.h>
#include <stdint.h>

#define URL_MAX 4096 /* bytes of a whole URL */
#define URL_HOST_MAX 253

/*
 * A URL, strictly (RFC 3986 by curl's URL API, then our own rules): http or
 * https only, no user part, no fragment, host from letters, digits, '-', '_'
 * and '.', or an IP literal; no control characters or spaces; a trailing dot
 * of the host is taken off; the host is lower-cased.
 */
struct url {
	bool is_https;
	bool is_ip;      /* host is an address; IPv6 stands without brackets */
	char host[URL_HOST_MAX + 1];
	uint16_t port;   /* explicit or the scheme's default */
	char *path;      /* owned; as given, percent-encoded, begins with '/' */
	char *query;     /* owned; as given, without '?'; NULL = none */
};

enum err_code url_parse(struct span text, struct url *out, struct err *e);
void url_free(struct url *u); /* zero is fine */
static inline void own_url(struct url *u)
{
	url_free(u);
}
#define autourl __attribute__((cleanup(own_url))) struct url

/* "https://host:port" + path + "?query"; the port only where it is not the
 * scheme's default. IPv6 in brackets. */
void url_print(const struct url *u, struct buf *out);

/*
 * Resolve a reference against a base (RFC 3986 s5), for redirects and hrefs.
 * Errors as url_parse.
 */
enum err_code url_join(const struct url *base, struct span reference,
		       struct url *out, struct err *e);

/* Percent-encode all but unreserved characters and '/'. */
void url_encode_path(struct span path, struct buf *out);
/* Percent-decode; false on "%" without two hex digits or on %00. */
bool url_decode(struct span text, struct buf *out);
/* The byte for which "%XX" at text.at[i] stands; -1 where there is none. */
int url_decode_byte(struct span text, size_t i);

/* Same scheme, host and port? */
bool url_same_origin(const struct url *a, const struct url *b);

/*
 * Is `host` (1..253 bytes; a trailing dot is allowed) a DNS host name?
 * Labels of 1..63 letters, digits, '-', '_' (RFC 1123 s2.1, '_' seen in the
 * field). An IP literal is no host name.
 */
bool url_is_hostname(struct span host);
bool url_is_ip(struct span host);

/* Is `name` equal to `suffix` or below it, by whole labels, ASCII case folded? */
bool url_host_within(const char *name, const char *suffix);

#endif
