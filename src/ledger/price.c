/* SPDX-License-Identifier: Apache-2.0
 * Prices: a snapshot of all versions, looked up by hash. The longest matching name wins: first the exact name, then the wildcards
 * from the longest down (only lengths that exist are tried), and of that name the version newest in force.
 * Lock order: prices.loading before prices.lock. A lookup holds the read lock for its microsecond; a new snapshot is made outside.
 */
#include "config.h"
#include "ledger/price.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/hash.h"
#include "store/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 256 * 4 }; /* 256 characters by the table's check */
#define LOAD_AGAIN_US UINT64_C(1000000) /* after a failure, while older prices are at hand */

/* --- the snapshot --- */

struct price_set {
	struct arena *a;
	struct ledger_price *rows; /* by provider, model, newest effective first, newest version first */
	size_t n;
	uint32_t *slots; /* open addressing: 1 + the index of a name's first row, 0 empty */
	size_t mask;
	unsigned char wild[NAME_MAX_BYTES / 8 + 1]; /* lengths of wildcards, `*` included */
};

static int compare(const void *x, const void *y)
{
	const struct ledger_price *a = x, *b = y;
	int d = memcmp(&a->provider, &b->provider, sizeof a->provider);
	if (d == 0)
		d = str_cmp(a->model, b->model);
	if (d == 0)
		d = (a->effective_us < b->effective_us) - (a->effective_us > b->effective_us);
	return d ? d : (a->version < b->version) - (a->version > b->version);
}

static bool same_name(const struct ledger_price *a, struct uuid provider, struct str model)
{
	return memcmp(&a->provider, &provider, sizeof provider) == 0 && str_eq(a->model, model);
}

static size_t hash_name(struct uuid provider, struct str model)
{
	uint64_t h[2];
	memcpy(h, &provider, sizeof h);
	return (size_t)(hash_str(model) ^ (h[1] * UINT64_C(0x9E3779B97F4A7C15)) ^ h[0]);
}

static uint32_t *slot_of(const struct price_set *s, struct uuid provider, struct str model)
{
	for (size_t i = hash_name(provider, model) & s->mask;; i = (i + 1) & s->mask)
		if (!s->slots[i] || same_name(&s->rows[s->slots[i] - 1], provider, model))
			return &s->slots[i];
}

static void index_rows(struct price_set *s)
{
	size_t size = 16;
	while (size < 2 * s->n)
		size *= 2;
	s->mask = size - 1;
	s->slots = arena_array(s->a, size, sizeof s->slots[0]);
	for (size_t i = 0; i < s->n; i++) {
		struct str m = s->rows[i].model;
		uint32_t *slot = slot_of(s, s->rows[i].provider, m);
		if (!*slot)
			*slot = (uint32_t)i + 1;
		if (m.n && m.n <= NAME_MAX_BYTES && m.p[m.n - 1] == '*')
			s->wild[m.n / 8] |= (unsigned char)(1 << m.n % 8);
	}
}

struct price_set *price_set_new(const struct ledger_price *rows, size_t n)
{
	struct price_set *s = calloc(1, sizeof *s);
	BUG_ON(!s);
	s->a = arena_new(SIZE_MAX);
	s->n = n;
	s->rows = arena_array(s->a, n ? n : 1, sizeof rows[0]);
	for (size_t i = 0; i < n; i++) {
		s->rows[i] = rows[i];
		s->rows[i].model = arena_str(s->a, rows[i].model);
	}
	qsort(s->rows, n, sizeof rows[0], compare);
	index_rows(s);
	return s;
}

void price_set_free(struct price_set **s)
{
	if (!*s)
		return;
	arena_free(&(*s)->a);
	free(*s);
	*s = NULL;
}

/* The newest version of exactly this name in force at wall_us. */
static const struct ledger_price *in_force(const struct price_set *s, struct uuid provider, struct str name, int64_t wall_us)
{
	uint32_t first = *slot_of(s, provider, name);
	if (!first)
		return NULL;
	for (size_t i = first - 1; i < s->n && same_name(&s->rows[i], provider, name); i++)
		if (s->rows[i].effective_us <= wall_us)
			return &s->rows[i];
	return NULL;
}

const struct ledger_price *price_set_find(const struct price_set *s, struct uuid provider, struct str model, int64_t wall_us)
{
	char wild[NAME_MAX_BYTES + 1];
	const struct ledger_price *p = in_force(s, provider, model, wall_us);
	size_t n = model.n < NAME_MAX_BYTES ? model.n : NAME_MAX_BYTES - 1;
	if (p)
		return p;
	if (n)
		memcpy(wild, model.p, n);
	for (n = n + 1; n > 0; n--) { /* the star stands at n - 1 */
		if (!(s->wild[n / 8] >> n % 8 & 1))
			continue;
		wild[n - 1] = '*';
		p = in_force(s, provider, str_pn(wild, n), wall_us);
		if (p)
			return p;
	}
	return NULL;
}

/* --- the process's copy --- */

