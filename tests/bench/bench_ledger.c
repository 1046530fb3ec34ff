/* SPDX-License-Identifier: Apache-2.0
 * What the ledger costs: entries per second and CPU of the database server per entry, by batch size; then 48 callers against two
 * committers, with the time each waited. Run it as the servers' user or root beside a throw-away cluster:
 * tests/tools/with_postgres tests/bench/bench_ledger [seconds per line]
 */
#include "config.h"
#include "ledger/ledger.h"

#include "base/arena.h"
#include "base/clock.h"
#include "ledger/record.h"
#include "store/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { CALLERS = 48, KEYS = 4, WAITS_MAX = 2000000 };
static const char application[] = "bench_ledger";
static struct pg_pool *pool;
static struct err err;
static uint64_t run_us = 2000000;

static void must(int rc)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "bench_ledger: %s (%s)\n", err.msg, err.detail);
	exit(1);
}

/* --- CPU --- */

static uint64_t cpu_of_us(int64_t pid)
{
	char path[64];
	unsigned long long ns = 0;
	snprintf(path, sizeof path, "/proc/%lld/schedstat", (long long)pid);
	FILE *f = fopen(path, "r");
	if (!f)
		return 0;
	if (fscanf(f, "%llu", &ns) != 1)
		ns = 0;
	fclose(f);
	return ns / 1000;
}

static uint64_t server_cpu_us(void)
{
	const struct pg_scope owner = { .role = PG_ROLE_OWNER };
	struct arena *a = arena_new(1 << 20);
	struct str name = str_c(application);
	struct pg_result *r;
	uint64_t sum = 0;
	must(pg_query(pool, &owner, "select pid from pg_stat_activity where application_name = $1", &name, 1, a, &r, &err));
	for (unsigned i = 0; i < pg_rows(r); i++)
		sum += cpu_of_us(pg_i64(r, i, 0));
	arena_free(&a);
	return sum;
}

