/* SPDX-License-Identifier: Apache-2.0
 * Timers in a binary heap (Williams 1964): setting, moving and removing cost O(log n).
 */
#ifndef SIM_TIMER_H
#define SIM_TIMER_H

#include <stddef.h>
#include <stdint.h>

struct timer {
	uint64_t at_us;
	size_t place; /* 1-based in the heap; 0: not set */
};

struct timers {
	struct timer **heap; /* heap[0] is the earliest */
	size_t count, cap;
};

void timers_init(struct timers *ts);
void timers_release(struct timers *ts);
void timer_set(struct timers *ts, struct timer *t, uint64_t at_us); /* also moves one that is set */
void timer_cancel(struct timers *ts, struct timer *t);		    /* harmless when not set */
struct timer *timer_due(struct timers *ts, uint64_t now_us);	    /* take one whose time has come, or NULL */
uint64_t timers_next_us(const struct timers *ts);		    /* time of the earliest; UINT64_MAX when none is set */

#endif
