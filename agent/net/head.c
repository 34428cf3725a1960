#include "agent/net/head.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

bool head_parse_number(struct span text, uint64_t *out)
{
	uint64_t n = 0;
	if (text.len == 0 || text.len > 19)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		if (text.at[i] < '0' || text.at[i] > '9')
			return false;
		n = n * 10 + (uint64_t)(text.at[i] - '0');
	}
	*out = n;
	return true;
}

bool head_parse_range(struct span value, struct head *h)
{
	struct span unit, first, last;
	if (!span_split(&value, ' ', &unit) || !span_is_nocase(unit, "bytes"))
		return false;
	if (!span_split(&value, '/', &first))
		return false;
	struct span total = value;
	bool any_total = span_is(total, "*");
	h->range_total = UINT64_MAX;
	if (!any_total && !head_parse_number(total, &h->range_total))
		return false;
	if (span_is(first, "*")) {
		h->range_unsatisfied = true;
		return !any_total;
	}
	struct span range = first;
	if (!span_split(&range, '-', &first))
		return false;
	last = range;
	if (!head_parse_number(first, &h->range_first) ||
	    !head_parse_number(last, &h->range_last))
		return false;
	if (h->range_first > h->range_last ||
	    (!any_total && h->range_last >= h->range_total))
		return false;
	h->has_range = true;
	return true;
}

static void keep(char *out, size_t size, struct span value)
{
	size_t n = value.len < size - 1 ? value.len : size - 1;
	memcpy(out, value.at, n);
	out[n] = '\0';
}

/* "HTTP/1.1 404 Not Found", "HTTP/2 200" */
static void status_line(struct head *h, struct span line)
{
	uint64_t bytes = h->bytes;
	*h = (struct head){ .bytes = bytes };
	struct span version, code;
	uint64_t status;
	if (!span_split(&line, ' ', &version) || !span_split(&line, ' ', &code) ||
	    !head_parse_number(code, &status) || status > 999)
		return;
	h->status = (long)status;
	keep(h->reason, sizeof(h->reason), span_trim(line));
}

#define RETRY_AFTER_MAX_S 86400

static unsigned retry_after(struct span value, int64_t now_s)
{
	uint64_t seconds;
	if (!head_parse_number(value, &seconds)) {
		char text[64];
		struct tm tm = { 0 };
		keep(text, sizeof(text), value);
		/* IMF-fixdate only; C locale, since setlocale is never called */
		if (strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm) == NULL)
			return 0;
		int64_t at = timegm(&tm);
		seconds = at > now_s ? (uint64_t)(at - now_s) : 1;
	}
	return seconds > RETRY_AFTER_MAX_S ? RETRY_AFTER_MAX_S :
					     (unsigned)seconds;
}

static void length(struct head *h, struct span value)
{
	uint64_t n;
	if (!head_parse_number(value, &n) || (h->has_length && n != h->length)) {
		h->bad_length = true;
		return;
	}
	h->has_length = true;
	h->length = n;
}

static void etag(struct head *h, struct span value)
{
	if (value.len >= sizeof(h->etag))
		return; /* too long to be sent back whole: as good as none */
	for (size_t i = 0; i < value.len; i++)
		if ((unsigned char)value.at[i] < 0x21 ||
		    (unsigned char)value.at[i] == 0x7f)
			return;
	keep(h->etag, sizeof(h->etag), value);
	h->etag_is_strong = value.len >= 2 && value.at[0] == '"' &&
			    value.at[value.len - 1] == '"';
}

bool head_line(struct head *h, struct span line, int64_t now_s)
{
	h->bytes += line.len;
	if (h->bytes > HEAD_MAX_BYTES)
		return false;
	line = span_trim(line);
	if (line.len == 0) {
		h->complete = h->status >= 200;
		return true;
	}
	if (line.len > 5 && memcmp(line.at, "HTTP/", 5) == 0 &&
	    (h->status < 200 || h->complete)) {
		status_line(h, line);
		return true;
	}
	struct span name;
	if (h->complete || memchr(line.at, ':', line.len) == NULL ||
	    !span_split(&line, ':', &name))
		return true; /* a trailer, or no header at all */
	struct span value = span_trim(line);
	if (span_is_nocase(name, "content-type"))
		keep(h->content_type, sizeof(h->content_type), value);
	else if (span_is_nocase(name, "location"))
		keep(h->location, sizeof(h->location), value);
	else if (span_is_nocase(name, "etag"))
		etag(h, value);
	else if (span_is_nocase(name, "last-modified"))
		keep(h->last_modified, sizeof(h->last_modified), value);
	else if (span_is_nocase(name, "content-encoding"))
		h->has_encoding |= value.len && !span_is_nocase(value, "identity");
	else if (span_is_nocase(name, "content-range"))
		h->bad_range |= !head_parse_range(value, h);
	else if (span_is_nocase(name, "content-length"))
		length(h, value);
	else if (span_is_nocase(name, "retry-after"))
		h->retry_after_s = retry_after(value, now_s);
	return true;
}
