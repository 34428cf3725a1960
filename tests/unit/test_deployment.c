#include "tests/unit/test.h"

#include "policy/deployment.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEX_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
/* sha256sum of the listing "HEX_A  setup.exe\n" */
#define LIST_A HEX_A "  setup.exe\n"
#define BASE "[deployment]\npackage = ABC00042\nversion = 3\n"

/* A policy folder and what was read of it. */
struct folder {
	char path[200];
	struct deployment_list list;
	struct buf problems;
	struct err e;
};

static void folder_free(struct folder *f)
{
	deployment_list_free(&f->list);
	buf_free(&f->problems);
}
#define autofolder __attribute__((cleanup(folder_free))) struct folder

static void begin(struct folder *f)
{
	*f = (struct folder){ 0 };
	snprintf(f->path, sizeof(f->path), "%s", test_folder());
}

static void put(struct folder *f, const char *name, const char *text)
{
	char path[400];
	snprintf(path, sizeof(path), "%s/%s", f->path, name);
	FILE *file = fopen(path, "we");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	chmod(path, 0644);
}

static enum err_code load(struct folder *f)
{
	deployment_list_free(&f->list);
	buf_clear(&f->problems);
	return deployment_load(f->path, true, &f->list, &f->problems, &f->e);
}

static void assert_ok_of(enum err_code rc, const struct folder *f)
{
	if (rc != ERR_OK || f->problems.len)
		fail_msg("%s: %s", err_name(rc), f->problems.at);
}

static void assert_loaded(struct folder *f)
{
	assert_ok_of(load(f), f);
}

static void assert_problem(const struct folder *f, const char *rest)
{
	autobuf line = { 0 };
	buf_print(&line, "%s%s", f->path, rest);
	if (!f->problems.at || !strstr(f->problems.at, line.at))
		fail_msg("no \"%s\" in: %s", line.at, f->problems.at);
}

/* One policy of this text is refused with this problem in "x.ini<rest>". */
static void refused(const char *text, const char *rest)
{
	autofolder f;
	char line[300];
	begin(&f);
	put(&f, "x.ini", text);
	assert_err(load(&f), ERR_POLICY);
	snprintf(line, sizeof(line), "/x.ini%s", rest);
	assert_problem(&f, line);
	assert_int_equal(f.list.count, 0);
}

TEST(deployment_load__full_file__all_fields)
{
	autofolder f;
	begin(&f);
	put(&f, "a.ini", "[deployment]\nid = ABC20017\nname = Contoso VPN client 4.2\n"
			 "package = ABC00042\nversion = 3\npurpose = available\n"
			 "priority = high\n"
			 "available = 2026-11-22T00:00:00Z\n"
			 "deadline = 2026-11-25T00:00:00Z\n"
			 "[content]\nhash = sha256:" HEX_A "\nsize = 123456789\n"
			 "[sources]\ncloud = prefer ; first\n");
	assert_loaded(&f);
	assert_int_equal(f.list.count, 1);
	const struct deployment *d = &f.list.items[0];
	assert_string_equal(d->id, "ABC20017");
	assert_string_equal(d->name, "Contoso VPN client 4.2");
	assert_string_equal(d->content.id, "ABC00042");
	assert_int_equal(d->content.version, 3);
	assert_true(d->content.has_version);
	assert_false(d->is_required);
	assert_int_equal(d->priority, 2);
	assert_string_equal(d->site_hash, "");
	assert_int_equal(d->available_s, 1795305600);
	assert_int_equal(d->deadline_s - d->available_s, 3 * 86400);
	assert_string_equal(d->hash, HEX_A);
	assert_int_equal(d->size, 123456789);
	assert_int_equal(d->cloud, CHOOSE_CLOUD_PREFER);
	assert_int_equal(d->files.count, 0);
	assert_non_null(strstr(d->path, "/a.ini"));
}

TEST(deployment_load__smallest_file__defaults)
{
	autofolder f;
	begin(&f);
	put(&f, "a.ini", BASE);
	assert_loaded(&f);
	const struct deployment *d = &f.list.items[0];
	assert_string_equal(d->id, "");
	assert_string_equal(d->name, "ABC00042.3");
	assert_true(d->is_required);
	assert_int_equal(d->priority, 1);
	assert_int_equal(d->available_s, 0);
	assert_int_equal(d->deadline_s, 0);
	assert_string_equal(d->hash, "");
	assert_true(d->size == DEPLOYMENT_SIZE_UNKNOWN);
	assert_int_equal(d->cloud, CHOOSE_CLOUD_FALLBACK);
}

