#ifndef AGENT_WIRE_H
#define AGENT_WIRE_H

#include "common/err.h"
#include "common/frame.h"
#include "common/span.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * What keeper and net say to each other: one table, both directions. A message
 * is a struct of numbers and texts; every field has its maximum here, and
 * wire_decode() refuses whatever passes it. Texts hold no NUL. The keeper
 * believes no field beyond that.
 *
 * The conversation (K = keeper, N = net):
 *   K FILE for each file that the net role needs, each with a descriptor (it can
 *     open none itself); K CONFIG, once, last. N READY, when it has taken all that
 *     and closed its sandbox; or DONE with the reason, and ends.
 *   Then calls, one at a time: LOCATE, REPLAY, RESOLVE, PROBE, CHECK_CHAIN,
 *     LIST. N answers any number of NOTE, ATTEMPT and the call's own messages,
 *     then exactly one DONE. REPLAY and CHECK_CHAIN have a FILE before them.
 *   After a good LIST: K FETCH for any of the listed files, or parts of them,
 *     several at once (net works on as many as there are connections, or
 *     WIRE_STREAMS times as many over HTTP/2, in the order asked); N answers each with HEAD (where content comes), DATA...,
 *     FETCHED. K gives every slot back with SLOT, and may let a FETCH end
 *     earlier with TRIM.
 *   DOCUMENT: N answers BODY, then DATA (index 0) through the ring, which K gives
 *     back with SLOT, then DONE.
 *   K PACE, once before CONFIG and whenever something of it changes: no answer.
 *   K CANCEL ends the call or all fetches; N answers one DONE, nothing of the
 *     old comes after it.
 */
#define WIRE_URL 4096
#define WIRE_LISTS 8192   /* several values, each ended by a line feed */
#define WIRE_TEXT 1024
#define WIRE_NAME 256
#define WIRE_TOKEN 16384
#define WIRE_ANY UINT64_MAX
#define WIRE_UNKNOWN UINT64_MAX /* a size that nobody named */
#define WIRE_MAX_FILES 65536
#define WIRE_STREAMS 8 /* answers at once for each connection, where HTTP/2 allows */

/* M(name, NAME): messages; F macros: U(field, max) number, S(field, max) text. */
#define WIRE_MESSAGES(M)               \
	/* keeper to net */            \
	M(config, CONFIG)              \
	M(file, FILE)                  \
	M(locate, LOCATE)              \
	M(replay, REPLAY)              \
	M(resolve, RESOLVE)            \
	M(probe, PROBE)                \
	M(check_chain, CHECK_CHAIN)    \
	M(list, LIST)                  \
	M(registration, REGISTRATION)  \
	M(assignments, ASSIGNMENTS)    \
	M(relay, RELAY)                \
	M(document, DOCUMENT)          \
	M(fetch, FETCH)                \
	M(trim, TRIM)                  \
	M(slot, SLOT)                  \
	M(pace, PACE)                  \
	M(cancel, CANCEL)              \
	/* net to keeper */            \
	M(ready, READY)                \
	M(note, NOTE)                  \
	M(attempt, ATTEMPT)            \
	M(location, LOCATION)          \
	M(located, LOCATED)            \
	M(hop, HOP)                    \
	M(address, ADDRESS)            \
	M(certificate, CERTIFICATE)    \
	M(tls, TLS)                    \
	M(entry, ENTRY)                \
	M(listed, LISTED)              \
	M(registered, REGISTERED)      \
	M(assignment, ASSIGNMENT)      \
	M(body, BODY)                  \
	M(head, HEAD)                  \
	M(data, DATA)                  \
	M(fetched, FETCHED)            \
	M(done, DONE)

