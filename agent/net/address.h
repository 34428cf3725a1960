#ifndef AGENT_NET_ADDRESS_H
#define AGENT_NET_ADDRESS_H

#include "common/span.h"

#include <stdbool.h>
#include <stdint.h>

/* An address as text, as inet_ntop() writes it. */
struct resolve_address {
	char text[46];
	bool is_v6;
	uint32_t ttl_s; /* 0 where it is not from DNS */
};

/* Read an IP literal, IPv6 without brackets or scope; false = none. */
bool address_parse(struct span text, struct resolve_address *out);

/* Add at the end, unless it is there already or the list is full. */
void address_add(struct resolve_address *list, unsigned *count, unsigned room,
		 const struct resolve_address *one);

/*
 * Why no cloud service can have this address ("link-local", ...), NULL if one
 * can. Refused always: unspecified, multicast, reserved, link-local (that is
 * where metadata services listen). With public_only also loopback and private.
 * IPv4 inside IPv6 is judged as IPv4: mapped and compatible (RFC 4291 s2.5.5),
 * NAT64 (RFC 6052 s2.1), 6to4 (RFC 3056 s2).
 */
const char *address_refusal(const char *text, bool public_only);

#endif
