/* SPDX-License-Identifier: Apache-2.0
 * One PostgreSQL connection and the batch: BEGIN, settings, statements, COMMIT are written together and answered in one round
 * trip (libpq's pipeline mode), under a deadline of ours. What became of a batch is judged by the connection first (a lost
 * connection has no SQLSTATE, M11) and by SQLSTATE second. Leaves retries and waiting to pg_pool.c.
 */
#include "config.h"
#include "store/pg.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/kp.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SCRATCH_CAP = 256 * 1024 * 1024 };

/* --- open and close --- */

static void drop_notice(void *u, const char *message)
{
	(void)u;
	(void)message;
}

static int connect_err(PGconn *pg, struct err *err)
{
	err_set(err, ERR_DB_UNAVAILABLE, "the database cannot be asked");
	err_detail(err, "%.200s", pg ? PQerrorMessage(pg) : "out of memory");
	if (err)
		err->retry_after_ms = 2000;
	return -1;
}

/* What stands before dbname may be overridden in the URL; what stands after it may not. connect_timeout is libpq's own, per
 * host, so a list of hosts is walked; no `options`, because a transaction-pooling PgBouncer refuses them. */
static PGconn *connect_libpq(const struct pg_options *o)
{
	const char *const names[] = { "connect_timeout", "tcp_user_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count",
				      "application_name", "dbname", "client_encoding", NULL };
	const char *const values[] = { "2", "2000", "5", "2", "3", o->application_name ? o->application_name : "headgate", o->url, "UTF8", NULL };
	return PQconnectdbParams(names, values, 1);
}

struct pg_conn *pg_conn_open(const struct pg_options *o, struct err *err)
{
	PGconn *pg = connect_libpq(o);
	if (!pg || PQstatus(pg) != CONNECTION_OK || PQsetnonblocking(pg, 1) != 0 || !PQenterPipelineMode(pg)) {
		connect_err(pg, err);
		PQfinish(pg);
		return NULL;
	}
	PQsetNoticeProcessor(pg, drop_notice, NULL);
	struct pg_conn *c = calloc(1, sizeof *c);
	BUG_ON(!c);
	c->pg = pg;
	c->scratch = arena_new(SCRATCH_CAP);
	return c;
}

void pg_conn_close(struct pg_conn **cp)
{
	struct pg_conn *c = *cp;
	if (!c)
		return;
	PQfinish(c->pg);
	arena_free(&c->scratch);
	free(c);
	*cp = NULL;
}

static bool is_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	return poll(&p, 1, 0) != 0;
}

bool pg_conn_is_alive(struct pg_conn *c)
{
	/* Twice: a server that is stopping sends its reason first and closes after it. */
	for (int i = 0; i < 2 && is_readable(PQsocket(c->pg)); i++)
		if (!PQconsumeInput(c->pg))
			return false;
	return PQstatus(c->pg) == CONNECTION_OK && !is_readable(PQsocket(c->pg));
}

/* --- prepared statements --- */

static uint64_t *find_prepared(struct pg_conn *c, uint64_t hash)
{
	size_t mask = sizeof c->prepared / sizeof c->prepared[0] - 1;
	for (size_t i = hash & mask;; i = (i + 1) & mask)
		if (c->prepared[i] == hash || c->prepared[i] == 0)
			return &c->prepared[i];
}

static void remember_prepared(struct pg_conn *c, uint64_t hash)
{
	uint64_t *slot = find_prepared(c, hash);
	c->nprepared += *slot == 0;
	*slot = hash;
}

void pg_conn_forget(struct pg_conn *c, const struct pg_end_info *why)
{
	c->losses += !why->plan_changed;
	memset(c->prepared, 0, sizeof c->prepared);
	c->nprepared = 0;
	c->generation++;
}

/* --- sending --- */

/* What each result that comes back belongs to: `hash` for a PREPARE, else the statement. */
struct op {
	uint64_t hash;
	struct pg_stmt *stmt;
};

struct batch_run {
	struct pg_conn *c;
	struct pg_batch *b;
	struct op *ops;
	unsigned nops, nprepares;
	bool committed, dead, timeout;
	struct pg_end_info *end;
};

/* libpq wants text parameters NUL-terminated. */
static int copy_args(struct pg_conn *c, const struct pg_stmt *s, const char *const **values_r)
{
	const char **values = arena_array(c->scratch, s->nargs ? s->nargs : 1, sizeof *values);
	for (unsigned i = 0; i < s->nargs; i++) {
		if (!s->args[i].p)
			continue;
		if (memchr(s->args[i].p, '\0', s->args[i].n))
			return -1;
		values[i] = arena_cstr(c->scratch, s->args[i]);
	}
	*values_r = values;
	return 0;
}

static void push_op(struct batch_run *run, uint64_t hash, struct pg_stmt *s)
{
	run->ops[run->nops++] = (struct op){ hash, s };
}

