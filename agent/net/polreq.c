#include "agent/net/polreq.h"

#include "agent/net/locreq.h"

#include <ctype.h>

#define SHA256_RSA "1.2.840.113549.1.1.11" /* RFC 8017 appendix A.2.4 */
#define AGENT_IDENTITY "cloud-dp-agent"

struct span polreq_short_name(struct span host)
{
	struct span name = { "", 0 };
	span_split(&host, '.', &name);
	return name.len ? name : SPAN_LIT("localhost");
}

static struct span full_name(const struct polreq *r)
{
	return r->fqdn.len ? r->fqdn : polreq_short_name(r->host_name);
}

static void add_property(struct buf *out, const char *name, struct span value)
{
	buf_print(out, "<Property Name=\"%s\" Value=\"", name);
	locreq_escape(value, out);
	buf_text(out, "\"/>");
}

static void add_element(struct buf *out, const char *name, struct span value)
{
	buf_print(out, "<%s>", name);
	locreq_escape(value, out);
	buf_print(out, "</%s>", name);
}

/* One certificate for both uses. */
static void add_certificate(struct buf *out, const char *use,
			    const struct identity *identity)
{
	buf_print(out, "<%s Encoding=\"HexBinary\" KeyType=\"1\">", use);
	buf_span(out, identity_certificate(identity));
	buf_print(out, "</%s>", use);
}

/* What is signed is this very text, from <Data to </Data>. */
static void print_data(const struct polreq *r, const struct identity *identity,
		       struct buf *out)
{
	buf_print(out, "<Data HashAlgorithm=\"" SHA256_RSA "\" SMSID=\"\" "
		       "RequestType=\"Registration\" TimeStamp=\"%s\">"
		       "<AgentInformation AgentIdentity=\"" AGENT_IDENTITY "\" "
		       "AgentVersion=\"" POLREQ_VERSION "\" AgentType=\"0\"/>"
		       "<Certificates>", r->time);
	add_certificate(out, "Encryption", identity);
	add_certificate(out, "Signing", identity);
	buf_text(out, "</Certificates><DiscoveryProperties>");
	add_property(out, "Netbios Name", polreq_short_name(r->host_name));
	add_property(out, "FQ Name", full_name(r));
	add_property(out, "Locale ID", SPAN_LIT("1033"));
	add_property(out, "InternetFlag", SPAN_LIT("0"));
	buf_text(out, "</DiscoveryProperties></Data>");
}

enum err_code polreq_print_registration(const struct polreq *r,
					const struct identity *identity,
					struct buf *out, struct err *e)
{
	autobuf data = { 0 };
	print_data(r, identity, &data);
	buf_text(out, "<ClientRegistrationRequest>");
	buf_span(out, buf_as_span(&data));
	buf_text(out, "<Signature><SignatureValue>");
	enum err_code rc = identity_sign_text(identity, buf_as_span(&data), false,
					      out, e);
	buf_text(out, "</SignatureValue></Signature></ClientRegistrationRequest>");
	if (rc == ERR_OK && (data.failed || out->failed))
		rc = err_set(e, ERR_NOMEM, "registration: no memory");
	return rc;
}

enum err_code polreq_print_assignments(const struct polreq *r, struct buf *out,
				       struct err *e)
{
	buf_text(out, "<RequestAssignments SchemaVersion=\"1.00\" ACK=\"false\" "
		      "RequestType=\"Always\"><Identification><Machine>");
	add_element(out, "ClientID", r->smsid);
	add_element(out, "FQDN", full_name(r));
	add_element(out, "NetBIOSName", polreq_short_name(r->host_name));
	buf_text(out, "<SID/></Machine><User/></Identification><PolicySource>SMS:");
	for (size_t i = 0; i < r->site_code.len; i++) {
		char c = (char)toupper((unsigned char)r->site_code.at[i]);
		locreq_escape((struct span){ &c, 1 }, out);
	}
	buf_text(out, "</PolicySource><Resource ResourceType=\"Machine\"/>"
		      "<ServerCookie/></RequestAssignments>");
	return out->failed ? err_set(e, ERR_NOMEM, "policy request: no memory") :
			     ERR_OK;
}
