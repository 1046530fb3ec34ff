/* SPDX-License-Identifier: Apache-2.0
 * The two clocks. Durations and deadlines use the monotonic one, records the wall clock. Tests may set both.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/str.h"

uint64_t clock_now_us(void);  /* monotonic microseconds; the same for all processes of one host and boot */
int64_t clock_wall_us(void);  /* microseconds since 1970-01-01 UTC */

/* RFC 3339 with milliseconds and Z: "2026-11-21T05:30:01.123Z". `out` takes 32 bytes. Returns out. */
char *clock_rfc3339(int64_t wall_us, char out[32]);
/* Parse RFC 3339 (offset or Z, optional fraction). Returns false when it is none. */
bool clock_parse_rfc3339(struct str s, int64_t *wall_us_r);

/* For unit tests only: both clocks stand at these values until clock_fake_stop. */
void clock_fake(uint64_t now_us, int64_t wall_us);
void clock_fake_stop(void);

#endif
