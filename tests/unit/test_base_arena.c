/* SPDX-License-Identifier: Apache-2.0
 * The arena: alignment, growth, the cap, the clean-ups.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"

static struct arena *a;

static int setup(void **state)
{
	(void)state;
	a = arena_new(1 << 20);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_free(&a);
	assert_null(a);
	arena_free(&a);
	return 0;
}

static void every_allocation_is_aligned_and_apart(void **state)
{
	(void)state;
	unsigned char *p[200];
	for (size_t i = 0; i < 200; i++) {
		p[i] = arena_alloc(a, i * 7);
		assert_int_equal((uintptr_t)p[i] % 16, 0);
		memset(p[i], (int)i, i * 7);
	}
	for (size_t i = 0; i < 200; i++)
		for (size_t k = 0; k < i * 7; k++)
			assert_int_equal(p[i][k], i);
}

static void zeroed_memory_is_zero_after_reuse(void **state)
{
	(void)state;
	memset(arena_alloc(a, 5000), 0xAA, 5000);
	arena_clear(a);
	unsigned char *p = arena_zalloc(a, 5000), *q = arena_array(a, 100, 8);
	for (size_t i = 0; i < 5000; i++)
		assert_int_equal(p[i], 0);
	for (size_t i = 0; i < 800; i++)
		assert_int_equal(q[i], 0);
}

static void growing_keeps_what_was_there(void **state)
{
	(void)state;
	char *p = arena_alloc(a, 10);
	memcpy(p, "123456789", 10);
	char *q = arena_grow(a, p, 10, 100);
	assert_ptr_equal(p, q); /* nothing came after it */
	arena_alloc(a, 1);
	char *r = arena_grow(a, q, 100, 200);
	assert_ptr_not_equal(q, r);
	assert_string_equal(r, "123456789");
	for (size_t n = 200; n < 400000; n *= 2) {
		r = arena_grow(a, r, n, n * 2);
		memset(r + n, 'x', n);
		assert_string_equal(r, "123456789");
		assert_int_equal((uintptr_t)r % 16, 0);
	}
}

static void a_large_growing_allocation_leaves_no_copies(void **state)
{
	(void)state;
	size_t n = 100000;
	char *p = arena_alloc(a, n);
	p[0] = 'a';
	p[n - 1] = 'z';
	arena_alloc(a, 1); /* something else before it in the newest block */
	p = arena_grow(a, p, n, 2 * n);
	size_t used = arena_used(a);
	for (; n < 10000000; n *= 2, p = arena_grow(a, p, n, 2 * n))
		;
	assert_true(arena_used(a) - used < 2 * n + 1000);
	assert_true(p[0] == 'a' && p[99999] == 'z');
	used = arena_used(a);
	assert_ptr_equal(arena_grow(a, p, 2 * n, 1000), p);
	assert_true(arena_used(a) < used);
	char *after = arena_alloc(a, 100);
	assert_true(after >= p + 1000);
	memset(after, 'y', 100);
	assert_int_equal(p[0], 'a');
}

static void passing_the_cap_sticks_until_the_clear(void **state)
{
	(void)state;
	arena_set_cap(a, 1000);
	assert_non_null(arena_alloc(a, 900));
	assert_false(arena_over(a));
	assert_non_null(arena_alloc(a, 900));
	assert_true(arena_over(a));
	assert_true(arena_used(a) >= 1800);
	arena_clear(a);
	assert_false(arena_over(a));
	assert_int_equal(arena_used(a), 0);
	char *p = arena_alloc(a, 500);
	arena_grow(a, p, 500, 1500);
	assert_true(arena_over(a));
}

static char order[8];

static void note(void *p)
{
	size_t n = strlen(order);
	order[n] = *(char *)p;
	order[n + 1] = '\0';
}

static void cleanups_run_in_reverse_and_once(void **state)
{
	(void)state;
	static char one = '1', two = '2', three = '3';
	order[0] = '\0';
	arena_on_clear(a, note, &one);
	arena_on_clear(a, note, &two);
	arena_alloc(a, 100000);
	arena_on_clear(a, note, &three);
	arena_clear(a);
	assert_string_equal(order, "321");
	arena_clear(a);
	assert_string_equal(order, "321");
	arena_on_clear(a, note, &one);
	struct arena *b = a;
	a = NULL;
	arena_free(&b);
	assert_string_equal(order, "3211");
}

static void text_is_copied_with_its_nul(void **state)
{
	(void)state;
	assert_string_equal(arena_cstr(a, STR_NONE), "");
	assert_string_equal(arena_cstr(a, str_pn("abcdef", 3)), "abc");
	struct str s = arena_str(a, STR("xyz"));
	assert_int_equal(s.n, 3);
	assert_int_equal(s.p[3], 0);
	s = arena_printf(a, "%d-%5000s", 7, "x");
	assert_int_equal(s.n, 5002);
	assert_int_equal(strlen(s.p), 5002);
}

static void a_secret_is_zeroed_at_the_clear_and_its_neighbours_are_not(void **state)
{
	(void)state;
	static const char zero[12] = { 0 };
	char *before = arena_alloc(a, 12), *secret = arena_alloc(a, 12), *after = arena_alloc(a, 12); /* in the block that stays */
	memcpy(before, "before-text", 12);
	memcpy(secret, "secret-text", 12);
	memcpy(after, "after--text", 12);
	arena_wipe_on_clear(a, secret, 12);
	assert_string_equal(secret, "secret-text");
	arena_clear(a);
	assert_memory_equal(secret, zero, 12);
	assert_string_equal(before, "before-text");
	assert_string_equal(after, "after--text");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_allocation_is_aligned_and_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(zeroed_memory_is_zero_after_reuse, setup, teardown),
		cmocka_unit_test_setup_teardown(growing_keeps_what_was_there, setup, teardown),
		cmocka_unit_test_setup_teardown(a_large_growing_allocation_leaves_no_copies, setup, teardown),
		cmocka_unit_test_setup_teardown(passing_the_cap_sticks_until_the_clear, setup, teardown),
		cmocka_unit_test_setup_teardown(cleanups_run_in_reverse_and_once, setup, teardown),
		cmocka_unit_test_setup_teardown(a_secret_is_zeroed_at_the_clear_and_its_neighbours_are_not, setup, teardown),
		cmocka_unit_test_setup_teardown(text_is_copied_with_its_nul, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
