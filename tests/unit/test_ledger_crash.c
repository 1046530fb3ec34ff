/* SPDX-License-Identifier: Apache-2.0
 * What a killed process leaves behind, and what is done with it: every call under way gets one row, every spooled entry is there
 * once, damage is recognised, and nothing new begins that could not be accounted for.
 */
#include "config.h"
#include "ledger_fixture.h"

#include "ledger/record.h"
#include "ledger/spool.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];

static int empty_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/hg-ledger-XXXXXX");
	assert_non_null(mkdtemp(dir));
	empty_tables();
	return 0;
}

static int remove_dir(void **state)
{
	char path[400];
	(void)state;
	DIR *d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
		snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
		if (e->d_name[0] != '.')
			unlink(path);
	}
	closedir(d);
	return rmdir(dir);
}

static unsigned files(void)
{
	struct ledger_file *f;
	unsigned n;
	assert_ok(ledger_files(dir, a, &f, &n, &err));
	return n;
}

/* In-flight files come first; a process has a spool too, and when it is new an empty one. */
static struct ledger_file *first_file(void)
{
	struct ledger_file *f;
	unsigned n;
	assert_ok(ledger_files(dir, a, &f, &n, &err));
	assert_true(n > 0);
	return f;
}

static char *path_of(const struct ledger_file *f)
{
	return arena_cstr(a, arena_printf(a, "%s/" STR_FMT, dir, STR_ARG(f->name)));
}

static struct ledger *ledger_in(const char *state_dir, struct pg_pool *its_pool, unsigned threads, uint64_t spool_bytes)
{
	const struct ledger_options o = { .state_dir = state_dir, .pool = its_pool, .queue = 1000, .batch = 16, .partition_days = 8, .threads = threads,
					  .spool_bytes = spool_bytes };
	struct ledger *l = ledger_new(&o, &err);
	if (!l)
		abort();
	return l;
}

static const struct ledger_price price = { .id = { { 9 } }, .version = 4, .input = 1000000000, .cached = LEDGER_NO_PRICE,
					   .cache_write = LEDGER_NO_PRICE, .output = 2000000000, .reasoning = LEDGER_NO_PRICE };

