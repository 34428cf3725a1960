#include "tests/unit/test.h"

#include "agent/net/verify.h"
#include "common/buf.h"
#include "common/clock.h"

#include <stdlib.h>
#include <string.h>

/* OpenSSL has an old type of this name; here it is our error code. */
#define ERR_STATE OPENSSL_ERR_STATE
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#undef ERR_STATE

/*
 * Chains made here and now, judged at a fixed time. The public suites
 * (tests/certs) have the breadth; these tests say why in words.
 */
#define NOW 1800000000 /* 2027-01-15T08:00:00Z */
#define DAY 86400

/* A certificate to be made; zero is a good one. */
struct plan {
	const char *subject;      /* CN */
	const char *san;          /* as in openssl.cnf; NULL = none */
	const char *eku;          /* NULL = serverAuth for a leaf, none for a CA */
	bool is_ca, has_no_eku;
	const char *constraints;  /* nameConstraints */
	int64_t from, until;      /* 0 = a day before, a year after NOW */
	unsigned rsa_bits;        /* 0 = P-256 */
	const EVP_MD *digest;     /* NULL = SHA-256 */
	long serial;              /* 0 = the next one */
};

struct made {
	X509 *cert;
	EVP_PKEY *key;
};

static long serials = 1000;

static void free_made(struct made *m)
{
	X509_free(m->cert);
	EVP_PKEY_free(m->key);
}
#define automade __attribute__((cleanup(free_made))) struct made

static void free_verify(struct verify **v)
{
	verify_free(*v);
}
#define autoverify __attribute__((cleanup(free_verify))) struct verify

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	X509_EXTENSION *ext = X509V3_EXT_nconf_nid(NULL, &ctx, nid, value);
	assert_non_null(ext);
	assert_int_equal(X509_add_ext(cert, ext, -1), 1);
	X509_EXTENSION_free(ext);
}

static struct made make(const struct plan *p, const struct made *issuer)
{
	struct made m = { X509_new(), NULL };
	m.key = p->rsa_bits ? EVP_RSA_gen(p->rsa_bits) : EVP_EC_gen("P-256");
	assert_non_null(m.key);
	X509 *signer = issuer ? issuer->cert : m.cert;
	X509_set_version(m.cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(m.cert), p->serial ? p->serial : ++serials);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(m.cert), "CN", MBSTRING_UTF8,
				   (const unsigned char *)p->subject, -1, -1, 0);
	X509_set_issuer_name(m.cert, X509_get_subject_name(signer));
	ASN1_TIME_set(X509_getm_notBefore(m.cert), p->from ? p->from : NOW - DAY);
	ASN1_TIME_set(X509_getm_notAfter(m.cert), p->until ? p->until : NOW + 365 * DAY);
	X509_set_pubkey(m.cert, m.key);
	if (p->is_ca) {
		add_extension(m.cert, signer, NID_basic_constraints, "critical,CA:TRUE");
		add_extension(m.cert, signer, NID_key_usage, "critical,keyCertSign,cRLSign");
	} else {
		add_extension(m.cert, signer, NID_key_usage, "critical,digitalSignature");
	}
	add_extension(m.cert, signer, NID_subject_key_identifier, "hash");
	if (issuer)
		add_extension(m.cert, signer, NID_authority_key_identifier, "keyid");
	if (p->eku || (!p->is_ca && !p->has_no_eku))
		add_extension(m.cert, signer, NID_ext_key_usage,
			      p->eku ? p->eku : "serverAuth");
	if (p->san)
		add_extension(m.cert, signer, NID_subject_alt_name, p->san);
	if (p->constraints)
		add_extension(m.cert, signer, NID_name_constraints, p->constraints);
	assert_true(X509_sign(m.cert, issuer ? issuer->key : m.key,
			      p->digest ? p->digest : EVP_sha256()) > 0);
	return m;
}

static struct made make_ca(const char *subject, const struct made *issuer)
{
	return make(&(struct plan){ .subject = subject, .is_ca = true }, issuer);
}

static struct made make_leaf(const char *san, const struct made *issuer)
{
	return make(&(struct plan){ .subject = "server", .san = san }, issuer);
}

static void add_bio(struct buf *out, BIO *bio)
{
	char *at = NULL;
	long len = BIO_get_mem_data(bio, &at);
	buf_span(out, (struct span){ at, (size_t)len });
	BIO_free(bio);
}

static void add_pem(struct buf *out, const X509 *cert)
{
	BIO *bio = BIO_new(BIO_s_mem());
	PEM_write_bio_X509(bio, (X509 *)cert);
	add_bio(out, bio);
}

static void add_key(struct buf *out, EVP_PKEY *key, const char *password)
{
	BIO *bio = BIO_new(BIO_s_mem());
	PEM_write_bio_PKCS8PrivateKey(bio, key, password ? EVP_aes_128_cbc() : NULL,
				      password, password ? (int)strlen(password) : 0,
				      NULL, NULL);
	add_bio(out, bio);
}

static struct verify *trusting_with(const struct made *root, struct verify_options o)
{
	autobuf pem = { 0 };
	struct err e = { 0 };
	add_pem(&pem, root->cert);
	o.ca_pem = buf_as_span(&pem);
	if (o.tls_minimum == 0)
		o.tls_minimum = 12;
	struct verify *v = verify_new(&o, &e);
	if (v == NULL)
		print_error("%s\n", e.text);
	assert_non_null(v);
	return v;
}

static struct verify *trusting(const struct made *root, bool is_strict)
{
	return trusting_with(root, (struct verify_options){ .is_strict = is_strict });
}

static struct verify_story story;

