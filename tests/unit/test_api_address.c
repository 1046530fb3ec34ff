/* SPDX-License-Identifier: Apache-2.0
 * Whose address a request came from, as a table of cases.
 */
#include "config.h"
#include "api/room.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct {
	const char *trusted, *remote, *forwarded, *expected;
} cases[] = {
	{ "", "192.0.2.1", "203.0.113.9", "192.0.2.1" },
	{ "10.0.0.0/8", "192.0.2.1", "203.0.113.9", "192.0.2.1" },
	{ "10.0.0.0/8", "10.1.2.3", "203.0.113.9", "203.0.113.9" },
	{ "10.0.0.0/8", "10.1.2.3", "203.0.113.9, 10.9.9.9", "203.0.113.9" },
	{ "10.0.0.0/8", "10.1.2.3", "1.1.1.1, 203.0.113.9 , 10.9.9.9", "203.0.113.9" },
	{ "10.0.0.0/8", "10.1.2.3", "203.0.113.9, nonsense", "10.1.2.3" },
	{ "10.0.0.0/8", "10.1.2.3", NULL, "10.1.2.3" },
	{ "10.0.0.0/8, 192.168.0.1", "192.168.0.1", "10.0.0.7, 2001:db8::5", "2001:db8::5" },
	{ "192.168.0.1", "192.168.0.2", "203.0.113.9", "192.168.0.2" },
	{ "2001:db8::/32", "2001:db8:1::1", "203.0.113.9", "203.0.113.9" },
	{ "2001:db8::/32", "2001:db9::1", "203.0.113.9", "2001:db9::1" },
	{ "::ffff:10.0.0.0/104", "10.1.2.3", "203.0.113.9", "203.0.113.9" },
	{ "0.0.0.0/0", "10.1.2.3", "1.1.1.1, 2.2.2.2", "1.1.1.1" },
	{ "0.0.0.0/33", "10.1.2.3", "1.1.1.1", "10.1.2.3" },
	{ "10.0.0.0/7x", "10.1.2.3", "1.1.1.1", "10.1.2.3" },
};

static void the_rightmost_untrusted_address_counts(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct front_header h = { STR("x-forwarded-for"), str_c(cases[i].forwarded) };
		struct front_request req = { .remote_addr = str_c(cases[i].remote), .headers = &h, .header_count = cases[i].forwarded ? 1 : 0 };
		struct str got = address_of_caller(&req, cases[i].trusted);
		if (!str_eq_c(got, cases[i].expected))
			fail_msg("case %zu: got " STR_FMT ", expected %s", i, STR_ARG(got), cases[i].expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(the_rightmost_untrusted_address_counts) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
