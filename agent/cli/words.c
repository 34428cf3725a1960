#include "agent/cli/words.h"

#include <inttypes.h>
#include <stdio.h>

const char *words_bytes(uint64_t bytes, char out[WORDS_SIZE])
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB",
					     "EiB" };
	double n = (double)bytes / 1024;
	size_t unit = 0;
	if (bytes < 1024) {
		snprintf(out, WORDS_SIZE, "%" PRIu64 " B", bytes);
		return out;
	}
	for (; n >= 1024 && unit + 1 < sizeof(units) / sizeof(*units); unit++)
		n /= 1024;
	snprintf(out, WORDS_SIZE, "%.1f %s", n, units[unit]);
	return out;
}

const char *words_time(int64_t ms, char out[WORDS_SIZE])
{
	int64_t s = ms / 1000 + (ms % 1000 >= 500);
	if (ms < 1000)
		snprintf(out, WORDS_SIZE, "%" PRId64 " ms", ms < 0 ? 0 : ms);
	else if (s < 60)
		snprintf(out, WORDS_SIZE, "%" PRId64 ".%" PRId64 " s", ms / 1000,
			 ms % 1000 / 100);
	else if (s < 3600)
		snprintf(out, WORDS_SIZE, "%" PRId64 ":%02" PRId64 " min", s / 60,
			 s % 60);
	else
		snprintf(out, WORDS_SIZE, "%" PRId64 ":%02" PRId64 ":%02" PRId64
			 " h", s / 3600, s / 60 % 60, s % 60);
	return out;
}

const char *words_away(int64_t at_s, int64_t now_s, char out[WORDS_SIZE])
{
	static const struct {
		int64_t seconds;
		const char *unit, *less; /* and the next smaller one */
		int64_t part;
	} units[] = {
		{ 86400, "d", "h", 3600 },
		{ 3600, "h", "min", 60 },
		{ 60, "min", NULL, 0 },
		{ 1, "s", NULL, 0 },
	};
	bool is_past = at_s < now_s;
	int64_t s = is_past ? now_s - at_s : at_s - now_s;
	char text[WORDS_SIZE] = "";
	for (size_t i = 0; i < sizeof(units) / sizeof(*units) && !text[0]; i++) {
		if (s < units[i].seconds)
			continue;
		int64_t rest = units[i].part ? s % units[i].seconds / units[i].part : 0;
		int len = snprintf(text, sizeof(text), "%" PRId64 " %s",
				   s / units[i].seconds, units[i].unit);
		if (rest)
			snprintf(text + len, sizeof(text) - (size_t)len,
				 " %" PRId64 " %s", rest, units[i].less);
	}
	snprintf(out, WORDS_SIZE, "%s%.20s%s", !text[0] || is_past ? "" : "in ",
		 text[0] ? text : "now", text[0] && is_past ? " ago" : "");
	return out;
}

const char *words_cloud(enum choose_cloud cloud)
{
	switch (cloud) {
	case CHOOSE_CLOUD_PREFER:
		return "prefer";
	case CHOOSE_CLOUD_NEVER:
		return "never";
	case CHOOSE_CLOUD_FALLBACK:
		break;
	}
	return "fallback";
}

const char *words_plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}
