#include "agent/keeper/record.h"

#include "common/clock.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/own.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <sqlite3.h>

#define FILE_NAME "state.db"
#define SCHEMA 1
#define BUSY_MS 5000
#define ROWS_MAX 1000 /* of hosts and of searches: the newest ones stay */
#define TEXT_MAX (1 << 20)

enum statement {
	GET_HOST,
	SET_HOST,
	GET_TEXT,
	SET_TEXT,
	BEGIN_SEARCH,
	GET_SEARCH,
	END_SEARCH,
	STATEMENT_COUNT
};

static const char *const statements[STATEMENT_COUNT] = {
	[GET_HOST] = "SELECT rung, form FROM host WHERE name = ?1",
	[SET_HOST] = "REPLACE INTO host (name, rung, form, seen)"
		     " VALUES (?1, ?2, ?3, ?4)",
	[GET_TEXT] = "SELECT value FROM text WHERE key = ?1",
	[SET_TEXT] = "REPLACE INTO text (key, value) VALUES (?1, ?2)",
	[BEGIN_SEARCH] = "INSERT OR IGNORE INTO search (name, since)"
			 " VALUES (?1, ?2)",
	[GET_SEARCH] = "SELECT since FROM search WHERE name = ?1",
	[END_SEARCH] = "DELETE FROM search WHERE name = ?1",
};

static const char schema[] =
	"CREATE TABLE IF NOT EXISTS host (name TEXT PRIMARY KEY,"
	" rung INTEGER NOT NULL, form INTEGER NOT NULL, seen INTEGER NOT NULL)"
	" STRICT, WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS text (key TEXT PRIMARY KEY,"
	" value BLOB NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS search (name TEXT PRIMARY KEY,"
	" since INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
	"PRAGMA user_version = 1;";

/* What nobody has asked for in a long time. */
static const char prune[] =
	"DELETE FROM host WHERE name NOT IN"
	" (SELECT name FROM host ORDER BY seen DESC LIMIT 1000);"
	"DELETE FROM search WHERE name NOT IN"
	" (SELECT name FROM search ORDER BY since DESC LIMIT 1000);";

struct record {
	sqlite3 *db;                             /* owned */
	sqlite3_stmt *prepared[STATEMENT_COUNT]; /* owned */
};

void record_close(struct record *r)
{
	if (r == NULL)
		return;
	for (int i = 0; i < STATEMENT_COUNT; i++)
		sqlite3_finalize(r->prepared[i]);
	sqlite3_close(r->db);
	free(r);
}

/* --- opening -------------------------------------------------------------- */

/* A code of SQLite that says: these bytes are no good database. */
static bool is_broken(int code)
{
	code &= 0xff;
	return code == SQLITE_CORRUPT || code == SQLITE_NOTADB ||
	       code == SQLITE_FORMAT || code == SQLITE_ERROR ||
	       code == SQLITE_SCHEMA || code == SQLITE_MISMATCH;
}

static enum err_code fail(int code, const char *what, struct err *e)
{
	enum err_code rc = (code & 0xff) == SQLITE_NOMEM ? ERR_NOMEM :
			   (code & 0xff) == SQLITE_FULL	 ? ERR_SPACE_DISK :
							   ERR_FOLDER;
	return err_set(e, rc, "%s " FILE_NAME ": %s", what, sqlite3_errstr(code));
}

/* The first column of the first row: a number, or for `text` whether it is
 * that text. SQLITE_OK, or a code. */
static int ask(sqlite3 *db, const char *sql, const char *text, int64_t *out)
{
	sqlite3_stmt *s = NULL;
	int code = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_step(s);
	if (code == SQLITE_ROW) {
		const char *got = (const char *)sqlite3_column_text(s, 0);
		*out = text ? got && strcmp(got, text) == 0 :
			      sqlite3_column_int64(s, 0);
		code = SQLITE_OK;
	} else if (code == SQLITE_DONE) {
		code = SQLITE_CORRUPT; /* these questions have an answer */
	}
	sqlite3_finalize(s);
	return code;
}

/* Another agent may be doing the same: so all of it, or nothing. */
static int make_schema(sqlite3 *db)
{
	int code = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_exec(db, schema, NULL, NULL, NULL);
	return code == SQLITE_OK ? sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) :
				   code;
}