TEST(deployment_load__missing_or_bad_keys__problems)
{
	refused("", ": [deployment] package is missing");
	refused("[deployment]\npackage = A\n", ": [deployment] version is missing");
	refused("[deployment]\npackage = ../x\nversion = 1\n",
		":2: [deployment] package = ../x: must be a content id");
	refused("[deployment]\npackage = ABC00042.3\nversion = 3\n",
		":2: [deployment] package = ABC00042.3: must be without version");
	refused("[deployment]\npackage = A\nversion = 0\n",
		":3: [deployment] version = 0: must be a number from 1 to 4294967295");
	refused(BASE "purpose = requird\n",
		":4: [deployment] purpose = requird: must be required or available");
	refused(BASE "available = tomorrow\n",
		":4: [deployment] available = tomorrow: must be a time as 2026");
	refused(BASE "deadlin = x\n", ":4: unknown key deadlin in [deployment]; did "
				      "you mean deadline?");
	refused(BASE "[content]\nhash = sha1:" HEX_A "\n", ":5: [content] hash = sha1");
	refused(BASE "[content]\nhash = sha256:12\n", ":5: [content] hash = sha256:12:"
						      " must be sha256: and 64 hex");
	refused(BASE "[content]\nhash =\n", ":5: [content] hash = : must not be");
	refused(BASE "[content]\nsize = 5G\n", ":5: [content] size = 5G: must be a "
					       "number from 0 up");
	refused(BASE "[sources]\ncloud = always\n",
		":5: [sources] cloud = always: must be fallback, prefer or never");
	refused(BASE "[dns]\n", ":4: unknown section [dns]; there are [deployment] "
				"[content] [sources]");
	refused(BASE "priority = urgent\n",
		":4: [deployment] priority = urgent: must be low, normal or high");
	refused(BASE "[content]\nsite_hash = 99\n",
		":5: [content] site_hash can only come from the site");
	refused(BASE "version = 4\n",
		":4: [deployment] version stands already in line 3");
	refused(BASE "available = 2026-11-22T00:00:00Z\ndeadline = "
		     "2026-11-21T23:59:59Z\n",
		":5: [deployment] deadline lies before available");
}

TEST(deployment_load__several_bad_files__all_problems_and_the_good_one)
{
	autofolder f;
	begin(&f);
	put(&f, "1.ini", BASE);
	put(&f, "2.ini", "package = x\n[deployment\n");
	put(&f, "3.ini", "[deployment]\nfoo = 1\n");
	assert_err(load(&f), ERR_POLICY);
	assert_problem(&f, "/2.ini:1: stands before");
	assert_problem(&f, "/2.ini:2: section without ']'");
	assert_problem(&f, "/3.ini:2: unknown key foo");
	assert_int_equal(f.list.count, 1);
}

TEST(deployment_load__folder__ini_files_in_order_of_bytes)
{
	autofolder f;
	begin(&f);
	put(&f, "b.ini", "[deployment]\nid = 2\npackage = B\nversion = 1\n");
	put(&f, "a.ini", "[deployment]\nid = 1\npackage = A\nversion = 1\n");
	put(&f, "Z.ini", "[deployment]\nid = 0\npackage = Z\nversion = 1\n");
	put(&f, "readme.txt", "nothing");
	put(&f, "a.ini.bak", "nothing");
	put(&f, ".hidden.ini", "nothing");
	assert_loaded(&f);
	assert_int_equal(f.list.count, 3);
	assert_string_equal(f.list.items[0].id, "0");
	assert_string_equal(f.list.items[1].id, "1");
	assert_string_equal(f.list.items[2].id, "2");
}

