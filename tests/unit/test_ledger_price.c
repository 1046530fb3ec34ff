/* SPDX-License-Identifier: Apache-2.0
 * Which price a call gets: the longest name, the newest version in force. The look-up alone, then rows, versions and changes in
 * PostgreSQL.
 */
#include "config.h"
#include "ledger_fixture.h"

#include "ledger/price.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define NONE LEDGER_NO_PRICE

/* --- the look-up --- */

static struct ledger_price price(unsigned char provider, const char *model, int64_t version, int64_t effective_us)
{
	return (struct ledger_price){ .id = some_uuid((unsigned char)version), .provider = some_uuid(provider), .model = str_c(model), .version = version,
				      .effective_us = effective_us, .input = 1, .cached = NONE, .cache_write = NONE, .output = 2, .reasoning = NONE };
}

static void the_longest_name_in_force_wins(void **state)
{
	(void)state;
	const struct ledger_price rows[] = {
		price(1, "*", 1, 0), price(1, "gpt-*", 2, 0), price(1, "gpt-4*", 3, 0), price(1, "gpt-4o", 4, 0), price(1, "gpt-4o*", 5, 0),
		price(1, "gpt-5", 6, 1000), price(1, "gpt-4o", 7, 500), price(1, "gpt-4o", 8, 500), price(1, "gpt-4o", 9, 2000), price(2, "gpt-4o-mini", 10, 0),
		price(3, "a*c", 11, 0),
	};
	static const struct { unsigned char provider; const char *model; int64_t now; int64_t version; } cases[] = {
		{ 1, "claude", 100, 1 }, { 1, "gpt-3", 100, 2 }, { 1, "gpt-41", 100, 3 }, { 1, "gpt-4o", 100, 4 }, { 1, "gpt-4o-mini", 100, 5 },
		{ 1, "gpt-4o", 500, 8 }, { 1, "gpt-4o", 1999, 8 }, { 1, "gpt-4o", 2000, 9 }, { 1, "gpt-5", 999, 2 }, { 1, "gpt-5", 1000, 6 },
		{ 1, "", 100, 1 }, { 1, "gpt-4", 100, 3 }, { 1, "gpt-", 100, 2 }, { 1, "gpt", 100, 1 }, { 2, "gpt-4o", 100, 0 }, { 2, "gpt-4o-mini", 100, 10 },
		{ 2, "gpt-4o-mini", -1, 0 }, { 3, "abc", 100, 0 }, { 4, "x", 100, 0 },
	};
	struct price_set *set = price_set_new(rows, sizeof rows / sizeof rows[0]);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const struct ledger_price *p = price_set_find(set, some_uuid(cases[i].provider), str_c(cases[i].model), cases[i].now);
		assert_int_equal(p ? p->version : 0, cases[i].version);
	}
	price_set_free(&set);
}

static void a_thousand_names_of_every_length_are_found(void **state)
{
	(void)state;
	struct ledger_price rows[1024];
	char names[1024][260], asked[4096];
	for (size_t i = 0; i < 1024; i++) {
		memset(names[i], 'a' + (int)(i % 4), 256);
		names[i][i / 4] = '*';
		names[i][i / 4 + 1] = '\0';
		rows[i] = price(1, names[i], (int64_t)i + 1, 0);
	}
	struct price_set *set = price_set_new(rows, 1024);
	memset(asked, 'c', sizeof asked);
	for (size_t n = 0; n < sizeof asked; n += n < 300 ? 1 : 511) {
		const struct ledger_price *p = price_set_find(set, some_uuid(1), str_pn(asked, n), 0);
		assert_non_null(p);
		assert_int_equal(p->version, n == 0 ? p->version : (int64_t)(n > 255 ? 255 : n) * 4 + 3);
	}
	price_set_free(&set);
	set = price_set_new(NULL, 0);
	assert_null(price_set_find(set, some_uuid(1), STR("x"), 0));
	price_set_free(&set);
}

/* --- rows --- */

static struct ledger *l;

static int set_up(void **state)
{
	(void)state;
	ask("delete from headgate.prices");
	l = new_ledger(0, 16);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	ledger_free(&l);
	return 0;
}

static struct ledger_price_new wanted(const char *model, int64_t input)
{
	return (struct ledger_price_new){ .provider = some_uuid(1), .model = str_c(model), .input = input, .cached = NONE, .cache_write = NONE, .output = 5, .reasoning = NONE };
}

