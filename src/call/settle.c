/* SPDX-License-Identifier: Apache-2.0
 * What a call used, what it costs, and its ledger entry. The provider's own figures win; a stream that was cut or an answer
 * without usage is counted by us, and marked so.
 */
#include "config.h"
#include "call/road.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/kp.h"
#include "base/log.h"
#include "identity/identity.h"

#include <stdatomic.h>

static const char *const settled_names[] = { "none", "provider_usage", "counted", "estimated" };

static int64_t at_least_zero(int64_t v)
{
	return v > 0 ? v : 0;
}

static struct ledger_usage told_by_provider(const struct dialect_usage *u)
{
	return (struct ledger_usage){ at_least_zero(u->input), at_least_zero(u->cached), at_least_zero(u->cache_write), at_least_zero(u->output),
				      at_least_zero(u->reasoning) };
}

static int64_t output_received(const struct road *r)
{
	return r->wire.stream ? dialect_stream_counted(&r->stream) : r->answer.output_estimate;
}

/* The provider's figures hold for an answer that is whole. Of a stream that was cut they hold only when they are not below what
 * came through here: some providers tell usage in every chunk, and the last one seen is then too old. */
static bool provider_told(const struct road *r)
{
	if (!r->answer.usage_present)
		return false;
	return !r->wire.stream || r->stream.terminal || r->answer.usage.output >= output_received(r);
}

