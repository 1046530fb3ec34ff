/* SPDX-License-Identifier: Apache-2.0
 * Server-sent events: WHATWG HTML section 9.2.6. Events are found in the caller's bytes where they lie; only one that is not
 * complete yet is copied and kept. Offsets are relative to the event's first byte, so that it may move between two feeds.
 *
 * A line ends in LF, CRLF or CR. When the CR that would end an event is the last byte so far, the LF may still be on its way: it is
 * waited for, unless the line before ended in a bare CR, for then this stream does not use CRLF. The decision looks only at
 * bytes before, so any cut of the stream gives the same events.
 */
#include "config.h"
#include "http/http.h"

#include "base/arena.h"
#include "base/buf.h"

enum { TAKE_BYTES = 4096 }; /* an unfinished event grows by pieces of this size */

struct span {
	size_t at, n;
};

struct sse {
	size_t max;
	struct buf held;   /* the bytes of an unfinished event */
	struct buf joined; /* its data lines, when there are several */
	size_t line;	   /* where the current line begins */
	size_t scanned;	   /* no terminator before this */
	size_t skip;	   /* leading bytes that are not the event's: a BOM */
	struct span data, type;
	unsigned data_lines;
	bool bom_done;	/* the stream's first bytes have been looked at */
	bool bare_cr;	/* the line before ended in a CR alone */
	bool stray_lf;	/* an event was closed by a CR: a LF now belongs to that CR */
};

struct sse *sse_new(struct arena *a, size_t event_bytes_max)
{
	struct sse *s = ARENA_NEW(a, struct sse);
	s->max = event_bytes_max;
	buf_init(&s->held, a, event_bytes_max + TAKE_BYTES);
	buf_init(&s->joined, a, event_bytes_max);
	return s;
}

bool sse_pending(const struct sse *s)
{
	size_t i = s->skip; /* line ends alone are none */
	while (i < s->held.n && (s->held.p[i] == '\r' || s->held.p[i] == '\n'))
		i++;
	return i < s->held.n;
}

static void next_event(struct sse *s)
{
	s->line = s->scanned = s->skip = 0;
	s->data_lines = 0;
	s->data = s->type = (struct span){ 0, 0 };
	s->bare_cr = false;
	buf_clear(&s->joined);
}

/* --- lines ------------------------------------------------------------------------------------------------------------------ */

static void data_line(struct sse *s, const char *event, struct span value)
{
	if (++s->data_lines == 1) {
		s->data = value;
		return;
	}
	if (s->data_lines == 2)
		buf_add(&s->joined, event + s->data.at, s->data.n);
	buf_char(&s->joined, '\n');
	buf_add(&s->joined, event + value.at, value.n);
}

/* One line without its terminator, not empty. Only `data` and `event` matter here; `id`, `retry` and comments pass in raw. */
static void field_line(struct sse *s, const char *event, size_t at, size_t n)
{
	const char *colon = memchr(event + at, ':', n);
	size_t name_n = colon ? (size_t)(colon - (event + at)) : n;
	struct str name = str_pn(event + at, name_n);
	struct span value = { at + name_n, 0 };
	if (colon) {
		value.at++;
		if (value.at < at + n && event[value.at] == ' ')
			value.at++;
		value.n = at + n - value.at;
	}
	if (str_eq(name, STR("data")))
		data_line(s, event, value);
	else if (str_eq(name, STR("event")))
		s->type = value;
}

/* --- finding the end of an event ---------------------------------------------------------------------------------------------- */

struct cursor {
	const char *event;
	size_t n;
	size_t lf; /* the next LF at or after the scan position, or n; kept so that each byte is looked at once */
};

static size_t find(const struct cursor *c, char what, size_t from, size_t to)
{
	const char *p = from < to ? memchr(c->event + from, what, to - from) : NULL;
	return p ? (size_t)(p - c->event) : to;
}

