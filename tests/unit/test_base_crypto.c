/* SPDX-License-Identifier: Apache-2.0
 * The cryptographic verbs against published vectors, and against damage.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/crypto.h"

static struct arena *a;

static int setup(void **state)
{
	(void)state;
	a = arena_new(SIZE_MAX);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_free(&a);
	return 0;
}

static const char *hex(const void *p, size_t n)
{
	char *out = arena_alloc(a, 2 * n + 1);
	crypto_hex(p, n, out);
	return out;
}

static struct str filled(int c, size_t n)
{
	char *p = arena_alloc(a, n);
	memset(p, c, n);
	return str_pn(p, n);
}

static struct str counting(unsigned from, size_t n)
{
	char *p = arena_alloc(a, n);
	for (size_t i = 0; i < n; i++)
		p[i] = (char)(from + i);
	return str_pn(p, n);
}

static void sha256_is_that_of_fips_180_4(void **state)
{
	(void)state;
	unsigned char out[SHA256_BYTES];
	crypto_sha256("abc", 3, out);
	assert_string_equal(hex(out, sizeof out), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	crypto_sha256(NULL, 0, out);
	assert_string_equal(hex(out, sizeof out), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void hmac_is_that_of_rfc_4231(void **state)
{
	(void)state;
	unsigned char out[SHA256_BYTES];
	crypto_hmac_sha256(filled(0x0b, 20).p, 20, "Hi There", 8, out);
	assert_string_equal(hex(out, sizeof out), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
	crypto_hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, out);
	assert_string_equal(hex(out, sizeof out), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	struct str text = STR("Test Using Larger Than Block-Size Key - Hash Key First");
	crypto_hmac_sha256(filled(0xaa, 131).p, 131, text.p, text.n, out);
	assert_string_equal(hex(out, sizeof out), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
	crypto_hmac_sha256(NULL, 0, NULL, 0, out);
	assert_string_equal(hex(out, sizeof out), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void hkdf_is_that_of_rfc_5869(void **state)
{
	(void)state;
	unsigned char out[82];
	crypto_hkdf(filled(0x0b, 22).p, 22, counting(0, 13), counting(0xf0, 10), out, 42);
	assert_string_equal(hex(out, 42), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
	crypto_hkdf(counting(0, 80).p, 80, counting(0x60, 80), counting(0xb0, 80), out, 82);
	assert_string_equal(hex(out, 82), "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
					  "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87");
	crypto_hkdf(filled(0x0b, 22).p, 22, STR_NONE, STR_NONE, out, 42);
	assert_string_equal(hex(out, 42), "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
}

static const unsigned char key[32] = { 1, 2, 3 };

static struct str sealed(struct str aad, struct str plain)
{
	struct buf out;
	buf_init(&out, a, 100000);
	crypto_gcm_seal(key, aad, plain, &out);
	assert_int_equal(out.n, plain.n + GCM_OVERHEAD);
	return buf_view(&out);
}

/* Test case 16 of the GCM specification (McGrew, Viega), through the opening side: key, nonce, aad, ciphertext, tag. */
static void gcm_opens_the_published_case(void **state)
{
	(void)state;
	static const unsigned char k[32] = { 0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08,
					     0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08 };
	static const unsigned char aad[20] = { 0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xab, 0xad, 0xda, 0xd2 };
	static const unsigned char text[] = {
		0xca, 0xfe, 0xba, 0xbe, 0xfa, 0xce, 0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88, /* nonce */
		0x52, 0x2d, 0xc1, 0xf0, 0x99, 0x56, 0x7d, 0x07, 0xf4, 0x7f, 0x37, 0xa3, 0x2a, 0x84, 0x42, 0x7d,
		0x64, 0x3a, 0x8c, 0xdc, 0xbf, 0xe5, 0xc0, 0xc9, 0x75, 0x98, 0xa2, 0xbd, 0x25, 0x55, 0xd1, 0xaa,
		0x8c, 0xb0, 0x8e, 0x48, 0x59, 0x0d, 0xbb, 0x3d, 0xa7, 0xb0, 0x8b, 0x10, 0x56, 0x82, 0x88, 0x38,
		0xc5, 0xf6, 0x1e, 0x63, 0x93, 0xba, 0x7a, 0x0a, 0xbc, 0xc9, 0xf6, 0x62,
		0x76, 0xfc, 0x6e, 0xce, 0x0f, 0x4e, 0x17, 0x68, 0xcd, 0xdf, 0x88, 0x53, 0xbb, 0x2d, 0x55, 0x1b, /* tag */
	};
	struct str plain;
	struct err err;
	assert_int_equal(crypto_gcm_open(k, str_pn((const char *)aad, 20), str_pn((const char *)text, sizeof text), a, &plain, &err), 0);
	assert_string_equal(hex(plain.p, plain.n), "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c9595680953"
						   "2fcf0e2449a6b525b16aedf5aa0de657ba637b39");
}

static void what_is_sealed_opens_in_its_place_only(void **state)
{
	(void)state;
	struct str aad = STR("provider/1"), plain, s = sealed(aad, STR("sk-secret"));
	struct err err;
	assert_int_equal(crypto_gcm_open(key, aad, s, a, &plain, &err), 0);
	assert_true(str_eq(plain, STR("sk-secret")));
	assert_int_equal(crypto_gcm_open(key, STR("provider/2"), s, a, &plain, &err), -1);
	assert_int_equal(err.code, ERR_INVALID);
	static const unsigned char other[32] = { 1, 2, 4 };
	assert_int_equal(crypto_gcm_open(other, aad, s, a, &plain, &err), -1);
	for (size_t i = 0; i < s.n; i++) {
		char *damaged = arena_cstr(a, s);
		damaged[i] ^= 1;
		assert_int_equal(crypto_gcm_open(key, aad, str_pn(damaged, s.n), a, &plain, &err), -1);
	}
	for (size_t n = 0; n < s.n; n++)
		assert_int_equal(crypto_gcm_open(key, aad, str_pn(s.p, n), a, &plain, &err), -1);
	assert_true(str_eq(plain, STR("sk-secret"))); /* outputs untouched */
	assert_false(str_eq(s, sealed(aad, STR("sk-secret")))); /* a fresh nonce each time */
}

