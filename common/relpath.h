#ifndef COMMON_RELPATH_H
#define COMMON_RELPATH_H

#include "common/err.h"
#include "common/span.h"

#include <stdbool.h>

#define RELPATH_MAX 1024       /* bytes of a whole path */
#define RELPATH_COMPONENT 255  /* bytes of one component (ext4, xfs) */
#define RELPATH_DEPTH 32       /* components */

/*
 * May `path` be the name of a file inside a content folder?
 *
 * It must be relative, UTF-8, without "." or "..", empty components, leading
 * or trailing '/', backslash, NUL, control characters (U+0000-1F, 7F-9F),
 * bidirectional controls (U+202A-202E, U+2066-2069), within the limits above.
 * Windows device names, trailing dots and spaces are ordinary here.
 *
 * Returns ERR_OK, or ERR_NAME with *e naming the path and the reason.
 * Source: interface (agent-policy(5), FILE NAMES); docs/security.md F1, F3-F6.
 */
enum err_code relpath_check(struct span path, struct err *e);

/*
 * May `name` be one component (content id, host name) of a path that we make?
 * Letters, digits, '.', '_', '-', '{', '}'; 1..128 bytes; not starting with '.'
 * or '-'.
 */
enum err_code relpath_check_id(struct span name, struct err *e);

/*
 * Do two different paths mean the same file for a consumer that folds case
 * (ASCII only)? Writes the folded path to out.
 */
void relpath_fold(const char *path, char out[RELPATH_MAX + 1]);

#endif