/* The settings that the net role needs; times ms, sizes bytes. */
#define WIRE_FIELDS_config(U, S)                                              \
	S(site_code, 16) S(forest, WIRE_NAME) S(domain, WIRE_NAME)            \
	S(ad_site, WIRE_NAME) S(client_id, 64) S(host_name, WIRE_NAME)        \
	U(plain_message, 1) /* 1 = uncompressed CCM_POST bodies */            \
	S(token_header, WIRE_NAME) /* "Authorization: Bearer" */              \
	S(cloud_suffixes, WIRE_LISTS) U(cloud_public_only, 1)                 \
	S(dns_servers, WIRE_LISTS) U(dns_timeout_ms, 600000)                  \
	U(dns_tries, 100) U(max_hops, 64)                                     \
	U(tls_minimum, 13) /* 12 or 13 */ U(tls_strict, 1)                    \
	U(revocation, 2) /* 0 off, 1 leaf, 2 chain */                         \
	S(proxy_http, WIRE_URL) S(proxy_https, WIRE_URL)                      \
	S(proxy_bypass, WIRE_LISTS)                                           \
	U(connections, 64)                                                    \
	U(connect_timeout_ms, 3600000) U(stall_timeout_ms, 3600000)           \
	U(ring_slots, 256) U(slot_bytes, 1u << 20)                            \
	S(interfaces, WIRE_LISTS) /* ADDRESS lines, see locreq.h */

/* One descriptor goes with it. */
enum wire_file_kind {
	WIRE_FILE_RING,  /* memfd, sealed; ring_slots * slot_bytes */
	WIRE_FILE_CA,    /* PEM: trust anchors */
	WIRE_FILE_CRL,   /* PEM: revocation lists; none = not configured */
	WIRE_FILE_CERT,  /* PEM: client certificate and its chain */
	WIRE_FILE_KEY,   /* PEM: its key */
	WIRE_FILE_TOKEN, /* text: client token */
	WIRE_FILE_CHAIN, /* PEM: for CHECK_CHAIN */
	WIRE_FILE_REPLY, /* XML: for REPLAY */
	WIRE_FILE_IDENTITY, /* PEM: key and self-made certificate for the site */
	WIRE_FILE_COUNT
};
#define WIRE_FIELDS_file(U, S) \
	U(kind, WIRE_FILE_COUNT - 1) S(name, WIRE_URL) /* for messages */

#define WIRE_FIELDS_locate(U, S)                                              \
	S(management_points, WIRE_LISTS)                                      \
	S(content_id, WIRE_NAME) U(version, WIRE_ANY) U(use_azure, 1)         \
	U(minutes, 1000000) /* since the search began: ClientInOperation */   \
	S(boundary_groups, WIRE_LISTS) /* LOCATED's of the last time */
#define WIRE_FIELDS_replay(U, S) U(unused, 0)
#define WIRE_FIELDS_resolve(U, S) \
	S(name, WIRE_NAME) U(port, 65535) U(is_cloud, 1)
#define WIRE_FIELDS_probe(U, S) \
	S(name, WIRE_NAME) U(port, 65535) U(is_cloud, 1) U(is_tls, 1)
#define WIRE_FIELDS_check_chain(U, S) \
	S(name, WIRE_NAME) U(at, WIRE_ANY) /* epoch s; WIRE_UNKNOWN = now */

enum wire_source {
	WIRE_SOURCE_DP,    /* PROPFIND listing, or one plain file */
	WIRE_SOURCE_CLOUD, /* getcontentxmlsecure manifest */
};
/* The ladder of virtual directories (docs/wire.md 5.1). */
enum wire_rung {
	WIRE_RUNG_AS_GIVEN,
	WIRE_RUNG_PLAIN,  /* SMS_DP_SMSPKG$ */
	WIRE_RUNG_NOCERT, /* NOCERT_SMS_DP_SMSPKG$ */
	WIRE_RUNG_TOKEN,  /* CCMTOKENAUTH_SMS_DP_SMSPKG$ */
	WIRE_RUNG_COUNT
};
/* How file URLs are written (docs/wire.md 5.3). */
enum wire_form {
	WIRE_FORM_UNKNOWN,
	WIRE_FORM_SCCM,  /* .../sccm?/path */
	WIRE_FORM_PLAIN, /* .../path */
	WIRE_FORM_COUNT
};
#define WIRE_FIELDS_list(U, S)                                                \
	U(kind, WIRE_SOURCE_CLOUD) S(url, WIRE_URL) S(token, WIRE_TOKEN)      \
	U(rung, WIRE_RUNG_COUNT - 1) U(form, WIRE_FORM_COUNT - 1)             \
	S(content_id, WIRE_NAME) U(version, WIRE_ANY)

