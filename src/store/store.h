/* SPDX-License-Identifier: Apache-2.0
 * The stores: PostgreSQL (pool, statements, migrations), memcached, the host's segment, the epoch, sealed values.
 * Knows no gateway: tables belong to the rooms that use them, except changes, epoch and schema_migrations.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/err.h"
#include "base/rand.h"
#include "base/str.h"

struct arena;
struct buf;

/* --- PostgreSQL --------------------------------------------------------------------------------------------------- */

struct pg_options {
	const char *url;
	unsigned size;		/* connections at most, opened lazily */
	unsigned wait_ms;	/* for a free connection */
	unsigned statement_ms;	/* statement_timeout, also the client's deadline + 500 ms */
	const char *application_name;
};
struct pg_pool;
struct pg_conn;

struct pg_pool *pg_pool_new(const struct pg_options *options); /* connects to nothing yet */
void pg_pool_free(struct pg_pool **p); /* while a thread still uses it, it is left to the exit of the process */
struct pg_pool_stats { unsigned open, busy, waiting; uint64_t queries, errors, connects; };
void pg_pool_stats(struct pg_pool *p, struct pg_pool_stats *out_r);

/* Who a transaction is: SET LOCAL ROLE and the organization for row-level security go out in the same pipelined batch as
 * BEGIN, so a transaction-pooling PgBouncer works. */
enum pg_role { PG_ROLE_API, PG_ROLE_COMMITTER, PG_ROLE_LOADER, PG_ROLE_WORKER, PG_ROLE_OWNER /* no SET ROLE: db commands */ };
struct pg_scope {
	enum pg_role role;
	const struct uuid *organization; /* sets headgate.organization; NULL: none (the platform's tables) */
	bool read_only;
	unsigned statement_ms; /* 0: the pool's */
};

/* Parameters are text; NULL p is SQL NULL. Text must hold no NUL byte. */
struct pg_stmt {
	const char *sql;	/* a static string: it is prepared once per connection (26000 prepares again) */
	const struct str *args;
	unsigned nargs;
	struct pg_result *result; /* out: owned by the arena given to pg_run */
};

/* One transaction: BEGIN, settings, the statements, COMMIT, in one round trip. Idempotent statements only are retried (once,
 * on a fresh connection, when the connection was dead before anything was sent). Errors: ERR_DB_UNAVAILABLE (cannot be
 * asked), ERR_UNCERTAIN (the connection died after COMMIT was sent), ERR_CONFLICT (unique or foreign key violation; err->detail
 * has the constraint), ERR_DB (anything else, detail has SQLSTATE and message). Nothing is committed unless 0 is returned
 * or the code is ERR_UNCERTAIN. Blocks: pool wait plus one round trip. Threads: any. */
int pg_run(struct pg_pool *p, const struct pg_scope *scope, struct pg_stmt *stmts, unsigned n, struct arena *a, struct err *err);
/* The same for one statement. */
int pg_query(struct pg_pool *p, const struct pg_scope *scope, const char *sql, const struct str *args, unsigned nargs, struct arena *a,
	     struct pg_result **result_r, struct err *err);

/* An interactive transaction, for what must look before it writes. pg_end(commit=false) rolls back; always call it. */
int pg_begin(struct pg_pool *p, const struct pg_scope *scope, struct pg_conn **conn_r, struct err *err);
int pg_exec(struct pg_conn *c, const char *sql, const struct str *args, unsigned nargs, struct arena *a, struct pg_result **result_r, struct err *err);
int pg_end(struct pg_conn **c, bool commit, struct err *err);

/* Results. Row and column out of range are a BUG. */
struct pg_result;
unsigned pg_rows(const struct pg_result *r);
uint64_t pg_affected(const struct pg_result *r);
bool pg_is_null(const struct pg_result *r, unsigned row, unsigned col);
struct str pg_str(const struct pg_result *r, unsigned row, unsigned col); /* STR_NONE for NULL */
int64_t pg_i64(const struct pg_result *r, unsigned row, unsigned col);	  /* 0 for NULL; a non-number is a BUG */
bool pg_bool(const struct pg_result *r, unsigned row, unsigned col);
struct uuid pg_uuid(const struct pg_result *r, unsigned row, unsigned col); /* zero for NULL */
/* Timestamps: select (extract(epoch from t) * 1000000)::bigint and read with pg_i64. */

