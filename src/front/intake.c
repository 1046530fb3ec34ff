/* SPDX-License-Identifier: Apache-2.0
 * Reading: a thread that owns a connection takes what has arrived, moves it through its phases, serves what is complete,
 * and parks it when nothing more is there. A peer that dribbles costs a wake-up per piece, never a thread.
 *
 *     IDLE --bytes--> HEAD --RECORD_HEAD--> BODY --RECORD_END--> served --> IDLE (kept) | closed | LINGER (unread body)
 *                                     \--> DRAIN --RECORD_END, bound, deadline--> served
 */
#include "config.h"
#include "front/private.h"

#include "base/clock.h"
#include "base/kp.h"
#include "base/log.h"

#include <errno.h>
#include <sys/socket.h>

enum {
	DRAIN_BYTES = 64 * 1024 * 1024, /* of a refused body, before it is answered all the same */
	DIRECT_BYTES = 4096,		/* from this much on the body is read straight into its place */
	LINGER_US = 2 * 1000 * 1000,
};

enum step { STEP_ON, STEP_PARK, STEP_CLOSE };

void gate_complain(struct gate *g, struct conn *c, const char *what)
{
	uint64_t now_us = clock_now_us(), last_us = g->last_complaint_us;
	if (c)
		g->broken++;
	if (last_us && now_us - last_us < 1000000)
		return;
	if (atomic_compare_exchange_strong(&g->last_complaint_us, &last_us, now_us))
		LOG(LOG_LEVEL_WARN, "gate_trouble", LF_C("error", what), LF_INT("slot", c ? (int64_t)c->index : -1),
		    LF_INT("broken_total", g->broken));
}

static uint64_t deadline(struct gate *g, const struct conn *c, uint64_t now_us)
{
	const struct gate_options *o = &g->o;
	uint64_t bytes, whole_us, floor_us = (uint64_t)o->body_floor_ms * 1000;
	switch (c->phase) {
	case CONN_IDLE:
		return c->served_us + (uint64_t)(c->used ? o->idle_timeout_ms : o->head_timeout_ms) * 1000;
	case CONN_HEAD:
		return c->begun_us + (uint64_t)o->head_timeout_ms * 1000;
	case CONN_LINGER:
		return c->served_us + LINGER_US;
	default:
		bytes = c->x->length_known ? c->x->req.body_bytes : c->x->body.n + c->drained;
		whole_us = o->body_rate ? bytes / o->body_rate * 1000000 : 0;
		whole_us = c->body_begun_us + (whole_us > floor_us ? whole_us : floor_us);
		now_us += (uint64_t)o->body_silence_ms * 1000;
		return now_us < whole_us ? now_us : whole_us;
	}
}

/* --- what a request comes to ---------------------------------------------------------------------------------------- */

static enum step linger(struct conn *c)
{
	shutdown(c->fd, SHUT_WR);
	c->phase = CONN_LINGER;
	c->served_us = clock_now_us();
	return STEP_ON;
}

static enum step serve(struct worker *w, struct conn *c)
{
	struct gate *g = w->g;
	bool whole = c->parser.phase == RECORD_SERVED;
	if (!g->idle)
		worker_add(g);
	bool answered = exchange_serve(c->x, w);
	bool keep = answered && whole && c->parser.keep && !c->parser.spoilt && !c->x->last;
	exchange_release(&c->x, w);
	if (answered && !whole)
		return linger(c);
	if (!keep)
		return STEP_CLOSE;
	record_done(&c->parser);
	c->phase = CONN_IDLE;
	c->used = true;
	c->drained = 0;
	c->served_us = clock_now_us();
	return STEP_ON;
}

static enum step head(struct worker *w, struct conn *c)
{
	c->x = exchange_begin(w, c);
	KP("gate.after_params");
	c->body_begun_us = clock_now_us();
	c->phase = c->x->refusal.code || c->x->admission.body_refused ? CONN_DRAIN : CONN_BODY;
	return STEP_ON;
}

static enum step drain_piece(struct worker *w, struct conn *c, size_t n)
{
	c->drained += n;
	return c->drained > DRAIN_BYTES ? serve(w, c) : STEP_ON;
}

static enum step body_piece(struct worker *w, struct conn *c, struct str piece)
{
	struct err err = { 0 };
	while (piece.n && c->phase == CONN_BODY) {
		size_t n;
		char *room = exchange_body_room(c->x, piece.n, &n, &err);
		if (!room) {
			exchange_refuse(c->x, &err);
			c->phase = CONN_DRAIN;
			break;
		}
		memcpy(room, piece.p, n);
		c->x->body.n += n;
		piece = str_sub(piece, n, SIZE_MAX);
	}
	return piece.n ? drain_piece(w, c, piece.n) : STEP_ON;
}