/* Judge leaf, then an intermediate that may be NULL, at NOW. */
static enum err_code judge(const struct verify *v, const struct made *leaf,
			   const struct made *intermediate, const char *name)
{
	autobuf pem = { 0 };
	add_pem(&pem, leaf->cert);
	if (intermediate)
		add_pem(&pem, intermediate->cert);
	return verify_pem(v, buf_as_span(&pem), name, false, NOW, &story);
}

static void assert_has(const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		print_error("\"%s\" does not hold \"%s\"\n", text, part);
	assert_non_null(strstr(text, part));
}

TEST(verify_pem__good_chain__trusted_and_told)
{
	automade root = make_ca("Root", NULL), ica = make_ca("Issuing", &root);
	automade leaf = make_leaf("DNS:dp1.example.net,DNS:dp2.example.net,IP:192.0.2.7",
				  &ica);
	autoverify *v = trusting(&root, true);
	assert_err(judge(v, &leaf, &ica, "DP1.example.net"), ERR_OK);
	assert_true(story.is_judged);
	assert_string_equal(story.result.text, "");
	assert_int_equal(story.count, 3);
	assert_string_equal(story.chain[0].subject, "CN=server");
	assert_string_equal(story.chain[0].issuer, "CN=Issuing");
	assert_string_equal(story.chain[0].not_before, "2027-01-14T08:00:00Z");
	assert_string_equal(story.chain[0].not_after, "2028-01-15T08:00:00Z");
	assert_string_equal(story.chain[0].names,
			    "dp1.example.net\ndp2.example.net\n192.0.2.7\n");
	assert_string_equal(story.chain[2].subject, "CN=Root");
	for (unsigned i = 0; i < 3; i++)
		assert_string_equal(story.chain[i].problem, "");
}

TEST(verify_pem__names__only_by_the_rules)
{
	static const struct {
		const char *san, *name;
		bool is_ip;
		enum err_code code;
	} rows[] = {
		{ "DNS:dp.example.net", "dp.example.net", false, ERR_OK },
		{ "DNS:DP.Example.NET", "dp.eXample.net", false, ERR_OK },
		{ "DNS:dp.example.net", "dp.example.net.", false, ERR_OK },
		{ "DNS:dp.example.net", "example.net", false, ERR_TLS_NAME },
		{ "DNS:dp.example.net", "a.dp.example.net", false, ERR_TLS_NAME },
		{ "DNS:*.example.com", "b.example.com", false, ERR_OK },
		{ "DNS:*.example.com", "a.b.example.com", false, ERR_TLS_NAME },
		{ "DNS:*.example.com", "example.com", false, ERR_TLS_NAME },
		{ "DNS:f*.example.com", "foo.example.com", false, ERR_TLS_NAME },
		{ "DNS:*o.example.com", "foo.example.com", false, ERR_TLS_NAME },
		{ "DNS:f*o.example.com", "foo.example.com", false, ERR_TLS_NAME },
		{ "DNS:foo.*.com", "foo.example.com", false, ERR_TLS_NAME },
		{ "DNS:*.*.example.com", "a.b.example.com", false, ERR_TLS_NAME },
		{ "DNS:*.com", "example.com", false, ERR_TLS_NAME },
		{ "DNS:*", "localhost", false, ERR_TLS_NAME },
		{ "DNS:xn--*.example.com", "xn--a.example.com", false, ERR_TLS_NAME },
		{ "DNS:.example.com", "a.example.com", false, ERR_TLS_NAME },
		{ "IP:192.0.2.7", "192.0.2.7", true, ERR_OK },
		{ "IP:192.0.2.7", "192.0.2.7", false, ERR_OK },
		{ "IP:192.0.2.7", "192.0.2.8", true, ERR_TLS_NAME },
		{ "IP:2001:db8::1", "2001:DB8:0::1", true, ERR_OK },
		{ "DNS:192.0.2.7", "192.0.2.7", true, ERR_TLS_NAME },
		{ "DNS:192.0.2.7", "192.0.2.7", false, ERR_TLS_NAME },
		{ "IP:192.0.2.7", "dp.example.net", false, ERR_TLS_NAME },
		{ "URI:https://dp.example.net", "dp.example.net", false, ERR_TLS_NAME },
		{ "email:a@dp.example.net", "dp.example.net", false, ERR_TLS_NAME },
	};
	automade root = make_ca("Root", NULL);
	autoverify *v = trusting(&root, false);
	autoverify *strict = trusting(&root, true);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		automade leaf = make_leaf(rows[i].san, &root);
		autobuf pem = { 0 };
		add_pem(&pem, leaf.cert);
		enum err_code rc = verify_pem(v, buf_as_span(&pem), rows[i].name,
					      rows[i].is_ip, NOW, &story);
		if (rc != rows[i].code)
			print_error("%s for %s: %s\n", rows[i].san, rows[i].name,
				    story.result.text);
		assert_err(rc, rows[i].code);
		rc = verify_pem(strict, buf_as_span(&pem), rows[i].name, rows[i].is_ip,
				NOW, &story);
		assert_int_equal(rc == ERR_OK, rows[i].code == ERR_OK);
	}
}

TEST(verify_pem__no_host_name__never_any)
{
	static const char *const names[] = { "", ".", "..", ".example.net", "a..example.net",
					     "*.example.net", "a b", "a/b", "a\nb",
					     "dp.example.net..", "[::1]", "dp:443" };
	automade root = make_ca("Root", NULL);
	automade leaf = make_leaf("DNS:a.example.net", &root);
	autoverify *v = trusting(&root, true);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_err(judge(v, &leaf, NULL, names[i]), ERR_INTERNAL);
	autobuf pem = { 0 };
	add_pem(&pem, leaf.cert);
	assert_err(verify_pem(v, buf_as_span(&pem), "a.example.net", true, NOW, &story),
		   ERR_INTERNAL);
}

