/* SPDX-License-Identifier: Apache-2.0
 * What a dead process left in the state directory: any bytes are read without harm, and every row made of them stays within its bounds.
 * The first byte chooses the kind of file. The head is put right, so that the fuzzer need not find it, unless the byte says not to.
 */
#include "config.h"
#include "ledger/inflight.h"

#include "base/arena.h"
#include "ledger/record.h"
#include "ledger/spool.h"

#include <string.h>

static void on_entry(void *u, const struct ledger_entry *e)
{
	unsigned *n = u;
	struct record *r = record_new(e);
	BUG_ON(r->request.n == 0 || r->request.n + r->attempts.n > SPOOL_ROW_MAX);
	record_free(&r);
	(*n)++;
}

static void read_flights(struct str file, struct arena *a)
{
	struct inflight_counts c;
	unsigned n = 0;
	if (inflight_read(file.p, file.n, a, on_entry, &n, &c, NULL) == 0)
		BUG_ON(n != c.registered + c.sent + c.settled);
}

static void read_spool(struct str file)
{
	struct spool_counts c;
	size_t at, bytes = 0;
	unsigned n = 0;
	if (spool_read_begin(file, &at, &c, NULL) < 0)
		return;
	for (struct record *r; (r = spool_read(file, &at, &c)); n++) {
		bytes += r->request.n + r->attempts.n;
		record_free(&r);
	}
	BUG_ON(n != c.records || bytes > file.n || at > file.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct arena *a;
	if (n < 1)
		return 0;
	if (!a)
		a = arena_new(SIZE_MAX);
	struct str file = arena_str(a, str_pn((const char *)data + 1, n - 1)); /* aligned as a mapping is */
	if (data[0] & 1)
		read_flights(file, a);
	else
		read_spool(file);
	arena_clear(a);
	return 0;
}
