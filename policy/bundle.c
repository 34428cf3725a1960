#include "policy/bundle.h"

#include "policy/check.h"
#include "policy/value.h"

#include <stdlib.h>

#define TITLE "; cloud-dp-agent policy bundle"
#define FILE_WORD "; file "

/* Where one reading stands. */
struct scan {
	struct span text, rest;
	struct bundle *out;
	size_t room; /* files */
	struct err *e;
};

bool bundle_is(struct span text)
{
	size_t len = sizeof(TITLE) - 1;
	if (text.len < len || memcmp(text.at, TITLE, len) != 0)
		return false;
	/* A line end that is not ours is a broken bundle, not another kind of file. */
	return text.len == len || text.at[len] == '\n' || text.at[len] == '\r';
}

static enum err_code refuse(struct scan *s, const char *at, const char *why)
{
	return err_set(s->e, ERR_POLICY, "policy bundle, byte %zu: %s",
		       (size_t)(at - s->text.at), why);
}

/* The next line without its end. */
static enum err_code take_line(struct scan *s, struct span *line)
{
	const char *end = s->rest.len ? memchr(s->rest.at, '\n', s->rest.len) : NULL;
	if (end == NULL)
		return refuse(s, s->rest.at, "a line without its end: is the bundle "
			      "cut off?");
	*line = (struct span){ s->rest.at, (size_t)(end - s->rest.at) };
	s->rest = span_after(s->rest, line->len + 1);
	return ERR_OK;
}

/* "; file NAME SIZE"; a name may hold blanks. */
static enum err_code parse_head(struct scan *s, struct span line,
				struct bundle_file *file, uint64_t *size)
{
	struct err why = { 0 };
	size_t word = sizeof(FILE_WORD) - 1;
	if (line.len < word || memcmp(line.at, FILE_WORD, word) != 0)
		return refuse(s, line.at, "no line \"; file NAME SIZE\" where one must "
			      "be: is a SIZE wrong?");
	struct span name = span_after(line, word);
	const char *blank = name.len ? memrchr(name.at, ' ', name.len) : NULL;
	if (blank == NULL)
		return refuse(s, line.at, "no SIZE behind the NAME");
	struct span digits = { blank + 1, (size_t)(name.at + name.len - blank) - 1 };
	name.len = (size_t)(blank - name.at);
	if (!value_number(digits, size))
		return refuse(s, digits.at, "SIZE is not a number of bytes");
	if (name.len == 0 || name.len >= sizeof(file->name) ||
	    memchr(name.at, '\0', name.len))
		return refuse(s, name.at, "NAME must have 1 to 255 bytes, none of them "
			      "NUL");
	memcpy(file->name, name.at, name.len);
	file->name[name.len] = '\0';
	if (check_file_name(file->name, &why) != ERR_OK)
		return refuse(s, name.at, why.text);
	return ERR_OK;
}

static enum err_code append(struct scan *s, const struct bundle_file *file)
{
	struct bundle *b = s->out;
	if (b->count == s->room) {
		size_t room = s->room ? s->room * 2 : 16;
		struct bundle_file *files =
			reallocarray(b->files, room, sizeof(*files));
		if (files == NULL)
			return err_set(s->e, ERR_NOMEM,
				       "no memory for a policy bundle");
		b->files = files;
		s->room = room;
	}
	b->files[b->count++] = *file;
	return ERR_OK;
}

static enum err_code take_file(struct scan *s)
{
	struct span line;
	struct bundle_file file;
	uint64_t size = 0;
	enum err_code rc = take_line(s, &line);
	if (rc == ERR_OK)
		rc = parse_head(s, line, &file, &size);
	if (rc != ERR_OK)
		return rc;
	if (s->out->count == BUNDLE_FILES_MAX)
		return refuse(s, line.at, "more files than a bundle may have");
	if (size > s->rest.len)
		return err_set(s->e, ERR_POLICY, "policy bundle, byte %zu: %s has %llu "
			       "bytes, but only %zu follow: is the bundle cut off?",
			       (size_t)(line.at - s->text.at), file.name,
			       (unsigned long long)size, s->rest.len);
	file.text = (struct span){ s->rest.at, (size_t)size };
	s->rest = span_after(s->rest, (size_t)size);
	return append(s, &file);
}

static int by_name(const void *a, const void *b)
{
	const struct bundle_file *x = a, *y = b;
	return strcmp(x->name, y->name);
}

static enum err_code refuse_twice(struct scan *s)
{
	const struct bundle *b = s->out;
	if (b->count)
		qsort(b->files, b->count, sizeof(*b->files), by_name);
	for (size_t i = 1; i < b->count; i++) {
		const struct bundle_file *x = &b->files[i - 1], *y = &b->files[i];
		const char *later = x->text.at > y->text.at ? x->text.at : y->text.at;
		if (strcmp(x->name, y->name) == 0)
			return err_set(s->e, ERR_POLICY, "policy bundle, byte %zu: "
				       "there is a file %s already",
				       (size_t)(later - s->text.at), y->name);
	}
	return ERR_OK;
}

enum err_code bundle_parse(struct span text, struct bundle *out, struct err *e)
{
	struct bundle parsed = { 0 };
	struct scan s = { .text = text, .rest = text, .out = &parsed, .e = e };
	struct span title;
	if (text.len > BUNDLE_MAX)
		return err_set(e, ERR_POLICY, "policy bundle has %zu bytes: at most %u "
			       "are read", text.len, BUNDLE_MAX);
	enum err_code rc = take_line(&s, &title);
	if (rc == ERR_OK && !span_is(title, TITLE))
		rc = refuse(&s, text.at, "the first line must be \"" TITLE "\", with a "
			    "line feed at its end");
	while (rc == ERR_OK && s.rest.len)
		rc = take_file(&s);
	if (rc == ERR_OK)
		rc = refuse_twice(&s);
	if (rc != ERR_OK) {
		bundle_free(&parsed);
		return rc;
	}
	*out = parsed;
	return ERR_OK;
}

const struct bundle_file *bundle_find(const struct bundle *b, const char *name)
{
	size_t low = 0, high = b->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(b->files[middle].name, name);
		if (order == 0)
			return &b->files[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

void bundle_free(struct bundle *b)
{
	if (b == NULL)
		return;
	free(b->files);
	*b = (struct bundle){ 0 };
}