/* The end of the current line: *end_r is where its terminator begins, *next_r where the next line does. False: not here yet. */
static bool line_end(struct sse *s, struct cursor *c, size_t *end_r, size_t *next_r)
{
	if (c->lf < s->scanned || c->lf == SIZE_MAX)
		c->lf = find(c, '\n', s->scanned, c->n);
	size_t at = find(c, '\r', s->scanned, c->lf);
	s->scanned = at;
	if (at == c->n)
		return false;
	*end_r = at;
	if (c->event[at] == '\n') {
		*next_r = at + 1;
		s->bare_cr = false;
		return true;
	}
	bool blank = at == s->line, last = at + 1 == c->n;
	if (blank && s->bare_cr) { /* closes the event without looking further */
		*next_r = at + 1;
		return true;
	}
	if (last)
		return false;
	s->bare_cr = c->event[at + 1] != '\n';
	*next_r = s->bare_cr ? at + 1 : at + 2;
	return true;
}

/* Byte order mark and the LF of a CR that closed the event before. False: more bytes are needed to tell. */
static bool leading(struct sse *s, const struct cursor *c)
{
	if (!s->bom_done) {
		static const char bom[3] = "\xEF\xBB\xBF";
		size_t n = c->n < 3 ? c->n : 3;
		bool same = memcmp(c->event, bom, n) == 0;
		if (same && n < 3)
			return false;
		s->bom_done = true;
		s->skip = s->line = s->scanned = same ? 3 : 0;
	}
	if (s->stray_lf && c->n) {
		s->stray_lf = false;
		if (c->event[0] == '\n')
			s->line = s->scanned = 1;
	}
	return true;
}

/* Read lines until the blank one. Returns the event's length, or 0 when it is not complete. */
static size_t scan(struct sse *s, const char *event, size_t n)
{
	struct cursor c = { event, n, SIZE_MAX };
	size_t end, next;
	if (!leading(s, &c))
		return 0;
	while (line_end(s, &c, &end, &next)) {
		if (end == s->line) {
			s->stray_lf = s->bare_cr && event[end] == '\r';
			return next;
		}
		field_line(s, event, s->line, end - s->line);
		s->line = s->scanned = next;
	}
	return 0;
}

/* --- feeding -------------------------------------------------------------------------------------------------------------------- */

typedef int sse_fn(void *u, const struct sse_event *ev, struct err *err);

static int too_large(const struct sse *s, struct err *err)
{
	return err_set(err, ERR_UPSTREAM, "the provider sent an event of more than %zu bytes", s->max);
}

/* An event without a data line is none, but what follows starts afresh. */
static int dispatch(struct sse *s, const char *event, size_t n, sse_fn *fn, void *u, struct err *err)
{
	struct sse_event ev = { .raw = str_pn(event + s->skip, n - s->skip) };
	bool any = s->data_lines > 0;
	if (n > s->max || s->joined.overflow)
		return too_large(s, err);
	ev.type = str_pn(event + s->type.at, s->type.n);
	ev.data = s->data_lines > 1 ? buf_view(&s->joined) : str_pn(event + s->data.at, s->data.n);
	int r = any ? fn(u, &ev, err) : 0;
	next_event(s);
	return r;
}

/* Complete the held event from the front of *bytes, as far as they go. */
static int feed_held(struct sse *s, struct str *bytes, sse_fn *fn, void *u, struct err *err)
{
	while (s->held.n && bytes->n) {
		size_t had = s->held.n, take = bytes->n < TAKE_BYTES ? bytes->n : TAKE_BYTES;
		if (had > s->max)
			return too_large(s, err);
		buf_add(&s->held, bytes->p, take);
		size_t n = scan(s, s->held.p, s->held.n), used = n ? n - had : take;
		*bytes = str_sub(*bytes, used, bytes->n);
		if (!n)
			continue;
		int r = dispatch(s, s->held.p, n, fn, u, err);
		buf_clear(&s->held);
		if (r < 0)
			return -1;
	}
	return s->held.n > s->max ? too_large(s, err) : 0;
}

int sse_feed(struct sse *s, struct str bytes, sse_fn *fn, void *u, struct err *err)
{
	if (feed_held(s, &bytes, fn, u, err) < 0)
		return -1;
	while (bytes.n) {
		size_t n = scan(s, bytes.p, bytes.n);
		if (!n)
			break;
		if (dispatch(s, bytes.p, n, fn, u, err) < 0)
			return -1;
		bytes = str_sub(bytes, n, bytes.n);
	}
	if (bytes.n > s->max)
		return too_large(s, err);
	buf_str(&s->held, bytes);
	return 0;
}
