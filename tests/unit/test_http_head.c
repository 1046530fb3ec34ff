/* SPDX-License-Identifier: Apache-2.0
 * Heads of answers, and how long a peer asks us to wait.
 */
#include "config.h"
#include "http/head.h"

#include "base/arena.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void names_become_lower_case_and_values_are_trimmed(void **state)
{
	struct arena *a = arena_new(1 << 20);
	struct head_reader h;
	struct http_head head;
	struct err err;
	(void)state;
	head_init(&h, a, 1000);
	assert_int_equal(head_line(&h, STR("HTTP/1.1 200 OK\r\n"), &err), 0);
	assert_int_equal(head_line(&h, STR("Content-TYPE: \t text/event-stream; charset=utf-8 \r\n"), &err), 0);
	assert_int_equal(head_line(&h, STR("X-A:b:c\n"), &err), 0);
	assert_int_equal(head_line(&h, STR("\r\n"), &err), 1);
	head_finish(&h, &head);
	assert_int_equal(head.status, 200);
	assert_true(str_eq(head.content_type, STR("text/event-stream; charset=utf-8")));
	assert_true(str_eq(head_value(&head, STR("x-a")), STR("b:c")));
	assert_null(head_value(&head, STR("x-b")).p);
	arena_free(&a);
}

static int retry_after(const char *ms, const char *seconds)
{
	/* Sun, 06 Nov 1994 08:49:37 GMT */
	const int64_t now_us = INT64_C(784111777) * 1000000;
	struct http_field fields[2];
	struct http_head head = { .fields = fields };
	if (ms)
		fields[head.nfields++] = (struct http_field){ STR("retry-after-ms"), str_c(ms) };
	if (seconds)
		fields[head.nfields++] = (struct http_field){ STR("retry-after"), str_c(seconds) };
	return head_retry_after_ms(&head, now_us);
}

static void the_peer_says_how_long_to_wait(void **state)
{
	(void)state;
	assert_int_equal(retry_after(NULL, NULL), -1);
	assert_int_equal(retry_after("1500", "7"), 1500);
	assert_int_equal(retry_after("x", "7"), 7000);
	assert_int_equal(retry_after(NULL, "7"), 7000);
	assert_int_equal(retry_after(NULL, "0.25"), 250);
	assert_int_equal(retry_after(NULL, "0"), 0);
	assert_int_equal(retry_after(NULL, "Sun, 06 Nov 1994 08:49:47 GMT"), 10000);
	assert_int_equal(retry_after(NULL, "Sun, 06 Nov 1994 08:49:27 GMT"), 0);
	assert_int_equal(retry_after(NULL, "-1"), -1);
	assert_int_equal(retry_after(NULL, "soon"), -1);
	assert_int_equal(retry_after(NULL, "1.2.3"), -1);
	assert_int_equal(retry_after(NULL, "."), -1);
	assert_int_equal(retry_after(NULL, ""), -1);
	assert_int_equal(retry_after(NULL, "99999999999999999999999"), INT_MAX);
	assert_int_equal(retry_after("999999999999", NULL), INT_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_become_lower_case_and_values_are_trimmed),
		cmocka_unit_test(the_peer_says_how_long_to_wait),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
