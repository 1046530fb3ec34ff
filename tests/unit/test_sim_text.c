/* SPDX-License-Identifier: Apache-2.0
 * The tokenizer, and texts of an exact size.
 */
#include "config.h"
#include "sim/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "base/buf.h"
#include "sim/token.h"

static void tokens_follow_the_rule(void **state)
{
	static const struct {
		const char *text;
		int64_t want;
	} cases[] = {
		{ "", 0 }, { "a", 1 }, { "Hello", 1 }, { "Hello world", 2 }, { "Hello, world!", 4 }, { "   ", 3 }, { " a", 1 }, { "  a", 2 },
		{ "abcdefgh", 1 }, { "abcdefghi", 2 }, { "1234567", 3 }, { "a1", 2 }, { "\n\n", 2 }, { " \n", 1 }, { "\xc3\xa9t\xc3\xa9", 3 },
		{ " \xe2\x82\xac", 1 }, { "\xf0\x9f\x98\x80\xf0\x9f\x98\x80", 2 }, { "{\"a\": 1}", 7 }, { "\xff\xff", 2 }, { "\xc3", 1 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		assert_int_equal(sim_token_count(str_c(cases[i].text)), cases[i].want);
}

static void a_prefix_of_tokens_counts_as_many(void **state)
{
	struct str text = STR("You asked  about 12345 \xc3\xa9t\xc3\xa9s, and internationalization.");
	(void)state;
	for (int64_t n = 0; n <= sim_token_count(text); n++)
		assert_int_equal(sim_token_count(str_sub(text, 0, sim_token_prefix(text, n))), n);
	assert_int_equal(sim_token_prefix(text, 1000), text.n);
}

static void make(struct buf *out, const char *prompt, uint64_t seed, int64_t tokens)
{
	struct sim_rng rng = { seed };
	struct sim_words words;
	sim_words_find(&words, str_c(prompt));
	sim_text_tokens(out, &rng, &words, tokens);
}

static void a_text_has_exactly_the_tokens_asked_for(void **state)
{
	static const char *const prompts[] = { "", "hi", "What about internationalization of gateways?", "caf\xc3\xa9s and \xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e" };
	(void)state;
	for (size_t p = 0; p < sizeof prompts / sizeof prompts[0]; p++) {
		for (int64_t n = 0; n < 200; n++) {
			struct buf b;
			buf_init(&b, NULL, SIZE_MAX);
			make(&b, prompts[p], (uint64_t)n, n);
			assert_int_equal(sim_token_count(buf_view(&b)), n);
			assert_true(str_is_utf8(buf_view(&b)));
			buf_release(&b);
		}
	}
}

static void a_text_has_exactly_the_bytes_asked_for(void **state)
{
	struct sim_words words;
	(void)state;
	sim_words_find(&words, STR("\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e \xe6\x97\xa5\xe6\x9c\xac"));
	for (size_t n = 0; n < 300; n++) {
		struct sim_rng rng = { n };
		struct buf b;
		buf_init(&b, NULL, SIZE_MAX);
		sim_text_bytes(&b, &rng, &words, n);
		assert_int_equal(b.n, n);
		assert_true(str_is_utf8(buf_view(&b)));
		buf_release(&b);
	}
}

static void the_same_seed_gives_the_same_text(void **state)
{
	struct buf one, same, other;
	(void)state;
	buf_init(&one, NULL, SIZE_MAX);
	buf_init(&same, NULL, SIZE_MAX);
	buf_init(&other, NULL, SIZE_MAX);
	make(&one, "about gateways", 1, 50);
	make(&same, "about gateways", 1, 50);
	make(&other, "about gateways", 2, 50);
	assert_true(str_eq(buf_view(&one), buf_view(&same)));
	assert_false(str_eq(buf_view(&one), buf_view(&other)));
	assert_true(str_find(buf_view(&one), STR("gateways"), 0) != SIZE_MAX);
	buf_release(&one);
	buf_release(&same);
	buf_release(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokens_follow_the_rule),
		cmocka_unit_test(a_prefix_of_tokens_counts_as_many),
		cmocka_unit_test(a_text_has_exactly_the_tokens_asked_for),
		cmocka_unit_test(a_text_has_exactly_the_bytes_asked_for),
		cmocka_unit_test(the_same_seed_gives_the_same_text),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
