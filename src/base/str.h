/* SPDX-License-Identifier: Apache-2.0
 * Text as a pointer and a length, for reading. Never owns its bytes, never NUL-terminated by promise.
 * Order is always pointer, then length. Text that must end in NUL is built in a `struct buf` or an arena.
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct str {
	const char *p;
	size_t n;
};

#define STR(literal) ((struct str){ "" literal, sizeof(literal) - 1 })
#define STR_NONE ((struct str){ NULL, 0 })
#define STR_FMT "%.*s" /* with STR_ARG: the one pair that prints a str */
#define STR_ARG(s) (int)(s).n, (s).p

struct str str_c(const char *c); /* NULL gives STR_NONE */
static inline struct str str_pn(const char *p, size_t n) { return (struct str){ p, n }; }

bool str_eq(struct str a, struct str b);
bool str_eq_c(struct str a, const char *c);
bool str_ieq(struct str a, struct str b); /* ASCII case only, no locale */
bool str_starts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
bool str_istarts(struct str s, struct str prefix);
int str_cmp(struct str a, struct str b); /* byte order, shorter first: <0, 0, >0 */

/* Find `c` (or `needle`) from `from` on. Returns the offset, or SIZE_MAX. */
size_t str_find_char(struct str s, char c, size_t from);
size_t str_find(struct str s, struct str needle, size_t from);

struct str str_sub(struct str s, size_t from, size_t n); /* clipped to s */
struct str str_trim(struct str s);			 /* spaces and tabs at both ends */

/* Take the part of *rest before `sep` and move *rest past it. Returns false when *rest was exhausted. */
bool str_split(struct str *rest, char sep, struct str *part_r);

/* Whole text as a decimal number, no sign for u64, no spaces, overflow refused. Returns false when it is none. */
bool str_u64(struct str s, uint64_t *value_r);
bool str_i64(struct str s, int64_t *value_r);

/* True when all of `s` is well-formed UTF-8 (RFC 3629: no overlongs, surrogates, or beyond U+10FFFF). */
bool str_is_utf8(struct str s);
/* Length of the well-formed sequence at p, of at least one byte; 0 when there is none. */
size_t str_utf8_len(const unsigned char *p, size_t n);

/* Match `s` against a pattern in which `*` stands for any run of bytes. */
bool str_glob(struct str pattern, struct str s);

#endif
