/* SPDX-License-Identifier: Apache-2.0
 * The worker's loop: a table of tasks, each with a period; a task that fails is logged once per change of state and tried
 * again at its next turn. Signals come through a signalfd, so nothing runs in a handler.
 */
#include "config.h"
#include "task/task.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/kp.h"
#include "base/log.h"
#include "base/notify.h"
#include "ledger/ledger.h"
#include "store/store.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { ARENA_BYTES = 1024 * 1024, SLOTS = 1024, TURN_MS = 1000 };

struct worker {
	const struct task_parts *parts;
	struct arena *a;
	uint64_t generation;
	bool stop;
};

typedef int task_fn(struct worker *w, struct err *err);

/* Partitions exist from yesterday to partition_days ahead; the committers make a missing one themselves. */
static int make_partitions(struct worker *w, struct err *err)
{
	return ledger_make_partitions(w->parts->pool, w->parts->partition_days, err);
}

/* Changes are read by processes that were asleep; a day is longer than any of them sleeps, and one that slept longer drops all. */
static int sweep_changes(struct worker *w, struct err *err)
{
	struct pg_scope scope = { .role = PG_ROLE_WORKER };
	struct pg_result *r;
	return pg_query(w->parts->pool, &scope,
			"delete from headgate.changes where at < now() - interval '1 day' and epoch < (select max(epoch) from headgate.changes)", NULL, 0, w->a,
			&r, err);
}

/* Looking at the slots reaps those whose process is gone, and adopts what it left. */
static int adopt(struct worker *w, struct err *err)
{
	static struct segment_process found[SLOTS];
	struct segment_gauges g = { .threads = 1, .busy = 0 };
	struct ledger_adopted adopted;
	segment_processes(w->parts->segment, found, SLOTS);
	segment_put(w->parts->segment, &g);
	return ledger_adopt(w->parts->ledger, &adopted, err);
}

static struct task {
	const char *name;
	uint64_t period_us;
	task_fn *fn;
	uint64_t due_us;
	bool failing;
} tasks[] = {
	{ "partitions", 600000000, make_partitions, 0, false },
	{ "changes", 3600000000, sweep_changes, 0, false },
	{ "adoption", 5000000, adopt, 0, false },
};

enum { TASKS = sizeof tasks / sizeof tasks[0], RETRY_US = 5000000 };

static void run_task(struct worker *w, struct task *t)
{
	struct err err;
	err_clear(&err);
	KP("task.before");
	notify_alive(); /* each is bounded on its own */
	int rc = t->fn(w, &err);
	KP("task.after");
	t->due_us = clock_now_us() + (rc < 0 && t->period_us > RETRY_US ? RETRY_US : t->period_us);
	if (rc < 0 && !t->failing)
		LOG(LOG_LEVEL_ERROR, "task.failed", LF_C("task", t->name), LF_ERR(&err));
	if (rc == 0 && t->failing)
		LOG(LOG_LEVEL_INFO, "task.recovered", LF_C("task", t->name));
	t->failing = rc < 0;
	arena_clear(w->a);
}

static void on_signal(struct worker *w, int fd)
{
	struct signalfd_siginfo info;
	struct err err;
	if (read(fd, &info, sizeof info) != (ssize_t)sizeof info)
		return;
	if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
		w->stop = true;
		notify_stopping();
	}
	if (info.ssi_signo == SIGHUP && w->parts->reload)
		w->parts->reload(w->parts->u);
	if (info.ssi_signo == SIGUSR1 && log_reopen(&err) < 0)
		LOG(LOG_LEVEL_ERROR, "log.reopen_failed", LF_ERR(&err));
}

static void turn(struct worker *w)
{
	uint64_t generation = segment_generation(w->parts->segment);
	if (generation != w->generation && w->parts->reload)
		w->parts->reload(w->parts->u);
	w->generation = generation;
	for (unsigned i = 0; i < TASKS && !w->stop; i++)
		if (clock_now_us() >= tasks[i].due_us)
			run_task(w, &tasks[i]);
}

int task_run(const struct task_parts *parts, struct err *err)
{
	struct worker w = { .parts = parts, .generation = segment_generation(parts->segment) };
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return err_set(err, ERR_IO, "cannot take signals: %s", strerror(errno));
	w.a = arena_new(ARENA_BYTES);
	while (!w.stop) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		notify_alive();
		turn(&w);
		if (poll(&p, 1, TURN_MS) > 0)
			on_signal(&w, fd);
	}
	arena_free(&w.a);
	close(fd);
	return 0;
}
