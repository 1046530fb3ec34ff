/* SPDX-License-Identifier: Apache-2.0
 * Text: struct str and struct buf.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"

static void comparing_knows_the_empty_text(void **state)
{
	(void)state;
	assert_true(str_eq(STR_NONE, STR("")));
	assert_true(str_eq(STR_NONE, STR_NONE));
	assert_true(str_ieq(STR_NONE, STR("")));
	assert_true(str_starts(STR_NONE, STR("")) && str_ends(STR_NONE, STR("")) && str_ends(STR("a"), STR_NONE));
	assert_false(str_starts(STR_NONE, STR("a")) || str_ends(STR(""), STR("a")));
	assert_true(str_c(NULL).p == NULL);
	assert_int_equal(str_cmp(STR_NONE, STR("")), 0);
	assert_true(str_cmp(STR("a"), STR("ab")) < 0 && str_cmp(STR("b"), STR("ab")) > 0 && str_cmp(STR("\xFF"), STR("a")) > 0);
	assert_true(str_eq_c(STR("abc"), "abc"));
	assert_false(str_eq_c(STR("abc"), "ab"));
}

static void case_is_folded_in_ascii_only(void **state)
{
	(void)state;
	assert_true(str_ieq(STR("Content-TYPE"), STR("content-type")));
	assert_false(str_ieq(STR("@"), STR("`")));
	assert_false(str_ieq(STR("["), STR("{")));
	assert_false(str_ieq(STR("\xC4"), STR("\xE4")));
	assert_true(str_istarts(STR("BEARER x"), STR("bearer ")));
	assert_false(str_istarts(STR("BEA"), STR("bearer ")));
}

static void finding_stays_inside(void **state)
{
	(void)state;
	assert_int_equal(str_find(STR("abcabc"), STR("ca"), 0), 2);
	assert_int_equal(str_find(STR("abcabc"), STR("abc"), 1), 3);
	assert_true(str_find(STR("abc"), STR("abcd"), 0) == SIZE_MAX);
	assert_true(str_find(STR("abc"), STR("c"), 4) == SIZE_MAX);
	assert_int_equal(str_find(STR("abc"), STR(""), 3), 3);
	assert_true(str_find_char(STR_NONE, 'a', 0) == SIZE_MAX);
	assert_int_equal(str_find_char(STR("abca"), 'a', 1), 3);
	assert_true(str_find_char(STR("abc"), 'a', 99) == SIZE_MAX);
	assert_int_equal(str_sub(STR("abc"), 5, 2).n, 0);
	assert_true(str_eq(str_sub(STR("abc"), 1, SIZE_MAX), STR("bc")));
	assert_int_equal(str_sub(STR_NONE, 0, 9).n, 0);
	assert_true(str_eq(str_trim(STR(" \t a b\t ")), STR("a b")));
	assert_int_equal(str_trim(STR(" \t ")).n, 0);
	assert_int_equal(str_trim(STR_NONE).n, 0);
}

static void splitting_gives_every_part_once(void **state)
{
	(void)state;
	struct str rest = STR(",a,,b,"), part;
	static const char *const parts[] = { "", "a", "", "b", "" };
	for (size_t i = 0; i < 5; i++) {
		assert_true(str_split(&rest, ',', &part));
		assert_true(str_eq_c(part, parts[i]));
	}
	assert_false(str_split(&rest, ',', &part));
	rest = STR("");
	assert_true(str_split(&rest, ',', &part));
	assert_false(str_split(&rest, ',', &part));
	rest = STR_NONE;
	assert_false(str_split(&rest, ',', &part));
}

static void numbers_are_exact_or_refused(void **state)
{
	(void)state;
	uint64_t u = 7;
	int64_t i = 7;
	assert_true(str_u64(STR("18446744073709551615"), &u) && u == UINT64_MAX);
	assert_true(str_u64(STR("000"), &u) && u == 0);
	assert_true(str_i64(STR("9223372036854775807"), &i) && i == INT64_MAX);
	assert_true(str_i64(STR("-9223372036854775808"), &i) && i == INT64_MIN);
	assert_true(str_i64(STR("-0"), &i) && i == 0);
	u = 7;
	i = 7;
	static const char *const wrong[] = { "", "-", "--1", "+1", " 1", "1 ", "1a", "0x1", "1.0", "\xEF\xBC\x91" };
	for (size_t k = 0; k < sizeof wrong / sizeof wrong[0]; k++)
		assert_false(str_u64(str_c(wrong[k]), &u) || str_i64(str_c(wrong[k]), &i));
	assert_false(str_u64(STR("18446744073709551616"), &u) || str_u64(STR("99999999999999999999"), &u) || str_u64(STR("-1"), &u));
	assert_false(str_i64(STR("9223372036854775808"), &i) || str_i64(STR("-9223372036854775809"), &i));
	assert_false(str_u64(STR_NONE, &u) || str_u64(str_pn("1\0" "2", 3), &u));
	assert_true(u == 7 && i == 7);
}

static void utf8_is_that_of_rfc_3629(void **state)
{
	(void)state;
	static const char *const good[] = { "", "abc", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF",
					    "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "12345678\xC3\xA9", "1234567\xE4\xBB\x8A" };
	static const char *const bad[] = { "\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF",
					   "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xC3", "\xE4\xBB", "\xF0\x9F\x99", "\xC3(", "\xE4\xBB(",
					   "12345678\xC3", ("1234567\xFE" "12345678") };
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		if (!str_is_utf8(str_c(good[i])))
			fail_msg("good %zu", i);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (str_is_utf8(str_c(bad[i])))
			fail_msg("bad %zu", i);
	assert_true(str_is_utf8(STR_NONE));
}

static void a_star_stands_for_any_run(void **state)
{
	(void)state;
	static const struct {
		const char *pattern, *text;
		bool match;
	} cases[] = {
		{ "", "", true }, { "", "a", false }, { "*", "", true }, { "*", "anything", true }, { "a*", "a", true }, { "a*", "ba", false },
		{ "gpt-4*", "gpt-4o-mini", true }, { "gpt-4*", "gpt-3.5", false }, { "*-mini", "gpt-4o-mini", true }, { "*-mini", "gpt-4o-mini-x", false },
		{ "a*b*c", "aXbXc", true }, { "a*b*c", "aXcXb", false }, { "a**b", "ab", true }, { "*a*", "bab", true }, { "?", "x", false },
		{ "?", "?", true }, { "[a]", "a", false }, { "a*ab", "aaaab", true }, { "*.*", "a", false }, { "abc", "abcd", false }, { "abcd", "abc", false },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		if (str_glob(str_c(cases[i].pattern), str_c(cases[i].text)) != cases[i].match)
			fail_msg("%s on %s", cases[i].pattern, cases[i].text);
	assert_true(str_glob(STR("*"), STR_NONE));
	assert_true(str_glob(STR_NONE, STR_NONE));
}

static void many_stars_do_not_explode(void **state)
{
	(void)state;
	char pattern[64], text[4096];
	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = i % 2 ? 'a' : '*';
	pattern[sizeof pattern - 1] = 'b';
	memset(text, 'a', sizeof text);
	assert_false(str_glob(str_pn(pattern, sizeof pattern), str_pn(text, sizeof text)));
}

static void fill_and_check(struct buf *b)
{
	buf_c(b, "a");
	buf_char(b, 'b');
	buf_str(b, STR_NONE);
	buf_c(b, NULL);
	buf_i64(b, INT64_MIN);
	buf_char(b, ' ');
	buf_u64(b, UINT64_MAX);
	buf_u64(b, 0);
	buf_printf(b, "%05d%s", 42, "x");
	assert_string_equal(buf_cstr(b), "ab-9223372036854775808 18446744073709551615000042x");
	assert_int_equal(b->p[b->n], 0);
	buf_printf(b, "%2000d", 7);
	assert_int_equal(b->n, 50 + 2000);
	assert_int_equal(b->p[b->n], 0);
	for (int i = 0; i < 100000; i++)
		buf_char(b, (char)('a' + i % 26));
	assert_int_equal(b->n, 50 + 2000 + 100000);
	assert_int_equal(b->p[50 + 2000 + 27], 'b');
	assert_false(b->overflow);
}

static void a_buffer_grows_on_the_heap_and_in_an_arena(void **state)
{
	(void)state;
	struct buf b;
	struct arena *a = arena_new(SIZE_MAX);
	buf_init(&b, NULL, SIZE_MAX);
	assert_string_equal(buf_cstr(&b), "");
	assert_non_null(buf_view(&b).p);
	fill_and_check(&b);
	buf_release(&b);
	buf_release(&b);
	buf_init(&b, a, 1 << 20);
	fill_and_check(&b);
	arena_free(&a);
}

static void past_the_maximum_nothing_more_is_taken(void **state)
{
	(void)state;
	for (size_t max = 0; max < 600; max += 37) {
		struct buf b;
		buf_init(&b, NULL, max);
		for (size_t i = 0; i < max; i++)
			buf_char(&b, 'x');
		assert_false(b.overflow);
		buf_c(&b, "y");
		assert_true(b.overflow);
		assert_int_equal(b.n, max);
		buf_str(&b, STR("")); /* sticks */
		buf_printf(&b, "%d", 1);
		assert_null(buf_reserve(&b, 0));
		assert_int_equal(b.n, max);
		assert_int_equal(strlen(buf_cstr(&b)), max);
		buf_clear(&b);
		assert_false(b.overflow);
		assert_string_equal(buf_cstr(&b), "");
		buf_printf(&b, "%600d", 1);
		assert_true(b.overflow && b.n == 0);
		assert_null(buf_reserve(&b, SIZE_MAX));
		buf_release(&b);
	}
}

static void a_reserve_is_committed_by_hand(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, NULL, 100);
	char *to = buf_reserve(&b, 10);
	assert_non_null(to);
	memset(to, 'z', 10);
	b.n += 3;
	assert_string_equal(buf_cstr(&b), "zzz");
	buf_consume(&b, 2);
	assert_string_equal(b.p, "z");
	buf_consume(&b, 5);
	assert_string_equal(b.p, "");
	assert_int_equal(b.n, 0);
	buf_release(&b);
	buf_consume(&b, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comparing_knows_the_empty_text),
		cmocka_unit_test(case_is_folded_in_ascii_only),
		cmocka_unit_test(finding_stays_inside),
		cmocka_unit_test(splitting_gives_every_part_once),
		cmocka_unit_test(numbers_are_exact_or_refused),
		cmocka_unit_test(utf8_is_that_of_rfc_3629),
		cmocka_unit_test(a_star_stands_for_any_run),
		cmocka_unit_test(many_stars_do_not_explode),
		cmocka_unit_test(a_buffer_grows_on_the_heap_and_in_an_arena),
		cmocka_unit_test(past_the_maximum_nothing_more_is_taken),
		cmocka_unit_test(a_reserve_is_committed_by_hand),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
