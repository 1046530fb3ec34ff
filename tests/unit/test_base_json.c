/* SPDX-License-Identifier: Apache-2.0
 * The parser: what it takes, what it refuses and how it says so; and what can be asked of a parsed document.
 * Built twice: with the machine's vector scan, and with the portable one.
 */
#include "config.h"

#include "json_fixture.h"

#include <locale.h>
#include <math.h>

static int try_parse(const char *text, const struct json_limits *limits, struct err *err)
{
	struct json_doc doc;
	*err = (struct err){ 0 };
	return json_parse(&doc, a, str_c(text), limits, err);
}

static void every_type_is_read(void **state)
{
	(void)state;
	struct json v = parsed(" [null, false, true, -1.5e3, \"s\", [], {}] ");
	static const enum json_type types[] = { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };
	static const char *const raw[] = { "null", "false", "true", "-1.5e3", "\"s\"", "[]", "{}" };
	assert_int_equal(json_count(v), 7);
	for (uint32_t i = 0; i < 7; i++) {
		assert_int_equal(json_type(json_at(v, i)), types[i]);
		assert_text(json_raw(json_at(v, i)), raw[i]);
	}
	assert_false(json_present(json_at(v, 0)));
	assert_true(json_present(json_at(v, 1)));
	assert_int_equal(json_type(json_at(v, 7)), JSON_MISSING);
}

static void a_scalar_alone_is_a_document(void **state)
{
	(void)state;
	static const char *const texts[] = { "0", "-0", "\"\"", "true", "null", "\t\r\n 1.0 \n" };
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		parsed(texts[i]);
	assert_text(json_raw(parsed("\t\r\n 1.0 \n")), "1.0");
}

static void what_is_wrong_is_said_with_its_place(void **state)
{
	(void)state;
	static const struct {
		const char *text, *msg, *param;
	} cases[] = {
		{ "", "body is not JSON: line 1, column 1 (byte 0): expected a value, found the end of the text", "" },
		{ "{\n\"messages\": [1, {\"content\": tru}]}",
		  "body is not JSON: line 2, column 32 (byte 33): expected true, found '}'", "messages[1].content" },
		{ "{\"a\":1,}", "body is not JSON: line 1, column 8 (byte 7): expected a member name in quotes, found '}'", "" },
		{ "{\"a\":{\"b\" 1}}", "body is not JSON: line 1, column 11 (byte 10): expected ':' after the member name, found '1'", "a.b" },
		{ "[1,]", "body is not JSON: line 1, column 4 (byte 3): expected a value, found ']'", "[1]" },
		{ "[[0],[1 2]]", "body is not JSON: line 1, column 9 (byte 8): expected ',' or ']' after an element, found '2'", "[1]" },
		{ "{\"a\":1 \"b\":2}", "body is not JSON: line 1, column 8 (byte 7): expected ',' or '}' after a member, found '\"'", "" },
		{ "[1]x", "body is not JSON: line 1, column 4 (byte 3): expected nothing after the value, found 'x'", "" },
		{ "[\"\xC3\xA9\xC3\xA9\", \xC3\xA9]", "body is not JSON: line 1, column 8 (byte 9): expected a value, found '\xC3\xA9'", "[1]" },
		{ "{\"x\":\"a\nb\"}", "body is not JSON: line 1, column 8 (byte 7): a control character in a string must be escaped", "x" },
		{ "{\"x\":[\"\\q\"]}", "body is not JSON: line 1, column 9 (byte 8): expected one of \"\\/bfnrtu after a backslash, found 'q'", "x[0]" },
		{ "\"\\u12g4\"", "body is not JSON: line 1, column 2 (byte 1): \\u needs four hexadecimal digits", "" },
		{ "\"abc", "body is not JSON: line 1, column 5 (byte 4): expected the closing quote of a string, found the end of the text", "" },
		{ "\"\\", "body is not JSON: line 1, column 3 (byte 2): expected the rest of an escape, found the end of the text", "" },
		{ "{\"n\":-}", "body is not JSON: line 1, column 7 (byte 6): expected a digit, found '}'", "n" },
		{ "1.", "body is not JSON: line 1, column 3 (byte 2): expected a digit, found the end of the text", "" },
		{ "\"a\xFF\"", "body is not JSON: line 1, column 3 (byte 2): a byte that is not UTF-8", "" },
		{ "\xEF\xBB\xBF{}", "body is not JSON: line 1, column 1 (byte 0): a byte order mark is not allowed", "" },
		{ "\x01", "body is not JSON: line 1, column 1 (byte 0): expected a value, found byte 0x01", "" },
		{ "[\"\\ud800\"]", "body is not JSON: line 1, column 3 (byte 2): a surrogate escape without its other half", "[0]" },
		{ "{\"a\":\"\\ud800\"}", "body is not JSON: line 1, column 7 (byte 6): a surrogate escape without its other half", "a" },
		{ "{", "body is not JSON: line 1, column 2 (byte 1): expected a member name in quotes, found the end of the text", "" },
		{ "{\"a\":[{\"b\":", "body is not JSON: line 1, column 12 (byte 11): expected a value, found the end of the text", "a[0].b" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct err err;
		assert_int_equal(try_parse(cases[i].text, &json_limits_request, &err), -1);
		assert_int_equal(err.code, ERR_JSON);
		assert_string_equal(err.msg, cases[i].msg);
		assert_string_equal(err.param, cases[i].param);
	}
}

static void what_others_let_pass_is_refused(void **state)
{
	(void)state;
	static const char *const texts[] = { "NaN", "Infinity", "-Infinity", "01", "-01", "+1", ".5", "1.e3", "1e", "1e+", "0x10", "'a'", "{a:1}",
					     "/* c */ 1", "1 // c", "[1,,2]", "[,1]", "{,}", "{\"a\":}", "{\"a\":1,\"a\"}", "[1}", "{\"a\":1]", "]",
					     "\"\\x41\"", "\"\\u00\"", "\"\t\"", "truex", "tru", "nul", "1 2", "\f1", ("\xC2\xA0" "1"), "\"\xC0\xAF\"",
					     "\"\xED\xA0\x80\"", "\"\xF4\x90\x80\x80\"", "\"\xE0\x80\xAF\"", "\"\xE4\xBB\"", "\"\xF0\x9F\x99\"", "--1",
					     "1e1.5", "\"\\ud83d\\u0041\"", "\"\\udc00\\ud800\"", "[\"a\"\"b\"]", "{\"a\"::1}", "{1:1}", "{\"a\":1}}" };
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		struct err err;
		if (try_parse(texts[i], &json_limits_request, &err) == 0)
			fail_msg("taken: %s", texts[i]);
	}
}

