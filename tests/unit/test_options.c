#include "tests/unit/test.h"

#include "agent/cli/options.h"

#include <stdlib.h>
#include <string.h>

/* One parse of "agent WORD...", words divided by spaces ("_" = an empty one). */
struct parsed {
	struct options o;
	struct err e;
	enum err_code rc;
	char *line, *argv[24];
};

static void parse(struct parsed *p, const char *words)
{
	static char program[] = "agent";
	static char empty[] = "";
	int argc = 1;
	char *rest, *word;
	*p = (struct parsed){ 0 };
	p->argv[0] = program;
	rest = p->line = strdup(words);
	assert_non_null(rest);
	while ((word = strsep(&rest, " ")) != NULL && argc < 23)
		if (word[0])
			p->argv[argc++] = strcmp(word, "_") == 0 ? empty : word;
	p->rc = options_parse(argc, p->argv, &p->o, &p->e);
}

static void unparse(struct parsed *p)
{
	options_free(&p->o);
	free(p->line);
}
#define autoparsed __attribute__((cleanup(unparse))) struct parsed

static void assert_good(const char *words, enum options_verb verb)
{
	autoparsed p;
	parse(&p, words);
	if (p.rc != ERR_OK)
		fail_msg("%s: %s", words, p.e.text);
	assert_int_equal(p.o.verb, verb);
}

/* Refused with ERR_USAGE and this text somewhere in the reason. */
static void assert_bad(const char *words, const char *text)
{
	autoparsed p;
	parse(&p, words);
	assert_err(p.rc, ERR_USAGE);
	if (strstr(p.e.text, text) == NULL)
		fail_msg("%s: \"%s\" lacks \"%s\"", words, p.e.text, text);
}

TEST(options_parse__every_verb__is_known)
{
	assert_good("--download ABC00042", VERB_DOWNLOAD);
	assert_good("--locate ABC00042.3", VERB_LOCATE);
	assert_good("--resolve host:443", VERB_RESOLVE);
	assert_good("--verify-server https://host/", VERB_VERIFY_SERVER);
	assert_good("--check-chain f.pem --name host", VERB_CHECK_CHAIN);
	assert_good("--diagnose ABC00042", VERB_DIAGNOSE);
	assert_good("--replay f.xml", VERB_REPLAY);
	assert_good("--replay f.xml ABC00042", VERB_REPLAY);
	assert_good("--daemon", VERB_DAEMON);
	assert_good("--once", VERB_ONCE);
	assert_good("--status", VERB_STATUS);
	assert_good("--status ABC00042", VERB_STATUS);
	assert_good("--why ABC00042", VERB_WHY);
	assert_good("--history", VERB_HISTORY);
	assert_good("--poll", VERB_POLL);
	assert_good("--stop ABC00042.3", VERB_STOP);
	assert_good("--cache list", VERB_CACHE);
	assert_good("--cache verify", VERB_CACHE);
	assert_good("--cache trim", VERB_CACHE);
	assert_good("--cache remove ABC00042.3", VERB_CACHE);
	assert_good("--check-config", VERB_CHECK_CONFIG);
	assert_good("--version", VERB_VERSION);
	assert_good("--help", VERB_HELP);
	assert_good("--help=completion", VERB_HELP);
}

TEST(options_parse__options_of_download__are_filled)
{
	autoparsed p;
	parse(&p, "--config a.conf --policy=p.d --set dns.tries=2 --download "
		  "ABC00042.3 --set=dns.timeout=1s --to out --hash sha256:00 "
		  "--allow-unverified --from cloud --dry-run --json "
		  "--progress json --quiet");
	assert_int_equal(p.rc, ERR_OK);
	assert_int_equal(p.o.verb, VERB_DOWNLOAD);
	assert_string_equal(p.o.object, "ABC00042.3");
	assert_null(p.o.second);
	assert_string_equal(p.o.config, "a.conf");
	assert_string_equal(p.o.policy, "p.d");
	assert_int_equal(p.o.set_count, 2);
	assert_string_equal(p.o.sets[0], "dns.tries=2");
	assert_string_equal(p.o.sets[1], "dns.timeout=1s");
	assert_string_equal(p.o.to, "out");
	assert_string_equal(p.o.hash, "sha256:00");
	assert_string_equal(p.o.from, "cloud");
	assert_true(p.o.allow_unverified && p.o.dry_run && p.o.json && p.o.quiet);
	assert_false(p.o.verbose);
	assert_int_equal(p.o.progress, PROGRESS_JSON);
}

