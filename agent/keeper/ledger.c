#include "agent/keeper/ledger.h"

#include "agent/keeper/database.h"
#include "common/clock.h"
#include "common/log.h"
#include "policy/value.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What can be done without: the caller goes on as if nothing were known. */
static void warn(const struct err *e)
{
	if (e->code != ERR_OK)
		log_warning("agent", "%s", e->text);
}

/* --- jobs ----------------------------------------------------------------- */

#define JOB_COLUMNS                                                           \
	"name, deployment, title, hash, path, required, in_policy, priority," \
	" available, deadline, first_seen, here, tries, failed, delay,"       \
	" search, given_up, last, arrived, error, error_text"

static void read_job(sqlite3_stmt *s, struct ledger_job *out)
{
	*out = (struct ledger_job){ 0 };
	database_get_text(s, 0, out->name, sizeof(out->name));
	database_get_text(s, 1, out->deployment, sizeof(out->deployment));
	database_get_text(s, 2, out->title, sizeof(out->title));
	database_get_text(s, 3, out->hash, sizeof(out->hash));
	database_get_text(s, 4, out->path, sizeof(out->path));
	out->is_required = sqlite3_column_int64(s, 5) != 0;
	out->is_in_policy = sqlite3_column_int64(s, 6) != 0;
	out->priority = database_get_number(s, 7);
	out->available_s = sqlite3_column_int64(s, 8);
	out->deadline_s = sqlite3_column_int64(s, 9);
	uint64_t tries = database_get_number(s, 12);
	out->past = (struct due_past){
		.first_seen_s = sqlite3_column_int64(s, 10),
		.is_here = sqlite3_column_int64(s, 11) != 0,
		.tries = tries > UINT_MAX ? UINT_MAX : (unsigned)tries,
		.failed_s = sqlite3_column_int64(s, 13),
		.delay_s = sqlite3_column_int64(s, 14),
		.search_since_s = sqlite3_column_int64(s, 15),
		.has_given_up = sqlite3_column_int64(s, 16) != 0,
	};
	out->last_s = sqlite3_column_int64(s, 17);
	out->arrived_s = sqlite3_column_int64(s, 18);
	database_get_err(s, 19, &out->last);
}

bool ledger_get_job(struct record *r, const char *name, struct ledger_job *out)
{
	struct database *d = record_database(r);
	struct err e = { 0 };
	bool is_known = false;
	*out = (struct ledger_job){ 0 };
	sqlite3_stmt *s = database_statement(d, "SELECT " JOB_COLUMNS " FROM job"
					     " WHERE name = ?1", &e);
	if (s) {
		database_bind_text(s, 1, name, sizeof(out->name) - 1);
		is_known = sqlite3_step(s) == SQLITE_ROW;
		if (is_known)
			read_job(s, out);
		database_end(d, s, &e);
	}
	warn(&e);
	return is_known;
}

enum err_code ledger_each_job(struct record *r,
			      bool (*on_job)(void *arg,
					     const struct ledger_job *job),
			      void *arg, struct err *e)
{
	struct database *d = record_database(r);
	struct err own = { 0 };
	struct ledger_job job;
	sqlite3_stmt *s = database_statement(d, "SELECT " JOB_COLUMNS " FROM job"
					     " ORDER BY name", &own);
	bool goes_on = s != NULL;
	while (goes_on && sqlite3_step(s) == SQLITE_ROW) {
		read_job(s, &job);
		goes_on = on_job(arg, &job);
	}
	if (s)
		database_end(d, s, &own);
	return own.code == ERR_OK ? ERR_OK : err_set(e, own.code, "%s", own.text);
}

