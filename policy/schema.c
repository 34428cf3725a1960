#include "policy/schema.h"

#include "common/clock.h"
#include "common/nearest.h"
#include "common/own.h"
#include "policy/value.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>

/* Longest value shown in a problem, bytes; the line is named anyway. */
#define SHOWN_MAX 80

static const struct schema_word yes_no[] = { { "yes", 1 }, { "no", 0 },
					     { NULL, 0 } };

static void *field(const struct schema_row *row, void *base)
{
	return (char *)base + row->offset;
}

static const void *field_const(const struct schema_row *row, const void *base)
{
	return (const char *)base + row->offset;
}

static const struct schema_word *words_of(const struct schema_row *row)
{
	return row->words ? row->words : yes_no;
}

size_t schema_find(const struct schema_row *rows, size_t count,
		   const char *section, const char *key)
{
	size_t i = 0;
	while (i < count && (strcmp(rows[i].section, section) != 0 ||
			     strcmp(rows[i].key, key) != 0))
		i++;
	return i;
}

/* ---- reading a value ---- */

/* Texts from the command line have not been through the INI reader. */
static enum err_code check_plain(const char *value, struct err *e)
{
	for (const char *p = value; *p; p++)
		if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
			return err_set(e, ERR_CONFIG,
				       "must be without control characters");
	return ERR_OK;
}

static enum err_code check_text(const struct schema_row *row, const char *value,
				struct err *e)
{
	enum err_code rc = check_plain(value, e);
	if (rc != ERR_OK)
		return rc;
	if (row->kind == SCHEMA_PATH && strlen(value) >= PATH_MAX)
		return err_set(e, ERR_CONFIG, "must be shorter than %d bytes",
			       PATH_MAX);
	return row->check && value[0] ? row->check(value, e) : ERR_OK;
}

static enum err_code set_text(const struct schema_row *row, void *base,
			      const char *value, struct err *e)
{
	enum err_code rc = check_text(row, value, e);
	if (rc != ERR_OK)
		return rc;
	char *copy = strdup(value);
	if (copy == NULL)
		return err_set(e, ERR_NOMEM, "no memory for a setting");
	char **at = field(row, base);
	free(*at);
	*at = copy;
	return ERR_OK;
}

enum err_code schema_list_add(struct settings_list *list, const char *text,
			      struct err *e)
{
	size_t all = strlen(text) + 1;
	for (size_t i = 0; i < list->count; i++)
		all += strlen(list->items[i]) + 1;
	if (all > SCHEMA_LIST_MAX)
		return err_set(e, ERR_CONFIG,
			       "must be shorter: all values of the key together "
			       "have at most %d bytes", SCHEMA_LIST_MAX);
	autofree char *copy = strdup(text);
	char **items = reallocarray(list->items, list->count + 1, sizeof(*items));
	if (items)
		list->items = items;
	if (copy == NULL || items == NULL)
		return err_set(e, ERR_NOMEM, "no memory for a setting");
	items[list->count++] = take_ptr(copy);
	return ERR_OK;
}

void schema_list_free(struct settings_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct settings_list){ 0 };
}

static enum err_code parse_word(const struct schema_row *row, const char *value,
				uint64_t *out, struct err *e)
{
	autobuf all = { .max = 400 };
	for (const struct schema_word *w = words_of(row); w->word; w++) {
		if (strcasecmp(w->word, value) == 0) {
			*out = w->value;
			return ERR_OK;
		}
		buf_text(&all, all.len == 0 ? "" : w[1].word ? ", " : " or ");
		buf_text(&all, w->word);
	}
	return err_set(e, ERR_CONFIG, "must be %s", all.at ? all.at : "a known word");
}

static enum err_code parse_moment(const char *value, int64_t *out, struct err *e)
{
	if (clock_parse_rfc3339(value, out) != 0)
		return err_set(e, ERR_CONFIG,
			       "must be a time as 2026-11-22T00:00:00Z");
	return ERR_OK;
}

static void print_amount(enum schema_kind kind, uint64_t n, struct buf *out)
{
	if (kind == SCHEMA_SIZE)
		value_print_size(n, out);
	else if (kind == SCHEMA_TIME)
		value_print_time((int64_t)n, out);
	else
		buf_print(out, "%" PRIu64, n);
}

