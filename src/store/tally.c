/* SPDX-License-Identifier: Apache-2.0
 * The tally: sums of all processes of the host, added by relaxed atomics straight in the segment. There is nothing to fold when a
 * process dies and no process has a part of its own. Series are found by open addressing; a writer that is killed while it writes
 * the labels of a new one leaves that place unusable, never wrong.
 */
#include "config.h"
#include "store/segment.h"

#include "base/hash.h"

#include <stdatomic.h>
#include <string.h>

enum { FREE, WRITING, WHOLE, SUMS = sizeof(struct tally_sums) / sizeof(uint64_t), SPINS = 1000, PROBES = 64 };

const uint32_t tally_bounds_us[TALLY_BUCKETS] = { 50,	  100,	  250,	  500,	   1000,    2500,    5000,     10000,
						  25000, 100000, 250000, 1000000, 2500000, 10000000, 60000000, 600000000 };

/* Cut at a character, so that what is shown stays UTF-8. */
static void put_label(char out[TALLY_LABEL], struct str s)
{
	size_t n = s.n < TALLY_LABEL ? s.n : TALLY_LABEL - 1;
	while (n < s.n && n > 0 && ((unsigned char)s.p[n] & 0xc0) == 0x80)
		n--;
	if (n)
		memcpy(out, s.p, n);
}

static void fill_labels(struct tally_labels *l, const struct tally_event *e)
{
	put_label(l->endpoint, e->endpoint);
	put_label(l->provider, e->provider);
	put_label(l->model, e->model);
	put_label(l->error, e->error);
	l->status_class = e->status >= 100 && e->status < 600 ? (unsigned)e->status / 100 : 0;
}

static uint64_t hash_labels(const struct tally_labels *l)
{
	uint64_t h = hash_fnv(l->endpoint, strlen(l->endpoint));
	h = h * 31 ^ hash_fnv(l->provider, strlen(l->provider));
	h = h * 31 ^ hash_fnv(l->model, strlen(l->model));
	h = h * 31 ^ hash_fnv(l->error, strlen(l->error));
	return h * 31 ^ l->status_class;
}

static bool same_labels(const struct tally_labels *a, const struct tally_labels *b)
{
	return a->status_class == b->status_class && strcmp(a->endpoint, b->endpoint) == 0 && strcmp(a->provider, b->provider) == 0 &&
	       strcmp(a->model, b->model) == 0 && strcmp(a->error, b->error) == 0;
}

/* Whole after a moment's wait, or taken by ourselves and made whole; WRITING: its writer is slow or dead. */
static uint32_t make_whole(struct tally_series *s, const struct tally_labels *l, uint64_t hash)
{
	uint32_t state = FREE;
	if (atomic_compare_exchange_strong(&s->state, &state, WRITING)) {
		s->labels = *l;
		s->hash = hash;
		atomic_store_explicit(&s->state, WHOLE, memory_order_release);
		return WHOLE;
	}
	for (int i = 0; state == WRITING && i < SPINS; i++)
		state = atomic_load_explicit(&s->state, memory_order_acquire);
	return state;
}

static struct tally_series *find(struct tally *t, const struct tally_labels *l)
{
	uint64_t hash = hash_labels(l);
	for (uint64_t i = 0; i < PROBES; i++) {
		struct tally_series *s = &t->series[(hash + i) % TALLY_SERIES];
		uint32_t state = atomic_load_explicit(&s->state, memory_order_acquire);
		if (state != WHOLE)
			state = make_whole(s, l, hash);
		if (state == WHOLE && s->hash == hash && same_labels(&s->labels, l))
			return s;
	}
	return &t->series[TALLY_SERIES];
}

static void add(_Atomic uint64_t *to, uint64_t n)
{
	if (n)
		atomic_fetch_add_explicit(to, n, memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *from)
{
	return atomic_load_explicit(from, memory_order_relaxed);
}

static void add_stage(struct tally_stage_sums *s, int64_t us)
{
	unsigned i = 0;
	while (i < TALLY_BUCKETS && us > (int64_t)tally_bounds_us[i])
		i++;
	add(i < TALLY_BUCKETS ? &s->buckets[i] : &s->above, 1);
	add(&s->sum_us, (uint64_t)us);
}

void tally_add(struct tally *t, const struct tally_event *e)
{
	struct tally_labels labels = { .status_class = 0 };
	uint64_t sums[SUMS];
	fill_labels(&labels, e);
	struct tally_series *s = find(t, &labels);
	memcpy(sums, &e->sums, sizeof sums);
	for (unsigned i = 0; i < SUMS; i++)
		add(&s->sums[i], sums[i]);
	for (unsigned i = 0; i < TALLY_STAGES; i++)
		if (e->stage_us[i] >= 0)
			add_stage(&t->stages[i], e->stage_us[i]);
}

static void read_sums(const struct tally_series *s, struct tally_sums *into)
{
	uint64_t sums[SUMS];
	memcpy(sums, into, sizeof sums);
	for (unsigned i = 0; i < SUMS; i++)
		sums[i] += get(&s->sums[i]);
	memcpy(into, sums, sizeof sums);
}

static struct tally_row *row_of(struct tally_row *rows, unsigned n, const struct tally_labels *l)
{
	for (unsigned i = 0; i < n; i++)
		if (same_labels(&rows[i].labels, l))
			return &rows[i];
	return NULL;
}

/* Two processes may have made the same series while a third place between was being written: they are shown as one. */
unsigned tally_rows(const struct tally *t, struct tally_row *out, unsigned max)
{
	unsigned n = 0;
	for (unsigned i = 0; i <= TALLY_SERIES && n < max; i++) {
		const struct tally_series *s = &t->series[i];
		bool other = i == TALLY_SERIES && get(&s->sums[0]) > 0;
		if (!other && atomic_load_explicit(&s->state, memory_order_acquire) != WHOLE)
			continue;
		struct tally_labels labels = { "other", "other", "other", "other", 0 };
		if (!other)
			labels = s->labels;
		struct tally_row *row = row_of(out, n, &labels);
		if (!row) {
			row = &out[n++];
			*row = (struct tally_row){ .labels = labels };
		}
		read_sums(s, &row->sums);
	}
	return n;
}

uint64_t tally_overflowed(const struct tally *t)
{
	return get(&t->series[TALLY_SERIES].sums[0]);
}

void tally_histogram(const struct tally *t, enum tally_stage stage, struct tally_histogram *out_r)
{
	const struct tally_stage_sums *s = &t->stages[stage];
	*out_r = (struct tally_histogram){ .count = get(&s->above), .sum_us = get(&s->sum_us) };
	for (unsigned i = 0; i < TALLY_BUCKETS; i++)
		out_r->count += out_r->buckets[i] = get(&s->buckets[i]);
}
