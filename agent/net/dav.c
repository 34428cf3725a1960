#include "agent/net/dav.h"

#include "agent/net/davhref.h"
#include "agent/net/davlist.h"
#include "common/own.h"
#include "common/xml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASKS_MAX 64         /* folders asked for at once, over HTTP/2 */
#define ASKS_FEW 8          /* where each takes a connection */
#define FOLDERS_MAX 20000   /* of one listing: each is a request */
#define LIST_TIMEOUT_MS 300000u
#define PROBE_TIMEOUT_MS 60000u

static const char propfind_body[] =
	"<?xml version=\"1.0\" encoding=\"utf-8\"?>"
	"<D:propfind xmlns:D=\"DAV:\"><D:allprop/></D:propfind>";

enum dav_state {
	DAV_ROOT,    /* PROPFIND of the content folder, on one rung */
	DAV_PROBE,   /* HEAD of it, since there is no DAV: file or folder? */
	DAV_INDEX,   /* GET of its index page */
	DAV_FOLDERS, /* the folders below, each as the first was */
};

/* One request; asks[0] has all of those before DAV_FOLDERS. */
struct ask {
	struct dav *dav;
	struct http_call *call; /* NULL = free */
	size_t folder;          /* offset in folders; FOLDERS only */
};

struct dav {
	struct http *http;
	struct dav_request request; /* url and token_line owned below */
	char *url, *token_line;
	enum dav_state state;
	/* the ladder */
	enum wire_rung rung;        /* being tried */
	enum wire_rung directory;   /* which one its URL has, AS_GIVEN = none */
	bool tried[WIRE_RUNG_COUNT]; /* by directory */
	struct err refusal;         /* of the first rung that refused */
	struct buf rung_url;
	bool sends_token;
	/* the folder that answered */
	struct url root;
	struct buf base_url;
	bool has_index;             /* no DAV: pages instead of documents */
	bool may_be_file;           /* the probe saw a page, not surely a folder */
	uint64_t probed_size;
	struct entry_list *files;   /* owned */
	struct buf folders;         /* NUL-ended texts */
	size_t next_folder;         /* offset of the first not asked for */
	unsigned folder_count;      /* all that were found */
	struct ask asks[ASKS_MAX];
	bool is_multiplexed; /* the server speaks HTTP/2 */
	unsigned connect_ms;
};

static void on_response(void *arg, const struct http_response *r);

/* --- pure, for others too ------------------------------------------------------ */

enum err_code dav_parse(struct span xml, const struct url *root,
			const struct url *asked, struct entry_list *files,
			struct buf *folders, struct err *e)
{
	struct davlist l = { .root = root, .asked = asked, .files = files,
			     .folders = folders };
	return davlist_xml(&l, xml, e);
}

void dav_file_url(const char *base_url, const char *path, enum wire_form form,
		  struct buf *out)
{
	buf_text(out, base_url);
	if (out->len && out->at[out->len - 1] != '/')
		buf_char(out, '/');
	if (form == WIRE_FORM_SCCM) /* docs/wire.md 5.3 */
		buf_text(out, "sccm?/");
	url_encode_path(span_of(path), out);
}

bool dav_on_rung(const char *url, enum wire_rung rung, struct buf *out)
{
	return davhref_on_rung(url, rung, out);
}

/* --- life ------------------------------------------------------------------- */

static void free_files(struct entry_list *files)
{
	entry_list_free(files);
	free(files);
}

void dav_cancel(struct dav *d)
{
	if (d == NULL)
		return;
	for (unsigned i = 0; i < ASKS_MAX; i++)
		http_cancel(d->asks[i].call);
	free(d->url);
	free(d->token_line);
	buf_free(&d->rung_url);
	url_free(&d->root);
	buf_free(&d->base_url);
	free_files(d->files);
	buf_free(&d->folders);
	free(d);
}

