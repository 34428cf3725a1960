#ifndef AGENT_KEEPER_ORDER_H
#define AGENT_KEEPER_ORDER_H

#include "common/buf.h"
#include "common/err.h"
#include "policy/content.h"

#include <stdbool.h>
#include <sys/types.h>

/*
 * What can be asked of a running service: one JSON object in one line of at most
 * CONTROL_LINE bytes.
 *
 *   {"verb":"status","content":"ABC00042.3"}   content optional
 *   {"verb":"why","content":...}  {"verb":"history"}
 *   {"verb":"poll"}  {"verb":"stop","content":...}  {"verb":"remove","content":...}
 *   {"verb":"download","arguments":["--download","ABC00042.3","--json",...]}
 *
 * An object with anything else in it is refused.
 */
enum control_verb {
	CONTROL_STATUS, CONTROL_WHY, CONTROL_HISTORY, /* anybody who can connect */
	CONTROL_POLL, CONTROL_STOP, CONTROL_REMOVE, CONTROL_DOWNLOAD,
};
#define CONTROL_LINE 4096
#define CONTROL_ARGUMENTS 24

struct control_request {
	enum control_verb verb;
	bool has_content;
	struct content content;
	char *arguments[CONTROL_ARGUMENTS + 1]; /* NULL-ended */
	int argument_count;
	int fds[3];  /* of DOWNLOAD: taken by the handler, which sets them to -1 */
	uid_t uid;
	pid_t pid;
};

/*
 * Read a line (without its end) into verb, content and arguments. may_change: may
 * this one start and stop things? ERR_USAGE, ERR_NOT_ALLOWED, ERR_NOMEM. The
 * arguments are the caller's, also after an error: order_free.
 */
enum err_code order_read(struct span line, bool may_change,
			 struct control_request *out, struct err *e);
void order_free(struct control_request *q);

/* Write a line with its end. content, arguments: NULL = none. */
void order_print(enum control_verb verb, const struct content *content,
		 const char *const *arguments, struct buf *out);

#endif
