#ifndef AGENT_KEEPER_KEPT_H
#define AGENT_KEEPER_KEPT_H

#include "common/buf.h"
#include "common/digest.h"
#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * The policy that came over the network, in the state folder:
 *
 *   policy.bundle  the text as it was judged good
 *   policy.origin  lines "KEY VALUE": source, etag, signer (hash of the file of
 *                  certificates), signed, sha256 and before (hashes that the
 *                  bundle may have), and for each other source that was used:
 *                  known EPOCH SOURCE
 *
 * The origin is replaced first, and names the old bundle beside the new one: if
 * the power goes between the two, the old one is used on, is not taken for the
 * new one (no etag), and nothing older than the new one is accepted any more.
 */
struct kept {
	char *source;      /* owned; NULL = nothing was kept */
	char *etag;        /* owned; of the bundle; NULL = none */
	char signer[DIGEST_HEX_SIZE];
	int64_t signed_s;  /* epoch; 0 = not signed */
	char sha256[DIGEST_HEX_SIZE], before[DIGEST_HEX_SIZE];
	struct buf others; /* lines "EPOCH SOURCE" */
	struct buf text;   /* the bundle; empty where there is none that fits */
	char text_sha256[DIGEST_HEX_SIZE]; /* "" as long as there is no text */
};
void kept_free(struct kept *k); /* zero is fine */

/*
 * What is kept beneath dir_fd. Both files must be trusted as a policy file is;
 * an origin that cannot be understood is as good as none. ERR_FOLDER, ERR_NOMEM.
 */
enum err_code kept_read(int dir_fd, struct kept *out, struct err *e);

/* SHA-256 of a text, as sha256 and signer are. */
enum err_code kept_hash(struct span text, char out[DIGEST_HEX_SIZE], struct err *e);

/* The newest signing time that was accepted of a source; 0 = none. */
int64_t kept_signed(const struct kept *k, const char *source);

/* Is the text whole, and what its source sent with that etag? */
bool kept_is_current(const struct kept *k);

/* What to keep; borrowed. */
struct kept_new {
	const char *source, *etag;
	char signer[DIGEST_HEX_SIZE];
	int64_t signed_s, now_s;
	struct span text;
};
/*
 * Keep it, unless another process has kept a newer one of that source in the
 * meantime (signature_check_age). *changed: the text is another one than before.
 */
enum err_code kept_store(int dir_fd, const struct kept_new *n, bool *changed,
			 struct err *e);

#endif
