#include "agent/wire.h"

#include <assert.h>
#include <endian.h>
#include <string.h>
#include <unistd.h>

struct field {
	const char *name;
	uint64_t max; /* greatest number, or longest text in bytes */
	bool is_text;
};

#define WIRE_U(field, max) { #field, max, false },
#define WIRE_S(field, max) { #field, max, true },
#define M(name, NAME) \
	static const struct field fields_##name[] = { \
		WIRE_FIELDS_##name(WIRE_U, WIRE_S) \
	};
WIRE_MESSAGES(M)
#undef M
#undef WIRE_U
#undef WIRE_S

static const struct {
	const char *name;
	const struct field *fields;
	size_t count;
} table[WIRE_TYPE_COUNT] = {
#define M(n, NAME) \
	[WIRE_##NAME] = { #NAME, fields_##n, \
			  sizeof(fields_##n) / sizeof(fields_##n[0]) },
	WIRE_MESSAGES(M)
#undef M
};

/*
 * Fields are either a uint64_t or a struct span, both aligned to 8 without
 * padding between them, so that a struct can be walked by its table alone.
 */
static_assert(sizeof(struct span) == 16 && _Alignof(struct span) == 8 &&
	      sizeof(uint64_t) == 8, "message structs are walked by these sizes");

const char *wire_name(enum wire_type type)
{
	if (type <= WIRE_NONE || type >= WIRE_TYPE_COUNT)
		return "unknown";
	return table[type].name;
}

enum err_code wire_encode(enum wire_type type, const void *fields, char *bytes,
			  size_t size, size_t *len, struct err *e)
{
	const char *from = fields;
	size_t at = 4;
	uint32_t type_le = htole32((uint32_t)type);
	if (size < at || type <= WIRE_NONE || type >= WIRE_TYPE_COUNT)
		return err_set(e, ERR_INTERNAL, "no message of type %d", type);
	memcpy(bytes, &type_le, 4);
	for (size_t i = 0; i < table[type].count; i++) {
		const struct field *f = &table[type].fields[i];
		if (f->is_text) {
			struct span s;
			memcpy(&s, from, sizeof(s));
			from += sizeof(s);
			if (s.len > f->max)
				s.len = f->max;
			const char *nul = s.len ? memchr(s.at, 0, s.len) : NULL;
			if (nul)
				s.len = (size_t)(nul - s.at);
			uint32_t n = htole32((uint32_t)s.len);
			if (size - at < 4 + s.len)
				return err_set(e, ERR_INTERNAL,
					       "message %s is too long at %s",
					       table[type].name, f->name);
			memcpy(bytes + at, &n, 4);
			if (s.len)
				memcpy(bytes + at + 4, s.at, s.len);
			at += 4 + s.len;
		} else {
			uint64_t v, n;
			memcpy(&v, from, sizeof(v));
			from += sizeof(v);
			if (v > f->max || size - at < 8)
				return err_set(e, ERR_INTERNAL,
					       "message %s: %s is out of range",
					       table[type].name, f->name);
			n = htole64(v);
			memcpy(bytes + at, &n, 8);
			at += 8;
		}
	}
	*len = at;
	return ERR_OK;
}

static enum err_code lie(struct err *e, const struct wire_msg *m, const char *field,
			 const char *why)
{
	return err_set(e, ERR_NET_LIED, "message %s: %s %s", wire_name(m->type),
		       field, why);
}

/* The message at m->at, which moves behind it. */
static enum err_code decode_next(struct wire_msg *m, struct err *e)
{
	uint32_t type;
	size_t at = m->at, len = m->len;
	if (len - at < 4)
		return err_set(e, ERR_NET_LIED, "message of %zu bytes", len - at);
	memcpy(&type, m->bytes + at, 4);
	type = le32toh(type);
	if (type == WIRE_NONE || type >= WIRE_TYPE_COUNT)
		return err_set(e, ERR_NET_LIED, "message of unknown type %u", type);
	m->type = (enum wire_type)type;
	at += 4;
	char *to = (char *)&m->config; /* the union begins here */
	for (size_t i = 0; i < table[type].count; i++) {
		const struct field *f = &table[type].fields[i];
		if (f->is_text) {
			uint32_t n;
			if (len - at < 4)
				return lie(e, m, f->name, "is missing");
			memcpy(&n, m->bytes + at, 4);
			n = le32toh(n);
			at += 4;
			if (n > f->max || n > len - at)
				return lie(e, m, f->name, "is too long");
			if (n && memchr(m->bytes + at, 0, n))
				return lie(e, m, f->name, "holds a NUL");
			struct span s = { m->bytes + at, n };
			memcpy(to, &s, sizeof(s));
			to += sizeof(s);
			at += n;
		} else {
			uint64_t v;
			if (len - at < 8)
				return lie(e, m, f->name, "is missing");
			memcpy(&v, m->bytes + at, 8);
			v = le64toh(v);
			at += 8;
			if (v > f->max)
				return lie(e, m, f->name, "is out of range");
			memcpy(to, &v, sizeof(v));
			to += sizeof(v);
		}
	}
	m->at = at;
	return ERR_OK;
}

enum err_code wire_decode(struct wire_msg *m, size_t len, struct err *e)
{
	m->at = 0;
	m->len = len;
	enum err_code rc = decode_next(m, e);
	if (rc == ERR_OK && wire_has_more(m))
		rc = lie(e, m, "end", "is not where it should be");
	m->at = m->len = 0;
	return rc;
}

enum err_code wire_send(int sock, enum wire_type type, const void *fields,
			int fd, struct err *e)
{
	char bytes[FRAME_MAX];
	size_t len = 0;
	enum err_code rc = wire_encode(type, fields, bytes, sizeof(bytes), &len, e);
	if (rc != ERR_OK)
		return rc;
	return frame_send(sock, bytes, len, fd, e);
}

enum err_code wire_put(struct wire_out *o, enum wire_type type, const void *fields,
		       struct err *e)
{
	size_t len = 0;
	struct err full = { 0 };
	/* a frame that others began may have no room for this one */
	if (o->len && wire_encode(type, fields, o->bytes + o->len,
				  sizeof(o->bytes) - o->len, &len, &full) == ERR_OK) {
		o->len += len;
		return ERR_OK;
	}
	enum err_code rc = wire_flush(o, e);
	if (rc == ERR_OK)
		rc = wire_encode(type, fields, o->bytes, sizeof(o->bytes), &o->len, e);
	return rc;
}

enum err_code wire_flush(struct wire_out *o, struct err *e)
{
	size_t len = o->len;
	o->len = 0;
	return len ? frame_send(o->sock, o->bytes, len, -1, e) : ERR_OK;
}

static enum err_code receive_frame(int sock, int wait, struct wire_msg *out,
				   struct err *e)
{
	out->at = out->len = 0;
	enum err_code rc = frame_receive(sock, wait, out->bytes, sizeof(out->bytes),
					 &out->len, &out->fd, e);
	if (rc != ERR_OK || out->len == 0)
		return rc;
	rc = decode_next(out, e);
	if (rc == ERR_OK && out->fd >= 0 &&
	    (out->type != WIRE_FILE || wire_has_more(out)))
		rc = err_set(e, ERR_NET_LIED, "message %s carries a descriptor",
			     wire_name(out->type));
	if (rc != ERR_OK && out->fd >= 0) {
		close(out->fd);
		out->fd = -1;
	}
	return rc;
}

enum err_code wire_receive(int sock, int wait, struct wire_msg *out,
			   struct err *e)
{
	out->type = WIRE_NONE;
	out->fd = -1;
	enum err_code rc = wire_has_more(out) ? decode_next(out, e) :
						receive_frame(sock, wait, out, e);
	if (rc != ERR_OK)
		out->at = out->len = 0;
	return rc;
}
