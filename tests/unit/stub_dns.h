#ifndef TESTS_UNIT_STUB_DNS_H
#define TESTS_UNIT_STUB_DNS_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A DNS message under construction; nothing in it is checked. */
struct msg {
	unsigned char at[65536];
	size_t len;
};
enum { T_A = 1, T_NS = 2, T_CNAME = 5, T_SOA = 6, T_TXT = 16, T_AAAA = 28 };
#define MSG_FLAGS 0x8180u /* answer, recursion desired and available */

void msg_u8(struct msg *m, unsigned v);
void msg_u16(struct msg *m, unsigned v);
void msg_u32(struct msg *m, uint32_t v);
void msg_bytes(struct msg *m, const void *bytes, size_t len);
void msg_name(struct msg *m, const char *text); /* labels uncompressed */
/* Header with one question. */
void msg_begin(struct msg *m, unsigned id, unsigned flags, const char *name,
	       unsigned type);
/* Add one to the count of a section: 6 answer, 8 authority, 10 additional. */
void msg_count(struct msg *m, size_t section);
void msg_head(struct msg *m, const char *owner, unsigned type, uint32_t ttl_s,
	      unsigned rdlength);
/* Whole records of the answer section; `data` an address or a name. */
void msg_record(struct msg *m, const char *owner, unsigned type,
		uint32_t ttl_s, const char *data);

/*
 * A name server on a loopback port, UDP and TCP, driven by the poll loop of the
 * test: no thread, no sleep.
 */
struct stub_record {
	const char *owner;
	unsigned type;
	const char *data;
	uint32_t ttl_s; /* 0 = 60 */
	bool has_no_ttl; /* really zero */
};

enum stub_mood {
	STUB_WHOLE,     /* the chain and its end, as a resolver would */
	STUB_BARE,      /* one step: CNAME alone */
	STUB_REVERSED,  /* the whole, addresses first */
	STUB_SILENT,
	STUB_SERVFAIL,
	STUB_REFUSED,
	STUB_FORMERR,
	STUB_NOTIMP,
	STUB_EMPTY,        /* NOERROR, nothing in it */
	STUB_REFERRAL,     /* NOERROR, NS of somebody else */
	STUB_NXDOMAIN,
	STUB_ZERO_BYTES,   /* an empty datagram, then the answer */
	STUB_SHORT,        /* five octets, then the answer */
	STUB_WRONG_ID,     /* only that */
	STUB_WRONG_QUESTION,
	STUB_WRONG_PORT,   /* the answer, from another socket */
	STUB_TWICE,        /* every answer two times */
	STUB_NO_ANSWER_BIT,
	STUB_CUT,          /* loses its last octet */
	STUB_NOISE,        /* the header, then 0xff to the end */
	STUB_MIXED,        /* whole, and addresses at the alias's owner too */
	STUB_STRANGER,     /* whole, and an address of 203.0.113.66 for evil.test */
	STUB_TWO_ALIASES,  /* the name is an alias of other.test as well */
	STUB_OTHER_ALIAS,  /* the name is an alias of other.test, and of that only */
	STUB_UPPER,        /* names of the answer in upper case */
	STUB_TRUNCATED,    /* TC over UDP, the whole over TCP */
	STUB_TCP_TRUNCATED, /* TC there too */
	STUB_TCP_DRIP,     /* TC; over TCP one octet a turn */
	STUB_TCP_SHORT,    /* TC; over TCP half the frame, then closed */
	STUB_TCP_HUGE,     /* TC; over TCP a length of 65535, then silence */
	STUB_TCP_CLOSED,   /* TC; over TCP closed at once */
};

struct stub {
	const struct stub_record *records;
	size_t record_count;
	enum stub_mood mood;
	enum stub_mood aaaa_mood; /* for AAAA, where it is not STUB_WHOLE */

	char address[64];         /* "127.0.0.1:12345\n" */
	unsigned asked, asked_tcp; /* questions that came */
	char last_name[256];

	int udp, other, listener, tcp;
	unsigned char in[600], out[65538];
	size_t in_len, out_len, out_at;
	bool close_after;
};

void stub_open(struct stub *s, const struct stub_record *records, size_t count);
void stub_close(struct stub *s);
unsigned stub_poll_fds(const struct stub *s, struct pollfd *fds);
void stub_process(struct stub *s);

#endif
