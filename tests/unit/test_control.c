#include "tests/unit/capture.h"
#include "tests/unit/test.h"

#include "agent/cli/client.h"
#include "agent/keeper/control.h"
#include "common/own.h"
#include "common/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* A service that answers at once, later, or never. */
struct desk {
	struct control *control;
	char path[160];
	bool is_late;              /* keep the peer instead of answering */
	const char *answer;
	struct control_peer *peer; /* the last one that was kept */
	struct control_request got;
	unsigned asked, gone, opened;
	char words[200];           /* arguments of the last request */
};

static void on_request(void *arg, struct control_peer *peer,
		       struct control_request *q)
{
	struct desk *d = arg;
	d->asked++;
	d->got = *q;
	d->words[0] = '\0';
	for (int i = 0; i < q->argument_count; i++)
		snprintf(d->words + strlen(d->words),
			 sizeof(d->words) - strlen(d->words), "%s ",
			 q->arguments[i]);
	for (int i = 0; i < 3; i++)
		d->opened += q->fds[i] >= 0;
	if (d->is_late)
		d->peer = peer;
	else
		control_answer(peer, span_of(d->answer));
}

static void on_gone(void *arg, struct control_peer *peer)
{
	struct desk *d = arg;
	assert_ptr_equal(d->peer, peer);
	d->peer = NULL;
	d->gone++;
}

static void desk_open_in(struct desk *d, const char *folder)
{
	struct control_handlers h = { on_request, on_gone, d };
	struct err e = { 0 };
	*d = (struct desk){ .answer = "{\"exit\":0,\"error\":null}" };
	snprintf(d->path, sizeof(d->path), "%s/control.sock", folder);
	d->control = control_open(d->path, &h, &e);
	if (d->control == NULL)
		fail_msg("%s", e.text);
}

static void desk_open(struct desk *d)
{
	desk_open_in(d, test_folder());
}

static void desk_close(struct desk *d)
{
	control_close(d->control);
}
#define autodesk __attribute__((cleanup(desk_close))) struct desk

/* Everything that is ready by now; how many turns were needed. */
static unsigned serve(struct desk *d)
{
	struct pollfd fds[CONTROL_FDS];
	unsigned turns = 0;
	for (; turns < 10000; turns++) {
		unsigned n = control_fds(d->control, fds);
		assert_true(n >= 1 && n <= CONTROL_FDS);
		if (poll(fds, n, 0) <= 0)
			break;
		control_turn(d->control, fds, n);
	}
	return turns;
}

static int connect_to(const struct desk *d)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memcpy(a.sun_path, d->path, strlen(d->path));
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static void say(int fd, const char *text)
{
	ssize_t len = (ssize_t)strlen(text);
	assert_true(send(fd, text, (size_t)len, MSG_NOSIGNAL) == len);
}

/* All that comes until the end, which must have come. Static. */
static const char *hear(int fd)
{
	static char text[70000];
	size_t len = 0;
	ssize_t n;
	while ((n = recv(fd, text + len, sizeof(text) - 1 - len, MSG_DONTWAIT)) > 0)
		len += (size_t)n;
	assert_true(n == 0 || errno == ECONNRESET);
	text[len] = '\0';
	return text;
}

static const char *asked(struct desk *d, const char *line)
{
	autofd fd = connect_to(d);
	say(fd, line);
	serve(d);
	return hear(fd);
}