static bool is_queued(const struct batch_run *run, uint64_t hash)
{
	for (unsigned i = 0; i < run->nops; i++)
		if (run->ops[i].hash == hash)
			return true;
	return false;
}

static bool send_one(struct batch_run *run, struct pg_stmt *s, const char *const *values)
{
	struct pg_conn *c = run->c;
	uint64_t hash = hash_bytes(s->sql, strlen(s->sql)) | 1;
	bool known = *find_prepared(c, hash) == hash || is_queued(run, hash);
	if (run->b->plain || (!known && c->nprepared + run->nprepares >= PG_PREPARED_MAX)) {
		push_op(run, 0, s);
		return PQsendQueryParams(c->pg, s->sql, (int)s->nargs, NULL, values, NULL, NULL, 0);
	}
	char name[40];
	snprintf(name, sizeof name, "hg%u_%016llx", c->generation, (unsigned long long)hash);
	if (!known) {
		push_op(run, hash, NULL);
		run->nprepares++;
		if (!PQsendPrepare(c->pg, name, s->sql, (int)s->nargs, NULL))
			return false;
	}
	push_op(run, 0, s);
	return PQsendQueryPrepared(c->pg, name, (int)s->nargs, values, NULL, NULL, 0);
}

/* All arguments are checked before the first statement is queued, so a bad one leaves the connection clean. */
static int send_all(struct batch_run *run)
{
	struct pg_batch *b = run->b;
	struct arena *scratch = run->c->scratch;
	const char *const **values = arena_array(scratch, b->n, sizeof *values);
	run->ops = arena_array(scratch, 2 * (size_t)b->n, sizeof *run->ops);
	for (unsigned i = 0; i < b->n; i++) {
		b->stmts[i].result = NULL;
		if (copy_args(run->c, &b->stmts[i], &values[i]) != 0) {
			run->end->kind = PG_END_ARGUMENT;
			return -1;
		}
	}
	for (unsigned i = 0; i < b->n && !run->dead; i++)
		run->dead = !send_one(run, &b->stmts[i], values[i]);
	run->dead = run->dead || !PQpipelineSync(run->c->pg);
	return 0;
}

/* --- receiving --- */

/* Wait for the socket once. A write error is no reason to stop: the server's last words may still be readable. */
static bool wait_io(struct batch_run *run)
{
	PGconn *pg = run->c->pg;
	bool more = PQflush(pg) == 1;
	if (run->b->commits)
		KP("store.commit_sent");
	uint64_t now_us = clock_now_us();
	if (now_us >= run->b->until_us) {
		run->timeout = true;
		return false;
	}
	struct pollfd p = { .fd = PQsocket(pg), .events = (short)(POLLIN | (more ? POLLOUT : 0)) };
	int n = poll(&p, 1, (int)((run->b->until_us - now_us + 999) / 1000));
	if (n < 0 && errno != EINTR)
		return false;
	return n <= 0 || !(p.revents & ~POLLOUT) || PQconsumeInput(pg);
}

/* The next result, NULL between two statements. Sets run->dead when none will come. */
static PGresult *next_result(struct batch_run *run)
{
	PQflush(run->c->pg);
	while (!run->dead && PQisBusy(run->c->pg))
		run->dead = !wait_io(run);
	return run->dead ? NULL : PQgetResult(run->c->pg);
}

static void copy_field(char *out, size_t out_n, const char *text)
{
	snprintf(out, out_n, "%s", text ? text : "");
}

/* Only the first refusal matters; those after it are "aborted". */
static void take_error(struct batch_run *run, const PGresult *r)
{
	struct pg_end_info *end = run->end;
	const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	if (end->sqlstate[0] || !state)
		return;
	copy_field(end->sqlstate, sizeof end->sqlstate, state);
	copy_field(end->constraint, sizeof end->constraint, PQresultErrorField(r, PG_DIAG_CONSTRAINT_NAME));
	const char *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
	copy_field(end->message, sizeof end->message, text);
	end->plan_changed = text && strstr(text, "cached plan") != NULL;
}

static void take_result(struct batch_run *run, struct op *op, PGresult *r)
{
	ExecStatusType status = PQresultStatus(r);
	bool good = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
	if (status == PGRES_FATAL_ERROR)
		take_error(run, r);
	else if (!good && status != PGRES_PIPELINE_ABORTED && status != PGRES_EMPTY_QUERY)
		run->dead = true; /* COPY: nothing of ours */
	if (good && op->hash)
		remember_prepared(run->c, op->hash);
	if (good && op->stmt == &run->b->stmts[run->b->n - 1] && run->b->commits)
		run->committed = strcmp(PQcmdStatus(r), "COMMIT") == 0;
	if (good && op->stmt && run->b->a)
		op->stmt->result = pg_result_new(run->b->a, r);
	else
		PQclear(r);
}

