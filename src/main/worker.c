/* SPDX-License-Identifier: Apache-2.0
 * headgate-worker: start order, the task loop, stop in reverse.
 */
#include "config.h"

#include "base/crypto.h"
#include "base/log.h"
#include "base/notify.h"
#include "config/config.h"
#include "ledger/ledger.h"
#include "main/start.h"
#include "task/task.h"

static struct config *config;

static void read_again(void)
{
	struct config *fresh = start_reload(config);
	if (!fresh)
		return;
	config_free(&config);
	config = fresh;
}

static void reload(void *unused)
{
	(void)unused;
	notify_reloading();
	read_again();
	notify_ready();
}

int main(int argc, char **argv)
{
	struct start_options o;
	struct parts parts;
	struct err err;
	crypto_no_dumps();
	start_options(argc, argv, "headgate-worker", "Work that outlives a request: partitions, sweeping, adoption of dead processes' places.", false, &o);
	start_signals();
	if (notify_open(&err) < 0)
		start_failed(&err);
	config = start_config(&o, "headgate-worker");
	if (parts_start(&parts, config, SEGMENT_WORKER, 2, &err) < 0)
		start_failed(&err);
	struct ledger_options lo = { .pool = parts.pool, .partition_days = (unsigned)config->ledger_partition_days, .state_dir = parts.state_dir };
	struct ledger *ledger = ledger_new(&lo, &err);
	if (!ledger)
		start_failed(&err);
	struct task_parts tp = { .pool = parts.pool, .segment = parts.segment, .ledger = ledger, .partition_days = (unsigned)config->ledger_partition_days, .reload = reload };
	LOG(LOG_LEVEL_INFO, "started", LF_C("version", PACKAGE_VERSION), LF_C("config", config->path));
	notify_ready();
	int rc = task_run(&tp, &err);
	if (rc < 0)
		start_failed(&err);
	LOG(LOG_LEVEL_INFO, "stopped");
	ledger_free(&ledger);
	parts_stop(&parts);
	config_free(&config);
	return 0;
}
