#include "common/listing.h"

#include "common/buf.h"
#include "common/folder.h"
#include "common/fs.h"
#include "common/own.h"
#include "common/relpath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void listing_free(struct listing *l)
{
	if (l == NULL)
		return;
	for (size_t i = 0; i < l->count; i++)
		free(l->lines[i].path);
	free(l->lines);
	*l = (struct listing){ 0 };
}

static enum err_code no_memory(struct err *e)
{
	return err_set(e, ERR_NOMEM, "keep a content listing: no memory");
}

enum err_code listing_add(struct listing *l, const char *path,
			  const char *hex, struct err *e)
{
	if (l->count == l->room) {
		size_t room = l->room ? l->room * 2 : 16;
		struct listing_line *lines =
			reallocarray(l->lines, room, sizeof(*lines));
		if (lines == NULL)
			return no_memory(e);
		l->lines = lines;
		l->room = room;
	}
	struct listing_line *line = &l->lines[l->count];
	line->path = strdup(path);
	if (line->path == NULL)
		return no_memory(e);
	snprintf(line->hex, sizeof(line->hex), "%s", hex);
	l->count++;
	return ERR_OK;
}

/* strcmp() compares bytes as unsigned, as LC_ALL=C sort(1) does. */
static int by_path(const void *a, const void *b)
{
	const struct listing_line *x = a, *y = b;
	return strcmp(x->path, y->path);
}

void listing_sort(struct listing *l)
{
	if (l->count)
		qsort(l->lines, l->count, sizeof(*l->lines), by_path);
}

static const struct listing_line *find(const struct listing *l, char *path)
{
	const struct listing_line key = { .path = path };
	if (l->count == 0)
		return NULL;
	return bsearch(&key, l->lines, l->count, sizeof(key), by_path);
}

const struct listing_line *listing_find(const struct listing *l,
					const char *path)
{
	return find(l, (char *)path); /* not written to */
}

enum err_code listing_hash(struct listing *l, char out[DIGEST_HEX_SIZE],
			   struct err *e)
{
	struct err own = { 0 };
	autodigest struct digest *d = digest_new(DIGEST_SHA256, &own);
	out[0] = '\0';
	if (d == NULL)
		return err_set(e, own.code, "%s", own.text);
	listing_sort(l);
	for (size_t i = 0; i < l->count; i++) {
		const struct listing_line *line = &l->lines[i];
		digest_add(d, line->hex, strlen(line->hex));
		digest_add(d, "  ", 2);
		digest_add(d, line->path, strlen(line->path));
		digest_add(d, "\n", 1);
	}
	return digest_hex(d, out, e);
}

char *listing_text(struct listing *l, struct err *e)
{
	size_t len = 1;
	for (size_t i = 0; i < l->count; i++)
		len += strlen(l->lines[i].hex) + strlen(l->lines[i].path) + 3;
	autobuf text = { .max = len };
	listing_sort(l);
	for (size_t i = 0; i < l->count; i++) {
		buf_text(&text, l->lines[i].hex);
		buf_text(&text, "  ");
		buf_text(&text, l->lines[i].path);
		buf_char(&text, '\n');
	}
	char *taken = buf_take(&text);
	if (taken == NULL)
		no_memory(e);
	return taken;
}

static enum err_code bad_line(struct err *e, size_t number, const char *reason)
{
	return err_set(e, ERR_POLICY, "line %zu: %s", number, reason);
}

static enum err_code parse_line(struct span line, size_t number,
				struct listing *out, struct err *e)
{
	const size_t digits = DIGEST_HEX_SIZE - 1;
	char hex[DIGEST_HEX_SIZE], path[RELPATH_MAX + 1];
	if (line.len && line.at[0] == '\\')
		return bad_line(e, number, "escaped names are refused");
	if (line.len < digits + 2 ||
	    !digest_is_hex(DIGEST_SHA256, line.at, digits, hex))
		return bad_line(e, number, "does not begin with 64 hex digits");
	if (line.at[digits] != ' ' ||
	    (line.at[digits + 1] != ' ' && line.at[digits + 1] != '*'))
		return bad_line(e, number,
				"hash and path are not apart by \"  \" or \" *\"");
	struct span name = { line.at + digits + 2, line.len - digits - 2 };
	if (name.len >= 2 && memcmp(name.at, "./", 2) == 0)
		name = (struct span){ name.at + 2, name.len - 2 };
	struct err why = { 0 };
	if (relpath_check(name, &why) != ERR_OK)
		return bad_line(e, number, why.text);
	memcpy(path, name.at, name.len);
	path[name.len] = '\0';
	return listing_add(out, path, hex, e);
}

/* By path, then by place in the text. */
static int by_path_then_place(const void *a, const void *b)
{
	const struct listing_line *x = *(struct listing_line *const *)a;
	const struct listing_line *y = *(struct listing_line *const *)b;
	int order = strcmp(x->path, y->path);
	return order ? order : (x > y) - (x < y);
}

