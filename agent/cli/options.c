#include "agent/cli/options.h"

#include "common/nearest.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define WORDS_MAX 2
#define SHOWN 100 /* bytes of a foreign word in a message */

/* --- the table ------------------------------------------------------------ */

static const char *const cache_actions[] = { "list", "verify", "trim", "remove",
					     NULL };
static const char *const help_topics[] = { "completion", NULL };
/* In the order of enum options_progress. */
static const char *const progress_words[] = { "auto", "bar", "plain", "json",
					      "none", NULL };

struct verb {
	const char *word, *arguments;
	unsigned least, most; /* how many arguments */
	const char *const *choice; /* what the first one may be; NULL = any */
	const char *what;
};

/* By enum options_verb. */
static const struct verb verbs[] = {
	[VERB_NONE] = { "", "", 0, 0, NULL, "" },
	[VERB_DOWNLOAD] = { "--download", "CONTENT", 1, 1, NULL,
		"fetch one content now: locate, choose, verify, check, publish; "
		"print where it lies" },
	[VERB_LOCATE] = { "--locate", "CONTENT", 1, 1, NULL,
		"ask the management point and print the ordered sources" },
	[VERB_RESOLVE] = { "--resolve", "NAME", 1, 1, NULL,
		"walk a name (host, host:port or URL) alias by alias" },
	[VERB_VERIFY_SERVER] = { "--verify-server", "NAME", 1, 1, NULL,
		"--resolve, then connect and judge the certificate chain" },
	[VERB_CHECK_CHAIN] = { "--check-chain", "FILE", 1, 1, NULL,
		"judge a chain from a PEM file (leaf first) for --name, offline" },
	[VERB_DIAGNOSE] = { "--diagnose", "CONTENT", 1, 1, NULL,
		"the whole way in numbered steps, for every source, changing "
		"nothing" },
	[VERB_REPLAY] = { "--replay", "FILE [CONTENT]", 1, 2, NULL,
		"decide from a stored location reply, without any network" },
	[VERB_DAEMON] = { "--daemon", "", 0, 0, NULL,
		"run as the service, in the foreground" },
	[VERB_ONCE] = { "--once", "", 0, 0, NULL,
		"one policy poll: do all that is due, then end" },
	[VERB_STATUS] = { "--status", "[CONTENT]", 0, 1, NULL,
		"what the service is doing, did last and will do next" },
	[VERB_WHY] = { "--why", "CONTENT", 1, 1, NULL,
		"the recorded reasons of the last decision about it" },
	[VERB_HISTORY] = { "--history", "", 0, 0, NULL,
		"transfers: when, from where, how many bytes, result" },
	[VERB_POLL] = { "--poll", "", 0, 0, NULL,
		"have the running service poll policy now" },
	[VERB_STOP] = { "--stop", "CONTENT", 1, 1, NULL,
		"stop the service's download of it; the next try goes on from "
		"there" },
	[VERB_CACHE] = { "--cache", "list|verify|trim|remove [CONTENT]", 1, 2,
		cache_actions,
		"look after the cache; remove wants a CONTENT" },
	[VERB_CHECK_CONFIG] = { "--check-config", "", 0, 0, NULL,
		"read settings and policy; print every problem, and where each "
		"value comes from" },
	[VERB_VERSION] = { "--version", "", 0, 0, NULL,
		"print the version" },
	[VERB_HELP] = { "--help", "[completion]", 0, 1, help_topics,
		"print this; or a completion script for bash" },
};

#define BIT(v) (1u << VERB_##v)
#define JOBS (BIT(DOWNLOAD) | BIT(LOCATE) | BIT(DIAGNOSE) | BIT(REPLAY))
#define SERVICE (BIT(DAEMON) | BIT(ONCE) | BIT(STATUS) | BIT(WHY) | BIT(HISTORY))
#define ALL (~(BIT(VERSION) | BIT(HELP)))

enum kind { FLAG, TEXT, TEXTS, PROGRESS };

struct option {
	const char *word, *argument;
	enum kind kind;
	unsigned offset;   /* of the field in struct options */
	unsigned verbs;    /* bits of those that it goes with */
	const char *what;
};

#define FIELD(name) (unsigned)offsetof(struct options, name)

