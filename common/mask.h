#ifndef COMMON_MASK_H
#define COMMON_MASK_H

#include "common/buf.h"
#include "common/span.h"

/*
 * Secrets become "***" before anybody reads them. What is passed through is not
 * escaped: common/log does that.
 */

/*
 * In a URL, or in any text: values of parameters whose names look like secrets
 * (sig, token, signature, key, password, code; se stays), "user:password@"
 * behind "://", and what stands in <Token> and the like.
 */
void mask_values(struct span text, struct buf *out);

/* All we know of: those, "Bearer xyz", headers that authorise, PEM keys. */
void mask_text(struct span text, struct buf *out);

#endif
