/* SPDX-License-Identifier: Apache-2.0
 * What a process remembers of API keys: found, dropped, evicted, and never older than a change it heard of.
 */
#include "config.h"
#include "base/arena.h"
#include "base/clock.h"
#include "identity/cache.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

enum { MINUTE_US = 60000000 };
static const int64_t now = 1795000000000000;

struct digest { unsigned char b[SHA256_BYTES]; };

static struct digest digest_of(unsigned n)
{
	struct digest d;
	crypto_sha256(&n, sizeof n, d.b);
	return d;
}

static struct uuid id_of(unsigned n)
{
	struct uuid u = { { 1 } };
	memcpy(u.b + 8, &n, sizeof n);
	return u;
}

static struct caller caller_of(unsigned n)
{
	static const struct str models[] = { { "gpt-*", 5 }, { "sim-*", 5 } };
	return (struct caller){ .organization = id_of(1000000 + n % 3), .key = id_of(n), .user = id_of(2000000 + n % 5), .scopes = SCOPE_READ,
				.key_name = STR("name"), .models = models, .nmodels = n % 3 };
}

static void put(struct key_cache *c, unsigned n)
{
	struct digest d = digest_of(n);
	struct caller who = caller_of(n);
	key_cache_put(c, d.b, key_cache_version(c), now, &who, n);
}

static enum key_known get_at(struct key_cache *c, unsigned n, int64_t wall_us, uint64_t now_us)
{
	struct digest d = digest_of(n);
	struct arena *a = arena_new(1 << 16);
	struct caller who;
	int64_t expires_us;
	enum key_known known = key_cache_get(c, d.b, wall_us, now_us, a, &who, &expires_us);
	if (known == KEY_KNOWN) {
		struct uuid id = id_of(n);
		assert_memory_equal(&who.key, &id, sizeof id);
		assert_int_equal(expires_us, n);
		assert_true(str_eq_c(who.key_name, "name"));
		assert_int_equal(who.nmodels, n % 3);
		assert_true(who.nmodels < 2 || str_eq_c(who.models[1], "sim-*"));
	}
	arena_free(&a);
	return known;
}

static enum key_known get(struct key_cache *c, unsigned n)
{
	return get_at(c, n, now, 0);
}

static void what_was_put_is_found(void **state)
{
	(void)state;
	struct key_cache *c = key_cache_new(6400);
	for (unsigned n = 0; n < 1000; n++)
		put(c, n);
	for (unsigned n = 0; n < 1000; n++)
		assert_int_equal(get(c, n), KEY_KNOWN);
	assert_int_equal(get(c, 1000), KEY_NOT_KNOWN);
	key_cache_free(&c);
}

static void it_never_grows_past_its_bound(void **state)
{
	(void)state;
	struct key_cache *c = key_cache_new(640);
	for (unsigned n = 0; n < 20000; n++)
		put(c, n);
	assert_in_range(key_cache_count(c), 600, 640);
	key_cache_free(&c);
}

static void what_is_used_outlives_what_is_not(void **state)
{
	(void)state;
	struct key_cache *c = key_cache_new(6400);
	for (unsigned n = 0; n < 40000; n++) {
		put(c, n);
		if (n >= 10)
			for (unsigned k = 0; k < 10; k++)
				assert_int_equal(get(c, k), KEY_KNOWN);
	}
	key_cache_free(&c);
}

static void a_key_a_user_an_organization_or_all_are_dropped(void **state)
{
	(void)state;
	struct key_cache *c = key_cache_new(6400);
	for (unsigned n = 0; n < 300; n++)
		put(c, n);
	key_cache_drop(c, id_of(7));
	assert_int_equal(get(c, 7), KEY_NOT_KNOWN);
	assert_int_equal(key_cache_count(c), 299);
	key_cache_drop(c, id_of(2000001));
	for (unsigned n = 0; n < 300; n++)
		assert_int_equal(get(c, n), n == 7 || n % 5 == 1 ? KEY_NOT_KNOWN : KEY_KNOWN);
	key_cache_drop(c, id_of(1000002));
	for (unsigned n = 0; n < 300; n++)
		assert_int_equal(get(c, n), n == 7 || n % 5 == 1 || n % 3 == 2 ? KEY_NOT_KNOWN : KEY_KNOWN);
	key_cache_drop(c, (struct uuid){ { 0 } });
	assert_int_equal(key_cache_count(c), 0);
	put(c, 7);
	assert_int_equal(get(c, 7), KEY_KNOWN);
	key_cache_free(&c);
}

static void an_answer_older_than_a_change_is_not_kept(void **state)
{
	(void)state;
	struct key_cache *c = key_cache_new(640);
	struct digest d = digest_of(1);
	struct caller who = caller_of(1);
	uint64_t version = key_cache_version(c); /* PostgreSQL is asked here ... */
	key_cache_drop(c, id_of(1));		 /* ... and the key is revoked meanwhile */
	key_cache_put(c, d.b, version, now, &who, 0);
	assert_int_equal(get(c, 1), KEY_NOT_KNOWN);
	key_cache_free(&c);
}

