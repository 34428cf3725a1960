#ifndef AGENT_NET_DAVHREF_H
#define AGENT_NET_DAVHREF_H

#include "agent/wire.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/span.h"
#include "common/url.h"

#include <stdbool.h>

/*
 * Where an href of a listing leads, seen from the folder that was asked
 * (docs/wire.md 5.2, 5.3). Pure. For dav and davlist only.
 */
enum davhref_where {
	DAVHREF_HERE,    /* the folder asked for */
	DAVHREF_CHILD,   /* a name right below it */
	DAVHREF_DEEPER,  /* below a child: its folder is asked in its turn */
	DAVHREF_OUTSIDE, /* `why` tells */
};

struct davhref {
	const struct url *url; /* that was asked; outlives this */
	struct buf root;       /* path of the content folder, decoded */
	struct buf asked;      /* path of url relative to it, decoded */
	bool is_folded;        /* the root is compared without case */
	/* of the href located last */
	enum davhref_where where;
	const char *why;       /* it is outside: "lies ...", "is ..." */
	bool has_slash;        /* behind it */
	struct span relative;  /* CHILD: path relative to root; valid until next */
	struct buf text, path, name; /* scratch */
};

/*
 * root    the content folder
 * asked   the folder whose list is read, after redirects: root or below it
 * folder  what asked must be relative to root; NULL = anything
 * Errors  LISTING: asked is not that. NOMEM
 */
enum err_code davhref_begin(struct davhref *h, const struct url *root,
			    const struct url *asked, const char *folder,
			    struct err *e);

/*
 * Fills `where` and what goes with it. Absolute URLs of the same server, paths
 * and relative references; escapes are undone once; "sccm?/" counts as a
 * folder's slash. The part up to the root may be in another case or virtual
 * directory where the root is of the SMS_DP_SMSPKG$ family (IIS), names below
 * it may not. LISTING: "..", or a separator or NUL hidden in a name, and the
 * like.
 */
enum err_code davhref_locate(struct davhref *h, struct span href, struct err *e);

/* LISTING: the list of ... names "href", which <why>. */
enum err_code davhref_refuse(const struct davhref *h, struct span href,
			     const char *why, struct err *e);

void davhref_free(struct davhref *h); /* zero is fine */

/*
 * The virtual directory (docs/wire.md 5.1) in an encoded path: its rung and
 * place, or WIRE_RUNG_AS_GIVEN where there is none of the family.
 */
enum wire_rung davhref_rung(struct span path, struct span *directory);
/* As dav_on_rung(). */
bool davhref_on_rung(const char *url, enum wire_rung rung, struct buf *out);

#endif
