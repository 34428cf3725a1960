#include "script.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t count_lock = PTHREAD_MUTEX_INITIALIZER;

/* Next line of `*at`: its key and its value, both owned. */
static bool next_line(const char **at, char **key, char **value)
{
	while (**at) {
		const char *line = *at;
		size_t n = strcspn(line, "\r\n");
		*at += n;
		*at += strspn(*at, "\r\n");
		size_t word = strcspn(line, " \t\r\n");
		if (word == 0 || line[0] == '#')
			continue;
		size_t gap = word + strspn(line + word, " \t");
		*key = must_dup(line, word);
		*value = must_dup(line + gap, gap < n ? n - gap : 0);
		return true;
	}
	return false;
}

char *script_get(const struct script *s, const char *wanted)
{
	const char *at = buf_text(&s->text);
	char *key, *value;

	while (next_line(&at, &key, &value)) {
		bool is_it = !strcmp(key, wanted);
		free(key);
		if (is_it)
			return value;
		free(value);
	}
	return NULL;
}

bool script_has(const struct script *s, const char *key)
{
	char *value = script_get(s, key);

	free(value);
	return value != NULL;
}

long script_number(const struct script *s, const char *key, long otherwise)
{
	char *value = script_get(s, key);
	const char *at = value;
	uint64_t n;

	if (!value)
		return otherwise;
	if (!read_number(&at, &n) || *at)
		fprintf(stderr, "script: %s wants a number, not %s\n", key, value);
	else
		otherwise = (long)n;
	free(value);
	return otherwise;
}

bool script_file(const struct script *s, const struct request *q, const char *key,
	struct buf *out)
{
	char *name = script_get(s, key);

	if (!name)
		return false;
	if (!read_file(q->options->dir, name, out))
		fprintf(stderr, "script: cannot read %s\n", name);
	free(name);
	return true;
}

static bool is_word_of(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (; *list; list += strspn(list, " \t")) {
		size_t one = strcspn(list, " \t");
		if (one == n && !strncmp(list, word, n))
			return true;
		list += one;
	}
	return false;
}

/*
 * How many requests this script has seen before this one. The count names the file
 * it belongs to, so that a script written anew starts from 0.
 */
static long count_request(const char *dir)
{
	struct buf old = {0};
	struct stat st = {0};
	char path[4096], id[96], line[160];
	long count = 0;

	snprintf(path, sizeof path, "%s/script", dir);
	stat(path, &st);
	snprintf(id, sizeof id, "%llu-%lld.%09ld", (unsigned long long)st.st_ino,
		(long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	if (read_file(dir, "script.count", &old)) {
		const char *rest = buf_text(&old);
		uint64_t seen;
		if (read_number(&rest, &seen) && *rest++ == ' '
		    && !strncmp(rest, id, strlen(id)))
			count = (long)seen;
	}
	snprintf(line, sizeof line, "%ld %s\n", count + 1, id);
	write_file(dir, "script.count", line, strlen(line));
	buf_free(&old);
	return count;
}

void script_load(struct script *s, struct request *q, const char *kind,
	const char *default_kinds)
{
	const char *dir = q->options->dir;

	*s = (struct script){0};
	pthread_mutex_lock(&count_lock);
	if (read_file(dir, "script", &s->text)) {
		char *kinds = script_get(s, "on");
		const char *list = kinds ? kinds : default_kinds;
		bool applies = is_word_of(list, kind) || is_word_of(list, "any");
		if (applies) {
			long skip = script_number(s, "skip", 0);
			long times = script_number(s, "times", -1);
			long seen = count_request(dir);
			applies = seen >= skip && (times < 0 || seen < skip + times);
		}
		if (!applies)
			buf_free(&s->text);
		free(kinds);
	}
	pthread_mutex_unlock(&count_lock);
	note_raw(q, "scripted", s->text.n ? "true" : "false");
}

void script_read(struct script *s, const struct request *q, const char *name)
{
	*s = (struct script){0};
	read_file(q->options->dir, name, &s->text);
}

void script_free(struct script *s)
{
	buf_free(&s->text);
}

static const char login_page[] =
	"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>"
	"<h1>Welcome to the guest network</h1><form method=\"post\" action=\"/login\">"
	"<input name=\"user\"><input name=\"password\" type=\"password\">"
	"<button>Sign in</button></form></body></html>\n";

static void drop_body(struct reply *r)
{
	buf_free(&r->body);
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
}

static void apply_body(const struct script *s, struct request *q, struct reply *r)
{
	struct buf raw = {0};

	if (script_has(s, "status")) {
		unsigned status = (unsigned)script_number(s, "status", 500);
		char *reason = script_get(s, "reason");
		if (status >= 300) {
			drop_body(r);
			refuse(q, r, status, reason, "script");
		}
		free(reason);
		r->status = status;
	}
	if (script_has(s, "html")) {
		drop_body(r);
		buf_puts(&r->body, login_page);
		snprintf(r->content_type, sizeof r->content_type, "text/html");
	}
	if (script_has(s, "empty"))
		drop_body(r);
	if (script_file(s, q, "raw", &raw)) {
		drop_body(r);
		r->body = raw;
	}
}

static void apply_headers(const struct script *s, struct reply *r)
{
	const char *at = buf_text(&s->text);
	char *key, *value;

	while (next_line(&at, &key, &value)) {
		if (!strcmp(key, "content_type"))
			snprintf(r->content_type, sizeof r->content_type, "%s",
				strcmp(value, "-") ? value : "");
		else if (!strcmp(key, "header"))
			reply_header(r, "%s", value);
		else if (!strcmp(key, "retry_after"))
			reply_header(r, "Retry-After: %s", value);
		else if (!strcmp(key, "redirect"))
			reply_header(r, "Location: %s", value);
		free(key);
		free(value);
	}
}

void script_apply(const struct script *s, struct request *q, struct reply *r)
{
	if (!s->text.n)
		return;
	if (script_has(s, "redirect") && !script_has(s, "status")) {
		drop_body(r);
		refuse(q, r, 302, NULL, "script");
	}
	char *reason = script_get(s, "reason");
	if (reason)
		snprintf(r->reason, sizeof r->reason, "%s", reason);
	free(reason);
	apply_body(s, q, r);
	apply_headers(s, r);
	r->delay_ms = (unsigned)script_number(s, "delay_ms", 0);
	r->cut = (uint64_t)script_number(s, "cut", 0);
	r->is_closed = script_has(s, "close");
}