TEST(verify_pem__common_name_only__refused_with_reason)
{
	automade root = make_ca("Root", NULL);
	automade leaf = make(&(struct plan){ .subject = "dp.example.net" }, &root);
	autoverify *v = trusting(&root, false);
	assert_err(judge(v, &leaf, NULL, "dp.example.net"), ERR_TLS_NAME);
	assert_has(story.chain[0].problem, "it has no subjectAltName");
	assert_has(story.result.text, "a common name does not count");
}

TEST(verify_pem__wrong_name__lists_the_right_ones)
{
	automade root = make_ca("Root", NULL);
	automade leaf = make_leaf("DNS:dp1.example.net,DNS:*.example.com", &root);
	autoverify *v = trusting(&root, true);
	assert_err(judge(v, &leaf, NULL, "dp2.example.net"), ERR_TLS_NAME);
	assert_string_equal(story.chain[0].problem,
			    "not for dp2.example.net, but for dp1.example.net, "
			    "*.example.com");
	assert_string_equal(story.chain[1].problem, "");
	assert_err(judge(v, &leaf, NULL, "a.b.example.com"), ERR_TLS_NAME);
	assert_has(story.chain[0].problem, "a wildcard stands for exactly one label");
}

TEST(verify_pem__names_with_control_bytes__escaped_and_no_match)
{
	static const char name[] = "dp.example.net\0.evil.test\nx";
	automade root = make_ca("Root", NULL), leaf = make_leaf("DNS:x.example.net", &root);
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
	GENERAL_NAME *gn = GENERAL_NAME_new();
	ASN1_IA5STRING *ia5 = ASN1_IA5STRING_new();
	ASN1_STRING_set(ia5, name, (int)sizeof(name) - 1);
	GENERAL_NAME_set0_value(gn, GEN_DNS, ia5);
	sk_GENERAL_NAME_push(names, gn);
	X509_add1_ext_i2d(leaf.cert, NID_subject_alt_name, names, 0, X509V3_ADD_REPLACE);
	GENERAL_NAMES_free(names);
	X509_sign(leaf.cert, root.key, EVP_sha256());
	autoverify *v = trusting(&root, false);
	assert_err(judge(v, &leaf, NULL, "dp.example.net"), ERR_TLS_NAME);
	assert_string_equal(story.chain[0].names, "dp.example.net\\x00.evil.test\\x0ax\n");
}

TEST(verify_pem__missing_intermediate__says_so)
{
	automade root = make_ca("Root", NULL), ica = make_ca("Issuing", &root);
	automade leaf = make_leaf("DNS:dp.example.net", &ica);
	autoverify *v = trusting(&root, true);
	assert_err(judge(v, &leaf, NULL, "dp.example.net"), ERR_TLS_CHAIN);
	assert_int_equal(story.count, 1);
	assert_has(story.chain[0].problem,
		   "issuer CN=Issuing not found: the server must send its intermediate");
	assert_has(story.result.text, "certificate for dp.example.net is refused: "
				      "CN=server: issuer CN=Issuing not found");
}

TEST(verify_pem__wrong_intermediate_sent__both_are_told)
{
	automade root = make_ca("Root", NULL), ica = make_ca("Issuing", &root);
	automade other = make_ca("Other", &root);
	automade leaf = make_leaf("DNS:dp.example.net", &ica);
	autoverify *v = trusting(&root, true);
	assert_err(judge(v, &leaf, &other, "dp.example.net"), ERR_TLS_CHAIN);
	assert_int_equal(story.count, 2);
	assert_has(story.chain[0].problem, "neither sent by the server");
	assert_string_equal(story.chain[1].subject, "CN=Other");
}

TEST(verify_pem__unknown_root__says_so)
{
	automade root = make_ca("Root", NULL), stranger = make_ca("Stranger", NULL);
	automade leaf = make_leaf("DNS:dp.example.net", &stranger);
	autoverify *v = trusting(&root, true);
	assert_err(judge(v, &leaf, &stranger, "dp.example.net"), ERR_TLS_CHAIN);
	assert_has(story.chain[1].problem, "self-signed root that is not among the trusted");
	automade own = make_leaf("DNS:dp.example.net", NULL);
	assert_err(judge(v, &own, NULL, "dp.example.net"), ERR_TLS_CHAIN);
	assert_has(story.chain[0].problem, "self-signed and not among the trusted");
}

TEST(verify_pem__same_name_other_key__says_so)
{
	automade root = make_ca("Root", NULL), impostor = make_ca("Root", NULL);
	automade leaf = make_leaf("DNS:dp.example.net", &impostor);
	autoverify *v = trusting(&root, true);
	assert_err(judge(v, &leaf, NULL, "dp.example.net"), ERR_TLS_CHAIN);
	assert_has(story.chain[0].problem, "a certificate named CN=Root is trusted, but");
}

TEST(verify_pem__intermediate_or_leaf_as_anchor__no_partial_chain)
{
	automade root = make_ca("Root", NULL), ica = make_ca("Issuing", &root);
	automade leaf = make_leaf("DNS:dp.example.net", &ica);
	for (int is_strict = 0; is_strict < 2; is_strict++) {
		autoverify *by_ica = trusting(&ica, is_strict);
		assert_err(judge(by_ica, &leaf, &ica, "dp.example.net"), ERR_TLS_CHAIN);
		assert_has(story.chain[1].problem,
			   "no root: its issuer CN=Root is missing in [tls] ca_file");
		autoverify *by_leaf = trusting(&leaf, is_strict);
		assert_err(judge(by_leaf, &leaf, NULL, "dp.example.net"), ERR_TLS_CHAIN);
	}
}