/* Nothing is written where nothing changes: most polls bring nothing new. */
#define PUT_JOB                                                                \
	"INSERT INTO job (" JOB_COLUMNS ", gone) VALUES (?1, ?2, ?3, ?4, ?5,"  \
	" ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,"   \
	" ?20, ?21, ?22) ON CONFLICT (name) DO UPDATE SET deployment = ?2,"    \
	" title = ?3, hash = ?4, path = ?5, required = ?6, in_policy = ?7,"    \
	" priority = ?8, available = ?9, deadline = ?10, first_seen = ?11,"    \
	" here = ?12, tries = ?13, failed = ?14, delay = ?15, search = ?16,"   \
	" given_up = ?17, last = ?18, arrived = ?19, error = ?20,"             \
	" error_text = ?21,"                                                   \
	" gone = CASE WHEN ?7 THEN 0 WHEN gone > 0 THEN gone ELSE ?22 END"     \
	" WHERE (" JOB_COLUMNS ") IS NOT (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9," \
	" ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)"         \
	" OR (gone > 0) = ?7"

static enum err_code put_job(struct database *d, const struct ledger_job *job,
			     bool is_in_policy, int64_t now_s, struct err *e)
{
	const struct due_past *past = &job->past;
	sqlite3_stmt *s = database_statement(d, PUT_JOB, e);
	if (s == NULL)
		return e->code;
	database_bind_text(s, 1, job->name, sizeof(job->name) - 1);
	database_bind_text(s, 2, job->deployment, sizeof(job->deployment) - 1);
	database_bind_text(s, 3, job->title, sizeof(job->title) - 1);
	database_bind_text(s, 4, job->hash, sizeof(job->hash) - 1);
	database_bind_text(s, 5, job->path, sizeof(job->path) - 1);
	sqlite3_bind_int64(s, 6, job->is_required);
	sqlite3_bind_int64(s, 7, is_in_policy);
	database_bind_number(s, 8, job->priority);
	sqlite3_bind_int64(s, 9, job->available_s);
	sqlite3_bind_int64(s, 10, job->deadline_s);
	sqlite3_bind_int64(s, 11, past->first_seen_s);
	sqlite3_bind_int64(s, 12, past->is_here);
	sqlite3_bind_int64(s, 13, past->tries);
	sqlite3_bind_int64(s, 14, past->failed_s);
	sqlite3_bind_int64(s, 15, past->delay_s);
	sqlite3_bind_int64(s, 16, past->search_since_s);
	sqlite3_bind_int64(s, 17, past->has_given_up);
	sqlite3_bind_int64(s, 18, job->last_s);
	sqlite3_bind_int64(s, 19, job->arrived_s);
	database_bind_err(s, 20, &job->last);
	sqlite3_bind_int64(s, 22, is_in_policy ? 0 : now_s);
	return database_run(d, s, e);
}

/* "Since when it is gone" is above 0 for what is gone. */
static int64_t positive(int64_t now_s)
{
	return now_s > 0 ? now_s : 1;
}

enum err_code ledger_put_job(struct record *r, const struct ledger_job *job,
			     struct err *e)
{
	struct err own = { 0 };
	if (put_job(record_database(r), job, job->is_in_policy,
		    positive(clock_wall_s()), &own) == ERR_OK)
		return ERR_OK;
	return err_set(e, own.code, "keep job %s: %s", job->name, own.text);
}

/* --- policy --------------------------------------------------------------- */

static enum err_code run_number(struct database *d, const char *sql,
				int64_t number, struct err *e)
{
	sqlite3_stmt *s = database_statement(d, sql, e);
	if (s == NULL)
		return e->code;
	if (sqlite3_bind_parameter_count(s) > 0)
		sqlite3_bind_int64(s, 1, number);
	return database_run(d, s, e);
}

static enum err_code put_jobs(struct database *d, const struct ledger_job *jobs,
			      size_t count, int64_t now_s, struct err *e)
{
	enum err_code rc = run_number(d, "CREATE TEMP TABLE IF NOT EXISTS"
				      " policy (name TEXT PRIMARY KEY)"
				      " WITHOUT ROWID", 0, e);
	if (rc == ERR_OK)
		rc = run_number(d, "DELETE FROM temp.policy", 0, e);
	for (size_t i = 0; rc == ERR_OK && i < count; i++) {
		rc = put_job(d, &jobs[i], true, now_s, e);
		sqlite3_stmt *s =
			rc != ERR_OK ? NULL :
				       database_statement(d, "INSERT OR IGNORE INTO"
							  " temp.policy VALUES (?1)",
							  e);
		if (s == NULL)
			return e->code;
		database_bind_text(s, 1, jobs[i].name, sizeof(jobs[i].name) - 1);
		rc = database_run(d, s, e);
	}
	return rc;
}

