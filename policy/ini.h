#ifndef POLICY_INI_H
#define POLICY_INI_H

#include "common/buf.h"
#include "common/err.h"
#include "common/span.h"

#include <stdbool.h>

/*
 * INI files, strictly: a shell round inih that refuses what inih would cut,
 * join or pass over in silence. Settings and policy are written as root, so
 * nothing in them may mean something else than what stands there.
 *
 *   [section]
 *   key = value        ; a comment begins with ';' at the start of a line or
 *                      ; after a space
 *
 * UTF-8, with or without byte order mark; LF or CRLF.
 */
#define INI_FILE_MAX (64u << 10) /* bytes */
#define INI_LINE_MAX 198         /* bytes, line end not counted: inih's buffer */
#define INI_SECTION_MAX 49       /* bytes: inih's buffer */

/* A section begins (key and value NULL), or a key of it. Borrowed. */
struct ini_item {
	const char *path;
	unsigned line; /* from 1 */
	const char *section, *key;
	const char *value; /* trimmed, "" = nothing behind '=' */
};

/* ERR_OK to go on; any other code ends the reading with it. */
typedef enum err_code ini_on_item(void *arg, const struct ini_item *item,
				  struct err *e);

/*
 * Read `text`. Each line that cannot be read is a problem of its own, and so
 * the rest is delivered all the same; keys after a broken section line are
 * left out, as nobody knows where they belong.
 *
 * Errors    only those of on_item; problems do not count
 */
enum err_code ini_parse_text(struct span text, const char *path,
			     ini_on_item *on_item, void *arg,
			     struct buf *problems, struct err *e);

/*
 * Read a whole file that is trusted with the settings: a regular file, owned
 * by root or us, not writable by group or others.
 *
 * dir_fd     as openat(2); links are followed
 * max_bytes  a longer file is refused
 * text       owned by the caller
 * is_absent  set where there is no such file; may be NULL
 * Errors     ERR_INPUT with the reason (without the path), ERR_NOMEM
 */
enum err_code ini_load(int dir_fd, const char *path, size_t max_bytes,
		       struct buf *text, bool *is_absent, struct err *e);

/* Owned by root or us and not writable by group or others? ERR_INPUT. */
enum err_code ini_check_trusted(int fd, struct err *e);

/*
 * Add "PATH:LINE: text" (line 0: "PATH: text") as one line. Beyond half of
 * what the buffer may hold, only the first is noted that is left out.
 */
void ini_problem(struct buf *problems, const char *path, unsigned line,
		 const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Add those that were noted elsewhere, one line each. */
void ini_add_problems(struct buf *problems, const struct buf *others);

/*
 * Sum up what was added to problems since it was `before` bytes long: ERR_OK
 * when nothing, else `code` with the first problem and how many there are.
 */
enum err_code ini_summary(const struct buf *problems, size_t before,
			  enum err_code code, struct err *e);

#endif
