#ifndef POLICY_CONTENT_H
#define POLICY_CONTENT_H

#include "common/err.h"
#include "common/span.h"

#include <stdbool.h>
#include <stdint.h>

#define CONTENT_ID_MAX 128

/*
 * A content as Configuration Manager names it: package id ("ABC00042"),
 * application content ("Content_<guid>"), software update (a bare GUID);
 * optionally with a version behind a dot.
 */
struct content {
	char id[CONTENT_ID_MAX + 1];
	uint32_t version; /* 0 = not named: any, the latest */
	bool has_version;
};

/*
 * Parse "ABC00042.3", "Content_9f2c....1", "{GUID}". A final ".digits" is the
 * version. Ids pass relpath_check_id. ERR_USAGE with the reason.
 */
enum err_code content_parse(const char *text, struct content *out,
			    struct err *e);

/* "ID.VERSION", or "ID" where no version is named: also the folder's name in
 * the cache. */
#define CONTENT_NAME_SIZE (CONTENT_ID_MAX + 16)
void content_name(const struct content *c, char out[CONTENT_NAME_SIZE]);

/* Same id by ASCII case, same version. */
bool content_same(const struct content *a, const struct content *b);

/*
 * How the location request names it (docs/wire.md 3): package ids as they are,
 * "UID:Content_<guid>" and "UID:<guid>" for the others, with the LocationType
 * that goes with it ("SMSPackage", "SMSUpdate").
 */
void content_request_id(const char *id, char out[CONTENT_NAME_SIZE],
			const char **location_type);

#endif
