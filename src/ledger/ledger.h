/* SPDX-License-Identifier: Apache-2.0
 * The ledger: a row per request, a row per attempt, rollups, prices and costs. Entries are committed in groups by committer
 * threads (or, with one serving thread, by that thread); the last byte of a billable answer waits for ledger_wait.
 * Money is int64 nano-dollars; prices are nano-dollars per 1,000,000 units.
 */
#ifndef LEDGER_LEDGER_H
#define LEDGER_LEDGER_H

#include "base/err.h"
#include "base/rand.h"
#include "base/str.h"

struct arena;
struct buf;
struct epoch;
struct pg_pool;

/* --- prices ------------------------------------------------------------------------------------------------------------ */

#define LEDGER_NO_PRICE INT64_MIN
struct ledger_price {
	struct uuid id, provider;
	struct str model; /* upstream model name, may end in `*` */
	int64_t version;
	int64_t effective_us;
	/* nano-dollars per million; LEDGER_NO_PRICE: not given (cached, cache_write: as input; reasoning: as output) */
	int64_t input, cached, cache_write, output, reasoning;
};
/* Tokens: input includes cached and cache_write, output includes reasoning. */
struct ledger_usage {
	int64_t input, cached, cache_write, output, reasoning;
};
struct ledger_line { const char *what; int64_t quantity, unit_nusd, nusd; };
/* Each component quantity x price / 10^6 through __int128, rounded half to even once. lines_r takes up to 5. Saturates at
 * INT64_MAX with ERR_INVALID. */
int ledger_cost(const struct ledger_price *p, const struct ledger_usage *u, struct ledger_line lines_r[5], unsigned *nlines_r, int64_t *nusd_r, struct err *err);

/* "1.25" dollars per million tokens -> nano-dollars per million: at most 9 decimals, no float. */
bool ledger_parse_usd(struct str s, int64_t *nusd_r);
void ledger_print_usd(int64_t nusd, char out[32]); /* trailing zeros kept to nine decimals */

struct ledger; /* the room's state in a process */
struct ledger_options {
	struct pg_pool *pool;
	struct epoch *epoch; /* listens to "price"; may be NULL */
	unsigned committers; /* threads; 0: the caller of ledger_submit commits itself (one serving thread, headgatectl) */
	unsigned queue, batch;
	unsigned partition_days;
	/* Where attempts under way and entries that PostgreSQL cannot take stand (in-flight file, spool). NULL: nowhere, and a process that dies
	 * takes what it had with it. Copied. */
	const char *state_dir;
	unsigned threads;	/* that serve: the size of the in-flight file follows */
	uint64_t spool_bytes;	/* of this process's spool file at most; 0: 256 MiB */
};
struct ledger *ledger_new(const struct ledger_options *options, struct err *err);
/* Commit what waits, for at most wait_ms, and stop the threads. Returns the number of entries lost (logged each). */
unsigned ledger_stop(struct ledger *l, unsigned wait_ms);
void ledger_free(struct ledger **l);

/* The price in force at wall_us: the longest matching name wins (the exact one before any wildcard), then the newest effective.
 * 1, 0 none, -1 only when prices were never read. Copied into out, with model left empty. Blocks: one query the first time and after
 * a change. */
int ledger_price_find(struct ledger *l, struct uuid provider, struct str model, int64_t wall_us, struct ledger_price *out_r, struct err *err);

struct ledger_price_new { struct uuid provider; struct str model; int64_t effective_us; int64_t input, cached, cache_write, output, reasoning; };
/* A new version, never a change of an old one; identical to the newest: returns it (created_r false). effective_us 0 is now, and
 * equal to any. Ends with headgate.change('price') and publishes the epoch. */
int ledger_price_put(struct ledger *l, const struct ledger_price_new *in, struct ledger_price *out_r, bool *created_r, struct arena *a, struct err *err);
int ledger_price_list(struct ledger *l, struct arena *a, struct ledger_price **out_r, unsigned *n_r, struct err *err);

/* --- entries ------------------------------------------------------------------------------------------------------------ */

