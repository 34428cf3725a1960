#include "policy/deployment.h"

#include "common/own.h"
#include "policy/bundle.h"
#include "policy/fields.h"
#include "policy/ini.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

/* A file list of 200000 files with long names, bytes. */
#define FILES_MAX (64u << 20)

static void drop(struct deployment *d)
{
	free(d->path);
	free(d->id);
	free(d->name);
	free(d->site_hash);
	listing_free(&d->files);
}

static void own_deployment(struct deployment *d)
{
	drop(d);
}
#define autodeployment __attribute__((cleanup(own_deployment))) struct deployment

void deployment_list_free(struct deployment_list *l)
{
	for (size_t i = 0; i < l->count; i++)
		drop(&l->items[i]);
	free(l->items);
	*l = (struct deployment_list){ 0 };
}

/* Where one load stands. */
struct load {
	struct deployment_list *list;
	struct buf *problems;
	/* Where file lists lie: folder of the policy files, or bundle; -1 and NULL =
	 * nowhere. Borrowed. */
	int dir_fd;
	const struct bundle *bundle;
	bool is_site;
	const char *path; /* of the file that is being read, for people */
};

static void note(struct load *l, const char *text)
{
	ini_problem(l->problems, l->path, 0, "%s", text);
}

/* *text lies in `owned` where it comes from disk. */
static enum err_code find_files(const struct load *l, const char *name,
				struct buf *owned, struct span *text, struct err *e)
{
	if (l->dir_fd >= 0) {
		enum err_code rc = ini_load(l->dir_fd, name, FILES_MAX, owned, NULL, e);
		*text = buf_as_span(owned);
		return rc;
	}
	const struct bundle_file *file =
		l->bundle ? bundle_find(l->bundle, name) : NULL;
	if (file == NULL)
		return err_set(e, ERR_INPUT, "%s", l->bundle ? "is not in the bundle" :
			       "can only come with the policy in a bundle");
	*text = file->text;
	return ERR_OK;
}

/* Read the file list and hold it against the hash, or take its hash. */
static enum err_code read_files(struct load *l, const char *name, unsigned line,
				struct deployment *d, struct err *e)
{
	autobuf owned = { 0 };
	struct span text = { 0 };
	struct err why = { 0 };
	char hash[DIGEST_HEX_SIZE];
	enum err_code rc = find_files(l, name, &owned, &text, &why);
	if (rc == ERR_OK)
		rc = listing_parse(text, &d->files, &why);
	if (rc == ERR_NOMEM)
		return err_set(e, rc, "%s", why.text);
	if (rc == ERR_OK && d->files.count == 0)
		rc = err_set(&why, ERR_POLICY, "lists no file");
	if (rc != ERR_OK) {
		ini_problem(l->problems, l->path, line, "[content] files = %s: %s",
			    name, why.text);
		return ERR_OK;
	}
	if ((rc = listing_hash(&d->files, hash, e)) != ERR_OK)
		return rc;
	if (d->hash[0] && strcmp(d->hash, hash) != 0)
		ini_problem(l->problems, l->path, line,
			    "[content] files = %s hashes to sha256:%s, but hash "
			    "is sha256:%s", name, hash, d->hash);
	memcpy(d->hash, hash, sizeof(hash));
	return ERR_OK;
}

static enum err_code take_fields(struct load *l, const struct fields *f,
				 struct deployment *out, struct err *e)
{
	char name[CONTENT_NAME_SIZE];
	enum err_code rc = content_parse(f->package, &out->content, e);
	if (rc != ERR_OK)
		return rc;
	out->content.version = (uint32_t)f->version;
	out->content.has_version = true;
	content_name(&out->content, name);
	out->path = strdup(l->path);
	out->id = strdup(f->id);
	out->name = strdup(f->name[0] ? f->name : name);
	out->site_hash = strdup(f->site_hash);
	if (!out->path || !out->id || !out->name || !out->site_hash)
		return err_set(e, ERR_NOMEM, "no memory for a deployment");
	out->is_required = f->is_required;
	out->priority = f->priority;
	out->available_s = f->available_s;
	out->deadline_s = f->deadline_s;
	out->size = f->lines[FIELDS_SIZE] ? f->size : DEPLOYMENT_SIZE_UNKNOWN;
	out->cloud = (enum choose_cloud)f->cloud;
	if (f->hash[0] && (rc = digest_parse(f->hash, out->hash, e)) != ERR_OK)
		return rc;
	if (!f->files[0])
		return ERR_OK;
	return read_files(l, f->files, f->lines[FIELDS_FILES], out, e);
}

