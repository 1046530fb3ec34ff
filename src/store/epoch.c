/* SPDX-License-Identifier: Apache-2.0
 * What every process knows is at most 900 ms old. The fast way is two loads: the host was verified less than 400 ms ago and
 * this process has applied the newest epoch of the host. Else one thread of the process refreshes: it takes the host's poll
 * ticket, or waits for who holds it, reads the changes since the process's own epoch, drops those objects and publishes.
 *
 * Order that makes it right: who polls stores `epoch` before `verified_us`, who checks loads `verified_us` before `epoch`; so a
 * fresh `verified_us` comes with an epoch that holds all that was committed before that poll was sent. And `seen` moves before
 * objects are dropped, `applied` after: a cache that loads an object remembers epoch_now() before it asks PostgreSQL and keeps
 * the object only if epoch_now() is still the same under the cache's own lock.
 *
 * Lock: epoch.lock protects `refreshing` and `waiting`; a leaf, not held while polling.
 */
#include "config.h"
#include "store/pg.h"
#include "store/segment.h"

#include "base/arena.h"
#include "base/clock.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	FRESH_US = 400000,   /* younger than this: nobody asks */
	STALE_US = 900000,   /* older than this: nobody is served */
	TICKET_US = 300000,  /* a ticket older than this is taken over */
	POLL_MS = 300,
	WAIT_US = 2000000,
	SHORT_WAIT_US = 100000, /* anybody may wait this long for a poll */
	STEP_US = 2000,	     /* how often who waits for another process looks */
	AGAIN_US = 20000,    /* how soon a failed poll is repeated */
	LISTENERS = 16,
	CHANGES_MAX = 1000,  /* more than these: drop everything */
};

struct listener {
	const char *kind;
	void (*fn)(void *, struct uuid);
	void *u;
};

struct epoch {
	struct pg_pool *pool;
	struct segment_epoch *shared;
	uint64_t grace_us;
	unsigned waiters_max;
	struct listener listeners[LISTENERS];
	unsigned nlisteners;
	_Atomic uint64_t seen, applied; /* this process's; UINT64_MAX: has never asked */

	pthread_mutex_t lock;
	pthread_cond_t done;
	bool refreshing;
	unsigned waiting;
};

#define NEVER UINT64_MAX

/* --- life --- */

struct epoch *epoch_new(struct pg_pool *pool, struct segment *segment, unsigned grace_ms)
{
	struct epoch *e = calloc(1, sizeof *e);
	BUG_ON(!e);
	e->pool = pool;
	e->shared = segment_epoch(segment);
	e->grace_us = (uint64_t)grace_ms * 1000;
	e->waiters_max = 1;
	atomic_store(&e->seen, NEVER);
	atomic_store(&e->applied, NEVER);
	pthread_condattr_t monotonic;
	BUG_ON(pthread_mutex_init(&e->lock, NULL) != 0 || pthread_condattr_init(&monotonic) != 0);
	BUG_ON(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) != 0 || pthread_cond_init(&e->done, &monotonic) != 0);
	pthread_condattr_destroy(&monotonic);
	return e;
}

void epoch_free(struct epoch **ep)
{
	struct epoch *e = *ep;
	if (!e)
		return;
	pthread_cond_destroy(&e->done);
	pthread_mutex_destroy(&e->lock);
	free(e);
	*ep = NULL;
}

void epoch_set_threads(struct epoch *e, unsigned threads)
{
	e->waiters_max = threads / 10 ? threads / 10 : 1;
}

void epoch_listen(struct epoch *e, const char *kind, void (*fn)(void *u, struct uuid id), void *u)
{
	BUG_ON(e->nlisteners == LISTENERS);
	e->listeners[e->nlisteners++] = (struct listener){ kind, fn, u };
}

/* --- reading the clockwork --- */

static uint64_t age_us(const struct epoch *e, uint64_t now_us)
{
	uint64_t verified_us = atomic_load_explicit(&e->shared->verified_us, memory_order_acquire);
	if (verified_us == 0)
		return NEVER;
	return now_us > verified_us ? now_us - verified_us : 0;
}

uint64_t epoch_age_us(const struct epoch *e)
{
	return age_us(e, clock_now_us());
}

uint64_t epoch_now(const struct epoch *e)
{
	return atomic_load(&e->seen);
}

/* Has this process applied what the host knows? Load the age first. Equality, so that a database that went back (restored, or
 * made anew) is noticed by all. */
