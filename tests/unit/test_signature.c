#include "tests/unit/test.h"

#include "policy/signature.h"

#include <stdlib.h>

/* OpenSSL has an old type of this name; here it is our error code. */
#define ERR_STATE OPENSSL_ERR_STATE
#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#undef ERR_STATE

#define NOW 1800000000 /* 2027-01-15T08:00:00Z */
#define DAY 86400
#define TEXT "[deployment]\npackage = ABC00042\nversion = 3\n"

/* --- keys and certificates -------------------------------------------------- */

struct made {
	X509 *cert;
	EVP_PKEY *key;
};

static void free_made(struct made *m)
{
	X509_free(m->cert);
	EVP_PKEY_free(m->key);
}
#define automade __attribute__((cleanup(free_made))) struct made

static struct made certify(EVP_PKEY *key, const char *subject, long serial,
			   int64_t from, int64_t until)
{
	struct made m = { X509_new(), key };
	assert_non_null(key);
	X509_set_version(m.cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(m.cert), serial);
	X509_NAME *name = X509_get_subject_name(m.cert);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
				   (const unsigned char *)subject, -1, -1, 0);
	X509_set_issuer_name(m.cert, name);
	ASN1_TIME_set(X509_getm_notBefore(m.cert), from);
	ASN1_TIME_set(X509_getm_notAfter(m.cert), until);
	X509_set_pubkey(m.cert, m.key);
	X509V3_CTX ctx;
	X509V3_set_ctx(&ctx, m.cert, m.cert, NULL, NULL, 0);
	X509_EXTENSION *ext = X509V3_EXT_nconf_nid(
		NULL, &ctx, NID_subject_key_identifier, "hash");
	X509_add_ext(m.cert, ext, -1);
	X509_EXTENSION_free(ext);
	assert_true(X509_sign(m.cert, m.key, EVP_sha256()) > 0);
	return m;
}

static struct made make_ec(const char *subject, long serial)
{
	return certify(EVP_EC_gen("P-256"), subject, serial, NOW - 100 * DAY,
		       NOW + 100 * DAY);
}

static struct made make_rsa(const char *subject, unsigned bits)
{
	return certify(EVP_RSA_gen(bits), subject, 7, NOW - 100 * DAY,
		       NOW + 100 * DAY);
}

static void add_pem(struct buf *out, const struct made *m)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *at;
	assert_int_equal(PEM_write_bio_X509(bio, m->cert), 1);
	long len = BIO_get_mem_data(bio, &at);
	buf_add(out, at, (size_t)len);
	BIO_free(bio);
}

/* --- messages ------------------------------------------------------------------- */

enum form { DER, PEM, PEM_PKCS7, BER };

/* A message to be made; zero is a good one. */
struct plan {
	const struct made *signers[4]; /* NULL-ended */
	const char *text;       /* NULL = TEXT */
	const EVP_MD *digest;   /* NULL = SHA-256 */
	unsigned flags;         /* CMS_DETACHED, CMS_NOATTR, CMS_USE_KEYID */
	int64_t signed_s;       /* 0 = NOW */
	enum form form;
	bool is_pss;
	const struct made *extra; /* its certificate 1000 times */
};

static void add_signer(CMS_ContentInfo *cms, const struct plan *p,
		       const struct made *by)
{
	unsigned flags = p->flags | CMS_PARTIAL | CMS_BINARY |
			 (p->is_pss ? CMS_KEY_PARAM : 0);
	CMS_SignerInfo *si = CMS_add1_signer(cms, by->cert, by->key,
					     p->digest ? p->digest : EVP_sha256(),
					     flags);
	assert_non_null(si);
	if (p->is_pss)
		assert_true(EVP_PKEY_CTX_set_rsa_padding(
				    CMS_SignerInfo_get0_pkey_ctx(si),
				    RSA_PKCS1_PSS_PADDING) > 0);
	if (p->flags & CMS_NOATTR)
		return;
	ASN1_TIME *t = ASN1_TIME_set(NULL, p->signed_s ? p->signed_s : NOW);
	assert_int_equal(CMS_signed_add1_attr_by_NID(si, NID_pkcs9_signingTime,
						     t->type, t, -1), 1);
	ASN1_TIME_free(t);
}

