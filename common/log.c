#include "common/log.h"

#include "common/clock.h"
#include "common/mask.h"
#include "common/own.h"
#include "common/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILE_MAX_BYTES (250 * 1024) /* then it becomes .lo_, as on Windows */
#define TEXT_MAX (64u << 10)        /* of one event; the rest is cut */
#define OUT_MAX (8 * TEXT_MAX)      /* masked, escaped, with its frame */

static struct log_options now = { .stderr_level = LOG_WARNING,
				  .file_level = LOG_WARNING,
				  .dir_fd = -1 };
static void (*hook_before)(void);
static void (*hook_after)(void);
static bool is_file_broken; /* said once, not at every line */

/* Components have names of ours: what net says may choose, not invent. */
static const char *const components[] = {
	"agent",
	"ContentTransferManager", "LocationServices", "DataTransferService",
	"CAS", "CcmMessaging", "PolicyAgent",
};

static const struct {
	const char *word;
	const char *colour;
	char type; /* of CMTrace: 0 verbose, 1 information, 2 warning, 3 error */
} levels[] = {
	[LOG_ERROR] = { "error: ", "\033[1;31m", '3' },
	[LOG_WARNING] = { "warning: ", "\033[33m", '2' },
	[LOG_INFO] = { "", "", '1' },
	[LOG_DEBUG] = { "", "\033[2m", '0' },
};

void log_open(const struct log_options *options)
{
	now = *options;
	is_file_broken = false;
}

void log_close(void)
{
	now.dir_fd = -1; /* borrowed */
}

void log_set_hooks(void (*before)(void), void (*after)(void))
{
	hook_before = before;
	hook_after = after;
}

/* --- text that others wrote --------------------------------------------- */

/* May this reach a terminal? Not what moves, recolours or reorders. */
static bool is_plain(uint32_t p)
{
	if (p < 0x20 || (p >= 0x7f && p <= 0x9f))
		return false;
	return !(p == 0x61c || p == 0x200e || p == 0x200f || /* marks */
		 (p >= 0x2028 && p <= 0x202e) ||  /* line ends, embeddings */
		 (p >= 0x2066 && p <= 0x2069));   /* isolates */
}

void log_escape(struct span text, size_t max, struct buf *out)
{
	size_t end = text.len;
	if (max && end > max) {
		end = max;
		/* Not through the middle of a character. */
		while (end > 0 && max - end < 3 &&
		       ((unsigned char)text.at[end] & 0xc0) == 0x80)
			end--;
	}
	for (size_t i = 0; i < end;) {
		uint32_t point = 0;
		struct span rest = { text.at + i, end - i };
		size_t n = utf8_first(rest, &point);
		if (n && is_plain(point)) {
			buf_add(out, rest.at, n);
			i += n;
			continue;
		}
		for (size_t k = 0; k < (n ? n : 1); k++, i++)
			buf_print(out, "\\x%02x", (unsigned char)text.at[i]);
	}
	if (end < text.len)
		buf_text(out, "...");
}

char *log_clean(const char *text)
{
	autobuf masked = { .max = OUT_MAX };
	autobuf out = { .max = OUT_MAX };
	struct span s = span_of(text);
	bool is_cut = s.len > TEXT_MAX;
	if (is_cut)
		s.len = TEXT_MAX;
	mask_text(s, &masked);
	log_escape(buf_as_span(&masked), 0, &out);
	if (is_cut)
		buf_text(&out, "...");
	return buf_take(&out);
}

/* --- where it goes ------------------------------------------------------ */

