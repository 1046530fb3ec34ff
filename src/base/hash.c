/* SPDX-License-Identifier: Apache-2.0
 * SipHash-1-3 under a seed drawn once per process, CRC-32 by zlib, FNV-1a.
 */
#include "config.h"
#include "base/hash.h"

#include "base/rand.h"

#include <pthread.h>
#include <string.h>
#include <zlib.h>

static uint64_t seed[2];
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

static void seed_draw(void)
{
	rand_bytes(seed, sizeof seed);
}

static uint64_t rotl(uint64_t x, int b)
{
	return x << b | x >> (64 - b);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

uint64_t hash_bytes(const void *p, size_t n)
{
	pthread_once(&seed_once, seed_draw);
	const unsigned char *in = p;
	uint64_t v[4] = { seed[0] ^ 0x736f6d6570736575u, seed[1] ^ 0x646f72616e646f6du, seed[0] ^ 0x6c7967656e657261u,
			  seed[1] ^ 0x7465646279746573u };
	uint64_t m;
	size_t left = n;
	for (; left >= 8; in += 8, left -= 8) {
		memcpy(&m, in, 8);
		v[3] ^= m;
		sip_round(v);
		v[0] ^= m;
	}
	m = (uint64_t)n << 56;
	for (size_t i = 0; i < left; i++)
		m |= (uint64_t)in[i] << (8 * i);
	v[3] ^= m;
	sip_round(v);
	v[0] ^= m;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint32_t crc32_bytes(const void *p, size_t n)
{
	return (uint32_t)crc32_z(0, p, n);
}

uint64_t hash_fnv(const void *p, size_t n)
{
	const unsigned char *in = p;
	uint64_t h = 0xcbf29ce484222325u;
	for (size_t i = 0; i < n; i++)
		h = (h ^ in[i]) * 0x100000001b3u;
	return h;
}
