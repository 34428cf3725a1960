#ifndef AGENT_NET_MANIFEST_H
#define AGENT_NET_MANIFEST_H

#include "agent/net/entry.h"
#include "agent/net/http.h"

/*
 * The content XML of the cloud service: one GET on the location's URL,
 * verbatim, with the token header (docs/wire.md 6.2, 6.3, 11).
 */
struct manifest;

struct manifest_request {
	const char *url;
	const char *token_line; /* whole header line; NULL = none */
	struct span content_id; /* must be the one that the document is for */
	uint64_t version;       /* 0 = any */
	/* files: on the heap, taken over, sorted by path; NULL on failure */
	void (*done)(void *arg, const struct err *result,
		     struct entry_list *files);
	/* an unknown document, for the debug log */
	void (*on_note)(void *arg, const char *label, struct span text);
	void *arg;
};

/*
 * 401, 403: ERR_EXPIRED (locate again). 404: ABSENT. An unknown document:
 * LISTING with its root element. Every file gets a URL: the Url attribute
 * (https only), or getcontentfile of the same service.
 */
struct manifest *manifest_start(struct http *http,
				const struct manifest_request *request,
				struct err *e);
void manifest_cancel(struct manifest *m); /* silent; NULL is fine */

/* For tests and fuzzing. service_url: the URL that was asked. */
enum err_code manifest_parse(struct span xml, const char *service_url,
			     struct span content_id, uint64_t version,
			     struct entry_list *out, struct err *e);

#endif