enum ledger_settled { LEDGER_NONE = 0, LEDGER_PROVIDER_USAGE, LEDGER_COUNTED, LEDGER_ESTIMATED };

struct ledger_attempt {
	struct uuid id;	       /* att_ */
	struct str provider_name, model; /* model as asked of the provider */
	struct uuid provider, provider_key;
	int status;	       /* HTTP, 0: none */
	struct str error_code; /* err_info()->name, empty when fine */
	int64_t started_us;    /* wall */
	int64_t duration_us, connect_us, first_byte_us; /* since started; -1: not reached */
	struct ledger_usage usage;
	int64_t cost_nusd;     /* LEDGER_NO_PRICE: none */
	enum ledger_settled settled_by;
	bool complete;
};

struct ledger_entry {
	struct uuid id;	 /* the request's; its UUIDv7 milliseconds give the day */
	struct uuid organization, project, key, user; /* project, user: zero is NULL */
	struct str dialect, endpoint; /* "openai_chat", "/v1/chat/completions" */
	struct str model_requested, model_matched, model_served; /* the caller's string; the matched row's name; the provider's */
	struct str provider_name;
	struct uuid provider;
	bool stream;
	int status;	       /* what the caller got; 499 when it left */
	struct str error_code;
	struct str client_request_id, end_user, remote_addr, user_agent;
	struct ledger_usage usage;	    /* what is billed */
	/* Our own figures, when the provider's were missing (-1: not made): content deltas seen in a stream, and the estimates. The
	 * greater of the output figures is what `usage` bills. Both are kept. */
	int64_t counted_deltas, estimated_input, estimated_output;
	enum ledger_settled settled_by;
	bool priced;
	struct uuid price;
	int64_t price_version, cost_nusd; /* LEDGER_NO_PRICE when not priced */
	const struct ledger_line *lines;
	unsigned nlines;
	int64_t received_us;   /* wall; what is stored is the millisecond of the id */
	int64_t duration_us, first_token_us; /* -1: none */
	/* microseconds per stage; -1: not reached */
	int64_t read_us, auth_us, decode_us, route_us, upstream_us, settle_us;
	const struct ledger_attempt *attempts;
	unsigned nattempts;
	struct str route_json; /* the routes considered and why, JSON; may be empty */
	bool admitted; /* ledger_admit let it in: its credit goes back when it ends */
	struct ledger_flight *flight; /* of its attempt; passes over to the ledger with ledger_submit; NULL: none */
};

/* May a new billable call begin? ERR_BUSY (503, retry-after) when the queue is above three quarters, or the spool has no room for one more
 * row, so that an admitted call can always be settled. 0: a credit is taken; say so in the entry (`admitted`). */
int ledger_admit(struct ledger *l, struct err *err);
/* The same question, taking nothing: for health. */
int ledger_has_room(struct ledger *l, struct err *err);

/* Before the first byte leaves for a provider, the attempt stands in the in-flight file (map, promise 1). `e` has what is known by then, its first
 * attempt and the estimated input among it; `price` NULL: none. *out_r is NULL without a state directory. -1: ERR_BUSY, ERR_IO: do not
 * call the provider. No system call but the first time. */
struct ledger_flight;
int ledger_flight_begin(struct ledger *l, const struct ledger_entry *e, const struct ledger_price *price, struct ledger_flight **out_r, struct err *err);
void ledger_flight_sent(struct ledger_flight *f); /* the next byte may reach the provider */
void ledger_flight_answered(struct ledger_flight *f, int status); /* with 300 and above the provider bills nothing */
void ledger_flight_progress(struct ledger_flight *f, int64_t deltas, int64_t output_tokens); /* what came so far */

/* Queue an entry: everything is copied. ticket_r (may be NULL) is waited for with ledger_wait. Never loses. Never
 * blocks, but without committers: then it tries once to commit. */
struct ledger_ticket { uint64_t n; };
void ledger_submit(struct ledger *l, const struct ledger_entry *e, struct ledger_ticket *ticket_r);
/* Wait until the entry is committed. 0 committed; -1 ERR_DB_UNAVAILABLE: still queued after wait_ms (it stays queued, and may be
 * waited for again), or in the spool already; -1 ERR_DB: PostgreSQL refused this row (it is in the log, whole). A ticket of 0 cannot be waited for. */
