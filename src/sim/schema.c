/* SPDX-License-Identifier: Apache-2.0
 * A walk over the schema that writes as it goes. All properties are filled near the top; deeper down only the required
 * ones, and arrays and nullable values take their shortest form, so recursive schemas end.
 */
#include "config.h"
#include "sim/schema.h"

#include "base/arena.h"
#include "base/buf.h"
#include "sim/text.h"

#include <math.h>

enum {
	DEPTH_SHALLOW = 4, /* to here everything is filled */
	DEPTH_MAX = 48,
	REF_HOPS = 16,
	COUNT_MAX = 1000,
	LENGTH_MAX = 10000,
	TRIES = 32, /* at an item unlike the others */
	WORK_MAX = 100000,
	WORK_CHARACTERS = 64 /* so many weigh as much as a value */
};

static void value_write(struct sim_schema *s, struct json schema, struct json_w *w, unsigned depth);

static struct json none(void)
{
	return (struct json){ NULL, 0 };
}

/* One step of a JSON pointer: ~1 is a slash, ~0 a tilde. */
static struct json pointer_step(struct sim_schema *s, struct json at, struct str step)
{
	uint64_t index;
	if (json_is(at, JSON_ARRAY))
		return str_u64(step, &index) && index < UINT32_MAX ? json_at(at, (uint32_t)index) : none();
	char *p = arena_alloc(s->a, step.n + 1);
	size_t n = 0;
	for (size_t i = 0; i < step.n; i++) {
		bool escape = step.p[i] == '~' && i + 1 < step.n;
		p[n++] = !escape ? step.p[i] : step.p[i + 1] == '1' ? '/' : '~';
		i += escape;
	}
	return json_get(at, str_pn(p, n));
}

static struct json resolve(struct sim_schema *s, struct json schema)
{
	for (int hop = 0; hop < REF_HOPS && json_present(json_get(schema, STR("$ref"))); hop++) {
		struct str ref = json_text(json_get(schema, STR("$ref")), s->a), step;
		if (!ref.n || ref.p[0] != '#')
			return none();
		struct json at = s->root;
		struct str rest = str_sub(ref, ref.n > 1 ? 2 : 1, ref.n);
		while (rest.n && str_split(&rest, '/', &step))
			at = pointer_step(s, at, step);
		schema = at;
	}
	return schema;
}

static bool number_of(struct json schema, struct str name, double *out_r)
{
	return json_double(json_get(schema, name), out_r);
}

static int64_t count_of(struct json schema, struct str name, int64_t otherwise, int64_t max)
{
	int64_t v;
	if (!json_i64(json_get(schema, name), &v) || v < 0)
		return otherwise;
	return v < max ? v : max;
}

/* ---- which type ---- */

static bool type_is(struct json type, const char *name)
{
	return json_text_is(type, str_c(name));
}

static bool allows_null(struct sim_schema *s, struct json schema)
{
	struct json type = json_get(resolve(s, schema), STR("type"));
	if (type_is(type, "null"))
		return true;
	for (struct json_iter it = json_iter(type); json_is(type, JSON_ARRAY) && json_next(&it);)
		if (type_is(it.value, "null"))
			return true;
	return false;
}

/* The type to write: of a list the first that is not null, unless depth says to stop. */
static struct str type_pick(struct sim_schema *s, struct json schema, unsigned depth)
{
	struct json type = json_get(schema, STR("type"));
	if (json_is(type, JSON_STRING))
		return json_text(type, s->a);
	if (json_is(type, JSON_ARRAY)) {
		if (depth > DEPTH_SHALLOW && allows_null(s, schema))
			return STR("null");
		for (struct json_iter it = json_iter(type); json_next(&it);)
			if (!type_is(it.value, "null"))
				return json_text(it.value, s->a);
		return STR("null");
	}
	if (json_present(json_get(schema, STR("properties"))) || json_present(json_get(schema, STR("required"))))
		return STR("object");
	if (json_present(json_get(schema, STR("items"))) || json_present(json_get(schema, STR("prefixItems"))))
		return STR("array");
	if (json_present(json_get(schema, STR("minimum"))) || json_present(json_get(schema, STR("maximum"))))
		return STR("number");
	return STR("string");
}

