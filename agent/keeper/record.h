#ifndef AGENT_KEEPER_RECORD_H
#define AGENT_KEEPER_RECORD_H

#include "agent/wire.h"
#include "common/buf.h"
#include "common/err.h"

/*
 * What the agent remembers between runs, in state/state.db (keeper/database): per
 * host what works there, the boundary groups of the last reply, since when a
 * content is looked for. Losing it costs time, never content. Hosts: the newest
 * 1000 stay; searches: 20000.
 */
struct record;
struct database;

/*
 * Are we root before a state folder that belongs to another user, that of the service?
 * Then nothing of root may be left there: who does not become that user (for --to DIR,
 * a folder of root's) works without memory and leaves no traces.
 */
bool record_is_foreign(const char *directory);

struct record *record_open(const char *directory, struct err *e);
void record_close(struct record *r); /* NULL is fine */
/* The file beneath, for ledger and outbox; it ends with r. */
struct database *record_database(struct record *r);

/* Which virtual directory and URL form worked at a host; false = unknown. */
bool record_get_host(struct record *r, const char *host, enum wire_rung *rung,
		     enum wire_form *form);
enum err_code record_set_host(struct record *r, const char *host,
			      enum wire_rung rung, enum wire_form form,
			      struct err *e);

/* Small texts by key: "boundary_groups", ...; out stays empty when absent. */
void record_get_text(struct record *r, const char *key, struct buf *out);
enum err_code record_set_text(struct record *r, const char *key,
			      struct span value, struct err *e);

/* Since when is `name` looked for (epoch s)? Begins now when it is new. */
int64_t record_search_since(struct record *r, const char *name, int64_t now_s);
void record_search_done(struct record *r, const char *name);

/*
 * The client's id ("GUID:..."): that of the settings, else state/client-id,
 * made once by getrandom (RFC 9562 s5.4). Returns owned text, NULL with *e.
 * Of a foreign folder it is only read; "" where there is none.
 */
char *record_client_id(const char *directory, const char *configured,
		       struct err *e);

#endif