/* Sorts pointers, because the place of a line is its number in the text. */
static enum err_code refuse_twice(const struct listing *l, struct err *e)
{
	if (l->count < 2)
		return ERR_OK;
	const struct listing_line **sorted autofree =
		reallocarray(NULL, l->count, sizeof(struct listing_line *));
	if (sorted == NULL)
		return no_memory(e);
	for (size_t i = 0; i < l->count; i++)
		sorted[i] = &l->lines[i];
	qsort(sorted, l->count, sizeof(*sorted), by_path_then_place);
	for (size_t i = 1; i < l->count; i++)
		if (strcmp(sorted[i - 1]->path, sorted[i]->path) == 0)
			return err_set(e, ERR_POLICY,
				       "line %zu: path \"%.200s\" is also in line %zu",
				       (size_t)(sorted[i] - l->lines) + 1,
				       sorted[i]->path,
				       (size_t)(sorted[i - 1] - l->lines) + 1);
	return ERR_OK;
}

enum err_code listing_parse(struct span text, struct listing *out,
			    struct err *e)
{
	autolisting parsed = { 0 };
	struct span rest = text, line;
	for (size_t number = 1; span_split(&rest, '\n', &line); number++) {
		enum err_code rc = parse_line(line, number, &parsed, e);
		if (rc != ERR_OK)
			return rc;
	}
	enum err_code rc = refuse_twice(&parsed, e);
	if (rc != ERR_OK)
		return rc;
	listing_sort(&parsed);
	listing_free(out);
	*out = parsed;
	parsed = (struct listing){ 0 };
	return ERR_OK;
}

/* A walk: folders still to read, as paths; so depth costs no descriptor and no
 * stack. Folders are kept as lines without a hash. */
struct walk {
	int dir_fd;             /* borrowed */
	struct listing folders; /* to be read; last in, first out */
	struct listing *out;    /* borrowed */
	uint64_t bytes;
	enum err_code (*stop)(void *arg); /* may be NULL */
	void *arg;
};

static enum err_code hash_one(struct walk *w, const char *path, struct err *e)
{
	char hex[DIGEST_HEX_SIZE];
	uint64_t size;
	autofd fd = fs_open_at(w->dir_fd, path, O_RDONLY, 0, e);
	if (fd < 0)
		return ERR_FOLDER;
	enum err_code rc = digest_file_until(fd, hex, &size, w->stop, w->arg, e);
	if (rc != ERR_OK) {
		err_prefix(e, "hash %.200s", path);
		return rc;
	}
	w->bytes += size;
	return listing_add(w->out, path, hex, e);
}

/* Take up one entry of a folder: hash it, or remember it. */
static enum err_code visit(struct walk *w, int fd, const char *folder,
			   const char *name, struct err *e)
{
	char path[RELPATH_MAX + 1 + NAME_MAX + 1];
	struct stat st;
	snprintf(path, sizeof(path), "%s%s%s", folder, folder[0] ? "/" : "", name);
	enum err_code rc = relpath_check(span_of(path), e);
	if (rc != ERR_OK)
		return rc;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return err_set(e, ERR_FOLDER, "look at %s: %m", path);
	if (S_ISDIR(st.st_mode))
		return listing_add(&w->folders, path, "", e);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_FOLDER, "%s is neither a file nor a folder",
			       path);
	return hash_one(w, path, e);
}

static enum err_code read_folder(struct walk *w, const char *folder,
				 struct err *e)
{
	const char *shown = folder[0] ? folder : ".";
	autodir dir = folder_open(w->dir_fd, shown, e);
	if (dir == NULL)
		return ERR_FOLDER;
	const char *name;
	while ((name = folder_next(dir)) != NULL) {
		enum err_code rc = w->stop ? w->stop(w->arg) : ERR_OK;
		if (rc != ERR_OK)
			return err_set(e, rc, "stopped while hashing %s", shown);
		rc = visit(w, dirfd(dir), folder, name, e);
		if (rc != ERR_OK)
			return rc;
	}
	return errno ? err_set(e, ERR_FOLDER, "read folder %s: %m", shown) : ERR_OK;
}

enum err_code listing_walk(int dir_fd, struct listing *out, uint64_t *bytes,
			   enum err_code (*stop)(void *arg), void *arg,
			   struct err *e)
{
	struct walk w = { .dir_fd = dir_fd, .out = out, .stop = stop, .arg = arg };
	enum err_code rc = listing_add(&w.folders, "", "", e);
	while (rc == ERR_OK && w.folders.count) {
		autofree char *folder = w.folders.lines[--w.folders.count].path;
		rc = read_folder(&w, folder, e);
	}
	listing_free(&w.folders);
	listing_sort(out);
	if (bytes)
		*bytes = w.bytes;
	return rc;
}
