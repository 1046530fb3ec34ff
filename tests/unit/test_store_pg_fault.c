/* SPDX-License-Identifier: Apache-2.0
 * The pool when PostgreSQL misbehaves (F-02, F-03, F-06, F-08, F-09, F-13, F-19): what is acknowledged is there, what is refused is
 * not, nobody waits without end, and nobody storms a server that is away. A small proxy plays the network.
 */
#include "config.h"
#include "store_fixture.h"

#include "base/clock.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct arena *a;
static struct pg_pool *pool;
static struct err err;
static const struct pg_scope owner = { .role = PG_ROLE_OWNER };
static const struct pg_scope reads = { .role = PG_ROLE_OWNER, .read_only = true };

#define assert_ok(call)                                                                                               \
	do {                                                                                                          \
		if ((call) != 0)                                                                                      \
			fail_msg("%s: %s (%s)", #call, err.msg, err.detail);                                          \
	} while (0)

static struct pg_result *ask_of(struct pg_pool *p, const char *sql)
{
	struct pg_result *r = NULL;
	assert_ok(pg_query(p, &owner, sql, NULL, 0, a, &r, &err));
	return r;
}

static int set_up(void **state)
{
	(void)state;
	a = arena_new(1 << 24);
	pool = fixture_pool(4, 2000);
	ask_of(pool, "CREATE TABLE IF NOT EXISTS public.fault (id bigint PRIMARY KEY)");
	ask_of(pool, "TRUNCATE public.fault");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	ask_of(pool, "DROP TABLE public.fault");
	pg_pool_free(&pool);
	arena_free(&a);
	return 0;
}

/* --- a proxy between a pool and the server --- */

enum mode { PASS, SILENT_BOTH, SILENT_BACK /* questions arrive, answers do not */ };

struct proxy {
	char dir[32], path[64], server[100];
	int fd;
	pthread_t thread;
	_Atomic int mode;
	_Atomic bool stop;
	_Atomic unsigned accepted;
};

struct link {
	int client, server;
};

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* What cannot pass is read and lost, as by a broken network. False at the end of either side. */
static bool carry(int from, int to, bool pass)
{
	char bytes[65536];
	ssize_t n = recv(from, bytes, sizeof bytes, MSG_DONTWAIT);
	if (n < 0)
		return true;
	return n > 0 && (!pass || send(to, bytes, (size_t)n, MSG_NOSIGNAL) == n);
}

static void close_link(struct link *l)
{
	close(l->client);
	close(l->server);
	*l = (struct link){ -1, -1 };
}

static void *run_proxy(void *arg)
{
	struct proxy *p = arg;
	enum { LINKS = 32 };
	struct link links[LINKS];
	unsigned n = 0;
	while (!p->stop) {
		struct pollfd fds[1 + 2 * LINKS];
		fds[0] = (struct pollfd){ .fd = p->fd, .events = POLLIN };
		for (unsigned i = 0; i < n; i++) {
			fds[1 + 2 * i] = (struct pollfd){ .fd = links[i].client, .events = POLLIN };
			fds[2 + 2 * i] = (struct pollfd){ .fd = links[i].server, .events = POLLIN };
		}
		unsigned had = n;
		if (poll(fds, 1 + 2 * n, 20) <= 0)
			continue;
		if (fds[0].revents && n < LINKS) {
			int client = accept(p->fd, NULL, NULL);
			p->accepted++;
			links[n++] = (struct link){ client, connect_to(p->server) };
		}
		for (unsigned i = 0; i < had; i++) {
			struct link *l = &links[i];
			bool up = !fds[1 + 2 * i].revents || carry(l->client, l->server, p->mode != SILENT_BOTH);
			bool down = !fds[2 + 2 * i].revents || carry(l->server, l->client, p->mode == PASS);
			if (l->client >= 0 && (!up || !down))
				close_link(l);
		}
	}
	for (unsigned i = 0; i < n; i++)
		if (links[i].client >= 0)
			close_link(&links[i]);
	return NULL;
}

/* "host=DIR ..." of with_postgres */
static struct str server_dir(void)
{
	struct str url = str_c(fixture_url()), host;
	assert_true(str_starts(url, STR("host=")));
	str_split(&url, ' ', &host);
	return str_sub(host, 5, host.n);
}

static struct pg_pool *start_proxy(struct proxy *p, unsigned size, unsigned statement_ms)
{
	memset(p, 0, sizeof *p);
	snprintf(p->dir, sizeof p->dir, "/tmp/hgproxy.XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->path, sizeof p->path, "%s/.s.PGSQL.5432", p->dir);
	snprintf(p->server, sizeof p->server, STR_FMT "/.s.PGSQL.5432", STR_ARG(server_dir()));
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof address.sun_path, "%s", p->path);
	p->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(p->fd, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(p->fd, 64), 0);
	assert_int_equal(pthread_create(&p->thread, NULL, run_proxy, p), 0);
	char url[128];
	snprintf(url, sizeof url, "host=%s user=owner dbname=headgate", p->dir);
	struct pg_options o = { .url = url, .size = size, .wait_ms = 2000, .statement_ms = statement_ms, .application_name = "proxied" };
	return pg_pool_new(&o);
}

static void stop_proxy(struct proxy *p, struct pg_pool **through)
{
	pg_pool_free(through);
	p->stop = true;
	pthread_join(p->thread, NULL);
	close(p->fd);
	unlink(p->path);
	rmdir(p->dir);
}

static void an_answer_lost_during_commit_is_uncertain_and_the_row_is_there(void **state)
{
	(void)state;
	struct proxy p;
	struct pg_pool *through = start_proxy(&p, 2, 300);
	ask_of(through, "SELECT 1");
	p.mode = SILENT_BACK;
	uint64_t from_us = clock_now_us();
	assert_int_equal(pg_query(through, &owner, "INSERT INTO public.fault VALUES (1)", NULL, 0, a, NULL, &err), -1);
	assert_int_equal(err.code, ERR_UNCERTAIN);
	assert_in_range(clock_now_us() - from_us, 700000, 4000000);
	assert_int_equal(pg_i64(ask_of(pool, "SELECT count(*) FROM public.fault"), 0, 0), 1);
	p.mode = PASS;
	ask_of(through, "SELECT 1"); /* on a new connection */
	assert_int_equal(p.accepted, 2);
	stop_proxy(&p, &through);
}

static void a_read_without_an_answer_is_only_unavailable(void **state)
{
	(void)state;
	struct proxy p;
	struct pg_pool *through = start_proxy(&p, 2, 300);
	ask_of(through, "SELECT 1");
	p.mode = SILENT_BOTH;
	assert_int_equal(pg_query(through, &reads, "SELECT 1", NULL, 0, a, NULL, &err), -1);
	assert_int_equal(err.code, ERR_DB_UNAVAILABLE);
	stop_proxy(&p, &through);
}

static void a_server_that_never_answers_costs_two_seconds_once(void **state)
{
	(void)state;
	struct proxy p;
	struct pg_pool *through = start_proxy(&p, 8, 300);
	p.mode = SILENT_BOTH;
	uint64_t from_us = clock_now_us();
	assert_int_equal(pg_query(through, &owner, "INSERT INTO public.fault VALUES (1)", NULL, 0, a, NULL, &err), -1);
	assert_int_equal(err.code, ERR_DB_UNAVAILABLE); /* nothing was ever sent */
	assert_true(clock_now_us() - from_us < 7000000);
	stop_proxy(&p, &through);
}

/* --- a server that restarts under load --- */

enum { WRITERS = 6 };

struct load {
	_Atomic bool stop;
	_Atomic uint64_t next, acknowledged, refused, uncertain, last_ok_us, worst_wait_us;
	_Atomic uint64_t first_ok_after_us; /* the first success after `mark_us` */
	_Atomic uint64_t mark_us;
	pthread_mutex_t lock;
	FILE *refused_ids, *acknowledged_ids;
};

static struct load load;

static void note(FILE *f, uint64_t id)
{
	pthread_mutex_lock(&load.lock);
	fprintf(f, "%llu\n", (unsigned long long)id);
	pthread_mutex_unlock(&load.lock);
}

static void note_ok(uint64_t now_us)
{
	uint64_t zero = 0;
	if (load.mark_us && now_us > load.mark_us)
		atomic_compare_exchange_strong(&load.first_ok_after_us, &zero, now_us);
}

static void *write_rows(void *p)
{
	struct pg_pool *to = p;
	struct arena *mine = arena_new(1 << 20);
	while (!load.stop) {
		struct err own;
		uint64_t id = ++load.next, from_us = clock_now_us();
		struct str arg = pg_arg_i64(mine, (int64_t)id);
		int rc = pg_query(to, &owner, "INSERT INTO public.fault VALUES ($1)", &arg, 1, mine, NULL, &own);
		uint64_t now_us = clock_now_us();
		if (now_us - from_us > load.worst_wait_us)
			load.worst_wait_us = now_us - from_us;
		if (rc == 0) {
			load.acknowledged++;
			note(load.acknowledged_ids, id);
			note_ok(now_us);
		} else if (own.code == ERR_UNCERTAIN) {
			load.uncertain++;
		} else {
			load.refused++;
			note(load.refused_ids, id);
		}
		arena_clear(mine);
		usleep(1000);
	}
	arena_free(&mine);
	return NULL;
}

static void pg_ctl(const char *what)
{
	char command[256];
	snprintf(command, sizeof command, "cd / && %s %s >/dev/null 2>&1", getenv("HEADGATE_TEST_PG_CTL"), what);
	if (system(command) != 0)
		fail_msg("pg_ctl %s failed", what);
}

static uint64_t count_of(const char *ids, const char *join)
{
	char sql[200];
	struct str arg = str_c(ids);
	struct pg_result *r;
	snprintf(sql, sizeof sql, "SELECT count(*) FROM string_to_table(rtrim($1, E'\\n'), E'\\n') x(id) WHERE id <> '' AND %s (SELECT FROM public.fault f WHERE f.id = x.id::bigint)", join);
	assert_ok(pg_query(pool, &owner, sql, &arg, 1, a, &r, &err));
	return (uint64_t)pg_i64(r, 0, 0);
}

static void restarts_lose_nothing_acknowledged_and_do_nothing_refused(void **state)
{
	(void)state;
	static const char *const how[] = { "-m fast restart", "-m immediate restart", "-m fast restart" };
	char *ok_text, *no_text;
	size_t ok_n, no_n;
	pthread_t threads[WRITERS];
	struct pg_options o = { .url = fixture_url(), .size = 4, .wait_ms = 2000, .statement_ms = 2000 };
	struct pg_pool *p = pg_pool_new(&o);
	memset(&load, 0, sizeof load);
	pthread_mutex_init(&load.lock, NULL);
	load.acknowledged_ids = open_memstream(&ok_text, &ok_n);
	load.refused_ids = open_memstream(&no_text, &no_n);
	for (int i = 0; i < WRITERS; i++)
		pthread_create(&threads[i], NULL, write_rows, p);
	for (int i = 0; i < 3; i++) {
		usleep(400000);
		load.mark_us = 0;
		load.first_ok_after_us = 0;
		pg_ctl(how[i]);
		load.mark_us = clock_now_us();
		for (int j = 0; j < 300 && !load.first_ok_after_us; j++)
			usleep(10000);
		print_message("# %s: first success %u ms after the server is up\n", how[i], (unsigned)((load.first_ok_after_us - load.mark_us) / 1000));
		assert_true(load.first_ok_after_us && load.first_ok_after_us - load.mark_us < 2500000);
	}
	load.stop = true;
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	fclose(load.acknowledged_ids);
	fclose(load.refused_ids);
	print_message("# %u acknowledged, %u refused, %u uncertain, longest wait %u ms\n", (unsigned)load.acknowledged, (unsigned)load.refused, (unsigned)load.uncertain,
		      (unsigned)(load.worst_wait_us / 1000));
	assert_true(load.acknowledged > 100);
	assert_int_equal(count_of(ok_text, "NOT EXISTS"), 0);
	assert_int_equal(count_of(no_text, "EXISTS"), 0);
	assert_true(load.worst_wait_us < 6000000);
	free(ok_text);
	free(no_text);
	pg_pool_free(&p);
}

/* --- a server that is away --- */

static _Atomic bool stop_asking;
static _Atomic unsigned asked;

static void *ask_on(void *p)
{
	while (!stop_asking) {
		struct err own;
		pg_query(p, &owner, "SELECT 1", NULL, 0, NULL, NULL, &own);
		asked++;
		usleep(500);
	}
	return NULL;
}

static void nobody_storms_a_server_that_is_away(void **state)
{
	(void)state;
	pthread_t threads[8];
	struct pg_options o = { .url = "host=/nonexistent dbname=x", .size = 8, .wait_ms = 500 };
	struct pg_pool *p = pg_pool_new(&o);
	struct pg_pool_stats stats;
	stop_asking = false;
	asked = 0;
	for (int i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, ask_on, p);
	usleep(3200000);
	stop_asking = true;
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	pg_pool_stats(p, &stats);
	print_message("# %u questions in 3.2 s, %u attempts to connect\n", asked, (unsigned)stats.connects);
	assert_true(asked > 1000);
	assert_in_range(stats.connects, 2, 8 + 5); /* the first ones at once, then one a second */
	pg_pool_free(&p);
}

static void a_full_server_is_shared_and_not_stormed(void **state)
{
	(void)state;
	pthread_t threads[8];
	char url[256];
	struct pg_pool_stats stats;
	ask_of(pool, "DROP ROLE IF EXISTS few");
	ask_of(pool, "CREATE ROLE few LOGIN CONNECTION LIMIT 2");
	snprintf(url, sizeof url, "host=" STR_FMT " user=few dbname=headgate", STR_ARG(server_dir()));
	struct pg_options o = { .url = url, .size = 8, .wait_ms = 2000 };
	struct pg_pool *p = pg_pool_new(&o);
	stop_asking = false;
	asked = 0;
	for (int i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, ask_on, p);
	usleep(3200000);
	stop_asking = true;
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	pg_pool_stats(p, &stats);
	print_message("# %u answers in 3.2 s on 2 connections, %u attempts to connect, %u errors\n", asked, (unsigned)stats.connects, (unsigned)stats.errors);
	assert_int_equal(stats.errors, 0);
	assert_true(stats.connects <= 8 + 5);
	pg_pool_free(&p);
	ask_of(pool, "DROP ROLE few");
}

static void a_standby_refuses_writes_and_the_connection_is_not_kept(void **state)
{
	(void)state;
	struct pg_options o = { .url = fixture_url(), .size = 1, .wait_ms = 2000 };
	ask_of(pool, "ALTER DATABASE headgate SET default_transaction_read_only = on");
	struct pg_pool *p = pg_pool_new(&o);
	struct pg_pool_stats stats;
	assert_int_equal(pg_query(p, &owner, "INSERT INTO public.fault VALUES (1)", NULL, 0, a, NULL, &err), -1);
	assert_int_equal(err.code, ERR_DB_UNAVAILABLE);
	pg_pool_stats(p, &stats);
	assert_int_equal(stats.open, 0);
	ask_of(pool, "ALTER DATABASE headgate RESET default_transaction_read_only");
	assert_ok(pg_query(p, &owner, "INSERT INTO public.fault VALUES (1)", NULL, 0, a, NULL, &err));
	pg_pool_free(&p);
}

static void a_lock_is_waited_for_a_second_and_no_longer(void **state)
{
	(void)state;
	struct pg_conn *c;
	assert_ok(pg_begin(pool, &owner, &c, &err));
	assert_ok(pg_exec(c, "LOCK TABLE public.fault", NULL, 0, a, NULL, &err));
	uint64_t from_us = clock_now_us();
	assert_int_equal(pg_query(pool, &owner, "INSERT INTO public.fault VALUES (1)", NULL, 0, a, NULL, &err), -1);
	assert_int_equal(err.code, ERR_DB_UNAVAILABLE);
	assert_non_null(strstr(err.detail, "55P03"));
	assert_in_range(clock_now_us() - from_us, 900000, 4000000);
	assert_ok(pg_end(&c, false, &err));
	ask_of(pool, "INSERT INTO public.fault VALUES (1)");
}

/* --- fairness --- */

static struct pg_pool *one;
static _Atomic unsigned order;

static void *wait_turn(void *p)
{
	struct err own;
	struct pg_conn *c;
	if (pg_begin(one, &owner, &c, &own) == 0) {
		*(unsigned *)p = ++order;
		pg_end(&c, false, &own);
	}
	return NULL;
}

static void who_waits_longest_is_served_first(void **state)
{
	(void)state;
	enum { N = 6 };
	pthread_t threads[N];
	unsigned place[N] = { 0 };
	struct pg_options o = { .url = fixture_url(), .size = 1, .wait_ms = 5000 };
	struct pg_conn *c;
	one = pg_pool_new(&o);
	order = 0;
	assert_ok(pg_begin(one, &owner, &c, &err));
	for (int i = 0; i < N; i++) {
		pthread_create(&threads[i], NULL, wait_turn, &place[i]);
		struct pg_pool_stats stats;
		do {
			usleep(2000);
			pg_pool_stats(one, &stats);
		} while (stats.waiting != (unsigned)i + 1);
	}
	assert_ok(pg_end(&c, false, &err));
	for (int i = 0; i < N; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(place[i], i + 1);
	pg_pool_free(&one);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	if (!fixture_url() || !getenv("HEADGATE_TEST_PG_CTL"))
		return fixture_skip();
	const struct CMUnitTest tests[] = {
		CASE(an_answer_lost_during_commit_is_uncertain_and_the_row_is_there),
		CASE(a_read_without_an_answer_is_only_unavailable),
		CASE(a_server_that_never_answers_costs_two_seconds_once),
		CASE(restarts_lose_nothing_acknowledged_and_do_nothing_refused),
		CASE(nobody_storms_a_server_that_is_away),
		CASE(a_full_server_is_shared_and_not_stormed),
		CASE(a_standby_refuses_writes_and_the_connection_is_not_kept),
		CASE(a_lock_is_waited_for_a_second_and_no_longer),
		CASE(who_waits_longest_is_served_first),
	};
	return cmocka_run_group_tests_name("store pg fault", tests, NULL, NULL);
}
