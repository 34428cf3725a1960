#ifndef AGENT_CLI_WORDS_H
#define AGENT_CLI_WORDS_H

#include "agent/keeper/report.h"

/*
 * Figures and states in words, for results and progress alike. The functions
 * with `out` fill and return it.
 */
#define WORDS_SIZE 32
const char *words_bytes(uint64_t bytes, char out[WORDS_SIZE]); /* "3.4 MiB" */
/* "35 ms", "2.1 s", "1:05 min", "2:00:01 h" */
const char *words_time(int64_t ms, char out[WORDS_SIZE]);
/* How far away a moment is: "in 3 h 12 min", "2 d 4 h ago", "now". */
const char *words_away(int64_t at_s, int64_t now_s, char out[WORDS_SIZE]);

const char *words_cloud(enum choose_cloud cloud);  /* "fallback" */
const char *words_plural(uint64_t n);              /* "" or "s" */

#endif
