/* SPDX-License-Identifier: Apache-2.0
 * The routing table: what is found, what a path allows, what a last segment takes.
 */
#include "config.h"
#include "api/room.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct {
	const char *method, *path, *found, *tail, *allow;
} cases[] = {
	{ "POST", "/v1/chat/completions", "/v1/chat/completions", "", "" },
	{ "GET", "/v1/chat/completions", NULL, "", "POST" },
	{ "DELETE", "/v1/models", NULL, "", "GET, HEAD" },
	{ "HEAD", "/health/ready", "/health/ready", "", "" },
	{ "GET", "/v1/models/gpt-4o", "/v1/models/{id}", "gpt-4o", "" },
	{ "GET", "/v1/models/org/model:v1", "/v1/models/{id}", "org/model:v1", "" },
	{ "GET", "/v1/models/", NULL, "", "" },
	{ "GET", "/v1/models", "/v1/models", "", "" },
	{ "GET", "/", NULL, "", "" },
	{ "GET", "/v1/chat/completions/", NULL, "", "" },
	{ "GET", "/V1/models", NULL, "", "" },
	{ "get", "/v1/models", NULL, "", "GET, HEAD" },
};

static void paths_lead_where_the_table_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct str tail;
		char allow[64];
		const struct route *r = route_find(str_c(cases[i].method), str_c(cases[i].path), &tail, allow);
		if (!r != !cases[i].found)
			fail_msg("case %zu: %s %s", i, cases[i].method, cases[i].path);
		if (r) {
			assert_string_equal(r->path, cases[i].found);
			assert_true(str_eq_c(tail, cases[i].tail));
		} else {
			assert_string_equal(allow, cases[i].allow);
		}
	}
}

static void every_open_route_is_a_health_route(void **state)
{
	static const char *const paths[] = { "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models", "/v1/requests", "/v1/usage" };
	(void)state;
	for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
		struct str tail;
		const struct route *get = route_find(STR("GET"), str_c(paths[i]), &tail, NULL), *post = route_find(STR("POST"), str_c(paths[i]), &tail, NULL);
		assert_true(get || post);
		assert_int_not_equal((get ? get : post)->scope, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_lead_where_the_table_says),
		cmocka_unit_test(every_open_route_is_a_health_route),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