static unsigned open_fds(void)
{
	unsigned n = 0;
	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* --- requests ------------------------------------------------------------- */

TEST(control__question__is_answered)
{
	autodesk d;
	desk_open(&d);
	d.answer = "{\"jobs\":[]}";
	assert_string_equal(asked(&d, "{\"verb\":\"status\"}\n"), "{\"jobs\":[]}");
	assert_int_equal(d.got.verb, CONTROL_STATUS);
	assert_false(d.got.has_content);
	assert_int_equal(d.got.uid, getuid());
	assert_int_equal(d.got.pid, getpid());
	asked(&d, "{\"verb\":\"why\",\"content\":\"ABC00042.3\"}\n");
	assert_int_equal(d.got.verb, CONTROL_WHY);
	assert_string_equal(d.got.content.id, "ABC00042");
	assert_int_equal(d.got.content.version, 3);
	assert_int_equal(d.asked, 2);
}

TEST(control__line_in_pieces__is_one_request)
{
	autodesk d;
	desk_open(&d);
	autofd fd = connect_to(&d);
	const char *line = "{\"verb\":\"history\"}\n";
	for (size_t i = 0; line[i]; i++) {
		say(fd, (char[]){ line[i], '\0' });
		serve(&d);
		assert_int_equal(d.asked, line[i] == '\n');
	}
	assert_string_equal(hear(fd), d.answer);
}

TEST(control__what_is_no_request__is_refused)
{
	static const char *const lines[] = {
		"\n", "{}\n", "[]\n", "null\n", "x\n", "{\"verb\":1}\n",
		"{\"verb\":\"burn\"}\n", "{\"verb\":\"status\",\"more\":1}\n",
		"{\"verb\":\"status\",\"verb\":\"poll\"}\n",
		"{\"verb\":\"status\",\"content\":\"../x\"}\n",
		"{\"verb\":\"status\",\"content\":7}\n",
		"{\"verb\":\"why\"}\n", "{\"verb\":\"stop\"}\n",
		"{\"verb\":\"history\",\"content\":\"A1\"}\n",
		"{\"verb\":\"poll\",\"arguments\":[\"x\"]}\n",
		"{\"verb\":\"status\"}\n{\"verb\":\"status\"}\n",
		"{\"verb\":\"sta\\u0000tus\"}\n", "\xff\xfe\n",
		"{\"verb\":\"download\",\"arguments\":[\"--download\",\"A1\"]}\n",
		"{\"verb\":\"download\"}\n",
		"{\"verb\":\"download\",\"arguments\":[]}\n",
		"{\"verb\":\"download\",\"arguments\":[1]}\n",
		"{\"verb\":\"download\",\"arguments\":\"x\"}\n",
	};
	autodesk d;
	desk_open(&d);
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		const char *answer = asked(&d, lines[i]);
		if (strstr(answer, "\"exit\":2,\"error\":{\"code\":\"USAGE\"") == NULL)
			fail_msg("%s: %s", lines[i], answer);
	}
	assert_int_equal(d.asked, 0);
}

TEST(control__deep_or_long_line__is_refused)
{
	char line[CONTROL_LINE + 10];
	autodesk d;
	desk_open(&d);
	memset(line, '[', sizeof(line));
	snprintf(line + CONTROL_LINE - 2, 3, "\n");
	assert_has(asked(&d, line), "not JSON");
	memset(line, ' ', sizeof(line));
	line[CONTROL_LINE] = '\0';
	assert_has(asked(&d, line), "too long");
	autofd fd = connect_to(&d);
	say(fd, "{\"verb\"");
	shutdown(fd, SHUT_WR);
	serve(&d);
	assert_has(hear(fd), "has no end");
	assert_int_equal(d.asked, 0);
}

TEST(control__asker_that_shuts_its_side__still_gets_the_answer)
{
	autodesk d;
	desk_open(&d);
	autofd fd = connect_to(&d);
	say(fd, "{\"verb\":\"status\"}\n");
	shutdown(fd, SHUT_WR);
	serve(&d);
	assert_string_equal(hear(fd), d.answer);
}

/* --- later answers -------------------------------------------------------- */