static void an_unknown_key_is_remembered_for_a_second(void **state)
{
	(void)state;
	struct key_cache *c = key_cache_new(640);
	struct digest d = digest_of(1);
	key_cache_put_unknown(c, d.b, key_cache_version(c), 5000000);
	assert_int_equal(get_at(c, 1, now, 5999999), KEY_UNKNOWN);
	assert_int_equal(get_at(c, 1, now, 6000000), KEY_NOT_KNOWN);
	key_cache_put_unknown(c, d.b, key_cache_version(c), 5000000);
	key_cache_drop(c, id_of(99)); /* it may be this one that was made */
	assert_int_equal(get_at(c, 1, now, 5000001), KEY_NOT_KNOWN);
	key_cache_free(&c);
}

static void a_flood_of_wrong_keys_pushes_out_no_right_one(void **state)
{
	(void)state;
	struct key_cache *c = key_cache_new(640);
	for (unsigned n = 0; n < 300; n++)
		put(c, n);
	unsigned before = key_cache_count(c);
	for (unsigned n = 1000; n < 100000; n++) {
		struct digest d = digest_of(n);
		key_cache_put_unknown(c, d.b, key_cache_version(c), 0);
	}
	assert_int_equal(key_cache_count(c), before);
	key_cache_free(&c);
}

static void a_use_is_told_once_a_minute(void **state)
{
	(void)state;
	struct key_used used[16];
	struct key_cache *c = key_cache_new(6400);
	put(c, 1);
	put(c, 2);
	assert_int_equal(key_cache_take_used(c, used, 16), 2);
	assert_int_equal(key_cache_take_used(c, used, 16), 0);
	get_at(c, 1, now + MINUTE_US - 1, 0);
	assert_int_equal(key_cache_take_used(c, used, 16), 0);
	get_at(c, 1, now + MINUTE_US, 0);
	assert_int_equal(key_cache_take_used(c, used, 16), 1);
	struct uuid id = id_of(1);
	assert_memory_equal(&used[0].key, &id, sizeof id);
	assert_int_equal(used[0].used_us, now + MINUTE_US);
	key_cache_free(&c);
}

static void the_use_of_a_dropped_key_is_told_too(void **state)
{
	(void)state;
	struct key_used used[16];
	struct key_cache *c = key_cache_new(640);
	put(c, 1);
	key_cache_drop(c, id_of(1));
	assert_int_equal(key_cache_take_used(c, used, 16), 1);
	key_cache_free(&c);
}

static void many_uses_are_told_piece_by_piece(void **state)
{
	(void)state;
	struct key_used used[100];
	struct key_cache *c = key_cache_new(6400);
	unsigned told = 0, n;
	for (unsigned k = 0; k < 1000; k++)
		put(c, k);
	for (unsigned round = 0; round < 200 && (n = key_cache_take_used(c, used, 100)) > 0; round++)
		told += n;
	assert_int_equal(told, 1000);
	key_cache_free(&c);
}

struct race { struct key_cache *c; _Atomic bool stop; };

static void *use_keys(void *u)
{
	struct race *r = u;
	for (unsigned n = 0; !atomic_load(&r->stop); n = (n + 1) % 2000) {
		if (get(r->c, n) == KEY_NOT_KNOWN)
			put(r->c, n);
		struct digest d = digest_of(n + 5000);
		key_cache_put_unknown(r->c, d.b, key_cache_version(r->c), 0);
	}
	return NULL;
}

static void threads_and_changes_get_along(void **state)
{
	(void)state;
	struct race r = { .c = key_cache_new(640) };
	struct key_used used[64];
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, use_keys, &r);
	for (unsigned n = 0; n < 2000; n++) {
		key_cache_drop(r.c, id_of(n));
		key_cache_take_used(r.c, used, 64);
	}
	atomic_store(&r.stop, true);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_in_range(key_cache_count(r.c), 0, 640);
	key_cache_free(&r.c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_put_is_found),
		cmocka_unit_test(it_never_grows_past_its_bound),
		cmocka_unit_test(what_is_used_outlives_what_is_not),
		cmocka_unit_test(a_key_a_user_an_organization_or_all_are_dropped),
		cmocka_unit_test(an_answer_older_than_a_change_is_not_kept),
		cmocka_unit_test(an_unknown_key_is_remembered_for_a_second),
		cmocka_unit_test(a_flood_of_wrong_keys_pushes_out_no_right_one),
		cmocka_unit_test(a_use_is_told_once_a_minute),
		cmocka_unit_test(the_use_of_a_dropped_key_is_told_too),
		cmocka_unit_test(many_uses_are_told_piece_by_piece),
		cmocka_unit_test(threads_and_changes_get_along),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
