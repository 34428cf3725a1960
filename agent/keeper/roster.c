#include "agent/keeper/roster.h"

#include "agent/wire.h"
#include "common/own.h"
#include "common/relpath.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_BYTES (8u << 20) /* of all names in a list; as in net */
#define PASSED_OVER UINT32_MAX  /* an index that is taken, but not wanted */

static enum err_code no_memory(struct err *e)
{
	return err_set(e, ERR_NOMEM, "keep a list of files: no memory");
}

void roster_free(struct roster *l)
{
	for (size_t i = 0; i < l->count; i++) {
		free(l->files[i].path);
		free(l->files[i].said);
	}
	free(l->files);
	free(l->by_index);
	*l = (struct roster){ .limits = l->limits };
}

void roster_clear(struct roster *l)
{
	if (l->index_room)
		memset(l->by_index, 0, l->index_room * sizeof(*l->by_index));
	l->count = l->unknown = 0;
	l->names_bytes = l->bytes_total = 0;
}

/* --- one line ------------------------------------------------------------- */

/* Room for `index` in the map; it must be a new one. */
static enum err_code map_index(struct roster *l, uint64_t index, struct err *e)
{
	if (index >= WIRE_MAX_FILES)
		return err_set(e, ERR_NET_LIED, "file number %" PRIu64
			       " is out of range", index);
	if (index >= l->index_room) {
		size_t room = l->index_room ? l->index_room : 256;
		while (room <= index)
			room *= 2;
		uint32_t *map = reallocarray(l->by_index, room, sizeof(*map));
		if (map == NULL)
			return no_memory(e);
		memset(map + l->index_room, 0,
		       (room - l->index_room) * sizeof(*map));
		l->by_index = map;
		l->index_room = room;
	}
	if (l->by_index[index])
		return err_set(e, ERR_NET_LIED, "file number %" PRIu64
			       " is listed twice", index);
	return ERR_OK;
}

static struct roster_file *append(struct roster *l, const char *path,
				  const char *said, struct err *e)
{
	if (l->count == l->room) {
		size_t room = l->room ? l->room * 2 : 64;
		struct roster_file *files =
			reallocarray(l->files, room, sizeof(*files));
		if (files == NULL) {
			no_memory(e);
			return NULL;
		}
		l->files = files;
		l->room = room;
	}
	struct roster_file *f = &l->files[l->count];
	*f = (struct roster_file){ .path = strdup(path),
				   .said = said[0] ? strdup(said) : NULL,
				   .state = FILE_IDLE };
	if (f->path == NULL || (said[0] && f->said == NULL)) {
		free(f->path);
		free(f->said);
		no_memory(e);
		return NULL;
	}
	l->count++;
	return f;
}

static enum err_code check_line(struct roster *l, const char *path,
				uint64_t size, const char *hash,
				char said[DIGEST_HEX_SIZE], struct err *e)
{
	size_t len = strlen(hash);
	if (relpath_check(span_of(path), e) != ERR_OK)
		return e ? e->code : ERR_NAME;
	l->names_bytes += strlen(path);
	if (l->names_bytes > NAMES_BYTES)
		return err_set(e, ERR_LIMIT, "the names of the source's files have "
			       "more than %u bytes", NAMES_BYTES);
	if (size > INT64_MAX && size != ROSTER_UNKNOWN)
		return err_set(e, ERR_LISTING, "%.200s: no file has %" PRIu64
			       " bytes", path, size);
	said[0] = '\0';
	if (len && !digest_is_hex(DIGEST_SHA256, hash, len, said) &&
	    !digest_is_hex(DIGEST_SHA1, hash, len, said))
		return err_set(e, ERR_LISTING, "%.200s: \"%.64s\" is not a hash",
			       path, hash);
	return ERR_OK;
}

enum err_code roster_add(struct roster *l, uint64_t index, const char *path,
			 uint64_t size, const char *hash, struct err *e)
{
	char said[DIGEST_HEX_SIZE] = "";
	const struct listing *wanted = l->limits.wanted;
	enum err_code rc = map_index(l, index, e);
	if (rc == ERR_OK)
		rc = check_line(l, path, size, hash, said, e);
	if (rc != ERR_OK)
		return rc;
	const struct listing_line *line = wanted ? listing_find(wanted, path) : NULL;
	if (wanted && line == NULL) {
		l->by_index[index] = PASSED_OVER;
		return ERR_OK;
	}
	if (line && strlen(said) == 64 && strcmp(said, line->hex) != 0)
		return err_set(e, ERR_HASH_FILE, "%.150s: the source lists "
			       "sha256:%s, policy says sha256:%s", path, said,
			       line->hex);
	struct roster_file *f = append(l, path, said, e);
	if (f == NULL)
		return ERR_NOMEM;
	f->size = size;
	f->index = (uint32_t)index;
	l->by_index[index] = (uint32_t)l->count;
	return ERR_OK;
}

struct roster_file *roster_find(const struct roster *l, uint64_t index)
{
	if (index >= l->index_room || l->by_index[index] == 0 ||
	    l->by_index[index] == PASSED_OVER)
		return NULL;
	return &l->files[l->by_index[index] - 1];
}

static enum err_code differs(const struct roster_file *f, const char *who,
			     const char *alg, const char *is, const char *said,
			     struct err *e)
{
	return err_set(e, ERR_HASH_FILE, "%.150s: %s:%s came, %s says %s:%s",
		       f->path, alg, is, who, alg, said);
}

