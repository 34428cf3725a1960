#ifndef AGENT_NET_CCM_H
#define AGENT_NET_CCM_H

#include "common/buf.h"
#include "common/err.h"
#include "common/span.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * The envelope of management point messages: multipart/mixed, a UTF-16 <Msg>
 * header, a body that is a zlib stream or plain UTF-16 (docs/wire.md 1.4-1.6).
 */
struct ccm_message {
	const char *endpoint;   /* "MP_LocationManager" */
	const char *reply_to;   /* "LS_ReplyLocations" */
	const char *source_id;  /* "GUID:...", or "" for anonymous */
	const char *source_host;
	const char *target_host;
	struct span body;       /* XML, UTF-8 */
	bool is_plain;          /* no zlib: the uncompressed form, empty hooks */
	/* The clientauth hook (docs/wire.md 2.4); NULL = not signed. Adds the
	 * signature of `bytes` as the hook writes it. */
	enum err_code (*sign)(const void *arg, struct span bytes, struct buf *hex,
			      struct err *e);
	const void *sign_arg;
	struct span public_key; /* hex of its blob; with sign */
	/* handed in, so that tests see the same bytes each time */
	const char *message_id; /* GUID without braces */
	const char *boundary;
	const char *sent_time;  /* "2026-11-22T10:00:00Z" */
};

/* Writes the HTTP body. ERR_NOMEM, ERR_INTERNAL (body is not UTF-8), and those of
 * sign. */
enum err_code ccm_encode(const struct ccm_message *m, struct buf *out,
			 struct err *e);
/* "multipart/mixed; boundary=\"...\"" for the request. */
void ccm_content_type(const struct ccm_message *m, struct buf *out);

#define CCM_REPLY_MAX (4u << 20)   /* HTTP body, bytes */
#define CCM_INFLATED_MAX (16u << 20) /* UTF-16 bytes */
#define CCM_TEXT_MAX (10u << 20)   /* UTF-8 bytes: as much as common/xml takes */
#define CCM_RATIO_MAX 200          /* inflated to deflated, beyond 64 KiB */
#define CCM_PARTS_MAX 16

/*
 * Take a synchronous reply apart and return the body as UTF-8 XML (owned in
 * *out). The part of type application/octet-stream is inflated; else the second
 * text part is taken. A BOM is accepted, trailing NULs are stripped. A body of
 * no bytes at all is ERR_MP_AUTH ("the site does not know this client");
 * everything odd is ERR_MP_REPLY with the reason.
 */
enum err_code ccm_decode(struct span http_body, const char *content_type,
			 struct buf *out, struct err *e);

/* The parts, for tests and fuzzing. */
enum err_code ccm_inflate(struct span deflated, struct buf *out, struct err *e);
/* UTF-16LE to UTF-8; unpaired surrogates, an odd length, U+0000 inside are
 * ERR_MP_REPLY. */
enum err_code ccm_utf16_to_utf8(struct span text, struct buf *out, struct err *e);
/* UTF-8 to UTF-16LE. Not UTF-8: ERR_INTERNAL, since it is our own text. */
enum err_code ccm_utf8_to_utf16(struct span text, struct buf *out, struct err *e);

#endif