static enum err_code append(struct deployment_list *list, struct deployment *d,
			    struct err *e)
{
	if (list->count >= list->room) {
		size_t room = list->count ? list->count * 2 : 8;
		struct deployment *items =
			reallocarray(list->items, room, sizeof(*items));
		if (items == NULL)
			return err_set(e, ERR_NOMEM, "no memory for a deployment");
		list->items = items;
		list->room = room;
	}
	list->items[list->count++] = *d;
	*d = (struct deployment){ 0 };
	return ERR_OK;
}

/*
 * The text of one deployment. It counts whole or not at all: half of a policy
 * might lack the very line that forbids something. So its problems are counted by
 * themselves: the list of all may be full.
 */
static enum err_code read_text(struct load *l, struct span text, struct err *e)
{
	autobuf own = { 0 };
	autofields fields = { 0 };
	autodeployment d = { 0 };
	struct load one = *l;
	struct fields_input in = { text, l->path, l->is_site, &own };
	one.problems = &own;
	enum err_code rc = fields_read(&in, &fields, e);
	/* With a bad package or version there is nothing to go on with. */
	if (rc == ERR_OK && fields.package[0] && fields.version)
		rc = take_fields(&one, &fields, &d, e);
	ini_add_problems(l->problems, &own);
	if (rc != ERR_OK || own.len || own.failed)
		return rc;
	return append(l->list, &d, e);
}

static bool is_policy_name(const char *name)
{
	size_t len = strlen(name);
	return name[0] != '.' && len > 4 && strcmp(name + len - 4, ".ini") == 0;
}

/* Many in one text. */
static enum err_code read_bundle(struct load *l, struct span text, struct err *e)
{
	struct bundle bundle = { 0 };
	struct err why = { 0 };
	struct load inner = *l;
	enum err_code rc = bundle_parse(text, &bundle, &why);
	if (rc == ERR_NOMEM)
		return err_set(e, rc, "%s", why.text);
	if (rc != ERR_OK) {
		note(l, why.text);
		return ERR_OK;
	}
	inner.dir_fd = -1;
	inner.bundle = &bundle;
	for (size_t i = 0; rc == ERR_OK && i < bundle.count; i++) {
		const struct bundle_file *file = &bundle.files[i];
		if (!is_policy_name(file->name))
			continue;
		autobuf path = { 0 };
		buf_print(&path, "%s/%s", l->path, file->name);
		inner.path = path.at ? path.at : l->path;
		rc = read_text(&inner, file->text, e);
	}
	bundle_free(&bundle);
	return rc;
}

/* One file of at most max bytes. */
static enum err_code read_file(struct load *l, const char *name, size_t max,
			       struct err *e)
{
	autobuf text = { 0 };
	struct err why = { 0 };
	enum err_code rc = ini_load(l->dir_fd, name, max, &text, NULL, &why);
	if (rc == ERR_NOMEM)
		return err_set(e, rc, "%s", why.text);
	if (rc != ERR_OK) {
		note(l, why.text);
		return ERR_OK;
	}
	if (!bundle_is(buf_as_span(&text)))
		return read_text(l, buf_as_span(&text), e);
	if (max == BUNDLE_MAX)
		return read_bundle(l, buf_as_span(&text), e);
	note(l, "is a bundle: name it as [policy] source, not in a folder");
	return ERR_OK;
}

