#include "agent/keeper/database.h"

#include "agent/keeper/migrate.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/own.h"
#include "common/utf8.h"
#include "policy/value.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define FILE_NAME "state.db"
#define BROKEN_PREFIX FILE_NAME ".broken-"
#define CHECKED_NAME FILE_NAME ".checked"
#define BUSY_MS 5000
#define TEXT_MAX 1024 /* of one value */

struct prepared {
	const char *sql;    /* borrowed: a literal */
	sqlite3_stmt *stmt; /* owned */
};

struct database {
	sqlite3 *db;   /* owned */
	int dir_fd;    /* owned; the state folder */
	struct prepared *items; /* owned */
	size_t count, room;
	unsigned depth; /* of transactions */
	bool is_undone; /* an inner one was rolled back */
};

void database_close(struct database *d)
{
	if (d == NULL)
		return;
	for (size_t i = 0; i < d->count; i++)
		sqlite3_finalize(d->items[i].stmt);
	free(d->items);
	/* The last one out copies the log into the file and removes it. */
	sqlite3_close(d->db);
	own_close(&d->dir_fd);
	free(d);
}

/* --- what codes mean ------------------------------------------------------ */

/* A code of SQLite that says: these bytes are no good database. */
static bool is_broken(int code)
{
	if (code == SQLITE_IOERR_READ || code == SQLITE_IOERR_CORRUPTFS)
		return true; /* nor can they be read */
	code &= 0xff;
	return code == SQLITE_CORRUPT || code == SQLITE_NOTADB ||
	       code == SQLITE_FORMAT || code == SQLITE_ERROR ||
	       code == SQLITE_SCHEMA || code == SQLITE_MISMATCH;
}

static enum err_code fail(struct database *d, int code, const char *what,
			  struct err *e)
{
	int cause = d->db ? sqlite3_system_errno(d->db) : 0;
	bool is_full = (code & 0xff) == SQLITE_FULL ||
		       ((code & 0xff) == SQLITE_IOERR &&
			(cause == ENOSPC || cause == EDQUOT));
	enum err_code rc = (code & 0xff) == SQLITE_NOMEM ? ERR_NOMEM :
			   is_full			 ? ERR_SPACE_DISK :
							   ERR_FOLDER;
	/* Damage may be behind it: whoever opens it next looks. */
	if (is_broken(code) && unlinkat(d->dir_fd, CHECKED_NAME, 0) != 0 &&
	    errno != ENOENT)
		log_warning("agent", "remove " CHECKED_NAME ": %m");
	return err_set(e, rc, "%s " FILE_NAME ": %s", what, sqlite3_errstr(code));
}

/* --- looking for damage --------------------------------------------------- */

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

