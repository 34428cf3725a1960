#include "agent/keeper/sitepolicy.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/own.h"
#include "common/utf8.h"
#include "policy/bundle.h"
#include "policy/content.h"
#include "policy/deployment.h"
#include "policy/value.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define COMPONENT "PolicyAgent"
#define TOLD_MAX 20     /* assignments left out that get a line of their own */
#define LEFT_OUT_MAX 100000
#define NAME_BYTES 150  /* a line of INI has room for no more than 198 */
#define WORD_MAX 64     /* an advertisement, bytes */
#define HASH_MAX 128

struct sitepolicy_file {
	char name[256];   /* "ABC20017-ABC00042.3.ini" */
	bool is_required; /* before others of the same name */
	char *text;       /* owned */
	size_t len;
};

/* One assignment, every field judged. */
struct draft {
	char advertisement[WORD_MAX + 1];
	struct content content;
	bool is_required;
	int64_t available_s, deadline_s; /* 0 = not named */
	char hash[HASH_MAX + 1];
	struct buf name;
};

void sitepolicy_free(struct sitepolicy *p)
{
	for (size_t i = 0; i < p->count; i++)
		free(p->files[i].text);
	free(p->files);
	*p = (struct sitepolicy){ 0 };
}

/* --- times --------------------------------------------------------------- */

/* Two digits at *at, which moves on; false for anything else. */
static bool take_two(const char **at, int *out)
{
	const char *p = *at;
	if (p[0] < '0' || p[0] > '9' || p[1] < '0' || p[1] > '9')
		return false;
	*out = 10 * (p[0] - '0') + (p[1] - '0');
	*at += 2;
	return true;
}

/* What stands behind the seconds: ".mmmmmm+UUU". */
static bool take_zone(const char *at, int *minutes)
{
	const char *zone = at + 8;
	if (at[0] != '.' || strspn(at + 1, "0123456789*") < 6 ||
	    (at[7] != '+' && at[7] != '-'))
		return false;
	*minutes = 0;
	if (strcmp(zone, "***") == 0)
		return true;
	if (strspn(zone, "0123456789") != 3)
		return false;
	for (int i = 0; i < 3; i++)
		*minutes = 10 * *minutes + (zone[i] - '0');
	if (at[7] == '-')
		*minutes = -*minutes;
	return true;
}

bool sitepolicy_time(struct span text, int64_t *epoch_s)
{
	char whole[26], rfc3339[CLOCK_RFC3339_SIZE];
	int century, year, month, day, hour, minute, second, zone;
	const char *at = whole;
	text = span_trim(text);
	if (text.len != 25 || memchr(text.at, '\0', text.len))
		return false;
	memcpy(whole, text.at, 25);
	whole[25] = '\0';
	if (!take_two(&at, &century) || !take_two(&at, &year) ||
	    !take_two(&at, &month) || !take_two(&at, &day) || !take_two(&at, &hour) ||
	    !take_two(&at, &minute) || !take_two(&at, &second) ||
	    !take_zone(at, &zone))
		return false;
	snprintf(rfc3339, sizeof(rfc3339), "%02d%02d-%02d-%02dT%02d:%02d:%02dZ",
		 century, year, month, day, hour, minute, second);
	if (clock_parse_rfc3339(rfc3339, epoch_s) != 0)
		return false;
	*epoch_s -= (int64_t)zone * 60;
	return true;
}

/* --- fields -------------------------------------------------------------- */

static bool is_word(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
			    "0123456789_-{}", s.at[i]) || s.at[i] == '\0')
			return false;
	return s.len > 0 && s.len <= WORD_MAX;
}

/* What people call it: no character that INI, a log or a terminal would mind. */
static void clean_name(struct span text, struct buf *out)
{
	while (text.len) {
		uint32_t p = 0;
		size_t n = utf8_first(text, &p);
		bool is_good = n > 0 && p >= 0x20 && (p < 0x7f || p > 0x9f);
		if (out->len + n > NAME_BYTES)
			break;
		if (is_good && p == ';')
			buf_char(out, ','); /* a comment would begin */
		else if (is_good)
			buf_add(out, text.at, n);
		n = n ? n : 1;
		text.at += n;
		text.len -= n;
	}
	struct span trimmed = span_trim(buf_as_span(out));
	if (trimmed.len == 0) {
		buf_clear(out);
	} else if (trimmed.len < out->len) {
		memmove(out->at, trimmed.at, trimmed.len);
		out->len = trimmed.len;
		out->at[out->len] = '\0';
	}
}

