#include "agent/keeper/ledger.h"

#include "agent/keeper/database.h"
#include "common/log.h"
#include "common/mask.h"

#include <limits.h>
#include <stdlib.h>

#define HOUR_S 3600
#define TRIM_EACH 16 /* runs: what takes a walk over a table */

/* One run while it is written down. */
struct run {
	struct database *d;
	const struct job_report *report;
	struct err error; /* how it ended */
	const char *by;
	int64_t began_s, ended_s;
	char name[CONTENT_NAME_SIZE];
	int64_t id; /* of the transfer */
};

/* --- transfer and attempts ------------------------------------------------ */

static const struct job_attempt *delivery(const struct job_report *r)
{
	return r->delivered >= 0 && (size_t)r->delivered < r->attempt_count ?
		       &r->attempts[r->delivered] : NULL;
}

static enum err_code add_transfer(struct run *run, struct err *e)
{
	const struct job_report *r = run->report;
	const struct job_attempt *from = delivery(r);
	sqlite3_stmt *s = database_statement(
		run->d, "INSERT INTO transfer (name, began, duration_ms, result,"
		" origin, kind, host, received, resumed, total, error, error_text)"
		" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
		" RETURNING id", e);
	if (s == NULL)
		return e->code;
	database_bind_text(s, 1, run->name, sizeof(run->name) - 1);
	sqlite3_bind_int64(s, 2, run->began_s);
	sqlite3_bind_int64(s, 3, r->duration_ms);
	database_bind_text(s, 4, job_result_word(r->result), 15);
	database_bind_text(s, 5, run->by, 15);
	database_bind_text(s, 6, from ? source_kind_name(from->kind) : "", 23);
	database_bind_text(s, 7, from ? from->host : "", 299);
	database_bind_number(s, 8, r->figures.bytes_received);
	database_bind_number(s, 9, r->figures.bytes_resumed);
	database_bind_number(s, 10, r->figures.bytes_total);
	database_bind_err(s, 11, &run->error);
	if (sqlite3_step(s) == SQLITE_ROW)
		run->id = sqlite3_column_int64(s, 0);
	return database_end(run->d, s, e);
}

static enum err_code add_attempt(struct run *run, size_t i, struct err *e)
{
	const struct job_attempt *a = &run->report->attempts[i];
	sqlite3_stmt *s = database_statement(
		run->d, "INSERT INTO attempt (transfer, number, kind, host, url,"
		" error, error_text, received, duration_ms)"
		" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)", e);
	if (s == NULL)
		return e->code;
	sqlite3_bind_int64(s, 1, run->id);
	sqlite3_bind_int64(s, 2, (sqlite3_int64)i);
	database_bind_text(s, 3, source_kind_name(a->kind), 23);
	database_bind_text(s, 4, a->host, 299);
	database_bind_text(s, 5, a->url, 1023);
	database_bind_err(s, 6, &a->why);
	database_bind_number(s, 8, a->bytes_received);
	sqlite3_bind_int64(s, 9, a->duration_ms);
	return database_run(run->d, s, e);
}

static enum err_code add_attempts(struct run *run, struct err *e)
{
	size_t count = run->report->attempt_count, half = LEDGER_ATTEMPTS_RUN / 2;
	enum err_code rc = ERR_OK;
	for (size_t i = 0; rc == ERR_OK && i < count; i++)
		if (i < half || i >= count - half)
			rc = add_attempt(run, i, e);
	return rc;
}

/* --- sums ----------------------------------------------------------------- */

/* Never beyond what a column holds: adding would make it no number. */
#define SUM(old, more) \
	"CASE WHEN " old " > 9223372036854775807 - " more \
	" THEN 9223372036854775807 ELSE " old " + " more " END"

static enum err_code add_total(struct run *run, const char *what, const char *kind,
			       struct err *e)
{
	sqlite3_stmt *s = database_statement(
		run->d, "INSERT INTO total (what, kind, value) VALUES (?1, ?2, 1)"
		" ON CONFLICT (what, kind) DO UPDATE SET value = "
		SUM("value", "1"), e);
	if (s == NULL)
		return e->code;
	database_bind_text(s, 1, what, 23);
	database_bind_text(s, 2, kind, 23);
	return database_run(run->d, s, e);
}

