#ifndef AGENT_KEEPER_MIGRATE_H
#define AGENT_KEEPER_MIGRATE_H

#include <stdbool.h>
#include <stdint.h>

#include <sqlite3.h>

/*
 * The tables of state.db, as the steps that led to them: step n makes version n
 * of version n-1, and `user_version` says which one a file has. What was released
 * once is never edited: a change is one more step.
 */
#define MIGRATE_VERSION 2

/*
 * Bring a file of that version (0 = empty) forward, each step in a transaction of
 * its own. Another agent may be doing the same: who comes second finds it done.
 * Returns a code of SQLite.
 */
int migrate_run(sqlite3 *db, int64_t version);

/* Are all tables there, just as the steps make them? SQLITE_OK, SQLITE_CORRUPT,
 * or a code. */
int migrate_check(sqlite3 *db);

#endif
