#include "agent/net/story.h"

#include "common/clock.h"
#include "common/span.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* OpenSSL has an old type of this name; here it is our error code. */
#define ERR_STATE OPENSSL_ERR_STATE
#include <openssl/x509v3.h>
#undef ERR_STATE

#define PART_MAX 120 /* of one name inside a sentence, bytes */

/* Cut what is only half of a UTF-8 character off the end. */
static void drop_half_character(char *text)
{
	size_t len = strlen(text), back = 0;
	while (back < len && back < 4 &&
	       ((unsigned char)text[len - 1 - back] & 0xc0) == 0x80)
		back++;
	if (back >= len)
		return;
	unsigned char lead = (unsigned char)text[len - 1 - back];
	size_t wants = lead < 0xc0 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
	if (wants > back)
		text[len - 1 - back] = '\0';
}

void story_append(char *list, size_t size, const char *words)
{
	if (strstr(list, words) != NULL)
		return;
	size_t used = strlen(list);
	int n = snprintf(list + used, size - used, "%s%s", used ? "; " : "", words);
	if (n >= 0 && (size_t)n >= size - used)
		drop_half_character(list);
}

/* RFC 2253, but UTF-8 as it is: whoever prints it escapes it. */
static void name_text(const X509_NAME *name, char *out, size_t size)
{
	out[0] = '\0';
	BIO *bio = BIO_new(BIO_s_mem());
	unsigned long how = XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB;
	if (bio && name && X509_NAME_print_ex(bio, name, 0, how) >= 0) {
		int n = BIO_read(bio, out, (int)size - 1);
		out[n > 0 ? n : 0] = '\0';
		drop_half_character(out);
	}
	BIO_free(bio);
}

static void time_text(const ASN1_TIME *t, char out[CLOCK_RFC3339_SIZE])
{
	struct tm tm;
	if (t && ASN1_TIME_to_tm(t, &tm) == 1)
		clock_rfc3339((int64_t)timegm(&tm), out);
	else
		snprintf(out, CLOCK_RFC3339_SIZE, "unreadable");
}

/* One SAN entry; whatever is no printable ASCII becomes \xNN, so that an
 * entry cannot pretend to be two, or end early (RFC 6125 s6.4, NUL). */
static void print_ia5(const ASN1_STRING *s, const char *kind, char *out, size_t size)
{
	const unsigned char *at = ASN1_STRING_get0_data(s);
	size_t used = (size_t)snprintf(out, size, "%s", kind);
	for (int i = 0; i < ASN1_STRING_length(s) && used + 5 < size; i++) {
		bool is_plain = at[i] > 0x20 && at[i] < 0x7f && at[i] != '\\';
		used += (size_t)snprintf(out + used, size - used,
					 is_plain ? "%c" : "\\x%02x", at[i]);
	}
}

static bool looks_like_address(const char *text)
{
	unsigned char bytes[16];
	return inet_pton(AF_INET, text, bytes) == 1 ||
	       inet_pton(AF_INET6, text, bytes) == 1;
}

static void general_name_text(const GENERAL_NAME *gn, char *out, size_t size)
{
	switch (gn->type) {
	case GEN_DNS:
		print_ia5(gn->d.dNSName, "", out, size);
		if (looks_like_address(out)) /* it does not count as one */
			print_ia5(gn->d.dNSName, "DNS:", out, size);
		break;
	case GEN_IPADD: {
		const unsigned char *at = ASN1_STRING_get0_data(gn->d.iPAddress);
		int len = ASN1_STRING_length(gn->d.iPAddress);
		if (len != 4 && len != 16)
			snprintf(out, size, "address of %d bytes", len);
		else
			inet_ntop(len == 4 ? AF_INET : AF_INET6, at, out,
				  (socklen_t)size);
		break;
	}
	case GEN_EMAIL:
		print_ia5(gn->d.rfc822Name, "email:", out, size);
		break;
	case GEN_URI:
		print_ia5(gn->d.uniformResourceIdentifier, "URI:", out, size);
		break;
	case GEN_DIRNAME:
		snprintf(out, size, "directory name");
		break;
	default:
		snprintf(out, size, "other name");
	}
}

