/* SPDX-License-Identifier: Apache-2.0
 * Dollars per token, as other people's tables write them, in nano-dollars per million: exact, without floating point.
 */
#include "config.h"
#include "ctl/ctl_price.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void decimal_text_becomes_whole_nano_dollars(void **state)
{
	(void)state;
	static const struct { const char *text; int64_t nusd; } cases[] = {
		{ "2.5e-06", 2500000000 },
		{ "0.0000025", 2500000000 },
		{ "1.25e-06", 1250000000 },
		{ "1E-5", 10000000000 },
		{ "1e-15", 1 },
		{ "0", 0 },
		{ "0.0", 0 },
		{ "0e5", 0 },
		{ "3.75e-08", 37500000 },
		{ "1.0000000000000001e-06", 1000000000 }, /* the noise of a double */
		{ "7.999999999999999e-07", 800000000 },
		{ "4e-16", 0 },
		{ "5e-16", 0 },	  /* half to even */
		{ "1.5e-15", 2 }, /* half to even */
		{ "2.5e-15", 2 },
		{ "2.5000001e-15", 3 },
		{ "6e-16", 1 },
		{ "9999.5e-15", 10000 },
		{ "1", 1000000000000000 },
		{ "9223.372036854775807", INT64_MAX },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int64_t nusd = -1;
		if (!price_per_million(str_c(cases[i].text), &nusd) || nusd != cases[i].nusd)
			fail_msg("%s is %lld, not %lld", cases[i].text, (long long)nusd, (long long)cases[i].nusd);
	}
}

static void what_does_not_fit_is_refused(void **state)
{
	(void)state;
	static const char *const cases[] = { "-1e-6", "9223.372036854775808", "1e10", "1e101", "1e", "abc", "9223.3720368547758075" };
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int64_t nusd = -1;
		if (price_per_million(str_c(cases[i]), &nusd))
			fail_msg("%s was taken as %lld", cases[i], (long long)nusd);
		assert_int_equal(nusd, -1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decimal_text_becomes_whole_nano_dollars),
		cmocka_unit_test(what_does_not_fit_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
