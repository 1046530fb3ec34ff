/* SPDX-License-Identifier: Apache-2.0
 * auth_probe CONFIG KEYFILE PROCESSES THREADS [RUN_DIR...]: authenticate the key in KEYFILE again and again, in several processes
 * with several threads each, until standard input ends. Process i takes RUN_DIR i as its host's run directory (in turn), so
 * that several hosts are played on one. Prints "ready" once every process has asked once, and at the end a JSON line for each.
 * Times are monotonic microseconds, the same for all processes and for who starts this.
 *
 * auth_probe --bench CONFIG KEYFILE: nanoseconds of one authentication that is answered from the cache.
 */
#include "config.h"
#include "base/arena.h"
#include "base/clock.h"
#include "config/config.h"
#include "identity/identity.h"
#include "store/store.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS_MAX = 16, PROCESSES_MAX = 16, PAUSE_US = 100 };

struct tally {
	uint64_t tries, ok, refused, unavailable, other;
	uint64_t last_ok_us, first_refused_us, ok_after_refused, slowest_us;
};

struct probe {
	struct config *config;
	struct keyring *keyring;
	struct pg_pool *pool;
	struct segment *segment;
	struct epoch *epoch;
	struct identity *identity;
	char key[300];
	_Atomic bool stop;
};

static void die(const char *what, const struct err *err)
{
	fprintf(stderr, "auth_probe: %s: %s (%s)\n", what, err->msg, err->detail);
	exit(1);
}

static void read_key(struct probe *p, const char *path)
{
	FILE *f = fopen(path, "r");
	if (!f || !fgets(p->key, sizeof p->key, f)) {
		fprintf(stderr, "auth_probe: cannot read %s\n", path);
		exit(1);
	}
	p->key[strcspn(p->key, "\r\n")] = '\0';
	fclose(f);
}

static void open_all(struct probe *p, const char *config, const char *key_file, const char *run_dir)
{
	struct err err;
	err_clear(&err);
	read_key(p, key_file);
	if (config_load(config, &p->config, NULL, &err) < 0 || keyring_load(p->config->master_key, &p->keyring, &err) < 0)
		die("configuration", &err);
	const struct pg_options pg = { .url = p->config->database_url, .size = 4, .wait_ms = 2000, .statement_ms = 2000, .application_name = "auth_probe" };
	p->pool = pg_pool_new(&pg);
	if (segment_open(run_dir ? run_dir : p->config->run_dir, SEGMENT_FCGI, &p->segment, &err) < 0)
		die("segment", &err);
	p->epoch = epoch_new(p->pool, p->segment, 0);
	epoch_set_threads(p->epoch, 10 * THREADS_MAX); /* a tenth of them may wait: all of ours */
	const struct identity_options options = { .pool = p->pool, .epoch = p->epoch, .keyring = p->keyring, .cache_keys = 1000 };
	p->identity = identity_new(&options, &err);
	if (!p->identity)
		die("identity", &err);
}

static void close_all(struct probe *p)
{
	identity_free(&p->identity);
	epoch_free(&p->epoch);
	segment_close(&p->segment);
	pg_pool_free(&p->pool);
	keyring_free(&p->keyring);
	config_free(&p->config);
}

static void count(struct tally *t, int rc, const struct err *err, uint64_t begun_us)
{
	uint64_t now_us = clock_now_us();
	t->tries++;
	t->slowest_us = now_us - begun_us > t->slowest_us ? now_us - begun_us : t->slowest_us;
	if (rc == 0) {
		t->ok++;
		t->last_ok_us = begun_us; /* what counts is when it was asked */
		t->ok_after_refused += t->first_refused_us != 0;
	} else if (err->code == ERR_UNAUTHENTICATED) {
		t->refused++;
		t->first_refused_us = t->first_refused_us ? t->first_refused_us : now_us;
	} else if (err->code == ERR_AUTH_UNAVAILABLE) {
		t->unavailable++;
	} else {
		t->other++;
	}
}

struct worker { struct probe *probe; struct tally tally; pthread_t thread; };

static void ask_once(struct worker *w, struct arena *a)
{
	struct caller who;
	struct err err;
	err_clear(&err);
	uint64_t begun_us = clock_now_us();
	int rc = identity_authenticate(w->probe->identity, str_c(w->probe->key), a, &who, &err);
	count(&w->tally, rc, &err, begun_us);
	arena_clear(a);
}

static void *work(void *u)
{
	struct worker *w = u;
	struct arena *a = arena_new(1 << 20);
	while (!atomic_load(&w->probe->stop)) {
		ask_once(w, a);
		usleep(PAUSE_US);
	}
	arena_free(&a);
	return NULL;
}

