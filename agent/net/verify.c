#include "agent/net/verify.h"

#include "agent/net/judge.h"
#include "common/clock.h"
#include "common/own.h"

#include <arpa/inet.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* OpenSSL has an old type of this name; here it is our error code. */
#define ERR_STATE OPENSSL_ERR_STATE
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#undef ERR_STATE

struct verify {
	struct judge_rules rules;  /* owns the store */
	STACK_OF(X509) *client;    /* leaf first; NULL = none */
	EVP_PKEY *client_key;
	int tls_minimum;           /* TLS1_2_VERSION, ... */
};

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

static BIO *open_pem(struct span pem)
{
	if (pem.len > INT_MAX)
		return NULL;
	return BIO_new_mem_buf(pem.len ? pem.at : "", (int)pem.len);
}

/* A PEM reader stops at the end of the text, or at something broken. */
static bool is_at_end(void)
{
	unsigned long last = ERR_peek_last_error();
	bool is_end = ERR_GET_LIB(last) == ERR_LIB_PEM &&
		      ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
	if (is_end)
		ERR_clear_error();
	return is_end;
}

static enum err_code read_certs(struct span pem, const char *what, enum err_code code,
				STACK_OF(X509) **out, struct err *e)
{
	autobio *bio = open_pem(pem);
	autocerts *certs = sk_X509_new_null();
	if (bio == NULL || certs == NULL)
		return err_set(e, ERR_NOMEM, "read %s: no memory", what);
	X509 *cert;
	ERR_clear_error();
	while ((cert = PEM_read_bio_X509(bio, NULL, no_password, NULL)) != NULL) {
		if (sk_X509_push(certs, cert) <= 0) {
			X509_free(cert);
			return err_set(e, ERR_NOMEM, "read %s: no memory", what);
		}
	}
	int count = sk_X509_num(certs);
	if (!is_at_end())
		return err_set(e, code, "read %s: certificate %d is broken: %s", what,
			       count + 1, reason());
	if (count == 0)
		return err_set(e, code, "read %s: it holds no certificate in PEM form",
			       what);
	*out = take_ptr(certs);
	return ERR_OK;
}

static enum err_code add_anchors(struct verify *v, struct span pem, struct err *e)
{
	autocerts *certs = NULL;
	enum err_code rc = read_certs(pem, "[tls] ca_file", ERR_CONFIG, &certs, e);
	if (rc != ERR_OK)
		return rc;
	for (int i = 0; i < sk_X509_num(certs); i++)
		if (X509_STORE_add_cert(v->rules.store, sk_X509_value(certs, i)) != 1)
			return err_set(e, ERR_CONFIG,
				       "read [tls] ca_file: certificate %d: %s", i + 1,
				       reason());
	return ERR_OK;
}

static enum err_code add_crls(struct verify *v, struct span pem, struct err *e)
{
	autobio *bio = open_pem(pem);
	if (bio == NULL)
		return err_set(e, ERR_NOMEM, "read [tls] crl_file: no memory");
	int count = 0;
	X509_CRL *crl;
	ERR_clear_error();
	while ((crl = PEM_read_bio_X509_CRL(bio, NULL, no_password, NULL)) != NULL) {
		int added = X509_STORE_add_crl(v->rules.store, crl);
		X509_CRL_free(crl);
		if (added != 1)
			return err_set(e, ERR_CONFIG,
				       "read [tls] crl_file: list %d: %s", count + 1,
				       reason());
		count++;
	}
	if (!is_at_end())
		return err_set(e, ERR_CONFIG, "read [tls] crl_file: list %d is broken: %s",
			       count + 1, reason());
	if (count == 0 && v->rules.needs_crl)
		return err_set(e, ERR_CONFIG,
			       "[tls] revocation is on, but crl_file holds no revocation "
			       "list in PEM form");
	return ERR_OK;
}

static enum err_code add_client(struct verify *v, struct span cert_pem,
				struct span key_pem, struct err *e)
{
	if (cert_pem.len == 0 && key_pem.len == 0)
		return ERR_OK;
	enum err_code rc = read_certs(cert_pem, "[client] certificate", ERR_CONFIG,
				      &v->client, e);
	if (rc != ERR_OK)
		return rc;
	autobio *bio = open_pem(key_pem);
	if (bio == NULL)
		return err_set(e, ERR_NOMEM, "read [client] key: no memory");
	v->client_key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
	if (v->client_key == NULL)
		return err_set(e, ERR_CONFIG,
			       "read [client] key: no unencrypted private key in PEM "
			       "form: %s", reason());
	if (X509_check_private_key(sk_X509_value(v->client, 0), v->client_key) != 1)
		return err_set(e, ERR_CONFIG,
			       "[client] key does not fit the first certificate of "
			       "[client] certificate: %s", reason());
	return ERR_OK;
}