static char *nested(unsigned depth)
{
	char *text = arena_alloc(a, 2 * depth + 1);
	memset(text, '[', depth);
	memset(text + depth, ']', depth);
	text[2 * depth] = '\0';
	return text;
}

static void sixty_four_levels_are_taken_and_one_more_is_not(void **state)
{
	(void)state;
	struct err err;
	assert_int_equal(try_parse(nested(64), &json_limits_request, &err), 0);
	assert_int_equal(try_parse(nested(65), &json_limits_request, &err), -1);
	assert_string_equal(err.msg, "body is not JSON within our limits: line 1, column 65 (byte 64): nested too deeply");
	assert_int_equal(try_parse(nested(100000), &json_limits_request, &err), -1);
}

static void the_number_of_values_has_a_limit(void **state)
{
	(void)state;
	static const struct json_limits limits = { .depth = 64, .nodes = 10 };
	struct err err;
	assert_int_equal(try_parse("[1,2,3,4,5,6,7,8,9]", &limits, &err), 0);
	assert_int_equal(try_parse("[1,2,3,4,5,6,7,8,9,0]", &limits, &err), -1);
	assert_string_equal(err.msg, "body is not JSON within our limits: line 1, column 20 (byte 19): too many values and names");
	assert_int_equal(try_parse("{\"a\":1,\"b\":2,\"c\":3,\"d\":4}", &limits, &err), 0);
	assert_int_equal(try_parse("{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5}", &limits, &err), -1);
}

/* Short values mean more tape than was guessed, so it grows while it is written. */
static void a_long_array_is_read_whole(void **state)
{
	(void)state;
	enum { N = 200000 };
	struct buf b;
	buf_init(&b, a, SIZE_MAX / 4);
	buf_char(&b, '[');
	for (unsigned i = 0; i < N; i++)
		buf_printf(&b, "%s%u", i ? "," : "", i);
	buf_char(&b, ']');
	struct json v = parsed_str(buf_view(&b));
	int64_t n = 0, i = 0;
	assert_int_equal(json_count(v), N);
	for (struct json_iter it = json_iter(v); json_next(&it); i++) {
		assert_true(json_i64(it.value, &n));
		assert_int_equal(n, i);
		assert_int_equal(it.index, i);
	}
	char path[32];
	json_path(json_at(v, N - 1), path, sizeof path);
	assert_string_equal(path, "[199999]");
}

