/* SPDX-License-Identifier: Apache-2.0
 * One call: which endpoint, which behaviour, which bytes when. Everything lives in the call's arena.
 *
 *	call_begin -> DELAY (latency) -> SEND (one body) ----------------------> LAST (all is sent: log, end)
 *	                              -> STREAM (events at their pace) -> ending -> LAST | STALL (nothing more, ever)
 *	           -> STALL (silent=1)
 */
#include "config.h"
#include "sim/server.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/json.h"
#include "sim/answer.h"

enum { BURST_BYTES = 32 * 1024 };
static const int64_t models_created = 1767225600; /* 2026-01-01 */

enum stage { STAGE_DELAY = 0, STAGE_STREAM, STAGE_LAST, STAGE_STALL };
/* How the answer ends: whole, or as the model name asked. */
enum ending { ENDING_NONE = 0, ENDING_WHOLE, ENDING_CUT, ENDING_CLOSE, ENDING_RESET, ENDING_STALL };

struct sim_call {
	struct arena *a;
	struct str attempt_id;
	bool is_model_call, keep_alive, http10;
	uint64_t begun_us, due_us; /* due: of the answer's first byte */
	struct sim_ask ask;
	struct sim_answer answer;
	enum stage stage;
	enum ending ending;
	int status;
	int64_t input_tokens, output_tokens; /* for the log */
	/* one body */
	const char *content_type;
	struct buf body;
	struct str extra; /* further header lines */
	/* a stream */
	bool streaming;
	struct sim_stream stream;
	struct buf event;   /* rendered, not yet framed */
	uint64_t token_us;  /* between two tokens; 0: no pace */
	int64_t tokens_timed;
};

static const struct sim_behaviour *behaviour(const struct sim_call *call)
{
	return &call->ask.behaviour;
}

static uint64_t now_us(const struct sim_conn *c)
{
	return c->server->now_us;
}

/* ---- heads ---- */

static void hex(struct buf *out, uint64_t v)
{
	char digits[16];
	for (size_t i = 0; i < sizeof digits; i++, v <<= 4)
		digits[i] = "0123456789abcdef"[v >> 60];
	buf_add(out, digits, sizeof digits);
}

/* IMF-fixdate (RFC 9110 section 5.6.7), made anew once a second. */
static const char *date_text(struct sim_server *s)
{
	static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	int64_t wall_us = clock_wall_us(), secs = wall_us / 1000000;
	char iso[32]; /* 2026-11-21T05:30:01.123Z */
	if (secs == s->date_secs && s->date[0])
		return s->date;
	s->date_secs = secs;
	clock_rfc3339(wall_us, iso);
	int weekday = (int)((secs / 86400 + 4) % 7), month = (iso[5] - '0') * 10 + iso[6] - '0';
	snprintf(s->date, sizeof s->date, "%.3s, %.2s %.3s %.4s %.8s GMT", days + weekday * 3, iso + 8, months + (month - 1) * 3, iso, iso + 11);
	return s->date;
}

static void status_line(struct sim_conn *c, int status)
{
	buf_c(&c->out, "HTTP/1.1 ");
	buf_u64(&c->out, (uint64_t)status);
	buf_char(&c->out, ' ');
	buf_c(&c->out, http_reason(status));
	buf_c(&c->out, "\r\nserver: headgate-sim\r\ndate: ");
	buf_c(&c->out, date_text(c->server));
}

static void extra_headers(struct sim_conn *c, const struct sim_call *call)
{
	for (int64_t i = 0; i < behaviour(call)->headers; i++)
		buf_printf(&c->out, "x-sim-%lld: a header the model name asked for\r\n", (long long)i + 1);
	buf_str(&c->out, call->extra);
}

/* All lines but those that frame the body. */
static void head_begin(struct sim_conn *c, const struct sim_call *call)
{
	status_line(c, call->status);
	buf_c(&c->out, "\r\nx-request-id: req_");
	hex(&c->out, server_id(c->server));
	hex(&c->out, server_id(c->server));
	buf_c(&c->out, "\r\nopenai-processing-ms: ");
	buf_u64(&c->out, (now_us(c) - call->begun_us) / 1000);
	buf_c(&c->out, "\r\nopenai-version: 2020-10-01\r\n");
	if (call->content_type) {
		buf_c(&c->out, "content-type: ");
		buf_c(&c->out, call->content_type);
		buf_c(&c->out, "\r\n");
	}
	extra_headers(c, call);
	if (!call->keep_alive)
		buf_c(&c->out, "connection: close\r\n");
	else if (call->http10)
		buf_c(&c->out, "connection: keep-alive\r\n");
}

