/* SPDX-License-Identifier: Apache-2.0
 * What this process knows of API keys, by digest: bounded, sharded, dropped object by object when the epoch says so.
 * Invariant: an answer read before a change was heard of is never kept (see key_cache_version).
 */
#ifndef IDENTITY_CACHE_H
#define IDENTITY_CACHE_H

#include "base/crypto.h"
#include "identity/identity.h"

struct key_cache;

struct key_cache *key_cache_new(unsigned entries);
void key_cache_free(struct key_cache **c);

enum key_known { KEY_NOT_KNOWN = 0, KEY_KNOWN, KEY_UNKNOWN /* asked within the last second: there is no such key */ };

/* Look up a digest; found, the caller is copied into `a` and marked as used at wall_us. Threads: any. */
enum key_known key_cache_get(struct key_cache *c, const unsigned char digest[SHA256_BYTES], int64_t wall_us, uint64_t now_us, struct arena *a,
			     struct caller *out_r, int64_t *expires_us_r);

/* Take the version before asking PostgreSQL and give it back with the answer: when anything was dropped in between, the answer may
 * be older than the change and is not kept. */
uint64_t key_cache_version(const struct key_cache *c);
void key_cache_put(struct key_cache *c, const unsigned char digest[SHA256_BYTES], uint64_t version, int64_t wall_us, const struct caller *who,
		   int64_t expires_us);
void key_cache_put_unknown(struct key_cache *c, const unsigned char digest[SHA256_BYTES], uint64_t version, uint64_t now_us);

/* Drop what belongs to `id`: a key, a user or an organization, whichever it is; all when id is zero. */
void key_cache_drop(struct key_cache *c, struct uuid id);

/* Keys used since their use was last taken, at most one a minute each. Returns their number, at most max; they count as taken. */
struct key_used {
	struct uuid organization, key;
	int64_t used_us;
};
unsigned key_cache_take_used(struct key_cache *c, struct key_used *out, unsigned max);

unsigned key_cache_count(struct key_cache *c);

#endif
