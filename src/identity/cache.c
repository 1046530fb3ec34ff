/* SPDX-License-Identifier: Apache-2.0
 * The cache of API keys. A digest is an HMAC, so its own bytes choose shard and bucket. Each shard has a lock of its own, a fixed
 * table evicted by the clock, and a few direct-mapped places for digests that are no key, so that a flood of wrong keys cannot
 * push out right ones.
 *
 * Lock: shard.lock, a leaf: nothing else is taken while it is held. It protects everything in its shard.
 */
#include "config.h"
#include "identity/cache.h"

#include "base/arena.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SHARDS = 64, UNKNOWN_PLACES = 32, UNKNOWN_US = 1000000, USED_EVERY_US = 60000000, PENDING_USED = 32 };
#define NOWHERE UINT32_MAX

struct entry {
	unsigned char digest[SHA256_BYTES];
	struct caller *who; /* one heap block with its strings; NULL: the place is free */
	int64_t expires_us;
	int64_t used_us, taken_us; /* last use; the use that key_cache_take_used saw */
	uint32_t next;		   /* in the bucket, or in the free list */
	bool recent;		   /* used again since the clock's hand passed: one use alone does not keep a place */
};

struct unknown {
	unsigned char digest[SHA256_BYTES];
	uint64_t version, until_us;
};

struct shard {
	pthread_mutex_t lock;
	struct entry *entries;
	uint32_t *buckets;
	uint32_t cap, mask, count, free, fresh, hand; /* fresh: places from here on were never used */
	struct unknown unknown[UNKNOWN_PLACES];
	struct key_used pending[PENDING_USED]; /* uses of entries that were evicted before they were taken */
	unsigned npending;
} __attribute__((aligned(64)));

struct key_cache {
	_Atomic uint64_t version;
	_Atomic unsigned take_from; /* the shard with which the next take begins */
	struct shard shards[SHARDS];
};

static uint32_t digest_number(const unsigned char *digest)
{
	uint32_t v;
	memcpy(&v, digest + 4, sizeof v);
	return v;
}

static struct shard *shard_of(struct key_cache *c, const unsigned char *digest)
{
	return &c->shards[digest[0] % SHARDS];
}

static void shard_init(struct shard *s, uint32_t cap)
{
	uint32_t buckets = 4;
	while (buckets < cap)
		buckets *= 2;
	pthread_mutex_init(&s->lock, NULL);
	s->cap = cap;
	s->mask = buckets - 1;
	s->free = NOWHERE;
	s->entries = calloc(cap, sizeof *s->entries); /* pages that are never used are never there */
	s->buckets = malloc(buckets * sizeof *s->buckets);
	if (!s->entries || !s->buckets)
		abort();
	memset(s->buckets, 0xff, buckets * sizeof *s->buckets);
}

struct key_cache *key_cache_new(unsigned entries)
{
	struct key_cache *c = aligned_alloc(64, sizeof *c);
	if (!c)
		abort();
	memset(c, 0, sizeof *c);
	for (unsigned i = 0; i < SHARDS; i++)
		shard_init(&c->shards[i], entries / SHARDS < 1 ? 1 : entries / SHARDS);
	return c;
}

void key_cache_free(struct key_cache **c)
{
	if (!*c)
		return;
	for (unsigned i = 0; i < SHARDS; i++) {
		struct shard *s = &(*c)->shards[i];
		for (uint32_t k = 0; k < s->fresh; k++)
			free(s->entries[k].who);
		free(s->entries);
		free(s->buckets);
		pthread_mutex_destroy(&s->lock);
	}
	free(*c);
	*c = NULL;
}

/* Room for a caller and its strings: sizes first, then the copy at `to`. */
static size_t caller_bytes(const struct caller *who)
{
	size_t n = sizeof *who + who->nmodels * sizeof *who->models + who->key_name.n;
	for (unsigned i = 0; i < who->nmodels; i++)
		n += who->models[i].n;
	return n;
}

