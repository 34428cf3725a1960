#include "mp_policy.h"
#include "mp_identity.h"
#include "mp_reply.h"
#include "mp_rules.h"
#include "mp_signed.h"
#include "mp_site.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define ID_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" \
	"0123456789{}-_"

enum policy_flags { REQUIRESAUTH = 2, SECRET = 4, COMPRESSED = 64 };

struct policy {
	char id[128];
	char *version, *category, *type;        /* owned */
	long flags;
	struct buf document;                    /* UTF-16LE with its mark */
	struct buf hash;                        /* of it, in hex */
};

/* ---- the folder ---- */

static char *line_or(const struct script *s, const char *key, const char *otherwise)
{
	char *value = script_get(s, key);

	return value ? value : must_dup(otherwise, strlen(otherwise));
}

/* false when there is none of that id. */
static bool policy_read(struct policy *p, const struct request *q,
	const struct site *site, const char *id)
{
	struct buf text = {0};
	struct script conf;
	char name[192];

	*p = (struct policy){0};
	if (strspn(id, ID_CHARACTERS) != strlen(id) || !*id
	    || strlen(id) >= sizeof p->id)
		return false;
	snprintf(p->id, sizeof p->id, "%s", id);
	snprintf(name, sizeof name, "policies/%s.xml", id);
	if (!read_file(q->options->dir, name, &text))
		return false;
	snprintf(name, sizeof name, "policies/%s.conf", id);
	script_read(&conf, q, name);
	p->version = line_or(&conf, "version", "1.00");
	p->category = line_or(&conf, "category", "SoftwareDistribution");
	p->type = line_or(&conf, "type", "Machine");
	p->flags = script_number(&conf, "flags", 0);
	script_free(&conf);
	if (site->has_mark)
		buf_add(&p->document, "\xff\xfe", 2);
	if (!utf8_to_utf16(&p->document, buf_text(&text), text.n))
		fprintf(stderr, "mp: policy %s is not valid UTF-8\n", id);
	identity_digest(buf_text(&p->document), p->document.n, &p->hash);
	buf_free(&text);
	return true;
}

static void policy_free(struct policy *p)
{
	free(p->version);
	free(p->category);
	free(p->type);
	buf_free(&p->document);
	buf_free(&p->hash);
}

