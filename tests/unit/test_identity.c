#include "tests/unit/test.h"

#include "agent/keeper/identity.h"
#include "agent/net/identity.h"
#include "common/clock.h"
#include "common/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/cms.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

/* Checked here with OpenSSL directly, not with the module under test. */

#define SMSID "GUID:D2A91F63-7C18-4B57-8E0A-5523C0A1B9F4"

/* --- the file: keeper ---------------------------------------------------- */

static void read_pem(const char *folder, struct buf *out)
{
	struct err e = { 0 };
	autobuf path = { 0 };
	buf_print(&path, "%s/identity.pem", folder);
	assert_ok(fs_read_all(AT_FDCWD, path.at, out, &e));
}

static void ensure(const char *folder, struct buf *pem)
{
	struct err e = { 0 };
	char *path = NULL;
	assert_ok(identity_ensure(folder, &path, &e));
	assert_int_equal(path[0], '/');
	assert_string_equal(strrchr(path, '/'), "/identity.pem");
	free(path);
	read_pem(folder, pem);
}

static X509 *certificate_of(const struct buf *pem)
{
	BIO *b = BIO_new_mem_buf(pem->at, (int)pem->len);
	X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);
	BIO_free(b);
	assert_non_null(x);
	return x;
}

TEST(identity_ensure__first_time__what_a_site_expects)
{
	const char *folder = test_folder();
	autobuf pem = { 0 };
	struct stat st;
	char path[512], name[64];
	int days, seconds;
	ensure(folder, &pem);
	snprintf(path, sizeof(path), "%s/identity.pem", folder);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	X509 *x = certificate_of(&pem);
	X509_NAME_oneline(X509_get_subject_name(x), name, sizeof(name));
	assert_string_equal(name, "/CN=ConfigMgr Client");
	assert_int_equal(EVP_PKEY_get_bits(X509_get0_pubkey(x)), 2048);
	assert_int_equal(X509_get_signature_nid(x), NID_sha256WithRSAEncryption);
	assert_int_equal(X509_verify(x, X509_get0_pubkey(x)), 1);
	assert_int_equal(X509_get_key_usage(x),
			 KU_DIGITAL_SIGNATURE | KU_DATA_ENCIPHERMENT);
	EXTENDED_KEY_USAGE *use = X509_get_ext_d2i(x, NID_ext_key_usage, NULL, NULL);
	assert_int_equal(sk_ASN1_OBJECT_num(use), 2);
	for (int i = 0; i < 2; i++) {
		char oid[64];
		OBJ_obj2txt(oid, sizeof(oid), sk_ASN1_OBJECT_value(use, i), 1);
		assert_string_equal(oid, i ? "1.3.6.1.4.1.311.101" :
					     "1.3.6.1.4.1.311.101.2");
	}
	sk_ASN1_OBJECT_pop_free(use, ASN1_OBJECT_free);
	/* a day before now, and for decades */
	assert_int_equal(ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(x), NULL),
			 1);
	assert_int_equal(days, 1);
	assert_int_equal(ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(x)),
			 1);
	assert_in_range(days, 3650, 10000);
	X509_free(x);
}

TEST(identity_ensure__again__the_same_file)
{
	const char *folder = test_folder();
	autobuf first = { 0 };
	autobuf second = { 0 };
	ensure(folder, &first);
	ensure(folder, &second);
	assert_string_equal(first.at, second.at);
}

TEST(identity_ensure__several_at_once__all_have_one)
{
	pid_t pids[4];
	const char *folder = test_folder();
	for (size_t i = 0; i < 4; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			struct err e = { 0 };
			char *path = NULL, mine[64], seen[64];
			if (identity_ensure(folder, &path, &e) != ERR_OK)
				_exit(1);
			/* the id goes with the key that is there now */
			snprintf(mine, sizeof(mine), SMSID);
			if (identity_set_smsid(folder, mine, &e) != ERR_OK ||
			    identity_get_smsid(folder, seen, &e) != ERR_OK ||
			    strcmp(mine, seen) != 0)
				_exit(2);
			free(path);
			_exit(0);
		}
	}
	for (size_t i = 0; i < 4; i++) {
		int status;
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	autobuf pem = { 0 };
	ensure(folder, &pem);
	struct err e = { 0 };
	struct identity *i = identity_new(buf_as_span(&pem), &e);
	assert_non_null(i);
	identity_free(i);
}

TEST(identity_ensure__broken_file__set_aside_and_a_new_one)
{
	static const char *const contents[] = { "", "not a key at all\n" };
	struct log_options quiet = { .stderr_level = LOG_ERROR, .dir_fd = -1 };
	log_open(&quiet);
	for (size_t n = 0; n < 2; n++) {
		struct err e = { 0 };
		const char *folder = test_folder();
		autobuf pem = { 0 };
		char path[512];
		snprintf(path, sizeof(path), "%s/identity.pem", folder);
		int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		assert_true(fd >= 0);
		assert_int_equal(write(fd, contents[n], strlen(contents[n])),
				 strlen(contents[n]));
		close(fd);
		ensure(folder, &pem);
		struct identity *i = identity_new(buf_as_span(&pem), &e);
		assert_non_null(i);
		identity_free(i);
	}
	log_close();
}