/* Writing means waiting for others: only when there is something to do. */
static int prune_rows(sqlite3 *db)
{
	int64_t rows = 0;
	int code = ask(db, "SELECT max((SELECT count(*) FROM host),"
			   " (SELECT count(*) FROM search))", NULL, &rows);
	return code == SQLITE_OK && rows > ROWS_MAX ?
		       sqlite3_exec(db, prune, NULL, NULL, NULL) : code;
}

/*
 * Everything between the open file and the first question to it. *is_bad: the
 * file is broken and another try with a new one makes sense.
 */
static enum err_code set_up(struct record *r, bool *is_bad, struct err *e)
{
	int64_t version = 0, is_sound = 0;
	sqlite3_busy_timeout(r->db, BUSY_MS);
	int code = sqlite3_exec(r->db, "PRAGMA trusted_schema = OFF;"
				"PRAGMA synchronous = NORMAL;", NULL, NULL, NULL);
	if (code == SQLITE_OK) /* it stays so: whoever comes first does it */
		code = sqlite3_exec(r->db, "PRAGMA journal_mode = WAL", NULL, NULL,
				    NULL);
	if (code == SQLITE_OK || code == SQLITE_BUSY)
		code = ask(r->db, "PRAGMA user_version", NULL, &version);
	if (code == SQLITE_OK && version > SCHEMA)
		return err_set(e, ERR_FOLDER, FILE_NAME " has version %lld, this "
			       "agent knows versions up to %d: it was written by a "
			       "newer agent", (long long)version, SCHEMA);
	if (code == SQLITE_OK)
		code = ask(r->db, "PRAGMA quick_check(1)", "ok", &is_sound);
	if (code == SQLITE_OK && (!is_sound || version < 0))
		code = SQLITE_CORRUPT;
	if (code == SQLITE_OK && version == 0)
		code = make_schema(r->db);
	for (int i = 0; code == SQLITE_OK && i < STATEMENT_COUNT; i++)
		code = sqlite3_prepare_v3(r->db, statements[i], -1,
					  SQLITE_PREPARE_PERSISTENT,
					  &r->prepared[i], NULL);
	if (code == SQLITE_OK)
		code = prune_rows(r->db);
	*is_bad = is_broken(code);
	return code == SQLITE_OK ? ERR_OK : fail(code, "open", e);
}

static struct record *open_at(const char *path, bool *is_bad, struct err *e)
{
	struct record *r = calloc(1, sizeof(*r));
	*is_bad = false;
	if (r == NULL) {
		err_set(e, ERR_NOMEM, "open " FILE_NAME ": no memory");
		return NULL;
	}
	int code = sqlite3_open_v2(path, &r->db,
				   SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
					   SQLITE_OPEN_NOFOLLOW, NULL);
	*is_bad = is_broken(code);
	if (code != SQLITE_OK)
		fail(code, "open", e);
	else if (set_up(r, is_bad, e) == ERR_OK)
		return r;
	record_close(r);
	return NULL;
}

/* A broken database is kept for whoever wants to know, with its log. */
static enum err_code set_aside(int dir_fd, struct err *e)
{
	char name[64], log_name[80];
	snprintf(name, sizeof(name), FILE_NAME ".broken-%lld",
		 (long long)clock_wall_s());
	snprintf(log_name, sizeof(log_name), "%s-wal", name);
	if (renameat(dir_fd, FILE_NAME, dir_fd, name) != 0 ||
	    (renameat(dir_fd, FILE_NAME "-wal", dir_fd, log_name) != 0 &&
	     errno != ENOENT) ||
	    (unlinkat(dir_fd, FILE_NAME "-shm", 0) != 0 && errno != ENOENT))
		return err_set(e, ERR_FOLDER, "set the broken " FILE_NAME
			       " aside: %m");
	log_warning("agent", FILE_NAME " is broken (%s): it is kept as %s, and a "
		    "new one begun", e->text, name);
	return ERR_OK;
}

/* SQLite would make it with whatever the umask leaves, and follow links. */
static enum err_code make_file(int dir_fd, struct err *e)
{
	autofd fd = fs_open_at(dir_fd, FILE_NAME, O_RDWR | O_CREAT | O_NOFOLLOW,
			       0600, e);
	struct stat st;
	if (fd < 0)
		return e->code;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return err_set(e, ERR_FOLDER, FILE_NAME " is not a file");
	return ERR_OK;
}