static int is_document(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return dot && !strcmp(dot, ".xml") && dot > entry->d_name;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* ---- RequestAssignments ---- */

/* 1.00 becomes 1_00 in a URL. */
static void put_location(struct buf *out, const struct policy *p,
	const struct site *site)
{
	buf_printf(out, "http://<mp>/SMS_MP/.sms_pol?%s.", p->id);
	if (site->is_by_hash) {
		buf_printf(out, "SHA256:%s", p->hash.p);
		return;
	}
	for (const char *s = p->version; *s; s++)
		buf_add(out, *s == '.' ? "_" : s, 1);
}

static void put_assignment(struct buf *out, const struct policy *p,
	const struct site *site)
{
	buf_printf(out, "<PolicyAssignment PolicyAssignmentID=\"%s\">"
		"<Policy PolicyID=\"%s\" PolicyVersion=\"", p->id, p->id);
	buf_xml(out, p->version);
	buf_puts(out, "\" PolicyType=\"");
	buf_xml(out, p->type);
	buf_puts(out, "\" PolicyCategory=\"");
	buf_xml(out, p->category);
	buf_printf(out, "\" PolicyFlags=\"%ld\"><PolicyLocation "
		"PolicyHash=\"SHA256:%s\" PolicyHashEx=\"\"><![CDATA[", p->flags,
		p->hash.p);
	put_location(out, p, site);
	buf_puts(out, "]]></PolicyLocation></Policy></PolicyAssignment>");
}

/* All of them, as far as this client may have them; how many. */
static int put_assignments(struct buf *out, const struct request *q,
	const struct site *site)
{
	struct dirent **list = NULL;
	char path[4096];
	int count = 0;

	snprintf(path, sizeof path, "%s/policies", q->options->dir);
	int n = scandir(path, &list, is_document, by_bytes);
	for (int i = 0; i < n; i++) {
		struct policy p;
		*strrchr(list[i]->d_name, '.') = 0;
		if (policy_read(&p, q, site, list[i]->d_name)
		    && (site->is_approving || !(p.flags & SECRET))) {
			put_assignment(out, &p, site);
			count++;
		}
		policy_free(&p);
		free(list[i]);
	}
	free(list);
	return count;
}

static void check_assignments(const struct mp_request *m, struct request *q,
	const struct client *who)
{
	const struct element *machine = xml_child(xml_child(m->body,
		"Identification"), "Machine");
	const char *id = xml_text(xml_child(machine, "ClientID"));

	mp_rules_check(q, m->body, mp_rules_assignments);
	if (id && strcmp(id, who->smsid))
		violation(q, "ClientID is %s, SourceID %s", id, who->smsid);
}

static void assign(const struct script *s, const struct mp_request *m,
	struct request *q, struct reply *r, const struct site *site)
{
	const char *source = xml_text(xml_child(m->body, "PolicySource"));
	struct buf text = {0};
	char when[32], count[16];

	mp_time(when, sizeof when);
	buf_puts(&text, "<ReplyAssignments SchemaVersion=\"1.00\" ReplyType=\"Full\">"
		"<PolicySource>");
	buf_xml(&text, source ? source : "");
	buf_printf(&text, "</PolicySource><ServerCookie>%s</ServerCookie>", when);
	snprintf(count, sizeof count, "%d", put_assignments(&text, q, site));
	buf_puts(&text, "</ReplyAssignments>");
	note_raw(q, "assignments", count);
	mp_reply(s, m, q, r, &text);
	buf_free(&text);
}

void mp_assign(const struct script *s, const struct mp_request *m, struct request *q,
	struct reply *r)
{
	struct buf why = {0};
	struct client who;
	struct site site;

	site_read(&site, q);
	switch (signed_message(m, q, &who, &why)) {
	case UNSIGNED:
		mp_reply_nothing(q, r, "MP_PolicyManager: not signed");
		break;
	case BADLY_SIGNED:
		mp_reply_nothing(q, r, buf_text(&why));
		break;
	case SIGNED:
		note(q, "signed_by", who.smsid);
		if (site.settle && site_count(q, who.smsid) < site.settle) {
			/* not the client's fault: no violation */
			refuse(q, r, 200, NULL, "the site has not settled");
			buf_free(&r->body);
			r->content_type[0] = 0;
		} else if (strcmp(m->body->name, "RequestAssignments")) {
			refuse(q, r, 500, NULL, "MP_PolicyManager got %s",
				m->body->name);
		} else {
			check_assignments(m, q, &who);
			assign(s, m, q, r, &site);
		}
	}
	client_free(&who);
	buf_free(&why);
}

/* ---- GET ---- */

/* The policy of this URL; false when there is none. */
static bool find_policy(struct policy *p, const struct request *q,
	const struct site *site)
{
	char *wanted = must_dup(q->query ? q->query : "",
		q->query ? strlen(q->query) : 0);
	char *dot = percent_decode(wanted) ? strchr(wanted, '.') : NULL;
	bool is_found = false;

	*p = (struct policy){0};
	if (dot) {
		*dot++ = 0;
		is_found = policy_read(p, q, site, wanted);
	}
	if (is_found && !strncmp(dot, "SHA256:", 7)) {
		is_found = !strcmp(dot + 7, p->hash.p);
	} else if (is_found) {
		for (char *s = dot; *s; s++)
			if (*s == '_')
				*s = '.';
		is_found = !strcmp(dot, p->version);
	}
	free(wanted);
	return is_found;
}

/* zlib, written in hex. */
static void compress_document(struct buf *document, const struct site *site)
{
	static const char before[] = "<PolicyXML Compression=\"zlib\"><![CDATA[";
	uLongf n = compressBound(document->n);
	unsigned char *area = must_alloc(n);
	struct buf text = {0}, out = {0};

	if (compress2(area, &n, (unsigned char *)document->p, document->n, 9) != Z_OK)
		abort();
	buf_puts(&text, site->is_text ? "" : before);
	hex_write(area, n, &text);
	buf_puts(&text, site->is_text ? "" : "]]></PolicyXML>");
	if (site->has_mark)
		buf_add(&out, "\xff\xfe", 2);
	utf8_to_utf16(&out, text.p, text.n);
	free(area);
	buf_free(&text);
	buf_free(document);
	*document = out;
}

static void give(const struct script *s, const struct policy *p, struct request *q,
	struct reply *r, const struct site *site, const struct client *who)
{
	struct buf document = {0}, other = {0};

	if (script_file(s, q, "body", &other)) {
		if (site->has_mark)
			buf_add(&document, "\xff\xfe", 2);
		utf8_to_utf16(&document, buf_text(&other), other.n);
	} else {
		buf_add(&document, p->document.p, p->document.n);
	}
	if (p->flags & COMPRESSED)
		compress_document(&document, site);
	if (p->flags & SECRET && !site->is_clear) {
		identity_seal(who->encryption, site->envelope, &document, &r->body);
		snprintf(r->content_type, sizeof r->content_type,
			"application/octet-stream");
	} else {
		buf_add(&r->body, buf_text(&document), document.n);
		snprintf(r->content_type, sizeof r->content_type, "text/xml");
	}
	buf_free(&document);
	buf_free(&other);
}

/*
 * May they have it? Which status a real one answers to a client that proves nothing
 * is not on record: 403 is our choice.
 */
static bool may_have(const struct policy *p, struct request *q, struct reply *r,
	const struct site *site, struct client *who)
{
	struct buf why = {0};
	enum signed_state state = signed_get(q, site->minutes, who, &why);
	bool is_private = p->flags & (REQUIRESAUTH | SECRET);
	bool may = true;

	if (state == SIGNED)
		note(q, "signed_by", who->smsid);
	if (state == BADLY_SIGNED)
		violation(q, "%s", buf_text(&why));
	if (is_private && state == UNSIGNED)
		violation(q, "%s", "no ClientToken for a policy that wants it");
	if (is_private && state != SIGNED) {
		refuse(q, r, 403, NULL, "%s", state == UNSIGNED ? "no ClientToken"
			: buf_text(&why));
		may = false;
	} else if (p->flags & SECRET && !site->is_approving) {
		refuse(q, r, 403, NULL, "the client is not approved");
		may = false;
	}
	buf_free(&why);
	return may;
}

void mp_policy(struct request *q, struct reply *r)
{
	struct client who = {0};
	struct policy p;
	struct script s;
	struct site site;

	if (strcmp(q->method, "GET")) {
		refuse(q, r, 405, NULL, "method %s", q->method);
		return;
	}
	site_read(&site, q);
	script_load(&s, q, "policy", "location");
	if (!find_policy(&p, q, &site)) {
		refuse(q, r, 404, NULL, "no such policy");
	} else if (may_have(&p, q, r, &site, &who)) {
		note(q, "policy", p.id);
		give(&s, &p, q, r, &site, &who);
	}
	script_apply(&s, q, r);
	script_free(&s);
	policy_free(&p);
	client_free(&who);
}
