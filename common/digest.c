#include "common/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct digest {
	EVP_MD_CTX *ctx;   /* owned */
	const EVP_MD *md;  /* OpenSSL's own, lives for ever */
	uint64_t length;   /* bytes added */
	bool has_failed;   /* EVP refused something, or used after digest_hex */
};

static const EVP_MD *md_of(enum digest_alg alg)
{
	switch (alg) {
	case DIGEST_SHA256:
		return EVP_sha256();
	case DIGEST_SHA1:
		return EVP_sha1();
	}
	return NULL;
}

static size_t hex_length(enum digest_alg alg)
{
	return alg == DIGEST_SHA1 ? 40 : 64;
}

struct digest *digest_new(enum digest_alg alg, struct err *e)
{
	struct digest *d = calloc(1, sizeof(*d));
	if (d)
		d->ctx = EVP_MD_CTX_new();
	if (d == NULL || d->ctx == NULL) {
		err_set(e, ERR_NOMEM, "start a digest: no memory");
		digest_free(d);
		return NULL;
	}
	d->md = md_of(alg);
	digest_reset(d);
	if (d->has_failed) {
		err_set(e, ERR_INTERNAL, "start a digest: OpenSSL refuses it");
		digest_free(d);
		return NULL;
	}
	return d;
}

void digest_free(struct digest *d)
{
	if (d == NULL)
		return;
	EVP_MD_CTX_free(d->ctx);
	free(d);
}

void digest_reset(struct digest *d)
{
	d->length = 0;
	d->has_failed = d->md == NULL ||
			EVP_DigestInit_ex(d->ctx, d->md, NULL) != 1;
}

void digest_add(struct digest *d, const void *bytes, size_t len)
{
	if (d->has_failed || len == 0)
		return;
	d->has_failed = EVP_DigestUpdate(d->ctx, bytes, len) != 1;
	d->length += len;
}

uint64_t digest_length(const struct digest *d)
{
	return d->length;
}

enum err_code digest_hex(struct digest *d, char out[DIGEST_HEX_SIZE],
			 struct err *e)
{
	unsigned char raw[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	out[0] = '\0';
	if (d->has_failed || EVP_DigestFinal_ex(d->ctx, raw, &len) != 1 ||
	    len * 2 >= DIGEST_HEX_SIZE) {
		d->has_failed = true;
		return err_set(e, ERR_INTERNAL, "finish a digest: OpenSSL failed");
	}
	d->has_failed = true; /* until reset */
	for (unsigned i = 0; i < len; i++) {
		out[2 * i] = "0123456789abcdef"[raw[i] >> 4];
		out[2 * i + 1] = "0123456789abcdef"[raw[i] & 15];
	}
	out[2 * len] = '\0';
	return ERR_OK;
}

bool digest_is_hex(enum digest_alg alg, const char *text, size_t len,
		   char out[DIGEST_HEX_SIZE])
{
	if (len != hex_length(alg))
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		if (c >= 'A' && c <= 'F')
			c = (char)(c - 'A' + 'a');
		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			return false;
		out[i] = c;
	}
	out[len] = '\0';
	return true;
}

enum err_code digest_parse(const char *text, char out[DIGEST_HEX_SIZE],
			   struct err *e)
{
	static const char prefix[] = "sha256:";
	if (strncmp(text, prefix, sizeof(prefix) - 1) != 0)
		return err_set(e, ERR_USAGE,
			       "hash \"%.100s\" does not begin with \"sha256:\"", text);
	const char *hex = text + sizeof(prefix) - 1;
	size_t len = strlen(hex);
	if (len != hex_length(DIGEST_SHA256))
		return err_set(e, ERR_USAGE,
			       "hash \"%.100s\" has %zu digits, not 64", text, len);
	char lower[DIGEST_HEX_SIZE];
	if (!digest_is_hex(DIGEST_SHA256, hex, len, lower))
		return err_set(e, ERR_USAGE,
			       "hash \"%.100s\" holds what is no hex digit", text);
	memcpy(out, lower, sizeof(lower));
	return ERR_OK;
}

enum err_code digest_file(int fd, char out[DIGEST_HEX_SIZE],
			  uint64_t *size_bytes, struct err *e)
{
	return digest_file_until(fd, out, size_bytes, NULL, NULL, e);
}

enum err_code digest_file_until(int fd, char out[DIGEST_HEX_SIZE],
				uint64_t *size_bytes,
				enum err_code (*stop)(void *arg), void *arg,
				struct err *e)
{
	/* Not on the heap: folders of many small files ask for it each time. */
	static char block[256 << 10];
	autodigest struct digest *d = digest_new(DIGEST_SHA256, e);
	out[0] = '\0';
	if (d == NULL)
		return e ? e->code : ERR_INTERNAL;
	for (;;) {
		enum err_code rc = stop ? stop(arg) : ERR_OK;
		if (rc != ERR_OK)
			return err_set(e, rc, "stopped while hashing");
		ssize_t n = pread(fd, block, sizeof(block), (off_t)d->length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, ERR_FOLDER, "read a file to hash it: %m");
		if (n == 0)
			break;
		digest_add(d, block, (size_t)n);
		if (d->has_failed) /* its length would stand still */
			break;
	}
	if (size_bytes)
		*size_bytes = d->length;
	return digest_hex(d, out, e);
}
