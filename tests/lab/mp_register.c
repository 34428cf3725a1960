#include "mp_register.h"
#include "mp_identity.h"
#include "mp_reply.h"
#include "mp_rules.h"
#include "mp_site.h"

#include <string.h>

#define FOR_SIGNING "1.3.6.1.4.1.311.101"
#define FOR_ENCRYPTION "1.3.6.1.4.1.311.101.2"

static const struct element *data_of(const struct mp_request *m)
{
	return xml_child(m->body, "Data");
}

/* Where `text`, as UTF-16LE, begins at a whole character; NULL = nowhere. */
static const char *find_wide(const char *at, const char *end, const char *text)
{
	struct buf wide = {0};
	const char *found = at;

	utf8_to_utf16(&wide, text, strlen(text));
	do {
		found = memmem(found, (size_t)(end - found), wide.p, wide.n);
	} while (found && (found - at) % 2 && found++);
	buf_free(&wide);
	return found;
}

/* The text from <Data to </Data>, as it was sent. */
static bool find_data(const struct mp_request *m, const char **at, size_t *n)
{
	static const char last[] = "</Data>";
	const char *text = buf_text(&m->text), *end = text + m->text.n;

	*at = find_wide(text, end, "<Data");
	const char *stop = *at ? find_wide(*at, end, last) : NULL;
	if (!stop)
		return false;
	*n = (size_t)(stop - *at) + 2 * (sizeof last - 1);
	return true;
}

static bool read_certificates(const struct mp_request *m, struct client *c,
	struct buf *why)
{
	const struct element *box = xml_child(data_of(m), "Certificates");

	c->signing = identity_certificate(xml_text(xml_child(box, "Signing")),
		FOR_SIGNING, why);
	if (!c->signing) {
		buf_puts(why, ": signing certificate");
		return false;
	}
	c->encryption = identity_certificate(xml_text(xml_child(box, "Encryption")),
		FOR_ENCRYPTION, why);
	if (!c->encryption)
		buf_puts(why, ": encryption certificate");
	return c->encryption != NULL;
}

/* Whether a site cares is not on record: it is noted, and let pass. */
static void check_times(const struct client *c, struct request *q)
{
	if (!identity_is_current(c->signing) || !identity_is_current(c->encryption))
		violation(q, "certificate that is not valid at this time");
}

static bool check_signature(const struct mp_request *m, const struct client *c,
	struct buf *why)
{
	const char *value = xml_text(xml_child(xml_child(m->body, "Signature"),
		"SignatureValue"));
	const char *text;
	size_t n;

	if (!value)
		buf_puts(why, "no SignatureValue");
	else if (!find_data(m, &text, &n))
		buf_puts(why, "no text of Data");
	else if (!identity_verify(c->signing, value, text, n, why))
		buf_puts(why, ": SignatureValue");
	return why->n == 0;
}

/*
 * The id. One that the client names is kept when it is that of this very key;
 * nobody takes over the id of another one. An id that the site does not know (the
 * record is silent) is answered with a new one.
 */
static bool give_id(const struct mp_request *m, const struct request *q,
	struct client *c, struct buf *why)
{
	const char *wanted = xml_attribute(data_of(m), "SMSID");
	struct client old;

	identity_smsid(c->signing, c->smsid);
	if (wanted && client_load(&old, q->options->dir, wanted)) {
		if (!identity_is_same(old.signing, c->signing))
			buf_puts(why, "SMSID is that of another certificate");
		else
			memcpy(c->smsid, old.smsid, sizeof c->smsid);
		client_free(&old);
	}
	return why->n == 0;
}

static void check_properties(const struct mp_request *m, struct request *q)
{
	static const char *const names[] = {"Netbios Name", "FQ Name", "Locale ID",
		"InternetFlag"};
	const struct element *box = xml_child(data_of(m), "DiscoveryProperties");

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const struct element *p = box ? box->first : NULL;
		for (; p; p = p->next) {
			const char *name = xml_attribute(p, "Name");
			if (name && !strcmp(name, names[i]))
				break;
		}
		if (!p)
			violation(q, "DiscoveryProperties: no %s", names[i]);
	}
}

/* Beside SMSID the record knows no attribute; the others are for readers to skip. */
static void answer(const struct script *s, const struct mp_request *m,
	struct request *q, struct reply *r, const char *smsid)
{
	struct buf text = {0};

	buf_printf(&text, "<ClientRegistrationResponse ErrorCode=\"0\" Status=\"1\" "
		"SMSID=\"%s\"/>", smsid);
	mp_reply(s, m, q, r, &text);
	buf_free(&text);
}

void mp_register(const struct script *s, const struct mp_request *m,
	struct request *q, struct reply *r)
{
	struct client c = {0};
	struct buf why = {0};

	if (strcmp(m->body->name, "ClientRegistrationRequest")) {
		refuse(q, r, 500, NULL, "MP_ClientRegistration got %s", m->body->name);
		return;
	}
	mp_rules_check(q, m->body, mp_rules_registration);
	check_properties(m, q);
	if (read_certificates(m, &c, &why) && check_signature(m, &c, &why)
	    && give_id(m, q, &c, &why)) {
		if (client_keep(&c, q->options->dir)) {
			check_times(&c, q);
			site_count_anew(q, c.smsid);
			note(q, "smsid", c.smsid);
			answer(s, m, q, r, c.smsid);
		} else {
			refuse(q, r, 500, NULL, "cannot keep the client");
		}
	} else {
		mp_reply_nothing(q, r, buf_text(&why));
	}
	client_free(&c);
	buf_free(&why);
}
