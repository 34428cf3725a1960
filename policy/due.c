#include "policy/due.h"

#include "common/clock.h"
#include "common/digest.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#define SEARCH_ASKS_S 3600 /* at least every 60 min while it is looked for */

__attribute__((format(printf, 3, 4))) static void
answer(struct due_answer *out, enum due_state state, const char *fmt, ...)
{
	va_list ap;
	out->state = state;
	va_start(ap, fmt);
	vsnprintf(out->reason, sizeof(out->reason), fmt, ap);
	va_end(ap);
}

/* A time as a reason shows it. */
struct moment {
	char text[CLOCK_RFC3339_SIZE];
};
static struct moment show(int64_t at_s)
{
	struct moment m = { 0 };
	clock_rfc3339(at_s, m.text);
	return m;
}

/* a + b, where b is not negative, as far as numbers go. */
static int64_t after(int64_t a_s, int64_t b_s)
{
	int64_t sum;
	return __builtin_add_overflow(a_s, b_s, &sum) ? INT64_MAX : sum;
}

/* a - b, 0 where b is later. */
static int64_t since(int64_t a_s, int64_t b_s)
{
	int64_t gone;
	if (a_s <= b_s)
		return 0;
	return __builtin_sub_overflow(a_s, b_s, &gone) ? INT64_MAX : gone;
}

static int64_t later(int64_t a_s, int64_t b_s)
{
	return a_s > b_s ? a_s : b_s;
}

/* ---- this client's place ---- */

/* 64 bits that differ from client to client and from content to content. */
static uint64_t share_of(const struct deployment *d, const char *client_id)
{
	char hex[DIGEST_HEX_SIZE] = "", name[CONTENT_NAME_SIZE];
	uint64_t share = 0;
	autodigest struct digest *digest = digest_new(DIGEST_SHA256, NULL);
	content_name(&d->content, name);
	if (digest) {
		digest_add(digest, client_id, strlen(client_id) + 1);
		digest_add(digest, name, strlen(name));
	}
	/* Without memory: in the middle, rather than at once. */
	if (digest == NULL || digest_hex(digest, hex, NULL) != ERR_OK)
		return UINT64_MAX / 2;
	for (size_t i = 0; i < 16; i++)
		share = share << 4 |
			(unsigned)(hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10);
	return share;
}

/* From when on it may be fetched. A clock that went back since it was first seen
 * does not hold it up. */
static int64_t begin_of(const struct deployment *d, const struct due_past *past,
			int64_t now_s)
{
	if (d->available_s)
		return d->available_s;
	return past->first_seen_s && past->first_seen_s < now_s ? past->first_seen_s
							       : now_s;
}

/* The place between begin_s and the deadline, in open time. */
static int64_t place_of(const struct deployment *d, const struct due_rules *r,
			int64_t begin_s)
{
	int64_t open_s = window_seconds(r->windows, r->window_count, begin_s,
					d->deadline_s);
	if (open_s <= 0)
		return d->deadline_s;
	unsigned __int128 spread = (unsigned __int128)open_s * DUE_SPREAD / 100;
	uint64_t nth = (uint64_t)(spread * share_of(d, r->client_id) >> 64);
	int64_t at_s = window_nth(r->windows, r->window_count, begin_s, (int64_t)nth);
	return at_s < d->deadline_s ? at_s : d->deadline_s;
}

/* ---- after failures ---- */

/*
 * When it may be tried again; 0 = it did not fail. A clock that went back: what
 * is left of the delay is not more than the delay itself, and a failure that lies
 * further ahead than that tells nothing.
 */
static int64_t retry_at(const struct due_past *past, int64_t now_s)
{
	if (past->failed_s == 0 || past->delay_s <= 0 ||
	    since(past->failed_s, now_s) > past->delay_s)
		return 0;
	int64_t from_s = past->failed_s < now_s ? past->failed_s : now_s;
	return after(from_s, past->delay_s);
}

static void show_search(const struct due_past *past, int64_t now_s,
			struct due_answer *out)
{
	if (past->search_since_s == 0 || past->has_given_up)
		return;
	int64_t end_s = after(past->search_since_s, DUE_SEARCH_S);
	if (end_s > now_s)
		out->gives_up_s = end_s;
}