/* The site's own hash is for people only: no more than a word of it. */
static void copy_hash(struct span text, char out[HASH_MAX + 1])
{
	out[0] = '\0';
	for (size_t i = 0; i < text.len; i++)
		if (!strchr("0123456789abcdefghijklmnopqrstuvwxyz"
			    "ABCDEFGHIJKLMNOPQRSTUVWXYZ:_-", text.at[i]) ||
		    text.at[i] == '\0')
			return;
	if (text.len <= HASH_MAX)
		snprintf(out, HASH_MAX + 1, "%.*s", SPAN_ARG(text));
}

/*
 * ADV_MandatoryAssignments: what it holds is not on record (docs/wire.md 8.4). A
 * plain time is a deadline; FALSE, 0 and nothing at all mean that nobody must have
 * it; any other word: as soon as possible.
 */
static void judge_mandatory(struct span text, struct draft *d)
{
	text = span_trim(text);
	d->is_required = text.len && !span_is_nocase(text, "false") &&
			 !span_is(text, "0");
	if (!d->is_required || !sitepolicy_time(text, &d->deadline_s) ||
	    d->deadline_s <= 0 || d->deadline_s < d->available_s)
		d->deadline_s = 0;
}

/* ERR_POLICY with what is wrong. */
static enum err_code judge(const struct wire_assignment *a, struct draft *d,
			   struct err *e)
{
	char package[CONTENT_ID_MAX + 1];
	struct err why = { 0 };
	if (!a->has_files)
		return err_set(e, ERR_POLICY, "the package has no files");
	if (!is_word(a->advertisement))
		return err_set(e, ERR_POLICY, "\"%.*s\" is no advertisement id",
			       (int)(a->advertisement.len < 80 ?
					     a->advertisement.len : 80),
			       a->advertisement.at);
	snprintf(d->advertisement, sizeof(d->advertisement), "%.*s",
		 SPAN_ARG(a->advertisement));
	if (a->package.len > CONTENT_ID_MAX)
		return err_set(e, ERR_POLICY, "a package id of %zu bytes",
			       a->package.len);
	snprintf(package, sizeof(package), "%.*s", SPAN_ARG(a->package));
	if (content_parse(package, &d->content, &why) != ERR_OK ||
	    d->content.has_version)
		return err_set(e, ERR_POLICY, "\"%s\" is no package id", package);
	if (a->version == 0 || a->version > UINT32_MAX)
		return err_set(e, ERR_POLICY, "%s has no usable PKG_SourceVersion",
			       package);
	d->content.version = (uint32_t)a->version;
	d->content.has_version = true;
	if (a->active_time.len && (!sitepolicy_time(a->active_time, &d->available_s) ||
				   d->available_s < 0))
		d->available_s = 0;
	judge_mandatory(a->mandatory, d);
	copy_hash(a->hash, d->hash);
	clean_name(a->name, &d->name);
	return d->name.failed ? err_set(e, ERR_NOMEM, "site policy: no memory") :
				ERR_OK;
}

/* --- the file ------------------------------------------------------------ */

static void add_time(struct buf *out, const char *key, int64_t at_s)
{
	char text[CLOCK_RFC3339_SIZE];
	if (at_s == 0)
		return;
	clock_rfc3339(at_s, text);
	buf_print(out, "%s = %s\n", key, text);
}

static void print_file(const struct draft *d, struct buf *out)
{
	buf_print(out, "[deployment]\nid = %s\n", d->advertisement);
	if (d->name.len)
		buf_print(out, "name = %s\n", d->name.at);
	buf_print(out, "package = %s\nversion = %" PRIu32 "\npurpose = %s\n",
		  d->content.id, d->content.version,
		  d->is_required ? "required" : "available");
	add_time(out, "available", d->available_s);
	add_time(out, "deadline", d->deadline_s);
	if (d->hash[0])
		buf_print(out, "\n[content]\nsite_hash = %s\n", d->hash);
}

