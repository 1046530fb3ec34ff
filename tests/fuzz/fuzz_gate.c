/* SPDX-License-Identifier: Apache-2.0
 * The record parser and the construction of requests. The first byte decides how the rest is cut into reads, so that the
 * same bytes in other pieces are also tried; the events must not depend on it.
 */
#include "config.h"
#include "base/arena.h"
#include "base/hash.h"
#include "front/private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	uint64_t body_hash, events_hash;
	size_t body_bytes;
};

static void note(struct seen *s, int what) { s->events_hash = s->events_hash * 31 + (uint64_t)what; }

static void head(struct record_parser *p, struct seen *s)
{
	struct arena *a = arena_new(1 << 20);
	struct front_request req = { 0 };
	struct err err = { 0 };
	struct str value;
	bool known = false;
	int rc = request_parse(&req, a, buf_view(&p->params), &known, &err);
	BUG_ON((rc == 0) != (err.code == ERR_NONE));
	BUG_ON(rc == 0 && (!req.method.n || req.path.p[0] != '/'));
	for (size_t i = 0; i < req.header_count; i++)
		BUG_ON(!str_eq(front_header(&req, req.headers[i].name), req.headers[i].value));
	front_query(&req, a, STR("a"), &value, &err);
	gzip_accepted(front_header(&req, STR("accept-encoding")));
	if (!p->too_large) /* what of a head too large is kept depends on the pieces it came in; it is refused all the same */
		note(s, rc);
	arena_free(&a);
}

static bool handle(struct record_parser *p, enum record_event e, struct str piece, struct seen *s)
{
	if (e == RECORD_HEAD)
		head(p, s);
	if (e != RECORD_BODY) {
		note(s, (int)e);
	} else {
		for (size_t i = 0; i < piece.n; i++)
			s->body_hash = s->body_hash * 131 + (unsigned char)piece.p[i];
		s->body_bytes += piece.n;
	}
	if (e == RECORD_END || e == RECORD_ABORT)
		record_done(p);
	return e != RECORD_BROKEN;
}

/* A copy per read, so that the sanitizer sees a step past its end. */
static bool feed(struct record_parser *p, const uint8_t *data, size_t n, struct seen *s)
{
	char *copy = malloc(n ? n : 1);
	BUG_ON(!copy);
	if (n)
		memcpy(copy, data, n);
	struct str in = str_pn(copy, n), piece;
	enum record_event e;
	bool on = true;
	while (on && (e = record_next(p, &in, &piece)) != RECORD_MORE)
		on = handle(p, e, piece, s);
	free(copy);
	return on;
}

static struct seen run(const uint8_t *data, size_t size, size_t step)
{
	struct record_parser p;
	struct seen s = { 0 };
	record_init(&p);
	for (size_t at = 0; at < size; at += step)
		if (!feed(&p, data + at, size - at < step ? size - at : step, &s))
			break;
	record_release(&p);
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	struct seen whole = run(data + 1, size - 1, size);
	struct seen cut = run(data + 1, size - 1, (size_t)data[0] + 1);
	BUG_ON(whole.body_bytes != cut.body_bytes || whole.body_hash != cut.body_hash || whole.events_hash != cut.events_hash);
	return 0;
}
