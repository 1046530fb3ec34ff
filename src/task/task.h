/* SPDX-License-Identifier: Apache-2.0
 * Work that outlives a request: what headgate-worker runs. Any number of workers may run, on any host; every task is safe to
 * run twice at once.
 */
#ifndef TASK_TASK_H
#define TASK_TASK_H

#include "base/err.h"

struct ledger;
struct pg_pool;
struct segment;

struct task_parts {
	struct pg_pool *pool;
	struct segment *segment;
	struct ledger *ledger; /* for adopting what dead processes left */
	unsigned partition_days;
	void (*reload)(void *u); /* SIGHUP or a new generation in the segment */
	void *u;
};

/* Run until SIGTERM or SIGINT (which must be blocked in all threads). Blocks. Returns 0, or -1 when the loop could not start. */
int task_run(const struct task_parts *parts, struct err *err);

#endif
