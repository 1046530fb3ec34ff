/* SPDX-License-Identifier: Apache-2.0
 * The queue and its committers: group commit without a timer. Each committer takes whatever has queued while the last commit ran,
 * up to `batch`, and writes it in one transaction. With no committers the caller of ledger_wait does the same on its own thread.
 *
 * An entry's way: ledger_submit -> queue -> a lane's batch -> committed | spooled (PostgreSQL does not take it) | refused (a bad row, logged
 * whole) | lost (only at ledger_stop, when the disk does not take it either, logged whole). record_ends is the one place where it ends.
 * Locks: ledger.lock protects the queue, the counters and each lane's oldest_us; lane.lock (only without threads) is taken before it.
 */
#include "config.h"
#include "ledger/ledger.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "ledger/inflight.h"
#include "ledger/price.h"
#include "ledger/record.h"
#include "ledger/room.h"
#include "ledger/spool.h"
#include "ledger/ticket.h"
#include "store/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
	SHARDS = 64,		      /* of the sums */
	BATCH_BYTES = 8 * 1024 * 1024, /* of text in one transaction, about */
	BACKOFF_FIRST_MS = 100, BACKOFF_MAX_MS = 1000, /* so that the first commit is at most a second after PostgreSQL (P-80) */
	STACK_BYTES = 256 * 1024,
	SPOOL_AFTER_US = 1000000, /* in the queue, PostgreSQL failing: then an entry is spooled */
	SLOTS_BESIDE = 64,	  /* places of the in-flight file beyond two a thread: ended calls wait there for their commit */
	GATHER_FROM = 3, GATHER_US = 1500, /* measured: a sixth more calls a second at 48 callers, and a lower p99 */
};
#define SPOOL_BYTES UINT64_C(268435456)
#define SPOOL_CHUNK UINT64_C(4194304)
#define PARTITIONS_EVERY_US UINT64_C(3600000000)
#define PARTITIONS_AGAIN_US UINT64_C(60000000) /* after a failure; the default partition takes rows meanwhile */

/* What one committer has in hand: records[done..n) wait for their commit. */
struct lane {
	struct ledger *l;
	struct committer c;
	struct record **records;
	unsigned n, done;
	uint64_t oldest_us; /* 0: nothing in hand */
	unsigned failures;  /* in a row */
	pthread_mutex_t lock;
	pthread_t thread;
};

struct ledger {
	struct ledger_options o;
	struct ledger_prices *prices;
	struct tickets *tickets;
	char *state_dir;
	struct inflight *inflight; /* NULL without a state directory, as the spool */
	struct spool *spool;
	pthread_mutex_t lock;
	pthread_cond_t work; /* something queued, or stopping: for idle committers */
	pthread_cond_t stop; /* stopping: for those that wait to try again */
	struct record *head, **tail;
	unsigned queued;     /* in the queue and in the lanes */
	unsigned idle;	     /* committers that wait for work */
	atomic_uint threads; /* committers that run; 0: callers commit */
	_Atomic bool stopping;
	uint64_t stop_us;    /* when stopping: until then */
	_Atomic uint64_t partitions_us; /* when to look at them next */
	struct ledger_stats stats;
	unsigned nlanes;
	struct lane lanes[];
};

/* --- the end of an entry --- */

/* Its place in the in-flight file goes only now: it is committed, safe in the spool, or in the log. */
static void record_ends(struct ledger *l, struct record *r, enum ticket_end how)
{
	if (r->flight)
		inflight_end(l->inflight, r->flight);
	if (r->admitted && l->spool)
		spool_credit_back(l->spool);
	ticket_end(l->tickets, r->ticket, how);
	record_free(&r);
}

