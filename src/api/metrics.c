/* SPDX-License-Identifier: Apache-2.0
 * GET /metrics: what the host counted, for Prometheus. From the networks of metrics.networks without a key (the gate of the room
 * looks, api.c); from elsewhere with a key of scope admin. And the counting itself, once per request.
 */
#include "config.h"
#include "api/room.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "call/call.h"
#include "ledger/ledger.h"
#include "ops/ops.h"
#include "store/store.h"

enum { METRICS_BYTES = 8 * 1024 * 1024 };

int metrics_get(struct api_req *q, struct err *err)
{
	struct buf out;
	buf_init(&out, q->a, METRICS_BYTES);
	ops_metrics_print(api_parts(q->api)->segment, q->a, &out);
	if (out.overflow || arena_over(q->a))
		return err_set(err, ERR_INTERNAL, "the answer is larger than it may be");
	front_status(q->x, 200);
	return front_send(q->x, STR("text/plain; version=0.0.4; charset=utf-8"), buf_view(&out), err);
}

static uint64_t not_negative(int64_t n)
{
	return n > 0 ? (uint64_t)n : 0;
}

static void put_call(struct tally_event *e, const struct call_outcome *o)
{
	e->provider = o->provider;
	e->model = o->matched;
	e->sums.input = not_negative(o->input_tokens);
	e->sums.cached = not_negative(o->cached_tokens);
	e->sums.output = not_negative(o->output_tokens);
	e->sums.reasoning = not_negative(o->reasoning_tokens);
	e->sums.cost_nusd = not_negative(o->cost_nusd); /* LEDGER_NO_PRICE is below zero */
	e->stage_us[TALLY_DECODE] = o->decode_us;
	e->stage_us[TALLY_ROUTE] = o->route_us;
	e->stage_us[TALLY_UPSTREAM] = o->upstream_us;
	e->stage_us[TALLY_SETTLE] = o->settle_us;
	e->stage_us[TALLY_FIRST_TOKEN] = o->first_token_us;
}

void metrics_count(const struct api_req *q, const struct err *err)
{
	struct tally_event e = { .endpoint = q->route ? str_c(q->route->path) : STR("none"), .sums.requests = 1 };
	bool failed = err->code != ERR_NONE;
	for (unsigned i = 0; i < TALLY_STAGES; i++)
		e.stage_us[i] = -1;
	e.status = failed ? err_status(err) : front_sent_status(q->x);
	e.error = failed ? str_c(err_name(err)) : STR_NONE;
	e.stage_us[TALLY_READ] = (int64_t)(q->req->read_us - q->req->begun_us);
	e.stage_us[TALLY_AUTH] = q->auth_us;
	e.stage_us[TALLY_TOTAL] = (int64_t)(clock_now_us() - q->req->begun_us);
	if (q->call)
		put_call(&e, &q->call->out);
	tally_add(segment_tally(api_parts(q->api)->segment), &e);
}
