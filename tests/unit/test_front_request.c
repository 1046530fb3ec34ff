/* SPDX-License-Identifier: Apache-2.0
 * From parameters to a request: what is taken over, what is refused and with which words, and the query helpers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "front/private.h"
#include "tests/unit/front_fixture.h"

static struct arena *a;
static struct buf params;
static struct front_request req;
static struct err err;
static bool known;

static int set_up(void **state)
{
	(void)state;
	a = arena_new(1 << 20);
	buf_init(&params, NULL, 1 << 17);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	arena_free(&a);
	buf_release(&params);
	return 0;
}

static void pair(const char *name, const char *value) { put_pair(&params, str_c(name), str_c(value)); }

static int parse(void)
{
	req = (struct front_request){ 0 };
	err = (struct err){ 0 };
	known = false;
	return request_parse(&req, a, buf_view(&params), &known, &err);
}

static int parse_target(const char *target)
{
	buf_clear(&params);
	pair("REQUEST_METHOD", "GET");
	pair("REQUEST_URI", target);
	return parse();
}

static int parse_with(const char *name, const char *value)
{
	buf_clear(&params);
	pair("REQUEST_METHOD", "GET");
	pair("REQUEST_URI", "/v1/models");
	pair(name, value);
	return parse();
}

static void header_is(const char *name, const char *value)
{
	struct str v = front_header(&req, str_c(name));
	assert_non_null(v.p);
	assert_true(str_eq(v, str_c(value)));
}

static void all_parts_are_taken_over(void **state)
{
	(void)state;
	pair("REQUEST_METHOD", "POST");
	pair("REQUEST_URI", "/v1/chat%2Fx?a=1&b=%20");
	pair("CONTENT_LENGTH", "12");
	pair("CONTENT_TYPE", "application/json; charset=utf-8");
	pair("REMOTE_ADDR", "2001:db8::1");
	pair("HTTPS", "on");
	pair("HTTP_X_API_KEY", "secret");
	pair("HTTP_ACCEPT", "a\tb");
	assert_int_equal(parse(), 0);
	assert_true(str_eq(req.method, STR("POST")) && str_eq(req.path, STR("/v1/chat%2Fx")) && str_eq(req.query, STR("a=1&b=%20")));
	assert_true(known && req.https && req.body_bytes == 12);
	assert_true(str_eq(req.remote_addr, STR("2001:db8::1")));
	header_is("x-api-key", "secret");
	header_is("accept", "a\tb");
	header_is("content-type", "application/json; charset=utf-8");
	assert_null(front_header(&req, STR("x-other")).p);
}

static void an_empty_content_length_is_none(void **state)
{
	(void)state;
	assert_int_equal(parse_with("CONTENT_LENGTH", ""), 0);
	assert_false(known);
	assert_int_equal(parse_with("CONTENT_LENGTH", "0"), 0);
	assert_true(known && req.body_bytes == 0);
}

static void servers_that_send_content_headers_twice_are_understood(void **state)
{
	(void)state;
	buf_clear(&params);
	pair("REQUEST_METHOD", "GET");
	pair("REQUEST_URI", "/");
	pair("CONTENT_TYPE", "a/b");
	pair("HTTP_CONTENT_TYPE", "c/d");
	pair("HTTP_CONTENT_LENGTH", "9");
	assert_int_equal(parse(), 0);
	header_is("content-type", "a/b");
	assert_null(front_header(&req, STR("content-length")).p);
}

static void what_must_be_single(void **state)
{
	(void)state;
	static const char *const names[] = { "AUTHORIZATION", "X_API_KEY", "HOST", "CONTENT_TYPE", "CONTENT_LENGTH", "IDEMPOTENCY_KEY",
					     "X_GOOG_API_KEY", "X_HEADGATE_TAGS", "X_HEADGATE_ANYTHING" };
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		char name[64];
		snprintf(name, sizeof name, "HTTP_%s", names[i]);
		parse_with(name, "1");
		pair(name, "1");
		assert_int_equal(parse(), -1);
		assert_int_equal(err.code, ERR_INVALID);
		assert_non_null(strstr(err.msg, "is repeated"));
	}
}

static void joined_headers(void **state)
{
	(void)state;
	parse_with("HTTP_COOKIE", "a=1");
	pair("HTTP_X", "1");
	pair("HTTP_COOKIE", "b=2");
	pair("HTTP_X", "2");
	assert_int_equal(parse(), 0);
	header_is("cookie", "a=1; b=2");
	header_is("x", "1, 2");
	assert_int_equal(req.header_count, 2);
}

static void refusals_name_the_place(void **state)
{
	(void)state;
	static const struct {
		const char *name, *value, *param;
	} cases[] = {
		{ "HTTP_AUTHORIZATION", "Bearer a, Bearer b", "authorization" },
		{ "HTTP_X_TAG", "a\rb", "x-tag" },
		{ "HTTP_X_TAG", "a\nb", "x-tag" },
		{ "HTTP_X_TAG", "a\x7f", "x-tag" },
		{ "CONTENT_LENGTH", "1 ", "content-length" },
		{ "CONTENT_LENGTH", "-1", "content-length" },
		{ "CONTENT_LENGTH", "18446744073709551616", "content-length" },
		{ "CONTENT_LENGTH", "18446744073709551615", "content-length" },
		{ "REMOTE_ADDR", "1\n2", "" },
		{ "HTTP_A B", "x", "" },
		{ "HTTP_", "x", "" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(parse_with(cases[i].name, cases[i].value), -1);
		assert_int_equal(err.code, ERR_INVALID);
		assert_string_equal(err.param, cases[i].param);
		assert_true(str_eq(req.path, STR("/v1/models"))); /* the refusal knows where it is */
	}
}

