#include "agent/keeper/identity.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/own.h"
#include "policy/check.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* OpenSSL has an old type of this name; here it is our error code. */
#define ERR_STATE OPENSSL_ERR_STATE
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#undef ERR_STATE

#define IDENTITY_FILE "identity.pem"
#define SMSID_FILE "smsid"
#define FILE_MODE 0600
#define RSA_BITS 2048u
#define VALID_DAYS (20 * 365)
#define FINGERPRINT_SIZE (2 * 32 + 1)
/* docs/wire.md 2.5 */
#define USAGES "1.3.6.1.4.1.311.101.2,1.3.6.1.4.1.311.101"

static void own_bio(BIO **b)
{
	BIO_free(*b);
}
static void own_key(EVP_PKEY **k)
{
	EVP_PKEY_free(*k);
}
static void own_certificate(X509 **x)
{
	X509_free(*x);
}
#define autobio __attribute__((cleanup(own_bio))) BIO
#define autokey __attribute__((cleanup(own_key))) EVP_PKEY
#define autocertificate __attribute__((cleanup(own_certificate))) X509

static enum err_code broken(struct err *e, const char *what)
{
	const char *why = ERR_reason_error_string(ERR_peek_last_error());
	err_set(e, ERR_INTERNAL, "make the client identity: %s%s%s", what,
		why ? ": " : "", why ? why : "");
	ERR_clear_error();
	return e ? e->code : ERR_INTERNAL;
}

/* --- making one ---------------------------------------------------------- */

static bool add_extension(X509 *x, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	bool ok = extension && X509_add_ext(x, extension, -1) == 1;
	X509_EXTENSION_free(extension);
	return ok;
}

static bool name_it(X509 *x)
{
	static const unsigned char name[] = "ConfigMgr Client";
	unsigned char serial[16];
	BIGNUM *number = NULL;
	for (size_t i = 0; i < sizeof(serial); i += 4) {
		uint32_t chance = clock_chance();
		memcpy(serial + i, &chance, 4);
	}
	serial[0] &= 0x7f; /* RFC 5280 s4.1.2.2: positive */
	serial[0] |= 0x40;
	number = BN_bin2bn(serial, sizeof(serial), NULL);
	bool ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x)) &&
		  X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN",
					     MBSTRING_ASC, name, -1, -1, 0) == 1 &&
		  X509_set_issuer_name(x, X509_get_subject_name(x)) == 1;
	BN_free(number);
	return ok;
}

/* A day before now: the site's clock may be behind ours. */
static bool date_it(X509 *x)
{
	time_t now = (time_t)clock_wall_s();
	return X509_time_adj_ex(X509_getm_notBefore(x), -1, 0, &now) &&
	       X509_time_adj_ex(X509_getm_notAfter(x), VALID_DAYS, 0, &now);
}

/* docs/wire.md 2.5: one certificate for signing and for being written to. */
static X509 *make_certificate(EVP_PKEY *key)
{
	autocertificate *x = X509_new();
	if (x == NULL || X509_set_version(x, X509_VERSION_3) != 1 ||
	    X509_set_pubkey(x, key) != 1 || !name_it(x) || !date_it(x) ||
	    !add_extension(x, NID_key_usage,
			   "critical,digitalSignature,dataEncipherment") ||
	    !add_extension(x, NID_ext_key_usage, USAGES) ||
	    !add_extension(x, NID_subject_key_identifier, "hash") ||
	    X509_sign(x, key, EVP_sha256()) == 0)
		return NULL;
	return take_ptr(x);
}

static enum err_code print_pem(struct buf *out, struct err *e)
{
	autokey *key = EVP_RSA_gen(RSA_BITS);
	if (key == NULL)
		return broken(e, "no key");
	autocertificate *x = make_certificate(key);
	if (x == NULL)
		return broken(e, "no certificate");
	autobio *text = BIO_new(BIO_s_secmem());
	char *bytes = NULL;
	if (text == NULL ||
	    PEM_write_bio_PrivateKey(text, key, NULL, NULL, 0, NULL, NULL) != 1 ||
	    PEM_write_bio_X509(text, x) != 1)
		return broken(e, "cannot be written");
	long len = BIO_get_mem_data(text, &bytes);
	buf_add(out, bytes, len > 0 ? (size_t)len : 0);
	return out->failed ? err_set(e, ERR_NOMEM, "client identity: no memory") :
			     ERR_OK;
}

/* --- the file ------------------------------------------------------------ */

