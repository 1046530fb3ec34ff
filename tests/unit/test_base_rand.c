/* SPDX-License-Identifier: Apache-2.0
 * Random bytes, ids, and the hashes of tables.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/rand.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static void no_bytes_come_twice(void **state)
{
	(void)state;
	uint64_t seen[1000];
	for (size_t i = 0; i < 1000; i++) {
		seen[i] = rand_u64();
		for (size_t k = 0; k < i; k++)
			assert_true(seen[i] != seen[k]);
	}
	unsigned char large[1000] = { 0 };
	unsigned zeros = 0;
	rand_bytes(large, sizeof large);
	for (size_t i = 0; i < sizeof large; i++)
		zeros += large[i] == 0;
	assert_true(zeros < 40);
	rand_bytes(large, 0);
}

static void a_child_does_not_repeat_its_parent(void **state)
{
	(void)state;
	int fds[2];
	uint64_t theirs = 0;
	rand_u64(); /* fills the block */
	assert_int_equal(pipe(fds), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		uint64_t v = rand_u64();
		_exit(write(fds[1], &v, sizeof v) == sizeof v ? 0 : 1);
	}
	uint64_t ours = rand_u64();
	assert_int_equal(read(fds[0], &theirs, sizeof theirs), sizeof theirs);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(fds[0]);
	close(fds[1]);
	assert_true(ours != theirs);
}

static void below_is_uniform_and_below(void **state)
{
	(void)state;
	unsigned count[7] = { 0 };
	for (int i = 0; i < 70000; i++) {
		uint64_t v = rand_below(7);
		assert_true(v < 7);
		count[v]++;
	}
	for (int i = 0; i < 7; i++)
		assert_true(count[i] > 9000 && count[i] < 11000); /* 10 standard deviations */
	assert_int_equal(rand_below(1), 0);
	assert_true(rand_below(UINT64_MAX) < UINT64_MAX);
}

