#include "agent/net/judge.h"

#include "agent/net/profile.h"

#include <stdio.h>
#include <string.h>

/* OpenSSL has an old type of this name; here it is our error code. */
#define ERR_STATE OPENSSL_ERR_STATE
#include <openssl/err.h>
#include <openssl/x509v3.h>
#undef ERR_STATE

/* Intermediates between leaf and anchor: public chains have two, bridged
 * hierarchies up to eight (BetterTLS path building, tc63). */
#define INTERMEDIATES_MAX 8

static void own_ctx(X509_STORE_CTX **ctx)
{
	X509_STORE_CTX_free(*ctx);
}
#define autoctx __attribute__((cleanup(own_ctx))) X509_STORE_CTX

/* One thing wrong with one certificate. */
struct finding {
	X509 *cert; /* borrowed from the chain; NULL = none in particular */
	enum err_code code;
	int error;  /* X509_V_ERR_*, for the alert that the server gets */
	char words[256];
};

#define FINDINGS_MAX 64

/* A judgement under way. Whatever is found is counted, even without room. */
struct judge {
	const struct judge_rules *rules;
	const struct story_case *what;
	struct finding findings[FINDINGS_MAX];
	unsigned count, total;
	bool is_whole; /* the chain reached an anchor */
};

static struct finding *find(struct judge *j, X509 *cert, enum err_code code, int error)
{
	static struct finding spill; /* written, never read */
	j->total++;
	struct finding *f = j->count < FINDINGS_MAX ? &j->findings[j->count++] : &spill;
	*f = (struct finding){ .cert = cert, .code = code, .error = error };
	return f;
}

/*
 * X509_verify_cert() asks what to make of an error. We go on, to see all that
 * is wrong, and remember: one finding is enough to refuse in the end.
 */
static int on_step(int ok, X509_STORE_CTX *ctx)
{
	if (ok)
		return 1;
	struct judge *j = X509_STORE_CTX_get_app_data(ctx);
	int error = X509_STORE_CTX_get_error(ctx);
	struct finding *f = find(j, X509_STORE_CTX_get_current_cert(ctx),
				 ERR_TLS_CHAIN, error);
	f->code = story_words(j->what, ctx, f->words, sizeof(f->words));
	switch (error) {
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_CERT_CHAIN_TOO_LONG:
		j->is_whole = false;
		break;
	}
	return 1;
}

static void on_profile(void *arg, X509 *cert, const char *problem)
{
	struct finding *f = find(arg, cert, ERR_TLS_CHAIN,
				 X509_V_ERR_APPLICATION_VERIFICATION);
	snprintf(f->words, sizeof(f->words), "%s", problem);
}

static bool set_rules(const struct judge *j, X509_STORE_CTX *ctx)
{
	X509_VERIFY_PARAM *p = X509_STORE_CTX_get0_param(ctx);
	unsigned long flags = X509_V_FLAG_TRUSTED_FIRST;
	if (j->rules->is_strict)
		flags |= X509_V_FLAG_X509_STRICT;
	if (j->rules->needs_crl)
		flags |= X509_V_FLAG_CRL_CHECK;
	if (j->rules->needs_all_crl)
		flags |= X509_V_FLAG_CRL_CHECK_ALL;
	X509_VERIFY_PARAM_set_depth(p, INTERMEDIATES_MAX);
	X509_VERIFY_PARAM_set_auth_level(p, j->rules->is_strict ? 2 : 1);
	X509_VERIFY_PARAM_set_time(p, (time_t)j->what->at_s);
	X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
						   X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	if (X509_VERIFY_PARAM_set_flags(p, flags) != 1 ||
	    X509_VERIFY_PARAM_set_purpose(p, X509_PURPOSE_SSL_SERVER) != 1 ||
	    X509_VERIFY_PARAM_set_trust(p, X509_TRUST_SSL_SERVER) != 1)
		return false;
	if (j->what->name == NULL)
		return true;
	return (j->what->is_ip ? X509_VERIFY_PARAM_set1_ip_asc(p, j->what->name) :
				X509_VERIFY_PARAM_set1_host(p, j->what->name, 0)) == 1;
}

static void tell_certificate(const struct judge *j, X509 *cert,
			     struct verify_story *story)
{
	if (story->count >= VERIFY_CHAIN_MAX)
		return;
	struct verify_certificate *out = &story->chain[story->count++];
	story_describe(cert, out);
	for (unsigned i = 0; i < j->count; i++)
		if (j->findings[i].cert == cert)
			story_append(out->problem, sizeof(out->problem),
				     j->findings[i].words);
}

