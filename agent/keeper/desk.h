#ifndef AGENT_KEEPER_DESK_H
#define AGENT_KEEPER_DESK_H

#include "agent/keeper/crew.h"

/*
 * What is asked over the control socket: answered at once from plan and ledger, or
 * when the work that was asked for has ended.
 */
enum err_code desk_open(struct crew *s, struct err *e);
/* Whoever still waits hears nothing more; handed-over downloads are stopped. */
void desk_close(struct crew *s);

/* After agenda_ended(): answer who waited for it, begin what it was in the way of. */
void desk_ended(struct crew *s, const struct work *w, int status);
/* The service ends: nobody is to wait for what will not begin. */
void desk_refuse_all(struct crew *s);

#endif