static bool is_level(const struct epoch *e)
{
	return atomic_load_explicit(&e->applied, memory_order_acquire) == atomic_load_explicit(&e->shared->epoch, memory_order_acquire);
}

enum freshness { FRESH, AGEING /* good, but someone should ask */, STALE };

static enum freshness freshness(const struct epoch *e)
{
	uint64_t age = age_us(e, clock_now_us());
	if (!is_level(e) || age >= STALE_US)
		return STALE;
	return age < FRESH_US ? FRESH : AGEING;
}

/* --- the host's words --- */

static void raise_to(_Atomic uint64_t *word, uint64_t value)
{
	uint64_t now = atomic_load(word);
	while (now < value && !atomic_compare_exchange_weak(word, &now, value))
		;
}

void epoch_publish(struct epoch *e, uint64_t epoch)
{
	raise_to(&e->shared->epoch, epoch);
}

static bool take_ticket(struct epoch *e, uint64_t now_us)
{
	uint64_t held_us = atomic_load(&e->shared->ticket_us);
	if (held_us != 0 && now_us < held_us + TICKET_US)
		return false;
	return atomic_compare_exchange_strong(&e->shared->ticket_us, &held_us, now_us);
}

static void return_ticket(struct epoch *e, uint64_t taken_us)
{
	atomic_compare_exchange_strong(&e->shared->ticket_us, &taken_us, 0);
}

/* What is published was committed, so a later answer that is lower means that the database itself went back. */
static void publish_polled(struct epoch *e, uint64_t known_before, uint64_t epoch)
{
	if (epoch < known_before)
		atomic_compare_exchange_strong(&e->shared->epoch, &known_before, epoch);
	else
		raise_to(&e->shared->epoch, epoch);
}

/* --- one poll --- */

static void drop(struct epoch *e, struct str kind, bool all_kinds, struct uuid id)
{
	for (unsigned i = 0; i < e->nlisteners; i++)
		if (all_kinds || str_eq_c(kind, e->listeners[i].kind))
			e->listeners[i].fn(e->listeners[i].u, id);
}

static bool is_complete(const struct pg_result *r, uint64_t from, uint64_t to)
{
	uint64_t n = to - from;
	return from != NEVER && to >= from && n <= CHANGES_MAX && (n == 0 || (pg_rows(r) == n && (uint64_t)pg_i64(r, 0, 1) == from + 1));
}

/* Rows: the newest epoch, then epoch, kind and id of each change since ours (NULL when there is none). A gap, which is what
 * sweeping old changes leaves, or a restored database whose epoch went back, drops everything. */
static void apply(struct epoch *e, const struct pg_result *r)
{
	uint64_t from = atomic_load(&e->applied), to = (uint64_t)pg_i64(r, 0, 0);
	atomic_store(&e->seen, to);
	if (from == NEVER || !is_complete(r, from, to)) {
		drop(e, STR_NONE, true, (struct uuid){ { 0 } });
	} else if (to > from) {
		for (unsigned i = 0; i < pg_rows(r); i++)
			drop(e, pg_str(r, i, 2), false, pg_uuid(r, i, 3));
	}
	atomic_store_explicit(&e->applied, to, memory_order_release);
}

static int poll_changes(struct epoch *e, unsigned within_ms, struct err *err)
{
	static const char sql[] = "SELECT e.epoch, c.epoch, c.kind, c.id FROM headgate.epoch e LEFT JOIN headgate.changes c ON c.epoch > $1"
				  " ORDER BY c.epoch LIMIT 1001";
	struct arena *a = arena_new(1 << 20);
	uint64_t from = atomic_load(&e->applied);
	struct str arg = pg_arg_i64(a, from == NEVER ? INT64_MAX : (int64_t)from);
	struct pg_stmt s = { .sql = sql, .args = &arg, .nargs = 1 };
	struct pg_scope scope = { .role = PG_ROLE_LOADER, .read_only = true, .statement_ms = within_ms };
	struct pg_limits limits = { .wait_ms = within_ms, .answer_ms = within_ms };
	uint64_t known_before = atomic_load(&e->shared->epoch), sent_us = clock_now_us();
	atomic_store(&e->shared->checked_us, sent_us);
	int rc = pg_run_within(e->pool, &scope, limits, &s, 1, a, err);
	if (rc == 0 && pg_rows(s.result) == 0)
		rc = err_set(err, ERR_DB, "the database has no epoch");
	if (rc == 0) {
		uint64_t epoch = (uint64_t)pg_i64(s.result, 0, 0);
		apply(e, s.result);
		publish_polled(e, known_before, epoch);
		raise_to(&e->shared->verified_us, sent_us);
	}
	arena_free(&a);
	return rc;
}

