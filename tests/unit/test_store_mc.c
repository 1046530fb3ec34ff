/* SPDX-License-Identifier: Apache-2.0
 * memcached: round trips, foreign values, and servers that are away, silent or talk nonsense.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/clock.h"
#include "store/store.h"

#include <libmemcached/memcached.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char *socket_path;
static struct arena *a;
static struct mc *m;

static int set_up(void **state)
{
	(void)state;
	a = arena_new(1 << 24);
	m = mc_new(socket_path, 2000); /* the machine of a test may stall for longer than the 20 ms of production */
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	mc_free(&m);
	arena_free(&a);
	return 0;
}

static void what_is_set_is_got_until_it_is_deleted(void **state)
{
	(void)state;
	struct str v;
	assert_true(mc_up(m));
	assert_false(mc_get(m, STR("t:absent"), a, &v));
	assert_true(mc_set(m, STR("t:key"), STR("value\0with nul"), 60));
	assert_true(mc_get(m, STR("t:key"), a, &v));
	assert_true(str_eq(v, STR("value\0with nul")));
	mc_delete(m, STR("t:key"));
	assert_false(mc_get(m, STR("t:key"), a, &v));
	assert_true(mc_set(m, STR("t:empty"), STR_NONE, 60));
	assert_true(mc_get(m, STR("t:empty"), a, &v));
	assert_int_equal(v.n, 0);
}

static void long_and_odd_keys_do_not_meet(void **state)
{
	(void)state;
	char one[1000], two[1000];
	struct str v;
	memset(one, 'k', sizeof one);
	memset(two, 'k', sizeof two);
	two[999] = 'l';
	struct str keys[] = { str_pn(one, 1000), str_pn(two, 1000), STR("with space"), STR("with\nline"), STR(""), STR("\xff\x00") };
	for (size_t i = 0; i < 6; i++)
		assert_true(mc_set(m, keys[i], pg_arg_i64(a, (int64_t)i), 60));
	for (size_t i = 0; i < 6; i++) {
		assert_true(mc_get(m, keys[i], a, &v));
		assert_true(str_eq(v, pg_arg_i64(a, (int64_t)i)));
	}
}

static void a_value_too_large_is_not_cached(void **state)
{
	(void)state;
	struct str v, big = str_pn(arena_zalloc(a, 1 << 20), 1 << 20), fits = str_sub(big, 0, 900000);
	assert_false(mc_set(m, STR("t:big"), big, 60));
	assert_true(mc_set(m, STR("t:fits"), fits, 60));
	assert_true(mc_get(m, STR("t:fits"), a, &v));
	assert_true(str_eq(v, fits));
	assert_true(mc_up(m));
}

static void put_raw(const char *key, const char *value, size_t n)
{
	memcached_st *st = memcached_create(NULL);
	memcached_server_add_unix_socket(st, socket_path);
	assert_int_equal(memcached_set(st, key, strlen(key), value, n, 60, 0), MEMCACHED_SUCCESS);
	memcached_free(st);
}

static void foreign_and_damaged_values_are_misses(void **state)
{
	(void)state;
	struct str v;
	put_raw("t:foreign", "hello", 5);
	assert_false(mc_get(m, STR("t:foreign"), a, &v));
	put_raw("t:foreign", "", 0);
	assert_false(mc_get(m, STR("t:foreign"), a, &v));
	/* a value of another key, as a reply shifted by one would be */
	assert_true(mc_set(m, STR("t:other"), STR("secret"), 60));
	memcached_st *st = memcached_create(NULL);
	memcached_server_add_unix_socket(st, socket_path);
	size_t n;
	uint32_t flags;
	memcached_return_t rc;
	char *raw = memcached_get(st, "t:other", 7, &n, &flags, &rc);
	assert_non_null(raw);
	memcached_free(st);
	put_raw("t:mine", raw, n);
	assert_false(mc_get(m, STR("t:mine"), a, &v));
	for (size_t i = 0; i < n; i++) {
		raw[i] = (char)(raw[i] ^ 4);
		put_raw("t:other", raw, n);
		assert_false(mc_get(m, STR("t:other"), a, &v));
		raw[i] = (char)(raw[i] ^ 4);
	}
	put_raw("t:other", raw, n);
	assert_true(mc_get(m, STR("t:other"), a, &v));
	free(raw);
}

static void no_server_always_misses(void **state)
{
	(void)state;
	struct str v;
	struct mc *none[] = { mc_new(NULL, 20), mc_new("", 20) };
	for (int i = 0; i < 2; i++) {
		assert_false(mc_set(none[i], STR("k"), STR("v"), 60));
		assert_false(mc_get(none[i], STR("k"), a, &v));
		mc_delete(none[i], STR("k"));
		assert_false(mc_up(none[i]));
		mc_free(&none[i]);
	}
}

static void a_server_that_is_away_costs_nothing_for_a_second(void **state)
{
	(void)state;
	struct str v;
	struct mc *away = mc_new("/nonexistent/mc.sock", 20);
	uint64_t from_us = clock_now_us();
	for (int i = 0; i < 1000; i++)
		assert_false(mc_get(away, STR("k"), a, &v));
	assert_true(clock_now_us() - from_us < 900000);
	mc_free(&away);
}

/* --- a server of our own that answers wrongly --- */

struct bad_server {
	char path[64];
	int fd;
	pthread_t thread;
	const char *answer; /* NULL: never */
	size_t answer_n;
	_Atomic unsigned accepted;
	_Atomic bool stop;
};

