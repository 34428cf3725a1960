#include "agent/keeper/poll.h"

#include "agent/keeper/kept.h"
#include "agent/keeper/site.h"
#include "agent/keeper/worker.h"
#include "common/clock.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/own.h"
#include "policy/bundle.h"
#include "policy/check.h"
#include "policy/ini.h"
#include "policy/signature.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define STATE_MODE 0700
#define SIGNER_MAX (256u << 10)
#define SIGNED_MAX (96u << 20)  /* a text and its signature, in base64 */
#define DETACHED_MAX (1u << 20) /* a signature alone */

static const char *source_of(const struct settings *s, const char *source)
{
	return source ? source : s->policy_source;
}

static bool is_site(const char *source)
{
	return strcmp(source, "mp") == 0;
}

bool poll_is_remote(const struct settings *s, const char *source)
{
	source = source_of(s, source);
	return is_site(source) || strstr(source, "://");
}

static void own_list(struct deployment_list *l)
{
	deployment_list_free(l);
}
#define autolist __attribute__((cleanup(own_list))) struct deployment_list

static void own_kept(struct kept *k)
{
	kept_free(k);
}
#define autokept __attribute__((cleanup(own_kept))) struct kept

/* For people: the query of a URL may hold a secret. */
static const char *name_of(const char *source, struct buf *name)
{
	size_t len = strlen(source);
	name->max = WIRE_URL;
	buf_add(name, source, strstr(source, "://") ? strcspn(source, "?") : len);
	return name->at && !name->failed ? name->at : "policy";
}

/* --- whose signature --------------------------------------------------------- */

static bool has_signer(const struct settings *s)
{
	return s->policy_signer && s->policy_signer[0];
}

static enum err_code read_signers(const struct settings *s, struct buf *out,
				  struct err *e)
{
	enum err_code rc = ini_load(AT_FDCWD, s->policy_signer, SIGNER_MAX, out,
				    NULL, e);
	if (rc == ERR_OK || rc == ERR_NOMEM)
		return rc;
	e->code = ERR_CONFIG;
	return err_prefix(e, "[policy] signer = %s", s->policy_signer);
}

/* --- one document from net --------------------------------------------------- */

struct document {
	struct worker *worker; /* borrowed */
	struct buf text;       /* at most text.max bytes */
	char etag[WIRE_NAME + 1];
	bool has_body, is_unchanged;
	uint64_t announced;    /* bytes; 0 = nobody said */
};

static void own_document(struct document *d)
{
	buf_free(&d->text);
}
#define autodocument __attribute__((cleanup(own_document))) struct document

static enum err_code take_body(struct document *d, const struct wire_body *m,
			       struct err *e)
{
	if (d->has_body || m->length > d->text.max)
		return err_set(e, ERR_NET_LIED, "message BODY: %llu bytes, or a "
			       "second one", (unsigned long long)m->length);
	snprintf(d->etag, sizeof(d->etag), "%.*s", SPAN_ARG(m->etag));
	d->has_body = true;
	d->is_unchanged = m->is_unchanged;
	d->announced = m->length;
	return ERR_OK;
}

/* Copied before anybody looks at it: net could still write to the ring. */
static enum err_code take_data(struct document *d, const struct wire_data *m,
			       struct err *e)
{
	const char *at = worker_slot(d->worker, m->slot);
	if (at == NULL || m->length > worker_slot_bytes(d->worker) ||
	    !d->has_body || d->is_unchanged || m->index != 0 ||
	    m->offset != d->text.len || m->length > d->text.max - d->text.len)
		return err_set(e, ERR_NET_LIED, "message DATA: %llu bytes at %llu "
			       "of a document", (unsigned long long)m->length,
			       (unsigned long long)m->offset);
	buf_add(&d->text, at, (size_t)m->length);
	if (d->text.failed)
		return err_set(e, ERR_NOMEM, "no memory for a policy");
	return worker_give_back(d->worker, m->slot, e);
}

static enum err_code on_document(void *arg, const struct wire_msg *m,
				 struct err *e)
{
	if (m->type == WIRE_BODY)
		return take_body(arg, &m->body, e);
	if (m->type == WIRE_DATA)
		return take_data(arg, &m->data, e);
	return worker_lied(m, e);
}