TEST(options_parse__options_of_check_chain__are_filled)
{
	autoparsed p;
	parse(&p, "--check-chain=c.pem --name n --ca ca.pem --crl c.crl --at 17 "
		  "--verbose");
	assert_int_equal(p.rc, ERR_OK);
	assert_string_equal(p.o.object, "c.pem");
	assert_string_equal(p.o.name, "n");
	assert_string_equal(p.o.ca, "ca.pem");
	assert_string_equal(p.o.crl, "c.crl");
	assert_string_equal(p.o.at, "17");
	assert_true(p.o.verbose);
}

TEST(options_parse__every_progress_word__is_known)
{
	static const struct {
		const char *words;
		enum options_progress want;
	} cases[] = {
		{ "--download A1 --progress auto", PROGRESS_AUTO },
		{ "--download A1 --progress bar", PROGRESS_BAR },
		{ "--download A1 --progress plain", PROGRESS_PLAIN },
		{ "--download A1 --progress=json", PROGRESS_JSON },
		{ "--download A1 --progress=none", PROGRESS_NONE },
		{ "--download A1", PROGRESS_AUTO },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		autoparsed p;
		parse(&p, cases[i].words);
		assert_int_equal(p.rc, ERR_OK);
		assert_int_equal(p.o.progress, cases[i].want);
	}
}

TEST(options_parse__dash_dash__ends_the_options)
{
	autoparsed p;
	parse(&p, "--replay -- --strange.xml");
	assert_int_equal(p.rc, ERR_OK);
	assert_string_equal(p.o.object, "--strange.xml");
}

TEST(options_parse__value_with_one_dash__is_a_value)
{
	autoparsed p;
	parse(&p, "--download A1 --to -here");
	assert_int_equal(p.rc, ERR_OK);
	assert_string_equal(p.o.to, "-here");
}

TEST(options_parse__verbs__exactly_one)
{
	assert_bad("", "no verb");
	assert_bad("--json", "no verb");
	assert_bad("--download A1 --locate A1", "exactly one verb");
	assert_bad("--download A1 --download A2", "--download stands twice");
	assert_bad("--help --version", "exactly one verb");
}

TEST(options_parse__words__right_number)
{
	assert_bad("--download", "--download wants more: --download CONTENT");
	assert_bad("--download --json", "--download wants more");
	assert_bad("--download A1 A2", "A2: one word too many");
}

TEST(options_parse__odd_words__are_refused)
{
	assert_bad("A1", "a verb must stand before it");
	assert_bad("A1 --download", "a verb must stand before it");
	assert_bad("--download _", "must not be empty");
	assert_bad("--download=", "must not be empty");
	assert_bad("--check-config now", "one word too many");
	assert_bad("--version=3", "takes no value");
	assert_bad("--replay a b c", "c: one word too many");
	assert_bad("-", "a verb must stand before it");
}

TEST(options_parse__options__take_their_value)
{
	assert_bad("--download A1 --to", "--to wants a value: --to DIR");
	assert_bad("--download A1 --to --json", "--to wants a value");
	assert_bad("--download A1 --to=", "--to: must not be empty");
	assert_bad("--download A1 --json=yes", "--json takes no value");
	assert_bad("--download A1 --progress fast",
		   "must be auto, bar, plain, json or none");
	assert_bad("--download A1 --progress plane", "did you mean plain?");
}

TEST(options_parse__option_twice__is_refused_but_set)
{
	assert_bad("--download A1 --json --json", "--json stands twice");
	assert_bad("--download A1 --to a --to a", "--to stands twice");
	assert_bad("--check-config --config a --config=b", "--config stands twice");
	assert_good("--check-config --set a.b=1 --set a.b=2", VERB_CHECK_CONFIG);
}

TEST(options_parse__option_of_another_verb__names_those_it_goes_with)
{
	assert_bad("--locate A1 --to d", "--to does not go with --locate (but "
					 "with --download)");
	assert_bad("--resolve h --policy p", "--policy does not go with --resolve");
	assert_bad("--download A1 --name n", "(but with --check-chain)");
	assert_bad("--to d --locate A1", "--to does not go with --locate");
	assert_bad("--help --json", "--json does not go with --help");
	assert_bad("--check-config --progress bar", "--progress does not go");
	assert_bad("--locate A1 --dry-run", "(but with --download, --once)");
	assert_good("--diagnose A1 --hash sha256:00", VERB_DIAGNOSE);
	assert_good("--resolve h --from cloud", VERB_RESOLVE);
}

