#include "tests/unit/stub_dns.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

void msg_bytes(struct msg *m, const void *bytes, size_t len)
{
	if (sizeof(m->at) - m->len < len)
		abort();
	memcpy(m->at + m->len, bytes, len);
	m->len += len;
}

void msg_u8(struct msg *m, unsigned v)
{
	unsigned char byte = (unsigned char)v;
	msg_bytes(m, &byte, 1);
}

void msg_u16(struct msg *m, unsigned v)
{
	msg_u8(m, v >> 8 & 0xff);
	msg_u8(m, v & 0xff);
}

void msg_u32(struct msg *m, uint32_t v)
{
	msg_u16(m, v >> 16);
	msg_u16(m, v & 0xffff);
}

void msg_name(struct msg *m, const char *text)
{
	while (*text && strcmp(text, ".") != 0) {
		size_t n = strcspn(text, ".");
		msg_u8(m, (unsigned)n);
		msg_bytes(m, text, n);
		text += n + (text[n] == '.');
	}
	msg_u8(m, 0);
}

void msg_begin(struct msg *m, unsigned id, unsigned flags, const char *name,
	       unsigned type)
{
	m->len = 0;
	msg_u16(m, id);
	msg_u16(m, flags);
	msg_u16(m, 1);
	msg_u16(m, 0);
	msg_u32(m, 0);
	msg_name(m, name);
	msg_u16(m, type);
	msg_u16(m, 1);
}

void msg_count(struct msg *m, size_t section)
{
	unsigned n = ((unsigned)m->at[section] << 8 | m->at[section + 1]) + 1;
	m->at[section] = (unsigned char)(n >> 8);
	m->at[section + 1] = (unsigned char)n;
}

void msg_head(struct msg *m, const char *owner, unsigned type, uint32_t ttl_s,
	      unsigned rdlength)
{
	msg_name(m, owner);
	msg_u16(m, type);
	msg_u16(m, 1);
	msg_u32(m, ttl_s);
	msg_u16(m, rdlength);
}

void msg_record(struct msg *m, const char *owner, unsigned type,
		uint32_t ttl_s, const char *data)
{
	unsigned char bytes[16];
	msg_count(m, 6);
	if (type == T_A || type == T_AAAA) {
		if (inet_pton(type == T_A ? AF_INET : AF_INET6, data, bytes) != 1)
			abort();
		msg_head(m, owner, type, ttl_s, type == T_A ? 4 : 16);
		msg_bytes(m, bytes, type == T_A ? 4 : 16);
		return;
	}
	struct msg name = { .len = 0 };
	msg_name(&name, data);
	msg_head(m, owner, type, ttl_s, (unsigned)name.len);
	msg_bytes(m, name.at, name.len);
}

/* -- what it answers ------------------------------------------------------- */

struct question {
	unsigned id, type;
	char name[256];
};

static bool read_question(const unsigned char *at, size_t len, struct question *q)
{
	size_t pos = 12, n = 0;
	if (len < 17)
		return false;
	q->id = (unsigned)at[0] << 8 | at[1];
	while (pos < len && at[pos]) {
		size_t label = at[pos++];
		if (label > 63 || len - pos < label || n + label + 2 > 256)
			return false;
		if (n)
			q->name[n++] = '.';
		memcpy(q->name + n, at + pos, label);
		n += label;
		pos += label;
	}
	q->name[n] = '\0';
	if (len - pos < 5)
		return false;
	q->type = (unsigned)at[pos + 1] << 8 | at[pos + 2];
	return true;
}

static void add(struct msg *m, const struct stub_record *r, bool is_upper)
{
	char owner[256];
	snprintf(owner, sizeof(owner), "%s", r->owner);
	for (char *c = owner; is_upper && *c; c++)
		*c = (char)toupper((unsigned char)*c);
	msg_record(m, owner, r->type, r->has_no_ttl ? 0 : r->ttl_s ? r->ttl_s : 60,
		   r->data);
}

static const struct stub_record *alias_of(const struct stub *s, const char *name)
{
	for (size_t i = 0; i < s->record_count; i++)
		if (s->records[i].type == T_CNAME &&
		    strcasecmp(s->records[i].owner, name) == 0)
			return &s->records[i];
	return NULL;
}

