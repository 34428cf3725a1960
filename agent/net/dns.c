#include "agent/net/dns.h"

#include "common/clock.h"
#include "common/own.h"
#include "common/url.h"

#include <ares.h>
#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>

#define CLASS_IN 1
#define DNS_PORT 53
#define TIMEOUT_MAX_MS 600000
#define CHANNEL_SOCKETS 2 /* of one server: UDP and TCP */

struct server {
	ares_channel channel; /* owned; knows this server only */
	char text[64];        /* "127.0.0.1:53", "[::1]:53" */
};

/*
 * What c-ares holds of a question. It calls back once for each, in the worst
 * case from ares_destroy(); who has lost interest meanwhile empties `query`.
 * That is our way to cancel: ares_cancel() would hit every question of the
 * channel, and frees twice when it is called from a callback.
 */
struct attempt {
	struct dns_query *query; /* NULL = nobody waits any more */
};

enum query_state {
	QUERY_ASKED, /* waits for c-ares or the deadline */
	QUERY_ENDED, /* waits for dns_process() to judge what came */
};

struct dns_query {
	struct dns *dns;
	struct dns_query *next;
	char name[256]; /* without trailing dot */
	enum dns_type type;
	dns_done *done;
	void *arg;

	enum query_state state;
	unsigned round, server; /* now asked: 0..tries-1, index */
	struct attempt *attempt; /* NULL = c-ares has nothing of it */
	int64_t began_ms, deadline_ms;
	int status;              /* of c-ares */
	unsigned char *message;  /* owned; NULL = none came */
	size_t message_size;
	struct err story;        /* what the servers of this round said */
};

struct dns {
	struct server servers[DNS_SERVERS_MAX];
	unsigned server_count;
	unsigned timeout_ms, tries;
	struct dns_query *queries; /* owned */
	/* The answer that is being delivered. */
	struct dns_record records[DNS_RECORDS_MAX];
};

/* -- servers --------------------------------------------------------------- */

/*
 * Everything that c-ares would look up in files is given, so that it opens
 * none. NOCHECKRESP: SERVFAIL and the like come to us instead of looking like
 * a refused connection. No EDNS: what needs more than 512 octets comes over
 * TCP.
 */
static int open_channel(struct server *s, unsigned timeout_ms,
			struct ares_addr_port_node *address)
{
	struct in_addr placeholder = { htonl(INADDR_LOOPBACK) };
	struct ares_options o = {
		.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES |
			 ARES_FLAG_NOCHECKRESP,
		.timeout = (int)timeout_ms,
		.tries = 1,
		.ndots = 1,
		.servers = &placeholder,
		.nservers = 1,
		.lookups = (char[]){ "b" },
	};
	int rc = ares_init_options(&s->channel, &o,
				   ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS |
				   ARES_OPT_TRIES | ARES_OPT_NDOTS |
				   ARES_OPT_SERVERS | ARES_OPT_DOMAINS |
				   ARES_OPT_LOOKUPS | ARES_OPT_SORTLIST |
				   ARES_OPT_NOROTATE);
	if (rc == ARES_SUCCESS)
		rc = ares_set_servers_ports(s->channel, address);
	return rc;
}

static enum err_code add_server(struct dns *d,
				const struct ares_addr_port_node *found,
				struct err *e)
{
	struct server *s = &d->servers[d->server_count];
	struct ares_addr_port_node node = *found;
	char text[INET6_ADDRSTRLEN];
	bool is_v6 = node.family == AF_INET6;
	node.next = NULL;
	if (node.udp_port == 0)
		node.udp_port = DNS_PORT;
	if (node.tcp_port == 0)
		node.tcp_port = DNS_PORT;
	inet_ntop(node.family, &node.addr, text, sizeof(text));
	snprintf(s->text, sizeof(s->text), is_v6 ? "[%s]:%d" : "%s:%d", text,
		 node.udp_port);
	int rc = open_channel(s, d->timeout_ms, &node);
	if (rc != ARES_SUCCESS) {
		if (s->channel)
			ares_destroy(s->channel);
		s->channel = NULL;
		return err_set(e, rc == ARES_ENOMEM ? ERR_NOMEM : ERR_INTERNAL,
			       "name server %s: %s", s->text, ares_strerror(rc));
	}
	d->server_count++;
	return ERR_OK;
}

static bool parse_port(struct span text, int *port)
{
	long n = 0;
	if (text.len < 1 || text.len > 5)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		if (!isdigit((unsigned char)text.at[i]))
			return false;
		n = n * 10 + (text.at[i] - '0');
	}
	*port = (int)n;
	return n >= 1 && n <= UINT16_MAX;
}

