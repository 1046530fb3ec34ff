/* SPDX-License-Identifier: Apache-2.0
 * Private to the room: the words of the segment that the epoch shares between the processes of a host.
 */
#ifndef STORE_SEGMENT_H
#define STORE_SEGMENT_H

#include "store/store.h"

#include <stdatomic.h>

/* Times are monotonic microseconds, the same for all processes of a boot. */
struct segment_epoch {
	_Atomic uint64_t epoch;	      /* the newest published or read on this host */
	_Atomic uint64_t verified_us; /* when the last successful poll was sent; what it saw is in `epoch` */
	_Atomic uint64_t checked_us;  /* when the last poll was begun, successful or not */
	_Atomic uint64_t ticket_us;   /* taken at; 0: free */
};

/* The tally as it stands in the segment. A series is free, being written, or whole; once whole its labels never change. */
struct tally_series {
	_Atomic uint32_t state;
	uint32_t spare;
	uint64_t hash;
	struct tally_labels labels;
	_Atomic uint64_t sums[6]; /* in the order of struct tally_sums */
};
struct tally_stage_sums {
	_Alignas(64) _Atomic uint64_t buckets[TALLY_BUCKETS];
	_Atomic uint64_t above, sum_us;
};
struct tally {
	struct tally_stage_sums stages[TALLY_STAGES];
	struct tally_series series[TALLY_SERIES + 1]; /* the last one is `other` */
};

struct segment_epoch *segment_epoch(struct segment *s);

#endif