static enum err_code add_traffic(struct run *run, enum source_kind kind,
				 uint64_t bytes, struct err *e)
{
	sqlite3_stmt *s = database_statement(
		run->d, "INSERT INTO traffic (hour, kind, bytes) VALUES (?1, ?2, ?3)"
		" ON CONFLICT (hour, kind) DO UPDATE SET bytes = "
		SUM("bytes", "excluded.bytes"), e);
	if (s == NULL)
		return e->code;
	sqlite3_bind_int64(s, 1, run->ended_s / HOUR_S);
	database_bind_text(s, 2, source_kind_name(kind), 23);
	database_bind_number(s, 3, bytes);
	return database_run(run->d, s, e);
}

static enum err_code add_sums(struct run *run, struct err *e)
{
	const struct job_report *r = run->report;
	enum err_code rc = ERR_OK;
	for (size_t i = 0; rc == ERR_OK && i < r->attempt_count; i++)
		if (r->attempts[i].bytes_received > 0)
			rc = add_traffic(run, r->attempts[i].kind,
					 r->attempts[i].bytes_received, e);
	if (rc == ERR_OK && (r->result == JOB_VERIFIED || r->result == JOB_UNVERIFIED))
		rc = add_total(run, "arrived", "", e);
	if (rc == ERR_OK && r->result == JOB_FAILED)
		rc = add_total(run, "failure", err_class_name(run->error.code), e);
	return rc;
}

/* --- hosts ---------------------------------------------------------------- */

static bool is_ill(enum err_code code)
{
	return code == ERR_CONNECT || code == ERR_STALLED || code == ERR_BROKEN ||
	       code == ERR_DEADLINE || code == ERR_SERVER || code == ERR_BUSY ||
	       code == ERR_DNS_TIMEOUT || code == ERR_DNS_SERVER ||
	       err_exit(code) == CLASS_TLS;
}

/* sql: ?1 host, ?2 time, ?3 content, as far as it has them. */
static enum err_code write_host(struct run *run, const char *sql, const char *host,
				int64_t at_s, struct err *e)
{
	sqlite3_stmt *s = database_statement(run->d, sql, e);
	if (s == NULL)
		return e->code;
	int count = sqlite3_bind_parameter_count(s);
	database_bind_text(s, 1, host, 299);
	if (count >= 2)
		sqlite3_bind_int64(s, 2, at_s);
	if (count >= 3)
		database_bind_text(s, 3, run->name, sizeof(run->name) - 1);
	return database_run(run->d, s, e);
}

static enum err_code remember_host(struct run *run, const struct job_attempt *a,
				   int64_t at_s, struct err *e)
{
	if (a->why.code == ERR_ABSENT)
		return write_host(run, "REPLACE INTO absent (host, at, name)"
				  " VALUES (?1, ?2, ?3)", a->host, at_s, e);
	if (is_ill(a->why.code))
		return write_host(run, "REPLACE INTO ill (host, at) VALUES (?1, ?2)",
				  a->host, at_s, e);
	if (a->why.code != ERR_OK)
		return ERR_OK;
	enum err_code rc = write_host(run, "DELETE FROM absent WHERE host = ?1"
				      " AND name = ?3", a->host, at_s, e);
	return rc != ERR_OK ? rc : write_host(run, "DELETE FROM ill WHERE host = ?1",
					      a->host, at_s, e);
}

/* Each at the time its attempt ended, as far as durations tell. */
static enum err_code remember_hosts(struct run *run, struct err *e)
{
	const struct job_report *r = run->report;
	int64_t later_ms = 0;
	enum err_code rc = ERR_OK;
	for (size_t i = 0; i < r->attempt_count; i++)
		later_ms += r->attempts[i].duration_ms;
	for (size_t i = 0; rc == ERR_OK && i < r->attempt_count; i++) {
		later_ms -= r->attempts[i].duration_ms;
		int64_t at_s = run->ended_s - later_ms / 1000;
		rc = remember_host(run, &r->attempts[i],
				   at_s < run->began_s ? run->began_s : at_s, e);
	}
	return rc;
}

/* --- the decision --------------------------------------------------------- */

