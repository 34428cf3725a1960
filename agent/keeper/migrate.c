#include "agent/keeper/migrate.h"

#include <stdio.h>

static const char *const steps[MIGRATE_VERSION] = {
	/* 1: what makes locating and transfers quicker */
	"CREATE TABLE IF NOT EXISTS host (name TEXT PRIMARY KEY,"
	" rung INTEGER NOT NULL, form INTEGER NOT NULL, seen INTEGER NOT NULL)"
	" STRICT, WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS text (key TEXT PRIMARY KEY,"
	" value BLOB NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS search (name TEXT PRIMARY KEY,"
	" since INTEGER NOT NULL) STRICT, WITHOUT ROWID;",

	/* 2: the service: jobs, what was done and why, what is to be told */
	"CREATE TABLE job (name TEXT PRIMARY KEY,"
	" deployment TEXT NOT NULL, title TEXT NOT NULL,"
	" required INTEGER NOT NULL, in_policy INTEGER NOT NULL,"
	" priority INTEGER NOT NULL, available INTEGER NOT NULL,"
	" deadline INTEGER NOT NULL, hash TEXT NOT NULL,"
	" first_seen INTEGER NOT NULL, here INTEGER NOT NULL,"
	" tries INTEGER NOT NULL, failed INTEGER NOT NULL,"
	" delay INTEGER NOT NULL, search INTEGER NOT NULL,"
	" given_up INTEGER NOT NULL, last INTEGER NOT NULL,"
	" error TEXT NOT NULL, error_text TEXT NOT NULL,"
	" path TEXT NOT NULL, arrived INTEGER NOT NULL,"
	" gone INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE INDEX job_gone ON job (gone) WHERE gone > 0;"

	"CREATE TABLE transfer (id INTEGER PRIMARY KEY, name TEXT NOT NULL,"
	" began INTEGER NOT NULL, duration_ms INTEGER NOT NULL,"
	" result TEXT NOT NULL, origin TEXT NOT NULL, kind TEXT NOT NULL,"
	" host TEXT NOT NULL, received INTEGER NOT NULL,"
	" resumed INTEGER NOT NULL, total INTEGER NOT NULL,"
	" error TEXT NOT NULL, error_text TEXT NOT NULL) STRICT;"
	"CREATE INDEX transfer_name ON transfer (name, id);"
	"CREATE TABLE attempt (transfer INTEGER NOT NULL"
	" REFERENCES transfer ON DELETE CASCADE, number INTEGER NOT NULL,"
	" kind TEXT NOT NULL, host TEXT NOT NULL, url TEXT NOT NULL,"
	" error TEXT NOT NULL, error_text TEXT NOT NULL,"
	" received INTEGER NOT NULL, duration_ms INTEGER NOT NULL,"
	" PRIMARY KEY (transfer, number)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE hook (transfer INTEGER NOT NULL"
	" REFERENCES transfer ON DELETE CASCADE, number INTEGER NOT NULL,"
	" program TEXT NOT NULL, status INTEGER NOT NULL, text TEXT NOT NULL,"
	" PRIMARY KEY (transfer, number)) STRICT, WITHOUT ROWID;"

	"CREATE TABLE decision (name TEXT PRIMARY KEY, at INTEGER NOT NULL,"
	" management_point TEXT NOT NULL, error TEXT NOT NULL,"
	" error_text TEXT NOT NULL, sources INTEGER NOT NULL)"
	" STRICT, WITHOUT ROWID;"
	"CREATE INDEX decision_at ON decision (at, sources);"
	"CREATE TABLE source (name TEXT NOT NULL"
	" REFERENCES decision ON DELETE CASCADE, rank INTEGER NOT NULL,"
	" usable INTEGER NOT NULL, kind TEXT NOT NULL, host TEXT NOT NULL,"
	" url TEXT NOT NULL, locality TEXT NOT NULL, reason TEXT NOT NULL,"
	" PRIMARY KEY (name, rank)) STRICT, WITHOUT ROWID;"

	"CREATE TABLE absent (host TEXT NOT NULL, name TEXT NOT NULL,"
	" at INTEGER NOT NULL, PRIMARY KEY (host, name)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE ill (host TEXT PRIMARY KEY, at INTEGER NOT NULL)"
	" STRICT, WITHOUT ROWID;"

	"CREATE TABLE traffic (hour INTEGER NOT NULL, kind TEXT NOT NULL,"
	" bytes INTEGER NOT NULL, PRIMARY KEY (hour, kind))"
	" STRICT, WITHOUT ROWID;"
	"CREATE TABLE total (what TEXT NOT NULL, kind TEXT NOT NULL,"
	" value INTEGER NOT NULL, PRIMARY KEY (what, kind))"
	" STRICT, WITHOUT ROWID;"

	"CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" at INTEGER NOT NULL, topic TEXT NOT NULL, state INTEGER NOT NULL,"
	" details TEXT NOT NULL) STRICT;",
};

