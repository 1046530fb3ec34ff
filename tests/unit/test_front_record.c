/* SPDX-License-Identifier: Apache-2.0
 * The record parser: what it tells, in which order, and what it refuses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "front/record.h"
#include "tests/unit/front_fixture.h"

static struct record_parser p;
static struct buf in;  /* what the peer sends */
static struct buf out; /* events, a letter each; the body's bytes between < and > */

static int set_up(void **state)
{
	(void)state;
	record_init(&p);
	buf_init(&in, NULL, 1 << 22);
	buf_init(&out, NULL, 1 << 22);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	record_release(&p);
	buf_release(&in);
	buf_release(&out);
	return 0;
}

static const char *feed(struct str bytes)
{
	enum record_event e;
	struct str piece;
	while ((e = record_next(&p, &bytes, &piece)) != RECORD_MORE) {
		buf_char(&out, "-HBEARFX"[e]);
		if (e == RECORD_BODY) {
			buf_char(&out, '<');
			buf_str(&out, piece);
			buf_char(&out, '>');
		}
		if (e == RECORD_BROKEN)
			break;
	}
	return buf_cstr(&out);
}

static const char *feed_all(void) { return feed(buf_view(&in)); }

static void put_request(unsigned id, struct str body, unsigned padding)
{
	struct buf params;
	buf_init(&params, NULL, 1 << 16);
	put_pair(&params, STR("REQUEST_METHOD"), STR("POST"));
	put_pair(&params, STR("X"), STR(""));
	put_begin(&in, id, 1, 1);
	put_record(&in, 4, id, buf_view(&params), padding);
	put_record(&in, 4, id, STR_NONE, padding);
	if (body.n)
		put_record(&in, 5, id, body, padding);
	put_record(&in, 5, id, STR_NONE, padding);
	buf_release(&params);
}

static void a_request_is_head_body_end(void **state)
{
	(void)state;
	struct str name, value, rest;
	put_request(7, STR("hello"), 3);
	assert_string_equal(feed_all(), "HB<hello>E");
	assert_int_equal(p.id, 7);
	assert_true(p.keep);
	assert_false(p.spoilt);
	rest = buf_view(&p.params);
	assert_int_equal(record_pair(&rest, &name, &value), 1);
	assert_true(str_eq(name, STR("REQUEST_METHOD")) && str_eq(value, STR("POST")));
	assert_int_equal(record_pair(&rest, &name, &value), 1);
	assert_true(str_eq(name, STR("X")) && value.n == 0);
	assert_int_equal(record_pair(&rest, &name, &value), 0);
	assert_false(record_is_idle(&p));
	record_done(&p);
	assert_true(record_is_idle(&p));
}

static void every_cut_gives_the_same(void **state)
{
	(void)state;
	put_request(1, STR("hello"), 2);
	put_record(&in, 9, 0, STR("abc"), 1);
	for (size_t cut = 1; cut < in.n; cut++) {
		record_release(&p);
		record_init(&p);
		buf_clear(&out);
		feed(str_sub(buf_view(&in), 0, cut));
		feed(str_sub(buf_view(&in), cut, SIZE_MAX));
		char flat[64];
		size_t n = 0;
		for (size_t i = 0; i < out.n; i++) /* the body may come in two pieces */
			if (out.p[i] != '<' && out.p[i] != '>' && !(out.p[i] == 'B' && n && flat[n - 1] != 'H'))
				flat[n++] = out.p[i];
		flat[n] = '\0';
		assert_string_equal(flat, "HBhelloER");
		assert_int_equal(p.params_count, 2);
	}
}

static void longest_content_and_padding(void **state)
{
	(void)state;
	static char big[65535];
	memset(big, 'b', sizeof big);
	put_request(1, str_pn(big, sizeof big), 255);
	feed_all();
	assert_int_equal(out.n, 1 + 2 + 65535 + 1 + 1);
	assert_int_equal(out.p[out.n - 1], 'E');
}

static void a_second_request_gets_cant_mpx_conn(void **state)
{
	(void)state;
	put_request(1, STR("x"), 0);
	put_request(0x203, STR("other"), 0);
	assert_string_equal(feed_all(), "HB<x>ER");
	const unsigned char want[16] = { 1, 3, 2, 3, 0, 8, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0 };
	assert_memory_equal(p.reply, want, 16);
	assert_false(p.spoilt);
}