static bool is_small(int dir_fd)
{
	struct stat st;
	return fstatat(dir_fd, FILE_NAME, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	       st.st_size <= DATABASE_SMALL;
}

/* Since a look that found nothing: a day is over, the machine went down, a clock
 * went back? */
static bool is_check_due(int dir_fd)
{
	autobuf text = { .max = 64 };
	uint64_t at = 0;
	int64_t now = clock_wall_s(), up = clock_now_ms() / 1000;
	if (is_small(dir_fd))
		return true;
	autofd fd = fs_open_at(dir_fd, CHECKED_NAME, O_RDONLY | O_NOFOLLOW, 0, NULL);
	if (fd < 0 || fs_read_fd(fd, CHECKED_NAME, &text, NULL) != ERR_OK ||
	    !value_number(span_trim(buf_as_span(&text)), &at))
		return true;
	int64_t age = now - (int64_t)at;
	return age < 0 || age >= DATABASE_CHECK_S || age >= up;
}

/* A file that once was much larger is made small again. */
static int shrink(sqlite3 *db)
{
	int64_t pages = 0, unused = 0;
	int code = ask(db, "PRAGMA page_count", NULL, &pages);
	if (code == SQLITE_OK)
		code = ask(db, "PRAGMA freelist_count", NULL, &unused);
	if (code != SQLITE_OK || pages < 1024 || unused * 2 < pages)
		return code;
	code = sqlite3_exec(db, "VACUUM", NULL, NULL, NULL);
	return is_broken(code) ? code : SQLITE_OK; /* full, busy: another day */
}

static int check(struct database *d)
{
	int64_t is_sound = 0;
	int code = ask(d->db, "PRAGMA quick_check(1)", "ok", &is_sound);
	if (code == SQLITE_OK && !is_sound)
		code = SQLITE_CORRUPT;
	if (code == SQLITE_OK)
		code = migrate_check(d->db);
	if (code != SQLITE_OK || is_small(d->dir_fd))
		return code;
	char line[32];
	struct err e = { 0 };
	int len = snprintf(line, sizeof(line), "%lld\n", (long long)clock_wall_s());
	if (fs_replace(d->dir_fd, CHECKED_NAME, line, (size_t)len, 0600, &e) !=
	    ERR_OK)
		log_debug("agent", "%s: " FILE_NAME " is looked at again next time",
			  e.text);
	return shrink(d->db);
}

/* --- opening -------------------------------------------------------------- */

/*
 * Everything between the open file and the first question to it. *is_bad: the
 * file is broken and another try with a new one makes sense.
 */
static enum err_code set_up(struct database *d, bool *is_bad, struct err *e)
{
	int64_t version = 0, is_sound = 1;
	sqlite3_extended_result_codes(d->db, 1);
	sqlite3_busy_timeout(d->db, BUSY_MS);
	int code = sqlite3_exec(d->db, "PRAGMA trusted_schema = OFF;"
				"PRAGMA synchronous = NORMAL;"
				"PRAGMA foreign_keys = ON;"
				"PRAGMA temp_store = MEMORY;"
				"PRAGMA journal_size_limit = 1048576;",
				NULL, NULL, NULL);
	if (code == SQLITE_OK) /* it stays so: whoever comes first does it */
		code = sqlite3_exec(d->db, "PRAGMA journal_mode = WAL", NULL, NULL,
				    NULL);
	if (code == SQLITE_OK || (code & 0xff) == SQLITE_BUSY)
		code = ask(d->db, "PRAGMA user_version", NULL, &version);
	if (code == SQLITE_OK && version > MIGRATE_VERSION)
		return err_set(e, ERR_FOLDER, FILE_NAME " has version %lld, this "
			       "agent knows versions up to %d: it was written by a "
			       "newer agent", (long long)version, MIGRATE_VERSION);
	/* We may write to the file: if SQLite may not, its head is damaged. */
	if (code == SQLITE_OK && (version < 0 || sqlite3_db_readonly(d->db, NULL)))
		code = SQLITE_CORRUPT;
	bool is_old = version < MIGRATE_VERSION;
	if (code == SQLITE_OK && is_old)
		code = ask(d->db, "PRAGMA quick_check(1)", "ok", &is_sound);
	if (code == SQLITE_OK && is_old)
		code = is_sound ? migrate_run(d->db, version) : SQLITE_CORRUPT;
	if (code == SQLITE_OK && (is_old || is_check_due(d->dir_fd)))
		code = check(d);
	*is_bad = is_broken(code);
	return code == SQLITE_OK ? ERR_OK : fail(d, code, "open", e);
}

static struct database *open_at(int dir_fd, const char *path, bool *is_bad,
				struct err *e)
{
	struct database *d = calloc(1, sizeof(*d));
	*is_bad = false;
	if (d == NULL) {
		err_set(e, ERR_NOMEM, "open " FILE_NAME ": no memory");
		return NULL;
	}
	d->dir_fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);
	if (d->dir_fd < 0) {
		err_set(e, ERR_FOLDER, "open " FILE_NAME ": %m");
		database_close(d);
		return NULL;
	}
	int code = sqlite3_open_v2(path, &d->db,
				   SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
					   SQLITE_OPEN_NOFOLLOW, NULL);
	*is_bad = is_broken(code);
	if (code != SQLITE_OK)
		fail(d, code, "open", e);
	else if (set_up(d, is_bad, e) == ERR_OK)
		return d;
	database_close(d);
	return NULL;
}

