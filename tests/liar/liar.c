/*
 * A network role that lies: linked in place of agent/net, it serves one small
 * content, the policy of a site, and documents (the path of their URL is that of
 * a file) honestly but for one lie. The test names it as [site] forest:
 * "CALL.MESSAGE-FIELD-MUTATION.test". CALL is the conversation in which it lies
 * ("any", or one of those below), FIELD counts from 0 in the order of
 * agent/wire.h; see tests/e2e/test_liar.py.
 */
#include "agent/net/net.h"
#include "agent/wire.h"
#include "common/frame.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
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
static char lie_call[32], lie_message[32], lie_mutation[32];
static unsigned lie_field;
static size_t slot_bytes, slots, ring_bytes;
static const char *call = "start"; /* the conversation */

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

static int lies_here(void)
{
	return !strcmp(lie_call, "any") || !strcmp(lie_call, call);
}

static int lies(const char *what)
{
	return lies_here() && !strcmp(lie_message, what);
}

/* Until the keeper has had enough, and says so; `deaf`: even then. */
static void say_for_ever(const char *bytes, size_t len)
{
	static struct wire_msg m;
	struct err e;
	while (frame_send(sock, bytes, len, -1, &e) == ERR_OK)
		if (strcmp(lie_mutation, "deaf") != 0 &&
		    wire_receive(sock, 0, &m, &e) == ERR_OK && m.type == WIRE_CANCEL)
			break;
	wire_send(sock, WIRE_DONE, &(struct wire_done){ .answers_cancel = 1 }, -1, &e);
	_exit(0);
}