/*
 * The site as a source of policy (docs/wire.md 2, 8). management_points as in
 * LOCATE. fqdn: of this machine, or its short name. All three need the identity
 * FILE.
 */
#define WIRE_FIELDS_registration(U, S) \
	S(management_points, WIRE_LISTS) S(fqdn, WIRE_NAME)
#define WIRE_FIELDS_assignments(U, S) \
	S(management_points, WIRE_LISTS) S(fqdn, WIRE_NAME) S(smsid, 64)
/* One state message (docs/wire.md 10). time: RFC 3339. */
#define WIRE_FIELDS_relay(U, S)                                               \
	S(management_points, WIRE_LISTS) S(fqdn, WIRE_NAME) S(smsid, 64)      \
	S(topic, WIRE_NAME) U(topic_type, 65535) U(state, 65535)              \
	S(time, 32) S(details, 4096)
/* A policy document by https. etag: of the copy that the keeper has; "" = none.
 * most: bytes that are accepted. */
#define WIRE_FIELDS_document(U, S) \
	S(url, WIRE_URL) S(etag, WIRE_NAME) U(most, 1u << 27)

/* index: that of the ENTRY. offset: bytes that the keeper has already. end: of
 * the part that is wanted, or WIRE_UNKNOWN for all the rest; where it is named,
 * only that very part (206) is an answer. size: of the file, what HEAD must agree
 * with, or WIRE_UNKNOWN. etag: validator of the bytes that are there, "" = none
 * known. index and offset name the FETCH from then on. */
#define WIRE_FIELDS_fetch(U, S)                                               \
	U(index, WIRE_MAX_FILES) U(offset, WIRE_ANY) U(end, WIRE_ANY)         \
	U(size, WIRE_ANY) S(etag, WIRE_NAME)
/* The FETCH of `asked` ends with the byte before `end`, which has not come yet:
 * FETCHED follows as if that were the end of the file. */
#define WIRE_FIELDS_trim(U, S) \
	U(index, WIRE_MAX_FILES) U(asked, WIRE_ANY) U(end, WIRE_ANY)
#define WIRE_FIELDS_slot(U, S) U(slot, 255)
/* How fast, from now on; bytes a second, 0 = no limit. may_change: other rates may
 * come later. is_background: yield to other traffic. is_idle: with idle priority,
 * which is for good. */
#define WIRE_FIELDS_pace(U, S)                                                \
	U(rate, WIRE_ANY) U(rate_on_prem, WIRE_ANY) U(rate_cloud, WIRE_ANY)   \
	U(may_change, 1) U(is_background, 1) U(is_idle, 1)
#define WIRE_FIELDS_cancel(U, S) U(unused, 0)

#define WIRE_FIELDS_ready(U, S) \
	U(uid, UINT32_MAX) U(user_changed, 1) U(landlock_abi, 1000)

/* level: enum log_level. component: as log_event(). */
#define WIRE_FIELDS_note(U, S) \
	U(level, 3) S(component, 64) S(text, 16384)
/* Something that failed on the way, while the call goes on. */
#define WIRE_FIELDS_attempt(U, S) \
	S(url, WIRE_URL) U(code, ERR_COUNT - 1) S(text, WIRE_TEXT)