static void body_send(struct sim_conn *c, struct sim_call *call, size_t announced, size_t sent)
{
	head_begin(c, call);
	buf_c(&c->out, "content-length: ");
	buf_u64(&c->out, announced);
	buf_c(&c->out, "\r\n\r\n");
	buf_add(&c->out, call->body.p, sent);
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

/* ---- answers in one body ---- */

/* Put into a body the faults that concern bodies, and say how it ends and where. Returns the bytes to send. */
static size_t body_faults(struct sim_call *call)
{
	const struct sim_behaviour *b = behaviour(call);
	static const struct {
		size_t offset;
		enum ending ending;
	} cuts[] = {
		{ offsetof(struct sim_behaviour, reset_after), ENDING_RESET },
		{ offsetof(struct sim_behaviour, close_after), ENDING_CLOSE },
		{ offsetof(struct sim_behaviour, stall_after), ENDING_STALL },
		{ offsetof(struct sim_behaviour, cut_after), ENDING_CUT },
	};
	for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
		int64_t after = *(const int64_t *)((const char *)b + cuts[i].offset);
		if (after < 0)
			continue;
		call->ending = cuts[i].ending;
		return (size_t)after < call->body.n ? (size_t)after : call->body.n;
	}
	call->ending = ENDING_WHOLE;
	return call->body.n;
}

static void body_disguise(struct sim_call *call)
{
	const struct sim_behaviour *b = behaviour(call);
	call->content_type = "application/json";
	if (b->garbage) {
		buf_clear(&call->body);
		buf_c(&call->body, "<<< these bytes are not JSON {\"id\": >>>");
	}
	if (b->content_type == SIM_TYPE_HTML) {
		buf_clear(&call->body);
		buf_c(&call->body, "<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body><h1>Something in between answered</h1></body></html>\n");
	}
}

static const char *content_type_of(const struct sim_call *call, const char *right)
{
	switch (behaviour(call)->content_type) {
	case SIM_TYPE_HTML:
		return "text/html; charset=utf-8";
	case SIM_TYPE_TEXT:
		return "text/plain; charset=utf-8";
	case SIM_TYPE_NONE:
		return NULL;
	case SIM_TYPE_RIGHT:
		break;
	}
	return right;
}

static void whole_answer(struct sim_conn *c, struct sim_call *call)
{
	if (call->ask.endpoint == SIM_EMBEDDING)
		sim_embeddings_write(&call->ask, call->a, &call->body);
	else
		sim_answer_write(&call->answer, &call->body);
	body_disguise(call);
	call->content_type = content_type_of(call, "application/json");
	size_t sent = body_faults(call);
	if (call->ending == ENDING_CLOSE)
		call->keep_alive = true; /* the caller must not know beforehand */
	body_send(c, call, call->ending == ENDING_CUT ? sent : call->body.n, sent);
	if (call->ask.endpoint != SIM_EMBEDDING)
		call->output_tokens = call->answer.output_tokens;
}

static void redirect_answer(struct sim_call *call)
{
	error_body(call, 302, STR("simulated redirect"), NULL, "server_error", "redirect");
	call->extra = STR("location: /redirected\r\n");
	call->ending = ENDING_WHOLE;
}

/* ---- streams ---- */

static void stream_begin(struct sim_conn *c, struct sim_call *call)
{
	call->content_type = content_type_of(call, "text/event-stream; charset=utf-8");
	call->keep_alive = call->keep_alive && !call->http10;
	head_begin(c, call);
	buf_c(&c->out, "cache-control: no-cache\r\n");
	buf_c(&c->out, call->http10 ? "\r\n" : "transfer-encoding: chunked\r\n\r\n");
	sim_stream_init(&call->stream, &call->answer, call->a);
	call->stage = STAGE_STREAM;
}

