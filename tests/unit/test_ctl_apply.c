/* SPDX-License-Identifier: Apache-2.0
 * The file of `headgatectl apply`: what it says, and everything that is wrong in it with its place.
 */
#include "config.h"
#include "base/arena.h"
#include "base/buf.h"
#include "ctl/ctl_apply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

struct fixture {
	struct arena *a;
	struct apply_file file;
	struct apply_problems problems;
};

static void parse(struct fixture *f, const char *text)
{
	struct json_doc *doc;
	f->a = arena_new(SIZE_MAX);
	doc = arena_zalloc(f->a, sizeof *doc);
	f->problems = (struct apply_problems){ .a = f->a };
	assert_int_equal(json_parse(doc, f->a, str_c(text), &json_limits_request, NULL), 0);
	apply_parse(json_root(doc), f->a, &f->file, &f->problems);
}

static void a_whole_file_is_read(void **state)
{
	(void)state;
	struct fixture f;
	setenv("TEST_APPLY_KEY", "from-the-environment", 1);
	parse(&f, "{\"organizations\":[{\"name\":\"Acme\"}],"
		  "\"providers\":[{\"name\":\"sim\",\"kind\":\"openai\",\"base_url\":\"http://x/v1\",\"api_keys\":[\"one\",{\"env\":\"TEST_APPLY_KEY\"}],"
		  "\"allow_http\":true,\"timeouts\":{\"idle_ms\":5},\"enabled\":false}],"
		  "\"models\":[{\"name\":\"sim-*\",\"policy\":\"priority\",\"targets\":[{\"provider\":\"sim\"},{\"provider\":\"b\",\"model\":\"m\",\"priority\":2,\"weight\":3}]}],"
		  "\"prices\":[{\"provider\":\"sim\",\"model\":\"sim-*\",\"unit\":\"1M_tokens\",\"input_usd\":\"1.00\",\"output_usd\":\"0.000000001\","
		  "\"effective_from\":\"2026-01-01T00:00:00Z\"}]}");
	assert_int_equal(f.problems.n, 0);
	assert_int_equal(f.file.norganizations, 1);
	assert_true(str_eq_c(f.file.organizations[0], "Acme"));
	const struct provider_put *p = &f.file.providers[0].is;
	assert_true(str_eq_c(p->name, "sim") && p->allow_http && !p->allow_private && !p->enabled && p->idle_ms == 5 && p->total_ms == 0);
	assert_int_equal(p->napi_keys, 2);
	assert_true(str_eq_c(p->api_keys[0], "one") && str_eq_c(p->api_keys[1], "from-the-environment"));
	const struct model_put *m = &f.file.models[0].is;
	assert_true(m->enabled && m->ntargets == 2 && m->targets[0].weight == 1 && m->targets[1].weight == 3 && m->targets[1].priority == 2);
	const struct ledger_price_new *r = &f.file.prices[0].is;
	assert_true(r->input == 1000000000 && r->output == 1 && r->cached == LEDGER_NO_PRICE && r->effective_us == 1767225600000000);
	arena_free(&f.a);
}

static void keys_that_are_not_named_are_left_alone(void **state)
{
	(void)state;
	struct fixture f;
	parse(&f, "{\"providers\":[{\"name\":\"a\",\"kind\":\"openai\",\"base_url\":\"x\"},{\"name\":\"b\",\"kind\":\"openai\",\"base_url\":\"x\",\"api_keys\":[]}]}");
	assert_int_equal(f.problems.n, 0);
	assert_null(f.file.providers[0].is.api_keys);
	assert_non_null(f.file.providers[1].is.api_keys);
	assert_true(f.file.has_providers);
	assert_false(f.file.has_models);
	arena_free(&f.a);
}