static int is_policy(const struct dirent *entry)
{
	return is_policy_name(entry->d_name);
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static enum err_code read_folder(struct load *l, const char *folder,
				 struct err *e)
{
	struct dirent **found = NULL;
	struct err why = { 0 };
	l->path = folder;
	if (ini_check_trusted(l->dir_fd, &why) != ERR_OK) {
		note(l, why.text);
		return ERR_OK;
	}
	int n = scandirat(l->dir_fd, ".", &found, is_policy, by_bytes);
	if (n < 0) {
		ini_problem(l->problems, folder, 0, "cannot be listed: %m");
		return ERR_OK;
	}
	enum err_code rc = ERR_OK;
	size_t len = strlen(folder);
	while (len > 1 && folder[len - 1] == '/')
		len--;
	for (int i = 0; i < n; i++) {
		autobuf path = { 0 };
		buf_print(&path, "%.*s%s%s", (int)len, folder,
			  folder[len - 1] == '/' ? "" : "/", found[i]->d_name);
		l->path = path.at ? path.at : folder;
		if (rc == ERR_OK)
			rc = read_file(l, found[i]->d_name, INI_FILE_MAX, e);
		free(found[i]);
	}
	free(found);
	return rc;
}

/* A single file: its folder is opened too, the file list lies there. */
static enum err_code read_single(struct load *l, const char *source,
				 struct err *e)
{
	const char *slash = strrchr(source, '/');
	autofree char *folder = slash ? strndup(source, (size_t)(slash - source) + 1)
				      : strdup(".");
	if (folder == NULL)
		return err_set(e, ERR_NOMEM, "no memory for a path");
	autofd dir_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0) {
		ini_problem(l->problems, source, 0, "cannot open its folder: %m");
		return ERR_OK;
	}
	l->dir_fd = dir_fd;
	l->path = source;
	return read_file(l, slash ? slash + 1 : source, BUNDLE_MAX, e);
}

static enum err_code read_source(struct load *l, const char *source,
				 bool must_exist, struct err *e)
{
	struct stat st;
	if (strstr(source, "://") || strcmp(source, "mp") == 0) {
		ini_problem(l->problems, source, 0, "is no file and no folder: policy "
			    "from the network is fetched before it is read");
		return ERR_OK;
	}
	if (stat(source, &st) < 0) {
		if (errno != ENOENT || must_exist)
			ini_problem(l->problems, source, 0, "cannot open it: %m");
		return ERR_OK;
	}
	if (!S_ISDIR(st.st_mode))
		return read_single(l, source, e);
	autofd fd = open(source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		ini_problem(l->problems, source, 0, "cannot open it: %m");
		return ERR_OK;
	}
	l->dir_fd = fd;
	return read_folder(l, source, e);
}

/* ---- all together ---- */

static int by_content(const void *a, const void *b)
{
	const struct deployment *x = *(struct deployment *const *)a;
	const struct deployment *y = *(struct deployment *const *)b;
	int order = strcasecmp(x->content.id, y->content.id);
	if (order == 0)
		order = (x->content.version > y->content.version) -
			(x->content.version < y->content.version);
	return order ? order : (x > y) - (x < y);
}

/* Deployments of one content and version stand together, in the order in which
 * they were read. */
struct sorted {
	struct deployment **at; /* owned; NULL = no memory */
	size_t count;
};

static void own_sorted(struct sorted *s)
{
	free(s->at);
}
#define autosorted __attribute__((cleanup(own_sorted))) struct sorted

static struct sorted sort(const struct deployment_list *list)
{
	struct sorted s = { calloc(list->count + 1, sizeof(struct deployment *)),
			    list->count };
	if (s.at == NULL)
		return s;
	for (size_t i = 0; i < s.count; i++)
		s.at[i] = &list->items[i];
	qsort(s.at, s.count, sizeof(*s.at), by_content);
	return s;
}

/* Behind the last one of the content of s->at[from]; *giver is the first that
 * names a hash, NULL = none. */
static size_t end_of(const struct sorted *s, size_t from, struct deployment **giver)
{
	size_t end = from;
	*giver = NULL;
	for (; end < s->count &&
	       content_same(&s->at[end]->content, &s->at[from]->content); end++)
		if (*giver == NULL && s->at[end]->hash[0])
			*giver = s->at[end];
	return end;
}