TEST(control_answer__later__arrives)
{
	autodesk d;
	desk_open(&d);
	d.is_late = true;
	autofd fd = connect_to(&d);
	say(fd, "{\"verb\":\"poll\"}\n");
	serve(&d);
	assert_non_null(d.peer);
	control_set_tag(d.peer, &d);
	assert_ptr_equal(control_tag(d.peer), &d);
	control_answer_exit(d.peer, 22);
	assert_string_equal(hear(fd), "{\"exit\":22,\"error\":null}");
	serve(&d);
	assert_int_equal(d.gone, 0);
}

TEST(control_answer_err__error__is_that_of_agent)
{
	struct err e = { 0 };
	autodesk d;
	desk_open(&d);
	d.is_late = true;
	autofd fd = connect_to(&d);
	say(fd, "{\"verb\":\"stop\",\"content\":\"A1\"}\n");
	serve(&d);
	err_set(&e, ERR_LOCKED, "nobody works on \"A1\"\n");
	control_answer_err(d.peer, &e);
	const char *text = hear(fd);
	assert_has(text, "{\"exit\":40,\"error\":{\"code\":\"NOT_NOW\",\"exit\":40,");
	assert_has(text, "\"text\":\"nobody works on \\\"A1\\\"\\\\x0a\"");
	assert_has(text, "\"detail\":\"LOCKED\"");
}

TEST(control__asker_that_leaves__is_told_once)
{
	autodesk d;
	desk_open(&d);
	d.is_late = true;
	for (int how = 0; how < 2; how++) {
		autofd fd = connect_to(&d);
		say(fd, "{\"verb\":\"poll\"}\n");
		serve(&d);
		assert_non_null(d.peer);
		if (how == 0)
			shutdown(fd, SHUT_WR);
		else
			own_close(&fd), fd = -1;
		serve(&d);
		assert_int_equal(d.gone, how + 1);
		assert_null(d.peer);
	}
}

TEST(control__words_behind_a_request__do_not_keep_it_awake)
{
	autodesk d;
	desk_open(&d);
	d.is_late = true;
	autofd fd = connect_to(&d);
	say(fd, "{\"verb\":\"poll\"}\n");
	serve(&d);
	say(fd, "more");
	assert_int_equal(serve(&d), 0);
	control_answer_exit(d.peer, 0);
	assert_has(hear(fd), "{\"exit\":0");
}

TEST(control_answer__reader_that_is_slow__gets_all_of_it)
{
	size_t len = (size_t)4 << 20, got = 0;
	autofree char *big = malloc(len + 1);
	autofree char *piece = malloc(65536);
	autodesk d;
	assert_true(big && piece);
	memset(big, 'x', len);
	big[len] = '\0';
	desk_open(&d);
	d.answer = big;
	autofd fd = connect_to(&d);
	say(fd, "{\"verb\":\"status\"}\n");
	serve(&d);
	/* The others are served meanwhile. */
	d.answer = "{}";
	assert_string_equal(asked(&d, "{\"verb\":\"status\"}\n"), "{}");
	for (;;) {
		ssize_t n = recv(fd, piece, 65536, MSG_DONTWAIT);
		if (n == 0)
			break;
		if (n > 0)
			got += (size_t)n;
		else
			assert_true(serve(&d) > 0);
	}
	assert_int_equal(got, len);
}

TEST(control_answer__readers_that_never_read__are_dropped_in_the_end)
{
	enum { READERS = 10 };
	size_t len = (size_t)8 << 20;
	autofree char *big = malloc(len + 1);
	int fds[READERS];
	autodesk d;
	assert_non_null(big);
	memset(big, 'x', len);
	big[len] = '\0';
	desk_open(&d);
	d.answer = big;
	for (int i = 0; i < READERS; i++) { /* 80 MiB: too much for 64 */
		fds[i] = connect_to(&d);
		say(fds[i], "{\"verb\":\"status\"}\n");
		serve(&d);
	}
	struct pollfd polled[CONTROL_FDS];
	unsigned left = control_fds(d.control, polled) - 1;
	assert_true(left < READERS && left >= 7);
	d.answer = "{}";
	assert_string_equal(asked(&d, "{\"verb\":\"status\"}\n"), "{}");
	for (int i = 0; i < READERS; i++)
		close(fds[i]);
	serve(&d);
	assert_int_equal(control_fds(d.control, polled), 1);
}

