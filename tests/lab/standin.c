#include "standin.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { MAX_BODY = 4 << 20, HEADER_MEMORY = 256 << 10, MAX_CONNECTIONS = 4000 };

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

/* Lets SIGTERM end the replies that wait. */
static pthread_mutex_t end_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t end_signal = PTHREAD_COND_INITIALIZER;
static bool is_ending;

/* ---- the request ---- */

const char *request_header(const struct request *q, const char *name)
{
	return MHD_lookup_connection_value(q->connection, MHD_HEADER_KIND, name);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool percent_decode(char *s)
{
	char *to = s;

	for (; *s; s++, to++) {
		*to = *s;
		if (*s != '%')
			continue;
		int high = hex_digit(s[1]);
		int low = high < 0 ? -1 : hex_digit(s[2]);
		if (low < 0 || high + low == 0)
			return false;
		*to = (char)(high * 16 + low);
		s += 2;
	}
	*to = 0;
	return true;
}

char *request_parameter(const struct request *q, const char *name)
{
	size_t n = strlen(name);

	for (const char *s = q->query; s && *s; s += *s == '&') {
		size_t all = strcspn(s, "&");
		if (all > n && s[n] == '=' && !strncasecmp(s, name, n)) {
			char *value = must_dup(s + n + 1, all - n - 1);
			if (percent_decode(value))
				return value;
			free(value);
			return NULL;
		}
		s += all;
	}
	return NULL;
}

void violation(struct request *q, const char *form, ...)
{
	va_list list;
	char *text = NULL;

	va_start(list, form);
	if (vasprintf(&text, form, list) < 0)
		abort();
	va_end(list);
	if (q->violations.n)
		buf_puts(&q->violations, ",");
	buf_json(&q->violations, text);
	free(text);
}

void note(struct request *q, const char *name, const char *value)
{
	buf_printf(&q->fields, ",\"%s\":", name);
	buf_json(&q->fields, value);
}

void note_raw(struct request *q, const char *name, const char *json)
{
	buf_printf(&q->fields, ",\"%s\":%s", name, json);
}

void check_http(struct request *q)
{
	if (request_header(q, "Expect"))
		violation(q, "header Expect: clients send none");
	if (request_header(q, "Referer"))
		violation(q, "header Referer: tells where the client was");
	if (!request_header(q, "User-Agent"))
		violation(q, "no User-Agent");
	if (q->has_token && !q->options->cert)
		violation(q, "a token over plain HTTP");
}

static void judge_token(struct request *q)
{
	const struct options *o = q->options;
	const char *value = request_header(q, o->token_name);
	size_t n = strlen(o->token_prefix);

	if (!value)
		return;
	q->has_token = true;
	if (n && (strncmp(value, o->token_prefix, n) || value[n++] != ' '))
		return;
	q->is_token_good = o->token && !strcmp(value + n, o->token);
}

/* The session of a TLS connection, NULL on plain HTTP. */
static gnutls_session_t tls_session(const struct request *q)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(q->connection,
		MHD_CONNECTION_INFO_GNUTLS_SESSION);

	return q->options->cert && info ? (gnutls_session_t)info->tls_session : NULL;
}

static void judge_client(struct request *q)
{
	gnutls_session_t session = tls_session(q);
	gnutls_x509_crt_t crt;
	unsigned n = 0, faults = 0;
	gnutls_datum_t name = {0};
	const gnutls_datum_t *list =
		session ? gnutls_certificate_get_peers(session, &n) : NULL;
	gnutls_typed_vdata_st purpose = {
		.type = GNUTLS_DT_KEY_PURPOSE_OID,
		.data = (unsigned char *)(size_t)GNUTLS_KP_TLS_WWW_CLIENT,
	};

	if (!list || n == 0 || gnutls_x509_crt_init(&crt) < 0)
		return;
	if (gnutls_x509_crt_import(crt, &list[0], GNUTLS_X509_FMT_DER) >= 0
	    && gnutls_x509_crt_get_dn3(crt, &name, 0) >= 0) {
		q->client_subject = must_dup((const char *)name.data, name.size);
		gnutls_free(name.data);
	}
	gnutls_x509_crt_deinit(crt);
	int rc = gnutls_certificate_verify_peers(session, &purpose, 1, &faults);
	q->is_client_good = q->options->client_ca && rc >= 0 && faults == 0;
}

/* ---- the log ---- */

static void log_tls(struct buf *line, const struct request *q)
{
	gnutls_session_t session = tls_session(q);
	char name[256] = "";
	size_t n = sizeof name - 1;
	unsigned type;

	if (!session)
		return;
	buf_puts(line, ",\"tls\":");
	buf_json(line, gnutls_protocol_get_name(gnutls_protocol_get_version(session)));
	if (gnutls_server_name_get(session, name, &n, &type, 0) < 0)
		name[0] = 0;
	buf_puts(line, ",\"sni\":");
	buf_json(line, name[0] ? name : NULL);
}