static void add(struct tally *all, const struct tally *t)
{
	all->tries += t->tries;
	all->ok += t->ok;
	all->refused += t->refused;
	all->unavailable += t->unavailable;
	all->other += t->other;
	all->ok_after_refused += t->ok_after_refused;
	all->last_ok_us = t->last_ok_us > all->last_ok_us ? t->last_ok_us : all->last_ok_us;
	all->slowest_us = t->slowest_us > all->slowest_us ? t->slowest_us : all->slowest_us;
	if (t->first_refused_us && (!all->first_refused_us || t->first_refused_us < all->first_refused_us))
		all->first_refused_us = t->first_refused_us;
}

static void print_tally(const struct tally *t)
{
	dprintf(STDOUT_FILENO,
		"{\"tries\":%llu,\"ok\":%llu,\"refused\":%llu,\"unavailable\":%llu,\"other\":%llu,\"ok_after_refused\":%llu,\"last_ok_us\":%llu,"
		"\"first_refused_us\":%llu,\"slowest_us\":%llu}\n",
		(unsigned long long)t->tries, (unsigned long long)t->ok, (unsigned long long)t->refused, (unsigned long long)t->unavailable,
		(unsigned long long)t->other, (unsigned long long)t->ok_after_refused, (unsigned long long)t->last_ok_us,
		(unsigned long long)t->first_refused_us, (unsigned long long)t->slowest_us);
}

/* One process: until the pipe `until` ends. */
static int run_process(const char *config, const char *key_file, const char *run_dir, unsigned threads, int ready, int until)
{
	struct probe p = { .config = NULL };
	struct worker workers[THREADS_MAX] = { { .probe = NULL } };
	struct tally all = { .tries = 0 };
	struct arena *a = arena_new(1 << 20);
	char byte = 0;
	open_all(&p, config, key_file, run_dir);
	for (unsigned i = 0; i < threads; i++)
		workers[i].probe = &p;
	ask_once(&workers[0], a);
	arena_free(&a);
	if (write(ready, "r", 1) != 1)
		return 1;
	for (unsigned i = 0; i < threads; i++)
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	while (read(until, &byte, 1) == 1) {
	}
	atomic_store(&p.stop, true);
	struct err err;
	err_clear(&err);
	(void)identity_flush_used(p.identity, &err);
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		add(&all, &workers[i].tally);
	}
	print_tally(&all);
	close_all(&p);
	return 0;
}

static int bench(const char *config, const char *key_file)
{
	enum { ROUNDS = 300000 };
	struct probe p = { .config = NULL };
	struct worker w = { .probe = &p };
	struct arena *a = arena_new(1 << 20);
	struct caller who;
	struct err err;
	open_all(&p, config, key_file, NULL);
	ask_once(&w, a);
	uint64_t begun_us = clock_now_us();
	for (int i = 0; i < ROUNDS; i++) {
		if (identity_authenticate(p.identity, str_c(p.key), a, &who, &err) < 0)
			die("authenticate", &err);
		arena_clear(a);
	}
	printf("{\"ns_per_call\":%llu}\n", (unsigned long long)((clock_now_us() - begun_us) * 1000 / ROUNDS));
	arena_free(&a);
	close_all(&p);
	return 0;
}

static unsigned small_number(const char *text, unsigned max)
{
	uint64_t n;
	if (!str_u64(str_c(text), &n) || n < 1 || n > max) {
		fprintf(stderr, "auth_probe: %s is not 1 to %u\n", text, max);
		exit(2);
	}
	return (unsigned)n;
}

static int run_all(int argc, char **argv)
{
	unsigned processes = small_number(argv[3], PROCESSES_MAX), threads = small_number(argv[4], THREADS_MAX);
	int ready[2], until[2], failed = 0;
	char byte;
	if (pipe(ready) < 0 || pipe(until) < 0)
		return 1;
	for (unsigned i = 0; i < processes; i++) {
		pid_t child = fork();
		if (child == 0) {
			close(until[1]);
			close(STDIN_FILENO);
			_exit(run_process(argv[1], argv[2], argc > 5 ? argv[5 + (int)i % (argc - 5)] : NULL, threads, ready[1], until[0]));
		}
	}
	close(ready[1]);
	for (unsigned i = 0; i < processes; i++)
		if (read(ready[0], &byte, 1) != 1)
			return 1;
	dprintf(STDOUT_FILENO, "ready\n");
	while (read(STDIN_FILENO, &byte, 1) > 0) {
	}
	close(until[1]);
	for (int status; wait(&status) > 0;)
		failed |= status != 0;
	return failed;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "--bench") == 0)
		return bench(argv[2], argv[3]);
	if (argc >= 5)
		return run_all(argc, argv);
	fputs("usage: auth_probe CONFIG KEYFILE PROCESSES THREADS [RUN_DIR...]\n", stderr);
	return 2;
}
