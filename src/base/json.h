/* SPDX-License-Identifier: Apache-2.0
 * JSON (RFC 8259): a strict one-pass tape over the caller's own bytes, edits by splicing that copy all else byte for
 * byte, and a begin/end writer. Numbers stay text. Nothing is decoded until it is asked for.
 * The text must outlive the doc; the tape lives in the arena. Threads: a parsed doc may be read by many.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/err.h"
#include "base/str.h"

struct arena;
struct buf;

enum json_type { JSON_MISSING = 0, JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_node {	/* 16 bytes; see json_parse.c for the tape's order */
	uint32_t off;	/* first byte of the value in the text (strings: after the quote) */
	uint32_t len;	/* bytes (strings: without quotes) */
	uint32_t next;	/* index of the node after this value and all it holds */
	uint16_t count; /* members or elements, saturating at 65535 */
	uint8_t type;
	uint8_t flags;
};

struct json_doc {
	struct str text;
	const struct json_node *nodes;
	uint32_t count;
	bool has_nul;	    /* somewhere a \u0000 */
	bool has_surrogate; /* somewhere a lone surrogate escape (accepted only when asked for) */
};

/* A value in a doc, by value. A missing value answers JSON_MISSING everywhere, so look-ups chain. */
struct json {
	const struct json_doc *doc;
	uint32_t i;
};

struct json_limits {
	uint32_t depth;		/* nesting, 64 by default */
	uint32_t nodes;		/* values and member names together, 1,000,000 by default */
	bool lone_surrogates;	/* accept them: answers of providers only */
};
extern const struct json_limits json_limits_request;  /* 64, 1,000,000, surrogates refused */
extern const struct json_limits json_limits_upstream; /* 64, 4,000,000, surrogates kept */

/* Parse exactly one value. ERR_JSON names line and column (from 1, in characters) and byte (from 0):
 * "body is not JSON: line 3, column 14 (byte 57): expected ...", and err->param the place: "messages[3].content". */
int json_parse(struct json_doc *doc, struct arena *a, struct str text, const struct json_limits *limits, struct err *err);

struct json json_root(const struct json_doc *doc);
enum json_type json_type(struct json v);
static inline bool json_is(struct json v, enum json_type type) { return json_type(v) == type; }
bool json_present(struct json v); /* neither missing nor null */
const char *json_type_name(enum json_type type); /* "an object", "a string" ... for messages */

/* Member of an object by its decoded name; the first when repeated; missing when v is no object. */
struct json json_get(struct json v, struct str name);
/* The same, but a repeated name is ERR_JSON with param = name. Returns 1 found, 0 absent, -1. */
int json_get_once(struct json v, struct str name, struct json *out_r, struct err *err);
struct json json_at(struct json v, uint32_t index);
uint32_t json_count(struct json v); /* members or elements */

/* for (struct json_iter it = json_iter(v); json_next(&it);) ... it.key (objects: raw name, a JSON_STRING), it.value */
struct json_iter {
	struct json key, value;
	const struct json_doc *doc;
	uint32_t at, end, index;
	bool object;
};
struct json_iter json_iter(struct json v);
bool json_next(struct json_iter *it);

struct str json_raw(struct json v);  /* the value's bytes in the text, strings with their quotes; STR_NONE when missing */
/* Decoded text of a string; points into the text when it holds no escape, else into the arena. STR_NONE when no string. */
struct str json_text(struct json v, struct arena *a);
bool json_text_is(struct json v, struct str s); /* a string whose decoded text is s; allocates nothing */
bool json_has_nul(struct json v);		/* a string that holds \u0000 */
bool json_i64(struct json v, int64_t *out_r);	/* an integer exactly representable ("1.0" and "1e3" count as integers) */
bool json_double(struct json v, double *out_r); /* a finite number; independent of the locale */
bool json_bool(struct json v, bool *out_r);
bool json_integer(struct str number, int64_t *out_r); /* what json_i64 does, on a number's text */

/* Where a value (or a name) stands, for messages: "messages[3].content[0].type". Written into out, cut when longer. */
void json_path(struct json v, char *out, size_t out_n);

/* Edits: remembered by place, applied in one pass; everything else is copied byte for byte. */
struct json_edit {
	const struct json_doc *doc;
	struct arena *a;
	struct json_change *changes;
	uint32_t count, cap;
};
void json_edit_init(struct json_edit *e, const struct json_doc *doc, struct arena *a);
/* Each takes the new value as JSON text, which must outlive the apply, as must the name. Of several changes of one place the
 * last counts; one inside a value that is itself replaced or removed falls away. `object` must be one. */
void json_edit_replace(struct json_edit *e, struct json v, struct str raw);
void json_edit_set(struct json_edit *e, struct json object, struct str name, struct str raw); /* replaces every occurrence, or appends */
void json_edit_remove(struct json_edit *e, struct json object, struct str name);	       /* every occurrence, with its comma */
void json_edit_apply(const struct json_edit *e, struct buf *out);

/* Writer. Commas and colons come by themselves; nesting beyond 64, a wrong end, or a value
 * in an object without its name is a BUG. */
struct json_w {
	struct buf *out;
	uint64_t first;	 /* bit per depth: nothing written at this level yet */
	uint64_t object; /* bit per depth: an object, not an array */
	unsigned depth;
	bool after_key;
};
void jw_init(struct json_w *w, struct buf *out);
void jw_object(struct json_w *w);
void jw_object_end(struct json_w *w);
void jw_array(struct json_w *w);
void jw_array_end(struct json_w *w);
void jw_key(struct json_w *w, const char *name);
void jw_key_str(struct json_w *w, struct str name);
void jw_str(struct json_w *w, struct str s); /* invalid UTF-8 becomes U+FFFD; STR_NONE writes null */
void jw_c(struct json_w *w, const char *s);  /* NULL writes null */
void jw_i64(struct json_w *w, int64_t v);
void jw_u64(struct json_w *w, uint64_t v);
void jw_bool(struct json_w *w, bool v);
void jw_null(struct json_w *w);
void jw_raw(struct json_w *w, struct str json); /* already JSON */
/* Decimal strings of money: nano-dollars as "0.000123450" (nine decimals, trailing zeros kept). */
void jw_nusd(struct json_w *w, int64_t nusd);
void jw_time(struct json_w *w, int64_t wall_us); /* RFC 3339; 0 writes null */
/* name and value at once */
void jw_m_str(struct json_w *w, const char *name, struct str s);
void jw_m_c(struct json_w *w, const char *name, const char *s);
void jw_m_i64(struct json_w *w, const char *name, int64_t v);
void jw_m_bool(struct json_w *w, const char *name, bool v);
void jw_m_time(struct json_w *w, const char *name, int64_t wall_us);
void jw_m_nusd(struct json_w *w, const char *name, int64_t nusd);

/* `s` as a JSON string with quotes, appended. */
void json_quote(struct buf *out, struct str s);

#endif
