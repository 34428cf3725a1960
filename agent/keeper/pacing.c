#include "agent/keeper/pacing.h"

#define LOOK_EVERY_S 60 /* a clock may be set, a time zone changed */
#define BACKGROUND_WIDTH 2

bool pacing_is_background(const struct pacing_job *job, int64_t now_s)
{
	if (job->settings->background != SETTINGS_BACKGROUND_AUTO)
		return job->settings->background == SETTINGS_BACKGROUND_YES;
	return job->by_service && !(job->deadline_s && now_s >= job->deadline_s);
}

static void look(struct pacing *p, int64_t now_s)
{
	const struct settings *s = p->job.settings;
	const uint64_t plain[RATE_SCOPES] = {
	    [RATE_ALL] = s->rate_limit,
	    [RATE_ON_PREM] = s->rate_limit_on_prem,
	    [RATE_CLOUD] = s->rate_limit_cloud,
	};
	uint64_t rates[RATE_SCOPES];
	int64_t next_s = rate_at(p->rules, p->rule_count, plain, now_s, rates);
	bool is_background = pacing_is_background(&p->job, now_s);
	p->now = (struct wire_pace){
	    .rate = rates[RATE_ALL],
	    .rate_on_prem = rates[RATE_ON_PREM],
	    .rate_cloud = rates[RATE_CLOUD],
	    .may_change = p->rule_count > 0,
	    /* Only where somebody asked for it: a server that limits what it gives
	     * may be taken for a link that is full. */
	    .is_background = is_background &&
			     s->background == SETTINGS_BACKGROUND_YES,
	    /* for good, so only as long as it can be ended with the process */
	    .is_idle = is_background && p->job.owns_process,
	};
	if (p->job.deadline_s > now_s && p->job.deadline_s < next_s)
		next_s = p->job.deadline_s;
	p->looked_s = now_s;
	p->next_s = next_s < now_s + LOOK_EVERY_S ? next_s : now_s + LOOK_EVERY_S;
}

void pacing_begin(struct pacing *p, const struct pacing_job *job, int64_t now_s)
{
	const struct settings_list *l = &job->settings->rate_schedule;
	*p = (struct pacing){ .job = *job };
	/* settings_load has read them all before: nothing here can be wrong */
	for (size_t i = 0; i < l->count && p->rule_count < RATE_RULES_MAX; i++)
		if (rate_parse(l->items[i], &p->rules[p->rule_count], NULL) == ERR_OK)
			p->rule_count++;
	look(p, now_s);
}

static bool is_same(const struct wire_pace *a, const struct wire_pace *b)
{
	return a->rate == b->rate && a->rate_on_prem == b->rate_on_prem &&
	       a->rate_cloud == b->rate_cloud && a->is_background == b->is_background &&
	       a->is_idle == b->is_idle;
}

bool pacing_turn(struct pacing *p, int64_t now_s)
{
	struct wire_pace before = p->now;
	if (now_s < p->next_s && now_s >= p->looked_s)
		return false;
	look(p, now_s);
	return !is_same(&before, &p->now);
}

static uint64_t lower_of(uint64_t a, uint64_t b)
{
	return a && (b == 0 || a < b) ? a : b;
}

uint64_t pacing_rate(const struct pacing *p, bool is_cloud)
{
	return lower_of(is_cloud ? p->now.rate_cloud : p->now.rate_on_prem,
			p->now.rate);
}

unsigned pacing_width(const struct pacing *p, bool is_cloud, unsigned most)
{
	unsigned width = rate_width(pacing_rate(p, is_cloud), most);
	return p->now.is_background && width > BACKGROUND_WIDTH ? BACKGROUND_WIDTH
								: width;
}

uint64_t pacing_minimum(const struct pacing *p)
{
	const struct settings *s = p->job.settings;
	uint64_t rate = lower_of(s->rate_limit, s->rate_limit_on_prem);
	rate = lower_of(rate, s->rate_limit_cloud);
	for (size_t i = 0; i < p->rule_count; i++)
		rate = lower_of(rate, p->rules[i].rate);
	if (p->now.is_background)
		return 0;
	return rate && s->minimum_rate > rate / 2 ? rate / 2 : s->minimum_rate;
}
