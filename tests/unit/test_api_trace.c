/* SPDX-License-Identifier: Apache-2.0
 * W3C Trace Context: what is taken over from a caller, and what is as if it had not come.
 */
#include "config.h"
#include "api/room.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN "b7ad6b7169203331"

static const struct {
	const char *parent;
	bool taken, sampled;
} parents[] = {
	{ "00-" TRACE "-" SPAN "-01", true, true },
	{ "00-" TRACE "-" SPAN "-00", true, false },
	{ "00-" TRACE "-" SPAN "-03", true, true },
	{ "00-" TRACE "-" SPAN "-f8", true, false },
	{ "cc-" TRACE "-" SPAN "-01-what-comes-later", true, true },
	{ "cc-" TRACE "-" SPAN "-01", true, true },
	{ "cc-" TRACE "-" SPAN "-01.what", false, false },
	{ "00-" TRACE "-" SPAN "-01-more", false, false },
	{ "ff-" TRACE "-" SPAN "-01", false, false },
	{ "00-00000000000000000000000000000000-" SPAN "-01", false, false },
	{ "00-" TRACE "-0000000000000000-01", false, false },
	{ "00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01", false, false },
	{ "00-" TRACE "-" SPAN "-0x", false, false },
	{ "0g-" TRACE "-" SPAN "-01", false, false },
	{ "00-" TRACE "_" SPAN "-01", false, false },
	{ "00-" TRACE "-" SPAN "-0", false, false },
	{ "00-" TRACE "-" SPAN "-01\r\nx: y", false, false },
	{ "", false, false },
};

static void a_parent_is_taken_over_or_the_trace_begins_here(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof parents / sizeof parents[0]; i++) {
		struct trace t;
		trace_take(str_c(parents[i].parent), STR("a=1"), &t);
		if ((strcmp(t.id, TRACE) == 0) != parents[i].taken)
			fail_msg("case %zu: trace %s", i, t.id);
		assert_int_equal(strlen(t.id), 32);
		assert_int_equal(strlen(t.span), 16);
		assert_string_not_equal(t.span, SPAN);
		assert_int_equal(strlen(t.parent), 55);
		assert_memory_equal(t.parent, "00-", 3);
		assert_memory_equal(t.parent + 3, t.id, 32);
		assert_memory_equal(t.parent + 36, t.span, 16);
		assert_string_equal(t.parent + 53, parents[i].sampled ? "01" : "00");
		assert_int_equal(t.state.n, parents[i].taken ? 3 : 0);
	}
}

static void each_request_has_a_span_and_without_a_parent_a_trace_of_its_own(void **state)
{
	struct trace one, two;
	(void)state;
	trace_take(STR_NONE, STR_NONE, &one);
	trace_take(STR_NONE, STR_NONE, &two);
	assert_string_not_equal(one.id, two.id);
	assert_string_not_equal(one.span, two.span);
}

static void a_state_is_passed_on_when_it_is_one(void **state)
{
	static char long_state[600], many[33 * 4 + 1];
	(void)state;
	memset(long_state, 'x', 513);
	memcpy(long_state, "a=", 2);
	for (unsigned i = 0; i < 33; i++)
		memcpy(many + 4 * i, "a=1,", 4);
	const struct {
		const char *text;
		bool kept;
	} cases[] = { { "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", true }, { "a=1, ,b=2", true }, { "a", false }, { "=1", false }, { "a=", false },
		      { ",", false }, { "a=1\r\nevil: 1", false }, { "a=\xc3\xa4", false }, { long_state, false }, { many, false } };
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct trace t;
		trace_take(STR("00-" TRACE "-" SPAN "-01"), str_c(cases[i].text), &t);
		if ((t.state.n > 0) != cases[i].kept)
			fail_msg("case %zu: %s", i, cases[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_parent_is_taken_over_or_the_trace_begins_here),
		cmocka_unit_test(each_request_has_a_span_and_without_a_parent_a_trace_of_its_own),
		cmocka_unit_test(a_state_is_passed_on_when_it_is_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
