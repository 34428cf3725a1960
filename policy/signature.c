#include "policy/signature.h"

#include "common/clock.h"
#include "common/own.h"

#include <inttypes.h>
#include <stdio.h>

/* OpenSSL has an old type of this name; here it is our error code. */
#define ERR_STATE OPENSSL_ERR_STATE
#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#undef ERR_STATE

#define MESSAGE_MAX (96u << 20) /* bytes: a whole bundle in base64 */
#define BESIDE_MAX (256u << 10) /* bytes of a message beside the text in it */
#define SIGNERS_MAX 32          /* certificates; signatures of one message */
#define RSA_BITS_MIN 2048
#define EC_BITS_MIN 256
#define DAY_S 86400
#define NAME_SIZE 256

static void own_bio(BIO **bio)
{
	BIO_free(*bio);
}
#define autobio __attribute__((cleanup(own_bio))) BIO

static void own_certs(STACK_OF(X509) **certs)
{
	sk_X509_pop_free(*certs, X509_free);
}
#define autocerts __attribute__((cleanup(own_certs))) STACK_OF(X509)

static void own_cms(CMS_ContentInfo **cms)
{
	CMS_ContentInfo_free(*cms);
}
#define autocms __attribute__((cleanup(own_cms))) CMS_ContentInfo

static void own_bytes(unsigned char **bytes)
{
	OPENSSL_free(*bytes);
}
#define autobytes __attribute__((cleanup(own_bytes))) unsigned char

/* OpenSSL's own reason for what just failed; empties its queue. */
static const char *reason(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_last_error());
	ERR_clear_error();
	return text ? text : "no reason given";
}

/* No password is ever asked for: there is nobody at the terminal. */
static int no_password(char *buf, int size, int rw, void *arg)
{
	(void)buf, (void)size, (void)rw, (void)arg;
	return -1;
}

/* --- what the message is ---------------------------------------------------- */

static bool begins_with(struct span text, const char *with)
{
	size_t len = strlen(with);
	return text.len >= len && memcmp(text.at, with, len) == 0;
}

static bool is_pem(struct span text)
{
	return begins_with(text, "-----BEGIN CMS-----") ||
	       begins_with(text, "-----BEGIN PKCS7-----");
}

bool signature_is_cms(struct span text)
{
	/* SEQUENCE and its length, then an object id below pkcs-7 */
	static const unsigned char pkcs7[] = { 0x06, 0x09, 0x2a, 0x86, 0x48,
					       0x86, 0xf7, 0x0d, 0x01, 0x07 };
	if (is_pem(text))
		return true;
	if (text.len < 2 || text.at[0] != 0x30)
		return false;
	size_t at = 2;
	if (text.at[1] & 0x80) /* of so many bytes; 0x80: not known in advance */
		at += (size_t)(text.at[1] & 0x7f);
	return text.len >= at + sizeof(pkcs7) &&
	       memcmp(text.at + at, pkcs7, sizeof(pkcs7)) == 0;
}

/* Step into an element of this tag. */
static bool enter(const unsigned char **p, const unsigned char *end, int want)
{
	long len;
	int tag, of_class;
	int how = ASN1_get_object(p, &len, &tag, &of_class, end - *p);
	return !(how & 0x80) && tag == want;
}

/* Step over one element; it may be of indefinite length (BER). */
static bool pass(const unsigned char **p, const unsigned char *end)
{
	size_t depth = 0;
	do {
		long len;
		int tag, of_class;
		if (depth && end - *p >= 2 && (*p)[0] == 0 && (*p)[1] == 0) {
			*p += 2;
			depth--;
			continue;
		}
		int how = ASN1_get_object(p, &len, &tag, &of_class, end - *p);
		if (how & 0x80)
			return false;
		if (how & 1)
			depth++;
		else
			*p += len;
	} while (depth);
	return true;
}

/*
 * How much stands in the message beside the text that it may hold: every
 * certificate there costs many times its size in memory once it is parsed, and
 * none of them counts. RFC 5652 s3, s5.1.
 */