/* One URL of a location reply, in document order, duplicates already gone. */
#define WIRE_FIELDS_location(U, S)                                            \
	S(url, WIRE_URL) S(locality, WIRE_NAME) S(site_locality, WIRE_NAME)   \
	S(dp_type, WIRE_NAME) S(version, WIRE_NAME) S(server, WIRE_NAME)      \
	S(signature, WIRE_URL) U(ssl_state, UINT32_MAX)                       \
	U(auth_method, UINT32_MAX) S(token, WIRE_TOKEN)
/* After the last LOCATION, before DONE. hash: "sha256:HEX" where the reply
 * names a per-content SHA-256, else what it names, for people. */
#define WIRE_FIELDS_located(U, S)                                             \
	S(management_point, WIRE_URL) S(hash, WIRE_NAME)                      \
	U(content_flags, WIRE_ANY) S(boundary_groups, WIRE_LISTS)             \
	U(count, 10000)

#define WIRE_FIELDS_hop(U, S)                                                 \
	S(owner, WIRE_NAME) S(target, WIRE_NAME) U(ttl_s, UINT32_MAX)         \
	S(server, 64) U(duration_ms, UINT32_MAX)
#define WIRE_FIELDS_address(U, S) S(address, 64) U(ttl_s, UINT32_MAX)
/* position 0 = leaf. names: SAN entries, line-separated. problem: "" = none. */
#define WIRE_FIELDS_certificate(U, S)                                         \
	U(position, 64) S(subject, WIRE_TEXT) S(issuer, WIRE_TEXT)            \
	S(not_before, 32) S(not_after, 32) S(names, 4096)                     \
	S(problem, WIRE_TEXT)
#define WIRE_FIELDS_tls(U, S)                                                 \
	S(version, 16) S(name_checked, WIRE_NAME) U(verified, 1)              \
	S(address, 64) U(connect_ms, UINT32_MAX)

/* One file of the source, index counting from 0. size may be WIRE_UNKNOWN.
 * hash: 64 hex (SHA-256), 40 hex (SHA-1) or "". host: where it lies, when it
 * is not the host of the source (cloud storage). */
#define WIRE_FIELDS_entry(U, S)                                               \
	U(index, WIRE_MAX_FILES - 1) S(path, 4096) U(size, WIRE_ANY)          \
	S(hash, 64) S(host, WIRE_NAME)
#define WIRE_FIELDS_listed(U, S)                                              \
	U(count, WIRE_MAX_FILES) U(rung, WIRE_RUNG_COUNT - 1)                 \
	U(form, WIRE_FORM_COUNT - 1)

#define WIRE_FIELDS_registered(U, S) S(smsid, 64) S(management_point, WIRE_URL)
/*
 * One CCM_SoftwareDistribution of the site's policy. Times as the site writes
 * them ("20260115102030.000000+***"); hash: the site's own, for people. mandatory:
 * as it stands there.
 */
#define WIRE_FIELDS_assignment(U, S)                                          \
	S(policy_id, WIRE_NAME) S(policy_version, 64)                         \
	S(advertisement, WIRE_NAME) S(package, WIRE_NAME)                     \
	U(version, WIRE_ANY) S(name, WIRE_NAME) S(hash, WIRE_NAME)            \
	U(size, WIRE_ANY) U(has_files, 1) S(active_time, 64)                  \
	S(mandatory, WIRE_TEXT)
#define WIRE_FIELDS_body(U, S) \
	S(etag, WIRE_NAME) U(is_unchanged, 1) U(length, 1u << 27)

/* Content of `index` begins to come at `offset`: `asked`, the offset of the
 * FETCH, or 0 when the server starts over. total: size of the whole file, or
 * WIRE_UNKNOWN. */
#define WIRE_FIELDS_head(U, S)                                                \
	U(index, WIRE_MAX_FILES) U(asked, WIRE_ANY) U(offset, WIRE_ANY)       \
	U(total, WIRE_ANY) S(etag, WIRE_NAME)