/* The one end of every listing: tells, then is gone. */
static void finish(struct dav *d, const struct err *e, bool is_single_file)
{
	struct span unused;
	struct dav_result r = {
		.result = *e,
		.rung = d->rung,
		.form = d->request.form,
		.needs_token = d->sends_token,
		.is_single_file = is_single_file,
		.is_multiplexed = d->is_multiplexed,
		.connect_ms = d->connect_ms,
	};
	/* what a host is known for counts in the directories that have it only:
	 * elsewhere "sccm?/" is a folder that nobody has (docs/wire.md 5.3) */
	if (davhref_rung(span_of(d->url), &unused) == WIRE_RUNG_AS_GIVEN)
		r.form = WIRE_FORM_PLAIN;
	if (r.result.code == ERR_OK && d->base_url.len >= sizeof(r.base_url))
		err_set(&r.result, ERR_LIMIT, "%.128s...: the URL is too long",
			d->base_url.at);
	if (r.result.code == ERR_OK) {
		memcpy(r.base_url, d->base_url.at, d->base_url.len + 1);
		r.files = take_ptr(d->files);
	}
	struct dav_request to = d->request;
	dav_cancel(d);
	to.done(to.arg, &r);
}

static void attempt(struct dav *d, const char *url, const struct err *why)
{
	if (d->request.on_attempt)
		d->request.on_attempt(d->request.arg, url, why);
}

/* --- requests ---------------------------------------------------------------- */

/* Where nothing tells that the page is none, it is read. */
static enum err_code check_page(void *arg, const struct head *h, struct err *e)
{
	(void)arg;
	if (h->content_type[0] == '\0' || strcasestr(h->content_type, "html"))
		return ERR_OK;
	return err_set(e, ERR_LISTING,
		       "no DAV, and the folder's page is no HTML but %s",
		       h->content_type);
}

static enum err_code send(struct ask *a, const char *method, const char *url,
			  struct err *e)
{
	struct dav *d = a->dav;
	bool is_propfind = strcmp(method, "PROPFIND") == 0;
	bool is_page = strcmp(method, "GET") == 0;
	const char *const headers[] = {
		"User-Agent: SMS CCM 5.0",
		is_propfind ? "Depth: 1" : NULL,
		"Content-Type: text/xml",
		NULL,
	};
	struct http_request r = {
		.method = method,
		.url = url,
		.headers = headers,
		.secret_header = d->sends_token ? d->token_line : NULL,
		.body = is_propfind ? span_of(propfind_body) : (struct span){ 0 },
		.has_body = is_propfind,
		.leg = HTTP_SITE,
		.offer_client = d->request.has_certificate &&
				d->directory != WIRE_RUNG_NOCERT,
		.max_body = XML_MAX_BYTES,
		.timeout_ms = is_propfind || is_page ? LIST_TIMEOUT_MS :
						       PROBE_TIMEOUT_MS,
		.on_head = is_page ? check_page : NULL,
		.done = on_response,
		.arg = a,
	};
	a->call = http_start(d->http, &r, e);
	return a->call ? ERR_OK : e->code;
}

/* The index page of a folder is that of its URL with a slash. */
static enum err_code send_page(struct ask *a, const char *url, struct err *e)
{
	size_t len = strcspn(url, "?");
	autobuf page = { .max = URL_MAX };
	buf_add(&page, url, len);
	if (len == 0 || url[len - 1] != '/')
		buf_char(&page, '/');
	if (page.failed)
		return err_set(e, ERR_LIMIT, "%.128s...: the URL is too long", url);
	return send(a, "GET", page.at, e);
}

/* --- the ladder (docs/wire.md 5.1) -------------------------------------------- */

static bool is_https(const struct dav *d)
{
	return strncasecmp(d->url, "https:", 6) == 0;
}

/* May this rung be tried? Fills rung_url and directory. */
static bool take_rung(struct dav *d, enum wire_rung rung)
{
	struct span unused;
	enum wire_rung given = davhref_rung(span_of(d->url), &unused);
	enum wire_rung directory = rung == WIRE_RUNG_AS_GIVEN ? given : rung;
	bool has_token = is_https(d) && d->token_line;
	if (d->tried[directory])
		return false;
	if (rung != WIRE_RUNG_AS_GIVEN && given == WIRE_RUNG_AS_GIVEN)
		return false; /* no virtual directory, no ladder */
	if (rung == WIRE_RUNG_TOKEN && !has_token)
		return false;
	d->tried[directory] = true;
	d->rung = rung;
	d->directory = directory;
	d->sends_token = directory == WIRE_RUNG_TOKEN && has_token;
	buf_clear(&d->rung_url);
	dav_on_rung(d->url, rung, &d->rung_url);
	return true;
}

