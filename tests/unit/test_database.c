#include "tests/unit/files.h"
#include "tests/unit/test.h"

#include "agent/keeper/database.h"
#include "agent/keeper/ledger.h"
#include "agent/keeper/migrate.h"
#include "agent/keeper/outbox.h"
#include "common/clock.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/own.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[256];

static const char *at(const char *name)
{
	static char path[512];
	snprintf(path, sizeof(path), "%s/s/%s", folder, name);
	return path;
}

static void fresh(void)
{
	snprintf(folder, sizeof(folder), "%s", test_folder());
}

static struct database *open_again(void)
{
	struct err e = { 0 };
	struct database *d = database_open(at(""), &e);
	if (d == NULL)
		print_error("%s\n", e.text);
	assert_non_null(d);
	return d;
}

static void write_at(const char *name, long offset, const void *bytes, size_t len)
{
	autofd fd = open(at(name), O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, offset), (ssize_t)len);
}

/* How many files begin so? */
static unsigned count_of(const char *prefix)
{
	unsigned n = 0;
	DIR *dir = opendir(at(""));
	struct dirent *entry;
	while (dir && (entry = readdir(dir)) != NULL)
		n += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
	if (dir)
		closedir(dir);
	return n;
}

static void forget(void)
{
	DIR *dir = opendir(at(""));
	struct dirent *entry;
	while (dir && (entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
}

static int64_t number(struct database *d, const char *sql)
{
	struct err e = { 0 };
	sqlite3_stmt *s = database_statement(d, sql, &e);
	assert_non_null(s);
	assert_int_equal(sqlite3_step(s), SQLITE_ROW);
	int64_t n = sqlite3_column_int64(s, 0);
	assert_ok(database_end(d, s, &e));
	return n;
}

static enum err_code run(struct database *d, const char *sql, struct err *e)
{
	sqlite3_stmt *s = database_statement(d, sql, e);
	return s ? database_run(d, s, e) : e->code;
}

/* A handle without any of our care. */
static sqlite3 *open_raw(void)
{
	sqlite3 *db = NULL;
	mkdir(at(""), 0700);
	assert_int_equal(sqlite3_open(at("state.db"), &db), SQLITE_OK);
	return db;
}

static void exec_raw(const char *sql)
{
	sqlite3 *db = open_raw();
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* --- opening -------------------------------------------------------------- */

TEST(database_open__new_folder__private_and_whole)
{
	struct stat st;
	fresh();
	mode_t old = umask(0);
	struct database *d = open_again();
	assert_int_equal(number(d, "PRAGMA user_version"), MIGRATE_VERSION);
	assert_int_equal(number(d, "SELECT count(*) FROM job"), 0);
	assert_int_equal(stat(at("state.db-wal"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	database_close(d);
	umask(old);
	assert_int_equal(stat(at(""), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(at("state.db"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	/* the last one out leaves no log */
	assert_int_equal(count_of("state.db"), 1);
	database_close(NULL);
}

TEST(database_open__link_or_pipe_planted__refused)
{
	struct err e = { 0 };
	fresh();
	database_close(open_again());
	assert_int_equal(unlink(at("state.db")), 0);
	assert_int_equal(symlink("/tmp/planted", at("state.db")), 0);
	assert_null(database_open(at(""), &e));
	assert_err(e.code, ERR_FOLDER);
	assert_int_equal(unlink(at("state.db")), 0);
	assert_int_equal(mkfifo(at("state.db"), 0600), 0);
	assert_null(database_open(at(""), &e));
	assert_err(e.code, ERR_FOLDER);
	assert_int_equal(count_of("state.db.broken-"), 0);
}

TEST(database_open__folder_in_its_place__set_aside)
{
	fresh();
	mkdir(at(""), 0700);
	mkdir(at("state.db"), 0700);
	write_at("state.db/precious", 0, "x", 1);
	database_close(open_again());
	assert_int_equal(count_of("state.db.broken-"), 1);
}

TEST(database_open__newer_version__names_both)
{
	struct err e = { 0 };
	fresh();
	database_close(open_again());
	exec_raw("PRAGMA user_version = 4711");
	assert_null(database_open(at(""), &e));
	assert_err(e.code, ERR_FOLDER);
	assert_non_null(strstr(e.text, "version 4711"));
	assert_non_null(strstr(e.text, "up to 2"));
	assert_int_equal(count_of("state.db.broken-"), 0);
}

TEST(database_open__many_at_once__all_succeed)
{
	enum { RACERS = 24 };
	fresh();
	pid_t pids[RACERS];
	for (int i = 0; i < RACERS; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			struct err e = { 0 };
			struct database *d = database_open(at(""), &e);
			bool is_fine = d && run(d, "REPLACE INTO ill VALUES ('h', 1)",
						&e) == ERR_OK;
			if (!is_fine)
				fprintf(stderr, "%s\n", e.text);
			database_close(d);
			_exit(!is_fine);
		}
	}
	int failed = 0;
	for (int i = 0; i < RACERS; i++) {
		int status;
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		failed += status != 0;
	}
	assert_int_equal(failed, 0);
	assert_int_equal(count_of("state.db.broken-"), 0);
}

/* --- damage --------------------------------------------------------------- */

/* Everything that is done with a state in an ordinary run; how many of these
 * things failed. */
static unsigned use(struct record *r)
{
	struct err e = { 0 }, result = { .code = ERR_ABSENT, .text = "404" };
	struct ledger_sums sums;
	struct ledger_decision decision;
	struct ledger_job job = { .name = "ABC.1", .is_in_policy = true };
	struct job_attempt attempt = { .host = (char *)(uintptr_t) "dp",
				       .url = (char *)(uintptr_t) "http://dp/",
				       .why = result, .bytes_received = 7 };
	struct job_report report = { .content = { "ABC", 1, true },
				     .attempts = &attempt, .attempt_count = 1,
				     .delivered = -1,
				     .location.management_point =
					     (char *)(uintptr_t) "mp" };
	struct outbox_item item = { .topic = "ABC.1", .state = OUTBOX_FAILED };
	int64_t absent, ill;
	unsigned bad = record_set_host(r, "dp", WIRE_RUNG_PLAIN, WIRE_FORM_SCCM,
				       &e) != ERR_OK;
	bad += record_set_text(r, "k", SPAN_LIT("v"), &e) != ERR_OK;
	record_search_since(r, "ABC.1", 1000);
	bad += ledger_set_policy(r, &job, 1, 1000, &e) != ERR_OK;
	bad += ledger_add_run(r, &report, &result, "hand", 1000, &e) != ERR_OK;
	bad += ledger_add_hook(r, "ABC.1", "h", 0, "", &e) != ERR_OK;
	bad += outbox_add(r, &item, &e) != ERR_OK;
	bad += !outbox_first(r, &item);
	bad += outbox_remove(r, item.id, &e) != ERR_OK;
	bad += ledger_get_sums(r, &sums, &e) != ERR_OK;
	ledger_get_host(r, "dp", "ABC.1", 1000, &absent, &ill);
	bad += !ledger_get_decision(r, "ABC.1", &decision);
	ledger_decision_free(&decision);
	return bad;
}

static bool see_transfer(void *arg, const struct ledger_transfer *t)
{
	(void)t;
	++*(unsigned *)arg;
	return true;
}

/* Opens, and either all works now, or the damage that showed is found by the next
 * one to open. */
static void assert_survives(const char *what, long where)
{
	for (int round = 0; round < 2; round++) {
		struct err e = { 0 };
		unsigned seen = 0;
		struct record *r = record_open(at(""), &e);
		if (r == NULL)
			fail_msg("%s %ld: %s", what, where, e.text);
		unsigned bad = use(r);
		ledger_each_transfer(r, NULL, 100, see_transfer, &seen, &e);
		record_close(r);
		if (bad == 0)
			return;
		if (round == 1)
			fail_msg("%s %ld: %u failed: %s", what, where, bad, e.text);
	}
}

/* A state with something in each table. */
static void fill(struct buf *bytes)
{
	struct err e = { 0 };
	fresh();
	struct record *r = record_open(at(""), &e);
	assert_non_null(r);
	for (int i = 0; i < 3; i++)
		assert_int_equal(use(r), 0);
	struct outbox_item item = { .topic = "ABC.1", .state = OUTBOX_FAILED };
	assert_ok(outbox_add(r, &item, &e));
	record_close(r);
	bytes->max = 1 << 20;
	assert_ok(fs_read_all(AT_FDCWD, at("state.db"), bytes, &e));
}

/* Many files that are set aside are many warnings. */
static void quiet(void)
{
	log_open(&(struct log_options){ .stderr_level = LOG_ERROR, .dir_fd = -1 });
}

static void loud(void)
{
	log_open(&(struct log_options){ .stderr_level = LOG_WARNING, .dir_fd = -1 });
}

static void put_file(const struct buf *bytes, size_t len)
{
	forget();
	write_at("state.db", 0, bytes->at, len);
	assert_int_equal(truncate(at("state.db"), (off_t)len), 0);
}

TEST(database_open__cut_off_anywhere__never_fails)
{
	autobuf bytes = { 0 };
	fill(&bytes);
	quiet();
	for (size_t len = 0; len < bytes.len; len += len < 120 ? 7 : 1361) {
		put_file(&bytes, len);
		assert_survives("cut to", (long)len);
	}
	loud();
}

TEST(database_open__a_bit_flipped_anywhere__never_fails)
{
	autobuf bytes = { 0 };
	fill(&bytes);
	quiet();
	for (size_t i = 0; i < bytes.len * 8; i += i < 800 ? 5 : 6089) {
		size_t byte = i / 8;
		char mask = (char)(1 << i % 8);
		if (byte >= 60 && byte < 64)
			continue; /* user_version: a newer one is refused */
		bytes.at[byte] = (char)(bytes.at[byte] ^ mask);
		put_file(&bytes, bytes.len);
		assert_survives("bit", (long)i);
		bytes.at[byte] = (char)(bytes.at[byte] ^ mask);
	}
	loud();
}

TEST(database_open__every_page_overwritten__never_fails)
{
	autobuf bytes = { 0 };
	char junk[512];
	memset(junk, 0xa5, sizeof(junk));
	fill(&bytes);
	quiet();
	for (size_t offset = 0; offset + 512 <= bytes.len; offset += 2048) {
		put_file(&bytes, bytes.len);
		write_at("state.db", (long)offset, junk, sizeof(junk));
		assert_survives("junk at", (long)offset);
	}
	loud();
}

TEST(database_open__no_database__set_aside)
{
	fresh();
	database_close(open_again());
	write_at("state.db", 0, "this is no database, not at all", 31);
	assert_survives("text", 0);
	assert_int_equal(count_of("state.db.broken-"), 1);
}

TEST(database_open__log_of_another_file__not_taken)
{
	autobuf junk = { 0 };
	fresh();
	database_close(open_again());
	for (int i = 0; i < 9000; i++)
		buf_char(&junk, (char)(i * 7));
	write_at("state.db-wal", 0, junk.at, junk.len);
	assert_survives("log", 0);
	assert_int_equal(count_of("state.db.broken-"), 0);
}

TEST(database_open__table_or_column_missing__set_aside)
{
	fresh();
	database_close(open_again());
	exec_raw("DROP TABLE attempt");
	assert_survives("table", 0);
	assert_int_equal(count_of("state.db.broken-"), 1);
	forget();
	database_close(open_again());
	exec_raw("ALTER TABLE job RENAME COLUMN tries TO trles");
	assert_survives("column", 0);
	assert_int_equal(count_of("state.db.broken-"), 1);
}

TEST(database_open__something_more_in_it__fine)
{
	fresh();
	database_close(open_again());
	exec_raw("CREATE TABLE by_hand (a); CREATE INDEX mine ON job (title)");
	assert_survives("more", 0);
	assert_int_equal(count_of("state.db.broken-"), 0);
}

TEST(database_open__broken_again_and_again__only_the_newest_are_kept)
{
	struct clock_fake clock = { .now_ms = 1000, .wall_ms = 1000000000000 };
	fresh();
	clock_set_fake(&clock);
	for (int i = 0; i < 6; i++) {
		clock.wall_ms += 1000;
		database_close(open_again());
		write_at("state.db", 0, "broken", 6);
		write_at("state.db-wal", 0, "too", 3);
	}
	database_close(open_again());
	clock_set_fake(NULL);
	assert_int_equal(access(at("state.db.broken-1000000006"), F_OK), 0);
	assert_int_equal(access(at("state.db.broken-1000000003"), F_OK), -1);
	assert_true(count_of("state.db.broken-") <= 2 * DATABASE_BROKEN);
}

/* --- looking for damage now and then -------------------------------------- */

/* More than DATABASE_SMALL, with a page that nobody reads by chance. */
static void make_large(void)
{
	struct err e = { 0 };
	struct database *d = open_again();
	assert_ok(run(d, "INSERT INTO text (key, value) WITH RECURSIVE n (i) AS"
		      " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)"
		      " SELECT 'k' || i, randomblob(900) FROM n", &e));
	database_close(d);
}

static long break_a_leaf(void)
{
	struct stat st;
	assert_int_equal(stat(at("state.db"), &st), 0);
	long page = st.st_size / 4096 / 2 * 4096;
	write_at("state.db", page, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
	return page;
}

TEST(database_open__large__looked_at_once_a_day)
{
	struct clock_fake clock = { .now_ms = 1000000000, .wall_ms = 1800000000000 };
	fresh();
	clock_set_fake(&clock);
	make_large();
	database_close(open_again()); /* this one looks */
	assert_int_equal(access(at("state.db.checked"), F_OK), 0);
	break_a_leaf();
	clock.wall_ms += 3600000;
	clock.now_ms += 3600000;
	database_close(open_again());
	assert_int_equal(count_of("state.db.broken-"), 0);
	clock.wall_ms += 23 * 3600000;
	clock.now_ms += 23 * 3600000;
	database_close(open_again());
	clock_set_fake(NULL);
	assert_int_equal(count_of("state.db.broken-"), 1);
}

TEST(database_open__large_after_a_boot_or_another_clock__looked_at)
{
	struct clock_fake clock = { .now_ms = 1000000000, .wall_ms = 1800000000000 };
	for (int i = 0; i < 2; i++) {
		fresh();
		clock_set_fake(&clock);
		make_large();
		database_close(open_again());
		break_a_leaf();
		if (i == 0)
			clock.now_ms = 5000;
		else
			clock.wall_ms -= 3LL * 365 * 86400000;
		clock.wall_ms += 60000;
		database_close(open_again());
		clock_set_fake(NULL);
		assert_int_equal(count_of("state.db.broken-"), 1);
	}
}

TEST(database_run__damage_shows__next_one_looks)
{
	struct err e = { 0 };
	fresh();
	make_large();
	database_close(open_again());
	break_a_leaf();
	struct database *d = open_again();
	assert_err(run(d, "UPDATE text SET value = zeroblob(901)", &e), ERR_FOLDER);
	assert_non_null(strstr(e.text, "malformed"));
	database_close(d);
	assert_int_equal(count_of("state.db.broken-"), 0);
	database_close(open_again());
	assert_int_equal(count_of("state.db.broken-"), 1);
}

TEST(database_open__mostly_unused__made_small_again)
{
	struct err e = { 0 };
	struct stat st;
	fresh();
	make_large();
	struct database *d = open_again();
	assert_ok(run(d, "DELETE FROM text WHERE key <> 'k77'", &e));
	assert_ok(run(d, "DELETE FROM text WHERE key = 'none'", &e));
	database_close(d);
	unlink(at("state.db.checked"));
	d = open_again();
	assert_int_equal(number(d, "SELECT count(*) FROM text WHERE key = 'k77'"), 1);
	database_close(d);
	assert_int_equal(stat(at("state.db"), &st), 0);
	assert_true(st.st_size < 1 << 20);
}

TEST(database_commit__much_while_others_have_it_open__log_stays_small)
{
	struct err e = { 0 };
	struct stat st;
	fresh();
	struct database *other = open_again();
	make_large();
	assert_int_equal(stat(at("state.db-wal"), &st), 0);
	assert_true(st.st_size > 4 << 20);
	struct database *d = open_again();
	for (int i = 0; i < 3; i++)
		assert_ok(run(d, "REPLACE INTO ill VALUES ('h', 1)", &e));
	assert_int_equal(stat(at("state.db-wal"), &st), 0);
	assert_true(st.st_size <= 1 << 20);
	database_close(d);
	database_close(other);
	assert_int_equal(access(at("state.db-wal"), F_OK), -1);
}

TEST(database_begin__killed_within__what_was_committed_stays)
{
	int status;
	fresh();
	pid_t pid = fork();
	if (pid == 0) {
		struct err e = { 0 };
		struct database *d = database_open(at(""), &e);
		if (d && run(d, "INSERT INTO ill VALUES ('a', 1)", &e) == ERR_OK &&
		    database_begin(d, &e) == ERR_OK &&
		    run(d, "INSERT INTO ill VALUES ('b', 1)", &e) == ERR_OK)
			raise(SIGKILL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	struct database *d = open_again();
	assert_int_equal(number(d, "SELECT count(*) FROM ill"), 1);
	database_close(d);
	assert_int_equal(count_of("state.db.broken-"), 0);
}

/* Another process, forked while nothing was open (SQLite's bookkeeping of handles
 * would be copied): for each byte that comes it opens the file, writes, closes it. */
static pid_t start_writer(int pair[2])
{
	char byte;
	int line = pair[1];
	pid_t pid = fork();
	close(pair[pid == 0 ? 0 : 1]);
	while (pid == 0 && read(line, &byte, 1) == 1) {
		struct err e = { 0 };
		struct database *d = database_open(at(""), &e);
		bool is_good = d && run(d, "INSERT INTO ill VALUES (hex(randomblob(8)),"
					" 1)", &e) == ERR_OK;
		database_close(d);
		if (!is_good || write(line, &byte, 1) != 1)
			break;
	}
	if (pid == 0)
		_exit(0);
	return pid;
}

static void let_write(int line)
{
	char byte = 'w';
	assert_int_equal(write(line, &byte, 1), 1);
	assert_int_equal(read(line, &byte, 1), 1);
}

/* --once keeps it open while each of its jobs opens it once more. */
TEST(database_open__second_handle_of_a_process__first_keeps_its_locks)
{
	struct err e = { 0 };
	int line[2];
	fresh();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, line), 0);
	pid_t pid = start_writer(line);
	struct database *first = open_again();
	assert_ok(run(first, "INSERT INTO ill VALUES ('a', 1)", &e));
	database_close(open_again());
	let_write(line[0]); /* not the last one out: the log must stay */
	int log_is_there = access(at("state.db-wal"), F_OK) == 0;
	enum err_code rc = run(first, "INSERT INTO ill VALUES ('b', 1)", &e);
	let_write(line[0]);
	database_close(first);
	close(line[0]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_true(log_is_there);
	assert_ok(rc);
	struct database *d = open_again();
	assert_int_equal(number(d, "SELECT count(*) FROM ill"), 4);
	database_close(d);
	assert_int_equal(count_of("state.db.broken-"), 0);
}

/* --- versions ------------------------------------------------------------- */

/* As agents of version 1 made it. */
static void make_version_1(void)
{
	exec_raw("PRAGMA journal_mode = WAL;"
		 "CREATE TABLE IF NOT EXISTS host (name TEXT PRIMARY KEY,"
		 " rung INTEGER NOT NULL, form INTEGER NOT NULL, seen INTEGER NOT NULL)"
		 " STRICT, WITHOUT ROWID;"
		 "CREATE TABLE IF NOT EXISTS text (key TEXT PRIMARY KEY,"
		 " value BLOB NOT NULL) STRICT, WITHOUT ROWID;"
		 "CREATE TABLE IF NOT EXISTS search (name TEXT PRIMARY KEY,"
		 " since INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
		 "PRAGMA user_version = 1;"
		 "INSERT INTO host VALUES ('dp01', 1, 2, 1700000000);"
		 "INSERT INTO text VALUES ('boundary_groups', x'6162');"
		 "INSERT INTO search VALUES ('ABC.1', 1700000000);");
}

static void assert_migrated(void)
{
	struct database *d = open_again();
	assert_int_equal(number(d, "PRAGMA user_version"), MIGRATE_VERSION);
	assert_int_equal(number(d, "SELECT rung FROM host WHERE name = 'dp01'"), 1);
	assert_int_equal(number(d, "SELECT value = x'6162' FROM text"
				" WHERE key = 'boundary_groups'"), 1);
	assert_int_equal(number(d, "SELECT since FROM search WHERE name = 'ABC.1'"),
			 1700000000);
	assert_int_equal(number(d, "SELECT count(*) FROM job"), 0);
	database_close(d);
	assert_int_equal(count_of("state.db.broken-"), 0);
}

TEST(database_open__version_1__brought_forward_with_its_rows)
{
	fresh();
	make_version_1();
	assert_migrated();
	assert_migrated();
}

TEST(database_open__version_1_and_many_agents__one_does_it)
{
	enum { RACERS = 8 };
	fresh();
	make_version_1();
	pid_t pids[RACERS];
	for (int i = 0; i < RACERS; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			struct err e = { 0 };
			struct database *d = database_open(at(""), &e);
			if (d == NULL)
				fprintf(stderr, "%s\n", e.text);
			database_close(d);
			_exit(d == NULL);
		}
	}
	for (int i = 0; i < RACERS; i++) {
		int status;
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	assert_migrated();
}

static int kill_ourselves(void *arg)
{
	(void)arg;
	raise(SIGKILL);
	return 1;
}

TEST(migrate_run__killed_before_its_end__old_version_stays)
{
	int status;
	fresh();
	make_version_1();
	pid_t pid = fork();
	if (pid == 0) {
		sqlite3 *db = NULL;
		sqlite3_open(at("state.db"), &db);
		/* all tables are made by then, and the version is set */
		sqlite3_commit_hook(db, kill_ourselves, NULL);
		migrate_run(db, 1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	sqlite3 *db = open_raw();
	sqlite3_stmt *s = NULL;
	assert_int_equal(sqlite3_prepare_v2(db, "SELECT user_version, (SELECT count(*)"
					    " FROM sqlite_schema WHERE name = 'job')"
					    " FROM pragma_user_version", -1, &s, NULL),
			 SQLITE_OK);
	assert_int_equal(sqlite3_step(s), SQLITE_ROW);
	assert_int_equal(sqlite3_column_int(s, 0), 1);
	assert_int_equal(sqlite3_column_int(s, 1), 0);
	sqlite3_finalize(s);
	sqlite3_close(db);
	assert_migrated();
}

TEST(database_open__marked_older_than_it_is__set_aside)
{
	fresh();
	database_close(open_again());
	exec_raw("PRAGMA user_version = 1");
	assert_survives("mark", 0);
	assert_int_equal(count_of("state.db.broken-"), 1);
}

/* --- no room, no right ---------------------------------------------------- */

static int remount(unsigned long flags, const char *options)
{
	return mount("none", "t/m", NULL, MS_REMOUNT | flags, options);
}

/* Which of these went wrong; 0 = none, -1 = not allowed here. */
static int on_full_disk(int dir)
{
	struct err e = { 0 };
	(void)dir;
	if (files_mount_small() < 0)
		return -1;
	if (database_open("t/m", &e) != NULL || e.code != ERR_SPACE_DISK)
		return 1; /* 64 KiB are not enough for it */
	if (remount(0, "size=300k") != 0)
		return -1;
	struct database *d = database_open("t/m", &e);
	if (d == NULL)
		return 2; /* there is room now */
	if (run(d, "INSERT INTO text VALUES ('a', randomblob(1000))", &e) != ERR_OK)
		return 3;
	if (run(d, "INSERT INTO text VALUES ('b', randomblob(900000))", &e) !=
	    ERR_SPACE_DISK)
		return 4;
	if (number(d, "SELECT count(*) FROM text") != 1)
		return 5;
	database_close(d);
	if (remount(MS_RDONLY, NULL) != 0)
		return -1;
	if (database_open("t/m", &e) != NULL || e.code != ERR_FOLDER ||
	    strstr(e.text, "Read-only file system") == NULL)
		return 6;
	if (remount(0, "size=300k") != 0)
		return -1;
	d = database_open("t/m", &e);
	if (d == NULL || number(d, "SELECT count(*) FROM text") != 1)
		return 7;
	database_close(d);
	return access("t/m/state.db.checked", F_OK) == 0 ? 8 : 0;
}

TEST(database_open__disk_full_then_free_then_read_only__named_and_kept)
{
	autofd dir = files_new();
	int which = files_in_child(on_full_disk, dir, 0);
	if (which == 255)
		skip();
	assert_int_equal(which, 0);
}

/* --- transactions --------------------------------------------------------- */

TEST(database_commit__nested__one_transaction)
{
	struct err e = { 0 };
	fresh();
	struct database *d = open_again();
	assert_err(database_commit(d, &e), ERR_INTERNAL);
	assert_ok(database_begin(d, &e));
	assert_ok(run(d, "INSERT INTO ill VALUES ('a', 1)", &e));
	assert_ok(database_begin(d, &e));
	assert_ok(run(d, "INSERT INTO ill VALUES ('b', 1)", &e));
	assert_ok(database_commit(d, &e));
	database_rollback(d);
	assert_int_equal(number(d, "SELECT count(*) FROM ill"), 0);
	assert_ok(database_begin(d, &e));
	assert_ok(run(d, "INSERT INTO ill VALUES ('a', 1)", &e));
	assert_ok(database_finish(d, ERR_OK, &e));
	assert_int_equal(number(d, "SELECT count(*) FROM ill"), 1);
	database_rollback(d); /* nothing to do */
	database_close(d);
}

TEST(database_rollback__of_an_inner_one__nothing_is_kept)
{
	struct err e = { 0 };
	fresh();
	struct database *d = open_again();
	assert_ok(database_begin(d, &e));
	assert_ok(database_begin(d, &e));
	assert_ok(run(d, "INSERT INTO ill VALUES ('a', 1)", &e));
	assert_err(database_finish(d, ERR_LIMIT, &e), ERR_LIMIT);
	assert_ok(run(d, "INSERT INTO ill VALUES ('b', 1)", &e));
	assert_err(database_commit(d, &e), ERR_FOLDER);
	assert_int_equal(number(d, "SELECT count(*) FROM ill"), 0);
	/* and the next one is its own */
	assert_ok(database_begin(d, &e));
	assert_ok(run(d, "INSERT INTO ill VALUES ('c', 1)", &e));
	assert_ok(database_commit(d, &e));
	assert_int_equal(number(d, "SELECT count(*) FROM ill"), 1);
	database_close(d);
}

TEST(database_close__within_a_transaction__nothing_is_kept)
{
	struct err e = { 0 };
	fresh();
	struct database *d = open_again();
	assert_ok(database_begin(d, &e));
	assert_ok(run(d, "INSERT INTO ill VALUES ('a', 1)", &e));
	database_close(d);
	d = open_again();
	assert_int_equal(number(d, "SELECT count(*) FROM ill"), 0);
	database_close(d);
}

TEST(database_statement__wrong__error_and_no_handle)
{
	struct err e = { 0 };
	fresh();
	struct database *d = open_again();
	assert_null(database_statement(d, "SELECT none FROM nowhere", &e));
	assert_err(e.code, ERR_FOLDER);
	static const char once[] = "SELECT ?1";
	sqlite3_stmt *s = database_statement(d, once, &e);
	sqlite3_bind_int(s, 1, 7);
	assert_ptr_equal(database_statement(d, once, &e), s);
	assert_int_equal(sqlite3_step(s), SQLITE_ROW);
	assert_int_equal(sqlite3_column_type(s, 0), SQLITE_NULL);
	assert_ok(database_end(d, s, &e));
	database_close(d);
}

/* --- values --------------------------------------------------------------- */

TEST(database_clean__not_utf8_or_too_long__well_formed)
{
	char out[16];
	static const struct {
		const char *in;
		size_t most;
		const char *want;
	} cases[] = {
		{ "abc", 15, "abc" },
		{ "", 15, "" },
		{ "abc", 2, "ab" },
		{ "a\xc3\xa4", 2, "a" },          /* not half a character */
		{ "a\xc3\xa4", 3, "a\xc3\xa4" },
		{ "a\xc3", 15, "a" },             /* cut by whoever wrote it */
		{ "\xe2\x82", 15, "" },
		{ "a\xff\xfe" "b", 15, "a??b" },
		{ "\xed\xa0\x80", 15, "???" },    /* a surrogate */
		{ "\xc0\xaf", 15, "??" },         /* overlong */
		{ "x\x80", 15, "x?" },
		{ "x\xe2\x82z", 15, "x??z" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		size_t len = database_clean(span_of(cases[i].in), cases[i].most, out);
		assert_string_equal(out, cases[i].want);
		assert_int_equal(len, strlen(out));
	}
}

TEST(database_err__every_code__round_trip)
{
	struct err e = { 0 }, in, out;
	fresh();
	struct database *d = open_again();
	for (int i = 0; i <= ERR_COUNT; i++) {
		in = (struct err){ .code = (enum err_code)i, .text = "why" };
		sqlite3_stmt *s = database_statement(d, "SELECT ?1, ?2", &e);
		database_bind_err(s, 1, &in);
		assert_int_equal(sqlite3_step(s), SQLITE_ROW);
		database_get_err(s, 0, &out);
		assert_int_equal(out.code, i == ERR_COUNT ? ERR_INTERNAL : in.code);
		assert_string_equal(out.text, i == ERR_OK ? "" : "why");
		assert_ok(database_end(d, s, &e));
	}
	assert_int_equal(database_err_code("OF_A_LATER_AGENT"), ERR_INTERNAL);
	database_close(d);
}

TEST(database_number__beyond_the_column__its_largest)
{
	struct err e = { 0 };
	fresh();
	struct database *d = open_again();
	sqlite3_stmt *s = database_statement(d, "SELECT ?1, -5", &e);
	database_bind_number(s, 1, UINT64_MAX);
	assert_int_equal(sqlite3_step(s), SQLITE_ROW);
	assert_true(database_get_number(s, 0) == INT64_MAX);
	assert_int_equal(database_get_number(s, 1), 0);
	assert_ok(database_end(d, s, &e));
	database_close(d);
}
