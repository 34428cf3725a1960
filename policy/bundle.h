#ifndef POLICY_BUNDLE_H
#define POLICY_BUNDLE_H

#include "common/err.h"
#include "common/span.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * Many policy files in one text (agent-policy(5), BUNDLES):
 *
 *   ; cloud-dp-agent policy bundle
 *   ; file NAME SIZE
 *   <SIZE bytes>
 *   ; file NAME SIZE
 *   ...
 *
 * NAME is a file name without folder (policy/check, check_file_name), each once;
 * *.ini are deployments, others are their file lists. Each line ends with a line
 * feed. What begins otherwise is no bundle but one single policy file.
 */
#define BUNDLE_MAX (64u << 20) /* bytes */
#define BUNDLE_FILES_MAX 100000

struct bundle_file {
	char name[256];
	struct span text; /* borrowed from the bundle */
};
struct bundle {
	struct bundle_file *files; /* owned; sorted by name, bytewise */
	size_t count;
};

bool bundle_is(struct span text);
/* ERR_POLICY with what is wrong and at which byte. */
enum err_code bundle_parse(struct span text, struct bundle *out, struct err *e);
/* NULL where there is none. */
const struct bundle_file *bundle_find(const struct bundle *b, const char *name);
void bundle_free(struct bundle *b);

#endif