/* A number, a size or a time, in its range. */
static enum err_code parse_amount(const struct schema_row *row,
				  const char *value, uint64_t *out,
				  struct err *e)
{
	const char *what = "number";
	struct span text = span_of(value);
	int64_t ms = 0;
	bool is_good;
	if (row->kind == SCHEMA_SIZE) {
		what = "size (bytes, or with k, M or G)";
		is_good = value_size(text, out);
	} else if (row->kind == SCHEMA_TIME) {
		what = "time (with ms, s, m, h or d)";
		is_good = value_time(text, &ms);
		*out = (uint64_t)ms;
	} else {
		is_good = value_number(text, out);
	}
	if (is_good && *out >= row->low && *out <= row->high)
		return ERR_OK;
	autobuf range = { .max = 100 };
	print_amount(row->kind, row->low, &range);
	if (row->high < INT64_MAX) {
		buf_text(&range, " to ");
		print_amount(row->kind, row->high, &range);
	} else {
		buf_text(&range, " up");
	}
	return err_set(e, ERR_CONFIG, "must be a %s from %s", what,
		       range.at ? range.at : "its range");
}

enum err_code schema_set(const struct schema_row *row, void *base,
			 const char *value, struct err *e)
{
	uint64_t n = 0;
	enum err_code rc;
	if (value[0] == '\0' && !row->may_be_empty)
		return err_set(e, ERR_CONFIG,
			       "must not be empty: leave the key out to have "
			       "the default");
	switch (row->kind) {
	case SCHEMA_TEXT:
	case SCHEMA_PATH:
		return set_text(row, base, value, e);
	case SCHEMA_LIST:
		if ((rc = check_text(row, value, e)) == ERR_OK)
			rc = schema_list_add(field(row, base), value, e);
		return rc;
	case SCHEMA_BOOL:
		if ((rc = parse_word(row, value, &n, e)) == ERR_OK)
			*(bool *)field(row, base) = n != 0;
		return rc;
	case SCHEMA_WORD:
		if ((rc = parse_word(row, value, &n, e)) == ERR_OK)
			*(uint64_t *)field(row, base) = n;
		return rc;
	case SCHEMA_NUMBER:
	case SCHEMA_SIZE:
		if ((rc = parse_amount(row, value, &n, e)) == ERR_OK)
			*(uint64_t *)field(row, base) = n;
		return rc;
	case SCHEMA_TIME:
		if ((rc = parse_amount(row, value, &n, e)) == ERR_OK)
			*(int64_t *)field(row, base) = (int64_t)n;
		return rc;
	case SCHEMA_MOMENT:
		return parse_moment(value, field(row, base), e);
	}
	return err_set(e, ERR_INTERNAL, "unknown kind of setting");
}

enum err_code schema_set_defaults(const struct schema_row *rows, size_t count,
				  void *base, struct err *e)
{
	for (size_t i = 0; i < count; i++) {
		const struct schema_row *row = &rows[i];
		enum err_code rc = ERR_OK;
		if (row->fallback)
			rc = schema_set(row, base, row->fallback, e);
		else if (row->kind == SCHEMA_TEXT || row->kind == SCHEMA_PATH)
			rc = set_text(row, base, "", e);
		if (rc == ERR_NOMEM)
			return rc;
		if (rc != ERR_OK) {
			struct err why = *e;
			return err_set(e, ERR_INTERNAL, "default of [%s] %s: %s",
				       row->section, row->key, why.text);
		}
	}
	return ERR_OK;
}

void schema_clear(const struct schema_row *row, void *base)
{
	if (row->kind == SCHEMA_TEXT || row->kind == SCHEMA_PATH) {
		char **at = field(row, base);
		free(*at);
		*at = NULL;
	} else if (row->kind == SCHEMA_LIST) {
		schema_list_free(field(row, base));
	}
}

void schema_free(const struct schema_row *rows, size_t count, void *base)
{
	for (size_t i = 0; i < count; i++)
		schema_clear(&rows[i], base);
}

/* ---- showing a value ---- */

size_t schema_values(const struct schema_row *row, const void *base)
{
	const void *at = field_const(row, base);
	if (row->kind == SCHEMA_LIST)
		return ((const struct settings_list *)at)->count;
	if (row->kind != SCHEMA_TEXT && row->kind != SCHEMA_PATH)
		return 1;
	const char *text = *(char *const *)at;
	return text && text[0];
}

static const char *word_for(const struct schema_row *row, uint64_t value)
{
	const struct schema_word *w = words_of(row);
	while (w->word && w->value != value)
		w++;
	return w->word ? w->word : "?";
}

void schema_print(const struct schema_row *row, const void *base, size_t n,
		  struct buf *out)
{
	const void *at = field_const(row, base);
	char moment[CLOCK_RFC3339_SIZE];
	switch (row->kind) {
	case SCHEMA_TEXT:
	case SCHEMA_PATH:
		buf_text(out, *(char *const *)at ? *(char *const *)at : "");
		break;
	case SCHEMA_LIST:
		assert(n < ((const struct settings_list *)at)->count);
		buf_text(out, ((const struct settings_list *)at)->items[n]);
		break;
	case SCHEMA_BOOL:
		buf_text(out, word_for(row, *(const bool *)at));
		break;
	case SCHEMA_WORD:
		buf_text(out, word_for(row, *(const uint64_t *)at));
		break;
	case SCHEMA_NUMBER:
	case SCHEMA_SIZE:
		print_amount(row->kind, *(const uint64_t *)at, out);
		break;
	case SCHEMA_TIME:
		print_amount(row->kind, (uint64_t)*(const int64_t *)at, out);
		break;
	case SCHEMA_MOMENT:
		clock_rfc3339(*(const int64_t *)at, moment);
		buf_text(out, moment);
		break;
	}
}