static struct str copy_text(char **at, struct str s)
{
	struct str copy = { *at, s.n };
	if (s.n)
		memcpy(*at, s.p, s.n);
	*at += s.n;
	return copy;
}

static void copy_caller(void *to, const struct caller *who)
{
	struct caller *copy = to;
	struct str *models = (struct str *)(copy + 1);
	char *text = (char *)(models + who->nmodels);
	*copy = *who;
	copy->key_name = copy_text(&text, who->key_name);
	for (unsigned i = 0; i < who->nmodels; i++)
		models[i] = copy_text(&text, who->models[i]);
	copy->models = who->nmodels ? models : NULL;
}

static uint32_t *find(struct shard *s, const unsigned char *digest)
{
	uint32_t *at = &s->buckets[digest_number(digest) & s->mask];
	while (*at != NOWHERE && memcmp(s->entries[*at].digest, digest, SHA256_BYTES) != 0)
		at = &s->entries[*at].next;
	return at;
}

static bool is_due(const struct entry *e)
{
	return e->used_us - e->taken_us >= USED_EVERY_US;
}

/* Take the entry at *at out of its bucket and free its place. */
static void remove_at(struct shard *s, uint32_t *at)
{
	uint32_t i = *at;
	struct entry *e = &s->entries[i];
	if (is_due(e) && s->npending < PENDING_USED)
		s->pending[s->npending++] = (struct key_used){ e->who->organization, e->who->key, e->used_us };
	*at = e->next;
	free(e->who);
	e->who = NULL;
	e->next = s->free;
	s->free = i;
	s->count--;
}

static void evict_one(struct shard *s)
{
	for (;;) {
		struct entry *e = &s->entries[s->hand];
		s->hand = (s->hand + 1) % s->cap;
		if (e->who && !e->recent) {
			remove_at(s, find(s, e->digest));
			return;
		}
		e->recent = false;
	}
}

static uint32_t take_place(struct shard *s)
{
	if (s->free == NOWHERE && s->fresh == s->cap)
		evict_one(s);
	if (s->free == NOWHERE)
		return s->fresh++;
	uint32_t i = s->free;
	s->free = s->entries[i].next;
	return i;
}

static enum key_known ask_unknown(const struct key_cache *c, const struct shard *s, const unsigned char *digest, uint64_t now_us)
{
	const struct unknown *u = &s->unknown[digest_number(digest) % UNKNOWN_PLACES];
	bool known = now_us < u->until_us && u->version == atomic_load(&c->version) && memcmp(u->digest, digest, SHA256_BYTES) == 0;
	return known ? KEY_UNKNOWN : KEY_NOT_KNOWN;
}

enum key_known key_cache_get(struct key_cache *c, const unsigned char digest[SHA256_BYTES], int64_t wall_us, uint64_t now_us, struct arena *a,
			     struct caller *out_r, int64_t *expires_us_r)
{
	struct shard *s = shard_of(c, digest);
	pthread_mutex_lock(&s->lock);
	uint32_t i = *find(s, digest);
	if (i == NOWHERE) {
		enum key_known known = ask_unknown(c, s, digest, now_us);
		pthread_mutex_unlock(&s->lock);
		return known;
	}
	struct entry *e = &s->entries[i];
	e->recent = true;
	e->used_us = wall_us;
	struct caller *copy = arena_alloc(a, caller_bytes(e->who));
	copy_caller(copy, e->who);
	*expires_us_r = e->expires_us;
	pthread_mutex_unlock(&s->lock);
	*out_r = *copy;
	return KEY_KNOWN;
}

uint64_t key_cache_version(const struct key_cache *c)
{
	return atomic_load(&c->version);
}

