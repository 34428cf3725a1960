#include "tests/unit/test.h"

#include "agent/keeper/kept.h"
#include "agent/keeper/poll.h"
#include "tests/unit/files.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define URL "https://policy.contoso.com/all.cms"
#define OTHER "https://other.contoso.com/all.cms"
#define NOW 1800000000
#define HASH "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
#define POLICY(version) \
	"[deployment]\npackage = ABC00042\nversion = " version "\n"
#define POLICY_HASH(version) \
	POLICY(version) "\n[content]\nhash = sha256:" HASH "\n"

static void own_kept(struct kept *k)
{
	kept_free(k);
}
#define autokept __attribute__((cleanup(own_kept))) struct kept

static void own_list(struct deployment_list *l)
{
	deployment_list_free(l);
}
#define autolist __attribute__((cleanup(own_list))) struct deployment_list

static int keep(int dir, const char *source, const char *text, int64_t signed_s,
		struct err *e)
{
	bool changed = false;
	struct kept_new n = { .source = source, .etag = "\"e1\"",
			      .signed_s = signed_s, .now_s = NOW,
			      .text = span_of(text) };
	return kept_store(dir, &n, &changed, e) == ERR_OK ? changed : -1;
}

/* --- kept --------------------------------------------------------------------- */

TEST(kept_store__new_same_other__tells_which)
{
	struct err e = { 0 };
	int dir = files_new();
	assert_int_equal(keep(dir, URL, "one", NOW, &e), 1);
	assert_int_equal(keep(dir, URL, "one", NOW + 1, &e), 0);
	assert_int_equal(keep(dir, URL, "two", NOW + 2, &e), 1);
	files_assert(dir, "policy.bundle", "two");
	assert_int_equal(files_mode(dir, "policy.bundle") & 07777, 0600);
	assert_int_equal(files_mode(dir, "policy.origin") & 07777, 0600);
	close(dir);
}

TEST(kept_read__after_store__gives_it_back)
{
	struct err e = { 0 };
	autokept k = { 0 };
	int dir = files_new();
	assert_ok(kept_read(dir, &k, &e));
	assert_null(k.source);
	assert_false(kept_is_current(&k));
	assert_int_equal(keep(dir, URL, "one", NOW, &e), 1);
	assert_ok(kept_read(dir, &k, &e));
	assert_string_equal(k.source, URL);
	assert_string_equal(k.etag, "\"e1\"");
	assert_string_equal(k.text.at, "one");
	assert_int_equal(kept_signed(&k, URL), NOW);
	assert_int_equal(kept_signed(&k, OTHER), 0);
	assert_true(kept_is_current(&k));
	close(dir);
}

TEST(kept_store__older__rollback_and_nothing_changes)
{
	struct err e = { 0 };
	int dir = files_new();
	assert_int_equal(keep(dir, URL, "two", NOW, &e), 1);
	assert_int_equal(keep(dir, URL, "one", NOW - 1, &e), -1);
	assert_err(e.code, ERR_ROLLBACK);
	files_assert(dir, "policy.bundle", "two");
	close(dir);
}

TEST(kept_store__power_lost_between_the_files__old_text_new_age)
{
	struct err e = { 0 };
	autokept k = { 0 };
	int dir = files_new();
	assert_int_equal(keep(dir, URL, "one", NOW, &e), 1);
	assert_int_equal(keep(dir, URL, "two", NOW + 10, &e), 1);
	files_put(dir, "policy.bundle", "one"); /* as if it had not been written */
	assert_ok(kept_read(dir, &k, &e));
	assert_string_equal(k.text.at, "one");
	assert_false(kept_is_current(&k)); /* no etag: it is fetched again */
	assert_int_equal(kept_signed(&k, URL), NOW + 10);
	assert_int_equal(keep(dir, URL, "one", NOW + 5, &e), -1);
	assert_err(e.code, ERR_ROLLBACK);
	assert_int_equal(keep(dir, URL, "two", NOW + 10, &e), 1);
	files_assert(dir, "policy.bundle", "two");
	close(dir);
}

TEST(kept_read__power_lost_while_the_source_changed__nothing_of_the_other)
{
	struct err e = { 0 };
	autokept k = { 0 };
	int dir = files_new();
	assert_int_equal(keep(dir, URL, "one", NOW, &e), 1);
	assert_int_equal(keep(dir, OTHER, "two", NOW, &e), 1);
	files_put(dir, "policy.bundle", "one");
	assert_ok(kept_read(dir, &k, &e));
	assert_string_equal(k.source, OTHER);
	assert_string_equal(k.text_sha256, "");
	assert_int_equal(k.text.len, 0);
	close(dir);
}