static void names_text(const X509 *cert, char *out, size_t size)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	size_t used = 0;
	int count = names ? sk_GENERAL_NAME_num(names) : 0;
	for (int i = 0; i < count; i++) {
		char one[300];
		general_name_text(sk_GENERAL_NAME_value(names, i), one, sizeof(one));
		/* 32: room for the line that says that some are missing */
		if (used + strlen(one) + 32 > size) {
			snprintf(out + used, size - used, "... %d more\n", count - i);
			break;
		}
		used += (size_t)snprintf(out + used, size - used, "%s\n", one);
	}
	GENERAL_NAMES_free(names);
}

void story_describe(const X509 *cert, struct verify_certificate *out)
{
	name_text(X509_get_subject_name(cert), out->subject, sizeof(out->subject));
	name_text(X509_get_issuer_name(cert), out->issuer, sizeof(out->issuer));
	time_text(X509_get0_notBefore(cert), out->not_before);
	time_text(X509_get0_notAfter(cert), out->not_after);
	names_text(cert, out->names, sizeof(out->names));
}

/* A clock before this cannot be right: the agent is younger. */
#define CLOCK_UNSET_BEFORE_S 1704067200 /* 2024-01-01 */

static enum err_code words_for_time(const struct story_case *c, X509 *cert, int error,
				    char *words, size_t size)
{
	char now[CLOCK_RFC3339_SIZE], limit[CLOCK_RFC3339_SIZE];
	clock_rfc3339(c->at_s, now);
	if (c->is_now && c->at_s < CLOCK_UNSET_BEFORE_S) {
		snprintf(words, size, "this machine's clock is not set: it says %s", now);
		return ERR_TLS_TIME;
	}
	bool is_early = error == X509_V_ERR_CERT_NOT_YET_VALID;
	time_text(is_early ? X509_get0_notBefore(cert) : X509_get0_notAfter(cert), limit);
	snprintf(words, size, "%s %s (%s %s)",
		 is_early ? "not valid before" : "expired since", limit,
		 c->is_now ? "now it is" : "judged at", now);
	return ERR_TLS_TIME;
}

static bool is_trusted_name(X509_STORE_CTX *ctx, const X509_NAME *name)
{
	STACK_OF(X509) *same = X509_STORE_CTX_get1_certs(ctx, (X509_NAME *)name);
	bool is_known = sk_X509_num(same) > 0;
	sk_X509_pop_free(same, X509_free);
	return is_known;
}

static bool is_sent_name(const struct story_case *c, const X509_NAME *name)
{
	for (int i = 1; i < sk_X509_num(c->sent); i++)
		if (X509_NAME_cmp(X509_get_subject_name(sk_X509_value(c->sent, i)),
				  name) == 0)
			return true;
	return false;
}

/* The chain ends here without a root: who has to add which certificate? */
static void words_for_issuer(const struct story_case *c, X509_STORE_CTX *ctx,
			     X509 *cert, int error, char *words, size_t size)
{
	char issuer[PART_MAX];
	const X509_NAME *name = X509_get_issuer_name(cert);
	name_text(name, issuer, sizeof(issuer));
	if (X509_get_extension_flags(cert) & EXFLAG_INVALID)
		snprintf(words, size, "one of its extensions is malformed, critical "
			 "where it must not be, or there twice");
	else if (X509_NAME_cmp(name, X509_get_subject_name(cert)) == 0)
		snprintf(words, size, "it names itself as its issuer, but with another "
			 "key or key identifier");
	else if (error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT)
		snprintf(words, size, "trusted, but no root: its issuer %s is missing in "
			 "[tls] ca_file", issuer);
	else if (is_trusted_name(ctx, name))
		snprintf(words, size, "a certificate named %s is trusted, but did not, "
			 "or may not, issue this one", issuer);
	else if (is_sent_name(c, name))
		snprintf(words, size, "the certificate sent for %s did not, or may not, "
			 "issue this one", issuer);
	else if (sk_X509_num(c->sent) <= 1)
		snprintf(words, size, "issuer %s not found: the server must send its "
			 "intermediate certificates", issuer);
	else
		snprintf(words, size, "issuer %s not found: neither sent by the server "
			 "nor among the trusted", issuer);
}

