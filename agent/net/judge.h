#ifndef AGENT_NET_JUDGE_H
#define AGENT_NET_JUDGE_H

#include "agent/net/story.h"

/* The judgement itself, behind verify.h and for it alone. */
struct x509_store_st;

struct judge_rules {
	struct x509_store_st *store; /* anchors, what helps to reach them, CRLs */
	bool is_strict;
	bool needs_crl;     /* of the leaf's issuer */
	bool needs_all_crl; /* of every issuer; then needs_crl too */
};

/*
 * Judge what->sent for what->name. Everything that is not a plain yes of
 * X509_verify_cert() without one finding, of it or of the profile, is a no.
 *
 * story   is written: every certificate with all that is wrong with it
 * error   X509_V_OK, or what the TLS alert is to be made from
 * Returns story->result.code; ERR_INTERNAL when OpenSSL refuses a rule
 */
enum err_code judge_chain(const struct judge_rules *rules,
			  const struct story_case *what, struct verify_story *story,
			  int *error);

#endif
