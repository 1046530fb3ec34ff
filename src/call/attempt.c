/* SPDX-License-Identifier: Apache-2.0
 * One attempt: the provider is asked, and its answer relayed.
 *
 *   whole answer:  run -> whole_answer -> settle -> wait for the commit -> whole()
 *   stream:        on_head -> begin -> on_body -> relay_event ... -> terminal event held -> settle -> wait -> last piece
 *   error:         on_head (status >= 400) -> body collected -> dialect_upstream_error -> the caller's dialect
 *
 * A stream that has waited stream_commit_ms for the provider's head begins anyway, and is kept alive by comments; from then on
 * errors are in-band. A caller who left ends the exchange at once, and what came so far is accounted.
 */
#include "config.h"
#include "call/road.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/kp.h"

#include <stdio.h>
#include <string.h>

enum { ERROR_BODY_BYTES = 64 * 1024, CONTENT_TYPE_BYTES = 200, TICK_MS = 500 };

struct attempt {
	struct road *r;
	struct http_exchange x;
	struct buf body; /* of a whole answer, or of an error */
	struct sse *sse;
	struct buf ready; /* events of one piece, to go out in one write */
	struct buf held;  /* terminal event of the stream: goes out after the commit */
	int status, retry_after_ms;
	struct str content_type;
	uint64_t begun_us, said_us; /* monotonic: attempt began; the caller last got a byte */
};

static bool streaming(const struct attempt *t)
{
	return t->r->wire.stream && t->status >= 200 && t->status < 300;
}

static bool is_event_stream(struct str content_type)
{
	return str_istarts(content_type, STR("text/event-stream"));
}

static int begin_stream(struct attempt *t, struct err *err)
{
	struct call *c = t->r->call;
	if (c->out.began)
		return 0;
	t->said_us = clock_now_us();
	c->out.began = true;
	return c->sink->stream_begin(c->sink->u, err);
}

/* The length the provider tells spares the copies of growing. */
static void make_room(struct buf *body, const struct http_head *head)
{
	uint64_t bytes;
	for (unsigned i = 0; i < head->nfields; i++)
		if (str_eq_c(head->fields[i].name, "content-length") && str_u64(head->fields[i].value, &bytes) && bytes <= body->max)
			buf_reserve(body, (size_t)bytes);
}

static int on_head(void *u, const struct http_head *head, struct err *err)
{
	struct attempt *t = u;
	struct call *c = t->r->call;
	KP("call.first_byte");
	t->status = head->status;
	t->retry_after_ms = head->retry_after_ms;
	t->content_type = head->content_type;
	t->r->attempt.status = head->status;
	ledger_flight_answered(t->r->flight, head->status);
	t->r->refused = head->status >= 300; /* also a redirect: nothing was done that could be billed */
	if (head->status < 200 || (head->status >= 300 && head->status < 400))
		return err_set(err, ERR_UPSTREAM, "the provider answered with status %d, which is not followed", head->status);
	if (head->status < 300 && t->r->wire.stream && !is_event_stream(head->content_type))
		return err_set(err, ERR_UPSTREAM, "the provider answered a stream with content type `" STR_FMT "`", STR_ARG(str_sub(head->content_type, 0, 60)));
	buf_init(&t->body, c->a, head->status >= 400 ? ERROR_BODY_BYTES : (size_t)c->limits->body_bytes);
	make_room(&t->body, head);
	return 0;
}

static int say(struct attempt *t, struct str bytes, struct err *err)
{
	struct call *c = t->r->call;
	t->said_us = clock_now_us();
	return c->sink->stream_piece(c->sink->u, bytes, err);
}

static int relay_event(void *u, const struct sse_event *ev, struct err *err)
{
	struct attempt *t = u;
	struct road *r = t->r;
	enum dialect_fate fate = DIALECT_FORWARD;
	if (r->stream.terminal)
		return 0; /* nothing follows the end */
	int64_t before = r->stream.deltas;
	if (r->call->dialect->event(&r->stream, ev->type, ev->data, &fate, err) < 0)
		return -1;
	if (r->first_token_us < 0 && r->stream.deltas > before)
		r->first_token_us = (int64_t)(clock_now_us() - r->call->begun_us);
	if (fate == DIALECT_TERMINAL) {
		buf_str(&t->held, ev->raw);
		return 0;
	}
	if (fate == DIALECT_FORWARD)
		buf_str(&t->ready, ev->raw);
	return 0;
}

/* What the events of one piece left to be said, also when the last of them was an error. */
static int say_ready(struct attempt *t, struct err *err)
{
	if (!t->ready.n)
		return 0;
	int rc = begin_stream(t, err) < 0 ? -1 : say(t, buf_view(&t->ready), err);
	KP("call.mid_stream");
	buf_clear(&t->ready);
	return rc;
}