struct ledger_prices {
	struct pg_pool *pool;
	struct epoch *epoch;
	pthread_rwlock_t lock;	 /* protects set */
	struct price_set *set;	 /* NULL: never loaded */
	pthread_mutex_t loading; /* one loader at a time */
	atomic_bool stale;
	atomic_bool loaded; /* once: a set is there, and stays */
	_Atomic uint64_t again_us; /* do not load before */
};

static void drop(void *u, struct uuid id)
{
	struct ledger_prices *p = u;
	(void)id; /* the rows are few: all are loaded again */
	p->again_us = 0;
	p->stale = true;
}

struct ledger_prices *ledger_prices_new(struct pg_pool *pool, struct epoch *epoch)
{
	struct ledger_prices *p = calloc(1, sizeof *p);
	BUG_ON(!p);
	p->pool = pool;
	p->epoch = epoch;
	p->stale = true;
	pthread_rwlock_init(&p->lock, NULL);
	pthread_mutex_init(&p->loading, NULL);
	if (epoch)
		epoch_listen(epoch, "price", drop, p);
	return p;
}

void ledger_prices_free(struct ledger_prices **pp)
{
	struct ledger_prices *p = *pp;
	if (!p)
		return;
	price_set_free(&p->set);
	pthread_rwlock_destroy(&p->lock);
	pthread_mutex_destroy(&p->loading);
	free(p);
	*pp = NULL;
}

#define PRICE_COLUMNS                                                                                                                       \
	"id, provider_id, model, version, (extract(epoch from effective_from) * 1000000)::bigint, input_nusd, cached_input_nusd, "          \
	"cache_write_nusd, output_nusd, reasoning_nusd"

static int64_t figure(const struct pg_result *r, unsigned row, unsigned col)
{
	return pg_is_null(r, row, col) ? LEDGER_NO_PRICE : pg_i64(r, row, col);
}

static struct ledger_price price_of_row(const struct pg_result *r, unsigned row)
{
	return (struct ledger_price){
		.id = pg_uuid(r, row, 0), .provider = pg_uuid(r, row, 1), .model = pg_str(r, row, 2), .version = pg_i64(r, row, 3),
		.effective_us = pg_i64(r, row, 4), .input = figure(r, row, 5), .cached = figure(r, row, 6), .cache_write = figure(r, row, 7),
		.output = figure(r, row, 8), .reasoning = figure(r, row, 9),
	};
}

static int read_all(struct pg_pool *pool, enum pg_role role, struct arena *a, struct ledger_price **out_r, unsigned *n_r, struct err *err)
{
	const struct pg_scope scope = { .role = role, .read_only = true };
	struct pg_result *r;
	if (pg_query(pool, &scope, "select " PRICE_COLUMNS " from headgate.prices order by provider_id, model, version", NULL, 0, a, &r, err) != 0)
		return -1;
	*n_r = pg_rows(r);
	*out_r = arena_array(a, *n_r ? *n_r : 1, sizeof **out_r);
	for (unsigned i = 0; i < *n_r; i++)
		(*out_r)[i] = price_of_row(r, i);
	return 0;
}

/* With `loading` held. The flag falls before the question is asked, so a change during it is not missed. */
static int load(struct ledger_prices *p, struct err *err)
{
	struct arena *a = arena_new(SIZE_MAX);
	struct ledger_price *rows;
	unsigned n;
	p->stale = false;
	int rc = read_all(p->pool, PG_ROLE_LOADER, a, &rows, &n, err);
	if (rc == 0) {
		struct price_set *old, *set = price_set_new(rows, n);
		pthread_rwlock_wrlock(&p->lock);
		old = p->set;
		p->set = set;
		p->loaded = true;
		pthread_rwlock_unlock(&p->lock);
		price_set_free(&old);
	} else {
		p->stale = true;
		p->again_us = clock_now_us() + LOAD_AGAIN_US;
	}
	arena_free(&a);
	return rc;
}

/* Older prices serve while PostgreSQL cannot be asked: no new call is admitted then, and those under way must be priced. */
static int fresh(struct ledger_prices *p, struct err *err)
{
	if (!p->stale && p->loaded) /* the flag falls before the first set is there */
		return 0;
	int rc = 0;
	pthread_mutex_lock(&p->loading);
	bool have = p->set != NULL; /* only changed under `loading` */
	if (!have || (p->stale && clock_now_us() >= p->again_us))
		rc = load(p, err);
	pthread_mutex_unlock(&p->loading);
	return have ? 0 : rc;
}

int ledger_price_find(struct ledger *l, struct uuid provider, struct str model, int64_t wall_us, struct ledger_price *out_r, struct err *err)
{
	struct ledger_prices *p = ledger_prices(l);
	if (fresh(p, err) != 0)
		return err_while(err, "reading the prices");
	pthread_rwlock_rdlock(&p->lock);
	const struct ledger_price *found = price_set_find(p->set, provider, model, wall_us);
	if (found) {
		*out_r = *found;
		out_r->model = STR_NONE;
	}
	pthread_rwlock_unlock(&p->lock);
	return found ? 1 : 0;
}

/* --- administration --- */

