/* SPDX-License-Identifier: Apache-2.0
 * The catalog in memory: loaded whole when nothing is there or something changed, shared by reference count. Pools of connections
 * to providers outlive snapshots: a provider whose address did not change keeps its warm connections.
 *
 * Locks, in this order: load_lock (one loads, the others wait for what it loads), then lock (current, pools), a leaf.
 */
#include "config.h"
#include "call/catalog.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/crypto.h"
#include "base/log.h"
#include "http/http.h"
#include "store/store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct shared_pool {
	struct shared_pool *next;
	unsigned refs; /* snapshots that use it */
	struct uuid provider;
	char *base_url;
	bool allow_http, allow_private;
	struct http_pool *http;
};

struct catalog {
	struct catalog_options options;
	_Atomic uint64_t version; /* grows with each change that is heard of */
	pthread_mutex_t load_lock, lock;
	struct catalog_snapshot *current;
	struct shared_pool *pools;
};

static void on_change(void *u, struct uuid id)
{
	struct catalog *c = u;
	(void)id;
	atomic_fetch_add(&c->version, 1);
}

struct catalog *catalog_new(const struct catalog_options *options, struct err *err)
{
	(void)err;
	struct catalog *c = calloc(1, sizeof *c);
	if (!c)
		abort();
	c->options = *options;
	pthread_mutex_init(&c->load_lock, NULL);
	pthread_mutex_init(&c->lock, NULL);
	if (options->epoch) {
		epoch_listen(options->epoch, "provider", on_change, c);
		epoch_listen(options->epoch, "model", on_change, c);
	}
	return c;
}

void catalog_free(struct catalog **c)
{
	if (!*c)
		return;
	catalog_put(&(*c)->current);
	BUG_ON((*c)->pools); /* a snapshot is still held */
	pthread_mutex_destroy(&(*c)->load_lock);
	pthread_mutex_destroy(&(*c)->lock);
	free(*c);
	*c = NULL;
}

struct pg_pool *catalog_pool(struct catalog *c)
{
	return c->options.pool;
}

const struct keyring *catalog_keyring(struct catalog *c)
{
	return c->options.keyring;
}

struct str provider_key_place(struct uuid key, struct arena *a)
{
	char text[UUID_TEXT + 1];
	uuid_text(key, text);
	return arena_printf(a, "provider_keys/secret/%s", text);
}

enum provider_kind provider_kind_of(struct str name)
{
	return str_eq_c(name, "openai") ? PROVIDER_OPENAI : 0;
}

/* --- pools that outlive snapshots ---------------------------------------------------------------------------------------- */

static int open_pool(struct catalog *c, const char *base_url, bool allow_http, bool allow_private, struct http_pool **out_r, struct err *err)
{
	const struct http_pool_options options = {
		.base_url = base_url, .allow_http = allow_http, .allow_private = allow_private, .idle_max = c->options.idle_connections,
		.connect_ms = c->options.connect_ms, .header_bytes_max = c->options.header_bytes,
	};
	return http_pool_new(&options, out_r, err);
}

int provider_check_url(struct catalog *c, const struct provider_put *in, struct arena *a, struct err *err)
{
	struct http_pool *http;
	struct err why;
	err_clear(&why);
	if (open_pool(c, arena_cstr(a, in->base_url), in->allow_http, in->allow_private, &http, &why) < 0)
		return err_set_param(err, ERR_INVALID, "base_url", "%s", why.msg);
	http_pool_free(&http);
	return 0;
}

static bool same_pool(const struct shared_pool *s, const struct provider *p)
{
	return memcmp(&s->provider, &p->id, sizeof p->id) == 0 && str_eq_c(p->base_url, s->base_url) && s->allow_http == p->allow_http &&
	       s->allow_private == p->allow_private;
}

