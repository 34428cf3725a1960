#include "agent/keeper/expiry.h"

#include "common/buf.h"
#include "common/fs.h"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <time.h>

#define FILE_MAX (1u << 20) /* bytes */

/* Nobody is there to be asked for a passphrase. */
static int no_passphrase(char *out, int size, int is_writing, void *arg)
{
	(void)out, (void)size, (void)is_writing, (void)arg;
	return 0;
}

static X509 *first_of(const struct buf *text)
{
	BIO *bio = BIO_new_mem_buf(text->at ? text->at : "", (int)text->len);
	X509 *x = bio ? PEM_read_bio_X509(bio, NULL, no_passphrase, NULL) : NULL;
	BIO_free(bio);
	ERR_clear_error();
	return x;
}

enum err_code expiry_read(const char *path, int64_t *not_after_s, struct err *e)
{
	autobuf text = { .max = FILE_MAX };
	struct err own = { 0 };
	struct tm end = { 0 };
	if (fs_read_all(AT_FDCWD, path, &text, &own) != ERR_OK)
		return err_set(e, ERR_CONFIG, "%s", own.text);
	X509 *x = first_of(&text);
	if (x == NULL)
		return err_set(e, ERR_CONFIG, "%.200s: no certificate in it", path);
	bool is_read = ASN1_TIME_to_tm(X509_get0_notAfter(x), &end) == 1;
	X509_free(x);
	if (!is_read)
		return err_set(e, ERR_CONFIG, "%.200s: the certificate has no end",
			       path);
	*not_after_s = timegm(&end);
	return ERR_OK;
}
