#ifndef AGENT_NET_IDENTITY_H
#define AGENT_NET_IDENTITY_H

#include "common/buf.h"
#include "common/err.h"
#include "common/span.h"

#include <stdbool.h>

/*
 * The key and certificate by which a site knows this client (WIRE_FILE_IDENTITY;
 * docs/wire.md 2.4, 2.5). The one place of the net role that holds a private key
 * of its own; it never leaves the process.
 */
struct identity;

/*
 * From PEM: one private key (RSA) and the certificate that goes with it. To be
 * done before the sandbox closes. ERR_CONFIG with the reason. Returns owned.
 */
struct identity *identity_new(struct span pem, struct err *e);
void identity_free(struct identity *i); /* NULL is fine */

/*
 * Sign as CryptoAPI does: RSASSA-PKCS1-v1_5 (RFC 8017 s8.2) with SHA-256, octets
 * reversed, upper-case hex behind what `hex` holds. ERR_INTERNAL, ERR_NOMEM.
 */
enum err_code identity_sign(const struct identity *i, struct span bytes,
			    struct buf *hex, struct err *e);
/* The same over UTF-16LE of `text`, and of one NUL behind it where asked for. */
enum err_code identity_sign_text(const struct identity *i, struct span text,
				 bool with_nul, struct buf *hex, struct err *e);

/* Upper-case hex: CryptoAPI's PUBLICKEYBLOB; the certificate as DER. Borrowed. */
struct span identity_public_key(const struct identity *i);
struct span identity_certificate(const struct identity *i);

/* Do the bytes begin as DER does, and not as a text? */
bool identity_is_sealed(struct span bytes);
/*
 * Open a CMS EnvelopedData (RFC 5652 s6) for our certificate: key by RSA PKCS#1
 * v1.5 or OAEP, content by 3DES or AES in CBC mode. ERR_MP_REPLY, one text for
 * whatever is wrong inside; out->max is the bound. Nobody on the network hears how
 * it went: nothing is answered, and a failure is not tried again (docs/wire.md 8.2).
 */
enum err_code identity_open(const struct identity *i, struct span cms,
			    struct buf *out, struct err *e);

#endif
