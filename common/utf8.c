#include "common/utf8.h"

size_t utf8_first(struct span text, uint32_t *point)
{
	/* by length: the bits that mark the first byte, and the smallest code
	 * point that may take so many bytes */
	static const struct {
		unsigned char mask, lead;
		uint32_t least;
	} forms[] = { { 0, 0, 0 }, { 0x80, 0x00, 0 }, { 0xe0, 0xc0, 0x80 },
		      { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 } };
	if (text.len == 0)
		return 0;
	unsigned char lead = (unsigned char)text.at[0];
	size_t n = 1;
	while (n <= 4 && (lead & forms[n].mask) != forms[n].lead)
		n++;
	if (n > 4 || n > text.len)
		return 0;
	uint32_t p = lead & (unsigned char)~forms[n].mask;
	for (size_t i = 1; i < n; i++) {
		unsigned char c = (unsigned char)text.at[i];
		if ((c & 0xc0) != 0x80)
			return 0;
		p = p << 6 | (c & 0x3f);
	}
	if (p < forms[n].least || p > 0x10ffff || (p >= 0xd800 && p <= 0xdfff))
		return 0;
	*point = p;
	return n;
}

bool utf8_is_valid(struct span text)
{
	uint32_t point;
	while (text.len) {
		size_t n = utf8_first(text, &point);
		if (n == 0)
			return false;
		text.at += n;
		text.len -= n;
	}
	return true;
}
