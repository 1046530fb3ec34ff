/* SPDX-License-Identifier: Apache-2.0
 * Edits by splicing. Changes are remembered by node; apply turns them into cuts of the text, ordered and disjoint, and
 * copies everything between them byte for byte. Where two changes meet in one place the later wins, and a change inside
 * something that is itself replaced or removed falls away with it.
 */
#include "config.h"
#include "base/json.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/json_scan.h"

#include <stdlib.h>

enum kind { NOTHING = 0, REPLACE, REMOVE, APPEND };

struct json_change {
	enum kind kind;
	uint32_t node;	 /* the value; APPEND: the object */
	uint32_t object; /* REMOVE and APPEND: the object */
	uint32_t order;
	struct str name, raw;
};

/* A cut: [from, to) of the text gives way to `text`. */
struct cut {
	size_t from, to;
	uint32_t order;
	struct str text;
};

struct cuts {
	struct cut *p;
	uint32_t n, cap;
	struct arena *a;
};

void json_edit_init(struct json_edit *e, const struct json_doc *doc, struct arena *a)
{
	*e = (struct json_edit){ .doc = doc, .a = a };
}

/* Room for one more of `size` bytes each. */
static void *one_more(struct arena *a, void *p, uint32_t n, uint32_t *cap, size_t size)
{
	if (n < *cap)
		return p;
	uint32_t more = *cap ? *cap * 2 : 16;
	p = *cap ? arena_grow(a, p, *cap * size, more * size) : arena_alloc(a, more * size);
	*cap = more;
	return p;
}

static void remember(struct json_edit *e, struct json_change c)
{
	e->changes = one_more(e->a, e->changes, e->count, &e->cap, sizeof *e->changes);
	c.order = e->count;
	e->changes[e->count++] = c;
}

void json_edit_replace(struct json_edit *e, struct json v, struct str raw)
{
	BUG_ON(v.doc != e->doc);
	remember(e, (struct json_change){ .kind = REPLACE, .node = v.i, .raw = raw });
}

/* Remember `c` for every member of that name. */
static bool each_occurrence(struct json_edit *e, struct json object, struct str name, struct json_change c)
{
	bool any = false;
	for (struct json_iter it = json_iter(object); json_next(&it);) {
		if (!json_text_is(it.key, name))
			continue;
		c.node = it.value.i;
		remember(e, c);
		any = true;
	}
	return any;
}

static void drop_append(struct json_edit *e, struct json object, struct str name)
{
	for (uint32_t i = 0; i < e->count; i++) {
		struct json_change *c = &e->changes[i];
		if (c->kind == APPEND && c->object == object.i && str_eq(c->name, name))
			c->kind = NOTHING;
	}
}

void json_edit_set(struct json_edit *e, struct json object, struct str name, struct str raw)
{
	BUG_ON(object.doc != e->doc || !json_is(object, JSON_OBJECT));
	if (each_occurrence(e, object, name, (struct json_change){ .kind = REPLACE, .raw = raw }))
		return;
	drop_append(e, object, name);
	remember(e, (struct json_change){ .kind = APPEND, .node = object.i, .object = object.i, .name = name, .raw = raw });
}

void json_edit_remove(struct json_edit *e, struct json object, struct str name)
{
	BUG_ON(object.doc != e->doc || !json_is(object, JSON_OBJECT));
	if (!each_occurrence(e, object, name, (struct json_change){ .kind = REMOVE, .object = object.i }))
		drop_append(e, object, name);
}

/* ---- from changes to cuts ---- */

static void cut(struct cuts *cuts, size_t from, size_t to, struct str text)
{
	cuts->p = one_more(cuts->a, cuts->p, cuts->n, &cuts->cap, sizeof *cuts->p);
	cuts->p[cuts->n] = (struct cut){ from, to, cuts->n, text };
	cuts->n++;
}

static size_t value_start(const struct json_node *n)
{
	return n->off - (n->type == JSON_STRING ? 1u : 0u);
}

static size_t value_end(const struct json_node *n)
{
	return (size_t)n->off + n->len + (n->type == JSON_STRING ? 1u : 0u);
}

static int by_node(const void *x, const void *y)
{
	const struct json_change *a = x, *b = y;
	if (a->node != b->node)
		return a->node < b->node ? -1 : 1;
	if ((a->kind == APPEND) != (b->kind == APPEND))
		return a->kind == APPEND ? 1 : -1;
	return a->order < b->order ? -1 : 1;
}

