#include "mp_site.h"
#include "script.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t count_lock = PTHREAD_MUTEX_INITIALIZER;

/* Is the value of `key` this word? */
static bool is_word(const struct script *s, const char *key, const char *word)
{
	char *value = script_get(s, key);
	bool is_it = value && !strcmp(value, word);

	free(value);
	return is_it;
}

void site_read(struct site *s, const struct request *q)
{
	struct script text;

	script_read(&text, q, "site");
	char *envelope = script_get(&text, "envelope");
	*s = (struct site){
		.is_approving = !is_word(&text, "approval", "no"),
		.settle = script_number(&text, "settle", 0),
		.minutes = script_number(&text, "minutes", 10),
		.envelope = {
			.is_oaep = envelope && strstr(envelope, "oaep"),
			.is_aes = envelope && strstr(envelope, "aes"),
		},
		.is_clear = script_has(&text, "clear"),
		.is_text = is_word(&text, "compressed", "text"),
		.is_by_hash = is_word(&text, "url", "hash"),
		.has_mark = !script_has(&text, "no_mark"),
	};
	free(envelope);
	script_free(&text);
}

static void count_name(const char *smsid, char name[96])
{
	snprintf(name, 96, "clients/%s.count", smsid + strlen("GUID:"));
}

long site_count(const struct request *q, const char *smsid)
{
	struct buf old = {0};
	char name[96], line[32];
	uint64_t seen = 0;

	count_name(smsid, name);
	pthread_mutex_lock(&count_lock);
	read_file(q->options->dir, name, &old);
	const char *at = buf_text(&old);
	if (!read_number(&at, &seen))
		seen = 0;
	int n = snprintf(line, sizeof line, "%llu\n", (unsigned long long)seen + 1);
	write_file(q->options->dir, name, line, (size_t)n);
	pthread_mutex_unlock(&count_lock);
	buf_free(&old);
	return (long)seen;
}

void site_count_anew(const struct request *q, const char *smsid)
{
	char name[96], path[4096];

	count_name(smsid, name);
	snprintf(path, sizeof path, "%s/%s", q->options->dir, name);
	unlink(path);
}
