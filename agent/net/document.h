#ifndef AGENT_NET_DOCUMENT_H
#define AGENT_NET_DOCUMENT_H

#include "agent/net/http.h"
#include "agent/wire.h"

/*
 * One text by https, for the keeper to judge: a policy document or its
 * signature. A conditional GET (RFC 9110 s13.1.2); the keeper is told BODY and
 * DATA (agent/wire.h). BODY's length is what the server announced, 0 where it
 * announced nothing: the text is whole when the call ends without an error.
 * Nothing is kept here but what stands in the ring.
 */
struct document;

struct document_options {
	struct http *http; /* borrowed */
	struct wire_out *out; /* to the keeper; borrowed */
	char *ring;        /* slots * slot_bytes, shared with the keeper */
	unsigned slots;
	size_t slot_bytes;
	/* The call has ended, once for each start, unless cancelled; all slots
	 * are back by then. */
	void (*done)(void *arg, const struct err *result);
	void *arg;
};

/* Lives as long as the process. NULL with *e set. */
struct document *document_new(const struct document_options *options,
			      struct err *e);

/* One at a time; the keeper has no slot of another transfer then. */
enum err_code document_start(struct document *d, const struct wire_document *m,
			     struct err *e);
/* The keeper gave a slot back; false: it was none of ours. */
bool document_slot(struct document *d, uint64_t slot);
/* End the call without a word. NULL is fine. */
void document_cancel(struct document *d);

#endif
