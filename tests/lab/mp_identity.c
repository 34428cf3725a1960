#include "mp_identity.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/cms.h>
#include <openssl/core_names.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t keep_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- text ---- */

static int digit(char c)
{
	const char *all = "0123456789ABCDEF";
	const char *at = strchr(all, toupper((unsigned char)c));

	return c && at ? (int)(at - all) : -1;
}

bool hex_read(const char *text, struct buf *out)
{
	for (; *text; text += 2) {
		int high = digit(text[0]), low = high < 0 ? -1 : digit(text[1]);
		if (low < 0)
			return false;
		unsigned char c = (unsigned char)(high * 16 + low);
		buf_add(out, &c, 1);
	}
	return true;
}

void hex_write(const void *data, size_t n, struct buf *out)
{
	const unsigned char *p = data;
	char *text = must_alloc(2 * n + 1);

	for (size_t i = 0; i < n; i++) {
		text[2 * i] = "0123456789ABCDEF"[p[i] >> 4];
		text[2 * i + 1] = "0123456789ABCDEF"[p[i] & 15];
	}
	buf_add(out, text, 2 * n);
	free(text);
}

void identity_digest(const void *data, size_t n, struct buf *hex)
{
	unsigned char digest[SHA256_DIGEST_LENGTH];

	SHA256(data, n, digest);
	hex_write(digest, sizeof digest, hex);
}

bool smsid_read(char out[SMSID_SIZE], const char *text)
{
	static const char form[] = "GUID:xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

	if (!text || strlen(text) != sizeof form - 1)
		return false;
	for (size_t i = 0; i < sizeof form; i++) {
		if (form[i] == 'x' ? digit(text[i]) < 0 : text[i] != form[i])
			return false;
		out[i] = (char)toupper((unsigned char)text[i]);
	}
	return true;
}

/* ---- certificates ---- */

/* NULL when there is no such file. */
static X509 *read_certificate(const char *dir, const char *name)
{
	struct buf der = {0};
	X509 *crt = NULL;

	if (read_file(dir, name, &der)) {
		const unsigned char *at = (const unsigned char *)der.p;
		crt = d2i_X509(NULL, &at, (long)der.n);
		if (!crt)
			fprintf(stderr, "mp: %s is no certificate\n", name);
	}
	buf_free(&der);
	return crt;
}

/* Whole or not at all: other threads read it, and we may be ended. */
static bool write_certificate(X509 *crt, const char *dir, const char *name)
{
	char part[512], old[4096], new[4096];
	unsigned char *der = NULL;
	int n = i2d_X509(crt, &der);

	if (n < 0)
		abort();
	snprintf(part, sizeof part, "%s.new", name);
	write_file(dir, part, der, (size_t)n);
	OPENSSL_free(der);
	snprintf(old, sizeof old, "%s/%s", dir, part);
	snprintf(new, sizeof new, "%s/%s", dir, name);
	return rename(old, new) == 0;
}

static void client_names(const char *smsid, char signing[96], char encryption[96])
{
	const char *guid = smsid + strlen("GUID:");

	snprintf(signing, 96, "clients/%s.der", guid);
	snprintf(encryption, 96, "clients/%s.encryption.der", guid);
}

bool client_load(struct client *c, const char *dir, const char *smsid)
{
	char signing[96], encryption[96];

	*c = (struct client){0};
	if (!smsid_read(c->smsid, smsid))
		return false;
	client_names(c->smsid, signing, encryption);
	c->signing = read_certificate(dir, signing);
	if (!c->signing)
		return false;
	c->encryption = read_certificate(dir, encryption);
	if (!c->encryption) {
		X509_up_ref(c->signing);
		c->encryption = c->signing;
	}
	return true;
}