static void write_form(BIO *out, CMS_ContentInfo *cms, BIO *text,
		       const struct plan *p)
{
	unsigned flags = p->flags | CMS_BINARY;
	if (p->form == BER) {
		assert_int_equal(i2d_CMS_bio_stream(out, cms, text,
						    (int)(flags | CMS_STREAM)), 1);
		return;
	}
	if (p->signers[0]) /* nothing to finish for nobody */
		assert_int_equal(CMS_final(cms, text, NULL, flags), 1);
	if (p->form == DER) {
		assert_int_equal(i2d_CMS_bio(out, cms), 1);
	} else {
		unsigned char *der = NULL;
		int len = i2d_CMS_ContentInfo(cms, &der);
		assert_true(PEM_write_bio(out, p->form == PEM ? "CMS" : "PKCS7", "",
					  der, len) > 0);
		OPENSSL_free(der);
	}
}

static void sign(const struct plan *p, struct buf *out)
{
	const char *text = p->text ? p->text : TEXT;
	BIO *in = BIO_new_mem_buf(text, -1), *bio = BIO_new(BIO_s_mem());
	unsigned flags = p->flags | CMS_PARTIAL | CMS_BINARY |
			 (p->form == BER ? CMS_STREAM : 0);
	CMS_ContentInfo *cms = CMS_sign(NULL, NULL, NULL, NULL, flags);
	char *at;
	assert_non_null(cms);
	for (unsigned i = 0; p->signers[i]; i++)
		add_signer(cms, p, p->signers[i]);
	for (int i = 0; p->extra && i < 1000; i++) {
		/* the same one twice is refused: another serial each time */
		X509 *copy = X509_dup(p->extra->cert);
		ASN1_INTEGER_set(X509_get_serialNumber(copy), 1000 + i);
		X509_sign(copy, p->extra->key, EVP_sha256());
		CMS_add0_cert(cms, copy);
	}
	write_form(bio, cms, in, p);
	out->max = 8u << 20;
	buf_clear(out);
	long len = BIO_get_mem_data(bio, &at);
	buf_add(out, at, (size_t)len);
	assert_false(out->failed);
	BIO_free(bio);
	BIO_free(in);
	CMS_ContentInfo_free(cms);
}

/* --- one check ------------------------------------------------------------------ */

struct tried {
	struct buf content;
	struct signature signature;
	struct err e;
};

static void free_tried(struct tried *t)
{
	buf_free(&t->content);
}
#define autotried __attribute__((cleanup(free_tried))) struct tried

/* The certificate of `pinned` alone is trusted. */
static enum err_code try_with(struct tried *t, const struct made *pinned,
			      struct span message, const char *detached)
{
	autobuf pem = { 0 };
	add_pem(&pem, pinned);
	return signature_check(buf_as_span(&pem), message, span_of(detached),
			       &t->content, &t->signature, &t->e);
}

static enum err_code try_plan(struct tried *t, const struct made *pinned,
			      const struct plan *p)
{
	autobuf message = { 0 };
	sign(p, &message);
	return try_with(t, pinned, buf_as_span(&message),
			p->flags & CMS_DETACHED ? TEXT : NULL);
}

static void assert_accepts(const struct made *pinned, const struct plan *p)
{
	autotried t = { 0 };
	struct err e = { 0 };
	enum err_code rc = try_plan(&t, pinned, p);
	e = t.e;
	assert_ok(rc);
	assert_string_equal(t.content.at, TEXT);
	assert_int_equal(t.content.len, strlen(TEXT));
	assert_int_equal(t.signature.signed_s, p->signed_s ? p->signed_s : NOW);
	assert_non_null(strstr(t.signature.signer, "CN="));
}

