/* SPDX-License-Identifier: Apache-2.0
 * Event streams: what is an event, and that no cut of the bytes changes it (F-42).
 */
#include "config.h"
#include "http/http.h"

#include "base/arena.h"
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* Everything that was dispatched, one after the other: "type|data|raw;" */
struct record {
	struct buf out;
	struct buf raws;
	unsigned events;
	unsigned stop_after; /* 0: never */
};

static int record_event(void *u, const struct sse_event *ev, struct err *err)
{
	struct record *r = u;
	buf_str(&r->out, ev->type);
	buf_char(&r->out, '|');
	buf_str(&r->out, ev->data);
	buf_char(&r->out, '|');
	buf_str(&r->out, ev->raw);
	buf_char(&r->out, ';');
	buf_str(&r->raws, ev->raw);
	return ++r->events == r->stop_after ? err_set(err, ERR_CLIENT_GONE, "enough") : 0;
}

/* Feed `text` in pieces that end at the given offsets (ascending, the last is text.n). */
static bool feed(struct arena *a, struct str text, const size_t *cuts, size_t ncuts, struct record *r)
{
	struct sse *s = sse_new(a, 1024);
	struct err err;
	size_t at = 0;
	*r = (struct record){ .events = 0 };
	buf_init(&r->out, a, 1 << 20);
	buf_init(&r->raws, a, 1 << 20);
	for (size_t i = 0; i < ncuts; i++) {
		/* A copy of exactly the piece, so that reading past it is seen. */
		struct str piece = str_sub(text, at, cuts[i] - at);
		char *copy = malloc(piece.n ? piece.n : 1);
		if (piece.n)
			memcpy(copy, piece.p, piece.n);
		int ok = sse_feed(s, str_pn(copy, piece.n), record_event, r, &err);
		memset(copy, '#', piece.n);
		free(copy);
		assert_int_equal(ok, 0);
		at = cuts[i];
	}
	return sse_pending(s);
}

struct stream_case {
	const char *name;
	struct str in;
	struct str out; /* type|data|raw; ... */
	bool pending;
};

static const struct stream_case streams[] = {
	{ "one event", STR("data: a\n\n"), STR("|a|data: a\n\n;"), false },
	{ "two events", STR("data: a\n\ndata: b\n\n"), STR("|a|data: a\n\n;|b|data: b\n\n;"), false },
	{ "an event with a type", STR("event: e\ndata: {\"x\":1}\n\n"), STR("e|{\"x\":1}|event: e\ndata: {\"x\":1}\n\n;"), false },
	{ "CRLF", STR("event: e\r\ndata: a\r\n\r\ndata: b\r\n\r\n"), STR("e|a|event: e\r\ndata: a\r\n\r\n;|b|data: b\r\n\r\n;"), false },
	{ "CR alone", STR("event: e\rdata: a\r\rdata: b\r\r"), STR("e|a|event: e\rdata: a\r\r;|b|data: b\r\r;"), false },
	{ "a byte order mark is not part of the event", STR("\xEF\xBB\xBF" "data: a\n\n"), STR("|a|data: a\n\n;"), false },
	{ "a byte order mark later is", STR("data: a\n\n\xEF\xBB\xBF" "data: b\n\n"), STR("|a|data: a\n\n;"), false },
	{ "what only begins like one", STR("\xEF\xBB" "data: a\n\ndata: b\n\n"), STR("|b|data: b\n\n;"), false },
	{ "several data lines are joined", STR("data: a\ndata: b\ndata:\ndata: c\n\n"),
	  STR("|a\nb\n\nc|data: a\ndata: b\ndata:\ndata: c\n\n;"), false },
	{ "only one space is taken off", STR("data:  a\n\ndata:b\n\n"), STR("| a|data:  a\n\n;|b|data:b\n\n;"), false },
	{ "a colon in the value", STR("data: a:b: c\n\n"), STR("|a:b: c|data: a:b: c\n\n;"), false },
	{ "comments alone dispatch nothing", STR(": keepalive\n\n:\n\ndata: a\n\n"), STR("|a|data: a\n\n;"), false },
	{ "a comment within an event stays in raw", STR(": c\ndata: a\n: d\n\n"), STR("|a|: c\ndata: a\n: d\n\n;"), false },
	{ "id and retry stay in raw", STR("id: 7\nretry: 10\ndata: a\n\n"), STR("|a|id: 7\nretry: 10\ndata: a\n\n;"), false },
	{ "a type without data is no event", STR("event: ping\n\ndata: a\n\n"), STR("|a|data: a\n\n;"), false },
	{ "empty data is an event", STR("data:\n\ndata\n\n"), STR("||data:\n\n;||data\n\n;"), false },
	{ "names are case-sensitive and whole", STR("Data: a\ndatax: b\ndat: c\n\ndata : d\n\n"), STR(""), false },
	{ "the last type counts", STR("event: a\nevent: b\ndata: x\n\n"), STR("b|x|event: a\nevent: b\ndata: x\n\n;"), false },
	{ "blank lines before and between", STR("\n\n\ndata: a\n\n\n\ndata: b\n\n"), STR("|a|data: a\n\n;|b|data: b\n\n;"), false },
	{ "mixed line ends", STR("event: e\r\ndata: a\rdata: b\n\r\ndata: c\n\n"),
	  STR("e|a\nb|event: e\r\ndata: a\rdata: b\n\r\n;|c|data: c\n\n;"), false },
	{ "LF after a CR that closed the event", STR("data: a\r\r\ndata: b\n\n"), STR("|a|data: a\r\r;|b|\ndata: b\n\n;"), false },
	{ "UTF-8 and NUL pass", STR("data: \xC3\xA9\xF0\x9F\x98\x80\0x\n\n"), STR("|\xC3\xA9\xF0\x9F\x98\x80\0x|data: \xC3\xA9\xF0\x9F\x98\x80\0x\n\n;"),
	  false },
	{ "the end is missing", STR("data: a\n\ndata: b\n"), STR("|a|data: a\n\n;"), true },
	{ "cut in a line", STR("data: a\n\nda"), STR("|a|data: a\n\n;"), true },
	{ "nothing", STR(""), STR(""), false },
	{ "a blank line at the end is nothing pending", STR("data: a\r\r\n"), STR("|a|data: a\r\r;"), false },
};