/* The figures first: who is woken and asks for them finds its own entry counted. */
static void lane_advance(struct lane *lane, unsigned n, enum ticket_end how, uint64_t took_us)
{
	struct ledger *l = lane->l;
	struct record **ended = lane->records + lane->done;
	lane->done += n;
	pthread_mutex_lock(&l->lock);
	l->queued -= n;
	lane->oldest_us = lane->done < lane->n ? lane->records[lane->done]->queued_us : 0;
	if (how == TICKET_DONE) {
		l->stats.committed += n;
		l->stats.batches++;
		l->stats.last_commit_us = took_us;
	} else if (how == TICKET_SPOOLED) {
		l->stats.spooled += n;
	} else {
		l->stats.poisoned += n;
	}
	pthread_mutex_unlock(&l->lock);
	for (unsigned i = 0; i < n; i++)
		record_ends(l, ended[i], how);
}

/* --- a batch --- */

/* With ledger.lock held. */
static void lane_take(struct lane *lane)
{
	struct ledger *l = lane->l;
	size_t bytes = 0;
	lane->n = lane->done = 0;
	while (l->head && lane->n < l->o.batch && bytes < BATCH_BYTES) {
		struct record *r = l->head;
		l->head = r->next;
		bytes += r->request.n + r->attempts.n;
		lane->records[lane->n++] = r;
	}
	if (!l->head)
		l->tail = &l->head;
	lane->oldest_us = lane->n ? lane->records[0]->queued_us : 0;
}

/* Write the next n records in hand. A batch refused for a row is split in halves, so that the bad row stands alone in the end. */
static int lane_write(struct lane *lane, unsigned n, struct err *err)
{
	struct record *const *records = lane->records + lane->done;
	uint64_t began_us = clock_now_us();
	if (committer_write(&lane->c, records, n, err) == 0) {
		lane_advance(lane, n, TICKET_DONE, clock_now_us() - began_us);
		return 0;
	}
	if (!committer_row_is_bad(err))
		return -1;
	if (n == 1) {
		record_log("ledger entry refused", records[0], err);
		lane_advance(lane, 1, TICKET_REFUSED, 0);
		return 0;
	}
	return lane_write(lane, n / 2, err) != 0 ? -1 : lane_write(lane, n - n / 2, err);
}

/* What waits too long for PostgreSQL goes to the disk, and who waits for it gets an answer. Not what was refused for its row. */
static bool lane_spool(struct lane *lane)
{
	struct ledger *l = lane->l;
	struct err err = { 0 };
	unsigned n = lane->n - lane->done;
	if (!l->spool || !n || (!l->stopping && clock_now_us() < lane->records[lane->done]->queued_us + SPOOL_AFTER_US))
		return false;
	struct spool_stats before;
	spool_stats(l->spool, &before);
	if (spool_append(l->spool, lane->records + lane->done, n, &err) < 0) {
		if (!before.failing) /* told once */
			LOG(LOG_LEVEL_ERROR, "ledger spool cannot be written, entries stay in memory and no new call is admitted", LF_INT("entries", n), LF_ERR(&err));
		return false;
	}
	LOG(LOG_LEVEL_WARN, "ledger entries spooled", LF_INT("entries", n), LF_C("remedy", "headgatectl ledger status; they are written when PostgreSQL answers"));
	lane_advance(lane, n, TICKET_SPOOLED, 0);
	return true;
}

/* Write what is in hand; what could neither be written nor spooled stays in hand. */
static int lane_try(struct lane *lane, struct err *err)
{
	if (lane_write(lane, lane->n - lane->done, err) == 0) {
		lane->failures = 0;
		return 0;
	}
	if (lane_spool(lane))
		return 0;
	if (lane->failures++ == 0) /* the first of a row of failures; the state of the queue tells the rest */
		LOG(LOG_LEVEL_WARN, "ledger commit failed, will retry", LF_INT("entries", lane->n - lane->done), LF_ERR(err));
	pthread_mutex_lock(&lane->l->lock);
	lane->l->stats.retried++;
	pthread_mutex_unlock(&lane->l->lock);
	return -1;
}