static const struct option table[] = {
	{ "--config", "FILE", TEXT, FIELD(config), ALL,
	  "settings, instead of /etc/cloud-dp-agent/agent.conf" },
	{ "--policy", "PATH", TEXT, FIELD(policy),
	  JOBS | SERVICE | BIT(CACHE) | BIT(CHECK_CONFIG),
	  "policy file or folder, instead of [policy] source" },
	{ "--set", "SECTION.KEY=VALUE", TEXTS, 0, ALL,
	  "override one setting; may be repeated" },
	{ "--to", "DIR", TEXT, FIELD(to), BIT(DOWNLOAD),
	  "leave the verified content in DIR instead of the cache" },
	{ "--hash", "ALG:HEX", TEXT, FIELD(hash), BIT(DOWNLOAD) | BIT(DIAGNOSE),
	  "expected content hash (sha256:HEX), where no policy names one" },
	{ "--allow-unverified", NULL, FLAG, FIELD(allow_unverified), BIT(DOWNLOAD),
	  "with --to: accept content for which nobody named a hash" },
	{ "--from", "on-prem|cloud|HOST", TEXT, FIELD(from),
	  JOBS | BIT(RESOLVE) | BIT(VERIFY_SERVER),
	  "use only such sources; with --resolve and --verify-server, cloud: "
	  "hold the name to the rules for cloud sources" },
	{ "--dry-run", NULL, FLAG, FIELD(dry_run), BIT(DOWNLOAD) | BIT(ONCE),
	  "decide and print, transfer nothing" },
	{ "--name", "NAME", TEXT, FIELD(name), BIT(CHECK_CHAIN),
	  "the name or address that the server must prove to be" },
	{ "--ca", "FILE", TEXT, FIELD(ca), BIT(CHECK_CHAIN),
	  "trusted roots (PEM), instead of [tls] ca_file" },
	{ "--crl", "FILE", TEXT, FIELD(crl), BIT(CHECK_CHAIN),
	  "revocation lists (PEM); the whole chain is held against them" },
	{ "--at", "TIME", TEXT, FIELD(at), BIT(CHECK_CHAIN),
	  "judge as of TIME: seconds since 1970, or RFC 3339" },
	{ "--json", NULL, FLAG, FIELD(json), ALL & ~BIT(DAEMON),
	  "one JSON object on standard output, nothing else there" },
	{ "--progress", "auto|bar|plain|json|none", PROGRESS, 0,
	  BIT(DOWNLOAD) | BIT(ONCE), "how progress shows on standard error" },
	{ "--quiet", NULL, FLAG, FIELD(quiet), ALL,
	  "errors and the result only; --download: the path only" },
	{ "--verbose", NULL, FLAG, FIELD(verbose), ALL,
	  "everything that the agent does, on standard error" },
};

const char *options_word(enum options_verb verb)
{
	return (size_t)verb < COUNT(verbs) ? verbs[verb].word : "";
}

const char *options_progress_word(enum options_progress progress)
{
	return progress_words[progress];
}

/* --- the nearest word ----------------------------------------------------- */

/* Take `candidate` when it is nearer, or begins with what was written. */
static void consider(const char *word, const char *candidate, size_t *best,
		     const char **nearest)
{
	size_t len = strlen(word);
	size_t d = nearest_distance(word, candidate);
	if (len > 3 && strncmp(word, candidate, len) == 0)
		d = 1;
	if (d < *best) {
		*best = d;
		*nearest = candidate;
	}
}

static size_t patience(const char *word)
{
	size_t len = strlen(word);
	return len < 4 ? 2 : len < 8 ? 3 : 4; /* more edits are another word */
}

static const char *nearest_option(const char *word)
{
	const char *nearest = NULL;
	size_t best = patience(word);
	for (size_t i = 1; i < COUNT(verbs); i++)
		consider(word, verbs[i].word, &best, &nearest);
	for (size_t i = 0; i < COUNT(table); i++)
		consider(word, table[i].word, &best, &nearest);
	return nearest;
}

/* Is `word` in the list? Else *e names the list and the nearest of it. */
static enum err_code find_choice(const char *whose, const char *word,
				 const char *const *choice, size_t *found,
				 struct err *e)
{
	const char *nearest = NULL;
	size_t best = patience(word);
	autobuf all = { .max = 200 };
	for (size_t i = 0; choice[i]; i++) {
		if (strcmp(word, choice[i]) == 0) {
			*found = i;
			return ERR_OK;
		}
		consider(word, choice[i], &best, &nearest);
		buf_print(&all, "%s%s",
			  i == 0 ? "" : choice[i + 1] ? ", " : " or ", choice[i]);
	}
	return err_set(e, ERR_USAGE, "%s %.*s: must be %s%s%s%s", whose, SHOWN,
		       word, all.at ? all.at : "another word",
		       nearest ? "; did you mean " : "", nearest ? nearest : "",
		       nearest ? "?" : "");
}