/* Whoever reads it must take it: one bad file would spoil the bundle. */
static enum err_code prove(struct span text, const char *name, struct err *e)
{
	struct deployment_list list = { 0 };
	autobuf problems = { 0 };
	enum err_code rc = deployment_parse(text, name, true, &list, &problems, e);
	if (rc == ERR_OK && list.count != 1)
		rc = err_set(e, ERR_POLICY, "it makes no deployment");
	deployment_list_free(&list);
	return rc;
}

static enum err_code append(struct sitepolicy *p, const struct draft *d,
			    struct err *e)
{
	autobuf text = { 0 };
	char content[CONTENT_NAME_SIZE];
	struct sitepolicy_file file = { .is_required = d->is_required };
	content_name(&d->content, content);
	snprintf(file.name, sizeof(file.name), "%s-%s.ini", d->advertisement, content);
	print_file(d, &text);
	if (text.failed)
		return err_set(e, ERR_NOMEM, "site policy: no memory");
	enum err_code rc = prove(buf_as_span(&text), file.name, e);
	if (rc != ERR_OK)
		return rc;
	p->bytes += text.len + sizeof(file.name) + 32;
	if (p->count == SITEPOLICY_MAX || p->bytes > BUNDLE_MAX)
		return err_set(e, ERR_NET_LIED, "more than %zu deployments of the site",
			       p->count);
	if (p->count == p->room) {
		size_t room = p->room ? 2 * p->room : 64;
		struct sitepolicy_file *more = realloc(p->files, room * sizeof(*more));
		if (more == NULL)
			return err_set(e, ERR_NOMEM, "site policy: no memory");
		p->files = more;
		p->room = room;
	}
	file.len = text.len;
	file.text = buf_take(&text);
	p->files[p->count++] = file;
	return ERR_OK;
}

enum err_code sitepolicy_add(struct sitepolicy *p, const struct wire_assignment *a,
			     struct err *e)
{
	struct draft d = { 0 };
	struct err why = { 0 };
	enum err_code rc = judge(a, &d, &why);
	if (rc == ERR_OK)
		rc = append(p, &d, &why);
	buf_free(&d.name);
	if (rc == ERR_OK || rc == ERR_NOMEM || rc == ERR_NET_LIED) {
		if (rc != ERR_OK)
			*e = why;
		return rc;
	}
	if (p->left_out == LEFT_OUT_MAX)
		return err_set(e, ERR_NET_LIED, "more than %d assignments that "
			       "cannot be used", LEFT_OUT_MAX);
	if (p->left_out++ < TOLD_MAX)
		log_info(COMPONENT, "policy %.*s is left out: %s",
			 SPAN_ARG(a->policy_id), why.text);
	return ERR_OK;
}

static int by_name(const void *a, const void *b)
{
	const struct sitepolicy_file *x = a, *y = b;
	int order = strcmp(x->name, y->name);
	if (order == 0)
		order = (int)y->is_required - (int)x->is_required;
	return order ? order : strcmp(x->text, y->text);
}

enum err_code sitepolicy_print(struct sitepolicy *p, struct buf *out,
			       struct err *e)
{
	if (p->count)
		qsort(p->files, p->count, sizeof(*p->files), by_name);
	out->max = BUNDLE_MAX;
	buf_text(out, "; cloud-dp-agent policy bundle\n");
	for (size_t i = 0; i < p->count; i++) {
		const struct sitepolicy_file *f = &p->files[i];
		/* several programs of one package: it is fetched once */
		if (i && strcmp(f->name, f[-1].name) == 0)
			continue;
		buf_print(out, "; file %s %zu\n", f->name, f->len);
		buf_add(out, f->text, f->len);
	}
	return out->failed ? err_set(e, ERR_NOMEM, "site policy: no memory") : ERR_OK;
}
