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

struct segment_epoch *segment_epoch(struct segment *s);

#endif