/* --- a broken file -------------------------------------------------------- */

/* The file of the oldest name, and how many there are without their logs. */
static size_t oldest_broken(int dir_fd, char out[NAME_MAX + 1])
{
	size_t count = 0;
	int fd = fs_enter(dir_fd, ".", false);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	if (dir == NULL && fd >= 0)
		close(fd);
	while (dir && (entry = readdir(dir)) != NULL) {
		const char *name = entry->d_name;
		size_t len = strlen(name);
		if (strncmp(name, BROKEN_PREFIX, sizeof(BROKEN_PREFIX) - 1) != 0 ||
		    (len > 4 && strcmp(name + len - 4, "-wal") == 0))
			continue;
		if (count++ == 0 || strcmp(name, out) < 0)
			memcpy(out, name, len + 1);
	}
	if (dir)
		closedir(dir);
	return count;
}

/* A disk that goes bad must not fill itself with them. */
static void forget_broken(int dir_fd)
{
	char name[NAME_MAX + 1], log_name[NAME_MAX + 8];
	while (oldest_broken(dir_fd, name) > DATABASE_BROKEN) {
		snprintf(log_name, sizeof(log_name), "%s-wal", name);
		unlinkat(dir_fd, log_name, 0); /* often there is none */
		if (unlinkat(dir_fd, name, 0) != 0) {
			log_warning("agent", "remove %s: %m", name);
			return;
		}
	}
}