/* "192.0.2.1", "192.0.2.1:53", "2001:db8::1", "[2001:db8::1]:53" */
static bool parse_server(struct span text, struct ares_addr_port_node *out)
{
	struct span address = text, port = { "", 0 };
	const char *end;
	if (text.len && text.at[0] == '[') {
		if ((end = memchr(text.at, ']', text.len)) == NULL)
			return false;
		address = (struct span){ text.at + 1, (size_t)(end - text.at) - 1 };
		port = (struct span){ end + 1, text.len - address.len - 2 };
		if (port.len && *port.at != ':')
			return false;
	} else if ((end = memchr(text.at, ':', text.len)) != NULL &&
		   end == memrchr(text.at, ':', text.len)) {
		address.len = (size_t)(end - text.at);
		port = (struct span){ end, text.len - address.len };
	}
	char host[INET6_ADDRSTRLEN];
	if (address.len >= sizeof(host))
		return false;
	memcpy(host, address.at, address.len);
	host[address.len] = '\0';
	int number = DNS_PORT;
	if (port.len &&
	    !parse_port((struct span){ port.at + 1, port.len - 1 }, &number))
		return false;
	*out = (struct ares_addr_port_node){
		.family = memchr(host, ':', address.len) ? AF_INET6 : AF_INET,
		.udp_port = number,
		.tcp_port = number,
	};
	return (out->family == AF_INET || text.at[0] == '[' || port.len == 0) &&
	       inet_pton(out->family, host, &out->addr) == 1;
}

static enum err_code add_configured(struct dns *d, struct span list, struct err *e)
{
	struct span line;
	while (span_split(&list, '\n', &line)) {
		struct ares_addr_port_node node;
		line = span_trim(line);
		if (line.len == 0)
			continue;
		if (!parse_server(line, &node))
			return err_set(e, ERR_CONFIG, "name server \"%.*s\" is no "
				       "address", SPAN_ARG(line));
		if (d->server_count == DNS_SERVERS_MAX)
			return err_set(e, ERR_CONFIG, "more than %d name servers",
				       DNS_SERVERS_MAX);
		enum err_code rc = add_server(d, &node, e);
		if (rc != ERR_OK)
			return rc;
	}
	return ERR_OK;
}

/* c-ares reads resolv.conf; without one, or an empty one, it says 127.0.0.1. */
static enum err_code add_system(struct dns *d, const char *resolv_conf,
				struct err *e)
{
	autofree char *path = strdup(resolv_conf ? resolv_conf :
						   "/etc/resolv.conf");
	struct ares_options o = { .resolvconf_path = path };
	struct ares_addr_port_node *found = NULL;
	ares_channel channel;
	if (path == NULL)
		return err_set(e, ERR_NOMEM, "no memory for name servers");
	int rc = ares_init_options(&channel, &o, ARES_OPT_RESOLVCONF);
	if (rc != ARES_SUCCESS)
		return err_set(e, rc == ARES_ENOMEM ? ERR_NOMEM : ERR_CONFIG,
			       "read name servers from %s: %s", path,
			       ares_strerror(rc));
	rc = ares_get_servers_ports(channel, &found);
	ares_destroy(channel);
	if (rc != ARES_SUCCESS)
		return err_set(e, ERR_NOMEM, "name servers of %s: %s", path,
			       ares_strerror(rc));
	enum err_code code = ERR_OK;
	for (struct ares_addr_port_node *n = found;
	     n && code == ERR_OK && d->server_count < DNS_SERVERS_MAX; n = n->next)
		code = add_server(d, n, e);
	ares_free_data(found);
	return code;
}

static enum err_code add_servers(struct dns *d, const struct dns_options *o,
				 struct err *e)
{
	enum err_code rc = add_configured(d, o->servers, e);
	if (rc == ERR_OK && d->server_count == 0)
		rc = add_system(d, o->resolv_conf, e);
	if (rc == ERR_OK && d->server_count == 0)
		rc = err_set(e, ERR_CONFIG, "no name server is configured");
	return rc;
}

struct dns *dns_new(const struct dns_options *options, struct err *e)
{
	struct dns *d = calloc(1, sizeof(*d));
	if (d == NULL || ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
		err_set(e, ERR_NOMEM, "no memory for DNS");
		free(d);
		return NULL;
	}
	d->timeout_ms = options->timeout_ms ? options->timeout_ms : 1;
	if (d->timeout_ms > TIMEOUT_MAX_MS)
		d->timeout_ms = TIMEOUT_MAX_MS;
	d->tries = options->tries ? options->tries : 1;
	if (add_servers(d, options, e) != ERR_OK) {
		dns_free(d);
		return NULL;
	}
	return d;
}

/* -- questions ------------------------------------------------------------- */

