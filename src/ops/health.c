/* SPDX-License-Identifier: Apache-2.0
 * Health: the same questions a model call asks, asked on purpose. memcached may be away without harm, so it only degrades.
 */
#include "config.h"
#include "ops/ops.h"

#include "base/buf.h"
#include "base/json.h"
#include "ledger/ledger.h"
#include "store/store.h"

#include <stdatomic.h>
#include <stdio.h>

int ops_schema_check(struct pg_pool *pool, struct arena *a, unsigned *version_r, struct err *err)
{
	static atomic_uint known; /* schemas only grow while programs run */
	struct pg_scope scope = { .role = PG_ROLE_LOADER, .read_only = true };
	struct pg_result *r;
	*version_r = known;
	if (known >= MIGRATE_NEWEST)
		return 0;
	if (pg_query(pool, &scope, "select coalesce(max(number), 0) from headgate.schema_migrations", NULL, 0, a, &r, err) < 0)
		return -1;
	known = (unsigned)pg_i64(r, 0, 0);
	*version_r = known;
	if (*version_r < MIGRATE_NEWEST)
		return err_set(err, ERR_CONFIG, "the database schema is at %u, these programs need %u: run `headgatectl db migrate`", *version_r,
			       MIGRATE_NEWEST);
	return 0;
}

static void look_at_ledger(const struct ops_parts *p, struct ops_health *h)
{
	struct ledger_stats stats;
	struct err err;
	h->ledger = ledger_has_room(p->ledger, &err) == 0;
	if (!h->ledger)
		snprintf(h->ledger_error, sizeof h->ledger_error, "%s", err.msg);
	ledger_stats(p->ledger, &stats);
	h->ledger_queued = stats.queued;
	h->ledger_spooled = stats.spool_records;
}

void ops_health_look(const struct ops_parts *p, struct arena *a, struct ops_health *h)
{
	struct err err;
	*h = (struct ops_health){ .schema_needed = MIGRATE_NEWEST };
	h->postgresql = epoch_check(p->epoch, &err) == 0;
	if (!h->postgresql)
		snprintf(h->postgresql_error, sizeof h->postgresql_error, "%s", err.msg);
	uint64_t age_us = epoch_age_us(p->epoch);
	h->epoch_age_ms = age_us == UINT64_MAX ? -1 : (int64_t)(age_us / 1000);
	if (h->postgresql) {
		h->schema = ops_schema_check(p->pool, a, &h->schema_version, &err) == 0;
		if (!h->schema)
			snprintf(h->schema_error, sizeof h->schema_error, "%s", err.msg);
	}
	look_at_ledger(p, h);
	h->memcached = mc_up(p->mc);
	h->ready = h->postgresql && h->schema && h->ledger;
}

static void put_dependency(struct json_w *w, const char *name, bool fine, const char *error)
{
	jw_key(w, name);
	jw_object(w);
	jw_m_c(w, "status", fine ? "ok" : "unavailable");
	if (error && *error)
		jw_m_c(w, "error", error);
}

void ops_health_print(const struct ops_health *h, struct buf *out)
{
	struct json_w w;
	jw_init(&w, out);
	jw_object(&w);
	jw_m_c(&w, "status", h->draining ? "draining" : !h->ready ? "unavailable" : h->memcached && !h->ledger_spooled ? "ok" : "degraded");
	jw_key(&w, "dependencies");
	jw_object(&w);
	put_dependency(&w, "postgresql", h->postgresql, h->postgresql_error);
	jw_m_i64(&w, "verified_ms_ago", h->epoch_age_ms);
	jw_object_end(&w);
	put_dependency(&w, "schema", h->schema, h->schema_error);
	jw_m_i64(&w, "version", h->schema_version);
	jw_m_i64(&w, "needed", h->schema_needed);
	jw_object_end(&w);
	put_dependency(&w, "ledger", h->ledger, h->ledger_error);
	jw_m_c(&w, "accounting", h->ledger_spooled ? "degraded" : "ok");
	jw_m_i64(&w, "queued", h->ledger_queued);
	jw_m_i64(&w, "spooled", h->ledger_spooled);
	jw_object_end(&w);
	put_dependency(&w, "memcached", h->memcached, NULL);
	jw_object_end(&w);
	jw_object_end(&w);
	jw_object_end(&w);
}