static void a_hostile_body_costs_memory_in_proportion(void **state)
{
	(void)state;
	enum { N = 2 << 20 };
	char *text = malloc(N);
	struct json_doc doc;
	struct err err;
	assert_non_null(text);
	for (size_t i = 0; i < N; i++)
		text[i] = i % 2 ? ',' : '1';
	text[0] = '[';
	size_t before = arena_used(a);
	assert_int_equal(json_parse(&doc, a, str_pn(text, N), &json_limits_request, &err), -1); /* the limit or the missing end */
	assert_true(arena_used(a) - before <= 1000001 * sizeof(struct json_node) + 4 * (size_t)N);
	free(text);
}

static void lone_surrogates_are_taken_from_providers_only(void **state)
{
	(void)state;
	struct json_doc doc;
	struct err err;
	struct str text = STR("[\"a\\ud800b\", \"\\ude42\", \"\\ud83d\\ude42\", \"\\ud800\\ud83d\\ude42\"]");
	assert_int_equal(json_parse(&doc, a, text, &json_limits_request, &err), -1);
	assert_int_equal(json_parse(&doc, a, text, &json_limits_upstream, &err), 0);
	assert_true(doc.has_surrogate);
	assert_text(json_text(json_at(json_root(&doc), 0), a), "a\xEF\xBF\xBD" "b");
	assert_text(json_text(json_at(json_root(&doc), 1), a), "\xEF\xBF\xBD");
	assert_text(json_text(json_at(json_root(&doc), 2), a), "\xF0\x9F\x99\x82");
	assert_text(json_text(json_at(json_root(&doc), 3), a), "\xEF\xBF\xBD\xF0\x9F\x99\x82");
	assert_false(parsed("\"\\ud83d\\ude42\"").doc->has_surrogate);
}

static void a_nul_is_found(void **state)
{
	(void)state;
	struct json v = parsed("{\"a\":\"x\\u0000y\",\"b\":\"x\\u0001y\"}");
	assert_true(v.doc->has_nul);
	assert_true(json_has_nul(json_get(v, STR("a"))));
	assert_false(json_has_nul(json_get(v, STR("b"))));
	struct str s = json_text(json_get(v, STR("a")), a);
	assert_int_equal(s.n, 3);
	assert_memory_equal(s.p, "x\0y", 3);
	assert_false(parsed("\"\\\\u0000\"").doc->has_nul);
}

static void text_is_decoded_only_where_it_must_be(void **state)
{
	(void)state;
	struct json v = parsed("[\"plain\", \"\\\"\\\\\\/\\b\\f\\n\\r\\t\", \"\\u00e9\\u4e2D\\u0041\", \"a\\u0020b\", \"\", 7]");
	assert_ptr_equal(json_text(json_at(v, 0), a).p, v.doc->text.p + 2);
	assert_text(json_text(json_at(v, 1), a), "\"\\/\b\f\n\r\t");
	assert_text(json_text(json_at(v, 2), a), "\xC3\xA9\xE4\xB8\xAD" "A");
	assert_text(json_text(json_at(v, 3), a), "a b");
	assert_int_equal(json_text(json_at(v, 4), a).n, 0);
	assert_non_null(json_text(json_at(v, 4), a).p);
	assert_null(json_text(json_at(v, 5), a).p);
	assert_true(json_text_is(json_at(v, 2), STR("\xC3\xA9\xE4\xB8\xAD" "A")));
	assert_false(json_text_is(json_at(v, 2), STR("\xC3\xA9\xE4\xB8\xAD")));
	assert_false(json_text_is(json_at(v, 2), STR("\xC3\xA9\xE4\xB8\xAD" "AB")));
	assert_false(json_text_is(json_at(v, 5), STR("7")));
}

