/* SPDX-License-Identifier: Apache-2.0
 * Memory of one request: allocated forward, freed all at once. Allocation never returns NULL; exhaustion of the
 * machine aborts. Passing the cap still returns memory but sets a sticky flag that the stages test.
 * Threads: one arena belongs to one thread at a time.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/str.h"

struct arena;

struct arena *arena_new(size_t cap_bytes); /* keeps one block of 16 KiB across arena_clear */
void arena_free(struct arena **a);	   /* runs the clean-ups; accepts NULL */
void arena_clear(struct arena *a);	   /* runs the clean-ups in reverse order, ready for reuse */

void *arena_alloc(struct arena *a, size_t n) __attribute__((malloc, returns_nonnull)); /* aligned to 16, not zeroed */
void *arena_zalloc(struct arena *a, size_t n) __attribute__((malloc, returns_nonnull));
void *arena_array(struct arena *a, size_t count, size_t size) __attribute__((malloc, returns_nonnull)); /* zeroed; overflow aborts */
/* Grow or shrink: in place when `old` is the newest allocation, else a copy. `old` is gone afterwards. */
void *arena_grow(struct arena *a, void *old, size_t old_n, size_t new_n) __attribute__((returns_nonnull));
char *arena_cstr(struct arena *a, struct str s); /* NUL-terminated copy */
struct str arena_str(struct arena *a, struct str s);
struct str arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* NUL-terminated too */

/* Run fn(p) when the arena is cleared or freed: for what is not memory. */
void arena_on_clear(struct arena *a, void (*fn)(void *), void *p);
/* A secret that stands in the arena: its `n` bytes at `p` are zeroed at the clear, before the memory serves anybody else. */
void arena_wipe_on_clear(struct arena *a, void *p, size_t n);

void arena_set_cap(struct arena *a, size_t cap_bytes);
size_t arena_used(const struct arena *a);
bool arena_over(const struct arena *a); /* the cap was passed since the last clear */

#define ARENA_NEW(a, type) ((type *)arena_zalloc((a), sizeof(type)))

#endif
