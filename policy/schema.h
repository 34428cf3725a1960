#ifndef POLICY_SCHEMA_H
#define POLICY_SCHEMA_H

#include "policy/ini.h"

#include <stdint.h>

/* A list of texts, owned. */
struct settings_list {
	char **items;
	size_t count;
};
/* All texts of a list together, bytes: they travel as one text of the wire. */
#define SCHEMA_LIST_MAX 8000
/* Appends a copy. ERR_NOMEM, ERR_CONFIG beyond SCHEMA_LIST_MAX. */
enum err_code schema_list_add(struct settings_list *list, const char *text,
			      struct err *e);
void schema_list_free(struct settings_list *list);

/*
 * What keys there are, as a table: one parser, one printer and one way to
 * complain for settings and policy alike.
 */
enum schema_kind {
	SCHEMA_TEXT,   /* char *, owned */
	SCHEMA_LIST,   /* struct settings_list; the key may repeat */
	SCHEMA_PATH,   /* char *, owned; name of a file or folder */
	SCHEMA_BOOL,   /* bool; yes and no, or two words of its own */
	SCHEMA_NUMBER, /* uint64_t */
	SCHEMA_SIZE,   /* uint64_t, bytes */
	SCHEMA_TIME,   /* int64_t, ms */
	SCHEMA_MOMENT, /* int64_t, s since 1970, RFC 3339 */
	SCHEMA_WORD,   /* uint64_t; one of some words */
};

struct schema_word {
	const char *word; /* NULL ends the list */
	uint64_t value;
};

/* Is the text a good value? Else *e says "must be ...". */
typedef enum err_code schema_check(const char *value, struct err *e);

struct schema_row {
	enum schema_kind kind;
	const char *section, *key;
	size_t offset;        /* of the field in the struct that is filled */
	const char *fallback; /* default, as one would write it; NULL = none */
	uint64_t low, high;   /* numbers, bytes, ms: both allowed */
	const struct schema_word *words;
	schema_check *check;  /* of a text or of each in a list; NULL = any */
	bool may_be_empty;    /* "" is a value with a meaning */
	const char *what;     /* one line for people */
};

/* Row of a key, or `count`. */
size_t schema_find(const struct schema_row *rows, size_t count,
		   const char *section, const char *key);

/*
 * Check `value` and put it into the field of `base`, in the place of what was
 * there; lists grow by one. ERR_CONFIG: *e says "must be ...", the field is as
 * before. ERR_NOMEM.
 */
enum err_code schema_set(const struct schema_row *row, void *base,
			 const char *value, struct err *e);
/* All defaults into zeroed `base`. ERR_NOMEM; a bad default is ERR_INTERNAL. */
enum err_code schema_set_defaults(const struct schema_row *rows, size_t count,
				  void *base, struct err *e);
/* Empty one field; all of them. */
void schema_clear(const struct schema_row *row, void *base);
void schema_free(const struct schema_row *rows, size_t count, void *base);

/* How many values there are to print: of a list, its length; else 1, or 0
 * where no text is set. */
size_t schema_values(const struct schema_row *row, const void *base);
/* The n-th value as one would write it. */
void schema_print(const struct schema_row *row, const void *base, size_t n,
		  struct buf *out);

/* Why nothing in the table fits; key NULL = the section itself. */
void schema_explain(const struct schema_row *rows, size_t count,
		    const char *section, const char *key, struct buf *out);
/* "[dns] tries = 99: must be a number from 1 to 10"; hides what may hold a
 * password. */
void schema_complain(const struct schema_row *row, const char *value,
		     const struct err *why, struct buf *out);

/*
 * Fills a struct from a file: give it to ini_parse_text() as
 * on_item = schema_on_item, arg = the fill. Unknown sections and keys, bad
 * values and single keys that stand twice become problems.
 */
struct schema_fill {
	const struct schema_row *rows;
	size_t count;
	void *base;
	unsigned *lines; /* `count` of them, zeroed: where each first stood */
	struct buf *problems;
	/* Called after each value was set; may be NULL. ERR_NOMEM. */
	enum err_code (*on_set)(struct schema_fill *fill, size_t row,
				const struct ini_item *item, struct err *e);
	void *arg; /* for on_set */
};
enum err_code schema_on_item(void *arg, const struct ini_item *item,
			     struct err *e);

#endif
