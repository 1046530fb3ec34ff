/* SPDX-License-Identifier: Apache-2.0
 * Group commit against a real PostgreSQL: whatever happens, every entry stands in the ledger once and the sums agree with it.
 */
#include "config.h"
#include "ledger_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

static void submit_and_wait(struct ledger *l, const struct ledger_entry *e)
{
	struct ledger_ticket t;
	ledger_submit(l, e, &t);
	assert_ok(ledger_wait(l, t, 5000, &err));
}

/* A refusal that is no row's fault: entries stay where they are. */
static void close_the_table(void)
{
	ask("revoke insert on headgate.requests from headgate_committer");
}

static void open_the_table(void)
{
	ask("grant insert on headgate.requests to headgate_committer");
}

static void an_entry_is_there_when_the_wait_is_over(void **state)
{
	(void)state;
	struct sample s;
	empty_tables();
	struct ledger *l = new_ledger(2, 256);
	submit_and_wait(l, sample(&s, 1, 0, 120, 300));
	assert_int_equal(number_of("select cost_nusd from headgate.requests"), 720000);
	assert_int_equal(number_of("select count(*) from headgate.attempts where number = 1 and complete"), 1);
	assert_int_equal(number_of(agree_sql), 1);
	assert_int_equal(ledger_stop(l, 1000), 0);
	ledger_free(&l);
}

static void the_same_entry_again_counts_once(void **state)
{
	(void)state;
	struct sample s;
	empty_tables();
	struct ledger *l = new_ledger(2, 256);
	sample(&s, 1, 0, 10, 20);
	for (int i = 0; i < 5; i++)
		submit_and_wait(l, &s.e);
	struct ledger_ticket t;
	for (int i = 0; i < 200; i++) /* also within one batch */
		ledger_submit(l, &s.e, &t);
	assert_ok(ledger_wait(l, t, 5000, &err));
	assert_int_equal(ledger_stop(l, 5000), 0);
	assert_int_equal(number_of("select sum(requests)::bigint from headgate.usage_rollups"), 1);
	assert_int_equal(number_of(agree_sql), 1);
	ledger_free(&l);
}

static void one_thread_commits_for_itself(void **state)
{
	(void)state;
	struct sample s;
	struct ledger_ticket t;
	empty_tables();
	struct ledger *l = new_ledger(0, 4);
	ledger_submit(l, sample(&s, 1, 0, 1, 1), &t);
	assert_ok(ledger_wait(l, t, 5000, &err));
	assert_int_equal(number_of("select count(*) from headgate.requests"), 1);
	close_the_table();
	for (int i = 0; i < 10; i++)
		ledger_submit(l, sample(&s, 1, 0, 1, 1), &t);
	assert_int_equal(ledger_wait(l, t, 50, &err), -1);
	assert_int_equal(err.code, ERR_DB_UNAVAILABLE);
	open_the_table();
	assert_ok(ledger_wait(l, t, 5000, &err));
	assert_int_equal(number_of("select count(*) from headgate.requests"), 11);
	assert_int_equal(ledger_stop(l, 5000), 0);
	ledger_submit(l, sample(&s, 1, 0, 1, 1), &t); /* a late one */
	assert_ok(ledger_wait(l, t, 5000, &err));
	assert_int_equal(number_of("select count(*) from headgate.requests"), 12);
	assert_int_equal(number_of(agree_sql), 1);
	ledger_free(&l);
}

static void without_threads_a_keeper_tries_again(void **state)
{
	(void)state;
	struct sample s;
	empty_tables();
	struct ledger *l = new_ledger(0, 4);
	close_the_table();
	ledger_submit(l, sample(&s, 1, 0, 1, 1), NULL);
	ledger_flush(l);
	open_the_table();
	assert_int_equal(number_of("select count(*) from headgate.requests"), 0);
	for (int tries = 0; tries < 50 && number_of("select count(*) from headgate.requests") == 0; tries++) {
		ledger_flush(l);
		usleep(100000);
	}
	assert_int_equal(number_of("select count(*) from headgate.requests"), 1);
	ledger_flush(l); /* nothing left: nothing done */
	assert_int_equal(ledger_stop(l, 5000), 0);
	ledger_free(&l);
}