static bool same_figures(const struct ledger_price *p, const struct ledger_price_new *in)
{
	return p->input == in->input && p->cached == in->cached && p->cache_write == in->cache_write && p->output == in->output &&
	       p->reasoning == in->reasoning && (in->effective_us == 0 || p->effective_us == in->effective_us);
}

static int check_figure(int64_t nusd, bool needed, const char *name, struct err *err)
{
	if (nusd == LEDGER_NO_PRICE)
		return needed ? err_set_param(err, ERR_INVALID, name, "%s is required", name) : 0;
	return nusd < 0 ? err_set_param(err, ERR_INVALID, name, "%s must not be negative", name) : 0;
}

static int check_new(const struct ledger_price_new *in, struct err *err)
{
	size_t star = str_find_char(in->model, '*', 0);
	if (!in->model.n || in->model.n > 256 || (star != SIZE_MAX && star != in->model.n - 1) || !str_is_utf8(in->model))
		return err_set_param(err, ERR_INVALID, "model", "model must be a name of at most 256 bytes that may end in *");
	if (check_figure(in->input, true, "input_usd", err) || check_figure(in->cached, false, "cached_input_usd", err) ||
	    check_figure(in->cache_write, false, "cache_write_usd", err) || check_figure(in->output, true, "output_usd", err))
		return -1;
	return check_figure(in->reasoning, false, "reasoning_usd", err);
}

static struct str arg_figure(struct arena *a, int64_t nusd)
{
	return nusd == LEDGER_NO_PRICE ? STR_NONE : pg_arg_i64(a, nusd);
}

static int insert(struct pg_conn *c, const struct ledger_price_new *in, struct arena *a, struct ledger_price *out_r, uint64_t *epoch_r, struct err *err)
{
	static const char sql[] =
		"insert into headgate.prices (id, provider_id, model, version, effective_from, input_nusd, cached_input_nusd, cache_write_nusd, "
		"output_nusd, reasoning_nusd) select $1, $2, $3, coalesce(max(version), 0) + 1, coalesce($4::timestamptz, now()), $5, $6, $7, $8, $9 "
		"from headgate.prices where provider_id = $2 and model = $3 returning " PRICE_COLUMNS;
	struct pg_result *r;
	const struct str id = pg_arg_uuid(a, uuid_v7());
	const struct str args[] = { id, pg_arg_uuid(a, in->provider), in->model, pg_arg_time(a, in->effective_us), arg_figure(a, in->input),
				    arg_figure(a, in->cached), arg_figure(a, in->cache_write), arg_figure(a, in->output), arg_figure(a, in->reasoning) };
	if (pg_exec(c, sql, args, 9, a, &r, err) != 0)
		return -1;
	*out_r = price_of_row(r, 0);
	if (pg_exec(c, "select headgate.change('price', $1)", &id, 1, a, &r, err) != 0)
		return -1;
	*epoch_r = (uint64_t)pg_i64(r, 0, 0);
	return 0;
}

/* In a transaction: look, and write only when something is new. Writers of one provider's prices take turns. */
static int put(struct pg_conn *c, const struct ledger_price_new *in, struct arena *a, struct ledger_price *out_r, uint64_t *epoch_r, struct err *err)
{
	struct pg_result *r;
	const struct str args[] = { pg_arg_uuid(a, in->provider), in->model };
	if (pg_exec(c, "select pg_advisory_xact_lock(hashtext('headgate.prices ' || $1))", args, 1, a, &r, err) != 0)
		return -1;
	if (pg_exec(c, "select " PRICE_COLUMNS " from headgate.prices where provider_id = $1 and model = $2 order by version desc limit 1", args, 2, a,
		    &r, err) != 0)
		return -1;
	if (pg_rows(r)) {
		struct ledger_price newest = price_of_row(r, 0);
		if (same_figures(&newest, in)) {
			*out_r = newest;
			return 0;
		}
	}
	return insert(c, in, a, out_r, epoch_r, err);
}

int ledger_price_put(struct ledger *l, const struct ledger_price_new *in, struct ledger_price *out_r, bool *created_r, struct arena *a, struct err *err)
{
	struct ledger_prices *p = ledger_prices(l);
	const struct pg_scope scope = { .role = PG_ROLE_API };
	struct pg_conn *c;
	uint64_t epoch = 0;
	struct ledger_price made;
	if (check_new(in, err) != 0 || pg_begin(p->pool, &scope, &c, err) != 0)
		return -1;
	int rc = put(c, in, a, &made, &epoch, err);
	if (pg_end(&c, rc == 0, err) != 0 || rc != 0)
		return -1;
	if (epoch && p->epoch)
		epoch_publish(p->epoch, epoch);
	if (epoch)
		drop(p, made.id);
	*out_r = made;
	*created_r = epoch != 0;
	return 0;
}

int ledger_price_list(struct ledger *l, struct arena *a, struct ledger_price **out_r, unsigned *n_r, struct err *err)
{
	return read_all(ledger_prices(l)->pool, PG_ROLE_API, a, out_r, n_r, err);
}
