/* SPDX-License-Identifier: Apache-2.0
 * memcached through libmemcached: what may be lost. Handles are not thread-safe, so they are lent out of a stack; a handle with
 * any failure is thrown away with its connections, because a late answer would be taken for the next one's (F-23). Every time
 * limit is set (the library's are seconds), a server that failed is left alone for a second, and a value carries its key and a
 * checksum. Nothing here is ever an error: it is a miss.
 * Lock: mc.lock protects the stack of idle handles; a leaf.
 */
#include "config.h"
#include "store/store.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/hash.h"

#include <libmemcached/memcached.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
	SERVERS_MAX = 64,
	IDLE_MAX = 64,
	BREAK_US = 1000000,
	KEY_PLAIN_MAX = 200,
	ITEM_MAX_BYTES = 1000000, /* memcached's default limit is 1 MiB with its own head */
	TTL_MAX_SECS = 30 * 24 * 3600, /* more is taken for a date */
	PORT = 11211,
};

struct server {
	char *host; /* or socket path */
	in_port_t port; /* 0: socket */
	_Atomic uint64_t closed_until_us; /* left alone until */
};

struct handle {
	memcached_st *st;
	struct handle *next;
};

struct mc {
	struct server servers[SERVERS_MAX];
	unsigned nservers, timeout_ms;
	pthread_mutex_t lock;
	struct handle *idle;
	unsigned nidle;
};

/* Before the value in memcached. */
struct envelope {
	uint32_t magic, key_n, value_n, crc;
};
#define ENVELOPE_MAGIC 0x31434748u /* "HGC1" */

/* --- servers and life --- */

static void add_server(struct mc *m, struct str s)
{
	uint64_t port = PORT;
	size_t colon = SIZE_MAX;
	if (s.n == 0 || m->nservers == SERVERS_MAX)
		return;
	for (size_t i = 0; s.p[0] != '/' && i < s.n; i++)
		if (s.p[i] == ':')
			colon = i;
	if (colon != SIZE_MAX && s.p[s.n - 1] != ']' && str_u64(str_sub(s, colon + 1, s.n), &port))
		s.n = colon;
	bool is_socket = s.p[0] == '/';
	if (s.n > 2 && s.p[0] == '[' && s.p[s.n - 1] == ']')
		s = str_sub(s, 1, s.n - 2);
	struct server *at = &m->servers[m->nservers++];
	at->host = strndup(s.p, s.n);
	BUG_ON(!at->host);
	at->port = is_socket ? 0 : (in_port_t)port;
}

struct mc *mc_new(const char *servers, unsigned timeout_ms)
{
	struct mc *m = calloc(1, sizeof *m);
	BUG_ON(!m);
	m->timeout_ms = timeout_ms ? timeout_ms : 20;
	BUG_ON(pthread_mutex_init(&m->lock, NULL) != 0);
	struct str rest = str_c(servers ? servers : ""), part;
	while (str_split(&rest, ',', &part))
		add_server(m, str_trim(part));
	return m;
}

static void throw_away(struct handle *h)
{
	memcached_free(h->st);
	free(h);
}

void mc_free(struct mc **mp)
{
	struct mc *m = *mp;
	if (!m)
		return;
	while (m->idle) {
		struct handle *h = m->idle;
		m->idle = h->next;
		throw_away(h);
	}
	for (unsigned i = 0; i < m->nservers; i++)
		free(m->servers[i].host);
	pthread_mutex_destroy(&m->lock);
	free(m);
	*mp = NULL;
}

/* --- handles --- */

