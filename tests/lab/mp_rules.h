/* Tables of what protocol.md allows in a message, and the check against them. */
#ifndef LAB_MP_RULES_H
#define LAB_MP_RULES_H

#include "standin.h"
#include "xmldoc.h"

struct mp_rule {
	const char *path;       /* below the root, "" = the root itself */
	const char *name;       /* attribute; "#" = text; NULL = the element itself */
	const char *pattern;    /* extended regular expression for the whole value */
	enum { OPTIONAL, REQUIRED } need;
};

/* Each ends with a path of NULL. */
extern const struct mp_rule mp_rules_msg[];
extern const struct mp_rule mp_rules_location[];
extern const struct mp_rule mp_rules_registration[];
extern const struct mp_rule mp_rules_assignments[];
extern const struct mp_rule mp_rules_report[];

/* Note a violation for everything that is unknown, missing or of another form. */
void mp_rules_check(struct request *q, const struct element *root,
	const struct mp_rule *rules);

#endif
