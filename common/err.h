#ifndef COMMON_ERR_H
#define COMMON_ERR_H

#include <stddef.h>

/*
 * One table for every way in which the agent can fail: it drives the exit
 * status, the word that scripts see, what the job does next, and what a tired
 * person is told to try.
 *
 * Classes are the exit statuses that the outside relies on (agent(8), EXIT
 * STATUS). Codes are finer: several codes share a class.
 */
#define ERR_CLASS_LIST(C)        \
	C(OK, 0)                 \
	C(INTERNAL, 1)           \
	C(USAGE, 2)              \
	C(CONFIG, 3)             \
	C(NO_HASH, 4)            \
	C(MP, 10)                \
	C(NO_LOCATION, 11)       \
	C(CLOUD_REFUSED, 12)     \
	C(DNS, 20)               \
	C(TLS, 21)               \
	C(TRANSFER, 22)          \
	C(HASH, 23)              \
	C(SPACE, 30)             \
	C(STATE, 31)             \
	C(NOT_NOW, 40)           \
	C(INTERRUPTED, 130)      \
	C(TERMINATED, 143)

enum err_class {
#define C(name, exit) CLASS_##name = exit,
	ERR_CLASS_LIST(C)
#undef C
};

/* What the job does after the error, where a source caused it. */
enum err_next {
	NEXT_NONE,     /* nothing failed */
	NEXT_SAME,     /* the same source again, after a delay */
	NEXT_SOURCE,   /* this source is done with, take the next */
	NEXT_WAIT,     /* the source asked for patience (Retry-After) */
	NEXT_RELOCATE, /* ask for locations again, then go on here */
	NEXT_GIVE_UP,  /* no source can help */
};

/*
 * Code, class, step at which it shows, what next, what to try.
 * The step is the word of the flow in docs/architecture.md.
 */