static struct shared_pool *pool_ref(struct catalog *c, const struct provider *p, struct arena *a, struct err *err)
{
	pthread_mutex_lock(&c->lock);
	struct shared_pool *s = c->pools;
	while (s && !same_pool(s, p))
		s = s->next;
	if (s)
		s->refs++;
	pthread_mutex_unlock(&c->lock);
	struct http_pool *http;
	if (s || open_pool(c, arena_cstr(a, p->base_url), p->allow_http, p->allow_private, &http, err) < 0)
		return s;
	s = calloc(1, sizeof *s);
	char *base_url = strndup(p->base_url.p, p->base_url.n);
	if (!s || !base_url)
		abort();
	*s = (struct shared_pool){ NULL, 1, p->id, base_url, p->allow_http, p->allow_private, http };
	pthread_mutex_lock(&c->lock);
	s->next = c->pools;
	c->pools = s;
	pthread_mutex_unlock(&c->lock);
	return s;
}

static void pool_unref(struct catalog *c, struct shared_pool *s)
{
	pthread_mutex_lock(&c->lock);
	bool last = --s->refs == 0;
	for (struct shared_pool **at = &c->pools; last && *at; at = &(*at)->next)
		if (*at == s) {
			*at = s->next;
			break;
		}
	pthread_mutex_unlock(&c->lock);
	if (!last)
		return;
	http_pool_free(&s->http);
	free(s->base_url);
	free(s);
}

static struct shared_pool *nth_pool_ref(struct catalog *c, unsigned n)
{
	pthread_mutex_lock(&c->lock);
	struct shared_pool *s = c->pools;
	while (s && n--)
		s = s->next;
	if (s)
		s->refs++;
	pthread_mutex_unlock(&c->lock);
	return s;
}

void catalog_trim(struct catalog *c)
{
	struct shared_pool *s;
	for (unsigned i = 0; (s = nth_pool_ref(c, i)); i++) {
		http_pool_trim(s->http);
		pool_unref(c, s);
	}
}

/* --- loading --------------------------------------------------------------------------------------------------------------- */

static const char providers_sql[] =
	"select p.id, p.name, p.kind, p.base_url, p.allow_http, p.allow_private, p.enabled, p.first_byte_ms, p.idle_ms, p.total_ms,"
	" k.id, k.seal_id, k.last4, translate(encode(k.secret, 'base64'), E'\\n', '') from headgate.providers p"
	" left join lateral (select * from headgate.provider_keys k where k.provider_id = p.id and k.enabled order by k.position, k.id limit 1) k on true"
	" order by p.name";
static const char models_sql[] =
	"select m.id, m.name, m.enabled, t.provider_id, t.model, t.priority, t.weight from headgate.models m"
	" left join headgate.model_targets t on t.model_id = m.id order by m.name, m.id, t.priority, t.position";

static void disable(struct provider *p, const char *problem)
{
	p->enabled = false;
	p->problem = problem;
}

static void read_secret(struct catalog *c, const struct pg_result *r, unsigned row, struct arena *a, struct provider *p)
{
	struct buf sealed;
	struct err err;
	err_clear(&err);
	if (pg_is_null(r, row, 10))
		return;
	p->key_id = pg_uuid(r, row, 10);
	p->key_last4 = arena_str(a, pg_str(r, row, 12));
	buf_init(&sealed, a, 1 << 16);
	if (!c->options.keyring)
		disable(p, "no master key is loaded");
	else if (!crypto_unbase64(pg_str(r, row, 13), &sealed) ||
		 keyring_unseal(c->options.keyring, pg_str(r, row, 11), provider_key_place(p->key_id, a), buf_view(&sealed), a, &p->key_secret, &err) < 0)
		disable(p, arena_printf(a, "its key cannot be unsealed: %s", err.msg).p);
}

