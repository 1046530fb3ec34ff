/* SPDX-License-Identifier: Apache-2.0
 * Private to the room: what the two readers (requests.c, usage.c) share.
 */
#ifndef LEDGER_READ_H
#define LEDGER_READ_H

#include "base/json.h"
#include "ledger/ledger.h"

/* A time as the smallest UUID of its millisecond or later: an id is at or after the time when it is not smaller. */
struct uuid read_uuid_at(int64_t wall_us);
#define READ_UUID_LAST ((struct uuid){ { 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF } })
/* "2026-11-21": the partition of an id. The last days PostgreSQL and the calendar agree on stand for those beyond. */
struct str read_day(struct arena *a, struct uuid id);
bool read_uuid_is_zero(struct uuid u);
void read_id(struct json_w *w, const char *name, const char *prefix, struct uuid u); /* zero: null */
/* "2xx" or "404" as a range of numbers; empty: all. */
int read_status(struct str s, int64_t *low_r, int64_t *high_r, struct err *err);

#endif