bool client_keep(const struct client *c, const char *dir)
{
	char signing[96], encryption[96], path[4096];
	bool is_kept;

	client_names(c->smsid, signing, encryption);
	snprintf(path, sizeof path, "%s/clients", dir);
	pthread_mutex_lock(&keep_lock);
	is_kept = (mkdir(path, 0755) == 0 || errno == EEXIST)
		&& (identity_is_same(c->signing, c->encryption)
		    || write_certificate(c->encryption, dir, encryption))
		&& write_certificate(c->signing, dir, signing);
	pthread_mutex_unlock(&keep_lock);
	return is_kept;
}

void client_free(struct client *c)
{
	X509_free(c->signing);
	X509_free(c->encryption);
	*c = (struct client){0};
}

bool identity_is_same(const X509 *a, const X509 *b)
{
	return X509_cmp(a, b) == 0;
}

static bool has_usage(X509 *crt, const char *oid)
{
	STACK_OF(ASN1_OBJECT) *list = X509_get_ext_d2i(crt, NID_ext_key_usage, NULL,
		NULL);
	bool is_found = false;

	for (int i = 0; i < sk_ASN1_OBJECT_num(list); i++) {
		char text[80];
		OBJ_obj2txt(text, sizeof text, sk_ASN1_OBJECT_value(list, i), 1);
		is_found = is_found || !strcmp(text, oid);
	}
	sk_ASN1_OBJECT_pop_free(list, ASN1_OBJECT_free);
	return is_found;
}

/* What is wrong with it; NULL = nothing. */
static const char *judge(X509 *crt, const char *usage)
{
	EVP_PKEY *key = X509_get0_pubkey(crt);
	uint32_t wanted = KU_DIGITAL_SIGNATURE | KU_DATA_ENCIPHERMENT;

	if (!key || EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA
	    || EVP_PKEY_get_bits(key) != 2048)
		return "its key is not RSA with 2048 bits";
	if (X509_get_signature_nid(crt) != NID_sha256WithRSAEncryption)
		return "it is not signed with SHA-256 and RSA";
	if (X509_NAME_cmp(X509_get_subject_name(crt), X509_get_issuer_name(crt))
	    || X509_verify(crt, key) != 1)
		return "it is not signed by itself";
	if (!(X509_get_extension_flags(crt) & EXFLAG_KUSAGE)
	    || (X509_get_key_usage(crt) & wanted) != wanted)
		return "its key usage lacks digitalSignature or dataEncipherment";
	if (!has_usage(crt, usage))
		return "its extended key usage lacks that of its role";
	return NULL;
}

X509 *identity_certificate(const char *hex, const char *usage, struct buf *why)
{
	struct buf der = {0};
	X509 *crt = NULL;

	if (!hex || !*hex || !hex_read(hex, &der)) {
		buf_puts(why, "it is not in hex");
	} else {
		const unsigned char *at = (const unsigned char *)der.p;
		crt = d2i_X509(NULL, &at, (long)der.n);
		const char *fault = !crt || at != (const unsigned char *)der.p + der.n
			? "it is no DER" : judge(crt, usage);
		if (fault) {
			buf_puts(why, fault);
			X509_free(crt);
			crt = NULL;
		}
	}
	buf_free(&der);
	return crt;
}

bool identity_is_current(const X509 *crt)
{
	return X509_cmp_current_time(X509_get0_notBefore(crt)) <= 0
		&& X509_cmp_current_time(X509_get0_notAfter(crt)) >= 0;
}

/* The same certificate gets the same id: nothing must be searched for. */
void identity_smsid(X509 *crt, char out[SMSID_SIZE])
{
	unsigned char d[SHA256_DIGEST_LENGTH];
	unsigned n = sizeof d;

	if (!X509_digest(crt, EVP_sha256(), d, &n))
		abort();
	snprintf(out, SMSID_SIZE, "GUID:%02X%02X%02X%02X-%02X%02X-4%X%02X-8%X%02X-"
		"%02X%02X%02X%02X%02X%02X", d[0], d[1], d[2], d[3], d[4], d[5],
		d[6] & 15, d[7], d[8] & 15, d[9], d[10], d[11], d[12], d[13], d[14],
		d[15]);
}

