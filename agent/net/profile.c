#include "agent/net/profile.h"

#include <string.h>
#include <strings.h>

#include <openssl/bn.h>
#include <openssl/x509v3.h>

enum role { LEAF = 1, CA = 2, ANCHOR = 4 };
#define OWN (LEAF | CA) /* whatever the administrator did not choose himself */
#define ALL (LEAF | CA | ANCHOR)

static bool has_extension(const X509 *cert, int nid)
{
	return X509_get_ext_by_NID(cert, nid, -1) >= 0;
}

static bool is_critical(const X509 *cert, int nid)
{
	int at = X509_get_ext_by_NID(cert, nid, -1);
	return at >= 0 && X509_EXTENSION_get_critical(X509_get_ext(cert, at)) == 1;
}

/* There, but not to be read, be it for want of memory: then a rule is broken. */
static bool is_lost(const void *value, const X509 *cert, int nid)
{
	return value == NULL && has_extension(cert, nid);
}

/* RFC 5280 s4.1.2.2: positive, at most 20 octets. */
static bool has_bad_serial(X509 *cert)
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
	const unsigned char *at = ASN1_STRING_get0_data(serial);
	int len = ASN1_STRING_length(serial);
	if (len < 1 || len > 20 || ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER)
		return true;
	/* The value takes a 21st octet where its highest bit is set. */
	if (len == 20 && at[0] >= 0x80)
		return true;
	for (int i = 0; i < len; i++)
		if (at[i])
			return false;
	return true;
}

/* OpenSSL reads an extension only when it needs it; one that it knows and
 * cannot read makes the certificate malformed (RFC 5280 s4.2). */
static bool has_unreadable_extension(X509 *cert)
{
	for (int i = 0; i < X509_get_ext_count(cert); i++) {
		X509_EXTENSION *ext = X509_get_ext(cert, i);
		const X509V3_EXT_METHOD *how = X509V3_EXT_get(ext);
		if (how == NULL)
			continue;
		void *value = X509V3_EXT_d2i(ext);
		if (value == NULL)
			return true;
		if (how->it)
			ASN1_item_free(value, ASN1_ITEM_ptr(how->it));
		else
			how->ext_free(value);
	}
	return false;
}

/* BR 6.1.1.3, 6.1.5: RSA with a modulus of whole octets and an odd exponent
 * from 3, elliptic curves (weak ones fall to the security level), Ed25519 and
 * Ed448 (RFC 8410). DSA is not for TLS (RFC 8446 s4.2.3). */
static bool has_bad_key(X509 *cert)
{
	EVP_PKEY *key = X509_get0_pubkey(cert);
	if (key == NULL)
		return true;
	switch (EVP_PKEY_get_base_id(key)) {
	case EVP_PKEY_EC:
	case EVP_PKEY_ED25519:
	case EVP_PKEY_ED448:
		return false;
	case EVP_PKEY_RSA:
	case EVP_PKEY_RSA_PSS:
		break;
	default:
		return true;
	}
	BIGNUM *exponent = NULL;
	bool is_bad = EVP_PKEY_get_bits(key) % 8 != 0 ||
		      EVP_PKEY_get_bn_param(key, "e", &exponent) != 1 ||
		      !BN_is_odd(exponent) || BN_is_one(exponent);
	BN_free(exponent);
	return is_bad;
}

/* RFC 5280 s4.2.1.11: conforming CAs mark it critical. */
static bool has_soft_policy_constraints(X509 *cert)
{
	return has_extension(cert, NID_policy_constraints) &&
	       !is_critical(cert, NID_policy_constraints);
}

static bool is_ca(X509 *cert)
{
	return (X509_get_extension_flags(cert) & EXFLAG_CA) != 0;
}

/* RFC 5280 s4.2.1.10: for CA certificates only. */
static bool has_constraints(X509 *cert)
{
	return has_extension(cert, NID_name_constraints);
}

/* OpenSSL takes a certificate without the extension for one of any use. */
static bool is_not_for_servers(X509 *cert)
{
	return (X509_get_extension_flags(cert) & EXFLAG_XKUSAGE) == 0 ||
	       (X509_get_extended_key_usage(cert) & XKU_SSL_SERVER) == 0;
}