static void each_stream(void (*check)(struct arena *a, const struct stream_case *c))
{
	struct arena *a = arena_new(1 << 26);
	for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
		check(a, &streams[i]);
		arena_clear(a);
	}
	arena_free(&a);
}

static void expect(struct arena *a, const struct stream_case *c, const size_t *cuts, size_t n)
{
	struct record r;
	bool pending = feed(a, c->in, cuts, n, &r);
	struct str out = buf_view(&r.out);
	if (!str_eq(out, c->out) || pending != c->pending)
		fail_msg("%s, cut at %zu: %.*s (%s)", c->name, cuts[0], (int)out.n, out.p, pending ? "pending" : "nothing pending");
}

static void whole(struct arena *a, const struct stream_case *c)
{
	expect(a, c, &c->in.n, 1);
}

static void cut_once(struct arena *a, const struct stream_case *c)
{
	for (size_t i = 0; i <= c->in.n; i++)
		expect(a, c, (size_t[]){ i, c->in.n }, 2);
}

static void cut_twice(struct arena *a, const struct stream_case *c)
{
	for (size_t i = 0; i <= c->in.n; i++)
		for (size_t j = i; j <= c->in.n; j++) {
			expect(a, c, (size_t[]){ i, j, c->in.n }, 3);
			arena_clear(a);
		}
}

static void byte_by_byte(struct arena *a, const struct stream_case *c)
{
	size_t cuts[256];
	for (size_t i = 0; i < c->in.n; i++)
		cuts[i] = i + 1;
	if (c->in.n)
		expect(a, c, cuts, c->in.n);
}

static void events_are_found_in_whole_streams(void **state)
{
	(void)state;
	each_stream(whole);
}

static void one_cut_anywhere_changes_nothing(void **state)
{
	(void)state;
	each_stream(cut_once);
}

static void two_cuts_anywhere_change_nothing(void **state)
{
	(void)state;
	each_stream(cut_twice);
}

static void single_bytes_give_the_same_events(void **state)
{
	(void)state;
	each_stream(byte_by_byte);
}

