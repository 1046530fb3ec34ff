/* SPDX-License-Identifier: Apache-2.0
 * Migrations: all of sql/ up, down and up again on filled tables; what stops a runner; two runners; a table that is locked.
 * Runs in a database of its own, beside the one the other tests share, so roles that are in use elsewhere are seen to stay.
 */
#include "config.h"
#include "store_fixture.h"

#include "base/buf.h"
#include "base/clock.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

static char url[512], dir[64];
static struct arena *a;
static struct err err;

/* --- plain libpq: CREATE DATABASE stands in no transaction --- */

static char *query_at(const char *where, const char *sql)
{
	PGconn *c = PQconnectdb(where);
	if (PQstatus(c) != CONNECTION_OK)
		fail_msg("%s", PQerrorMessage(c));
	PQclear(PQexec(c, "SET client_min_messages = warning"));
	PGresult *r = PQexec(c, sql);
	if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
		fail_msg("%.200s: %s", sql, PQerrorMessage(c));
	char *text = arena_cstr(a, PQntuples(r) ? str_c(PQgetvalue(r, 0, 0)) : STR(""));
	PQclear(r);
	PQfinish(c);
	return text;
}

static char *query(const char *sql)
{
	return query_at(url, sql);
}

static int set_up(void **state)
{
	(void)state;
	a = arena_new(1 << 26);
	snprintf(dir, sizeof dir, "/tmp/hgmigrate.XXXXXX");
	assert_non_null(mkdtemp(dir));
	query_at(fixture_url(), "DROP DATABASE IF EXISTS headgate_migrate");
	query_at(fixture_url(), "CREATE DATABASE headgate_migrate");
	snprintf(url, sizeof url, "%s dbname=headgate_migrate", fixture_url());
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	query_at(fixture_url(), "DROP DATABASE IF EXISTS headgate_migrate WITH (FORCE)");
	char command[128];
	snprintf(command, sizeof command, "rm -rf %s", dir);
	assert_int_equal(system(command), 0);
	arena_free(&a);
	return 0;
}

