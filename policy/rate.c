#include "policy/rate.h"

#include "common/span.h"
#include "policy/value.h"

#include <stdbool.h>
#include <stdio.h>

#define WIDTH_RATE 32000 /* bytes/s that one connection should have */
#define TEXT_MAX 200   /* no line of agent.conf is longer */

static enum err_code refuse(struct err *e, const char *why)
{
	return err_set(e, ERR_CONFIG,
		       "must be a window and a rate as Mon-Fri "
		       "08:00-18:00 200k, with on-prem or cloud behind it where it "
		       "is for those: %s",
		       why);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Take the last word off the end of *text. */
static struct span take_word(struct span *text)
{
	while (text->len && is_blank(text->at[text->len - 1]))
		text->len--;
	size_t end = text->len;
	while (text->len && !is_blank(text->at[text->len - 1]))
		text->len--;
	return (struct span){text->at + text->len, end - text->len};
}

static bool is_scope(struct span word, enum rate_scope *scope)
{
	if (span_is(word, "on-prem"))
		*scope = RATE_ON_PREM;
	else if (span_is(word, "cloud"))
		*scope = RATE_CLOUD;
	else
		return false;
	return true;
}

enum err_code rate_parse(const char *text, struct rate_rule *out, struct err *e)
{
	struct rate_rule r = { .scope = RATE_ALL };
	struct span rest = span_of(text);
	char window[TEXT_MAX];
	struct err why = {0};
	struct span word = take_word(&rest);
	if (is_scope(word, &r.scope))
		word = take_word(&rest);
	if (!value_size(word, &r.rate))
		return refuse(e, "the rate is bytes a second, as 500000, 200k, 2M; 0 "
				 "is none");
	while (rest.len && is_blank(rest.at[rest.len - 1]))
		rest.len--;
	if (rest.len == 0)
		return refuse(e, "no window before the rate");
	if (rest.len >= sizeof(window))
		return refuse(e, "too long");
	snprintf(window, sizeof(window), "%.*s", SPAN_ARG(rest));
	if (window_parse(window, &r.window, &why) != ERR_OK)
		return refuse(e, why.text);
	*out = r;
	return ERR_OK;
}

enum err_code rate_check(const char *text, struct err *e)
{
	struct rate_rule r;
	return rate_parse(text, &r, e);
}

int64_t rate_at(const struct rate_rule *rules, size_t n,
		const uint64_t plain[RATE_SCOPES], int64_t now_s,
		uint64_t out[RATE_SCOPES])
{
	bool is_ruled[RATE_SCOPES] = {false};
	int64_t next_s = INT64_MAX;
	for (size_t i = 0; i < RATE_SCOPES; i++)
		out[i] = plain[i];
	for (size_t i = 0; i < n; i++) {
		const struct rate_rule *r = &rules[i];
		int64_t at_s = window_next_open(&r->window, 1, now_s);
		if (at_s == now_s) {
			if (!is_ruled[r->scope])
				out[r->scope] = r->rate;
			is_ruled[r->scope] = true;
			at_s = window_end(&r->window, 1, now_s);
		}
		if (at_s > now_s && at_s < next_s)
			next_s = at_s;
	}
	return next_s;
}

unsigned rate_width(uint64_t rate, unsigned most)
{
	uint64_t width = rate / WIDTH_RATE;
	if (rate == 0 || width >= most)
		return most;
	return width ? (unsigned)width : 1;
}
