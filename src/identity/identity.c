/* SPDX-License-Identifier: Apache-2.0
 * The way of a presented key: its form, the epoch, the cache, and for the first time PostgreSQL.
 */
#include "config.h"
#include "identity/room.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "identity/cache.h"
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

static void on_change(void *u, struct uuid id)
{
	struct identity *i = u;
	key_cache_drop(i->cache, id);
}

static int derive_peppers(struct identity *i, struct err *err)
{
	while (i->keyring && keyring_id(i->keyring, i->npeppers).n)
		i->npeppers++;
	i->peppers = calloc(i->npeppers + 1, sizeof *i->peppers);
	if (!i->peppers)
		abort();
	for (unsigned k = 0; k < i->npeppers; k++) {
		unsigned char pepper[32];
		i->peppers[k].id = keyring_id(i->keyring, k);
		if (keyring_derive(i->keyring, i->peppers[k].id, STR("api-key-pepper"), pepper, err) < 0)
			return -1;
		key_hasher_init(&i->peppers[k].hasher, pepper);
		crypto_wipe(pepper, sizeof pepper);
	}
	return 0;
}

struct identity *identity_new(const struct identity_options *options, struct err *err)
{
	struct identity *i = calloc(1, sizeof *i);
	if (!i)
		abort();
	i->pool = options->pool;
	i->epoch = options->epoch;
	i->keyring = options->keyring;
	i->cache = key_cache_new(options->cache_keys);
	pthread_mutex_init(&i->hash_lock, NULL);
	pthread_cond_init(&i->hash_free, NULL);
	if (derive_peppers(i, err) < 0) {
		identity_free(&i);
		return NULL;
	}
	if (i->epoch) {
		epoch_listen(i->epoch, "key", on_change, i);
		epoch_listen(i->epoch, "user", on_change, i);
		epoch_listen(i->epoch, "organization", on_change, i);
	}
	return i;
}

void identity_free(struct identity **i)
{
	if (!*i)
		return;
	key_cache_free(&(*i)->cache);
	crypto_wipe((*i)->peppers, (*i)->npeppers * sizeof *(*i)->peppers);
	free((*i)->peppers);
	pthread_mutex_destroy(&(*i)->hash_lock);
	pthread_cond_destroy(&(*i)->hash_free);
	free(*i);
	*i = NULL;
}

bool caller_may_call(const struct caller *c, struct str model)
{
	for (unsigned i = 0; i < c->nmodels; i++)
		if (str_glob(c->models[i], model))
			return true;
	return c->nmodels == 0;
}

static int refused(struct err *err)
{
	return err_set(err, ERR_UNAUTHENTICATED, "Invalid API key");
}

static int check_form(struct str key, struct err *err)
{
	if (key_is_ours(key) && !key_checksum_holds(key))
		return err_set(err, ERR_UNAUTHENTICATED, "API key is mistyped (its checksum does not match)");
	return key_is_adoptable(key) ? 0 : refused(err);
}

/* PostgreSQL did not say whether the key is good: never 401, whatever was wrong. */
static int cannot_ask(struct err *err)
{
	struct err why = err ? *err : (struct err){ 0 };
	err_set(err, ERR_AUTH_UNAVAILABLE, "the API key cannot be checked at the moment");
	if (err)
		err->retry_after_ms = 2000;
	return err_detail(err, "%s %s", why.msg, why.detail);
}

struct str digests_array(const struct identity *i, struct str key, struct arena *a)
{
	struct buf b;
	buf_init(&b, a, 128 * (i->npeppers + 1));
	for (unsigned k = 0; k < i->npeppers; k++) {
		unsigned char digest[SHA256_BYTES];
		char hex[2 + 2 * SHA256_BYTES + 1] = "\\x";
		key_digest(&i->peppers[k].hasher, key, digest);
		crypto_hex(digest, sizeof digest, hex + 2);
		pg_array_add(&b, str_c(hex));
	}
	return pg_array_end(&b);
}

const struct str *read_lines(struct str lines, struct arena *a, unsigned *n_r)
{
	unsigned most = 1;
	for (size_t k = 0; k < lines.n; k++)
		most += lines.p[k] == '\n';
	struct str *out = arena_array(a, most, sizeof *out), rest = lines, part;
	for (*n_r = 0; lines.n && str_split(&rest, '\n', &part);)
		out[(*n_r)++] = arena_str(a, part);
	return out;
}

bool uuid_is_zero(struct uuid u)
{
	static const struct uuid zero;
	return memcmp(&u, &zero, sizeof u) == 0;
}

static void read_caller(const struct pg_result *r, struct arena *a, struct caller *who)
{
	*who = (struct caller){ .organization = pg_uuid(r, 0, 0), .key = pg_uuid(r, 0, 1), .project = pg_uuid(r, 0, 2), .user = pg_uuid(r, 0, 3) };
	who->key_name = arena_str(a, pg_str(r, 0, 4));
	who->scopes = (unsigned)pg_i64(r, 0, 5);
	who->platform_admin = pg_bool(r, 0, 6) && (who->scopes & SCOPE_ADMIN);
	who->models = read_lines(pg_str(r, 0, 7), a, &who->nmodels);
}