/* --- refreshing --- */

static void sleep_us(unsigned us)
{
	struct timespec ts = { 0, (long)us * 1000 };
	nanosleep(&ts, NULL);
}

/* Poll until not stale (0) or too late (-1), taking turns with the other processes of the host. `must`: the caller cannot be served as it is. A process
 * that only has to catch up with its host needs no ticket: nobody else can read the changes for it. */
static int refresh(struct epoch *e, bool must, uint64_t until_us, struct err *err)
{
	do {
		uint64_t now_us = clock_now_us();
		bool behind = !is_level(e);
		bool mine = take_ticket(e, now_us);
		if (mine || behind)
			poll_changes(e, POLL_MS, err);
		if (mine)
			return_ticket(e, now_us);
		if (freshness(e) != STALE)
			return 0;
		if (must)
			sleep_us(mine ? AGAIN_US : STEP_US);
	} while (must && clock_now_us() < until_us);
	return -1;
}

static int unavailable(struct err *err, const char *detail)
{
	err_set(err, ERR_AUTH_UNAVAILABLE, "it cannot be checked now who may call");
	if (err)
		err->retry_after_ms = 2000;
	return err_detail(err, "%s", detail);
}

/* With the lock held. False at the end of the wait. */
static bool wait_until(struct epoch *e, uint64_t until_us)
{
	struct timespec ts = { .tv_sec = (time_t)(until_us / 1000000), .tv_nsec = (long)(until_us % 1000000) * 1000 };
	int rc = 0;
	while (e->refreshing && rc == 0)
		rc = pthread_cond_timedwait(&e->done, &e->lock, &ts);
	return rc == 0;
}

/* Wait for the thread of this process that refreshes. A poll that goes well takes a millisecond, so a burst after a pause waits for it
 * as a whole; only waits that become long are for a tenth of the threads. False when too many wait already, or at the end. */
static bool wait_for_refresh(struct epoch *e, uint64_t until_us)
{
	uint64_t soon_us = clock_now_us() + SHORT_WAIT_US;
	if (wait_until(e, soon_us < until_us ? soon_us : until_us))
		return true;
	if (e->waiting >= e->waiters_max)
		return false;
	e->waiting++;
	bool done = wait_until(e, until_us);
	e->waiting--;
	return done;
}

static void end_refresh(struct epoch *e)
{
	pthread_mutex_lock(&e->lock);
	e->refreshing = false;
	pthread_cond_broadcast(&e->done);
	pthread_mutex_unlock(&e->lock);
}

/* Become the one that refreshes. False: another did meanwhile, or nobody can (then *give_up_r). */
static bool begin_refresh(struct epoch *e, bool must, uint64_t until_us, bool *give_up_r)
{
	pthread_mutex_lock(&e->lock);
	bool other = e->refreshing;
	*give_up_r = false;
	if (!other)
		e->refreshing = true;
	else if (must)
		*give_up_r = !wait_for_refresh(e, until_us);
	pthread_mutex_unlock(&e->lock);
	return !other;
}

/* The named exception: while PostgreSQL cannot be asked, what was known is good for auth.grace. */
static bool is_in_grace(const struct epoch *e)
{
	uint64_t age = age_us(e, clock_now_us());
	return e->grace_us && age != NEVER && age < e->grace_us && is_level(e);
}

/* Served all the same? */
static bool is_good_enough(const struct epoch *e)
{
	return freshness(e) != STALE || is_in_grace(e);
}

static int check_slowly(struct epoch *e, struct err *err)
{
	struct err why = { .code = ERR_NONE };
	uint64_t until_us = clock_now_us() + WAIT_US;
	while (freshness(e) != FRESH) {
		bool must = !is_good_enough(e), give_up;
		if (begin_refresh(e, must, until_us, &give_up)) {
			give_up = refresh(e, must, until_us, &why) != 0 && must; /* tried for as long as it may be */
			end_refresh(e);
		}
		if (is_good_enough(e))
			return 0;
		if (give_up || clock_now_us() >= until_us)
			return unavailable(err, why.code ? why.detail : "too many wait already");
	}
	return 0;
}

int epoch_check(struct epoch *e, struct err *err)
{
	return freshness(e) == FRESH ? 0 : check_slowly(e, err);
}
