/* SPDX-License-Identifier: Apache-2.0
 * The epoch: what one process knows, and four processes on two hosts (two run directories) against a row that changes.
 */
#include "config.h"
#include "store_fixture.h"

#include "base/clock.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static struct arena *a;
static struct pg_pool *pool;
static struct segment *segment;
static struct epoch *e;
static struct err err;
static char dirs[2][32];
static const struct pg_scope owner = { .role = PG_ROLE_OWNER };

#define assert_ok(call)                                                                                               \
	do {                                                                                                          \
		if ((call) != 0)                                                                                      \
			fail_msg("%s: %s (%s)", #call, err.msg, err.detail);                                          \
	} while (0)

static void make_dirs(void)
{
	for (int i = 0; i < 2; i++) {
		snprintf(dirs[i], sizeof dirs[i], "/tmp/hgepoch.XXXXXX");
		assert_non_null(mkdtemp(dirs[i]));
	}
}

static void remove_dirs(void)
{
	for (int i = 0; i < 2; i++) {
		DIR *d = opendir(dirs[i]);
		for (struct dirent *f; (f = readdir(d)) != NULL;)
			if (f->d_name[0] != '.')
				unlinkat(dirfd(d), f->d_name, 0);
		closedir(d);
		rmdir(dirs[i]);
	}
}

static int set_up(void **state)
{
	(void)state;
	make_dirs();
	a = arena_new(1 << 24);
	pool = fixture_pool(2, 2000);
	assert_ok(segment_open(dirs[0], SEGMENT_FCGI, &segment, &err));
	e = epoch_new(pool, segment, 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	epoch_free(&e);
	segment_close(&segment);
	pg_pool_free(&pool);
	arena_free(&a);
	remove_dirs();
	return 0;
}

static uint64_t change(const char *kind, const struct uuid *id)
{
	struct pg_result *r;
	struct str args[] = { str_c(kind), id ? pg_arg_uuid(a, *id) : STR_NONE };
	assert_ok(pg_query(pool, &owner, "SELECT headgate.change($1, $2)", args, 2, a, &r, &err));
	return (uint64_t)pg_i64(r, 0, 0);
}

struct heard {
	unsigned n, all;
	struct uuid last;
};

static void hear(void *u, struct uuid id)
{
	struct heard *h = u;
	static const struct uuid none;
	h->n++;
	h->all += memcmp(&id, &none, sizeof id) == 0;
	h->last = id;
}

static void a_change_drops_its_object_alone(void **state)
{
	(void)state;
	struct heard keys = { 0 }, models = { 0 };
	struct uuid id = uuid_v7(), other = uuid_v7();
	epoch_listen(e, "key", hear, &keys);
	epoch_listen(e, "model", hear, &models);
	assert_ok(epoch_check(e, &err));
	keys = models = (struct heard){ 0 };
	change("key", &other);
	epoch_publish(e, change("key", &id));
	assert_ok(epoch_check(e, &err));
	assert_int_equal(keys.n, 2);
	assert_memory_equal(&keys.last, &id, sizeof id);
	assert_int_equal(models.n, 0);
	epoch_publish(e, change("model", NULL));
	assert_ok(epoch_check(e, &err));
	assert_int_equal(models.all, 1);
	assert_int_equal(keys.n, 2);
}

static void fresh_knowledge_asks_nothing(void **state)
{
	(void)state;
	struct pg_pool_stats before, after;
	assert_ok(epoch_check(e, &err));
	pg_pool_stats(pool, &before);
	uint64_t from_us = clock_now_us();
	unsigned n = 0;
	for (; clock_now_us() - from_us < 300000; n++)
		assert_ok(epoch_check(e, &err));
	pg_pool_stats(pool, &after);
	assert_int_equal(after.queries, before.queries);
	print_message("# %u checks in 300 ms, without a query\n", n);
}

static void it_asks_about_twice_a_second_while_requests_come(void **state)
{
	(void)state;
	struct pg_pool_stats before, after;
	assert_ok(epoch_check(e, &err));
	pg_pool_stats(pool, &before);
	uint64_t from_us = clock_now_us();
	while (clock_now_us() - from_us < 2000000) {
		assert_ok(epoch_check(e, &err));
		assert_true(epoch_age_us(e) < 900000);
		usleep(1000);
	}
	pg_pool_stats(pool, &after);
	assert_in_range(after.queries - before.queries, 2, 6);
}

static void a_gap_in_the_changes_drops_everything(void **state)
{
	(void)state;
	struct heard keys = { 0 };
	struct uuid id = uuid_v7();
	epoch_listen(e, "key", hear, &keys);
	assert_ok(epoch_check(e, &err));
	keys.n = keys.all = 0;
	change("model", &id);
	uint64_t newest = change("key", &id);
	assert_ok(pg_query(pool, &owner, "DELETE FROM changes WHERE epoch < (SELECT epoch FROM epoch)", NULL, 0, a, NULL, &err));
	epoch_publish(e, newest);
	assert_ok(epoch_check(e, &err));
	assert_int_equal(keys.n, 1);
	assert_int_equal(keys.all, 1);
}

static void very_many_changes_drop_everything(void **state)
{
	(void)state;
	struct heard keys = { 0 };
	epoch_listen(e, "key", hear, &keys);
	assert_ok(epoch_check(e, &err));
	keys.n = keys.all = 0;
	struct pg_result *r;
	assert_ok(pg_query(pool, &owner, "SELECT max(change('key', gen_random_uuid())) FROM generate_series(1, 1500)", NULL, 0, a, &r, &err));
	epoch_publish(e, (uint64_t)pg_i64(r, 0, 0));
	assert_ok(epoch_check(e, &err));
	assert_int_equal(keys.all, 1);
	assert_int_equal(keys.n, 1);
}

static void a_database_that_went_back_is_noticed_by_every_process(void **state)
{
	(void)state;
	struct heard one = { 0 }, two = { 0 };
	struct segment *again;
	assert_ok(segment_open(dirs[0], SEGMENT_FCGI, &again, &err));
	struct epoch *second = epoch_new(pool, again, 0);
	epoch_listen(e, "key", hear, &one);
	epoch_listen(second, "key", hear, &two);
	assert_ok(epoch_check(e, &err));
	assert_ok(epoch_check(second, &err));
	one.all = two.all = 0;
	epoch_publish(e, change("model", NULL));
	assert_ok(epoch_check(e, &err));
	assert_ok(epoch_check(second, &err));
	assert_ok(pg_query(pool, &owner, "UPDATE epoch SET epoch = 3", NULL, 0, a, NULL, &err));
	usleep(450000);
	assert_ok(epoch_check(e, &err));
	assert_ok(epoch_check(second, &err));
	assert_int_equal(one.all, 1);
	assert_int_equal(two.all, 1);
	assert_int_equal(epoch_now(second), 3);
	epoch_free(&second);
	segment_close(&again);
	assert_ok(pg_query(pool, &owner, "DELETE FROM changes", NULL, 0, a, NULL, &err));
}

static void who_cannot_ask_says_so_within_two_seconds(void **state)
{
	(void)state;
	struct pg_options o = { .url = "host=/nonexistent dbname=x", .size = 2, .wait_ms = 2000 };
	struct pg_pool *nowhere = pg_pool_new(&o);
	struct epoch *blind = epoch_new(nowhere, segment, 0);
	uint64_t from_us = clock_now_us();
	assert_int_equal(epoch_check(blind, &err), -1);
	assert_int_equal(err.code, ERR_AUTH_UNAVAILABLE);
	assert_int_equal(err.retry_after_ms, 2000);
	assert_in_range(clock_now_us() - from_us, 1500000, 3000000);
	epoch_free(&blind);
	pg_pool_free(&nowhere);
}

static void *check_once(void *p)
{
	struct err own;
	return (void *)(intptr_t)epoch_check(p, &own);
}

static void few_wait_and_the_rest_is_told_at_once(void **state)
{
	(void)state;
	enum { N = 20 };
	struct pg_options o = { .url = "host=/nonexistent dbname=x", .size = 2, .wait_ms = 2000 };
	struct pg_pool *nowhere = pg_pool_new(&o);
	struct epoch *blind = epoch_new(nowhere, segment, 0);
	epoch_set_threads(blind, 50); /* 5 may wait, and one tries */
	pthread_t threads[N];
	uint64_t from_us = clock_now_us();
	for (int i = 0; i < N; i++)
		pthread_create(&threads[i], NULL, check_once, blind);
	unsigned quick = 0;
	usleep(700000);
	for (int i = 0; i < N; i++) {
		void *rc;
		if (pthread_tryjoin_np(threads[i], &rc) == 0) {
			assert_int_equal((intptr_t)rc, -1);
			quick++;
			threads[i] = 0;
		}
	}
	assert_int_equal(quick, N - 6);
	for (int i = 0; i < N; i++)
		if (threads[i])
			pthread_join(threads[i], NULL);
	assert_in_range(clock_now_us() - from_us, 1500000, 3000000);
	epoch_free(&blind);
	pg_pool_free(&nowhere);
}

static void the_grace_serves_on_what_was_known(void **state)
{
	(void)state;
	struct pg_options o = { .url = "host=/nonexistent dbname=x", .size = 2, .wait_ms = 2000 };
	assert_ok(epoch_check(e, &err));
	uint64_t known = epoch_now(e);
	struct pg_pool *nowhere = pg_pool_new(&o);
	epoch_free(&e);
	e = epoch_new(pool, segment, 5000);
	assert_ok(epoch_check(e, &err));
	assert_int_equal(epoch_now(e), known);
	assert_ok(pg_query(pool, &owner, "ALTER TABLE epoch RENAME TO epoch_away", NULL, 0, a, NULL, &err));
	usleep(1000000);
	uint64_t from_us = clock_now_us();
	for (int i = 0; i < 10; i++)
		assert_ok(epoch_check(e, &err));
	assert_true(clock_now_us() - from_us < 500000);
	assert_true(epoch_age_us(e) > 900000);
	assert_ok(pg_query(pool, &owner, "ALTER TABLE epoch_away RENAME TO epoch", NULL, 0, a, NULL, &err));
	pg_pool_free(&nowhere);
}

/* --- the race: four processes on two hosts read a row through a cache, while it is changed --- */

enum { PROCESSES = 4, VERSIONS = 25, VERSION_US = 150000 };

struct race {
	_Atomic uint64_t committed_us[VERSIONS + 1]; /* when version v was answered to who changed it */
	_Atomic int stop;
	struct {
		_Atomic uint64_t checks, worst_us, refused, loads;
	} p[PROCESSES];
};

/* A read-through cache of one object, as the rooms keep them. */
struct cache {
	pthread_mutex_t lock;
	bool filled;
	uint64_t version;
};

static void cache_drop(void *u, struct uuid id)
{
	(void)id;
	struct cache *c = u;
	pthread_mutex_lock(&c->lock);
	c->filled = false;
	pthread_mutex_unlock(&c->lock);
}

static bool cache_get(struct cache *c, struct epoch *ep, struct pg_pool *from, struct arena *mine, uint64_t *version_r, _Atomic uint64_t *loads, struct err *own)
{
	pthread_mutex_lock(&c->lock);
	bool filled = c->filled;
	*version_r = c->version;
	pthread_mutex_unlock(&c->lock);
	if (filled)
		return true;
	uint64_t seen = epoch_now(ep);
	struct pg_result *r;
	if (pg_query(from, &owner, "SELECT v FROM race", NULL, 0, mine, &r, own) != 0)
		return false;
	(*loads)++;
	*version_r = (uint64_t)pg_i64(r, 0, 0);
	pthread_mutex_lock(&c->lock);
	if (epoch_now(ep) == seen) {
		c->filled = true;
		c->version = *version_r;
	}
	pthread_mutex_unlock(&c->lock);
	return true;
}

struct racer {
	struct race *race;
	int index;
	struct epoch *e;
	struct pg_pool *pool;
	struct cache cache;
};

static void note_staleness(struct race *race, int index, uint64_t began_us, uint64_t version)
{
	uint64_t next_us = version < VERSIONS ? race->committed_us[version + 1] : 0;
	uint64_t late_us = next_us && began_us > next_us ? began_us - next_us : 0;
	uint64_t worst = race->p[index].worst_us;
	while (late_us > worst && !atomic_compare_exchange_weak(&race->p[index].worst_us, &worst, late_us))
		;
}

static void *run_racer(void *p)
{
	struct racer *r = p;
	struct arena *mine = arena_new(1 << 20);
	while (!r->race->stop) {
		struct err own = { .code = ERR_NONE };
		uint64_t version, began_us = clock_now_us();
		if (epoch_check(r->e, &own) != 0 || !cache_get(&r->cache, r->e, r->pool, mine, &version, &r->race->p[r->index].loads, &own)) {
			r->race->p[r->index].refused++;
			print_message("# refused: %s (%s)\n", own.msg, own.detail);
		} else {
			r->race->p[r->index].checks++;
			note_staleness(r->race, r->index, began_us, version);
		}
		arena_clear(mine);
		if (r->race->p[r->index].checks % 64 == 0)
			usleep(200); /* two cores are shared by all */
	}
	arena_free(&mine);
	return NULL;
}

static void race_process(struct race *race, int index)
{
	struct racer r = { .race = race, .index = index, .cache = { .lock = PTHREAD_MUTEX_INITIALIZER } };
	struct segment *s;
	pthread_t threads[3];
	r.pool = fixture_pool(3, 2000);
	if (segment_open(dirs[index % 2], SEGMENT_FCGI, &s, &err) != 0)
		_exit(1);
	r.e = epoch_new(r.pool, s, 0);
	epoch_set_threads(r.e, 30);
	epoch_listen(r.e, "race", cache_drop, &r.cache);
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, run_racer, &r);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	_exit(0);
}

static void no_process_uses_a_value_a_second_after_it_was_changed(void **state)
{
	(void)state;
	struct race *race = mmap(NULL, sizeof *race, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(race, MAP_FAILED);
	struct pg_stmt init[] = { { .sql = "CREATE TABLE IF NOT EXISTS race (v bigint)" }, { .sql = "TRUNCATE race" }, { .sql = "INSERT INTO race VALUES (0)" } };
	for (int i = 0; i < 3; i++)
		assert_ok(pg_run(pool, &owner, &init[i], 1, a, &err));
	pid_t pids[PROCESSES];
	for (int i = 0; i < PROCESSES; i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0)
			race_process(race, i);
	}
	usleep(300000);
	for (uint64_t v = 1; v <= VERSIONS; v++) {
		struct str arg = pg_arg_i64(a, (int64_t)v);
		struct pg_stmt s[] = { { .sql = "UPDATE race SET v = $1", .args = &arg, .nargs = 1 }, { .sql = "SELECT headgate.change('race', NULL)" } };
		assert_ok(pg_run(pool, &owner, s, 2, a, &err));
		epoch_publish(e, (uint64_t)pg_i64(s[1].result, 0, 0)); /* on the first host alone */
		race->committed_us[v] = clock_now_us();
		usleep(VERSION_US);
	}
	usleep(1000000);
	race->stop = 1;
	for (int i = 0; i < PROCESSES; i++) {
		int status;
		waitpid(pids[i], &status, 0);
		assert_int_equal(status, 0);
		uint64_t worst = race->p[i].worst_us, checks = race->p[i].checks;
		print_message("# process %d on host %d: %llu checks, %llu loads, %llu refused, stale for %llu us at most\n", i, i % 2, (unsigned long long)checks,
			      (unsigned long long)race->p[i].loads, (unsigned long long)race->p[i].refused, (unsigned long long)worst);
		assert_true(checks > 1000);
		assert_int_equal(race->p[i].refused, 0);
		assert_true(worst < (i % 2 ? 1000000 : 1)); /* on the host that published: never */
	}
	assert_ok(pg_query(pool, &owner, "DROP TABLE race", NULL, 0, a, NULL, &err));
	munmap(race, sizeof *race);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	if (!fixture_url())
		return fixture_skip();
	fixture_migrate();
	const struct CMUnitTest tests[] = {
		CASE(no_process_uses_a_value_a_second_after_it_was_changed),
		CASE(a_change_drops_its_object_alone),
		CASE(fresh_knowledge_asks_nothing),
		CASE(it_asks_about_twice_a_second_while_requests_come),
		CASE(a_gap_in_the_changes_drops_everything),
		CASE(very_many_changes_drop_everything),
		CASE(a_database_that_went_back_is_noticed_by_every_process),
		CASE(who_cannot_ask_says_so_within_two_seconds),
		CASE(few_wait_and_the_rest_is_told_at_once),
		CASE(the_grace_serves_on_what_was_known),
	};
	return cmocka_run_group_tests_name("store epoch", tests, NULL, NULL);
}