/* ERR_NOT_USABLE: no rung is left. */
static enum err_code next_rung(struct dav *d, struct err *e)
{
	bool found = d->request.rung < WIRE_RUNG_COUNT &&
		     take_rung(d, d->request.rung);
	for (unsigned i = 0; !found && i < WIRE_RUNG_COUNT; i++)
		found = take_rung(d, (enum wire_rung)i);
	if (!found)
		return ERR_NOT_USABLE;
	d->state = DAV_ROOT;
	d->has_index = d->may_be_file = false;
	if (d->rung_url.failed)
		return err_set(e, ERR_NOMEM, "no memory for a listing");
	return send(&d->asks[0], "PROPFIND", d->rung_url.at, e);
}

struct dav *dav_start(struct http *http, const struct dav_request *request,
		      struct err *e)
{
	autourl url = { 0 };
	if (url_parse(span_of(request->url), &url, e) != ERR_OK) {
		e->code = ERR_HTTP; /* the fault of whoever named the source */
		return NULL;
	}
	struct dav *d = calloc(1, sizeof(*d));
	bool ok = d != NULL;
	if (ok) {
		d->http = http;
		d->request = *request;
		d->folders.max = ENTRY_NAMES_MAX;
		d->url = strdup(request->url);
		d->token_line = request->token_line ?
				strdup(request->token_line) : NULL;
		d->files = calloc(1, sizeof(*d->files));
		ok = d->url && d->files && !d->token_line == !request->token_line;
		for (unsigned i = 0; i < ASKS_MAX; i++)
			d->asks[i].dav = d;
	}
	if (!ok)
		err_set(e, ERR_NOMEM, "no memory for a listing");
	if (!ok || next_rung(d, e) != ERR_OK) {
		dav_cancel(d);
		return NULL;
	}
	d->request.url = NULL; /* was borrowed for the call */
	d->request.token_line = NULL;
	return d;
}

/*
 * A rung failed. Refusals are told and the next rung is tried; behind one, 404
 * only says that the server lacks that directory. When all are through, the
 * first refusal stands for them.
 */
static void rung_failed(struct dav *d, const struct err *why)
{
	bool is_refusal = why->code == ERR_DENIED || why->code == ERR_TLS_CLIENT;
	struct err e = { 0 };
	if (!is_refusal &&
	    !(why->code == ERR_ABSENT && d->refusal.code != ERR_OK)) {
		finish(d, why, false);
		return;
	}
	attempt(d, d->rung_url.at, why);
	if (d->refusal.code == ERR_OK)
		d->refusal = *why;
	enum err_code rc = next_rung(d, &e);
	if (rc == ERR_NOT_USABLE)
		finish(d, &d->refusal, false);
	else if (rc != ERR_OK)
		finish(d, &e, false);
}

/* --- the folders below --------------------------------------------------------- */

static enum err_code ask_folder(struct ask *a, struct err *e)
{
	struct dav *d = a->dav;
	const char *folder = d->folders.at + d->next_folder;
	autobuf url = { .max = URL_MAX };
	a->folder = d->next_folder;
	d->next_folder += strlen(folder) + 1;
	dav_file_url(d->base_url.at, folder, WIRE_FORM_PLAIN, &url);
	buf_char(&url, '/');
	if (url.failed)
		return err_set(e, ERR_LIMIT, "the URL of the folder %.128s is too "
			       "long", folder);
	return send(a, d->has_index ? "GET" : "PROPFIND", url.at, e);
}