static void kept_connections_start_over(void **state)
{
	(void)state;
	for (unsigned i = 1; i < 300; i++) {
		buf_clear(&in);
		buf_clear(&out);
		put_request(i, STR("y"), i % 256);
		assert_string_equal(feed_all(), "HB<y>E");
		record_done(&p);
	}
}

static void an_unknown_role_is_refused(void **state)
{
	(void)state;
	put_begin(&in, 5, 2, 0);
	assert_string_equal(feed_all(), "F");
	assert_int_equal(p.reply[12], 3);
	assert_true(record_is_idle(&p));
}

static void management_records_are_answered_unknown(void **state)
{
	(void)state;
	put_record(&in, 9, 0, STR("names"), 5);
	put_record(&in, 200, 0, STR_NONE, 0);
	assert_string_equal(feed_all(), "RR");
	const unsigned char want[16] = { 1, 11, 0, 0, 0, 8, 0, 0, 200 };
	assert_memory_equal(p.reply, want, 16);
}

static void abort_is_told_in_every_phase(void **state)
{
	(void)state;
	struct buf whole = { 0 };
	put_request(1, STR("x"), 0);
	buf_init(&whole, NULL, 4096);
	buf_str(&whole, buf_view(&in));
	const size_t cuts[] = { 16, whole.n - 17 - 8, whole.n - 8, whole.n };
	for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
		record_release(&p);
		record_init(&p);
		buf_clear(&in);
		buf_clear(&out);
		buf_add(&in, whole.p, cuts[i]);
		put_record(&in, 2, 1, STR_NONE, 0);
		feed_all();
		assert_int_equal(out.p[out.n - 1], 'A');
		assert_int_equal(p.reply[1], 3);
	}
	buf_release(&whole);
}

static void an_abort_of_somebody_else_is_nothing(void **state)
{
	(void)state;
	put_begin(&in, 1, 1, 0);
	put_record(&in, 2, 9, STR_NONE, 0);
	assert_string_equal(feed_all(), "");
}