/* --- parsing -------------------------------------------------------------- */

struct parse {
	int argc, at; /* the next argument */
	char **argv;
	struct options *out;
	unsigned seen; /* bits of the table's rows */
	const char *words[WORDS_MAX];
	unsigned word_count;
};

/* "--word=value": is this it? *value is NULL where no '=' follows. */
static bool is_word(char *argument, const char *word, char **value)
{
	size_t len = strlen(word);
	if (strncmp(argument, word, len) != 0 ||
	    (argument[len] && argument[len] != '='))
		return false;
	*value = argument[len] ? argument + len + 1 : NULL;
	return true;
}

static enum err_code add_word(struct parse *p, const char *word, struct err *e)
{
	const struct verb *v = &verbs[p->out->verb];
	if (p->out->verb == VERB_NONE)
		return err_set(e, ERR_USAGE,
			       "%.*s: a verb must stand before it, as in "
			       "agent --download %.*s", SHOWN, word, SHOWN, word);
	if (p->word_count == v->most || p->word_count == WORDS_MAX)
		return err_set(e, ERR_USAGE, "%.*s: one word too many for %s%s%s",
			       SHOWN, word, v->word, v->arguments[0] ? " " : "",
			       v->arguments);
	if (word[0] == '\0')
		return err_set(e, ERR_USAGE, "%s: must not be empty", v->word);
	p->words[p->word_count++] = word;
	return ERR_OK;
}

static enum err_code take_verb(struct parse *p, enum options_verb verb,
			       const char *value, struct err *e)
{
	struct options *o = p->out;
	if (o->verb == verb)
		return err_set(e, ERR_USAGE, "%s stands twice", verbs[verb].word);
	if (o->verb != VERB_NONE)
		return err_set(e, ERR_USAGE,
			       "%s and %s: exactly one verb can be done at a time",
			       verbs[o->verb].word, verbs[verb].word);
	o->verb = verb;
	if (value && verbs[verb].most == 0)
		return err_set(e, ERR_USAGE, "%s takes no value", verbs[verb].word);
	return value ? add_word(p, value, e) : ERR_OK;
}

static enum err_code add_set(struct options *o, char *text, struct err *e)
{
	char **sets = reallocarray(o->sets, o->set_count + 1, sizeof(*sets));
	if (sets == NULL)
		return err_set(e, ERR_NOMEM, "no memory for --set");
	o->sets = sets;
	sets[o->set_count++] = text;
	return ERR_OK;
}

static enum err_code take_value(struct parse *p, const struct option *row,
				char *value, struct err *e)
{
	struct options *o = p->out;
	size_t found = 0;
	/* A word with two dashes is the next option: something was forgotten. */
	if (value == NULL && p->at < p->argc &&
	    strncmp(p->argv[p->at], "--", 2) != 0)
		value = p->argv[p->at++];
	if (value == NULL)
		return err_set(e, ERR_USAGE, "%s wants a value: %s %s", row->word,
			       row->word, row->argument);
	if (value[0] == '\0')
		return err_set(e, ERR_USAGE, "%s: must not be empty", row->word);
	if (row->kind == TEXTS)
		return add_set(o, value, e);
	if (row->kind == PROGRESS) {
		enum err_code rc = find_choice(row->word, value, progress_words,
					       &found, e);
		o->progress = (enum options_progress)found;
		return rc;
	}
	*(const char **)((char *)o + row->offset) = value;
	return ERR_OK;
}

static enum err_code take_option(struct parse *p, size_t i, char *value,
				 struct err *e)
{
	const struct option *row = &table[i];
	if ((p->seen & 1u << i) && row->kind != TEXTS)
		return err_set(e, ERR_USAGE, "%s stands twice", row->word);
	p->seen |= 1u << i;
	if (row->kind != FLAG)
		return take_value(p, row, value, e);
	if (value)
		return err_set(e, ERR_USAGE, "%s takes no value", row->word);
	*(bool *)((char *)p->out + row->offset) = true;
	return ERR_OK;
}