/* Ask for what is known and not asked for; with nothing left, the end. */
static void go_on(struct dav *d)
{
	struct err e = { 0 };
	bool is_busy = false;
	unsigned most = d->is_multiplexed ? ASKS_MAX : ASKS_FEW;
	d->state = DAV_FOLDERS;
	for (unsigned i = 0; i < most; i++) {
		struct ask *a = &d->asks[i];
		if (a->call == NULL && d->next_folder < d->folders.len &&
		    ask_folder(a, &e) != ERR_OK) {
			finish(d, &e, false);
			return;
		}
		is_busy |= a->call != NULL;
	}
	if (is_busy)
		return;
	entry_list_sort(d->files, &e);
	finish(d, &e, false);
}

/* --- answers -------------------------------------------------------------------- */

/*
 * What answered the first request becomes the root. From another origin than
 * asked (a redirect) hrefs are read, but base_url stays: so every later request
 * goes by the redirect as well, which http strips of what is secret.
 */
static enum err_code take_root(struct dav *d, const char *answered, bool is_file,
			       struct err *e)
{
	autourl asked = { 0 };
	url_free(&d->root);
	buf_clear(&d->base_url);
	if (url_parse(span_of(d->rung_url.at), &asked, e) != ERR_OK ||
	    url_parse(span_of(answered), &d->root, e) != ERR_OK)
		return e->code;
	struct url *base = url_same_origin(&asked, &d->root) ? &d->root : &asked;
	if (is_file) {
		url_print(base, &d->base_url);
	} else {
		struct url folder = *base;
		folder.query = NULL;
		url_print(&folder, &d->base_url);
		while (d->base_url.len &&
		       d->base_url.at[d->base_url.len - 1] == '/')
			d->base_url.at[--d->base_url.len] = '\0';
	}
	return d->base_url.failed ? err_set(e, ERR_NOMEM, "no memory for a URL") :
				    ERR_OK;
}

/* The file bears the name that was asked for, wherever a redirect led. */
static enum err_code take_single(struct dav *d, const char *answered,
				 uint64_t size, struct err *e)
{
	autourl asked = { 0 };
	autobuf name = { .max = URL_MAX };
	if (take_root(d, answered, true, e) != ERR_OK ||
	    url_parse(span_of(d->rung_url.at), &asked, e) != ERR_OK)
		return e->code;
	const char *last = strrchr(asked.path, '/') + 1;
	if (!url_decode(span_of(last), &name) || name.len == 0 ||
	    strpbrk(name.at, "/\\"))
		return err_set(e, ERR_LISTING, "the URL %.256s ends in no file name",
			       d->rung_url.at);
	return entry_list_add(d->files, buf_as_span(&name), (struct span){ 0 },
			      size, "", e);
}

static void finish_single(struct dav *d, const char *answered, uint64_t size)
{
	struct err e = { 0 };
	take_single(d, answered, size, &e);
	finish(d, &e, true);
}

static enum err_code read_list(struct dav *d, const struct ask *a,
			       const struct http_response *r,
			       struct davlist *l, struct err *e)
{
	autourl asked = { 0 };
	if (url_parse(span_of(r->url), &asked, e) != ERR_OK)
		return e->code;
	*l = (struct davlist){
		.root = &d->root,
		.asked = &asked,
		.folder = d->state == DAV_FOLDERS ? d->folders.at + a->folder : NULL,
		.files = d->files,
		.folders = &d->folders,
	};
	autofree char *folder = NULL;
	if (l->folder) {
		/* the texts move while folders are added */
		l->folder = folder = strdup(l->folder);
		if (folder == NULL)
			return err_set(e, ERR_NOMEM, "no memory for a list");
	}
	enum err_code rc = d->has_index ? davlist_html(l, r->body, e) :
					  davlist_xml(l, r->body, e);
	l->root = l->asked = NULL;
	l->folder = NULL;
	d->folder_count += l->folders_added;
	if (rc == ERR_OK && d->folder_count > FOLDERS_MAX)
		rc = err_set(e, ERR_LIMIT, "more than %d folders", FOLDERS_MAX);
	return rc;
}