static void abandon(struct dns_query *q)
{
	if (q->attempt)
		q->attempt->query = NULL;
	q->attempt = NULL;
}

static void query_free(struct dns_query *q)
{
	abandon(q);
	free(q->message);
	free(q);
}

void dns_free(struct dns *d)
{
	if (d == NULL)
		return;
	for (struct dns_query *q = d->queries, *next; q; q = next) {
		next = q->next;
		query_free(q);
	}
	for (unsigned i = 0; i < d->server_count; i++)
		ares_destroy(d->servers[i].channel); /* frees the attempts */
	ares_library_cleanup();
	free(d);
}

static void unlink_query(struct dns_query *q)
{
	struct dns_query **at = &q->dns->queries;
	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
}

void dns_cancel(struct dns_query *q)
{
	if (q == NULL)
		return;
	unlink_query(q);
	query_free(q);
}

/* From inside c-ares: note what came, do nothing else there. */
static void on_reply(void *arg, int status, int timeouts, unsigned char *message,
		     int size)
{
	struct attempt *a = arg;
	struct dns_query *q = a->query;
	(void)timeouts;
	free(a);
	if (q == NULL)
		return;
	q->attempt = NULL;
	q->state = QUERY_ENDED;
	q->status = status;
	if (message == NULL || size <= 0)
		return;
	q->message = malloc((size_t)size);
	if (q->message == NULL) {
		q->status = ARES_ENOMEM;
		return;
	}
	memcpy(q->message, message, (size_t)size);
	q->message_size = (size_t)size;
}

/* c-ares may call back before ares_query() returns. */
static void ask_server(struct dns_query *q)
{
	struct attempt *a = calloc(1, sizeof(*a));
	q->state = QUERY_ASKED;
	q->deadline_ms = clock_now_ms() + q->dns->timeout_ms;
	if (a == NULL) {
		q->state = QUERY_ENDED;
		q->status = ARES_ENOMEM;
		return;
	}
	a->query = q;
	q->attempt = a;
	ares_query(q->dns->servers[q->server].channel, q->name, CLASS_IN,
		   (int)q->type, on_reply, a);
}

struct dns_query *dns_ask(struct dns *d, const char *name, enum dns_type type,
			  dns_done *done, void *arg, struct err *e)
{
	struct span text = span_of(name);
	if (!url_is_hostname(text)) {
		err_set(e, ERR_DNS_NAME, "\"%.300s\" is no host name", name);
		return NULL;
	}
	struct dns_query *q = calloc(1, sizeof(*q));
	if (q == NULL) {
		err_set(e, ERR_NOMEM, "no memory for a DNS question");
		return NULL;
	}
	if (text.at[text.len - 1] == '.')
		text.len--;
	memcpy(q->name, text.at, text.len);
	q->dns = d;
	q->type = type;
	q->done = done;
	q->arg = arg;
	q->began_ms = clock_now_ms();
	q->next = d->queries;
	d->queries = q;
	ask_server(q);
	return q;
}

/* -- answers --------------------------------------------------------------- */

/* What came, as a code: OK and NXDOMAIN are answers, all else a complaint. */
static enum err_code judge(struct dns_query *q, struct dns_records *out,
			   struct err *e)
{
	struct dns_question asked = { q->name, q->type };
	struct span message = { (const char *)q->message, q->message_size };
	if (q->status == ARES_ENOMEM)
		return err_set(e, ERR_NOMEM, "no memory for a DNS answer");
	if (q->message)
		return dnsmsg_parse(message, &asked, out, e);
	if (q->status == ARES_ETIMEOUT)
		return err_set(e, ERR_DNS_TIMEOUT, "no answer within %u ms",
			       q->dns->timeout_ms);
	if (q->status == ARES_ECONNREFUSED)
		/* A way that is closed needs the same care as one that leads
		 * nowhere: see the advice of this code. */
		return err_set(e, ERR_DNS_TIMEOUT, "cannot be reached");
	return err_set(e, ERR_DNS_SERVER, "%s", ares_strerror(q->status));
}

/* Silence is the least of what a round can tell. */
static void add_complaint(struct dns_query *q, const struct err *said)
{
	struct err *story = &q->story;
	enum err_code code = story->code == ERR_OK ||
			     story->code == ERR_DNS_TIMEOUT ? said->code :
							      story->code;
	bool is_first = story->code == ERR_OK;
	err_set(story, code, "%.320s%s%s asked for %s of %.128s: %s",
		is_first ? "" : story->text, is_first ? "" : "; ",
		q->dns->servers[q->server].text, dnsmsg_type_name(q->type),
		q->name, said->text);
}