static void read_provider(struct catalog *c, const struct pg_result *r, unsigned row, struct arena *a, struct provider *p)
{
	*p = (struct provider){
		.id = pg_uuid(r, row, 0), .name = arena_str(a, pg_str(r, row, 1)), .kind = provider_kind_of(pg_str(r, row, 2)),
		.base_url = arena_str(a, pg_str(r, row, 3)), .allow_http = pg_bool(r, row, 4), .allow_private = pg_bool(r, row, 5),
		.enabled = pg_bool(r, row, 6), .first_byte_ms = pg_i64(r, row, 7), .idle_ms = pg_i64(r, row, 8), .total_ms = pg_i64(r, row, 9),
		.problem = "",
	};
	if (p->enabled && !p->kind)
		disable(p, "this program does not know its kind");
	if (p->enabled)
		read_secret(c, r, row, a, p);
}

static void read_providers(struct catalog *c, struct catalog_snapshot *s, const struct pg_result *r)
{
	s->nproviders = pg_rows(r);
	s->providers = arena_array(s->a, s->nproviders + 1, sizeof *s->providers);
	s->pools = arena_array(s->a, s->nproviders + 1, sizeof(struct shared_pool *));
	for (unsigned i = 0; i < s->nproviders; i++) {
		struct provider *p = &s->providers[i];
		struct err err;
		err_clear(&err);
		read_provider(c, r, i, s->a, p);
		if (p->enabled)
			s->pools[i] = pool_ref(c, p, s->a, &err);
		if (s->pools[i])
			p->http = s->pools[i]->http;
		else if (p->enabled)
			disable(p, arena_printf(s->a, "its address cannot be used: %s", err.msg).p);
		if (*p->problem) /* nobody is told of it as an error: the catalog is loaded without this one */
			LOG(LOG_LEVEL_WARN, "catalog.provider_unusable", LF_STR("provider", p->name), LF_C("problem", p->problem));
	}
}

static const struct provider *provider_by_id(const struct catalog_snapshot *s, struct uuid id)
{
	for (unsigned i = 0; i < s->nproviders; i++)
		if (memcmp(&s->providers[i].id, &id, sizeof id) == 0)
			return &s->providers[i];
	return NULL;
}

/* One row per target, models in one piece each. */
static void read_models(struct catalog_snapshot *s, const struct pg_result *r)
{
	unsigned rows = pg_rows(r);
	struct model_target *t = arena_array(s->a, rows + 1, sizeof *t);
	s->models = arena_array(s->a, rows + 1, sizeof *s->models);
	struct model *m = NULL;
	for (unsigned i = 0; i < rows; i++) {
		struct uuid id = pg_uuid(r, i, 0);
		if (!m || memcmp(&m->id, &id, sizeof id) != 0) {
			m = &s->models[s->nmodels++];
			*m = (struct model){ .id = id, .name = arena_str(s->a, pg_str(r, i, 1)), .enabled = pg_bool(r, i, 2), .targets = t };
		}
		const struct provider *p = pg_is_null(r, i, 3) ? NULL : provider_by_id(s, pg_uuid(r, i, 3));
		if (!p)
			continue; /* made after the providers were read: the next load sees it */
		*t++ = (struct model_target){ p, arena_str(s->a, pg_str(r, i, 4)), pg_i64(r, i, 5), pg_i64(r, i, 6) };
		m->ntargets++;
	}
}

struct catalog_snapshot *snapshot_new(void)
{
	struct arena *a = arena_new(SIZE_MAX);
	struct catalog_snapshot *s = ARENA_NEW(a, struct catalog_snapshot);
	s->refs = 1;
	s->a = a;
	return s;
}

static void snapshot_free(struct catalog_snapshot *s)
{
	for (unsigned i = 0; i < s->nproviders; i++) {
		struct provider *p = &s->providers[i];
		crypto_wipe((char *)(uintptr_t)p->key_secret.p, p->key_secret.n);
		if (s->pools[i])
			pool_unref(s->catalog, s->pools[i]);
	}
	struct arena *a = s->a;
	arena_free(&a);
}