struct verify *verify_new(const struct verify_options *o, struct err *e)
{
	struct verify *v = calloc(1, sizeof(*v));
	if (v == NULL || (v->rules.store = X509_STORE_new()) == NULL) {
		verify_free(v);
		err_set(e, ERR_NOMEM, "prepare the check of servers: no memory");
		return NULL;
	}
	v->rules.is_strict = o->is_strict;
	v->rules.needs_crl = o->revocation != VERIFY_CRL_OFF;
	v->rules.needs_all_crl = o->revocation == VERIFY_CRL_CHAIN;
	v->tls_minimum = o->tls_minimum == 13 ? TLS1_3_VERSION : TLS1_2_VERSION;
	if (add_anchors(v, o->ca_pem, e) != ERR_OK ||
	    add_crls(v, o->crl_pem, e) != ERR_OK ||
	    add_client(v, o->client_cert_pem, o->client_key_pem, e) != ERR_OK) {
		verify_free(v);
		return NULL;
	}
	return v;
}

void verify_free(struct verify *v)
{
	if (v == NULL)
		return;
	X509_STORE_free(v->rules.store);
	sk_X509_pop_free(v->client, X509_free);
	EVP_PKEY_free(v->client_key);
	free(v);
}

/*
 * The name as OpenSSL is to compare it. It would take an empty name for "any"
 * and one with a leading dot for "any below", so only real host names pass.
 */
static bool plain_name(const char *name, char out[256])
{
	size_t len = strlen(name);
	if (len > 1 && name[len - 1] == '.')
		len--; /* "svc.example.net." is the same host */
	if (len == 0 || len > 253 || name[0] == '.' || name[len - 1] == '.')
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = name[i];
		bool is_label = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
				(c >= '0' && c <= '9') || c == '-' || c == '_';
		if (!is_label && (c != '.' || name[i - 1] == '.'))
			return false;
	}
	memcpy(out, name, len);
	out[len] = '\0';
	return true;
}

/* An address is compared with addresses only, whoever says that it is a host
 * (RFC 9110 s4.3.4). */
static bool is_address(const char *name)
{
	unsigned char bytes[16];
	return inet_pton(AF_INET, name, bytes) == 1 ||
	       inet_pton(AF_INET6, name, bytes) == 1;
}

static enum err_code check_name(const char *name, bool *is_ip, char out[256],
				struct err *e)
{
	if (is_address(name)) {
		*is_ip = true;
		snprintf(out, 256, "%s", name);
		return ERR_OK;
	}
	if (*is_ip || !plain_name(name, out))
		return err_set(e, ERR_INTERNAL, "judge a server: \"%.100s\" is no %s", name,
			       *is_ip ? "address" : "host name");
	return ERR_OK;
}

/* What a connection's verify callback needs; owned by the SSL_CTX. */
struct install {
	const struct verify *v;      /* borrowed, see verify_install */
	struct verify_story *story;  /* borrowed; NULL once it was written */
	bool *wants_client;          /* the story's; for the first handshake */
	bool is_ip;
	char name[256];
};

static void free_install(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx,
			 long argl, void *argp)
{
	(void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
	free(ptr);
}

static int install_index(void)
{
	static int index = -1;
	if (index < 0)
		index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_install);
	return index;
}

/*
 * The server's chain has come. It is judged with our own store and rules: what
 * libcurl put into the SSL_CTX has no say. Only the first judgement is the
 * caller's: a renegotiation may come when its story is long gone.
 */
static int on_chain(X509_STORE_CTX *peer, void *arg)
{
	static struct verify_story unread;
	struct install *in = arg;
	const struct story_case what = { .name = in->name, .is_ip = in->is_ip,
					 .is_now = true, .at_s = clock_wall_s(),
					 .sent = X509_STORE_CTX_get0_untrusted(peer) };
	struct verify_story *story = in->story ? in->story : &unread;
	int error = X509_V_ERR_UNSPECIFIED;
	in->story = NULL;
	X509_STORE_CTX_set_error(peer, error);
	if (sk_X509_num(what.sent) <= 0 ||
	    X509_STORE_CTX_get0_cert(peer) != sk_X509_value(what.sent, 0))
		return 0;
	enum err_code rc = judge_chain(&in->v->rules, &what, story, &error);
	X509_STORE_CTX_set_error(peer, error);
	const SSL *ssl = X509_STORE_CTX_get_ex_data(
		peer, SSL_get_ex_data_X509_STORE_CTX_idx());
	if (ssl)
		snprintf(story->tls_version, sizeof(story->tls_version), "%s",
			 SSL_get_version(ssl));
	return rc == ERR_OK;
}

/* Called where we have no certificate to offer, and so in the first handshake
 * only: neither renegotiation nor a later question is open then. */