enum { THREADS = 16, EACH = 1000 };

static void *many(void *u)
{
	struct ledger *l = u;
	struct sample s;
	static atomic_uint turn;
	for (int i = 0; i < EACH; i++) {
		unsigned n = turn++;
		sample(&s, (unsigned char)(1 + n % 3), 0, (int64_t)(n % 1000), (int64_t)(n % 77));
		s.e.key = some_uuid((unsigned char)(n % 5));
		if (n % 10 == 0) {
			s.e.error_code = STR("upstream_unavailable");
			s.e.status = 503;
		}
		struct ledger_ticket t;
		ledger_submit(l, &s.e, &t);
		if (ledger_wait(l, t, 10000, NULL) != 0)
			abort();
	}
	return NULL;
}

static void run_threads(struct ledger *l, void *(*fn)(void *), void (*meanwhile)(void))
{
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fn, l), 0);
	if (meanwhile)
		meanwhile();
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

static void sixteen_threads_agree_to_the_nano_dollar(void **state)
{
	(void)state;
	struct ledger_stats stats;
	empty_tables();
	struct ledger *l = new_ledger(2, 256);
	run_threads(l, many, NULL);
	ledger_stats(l, &stats);
	assert_int_equal(ledger_stop(l, 5000), 0);
	assert_int_equal(stats.committed, THREADS * EACH);
	assert_int_equal(stats.queued, 0);
	assert_int_equal(number_of("select count(*) from headgate.requests"), THREADS * EACH);
	assert_int_equal(number_of("select sum(errors)::bigint from headgate.usage_rollups"), THREADS * EACH / 10);
	assert_int_equal(number_of(agree_sql), 1);
	ledger_free(&l);
}

static void two_processes_share_the_sums(void **state)
{
	(void)state;
	empty_tables();
	struct ledger *one = new_ledger(2, 64), *two = new_ledger(2, 64);
	pthread_t other[4];
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&other[i], NULL, many, two), 0);
	run_threads(one, many, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(other[i], NULL);
	assert_int_equal(ledger_stop(one, 5000) + ledger_stop(two, 5000), 0);
	assert_int_equal(number_of("select count(*) from headgate.requests"), (THREADS + 4) * EACH);
	assert_int_equal(number_of(agree_sql), 1);
	ledger_free(&one);
	ledger_free(&two);
}

static void a_bad_row_does_not_hold_the_rest(void **state)
{
	(void)state;
	struct sample s;
	struct ledger_ticket good[40], bad;
	struct ledger_stats stats;
	empty_tables();
	struct ledger *l = new_ledger(0, 256);
	close_the_table(); /* so that they become one batch */
	for (int i = 0; i < 40; i++) {
		ledger_submit(l, sample(&s, 1, 0, 5, 5), &good[i]);
		if (i == 17) {
			sample(&s, 1, 0, 5, 5);
			s.e.route_json = STR("{broken");
			ledger_submit(l, &s.e, &bad);
		}
	}
	open_the_table();
	for (int i = 0; i < 40; i++)
		assert_ok(ledger_wait(l, good[i], 5000, &err));
	assert_int_equal(ledger_wait(l, bad, 5000, &err), -1);
	assert_int_equal(err.code, ERR_DB);
	ledger_stats(l, &stats);
	assert_int_equal(stats.poisoned, 1);
	assert_int_equal(stats.committed, 40);
	assert_true(stats.batches < 14); /* halves, not rows */
	assert_int_equal(number_of("select count(*) from headgate.requests"), 40);
	assert_int_equal(number_of(agree_sql), 1);
	ledger_free(&l);
}

