#include "agent/cli/progress.h"

#include "agent/cli/words.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/own.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define REDRAW_MS 100     /* at most ten times a second */
#define RATE_MS 500       /* one sample of the rate */
#define JSON_MS 500
#define WIDTH_DEFAULT 80
#define BAR_LEAST 8       /* columns; a narrower bar tells nothing */

struct progress {
	enum options_progress kind; /* BAR, PLAIN, JSON or NONE */
	char step[32], host[280];   /* of the last call */
	int64_t shown_ms;           /* when it was drawn or written */
	bool is_begun;
	unsigned tenth;             /* last tenth that PLAIN has told */
	/* rate, smoothed: the last sample, bytes a second */
	int64_t sample_ms;
	uint64_t sample_bytes, rate;
	struct buf line;            /* what stands on the terminal now */
};

static struct progress *current; /* for the log's hooks, which take nothing */

/* --- figures -------------------------------------------------------------- */

static void sample_rate(struct progress *g, const struct job_progress *p)
{
	uint64_t bytes = p->figures.bytes_received;
	if (g->sample_ms == 0 || bytes < g->sample_bytes) {
		g->sample_ms = p->now_ms;
		g->sample_bytes = bytes;
		return;
	}
	int64_t took = p->now_ms - g->sample_ms;
	if (took < RATE_MS)
		return;
	uint64_t now = (bytes - g->sample_bytes) * 1000 / (uint64_t)took;
	g->rate = g->rate ? (g->rate * 3 + now) / 4 : now;
	g->sample_ms = p->now_ms;
	g->sample_bytes = bytes;
}

/* -1 = cannot be said. */
static int64_t remaining_ms(const struct progress *g,
			    const struct receive_figures *f)
{
	if (g->rate == 0 || f->bytes_total < f->bytes_done)
		return -1;
	uint64_t s = (f->bytes_total - f->bytes_done) / g->rate;
	return s > 359999 ? -1 : (int64_t)(s + 1) * 1000;
}

static unsigned percent(const struct receive_figures *f)
{
	if (f->bytes_total == 0 || f->bytes_done >= f->bytes_total)
		return f->bytes_total ? 100 : 0;
	return (unsigned)((double)f->bytes_done * 100 / (double)f->bytes_total);
}

static bool is_transfer(const struct progress *g)
{
	return strcmp(g->step, "transfer") == 0;
}

/* "47.2 MiB of 104.9 MiB, 12.3 MiB/s, 5.0 s left" */
static void print_figures(const struct progress *g,
			  const struct receive_figures *f, struct buf *out)
{
	char done[WORDS_SIZE], total[WORDS_SIZE], rate[WORDS_SIZE];
	char left[WORDS_SIZE];
	int64_t ms = remaining_ms(g, f);
	buf_print(out, "%s of %s", words_bytes(f->bytes_done, done),
		  words_bytes(f->bytes_total, total));
	if (g->rate)
		buf_print(out, ", %s/s", words_bytes(g->rate, rate));
	if (ms >= 0 && f->bytes_done < f->bytes_total)
		buf_print(out, ", %s left", words_time(ms, left));
}

/* --- the bar -------------------------------------------------------------- */

static size_t width(void)
{
	struct winsize size = { 0 };
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
		return WIDTH_DEFAULT;
	return size.ws_col;
}

static void wipe(void)
{
	if (current && current->line.len)
		fputs("\r\033[K", stderr);
}

static void redraw(void)
{
	if (current && current->line.len)
		fwrite(current->line.at, 1, current->line.len, stderr);
	fflush(stderr);
}

static void add_bar(struct buf *out, unsigned per_cent, size_t columns)
{
	size_t full = columns * per_cent / 100;
	buf_char(out, '[');
	for (size_t i = 0; i < columns; i++)
		buf_char(out, i < full ? '#' : i == full ? '>' : '.');
	buf_text(out, "] ");
}

static void draw(struct progress *g, const struct job_progress *p)
{
	autobuf text = { 0 };
	size_t room = width() - 1; /* the last column would wrap */
	if (is_transfer(g)) {
		print_figures(g, &p->figures, &text);
		buf_print(&text, ", %s", g->host);
	} else {
		buf_print(&text, "%s%s%s", g->step, g->host[0] ? ": " : "", g->host);
	}
	wipe();
	buf_clear(&g->line);
	if (is_transfer(g)) {
		buf_print(&g->line, "%3u%% ", percent(&p->figures));
		if (room > g->line.len + text.len + BAR_LEAST + 3) {
			size_t bar = room - g->line.len - text.len - 3;
			add_bar(&g->line, percent(&p->figures), bar > 40 ? 40 : bar);
		}
	}
	buf_span(&g->line, buf_as_span(&text));
	if (g->line.len > room)
		g->line.len = room;
	redraw();
}