static void own_secret(struct buf *b)
{
	if (b->at)
		explicit_bzero(b->at, b->room);
	buf_free(b);
}
#define autosecret __attribute__((cleanup(own_secret))) struct buf

enum file_is { FILE_GOOD, FILE_ABSENT, FILE_BROKEN };

static int no_password(char *out, int size, int is_writing, void *arg)
{
	(void)out, (void)size, (void)is_writing, (void)arg;
	return -1;
}

/* Its certificate, where key and certificate belong together. */
static X509 *parse(const struct buf *pem)
{
	autobio *keys = BIO_new_mem_buf(pem->at, (int)pem->len);
	autobio *certificates = BIO_new_mem_buf(pem->at, (int)pem->len);
	if (keys == NULL || certificates == NULL)
		return NULL;
	autokey *key = PEM_read_bio_PrivateKey(keys, NULL, no_password, NULL);
	autocertificate *x =
		PEM_read_bio_X509(certificates, NULL, no_password, NULL);
	bool ok = key && x && X509_check_private_key(x, key) == 1;
	ERR_clear_error();
	return ok ? take_ptr(x) : NULL;
}

static enum err_code load(int dir_fd, X509 **out, enum file_is *state,
			  struct err *e)
{
	autosecret pem = { .max = 64u << 10 };
	*state = FILE_GOOD;
	autofd fd = openat(dir_fd, IDENTITY_FILE,
			   O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT) {
		*state = FILE_ABSENT;
		return ERR_OK;
	}
	if (fd < 0)
		return fs_fail(e, "open", IDENTITY_FILE);
	enum err_code rc = fs_read_fd(fd, IDENTITY_FILE, &pem, e);
	if (rc != ERR_OK)
		return rc;
	*out = pem.len ? parse(&pem) : NULL;
	if (*out == NULL)
		*state = FILE_BROKEN;
	return ERR_OK;
}

/* Under its name only when it is whole, and never in the place of another. */
static enum err_code publish(int dir_fd, const struct buf *pem, struct err *e)
{
	char name[64];
	snprintf(name, sizeof(name), "." IDENTITY_FILE ".%08x%08x", clock_chance(),
		 clock_chance());
	autofd fd = fs_open_at(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL, FILE_MODE,
			       e);
	if (fd < 0)
		return e->code;
	enum err_code rc = fs_write_at(fd, pem->at, pem->len, 0, name, e);
	if (rc == ERR_OK)
		rc = fs_sync(fd, name, e);
	if (rc == ERR_OK)
		rc = fs_publish(dir_fd, name, dir_fd, IDENTITY_FILE, e);
	if (rc != ERR_OK)
		unlinkat(dir_fd, name, 0);
	return rc;
}

static enum err_code set_aside(int dir_fd, struct err *e)
{
	char name[64];
	snprintf(name, sizeof(name), IDENTITY_FILE ".broken-%lld",
		 (long long)clock_wall_s());
	if (renameat(dir_fd, IDENTITY_FILE, dir_fd, name) < 0 && errno != ENOENT)
		return fs_fail(e, "rename", IDENTITY_FILE);
	log_warning("PolicyAgent", "%s holds no key and certificate: set aside as "
		    "%s; this client registers anew", IDENTITY_FILE, name);
	return ERR_OK;
}

/* Not a reason to make another: it may be today's clock that is wrong. */
static void judge_dates(const X509 *x)
{
	time_t now = (time_t)clock_wall_s();
	if (X509_cmp_time(X509_get0_notBefore(x), &now) > 0)
		log_warning("PolicyAgent", "%s: the certificate begins in the future: "
			    "the clock is wrong, or was when it was made; the site "
			    "may refuse it (remove the file to register anew)",
			    IDENTITY_FILE);
	else if (X509_cmp_time(X509_get0_notAfter(x), &now) < 0)
		log_warning("PolicyAgent", "%s: the certificate ran out, or the clock "
			    "is wrong; the site may refuse it (remove the file to "
			    "register anew)", IDENTITY_FILE);
}