static void set_behaviours(memcached_st *st, unsigned timeout_ms)
{
	const struct {
		memcached_behavior_t what;
		uint64_t value;
	} all[] = {
		{ MEMCACHED_BEHAVIOR_BINARY_PROTOCOL, 1 },
		{ MEMCACHED_BEHAVIOR_NO_BLOCK, 1 },
		{ MEMCACHED_BEHAVIOR_TCP_NODELAY, 1 },
		{ MEMCACHED_BEHAVIOR_KETAMA, 1 },
		{ MEMCACHED_BEHAVIOR_CONNECT_TIMEOUT, timeout_ms },
		{ MEMCACHED_BEHAVIOR_POLL_TIMEOUT, timeout_ms },
		{ MEMCACHED_BEHAVIOR_SND_TIMEOUT, timeout_ms * 1000ULL },
		{ MEMCACHED_BEHAVIOR_RCV_TIMEOUT, timeout_ms * 1000ULL },
		{ MEMCACHED_BEHAVIOR_RETRY_TIMEOUT, 1 },
		{ MEMCACHED_BEHAVIOR_DEAD_TIMEOUT, 1 },
		{ MEMCACHED_BEHAVIOR_REMOVE_FAILED_SERVERS, 0 },
	};
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		memcached_behavior_set(st, all[i].what, all[i].value);
}

static struct handle *make_handle(struct mc *m)
{
	struct handle *h = calloc(1, sizeof *h);
	BUG_ON(!h);
	h->st = memcached_create(NULL);
	BUG_ON(!h->st);
	set_behaviours(h->st, m->timeout_ms);
	for (unsigned i = 0; i < m->nservers; i++) {
		if (m->servers[i].port)
			memcached_server_add(h->st, m->servers[i].host, m->servers[i].port);
		else
			memcached_server_add_unix_socket(h->st, m->servers[i].host);
	}
	return h;
}

static struct handle *borrow(struct mc *m)
{
	pthread_mutex_lock(&m->lock);
	struct handle *h = m->idle;
	if (h) {
		m->idle = h->next;
		m->nidle--;
	}
	pthread_mutex_unlock(&m->lock);
	return h ? h : make_handle(m);
}

static void give_back(struct mc *m, struct handle *h)
{
	pthread_mutex_lock(&m->lock);
	bool keep = m->nidle < IDLE_MAX;
	if (keep) {
		h->next = m->idle;
		m->idle = h;
		m->nidle++;
	}
	pthread_mutex_unlock(&m->lock);
	if (!keep)
		throw_away(h);
}

/* --- one operation --- */

struct key {
	char hashed[2 * SHA256_BYTES + 1];
	struct str s; /* what memcached is asked for */
};

static bool is_plain(struct str key)
{
	if (key.n == 0 || key.n > KEY_PLAIN_MAX)
		return false;
	for (size_t i = 0; i < key.n; i++)
		if ((unsigned char)key.p[i] <= ' ' || (unsigned char)key.p[i] >= 0x7f)
			return false;
	return true;
}

static void make_key(struct str from, struct key *out)
{
	unsigned char digest[SHA256_BYTES];
	out->s = from;
	if (is_plain(from))
		return;
	crypto_sha256(from.p, from.n, digest);
	crypto_hex(digest, sizeof digest, out->hashed);
	out->s = str_pn(out->hashed, sizeof out->hashed - 1);
}

struct op {
	struct mc *m;
	struct handle *h;
	struct server *server;
	struct key key;
};

/* False: there is no server, or the one for this key is left alone now. */
static bool begin(struct mc *m, struct str key, struct op *op)
{
	if (m->nservers == 0)
		return false;
	op->m = m;
	op->h = borrow(m);
	make_key(key, &op->key);
	uint32_t index = memcached_generate_hash(op->h->st, op->key.s.p, op->key.s.n);
	op->server = &m->servers[index < m->nservers ? index : 0];
	if (clock_now_us() >= atomic_load_explicit(&op->server->closed_until_us, memory_order_relaxed))
		return true;
	give_back(m, op->h);
	return false;
}

static void fail_op(struct op *op)
{
	atomic_store_explicit(&op->server->closed_until_us, clock_now_us() + BREAK_US, memory_order_relaxed);
	throw_away(op->h);
}

/* memcached_get says "not found" for an answer it could not read, too; the handle knows better. */
static memcached_return_t real_result(const struct op *op, memcached_return_t rc)
{
	memcached_return_t last = rc == MEMCACHED_NOTFOUND ? memcached_last_error(op->h->st) : rc;
	return last == MEMCACHED_SUCCESS ? rc : last;
}

