#ifndef AGENT_CLI_OPTIONS_H
#define AGENT_CLI_OPTIONS_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * The command line: exactly one verb and its options. One table makes the
 * parser, --help and the shell completion; tests/cli/help holds agent(8)
 * against it.
 */
enum options_verb {
	VERB_NONE,
	VERB_DOWNLOAD, VERB_LOCATE, VERB_RESOLVE, VERB_VERIFY_SERVER,
	VERB_CHECK_CHAIN, VERB_DIAGNOSE, VERB_REPLAY, VERB_DAEMON, VERB_ONCE,
	VERB_STATUS, VERB_WHY, VERB_HISTORY, VERB_POLL, VERB_STOP, VERB_CACHE,
	VERB_CHECK_CONFIG, VERB_VERSION, VERB_HELP,
};

enum options_progress {
	PROGRESS_AUTO, PROGRESS_BAR, PROGRESS_PLAIN, PROGRESS_JSON,
	PROGRESS_NONE,
};

struct options {
	enum options_verb verb;
	const char *object;   /* CONTENT, NAME or FILE; list|verify|trim|remove;
			       * completion */
	const char *second;   /* --replay FILE CONTENT, --cache remove CONTENT */
	const char *config, *policy, *to, *hash, *from, *name, *ca, *crl, *at;
	char **sets;          /* owned array of borrowed texts */
	size_t set_count;
	bool allow_unverified, dry_run, json, quiet, verbose;
	enum options_progress progress;
};

/*
 * Parse. Both "--option VALUE" and "--option=VALUE"; an option that the verb
 * does not know, twice the same (but --set), two verbs, missing or extra words:
 * ERR_USAGE with the word, and the nearest one that exists.
 */
enum err_code options_parse(int argc, char **argv, struct options *out,
			    struct err *e);
void options_free(struct options *o);

/* "--download": as the command line has it; "" for VERB_NONE. */
const char *options_word(enum options_verb verb);
/* "bar": as --progress has it. */
const char *options_progress_word(enum options_progress progress);

void options_help(struct buf *out);       /* --help */
void options_completion(struct buf *out); /* --help=completion: for bash */

#endif