/* --- descriptors ---------------------------------------------------------- */

/* Send text with n descriptors of /dev/null. */
static void hand_over(int fd, const char *text, unsigned n)
{
	char bytes[CMSG_SPACE(8 * sizeof(int))] = { 0 };
	int nulls[8];
	struct iovec v = { (void *)(uintptr_t)text, strlen(text) };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = bytes,
			    .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	for (unsigned i = 0; i < n; i++)
		nulls[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
	*h = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
			       .cmsg_len = CMSG_LEN(n * sizeof(int)) };
	memcpy(CMSG_DATA(h), nulls, n * sizeof(int));
	assert_true(sendmsg(fd, &m, MSG_NOSIGNAL) > 0);
	for (unsigned i = 0; i < n; i++)
		close(nulls[i]);
}

#define DOWNLOAD "{\"verb\":\"download\",\"arguments\":[\"--download\",\"A1\"]}\n"

TEST(control__download__brings_words_and_descriptors)
{
	autodesk d;
	desk_open(&d);
	unsigned before = open_fds();
	autofd fd = connect_to(&d);
	hand_over(fd, DOWNLOAD, 3);
	serve(&d);
	assert_int_equal(d.asked, 1);
	assert_int_equal(d.got.argument_count, 2);
	assert_int_equal(d.opened, 3);
	assert_string_equal(d.words, "--download A1 ");
	assert_null(d.got.arguments[2]);
	own_close(&fd);
	fd = -1;
	/* What the handler leaves is closed behind it. */
	assert_int_equal(open_fds(), before);
}

TEST(control__descriptors_too_many_or_too_few__leak_nothing)
{
	static const struct {
		const char *text;
		unsigned count;
	} cases[] = {
		{ DOWNLOAD, 1 }, { DOWNLOAD, 2 }, { DOWNLOAD, 4 }, { DOWNLOAD, 8 },
		{ "{\"verb\":\"status\"}\n", 3 }, { "{", 3 }, { "x\n", 3 },
	};
	autodesk d;
	desk_open(&d);
	unsigned before = open_fds();
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		autofd fd = connect_to(&d);
		hand_over(fd, cases[i].text, cases[i].count);
		serve(&d);
		if (strcmp(cases[i].text, "{") == 0)
			hand_over(fd, "\"", 3);
		serve(&d);
		own_close(&fd);
		fd = -1;
		serve(&d);
		assert_int_equal(open_fds(), before);
	}
	assert_int_equal(d.asked, 0);
}

/* --- who may -------------------------------------------------------------- */

/* A folder that others may enter; test_folder() is in one that they may not. */
static void desk_open_for_all(struct desk *d, char folder[32])
{
	snprintf(folder, 32, "/tmp/agent-control-XXXXXX");
	assert_non_null(mkdtemp(folder));
	assert_int_equal(chmod(folder, 0711), 0);
	desk_open_in(d, folder);
}

