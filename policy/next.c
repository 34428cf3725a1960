#include "policy/next.h"

#include "common/clock.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define BACKOFF_BASE_MS 1000
#define BACKOFF_MAX_MS 30000

__attribute__((format(printf, 3, 4))) static struct next_step
step(enum next_action action, int64_t delay_ms, const char *fmt, ...)
{
	struct next_step s = { .action = action, .delay_ms = delay_ms };
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(s.reason, sizeof(s.reason), fmt, ap);
	va_end(ap);
	return s;
}

/* Waiting for this source, unless the whole download has no time for it. */
static struct next_step again(const struct next_input *in, int64_t delay_ms)
{
	if (delay_ms >= in->time_left_ms)
		return step(NEXT_DO_SOURCE, 0,
			    "%s: no time to wait %" PRId64 " ms, %" PRId64
			    " ms left in all", err_name(in->code), delay_ms,
			    in->time_left_ms);
	return step(NEXT_DO_AGAIN, delay_ms,
		    "%s: the same source again in %" PRId64 " ms, attempt %u of %u",
		    err_name(in->code), delay_ms, in->attempts_done + 1,
		    in->attempts_allowed);
}

static struct next_step back_off(const struct next_input *in)
{
	if (in->attempts_done >= in->attempts_allowed)
		return step(NEXT_DO_SOURCE, 0,
			    "%s: %u of %u attempts without progress",
			    err_name(in->code), in->attempts_done,
			    in->attempts_allowed);
	unsigned n = in->attempts_done ? in->attempts_done : 1;
	return again(in, clock_backoff_ms(n, BACKOFF_BASE_MS, BACKOFF_MAX_MS,
					  in->chance));
}

/*
 * The server asked for time. Its own figure is kept to the second and is held
 * against the patience of the download, not against the attempts; without a
 * figure both count, or a server that is always busy would hold us for ever.
 */
static struct next_step wait_for(const struct next_input *in)
{
	struct next_step s;
	if (in->retry_after_s)
		s = again(in, (int64_t)in->retry_after_s * 1000);
	else
		s = back_off(in);
	if (s.action != NEXT_DO_AGAIN || s.delay_ms <= in->patience_left_ms)
		return s;
	return step(NEXT_DO_SOURCE, 0,
		    "%s: asks for %" PRId64 " ms, %" PRId64 " ms of patience left",
		    err_name(in->code), s.delay_ms, in->patience_left_ms);
}

struct next_step next_decide(const struct next_input *in)
{
	enum err_next next = err_next(in->code);
	if (next != NEXT_GIVE_UP && next != NEXT_NONE && in->time_left_ms <= 0)
		return step(NEXT_DO_GIVE_UP, 0,
			    "%s: the time for the whole download is over",
			    err_name(in->code));
	switch (next) {
	case NEXT_SAME:
		return in->retry_after_s ? wait_for(in) : back_off(in);
	case NEXT_WAIT:
		return wait_for(in);
	case NEXT_RELOCATE:
		if (in->relocations_done == 0)
			return step(NEXT_DO_RELOCATE, 0, "%s: asking for locations "
				    "again", err_name(in->code));
		return step(NEXT_DO_SOURCE, 0,
			    "%s: once more after %u new locations, no progress",
			    err_name(in->code), in->relocations_done);
	case NEXT_SOURCE:
		return step(NEXT_DO_SOURCE, 0, "%s: this source cannot help",
			    err_name(in->code));
	case NEXT_NONE:
		return step(NEXT_DO_GIVE_UP, 0, "nothing failed");
	case NEXT_GIVE_UP:
		break;
	}
	return step(NEXT_DO_GIVE_UP, 0, "%s: no source can help",
		    err_name(in->code));
}
