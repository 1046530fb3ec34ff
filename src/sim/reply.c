/* SPDX-License-Identifier: Apache-2.0
 * The bytes of an answer: heads, bodies with their faults, streams with their pace and theirs.
 */
#include "config.h"
#include "sim/reply.h"

#include "base/clock.h"

enum { BURST_BYTES = 32 * 1024 };

/* ---- heads ---- */

void reply_hex(struct buf *out, uint64_t v)
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
	int64_t weekday = (secs / 86400 + 4) % 7, month = (iso[5] - '0') * 10 + iso[6] - '0';
	snprintf(s->date, sizeof s->date, "%.3s, %.2s %.3s %.4s %.8s GMT", days + weekday * 3, iso + 8, months + (month - 1) * 3, iso,
		 iso + 11);
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
	reply_hex(&c->out, server_id(c->server));
	reply_hex(&c->out, server_id(c->server));
	buf_c(&c->out, "\r\nopenai-processing-ms: ");
	buf_u64(&c->out, (c->server->now_us - call->begun_us) / 1000);
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

void reply_body(struct sim_conn *c, struct sim_call *call)
{
	body_send(c, call, call->body.n, call->body.n);
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
		buf_c(&call->body, "<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>"
				   "<body><h1>Something in between answered</h1></body></html>\n");
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

void reply_whole(struct sim_conn *c, struct sim_call *call)
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

/* ---- streams ---- */

void reply_stream_begin(struct sim_conn *c, struct sim_call *call)
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
	bool paced = sim_stream_is_token(st) && call->token_us;
	uint64_t at = call->due_us + (paced ? (uint64_t)call->tokens_timed * call->token_us : 0);
	if (at > c->server->now_us) {
		timer_set(&c->server->timers, &c->timer, at);
		return false;
	}
	call->tokens_timed += paced;
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

enum call_state reply_stream_step(struct sim_conn *c, struct sim_call *call)
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
