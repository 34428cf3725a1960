#include "agent/keeper/known.h"

#include "agent/keeper/part.h"
#include "common/own.h"

#include <stdlib.h>
#include <string.h>

void known_free(struct known *k)
{
	for (size_t i = 0; i < k->count; i++) {
		part_free(k->files[i].part, NULL);
		free(k->files[i].path);
	}
	free(k->files);
	*k = (struct known){ 0 };
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct roster_file *)a)->path,
		      ((const struct roster_file *)b)->path);
}

/* Nothing that this run knows: no bytes, or not hashed yet, which a look at the draft
 * will find. */
static bool is_unknown(const struct roster_file *f)
{
	return f->state == FILE_GONE || roster_have(f) == 0 ||
	       (f->part && (part_is_behind(f->part) || f->part->split));
}

/* Move what holds bytes to `to`; returns how many. */
static size_t keep(struct roster_file *from, size_t count, struct roster_file *to,
		   bool is_same_host)
{
	size_t kept = 0;
	for (size_t i = 0; i < count; i++) {
		struct roster_file *f = &from[i];
		free(take_ptr(f->said)); /* each source says its own */
		if (is_unknown(f)) {
			part_free(f->part, NULL); /* it is closed */
			free(f->path);
			continue;
		}
		if (!is_same_host) {
			f->is_old = true;
			f->has_restarted = false;
		}
		to[kept++] = *f;
	}
	return kept;
}

enum err_code known_add(struct known *k, struct roster *list, bool is_same_host,
			struct err *e)
{
	size_t room = k->count + list->count, kept;
	struct roster_file *all = calloc(room + 1, sizeof(*all));
	if (all == NULL)
		return err_set(e, ERR_NOMEM, "remember files: no memory");
	kept = keep(k->files, k->count, all, is_same_host);
	kept += keep(list->files, list->count, all + kept, is_same_host);
	qsort(all, kept, sizeof(*all), by_path);
	free(k->files);
	*k = (struct known){ all, kept };
	roster_clear(list);
	return ERR_OK;
}

struct roster_file *known_find(const struct known *k, char *path)
{
	const struct roster_file key = { .path = path };
	if (k->count == 0)
		return NULL;
	struct roster_file *f = bsearch(&key, k->files, k->count, sizeof(key),
					by_path);
	return f && f->state != FILE_GONE ? f : NULL;
}

bool known_is_usable(const struct roster_file *known,
		     const struct roster_file *f, uint64_t size)
{
	uint64_t have = roster_have(known);
	if (f->size != ROSTER_UNKNOWN && have > f->size)
		return false;
	if (known->state == FILE_DONE) /* its SHA-1 nobody kept */
		return size == have && !roster_says_sha1(f) &&
		       (f->size == ROSTER_UNKNOWN || f->size == have);
	return size >= have && (known->part->sha1 || !roster_says_sha1(f));
}
