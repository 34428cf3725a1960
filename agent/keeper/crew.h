#ifndef AGENT_KEEPER_CREW_H
#define AGENT_KEEPER_CREW_H

#include "agent/keeper/child.h"
#include "agent/keeper/control.h"
#include "agent/keeper/plan.h"
#include "agent/keeper/watch.h"

/*
 * The state of the running service, shared by the parts of the daemon (agenda: what
 * to do when; desk: who asks what; daemon: the loop), and its children at work.
 */
enum work_kind {
	WORK_NONE,     /* the place is free */
	WORK_POLL,     /* fetch policy from the network */
	WORK_SEND,     /* send what waits in the outbox */
	WORK_JOB,      /* a content that is due; one at a time */
	WORK_DOWNLOAD, /* one that was handed over */
	WORK_REMOVE,   /* remove from the cache */
};

struct work {
	enum work_kind kind;
	struct child child;
	char name[CONTENT_NAME_SIZE];  /* "ABC00042.3"; "" = no content */
	struct content content;
	char hash[DIGEST_HEX_SIZE];    /* that JOB was started for */
	int64_t yields_until_s;        /* JOB in the background, until its deadline
					* (epoch); INT64_MAX = for ever; 0 = it is not */
	struct control_peer *peer;     /* is answered when it ends; NULL = nobody */
	int64_t end_by_ms;  /* SIGTERM then (boot clock); INT64_MAX = never */
	int64_t kill_at_ms; /* asked to end: SIGKILL then; INT64_MAX = not asked */
	bool is_held;       /* stopped by hand: not to begin again at once */
};
#define CREW_WORKS 8
#define CREW_DOWNLOADS 4 /* handed over, at once */

/* A request that waits for work in its way to end. */
struct wish {
	struct control_peer *peer; /* NULL = the place is free */
	enum control_verb verb;
	struct content content;
	char *arguments[CONTROL_ARGUMENTS + 1]; /* of DOWNLOAD; live with peer */
	int argument_count;
	int fds[3];                /* owned; of DOWNLOAD, else -1 */
};
#define CREW_WISHES 16

struct crew {
	struct settings settings;  /* owned; those in force */
	const char *policy;        /* --policy; NULL */
	bool policy_must_exist;
	int (*download)(void *arg, int argc, char **argv);
	void *arg;

	struct watch watch;
	struct control *control;   /* NULL = none */
	int lock_fd;               /* of once_lock; owned */
	struct work works[CREW_WORKS];
	struct wish wishes[CREW_WISHES];
	bool is_ending;            /* nothing new is begun */
	int64_t since_s;           /* epoch */
	bool is_record_broken;     /* said so already */

	/* agenda */
	struct plan plan;
	struct buf problems;       /* of policy, as they were told last */
	struct err poll_error;     /* how the last poll ended; zero = well */
	int64_t next_poll_ms;      /* boot clock; INT64_MAX = when this one ended */
	unsigned poll_failures;    /* in a row, on the network */
	int64_t files_at_ms;       /* a change of files is looked at; INT64_MAX */
	int64_t files_since_ms;    /* the first of that burst */
	int64_t decide_at_s;       /* epoch: when the plan is to be decided anew */
	bool must_send;            /* something may wait in the outbox */
	int64_t no_start_ms;       /* fork failed: no new work before; 0 */
};

void crew_init(struct crew *s);

/* The state database for a moment: record_close it before the next sleep. NULL:
 * nothing can be remembered now, which is logged once. */
struct record *crew_record(struct crew *s);

/*
 * Start work as `what` says (kind, name, content, hash, peer). by: of --status.
 * run(arg) is the child's; it finds everything as it is now. NULL with *e: no
 * place, no fork.
 */
struct work *crew_start(struct crew *s, const struct work *what,
			   int (*run)(void *arg), void *arg, struct err *e);
/* Ask it to end; SIGKILL after grace_ms. Asked already: only the sooner kill. */
void crew_stop(struct work *w, int signal_number, int64_t grace_ms);
#define CREW_GRACE_MS 10000 /* more than what a hook has for its own end */
/* Time-outs of all work; when to call again (boot clock). */
int64_t crew_hurry(struct crew *s, int64_t now_ms);

/* The first of that kind; NULL. */
struct work *crew_of_kind(struct crew *s, enum work_kind kind);
unsigned crew_count(const struct crew *s, enum work_kind kind);
/* Does that work concern the content (without a version: any)? */
bool crew_is_about(const struct work *w, const struct content *content);

#endif