static bool is_lean(const unsigned char *at, size_t len)
{
	const unsigned char *p = at, *end = at + len;
	if (!enter(&p, end, V_ASN1_SEQUENCE) || !pass(&p, end) ||
	    !enter(&p, end, 0) || !enter(&p, end, V_ASN1_SEQUENCE) ||
	    !pass(&p, end) || !pass(&p, end))
		return len <= BESIDE_MAX; /* no SignedData: said by the parser */
	const unsigned char *text = p;
	if (!pass(&p, end))
		return len <= BESIDE_MAX;
	return len - (size_t)(p - text) <= BESIDE_MAX;
}

static enum err_code from_pem(struct span message, unsigned char **der, long *len,
			      struct err *e)
{
	autobio *bio = BIO_new_mem_buf(message.at, (int)message.len);
	char rest;
	if (bio == NULL)
		return err_set(e, ERR_NOMEM, "no memory for a signature");
	if (PEM_bytes_read_bio(der, len, NULL, PEM_STRING_CMS, bio, no_password,
			       NULL) != 1)
		return err_set(e, ERR_SIGNATURE, "signature is broken: %s",
			       reason());
	while (BIO_read(bio, &rest, 1) == 1)
		if (rest == '\0' || !strchr(" \t\r\n", rest))
			return err_set(e, ERR_SIGNATURE,
				       "signature is followed by something else");
	return ERR_OK;
}

static enum err_code parse_der(const unsigned char *at, size_t len,
			       CMS_ContentInfo **out, struct err *e)
{
	const unsigned char *p = at;
	if (!is_lean(at, len))
		return err_set(e, ERR_SIGNATURE,
			       "signature has more than %u bytes beside the text",
			       BESIDE_MAX);
	*out = d2i_CMS_ContentInfo(NULL, &p, (long)len);
	if (*out == NULL)
		return err_set(e, ERR_SIGNATURE, "signature is broken: %s",
			       reason());
	if (p != at + len)
		return err_set(e, ERR_SIGNATURE,
			       "signature is followed by something else");
	if (OBJ_obj2nid(CMS_get0_type(*out)) != NID_pkcs7_signed ||
	    OBJ_obj2nid(CMS_get0_eContentType(*out)) != NID_pkcs7_data)
		return err_set(e, ERR_SIGNATURE,
			       "is CMS, but not a signed text");
	return ERR_OK;
}

static enum err_code parse(struct span message, CMS_ContentInfo **out,
			   struct err *e)
{
	autobytes *der = NULL;
	long len = 0;
	if (!signature_is_cms(message))
		return err_set(e, ERR_SIGNATURE, "is no CMS signature");
	if (message.len > MESSAGE_MAX)
		return err_set(e, ERR_SIGNATURE,
			       "signature has %zu bytes: at most %u are read",
			       message.len, MESSAGE_MAX);
	if (!is_pem(message))
		return parse_der((const unsigned char *)message.at, message.len,
				 out, e);
	enum err_code rc = from_pem(message, &der, &len, e);
	return rc == ERR_OK ? parse_der(der, (size_t)len, out, e) : rc;
}

/* The text that was signed, inside or beside, borrowed. */
static enum err_code find_text(CMS_ContentInfo *cms, struct span detached,
			       struct span *out, struct err *e)
{
	ASN1_OCTET_STRING **inside = CMS_get0_content(cms);
	if (inside == NULL)
		return err_set(e, ERR_SIGNATURE, "signature is broken: %s",
			       reason());
	if (*inside && detached.at)
		return err_set(e, ERR_SIGNATURE,
			       "signature holds a text of its own: a detached one "
			       "was expected");
	if (*inside == NULL && detached.at == NULL)
		return err_set(e, ERR_SIGNATURE,
			       "is a signature without the text that was signed");
	*out = detached;
	if (*inside) {
		*out = (struct span){
			(const char *)ASN1_STRING_get0_data(*inside),
			(size_t)ASN1_STRING_length(*inside),
		};
		if (out->at == NULL)
			*out = SPAN_LIT("");
	}
	return ERR_OK;
}

/* --- whom we trust ------------------------------------------------------------ */

