/* SPDX-License-Identifier: Apache-2.0
 * How many calls each model string with fail_times has seen.
 */
#ifndef SIM_FAILS_H
#define SIM_FAILS_H

#include "base/err.h"

struct fails_entry {
	char *model; /* NULL: empty */
	size_t n;
	int64_t calls;
};

struct fails {
	struct fails_entry *entries; /* open addressing; capacity a power of two */
	size_t cap, count;
};

void fails_init(struct fails *f);
void fails_release(struct fails *f);
/* Count one more call of `model`. *before_r is how many came before it. ERR_INVALID past a million different strings. */
int fails_count(struct fails *f, struct str model, int64_t *before_r, struct err *err);

#endif
