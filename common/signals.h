#ifndef COMMON_SIGNALS_H
#define COMMON_SIGNALS_H

#include "common/err.h"

/*
 * SIGINT and SIGTERM as something to poll for: blocked at signals_open, read
 * from a descriptor, remembered once seen. SIGPIPE is ignored.
 */
enum err_code signals_open(struct err *e);
int signals_fd(void); /* for poll(); -1 before signals_open */

/* ERR_OK, or ERR_SIGINT / ERR_SIGTERM once one has come (and ever after), with
 * *e set (e may be NULL). Cheap; does not wait. */
enum err_code signals_check(struct err *e);

#endif
