#include "agent/keeper/worker.h"

#include "agent/keeper/pacing.h"
#include "common/clock.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/own.h"
#include "common/relpath.h"
#include "common/signals.h"
#include "common/spawn.h"
#include "common/url.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOT_BYTES (64u << 10)
#define SLOTS_SPARE 16
#define SLOTS_MAX 256u
#define SYSTEM_CA "/etc/ssl/certs/ca-certificates.crt"
#define RING_NAME "cloud-dp-agent-ring"
#define MFD_NOEXEC_SEAL_BIT 0x0008U /* not in Debian 12's headers */
#define ANSWER_MAX_MS 20000 /* set-up and cancel need no network */
#define SLOTS_HELD 16 /* given back together, while net has others to fill */

struct worker {
	int sock;
	pid_t pid;
	char *ring;
	unsigned slots, connections;
	struct wire_msg *message; /* the last one received; owned */
	struct wire_out *out;     /* sent before each sleep; owned */
	unsigned slots_held;      /* of them, in `out` */
	struct buf texts[8];      /* of CONFIG, until it is sent */
	unsigned text_count;
	char ended[128];          /* how the process ended */
};

/* --- the process ------------------------------------------------------------- */

/* The socket says that the peer is gone: find out how. */
static enum err_code died(struct worker *w, struct err *e)
{
	if (w->pid >= 0) {
		spawn_reap(w->pid, w->ended, sizeof(w->ended));
		w->pid = -1;
	}
	return err_set(e, ERR_NET_DIED, "the network process ended: %s", w->ended);
}

static void worker_free(struct worker *w)
{
	if (w == NULL)
		return;
	for (unsigned i = 0; i < w->text_count; i++)
		buf_free(&w->texts[i]);
	free(w->message);
	free(w->out);
	free(w);
}

void worker_stop(struct worker *w)
{
	if (w == NULL)
		return;
	if (w->sock >= 0)
		close(w->sock);
	if (w->pid > 0)
		spawn_reap(w->pid, w->ended, sizeof(w->ended));
	if (w->ring)
		munmap(w->ring, (size_t)w->slots * SLOT_BYTES);
	worker_free(w);
}

/* --- set-up ------------------------------------------------------------------- */

