#include "agent/keeper/ledger.h"

#include "agent/keeper/database.h"
#include "common/log.h"
#include "common/own.h"

#include <stdlib.h>

/* --- transfers ------------------------------------------------------------ */

static void read_transfer(sqlite3_stmt *s, struct ledger_transfer *out)
{
	*out = (struct ledger_transfer){ .id = sqlite3_column_int64(s, 0) };
	database_get_text(s, 1, out->name, sizeof(out->name));
	out->began_s = sqlite3_column_int64(s, 2);
	out->duration_ms = sqlite3_column_int64(s, 3);
	database_get_text(s, 4, out->result, sizeof(out->result));
	database_get_text(s, 5, out->by, sizeof(out->by));
	database_get_text(s, 6, out->kind, sizeof(out->kind));
	database_get_text(s, 7, out->host, sizeof(out->host));
	out->bytes_received = database_get_number(s, 8);
	out->bytes_resumed = database_get_number(s, 9);
	out->bytes_total = database_get_number(s, 10);
	database_get_err(s, 11, &out->error);
}

static void read_attempt(sqlite3_stmt *s, struct ledger_attempt *out)
{
	*out = (struct ledger_attempt){ 0 };
	database_get_text(s, 0, out->kind, sizeof(out->kind));
	database_get_text(s, 1, out->host, sizeof(out->host));
	database_get_text(s, 2, out->url, sizeof(out->url));
	database_get_err(s, 3, &out->why);
	out->bytes_received = database_get_number(s, 5);
	out->duration_ms = sqlite3_column_int64(s, 6);
}

static enum err_code read_attempts(struct database *d, struct ledger_transfer *t,
				   struct err *e)
{
	sqlite3_stmt *s = database_statement(
		d, "SELECT kind, host, url, error, error_text, received, duration_ms"
		" FROM attempt WHERE transfer = ?1 ORDER BY number LIMIT ?2", e);
	if (s == NULL)
		return e->code;
	sqlite3_bind_int64(s, 1, t->id);
	sqlite3_bind_int64(s, 2, LEDGER_ATTEMPTS_RUN);
	while (t->attempt_count < LEDGER_ATTEMPTS_RUN &&
	       sqlite3_step(s) == SQLITE_ROW)
		read_attempt(s, &t->attempts[t->attempt_count++]);
	return database_end(d, s, e);
}

static enum err_code read_hooks(struct database *d, struct ledger_transfer *t,
				struct err *e)
{
	sqlite3_stmt *s = database_statement(
		d, "SELECT program, status, text FROM hook WHERE transfer = ?1"
		" ORDER BY number LIMIT ?2", e);
	if (s == NULL)
		return e->code;
	sqlite3_bind_int64(s, 1, t->id);
	sqlite3_bind_int64(s, 2, LEDGER_HOOKS_RUN);
	while (t->hook_count < LEDGER_HOOKS_RUN && sqlite3_step(s) == SQLITE_ROW) {
		struct ledger_hook *hook = &t->hooks[t->hook_count++];
		database_get_text(s, 0, hook->program, sizeof(hook->program));
		hook->status = sqlite3_column_int(s, 1);
		database_get_text(s, 2, hook->text, sizeof(hook->text));
	}
	return database_end(d, s, e);
}

#define TRANSFERS                                                           \
	"SELECT id, name, began, duration_ms, result, origin, kind, host,"  \
	" received, resumed, total, error, error_text FROM transfer"

static sqlite3_stmt *find_transfers(struct database *d, const char *name,
				    size_t most, struct err *e)
{
	sqlite3_stmt *s =
		name ? database_statement(d, TRANSFERS " WHERE name = ?2"
					  " ORDER BY id DESC LIMIT ?1", e) :
		       database_statement(d, TRANSFERS " ORDER BY id DESC LIMIT ?1",
					  e);
	if (s)
		database_bind_number(s, 1, most);
	if (s && name)
		database_bind_text(s, 2, name, CONTENT_NAME_SIZE - 1);
	return s;
}

