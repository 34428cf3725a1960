#include "tests/unit/stage.h"

#include "tests/unit/test.h"

#include "agent/keeper/cache.h"
#include "common/fs.h"
#include "common/own.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void stage_open(struct stage *s, const char *const *overrides)
{
	static const char *const places[] = {
		"cache.directory=%s/cache", "state.directory=%s/state",
		"cache.min_free=0", "report.events_file=%s/events",
		"report.metrics_file=%s/metrics.prom",
		"policy.source=%s/policy.d",
		"client.id=GUID:00000000-0000-4000-8000-00000000000A",
		"hooks.on_content=%s/hooks.d", "log.directory=",
	};
	char words[40][400], *all[40];
	size_t n = 0;
	struct err e = { 0 };
	autobuf problems = { 0 };
	*s = (struct stage){ 0 };
	snprintf(s->folder, sizeof(s->folder), "%s", test_folder());
	for (; n < sizeof(places) / sizeof(places[0]); n++) {
		const char *mark = strstr(places[n], "%s");
		int head = mark ? (int)(mark - places[n]) : (int)strlen(places[n]);
		snprintf(words[n], sizeof(words[n]), "%.*s%s%s", head, places[n],
			 mark ? s->folder : "", mark ? mark + 2 : "");
	}
	for (; overrides && *overrides; overrides++)
		snprintf(words[n++], sizeof(words[0]), "%s", *overrides);
	for (size_t i = 0; i < n; i++)
		all[i] = words[i];
	struct settings_input in = { .overrides = all, .override_count = n };
	if (settings_load(&in, &s->settings, &problems, &e) != ERR_OK)
		fail_msg("%s %s", e.text, problems.at);
	s->record = record_open(s->settings.state_directory, &e);
	if (s->record == NULL)
		fail_msg("%s", e.text);
}

void stage_close(struct stage *s)
{
	record_close(s->record);
	settings_free(&s->settings);
}

const char *stage_path(const struct stage *s, const char *name)
{
	static char path[600];
	snprintf(path, sizeof(path), "%s/%s", s->folder, name);
	return path;
}

char *stage_read(const struct stage *s, const char *name)
{
	struct buf text = { 0 };
	struct err e = { 0 };
	fs_read_all(AT_FDCWD, stage_path(s, name), &text, &e);
	return buf_take(&text);
}

/* The listing of a content of one file. */
static void list(const char *text, struct listing *l)
{
	struct err e = { 0 };
	char hex[DIGEST_HEX_SIZE];
	autodigest struct digest *d = digest_new(DIGEST_SHA256, &e);
	digest_add(d, text, strlen(text));
	assert_ok(digest_hex(d, hex, &e));
	assert_ok(listing_add(l, "file", hex, &e));
}

struct deployment *stage_deploy(struct deployment_list *l, const char *name,
				const char *text)
{
	struct err e = { 0 };
	autolisting files = { 0 };
	l->items = reallocarray(l->items, l->count + 1, sizeof(*l->items));
	assert_non_null(l->items);
	struct deployment *d = &l->items[l->count++];
	*d = (struct deployment){ .path = strdup("test.ini"),
				  .id = strdup(name),
				  .name = strdup(name),
				  .site_hash = strdup(""),
				  .is_required = true,
				  .priority = 1,
				  .size = DEPLOYMENT_SIZE_UNKNOWN };
	l->room = l->count;
	assert_ok(content_parse(name, &d->content, &e));
	if (text) {
		list(text, &files);
		assert_ok(listing_hash(&files, d->hash, &e));
	}
	return d;
}

void stage_publish(const struct stage *s, const char *name, const char *text)
{
	struct err e = { 0 };
	struct content content;
	struct draft draft;
	autolisting files = { 0 };
	struct cache *c = cache_open(s->settings.cache_directory, 0, 0, &e);
	assert_non_null(c);
	assert_ok(content_parse(name, &content, &e));
	assert_ok(cache_begin(c, &content, &draft, &e));
	autofd fd = fs_open_at(draft.dir_fd, "file", O_WRONLY | O_CREAT, 0644, &e);
	assert_true(fd >= 0);
	assert_ok(fs_write_at(fd, text, strlen(text), 0, "file", &e));
	list(text, &files);
	assert_ok(cache_publish(c, &draft, &content, &files, &e));
	draft_close(&draft);
	cache_close(c);
}