TEST(deployment_load__one_file__with_its_list_beside)
{
	autofolder f;
	begin(&f);
	put(&f, "a.policy", BASE "[content]\nfiles = a.sha256\n");
	put(&f, "a.sha256", LIST_A);
	size_t len = strlen(f.path);
	snprintf(f.path + len, sizeof(f.path) - len, "/a.policy");
	assert_loaded(&f);
	assert_int_equal(f.list.count, 1);
	assert_int_equal(f.list.items[0].files.count, 1);
}

TEST(deployment_load__file_list__its_hash_is_the_hash)
{
	autofolder f;
	begin(&f);
	put(&f, "a.ini", BASE "[content]\nfiles = a.sha256\n");
	put(&f, "a.sha256", HEX_B "  sub/x y\n" HEX_A " *setup.exe\n");
	assert_loaded(&f);
	const struct deployment *d = &f.list.items[0];
	assert_int_equal(d->files.count, 2);
	assert_string_equal(d->files.lines[0].path, "setup.exe");
	struct listing copy = { 0 };
	char hex[DIGEST_HEX_SIZE];
	struct err e = { 0 };
	assert_ok(listing_add(&copy, "sub/x y", HEX_B, &e));
	assert_ok(listing_add(&copy, "setup.exe", HEX_A, &e));
	assert_ok(listing_hash(&copy, hex, &e));
	listing_free(&copy);
	assert_string_equal(d->hash, hex);
	/* and named as well, in capitals */
	char text[300];
	for (char *p = hex; *p; p++)
		*p = (char)(*p >= 'a' ? *p - 32 : *p);
	snprintf(text, sizeof(text), BASE "[content]\nfiles = a.sha256\nhash = "
		 "sha256:%s\n", hex);
	put(&f, "a.ini", text);
	assert_loaded(&f);
}

TEST(deployment_load__file_list_with_another_hash__problem)
{
	autofolder f;
	begin(&f);
	put(&f, "a.ini", BASE "[content]\nhash = sha256:" HEX_B "\n"
			      "files = a.sha256\n");
	put(&f, "a.sha256", LIST_A);
	assert_err(load(&f), ERR_POLICY);
	assert_problem(&f, "/a.ini:6: [content] files = a.sha256 hashes to sha256:");
	assert_non_null(strstr(f.problems.at, "but hash is sha256:" HEX_B));
	assert_int_equal(f.list.count, 0);
}

TEST(deployment_load__bad_file_lists__problems)
{
	static const struct {
		const char *text, *problem;
	} cases[] = {
		{ "", "/a.ini:5: [content] files = a.sha256: lists no file" },
		{ "nonsense\n", "/a.ini:5: [content] files = a.sha256: " },
		{ HEX_A "  ../x\n", "/a.ini:5: [content] files = a.sha256: " },
		{ LIST_A LIST_A, "/a.ini:5: [content] files = a.sha256: " },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		autofolder f;
		begin(&f);
		put(&f, "a.ini", BASE "[content]\nfiles = a.sha256\n");
		put(&f, "a.sha256", cases[i].text);
		assert_err(load(&f), ERR_POLICY);
		assert_problem(&f, cases[i].problem);
	}
	refused(BASE "[content]\nfiles = a.sha256\n",
		":5: [content] files = a.sha256: cannot open it: No such file");
	refused(BASE "[content]\nfiles = ../a.sha256\n",
		":5: [content] files = ../a.sha256: must be the name of a file beside");
	refused(BASE "[content]\nfiles = ..\n", ":5: [content] files = ..: must be");
}

TEST(deployment_load__two_hashes_for_one_content__neither_is_used)
{
	autofolder f;
	begin(&f);
	put(&f, "a.ini", BASE "[content]\nhash = sha256:" HEX_A "\n");
	put(&f, "b.ini", "[deployment]\npackage = abc00042\nversion = 3\n"
			 "[content]\nhash = sha256:" HEX_B "\n");
	put(&f, "c.ini", "[deployment]\npackage = ABC00042\nversion = 4\n"
			 "[content]\nhash = sha256:" HEX_B "\n");
	assert_err(load(&f), ERR_POLICY);
	assert_problem(&f, "/b.ini: another hash for abc00042 version 3 than in /");
	assert_int_equal(f.list.count, 1);
	assert_int_equal(f.list.items[0].content.version, 4);
}