static void hostile_text_is_stored_as_it_is(void **state)
{
	(void)state;
	struct sample s;
	empty_tables();
	struct ledger *l = new_ledger(2, 256);
	sample(&s, 1, 0, 5, 5);
	s.e.model_requested = STR("a\"b\\c{d},(e)'f'\n\t$1 NULL \\\" \"\" \xF0\x9F\x98\x80");
	s.e.end_user = STR("null");
	s.e.user_agent = STR("x\0y\xFFz\xC3");
	s.attempt.model = STR("\",\")\"}");
	s.e.client_request_id = STR("   ");
	submit_and_wait(l, &s.e);
	struct pg_result *r = ask("select model_requested, end_user, user_agent, client_request_id, (select model from headgate.attempts), error_code is null from headgate.requests");
	assert_true(str_eq(pg_str(r, 0, 0), s.e.model_requested));
	assert_true(str_eq_c(pg_str(r, 0, 1), "null"));
	assert_true(str_eq_c(pg_str(r, 0, 2), "x\xEF\xBF\xBDy\xEF\xBF\xBDz\xEF\xBF\xBD"));
	assert_true(str_eq_c(pg_str(r, 0, 3), "   "));
	assert_true(str_eq(pg_str(r, 0, 4), s.attempt.model));
	assert_true(pg_bool(r, 0, 5));
	ledger_free(&l);
}

static void hostile_figures_are_clamped(void **state)
{
	(void)state;
	struct sample s;
	empty_tables();
	struct ledger *l = new_ledger(2, 256);
	for (int i = 0; i < 20; i++) {
		sample(&s, 1, 0, 5, 5);
		s.e.usage = (struct ledger_usage){ INT64_MAX, -7, INT64_MAX, INT64_MAX, INT64_MIN };
		s.e.cost_nusd = INT64_MAX;
		submit_and_wait(l, &s.e);
	}
	assert_int_equal(number_of("select sum(requests)::bigint from headgate.usage_rollups"), 20);
	assert_int_equal(number_of("select cached_tokens from headgate.requests limit 1"), 0);
	ledger_free(&l);
}

static void a_call_without_a_price_costs_null(void **state)
{
	(void)state;
	struct sample s;
	empty_tables();
	struct ledger *l = new_ledger(2, 256);
	sample(&s, 1, 0, 5, 5);
	s.e.priced = false;
	s.e.cost_nusd = s.attempt.cost_nusd = LEDGER_NO_PRICE;
	s.e.nattempts = 0;
	submit_and_wait(l, &s.e);
	assert_int_equal(number_of("select count(*) from headgate.requests where cost_nusd is null and price_id is null and cost_lines is null"), 1);
	assert_int_equal(number_of("select unpriced from headgate.usage_rollups"), 1);
	assert_int_equal(number_of("select count(*) from headgate.attempts"), 0);
	ledger_free(&l);
}

/* The row of 23:59:59.999 and the row of 00:00:00.000 stand in two partitions, whenever they are written. */
static void the_day_is_the_days_of_the_id(void **state)
{
	(void)state;
	struct sample s;
	empty_tables();
	int64_t midnight = clock_wall_us() / 86400000000 * 86400000;
	struct ledger *l = new_ledger(0, 256);
	submit_and_wait(l, sample(&s, 1, midnight - 1, 5, 5));
	submit_and_wait(l, sample(&s, 1, midnight, 5, 5));
	assert_int_equal(number_of("select count(distinct tableoid) from headgate.requests"), 2);
	assert_int_equal(number_of("select count(distinct tableoid) from headgate.attempts"), 2);
	assert_int_equal(number_of("select count(*) from headgate.requests where day = (created_at at time zone 'UTC')::date"), 2);
	assert_int_equal(number_of("select count(distinct bucket) from headgate.usage_rollups"), 2);
	assert_int_equal(number_of("select count(*) from headgate.requests_default"), 0);
	ledger_free(&l);
}