static int relay(struct attempt *t, struct str piece, struct err *err)
{
	struct err unsaid;
	int rc = sse_feed(t->sse, piece, relay_event, t, err);
	ledger_flight_progress(t->r->flight, t->r->stream.deltas, dialect_stream_counted(&t->r->stream)); /* before the caller has it */
	if (rc == 0)
		return say_ready(t, err);
	say_ready(t, &unsaid); /* the first error is the one to tell */
	return rc;
}

static int on_body(void *u, struct str piece, struct err *err)
{
	struct attempt *t = u;
	if (streaming(t))
		return relay(t, piece, err);
	if (t->status >= 400)
		piece = str_sub(piece, 0, ERROR_BODY_BYTES - t->body.n);
	buf_str(&t->body, piece);
	return t->body.overflow ? err_set(err, ERR_UPSTREAM, "the provider's answer is longer than %zu bytes", t->body.max) : 0;
}

/* The connection stands; the next thing is the request's first byte. */
static void on_ready(void *u)
{
	struct attempt *t = u;
	ledger_flight_sent(t->r->flight);
}

static int on_watch(void *u, struct err *err)
{
	struct attempt *t = u;
	const struct call_sink *s = t->r->call->sink;
	return s->gone(s->u, err);
}

/* Whatever the provider does: has the caller left, or is the process going to end without us? Then the call ends now, and is accounted for.
 * While a stream is silent: commit to 200 after a while, then comments, so that a caller who left is noticed where the web
 * server tells only on writes. */
static int on_tick(void *u, struct err *err)
{
	struct attempt *t = u;
	struct call *c = t->r->call;
	uint64_t now = clock_now_us();
	if (c->sink->gone(c->sink->u, err) < 0)
		return -1;
	if (!t->r->wire.stream || t->status >= 400 || (!c->out.began && now - t->begun_us < (uint64_t)c->limits->stream_commit_ms * 1000))
		return 0;
	bool fresh = !c->out.began;
	if (begin_stream(t, err) < 0)
		return -1;
	if (!fresh && now - t->said_us < (uint64_t)c->limits->stream_comment_ms * 1000)
		return 0;
	t->said_us = now;
	return c->sink->stream_comment(c->sink->u, err);
}

static unsigned pick_ms(int64_t own, int64_t general)
{
	return (unsigned)(own > 0 ? own : general);
}

/* Of a stream the first byte comes soon or never; of a whole answer it comes when the work is done, so that the total is its limit. */
static unsigned first_byte_ms(const struct road *r)
{
	const struct provider *p = r->target->provider;
	const struct call_limits *l = r->call->limits;
	return r->wire.stream ? pick_ms(p->first_byte_ms, l->first_byte_ms) : pick_ms(p->total_ms, l->total_ms);
}

/* The arena's memory serves other callers later: the key does not stay in it. */
static struct str bearer(struct arena *a, struct str secret)
{
	static const struct str scheme = { "Bearer ", 7 };
	size_t n = scheme.n + secret.n;
	char *text = arena_alloc(a, n);
	arena_wipe_on_clear(a, text, n);
	memcpy(text, scheme.p, scheme.n);
	memcpy(text + scheme.n, secret.p, secret.n);
	return str_pn(text, n);
}

static unsigned make_headers(struct attempt *t, struct http_field *f)
{
	struct road *r = t->r;
	struct call *c = r->call;
	const struct provider *p = r->target->provider;
	char att[ID_TEXT];
	unsigned n = 0;
	id_text("att", r->attempt.id, att);
	f[n++] = (struct http_field){ STR("Content-Type"), STR("application/json") };
	f[n++] = (struct http_field){ STR("Accept"), r->wire.stream ? STR("text/event-stream") : STR("application/json") };
	f[n++] = (struct http_field){ STR("x-client-request-id"), arena_str(c->a, str_c(att)) };
	if (p->key_secret.n)
		f[n++] = (struct http_field){ STR("Authorization"), bearer(c->a, p->key_secret) };
	if (c->traceparent.n)
		f[n++] = (struct http_field){ STR("traceparent"), c->traceparent };
	if (c->tracestate.n)
		f[n++] = (struct http_field){ STR("tracestate"), c->tracestate };
	return n;
}

static int prepare(struct attempt *t, struct http_field *fields, struct err *err)
{
	struct road *r = t->r;
	struct call *c = r->call;
	const struct provider *p = r->target->provider;
	const struct call_limits *l = c->limits;
	struct str body;
	if (c->dialect->encode(&r->wire, r->upstream_model, c->a, &body, err) < 0)
		return -1;
	if (arena_over(c->a))
		return err_set(err, ERR_TOO_LARGE, "the request needs more memory than front.request_memory allows");
	r->attempt.id = uuid_v7();
	t->x = (struct http_exchange){
		.pool = p->http, .method = "POST", .path = str_c(c->dialect->path), .body = body,
		.headers = fields, .nheaders = make_headers(t, fields),
		.first_byte_ms = first_byte_ms(r), .idle_ms = pick_ms(p->idle_ms, l->idle_ms),
		.total_ms = pick_ms(p->total_ms, l->total_ms), .deadline_us = c->deadline_us,
		.body_bytes_max = r->wire.stream ? SIZE_MAX : (size_t)l->body_bytes,
		.watch_fd = c->sink->watch_fd, .tick_ms = TICK_MS,
		.on_ready = on_ready, .on_head = on_head, .on_body = on_body, .on_watch = on_watch, .on_tick = on_tick, .u = t,
	};
	if (r->wire.stream) {
		t->sse = sse_new(c->a, (size_t)l->event_bytes);
		buf_init(&t->held, c->a, (size_t)l->event_bytes);
		buf_init(&t->ready, c->a, SIZE_MAX / 2); /* a piece and an event at most */
		dialect_stream_begin(&r->stream, &r->wire, c->a);
	}
	return 0;
}