/* False when every server had its tries. */
static bool ask_next(struct dns_query *q)
{
	unsigned server = q->server + 1, round = q->round;
	if (server == q->dns->server_count) {
		server = 0;
		round++;
	}
	if (round == q->dns->tries)
		return false;
	if (round != q->round)
		q->story = (struct err){ 0 };
	q->server = server;
	q->round = round;
	free(q->message);
	q->message = NULL;
	q->message_size = 0;
	ask_server(q);
	return true;
}

static void deliver(struct dns_query *q, const struct dns_records *records,
		    const struct err *result)
{
	struct dns_answer answer = {
		.result = *result,
		.records = records->at,
		.count = records->count,
		.duration_ms = (unsigned)(clock_now_ms() - q->began_ms),
	};
	snprintf(answer.server, sizeof(answer.server), "%s",
		 q->dns->servers[q->server].text);
	unlink_query(q);
	q->done(q->arg, &answer);
	query_free(q);
}

static void settle(struct dns_query *q)
{
	struct dns_records records = { q->dns->records, DNS_RECORDS_MAX, 0 };
	struct err said = { 0 };
	enum err_code rc = judge(q, &records, &said);
	bool is_final = rc == ERR_OK || rc == ERR_DNS_NXDOMAIN || rc == ERR_NOMEM;
	if (is_final) /* what others said before does not matter any more */
		q->story = (struct err){ 0 };
	if (rc != ERR_OK)
		add_complaint(q, &said);
	if (is_final || !ask_next(q))
		deliver(q, &records, &q->story);
}

/* -- the loop -------------------------------------------------------------- */

unsigned dns_poll_fds(struct dns *d, struct pollfd *fds, unsigned room)
{
	unsigned n = 0;
	for (unsigned i = 0; i < d->server_count; i++) {
		ares_socket_t socks[CHANNEL_SOCKETS];
		int bits = ares_getsock(d->servers[i].channel, socks,
					CHANNEL_SOCKETS);
		for (unsigned k = 0; k < CHANNEL_SOCKETS && n < room; k++) {
			bool reads = ARES_GETSOCK_READABLE(bits, k);
			bool writes = ARES_GETSOCK_WRITABLE(bits, k);
			if (reads || writes)
				fds[n++] = (struct pollfd){
					.fd = socks[k],
					.events = (short)((reads ? POLLIN : 0) |
							  (writes ? POLLOUT : 0)),
				};
		}
	}
	return n;
}

static int sooner(int a_ms, int64_t b_ms)
{
	if (b_ms < 0)
		b_ms = 0;
	return a_ms >= 0 && a_ms <= b_ms ? a_ms : (int)b_ms;
}

int dns_timeout_ms(struct dns *d, int longest_ms)
{
	int64_t now = clock_now_ms();
	for (const struct dns_query *q = d->queries; q; q = q->next)
		longest_ms = q->state == QUERY_ENDED ?
				     0 :
				     sooner(longest_ms, q->deadline_ms - now);
	/* c-ares has its own clock, and questions that we abandoned. */
	for (unsigned i = 0; i < d->server_count; i++) {
		struct timeval left;
		if (ares_timeout(d->servers[i].channel, NULL, &left))
			longest_ms = sooner(longest_ms,
					    (int64_t)left.tv_sec * 1000 +
						    (left.tv_usec + 999) / 1000);
	}
	return longest_ms;
}

static void turn_channel(ares_channel channel)
{
	ares_socket_t socks[CHANNEL_SOCKETS];
	int bits = ares_getsock(channel, socks, CHANNEL_SOCKETS);
	for (unsigned k = 0; k < CHANNEL_SOCKETS; k++) {
		bool reads = ARES_GETSOCK_READABLE(bits, k);
		bool writes = ARES_GETSOCK_WRITABLE(bits, k);
		if (reads || writes)
			ares_process_fd(channel, reads ? socks[k] : ARES_SOCKET_BAD,
					writes ? socks[k] : ARES_SOCKET_BAD);
	}
	ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

static struct dns_query *first_ended(struct dns *d)
{
	struct dns_query *q = d->queries;
	while (q && q->state != QUERY_ENDED)
		q = q->next;
	return q;
}

void dns_process(struct dns *d, const struct pollfd *fds, unsigned count)
{
	(void)fds, (void)count; /* see the header */
	for (unsigned i = 0; i < d->server_count; i++)
		turn_channel(d->servers[i].channel);
	int64_t now = clock_now_ms();
	for (struct dns_query *q = d->queries; q; q = q->next) {
		if (q->state == QUERY_ENDED || now < q->deadline_ms)
			continue;
		abandon(q);
		q->state = QUERY_ENDED;
		q->status = ARES_ETIMEOUT;
	}
	/* `done` may ask and cancel: begin again after each. */
	struct dns_query *q;
	while ((q = first_ended(d)) != NULL)
		settle(q);
}