static enum err_code get(struct document *d, const char *url, const char *etag,
			 struct err *e)
{
	struct wire_document m = { .url = span_of(url),
				   .etag = span_of(etag),
				   .most = d->text.max };
	enum err_code rc = worker_call(d->worker, WIRE_DOCUMENT, &m, on_document,
				       d, e);
	if (rc != ERR_OK)
		return rc;
	if (!d->has_body || (d->is_unchanged && etag[0] == '\0') ||
	    (d->announced && d->text.len != d->announced))
		return err_set(e, ERR_NET_LIED, "no whole document");
	return ERR_OK;
}

/* --- an https URL --------------------------------------------------------------- */

/* What one fetch works with. */
struct fetch {
	const struct settings *settings;
	const char *source;
	int dir_fd;           /* [state] directory; borrowed */
	const char *name;     /* the source, for people; borrowed */
	struct buf signers;   /* PEM */
	struct kept_new found; /* etag points into document.etag */
	struct document document;
	struct buf text;      /* judged good */
};

static void own_fetch(struct fetch *f)
{
	worker_stop(f->document.worker);
	buf_free(&f->signers);
	buf_free(&f->document.text);
	buf_free(&f->text);
}
#define autofetch __attribute__((cleanup(own_fetch))) struct fetch

/* The token is the business of management points. Shallow. */
static struct worker *start_worker(const struct settings *settings,
				   struct err *e)
{
	static char none[] = "";
	struct settings s = *settings;
	s.token_file = none;
	struct worker_options o = { .settings = &s,
				    .client_id = "",
				    .needs_ring = true };
	return worker_start(&o, e);
}

/* The signature lies beside the text: URL.p7s, before a query. */
static enum err_code get_signature(struct fetch *f, struct document *out,
				   struct err *e)
{
	autobuf url = { .max = WIRE_URL };
	size_t path = strcspn(f->source, "?");
	buf_add(&url, f->source, path);
	buf_text(&url, ".p7s");
	buf_text(&url, f->source + path);
	if (url.failed)
		return err_set(e, ERR_CONFIG, "[policy] source: too long a URL");
	out->worker = f->document.worker;
	out->text.max = DETACHED_MAX;
	enum err_code rc = get(out, url.at, "", e);
	if (rc == ERR_ABSENT) {
		e->code = rc = ERR_SIGNATURE;
		err_prefix(e, "holds no signature, and there is none beside it");
	}
	return rc;
}

static enum err_code check_signature(struct fetch *f, struct err *e)
{
	struct signature signature = { 0 };
	struct span text = buf_as_span(&f->document.text);
	struct span message = text, detached = { 0 };
	autodocument beside = { 0 };
	if (!signature_is_cms(text)) {
		if (get_signature(f, &beside, e) != ERR_OK)
			return e->code;
		message = buf_as_span(&beside.text);
		detached = text;
	}
	f->text.max = BUNDLE_MAX;
	enum err_code rc = signature_check(buf_as_span(&f->signers), message,
					   detached, &f->text, &signature, e);
	if (rc == ERR_OK) {
		log_debug("PolicyAgent", "policy is signed by %s",
			  signature.signer);
		f->found.signed_s = signature.signed_s;
	}
	return rc;
}

/* A policy that cannot be read would replace one that can. */
static enum err_code check_text(const struct fetch *f, struct err *e)
{
	autolist list = { 0 };
	autobuf problems = { 0 };
	return deployment_parse(buf_as_span(&f->text), f->name, is_site(f->source),
				&list, &problems, e);
}

static enum err_code prepare(struct fetch *f, struct kept *kept, struct err *e)
{
	const struct settings *s = f->settings;
	if (check_policy_source(f->source, e) != ERR_OK)
		return err_prefix(e, "[policy] source = %s", f->name);
	if (!has_signer(s))
		return err_set(e, ERR_CONFIG, "[policy] signer is not set: policy "
			       "from %s must be signed, and it names the "
			       "certificate", f->name);
	enum err_code rc = read_signers(s, &f->signers, e);
	if (rc == ERR_OK)
		rc = kept_hash(buf_as_span(&f->signers), f->found.signer, e);
	return rc == ERR_OK ? kept_read(f->dir_fd, kept, e) : rc;
}