static int peer_port(const struct request *q)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(q->connection,
		MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	const struct sockaddr_in *in =
		(const struct sockaddr_in *)(const void *)info->client_addr;

	return ntohs(in->sin_port);     /* at the same place for IPv6 */
}

void append_line(const char *dir, const char *name, const struct buf *line)
{
	char path[4096];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	pthread_mutex_lock(&log_lock);
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, line->p, line->n) != (ssize_t)line->n)
		fprintf(stderr, "log %s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	pthread_mutex_unlock(&log_lock);
}

static void log_member(struct buf *line, const char *name, const char *value)
{
	buf_printf(line, ",\"%s\":", name);
	buf_json(line, value);
}

static void log_request(const struct request *q, const struct reply *r)
{
	struct buf line = {0};
	char name[32];
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	buf_printf(&line, "{\"time\":%lld.%03ld", (long long)now.tv_sec,
		now.tv_nsec / 1000000);
	log_member(&line, "method", q->method);
	log_member(&line, "path", q->path);
	log_member(&line, "query", q->query);
	log_member(&line, "host", request_header(q, "Host"));
	log_member(&line, "user_agent", request_header(q, "User-Agent"));
	buf_printf(&line, ",\"peer_port\":%d", peer_port(q));
	log_tls(&line, q);
	buf_printf(&line, ",\"token\":%s,\"token_good\":%s",
		q->has_token ? "true" : "false", q->is_token_good ? "true" : "false");
	log_member(&line, "client_certificate", q->client_subject);
	buf_printf(&line, ",\"status\":%u", r->is_closed ? 0 : r->status);
	log_member(&line, "reason", reply_reason(r));
	buf_puts(&line, buf_text(&q->fields));
	buf_printf(&line, ",\"violations\":[%s]}\n", buf_text(&q->violations));

	snprintf(name, sizeof name, "%s.log", q->options->program);
	append_line(q->options->dir, name, &line);
	buf_free(&line);
}

/* ---- the answer ---- */

static void wait_ms(unsigned ms)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_mutex_lock(&end_lock);
	while (!is_ending
	       && pthread_cond_timedwait(&end_signal, &end_lock, &until) != ETIMEDOUT)
		;
	pthread_mutex_unlock(&end_lock);
}

static enum MHD_Result answer(struct request *q)
{
	struct reply r = {.status = 200, .fd = -1};

	judge_token(q);
	judge_client(q);
	check_http(q);
	if (q->is_too_big)
		refuse(q, &r, 413, NULL, "body over %d bytes", MAX_BODY);
	else
		serve(q, &r);
	log_request(q, &r);
	if (r.delay_ms)
		wait_ms(r.delay_ms);
	return reply_send(q, &r);
}

/* ---- the server ---- */

static void *on_uri(void *data, const char *uri, struct MHD_Connection *connection)
{
	struct request *q = must_alloc(sizeof *q);
	size_t path = strcspn(uri, "?");

	q->options = data;
	q->connection = connection;
	q->uri = must_dup(uri, strlen(uri));
	q->path = must_dup(uri, path);
	q->query = uri[path] ? must_dup(uri + path + 1, strlen(uri + path + 1)) : NULL;
	return q;
}

static void on_done(void *data, struct MHD_Connection *connection, void **slot,
	enum MHD_RequestTerminationCode code)
{
	struct request *q = *slot;

	(void)data, (void)connection, (void)code;
	if (!q)
		return;
	free(q->uri);
	free(q->path);
	free(q->query);
	free(q->client_subject);
	buf_free(&q->body);
	buf_free(&q->violations);
	buf_free(&q->fields);
	free(q);
	*slot = NULL;
}

static enum MHD_Result on_request(void *data, struct MHD_Connection *connection,
	const char *url, const char *method, const char *version, const char *piece,
	size_t *n, void **slot)
{
	struct request *q = *slot;

	(void)data, (void)connection, (void)url, (void)version;
	q->method = method;
	if (!q->is_started) {
		q->is_started = true;
		return MHD_YES;
	}
	if (*n == 0)
		return answer(q);
	if (q->body.n + *n > MAX_BODY)
		q->is_too_big = true;
	else
		buf_add(&q->body, piece, *n);
	*n = 0;
	return MHD_YES;
}

static int usage(const char *program)
{
	fprintf(stderr, "usage: %s --dir DIR [--port N] [--address A] "
		"[--tls CERT.pem KEY.pem] [--client-ca CA.pem]\n"
		"       [--token TOKEN] [--token-header 'NAME[: PREFIX]']\n", program);
	return 2;
}

/* "Name", "Name:" or "Name: Prefix". */
static void set_token_header(struct options *o, const char *text)
{
	size_t n = strcspn(text, ":");
	const char *prefix = text[n] ? text + n + 1 : "";

	free(o->token_name);
	free(o->token_prefix);
	prefix += strspn(prefix, " ");
	o->token_name = must_dup(text, n);
	o->token_prefix = must_dup(prefix, strlen(prefix));
}