static void members_are_found_by_their_decoded_names(void **state)
{
	(void)state;
	struct json v = parsed("{\"mod\\u0065l\":\"a\",\"x\":{\"model\":\"inner\"},\"\":1,\"stream\":true}");
	assert_text(json_text(json_get(v, STR("model")), a), "a");
	assert_true(json_is(json_get(v, STR("")), JSON_NUMBER));
	assert_true(json_is(json_get(v, STR("stream")), JSON_TRUE));
	assert_true(json_is(json_get(v, STR("mod")), JSON_MISSING));
	assert_text(json_text(json_get(json_get(v, STR("x")), STR("model")), a), "inner");
	assert_int_equal(json_count(v), 4);
}

static void a_missing_value_answers_everything(void **state)
{
	(void)state;
	struct json v = json_get(json_at(json_get(parsed("{}"), STR("a")), 3), STR("b"));
	int64_t i;
	double d;
	bool b;
	char path[8] = "x";
	assert_int_equal(json_type(v), JSON_MISSING);
	assert_false(json_present(v));
	assert_null(json_raw(v).p);
	assert_null(json_text(v, a).p);
	assert_false(json_i64(v, &i) || json_double(v, &d) || json_bool(v, &b) || json_has_nul(v));
	assert_int_equal(json_count(v), 0);
	struct json_iter it = json_iter(v);
	assert_false(json_next(&it));
	json_path(v, path, sizeof path);
	assert_string_equal(path, "");
	assert_true(json_is(json_get(parsed("[1]"), STR("a")), JSON_MISSING));
	assert_true(json_is(json_at(parsed("{\"a\":1}"), 0), JSON_MISSING));
}

static void a_repeated_name_is_found(void **state)
{
	(void)state;
	struct json v = parsed("{\"model\":1,\"a\":2,\"m\\u006fdel\":3}"), found;
	struct err err;
	assert_int_equal(json_get_once(v, STR("model"), &found, &err), -1);
	assert_int_equal(err.code, ERR_JSON);
	assert_int_equal(json_get_once(v, STR("a"), &found, &err), 1);
	assert_text(json_raw(found), "2");
	assert_int_equal(json_get_once(v, STR("b"), &found, &err), 0);
	assert_text(json_raw(json_get(v, STR("model"))), "1");
	assert_int_equal(json_get_once(parsed("{\"o\":1,\"o\":2}"), STR("o"), &found, &err), -1);
	assert_string_equal(err.param, "o");
	assert_string_equal(err.msg, "'o' is given more than once");
}

static void an_iterator_gives_names_and_values(void **state)
{
	(void)state;
	struct json_iter it = json_iter(parsed("{\"a\":[1,[2]],\"b\\n\":{\"c\":3}}"));
	assert_true(json_next(&it));
	assert_text(json_text(it.key, a), "a");
	assert_text(json_raw(it.value), "[1,[2]]");
	assert_true(json_next(&it));
	assert_text(json_text(it.key, a), "b\n");
	assert_text(json_raw(it.value), "{\"c\":3}");
	assert_false(json_next(&it));
	assert_false(json_next(&it));
}

static void integers_are_exact_or_refused(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool ok;
		int64_t value;
	} cases[] = {
		{ "0", true, 0 }, { "-0", true, 0 }, { "-0.0e5", true, 0 }, { "0e999999999999999999999", true, 0 }, { "1.0", true, 1 },
		{ "1e3", true, 1000 }, { "1E+3", true, 1000 }, { "10e-1", true, 1 }, { "1.5e1", true, 15 }, { "1.5", false, 0 },
		{ "1e-1", false, 0 }, { "9007199254740993", true, 9007199254740993 }, { "9223372036854775807", true, INT64_MAX },
		{ "9223372036854775808", false, 0 }, { "-9223372036854775808", true, INT64_MIN }, { "-9223372036854775809", false, 0 },
		{ "18446744073709551615", false, 0 }, { "18446744073709551616", false, 0 }, { "1e18", true, 1000000000000000000 },
		{ "1e19", false, 0 }, { "1e400", false, 0 }, { "1e99999999999999999999", false, 0 }, { "1e-99999999999999999999", false, 0 },
		{ "9223372036854775807.000", true, INT64_MAX }, { "922337203685477580.7e1", true, INT64_MAX },
		{ "922337203685477580.8e1", false, 0 }, { "100000000000000000000e-5", true, 1000000000000000 },
		{ "0.000000000000000000000000001e27", true, 1 }, { "100000000000000000000000000001", false, 0 },
		{ "1000000000000000000000000000010e-1", false, 0 }, { "2147483648", true, 2147483648 }, { "-1", true, -1 },
		{ "99999999999999999999", false, 0 },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int64_t v = 0;
		bool ok = json_i64(parsed(cases[i].text), &v);
		if (ok != cases[i].ok || v != cases[i].value)
			fail_msg("%s gave %d, %lld", cases[i].text, ok, (long long)v);
	}
	int64_t v;
	static const char *const not_numbers[] = { "", "-", "1x", " 1", "1 ", "0x1", "+1", "01", "1.", "NaN" };
	for (size_t i = 0; i < sizeof not_numbers / sizeof not_numbers[0]; i++)
		assert_false(json_integer(str_c(not_numbers[i]), &v));
	assert_false(json_i64(parsed("\"1\""), &v));
	assert_false(json_i64(parsed("true"), &v));
}