/* Sealed against shrinking: a truncated ring would kill the keeper by SIGBUS. */
static enum err_code make_ring(struct worker *w, struct err *e)
{
	size_t size = (size_t)w->slots * SLOT_BYTES;
	/* not executable for ever, where the kernel knows that (6.3) */
	autofd fd = memfd_create(RING_NAME, MFD_CLOEXEC | MFD_NOEXEC_SEAL_BIT);
	if (fd < 0)
		fd = memfd_create(RING_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_set(e, ERR_INTERNAL, "make the ring: %m");
	void *p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return err_set(e, ERR_INTERNAL, "map the ring: %m");
	w->ring = p;
	struct wire_file m = { .kind = WIRE_FILE_RING, .name = SPAN_LIT("ring") };
	return wire_send(w->sock, WIRE_FILE, &m, fd, e);
}

enum err_code worker_send_file(struct worker *w, enum wire_file_kind kind,
			       const char *path, struct err *e)
{
	autofd fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	enum err_code code = kind == WIRE_FILE_CHAIN || kind == WIRE_FILE_REPLY ?
				     ERR_INPUT : ERR_CONFIG;
	struct stat st;
	if (fd < 0)
		return err_set(e, code, "open %s: %m", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, code, "read %s: it is no regular file", path);
	bool is_key = kind == WIRE_FILE_KEY || kind == WIRE_FILE_IDENTITY;
	if ((is_key || kind == WIRE_FILE_TOKEN) &&
	    (st.st_mode & (S_IROTH | S_IWOTH)))
		log_warning("agent", "%s: anybody may read this %s (mode %04o): "
			    "chmod 600 it", path, is_key ? "key" : "token",
			    (unsigned)st.st_mode & 07777);
	struct wire_file m = { .kind = kind, .name = span_of(path) };
	return wire_send(w->sock, WIRE_FILE, &m, fd, e);
}

static struct span lines(struct worker *w, const struct settings_list *l)
{
	struct buf *b = &w->texts[w->text_count++];
	for (size_t i = 0; i < l->count; i++)
		buf_print(b, "%s\n", l->items[i]);
	return buf_as_span(b);
}

static unsigned prefix_of(const struct sockaddr_in *mask)
{
	return (unsigned)__builtin_popcount(mask->sin_addr.s_addr);
}

/* "ADDRESS subnet address" for every IPv4 interface that is up, "ADAPTER name
 * iftype suffix" beside it (docs/wire.md 3.5). */
static struct span interfaces(struct worker *w)
{
	struct buf *out = &w->texts[w->text_count++];
	struct ifaddrs *all = NULL;
	if (getifaddrs(&all) < 0)
		return buf_as_span(out);
	for (struct ifaddrs *i = all; i; i = i->ifa_next) {
		if (i->ifa_addr == NULL || i->ifa_netmask == NULL ||
		    i->ifa_addr->sa_family != AF_INET ||
		    strcmp(i->ifa_name, "lo") == 0 || out->len > WIRE_LISTS / 2)
			continue;
		struct sockaddr_in a = *(struct sockaddr_in *)i->ifa_addr;
		struct sockaddr_in mask = *(struct sockaddr_in *)i->ifa_netmask;
		struct sockaddr_in net = a;
		char address[NI_MAXHOST], subnet[NI_MAXHOST];
		net.sin_addr.s_addr &= mask.sin_addr.s_addr;
		if (prefix_of(&mask) == 0 ||
		    getnameinfo((struct sockaddr *)&a, sizeof(a), address,
				sizeof(address), NULL, 0, NI_NUMERICHOST) ||
		    getnameinfo((struct sockaddr *)&net, sizeof(net), subnet,
				sizeof(subnet), NULL, 0, NI_NUMERICHOST))
			continue;
		buf_print(out, "ADDRESS %s %s\nADAPTER %s 6 \n", subnet, address,
			  i->ifa_name);
	}
	freeifaddrs(all);
	return buf_as_span(out);
}

static enum err_code send_config(struct worker *w,
				 const struct worker_options *o, struct err *e)
{
	const struct settings *s = o->settings;
	char host[256] = "";
	gethostname(host, sizeof(host) - 1);
	host[strcspn(host, ".")] = '\0';
	struct wire_config m = {
		.site_code = span_of(s->site_code),
		.forest = span_of(s->forest),
		.domain = span_of(s->domain),
		.ad_site = span_of(s->ad_site),
		.client_id = span_of(o->client_id),
		.host_name = span_of(host),
		.plain_message = !s->compression,
		.token_header = span_of(s->token_header),
		.cloud_suffixes = lines(w, &s->cloud_suffixes),
		.cloud_public_only = s->cloud_public_only,
		.dns_servers = lines(w, &s->dns_servers),
		.dns_timeout_ms = (uint64_t)s->dns_timeout_ms,
		.dns_tries = s->dns_tries,
		.max_hops = s->max_hops,
		.tls_minimum = s->tls_minimum,
		.tls_strict = s->tls_strict,
		.revocation = s->revocation,
		.proxy_http = span_of(settings_proxy(s, false)),
		.proxy_https = span_of(settings_proxy(s, true)),
		.proxy_bypass = lines(w, settings_no_proxy(s)),
		.connections = s->connections,
		.connect_timeout_ms = (uint64_t)s->connect_timeout_ms,
		.stall_timeout_ms = (uint64_t)s->stall_timeout_ms,
		.ring_slots = w->slots,
		.slot_bytes = SLOT_BYTES,
		.interfaces = interfaces(w),
	};
	return wire_send(w->sock, WIRE_CONFIG, &m, -1, e);
}

static enum err_code send_pace(struct worker *w, const struct worker_options *o,
			       struct err *e)
{
	struct pacing_job by_hand = { .settings = o->settings };
	struct pacing p;
	if (o->pace)
		return wire_send(w->sock, WIRE_PACE, o->pace, -1, e);
	pacing_begin(&p, &by_hand, clock_wall_s());
	p.now.is_background = p.now.is_idle = 0; /* small things: over at once */
	return wire_send(w->sock, WIRE_PACE, &p.now, -1, e);
}

static enum err_code send_files(struct worker *w, const struct worker_options *o,
				struct err *e)
{
	const struct settings *s = o->settings;
	const char *ca = o->ca_file ? o->ca_file : s->ca_file;
	const struct {
		enum wire_file_kind kind;
		const char *path, *from;
	} files[] = {
		{ WIRE_FILE_CA, ca && ca[0] ? ca : SYSTEM_CA,
		  o->ca_file ? "--ca" : "[tls] ca_file" },
		{ WIRE_FILE_CRL, o->crl_file ? o->crl_file : s->crl_file,
		  o->crl_file ? "--crl" : "[tls] crl_file" },
		{ WIRE_FILE_CERT, s->certificate, "[client] certificate" },
		{ WIRE_FILE_KEY, s->key, "[client] key" },
		{ WIRE_FILE_TOKEN, s->token_file, "[client] token_file" },
		{ WIRE_FILE_IDENTITY, o->identity_file, "[state] directory" },
	};
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		if (files[i].path == NULL || files[i].path[0] == '\0')
			continue;
		if (worker_send_file(w, files[i].kind, files[i].path, e) != ERR_OK)
			return err_prefix(e, "%s", files[i].from);
	}
	return ERR_OK;
}

