#ifndef COMMON_NEAREST_H
#define COMMON_NEAREST_H

#include <stddef.h>

/*
 * For "did you mean": how many characters have to be changed, added or taken
 * away to come from one word to the other (Levenshtein).
 *
 * Returns SIZE_MAX where `candidate` has more than 63 bytes: no word of ours.
 */
size_t nearest_distance(const char *word, const char *candidate);

#endif
