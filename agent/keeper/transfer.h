#ifndef AGENT_KEEPER_TRANSFER_H
#define AGENT_KEEPER_TRANSFER_H

#include "agent/keeper/pacing.h"
#include "agent/keeper/receive.h"
#include "agent/keeper/worker.h"
#include "policy/content.h"
#include "policy/source.h"

/*
 * One run at one source: its list of files, then the files that are missing,
 * from the net role's ring into the draft. Knows nothing of other sources.
 */
struct transfer {
	struct worker *worker;         /* all borrowed */
	struct receive *receive;
	const struct content *content;
	enum wire_source kind;
	const char *url, *token, *host;
	enum wire_rung rung;           /* in: remembered; out: what worked */
	enum wire_form form;
	struct pacing *pacing;         /* borrowed; NULL = as fast as it goes */
	int64_t asked_ms;              /* when the first file was asked for; 0 = not
					* yet, boot clock */
	unsigned wait_ms;              /* until its answer began; 0 = not yet */
	int64_t deadline_ms;           /* boot clock; INT64_MAX = none */
	void (*on_tick)(void *arg);    /* about ten times a second */
	void *arg;
	/* out */
	uint64_t files;
};

/* List the source into receive (receive_begin ... receive_file). */
enum err_code transfer_list(struct transfer *t, struct err *e);

/*
 * Fetch everything that receive_next names, as many at once as there are
 * connections. The first error ends the others, too; what came is kept. A file
 * that changed on the server (ERR_CHANGED) loses its kept bytes.
 */
enum err_code transfer_run(struct transfer *t, struct err *e);

/* --diagnose: ask for the first file, and end when its answer begins. */
enum err_code transfer_try(struct transfer *t, char *detail, size_t size,
			   struct err *e);

#endif
