/* SPDX-License-Identifier: Apache-2.0
 * Reading the ledger: pages, one request, usage by local days, and that nobody sees another organization's.
 */
#include "config.h"
#include "ledger_fixture.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

static struct ledger *l;
static struct buf out;
static struct json_doc doc;

static void put(const struct ledger_entry *e)
{
	struct ledger_ticket t;
	ledger_submit(l, e, &t);
	assert_ok(ledger_wait(l, t, 5000, &err));
}

static int set_up(void **state)
{
	(void)state;
	empty_tables();
	l = new_ledger(0, 256);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	ledger_free(&l);
	return 0;
}

static struct json parse(void)
{
	if (json_parse(&doc, a, buf_view(&out), &json_limits_request, &err) != 0)
		fail_msg("%s in %s", err.msg, buf_cstr(&out));
	return json_root(&doc);
}

static struct json list(const struct ledger_filter *f)
{
	buf_init(&out, a, 1 << 22);
	assert_ok(ledger_requests(pool, f, a, &out, &err));
	return parse();
}

static struct json usage(const struct ledger_usage_query *q)
{
	buf_init(&out, a, 1 << 22);
	assert_ok(ledger_usage_report(pool, q, a, &out, &err));
	return parse();
}

static struct json member(struct json v, const char *name)
{
	return json_get(v, str_c(name));
}

static int64_t number(struct json v, const char *name)
{
	int64_t n = -1;
	assert_true(json_i64(member(v, name), &n));
	return n;
}

static void assert_text(struct json v, const char *name, const char *expected)
{
	assert_string_equal(arena_cstr(a, json_text(member(v, name), a)), expected);
}

static struct uuid id_of(struct json request)
{
	struct uuid u;
	assert_int_equal(id_parse("req", json_text(member(request, "id"), a), &u), 1);
	return u;
}

static int64_t at(const char *rfc3339)
{
	int64_t us;
	assert_true(clock_parse_rfc3339(str_c(rfc3339), &us));
	return us;
}

/* --- pages --- */

static void pages_walk_all_rows_newest_first_both_ways(void **state)
{
	(void)state;
	struct sample s;
	struct uuid ids[57];
	int64_t now_ms = clock_wall_us() / 1000;
	for (int i = 0; i < 57; i++) { /* over three days, several in a millisecond */
		ledger_submit(l, sample(&s, 1, now_ms - (int64_t)(i / 2) * 3000000, i, 1), NULL);
		ids[i] = s.e.id;
	}
	put(sample(&s, 2, 0, 1, 1));
	for (int i = 1; i < 57; i++) /* put them in the order of lists */
		for (int k = i; k > 0 && memcmp(&ids[k], &ids[k - 1], 16) > 0; k--) {
			struct uuid swap = ids[k];
			ids[k] = ids[k - 1];
			ids[k - 1] = swap;
		}
	struct ledger_filter f = { .organization = some_uuid(1), .limit = 10 };
	int seen = 0;
	for (bool more = true; more;) {
		struct json page = list(&f);
		for (struct json_iter it = json_iter(member(page, "data")); json_next(&it); seen++) {
			f.after = id_of(it.value);
			assert_memory_equal(&f.after, &ids[seen], 16);
		}
		assert_true(json_bool(member(page, "has_more"), &more));
	}
	assert_int_equal(seen, 57);
	f = (struct ledger_filter){ .organization = some_uuid(1), .limit = 10, .before = ids[25] };
	struct json page = list(&f);
	assert_int_equal(json_count(member(page, "data")), 10);
	for (uint32_t i = 0; i < 10; i++) {
		struct uuid u = id_of(json_at(member(page, "data"), i));
		assert_memory_equal(&u, &ids[15 + i], 16);
	}
	struct uuid first, last;
	assert_int_equal(id_parse("req", json_text(member(page, "first_id"), a), &first) + id_parse("req", json_text(member(page, "last_id"), a), &last), 2);
	assert_memory_equal(&first, &ids[15], 16);
	assert_memory_equal(&last, &ids[24], 16);
}

static unsigned count(struct ledger_filter f)
{
	f.organization = some_uuid(1);
	f.limit = 100;
	return json_count(member(list(&f), "data"));
}