enum err_code roster_judge_hash(const struct roster *l,
				const struct roster_file *f, const char *sha1,
				struct err *e)
{
	const struct listing *wanted = l->limits.wanted;
	const struct listing_line *line =
		wanted ? listing_find(wanted, f->path) : NULL;
	if (line && strcmp(line->hex, f->sha256) != 0)
		return differs(f, "policy", "sha256", f->sha256, line->hex, e);
	if (roster_says_sha1(f))
		return strcmp(f->said, sha1) == 0 ?
			       ERR_OK :
			       differs(f, "the source", "sha1", sha1, f->said, e);
	if (f->said && strcmp(f->said, f->sha256) != 0)
		return differs(f, "the source", "sha256", f->sha256, f->said, e);
	return ERR_OK;
}

/* --- the list as a whole -------------------------------------------------- */

/* '/' before all others, so that a file stands right before what would be in a
 * folder of its name; capitals like small letters. */
static int fold(char c)
{
	if (c == '/')
		return 1;
	return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : (unsigned char)c;
}

/* *end: where the first difference is. */
static int compare_folded(const char *a, const char *b, size_t *end)
{
	size_t i = 0;
	while (a[i] && fold(a[i]) == fold(b[i]))
		i++;
	*end = i;
	return fold(a[i]) - fold(b[i]);
}

static int by_folded_path(const void *a, const void *b)
{
	const struct roster_file *x = *(const struct roster_file *const *)a;
	const struct roster_file *y = *(const struct roster_file *const *)b;
	size_t end;
	return compare_folded(x->path, y->path, &end);
}

static enum err_code check_pair(const char *a, const char *b, struct err *e)
{
	size_t end;
	if (compare_folded(a, b, &end) == 0 && strcmp(a, b) == 0)
		return err_set(e, ERR_NAME, "name \"%.200s\" is listed twice", a);
	if (a[end] == '\0' && b[end] == '\0')
		return err_set(e, ERR_NAME, "names \"%.200s\" and \"%.200s\" differ "
			       "only in case", a, b);
	if (a[end] == '\0' && b[end] == '/')
		return err_set(e, ERR_NAME, "name \"%.200s\" is that of a file, and "
			       "of the folder of \"%.200s\"", a, b);
	return ERR_OK;
}

static enum err_code check_names(const struct roster *l, struct err *e)
{
	const struct roster_file **sorted autofree =
		reallocarray(NULL, l->count + 1, sizeof(struct roster_file *));
	if (sorted == NULL)
		return no_memory(e);
	for (size_t i = 0; i < l->count; i++)
		sorted[i] = &l->files[i];
	qsort(sorted, l->count, sizeof(*sorted), by_folded_path);
	for (size_t i = 1; i < l->count; i++) {
		enum err_code rc =
			check_pair(sorted[i - 1]->path, sorted[i]->path, e);
		if (rc != ERR_OK)
			return rc;
	}
	return ERR_OK;
}

/* Paths are unique and all of them wanted: equal counts mean equal sets. */
static enum err_code check_wanted(const struct roster *l, struct err *e)
{
	const struct listing *wanted = l->limits.wanted;
	if (wanted == NULL || l->count == wanted->count)
		return ERR_OK;
	bool *is_listed autofree = calloc(wanted->count, sizeof(bool));
	if (is_listed == NULL)
		return no_memory(e);
	for (size_t i = 0; i < l->count; i++)
		is_listed[listing_find(wanted, l->files[i].path) -
			  wanted->lines] = true;
	size_t first = 0;
	while (first + 1 < wanted->count && is_listed[first])
		first++;
	return err_set(e, ERR_ABSENT, "the source lists %zu of policy's %zu files; "
		       "%.200s is missing", l->count, wanted->count,
		       wanted->lines[first].path);
}

enum err_code roster_judge_total(const struct roster *l, struct err *e)
{
	uint64_t size = l->limits.size, most = l->limits.most_bytes;
	bool fits = l->unknown ? l->bytes_total <= size : l->bytes_total == size;
	if (size != ROSTER_UNKNOWN && !fits)
		return err_set(e, ERR_SIZE, "the source has %" PRIu64
			       " bytes, policy says %" PRIu64, l->bytes_total, size);
	if (l->bytes_total > most)
		return err_set(e, ERR_SPACE_CACHE, "the content has %" PRIu64
			       " bytes, there is room for %" PRIu64, l->bytes_total,
			       most);
	return ERR_OK;
}

enum err_code roster_check(struct roster *l, struct err *e)
{
	enum err_code rc = check_names(l, e);
	if (rc == ERR_OK)
		rc = check_wanted(l, e);
	if (rc != ERR_OK)
		return rc;
	l->bytes_total = 0;
	l->unknown = 0;
	for (size_t i = 0; i < l->count; i++) {
		uint64_t size = l->files[i].size;
		if (size == ROSTER_UNKNOWN)
			l->unknown++;
		else if (__builtin_add_overflow(l->bytes_total, size,
						&l->bytes_total))
			return err_set(e, ERR_LISTING, "the sizes of the files add "
				       "up to more than can be");
	}
	return roster_judge_total(l, e);
}

enum err_code roster_learn_size(struct roster *l, struct roster_file *f,
				uint64_t size, struct err *e)
{
	uint64_t before = l->bytes_total;
	if (f->size != ROSTER_UNKNOWN)
		return ERR_OK;
	if (size > INT64_MAX || size > UINT64_MAX - before)
		return err_set(e, ERR_LENGTH, "%.200s: no file has %" PRIu64
			       " bytes", f->path, size);
	f->size = size;
	l->bytes_total += size;
	l->unknown--;
	enum err_code rc = roster_judge_total(l, e);
	if (rc != ERR_OK) { /* it cannot have that size */
		f->size = ROSTER_UNKNOWN;
		l->bytes_total = before;
		l->unknown++;
	}
	return rc;
}