/* All names in one line, "a, b, c". */
static void join_names(const X509 *cert, char *out, size_t size)
{
	char lines[1024];
	struct span rest, one;
	size_t used = 0;
	names_text(cert, lines, sizeof(lines));
	rest = span_of(lines);
	out[0] = '\0';
	while (span_split(&rest, '\n', &one) && used < size)
		used += (size_t)snprintf(out + used, size - used, "%s%.*s",
					 used ? ", " : "", SPAN_ARG(one));
}

/* The mistake that people make most: "*" stands for one label only. */
static bool is_wildcard_misread(const char *name, const char *names)
{
	const char *rest = strstr(names, "*.");
	if (rest == NULL)
		return false;
	size_t len = strcspn(++rest, ",");
	size_t name_len = strlen(name);
	return name_len > len && strncasecmp(name + name_len - len, rest, len) == 0;
}

static enum err_code words_for_name(const struct story_case *c, X509 *cert, char *words,
				    size_t size)
{
	char names[1200];
	join_names(cert, names, sizeof(names));
	const char *name = c->name ? c->name : "";
	if (X509_get_ext_by_NID(cert, NID_subject_alt_name, -1) < 0)
		snprintf(words, size, "not for %.100s: it has no subjectAltName, and a "
			 "common name does not count", name);
	else
		snprintf(words, size, "not for %.100s%s, but for %s", name,
			 is_wildcard_misread(name, names) ?
				 " (a wildcard stands for exactly one label)" :
				 "",
			 names[0] ? names : "nobody that can be read");
	return ERR_TLS_NAME;
}

static void words_for_key(const X509 *cert, char *words, size_t size)
{
	EVP_PKEY *key = X509_get0_pubkey(cert);
	const char *kind = key ? EVP_PKEY_get0_type_name(key) : NULL;
	snprintf(words, size, "its key is too weak (%s, %d bits)", kind ? kind : "unreadable",
		 key ? EVP_PKEY_get_bits(key) : 0);
}

static void words_for_digest(const X509 *cert, char *words, size_t size)
{
	int nid = X509_get_signature_nid(cert);
	snprintf(words, size, "it is signed with a weak algorithm (%s)",
		 nid == NID_undef ? "unknown" : OBJ_nid2ln(nid));
}

static void words_for_extension(const X509 *cert, char *words, size_t size)
{
	char oid[80] = "unknown";
	for (int i = 0; i < X509_get_ext_count(cert); i++) {
		X509_EXTENSION *ext = X509_get_ext(cert, i);
		if (X509_EXTENSION_get_critical(ext) == 1 &&
		    X509_supported_extension(ext) == 0)
			OBJ_obj2txt(oid, sizeof(oid), X509_EXTENSION_get_object(ext), 0);
	}
	snprintf(words, size, "it has a critical extension that is not supported here (%s)",
		 oid);
}

/* X509_check_purpose() said no, without saying why. */
static void words_for_purpose(X509 *cert, bool is_leaf, char *words, size_t size)
{
	uint32_t flags = X509_get_extension_flags(cert);
	const char *why = "its key usage does not allow TLS servers";
	if (flags & EXFLAG_INVALID)
		why = "one of its extensions is malformed, critical where it must not be, "
		      "or there twice";
	else if ((flags & EXFLAG_XKUSAGE) &&
		 !(X509_get_extended_key_usage(cert) & XKU_SSL_SERVER))
		why = "its extended key usage does not name server authentication";
	else if (is_leaf && (flags & EXFLAG_CA))
		why = "it is a CA certificate, not one for a server";
	else if (!is_leaf)
		why = "it may not issue certificates for TLS servers";
	snprintf(words, size, "%s", why);
}

static enum err_code words_for_revoked(X509 *cert, X509_CRL *crl, char *words,
				       size_t size)
{
	char since[CLOCK_RFC3339_SIZE] = "an unknown time";
	X509_REVOKED *entry = NULL;
	if (crl && X509_CRL_get0_by_cert(crl, &entry, cert) && entry)
		time_text(X509_REVOKED_get0_revocationDate(entry), since);
	snprintf(words, size, "revoked by its issuer since %s", since);
	return ERR_TLS_REVOKED;
}