static enum err_code await_ready(struct worker *w, struct err *e)
{
	const struct wire_msg *m;
	enum err_code rc = worker_next(w, clock_now_ms() + ANSWER_MAX_MS, &m, e);
	if (rc != ERR_OK)
		return rc;
	if (m->type == WIRE_DONE && m->done.code != ERR_OK)
		return err_set(e, (enum err_code)m->done.code, "%.*s",
			       SPAN_ARG(m->done.text));
	if (m->type != WIRE_READY)
		return worker_lied(m, e);
	log_debug("agent", "network process %d: uid=%llu landlock=%llu", w->pid,
		  (unsigned long long)m->ready.uid,
		  (unsigned long long)m->ready.landlock_abi);
	if (m->ready.landlock_abi == 0)
		log_debug("agent", "this kernel has no Landlock: the network "
				   "process is confined by its user alone");
	return ERR_OK;
}

struct worker *worker_start(const struct worker_options *o, struct err *e)
{
	struct worker *w = calloc(1, sizeof(*w));
	if (w) {
		w->message = calloc(1, sizeof(*w->message));
		w->out = calloc(1, sizeof(*w->out));
	}
	if (w == NULL || w->message == NULL || w->out == NULL) {
		worker_free(w);
		err_set(e, ERR_NOMEM, "no memory for the network process");
		return NULL;
	}
	w->message->fd = -1;
	w->connections = (unsigned)o->settings->connections;
	w->slots = w->connections * WIRE_STREAMS + SLOTS_SPARE;
	w->slots = w->slots < SLOTS_MAX ? w->slots : SLOTS_MAX;
	w->pid = spawn_role("net", &w->sock, e);
	w->out->sock = w->sock;
	if (w->pid < 0) {
		w->sock = -1;
	} else if ((!o->needs_ring || make_ring(w, e) == ERR_OK) &&
		   send_files(w, o, e) == ERR_OK &&
		   send_pace(w, o, e) == ERR_OK &&
		   send_config(w, o, e) == ERR_OK && await_ready(w, e) == ERR_OK) {
		return w;
	}
	/* a refusal to start says more than the broken socket behind it */
	if (e->code == ERR_NET_DIED && w->pid >= 0 && await_ready(w, e) == ERR_OK)
		died(w, e);
	worker_stop(w);
	return NULL;
}

/* --- talking -------------------------------------------------------------------- */

static void drop_message(struct worker *w)
{
	if (w->message->fd >= 0)
		close(w->message->fd);
	w->message->fd = -1;
}

/*
 * A network process that does not read must not hold us up, nor keep a signal from
 * us: what we send is small, and fits as soon as there is room.
 */
static enum err_code wait_writable(struct worker *w, struct err *e)
{
	struct pollfd fds[2] = { { .fd = w->sock, .events = POLLOUT },
				 { .fd = signals_fd(), .events = POLLIN } };
	int64_t until_ms = clock_now_ms() + ANSWER_MAX_MS, left_ms = 0;
	for (;;) {
		int n = poll(fds, 2, (int)left_ms);
		if (n > 0 && fds[0].revents)
			return ERR_OK;
		enum err_code rc = signals_check(e);
		if (rc != ERR_OK)
			return rc;
		left_ms = until_ms - clock_now_ms();
		if (left_ms <= 0)
			return err_set(e, ERR_NET_LIED,
				       "the network process takes no messages");
	}
}

static enum err_code flush(struct worker *w, struct err *e)
{
	if (w->out->len == 0)
		return ERR_OK;
	enum err_code rc = wait_writable(w, e);
	if (rc == ERR_OK)
		rc = wire_flush(w->out, e);
	w->slots_held = 0;
	return rc == ERR_NET_DIED ? died(w, e) : rc;
}

enum err_code worker_send(struct worker *w, enum wire_type type,
			  const void *fields, struct err *e)
{
	if (w->out->len > FRAME_MAX / 2) {
		enum err_code rc = flush(w, e);
		if (rc != ERR_OK)
			return rc;
	}
	return wire_put(w->out, type, fields, e);
}

enum err_code worker_give_back(struct worker *w, uint64_t slot, struct err *e)
{
	struct wire_slot m = { .slot = slot };
	enum err_code rc = worker_send(w, WIRE_SLOT, &m, e);
	if (rc == ERR_OK && ++w->slots_held >= SLOTS_HELD)
		rc = flush(w, e);
	return rc;
}

static void log_note(const struct wire_note *n)
{
	char component[65];
	snprintf(component, sizeof(component), "%.*s", SPAN_ARG(n->component));
	struct err ignored;
	if (relpath_check_id(n->component, &ignored) != ERR_OK)
		snprintf(component, sizeof(component), "agent");
	log_event((enum log_level)n->level, component, "%.*s", SPAN_ARG(n->text));
}

