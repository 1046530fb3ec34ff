/* SPDX-License-Identifier: Apache-2.0
 * The pool: who gets a connection and when a new one is opened, and the transactions that run on them.
 * Waiting is fair: those who wait stand in a queue and only its head may take a connection or open one.
 * When PostgreSQL is away one thread tries it once a second; the others wait behind it for as long as it has not been away
 * longer than their patience (a restart is a hiccup), and are told at once after that (no convoy, no storm).
 * Lock: pg_pool.lock, a leaf; never held over a round trip or a connect.
 */
#include "config.h"
#include "store/pg.h"

#include "base/arena.h"
#include "base/clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* About one attempt a second, and a little less than one, so that the first answer comes within a second of the server. */
enum { RETRY_CONNECT_US = 900000, RETRIES_LOST = 3 };

struct waiter {
	pthread_cond_t cond;
	struct waiter *next;
	bool queued;
};

struct pg_pool {
	struct pg_options o;
	char *url, *application_name;

	pthread_mutex_t lock; /* protects all below up to the counters */
	pthread_condattr_t monotonic;
	struct pg_conn *idle; /* newest first, so that the rest may grow cold */
	struct waiter *first, **last;
	unsigned open, busy, waiting, connecting;
	bool suspect;	       /* a connection was lost: one connect at a time until one succeeds */
	uint64_t down_us;      /* since when connects fail, 0: they do not */
	uint64_t next_try_us;  /* no connect before it */
	char down_detail[256]; /* why the last connect failed */

	_Atomic uint64_t queries, errors, connects;
};

/* --- life --- */

static char *copy_text(const char *text)
{
	char *copy = strdup(text ? text : "");
	BUG_ON(!copy);
	return copy;
}

struct pg_pool *pg_pool_new(const struct pg_options *options)
{
	struct pg_pool *p = calloc(1, sizeof *p);
	BUG_ON(!p);
	p->o = *options;
	p->o.url = p->url = copy_text(options->url);
	p->o.application_name = p->application_name = copy_text(options->application_name ? options->application_name : "headgate");
	p->o.size = options->size ? options->size : 1;
	p->o.wait_ms = options->wait_ms ? options->wait_ms : 2000;
	p->o.statement_ms = options->statement_ms ? options->statement_ms : 2000;
	p->last = &p->first;
	BUG_ON(pthread_mutex_init(&p->lock, NULL) != 0);
	BUG_ON(pthread_condattr_init(&p->monotonic) != 0);
	BUG_ON(pthread_condattr_setclock(&p->monotonic, CLOCK_MONOTONIC) != 0);
	return p;
}

void pg_pool_free(struct pg_pool **pp)
{
	struct pg_pool *p = *pp;
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	bool used = p->busy || p->waiting;
	pthread_mutex_unlock(&p->lock);
	*pp = NULL;
	if (used)
		return; /* a thread that outlived the drain is still in it */
	while (p->idle) {
		struct pg_conn *c = p->idle;
		p->idle = c->next;
		pg_conn_close(&c);
	}
	pthread_condattr_destroy(&p->monotonic);
	pthread_mutex_destroy(&p->lock);
	free(p->url);
	free(p->application_name);
	free(p);
}

void pg_pool_stats(struct pg_pool *p, struct pg_pool_stats *out_r)
{
	pthread_mutex_lock(&p->lock);
	*out_r = (struct pg_pool_stats){ .open = p->open, .busy = p->busy, .waiting = p->waiting };
	pthread_mutex_unlock(&p->lock);
	out_r->queries = atomic_load(&p->queries);
	out_r->errors = atomic_load(&p->errors);
	out_r->connects = atomic_load(&p->connects);
}

/* --- the queue; all of it under the lock --- */

static void wake_head(struct pg_pool *p)
{
	if (p->first)
		pthread_cond_signal(&p->first->cond);
}

