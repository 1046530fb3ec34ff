/* SPDX-License-Identifier: Apache-2.0
 * The parameters in a model name.
 */
#include "config.h"
#include "sim/behaviour.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "base/arena.h"

static struct arena *a;
static struct sim_behaviour b;
static struct err err;

static int parse(const char *model)
{
	err_clear(&err);
	return sim_behaviour_parse(str_c(model), a, &b, &err);
}

static int setup(void **state)
{
	(void)state;
	a = arena_new(1 << 20);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_free(&a);
	return 0;
}

static void a_plain_name_asks_for_nothing(void **state)
{
	(void)state;
	assert_int_equal(parse("sim-chat"), 0);
	assert_int_equal(b.status, -1);
	assert_int_equal(b.tokens, -1);
	assert_false(b.silent);
	assert_null(b.tool.p);
	assert_false(sim_behaviour_has_fault(&b));
}

static void every_parameter_of_the_issue_is_read(void **state)
{
	(void)state;
	assert_int_equal(parse("sim-chat?first_token_ms=200&tokens_per_s=50&tokens=120&status=503&retry_after=1&fail_times=2&reset_after=3"
			       "&cut_after=4&garbage=1&silent=1&usage=wrong&body_bytes=9&tool=f"), 0);
	assert_int_equal(b.first_token_ms, 200);
	assert_int_equal(b.tokens_per_ks, 50000);
	assert_int_equal(b.tokens, 120);
	assert_int_equal(b.status, 503);
	assert_int_equal(b.retry_after_ms, 1000);
	assert_int_equal(b.fail_times, 2);
	assert_int_equal(b.reset_after, 3);
	assert_int_equal(b.cut_after, 4);
	assert_true(b.garbage && b.silent);
	assert_int_equal(b.usage, SIM_USAGE_WRONG);
	assert_int_equal(b.body_bytes, 9);
	assert_true(str_eq_c(b.tool, "f"));
}

static void decimals_are_read_exactly(void **state)
{
	static const struct {
		const char *model;
		int64_t want;
	} cases[] = { { "sim-x?retry_after=0.5", 500 }, { "sim-x?retry_after=0.05", 50 }, { "sim-x?retry_after=1.234", 1234 }, { "sim-x?retry_after=7", 7000 } };
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(parse(cases[i].model), 0);
		assert_int_equal(b.retry_after_ms, cases[i].want);
	}
}

static void what_is_wrong_is_refused_and_named(void **state)
{
	static const struct {
		const char *model, *named;
	} cases[] = {
		{ "sim-chat?speed=3", "`speed`" },		{ "sim-chat?tokens=x", "`tokens`" },
		{ "sim-chat?tokens=", "`tokens`" },		{ "sim-chat?tokens", "`tokens`" },
		{ "sim-chat?tokens=-1", "`tokens`" },		{ "sim-chat?status=200", "`status`" },
		{ "sim-chat?retry_after=1.2345", "`retry_after`" }, { "sim-chat?retry_after=.", "`retry_after`" },
		{ "sim-chat?garbage=yes", "`garbage`" },	{ "sim-chat?usage=none", "`usage`" },
		{ "sim-chat?content_type=xml", "`content_type`" }, { "sim-chat?tool=", "`tool`" },
		{ "sim-chat?tokens=99999999999999999999", "`tokens`" }, { "sim-chat?&", "``" },
		{ "sim-chat?chunk_bytes=0", "`chunk_bytes`" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(parse(cases[i].model), -1);
		assert_int_equal(err.code, ERR_INVALID);
		assert_string_equal(err.param, "model");
		assert_non_null(strstr(err.msg, cases[i].named));
	}
}

static void other_models_do_not_exist(void **state)
{
	(void)state;
	assert_int_equal(parse("gpt-5"), -1);
	assert_int_equal(err.code, ERR_MODEL_NOT_FOUND);
	assert_int_equal(parse(""), -1);
	assert_int_equal(err.code, ERR_MODEL_NOT_FOUND);
}

static void escapes_in_text_are_undone(void **state)
{
	(void)state;
	assert_int_equal(parse("sim-chat?tool=a%26b%3"), 0);
	assert_true(str_eq_c(b.tool, "a&b%3"));
}

static void healing_takes_faults_and_leaves_size(void **state)
{
	(void)state;
	assert_int_equal(parse("sim-chat?tokens=5&status=500&reset_after=1&drop=1&content_type=html&stall_after=0"), 0);
	assert_true(sim_behaviour_has_fault(&b));
	sim_behaviour_heal(&b);
	assert_false(sim_behaviour_has_fault(&b));
	assert_int_equal(b.tokens, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_plain_name_asks_for_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(every_parameter_of_the_issue_is_read, setup, teardown),
		cmocka_unit_test_setup_teardown(decimals_are_read_exactly, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_wrong_is_refused_and_named, setup, teardown),
		cmocka_unit_test_setup_teardown(other_models_do_not_exist, setup, teardown),
		cmocka_unit_test_setup_teardown(escapes_in_text_are_undone, setup, teardown),
		cmocka_unit_test_setup_teardown(healing_takes_faults_and_leaves_size, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