/* --- lines ---------------------------------------------------------------- */

static void tell(struct progress *g, const struct job_progress *p, bool is_new)
{
	if (is_new) {
		fprintf(stderr, "agent: %s%s%s\n", g->step, g->host[0] ? ": " : "",
			g->host);
		g->tenth = percent(&p->figures) / 10;
		return;
	}
	unsigned tenth = percent(&p->figures) / 10;
	if (!is_transfer(g) || tenth <= g->tenth)
		return;
	autobuf text = { 0 };
	print_figures(g, &p->figures, &text);
	fprintf(stderr, "agent: %3u%%  %s\n", tenth * 10, text.at ? text.at : "");
	g->tenth = tenth;
}

/* Text without control characters as a JSON string. */
static void quote(struct buf *out, const char *text)
{
	buf_char(out, '"');
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			buf_char(out, '\\');
		buf_char(out, *text);
	}
	buf_char(out, '"');
}

static void tell_json(const struct progress *g, const struct job_progress *p)
{
	const struct receive_figures *f = &p->figures;
	char at[CLOCK_RFC3339_SIZE];
	int64_t left = remaining_ms(g, f);
	autobuf line = { 0 };
	clock_rfc3339(clock_wall_s(), at);
	buf_print(&line, "{\"time\":\"%s\",\"step\":", at);
	quote(&line, g->step);
	buf_text(&line, ",\"host\":");
	quote(&line, g->host);
	buf_print(&line, ",\"files\":%" PRIu64 ",\"files_done\":%" PRIu64
		  ",\"bytes_total\":%" PRIu64 ",\"bytes_done\":%" PRIu64
		  ",\"bytes_resumed\":%" PRIu64 ",\"bytes_received\":%" PRIu64
		  ",\"rate\":%" PRIu64 ",\"remaining_ms\":", f->files, f->files_done,
		  f->bytes_total, f->bytes_done, f->bytes_resumed,
		  f->bytes_received, g->rate);
	if (left < 0)
		buf_text(&line, "null}");
	else
		buf_print(&line, "%" PRId64 "}", left);
	fprintf(stderr, "%s\n", line.at ? line.at : "{}");
}

/* --- in all --------------------------------------------------------------- */

struct progress *progress_open(enum options_progress wanted, bool is_quiet)
{
	struct progress *g = calloc(1, sizeof(*g));
	if (g == NULL)
		return NULL;
	g->kind = is_quiet ? PROGRESS_NONE : wanted;
	if (g->kind == PROGRESS_AUTO)
		g->kind = isatty(STDERR_FILENO) ? PROGRESS_BAR : PROGRESS_PLAIN;
	if (g->kind == PROGRESS_BAR) {
		current = g;
		log_set_hooks(wipe, redraw);
	}
	return g;
}

/* Remember where we are; true when it is another step or source. */
static bool enter(struct progress *g, const struct job_progress *p)
{
	autobuf host = { 0 };
	log_escape(span_of(p->host ? p->host : ""), 64, &host);
	const char *name = host.at ? host.at : "";
	if (g->is_begun && strcmp(g->step, p->step) == 0 &&
	    strcmp(g->host, name) == 0)
		return false;
	snprintf(g->step, sizeof(g->step), "%s", p->step);
	snprintf(g->host, sizeof(g->host), "%s", name);
	g->is_begun = true;
	g->sample_ms = 0;
	g->rate = 0;
	return true;
}

void progress_show(void *progress, const struct job_progress *p)
{
	struct progress *g = progress;
	if (g == NULL || g->kind == PROGRESS_NONE)
		return;
	bool is_new = enter(g, p);
	if (is_transfer(g))
		sample_rate(g, p);
	if (g->kind == PROGRESS_PLAIN) {
		tell(g, p, is_new);
		return;
	}
	int64_t pause = g->kind == PROGRESS_JSON ? JSON_MS : REDRAW_MS;
	bool is_done = p->figures.bytes_done == p->figures.bytes_total;
	if (!is_new && p->now_ms - g->shown_ms < pause &&
	    !(g->kind == PROGRESS_JSON && is_done))
		return;
	g->shown_ms = p->now_ms;
	if (g->kind == PROGRESS_JSON)
		tell_json(g, p);
	else
		draw(g, p);
}

void progress_close(struct progress *g)
{
	if (g == NULL)
		return;
	if (g == current) {
		log_set_hooks(NULL, NULL);
		wipe();
		fflush(stderr);
		current = NULL;
	}
	buf_free(&g->line);
	free(g);
}