static void *serve(void *p)
{
	struct bad_server *b = p;
	int fds[64];
	unsigned n = 0;
	char junk[4096];
	while (!b->stop && n < 64) {
		int fd = accept(b->fd, NULL, NULL);
		if (fd < 0)
			break;
		b->accepted++;
		fds[n++] = fd;
		if (b->answer && read(fd, junk, sizeof junk) > 0 && write(fd, b->answer, b->answer_n) < 0)
			break;
	}
	while (n)
		close(fds[--n]);
	return NULL;
}

static void start(struct bad_server *b)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(b->path, sizeof b->path, "/tmp/hgmc.%d.sock", (int)getpid());
	snprintf(address.sun_path, sizeof address.sun_path, "%s", b->path);
	unlink(b->path);
	b->fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(b->fd, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(b->fd, 64), 0);
	assert_int_equal(pthread_create(&b->thread, NULL, serve, b), 0);
}

static void stop(struct bad_server *b)
{
	b->stop = true;
	shutdown(b->fd, SHUT_RDWR);
	pthread_join(b->thread, NULL);
	close(b->fd);
	unlink(b->path);
}

static void a_silent_server_costs_one_time_limit_a_second(void **state)
{
	(void)state;
	struct bad_server b = { .answer = NULL };
	struct str v;
	start(&b);
	struct mc *silent = mc_new(b.path, 20);
	uint64_t from_us = clock_now_us();
	assert_false(mc_get(silent, STR("k"), a, &v));
	uint64_t first_us = clock_now_us() - from_us;
	for (int i = 0; i < 1000; i++)
		assert_false(mc_get(silent, STR("k"), a, &v));
	uint64_t all_us = clock_now_us() - from_us;
	print_message("# silent server: first miss after %u us, 1000 more in %u us\n", (unsigned)first_us, (unsigned)(all_us - first_us));
	assert_true(first_us < 1000000);
	assert_true(all_us < 3 * 1000000);
	assert_in_range(b.accepted, 1, 3);
	mc_free(&silent);
	stop(&b);
}

static void nonsense_is_a_miss_and_its_connection_is_never_used_again(void **state)
{
	(void)state;
	static const struct {
		const char *answer;
		size_t n;
	} answers[] = {
		{ "VALUE k 0 5\r\nhello\r\nEND\r\n", 25 }, /* another protocol */
		{ "\x81\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 24 }, /* cut in the body */
		{ "\x81\x00\x00\x00\x04\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00zzzz", 28 }, /* 2 GiB announced */
		{ "\x81", 1 },
	};
	for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
		struct bad_server b = { .answer = answers[i].answer, .answer_n = answers[i].n };
		struct str v;
		start(&b);
		struct mc *bad = mc_new(b.path, 50);
		uint64_t from_us = clock_now_us();
		assert_false(mc_get(bad, STR("k"), a, &v));
		assert_true(clock_now_us() - from_us < 2000000);
		assert_false(mc_get(bad, STR("k"), a, &v));
		assert_int_equal(b.accepted, 1);
		mc_free(&bad);
		stop(&b);
	}
}

static void one_dead_server_of_a_ring_does_not_close_the_others(void **state)
{
	(void)state;
	char servers[256];
	struct str v;
	snprintf(servers, sizeof servers, "/nonexistent/mc.sock,%s", socket_path);
	struct mc *ring = mc_new(servers, 2000);
	unsigned hits = 0;
	for (int i = 0; i < 200; i++) {
		struct str key = arena_printf(a, "t:ring:%d", i);
		mc_set(ring, key, STR("v"), 60);
		hits += mc_get(ring, key, a, &v);
	}
	assert_in_range(hits, 40, 160);
	mc_free(&ring);
}

/* --- threads --- */

static _Atomic unsigned wrong, got;

static void *work(void *p)
{
	int id = *(int *)p;
	struct arena *mine = arena_new(1 << 20);
	for (int i = 0; i < 1000; i++) {
		struct str v, key = arena_printf(mine, "t:thread:%d:%d", id, i % 10), value = arena_printf(mine, "%d-%d", id, i);
		if (mc_set(m, key, value, 60) && mc_get(m, key, mine, &v)) {
			got++;
			wrong += !str_eq(v, value);
		}
		arena_clear(mine);
	}
	arena_free(&mine);
	return NULL;
}

static void threads_get_their_own_values(void **state)
{
	(void)state;
	enum { N = 8 };
	pthread_t threads[N];
	int ids[N];
	wrong = got = 0;
	for (int i = 0; i < N; i++) {
		ids[i] = i;
		pthread_create(&threads[i], NULL, work, &ids[i]);
	}
	for (int i = 0; i < N; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(wrong, 0);
	assert_int_equal(got, N * 1000);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	socket_path = getenv("HEADGATE_TEST_MEMCACHED"); /* beside HEADGATE_TEST_DATABASE_URL */
	if (!socket_path) {
		puts("1..0 # SKIP HEADGATE_TEST_DATABASE_URL is not set, see tests/tools/with_postgres");
		return 0;
	}
	const struct CMUnitTest tests[] = {
		CASE(what_is_set_is_got_until_it_is_deleted),
		CASE(long_and_odd_keys_do_not_meet),
		CASE(a_value_too_large_is_not_cached),
		CASE(foreign_and_damaged_values_are_misses),
		CASE(no_server_always_misses),
		CASE(a_server_that_is_away_costs_nothing_for_a_second),
		CASE(a_silent_server_costs_one_time_limit_a_second),
		CASE(nonsense_is_a_miss_and_its_connection_is_never_used_again),
		CASE(one_dead_server_of_a_ring_does_not_close_the_others),
		CASE(threads_get_their_own_values),
	};
	return cmocka_run_group_tests_name("store mc", tests, NULL, NULL);
}
