/*
 * Misbehaviour on demand. DIR/script, when it exists, is read at every request:
 * lines `KEY VALUE`, `#` begins a comment line.
 *
 *   on KIND...        kinds of request it is for (mp: location, mplist,
 *                     registration, assignments, policy, relay; cloud: manifest,
 *                     file; `any`: all of them); default: mp location, cloud both
 *   skip N, times N   leave the first N such requests alone, then apply to N;
 *                     counted in DIR/script.count, from 0 again when the script
 *                     is written anew
 *   status N          answer with it; an error page unless a body is given too
 *   reason WORDS      reason phrase
 *   empty             empty body
 *   html              a login page, text/html
 *   raw FILE          whole HTTP body
 *   body FILE         mp: UTF-8 text that replaces the reply, sent as UTF-16;
 *                     a policy: replaces its document; cloud: replaces the manifest
 *   bodyraw FILE      mp: bytes that replace the reply's UTF-16 text
 *   rawpart2 FILE     mp: bytes of the octet-stream part, as they are
 *   plain, zlib       mp: form of the reply, whatever was asked for
 *   bom, nonul        mp: reply text with a BOM; without its NUL
 *   mplist_only       mp: location requests answer 500, MPLIST works
 *   content_type X    header, "-" for none
 *   header NAME: X    one more header, may repeat
 *   retry_after X     header Retry-After
 *   redirect URL      Location, status 302 unless `status` says another
 *   delay_ms N        wait before the answer
 *   close             end the connection without an answer
 *   cut N             end the connection after N bytes of the body
 *   no_range          cloud: answer 200 to a range
 *   etag X, "-"       cloud: another ETag, or none
 *   ignore_et         cloud: accept an expired link
 */
#ifndef LAB_SCRIPT_H
#define LAB_SCRIPT_H

#include "standin.h"

/* Zero is: no script. */
struct script {
	struct buf text;        /* all of the script, when it applies */
};

/* The script for this request of kind `kind`; counts the request. */
void script_load(struct script *s, struct request *q, const char *kind,
	const char *default_kinds);
void script_free(struct script *s);

/* The file DIR/`name`, of lines like those of a script; nothing when it is absent. */
void script_read(struct script *s, const struct request *q, const char *name);
/* Value of the first line with `key`, "" when it has none, NULL when absent. Owned. */
char *script_get(const struct script *s, const char *key);
bool script_has(const struct script *s, const char *key);
/* The file that the line `key` names; false when there is no such line. */
bool script_file(const struct script *s, const struct request *q, const char *key,
	struct buf *out);

/* `otherwise` when there is no such line, or no number in it. */
long script_number(const struct script *s, const char *key, long otherwise);

/* What does not depend on the program: change a finished reply. */
void script_apply(const struct script *s, struct request *q, struct reply *r);

#endif
