#include "agent/net/dnsmsg.h"

#include "common/url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <strings.h>

#define HEADER_SIZE 12
#define LABEL_MAX 63
#define NAME_MAX_OCTETS 255
/* Each octet of a name is at most "\255" in text. */
#define NAME_TEXT_SIZE (NAME_MAX_OCTETS * 4 + 1)

#define FLAG_QR 0x8000u
#define FLAGS_OPCODE 0x7800u
#define FLAG_AA 0x0400u
#define FLAG_TC 0x0200u
#define FLAG_RA 0x0080u
#define FLAGS_RCODE 0x000fu

enum { CLASS_IN = 1, TYPE_NS = 2, TYPE_SOA = 6 };
enum { RCODE_NOERROR = 0, RCODE_NXDOMAIN = 3 };

struct reader {
	const unsigned char *at;
	size_t len, pos; /* pos <= len */
};

struct header {
	unsigned flags, questions, answers, authorities;
};

/* A resource record whose data was not looked into yet. */
struct raw {
	char owner[NAME_TEXT_SIZE];
	unsigned type, class;
	uint32_t ttl_s;
	size_t data, length; /* of the data: offset in the message, octets */
};

const char *dnsmsg_type_name(enum dns_type type)
{
	switch (type) {
	case DNS_A:
		return "A";
	case DNS_AAAA:
		return "AAAA";
	case DNS_CNAME:
		return "CNAME";
	}
	return "?";
}

static bool read_u16(struct reader *r, unsigned *out)
{
	if (r->len - r->pos < 2)
		return false;
	*out = (unsigned)r->at[r->pos] << 8 | r->at[r->pos + 1];
	r->pos += 2;
	return true;
}

/* Presentation form, RFC 1035 s5.1: what is no letter of a host name cannot be
 * mistaken for one, whatever octets a label holds. */
static size_t print_label(const unsigned char *label, size_t len, char *out)
{
	size_t n = 0;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = label[i];
		if (c == '.' || c == '\\') {
			out[n++] = '\\';
			out[n++] = (char)c;
		} else if (c > ' ' && c < 0x7f) {
			out[n++] = (char)c;
		} else {
			out[n++] = '\\';
			out[n++] = (char)('0' + c / 100);
			out[n++] = (char)('0' + c / 10 % 10);
			out[n++] = (char)('0' + c % 10);
		}
	}
	return n;
}

/*
 * Read a name at r->pos, step behind it. Every pointer must lead before the
 * place where the run of labels that holds it began: so it ends, and cannot
 * meet itself. Returns NULL, or what is wrong.
 */
static const char *read_name(struct reader *r, char out[NAME_TEXT_SIZE])
{
	size_t pos = r->pos, run = r->pos, octets = 1, n = 0;
	bool has_jumped = false;
	for (;;) {
		if (pos >= r->len)
			return "a name runs past the end";
		unsigned length = r->at[pos++];
		if (length >= 0xc0) {
			if (pos >= r->len)
				return "a name runs past the end";
			size_t to = (size_t)(length & 0x3f) << 8 | r->at[pos++];
			if (to < HEADER_SIZE || to >= run)
				return "a compression pointer does not lead back";
			if (!has_jumped)
				r->pos = pos;
			has_jumped = true;
			pos = run = to;
			continue;
		}
		if (length > LABEL_MAX)
			return "a label of unknown kind";
		if (length == 0)
			break;
		if (r->len - pos < length)
			return "a name runs past the end";
		octets += length + 1;
		if (octets > NAME_MAX_OCTETS)
			return "a name of more than 255 octets";
		if (n)
			out[n++] = '.';
		n += print_label(r->at + pos, length, out + n);
		pos += length;
	}
	if (!has_jumped)
		r->pos = pos;
	if (n == 0)
		out[n++] = '.'; /* the root */
	out[n] = '\0';
	return NULL;
}

static bool read_header(struct reader *r, struct header *h)
{
	unsigned id, additional;
	return read_u16(r, &id) && read_u16(r, &h->flags) &&
	       read_u16(r, &h->questions) && read_u16(r, &h->answers) &&
	       read_u16(r, &h->authorities) && read_u16(r, &additional);
}