/* The folder, and its path without links: SQLite is told to follow none. */
static int open_folder(const char *directory, char **path, struct err *e)
{
	autofd fd = fs_open_root(directory, 0700, e);
	if (fd < 0)
		return -1;
	*path = realpath(directory, NULL);
	if (*path == NULL) {
		err_set(e, ERR_FOLDER, "open folder %.200s: %m", directory);
		return -1;
	}
	return take_fd(&fd);
}

struct record *record_open(const char *directory, struct err *e)
{
	struct err own = { 0 };
	autofree char *folder = NULL;
	char path[PATH_MAX];
	struct record *r = NULL;
	bool is_bad = false;
	autofd fd = open_folder(directory, &folder, &own);
	if (fd >= 0 && strlen(folder) + sizeof("/" FILE_NAME) > sizeof(path))
		err_set(&own, ERR_FOLDER, "%.200s: the path is too long", folder);
	else if (fd >= 0)
		snprintf(path, sizeof(path), "%s/" FILE_NAME, folder);
	if (own.code == ERR_OK && make_file(fd, &own) == ERR_OK)
		r = open_at(path, &is_bad, &own);
	if (is_bad && set_aside(fd, &own) == ERR_OK && make_file(fd, &own) == ERR_OK)
		r = open_at(path, &is_bad, &own);
	if (r == NULL)
		err_set(e, own.code, "state folder %.200s: %s", directory, own.text);
	return r;
}

/* --- statements ----------------------------------------------------------- */

static sqlite3_stmt *begin(struct record *r, enum statement which,
			   const char *key)
{
	sqlite3_stmt *s = r->prepared[which];
	sqlite3_reset(s);
	sqlite3_clear_bindings(s);
	sqlite3_bind_text(s, 1, key, -1, SQLITE_TRANSIENT);
	return s;
}

/* Frees the lock on the file as well; prepared statements live on. */
static int end(sqlite3_stmt *s)
{
	int code = sqlite3_reset(s);
	sqlite3_clear_bindings(s);
	return code;
}

static enum err_code run(sqlite3_stmt *s, struct err *e)
{
	sqlite3_step(s);
	int code = end(s);
	return code == SQLITE_OK ? ERR_OK : fail(code, "write to", e);
}

bool record_get_host(struct record *r, const char *host, enum wire_rung *rung,
		     enum wire_form *form)
{
	sqlite3_stmt *s = begin(r, GET_HOST, host);
	bool is_known = false;
	if (sqlite3_step(s) == SQLITE_ROW) {
		int64_t a = sqlite3_column_int64(s, 0);
		int64_t b = sqlite3_column_int64(s, 1);
		is_known = a >= 0 && a < WIRE_RUNG_COUNT && b >= 0 &&
			   b < WIRE_FORM_COUNT;
		if (is_known) {
			*rung = (enum wire_rung)a;
			*form = (enum wire_form)b;
		}
	}
	end(s);
	return is_known;
}

enum err_code record_set_host(struct record *r, const char *host,
			      enum wire_rung rung, enum wire_form form,
			      struct err *e)
{
	sqlite3_stmt *s = begin(r, SET_HOST, host);
	sqlite3_bind_int64(s, 2, rung);
	sqlite3_bind_int64(s, 3, form);
	sqlite3_bind_int64(s, 4, clock_wall_s());
	return run(s, e);
}

void record_get_text(struct record *r, const char *key, struct buf *out)
{
	buf_clear(out);
	sqlite3_stmt *s = begin(r, GET_TEXT, key);
	if (sqlite3_step(s) == SQLITE_ROW) {
		const void *bytes = sqlite3_column_blob(s, 0);
		int len = sqlite3_column_bytes(s, 0);
		if (bytes && len > 0)
			buf_add(out, bytes, (size_t)len);
	}
	end(s);
	if (out->failed)
		buf_clear(out);
}

enum err_code record_set_text(struct record *r, const char *key,
			      struct span value, struct err *e)
{
	if (value.len > TEXT_MAX)
		return err_set(e, ERR_INTERNAL, "keep %s: %zu bytes are too many",
			       key, value.len);
	sqlite3_stmt *s = begin(r, SET_TEXT, key);
	sqlite3_bind_blob(s, 2, value.len ? value.at : "", (int)value.len,
			  SQLITE_TRANSIENT);
	return run(s, e);
}

