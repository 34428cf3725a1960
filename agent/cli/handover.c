#include "agent/cli/handover.h"

#include "agent/cli/client.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/own.h"
#include "common/spawn.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ASK_MS 5000  /* for a word about which cache it keeps */
#define LEAVE_MS 700 /* for the job to end, once we are told to: a second in all */

/* Only what the service's own settings and policy can do as well. */
static bool is_plain(const struct options *o)
{
	return o->set_count == 0 && !o->policy && !o->to && !o->allow_unverified &&
	       !o->dry_run;
}

/* Is there a socket whose owner must obey us? */
static bool is_ours(const char *path)
{
	struct stat st;
	return path && path[0] && stat(path, &st) == 0 && S_ISSOCK(st.st_mode) &&
	       (geteuid() == 0 || st.st_uid == geteuid());
}

/* A service of other settings would put the content where nobody looks for it. */
static bool is_same_cache(const struct settings *s, const struct content *content)
{
	char theirs[PATH_MAX];
	struct err e = { 0 };
	autobuf request = { 0 }, reply = { 0 };
	autofree char *ours = realpath(s->cache_directory, NULL);
	order_print(CONTROL_STATUS, content, NULL, &request);
	struct client_question q = { .path = s->control_socket,
				     .request = buf_as_span(&request),
				     .wait_ms = ASK_MS };
	if (client_ask(&q, &reply, &e) != ERR_OK) {
		log_debug("agent", "working without the service: %s", e.text);
		return false;
	}
	if (client_find_text(buf_as_span(&reply), "cache", "directory", theirs,
			     sizeof(theirs)) &&
	    strcmp(theirs, ours ? ours : s->cache_directory) == 0)
		return true;
	log_debug("agent", "working without the service on %s: it keeps another "
		  "cache", s->control_socket);
	return false;
}

bool handover_is_there(const struct settings *s, const struct content *content)
{
	return is_ours(s->control_socket) && is_same_cache(s, content);
}

static void print_request(const struct options *o, const char *name,
			  struct buf *out)
{
	const char *arguments[CONTROL_ARGUMENTS + 1] = {
		"--download", name, "--progress", options_progress_word(o->progress),
	};
	size_t n = 4;
	if (o->from) {
		arguments[n++] = "--from";
		arguments[n++] = o->from;
	}
	if (o->hash) {
		arguments[n++] = "--hash";
		arguments[n++] = o->hash;
	}
	if (o->json)
		arguments[n++] = "--json";
	if (o->quiet)
		arguments[n++] = "--quiet";
	if (o->verbose)
		arguments[n++] = "--verbose";
	order_print(CONTROL_DOWNLOAD, NULL, arguments, out);
}

/*
 * The job's standard input is one end of a socket pair, never our terminal: it
 * hangs up when the last of those who write to our terminal is gone.
 */
static void await_end(int line)
{
	struct pollfd fd = { .fd = line, .events = 0 };
	int64_t until = clock_now_ms() + LEAVE_MS;
	for (int64_t left = LEAVE_MS; left > 0; left = until - clock_now_ms())
		if (poll(&fd, 1, (int)left) != 0 || fd.revents)
			return;
}

static bool settle(const struct client_question *q, enum err_code rc,
		   const struct buf *reply, int *status, struct err *e)
{
	struct client_result result = { 0 };
	if (q->is_sent && (rc == ERR_SIGINT || rc == ERR_SIGTERM)) {
		*status = err_exit(rc);
		*e = (struct err){ 0 }; /* the job has told it */
		return true;
	}
	if (rc == ERR_OK &&
	    client_read_result(buf_as_span(reply), &result, e) != ERR_OK)
		return true;
	if (rc == ERR_OK && result.error.code == ERR_OK) {
		*status = result.exit;
		return true;
	}
	if (rc != ERR_OK && q->is_sent)
		return true;
	log_debug("agent", "working without the service: %s",
		  rc == ERR_OK ? result.error.text : e->text);
	*e = (struct err){ 0 };
	return false;
}

bool handover_download(const struct options *o, const struct settings *s,
		       const struct content *content, int *status,
		       struct err *e)
{
	char name[CONTENT_NAME_SIZE];
	autobuf request = { 0 }, reply = { 0 };
	int pair[2];
	if (!is_plain(o) || !handover_is_there(s, content) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return false;
	autofd near = pair[0], far = pair[1];
	autofd out = spawn_write_only(STDOUT_FILENO);
	autofd err = spawn_write_only(STDERR_FILENO);
	if (out < 0 || err < 0)
		return false;
	content_name(content, name);
	print_request(o, name, &request);
	fflush(NULL);
	int fds[3] = { far, out, err };
	struct client_question q = { .path = s->control_socket,
				     .request = buf_as_span(&request),
				     .fds = fds };
	enum err_code rc = client_ask(&q, &reply, e);
	own_close(&far);
	far = -1;
	if (q.is_sent && rc != ERR_OK)
		await_end(near);
	return settle(&q, rc, &reply, status, e);
}
