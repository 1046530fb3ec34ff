/* SPDX-License-Identifier: Apache-2.0
 * Errors as values: the table is whole, texts are cut cleanly and may be made of the error they replace.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

static void every_code_stands_in_the_table(void **state)
{
	(void)state;
	for (int c = ERR_NONE + 1; c < ERR_COUNT; c++) {
		const struct err_info *info = err_info((enum err_code)c);
		if (info->status < 400 || info->status > 599 || !*info->type || !*info->name)
			fail_msg("code %d is not in the table", c);
		assert_int_equal(info->code, c);
	}
	assert_int_equal(err_info((enum err_code)9999)->status, 500);
	assert_int_equal(err_info((enum err_code)-1)->status, 500);
}

static void setting_returns_minus_one_and_clears_the_rest(void **state)
{
	(void)state;
	struct err err = { 0 };
	assert_int_equal(err_set_param(&err, ERR_INVALID, "a.b", "%s is %d", "x", 5), -1);
	assert_string_equal(err.msg, "x is 5");
	assert_string_equal(err.param, "a.b");
	assert_int_equal(err_status(&err), 400);
	assert_int_equal(err_detail(&err, "one"), -1);
	assert_int_equal(err_detail(&err, ", two"), -1);
	assert_string_equal(err.detail, "one, two");
	assert_int_equal(err_while(&err, "reading %s", "y"), -1);
	assert_string_equal(err.msg, "x is 5 while reading y");
	err.http_status = 418;
	err.retry_after_ms = 7;
	assert_int_equal(err_status(&err), 418);
	assert_int_equal(err_set(&err, ERR_BUSY, "full"), -1);
	assert_true(err.param[0] == '\0' && err.detail[0] == '\0' && err.retry_after_ms == 0);
	assert_int_equal(err_status(&err), 503);
	assert_int_equal(err_set(NULL, ERR_BUSY, "full") + err_set_param(NULL, ERR_BUSY, "p", "f") + err_detail(NULL, "d") + err_while(NULL, "w"), -4);
}

static void a_text_may_quote_the_error_it_replaces(void **state)
{
	(void)state;
	struct err err = { 0 };
	err_set_param(&err, ERR_INVALID, "p", "inner");
	err_set_param(&err, ERR_INTERNAL, err.param, "outer: %s", err.msg);
	assert_string_equal(err.msg, "outer: inner");
	assert_string_equal(err.param, "p");
	err_while(&err, "(%s)", err.msg);
	assert_string_equal(err.msg, "outer: inner while (outer: inner)");
	err_set_param(&err, ERR_INVALID, NULL, "x");
	assert_string_equal(err.param, "");
}

static void a_cut_text_stays_utf8(void **state)
{
	(void)state;
	char text[600];
	for (size_t shift = 0; shift < 4; shift++) {
		struct err err = { 0 };
		memset(text, 'x', shift);
		for (size_t i = shift; i + 4 < sizeof text; i += 4)
			memcpy(text + i, "\xF0\x9F\x99\x82", 4);
		text[596 + shift % 4 - shift % 4] = '\0';
		err_set_param(&err, ERR_INVALID, text, "%s", text);
		assert_true(strlen(err.msg) >= sizeof err.msg - 4 && str_is_utf8(str_c(err.msg)));
		assert_true(strlen(err.param) >= sizeof err.param - 4 && str_is_utf8(str_c(err.param)));
		err_while(&err, "%s", text);
		err_detail(&err, "%s", text);
		err_detail(&err, "%s", text);
		assert_true(str_is_utf8(str_c(err.msg)) && str_is_utf8(str_c(err.detail)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_code_stands_in_the_table),
		cmocka_unit_test(setting_returns_minus_one_and_clears_the_rest),
		cmocka_unit_test(a_text_may_quote_the_error_it_replaces),
		cmocka_unit_test(a_cut_text_stays_utf8),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
