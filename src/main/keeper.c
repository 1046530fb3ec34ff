/* SPDX-License-Identifier: Apache-2.0
 * Every few seconds, and at the end: writes when keys were last used, closes connections that have gone cold, tries again what a process
 * without committers could not commit, and takes up what dead processes of the host left. A failure is logged once per change of state.
 */
#include "config.h"
#include "main/keeper.h"

#include "base/err.h"
#include "base/log.h"
#include "call/call.h"
#include "identity/identity.h"
#include "ledger/ledger.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { TURN_SECS = 5 };

struct keeper {
	struct identity *identity;
	struct catalog *catalog;
	struct ledger *ledger;
	pthread_t thread;
	pthread_mutex_t lock; /* protects `stop` */
	pthread_cond_t wake;
	bool stop, failing, adoption_failing;
};

/* Also what a process that died here left, so that it works without a worker. While PostgreSQL is away the commits tell. */
static void adopt(struct keeper *k)
{
	struct ledger_adopted adopted;
	struct err err;
	err_clear(&err);
	bool failed = ledger_adopt(k->ledger, &adopted, &err) < 0 && err.code != ERR_DB_UNAVAILABLE;
	if (failed && !k->adoption_failing)
		LOG(LOG_LEVEL_ERROR, "keeper.failed", LF_C("task", "adoption of what dead processes left"), LF_ERR(&err));
	k->adoption_failing = failed;
}

static void turn(struct keeper *k)
{
	struct err err;
	err_clear(&err);
	bool failed = identity_flush_used(k->identity, &err) < 0;
	if (failed && !k->failing)
		LOG(LOG_LEVEL_WARN, "keeper.failed", LF_C("task", "last use of keys"), LF_ERR(&err));
	k->failing = failed;
	catalog_trim(k->catalog);
	ledger_flush(k->ledger);
	adopt(k);
}

static bool wait_turn(struct keeper *k)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += TURN_SECS;
	pthread_mutex_lock(&k->lock);
	int rc = 0;
	while (!k->stop && rc == 0)
		rc = pthread_cond_timedwait(&k->wake, &k->lock, &until);
	bool stop = k->stop;
	pthread_mutex_unlock(&k->lock);
	return !stop;
}

static void *keeper_main(void *u)
{
	struct keeper *k = u;
	while (wait_turn(k))
		turn(k);
	turn(k);
	return NULL;
}

struct keeper *keeper_start(struct identity *identity, struct catalog *catalog, struct ledger *ledger)
{
	struct keeper *k = calloc(1, sizeof *k);
	pthread_condattr_t monotonic;
	BUG_ON(!k);
	k->identity = identity;
	k->catalog = catalog;
	k->ledger = ledger;
	pthread_mutex_init(&k->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&k->wake, &monotonic);
	if (pthread_create(&k->thread, NULL, keeper_main, k) == 0)
		return k;
	LOG(LOG_LEVEL_WARN, "keeper.not_started");
	free(k);
	return NULL;
}

void keeper_stop(struct keeper **kp)
{
	struct keeper *k = *kp;
	if (!k)
		return;
	pthread_mutex_lock(&k->lock);
	k->stop = true;
	pthread_cond_signal(&k->wake);
	pthread_mutex_unlock(&k->lock);
	pthread_join(k->thread, NULL);
	pthread_cond_destroy(&k->wake);
	pthread_mutex_destroy(&k->lock);
	free(k);
	*kp = NULL;
}
