/* SPDX-License-Identifier: Apache-2.0
 * The way of a request through the room: find the route, know the caller, run the endpoint, tell what went wrong, write the
 * log line. Configuration is held by reference, so that a reload never changes a request under way.
 */
#include "config.h"
#include "api/room.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/kp.h"
#include "base/log.h"
#include "call/call.h"
#include "config/config.h"
#include "dialect/dialect.h"
#include "ledger/ledger.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct api_settings {
	atomic_uint refs;
	struct config *config;
};

struct api {
	struct api_parts parts;
	pthread_mutex_t lock; /* protects `settings`, the pointer; innermost */
	struct api_settings *settings;
	_Atomic(struct gate *) gate;
};

static struct api_settings *settings_new(struct config *config)
{
	struct api_settings *s = calloc(1, sizeof *s);
	BUG_ON(!s);
	s->refs = 1;
	s->config = config;
	return s;
}

static struct api_settings *settings_take(struct api *api)
{
	pthread_mutex_lock(&api->lock);
	struct api_settings *s = api->settings;
	atomic_fetch_add(&s->refs, 1);
	pthread_mutex_unlock(&api->lock);
	return s;
}

static void settings_give(void *p)
{
	struct api_settings *s = p;
	if (atomic_fetch_sub(&s->refs, 1) == 1) {
		config_free(&s->config);
		free(s);
	}
}

struct api *api_new(const struct api_parts *parts, struct config *config)
{
	struct api *api = calloc(1, sizeof *api);
	BUG_ON(!api);
	api->parts = *parts;
	pthread_mutex_init(&api->lock, NULL);
	api->settings = settings_new(config);
	return api;
}

void api_free(struct api **apip)
{
	struct api *api = *apip;
	if (!api)
		return;
	settings_give(api->settings);
	pthread_mutex_destroy(&api->lock);
	free(api);
	*apip = NULL;
}

void api_set_config(struct api *api, struct config *config)
{
	struct api_settings *fresh = settings_new(config);
	pthread_mutex_lock(&api->lock);
	struct api_settings *old = api->settings;
	api->settings = fresh;
	pthread_mutex_unlock(&api->lock);
	settings_give(old);
}

const struct api_parts *api_parts(const struct api *api)
{
	return &api->parts;
}

void api_set_gate(struct api *api, struct gate *gate)
{
	api->gate = gate;
}

const struct gate *api_gate(const struct api *api)
{
	return api->gate;
}

/* --- before the body ------------------------------------------------------------------------------------------------- */

static void admit(void *user, const struct front_request *head, struct front_admission *out_r)
{
	struct api *api = user;
	struct str tail;
	const struct route *route = route_find(head->method, head->path, &tail, NULL);
	struct api_settings *s = settings_take(api);
	out_r->body_max = (size_t)(route && route->class == ROUTE_MODEL ? s->config->front_model_body_bytes : s->config->front_body_bytes);
	settings_give(s);
	out_r->reserved = route && route->class >= ROUTE_RESERVED;
	out_r->body_refused = !route;
}

/* --- who calls ---------------------------------------------------------------------------------------------------------- */

/* Bearer or x-api-key; two that differ are refused, since one of them would be ignored. */
static int presented_key(const struct front_request *req, struct str *key_r, struct err *err)
{
	struct str bearer = front_header(req, STR("authorization")), plain = front_header(req, STR("x-api-key"));
	if (bearer.n && !str_istarts(bearer, STR("bearer ")))
		return err_set(err, ERR_UNAUTHENTICATED, "the Authorization header must be `Bearer`, a space, and an API key");
	bearer = bearer.n ? str_trim(str_sub(bearer, 7, bearer.n)) : bearer;
	if (bearer.n && plain.n && !str_eq(bearer, plain))
		return err_set(err, ERR_INVALID, "Authorization and x-api-key carry different keys: send one of them");
	*key_r = bearer.n ? bearer : plain;
	if (key_r->n)
		return 0;
	err_set(err, ERR_UNAUTHENTICATED, "no API key was sent: set the header `Authorization: Bearer` with your key, or x-api-key");
	return err_detail(err, "Authorization header not forwarded? Apache needs CGIPassAuth On (mod_proxy_fcgi) or FcgidPassHeader Authorization");
}

static const char *scope_name(unsigned scope)
{
	return scope == SCOPE_WRITE ? "write" : scope == SCOPE_ADMIN ? "admin" : "read";
}