TEST(verify_pem__outside_validity__time_with_both_clocks)
{
	automade root = make(&(struct plan){ .subject = "Root", .is_ca = true, .from = 1,
					     .until = NOW + 10L * 365 * DAY }, NULL);
	automade old = make(&(struct plan){ .subject = "old", .san = "DNS:dp.example.net",
					    .from = 1, .until = NOW - DAY }, &root);
	automade young = make(&(struct plan){ .subject = "young", .from = NOW + DAY,
					      .san = "DNS:dp.example.net" }, &root);
	autoverify *v = trusting(&root, true);
	assert_err(judge(v, &old, NULL, "dp.example.net"), ERR_TLS_TIME);
	assert_has(story.chain[0].problem, "expired since 2027-01-14T08:00:00Z (judged at "
					   "2027-01-15T08:00:00Z)");
	assert_err(judge(v, &young, NULL, "dp.example.net"), ERR_TLS_TIME);
	assert_has(story.chain[0].problem, "not valid before 2027-01-16T08:00:00Z");
	struct clock_fake fake = { .wall_ms = 5000 };
	clock_set_fake(&fake);
	autobuf pem = { 0 };
	add_pem(&pem, young.cert);
	enum err_code rc = verify_pem(v, buf_as_span(&pem), "dp.example.net", false,
				      INT64_MIN, &story);
	clock_set_fake(NULL);
	assert_err(rc, ERR_TLS_TIME);
	assert_has(story.result.text, "this machine's clock is not set: it says 1970-01-01");
}

TEST(verify_pem__usage__server_authentication_is_demanded)
{
	automade root = make_ca("Root", NULL);
	automade none = make(&(struct plan){ .subject = "none", .has_no_eku = true,
					     .san = "DNS:dp.example.net" }, &root);
	automade client = make(&(struct plan){ .subject = "client", .eku = "clientAuth",
					       .san = "DNS:dp.example.net" }, &root);
	automade any = make(&(struct plan){ .subject = "any", .san = "DNS:dp.example.net",
					    .eku = "serverAuth,anyExtendedKeyUsage" },
			    &root);
	for (int is_strict = 0; is_strict < 2; is_strict++) {
		autoverify *v = trusting(&root, is_strict);
		assert_err(judge(v, &none, NULL, "dp.example.net"), ERR_TLS_CHAIN);
		assert_has(story.chain[0].problem, "does not name server authentication");
		assert_err(judge(v, &client, NULL, "dp.example.net"), ERR_TLS_CHAIN);
		assert_string_equal(story.chain[0].problem,
				    "its extended key usage does not name server "
				    "authentication");
		assert_err(judge(v, &any, NULL, "dp.example.net"),
			   is_strict ? ERR_TLS_CHAIN : ERR_OK);
	}
}

TEST(verify_pem__sloppy_leaf__standard_only)
{
	automade root = make_ca("Root", NULL);
	automade zero = make(&(struct plan){ .subject = "zero", .serial = -1,
					     .san = "DNS:dp.example.net" }, &root);
	automade weak = make(&(struct plan){ .subject = "weak", .rsa_bits = 1024,
					     .san = "DNS:dp.example.net" }, &root);
	automade name = make_leaf("DNS:dp.example.net,DNS:under_score.example.net", &root);
	autoverify *strict = trusting(&root, true);
	autoverify *standard = trusting(&root, false);
	assert_err(judge(strict, &zero, NULL, "dp.example.net"), ERR_TLS_CHAIN);
	assert_has(story.chain[0].problem, "serial number");
	assert_has(story.chain[0].problem, "(profile = strict)");
	assert_err(judge(standard, &zero, NULL, "dp.example.net"), ERR_OK);
	assert_err(judge(strict, &weak, NULL, "dp.example.net"), ERR_TLS_CHAIN);
	assert_has(story.chain[0].problem, "its key is too weak (RSA, 1024 bits)");
	assert_err(judge(standard, &weak, NULL, "dp.example.net"), ERR_OK);
	assert_err(judge(strict, &name, NULL, "dp.example.net"), ERR_TLS_CHAIN);
	assert_err(judge(standard, &name, NULL, "dp.example.net"), ERR_OK);
}

TEST(verify_pem__ca_as_leaf_or_leaf_as_ca__refused)
{
	automade root = make_ca("Root", NULL);
	automade ca = make(&(struct plan){ .subject = "CA", .is_ca = true, .eku = "serverAuth",
					   .san = "DNS:dp.example.net" }, &root);
	automade leaf = make_leaf("DNS:dp.example.net", &root);
	automade below = make_leaf("DNS:dp.example.net", &leaf);
	autoverify *v = trusting(&root, true);
	assert_err(judge(v, &ca, NULL, "dp.example.net"), ERR_TLS_CHAIN);
	assert_has(story.chain[0].problem, "it is a CA certificate, not one for a server");
	autoverify *standard = trusting(&root, false);
	assert_err(judge(standard, &below, &leaf, "dp.example.net"), ERR_TLS_CHAIN);
}

TEST(verify_pem__sha1_signature__refused)
{
	automade root = make_ca("Root", NULL);
	automade leaf = make(&(struct plan){ .subject = "sha1", .digest = EVP_sha1(),
					     .san = "DNS:dp.example.net" }, &root);
	autoverify *v = trusting(&root, false);
	assert_err(judge(v, &leaf, NULL, "dp.example.net"), ERR_TLS_CHAIN);
	assert_has(story.chain[0].problem, "signed with a weak algorithm (ecdsa-with-SHA1)");
}