static void enqueue(struct pg_pool *p, struct waiter *w, bool in_front)
{
	w->next = in_front ? p->first : NULL;
	w->queued = true;
	if (in_front)
		p->first = w;
	else
		*p->last = w;
	if (!w->next)
		p->last = &w->next;
	p->waiting++;
}

static void dequeue(struct pg_pool *p, struct waiter *w)
{
	struct waiter **at = &p->first;
	if (!w->queued)
		return;
	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	if (p->last == &w->next)
		p->last = at;
	w->queued = false;
	p->waiting--;
	wake_head(p); /* there may be something left for the next one */
}

static void wait_until(struct pg_pool *p, struct waiter *w, uint64_t until_us)
{
	struct timespec ts = { .tv_sec = (time_t)(until_us / 1000000), .tv_nsec = (long)(until_us % 1000000) * 1000 };
	pthread_cond_timedwait(&w->cond, &p->lock, &ts);
}

/* Take an idle connection that lives. Dead ones are closed on the way: the server was restarted. */
static struct pg_conn *take_idle(struct pg_pool *p)
{
	while (p->idle) {
		struct pg_conn *c = p->idle;
		p->idle = c->next;
		c->next = NULL;
		if (pg_conn_is_alive(c))
			return c;
		p->open--;
		p->suspect = true;
		pg_conn_close(&c);
	}
	return NULL;
}

static bool may_connect(const struct pg_pool *p, uint64_t now_us)
{
	return p->open < p->o.size && now_us >= p->next_try_us && !(p->suspect && p->connecting);
}

/* A success that began before the last failure proves nothing: the server may just have become full. */
static void note_connected(struct pg_pool *p, uint64_t began_us)
{
	if (p->next_try_us && began_us + RETRY_CONNECT_US < p->next_try_us)
		return;
	p->suspect = false;
	p->down_us = p->next_try_us = 0;
}

static void note_refused(struct pg_pool *p, const char *detail)
{
	uint64_t now_us = clock_now_us();
	p->suspect = true;
	p->open--;
	if (!p->down_us)
		p->down_us = now_us;
	p->next_try_us = now_us + RETRY_CONNECT_US;
	snprintf(p->down_detail, sizeof p->down_detail, "%s", detail);
}

/* Drops the lock while it connects, and steps out of the queue, so that what is given back meanwhile goes to the next one. */
static struct pg_conn *open_one(struct pg_pool *p, struct waiter *w)
{
	struct err err;
	p->open++;
	p->connecting++;
	dequeue(p, w);
	pthread_mutex_unlock(&p->lock);
	uint64_t began_us = clock_now_us();
	struct pg_conn *c = pg_conn_open(&p->o, &err);
	atomic_fetch_add(&p->connects, 1);
	pthread_mutex_lock(&p->lock);
	p->connecting--;
	if (c) {
		c->pool = p;
		note_connected(p, began_us);
	} else {
		note_refused(p, err.detail);
		enqueue(p, w, true);
	}
	wake_head(p);
	return c;
}

static int unavailable(struct err *err, const char *detail)
{
	err_set(err, ERR_DB_UNAVAILABLE, "the database cannot be asked");
	if (err)
		err->retry_after_ms = 2000;
	return err_detail(err, "%s", detail);
}

/* One turn of the queue's head. Returns the connection, or NULL with *until_us set to when to look again. */
static struct pg_conn *try_take(struct pg_pool *p, struct waiter *w, uint64_t give_up_us, uint64_t *until_us)
{
	struct pg_conn *c = take_idle(p);
	if (!c && may_connect(p, clock_now_us())) {
		c = open_one(p, w);
		if (!c)
			c = take_idle(p); /* given back while this one tried */
	}
	*until_us = give_up_us;
	if (!c && p->next_try_us && p->next_try_us < give_up_us && !p->connecting && p->open < p->o.size)
		*until_us = p->next_try_us;
	return c;
}

