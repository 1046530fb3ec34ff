/* SPDX-License-Identifier: Apache-2.0
 * headgate-worker: start order, the task loop, stop in reverse.
 */
#include "config.h"

#include "base/log.h"
#include "config/config.h"
#include "ledger/ledger.h"
#include "main/start.h"
#include "task/task.h"

static struct config *config;

static void reload(void *unused)
{
	struct config *fresh = start_reload(config);
	(void)unused;
	if (!fresh)
		return;
	config_free(&config);
	config = fresh;
}

int main(int argc, char **argv)
{
	struct start_options o;
	struct parts parts;
	struct err err;
	start_options(argc, argv, "headgate-worker", "Work that outlives a request: partitions, sweeping, adoption of dead processes' places.", false, &o);
	start_signals();
	config = start_config(&o, "headgate-worker");
	if (parts_start(&parts, config, SEGMENT_WORKER, 2, &err) < 0)
		start_failed(&err);
	struct ledger_options lo = { .pool = parts.pool, .partition_days = (unsigned)config->ledger_partition_days, .state_dir = config->state_dir };
	struct ledger *ledger = ledger_new(&lo, &err);
	if (!ledger)
		start_failed(&err);
	struct task_parts tp = { .pool = parts.pool, .segment = parts.segment, .ledger = ledger, .partition_days = (unsigned)config->ledger_partition_days, .reload = reload };
	LOG(LOG_LEVEL_INFO, "started", LF_C("version", PACKAGE_VERSION), LF_C("config", config->path));
	int rc = task_run(&tp, &err);
	if (rc < 0)
		start_failed(&err);
	LOG(LOG_LEVEL_INFO, "stopped");
	ledger_free(&ledger);
	parts_stop(&parts);
	config_free(&config);
	return 0;
}
