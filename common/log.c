#include "common/log.h"

#include "common/clock.h"
#include "common/own.h"
#include "common/url.h"

#include <ctype.h>
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

/*
 * Length of the UTF-8 sequence that begins at s.at (RFC 3629: no surrogates, no
 * overlong forms) and its code point, or 0 when there is none.
 */
static size_t decode_utf8(struct span s, uint32_t *point)
{
	static const struct {
		unsigned char mask, lead;
		uint32_t least;
	} forms[] = { { 0, 0, 0 }, { 0x80, 0x00, 0 }, { 0xe0, 0xc0, 0x80 },
		      { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 } };
	unsigned char lead = (unsigned char)s.at[0];
	size_t n = 1;
	while (n <= 4 && (lead & forms[n].mask) != forms[n].lead)
		n++;
	if (n > 4 || n > s.len)
		return 0;
	uint32_t p = lead & (unsigned char)~forms[n].mask;
	for (size_t i = 1; i < n; i++) {
		unsigned char c = (unsigned char)s.at[i];
		if ((c & 0xc0) != 0x80)
			return 0;
		p = p << 6 | (c & 0x3f);
	}
	if (p < forms[n].least || p > 0x10ffff || (p >= 0xd800 && p <= 0xdfff))
		return 0;
	*point = p;
	return n;
}

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
		size_t n = decode_utf8(rest, &point);
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

static bool begins(struct span s, const char *with)
{
	size_t len = strlen(with);
	return s.len >= len && strncasecmp(s.at, with, len) == 0;
}

/* Length of what stands before one of `stops`, or all. */
static size_t until(struct span s, const char *stops)
{
	size_t i = 0;
	while (i < s.len && !(s.at[i] && strchr(stops, s.at[i])))
		i++;
	return i;
}

/* Length of a PEM block with a private key that begins here, or 0. */
static size_t pem_key(struct span s)
{
	struct span first = { s.at, s.len < 80 ? s.len : 80 };
	if (!begins(s, "-----BEGIN ") ||
	    memmem(s.at, until(first, "\r\n"), "PRIVATE KEY", 11) == NULL)
		return 0;
	const char *end = memmem(s.at, s.len, "-----END ", 9);
	if (end == NULL)
		return s.len; /* cut off: all of it is key */
	size_t at = (size_t)(end - s.at) + 9;
	const char *dashes = memmem(s.at + at, s.len - at, "-----", 5);
	return dashes ? (size_t)(dashes - s.at) + 5 : s.len;
}

/* Does a secret begin here? *keep: bytes before it, *drop: its own length. */
static bool find_secret(struct span s, bool is_word, size_t *keep, size_t *drop)
{
	static const char *const headers[] = {
		"Authorization:", "Proxy-Authorization:", "Cookie:",
		"Set-Cookie:", "CCMToken:", "ClientToken:",
		"ClientTokenSignature:", "X-CCM-Token:",
	};
	*keep = 0;
	*drop = pem_key(s);
	if (*drop)
		return true;
	if (!is_word)
		return false;
	if (begins(s, "Bearer ")) {
		*keep = 7;
		*drop = until((struct span){ s.at + 7, s.len - 7 },
			      " \t\r\n\"'<>,;");
		return *drop > 0;
	}
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		if (!begins(s, headers[i]))
			continue;
		*keep = strlen(headers[i]);
		*drop = until((struct span){ s.at + *keep, s.len - *keep }, "\r\n");
		return *drop > 0;
	}
	return false;
}

void log_mask(struct span text, struct buf *out)
{
	autobuf masked = { .max = OUT_MAX };
	size_t keep, drop;
	bool is_word = true; /* a word begins here */
	url_mask(text, &masked);
	if (masked.failed) { /* rather nothing than a secret */
		buf_text(out, "***");
		return;
	}
	struct span s = buf_as_span(&masked);
	while (s.len) {
		if (find_secret(s, is_word, &keep, &drop)) {
			buf_add(out, s.at, keep);
			buf_text(out, keep && s.at[keep - 1] == ':' ? " ***" : "***");
		} else {
			keep = 1;
			drop = 0;
			buf_char(out, s.at[0]);
		}
		is_word = !isalnum((unsigned char)s.at[keep + drop - 1]);
		s.at += keep + drop;
		s.len -= keep + drop;
	}
}

char *log_clean(const char *text)
{
	autobuf masked = { .max = OUT_MAX };
	autobuf out = { .max = OUT_MAX };
	struct span s = span_of(text);
	bool is_cut = s.len > TEXT_MAX;
	if (is_cut)
		s.len = TEXT_MAX;
	log_mask(s, &masked);
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