static void a_day_without_a_partition_goes_to_the_default_and_moves_out_later(void **state)
{
	(void)state;
	struct sample s;
	empty_tables();
	struct ledger *l = new_ledger(0, 256);
	submit_and_wait(l, sample(&s, 1, INT64_C(1000000000000), 7, 5)); /* 2001-09-09 */
	assert_int_equal(number_of("select count(*) from headgate.requests_default"), 1);
	int64_t ms = clock_wall_us() / 1000 + INT64_C(20) * 86400000;
	submit_and_wait(l, sample(&s, 1, ms, 7, 5));
	assert_int_equal(number_of("select count(*) from headgate.requests_default"), 2);
	assert_ok(ledger_make_partitions(pool, 21, &err));
	assert_int_equal(number_of("select count(*) from headgate.requests_default"), 1);
	assert_int_equal(number_of("select count(*) from headgate.attempts_default"), 1);
	submit_and_wait(l, &s.e); /* the replay finds it where it is now */
	assert_int_equal(number_of("select count(*) from headgate.requests"), 2);
	assert_int_equal(number_of(agree_sql), 1);
	ledger_free(&l);
}

static void *make_partitions(void *u)
{
	struct err e = { 0 };
	(void)u;
	if (ledger_make_partitions(pool, 30, &e) != 0)
		fprintf(stderr, "# %s %s\n", e.msg, e.detail);
	return NULL;
}

static void partitions_are_made_by_many_at_once(void **state)
{
	(void)state;
	run_threads(NULL, make_partitions, NULL);
	assert_int_equal(number_of("select count(*) from pg_inherits where inhparent = 'headgate.requests'::regclass"), 33); /* -1 .. 30, default */
	assert_int_equal(number_of("select count(*) from pg_inherits where inhparent = 'headgate.attempts'::regclass"), 33);
}

static atomic_bool restarting;

static void restart_postgres(void)
{
	static const char *const how[] = { "fast", "immediate", "fast", "immediate" };
	for (int i = 0; i < 4; i++) {
		char command[512];
		usleep(300000);
		snprintf(command, sizeof command, "cd / && %s -m %s restart >/dev/null 2>&1", getenv("HEADGATE_TEST_PG_CTL"), how[i]);
		assert_int_equal(system(command), 0);
	}
	restarting = false;
}

static atomic_uint written;

static void *until_restarted(void *u)
{
	struct sample s;
	while (restarting) {
		struct ledger_ticket t;
		ledger_submit(u, sample(&s, 1, 0, 3, 2), &t);
		if (ledger_wait(u, t, 20000, NULL) != 0)
			abort();
		written++;
	}
	return NULL;
}

static void restarts_in_the_middle_lose_and_double_nothing(void **state)
{
	(void)state;
	struct ledger_stats stats;
	if (!getenv("HEADGATE_TEST_PG_CTL"))
		skip();
	empty_tables();
	restarting = true;
	struct ledger *l = new_ledger(2, 256);
	run_threads(l, until_restarted, restart_postgres);
	ledger_stats(l, &stats);
	assert_int_equal(ledger_stop(l, 5000), 0);
	assert_int_equal(stats.poisoned, 0); /* whether anything was retried depends on what the pool mended by itself */
	assert_int_equal(number_of("select count(*) from headgate.requests"), written);
	assert_int_equal(number_of(agree_sql), 1);
	ledger_free(&l);
}

/* Its commit was lost on the way back: the server has it, we do not know. */
static void a_commit_of_unknown_end_is_replayed(void **state)
{
	(void)state;
	struct sample s;
	empty_tables();
	struct ledger *first = new_ledger(0, 256), *second = new_ledger(0, 256);
	sample(&s, 1, 0, 3, 2);
	submit_and_wait(first, &s.e);
	struct ledger_entry again = s.e;
	again.cost_nusd = 1; /* even with other figures: what stands, stands */
	submit_and_wait(second, &again);
	assert_int_equal(number_of("select sum(cost_nusd)::bigint from headgate.usage_rollups"), s.e.cost_nusd);
	assert_int_equal(number_of(agree_sql), 1);
	ledger_free(&first);
	ledger_free(&second);
}