/* Away for longer than this caller is patient, and it is not its turn to try: say so at once. */
static bool is_hopeless(const struct pg_pool *p, unsigned wait_ms, uint64_t now_us)
{
	bool away = p->down_us && p->open == p->connecting;
	return away && now_us - p->down_us >= (uint64_t)wait_ms * 1000 && (p->connecting || now_us < p->next_try_us);
}

static struct pg_conn *wait_turn(struct pg_pool *p, struct waiter *w, unsigned wait_ms, struct err *err)
{
	uint64_t now_us = clock_now_us(), give_up_us = now_us + (uint64_t)wait_ms * 1000;
	while (!is_hopeless(p, wait_ms, now_us)) {
		uint64_t until_us = give_up_us;
		struct pg_conn *c = p->first == w ? try_take(p, w, give_up_us, &until_us) : NULL;
		if (c)
			return c;
		if (clock_now_us() >= give_up_us)
			break;
		wait_until(p, w, until_us);
		now_us = clock_now_us();
	}
	unavailable(err, p->down_us ? p->down_detail : "no connection was free in time");
	return NULL;
}

static struct pg_conn *take(struct pg_pool *p, unsigned wait_ms, struct err *err)
{
	struct waiter w;
	pthread_mutex_lock(&p->lock);
	struct pg_conn *c = !p->first ? take_idle(p) : NULL;
	if (!c) {
		BUG_ON(pthread_cond_init(&w.cond, &p->monotonic) != 0);
		enqueue(p, &w, false);
		c = wait_turn(p, &w, wait_ms, err);
		dequeue(p, &w);
		pthread_cond_destroy(&w.cond);
	}
	p->busy += c != NULL;
	pthread_mutex_unlock(&p->lock);
	return c;
}

static void give_back(struct pg_pool *p, struct pg_conn *c)
{
	bool broken = c->broken;
	if (broken)
		pg_conn_close(&c);
	pthread_mutex_lock(&p->lock);
	p->busy--;
	if (broken) {
		p->open--;
		p->suspect = true;
	} else {
		c->next = p->idle;
		p->idle = c;
	}
	wake_head(p);
	pthread_mutex_unlock(&p->lock);
}

/* --- transactions --- */

static const char *role_name(enum pg_role role)
{
	switch (role) {
	case PG_ROLE_API:
		return "headgate_api";
	case PG_ROLE_COMMITTER:
		return "headgate_committer";
	case PG_ROLE_LOADER:
		return "headgate_loader";
	case PG_ROLE_WORKER:
		return "headgate_worker";
	case PG_ROLE_OWNER:
		break;
	}
	return "none";
}

/* The whole session state of a transaction, local to it, so that nothing leaks through a transaction-pooling PgBouncer. */
static const char settings_sql[] =
	"SELECT set_config('search_path', 'headgate, pg_catalog, pg_temp', true), set_config('role', $1, true),"
	" set_config('headgate.organization', $2, true), set_config('statement_timeout', $3, true),"
	" set_config('lock_timeout', '1000', true), set_config('idle_in_transaction_session_timeout', '30000', true),"
	" set_config('timezone', 'UTC', true), set_config('jit', 'off', true)";

struct settings {
	struct str args[3];
	char organization[UUID_TEXT + 1], statement_ms[16];
};

static struct pg_stmt settings_stmt(const struct pg_scope *scope, unsigned statement_ms, struct settings *s)
{
	s->organization[0] = '\0';
	if (scope->organization)
		uuid_text(*scope->organization, s->organization);
	snprintf(s->statement_ms, sizeof s->statement_ms, "%u", statement_ms);
	s->args[0] = str_c(role_name(scope->role));
	s->args[1] = str_c(s->organization);
	s->args[2] = str_c(s->statement_ms);
	return (struct pg_stmt){ .sql = settings_sql, .args = s->args, .nargs = 3 };
}

