#include "agent/keeper/order.h"

#include "common/jsonout.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct {
	const char *word;
	bool is_open;  /* to everybody who may connect */
	bool needs_content, has_content, has_arguments;
} verbs[] = {
	[CONTROL_STATUS] = { "status", true, false, true, false },
	[CONTROL_WHY] = { "why", true, true, true, false },
	[CONTROL_HISTORY] = { "history", true, false, false, false },
	[CONTROL_POLL] = { "poll", false, false, false, false },
	[CONTROL_STOP] = { "stop", false, true, true, false },
	[CONTROL_REMOVE] = { "remove", false, true, true, false },
	[CONTROL_DOWNLOAD] = { "download", false, false, false, true },
};

static enum err_code find_verb(const char *word, enum control_verb *verb,
			       struct err *e)
{
	for (size_t i = 0; i < COUNT(verbs); i++) {
		if (strcmp(verbs[i].word, word) != 0)
			continue;
		*verb = (enum control_verb)i;
		return ERR_OK;
	}
	return err_set(e, ERR_USAGE, "the service knows no verb %.40s", word);
}

static enum err_code read_arguments(const json_t *list, struct control_request *q,
				    struct err *e)
{
	size_t count = json_array_size(list); /* 0 of anything else */
	if (count == 0 || count > CONTROL_ARGUMENTS)
		return err_set(e, ERR_USAGE, "the arguments of a download are 1 to "
			       "%d texts", CONTROL_ARGUMENTS);
	for (size_t i = 0; i < count; i++) {
		const char *text = json_string_value(json_array_get(list, i));
		char *copy = text ? strdup(text) : NULL;
		if (copy == NULL)
			return err_set(e, text ? ERR_NOMEM : ERR_USAGE,
				       "argument %zu of a download is no text", i + 1);
		q->arguments[q->argument_count++] = copy;
	}
	return ERR_OK;
}

static enum err_code read_object(json_t *root, bool may_change,
				 struct control_request *q, struct err *e)
{
	const char *word = NULL, *content = NULL;
	json_t *arguments = NULL;
	json_error_t why;
	if (json_unpack_ex(root, &why, JSON_STRICT, "{s:s,s?s,s?o}", "verb", &word,
			   "content", &content, "arguments", &arguments) != 0)
		return err_set(e, ERR_USAGE, "the request is not one of the service: "
			       "%s", why.text);
	if (find_verb(word, &q->verb, e) != ERR_OK)
		return e->code;
	if (!verbs[q->verb].is_open && !may_change)
		return err_set(e, ERR_NOT_ALLOWED, "%s: user %u may ask the service "
			       "for status, why and history only", word,
			       (unsigned)q->uid);
	if ((content ? !verbs[q->verb].has_content : verbs[q->verb].needs_content) ||
	    verbs[q->verb].has_arguments != (arguments != NULL))
		return err_set(e, ERR_USAGE, "%s: the request lacks something, or has "
			       "too much", word);
	q->has_content = content != NULL;
	if (content && content_parse(content, &q->content, e) != ERR_OK)
		return e->code;
	return arguments ? read_arguments(arguments, q, e) : ERR_OK;
}

enum err_code order_read(struct span line, bool may_change,
			 struct control_request *q, struct err *e)
{
	json_error_t why;
	json_t *root = json_loadb(line.at, line.len, JSON_REJECT_DUPLICATES, &why);
	if (root == NULL)
		return err_set(e, ERR_USAGE, "the request is not JSON: %s", why.text);
	enum err_code rc = read_object(root, may_change, q, e);
	json_decref(root);
	return rc;
}

void order_free(struct control_request *q)
{
	for (int i = 0; i < q->argument_count; i++)
		free(q->arguments[i]);
	memset(q->arguments, 0, sizeof(q->arguments));
	q->argument_count = 0;
}

void order_print(enum control_verb verb, const struct content *content,
		 const char *const *arguments, struct buf *out)
{
	char name[CONTENT_NAME_SIZE];
	json_t *o = json_object();
	json_object_set_new(o, "verb", json_string(verbs[verb].word));
	if (content) {
		content_name(content, name);
		json_object_set_new(o, "content", json_string(name));
	}
	if (arguments) {
		json_t *list = json_array();
		for (; *arguments; arguments++)
			json_array_append_new(list, json_string(*arguments));
		json_object_set_new(o, "arguments", list);
	}
	jsonout_add(out, o);
	buf_char(out, '\n');
}
