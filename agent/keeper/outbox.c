#include "agent/keeper/outbox.h"

#include "agent/keeper/database.h"
#include "common/log.h"

/* The oldest beyond OUTBOX_MAX go, and are counted. */
static enum err_code trim(struct database *d, struct err *e)
{
	sqlite3_stmt *s = database_statement(
		d, "INSERT INTO total (what, kind, value)"
		" SELECT 'lost', 'outbox', count(*) - ?1 FROM outbox"
		" HAVING count(*) > ?1 ON CONFLICT (what, kind)"
		" DO UPDATE SET value = min(value, 9000000000000000) + excluded.value", e);
	if (s == NULL)
		return e->code;
	sqlite3_bind_int64(s, 1, OUTBOX_MAX);
	if (database_run(d, s, e) != ERR_OK)
		return e->code;
	s = database_statement(d, "DELETE FROM outbox WHERE id <= (SELECT id FROM"
			       " outbox ORDER BY id DESC LIMIT 1 OFFSET ?1)", e);
	if (s == NULL)
		return e->code;
	sqlite3_bind_int64(s, 1, OUTBOX_MAX);
	return database_run(d, s, e);
}

static enum err_code add(struct database *d, const struct outbox_item *item,
			 struct err *e)
{
	sqlite3_stmt *s = database_statement(
		d, "INSERT INTO outbox (at, topic, state, details)"
		" VALUES (?1, ?2, ?3, ?4)", e);
	if (s == NULL)
		return e->code;
	sqlite3_bind_int64(s, 1, item->at_s);
	database_bind_text(s, 2, item->topic, sizeof(item->topic) - 1);
	sqlite3_bind_int64(s, 3, item->state);
	database_bind_text(s, 4, item->details, sizeof(item->details) - 1);
	enum err_code rc = database_run(d, s, e);
	return rc == ERR_OK ? trim(d, e) : rc;
}

enum err_code outbox_add(struct record *r, const struct outbox_item *item,
			 struct err *e)
{
	struct database *d = record_database(r);
	struct err own = { 0 };
	enum err_code rc = database_begin(d, &own);
	if (rc == ERR_OK)
		rc = database_finish(d, add(d, item, &own), &own);
	return rc == ERR_OK ? ERR_OK : err_set(e, rc, "keep a state record of %s: %s",
					       item->topic, own.text);
}

bool outbox_first(struct record *r, struct outbox_item *out)
{
	struct database *d = record_database(r);
	struct err e = { 0 };
	bool is_there = false;
	*out = (struct outbox_item){ 0 };
	sqlite3_stmt *s = database_statement(
		d, "SELECT id, at, topic, state, details FROM outbox"
		" ORDER BY id LIMIT 1", &e);
	if (s) {
		is_there = sqlite3_step(s) == SQLITE_ROW;
		if (is_there) {
			out->id = sqlite3_column_int64(s, 0);
			out->at_s = sqlite3_column_int64(s, 1);
			database_get_text(s, 2, out->topic, sizeof(out->topic));
			out->state = (unsigned)sqlite3_column_int(s, 3);
			database_get_text(s, 4, out->details, sizeof(out->details));
		}
		database_end(d, s, &e);
	}
	if (e.code != ERR_OK)
		log_warning("agent", "%s", e.text);
	return is_there;
}

enum err_code outbox_remove(struct record *r, int64_t id, struct err *e)
{
	struct database *d = record_database(r);
	struct err own = { 0 };
	sqlite3_stmt *s =
		database_statement(d, "DELETE FROM outbox WHERE id = ?1", &own);
	if (s) {
		sqlite3_bind_int64(s, 1, id);
		database_run(d, s, &own);
	}
	return own.code == ERR_OK ? ERR_OK : err_set(e, own.code, "%s", own.text);
}

void outbox_count(struct record *r, uint64_t *waiting, uint64_t *lost)
{
	struct database *d = record_database(r);
	struct err e = { 0 };
	*waiting = *lost = 0;
	sqlite3_stmt *s = database_statement(
		d, "SELECT (SELECT count(*) FROM outbox), (SELECT value FROM total"
		" WHERE what = 'lost' AND kind = 'outbox')", &e);
	if (s) {
		if (sqlite3_step(s) == SQLITE_ROW) {
			*waiting = database_get_number(s, 0);
			*lost = database_get_number(s, 1);
		}
		database_end(d, s, &e);
	}
	if (e.code != ERR_OK)
		log_warning("agent", "%s", e.text);
}