TEST(verify_pem__altered_certificate__refused)
{
	automade root = make_ca("Root", NULL), leaf = make_leaf("DNS:dp.example.net", &root);
	automade other = make_ca("Root", NULL);
	X509_sign(leaf.cert, other.key, EVP_sha256()); /* says Root, is not by it */
	autoverify *v = trusting(&root, true);
	assert_err(judge(v, &leaf, NULL, "dp.example.net"), ERR_TLS_CHAIN);
	assert_has(story.chain[0].problem, "not by its issuer's key");
}

TEST(verify_pem__name_constraints__hold_for_wildcards_too)
{
	automade root = make_ca("Root", NULL);
	automade ica = make(&(struct plan){ .subject = "Issuing", .is_ca = true,
					    .constraints = "critical,permitted;DNS:example."
							   "net,excluded;DNS:hq.example."
							   "net" }, &root);
	automade good = make_leaf("DNS:dp.example.net", &ica);
	automade outside = make_leaf("DNS:dp.example.com", &ica);
	automade excluded = make_leaf("DNS:dp.hq.example.net", &ica);
	automade wild = make_leaf("DNS:*.example.net", &ica);
	for (int is_strict = 0; is_strict < 2; is_strict++) {
		autoverify *v = trusting(&root, is_strict);
		assert_err(judge(v, &good, &ica, "dp.example.net"), ERR_OK);
		assert_err(judge(v, &outside, &ica, "dp.example.com"), ERR_TLS_CHAIN);
		assert_has(story.chain[0].problem, "outside those that its CA may sign for");
		assert_err(judge(v, &excluded, &ica, "dp.hq.example.net"), ERR_TLS_CHAIN);
		assert_err(judge(v, &wild, &ica, "dp.example.net"), ERR_TLS_CHAIN);
		assert_has(story.chain[0].problem, "its wildcard covers a name");
	}
}

TEST(verify_pem__everything_wrong__all_of_it_told)
{
	automade root = make_ca("Root", NULL);
	automade ica = make(&(struct plan){ .subject = "Issuing", .is_ca = true,
					    .until = NOW - DAY / 2 }, &root);
	automade leaf = make(&(struct plan){ .subject = "bad", .has_no_eku = true,
					     .san = "DNS:a.example.net", .serial = -5,
					     .until = NOW - 3600 }, &ica);
	autoverify *v = trusting(&root, true);
	assert_err(judge(v, &leaf, &ica, "b.example.net"), ERR_TLS_CHAIN);
	assert_has(story.chain[0].problem, "not for b.example.net, but for a.example.net");
	assert_has(story.chain[0].problem, "expired since 2027-01-15T07:00:00Z");
	assert_has(story.chain[0].problem, "does not name server authentication");
	assert_has(story.chain[1].problem, "expired since 2027-01-14T20:00:00Z");
	assert_string_equal(story.chain[2].problem, "");
	assert_has(story.result.text, "(and 4 more)");
}

TEST(verify_pem__endless_chain__refused_and_cut)
{
	struct made all[21] = { { NULL, NULL } };
	autobuf pem = { 0 };
	all[0] = make_ca("Root", NULL);
	for (int i = 1; i < 21; i++) {
		char subject[16];
		snprintf(subject, sizeof(subject), "CA %d", i);
		all[i] = i < 20 ? make_ca(subject, &all[i - 1]) :
				  make_leaf("DNS:dp.example.net", &all[i - 1]);
	}
	for (int i = 20; i > 0; i--)
		add_pem(&pem, all[i].cert);
	autoverify *v = trusting(&all[0], true);
	assert_err(verify_pem(v, buf_as_span(&pem), "dp.example.net", false, NOW, &story),
		   ERR_TLS_CHAIN);
	assert_has(story.result.text, "too many intermediate certificates");
	assert_int_equal(story.count, VERIFY_CHAIN_MAX);
	for (int i = 0; i < 21; i++)
		free_made(&all[i]);
}

/* A revocation list of `ca`, with `revoked` on it where given. */
static void add_crl(struct buf *out, const struct made *ca, const struct made *revoked,
		    int64_t until)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *from = ASN1_TIME_set(NULL, NOW - 2 * DAY);
	ASN1_TIME *next = ASN1_TIME_set(NULL, until);
	X509_CRL_set_version(crl, X509_CRL_VERSION_2);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->cert));
	X509_CRL_set1_lastUpdate(crl, from);
	X509_CRL_set1_nextUpdate(crl, next);
	if (revoked) {
		X509_REVOKED *entry = X509_REVOKED_new();
		X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(revoked->cert));
		X509_REVOKED_set_revocationDate(entry, from);
		X509_CRL_add0_revoked(crl, entry);
	}
	X509V3_CTX ctx;
	X509V3_set_ctx(&ctx, ca->cert, NULL, NULL, crl, 0);
	X509_EXTENSION *ext = X509V3_EXT_nconf_nid(NULL, &ctx, NID_authority_key_identifier,
						   "keyid");
	X509_CRL_add_ext(crl, ext, -1);
	X509_EXTENSION_free(ext);
	ASN1_INTEGER *number = ASN1_INTEGER_new();
	ASN1_INTEGER_set(number, 1);
	X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, 0);
	ASN1_INTEGER_free(number);
	assert_true(X509_CRL_sign(crl, ca->key, EVP_sha256()) > 0);
	BIO *bio = BIO_new(BIO_s_mem());
	PEM_write_bio_X509_CRL(bio, crl);
	add_bio(out, bio);
	X509_CRL_free(crl);
	ASN1_TIME_free(from);
	ASN1_TIME_free(next);
}