static void say(int type, const void *fields)
{
	static char bytes[200000];
	size_t len = 0;
	struct err e;
	if (wire_encode((enum wire_type)type, fields, bytes, FRAME_MAX, &len, &e) !=
	    ERR_OK)
		_exit(3);
	if (lies(table[type].name)) {
		if (!strcmp(lie_mutation, "skip"))
			return;
		if (!strcmp(lie_mutation, "die"))
			_exit(4);
		if (!strcmp(lie_mutation, "endless") || !strcmp(lie_mutation, "deaf"))
			say_for_ever(bytes, len);
		if (!strcmp(lie_mutation, "other")) {
			struct wire_hop hop = { .owner = SPAN_LIT("a.test") };
			wire_encode(WIRE_HOP, &hop, bytes, FRAME_MAX, &len, &e);
		}
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

/* A conversation begins. */
static void begin(const char *name)
{
	call = name;
	if (lies("early"))
		done();
}

static void learn_lie(struct span forest)
{
	char text[128];
	snprintf(text, sizeof(text), "%.*s", SPAN_ARG(forest));
	char *dot = strchr(text, '.');
	char *end = strstr(text, ".test");
	if (dot == NULL || end == NULL)
		return;
	*dot = *end = '\0';
	char *first = strchr(dot + 1, '-');
	char *second = first ? strchr(first + 1, '-') : NULL;
	if (second == NULL)
		return;
	*first = *second = '\0';
	snprintf(lie_call, sizeof(lie_call), "%s", text);
	snprintf(lie_message, sizeof(lie_message), "%s", dot + 1);
	lie_field = (unsigned)strtoul(first + 1, NULL, 10);
	snprintf(lie_mutation, sizeof(lie_mutation), "%s", second + 1);
}

static void note(void)
{
	say(WIRE_NOTE, &(struct wire_note){ .level = 2,
					    .component = SPAN_LIT("agent"),
					    .text = SPAN_LIT("a note") });
}

static void say_on_the_way(void)
{
	note();
	say(WIRE_ATTEMPT, &(struct wire_attempt){ .url = SPAN_LIT("http://a.test/"),
						  .code = ERR_CONNECT,
						  .text = SPAN_LIT("not there") });
}

static void locate(void)
{
	begin("download");
	say_on_the_way();
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
	if (lies("bytes"))
		ring[index * slot_bytes] ^= 1;
	say(WIRE_HEAD, &(struct wire_head){ .index = index,
					    .total = len,
					    .etag = SPAN_LIT("\"e\"") });
	say(WIRE_DATA, &(struct wire_data){ .index = index,
					    .slot = index,
					    .length = len });
	/* the keeper must have its own copy by the time it judges */
	if (lies("swap"))
		memset(ring + index * slot_bytes, 'E', len);
	say(WIRE_FETCHED, &(struct wire_fetched){ .index = index,
						  .form = WIRE_FORM_SCCM });
}

/* --- the site, and a policy server ---------------------------------------- */

static void enroll(void)
{
	begin("registration");
	say_on_the_way();
	say(WIRE_REGISTERED,
	    &(struct wire_registered){
		    .smsid = SPAN_LIT("GUID:0A0B0C0D-0000-4000-8000-00112233AABB"),
		    .management_point = SPAN_LIT("http://mp.test") });
	done();
}

static void assign(void)
{
	struct wire_assignment a = { .policy_id = SPAN_LIT("{one}"),
				     .policy_version = SPAN_LIT("1.00"),
				     .advertisement = SPAN_LIT("ABC20001"),
				     .package = SPAN_LIT("ABC00042"),
				     .version = 3,
				     .name = SPAN_LIT("Hello"),
				     .hash = SPAN_LIT("0A1B2C"),
				     .size = 12,
				     .has_files = 1,
				     .active_time =
					     SPAN_LIT("20200101000000.000000+***"),
				     .mandatory = SPAN_LIT("TRUE") };
	begin("assignments");
	say_on_the_way();
	say(WIRE_ASSIGNMENT, &a);
	a.policy_id = SPAN_LIT("{two}");
	a.advertisement = SPAN_LIT("ABC20002");
	a.package = SPAN_LIT("ABC00043");
	a.mandatory = SPAN_LIT("FALSE");
	say(WIRE_ASSIGNMENT, &a);
	done();
}

static void relay(void)
{
	begin("relay");
	say_on_the_way();
	done();
}

/* Bytes that change all the time while the keeper works on them. */
static void change_for_ever(void)
{
	pid_t parent = getpid();
	if (fork() != 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	for (volatile char *at = ring;;)
		for (size_t i = 0; i < 4; i++)
			at[i * slot_bytes + 1] ^= 1;
}

/* More than anybody wants, in order, in slots that are no longer ours. */
static void pour(void)
{
	static struct wire_msg back;
	struct err e;
	for (uint64_t i = 0;; i++) {
		say(WIRE_DATA, &(struct wire_data){ .offset = i * slot_bytes,
						    .slot = i % slots,
						    .length = slot_bytes });
		if (wire_receive(sock, 0, &back, &e) != ERR_OK)
			_exit(0);
		if (back.type == WIRE_CANCEL)
			break;
	}
}

static size_t read_whole(struct span url, char *out, size_t size)
{
	char path[4096];
	const char *host = memmem(url.at, url.len, "://", 3);
	const char *at = host ? memchr(host + 3, '/', url.len - 8) : NULL;
	if (at == NULL)
		return 0;
	snprintf(path, sizeof(path), "%.*s", (int)(url.at + url.len - at), at);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, out, size);
	if (fd >= 0)
		close(fd);
	return n > 0 ? (size_t)n : 0;
}

/* In four parts, each in a slot of its own. */
static void send_document(const struct wire_document *m)
{
	static char text[1 << 20];
	size_t len = read_whole(m->url, text, sizeof(text));
	size_t part = (len + 3) / 4;
	begin("document");
	note();
	if (len == 0) {
		say(WIRE_DONE, &(struct wire_done){ .code = ERR_ABSENT,
						    .text = SPAN_LIT("not there") });
		return;
	}
	if (ring == NULL || 4 * slot_bytes > ring_bytes || part > slot_bytes)
		_exit(9);
	say(WIRE_BODY, &(struct wire_body){ .etag = SPAN_LIT("\"v\""),
					    .length = len });
	for (size_t i = 0; i < 4; i++)
		memcpy(ring + i * slot_bytes, text + i * part,
		       i < 3 ? part : len - 3 * part);
	if (lies("bytes"))
		ring[part / 2] ^= 1;
	if (lies("flip"))
		change_for_ever();
	if (lies("pour")) {
		pour();
		wire_send(sock, WIRE_DONE, &(struct wire_done){ .answers_cancel = 1 },
			  -1, &(struct err){ 0 });
		return;
	}
	for (size_t i = 0; i < 4; i++) {
		say(WIRE_DATA,
		    &(struct wire_data){ .offset = i * part,
					 .slot = i,
					 .length = i < 3 ? part : len - 3 * part });
		if (lies("swap"))
			memset(ring + i * slot_bytes, 'E', part);
	}
	done();
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
	ring_bytes = (size_t)st.st_size;
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
			slots = m.config.ring_slots;
			learn_lie(m.config.forest);
			say(WIRE_READY, &(struct wire_ready){ .uid = 1 });
		} else if (m.type == WIRE_LOCATE) {
			locate();
		} else if (m.type == WIRE_REGISTRATION) {
			enroll();
		} else if (m.type == WIRE_ASSIGNMENTS) {
			assign();
		} else if (m.type == WIRE_RELAY) {
			relay();
		} else if (m.type == WIRE_DOCUMENT) {
			send_document(&m.document);
		} else if (m.type == WIRE_LIST) {
			list();
		} else if (m.type == WIRE_FETCH) {
			fetch(m.fetch.index);
		} else if (m.type == WIRE_CANCEL) {
			say(WIRE_DONE, &(struct wire_done){ .answers_cancel = 1 });
		}
	}
}