static bool holds(const STACK_OF(X509) *chain, const X509 *cert)
{
	for (int i = 0; i < sk_X509_num(chain); i++)
		if (X509_cmp(sk_X509_value(chain, i), cert) == 0)
			return true;
	return false;
}

/* The built chain; where it reaches no anchor, also what else was sent. */
static void tell_chain(const struct judge *j, const STACK_OF(X509) *chain,
		       struct verify_story *story)
{
	for (int i = 0; i < sk_X509_num(chain); i++)
		tell_certificate(j, sk_X509_value(chain, i), story);
	if (j->is_whole)
		return;
	for (int i = 0; i < sk_X509_num(j->what->sent); i++) {
		X509 *cert = sk_X509_value(j->what->sent, i);
		if (!holds(chain, cert))
			tell_certificate(j, cert, story);
	}
}

/* Which of several findings names the error: the one that time or another
 * name would not mend comes first. */
static const struct finding *worst(const struct judge *j)
{
	static const enum err_code order[] = { ERR_TLS_REVOKED, ERR_TLS_CHAIN,
					       ERR_TLS_TIME, ERR_TLS_NAME };
	for (size_t k = 0; k < sizeof(order) / sizeof(order[0]); k++)
		for (unsigned i = 0; i < j->count; i++)
			if (j->findings[i].code == order[k])
				return &j->findings[i];
	return &j->findings[0];
}

static const char *who(const struct story_case *what)
{
	return what->name ? what->name : "the server";
}

/* Findings besides `first` that say something new. */
static unsigned count_others(const struct judge *j, const struct finding *first)
{
	unsigned others = 0;
	for (unsigned i = 0; i < j->count; i++) {
		const struct finding *f = &j->findings[i];
		bool is_new = strcmp(f->words, first->words) != 0 || f->cert != first->cert;
		for (unsigned k = 0; k < i && is_new; k++)
			is_new = strcmp(f->words, j->findings[k].words) != 0 ||
				 f->cert != j->findings[k].cert;
		others += is_new;
	}
	return others + (j->total - j->count);
}

static void tell_verdict(const struct judge *j, struct verify_story *story)
{
	story->is_judged = true;
	if (j->total == 0) {
		story->result = (struct err){ .code = ERR_OK };
		return;
	}
	const struct finding *f = worst(j);
	struct verify_certificate seen = { .subject = "" };
	if (f->cert)
		story_describe(f->cert, &seen);
	char more[48] = "";
	unsigned others = count_others(j, f);
	if (others > 0)
		snprintf(more, sizeof(more), " (and %u more)", others);
	err_set(&story->result, f->code, "certificate for %.120s is refused: %.100s%s%s%s",
		who(j->what), seen.subject[0] ? seen.subject : "one without a subject",
		f->words[0] ? ": " : "", f->words, more);
}

static enum err_code cannot_judge(const struct story_case *what,
				  struct verify_story *story)
{
	const char *why = ERR_reason_error_string(ERR_peek_last_error());
	ERR_clear_error();
	return err_set(&story->result, ERR_INTERNAL, "judge the certificate of %s: %s",
		       who(what), why ? why : "no memory");
}

enum err_code judge_chain(const struct judge_rules *rules,
			  const struct story_case *what, struct verify_story *story,
			  int *error)
{
	struct judge j = { .rules = rules, .what = what, .is_whole = true };
	*story = (struct verify_story){ .count = 0 };
	*error = X509_V_ERR_UNSPECIFIED;
	autoctx *ctx = X509_STORE_CTX_new();
	if (ctx == NULL || sk_X509_num(what->sent) <= 0 ||
	    X509_STORE_CTX_init(ctx, rules->store, sk_X509_value(what->sent, 0),
				(STACK_OF(X509) *)what->sent) != 1 ||
	    X509_STORE_CTX_set_app_data(ctx, &j) != 1 || !set_rules(&j, ctx))
		return cannot_judge(what, story);
	X509_STORE_CTX_set_verify_cb(ctx, on_step);
	if (X509_verify_cert(ctx) != 1 && j.total == 0) {
		int code = X509_STORE_CTX_get_error(ctx);
		struct finding *f = find(&j, NULL, ERR_TLS_CHAIN, code);
		j.is_whole = false;
		snprintf(f->words, sizeof(f->words), "the chain could not be judged: %s",
			 X509_verify_cert_error_string(code));
	}
	const STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
	profile_check(chain, j.is_whole, rules->is_strict, on_profile, &j);
	tell_chain(&j, chain, story);
	tell_verdict(&j, story);
	if (j.total == 0)
		*error = X509_V_OK;
	else if (worst(&j)->error != X509_V_OK)
		*error = worst(&j)->error;
	ERR_clear_error();
	return story->result.code;
}