/* BR 7.1.2.7.10 */
static bool is_for_anything(X509 *cert)
{
	return (X509_get_extension_flags(cert) & EXFLAG_XKUSAGE) != 0 &&
	       (X509_get_extended_key_usage(cert) & XKU_ANYEKU) != 0;
}

/* BR 7.1.2.7.6 */
static bool has_critical_usage(X509 *cert)
{
	return is_critical(cert, NID_ext_key_usage);
}

/* RFC 1034 s3.5, RFC 1123 s2.1; a wildcard is one whole leftmost label
 * (RFC 6125 s6.4.3). */
static bool is_dns_name(const char *name, size_t len)
{
	if (len > 2 && memcmp(name, "*.", 2) == 0)
		name += 2, len -= 2;
	if (len == 0 || len > 253)
		return false;
	size_t label = 0;
	for (size_t i = 0; i <= len; i++) {
		char c = i < len ? name[i] : '.';
		if (c == '.') {
			if (label == 0 || label > 63 || name[i - 1] == '-')
				return false;
			label = 0;
			continue;
		}
		bool is_alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
				(c >= '0' && c <= '9');
		if (!is_alnum && (c != '-' || label == 0))
			return false;
		label++;
	}
	return true;
}

/* RFC 5280 s4.2.1.6: names in preferred syntax, addresses of 4 or 16 octets. */
static bool has_bad_name(X509 *cert)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	bool is_bad = is_lost(names, cert, NID_subject_alt_name);
	for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *gn = sk_GENERAL_NAME_value(names, i);
		if (gn->type == GEN_DNS) {
			const ASN1_STRING *dns = gn->d.dNSName;
			is_bad |= !is_dns_name((const char *)ASN1_STRING_get0_data(dns),
					       (size_t)ASN1_STRING_length(dns));
		} else if (gn->type == GEN_IPADD) {
			int len = ASN1_STRING_length(gn->d.iPAddress);
			is_bad |= len != 4 && len != 16;
		}
	}
	GENERAL_NAMES_free(names);
	return is_bad;
}

static bool has_leading_dot(const STACK_OF(GENERAL_SUBTREE) *trees)
{
	for (int i = 0; i < sk_GENERAL_SUBTREE_num(trees); i++) {
		const GENERAL_NAME *base = sk_GENERAL_SUBTREE_value(trees, i)->base;
		if (base->type == GEN_DNS && ASN1_STRING_length(base->d.dNSName) > 0 &&
		    ASN1_STRING_get0_data(base->d.dNSName)[0] == '.')
			return true;
	}
	return false;
}

/* RFC 5280 s4.2.1.10 knows no leading dot for DNS names, and libraries differ
 * in what they make of it. */
static bool has_dotted_constraint(X509 *cert)
{
	NAME_CONSTRAINTS *nc = X509_get_ext_d2i(cert, NID_name_constraints, NULL, NULL);
	bool is_dotted = is_lost(nc, cert, NID_name_constraints) ||
			 (nc && (has_leading_dot(nc->permittedSubtrees) ||
				 has_leading_dot(nc->excludedSubtrees)));
	NAME_CONSTRAINTS_free(nc);
	return is_dotted;
}

/* RFC 5280 s4.2.1.10: must not be an empty sequence. */
static bool has_empty_constraints(X509 *cert)
{
	NAME_CONSTRAINTS *nc = X509_get_ext_d2i(cert, NID_name_constraints, NULL, NULL);
	bool is_empty = nc && sk_GENERAL_SUBTREE_num(nc->permittedSubtrees) <= 0 &&
			sk_GENERAL_SUBTREE_num(nc->excludedSubtrees) <= 0;
	NAME_CONSTRAINTS_free(nc);
	return is_empty;
}

/* Said of what [tls] profile = standard would let pass. */
#define STRICTLY " (profile = strict)"