static void read_all(struct batch_run *run)
{
	for (unsigned i = 0; i < run->nops && !run->dead; i++)
		for (PGresult *r; (r = next_result(run)) != NULL;)
			take_result(run, &run->ops[i], r);
	PGresult *sync = run->dead ? NULL : next_result(run);
	if (!sync || PQresultStatus(sync) != PGRES_PIPELINE_SYNC)
		run->dead = true;
	PQclear(sync);
}

/* After a refusal the transaction still stands open on the server. One more small round trip ends it. */
static void roll_back(struct pg_conn *c)
{
	struct pg_stmt stmt = { .sql = "ROLLBACK" };
	struct pg_batch b = { .stmts = &stmt, .n = 1, .plain = true, .until_us = clock_now_us() + 1000000 };
	struct pg_end_info end;
	pg_conn_batch(c, &b, &end);
	if (end.kind != PG_END_OK)
		c->broken = true;
}

static enum pg_end_kind judge(const struct batch_run *run)
{
	if (run->committed)
		return PG_END_OK; /* even if the connection died right after */
	if (run->end->sqlstate[0])
		return PG_END_REFUSED; /* said in order, so COMMIT was not done */
	if (run->dead)
		return run->timeout ? PG_END_TIMEOUT : PG_END_DEAD;
	return run->b->commits ? PG_END_REFUSED : PG_END_OK; /* COMMIT was answered with ROLLBACK */
}

void pg_conn_batch(struct pg_conn *c, struct pg_batch *b, struct pg_end_info *end_r)
{
	struct batch_run run = { .c = c, .b = b, .end = end_r };
	memset(end_r, 0, sizeof *end_r);
	arena_clear(c->scratch);
	if (send_all(&run) != 0)
		return;
	read_all(&run);
	if (b->commits)
		KP("store.commit_answered");
	end_r->kind = judge(&run);
	end_r->uncertain = b->commits && end_r->kind >= PG_END_DEAD;
	if (run.dead && !end_r->sqlstate[0])
		snprintf(end_r->message, sizeof end_r->message, "%.190s", run.timeout ? "no answer in time" : PQerrorMessage(c->pg));
	if (run.dead || PQstatus(c->pg) != CONNECTION_OK)
		c->broken = true;
	else if (b->commits && !run.committed && PQtransactionStatus(c->pg) != PQTRANS_IDLE)
		roll_back(c);
}

/* --- what an end means --- */

bool pg_end_lost_plan(const struct pg_end_info *end)
{
	if (end->kind != PG_END_REFUSED)
		return false;
	return strcmp(end->sqlstate, "26000") == 0 || strcmp(end->sqlstate, "42P05") == 0 ||
	       (strcmp(end->sqlstate, "0A000") == 0 && end->plan_changed);
}

static bool is_in(const char *state, const char *const *list)
{
	for (; *list; list++)
		if (strncmp(state, *list, strlen(*list)) == 0)
			return true;
	return false;
}

/* Classes and codes that say "not now": resources, operator intervention, time-outs, locks, a server that is a standby, a
 * transaction that lost against another. */
static bool is_passing(const char *state, bool read_only)
{
	static const char *const passing[] = { "08", "53", "57", "58", "40", "55P03", "55006", "25P03", NULL };
	return is_in(state, passing) || (!read_only && strcmp(state, "25006") == 0);
}

static int refused_err(const struct pg_end_info *end, bool read_only, struct err *err)
{
	if (strcmp(end->sqlstate, "23505") == 0 || strcmp(end->sqlstate, "23503") == 0) {
		err_set(err, ERR_CONFLICT, "this already exists or is in use");
		return err_detail(err, "%s", end->constraint);
	}
	if (is_passing(end->sqlstate, read_only)) {
		err_set(err, ERR_DB_UNAVAILABLE, "the database cannot answer now");
		if (err)
			err->retry_after_ms = 2000;
	} else {
		err_set(err, ERR_DB, "the database refused the statement");
	}
	return err_detail(err, "%s %s", end->sqlstate[0] ? end->sqlstate : "(rolled back)", end->message);
}

int pg_end_err(const struct pg_end_info *end, bool read_only, struct err *err)
{
	if (end->kind == PG_END_ARGUMENT)
		return err_set(err, ERR_INVALID, "text holds a NUL byte");
	if (end->kind == PG_END_REFUSED)
		return refused_err(end, read_only, err);
	if (end->uncertain && !read_only)
		err_set(err, ERR_UNCERTAIN, "the connection to the database was lost during the commit");
	else
		err_set(err, ERR_DB_UNAVAILABLE, "the database cannot be asked");
	if (err)
		err->retry_after_ms = 2000;
	return err_detail(err, "%s", end->message);
}