static int64_t greater(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* Who tells what was used. A provider that answered with an error, or was never reached, bills nothing. */
static enum ledger_settled judge(const struct road *r, struct ledger_usage *u)
{
	*u = (struct ledger_usage){ 0 };
	if (!r->attempted || !r->sent || r->refused)
		return LEDGER_NONE;
	if (r->answer.usage_present)
		*u = told_by_provider(&r->answer.usage);
	if (provider_told(r))
		return LEDGER_PROVIDER_USAGE;
	u->input = greater(u->input, r->wire.input_estimate);
	u->output = greater(u->output, output_received(r));
	bool received = r->attempt.complete || r->stream.deltas > 0 || u->output > 0;
	return received ? LEDGER_COUNTED : LEDGER_ESTIMATED;
}

/* What was considered and why, for GET /v1/requests/{id}. */
static struct str route_json(const struct road *r)
{
	struct buf b;
	struct json_w w;
	if (!r->model)
		return STR_NONE;
	buf_init(&b, r->call->a, 16 * 1024);
	jw_init(&w, &b);
	jw_object(&w);
	jw_m_str(&w, "model", r->model->name);
	jw_key(&w, "considered");
	jw_array(&w);
	for (unsigned i = 0; i < r->model->ntargets; i++) {
		const struct model_target *t = &r->model->targets[i];
		jw_object(&w);
		jw_m_str(&w, "provider", t->provider->name);
		jw_m_str(&w, "model", t->model.n ? t->model : r->wire.model);
		jw_m_i64(&w, "priority", t->priority);
		jw_m_bool(&w, "eligible", t->provider->enabled);
		jw_m_c(&w, "reason", t == r->target ? "chosen: first enabled target" : t->provider->enabled ? "not needed" : "provider is disabled");
		jw_object_end(&w);
	}
	jw_array_end(&w);
	jw_object_end(&w);
	return b.overflow ? STR_NONE : buf_view(&b);
}

/* Told once a minute at most: which models have no price, and what to do. Every such row in the ledger is marked. */
static void warn_unpriced(const struct road *r)
{
	static _Atomic uint64_t last_us;
	uint64_t now = clock_now_us(), before = last_us;
	if ((before && now - before < 60000000) || !atomic_compare_exchange_strong(&last_us, &before, now))
		return;
	LOG(LOG_LEVEL_WARN, "call.unpriced", LF_STR("provider", r->target->provider->name), LF_STR("model", str_sub(r->upstream_model, 0, 256)),
	    LF_C("remedy", "headgatectl price add"));
}

static void price(struct road *r, struct ledger_entry *e, struct ledger_line lines[5])
{
	struct err err;
	e->cost_nusd = e->settled_by == LEDGER_NONE ? 0 : LEDGER_NO_PRICE;
	if (e->settled_by == LEDGER_NONE)
		return; /* nothing was used: that costs nothing, price or no price */
	if (r->priced != 1) {
		warn_unpriced(r);
		return;
	}
	if (ledger_cost(&r->price, &e->usage, lines, &e->nlines, &e->cost_nusd, &err) < 0) {
		LOG(LOG_LEVEL_ERROR, "call.unpriceable", LF_STR("model", r->upstream_model), LF_ERR(&err));
		e->nlines = 0;
		e->cost_nusd = LEDGER_NO_PRICE;
		return;
	}
	e->lines = lines;
	e->priced = true;
	e->price = r->price.id;
	e->price_version = r->price.version;
}

static void fill_attempt(struct road *r, const struct ledger_entry *e, const struct err *err)
{
	struct ledger_attempt *t = &r->attempt;
	const struct provider *p = r->target->provider;
	t->provider = p->id;
	t->provider_name = p->name;
	t->provider_key = p->key_id;
	t->model = r->upstream_model;
	t->usage = e->usage;
	t->cost_nusd = e->cost_nusd;
	t->settled_by = e->settled_by;
	t->error_code = err ? str_c(err_name(err)) : STR_NONE;
}

static void fill_entry(struct road *r, struct ledger_entry *e, const struct err *err)
{
	const struct call *c = r->call;
	*e = (struct ledger_entry){
		.id = c->id,
		.organization = c->caller->organization, .project = c->caller->project, .key = c->caller->key, .user = c->caller->user,
		.dialect = str_c(c->dialect->name), .endpoint = c->endpoint,
		.model_requested = r->wire.model, .model_served = r->answer.model,
		.stream = r->wire.stream,
		.status = err ? err_status(err) : 200,
		.error_code = err ? str_c(err_name(err)) : STR_NONE,
		.client_request_id = c->client_request_id, .end_user = r->wire.end_user, .remote_addr = c->remote_addr, .user_agent = c->user_agent,
		.received_us = c->received_us, .duration_us = (int64_t)(clock_now_us() - c->begun_us), .first_token_us = r->first_token_us,
		.read_us = c->read_us, .auth_us = c->auth_us, .decode_us = r->decode_us, .route_us = r->route_us,
		.upstream_us = r->attempted ? r->attempt.duration_us : -1, .settle_us = -1,
		.counted_deltas = -1, .estimated_input = -1, .estimated_output = -1,
		.admitted = r->admitted,
	};
	if (r->model)
		e->model_matched = r->model->name;
	if (r->target) {
		e->provider_name = r->target->provider->name;
		e->provider = r->target->provider->id;
	}
}

static void keep_counts(const struct road *r, struct ledger_entry *e)
{
	if (e->settled_by != LEDGER_COUNTED && e->settled_by != LEDGER_ESTIMATED)
		return;
	e->estimated_input = r->wire.input_estimate;
	e->counted_deltas = r->wire.stream ? r->stream.deltas : -1;
	e->estimated_output = r->wire.stream ? r->stream.answer.output_estimate : r->answer.output_estimate;
}

int settle_register(struct road *r, struct err *err)
{
	struct ledger_entry e;
	fill_entry(r, &e, NULL);
	fill_attempt(r, &e, NULL);
	e.estimated_input = r->wire.input_estimate;
	e.attempts = &r->attempt;
	e.nattempts = 1;
	return ledger_flight_begin(r->call->room->ledger, &e, r->priced == 1 ? &r->price : NULL, &r->flight, err);
}

void settle(struct road *r, const struct err *err)
{
	struct call *c = r->call;
	struct ledger_entry e;
	struct ledger_line lines[5];
	KP("call.before_settle");
	fill_entry(r, &e, err);
	e.route_json = route_json(r);
	e.flight = r->flight;
	e.settled_by = judge(r, &e.usage);
	keep_counts(r, &e);
	price(r, &e, lines);
	if (r->attempted) {
		fill_attempt(r, &e, err);
		e.attempts = &r->attempt;
		e.nattempts = 1;
	}
	ledger_submit(c->room->ledger, &e, &r->ticket);
	KP("call.after_settle");
	r->settled = true;
	c->out.status = e.status;
	c->out.input_tokens = e.usage.input;
	c->out.cached_tokens = e.usage.cached;
	c->out.output_tokens = e.usage.output;
	c->out.reasoning_tokens = e.usage.reasoning;
	c->out.cost_nusd = e.cost_nusd;
	c->out.decode_us = r->decode_us;
	c->out.route_us = r->route_us;
	c->out.upstream_us = e.upstream_us;
	c->out.first_token_us = e.first_token_us;
	c->out.settled_by = settled_names[e.settled_by];
}

void settle_wait(struct road *r)
{
	struct call *c = r->call;
	struct err err;
	uint64_t at = clock_now_us();
	if (ledger_wait(c->room->ledger, r->ticket, (unsigned)c->limits->ledger_wait_ms, &err) < 0)
		c->out.degraded = true;
	r->settle_us = (int64_t)(clock_now_us() - at);
	c->out.settle_us = r->settle_us;
	c->sink->timing(c->sink->u, "settle", (uint64_t)r->settle_us);
}
