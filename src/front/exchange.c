/* SPDX-License-Identifier: Apache-2.0
 * One exchange: made when the head is complete, filled with the body, served by one thread, then taken apart.
 * Its arena and struct are kept by the thread for the next one.
 */
#include "config.h"
#include "front/private.h"

#include "base/arena.h"
#include "base/clock.h"

enum { BODY_FIRST_BYTES = 64 * 1024 };

struct front_request *front_req(struct front_exchange *x) { return &x->req; }
struct arena *front_arena(struct front_exchange *x) { return x->arena; }
bool front_began(const struct front_exchange *x) { return x->began; }
int front_sent_status(const struct front_exchange *x) { return x->began ? x->status : 0; }
uint64_t front_sent_bytes(const struct front_exchange *x) { return x->sent_bytes; }
int front_peer_fd(const struct front_exchange *x) { return x->c->fd; }

void **front_slot(struct front_exchange *x, void (*free_fn)(void *))
{
	x->w->slot_free = free_fn;
	return &x->w->slot;
}

static struct front_exchange *exchange_new(struct worker *w)
{
	struct front_exchange *x = w->spare;
	struct arena *a = x ? x->arena : arena_new(w->g->o.arena_bytes);
	w->spare = NULL;
	if (!x)
		x = malloc(sizeof *x);
	BUG_ON(!x);
	memset(x, 0, sizeof *x);
	x->arena = a;
	x->g = w->g;
	return x;
}

void exchange_refuse(struct front_exchange *x, const struct err *err)
{
	if (!x->refusal.code)
		x->refusal = *err;
	exchange_body_drop(x);
}

static void admit(struct front_exchange *x)
{
	struct gate *g = x->g;
	struct err err = { 0 };
	g->app.admit(g->app.user, &x->req, &x->admission);
	if (x->req.body_bytes > x->admission.body_max && !x->admission.body_refused) {
		err_set(&err, ERR_TOO_LARGE, "body of %zu bytes is longer than the %zu that this path takes", x->req.body_bytes,
			x->admission.body_max);
		exchange_refuse(x, &err);
	}
	x->body.max = x->length_known ? x->req.body_bytes : x->admission.body_max;
}

struct front_exchange *exchange_begin(struct worker *w, struct conn *c)
{
	struct front_exchange *x = exchange_new(w);
	struct err err = { 0 };
	x->c = c;
	x->status = 200;
	x->request_id_name = "x-request-id";
	x->sets_end = &x->sets;
	buf_init(&x->body, NULL, 0);
	buf_init(&x->timing, x->arena, 4096);
	x->admission.reserved = true; /* a refusal is always possible */
	x->req.begun_us = c->begun_us;
	x->req.head_us = x->req.read_us = clock_now_us();
	x->req.wall_us = clock_wall_us() - (int64_t)(x->req.head_us - c->begun_us);
	x->req.uuid = uuid_v7();
	id_text("req", x->req.uuid, x->req.id);
	if (request_parse(&x->req, x->arena, buf_view(&c->parser.params), &x->length_known, &err))
		exchange_refuse(x, &err);
	if (c->parser.too_large) {
		err_set(&err, ERR_HEADERS_TOO_LARGE, "request head is longer than %d bytes or has more than %d parameters",
			RECORD_PARAMS_BYTES, RECORD_PARAMS_COUNT);
		x->refusal = err; /* what was cut off may be why the rest was not understood */
	}
	if (!x->refusal.code)
		admit(x);
	return x;
}

void exchange_release(struct front_exchange **xp, struct worker *w)
{
	struct front_exchange *x = *xp;
	if (!x)
		return;
	exchange_body_drop(x);
	*xp = NULL;
	if (w && !w->spare) {
		arena_clear(x->arena);
		w->spare = x;
		return;
	}
	arena_free(&x->arena);
	free(x);
}

/* --- body -------------------------------------------------------------------------------------------------------- */

void exchange_body_drop(struct front_exchange *x)
{
	x->g->body_bytes -= x->body.cap;
	buf_release(&x->body);
}

static int body_grow(struct front_exchange *x, size_t need, struct err *err)
{
	struct gate *g = x->g;
	size_t cap = x->body.cap ? x->body.cap * 2 : BODY_FIRST_BYTES;
	if (cap < need)
		cap = need;
	if (cap > x->body.max)
		cap = x->body.max;
	if (g->body_bytes + cap - x->body.cap > g->o.body_memory_bytes) {
		err_set(err, ERR_BUSY, "no memory for one more request body");
		err->retry_after_ms = 1000;
		return -1;
	}
	size_t before = x->body.cap;
	BUG_ON(!buf_reserve(&x->body, cap - x->body.n));
	g->body_bytes += x->body.cap - before;
	return 0;
}

char *exchange_body_room(struct front_exchange *x, size_t want, size_t *n_r, struct err *err)
{
	struct buf *b = &x->body;
	if (b->n == b->max) {
		if (x->length_known)
			err_set_param(err, ERR_INVALID, "content-length", "body is longer than its content length of %zu", b->max);
		else
			err_set(err, ERR_TOO_LARGE, "body is longer than the %zu bytes that this path takes", b->max);
		return NULL;
	}
	if (want > b->max - b->n)
		want = b->max - b->n;
	if (b->cap < b->n + want + 1 && body_grow(x, b->n + want, err))
		return NULL;
	*n_r = want;
	return b->p + b->n;
}

/* --- serving ----------------------------------------------------------------------------------------------------- */

static bool body_is_whole(struct front_exchange *x)
{
	struct err err = { 0 };
	if (x->refusal.code || x->admission.body_refused)
		return true;
	if (x->length_known && x->body.n != x->req.body_bytes) {
		err_set_param(&err, ERR_INVALID, "content-length", "body is %zu bytes but its content length is %zu", x->body.n,
			      x->req.body_bytes);
		exchange_refuse(x, &err);
		return false;
	}
	x->req.body = buf_view(&x->body);
	x->req.body_bytes = x->body.n;
	return true;
}

/* The last threads are kept for what must answer in an overload. */
static bool thread_free(struct front_exchange *x)
{
	struct gate *g = x->g;
	if (x->admission.reserved || !g->reserve)
		return true;
	if (atomic_fetch_add(&g->busy_ordinary, 1) < g->o.threads - g->reserve)
		return true;
	g->busy_ordinary--;
	return false;
}

static void run(struct front_exchange *x)
{
	struct gate *g = x->g;
	struct err err = { 0 };
	bool admitted = !x->refusal.code && thread_free(x);
	if (admitted) {
		g->app.serve(g->app.user, x);
		if (!x->admission.reserved && g->reserve)
			g->busy_ordinary--;
		if (!x->began && !x->gone)
			err_set(&err, ERR_INTERNAL, "request was not answered");
	} else if (!x->refusal.code) {
		err_set(&err, ERR_BUSY, "all threads are busy");
		err.retry_after_ms = 1000;
	} else {
		err = x->refusal;
	}
	if (!err.code)
		return;
	g->refused++;
	g->app.refuse(g->app.user, x, &err);
}

bool exchange_serve(struct front_exchange *x, struct worker *w)
{
	struct gate *g = x->g;
	x->w = w;
	x->req.read_us = clock_now_us();
	body_is_whole(x);
	g->requests++;
	g->busy++;
	if (!x->gone)
		run(x);
	g->busy--;
	return response_finish(x) == 0;
}
