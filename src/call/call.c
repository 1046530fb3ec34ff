/* SPDX-License-Identifier: Apache-2.0
 * The road of a model call, in the order it is travelled: decode, route, attempt, settle. Each stage is a plain call; what a
 * stage leaves behind stands in `struct road`. Every call that was authenticated ends in one ledger row, whatever its fate.
 */
#include "config.h"
#include "call/road.h"

#include "base/arena.h"
#include "base/clock.h"
#include "identity/identity.h"

#include <string.h>

static int decode(struct road *r, struct err *err)
{
	struct call *c = r->call;
	uint64_t at = clock_now_us();
	if (c->dialect->decode(&r->wire, c->a, c->body, err) < 0)
		return -1;
	c->out.model = r->wire.model;
	c->out.stream = r->wire.stream;
	r->decode_us = (int64_t)(clock_now_us() - at);
	c->sink->timing(c->sink->u, "decode", (uint64_t)r->decode_us);
	return 0;
}

static int unknown_model(struct str name, struct err *err)
{
	return err_set_param(err, ERR_MODEL_NOT_FOUND, "model", "the model `" STR_FMT "` does not exist or this key may not call it",
			     STR_ARG(str_sub(name, 0, 120)));
}

static void snapshot_release(void *p)
{
	struct catalog_snapshot *s = p;
	catalog_put(&s);
}

/* The first enabled target. Balancing and failover choose here. */
static const struct model_target *first_target(const struct model *m)
{
	for (unsigned i = 0; i < m->ntargets; i++)
		if (m->targets[i].provider->enabled)
			return &m->targets[i];
	return NULL;
}

static int choose_route(struct road *r, struct err *err)
{
	struct call *c = r->call;
	uint64_t at = clock_now_us();
	struct catalog_snapshot *snapshot;
	if (catalog_get(c->room->catalog, &snapshot, err) < 0)
		return -1;
	arena_on_clear(c->a, snapshot_release, snapshot);
	const struct model *m = caller_may_call(c->caller, r->wire.model) ? catalog_match(snapshot, r->wire.model) : NULL;
	if (!m || !m->enabled)
		return unknown_model(r->wire.model, err);
	r->model = m;
	c->out.matched = m->name;
	r->target = first_target(m);
	if (!r->target)
		return err_set_param(err, ERR_UPSTREAM_UNAVAILABLE, "model", "no enabled provider serves the model `" STR_FMT "`", STR_ARG(m->name));
	r->upstream_model = r->target->model.n ? r->target->model : r->wire.model;
	c->out.provider = r->target->provider->name;
	r->priced = ledger_price_find(c->room->ledger, r->target->provider->id, r->upstream_model, c->received_us, &r->price, err);
	if (r->priced < 0)
		return -1;
	r->route_us = (int64_t)(clock_now_us() - at);
	c->sink->timing(c->sink->u, "route", (uint64_t)r->route_us);
	return 0;
}

static int travel(struct road *r, struct err *err)
{
	if (decode(r, err) < 0 || ledger_admit(r->call->room->ledger, err) < 0)
		return -1;
	r->admitted = true;
	return choose_route(r, err) < 0 ? -1 : attempt_run(r, err);
}

static struct road *road_new(struct call *c)
{
	struct road *r = ARENA_NEW(c->a, struct road);
	r->call = c;
	r->decode_us = r->route_us = r->settle_us = r->first_token_us = -1;
	r->attempt.connect_us = r->attempt.first_byte_us = -1;
	c->out = (struct call_outcome){ .cost_nusd = LEDGER_NO_PRICE, .decode_us = -1, .route_us = -1, .upstream_us = -1, .settle_us = -1, .first_token_us = -1, .settled_by = "none" };
	return r;
}

int call_run(struct call *c, struct err *err)
{
	struct road *r = road_new(c);
	int rc = travel(r, err);
	if (!r->settled)
		settle(r, err);
	return rc;
}

int call_turn_away(struct call *c, const struct err *err)
{
	settle(road_new(c), err);
	return -1;
}