#define ERR_LIST(X)                                                             \
	X(OK, OK, "", NONE, "")                                                 \
	X(INTERNAL, INTERNAL, "agent", GIVE_UP,                                 \
	  "this is a defect of the agent: please report it with --verbose")     \
	X(NOMEM, INTERNAL, "agent", GIVE_UP, "free some memory, then try again") \
	X(NET_DIED, INTERNAL, "agent", SOURCE,                                  \
	  "the network process ended: please report it with --verbose")         \
	X(NET_LIED, INTERNAL, "agent", SOURCE,                                  \
	  "the network process broke its protocol: please report it")           \
	X(USAGE, USAGE, "options", GIVE_UP, "see agent --help")                 \
	X(CONFIG, CONFIG, "settings", GIVE_UP,                                  \
	  "run agent --check-config, correct the settings")                     \
	X(POLICY, CONFIG, "policy", GIVE_UP,                                    \
	  "run agent --check-config, correct the policy file")                  \
	X(SIGNATURE, CONFIG, "policy", GIVE_UP,                                 \
	  "sign the policy with the key of [policy] signer: see make-policy")   \
	X(ROLLBACK, CONFIG, "policy", GIVE_UP,                                  \
	  "publish the newest policy, signed anew")                             \
	X(INPUT, CONFIG, "input", GIVE_UP, "check the file that was named")     \
	X(NO_HASH, NO_HASH, "policy", GIVE_UP,                                  \
	  "name the hash in a policy file, or with --hash sha256:HEX")          \
	X(MP, MP, "locate", GIVE_UP,                                            \
	  "check [site] management_point; try agent --verify-server on it")     \
	X(MP_STATUS, MP, "locate", SAME,                                        \
	  "look into the management point's IIS log")                           \
	X(MP_AUTH, MP, "locate", SOURCE,                                        \
	  "check [client] certificate, key and token_file")                     \
	X(MP_REPLY, MP, "locate", SOURCE,                                       \
	  "is this address really a management point?")                         \
	X(NO_LOCATION, NO_LOCATION, "locate", GIVE_UP,                          \
	  "distribute the content to a distribution point of this boundary group") \
	X(NOT_USABLE, NO_LOCATION, "choose", GIVE_UP,                           \
	  "see agent --locate for the reason each source was refused")          \
	X(CLOUD_REFUSED, CLOUD_REFUSED, "choose", GIVE_UP,                      \
	  "allow it with [cloud] allow = yes and [sources] cloud = fallback, "  \
	  "or distribute the content on-premises")                              \
	X(DNS_NAME, DNS, "resolve", SOURCE, "the name cannot be a host name")   \
	X(DNS_NXDOMAIN, DNS, "resolve", SOURCE,                                 \
	  "check the name, and that [dns] server knows its zone")               \
	X(DNS_NODATA, DNS, "resolve", SOURCE,                                   \
	  "the name exists without an address: add an A or AAAA record")        \
	X(DNS_DANGLING, DNS, "resolve", SOURCE,                                 \
	  "the alias leads nowhere: was the cloud service deleted?")            \
	X(DNS_LOOP, DNS, "resolve", SOURCE, "correct the looping CNAME records") \
	X(DNS_HOPS, DNS, "resolve", SOURCE,                                     \
	  "shorten the alias chain or raise [dns] max_hops")                    \
	X(DNS_SERVER, DNS, "resolve", SAME,                                     \
	  "the name server is not well: ask its administrator")                 \
	X(DNS_TIMEOUT, DNS, "resolve", SAME,                                    \
	  "check [dns] server and the way to it (UDP and TCP port 53)")         \
	X(DNS_REPLY, DNS, "resolve", SOURCE,                                    \
	  "the name server's answer makes no sense: ask another one")           \
	X(DNS_SUFFIX, DNS, "resolve", SOURCE,                                   \
	  "the alias leads out of [cloud] suffix: correct DNS or the setting")  \
	X(DNS_ADDRESS, DNS, "resolve", SOURCE,                                  \
	  "the name leads to an address that a cloud service cannot have")      \
	X(TLS_CHAIN, TLS, "verify", SOURCE,                                     \
	  "see agent --verify-server; check [tls] ca_file")                     \
	X(TLS_NAME, TLS, "verify", SOURCE,                                      \
	  "the certificate is for another name: correct it or the location")    \
	X(TLS_TIME, TLS, "verify", SOURCE,                                      \
	  "renew the certificate; check this machine's clock")                  \
	X(TLS_REVOKED, TLS, "verify", SOURCE, "replace the revoked certificate") \
	X(TLS_REVOCATION, TLS, "verify", SOURCE,                                \
	  "give a fresh [tls] crl_file, or set revocation = off")               \
	X(TLS_HANDSHAKE, TLS, "verify", SOURCE,                                 \
	  "see agent --verify-server; TLS 1.2 or better is needed")             \
	X(TLS_CLIENT, TLS, "verify", SOURCE,                                    \
	  "check [client] certificate and key")                                 \
	X(CONNECT, TRANSFER, "connect", SAME,                                   \
	  "check that the host is up and no firewall is between")               \
	X(PROXY, TRANSFER, "connect", SOURCE, "check [proxy] url")              \
	X(STALLED, TRANSFER, "transfer", SAME,                                  \
	  "the source stopped sending: look at its load and the network")       \
	X(DEADLINE, TRANSFER, "transfer", SOURCE,                               \
	  "the source is too slow: look at its load and the network")           \
	X(BROKEN, TRANSFER, "transfer", SAME,                                   \
	  "the connection broke: the next run goes on where this one ended")    \
	X(HTTP, TRANSFER, "transfer", SOURCE,                                   \
	  "the server does not speak proper HTTP")                              \
	X(ABSENT, TRANSFER, "transfer", SOURCE,                                 \
	  "redistribute the content to this distribution point")                \
	X(DENIED, TRANSFER, "transfer", SOURCE,                                 \
	  "allow anonymous access, or check [client] certificate and token_file") \
	X(EXPIRED, TRANSFER, "transfer", RELOCATE,                              \
	  "the access token ran out: try again; check this machine's clock")    \
	X(STATUS, TRANSFER, "transfer", SOURCE,                                 \
	  "look into the server's log")                                         \
	X(SERVER, TRANSFER, "transfer", SAME, "look into the server's log")     \
	X(BUSY, TRANSFER, "transfer", WAIT, "try again later")                  \
	X(REDIRECT, TRANSFER, "transfer", SOURCE,                               \
	  "the server sends us where we may not go")                            \
	X(CHANGED, TRANSFER, "transfer", SAME,                                  \
	  "the file changed on the server during the transfer")                 \
	X(LENGTH, TRANSFER, "transfer", SAME,                                   \
	  "the server sent more or less than it announced")                     \
	X(LISTING, TRANSFER, "list", SOURCE,                                    \
	  "the source's list of files makes no sense: see agent --diagnose")    \
	X(NAME, TRANSFER, "list", SOURCE,                                       \
	  "the content holds a name that may not be a file name: rename it")    \
	X(LIMIT, TRANSFER, "transfer", SOURCE,                                  \
	  "the source sent more than any honest one would")                     \
	X(HASH, HASH, "check", SOURCE,                                          \
	  "redistribute the content, or correct the hash in policy")            \
	X(HASH_FILE, HASH, "check", SOURCE,                                     \
	  "redistribute the content to this source")                            \
	X(SIZE, HASH, "check", SOURCE,                                          \
	  "redistribute the content, or correct the size in policy")            \
	X(SPACE_DISK, SPACE, "reserve", GIVE_UP,                                \
	  "free disk space, or lower [cache] min_free")                         \
	X(SPACE_CACHE, SPACE, "reserve", GIVE_UP,                               \
	  "raise [cache] size, or run agent --cache trim")                      \
	X(FOLDER, STATE, "state", GIVE_UP,                                       \
	  "check owner, mode and disk of [cache] and [state] directory")        \
	X(NOT_ALLOWED, USAGE, "control", GIVE_UP,                               \
	  "only root or the agent's own user may do that")                      \
	X(SERVICE, STATE, "control", GIVE_UP,                                   \
	  "look at the service: systemctl status cloud-dp-agent")               \
	X(NOT_DUE, NOT_NOW, "due", GIVE_UP, "see agent --status for the time")  \
	X(WITHDRAWN, NOT_NOW, "due", GIVE_UP,                                   \
	  "policy no longer wants it: nothing to do")                           \
	X(LOCKED, NOT_NOW, "reserve", GIVE_UP,                                  \
	  "another agent works on this content: wait for it")                   \
	X(SIGINT, INTERRUPTED, "agent", GIVE_UP,                                \
	  "run it again: it goes on where it was stopped")                      \
	X(SIGTERM, TERMINATED, "agent", GIVE_UP,                                \
	  "run it again: it goes on where it was stopped")

