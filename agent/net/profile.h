#ifndef AGENT_NET_PROFILE_H
#define AGENT_NET_PROFILE_H

#include <stdbool.h>

struct x509_st;
struct stack_st_X509;

/*
 * Rules of RFC 5280 and of the CA/Browser Forum's baseline requirements (BR)
 * that OpenSSL does not hold certificates to. They are looked at after the
 * chain was built and can only refuse. The anchor is the administrator's
 * choice: of it only the key and its name constraints are looked at.
 */

/* The caller's ear for each broken rule; `problem` is a constant. */
typedef void profile_broken(void *arg, struct x509_st *cert, const char *problem);

/*
 * Hold every certificate of `chain` (leaf first) to the profile.
 *
 * has_anchor  the last one is the configured anchor
 * is_strict   all rules; otherwise only those without which the check of
 *             name and usage would have a hole
 */
void profile_check(const struct stack_st_X509 *chain, bool has_anchor,
		   bool is_strict, profile_broken *broken, void *arg);

#endif
