/*
 * Judge every case of a certificate test suite, as agent --check-chain would,
 * and compare with what the agent has to say. One JSON object a line on
 * standard input; see the README beside the suites for the fields.
 */
#include "agent/net/verify.h"
#include "common/own.h"

#include <jansson.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CASE_MAX_S 10

struct tally {
	unsigned must, must_passed, stretch, stretch_passed, waived;
	unsigned wider; /* strict accepted what standard refused */
};

static char running[300]; /* the case under judgement, for the alarm */

static void on_alarm(int sig)
{
	(void)sig;
	static const char text[] = "\nFAILED: more than 10 s for one case: ";
	if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0 ||
	    write(STDOUT_FILENO, running, strlen(running)) < 0)
		_exit(3);
	_exit(2);
}

static const char *text_of(const json_t *test, const char *key)
{
	const char *text = json_string_value(json_object_get(test, key));
	return text ? text : "";
}

/* A setting that cannot be used refuses as well: the code says which. */
static enum err_code answer(const json_t *test, bool is_strict,
			    struct verify_story *story)
{
	const char *crls = text_of(test, "crls");
	const struct verify_options options = {
		.ca_pem = span_of(text_of(test, "roots")),
		.crl_pem = span_of(crls),
		.is_strict = is_strict,
		.revocation = crls[0] ? VERIFY_CRL_CHAIN : VERIFY_CRL_OFF,
		.tls_minimum = 12,
	};
	*story = (struct verify_story){ .count = 0 };
	struct verify *v = verify_new(&options, &story->result);
	if (v == NULL)
		return story->result.code;
	autofree char *pem = NULL;
	int len = asprintf(&pem, "%s%s", text_of(test, "leaf"),
			   text_of(test, "untrusted"));
	if (len < 0)
		abort();
	const char *name = json_string_value(json_object_get(test, "hostname"));
	const json_t *time = json_object_get(test, "time");
	enum err_code rc = verify_pem(v, (struct span){ pem, (size_t)len }, name,
				      strcmp(text_of(test, "kind"), "IP") == 0,
				      json_is_integer(time) ? json_integer_value(time) :
							      INT64_MIN,
				      story);
	verify_free(v);
	return rc;
}

static void show(const char *mark, const json_t *test, const struct verify_story *s)
{
	printf("%s %s: wanted %s, got %s %s\n", mark, text_of(test, "id"),
	       text_of(test, "agent"), err_name(s->result.code), s->result.text);
}

static void judge_case(const json_t *test, struct tally *t, bool is_verbose)
{
	static struct verify_story strict, standard;
	snprintf(running, sizeof(running), "%s\n", text_of(test, "id"));
	alarm(CASE_MAX_S);
	enum err_code rc = answer(test, true, &strict);
	enum err_code lax = answer(test, false, &standard);
	alarm(0);
	const char *wanted = text_of(test, "agent"), *level = text_of(test, "level");
	bool is_right = strcmp(wanted, "ANY") == 0 ||
			(strcmp(wanted, "SUCCESS") == 0) == (rc == ERR_OK);
	if (rc == ERR_OK && lax != ERR_OK) {
		t->wider++;
		show("WIDER strict accepts, standard refuses:", test, &standard);
	}
	if (strcmp(level, "waived") == 0) {
		t->waived++;
		printf("waived %s: published %s, we say %s: %s\n", text_of(test, "id"),
		       text_of(test, "expected"), err_name(rc), text_of(test, "reason"));
	} else if (strcmp(level, "stretch") == 0) {
		t->stretch++;
		t->stretch_passed += is_right;
		show(is_right ? "stretch" : "STRETCH MISSED", test, &strict);
	} else {
		t->must++;
		t->must_passed += is_right;
		if (!is_right)
			show("FAILED", test, &strict);
	}
	if (is_verbose)
		printf("%s: %s | %s\n", text_of(test, "id"), strict.result.text,
		       standard.result.text);
}

/* usage: judge SUITE [verbose] < CASES */
int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: judge SUITE [verbose] < CASES\n");
		return 2;
	}
	struct tally t = { .must = 0 };
	autofree char *line = NULL;
	size_t room = 0, number = 0, unread = 0;
	ssize_t len;
	signal(SIGALRM, on_alarm);
	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((len = getline(&line, &room, stdin)) > 0) {
		json_error_t why;
		json_t *test = json_loadb(line, (size_t)len, 0, &why);
		number++;
		if (test == NULL) {
			printf("FAILED line %zu: %s\n", number, why.text);
			unread++;
			continue;
		}
		judge_case(test, &t, argc > 2);
		json_decref(test);
	}
	size_t failed = t.must - t.must_passed + t.wider + unread + (number == 0);
	printf("%s: must %u/%u passed, stretch %u/%u, waived %u\n", argv[1], t.must_passed,
	       t.must, t.stretch_passed, t.stretch, t.waived);
	printf("%u passed, %zu failed\n", t.must_passed + t.stretch_passed, failed);
	return failed != 0;
}