static void write_all(int fd, struct span s)
{
	while (s.len) {
		ssize_t n = write(fd, s.at, s.len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* nobody is left to be told */
		s.at += n;
		s.len -= (size_t)n;
	}
}

static void write_stderr(enum log_level level, const char *text)
{
	autobuf line = { .max = OUT_MAX };
	const char *colour = now.colour ? levels[level].colour : "";
	buf_print(&line, "agent: %s%s%s%s\n", colour, levels[level].word,
		  colour[0] && level != LOG_DEBUG ? "\033[0m" : "", text);
	if (colour[0] && level == LOG_DEBUG && !line.failed) {
		line.len--; /* the whole line is dim, its end is not */
		buf_text(&line, "\033[0m\n");
	}
	if (hook_before)
		hook_before();
	write_all(STDERR_FILENO, buf_as_span(&line));
	if (hook_after)
		hook_after();
}

/*
 * <![LOG[text]LOG]!><time="HH:MM:SS.mmm+BBB" ...> and CR LF. BBB is what must
 * be added to local time to get UTC, minutes: +240 in New York in summer, -060
 * in Berlin in winter. Source: docs/wire.md 9.1.
 */
static void print_cmtrace(enum log_level level, const char *component,
			  const char *text, struct buf *out)
{
	int64_t ms = clock_wall_ms();
	time_t s = (time_t)(ms / 1000);
	struct tm t = { 0 };
	const char *end;
	localtime_r(&s, &t);
	buf_text(out, "<![LOG[");
	/* Text must not end its own entry and begin another. */
	while ((end = strstr(text, "]LOG]!>")) != NULL) {
		buf_add(out, text, (size_t)(end - text));
		buf_text(out, "]LOG]\\x21>");
		text = end + 7;
	}
	buf_text(out, text);
	buf_print(out, "]LOG]!><time=\"%02d:%02d:%02d.%03d%+04ld\" "
		  "date=\"%02d-%02d-%04d\" component=\"%s\" context=\"\" "
		  "type=\"%c\" thread=\"%d\" file=\"agent\">\r\n",
		  t.tm_hour, t.tm_min, t.tm_sec, (int)(ms % 1000),
		  -t.tm_gmtoff / 60, t.tm_mon + 1, t.tm_mday, t.tm_year + 1900,
		  component, levels[level].type, (int)gettid());
}

/* Opened for each line: nothing is held over a rename by another agent. */
static int open_file(const char *name, struct stat *st)
{
	autofd fd = openat(now.dir_fd, name, O_WRONLY | O_APPEND | O_CREAT |
			   O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0640);
	if (fd < 0)
		return -1;
	if (fstat(fd, st) != 0)
		return -1;
	if (!S_ISREG(st->st_mode) || st->st_nlink > 1) {
		errno = EPERM;
		return -1;
	}
	return take_fd(&fd);
}

/*
 * Move a full file away. Two agents may find it full at once: the lock, which is
 * not waited for, and a second look keep the new file from being moved too.
 */
static void roll_over(int fd, const struct stat *opened, const char *name,
		      const char *old_name)
{
	struct stat st;
	if (flock(fd, LOCK_EX | LOCK_NB) != 0 ||
	    fstatat(now.dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	    st.st_ino != opened->st_ino || st.st_dev != opened->st_dev)
		return;
	renameat(now.dir_fd, name, now.dir_fd, old_name);
}

static int append(const char *component, struct span line)
{
	char name[64], old_name[64];
	struct stat st;
	snprintf(name, sizeof(name), "%s.log", component);
	snprintf(old_name, sizeof(old_name), "%s.lo_", component);
	autofd fd = open_file(name, &st);
	if (fd < 0)
		return -1;
	if (st.st_size > 0 && (size_t)st.st_size + line.len > FILE_MAX_BYTES) {
		roll_over(fd, &st, name, old_name);
		close(take_fd(&fd));
		fd = open_file(name, &st);
		if (fd < 0)
			return -1;
	}
	/* One write, so that lines of two agents do not mix. */
	ssize_t n = write(fd, line.at, line.len);
	if (n >= 0 && (size_t)n < line.len)
		errno = ENOSPC;
	return n == (ssize_t)line.len ? 0 : -1;
}

static void write_file(enum log_level level, const char *component,
		       const char *text)
{
	autobuf line = { .max = OUT_MAX };
	print_cmtrace(level, component, text, &line);
	if (line.failed)
		return;
	int rc = append(component, buf_as_span(&line));
	if (rc != 0 && !is_file_broken) {
		char why[128];
		snprintf(why, sizeof(why), "cannot write %s.log: %s", component,
			 strerror(errno));
		write_stderr(LOG_WARNING, why);
	}
	is_file_broken = rc != 0;
}

static const char *find_component(const char *name)
{
	for (size_t i = 0; i < sizeof(components) / sizeof(components[0]); i++)
		if (strcmp(components[i], name) == 0)
			return components[i];
	return components[0];
}

void log_event(enum log_level level, const char *component, const char *fmt, ...)
{
	int saved_errno = errno;
	if (level > LOG_DEBUG)
		level = LOG_DEBUG;
	bool to_file = now.dir_fd >= 0 && level <= now.file_level;
	bool to_stderr = level <= now.stderr_level;
	if (!to_file && !to_stderr)
		return;
	autofree char *text = NULL;
	va_list ap;
	va_start(ap, fmt);
	int n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		text = NULL;
	autofree char *clean = text ? log_clean(text) : NULL;
	const char *said = clean ? clean : "out of memory for a log line";
	if (to_stderr)
		write_stderr(level, said);
	if (to_file)
		write_file(level, find_component(component), said);
	errno = saved_errno;
}
