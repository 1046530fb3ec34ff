/* SPDX-License-Identifier: Apache-2.0
 * Text under construction. Grows up to the maximum given at init; past it the overflow flag sticks and further
 * appends are dropped, so a writer checks once at the end. Always NUL-terminated (for libpq and curl).
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/str.h"
#include <stdarg.h>

struct arena;

struct buf {
	char *p;	 /* NULL until the first append */
	size_t n, cap;	 /* bytes used, bytes allocated */
	size_t max;	 /* n never exceeds it */
	struct arena *a; /* where the bytes live; NULL: the heap */
	bool overflow;
};

/* In an arena (nothing to release), or on the heap (buf_release). Allocates nothing yet. */
void buf_init(struct buf *b, struct arena *a, size_t max_bytes);
void buf_release(struct buf *b);
void buf_clear(struct buf *b); /* keeps the memory, resets the flag */

void buf_add(struct buf *b, const void *p, size_t n);
void buf_str(struct buf *b, struct str s);
void buf_c(struct buf *b, const char *c);
void buf_char(struct buf *b, char c);
void buf_u64(struct buf *b, uint64_t v);
void buf_i64(struct buf *b, int64_t v);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

/* Make room for `n` more bytes. Returns where to write (commit with b->n +=; then only buf_cstr puts the NUL), or
 * NULL on overflow. */
char *buf_reserve(struct buf *b, size_t n);
void buf_consume(struct buf *b, size_t n); /* drop n bytes from the front */

struct str buf_view(const struct buf *b); /* valid until the next append */
const char *buf_cstr(const struct buf *b); /* "" when empty */

#endif