static const char *read_raw(struct reader *r, struct raw *out)
{
	const char *wrong = read_name(r, out->owner);
	unsigned high, low, length;
	if (wrong)
		return wrong;
	if (!read_u16(r, &out->type) || !read_u16(r, &out->class) ||
	    !read_u16(r, &high) || !read_u16(r, &low) || !read_u16(r, &length))
		return "a record runs past the end";
	if (r->len - r->pos < length)
		return "a record's data runs past the end";
	/* With the highest bit set it counts as zero (RFC 2181 s8). */
	out->ttl_s = high & 0x8000u ? 0 : (uint32_t)high << 16 | low;
	out->data = r->pos;
	out->length = length;
	r->pos += length;
	return NULL;
}

static enum err_code check_question(struct reader *r,
				    const struct dns_question *asked, struct err *e)
{
	char name[NAME_TEXT_SIZE];
	unsigned type, class;
	const char *wrong = read_name(r, name);
	if (wrong)
		return err_set(e, ERR_DNS_REPLY, "question: %s", wrong);
	if (!read_u16(r, &type) || !read_u16(r, &class))
		return err_set(e, ERR_DNS_REPLY, "the question runs past the end");
	if (class != CLASS_IN ||
	    (asked && (type != (unsigned)asked->type ||
		       strcasecmp(name, asked->name) != 0)))
		return err_set(e, ERR_DNS_REPLY,
			       "another question is answered: %.200s, type %u, "
			       "class %u", name, type, class);
	return ERR_OK;
}

static enum err_code take_target(const struct reader *r, const struct raw *raw,
				 struct dns_record *out, struct err *e)
{
	char target[NAME_TEXT_SIZE];
	struct reader data = *r;
	data.pos = raw->data;
	const char *wrong = read_name(&data, target);
	if (wrong)
		return err_set(e, ERR_DNS_REPLY, "CNAME of %s: %s", out->owner,
			       wrong);
	if (data.pos != raw->data + raw->length)
		return err_set(e, ERR_DNS_REPLY,
			       "CNAME of %s: name and length differ", out->owner);
	/* What others wrote into DNS must not reach a log, a lock or a shell
	 * as anything but a host name (CVE-2021-3672). */
	if (!url_is_hostname(span_of(target)))
		return err_set(e, ERR_DNS_REPLY, "%.120s is an alias of %.300s, "
			       "which is no host name", out->owner, target);
	for (size_t i = 0; i <= strlen(target); i++)
		out->target[i] = (char)tolower((unsigned char)target[i]);
	return ERR_OK;
}

static enum err_code take_address(const struct reader *r, const struct raw *raw,
				  struct dns_record *out, struct err *e)
{
	bool is_v6 = out->type == DNS_AAAA;
	if (raw->length != (is_v6 ? 16u : 4u))
		return err_set(e, ERR_DNS_REPLY, "%s record of %s with %zu octets",
			       dnsmsg_type_name(out->type), out->owner,
			       raw->length);
	inet_ntop(is_v6 ? AF_INET6 : AF_INET, r->at + raw->data, out->address,
		  sizeof(out->address));
	return ERR_OK;
}

/* One record of the answer section; other types than ours add nothing. */
static enum err_code take_record(struct reader *r, struct dns_records *out,
				 struct err *e)
{
	struct raw raw;
	const char *wrong = read_raw(r, &raw);
	if (wrong)
		return err_set(e, ERR_DNS_REPLY, "%s", wrong);
	if (raw.type != DNS_A && raw.type != DNS_AAAA && raw.type != DNS_CNAME)
		return ERR_OK;
	if (raw.class != CLASS_IN)
		return err_set(e, ERR_DNS_REPLY, "a record of class %u", raw.class);
	if (!url_is_hostname(span_of(raw.owner)))
		return err_set(e, ERR_DNS_REPLY,
			       "a record of %.300s, which is no host name",
			       raw.owner);
	if (out->count == out->room)
		return err_set(e, ERR_DNS_REPLY, "more than %u records", out->room);
	struct dns_record *record = &out->at[out->count];
	*record = (struct dns_record){ .type = (enum dns_type)raw.type,
				       .ttl_s = raw.ttl_s };
	snprintf(record->owner, sizeof(record->owner), "%s", raw.owner);
	enum err_code rc = record->type == DNS_CNAME ?
				   take_target(r, &raw, record, e) :
				   take_address(r, &raw, record, e);
	if (rc == ERR_OK)
		out->count++;
	return rc;
}