#define WIRE_FIELDS_data(U, S)                                                \
	U(index, WIRE_MAX_FILES) U(asked, WIRE_ANY) U(offset, WIRE_ANY)       \
	U(slot, 255) U(length, 1u << 20)
#define WIRE_FIELDS_fetched(U, S)                                             \
	U(index, WIRE_MAX_FILES) U(asked, WIRE_ANY)                           \
	U(code, ERR_COUNT - 1) S(text, WIRE_TEXT) U(retry_after_s, UINT32_MAX)  \
	U(form, WIRE_FORM_COUNT - 1)
/* answers_cancel: what was cancelled may have sent its own DONE just before. */
#define WIRE_FIELDS_done(U, S)                                                \
	U(code, ERR_COUNT - 1) S(text, WIRE_TEXT)                             \
	U(retry_after_s, UINT32_MAX) U(answers_cancel, 1)

/* One struct a message: struct wire_config, struct wire_file, ... */
#define WIRE_U(field, max) uint64_t field;
#define WIRE_S(field, max) struct span field;
#define M(name, NAME) \
	struct wire_##name { WIRE_FIELDS_##name(WIRE_U, WIRE_S) };
WIRE_MESSAGES(M)
#undef M
#undef WIRE_U
#undef WIRE_S

enum wire_type {
	WIRE_NONE,
#define M(name, NAME) WIRE_##NAME,
	WIRE_MESSAGES(M)
#undef M
	WIRE_TYPE_COUNT
};

/* A message received, and the frame that it came in. Its texts point into
 * `bytes`. Zero to begin with; one for each socket. */
struct wire_msg {
	enum wire_type type;
	int fd; /* -1, or owned by whoever holds the message */
	size_t at, len; /* of `bytes`: what follows the message in its frame */
	union {
#define M(name, NAME) struct wire_##name name;
		WIRE_MESSAGES(M)
#undef M
	};
	char bytes[FRAME_MAX];
};

const char *wire_name(enum wire_type type); /* "LOCATE" */

/*
 * Send one message: wire_send(sock, WIRE_FETCH, &(struct wire_fetch){...}, -1,
 * e). A text beyond its maximum is cut, so that a long error text still
 * arrives; a number beyond it is ERR_INTERNAL. ERR_NET_DIED: peer gone.
 */
enum err_code wire_send(int sock, enum wire_type type, const void *fields,
			int fd, struct err *e);

/*
 * Messages that travel together, in one frame, since each frame costs both sides
 * a system call and often a change of process: what wire_put() takes is on its
 * way when the frame is full or wire_flush() is called, which must happen before
 * anybody waits for an answer. Errors as wire_send().
 */
struct wire_out {
	int sock; /* borrowed */
	size_t len;
	char bytes[FRAME_MAX];
};
enum err_code wire_put(struct wire_out *out, enum wire_type type,
		       const void *fields, struct err *e);
enum err_code wire_flush(struct wire_out *out, struct err *e);

/*
 * Receive one message. ERR_NET_LIED with the message and field for anything
 * that is not exactly as the table says. With `wait` 0 and nothing there:
 * ERR_OK and type WIRE_NONE. A descriptor is accepted only with a WIRE_FILE that
 * has its frame for itself.
 */
enum err_code wire_receive(int sock, int wait, struct wire_msg *out,
			   struct err *e);

/* Is another message of the same frame there? */
static inline bool wire_has_more(const struct wire_msg *m)
{
	return m->at < m->len;
}

/* The two halves, for tests and fuzzing: one message alone. */
enum err_code wire_encode(enum wire_type type, const void *fields, char *bytes,
			  size_t size, size_t *len, struct err *e);
enum err_code wire_decode(struct wire_msg *msg, size_t len, struct err *e);

#endif