static void nothing_can_be_sealed_too(void **state)
{
	(void)state;
	struct str plain = STR("x"), s = sealed(STR_NONE, STR_NONE);
	assert_int_equal(crypto_gcm_open(key, STR_NONE, s, a, &plain, NULL), 0);
	assert_int_equal(plain.n, 0);
	assert_int_equal(crypto_gcm_open(key, STR("a"), s, a, &plain, NULL), -1);
}

static void a_password_verifies_under_its_pepper(void **state)
{
	(void)state;
	char phc[CRYPTO_PHC_TEXT], again[CRYPTO_PHC_TEXT];
	struct err err = { 0 };
	struct str pepper = STR("pepper"), password = STR("correct horse");
	assert_int_equal(crypto_password_hash(pepper, password, phc, &err), 0);
	assert_int_equal(crypto_password_hash(pepper, password, again, &err), 0);
	assert_string_not_equal(phc, again);
	assert_true(str_starts(str_c(phc), STR("$argon2id$v=19$m=47104,t=2,p=1$")));
	assert_int_equal(crypto_password_verify(pepper, password, phc, &err), 1);
	assert_int_equal(crypto_password_verify(pepper, STR("correct horsE"), phc, &err), 0);
	assert_int_equal(crypto_password_verify(STR("salt"), password, phc, &err), 0);
	assert_int_equal(crypto_password_verify(pepper, password, "not a hash", &err), -1);
	assert_int_equal(crypto_password_verify(pepper, password, "", &err), -1);
	assert_int_equal(crypto_password_hash(STR_NONE, STR_NONE, phc, &err), 0);
	assert_int_equal(crypto_password_verify(STR_NONE, STR_NONE, phc, &err), 1);
}

static void base64_is_that_of_rfc_4648(void **state)
{
	(void)state;
	static const char *const pairs[][2] = { { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" },
						{ "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" }, { "\xFF\xEF\xBE", "/+++" } };
	for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
		struct buf out, back;
		buf_init(&out, a, 100);
		buf_init(&back, a, 100);
		crypto_base64(pairs[i][0], strlen(pairs[i][0]), &out);
		assert_string_equal(buf_cstr(&out), pairs[i][1]);
		assert_true(crypto_unbase64(buf_view(&out), &back));
		assert_string_equal(buf_cstr(&back), pairs[i][0]);
	}
}

static void malformed_base64_is_refused(void **state)
{
	(void)state;
	static const char *const texts[] = { "Z", "Zg", "Zg=", "Zh==", "Zm9=", "Z===", "====", "Zg==Zg==", "Zm8=Zm8=", "Zm9v\n", "Zm 9", "Z-_v", "Zg=A", "=m9v", "Zm\xC3\xA9" };
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		struct buf out;
		buf_init(&out, a, 100);
		if (crypto_unbase64(str_c(texts[i]), &out))
			fail_msg("taken: %s", texts[i]);
	}
	struct buf small;
	buf_init(&small, a, 2);
	assert_false(crypto_unbase64(STR("Zm9v"), &small));
}

static void every_byte_survives_base64(void **state)
{
	(void)state;
	struct str bytes = counting(0, 256);
	for (size_t n = 0; n <= 256; n++) {
		struct buf out, back;
		buf_init(&out, a, 1000);
		buf_init(&back, a, 1000);
		crypto_base64(bytes.p, n, &out);
		assert_true(crypto_unbase64(buf_view(&out), &back));
		assert_int_equal(back.n, n);
		assert_memory_equal(buf_view(&back).p, bytes.p, n);
	}
}

static void comparing_and_wiping_do_what_they_say(void **state)
{
	(void)state;
	char secret[8] = "abcdefg", zero[8] = { 0 };
	assert_true(crypto_equal("abc", "abd", 2));
	assert_false(crypto_equal("abc", "abd", 3));
	assert_true(crypto_equal("a", "b", 0));
	crypto_wipe(secret, sizeof secret);
	assert_memory_equal(secret, zero, sizeof zero);
}

static void f73_a_process_without_dumps_leaves_no_core(void **state)
{
	(void)state;
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		struct rlimit limit;
		crypto_no_dumps();
		bool good = getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_cur == 0 && limit.rlim_max == 0 && prctl(PR_GET_DUMPABLE) == 0;
		_exit(good ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		FACT(sha256_is_that_of_fips_180_4),
		FACT(hmac_is_that_of_rfc_4231),
		FACT(hkdf_is_that_of_rfc_5869),
		FACT(gcm_opens_the_published_case),
		FACT(what_is_sealed_opens_in_its_place_only),
		FACT(nothing_can_be_sealed_too),
		FACT(a_password_verifies_under_its_pepper),
		FACT(base64_is_that_of_rfc_4648),
		FACT(malformed_base64_is_refused),
		FACT(every_byte_survives_base64),
		FACT(f73_a_process_without_dumps_leaves_no_core),
		FACT(comparing_and_wiping_do_what_they_say),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
