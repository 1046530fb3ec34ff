/* SPDX-License-Identifier: Apache-2.0
 * What a call costs, and dollars as text. The table was worked out with Python's fractions (round is half to even).
 */
#include "config.h"
#include "ledger/ledger.h"

#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NONE LEDGER_NO_PRICE

static void each_cost_is_exact(void **state)
{
	(void)state;
	static const struct {
		struct ledger_price p;
		struct ledger_usage u;
		int64_t nusd;
		unsigned nlines;
	} cases[] = {
		{ { .input = 1000000000, .cached = NONE, .cache_write = NONE, .output = 2000000000, .reasoning = NONE }, { 120, 0, 0, 300, 0 }, 720000, 2 },
		{ { .input = 1000000000, .cached = 100000000, .cache_write = NONE, .output = 2000000000, .reasoning = NONE }, { 120, 100, 0, 0, 0 }, 30000, 2 },
		{ { .input = 1000000000, .cached = NONE, .cache_write = NONE, .output = 1, .reasoning = NONE }, { 120, 100, 10, 0, 0 }, 120000, 3 },
		{ { .input = 0, .cached = NONE, .cache_write = NONE, .output = 10, .reasoning = 30 }, { 0, 0, 0, 1000000, 400000 }, 18, 2 },
		/* halves go to the even neighbour, once per component */
		{ { .input = 500000, .cached = NONE, .cache_write = NONE, .output = 500000, .reasoning = NONE }, { 1, 0, 0, 1, 0 }, 0, 2 },
		{ { .input = 500000, .cached = NONE, .cache_write = NONE, .output = 0, .reasoning = NONE }, { 3, 0, 0, 0, 0 }, 2, 1 },
		{ { .input = 500000, .cached = NONE, .cache_write = NONE, .output = 0, .reasoning = NONE }, { 5, 0, 0, 0, 0 }, 2, 1 },
		{ { .input = 500001, .cached = NONE, .cache_write = NONE, .output = 0, .reasoning = NONE }, { 1, 0, 0, 0, 0 }, 1, 1 },
		{ { .input = 499999, .cached = NONE, .cache_write = NONE, .output = 0, .reasoning = NONE }, { 1, 0, 0, 0, 0 }, 0, 1 },
		/* a part never exceeds its whole, whatever a provider says */
		{ { .input = 1000000, .cached = 0, .cache_write = NONE, .output = 1000000, .reasoning = NONE }, { 10, 50, 50, 10, 99 }, 10, 2 },
		{ { .input = 1000000, .cached = 0, .cache_write = NONE, .output = 1000000, .reasoning = NONE }, { -10, 0, 0, -1, 0 }, 0, 0 },
		{ { .input = 0, .cached = NONE, .cache_write = NONE, .output = 0, .reasoning = NONE }, { 10, 0, 0, 10, 0 }, 0, 2 },
		/* beyond 64 bits in between */
		{ { .input = INT64_MAX, .cached = NONE, .cache_write = NONE, .output = 0, .reasoning = NONE }, { 1000000, 0, 0, 0, 0 }, INT64_MAX, 1 },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct ledger_line lines[5];
		unsigned n;
		int64_t nusd, sum = 0;
		struct err err = { 0 };
		assert_int_equal(ledger_cost(&cases[i].p, &cases[i].u, lines, &n, &nusd, &err), 0);
		assert_int_equal(nusd, cases[i].nusd);
		assert_int_equal(n, cases[i].nlines);
		for (unsigned k = 0; k < n; k++)
			sum += lines[k].nusd;
		assert_int_equal(sum, nusd);
	}
}

static void a_cost_out_of_range_saturates(void **state)
{
	(void)state;
	struct ledger_price p = { .input = INT64_MAX, .cached = NONE, .cache_write = NONE, .output = INT64_MAX, .reasoning = NONE };
	struct ledger_usage cases[] = { { 1000001, 0, 0, 0, 0 }, { 1000000, 0, 0, 1, 0 }, { INT64_MAX, 0, 0, INT64_MAX, 0 } };
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct ledger_line lines[5];
		struct err err = { 0 };
		unsigned n;
		int64_t nusd;
		assert_int_equal(ledger_cost(&p, &cases[i], lines, &n, &nusd, &err), -1);
		assert_int_equal(err.code, ERR_INVALID);
		assert_int_equal(nusd, INT64_MAX);
	}
}