static void say_retry(const struct due_past *past, struct due_answer *out)
{
	struct moment at = show(out->at_s);
	if (past->has_given_up)
		answer(out, DUE_LATER, "no source in %d hours of search: searches "
		       "again at %s", DUE_SEARCH_S / 3600, at.text);
	else if (out->gives_up_s)
		answer(out, DUE_LATER, "no source so far: asks again at %s, gives up "
		       "at %s", at.text, show(out->gives_up_s).text);
	else if (past->tries)
		answer(out, DUE_LATER, "failed %u time%s, next try at %s", past->tries,
		       past->tries == 1 ? "" : "s", at.text);
	else
		answer(out, DUE_LATER, "was interrupted, goes on at %s", at.text);
}

/* ---- the decision ---- */

/* What no time changes. */
static bool decide_without_time(const struct deployment *d,
				const struct due_past *past,
				const struct due_rules *r, struct due_answer *out)
{
	if (past->is_here)
		answer(out, DUE_DONE, "it is here, with the hash that policy names");
	else if (r->newer_version)
		answer(out, DUE_SUPERSEDED, "version %u is deployed: it replaces this "
		       "one", (unsigned)r->newer_version);
	else if (!d->is_required)
		answer(out, DUE_ON_REQUEST, "purpose = available: only when asked "
		       "for%s", d->hash[0] ? "" : "; nobody named its hash so far");
	else if (!d->hash[0])
		answer(out, DUE_NO_HASH, "%s", d->site_hash && d->site_hash[0] ?
		       "the site's own hash cannot be checked here: name the content "
		       "hash in a file of [policy] local" :
		       "nobody named a content hash: name it in a policy file");
	else
		return false;
	return true;
}

static void decide_urgent(const struct deployment *d, const struct due_past *past,
			  int64_t now_s, int64_t retry_s, struct due_answer *out)
{
	out->is_urgent = true;
	out->at_s = later(retry_s, now_s);
	if (retry_s > now_s)
		say_retry(past, out);
	else
		answer(out, DUE_NOW, "past its deadline of %s: now, whatever the "
		       "windows say", show(d->deadline_s).text);
}

/* It waits until out->at_s; why? */
static void say_later(const struct deployment *d, const struct due_past *past,
		      int64_t begin_s, int64_t base_s, int64_t retry_s,
		      struct due_answer *out)
{
	struct moment at = show(out->at_s);
	if (out->at_s == INT64_MAX)
		answer(out, DUE_LATER, "no window opens within ten years");
	else if (out->at_s == d->deadline_s)
		answer(out, DUE_LATER, "no window is open before its deadline: comes "
		       "at the deadline, %s", at.text);
	else if (out->at_s > base_s)
		answer(out, DUE_LATER, "waits for a window: the next one opens at %s",
		       at.text);
	else if (retry_s == base_s)
		say_retry(past, out);
	else if (out->planned_s)
		answer(out, DUE_LATER, "this client's place between %s %s and deadline "
		       "%s is %s", d->available_s ? "available" : "first sight",
		       show(begin_s).text, show(d->deadline_s).text, at.text);
	else
		answer(out, DUE_LATER, "available at %s", at.text);
}

static void decide_time(const struct deployment *d, const struct due_past *past,
			const struct due_rules *r, struct due_answer *out)
{
	int64_t now_s = r->now_s, begin_s = begin_of(d, past, now_s);
	int64_t retry_s = retry_at(past, now_s), planned_s = begin_s;
	show_search(past, now_s, out);
	if (d->deadline_s)
		planned_s = out->planned_s = place_of(d, r, begin_s);
	if (d->deadline_s && now_s >= d->deadline_s) {
		decide_urgent(d, past, now_s, retry_s, out);
		return;
	}
	int64_t base_s = later(later(planned_s, retry_s), now_s);
	out->at_s = window_next_open(r->windows, r->window_count, base_s);
	if (d->deadline_s && out->at_s > d->deadline_s)
		out->at_s = later(d->deadline_s, base_s);
	if (out->at_s > now_s)
		say_later(d, past, begin_s, base_s, retry_s, out);
	else if (out->planned_s)
		answer(out, DUE_NOW, "its place between %s and deadline %s was %s",
		       show(begin_s).text, show(d->deadline_s).text,
		       show(planned_s).text);
	else
		answer(out, DUE_NOW, "required and available since %s",
		       show(begin_s).text);
}

