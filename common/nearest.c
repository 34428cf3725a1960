#include "common/nearest.h"

#include <stdint.h>
#include <string.h>

size_t nearest_distance(const char *word, const char *candidate)
{
	size_t row[64], len = strlen(candidate);
	if (len >= sizeof(row) / sizeof(row[0]))
		return SIZE_MAX;
	for (size_t j = 0; j <= len; j++)
		row[j] = j;
	for (size_t i = 0; word[i]; i++) {
		size_t corner = row[0];
		row[0] = i + 1;
		for (size_t j = 1; j <= len; j++) {
			size_t best = corner + (word[i] != candidate[j - 1]);
			corner = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[len];
}
