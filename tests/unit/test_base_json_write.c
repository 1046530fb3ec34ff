/* SPDX-License-Identifier: Apache-2.0
 * The writer: what it writes is JSON, whatever it was given.
 */
#include "config.h"

#include "json_fixture.h"

static struct json_w begun(struct buf *out)
{
	struct json_w w;
	buf_init(out, a, SIZE_MAX / 4);
	jw_init(&w, out);
	return w;
}

static void commas_and_colons_come_by_themselves(void **state)
{
	(void)state;
	struct buf out;
	struct json_w w = begun(&out);
	jw_object(&w);
	jw_m_i64(&w, "a", -1);
	jw_key(&w, "list");
	jw_array(&w);
	jw_u64(&w, UINT64_MAX);
	jw_array(&w);
	jw_array_end(&w);
	jw_object(&w);
	jw_object_end(&w);
	jw_bool(&w, false);
	jw_null(&w);
	jw_array_end(&w);
	jw_key_str(&w, STR("o\n"));
	jw_object(&w);
	jw_m_bool(&w, "t", true);
	jw_m_c(&w, "none", NULL);
	jw_m_str(&w, "s", STR(""));
	jw_object_end(&w);
	jw_key(&w, "raw");
	jw_raw(&w, STR("[1, 2]"));
	jw_object_end(&w);
	assert_string_equal(buf_cstr(&out), "{\"a\":-1,\"list\":[18446744073709551615,[],{},false,null],"
					    "\"o\\n\":{\"t\":true,\"none\":null,\"s\":\"\"},\"raw\":[1, 2]}");
	parsed_str(buf_view(&out));
}

static void sixty_four_levels_can_be_written(void **state)
{
	(void)state;
	struct buf out;
	struct json_w w = begun(&out);
	for (int i = 0; i < 64; i++)
		jw_array(&w);
	jw_i64(&w, 1);
	jw_i64(&w, 2);
	for (int i = 0; i < 64; i++)
		jw_array_end(&w);
	assert_non_null(strstr(buf_cstr(&out), "[[1,2]]"));
	parsed_str(buf_view(&out));
}

static void strings_are_escaped(void **state)
{
	(void)state;
	static const struct {
		const char *text, *expected;
	} cases[] = {
		{ "plain", "\"plain\"" },
		{ "\"\\/", "\"\\\"\\\\/\"" },
		{ "\b\f\n\r\t\x01\x1f\x7f", "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"" },
		{ "\xC3\xA9\xE4\xBB\x8A\xF0\x9F\x99\x82", "\"\xC3\xA9\xE4\xBB\x8A\xF0\x9F\x99\x82\"" },
		{ "a\xFF" "b", "\"a\xEF\xBF\xBD" "b\"" },
		{ "\xC0\xAF", "\"\xEF\xBF\xBD\xEF\xBF\xBD\"" },
		{ "\xED\xA0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"" },
		{ "cut \xE4\xBB", "\"cut \xEF\xBF\xBD\xEF\xBF\xBD\"" },
		{ "0123456789abcdef0123456789abcdef\n", "\"0123456789abcdef0123456789abcdef\\n\"" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct buf out;
		buf_init(&out, a, 1000);
		json_quote(&out, str_c(cases[i].text));
		assert_string_equal(buf_cstr(&out), cases[i].expected);
		parsed_str(buf_view(&out));
	}
}

static void a_nul_is_escaped(void **state)
{
	(void)state;
	struct buf out;
	struct json_w w = begun(&out);
	jw_str(&w, str_pn("a\0b", 3));
	assert_string_equal(buf_cstr(&out), "\"a\\u0000b\"");
}

static void what_was_written_reads_back(void **state)
{
	(void)state;
	for (uint32_t c = 1; c < 0x110000; c = c < 0x3000 ? c + 1 : c + 97) {
		if (c >= 0xD800 && c <= 0xDFFF)
			continue;
		char text[32] = "0123456789abcdef";
		char *p = text + c % 17;
		if (c < 0x80)
			*p++ = (char)c;
		else if (c < 0x800)
			*p++ = (char)(0xC0 | c >> 6), *p++ = (char)(0x80 | (c & 63));
		else if (c < 0x10000)
			*p++ = (char)(0xE0 | c >> 12), *p++ = (char)(0x80 | (c >> 6 & 63)), *p++ = (char)(0x80 | (c & 63));
		else
			*p++ = (char)(0xF0 | c >> 18), *p++ = (char)(0x80 | (c >> 12 & 63)), *p++ = (char)(0x80 | (c >> 6 & 63)), *p++ = (char)(0x80 | (c & 63));
		*p = '\0';
		arena_clear(a);
		struct buf out;
		buf_init(&out, a, 1000);
		json_quote(&out, str_c(text));
		assert_true(json_text_is(parsed_str(buf_view(&out)), str_c(text)));
	}
}

static void money_has_nine_decimals(void **state)
{
	(void)state;
	static const struct {
		int64_t nusd;
		const char *expected;
	} cases[] = {
		{ 0, "\"0.000000000\"" }, { 123450, "\"0.000123450\"" }, { -123450, "\"-0.000123450\"" }, { 1000000000, "\"1.000000000\"" },
		{ -1, "\"-0.000000001\"" }, { INT64_MAX, "\"9223372036.854775807\"" }, { INT64_MIN, "\"-9223372036.854775808\"" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct buf out;
		struct json_w w = begun(&out);
		jw_nusd(&w, cases[i].nusd);
		assert_string_equal(buf_cstr(&out), cases[i].expected);
	}
	struct buf out;
	struct json_w w = begun(&out);
	jw_object(&w);
	jw_m_nusd(&w, "cost", 5);
	jw_m_time(&w, "at", 1795239001123456);
	jw_m_time(&w, "never", 0);
	jw_object_end(&w);
	assert_string_equal(buf_cstr(&out), "{\"cost\":\"0.000000005\",\"at\":\"2026-11-21T05:30:01.123Z\",\"never\":null}");
}

static void an_overflow_is_left_to_the_buffer(void **state)
{
	(void)state;
	struct buf out;
	struct json_w w;
	buf_init(&out, a, 8);
	jw_init(&w, &out);
	jw_object(&w);
	jw_m_c(&w, "a", "much too long");
	jw_object_end(&w);
	assert_true(out.overflow);
	assert_true(out.n <= 8);
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, arena_setup, arena_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		FACT(commas_and_colons_come_by_themselves),
		FACT(sixty_four_levels_can_be_written),
		FACT(strings_are_escaped),
		FACT(a_nul_is_escaped),
		FACT(what_was_written_reads_back),
		FACT(money_has_nine_decimals),
		FACT(an_overflow_is_left_to_the_buffer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