static void a_number_of_a_million_digits_is_handled(void **state)
{
	(void)state;
	enum { N = 1000000 };
	char *text = malloc(N + 1);
	int64_t i;
	double d;
	assert_non_null(text);
	memset(text, '7', N);
	text[1] = '.';
	text[N] = '\0';
	assert_false(json_i64(parsed(text), &i));
	assert_true(json_double(parsed(text), &d));
	assert_true(fabs(d - 7.7777777777777777) < 1e-15);
	memset(text + 2, '0', N - 2);
	text[1] = '.';
	assert_true(json_i64(parsed(text), &i));
	assert_int_equal(i, 7);
	free(text);
}

static void doubles_are_those_of_strtod(void **state)
{
	(void)state;
	static const char *const texts[] = { "0", "0.7", "1e22", "1e23", "123456789012345678", "9007199254740993", "1.7976931348623157e308", "5e-324",
					     "2.2250738585072011e-308", "0.1e-7", "3.14159265358979323846", "1e-400", "-1.5", "8.5e15", "0.30000000000000004",
					     "9007199254740992e22", "1e-22", "179769313486231580793728971405301e276" };
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		double d = -1;
		assert_true(json_double(parsed(texts[i]), &d));
		assert_true(d == strtod(texts[i], NULL));
	}
	double d;
	assert_false(json_double(parsed("1e400"), &d));
	assert_false(json_double(parsed("-1e309"), &d));
	assert_false(json_double(parsed("\"1\""), &d));
	assert_true(json_double(parsed("-0.0"), &d) && d == 0 && signbit(d));
}

static void a_locale_with_a_comma_changes_nothing(void **state)
{
	(void)state;
	double d;
	if (!setlocale(LC_NUMERIC, "de_DE.UTF-8") && !setlocale(LC_NUMERIC, "fr_FR.UTF-8") && !setlocale(LC_NUMERIC, "de_DE")) {
		print_message("# no locale with a decimal comma is installed here\n");
		return;
	}
	assert_true(json_double(parsed("0.123456789012345678901"), &d));
	setlocale(LC_NUMERIC, "C");
	assert_true(d == 0.123456789012345678901);
}

static void a_path_names_the_place(void **state)
{
	(void)state;
	struct json v = parsed("{\"messages\":[{},{\"content\":[{\"type\":\"text\"}],\"odd name\":{\"\":[1]}}]}");
	struct json message = json_at(json_get(v, STR("messages")), 1);
	char path[64];
	json_path(v, path, sizeof path);
	assert_string_equal(path, "");
	json_path(json_get(json_at(json_get(message, STR("content")), 0), STR("type")), path, sizeof path);
	assert_string_equal(path, "messages[1].content[0].type");
	json_path(json_at(json_get(json_get(message, STR("odd name")), STR("")), 0), path, sizeof path);
	assert_string_equal(path, "messages[1][\"odd name\"][\"\"][0]");
	struct json_iter it = json_iter(message);
	assert_true(json_next(&it));
	json_path(it.key, path, sizeof path);
	assert_string_equal(path, "messages[1].content");
	char cut[12];
	json_path(it.value, cut, sizeof cut);
	assert_string_equal(cut, "messages[1]");
	json_path(it.value, cut, 1);
	assert_string_equal(cut, "");
}

static void a_cut_path_stays_utf8(void **state)
{
	(void)state;
	struct json v = parsed("{\"\xE4\xBB\x8A\xE6\x97\xA5\":1}");
	for (size_t n = 1; n < 14; n++) {
		char path[16];
		json_path(json_get(v, STR("\xE4\xBB\x8A\xE6\x97\xA5")), path, n);
		assert_true(strlen(path) < n);
		assert_true(str_is_utf8(str_c(path)));
	}
}

