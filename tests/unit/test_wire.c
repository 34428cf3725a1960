#include "tests/unit/test.h"

#include "agent/wire.h"
#include "common/own.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The same table once more, so that each message is tried by its fields. */
struct field {
	const char *name;
	uint64_t max;
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

static const struct {
	const struct field *fields;
	size_t count, size;
} table[WIRE_TYPE_COUNT] = {
#define M(n, NAME) \
	[WIRE_##NAME] = { fields_##n, sizeof(fields_##n) / sizeof(fields_##n[0]), \
			  sizeof(struct wire_##n) },
	WIRE_MESSAGES(M)
#undef M
};

#define FIELDS_MAX 32

/* What the fields of a message hold, aside from its struct. */
union value {
	uint64_t number;
	struct span text;
};

static char letters[FRAME_MAX];
static struct wire_msg msg; /* large */

static void fill_letters(void)
{
	for (size_t i = 0; i < sizeof(letters); i++)
		letters[i] = (char)('a' + i % 26);
}

/* Write values as the C compiler lays the struct out. */
static void *make_struct(enum wire_type type, const union value *values)
{
	char *fields = calloc(1, table[type].size + 1), *to = fields;
	assert_non_null(fields);
	for (size_t i = 0; i < table[type].count; i++) {
		size_t n = table[type].fields[i].is_text ? sizeof(struct span)
							 : sizeof(uint64_t);
		memcpy(to, &values[i], n);
		to += n;
	}
	assert_int_equal(to - fields, table[type].size);
	return fields;
}

/* Every text `len` long at most, every number `share` of its maximum. */
static void choose(enum wire_type type, size_t len, bool is_max,
		   union value values[FIELDS_MAX])
{
	assert_true(table[type].count <= FIELDS_MAX);
	for (size_t i = 0; i < table[type].count; i++) {
		const struct field *f = &table[type].fields[i];
		if (f->is_text) {
			size_t n = len < f->max ? len : (size_t)f->max;
			values[i].text = (struct span){ letters + i, n };
		} else {
			values[i].number = is_max ? f->max : f->max / (i + 2);
		}
	}
}

static size_t encode(enum wire_type type, const union value *values)
{
	size_t len = 0;
	struct err e = { 0 };
	autofree void *fields = make_struct(type, values);
	assert_ok(wire_encode(type, fields, msg.bytes, sizeof(msg.bytes), &len, &e));
	return len;
}

static void assert_same(enum wire_type type, const union value *values)
{
	const char *at = (const char *)&msg.config;
	assert_int_equal(msg.type, type);
	for (size_t i = 0; i < table[type].count; i++) {
		union value v;
		if (table[type].fields[i].is_text) {
			memcpy(&v.text, at, sizeof(v.text));
			at += sizeof(v.text);
			assert_int_equal(v.text.len, values[i].text.len);
			assert_memory_equal(v.text.at, values[i].text.at, v.text.len);
			assert_true(v.text.at >= msg.bytes &&
				    v.text.at + v.text.len <=
				    msg.bytes + sizeof(msg.bytes));
		} else {
			memcpy(&v.number, at, sizeof(v.number));
			at += sizeof(v.number);
			assert_true(v.number == values[i].number);
		}
	}
}

static void assert_lie(size_t len, const char *what)
{
	struct err e = { 0 };
	enum err_code rc = wire_decode(&msg, len, &e);
	if (rc != ERR_NET_LIED)
		print_error("%s of %s: %s\n", what, wire_name(msg.type), e.text);
	assert_err(rc, ERR_NET_LIED);
}

#define EACH_TYPE(type)                                             \
	for (enum wire_type type = (enum wire_type)(WIRE_NONE + 1); \
	     type < WIRE_TYPE_COUNT; type = (enum wire_type)(type + 1))

/* Where field `index` begins in an encoded message. */
static size_t offset_of(enum wire_type type, const union value *values, size_t index)
{
	size_t at = 4;
	for (size_t i = 0; i < index; i++)
		at += table[type].fields[i].is_text ? 4 + values[i].text.len : 8;
	return at;
}

static void put(size_t at, uint64_t number, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		msg.bytes[at + i] = (char)(number >> 8 * i);
}

TEST(wire__every_message__round_trip)
{
	static const size_t lengths[] = { 0, 1, 10, FRAME_MAX };
	union value values[FIELDS_MAX];
	struct err e = { 0 };
	fill_letters();
	EACH_TYPE(type)
		for (size_t i = 0; i < 8; i++) {
			choose(type, lengths[i % 4], i & 4, values);
			size_t len = encode(type, values);
			assert_true(len <= FRAME_MAX);
			assert_ok(wire_decode(&msg, len, &e));
			assert_same(type, values);
		}
}

TEST(wire_decode__truncated_at_every_byte__lied)
{
	union value values[FIELDS_MAX];
	fill_letters();
	EACH_TYPE(type) {
		choose(type, 9, false, values);
		size_t len = encode(type, values);
		for (size_t n = 0; n < len; n++)
			assert_lie(n, "truncation");
	}
}

/* The bytes behind the cut must not be read: put the cut at the real end. */
TEST(wire_decode__truncated_at_end_of_buffer__lied)
{
	union value values[FIELDS_MAX];
	fill_letters();
	EACH_TYPE(type) {
		struct err e = { 0 };
		choose(type, 9, false, values);
		size_t len = encode(type, values);
		autofree struct wire_msg *exact = calloc(1, sizeof(*exact));
		assert_non_null(exact);
		memcpy(exact->bytes, msg.bytes, len);
		memset(exact->bytes + len - 1, 0xff, sizeof(exact->bytes) - len + 1);
		assert_err(wire_decode(exact, len - 1, &e), ERR_NET_LIED);
	}
}

TEST(wire_decode__bytes_behind_the_end__lied)
{
	union value values[FIELDS_MAX];
	fill_letters();
	EACH_TYPE(type) {
		choose(type, 3, false, values);
		size_t len = encode(type, values);
		msg.bytes[len] = 0;
		assert_lie(len + 1, "one more byte");
		memset(msg.bytes + len, 0, 100);
		assert_lie(len + 100, "many more bytes");
	}
}

TEST(wire_decode__number_out_of_range__lied)
{
	union value values[FIELDS_MAX];
	fill_letters();
	EACH_TYPE(type)
		for (size_t i = 0; i < table[type].count; i++) {
			const struct field *f = &table[type].fields[i];
			if (f->is_text || f->max == WIRE_ANY)
				continue;
			choose(type, 3, false, values);
			size_t len = encode(type, values);
			size_t at = offset_of(type, values, i);
			put(at, f->max + 1, 8);
			assert_lie(len, f->name);
			put(at, UINT64_MAX, 8);
			assert_lie(len, f->name);
			put(at, 1ULL << 63, 8);
			assert_lie(len, f->name);
		}
}

TEST(wire_decode__text_too_long__lied)
{
	union value values[FIELDS_MAX];
	fill_letters();
	EACH_TYPE(type)
		for (size_t i = 0; i < table[type].count; i++) {
			const struct field *f = &table[type].fields[i];
			if (!f->is_text)
				continue;
			/* One byte longer than allowed, and really there. */
			choose(type, 0, false, values);
			values[i].text = (struct span){ letters, (size_t)f->max };
			size_t len = encode(type, values);
			size_t at = offset_of(type, values, i);
			memmove(msg.bytes + at + 5, msg.bytes + at + 4, len - at - 4);
			msg.bytes[at + 4] = 'x';
			put(at, f->max + 1, 4);
			assert_lie(len + 1, f->name);
			/* A length that reaches behind the end. */
			choose(type, 3, false, values);
			len = encode(type, values);
			at = offset_of(type, values, i);
			put(at, len - at - 4 + 1, 4);
			assert_lie(len, f->name);
			put(at, UINT32_MAX, 4);
			assert_lie(len, f->name);
			put(at, 1u << 31, 4);
			assert_lie(len, f->name);
		}
}

TEST(wire_decode__text_with_nul__lied)
{
	union value values[FIELDS_MAX];
	fill_letters();
	EACH_TYPE(type)
		for (size_t i = 0; i < table[type].count; i++)
			for (size_t k = 0; k < 5; k++) {
				if (!table[type].fields[i].is_text)
					continue;
				choose(type, 5, false, values);
				size_t len = encode(type, values);
				msg.bytes[offset_of(type, values, i) + 4 + k] = '\0';
				assert_lie(len, table[type].fields[i].name);
			}
}

TEST(wire_decode__unknown_type__lied)
{
	static const uint32_t types[] = { WIRE_NONE, WIRE_TYPE_COUNT, 0x100,
					  0x80000001, UINT32_MAX };
	memset(msg.bytes, 0, sizeof(msg.bytes));
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		put(0, types[i], 4);
		msg.type = WIRE_NONE;
		assert_lie(4, "type");
		assert_lie(100, "type");
	}
}

TEST(wire_decode__random_bytes__never_more_than_refused)
{
	uint32_t seed = 12345;
	for (int round = 0; round < 200000; round++) {
		struct err e = { 0 };
		size_t len = (size_t)(round % 200);
		for (size_t i = 0; i < len; i++) {
			seed = seed * 1664525 + 1013904223;
			msg.bytes[i] = (char)(seed >> 24);
		}
		/* Mostly a known type and short texts, to get further. */
		put(0, (uint64_t)(round % (WIRE_TYPE_COUNT + 2)), 4);
		for (size_t i = 4; round % 3 && i + 4 <= len; i += 4)
			put(i, (uint64_t)(unsigned char)msg.bytes[i] % 3, 4);
		enum err_code rc = wire_decode(&msg, len, &e);
		assert_true(rc == ERR_OK || rc == ERR_NET_LIED);
	}
}

TEST(wire_encode__text_beyond_maximum__cut)
{
	struct err e = { 0 };
	size_t len = 0;
	fill_letters();
	assert_ok(wire_encode(WIRE_DONE, &(struct wire_done){
				      .code = ERR_HASH,
				      .text = { letters, WIRE_TEXT + 500 } },
			      msg.bytes, sizeof(msg.bytes), &len, &e));
	assert_ok(wire_decode(&msg, len, &e));
	assert_int_equal(msg.done.text.len, WIRE_TEXT);
	assert_int_equal(msg.done.code, ERR_HASH);
}

TEST(wire_encode__text_with_nul__cut_there)
{
	struct err e = { 0 };
	size_t len = 0;
	assert_ok(wire_encode(WIRE_DONE, &(struct wire_done){
				      .text = SPAN_LIT("ab\0cd") },
			      msg.bytes, sizeof(msg.bytes), &len, &e));
	assert_ok(wire_decode(&msg, len, &e));
	assert_true(span_is(msg.done.text, "ab"));
}

TEST(wire_encode__number_beyond_maximum__internal)
{
	union value values[FIELDS_MAX];
	fill_letters();
	EACH_TYPE(type)
		for (size_t i = 0; i < table[type].count; i++) {
			const struct field *f = &table[type].fields[i];
			struct err e = { 0 };
			size_t len = 0;
			if (f->is_text || f->max == WIRE_ANY)
				continue;
			choose(type, 3, false, values);
			values[i].number = f->max + 1;
			autofree void *fields = make_struct(type, values);
			assert_err(wire_encode(type, fields, msg.bytes,
					       sizeof(msg.bytes), &len, &e),
				   ERR_INTERNAL);
		}
}

TEST(wire_encode__room_too_small__internal)
{
	union value values[FIELDS_MAX];
	fill_letters();
	EACH_TYPE(type) {
		struct err e = { 0 };
		size_t len = 0;
		choose(type, 3, false, values);
		size_t need = encode(type, values);
		autofree void *fields = make_struct(type, values);
		for (size_t n = 0; n < need; n++) {
			autofree char *small = malloc(n + 1);
			assert_non_null(small);
			assert_err(wire_encode(type, fields, small, n, &len, &e),
				   ERR_INTERNAL);
		}
	}
}

TEST(wire_encode__unknown_type__internal)
{
	struct err e = { 0 };
	size_t len = 0;
	assert_err(wire_encode(WIRE_NONE, &len, msg.bytes, 100, &len, &e),
		   ERR_INTERNAL);
	assert_err(wire_encode(WIRE_TYPE_COUNT, &len, msg.bytes, 100, &len, &e),
		   ERR_INTERNAL);
}

TEST(wire_name__each_type__has_one)
{
	assert_string_equal(wire_name(WIRE_CHECK_CHAIN), "CHECK_CHAIN");
	assert_string_equal(wire_name(WIRE_NONE), "unknown");
	assert_string_equal(wire_name(WIRE_TYPE_COUNT), "unknown");
}

/* --- over a socket ------------------------------------------------------- */

static void make_pair(int pair[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair),
			 0);
}

static int count_fds(void)
{
	int n = 0;
	DIR *d = opendir("/proc/self/fd");
	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

TEST(wire_receive__file_with_descriptor__given)
{
	int pair[2];
	struct err e = { 0 };
	make_pair(pair);
	autofd null = open("/dev/null", O_RDONLY);
	assert_ok(wire_send(pair[0], WIRE_FILE, &(struct wire_file){
				    .kind = WIRE_FILE_CA, .name = SPAN_LIT("ca.pem") },
			    null, &e));
	assert_ok(wire_receive(pair[1], 1, &msg, &e));
	assert_int_equal(msg.type, WIRE_FILE);
	assert_true(msg.fd >= 0);
	assert_int_equal(msg.file.kind, WIRE_FILE_CA);
	assert_true(span_is(msg.file.name, "ca.pem"));
	close(msg.fd);
	close(pair[0]);
	close(pair[1]);
}

TEST(wire_receive__descriptor_with_any_other__lied_and_closed)
{
	int pair[2];
	union value values[FIELDS_MAX];
	make_pair(pair);
	fill_letters();
	autofd null = open("/dev/null", O_RDONLY);
	int before = count_fds();
	EACH_TYPE(type) {
		struct err e = { 0 };
		if (type == WIRE_FILE)
			continue;
		choose(type, 3, false, values);
		autofree void *fields = make_struct(type, values);
		assert_ok(wire_send(pair[0], type, fields, null, &e));
		assert_err(wire_receive(pair[1], 1, &msg, &e), ERR_NET_LIED);
		assert_int_equal(msg.fd, -1);
		assert_int_equal(count_fds(), before);
	}
	close(pair[0]);
	close(pair[1]);
}

TEST(wire_receive__broken_file_message__descriptor_closed)
{
	int pair[2];
	struct err e = { 0 };
	make_pair(pair);
	autofd null = open("/dev/null", O_RDONLY);
	int before = count_fds();
	put(0, WIRE_FILE, 4);
	put(4, WIRE_FILE_COUNT, 8);
	put(12, 0, 4);
	assert_ok(frame_send(pair[0], msg.bytes, 16, null, &e));
	assert_err(wire_receive(pair[1], 1, &msg, &e), ERR_NET_LIED);
	assert_int_equal(msg.fd, -1);
	assert_int_equal(count_fds(), before);
	close(pair[0]);
	close(pair[1]);
}

TEST(wire_receive__file_without_descriptor__minus_one)
{
	int pair[2];
	struct err e = { 0 };
	make_pair(pair);
	assert_ok(wire_send(pair[0], WIRE_FILE, &(struct wire_file){ 0 }, -1, &e));
	assert_ok(wire_receive(pair[1], 1, &msg, &e));
	assert_int_equal(msg.fd, -1);
	close(pair[0]);
	close(pair[1]);
}

TEST(wire_receive__nothing_there__none)
{
	int pair[2];
	struct err e = { 0 };
	make_pair(pair);
	assert_ok(wire_receive(pair[1], 0, &msg, &e));
	assert_int_equal(msg.type, WIRE_NONE);
	assert_int_equal(msg.fd, -1);
	close(pair[0]);
	assert_err(wire_receive(pair[1], 1, &msg, &e), ERR_NET_DIED);
	close(pair[1]);
}