/* ---- strings ---- */

static bool format_write(struct json schema, struct json_w *w)
{
	static const struct {
		const char *format, *text;
	} formats[] = {
		{ "date-time", "2026-01-02T03:04:05Z" }, { "date", "2026-01-02" }, { "time", "03:04:05Z" }, { "duration", "P3DT4H" },
		{ "email", "someone@example.com" }, { "hostname", "host.example.com" }, { "ipv4", "192.0.2.1" }, { "ipv6", "2001:db8::1" },
		{ "uri", "https://example.com/page" }, { "uuid", "3f2504e0-4f89-41d3-9a0c-0305e82c3301" },
	};
	struct json format = json_get(schema, STR("format"));
	if (!json_is(format, JSON_STRING))
		return false;
	for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
		if (json_text_is(format, str_c(formats[i].format))) {
			jw_c(w, formats[i].text);
			return true;
		}
	}
	return false;
}

/* Lengths count characters; a cut by bytes could only make an accented word shorter still, so cut by characters. */
static struct str cut_characters(struct str s, int64_t max)
{
	size_t at = 0;
	for (int64_t n = 0; at < s.n; at++)
		if (((unsigned char)s.p[at] & 0xc0) != 0x80 && n++ == max)
			break;
	return str_sub(s, 0, at);
}

static int64_t characters(struct str s)
{
	int64_t n = 0;
	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	return n;
}

static void string_write(struct sim_schema *s, struct json schema, struct json_w *w)
{
	int64_t min = count_of(schema, STR("minLength"), 0, LENGTH_MAX), max = count_of(schema, STR("maxLength"), LENGTH_MAX, LENGTH_MAX);
	struct str word = sim_words_pick(s->words, s->rng);
	struct buf b;
	if (format_write(schema, w))
		return;
	buf_init(&b, s->a, SIZE_MAX);
	buf_str(&b, word);
	for (int64_t have = characters(word); have < min; have += 1 + characters(word)) {
		word = sim_words_pick(s->words, s->rng);
		buf_char(&b, ' ');
		buf_str(&b, word);
	}
	s->work += (uint32_t)(min / WORK_CHARACTERS);
	jw_str(w, cut_characters(buf_view(&b), max));
}

/* ---- numbers ---- */

struct range {
	double lo, hi, step;
	bool lo_open, hi_open;
};

static struct range range_of(struct json schema)
{
	struct range r = { .lo = -HUGE_VAL, .hi = HUGE_VAL };
	double v;
	if (number_of(schema, STR("minimum"), &v))
		r.lo = v;
	if (number_of(schema, STR("exclusiveMinimum"), &v) && v >= r.lo)
		r.lo = v, r.lo_open = true;
	if (number_of(schema, STR("maximum"), &v))
		r.hi = v;
	if (number_of(schema, STR("exclusiveMaximum"), &v) && v <= r.hi)
		r.hi = v, r.hi_open = true;
	if (number_of(schema, STR("multipleOf"), &v) && v > 0)
		r.step = v;
	if (isinf(r.lo))
		r.lo = isinf(r.hi) ? 1 : r.hi - 100;
	if (isinf(r.hi))
		r.hi = r.lo + 100;
	return r;
}

/* A multiple of step in the range, some way up from the bottom. */
static double multiple_pick(const struct range *r, double step, struct sim_rng *rng)
{
	double first = ceil(r->lo / step), last = floor(r->hi / step);
	if (r->lo_open && first * step <= r->lo)
		first++;
	if (r->hi_open && last * step >= r->hi)
		last--;
	double span = last - first;
	if (span >= 1)
		first += (double)sim_rng_below(rng, span < 100 ? (uint64_t)span + 1 : 100);
	return first * step;
}

