#include "common/jsonout.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/own.h"

#include <stdlib.h>
#include <string.h>

json_t *jsonout_text(const char *value)
{
	autofree char *clean = log_clean(value ? value : "");
	return clean ? json_string(clean) : NULL;
}

json_t *jsonout_span(struct span value)
{
	autofree char *copy = strndup(value.at ? value.at : "", value.len);
	return jsonout_text(copy);
}

json_t *jsonout_text_or_null(const char *value)
{
	return value && value[0] ? jsonout_text(value) : json_null();
}

json_t *jsonout_number(uint64_t value)
{
	return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

json_t *jsonout_moment(int64_t wall_s)
{
	char at[CLOCK_RFC3339_SIZE];
	if (wall_s <= 0)
		return json_null();
	clock_rfc3339(wall_s, at);
	return json_string(at);
}

json_t *jsonout_hash(const char *hex)
{
	return hex[0] ? json_sprintf("sha256:%s", hex) : json_null();
}

json_t *jsonout_error(const struct err *e)
{
	if (e->code == ERR_OK)
		return json_null();
	json_t *o = json_object();
	json_object_set_new(o, "code", json_string(err_class_name(e->code)));
	json_object_set_new(o, "exit", json_integer(err_exit(e->code)));
	json_object_set_new(o, "step", json_string(err_step(e->code)));
	json_object_set_new(o, "text", jsonout_text(e->text));
	json_object_set_new(o, "detail", json_string(err_name(e->code)));
	json_object_set_new(o, "advice", json_string(err_advice(e->code)));
	return o;
}

static int add_piece(const char *piece, size_t len, void *out)
{
	struct buf *b = out;
	buf_add(b, piece, len);
	return b->failed ? -1 : 0;
}

void jsonout_add(struct buf *out, json_t *value)
{
	if (value == NULL)
		buf_text(out, "{}");
	else if (json_dump_callback(value, add_piece, out,
				    JSON_COMPACT | JSON_ENCODE_ANY) != 0)
		out->failed = true;
	json_decref(value);
}
