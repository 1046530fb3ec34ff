/* SPDX-License-Identifier: Apache-2.0
 * Which row of the catalog a name means: the longest wins.
 */
#include "config.h"
#include "base/arena.h"
#include "call/catalog.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct catalog_snapshot *snapshot_of(const char *const *names)
{
	struct catalog_snapshot *s = snapshot_new();
	while (names[s->nmodels])
		s->nmodels++;
	s->models = arena_array(s->a, s->nmodels + 1, sizeof *s->models);
	for (unsigned i = 0; i < s->nmodels; i++)
		s->models[i] = (struct model){ .name = str_c(names[i]), .enabled = true };
	snapshot_index(s);
	return s;
}

static void check(struct catalog_snapshot *s, const char *name, const char *wanted)
{
	const struct model *m = catalog_match(s, str_c(name));
	if (!wanted)
		assert_null(m);
	else if (!m)
		fail_msg("%s matches nothing, not %s", name, wanted);
	else
		assert_true(str_eq_c(m->name, wanted));
}

static void the_longest_name_wins(void **state)
{
	(void)state;
	static const char *const names[] = { "*", "gpt-*", "gpt-4*", "gpt-4o", "gpt-4o*", "gpt-4o-mini", "claude-3*", NULL };
	static const char *const cases[][2] = {
		{ "gpt-4o", "gpt-4o" }, { "gpt-4o-mini", "gpt-4o-mini" }, { "gpt-4o-2024", "gpt-4o*" }, { "gpt-4", "gpt-4*" }, { "gpt-4-turbo", "gpt-4*" },
		{ "gpt-3.5", "gpt-*" }, { "gpt-", "gpt-*" }, { "gpt", "*" }, { "claude-3-opus", "claude-3*" }, { "claude-3", "claude-3*" }, { "claude-2", "*" },
		{ "", "*" }, { "GPT-4o", "*" }, { "gpt-4o*", "gpt-4o*" }, { "*", "*" },
	};
	struct catalog_snapshot *s = snapshot_of(names);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		check(s, cases[i][0], cases[i][1]);
	catalog_put(&s);
}

static void without_a_star_alone_what_is_unknown_matches_nothing(void **state)
{
	(void)state;
	static const char *const names[] = { "sim-*", "exact", NULL };
	struct catalog_snapshot *s = snapshot_of(names);
	check(s, "sim-chat?tokens=5", "sim-*");
	check(s, "exact", "exact");
	check(s, "exactly", NULL);
	check(s, "sim", NULL);
	check(s, "", NULL);
	catalog_put(&s);
}

static void an_empty_catalog_matches_nothing(void **state)
{
	(void)state;
	static const char *const names[] = { NULL };
	struct catalog_snapshot *s = snapshot_of(names);
	check(s, "gpt-4o", NULL);
	catalog_put(&s);
}

static void many_names_are_all_found(void **state)
{
	(void)state;
	struct catalog_snapshot *s = snapshot_new();
	s->nmodels = 5000;
	s->models = arena_array(s->a, s->nmodels, sizeof *s->models);
	for (unsigned i = 0; i < s->nmodels; i++)
		s->models[i] = (struct model){ .name = arena_printf(s->a, "model-%u", i) };
	snapshot_index(s);
	for (unsigned i = 0; i < s->nmodels; i++)
		assert_ptr_equal(catalog_match(s, s->models[i].name), &s->models[i]);
	check(s, "model-5000", NULL);
	catalog_put(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_longest_name_wins),
		cmocka_unit_test(without_a_star_alone_what_is_unknown_matches_nothing),
		cmocka_unit_test(an_empty_catalog_matches_nothing),
		cmocka_unit_test(many_names_are_all_found),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