enum err_code ledger_each_transfer(struct record *r, const char *name, size_t most,
				   bool (*on_transfer)(void *arg,
						       const struct ledger_transfer *t),
				   void *arg, struct err *e)
{
	struct database *d = record_database(r);
	struct err own = { 0 };
	struct ledger_transfer t;
	autofree struct ledger_attempt *attempts =
		calloc(LEDGER_ATTEMPTS_RUN, sizeof(*attempts));
	autofree struct ledger_hook *hooks =
		calloc(LEDGER_HOOKS_RUN, sizeof(*hooks));
	if (attempts == NULL || hooks == NULL)
		return err_set(e, ERR_NOMEM, "no memory for transfers");
	sqlite3_stmt *s = find_transfers(d, name, most, &own);
	bool goes_on = s != NULL;
	while (goes_on && sqlite3_step(s) == SQLITE_ROW) {
		read_transfer(s, &t);
		t.attempts = attempts;
		t.hooks = hooks;
		goes_on = read_attempts(d, &t, &own) == ERR_OK &&
			  read_hooks(d, &t, &own) == ERR_OK && on_transfer(arg, &t);
	}
	if (s)
		database_end(d, s, &own);
	return own.code == ERR_OK ? ERR_OK : err_set(e, own.code, "%s", own.text);
}

/* --- decisions ------------------------------------------------------------ */

static void read_source(sqlite3_stmt *s, struct ledger_source *out)
{
	*out = (struct ledger_source){ 0 };
	out->rank = (unsigned)sqlite3_column_int(s, 0);
	out->is_usable = sqlite3_column_int64(s, 1) != 0;
	database_get_text(s, 2, out->kind, sizeof(out->kind));
	database_get_text(s, 3, out->host, sizeof(out->host));
	database_get_text(s, 4, out->url, sizeof(out->url));
	database_get_text(s, 5, out->locality, sizeof(out->locality));
	database_get_text(s, 6, out->reason, sizeof(out->reason));
}

static enum err_code read_sources(struct database *d, const char *name,
				  struct ledger_decision *out, struct err *e)
{
	sqlite3_stmt *s = database_statement(
		d, "SELECT rank, usable, kind, host, url, locality, reason"
		" FROM source WHERE name = ?1 ORDER BY rank LIMIT ?2", e);
	if (s == NULL)
		return e->code;
	out->sources = calloc(LEDGER_SOURCES_RUN, sizeof(*out->sources));
	if (out->sources == NULL)
		return err_set(e, ERR_NOMEM, "no memory for sources");
	database_bind_text(s, 1, name, CONTENT_NAME_SIZE - 1);
	sqlite3_bind_int64(s, 2, LEDGER_SOURCES_RUN);
	while (out->count < LEDGER_SOURCES_RUN && sqlite3_step(s) == SQLITE_ROW)
		read_source(s, &out->sources[out->count++]);
	return database_end(d, s, e);
}

bool ledger_get_decision(struct record *r, const char *name,
			 struct ledger_decision *out)
{
	struct database *d = record_database(r);
	struct err e = { 0 };
	bool is_known = false;
	*out = (struct ledger_decision){ 0 };
	sqlite3_stmt *s = database_statement(
		d, "SELECT at, management_point, error, error_text FROM decision"
		" WHERE name = ?1", &e);
	if (s) {
		database_bind_text(s, 1, name, CONTENT_NAME_SIZE - 1);
		is_known = sqlite3_step(s) == SQLITE_ROW;
		if (is_known) {
			out->at_s = sqlite3_column_int64(s, 0);
			database_get_text(s, 1, out->management_point,
					  sizeof(out->management_point));
			database_get_err(s, 2, &out->error);
		}
		database_end(d, s, &e);
	}
	if (is_known)
		read_sources(d, name, out, &e);
	if (e.code != ERR_OK)
		log_warning("agent", "%s", e.text);
	return is_known;
}

void ledger_decision_free(struct ledger_decision *d)
{
	free(d->sources);
	*d = (struct ledger_decision){ 0 };
}