static void filters_narrow(void **state)
{
	(void)state;
	struct sample s;
	int64_t now_ms = clock_wall_us() / 1000;
	const struct uuid user = some_uuid(70), other_user = some_uuid(71), key = some_uuid(60), other_key = some_uuid(61);
	ledger_submit(l, sample(&s, 1, now_ms - 5000, 1, 1), NULL);
	sample(&s, 1, now_ms - 4000, 1, 1);
	s.e.status = 503;
	s.e.error_code = STR("upstream_unavailable");
	s.e.user = other_user;
	ledger_submit(l, &s.e, NULL);
	sample(&s, 1, now_ms - 3000, 1, 1);
	s.e.key = other_key;
	s.e.model_matched = STR("gpt-*");
	s.e.end_user = STR("o'neil");
	s.e.provider_name = STR("openai");
	put(&s.e);
	assert_int_equal(count((struct ledger_filter){ 0 }), 3);
	assert_int_equal(count((struct ledger_filter){ .user = &user }), 2);
	assert_int_equal(count((struct ledger_filter){ .user = &other_user }), 1);
	assert_int_equal(count((struct ledger_filter){ .key = &key, .user = &user }), 1);
	assert_int_equal(count((struct ledger_filter){ .model = STR("gpt-*") }), 1);
	assert_int_equal(count((struct ledger_filter){ .model = STR("sim-chat?tokens=3") }), 3);
	assert_int_equal(count((struct ledger_filter){ .provider = STR("openai") }), 1);
	assert_int_equal(count((struct ledger_filter){ .status = STR("5xx") }), 1);
	assert_int_equal(count((struct ledger_filter){ .status = STR("200") }), 2);
	assert_int_equal(count((struct ledger_filter){ .error_code = STR("upstream_unavailable") }), 1);
	assert_int_equal(count((struct ledger_filter){ .end_user = STR("o'neil") }), 1);
	assert_int_equal(count((struct ledger_filter){ .from_us = (now_ms - 4000) * 1000 }), 2);
	assert_int_equal(count((struct ledger_filter){ .from_us = (now_ms - 4000) * 1000 + 1 }), 1);
	assert_int_equal(count((struct ledger_filter){ .to_us = (now_ms - 4000) * 1000 }), 1);
	assert_int_equal(count((struct ledger_filter){ .from_us = (now_ms - 4000) * 1000, .to_us = (now_ms - 3000) * 1000 }), 1);
	struct ledger_filter bad = { .organization = some_uuid(1), .status = STR("9xx") };
	assert_int_equal(ledger_requests(pool, &bad, a, &out, &err), -1);
	assert_string_equal(err.param, "status");
}

/* --- one --- */

static void one_request_tells_everything(void **state)
{
	(void)state;
	struct sample s;
	const struct ledger_filter scope = { .organization = some_uuid(1) };
	sample(&s, 1, 0, 120, 300);
	s.e.counted_deltas = 290;
	s.e.estimated_output = 300;
	s.e.settled_by = LEDGER_COUNTED;
	put(&s.e);
	buf_init(&out, a, 1 << 20);
	assert_int_equal(ledger_request(pool, &scope, s.e.id, a, &out, &err), 1);
	struct json v = parse();
	assert_text(v, "model_requested", "sim-chat?tokens=3");
	assert_text(v, "settled_by", "counted");
	assert_int_equal(number(member(member(v, "usage"), "counted"), "content_deltas"), 290);
	assert_true(json_is(member(member(member(v, "usage"), "counted"), "estimated_input_tokens"), JSON_NULL));
	assert_text(member(v, "cost"), "usd", "0.000720000");
	assert_int_equal(number(member(v, "cost"), "price_version"), 3);
	struct json line = json_at(member(member(v, "cost"), "lines"), 1);
	assert_text(line, "what", "output");
	assert_int_equal(number(line, "quantity"), 300);
	assert_text(line, "unit_usd", "2.000000000");
	assert_text(line, "usd", "0.000600000");
	assert_int_equal(number(member(v, "timings_us"), "upstream"), 1400);
	assert_int_equal(json_count(member(member(v, "route"), "considered")), 1);
	struct json attempt = json_at(member(v, "attempts"), 0);
	assert_text(attempt, "provider", "sim");
	assert_int_equal(number(attempt, "first_byte_us"), 400);
	assert_int_equal(number(member(attempt, "usage"), "output_tokens"), 300);
	assert_true(json_is(member(v, "limits"), JSON_ARRAY));
	assert_true(json_is(member(v, "cache"), JSON_NULL));
}