/* ---- what they prove ---- */

static void reverse(unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n / 2; i++) {
		unsigned char c = p[i];
		p[i] = p[n - 1 - i];
		p[n - 1 - i] = c;
	}
}

static bool is_signed(X509 *crt, const struct buf *signature, const void *data,
	size_t n)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	if (!ctx)
		abort();
	bool is_good = EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL,
			X509_get0_pubkey(crt)) == 1
		&& EVP_DigestVerify(ctx, (const unsigned char *)signature->p,
			signature->n, data, n) == 1;
	EVP_MD_CTX_free(ctx);
	return is_good;
}

bool identity_verify(X509 *crt, const char *hex, const void *data, size_t n,
	struct buf *why)
{
	struct buf signature = {0};
	bool is_good = false;

	if (strspn(hex, "0123456789ABCDEF") != strlen(hex)) {
		buf_puts(why, "it is not in upper-case hex");
	} else if (!hex_read(hex, &signature) || signature.n != 256) {
		buf_puts(why, "it has not 256 octets");
	} else {
		reverse((unsigned char *)signature.p, signature.n);
		is_good = is_signed(crt, &signature, data, n);
		reverse((unsigned char *)signature.p, signature.n);
		if (!is_good)
			buf_puts(why, is_signed(crt, &signature, data, n)
				? "its octets are not reversed" : "it is not of this");
	}
	buf_free(&signature);
	return is_good;
}

static void put_number(struct buf *out, uint32_t n)
{
	unsigned char p[4] = {n & 255, n >> 8 & 255, n >> 16 & 255, n >> 24};

	buf_add(out, p, sizeof p);
}

void identity_blob(X509 *crt, struct buf *hex)
{
	EVP_PKEY *key = X509_get0_pubkey(crt);
	BIGNUM *modulus = NULL, *exponent = NULL;
	unsigned char octets[256];
	struct buf blob = {0};

	if (!EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &modulus)
	    || !EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &exponent)
	    || BN_bn2lebinpad(modulus, octets, sizeof octets) < 0)
		abort();
	buf_add(&blob, "\x06\x02\x00\x00\x00\xa4\x00\x00RSA1", 12);
	put_number(&blob, 2048);
	put_number(&blob, (uint32_t)BN_get_word(exponent));
	buf_add(&blob, octets, sizeof octets);
	hex_write(blob.p, blob.n, hex);
	buf_free(&blob);
	BN_free(modulus);
	BN_free(exponent);
}

void identity_seal(X509 *crt, struct envelope how, const struct buf *in,
	struct buf *out)
{
	unsigned flags = CMS_BINARY | CMS_PARTIAL;
	BIO *data = BIO_new_mem_buf(buf_text(in), (int)in->n);
	CMS_ContentInfo *cms = CMS_encrypt(NULL, NULL,
		how.is_aes ? EVP_aes_256_cbc() : EVP_des_ede3_cbc(), flags);
	CMS_RecipientInfo *to = cms ? CMS_add1_recipient_cert(cms, crt,
		flags | CMS_KEY_PARAM) : NULL;
	EVP_PKEY_CTX *key = to ? CMS_RecipientInfo_get0_pkey_ctx(to) : NULL;
	unsigned char *der = NULL;
	int n = -1;

	/* OpenSSL's OAEP is the one with SHA-1 unless told otherwise */
	if (data && key && EVP_PKEY_CTX_set_rsa_padding(key, how.is_oaep
			? RSA_PKCS1_OAEP_PADDING : RSA_PKCS1_PADDING) == 1
	    && CMS_final(cms, data, NULL, flags))
		n = i2d_CMS_ContentInfo(cms, &der);
	if (n < 0)
		abort();
	buf_add(out, der, (size_t)n);
	OPENSSL_free(der);
	CMS_ContentInfo_free(cms);
	BIO_free(data);
}
