#ifndef AGENT_KEEPER_WORKER_H
#define AGENT_KEEPER_WORKER_H

#include "agent/wire.h"
#include "common/err.h"
#include "policy/settings.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * The net process, as the keeper sees it: started, set up, spoken to, ended.
 * Every wait here also ends on SIGINT and SIGTERM (ERR_SIGINT, ERR_SIGTERM) and
 * on the process's death (ERR_NET_DIED, with how it ended).
 */
struct worker;

struct worker_options {
	const struct settings *settings; /* borrowed */
	const char *client_id;           /* borrowed */
	const char *ca_file, *crl_file;  /* instead of the settings'; NULL */
	const char *identity_file;       /* for the site; NULL = not needed */
	bool needs_ring;                 /* a transfer is planned */
	/* How fast, from the begin; NULL = as settings say now, not in the
	 * background. */
	const struct wire_pace *pace;
};

/*
 * Start the net role and hand it settings and files. Returns once its sandbox
 * is closed. ERR_CONFIG when a file that the settings name cannot be read or
 * used. Returns owned.
 */
struct worker *worker_start(const struct worker_options *options,
			    struct err *e);
void worker_stop(struct worker *w); /* ends the process; NULL is fine */

/* On its way before the next wait for an answer, at the latest. */
enum err_code worker_send(struct worker *w, enum wire_type type,
			  const void *fields, struct err *e);
/* A slot that DATA named: net may fill it again. */
enum err_code worker_give_back(struct worker *w, uint64_t slot, struct err *e);
enum err_code worker_send_file(struct worker *w, enum wire_file_kind kind,
			       const char *path, struct err *e);

/*
 * The next message, which is logged here if it is a NOTE and not returned.
 * deadline_ms: on the boot clock; INT64_MAX = none; passed: ERR_OK and type
 * WIRE_NONE. The message is valid until the next call.
 */
enum err_code worker_next(struct worker *w, int64_t deadline_ms,
			  const struct wire_msg **out, struct err *e);

/*
 * One call: send, hand every answer to on_message until DONE, which becomes the
 * returned error. on_message returns ERR_OK to go on; another code ends the
 * call (CANCEL is sent and its DONE awaited) and is returned. A message that
 * the call cannot have is refused by on_message with worker_lied().
 */
typedef enum err_code worker_on_message(void *arg, const struct wire_msg *m,
					struct err *e);
enum err_code worker_call(struct worker *w, enum wire_type type,
			  const void *fields, worker_on_message *on_message,
			  void *arg, struct err *e);
enum err_code worker_lied(const struct wire_msg *m, struct err *e);

/* End the call or all fetches; returns when net has confirmed. */
enum err_code worker_cancel(struct worker *w, struct err *e);

/* Wait without the process: ERR_OK after delay_ms, or ERR_SIGINT/SIGTERM. */
enum err_code worker_sleep(int64_t delay_ms, struct err *e);

/* Slot memory, slot_bytes each. NULL for a number that is no slot. */
const char *worker_slot(const struct worker *w, uint64_t slot);
uint64_t worker_slot_bytes(const struct worker *w);
unsigned worker_connections(const struct worker *w);
/* Bytes that the ring holds: so much may have come that we do not know of. */
uint64_t worker_ring_bytes(const struct worker *w);

#endif
