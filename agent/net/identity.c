#include "agent/net/identity.h"

#include "agent/net/ccm.h"

#include <stdlib.h>

/* OpenSSL has an old type of this name; here it is our error code. */
#define ERR_STATE OPENSSL_ERR_STATE
#include <openssl/cms.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#undef ERR_STATE

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192
#define SIGNATURE_MAX (RSA_BITS_MAX / 8)

struct identity {
	EVP_PKEY *key;
	X509 *certificate;
	struct buf public_key, der; /* hex */
};

static void own_bio(BIO **b)
{
	BIO_free(*b);
}
static void own_cms(CMS_ContentInfo **c)
{
	CMS_ContentInfo_free(*c);
}
static void own_digest_ctx(EVP_MD_CTX **c)
{
	EVP_MD_CTX_free(*c);
}
static void own_number(BIGNUM **n)
{
	BN_free(*n);
}
#define autobio __attribute__((cleanup(own_bio))) BIO
#define autocms __attribute__((cleanup(own_cms))) CMS_ContentInfo
#define autoctx __attribute__((cleanup(own_digest_ctx))) EVP_MD_CTX
#define autonumber __attribute__((cleanup(own_number))) BIGNUM

/* The identity is ours: that it cannot be used is no fault of a peer. */
static enum err_code broken(struct err *e, const char *what)
{
	const char *why = ERR_reason_error_string(ERR_peek_last_error());
	err_set(e, ERR_INTERNAL, "client identity: %s%s%s", what, why ? ": " : "",
		why ? why : "");
	ERR_clear_error();
	return e->code;
}

static void add_hex(struct buf *out, const unsigned char *bytes, size_t len)
{
	static const char digits[] = "0123456789ABCDEF";
	for (size_t i = 0; i < len; i++) {
		buf_char(out, digits[bytes[i] >> 4]);
		buf_char(out, digits[bytes[i] & 15]);
	}
}

static void reverse(unsigned char *bytes, size_t len)
{
	for (size_t i = 0; i < len / 2; i++) {
		unsigned char b = bytes[i];
		bytes[i] = bytes[len - 1 - i];
		bytes[len - 1 - i] = b;
	}
}

/* --- life ---------------------------------------------------------------- */

void identity_free(struct identity *i)
{
	if (i == NULL)
		return;
	EVP_PKEY_free(i->key);
	X509_free(i->certificate);
	buf_free(&i->public_key);
	buf_free(&i->der);
	free(i);
}

static void add_le32(unsigned char *at, uint32_t n)
{
	for (int i = 0; i < 4; i++, n >>= 8)
		at[i] = (unsigned char)(n & 0xff);
}

/* PUBLICKEYBLOB: docs/wire.md 2.4 */
static enum err_code print_blob(struct identity *i, struct err *e)
{
	unsigned char blob[20 + RSA_BITS_MAX / 8] = {
		0x06, 0x02, 0, 0, 0x00, 0xa4, 0, 0, 'R', 'S', 'A', '1',
	};
	autonumber *n = NULL, *exponent = NULL;
	int bits = EVP_PKEY_get_bits(i->key);
	if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
		return err_set(e, ERR_CONFIG, "client identity: an RSA key of %d bits",
			       bits);
	int len = (bits + 7) / 8;
	if (EVP_PKEY_get_bn_param(i->key, OSSL_PKEY_PARAM_RSA_N, &n) != 1 ||
	    EVP_PKEY_get_bn_param(i->key, OSSL_PKEY_PARAM_RSA_E, &exponent) != 1 ||
	    BN_num_bits(exponent) > 32 || BN_bn2lebinpad(n, blob + 20, len) != len)
		return broken(e, "public key");
	add_le32(blob + 12, (uint32_t)bits);
	add_le32(blob + 16, (uint32_t)BN_get_word(exponent));
	add_hex(&i->public_key, blob, 20 + (size_t)len);
	return ERR_OK;
}

static enum err_code print_certificate(struct identity *i, struct err *e)
{
	unsigned char *der = NULL;
	int len = i2d_X509(i->certificate, &der);
	if (len <= 0)
		return broken(e, "certificate");
	add_hex(&i->der, der, (size_t)len);
	OPENSSL_free(der);
	return ERR_OK;
}

/* A key with a password is none of ours: do not ask a terminal for it. */
static int no_password(char *out, int size, int is_writing, void *arg)
{
	(void)out, (void)size, (void)is_writing, (void)arg;
	return -1;
}