static enum err_code take_argument(struct parse *p, struct err *e)
{
	char *argument = p->argv[p->at++], *value = NULL;
	for (size_t i = 1; i < COUNT(verbs); i++)
		if (is_word(argument, verbs[i].word, &value))
			return take_verb(p, (enum options_verb)i, value, e);
	for (size_t i = 0; i < COUNT(table); i++)
		if (is_word(argument, table[i].word, &value))
			return take_option(p, i, value, e);
	if (argument[0] != '-' || argument[1] == '\0')
		return add_word(p, argument, e);
	char name[SHOWN + 1];
	size_t len = strcspn(argument, "=");
	len = len > SHOWN ? SHOWN : len;
	memcpy(name, argument, len);
	name[len] = '\0';
	const char *nearest = strcmp(name, "-h") == 0 ? "--help" :
						       nearest_option(name);
	return err_set(e, ERR_USAGE, "unknown option %s%s%s%s", name,
		       nearest ? "; did you mean " : "", nearest ? nearest : "",
		       nearest ? "?" : "");
}

/* --- what goes together --------------------------------------------------- */

static enum err_code misplaced(const struct option *row, const struct verb *v,
			       struct err *e)
{
	autobuf all = { .max = 400 };
	for (size_t i = 1; i < COUNT(verbs); i++)
		if (row->verbs & 1u << i)
			buf_print(&all, "%s%s", all.len ? ", " : "", verbs[i].word);
	if ((row->verbs | BIT(DAEMON)) == ALL) /* too many to name them */
		return err_set(e, ERR_USAGE, "%s does not go with %s", row->word,
			       v->word);
	return err_set(e, ERR_USAGE, "%s does not go with %s (but with %s)",
		       row->word, v->word, all.at ? all.at : "others");
}

static enum err_code check_cache(const struct options *o, struct err *e)
{
	bool is_remove = strcmp(o->object, "remove") == 0;
	if (is_remove && o->second == NULL)
		return err_set(e, ERR_USAGE,
			       "--cache remove wants a CONTENT: --cache remove "
			       "ABC00042.3");
	if (!is_remove && o->second)
		return err_set(e, ERR_USAGE, "%.*s: one word too many for "
			       "--cache %s", SHOWN, o->second, o->object);
	return ERR_OK;
}

static enum err_code check_pairs(const struct options *o, struct err *e)
{
	if (o->verb == VERB_CHECK_CHAIN && o->name == NULL)
		return err_set(e, ERR_USAGE, "--check-chain wants a --name NAME: "
			       "whom must the chain belong to?");
	if (o->quiet && o->verbose)
		return err_set(e, ERR_USAGE, "--quiet and --verbose contradict "
			       "each other");
	if (o->allow_unverified && o->to == NULL)
		return err_set(e, ERR_USAGE, "--allow-unverified goes only with "
			       "--to DIR: the cache holds verified content only");
	return o->verb == VERB_CACHE ? check_cache(o, e) : ERR_OK;
}

static enum err_code check(struct parse *p, struct err *e)
{
	struct options *o = p->out;
	const struct verb *v = &verbs[o->verb];
	size_t found;
	enum err_code rc;
	if (o->verb == VERB_NONE)
		return err_set(e, ERR_USAGE,
			       "no verb: say what to do, as in agent --download "
			       "ABC00042.3");
	if (p->word_count < v->least)
		return err_set(e, ERR_USAGE, "%s wants more: %s %s", v->word,
			       v->word, v->arguments);
	o->object = p->words[0];
	o->second = p->words[1];
	if (v->choice && o->object &&
	    (rc = find_choice(v->word, o->object, v->choice, &found, e)) != ERR_OK)
		return rc;
	for (size_t i = 0; i < COUNT(table); i++)
		if ((p->seen & 1u << i) && !(table[i].verbs & 1u << o->verb))
			return misplaced(&table[i], v, e);
	return check_pairs(o, e);
}

enum err_code options_parse(int argc, char **argv, struct options *out,
			    struct err *e)
{
	struct parse p = { .argc = argc, .at = 1, .argv = argv, .out = out };
	enum err_code rc = ERR_OK;
	*out = (struct options){ 0 };
	while (rc == ERR_OK && p.at < argc && strcmp(argv[p.at], "--") != 0)
		rc = take_argument(&p, e);
	for (p.at++; rc == ERR_OK && p.at < argc; p.at++) /* behind "--" */
		rc = add_word(&p, argv[p.at], e);
	return rc == ERR_OK ? check(&p, e) : rc;
}