/*
 * An answer without records that only points to other servers comes from one
 * that neither knows the name nor asks for us (RFC 2308 s2.2: NS without SOA).
 */
static enum err_code check_referral(struct reader *r, const struct header *h,
				    struct err *e)
{
	struct raw raw;
	bool has_ns = false, has_soa = false;
	if (h->answers || h->flags & (FLAG_AA | FLAG_RA | FLAGS_RCODE))
		return ERR_OK;
	for (unsigned i = 0; i < h->authorities && i < DNS_RECORDS_MAX; i++) {
		const char *wrong = read_raw(r, &raw);
		if (wrong)
			return err_set(e, ERR_DNS_REPLY, "%s", wrong);
		has_ns |= raw.type == TYPE_NS;
		has_soa |= raw.type == TYPE_SOA;
	}
	if (has_ns && !has_soa)
		return err_set(e, ERR_DNS_SERVER, "a referral to other servers");
	return ERR_OK;
}

static enum err_code check_code(const struct header *h, struct err *e)
{
	static const char *const names[16] = {
		[1] = "FORMERR", [2] = "SERVFAIL", [3] = "NXDOMAIN",
		[4] = "NOTIMP", [5] = "REFUSED", [6] = "YXDOMAIN",
		[7] = "YXRRSET", [8] = "NXRRSET", [9] = "NOTAUTH",
		[10] = "NOTZONE",
	};
	unsigned rcode = h->flags & FLAGS_RCODE;
	if (rcode == RCODE_NOERROR || rcode == RCODE_NXDOMAIN)
		return ERR_OK;
	if (names[rcode])
		return err_set(e, ERR_DNS_SERVER, "%s", names[rcode]);
	return err_set(e, ERR_DNS_SERVER, "response code %u", rcode);
}

static enum err_code check_header(const struct header *h, unsigned room,
				  struct err *e)
{
	if (!(h->flags & FLAG_QR) || h->flags & FLAGS_OPCODE || h->questions != 1)
		return err_set(e, ERR_DNS_REPLY, "no answer to a query");
	if (h->answers > room)
		return err_set(e, ERR_DNS_REPLY, "%u records, more than %u",
			       h->answers, room);
	return ERR_OK;
}

enum err_code dnsmsg_parse(struct span message, const struct dns_question *asked,
			   struct dns_records *out, struct err *e)
{
	struct reader r = { (const unsigned char *)message.at, message.len, 0 };
	struct header h = { 0 };
	enum err_code rc;
	out->count = 0;
	if (!read_header(&r, &h))
		return err_set(e, ERR_DNS_REPLY, "only %zu octets", message.len);
	if ((rc = check_header(&h, out->room, e)) != ERR_OK ||
	    (rc = check_question(&r, asked, e)) != ERR_OK ||
	    (rc = check_code(&h, e)) != ERR_OK)
		return rc;
	/* The caller asked over TCP where UDP was too short (RFC 2181 s9). */
	if (h.flags & FLAG_TC)
		return err_set(e, ERR_DNS_REPLY, "truncated, over TCP too");
	for (unsigned i = 0; i < h.answers; i++)
		if ((rc = take_record(&r, out, e)) != ERR_OK) {
			out->count = 0;
			return rc;
		}
	if ((rc = check_referral(&r, &h, e)) != ERR_OK)
		return rc;
	if ((h.flags & FLAGS_RCODE) == RCODE_NXDOMAIN)
		return err_set(e, ERR_DNS_NXDOMAIN, "NXDOMAIN");
	return ERR_OK;
}