static enum err_code load(struct identity *i, struct span pem, struct err *e)
{
	autobio *keys = BIO_new_mem_buf(pem.at, (int)pem.len);
	autobio *certificates = BIO_new_mem_buf(pem.at, (int)pem.len);
	if (keys == NULL || certificates == NULL)
		return err_set(e, ERR_NOMEM, "client identity: no memory");
	i->key = PEM_read_bio_PrivateKey(keys, NULL, no_password, NULL);
	i->certificate = PEM_read_bio_X509(certificates, NULL, no_password, NULL);
	ERR_clear_error();
	if (i->key == NULL || i->certificate == NULL)
		return err_set(e, ERR_CONFIG, "client identity: no %s in it",
			       i->key ? "certificate" : "private key");
	if (!EVP_PKEY_is_a(i->key, "RSA"))
		return err_set(e, ERR_CONFIG, "client identity: no RSA key");
	if (X509_check_private_key(i->certificate, i->key) != 1) {
		ERR_clear_error();
		return err_set(e, ERR_CONFIG, "client identity: the certificate is "
			       "for another key");
	}
	return ERR_OK;
}

struct identity *identity_new(struct span pem, struct err *e)
{
	struct identity *i = calloc(1, sizeof(*i));
	if (i == NULL) {
		err_set(e, ERR_NOMEM, "client identity: no memory");
		return NULL;
	}
	if (load(i, pem, e) == ERR_OK && print_blob(i, e) == ERR_OK &&
	    print_certificate(i, e) == ERR_OK) {
		if (!i->public_key.failed && !i->der.failed)
			return i;
		err_set(e, ERR_NOMEM, "client identity: no memory");
	}
	identity_free(i);
	return NULL;
}

struct span identity_public_key(const struct identity *i)
{
	return buf_as_span(&i->public_key);
}

struct span identity_certificate(const struct identity *i)
{
	return buf_as_span(&i->der);
}

/* --- signing ------------------------------------------------------------- */

enum err_code identity_sign(const struct identity *i, struct span bytes,
			    struct buf *hex, struct err *e)
{
	unsigned char signature[SIGNATURE_MAX];
	size_t len = sizeof(signature);
	autoctx *ctx = EVP_MD_CTX_new();
	if (ctx == NULL)
		return err_set(e, ERR_NOMEM, "sign: no memory");
	/* PKCS#1 v1.5 is what EVP does with an RSA key that is told nothing else */
	if (EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, i->key) != 1 ||
	    EVP_DigestSign(ctx, signature, &len, (const unsigned char *)bytes.at,
			   bytes.len) != 1)
		return broken(e, "sign");
	reverse(signature, len);
	add_hex(hex, signature, len);
	return hex->failed ? err_set(e, ERR_NOMEM, "sign: no memory") : ERR_OK;
}

enum err_code identity_sign_text(const struct identity *i, struct span text,
				 bool with_nul, struct buf *hex, struct err *e)
{
	autobuf wide = { 0 };
	enum err_code rc = ccm_utf8_to_utf16(text, &wide, e);
	if (with_nul)
		buf_add(&wide, "\0", 2);
	if (rc == ERR_OK && wide.failed)
		rc = err_set(e, ERR_NOMEM, "sign: no memory");
	return rc == ERR_OK ? identity_sign(i, buf_as_span(&wide), hex, e) : rc;
}

/* --- opening ------------------------------------------------------------- */

bool identity_is_sealed(struct span bytes)
{
	/* SEQUENCE with a length of two or more bytes, or of indefinite length; a
	 * text, of one byte a character or of two, does not go on so */
	return bytes.len > 2 && bytes.at[0] == 0x30 &&
	       ((unsigned char)bytes.at[1] & 0x80);
}

static enum err_code refuse(struct err *e, const char *why)
{
	ERR_clear_error();
	return err_set(e, ERR_MP_REPLY, "sealed body: %s", why);
}

enum err_code identity_open(const struct identity *i, struct span cms,
			    struct buf *out, struct err *e)
{
	const unsigned char *at = (const unsigned char *)cms.at;
	autocms *message = d2i_CMS_ContentInfo(NULL, &at, (long)cms.len);
	autobio *clear = BIO_new(BIO_s_mem());
	char *bytes = NULL;
	if (clear == NULL)
		return err_set(e, ERR_NOMEM, "sealed body: no memory");
	if (message == NULL ||
	    OBJ_obj2nid(CMS_get0_type(message)) != NID_pkcs7_enveloped)
		return refuse(e, "it is no CMS EnvelopedData");
	if (CMS_decrypt(message, i->key, i->certificate, NULL, clear, 0) != 1)
		return refuse(e, "it cannot be opened with the key of this client");
	ERR_clear_error();
	long len = BIO_get_mem_data(clear, &bytes);
	buf_add(out, bytes, len > 0 ? (size_t)len : 0);
	return out->failed ? refuse(e, "it is too long") : ERR_OK;
}