/* ---- complaining ---- */

static void explain_section(const struct schema_row *rows, size_t count,
			    const char *section, struct buf *out)
{
	const char *last = "";
	buf_print(out, "unknown section [%.50s]; there are", section);
	for (size_t i = 0; i < count; i++) {
		if (strcmp(rows[i].section, last) != 0)
			buf_print(out, " [%s]", rows[i].section);
		last = rows[i].section;
	}
}

void schema_explain(const struct schema_row *rows, size_t count,
		    const char *section, const char *key, struct buf *out)
{
	if (key == NULL) {
		explain_section(rows, count, section, out);
		return;
	}
	const struct schema_row *near = NULL, *elsewhere = NULL;
	size_t best = strlen(key) < 6 ? 2 : 3; /* more edits are another word */
	buf_print(out, "unknown key %.50s in [%s]", key, section);
	for (size_t i = 0; i < count; i++) {
		bool is_here = strcmp(rows[i].section, section) == 0;
		size_t d = is_here ? nearest_distance(key, rows[i].key) :
				     SIZE_MAX;
		if (d < best) {
			best = d;
			near = &rows[i];
		}
		if (!is_here && strcmp(rows[i].key, key) == 0)
			elsewhere = &rows[i];
	}
	if (near)
		buf_print(out, "; did you mean %s?", near->key);
	else if (elsewhere)
		buf_print(out, "; did you mean [%s] %s?", elsewhere->section, key);
	buf_text(out, near || elsewhere ? " There are" : "; there are");
	for (size_t i = 0; i < count; i++)
		if (strcmp(rows[i].section, section) == 0)
			buf_print(out, " %s", rows[i].key);
}

void schema_complain(const struct schema_row *row, const char *value,
		     const struct err *why, struct buf *out)
{
	size_t len = strlen(value);
	buf_print(out, "[%s] %s = ", row->section, row->key);
	if (strchr(value, '@'))
		buf_text(out, "(not shown, it may hold a password)");
	else
		buf_print(out, "%.*s%s", SHOWN_MAX, value,
			  len > SHOWN_MAX ? "..." : "");
	buf_print(out, ": %s", why->text);
}

/* ---- filling a struct from a file ---- */

static bool has_section(const struct schema_fill *fill, const char *section)
{
	for (size_t i = 0; i < fill->count; i++)
		if (strcmp(fill->rows[i].section, section) == 0)
			return true;
	return false;
}

static void unknown(struct schema_fill *fill, const struct ini_item *item)
{
	autobuf text = { 0 };
	schema_explain(fill->rows, fill->count, item->section, item->key, &text);
	ini_problem(fill->problems, item->path, item->line, "%s",
		    text.at ? text.at : "unknown");
}

enum err_code schema_on_item(void *arg, const struct ini_item *item,
			     struct err *e)
{
	struct schema_fill *fill = arg;
	if (!has_section(fill, item->section)) {
		if (item->key == NULL) /* once, not for each of its keys */
			unknown(fill, item);
		return ERR_OK;
	}
	if (item->key == NULL)
		return ERR_OK;
	size_t i = schema_find(fill->rows, fill->count, item->section, item->key);
	if (i == fill->count) {
		unknown(fill, item);
		return ERR_OK;
	}
	const struct schema_row *row = &fill->rows[i];
	if (fill->lines[i] && row->kind != SCHEMA_LIST) {
		ini_problem(fill->problems, item->path, item->line,
			    "[%s] %s stands already in line %u", row->section,
			    row->key, fill->lines[i]);
		return ERR_OK;
	}
	if (fill->lines[i] == 0)
		fill->lines[i] = item->line;
	struct err why = { 0 };
	enum err_code rc = schema_set(row, fill->base, item->value, &why);
	if (rc == ERR_OK)
		return fill->on_set ? fill->on_set(fill, i, item, e) : ERR_OK;
	if (rc == ERR_NOMEM)
		return err_set(e, rc, "%s", why.text);
	autobuf text = { 0 };
	schema_complain(row, item->value, &why, &text);
	ini_problem(fill->problems, item->path, item->line, "%s",
		    text.at ? text.at : why.text);
	return ERR_OK;
}