/* Arguments. */
struct str pg_arg_i64(struct arena *a, int64_t v);
struct str pg_arg_uuid(struct arena *a, struct uuid u);
struct str pg_arg_bool(bool v);
struct str pg_arg_time(struct arena *a, int64_t wall_us); /* RFC 3339 with microseconds; 0 is NULL */
/* Append one element to a text array literal under construction ("{...}"), quoted as needed; STR_NONE appends NULL. */
void pg_array_add(struct buf *b, struct str element);
struct str pg_array_end(struct buf *b); /* "{}" when empty */

/* --- migrations: sql/NNNN_name.up.sql and .down.sql, each in one transaction under an advisory lock --------------- */

struct migrate_step { unsigned number; char name[64]; bool applied; int64_t applied_us; };
/* owner_url logs in as the owner. progress(u, line) may be NULL. */
int migrate_up(const char *owner_url, const char *sql_dir, unsigned to /* 0: all */, void (*progress)(void *, const char *), void *u, struct err *err);
int migrate_down(const char *owner_url, const char *sql_dir, unsigned to, void (*progress)(void *, const char *), void *u, struct err *err);
int migrate_list(const char *url, const char *sql_dir, struct arena *a, struct migrate_step **steps_r, unsigned *n_r, struct err *err);
#define MIGRATE_NEWEST 4 /* what these programs need; start-up compares it with schema_migrations (F-18) */

/* --- the segment of the host: <run>/segment.<layout> --------------------------------------------------------------- */

struct segment;
enum segment_kind { SEGMENT_FCGI = 1, SEGMENT_WORKER, SEGMENT_CTL };
/* Map (create when absent, under flock). Claims a process slot held by an OFD lock unless kind is SEGMENT_CTL. */
int segment_open(const char *run_dir, enum segment_kind kind, struct segment **out_r, struct err *err);
void segment_close(struct segment **s);
uint64_t segment_generation(const struct segment *s); /* bumped by SIGHUP or `headgatectl reload` */
void segment_reload(struct segment *s);
/* This process's gauges, kept by its main thread's tick. */
struct segment_gauges { uint32_t threads, busy, parked, in_flight; uint64_t requests; };
void segment_put(struct segment *s, const struct segment_gauges *g);
struct segment_process { enum segment_kind kind; int pid; int64_t started_us; struct segment_gauges g; };
/* Live processes (slots whose lock is held), at most max. Returns their number. Dead slots are reaped on the way. */
unsigned segment_processes(struct segment *s, struct segment_process *out, unsigned max);

/* --- the tally: what all processes of the host counted since boot; sums in the segment, so that a process that dies takes none along --- */

struct tally;
struct tally *segment_tally(struct segment *s); /* lives as long as the segment */

enum tally_stage { TALLY_READ, TALLY_AUTH, TALLY_DECODE, TALLY_ROUTE, TALLY_UPSTREAM, TALLY_SETTLE, TALLY_TOTAL, TALLY_FIRST_TOKEN, TALLY_STAGES };
enum { TALLY_SERIES = 512, TALLY_BUCKETS = 16, TALLY_LABEL = 128 };
extern const uint32_t tally_bounds_us[TALLY_BUCKETS]; /* upper bounds, inclusive; what is above all counts in the total alone */

struct tally_sums { uint64_t requests, input, cached, output, reasoning, cost_nusd; };
struct tally_labels { char endpoint[TALLY_LABEL], provider[TALLY_LABEL], model[TALLY_LABEL], error[TALLY_LABEL]; unsigned status_class; }; /* 2: 2xx */
/* One request that ended. Labels longer than TALLY_LABEL - 1 bytes are cut at a character. When all series are taken the sums go to the
 * series `other`. Threads: any. Neither blocks nor calls the system. */
struct tally_event {
	struct str endpoint, provider, model, error;
	int status;
	struct tally_sums sums;
	int64_t stage_us[TALLY_STAGES]; /* -1: not reached */
};
void tally_add(struct tally *t, const struct tally_event *e);