static void variables_we_do_not_use_may_hold_anything(void **state)
{
	(void)state;
	assert_int_equal(parse_with("SERVER_SIGNATURE", "<address>Apache</address>\n"), 0);
	assert_int_equal(parse_with("HTTP_PROXY", "http://evil"), 0);
	assert_int_equal(parse_with("REDIRECT_HTTP_AUTHORIZATION", "Bearer x"), 0);
	assert_null(front_header(&req, STR("authorization")).p);
}

static void path_tricks(void **state)
{
	(void)state;
	static const struct {
		const char *target;
		enum err_code code;
	} cases[] = {
		{ "/", ERR_NONE }, { "/a/", ERR_NONE }, { "/a%2Fb", ERR_NONE }, { "/a;b", ERR_NONE }, { "/a.", ERR_NONE },
		{ "/...", ERR_NONE }, { "/%E2%82%AC", ERR_NONE }, { "http://h/x", ERR_NONE }, { "http://h", ERR_NONE },
		{ "/a?//..%", ERR_NONE }, { "//", ERR_NOT_FOUND }, { "//a", ERR_NOT_FOUND }, { "/a//", ERR_NOT_FOUND },
		{ "/a//b", ERR_NOT_FOUND }, { "/.", ERR_INVALID }, { "/..", ERR_INVALID }, { "/a/../b", ERR_INVALID },
		{ "/%2e%2E/b", ERR_INVALID }, { "/a/%2e", ERR_INVALID }, { "/%00", ERR_INVALID }, { "/%", ERR_INVALID },
		{ "/%a", ERR_INVALID }, { "/%g0", ERR_INVALID }, { "/%0d", ERR_INVALID }, { "/%FF", ERR_INVALID },
		{ "/%C0%AF", ERR_INVALID }, { "/\xff", ERR_INVALID }, { "a", ERR_INVALID }, { "", ERR_INVALID }, { "*", ERR_INVALID },
		{ "/a#b", ERR_INVALID }, { "/a b", ERR_INVALID }, { "/a\tb", ERR_INVALID }, { "?", ERR_INVALID },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int rc = parse_target(cases[i].target);
		if (err.code != cases[i].code || (rc != 0) != (err.code != ERR_NONE))
			fail_msg("%s: code %d, not %d", cases[i].target, (int)err.code, (int)cases[i].code);
	}
}

static void a_target_too_long_is_414(void **state)
{
	(void)state;
	char target[17000];
	memset(target, 'a', sizeof target);
	target[0] = '/';
	target[sizeof target - 1] = '\0';
	assert_int_equal(parse_target(target), -1);
	assert_int_equal(err_status(&err), 414);
}