#define assert_ok(call)                                                                                               \
	do {                                                                                                          \
		if ((call) != 0)                                                                                      \
			fail_msg("%s: %s (%s)", #call, err.msg, err.detail);                                          \
	} while (0)

static char *read_file(const char *path)
{
	struct buf b;
	buf_init(&b, a, 1 << 20);
	FILE *f = fopen(path, "r");
	if (!f)
		fail_msg("cannot open %s", path);
	b.n = fread(buf_reserve(&b, 1 << 19), 1, 1 << 19, f);
	fclose(f);
	return arena_cstr(a, buf_view(&b));
}

static void fill(void)
{
	char path[512];
	snprintf(path, sizeof path, "%s/tests/data/sql/fill.sql", getenv("HEADGATE_SRCDIR"));
	query(read_file(path));
}

/* Everything a migration can leave behind, as one text. */
static char *describe_schema(void)
{
	static const char sql[] =
		"SELECT string_agg(line, E'\\n' ORDER BY line) FROM ("
		" SELECT format('%s %s %s', c.relkind, c.relname, c.relacl) || ' ' || c.relrowsecurity AS line FROM pg_class c"
		"  WHERE relnamespace = 'headgate'::regnamespace"
		" UNION ALL SELECT format('%s.%s %s %s %s %s', c.relname, attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid), attacl)"
		"  FROM pg_attribute t JOIN pg_class c ON c.oid = attrelid LEFT JOIN pg_attrdef d ON d.adrelid = attrelid AND d.adnum = attnum"
		"  WHERE relnamespace = 'headgate'::regnamespace AND attnum > 0 AND NOT attisdropped"
		" UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class c ON c.oid = indrelid WHERE relnamespace = 'headgate'::regnamespace"
		" UNION ALL SELECT format('%s %s', conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace = 'headgate'::regnamespace"
		" UNION ALL SELECT format('%s %s %s', pg_get_functiondef(oid), proacl, prosecdef) FROM pg_proc WHERE pronamespace = 'headgate'::regnamespace"
		" UNION ALL SELECT format('%s', p) FROM pg_policies p WHERE schemaname = 'headgate'"
		" UNION ALL SELECT format('%s %s', nspname, nspacl) FROM pg_namespace WHERE nspname = 'headgate'"
		") x";
	return query(sql);
}

static unsigned newest(void)
{
	struct migrate_step *steps;
	unsigned n;
	assert_ok(migrate_list(url, fixture_sql_dir(), a, &steps, &n, &err));
	return steps[n - 1].number;
}

static void the_programs_ask_for_the_newest_migration(void **state)
{
	(void)state;
	assert_int_equal(newest(), MIGRATE_NEWEST);
}

static void filling_leaves_no_table_empty(void **state)
{
	(void)state;
	assert_ok(migrate_up(url, fixture_sql_dir(), 0, NULL, NULL, &err));
	fill();
	query("ANALYZE");
	char *empty = query("SELECT string_agg(c.relname, ', ') FROM pg_class c WHERE relnamespace = 'headgate'::regnamespace AND relkind IN ('r', 'p')"
			    " AND NOT relispartition AND (xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM headgate.%I', relname), false, true, '')))[1]::text = '0'");
	assert_string_equal(empty, "");
}

static void every_migration_goes_down_and_up_on_filled_tables(void **state)
{
	(void)state;
	assert_ok(migrate_up(url, fixture_sql_dir(), 0, NULL, NULL, &err));
	char *expected = describe_schema();
	assert_true(strlen(expected) > 5000);
	for (unsigned to = newest(); to-- > 0;) {
		fill();
		assert_ok(migrate_down(url, fixture_sql_dir(), to, NULL, NULL, &err));
		if (to == 0)
			assert_string_equal(query("SELECT count(*) FROM pg_namespace WHERE nspname = 'headgate'"), "0");
		assert_ok(migrate_up(url, fixture_sql_dir(), 0, NULL, NULL, &err));
		char *again = describe_schema();
		if (strcmp(again, expected) != 0)
			fail_msg("after down to %u and up again the schema differs:\n%s\n--- was ---\n%s", to, again, expected);
		assert_ok(migrate_down(url, fixture_sql_dir(), 0, NULL, NULL, &err)); /* empty for the next round */
		assert_ok(migrate_up(url, fixture_sql_dir(), 0, NULL, NULL, &err));
	}
}

static void up_again_changes_nothing(void **state)
{
	(void)state;
	assert_ok(migrate_up(url, fixture_sql_dir(), 0, NULL, NULL, &err));
	char *applied = query("SELECT string_agg(applied_at::text, ',') FROM headgate.schema_migrations");
	assert_ok(migrate_up(url, fixture_sql_dir(), 0, NULL, NULL, &err));
	assert_string_equal(query("SELECT string_agg(applied_at::text, ',') FROM headgate.schema_migrations"), applied);
}

static void the_login_role_inherits_nothing_and_may_become_four_roles(void **state)
{
	(void)state;
	assert_ok(migrate_up(url, fixture_sql_dir(), 1, NULL, NULL, &err));
	assert_string_equal(query("SELECT rolcanlogin AND NOT rolinherit AND NOT rolsuper AND NOT rolcreaterole AND NOT rolbypassrls FROM pg_roles WHERE rolname = 'headgate'"), "t");
	assert_string_equal(query("SELECT string_agg(r.rolname, ',' ORDER BY r.rolname) FROM pg_auth_members m JOIN pg_roles r ON r.oid = roleid JOIN pg_roles u ON u.oid = member WHERE u.rolname = 'headgate'"),
			    "headgate_api,headgate_committer,headgate_loader,headgate_worker");
	assert_string_equal(query("SELECT bool_or(rolcanlogin OR rolbypassrls OR rolsuper) FROM pg_roles WHERE rolname LIKE 'headgate\\_%'"), "f");
}

static unsigned notices;
static void count_notices(void *u, const char *line)
{
	(void)u;
	notices += strstr(line, "stays: it is in use") != NULL;
}

static void roles_that_another_database_uses_stay(void **state)
{
	(void)state;
	fixture_migrate(); /* the other database */
	assert_ok(migrate_up(url, fixture_sql_dir(), 1, NULL, NULL, &err));
	notices = 0;
	assert_ok(migrate_down(url, fixture_sql_dir(), 0, count_notices, NULL, &err));
	assert_int_equal(notices, 6);
	assert_string_equal(query("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'headgate%'"), "6");
}

/* --- directories of our own --- */

static void write_sql(const char *name, const char *text)
{
	char path[128];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void a_file_changed_after_it_was_applied_stops_everything(void **state)
{
	(void)state;
	write_sql("0001_one.up.sql", "CREATE TABLE headgate.one (i int);");
	assert_ok(migrate_up(url, dir, 0, NULL, NULL, &err));
	write_sql("0001_one.up.sql", "CREATE TABLE headgate.one (i bigint);");
	write_sql("0002_two.up.sql", "CREATE TABLE headgate.two (i int);");
	assert_int_equal(migrate_up(url, dir, 0, NULL, NULL, &err), -1);
	assert_int_equal(err.code, ERR_CONFIG);
	assert_string_equal(err.msg, "migration 0001_one was changed after it was applied");
	assert_string_equal(query("SELECT to_regclass('headgate.two') IS NULL"), "t");
}

static void a_step_that_fails_leaves_nothing_and_is_named(void **state)
{
	(void)state;
	write_sql("0001_one.up.sql", "CREATE TABLE headgate.one (i int);");
	write_sql("0002_two.up.sql", "CREATE TABLE headgate.two (i int); SELECT 1/0;");
	assert_int_equal(migrate_up(url, dir, 0, NULL, NULL, &err), -1);
	assert_string_equal(err.msg, "the database refused: division by zero while applying 0002_two");
	assert_string_equal(query("SELECT to_regclass('headgate.two') IS NULL AND to_regclass('headgate.one') IS NOT NULL"), "t");
	write_sql("0002_two.up.sql", "CREATE TABLE headgate.two (i int);");
	assert_ok(migrate_up(url, dir, 0, NULL, NULL, &err));
}

static void two_files_of_one_number_are_refused(void **state)
{
	(void)state;
	write_sql("0001_one.up.sql", "SELECT 1;");
	write_sql("0001_uno.up.sql", "SELECT 1;");
	assert_int_equal(migrate_up(url, dir, 0, NULL, NULL, &err), -1);
	assert_non_null(strstr(err.msg, "two migrations have the number 1"));
	assert_int_equal(migrate_up(url, "/nonexistent", 0, NULL, NULL, &err), -1);
	assert_int_equal(err.code, ERR_CONFIG);
}

static void a_newer_database_is_left_alone(void **state)
{
	(void)state;
	struct migrate_step *steps;
	unsigned n;
	write_sql("0001_one.up.sql", "SELECT 1;");
	assert_ok(migrate_up(url, dir, 0, NULL, NULL, &err));
	query("INSERT INTO headgate.schema_migrations (number, name, checksum) VALUES (9, 'of the future', 'x')");
	assert_ok(migrate_up(url, dir, 0, NULL, NULL, &err));
	assert_ok(migrate_list(url, dir, a, &steps, &n, &err));
	assert_int_equal(n, 2);
	assert_true(steps[1].applied && steps[1].number == 9);
	assert_int_equal(migrate_down(url, dir, 0, NULL, NULL, &err), -1);
	assert_non_null(strstr(err.msg, "0009_of the future.down.sql"));
}

/* --- at the same time --- */

static void *run_up(void *p)
{
	return (void *)(intptr_t)migrate_up(url, fixture_sql_dir(), 0, NULL, NULL, p);
}

static void two_runners_take_turns(void **state)
{
	(void)state;
	pthread_t threads[3];
	struct err errs[3];
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, run_up, &errs[i]);
	for (int i = 0; i < 3; i++) {
		void *rc;
		pthread_join(threads[i], &rc);
		if (rc)
			fail_msg("%s (%s)", errs[i].msg, errs[i].detail);
	}
}

/* Counts the lines that tell of giving way. */
static void count_ways_given(void *u, const char *line)
{
	if (strstr(line, "0002_two gives way"))
		++*(unsigned *)u;
}

/* Holds a lock as a long report would, in a session of its own, and lets it go after 2.5 seconds. */
static void *hold_lock(void *p)
{
	PGconn *c = p;
	PQclear(PQexec(c, "SELECT pg_sleep(2.5); COMMIT"));
	return NULL;
}

static void a_locked_table_is_waited_for_in_small_steps(void **state)
{
	(void)state;
	pthread_t thread;
	write_sql("0001_one.up.sql", "CREATE TABLE headgate.one (i int);");
	assert_ok(migrate_up(url, dir, 0, NULL, NULL, &err));
	write_sql("0002_two.up.sql", "ALTER TABLE headgate.one ADD COLUMN j int;");
	PGconn *c = PQconnectdb(url);
	PQclear(PQexec(c, "BEGIN; LOCK TABLE headgate.one IN ACCESS SHARE MODE"));
	unsigned ways = 0;
	uint64_t from_us = clock_now_us();
	pthread_create(&thread, NULL, hold_lock, c);
	assert_ok(migrate_up(url, dir, 0, count_ways_given, &ways, &err));
	assert_in_range(ways, 1, 3);
	assert_in_range(clock_now_us() - from_us, 2000000, 6000000);
	pthread_join(thread, NULL);
	PQfinish(c);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	if (!fixture_url())
		return fixture_skip();
	const struct CMUnitTest tests[] = {
		CASE(the_programs_ask_for_the_newest_migration),
		CASE(filling_leaves_no_table_empty),
		CASE(every_migration_goes_down_and_up_on_filled_tables),
		CASE(up_again_changes_nothing),
		CASE(the_login_role_inherits_nothing_and_may_become_four_roles),
		CASE(roles_that_another_database_uses_stay),
		CASE(a_file_changed_after_it_was_applied_stops_everything),
		CASE(a_step_that_fails_leaves_nothing_and_is_named),
		CASE(two_files_of_one_number_are_refused),
		CASE(a_newer_database_is_left_alone),
		CASE(two_runners_take_turns),
		CASE(a_locked_table_is_waited_for_in_small_steps),
	};
	return cmocka_run_group_tests_name("store migrate", tests, NULL, NULL);
}
