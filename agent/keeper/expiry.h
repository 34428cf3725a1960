#ifndef AGENT_KEEPER_EXPIRY_H
#define AGENT_KEEPER_EXPIRY_H

#include "common/err.h"

#include <stdint.h>

/*
 * When the first certificate of a PEM file (that of the client itself, its chain
 * comes behind it) ends: *not_after_s, epoch s. ERR_CONFIG: it cannot be read, or
 * holds none.
 */
enum err_code expiry_read(const char *path, int64_t *not_after_s, struct err *e);

#endif
