/* SPDX-License-Identifier: Apache-2.0
 * All of the JSON test suite's test_parsing: y_ is taken, n_ refused, i_ as decided here and in docs/reference/json.md.
 * The suite is third-party data and lies beside the source tree; without it the test says so and is skipped.
 */
#include "config.h"

#include "json_fixture.h"

#include <dirent.h>

/* What the standard leaves open. `request` for what callers send, `upstream` for what providers answer. */
static const struct decided {
	const char *file;
	bool request, upstream;
} decided[] = {
	/* numbers stay text: too large or too small only matters to who asks for a value, and then it is refused or rounded */
	{ "i_number_double_huge_neg_exp.json", true, true },
	{ "i_number_huge_exp.json", true, true },
	{ "i_number_neg_int_huge_exp.json", true, true },
	{ "i_number_pos_double_huge_exp.json", true, true },
	{ "i_number_real_neg_overflow.json", true, true },
	{ "i_number_real_pos_overflow.json", true, true },
	{ "i_number_real_underflow.json", true, true },
	{ "i_number_too_big_neg_int.json", true, true },
	{ "i_number_too_big_pos_int.json", true, true },
	{ "i_number_very_big_negative_int.json", true, true },
	/* half a surrogate pair is no character: refused from callers, carried through from providers */
	{ "i_object_key_lone_2nd_surrogate.json", false, true },
	{ "i_string_1st_surrogate_but_2nd_missing.json", false, true },
	{ "i_string_1st_valid_surrogate_2nd_invalid.json", false, true },
	{ "i_string_incomplete_surrogate_and_escape_valid.json", false, true },
	{ "i_string_incomplete_surrogate_pair.json", false, true },
	{ "i_string_incomplete_surrogates_escape_valid.json", false, true },
	{ "i_string_invalid_lonely_surrogate.json", false, true },
	{ "i_string_invalid_surrogate.json", false, true },
	{ "i_string_inverted_surrogates_U+1D11E.json", false, true },
	{ "i_string_lone_second_surrogate.json", false, true },
	/* bytes that are not UTF-8 as RFC 3629 defines it: whoever reads them next may read something else */
	{ "i_string_UTF-8_invalid_sequence.json", false, false },
	{ "i_string_UTF8_surrogate_U+D800.json", false, false },
	{ "i_string_invalid_utf-8.json", false, false },
	{ "i_string_iso_latin_1.json", false, false },
	{ "i_string_lone_utf8_continuation_byte.json", false, false },
	{ "i_string_not_in_unicode_range.json", false, false },
	{ "i_string_overlong_sequence_2_bytes.json", false, false },
	{ "i_string_overlong_sequence_6_bytes.json", false, false },
	{ "i_string_overlong_sequence_6_bytes_null.json", false, false },
	{ "i_string_truncated-utf-8.json", false, false },
	/* RFC 8259 section 8.1: UTF-8, without a byte order mark */
	{ "i_string_UTF-16LE_with_BOM.json", false, false },
	{ "i_string_utf16BE_no_BOM.json", false, false },
	{ "i_string_utf16LE_no_BOM.json", false, false },
	{ "i_structure_UTF-8_BOM_empty_object.json", false, false },
	/* deeper than 64 */
	{ "i_structure_500_nested_arrays.json", false, false },
};

static bool expected(const char *file, bool upstream)
{
	if (file[0] != 'i')
		return file[0] == 'y';
	for (size_t i = 0; i < sizeof decided / sizeof decided[0]; i++)
		if (strcmp(file, decided[i].file) == 0)
			return upstream ? decided[i].upstream : decided[i].request;
	fail_msg("not decided: %s", file);
	return false;
}

static struct str read_file(const char *dir, const char *name)
{
	struct buf b;
	buf_init(&b, a, 1 << 20);
	FILE *f = fopen(arena_printf(a, "%s/%s", dir, name).p, "rb");
	assert_non_null(f);
	char *to = buf_reserve(&b, 1 << 20);
	b.n = fread(to, 1, 1 << 20, f);
	assert_true(b.n < 1 << 20);
	fclose(f);
	return buf_view(&b);
}

static bool taken(struct str text, const struct json_limits *limits)
{
	struct json_doc doc;
	struct err err;
	return json_parse(&doc, a, text, limits, &err) == 0;
}

static DIR *open_suite(const char **path_r)
{
	const char *shared = getenv("HEADGATE_SHARED"), *source = getenv("HEADGATE_SRCDIR");
	struct str roots[] = { shared ? arena_printf(a, "%s", shared) : STR_NONE, shared ? arena_printf(a, "%s/data", shared) : STR_NONE,
			       source ? arena_printf(a, "%s/../shared/data", source) : STR_NONE };
	for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
		if (!roots[i].p)
			continue;
		*path_r = arena_printf(a, "%s/json-test-suite/test_parsing", roots[i].p).p;
		DIR *dir = opendir(*path_r);
		if (dir)
			return dir;
	}
	return NULL;
}

static void every_file_of_the_suite_is_judged_right(void **state)
{
	(void)state;
	const char *path = NULL;
	unsigned files = 0, wrong = 0;
	DIR *dir = open_suite(&path);
	assert_non_null(dir);
	for (struct dirent *d; (d = readdir(dir));) {
		size_t n = strlen(d->d_name);
		if (n < 6 || strcmp(d->d_name + n - 5, ".json") != 0)
			continue;
		struct str text = read_file(path, d->d_name);
		bool request = taken(text, &json_limits_request), upstream = taken(text, &json_limits_upstream);
		if (request != expected(d->d_name, false) || upstream != expected(d->d_name, true)) {
			print_message("# %s: %d, from a provider %d\n", d->d_name, request, upstream);
			wrong++;
		}
		files++;
	}
	closedir(dir);
	assert_int_equal(wrong, 0);
	assert_true(files >= 300);
}

static bool suite_is_here(void)
{
	const char *path;
	arena_setup(NULL);
	DIR *dir = open_suite(&path);
	if (dir)
		closedir(dir);
	arena_teardown(NULL);
	return dir != NULL;
}

int main(void)
{
	if (!suite_is_here()) {
		puts("1..0 # SKIP the JSON test suite is not here (HEADGATE_SHARED)");
		return 0;
	}
	const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(every_file_of_the_suite_is_judged_right, arena_setup, arena_teardown) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
