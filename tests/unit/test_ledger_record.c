/* SPDX-License-Identifier: Apache-2.0
 * An entry as text for PostgreSQL, and the tickets that callers wait for. No database.
 */
#include "config.h"
#include "ledger/record.h"
#include "ledger/ticket.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <pthread.h>
#include <string.h>

#include <cmocka.h>

static void hostile_text_is_quoted_for_both_levels(void **state)
{
	(void)state;
	static const struct { struct str in; size_t max; const char *out; } cases[] = {
		{ { "", 0 }, 99, "\\\"\\\"" },
		{ { "plain", 5 }, 99, "\\\"plain\\\"" },
		{ { "{a},(b)", 7 }, 99, "\\\"{a},(b)\\\"" },
		{ { "\"", 1 }, 99, "\\\"\\\\\\\"\\\"" },
		{ { "\\", 1 }, 99, "\\\"\\\\\\\\\\\"" },
		{ { "a\0b", 3 }, 99, "\\\"a\xEF\xBF\xBD" "b\\\"" },
		{ { "\xC3\xA9\xC3", 3 }, 99, "\\\"\xC3\xA9\xEF\xBF\xBD\\\"" },
		{ { "\xED\xA0\x80", 3 }, 99, "\\\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\\\"" },
		{ { "\xF0\x9F\x98\x80", 4 }, 99, "\\\"\xF0\x9F\x98\x80\\\"" },
		{ { "abcdef", 6 }, 3, "\\\"abc\\\"" },
		{ { "a\xC3\xA9z", 4 }, 2, "\\\"a\\\"" }, /* not inside a character */
		{ { "a\xC3\xA9z", 4 }, 3, "\\\"a\xC3\xA9\\\"" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct buf b;
		buf_init(&b, NULL, 1000);
		record_text(&b, cases[i].in, cases[i].max);
		assert_string_equal(buf_cstr(&b), cases[i].out);
		buf_release(&b);
	}
}

static void the_day_comes_out_of_the_id(void **state)
{
	(void)state;
	struct ledger_entry e = { .id = { { [6] = 0x70, [8] = 0x80 } } };
	int64_t ms = INT64_C(20778) * 86400000 - 1; /* the last millisecond of day 20777 */
	for (int i = 0; i < 6; i++)
		e.id.b[i] = (unsigned char)(ms >> (8 * (5 - i)));
	struct record *r = record_new(&e);
	assert_true(str_find(r->request, STR(",20777,"), 0) != SIZE_MAX);
	assert_int_equal(r->attempts.n, 0);
	record_free(&r);
	assert_null(r);
}

static void too_many_attempts_and_too_long_a_route_are_left_out(void **state)
{
	(void)state;
	static struct ledger_attempt attempts[RECORD_ATTEMPTS_MAX + 5];
	static char route[RECORD_ROUTE_MAX + 2];
	memset(route, ' ', sizeof route);
	route[0] = '1';
	struct ledger_entry e = { .attempts = attempts, .nattempts = RECORD_ATTEMPTS_MAX + 5, .route_json = { route, RECORD_ROUTE_MAX + 1 } };
	struct record *r = record_new(&e);
	size_t rows = 0;
	for (size_t at = 0; (at = str_find(r->attempts, STR("\"("), at)) != SIZE_MAX; at++)
		rows++;
	assert_int_equal(rows, RECORD_ATTEMPTS_MAX);
	assert_true(r->request.n < 2000);
	record_free(&r);
}

static void a_ticket_ends_once_and_stays_ended(void **state)
{
	(void)state;
	struct tickets *t = tickets_new(1);
	uint64_t one = ticket_take(t), two = ticket_take(t);
	assert_true(one && two && one != two);
	assert_int_equal(ticket_wait(t, one, 0), TICKET_WAITING);
	assert_int_equal(ticket_wait(t, one, clock_now_us() + 2000), TICKET_WAITING);
	ticket_end(t, one, TICKET_DONE);
	ticket_end(t, two, TICKET_REFUSED);
	assert_int_equal(ticket_wait(t, one, 0), TICKET_DONE);
	assert_int_equal(ticket_wait(t, two, 0), TICKET_REFUSED);
	for (int i = 0; i < 1000; i++)
		ticket_end(t, ticket_take(t), TICKET_DONE);
	assert_int_equal(ticket_wait(t, one, 0), TICKET_DONE); /* long reused by others */
	tickets_free(&t);
}

static void tickets_in_use_are_passed_over_until_none_is_left(void **state)
{
	(void)state;
	struct tickets *t = tickets_new(64);
	uint64_t held = ticket_take(t), last = 0;
	for (int i = 0; i < 63; i++)
		assert_true((last = ticket_take(t)) != 0);
	assert_int_equal(ticket_take(t), 0);
	ticket_end(t, last, TICKET_DONE);
	uint64_t next = ticket_take(t);
	assert_true(next > last);
	assert_int_equal(ticket_take(t), 0);
	assert_int_equal(ticket_wait(t, next, 0), TICKET_WAITING);
	assert_int_equal(ticket_wait(t, held, 0), TICKET_WAITING);
	assert_int_equal(ticket_wait(t, 0, 0), TICKET_WAITING);
	tickets_free(&t);
}

static void *end_them(void *u)
{
	struct tickets *t = u;
	for (uint64_t n = 1; n <= 20000; n++)
		ticket_end(t, n, TICKET_DONE);
	return NULL;
}

static void waiters_are_woken_at_whatever_moment(void **state)
{
	(void)state;
	struct tickets *t = tickets_new(20001);
	pthread_t thread;
	for (uint64_t n = 1; n <= 20000; n++)
		assert_int_equal(ticket_take(t), n);
	assert_int_equal(pthread_create(&thread, NULL, end_them, t), 0);
	for (uint64_t n = 20000; n > 0; n--)
		assert_int_equal(ticket_wait(t, n, clock_now_us() + 10000000), TICKET_DONE);
	pthread_join(thread, NULL);
	tickets_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hostile_text_is_quoted_for_both_levels),
		cmocka_unit_test(the_day_comes_out_of_the_id),
		cmocka_unit_test(too_many_attempts_and_too_long_a_route_are_left_out),
		cmocka_unit_test(a_ticket_ends_once_and_stays_ended),
		cmocka_unit_test(tickets_in_use_are_passed_over_until_none_is_left),
		cmocka_unit_test(waiters_are_woken_at_whatever_moment),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
