#ifndef AGENT_KEEPER_ASK_H
#define AGENT_KEEPER_ASK_H

#include "agent/keeper/worker.h"
#include "policy/choose.h"
#include "policy/content.h"

/*
 * Questions to the net role that transfer no content, and their answers as
 * plain data, every field already judged.
 */
struct ask_attempt {
	char *url;  /* owned; masked */
	struct err why;
};

struct ask_location {
	struct source_list sources;
	char *management_point; /* owned; "" for a replay */
	char hash[256];         /* what the reply says; "" */
	uint64_t content_flags;
	char *boundary_groups;  /* owned; as LOCATED has it */
	struct ask_attempt *attempts; /* owned; failed tries on the way */
	size_t attempt_count;
};
void ask_location_free(struct ask_location *l);

struct ask_locate_request {
	const struct settings *settings;
	const struct content *content;
	unsigned minutes;            /* since the search began */
	const char *boundary_groups; /* of the last reply; "" */
	bool use_azure;
};
enum err_code ask_locate(struct worker *w, const struct ask_locate_request *r,
			 struct ask_location *out, struct err *e);
/* path: the stored reply. ERR_INPUT. */
enum err_code ask_replay(struct worker *w, const char *path,
			 struct ask_location *out, struct err *e);

#define ASK_HOPS_MAX 64
#define ASK_ADDRESSES_MAX 32
#define ASK_CHAIN_MAX 16

struct ask_hop {
	char owner[WIRE_NAME + 1], target[WIRE_NAME + 1], server[65];
	uint64_t ttl_s, duration_ms;
};
struct ask_certificate {
	char subject[WIRE_TEXT + 1], issuer[WIRE_TEXT + 1];
	char not_before[33], not_after[33];
	char names[4097]; /* each ended by a line feed */
	char problem[WIRE_TEXT + 1];
};
/* About 90 KiB: on the heap. */
struct ask_walk {
	char name[WIRE_NAME + 1]; /* asked, without port */
	uint16_t port;
	struct ask_hop hops[ASK_HOPS_MAX];
	unsigned hop_count;
	char canonical[WIRE_NAME + 1];
	struct {
		char text[65];
		uint64_t ttl_s;
	} addresses[ASK_ADDRESSES_MAX];
	unsigned address_count;
	/* --verify-server and --check-chain */
	bool has_tls;
	char tls_version[17], name_checked[WIRE_NAME + 1], peer[65];
	bool is_verified;
	uint64_t connect_ms;
	struct ask_certificate chain[ASK_CHAIN_MAX];
	unsigned chain_count;
	struct err result; /* of the walk, the connection, the judgement */
};

/*
 * target: host, host:port, [v6]:port or URL; the port is 443 (80 for http)
 * where none is named. ERR_USAGE when it is none of them. The answer is filled
 * also when it ends in an error, which is in out->result and returned.
 */
enum err_code ask_parse_target(const char *target, char host[WIRE_NAME + 1],
			       uint16_t *port, bool *is_tls, struct err *e);
enum err_code ask_resolve(struct worker *w, const char *target, bool is_cloud,
			  struct ask_walk *out, struct err *e);
enum err_code ask_probe(struct worker *w, const char *target, bool is_cloud,
			struct ask_walk *out, struct err *e);
/* at_s INT64_MIN = now. ERR_INPUT: the file cannot be read. */
enum err_code ask_check_chain(struct worker *w, const char *path,
			      const char *name, int64_t at_s,
			      struct ask_walk *out, struct err *e);

#endif
