/* SPDX-License-Identifier: Apache-2.0
 * The arena: a chain of blocks, newest first. The first block stays across clears; larger ones are given back.
 */
#include "config.h"
#include "base/arena.h"

#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first block is as large as a small call needs; a page of it that is never used is never there. */
enum { FIRST_BYTES = 32 * 1024, BLOCK_BYTES = 64 * 1024, ALIGN = 16 };

struct block {
	struct block *next;
	size_t cap, used;
	_Alignas(16) char bytes[];
};

struct cleanup {
	struct cleanup *next;
	void (*fn)(void *);
	void *p;
};

struct arena {
	struct block *newest;
	struct cleanup *cleanups;
	size_t cap, used;
	bool over;
};

static struct block *block_new(size_t cap, struct block *next)
{
	struct block *b = malloc(sizeof *b + cap);
	BUG_ON(!b);
	b->next = next;
	b->cap = cap;
	b->used = 0;
	return b;
}

struct arena *arena_new(size_t cap_bytes)
{
	struct arena *a = calloc(1, sizeof *a);
	BUG_ON(!a);
	a->cap = cap_bytes;
	a->newest = block_new(FIRST_BYTES - sizeof(struct block), NULL);
	return a;
}

static void run_cleanups(struct arena *a)
{
	while (a->cleanups) {
		struct cleanup *c = a->cleanups;
		a->cleanups = c->next;
		c->fn(c->p);
	}
}

void arena_clear(struct arena *a)
{
	run_cleanups(a);
	while (a->newest->next) {
		struct block *b = a->newest;
		a->newest = b->next;
		free(b);
	}
	a->newest->used = 0;
	a->used = 0;
	a->over = false;
}

void arena_free(struct arena **ap)
{
	struct arena *a = *ap;
	if (!a)
		return;
	arena_clear(a);
	free(a->newest);
	free(a);
	*ap = NULL;
}

static size_t round_up(size_t n)
{
	BUG_ON(n > SIZE_MAX / 2);
	return (n + (ALIGN - 1)) & ~(size_t)(ALIGN - 1);
}

void *arena_alloc(struct arena *a, size_t n)
{
	size_t need = round_up(n ? n : 1);
	struct block *b = a->newest;
	if (b->cap - b->used < need) {
		size_t cap = BLOCK_BYTES - sizeof(struct block);
		b = a->newest = block_new(need > cap ? need : cap, b);
	}
	void *p = b->bytes + b->used;
	b->used += need;
	a->used += need;
	if (a->used > a->cap)
		a->over = true;
	return p;
}

void *arena_zalloc(struct arena *a, size_t n)
{
	return memset(arena_alloc(a, n), 0, n);
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
	BUG_ON(size && count > SIZE_MAX / size);
	return arena_zalloc(a, count * size);
}

static void resize_newest(struct arena *a, size_t had, size_t need)
{
	a->newest->used += need - had;
	a->used += need - had;
	if (a->used > a->cap)
		a->over = true;
}

void *arena_grow(struct arena *a, void *old, size_t old_n, size_t new_n)
{
	struct block *b = a->newest;
	size_t had = round_up(old_n ? old_n : 1), need = round_up(new_n ? new_n : 1);
	bool last = (char *)old + had == b->bytes + b->used;
	if (last && (need <= had || b->cap - b->used >= need - had)) {
		resize_newest(a, had, need);
		return old;
	}
	/* Alone in its block (a body, a tape): the block itself grows, so that no old copy stays behind. */
	if (last && old == b->bytes && b->next) {
		b = realloc(b, sizeof *b + need);
		BUG_ON(!b);
		b->cap = need;
		a->newest = b;
		resize_newest(a, had, need);
		return b->bytes;
	}
	void *p = arena_alloc(a, new_n);
	memcpy(p, old, old_n < new_n ? old_n : new_n);
	return p;
}

char *arena_cstr(struct arena *a, struct str s)
{
	char *p = arena_alloc(a, s.n + 1);
	if (s.n)
		memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	return p;
}

struct str arena_str(struct arena *a, struct str s)
{
	return str_pn(arena_cstr(a, s), s.n);
}

struct str arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap, again;
	va_start(ap, fmt);
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	BUG_ON(n < 0);
	char *p = arena_alloc(a, (size_t)n + 1);
	vsnprintf(p, (size_t)n + 1, fmt, again);
	va_end(again);
	return str_pn(p, (size_t)n);
}

void arena_on_clear(struct arena *a, void (*fn)(void *), void *p)
{
	struct cleanup *c = arena_alloc(a, sizeof *c);
	*c = (struct cleanup){ a->cleanups, fn, p };
	a->cleanups = c;
}

struct wipe {
	void *p;
	size_t n;
};

static void wipe(void *p)
{
	const struct wipe *w = p;
	explicit_bzero(w->p, w->n);
}

void arena_wipe_on_clear(struct arena *a, void *p, size_t n)
{
	struct wipe *w = arena_alloc(a, sizeof *w);
	*w = (struct wipe){ p, n };
	arena_on_clear(a, wipe, w);
}

void arena_set_cap(struct arena *a, size_t cap_bytes)
{
	a->cap = cap_bytes;
}

size_t arena_used(const struct arena *a)
{
	return a->used;
}

bool arena_over(const struct arena *a)
{
	return a->over;
}