void key_cache_put(struct key_cache *c, const unsigned char digest[SHA256_BYTES], uint64_t version, int64_t wall_us, const struct caller *who,
		   int64_t expires_us)
{
	struct shard *s = shard_of(c, digest);
	struct caller *copy = malloc(caller_bytes(who));
	if (!copy)
		abort();
	copy_caller(copy, who);
	pthread_mutex_lock(&s->lock);
	if (version != atomic_load(&c->version) || *find(s, digest) != NOWHERE) {
		pthread_mutex_unlock(&s->lock);
		free(copy);
		return;
	}
	uint32_t i = take_place(s);
	uint32_t *bucket = &s->buckets[digest_number(digest) & s->mask];
	struct entry *e = &s->entries[i];
	*e = (struct entry){ .who = copy, .expires_us = expires_us, .used_us = wall_us, .next = *bucket };
	memcpy(e->digest, digest, SHA256_BYTES);
	*bucket = i;
	s->count++;
	pthread_mutex_unlock(&s->lock);
}

void key_cache_put_unknown(struct key_cache *c, const unsigned char digest[SHA256_BYTES], uint64_t version, uint64_t now_us)
{
	struct shard *s = shard_of(c, digest);
	pthread_mutex_lock(&s->lock);
	struct unknown *u = &s->unknown[digest_number(digest) % UNKNOWN_PLACES];
	u->version = version;
	u->until_us = now_us + UNKNOWN_US;
	memcpy(u->digest, digest, SHA256_BYTES);
	pthread_mutex_unlock(&s->lock);
}

static bool is_zero(struct uuid id)
{
	static const struct uuid zero;
	return memcmp(&id, &zero, sizeof id) == 0;
}

static bool belongs_to(const struct caller *who, struct uuid id)
{
	return memcmp(&who->key, &id, sizeof id) == 0 || memcmp(&who->user, &id, sizeof id) == 0 ||
	       memcmp(&who->organization, &id, sizeof id) == 0;
}

static void shard_drop(struct shard *s, struct uuid id)
{
	bool all = is_zero(id);
	for (uint32_t b = 0; s->count && b <= s->mask; b++)
		for (uint32_t *at = &s->buckets[b]; *at != NOWHERE;) {
			struct entry *e = &s->entries[*at];
			if (all || belongs_to(e->who, id))
				remove_at(s, at);
			else
				at = &e->next;
		}
}

void key_cache_drop(struct key_cache *c, struct uuid id)
{
	/* First the version, then the shards: a put that came before is dropped below, one that comes after is refused. */
	atomic_fetch_add(&c->version, 1);
	for (unsigned i = 0; i < SHARDS; i++) {
		struct shard *s = &c->shards[i];
		pthread_mutex_lock(&s->lock);
		shard_drop(s, id);
		pthread_mutex_unlock(&s->lock);
	}
}

static unsigned shard_take_used(struct shard *s, struct key_used *out, unsigned max)
{
	unsigned n = 0;
	while (s->npending && n < max)
		out[n++] = s->pending[--s->npending];
	for (uint32_t i = 0; i < s->fresh && n < max; i++) {
		struct entry *e = &s->entries[i];
		if (!e->who || !is_due(e))
			continue;
		e->taken_us = e->used_us;
		out[n++] = (struct key_used){ e->who->organization, e->who->key, e->used_us };
	}
	return n;
}

unsigned key_cache_take_used(struct key_cache *c, struct key_used *out, unsigned max)
{
	unsigned n = 0, from = atomic_load(&c->take_from);
	for (unsigned i = 0; i < SHARDS && n < max; i++) {
		struct shard *s = &c->shards[(from + i) % SHARDS];
		pthread_mutex_lock(&s->lock);
		n += shard_take_used(s, out + n, max - n);
		pthread_mutex_unlock(&s->lock);
		atomic_store(&c->take_from, (from + i) % SHARDS);
	}
	return n;
}

unsigned key_cache_count(struct key_cache *c)
{
	unsigned n = 0;
	for (unsigned i = 0; i < SHARDS; i++) {
		pthread_mutex_lock(&c->shards[i].lock);
		n += c->shards[i].count;
		pthread_mutex_unlock(&c->shards[i].lock);
	}
	return n;
}
