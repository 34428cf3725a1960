#include "common/relpath.h"

#include "common/utf8.h"

#define NAME_SHOWN 200 /* bytes of a refused name in the message */

/* Why no name may hold this character; NULL = it may. */
static const char *refuse_character(uint32_t c)
{
	if (c == 0)
		return "holds a NUL byte";
	if (c < 0x20 || (c >= 0x7f && c <= 0x9f))
		return "holds a control character";
	if ((c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069))
		return "holds a bidirectional control character";
	if (c == '\\')
		return "holds a backslash";
	return NULL;
}

static const char *refuse_characters(struct span path)
{
	while (path.len) {
		uint32_t code;
		size_t n = utf8_first(path, &code);
		if (n == 0)
			return "is not UTF-8";
		const char *reason = refuse_character(code);
		if (reason)
			return reason;
		path.at += n;
		path.len -= n;
	}
	return NULL;
}

static const char *refuse_component(struct span c)
{
	if (c.len == 0)
		return "holds an empty component";
	if (span_is(c, "."))
		return "holds the component \".\"";
	if (span_is(c, ".."))
		return "holds the component \"..\"";
	if (c.len > RELPATH_COMPONENT)
		return "holds a component of more than 255 bytes";
	return NULL;
}

static const char *refuse_path(struct span path)
{
	if (path.len == 0)
		return "is empty";
	if (path.len > RELPATH_MAX)
		return "has more than 1024 bytes";
	const char *reason = refuse_characters(path);
	if (reason)
		return reason;
	if (path.at[0] == '/')
		return "is absolute";
	if (path.at[path.len - 1] == '/')
		return "ends with '/'";
	struct span rest = path, component;
	for (unsigned depth = 1; span_split(&rest, '/', &component); depth++) {
		reason = refuse_component(component);
		if (reason)
			return reason;
		if (depth > RELPATH_DEPTH)
			return "has more than 32 components";
	}
	return NULL;
}

/* The name is cut so that the reason is always in the message. */
static enum err_code refuse(struct err *e, struct span name, const char *reason)
{
	bool is_cut = name.len > NAME_SHOWN;
	if (is_cut)
		name.len = NAME_SHOWN;
	return err_set(e, ERR_NAME, "name \"%.*s%s\" %s", SPAN_ARG(name),
		       is_cut ? "..." : "", reason);
}

enum err_code relpath_check(struct span path, struct err *e)
{
	const char *reason = refuse_path(path);
	return reason ? refuse(e, path, reason) : ERR_OK;
}

static bool is_id_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-' ||
	       c == '{' || c == '}';
}

enum err_code relpath_check_id(struct span name, struct err *e)
{
	if (name.len == 0)
		return refuse(e, name, "is empty");
	if (name.len > 128)
		return refuse(e, name, "has more than 128 bytes");
	if (name.at[0] == '.' || name.at[0] == '-')
		return refuse(e, name, "begins with '.' or '-'");
	for (size_t i = 0; i < name.len; i++)
		if (!is_id_byte(name.at[i]))
			return refuse(e, name,
				      "holds other than letters, digits and ._-{}");
	return ERR_OK;
}

void relpath_fold(const char *path, char out[RELPATH_MAX + 1])
{
	size_t i = 0;
	for (; i < RELPATH_MAX && path[i]; i++) {
		char c = path[i];
		out[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
	}
	out[i] = '\0';
}