/* In a process of its own, which then is killed. */
static void killed(void (*what)(struct ledger *l))
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const struct pg_options nowhere = { .url = "host=/nonexistent", .size = 1, .wait_ms = 10, .statement_ms = 10, .application_name = "unit" };
		what(ledger_in(dir, pg_pool_new(&nowhere), 8, 0));
		kill(getpid(), SIGKILL);
		_exit(1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static struct ledger_flight *begin_call(struct ledger *l, struct sample *s)
{
	struct ledger_flight *flight = NULL;
	if (ledger_admit(l, NULL) != 0)
		abort();
	sample(s, 1, 0, 0, 0);
	s->e.estimated_input = 30;
	s->e.stream = s->e.admitted = true;
	if (ledger_flight_begin(l, &s->e, &price, &flight, NULL) != 0 || !flight)
		abort();
	return flight;
}

static void register_one(struct ledger *l)
{
	struct sample s;
	begin_call(l, &s);
}

static void send_one(struct ledger *l)
{
	struct sample s;
	struct ledger_flight *flight = begin_call(l, &s);
	ledger_flight_sent(flight);
	ledger_flight_answered(flight, 200);
	ledger_flight_progress(flight, 7, 5);
	ledger_flight_progress(flight, 12, 20);
}

static void refuse_one(struct ledger *l)
{
	struct sample s;
	struct ledger_flight *flight = begin_call(l, &s);
	ledger_flight_sent(flight);
	ledger_flight_answered(flight, 429);
}

static void settle_one(struct ledger *l)
{
	struct sample s;
	struct ledger_flight *flight = begin_call(l, &s);
	ledger_flight_sent(flight);
	s.e.usage = s.attempt.usage = (struct ledger_usage){ .input = 100, .output = 11 };
	s.e.cost_nusd = s.attempt.cost_nusd = 122000;
	s.e.flight = flight;
	ledger_submit(l, &s.e, NULL);
}

static struct ledger_adopted adopt_with(struct pg_pool *its_pool, int *rc_r)
{
	struct ledger_adopted told;
	struct ledger *l = ledger_in(dir, its_pool, 1, 0);
	*rc_r = ledger_adopt(l, &told, &err);
	ledger_free(&l);
	return told;
}

static struct ledger_adopted adopt(void)
{
	int rc;
	struct ledger_adopted told = adopt_with(pool, &rc);
	assert_ok(rc);
	return told;
}

static void a_registered_call_costs_nothing(void **state)
{
	(void)state;
	killed(register_one);
	assert_false(first_file()->alive);
	assert_int_equal(first_file()->entries, 1);
	struct ledger_adopted told = adopt();
	assert_int_equal(told.unsent, 1);
	assert_int_equal(number_of("select count(*) from headgate.requests where settled_by = 0 and cost_nusd = 0 and status = 500 and error_code = 'process_died'"), 1);
	assert_int_equal(files(), 0);
}

static void a_sent_call_is_estimated_by_the_greater_figures(void **state)
{
	(void)state;
	killed(send_one);
	assert_int_equal(adopt().estimated, 1);
	assert_int_equal(number_of("select count(*) from headgate.requests where settled_by = 3 and input_tokens = 30 and output_tokens = 20 "
				   "and counted_deltas = 12 and estimated_output_tokens = 20 and cost_nusd = 30 * 1000 + 20 * 2000 and price_version = 4 "
				   "and error_code = 'process_died' and status = 500 and model_requested = 'sim-chat?tokens=3' and user_agent = 'unit' "
				   "and project_id is not null and key_id is not null and user_id is not null and model_matched = 'sim-*'"), 1);
	assert_int_equal(number_of("select count(*) from headgate.attempts where status = 200 and not complete and model = 'sim-chat'"), 1);
	assert_int_equal(number_of(agree_sql), 1);
}

static void a_call_the_provider_refused_costs_nothing(void **state)
{
	(void)state;
	killed(refuse_one);
	adopt();
	assert_int_equal(number_of("select count(*) from headgate.requests where settled_by = 0 and cost_nusd = 0"), 1);
}

static void a_settled_call_keeps_its_exact_figures(void **state)
{
	(void)state;
	killed(settle_one);
	assert_int_equal(adopt().settled, 1);
	assert_int_equal(number_of("select count(*) from headgate.requests where settled_by = 1 and cost_nusd = 122000 and output_tokens = 11 and error_code is null"), 1);
	assert_int_equal(number_of(agree_sql), 1);
}

/* --- the same file again, and by several --- */

static void copy_file(const char *from, const char *to)
{
	char command[1200];
	snprintf(command, sizeof command, "cp '%s' '%s'", from, to);
	assert_int_equal(system(command), 0);
}

static void adopted_twice_counts_once(void **state)
{
	(void)state;
	char again[200];
	killed(send_one);
	snprintf(again, sizeof again, "%s/inflight.again", dir);
	copy_file(path_of(first_file()), again);
	assert_int_equal(adopt().files, 3);
	assert_int_equal(number_of("select sum(requests)::bigint from headgate.usage_rollups"), 1);
	assert_int_equal(number_of(agree_sql), 1);
}

static void the_living_are_left_alone(void **state)
{
	(void)state;
	struct ledger *l = ledger_in(dir, pool, 8, 0);
	send_one(l);
	assert_true(first_file()->alive);
	assert_int_equal(adopt().files, 0);
	assert_int_equal(files(), 2);
	ledger_free(&l); /* a place is taken: what it stands for must not go */
	assert_int_equal(adopt().estimated, 1);
	l = ledger_in(dir, pool, 8, 0);
	ledger_free(&l);
	assert_int_equal(files(), 0);
}

static void nothing_is_removed_while_postgresql_does_not_take_it(void **state)
{
	(void)state;
	int rc;
	killed(send_one);
	ask("revoke insert on headgate.requests from headgate_committer");
	struct ledger_adopted told = adopt_with(pool, &rc);
	ask("grant insert on headgate.requests to headgate_committer");
	assert_int_equal(rc, -1);
	assert_int_equal(told.estimated, 0);
	assert_int_equal(files(), 1);
	assert_int_equal(adopt().estimated, 1);
}

/* --- damage --- */

static void poke(const char *path, off_t at, int value)
{
	unsigned char c = (unsigned char)value, old;
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &old, 1, at), 1);
	if (value < 0)
		c = old ^ 0x40;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