/* Sleep until net speaks, a signal comes, or the deadline. */
static enum err_code wait_readable(struct worker *w, int64_t deadline_ms,
				   bool *ready, struct err *e)
{
	struct pollfd fds[2] = { { .fd = signals_fd(), .events = POLLIN },
				 { .fd = w ? w->sock : -1, .events = POLLIN } };
	*ready = false;
	for (;;) {
		int64_t left = deadline_ms - clock_now_ms();
		if (deadline_ms == INT64_MAX || left > 3600000)
			left = 3600000;
		int n = poll(fds, 2, left > 0 ? (int)left : 0);
		enum err_code rc = signals_check(e);
		if (rc != ERR_OK)
			return rc;
		if (n > 0 && fds[1].revents) {
			*ready = true;
			return ERR_OK;
		}
		if (clock_now_ms() >= deadline_ms)
			return ERR_OK;
	}
}

enum err_code worker_next(struct worker *w, int64_t deadline_ms,
			  const struct wire_msg **out, struct err *e)
{
	*out = w->message;
	for (;;) {
		drop_message(w);
		bool is_new = !wire_has_more(w->message);
		enum err_code rc = wire_receive(w->sock, 0, w->message, e);
		if (rc == ERR_NET_DIED)
			return died(w, e);
		if (rc != ERR_OK)
			return rc;
		if (w->message->type == WIRE_NOTE) {
			log_note(&w->message->note);
			continue;
		}
		if (w->message->type != WIRE_NONE)
			return is_new ? signals_check(e) : ERR_OK;
		bool ready = false;
		rc = flush(w, e);
		if (rc == ERR_OK)
			rc = wait_readable(w, deadline_ms, &ready, e);
		if (rc != ERR_OK || !ready)
			return rc;
	}
}

enum err_code worker_lied(const struct wire_msg *m, struct err *e)
{
	return err_set(e, ERR_NET_LIED, "message %s does not belong here",
		       wire_name(m->type));
}

enum err_code worker_cancel(struct worker *w, struct err *e)
{
	struct wire_cancel m = { 0 };
	const struct wire_msg *answer;
	enum err_code rc = worker_send(w, WIRE_CANCEL, &m, e);
	int64_t until = clock_now_ms() + ANSWER_MAX_MS;
	while (rc == ERR_OK) {
		rc = worker_next(w, until, &answer, e);
		if (rc == ERR_OK && answer->type == WIRE_DONE &&
		    answer->done.answers_cancel)
			return ERR_OK;
		if (rc == ERR_OK && answer->type == WIRE_DATA)
			rc = worker_give_back(w, answer->data.slot, e);
		if (rc == ERR_OK &&
		    (answer->type == WIRE_NONE || clock_now_ms() >= until))
			rc = err_set(e, ERR_NET_LIED,
				     "the network process does not answer");
	}
	return rc;
}

enum err_code worker_call(struct worker *w, enum wire_type type,
			  const void *fields, worker_on_message *on_message,
			  void *arg, struct err *e)
{
	const struct wire_msg *m;
	enum err_code rc = worker_send(w, type, fields, e);
	while (rc == ERR_OK) {
		rc = worker_next(w, INT64_MAX, &m, e);
		if (rc != ERR_OK)
			return rc;
		if (m->type == WIRE_DONE && m->done.answers_cancel)
			return worker_lied(m, e);
		if (m->type == WIRE_DONE) {
			if (m->done.code == ERR_OK)
				return ERR_OK;
			err_set(e, (enum err_code)m->done.code, "%.*s",
				SPAN_ARG(m->done.text));
			e->retry_after_s = (unsigned)m->done.retry_after_s;
			return e->code;
		}
		rc = on_message(arg, m, e);
		if (rc != ERR_OK) {
			struct err ignored;
			worker_cancel(w, &ignored);
			return rc;
		}
	}
	return rc;
}

enum err_code worker_sleep(int64_t delay_ms, struct err *e)
{
	bool ready;
	return wait_readable(NULL, clock_now_ms() + delay_ms, &ready, e);
}

const char *worker_slot(const struct worker *w, uint64_t slot)
{
	return w->ring && slot < w->slots ? w->ring + slot * SLOT_BYTES : NULL;
}

uint64_t worker_slot_bytes(const struct worker *w)
{
	(void)w;
	return SLOT_BYTES;
}

uint64_t worker_ring_bytes(const struct worker *w)
{
	return (uint64_t)w->slots * SLOT_BYTES;
}

unsigned worker_connections(const struct worker *w)
{
	return w->connections;
}