static void an_event_over_the_cap_is_refused_however_it_comes(void **state)
{
	(void)state;
	char text[2048];
	memset(text, 'x', sizeof text);
	memcpy(text, "data: ", 6);
	memcpy(text + sizeof text - 2, "\n\n", 2);
	for (size_t piece = 1; piece <= sizeof text; piece *= 2) {
		struct arena *a = arena_new(1 << 20);
		struct sse *s = sse_new(a, 1024);
		struct record r = { .events = 0 };
		struct err err;
		int ok = 0;
		for (size_t at = 0; ok == 0 && at < sizeof text; at += piece)
			ok = sse_feed(s, str_pn(text + at, piece), record_event, &r, &err);
		assert_int_equal(ok, -1);
		assert_int_equal(err.code, ERR_UPSTREAM);
		assert_int_equal(r.events, 0);
		assert_true(arena_used(a) < 32 * 1024);
		arena_free(&a);
	}
}

static void an_event_just_at_the_cap_passes_however_it_comes(void **state)
{
	(void)state;
	char text[1024];
	memset(text, 'x', sizeof text);
	memcpy(text, "data: ", 6);
	memcpy(text + sizeof text - 2, "\n\n", 2);
	for (size_t piece = 1; piece <= sizeof text; piece *= 2) {
		struct arena *a = arena_new(1 << 20);
		struct sse *s = sse_new(a, 1024);
		struct record r = { .events = 0 };
		struct err err;
		buf_init(&r.out, a, 1 << 20);
		buf_init(&r.raws, a, 1 << 20);
		for (int round = 0; round < 3; round++)
			for (size_t at = 0; at < sizeof text; at += piece)
				assert_int_equal(sse_feed(s, str_pn(text + at, piece), record_event, &r, &err), 0);
		assert_int_equal(r.events, 3);
		arena_free(&a);
	}
}

static void a_long_stream_takes_no_more_memory_than_an_event(void **state)
{
	(void)state;
	struct arena *a = arena_new(1 << 20);
	struct sse *s = sse_new(a, 64 * 1024);
	struct record r = { .events = 0 };
	struct err err;
	struct str text = STR("data: one\ndata: two\n\ndata: three\n\n");
	buf_init(&r.out, a, 0);
	buf_init(&r.raws, a, 0);
	for (int i = 0; i < 100000; i++)
		assert_int_equal(sse_feed(s, str_sub(text, 0, 11), record_event, &r, &err) |
					 sse_feed(s, str_sub(text, 11, text.n), record_event, &r, &err),
				 0);
	assert_int_equal(r.events, 200000);
	assert_true(arena_used(a) < 8 * 1024);
	arena_free(&a);
}

static void a_callback_can_stop_the_stream(void **state)
{
	(void)state;
	struct arena *a = arena_new(1 << 20);
	struct sse *s = sse_new(a, 1024);
	struct record r = { .stop_after = 2 };
	struct err err;
	buf_init(&r.out, a, 1 << 20);
	buf_init(&r.raws, a, 1 << 20);
	assert_int_equal(sse_feed(s, STR("data: a\n\ndata: b\n\ndata: c\n\n"), record_event, &r, &err), -1);
	assert_int_equal(err.code, ERR_CLIENT_GONE);
	assert_int_equal(r.events, 2);
	arena_free(&a);
}

static void raws_put_together_are_the_stream(void **state)
{
	(void)state;
	struct arena *a = arena_new(1 << 20);
	struct str text = STR("data: a\r\n\r\ndata: b\n\ndata: c\r\rdata: d\r\r\nevent: x\ndata: e\n\n");
	for (size_t i = 0; i <= text.n; i++) {
		struct record r;
		feed(a, text, (size_t[]){ i, text.n }, 2, &r);
		assert_true(str_eq(buf_view(&r.raws), text));
	}
	arena_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_are_found_in_whole_streams),
		cmocka_unit_test(one_cut_anywhere_changes_nothing),
		cmocka_unit_test(two_cuts_anywhere_change_nothing),
		cmocka_unit_test(single_bytes_give_the_same_events),
		cmocka_unit_test(an_event_over_the_cap_is_refused_however_it_comes),
		cmocka_unit_test(an_event_just_at_the_cap_passes_however_it_comes),
		cmocka_unit_test(a_long_stream_takes_no_more_memory_than_an_event),
		cmocka_unit_test(a_callback_can_stop_the_stream),
		cmocka_unit_test(raws_put_together_are_the_stream),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