static void a_torn_place_is_recognised(void **state)
{
	(void)state;
	killed(send_one);
	poke(path_of(first_file()), 4096 + 3 * 2048 + 200, -1); /* of a place that is free */
	assert_int_equal(first_file()->damaged, 0);
	poke(path_of(first_file()), 4096 + 60, -1); /* of an id */
	assert_int_equal(first_file()->damaged, 1);
	assert_int_equal(adopt().estimated, 0);
	assert_int_equal(number_of("select count(*) from headgate.requests"), 0);
	assert_int_equal(files(), 0);
}

static void a_call_killed_while_it_was_registered_has_sent_nothing(void **state)
{
	(void)state;
	killed(register_one);
	poke(path_of(first_file()), 4096, 1); /* TAKEN: the state is stored last */
	assert_int_equal(first_file()->entries, 0);
	assert_int_equal(adopt().unsent, 0);
	assert_int_equal(number_of("select count(*) from headgate.requests"), 0);
}

static void a_file_of_another_layout_is_set_aside(void **state)
{
	(void)state;
	killed(send_one);
	poke(path_of(first_file()), 3, -1);
	assert_int_equal(adopt().estimated, 0);
	assert_int_equal(files(), 0); /* under another name */
}

/* --- the spool --- */

static struct record *some_record(int64_t tokens)
{
	struct sample s;
	return record_new(sample(&s, 1, 0, tokens, tokens));
}

static void spool_some(struct spool *s, int n)
{
	for (int i = 0; i < n; i++) {
		struct record *r = some_record(i + 1);
		assert_ok(spool_append(s, &r, 1, &err));
		record_free(&r);
	}
}

static struct spool *new_spool(void)
{
	return spool_new(dir, 16 * 1024 * 1024, SPOOL_ROW_MAX);
}

/* A dead process's spool of n entries of 1, 2, ... tokens; returns its path. */
static char *dead_spool(int n)
{
	struct spool *s = new_spool();
	spool_some(s, n);
	spool_free(&s);
	return path_of(first_file());
}

static void a_spool_is_replayed_once(void **state)
{
	(void)state;
	char again[200];
	char *path = dead_spool(600);
	snprintf(again, sizeof again, "%s/spool.again", dir);
	copy_file(path, again);
	assert_int_equal(adopt().spooled, 1200);
	assert_int_equal(files(), 0);
	assert_int_equal(number_of("select count(*) from headgate.requests"), 600);
	assert_int_equal(number_of(agree_sql), 1);
}

static void a_torn_tail_is_left_out(void **state)
{
	(void)state;
	struct stat st;
	char *path = dead_spool(3);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, st.st_size - 5), 0);
	assert_int_equal(adopt().spooled, 2);
	assert_int_equal(number_of("select count(*) from headgate.requests"), 2);
}

static void a_damaged_record_is_passed_over(void **state)
{
	(void)state;
	struct stat st;
	char *path = dead_spool(5);
	assert_int_equal(stat(path, &st), 0);
	poke(path, st.st_size / 2, -1); /* in the text of the third */
	assert_int_equal(first_file()->entries, 4);
	assert_int_equal(first_file()->damaged, 1);
	assert_int_equal(adopt().spooled, 4);
	assert_int_equal(number_of("select count(*) from headgate.requests where input_tokens = 3"), 0);
	assert_int_equal(number_of("select count(*) from headgate.requests"), 4);
}

static void a_bad_row_does_not_hold_the_spool(void **state)
{
	(void)state;
	struct spool *s = new_spool();
	struct record *bad = record_of(some_uuid(7), STR("\"(nonsense)\""), STR_NONE);
	spool_some(s, 3);
	assert_ok(spool_append(s, &bad, 1, &err));
	record_free(&bad);
	spool_some(s, 3);
	spool_free(&s);
	assert_int_equal(adopt().refused, 1);
	assert_int_equal(number_of("select count(*) from headgate.requests"), 6);
	assert_int_equal(files(), 0);
}

static void limit_files(uint64_t bytes)
{
	static struct rlimit old;
	struct rlimit now;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &now), 0);
	if (bytes != UINT64_MAX)
		old = now;
	now = old;
	if (bytes != UINT64_MAX)
		now.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &now), 0);
}

