#include "policy/deployment.h"

#include "common/own.h"
#include "policy/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

/* A file list of 200000 files with long names, bytes. */
#define FILES_MAX (64u << 20)

/* One policy file as it stands there. */
struct draft {
	char *id, *name, *package, *hash, *files; /* owned */
	uint64_t version, size, cloud;
	bool is_required;
	int64_t available_s, deadline_s;
};

static enum err_code check_package(const char *value, struct err *e)
{
	struct content c;
	struct err why = { 0 };
	if (content_parse(value, &c, &why) != ERR_OK)
		return err_set(e, ERR_CONFIG, "must be a content id: %s", why.text);
	if (c.has_version)
		return err_set(e, ERR_CONFIG,
			       "must be without version: write version = %" PRIu32
			       " in a line of its own", c.version);
	return ERR_OK;
}

static enum err_code check_hash(const char *value, struct err *e)
{
	char hex[DIGEST_HEX_SIZE];
	struct err why = { 0 };
	if (digest_parse(value, hex, &why) != ERR_OK)
		return err_set(e, ERR_CONFIG, "must be sha256: and 64 hex digits: %s",
			       why.text);
	return ERR_OK;
}

static const struct schema_word purposes[] = { { "required", 1 },
					       { "available", 0 }, { NULL, 0 } };
static const struct schema_word clouds[] = {
	{ "fallback", CHOOSE_CLOUD_FALLBACK },
	{ "prefer", CHOOSE_CLOUD_PREFER },
	{ "never", CHOOSE_CLOUD_NEVER },
	{ NULL, 0 },
};

enum row { ID, NAME, PACKAGE, VERSION, PURPOSE, AVAILABLE, DEADLINE, HASH, SIZE,
	   FILES, CLOUD, ROWS };

#define ROW(k, sec, title, member) \
	.kind = SCHEMA_##k, .section = sec, .key = title, \
	.offset = offsetof(struct draft, member)

static const struct schema_row rows[ROWS] = {
	[ID] = { ROW(TEXT, "deployment", "id", id), .check = check_label,
		 .what = "id of the deployment" },
	[NAME] = { ROW(TEXT, "deployment", "name", name),
		   .what = "what people call it" },
	[PACKAGE] = { ROW(TEXT, "deployment", "package", package),
		      .check = check_package, .what = "content id" },
	[VERSION] = { ROW(NUMBER, "deployment", "version", version), .low = 1,
		      .high = UINT32_MAX, .what = "version of the content" },
	[PURPOSE] = { ROW(BOOL, "deployment", "purpose", is_required),
		      .fallback = "required", .words = purposes,
		      .what = "required: fetched when due; available: only on "
			      "request" },
	[AVAILABLE] = { ROW(MOMENT, "deployment", "available", available_s),
			.what = "not before" },
	[DEADLINE] = { ROW(MOMENT, "deployment", "deadline", deadline_s),
		       .what = "at the latest" },
	[HASH] = { ROW(TEXT, "content", "hash", hash), .check = check_hash,
		   .what = "the content hash" },
	[SIZE] = { ROW(NUMBER, "content", "size", size), .high = INT64_MAX,
		   .what = "bytes of all files" },
	[FILES] = { ROW(TEXT, "content", "files", files),
		    .check = check_file_name,
		    .what = "file list, as sha256sum writes it" },
	[CLOUD] = { ROW(WORD, "sources", "cloud", cloud),
		    .fallback = "fallback", .words = clouds,
		    .what = "never stronger than [cloud] allow" },
};

static void own_draft(struct draft *d)
{
	schema_free(rows, ROWS, d);
}
#define autodraft __attribute__((cleanup(own_draft))) struct draft

static void drop(struct deployment *d)
{
	free(d->path);
	free(d->id);
	free(d->name);
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
	int dir_fd;       /* folder of the policy files, borrowed */
	const char *path; /* of the file that is being read, for people */
};

static bool note(struct load *l, unsigned line, const char *text)
{
	ini_problem(l->problems, l->path, line, "%s", text);
	return false;
}