/* Adds the addresses of `name`; true when the name exists at all. */
static bool add_end(const struct stub *s, struct msg *m, const char *name,
		    unsigned type, bool is_upper)
{
	bool exists = false;
	for (size_t i = 0; i < s->record_count; i++) {
		const struct stub_record *r = &s->records[i];
		if (r->type == T_CNAME || strcasecmp(r->owner, name) != 0)
			continue;
		exists = true;
		if (r->type == type)
			add(m, r, is_upper);
	}
	return exists;
}

static void add_answer(const struct stub *s, enum stub_mood mood, struct msg *m,
		       const struct question *q)
{
	const struct stub_record *chain[20];
	size_t n = 0;
	const char *name = q->name;
	bool is_upper = mood == STUB_UPPER, exists = true;
	while (n < 20 && (chain[n] = alias_of(s, name)) != NULL)
		name = chain[n++]->data;
	if (mood == STUB_OTHER_ALIAS || mood == STUB_TWO_ALIASES)
		msg_record(m, q->name, T_CNAME, 60, "other.test");
	if (mood == STUB_OTHER_ALIAS) {
		add_end(s, m, "other.test", q->type, false);
		return;
	}
	if (mood == STUB_STRANGER && q->type == T_A)
		msg_record(m, "evil.test", T_A, 60, "203.0.113.66");
	if (mood == STUB_MIXED && n > 0)
		add_end(s, m, q->name, q->type, false);
	if (mood == STUB_BARE && n > 0) {
		add(m, chain[0], is_upper);
		return;
	}
	if (mood == STUB_REVERSED)
		exists = add_end(s, m, name, q->type, is_upper);
	for (size_t i = 0; i < n; i++)
		add(m, chain[mood == STUB_REVERSED ? n - 1 - i : i], is_upper);
	if (mood != STUB_REVERSED && n < 20)
		exists = add_end(s, m, name, q->type, is_upper);
	if (!exists)
		m->at[3] |= 3; /* NXDOMAIN, with the aliases that lead there */
}

static unsigned rcode_of(enum stub_mood mood)
{
	return mood == STUB_SERVFAIL ? 2 : mood == STUB_REFUSED ? 5 :
	       mood == STUB_FORMERR  ? 1 : mood == STUB_NOTIMP  ? 4 :
	       mood == STUB_NXDOMAIN ? 3 : 0;
}

static void build(const struct stub *s, enum stub_mood mood, bool is_tcp,
		  const struct question *q, struct msg *m)
{
	bool is_cut_short = mood == STUB_TCP_TRUNCATED ||
			    (mood >= STUB_TRUNCATED && !is_tcp);
	unsigned flags = MSG_FLAGS | rcode_of(mood) | (is_cut_short ? 0x0200u : 0);
	if (mood == STUB_NO_ANSWER_BIT)
		flags &= 0x7fffu;
	if (mood == STUB_REFERRAL)
		flags &= ~0x0080u;
	msg_begin(m, q->id ^ (mood == STUB_WRONG_ID), flags,
		  mood == STUB_WRONG_QUESTION ? "other.test" : q->name, q->type);
	if (mood == STUB_REFERRAL) {
		msg_count(m, 8);
		msg_head(m, "test", T_NS, 60, 4);
		msg_name(m, "ns");
	}
	if (rcode_of(mood) || is_cut_short || mood == STUB_EMPTY ||
	    mood == STUB_REFERRAL)
		return;
	add_answer(s, mood, m, q);
	if (mood == STUB_CUT)
		m->len--;
	if (mood == STUB_NOISE)
		memset(m->at + 12 + strlen(q->name) + 6, 0xff,
		       m->len - 12 - strlen(q->name) - 6);
}

static enum stub_mood mood_for(const struct stub *s, const struct question *q)
{
	return q->type == T_AAAA && s->aaaa_mood != STUB_WHOLE ? s->aaaa_mood :
								 s->mood;
}

/* -- sockets --------------------------------------------------------------- */

static void answer_udp(struct stub *s)
{
	unsigned char in[600];
	struct sockaddr_in from;
	socklen_t size = sizeof(from);
	struct question q;
	static struct msg m;
	ssize_t n;
	while ((n = recvfrom(s->udp, in, sizeof(in), MSG_DONTWAIT,
			     (struct sockaddr *)&from, &size)) >= 0) {
		if (!read_question(in, (size_t)n, &q))
			continue;
		s->asked++;
		snprintf(s->last_name, sizeof(s->last_name), "%s", q.name);
		enum stub_mood mood = mood_for(s, &q);
		if (mood == STUB_SILENT)
			continue;
		build(s, mood, false, &q, &m);
		int fd = mood == STUB_WRONG_PORT ? s->other : s->udp;
		if (mood == STUB_ZERO_BYTES || mood == STUB_SHORT)
			sendto(fd, m.at, mood == STUB_SHORT ? 5 : 0, 0,
			       (struct sockaddr *)&from, size);
		for (int k = 0; k < (mood == STUB_TWICE ? 2 : 1); k++)
			sendto(fd, m.at, m.len, 0, (struct sockaddr *)&from, size);
	}
}

