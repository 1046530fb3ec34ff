/* SPDX-License-Identifier: Apache-2.0
 * The model endpoints: a call is filled from the request, sent down the road, and its answer goes to the exchange.
 */
#include "config.h"
#include "api/room.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "call/call.h"
#include "config/config.h"
#include "dialect/dialect.h"

enum { USER_AGENT_BYTES = 256 };

static int gone(void *u, struct err *err)
{
	struct api_req *q = u;
	return front_peer_check(q->x, err);
}

static void header(void *u, const char *name, struct str value)
{
	struct api_req *q = u;
	front_set(q->x, name, value);
}

static void timing(void *u, const char *stage, uint64_t us)
{
	struct api_req *q = u;
	if (!front_began(q->x))
		front_timing(q->x, stage, us);
}

static int whole(void *u, int status, struct str content_type, struct str body, struct err *err)
{
	struct api_req *q = u;
	if (q->call->out.degraded)
		front_set(q->x, "x-headgate-degraded", STR("ledger"));
	front_status(q->x, status);
	return front_send(q->x, content_type, body, err);
}

static int stream_begin(void *u, struct err *err)
{
	struct api_req *q = u;
	front_status(q->x, 200);
	return front_stream_begin(q->x, STR("text/event-stream; charset=utf-8"), err);
}

static int stream_piece(void *u, struct str bytes, struct err *err)
{
	struct api_req *q = u;
	return front_stream_write(q->x, bytes, err);
}

static int stream_comment(void *u, struct err *err)
{
	struct api_req *q = u;
	return front_stream_comment(q->x, err);
}

static struct call_limits limits_of(const struct config *c)
{
	return (struct call_limits){
		.first_byte_ms = c->upstream_first_byte_ms, .idle_ms = c->upstream_idle_ms, .total_ms = c->upstream_total_ms,
		.body_bytes = c->upstream_body_bytes, .event_bytes = c->upstream_event_bytes,
		.stream_commit_ms = c->stream_commit_ms, .stream_comment_ms = c->stream_comment_ms, .ledger_wait_ms = c->ledger_wait_ms,
	};
}

static int deadline(const struct api_req *q, uint64_t *deadline_r, struct err *err)
{
	struct str text = front_header(q->req, STR("x-request-timeout-ms"));
	uint64_t ms;
	*deadline_r = 0;
	if (!text.n)
		return 0;
	if (!str_u64(text, &ms) || ms == 0 || ms > 86400000)
		return err_set_param(err, ERR_INVALID, "x-request-timeout-ms", "x-request-timeout-ms must be a number of milliseconds from 1 to 86400000");
	*deadline_r = q->req->begun_us + ms * 1000;
	return 0;
}

static int run(struct api_req *q, const struct dialect *dialect, struct err *err)
{
	const struct api_parts *p = api_parts(q->api);
	struct call_room *room = ARENA_NEW(q->a, struct call_room);
	struct call_limits *limits = ARENA_NEW(q->a, struct call_limits);
	struct call_sink *sink = ARENA_NEW(q->a, struct call_sink);
	struct call *c = ARENA_NEW(q->a, struct call);
	*room = (struct call_room){ p->catalog, p->ledger, p->mc };
	*limits = limits_of(q->config);
	*sink = (struct call_sink){ q, front_peer_fd(q->x), gone, header, timing, whole, stream_begin, stream_piece, stream_comment };
	*c = (struct call){
		.room = room, .limits = limits, .dialect = dialect, .caller = &q->caller, .sink = sink, .a = q->a,
		.id = q->req->uuid, .endpoint = str_c(q->route->path), .body = q->req->body,
		.client_request_id = q->client_request_id, .remote_addr = q->remote_addr,
		.user_agent = str_sub(front_header(q->req, STR("user-agent")), 0, USER_AGENT_BYTES),
		.traceparent = str_c(q->trace.parent), .tracestate = q->trace.state,
		.received_us = q->req->wall_us, .begun_us = q->req->begun_us,
		.read_us = (int64_t)(q->req->read_us - q->req->begun_us), .auth_us = q->auth_us,
	};
	q->call = c;
	if (api_check_body(q, err) < 0 || deadline(q, &c->deadline_us, err) < 0)
		return call_turn_away(c, err);
	return call_run(c, err);
}

int chat_completions(struct api_req *q, struct err *err)
{
	return run(q, dialect_openai_chat(), err);
}

int completions(struct api_req *q, struct err *err)
{
	return run(q, dialect_openai_completions(), err);
}

int embeddings(struct api_req *q, struct err *err)
{
	return run(q, dialect_openai_embeddings(), err);
}
