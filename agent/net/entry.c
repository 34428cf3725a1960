#include "agent/net/entry.h"

#include <stdlib.h>
#include <string.h>

void entry_list_free(struct entry_list *l)
{
	if (l == NULL)
		return;
	free(l->items);
	buf_free(&l->arena);
	*l = (struct entry_list){ 0 };
}

static enum err_code grow(struct entry_list *l, struct err *e)
{
	if (l->count >= WIRE_MAX_FILES)
		return err_set(e, ERR_LIMIT, "more than %d files", WIRE_MAX_FILES);
	if (l->count < l->room)
		return ERR_OK;
	size_t room = l->room ? 2 * l->room : 64;
	struct entry *items = realloc(l->items, room * sizeof(*items));
	if (items == NULL)
		return err_set(e, ERR_NOMEM, "no memory for a list of files");
	l->items = items;
	l->room = room;
	return ERR_OK;
}

#define HASH_MAX 64
#define ARENA_MAX (ENTRY_NAMES_MAX + WIRE_MAX_FILES * (HASH_MAX + 1))

/* Where the text begins in the arena. */
static uint32_t keep(struct buf *arena, struct span text)
{
	size_t at = arena->len;
	if (text.len == 0)
		return 0;
	buf_span(arena, text);
	buf_char(arena, '\0');
	return (uint32_t)at;
}

enum err_code entry_list_add(struct entry_list *l, struct span path,
			     struct span url, uint64_t size, const char *hash,
			     struct err *e)
{
	enum err_code rc = grow(l, e);
	if (rc != ERR_OK)
		return rc;
	/* wire_send() would cut them, and a cut name is another file */
	if (path.len > WIRE_URL || url.len > WIRE_URL)
		return err_set(e, ERR_LIMIT, "a name or URL of %zu bytes: %.*s...",
			       path.len > url.len ? path.len : url.len, 64,
			       path.len > url.len ? path.at : url.at);
	l->arena.max = ARENA_MAX;
	l->names += path.len + url.len + 2;
	if (l->names > ENTRY_NAMES_MAX)
		return err_set(e, ERR_LIMIT, "more than %u MiB of names and URLs",
			       ENTRY_NAMES_MAX >> 20);
	if (l->arena.len == 0)
		buf_char(&l->arena, '\0');
	struct span digits = span_of(hash ? hash : "");
	l->items[l->count] = (struct entry){
		.size = size,
		.path = keep(&l->arena, path),
		.url = keep(&l->arena, url),
		.hash = digits.len <= HASH_MAX ? keep(&l->arena, digits) : 0,
	};
	if (l->arena.failed)
		return err_set(e, ERR_NOMEM, "no memory for a list of files");
	l->count++;
	return ERR_OK;
}

const char *entry_path(const struct entry_list *l, size_t index)
{
	return l->arena.at + l->items[index].path;
}

const char *entry_url(const struct entry_list *l, size_t index)
{
	return l->arena.at + l->items[index].url;
}

const char *entry_hash(const struct entry_list *l, size_t index)
{
	return l->arena.at + l->items[index].hash;
}

static int by_path(const void *a, const void *b, void *arg)
{
	const struct entry *left = a, *right = b;
	const char *arena = arg;
	return strcmp(arena + left->path, arena + right->path);
}

enum err_code entry_list_sort(struct entry_list *l, struct err *e)
{
	if (l->count)
		qsort_r(l->items, l->count, sizeof(*l->items), by_path,
			l->arena.at);
	for (size_t i = 1; i < l->count; i++)
		if (strcmp(entry_path(l, i - 1), entry_path(l, i)) == 0)
			return err_set(e, ERR_LISTING, "the file %s is listed twice",
				       entry_path(l, i));
	return ERR_OK;
}