/* A list of revoked certificates is missing or of no use. */
static enum err_code words_for_crl(const struct story_case *c, X509 *cert,
				   X509_CRL *crl, int error, char *words, size_t size)
{
	char issuer[PART_MAX], limit[CLOCK_RFC3339_SIZE], now[CLOCK_RFC3339_SIZE];
	name_text(crl ? X509_CRL_get_issuer(crl) : X509_get_issuer_name(cert), issuer,
		  sizeof(issuer));
	clock_rfc3339(c->at_s, now);
	switch (error) {
	case X509_V_ERR_UNABLE_TO_GET_CRL:
		snprintf(words, size, "no revocation list of its issuer %s is in crl_file",
			 issuer);
		break;
	case X509_V_ERR_CRL_HAS_EXPIRED:
		time_text(crl ? X509_CRL_get0_nextUpdate(crl) : NULL, limit);
		snprintf(words, size, "the revocation list of %s ended %s (%s %s)", issuer,
			 limit, c->is_now ? "now it is" : "judged at", now);
		break;
	case X509_V_ERR_CRL_NOT_YET_VALID:
		time_text(crl ? X509_CRL_get0_lastUpdate(crl) : NULL, limit);
		snprintf(words, size, "the revocation list of %s begins %s (%s %s)", issuer,
			 limit, c->is_now ? "now it is" : "judged at", now);
		break;
	default:
		snprintf(words, size, "the revocation list of %s cannot be used: %s",
			 issuer, X509_verify_cert_error_string(error));
	}
	return ERR_TLS_REVOCATION;
}

/* What only [tls] profile = strict minds. */
#define STRICTLY " (profile = strict)"

/* What needs no more than the number. The rest keeps OpenSSL's words. */
static const struct {
	int error;
	const char *words;
} fixed[] = {
	{ X509_V_ERR_UNSPECIFIED,
	  "it cannot be judged: too many names, or name constraints" },
	{ X509_V_ERR_CERT_SIGNATURE_FAILURE,
	  "its signature is not by its issuer's key, or it was altered" },
	{ X509_V_ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE, "its signature cannot be read" },
	{ X509_V_ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY,
	  "the key of its issuer cannot be read" },
	{ X509_V_ERR_NO_ISSUER_PUBLIC_KEY, "the key of its issuer cannot be read" },
	{ X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
	  "its signature cannot be checked without its issuer" },
	{ X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
	  "self-signed and not among the trusted certificates" },
	{ X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
	  "a self-signed root that is not among the trusted certificates" },
	{ X509_V_ERR_CERT_CHAIN_TOO_LONG, "too many intermediate certificates" },
	{ X509_V_ERR_PATH_LENGTH_EXCEEDED,
	  "more CAs follow below it than its path length constraint allows" },
	{ X509_V_ERR_INVALID_CA, "it is not a CA certificate and cannot issue others" },
	{ X509_V_ERR_INVALID_NON_CA, "it is a CA certificate where none may be" },
	{ X509_V_ERR_KEYUSAGE_NO_CERTSIGN,
	  "its key usage does not allow it to issue certificates" },
	{ X509_V_ERR_PERMITTED_VIOLATION,
	  "one of its names is outside those that its CA may sign for" },
	{ X509_V_ERR_EXCLUDED_VIOLATION,
	  "one of its names is one that its CA must not sign for" },
	{ X509_V_ERR_CERT_REJECTED, "it is marked as not trusted for servers" },
	{ X509_V_ERR_CERT_UNTRUSTED, "it is marked as not trusted for servers" },
	{ X509_V_ERR_SIGNATURE_ALGORITHM_MISMATCH,
	  "it names two different signature algorithms, or one that its issuer's key "
	  "does not have" },
	{ X509_V_ERR_SIGNATURE_ALGORITHM_INCONSISTENCY,
	  "it names two different signature algorithms" },
	{ X509_V_ERR_EC_KEY_EXPLICIT_PARAMS,
	  "its key is on an elliptic curve without a name" STRICTLY },
	{ X509_V_ERR_MISSING_AUTHORITY_KEY_IDENTIFIER,
	  "it has no authority key identifier" STRICTLY },
	{ X509_V_ERR_MISSING_SUBJECT_KEY_IDENTIFIER,
	  "it has no subject key identifier" STRICTLY },
	{ X509_V_ERR_CA_BCONS_NOT_CRITICAL,
	  "its basic constraints are not marked critical" STRICTLY },
	{ X509_V_ERR_CA_CERT_MISSING_KEY_USAGE,
	  "it is a CA certificate without key usage" STRICTLY },
	{ X509_V_ERR_KU_KEY_CERT_SIGN_INVALID_FOR_NON_CA,
	  "it may issue certificates without being a CA" STRICTLY },
	{ X509_V_ERR_PATHLEN_INVALID_FOR_NON_CA,
	  "it has a path length constraint without being a CA" STRICTLY },
	{ X509_V_ERR_SUBJECT_NAME_EMPTY, "its subject is empty" STRICTLY },
	{ X509_V_ERR_ISSUER_NAME_EMPTY, "its issuer is empty" STRICTLY },
	{ X509_V_ERR_EMPTY_SUBJECT_SAN_NOT_CRITICAL,
	  "its subject is empty and its subjectAltName not critical" STRICTLY },
	{ X509_V_ERR_EMPTY_SUBJECT_ALT_NAME, "its subjectAltName is empty" STRICTLY },
};

