/* SPDX-License-Identifier: Apache-2.0
 * The pool and the transactions against a real PostgreSQL.
 */
#include "config.h"
#include "store_fixture.h"

#include "base/buf.h"
#include "base/clock.h"

#include <pthread.h>
#include <stdatomic.h>

static struct arena *a;
static struct pg_pool *pool;
static struct err err;
static const struct pg_scope owner = { .role = PG_ROLE_OWNER };
static const struct pg_scope owner_reads = { .role = PG_ROLE_OWNER, .read_only = true };

#define assert_ok(call)                                                                                               \
	do {                                                                                                          \
		if ((call) != 0)                                                                                      \
			fail_msg("%s: %s (%s)", #call, err.msg, err.detail);                                          \
	} while (0)

static struct pg_result *ask(const char *sql)
{
	struct pg_result *r = NULL;
	assert_ok(pg_query(pool, &owner, sql, NULL, 0, a, &r, &err));
	return r;
}

static int set_up(void **state)
{
	(void)state;
	a = arena_new(1 << 24);
	pool = fixture_pool(4, 2000);
	ask("CREATE TABLE IF NOT EXISTS t (id int PRIMARY KEY, v text)");
	ask("TRUNCATE t");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	pg_pool_free(&pool);
	arena_free(&a);
	return 0;
}

static void a_query_answers_rows_and_types(void **state)
{
	(void)state;
	struct str args[] = { STR("7"), STR_NONE, STR("h\xc3\xa9llo 'quoted'") };
	struct pg_result *r;
	assert_ok(pg_query(pool, &owner, "SELECT $1::int + 1, $2::text, $3::text, true, gen_random_uuid() FROM generate_series(1, 2)", args, 3, a, &r, &err));
	assert_int_equal(pg_rows(r), 2);
	assert_int_equal(pg_i64(r, 1, 0), 8);
	assert_true(pg_is_null(r, 0, 1));
	assert_null(pg_str(r, 0, 1).p);
	assert_true(str_eq(pg_str(r, 0, 2), args[2]));
	assert_true(pg_bool(r, 0, 3));
	assert_int_equal(pg_uuid(r, 0, 4).b[6] >> 4, 4);
}

static void a_batch_is_one_transaction(void **state)
{
	(void)state;
	struct pg_stmt s[] = { { .sql = "INSERT INTO t VALUES (1, 'one')" }, { .sql = "INSERT INTO t VALUES (2, 'two')" }, { .sql = "SELECT count(*) FROM t" } };
	assert_ok(pg_run(pool, &owner, s, 3, a, &err));
	assert_int_equal(pg_affected(s[0].result), 1);
	assert_int_equal(pg_i64(s[2].result, 0, 0), 2);
	struct pg_stmt bad[] = { { .sql = "INSERT INTO t VALUES (3, 'three')" }, { .sql = "INSERT INTO t VALUES (1, 'again')" } };
	assert_int_equal(pg_run(pool, &owner, bad, 2, a, &err), -1);
	assert_int_equal(err.code, ERR_CONFLICT);
	assert_string_equal(err.detail, "t_pkey");
	assert_int_equal(pg_i64(ask("SELECT count(*) FROM t"), 0, 0), 2);
}

static void the_same_text_twice_in_a_batch_is_prepared_once(void **state)
{
	(void)state;
	struct str one[] = { STR("1") }, two[] = { STR("2") };
	struct pg_stmt s[] = { { .sql = "INSERT INTO t VALUES ($1, 'x')", .args = one, .nargs = 1 }, { .sql = "INSERT INTO t VALUES ($1, 'x')", .args = two, .nargs = 1 } };
	assert_ok(pg_run(pool, &owner, s, 2, a, &err));
	assert_int_equal(pg_i64(ask("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'INSERT INTO t VALUES%'"), 0, 0), 1);
}

static void a_wrong_statement_says_what_is_wrong_and_leaves_the_connection_good(void **state)
{
	(void)state;
	assert_int_equal(pg_query(pool, &owner, "SELECT nonsense", NULL, 0, a, NULL, &err), -1);
	assert_int_equal(err.code, ERR_DB);
	assert_non_null(strstr(err.detail, "42703"));
	ask("SELECT 1");
	struct pg_pool_stats stats;
	pg_pool_stats(pool, &stats);
	assert_int_equal(stats.connects, 1);
}

static void text_with_nul_is_refused_before_it_is_sent(void **state)
{
	(void)state;
	struct str arg = str_pn("a\0b", 3);
	assert_int_equal(pg_query(pool, &owner, "SELECT $1::text", &arg, 1, a, NULL, &err), -1);
	assert_int_equal(err.code, ERR_INVALID);
	ask("SELECT 1");
}

static void settings_are_local_to_the_transaction(void **state)
{
	(void)state;
	struct uuid org = uuid_v7();
	struct pg_scope scope = { .role = PG_ROLE_API, .organization = &org, .statement_ms = 1234 };
	struct pg_result *r;
	assert_ok(pg_query(pool, &scope,
			   "SELECT current_user, current_setting('statement_timeout'), current_setting('lock_timeout'), headgate.current_organization(),"
			   " current_setting('search_path')",
			   NULL, 0, a, &r, &err));
	assert_true(str_eq(pg_str(r, 0, 0), STR("headgate_api")));
	assert_true(str_eq(pg_str(r, 0, 1), STR("1234ms")));
	assert_true(str_eq(pg_str(r, 0, 2), STR("1s")));
	assert_memory_equal(pg_uuid(r, 0, 3).b, org.b, 16);
	assert_true(str_eq(pg_str(r, 0, 4), STR("headgate, pg_catalog, pg_temp")));
	assert_true(str_eq(pg_str(ask("SELECT current_user"), 0, 0), STR("owner")));
	assert_true(pg_is_null(ask("SELECT headgate.current_organization()"), 0, 0));
}

static void the_api_role_may_change_nothing_it_was_not_granted(void **state)
{
	(void)state;
	struct pg_scope api = { .role = PG_ROLE_API };
	assert_int_equal(pg_query(pool, &api, "UPDATE epoch SET epoch = 0", NULL, 0, a, NULL, &err), -1);
	assert_non_null(strstr(err.detail, "42501"));
	assert_int_equal(pg_query(pool, &api, "CREATE TABLE x (i int)", NULL, 0, a, NULL, &err), -1);
	assert_non_null(strstr(err.detail, "42501"));
}

static void a_read_only_scope_cannot_write(void **state)
{
	(void)state;
	assert_int_equal(pg_query(pool, &owner_reads, "INSERT INTO t VALUES (9, 'x')", NULL, 0, a, NULL, &err), -1);
	assert_int_equal(err.code, ERR_DB);
}

static void a_slow_statement_is_stopped_and_the_connection_stays(void **state)
{
	(void)state;
	struct pg_scope quick = { .role = PG_ROLE_OWNER, .statement_ms = 100 };
	uint64_t from_us = clock_now_us();
	assert_int_equal(pg_query(pool, &quick, "SELECT pg_sleep(5)", NULL, 0, a, NULL, &err), -1);
	assert_int_equal(err.code, ERR_DB_UNAVAILABLE);
	assert_int_equal(err.retry_after_ms, 2000);
	assert_true(clock_now_us() - from_us < 3000000);
	ask("SELECT 1");
	struct pg_pool_stats stats;
	pg_pool_stats(pool, &stats);
	assert_int_equal(stats.connects, 1);
}

static void lost_prepared_statements_are_asked_again(void **state)
{
	(void)state;
	static const char sql[] = "SELECT id FROM t ORDER BY id";
	ask(sql);
	ask("DEALLOCATE ALL");
	ask(sql);
	ask(sql);
}

static void a_pooler_that_keeps_no_statements_is_found_out(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		ask("SELECT 1");
		ask("DEALLOCATE ALL");
	}
	ask("SELECT 1");
	assert_int_equal(pg_i64(ask("SELECT count(*) FROM pg_prepared_statements"), 0, 0), 0);
}

