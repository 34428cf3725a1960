/*
 * A network role that lies: linked in place of agent/net, it serves one small
 * content honestly but for one lie, which the test names as the host of the
 * management point: "http://MESSAGE-FIELD-MUTATION.test". FIELD counts from 0
 * in the order of agent/wire.h; see tests/e2e/test_liar.py.
 */
#include "agent/net/net.h"
#include "agent/wire.h"
#include "common/frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const files[] = { "hello.txt", "sub/world.txt" };
static const char *const texts[] = { "hello\n", "world\n" };
#define FILES 2

struct field {
	uint64_t max;
	int is_text;
};
#define WIRE_U(field, max) { max, 0 },
#define WIRE_S(field, max) { max, 1 },
#define M(name, NAME) \
	static const struct field fields_##name[] = { \
		WIRE_FIELDS_##name(WIRE_U, WIRE_S) \
	};
WIRE_MESSAGES(M)
#undef M

static const struct {
	const char *name;
	const struct field *fields;
	unsigned count;
} table[WIRE_TYPE_COUNT] = {
#define M(n, NAME) \
	[WIRE_##NAME] = { #n, fields_##n, \
			  sizeof(fields_##n) / sizeof(fields_##n[0]) },
	WIRE_MESSAGES(M)
#undef M
};

static int sock;
static char *ring;
static char lie_message[32], lie_mutation[32];
static unsigned lie_field;
static size_t slot_bytes;

/* Where field n of an encoded message lies, and how long it is. */
static size_t find(const char *bytes, int type, unsigned n, size_t *len)
{
	size_t at = 4;
	for (unsigned i = 0;; i++) {
		uint32_t text = 0;
		if (table[type].fields[i].is_text)
			memcpy(&text, bytes + at, 4);
		*len = table[type].fields[i].is_text ? 4 + text : 8;
		if (i == n)
			return at;
		at += *len;
	}
}

static size_t put_text(char *out, const char *text, size_t len)
{
	uint32_t n = (uint32_t)len;
	memcpy(out, &n, 4);
	memcpy(out + 4, text, len);
	return 4 + len;
}

/* Replace the field by its lie; returns the message's new length. */
static size_t mutate(char *bytes, size_t len, int type)
{
	static char big[70000], fresh[70000];
	size_t old, new_len = 8, at = find(bytes, type, lie_field, &old);
	const struct field *f = &table[type].fields[lie_field];
	uint64_t v;
	memcpy(&v, bytes + at, 8);
	memset(big, 'A', sizeof(big));
	if (!f->is_text) {
		if (!strcmp(lie_mutation, "zero"))
			v = 0;
		else if (!strcmp(lie_mutation, "more"))
			v = v + 1;
		else if (!strcmp(lie_mutation, "max"))
			v = f->max;
		else if (!strcmp(lie_mutation, "beyond"))
			v = f->max + 1;
		else
			v = ~(uint64_t)0;
		memcpy(fresh, &v, 8);
	} else if (!strcmp(lie_mutation, "zero")) {
		new_len = put_text(fresh, "", 0);
	} else if (!strcmp(lie_mutation, "more")) {
		new_len = put_text(fresh, "../../../../../../tmp/agent-liar", 32);
	} else if (!strcmp(lie_mutation, "max")) {
		new_len = put_text(fresh, big, f->max < 60000 ? f->max : 60000);
	} else if (!strcmp(lie_mutation, "beyond")) {
		new_len = put_text(fresh, big, f->max < 60000 ? f->max + 1 : 60001);
	} else {
		new_len = put_text(fresh, "x\033[2J\n\0y\xff", 9);
	}
	memmove(bytes + at + new_len, bytes + at + old, len - at - old);
	memcpy(bytes + at, fresh, new_len);
	return len - old + new_len;
}

static void say(int type, const void *fields)
{
	static char bytes[200000];
	size_t len = 0;
	struct err e;
	if (wire_encode((enum wire_type)type, fields, bytes, FRAME_MAX, &len, &e) !=
	    ERR_OK)
		_exit(3);
	if (!strcmp(table[type].name, lie_message)) {
		if (!strcmp(lie_mutation, "skip"))
			return;
		if (!strcmp(lie_mutation, "die"))
			_exit(4);
		if (!strcmp(lie_mutation, "twice"))
			frame_send(sock, bytes, len, -1, &e);
		else if (!strcmp(lie_mutation, "short"))
			len--;
		else if (!strcmp(lie_mutation, "long"))
			len++;
		else if (!strcmp(lie_mutation, "type"))
			bytes[0] = (char)200;
		else if (lie_field < table[type].count)
			len = mutate(bytes, len, type);
	}
	if (len > FRAME_MAX)
		len = FRAME_MAX;
	if (frame_send(sock, bytes, len, -1, &e) != ERR_OK)
		_exit(0);
}

static void done(void)
{
	say(WIRE_DONE, &(struct wire_done){ 0 });
}

static void learn_lie(struct span points)
{
	char text[128];
	snprintf(text, sizeof(text), "%.*s", SPAN_ARG(points));
	char *scheme = strstr(text, "://");
	char *at = scheme ? scheme + 3 : text;
	char *end = strstr(at, ".test");
	if (end == NULL)
		return;
	*end = '\0';
	char *first = strchr(at, '-');
	char *second = first ? strchr(first + 1, '-') : NULL;
	if (second == NULL)
		return;
	*first = *second = '\0';
	snprintf(lie_message, sizeof(lie_message), "%s", at);
	lie_field = (unsigned)strtoul(first + 1, NULL, 10);
	snprintf(lie_mutation, sizeof(lie_mutation), "%s", second + 1);
}

static void locate(void)
{
	say(WIRE_NOTE, &(struct wire_note){ .level = 2,
					    .component = SPAN_LIT("agent"),
					    .text = SPAN_LIT("a note") });
	say(WIRE_ATTEMPT, &(struct wire_attempt){ .url = SPAN_LIT("http://a.test/"),
						  .code = ERR_CONNECT,
						  .text = SPAN_LIT("not there") });
	say(WIRE_LOCATION,
	    &(struct wire_location){
		    .url = SPAN_LIT("http://dp.test/SMS_DP_SMSPKG$/ABC00042"),
		    .locality = SPAN_LIT("LOCAL"),
		    .site_locality = SPAN_LIT("LOCAL"),
		    .dp_type = SPAN_LIT("SERVER"),
		    .version = SPAN_LIT("9040"),
		    .server = SPAN_LIT("dp.test") });
	say(WIRE_LOCATED,
	    &(struct wire_located){ .management_point = SPAN_LIT("http://mp.test"),
				    .count = 1 });
	done();
}

static void list(void)
{
	for (unsigned i = 0; i < FILES; i++)
		say(WIRE_ENTRY, &(struct wire_entry){ .index = i,
						      .path = span_of(files[i]),
						      .size = strlen(texts[i]) });
	say(WIRE_LISTED, &(struct wire_listed){ .count = FILES,
						.rung = WIRE_RUNG_AS_GIVEN,
						.form = WIRE_FORM_SCCM });
	done();
}

static void fetch(uint64_t index)
{
	if (index >= FILES)
		_exit(5);
	size_t len = strlen(texts[index]);
	memcpy(ring + index * slot_bytes, texts[index], len);
	if (!strcmp(lie_message, "bytes"))
		ring[index * slot_bytes] ^= 1;
	say(WIRE_HEAD, &(struct wire_head){ .index = index,
					    .total = len,
					    .etag = SPAN_LIT("\"e\"") });
	say(WIRE_DATA, &(struct wire_data){ .index = index,
					    .slot = index,
					    .length = len });
	/* the keeper must have its own copy by the time it judges */
	if (!strcmp(lie_message, "swap"))
		memset(ring + index * slot_bytes, 'E', len);
	say(WIRE_FETCHED, &(struct wire_fetched){ .index = index,
						  .form = WIRE_FORM_SCCM });
}

static void take_ring(int fd)
{
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		_exit(6);
	ring = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		    fd, 0);
	if (ring == MAP_FAILED)
		_exit(7);
	/* sealed: a hostile net must not be able to shrink it under the keeper */
	if (ftruncate(fd, 0) == 0)
		_exit(8);
}

int net_main(int keeper)
{
	static struct wire_msg m;
	struct err e;
	sock = keeper;
	for (;;) {
		if (wire_receive(sock, 1, &m, &e) != ERR_OK)
			return 0;
		if (m.type == WIRE_FILE && m.file.kind == WIRE_FILE_RING)
			take_ring(m.fd);
		if (m.fd >= 0)
			close(m.fd);
		if (m.type == WIRE_CONFIG) {
			slot_bytes = m.config.slot_bytes;
			/* READY comes before LOCATE: its lie is in the forest */
			learn_lie(m.config.forest);
			say(WIRE_READY, &(struct wire_ready){ .uid = 1 });
		} else if (m.type == WIRE_LOCATE) {
			learn_lie(m.locate.management_points);
			locate();
		} else if (m.type == WIRE_LIST) {
			list();
		} else if (m.type == WIRE_FETCH) {
			fetch(m.fetch.index);
		} else if (m.type == WIRE_CANCEL) {
			say(WIRE_DONE, &(struct wire_done){ .answers_cancel = 1 });
		}
	}
}
