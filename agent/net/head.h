#ifndef AGENT_NET_HEAD_H
#define AGENT_NET_HEAD_H

#include "common/span.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * The head of one HTTP response, from the lines that curl hands over. Pure.
 * Only what the agent decides by; everything else is passed over.
 */
#define HEAD_MAX_BYTES (256u << 10) /* of one response, 1xx included */

struct head {
	long status;            /* 0 = no status line yet */
	char reason[160];       /* the phrase: the management point's story */
	char content_type[160];
	char location[4097];
	char etag[257];         /* as sent, with quotes; "" = none */
	bool etag_is_strong;
	char last_modified[64];
	bool has_encoding;      /* Content-Encoding other than identity */
	bool has_range;         /* Content-Range, well formed */
	bool bad_range;         /* Content-Range there and not well formed */
	uint64_t range_first, range_last;
	uint64_t range_total;   /* UINT64_MAX = "*" */
	bool range_unsatisfied; /* "bytes * / TOTAL" (without the spaces) */
	bool has_length, bad_length; /* bad: two that differ, or no number */
	uint64_t length;
	unsigned retry_after_s; /* 0 = none; at most 86400 */
	uint64_t bytes;         /* of all lines so far */
	bool complete;          /* the empty line was seen */
};

/*
 * One header line, with or without its line end; a status line begins a new
 * response and forgets the old one (1xx, but keeps `bytes`). now_s: for a
 * Retry-After that is a date (RFC 9110 s10.2.3). False when HEAD_MAX_BYTES is
 * passed.
 */
bool head_line(struct head *h, struct span line, int64_t now_s);

/* Content-Range, RFC 9110 s14.4, strictly: digits only, first <= last < total. */
bool head_parse_range(struct span value, struct head *h);

/* A decimal number of at most 19 digits; no sign, no space. */
bool head_parse_number(struct span text, uint64_t *out);

#endif
