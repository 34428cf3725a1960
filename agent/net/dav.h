#ifndef AGENT_NET_DAV_H
#define AGENT_NET_DAV_H

#include "agent/net/entry.h"
#include "agent/net/http.h"

/*
 * The list of files of an on-premises distribution point: PROPFIND Depth 1 with
 * recursion (RFC 4918 s9.1), over the ladder of virtual directories
 * (docs/wire.md 5.1, 5.2, 11).
 */
struct dav;

struct dav_result;

struct dav_request {
	const char *url;        /* of the content folder, as the reply gave it */
	enum wire_rung rung;    /* remembered for the host; AS_GIVEN = unknown */
	enum wire_form form;
	const char *token_line; /* whole header line for the token rung; NULL */
	bool has_certificate;
	/* a rung or folder that failed while the listing goes on */
	void (*on_attempt)(void *arg, const char *url, const struct err *why);
	void (*done)(void *arg, const struct dav_result *result);
	void *arg;
};

struct dav_result {
	struct err result;
	struct entry_list *files; /* on the heap; taken over by whoever is called;
	                           * sorted by path; NULL unless result is OK */
	char base_url[4097];      /* the folder that answered, no slash behind */
	enum wire_rung rung;      /* that worked */
	enum wire_form form;      /* what file URLs to try first */
	bool needs_token;         /* files too go with the token */
	bool is_single_file;      /* base_url is a file, not a folder */
	bool is_multiplexed;      /* the server speaks HTTP/2 */
	unsigned connect_ms;      /* TCP; of the slowest connection */
};

/*
 * 401 and 403 climb the ladder once: as given, SMS_DP_SMSPKG$, NOCERT_...,
 * CCMTOKENAUTH_... (https with a token only), leaving out what was tried; a
 * remembered rung comes first. 404 is ABSENT at once, but behind a refusal it
 * only says that the server has no such directory: the first refusal stands.
 * 405 and 501 (no DAV): the index page of a GET, its <a href> links within the
 * folder. A URL without DAV that answers GET with a file is that single file.
 * Hrefs may be absolute or paths, with any prefix or encoding; what lies
 * outside of the folder is LISTING (on an index page it is navigation).
 * Folders deeper than 32, more than 20000 of them, more than WIRE_MAX_FILES
 * files: LIMIT.
 */
struct dav *dav_start(struct http *http, const struct dav_request *request,
		      struct err *e);
void dav_cancel(struct dav *d); /* silent; NULL is fine */

/* One 207 document, for tests and fuzzing: files are added to `files` with
 * paths relative to `root`, folders to `folders` (NUL-ended texts). `asked` is
 * the folder that was asked, at or below root. */
enum err_code dav_parse(struct span xml, const struct url *root,
			const struct url *asked, struct entry_list *files,
			struct buf *folders, struct err *e);

/* The URL of one file: form SCCM "<base>/sccm?/<path>", PLAIN "<base>/<path>",
 * percent-encoded. */
void dav_file_url(const char *base_url, const char *path, enum wire_form form,
		  struct buf *out);

/* base with its virtual directory replaced by that of `rung`; false where the
 * URL has none of the SMS_DP_SMSPKG$ family. */
bool dav_on_rung(const char *url, enum wire_rung rung, struct buf *out);

#endif