/* Returns 1, 0 no such key (or not any more), -1. */
static int ask(struct identity *i, struct str key, struct arena *a, struct caller *who, int64_t *expires_us_r, struct err *err)
{
	static const char sql[] =
		"select k.organization_id, k.id, k.project_id, k.user_id, k.name,"
		" ('read' = any(k.scopes))::int + 2 * ('write' = any(k.scopes))::int + 4 * ('admin' = any(k.scopes))::int,"
		" coalesce(u.platform_admin, false), array_to_string(k.models, E'\\n'), (extract(epoch from k.expires_at) * 1000000)::bigint"
		" from headgate.api_keys k join headgate.organizations o on o.id = k.organization_id"
		" left join headgate.users u on u.id = k.user_id"
		" where k.digest = any($1::bytea[]) and k.revoked_at is null and o.disabled_at is null and (k.user_id is null or (u.disabled_at is null"
		" and exists (select from headgate.members m where m.organization_id = k.organization_id and m.user_id = k.user_id)))";
	const struct pg_scope scope = { .role = PG_ROLE_LOADER, .read_only = true };
	struct str digests = digests_array(i, key, a);
	struct pg_result *r;
	if (pg_query(i->pool, &scope, sql, &digests, 1, a, &r, err) < 0)
		return -1;
	if (!pg_rows(r))
		return 0;
	read_caller(r, a, who);
	*expires_us_r = pg_i64(r, 0, 8);
	return 1;
}

static int load(struct identity *i, struct str key, const unsigned char *digest, int64_t wall_us, uint64_t now_us, struct arena *a,
		struct caller *who, int64_t *expires_us_r, struct err *err)
{
	uint64_t version = key_cache_version(i->cache);
	int found = ask(i, key, a, who, expires_us_r, err);
	if (found < 0)
		return cannot_ask(err);
	if (found)
		key_cache_put(i->cache, digest, version, wall_us, who, *expires_us_r);
	else
		key_cache_put_unknown(i->cache, digest, version, now_us);
	return found ? 0 : refused(err);
}

int identity_authenticate(struct identity *i, struct str key, struct arena *a, struct caller *out_r, struct err *err)
{
	if (check_form(key, err) < 0)
		return -1;
	if (i->epoch && epoch_check(i->epoch, err) < 0)
		return -1;
	if (!i->npeppers) {
		err_set(err, ERR_CONFIG, "no master key is loaded");
		return cannot_ask(err);
	}
	unsigned char digest[SHA256_BYTES];
	key_digest(&i->peppers[0].hasher, key, digest);
	int64_t wall_us = clock_wall_us(), expires_us = 0;
	uint64_t now_us = clock_now_us();
	struct caller who;
	enum key_known known = key_cache_get(i->cache, digest, wall_us, now_us, a, &who, &expires_us);
	if (known == KEY_UNKNOWN)
		return refused(err);
	if (known == KEY_NOT_KNOWN && load(i, key, digest, wall_us, now_us, a, &who, &expires_us, err) < 0)
		return -1;
	if (expires_us && wall_us >= expires_us)
		return refused(err);
	*out_r = who;
	return 0;
}

enum { USED_AT_ONCE = 500 };

static int write_used(struct identity *i, const struct key_used *used, unsigned n, struct arena *a, struct err *err)
{
	/* Rows that another process is writing are passed over: it writes nearly the same time. */
	static const char sql[] =
		"with due as (select k.organization_id, k.id, u.at from headgate.api_keys k"
		" join unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) as u(organization_id, id, at) on k.organization_id = u.organization_id and k.id = u.id"
		" where k.last_used_at is null or k.last_used_at < u.at for no key update of k skip locked)"
		" update headgate.api_keys k set last_used_at = due.at from due where k.organization_id = due.organization_id and k.id = due.id";
	const struct pg_scope scope = { .role = PG_ROLE_LOADER };
	struct buf organizations, keys, times;
	buf_init(&organizations, a, 64 * n + 64);
	buf_init(&keys, a, 64 * n + 64);
	buf_init(&times, a, 64 * n + 64);
	for (unsigned k = 0; k < n; k++) {
		pg_array_add(&organizations, pg_arg_uuid(a, used[k].organization));
		pg_array_add(&keys, pg_arg_uuid(a, used[k].key));
		pg_array_add(&times, pg_arg_time(a, used[k].used_us));
	}
	const struct str args[] = { pg_array_end(&organizations), pg_array_end(&keys), pg_array_end(&times) };
	struct pg_result *r;
	return pg_query(i->pool, &scope, sql, args, 3, a, &r, err);
}

int identity_flush_used(struct identity *i, struct err *err)
{
	struct key_used used[USED_AT_ONCE];
	unsigned n = key_cache_take_used(i->cache, used, USED_AT_ONCE);
	if (!n)
		return 0;
	struct arena *a = arena_new(1 << 20);
	int rc = write_used(i, used, n, a, err);
	arena_free(&a);
	return rc;
}

int change_end(struct identity *i, struct pg_conn **conn, int rc, const char *kind, struct uuid id, struct err *err)
{
	struct arena *a = arena_new(1 << 16);
	const struct str args[] = { str_c(kind), pg_arg_uuid(a, id) };
	struct pg_result *r = NULL;
	if (rc == 0)
		rc = pg_exec(*conn, "select headgate.change($1, $2)", args, 2, a, &r, err);
	uint64_t epoch = rc < 0 ? 0 : (uint64_t)pg_i64(r, 0, 0);
	if (pg_end(conn, rc == 0, rc == 0 ? err : NULL) < 0)
		rc = -1;
	if (rc == 0 && i->epoch)
		epoch_publish(i->epoch, epoch);
	arena_free(&a);
	return rc;
}
