#ifndef AGENT_NET_VERIFY_H
#define AGENT_NET_VERIFY_H

#include "agent/net/story.h"
#include "common/err.h"
#include "common/span.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * May this server be trusted to be `name`? The one place that judges chains,
 * for connections and for --check-chain alike (docs/security.md, certificates;
 * RFC 5280 s6, RFC 6125 s6.4, RFC 9110 s4.3.4).
 *
 * The name is the Service FQDN, never an alias target. SAN only, no common
 * name; wildcards only as the whole leftmost label. The chain must end in a
 * configured anchor that is self-signed: no partial chains. TLS 1.2 or better,
 * security and auth level 2 (`strict`; `standard`: level 1 and without
 * X509_V_FLAG_X509_STRICT and the profile check, for sloppy internal CAs; SAN,
 * EKU and whole chain are demanded all the same).
 */
struct verify; /* trust anchors, CRLs, client certificate; immutable */

enum verify_revocation { VERIFY_CRL_OFF, VERIFY_CRL_LEAF, VERIFY_CRL_CHAIN };

struct verify_options {
	struct span ca_pem;  /* at least one certificate */
	struct span crl_pem; /* may be empty */
	bool is_strict;
	enum verify_revocation revocation;
	unsigned tls_minimum; /* 12 or 13 */
	struct span client_cert_pem, client_key_pem; /* both or none */
};

/* Texts are parsed here, nothing borrowed afterwards. ERR_CONFIG when a file
 * holds nothing usable, a key does not fit its certificate, or revocation is on
 * without a CRL. Returns owned. */
struct verify *verify_new(const struct verify_options *options, struct err *e);
void verify_free(struct verify *v);

/*
 * Prepare an SSL_CTX (from CURLOPT_SSL_CTX_FUNCTION) for a connection to
 * `name`: anchors, flags, levels, version, name or IP check, and a certificate
 * verify callback which writes *story. The story must outlive the connection
 * attempt, v the connection. offer_client: present the client certificate when
 * asked, be it by renegotiation or after the handshake, as IIS does; without it
 * neither is allowed. `name` without brackets, a trailing dot is ignored; an
 * address is judged as one whatever is_ip says. One call for one SSL_CTX, one
 * SSL_CTX for one connection. ERR_INTERNAL when OpenSSL refuses a setting or
 * `name` is no host name, TLS_CLIENT when it refuses the client certificate:
 * then the connection must not be made.
 */
enum err_code verify_install(const struct verify *v, void *ssl_ctx,
			     const char *name, bool is_ip, bool offer_client,
			     struct verify_story *story, struct err *e);

/*
 * Judge a PEM chain (leaf first, any number of untrusted ones behind) for
 * `name` at `at_s` (epoch; INT64_MIN = now) by the very same function. name
 * NULL: no name to judge (tests only). Returns story->result.code.
 * ERR_INPUT: the PEM cannot be read; ERR_INTERNAL: `name` is no host name.
 */
enum err_code verify_pem(const struct verify *v, struct span chain_pem,
			 const char *name, bool is_ip, int64_t at_s,
			 struct verify_story *story);

#endif