TEST(identity_get_smsid__never_set__empty)
{
	const char *folder = test_folder();
	struct err e = { 0 };
	char id[64] = "x";
	assert_ok(identity_get_smsid(folder, id, &e));
	assert_string_equal(id, "");
}

TEST(identity_get_smsid__key_changed__empty)
{
	const char *folder = test_folder();
	struct err e = { 0 };
	autobuf pem = { 0 };
	char id[64], path[512];
	ensure(folder, &pem);
	assert_ok(identity_set_smsid(folder, SMSID, &e));
	assert_ok(identity_get_smsid(folder, id, &e));
	assert_string_equal(id, SMSID);
	snprintf(path, sizeof(path), "%s/identity.pem", folder);
	assert_int_equal(unlink(path), 0);
	assert_ok(identity_get_smsid(folder, id, &e));
	assert_string_equal(id, "");
	buf_clear(&pem);
	ensure(folder, &pem);
	assert_ok(identity_get_smsid(folder, id, &e));
	assert_string_equal(id, "");
}

TEST(identity_set_smsid__no_guid__refused)
{
	const char *folder = test_folder();
	struct err e = { 0 };
	autobuf pem = { 0 };
	ensure(folder, &pem);
	assert_err(identity_set_smsid(folder, "GUID:x\n", &e), ERR_INTERNAL);
}

TEST(identity_set_smsid__no_identity__says_so)
{
	const char *folder = test_folder();
	struct err e = { 0 };
	assert_err(identity_set_smsid(folder, SMSID, &e), ERR_FOLDER);
	assert_non_null(strstr(e.text, "identity.pem is missing"));
}

/* --- using it: net ------------------------------------------------------- */

struct fixture {
	const char *folder;
	struct buf pem;
	X509 *x;
	struct identity *identity;
};

static void fixture_free(struct fixture *f)
{
	identity_free(f->identity);
	X509_free(f->x);
	buf_free(&f->pem);
}
#define autofixture __attribute__((cleanup(fixture_free))) struct fixture

static void fixture_open(struct fixture *f)
{
	struct err e = { 0 };
	f->folder = test_folder();
	ensure(f->folder, &f->pem);
	f->x = certificate_of(&f->pem);
	f->identity = identity_new(buf_as_span(&f->pem), &e);
	assert_non_null(f->identity);
}

/* Hex in capitals, octets reversed: what CryptoAPI writes. */
static size_t unhex_reversed(const char *hex, unsigned char *out)
{
	size_t n = strlen(hex) / 2;
	for (size_t i = 0; i < n; i++) {
		unsigned value;
		char two[3] = { hex[2 * i], hex[2 * i + 1], 0 };
		assert_int_equal(strspn(two, "0123456789ABCDEF"), 2);
		value = (unsigned)strtoul(two, NULL, 16);
		out[n - 1 - i] = (unsigned char)value;
	}
	return n;
}

static bool is_signed(const struct fixture *f, const char *hex, const void *bytes,
		      size_t len)
{
	unsigned char signature[512];
	size_t n = unhex_reversed(hex, signature);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, X509_get0_pubkey(f->x));
	bool ok = EVP_DigestVerify(ctx, signature, n, bytes, len) == 1;
	EVP_MD_CTX_free(ctx);
	return ok;
}

TEST(identity_sign__bytes__pkcs1_sha256_reversed)
{
	struct err e = { 0 };
	autofixture f = { 0 };
	autobuf hex = { 0 };
	fixture_open(&f);
	assert_ok(identity_sign(f.identity, SPAN_LIT("ab\0cd"), &hex, &e));
	assert_int_equal(hex.len, 512);
	assert_true(is_signed(&f, hex.at, "ab\0cd", 5));
	assert_false(is_signed(&f, hex.at, "ab\0ce", 5));
}

TEST(identity_sign_text__wide_with_and_without_nul)
{
	struct err e = { 0 };
	autofixture f = { 0 };
	autobuf with = { 0 };
	autobuf without = { 0 };
	fixture_open(&f);
	assert_ok(identity_sign_text(f.identity, SPAN_LIT("GU"), true, &with, &e));
	assert_ok(identity_sign_text(f.identity, SPAN_LIT("GU"), false, &without, &e));
	assert_true(is_signed(&f, with.at, "G\0U\0\0\0", 6));
	assert_true(is_signed(&f, without.at, "G\0U\0", 4));
}

TEST(identity_public_key__blob_of_2048_bits)
{
	autofixture f = { 0 };
	BIGNUM *n = NULL;
	unsigned char modulus[256];
	char tail[513];
	fixture_open(&f);
	struct span blob = identity_public_key(f.identity);
	assert_int_equal(blob.len, 2 * (20 + 256));
	assert_memory_equal(blob.at, "0602000000A40000525341310008000001000100", 40);
	EVP_PKEY_get_bn_param(X509_get0_pubkey(f.x), "n", &n);
	assert_int_equal(BN_bn2binpad(n, modulus, 256), 256);
	snprintf(tail, sizeof(tail), "%.*s", 512, blob.at + 40);
	unsigned char from_blob[256];
	assert_int_equal(unhex_reversed(tail, from_blob), 256);
	assert_memory_equal(from_blob, modulus, 256);
	BN_free(n);
}