TEST(deployment_load__three_that_disagree__none_is_used)
{
	autofolder f;
	begin(&f);
	put(&f, "a.ini", BASE "[content]\nhash = sha256:" HEX_A "\n");
	put(&f, "b.ini", BASE "[content]\nhash = sha256:" HEX_A "\n");
	put(&f, "c.ini", BASE "[content]\nhash = sha256:" HEX_B "\n");
	put(&f, "d.ini", BASE);
	assert_err(load(&f), ERR_POLICY);
	assert_problem(&f, "/c.ini: another hash for ABC00042 version 3 than in /");
	assert_int_equal(f.list.count, 1); /* that names none */
	assert_string_equal(f.list.items[0].hash, "");
}

TEST(deployment_load__second_source__adds_and_conflicts_with_the_first)
{
	autofolder f, other;
	begin(&f);
	begin(&other);
	put(&f, "a.ini", BASE "[content]\nhash = sha256:" HEX_A "\n");
	put(&f, "b.ini", "[deployment]\npackage = B\nversion = 1\n");
	put(&other, "c.ini", BASE "[content]\nhash = sha256:" HEX_B "\n");
	put(&other, "d.ini", "[deployment]\npackage = D\nversion = 1\n");
	assert_loaded(&f);
	assert_err(deployment_load(other.path, true, &f.list, &f.problems, &f.e),
		   ERR_POLICY);
	assert_non_null(strstr(f.problems.at, "/c.ini: another hash for ABC00042"));
	assert_int_equal(f.list.count, 2);
	assert_string_equal(f.list.items[0].content.id, "B");
	assert_string_equal(f.list.items[1].content.id, "D");
}

TEST(deployment_load__more_problems_than_can_be_noted__no_bad_file_counts)
{
	autofolder f;
	begin(&f);
	f.problems.max = 1000;
	for (unsigned i = 0; i < 50; i++) {
		char name[16];
		snprintf(name, sizeof(name), "%02u.ini", i);
		put(&f, name, BASE "[sources]\ncloud = nevr\n");
	}
	put(&f, "good.ini", "[deployment]\npackage = G\nversion = 1\n");
	assert_err(load(&f), ERR_POLICY);
	assert_non_null(strstr(f.problems.at, "there are more problems"));
	assert_int_equal(f.list.count, 1);
	assert_string_equal(f.list.items[0].content.id, "G");
}

/* ---- bundles ---- */

#define TITLE "; cloud-dp-agent policy bundle\n"

static void add(struct buf *text, const char *name, const char *content)
{
	buf_print(text, "; file %s %zu\n%s", name, strlen(content), content);
}

/* Reads the text; its path is "p". */
static enum err_code parse(struct folder *f, const char *text, bool is_site)
{
	*f = (struct folder){ .path = "p" };
	return deployment_parse(span_of(text), "p", is_site, &f->list, &f->problems,
				&f->e);
}

TEST(deployment_load__bundle_file__deployments_and_lists_of_it)
{
	autofolder f;
	autobuf text = { 0 };
	begin(&f);
	buf_text(&text, TITLE);
	add(&text, "b.ini", BASE "[content]\nfiles = a.sha256\n");
	add(&text, "a.ini", "[deployment]\npackage = A\nversion = 1\n");
	add(&text, "a.sha256", LIST_A);
	add(&text, ".c.ini", "nonsense");
	add(&text, "readme", "nonsense");
	put(&f, "policy.bundle", text.at);
	snprintf(f.path + strlen(f.path), 20, "/policy.bundle");
	assert_loaded(&f);
	assert_int_equal(f.list.count, 2);
	assert_string_equal(f.list.items[0].content.id, "A");
	assert_non_null(strstr(f.list.items[0].path, "/policy.bundle/a.ini"));
	assert_int_equal(f.list.items[1].files.count, 1);
	assert_int_equal(strlen(f.list.items[1].hash), 64);
}