static int authenticate(struct api_req *q, struct err *err)
{
	uint64_t at = clock_now_us();
	struct str key;
	int rc = presented_key(q->req, &key, err);
	if (rc == 0)
		rc = identity_authenticate(q->api->parts.identity, key, q->a, &q->caller, err);
	q->auth_us = (int64_t)(clock_now_us() - at);
	front_timing(q->x, "auth", (uint64_t)q->auth_us);
	if (rc < 0)
		return -1;
	q->authenticated = true;
	KP("api.after_auth");
	if ((q->caller.scopes & q->route->scope) == 0)
		return err_set(err, ERR_FORBIDDEN, "this key has not the scope `%s`, which %s %s needs", scope_name(q->route->scope), q->route->method,
			       q->route->path);
	return 0;
}

/* --- the endpoint ------------------------------------------------------------------------------------------------------- */

static int unknown_route(const struct front_request *req, const char *allow, struct err *err)
{
	if (*allow)
		return err_set(err, ERR_METHOD, STR_FMT " is not allowed for " STR_FMT ", try %s", STR_ARG(str_sub(req->method, 0, 16)),
			       STR_ARG(str_sub(req->path, 0, 120)), allow);
	return err_set(err, ERR_NOT_FOUND, "unknown request URL: " STR_FMT " " STR_FMT, STR_ARG(str_sub(req->method, 0, 16)),
		       STR_ARG(str_sub(req->path, 0, 120)));
}

static bool is_json_type(struct str type)
{
	size_t semicolon = str_find_char(type, ';', 0);
	type = str_trim(str_sub(type, 0, semicolon == SIZE_MAX ? type.n : semicolon));
	return str_ieq(type, STR("application/json")) || (str_istarts(type, STR("application/")) && str_ends(type, STR("+json")));
}

int api_check_body(const struct api_req *q, struct err *err)
{
	if (!q->route->body)
		return 0;
	if (q->req->body.n == 0)
		return err_set(err, ERR_JSON, "the request has no body, JSON is expected");
	if (!is_json_type(q->req->content_type))
		return err_set(err, ERR_MEDIA_TYPE, "content type `" STR_FMT "` is not supported, send `Content-Type: application/json`",
			       STR_ARG(str_sub(q->req->content_type, 0, 60)));
	return 0;
}

static int decode_tail(struct api_req *q, struct err *err)
{
	if (q->tail.n && !front_unescape(q->tail, q->a, &q->tail))
		return err_set(err, ERR_INVALID, "the path holds a malformed percent escape");
	return 0;
}

static bool needs_key(const struct api_req *q)
{
	if (q->route->class == ROUTE_SCRAPE && address_is_in(q->req, q->remote_addr, q->config->front_trusted_proxies, q->config->metrics_networks))
		return false;
	return q->route->scope != 0;
}

static int run(struct api_req *q, char allow[64], struct err *err)
{
	q->route = route_find(q->req->method, q->req->path, &q->tail, allow);
	if (!q->route)
		return unknown_route(q->req, allow, err);
	allow[0] = '\0';
	if (needs_key(q) && authenticate(q, err) < 0)
		return -1;
	if (decode_tail(q, err) < 0)
		return -1;
	/* a model call's body is checked where its refusal leaves a ledger row */
	if (q->route->class != ROUTE_MODEL && api_check_body(q, err) < 0)
		return -1;
	return q->route->endpoint(q, err);
}

/* A caller's own id is kept when it is short and harmless; it is never a key of anything. */
static struct str safe_client_id(struct str id)
{
	if (id.n == 0 || id.n > 64)
		return STR_NONE;
	for (size_t i = 0; i < id.n; i++)
		if (id.p[i] <= ' ' || id.p[i] > '~' || id.p[i] == '"' || id.p[i] == '\\')
			return STR_NONE;
	return id;
}

/* --- the log line --------------------------------------------------------------------------------------------------------- */

/* Probes ask every second and are told apart from calls by their level. */
static enum log_level log_level_of(const struct api_req *q, const struct err *err)
{
	if (err->code != ERR_NONE && err_info(err->code)->log)
		return LOG_LEVEL_WARN;
	return q->route && q->route->class >= ROUTE_RESERVED ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
}

/* The line's fields, gathered as the stages of the request left them. */
struct line {
	struct log_field f[40];
	size_t n;
};

static void put(struct line *l, struct log_field f)
{
	BUG_ON(l->n == sizeof l->f / sizeof l->f[0]);
	l->f[l->n++] = f;
}

