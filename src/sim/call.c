/* SPDX-License-Identifier: Apache-2.0
 * One call: which endpoint, which behaviour, which bytes when. Everything lives in the call's arena.
 *
 *	call_begin -> DELAY (latency) -> LAST (one body: when it is sent, log and end)
 *	                              -> STREAM (events at their pace) -> LAST | STALL (nothing more, ever)
 *	           -> STALL (silent=1)
 */
#include "config.h"
#include "sim/reply.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/json.h"

static const int64_t models_created = 1767225600; /* 2026-01-01 */

static uint64_t now_us(const struct sim_conn *c)
{
	return c->server->now_us;
}

/* ---- errors ---- */

static void error_body(struct sim_call *call, int status, struct str message, const char *param, const char *type, const char *code)
{
	call->status = status;
	call->content_type = "application/json";
	call->input_tokens = call->output_tokens = 0;
	buf_clear(&call->body);
	sim_error_write(&call->body, message, type, param, code);
}

static void error_answer(struct sim_call *call, const struct err *err)
{
	const struct err_info *info = err_info(err->code);
	error_body(call, err_status(err), str_c(err->msg), err->param[0] ? err->param : NULL, info->type, info->name);
	call->ending = ENDING_WHOLE;
}

struct fault {
	int status;
	const char *type, *code;
};

/* What OpenAI says with a status; ours for the rest. */
static struct fault fault_of(int status)
{
	static const struct fault faults[] = {
		{ 400, "invalid_request_error", "invalid_value" },   { 401, "invalid_request_error", "invalid_api_key" },
		{ 403, "invalid_request_error", "unsupported_country_region_territory" },
		{ 404, "invalid_request_error", "model_not_found" }, { 429, "rate_limit_error", "rate_limit_exceeded" },
		{ 500, "server_error", "internal_error" },	      { 503, "server_error", "service_unavailable" },
	};
	for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
		if (faults[i].status == status)
			return faults[i];
	return (struct fault){ status, status >= 500 ? "server_error" : "invalid_request_error", "simulated_error" };
}

static void retry_after_header(struct sim_call *call)
{
	int64_t ms = behaviour(call)->retry_after_ms;
	if (ms < 0)
		return;
	if (ms % 1000)
		call->extra = arena_printf(call->a, "retry-after: %lld.%03lld\r\n", (long long)(ms / 1000), (long long)(ms % 1000));
	else
		call->extra = arena_printf(call->a, "retry-after: %lld\r\n", (long long)(ms / 1000));
}

static void status_answer(struct sim_call *call, int status)
{
	struct fault fault = fault_of(status);
	struct str code = behaviour(call)->code, message = arena_printf(call->a, "simulated status %d", status);
	if (behaviour(call)->body_bytes > (int64_t)message.n) {
		size_t n = (size_t)behaviour(call)->body_bytes;
		char *p = arena_alloc(call->a, n);
		memset(p, '.', n);
		memcpy(p, message.p, message.n);
		message = str_pn(p, n);
	}
	error_body(call, status, message, NULL, fault.type, code.p ? arena_cstr(call->a, code) : fault.code);
	retry_after_header(call);
	call->ending = ENDING_WHOLE;
}

static void redirect_answer(struct sim_call *call)
{
	error_body(call, 302, STR("simulated redirect"), NULL, "server_error", "redirect");
	call->extra = STR("location: /redirected\r\n");
	call->ending = ENDING_WHOLE;
}

/* ---- deciding ---- */

static uint64_t delay_us(const struct sim_call *call)
{
	const struct sim_behaviour *b = behaviour(call);
	int64_t first = call->streaming ? b->first_token_ms : b->latency_ms, other = call->streaming ? b->latency_ms : b->first_token_ms;
	uint64_t us = (uint64_t)(first >= 0 ? first : other >= 0 ? other : 0) * 1000;
	if (!call->streaming && b->latency_ms < 0 && call->answer.output_tokens > 1)
		us += (uint64_t)(call->answer.output_tokens - 1) * call->token_us;
	return us;
}

static struct str answer_id(struct sim_conn *c, struct sim_call *call)
{
	struct buf id;
	buf_init(&id, call->a, 64);
	buf_c(&id, call->ask.endpoint == SIM_CHAT ? "chatcmpl-" : "cmpl-");
	reply_hex(&id, server_id(c->server));
	return buf_view(&id);
}

