/* SPDX-License-Identifier: Apache-2.0
 * Private to the room: one PostgreSQL connection that runs batches (pg_conn.c), and what the pool (pg_pool.c) and the epoch
 * need of each other. A connection stays in libpq's pipeline mode all its life.
 */
#ifndef STORE_PG_H
#define STORE_PG_H

#include "store/store.h"

#include <libpq-fe.h>

struct arena;

enum {
	PG_PREPARED_MAX = 256, /* statements kept prepared per connection; further ones are parsed each time */
	PG_LOSSES_MAX = 3,     /* then there is a pooler between that does not keep them, and nothing is prepared any more */
};

struct pg_conn {
	PGconn *pg;
	struct pg_conn *next;	/* in the pool's idle list */
	struct pg_pool *pool;
	struct arena *scratch;	/* arguments of the batch under way */
	uint64_t prepared[2 * PG_PREPARED_MAX]; /* open addressing by the hash of the text; 0 is empty */
	unsigned nprepared;
	unsigned generation;	/* in the statements' names; a new one after the server has lost them */
	unsigned losses;	/* how often the server had lost them */
	unsigned answer_ms;	/* our deadline for each statement of an interactive transaction */
	bool read_only;
	bool broken;		/* never goes back to the pool */
};

/* How a batch ended. */
enum pg_end_kind {
	PG_END_OK = 0,
	PG_END_REFUSED,	 /* the server said why (sqlstate); nothing is committed */
	PG_END_ARGUMENT, /* nothing was sent: an argument cannot be */
	PG_END_DEAD,	 /* the connection died before COMMIT was confirmed and the server did not say why */
	PG_END_TIMEOUT,	 /* the same by our deadline */
};
struct pg_end_info {
	enum pg_end_kind kind;
	char sqlstate[6];
	char constraint[64];
	char message[200];
	bool uncertain;	   /* COMMIT was sent and not answered */
	bool plan_changed; /* "cached plan must not change result type" */
};

struct pg_batch {
	struct pg_stmt *stmts;
	unsigned n;
	bool commits;	   /* the last statement is COMMIT and counts only when its tag says so */
	bool plain;	   /* use no prepared statements: the server has lost them */
	uint64_t until_us; /* our deadline */
	struct arena *a;   /* owns the results; NULL drops them */
};

struct pg_conn *pg_conn_open(const struct pg_options *o, struct err *err);
void pg_conn_close(struct pg_conn **c);
/* An idle connection that has something to say is dying: true when it can still be used. */
bool pg_conn_is_alive(struct pg_conn *c);
/* Send everything, read everything, one round trip. Sets c->broken unless the connection is in order afterwards. */
void pg_conn_batch(struct pg_conn *c, struct pg_batch *b, struct pg_end_info *end_r);
/* Did it fail because the server no longer knows our statements (26000, 42P05), or a table changed (0A000)? */
bool pg_end_lost_plan(const struct pg_end_info *end);
void pg_conn_forget(struct pg_conn *c, const struct pg_end_info *why);
/* Fill err from the end of a batch. Returns -1. */
int pg_end_err(const struct pg_end_info *end, bool read_only, struct err *err);

/* pg_run with its own limits: wait for a connection and for the answer, both in milliseconds. */
struct pg_limits {
	unsigned wait_ms, answer_ms;
};
int pg_run_within(struct pg_pool *p, const struct pg_scope *scope, struct pg_limits limits, struct pg_stmt *stmts, unsigned n, struct arena *a,
		  struct err *err);

/* pg_result.c: takes the PGresult; the arena clears it. */
struct pg_result *pg_result_new(struct arena *a, PGresult *r);

#endif