TEST(kept_store__source_changed_and_back__age_is_remembered)
{
	struct err e = { 0 };
	autokept k = { 0 };
	int dir = files_new();
	assert_int_equal(keep(dir, URL, "one", NOW, &e), 1);
	assert_int_equal(keep(dir, OTHER, "two", NOW - 100, &e), 1);
	assert_ok(kept_read(dir, &k, &e));
	assert_int_equal(kept_signed(&k, URL), NOW);
	assert_int_equal(kept_signed(&k, OTHER), NOW - 100);
	assert_int_equal(keep(dir, URL, "zero", NOW - 1, &e), -1);
	assert_err(e.code, ERR_ROLLBACK);
	assert_int_equal(keep(dir, URL, "three", NOW + 1, &e), 1);
	kept_free(&k);
	assert_ok(kept_read(dir, &k, &e));
	assert_int_equal(kept_signed(&k, OTHER), NOW - 100);
	assert_null(strstr(k.others.at, URL));
	close(dir);
}

TEST(kept_store__hundred_sources__origin_stays_bounded)
{
	struct err e = { 0 };
	autokept k = { 0 };
	int dir = files_new();
	for (int i = 0; i < 100; i++) {
		char url[64];
		snprintf(url, sizeof(url), "https://p%d.contoso.com/x", i);
		assert_int_equal(keep(dir, url, "one", NOW + i, &e), 1);
	}
	assert_ok(kept_read(dir, &k, &e));
	assert_int_equal(kept_signed(&k, "https://p98.contoso.com/x"), NOW + 98);
	assert_int_equal(kept_signed(&k, "https://p9.contoso.com/x"), 0);
	close(dir);
}

TEST(kept_read__origin_that_is_none__as_good_as_none)
{
	static const char *const texts[] = {
		"", "\n", "source\n", "source x", "source x\nsha256 12\n",
		"source x\nsha256 " HASH "\nsigned soon\n",
		"source x\nsha256 " HASH "\nknown\n",
		"source x\nsha256 " HASH "\nelse 1\n", "[policy]\nsource = x\n",
	};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct err e = { 0 };
		autokept k = { 0 };
		int dir = files_new();
		files_put(dir, "policy.bundle", "one");
		files_put(dir, "policy.origin", texts[i]);
		assert_ok(kept_read(dir, &k, &e));
		if (i != 3)
			assert_null(k.source);
		assert_int_equal(k.text.len, 0);
		assert_int_equal(keep(dir, URL, "two", NOW, &e), 1);
		files_assert(dir, "policy.bundle", "two");
		close(dir);
	}
}

TEST(kept_read__writable_by_others__refused)
{
	struct err e = { 0 };
	autokept k = { 0 };
	int dir = files_new();
	assert_int_equal(keep(dir, URL, "one", NOW, &e), 1);
	assert_int_equal(fchmodat(dir, "policy.bundle", 0666, 0), 0);
	assert_err(kept_read(dir, &k, &e), ERR_FOLDER);
	assert_non_null(strstr(e.text, "policy.bundle"));
	assert_int_equal(fchmodat(dir, "policy.bundle", 0600, 0), 0);
	assert_int_equal(fchmodat(dir, "policy.origin", 0620, 0), 0);
	assert_err(kept_read(dir, &k, &e), ERR_FOLDER);
	assert_null(k.source);
	close(dir);
}

/* --- poll_load ------------------------------------------------------------------ */

/* Settings with a source on the network; state is the folder made last. */
static struct settings remote(void)
{
	static char source[] = URL, state[4096], local[4096];
	static char signer[] = "looked at when something is fetched";
	snprintf(state, sizeof(state), "%s", files_path(""));
	snprintf(local, sizeof(local), "%s", files_path("local"));
	return (struct settings){ .policy_source = source, .policy_local = local,
				  .policy_signer = signer,
				  .state_directory = state };
}

static char nobody[] = "";

TEST(poll_load__url_without_signer__problem)
{
	struct err e = { 0 };
	autolist l = { 0 };
	autobuf problems = { 0 };
	int dir = files_new();
	struct settings s = remote();
	s.policy_signer = nobody;
	assert_int_equal(keep(dir, URL, POLICY_HASH("3"), NOW, &e), 1);
	assert_err(poll_load(&s, NULL, true, &l, &problems, &e), ERR_POLICY);
	assert_int_equal(l.count, 0);
	assert_true(l.is_incomplete);
	assert_non_null(strstr(problems.at, "[policy] signer"));
	close(dir);
}

TEST(poll_is_remote__sources__told_apart)
{
	struct settings s = remote();
	assert_true(poll_is_remote(&s, NULL));
	assert_true(poll_is_remote(&s, "mp"));
	assert_true(poll_is_remote(&s, "http://x/y"));
	assert_false(poll_is_remote(&s, "/etc/mp"));
	assert_false(poll_is_remote(&s, "./mp"));
}

TEST(poll_load__never_fetched__empty)
{
	struct err e = { 0 };
	autolist l = { 0 };
	autobuf problems = { 0 };
	close(files_new());
	struct settings s = remote();
	assert_ok(poll_load(&s, NULL, true, &l, &problems, &e));
	assert_int_equal(l.count, 0);
	assert_true(l.is_incomplete);
	static char gone[] = "/nowhere/at/all";
	s.state_directory = gone;
	assert_ok(poll_load(&s, NULL, true, &l, &problems, &e));
	assert_int_equal(l.count, 0);
}