static void assert_refuses(const struct made *pinned, const struct plan *p,
			   const char *why)
{
	autotried t = { 0 };
	assert_err(try_plan(&t, pinned, p), ERR_SIGNATURE);
	if (!strstr(t.e.text, why))
		print_error("%s\n", t.e.text);
	assert_non_null(strstr(t.e.text, why));
	assert_int_equal(t.content.len, 0);
}

/* --- what is good --------------------------------------------------------------- */

TEST(signature_check__ec_in_every_form__accepted)
{
	automade a = make_ec("Signer A", 1);
	for (enum form form = DER; form <= BER; form++) {
		struct plan inside = { .signers = { &a }, .form = form };
		struct plan beside = { .signers = { &a }, .form = form,
				       .flags = CMS_DETACHED };
		assert_accepts(&a, &inside);
		if (form != BER) /* which is for text that goes with it */
			assert_accepts(&a, &beside);
	}
}

TEST(signature_check__rsa_pkcs1_and_pss__accepted)
{
	automade a = make_rsa("Signer R", 2048);
	struct plan plain = { .signers = { &a } };
	struct plan pss = { .signers = { &a }, .is_pss = true };
	struct plan longer = { .signers = { &a }, .digest = EVP_sha512() };
	assert_accepts(&a, &plain);
	assert_accepts(&a, &pss);
	assert_accepts(&a, &longer);
}

TEST(signature_check__signer_by_key_id__accepted)
{
	automade a = make_ec("Signer A", 1);
	struct plan p = { .signers = { &a }, .flags = CMS_USE_KEYID };
	assert_accepts(&a, &p);
}

TEST(signature_check__certificate_not_in_message__accepted)
{
	automade a = make_ec("Signer A", 1);
	struct plan p = { .signers = { &a }, .flags = CMS_NOCERTS };
	assert_accepts(&a, &p);
}

TEST(signature_check__two_certificates_pinned__either_is_accepted)
{
	automade a = make_ec("Old", 1);
	automade b = make_rsa("New", 2048);
	const struct made *both[] = { &a, &b };
	for (int i = 0; i < 2; i++) {
		autobuf pem = { 0 };
		autobuf message = { 0 };
		autotried t = { 0 };
		struct plan p = { .signers = { both[i] } };
		add_pem(&pem, &a);
		add_pem(&pem, &b);
		sign(&p, &message);
		assert_int_equal(signature_check(buf_as_span(&pem),
						 buf_as_span(&message),
						 span_of(NULL), &t.content,
						 &t.signature, &t.e), ERR_OK);
		assert_string_equal(t.signature.signer, i ? "CN=New" : "CN=Old");
	}
}

TEST(signature_check__same_issuer_and_serial_twice__the_right_key_counts)
{
	automade a = make_ec("Twin", 5);
	automade b = make_ec("Twin", 5);
	const struct made *both[] = { &a, &b };
	for (int i = 0; i < 2; i++) {
		autobuf pem = { 0 };
		autobuf message = { 0 };
		autotried t = { 0 };
		struct plan p = { .signers = { &a } };
		add_pem(&pem, both[i]);
		add_pem(&pem, both[1 - i]);
		sign(&p, &message);
		assert_int_equal(signature_check(buf_as_span(&pem),
						 buf_as_span(&message),
						 span_of(NULL), &t.content,
						 &t.signature, &t.e), ERR_OK);
	}
}

TEST(signature_check__second_signature_of_a_stranger__ours_counts)
{
	automade a = make_ec("Signer A", 1);
	automade s = make_ec("Stranger", 2);
	struct plan first = { .signers = { &s, &a } };
	struct plan last = { .signers = { &a, &s } };
	assert_accepts(&a, &first);
	assert_accepts(&a, &last);
}