/* Count the calls of a model with fail_times, and let it be well again when they are used up. */
static int fail_times_apply(struct sim_conn *c, struct sim_call *call, struct err *err)
{
	struct sim_behaviour *b = &call->ask.behaviour;
	int64_t before;
	if (b->fail_times < 0)
		return 0;
	if (!sim_behaviour_has_fault(b))
		b->status = 500;
	if (fails_count(&c->server->fails, call->ask.model, &before, err))
		return -1;
	if (before >= b->fail_times)
		sim_behaviour_heal(b);
	return 0;
}

/* An answer will be made: prepare it, so that its length can decide when it is due. */
static void answer_prepare(struct sim_conn *c, struct sim_call *call)
{
	const struct sim_behaviour *b = behaviour(call);
	call->input_tokens = call->ask.input_tokens;
	if (b->tokens_per_ks > 0)
		call->token_us = 1000000000u / (uint64_t)b->tokens_per_ks;
	if (call->ask.endpoint == SIM_EMBEDDING)
		return;
	sim_answer_make(&call->answer, &call->ask, call->a, answer_id(c, call), clock_wall_us() / 1000000);
	call->streaming = call->ask.stream && b->content_type != SIM_TYPE_HTML;
}

/* A body that needs no answer of a model: an error asked for, or a redirect. Returns whether there is one. */
static bool plain_prepare(struct sim_call *call)
{
	const struct sim_behaviour *b = behaviour(call);
	if (b->status >= 0)
		status_answer(call, (int)b->status);
	else if (b->redirect)
		redirect_answer(call);
	else if (b->error_after >= 0 && !call->ask.stream)
		status_answer(call, 500);
	return call->body.n > 0;
}

static void model_call(struct sim_conn *c, struct sim_call *call, enum sim_endpoint endpoint, struct str body)
{
	struct err err = { .code = ERR_NONE };
	call->is_model_call = true;
	if (sim_ask_parse(endpoint, body, call->a, &call->ask, &err) || fail_times_apply(c, call, &err)) {
		error_answer(call, &err);
		return;
	}
	if (!plain_prepare(call))
		answer_prepare(c, call);
	if (behaviour(call)->silent)
		call->stage = STAGE_STALL;
	call->due_us = call->begun_us + delay_us(call);
}

/* ---- what is not a model call ---- */

static void model_write(struct json_w *w, struct str id)
{
	jw_object(w);
	jw_m_str(w, "id", id);
	jw_m_c(w, "object", "model");
	jw_m_i64(w, "created", models_created);
	jw_m_c(w, "owned_by", "headgate");
	jw_object_end(w);
}

static void json_answer(struct sim_call *call)
{
	call->status = 200;
	call->content_type = "application/json";
	call->ending = ENDING_WHOLE;
}

static void models_list(struct sim_call *call)
{
	struct json_w w;
	jw_init(&w, &call->body);
	jw_object(&w);
	jw_m_c(&w, "object", "list");
	jw_key(&w, "data");
	jw_array(&w);
	model_write(&w, STR("sim-chat"));
	model_write(&w, STR("sim-embed"));
	jw_array_end(&w);
	jw_object_end(&w);
	json_answer(call);
}

static void model_show(struct sim_call *call, struct str id)
{
	struct err err = { .code = ERR_NONE };
	struct json_w w;
	id = sim_unescape(id, call->a);
	if (sim_behaviour_parse(id, call->a, &call->ask.behaviour, &err)) {
		error_answer(call, &err);
		return;
	}
	jw_init(&w, &call->body);
	model_write(&w, id);
	json_answer(call);
}

static void health(struct sim_call *call)
{
	buf_c(&call->body, "{\"status\":\"ok\"}");
	json_answer(call);
}

/* ---- routes ---- */

static void refuse(struct sim_call *call, enum err_code code, const char *what, struct str path)
{
	struct err err = { .code = ERR_NONE };
	err_set(&err, code, "%s (" STR_FMT ")", what, (int)(path.n < 100 ? path.n : 100), path.p);
	error_answer(call, &err);
}

static bool is_authorized(const struct sim_conn *c, struct str authorization)
{
	const char *key = c->server->options->api_key;
	struct str scheme = STR("bearer ");
	if (!key)
		return true;
	return str_istarts(authorization, scheme) && str_eq_c(str_sub(authorization, scheme.n, authorization.n), key);
}

static bool allowed(struct sim_call *call, const struct http_head *head, const char *method)
{
	if (str_eq_c(head->method, method))
		return true;
	refuse(call, ERR_METHOD, "the method is not allowed here", head->path);
	call->extra = arena_printf(call->a, "allow: %s\r\n", method);
	return false;
}