static void a_disk_that_is_full_leaves_whole_records(void **state)
{
	(void)state;
	struct spool *s = new_spool();
	struct spool_stats stats;
	spool_some(s, 4);
	spool_stats(s, &stats);
	limit_files(stats.bytes + 100);
	struct record *r = some_record(9);
	int rc = spool_append(s, &r, 1, &err);
	limit_files(UINT64_MAX);
	assert_int_equal(rc, -1);
	assert_int_equal(err.code, ERR_IO);
	assert_ok(spool_append(s, &r, 1, &err)); /* there is room again */
	record_free(&r);
	spool_free(&s);
	assert_int_equal(first_file()->damaged, 0);
	assert_int_equal(adopt().spooled, 5);
	assert_int_equal(number_of("select sum(input_tokens)::bigint from headgate.requests"), 1 + 2 + 3 + 4 + 9);
}

/* --- a living process without its PostgreSQL --- */

static void what_postgresql_does_not_take_goes_to_disk_and_comes_back(void **state)
{
	(void)state;
	for (unsigned committers = 0; committers <= 2; committers += 2) {
		struct sample s;
		struct ledger_ticket t;
		struct ledger_stats stats;
		struct ledger_adopted told;
		const struct ledger_options o = { .state_dir = dir, .pool = pool, .committers = committers, .queue = 1000, .batch = 16, .partition_days = 8 };
		struct ledger *l = ledger_new(&o, &err);
		assert_non_null(l);
		empty_tables();
		ask("revoke insert on headgate.requests from headgate_committer");
		for (int i = 0; i < 5; i++)
			ledger_submit(l, sample(&s, 1, 0, 5, 5), &t);
		uint64_t began_us = clock_now_us();
		int rc = ledger_wait(l, t, 20000, &err);
		assert_true(clock_now_us() - began_us < 15000000); /* told when it is safe, not when the time is up */
		assert_int_equal(rc, -1);
		assert_int_equal(err.code, ERR_DB_UNAVAILABLE);
		ledger_submit(l, sample(&s, 1, 0, 5, 5), &t);
		assert_int_equal(ledger_wait(l, t, 20000, &err), -1);
		ledger_stats(l, &stats);
		assert_int_equal(stats.spool_records, 6);
		assert_int_equal(stats.queued, 0);
		assert_int_equal(stats.in_flight, 0);
		assert_int_equal(ledger_adopt(l, &told, &err), -1);
		assert_int_equal(files(), 1);
		ask("grant insert on headgate.requests to headgate_committer");
		assert_ok(ledger_adopt(l, &told, &err));
		ledger_stats(l, &stats);
		assert_int_equal(stats.spool_records, 0);
		assert_int_equal(number_of("select count(*) from headgate.requests"), 6);
		assert_int_equal(number_of(agree_sql), 1);
		assert_int_equal(ledger_stop(l, 1000), 0);
		ledger_free(&l);
		assert_int_equal(files(), 0);
	}
}

static void what_is_left_at_the_end_goes_to_disk(void **state)
{
	(void)state;
	struct sample s;
	struct ledger *l = ledger_in(dir, pool, 0, 0);
	ask("revoke insert on headgate.requests from headgate_committer");
	for (int i = 0; i < 5; i++)
		ledger_submit(l, sample(&s, 1, 0, 5, 5), NULL);
	unsigned lost = ledger_stop(l, 10);
	ledger_free(&l);
	ask("grant insert on headgate.requests to headgate_committer");
	assert_int_equal(lost, 0);
	assert_true(first_file()->spool);
	assert_int_equal(adopt().spooled, 5);
	assert_int_equal(number_of("select count(*) from headgate.requests"), 5);
}

/* The spool's own head takes a little, so that of three rows' room two can be promised. */
static void admission_takes_a_credit(void **state)
{
	(void)state;
	struct sample s;
	struct ledger *l = ledger_in(dir, pool, 1, 3 * SPOOL_ROW_MAX);
	assert_ok(ledger_admit(l, &err));
	assert_ok(ledger_admit(l, &err));
	assert_int_equal(ledger_admit(l, &err), -1);
	assert_int_equal(err.code, ERR_BUSY);
	assert_true(err.retry_after_ms > 0);
	assert_int_equal(ledger_has_room(l, &err), -1);
	for (int i = 0; i < 2; i++) {
		sample(&s, 1, 0, 5, 5)->admitted = true;
		ledger_submit(l, &s.e, NULL);
	}
	assert_ok(ledger_has_room(l, &err));
	assert_int_equal(ledger_stop(l, 1000), 0);
	ledger_free(&l);
	assert_int_equal(files(), 0);
}