TEST(signature_check__certificate_expired_since__accepted)
{
	automade a = certify(EVP_EC_gen("P-256"), "Short", 3, NOW - DAY, NOW);
	struct plan last_second = { .signers = { &a }, .signed_s = NOW };
	assert_accepts(&a, &last_second);
}

/* --- what is not ---------------------------------------------------------------- */

TEST(signature_check__stranger__named)
{
	automade a = make_ec("Signer A", 1);
	automade s = make_ec("Stranger", 0x5a5b);
	struct plan p = { .signers = { &s } };
	struct plan by_id = { .signers = { &s }, .flags = CMS_USE_KEYID };
	assert_refuses(&a, &p, "CN=Stranger, serial 5A5B");
	assert_refuses(&a, &by_id, "key id ");
}

TEST(signature_check__stranger_with_our_names__refused)
{
	automade a = make_ec("Signer A", 1);
	automade s = make_ec("Signer A", 1);
	struct plan p = { .signers = { &s } };
	assert_refuses(&a, &p, "not signed with the key of CN=Signer A");
}

TEST(signature_check__name_with_control_bytes__escaped)
{
	automade a = make_ec("Signer A", 1);
	automade s = make_ec("St\x1b[31m\n\xc3\xa4", 2);
	struct plan p = { .signers = { &s } };
	autotried t = { 0 };
	assert_err(try_plan(&t, &a, &p), ERR_SIGNATURE);
	for (const char *c = t.e.text; *c; c++)
		assert_in_range((unsigned char)*c, 0x20, 0x7e);
}

TEST(signature_check__nobody_signed__said_so)
{
	automade a = make_ec("Signer A", 1);
	struct plan p = { .flags = CMS_DETACHED };
	assert_refuses(&a, &p, "signed by nobody");
}

TEST(signature_check__other_text__refused)
{
	automade a = make_ec("Signer A", 1);
	struct plan p = { .signers = { &a }, .flags = CMS_DETACHED,
			  .text = TEXT "purpose = available\n" };
	assert_refuses(&a, &p, "content changed");
}

TEST(signature_check__weak_digest__refused)
{
	automade a = make_rsa("Signer R", 2048);
	struct plan sha1 = { .signers = { &a }, .digest = EVP_sha1() };
	struct plan md5 = { .signers = { &a }, .digest = EVP_md5() };
	struct plan sha224 = { .signers = { &a }, .digest = EVP_sha224() };
	assert_refuses(&a, &sha1, "signed with sha1");
	assert_refuses(&a, &md5, "signed with md5");
	assert_refuses(&a, &sha224, "signed with sha224");
}

TEST(signature_check__small_key__refused)
{
	automade rsa = make_rsa("Small", 1024);
	automade ec = certify(EVP_EC_gen("P-224"), "Short", 3, NOW - DAY, NOW + DAY);
	struct plan p = { .signers = { &rsa } };
	struct plan q = { .signers = { &ec } };
	assert_refuses(&rsa, &p, "1024 bits");
	assert_refuses(&ec, &q, "224 bits");
}

TEST(signature_check__no_signed_attributes__refused)
{
	automade a = make_ec("Signer A", 1);
	struct plan p = { .signers = { &a }, .flags = CMS_NOATTR };
	assert_refuses(&a, &p, "no signed attributes");
}

TEST(signature_check__certificate_not_valid_then__refused)
{
	automade a = make_ec("Signer A", 1);
	struct plan early = { .signers = { &a }, .signed_s = NOW - 101 * DAY };
	struct plan late = { .signers = { &a }, .signed_s = NOW + 101 * DAY };
	assert_refuses(&a, &early, "was not valid at 2026-10-06T08:00:00Z");
	assert_refuses(&a, &late, "was not valid at 2027-04-26T08:00:00Z");
}