/* Run in a child as nobody; its exit status. */
static int as_nobody(struct desk *d, int (*run)(struct desk *d))
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(setgid(65534) != 0 || setuid(65534) != 0 ? 99 : run(d));
	int status = -1, rounds = 0;
	struct pollfd fds[CONTROL_FDS];
	while (waitpid(pid, &status, WNOHANG) == 0 && rounds++ < 100000) {
		unsigned n = control_fds(d->control, fds);
		if (poll(fds, n, 5) > 0)
			control_turn(d->control, fds, n);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int hear_waiting(int fd, const char *want)
{
	char text[4096];
	size_t len = 0;
	ssize_t n;
	while ((n = recv(fd, text + len, sizeof(text) - 1 - len, 0)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	return strstr(text, want) ? 0 : 1;
}

static int try_all(struct desk *d)
{
	static const struct {
		const char *line, *want;
	} cases[] = {
		{ "{\"verb\":\"status\"}\n", "{\"exit\":0" },
		{ "{\"verb\":\"why\",\"content\":\"A1\"}\n", "{\"exit\":0" },
		{ "{\"verb\":\"history\"}\n", "{\"exit\":0" },
		{ "{\"verb\":\"poll\"}\n", "NOT_ALLOWED" },
		{ "{\"verb\":\"stop\",\"content\":\"A1\"}\n", "NOT_ALLOWED" },
		{ "{\"verb\":\"remove\",\"content\":\"A1\"}\n", "NOT_ALLOWED" },
		{ DOWNLOAD, "NOT_ALLOWED" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		autofd fd = connect_to(d);
		if (i == 6)
			hand_over(fd, cases[i].line, 3);
		else
			say(fd, cases[i].line);
		if (hear_waiting(fd, cases[i].want) != 0)
			return (int)i + 1;
	}
	return 0;
}

TEST(control__somebody_else__may_ask_and_change_nothing)
{
	if (geteuid() != 0)
		skip();
	char folder[32];
	struct desk d;
	desk_open_for_all(&d, folder);
	unsigned before = open_fds();
	int chmodded = chmod(d.path, 0666), failed = as_nobody(&d, try_all);
	unsigned after = open_fds();
	desk_close(&d);
	rmdir(folder);
	assert_int_equal(chmodded, 0);
	assert_int_equal(failed, 0);
	assert_int_equal(d.asked, 3);
	assert_int_equal(after, before);
}

static int try_connect(struct desk *d)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	autofd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memcpy(a.sun_path, d->path, strlen(d->path));
	return connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0 && errno == EACCES ?
		       0 : 1;
}

TEST(control_open__socket__is_for_owner_and_group)
{
	struct stat st;
	char folder[32];
	mode_t old = umask(0); /* whatever it is */
	struct desk d;
	desk_open_for_all(&d, folder);
	umask(old);
	int rc = lstat(d.path, &st);
	int failed = geteuid() == 0 ? as_nobody(&d, try_connect) : 0;
	desk_close(&d);
	rmdir(folder);
	assert_int_equal(rc, 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	assert_int_equal(failed, 0);
}

/* --- many ----------------------------------------------------------------- */

TEST(control__silent_ones__make_room_for_others)
{
	enum { MANY = 300 };
	int fds[MANY];
	autodesk d;
	desk_open(&d);
	unsigned before = open_fds();
	for (int i = 0; i < MANY; i++) {
		fds[i] = connect_to(&d);
		if (i % 32 == 0)
			serve(&d);
	}
	serve(&d);
	assert_has(asked(&d, "{\"verb\":\"status\"}\n"), "{\"exit\":0");
	/* The youngest is still there. */
	say(fds[MANY - 1], "{\"verb\":\"status\"}\n");
	serve(&d);
	assert_has(hear(fds[MANY - 1]), "{\"exit\":0");
	for (int i = 0; i < MANY; i++)
		close(fds[i]);
	serve(&d);
	assert_int_equal(open_fds(), before);
}

TEST(control__many_at_once__are_all_answered)
{
	enum { MANY = 120 };
	int fds[MANY];
	autodesk d;
	desk_open(&d);
	for (int i = 0; i < MANY; i++)
		fds[i] = connect_to(&d);
	for (int i = 0; i < MANY; i++)
		say(fds[i], "{\"verb\":\"status\"}\n");
	serve(&d);
	for (int i = 0; i < MANY; i++) {
		assert_has(hear(fds[i]), "{\"exit\":0");
		close(fds[i]);
	}
	assert_int_equal(d.asked, MANY);
}

TEST(control__no_descriptors_left__does_not_spin)
{
	struct rlimit old, few;
	int taken[64], count = 0;
	autodesk d;
	desk_open(&d);
	autofd one = connect_to(&d);
	autofd two = connect_to(&d);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	few.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	while (count < 64 &&
	       (taken[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		count++;
	unsigned turns = serve(&d);
	while (count)
		close(taken[--count]);
	setrlimit(RLIMIT_NOFILE, &old);
	assert_true(turns < 10);
	assert_string_equal(hear(one), "");
	assert_string_equal(hear(two), "");
	assert_has(asked(&d, "{\"verb\":\"status\"}\n"), "{\"exit\":0");
}

/* --- the file ------------------------------------------------------------- */

TEST(control_open__leftover_socket__is_replaced)
{
	struct err e = { 0 };
	char path[160];
	struct control_handlers h = { on_request, on_gone, NULL };
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	snprintf(path, sizeof(path), "%s/s", test_folder());
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	autofd dead = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(dead, (struct sockaddr *)&a, sizeof(a)), 0);
	own_close(&dead);
	dead = -1;
	struct control *c = control_open(path, &h, &e);
	assert_non_null(c);
	/* Whoever listens there is left alone. */
	assert_null(control_open(path, &h, &e));
	assert_err(e.code, ERR_LOCKED);
	assert_has(e.text, "another service");
	control_close(c);
	assert_int_equal(access(path, F_OK), -1);
}

TEST(control_open__something_else_in_the_way__is_left_alone)
{
	struct err e = { 0 };
	char path[160], link[170];
	struct control_handlers h = { on_request, on_gone, NULL };
	snprintf(path, sizeof(path), "%s/file", test_folder());
	autofd fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_null(control_open(path, &h, &e));
	assert_err(e.code, ERR_FOLDER);
	snprintf(link, sizeof(link), "%s/link", test_folder());
	assert_int_equal(symlink("/nowhere/s", link), 0);
	assert_null(control_open(link, &h, &e));
	assert_err(e.code, ERR_FOLDER);
	assert_int_equal(access(path, F_OK), 0);
	assert_null(control_open("", &h, &e));
	assert_null(control_open("/tmp/", &h, &e));
}

TEST(control_open__folder__is_made_and_must_be_ours)
{
	struct err e = { 0 };
	struct stat st;
	char path[160];
	struct control_handlers h = { on_request, on_gone, NULL };
	snprintf(path, sizeof(path), "%s/new/s", test_folder());
	struct control *c = control_open(path, &h, &e);
	assert_non_null(c);
	control_close(c);
	*strrchr(path, '/') = '\0';
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0750);
	assert_int_equal(chmod(path, 0777), 0);
	strncat(path, "/s", 3);
	assert_null(control_open(path, &h, &e));
	assert_err(e.code, ERR_FOLDER);
	assert_has(e.text, "may write");
}

TEST(control_close__socket_of_another__stays)
{
	struct desk one, two;
	char away[170];
	desk_open(&one);
	snprintf(away, sizeof(away), "%s.old", one.path);
	assert_int_equal(rename(one.path, away), 0);
	desk_open(&two);
	desk_close(&one);
	assert_int_equal(access(two.path, F_OK), 0);
	desk_close(&two);
	assert_int_equal(access(two.path, F_OK), -1);
	unlink(away);
}

TEST(control_open__path_longer_than_an_address__works)
{
	struct err e = { 0 };
	struct control_handlers h = { on_request, on_gone, NULL };
	autobuf path = { 0 }, reply = { 0 };
	struct desk d = { .answer = "{}" };
	h.arg = &d;
	buf_print(&path, "%s/", test_folder());
	for (int i = 0; i < 30; i++)
		buf_text(&path, "long-");
	buf_text(&path, "/s");
	d.control = control_open(path.at, &h, &e);
	if (d.control == NULL)
		fail_msg("%s", e.text);
	pid_t pid = fork();
	if (pid == 0) {
		struct client_question q = {
			.path = path.at,
			.request = SPAN_LIT("{\"verb\":\"status\"}\n"),
		};
		_exit(client_ask(&q, &reply, &e) == ERR_OK && reply.len == 2 ? 0 : 1);
	}
	int status = -1;
	struct pollfd fds[CONTROL_FDS];
	while (waitpid(pid, &status, WNOHANG) == 0) {
		unsigned n = control_fds(d.control, fds);
		if (poll(fds, n, 5) > 0)
			control_turn(d.control, fds, n);
	}
	assert_int_equal(status, 0);
	control_close(d.control);
}

/* --- the asker ------------------------------------------------------------ */

TEST(client_ask__nobody_there__is_told_from_trouble)
{
	struct err e = { 0 };
	char path[160];
	autobuf reply = { 0 };
	snprintf(path, sizeof(path), "%s/none", test_folder());
	struct client_question q = { .path = path, .request = SPAN_LIT("x\n") };
	assert_err(client_ask(&q, &reply, &e), ERR_SERVICE);
	assert_false(q.is_there);
	q.path = "";
	assert_err(client_ask(&q, &reply, &e), ERR_SERVICE);
	assert_false(q.is_there);
	autofd fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	q.path = path;
	assert_err(client_ask(&q, &reply, &e), ERR_SERVICE);
	assert_false(q.is_there);
}

TEST(client_ask__service_that_says_nothing__is_given_up)
{
	struct err e = { 0 };
	autobuf reply = { 0 };
	autodesk d;
	desk_open(&d); /* which is not served */
	struct client_question q = { .path = d.path,
				     .request = SPAN_LIT("{\"verb\":\"status\"}\n"),
				     .wait_ms = 50 };
	assert_err(client_ask(&q, &reply, &e), ERR_SERVICE);
	assert_true(q.is_there && q.is_sent);
	assert_has(e.text, "does not answer");
}

TEST(client_read_result__answers__are_understood)
{
	struct client_result r;
	struct err e = { 0 };
	assert_ok(client_read_result(SPAN_LIT("{\"exit\":22,\"error\":null}"), &r,
				     &e));
	assert_int_equal(r.exit, 22);
	assert_int_equal(r.error.code, ERR_OK);
	assert_ok(client_read_result(SPAN_LIT("{\"exit\":2,\"error\":{\"detail\":"
					      "\"NOT_ALLOWED\",\"text\":\"no\"}}"),
				     &r, &e));
	assert_err(r.error.code, ERR_NOT_ALLOWED);
	assert_string_equal(r.error.text, "no");
	assert_ok(client_read_result(SPAN_LIT("{\"exit\":9,\"error\":{}}"), &r, &e));
	assert_err(r.error.code, ERR_SERVICE);
	assert_err(client_read_result(SPAN_LIT(""), &r, &e), ERR_SERVICE);
	assert_err(client_read_result(SPAN_LIT("{\"error\":null}"), &r, &e),
		   ERR_SERVICE);
}

TEST(order_print__requests__are_read_back)
{
	struct content c = { .id = "ABC00042", .version = 3, .has_version = true };
	static const char *const words[] = { "--download", "A\"1\n", NULL };
	struct control_request q = { 0 };
	struct err e = { 0 };
	autobuf line = { 0 };
	order_print(CONTROL_WHY, &c, NULL, &line);
	assert_string_equal(line.at,
			    "{\"verb\":\"why\",\"content\":\"ABC00042.3\"}\n");
	buf_clear(&line);
	order_print(CONTROL_DOWNLOAD, NULL, words, &line);
	assert_ok(order_read(buf_as_span(&line), true, &q, &e));
	assert_int_equal(q.argument_count, 2);
	assert_string_equal(q.arguments[1], "A\"1\n");
	order_free(&q);
	assert_err(order_read(buf_as_span(&line), false, &q, &e), ERR_NOT_ALLOWED);
	order_free(&q);
}
