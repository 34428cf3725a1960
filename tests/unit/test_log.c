#include "tests/unit/test.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/own.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Standard error goes into a memory file while it is captured. */
struct capture {
	int saved, file;
	char text[65536 * 2];
};

static void capture_begin(struct capture *c)
{
	fflush(stderr);
	c->saved = dup(2);
	c->file = memfd_create("stderr", MFD_CLOEXEC);
	assert_true(c->file >= 0);
	dup2(c->file, 2);
}

static const char *capture_end(struct capture *c)
{
	fflush(stderr);
	dup2(c->saved, 2);
	close(c->saved);
	ssize_t n = pread(c->file, c->text, sizeof(c->text) - 1, 0);
	assert_true(n >= 0);
	c->text[n] = '\0';
	close(c->file);
	return c->text;
}

static int open_folder(void)
{
	int fd = open(test_folder(), O_RDONLY | O_DIRECTORY);
	assert_true(fd >= 0);
	return fd;
}

/* The whole file as owned text, or NULL. */
static char *read_file(int dir, const char *name)
{
	struct stat st;
	autofd fd = openat(dir, name, O_RDONLY);
	if (fd < 0 || fstat(fd, &st) != 0)
		return NULL;
	char *text = calloc(1, (size_t)st.st_size + 1);
	assert_non_null(text);
	assert_int_equal(read(fd, text, (size_t)st.st_size), st.st_size);
	return text;
}

static void use_files(int dir, enum log_level level)
{
	log_open(&(struct log_options){ .stderr_level = LOG_ERROR,
					.file_level = level, .dir_fd = dir });
}

static void use_stderr(enum log_level level, bool colour)
{
	log_open(&(struct log_options){ .stderr_level = level, .colour = colour,
					.dir_fd = -1 });
}

static void use_defaults(void)
{
	use_stderr(LOG_WARNING, false);
	log_close();
}

/* 2026-11-22T10:11:12.034Z, as a zone east or west sees it. */
static void assert_cmtrace(const char *zone, const char *stamp, const char *date)
{
	static const struct clock_fake fake = { 0, 1795342272034 };
	char expected[512];
	autofd dir = open_folder();
	setenv("TZ", zone, 1);
	tzset();
	clock_set_fake(&fake);
	use_files(dir, LOG_DEBUG);
	log_info("CAS", "Hash verification succeeded for %s", "X.1");
	clock_set_fake(NULL);
	use_defaults();
	unsetenv("TZ");
	tzset();
	snprintf(expected, sizeof(expected),
		 "<![LOG[Hash verification succeeded for X.1]LOG]!><time=\"%s\" "
		 "date=\"%s\" component=\"CAS\" context=\"\" type=\"1\" "
		 "thread=\"%d\" file=\"agent\">\r\n", stamp, date, (int)getpid());
	autofree char *text = read_file(dir, "CAS.log");
	assert_non_null(text);
	assert_string_equal(text, expected);
}

TEST(log_event__cmtrace__bias_is_added_to_local_for_utc)
{
	assert_cmtrace("UTC0", "10:11:12.034+000", "11-22-2026");
	assert_cmtrace("BER-1", "11:11:12.034-060", "11-22-2026");
	assert_cmtrace("NYC5", "05:11:12.034+300", "11-22-2026");
	assert_cmtrace("IND-5:30", "15:41:12.034-330", "11-22-2026");
	assert_cmtrace("LIN-14", "00:11:12.034-840", "11-23-2026");
}

TEST(log_event__levels__have_types_and_limits)
{
	autofd dir = open_folder();
	use_files(dir, LOG_INFO);
	struct capture c;
	capture_begin(&c);
	log_error("agent", "one");
	log_warning("agent", "two");
	log_info("agent", "three");
	log_debug("agent", "four");
	assert_string_equal(capture_end(&c), "agent: error: one\n");
	use_defaults();
	autofree char *text = read_file(dir, "agent.log");
	assert_non_null(text);
	const char *one = strstr(text, "one]LOG]!>"), *two = strstr(text, "two]"),
		   *three = strstr(text, "three]");
	assert_true(one && two && three && one < two && two < three);
	assert_non_null(strstr(one, "type=\"3\""));
	assert_non_null(strstr(two, "type=\"2\""));
	assert_non_null(strstr(three, "type=\"1\""));
	assert_null(strstr(text, "four"));
}

TEST(log_event__file__private_to_group)
{
	struct stat st;
	autofd dir = open_folder();
	use_files(dir, LOG_DEBUG);
	log_debug("CcmMessaging", "x");
	use_defaults();
	assert_int_equal(fstatat(dir, "CcmMessaging.log", &st, 0), 0);
	assert_int_equal(st.st_mode & 07137, 0);
}