TEST(deployment_load__bundle_of_many_bytes__not_held_to_the_size_of_one_file)
{
	autofolder f;
	autobuf text = { 0 };
	begin(&f);
	buf_text(&text, TITLE);
	for (unsigned i = 0; i < 2000; i++) {
		char name[32], one[200];
		snprintf(name, sizeof(name), "%u.ini", i);
		snprintf(one, sizeof(one), "[deployment]\npackage = P%u\nversion = 1\n"
			 "; %080u\n", i, i);
		add(&text, name, one);
	}
	assert_true(text.len > INI_FILE_MAX);
	put(&f, "policy.bundle", text.at);
	put(&f, "long.ini", text.at + strlen(TITLE));
	size_t len = strlen(f.path);
	snprintf(f.path + len, 20, "/policy.bundle");
	assert_loaded(&f);
	assert_int_equal(f.list.count, 2000);
	snprintf(f.path + len, 20, "/long.ini");
	assert_err(load(&f), ERR_POLICY);
	assert_non_null(strstr(f.problems.at, " bytes: at most 65536 are read"));
}

TEST(deployment_load__bundle_in_a_folder__problem)
{
	autofolder f;
	begin(&f);
	put(&f, "a.ini", TITLE);
	assert_err(load(&f), ERR_POLICY);
	assert_problem(&f, "/a.ini: is a bundle: name it as [policy] source");
}

TEST(deployment_parse__problems_in_a_bundle__named_by_file_and_line)
{
	autofolder f;
	autobuf text = { 0 };
	buf_text(&text, TITLE);
	add(&text, "a.ini", BASE "purpose = x\n");
	add(&text, "b.ini", BASE "[content]\nfiles = b.sha256\n");
	add(&text, "c.ini", "[deployment]\npackage = C\nversion = 1\n");
	assert_err(parse(&f, text.at, false), ERR_POLICY);
	assert_problem(&f, "/a.ini:4: [deployment] purpose = x: must be");
	assert_problem(&f, "/b.ini:5: [content] files = b.sha256: is not in the "
			   "bundle");
	assert_int_equal(f.list.count, 1);
}

TEST(deployment_parse__broken_bundle__nothing_of_it_counts)
{
	autofolder f;
	autobuf text = { 0 };
	buf_text(&text, TITLE);
	add(&text, "a.ini", BASE);
	buf_text(&text, "\n");
	assert_err(parse(&f, text.at, false), ERR_POLICY);
	assert_problem(&f, ": policy bundle, byte ");
	assert_int_equal(f.list.count, 0);
}

TEST(deployment_parse__single_text__without_any_file_list)
{
	autofolder f, g;
	assert_ok_of(parse(&f, BASE, false), &f);
	assert_int_equal(f.list.count, 1);
	assert_string_equal(f.list.items[0].path, "p");
	/* also where a file of that name lies in the working folder */
	assert_err(parse(&g, BASE "[content]\nfiles = Makefile\n", false), ERR_POLICY);
	assert_problem(&g, ":5: [content] files = Makefile: can only come with the "
			   "policy in a bundle");
}

TEST(deployment_parse__text_of_the_site__names_no_hash)
{
	autofolder f, g;
	assert_ok_of(parse(&f, BASE "[content]\nsite_hash = 4A6B\nsize = 9\n", true),
		     &f);
	assert_string_equal(f.list.items[0].site_hash, "4A6B");
	assert_string_equal(f.list.items[0].hash, "");
	assert_int_equal(f.list.items[0].size, 9);
	assert_err(parse(&g, BASE "[content]\nhash = sha256:" HEX_A "\nfiles = x\n",
			 true), ERR_POLICY);
	assert_problem(&g, ":5: [content] hash cannot come from the site");
	assert_problem(&g, ":6: [content] files cannot come from the site");
	assert_int_equal(g.list.count, 0);
}

/* ---- joining ---- */

TEST(deployment_join__hash_of_another_file__taken_with_size_and_list)
{
	autofolder f;
	assert_ok_of(parse(&f, BASE "priority = high\n[content]\nsize = 5\n", true),
		     &f);
	autobuf text = { 0 };
	buf_text(&text, TITLE);
	add(&text, "a.ini", "[deployment]\npackage = abc00042\nversion = 3\n"
			    "purpose = available\n[content]\nsize = 77\n"
			    "files = l\n");
	add(&text, "b.ini", "[deployment]\npackage = ABC00042\nversion = 4\n");
	add(&text, "l", LIST_A);
	assert_ok_of(deployment_parse(buf_as_span(&text), "q", false, &f.list,
				      &f.problems, &f.e), &f);
	assert_int_equal(f.list.count, 3);
	deployment_join(&f.list);
	const struct deployment *d = f.list.items;
	assert_true(d[0].is_required);
	assert_int_equal(d[0].priority, 2);
	assert_string_equal(d[0].hash, d[1].hash);
	assert_int_equal(d[0].size, 77);
	assert_int_equal(d[0].files.count, 1);
	assert_string_equal(d[0].files.lines[0].path, "setup.exe");
	assert_string_equal(d[2].hash, "");
	/* once more changes nothing; and of nothing */
	deployment_join(&f.list);
	assert_int_equal(f.list.count, 3);
	struct deployment_list none = { 0 };
	deployment_join(&none);
	assert_int_equal(none.count, 0);
}