static void a_new_version_is_used_and_the_old_one_stays(void **state)
{
	(void)state;
	struct ledger_price made, found;
	struct ledger_price_new in = wanted("sim-*", 1000000000);
	bool created;
	int64_t changes = number_of("select count(*) from headgate.changes where kind = 'price'");
	assert_int_equal(ledger_price_find(l, some_uuid(1), STR("sim-chat"), clock_wall_us(), &found, &err), 0);
	assert_ok(ledger_price_put(l, &in, &made, &created, a, &err));
	assert_true(created && made.version == 1 && made.cached == NONE && made.effective_us > 0);
	assert_ok(ledger_price_put(l, &in, &made, &created, a, &err));
	assert_false(created);
	assert_int_equal(ledger_price_find(l, some_uuid(1), STR("sim-chat"), clock_wall_us() + 1000000, &found, &err), 1);
	assert_int_equal(found.version, 1);
	assert_memory_equal(&found.id, &made.id, sizeof made.id);
	in.cached = 5;
	assert_ok(ledger_price_put(l, &in, &made, &created, a, &err));
	assert_true(created && made.version == 2);
	assert_int_equal(ledger_price_find(l, some_uuid(1), STR("sim-chat"), clock_wall_us() + 1000000, &found, &err), 1);
	assert_true(found.version == 2 && found.cached == 5 && found.reasoning == NONE);
	assert_int_equal(number_of("select count(*) from headgate.changes where kind = 'price'"), changes + 2);
	struct ledger_price *rows;
	unsigned n;
	assert_ok(ledger_price_list(l, a, &rows, &n, &err));
	assert_int_equal(n, 2);
	assert_true(str_eq_c(rows[1].model, "sim-*") && rows[1].version == 2);
}

static void a_price_of_tomorrow_waits(void **state)
{
	(void)state;
	struct ledger_price made, found;
	struct ledger_price_new in = wanted("m", 7);
	bool created;
	int64_t now = clock_wall_us();
	assert_ok(ledger_price_put(l, &in, &made, &created, a, &err));
	in.effective_us = now + INT64_C(86400000000);
	in.input = 9;
	assert_ok(ledger_price_put(l, &in, &made, &created, a, &err));
	assert_true(created && made.effective_us == in.effective_us);
	assert_int_equal(ledger_price_find(l, some_uuid(1), STR("m"), now + 1000000, &found, &err), 1);
	assert_int_equal(found.input, 7);
	assert_int_equal(ledger_price_find(l, some_uuid(1), STR("m"), in.effective_us, &found, &err), 1);
	assert_int_equal(found.input, 9);
}

static void wrong_prices_are_refused_by_name(void **state)
{
	(void)state;
	struct ledger_price made;
	bool created;
	struct ledger_price_new cases[] = { wanted("", 1), wanted("a*b", 1), wanted("**", 1), wanted("m", -1), wanted("m", NONE), wanted("m", 1) };
	static const char *const params[] = { "model", "model", "model", "input_usd", "input_usd", "reasoning_usd" };
	cases[5].reasoning = -5;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(ledger_price_put(l, &cases[i], &made, &created, a, &err), -1);
		assert_int_equal(err.code, ERR_INVALID);
		assert_string_equal(err.param, params[i]);
	}
}

static void *put_one(void *u)
{
	struct arena *own = arena_new(1 << 20);
	struct ledger_price made;
	struct err e = { 0 };
	bool created;
	struct ledger_price_new in = wanted("raced", 1 + *(int *)u);
	if (ledger_price_put(l, &in, &made, &created, own, &e) != 0)
		abort();
	arena_free(&own);
	return NULL;
}

static void writers_at_once_get_versions_in_a_row(void **state)
{
	(void)state;
	pthread_t threads[8];
	int n[8];
	for (int i = 0; i < 8; i++) {
		n[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, put_one, &n[i]), 0);
	}
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(number_of("select count(*) from headgate.prices where model = 'raced'"), 8);
	assert_int_equal(number_of("select max(version) from headgate.prices where model = 'raced'"), 8);
}

int main(void)
{
	const struct CMUnitTest alone[] = {
		cmocka_unit_test(the_longest_name_in_force_wins),
		cmocka_unit_test(a_thousand_names_of_every_length_are_found),
	};
	const struct CMUnitTest all[] = {
		alone[0], alone[1],
		cmocka_unit_test_setup_teardown(a_new_version_is_used_and_the_old_one_stays, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_price_of_tomorrow_waits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(wrong_prices_are_refused_by_name, set_up, tear_down),
		cmocka_unit_test_setup_teardown(writers_at_once_get_versions_in_a_row, set_up, tear_down),
	};
	if (!getenv("HEADGATE_TEST_DATABASE_URL"))
		return cmocka_run_group_tests(alone, NULL, NULL);
	return cmocka_run_group_tests(all, fixture_start, fixture_stop);
}
