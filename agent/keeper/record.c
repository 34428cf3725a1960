#include "agent/keeper/record.h"

#include "agent/keeper/database.h"
#include "common/clock.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/own.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROWS_MAX 1000 /* of hosts: the newest ones stay */
#define SEARCHES_MAX 20000
#define TEXT_MAX (1 << 20)

struct record {
	struct database *database; /* owned */
};

/* --- opening -------------------------------------------------------------- */

/* Writing means waiting for others: only when there is something to do. */
static enum err_code prune(struct database *d, const char *count_sql,
			   const char *prune_sql, int64_t most, struct err *e)
{
	sqlite3_stmt *s = database_statement(d, count_sql, e);
	if (s == NULL)
		return e->code;
	int64_t rows = sqlite3_step(s) == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
	if (database_end(d, s, e) != ERR_OK)
		return e->code;
	if (rows <= most)
		return ERR_OK;
	if ((s = database_statement(d, prune_sql, e)) == NULL)
		return e->code;
	sqlite3_bind_int64(s, 1, most);
	return database_run(d, s, e);
}

/* What nobody has asked for in a long time goes. */
static enum err_code prune_rows(struct database *d, struct err *e)
{
	enum err_code rc =
		prune(d, "SELECT count(*) FROM host",
		      "DELETE FROM host WHERE name NOT IN"
		      " (SELECT name FROM host ORDER BY seen DESC LIMIT ?1)",
		      ROWS_MAX, e);
	return rc == ERR_OK ?
		       prune(d, "SELECT count(*) FROM search",
			     "DELETE FROM search WHERE name NOT IN"
			     " (SELECT name FROM search ORDER BY since DESC"
			     " LIMIT ?1)", SEARCHES_MAX, e) : rc;
}

struct record *record_open(const char *directory, struct err *e)
{
	struct err own = { 0 };
	struct record *r = calloc(1, sizeof(*r));
	if (r == NULL) {
		err_set(e, ERR_NOMEM, "open the state: no memory");
		return NULL;
	}
	r->database = database_open(directory, &own);
	if (r->database && prune_rows(r->database, &own) == ERR_OK)
		return r;
	err_set(e, own.code, "%s", own.text);
	record_close(r);
	return NULL;
}

void record_close(struct record *r)
{
	if (r)
		database_close(r->database);
	free(r);
}

struct database *record_database(struct record *r)
{
	return r->database;
}

/* --- statements ----------------------------------------------------------- */

static sqlite3_stmt *begin(struct record *r, const char *sql, const char *key,
			   struct err *e)
{
	sqlite3_stmt *s = database_statement(r->database, sql, e);
	if (s)
		sqlite3_bind_text(s, 1, key, -1, SQLITE_TRANSIENT);
	return s;
}

/* Of something that can be done without. */
static void end(struct record *r, sqlite3_stmt *s)
{
	struct err e = { 0 };
	if (database_end(r->database, s, &e) != ERR_OK)
		log_warning("agent", "%s", e.text);
}

static enum err_code run(struct record *r, sqlite3_stmt *s, struct err *e)
{
	return database_run(r->database, s, e);
}

bool record_get_host(struct record *r, const char *host, enum wire_rung *rung,
		     enum wire_form *form)
{
	sqlite3_stmt *s = begin(r, "SELECT rung, form FROM host WHERE name = ?1",
				host, NULL);
	bool is_known = false;
	if (s == NULL)
		return false;
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
	end(r, s);
	return is_known;
}

enum err_code record_set_host(struct record *r, const char *host,
			      enum wire_rung rung, enum wire_form form,
			      struct err *e)
{
	struct err own = { 0 };
	sqlite3_stmt *s = begin(r, "REPLACE INTO host (name, rung, form, seen)"
				" VALUES (?1, ?2, ?3, ?4)", host, &own);
	if (s == NULL)
		return err_set(e, own.code, "%s", own.text);
	sqlite3_bind_int64(s, 2, rung);
	sqlite3_bind_int64(s, 3, form);
	sqlite3_bind_int64(s, 4, clock_wall_s());
	return run(r, s, e);
}

void record_get_text(struct record *r, const char *key, struct buf *out)
{
	buf_clear(out);
	sqlite3_stmt *s = begin(r, "SELECT value FROM text WHERE key = ?1", key,
				NULL);
	if (s == NULL)
		return;
	if (sqlite3_step(s) == SQLITE_ROW) {
		const void *bytes = sqlite3_column_blob(s, 0);
		int len = sqlite3_column_bytes(s, 0);
		if (bytes && len > 0)
			buf_add(out, bytes, (size_t)len);
	}
	end(r, s);
	if (out->failed)
		buf_clear(out);
}

enum err_code record_set_text(struct record *r, const char *key,
			      struct span value, struct err *e)
{
	struct err own = { 0 };
	if (value.len > TEXT_MAX)
		return err_set(e, ERR_INTERNAL, "keep %s: %zu bytes are too many",
			       key, value.len);
	sqlite3_stmt *s = begin(r, "REPLACE INTO text (key, value) VALUES (?1, ?2)",
				key, &own);
	if (s == NULL)
		return err_set(e, own.code, "%s", own.text);
	sqlite3_bind_blob(s, 2, value.len ? value.at : "", (int)value.len,
			  SQLITE_TRANSIENT);
	return run(r, s, e);
}

int64_t record_search_since(struct record *r, const char *name, int64_t now_s)
{
	struct err e = { 0 };
	int64_t since = now_s;
	/* A clock that was put back: no search has a negative age. */
	sqlite3_stmt *s = begin(r, "INSERT INTO search (name, since)"
				" VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE"
				" SET since = ?2 WHERE since > ?2 OR since < 0",
				name, &e);
	if (s) {
		sqlite3_bind_int64(s, 2, now_s);
		run(r, s, &e);
		s = begin(r, "SELECT since FROM search WHERE name = ?1", name, &e);
	}
	if (s) {
		if (sqlite3_step(s) == SQLITE_ROW)
			since = sqlite3_column_int64(s, 0);
		end(r, s);
	}
	if (e.code != ERR_OK)
		log_warning("agent", "%s", e.text);
	return since < 0 || since > now_s ? now_s : since;
}

void record_search_done(struct record *r, const char *name)
{
	struct err e = { 0 };
	sqlite3_stmt *s = begin(r, "DELETE FROM search WHERE name = ?1", name, &e);
	if (s)
		run(r, s, &e);
	if (e.code != ERR_OK)
		log_warning("agent", "%s", e.text);
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

bool record_is_foreign(const char *directory)
{
	struct stat st;
	return geteuid() == 0 && stat(directory, &st) == 0 && st.st_uid != 0;
}

/* Nothing is made there, and no link is followed. */
static enum err_code look_id(const char *directory, char id[ID_SIZE], struct err *e)
{
	autofd fd = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, ERR_FOLDER, "open folder %.200s: %m", directory);
	return read_id(fd, id, e);
}

char *record_client_id(const char *directory, const char *configured,
		       struct err *e)
{
	char id[ID_SIZE] = "";
	struct err own = { 0 };
	bool is_configured = configured && configured[0];
	enum err_code rc = is_configured ? ERR_OK :
			   record_is_foreign(directory) ?
					   look_id(directory, id, &own) :
					   keep_id(directory, id, &own);
	if (rc != ERR_OK) {
		err_set(e, own.code, "state folder %.200s: %s", directory, own.text);
		return NULL;
	}
	char *copy = strdup(is_configured ? configured : id);
	if (copy == NULL)
		err_set(e, ERR_NOMEM, "keep the client id: no memory");
	return copy;
}
