#include "agent/net/request.h"

enum err_code http_status(const struct http_response *r, const char *what,
			  struct err *e)
{
	const struct head *h = &r->head;
	if (h->status >= 200 && h->status < 300)
		return ERR_OK;
	enum err_code code = ERR_STATUS;
	if (h->status == 404 || h->status == 410)
		code = ERR_ABSENT;
	else if (h->status == 401 || h->status == 403)
		code = ERR_DENIED;
	else if (h->status == 429 || h->status == 503 || h->retry_after_s)
		code = ERR_BUSY;
	else if (h->status >= 500)
		code = ERR_SERVER;
	err_set(e, code, "%s: HTTP %ld%s%s", what, h->status,
		h->reason[0] ? " " : "", h->reason);
	if (e)
		e->retry_after_s = h->retry_after_s;
	return code;
}