/* Against Python, on random figures, when there is a python3. */
static void costs_agree_with_python_fractions(void **state)
{
	(void)state;
	struct buf script;
	char line[64];
	buf_init(&script, NULL, 1 << 22);
	buf_c(&script, "python3 -c '\nfrom fractions import Fraction as F\nfor q, u in [");
	int64_t quantities[500], units[500];
	for (int i = 0; i < 500; i++) {
		quantities[i] = (int64_t)(rand_u64() >> (24 + rand_below(39)));
		units[i] = i % 3 ? (int64_t)(rand_u64() >> (24 + rand_below(39))) : (int64_t)rand_below(200) * 250000;
		buf_printf(&script, "(%lld,%lld),", (long long)quantities[i], (long long)units[i]);
	}
	buf_c(&script, "]: print(min(round(F(q * u, 10**6)), 2**63 - 1))' 2>/dev/null");
	FILE *f = popen(buf_cstr(&script), "r");
	assert_non_null(f);
	int n = 0;
	for (; n < 500 && fgets(line, sizeof line, f); n++) {
		struct ledger_price p = { .input = units[n], .cached = NONE, .cache_write = NONE, .output = 0, .reasoning = NONE };
		struct ledger_usage u = { .input = quantities[n] };
		struct ledger_line lines[5];
		unsigned nlines;
		int64_t nusd, expected;
		ledger_cost(&p, &u, lines, &nlines, &nusd, NULL);
		assert_true(str_i64(str_pn(line, strlen(line) - 1), &expected));
		assert_int_equal(nusd, expected);
	}
	pclose(f);
	buf_release(&script);
	if (n == 0)
		skip(); /* no python3 */
	assert_int_equal(n, 500);
}

static void dollars_are_read_exactly(void **state)
{
	(void)state;
	static const struct { const char *text; bool good; int64_t nusd; } cases[] = {
		{ "1.25", true, 1250000000 }, { "0", true, 0 }, { "0.000000001", true, 1 }, { "-0.5", true, -500000000 }, { "00012.5", true, 12500000000 },
		{ "9223372036.854775807", true, INT64_MAX }, { "9223372036.854775808", false, 0 }, { "18446744073709551616", false, 0 },
		{ "0.0000000001", false, 0 }, { "", false, 0 }, { "-", false, 0 }, { ".5", false, 0 }, { "1.", false, 0 }, { "1e3", false, 0 },
		{ " 1", false, 0 }, { "1,5", false, 0 }, { "--1", false, 0 }, { "0x10", false, 0 }, { "NaN", false, 0 }, { "+1", false, 0 },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int64_t nusd = 0;
		assert_int_equal(ledger_parse_usd(str_c(cases[i].text), &nusd), cases[i].good);
		assert_int_equal(nusd, cases[i].nusd);
	}
}

static void dollars_are_printed_and_read_back(void **state)
{
	(void)state;
	static const struct { int64_t nusd; const char *text; } cases[] = {
		{ 0, "0.000000000" }, { 123450, "0.000123450" }, { -1, "-0.000000001" }, { 12500000000, "12.500000000" },
		{ INT64_MAX, "9223372036.854775807" }, { INT64_MIN, "-9223372036.854775808" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char out[32];
		int64_t back;
		ledger_print_usd(cases[i].nusd, out);
		assert_string_equal(out, cases[i].text);
		if (cases[i].nusd != INT64_MIN) {
			assert_true(ledger_parse_usd(str_c(out), &back));
			assert_int_equal(back, cases[i].nusd);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_cost_is_exact),
		cmocka_unit_test(a_cost_out_of_range_saturates),
		cmocka_unit_test(costs_agree_with_python_fractions),
		cmocka_unit_test(dollars_are_read_exactly),
		cmocka_unit_test(dollars_are_printed_and_read_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