static void record(struct attempt *t, bool whole)
{
	struct ledger_attempt *a = &t->r->attempt;
	const struct http_exchange *x = &t->x;
	t->r->sent = x->sent;
	a->duration_us = (int64_t)(clock_now_us() - t->begun_us);
	a->connect_us = x->connect_us ? (int64_t)(x->connect_us - t->begun_us) : -1;
	a->first_byte_us = x->head_us ? (int64_t)(x->head_us - t->begun_us) : -1;
	a->complete = whole && (!t->r->wire.stream || t->r->stream.terminal);
	t->r->call->sink->timing(t->r->call->sink->u, "upstream", (uint64_t)a->duration_us);
}

static void tell_route(struct road *r)
{
	const struct call_sink *s = r->call->sink;
	char ms[24];
	snprintf(ms, sizeof ms, "%lld", (long long)(r->attempt.duration_us / 1000));
	s->header(s->u, "openai-processing-ms", arena_str(r->call->a, str_c(ms)));
	s->header(s->u, "x-headgate-provider", r->target->provider->name);
	s->header(s->u, "x-headgate-model", r->model->name);
}

/* The provider's own words go into our head only when they fit there: no control characters, no 60 KB. */
static struct str content_type(const struct attempt *t)
{
	struct str s = t->content_type;
	bool fits = s.n && s.n <= CONTENT_TYPE_BYTES;
	for (size_t i = 0; fits && i < s.n; i++)
		fits = s.p[i] >= ' ' && s.p[i] <= '~';
	return fits ? s : STR("application/json");
}

static int whole_answer(struct attempt *t, struct err *err)
{
	struct road *r = t->r;
	struct call *c = r->call;
	struct str body = buf_view(&t->body);
	if (c->dialect->answer(&r->wire, c->a, body, &r->answer, err) < 0)
		return -1;
	tell_route(r);
	settle(r, NULL);
	settle_wait(r);
	KP("call.before_last_byte");
	return c->sink->whole(c->sink->u, 200, content_type(t), body, err);
}

/* The stream is over: with its terminal event it succeeded, without it it was cut, whatever the transport says (M7). */
static int end_stream(struct attempt *t, struct err *err)
{
	struct road *r = t->r;
	if (!r->stream.terminal)
		return err_set(err, ERR_UPSTREAM, "the provider's stream ended before it was complete");
	if (begin_stream(t, err) < 0)
		return -1;
	settle(r, NULL);
	settle_wait(r);
	KP("call.before_terminal_event");
	return say(t, buf_view(&t->held), err);
}

static int provider_refused(struct attempt *t, struct err *err)
{
	dialect_upstream_error(t->r->call->dialect, t->status, t->retry_after_ms, buf_view(&t->body), t->r->call->a, err);
	return -1;
}

static int finish(struct attempt *t, struct err *err)
{
	if (t->status >= 400)
		return provider_refused(t, err);
	return t->r->wire.stream ? end_stream(t, err) : whole_answer(t, err);
}

/* An address or a key that cannot be used is the operator's mistake, not the caller's 400. */
static int unusable_provider(struct err *err)
{
	const struct err why = *err;
	err_set(err, ERR_UPSTREAM_UNAVAILABLE, "the provider cannot be used as it is configured");
	return err_detail(err, "%s", why.msg);
}

int attempt_run(struct road *r, struct err *err)
{
	struct attempt *t = ARENA_NEW(r->call->a, struct attempt);
	struct http_field fields[8];
	t->r = r;
	t->retry_after_ms = -1;
	if (prepare(t, fields, err) < 0)
		return -1;
	r->attempt.started_us = clock_wall_us();
	if (settle_register(r, err) < 0)
		return -1;
	r->attempted = true;
	t->begun_us = t->said_us = clock_now_us();
	KP("call.before_send");
	int rc = http_run(&t->x, r->call->a, err);
	record(t, rc == 0);
	if (r->wire.stream)
		r->answer = r->stream.answer;
	if (rc < 0 && !(r->wire.stream && r->stream.terminal && err->code != ERR_CLIENT_GONE))
		return err->code == ERR_INVALID ? unusable_provider(err) : -1;
	return finish(t, err);
}
