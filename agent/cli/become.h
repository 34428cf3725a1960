#ifndef AGENT_CLI_BECOME_H
#define AGENT_CLI_BECOME_H

#include "common/err.h"

/*
 * Root becomes the owner of that folder, with the groups of the user that owns it, and
 * cannot go back: what an agent has that runs as a user of its own is worked on as
 * that user, so that no file of root gets in its way, and nothing that lies there can
 * lead root astray. Nothing happens where we are not root, or the folder belongs to
 * root, or is not there.
 */
enum err_code become_owner(const char *folder, struct err *e);

#endif