static void put_call(struct line *l, const struct call_outcome *o, char cost[32])
{
	put(l, LF_STR("model", o->model));
	put(l, LF_STR("matched", o->matched));
	put(l, LF_STR("provider", o->provider));
	put(l, LF_BOOL("stream", o->stream));
	put(l, LF_INT("input_tokens", o->input_tokens));
	put(l, LF_INT("output_tokens", o->output_tokens));
	if (o->cost_nusd != LEDGER_NO_PRICE) {
		ledger_print_usd(o->cost_nusd, cost);
		put(l, LF_C("cost_usd", cost));
	}
	put(l, LF_C("settled_by", o->settled_by));
	put(l, LF_INT("decode_us", o->decode_us));
	put(l, LF_INT("route_us", o->route_us));
	put(l, LF_INT("upstream_us", o->upstream_us));
	put(l, LF_INT("settle_us", o->settle_us));
	put(l, LF_INT("first_token_us", o->first_token_us));
	if (o->degraded)
		put(l, LF_C("degraded", "ledger"));
}

static void put_error(struct line *l, const struct err *err)
{
	put(l, LF_C("error_code", err_name(err)));
	put(l, LF_C("error", err->msg));
	put(l, LF_C("detail", err->detail));
}

static void log_request(const struct api_req *q, const struct err *err)
{
	enum log_level level = log_level_of(q, err);
	bool failed = err->code != ERR_NONE;
	char organization[ID_TEXT] = "", user[ID_TEXT] = "", key[ID_TEXT] = "", cost[32];
	static const struct uuid nobody;
	struct line l = { .n = 0 };
	if (!log_on(level))
		return;
	if (q->authenticated) {
		id_text("org", q->caller.organization, organization);
		id_text("key", q->caller.key, key);
		if (memcmp(&q->caller.user, &nobody, sizeof nobody) != 0)
			id_text("user", q->caller.user, user);
	}
	put(&l, LF_C("request_id", q->req->id));
	put(&l, LF_STR("client_request_id", q->client_request_id));
	put(&l, LF_C("trace_id", q->trace.id));
	put(&l, LF_C("span_id", q->trace.span));
	put(&l, LF_STR("method", q->req->method));
	put(&l, LF_STR("path", q->req->path));
	put(&l, LF_C("endpoint", q->route ? q->route->path : ""));
	put(&l, LF_INT("status", failed ? err_status(err) : front_sent_status(q->x)));
	put(&l, LF_STR("remote_addr", q->remote_addr));
	put(&l, LF_C("organization", organization));
	put(&l, LF_C("user", user));
	put(&l, LF_C("key", key));
	if (q->call)
		put_call(&l, &q->call->out, cost);
	put(&l, LF_INT("bytes_in", q->req->body.n));
	put(&l, LF_INT("bytes_out", front_sent_bytes(q->x)));
	put(&l, LF_INT("duration_us", clock_now_us() - q->req->begun_us));
	put(&l, LF_INT("read_us", q->req->read_us - q->req->begun_us));
	put(&l, LF_INT("auth_us", q->auth_us));
	if (failed)
		put_error(&l, err);
	log_fields(level, "request", l.f, l.n);
}

/* --- what the gate calls ---------------------------------------------------------------------------------------------------- */

static struct api_req *begin(struct api *api, struct front_exchange *x)
{
	struct arena *a = front_arena(x);
	struct api_req *q = ARENA_NEW(a, struct api_req);
	struct api_settings *s = settings_take(api);
	arena_on_clear(a, settings_give, s);
	q->api = api;
	q->config = s->config;
	q->x = x;
	q->req = front_req(x);
	q->a = a;
	q->auth_us = -1;
	if (dialect_family_of_path(q->req->path) == FAMILY_ANTHROPIC)
		front_request_id_header(x, "request-id");
	q->remote_addr = address_of_caller(q->req, q->config->front_trusted_proxies);
	q->client_request_id = safe_client_id(front_header(q->req, STR("x-request-id")));
	trace_take(front_header(q->req, STR("traceparent")), front_header(q->req, STR("tracestate")), &q->trace);
	return q;
}

static void serve(void *user, struct front_exchange *x)
{
	struct api_req *q = begin(user, x);
	char allow[64] = "";
	struct err err;
	err_clear(&err);
	if (run(q, allow, &err) < 0)
		answer_error(x, &err, allow);
	else
		err_clear(&err);
	metrics_count(q, &err);
	log_request(q, &err);
}

static void refuse(void *user, struct front_exchange *x, const struct err *err)
{
	struct api_req *q = begin(user, x);
	answer_error(x, err, NULL);
	metrics_count(q, err);
	log_request(q, err);
}

void api_front(struct api *api, struct front_app *out_r)
{
	*out_r = (struct front_app){ .user = api, .admit = admit, .serve = serve, .refuse = refuse };
}
