/* SPDX-License-Identifier: Apache-2.0
 * Reading the tape: members, elements, decoded text, places. Look-ups are linear over the members of one object; the
 * tape's `next` steps over whatever a member holds.
 */
#include "config.h"
#include "base/json.h"

#include "base/arena.h"
#include "base/json_scan.h"

#include <stdio.h>
#include <string.h>

static const struct json missing;

static const struct json_node *node_of(struct json v)
{
	static const struct json_node none = { .type = JSON_MISSING };
	return v.doc ? &v.doc->nodes[v.i] : &none;
}

static struct str node_text(const struct json_doc *doc, const struct json_node *n)
{
	return str_pn(doc->text.p + n->off, n->len);
}

struct json json_root(const struct json_doc *doc)
{
	return doc->count ? (struct json){ doc, 0 } : missing;
}

enum json_type json_type(struct json v)
{
	return (enum json_type)node_of(v)->type;
}

bool json_present(struct json v)
{
	return json_type(v) > JSON_NULL;
}

const char *json_type_name(enum json_type type)
{
	static const char *const names[] = { "nothing", "null", "false", "true", "a number", "a string", "an array", "an object" };
	return (unsigned)type < sizeof names / sizeof names[0] ? names[type] : "nothing";
}

/* ---- decoding ---- */

static unsigned hex4(const char *p)
{
	unsigned v = 0;
	for (int i = 0; i < 4; i++)
		v = v << 4 | (unsigned)json_hex_digit((unsigned char)p[i]);
	return v;
}

static size_t put_utf8(char *out, unsigned c)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	static const unsigned char lead[] = { 0, 0, 0xC0, 0xE0, 0xF0 };
	for (size_t i = n; --i; c >>= 6)
		out[i] = (char)(0x80 | (c & 0x3F));
	out[0] = (char)(lead[n] | c);
	return n;
}

/* One character of a checked string at *at, decoded into out; a lone surrogate becomes U+FFFD. Moves *at past it. */
static size_t next_char(struct str raw, size_t *at, char out[4])
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *p = raw.p + *at;
	if (*p != '\\') {
		out[0] = *p;
		*at += 1;
		return 1;
	}
	if (p[1] != 'u') {
		out[0] = to[strchr(from, p[1]) - from];
		*at += 2;
		return 1;
	}
	unsigned c = hex4(p + 2);
	*at += 6;
	if (c >= 0xD800 && c < 0xDC00 && raw.n - *at >= 6 && p[6] == '\\' && p[7] == 'u') {
		unsigned low = hex4(p + 8);
		if (low >= 0xDC00 && low <= 0xDFFF) {
			*at += 6;
			return put_utf8(out, 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00));
		}
	}
	return put_utf8(out, c >= 0xD800 && c <= 0xDFFF ? 0xFFFD : c);
}

struct str json_text(struct json v, struct arena *a)
{
	const struct json_node *n = node_of(v);
	if (n->type != JSON_STRING)
		return STR_NONE;
	struct str raw = node_text(v.doc, n);
	if (!(n->flags & JSON_ESCAPED))
		return raw;
	char *out = arena_alloc(a, raw.n + 1); /* an escape is never shorter than what it stands for */
	size_t out_n = 0;
	for (size_t at = 0; at < raw.n;) {
		size_t slash = str_find_char(raw, '\\', at), run = (slash == SIZE_MAX ? raw.n : slash) - at;
		memcpy(out + out_n, raw.p + at, run);
		out_n += run;
		at += run;
		if (at < raw.n) {
			char c[4];
			size_t c_n = next_char(raw, &at, c);
			memcpy(out + out_n, c, c_n);
			out_n += c_n;
		}
	}
	out[out_n] = '\0';
	return str_pn(arena_grow(a, out, raw.n + 1, out_n + 1), out_n);
}

static bool text_is(const struct json_doc *doc, const struct json_node *n, struct str s)
{
	struct str raw = node_text(doc, n);
	if (!(n->flags & JSON_ESCAPED))
		return str_eq(raw, s);
	size_t at = 0, i = 0;
	while (at < raw.n) {
		char c[4];
		size_t c_n = next_char(raw, &at, c);
		if (s.n - i < c_n || memcmp(s.p + i, c, c_n) != 0)
			return false;
		i += c_n;
	}
	return i == s.n;
}

bool json_text_is(struct json v, struct str s)
{
	const struct json_node *n = node_of(v);
	return n->type == JSON_STRING && text_is(v.doc, n, s);
}

