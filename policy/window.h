#ifndef POLICY_WINDOW_H
#define POLICY_WINDOW_H

#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

/*
 * When the machine may be used: [schedule] window = Mon-Fri 19:00-06:00. Local
 * time, by the time zone of the machine; a window whose end is not later than its
 * begin ends on the next day, and belongs to the day on which it begins. None at
 * all means always. It is open whenever a clock on the wall shows a time in it, so
 * the night in which clocks change is an hour shorter or longer, as for people.
 */
struct window {
	uint8_t days;             /* bit 0 = Sunday ... bit 6 = Saturday */
	uint16_t from_min, to_min; /* minutes since midnight, 0..1440 */
};
#define WINDOW_MAX 32 /* of which the functions below take no more */

/*
 * "Mon-Fri 19:00-06:00", "Sat,Sun 00:00-24:00", "22:00-05:00" (every day),
 * "Sat-Mon 8:00-12:00". English day names of three letters, any case. ERR_CONFIG:
 * *e says "must be ...".
 */
enum err_code window_parse(const char *text, struct window *out, struct err *e);
/* The same without the result: a schema_check. */
enum err_code window_check(const char *text, struct err *e);

/* The first moment at or after `at_s` (epoch) when one of them is open; at_s
 * where it is open now; INT64_MAX beyond ten years. count 0 = always open. */
int64_t window_next_open(const struct window *w, size_t count, int64_t at_s);
/* When the window that is open at at_s ends (several that touch are one); at_s
 * where none is open, INT64_MAX where it does not end within ten years. */
int64_t window_end(const struct window *w, size_t count, int64_t at_s);

/* Open seconds in [from_s, to_s), but with windows no further than ten years; and
 * the moment at which the nth of them (0 = first) begins, counted from from_s;
 * INT64_MAX where there are not so many within ten years. */
int64_t window_seconds(const struct window *w, size_t count, int64_t from_s,
		       int64_t to_s);
int64_t window_nth(const struct window *w, size_t count, int64_t from_s,
		   int64_t nth);

#endif
