#ifndef COMMON_DIGEST_H
#define COMMON_DIGEST_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Streaming SHA-256 (FIPS 180-4) over EVP. SHA-1 exists only to compare what
 * a manifest says of a file (docs/wire.md 7); it never makes content trusted.
 */
enum digest_alg {
	DIGEST_SHA256,
	DIGEST_SHA1,
};

#define DIGEST_HEX_SIZE 65 /* longest hex text and its NUL */

struct digest; /* opaque */

/* Returns owned, or NULL with *e set. */
struct digest *digest_new(enum digest_alg alg, struct err *e);
void digest_free(struct digest *d); /* NULL is fine */
void digest_reset(struct digest *d);
/* Errors inside EVP stick and show in digest_hex. */
void digest_add(struct digest *d, const void *bytes, size_t len);
uint64_t digest_length(const struct digest *d); /* bytes added so far */
/* Lower-case hex of everything added. The digest must be reset afterwards. */
enum err_code digest_hex(struct digest *d, char out[DIGEST_HEX_SIZE],
			 struct err *e);

/* Scope cleanup: `autodigest struct digest *d = ...` */
static inline void own_digest(struct digest **d)
{
	digest_free(*d);
}
#define autodigest __attribute__((cleanup(own_digest)))

/* Exactly 64 (40 for SHA-1) hex digits of any case; writes lower case. */
bool digest_is_hex(enum digest_alg alg, const char *text, size_t len,
		   char out[DIGEST_HEX_SIZE]);

/*
 * "sha256:<64 hex>" (docs: agent-policy(5)). Any other algorithm, length or
 * digit is ERR_USAGE with the reason; the caller prefixes where it stood.
 */
enum err_code digest_parse(const char *text, char out[DIGEST_HEX_SIZE],
			   struct err *e);

/* Hash the whole open file from offset 0 by pread; *size_bytes may be NULL. */
enum err_code digest_file(int fd, char out[DIGEST_HEX_SIZE],
			  uint64_t *size_bytes, struct err *e);
/* The same; stop (may be NULL) is asked at every block, and its code, where it is
 * not ERR_OK, ends it. */
enum err_code digest_file_until(int fd, char out[DIGEST_HEX_SIZE],
				uint64_t *size_bytes,
				enum err_code (*stop)(void *arg), void *arg,
				struct err *e);

#endif