/* A copy of the living changes in the order of the text. Of several on one value the last stays; appends stay, after it. */
static struct json_change *settle(const struct json_edit *e, uint32_t *n_r)
{
	struct json_change *c = arena_alloc(e->a, e->count * sizeof *c);
	uint32_t n = 0, kept = 0;
	for (uint32_t i = 0; i < e->count; i++)
		if (e->changes[i].kind != NOTHING)
			c[n++] = e->changes[i];
	if (n)
		qsort(c, n, sizeof *c, by_node);
	for (uint32_t i = 0; i < n; i++) {
		if (kept && c[kept - 1].node == c[i].node && c[kept - 1].kind != APPEND && c[i].kind != APPEND)
			kept--;
		c[kept++] = c[i];
	}
	*n_r = kept;
	return c;
}

/* The first settled change at or after a node. */
static uint32_t first_from(const struct json_change *c, uint32_t n, uint32_t node)
{
	uint32_t low = 0, high = n;
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		if (c[mid].node < node)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* What is appended to an object, with the commas between; a comma before it too when a member stays. */
static struct str appended(const struct json_edit *e, const struct json_change *c, uint32_t n, uint32_t object, bool comma)
{
	struct buf text;
	buf_init(&text, e->a, SIZE_MAX / 4);
	for (uint32_t i = first_from(c, n, object); i < n && c[i].node == object; i++) {
		if (c[i].kind != APPEND)
			continue;
		if (comma)
			buf_char(&text, ',');
		comma = true;
		json_quote(&text, c[i].name);
		buf_char(&text, ':');
		buf_str(&text, c[i].raw);
	}
	return buf_view(&text);
}

/* The cuts of one object that loses or gains members. A run of lost members goes with the comma before it, or, when it
 * begins the object, with the one after it. */
static void cut_members(const struct json_edit *e, const struct json_change *c, uint32_t n, uint32_t object, struct cuts *cuts)
{
	const struct json_node *nodes = e->doc->nodes;
	size_t kept_end = 0, lost_from = 0, lost_to = 0; /* 0: none */
	uint32_t at = first_from(c, n, object + 1);
	for (struct json_iter it = json_iter((struct json){ e->doc, object }); json_next(&it);) {
		const struct json_node *key = &nodes[it.key.i], *value = &nodes[it.value.i];
		while (at < n && c[at].node < it.value.i)
			at++;
		if (at < n && c[at].node == it.value.i && c[at].kind == REMOVE) {
			lost_from = lost_from ? lost_from : kept_end ? kept_end : value_start(key);
			lost_to = value_end(value);
			continue;
		}
		if (lost_from)
			cut(cuts, lost_from, kept_end ? lost_to : value_start(key), STR(""));
		lost_from = 0;
		kept_end = value_end(value);
	}
	struct str more = appended(e, c, n, object, kept_end != 0);
	if (lost_from)
		cut(cuts, lost_from, lost_to, more);
	else if (more.n)
		cut(cuts, kept_end ? kept_end : value_end(&nodes[object]) - 1, kept_end ? kept_end : value_end(&nodes[object]) - 1, more);
}

static int by_number(const void *x, const void *y)
{
	uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
	return (a > b) - (a < b);
}

static void make_cuts(const struct json_edit *e, struct cuts *cuts)
{
	uint32_t n, objects_n = 0;
	struct json_change *c = settle(e, &n);
	uint32_t *objects = arena_alloc(e->a, (size_t)n * sizeof *objects);
	for (uint32_t i = 0; i < n; i++) {
		const struct json_node *node = &e->doc->nodes[c[i].node];
		if (c[i].kind == REPLACE)
			cut(cuts, value_start(node), value_end(node), c[i].raw);
		else if (!objects_n || objects[objects_n - 1] != c[i].object)
			objects[objects_n++] = c[i].object;
	}
	if (objects_n)
		qsort(objects, objects_n, sizeof *objects, by_number);
	for (uint32_t i = 0; i < objects_n; i++)
		if (i == 0 || objects[i] != objects[i - 1])
			cut_members(e, c, n, objects[i], cuts);
}

static int by_place(const void *x, const void *y)
{
	const struct cut *a = x, *b = y;
	if (a->from != b->from)
		return a->from < b->from ? -1 : 1;
	return a->order < b->order ? -1 : 1;
}

void json_edit_apply(const struct json_edit *e, struct buf *out)
{
	struct str text = e->doc->text;
	struct cuts cuts = { .a = e->a };
	size_t done = 0;
	if (e->count)
		make_cuts(e, &cuts);
	if (cuts.n)
		qsort(cuts.p, cuts.n, sizeof *cuts.p, by_place);
	for (uint32_t i = 0; i < cuts.n; i++) {
		const struct cut *c = &cuts.p[i];
		if (c->from < done)
			continue; /* inside something that is gone */
		buf_add(out, text.p + done, c->from - done);
		buf_str(out, c->text);
		done = c->to;
	}
	buf_add(out, text.p + done, text.n - done);
}