static enum err_code withdraw_others(struct database *d, int64_t now_s,
				     struct err *e)
{
	enum err_code rc =
		run_number(d, "UPDATE job SET in_policy = 0, gone = ?1"
			   " WHERE in_policy <> 0 AND name NOT IN"
			   " (SELECT name FROM temp.policy)", now_s, e);
	/* The clock had run ahead. */
	if (rc == ERR_OK)
		rc = run_number(d, "UPDATE job SET gone = ?1 WHERE gone > ?1", now_s,
				e);
	if (rc == ERR_OK)
		rc = run_number(d, "DELETE FROM job WHERE gone > 0"
				" AND max(gone, last) < ?1",
				now_s - LEDGER_GONE_S, e);
	return rc;
}

/* Downloads by hand add jobs without any policy. */
static enum err_code trim_jobs(struct database *d, struct err *e)
{
	return run_number(d, "DELETE FROM job WHERE name IN"
			  " (SELECT name FROM job WHERE gone > 0"
			  " ORDER BY gone DESC LIMIT -1 OFFSET ?1)",
			  LEDGER_GONE, e);
}

enum err_code ledger_set_policy(struct record *r, const struct ledger_job *jobs,
				size_t count, int64_t now_s, struct err *e)
{
	struct database *d = record_database(r);
	struct err own = { 0 };
	enum err_code rc = database_begin(d, &own);
	if (rc == ERR_OK) {
		rc = put_jobs(d, jobs, count, positive(now_s), &own);
		if (rc == ERR_OK)
			rc = withdraw_others(d, positive(now_s), &own);
		if (rc == ERR_OK)
			rc = trim_jobs(d, &own);
		rc = database_finish(d, rc, &own);
	}
	return rc == ERR_OK ? ERR_OK :
			      err_set(e, rc, "keep the jobs of policy: %s", own.text);
}

/* --- hosts ---------------------------------------------------------------- */

/* The time in the row, unless it is too long ago; that of a clock which had run
 * ahead tells nothing. */
static int64_t since(struct database *d, sqlite3_stmt *s, int64_t now_s,
		     int64_t most_s, struct err *e)
{
	int64_t at = sqlite3_step(s) == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
	database_end(d, s, e);
	return at > 0 && at <= now_s && now_s - at < most_s ? at : 0;
}

void ledger_get_host(struct record *r, const char *host, const char *name,
		     int64_t now_s, int64_t *absent_s, int64_t *ill_s)
{
	struct database *d = record_database(r);
	struct err e = { 0 };
	*absent_s = *ill_s = 0;
	sqlite3_stmt *s = database_statement(d, "SELECT at FROM absent"
					     " WHERE host = ?1 AND name = ?2", &e);
	if (s) {
		database_bind_text(s, 1, host, 299);
		database_bind_text(s, 2, name, CONTENT_NAME_SIZE);
		*absent_s = since(d, s, now_s, LEDGER_ABSENT_S, &e);
	}
	s = database_statement(d, "SELECT at FROM ill WHERE host = ?1", &e);
	if (s) {
		database_bind_text(s, 1, host, 299);
		*ill_s = since(d, s, now_s, LEDGER_ILL_S, &e);
	}
	warn(&e);
}

/* --- sums ----------------------------------------------------------------- */

static void take_sum(struct ledger_sums *out, const char *what, const char *kind,
		     uint64_t value)
{
	size_t most = sizeof(out->failures) / sizeof(*out->failures);
	if (strcmp(what, "arrived") == 0) {
		out->arrived = value;
	} else if (strcmp(what, "failure") == 0 && out->failure_count < most) {
		size_t i = out->failure_count++;
		snprintf(out->failures[i].class_name,
			 sizeof(out->failures[i].class_name), "%s", kind);
		out->failures[i].count = value;
	} else if (strcmp(what, "bytes") == 0) {
		if (strcmp(kind, "on-prem") == 0)
			out->bytes_on_prem = value;
		else if (strcmp(kind, "cloud") == 0)
			out->bytes_cloud = value;
		else
			out->bytes_other += value;
	}
}