static void number_write(struct sim_schema *s, struct json schema, struct json_w *w, bool integer)
{
	struct range r = range_of(schema);
	double v;
	char text[40];
	if (integer || r.step > 0)
		v = multiple_pick(&r, r.step > 0 ? r.step : 1, s->rng);
	else
		v = r.lo + (r.hi - r.lo) * (double)(1 + sim_rng_below(s->rng, 7)) / 8;
	if (fabs(v) < 9e15 && v == floor(v))
		snprintf(text, sizeof text, "%lld", (long long)v);
	else
		snprintf(text, sizeof text, "%.15g", v);
	jw_raw(w, str_c(text));
}

/* ---- arrays and objects ---- */

static bool seen_before(const struct buf *seen, struct str raw)
{
	for (size_t at = 0; (at = str_find(buf_view(seen), raw, at)) != SIZE_MAX; at++)
		if (seen->p[at - 1] == '\0' && seen->p[at + raw.n] == '\0')
			return true;
	return false;
}

/* An item unlike the ones before, found by trying: good enough for enums and words. `seen` keeps them between NULs. */
static void unique_write(struct sim_schema *s, struct json item, struct json_w *w, unsigned depth, struct buf *seen)
{
	struct buf b;
	for (int i = 0; i < TRIES; i++) {
		struct json_w one;
		buf_init(&b, s->a, SIZE_MAX);
		jw_init(&one, &b);
		value_write(s, item, &one, depth);
		if (!seen_before(seen, buf_view(&b)))
			break;
	}
	buf_str(seen, buf_view(&b));
	buf_char(seen, '\0');
	jw_raw(w, buf_view(&b));
}

static void array_write(struct sim_schema *s, struct json schema, struct json_w *w, unsigned depth)
{
	int64_t min = count_of(schema, STR("minItems"), 0, COUNT_MAX), max = count_of(schema, STR("maxItems"), COUNT_MAX, COUNT_MAX), n = 0;
	struct json item = json_get(schema, STR("items")), prefix = json_get(schema, STR("prefixItems"));
	bool unique = json_is(json_get(schema, STR("uniqueItems")), JSON_TRUE);
	int64_t want = depth > DEPTH_SHALLOW ? min : min > 2 ? min : max < 2 ? max : 2;
	struct buf seen;
	if (unique && min < 2)
		want = min > 1 || depth > DEPTH_SHALLOW ? min : max < 1 ? max : 1;
	buf_init(&seen, s->a, SIZE_MAX);
	buf_char(&seen, '\0');
	jw_array(w);
	for (struct json_iter it = json_iter(prefix); json_is(prefix, JSON_ARRAY) && json_next(&it); n++)
		value_write(s, it.value, w, depth + 1);
	if (json_is(item, JSON_FALSE))
		want = n;
	for (; n < want; n++) {
		if (unique)
			unique_write(s, item, w, depth + 1, &seen);
		else
			value_write(s, item, w, depth + 1);
	}
	jw_array_end(w);
}

static bool is_required(struct sim_schema *s, struct json schema, struct json key)
{
	struct json required = json_get(schema, STR("required"));
	for (struct json_iter it = json_iter(required); json_is(required, JSON_ARRAY) && json_next(&it);)
		if (json_text_is(it.value, json_text(key, s->a)))
			return true;
	return false;
}

static void properties_write(struct sim_schema *s, struct json schema, struct json earlier, struct json_w *w, unsigned depth)
{
	struct json properties = json_get(schema, STR("properties"));
	for (struct json_iter it = json_iter(properties); json_is(properties, JSON_OBJECT) && json_next(&it);) {
		struct str name = json_text(it.key, s->a);
		if (depth > DEPTH_SHALLOW && !is_required(s, schema, it.key))
			continue;
		if (json_present(json_get(json_get(earlier, STR("properties")), name)))
			continue;
		jw_key_str(w, name);
		value_write(s, it.value, w, depth + 1);
	}
}

