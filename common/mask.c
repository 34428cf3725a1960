#include "common/mask.h"

#include "common/own.h"
#include "common/url.h"

#include <ctype.h>

#define MASKED_MAX (512u << 10) /* what is longer is not shown at all */

/* ---- values of parameters ---- */

static bool is_one_of(const char *name, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(name, *list) == 0)
			return true;
	return false;
}

/* Secret wherever "name=" stands, or only where it stands in a query: "code="
 * and "key=" are ordinary words of our own log lines. */
static bool is_secret(const char *name, bool in_query)
{
	static const char *const anywhere[] = { "sig", "pwd", "passphrase", NULL };
	static const char *const query[] = { "key", "code", "pass", "auth",
					     "signature", NULL };
	static const char *const parts[] = { "token", "password", "passwd",
					     "secret", "credential", "apikey",
					     "accesskey", "accountkey", NULL };
	size_t len = strlen(name);
	if (len >= 5 && strcmp(name + len - 5, "_file") == 0)
		return false;
	for (size_t i = 0; parts[i]; i++)
		if (strstr(name, parts[i]))
			return true;
	return is_one_of(name, anywhere) || (in_query && is_one_of(name, query));
}

static bool is_name_char(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '-';
}

/*
 * The name that ends before `end`, lower case, percent-decoded, at most its last
 * 32 bytes. *before becomes the character in front of it, '\0' at the start.
 */
static void name_before(struct span text, size_t end, char name[33], char *before)
{
	size_t at = 32;
	name[at] = '\0';
	*before = '\0';
	while (end > 0 && at > 0) {
		size_t step = 1;
		int c = end >= 3 ? url_decode_byte(text, end - 3) : -1;
		if (c >= 0)
			step = 3;
		else
			c = (unsigned char)text.at[end - 1];
		*before = (char)c;
		if (!is_name_char((char)c))
			break;
		name[--at] = (char)tolower(c);
		*before = '\0';
		end -= step;
	}
	memmove(name, name + at, 33 - at);
}

/* Where the value that begins at `i` ends; a quoted one at its quote. */
static size_t value_end(struct span text, size_t i)
{
	char quote = '\0';
	if (i < text.len && (text.at[i] == '"' || text.at[i] == '\''))
		quote = text.at[i++];
	for (; i < text.len; i++) {
		unsigned char c = (unsigned char)text.at[i];
		if (quote ? c == (unsigned char)quote
			  : c <= ' ' || strchr("&#\"'<>", c))
			break;
	}
	return i;
}

/* Does a value begin at `i`? Then *len is the length of the mark before it:
 * "=", "%3D", or the '>' of "<Token>". */
static bool is_secret_mark(struct span text, size_t i, size_t *len)
{
	char name[33], before;
	char c = text.at[i];
	bool is_equals = c == '=' || url_decode_byte(text, i) == '=';
	if (!is_equals && c != '>')
		return false;
	*len = c == '%' ? 3 : 1;
	name_before(text, i, name, &before);
	if (c == '>')
		return (before == '<' || before == ':') && is_secret(name, false);
	/* ';' ends the "&amp;" of a URL inside XML. */
	return is_secret(name, before == '\0' || strchr("?&;", before));
}

/* Length of "user:password@" at `i`, which stands behind "://", or 0. */
static size_t userinfo(struct span text, size_t i)
{
	size_t at = 0;
	for (size_t k = i; k < text.len && (unsigned char)text.at[k] > ' ' &&
			   !strchr("/?#\"'<>", text.at[k]); k++)
		if (text.at[k] == '@')
			at = k + 1 - i;
	return at;
}

void mask_values(struct span text, struct buf *out)
{
	for (size_t i = 0; i < text.len;) {
		size_t len = 0;
		if (span_begins_nocase(span_after(text, i), "://")) {
			buf_text(out, "://");
			i += 3;
			len = userinfo(text, i);
			if (len)
				buf_text(out, "***@");
			i += len;
		} else if (is_secret_mark(text, i, &len)) {
			buf_add(out, text.at + i, len);
			i += len;
			size_t end = value_end(text, i);
			if (end > i)
				buf_text(out, "***");
			/* The closing quote belongs to what is masked. */
			if (end < text.len && end > i && text.at[end] == text.at[i])
				end++;
			i = end;
		} else {
			buf_char(out, text.at[i++]);
		}
	}
}

/* ---- and the rest ---- */

/* Length of what stands before one of `stops`, or all. */
static size_t until(struct span s, const char *stops)
{
	size_t i = 0;
	while (i < s.len && !(s.at[i] && strchr(stops, s.at[i])))
		i++;
	return i;
}

/* Length of a PEM block with a private key that begins here, or 0. */
static size_t pem_key(struct span s)
{
	struct span first = { s.at, s.len < 80 ? s.len : 80 };
	if (!span_begins_nocase(s, "-----BEGIN ") ||
	    memmem(s.at, until(first, "\r\n"), "PRIVATE KEY", 11) == NULL)
		return 0;
	const char *end = memmem(s.at, s.len, "-----END ", 9);
	if (end == NULL)
		return s.len; /* cut off: all of it is key */
	size_t at = (size_t)(end - s.at) + 9;
	const char *dashes = memmem(s.at + at, s.len - at, "-----", 5);
	return dashes ? (size_t)(dashes - s.at) + 5 : s.len;
}

/* Does a secret begin here? *keep: bytes before it, *drop: its own length. */
static bool find_secret(struct span s, bool is_word, size_t *keep, size_t *drop)
{
	static const char *const headers[] = {
		"Authorization:", "Proxy-Authorization:", "Cookie:",
		"Set-Cookie:", "CCMToken:", "ClientToken:",
		"ClientTokenSignature:", "X-CCM-Token:",
	};
	*keep = 0;
	*drop = pem_key(s);
	if (*drop)
		return true;
	if (!is_word)
		return false;
	if (span_begins_nocase(s, "Bearer ")) {
		*keep = 7;
		*drop = until((struct span){ s.at + 7, s.len - 7 },
			      " \t\r\n\"'<>,;");
		return *drop > 0;
	}
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		if (!span_begins_nocase(s, headers[i]))
			continue;
		*keep = strlen(headers[i]);
		*drop = until((struct span){ s.at + *keep, s.len - *keep }, "\r\n");
		return *drop > 0;
	}
	return false;
}

void mask_text(struct span text, struct buf *out)
{
	autobuf masked = { .max = MASKED_MAX };
	size_t keep, drop;
	bool is_word = true; /* a word begins here */
	mask_values(text, &masked);
	if (masked.failed) { /* rather nothing than a secret */
		buf_text(out, "***");
		return;
	}
	struct span s = buf_as_span(&masked);
	while (s.len) {
		if (find_secret(s, is_word, &keep, &drop)) {
			buf_add(out, s.at, keep);
			buf_text(out, keep && s.at[keep - 1] == ':' ? " ***" : "***");
		} else {
			keep = 1;
			drop = 0;
			buf_char(out, s.at[0]);
		}
		is_word = !isalnum((unsigned char)s.at[keep + drop - 1]);
		s.at += keep + drop;
		s.len -= keep + drop;
	}
}