static void every_problem_is_named_with_its_place(void **state)
{
	(void)state;
	static const struct { const char *text; const char *problems[4]; } cases[] = {
		{ "[]", { "must be an object" } },
		{ "{}", { NULL } },
		{ "{\"modles\":[]}", { "modles: is no known field, did you mean models?" } },
		{ "{\"models\":{}}", { "models: must be an array, not an object" } },
		{ "{\"models\":[3]}", { "models[0]: must be an object, not a number" } },
		{ "{\"models\":[{\"name\":\"m\"}]}", { "models[0].targets: is missing" } },
		{ "{\"models\":[{\"name\":\"\",\"targets\":[]}]}", { "models[0].name: must not be empty" } },
		{ "{\"models\":[{\"name\":\"a\\u0000b\",\"targets\":[]}]}", { "models[0].name: must hold no NUL" } },
		{ "{\"models\":[{\"name\":\"m\",\"name\":\"n\",\"targets\":[]}]}", { "models[0].name: is there more than once" } },
		{ "{\"models\":[{\"name\":\"m\",\"targets\":[{}]},{\"name\":\"m\",\"targets\":[]}]}",
		  { "models[0].targets[0].provider: is missing", "models[1]: has the name of models[0]" } },
		{ "{\"models\":[{\"name\":\"m\",\"policy\":\"cheapest\",\"targets\":[{\"provider\":\"p\",\"weight\":1.5}]}]}",
		  { "models[0].targets[0].weight: must be a whole number", "models[0].policy: must be priority" } },
		{ "{\"providers\":[{\"name\":\"p\",\"kind\":\"openai\",\"base_url\":\"x\",\"api_keys\":[1,{},{\"env\":\"NOT_THERE_AT_ALL\"}]}]}",
		  { "providers[0].api_keys[0]: must be a string", "providers[0].api_keys[1]: must name one of env and file",
		    "providers[0].api_keys[2]: the environment has no NOT_THERE_AT_ALL" } },
		{ "{\"providers\":[{\"name\":\"p\",\"kind\":\"openai\",\"base_url\":\"x\",\"enabled\":\"yes\",\"max_in_flight\":3}]}",
		  { "providers[0].max_in_flight: is no known field", "providers[0].enabled: must be true or false" } },
		{ "{\"prices\":[{\"provider\":\"p\",\"model\":\"m\",\"input_usd\":2,\"output_usd\":\"1.0000000001\",\"unit\":\"token\",\"effective_from\":\"soon\"}]}",
		  { "prices[0].input_usd: must be a string of dollars", "prices[0].output_usd: must be", "prices[0].unit: must be 1M_tokens",
		    "prices[0].effective_from: must be a time" } },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct fixture f;
		unsigned n = 0;
		parse(&f, cases[i].text);
		while (n < 4 && cases[i].problems[n])
			n++;
		if (f.problems.n != n)
			fail_msg("%s: %u problems, not %u", cases[i].text, f.problems.n, n);
		for (unsigned k = 0; k < n; k++)
			if (!str_starts(f.problems.lines[k], str_c(cases[i].problems[k])))
				fail_msg("%s: \"" STR_FMT "\", not \"%s\"", cases[i].text, STR_ARG(f.problems.lines[k]), cases[i].problems[k]);
		arena_free(&f.a);
	}
}

static void a_thousand_problems_are_counted(void **state)
{
	(void)state;
	struct fixture f;
	struct buf b;
	buf_init(&b, NULL, 1 << 20);
	buf_c(&b, "{\"models\":[0");
	for (int i = 1; i < 1000; i++)
		buf_c(&b, ",0");
	buf_c(&b, "]}");
	parse(&f, buf_cstr(&b));
	assert_int_equal(f.problems.n, 1000);
	arena_free(&f.a);
	buf_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_file_is_read),
		cmocka_unit_test(keys_that_are_not_named_are_left_alone),
		cmocka_unit_test(every_problem_is_named_with_its_place),
		cmocka_unit_test(a_thousand_problems_are_counted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
