#ifndef AGENT_NET_LOCREQ_H
#define AGENT_NET_LOCREQ_H

#include "common/buf.h"
#include "common/err.h"
#include "common/span.h"

#include <stdbool.h>
#include <stdint.h>

/* What a ContentLocationRequest says (docs/wire.md 3). Texts borrowed. */
struct locreq {
	struct span request_id;    /* "ABC00042", "UID:Content_<guid>" */
	struct span location_type; /* "SMSPackage", "SMSUpdate" */
	uint32_t version;          /* 0 = any */
	struct span site_code;     /* may be empty */
	struct span forest, domain, ad_site;
	bool use_azure;            /* cloud sources may be offered */
	bool is_internet;          /* we speak through a gateway */
	bool has_token;            /* DPTokenAuth */
	unsigned minutes;          /* ClientInOperation */
	/* Lines "ADDRESS <subnet> <address>" and "ADAPTER <name> <iftype>
	 * <dns suffix>", written by the keeper from getifaddrs(3). */
	struct span interfaces;
	bool is_on_vpn;
	/* What the last reply said: lines "TIME t", "GROUP id guid flag",
	 * "DOINC host"; empty = never had one. See loclist.h. */
	struct span boundary_groups;
};

/* Writes the XML (UTF-8, no declaration), every value escaped. ERR_NOMEM. */
enum err_code locreq_print(const struct locreq *r, struct buf *out,
			   struct err *e);

/* XML text escape, attribute-safe; characters that XML forbids become '?'. */
void locreq_escape(struct span text, struct buf *out);

#endif
