/* SPDX-License-Identifier: Apache-2.0
 * The format and the digest of API keys.
 */
#define OPENSSL_SUPPRESS_DEPRECATED /* SHA256_CTX: the one way to keep a hash half done by value, without an allocation */
#include "config.h"
#include "identity/key.h"

#include "base/hash.h"
#include "base/rand.h"

#include <string.h>

static const char base62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
#define PREFIX STR("hg_")

static void write_check(struct str random, char out[KEY_CHECK])
{
	uint32_t v = crc32_bytes(random.p, random.n);
	for (unsigned i = KEY_CHECK; i-- > 0; v /= 62)
		out[i] = base62[v % 62];
}

void key_make(char *out)
{
	memcpy(out, PREFIX.p, PREFIX.n);
	char *random = out + PREFIX.n;
	rand_base62(random, KEY_RANDOM);
	write_check(str_pn(random, KEY_RANDOM), random + KEY_RANDOM);
	random[KEY_RANDOM + KEY_CHECK] = '\0';
}

bool key_is_ours(struct str key)
{
	return str_starts(key, PREFIX);
}

bool key_checksum_holds(struct str key)
{
	if (!key_is_ours(key) || key.n != PREFIX.n + KEY_RANDOM + KEY_CHECK)
		return false;
	char check[KEY_CHECK];
	struct str random = str_sub(key, PREFIX.n, KEY_RANDOM);
	write_check(random, check);
	return memcmp(check, random.p + KEY_RANDOM, KEY_CHECK) == 0;
}

bool key_is_adoptable(struct str key)
{
	if (key.n < KEY_MIN || key.n > KEY_MAX)
		return false;
	for (size_t i = 0; i < key.n; i++)
		if (key.p[i] <= ' ' || key.p[i] > '~' || key.p[i] == ',')
			return false;
	return !key_is_ours(key) || key_checksum_holds(key);
}

static void begin_padded(SHA256_CTX *ctx, const unsigned char key[32], unsigned char pad)
{
	unsigned char block[SHA256_CBLOCK];
	memset(block, pad, sizeof block);
	for (unsigned i = 0; i < 32; i++)
		block[i] ^= key[i];
	SHA256_Init(ctx);
	SHA256_Update(ctx, block, sizeof block);
	crypto_wipe(block, sizeof block);
}

void key_hasher_init(struct key_hasher *h, const unsigned char pepper[32])
{
	begin_padded(&h->inner, pepper, 0x36);
	begin_padded(&h->outer, pepper, 0x5c);
}

void key_digest(const struct key_hasher *h, struct str key, unsigned char out[SHA256_BYTES])
{
	unsigned char inner[SHA256_BYTES];
	SHA256_CTX ctx = h->inner;
	SHA256_Update(&ctx, key.p, key.n);
	SHA256_Final(inner, &ctx);
	ctx = h->outer;
	SHA256_Update(&ctx, inner, sizeof inner);
	SHA256_Final(out, &ctx);
}

struct str key_prefix(struct str key)
{
	size_t most = key_is_ours(key) ? 7 : 4;
	return str_sub(key, 0, key.n / 8 < most && !key_is_ours(key) ? key.n / 8 : most);
}

struct str key_last4(struct str key)
{
	return str_sub(key, key.n - 4, 4);
}