/*
 * The etag of the text that we have; none where it comes from elsewhere, or was
 * judged by other certificates: it must come again then, to be judged anew.
 */
static const char *etag_of(const struct fetch *f, const struct kept *kept)
{
	if (!kept_is_current(kept) || kept->etag == NULL ||
	    strcmp(kept->source, f->source) != 0 ||
	    strcmp(kept->signer, f->found.signer) != 0)
		return "";
	return kept->etag;
}

static enum err_code fetch_url(struct fetch *f, bool *changed, struct err *e)
{
	autokept kept = { 0 };
	struct document *d = &f->document;
	enum err_code rc = prepare(f, &kept, e);
	if (rc == ERR_OK && (d->worker = start_worker(f->settings, e)) == NULL)
		rc = e->code;
	d->text.max = SIGNED_MAX;
	if (rc == ERR_OK)
		rc = get(d, f->source, etag_of(f, &kept), e);
	if (rc != ERR_OK || d->is_unchanged)
		return rc;
	f->found.now_s = clock_wall_s();
	rc = check_signature(f, e);
	if (rc == ERR_OK)
		rc = signature_check_age(f->found.signed_s,
					 kept_signed(&kept, f->source),
					 f->found.now_s, e);
	if (rc == ERR_OK)
		rc = check_text(f, e);
	if (rc != ERR_OK)
		return rc;
	f->found.source = f->source;
	f->found.etag = d->etag;
	f->found.text = buf_as_span(&f->text);
	return kept_store(f->dir_fd, &f->found, changed, e);
}

/* --- the site --------------------------------------------------------------------- */

static enum err_code fetch_site(struct fetch *f, bool *changed, struct err *e)
{
	f->text.max = BUNDLE_MAX;
	enum err_code rc = site_fetch(f->settings, &f->text, e);
	struct kept_new found = { .source = f->source,
				  .etag = "",
				  .text = buf_as_span(&f->text) };
	if (rc == ERR_OK)
		rc = check_text(f, e);
	return rc == ERR_OK ? kept_store(f->dir_fd, &found, changed, e) : rc;
}

enum err_code poll_fetch(const struct settings *s, const char *source,
			 bool *changed, struct err *e)
{
	autofetch f = { .settings = s, .source = source_of(s, source) };
	autobuf name = { 0 };
	*changed = false;
	if (!poll_is_remote(s, source))
		return ERR_OK;
	autofd dir_fd = fs_open_root(s->state_directory, STATE_MODE, e);
	if (dir_fd < 0)
		return e->code;
	f.dir_fd = dir_fd;
	f.name = name_of(f.source, &name);
	if (is_site(f.source))
		return fetch_site(&f, changed, e);
	enum err_code rc = fetch_url(&f, changed, e);
	if (rc == ERR_SIGNATURE || rc == ERR_ROLLBACK)
		err_prefix(e, "policy %s", f.name);
	return rc;
}

/* --- what there is ------------------------------------------------------------- */

/* What one load works with. */
struct load {
	const struct settings *settings;
	const char *source, *name; /* name: for people */
	bool must_exist;
	struct deployment_list *out;
	struct buf *problems;
};

static enum err_code problem(struct load *l, enum err_code code,
			     const struct err *why, struct err *e)
{
	size_t before = l->problems->len;
	if (why->code == ERR_NOMEM)
		return err_set(e, ERR_NOMEM, "%s", why->text);
	ini_problem(l->problems, l->name, 0, "%s", why->text);
	return ini_summary(l->problems, before, code, e);
}

