#include "common/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#define DAY_S 86400
#define WALL_FIRST_S (-62167219200) /* 0000-01-01T00:00:00Z */
#define WALL_LAST_S 253402300799    /* 9999-12-31T23:59:59Z */

static const struct clock_fake *fake;

void clock_set_fake(const struct clock_fake *f)
{
	fake = f;
}

static int64_t read_ms(clockid_t id)
{
	struct timespec t = { 0 };
	clock_gettime(id, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t clock_now_ms(void)
{
	return fake ? fake->now_ms : read_ms(CLOCK_BOOTTIME);
}

int64_t clock_wall_ms(void)
{
	return fake ? fake->wall_ms : read_ms(CLOCK_REALTIME);
}

int64_t clock_wall_s(void)
{
	int64_t ms = clock_wall_ms();
	return ms / 1000 - (ms % 1000 < 0);
}

/*
 * Days since 1970-01-01 of a date of the Gregorian calendar, year 0..9999.
 * Years are counted from March, so that the leap day is the last of its year.
 * Own arithmetic, because gmtime_r() and timegm() look for a time zone file,
 * which the net process may not open.
 */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
	int64_t y = year + 400 - (month <= 2); /* one era up: never negative */
	int64_t in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
	return y * 365 + y / 4 - y / 100 + y / 400 + in_year - 719468 - 146097;
}

static bool is_leap(int64_t year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int64_t days_in_month(int64_t year, int64_t month)
{
	if (month == 2)
		return is_leap(year) ? 29 : 28;
	return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

/* What RFC 3339 cannot write (years of more than four digits) becomes the
 * nearest that it can. */
void clock_rfc3339(int64_t wall_s, char out[CLOCK_RFC3339_SIZE])
{
	if (wall_s < WALL_FIRST_S)
		wall_s = WALL_FIRST_S;
	if (wall_s > WALL_LAST_S)
		wall_s = WALL_LAST_S;
	int64_t day = wall_s / DAY_S - (wall_s % DAY_S < 0);
	int64_t s = wall_s - day * DAY_S;
	/* The estimate is at most one year too late or too early. */
	int64_t year = 1970 + day * 400 / 146097;
	while (days_of(year, 1, 1) > day)
		year--;
	while (days_of(year + 1, 1, 1) <= day)
		year++;
	int64_t month = 1, left = day - days_of(year, 1, 1);
	for (; left >= days_in_month(year, month); month++)
		left -= days_in_month(year, month);
	snprintf(out, CLOCK_RFC3339_SIZE, "%04d-%02d-%02dT%02d:%02d:%02dZ",
		 (int)year, (int)month, (int)left + 1, (int)(s / 3600),
		 (int)(s / 60 % 60), (int)(s % 60));
}

/* Exactly `digits` digits in min..max at *at; moves it behind them. */
static bool take_number(const char **at, int digits, int64_t min, int64_t max,
			int64_t *out)
{
	*out = 0;
	for (int i = 0; i < digits; i++, (*at)++) {
		if (**at < '0' || **at > '9')
			return false;
		*out = *out * 10 + (**at - '0');
	}
	return *out >= min && *out <= max;
}

static bool take_char(const char **at, char c, char other)
{
	if (**at == '\0' || (**at != c && **at != other))
		return false;
	(*at)++;
	return true;
}

/* "Z", "+hh:mm" or "-hh:mm", then the end. RFC 3339 s5.6. */
static bool take_zone(const char **at, int64_t *offset_s)
{
	*offset_s = 0;
	if (take_char(at, 'Z', 'z'))
		return **at == '\0';
	int64_t hour, minute, sign = **at == '-' ? -1 : 1;
	if (!take_char(at, '+', '-') || !take_number(at, 2, 0, 23, &hour) ||
	    !take_char(at, ':', ':') || !take_number(at, 2, 0, 59, &minute))
		return false;
	*offset_s = sign * (hour * 3600 + minute * 60);
	return **at == '\0';
}

static bool take_fraction(const char **at)
{
	if (!take_char(at, '.', '.'))
		return true;
	const char *first = *at;
	while (**at >= '0' && **at <= '9')
		(*at)++;
	return *at != first;
}

int clock_parse_rfc3339(const char *text, int64_t *wall_s)
{
	const char *at = text;
	int64_t year, month, day, hour, minute, second, offset_s;
	if (text == NULL || !take_number(&at, 4, 0, 9999, &year) ||
	    !take_char(&at, '-', '-') || !take_number(&at, 2, 1, 12, &month) ||
	    !take_char(&at, '-', '-') ||
	    !take_number(&at, 2, 1, days_in_month(year, month), &day))
		return -1;
	if (!take_char(&at, 'T', 't') || !take_number(&at, 2, 0, 23, &hour) ||
	    !take_char(&at, ':', ':') || !take_number(&at, 2, 0, 59, &minute) ||
	    !take_char(&at, ':', ':') || !take_number(&at, 2, 0, 60, &second) ||
	    !take_fraction(&at) || !take_zone(&at, &offset_s))
		return -1;
	int64_t s = days_of(year, month, day) * DAY_S + hour * 3600 +
		    minute * 60 + second - offset_s;
	/* A leap second is the last of a day in UTC (RFC 3339 s5.7). */
	if (second == 60 && s % DAY_S != 0)
		return -1;
	*wall_s = s;
	return 0;
}

int64_t clock_backoff_ms(unsigned n, int64_t base_ms, int64_t max_ms,
			 uint32_t chance)
{
	if (base_ms <= 0 || max_ms <= 0)
		return 0;
	int64_t delay = base_ms < max_ms ? base_ms : max_ms;
	for (; n > 1 && delay < max_ms; n--)
		delay = delay > max_ms / 2 ? max_ms : delay * 2;
	/* The upper half times (chance + 1) / 2^32, in two parts: no overflow. */
	uint64_t half = (uint64_t)delay / 2, upper = (uint64_t)delay - half;
	uint64_t share = (uint64_t)chance + 1;
	return (int64_t)(half + (upper >> 32) * share +
			 ((upper & UINT32_MAX) * share >> 32));
}

/* For spreading load and for fresh names, not for secrets: so where the kernel
 * has no random numbers yet, the clock will do. */
uint32_t clock_chance(void)
{
	uint32_t chance;
	if (getrandom(&chance, sizeof(chance), GRND_NONBLOCK) == sizeof(chance))
		return chance;
	struct timespec t = { 0 };
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint32_t)t.tv_nsec * 2654435761u;
}