/* How long to wait after a failure. An uncertain commit is replayed at once: what is there already counts nothing. */
static unsigned lane_backoff_ms(const struct lane *lane, const struct err *err)
{
	unsigned doublings = lane->failures > 5 ? 5 : lane->failures - 1;
	unsigned ms = (unsigned)BACKOFF_FIRST_MS << doublings;
	if (err->code == ERR_UNCERTAIN && lane->failures == 1)
		return 0;
	ms = ms > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : ms;
	return ms / 2 + (unsigned)rand_below(ms / 2 + 1);
}

static void look_at_partitions(struct ledger *l)
{
	uint64_t now_us = clock_now_us(), due_us = l->partitions_us;
	struct err err = { 0 };
	if (now_us < due_us || !atomic_compare_exchange_strong(&l->partitions_us, &due_us, now_us + PARTITIONS_EVERY_US))
		return;
	if (ledger_make_partitions(l->o.pool, l->o.partition_days, &err) == 0)
		return;
	l->partitions_us = now_us + PARTITIONS_AGAIN_US;
	if (err.code != ERR_DB_UNAVAILABLE) /* else the commits tell */
		LOG(LOG_LEVEL_WARN, "ledger partitions not made", LF_ERR(&err));
}

int ledger_make_partitions(struct pg_pool *pool, unsigned days, struct err *err)
{
	const struct pg_scope scope = { .role = PG_ROLE_COMMITTER };
	struct arena *a = arena_new(SIZE_MAX);
	const struct str arg = pg_arg_i64(a, days);
	struct pg_result *result;
	int rc = pg_query(pool, &scope, "select headgate.ledger_make_partitions($1)", &arg, 1, a, &result, err);
	arena_free(&a);
	return rc;
}

/* --- committer threads --- */