struct tally_row { struct tally_labels labels; struct tally_sums sums; };
/* Every series once, at most max; TALLY_SERIES + 1 hold all. Returns their number. */
unsigned tally_rows(const struct tally *t, struct tally_row *out, unsigned max);
uint64_t tally_overflowed(const struct tally *t); /* requests counted under `other` */
struct tally_histogram { uint64_t buckets[TALLY_BUCKETS], count, sum_us; }; /* buckets[i]: above the bound before, up to its own */
void tally_histogram(const struct tally *t, enum tally_stage stage, struct tally_histogram *out_r);

/* --- the epoch: what every process knows ---------------------------------------------------------------------------- */

/* SQL side: headgate.change(kind text, id uuid) returns bigint, the last statement of an administrative write; it takes the
 * next epoch and inserts into changes(epoch, kind, id). C side: */
struct epoch;
struct epoch *epoch_new(struct pg_pool *pool, struct segment *segment, unsigned grace_ms);
void epoch_free(struct epoch **e);
/* How many threads serve, for the bound on those that wait; 1 by default. */
void epoch_set_threads(struct epoch *e, unsigned threads);
/* fn(u, id) drops the object (all objects of the kind when id is zero: after a gap in changes). Before threads start. */
void epoch_listen(struct epoch *e, const char *kind, void (*fn)(void *u, struct uuid id), void *u);
/* Be sure that what this process knows is at most 900 ms old and includes every change published on this host: two loads when
 * fresh; else poll (CAS ticket, 300 ms) or wait for who polls, up to 2 s, at most a tenth of `threads` waiting.
 * Returns 0, or -1 ERR_AUTH_UNAVAILABLE with retry_after_ms 2000. */
int epoch_check(struct epoch *e, struct err *err);
void epoch_publish(struct epoch *e, uint64_t epoch); /* after an administrative write committed, before it is answered */
uint64_t epoch_age_us(const struct epoch *e);	     /* since verified_at; UINT64_MAX: never */
/* The epoch this process has seen (UINT64_MAX: none yet). A cache reads it before it asks PostgreSQL for an object and keeps the
 * object only if it is still the same under the cache's own lock; the listener takes that lock too. So no object that was
 * changed meanwhile can enter the cache after it was dropped. */
uint64_t epoch_now(const struct epoch *e);

/* --- memcached ----------------------------------------------------------------------------------------------------- */

struct mc;
struct mc *mc_new(const char *servers, unsigned timeout_ms); /* NULL or "" gives one that always misses */
void mc_free(struct mc **m);
/* Keys are hashed when long or unsafe; values carry the full key and a checksum, a mismatch is a miss (F-25). Never an error
 * to the caller: away means miss, for 1 s without asking. */
bool mc_get(struct mc *m, struct str key, struct arena *a, struct str *value_r);
bool mc_set(struct mc *m, struct str key, struct str value, unsigned ttl_secs);
void mc_delete(struct mc *m, struct str key);
bool mc_up(struct mc *m); /* asks (version); for health */

/* --- the key ring: master.key, `id:base64` per line, newest first ----------------------------------------------------- */

struct keyring;
int keyring_load(const char *path, struct keyring **out_r, struct err *err); /* refuses files others may read */
void keyring_free(struct keyring **k);
int keyring_create(const char *path, struct err *err); /* a new file, mode 0400, one fresh key of 32 bytes; never overwrites */
struct str keyring_newest(const struct keyring *k);    /* its id */
struct str keyring_id(const struct keyring *k, unsigned index); /* ids in order, newest first; STR_NONE past the end */
/* 32 bytes for a purpose ("api-key-pepper", "password-pepper", ...) by HKDF under the key `id`. ERR_CONFIG when id is unknown. */
int keyring_derive(const struct keyring *k, struct str id, struct str purpose, unsigned char out[32], struct err *err);
/* Seal under the newest key, a key per record (HKDF with `place` as info), `place` also as additional data:
 * "provider_keys/secret/<id>". id_r points into the ring. */
void keyring_seal(const struct keyring *k, struct str place, struct str plain, struct buf *sealed, struct str *id_r);
int keyring_unseal(const struct keyring *k, struct str id, struct str place, struct str sealed, struct arena *a, struct str *plain_r, struct err *err);

#endif
