#include "policy/ini.h"

#include "common/fs.h"
#include "common/own.h"
#include "common/utf8.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

/* Where one reading stands. inih asks for lines and calls back with pairs. */
struct scan {
	struct span rest; /* what inih has not asked for yet */
	const char *path;
	unsigned line;   /* number of the line that inih has now */
	bool in_section; /* keys may follow */
	bool is_skipping; /* after a broken section line */
	ini_on_item *on_item;
	void *arg;
	struct buf *problems;
	struct err *e;
	enum err_code rc; /* of on_item */
};

/* A line, unless there are enough. */
static void add_problem(struct buf *problems, struct span line)
{
	size_t enough = (problems->max ? problems->max : 1u << 20) / 2;
	if (problems->len > enough)
		return;
	buf_span(problems, line);
	buf_char(problems, '\n');
	if (problems->len > enough)
		buf_text(problems, "there are more problems than can be shown\n");
}

void ini_problem(struct buf *problems, const char *path, unsigned line,
		 const char *fmt, ...)
{
	char text[640];
	autobuf whole = { 0 };
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (line)
		buf_print(&whole, "%s:%u: %s", path, line, text);
	else
		buf_print(&whole, "%s: %s", path, text);
	problems->failed |= whole.failed;
	add_problem(problems, buf_as_span(&whole));
}

void ini_add_problems(struct buf *problems, const struct buf *others)
{
	struct span rest = buf_as_span(others), line;
	while (span_split(&rest, '\n', &line))
		add_problem(problems, line);
	problems->failed |= others->failed;
}

enum err_code ini_summary(const struct buf *problems, size_t before,
			  enum err_code code, struct err *e)
{
	if (problems->failed)
		return err_set(e, ERR_NOMEM, "no memory for the list of problems");
	if (problems->len <= before)
		return ERR_OK;
	struct span rest = { problems->at + before, problems->len - before };
	struct span first = { 0 }, other;
	unsigned more = 0;
	span_split(&rest, '\n', &first);
	while (span_split(&rest, '\n', &other))
		more++;
	int len = first.len > 400 ? 400 : (int)first.len;
	if (more == 0)
		return err_set(e, code, "%.*s", len, first.at);
	return err_set(e, code, "%.*s (and %u more problem%s)", len, first.at,
		       more, more == 1 ? "" : "s");
}

enum err_code ini_check_trusted(int fd, struct err *e)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_set(e, ERR_INPUT, "cannot look at it: %m");
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return err_set(e, ERR_INPUT,
			       "belongs to user %u: must belong to root or to the "
			       "user who runs the agent", (unsigned)st.st_uid);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return err_set(e, ERR_INPUT,
			       "mode %04o: must not be writable by group or others "
			       "(chmod go-w)", (unsigned)st.st_mode & 07777u);
	return ERR_OK;
}

enum err_code ini_load(int dir_fd, const char *path, size_t max_bytes,
		       struct buf *text, bool *is_absent, struct err *e)
{
	/* Not blocking: the name may be a FIFO that nobody writes to. */
	autofd fd = openat(dir_fd, path,
			   O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (is_absent)
		*is_absent = fd < 0 && errno == ENOENT;
	if (fd < 0)
		return err_set(e, ERR_INPUT, "cannot open it: %m");
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_set(e, ERR_INPUT, "cannot look at it: %m");
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_INPUT, "is not a regular file");
	enum err_code rc = ini_check_trusted(fd, e);
	if (rc != ERR_OK)
		return rc;
	if ((uint64_t)st.st_size > max_bytes)
		return err_set(e, ERR_INPUT,
			       "has %llu bytes: at most %zu are read",
			       (unsigned long long)st.st_size, max_bytes);
	text->max = max_bytes;
	rc = fs_read_fd(fd, path, text, e);
	if (rc == ERR_OK || rc == ERR_NOMEM)
		return rc;
	struct err why = *e;
	return err_set(e, ERR_INPUT, "%s", why.text);
}

