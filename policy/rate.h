#ifndef POLICY_RATE_H
#define POLICY_RATE_H

#include "policy/window.h"

/*
 * How fast content may come, by the hour: [transfer] rate_schedule = Mon-Fri
 * 08:00-18:00 200k cloud. Windows as in policy/window; a rate is bytes a second,
 * 0 = no limit.
 */
enum rate_scope {
	RATE_ALL,     /* everything together */
	RATE_ON_PREM, /* what comes from distribution points */
	RATE_CLOUD,   /* what comes from cloud services and their storage */
	RATE_SCOPES
};

struct rate_rule {
	struct window window;
	uint64_t rate; /* bytes a second; 0 = none */
	enum rate_scope scope;
};
#define RATE_RULES_MAX 32

/* "WINDOW RATE" or "WINDOW RATE on-prem|cloud". ERR_CONFIG: *e says "must be
 * ...". */
enum err_code rate_parse(const char *text, struct rate_rule *out, struct err *e);
/* The same without the result: a schema_check. */
enum err_code rate_check(const char *text, struct err *e);

/*
 * The rates at now_s (epoch), each scope by itself: that of the first of rules[0..n)
 * whose window is open, else plain[scope]. Returns the first moment after now_s at
 * which the answer may be another; INT64_MAX = never.
 */
int64_t rate_at(const struct rate_rule *rules, size_t n,
		const uint64_t plain[RATE_SCOPES], int64_t now_s,
		uint64_t out[RATE_SCOPES]);

/*
 * Connections that make sense at such a rate (0 = no limit), at most `most`: each has
 * 32 kB/s at least, since more of them would only share what one can bring, each
 * with buffers of its own.
 */
unsigned rate_width(uint64_t rate, unsigned most);

#endif