TEST(verify_pem__revocation__revoked_missing_and_stale)
{
	automade root = make_ca("Root", NULL), ica = make_ca("Issuing", &root);
	automade good = make_leaf("DNS:dp.example.net", &ica);
	automade bad = make_leaf("DNS:dp.example.net", &ica);
	autobuf crl = { 0 }, both = { 0 }, stale = { 0 }, fatal = { 0 };
	add_crl(&crl, &ica, &bad, NOW + DAY);
	add_crl(&both, &ica, &bad, NOW + DAY);
	add_crl(&both, &root, NULL, NOW + DAY);
	add_crl(&stale, &ica, NULL, NOW - DAY);
	add_crl(&fatal, &ica, NULL, NOW + DAY);
	add_crl(&fatal, &root, &ica, NOW + DAY);
	struct verify_options o = { .is_strict = true, .revocation = VERIFY_CRL_LEAF,
				    .crl_pem = buf_as_span(&crl) };
	autoverify *leaf_only = trusting_with(&root, o);
	assert_err(judge(leaf_only, &good, &ica, "dp.example.net"), ERR_OK);
	assert_err(judge(leaf_only, &bad, &ica, "dp.example.net"), ERR_TLS_REVOKED);
	assert_has(story.chain[0].problem, "revoked by its issuer since 2027-01-13T08:00:00Z");
	o.revocation = VERIFY_CRL_CHAIN;
	autoverify *chain = trusting_with(&root, o);
	assert_err(judge(chain, &good, &ica, "dp.example.net"), ERR_TLS_REVOCATION);
	assert_has(story.chain[1].problem, "no revocation list of its issuer CN=Root");
	o.crl_pem = buf_as_span(&both);
	autoverify *all = trusting_with(&root, o);
	assert_err(judge(all, &good, &ica, "dp.example.net"), ERR_OK);
	o.crl_pem = buf_as_span(&fatal);
	autoverify *ca_revoked = trusting_with(&root, o);
	assert_err(judge(ca_revoked, &good, &ica, "dp.example.net"), ERR_TLS_REVOKED);
	o.revocation = VERIFY_CRL_LEAF;
	o.crl_pem = buf_as_span(&stale);
	autoverify *old = trusting_with(&root, o);
	assert_err(judge(old, &good, &ica, "dp.example.net"), ERR_TLS_REVOCATION);
	assert_has(story.chain[0].problem, "ended 2027-01-14T08:00:00Z");
	o.revocation = VERIFY_CRL_OFF;
	o.crl_pem = buf_as_span(&crl);
	autoverify *off = trusting_with(&root, o);
	assert_err(judge(off, &bad, &ica, "dp.example.net"), ERR_OK);
}