static const char *fixed_words(int error)
{
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		if (fixed[i].error == error)
			return fixed[i].words;
	return X509_verify_cert_error_string(error);
}

static bool is_about_crl(int error)
{
	switch (error) {
	case X509_V_ERR_UNABLE_TO_GET_CRL:
	case X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE:
	case X509_V_ERR_CRL_SIGNATURE_FAILURE:
	case X509_V_ERR_CRL_NOT_YET_VALID:
	case X509_V_ERR_CRL_HAS_EXPIRED:
	case X509_V_ERR_ERROR_IN_CRL_LAST_UPDATE_FIELD:
	case X509_V_ERR_ERROR_IN_CRL_NEXT_UPDATE_FIELD:
	case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
	case X509_V_ERR_KEYUSAGE_NO_CRL_SIGN:
	case X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION:
	case X509_V_ERR_DIFFERENT_CRL_SCOPE:
	case X509_V_ERR_CRL_PATH_VALIDATION_ERROR:
		return true;
	default:
		return false;
	}
}

enum err_code story_words(const struct story_case *c, X509_STORE_CTX *ctx, char *words,
			  size_t size)
{
	int error = X509_STORE_CTX_get_error(ctx);
	X509 *cert = X509_STORE_CTX_get_current_cert(ctx);
	X509_CRL *crl = X509_STORE_CTX_get0_current_crl(ctx);
	if (cert == NULL) {
		snprintf(words, size, "%s", fixed_words(error));
		return is_about_crl(error) ? ERR_TLS_REVOCATION : ERR_TLS_CHAIN;
	}
	if (is_about_crl(error))
		return words_for_crl(c, cert, crl, error, words, size);
	switch (error) {
	case X509_V_ERR_CERT_NOT_YET_VALID:
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_ERROR_IN_CERT_NOT_BEFORE_FIELD:
	case X509_V_ERR_ERROR_IN_CERT_NOT_AFTER_FIELD:
		return words_for_time(c, cert, error, words, size);
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		return words_for_name(c, cert, words, size);
	case X509_V_ERR_CERT_REVOKED:
		return words_for_revoked(cert, crl, words, size);
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
		words_for_issuer(c, ctx, cert, error, words, size);
		break;
	case X509_V_ERR_EE_KEY_TOO_SMALL:
	case X509_V_ERR_CA_KEY_TOO_SMALL:
		words_for_key(cert, words, size);
		break;
	case X509_V_ERR_CA_MD_TOO_WEAK:
		words_for_digest(cert, words, size);
		break;
	case X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION:
		words_for_extension(cert, words, size);
		break;
	case X509_V_ERR_INVALID_PURPOSE:
		words_for_purpose(cert, X509_STORE_CTX_get_error_depth(ctx) == 0, words,
				  size);
		break;
	default:
		snprintf(words, size, "%s", fixed_words(error));
	}
	return ERR_TLS_CHAIN;
}
