#ifndef AGENT_NET_STORY_H
#define AGENT_NET_STORY_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What verify saw and judged, in words for an administrator. Nothing here
 * decides anything. No OpenSSL header is needed to read a story.
 */
struct x509_st;
struct x509_store_ctx_st;
struct stack_st_X509;

#define VERIFY_CHAIN_MAX 16

/* What was seen and judged, certificate by certificate, leaf first. */
struct verify_certificate {
	char subject[512], issuer[512];   /* RFC 2253, unescaped peer text */
	char not_before[32], not_after[32]; /* RFC 3339 */
	char names[2048];   /* SAN entries, each ended by a line feed */
	char problem[256];  /* "" = nothing wrong with this one */
};
struct verify_story {
	struct verify_certificate chain[VERIFY_CHAIN_MAX];
	unsigned count;
	bool is_judged;    /* the verifier ran */
	bool wants_client; /* a certificate of ours was asked for, we have none */
	char tls_version[16]; /* of the connection, "TLSv1.3"; "" for a file */
	struct err result; /* ERR_OK: trusted; else TLS_*, with the reason */
};

/* What was judged; borrowed throughout. */
struct story_case {
	const char *name; /* the server's; NULL = none to judge */
	bool is_ip;
	bool is_now;      /* at_s is this machine's clock */
	int64_t at_s;     /* epoch */
	const struct stack_st_X509 *sent; /* leaf first */
};

/* Subject, issuer, validity and names of a certificate; problem is left. */
void story_describe(const struct x509_st *cert, struct verify_certificate *out);

/*
 * Put what X509_verify_cert() reports (from inside its callback) into words.
 * Returns the TLS_* code it belongs to.
 */
enum err_code story_words(const struct story_case *c, struct x509_store_ctx_st *ctx,
			  char *words, size_t size);

/* Add `words` to a list separated by "; ", unless it is there already; what
 * does not fit is cut between two UTF-8 characters. */
void story_append(char *list, size_t size, const char *words);

#endif