TEST(signature_check__text_missing_or_twice__refused)
{
	automade a = make_ec("Signer A", 1);
	autobuf message = { 0 };
	autotried t = { 0 };
	struct plan inside = { .signers = { &a } };
	struct plan beside = { .signers = { &a }, .flags = CMS_DETACHED };
	sign(&inside, &message);
	assert_err(try_with(&t, &a, buf_as_span(&message), TEXT), ERR_SIGNATURE);
	assert_non_null(strstr(t.e.text, "text of its own"));
	sign(&beside, &message);
	assert_err(try_with(&t, &a, buf_as_span(&message), NULL), ERR_SIGNATURE);
	assert_non_null(strstr(t.e.text, "without the text"));
}

TEST(signature_check__cms_that_is_not_signed__refused)
{
	automade a = make_ec("Signer A", 1);
	autotried t = { 0 };
	BIO *in = BIO_new_mem_buf(TEXT TEXT TEXT TEXT, -1);
	CMS_ContentInfo *cms = CMS_data_create(in, CMS_BINARY);
	unsigned char *der = NULL;
	int len = i2d_CMS_ContentInfo(cms, &der);
	assert_true(len > 0);
	assert_err(try_with(&t, &a, (struct span){ (char *)der, (size_t)len }, NULL),
		   ERR_SIGNATURE);
	assert_non_null(strstr(t.e.text, "not a signed text"));
	OPENSSL_free(der);
	CMS_ContentInfo_free(cms);
	BIO_free(in);
}

TEST(signature_check__something_behind_it__refused)
{
	automade a = make_ec("Signer A", 1);
	autobuf message = { 0 };
	for (enum form form = DER; form <= BER; form++) {
		autotried t = { 0 };
		struct plan p = { .signers = { &a }, .form = form };
		sign(&p, &message);
		buf_char(&message, 'x');
		assert_err(try_with(&t, &a, buf_as_span(&message), NULL),
			   ERR_SIGNATURE);
		assert_non_null(strstr(t.e.text, "followed by something"));
	}
}

TEST(signature_check__thousand_certificates_inside__refused)
{
	automade a = make_ec("Signer A", 1);
	struct plan p = { .signers = { &a }, .extra = &a };
	struct plan ber = { .signers = { &a }, .extra = &a, .form = BER };
	assert_refuses(&a, &p, "bytes beside the text");
	assert_refuses(&a, &ber, "bytes beside the text");
}

TEST(signature_check__text_longer_than_the_buffer_may_be__refused)
{
	automade a = make_ec("Signer A", 1);
	struct plan p = { .signers = { &a } };
	autotried t = { .content = { .max = 10 } };
	assert_err(try_plan(&t, &a, &p), ERR_SIGNATURE);
	assert_non_null(strstr(t.e.text, "at most 10"));
}