static void close_tcp(struct stub *s)
{
	if (s->tcp >= 0)
		close(s->tcp);
	s->tcp = -1;
	s->in_len = s->out_len = s->out_at = 0;
	s->close_after = false;
}

static void answer_tcp(struct stub *s, const struct question *q)
{
	static struct msg m;
	enum stub_mood mood = mood_for(s, q);
	s->asked_tcp++;
	build(s, mood, true, q, &m);
	size_t length = mood == STUB_TCP_HUGE ? 65535 : m.len;
	s->out[0] = (unsigned char)(length >> 8);
	s->out[1] = (unsigned char)length;
	memcpy(s->out + 2, m.at, m.len);
	s->out_len = mood == STUB_TCP_CLOSED ? 0 :
		     mood == STUB_TCP_SHORT  ? m.len / 2 : m.len + 2;
	s->out_at = 0;
	s->close_after = mood == STUB_TCP_SHORT || mood == STUB_TCP_CLOSED;
}

static void turn_tcp(struct stub *s)
{
	struct question q;
	if (s->tcp < 0)
		s->tcp = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK);
	if (s->tcp < 0)
		return;
	ssize_t n = recv(s->tcp, s->in + s->in_len, sizeof(s->in) - s->in_len, 0);
	if (n == 0) {
		close_tcp(s);
		return;
	}
	if (n > 0)
		s->in_len += (size_t)n;
	size_t frame = s->in_len < 2 ? 0 : (size_t)s->in[0] << 8 | s->in[1];
	if (s->out_at == s->out_len && frame && s->in_len >= frame + 2 &&
	    read_question(s->in + 2, frame, &q)) {
		answer_tcp(s, &q);
		memmove(s->in, s->in + frame + 2, s->in_len - frame - 2);
		s->in_len -= frame + 2;
	}
	size_t left = s->out_len - s->out_at;
	bool drips = s->mood == STUB_TCP_DRIP && left > 1;
	n = left ? send(s->tcp, s->out + s->out_at, drips ? 1 : left,
			MSG_NOSIGNAL) : 0;
	if (n > 0)
		s->out_at += (size_t)n;
	if (s->close_after && s->out_at == s->out_len)
		close_tcp(s);
}

static int open_socket(int kind, uint16_t *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons(*port),
				 .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t size = sizeof(a);
	int fd = socket(AF_INET, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, size) < 0) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	getsockname(fd, (struct sockaddr *)&a, &size);
	*port = ntohs(a.sin_port);
	return fd;
}

void stub_open(struct stub *s, const struct stub_record *records, size_t count)
{
	uint16_t port = 0, other = 0;
	*s = (struct stub){ .records = records, .record_count = count, .udp = -1,
			    .listener = -1, .tcp = -1 };
	/* The TCP port of the same number may be taken: then another pair. */
	for (int i = 0; i < 20 && s->udp < 0; i++, port = 0) {
		s->listener = open_socket(SOCK_STREAM, &port);
		s->udp = open_socket(SOCK_DGRAM, &port);
		if (s->udp >= 0)
			break;
		close(s->listener);
	}
	s->other = open_socket(SOCK_DGRAM, &other);
	if (s->udp < 0 || s->other < 0 || listen(s->listener, 4) < 0)
		abort();
	snprintf(s->address, sizeof(s->address), "127.0.0.1:%u\n", port);
}

void stub_close(struct stub *s)
{
	close_tcp(s);
	close(s->udp);
	close(s->other);
	close(s->listener);
}

unsigned stub_poll_fds(const struct stub *s, struct pollfd *fds)
{
	bool writes = s->out_at < s->out_len;
	fds[0] = (struct pollfd){ .fd = s->udp, .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = s->listener, .events = POLLIN };
	fds[2] = (struct pollfd){ .fd = s->tcp,
				  .events = (short)(POLLIN |
						    (writes ? POLLOUT : 0)) };
	return 3;
}

void stub_process(struct stub *s)
{
	answer_udp(s);
	turn_tcp(s);
}
