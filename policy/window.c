#include "policy/window.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define MINUTE_S 60
#define DAY_S 86400
#define WEEK_S (7 * DAY_S)
#define DAY_MIN 1440
#define HORIZON_S (3653LL * DAY_S) /* ten years */
/* Years 0 to 9999, all that policy can name: sums of such times never overflow. */
#define FIRST_S (-62167219200LL)
#define LAST_S 253402300799LL
#define EPOCH_DAY 4 /* 1970-01-01 was a Thursday */

static const char day_names[7][4] = { "Sun", "Mon", "Tue", "Wed",
				      "Thu", "Fri", "Sat" };

/* ---- the text ---- */

static enum err_code refuse(struct err *e, const char *why)
{
	return err_set(e, ERR_CONFIG, "must be days and times as Mon-Fri "
		       "19:00-06:00: %s", why);
}

/* A day at *at; moves it behind. */
static bool take_day(const char **at, unsigned *day)
{
	for (*day = 0; *day < 7; (*day)++)
		if (strncasecmp(*at, day_names[*day], 3) == 0) {
			*at += 3;
			return true;
		}
	return false;
}

/* "Mon", "Mon-Fri", "Sat-Mon", several with commas. */
static enum err_code take_days(const char **at, uint8_t *days, struct err *e)
{
	unsigned first, last;
	do {
		if (!take_day(at, &first))
			return refuse(e, "days are Sun Mon Tue Wed Thu Fri Sat");
		last = first;
		if (**at == '-') {
			(*at)++;
			if (!take_day(at, &last))
				return refuse(e, "no day behind '-'");
		}
		for (unsigned day = first;; day = (day + 1) % 7) {
			*days |= (uint8_t)(1u << day);
			if (day == last)
				break;
		}
	} while (**at == ',' && (*at)++);
	return ERR_OK;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* "8:00", "19:30", "24:00". */
static bool take_time(const char **at, uint16_t *minutes)
{
	const char *p = *at;
	unsigned hour = 0, minute;
	for (int digits = 0; digits < 2 && is_digit(*p); digits++)
		hour = hour * 10 + (unsigned)(*p++ - '0');
	if (p == *at || p[0] != ':' || !is_digit(p[1]) || !is_digit(p[2]))
		return false;
	minute = (unsigned)(p[1] - '0') * 10 + (unsigned)(p[2] - '0');
	*at = p + 3;
	*minutes = (uint16_t)(hour * 60 + minute);
	return minute < 60 && *minutes <= DAY_MIN;
}

enum err_code window_parse(const char *text, struct window *out, struct err *e)
{
	struct window w = { 0 };
	const char *at = text;
	if (is_digit(*at)) {
		w.days = 0x7f;
	} else {
		enum err_code rc = take_days(&at, &w.days, e);
		if (rc != ERR_OK)
			return rc;
		size_t blanks = strspn(at, " \t");
		if (blanks == 0)
			return refuse(e, "no blank between days and times");
		at += blanks;
	}
	if (!take_time(&at, &w.from_min) || w.from_min == DAY_MIN)
		return refuse(e, "it begins at 00:00 to 23:59");
	if (*at++ != '-')
		return refuse(e, "no '-' between two times");
	if (!take_time(&at, &w.to_min))
		return refuse(e, "it ends at 00:00 to 24:00");
	if (*at)
		return refuse(e, "more text behind the times: write several windows "
			      "in lines of their own");
	*out = w;
	return ERR_OK;
}

enum err_code window_check(const char *text, struct err *e)
{
	struct window w;
	return window_parse(text, &w, e);
}

/* ---- the week ---- */

/* All windows together: seconds of the week, from Sunday 00:00, in order, none
 * touching another. A window is at most seven stretches, one of them in two
 * parts where the week ends. */
struct stretch {
	int32_t from, to;
};
struct week {
	struct stretch open[WINDOW_MAX * 8];
	size_t count;
};

static void add_stretch(struct week *week, int32_t from, int32_t to)
{
	if (from < to)
		week->open[week->count++] = (struct stretch){ from, to };
}

static int by_begin(const void *a, const void *b)
{
	const struct stretch *x = a, *y = b;
	return (x->from > y->from) - (x->from < y->from);
}

static void make_week(struct week *week, const struct window *w, size_t count)
{
	assert(count <= WINDOW_MAX);
	week->count = 0;
	for (size_t i = 0; i < count; i++) {
		int32_t length = w[i].to_min - w[i].from_min;
		if (length <= 0)
			length += DAY_MIN;
		for (int32_t day = 0; day < 7; day++) {
			if (!(w[i].days & 1u << day))
				continue;
			int32_t from = day * DAY_S + w[i].from_min * MINUTE_S;
			int32_t to = from + length * MINUTE_S;
			add_stretch(week, from, to > WEEK_S ? WEEK_S : to);
			add_stretch(week, 0, to - WEEK_S);
		}
	}
	qsort(week->open, week->count, sizeof(week->open[0]), by_begin);
	size_t kept = 0;
	for (size_t i = 0; i < week->count; i++) {
		struct stretch *last = kept ? &week->open[kept - 1] : NULL;
		if (last == NULL || week->open[i].from > last->to)
			week->open[kept++] = week->open[i];
		else if (week->open[i].to > last->to)
			last->to = week->open[i].to;
	}
	week->count = kept;
}

/* ---- the calendar ---- */

/* Seconds that local time is ahead of UTC. */
static int64_t offset_at(int64_t at_s)
{
	time_t t = (time_t)at_s;
	struct tm tm = { 0 };
	return localtime_r(&t, &tm) ? tm.tm_gmtoff : 0;
}

/*
 * A walk through time from one open stretch to the next. Its step is a time in
 * which local time goes evenly: a week, or up to where clocks change. (No zone
 * has ever changed its clocks there and back within a week.)
 */
struct walk {
	struct week week;
	int64_t at_s, limit_s;
	int64_t even_end_s; /* until when offset_s holds */
	int64_t offset_s;
};

/* Where clocks change between from_s and to_s: the first second of the new time. */
static int64_t find_change(int64_t from_s, int64_t to_s, int64_t offset_s)
{
	while (to_s - from_s > 1) {
		int64_t middle_s = from_s + (to_s - from_s) / 2;
		if (offset_at(middle_s) == offset_s)
			from_s = middle_s;
		else
			to_s = middle_s;
	}
	return to_s;
}

static void step(struct walk *walk)
{
	int64_t end_s = walk->at_s + WEEK_S;
	walk->offset_s = offset_at(walk->at_s);
	if (offset_at(end_s) != walk->offset_s)
		end_s = find_change(walk->at_s, end_s, walk->offset_s);
	walk->even_end_s = end_s < walk->limit_s ? end_s : walk->limit_s;
}

static int64_t clamp(int64_t s)
{
	return s < FIRST_S ? FIRST_S : s > LAST_S ? LAST_S : s;
}

/* From from_s to to_s, and no further than ten years. */
static void begin(struct walk *walk, const struct window *w, size_t count,
		  int64_t from_s, int64_t to_s)
{
	make_week(&walk->week, w, count);
	walk->at_s = clamp(from_s);
	walk->limit_s = clamp(to_s);
	if (walk->limit_s - walk->at_s > HORIZON_S)
		walk->limit_s = walk->at_s + HORIZON_S;
	walk->even_end_s = walk->at_s;
	/* The machine may have been given another zone since the last time. */
	tzset();
}

/* The next stretch of time in which it is open; it may touch the one before.
 * false at the limit. */
static bool next_open(struct walk *walk, int64_t *from_s, int64_t *to_s)
{
	while (walk->at_s < walk->limit_s) {
		if (walk->at_s >= walk->even_end_s)
			step(walk);
		int64_t local = walk->at_s + walk->offset_s + EPOCH_DAY * DAY_S;
		int64_t in_week = (local % WEEK_S + WEEK_S) % WEEK_S;
		int64_t week_s = walk->at_s - in_week; /* its Sunday, 00:00 */
		int64_t end_s = week_s + WEEK_S;
		if (end_s > walk->even_end_s)
			end_s = walk->even_end_s;
		for (size_t i = 0; i < walk->week.count; i++) {
			const struct stretch *open = &walk->week.open[i];
			if (open->to <= in_week)
				continue;
			*from_s = week_s + (open->from > in_week ? open->from
								 : in_week);
			*to_s = week_s + open->to;
			if (*from_s >= end_s)
				break;
			if (*to_s > end_s)
				*to_s = end_s;
			walk->at_s = *to_s;
			return true;
		}
		walk->at_s = end_s;
	}
	return false;
}

int64_t window_next_open(const struct window *w, size_t count, int64_t at_s)
{
	struct walk walk;
	int64_t from_s, to_s;
	if (count == 0)
		return at_s;
	begin(&walk, w, count, at_s, LAST_S);
	return next_open(&walk, &from_s, &to_s) ? from_s : INT64_MAX;
}

int64_t window_end(const struct window *w, size_t count, int64_t at_s)
{
	struct walk walk;
	int64_t from_s, to_s, end_s = at_s;
	if (count == 0)
		return INT64_MAX;
	begin(&walk, w, count, at_s, LAST_S);
	while (next_open(&walk, &from_s, &to_s)) {
		if (from_s != end_s)
			return end_s;
		end_s = to_s;
	}
	return end_s < walk.limit_s ? end_s : INT64_MAX;
}

int64_t window_seconds(const struct window *w, size_t count, int64_t from_s,
		       int64_t to_s)
{
	struct walk walk;
	int64_t open_s = 0, a_s, b_s;
	if (count == 0)
		return to_s > from_s ? clamp(to_s) - clamp(from_s) : 0;
	begin(&walk, w, count, from_s, to_s);
	while (next_open(&walk, &a_s, &b_s))
		open_s += b_s - a_s;
	return open_s;
}

int64_t window_nth(const struct window *w, size_t count, int64_t from_s,
		   int64_t nth)
{
	struct walk walk;
	int64_t a_s, b_s;
	if (nth < 0)
		nth = 0;
	if (count == 0)
		return nth > LAST_S - clamp(from_s) ? INT64_MAX : clamp(from_s) + nth;
	begin(&walk, w, count, from_s, LAST_S);
	while (next_open(&walk, &a_s, &b_s)) {
		if (nth < b_s - a_s)
			return a_s + nth;
		nth -= b_s - a_s;
	}
	return INT64_MAX;
}