static void a_changed_table_does_not_break_prepared_statements(void **state)
{
	(void)state;
	ask("SELECT * FROM t");
	ask("ALTER TABLE t ADD COLUMN w int");
	ask("SELECT * FROM t");
	ask("ALTER TABLE t DROP COLUMN w");
	ask("SELECT * FROM t");
}

static void an_interactive_transaction_looks_before_it_writes(void **state)
{
	(void)state;
	struct pg_conn *c;
	struct pg_result *r;
	assert_ok(pg_begin(pool, &owner, &c, &err));
	assert_ok(pg_exec(c, "INSERT INTO t VALUES (1, 'x')", NULL, 0, a, NULL, &err));
	assert_ok(pg_exec(c, "SELECT count(*) FROM t", NULL, 0, a, &r, &err));
	assert_int_equal(pg_i64(r, 0, 0), 1);
	assert_ok(pg_end(&c, false, &err));
	assert_int_equal(pg_i64(ask("SELECT count(*) FROM t"), 0, 0), 0);
	assert_ok(pg_begin(pool, &owner, &c, &err));
	assert_ok(pg_exec(c, "INSERT INTO t VALUES (1, 'x')", NULL, 0, a, NULL, &err));
	assert_ok(pg_end(&c, true, &err));
	assert_int_equal(pg_i64(ask("SELECT count(*) FROM t"), 0, 0), 1);
}