static void without_a_database_entries_wait_and_then_go_in(void **state)
{
	(void)state;
	struct sample s;
	struct ledger_ticket t;
	struct ledger_stats stats;
	empty_tables();
	ask("revoke execute on all functions in schema headgate from headgate_committer");
	close_the_table();
	struct ledger *l = new_ledger(1, 256);
	ledger_submit(l, sample(&s, 1, 0, 5, 5), &t);
	assert_int_equal(ledger_wait(l, t, 300, &err), -1);
	assert_int_equal(err.code, ERR_DB_UNAVAILABLE);
	ledger_stats(l, &stats);
	assert_int_equal(stats.queued, 1);
	assert_true(stats.retried > 0 && stats.poisoned == 0 && stats.oldest_us >= 300000);
	open_the_table();
	assert_ok(ledger_wait(l, t, 5000, &err));
	ask("grant execute on function headgate.ledger_make_partitions(integer) to headgate_committer");
	assert_int_equal(ledger_stop(l, 1000), 0);
	ledger_free(&l);
}

static void what_cannot_be_committed_by_the_end_is_counted(void **state)
{
	(void)state;
	struct sample s;
	close_the_table();
	for (unsigned committers = 0; committers < 3; committers++) {
		struct ledger *l = new_ledger(committers, 256);
		for (int i = 0; i < 3; i++)
			ledger_submit(l, sample(&s, 1, 0, 5, 5), NULL);
		assert_int_equal(ledger_stop(l, 200), 3);
		ledger_free(&l);
	}
	open_the_table();
}

static void admission_ends_before_the_queue_is_full(void **state)
{
	(void)state;
	struct sample s;
	const struct ledger_options o = { .pool = pool, .queue = 100, .batch = 16 };
	struct ledger *l = ledger_new(&o, &err);
	empty_tables();
	close_the_table();
	for (int i = 0; i < 75; i++)
		ledger_submit(l, sample(&s, 1, 0, 5, 5), NULL);
	assert_ok(ledger_admit(l, &err));
	ledger_submit(l, sample(&s, 1, 0, 5, 5), NULL);
	assert_int_equal(ledger_admit(l, &err), -1);
	assert_int_equal(err.code, ERR_BUSY);
	assert_true(err.retry_after_ms > 0);
	for (int i = 0; i < 300; i++) /* admitted calls are always queued, even beyond */
		ledger_submit(l, sample(&s, 1, 0, 5, 5), NULL);
	open_the_table();
	assert_int_equal(ledger_stop(l, 5000), 0);
	assert_int_equal(number_of("select count(*) from headgate.requests"), 376);
	ledger_free(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_entry_is_there_when_the_wait_is_over),
		cmocka_unit_test(the_same_entry_again_counts_once),
		cmocka_unit_test(one_thread_commits_for_itself),
		cmocka_unit_test(without_threads_a_keeper_tries_again),
		cmocka_unit_test(sixteen_threads_agree_to_the_nano_dollar),
		cmocka_unit_test(two_processes_share_the_sums),
		cmocka_unit_test(a_bad_row_does_not_hold_the_rest),
		cmocka_unit_test(hostile_text_is_stored_as_it_is),
		cmocka_unit_test(hostile_figures_are_clamped),
		cmocka_unit_test(a_call_without_a_price_costs_null),
		cmocka_unit_test(the_day_is_the_days_of_the_id),
		cmocka_unit_test(a_day_without_a_partition_goes_to_the_default_and_moves_out_later),
		cmocka_unit_test(partitions_are_made_by_many_at_once),
		cmocka_unit_test(restarts_in_the_middle_lose_and_double_nothing),
		cmocka_unit_test(a_commit_of_unknown_end_is_replayed),
		cmocka_unit_test(without_a_database_entries_wait_and_then_go_in),
		cmocka_unit_test(what_cannot_be_committed_by_the_end_is_counted),
		cmocka_unit_test(admission_ends_before_the_queue_is_full),
	};
	if (!getenv("HEADGATE_TEST_DATABASE_URL")) {
		puts("1..0 # SKIP HEADGATE_TEST_DATABASE_URL is not set, see tests/tools/with_postgres");
		return 0;
	}
	return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
