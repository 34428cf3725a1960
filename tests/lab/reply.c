#include "standin.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * libmicrohttpd 0.9.75 (Debian 12) has no call for an own reason phrase, and the wire
 * needs them ("CMGService_Invalid_Token"). It asks these two exported functions for
 * the words of a status, through the dynamic linker, so the definitions here win.
 * Each connection has its own thread: a thread's variable is a connection's variable.
 * The phrase is sent as the header X-Reason too, for readers that lose the words.
 */
static _Thread_local unsigned own_status;
static _Thread_local char own_reason[128];

static const struct {
	unsigned status;
	const char *words;
} usual[] = {
	{200, "OK"}, {206, "Partial Content"}, {301, "Moved Permanently"},
	{302, "Found"}, {303, "See Other"}, {304, "Not Modified"},
	{307, "Temporary Redirect"}, {308, "Permanent Redirect"},
	{400, "Bad Request"}, {401, "Unauthorized"}, {403, "Forbidden"},
	{404, "Not Found"}, {405, "Method Not Allowed"}, {408, "Request Timeout"},
	{409, "Conflict"}, {410, "Gone"}, {411, "Length Required"},
	{412, "Precondition Failed"}, {413, "Payload Too Large"},
	{416, "Range Not Satisfiable"}, {429, "Too Many Requests"},
	{500, "Internal Server Error"}, {501, "Not Implemented"},
	{502, "Bad Gateway"}, {503, "Service Unavailable"}, {504, "Gateway Timeout"},
};

static const char *usual_words(unsigned status)
{
	for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
		if (usual[i].status == status)
			return usual[i].words;
	return "Unknown";
}

const char *reply_reason(const struct reply *r)
{
	return r->reason[0] ? r->reason : usual_words(r->status);
}

const char *MHD_get_reason_phrase_for(unsigned int code)
{
	return own_reason[0] && code == own_status ? own_reason : usual_words(code);
}

size_t MHD_get_reason_phrase_len_for(unsigned int code)
{
	return strlen(MHD_get_reason_phrase_for(code));
}

void reply_header(struct reply *r, const char *form, ...)
{
	va_list list;

	if (r->n_headers == MAX_HEADERS)
		return;
	va_start(list, form);
	if (vasprintf(&r->headers[r->n_headers++], form, list) < 0)
		abort();
	va_end(list);
}

void refuse(struct request *q, struct reply *r, unsigned status, const char *reason,
	const char *form, ...)
{
	va_list list;
	char *why = NULL;

	va_start(list, form);
	if (vasprintf(&why, form, list) < 0)
		abort();
	va_end(list);
	const char *words = reason ? reason : usual_words(status);
	note(q, "refused", why);
	free(why);
	r->status = status;
	snprintf(r->reason, sizeof r->reason, "%s", reason ? reason : "");
	snprintf(r->content_type, sizeof r->content_type, "text/html");
	buf_free(&r->body);
	buf_printf(&r->body, "<html><head><title>%u</title></head><body>"
		"<h2>%u - %s</h2></body></html>\r\n", status, status,
		words);
}

/* What a response that ends too early reads from. */
struct source {
	struct buf body;
	int fd;
	uint64_t offset, end;
};

static ssize_t source_read(void *data, uint64_t at, char *to, size_t room)
{
	struct source *s = data;

	if (at >= s->end)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (room > s->end - at)
		room = (size_t)(s->end - at);
	if (s->fd < 0) {
		memcpy(to, s->body.p + at, room);
		return (ssize_t)room;
	}
	ssize_t n = pread(s->fd, to, room, (off_t)(s->offset + at));
	return n > 0 ? n : MHD_CONTENT_READER_END_WITH_ERROR;
}

static void source_free(void *data)
{
	struct source *s = data;

	if (s->fd >= 0)
		close(s->fd);
	buf_free(&s->body);
	free(s);
}

/* Takes the body or the file of `r`. */
static struct MHD_Response *make_response(struct reply *r)
{
	struct MHD_Response *m;

	if (r->cut) {
		struct source *s = must_alloc(sizeof *s);
		uint64_t size = r->fd >= 0 ? r->size : r->body.n;
		*s = (struct source){.body = r->body, .fd = r->fd,
			.offset = r->offset, .end = r->cut < size ? r->cut : size};
		m = MHD_create_response_from_callback(size, 65536, source_read, s,
			source_free);
		r->body = (struct buf){0};
	} else if (r->fd >= 0) {
		m = MHD_create_response_from_fd_at_offset64(r->size, r->fd, r->offset);
	} else {
		m = MHD_create_response_from_buffer(r->body.n,
			r->body.p ? r->body.p : must_alloc(1), MHD_RESPMEM_MUST_FREE);
		r->body = (struct buf){0};
	}
	r->fd = -1;
	if (!m)
		abort();
	return m;
}

static void add_headers(struct MHD_Response *m, struct reply *r)
{
	if (r->content_type[0])
		MHD_add_response_header(m, "Content-Type", r->content_type);
	if (r->reason[0])
		MHD_add_response_header(m, "X-Reason", r->reason);
	for (size_t i = 0; i < r->n_headers; i++) {
		char *colon = strchr(r->headers[i], ':');
		if (colon) {
			*colon++ = 0;
			colon += strspn(colon, " ");
			MHD_add_response_header(m, r->headers[i], colon);
		}
		free(r->headers[i]);
	}
	r->n_headers = 0;
}

enum MHD_Result reply_send(struct request *q, struct reply *r)
{
	struct MHD_Response *m = make_response(r);

	add_headers(m, r);
	own_status = r->status;
	snprintf(own_reason, sizeof own_reason, "%s", r->reason);
	enum MHD_Result rc = r->is_closed ? MHD_NO
		: MHD_queue_response(q->connection, r->status, m);
	MHD_destroy_response(m);
	return rc;
}
