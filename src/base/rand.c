/* SPDX-License-Identifier: Apache-2.0
 * Kernel randomness, UUIDv7 and typed ids. Random bytes are taken from the kernel in blocks per thread, and wiped as
 * they are given out.
 */
#include "config.h"
#include "base/rand.h"

#include "base/clock.h"
#include "base/err.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static void from_kernel(unsigned char *p, size_t n)
{
	while (n) {
		ssize_t got = getrandom(p, n, 0);
		if (got < 0 && errno == EINTR)
			continue;
		BUG_ON(got <= 0);
		p += got;
		n -= (size_t)got;
	}
}

/* A child must not repeat its parent's bytes, so a fork empties the block. */
static _Thread_local struct {
	unsigned char bytes[256];
	size_t left;
	unsigned generation;
} pool;
static atomic_uint fork_generation;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void forked(void)
{
	fork_generation++;
}

static void fork_watch(void)
{
	pthread_atfork(NULL, NULL, forked);
}

void rand_bytes(void *p, size_t n)
{
	if (n > sizeof pool.bytes / 4) {
		from_kernel(p, n);
		return;
	}
	pthread_once(&fork_once, fork_watch);
	if (pool.left < n || pool.generation != fork_generation) {
		from_kernel(pool.bytes, sizeof pool.bytes);
		pool.left = sizeof pool.bytes;
		pool.generation = fork_generation;
	}
	unsigned char *from = pool.bytes + sizeof pool.bytes - pool.left;
	memcpy(p, from, n);
	explicit_bzero(from, n);
	pool.left -= n;
}

uint64_t rand_u64(void)
{
	uint64_t v;
	rand_bytes(&v, sizeof v);
	return v;
}

uint64_t rand_below(uint64_t bound)
{
	uint64_t limit = UINT64_MAX - UINT64_MAX % bound, v;
	do
		v = rand_u64();
	while (v >= limit);
	return v % bound;
}

void rand_base62(char *out, size_t n)
{
	static const char alphabet[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	for (size_t i = 0; i < n; i++)
		out[i] = alphabet[rand_below(62)];
}

/* RFC 9562 section 6.2, method 1: a counter of 12 bits under the millisecond, so that ids of one process only rise. */
static uint64_t next_ms_and_count(void)
{
	static _Atomic uint64_t last;
	uint64_t now = ((uint64_t)clock_wall_us() / 1000) << 12 | (rand_u64() & 0x3FF);
	uint64_t before = atomic_load(&last), next;
	do
		next = now > before ? now : before + 1;
	while (!atomic_compare_exchange_weak(&last, &before, next));
	return next;
}

struct uuid uuid_v7(void)
{
	struct uuid u;
	uint64_t t = next_ms_and_count(), ms = t >> 12;
	rand_bytes(u.b + 8, 8);
	for (int i = 0; i < 6; i++)
		u.b[i] = (unsigned char)(ms >> (8 * (5 - i)));
	u.b[6] = (unsigned char)(0x70 | (t >> 8 & 0x0F));
	u.b[7] = (unsigned char)t;
	u.b[8] = (unsigned char)((u.b[8] & 0x3F) | 0x80);
	return u;
}

int64_t uuid_v7_ms(struct uuid u)
{
	int64_t ms = 0;
	for (int i = 0; i < 6; i++)
		ms = ms << 8 | u.b[i];
	return ms;
}

void uuid_text(struct uuid u, char out[UUID_TEXT + 1])
{
	static const char hex[] = "0123456789abcdef";
	char *o = out;
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*o++ = '-';
		*o++ = hex[u.b[i] >> 4];
		*o++ = hex[u.b[i] & 15];
	}
	*o = '\0';
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool uuid_parse(struct str s, struct uuid *out_r)
{
	struct uuid u;
	size_t at = 0;
	if (s.n != UUID_TEXT)
		return false;
	for (int i = 0; i < 16; i++) {
		if (at == 8 || at == 13 || at == 18 || at == 23)
			if (s.p[at++] != '-')
				return false;
		int hi = hex_value(s.p[at]), lo = hex_value(s.p[at + 1]);
		if (hi < 0 || lo < 0)
			return false;
		u.b[i] = (unsigned char)(hi << 4 | lo);
		at += 2;
	}
	*out_r = u;
	return true;
}

void id_text(const char *prefix, struct uuid u, char out[ID_TEXT])
{
	char text[UUID_TEXT + 1];
	uuid_text(u, text);
	snprintf(out, ID_TEXT, "%.10s_%s", prefix, text);
}

int id_parse(const char *prefix, struct str s, struct uuid *out_r)
{
	struct str p = str_c(prefix);
	if (!str_starts(s, p) || s.n < p.n + 1 || s.p[p.n] != '_')
		return 0;
	return uuid_parse(str_sub(s, p.n + 1, s.n), out_r) ? 1 : 0;
}
