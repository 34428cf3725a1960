#ifndef AGENT_KEEPER_IDENTITY_H
#define AGENT_KEEPER_IDENTITY_H

#include "common/err.h"
#include "common/fs.h"

/*
 * Who this machine is to a Configuration Manager site: an RSA-2048 key and a
 * certificate made by ourselves (docs/wire.md 2.4), in state/identity.pem (0600),
 * made once; and the id that the site gave at registration, in state/smsid.
 * ERR_FOLDER, ERR_INTERNAL.
 */
/* Makes it where it is missing. *path: owned, absolute, for worker_send_file. */
enum err_code identity_ensure(const char *state_directory, char **path,
			      struct err *e);
/* "" in *out: not registered yet. A changed key (the file was lost) means so,
 * too: the id is kept with the fingerprint of its certificate. */
enum err_code identity_get_smsid(const char *state_directory, char out[64],
				 struct err *e);
enum err_code identity_set_smsid(const char *state_directory, const char *smsid,
				 struct err *e);

#endif