void due_decide(const struct deployment *d, const struct due_past *past,
		const struct due_rules *rules, struct due_answer *out)
{
	*out = (struct due_answer){ 0 };
	if (!decide_without_time(d, past, rules, out))
		decide_time(d, past, rules, out);
}

/* ---- what happened ---- */

void due_seen(struct due_past *past, int64_t now_s)
{
	if (past->first_seen_s == 0 || past->first_seen_s > now_s)
		past->first_seen_s = now_s;
}

/* Nobody's fault: somebody else was at it, or we were told to stop. */
static bool is_uncounted(enum err_code code)
{
	return code == ERR_LOCKED || code == ERR_NOT_DUE || code == ERR_WITHDRAWN ||
	       code == ERR_SIGTERM || code == ERR_SIGINT;
}

/* Goes on with the search, or begins one: the delay, once more of it is left. */
static int64_t search_on(struct due_past *past, int64_t now_s, int64_t delay_s)
{
	if (past->search_since_s == 0 || past->search_since_s > now_s ||
	    past->has_given_up) {
		past->search_since_s = now_s;
		past->has_given_up = false;
	}
	int64_t left_s = DUE_SEARCH_S - since(now_s, past->search_since_s);
	if (left_s <= 0) {
		past->has_given_up = true;
		return DUE_DELAY_MAX_S;
	}
	if (delay_s > SEARCH_ASKS_S)
		delay_s = SEARCH_ASKS_S;
	/* The last question comes when the time is over, not after it. */
	return delay_s > left_s ? later(left_s, DUE_DELAY_MIN_S) : delay_s;
}

void due_failed(struct due_past *past, const struct err *why, int64_t now_s,
		uint32_t chance)
{
	const char *class_name = err_class_name(why->code);
	int64_t asked_s = why->retry_after_s;
	past->is_here = false;
	past->failed_s = now_s;
	if (is_uncounted(why->code)) {
		/* who was told to end goes on as soon as it may: with the next start */
		past->delay_s = why->code == ERR_SIGTERM || why->code == ERR_SIGINT ?
					1 : DUE_DELAY_MIN_S;
		return;
	}
	if (past->tries < UINT_MAX)
		past->tries++;
	int64_t delay_s = clock_backoff_ms(past->tries, DUE_DELAY_MIN_S * 1000,
					   DUE_DELAY_MAX_S * 1000LL, chance) / 1000;
	if (why->code == ERR_NO_LOCATION || why->code == ERR_CLOUD_REFUSED) {
		delay_s = search_on(past, now_s, delay_s);
	} else if (strcmp(class_name, "MP") != 0 &&
		   strcmp(class_name, "INTERNAL") != 0) {
		/* There were locations, so that search is over. */
		past->search_since_s = 0;
		past->has_given_up = false;
	}
	if (asked_s > DUE_DELAY_MAX_S)
		asked_s = DUE_DELAY_MAX_S;
	past->delay_s = later(delay_s, asked_s);
}

void due_arrived(struct due_past *past)
{
	*past = (struct due_past){ .first_seen_s = past->first_seen_s,
				   .is_here = true };
}

int due_compare(const struct deployment *a, const struct deployment *b)
{
	if (a->priority != b->priority)
		return a->priority > b->priority ? -1 : 1;
	if (a->deadline_s != b->deadline_s) {
		if (a->deadline_s == 0 || b->deadline_s == 0)
			return a->deadline_s ? -1 : 1;
		return a->deadline_s < b->deadline_s ? -1 : 1;
	}
	int order = strcasecmp(a->content.id, b->content.id);
	if (order)
		return order;
	if (a->content.version != b->content.version)
		return a->content.version < b->content.version ? -1 : 1;
	return strcmp(a->id, b->id);
}
