/* SPDX-License-Identifier: Apache-2.0
 * Values made from schemas. The feature test validates many with a real validator; here are the ends of the rope.
 */
#include "config.h"
#include "sim/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "sim/text.h"

static struct arena *a;
static struct json_doc value_doc;

/* Make a value for `schema` and read it back: it must be JSON whatever the schema is. */
static struct json value_for(const char *schema, uint64_t seed)
{
	struct json_doc doc;
	struct sim_rng rng = { seed };
	struct sim_words words = { .count = 0 };
	struct buf *out = ARENA_NEW(a, struct buf);
	struct json_w w;
	struct err err;
	buf_init(out, a, SIZE_MAX);
	assert_int_equal(json_parse(&doc, a, str_c(schema), &json_limits_request, &err), 0);
	struct sim_schema s = { .root = json_root(&doc), .a = a, .rng = &rng, .words = &words };
	jw_init(&w, out);
	sim_schema_write(&s, json_root(&doc), &w);
	assert_int_equal(json_parse(&value_doc, a, buf_view(out), &json_limits_request, &err), 0);
	return json_root(&value_doc);
}

static int setup(void **state)
{
	(void)state;
	a = arena_new(64 << 20);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_free(&a);
	return 0;
}

static void types_are_kept(void **state)
{
	static const struct {
		const char *schema;
		enum json_type want;
	} cases[] = {
		{ "{\"type\":\"object\"}", JSON_OBJECT },
		{ "{\"type\":\"string\"}", JSON_STRING },
		{ "{\"type\":\"integer\"}", JSON_NUMBER },
		{ "{\"type\":\"null\"}", JSON_NULL },
		{ "{\"type\":[\"null\",\"array\"]}", JSON_ARRAY },
		{ "{\"const\":{\"a\":[1]}}", JSON_OBJECT },
		{ "{\"enum\":[null]}", JSON_NULL },
		{ "{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"number\"}]}", JSON_NUMBER },
		{ "{\"$ref\":\"#/$defs/x~1y\",\"$defs\":{\"x/y\":{\"type\":\"string\"}}}", JSON_STRING },
		{ "{}", JSON_STRING },
		{ "[]", JSON_OBJECT },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		assert_int_equal(json_type(value_for(cases[i].schema, i)), cases[i].want);
}

static void numbers_stay_in_their_range(void **state)
{
	static const struct {
		const char *schema;
		double lo, hi;
	} cases[] = {
		{ "{\"type\":\"integer\",\"minimum\":5,\"maximum\":6}", 5, 6 },
		{ "{\"type\":\"integer\",\"exclusiveMinimum\":5,\"maximum\":6}", 6, 6 },
		{ "{\"type\":\"integer\",\"maximum\":-10}", -110, -10 },
		{ "{\"type\":\"number\",\"exclusiveMinimum\":0,\"exclusiveMaximum\":1}", 0.0001, 0.9999 },
		{ "{\"type\":\"integer\",\"minimum\":1,\"multipleOf\":7,\"maximum\":13}", 7, 7 },
		{ "{\"type\":\"number\",\"minimum\":-1e300,\"maximum\":1e300}", -1e300, 1e300 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		for (uint64_t seed = 0; seed < 50; seed++) {
			double v;
			assert_true(json_double(value_for(cases[i].schema, seed), &v));
			assert_true(v >= cases[i].lo && v <= cases[i].hi);
		}
	}
}

static void all_properties_are_filled(void **state)
{
	(void)state;
	struct json v = value_for("{\"type\":\"object\",\"properties\":{\"b\":{\"type\":\"boolean\"},\"a\":{\"type\":\"array\",\"items\":"
				  "{\"type\":\"integer\"},\"minItems\":3}},\"required\":[\"b\"]}", 1);
	assert_int_equal(json_count(v), 2);
	assert_int_equal(json_count(json_get(v, STR("a"))), 3);
}

static void recursion_ends(void **state)
{
	static const char *const schemas[] = {
		"{\"$ref\":\"#\"}",
		"{\"$ref\":\"#/nowhere/at/all\"}",
		"{\"anyOf\":[{\"$ref\":\"#\"}]}",
		"{\"type\":\"object\",\"properties\":{\"next\":{\"$ref\":\"#\"}},\"required\":[\"next\"]}",
		"{\"type\":\"object\",\"properties\":{\"kids\":{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}},\"required\":[\"kids\"]}",
		"{\"type\":\"object\",\"properties\":{\"next\":{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}},\"required\":[\"next\"]}",
		"{\"type\":\"array\",\"items\":{\"$ref\":\"#\"},\"minItems\":1}",
		"{\"allOf\":[{\"$ref\":\"#\"}]}",
	};
	(void)state;
	for (size_t i = 0; i < sizeof schemas / sizeof schemas[0]; i++)
		value_for(schemas[i], i);
}

static void a_schema_cannot_make_an_endless_answer(void **state)
{
	(void)state;
	value_for("{\"type\":\"array\",\"minItems\":1000,\"items\":{\"type\":\"array\",\"minItems\":1000,\"items\":{\"type\":\"array\",\"minItems\":1000,"
		  "\"items\":{\"type\":\"array\",\"minItems\":1000,\"items\":{\"type\":\"string\",\"minLength\":100000}}}}}", 1);
}

static void lengths_count_characters(void **state)
{
	(void)state;
	struct str s = json_text(value_for("{\"type\":\"string\",\"minLength\":40,\"maxLength\":41}", 3), a);
	assert_true(s.n >= 40 && s.n <= 41);
	s = json_text(value_for("{\"type\":\"string\",\"maxLength\":0}", 3), a);
	assert_int_equal(s.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(types_are_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(numbers_stay_in_their_range, setup, teardown),
		cmocka_unit_test_setup_teardown(all_properties_are_filled, setup, teardown),
		cmocka_unit_test_setup_teardown(recursion_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(a_schema_cannot_make_an_endless_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(lengths_count_characters, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
