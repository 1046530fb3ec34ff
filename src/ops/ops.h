/* SPDX-License-Identifier: Apache-2.0
 * Looking at oneself: health and metrics.
 */
#ifndef OPS_OPS_H
#define OPS_OPS_H

#include "base/err.h"
#include "base/str.h"

struct arena;
struct buf;
struct epoch;
struct ledger;
struct mc;
struct pg_pool;
struct segment;

struct ops_parts {
	struct pg_pool *pool;
	struct epoch *epoch;
	struct ledger *ledger;
	struct mc *mc;
};

struct ops_health {
	bool ready;	/* a new model call would be admitted */
	bool draining;
	bool postgresql, schema, ledger, memcached; /* each fine */
	unsigned schema_version, schema_needed;
	int64_t epoch_age_ms; /* -1: never verified */
	unsigned ledger_queued;
	unsigned ledger_spooled; /* entries of this process in its spool: accounting is degraded, calls go on */
	char postgresql_error[256], schema_error[256], ledger_error[256];
};

/* Ask everything a model call depends on. Blocks: up to the pool's waits when PostgreSQL is away (2 s). */
void ops_health_look(const struct ops_parts *parts, struct arena *a, struct ops_health *out_r);
/* {"status":"ok"|"degraded"|"unavailable","dependencies":{...}} */
void ops_health_print(const struct ops_health *h, struct buf *out);

/* What the whole host counted, as Prometheus text 0.0.4, from the segment alone: any process of the host says the same. Needs the arena for
 * the rows. No query. */
void ops_metrics_print(struct segment *segment, struct arena *a, struct buf *out);

/* Is the schema at least what these programs need (MIGRATE_NEWEST)? Asked until the answer is yes, remembered then.
 * Returns 0, or -1: ERR_CONFIG names both versions and the command to run; ERR_DB_UNAVAILABLE. */
int ops_schema_check(struct pg_pool *pool, struct arena *a, unsigned *version_r, struct err *err);

#endif