static uint64_t own_cpu_us(void)
{
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* --- entries as a small chat completion makes them --- */

struct sample {
	struct ledger_entry e;
	struct ledger_attempt attempt;
	struct ledger_line lines[2];
};

static struct uuid fixed(unsigned char n)
{
	return (struct uuid){ { 1, [6] = 0x70, [8] = 0x80, [15] = n } };
}

static const struct ledger_entry *sample(struct sample *s, unsigned n)
{
	*s = (struct sample){ .lines = { { "input", 120, 1000000000, 120000 }, { "output", 300, 2000000000, 600000 } } };
	s->attempt = (struct ledger_attempt){
		.id = uuid_v7(), .provider_name = STR("sim"), .model = STR("sim-chat"), .provider = fixed(200), .provider_key = fixed(201), .status = 200,
		.started_us = clock_wall_us(), .duration_us = 900, .connect_us = 100, .first_byte_us = 400, .usage = { 120, 0, 0, 300, 0 },
		.cost_nusd = 720000, .settled_by = LEDGER_PROVIDER_USAGE, .complete = true,
	};
	s->e = (struct ledger_entry){
		.id = uuid_v7(), .organization = fixed(1), .project = fixed(50), .key = fixed((unsigned char)(60 + n % KEYS)), .user = fixed(70),
		.dialect = STR("openai_chat"), .endpoint = STR("/v1/chat/completions"), .model_requested = STR("sim-chat"), .model_matched = STR("sim-*"),
		.model_served = STR("sim-chat"), .provider_name = STR("sim"), .provider = fixed(200), .status = 200, .remote_addr = STR("127.0.0.1"),
		.user_agent = STR("OpenAI/Python 1.99.9"), .usage = { 120, 0, 0, 300, 0 }, .counted_deltas = -1, .estimated_input = -1,
		.estimated_output = -1, .settled_by = LEDGER_PROVIDER_USAGE, .priced = true, .price = fixed(210), .price_version = 1, .cost_nusd = 720000,
		.lines = s->lines, .nlines = 2, .received_us = clock_wall_us(), .duration_us = 1500, .first_token_us = -1, .read_us = 10, .auth_us = 5,
		.decode_us = 20, .route_us = 3, .upstream_us = 1400, .settle_us = 40, .attempts = &s->attempt, .nattempts = 1,
		.route_json = STR("{\"considered\":[{\"provider\":\"sim\",\"model\":\"sim-chat\",\"eligible\":true}],\"reason\":\"only one\"}"),
	};
	return &s->e;
}

/* --- exact batches, one connection --- */

static void batches_of(unsigned batch)
{
	struct record *records[256];
	struct committer c;
	struct sample s;
	uint64_t began_us = 0, server_us = 0, own_us = 0, n = 0, batches = 0;
	committer_init(&c, pool, 1);
	for (int warm = 10; warm >= 0 || clock_now_us() - began_us < run_us; warm--) {
		if (warm == 0) {
			server_us = server_cpu_us();
			own_us = own_cpu_us();
			began_us = clock_now_us();
			n = batches = 0;
		}
		for (unsigned i = 0; i < batch; i++)
			records[i] = record_new(sample(&s, i));
		must(committer_write(&c, records, batch, &err));
		for (unsigned i = 0; i < batch; i++)
			record_free(&records[i]);
		n += batch;
		batches++;
	}
	double took = (double)(clock_now_us() - began_us);
	server_us = server_cpu_us() - server_us;
	own_us = own_cpu_us() - own_us;
	printf("batch %4u: %7.0f entries/s, %6.1f us server CPU and %4.1f us of ours per entry, %7.3f ms per commit\n", batch, (double)n * 1e6 / took,
	       (double)server_us / (double)n, (double)own_us / (double)n, took / 1000 / (double)batches);
	committer_release(&c);
}

/* --- callers that wait, two committers --- */

static struct ledger *shared;
static atomic_bool stop;
static uint32_t *waits;
static _Atomic uint32_t nwaits;

static void *caller(void *u)
{
	struct sample s;
	struct err e = { 0 };
	unsigned n = *(unsigned *)u;
	while (!stop) {
		struct ledger_ticket t;
		uint64_t began_us = clock_now_us();
		ledger_submit(shared, sample(&s, n++), &t);
		if (ledger_wait(shared, t, 10000, &e) != 0)
			abort();
		uint32_t at = nwaits++;
		if (at < WAITS_MAX)
			waits[at] = (uint32_t)(clock_now_us() - began_us);
	}
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static void callers(unsigned count)
{
	const struct ledger_options o = { .pool = pool, .committers = 2, .queue = 10000, .batch = 256, .partition_days = 2 };
	pthread_t threads[CALLERS];
	unsigned numbers[CALLERS];
	struct ledger_stats stats;
	shared = ledger_new(&o, &err);
	stop = false;
	nwaits = 0;
	uint64_t server_us = server_cpu_us(), own_us = own_cpu_us(), began_us = clock_now_us();
	for (unsigned i = 0; i < count; i++) {
		numbers[i] = i;
		if (pthread_create(&threads[i], NULL, caller, &numbers[i]) != 0)
			exit(1);
	}
	while (clock_now_us() - began_us < run_us) {
		struct timespec pause = { 0, 20000000 };
		nanosleep(&pause, NULL);
	}
	stop = true;
	for (unsigned i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	double took = (double)(clock_now_us() - began_us);
	server_us = server_cpu_us() - server_us;
	own_us = own_cpu_us() - own_us;
	ledger_stats(shared, &stats);
	uint32_t n = nwaits < WAITS_MAX ? nwaits : WAITS_MAX;
	qsort(waits, n, sizeof waits[0], by_value);
	printf("%2u callers: %7.0f entries/s, %6.1f us server CPU and %4.1f us of ours per entry, %4.1f entries per commit, waits p50 %.3f p99 %.3f ms\n", count,
	       (double)n * 1e6 / took, (double)server_us / (double)n, (double)own_us / (double)n, (double)stats.committed / (double)stats.batches,
	       waits[n / 2] / 1000.0, waits[(size_t)n * 99 / 100] / 1000.0);
	ledger_free(&shared);
}

int main(int argc, char **argv)
{
	char dir[512];
	uint64_t seconds;
	const char *url = getenv("HEADGATE_TEST_DATABASE_URL"), *src = getenv("HEADGATE_SRCDIR");
	if (!url) {
		fputs("bench_ledger: run me under tests/tools/with_postgres\n", stderr);
		return 77;
	}
	if (argc > 1 && str_u64(str_c(argv[1]), &seconds))
		run_us = seconds * 1000000;
	snprintf(dir, sizeof dir, "%s/sql", src ? src : ".");
	must(migrate_up(url, dir, 0, NULL, NULL, &err));
	const struct pg_options o = { .url = url, .size = 4, .wait_ms = 2000, .statement_ms = 10000, .application_name = application };
	pool = pg_pool_new(&o);
	waits = calloc(WAITS_MAX, sizeof waits[0]);
	if (!waits)
		return 1;
	static const unsigned batches[] = { 1, 4, 16, 32, 64, 256 }, counts[] = { 1, 8, 48 };
	for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++)
		batches_of(batches[i]);
	for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
		callers(counts[i]);
	free(waits);
	pg_pool_free(&pool);
	return 0;
}
