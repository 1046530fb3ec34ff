/* SPDX-License-Identifier: Apache-2.0
 * /health/live: the process serves. /health/ready: 200 exactly when a new model call would be admitted. /health/startup: the
 * schema is the one these programs need and the catalog could be read. Each with a body per dependency.
 */
#include "config.h"
#include "api/room.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/json.h"
#include "call/call.h"
#include "ops/ops.h"

enum { HEALTH_BYTES = 8192 };

static int report(struct api_req *q, const struct ops_health *h, struct err *err)
{
	struct buf out;
	buf_init(&out, q->a, HEALTH_BYTES);
	ops_health_print(h, &out);
	if (!h->ready)
		front_set(q->x, "retry-after", STR("2"));
	return answer_json(q, h->ready ? 200 : 503, &out, err);
}

int health_live(struct api_req *q, struct err *err)
{
	struct buf out;
	buf_init(&out, q->a, HEALTH_BYTES);
	buf_c(&out, "{\"status\":\"ok\"}");
	return answer_json(q, 200, &out, err);
}

static void look(struct api_req *q, struct ops_health *h)
{
	const struct api_parts *p = api_parts(q->api);
	const struct gate *gate = api_gate(q->api);
	struct ops_parts parts = { p->pool, p->epoch, p->ledger, p->mc };
	ops_health_look(&parts, q->a, h);
	if (gate && gate_draining(gate)) {
		h->ready = false;
		h->draining = true;
	}
}

int health_ready(struct api_req *q, struct err *err)
{
	struct ops_health h;
	look(q, &h);
	return report(q, &h, err);
}

int health_startup(struct api_req *q, struct err *err)
{
	struct ops_health h;
	struct catalog_snapshot *s;
	struct err why;
	look(q, &h);
	if (catalog_get(api_parts(q->api)->catalog, &s, &why) < 0)
		h.ready = false;
	else
		catalog_put(&s);
	return report(q, &h, err);
}
