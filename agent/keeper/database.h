#ifndef AGENT_KEEPER_DATABASE_H
#define AGENT_KEEPER_DATABASE_H

#include "common/err.h"
#include "common/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sqlite3.h>

/*
 * state/state.db: opening, statements, transactions. For record, ledger and outbox,
 * which hold the statements. `user_version` is the schema (keeper/migrate); an older
 * one is brought forward; an unknown newer one is ERR_FOLDER; a broken file is set
 * aside as state.db.broken-<time> (the newest DATABASE_BROKEN of them stay) and a
 * new one begun. A handle must not be carried across fork().
 *
 * Looking for damage reads the whole file. One of up to DATABASE_SMALL bytes is
 * looked at each time; a larger one once a day, after a boot, and after any error
 * that damage could explain (state.db.checked holds when it was done last).
 */
#define DATABASE_BROKEN 3
#define DATABASE_SMALL (4 << 20)
#define DATABASE_CHECK_S 86400

struct database; /* one open file with its prepared statements */

struct database *database_open(const char *directory, struct err *e);
void database_close(struct database *d); /* NULL is fine */

/* The statement of that text, prepared once and kept, without values; NULL with
 * *e. `sql` is a literal: its address is the key. */
sqlite3_stmt *database_statement(struct database *d, const char *sql,
				 struct err *e);
/* Step a statement that returns no rows, and reset it. */
enum err_code database_run(struct database *d, sqlite3_stmt *s, struct err *e);
/* Reset after reading rows; the code that reading ended with. */
enum err_code database_end(struct database *d, sqlite3_stmt *s, struct err *e);

/*
 * All or nothing, and much quicker for many. Nested ones join the outer one: an
 * inner rollback undoes everything, and the outer commit then is an error. After a
 * commit that failed nothing is left to roll back.
 */
enum err_code database_begin(struct database *d, struct err *e);
enum err_code database_commit(struct database *d, struct err *e);
void database_rollback(struct database *d);
/* Commit where rc is ERR_OK, else roll back and return rc. */
enum err_code database_finish(struct database *d, enum err_code rc,
			      struct err *e);

/*
 * Values. Texts are kept as well-formed UTF-8 of at most `most` bytes: bytes that
 * are none become '?', and the cut is between characters. Numbers beyond INT64_MAX
 * are kept as that. An error takes two columns, its name and its text;
 * retry_after_s is not kept, and a name that this agent does not know reads as
 * ERR_INTERNAL.
 */
size_t database_clean(struct span text, size_t most, char *out); /* and a NUL */
void database_bind_text(sqlite3_stmt *s, int at, const char *text, size_t most);
void database_bind_number(sqlite3_stmt *s, int at, uint64_t number);
void database_bind_err(sqlite3_stmt *s, int at, const struct err *e);

/* Columns, from 0; text that does not fit is cut between characters. */
void database_get_text(sqlite3_stmt *s, int at, char *out, size_t size);
uint64_t database_get_number(sqlite3_stmt *s, int at); /* never negative */
void database_get_err(sqlite3_stmt *s, int at, struct err *out);
enum err_code database_err_code(const char *name); /* of err_name */

#endif
