#include "tests/unit/capture.h"

#include "tests/unit/test.h"

#include "common/fs.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void capture(struct capture *c, FILE *stream)
{
	*c = (struct capture){ .stream = stream, .fd = fileno(stream) };
	snprintf(c->path, sizeof(c->path), "%s/out", test_folder());
	fflush(stream);
	c->saved = dup(c->fd);
	int fd = open(c->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && c->saved >= 0 && dup2(fd, c->fd) >= 0);
	close(fd);
}

const char *captured(struct capture *c)
{
	struct err e = { 0 };
	fflush(c->stream);
	assert_true(dup2(c->saved, c->fd) >= 0);
	close(c->saved);
	assert_ok(fs_read_all(AT_FDCWD, c->path, &c->text, &e));
	return c->text.at ? c->text.at : "";
}

void uncapture(struct capture *c)
{
	buf_free(&c->text);
}

void assert_has(const char *text, const char *part)
{
	assert_non_null(text);
	if (strstr(text, part) == NULL) {
		print_error("%s", text);
		fail_msg("lacks: %s", part);
	}
}

void assert_lacks(const char *text, const char *part)
{
	assert_non_null(text);
	if (strstr(text, part) != NULL)
		fail_msg("has: %s", part);
}

void assert_one_object(const char *text)
{
	size_t len = strlen(text);
	assert_true(len > 3 && text[0] == '{' && text[len - 2] == '}');
	assert_ptr_equal(strchr(text, '\n'), text + len - 1);
}
