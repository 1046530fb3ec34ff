/* SPDX-License-Identifier: Apache-2.0
 * Whose address a request came from. Only an address in trusted_proxies may speak for another; of X-Forwarded-For the
 * rightmost address that is not itself trusted counts, since everything left of it may be made up.
 */
#include "config.h"
#include "api/room.h"

#include <arpa/inet.h>
#include <string.h>

struct address {
	unsigned char b[16]; /* IPv4 as ::ffff:a.b.c.d */
};

static bool address_parse(struct str s, struct address *out_r)
{
	char text[INET6_ADDRSTRLEN];
	s = str_trim(s);
	if (s.n == 0 || s.n >= sizeof text)
		return false;
	memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	memset(out_r, 0, sizeof *out_r);
	if (inet_pton(AF_INET, text, out_r->b + 12) == 1) {
		out_r->b[10] = out_r->b[11] = 0xff;
		return true;
	}
	return inet_pton(AF_INET6, text, out_r->b) == 1;
}

static bool same_bits(const struct address *a, const struct address *b, uint64_t bits)
{
	for (uint64_t i = 0; i < bits; i++)
		if ((a->b[i / 8] ^ b->b[i / 8]) >> (7 - i % 8) & 1)
			return false;
	return true;
}

static bool in_network(const struct address *a, struct str cidr)
{
	struct address net;
	struct str base = cidr, mask = STR_NONE;
	size_t slash = str_find_char(cidr, '/', 0);
	uint64_t bits = 128;
	if (slash != SIZE_MAX) {
		base = str_sub(cidr, 0, slash);
		mask = str_trim(str_sub(cidr, slash + 1, cidr.n));
	}
	bool v4 = str_find_char(base, ':', 0) == SIZE_MAX;
	if (!address_parse(base, &net))
		return false;
	if (mask.n && (!str_u64(mask, &bits) || bits > (v4 ? 32 : 128)))
		return false;
	if (mask.n && v4)
		bits += 96;
	return same_bits(a, &net, bits);
}

static bool is_trusted(struct str text, const char *trusted_proxies)
{
	struct address a;
	struct str rest = str_c(trusted_proxies), cidr;
	if (!address_parse(text, &a))
		return false;
	while (str_split(&rest, ',', &cidr))
		if (in_network(&a, str_trim(cidr)))
			return true;
	return false;
}

struct str address_of_caller(const struct front_request *req, const char *trusted_proxies)
{
	struct str best = req->remote_addr, list = front_header(req, STR("x-forwarded-for"));
	struct address ignored;
	if (!trusted_proxies || !*trusted_proxies)
		return best;
	while (list.n && is_trusted(best, trusted_proxies)) {
		size_t at = list.n;
		while (at > 0 && list.p[at - 1] != ',')
			at--;
		struct str last = str_trim(str_sub(list, at, list.n));
		if (!address_parse(last, &ignored))
			break;
		best = last;
		list.n = at ? at - 1 : 0;
	}
	return best;
}

bool address_is_in(const struct front_request *req, struct str remote_addr, const char *trusted_proxies, const char *networks)
{
	bool passed_on = front_header(req, STR("x-forwarded-for")).n || front_header(req, STR("forwarded")).n || front_header(req, STR("x-real-ip")).n;
	if (passed_on && !is_trusted(req->remote_addr, trusted_proxies ? trusted_proxies : ""))
		return false; /* else a proxy on this host would let the world in */
	return is_trusted(remote_addr, networks);
}