static void route(struct sim_conn *c, struct sim_call *call, const struct http_head *head, struct str body)
{
	static const struct {
		const char *path;
		enum sim_endpoint endpoint;
	} posts[] = { { "/v1/chat/completions", SIM_CHAT }, { "/v1/completions", SIM_COMPLETION }, { "/v1/embeddings", SIM_EMBEDDING } };
	struct str models = STR("/v1/models/");
	if (str_eq_c(head->path, "/health")) {
		if (allowed(call, head, "GET"))
			health(call);
		return;
	}
	if (!is_authorized(c, head->authorization)) {
		error_body(call, 401, STR("incorrect API key provided"), NULL, "invalid_request_error", "invalid_api_key");
		call->ending = ENDING_WHOLE;
		return;
	}
	for (size_t i = 0; i < sizeof posts / sizeof posts[0]; i++) {
		if (!str_eq_c(head->path, posts[i].path))
			continue;
		if (allowed(call, head, "POST"))
			model_call(c, call, posts[i].endpoint, body);
		return;
	}
	if (str_eq_c(head->path, "/v1/models")) {
		if (allowed(call, head, "GET"))
			models_list(call);
	} else if (str_starts(head->path, models) && head->path.n > models.n) {
		if (allowed(call, head, "GET"))
			model_show(call, str_sub(head->path, models.n, head->path.n));
	} else {
		refuse(call, ERR_NOT_FOUND, "there is nothing here", head->path);
	}
}

/* ---- life ---- */

static struct sim_call *call_new(struct sim_conn *c)
{
	struct arena *a = server_arena_take(c->server);
	struct sim_call *call = ARENA_NEW(a, struct sim_call);
	call->a = a;
	call->begun_us = call->due_us = now_us(c);
	call->status = 200;
	buf_init(&call->body, a, SIZE_MAX);
	buf_init(&call->event, a, SIZE_MAX);
	c->call = call;
	return call;
}

void call_begin(struct sim_conn *c, const struct http_head *head, struct str body)
{
	struct sim_call *call = call_new(c);
	call->keep_alive = head->keep_alive;
	call->http10 = head->http10;
	call->attempt_id = head->attempt_id;
	route(c, call, head, body);
}

void call_refuse(struct sim_conn *c, const struct err *err)
{
	struct sim_call *call = call_new(c);
	error_answer(call, err);
	c->closing = CONN_LINGER;
}

static void log_call(struct sim_conn *c, const struct sim_call *call, bool complete, bool answered)
{
	struct calllog_entry entry = {
		.attempt_id = call->attempt_id,
		.model = call->ask.model,
		.input_tokens = call->input_tokens,
		.output_tokens = call->output_tokens,
		.complete = complete,
		.status = answered ? call->status : 0,
	};
	if (call->is_model_call)
		calllog_add(&c->server->log, &entry);
}

static void call_free(struct sim_conn *c)
{
	struct arena *a = c->call->a;
	c->call = NULL;
	server_arena_give(c->server, a);
}

void call_abandon(struct sim_conn *c)
{
	log_call(c, c->call, false, c->call->stage != STAGE_DELAY && !behaviour(c->call)->silent);
	call_free(c);
}

static enum call_state call_end(struct sim_conn *c, struct sim_call *call)
{
	bool dropped = behaviour(call)->drop && call->is_model_call && call->ending == ENDING_CLOSE && !call->output_tokens;
	log_call(c, call, call->ending == ENDING_WHOLE, !dropped);
	if (call->ending == ENDING_RESET)
		c->closing = CONN_RESET;
	else if (c->closing == CONN_KEEP && (call->ending != ENDING_WHOLE || !call->keep_alive))
		c->closing = CONN_CLOSE;
	call_free(c);
	return CALL_ENDED;
}

static enum call_state first_bytes(struct sim_conn *c, struct sim_call *call)
{
	if (call->due_us > now_us(c) && !(call->streaming && behaviour(call)->early_head)) {
		timer_set(&c->server->timers, &c->timer, call->due_us);
		return CALL_WAIT;
	}
	call->stage = STAGE_LAST;
	if (behaviour(call)->drop) {
		call->ending = ENDING_CLOSE;
	} else if (call->body.n) {
		reply_body(c, call);
	} else if (call->streaming) {
		reply_stream_begin(c, call);
	} else {
		reply_whole(c, call);
		if (call->ending == ENDING_STALL)
			call->stage = STAGE_STALL;
	}
	return CALL_MORE;
}

enum call_state call_step(struct sim_conn *c)
{
	struct sim_call *call = c->call;
	switch (call->stage) {
	case STAGE_DELAY:
		return first_bytes(c, call);
	case STAGE_STREAM:
		return reply_stream_step(c, call);
	case STAGE_LAST:
		return call_end(c, call);
	case STAGE_STALL:
		break;
	}
	return CALL_WAIT;
}