/* Read the file list and hold it against the hash, or take its hash. */
static enum err_code read_files(struct load *l, const char *name, unsigned line,
				struct deployment *d, struct err *e)
{
	autobuf text = { 0 };
	struct err why = { 0 };
	char hash[DIGEST_HEX_SIZE];
	enum err_code rc = ini_load(l->dir_fd, name, FILES_MAX, &text, NULL, &why);
	if (rc == ERR_OK)
		rc = listing_parse(buf_as_span(&text), &d->files, &why);
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

/* What one key alone cannot tell. */
static bool check_draft(struct load *l, const struct draft *d,
			const unsigned lines[ROWS])
{
	bool is_good = true;
	if (!lines[PACKAGE])
		is_good = note(l, 0, "[deployment] package is missing");
	if (!lines[VERSION])
		is_good = note(l, 0, "[deployment] version is missing");
	if (d->available_s && d->deadline_s && d->deadline_s < d->available_s)
		is_good = note(l, lines[DEADLINE], "[deployment] deadline lies "
			       "before available");
	return is_good;
}

static enum err_code take_draft(struct load *l, const struct draft *d,
				const unsigned lines[ROWS],
				struct deployment *out, struct err *e)
{
	char name[CONTENT_NAME_SIZE];
	enum err_code rc = content_parse(d->package, &out->content, e);
	if (rc != ERR_OK)
		return rc;
	out->content.version = (uint32_t)d->version;
	out->content.has_version = true;
	content_name(&out->content, name);
	out->path = strdup(l->path);
	out->id = strdup(d->id);
	out->name = strdup(d->name[0] ? d->name : name);
	if (!out->path || !out->id || !out->name)
		return err_set(e, ERR_NOMEM, "no memory for a deployment");
	out->is_required = d->is_required;
	out->available_s = d->available_s;
	out->deadline_s = d->deadline_s;
	out->size = lines[SIZE] ? d->size : DEPLOYMENT_SIZE_UNKNOWN;
	out->cloud = (enum choose_cloud)d->cloud;
	if (d->hash[0] && (rc = digest_parse(d->hash, out->hash, e)) != ERR_OK)
		return rc;
	return d->files[0] ? read_files(l, d->files, lines[FILES], out, e) : ERR_OK;
}

static enum err_code append(struct deployment_list *list, struct deployment *d,
			    struct err *e)
{
	struct deployment *items = reallocarray(list->items, list->count + 1,
						sizeof(*items));
	if (items == NULL)
		return err_set(e, ERR_NOMEM, "no memory for a deployment");
	list->items = items;
	items[list->count++] = *d;
	*d = (struct deployment){ 0 };
	return ERR_OK;
}

/*
 * One file. It counts whole or not at all: half of a policy might lack the
 * very line that forbids something.
 */
static enum err_code read_file(struct load *l, const char *name, struct err *e)
{
	autobuf text = { 0 };
	struct err why = { 0 };
	size_t before = l->problems->len;
	unsigned lines[ROWS] = { 0 };
	autodraft draft = { 0 };
	autodeployment d = { 0 };
	enum err_code rc = ini_load(l->dir_fd, name, INI_FILE_MAX, &text, NULL,
				    &why);
	if (rc == ERR_NOMEM)
		return err_set(e, rc, "%s", why.text);
	if (rc != ERR_OK) {
		note(l, 0, why.text);
		return ERR_OK;
	}
	if ((rc = schema_set_defaults(rows, ROWS, &draft, e)) != ERR_OK)
		return rc;
	struct schema_fill fill = { .rows = rows, .count = ROWS, .base = &draft,
				    .lines = lines, .problems = l->problems };
	rc = ini_parse_text(buf_as_span(&text), l->path, schema_on_item, &fill,
			    l->problems, e);
	if (rc != ERR_OK)
		return rc;
	/* With a bad package or version there is nothing to go on with. */
	if (!check_draft(l, &draft, lines) || !draft.package[0] || !draft.version)
		return ERR_OK;
	if ((rc = take_draft(l, &draft, lines, &d, e)) != ERR_OK)
		return rc;
	return l->problems->len > before ? ERR_OK : append(l->list, &d, e);
}

static bool is_policy_name(const char *name)
{
	size_t len = strlen(name);
	return name[0] != '.' && len > 4 && strcmp(name + len - 4, ".ini") == 0;
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
		note(l, 0, why.text);
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
			rc = read_file(l, found[i]->d_name, e);
		free(found[i]);
	}
	free(found);
	return rc;
}

/* Two hashes for one content cannot both be right: neither is used. */
static void refuse_conflicts(struct load *l)
{
	struct deployment_list *list = l->list;
	bool *is_refused = calloc(list->count + 1, sizeof(*is_refused));
	if (is_refused == NULL) {
		l->problems->failed = true;
		return;
	}
	for (size_t i = 0; i < list->count; i++) {
		for (size_t j = 0; j < i; j++) {
			struct deployment *a = &list->items[j];
			struct deployment *b = &list->items[i];
			if (!a->hash[0] || !b->hash[0] ||
			    strcmp(a->hash, b->hash) == 0 ||
			    !content_same(&a->content, &b->content))
				continue;
			is_refused[i] = is_refused[j] = true;
			ini_problem(l->problems, b->path, 0,
				    "another hash for %s version %" PRIu32
				    " than in %s", b->content.id,
				    b->content.version, a->path);
			break;
		}
	}
	size_t kept = 0;
	for (size_t i = 0; i < list->count; i++) {
		if (is_refused[i])
			drop(&list->items[i]);
		else
			list->items[kept++] = list->items[i];
	}
	list->count = kept;
	free(is_refused);
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
	return read_file(l, slash ? slash + 1 : source, e);
}

static enum err_code read_source(struct load *l, const char *source,
				 bool must_exist, struct err *e)
{
	struct stat st;
	if (strstr(source, "://")) {
		ini_problem(l->problems, source, 0,
			    "policy from an https URL is not read by this version: "
			    "name a file or a folder");
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

enum err_code deployment_load(const char *source, bool must_exist,
			      struct deployment_list *out, struct buf *problems,
			      struct err *e)
{
	struct load l = { .list = out, .problems = problems, .dir_fd = -1 };
	size_t before = problems->len;
	*out = (struct deployment_list){ 0 };
	enum err_code rc = read_source(&l, source, must_exist, e);
	if (rc != ERR_OK)
		return rc;
	refuse_conflicts(&l);
	return ini_summary(problems, before, ERR_POLICY, e);
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