static struct timespec monotonic(uint64_t us)
{
	return (struct timespec){ (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };
}

/* Sleep before the next try. Returns false when stopping and out of time. */
static bool lane_sleep(struct lane *lane, unsigned ms)
{
	struct ledger *l = lane->l;
	struct timespec until = monotonic(clock_now_us() + ms * UINT64_C(1000));
	pthread_mutex_lock(&l->lock);
	int rc = 0;
	while (ms && rc == 0 && !l->stopping)
		rc = pthread_cond_timedwait(&l->stop, &l->lock, &until);
	bool stopping = l->stopping;
	uint64_t stop_us = l->stop_us;
	pthread_mutex_unlock(&l->lock);
	if (stopping && ms) { /* nothing will wake us now: a plain sleep, as short as stopping should be */
		struct timespec pause = { 0, 50 * 1000000 };
		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	}
	return !stopping || clock_now_us() < stop_us;
}

/* Where calls come side by side (the last batch had several), a moment's patience makes the next one larger: a transaction costs
 * the server as much as eight rows. A call that comes alone never waits. */
static void lane_gather(const struct lane *lane)
{
	struct timespec pause = { 0, GATHER_US * 1000 };
	if (lane->n >= GATHER_FROM)
		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

/* Wait for work and take it. Returns false when there is no more to come. */
static bool lane_wait(struct lane *lane)
{
	struct ledger *l = lane->l;
	lane_gather(lane);
	pthread_mutex_lock(&l->lock);
	while (!l->head && !l->stopping) {
		l->idle++;
		pthread_cond_wait(&l->work, &l->lock);
		l->idle--;
	}
	bool more = l->head && (!l->stopping || clock_now_us() < l->stop_us);
	if (more)
		lane_take(lane);
	pthread_mutex_unlock(&l->lock);
	return more;
}

static void *lane_main(void *u)
{
	struct lane *lane = u;
	struct err err = { 0 };
	for (bool go = true; go && lane_wait(lane);) {
		while (go && lane->done < lane->n)
			if (lane_try(lane, &err) != 0)
				go = lane_sleep(lane, lane_backoff_ms(lane, &err));
		look_at_partitions(lane->l);
	}
	return NULL;
}

/* --- without threads --- */

/* Commit until `ticket` has ended or the time is up, on the caller's thread. */
static enum ticket_end commit_here(struct ledger *l, uint64_t ticket, uint64_t until_us)
{
	struct lane *lane = &l->lanes[0];
	struct err err = { 0 };
	enum ticket_end end;
	pthread_mutex_lock(&lane->lock);
	while ((end = ticket_wait(l->tickets, ticket, 0)) == TICKET_WAITING) {
		pthread_mutex_lock(&l->lock);
		if (lane->done == lane->n)
			lane_take(lane);
		pthread_mutex_unlock(&l->lock);
		if (lane->done == lane->n) {
			end = TICKET_DONE; /* a ticket of 0, and nothing is left */
			break;
		}
		if (lane_try(lane, &err) == 0) {
			look_at_partitions(l);
			continue;
		}
		unsigned ms = lane_backoff_ms(lane, &err);
		if (clock_now_us() + ms * UINT64_C(1000) >= until_us)
			break;
		lane_sleep(lane, ms);
	}
	pthread_mutex_unlock(&lane->lock);
	return end;
}

/* --- the door --- */

void ledger_submit(struct ledger *l, const struct ledger_entry *e, struct ledger_ticket *ticket_r)
{
	struct record *r = record_new(e);
	if (r->flight)
		inflight_settled(r->flight, e);
	pthread_mutex_lock(&l->lock);
	r->ticket = ticket_r ? ticket_take(l->tickets) : 0;
	if (ticket_r)
		ticket_r->n = r->ticket;
	*l->tail = r;
	l->tail = &r->next;
	l->queued++;
	bool wake = l->idle > 0;
	uint64_t ticket = r->ticket;
	pthread_mutex_unlock(&l->lock);
	if (wake)
		pthread_cond_signal(&l->work);
	if (!l->threads)
		commit_here(l, ticket, clock_now_us()); /* one try: nobody else does it, and not every answer waits */
}

int ledger_wait(struct ledger *l, struct ledger_ticket t, unsigned wait_ms, struct err *err)
{
	uint64_t until_us = clock_now_us() + wait_ms * UINT64_C(1000);
	enum ticket_end end = l->threads ? ticket_wait(l->tickets, t.n, until_us) : commit_here(l, t.n, until_us);
	if (end == TICKET_DONE)
		return 0;
	if (end == TICKET_REFUSED)
		return err_set(err, ERR_DB, "the ledger refused this entry");
	err_set(err, ERR_DB_UNAVAILABLE, end == TICKET_SPOOLED ? "the ledger entry is in the spool" : "the ledger entry is not committed yet");
	if (err)
		err->retry_after_ms = 2000;
	return -1;
}

void ledger_flush(struct ledger *l)
{
	pthread_mutex_lock(&l->lock);
	bool waiting = !l->threads && l->queued > 0;
	pthread_mutex_unlock(&l->lock);
	if (waiting)
		commit_here(l, 0, clock_now_us());
}

static int queue_has_room(struct ledger *l, struct err *err)
{
	pthread_mutex_lock(&l->lock);
	bool full = l->queued > l->o.queue / 4 * 3;
	pthread_mutex_unlock(&l->lock);
	if (!full)
		return 0;
	err_set(err, ERR_BUSY, "too many calls wait to be accounted for");
	if (err)
		err->retry_after_ms = 2000;
	return -1;
}

int ledger_admit(struct ledger *l, struct err *err)
{
	if (queue_has_room(l, err) < 0)
		return -1;
	return l->spool ? spool_credit(l->spool, err) : 0;
}

int ledger_has_room(struct ledger *l, struct err *err)
{
	if (queue_has_room(l, err) < 0)
		return -1;
	return !l->spool || spool_has_room(l->spool) ? 0 : err_set(err, ERR_BUSY, "the spool has no room for one more entry");
}

int ledger_flight_begin(struct ledger *l, const struct ledger_entry *e, const struct ledger_price *price, struct ledger_flight **out_r, struct err *err)
{
	*out_r = NULL;
	if (!l->inflight || inflight_begin(l->inflight, e, price, out_r, err) == 0)
		return 0;
	if (err)
		err->retry_after_ms = 2000;
	return -1;
}

void ledger_stats(struct ledger *l, struct ledger_stats *out_r)
{
	pthread_mutex_lock(&l->lock);
	*out_r = l->stats;
	out_r->queued = l->queued;
	uint64_t oldest_us = l->head ? l->head->queued_us : UINT64_MAX;
	for (unsigned i = 0; i < l->nlanes; i++)
		if (l->lanes[i].oldest_us && l->lanes[i].oldest_us < oldest_us)
			oldest_us = l->lanes[i].oldest_us;
	pthread_mutex_unlock(&l->lock);
	uint64_t now_us = clock_now_us();
	out_r->oldest_us = oldest_us < now_us ? now_us - oldest_us : 0;
	out_r->in_flight = inflight_used(l->inflight);
	if (!l->spool)
		return;
	struct spool_stats s;
	spool_stats(l->spool, &s);
	out_r->spool_bytes = s.bytes;
	out_r->spool_credits = s.credits;
	out_r->spool_records = s.records;
	out_r->spool_failing = s.failing;
}

const struct ledger_options *ledger_options_of(const struct ledger *l)
{
	return &l->o;
}

/* PostgreSQL answers again: what this process spooled is for adopting, by itself first of all. */
void ledger_let_spool_go(struct ledger *l)
{
	if (l->spool)
		spool_let_go(l->spool);
}

struct ledger_prices *ledger_prices(struct ledger *l)
{
	return l->prices;
}

/* --- start and stop --- */

static int start_threads(struct ledger *l, struct err *err)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	int rc = 0;
	for (unsigned i = 0; i < l->o.committers && rc == 0; i++) {
		rc = pthread_create(&l->lanes[i].thread, &attr, lane_main, &l->lanes[i]);
		if (rc == 0)
			l->threads++;
	}
	pthread_attr_destroy(&attr);
	return rc == 0 ? 0 : err_set(err, ERR_INTERNAL, "cannot start a ledger committer");
}

static void lane_init(struct lane *lane, struct ledger *l, unsigned shard)
{
	lane->l = l;
	committer_init(&lane->c, l->o.pool, shard);
	lane->records = calloc(l->o.batch, sizeof(struct record *));
	BUG_ON(!lane->records);
	pthread_mutex_init(&lane->lock, NULL);
}

struct ledger *ledger_new(const struct ledger_options *options, struct err *err)
{
	unsigned nlanes = options->committers ? options->committers : 1;
	struct ledger *l = calloc(1, sizeof *l + nlanes * sizeof l->lanes[0]);
	BUG_ON(!l);
	l->o = *options;
	l->o.state_dir = NULL; /* a reload may end the caller's text: ours stands in its place, below */
	l->o.batch = l->o.batch ? l->o.batch : 256;
	l->o.queue = l->o.queue ? l->o.queue : 10000;
	l->nlanes = nlanes;
	l->tail = &l->head;
	pthread_mutex_init(&l->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&l->work, &attr);
	pthread_cond_init(&l->stop, &attr);
	pthread_condattr_destroy(&attr);
	if (options->state_dir && *options->state_dir) {
		l->state_dir = strdup(options->state_dir);
		BUG_ON(!l->state_dir);
		uint64_t rows = (uint64_t)SPOOL_ROW_MAX * (l->o.threads ? l->o.threads : 1);
		l->o.state_dir = l->state_dir;
		l->inflight = inflight_new(l->o.state_dir, 2 * l->o.threads + SLOTS_BESIDE);
		l->spool = spool_new(l->o.state_dir, l->o.spool_bytes ? l->o.spool_bytes : SPOOL_BYTES, rows < SPOOL_CHUNK ? rows : SPOOL_CHUNK);
	}
	l->tickets = tickets_new(options->committers ? 2 * l->o.queue : 256);
	l->prices = ledger_prices_new(l->o.pool, l->o.epoch);
	unsigned shard = (unsigned)rand_below(SHARDS);
	for (unsigned i = 0; i < nlanes; i++)
		lane_init(&l->lanes[i], l, (shard + i) % SHARDS);
	if (start_threads(l, err) != 0)
		ledger_free(&l);
	return l;
}

/* A batch of the queue, to the disk. False when nothing is left or the disk does not take it. */
static bool spool_queue(struct lane *lane)
{
	if (lane->done < lane->n)
		return false;
	pthread_mutex_lock(&lane->l->lock);
	lane_take(lane);
	pthread_mutex_unlock(&lane->l->lock);
	return lane_spool(lane);
}

/* It stays in the in-flight file where it has a place there, for who adopts that; else it is lost. Returns how many are. */
static unsigned lose_one(struct ledger *l, struct record *r)
{
	const struct err err = { .code = ERR_DB_UNAVAILABLE, .msg = "stopped before it could be committed" };
	bool stays = r->flight != NULL;
	record_log(stays ? "ledger entry left in the in-flight file" : "ledger entry lost", r, &err);
	r->flight = NULL;
	record_ends(l, r, TICKET_REFUSED);
	return !stays;
}

/* What is left when the time is up goes to the spool; only what that does not take either may be lost. Serving threads that were
 * given up on may still bring entries, and commit them themselves. */
static unsigned lose(struct ledger *l)
{
	unsigned lost = 0;
	for (unsigned i = 0; i < l->nlanes; i++) {
		struct lane *lane = &l->lanes[i];
		pthread_mutex_lock(&lane->lock);
		lane_spool(lane);
		while (spool_queue(lane))
			;
		for (; lane->done < lane->n; lane->done++)
			lost += lose_one(l, lane->records[lane->done]);
		pthread_mutex_unlock(&lane->lock);
	}
	pthread_mutex_lock(&l->lock);
	for (unsigned i = 0; i < l->nlanes; i++)
		l->lanes[i].oldest_us = 0;
	for (struct record *r; (r = l->head) != NULL;) {
		l->head = r->next;
		lost += lose_one(l, r);
	}
	l->tail = &l->head;
	l->queued = 0;
	pthread_mutex_unlock(&l->lock);
	return lost;
}

unsigned ledger_stop(struct ledger *l, unsigned wait_ms)
{
	uint64_t until_us = clock_now_us() + wait_ms * UINT64_C(1000);
	pthread_mutex_lock(&l->lock);
	l->stopping = true;
	l->stop_us = until_us;
	pthread_cond_broadcast(&l->work);
	pthread_cond_broadcast(&l->stop);
	pthread_mutex_unlock(&l->lock);
	for (unsigned i = 0; i < l->threads; i++)
		pthread_join(l->lanes[i].thread, NULL);
	l->threads = 0; /* what comes late is committed by who brings it */
	commit_here(l, 0, until_us);
	return lose(l);
}

void ledger_free(struct ledger **lp)
{
	struct ledger *l = *lp;
	if (!l)
		return;
	ledger_stop(l, 0);
	for (unsigned i = 0; i < l->nlanes; i++) {
		committer_release(&l->lanes[i].c);
		free(l->lanes[i].records);
		pthread_mutex_destroy(&l->lanes[i].lock);
	}
	inflight_free(&l->inflight);
	spool_free(&l->spool);
	free(l->state_dir);
	ledger_prices_free(&l->prices);
	tickets_free(&l->tickets);
	pthread_cond_destroy(&l->work);
	pthread_cond_destroy(&l->stop);
	pthread_mutex_destroy(&l->lock);
	free(l);
	*lp = NULL;
}
