#ifndef AGENT_NET_TOOLS_H
#define AGENT_NET_TOOLS_H

#include "agent/net/identity.h"
#include "agent/wire.h"
#include "common/buf.h"

/*
 * What the calls of the keeper are worked with: settings, the files that were
 * handed over, and one of each module that lives as long as the process. Made
 * before the sandbox closes, never freed.
 */
struct tools {
	const struct wire_msg *config; /* kept whole: its texts are used all along */
	struct buf files[WIRE_FILE_COUNT];
	struct buf hosts;              /* text of /etc/hosts */
	char *ring;                    /* NULL = none was handed over */
	struct wire_pace pace;         /* the last one that came */
	struct dns *dns;
	struct resolve *resolve;
	struct verify *verify;
	struct identity *identity; /* NULL = none was handed over */
	struct http *http;
	struct download *download;
};

/* A FILE message: read it, map the ring. Takes its descriptor. */
enum err_code tools_take_file(struct tools *t, struct wire_msg *m,
			      struct err *e);

/* Use the identity that was handed over last; nothing new: ERR_OK. CONFIG. */
enum err_code tools_open_identity(struct tools *t, struct err *e);

/* PACE: holds from now on, or from tools_open() on. */
void tools_pace(struct tools *t, const struct wire_pace *m);

/* CONFIG came, and all files before it. config and out, to the keeper, are borrowed
 * for good. */
enum err_code tools_open(struct tools *t, const struct wire_msg *config,
			 struct wire_out *out, struct err *e);

#endif