TEST(poll_load__kept_of_this_source__only_then)
{
	struct err e = { 0 };
	autolist l = { 0 };
	autobuf problems = { 0 };
	int dir = files_new();
	struct settings s = remote();
	assert_int_equal(keep(dir, URL, POLICY_HASH("3"), NOW, &e), 1);
	assert_ok(poll_load(&s, NULL, true, &l, &problems, &e));
	assert_int_equal(l.count, 1);
	assert_false(l.is_incomplete);
	assert_int_equal(l.items[0].content.version, 3);
	deployment_list_free(&l);
	assert_ok(poll_load(&s, OTHER, true, &l, &problems, &e));
	assert_int_equal(l.count, 0);
	assert_ok(poll_load(&s, "mp", true, &l, &problems, &e));
	assert_int_equal(l.count, 0);
	close(dir);
}

TEST(poll_load__local_folder_has_the_hash__joined)
{
	struct err e = { 0 };
	autolist l = { 0 };
	autobuf problems = { 0 };
	int dir = files_new();
	struct settings s = remote();
	assert_int_equal(keep(dir, "mp", POLICY("3"), 0, &e), 1);
	assert_int_equal(mkdirat(dir, "local", 0755), 0);
	files_put(dir, "local/a.ini", POLICY_HASH("3"));
	assert_ok(poll_load(&s, "mp", true, &l, &problems, &e));
	assert_int_equal(l.count, 2);
	assert_string_equal(l.items[0].hash, HASH);
	assert_string_equal(l.items[1].hash, HASH);
	close(dir);
}

TEST(poll_load__bad_local_file__problem_and_the_rest)
{
	struct err e = { 0 };
	autolist l = { 0 };
	autobuf problems = { 0 };
	int dir = files_new();
	struct settings s = remote();
	assert_int_equal(keep(dir, URL, POLICY_HASH("3"), NOW, &e), 1);
	assert_int_equal(mkdirat(dir, "local", 0755), 0);
	files_put(dir, "local/a.ini", "nonsense\n");
	assert_err(poll_load(&s, NULL, true, &l, &problems, &e), ERR_POLICY);
	assert_non_null(strstr(problems.at, "a.ini:1:"));
	assert_int_equal(l.count, 1);
	assert_true(l.is_incomplete);
	close(dir);
}

TEST(poll_load__no_https__problem)
{
	struct err e = { 0 };
	autolist l = { 0 };
	autobuf problems = { 0 };
	close(files_new());
	struct settings s = remote();
	assert_err(poll_load(&s, "http://x/y", true, &l, &problems, &e), ERR_POLICY);
	assert_non_null(strstr(problems.at, "https"));
}

TEST(poll_load__file_without_signature__refused_where_a_signer_is_set)
{
	struct err e = { 0 };
	autolist l = { 0 };
	autobuf problems = { 0 };
	int dir = files_new();
	struct settings s = remote();
	char signer[4096], policy[4096];
	snprintf(signer, sizeof(signer), "%s", files_path("signer.pem"));
	snprintf(policy, sizeof(policy), "%s", files_path("a.ini"));
	files_put(dir, "signer.pem", "not looked at before the signature\n");
	files_put(dir, "a.ini", POLICY_HASH("3"));
	s.policy_signer = nobody;
	assert_ok(poll_load(&s, policy, true, &l, &problems, &e));
	assert_int_equal(l.count, 1);
	deployment_list_free(&l);
	s.policy_signer = signer;
	assert_err(poll_load(&s, policy, true, &l, &problems, &e), ERR_SIGNATURE);
	assert_int_equal(l.count, 0);
	assert_non_null(strstr(problems.at, "a.ini.p7s"));
	/* a folder needs none */
	assert_int_equal(mkdirat(dir, "local", 0755), 0);
	files_put(dir, "local/a.ini", POLICY_HASH("3"));
	problems.len = 0;
	assert_ok(poll_load(&s, s.policy_local, true, &l, &problems, &e));
	assert_int_equal(l.count, 1);
	close(dir);
}

/* --- poll_fetch -------------------------------------------------------------------- */

TEST(poll_fetch__nothing_to_fetch__unchanged)
{
	struct err e = { 0 };
	bool changed = true;
	close(files_new());
	struct settings s = remote();
	assert_ok(poll_fetch(&s, files_path("local"), &changed, &e));
	assert_false(changed);
}

TEST(poll_fetch__no_signer__named)
{
	struct err e = { 0 };
	bool changed = true;
	close(files_new());
	struct settings s = remote();
	s.policy_signer = nobody;
	assert_err(poll_fetch(&s, NULL, &changed, &e), ERR_CONFIG);
	assert_non_null(strstr(e.text, "[policy] signer"));
	assert_false(changed);
	static char absent[] = "/nowhere/signer.pem";
	s.policy_signer = absent;
	assert_err(poll_fetch(&s, NULL, &changed, &e), ERR_CONFIG);
	assert_non_null(strstr(e.text, absent));
}