static const char *begin_sql(const struct pg_scope *scope)
{
	return scope->read_only ? "BEGIN READ ONLY" : "BEGIN";
}

/* Give the transaction's results back to their owner: the statements given, which stand between settings and COMMIT. */
static void copy_results(const struct pg_stmt *from, struct pg_stmt *to, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		to[i].result = from[i].result;
}

struct transaction {
	const struct pg_scope *scope;
	struct pg_limits limits;
	struct pg_stmt *all; /* BEGIN, settings, the n given, COMMIT */
	unsigned n;
	struct arena *a;
};

/* A statement lost by the server (pooler, failover, changed table) is asked once more without preparing. */
static void run_on(struct pg_conn *c, const struct transaction *t, struct pg_end_info *end)
{
	struct pg_batch b = { .stmts = t->all, .n = t->n + 3, .commits = true, .a = t->a, .plain = c->losses >= PG_LOSSES_MAX };
	b.until_us = clock_now_us() + (uint64_t)t->limits.answer_ms * 1000;
	pg_conn_batch(c, &b, end);
	if (pg_end_lost_plan(end) && !c->broken) {
		pg_conn_forget(c, end);
		b.plain = true;
		pg_conn_batch(c, &b, end);
	}
	if (end->kind == PG_END_REFUSED && !t->scope->read_only && strcmp(end->sqlstate, "25006") == 0)
		c->broken = true; /* this host has become a standby: the next connect walks the list of hosts */
}

static bool is_state(const struct pg_end_info *end, const char *state)
{
	return end->kind == PG_END_REFUSED && strcmp(end->sqlstate, state) == 0;
}

static void sleep_jitter(unsigned attempt)
{
	uint64_t us = rand_below((uint64_t)10000 << attempt);
	struct timespec ts = { 0, (long)us * 1000 };
	nanosleep(&ts, NULL);
}

/* What may be run again: a transaction that lost against another (3 times), one that certainly did nothing because its server
 * went away first, or one that only reads (once each, on a fresh connection). */
struct retries {
	unsigned lost, fresh;
};

static bool may_retry(const struct transaction *t, const struct pg_end_info *end, struct retries *r)
{
	if (is_state(end, "40001") || is_state(end, "40P01")) {
		if (r->lost++ >= RETRIES_LOST)
			return false;
		sleep_jitter(r->lost);
		return true;
	}
	bool gone = is_state(end, "57P01") || is_state(end, "57P02") || is_state(end, "57P03") || is_state(end, "25006");
	bool unread = end->kind == PG_END_DEAD && t->scope->read_only;
	return (gone || unread) && r->fresh++ == 0;
}

static int run(struct pg_pool *p, const struct transaction *t, struct err *err)
{
	struct retries retries = { 0, 0 };
	struct pg_end_info end;
	do {
		struct pg_conn *c = take(p, t->limits.wait_ms, err);
		if (!c)
			return -1;
		run_on(c, t, &end);
		give_back(p, c);
		if (end.kind == PG_END_OK)
			return 0;
	} while (may_retry(t, &end, &retries));
	return pg_end_err(&end, t->scope->read_only, err);
}

int pg_run_within(struct pg_pool *p, const struct pg_scope *scope, struct pg_limits limits, struct pg_stmt *stmts, unsigned n, struct arena *a,
		  struct err *err)
{
	struct settings settings;
	struct pg_stmt few[8], *all = n + 3 <= 8 ? few : calloc(n + 3, sizeof *all);
	BUG_ON(!all);
	unsigned statement_ms = scope->statement_ms ? scope->statement_ms : p->o.statement_ms;
	all[0] = (struct pg_stmt){ .sql = begin_sql(scope) };
	all[1] = settings_stmt(scope, statement_ms, &settings);
	memcpy(all + 2, stmts, n * sizeof *stmts);
	all[n + 2] = (struct pg_stmt){ .sql = "COMMIT" };
	struct transaction t = { scope, limits, all, n, a };
	int rc = run(p, &t, err);
	copy_results(all + 2, stmts, n);
	atomic_fetch_add(&p->queries, n);
	if (rc != 0)
		atomic_fetch_add(&p->errors, 1);
	if (all != few)
		free(all);
	return rc;
}

