#ifndef AGENT_NET_DNSMSG_H
#define AGENT_NET_DNSMSG_H

#include "common/err.h"
#include "common/span.h"

#include <stdint.h>

/*
 * One DNS message, as a name server sent it, read strictly. No library, no
 * recursion, no memory of its own: made to be fuzzed.
 */
enum dns_type { DNS_A = 1, DNS_CNAME = 5, DNS_AAAA = 28 };

struct dns_question {
	const char *name; /* without trailing dot */
	enum dns_type type;
};

struct dns_record {
	enum dns_type type;
	char owner[256];  /* without trailing dot, as in the answer */
	char target[256]; /* CNAME: checked to be a host name, lower case */
	char address[46]; /* A, AAAA: text */
	uint32_t ttl_s;
};
#define DNS_RECORDS_MAX 256 /* more than that: DNS_REPLY */

struct dns_records {
	struct dns_record *at; /* room for `room`, owned by the caller */
	unsigned room;
	unsigned count;        /* set by dnsmsg_parse(); 0 where it fails */
};

const char *dnsmsg_type_name(enum dns_type type); /* "A", "AAAA", "CNAME" */

/*
 * Check header and question, and take the A, AAAA and CNAME records out of the
 * answer section, in the order in which they stand there. Other types are
 * skipped, other sections are not read (but for a referral).
 *
 * asked   what the question must repeat, letter case aside; NULL = any one
 * Errors  DNS_NXDOMAIN with the records that stand before it (RFC 6604 s3),
 *         DNS_SERVER for every other response code and for a referral,
 *         DNS_REPLY: names, pointers, lengths, counts, classes, an owner or a
 *         target that is no host name, more records than there is room
 * The text says what was found, not where: the caller puts that in front.
 * Source  RFC 1035 s4.1 (format), s4.1.4 (compression, here strictly
 *         backwards), s2.3.4 (limits); RFC 2181 s5, s8; RFC 2308 s2.2
 */
enum err_code dnsmsg_parse(struct span message, const struct dns_question *asked,
			   struct dns_records *out, struct err *e);

#endif