__attribute__((format(printf, 2, 3))) static bool
bad_line(struct scan *s, const char *fmt, ...)
{
	char text[600];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	ini_problem(s->problems, s->path, s->line, "%s", text);
	return false;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* The line without its comment, as inih sees it. */
static struct span without_comment(struct span line)
{
	for (size_t i = 0; i < line.len; i++)
		if (line.at[i] == ';' && (i == 0 || is_blank(line.at[i - 1])))
			line.len = i;
	return span_trim(line);
}

static bool check_bytes(struct scan *s, struct span line)
{
	if (line.len > INI_LINE_MAX)
		return bad_line(s, "line has %zu bytes: at most %d can be read",
				line.len, INI_LINE_MAX);
	for (size_t i = 0; i < line.len; i++) {
		unsigned char c = (unsigned char)line.at[i];
		if (c == '\r')
			return bad_line(s, "carriage return inside a line: lines "
					"end with LF or CR LF");
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return bad_line(s, "control character 0x%02x in column %zu",
					c, i + 1);
	}
	if (!utf8_is_valid(line))
		return bad_line(s, "is not UTF-8 text: save the file as UTF-8");
	return true;
}

/* "[name]": announces the section. */
static bool check_section(struct scan *s, struct span line)
{
	s->in_section = false;
	s->is_skipping = true;
	line = without_comment(line);
	const char *end = memchr(line.at, ']', line.len);
	if (end == NULL)
		return bad_line(s, "section without ']': write [name]");
	if (end != line.at + line.len - 1)
		return bad_line(s, "text after ']': put it into a line of its own");
	char name[INI_SECTION_MAX + 1];
	size_t len = line.len - 2;
	if (len == 0)
		return bad_line(s, "section without a name: write [name]");
	if (len > INI_SECTION_MAX)
		return bad_line(s, "section name has %zu bytes: at most %d can be "
				"read", len, INI_SECTION_MAX);
	memcpy(name, line.at + 1, len);
	name[len] = '\0';
	s->in_section = true;
	s->is_skipping = false;
	struct ini_item item = { s->path, s->line, name, NULL, NULL };
	s->rc = s->on_item(s->arg, &item, s->e);
	return s->rc == ERR_OK;
}

static bool check_key(struct scan *s, struct span line)
{
	if (!s->in_section && s->is_skipping)
		return false;
	if (!s->in_section)
		return bad_line(s, "stands before the first [section]");
	struct span code = without_comment(line), key;
	const char *equals = memchr(code.at, '=', code.len);
	if (equals == NULL)
		return bad_line(s, "no '=': write key = value");
	key = span_trim((struct span){ code.at, (size_t)(equals - code.at) });
	if (key.len == 0)
		return bad_line(s, "no key before '=': write key = value");
	if (memchr(key.at, ':', key.len)) /* inih would split there */
		return bad_line(s, "':' in a key: write key = value");
	return true;
}

/* May inih see this line? Else the problem has been noted. */
static bool check_line(struct scan *s, struct span line)
{
	struct span text = span_trim(line);
	if (!check_bytes(s, line)) {
		/* A section that cannot be read hides where keys belong. */
		if (text.len && text.at[0] == '[') {
			s->in_section = false;
			s->is_skipping = true;
		}
		return false;
	}
	if (text.len == 0 || text.at[0] == ';')
		return false;
	if (text.at[0] == '#')
		return bad_line(s, "a comment begins with ';', not with '#'");
	if (is_blank(line.at[0]))
		return bad_line(s, "begins with a blank: a value cannot go on in "
				"the next line, and keys start in column 1");
	if (text.at[0] == '[')
		return check_section(s, text);
	return check_key(s, text);
}

/* inih's reader: hand out good lines, blank ones in the place of others. */
static char *next_line(char *out, int room, void *arg)
{
	struct scan *s = arg;
	struct span line;
	if (s->rc != ERR_OK || !span_split(&s->rest, '\n', &line))
		return NULL;
	s->line++;
	if (line.len && line.at[line.len - 1] == '\r')
		line.len--;
	if (!check_line(s, line))
		line.len = 0;
	assert(room >= 0 && line.len + 2 <= (size_t)room);
	memcpy(out, line.at, line.len);
	memcpy(out + line.len, "\n", 2);
	return out;
}

static int on_pair(void *arg, const char *section, const char *key,
		   const char *value)
{
	struct scan *s = arg;
	struct ini_item item = { s->path, s->line, section, key, value };
	if (s->rc == ERR_OK)
		s->rc = s->on_item(s->arg, &item, s->e);
	return 1;
}

enum err_code ini_parse_text(struct span text, const char *path,
			     ini_on_item *on_item, void *arg,
			     struct buf *problems, struct err *e)
{
	struct scan s = { .rest = text, .path = path, .on_item = on_item,
			  .arg = arg, .problems = problems, .e = e };
	if (text.len > INI_FILE_MAX) {
		ini_problem(problems, path, 0, "has %zu bytes: at most %u are read",
			    text.len, INI_FILE_MAX);
		return ERR_OK;
	}
	if (text.len && memchr(text.at, '\0', text.len)) {
		ini_problem(problems, path, 0,
			    "holds a NUL byte: save the file as UTF-8 text");
		return ERR_OK;
	}
	if (text.len >= 3 && memcmp(text.at, "\xef\xbb\xbf", 3) == 0)
		s.rest = (struct span){ text.at + 3, text.len - 3 };
	/* By lines and not as one string: so the number of the line is known. */
	int failed = ini_parse_stream(next_line, &s, on_pair, &s);
	if (failed && s.rc == ERR_OK)
		ini_problem(problems, path, (unsigned)failed, "cannot be read");
	return s.rc;
}
