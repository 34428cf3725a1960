#ifndef COMMON_SIGNALS_H
#define COMMON_SIGNALS_H

#include "common/err.h"

#include <stdbool.h>

/*
 * SIGINT and SIGTERM as something to poll for: blocked at signals_open, read
 * from a descriptor, remembered once seen. SIGPIPE is ignored.
 */
enum err_code signals_open(struct err *e);
int signals_fd(void); /* for poll(); -1 before signals_open */

/* ERR_OK, or ERR_SIGINT / ERR_SIGTERM once one has come (and ever after), with
 * *e set (e may be NULL). Cheap; does not wait. */
enum err_code signals_check(struct err *e);

/* The service takes SIGHUP besides. Instead of, or after, signals_open. */
enum err_code signals_open_service(struct err *e);
/* Has SIGHUP come since the last call? */
bool signals_take_hup(void);

/*
 * In a forked child that goes on with our code: as after signals_open in a fresh
 * process. The default reaction to all others, a descriptor of its own, nothing
 * seen so far. What was sent to it since the fork is not lost.
 */
enum err_code signals_after_fork(struct err *e);

#endif
