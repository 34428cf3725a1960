/* Who the clients of the site are: their certificates, and what these prove. */
#ifndef LAB_MP_IDENTITY_H
#define LAB_MP_IDENTITY_H

#include "buf.h"

#include <openssl/x509.h>

enum { SMSID_SIZE = 48 };

/* A client that is registered. Zero is: none. */
struct client {
	char smsid[SMSID_SIZE];         /* GUID:<upper-case guid> */
	X509 *signing, *encryption;     /* owned */
};

/* `text` as GUID:<upper-case guid>; false when it has another form. */
bool smsid_read(char out[SMSID_SIZE], const char *text);

/*
 * Clients live in DIR/clients: <guid>.der, and <guid>.encryption.der when that
 * certificate is another one.
 */
bool client_load(struct client *c, const char *dir, const char *smsid);
bool client_keep(const struct client *c, const char *dir);
void client_free(struct client *c);

/*
 * The certificate that a registration may carry (protocol.md 2.4): DER in hex, RSA
 * 2048, SHA-256, signed by itself, key usage for signing and data, extended usage
 * `usage` (an OID). NULL with the reason.
 */
X509 *identity_certificate(const char *hex, const char *usage, struct buf *why);
/* Is it valid at this time? */
bool identity_is_current(const X509 *crt);
/* Is it the same? */
bool identity_is_same(const X509 *a, const X509 *b);
/* The id that the site gives to whoever registers with this certificate. */
void identity_smsid(X509 *crt, char out[SMSID_SIZE]);

/*
 * The primitive of protocol.md 2.3: RSASSA-PKCS1-v1_5 with SHA-256, octets
 * reversed, upper-case hex. false with the reason.
 */
bool identity_verify(X509 *crt, const char *hex, const void *data, size_t n,
	struct buf *why);
/* PUBLICKEYBLOB of CryptoAPI in upper-case hex. */
void identity_blob(X509 *crt, struct buf *hex);

struct envelope {
	bool is_oaep;           /* with SHA-1; else PKCS #1 v1.5 */
	bool is_aes;            /* 256 bits, CBC; else 3DES CBC */
};
/* CMS EnvelopedData, DER, for this certificate. */
void identity_seal(X509 *crt, struct envelope how, const struct buf *in,
	struct buf *out);

/* Upper-case hex of the SHA-256. */
void identity_digest(const void *data, size_t n, struct buf *hex);
/* false when `text` is not an even number of hex digits. */
bool hex_read(const char *text, struct buf *out);
void hex_write(const void *data, size_t n, struct buf *out);

#endif