static enum err_code add_source(struct run *run, const struct choose_item *item,
				struct err *e)
{
	const struct source_list *l = &run->report->location.sources;
	static const struct source none = { 0 };
	const struct source *from =
		item->source < l->count ? &l->items[item->source] : &none;
	autobuf url = { 0 };
	mask_values(span_of(from->url), &url);
	sqlite3_stmt *s = database_statement(
		run->d, "INSERT INTO source (name, rank, usable, kind, host, url,"
		" locality, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", e);
	if (s == NULL)
		return e->code;
	database_bind_text(s, 1, run->name, sizeof(run->name) - 1);
	sqlite3_bind_int64(s, 2, item->rank);
	sqlite3_bind_int64(s, 3, item->usable);
	database_bind_text(s, 4, source_kind_name(item->kind), 23);
	database_bind_text(s, 5, item->host, 299);
	database_bind_text(s, 6, url.failed ? "" : url.at, 1023);
	database_bind_text(s, 7, from->locality, 63);
	database_bind_text(s, 8, item->reason, 160);
	return database_run(run->d, s, e);
}

static enum err_code forget_decision(struct run *run, struct err *e)
{
	sqlite3_stmt *s = database_statement(
		run->d, "DELETE FROM decision WHERE name = ?1", e);
	if (s == NULL)
		return e->code;
	database_bind_text(s, 1, run->name, sizeof(run->name) - 1);
	return database_run(run->d, s, e); /* its sources go with it */
}

static enum err_code add_decision(struct run *run, size_t sources, struct err *e)
{
	/* Of what came later, the transfer tells. */
	static const struct err none = { 0 };
	bool is_refused = run->report->chosen.usable == 0;
	sqlite3_stmt *s = database_statement(
		run->d, "INSERT INTO decision (name, at, management_point, error,"
		" error_text, sources) VALUES (?1, ?2, ?3, ?4, ?5, ?6)", e);
	if (s == NULL)
		return e->code;
	database_bind_text(s, 1, run->name, sizeof(run->name) - 1);
	sqlite3_bind_int64(s, 2, run->began_s);
	database_bind_text(s, 3, run->report->location.management_point, 511);
	database_bind_err(s, 4, is_refused ? &run->error : &none);
	sqlite3_bind_int64(s, 6, (sqlite3_int64)sources);
	return database_run(run->d, s, e);
}

static enum err_code put_decision(struct run *run, struct err *e)
{
	const struct choose_result *c = &run->report->chosen;
	size_t most = c->count < LEDGER_SOURCES_RUN ? c->count : LEDGER_SOURCES_RUN;
	if (run->report->location.management_point == NULL)
		return ERR_OK; /* nobody answered, or nobody was asked */
	enum err_code rc = forget_decision(run, e);
	if (rc == ERR_OK)
		rc = add_decision(run, most, e);
	for (size_t i = 0; rc == ERR_OK && i < most; i++)
		rc = add_source(run, &c->items[i], e);
	return rc;
}

/* --- limits --------------------------------------------------------------- */

static enum err_code trim(struct run *run, const char *sql, int64_t a, int64_t b,
			  struct err *e)
{
	sqlite3_stmt *s = database_statement(run->d, sql, e);
	if (s == NULL)
		return e->code;
	sqlite3_bind_int64(s, 1, a);
	if (sqlite3_bind_parameter_count(s) > 1)
		sqlite3_bind_int64(s, 2, b);
	return database_run(run->d, s, e);
}

static enum err_code trim_runs(struct run *run, struct err *e)
{
	/* The parts of a transfer and the sources of a decision go with it. */
	enum err_code rc = trim(run, "DELETE FROM transfer WHERE id <= ?1",
				run->id - LEDGER_TRANSFERS, 0, e);
	if (rc == ERR_OK)
		rc = trim(run, "DELETE FROM attempt WHERE transfer < (SELECT transfer"
			  " FROM attempt ORDER BY transfer DESC, number DESC"
			  " LIMIT 1 OFFSET ?1)", LEDGER_ATTEMPTS, 0, e);
	if (rc == ERR_OK)
		rc = trim(run, "DELETE FROM decision WHERE name IN (SELECT name FROM"
			  " (SELECT name, row_number() OVER w AS n,"
			  " sum(sources) OVER w AS parts FROM decision WINDOW w AS"
			  " (ORDER BY at DESC, name ROWS UNBOUNDED PRECEDING))"
			  " WHERE n > ?1 OR parts > ?2)",
			  LEDGER_DECISIONS, LEDGER_SOURCES, e);
	return rc;
}