static enum err_code read_signers(struct span pem, STACK_OF(X509) **out,
				  struct err *e)
{
	autobio *bio = pem.len <= BESIDE_MAX ?
			       BIO_new_mem_buf(pem.len ? pem.at : "", (int)pem.len) :
			       NULL;
	autocerts *certs = sk_X509_new_null();
	X509 *cert;
	if (bio == NULL || certs == NULL)
		return err_set(e, pem.len > BESIDE_MAX ? ERR_CONFIG : ERR_NOMEM,
			       "[policy] signer: %zu bytes are too many", pem.len);
	while ((cert = PEM_read_bio_X509(bio, NULL, no_password, NULL)) != NULL) {
		if (sk_X509_push(certs, cert) <= 0) {
			X509_free(cert);
			return err_set(e, ERR_NOMEM, "no memory for certificates");
		}
	}
	int count = sk_X509_num(certs);
	unsigned long last = ERR_peek_last_error();
	if (ERR_GET_LIB(last) != ERR_LIB_PEM ||
	    ERR_GET_REASON(last) != PEM_R_NO_START_LINE)
		return err_set(e, ERR_CONFIG,
			       "[policy] signer: certificate %d is broken: %s",
			       count + 1, reason());
	ERR_clear_error();
	if (count == 0)
		return err_set(e, ERR_CONFIG, "[policy] signer: it holds no "
			       "certificate in PEM form");
	if (count > SIGNERS_MAX)
		return err_set(e, ERR_CONFIG, "[policy] signer: it holds %d "
			       "certificates, more than %d", count, SIGNERS_MAX);
	*out = take_ptr(certs);
	return ERR_OK;
}

static void print_name(const X509_NAME *name, char out[NAME_SIZE])
{
	autobio *bio = BIO_new(BIO_s_mem());
	/* RFC 2253 escapes control bytes and whatever is not ASCII */
	if (bio == NULL || X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) < 0) {
		snprintf(out, NAME_SIZE, "(a name that cannot be shown)");
		return;
	}
	int len = BIO_read(bio, out, NAME_SIZE - 1);
	out[len > 0 ? len : 0] = '\0';
	if (out[0] == '\0')
		snprintf(out, NAME_SIZE, "(no name)");
}

/* Who says to have signed: nothing here is proved. */
static void print_claim(CMS_SignerInfo *si, struct buf *out)
{
	ASN1_OCTET_STRING *key_id = NULL;
	X509_NAME *issuer = NULL;
	ASN1_INTEGER *serial = NULL;
	char name[NAME_SIZE];
	if (CMS_SignerInfo_get0_signer_id(si, &key_id, &issuer, &serial) != 1)
		return;
	const ASN1_STRING *number = key_id ? key_id : serial;
	if (key_id == NULL) {
		print_name(issuer, name);
		buf_print(out, "a certificate of %.120s, serial ", name);
	} else {
		buf_text(out, "key id ");
	}
	int len = number ? ASN1_STRING_length(number) : 0;
	for (int i = 0; i < len && i < 32; i++)
		buf_print(out, "%02X", ASN1_STRING_get0_data(number)[i]);
}

/* --- one signature -------------------------------------------------------------- */

static bool epoch_of(const ASN1_TIME *t, int64_t *out)
{
	int days, seconds;
	ASN1_TIME *zero = ASN1_TIME_set(NULL, 0);
	bool is_good = zero && ASN1_TIME_diff(&days, &seconds, zero, t) == 1;
	if (is_good)
		*out = (int64_t)days * DAY_S + seconds;
	ASN1_TIME_free(zero);
	return is_good;
}

/* A signed attribute that must be there once, with one value of that type. */
static const ASN1_STRING *attribute(const CMS_SignerInfo *si, int nid, int type)
{
	return CMS_signed_get0_data_by_OBJ(si, OBJ_nid2obj(nid), -3, type);
}

