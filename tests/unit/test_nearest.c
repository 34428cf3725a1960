#include "tests/unit/test.h"

#include "common/nearest.h"

#include <string.h>

TEST(nearest_distance__words__edits_between_them)
{
	static const struct {
		const char *word, *candidate;
		size_t edits;
	} table[] = {
		{ "", "", 0 },
		{ "", "abc", 3 },
		{ "abc", "", 3 },
		{ "same", "same", 0 },
		{ "ab", "ba", 2 },
		{ "plane", "plain", 2 },
		{ "downlod", "download", 1 },
		{ "kitten", "sitting", 3 },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
		assert_int_equal(nearest_distance(table[i].word,
						  table[i].candidate),
				 table[i].edits);
}

TEST(nearest_distance__long_words__candidate_is_no_word_of_ours)
{
	char word[200];
	memset(word, 'x', sizeof(word) - 1);
	word[sizeof(word) - 1] = '\0';
	assert_int_equal(nearest_distance(word, "x"), sizeof(word) - 2);
	assert_true(nearest_distance("x", word) == SIZE_MAX);
	word[63] = '\0';
	assert_int_equal(nearest_distance("x", word), 62);
}
