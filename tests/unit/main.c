#include "tests/unit/test.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct test_case *cases;
static struct test_case *running;
static size_t skipped;
static char root[64];
static unsigned folders;

void test_register(struct test_case *t)
{
	t->next = cases;
	cases = t;
}

const char *test_folder(void)
{
	static char path[96];
	if (!root[0]) {
		strcpy(root, "/tmp/agent-unit-XXXXXX");
		if (mkdtemp(root) == NULL)
			abort();
	}
	snprintf(path, sizeof(path), "%s/%u", root, folders++);
	char command[128];
	snprintf(command, sizeof(command), "%s", path);
	char *made = mkdtemp(strcat(command, "-XXXXXX"));
	if (made == NULL)
		abort();
	strcpy(path, made);
	return path;
}

static int drop(const char *path, const struct stat *st, int kind, struct FTW *f)
{
	(void)st, (void)kind, (void)f;
	return remove(path);
}

static void run_one(void **state)
{
	running = *state;
	running->run(state);
}

void test_skip(const char *file, int line)
{
	skipped++;
	printf("SKIPPED %s\n", running->name);
	_skip(file, line);
}

/* ./unit [PART-OF-A-NAME]: all tests, or those whose name holds the part. */
int main(int argc, char **argv)
{
	size_t count = 0;
	struct CMUnitTest *tests = NULL;
	for (struct test_case *t = cases; t; t = t->next) {
		if (argc > 1 && strstr(t->name, argv[1]) == NULL)
			continue;
		tests = realloc(tests, (count + 1) * sizeof(*tests));
		if (tests == NULL)
			abort();
		tests[count++] = (struct CMUnitTest){ t->name, run_one, NULL,
						      NULL, t };
	}
	int failed = _cmocka_run_group_tests("unit", tests, count, NULL, NULL);
	free(tests);
	if (root[0])
		nftw(root, drop, 16, FTW_DEPTH | FTW_PHYS);
	printf("unit: %zu passed, %d failed\n", count - (size_t)failed - skipped,
	       failed);
	return failed != 0;
}
