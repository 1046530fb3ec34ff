/* SPDX-License-Identifier: Apache-2.0
 * The clocks and RFC 3339 both ways.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

static void times_are_written_as_rfc_3339(void **state)
{
	(void)state;
	static const struct {
		int64_t us;
		const char *text;
	} cases[] = {
		{ 0, "1970-01-01T00:00:00.000Z" },
		{ 999, "1970-01-01T00:00:00.000Z" },
		{ 1795239001123456, "2026-11-21T05:30:01.123Z" },
		{ 951782400000000, "2000-02-29T00:00:00.000Z" },
		{ 4107542400000000, "2100-03-01T00:00:00.000Z" },
		{ -1, "1969-12-31T23:59:59.999Z" },
		{ -1000, "1969-12-31T23:59:59.999Z" },
		{ -62167219200000000, "0000-01-01T00:00:00.000Z" },
		{ 253402300799999999, "9999-12-31T23:59:59.999Z" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char out[32];
		assert_string_equal(clock_rfc3339(cases[i].us, out), cases[i].text);
	}
}

static void what_is_written_reads_back(void **state)
{
	(void)state;
	for (int64_t us = -62167219200000000; us <= 253402300799999000; us += 8639999123000 * 3) {
		char out[32];
		int64_t back = 1;
		assert_true(clock_parse_rfc3339(str_c(clock_rfc3339(us, out)), &back));
		if (back != us)
			fail_msg("%lld became %lld by %s", (long long)us, (long long)back, out);
	}
}

static void rfc_3339_is_read_in_all_its_forms(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int64_t us;
	} cases[] = {
		{ "1970-01-01T00:00:00Z", 0 }, { "1970-01-01t00:00:00z", 0 }, { "1970-01-01 00:00:01Z", 1000000 },
		{ "1970-01-01T01:30:00+01:30", 0 }, { "1969-12-31T16:00:00-08:00", 0 }, { "1970-01-01T00:00:00-00:00", 0 },
		{ "1970-01-01T00:00:00.5Z", 500000 }, { "1970-01-01T00:00:00.123456Z", 123456 }, { "1970-01-01T00:00:00.1234569Z", 123456 },
		{ "1970-01-01T00:00:00.000001+00:00", 1 }, { "1969-12-31T23:59:59.999999Z", -1 }, { "2016-12-31T23:59:60Z", 1483228800000000 },
		{ "2024-02-29T12:00:00Z", 1709208000000000 },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int64_t us = -7;
		if (!clock_parse_rfc3339(str_c(cases[i].text), &us) || us != cases[i].us)
			fail_msg("%s gave %lld", cases[i].text, (long long)us);
	}
}

static void what_is_no_time_is_refused(void **state)
{
	(void)state;
	static const char *const texts[] = { "", "1970-01-01", "1970-01-01T00:00:00", "1970-01-01T00:00Z", "1970-13-01T00:00:00Z", "1970-00-01T00:00:00Z",
					     "1970-01-32T00:00:00Z", "1970-01-00T00:00:00Z", "2023-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "1970-01-01T24:00:00Z",
					     "1970-01-01T00:60:00Z", "1970-01-01T00:00:61Z", "1970-01-01T00:00:00.Z", "1970-01-01T00:00:00Zx", "1970-01-01T00:00:00+1:00",
					     "1970-01-01T00:00:00+0100", "1970-01-01T00:00:00+24:00", "1970-01-01T00:00:00+01:60", "1970-01-01T00:00:00.1",
					     "1970/01/01T00:00:00Z", "-970-01-01T00:00:00Z", "+970-01-01T00:00:00Z", " 970-01-01T00:00:00Z", "1970-01-01X00:00:00Z",
					     "1970-01-01T00:00:0 Z", "1970-01-01T00:00:00+-1:00", "1970-01-01T-1:00:00Z" };
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		int64_t us = -7;
		if (clock_parse_rfc3339(str_c(texts[i]), &us) || us != -7)
			fail_msg("taken: %s", texts[i]);
	}
	int64_t us;
	assert_false(clock_parse_rfc3339(STR_NONE, &us));
}

static void a_test_may_set_both_clocks(void **state)
{
	(void)state;
	clock_fake(5, -6);
	assert_int_equal(clock_now_us(), 5);
	assert_int_equal(clock_wall_us(), -6);
	clock_fake_stop();
	uint64_t now = clock_now_us();
	assert_true(clock_now_us() >= now && now > 5);
	assert_true(clock_wall_us() > 1700000000000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_are_written_as_rfc_3339),
		cmocka_unit_test(what_is_written_reads_back),
		cmocka_unit_test(rfc_3339_is_read_in_all_its_forms),
		cmocka_unit_test(what_is_no_time_is_refused),
		cmocka_unit_test(a_test_may_set_both_clocks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
