/* SPDX-License-Identifier: Apache-2.0
 * The segment: processes that race to make it, die in it, and read each other.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[32];
static struct err err;

static int set_up(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/hgseg.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static void segment_path(char out[512])
{
	out[0] = '\0';
	DIR *d = opendir(dir);
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		if (strncmp(e->d_name, "segment.", 8) == 0) {
			assert_string_equal(out, ""); /* one only */
			snprintf(out, 512, "%s/%s", dir, e->d_name);
		}
	closedir(d);
}

static int tear_down(void **state)
{
	(void)state;
	char path[512];
	segment_path(path);
	unlink(path);
	return rmdir(dir);
}

static struct segment *open_one(enum segment_kind kind)
{
	struct segment *s = NULL;
	if (segment_open(dir, kind, &s, &err) != 0)
		fail_msg("%s", err.msg);
	return s;
}

static void a_process_sees_itself_and_its_gauges(void **state)
{
	(void)state;
	struct segment_process p[4];
	struct segment *s = open_one(SEGMENT_FCGI);
	segment_put(s, &(struct segment_gauges){ .threads = 5, .busy = 3, .requests = 99 });
	assert_int_equal(segment_processes(s, p, 4), 1);
	assert_int_equal(p[0].kind, SEGMENT_FCGI);
	assert_int_equal(p[0].pid, getpid());
	assert_int_equal(p[0].g.busy, 3);
	assert_int_equal(p[0].g.requests, 99);
	struct segment *ctl = open_one(SEGMENT_CTL), *worker = open_one(SEGMENT_WORKER);
	assert_int_equal(segment_processes(ctl, p, 4), 2);
	segment_close(&s);
	assert_int_equal(segment_processes(ctl, p, 4), 1);
	assert_int_equal(p[0].kind, SEGMENT_WORKER);
	segment_close(&worker);
	segment_close(&ctl);
}

static void the_generation_is_shared(void **state)
{
	(void)state;
	struct segment *a = open_one(SEGMENT_FCGI), *b = open_one(SEGMENT_CTL);
	assert_int_equal(segment_generation(a), 0);
	segment_reload(b);
	assert_int_equal(segment_generation(a), 1);
	segment_close(&a);
	segment_close(&b);
}

/* What the processes of a test share: a start flag, and how many stand in the segment. */
struct shared {
	_Atomic int go, in, failed;
};

static struct shared *share(void)
{
	struct shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(s, MAP_FAILED);
	return s;
}

static void wait_for(_Atomic int *word, int value)
{
	for (int i = 0; i < 10000 && *word < value; i++)
		usleep(500);
}

/* Opens the segment when told to and stays in it until it is killed. */
static pid_t fork_one(struct shared *shared)
{
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	struct segment *s;
	while (!shared->go)
		sched_yield();
	if (segment_open(dir, SEGMENT_FCGI, &s, &err) != 0)
		shared->failed++;
	else
		segment_put(s, &(struct segment_gauges){ .busy = 1 });
	shared->in++;
	for (;;)
		pause();
}

static void kill_all(const pid_t *pids, int n)
{
	for (int i = 0; i < n; i++)
		kill(pids[i], SIGKILL);
	for (int i = 0; i < n; i++)
		waitpid(pids[i], NULL, 0);
}

enum { RACERS = 12 };

static void racing_processes_end_in_one_good_file_and_leave_no_ghost(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		struct shared *shared = share();
		pid_t pids[RACERS];
		char path[512];
		for (int i = 0; i < RACERS; i++)
			assert_true((pids[i] = fork_one(shared)) > 0);
		shared->go = 1;
		wait_for(&shared->in, RACERS);
		struct segment *ctl = open_one(SEGMENT_CTL);
		struct segment_process p[64];
		unsigned busy = 0, n = segment_processes(ctl, p, 64);
		for (unsigned i = 0; i < n; i++)
			busy += p[i].g.busy;
		kill_all(pids, RACERS);
		assert_int_equal(shared->failed, 0);
		assert_int_equal(n, RACERS);
		assert_int_equal(busy, RACERS);
		assert_int_equal(segment_processes(ctl, p, 64), 0);
		segment_close(&ctl);
		munmap(shared, sizeof *shared);
		segment_path(path);
		assert_int_equal(unlink(path), 0);
	}
}

static void a_process_killed_while_it_makes_the_file_hurts_nobody(void **state)
{
	(void)state;
	for (unsigned us = 0; us < 2000; us += 40) {
		struct shared *shared = share();
		char path[512];
		pid_t pid = fork_one(shared);
		shared->go = 1;
		usleep(us);
		kill_all(&pid, 1);
		struct segment *s = open_one(SEGMENT_FCGI);
		struct segment_process p[8];
		assert_int_equal(segment_generation(s), 0);
		assert_int_equal(segment_processes(s, p, 8), 1);
		segment_close(&s);
		munmap(shared, sizeof *shared);
		segment_path(path);
		unlink(path);
	}
}

static void poke(size_t at, const char *bytes, size_t n)
{
	char path[512];
	segment_path(path);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, bytes, n, (off_t)at), n);
	close(fd);
}

static void a_file_of_another_boot_or_half_made_is_made_anew(void **state)
{
	(void)state;
	static const struct {
		size_t at;
		const char *bytes;
	} cases[] = { { 16, "another boot" }, { 0, "garbage!" } };
	for (size_t i = 0; i < 2; i++) {
		struct segment *s = open_one(SEGMENT_FCGI);
		segment_reload(s);
		segment_close(&s);
		poke(cases[i].at, cases[i].bytes, strlen(cases[i].bytes));
		s = open_one(SEGMENT_FCGI);
		assert_int_equal(segment_generation(s), 0);
		segment_close(&s);
	}
}

static void the_file_is_for_owner_and_group_alone_and_has_its_blocks(void **state)
{
	(void)state;
	char path[512];
	struct stat st;
	struct segment *s = open_one(SEGMENT_FCGI);
	segment_path(path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	assert_true(st.st_blocks * 512 >= st.st_size);
	segment_close(&s);
}

static void a_directory_that_is_not_there_is_an_error(void **state)
{
	(void)state;
	struct segment *s = NULL;
	assert_int_equal(segment_open("/nonexistent", SEGMENT_FCGI, &s, &err), -1);
	assert_int_equal(err.code, ERR_IO);
	assert_null(s);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_process_sees_itself_and_its_gauges),
		CASE(the_generation_is_shared),
		CASE(racing_processes_end_in_one_good_file_and_leave_no_ghost),
		CASE(a_process_killed_while_it_makes_the_file_hurts_nobody),
		CASE(a_file_of_another_boot_or_half_made_is_made_anew),
		CASE(the_file_is_for_owner_and_group_alone_and_has_its_blocks),
		CASE(a_directory_that_is_not_there_is_an_error),
	};
	return cmocka_run_group_tests_name("store segment", tests, NULL, NULL);
}