static void what_no_disk_takes_at_the_end_stays_in_the_in_flight_file(void **state)
{
	(void)state;
	struct ledger *l = ledger_in(dir, pool, 1, 0);
	ask("revoke insert on headgate.requests from headgate_committer");
	settle_one(l);
	limit_files(0);
	unsigned lost = ledger_stop(l, 10);
	ledger_free(&l);
	limit_files(UINT64_MAX);
	ask("grant insert on headgate.requests to headgate_committer");
	assert_int_equal(lost, 0);
	assert_int_equal(adopt().settled, 1);
	assert_int_equal(number_of("select count(*) from headgate.requests where settled_by = 1 and cost_nusd = 122000"), 1);
}

/* --- does the ledger agree with itself? --- */

static struct ledger_verified verified(void)
{
	struct ledger_verified v;
	assert_ok(ledger_verify(pool, 0, 0, 5, a, &v, &err));
	return v;
}

static void a_ledger_that_disagrees_is_told(void **state)
{
	(void)state;
	struct sample s;
	struct ledger *l = ledger_in(dir, pool, 1, 0);
	for (int i = 0; i < 20; i++)
		ledger_submit(l, sample(&s, (unsigned char)(1 + i % 2), 0, 5 + i, 5), NULL);
	ledger_free(&l);
	struct ledger_verified v = verified();
	assert_int_equal(v.found, 0);
	assert_int_equal(v.requests, 20);
	assert_int_equal(v.attempts, 20);
	ask("update headgate.usage_rollups set cost_nusd = cost_nusd + 1 where organization_id = (select max(organization_id::text)::uuid from headgate.requests)");
	v = verified();
	assert_int_equal(v.found, 1);
	assert_int_equal(v.nwrong, 1);
	assert_true(str_find(v.wrong[0].what, STR("bucket "), 0) == 0);
	ask("update headgate.usage_rollups set cost_nusd = cost_nusd - 1 where organization_id = (select max(organization_id::text)::uuid from headgate.requests)");
	assert_int_equal(verified().found, 0);
	ask("update headgate.attempts set output_tokens = output_tokens + 1");
	assert_int_equal(verified().found, 20);
	assert_int_equal(verified().nwrong, 5);
	ask("update headgate.attempts set output_tokens = output_tokens - 1, request_id = '00000000-0000-0000-0000-000000000001' where number = 1 and input_tokens = 5");
	ask("update headgate.attempts set output_tokens = 5");
	assert_int_equal(verified().found, 2); /* the request without its attempt, the attempt without its request */
	ask("delete from headgate.usage_rollups");
	assert_true(verified().found > 2);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, empty_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_registered_call_costs_nothing),
		CASE(a_sent_call_is_estimated_by_the_greater_figures),
		CASE(a_call_the_provider_refused_costs_nothing),
		CASE(a_settled_call_keeps_its_exact_figures),
		CASE(adopted_twice_counts_once),
		CASE(the_living_are_left_alone),
		CASE(nothing_is_removed_while_postgresql_does_not_take_it),
		CASE(a_torn_place_is_recognised),
		CASE(a_call_killed_while_it_was_registered_has_sent_nothing),
		CASE(a_file_of_another_layout_is_set_aside),
		CASE(a_spool_is_replayed_once),
		CASE(a_torn_tail_is_left_out),
		CASE(a_damaged_record_is_passed_over),
		CASE(a_bad_row_does_not_hold_the_spool),
		CASE(a_disk_that_is_full_leaves_whole_records),
		CASE(what_postgresql_does_not_take_goes_to_disk_and_comes_back),
		CASE(what_is_left_at_the_end_goes_to_disk),
		CASE(admission_takes_a_credit),
		CASE(what_no_disk_takes_at_the_end_stays_in_the_in_flight_file),
		CASE(a_ledger_that_disagrees_is_told),
	};
	return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