TEST(verify_new__unusable_texts__config)
{
	automade root = make_ca("Root", NULL), client = make_leaf("DNS:client", &root);
	autobuf ca = { 0 }, cert = { 0 }, key = { 0 }, locked = { 0 };
	add_pem(&ca, root.cert);
	add_pem(&cert, client.cert);
	add_key(&key, root.key, NULL);
	add_key(&locked, client.key, "secret");
	struct span good = buf_as_span(&ca);
	struct span broken = SPAN_LIT("-----BEGIN CERTIFICATE-----\nAAAA\n"
				      "-----END CERTIFICATE-----\n");
	struct span half = { good.at, good.len / 2 };
	const struct {
		struct verify_options o;
		const char *text;
	} rows[] = {
		{ { .ca_pem = SPAN_LIT("") }, "[tls] ca_file: it holds no certificate" },
		{ { .ca_pem = SPAN_LIT("hello\n") }, "holds no certificate" },
		{ { .ca_pem = broken }, "certificate 1 is broken" },
		{ { .ca_pem = half }, "certificate 1 is broken" },
		{ { .ca_pem = good, .revocation = VERIFY_CRL_LEAF }, "revocation is on" },
		{ { .ca_pem = good, .crl_pem = good, .revocation = VERIFY_CRL_CHAIN },
		  "revocation is on" },
		{ { .ca_pem = good, .client_cert_pem = buf_as_span(&cert) },
		  "no unencrypted private key" },
		{ { .ca_pem = good, .client_key_pem = buf_as_span(&key) },
		  "[client] certificate: it holds no certificate" },
		{ { .ca_pem = good, .client_cert_pem = buf_as_span(&cert),
		    .client_key_pem = buf_as_span(&locked) }, "no unencrypted private key" },
		{ { .ca_pem = good, .client_cert_pem = buf_as_span(&cert),
		    .client_key_pem = buf_as_span(&key) }, "does not fit" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err e = { 0 };
		assert_null(verify_new(&rows[i].o, &e));
		assert_err(e.code, ERR_CONFIG);
		assert_has(e.text, rows[i].text);
	}
}

TEST(verify_pem__unreadable_pem__input)
{
	automade root = make_ca("Root", NULL);
	autoverify *v = trusting(&root, true);
	assert_err(verify_pem(v, SPAN_LIT(""), "a", false, NOW, &story), ERR_INPUT);
	assert_err(verify_pem(v, SPAN_LIT("-----BEGIN CERTIFICATE-----\nx"), "a", false, NOW,
			      &story), ERR_INPUT);
	assert_false(story.is_judged);
}

/* A live session over memory: one server, one client with verify_install. */
struct live {
	SSL_CTX *server_ctx, *client_ctx;
	SSL *server, *client;
	int client_error; /* X509_V_* */
};

static void live_close(struct live *l)
{
	SSL_free(l->client);
	SSL_free(l->server);
	SSL_CTX_free(l->client_ctx);
	SSL_CTX_free(l->server_ctx);
}
#define autolive __attribute__((cleanup(live_close))) struct live

static void live_open(struct live *l, const struct verify *v, const struct made *leaf,
		      const struct made *ica, const char *name, bool offer_client)
{
	struct err e = { 0 };
	l->server_ctx = SSL_CTX_new(TLS_server_method());
	SSL_CTX_set_security_level(l->server_ctx, 0);
	SSL_CTX_set_session_cache_mode(l->server_ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(l->server_ctx, SSL_OP_NO_TICKET);
	SSL_CTX_set_session_id_context(l->server_ctx, (const unsigned char *)"t", 1);
	SSL_CTX_use_certificate(l->server_ctx, leaf->cert);
	SSL_CTX_use_PrivateKey(l->server_ctx, leaf->key);
	if (ica)
		SSL_CTX_add1_chain_cert(l->server_ctx, ica->cert);
	l->client_ctx = SSL_CTX_new(TLS_client_method());
	/* What libcurl might have left there must not matter. */
	SSL_CTX_set_verify(l->client_ctx, SSL_VERIFY_NONE, NULL);
	X509_STORE_add_cert(SSL_CTX_get_cert_store(l->client_ctx), leaf->cert);
	X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(l->client_ctx),
				    X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_NO_CHECK_TIME);
	assert_ok(verify_install(v, l->client_ctx, name, false, offer_client, &story, &e));
}

static void live_start(struct live *l)
{
	BIO *a = NULL, *b = NULL;
	l->server = SSL_new(l->server_ctx);
	l->client = SSL_new(l->client_ctx);
	BIO_new_bio_pair(&a, 0, &b, 0);
	SSL_set_bio(l->server, a, a);
	SSL_set_bio(l->client, b, b);
	SSL_set_accept_state(l->server);
	SSL_set_connect_state(l->client);
}

/* Both sides in turns, until nothing moves any more. */
static void live_turn(struct live *l)
{
	char byte;
	for (int i = 0; i < 20; i++) {
		SSL_read(l->client, &byte, 1);
		SSL_read(l->server, &byte, 1);
	}
	ERR_clear_error();
}

static bool live_shake(struct live *l)
{
	struct clock_fake fake = { .wall_ms = (int64_t)NOW * 1000 };
	clock_set_fake(&fake);
	live_start(l);
	int rc = 0;
	for (int i = 0; i < 20 && rc != 1; i++) {
		rc = SSL_do_handshake(l->client);
		if (rc != 1 && SSL_get_error(l->client, rc) == SSL_ERROR_SSL)
			break;
		SSL_do_handshake(l->server);
	}
	live_turn(l);
	clock_set_fake(NULL);
	return rc == 1;
}

TEST(verify_install__good_server__connected_and_told)
{
	automade root = make_ca("Root", NULL), ica = make_ca("Issuing", &root);
	automade leaf = make_leaf("DNS:dp.example.net", &ica);
	autoverify *v = trusting(&root, true);
	for (int max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
		autolive l = { .server = NULL };
		live_open(&l, v, &leaf, &ica, "dp.example.net", false);
		SSL_CTX_set_max_proto_version(l.server_ctx, max);
		assert_true(live_shake(&l));
		assert_int_equal(SSL_get_verify_result(l.client), X509_V_OK);
		assert_true(story.is_judged);
		assert_err(story.result.code, ERR_OK);
		assert_string_equal(story.tls_version,
				    max == TLS1_2_VERSION ? "TLSv1.2" : "TLSv1.3");
		assert_int_equal(story.count, 3);
	}
}

TEST(verify_install__bad_servers__no_session)
{
	automade root = make_ca("Root", NULL), ica = make_ca("Issuing", &root);
	automade leaf = make_leaf("DNS:dp.example.net", &ica);
	automade old = make(&(struct plan){ .subject = "old", .san = "DNS:dp.example.net",
					    .until = NOW - 60 }, &ica);
	autoverify *v = trusting(&root, true);
	const struct {
		const struct made *leaf, *ica;
		const char *name;
		enum err_code code;
		int error;
	} rows[] = {
		{ &leaf, &ica, "other.example.net", ERR_TLS_NAME,
		  X509_V_ERR_HOSTNAME_MISMATCH },
		{ &leaf, NULL, "dp.example.net", ERR_TLS_CHAIN,
		  X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY },
		{ &old, &ica, "dp.example.net", ERR_TLS_TIME, X509_V_ERR_CERT_HAS_EXPIRED },
		{ &leaf, &ica, "192.0.2.1", ERR_TLS_NAME, X509_V_ERR_IP_ADDRESS_MISMATCH },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		autolive l = { .server = NULL };
		live_open(&l, v, rows[i].leaf, rows[i].ica, rows[i].name, false);
		assert_false(live_shake(&l));
		assert_true(story.is_judged);
		assert_err(story.result.code, rows[i].code);
		assert_int_equal(SSL_get_verify_result(l.client), rows[i].error);
	}
}

TEST(verify_install__old_protocol__no_session)
{
	automade root = make_ca("Root", NULL), leaf = make_leaf("DNS:dp.example.net", &root);
	autoverify *v12 = trusting(&root, false);
	autolive old = { .server = NULL };
	live_open(&old, v12, &leaf, NULL, "dp.example.net", false);
	SSL_CTX_set_min_proto_version(old.server_ctx, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(old.server_ctx, TLS1_1_VERSION);
	assert_false(live_shake(&old));
	assert_false(story.is_judged);
	autoverify *v13 = trusting_with(&root, (struct verify_options){ .tls_minimum = 13 });
	autolive middle = { .server = NULL };
	live_open(&middle, v13, &leaf, NULL, "dp.example.net", false);
	SSL_CTX_set_max_proto_version(middle.server_ctx, TLS1_2_VERSION);
	assert_false(live_shake(&middle));
}

static int take_any(int ok, X509_STORE_CTX *ctx)
{
	(void)ok, (void)ctx;
	return 1;
}

static struct verify *with_client(const struct made *root, const struct made *client)
{
	autobuf cert = { 0 }, key = { 0 };
	add_pem(&cert, client->cert);
	add_key(&key, client->key, NULL);
	return trusting_with(root, (struct verify_options){
					   .is_strict = true,
					   .client_cert_pem = buf_as_span(&cert),
					   .client_key_pem = buf_as_span(&key) });
}

static bool server_saw_client(const struct live *l)
{
	X509 *seen = SSL_get1_peer_certificate(l->server);
	X509_free(seen);
	return seen != NULL;
}

TEST(verify_install__client_certificate__only_where_offered)
{
	automade root = make_ca("Root", NULL), leaf = make_leaf("DNS:dp.example.net", &root);
	automade client = make(&(struct plan){ .subject = "client", .eku = "clientAuth" },
			       &root);
	autoverify *v = with_client(&root, &client);
	for (int offer = 0; offer < 2; offer++) {
		autolive l = { .server = NULL };
		live_open(&l, v, &leaf, NULL, "dp.example.net", offer);
		SSL_CTX_set_verify(l.server_ctx, SSL_VERIFY_PEER, take_any);
		assert_true(live_shake(&l));
		assert_int_equal(server_saw_client(&l), offer);
	}
}

/* IIS asks when it knows the path. Not offered: neither is answered. */
TEST(verify_install__client_asked_for_later__only_where_offered)
{
	automade root = make_ca("Root", NULL), leaf = make_leaf("DNS:dp.example.net", &root);
	automade client = make(&(struct plan){ .subject = "client", .eku = "clientAuth" },
			       &root);
	autoverify *v = with_client(&root, &client);
	for (int i = 0; i < 4; i++) {
		bool offer = i & 1, is_13 = i & 2;
		autolive l = { .server = NULL };
		live_open(&l, v, &leaf, NULL, "dp.example.net", offer);
		SSL_CTX_set_max_proto_version(l.server_ctx,
					      is_13 ? TLS1_3_VERSION : TLS1_2_VERSION);
		assert_true(live_shake(&l));
		memset(&story, 0x5a, sizeof(story)); /* must not be written again */
		SSL_set_verify(l.server, SSL_VERIFY_PEER, take_any);
		if (is_13)
			SSL_verify_client_post_handshake(l.server);
		else
			SSL_renegotiate(l.server);
		struct clock_fake fake = { .wall_ms = (int64_t)NOW * 1000 };
		clock_set_fake(&fake);
		SSL_do_handshake(l.server);
		live_turn(&l);
		clock_set_fake(NULL);
		assert_int_equal(server_saw_client(&l), offer);
		assert_int_equal(((const unsigned char *)&story)[0], 0x5a);
	}
}

/* The chain is judged again in a renegotiation: by then it has expired. */
TEST(verify_install__renegotiation__judged_anew)
{
	automade root = make_ca("Root", NULL), leaf = make_leaf("DNS:dp.example.net", &root);
	automade client = make(&(struct plan){ .subject = "client", .eku = "clientAuth" },
			       &root);
	autoverify *v = with_client(&root, &client);
	autolive l = { .server = NULL };
	live_open(&l, v, &leaf, NULL, "dp.example.net", true);
	SSL_CTX_set_max_proto_version(l.server_ctx, TLS1_2_VERSION);
	assert_true(live_shake(&l));
	SSL_set_verify(l.server, SSL_VERIFY_PEER, take_any);
	struct clock_fake fake = { .wall_ms = (NOW + 400LL * DAY) * 1000 };
	clock_set_fake(&fake);
	SSL_renegotiate(l.server);
	SSL_do_handshake(l.server);
	live_turn(&l);
	clock_set_fake(NULL);
	assert_false(server_saw_client(&l));
	assert_int_equal(SSL_get_verify_result(l.client), X509_V_ERR_CERT_HAS_EXPIRED);
}

TEST(verify_install__no_host_name__internal)
{
	automade root = make_ca("Root", NULL);
	autoverify *v = trusting(&root, true);
	struct err e = { 0 };
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	assert_err(verify_install(v, ctx, "", false, false, &story, &e), ERR_INTERNAL);
	assert_err(verify_install(v, ctx, ".example.net", false, false, &story, &e),
		   ERR_INTERNAL);
	assert_has(e.text, "is no host name");
	SSL_CTX_free(ctx);
}

TEST(verify_install__settings__nothing_weak_is_left)
{
	automade root = make_ca("Root", NULL);
	autoverify *v = trusting(&root, true);
	struct err e = { 0 };
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT);
	assert_ok(verify_install(v, ctx, "dp.example.net", false, false, &story, &e));
	assert_int_equal(SSL_CTX_get_options(ctx) & SSL_OP_IGNORE_UNEXPECTED_EOF, 0);
	assert_true(SSL_CTX_get_options(ctx) & SSL_OP_NO_RENEGOTIATION);
	assert_int_equal(SSL_CTX_get_session_cache_mode(ctx), SSL_SESS_CACHE_OFF);
	assert_int_equal(SSL_CTX_get_security_level(ctx), 2);
	assert_int_equal(SSL_CTX_get_min_proto_version(ctx), TLS1_2_VERSION);
	assert_int_equal(SSL_CTX_get_verify_mode(ctx), SSL_VERIFY_PEER);
	autoverify *standard = trusting(&root, false);
	assert_ok(verify_install(standard, ctx, "dp.example.net", false, false, &story, &e));
	assert_int_equal(SSL_CTX_get_security_level(ctx), 1);
	SSL_CTX_free(ctx);
}