enum err_code ledger_get_sums(struct record *r, struct ledger_sums *out,
			      struct err *e)
{
	struct database *d = record_database(r);
	struct err own = { 0 };
	char what[24], kind[24];
	*out = (struct ledger_sums){ 0 };
	sqlite3_stmt *s = database_statement(
		d, "SELECT what, kind, CAST(min(total(value), 9e18) AS INTEGER)"
		" FROM (SELECT what, kind, value FROM total UNION ALL"
		" SELECT 'bytes', kind, bytes FROM traffic)"
		" GROUP BY 1, 2 ORDER BY 1, 2", &own);
	while (s && sqlite3_step(s) == SQLITE_ROW) {
		database_get_text(s, 0, what, sizeof(what));
		database_get_text(s, 1, kind, sizeof(kind));
		take_sum(out, what, kind, database_get_number(s, 2));
	}
	if (s)
		database_end(d, s, &own);
	return own.code == ERR_OK ? ERR_OK : err_set(e, own.code, "%s", own.text);
}

/* --- polls ---------------------------------------------------------------- */

static void get_number(struct record *r, const char *key, uint64_t *out)
{
	autobuf text = { .max = 64 };
	record_get_text(r, key, &text);
	value_number(buf_as_span(&text), out);
}

static void get_text(struct record *r, const char *key, char *out, size_t size)
{
	autobuf text = { .max = 4096 };
	record_get_text(r, key, &text);
	snprintf(out, size, "%s", text.at ? text.at : "");
}

void ledger_get_poll(struct record *r, struct ledger_poll *out)
{
	char name[32];
	uint64_t last = 0, good = 0;
	*out = (struct ledger_poll){ 0 };
	get_number(r, "poll_last", &last);
	get_number(r, "poll_good", &good);
	get_number(r, "poll_deployments", &out->deployments);
	get_text(r, "poll_source", out->source, sizeof(out->source));
	get_text(r, "poll_error", name, sizeof(name));
	out->last_s = (int64_t)last;
	out->good_s = (int64_t)good;
	out->error.code = name[0] ? database_err_code(name) : ERR_OK;
	get_text(r, "poll_error_text", out->error.text, sizeof(out->error.text));
}

static enum err_code set_number(struct record *r, const char *key,
				uint64_t number, struct err *e)
{
	char text[24];
	snprintf(text, sizeof(text), "%" PRIu64,
		 number > INT64_MAX ? (uint64_t)0 : number);
	return record_set_text(r, key, span_of(text), e);
}

static enum err_code set_text(struct record *r, const char *key,
			      const char *text, struct err *e)
{
	char out[1024];
	size_t len = database_clean(span_of(text), sizeof(out) - 1, out);
	return record_set_text(r, key, (struct span){ out, len }, e);
}

static enum err_code set_poll(struct record *r, const struct ledger_poll *p,
			      struct err *e)
{
	bool is_good = p->error.code == ERR_OK;
	enum err_code rc = set_number(r, "poll_last", (uint64_t)p->last_s, e);
	if (rc == ERR_OK)
		rc = set_number(r, "poll_good", (uint64_t)p->good_s, e);
	if (rc == ERR_OK)
		rc = set_number(r, "poll_deployments", p->deployments, e);
	if (rc == ERR_OK)
		rc = set_text(r, "poll_source", p->source, e);
	if (rc == ERR_OK)
		rc = set_text(r, "poll_error", err_name(p->error.code), e);
	if (rc == ERR_OK)
		rc = set_text(r, "poll_error_text", is_good ? "" : p->error.text, e);
	return rc;
}

enum err_code ledger_set_poll(struct record *r, const struct ledger_poll *p,
			      struct err *e)
{
	struct database *d = record_database(r);
	enum err_code rc = database_begin(d, e);
	return rc == ERR_OK ? database_finish(d, set_poll(r, p, e), e) : rc;
}