static void many_different_names_are_all_kept_apart(void **state)
{
	(void)state;
	for (int round = 0; round < 2; round++) {
		parse_with("A", "x");
		for (int i = 0; i < 250; i++) {
			char name[16];
			snprintf(name, sizeof name, "V%d", i);
			pair(name, "");
		}
		if (round)
			pair("V249", "");
		assert_int_equal(parse(), -round);
	}
}

static void unescape_decodes_once(void **state)
{
	(void)state;
	struct str out;
	assert_true(front_unescape(STR("a%2Fb%252F+"), a, &out));
	assert_true(str_eq(out, STR("a/b%2F+")));
	assert_true(front_unescape(STR(""), a, &out) && out.n == 0);
	assert_false(front_unescape(STR("%"), a, &out));
	assert_false(front_unescape(STR("%4"), a, &out));
	assert_false(front_unescape(STR("a%00"), a, &out));
	assert_false(front_unescape(STR("%ff"), a, &out));
}

static void query_parameters(void **state)
{
	(void)state;
	struct str v;
	parse_target("/x?a=1&b=two+words%21&c&=d&e=&a2=3&bad=%zz&twice=1&twice=1");
	assert_int_equal(front_query(&req, a, STR("a"), &v, &err), 1);
	assert_true(str_eq(v, STR("1")));
	assert_int_equal(front_query(&req, a, STR("b"), &v, &err), 1);
	assert_true(str_eq(v, STR("two words!")));
	assert_int_equal(front_query(&req, a, STR("c"), &v, &err), 1);
	assert_int_equal(v.n, 0);
	assert_int_equal(front_query(&req, a, STR("nope"), &v, &err), 0);
	assert_int_equal(front_query(&req, a, STR("bad"), &v, &err), -1);
	assert_string_equal(err.param, "bad");
	assert_int_equal(front_query(&req, a, STR("twice"), &v, &err), -1);
	parse_target("/x");
	assert_int_equal(front_query(&req, a, STR("a"), &v, &err), 0);
	parse_target("/x?");
	assert_int_equal(front_query(&req, a, STR("a"), &v, &err), 0);
}

static void accept_encoding(void **state)
{
	(void)state;
	static const struct {
		const char *value;
		bool yes;
	} cases[] = {
		{ "gzip", true }, { "GZIP", true }, { "x-gzip", true }, { "br, gzip", true }, { "gzip;q=0.001", true }, { "*", true },
		{ "br;q=1, *;q=0.1", true }, { "gzip ; q=1", true }, { "deflate,gzip;q=1.0", true }, { "", false }, { "br", false },
		{ "gzip;q=0", false }, { "gzip;q=0.000", false }, { "*;q=0", false }, { "gzip;q=0, *", false }, { "identity", false },
		{ "gzipped", false }, { "gzip; Q=0", false },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		if (gzip_accepted(str_c(cases[i].value)) != cases[i].yes)
			fail_msg("%s", cases[i].value);
	assert_false(gzip_accepted(STR_NONE));
}

static void what_does_not_shrink_is_not_compressed(void **state)
{
	(void)state;
	unsigned char noise[5000];
	struct str out;
	rand_bytes(noise, sizeof noise);
	assert_false(gzip_body(a, str_pn((char *)noise, sizeof noise), &out));
	memset(noise, 'a', sizeof noise);
	assert_true(gzip_body(a, str_pn((char *)noise, sizeof noise), &out));
	assert_true(out.n < 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(all_parts_are_taken_over, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_empty_content_length_is_none, set_up, tear_down),
		cmocka_unit_test_setup_teardown(servers_that_send_content_headers_twice_are_understood, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_must_be_single, set_up, tear_down),
		cmocka_unit_test_setup_teardown(joined_headers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refusals_name_the_place, set_up, tear_down),
		cmocka_unit_test_setup_teardown(variables_we_do_not_use_may_hold_anything, set_up, tear_down),
		cmocka_unit_test_setup_teardown(path_tricks, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_target_too_long_is_414, set_up, tear_down),
		cmocka_unit_test_setup_teardown(many_different_names_are_all_kept_apart, set_up, tear_down),
		cmocka_unit_test_setup_teardown(unescape_decodes_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(query_parameters, set_up, tear_down),
		cmocka_unit_test_setup_teardown(accept_encoding, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_does_not_shrink_is_not_compressed, set_up, tear_down),
	};
	return cmocka_run_group_tests_name("front_request", tests, NULL, NULL);
}