static void object_write(struct sim_schema *s, struct json schema, struct json_w *w, unsigned depth)
{
	struct json all = json_get(schema, STR("allOf"));
	jw_object(w);
	properties_write(s, schema, none(), w, depth);
	for (struct json_iter it = json_iter(all); json_is(all, JSON_ARRAY) && json_next(&it);)
		properties_write(s, resolve(s, it.value), schema, w, depth);
	jw_object_end(w);
}

/* ---- one value ---- */

/* Of several schemas the first; deep down the one that may be null, which ends a recursion. */
static struct json choose(struct sim_schema *s, struct json options, unsigned depth)
{
	struct json first = none();
	for (struct json_iter it = json_iter(options); json_is(options, JSON_ARRAY) && json_next(&it);) {
		bool null = allows_null(s, it.value);
		if (depth > DEPTH_SHALLOW && null)
			return it.value;
		if (!json_present(first) || (depth <= DEPTH_SHALLOW && allows_null(s, first)))
			first = it.value;
	}
	return first;
}

static bool is_object_like(struct json schema)
{
	return json_present(json_get(schema, STR("properties"))) || type_is(json_get(schema, STR("type")), "object");
}

/* Schemas that point to others. Returns the one to write instead, missing when there is none. */
static struct json follow(struct sim_schema *s, struct json schema, unsigned depth)
{
	struct json any = json_get(schema, STR("anyOf")), one = json_get(schema, STR("oneOf")), all = json_get(schema, STR("allOf"));
	if (json_count(any) && !is_object_like(schema))
		return choose(s, any, depth);
	if (json_count(one) && !is_object_like(schema))
		return choose(s, one, depth);
	if (json_count(all) && !is_object_like(schema) && !is_object_like(resolve(s, json_at(all, 0))))
		return json_at(all, 0);
	return none();
}

static void typed_write(struct sim_schema *s, struct json schema, struct json_w *w, unsigned depth)
{
	bool merged = json_count(json_get(schema, STR("allOf"))) > 0;
	struct str type = merged ? STR("object") : type_pick(s, schema, depth);
	if (str_eq_c(type, "object"))
		object_write(s, schema, w, depth);
	else if (str_eq_c(type, "array"))
		array_write(s, schema, w, depth);
	else if (str_eq_c(type, "integer") || str_eq_c(type, "number"))
		number_write(s, schema, w, str_eq_c(type, "integer"));
	else if (str_eq_c(type, "boolean"))
		jw_bool(w, sim_rng_below(s->rng, 2) == 1);
	else if (str_eq_c(type, "null"))
		jw_null(w);
	else
		string_write(s, schema, w);
}

static void value_write(struct sim_schema *s, struct json schema, struct json_w *w, unsigned depth)
{
	schema = resolve(s, schema);
	struct json values = json_get(schema, STR("enum")), constant = json_get(schema, STR("const")), instead;
	if (depth > DEPTH_MAX || ++s->work > WORK_MAX) {
		jw_null(w);
	} else if (json_type(constant) != JSON_MISSING) {
		jw_raw(w, json_raw(constant));
	} else if (json_count(values)) {
		jw_raw(w, json_raw(json_at(values, (uint32_t)sim_rng_below(s->rng, json_count(values)))));
	} else if (json_present(instead = follow(s, schema, depth))) {
		value_write(s, instead, w, depth + 1);
	} else {
		typed_write(s, schema, w, depth);
	}
}

void sim_schema_write(struct sim_schema *s, struct json schema, struct json_w *w)
{
	if (json_is(schema, JSON_OBJECT)) {
		value_write(s, schema, w, 0);
		return;
	}
	jw_object(w);
	jw_object_end(w);
}
