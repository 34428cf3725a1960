#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include "common/buf.h"
#include "common/err.h"
#include "common/span.h"

#include <stdbool.h>

/*
 * One event, three readers: the administrator (standard error), CMTrace (files
 * in the form of docs/wire.md 9.1) and scripts. Whatever the level, secrets are
 * masked and control characters escaped here and nowhere else.
 */
enum log_level {
	LOG_ERROR,   /* a human must act */
	LOG_WARNING, /* degraded, we go on */
	LOG_INFO,    /* one line per finished step */
	LOG_DEBUG,   /* frames, requests */
};

struct log_options {
	enum log_level stderr_level; /* what reaches standard error */
	enum log_level file_level;   /* what reaches the files */
	bool colour;                 /* standard error is a terminal that may */
	int dir_fd;                  /* log folder, borrowed; -1 = no files */
};

/* Before: errors and warnings to standard error, no files. */
void log_open(const struct log_options *options);
void log_close(void);

/*
 * component  CMTrace component and file name: "ContentTransferManager",
 *            "LocationServices", "DataTransferService", "CAS", "CcmMessaging",
 *            "PolicyAgent", "agent"
 */
void log_event(enum log_level level, const char *component, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
#define log_error(component, ...) log_event(LOG_ERROR, component, __VA_ARGS__)
#define log_warning(component, ...) log_event(LOG_WARNING, component, __VA_ARGS__)
#define log_info(component, ...) log_event(LOG_INFO, component, __VA_ARGS__)
#define log_debug(component, ...) log_event(LOG_DEBUG, component, __VA_ARGS__)

/* Called around every line on standard error, so that a progress bar can be
 * wiped and drawn again. NULL = nothing. */
void log_set_hooks(void (*before)(void), void (*after)(void));

/*
 * Text that others wrote, fit for a terminal and a line-based file: bytes below
 * 0x20, 0x7f, C1 controls, bidirectional controls and invalid UTF-8 become
 * \xNN. At most `max` bytes of input (0 = all), then "...".
 */
void log_escape(struct span text, size_t max, struct buf *out);
/* That and mask_text(), as a string owned by the caller; never NULL but for no
 * memory. */
char *log_clean(const char *text);

#endif