static bool read_port(struct options *o, const char *text)
{
	uint64_t n;

	if (!read_number(&text, &n) || *text || n > 65535)
		return false;
	o->port = (uint16_t)n;
	return true;
}

static bool read_options(struct options *o, int argc, char **argv)
{
	static const struct option table[] = {
		{"dir", required_argument, NULL, 'd'},
		{"port", required_argument, NULL, 'p'},
		{"address", required_argument, NULL, 'a'},
		{"tls", required_argument, NULL, 't'},
		{"client-ca", required_argument, NULL, 'c'},
		{"token", required_argument, NULL, 'k'},
		{"token-header", required_argument, NULL, 'h'},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "+", table, NULL)) != -1) {
		switch (c) {
		case 'd': o->dir = optarg; break;
		case 'p':
			if (!read_port(o, optarg))
				return false;
			break;
		case 'a': o->address = optarg; break;
		case 't':
			/* the second word of --tls */
			if (optind >= argc)
				return false;
			o->cert = optarg;
			o->key = argv[optind++];
			break;
		case 'c': o->client_ca = optarg; break;
		case 'k': o->token = optarg; break;
		case 'h': set_token_header(o, optarg); break;
		default: return false;
		}
	}
	return o->dir && optind == argc && (o->cert || !o->client_ca);
}

static bool read_pem(struct buf *out, const char *path)
{
	if (!path)
		return true;
	if (read_file(".", path, out))
		return true;
	fprintf(stderr, "cannot read %s\n", path);
	return false;
}

static struct MHD_Daemon *start(const struct options *o, const struct buf pem[3])
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(o->port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6,
		.sin6_port = htons(o->port)};
	bool is_v6 = inet_pton(AF_INET6, o->address, &in6.sin6_addr) == 1;
	struct MHD_OptionItem list[13] = {
		{MHD_OPTION_SOCK_ADDR, 0, is_v6 ? (void *)&in6 : (void *)&in},
		{MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)on_uri, (void *)(size_t)o},
		{MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_done, NULL},
		{MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEADER_MEMORY, NULL},
		{MHD_OPTION_CONNECTION_TIMEOUT, 120, NULL},
		{MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
		/* a fleet comes at once; libmicrohttpd's own limit is 1020 */
		{MHD_OPTION_CONNECTION_LIMIT, MAX_CONNECTIONS, NULL},
	};
	size_t n = 7;
	unsigned flags = MHD_USE_THREAD_PER_CONNECTION
		| MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL;

	if (is_v6)
		flags |= MHD_USE_IPv6;
	else if (inet_pton(AF_INET, o->address, &in.sin_addr) != 1)
		return NULL;
	if (o->cert) {
		flags |= MHD_USE_TLS;
		list[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0,
			pem[0].p};
		list[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0,
			pem[1].p};
		list[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0,
			(void *)(size_t)"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"};
	}
	if (o->client_ca)
		list[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0,
			pem[2].p};
	list[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
	return MHD_start_daemon(flags, 0, NULL, NULL, on_request, NULL,
		MHD_OPTION_ARRAY, list, MHD_OPTION_END);
}

/* A descriptor for each connection, and some for files. */
static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max < 2 * MAX_CONNECTIONS ? limit.rlim_max
		: 2 * MAX_CONNECTIONS;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static void serve_until_signal(struct MHD_Daemon *d, const sigset_t *ends)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT);
	int number;

	printf("ready %u\n", info->port);
	fflush(stdout);
	sigwait(ends, &number);
	pthread_mutex_lock(&end_lock);
	is_ending = true;
	pthread_cond_broadcast(&end_signal);
	pthread_mutex_unlock(&end_lock);
	MHD_stop_daemon(d);
}

int standin_main(const char *program, int argc, char **argv)
{
	struct options o = {.program = program, .address = "127.0.0.1"};
	struct buf pem[3] = {{0}};
	sigset_t ends;
	int status = 1;

	set_token_header(&o, "Authorization: Bearer");
	if (!read_options(&o, argc, argv)) {
		status = usage(program);
		goto out;
	}
	signal(SIGPIPE, SIG_IGN);
	raise_limit();
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	pthread_sigmask(SIG_BLOCK, &ends, NULL);
	if (!read_pem(&pem[0], o.cert) || !read_pem(&pem[1], o.key)
	    || !read_pem(&pem[2], o.client_ca))
		goto out;
	struct MHD_Daemon *d = start(&o, pem);
	if (!d) {
		fprintf(stderr, "%s: cannot listen on %s port %d\n", program,
			o.address, o.port);
		goto out;
	}
	serve_until_signal(d, &ends);
	status = 0;
out:
	for (size_t i = 0; i < 3; i++)
		buf_free(&pem[i]);
	free(o.token_name);
	free(o.token_prefix);
	return status;
}
