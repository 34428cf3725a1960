#include "agent/net/stall.h"

#define STEP_MS 1000

void stall_begin(struct stall *s, int64_t now_ms)
{
	*s = (struct stall){ .step_ms = now_ms };
}

void stall_hold(struct stall *s, int64_t now_ms)
{
	if (s->step_ms == 0)
		stall_begin(s, now_ms);
	if (s->held_ms == 0)
		s->held_ms = now_ms;
}

void stall_release(struct stall *s, int64_t now_ms)
{
	int64_t held_ms = s->held_ms ? now_ms - s->held_ms : 0;
	s->held_ms = 0;
	s->step_ms += held_ms;
	if (s->slow_ms)
		s->slow_ms += held_ms;
}

bool stall_is_over(struct stall *s, uint64_t bytes, int64_t now_ms, int64_t limit_ms)
{
	int64_t took_ms = now_ms - s->step_ms;
	if (s->held_ms)
		return false;
	if (took_ms >= STEP_MS) {
		uint64_t came = bytes - s->step_bytes;
		if (came * 1000 >= STALL_RATE * (uint64_t)took_ms)
			s->slow_ms = 0;
		else if (s->slow_ms == 0)
			s->slow_ms = s->step_ms;
		s->step_ms = now_ms;
		s->step_bytes = bytes;
	}
	return s->slow_ms && now_ms - s->slow_ms >= limit_ms;
}