static const struct {
	unsigned roles;
	bool is_for_all_profiles;
	bool (*is_broken)(X509 *cert);
	const char *problem;
} rules[] = {
	{ LEAF, true, is_not_for_servers,
	  "its extended key usage does not name server authentication" },
	{ LEAF, false, is_ca, "it is a CA certificate, not one for a server" STRICTLY },
	{ LEAF, false, is_for_anything,
	  "its extended key usage names any purpose (anyExtendedKeyUsage)" STRICTLY },
	{ LEAF, false, has_critical_usage,
	  "its extended key usage is marked critical" STRICTLY },
	{ LEAF, false, has_constraints,
	  "it has name constraints without being a CA" STRICTLY },
	{ LEAF, false, has_bad_name,
	  "a name in its subjectAltName is no proper host name or address" STRICTLY },
	{ OWN, false, has_bad_serial,
	  "its serial number is zero, negative or longer than 20 octets" STRICTLY },
	{ OWN, false, has_unreadable_extension,
	  "one of its extensions is malformed" STRICTLY },
	{ CA, false, has_soft_policy_constraints,
	  "its policy constraints are not marked critical" STRICTLY },
	{ ALL, false, has_bad_key,
	  "its key is of a kind or size that is not used for TLS" STRICTLY },
	{ CA | ANCHOR, false, has_dotted_constraint,
	  "a DNS name constraint of it begins with a dot" STRICTLY },
	{ CA | ANCHOR, false, has_empty_constraints,
	  "its name constraints are empty" STRICTLY },
};

static void check_rules(X509 *cert, unsigned role, bool is_strict,
			profile_broken *broken, void *arg)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if ((rules[i].roles & role) != 0 &&
		    (is_strict || rules[i].is_for_all_profiles) &&
		    rules[i].is_broken(cert))
			broken(arg, cert, rules[i].problem);
}

static bool is_below(const char *name, size_t len, const char *base, size_t base_len)
{
	return len > base_len && name[len - base_len - 1] == '.' &&
	       strncasecmp(name + len - base_len, base, base_len) == 0;
}

/* Does `wildcard` ("*.example.net") stand for names below which, or at which,
 * the CA excludes? */
static bool touches_excluded(const ASN1_STRING *wildcard, const NAME_CONSTRAINTS *nc)
{
	const char *base = (const char *)ASN1_STRING_get0_data(wildcard) + 2;
	size_t len = (size_t)ASN1_STRING_length(wildcard) - 2;
	for (int i = 0; i < sk_GENERAL_SUBTREE_num(nc->excludedSubtrees); i++) {
		const GENERAL_NAME *gn =
			sk_GENERAL_SUBTREE_value(nc->excludedSubtrees, i)->base;
		if (gn->type != GEN_DNS)
			continue;
		if (is_below((const char *)ASN1_STRING_get0_data(gn->d.dNSName),
			     (size_t)ASN1_STRING_length(gn->d.dNSName), base, len))
			return true;
	}
	return false;
}

/*
 * OpenSSL compares the excluded subtree foo.example.net with the text
 * "*.example.net" and sees no harm, though it stands for foo.example.net too
 * (Go's CVE-2025-61727).
 */
static bool has_wildcard_over(X509 *leaf, X509 *ca)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	NAME_CONSTRAINTS *nc = X509_get_ext_d2i(ca, NID_name_constraints, NULL, NULL);
	bool is_over = is_lost(names, leaf, NID_subject_alt_name) ||
		       is_lost(nc, ca, NID_name_constraints);
	for (int i = 0; nc && names && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *gn = sk_GENERAL_NAME_value(names, i);
		if (gn->type != GEN_DNS || ASN1_STRING_length(gn->d.dNSName) < 3 ||
		    memcmp(ASN1_STRING_get0_data(gn->d.dNSName), "*.", 2) != 0)
			continue;
		is_over |= touches_excluded(gn->d.dNSName, nc);
	}
	GENERAL_NAMES_free(names);
	NAME_CONSTRAINTS_free(nc);
	return is_over;
}

void profile_check(const STACK_OF(X509) *chain, bool has_anchor, bool is_strict,
		   profile_broken *broken, void *arg)
{
	int count = sk_X509_num(chain);
	X509 *leaf = count > 0 ? sk_X509_value(chain, 0) : NULL;
	for (int i = 0; i < count; i++) {
		X509 *cert = sk_X509_value(chain, i);
		bool is_anchor = has_anchor && i == count - 1;
		/* A certificate that is its own anchor is a leaf all the same. */
		unsigned role = i == 0 ? LEAF : is_anchor ? ANCHOR : CA;
		check_rules(cert, role, is_strict, broken, arg);
		if (i > 0 && has_wildcard_over(leaf, cert))
			broken(arg, leaf,
			       "its wildcard covers a name that its CA must not sign for");
	}
}
