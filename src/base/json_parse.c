/* SPDX-License-Identifier: Apache-2.0
 * The strict one-pass parser. It walks the text once and writes a tape: every value in the order of the text, a
 * member's name right before its value, a container before what it holds. While a container is open its `next` holds
 * the index of the container around it, so there is no stack; closing puts the real one. Nothing is decoded or copied.
 *
 *	           .---- , ----.                .----- , -----.
 *	           v           |                v             |
 *	    [ -> VALUE -> AFTER -'       { -> NAME : VALUE -> AFTER     AFTER the outermost value -> END
 */
#include "config.h"
#include "base/json.h"

#include "base/arena.h"
#include "base/json_scan.h"

#include <stdio.h>
#include <string.h>

const struct json_limits json_limits_request = { .depth = 64, .nodes = 1000000 };
const struct json_limits json_limits_upstream = { .depth = 64, .nodes = 4000000, .lone_surrogates = true };

enum { NO_NODE = UINT32_MAX };
enum state { VALUE, NAME, AFTER, END };

struct parser {
	const unsigned char *start, *end;
	struct json_node *nodes;
	uint32_t count, cap; /* one node more than counted is always there: for locate() */
	uint32_t open;	     /* the innermost open container */
	uint32_t depth;
	enum state state;
	uint8_t seen; /* marks of all strings so far */
	const struct json_limits *limits;
	struct arena *a;
	/* set by the step that fails: what should stand at `at`, or else what is wrong there */
	const unsigned char *at;
	const char *expected, *problem;
	bool limit; /* the text may be JSON, but is beyond our limits */
};

typedef const unsigned char *cursor; /* a step takes one and returns one: NULL when the text is refused */

static cursor refuse(struct parser *ps, cursor at, const char *expected)
{
	ps->at = at;
	ps->expected = expected;
	return NULL;
}

static cursor refuse_as(struct parser *ps, cursor at, const char *problem)
{
	ps->at = at;
	ps->problem = problem;
	return NULL;
}

static cursor refuse_beyond(struct parser *ps, cursor at, const char *problem)
{
	ps->limit = true;
	return refuse_as(ps, at, problem);
}

/* More room, judged by how many nodes the text took so far. Returns -1 at the limit. */
static int grow(struct parser *ps, cursor p)
{
	if (ps->count >= ps->limits->nodes)
		return -1;
	double text_n = (double)(ps->end - ps->start), done = (double)(p - ps->start) + 1;
	double want = (double)ps->count * (text_n / done) * 1.125, least = (double)ps->cap * 1.5 + 16;
	want = want > least ? want : least;
	uint32_t cap = want < (double)ps->limits->nodes ? (uint32_t)want : ps->limits->nodes + 1;
	ps->nodes = arena_grow(ps->a, ps->nodes, ps->cap * sizeof *ps->nodes, cap * sizeof *ps->nodes);
	ps->cap = cap;
	return 0;
}

static inline int add(struct parser *ps, enum json_type type, uint8_t flags, cursor from, cursor to)
{
	if (ps->count + 1 >= ps->cap && grow(ps, from) < 0) {
		refuse_beyond(ps, from, "too many values and names");
		return -1;
	}
	uint32_t i = ps->count++;
	ps->nodes[i] = (struct json_node){
		.off = (uint32_t)(from - ps->start),
		.len = (uint32_t)(to - from),
		.next = i + 1,
		.type = (uint8_t)type,
		.flags = flags,
	};
	return 0;
}

/* ---- strings ---- */

/* The four digits at p as a number, -1 when they are not all there. */
static int hex4(cursor p, cursor end)
{
	int v = 0;
	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		int d = json_hex_digit(p[i]);
		if (d < 0)
			return -1;
		v = v << 4 | d;
	}
	return v;
}

