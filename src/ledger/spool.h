/* SPDX-License-Identifier: Apache-2.0
 * Private to the room: the spool. Entries that PostgreSQL cannot take now stand in an append-only file of the state directory,
 * checksummed and fsynced; they are written to PostgreSQL later by whoever adopts the file, by the same statement, so that a replay counts
 * once. A credit for one row of the greatest size is taken before a call is admitted, and room on the disk is reserved for it.
 */
#ifndef LEDGER_SPOOL_H
#define LEDGER_SPOOL_H

#include "base/err.h"
#include "base/rand.h"

struct record;
struct spool;

#define SPOOL_KIND "spool"
enum { SPOOL_ROW_MAX = 64 * 1024 }; /* of one entry, its frame included; record_new keeps entries below */

/* max_bytes: of the file, reservation included; at a time chunk_bytes are reserved. */
struct spool *spool_new(const char *dir, uint64_t max_bytes, uint64_t chunk_bytes);
void spool_free(struct spool **s); /* an empty file goes, else it stays for who adopts it */
/* Room for one more row, whatever happens: 0, or -1 ERR_BUSY (spool full, disk full, disk broken; retry_after_ms set). Makes the file at the first
 * call; a system call only when a new chunk is reserved. Threads: any. */
int spool_credit(struct spool *s, struct err *err);
void spool_credit_back(struct spool *s);
/* Would spool_credit succeed? Takes nothing. */
bool spool_has_room(const struct spool *s);
/* Append records and fsync. All of them stand there afterwards, or none (-1 ERR_IO). */
int spool_append(struct spool *s, struct record *const *records, unsigned n, struct err *err);
/* Leave what stands in the file to be adopted; the next entries get a new one. */
void spool_let_go(struct spool *s);
struct spool_stats { uint64_t bytes, credits; unsigned records; bool failing; };
void spool_stats(const struct spool *s, struct spool_stats *out_r);

/* Reading a file's bytes from *at on. Returns the next record (heap, record_free), or NULL at the end. Damaged stretches are passed over
 * and counted once each; a torn tail is one. */
struct spool_counts { unsigned records, damaged; uint64_t first_damage; int pid; };
int spool_read_begin(struct str file, size_t *at_r, struct spool_counts *counts_r, struct err *err); /* ERR_INVALID: no spool file */
struct record *spool_read(struct str file, size_t *at, struct spool_counts *counts);

#endif