/* Returns true when the operation did what it should. Refusals that leave the connection in order keep the handle. */
static bool end(struct op *op, memcached_return_t rc)
{
	switch (real_result(op, rc)) {
	case MEMCACHED_SUCCESS:
	case MEMCACHED_STORED:
	case MEMCACHED_DELETED:
	case MEMCACHED_NOTFOUND:
	case MEMCACHED_NOTSTORED:
	case MEMCACHED_DATA_EXISTS:
	case MEMCACHED_E2BIG:
		give_back(op->m, op->h);
		break;
	case MEMCACHED_SERVER_MEMORY_ALLOCATION_FAILURE:
		throw_away(op->h);
		break;
	default:
		fail_op(op);
	}
	return rc == MEMCACHED_SUCCESS || rc == MEMCACHED_STORED || rc == MEMCACHED_DELETED;
}

/* --- values --- */

static uint32_t checksum(struct str key, const void *value, size_t n)
{
	return crc32_bytes(key.p, key.n) ^ (crc32_bytes(value, n) * 31u + 1u);
}

static bool unwrap(struct str key, struct str item, struct str *value_r)
{
	struct envelope e;
	if (item.n < sizeof e)
		return false;
	memcpy(&e, item.p, sizeof e);
	if (e.magic != ENVELOPE_MAGIC || e.key_n != key.n || item.n - sizeof e != (size_t)e.key_n + e.value_n)
		return false;
	struct str value = str_sub(item, sizeof e + e.key_n, e.value_n);
	if (!str_eq(str_sub(item, sizeof e, e.key_n), key) || e.crc != checksum(key, value.p, value.n))
		return false;
	*value_r = value;
	return true;
}

static bool take_value(struct str key, char *item, size_t n, struct arena *a, struct str *value_r)
{
	struct str value;
	bool good = item && unwrap(key, str_pn(item, n), &value);
	if (good)
		*value_r = arena_str(a, value);
	free(item);
	return good;
}

bool mc_get(struct mc *m, struct str key, struct arena *a, struct str *value_r)
{
	struct op op;
	memcached_return_t rc;
	size_t n = 0;
	uint32_t flags;
	if (!begin(m, key, &op))
		return false;
	char *item = memcached_get(op.h->st, op.key.s.p, op.key.s.n, &n, &flags, &rc);
	bool got = end(&op, rc);
	return take_value(key, item, got ? n : 0, a, value_r);
}

bool mc_set(struct mc *m, struct str key, struct str value, unsigned ttl_secs)
{
	struct op op;
	size_t n = sizeof(struct envelope) + key.n + value.n;
	if (n > ITEM_MAX_BYTES || !begin(m, key, &op))
		return false;
	struct envelope e = { ENVELOPE_MAGIC, (uint32_t)key.n, (uint32_t)value.n, checksum(key, value.p, value.n) };
	char *item = malloc(n);
	BUG_ON(!item);
	memcpy(item, &e, sizeof e);
	memcpy(item + sizeof e, key.p, key.n);
	if (value.n)
		memcpy(item + sizeof e + key.n, value.p, value.n);
	time_t ttl = ttl_secs > TTL_MAX_SECS ? TTL_MAX_SECS : (time_t)ttl_secs;
	memcached_return_t rc = memcached_set(op.h->st, op.key.s.p, op.key.s.n, item, n, ttl, 0);
	free(item);
	return end(&op, rc);
}

void mc_delete(struct mc *m, struct str key)
{
	struct op op;
	if (begin(m, key, &op))
		end(&op, memcached_delete(op.h->st, op.key.s.p, op.key.s.n, 0));
}

bool mc_up(struct mc *m)
{
	if (m->nservers == 0)
		return false;
	static const char nobody[] = "headgate:up"; /* never stored; memcached_version() remembers its answer and asks once only */
	struct handle *h = borrow(m);
	memcached_return_t rc = memcached_exist(h->st, nobody, sizeof nobody - 1);
	bool up = rc == MEMCACHED_NOTFOUND || rc == MEMCACHED_SUCCESS;
	if (up)
		give_back(m, h);
	else
		throw_away(h);
	return up;
}