/* FILE with the signature in it, or FILE.p7s beside it. */
static enum err_code read_signed(struct load *l, struct buf *text, struct err *e)
{
	autobuf signers = { 0 };
	autobuf file = { 0 };
	autobuf beside = { 0 };
	autobuf path = { 0 };
	struct signature signature;
	struct span message, detached = { 0 };
	bool is_absent = false;
	enum err_code rc = read_signers(l->settings, &signers, e);
	if (rc == ERR_OK)
		rc = ini_load(AT_FDCWD, l->source, SIGNED_MAX, &file, NULL, e);
	if (rc != ERR_OK)
		return rc;
	message = buf_as_span(&file);
	if (!signature_is_cms(message)) {
		buf_print(&path, "%s.p7s", l->source);
		if (path.failed)
			return err_set(e, ERR_NOMEM, "no memory for a path");
		rc = ini_load(AT_FDCWD, path.at, DETACHED_MAX, &beside,
			      &is_absent, e);
		if (is_absent)
			return err_set(e, ERR_SIGNATURE, "is not signed, as "
				       "[policy] signer wants it: there is no %s",
				       path.at);
		if (rc != ERR_OK)
			return err_prefix(e, "%s", path.at);
		detached = message;
		message = buf_as_span(&beside);
	}
	text->max = BUNDLE_MAX;
	return signature_check(buf_as_span(&signers), message, detached, text,
			       &signature, e);
}

static enum err_code load_local(struct load *l, struct err *e)
{
	struct stat st;
	bool is_file = stat(l->source, &st) == 0 && !S_ISDIR(st.st_mode);
	autobuf text = { 0 };
	struct err why = { 0 };
	if (!is_file || !has_signer(l->settings))
		return deployment_load(l->source, l->must_exist, l->out,
				       l->problems, e);
	enum err_code rc = read_signed(l, &text, &why);
	if (rc != ERR_OK && rc != ERR_SIGNATURE && rc != ERR_CONFIG)
		rc = ERR_POLICY;
	if (rc != ERR_OK)
		return problem(l, rc, &why, e);
	return deployment_parse(buf_as_span(&text), l->source, false, l->out,
				l->problems, e);
}

/* The state folder is not made here: who only asks leaves nothing behind. */
static enum err_code read_kept(const struct load *l, struct kept *out,
			       struct err *e)
{
	autofd dir_fd = open(l->settings->state_directory,
			     O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*out = (struct kept){ 0 };
	if (dir_fd < 0 && errno == ENOENT)
		return ERR_OK;
	if (dir_fd < 0)
		return err_set(e, ERR_FOLDER, "open [state] directory %s: %m",
			       l->settings->state_directory);
	return kept_read(dir_fd, out, e);
}

static enum err_code load_remote(struct load *l, struct err *e)
{
	const struct settings *s = l->settings;
	size_t before = l->problems->len;
	autokept kept = { 0 };
	struct err why = { 0 };
	enum err_code rc = check_policy_source(l->source, &why);
	/* What was kept under a signer who is no longer named counts no more. */
	if (rc == ERR_OK && !is_site(l->source) && !has_signer(s))
		rc = err_set(&why, ERR_CONFIG, "policy from the network counts only "
			     "with a signature: name its certificate in [policy] "
			     "signer");
	if (rc == ERR_OK)
		rc = read_kept(l, &kept, &why);
	if (rc != ERR_OK)
		rc = problem(l, ERR_POLICY, &why, e);
	else if (kept.text_sha256[0] && strcmp(kept.source, l->source) == 0)
		rc = deployment_parse(buf_as_span(&kept.text), l->name,
				      is_site(l->source), l->out, l->problems, e);
	else
		l->out->is_incomplete = true; /* nobody knows what it says */
	if (rc != ERR_OK && rc != ERR_POLICY)
		return rc;
	if (s->policy_local && s->policy_local[0])
		rc = deployment_load(s->policy_local, false, l->out, l->problems,
				     e);
	if (rc != ERR_OK && rc != ERR_POLICY)
		return rc;
	return ini_summary(l->problems, before, ERR_POLICY, e);
}

enum err_code poll_load(const struct settings *s, const char *source,
			bool must_exist, struct deployment_list *out,
			struct buf *problems, struct err *e)
{
	autobuf name = { 0 };
	struct load l = { .settings = s,
			  .source = source_of(s, source),
			  .name = name_of(source_of(s, source), &name),
			  .must_exist = must_exist,
			  .out = out,
			  .problems = problems };
	enum err_code rc = poll_is_remote(s, source) ? load_remote(&l, e) :
						       load_local(&l, e);
	if (rc != ERR_OK)
		out->is_incomplete = true;
	deployment_join(out);
	return rc;
}