TEST(deployment_join__giver_without_size__own_size_stays)
{
	autofolder f;
	assert_ok_of(parse(&f, BASE "[content]\nsize = 5\n", true), &f);
	struct span local = SPAN_LIT(BASE "[content]\nhash = sha256:" HEX_A "\n");
	assert_ok_of(deployment_parse(local, "q", false, &f.list, &f.problems, &f.e),
		     &f);
	deployment_join(&f.list);
	assert_string_equal(f.list.items[0].hash, HEX_A);
	assert_int_equal(f.list.items[0].size, 5);
	assert_true(f.list.items[1].size == DEPLOYMENT_SIZE_UNKNOWN);
}

TEST(deployment_load__source_that_is_absent__empty_or_problem)
{
	autofolder f = { 0 };
	snprintf(f.path, sizeof(f.path), "/nonexistent/policy.d");
	struct err e = { 0 };
	assert_ok(deployment_load(f.path, false, &f.list, &f.problems, &e));
	assert_int_equal(f.list.count, 0);
	assert_err(load(&f), ERR_POLICY);
	assert_problem(&f, ": cannot open it: No such file");
}

TEST(deployment_load__source_on_the_network__refused_with_a_word)
{
	static const char *const sources[] = { "https://policy.example.net/x", "mp" };
	for (size_t i = 0; i < 2; i++) {
		autofolder f = { 0 };
		snprintf(f.path, sizeof(f.path), "%s", sources[i]);
		assert_err(load(&f), ERR_POLICY);
		assert_problem(&f, ": is no file and no folder: policy from the "
				   "network is fetched before");
	}
}

TEST(deployment_load__files_that_others_may_write__refused)
{
	autofolder f;
	char path[300];
	begin(&f);
	put(&f, "a.ini", BASE);
	snprintf(path, sizeof(path), "%s/a.ini", f.path);
	chmod(path, 0666);
	assert_err(load(&f), ERR_POLICY);
	assert_problem(&f, "/a.ini: mode 0666: must not be writable");
	chmod(path, 0644);
	chmod(f.path, 0777);
	assert_err(load(&f), ERR_POLICY);
	assert_problem(&f, ": mode 0777: must not be writable");
	assert_int_equal(f.list.count, 0);
}

TEST(deployment_load__folder_named_like_a_policy__problem)
{
	autofolder f;
	char path[300];
	begin(&f);
	snprintf(path, sizeof(path), "%s/a.ini", f.path);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_err(load(&f), ERR_POLICY);
	assert_problem(&f, "/a.ini: is not a regular file");
}

TEST(deployment_find__with_and_without_version__highest_wins)
{
	autofolder f;
	struct content want = { .id = "abc00042" };
	begin(&f);
	put(&f, "a.ini", BASE);
	put(&f, "b.ini", "[deployment]\nid = new\npackage = ABC00042\nversion = 10\n");
	put(&f, "c.ini", "[deployment]\nid = hashed\npackage = ABC00042\n"
			 "version = 10\n[content]\nhash = sha256:" HEX_A "\n");
	put(&f, "d.ini", "[deployment]\nid = other\npackage = ABC00043\n"
			 "version = 11\n");
	assert_loaded(&f);
	assert_string_equal(deployment_find(&f.list, &want)->id, "hashed");
	want.has_version = true;
	want.version = 3;
	assert_int_equal(deployment_find(&f.list, &want)->content.version, 3);
	want.version = 4;
	assert_null(deployment_find(&f.list, &want));
}