static unsigned answer_ms(const struct pg_pool *p, const struct pg_scope *scope)
{
	return (scope->statement_ms ? scope->statement_ms : p->o.statement_ms) + 500;
}

int pg_run(struct pg_pool *p, const struct pg_scope *scope, struct pg_stmt *stmts, unsigned n, struct arena *a, struct err *err)
{
	struct pg_limits limits = { .wait_ms = p->o.wait_ms, .answer_ms = answer_ms(p, scope) };
	return pg_run_within(p, scope, limits, stmts, n, a, err);
}

int pg_query(struct pg_pool *p, const struct pg_scope *scope, const char *sql, const struct str *args, unsigned nargs, struct arena *a,
	     struct pg_result **result_r, struct err *err)
{
	struct pg_stmt s = { .sql = sql, .args = args, .nargs = nargs };
	if (pg_run(p, scope, &s, 1, a, err) != 0)
		return -1;
	if (result_r)
		*result_r = s.result;
	return 0;
}

/* --- interactive transactions: their statements are rare and not worth preparing --- */

static int exec_batch(struct pg_conn *c, struct pg_stmt *stmts, unsigned n, bool commits, struct arena *a, struct err *err)
{
	struct pg_batch b = { .stmts = stmts, .n = n, .commits = commits, .plain = true, .a = a };
	b.until_us = clock_now_us() + (uint64_t)c->answer_ms * 1000;
	struct pg_end_info end;
	pg_conn_batch(c, &b, &end);
	atomic_fetch_add(&c->pool->queries, n);
	if (end.kind == PG_END_OK)
		return 0;
	atomic_fetch_add(&c->pool->errors, 1);
	return pg_end_err(&end, c->read_only, err);
}

int pg_begin(struct pg_pool *p, const struct pg_scope *scope, struct pg_conn **conn_r, struct err *err)
{
	struct settings settings;
	unsigned statement_ms = scope->statement_ms ? scope->statement_ms : p->o.statement_ms;
	for (int attempt = 0;; attempt++) {
		struct pg_conn *c = take(p, p->o.wait_ms, err);
		if (!c)
			return -1;
		c->answer_ms = statement_ms + 500;
		c->read_only = scope->read_only;
		struct pg_stmt stmts[] = { { .sql = begin_sql(scope) }, settings_stmt(scope, statement_ms, &settings) };
		if (exec_batch(c, stmts, 2, false, NULL, err) == 0) {
			*conn_r = c;
			return 0;
		}
		c->broken = true;
		give_back(p, c);
		if (attempt > 0)
			return -1;
	}
}

int pg_exec(struct pg_conn *c, const char *sql, const struct str *args, unsigned nargs, struct arena *a, struct pg_result **result_r, struct err *err)
{
	struct pg_stmt s = { .sql = sql, .args = args, .nargs = nargs };
	if (exec_batch(c, &s, 1, false, a, err) != 0)
		return -1;
	if (result_r)
		*result_r = s.result;
	return 0;
}

int pg_end(struct pg_conn **cp, bool commit, struct err *err)
{
	struct pg_conn *c = *cp;
	if (!c)
		return 0;
	struct pg_stmt s = { .sql = commit ? "COMMIT" : "ROLLBACK" };
	int rc = c->broken ? pg_end_err(&(struct pg_end_info){ .kind = PG_END_DEAD }, true, err) : exec_batch(c, &s, 1, commit, NULL, err);
	if (rc != 0 && !commit)
		c->broken = true;
	give_back(c->pool, c);
	*cp = NULL;
	return commit ? rc : 0;
}