TEST(log_event__250_kb__rolls_over)
{
	char line[1001];
	struct stat now, old;
	autofd dir = open_folder();
	memset(line, 'x', 1000);
	line[1000] = '\0';
	use_files(dir, LOG_DEBUG);
	for (int i = 0; i < 800; i++)
		log_debug("agent", "%d %s", i, line);
	use_defaults();
	assert_int_equal(fstatat(dir, "agent.log", &now, 0), 0);
	assert_int_equal(fstatat(dir, "agent.lo_", &old, 0), 0);
	assert_true(now.st_size <= 250 * 1024);
	assert_true(old.st_size <= 250 * 1024);
	assert_true(old.st_size > 250 * 1024 - 1200);
	/* Nothing is lost between the two. */
	autofree char *first = read_file(dir, "agent.lo_");
	autofree char *second = read_file(dir, "agent.log");
	int a, b;
	const char *last = NULL;
	for (const char *p = first; (p = strstr(p, "<![LOG[")); p += 7)
		last = p;
	assert_non_null(last);
	a = (int)strtol(last + 7, NULL, 10);
	b = (int)strtol(second + 7, NULL, 10);
	assert_int_equal(a + 1, b);
}

TEST(log_event__unknown_component__goes_to_agent)
{
	autofd dir = open_folder();
	use_files(dir, LOG_DEBUG);
	log_debug("../../tmp/x", "said by net");
	use_defaults();
	autofree char *text = read_file(dir, "agent.log");
	assert_non_null(text);
	assert_non_null(strstr(text, "component=\"agent\""));
	assert_null(strstr(text, ".."));
}

TEST(log_event__link_or_pipe_in_place_of_file__not_followed)
{
	autofd dir = open_folder();
	int fd = openat(dir, "victim", O_WRONLY | O_CREAT, 0600);
	close(fd);
	assert_int_equal(symlinkat("victim", dir, "agent.log"), 0);
	assert_int_equal(linkat(dir, "victim", dir, "CAS.log", 0), 0);
	assert_int_equal(mkfifoat(dir, "PolicyAgent.log", 0600), 0);
	log_open(&(struct log_options){ .stderr_level = LOG_ERROR,
					.file_level = LOG_DEBUG, .dir_fd = dir });
	struct capture c;
	capture_begin(&c);
	log_debug("agent", "x");
	log_debug("CAS", "x");
	log_debug("PolicyAgent", "x");
	const char *said = capture_end(&c);
	use_defaults();
	/* Said once. */
	assert_memory_equal(said, "agent: warning: cannot write agent.log: ", 40);
	assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
	autofree char *text = read_file(dir, "victim");
	assert_string_equal(text, "");
}

