/* SPDX-License-Identifier: Apache-2.0
 * The key ring: its file, derivation, sealing, and what must not open.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "store/store.h"

#include <sys/stat.h>
#include <unistd.h>

#define ZEROS "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define ONES "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="

static char dir[] = "/tmp/hgkeys.XXXXXX";
static char path[64];
static struct arena *a;
static struct keyring *k;
static struct err err;

static int set_up(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/hgkeys.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/master.key", dir);
	a = arena_new(1 << 20);
	k = NULL;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	keyring_free(&k);
	arena_free(&a);
	unlink(path);
	rmdir(dir);
	return 0;
}

static void write_file(const char *text, mode_t mode)
{
	unlink(path);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	chmod(path, mode);
}

static void load(const char *text)
{
	write_file(text, 0400);
	keyring_free(&k);
	if (keyring_load(path, &k, &err) != 0)
		fail_msg("%s", err.msg);
}

static void a_new_file_is_readable_by_its_owner_alone_and_is_never_overwritten(void **state)
{
	(void)state;
	struct stat st;
	assert_int_equal(keyring_create(path, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0400);
	assert_int_equal(keyring_load(path, &k, &err), 0);
	assert_int_equal(keyring_newest(k).n, 9);
	assert_null(keyring_id(k, 1).p);
	assert_int_equal(keyring_create(path, &err), -1);
	assert_int_equal(err.code, ERR_CONFLICT);
}

static void keys_stand_newest_first(void **state)
{
	(void)state;
	load("# comment\n\nnew:" ZEROS "\n old:" ONES "\r\n");
	assert_true(str_eq(keyring_newest(k), STR("new")));
	assert_true(str_eq(keyring_id(k, 1), STR("old")));
	assert_null(keyring_id(k, 2).p);
}

static void bad_files_are_refused_with_the_line(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		mode_t mode;
		const char *expected;
	} cases[] = {
		{ "a:" ZEROS "\n", 0444, "may be read or changed by others: chmod 0400" },
		{ "a:" ZEROS "\n", 0460, "may be read or changed by others: chmod 0400" },
		{ "", 0400, "holds no key" },
		{ "a:" ZEROS "\na:" ONES "\n", 0400, ":2: the line repeats an id" },
		{ "a:AAAA\n", 0400, ":1: the line does not hold 32 bytes in base64" },
		{ "a b:" ZEROS "\n", 0400, ":1: the line must be ID:BASE64" },
		{ ZEROS "\n", 0400, ":1: the line must be ID:BASE64" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		write_file(cases[i].text, cases[i].mode);
		assert_int_equal(keyring_load(path, &k, &err), -1);
		assert_int_equal(err.code, ERR_CONFIG);
		if (!strstr(err.msg, cases[i].expected))
			fail_msg("case %zu: %s", i, err.msg);
		assert_null(strstr(err.msg, "AAAA"));
	}
	write_file("a:" ZEROS "\n", 0440);
	assert_int_equal(keyring_load(path, &k, &err), 0);
}

static void purposes_and_keys_derive_apart(void **state)
{
	(void)state;
	unsigned char x[32], y[32], z[32];
	load("new:" ZEROS "\nold:" ONES "\n");
	assert_int_equal(keyring_derive(k, STR("new"), STR("api-key-pepper"), x, &err), 0);
	assert_int_equal(keyring_derive(k, STR("new"), STR("password-pepper"), y, &err), 0);
	assert_int_equal(keyring_derive(k, STR("old"), STR("api-key-pepper"), z, &err), 0);
	assert_memory_not_equal(x, y, 32);
	assert_memory_not_equal(x, z, 32);
	/* stored digests depend on it: HKDF-SHA256 of 32 zero bytes, salt "headgate purpose", info "api-key-pepper" */
	static const unsigned char expected[] = { 0x12, 0x7e, 0x81, 0x86, 0xbb, 0xd2, 0x4f, 0x2f, 0xa3, 0xae, 0xf8, 0xeb, 0x70, 0x1d, 0x6f, 0x2a };
	assert_memory_equal(x, expected, sizeof expected);
	assert_int_equal(keyring_derive(k, STR("gone"), STR("x"), z, &err), -1);
	assert_int_equal(err.code, ERR_CONFIG);
}

static void what_is_sealed_opens_only_in_its_place_and_with_its_key(void **state)
{
	(void)state;
	struct buf sealed;
	struct str id, plain;
	buf_init(&sealed, a, 1000);
	load("new:" ZEROS "\nold:" ONES "\n");
	keyring_seal(k, STR("provider_keys/secret/1"), STR("sk-secret"), &sealed, &id);
	assert_true(str_eq(id, STR("new")));
	assert_int_equal(keyring_unseal(k, id, STR("provider_keys/secret/1"), buf_view(&sealed), a, &plain, &err), 0);
	assert_true(str_eq(plain, STR("sk-secret")));
	assert_int_equal(keyring_unseal(k, id, STR("provider_keys/secret/2"), buf_view(&sealed), a, &plain, &err), -1);
	assert_int_equal(keyring_unseal(k, STR("old"), STR("provider_keys/secret/1"), buf_view(&sealed), a, &plain, &err), -1);
	for (size_t i = 0; i < sealed.n; i++) {
		sealed.p[i] = (char)(sealed.p[i] ^ 1);
		assert_int_equal(keyring_unseal(k, id, STR("provider_keys/secret/1"), buf_view(&sealed), a, &plain, &err), -1);
		sealed.p[i] = (char)(sealed.p[i] ^ 1);
	}
	assert_null(memmem(sealed.p, sealed.n, "sk-secret", 9));
}

static void a_rotated_ring_still_opens_what_was_sealed_before(void **state)
{
	(void)state;
	struct buf sealed;
	struct str id, plain;
	buf_init(&sealed, a, 1000);
	load("one:" ZEROS "\n");
	keyring_seal(k, STR("p"), STR("v"), &sealed, &id);
	char old_id[8];
	snprintf(old_id, sizeof old_id, STR_FMT, STR_ARG(id));
	load("two:" ONES "\none:" ZEROS "\n");
	assert_int_equal(keyring_unseal(k, str_c(old_id), STR("p"), buf_view(&sealed), a, &plain, &err), 0);
	load("two:" ONES "\n");
	assert_int_equal(keyring_unseal(k, str_c(old_id), STR("p"), buf_view(&sealed), a, &plain, &err), -1);
	assert_int_equal(err.code, ERR_CONFIG);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_new_file_is_readable_by_its_owner_alone_and_is_never_overwritten),
		CASE(keys_stand_newest_first),
		CASE(bad_files_are_refused_with_the_line),
		CASE(purposes_and_keys_derive_apart),
		CASE(what_is_sealed_opens_only_in_its_place_and_with_its_key),
		CASE(a_rotated_ring_still_opens_what_was_sealed_before),
	};
	return cmocka_run_group_tests_name("store keyring", tests, NULL, NULL);
}