int64_t record_search_since(struct record *r, const char *name, int64_t now_s)
{
	int64_t since = now_s;
	sqlite3_stmt *s = begin(r, BEGIN_SEARCH, name);
	sqlite3_bind_int64(s, 2, now_s);
	run(s, NULL);
	s = begin(r, GET_SEARCH, name);
	if (sqlite3_step(s) == SQLITE_ROW)
		since = sqlite3_column_int64(s, 0);
	end(s);
	/* The clock was put back since: no search has a negative age. */
	return since < 0 || since > now_s ? now_s : since;
}

void record_search_done(struct record *r, const char *name)
{
	run(begin(r, END_SEARCH, name), NULL);
}

/* --- the client's id ------------------------------------------------------ */

#define ID_FILE "client-id"
#define ID_PREFIX "GUID:"
#define ID_SIZE (sizeof(ID_PREFIX) + 36)

/* "GUID:" and 8-4-4-4-12 hex digits; what follows must be line ends. */
static bool take_id(struct span text, char out[ID_SIZE])
{
	text = span_trim(text);
	if (text.len != ID_SIZE - 1 || memcmp(text.at, ID_PREFIX, 5) != 0)
		return false;
	for (size_t i = 5; i < text.len; i++) {
		bool is_dash = i == 13 || i == 18 || i == 23 || i == 28;
		if (is_dash ? text.at[i] != '-' :
			      !text.at[i] ||
				      !strchr("0123456789abcdefABCDEF", text.at[i]))
			return false;
	}
	memcpy(out, text.at, text.len);
	out[text.len] = '\0';
	return true;
}

/* RFC 9562 s5.4: 122 random bits, version 4, variant 10. */
static enum err_code make_id(char out[ID_SIZE], struct err *e)
{
	unsigned char b[16];
	if (getrandom(b, sizeof(b), 0) != (ssize_t)sizeof(b))
		return err_set(e, ERR_INTERNAL, "make a client id: %m");
	b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
	b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
	size_t at = (size_t)snprintf(out, ID_SIZE, ID_PREFIX);
	for (size_t i = 0; i < sizeof(b); i++) {
		bool is_group = i == 4 || i == 6 || i == 8 || i == 10;
		at += (size_t)snprintf(out + at, ID_SIZE - at, "%s%02X",
				       is_group ? "-" : "", b[i]);
	}
	return ERR_OK;
}

/* ERR_OK with an empty id: there is none, or none that could be one. */
static enum err_code read_id(int dir_fd, char id[ID_SIZE], struct err *e)
{
	autobuf text = { .max = 4096 };
	struct err own = { 0 };
	id[0] = '\0';
	autofd fd = fs_open_at(dir_fd, ID_FILE, O_RDONLY | O_NOFOLLOW, 0, &own);
	if (fd < 0)
		return errno == ENOENT ? ERR_OK : err_set(e, own.code, "%s", own.text);
	if (fs_read_fd(fd, ID_FILE, &text, &own) == ERR_OK &&
	    take_id(buf_as_span(&text), id))
		return ERR_OK;
	log_warning("agent", ID_FILE " of the state folder holds no client id%s%s: "
		    "a new one is made", own.text[0] ? ": " : "", own.text);
	return ERR_OK;
}

static enum err_code keep_id(const char *directory, char id[ID_SIZE],
			     struct err *e)
{
	char line[ID_SIZE + 1];
	autofd fd = fs_open_root(directory, 0700, e);
	if (fd < 0)
		return e->code;
	enum err_code rc = read_id(fd, id, e);
	if (rc != ERR_OK || id[0])
		return rc;
	if ((rc = make_id(id, e)) != ERR_OK)
		return rc;
	int len = snprintf(line, sizeof(line), "%s\n", id);
	rc = fs_replace(fd, ID_FILE, line, (size_t)len, 0600, e);
	/* Two agents may begin at once: both go by what lies there. */
	if (rc == ERR_OK)
		rc = read_id(fd, id, e);
	return rc == ERR_OK && !id[0] ?
		       err_set(e, ERR_FOLDER, ID_FILE " does not keep what is "
			       "written to it") : rc;
}

char *record_client_id(const char *directory, const char *configured,
		       struct err *e)
{
	char id[ID_SIZE] = "";
	struct err own = { 0 };
	bool is_configured = configured && configured[0];
	if (!is_configured && keep_id(directory, id, &own) != ERR_OK) {
		err_set(e, own.code, "state folder %.200s: %s", directory, own.text);
		return NULL;
	}
	char *copy = strdup(is_configured ? configured : id);
	if (copy == NULL)
		err_set(e, ERR_NOMEM, "keep the client id: no memory");
	return copy;
}