static void base62_keeps_to_its_alphabet(void **state)
{
	(void)state;
	char out[200];
	bool seen[256] = { false };
	for (int round = 0; round < 50; round++) {
		rand_base62(out, sizeof out);
		for (size_t i = 0; i < sizeof out; i++)
			seen[(unsigned char)out[i]] = true;
	}
	for (int c = 0; c < 256; c++)
		assert_int_equal(seen[c], (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'));
}

static void a_uuid_has_its_version_and_its_time(void **state)
{
	(void)state;
	char text[UUID_TEXT + 1];
	int64_t before = clock_wall_us() / 1000;
	struct uuid u = uuid_v7(), back;
	assert_int_equal(u.b[6] >> 4, 7);
	assert_int_equal(u.b[8] >> 6, 2);
	assert_true(uuid_v7_ms(u) >= before && uuid_v7_ms(u) <= clock_wall_us() / 1000);
	uuid_text(u, text);
	assert_int_equal(strlen(text), UUID_TEXT);
	assert_true(uuid_parse(str_c(text), &back));
	assert_memory_equal(&u, &back, sizeof u);
	/* RFC 9562 appendix A.6 */
	assert_true(uuid_parse(STR("017F22E2-79B0-7CC3-98C4-DC0C0C07398F"), &u));
	assert_true(uuid_v7_ms(u) == 1645557742000);
	uuid_text(u, text);
	assert_string_equal(text, "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
}

static void uuids_only_rise(void **state)
{
	(void)state;
	struct uuid last = uuid_v7(), next;
	for (int i = 0; i < 20000; i++, last = next) {
		next = uuid_v7();
		assert_true(memcmp(&last, &next, sizeof next) < 0);
	}
	clock_fake(1, 1000000); /* the wall clock steps back by decades */
	next = uuid_v7();
	clock_fake_stop();
	assert_true(memcmp(&last, &next, sizeof next) < 0);
}

enum { THREADS = 4, PER_THREAD = 20000 };
static struct uuid made[THREADS][PER_THREAD];

static void *make_uuids(void *p)
{
	struct uuid *mine = p;
	for (int i = 0; i < PER_THREAD; i++)
		mine[i] = uuid_v7();
	return NULL;
}

static int by_bytes(const void *x, const void *y)
{
	return memcmp(x, y, sizeof(struct uuid));
}

static void threads_never_share_a_place_in_time(void **state)
{
	(void)state;
	pthread_t t[THREADS];
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, make_uuids, made[i]), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	qsort(made, THREADS * PER_THREAD, sizeof(struct uuid), by_bytes);
	struct uuid *all = made[0];
	for (int i = 1; i < THREADS * PER_THREAD; i++)
		assert_true(memcmp(&all[i - 1], &all[i], 8) != 0);
}

static void what_is_no_uuid_is_refused(void **state)
{
	(void)state;
	static const char *const texts[] = { "", "017f22e279b07cc398c4dc0c0c07398f", "017f22e2-79b0-7cc3-98c4-dc0c0c07398", "017f22e2-79b0-7cc3-98c4-dc0c0c07398fa",
					     "017f22e2-79b0-7cc3-98c4_dc0c0c07398f", "017f22e2-79b0-7cc3-98c4-dc0c0c07398g", "{17f22e2-79b0-7cc3-98c4-dc0c0c07398}",
					     "017f22e-279b0-7cc3-98c4-dc0c0c07398f" };
	struct uuid u;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		assert_false(uuid_parse(str_c(texts[i]), &u));
	assert_false(uuid_parse(STR_NONE, &u));
}

static void typed_ids_know_their_type(void **state)
{
	(void)state;
	char text[ID_TEXT];
	struct uuid u = uuid_v7(), back;
	id_text("req", u, text);
	assert_true(str_starts(str_c(text), STR("req_")));
	assert_int_equal(id_parse("req", str_c(text), &back), 1);
	assert_memory_equal(&u, &back, sizeof u);
	assert_int_equal(id_parse("re", str_c(text), &back), 0);
	assert_int_equal(id_parse("key", str_c(text), &back), 0);
	assert_int_equal(id_parse("req", STR("req"), &back), 0);
	assert_int_equal(id_parse("req", STR("req_"), &back), 0);
	assert_int_equal(id_parse("req", STR("req_x"), &back), 0);
}

static void hashes_are_steady_and_apart(void **state)
{
	(void)state;
	static const char text[] = "abcdefghijklmnopqrstuvwxyz";
	uint64_t seen[27];
	for (size_t n = 0; n <= 26; n++) {
		seen[n] = hash_bytes(text, n);
		assert_true(seen[n] == hash_str(str_pn(text, n)));
		for (size_t k = 0; k < n; k++)
			assert_true(seen[n] != seen[k]);
	}
	assert_true(hash_bytes(NULL, 0) == seen[0]);
	assert_int_equal(crc32_bytes("123456789", 9), 0xCBF43926); /* the check value of the catalogue */
	assert_int_equal(crc32_bytes("", 0), 0);
	assert_true(hash_fnv("", 0) == 0xcbf29ce484222325u);
	assert_true(hash_fnv("a", 1) == 0xaf63dc4c8601ec8cu); /* the authors' test vectors */
	assert_true(hash_fnv("foobar", 6) == 0x85944171f73967e8u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_bytes_come_twice),
		cmocka_unit_test(a_child_does_not_repeat_its_parent),
		cmocka_unit_test(below_is_uniform_and_below),
		cmocka_unit_test(base62_keeps_to_its_alphabet),
		cmocka_unit_test(a_uuid_has_its_version_and_its_time),
		cmocka_unit_test(uuids_only_rise),
		cmocka_unit_test(threads_never_share_a_place_in_time),
		cmocka_unit_test(what_is_no_uuid_is_refused),
		cmocka_unit_test(typed_ids_know_their_type),
		cmocka_unit_test(hashes_are_steady_and_apart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