static int on_client_wanted(SSL *ssl, X509 **cert, EVP_PKEY **key)
{
	const struct install *in = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl),
						       install_index());
	(void)cert, (void)key;
	if (in)
		*in->wants_client = true;
	return 0;
}

static bool hook(SSL_CTX *ctx, const struct verify *v, const char *name, bool is_ip,
		 struct verify_story *story)
{
	int index = install_index();
	struct install *in = index < 0 ? NULL : calloc(1, sizeof(*in));
	if (in == NULL)
		return false;
	*in = (struct install){ .v = v, .story = story, .is_ip = is_ip,
				.wants_client = &story->wants_client };
	snprintf(in->name, sizeof(in->name), "%s", name);
	struct install *old = SSL_CTX_get_ex_data(ctx, index);
	if (SSL_CTX_set_ex_data(ctx, index, in) != 1) {
		free(in);
		return false;
	}
	free(old);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(ctx, on_chain, in);
	SSL_CTX_set_client_cert_cb(ctx, on_client_wanted);
	return true;
}

/*
 * Versions, ciphers and options. No session is kept or resumed: each connection
 * is judged anew (docs/security.md P6). A body that ends without close_notify
 * is an error (RFC 8446 s6.1). No key log, whatever the environment says.
 */
static bool set_protocol(SSL_CTX *ctx, const struct verify *v)
{
	SSL_CTX_set_security_level(ctx, v->rules.is_strict ? 2 : 1);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_keylog_callback(ctx, NULL);
	SSL_CTX_set_post_handshake_auth(ctx, 0);
	SSL_CTX_clear_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF |
					   SSL_OP_LEGACY_SERVER_CONNECT |
					   SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					 SSL_OP_NO_TICKET);
	return SSL_CTX_set_cipher_list(ctx, "DEFAULT") == 1 &&
	       SSL_CTX_set_min_proto_version(ctx, v->tls_minimum) == 1 &&
	       SSL_CTX_set_max_proto_version(ctx, 0) == 1;
}

/*
 * IIS, in its default settings, asks for the client certificate only when it
 * knows the path: by renegotiation (RFC 5746) or, in TLS 1.3, after the
 * handshake (RFC 8446 s4.6.2). Both are open where we have one to offer, and
 * then only; a renegotiated chain is judged like the first.
 */
static enum err_code set_client(SSL_CTX *ctx, const struct verify *v, struct err *e)
{
	SSL_CTX_clear_options(ctx, SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_post_handshake_auth(ctx, 1);
	if (SSL_CTX_use_certificate(ctx, sk_X509_value(v->client, 0)) != 1 ||
	    SSL_CTX_use_PrivateKey(ctx, v->client_key) != 1)
		return err_set(e, ERR_TLS_CLIENT,
			       "offer the client certificate: %s", reason());
	SSL_CTX_clear_chain_certs(ctx);
	for (int i = 1; i < sk_X509_num(v->client); i++)
		if (SSL_CTX_add1_chain_cert(ctx, sk_X509_value(v->client, i)) != 1)
			return err_set(e, ERR_TLS_CLIENT,
				       "offer the client certificate's chain: %s",
				       reason());
	return ERR_OK;
}

enum err_code verify_install(const struct verify *v, void *ssl_ctx, const char *name,
			     bool is_ip, bool offer_client, struct verify_story *story,
			     struct err *e)
{
	char host[256];
	*story = (struct verify_story){ .count = 0 };
	enum err_code rc = check_name(name, &is_ip, host, e);
	if (rc != ERR_OK)
		return rc;
	if (!hook(ssl_ctx, v, host, is_ip, story) || !set_protocol(ssl_ctx, v))
		return err_set(e, ERR_INTERNAL, "prepare TLS for %s: %s", host, reason());
	return offer_client && v->client ? set_client(ssl_ctx, v, e) : ERR_OK;
}

enum err_code verify_pem(const struct verify *v, struct span chain_pem,
			 const char *name, bool is_ip, int64_t at_s,
			 struct verify_story *story)
{
	char host[256];
	autocerts *sent = NULL;
	*story = (struct verify_story){ .count = 0 };
	enum err_code rc = read_certs(chain_pem, "the chain", ERR_INPUT, &sent,
				      &story->result);
	if (rc == ERR_OK && name)
		rc = check_name(name, &is_ip, host, &story->result);
	if (rc != ERR_OK)
		return rc;
	bool is_now = at_s == INT64_MIN;
	const struct story_case what = { .name = name ? host : NULL, .is_ip = is_ip,
					 .is_now = is_now,
					 .at_s = is_now ? clock_wall_s() : at_s,
					 .sent = sent };
	int error;
	return judge_chain(&v->rules, &what, story, &error);
}
