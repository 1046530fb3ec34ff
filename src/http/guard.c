/* SPDX-License-Identifier: Apache-2.0
 * The guard against server-side request forgery. It judges the address that is about to be connected to, after resolving, in the
 * open-socket callback: a name that resolves differently a second time, an odd spelling of an address or a redirect cannot get
 * round it. Text of URLs is never judged, except to refuse a literal address early with a better message.
 */
#include "config.h"
#include "http/pool.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

struct range {
	unsigned char base[16];
	unsigned bits;
};

/* clang-format off */
static const struct range refused4[] = {
	{ { 0 }, 8 },				/* this network; 0.0.0.0 is loopback on Linux */
	{ { 10 }, 8 },
	{ { 100, 64 }, 10 },			/* carrier-grade NAT; 100.100.100.200 is a metadata service */
	{ { 127 }, 8 },
	{ { 168, 63, 129, 16 }, 32 },		/* Azure's host agent */
	{ { 169, 254 }, 16 },			/* link-local; 169.254.169.254 is the metadata service */
	{ { 172, 16 }, 12 },
	{ { 192, 0, 0 }, 24 },			/* protocol assignments; 192.0.0.192 is a metadata service */
	{ { 192, 0, 2 }, 24 },			/* documentation */
	{ { 192, 88, 99 }, 24 },		/* 6to4 relays */
	{ { 192, 168 }, 16 },
	{ { 198, 18 }, 15 },			/* benchmarks */
	{ { 198, 51, 100 }, 24 },
	{ { 203, 0, 113 }, 24 },
	{ { 224 }, 4 },				/* multicast */
	{ { 240 }, 4 },				/* reserved, broadcast */
};

/* Within 2000::/3; nothing outside it is global unicast, save the forms that embed an IPv4 address. */
static const struct range refused6[] = {
	{ { 0x20, 0x01, 0x00 }, 23 },		/* protocol assignments: Teredo, benchmarks, ORCHID */
	{ { 0x20, 0x01, 0x0d, 0xb8 }, 32 },	/* documentation */
	{ { 0x20, 0x02 }, 16 },			/* 6to4 */
	{ { 0x3f, 0xff }, 20 },			/* documentation */
};

static const unsigned char global6[1] = { 0x20 };
static const unsigned char mapped6[12] = { [10] = 0xff, [11] = 0xff };
static const unsigned char nat64[12] = { 0x00, 0x64, 0xff, 0x9b };
/* clang-format on */

static bool in_range(const unsigned char *ip, const unsigned char *base, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;
	if (memcmp(ip, base, whole) != 0)
		return false;
	return !rest || ((ip[whole] ^ base[whole]) >> (8 - rest)) == 0;
}

static bool in_any(const unsigned char *ip, const struct range *ranges, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (in_range(ip, ranges[i].base, ranges[i].bits))
			return true;
	return false;
}

static bool public4(const unsigned char *ip)
{
	return !in_any(ip, refused4, sizeof refused4 / sizeof refused4[0]);
}

static bool public6(const unsigned char *ip)
{
	if (in_range(ip, mapped6, 96) || in_range(ip, nat64, 96))
		return public4(ip + 12);
	return in_range(ip, global6, 3) && !in_any(ip, refused6, sizeof refused6 / sizeof refused6[0]);
}

bool guard_is_public(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET) {
		struct sockaddr_in in;
		memcpy(&in, address, sizeof in);
		return public4((const unsigned char *)&in.sin_addr);
	}
	if (address->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;
		memcpy(&in6, address, sizeof in6);
		return public6((const unsigned char *)&in6.sin6_addr);
	}
	return false;
}

bool guard_host_may_be_public(const char *host)
{
	unsigned char ip[16];
	char bare[64];
	if (inet_pton(AF_INET, host, ip) == 1)
		return public4(ip);
	size_t n = strlen(host);
	if (host[0] != '[' || n < 3 || n - 2 >= sizeof bare)
		return true;
	memcpy(bare, host + 1, n - 2);
	bare[n - 2] = '\0';
	bare[strcspn(bare, "%")] = '\0'; /* a zone */
	return inet_pton(AF_INET6, bare, ip) == 1 && public6(ip);
}

curl_socket_t guard_open_socket(void *clientp, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct http_pair *pair = clientp;
	(void)purpose;
	if (!pair->pool->allow_private && !guard_is_public(&address->addr)) {
		pair->refused_private = true;
		return CURL_SOCKET_BAD;
	}
	pair->kept_fd = CURL_SOCKET_BAD;
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* The number may be somebody else's a moment later. */
int guard_close_socket(void *clientp, curl_socket_t fd)
{
	struct http_pair *pair = clientp;
	if (pair->kept_fd == fd)
		pair->kept_fd = CURL_SOCKET_BAD;
	return close(fd);
}