/* p stands on the backslash of \uXXXX. */
static cursor escape_unicode(struct parser *ps, cursor p, uint8_t *flags)
{
	int unit = hex4(p + 2, ps->end);
	if (unit < 0)
		return refuse_as(ps, p, "\\u needs four hexadecimal digits");
	if (unit == 0)
		*flags |= JSON_NUL;
	if (unit < 0xD800 || unit > 0xDFFF)
		return p + 6;
	if (unit < 0xDC00 && ps->end - p >= 12 && p[6] == '\\' && p[7] == 'u') {
		int low = hex4(p + 8, ps->end);
		if (low >= 0xDC00 && low <= 0xDFFF)
			return p + 12;
	}
	if (!ps->limits->lone_surrogates)
		return refuse_as(ps, p, "a surrogate escape without its other half");
	*flags |= JSON_SURROGATE;
	return p + 6;
}

static cursor escape(struct parser *ps, cursor p, uint8_t *flags)
{
	*flags |= JSON_ESCAPED;
	if (ps->end - p < 2)
		return refuse(ps, ps->end, "the rest of an escape");
	switch (p[1]) {
	case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't': return p + 2;
	case 'u': return escape_unicode(ps, p, flags);
	default: return refuse(ps, p + 1, "one of \"\\/bfnrtu after a backslash");
	}
}

static inline bool is_tail(unsigned char c)
{
	return (c & 0xC0) == 0x80;
}

/* A run of bytes beyond ASCII. Most characters have two or three; the rare forms go the whole way. */
static cursor beyond_ascii(struct parser *ps, cursor p)
{
	cursor end = ps->end;
	while (p < end && *p >= 0x80) {
		unsigned char c = *p;
		if (c >= 0xC2 && c < 0xE0 && end - p >= 2 && is_tail(p[1])) {
			p += 2;
			continue;
		}
		if (c > 0xE0 && c < 0xF0 && c != 0xED && end - p >= 3 && is_tail(p[1]) && is_tail(p[2])) {
			p += 3;
			continue;
		}
		size_t n = str_utf8_len(p, (size_t)(end - p));
		if (!n)
			return refuse_as(ps, p, "a byte that is not UTF-8");
		p += n;
	}
	return p;
}

/* p stands after the opening quote. Returns where the closing one stands. */
static inline cursor string_end(struct parser *ps, cursor p, uint8_t *flags)
{
	for (;;) {
		p = json_scan_plain(p, ps->end);
		if (p >= ps->end)
			return refuse(ps, ps->end, "the closing quote of a string");
		if (*p == '"')
			return p;
		if (*p == '\\')
			p = escape(ps, p, flags);
		else if (*p >= 0x80)
			p = beyond_ascii(ps, p);
		else
			return refuse_as(ps, p, "a control character in a string must be escaped");
		if (!p)
			return NULL;
	}
}

/* p stands on the opening quote. Adds the node; returns what follows the closing quote. */
static inline cursor string(struct parser *ps, cursor p, uint8_t flags)
{
	cursor close = string_end(ps, p + 1, &flags);
	if (!close || add(ps, JSON_STRING, flags, p + 1, close) < 0)
		return NULL;
	ps->seen |= flags;
	return close + 1;
}

/* ---- the other scalars ---- */