static void unknown_and_foreign_requests_are_not_found(void **state)
{
	(void)state;
	struct sample s;
	const struct uuid nobody = some_uuid(99);
	put(sample(&s, 1, 0, 1, 1));
	const struct ledger_filter foreign = { .organization = some_uuid(2) }, own = { .organization = some_uuid(1) };
	const struct ledger_filter other_user = { .organization = some_uuid(1), .user = &nobody }, other_key = { .organization = some_uuid(1), .key = &nobody };
	buf_init(&out, a, 1 << 20);
	assert_int_equal(ledger_request(pool, &foreign, s.e.id, a, &out, &err), 0);
	assert_int_equal(ledger_request(pool, &other_user, s.e.id, a, &out, &err), 0);
	assert_int_equal(ledger_request(pool, &other_key, s.e.id, a, &out, &err), 0);
	assert_int_equal(ledger_request(pool, &own, nobody, a, &out, &err), 0);
	assert_int_equal(ledger_request(pool, &own, (struct uuid){ { 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x70 } }, a, &out, &err), 0);
	assert_int_equal(out.n, 0);
}

/* The statement itself names no organization here: the policy alone must hold. */
static void row_level_security_hides_other_organizations(void **state)
{
	(void)state;
	struct sample s;
	const struct uuid two = some_uuid(2);
	put(sample(&s, 1, 0, 1, 1));
	const struct pg_scope scopes[] = { { .role = PG_ROLE_API, .organization = &two, .read_only = true }, { .role = PG_ROLE_API, .read_only = true } };
	for (int i = 0; i < 2; i++) {
		struct pg_result *r;
		assert_ok(pg_query(pool, &scopes[i], "select (select count(*) from headgate.requests) + (select count(*) from headgate.attempts) + "
			"(select count(*) from headgate.usage_rollups)", NULL, 0, a, &r, &err));
		assert_int_equal(pg_i64(r, 0, 0), 0);
	}
}

static void rights_are_narrow(void **state)
{
	(void)state;
	static const struct { enum pg_role role; const char *sql; } refused[] = {
		{ PG_ROLE_API, "insert into headgate.requests select * from headgate.requests" },
		{ PG_ROLE_API, "update headgate.usage_rollups set requests = 0" },
		{ PG_ROLE_API, "delete from headgate.prices" },
		{ PG_ROLE_API, "update headgate.prices set input_nusd = 0" },
		{ PG_ROLE_API, "select headgate.ledger_make_partitions(8)" },
		{ PG_ROLE_API, "select * from headgate.requests_default" },
		{ PG_ROLE_COMMITTER, "update headgate.requests set cost_nusd = 0" },
		{ PG_ROLE_COMMITTER, "delete from headgate.attempts" },
		{ PG_ROLE_COMMITTER, "delete from headgate.usage_rollups" },
		{ PG_ROLE_COMMITTER, "select user_agent from headgate.requests" },
		{ PG_ROLE_COMMITTER, "select headgate.ledger_make_partition('requests', '2001-01-01')" },
		{ PG_ROLE_LOADER, "select * from headgate.requests" },
	};
	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
		const struct pg_scope scope = { .role = refused[i].role };
		struct pg_result *r;
		if (pg_query(pool, &scope, refused[i].sql, NULL, 0, a, &r, &err) == 0)
			fail_msg("allowed: %s", refused[i].sql);
		assert_memory_equal(err.detail, "42501", 5);
	}
}

/* --- usage --- */

/* A call of one input token at each of these times. */
static void put_at(const char *const *times)
{
	struct sample s;
	for (; *times; times++)
		put(sample(&s, 1, at(*times) / 1000, 1, 0));
}

static void assert_days(const char *zone, const char *by, const char *field, const char *const *expected)
{
	struct ledger_usage_query q = { .filter.organization = some_uuid(1), .group_by = str_c(by), .time_zone = str_c(zone) };
	struct json data = member(usage(&q), "data");
	uint32_t i = 0;
	for (; expected[2 * i]; i++) {
		assert_text(json_at(data, i), field, expected[2 * i]);
		assert_int_equal(number(json_at(data, i), "requests"), strtol(expected[2 * i + 1], NULL, 10));
	}
	assert_int_equal(json_count(data), i);
}