static enum err_code check_algorithms(CMS_SignerInfo *si, X509 *cert,
				      const EVP_MD **md, struct err *e)
{
	X509_ALGOR *digest = NULL;
	const ASN1_OBJECT *id = NULL;
	EVP_PKEY *key = X509_get0_pubkey(cert);
	int bits = key ? EVP_PKEY_get_bits(key) : 0;
	int type = key ? EVP_PKEY_get_base_id(key) : EVP_PKEY_NONE;
	CMS_SignerInfo_get0_algs(si, NULL, NULL, &digest, NULL);
	X509_ALGOR_get0(&id, NULL, NULL, digest);
	int nid = OBJ_obj2nid(id);
	if (nid != NID_sha256 && nid != NID_sha384 && nid != NID_sha512)
		return err_set(e, ERR_SIGNATURE, "signed with %s: SHA-256, SHA-384 "
			       "or SHA-512 is needed",
			       nid == NID_undef ? "an unknown digest" :
						  OBJ_nid2ln(nid));
	*md = EVP_get_digestbynid(nid);
	if (((type != EVP_PKEY_RSA && type != EVP_PKEY_RSA_PSS) ||
	     bits < RSA_BITS_MIN) &&
	    (type != EVP_PKEY_EC || bits < EC_BITS_MIN))
		return err_set(e, ERR_SIGNATURE, "signed with a key of %s, %d bits: "
			       "RSA of %d or EC of %d is needed",
			       type == EVP_PKEY_NONE ? "an unknown kind" :
						       OBJ_nid2sn(type),
			       bits, RSA_BITS_MIN, EC_BITS_MIN);
	return ERR_OK;
}

/* RFC 5652 s11.3. */
static enum err_code read_time(const CMS_SignerInfo *si, int64_t *out,
			       struct err *e)
{
	const ASN1_TIME *t = attribute(si, NID_pkcs9_signingTime, V_ASN1_UTCTIME);
	if (t == NULL)
		t = attribute(si, NID_pkcs9_signingTime, V_ASN1_GENERALIZEDTIME);
	if (t == NULL)
		return err_set(e, ERR_SIGNATURE, "signature does not say when it was "
			       "made (signing-time, as a signed attribute)");
	if (!epoch_of(t, out) || *out <= 0)
		return err_set(e, ERR_SIGNATURE,
			       "signature names an impossible time");
	return ERR_OK;
}

static enum err_code check_validity(const X509 *cert, const char *name,
				    int64_t signed_s, struct err *e)
{
	char at[CLOCK_RFC3339_SIZE], from[CLOCK_RFC3339_SIZE];
	char until[CLOCK_RFC3339_SIZE];
	int64_t from_s, until_s;
	if (!epoch_of(X509_get0_notBefore(cert), &from_s) ||
	    !epoch_of(X509_get0_notAfter(cert), &until_s))
		return err_set(e, ERR_SIGNATURE,
			       "certificate of %s has an impossible validity", name);
	if (signed_s >= from_s && signed_s <= until_s)
		return ERR_OK;
	clock_rfc3339(signed_s, at);
	clock_rfc3339(from_s, from);
	clock_rfc3339(until_s, until);
	return err_set(e, ERR_SIGNATURE, "certificate of %s was not valid at %s, when "
		       "it was signed: from %s until %s", name, at, from, until);
}

/* RFC 5652 s5.4, s5.6: the digest of the text is an attribute, the signature is
 * one of the attributes. */
static enum err_code check_text(const CMS_SignerInfo *si, const EVP_MD *md,
				struct span text, struct err *e)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int len = 0;
	const ASN1_STRING *told = attribute(si, NID_pkcs9_messageDigest,
					    V_ASN1_OCTET_STRING);
	if (EVP_Digest(text.at, text.len, digest, &len, md, NULL) != 1)
		return err_set(e, ERR_INTERNAL, "digest of a policy: %s", reason());
	if (told == NULL || (unsigned)ASN1_STRING_length(told) != len ||
	    memcmp(ASN1_STRING_get0_data(told), digest, len) != 0)
		return err_set(e, ERR_SIGNATURE, "content changed after it was signed "
			       "(or it was signed without -binary)");
	return ERR_OK;
}

/* The signature against a certificate that its signer names. */
static enum err_code judge(CMS_SignerInfo *si, X509 *cert, struct span text,
			   struct signature *out, struct err *e)
{
	struct signature found = { 0 };
	const EVP_MD *md = NULL;
	print_name(X509_get_subject_name(cert), found.signer);
	enum err_code rc = check_algorithms(si, cert, &md, e);
	if (rc == ERR_OK && CMS_signed_get_attr_count(si) < 1)
		rc = err_set(e, ERR_SIGNATURE, "signature has no signed attributes, "
			     "and so no time");
	if (rc == ERR_OK)
		rc = read_time(si, &found.signed_s, e);
	if (rc != ERR_OK)
		return rc;
	const ASN1_OBJECT *type = CMS_signed_get0_data_by_OBJ(
		si, OBJ_nid2obj(NID_pkcs9_contentType), -3, V_ASN1_OBJECT);
	if (type == NULL || OBJ_obj2nid(type) != NID_pkcs7_data)
		return err_set(e, ERR_SIGNATURE,
			       "signature is not one of a plain text");
	CMS_SignerInfo_set1_signer_cert(si, cert);
	if (CMS_SignerInfo_verify(si) != 1)
		return err_set(e, ERR_SIGNATURE, "not signed with the key of %s: %s",
			       found.signer, reason());
	rc = check_text(si, md, text, e);
	if (rc == ERR_OK)
		rc = check_validity(cert, found.signer, found.signed_s, e);
	if (rc == ERR_OK)
		*out = found;
	return rc;
}

