/* SPDX-License-Identifier: Apache-2.0
 * The JSON writer: what it has begun it ends, and every string comes out escaped and valid UTF-8, whatever came in.
 * A buffer that overflows says so itself (buf.overflow); nothing here looks at it.
 */
#include "config.h"
#include "base/json.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/json_scan.h"

enum { WRITE_DEPTH_MAX = 64 };

static void put_escape(struct buf *out, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	static const char short_form[] = "\"\"\\\\\bb\ff\nn\rr\tt";
	for (const char *s = short_form; *s; s += 2)
		if ((unsigned char)*s == c) {
			buf_add(out, (char[]){ '\\', s[1] }, 2);
			return;
		}
	buf_add(out, (char[]){ '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] }, 6);
}

/* Put what stands at p and is not plain; returns where the text goes on. */
static const unsigned char *put_odd(struct buf *out, const unsigned char *p, const unsigned char *end)
{
	if (*p < 0x80) {
		put_escape(out, *p);
		return p + 1;
	}
	size_t n = str_utf8_len(p, (size_t)(end - p));
	if (n)
		buf_add(out, p, n);
	else
		buf_add(out, "\xEF\xBF\xBD", 3);
	return p + (n ? n : 1);
}

void json_quote(struct buf *out, struct str s)
{
	const unsigned char *p = (const unsigned char *)s.p, *end = p ? p + s.n : p;
	buf_char(out, '"');
	while (p < end) {
		const unsigned char *odd = json_scan_plain(p, end);
		if (odd > p)
			buf_add(out, p, (size_t)(odd - p));
		p = odd < end ? put_odd(out, odd, end) : end;
	}
	buf_char(out, '"');
}

void jw_init(struct json_w *w, struct buf *out)
{
	*w = (struct json_w){ .out = out };
}

static bool in_object(const struct json_w *w)
{
	return w->depth && (w->object >> (w->depth - 1) & 1);
}

/* The comma, except for the first of its level. */
static void comma(struct json_w *w)
{
	uint64_t bit = (uint64_t)1 << (w->depth - 1);
	if (w->first & bit)
		w->first &= ~bit;
	else
		buf_char(w->out, ',');
}

/* Before every value. */
static void separate(struct json_w *w)
{
	BUG_ON(in_object(w) && !w->after_key);
	if (w->depth && !w->after_key)
		comma(w);
	w->after_key = false;
}

static void begin(struct json_w *w, char bracket)
{
	separate(w);
	BUG_ON(w->depth >= WRITE_DEPTH_MAX);
	uint64_t bit = (uint64_t)1 << w->depth++;
	w->first |= bit;
	if (bracket == '{')
		w->object |= bit;
	else
		w->object &= ~bit;
	buf_char(w->out, bracket);
}

static void end(struct json_w *w, char bracket)
{
	BUG_ON(!w->depth || w->after_key || in_object(w) != (bracket == '}'));
	w->depth--;
	buf_char(w->out, bracket);
}

void jw_object(struct json_w *w)
{
	begin(w, '{');
}

void jw_object_end(struct json_w *w)
{
	end(w, '}');
}

void jw_array(struct json_w *w)
{
	begin(w, '[');
}

void jw_array_end(struct json_w *w)
{
	end(w, ']');
}

void jw_key_str(struct json_w *w, struct str name)
{
	BUG_ON(!in_object(w) || w->after_key);
	comma(w);
	json_quote(w->out, name);
	buf_char(w->out, ':');
	w->after_key = true;
}

void jw_key(struct json_w *w, const char *name)
{
	jw_key_str(w, str_c(name));
}

void jw_raw(struct json_w *w, struct str json)
{
	separate(w);
	buf_str(w->out, json);
}

void jw_null(struct json_w *w)
{
	jw_raw(w, STR("null"));
}

void jw_bool(struct json_w *w, bool v)
{
	jw_raw(w, v ? STR("true") : STR("false"));
}

void jw_str(struct json_w *w, struct str s)
{
	if (!s.p) {
		jw_null(w);
		return;
	}
	separate(w);
	json_quote(w->out, s);
}

void jw_c(struct json_w *w, const char *s)
{
	jw_str(w, str_c(s));
}

void jw_i64(struct json_w *w, int64_t v)
{
	separate(w);
	buf_i64(w->out, v);
}

void jw_u64(struct json_w *w, uint64_t v)
{
	separate(w);
	buf_u64(w->out, v);
}

void jw_nusd(struct json_w *w, int64_t nusd)
{
	uint64_t amount = nusd < 0 ? 0 - (uint64_t)nusd : (uint64_t)nusd, part = amount % 1000000000u;
	char decimals[9];
	for (size_t i = sizeof decimals; i--; part /= 10)
		decimals[i] = (char)('0' + part % 10);
	separate(w);
	buf_c(w->out, nusd < 0 ? "\"-" : "\"");
	buf_u64(w->out, amount / 1000000000u);
	buf_char(w->out, '.');
	buf_add(w->out, decimals, sizeof decimals);
	buf_char(w->out, '"');
}

void jw_time(struct json_w *w, int64_t wall_us)
{
	char text[32];
	jw_c(w, wall_us ? clock_rfc3339(wall_us, text) : NULL);
}

void jw_m_str(struct json_w *w, const char *name, struct str s)
{
	jw_key(w, name);
	jw_str(w, s);
}

void jw_m_c(struct json_w *w, const char *name, const char *s)
{
	jw_key(w, name);
	jw_c(w, s);
}

void jw_m_i64(struct json_w *w, const char *name, int64_t v)
{
	jw_key(w, name);
	jw_i64(w, v);
}

void jw_m_bool(struct json_w *w, const char *name, bool v)
{
	jw_key(w, name);
	jw_bool(w, v);
}

void jw_m_time(struct json_w *w, const char *name, int64_t wall_us)
{
	jw_key(w, name);
	jw_time(w, wall_us);
}

void jw_m_nusd(struct json_w *w, const char *name, int64_t nusd)
{
	jw_key(w, name);
	jw_nusd(w, nusd);
}
