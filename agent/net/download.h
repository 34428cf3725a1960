#ifndef AGENT_NET_DOWNLOAD_H
#define AGENT_NET_DOWNLOAD_H

#include "agent/net/entry.h"
#include "agent/net/http.h"
#include "agent/wire.h"

/*
 * Fetch files of the listed source, several at once, into the slots of the
 * shared ring; the keeper is told HEAD, DATA and FETCHED (agent/wire.h). Every
 * lie about ranges and lengths that can be seen here ends here (RFC 9110 s14;
 * docs/security.md P1); the keeper's hash has the last word.
 */
struct download;

struct download_options {
	struct http *http; /* borrowed */
	struct wire_out *out; /* to the keeper; borrowed */
	unsigned connections; /* at work at once; other fetches wait */
	char *ring;        /* slots * slot_bytes, shared with the keeper */
	unsigned slots;
	size_t slot_bytes;
};

/* The source that FETCH indexes refer to. Texts are copied, files borrowed. */
struct download_source {
	enum wire_source kind;
	const struct entry_list *files;
	const char *base_url;   /* folder (DP) or the manifest's URL (cloud) */
	enum wire_form form;
	bool is_single_file;    /* base_url is the file */
	bool is_multiplexed;    /* known to speak HTTP/2 */
	unsigned connect_ms;    /* to it, where that is known */
	const char *token_line; /* header line; NULL = none */
	bool token_for_files;   /* files of base_url's origin want it as well */
	bool offer_client;
};

struct download *download_new(const struct download_options *options,
			      struct err *e);
void download_free(struct download *d); /* NULL is fine */

enum err_code download_set_source(struct download *d,
				  const struct download_source *source,
				  struct err *e);

/* One FETCH. Failing at once is told by FETCHED, too; an error returned here
 * means that the keeper is gone or broke the protocol. */
enum err_code download_fetch(struct download *d, const struct wire_fetch *fetch,
			     struct err *e);
/* A TRIM: the fetch ends earlier. One that is not under way is passed over. */
void download_trim(struct download *d, const struct wire_trim *trim);
/* The keeper gave a slot back. */
enum err_code download_slot(struct download *d, uint64_t slot, struct err *e);
/* End all fetches without a word. Slots at the keeper stay there. */
void download_cancel(struct download *d);

#endif