/*
 * A message may bear several signatures, for clients that know different
 * certificates: one that fits and is good is enough. Others count for nothing,
 * neither good nor bad: who adds his own gains and breaks nothing.
 */
static enum err_code judge_all(CMS_ContentInfo *cms, STACK_OF(X509) *certs,
			       struct span text, struct signature *out,
			       struct err *e)
{
	STACK_OF(CMS_SignerInfo) *all = CMS_get0_SignerInfos(cms);
	int count = all ? sk_CMS_SignerInfo_num(all) : 0;
	bool has_fitted = false;
	if (count <= 0)
		return err_set(e, ERR_SIGNATURE, "signed by nobody");
	if (count > SIGNERS_MAX)
		return err_set(e, ERR_SIGNATURE, "has %d signatures, more than %d",
			       count, SIGNERS_MAX);
	for (int i = 0; i < count; i++) {
		CMS_SignerInfo *si = sk_CMS_SignerInfo_value(all, i);
		for (int j = 0; j < sk_X509_num(certs); j++) {
			X509 *cert = sk_X509_value(certs, j);
			if (CMS_SignerInfo_cert_cmp(si, cert) != 0)
				continue;
			has_fitted = true;
			enum err_code rc = judge(si, cert, text, out, e);
			if (rc != ERR_SIGNATURE)
				return rc;
		}
	}
	if (has_fitted)
		return ERR_SIGNATURE; /* *e: of the last that fitted */
	autobuf who = { 0 };
	print_claim(sk_CMS_SignerInfo_value(all, 0), &who);
	return err_set(e, ERR_SIGNATURE, "signed by a stranger: %s%s, not by one of "
		       "[policy] signer", who.at ? who.at : "nobody knows whom",
		       count > 1 ? " and others" : "");
}

enum err_code signature_check(struct span signers, struct span message,
			      struct span detached, struct buf *content,
			      struct signature *out, struct err *e)
{
	autocerts *certs = NULL;
	autocms *cms = NULL;
	struct span text;
	ERR_clear_error();
	enum err_code rc = read_signers(signers, &certs, e);
	if (rc == ERR_OK)
		rc = parse(message, &cms, e);
	if (rc == ERR_OK)
		rc = find_text(cms, detached, &text, e);
	if (rc == ERR_OK)
		rc = judge_all(cms, certs, text, out, e);
	ERR_clear_error();
	if (rc != ERR_OK)
		return rc;
	buf_clear(content);
	buf_span(content, text);
	if (content->failed)
		return err_set(e, text.len > (content->max ? content->max : 1u << 20) ?
				  ERR_SIGNATURE : ERR_NOMEM,
			       "signed text has %zu bytes: at most %zu are read",
			       text.len, content->max);
	return ERR_OK;
}

enum err_code signature_check_age(int64_t signed_s, int64_t before_s,
				  int64_t now_s, struct err *e)
{
	char at[CLOCK_RFC3339_SIZE], other[CLOCK_RFC3339_SIZE];
	clock_rfc3339(signed_s, at);
	if (signed_s < before_s) {
		clock_rfc3339(before_s, other);
		return err_set(e, ERR_ROLLBACK, "signed at %s, older than what is in "
			       "use, which was signed at %s", at, other);
	}
	if (signed_s - DAY_S > now_s) {
		clock_rfc3339(now_s, other);
		return err_set(e, ERR_SIGNATURE, "signed at %s, more than a day ahead "
			       "of this machine's clock, %s", at, other);
	}
	return ERR_OK;
}