/* All of one content that name a hash, where they do not agree. */
static void refuse_group(struct load *l, struct deployment **at, size_t count,
			 const struct deployment *giver, bool *is_refused)
{
	bool is_conflict = false;
	for (size_t i = 0; i < count; i++) {
		const struct deployment *d = at[i];
		if (!d->hash[0] || strcmp(d->hash, giver->hash) == 0)
			continue;
		is_conflict = true;
		ini_problem(l->problems, d->path, 0, "another hash for %s version "
			    "%" PRIu32 " than in %s", d->content.id,
			    d->content.version, giver->path);
	}
	for (size_t i = 0; is_conflict && i < count; i++)
		if (at[i]->hash[0])
			is_refused[at[i] - l->list->items] = true;
}

/* Two hashes for one content cannot both be right: none of them is used. */
static void refuse_conflicts(struct load *l)
{
	struct deployment_list *list = l->list;
	struct deployment *giver;
	autosorted s = sort(list);
	bool *is_refused autofree = calloc(list->count + 1, sizeof(*is_refused));
	if (s.at == NULL || is_refused == NULL) {
		l->problems->failed = true;
		return;
	}
	for (size_t i = 0, end; i < s.count; i = end) {
		end = end_of(&s, i, &giver);
		if (giver)
			refuse_group(l, &s.at[i], end - i, giver, is_refused);
	}
	size_t kept = 0;
	for (size_t i = 0; i < list->count; i++) {
		if (is_refused[i])
			drop(&list->items[i]);
		else
			list->items[kept++] = list->items[i];
	}
	list->count = kept;
}

static enum err_code finish(struct load *l, size_t before, enum err_code rc,
			    struct err *e)
{
	if (rc != ERR_OK)
		return rc;
	refuse_conflicts(l);
	return ini_summary(l->problems, before, ERR_POLICY, e);
}

enum err_code deployment_load(const char *source, bool must_exist,
			      struct deployment_list *out, struct buf *problems,
			      struct err *e)
{
	struct load l = { .list = out, .problems = problems, .dir_fd = -1 };
	size_t before = problems->len;
	enum err_code rc = read_source(&l, source, must_exist, e);
	return finish(&l, before, rc, e);
}

enum err_code deployment_parse(struct span text, const char *path, bool is_site,
			       struct deployment_list *out, struct buf *problems,
			       struct err *e)
{
	struct load l = { .list = out, .problems = problems, .dir_fd = -1,
			  .is_site = is_site, .path = path };
	size_t before = problems->len;
	enum err_code rc = bundle_is(text) ? read_bundle(&l, text, e)
					   : read_text(&l, text, e);
	return finish(&l, before, rc, e);
}

static void take_content(struct deployment *d, const struct deployment *giver)
{
	autolisting files = { 0 };
	for (size_t i = 0; i < giver->files.count; i++)
		if (listing_add(&files, giver->files.lines[i].path,
				giver->files.lines[i].hex, NULL) != ERR_OK)
			return;
	listing_free(&d->files);
	d->files = files;
	files = (struct listing){ 0 };
	memcpy(d->hash, giver->hash, sizeof(d->hash));
	if (giver->size != DEPLOYMENT_SIZE_UNKNOWN)
		d->size = giver->size;
}

void deployment_join(struct deployment_list *l)
{
	struct deployment *giver;
	autosorted s = sort(l);
	for (size_t i = 0, end; s.at && i < s.count; i = end) {
		end = end_of(&s, i, &giver);
		for (size_t k = i; giver && k < end; k++)
			if (!s.at[k]->hash[0])
				take_content(s.at[k], giver);
	}
}

const struct deployment *deployment_find(const struct deployment_list *l,
					 const struct content *want)
{
	const struct deployment *best = NULL;
	for (size_t i = 0; i < l->count; i++) {
		const struct deployment *d = &l->items[i];
		if (strcasecmp(d->content.id, want->id) != 0 ||
		    (want->has_version && d->content.version != want->version))
			continue;
		if (best == NULL || d->content.version > best->content.version ||
		    (d->content.version == best->content.version &&
		     !best->hash[0] && d->hash[0]))
			best = d;
	}
	return best;
}
