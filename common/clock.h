#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <stdint.h>

/*
 * Time and chance, in one place so that tests can replace them. Waiting and
 * measuring use the boot-time clock, which no administrator can step and which
 * goes on in suspend; only certificates and printed times use the wall clock.
 */
int64_t clock_now_ms(void);  /* since boot */
int64_t clock_wall_s(void);  /* since 1970, UTC */
int64_t clock_wall_ms(void);

/* RFC 3339 UTC, "2026-11-22T10:00:00Z". Any value is allowed. */
#define CLOCK_RFC3339_SIZE 32
void clock_rfc3339(int64_t wall_s, char out[CLOCK_RFC3339_SIZE]);

/* Parse RFC 3339 (Z or +hh:mm) into epoch seconds; 0 on success, else -1. */
int clock_parse_rfc3339(const char *text, int64_t *wall_s);

/*
 * Delay before attempt `n` (1 = first repetition): base doubled each time up
 * to max, then 50 to 100 per cent of it by `chance` (any 32 bits).
 */
int64_t clock_backoff_ms(unsigned n, int64_t base_ms, int64_t max_ms,
			 uint32_t chance);
uint32_t clock_chance(void);

/* For tests: take times from here instead of the kernel; NULL = the kernel. */
struct clock_fake {
	int64_t now_ms, wall_ms;
};
void clock_set_fake(const struct clock_fake *fake);

#endif