static void local_days_follow_the_zone(void **state)
{
	(void)state;
	put_at((const char *const[]){ "2026-03-28T18:14:59.999Z", "2026-03-28T18:15:00Z", "2026-03-28T22:59:59Z", "2026-03-28T23:00:00Z",
				      "2026-03-29T21:59:59Z", "2026-03-29T22:00:00Z", NULL });
	assert_days("", "day", "day", (const char *const[]){ "2026-03-28", "4", "2026-03-29", "2", NULL });
	/* +05:45: the day begins at 18:15 UTC */
	assert_days("Asia/Kathmandu", "day", "day", (const char *const[]){ "2026-03-28", "1", "2026-03-29", "3", "2026-03-30", "2", NULL });
	/* clocks go forward: the 29th lasts from 23:00 UTC to 22:00 UTC, 23 hours */
	assert_days("Europe/Berlin", "day", "day", (const char *const[]){ "2026-03-28", "3", "2026-03-29", "2", "2026-03-30", "1", NULL });
	assert_days("America/St_Johns", "day", "day", (const char *const[]){ "2026-03-28", "4", "2026-03-29", "2", NULL });
	assert_days("Pacific/Chatham", "day", "day", (const char *const[]){ "2026-03-29", "4", "2026-03-30", "2", NULL });
}

static void an_hour_that_occurs_twice_is_two_hours(void **state)
{
	(void)state;
	put_at((const char *const[]){ "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T01:45:00Z", NULL });
	assert_days("Europe/Berlin", "hour", "hour", (const char *const[]){ "2026-10-25T00:00:00.000Z", "1", "2026-10-25T01:00:00.000Z", "2", NULL });
	assert_days("Asia/Kathmandu", "hour", "hour", (const char *const[]){ "2026-10-25T00:15:00.000Z", "1", "2026-10-25T01:15:00.000Z", "2", NULL });
}

static void bad_zones_and_groups_are_refused(void **state)
{
	(void)state;
	static const char *const bad[] = { "Mars/Olympus", "UTC+3", "Foo/Bar+5", "CEST", "MSK", "europe/berlin", "../etc/passwd", "'; drop table x", "posix/UTC",
					   "posixrules", "right/UTC", "<+03>-3", "Europe/Berlin " };
	struct ledger_usage_query q = { .filter.organization = some_uuid(1) };
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		q.time_zone = str_c(bad[i]);
		if (ledger_usage_report(pool, &q, a, &out, &err) == 0)
			fail_msg("accepted %s", bad[i]);
		assert_int_equal(err.code, ERR_INVALID);
		assert_string_equal(err.param, "time_zone");
	}
	q = (struct ledger_usage_query){ .filter.organization = some_uuid(1), .group_by = STR("day,colour") };
	assert_int_equal(ledger_usage_report(pool, &q, a, &out, &err), -1);
	assert_string_equal(err.param, "group_by");
	q = (struct ledger_usage_query){ .filter.organization = some_uuid(1), .group_by = STR("end_user"), .filter.from_us = 1 };
	assert_int_equal(ledger_usage_report(pool, &q, a, &out, &err), -1);
	assert_string_equal(err.param, "from");
}

static void ragged_edges_are_exact(void **state)
{
	(void)state;
	struct sample s;
	int64_t base = at("2026-11-03T10:00:00Z");
	for (int i = 0; i < 400; i++) /* every 17.003 s: over nearly two hours */
		ledger_submit(l, sample(&s, 1, (base + i * INT64_C(17003000)) / 1000, 1 + i, 1), NULL);
	put(sample(&s, 2, base / 1000, 1000000, 1));
	for (int n = 0; n < 60; n++) {
		int64_t from = base + (int64_t)rand_below(7000) * 1000000 + (int64_t)rand_below(1000) * 1000;
		int64_t to = from + (int64_t)rand_below(n % 2 ? 7000 : 1000) * 1000000;
		struct ledger_usage_query q = { .filter = { .organization = some_uuid(1), .from_us = from, .to_us = to }, .group_by = STR("model,hour") };
		int64_t requests = 0, input = 0;
		for (int i = 0; i < 400; i++) {
			int64_t t = base + i * INT64_C(17003000);
			if (t >= from && t < to) {
				requests++;
				input += 1 + i;
			}
		}
		struct json total = member(usage(&q), "total");
		assert_int_equal(number(total, "requests"), requests);
		assert_int_equal(number(total, "input_tokens"), input);
		int64_t nusd;
		assert_true(ledger_parse_usd(json_text(member(total, "cost_usd"), a), &nusd));
		assert_int_equal(nusd, input * 1000 + requests * 2000);
	}
}