static void on_root(struct dav *d, const struct http_response *r)
{
	struct err e = { 0 };
	struct davlist l = { 0 };
	long status = r->head.status;
	if (status == 405 || status == 501) {
		err_set(&e, ERR_STATUS,
			"%.256s: PROPFIND is answered with HTTP %ld (is the WebDAV "
			"role of IIS installed, or its handler limited to GET and "
			"HEAD?)", r->url, status);
		attempt(d, r->url, &e);
		e = (struct err){ 0 };
		bool is_folder = r->url[0] && r->url[strlen(r->url) - 1] == '/';
		d->has_index = true;
		d->state = is_folder ? DAV_INDEX : DAV_PROBE;
		if (is_folder)
			send_page(&d->asks[0], d->rung_url.at, &e);
		else
			send(&d->asks[0], "HEAD", d->rung_url.at, &e);
		if (e.code != ERR_OK)
			finish(d, &e, false);
		return;
	}
	if (http_status(r, r->url, &e) != ERR_OK) {
		rung_failed(d, &e);
		return;
	}
	if (take_root(d, r->url, false, &e) != ERR_OK ||
	    read_list(d, &d->asks[0], r, &l, &e) != ERR_OK)
		finish(d, &e, false);
	else if (l.responses == 1 && l.is_file &&
		 r->url[strlen(r->url) - 1] != '/')
		finish_single(d, r->url, l.size);
	else
		go_on(d);
}

/* 2xx without HTML is the content itself. All but a refusal is left to the
 * index page to say: not every server has HEAD, or redirects it. */
static void on_probe(struct dav *d, const struct http_response *r)
{
	const struct head *h = &r->head;
	struct err e = { 0 };
	bool is_there = http_status(r, r->url, &e) == ERR_OK;
	if (e.code == ERR_DENIED || e.code == ERR_BUSY) {
		rung_failed(d, &e);
		return;
	}
	d->probed_size = h->has_length && !h->bad_length && !h->has_encoding ?
			 h->length : WIRE_UNKNOWN;
	bool has_slash = r->url[0] && r->url[strlen(r->url) - 1] == '/';
	if (is_there && !has_slash && !strcasestr(h->content_type, "html")) {
		finish_single(d, r->url, d->probed_size);
		return;
	}
	d->may_be_file = is_there && !has_slash;
	d->state = DAV_INDEX;
	e = (struct err){ 0 };
	if (send_page(&d->asks[0], d->rung_url.at, &e) != ERR_OK)
		finish(d, &e, false);
}

static void on_index(struct dav *d, const struct http_response *r)
{
	struct err e = { 0 };
	struct davlist l;
	http_status(r, r->url, &e);
	if (e.code == ERR_ABSENT && d->may_be_file)
		finish_single(d, d->rung_url.at, d->probed_size); /* a page, then */
	else if (e.code != ERR_OK)
		rung_failed(d, &e);
	else if (take_root(d, r->url, false, &e) != ERR_OK ||
		 read_list(d, &d->asks[0], r, &l, &e) != ERR_OK)
		finish(d, &e, false);
	else
		go_on(d);
}

static void on_folder(struct dav *d, const struct ask *a,
		      const struct http_response *r)
{
	struct err e = { 0 };
	struct davlist l;
	if (http_status(r, r->url, &e) != ERR_OK ||
	    read_list(d, a, r, &l, &e) != ERR_OK)
		finish(d, &e, false);
	else
		go_on(d);
}

static void on_response(void *arg, const struct http_response *r)
{
	struct ask *a = arg;
	struct dav *d = a->dav;
	a->call = NULL;
	d->is_multiplexed |= r->is_multiplexed;
	if (r->connect_ms > d->connect_ms)
		d->connect_ms = r->connect_ms;
	if (r->result.code != ERR_OK && d->state == DAV_FOLDERS) {
		finish(d, &r->result, false);
		return;
	}
	if (r->result.code != ERR_OK &&
	    !(d->state == DAV_PROBE && r->result.code == ERR_REDIRECT)) {
		rung_failed(d, &r->result);
		return;
	}
	switch (d->state) {
	case DAV_ROOT:
		on_root(d, r);
		return;
	case DAV_PROBE:
		on_probe(d, r);
		return;
	case DAV_INDEX:
		on_index(d, r);
		return;
	case DAV_FOLDERS:
		on_folder(d, a, r);
		return;
	}
}