static void chunk_add(struct sim_conn *c, const struct sim_call *call, struct str data)
{
	char size[24];
	if (!data.n)
		return;
	if (call->http10) {
		buf_str(&c->out, data);
		return;
	}
	buf_add(&c->out, size, (size_t)snprintf(size, sizeof size, "%zx\r\n", data.n));
	buf_str(&c->out, data);
	buf_c(&c->out, "\r\n");
}

static enum ending ending_due(const struct sim_call *call)
{
	const struct sim_behaviour *b = behaviour(call);
	int64_t n = call->stream.events;
	if (b->reset_after >= 0 && n >= b->reset_after)
		return ENDING_RESET;
	if (b->close_after >= 0 && n >= b->close_after)
		return ENDING_CLOSE;
	if (b->cut_after >= 0 && n >= b->cut_after)
		return ENDING_CUT;
	if (b->stall_after >= 0 && n >= b->stall_after)
		return ENDING_STALL;
	return ENDING_NONE;
}

/* Render the next event into call->event. Returns false when it must wait for its time. */
static bool event_make(struct sim_conn *c, struct sim_call *call)
{
	struct sim_stream *st = &call->stream;
	call->ending = ending_due(call);
	if (call->ending != ENDING_NONE)
		return true;
	if (behaviour(call)->error_after >= 0 && st->events >= behaviour(call)->error_after) {
		sim_stream_error(st, &call->event);
		call->ending = ENDING_CUT;
		return true;
	}
	if (sim_stream_is_token(st) && call->token_us) {
		uint64_t at = call->due_us + (uint64_t)call->tokens_timed * call->token_us;
		if (at > now_us(c)) {
			timer_set(&c->server->timers, &c->timer, at);
			return false;
		}
		call->tokens_timed++;
	}
	if (!sim_stream_next(st, &call->event))
		call->ending = ENDING_WHOLE;
	return true;
}

/* Move what is rendered into `out`, in slices of chunk_bytes when asked for. Returns true when a slice was cut. */
static bool event_send(struct sim_conn *c, struct sim_call *call)
{
	size_t slice = behaviour(call)->chunk_bytes > 0 ? (size_t)behaviour(call)->chunk_bytes : 0;
	if (!slice) {
		chunk_add(c, call, buf_view(&call->event));
		buf_clear(&call->event);
		return false;
	}
	if (call->event.n < slice && (call->ending == ENDING_NONE || !call->event.n))
		return false;
	chunk_add(c, call, str_sub(buf_view(&call->event), 0, slice));
	buf_consume(&call->event, slice < call->event.n ? slice : call->event.n);
	return true;
}

static void stream_end(struct sim_conn *c, struct sim_call *call)
{
	call->stage = call->ending == ENDING_STALL ? STAGE_STALL : STAGE_LAST;
	if ((call->ending == ENDING_WHOLE || call->ending == ENDING_CUT) && !call->http10)
		buf_c(&c->out, "0\r\n\r\n");
}

static enum call_state stream_step(struct sim_conn *c, struct sim_call *call)
{
	while (c->out.n < BURST_BYTES) {
		if (event_send(c, call))
			return CALL_MORE; /* each slice is sent by itself */
		if (call->ending != ENDING_NONE) {
			stream_end(c, call);
			break;
		}
		if (!event_make(c, call)) {
			call->output_tokens = call->stream.tokens_sent;
			return c->out.n ? CALL_MORE : CALL_WAIT;
		}
	}
	call->output_tokens = call->stream.tokens_sent;
	return CALL_MORE;
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
	hex(&id, server_id(c->server));
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
	if (call->due_us > now_us(c)) {
		timer_set(&c->server->timers, &c->timer, call->due_us);
		return CALL_WAIT;
	}
	call->stage = STAGE_LAST;
	if (behaviour(call)->drop) {
		call->ending = ENDING_CLOSE;
	} else if (call->body.n) {
		body_send(c, call, call->body.n, call->body.n);
	} else if (call->streaming) {
		stream_begin(c, call);
	} else {
		whole_answer(c, call);
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
		return stream_step(c, call);
	case STAGE_LAST:
		return call_end(c, call);
	case STAGE_STALL:
		break;
	}
	return CALL_WAIT;
}
