/* SPDX-License-Identifier: Apache-2.0
 * Edits: what changes, and that nothing else does.
 */
#include "config.h"

#include "json_fixture.h"

struct edit_case {
	const char *text, *expected;
};

static const char *applied(const struct json_edit *e)
{
	static struct buf out;
	buf_init(&out, a, SIZE_MAX / 4);
	json_edit_apply(e, &out);
	parsed_str(buf_view(&out)); /* an edited document is a document */
	return buf_cstr(&out);
}

static struct json_edit edit_of(struct json v)
{
	struct json_edit e;
	json_edit_init(&e, v.doc, a);
	return e;
}

static void no_change_copies_every_byte(void **state)
{
	(void)state;
	const char *text = " {\r\n\t\"a\" : [ 1.50 , \"\\u0041\" ] ,\n\"b\":{ } }\n";
	struct json_edit e = edit_of(parsed(text));
	assert_string_equal(applied(&e), text);
}

static void set_replaces_or_appends(void **state)
{
	(void)state;
	static const struct edit_case cases[] = {
		{ "{\"model\":\"a\",\"x\":1}", "{\"model\":\"X\",\"x\":1}" },
		{ "{ \"x\" : 1 , \"mod\\u0065l\" : { \"deep\" : [ ] } }", "{ \"x\" : 1 , \"mod\\u0065l\" : \"X\" }" },
		{ "{\"model\":1,\"model\":2}", "{\"model\":\"X\",\"model\":\"X\"}" },
		{ "{}", "{\"model\":\"X\"}" },
		{ "{ \n}", "{ \n\"model\":\"X\"}" },
		{ "{\n  \"x\": 1\n}", "{\n  \"x\": 1,\"model\":\"X\"\n}" },
		{ "{\"x\":{\"model\":1}}", "{\"x\":{\"model\":1},\"model\":\"X\"}" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct json v = parsed(cases[i].text);
		struct json_edit e = edit_of(v);
		json_edit_set(&e, v, STR("model"), STR("\"X\""));
		assert_string_equal(applied(&e), cases[i].expected);
	}
}

static void remove_takes_the_comma(void **state)
{
	(void)state;
	static const struct edit_case cases[] = {
		{ "{\"r\":1}", "{}" },
		{ "{ \"r\" : 1 }", "{  }" },
		{ "{\"r\":1,\"a\":2}", "{\"a\":2}" },
		{ "{\"a\":2,\"r\":1}", "{\"a\":2}" },
		{ "{\"a\":2 , \"r\":1 , \"b\":3}", "{\"a\":2 , \"b\":3}" },
		{ "{\"r\":0,\"r\":1}", "{}" },
		{ "{\"r\":0,\"a\":2,\"r\":1}", "{\"a\":2}" },
		{ "{\"r\":0,\"r\":1,\"a\":2}", "{\"a\":2}" },
		{ "{\"a\":2,\"r\":0,\"r\":1,\"b\":\"s\",\"r\":[]}", "{\"a\":2,\"b\":\"s\"}" },
		{ "{\"a\":2}", "{\"a\":2}" },
		{ "{\n\t\"a\": 1,\n\t\"r\": 2\n}", "{\n\t\"a\": 1\n}" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct json v = parsed(cases[i].text);
		struct json_edit e = edit_of(v);
		json_edit_remove(&e, v, STR("r"));
		assert_string_equal(applied(&e), cases[i].expected);
	}
}

static void removing_and_appending_share_the_commas(void **state)
{
	(void)state;
	static const struct edit_case cases[] = {
		{ "{\"r\":1}", "{\"n\":0,\"m\":9}" },
		{ "{\"a\":1,\"r\":1}", "{\"a\":1,\"n\":0,\"m\":9}" },
		{ "{\"r\":1,\"a\":1}", "{\"a\":1,\"n\":0,\"m\":9}" },
		{ "{\"r\":1,\"a\":1,\"r\":1}", "{\"a\":1,\"n\":0,\"m\":9}" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct json v = parsed(cases[i].text);
		struct json_edit e = edit_of(v);
		json_edit_set(&e, v, STR("n"), STR("0"));
		json_edit_remove(&e, v, STR("r"));
		json_edit_set(&e, v, STR("m"), STR("9"));
		assert_string_equal(applied(&e), cases[i].expected);
	}
}

static void edits_at_several_depths_do_not_meet(void **state)
{
	(void)state;
	struct json v = parsed("{\"messages\":[{\"r\":1,\"c\":\"x\"},{\"c\":\"y\",\"r\":{\"r\":2}}],\"stream_options\":{}}");
	struct json_edit e = edit_of(v);
	struct json messages = json_get(v, STR("messages"));
	for (struct json_iter it = json_iter(messages); json_next(&it);) {
		json_edit_remove(&e, it.value, STR("r"));
		json_edit_set(&e, it.value, STR("n"), STR("[]"));
	}
	json_edit_set(&e, json_get(v, STR("stream_options")), STR("include_usage"), STR("true"));
	json_edit_set(&e, v, STR("model"), STR("\"X\""));
	json_edit_replace(&e, json_get(json_at(messages, 0), STR("c")), STR("null"));
	assert_string_equal(applied(&e), "{\"messages\":[{\"c\":null,\"n\":[]},{\"c\":\"y\",\"n\":[]}],"
					 "\"stream_options\":{\"include_usage\":true},\"model\":\"X\"}");
}

static void the_later_change_of_a_place_wins(void **state)
{
	(void)state;
	struct json v = parsed("{\"a\":1}");
	struct json_edit e = edit_of(v);
	json_edit_set(&e, v, STR("a"), STR("2"));
	json_edit_set(&e, v, STR("a"), STR("3"));
	json_edit_set(&e, v, STR("n"), STR("4"));
	json_edit_set(&e, v, STR("n"), STR("5"));
	assert_string_equal(applied(&e), "{\"a\":3,\"n\":5}");
	json_edit_remove(&e, v, STR("a"));
	json_edit_remove(&e, v, STR("n"));
	assert_string_equal(applied(&e), "{}");
	json_edit_set(&e, v, STR("a"), STR("6"));
	assert_string_equal(applied(&e), "{\"a\":6}");
}

static void a_change_inside_what_goes_away_goes_with_it(void **state)
{
	(void)state;
	struct json v = parsed("{\"a\":{\"x\":1},\"b\":{\"y\":[{\"z\":1}]},\"c\":{}}");
	struct json_edit e = edit_of(v);
	json_edit_set(&e, json_get(v, STR("a")), STR("x"), STR("2"));
	json_edit_set(&e, json_get(v, STR("a")), STR("n"), STR("2"));
	json_edit_set(&e, json_get(v, STR("c")), STR("n"), STR("2"));
	json_edit_remove(&e, json_at(json_get(json_get(v, STR("b")), STR("y")), 0), STR("z"));
	json_edit_replace(&e, json_get(v, STR("a")), STR("7"));
	json_edit_remove(&e, v, STR("b"));
	json_edit_remove(&e, v, STR("c"));
	assert_string_equal(applied(&e), "{\"a\":7}");
}

static void an_object_may_gain_a_member_and_go_away(void **state)
{
	(void)state;
	struct json v = parsed("{\"a\":1,\"o\":{\"x\":1}}");
	struct json_edit e = edit_of(v);
	json_edit_remove(&e, v, STR("o"));
	json_edit_set(&e, json_get(v, STR("o")), STR("n"), STR("2"));
	assert_string_equal(applied(&e), "{\"a\":1}");
}

static void the_root_can_be_replaced(void **state)
{
	(void)state;
	struct json v = parsed(" [1] ");
	struct json_edit e = edit_of(v);
	json_edit_replace(&e, v, STR("{}"));
	assert_string_equal(applied(&e), " {} ");
}

static void names_that_are_appended_are_escaped(void **state)
{
	(void)state;
	struct json v = parsed("{}");
	struct json_edit e = edit_of(v);
	json_edit_set(&e, v, STR("a\"\n\xC3\xA9"), STR("1"));
	assert_string_equal(applied(&e), "{\"a\\\"\\n\xC3\xA9\":1}");
}

static void a_name_repeated_many_times_costs_no_square(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, a, SIZE_MAX / 4);
	for (unsigned i = 0; i < 200000; i++)
		buf_c(&b, i ? ",\"r\":1" : "{\"r\":1");
	buf_c(&b, "}");
	struct json v = parsed_str(buf_view(&b));
	struct json_edit e = edit_of(v);
	json_edit_remove(&e, v, STR("r"));
	assert_string_equal(applied(&e), "{}");
	json_edit_set(&e, v, STR("r"), STR("2"));
	assert_int_equal(strlen(applied(&e)), b.n);
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, arena_setup, arena_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		FACT(no_change_copies_every_byte),
		FACT(set_replaces_or_appends),
		FACT(remove_takes_the_comma),
		FACT(removing_and_appending_share_the_commas),
		FACT(edits_at_several_depths_do_not_meet),
		FACT(the_later_change_of_a_place_wins),
		FACT(a_change_inside_what_goes_away_goes_with_it),
		FACT(an_object_may_gain_a_member_and_go_away),
		FACT(the_root_can_be_replaced),
		FACT(names_that_are_appended_are_escaped),
		FACT(a_name_repeated_many_times_costs_no_square),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
