/* SPDX-License-Identifier: Apache-2.0
 * Event streams: the oracle is that no cut changes the events. The first two bytes choose the pieces, the rest is the stream; it is
 * fed whole, in equal pieces, and byte by byte, and what was dispatched must be the same bytes.
 */
#include "config.h"
#include "http/http.h"

#include "base/arena.h"
#include "base/buf.h"

enum { EVENT_BYTES_MAX = 4096 };

struct result {
	struct buf events;
	int r;
	bool pending;
};

static int on_event(void *u, const struct sse_event *ev, struct err *err)
{
	struct buf *b = u;
	(void)err;
	buf_printf(b, "%zu %zu %zu ", ev->type.n, ev->data.n, ev->raw.n);
	buf_str(b, ev->type);
	buf_str(b, ev->data);
	buf_str(b, ev->raw);
	return 0;
}

static void feed(struct result *out, struct arena *a, struct str in, size_t first, size_t step)
{
	struct sse *s = sse_new(a, EVENT_BYTES_MAX);
	struct err err;
	buf_init(&out->events, a, SIZE_MAX / 2);
	out->r = sse_feed(s, str_sub(in, 0, first), on_event, &out->events, &err);
	for (size_t at = first; out->r == 0 && at < in.n; at += step)
		out->r = sse_feed(s, str_sub(in, at, step), on_event, &out->events, &err);
	out->pending = sse_pending(s);
}

static void same(const struct result *a, const struct result *b)
{
	BUG_ON(a->r != b->r);
	BUG_ON(!str_eq(buf_view(&a->events), buf_view(&b->events)));
	BUG_ON(a->r == 0 && a->pending != b->pending);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct arena *a;
	struct result whole, cut, pieces, bytes;
	if (n < 2)
		return 0;
	if (!a)
		a = arena_new(SIZE_MAX);
	struct str in = str_pn((const char *)data + 2, n - 2);
	feed(&whole, a, in, in.n, 1);
	feed(&cut, a, in, data[0] < in.n ? data[0] : in.n, SIZE_MAX / 2);
	feed(&pieces, a, in, data[0] % (in.n + 1), 1 + data[1] % 64);
	feed(&bytes, a, in, 0, 1);
	same(&whole, &cut);
	same(&whole, &pieces);
	same(&whole, &bytes);
	arena_clear(a);
	return 0;
}