bool json_has_nul(struct json v)
{
	return (node_of(v)->flags & JSON_NUL) != 0;
}

struct str json_raw(struct json v)
{
	const struct json_node *n = node_of(v);
	if (n->type == JSON_MISSING)
		return STR_NONE;
	if (n->type == JSON_STRING)
		return str_pn(v.doc->text.p + n->off - 1, (size_t)n->len + 2);
	return node_text(v.doc, n);
}

bool json_bool(struct json v, bool *out_r)
{
	enum json_type type = json_type(v);
	if (type != JSON_TRUE && type != JSON_FALSE)
		return false;
	*out_r = type == JSON_TRUE;
	return true;
}

/* ---- members and elements ---- */

struct json_iter json_iter(struct json v)
{
	const struct json_node *n = node_of(v);
	struct json_iter it = { .doc = v.doc, .index = UINT32_MAX, .object = n->type == JSON_OBJECT };
	if (n->type == JSON_OBJECT || n->type == JSON_ARRAY) {
		it.at = v.i + 1;
		it.end = n->next;
	}
	return it;
}

bool json_next(struct json_iter *it)
{
	if (it->at >= it->end)
		return false;
	it->key = it->object ? (struct json){ it->doc, it->at } : missing;
	it->value = (struct json){ it->doc, it->at + (it->object ? 1 : 0) };
	it->at = node_of(it->value)->next;
	it->index++;
	return true;
}

/* The first member of that name, from where the iterator stands. */
static bool find_member(struct json_iter *it, struct str name)
{
	while (json_next(it))
		if (text_is(it->doc, node_of(it->key), name))
			return true;
	return false;
}

struct json json_get(struct json v, struct str name)
{
	struct json_iter it = json_iter(v);
	return it.object && find_member(&it, name) ? it.value : missing;
}

int json_get_once(struct json v, struct str name, struct json *out_r, struct err *err)
{
	struct json_iter it = json_iter(v);
	if (!it.object || !find_member(&it, name))
		return 0;
	struct json found = it.value;
	if (find_member(&it, name)) {
		char path[sizeof err->param];
		json_path(it.value, path, sizeof path);
		return err_set_param(err, ERR_JSON, path, "'%s' is given more than once", path);
	}
	*out_r = found;
	return 1;
}

struct json json_at(struct json v, uint32_t index)
{
	struct json_iter it = json_iter(v);
	if (it.object)
		return missing;
	while (json_next(&it))
		if (it.index == index)
			return it.value;
	return missing;
}

uint32_t json_count(struct json v)
{
	const struct json_node *n = node_of(v);
	uint32_t count = 0;
	if (n->count < UINT16_MAX)
		return n->count;
	for (struct json_iter it = json_iter(v); json_next(&it);)
		count++;
	return count;
}

/* ---- places ---- */

struct place {
	char *out;
	size_t n, cap;
};

static void put(struct place *to, struct str s)
{
	size_t room = to->cap - to->n;
	bool cut = s.n > room;
	if (cut) {
		for (s.n = room; s.n && ((unsigned char)s.p[s.n] & 0xC0) == 0x80;)
			s.n--;
	}
	memcpy(to->out + to->n, s.p, s.n);
	to->n += s.n;
	to->out[to->n] = '\0';
	if (cut)
		to->cap = to->n; /* nothing more after the cut */
}

static bool is_plain_name(struct str name)
{
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '$'))
			return false;
	}
	return name.n > 0;
}

static void put_name(struct place *to, struct str raw)
{
	bool plain = is_plain_name(raw);
	put(to, plain ? (to->n ? STR(".") : STR("")) : STR("[\""));
	put(to, raw);
	if (!plain)
		put(to, STR("\"]"));
}

static void put_index(struct place *to, uint32_t index)
{
	char text[16];
	int n = snprintf(text, sizeof text, "[%u]", index);
	put(to, str_pn(text, (size_t)n));
}

void json_path(struct json v, char *out, size_t out_n)
{
	struct place to = { out, 0, out_n - 1 };
	BUG_ON(!out_n);
	out[0] = '\0';
	if (json_type(v) == JSON_MISSING)
		return;
	struct json at = json_root(v.doc);
	while (at.i < v.i) {
		struct json_iter it = json_iter(at);
		while (json_next(&it) && it.at <= v.i)
			;
		if (it.object)
			put_name(&to, node_text(it.doc, node_of(it.key)));
		else
			put_index(&to, it.index);
		at = it.value;
	}
}