static int load(struct catalog *c, struct catalog_snapshot **out_r, struct err *err)
{
	const struct pg_scope scope = { .role = PG_ROLE_LOADER, .read_only = true };
	struct pg_stmt stmts[] = { { .sql = providers_sql }, { .sql = models_sql } };
	struct arena *a = arena_new(SIZE_MAX);
	uint64_t version = atomic_load(&c->version); /* before reading: what changes meanwhile is read again */
	if (pg_run(c->options.pool, &scope, stmts, 2, a, err) < 0) {
		arena_free(&a);
		return err_while(err, "loading the catalog");
	}
	struct catalog_snapshot *s = snapshot_new();
	s->catalog = c;
	s->version = version;
	read_providers(c, s, stmts[0].result);
	read_models(s, stmts[1].result);
	arena_free(&a);
	snapshot_index(s);
	*out_r = s;
	return 0;
}

/* --- handing out ------------------------------------------------------------------------------------------------------------ */

static struct catalog_snapshot *current_ref(struct catalog *c)
{
	uint64_t version = atomic_load(&c->version);
	pthread_mutex_lock(&c->lock);
	struct catalog_snapshot *s = c->current && c->current->version == version ? c->current : NULL;
	if (s)
		atomic_fetch_add(&s->refs, 1);
	pthread_mutex_unlock(&c->lock);
	return s;
}

static int load_and_swap(struct catalog *c, struct err *err)
{
	struct catalog_snapshot *s = NULL;
	if (load(c, &s, err) < 0)
		return -1;
	pthread_mutex_lock(&c->lock);
	struct catalog_snapshot *old = c->current;
	c->current = s;
	pthread_mutex_unlock(&c->lock);
	catalog_put(&old);
	return 0;
}

int catalog_get(struct catalog *c, struct catalog_snapshot **out_r, struct err *err)
{
	struct catalog_snapshot *s = current_ref(c);
	if (!s) {
		pthread_mutex_lock(&c->load_lock);
		s = current_ref(c); /* whoever held the lock may have loaded it */
		int rc = s ? 0 : load_and_swap(c, err);
		if (rc == 0 && !s) {
			pthread_mutex_lock(&c->lock);
			s = c->current; /* fresh enough even when a change came in while it was loaded: ours began before that */
			atomic_fetch_add(&s->refs, 1);
			pthread_mutex_unlock(&c->lock);
		}
		pthread_mutex_unlock(&c->load_lock);
		if (rc < 0)
			return -1;
	}
	*out_r = s;
	return 0;
}

void catalog_put(struct catalog_snapshot **s)
{
	if (*s && atomic_fetch_sub(&(*s)->refs, 1) == 1)
		snapshot_free(*s);
	*s = NULL;
}

const struct model *catalog_models(const struct catalog_snapshot *s, unsigned *n_r)
{
	*n_r = s->nmodels;
	return s->models;
}

const struct provider *catalog_providers(const struct catalog_snapshot *s, unsigned *n_r)
{
	*n_r = s->nproviders;
	return s->providers;
}

int catalog_change_end(struct catalog *c, struct pg_conn **conn, int rc, const char *kind, struct uuid id, struct err *err)
{
	struct arena *a = arena_new(1 << 16);
	const struct str args[] = { str_c(kind), pg_arg_uuid(a, id) };
	struct pg_result *r = NULL;
	if (rc == 0)
		rc = pg_exec(*conn, "select headgate.change($1, $2)", args, 2, a, &r, err);
	uint64_t epoch = rc < 0 ? 0 : (uint64_t)pg_i64(r, 0, 0);
	if (pg_end(conn, rc == 0, rc == 0 ? err : NULL) < 0)
		rc = -1;
	if (rc == 0 && c->options.epoch)
		epoch_publish(c->options.epoch, epoch);
	on_change(c, id); /* here at once, also where nothing is listened to */
	arena_free(&a);
	return rc;
}
