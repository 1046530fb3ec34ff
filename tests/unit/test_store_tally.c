/* SPDX-License-Identifier: Apache-2.0
 * The tally: sums of several processes, kept when one is killed; bounded series.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store.h"

#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 4, EVENTS = 200000 };

static char dir[32];
static struct segment *segment;
static struct tally_row rows[TALLY_SERIES + 1];

static int set_up(void **state)
{
	struct err err;
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/hgtal.XXXXXX");
	return mkdtemp(dir) ? segment_open(dir, SEGMENT_FCGI, &segment, &err) : -1;
}

static int tear_down(void **state)
{
	char pattern[64];
	glob_t found;
	(void)state;
	segment_close(&segment);
	snprintf(pattern, sizeof pattern, "%s/segment.*", dir);
	if (glob(pattern, 0, NULL, &found) == 0)
		unlink(found.gl_pathv[0]);
	globfree(&found);
	return rmdir(dir);
}

static struct tally_event event(const char *model, int64_t total_us)
{
	struct tally_event e = { .endpoint = STR("/v1/chat/completions"),
				 .provider = STR("sim"),
				 .model = str_c(model),
				 .status = 200,
				 .sums = { 1, 11, 4, 7, 2, 1234567891 } };
	for (unsigned i = 0; i < TALLY_STAGES; i++)
		e.stage_us[i] = -1;
	e.stage_us[TALLY_TOTAL] = total_us;
	return e;
}

/* A process of its own, that maps the segment anew and is killed while it lives. */
static pid_t counting_process(const int gun[2])
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid)
		return pid;
	struct segment *s;
	struct err err;
	char none;
	close(gun[1]);
	if (read(gun[0], &none, 1) != 0) /* all begin when the parent lets go */
		_exit(1);
	if (segment_open(dir, SEGMENT_FCGI, &s, &err) != 0)
		_exit(1);
	for (unsigned i = 0; i < EVENTS; i++) {
		char model[16];
		snprintf(model, sizeof model, "m%u", i % 8);
		struct tally_event e = event(model, 100);
		tally_add(segment_tally(s), &e);
	}
	raise(SIGKILL);
	_exit(1);
}

static void processes_that_are_killed_leave_their_sums_and_no_ghost(void **state)
{
	pid_t pids[PROCESSES];
	int gun[2];
	(void)state;
	assert_int_equal(pipe(gun), 0);
	for (unsigned i = 0; i < PROCESSES; i++)
		pids[i] = counting_process(gun);
	close(gun[1]);
	close(gun[0]);
	for (unsigned i = 0; i < PROCESSES; i++) {
		int status;
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_true(WIFSIGNALED(status));
	}
	assert_int_equal(tally_rows(segment_tally(segment), rows, TALLY_SERIES + 1), 8);
	for (unsigned i = 0; i < 8; i++) {
		uint64_t n = PROCESSES * EVENTS / 8;
		assert_int_equal(rows[i].sums.requests, n);
		assert_int_equal(rows[i].sums.input, 11 * n);
		assert_int_equal(rows[i].sums.reasoning, 2 * n);
		assert_int_equal(rows[i].sums.cost_nusd, 1234567891ULL * n);
	}
	struct segment_process processes[8];
	assert_int_equal(segment_processes(segment, processes, 8), 1);
}

static void more_series_than_there_are_places_go_to_other(void **state)
{
	uint64_t sum = 0;
	(void)state;
	for (unsigned i = 0; i < 2 * TALLY_SERIES; i++) {
		char model[16];
		snprintf(model, sizeof model, "m%u", i);
		struct tally_event e = event(model, 1);
		tally_add(segment_tally(segment), &e);
	}
	unsigned n = tally_rows(segment_tally(segment), rows, TALLY_SERIES + 1);
	assert_true(n <= TALLY_SERIES + 1);
	assert_string_equal(rows[n - 1].labels.model, "other");
	assert_int_equal(rows[n - 1].sums.requests, tally_overflowed(segment_tally(segment)));
	assert_true(tally_overflowed(segment_tally(segment)) >= TALLY_SERIES);
	for (unsigned i = 0; i < n; i++)
		sum += rows[i].sums.requests;
	assert_int_equal(sum, 2 * TALLY_SERIES);
}

static void a_time_stands_in_the_first_bucket_that_holds_it(void **state)
{
	static const int64_t times[] = { 0, 50, 51, 600000001 };
	struct tally_histogram h;
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct tally_event e = event("m", times[i]);
		tally_add(segment_tally(segment), &e);
	}
	tally_histogram(segment_tally(segment), TALLY_TOTAL, &h);
	assert_int_equal(h.buckets[0], 2);
	assert_int_equal(h.buckets[1], 1);
	assert_int_equal(h.count, 4);
	assert_int_equal(h.sum_us, 600000102);
	tally_histogram(segment_tally(segment), TALLY_AUTH, &h);
	assert_int_equal(h.count, 0);
}

static void a_long_label_is_cut_at_a_character(void **state)
{
	char long_name[200] = "";
	(void)state;
	for (size_t i = 0; i < 198; i += 2)
		memcpy(long_name + i, "\xc3\xa9", 2);
	struct tally_event e = event(long_name, 1);
	tally_add(segment_tally(segment), &e);
	assert_int_equal(tally_rows(segment_tally(segment), rows, 2), 1);
	assert_int_equal(strlen(rows[0].labels.model), 126);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(processes_that_are_killed_leave_their_sums_and_no_ghost),
		CASE(more_series_than_there_are_places_go_to_other),
		CASE(a_time_stands_in_the_first_bucket_that_holds_it),
		CASE(a_long_label_is_cut_at_a_character),
	};
	return cmocka_run_group_tests_name("store tally", tests, NULL, NULL);
}