void options_free(struct options *o)
{
	free(o->sets);
	*o = (struct options){ 0 };
}

/* --- for people and shells ------------------------------------------------ */

#define HELP_INDENT 28
#define HELP_WIDTH 79

/* `what` from column HELP_INDENT on, broken between words. */
static void wrap(struct buf *out, size_t column, const char *what)
{
	struct span rest = span_of(what), word;
	if (column + 2 > HELP_INDENT) {
		buf_char(out, '\n');
		column = 0;
	}
	buf_print(out, "%*s", (int)(HELP_INDENT - column), "");
	column = HELP_INDENT;
	while (span_split(&rest, ' ', &word)) {
		if (column > HELP_INDENT && column + 1 + word.len > HELP_WIDTH) {
			buf_print(out, "\n%*s", HELP_INDENT, "");
			column = HELP_INDENT;
		}
		buf_print(out, "%s%.*s", column > HELP_INDENT ? " " : "",
			  SPAN_ARG(word));
		column += word.len + (column > HELP_INDENT);
	}
	buf_char(out, '\n');
}

static void help_row(struct buf *out, const char *word, const char *argument,
		     const char *what)
{
	size_t before = out->len;
	buf_print(out, "  %s%s%s", word, argument[0] ? " " : "", argument);
	wrap(out, out->len - before, what);
}

void options_help(struct buf *out)
{
	buf_text(out, "usage: agent VERB [OPTION]...\n\n"
		      "Content distribution for Linux endpoints in Configuration "
		      "Manager estates.\n\n"
		      "Exactly one verb:\n");
	for (size_t i = 1; i < COUNT(verbs); i++)
		help_row(out, verbs[i].word, verbs[i].arguments, verbs[i].what);
	buf_text(out, "\nOptions:\n");
	for (size_t i = 0; i < COUNT(table); i++)
		help_row(out, table[i].word,
			 table[i].argument ? table[i].argument : "", table[i].what);
	buf_text(out,
		 "\nCONTENT is a content id as Configuration Manager writes it\n"
		 "(ABC00042, Content_GUID, GUID), optionally with .VERSION behind.\n\n"
		 "Exit status: 0 done, 1 defect of the agent, 2 command line, "
		 "3 settings or\npolicy, 4 no hash, 10 management point, "
		 "11 no location, 12 cloud refused,\n20 name, 21 certificate, "
		 "22 transfer, 23 hash, 30 space, 31 folders,\n40 not now, "
		 "130 or 143 interrupted.\n\n"
		 "See agent(8), cloud-dp-agent.service(8), agent.conf(5), "
		 "agent-policy(5).\n");
}

static void complete_words(struct buf *out, const char *pattern,
			   const char *const *words)
{
	buf_print(out, "\t%s) COMPREPLY=($(compgen -W \"", pattern);
	for (size_t i = 0; words[i]; i++)
		buf_print(out, "%s%s", i ? " " : "", words[i]);
	buf_text(out, "\" -- \"$cur\")); return ;;\n");
}

void options_completion(struct buf *out)
{
	static const char *const from[] = { "on-prem", "cloud", NULL };
	buf_text(out, "# bash completion for agent(8)\n"
		      "_agent()\n{\n"
		      "\tlocal cur=${COMP_WORDS[COMP_CWORD]}\n"
		      "\tlocal prev=${COMP_WORDS[COMP_CWORD-1]}\n"
		      "\tcase $prev in\n");
	complete_words(out, "--cache", cache_actions);
	complete_words(out, "--progress", progress_words);
	complete_words(out, "--from", from);
	buf_text(out, "\t--to) COMPREPLY=($(compgen -d -- \"$cur\")); return ;;\n"
		      "\t--config|--policy|--ca|--crl|--check-chain|--replay)\n"
		      "\t\tCOMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n"
		      "\tesac\n"
		      "\tCOMPREPLY=($(compgen -W \"");
	for (size_t i = 1; i < COUNT(verbs); i++)
		buf_print(out, "%s ", verbs[i].word);
	for (size_t i = 0; i < COUNT(table); i++)
		buf_print(out, "%s ", table[i].word);
	buf_text(out, "\" -- \"$cur\"))\n}\ncomplete -F _agent agent\n");
}