/* Two agents may begin at once: whose file is there first is the identity. */
static enum err_code ensure(int dir_fd, struct err *e)
{
	for (int round = 0; round < 3; round++) {
		autocertificate *x = NULL;
		enum file_is state;
		enum err_code rc = load(dir_fd, &x, &state, e);
		if (rc == ERR_OK && state == FILE_GOOD)
			judge_dates(x);
		if (rc != ERR_OK || state == FILE_GOOD)
			return rc;
		autosecret pem = { .max = 64u << 10 };
		if (state == FILE_BROKEN)
			rc = set_aside(dir_fd, e);
		if (rc == ERR_OK)
			rc = print_pem(&pem, e);
		if (rc != ERR_OK)
			return rc;
		rc = publish(dir_fd, &pem, e);
		if (rc == ERR_OK)
			log_info("PolicyAgent", "made a key and certificate for the "
				 "site: %s", IDENTITY_FILE);
		else if (rc != ERR_FOLDER || faccessat(dir_fd, IDENTITY_FILE, F_OK, 0))
			return rc;
	}
	return err_set(e, ERR_FOLDER, "%s: it does not stay", IDENTITY_FILE);
}

enum err_code identity_ensure(const char *state_directory, char **path,
			      struct err *e)
{
	autofd dir_fd = fs_open_root(state_directory, 0700, e);
	if (dir_fd < 0)
		return e->code;
	enum err_code rc = ensure(dir_fd, e);
	if (rc != ERR_OK)
		return err_prefix(e, "%s", state_directory);
	autofree char *folder = realpath(state_directory, NULL);
	if (folder == NULL)
		return fs_fail(e, "find", state_directory);
	if (asprintf(path, "%s/%s", folder, IDENTITY_FILE) < 0) {
		*path = NULL;
		return err_set(e, ERR_NOMEM, "client identity: no memory");
	}
	return ERR_OK;
}

/* --- what the site calls us ---------------------------------------------- */

/* Of the certificate, lower-case hex; "" where there is no identity. */
static enum err_code fingerprint(int dir_fd, char out[FINGERPRINT_SIZE],
				 struct err *e)
{
	autocertificate *x = NULL;
	enum file_is state;
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	out[0] = '\0';
	enum err_code rc = load(dir_fd, &x, &state, e);
	if (rc != ERR_OK || state != FILE_GOOD)
		return rc;
	if (X509_digest(x, EVP_sha256(), digest, &len) != 1 || len != 32)
		return broken(e, "fingerprint");
	for (unsigned i = 0; i < len; i++)
		snprintf(out + 2 * (size_t)i, 3, "%02x", digest[i]);
	return ERR_OK;
}

enum err_code identity_get_smsid(const char *state_directory, char out[64],
				 struct err *e)
{
	char mark[FINGERPRINT_SIZE];
	autobuf text = { .max = 1024 };
	out[0] = '\0';
	autofd dir_fd = fs_open_root(state_directory, 0700, e);
	if (dir_fd < 0)
		return e->code;
	if (faccessat(dir_fd, SMSID_FILE, F_OK, 0) < 0)
		return errno == ENOENT ? ERR_OK : fs_fail(e, "open", SMSID_FILE);
	enum err_code rc = fingerprint(dir_fd, mark, e);
	if (rc == ERR_OK)
		rc = fs_read_all(dir_fd, SMSID_FILE, &text, e);
	if (rc != ERR_OK)
		return err_prefix(e, "%s", state_directory);
	struct span rest = span_trim(buf_as_span(&text)), id = { "", 0 };
	span_split(&rest, ' ', &id);
	/* of another key, or damaged: as if there were none */
	if (mark[0] == '\0' || !span_is(rest, mark) || id.len >= 64)
		return ERR_OK;
	snprintf(out, 64, "%.*s", SPAN_ARG(id));
	struct err why;
	if (check_client_id(out, &why) != ERR_OK)
		out[0] = '\0';
	return ERR_OK;
}

enum err_code identity_set_smsid(const char *state_directory, const char *smsid,
				 struct err *e)
{
	char mark[FINGERPRINT_SIZE];
	autobuf text = { .max = 1024 };
	struct err why;
	if (check_client_id(smsid, &why) != ERR_OK)
		return err_set(e, ERR_INTERNAL, "client id of the site: %s", why.text);
	autofd dir_fd = fs_open_root(state_directory, 0700, e);
	if (dir_fd < 0)
		return e->code;
	enum err_code rc = fingerprint(dir_fd, mark, e);
	if (rc == ERR_OK && mark[0] == '\0')
		rc = err_set(e, ERR_FOLDER, "%s is missing", IDENTITY_FILE);
	if (rc != ERR_OK)
		return err_prefix(e, "%s", state_directory);
	buf_print(&text, "%s %s\n", smsid, mark);
	return fs_replace(dir_fd, SMSID_FILE, text.at, text.len, FILE_MODE, e);
}