TEST(options_parse__unknown_option__names_the_nearest)
{
	assert_bad("--downlod A1", "unknown option --downlod; did you mean "
				   "--download?");
	assert_bad("--verify A1", "did you mean --verify-server?");
	assert_bad("--download A1 --polcy=x", "unknown option --polcy; did you "
					      "mean --policy?");
	assert_bad("-h", "did you mean --help?");
	assert_bad("--role=net", "unknown option --role");
	assert_bad("--insecure", "unknown option --insecure");
}

TEST(options_parse__far_word__names_none)
{
	autoparsed p;
	parse(&p, "--no-check-certificate");
	assert_err(p.rc, ERR_USAGE);
	assert_null(strstr(p.e.text, "did you mean"));
}

TEST(options_parse__what_must_stand_together__does)
{
	assert_bad("--check-chain f.pem", "--name");
	assert_bad("--check-config --quiet --verbose", "contradict");
	assert_bad("--download A1 --allow-unverified", "--to DIR");
	assert_bad("--cache remove", "CONTENT");
	assert_bad("--cache list A1", "one word too many");
	assert_bad("--cache lst", "must be list, verify, trim or remove; did you "
				  "mean list?");
	assert_bad("--cache", "--cache wants more");
	assert_bad("--help me", "must be completion");
	assert_good("--download A1 --allow-unverified --to d", VERB_DOWNLOAD);
}

TEST(options_parse__verbs_of_the_service__take_their_options)
{
	assert_good("--once --dry-run --progress json --policy p --json", VERB_ONCE);
	assert_good("--daemon --policy p --set a.b=1 --config c --verbose",
		    VERB_DAEMON);
	assert_good("--status A1 --json --policy p", VERB_STATUS);
	assert_good("--why A1 --json", VERB_WHY);
	assert_good("--history --json", VERB_HISTORY);
	assert_good("--stop A1 --json --config c", VERB_STOP);
	assert_bad("--daemon --json", "--json does not go with --daemon");
	assert_bad("--daemon now", "one word too many");
	assert_bad("--why", "--why wants more: --why CONTENT");
	assert_bad("--stop", "--stop wants more: --stop CONTENT");
	assert_bad("--poll A1", "one word too many");
	assert_bad("--history A1", "one word too many");
	assert_bad("--status A1 A2", "one word too many");
	assert_bad("--status --dry-run", "(but with --download, --once)");
	assert_bad("--poll --policy p", "--policy does not go with --poll");
	assert_bad("--polling", "did you mean --poll?");
}

TEST(options_help__text__has_every_verb_and_fits_a_terminal)
{
	autobuf out = { 0 };
	options_help(&out);
	for (int v = VERB_NONE + 1; v <= VERB_HELP; v++)
		assert_non_null(strstr(out.at, options_word((enum options_verb)v)));
	assert_non_null(strstr(out.at, "--check-chain FILE"));
	assert_non_null(strstr(out.at, "--stop CONTENT"));
	assert_null(strstr(out.at, "not in this version"));
	for (const char *line = out.at; line;) {
		const char *end = strchr(line, '\n');
		assert_true(end == NULL || end - line <= 80);
		line = end ? end + 1 : NULL;
	}
}

TEST(options_word__verbs__as_the_command_line_has_them)
{
	assert_string_equal(options_word(VERB_VERIFY_SERVER), "--verify-server");
	assert_string_equal(options_word(VERB_NONE), "");
	assert_string_equal(options_progress_word(PROGRESS_AUTO), "auto");
	assert_string_equal(options_progress_word(PROGRESS_NONE), "none");
}

TEST(options_completion__script__names_every_verb)
{
	autobuf out = { 0 };
	options_completion(&out);
	assert_non_null(strstr(out.at, "complete -F _agent agent"));
	assert_non_null(strstr(out.at, "--check-config"));
	assert_non_null(strstr(out.at, "--daemon"));
	assert_non_null(strstr(out.at, "--stop"));
}