static void committing_a_failed_transaction_is_an_error(void **state)
{
	(void)state;
	struct pg_conn *c;
	assert_ok(pg_begin(pool, &owner, &c, &err));
	assert_ok(pg_exec(c, "INSERT INTO t VALUES (1, 'x')", NULL, 0, a, NULL, &err));
	assert_int_equal(pg_exec(c, "INSERT INTO t VALUES (1, 'x')", NULL, 0, a, NULL, &err), -1);
	assert_int_equal(err.code, ERR_CONFLICT);
	assert_int_equal(pg_end(&c, true, &err), -1);
	assert_null(c);
	assert_int_equal(pg_i64(ask("SELECT count(*) FROM t"), 0, 0), 0);
}

/* --- a server that goes away --- */

static struct pg_pool *other;

static void kill_backends(void)
{
	struct pg_result *r;
	assert_ok(pg_query(other, &owner, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'unit' AND pid <> pg_backend_pid()",
			   NULL, 0, a, &r, &err));
}

static void killed_idle_connections_are_replaced_unseen(void **state)
{
	(void)state;
	struct pg_options o = { .url = fixture_url(), .size = 1, .application_name = "killer" };
	other = pg_pool_new(&o);
	for (int i = 0; i < 20; i++) {
		ask("SELECT 1");
		kill_backends();
		ask("INSERT INTO t SELECT 1 + coalesce(max(id), 0) FROM t");
	}
	pg_pool_free(&other);
	assert_int_equal(pg_i64(ask("SELECT count(*) FROM t"), 0, 0), 20);
}

static void a_backend_killed_in_mid_statement_says_so_and_nothing_is_written_twice(void **state)
{
	(void)state;
	struct pg_stmt s[] = { { .sql = "INSERT INTO t VALUES (1, 'x')" }, { .sql = "SELECT pg_terminate_backend(pg_backend_pid())" }, { .sql = "SELECT 1" } };
	assert_int_equal(pg_run(pool, &owner, s, 3, a, &err), -1);
	assert_int_equal(err.code, ERR_DB_UNAVAILABLE);
	assert_int_equal(pg_i64(ask("SELECT count(*) FROM t"), 0, 0), 0);
}

static void nobody_there_is_said_within_the_wait_and_then_at_once(void **state)
{
	(void)state;
	struct pg_options o = { .url = "host=/nonexistent dbname=x", .size = 8, .wait_ms = 300 };
	struct pg_pool *p = pg_pool_new(&o);
	uint64_t from_us = clock_now_us();
	assert_int_equal(pg_query(p, &owner, "SELECT 1", NULL, 0, a, NULL, &err), -1);
	assert_int_equal(err.code, ERR_DB_UNAVAILABLE);
	assert_true(clock_now_us() - from_us < 2000000);
	from_us = clock_now_us();
	for (int i = 0; i < 1000; i++)
		assert_int_equal(pg_query(p, &owner, "SELECT 1", NULL, 0, a, NULL, &err), -1);
	assert_int_equal(err.retry_after_ms, 2000);
	assert_true(clock_now_us() - from_us < 5000000); /* each at once, but for one attempt a second */
	struct pg_pool_stats stats;
	pg_pool_stats(p, &stats);
	assert_true(stats.connects <= 2 + (clock_now_us() - from_us) / 900000);
	assert_int_equal(stats.open, 0);
	pg_pool_free(&p);
}

/* --- threads --- */

enum { THREADS = 16, ROUNDS = 200 };
static _Atomic unsigned failures;

static void *add_rows(void *p)
{
	unsigned base = *(unsigned *)p;
	struct arena *mine = arena_new(1 << 20);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct err e;
		struct str arg = pg_arg_i64(mine, (int64_t)base * ROUNDS + i);
		if (pg_query(pool, &owner, "INSERT INTO t VALUES ($1, 'x')", &arg, 1, mine, NULL, &e) != 0)
			failures++;
		arena_clear(mine);
	}
	arena_free(&mine);
	return NULL;
}