static enum step refused(struct conn *c)
{
	if (peer_reply(c))
		return STEP_CLOSE;
	return c->parser.keep ? STEP_ON : linger(c);
}

/* Given up before it was served. */
static enum step aborted(struct worker *w, struct conn *c)
{
	exchange_release(&c->x, w);
	record_done(&c->parser);
	c->phase = CONN_IDLE;
	c->served_us = clock_now_us();
	return refused(c);
}

static enum step handle(struct worker *w, struct conn *c, enum record_event event, struct str piece, struct str *rest)
{
	switch (event) {
	case RECORD_HEAD:
		return head(w, c);
	case RECORD_BODY:
		return c->phase == CONN_DRAIN ? drain_piece(w, c, piece.n) : body_piece(w, c, piece);
	case RECORD_END:
		peer_feed(c->x, *rest); /* what came in the same read, before what comes while it is served */
		*rest = STR_NONE;
		return serve(w, c);
	case RECORD_REPLY:
		return peer_reply(c) ? STEP_CLOSE : STEP_ON;
	case RECORD_REFUSED:
		return refused(c);
	case RECORD_ABORT:
		return aborted(w, c);
	default:
		gate_complain(w->g, c, c->parser.why);
		return STEP_CLOSE;
	}
}

/* --- reading -------------------------------------------------------------------------------------------------------- */

static enum step feed(struct worker *w, struct conn *c, struct str in)
{
	while (c->phase != CONN_LINGER) {
		struct str piece = STR_NONE;
		enum record_event event = record_next(&c->parser, &in, &piece);
		if (event == RECORD_MORE)
			break;
		enum step step = handle(w, c, event, piece, &in);
		if (step != STEP_ON)
			return step;
	}
	if (c->phase == CONN_IDLE && !record_is_idle(&c->parser))
		c->phase = CONN_HEAD;
	else if (c->phase == CONN_HEAD && record_is_idle(&c->parser))
		c->phase = CONN_IDLE;
	return STEP_ON;
}

/* The bulk of a long body goes straight to its place; only what surrounds it passes through the scratch buffer. */
static ssize_t read_some(struct worker *w, struct conn *c, size_t *direct_r)
{
	struct iovec iov[2] = { { NULL, 0 }, { w->scratch, w->scratch_bytes } };
	struct msghdr msg = { .msg_iov = iov + 1, .msg_iovlen = 1 };
	struct err err;
	size_t ahead = c->phase == CONN_BODY ? record_body_ahead(&c->parser) : 0;
	if (ahead >= DIRECT_BYTES && (iov[0].iov_base = exchange_body_room(c->x, ahead, &iov[0].iov_len, &err))) {
		msg.msg_iov = iov;
		msg.msg_iovlen = iov[0].iov_len == ahead ? 2 : 1; /* all of it fits, else the rest is found out next time */
	}
	ssize_t n = recvmsg(c->fd, &msg, MSG_DONTWAIT);
	*direct_r = n <= 0 ? 0 : (size_t)n < iov[0].iov_len ? (size_t)n : iov[0].iov_len;
	return n;
}

static enum step advance(struct worker *w, struct conn *c)
{
	size_t direct;
	ssize_t n = read_some(w, c, &direct);
	if (n < 0 && errno == EINTR)
		return STEP_ON;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return STEP_PARK;
	if (n <= 0)
		return STEP_CLOSE;
	if (c->phase == CONN_LINGER) /* who never stops sending is never parked, so it is the owner who looks at the clock */
		return clock_now_us() < c->served_us + LINGER_US ? STEP_ON : STEP_CLOSE;
	if (c->phase == CONN_IDLE)
		c->begun_us = clock_now_us();
	if (direct) {
		record_body_taken(&c->parser, direct);
		c->x->body.n += direct;
	}
	return feed(w, c, str_pn(w->scratch, (size_t)n - direct));
}

static enum step late(struct worker *w, struct conn *c)
{
	struct err err;
	c->late = false;
	err_set(&err, ERR_REQUEST_TIMEOUT, "request body did not arrive in time");
	if (c->phase == CONN_BODY)
		exchange_refuse(c->x, &err);
	return serve(w, c);
}

void intake_run(struct worker *w, struct conn *c)
{
	for (;;) {
		enum step step = c->late ? late(w, c) : advance(w, c);
		if (step == STEP_CLOSE) {
			slots_close(w->g, c);
			return;
		}
		if (step == STEP_PARK && slots_park(w->g, c, deadline(w->g, c, clock_now_us())))
			return;
	}
}

void intake_leave(struct gate *g, struct conn *c)
{
	slots_leave(g, c, deadline(g, c, clock_now_us()));
}
