/*
 * What the stand-in management point and the stand-in cloud service share: the
 * command line, one HTTP(S) server, the log of requests, the script that makes them
 * misbehave. Nothing here is shared with the agent.
 */
#ifndef LAB_STANDIN_H
#define LAB_STANDIN_H

#include "buf.h"

#include <microhttpd.h>
#include <stdint.h>
#include <sys/types.h>

struct options {
	const char *program;
	const char *dir;
	const char *address;
	uint16_t port;                  /* 0 = a free one */
	const char *cert, *key;         /* PEM; NULL = plain HTTP */
	const char *client_ca;          /* PEM; NULL = no client is known */
	const char *token;              /* NULL = nobody has a token */
	char *token_name;               /* header that carries it */
	char *token_prefix;             /* word before it, "" = none */
};

struct request {
	const struct options *options;
	struct MHD_Connection *connection;
	char *uri;                      /* as it was sent */
	char *path;                     /* the part before the first '?', as sent */
	char *query;                    /* the part behind it, NULL = no '?' */
	const char *method;
	struct buf body;
	bool is_started;
	bool is_too_big;
	bool has_token;                 /* the token header was there */
	bool is_token_good;
	char *client_subject;           /* of the client's certificate, NULL = none */
	bool is_client_good;            /* signed by --client-ca, made for clients */
	struct buf violations;          /* JSON strings, comma separated */
	struct buf fields;              /* further JSON members, each begins with ',' */
};

enum { MAX_HEADERS = 16 };

struct reply {
	unsigned status;
	char reason[128];               /* "" = the usual words for `status` */
	char content_type[256];         /* "" = none is sent */
	char *headers[MAX_HEADERS];     /* "Name: value", owned */
	size_t n_headers;
	struct buf body;
	int fd;                         /* body is a piece of this file; -1 = `body` */
	uint64_t offset, size;          /* the piece */
	bool is_closed;                 /* end the connection without an answer */
	uint64_t cut;                   /* end it after so many bytes, 0 = never */
	unsigned delay_ms;
};

/* The program's part: fill `reply` for a complete request. Runs in a thread. */
void serve(struct request *q, struct reply *r);

/* Read the command line, serve until SIGTERM; returns the exit status. */
int standin_main(const char *program, int argc, char **argv);

/* A request header, NULL when it is absent. */
const char *request_header(const struct request *q, const char *name);
/* Value of a query parameter, percent-decoded and owned; NULL when absent. */
char *request_parameter(const struct request *q, const char *name);
/* Decode in place; false on a bad escape or a NUL. */
bool percent_decode(char *s);

/* Note what a lenient server would let pass, and protocol.md does not. */
void violation(struct request *q, const char *form, ...)
	__attribute__((format(printf, 2, 3)));
/* Add a member to the log line. */
void note(struct request *q, const char *name, const char *value);
void note_raw(struct request *q, const char *name, const char *json);

/* Add a whole line to DIR/`name`, in one write: lines never mix. */
void append_line(const char *dir, const char *name, const struct buf *line);

/* Answer with an error page; `why` goes to the log only. */
void refuse(struct request *q, struct reply *r, unsigned status, const char *reason,
	const char *form, ...) __attribute__((format(printf, 5, 6)));
void reply_header(struct reply *r, const char *form, ...)
	__attribute__((format(printf, 2, 3)));
/* The reason phrase it will have. */
const char *reply_reason(const struct reply *r);
/* Hand it to libmicrohttpd; takes what `r` owns. */
enum MHD_Result reply_send(struct request *q, struct reply *r);

/* Checks of HTTP itself that both programs make. */
void check_http(struct request *q);

#endif
