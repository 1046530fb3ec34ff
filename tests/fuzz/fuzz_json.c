/* SPDX-License-Identifier: Apache-2.0
 * base/json on any bytes: what is taken can be walked, edited and read again; what is written is JSON.
 */
#include "config.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/json_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct arena *a;

static struct json reparsed(struct str text)
{
	struct json_doc *doc = ARENA_NEW(a, struct json_doc);
	BUG_ON(json_parse(doc, a, text, &json_limits_upstream, NULL) < 0);
	return json_root(doc);
}

static void check_string(struct json v)
{
	struct str text = json_text(v, a);
	BUG_ON(!text.p || !str_is_utf8(text) || !json_text_is(v, text));
}

static void check_number(struct json v)
{
	int64_t i;
	double d;
	if (json_i64(v, &i))
		BUG_ON(!json_double(v, &d) || (i > -(1ll << 53) && i < 1ll << 53 && d != (double)i));
	json_double(v, &d);
}

/* Everything a value holds; with its path and look-up where that stays cheap. */
static void walk(struct json v, bool small)
{
	struct str raw = json_raw(v);
	BUG_ON(!raw.n || raw.p < v.doc->text.p || raw.p + raw.n > v.doc->text.p + v.doc->text.n);
	if (small) {
		char path[40];
		json_path(v, path, sizeof path);
		BUG_ON(!str_is_utf8(str_c(path)));
		BUG_ON(json_type(reparsed(raw)) != json_type(v));
	}
	if (json_is(v, JSON_STRING))
		check_string(v);
	if (json_is(v, JSON_NUMBER))
		check_number(v);
	uint32_t count = 0;
	for (struct json_iter it = json_iter(v); json_next(&it); count++) {
		if (it.object) {
			check_string(it.key);
			BUG_ON(small && json_is(json_get(v, json_text(it.key, a)), JSON_MISSING));
		}
		walk(it.value, small);
	}
	BUG_ON(count != json_count(v));
}

/* The n-th value of the tape; a name counts as the value after it. */
static struct json nth(const struct json_doc *doc, uint64_t n)
{
	uint32_t i = (uint32_t)(n % doc->count);
	return (struct json){ doc, doc->nodes[i].flags & JSON_NAME ? i + 1 : i };
}

static void edit(const struct json_doc *doc, uint64_t seed)
{
	static const char *const raw[] = { "1", "\"x\"", "{}", "[1, {\"a\":2}]" };
	struct json_edit e;
	struct buf out;
	json_edit_init(&e, doc, a);
	buf_init(&out, a, SIZE_MAX / 4);
	for (int i = 0; i < 6; i++, seed = seed * 6364136223846793005u + 1442695040888963407u) {
		struct json v = nth(doc, seed >> 33);
		struct str text = str_c(raw[seed >> 20 & 3]);
		struct json_iter it = json_iter(v);
		struct str name = it.object && json_next(&it) && seed >> 22 & 1 ? json_text(it.key, a) : STR("a");
		if (!json_is(v, JSON_OBJECT) || (seed >> 24 & 7) == 0)
			json_edit_replace(&e, v, text);
		else if (seed >> 27 & 1)
			json_edit_set(&e, v, name, text);
		else
			json_edit_remove(&e, v, name);
	}
	json_edit_apply(&e, &out);
	reparsed(buf_view(&out));
}

/* One removal and one addition on the root, with what must come of it. */
static void edit_root(struct json root)
{
	struct json_edit e;
	struct buf out;
	json_edit_init(&e, root.doc, a);
	buf_init(&out, a, SIZE_MAX / 4);
	json_edit_remove(&e, root, STR("a"));
	json_edit_set(&e, root, STR("b"), STR("[7]"));
	json_edit_apply(&e, &out);
	struct json after = reparsed(buf_view(&out));
	BUG_ON(!json_is(json_get(after, STR("a")), JSON_MISSING) || !str_eq(json_raw(json_get(after, STR("b"))), STR("[7]")));
}

static void quote(struct str s)
{
	struct buf out;
	buf_init(&out, a, SIZE_MAX / 4);
	json_quote(&out, s);
	struct json v = reparsed(buf_view(&out));
	BUG_ON(str_is_utf8(s) && !json_text_is(v, s));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = str_pn((const char *)data, size);
	struct json_doc request, upstream;
	struct err err = { 0 };
	int64_t i;
	if (!a)
		a = arena_new(SIZE_MAX);
	arena_clear(a);
	BUG_ON(json_scan_plain(data, data + size) != json_scan_portable(data, data + size));
	BUG_ON(json_scan_space(data, data + size) != json_scan_space_portable(data, data + size));
	quote(text);
	json_integer(text, &i);
	int ours = json_parse(&request, a, text, &json_limits_request, NULL);
	if (json_parse(&upstream, a, text, &json_limits_upstream, &err) < 0) {
		BUG_ON(ours == 0 || err.code != ERR_JSON || !err.msg[0] || !str_is_utf8(str_c(err.msg)) || !str_is_utf8(str_c(err.param)));
		return 0;
	}
	BUG_ON((ours == 0) == upstream.has_surrogate);
	walk(json_root(&upstream), size < 2000);
	if (json_is(json_root(&upstream), JSON_OBJECT))
		edit_root(json_root(&upstream));
	for (uint64_t round = 0; round < 4; round++)
		edit(&upstream, hash_fnv(data, size) + round);
	return 0;
}