/* What is too old to count, or of a clock that had run ahead. */
static enum err_code trim_hosts(struct run *run, struct err *e)
{
	int64_t now = run->ended_s;
	enum err_code rc = trim(run, "DELETE FROM absent WHERE at <= ?1 OR at > ?2",
				now - LEDGER_ABSENT_S, now, e);
	if (rc == ERR_OK)
		rc = trim(run, "DELETE FROM ill WHERE at <= ?1 OR at > ?2",
			  now - LEDGER_ILL_S, now, e);
	if (rc == ERR_OK)
		rc = trim(run, "DELETE FROM absent WHERE (host, name) IN (SELECT host,"
			  " name FROM absent ORDER BY at DESC LIMIT -1 OFFSET ?1)",
			  LEDGER_HOSTS, 0, e);
	if (rc == ERR_OK)
		rc = trim(run, "DELETE FROM ill WHERE host IN (SELECT host FROM ill"
			  " ORDER BY at DESC LIMIT -1 OFFSET ?1)",
			  LEDGER_HOSTS, 0, e);
	return rc;
}

static enum err_code trim_hours(struct run *run, struct err *e)
{
	int64_t hour = run->ended_s / HOUR_S;
	enum err_code rc = trim(
		run, "INSERT INTO total (what, kind, value)"
		" SELECT 'bytes', kind, CAST(min(total(bytes), 9e18) AS INTEGER)"
		" FROM traffic WHERE hour <= ?1 OR hour > ?2 GROUP BY kind"
		" ON CONFLICT (what, kind) DO UPDATE SET value = "
		SUM("value", "excluded.value"), hour - LEDGER_HOURS, hour + 1, e);
	if (rc == ERR_OK)
		rc = trim(run, "DELETE FROM traffic WHERE hour <= ?1 OR hour > ?2",
			  hour - LEDGER_HOURS, hour + 1, e);
	return rc;
}

/* --- all of it ------------------------------------------------------------ */

static enum err_code add_all(struct run *run, struct err *e)
{
	enum err_code rc = put_decision(run, e);
	if (run->report->result != JOB_PLANNED) {
		if (rc == ERR_OK)
			rc = add_transfer(run, e);
		if (rc == ERR_OK)
			rc = add_attempts(run, e);
		if (rc == ERR_OK)
			rc = add_sums(run, e);
		if (rc == ERR_OK)
			rc = remember_hosts(run, e);
	}
	/* Walks over tables: not each time, but there is no way round them. */
	if (run->id % TRIM_EACH != 0)
		return rc;
	if (rc == ERR_OK)
		rc = trim_runs(run, e);
	if (rc == ERR_OK)
		rc = trim_hosts(run, e);
	return rc == ERR_OK ? trim_hours(run, e) : rc;
}

enum err_code ledger_add_run(struct record *r, const struct job_report *report,
			     const struct err *result, const char *by,
			     int64_t began_s, struct err *e)
{
	struct err own = { 0 };
	struct run run = {
		.d = record_database(r),
		.report = report,
		.by = by,
		.began_s = began_s,
		.ended_s = began_s + report->duration_ms / 1000,
	};
	if (report->result == JOB_FAILED)
		run.error = *result;
	content_name(&report->content, run.name);
	enum err_code rc = database_begin(run.d, &own);
	if (rc == ERR_OK)
		rc = database_finish(run.d, add_all(&run, &own), &own);
	return rc == ERR_OK ? ERR_OK : err_set(e, rc, "keep what was done for %s: %s",
					       run.name, own.text);
}

/* --- hooks ---------------------------------------------------------------- */

enum err_code ledger_add_hook(struct record *r, const char *name,
			      const char *program, int status, const char *text,
			      struct err *e)
{
	struct database *d = record_database(r);
	struct err own = { 0 };
	sqlite3_stmt *s = database_statement(
		d, "INSERT INTO hook (transfer, number, program, status, text)"
		" SELECT id, n, ?2, ?3, ?4 FROM (SELECT id, (SELECT count(*) FROM hook"
		" WHERE transfer = id) AS n FROM transfer WHERE name = ?1"
		" ORDER BY id DESC LIMIT 1) WHERE n < ?5", &own);
	if (s) {
		database_bind_text(s, 1, name, CONTENT_NAME_SIZE - 1);
		database_bind_text(s, 2, program, 255);
		sqlite3_bind_int64(s, 3, status);
		database_bind_text(s, 4, text, 255);
		sqlite3_bind_int64(s, 5, LEDGER_HOOKS_RUN);
		database_run(d, s, &own);
	}
	return own.code == ERR_OK ? ERR_OK :
				    err_set(e, own.code, "keep how %.200s ended: %s",
					    program, own.text);
}
