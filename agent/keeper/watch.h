#ifndef AGENT_KEEPER_WATCH_H
#define AGENT_KEEPER_WATCH_H

#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * What wakes the daemon besides its socket and its children: a change of the
 * policy files (inotify), a network that comes back (rtnetlink: an address or a
 * default route appears), a moment on the boot-time clock, a clock that was set.
 */
#define WATCH_PATHS 8
struct watch_place {
	int wd;
	char name[256]; /* only what begins so, below wd; "" = everything */
	bool is_exact;  /* only that name: what is to come into being */
};
struct watch {
	int files_fd, link_fd, timer_fd, clock_fd; /* owned; for poll(); -1 */
	int64_t timer_ms; /* the one that is set; INT64_MAX = none */
	struct watch_place places[WATCH_PATHS];
	unsigned place_count;
};
#define WATCH_NONE (struct watch){ -1, -1, -1, -1, INT64_MAX, { { 0 } }, 0 }

enum err_code watch_open(struct watch *w, struct err *e);
/*
 * paths: NULL-ended; folders are watched whole, files by their folder (the file
 * and what has the same name before the last dot: its list, its signature). A path
 * that is not there is no error: its nearest existing parent is watched instead,
 * so call this again after each change. What changed before the call is not told:
 * read the files after it.
 */
enum err_code watch_paths(struct watch *w, const char *const *paths,
			  struct err *e);
void watch_close(struct watch *w);

/* Drain; true where it matters. Files: a burst (an editor, a package manager) is
 * one change; temporary names (".", "~", "*.dpkg-*", "*.swp") are none. */
bool watch_files_changed(struct watch *w);

/*
 * Listen for a network that comes back, or not. Only while it matters: on IPv6 the
 * kernel tells of every router's advertisement, and nobody is to be woken by that.
 */
enum err_code watch_link(struct watch *w, bool is_wanted, struct err *e);
bool watch_link_is_back(struct watch *w);

bool watch_clock_was_set(struct watch *w);

/* Wake at that moment (boot clock, ms); INT64_MAX = never. Relative inside, so
 * that a replaced clock works; CLOCK_BOOTTIME, so that suspend counts. */
void watch_set_timer(struct watch *w, int64_t at_ms);
void watch_drain_timer(struct watch *w);

#endif
