/* SPDX-License-Identifier: Apache-2.0
 * Private to the room: the in-flight file. A fixed table of attempts that a process has under way, mapped from a file of the state
 * directory, never fsynced: it survives kill -9, not the loss of the host. What stands in it is enough for a whole ledger row.
 *
 *      FREE --begin--> REGISTERED --sent--> SENT --settled--> SETTLED --end (committed, or safe in the spool)--> FREE
 *           `TAKEN` while begin writes
 *
 * Each word of the state is stored after what it promises, so a process that dies between two stores leaves the state before.
 */
#ifndef LEDGER_INFLIGHT_H
#define LEDGER_INFLIGHT_H

#include "ledger/ledger.h"

struct arena;
struct inflight;

#define INFLIGHT_KIND "inflight"
struct inflight *inflight_new(const char *dir, unsigned slots);
void inflight_free(struct inflight **f); /* removes the file when nothing is left in it */
/* A place of the table, filled from the entry, its first attempt and the price (NULL: none). ERR_BUSY when all are taken, ERR_IO when there can be no
 * file. The file is made at the first call. Threads: any. No system call after the first. */
int inflight_begin(struct inflight *f, const struct ledger_entry *e, const struct ledger_price *price, struct ledger_flight **out_r, struct err *err);
/* The final figures: what an adopter then writes is what the process would have written (but for the route and the stages). */
void inflight_settled(struct ledger_flight *s, const struct ledger_entry *e);
void inflight_end(struct inflight *f, struct ledger_flight *s);
unsigned inflight_used(const struct inflight *f);

/* Read a file that a dead process left, `bytes` of it: calls fn for each attempt in it. Entries live in `a`. Damaged places are left out and
 * counted. ERR_INVALID when it is no such file. */
struct inflight_counts { unsigned registered, sent, settled, damaged; int64_t oldest_us; /* wall; 0: none */ int pid; };
int inflight_read(const void *bytes, size_t n, struct arena *a, void (*fn)(void *u, const struct ledger_entry *e), void *u, struct inflight_counts *counts_r,
		  struct err *err);

#endif
