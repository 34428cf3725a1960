#include "agent/net/address.h"

#include <arpa/inet.h>
#include <string.h>

#define COUNT_OF(a) (sizeof(a) / sizeof(*(a)))

/* RFC 6890 and the registries that it founded. Documentation prefixes are no
 * danger: nobody routes them. */
static const struct {
	const char *net;
	unsigned bits;
	bool is_private; /* refused with public_only alone */
	const char *what;
} rules[] = {
	{ "0.0.0.0", 8, false, "unspecified" },
	{ "169.254.0.0", 16, false, "link-local" },
	{ "224.0.0.0", 4, false, "multicast" },
	{ "240.0.0.0", 4, false, "reserved" },
	{ "127.0.0.0", 8, true, "loopback" },
	{ "10.0.0.0", 8, true, "private" },
	{ "172.16.0.0", 12, true, "private" },
	{ "192.168.0.0", 16, true, "private" },
	{ "100.64.0.0", 10, true, "private" },
	{ "192.0.0.0", 24, true, "private" },
	{ "198.18.0.0", 15, true, "private" },
	{ "::", 128, false, "unspecified" },
	{ "fe80::", 10, false, "link-local" },
	{ "ff00::", 8, false, "multicast" },
	{ "::1", 128, true, "loopback" },
	{ "fc00::", 7, true, "private" },
	{ "fec0::", 10, true, "private" },
};

static const struct {
	const char *net;
	unsigned bits, at; /* `at`: octet where the IPv4 address begins */
} embeddings[] = {
	{ "::ffff:0:0", 96, 12 },
	{ "::", 96, 12 },
	{ "64:ff9b::", 96, 12 },
	{ "2002::", 16, 2 },
};

bool address_parse(struct span text, struct resolve_address *out)
{
	unsigned char bytes[16];
	char copy[INET6_ADDRSTRLEN];
	if (text.len >= sizeof(copy) || memchr(text.at, 0, text.len))
		return false;
	memcpy(copy, text.at, text.len);
	copy[text.len] = '\0';
	*out = (struct resolve_address){ .is_v6 = strchr(copy, ':') != NULL };
	int family = out->is_v6 ? AF_INET6 : AF_INET;
	if (inet_pton(family, copy, bytes) != 1)
		return false;
	inet_ntop(family, bytes, out->text, sizeof(out->text));
	return true;
}

void address_add(struct resolve_address *list, unsigned *count, unsigned room,
		 const struct resolve_address *one)
{
	for (unsigned i = 0; i < *count; i++)
		if (strcmp(list[i].text, one->text) == 0)
			return;
	if (*count < room)
		list[(*count)++] = *one;
}

static bool is_within(int family, const unsigned char *octets, const char *net,
		      unsigned bits)
{
	unsigned char prefix[16];
	if (inet_pton(family, net, prefix) != 1 ||
	    memcmp(octets, prefix, bits / 8) != 0)
		return false;
	unsigned rest = bits % 8;
	unsigned mask = 0xffu & ~(0xffu >> rest);
	return rest == 0 || ((octets[bits / 8] ^ prefix[bits / 8]) & mask) == 0;
}

static const char *refusal(int family, const unsigned char *octets,
			   bool public_only)
{
	for (size_t i = 0; i < COUNT_OF(rules); i++)
		if ((public_only || !rules[i].is_private) &&
		    is_within(family, octets, rules[i].net, rules[i].bits))
			return rules[i].what;
	return NULL;
}

const char *address_refusal(const char *text, bool public_only)
{
	unsigned char octets[16];
	if (inet_pton(AF_INET, text, octets) == 1)
		return refusal(AF_INET, octets, public_only);
	if (inet_pton(AF_INET6, text, octets) != 1)
		return "malformed";
	const char *what = refusal(AF_INET6, octets, public_only);
	if (what || is_within(AF_INET6, octets, "::1", 128))
		return what; /* ::1 is no embedded 0.0.0.1 */
	for (size_t i = 0; i < COUNT_OF(embeddings); i++)
		if (is_within(AF_INET6, octets, embeddings[i].net,
			      embeddings[i].bits))
			return refusal(AF_INET, octets + embeddings[i].at,
				       public_only);
	return NULL;
}