static void usage_groups_by_every_dimension(void **state)
{
	(void)state;
	struct sample s;
	for (int i = 0; i < 24; i++) {
		sample(&s, 1, 0, 10, 5);
		s.e.key = some_uuid((unsigned char)(60 + i % 2));
		s.e.user = i % 3 ? some_uuid(70) : (struct uuid){ { 0 } };
		s.e.model_matched = i % 4 ? STR("sim-*") : STR_NONE;
		s.e.end_user = i % 6 ? STR("ann") : STR_NONE;
		if (i == 0)
			s.e.error_code = STR("upstream_timeout");
		ledger_submit(l, &s.e, NULL);
	}
	put(sample(&s, 2, 0, 1, 1));
	static const struct { const char *by; uint32_t groups; } cases[] = { { "", 1 }, { "key", 2 }, { "user", 2 }, { "model", 2 }, { "provider", 1 }, { "project", 1 },
		{ "key,user", 4 }, { "key, model", 3 }, { "key,user,model,provider,project", 6 } };
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct ledger_usage_query q = { .filter.organization = some_uuid(1), .group_by = str_c(cases[i].by) };
		struct json v = usage(&q);
		assert_int_equal(json_count(member(v, "data")), cases[i].groups);
		assert_int_equal(number(member(v, "total"), "requests"), 24);
		assert_int_equal(number(member(v, "total"), "errors"), 1);
	}
	struct ledger_usage_query q = { .filter = { .organization = some_uuid(1), .from_us = clock_wall_us() - INT64_C(86400000000) }, .group_by = STR("end_user") };
	struct json data = member(usage(&q), "data");
	assert_int_equal(json_count(data), 2);
	assert_true(json_is(member(json_at(data, 0), "end_user"), JSON_NULL));
	assert_int_equal(number(json_at(data, 1), "requests"), 20);
	q.group_by = STR_NONE;
	q.filter.error_code = STR("upstream_timeout");
	assert_int_equal(number(member(usage(&q), "total"), "requests"), 1);
	const struct uuid key = some_uuid(60);
	q = (struct ledger_usage_query){ .filter = { .organization = some_uuid(1), .key = &key, .model = STR("sim-*") } };
	assert_int_equal(number(member(usage(&q), "total"), "requests"), 6);
}

/* --- the migration --- */

static void the_migration_goes_down_and_up_again_on_filled_tables(void **state)
{
	(void)state;
	struct sample s;
	char dir[512];
	const char *url = getenv("HEADGATE_TEST_DATABASE_URL"), *src = getenv("HEADGATE_SRCDIR");
	snprintf(dir, sizeof dir, "%s/sql", src ? src : ".");
	put(sample(&s, 1, 0, 1, 1));
	assert_ok(migrate_down(url, dir, 3, NULL, NULL, &err));
	assert_int_equal(number_of("select count(*) from pg_class where relnamespace = 'headgate'::regnamespace and relname ~ '^(requests|attempts|usage_rollups|prices)'"), 0);
	assert_ok(migrate_up(url, dir, 0, NULL, NULL, &err));
	assert_int_equal(number_of("select count(*) from pg_inherits where inhparent = 'headgate.requests'::regclass"), 11); /* -1 .. 8, default */
	put(&s.e);
	assert_int_equal(number_of(agree_sql), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(pages_walk_all_rows_newest_first_both_ways, set_up, tear_down),
		cmocka_unit_test_setup_teardown(filters_narrow, set_up, tear_down),
		cmocka_unit_test_setup_teardown(one_request_tells_everything, set_up, tear_down),
		cmocka_unit_test_setup_teardown(unknown_and_foreign_requests_are_not_found, set_up, tear_down),
		cmocka_unit_test_setup_teardown(row_level_security_hides_other_organizations, set_up, tear_down),
		cmocka_unit_test_setup_teardown(rights_are_narrow, set_up, tear_down),
		cmocka_unit_test_setup_teardown(local_days_follow_the_zone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_hour_that_occurs_twice_is_two_hours, set_up, tear_down),
		cmocka_unit_test_setup_teardown(bad_zones_and_groups_are_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(ragged_edges_are_exact, set_up, tear_down),
		cmocka_unit_test_setup_teardown(usage_groups_by_every_dimension, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_migration_goes_down_and_up_again_on_filled_tables, set_up, tear_down),
	};
	if (!getenv("HEADGATE_TEST_DATABASE_URL")) {
		puts("1..0 # SKIP HEADGATE_TEST_DATABASE_URL is not set, see tests/tools/with_postgres");
		return 0;
	}
	return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
