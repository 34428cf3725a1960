#ifndef AGENT_NET_DAVLIST_H
#define AGENT_NET_DAVLIST_H

#include "agent/net/entry.h"
#include "common/url.h"

#include <stdbool.h>

/*
 * Reading the list of one folder: a PROPFIND document, or an index page where
 * a server has no DAV (docs/wire.md 5.2). Pure. For dav only.
 */
struct davlist {
	const struct url *root;   /* the content folder; paths are relative to it */
	const struct url *asked;  /* the folder that answered: root or below */
	const char *folder;       /* what asked must be, relative to root; NULL =
	                           * not checked */
	struct entry_list *files; /* files are added */
	struct buf *folders;      /* folders are added, NUL-ended texts */
	unsigned folders_added;   /* by this call */
	/* what the document says of `asked` itself; XML only */
	size_t responses;         /* all there were */
	bool is_file;             /* asked is there, and no collection */
	uint64_t size;            /* of that file, or WIRE_UNKNOWN */
};

/* As dav_parse(). LISTING, LIMIT, NOMEM. */
enum err_code davlist_xml(struct davlist *l, struct span xml, struct err *e);

/*
 * The <a href> links of an index page that lead to a name right below `asked`;
 * all others are navigation. A folder ends in a slash, or has "<dir>" written
 * before it as IIS does. Sizes are unknown.
 */
enum err_code davlist_html(struct davlist *l, struct span html, struct err *e);

#endif
