/* SPDX-License-Identifier: Apache-2.0
 * Reading HTTP: heads at every cut, chunked bodies at every cut, and what is refused. Timers, too.
 */
#include "config.h"
#include "sim/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "base/buf.h"
#include "sim/timer.h"

static struct err err;

static int head(const char *text, struct http_head *h)
{
	err_clear(&err);
	return http_head_parse(str_c(text), h, &err);
}

static void a_head_is_read_whole_or_not_at_all(void **state)
{
	const char *text = "POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nAUTHORIZATION:  Bearer k \r\n"
			   "x-client-request-id: att_1\r\n\r\nbody";
	struct http_head h;
	(void)state;
	size_t whole = strlen(text) - 4;
	for (size_t n = 0; n < whole; n++)
		assert_int_equal(http_head_parse(str_pn(text, n), &h, &err), 0);
	assert_int_equal(head(text, &h), 1);
	assert_int_equal(h.bytes, whole);
	assert_true(str_eq_c(h.method, "POST"));
	assert_true(str_eq_c(h.path, "/v1/chat/completions"));
	assert_true(str_eq_c(h.authorization, "Bearer k"));
	assert_true(str_eq_c(h.attempt_id, "att_1"));
	assert_int_equal(h.body_bytes, 12);
	assert_true(h.keep_alive);
}

static void doubtful_heads_are_refused(void **state)
{
	static const struct {
		const char *text;
		int status;
	} cases[] = {
		{ "GARBAGE\r\n\r\n", 400 },
		{ "\r\n\r\n", 400 },
		{ "GET /\r\n\r\n", 400 },
		{ "GET / HTTP/2.0\r\nhost: a\r\n\r\n", 505 },
		{ "PRI * HTTP/2.0\r\n\r\n", 505 },
		{ "GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\nhost: a\n\n", 400 },
		{ "GET / HTTP/1.1\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\nhost: a\r\n folded: x\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\nhost: a\r\nx: \001\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999999\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 67108865\r\n\r\n", 413 },
		{ "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 400 },
		{ "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", 400 },
		{ "POST / HTTP/1.1\r\nhost: a\r\nexpect: a miracle\r\n\r\n", 417 },
	};
	struct http_head h;
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(head(cases[i].text, &h), -1);
		assert_int_equal(err_status(&err), cases[i].status);
	}
}

static void too_much_head_is_431(void **state)
{
	struct http_head h;
	struct buf b;
	(void)state;
	buf_init(&b, NULL, SIZE_MAX);
	buf_c(&b, "GET / HTTP/1.1\r\nhost: a\r\n");
	for (int i = 0; i < 101; i++)
		buf_c(&b, "x: y\r\n");
	assert_int_equal(head(buf_cstr(&b), &h), -1);
	assert_int_equal(err.code, ERR_HEADERS_TOO_LARGE);
	buf_clear(&b);
	buf_c(&b, "GET /");
	for (int i = 0; i < 20000; i++)
		buf_char(&b, 'a');
	assert_int_equal(head(buf_cstr(&b), &h), -1);
	assert_int_equal(err.code, ERR_HEADERS_TOO_LARGE);
	buf_release(&b);
}

static void connection_options_are_understood(void **state)
{
	static const struct {
		const char *text;
		bool keep;
	} cases[] = {
		{ "GET / HTTP/1.1\r\nhost: a\r\n\r\n", true },
		{ "GET / HTTP/1.1\r\nhost: a\r\nconnection: te, Close\r\n\r\n", false },
		{ "GET / HTTP/1.0\r\n\r\n", false },
		{ "GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n", true },
	};
	struct http_head h;
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(head(cases[i].text, &h), 1);
		assert_int_equal(h.keep_alive, cases[i].keep);
	}
}

/* Feed `text` in pieces of `step` bytes. Returns as decode does; the decoded data is in *in. */
static int decode(const char *text, size_t step, struct buf *in, struct http_chunks *ch)
{
	size_t n = strlen(text), at = 0;
	int got = 0;
	buf_init(in, NULL, SIZE_MAX);
	http_chunks_init(ch, 0);
	err_clear(&err);
	while (!got && at < n) {
		size_t take = step < n - at ? step : n - at;
		buf_add(in, text + at, take);
		at += take;
		got = http_chunks_decode(ch, in, &err);
	}
	buf_add(in, text + at, n - at);
	return got;
}

static void chunks_are_decoded_at_every_cut(void **state)
{
	const char *text = "5\r\nhello\r\n1;ext=1\r\n,\r\n00b\r\n world wide\r\n0\r\nTrailer: x\r\n\r\nGET /next";
	(void)state;
	for (size_t step = 1; step < 80; step++) {
		struct buf in;
		struct http_chunks ch;
		assert_int_equal(decode(text, step, &in, &ch), 1);
		assert_true(str_eq_c(str_sub(buf_view(&in), 0, ch.data), "hello, world wide"));
		assert_true(str_eq_c(str_sub(buf_view(&in), ch.raw, in.n), "GET /next"));
		buf_release(&in);
	}
}

static void wrong_chunks_are_refused(void **state)
{
	static const char *const cases[] = { "x\r\n", "\r\n", "-1\r\n", "5\nhello", "1\r\nab\r\n", "fffffffff\r\n", "ffffffff\r\n", "1 1\r\na\r\n", "0\r\nx\n\r\n" };
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct buf in;
		struct http_chunks ch;
		assert_int_equal(decode(cases[i], 100, &in, &ch), -1);
		buf_release(&in);
	}
}

static void timers_come_in_order(void **state)
{
	struct timer t[200] = { { 0, 0 } };
	struct timers ts;
	struct timer *due;
	uint64_t last = 0;
	size_t count = 0;
	(void)state;
	timers_init(&ts);
	assert_int_equal(timers_next_us(&ts), UINT64_MAX);
	for (size_t i = 0; i < 200; i++)
		timer_set(&ts, &t[i], (i * 7919) % 1000);
	for (size_t i = 0; i < 200; i += 3)
		timer_cancel(&ts, &t[i]);
	for (size_t i = 1; i < 200; i += 3)
		timer_set(&ts, &t[i], (i * 104729) % 1000); /* moved */
	assert_null(timer_due(&ts, 0) && timers_next_us(&ts) > 0 ? &t[0] : NULL);
	while ((due = timer_due(&ts, 2000))) {
		assert_true(due->at_us >= last);
		last = due->at_us;
		count++;
	}
	assert_true(count >= 132);
	timers_release(&ts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_head_is_read_whole_or_not_at_all),
		cmocka_unit_test(doubtful_heads_are_refused),
		cmocka_unit_test(too_much_head_is_431),
		cmocka_unit_test(connection_options_are_understood),
		cmocka_unit_test(chunks_are_decoded_at_every_cut),
		cmocka_unit_test(wrong_chunks_are_refused),
		cmocka_unit_test(timers_come_in_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
