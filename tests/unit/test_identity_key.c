/* SPDX-License-Identifier: Apache-2.0
 * The form and the digest of API keys.
 */
#include "config.h"
#include "base/clock.h"
#include "identity/identity.h"
#include "identity/key.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void a_made_key_is_whole(void **state)
{
	(void)state;
	for (int i = 0; i < 1000; i++) {
		char key[IDENTITY_KEY_TEXT];
		key_make(key);
		assert_int_equal(strlen(key), IDENTITY_KEY_TEXT - 1);
		assert_true(key_is_ours(str_c(key)));
		assert_true(key_checksum_holds(str_c(key)));
		assert_true(key_is_adoptable(str_c(key)));
	}
}

static void the_checksum_is_the_crc32_of_the_random_part(void **state)
{
	(void)state;
	/* worked out bit by bit here, then written in base 62 with six digits */
	char key[] = "hg_00000000000000000000000000000000??????";
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	uint32_t crc = 0xffffffffu;
	for (int i = 0; i < 32; i++) {
		crc ^= '0';
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	crc = ~crc;
	for (int i = 40; i >= 35; i--, crc /= 62)
		key[i] = digits[crc % 62];
	assert_true(key_checksum_holds(str_c(key)));
}

static void any_single_slip_is_noticed(void **state)
{
	(void)state;
	char key[IDENTITY_KEY_TEXT];
	key_make(key);
	for (size_t at = 3; at < IDENTITY_KEY_TEXT - 1; at++) {
		char kept = key[at];
		key[at] = kept == 'a' ? 'b' : 'a';
		assert_false(key_checksum_holds(str_c(key)));
		key[at] = kept;
	}
	assert_false(key_checksum_holds(str_pn(key, IDENTITY_KEY_TEXT - 2)));
	assert_false(key_checksum_holds(STR("hg_")));
}

static void two_neighbours_swapped_are_noticed(void **state)
{
	(void)state;
	char key[IDENTITY_KEY_TEXT];
	key_make(key);
	for (size_t at = 3; at + 1 < 35; at++) {
		if (key[at] == key[at + 1])
			continue;
		char kept = key[at];
		key[at] = key[at + 1];
		key[at + 1] = kept;
		assert_false(key_checksum_holds(str_c(key)));
		key[at + 1] = key[at];
		key[at] = kept;
	}
}

static void foreign_keys_are_adopted_by_their_form(void **state)
{
	(void)state;
	static const struct { const char *key; bool ok; } cases[] = {
		{ "sk-0123456789abcdef", true },
		{ "0123456789abcdef", true },
		{ "0123456789abcde", false },
		{ "0123456789abcde,", false },
		{ "0123456789 abcdef", false },
		{ "0123456789\tabcdef", false },
		{ "0123456789abcd\xc3\xa9", false },
		{ "~!@#$%^&*()_+{}|:", true },
		{ "hg_0123456789abcdef", false }, /* a mistyped one of ours */
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		assert_int_equal(key_is_adoptable(str_c(cases[i].key)), cases[i].ok);
	char longest[258];
	memset(longest, 'x', sizeof longest);
	assert_true(key_is_adoptable(str_pn(longest, 256)));
	assert_false(key_is_adoptable(str_pn(longest, 257)));
}

static void the_digest_is_hmac_sha256(void **state)
{
	(void)state;
	unsigned char pepper[32], mine[32], theirs[32];
	char key[300];
	for (unsigned i = 0; i < sizeof pepper; i++)
		pepper[i] = (unsigned char)(i * 7 + 1);
	memset(key, 'k', sizeof key);
	struct key_hasher h;
	key_hasher_init(&h, pepper);
	for (size_t n = 0; n < sizeof key; n++) {
		key_digest(&h, str_pn(key, n), mine);
		crypto_hmac_sha256(pepper, sizeof pepper, key, n, theirs);
		assert_memory_equal(mine, theirs, 32);
	}
}

static void little_is_shown_of_a_short_key(void **state)
{
	(void)state;
	assert_true(str_eq_c(key_prefix(STR("hg_AbCdEfGhIjKlMnOpQrStUvWxYz012345678901")), "hg_AbCd"));
	assert_true(str_eq_c(key_prefix(STR("0123456789abcdef")), "01"));
	assert_true(str_eq_c(key_prefix(STR("sk-proj-0123456789abcdef0123456789abcdef")), "sk-p"));
	assert_true(str_eq_c(key_last4(STR("0123456789abcdef")), "cdef"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_made_key_is_whole),
		cmocka_unit_test(the_checksum_is_the_crc32_of_the_random_part),
		cmocka_unit_test(any_single_slip_is_noticed),
		cmocka_unit_test(two_neighbours_swapped_are_noticed),
		cmocka_unit_test(foreign_keys_are_adopted_by_their_form),
		cmocka_unit_test(the_digest_is_hmac_sha256),
		cmocka_unit_test(little_is_shown_of_a_short_key),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