enum err_code {
#define X(name, class, step, next, advice) ERR_##name,
	ERR_LIST(X)
#undef X
	ERR_COUNT
};

/*
 * An error with its story. Allocated by the caller, no heap; all zero is
 * "no error". `text` says what was tried, on what, and why it failed: lower
 * case, no full stop; untrusted parts in it are not yet escaped, whoever
 * prints it uses log_escape().
 */
struct err {
	enum err_code code;
	unsigned retry_after_s; /* what the server asked for, 0 = nothing */
	char text[512];
};

/*
 * Set *e and return its code, so that `return err_set(e, ...)` reads well.
 * e may be NULL. `%m` works. Keeps no pointer.
 */
enum err_code (err_set)(struct err *e, enum err_code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
#ifdef __clang_analyzer__
/* It does not see the body: without this it would go on where err_set(), called
 * with an error, returned ERR_OK. */
#define err_set(e, code, ...)                           \
	({                                              \
		enum err_code analyzed_ = (code);       \
		err_set((e), analyzed_, __VA_ARGS__);   \
		analyzed_;                              \
	})
#endif

/*
 * Put context in front: "context: old text". The code stays. Returns it
 * (ERR_INTERNAL where e is NULL: never OK, since it may be returned on).
 */
enum err_code err_prefix(struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Lookups in the table; any value of the enum is allowed. */
const char *err_name(enum err_code code);        /* "DNS_LOOP" */
const char *err_class_name(enum err_code code);  /* "DNS" */
int err_exit(enum err_code code);                /* 20 */
const char *err_step(enum err_code code);        /* "resolve" */
enum err_next err_next(enum err_code code);
const char *err_advice(enum err_code code);

#endif
