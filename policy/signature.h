#ifndef POLICY_SIGNATURE_H
#define POLICY_SIGNATURE_H

#include "common/buf.h"
#include "common/err.h"
#include "common/span.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * CMS signatures of policy (RFC 5652 s5), DER or PEM, as `openssl cms -sign`
 * makes them. Trust is a list of certificates, not a chain: the signature must be
 * made with the key of one of the certificates in [policy] signer, which must have
 * been valid at the time that the signature names (signing-time, RFC 5652 s11.3,
 * a signed attribute that must be there). Several certificates in the file are
 * several signers, for the time of a change. Only SHA-256 and better; RSA of 2048
 * bits and better, or EC of 256.
 */
struct signature {
	char signer[256];   /* subject of the certificate that fits */
	int64_t signed_s;   /* epoch: the version of the policy */
};

/* Does it look like CMS (DER SEQUENCE or a PEM header)? Says nothing of trust. */
bool signature_is_cms(struct span text);

/*
 * signers    PEM, one certificate or more
 * message    CMS SignedData; with the content inside (enveloping), or without
 * detached   the signed text where the content is not inside; else .at = NULL
 * content    owned by the caller; the signed text, and only that
 * Errors     ERR_SIGNATURE: who signed instead, or what is wrong with it;
 *            ERR_CONFIG: signers holds no certificate; ERR_NOMEM
 */
enum err_code signature_check(struct span signers, struct span message,
			      struct span detached, struct buf *content,
			      struct signature *out, struct err *e);

/*
 * May a policy signed at `signed_s` follow one signed at `before_s` (0 = none)?
 * ERR_ROLLBACK for an older one, naming both times; ERR_SIGNATURE when it lies more
 * than a day in the future of now_s.
 */
enum err_code signature_check_age(int64_t signed_s, int64_t before_s,
				  int64_t now_s, struct err *e);

#endif
