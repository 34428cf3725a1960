#include "policy/fields.h"

#include "common/digest.h"
#include "policy/check.h"
#include "policy/choose.h"
#include "policy/content.h"
#include "policy/schema.h"

#include <inttypes.h>

static enum err_code check_package(const char *value, struct err *e)
{
	struct content c;
	struct err why = { 0 };
	if (content_parse(value, &c, &why) != ERR_OK)
		return err_set(e, ERR_CONFIG, "must be a content id: %s", why.text);
	if (c.has_version)
		return err_set(e, ERR_CONFIG,
			       "must be without version: write version = %" PRIu32
			       " in a line of its own", c.version);
	return ERR_OK;
}

static enum err_code check_hash(const char *value, struct err *e)
{
	char hex[DIGEST_HEX_SIZE];
	struct err why = { 0 };
	if (digest_parse(value, hex, &why) != ERR_OK)
		return err_set(e, ERR_CONFIG, "must be sha256: and 64 hex digits: %s",
			       why.text);
	return ERR_OK;
}

static const struct schema_word purposes[] = { { "required", 1 },
					       { "available", 0 }, { NULL, 0 } };
static const struct schema_word priorities[] = {
	{ "low", 0 }, { "normal", 1 }, { "high", 2 }, { NULL, 0 },
};
static const struct schema_word clouds[] = {
	{ "fallback", CHOOSE_CLOUD_FALLBACK },
	{ "prefer", CHOOSE_CLOUD_PREFER },
	{ "never", CHOOSE_CLOUD_NEVER },
	{ NULL, 0 },
};

#define ROW(k, sec, title, member) \
	.kind = SCHEMA_##k, .section = sec, .key = title, \
	.offset = offsetof(struct fields, member)

static const struct schema_row rows[FIELDS_COUNT] = {
	[FIELDS_ID] = { ROW(TEXT, "deployment", "id", id), .check = check_label,
		.what = "id of the deployment" },
	[FIELDS_NAME] = { ROW(TEXT, "deployment", "name", name),
		.what = "what people call it" },
	[FIELDS_PACKAGE] = { ROW(TEXT, "deployment", "package", package),
		.check = check_package, .what = "content id" },
	[FIELDS_VERSION] = { ROW(NUMBER, "deployment", "version", version), .low = 1,
		.high = UINT32_MAX, .what = "version of the content" },
	[FIELDS_PURPOSE] = { ROW(BOOL, "deployment", "purpose", is_required),
		.fallback = "required", .words = purposes,
		.what = "required: fetched when due; available: only on request" },
	[FIELDS_PRIORITY] = { ROW(WORD, "deployment", "priority", priority),
		.fallback = "normal", .words = priorities,
		.what = "what is fetched first" },
	[FIELDS_AVAILABLE] = { ROW(MOMENT, "deployment", "available", available_s),
		.what = "not before" },
	[FIELDS_DEADLINE] = { ROW(MOMENT, "deployment", "deadline", deadline_s),
		.what = "at the latest" },
	[FIELDS_HASH] = { ROW(TEXT, "content", "hash", hash), .check = check_hash,
		.what = "the content hash" },
	[FIELDS_SIZE] = { ROW(NUMBER, "content", "size", size), .high = INT64_MAX,
		.what = "bytes of all files" },
	[FIELDS_FILES] = { ROW(TEXT, "content", "files", files),
		.check = check_file_name,
		.what = "file list, as sha256sum writes it" },
	[FIELDS_SITE_HASH] = { ROW(TEXT, "content", "site_hash", site_hash),
		.what = "the site's own folder hash, for people" },
	[FIELDS_CLOUD] = { ROW(WORD, "sources", "cloud", cloud),
		.fallback = "fallback", .words = clouds,
		.what = "never stronger than [cloud] allow" },
};

void fields_free(struct fields *f)
{
	schema_free(rows, FIELDS_COUNT, f);
}

static void note(const struct fields_input *in, unsigned line, const char *text)
{
	ini_problem(in->problems, in->path, line, "%s", text);
}

/* What one key alone cannot tell. */
static void check_together(const struct fields_input *in, const struct fields *f)
{
	const unsigned *lines = f->lines;
	if (!lines[FIELDS_PACKAGE])
		note(in, 0, "[deployment] package is missing");
	if (!lines[FIELDS_VERSION])
		note(in, 0, "[deployment] version is missing");
	if (f->available_s && f->deadline_s && f->deadline_s < f->available_s)
		note(in, lines[FIELDS_DEADLINE],
		     "[deployment] deadline lies before available");
	if (in->is_site && lines[FIELDS_HASH])
		note(in, lines[FIELDS_HASH],
		     "[content] hash cannot come from the site");
	if (in->is_site && lines[FIELDS_FILES])
		note(in, lines[FIELDS_FILES],
		     "[content] files cannot come from the site");
	if (!in->is_site && lines[FIELDS_SITE_HASH])
		note(in, lines[FIELDS_SITE_HASH],
		     "[content] site_hash can only come from the site");
}

enum err_code fields_read(const struct fields_input *in, struct fields *out,
			  struct err *e)
{
	*out = (struct fields){ 0 };
	enum err_code rc = schema_set_defaults(rows, FIELDS_COUNT, out, e);
	if (rc != ERR_OK)
		return rc;
	struct schema_fill fill = { .rows = rows, .count = FIELDS_COUNT, .base = out,
				    .lines = out->lines, .problems = in->problems };
	rc = ini_parse_text(in->text, in->path, schema_on_item, &fill, in->problems, e);
	if (rc == ERR_OK)
		check_together(in, out);
	return rc;
}
