#include "mp_signed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SHA256_RSA "1.2.840.113549.1.1.11"

/* ---- messages ---- */

static const struct element *find_hook(const struct mp_request *m)
{
	const struct element *hooks = xml_child(m->msg, "Hooks");

	for (const struct element *h = hooks ? hooks->first : NULL; h; h = h->next) {
		const char *name = xml_attribute(h, "Name");
		if (name && !strcmp(name, "clientauth"))
			return h;
	}
	return NULL;
}

/* Text of the property, NULL when it is absent. */
static const char *property(const struct element *hook, const char *name)
{
	for (const struct element *p = hook->first; p; p = p->next) {
		const char *has = xml_attribute(p, "Name");
		if (has && !strcmp(has, name))
			return xml_text(p);
	}
	return NULL;
}

static void check_names(const struct element *hook, struct request *q)
{
	static const char *const known[] = {"AuthSenderMachine", "PublicKey",
		"ClientIDSignature", "PayloadSignature", "ClientCapabilities",
		"ClientCapability", "HashAlgorithm", NULL};

	for (const struct element *p = hook->first; p; p = p->next) {
		const char *name = xml_attribute(p, "Name");
		bool is_known = false;
		for (size_t i = 0; name && known[i]; i++)
			is_known = is_known || !strcmp(name, known[i]);
		if (!is_known)
			violation(q, "clientauth: unknown property %s",
				name ? name : "without a name");
		else if (property(hook, name) != xml_text(p))
			violation(q, "clientauth: property %s twice", name);
	}
}

/* `text` in UTF-16LE with one NUL, as identifiers and tokens are signed. */
static bool is_text_signed(X509 *crt, const char *signature, const char *text,
	struct buf *why)
{
	struct buf wide = {0};

	utf8_to_utf16(&wide, text, strlen(text));
	buf_add(&wide, "\0\0", 2);
	bool is_good = identity_verify(crt, signature, wide.p, wide.n, why);
	buf_free(&wide);
	return is_good;
}

static bool is_key(X509 *crt, const char *wanted)
{
	struct buf blob = {0};

	identity_blob(crt, &blob);
	bool is_it = !strcmp(blob.p, wanted);
	buf_free(&blob);
	return is_it;
}

static bool check_hook(const struct element *hook, const struct mp_request *m,
	const struct client *who, struct buf *why)
{
	const char *algorithm = property(hook, "HashAlgorithm");
	const char *payload = property(hook, "PayloadSignature");
	const char *key = property(hook, "PublicKey");
	const char *id = property(hook, "ClientIDSignature");
	const char *sender = property(hook, "AuthSenderMachine");

	/* the set that an MP is known to accept; of less, nobody has told */
	if (!sender || !*sender || (!property(hook, "ClientCapabilities")
			&& !property(hook, "ClientCapability")))
		buf_puts(why, "no AuthSenderMachine or no ClientCapabilities");
	else if (!algorithm || strcmp(algorithm, SHA256_RSA))
		buf_puts(why, "HashAlgorithm is not " SHA256_RSA);
	else if (key && !is_key(who->signing, key))
		buf_puts(why, "PublicKey is not that of the certificate");
	else if (!payload)
		buf_puts(why, "no PayloadSignature");
	else if (!identity_verify(who->signing, payload, buf_text(&m->sent),
			m->sent.n, why))
		buf_puts(why, ": PayloadSignature");
	else if (id && !is_text_signed(who->signing, id, who->smsid, why))
		buf_puts(why, ": ClientIDSignature");
	return why->n == 0;
}

enum signed_state signed_message(const struct mp_request *m, struct request *q,
	struct client *who, struct buf *why)
{
	const struct element *hook = find_hook(m);
	const char *source = xml_text(xml_child(m->msg, "SourceID"));

	*who = (struct client){0};
	if (!hook)
		return UNSIGNED;
	check_names(hook, q);
	if (!source || !client_load(who, q->options->dir, source)) {
		buf_printf(why, "unknown client %s", source ? source : "");
		return BADLY_SIGNED;
	}
	if (check_hook(hook, m, who, why))
		return SIGNED;
	client_free(who);
	return BADLY_SIGNED;
}

/* ---- GETs ---- */

/* GUID:<guid>;<time>;2 */
static bool read_token(const char *token, char smsid[SMSID_SIZE], time_t *when)
{
	const char *at = strchr(token, ';');
	char *id = at ? must_dup(token, (size_t)(at - token)) : NULL;
	struct tm tm = {0};
	bool is_id = id && smsid_read(smsid, id);
	bool is_written_so = is_id && !strcmp(id, smsid);

	free(id);
	/* strptime is lenient about the number of digits */
	if (!is_written_so || strlen(at + 1) != strlen("YYYY-MM-DDTHH:MM:SSZ;2"))
		return false;
	const char *end = strptime(at + 1, "%Y-%m-%dT%H:%M:%SZ", &tm);
	*when = timegm(&tm);
	return end && !strcmp(end, ";2");
}

enum signed_state signed_get(struct request *q, long minutes, struct client *who,
	struct buf *why)
{
	const char *token = request_header(q, "ClientToken");
	const char *signature = request_header(q, "ClientTokenSignature");
	char smsid[SMSID_SIZE];
	time_t when;

	*who = (struct client){0};
	if (!token && !signature)
		return UNSIGNED;
	if (!token || !signature)
		buf_puts(why, "only one of ClientToken and ClientTokenSignature");
	else if (!read_token(token, smsid, &when))
		buf_printf(why, "ClientToken is %s", token);
	else if (labs((long)(time(NULL) - when)) > minutes * 60)
		buf_puts(why, "the time of ClientToken is not now");
	else if (!client_load(who, q->options->dir, smsid))
		buf_printf(why, "unknown client %s", smsid);
	else if (!is_text_signed(who->signing, signature, token, why))
		buf_puts(why, ": ClientTokenSignature");
	if (why->n == 0)
		return SIGNED;
	client_free(who);
	return BADLY_SIGNED;
}