/* Kept for whoever wants to know, with its log. */
static enum err_code rename_broken(int dir_fd, struct err *e)
{
	char name[64], log_name[80];
	snprintf(name, sizeof(name), BROKEN_PREFIX "%lld",
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
	forget_broken(dir_fd);
	return ERR_OK;
}

/* Several agents may find it broken at once: one renames it, and the others must
 * not do the same to the new one. */
static enum err_code set_aside(int dir_fd, ino_t broken, struct err *e)
{
	struct stat st;
	if (flock(dir_fd, LOCK_EX) != 0)
		return err_set(e, ERR_FOLDER, "lock the state folder: %m");
	enum err_code rc = ERR_OK;
	if (fstatat(dir_fd, FILE_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_ino == broken)
		rc = rename_broken(dir_fd, e);
	flock(dir_fd, LOCK_UN);
	return rc;
}

/* An empty one where there is none: SQLite would make it with whatever the umask
 * leaves. */
static enum err_code make_missing(int dir_fd, struct err *e)
{
	struct stat st;
	if (fstatat(dir_fd, FILE_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0 ||
	    errno != ENOENT)
		return ERR_OK;
	autofd fd = fs_open_at(dir_fd, FILE_NAME, O_RDWR | O_CREAT | O_EXCL, 0600, e);
	return fd >= 0 || errno == EEXIST ? ERR_OK : e->code;
}

/*
 * Make sure of the file; *is_bad: a folder stands there. One that is there is only
 * looked at, never opened: closing it would let go of the locks of every other
 * handle of this process on it, and whoever closes next would take it for the last
 * one and remove the log under them (https://sqlite.org/howtocorrupt.html, 2.2).
 */
static enum err_code make_file(int dir_fd, ino_t *inode, bool *is_bad,
			       struct err *e)
{
	struct stat st = { 0 };
	enum err_code rc = make_missing(dir_fd, e);
	if (rc == ERR_OK && fstatat(dir_fd, FILE_NAME, &st, AT_SYMLINK_NOFOLLOW) != 0)
		rc = fs_fail(e, "open", FILE_NAME);
	*inode = st.st_ino;
	*is_bad = S_ISDIR(st.st_mode);
	if (rc != ERR_OK)
		return rc;
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_FOLDER, FILE_NAME " is not a file");
	if (st.st_nlink > 1)
		return err_set(e, ERR_FOLDER, FILE_NAME " has a second name (hard "
			       "link)");
	return faccessat(dir_fd, FILE_NAME, R_OK | W_OK, AT_EACCESS) == 0 ?
		       ERR_OK : fs_fail(e, "open", FILE_NAME);
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

struct database *database_open(const char *directory, struct err *e)
{
	struct err own = { 0 };
	autofree char *folder = NULL;
	char path[PATH_MAX];
	struct database *d = NULL;
	bool is_bad = false;
	ino_t inode = 0;
	autofd fd = open_folder(directory, &folder, &own);
	if (fd >= 0 && strlen(folder) + sizeof("/" FILE_NAME) > sizeof(path))
		err_set(&own, ERR_FOLDER, "%.200s: the path is too long", folder);
	else if (fd >= 0)
		snprintf(path, sizeof(path), "%s/" FILE_NAME, folder);
	if (own.code == ERR_OK && make_file(fd, &inode, &is_bad, &own) == ERR_OK)
		d = open_at(fd, path, &is_bad, &own);
	if (is_bad && set_aside(fd, inode, &own) == ERR_OK &&
	    make_file(fd, &inode, &is_bad, &own) == ERR_OK)
		d = open_at(fd, path, &is_bad, &own);
	if (d == NULL)
		err_set(e, own.code, "state folder %.200s: %s", directory, own.text);
	return d;
}

/* --- statements ----------------------------------------------------------- */

static struct prepared *add(struct database *d, struct err *e)
{
	if (d->count == d->room) {
		size_t room = d->room ? d->room * 2 : 32;
		void *more = reallocarray(d->items, room, sizeof(*d->items));
		if (more == NULL) {
			err_set(e, ERR_NOMEM, "no memory for %zu statements", room);
			return NULL;
		}
		d->items = more;
		d->room = room;
	}
	return &d->items[d->count];
}

sqlite3_stmt *database_statement(struct database *d, const char *sql,
				 struct err *e)
{
	for (size_t i = 0; i < d->count; i++) {
		if (d->items[i].sql != sql)
			continue;
		sqlite3_reset(d->items[i].stmt);
		sqlite3_clear_bindings(d->items[i].stmt);
		return d->items[i].stmt;
	}
	struct prepared *p = add(d, e);
	if (p == NULL)
		return NULL;
	*p = (struct prepared){ .sql = sql };
	int code = sqlite3_prepare_v3(d->db, sql, -1, SQLITE_PREPARE_PERSISTENT,
				      &p->stmt, NULL);
	if (code != SQLITE_OK) {
		fail(d, code, "read", e);
		return NULL;
	}
	d->count++;
	return p->stmt;
}

/* Frees the lock on the file as well; prepared statements live on. */
static enum err_code end(struct database *d, sqlite3_stmt *s, const char *what,
			 struct err *e)
{
	int code = sqlite3_reset(s);
	sqlite3_clear_bindings(s);
	return code == SQLITE_OK ? ERR_OK : fail(d, code, what, e);
}

enum err_code database_run(struct database *d, sqlite3_stmt *s, struct err *e)
{
	sqlite3_step(s);
	return end(d, s, "write to", e);
}

enum err_code database_end(struct database *d, sqlite3_stmt *s, struct err *e)
{
	return end(d, s, "read", e);
}

/* --- transactions --------------------------------------------------------- */

static enum err_code execute(struct database *d, const char *sql, struct err *e)
{
	int code = sqlite3_exec(d->db, sql, NULL, NULL, NULL);
	return code == SQLITE_OK ? ERR_OK : fail(d, code, "write to", e);
}

/* SQLite has done it by itself after some errors. */
static void roll_back(struct database *d)
{
	if (!sqlite3_get_autocommit(d->db))
		execute(d, "ROLLBACK", NULL);
}

enum err_code database_begin(struct database *d, struct err *e)
{
	enum err_code rc = ERR_OK;
	if (d->depth == 0) { /* at once for writing: later one can only fail */
		rc = execute(d, "BEGIN IMMEDIATE", e);
		d->is_undone = false;
	}
	if (rc == ERR_OK)
		d->depth++;
	return rc;
}

enum err_code database_commit(struct database *d, struct err *e)
{
	if (d->depth == 0)
		return err_set(e, ERR_INTERNAL, "commit without a transaction");
	if (--d->depth > 0)
		return ERR_OK;
	enum err_code rc =
		d->is_undone ? err_set(e, ERR_FOLDER, "write to " FILE_NAME
				       ": a part of it failed") :
			       execute(d, "COMMIT", e);
	if (rc != ERR_OK)
		roll_back(d);
	return rc;
}

void database_rollback(struct database *d)
{
	if (d->depth == 0)
		return;
	d->is_undone = true;
	if (--d->depth == 0)
		roll_back(d);
}

enum err_code database_finish(struct database *d, enum err_code rc,
			      struct err *e)
{
	if (rc == ERR_OK)
		return database_commit(d, e);
	database_rollback(d);
	return rc;
}

/* --- values --------------------------------------------------------------- */

/* All of it the begin of one character: whoever wrote the text cut it there. */
static bool is_begun(struct span text)
{
	unsigned char lead = (unsigned char)text.at[0];
	size_t whole = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
	if (lead < 0xc2 || lead > 0xf4 || text.len >= whole)
		return false;
	for (size_t i = 1; i < text.len; i++)
		if (((unsigned char)text.at[i] & 0xc0) != 0x80)
			return false;
	return true;
}

size_t database_clean(struct span text, size_t most, char *out)
{
	size_t len = 0;
	while (text.len > 0) {
		uint32_t point;
		size_t n = utf8_first(text, &point);
		size_t more = n ? n : 1;
		if (len + more > most || (n == 0 && is_begun(text)))
			break;
		if (n)
			memcpy(out + len, text.at, n);
		else
			out[len] = '?';
		len += more;
		text = span_after(text, more);
	}
	out[len] = '\0';
	return len;
}

void database_bind_text(sqlite3_stmt *s, int at, const char *text, size_t most)
{
	char out[TEXT_MAX + 1];
	size_t len = database_clean(text ? span_of(text) : (struct span){ "", 0 },
			   most < TEXT_MAX ? most : TEXT_MAX, out);
	sqlite3_bind_text(s, at, out, (int)len, SQLITE_TRANSIENT);
}

void database_bind_number(sqlite3_stmt *s, int at, uint64_t number)
{
	sqlite3_bind_int64(s, at, number > INT64_MAX ? INT64_MAX : (int64_t)number);
}

void database_bind_err(sqlite3_stmt *s, int at, const struct err *e)
{
	database_bind_text(s, at, err_name(e->code), TEXT_MAX);
	database_bind_text(s, at + 1, e->code == ERR_OK ? "" : e->text,
			   sizeof(e->text) - 1);
}

void database_get_text(sqlite3_stmt *s, int at, char *out, size_t size)
{
	const char *text = (const char *)sqlite3_column_text(s, at);
	int len = sqlite3_column_bytes(s, at);
	if (text == NULL || len < 0)
		out[0] = '\0';
	else
		database_clean((struct span){ text, (size_t)len }, size - 1, out);
}

uint64_t database_get_number(sqlite3_stmt *s, int at)
{
	int64_t n = sqlite3_column_int64(s, at);
	return n < 0 ? 0 : (uint64_t)n;
}

enum err_code database_err_code(const char *name)
{
	for (int i = 0; i < ERR_COUNT; i++)
		if (strcmp(err_name((enum err_code)i), name) == 0)
			return (enum err_code)i;
	return ERR_INTERNAL;
}

void database_get_err(sqlite3_stmt *s, int at, struct err *out)
{
	char name[32];
	database_get_text(s, at, name, sizeof(name));
	*out = (struct err){ .code = database_err_code(name) };
	database_get_text(s, at + 1, out->text, sizeof(out->text));
}