static void what_must_break(void **state)
{
	(void)state;
	static const struct {
		const char *bytes;
		size_t n;
		const char *why;
	} cases[] = {
		{ "\2\1\0\1\0\10\0\0", 8, "version" },
		{ "\1\1\0\0\0\10\0\0", 8, "BEGIN" },
		{ "\1\1\0\1\0\7\0\0", 8, "BEGIN" },
		{ "\1\1\0\1\0\10\0\0\0\1\0\0\0\0\0\0\1\1\0\1\0\10\0\0", 24, "already" },
		{ "\1\1\0\1\0\10\0\0\0\1\0\0\0\0\0\0\1\5\0\1\0\1\0\0", 24, "STDIN before" },
		{ "\1\1\0\1\0\10\0\0\0\1\0\0\0\0\0\0\1\4\0\1\0\1\0\0\1\1\4\0\1\0\0\0\0", 33, "inside a pair" },
		{ "\1\1\0\1\0\10\0\0\0\1\0\0\0\0\0\0\1\4\0\1\0\10\0\0\377\377\377\377\377\377\377\377", 32, "1 MiB" },
		{ "\1\1\0\1\0\10\0\0\0\1\0\0\0\0\0\0\1\4\0\1\0\5\0\0\1\200\40\0\0", 29, "1 MiB" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		record_release(&p);
		record_init(&p);
		buf_clear(&out);
		feed(str_pn(cases[i].bytes, cases[i].n));
		assert_string_equal(buf_cstr(&out) + (out.n ? out.n - 1 : 0), "X");
		assert_non_null(strstr(p.why, cases[i].why));
	}
}

static void caps_give_too_large_with_whole_pairs_kept(void **state)
{
	(void)state;
	static char big[60000];
	struct buf params;
	buf_init(&params, NULL, 1 << 18);
	memset(big, 'v', sizeof big);
	put_pair(&params, STR("A"), STR("1"));
	put_pair(&params, STR("B"), str_pn(big, sizeof big));
	put_begin(&in, 1, 1, 0);
	put_record(&in, 4, 1, buf_view(&params), 0);
	put_record(&in, 4, 1, buf_view(&params), 0);
	put_record(&in, 4, 1, STR_NONE, 0);
	assert_string_equal(feed_all(), "H");
	assert_true(p.too_large);
	struct str rest = buf_view(&p.params), name, value;
	int pairs = 0;
	while (record_pair(&rest, &name, &value) == 1)
		pairs++;
	assert_true(pairs >= 2 && rest.n == 0);
	buf_release(&params);
}

static void the_257th_parameter_is_too_much(void **state)
{
	(void)state;
	for (unsigned n = 256; n <= 257; n++) {
		struct buf params;
		buf_init(&params, NULL, 1 << 16);
		for (unsigned i = 0; i < n; i++)
			put_pair(&params, STR("N"), STR("v"));
		record_release(&p);
		record_init(&p);
		buf_clear(&in);
		buf_clear(&out);
		put_begin(&in, 1, 1, 0);
		put_record(&in, 4, 1, buf_view(&params), 0);
		put_record(&in, 4, 1, STR_NONE, 0);
		assert_string_equal(feed_all(), "H");
		assert_int_equal(p.too_large, n == 257);
		buf_release(&params);
	}
}

static void strays_are_bounded_per_request(void **state)
{
	(void)state;
	for (int i = 0; i < RECORD_STRAYS; i++)
		put_record(&in, 5, 9, STR("zz"), 0);
	assert_string_equal(feed_all(), "");
	put_request(1, STR_NONE, 0);
	buf_clear(&out);
	buf_consume(&in, RECORD_STRAYS * 10);
	assert_string_equal(feed_all(), "HE");
	buf_clear(&in);
	buf_clear(&out);
	for (int i = 0; i <= RECORD_STRAYS; i++)
		put_record(&in, 9, 0, STR_NONE, 0);
	feed_all();
	assert_int_equal(out.p[out.n - 1], 'X');
}

static void body_after_its_end_spoils_the_connection_only(void **state)
{
	(void)state;
	put_request(1, STR("x"), 0);
	put_record(&in, 5, 1, STR("more"), 0);
	assert_string_equal(feed_all(), "HB<x>E");
	assert_true(p.spoilt);
}

static void a_body_can_be_read_past_the_parser(void **state)
{
	(void)state;
	put_request(1, STR("0123456789"), 4);
	size_t at = (size_t)(str_find(buf_view(&in), STR("0123"), 0));
	feed(str_sub(buf_view(&in), 0, at + 2));
	assert_int_equal(record_body_ahead(&p), 8);
	record_body_taken(&p, 5);
	assert_int_equal(record_body_ahead(&p), 3);
	assert_string_equal(feed(str_sub(buf_view(&in), at + 7, SIZE_MAX)), "HB<01>B<789>E");
	assert_int_equal(record_body_ahead(&p), 0);
}

static void what_is_left_of_a_refused_body_is_not_the_next_request(void **state)
{
	(void)state;
	put_request(1, STR("0123456789"), 0);
	size_t at = str_find(buf_view(&in), STR("0123"), 0);
	feed(str_sub(buf_view(&in), 0, at + 3));
	record_done(&p);
	buf_clear(&out);
	assert_string_equal(feed(str_sub(buf_view(&in), at + 3, SIZE_MAX)), "");
	assert_true(record_is_idle(&p));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_request_is_head_body_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(every_cut_gives_the_same, set_up, tear_down),
		cmocka_unit_test_setup_teardown(longest_content_and_padding, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_second_request_gets_cant_mpx_conn, set_up, tear_down),
		cmocka_unit_test_setup_teardown(kept_connections_start_over, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_unknown_role_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(management_records_are_answered_unknown, set_up, tear_down),
		cmocka_unit_test_setup_teardown(abort_is_told_in_every_phase, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_abort_of_somebody_else_is_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_must_break, set_up, tear_down),
		cmocka_unit_test_setup_teardown(caps_give_too_large_with_whole_pairs_kept, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_257th_parameter_is_too_much, set_up, tear_down),
		cmocka_unit_test_setup_teardown(strays_are_bounded_per_request, set_up, tear_down),
		cmocka_unit_test_setup_teardown(body_after_its_end_spoils_the_connection_only, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_body_can_be_read_past_the_parser, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_left_of_a_refused_body_is_not_the_next_request, set_up, tear_down),
	};
	return cmocka_run_group_tests_name("front_record", tests, NULL, NULL);
}