static void many_threads_share_few_connections(void **state)
{
	(void)state;
	pthread_t threads[THREADS];
	unsigned bases[THREADS];
	failures = 0;
	for (unsigned i = 0; i < THREADS; i++) {
		bases[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, add_rows, &bases[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(failures, 0);
	assert_int_equal(pg_i64(ask("SELECT count(*) FROM t"), 0, 0), THREADS * ROUNDS);
	struct pg_pool_stats stats;
	pg_pool_stats(pool, &stats);
	assert_true(stats.open <= 4);
	assert_int_equal(stats.busy, 0);
	assert_int_equal(stats.waiting, 0);
}

static void waiting_ends_when_the_pool_stays_busy(void **state)
{
	(void)state;
	struct pg_options o = { .url = fixture_url(), .size = 1, .wait_ms = 100, .statement_ms = 2000 };
	struct pg_pool *p = pg_pool_new(&o);
	struct pg_conn *c;
	assert_ok(pg_begin(p, &owner, &c, &err));
	uint64_t from_us = clock_now_us();
	assert_int_equal(pg_query(p, &owner, "SELECT 1", NULL, 0, a, NULL, &err), -1);
	assert_int_equal(err.code, ERR_DB_UNAVAILABLE);
	assert_in_range(clock_now_us() - from_us, 90000, 1500000);
	assert_ok(pg_end(&c, false, &err));
	assert_ok(pg_query(p, &owner, "SELECT 1", NULL, 0, a, NULL, &err));
	pg_pool_free(&p);
}

static void serialization_failures_are_tried_again(void **state)
{
	(void)state;
	ask("INSERT INTO t VALUES (1, '0')");
	/* fails with 40001 twice, then passes: the sequence is not rolled back */
	ask("DROP SEQUENCE IF EXISTS tries");
	ask("CREATE SEQUENCE tries");
	ask("CREATE OR REPLACE FUNCTION flaky() RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE n bigint := nextval('headgate.tries');"
	    " BEGIN IF n < 3 THEN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END IF; RETURN n; END $$");
	assert_int_equal(pg_i64(ask("SELECT flaky()"), 0, 0), 3);
	ask("DROP FUNCTION flaky()");
	ask("DROP SEQUENCE tries");
}

/* --- values --- */

static void array_elements_are_quoted_as_needed(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, a, 1000);
	assert_true(str_eq(pg_array_end(&b), STR("{}")));
	buf_init(&b, a, 1000);
	struct str elements[] = { STR("plain"), STR("a,b"), STR("q\"u\\o"), STR(""), STR("NULL"), STR_NONE, STR("{x}") };
	for (unsigned i = 0; i < 7; i++)
		pg_array_add(&b, elements[i]);
	struct str array = pg_array_end(&b);
	struct pg_result *r;
	assert_ok(pg_query(pool, &owner, "SELECT unnest($1::text[])", &array, 1, a, &r, &err));
	assert_int_equal(pg_rows(r), 7);
	for (unsigned i = 0; i < 7; i++)
		assert_true(str_eq(pg_str(r, i, 0), elements[i]) && !pg_str(r, i, 0).p == !elements[i].p);
}

static void times_keep_their_microseconds(void **state)
{
	(void)state;
	static const int64_t cases[] = { 1795240200123456, 1, 999999, 1000000, -1, 4102444800000001 };
	for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct str arg = pg_arg_time(a, cases[i]);
		struct pg_result *r;
		assert_ok(pg_query(pool, &owner, "SELECT (extract(epoch from $1::timestamptz) * 1000000)::bigint", &arg, 1, a, &r, &err));
		assert_int_equal(pg_i64(r, 0, 0), cases[i]);
	}
	assert_null(pg_arg_time(a, 0).p);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	if (!fixture_url())
		return fixture_skip();
	fixture_migrate();
	const struct CMUnitTest tests[] = {
		CASE(a_query_answers_rows_and_types),
		CASE(a_batch_is_one_transaction),
		CASE(the_same_text_twice_in_a_batch_is_prepared_once),
		CASE(a_wrong_statement_says_what_is_wrong_and_leaves_the_connection_good),
		CASE(text_with_nul_is_refused_before_it_is_sent),
		CASE(settings_are_local_to_the_transaction),
		CASE(the_api_role_may_change_nothing_it_was_not_granted),
		CASE(a_read_only_scope_cannot_write),
		CASE(a_slow_statement_is_stopped_and_the_connection_stays),
		CASE(lost_prepared_statements_are_asked_again),
		CASE(a_pooler_that_keeps_no_statements_is_found_out),
		CASE(a_changed_table_does_not_break_prepared_statements),
		CASE(an_interactive_transaction_looks_before_it_writes),
		CASE(committing_a_failed_transaction_is_an_error),
		CASE(killed_idle_connections_are_replaced_unseen),
		CASE(a_backend_killed_in_mid_statement_says_so_and_nothing_is_written_twice),
		CASE(nobody_there_is_said_within_the_wait_and_then_at_once),
		CASE(many_threads_share_few_connections),
		CASE(waiting_ends_when_the_pool_stays_busy),
		CASE(serialization_failures_are_tried_again),
		CASE(array_elements_are_quoted_as_needed),
		CASE(times_keep_their_microseconds),
	};
	return cmocka_run_group_tests_name("store pg", tests, NULL, NULL);
}