/* Every byte at every offset of a vector, so that none hides between two steps of the scan. */
static void each_byte_in_a_string_is_judged_wherever_it_stands(void **state)
{
	(void)state;
	for (unsigned c = 0; c < 256; c++)
		for (size_t at = 0; at < 40; at++) {
			char text[44];
			struct json_doc doc;
			memset(text, 'x', sizeof text);
			text[0] = text[43] = '"';
			text[at + 1] = (char)c;
			text[at + 2] = 'n'; /* so that a backslash begins an escape */
			bool ok = c >= 0x20 && c < 0x80 && c != '"';
			arena_clear(a);
			if ((json_parse(&doc, a, str_pn(text, 44), &json_limits_request, NULL) == 0) != ok)
				fail_msg("byte 0x%02x at %zu", c, at);
		}
}

/* White space of every length and make, so that every path of the scan is walked. */
static void white_space_is_skipped_and_nothing_else(void **state)
{
	(void)state;
	for (size_t n = 0; n < 50; n++)
		for (unsigned c = 0; c < 0x21; c++) {
			char text[52];
			struct json_doc doc;
			for (size_t i = 0; i < n; i++)
				text[i] = " \n\t\r"[i % 4];
			if (n)
				text[n - 1] = (char)c;
			text[n] = '1';
			bool ok = !n || c == ' ' || c == '\n' || c == '\t' || c == '\r';
			arena_clear(a);
			if ((json_parse(&doc, a, str_pn(text, n + 1), &json_limits_request, NULL) == 0) != ok)
				fail_msg("byte 0x%02x after %zu", c, n);
		}
}

static void utf8_is_judged_as_the_standard_does(void **state)
{
	(void)state;
	for (uint32_t lead = 0x80; lead < 0x100; lead++)
		for (uint32_t second = 0x40; second < 0x100; second += 0x10)
			for (unsigned tail = 0; tail < 4; tail++) {
				char text[6] = { '"', (char)lead, (char)second, (char)0x80, (char)0xBF, '"' };
				struct json_doc doc;
				text[2 + tail] = '"';
				struct str s = str_pn(text, 3 + tail);
				bool ok = str_is_utf8(str_pn(text + 1, 1 + tail)) && (tail == 0 || second >= 0x80 || second != '"');
				arena_clear(a);
				if ((json_parse(&doc, a, s, &json_limits_request, NULL) == 0) != ok)
					fail_msg("%02x %02x, %u bytes", lead, second, 1 + tail);
			}
}

static void names_of_types_read_as_english(void **state)
{
	(void)state;
	assert_string_equal(json_type_name(JSON_OBJECT), "an object");
	assert_string_equal(json_type_name(JSON_MISSING), "nothing");
	assert_string_equal(json_type_name(JSON_NUMBER), "a number");
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, arena_setup, arena_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		FACT(every_type_is_read),
		FACT(a_scalar_alone_is_a_document),
		FACT(what_is_wrong_is_said_with_its_place),
		FACT(what_others_let_pass_is_refused),
		FACT(sixty_four_levels_are_taken_and_one_more_is_not),
		FACT(the_number_of_values_has_a_limit),
		FACT(a_long_array_is_read_whole),
		FACT(a_hostile_body_costs_memory_in_proportion),
		FACT(lone_surrogates_are_taken_from_providers_only),
		FACT(a_nul_is_found),
		FACT(text_is_decoded_only_where_it_must_be),
		FACT(members_are_found_by_their_decoded_names),
		FACT(a_missing_value_answers_everything),
		FACT(a_repeated_name_is_found),
		FACT(an_iterator_gives_names_and_values),
		FACT(integers_are_exact_or_refused),
		FACT(a_number_of_a_million_digits_is_handled),
		FACT(doubles_are_those_of_strtod),
		FACT(a_locale_with_a_comma_changes_nothing),
		FACT(a_path_names_the_place),
		FACT(a_cut_path_stays_utf8),
		FACT(each_byte_in_a_string_is_judged_wherever_it_stands),
		FACT(white_space_is_skipped_and_nothing_else),
		FACT(utf8_is_judged_as_the_standard_does),
		FACT(names_of_types_read_as_english),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