int ledger_wait(struct ledger *l, struct ledger_ticket t, unsigned wait_ms, struct err *err);

/* Without committer threads an entry that could not be committed waits for the next one; a keeper calls this so that it does not
 * wait for a caller. One try, on the calling thread; nothing to do otherwise. */
void ledger_flush(struct ledger *l);

struct ledger_stats {
	uint64_t committed, batches, retried, poisoned, spooled;
	unsigned queued, in_flight; /* in_flight: places taken in the in-flight file */
	uint64_t last_commit_us, oldest_us;
	uint64_t spool_bytes, spool_credits;
	unsigned spool_records;
	bool spool_failing;
};
void ledger_stats(struct ledger *l, struct ledger_stats *out_r);

/* Take up what dead processes of this host left in the state directory, and this process's own spool once PostgreSQL answers: attempts that
 * were under way are settled by what is known of them, spooled entries are written. By the statement of every entry, so that twice counts once; a file
 * goes when all of it is committed. Blocks. Any number of processes at once; one thread of a process. */
struct ledger_adopted { unsigned files, settled, estimated, unsent, spooled, damaged, refused; };
int ledger_adopt(struct ledger *l, struct ledger_adopted *out_r, struct err *err);

/* What stands in a state directory, for looking at. */
struct ledger_file {
	struct str name;
	bool spool, alive; /* else an in-flight file; alive: its process lives */
	int pid;
	unsigned entries, damaged;
	uint64_t bytes;
	int64_t oldest_us; /* wall; 0: none */
};
int ledger_files(const char *state_dir, struct arena *a, struct ledger_file **out_r, unsigned *n_r, struct err *err);

/* Do requests, attempts and sums agree, to the token and the nano-dollar? Buckets from from_us to to_us (0: open); `found` is how many
 * disagree, of which at most `max` are told, each a sentence. Blocks: it reads everything. */
struct ledger_disagreement { struct str what; };
struct ledger_verified { int64_t requests, attempts, buckets, cost_nusd, found; struct ledger_disagreement *wrong; unsigned nwrong; };
int ledger_verify(struct pg_pool *pool, int64_t from_us, int64_t to_us, unsigned max, struct arena *a, struct ledger_verified *out_r, struct err *err);

/* Make the partitions from yesterday to `days` ahead (SECURITY DEFINER function); the committer, worker and migrations call it. */
int ledger_make_partitions(struct pg_pool *pool, unsigned days, struct err *err);

/* --- reading ------------------------------------------------------------------------------------------------------------ */

/* Each writes the JSON of api.md into out. `organization` scopes everything (row-level security holds it too); `user` and `key` (may be
 * NULL) narrow to one's own. */
struct ledger_filter {
	struct uuid organization;
	const struct uuid *user, *key;
	struct str model, provider, status, error_code, end_user; /* empty: any; status "2xx" or a number */
	int64_t from_us, to_us;	    /* 0: open */
	struct uuid after, before;  /* zero: none */
	unsigned limit;		    /* 1..100 */
};
int ledger_requests(struct pg_pool *pool, const struct ledger_filter *f, struct arena *a, struct buf *out, struct err *err);
/* 1, 0 not found (or not theirs), -1 */
int ledger_request(struct pg_pool *pool, const struct ledger_filter *scope, struct uuid id, struct arena *a, struct buf *out, struct err *err);
struct ledger_usage_query {
	struct ledger_filter filter;
	struct str group_by;  /* "day,model": of day hour model key project user provider end_user */
	struct str time_zone; /* IANA; empty: UTC */
};
/* Sums by group and in total, exact at any from and to. ERR_INVALID with param group_by (unknown, or more than 10,000 groups),
 * time_zone (no IANA name), from (by end_user, status or error_code at most 31 days: those are summed from rows). `model` is the
 * name of the model that matched. after, before and limit are not looked at. */
int ledger_usage_report(struct pg_pool *pool, const struct ledger_usage_query *q, struct arena *a, struct buf *out, struct err *err);

#endif