TEST(log_event__end_of_entry_in_text__cannot_forge)
{
	autofd dir = open_folder();
	use_files(dir, LOG_DEBUG);
	log_debug("agent", "a]LOG]!><time=\"x\">\r\n<![LOG[b]LOG]!>c");
	use_defaults();
	autofree char *text = read_file(dir, "agent.log");
	assert_memory_equal(text, "<![LOG[a]LOG]\\x21><time=\"x\">\\x0d\\x0a"
			    "<![LOG[b]LOG]\\x21>c]LOG]!><time=", 64);
	char *end = strstr(text, "]LOG]!>");
	assert_null(strstr(end + 1, "]LOG]!>"));
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

TEST(log_event__stderr__words_and_colours)
{
	struct capture c;
	capture_begin(&c);
	use_stderr(LOG_DEBUG, false);
	log_error("agent", "a");
	log_warning("agent", "b");
	log_info("agent", "c");
	log_debug("agent", "d");
	assert_string_equal(capture_end(&c), "agent: error: a\nagent: warning: b\n"
			    "agent: c\nagent: d\n");
	capture_begin(&c);
	use_stderr(LOG_DEBUG, true);
	log_error("agent", "a");
	log_debug("agent", "d");
	use_defaults();
	assert_string_equal(capture_end(&c), "agent: \033[1;31merror: \033[0ma\n"
			    "agent: \033[2md\033[0m\n");
}

static int before, after;
static void count_before(void)
{
	before++;
}
static void count_after(void)
{
	after++;
}

TEST(log_event__hooks__around_each_line_on_stderr)
{
	struct capture c;
	before = after = 0;
	log_set_hooks(count_before, count_after);
	capture_begin(&c);
	use_stderr(LOG_WARNING, false);
	log_error("agent", "a");
	log_info("agent", "not shown");
	capture_end(&c);
	log_set_hooks(NULL, NULL);
	use_defaults();
	assert_int_equal(before, 1);
	assert_int_equal(after, 1);
}

TEST(log_event__errno__kept_and_printed)
{
	struct capture c;
	capture_begin(&c);
	use_stderr(LOG_WARNING, false);
	errno = ENOENT;
	log_error("agent", "open: %m");
	assert_int_equal(errno, ENOENT);
	use_defaults();
	assert_string_equal(capture_end(&c),
			    "agent: error: open: No such file or directory\n");
}

TEST(log_event__every_byte__no_raw_control_anywhere)
{
	static struct capture c;
	autofd dir = open_folder();
	capture_begin(&c);
	log_open(&(struct log_options){ .stderr_level = LOG_DEBUG,
					.file_level = LOG_DEBUG, .dir_fd = dir });
	for (int i = 1; i < 256; i++)
		log_debug("agent", "%c|\xc2%c|\xe2\x80%c|\xff", i, i, i);
	use_defaults();
	const char *said = capture_end(&c);
	autofree char *text = read_file(dir, "agent.log");
	const char *both[] = { said, text };
	for (int k = 0; k < 2; k++) {
		int lines = 0;
		for (const char *p = both[k]; *p; p++) {
			unsigned char b = (unsigned char)*p;
			if (b == '\n') {
				lines++;
				continue;
			}
			if (b == '\r' && k == 1 && p[1] == '\n')
				continue;
			assert_true(b >= 0x20 && b != 0x7f);
			/* C1 in UTF-8 */
			assert_false(b == 0xc2 && (unsigned char)p[1] < 0xa0);
		}
		assert_int_equal(lines, 255);
	}
}

TEST(log_event__huge_text__cut)
{
	static struct capture c;
	autofree char *big = malloc(2000001);
	memset(big, 'x', 2000000);
	big[2000000] = '\0';
	capture_begin(&c);
	use_stderr(LOG_ERROR, false);
	log_error("agent", "%s", big);
	use_defaults();
	const char *said = capture_end(&c);
	assert_true(strlen(said) < 66000);
	assert_string_equal(said + strlen(said) - 5, "x...\n");
}

TEST(log_event__secret__never_said)
{
	struct capture c;
	autofd dir = open_folder();
	capture_begin(&c);
	log_open(&(struct log_options){ .stderr_level = LOG_DEBUG,
					.file_level = LOG_DEBUG, .dir_fd = dir });
	log_debug("DataTransferService", "GET %s, Authorization: Bearer %s",
		  "https://h/p?sig=CANARY1&se=1", "CANARY2");
	use_defaults();
	assert_null(strstr(capture_end(&c), "CANARY"));
	autofree char *text = read_file(dir, "DataTransferService.log");
	assert_null(strstr(text, "CANARY"));
	assert_non_null(strstr(text, "sig=***&se=1"));
}

static void assert_escaped(struct span text, size_t max, const char *expected)
{
	autobuf b = { 0 };
	log_escape(text, max, &b);
	assert_string_equal(b.at ? b.at : "", expected);
}

TEST(log_escape__untrusted__shown_as_hex)
{
	assert_escaped(SPAN_LIT("a\nb\r\t\x1b[2J\x7f\0z"), 0,
		       "a\\x0ab\\x0d\\x09\\x1b[2J\\x7f\\x00z");
	assert_escaped(SPAN_LIT("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80"), 0,
		       "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80");
	assert_escaped(SPAN_LIT("\xc2\x9b\xe2\x80\xae\xe2\x81\xa6\xe2\x80\xa8"), 0,
		       "\\xc2\\x9b\\xe2\\x80\\xae\\xe2\\x81\\xa6\\xe2\\x80\\xa8");
	/* overlong, surrogate, beyond Unicode, cut, stray */
	assert_escaped(SPAN_LIT("\xc0\x8a"), 0, "\\xc0\\x8a");
	assert_escaped(SPAN_LIT("\xe0\x80\x8a"), 0, "\\xe0\\x80\\x8a");
	assert_escaped(SPAN_LIT("\xed\xa0\x80"), 0, "\\xed\\xa0\\x80");
	assert_escaped(SPAN_LIT("\xf4\x90\x80\x80"), 0, "\\xf4\\x90\\x80\\x80");
	assert_escaped(SPAN_LIT("\xf8\x88\x80\x80\x80"), 0,
		       "\\xf8\\x88\\x80\\x80\\x80");
	assert_escaped(SPAN_LIT("\xe2\x82"), 0, "\\xe2\\x82");
	assert_escaped(SPAN_LIT("\x80"), 0, "\\x80");
	assert_escaped(SPAN_LIT(""), 0, "");
}

TEST(log_escape__max__cuts_between_characters)
{
	assert_escaped(SPAN_LIT("abcdef"), 6, "abcdef");
	assert_escaped(SPAN_LIT("abcdef"), 3, "abc...");
	assert_escaped(SPAN_LIT("ab\xe2\x82\xac-"), 3, "ab...");
	assert_escaped(SPAN_LIT("ab\xe2\x82\xac-"), 4, "ab...");
	assert_escaped(SPAN_LIT("ab\xe2\x82\xac-"), 5, "ab\xe2\x82\xac...");
	assert_escaped(SPAN_LIT("\x80\x80\x80\x80\x80\x80"), 4, "\\x80...");
}

TEST(log_clean__both__masked_and_escaped)
{
	autofree char *text = log_clean("\x1b?sig=x\n");
	assert_string_equal(text, "\\x1b?sig=***\\x0a");
}
