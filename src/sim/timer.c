/* SPDX-License-Identifier: Apache-2.0
 * The heap of timers. Each timer knows its place, so it can be moved without a search.
 */
#include "config.h"
#include "sim/timer.h"

#include "base/err.h"

void timers_init(struct timers *ts)
{
	*ts = (struct timers){ NULL, 0, 0 };
}

void timers_release(struct timers *ts)
{
	free(ts->heap);
	timers_init(ts);
}

static void put(struct timers *ts, size_t i, struct timer *t)
{
	ts->heap[i] = t;
	t->place = i + 1;
}

static void up(struct timers *ts, size_t i)
{
	struct timer *t = ts->heap[i];
	for (; i && ts->heap[(i - 1) / 2]->at_us > t->at_us; i = (i - 1) / 2)
		put(ts, i, ts->heap[(i - 1) / 2]);
	put(ts, i, t);
}

static void down(struct timers *ts, size_t i)
{
	struct timer *t = ts->heap[i];
	for (size_t child; (child = 2 * i + 1) < ts->count; i = child) {
		if (child + 1 < ts->count && ts->heap[child + 1]->at_us < ts->heap[child]->at_us)
			child++;
		if (ts->heap[child]->at_us >= t->at_us)
			break;
		put(ts, i, ts->heap[child]);
	}
	put(ts, i, t);
}

void timer_set(struct timers *ts, struct timer *t, uint64_t at_us)
{
	t->at_us = at_us;
	if (!t->place) {
		if (ts->count == ts->cap) {
			ts->cap = ts->cap ? ts->cap * 2 : 64;
			ts->heap = realloc(ts->heap, ts->cap * sizeof(struct timer *));
			BUG_ON(!ts->heap);
		}
		put(ts, ts->count++, t);
	}
	up(ts, t->place - 1);
	down(ts, t->place - 1);
}

void timer_cancel(struct timers *ts, struct timer *t)
{
	if (!t->place)
		return;
	size_t i = t->place - 1;
	struct timer *last = ts->heap[--ts->count];
	t->place = 0;
	if (last == t)
		return;
	put(ts, i, last);
	up(ts, i);
	down(ts, last->place - 1);
}

struct timer *timer_due(struct timers *ts, uint64_t now_us)
{
	if (!ts->count || ts->heap[0]->at_us > now_us)
		return NULL;
	struct timer *t = ts->heap[0];
	timer_cancel(ts, t);
	return t;
}

uint64_t timers_next_us(const struct timers *ts)
{
	return ts->count ? ts->heap[0]->at_us : UINT64_MAX;
}