TEST(signature_check__signer_file_without_certificate__is_a_setting)
{
	automade a = make_ec("Signer A", 1);
	autobuf message = { 0 };
	autobuf broken = { 0 };
	autotried t = { 0 };
	struct plan p = { .signers = { &a } };
	sign(&p, &message);
	assert_err(signature_check(SPAN_LIT("no certificate\n"),
				   buf_as_span(&message), span_of(NULL), &t.content,
				   &t.signature, &t.e), ERR_CONFIG);
	assert_err(signature_check(SPAN_LIT(""), buf_as_span(&message),
				   span_of(NULL), &t.content, &t.signature, &t.e),
		   ERR_CONFIG);
	add_pem(&broken, &a);
	buf_text(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n");
	assert_err(signature_check(buf_as_span(&broken), buf_as_span(&message),
				   span_of(NULL), &t.content, &t.signature, &t.e),
		   ERR_CONFIG);
}

/* --- damage ----------------------------------------------------------------------- */

TEST(signature_check__cut_at_any_length__refused)
{
	automade a = make_ec("Signer A", 1);
	for (enum form form = DER; form <= BER; form++) {
		autobuf message = { 0 };
		struct plan p = { .signers = { &a }, .form = form };
		sign(&p, &message);
		/* a PEM text is whole without its last line feed */
		size_t whole = message.len - (form == DER || form == BER ? 0 : 1);
		for (size_t len = 0; len < whole; len++) {
			autotried t = { 0 };
			/* exactly as long as it says: for the sanitizer */
			char *cut = malloc(len + 1);
			memcpy(cut, message.at, len);
			assert_err(try_with(&t, &a, (struct span){ cut, len }, NULL),
				   ERR_SIGNATURE);
			free(cut);
		}
	}
}

TEST(signature_check__any_bit_flipped__never_another_text)
{
	automade a = make_ec("Signer A", 1);
	unsigned refused = 0;
	for (enum form form = DER; form <= BER; form += BER) {
		autobuf message = { 0 };
		struct plan p = { .signers = { &a }, .form = form,
				  .flags = CMS_NOCERTS };
		sign(&p, &message);
		for (size_t bit = 0; bit < 8 * message.len; bit++) {
			autotried t = { 0 };
			message.at[bit / 8] ^= (char)(1 << bit % 8);
			if (try_with(&t, &a, buf_as_span(&message), NULL) == ERR_OK)
				assert_string_equal(t.content.at, TEXT);
			else
				refused++;
			message.at[bit / 8] ^= (char)(1 << bit % 8);
		}
	}
	assert_true(refused > 1000);
}

/* --- what it looks like, how old it is ---------------------------------------- */

TEST(signature_is_cms__texts__told_apart)
{
	assert_true(signature_is_cms(SPAN_LIT("-----BEGIN CMS-----\n")));
	assert_true(signature_is_cms(SPAN_LIT("-----BEGIN PKCS7-----\n")));
	assert_false(signature_is_cms(SPAN_LIT("-----BEGIN CERTIFICATE-----\n")));
	assert_false(signature_is_cms(SPAN_LIT(TEXT)));
	assert_false(signature_is_cms(SPAN_LIT("")));
	assert_false(signature_is_cms(SPAN_LIT("0")));
	assert_false(signature_is_cms(SPAN_LIT("0\xff")));
	assert_false(signature_is_cms(SPAN_LIT("00 = 1, as some write it\n")));
}

TEST(signature_check_age__older__is_a_rollback)
{
	struct err e = { 0 };
	assert_err(signature_check_age(NOW - 1, NOW, NOW, &e), ERR_ROLLBACK);
	assert_non_null(strstr(e.text, "2027-01-15T07:59:59Z"));
	assert_non_null(strstr(e.text, "2027-01-15T08:00:00Z"));
	assert_ok(signature_check_age(NOW, NOW, NOW, &e));
	assert_ok(signature_check_age(NOW + 1, NOW, NOW, &e));
	assert_ok(signature_check_age(NOW, 0, NOW, &e));
}

TEST(signature_check_age__more_than_a_day_ahead__refused)
{
	struct err e = { 0 };
	assert_ok(signature_check_age(NOW + DAY, 0, NOW, &e));
	assert_err(signature_check_age(NOW + DAY + 1, 0, NOW, &e), ERR_SIGNATURE);
	assert_non_null(strstr(e.text, "this machine's clock"));
}

TEST(signature_check_age__clock_three_years_off__recovers)
{
	struct err e = { 0 };
	/* behind: refused; right again: accepted, nothing was remembered */
	assert_err(signature_check_age(NOW, 0, NOW - 3 * 365 * DAY, &e),
		   ERR_SIGNATURE);
	assert_ok(signature_check_age(NOW, 0, NOW, &e));
	/* ahead: accepted, and what is signed later is so, too */
	assert_ok(signature_check_age(NOW, NOW - DAY, NOW + 3 * 365 * DAY, &e));
	assert_ok(signature_check_age(NOW + 60, NOW, NOW + 120, &e));
}