TEST(identity_certificate__der_in_hex)
{
	autofixture f = { 0 };
	unsigned char *der = NULL, reversed[4096];
	fixture_open(&f);
	int len = i2d_X509(f.x, &der);
	assert_int_equal(unhex_reversed(identity_certificate(f.identity).at, reversed),
			 len);
	for (int i = 0; i < len; i++)
		assert_int_equal(reversed[len - 1 - i], der[i]);
	OPENSSL_free(der);
}

/* A sealed body as a site makes it: RSA PKCS#1 v1.5 or OAEP. */
static void seal(const struct fixture *f, const EVP_CIPHER *cipher, bool is_oaep,
		 const char *text, size_t len, struct buf *out)
{
	BIO *in = BIO_new_mem_buf(text, (int)len);
	unsigned flags = CMS_BINARY | CMS_PARTIAL | CMS_KEY_PARAM;
	CMS_ContentInfo *cms = CMS_encrypt(NULL, in, cipher, flags);
	CMS_RecipientInfo *to = CMS_add1_recipient_cert(cms, f->x, flags);
	assert_non_null(to);
	if (is_oaep)
		EVP_PKEY_CTX_set_rsa_padding(CMS_RecipientInfo_get0_pkey_ctx(to),
					     RSA_PKCS1_OAEP_PADDING);
	assert_int_equal(CMS_final(cms, in, NULL, CMS_BINARY), 1);
	unsigned char *der = NULL;
	int n = i2d_CMS_ContentInfo(cms, &der);
	buf_add(out, der, (size_t)n);
	OPENSSL_free(der);
	CMS_ContentInfo_free(cms);
	BIO_free(in);
}

TEST(identity_open__every_kind__the_text)
{
	autofixture f = { 0 };
	fixture_open(&f);
	for (int kind = 0; kind < 4; kind++) {
		struct err e = { 0 };
		autobuf sealed = { 0 };
		autobuf clear = { 0 };
		seal(&f, kind & 1 ? EVP_aes_256_cbc() : EVP_des_ede3_cbc(), kind & 2,
		     "<\0a\0/\0>\0", 8, &sealed);
		assert_true(identity_is_sealed(buf_as_span(&sealed)));
		assert_ok(identity_open(f.identity, buf_as_span(&sealed), &clear, &e));
		assert_int_equal(clear.len, 8);
		assert_memory_equal(clear.at, "<\0a\0/\0>\0", 8);
	}
}

TEST(identity_open__for_another_key__one_text_for_it)
{
	struct err e = { 0 };
	autofixture f = { 0 };
	autobuf sealed = { 0 };
	autobuf clear = { 0 };
	fixture_open(&f);
	seal(&f, EVP_aes_256_cbc(), false, "text", 4, &sealed);
	autofixture other = { 0 };
	fixture_open(&other);
	assert_err(identity_open(other.identity, buf_as_span(&sealed), &clear, &e),
		   ERR_MP_REPLY);
	assert_non_null(strstr(e.text, "cannot be opened with the key"));
	assert_int_equal(clear.len, 0);
}

TEST(identity_open__damaged_or_none__refused)
{
	struct err e = { 0 };
	autofixture f = { 0 };
	autobuf sealed = { 0 };
	fixture_open(&f);
	seal(&f, EVP_des_ede3_cbc(), false, "text", 4, &sealed);
	for (size_t cut = 1; cut < sealed.len; cut += 37) {
		autobuf clear = { 0 };
		struct span part = { sealed.at, cut };
		assert_err(identity_open(f.identity, part, &clear, &e), ERR_MP_REPLY);
	}
	autobuf clear = { .max = 2 };
	assert_err(identity_open(f.identity, buf_as_span(&sealed), &clear, &e),
		   ERR_MP_REPLY);
	assert_non_null(strstr(e.text, "too long"));
}

TEST(identity_is_sealed__texts__no)
{
	static const struct span texts[] = {
		{ "<?xml", 5 }, { "\xff\xfe<\0", 4 }, { "<\0?\0", 4 },
		{ "\xef\xbb\xbf<", 4 }, { "0082", 4 }, { "0\0" "8\0", 4 }, { "", 0 },
		{ "0\x82", 2 },
	};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_false(identity_is_sealed(texts[i]));
}

TEST(identity_new__nothing_usable__says_what)
{
	struct err e = { 0 };
	autofixture f = { 0 };
	fixture_open(&f);
	const char *certificate = strstr(f.pem.at, "-----BEGIN CERTIFICATE");
	struct span key = { f.pem.at, (size_t)(certificate - f.pem.at) };
	assert_null(identity_new(SPAN_LIT("no"), &e));
	assert_err(e.code, ERR_CONFIG);
	assert_null(identity_new(key, &e));
	assert_non_null(strstr(e.text, "no certificate"));
	assert_null(identity_new(span_of(certificate), &e));
	assert_non_null(strstr(e.text, "no private key"));
}
