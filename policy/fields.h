#ifndef POLICY_FIELDS_H
#define POLICY_FIELDS_H

#include "common/buf.h"
#include "common/err.h"
#include "common/span.h"

#include <stdbool.h>
#include <stdint.h>

/* The keys of a policy file, as they stand in it: agent-policy(5). */
enum fields_key {
	FIELDS_ID,
	FIELDS_NAME,
	FIELDS_PACKAGE,
	FIELDS_VERSION,
	FIELDS_PURPOSE,
	FIELDS_PRIORITY,
	FIELDS_AVAILABLE,
	FIELDS_DEADLINE,
	FIELDS_HASH,
	FIELDS_SIZE,
	FIELDS_FILES,
	FIELDS_SITE_HASH,
	FIELDS_CLOUD,
	FIELDS_COUNT,
};

struct fields {
	char *id, *name, *package, *hash, *files, *site_hash; /* owned, never NULL */
	uint64_t version, priority, size, cloud;
	bool is_required;
	int64_t available_s, deadline_s;
	unsigned lines[FIELDS_COUNT]; /* where each stands; 0 = nowhere */
};
void fields_free(struct fields *f); /* zero is fine */

/* Read one text; path is how problems name it. is_site: made from the site's
 * policy. What is wrong, by itself or together, goes to problems; the rest is
 * read all the same. ERR_NOMEM. */
struct fields_input {
	struct span text;
	const char *path;
	bool is_site;
	struct buf *problems;
};
enum err_code fields_read(const struct fields_input *in, struct fields *out,
			  struct err *e);

static inline void own_fields(struct fields *f)
{
	fields_free(f);
}
#define autofields __attribute__((cleanup(own_fields))) struct fields

#endif