static inline cursor digits(cursor p, cursor end)
{
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

const unsigned char *json_number_end(const unsigned char *p, const unsigned char *end, const unsigned char **wrong_r)
{
	cursor from;
	if (p < end && *p == '-')
		p++;
	from = p;
	p = p < end && *p == '0' ? p + 1 : digits(p, end);
	if (p > from && p < end && *p == '.')
		p = digits(from = p + 1, end);
	if (p > from && p < end && (*p | 0x20) == 'e') {
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		p = digits(from = p, end);
	}
	if (p > from)
		return p;
	*wrong_r = p;
	return NULL;
}

static inline cursor number(struct parser *ps, cursor p)
{
	cursor wrong = NULL, end = json_number_end(p, ps->end, &wrong);
	if (!end)
		return refuse(ps, wrong, "a digit");
	return add(ps, JSON_NUMBER, 0, p, end) < 0 ? NULL : end;
}

static cursor literal(struct parser *ps, cursor p, enum json_type type, const char *word)
{
	cursor from = p;
	for (const char *w = word; *w; w++, p++)
		if (p >= ps->end || *p != (unsigned char)*w)
			return refuse(ps, p, word);
	return add(ps, type, 0, from, p) < 0 ? NULL : p;
}

/* ---- containers and the steps ---- */

static inline cursor close_container(struct parser *ps, cursor p)
{
	struct json_node *c = &ps->nodes[ps->open];
	uint32_t around = c->next;
	c->len = (uint32_t)(p + 1 - ps->start) - c->off;
	c->next = ps->count;
	ps->open = around;
	ps->depth--;
	ps->state = AFTER;
	return p + 1;
}

static inline cursor open_container(struct parser *ps, cursor p, enum json_type type)
{
	if (ps->depth >= ps->limits->depth)
		return refuse_beyond(ps, p, "nested too deeply");
	if (add(ps, type, 0, p, p) < 0)
		return NULL;
	uint32_t i = ps->count - 1;
	ps->nodes[i].next = ps->open;
	ps->open = i;
	ps->depth++;
	ps->state = type == JSON_OBJECT ? NAME : VALUE;
	p = json_scan_space(p + 1, ps->end);
	if (p < ps->end && *p == (type == JSON_OBJECT ? '}' : ']'))
		return close_container(ps, p);
	return p;
}

static inline cursor scalar(struct parser *ps, cursor p)
{
	switch (*p) {
	case '"': return string(ps, p, 0);
	case 't': return literal(ps, p, JSON_TRUE, "true");
	case 'f': return literal(ps, p, JSON_FALSE, "false");
	case 'n': return literal(ps, p, JSON_NULL, "null");
	case '-': case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9': return number(ps, p);
	default: return refuse(ps, p, "a value");
	}
}

static inline cursor value(struct parser *ps, cursor p)
{
	if (p >= ps->end)
		return refuse(ps, p, "a value");
	if (*p == '{')
		return open_container(ps, p, JSON_OBJECT);
	if (*p == '[')
		return open_container(ps, p, JSON_ARRAY);
	p = scalar(ps, p);
	if (p)
		ps->state = AFTER;
	return p;
}

static inline cursor name(struct parser *ps, cursor p)
{
	if (p >= ps->end || *p != '"')
		return refuse(ps, p, "a member name in quotes");
	p = string(ps, p, JSON_NAME);
	if (!p)
		return NULL;
	p = json_scan_space(p, ps->end);
	if (p >= ps->end || *p != ':')
		return refuse(ps, p, "':' after the member name");
	ps->state = VALUE;
	return json_scan_space(p + 1, ps->end);
}

/* After a value: a comma and the next, the end of what it stands in, or the end of all. */
static inline cursor after(struct parser *ps, cursor p)
{
	p = json_scan_space(p, ps->end);
	if (ps->open == NO_NODE) {
		ps->state = END;
		return p;
	}
	struct json_node *c = &ps->nodes[ps->open];
	bool object = c->type == JSON_OBJECT;
	c->count = (uint16_t)(c->count + (c->count < UINT16_MAX));
	if (p < ps->end && *p == ',') {
		ps->state = object ? NAME : VALUE;
		return json_scan_space(p + 1, ps->end);
	}
	if (p < ps->end && *p == (object ? '}' : ']'))
		return close_container(ps, p);
	return refuse(ps, p, object ? "',' or '}' after a member" : "',' or ']' after an element");
}

static cursor run(struct parser *ps)
{
	cursor p = ps->start;
	if (ps->end - p >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0)
		return refuse_as(ps, p, "a byte order mark is not allowed");
	p = json_scan_space(p, ps->end);
	while (p && ps->state != END) {
		if (ps->state == VALUE)
			p = value(ps, p);
		else if (ps->state == NAME)
			p = name(ps, p);
		if (p && ps->state == AFTER)
			p = after(ps, p);
	}
	if (p && p < ps->end)
		return refuse(ps, p, "nothing after the value");
	return p;
}

/* ---- saying what is wrong ---- */

/* Line and column count from 1, the column in characters. All before `at` is well-formed UTF-8. */
static void line_and_column(const struct parser *ps, size_t *line_r, size_t *column_r)
{
	size_t lines = 1, column = 1;
	cursor from = memrchr(ps->start, '\n', (size_t)(ps->at - ps->start));
	from = from ? from + 1 : ps->start;
	for (cursor p = ps->start; p < from; p++)
		lines += *p == '\n';
	for (cursor p = from; p < ps->at; p++)
		column += !is_tail(*p);
	*line_r = lines;
	*column_r = column;
}

static void describe_found(const struct parser *ps, char out[40])
{
	cursor p = ps->at;
	size_t n = p < ps->end ? str_utf8_len(p, (size_t)(ps->end - p)) : 0;
	if (p >= ps->end)
		snprintf(out, 40, "the end of the text");
	else if (n == 1 && *p > ' ' && *p < 0x7F)
		snprintf(out, 40, "'%c'", *p);
	else if (n > 1)
		snprintf(out, 40, "'%.*s'", (int)n, (const char *)p);
	else
		snprintf(out, 40, "byte 0x%02x", *p);
}

/* The path of the place: close what is open, so that the tape can be walked, and ask for the path of the last of it. */
static void locate(struct parser *ps, char *out, size_t out_n)
{
	bool pending = ps->open != NO_NODE && (ps->state == VALUE || (ps->nodes[ps->count - 1].flags & JSON_NAME));
	uint32_t target = pending ? ps->count : ps->open;
	out[0] = '\0';
	if (target == NO_NODE)
		return;
	if (pending) {
		ps->nodes[ps->count] = (struct json_node){ .type = JSON_NULL, .next = ps->count + 1 };
		ps->count++;
	}
	for (uint32_t i = ps->open, around; i != NO_NODE; i = around) {
		around = ps->nodes[i].next;
		ps->nodes[i].next = ps->count;
	}
	struct json_doc doc = { .text = str_pn((const char *)ps->start, (size_t)(ps->end - ps->start)), .nodes = ps->nodes, .count = ps->count };
	json_path((struct json){ &doc, target }, out, out_n);
}

static int explain(struct parser *ps, struct err *err)
{
	char found[40], path[sizeof err->param];
	size_t line, column, at = (size_t)(ps->at - ps->start);
	line_and_column(ps, &line, &column);
	describe_found(ps, found);
	locate(ps, path, sizeof path);
	if (ps->expected)
		return err_set_param(err, ERR_JSON, path, "body is not JSON: line %zu, column %zu (byte %zu): expected %s, found %s", line, column,
				     at, ps->expected, found);
	return err_set_param(err, ERR_JSON, path, "body is not JSON%s: line %zu, column %zu (byte %zu): %s", ps->limit ? " within our limits" : "",
			     line, column, at, ps->problem);
}

int json_parse(struct json_doc *doc, struct arena *a, struct str text, const struct json_limits *limits, struct err *err)
{
	if (text.n >= UINT32_MAX)
		return err_set(err, ERR_TOO_LARGE, "body of %zu bytes is too large to be read as JSON", text.n);
	cursor start = (const unsigned char *)(text.p ? text.p : "");
	size_t guess = text.n / 20 + 16;
	struct parser ps = { .start = start, .at = start, .end = start + text.n, .open = NO_NODE, .limits = limits, .a = a };
	ps.cap = guess < limits->nodes ? (uint32_t)guess : limits->nodes + 1;
	ps.nodes = arena_alloc(a, ps.cap * sizeof *ps.nodes);
	if (!run(&ps))
		return explain(&ps, err);
	doc->text = text;
	doc->nodes = arena_grow(a, ps.nodes, ps.cap * sizeof *ps.nodes, ps.count * sizeof *ps.nodes);
	doc->count = ps.count;
	doc->has_nul = (ps.seen & JSON_NUL) != 0;
	doc->has_surrogate = (ps.seen & JSON_SURROGATE) != 0;
	return 0;
}