static int first_number(sqlite3 *db, const char *sql, int64_t *out)
{
	sqlite3_stmt *s = NULL;
	int code = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_step(s);
	if (code == SQLITE_ROW) {
		*out = sqlite3_column_int64(s, 0);
		code = SQLITE_OK;
	}
	sqlite3_finalize(s);
	return code;
}

/* Step `n`, unless somebody else has done it since we looked. */
static int take_step(sqlite3 *db, int64_t n)
{
	char mark[64];
	int64_t now = 0;
	int code = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
	if (code != SQLITE_OK)
		return code;
	snprintf(mark, sizeof(mark), "PRAGMA user_version = %lld;", (long long)n);
	code = first_number(db, "PRAGMA user_version", &now);
	if (code == SQLITE_OK && now < n)
		code = sqlite3_exec(db, steps[n - 1], NULL, NULL, NULL);
	if (code == SQLITE_OK && now < n)
		code = sqlite3_exec(db, mark, NULL, NULL, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
	if (!sqlite3_get_autocommit(db))
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	return code;
}

int migrate_run(sqlite3 *db, int64_t version)
{
	int code = SQLITE_OK;
	while (code == SQLITE_OK && version < MIGRATE_VERSION)
		code = take_step(db, ++version);
	return code;
}

/* Is each thing of the model in the file, word by word? More may be there. */
static int compare(sqlite3 *model, sqlite3 *db)
{
	sqlite3_stmt *want = NULL, *have = NULL;
	int code = sqlite3_prepare_v2(model, "SELECT name, sql FROM sqlite_schema"
				      " WHERE sql IS NOT NULL", -1, &want, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_prepare_v2(db, "SELECT 1 FROM sqlite_schema"
					  " WHERE name = ?1 AND sql = ?2", -1,
					  &have, NULL);
	while (code == SQLITE_OK && (code = sqlite3_step(want)) == SQLITE_ROW) {
		sqlite3_bind_value(have, 1, sqlite3_column_value(want, 0));
		sqlite3_bind_value(have, 2, sqlite3_column_value(want, 1));
		code = sqlite3_step(have);
		if (code == SQLITE_DONE)
			code = SQLITE_CORRUPT;
		else if (code == SQLITE_ROW)
			code = sqlite3_reset(have);
	}
	sqlite3_finalize(want);
	sqlite3_finalize(have);
	return code == SQLITE_DONE ? SQLITE_OK : code;
}

int migrate_check(sqlite3 *db)
{
	sqlite3 *model = NULL;
	int code = sqlite3_open_v2(":memory:", &model,
				   SQLITE_OPEN_READWRITE | SQLITE_OPEN_MEMORY |
					   SQLITE_OPEN_NOMUTEX, NULL);
	for (int i = 0; code == SQLITE_OK && i < MIGRATE_VERSION; i++)
		code = sqlite3_exec(model, steps[i], NULL, NULL, NULL);
	if (code == SQLITE_OK)
		code = compare(model, db);
	sqlite3_close(model);
	return code;
}
