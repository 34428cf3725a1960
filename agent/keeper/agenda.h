#ifndef AGENT_KEEPER_AGENDA_H
#define AGENT_KEEPER_AGENDA_H

#include "agent/keeper/crew.h"

/*
 * What the service does when: reads policy, polls for it, starts what is due, stops
 * what is no longer wanted. Nothing here waits: policy that was read from disk and
 * decided in the loop are trusted local files of bounded size (10,000 deployments:
 * below a second); the network is the business of children.
 */

/* At start, and after new settings: watch the files, read what is there, and plan
 * the next poll: at once of files, of a source on the network at a random point of
 * the interval, so that a fleet that was switched on together is spread. */
void agenda_begin(struct crew *s);

/* Poll now (unless one is under way). Of files it is done on return, with
 * s->poll_error; else a child is at it. */
void agenda_poll(struct crew *s);

/* Work was begun: what it concerns is not begun twice. */
void agenda_mark(struct crew *s);

/* Decide anew at the next turn: a clock was set, something was removed. */
void agenda_rethink(struct crew *s);
void agenda_files_changed(struct crew *s);
void agenda_link_is_back(struct crew *s);

/* All that time asks for now; then when to call again (boot clock, ms). */
void agenda_turn(struct crew *s);
int64_t agenda_next_ms(const struct crew *s);

/* Work of any kind has ended (its place is free already, w is a copy): status and
 * word of child_reap. */
void agenda_ended(struct crew *s, const struct work *w, int status,
		  const char *how);

#endif
