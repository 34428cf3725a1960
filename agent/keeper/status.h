#ifndef AGENT_KEEPER_STATUS_H
#define AGENT_KEEPER_STATUS_H

#include "agent/keeper/plan.h"
#include "common/buf.h"

/*
 * The answers of --status, --why and --history as JSON objects (fields: agent(8),
 * JSON OUTPUT), made in one place: the service sends them over its socket, the
 * command line makes them itself where no service runs, and cli/show_service makes
 * text of them.
 */
struct status_run { /* a job under way */
	char name[CONTENT_NAME_SIZE];
	char step[32], host[300], by[16];
	uint64_t bytes_done, bytes_total;
	int64_t began_s;
};

struct status_service {
	bool is_running;
	int64_t pid, since_s, next_poll_s; /* next_poll_s 0 = unknown */
	bool is_polling;
	const struct status_run *runs;
	size_t run_count;
};

/* content NULL = all. plan NULL: policy is not known. record NULL: nothing is
 * remembered. Nothing is written to the record. An `out` without max may hold
 * STATUS_MAX. ERR_NOMEM. */
#define STATUS_MAX ((size_t)64 << 20)
enum err_code status_print(const struct settings *s, const struct plan *plan,
			   const struct status_service *service,
			   struct record *r, const struct content *content,
			   int64_t now_s, struct buf *out, struct err *e);
/* plan: to say what policy has on it now. */
enum err_code status_print_why(const struct plan *plan, struct record *r,
			       const struct content *content, struct buf *out,
			       struct err *e);
#define STATUS_HISTORY 200 /* transfers in one answer */
enum err_code status_print_history(struct record *r, struct buf *out,
				   struct err *e);

#endif
