/* SPDX-License-Identifier: Apache-2.0
 * Prices as `price` and `apply` share them. Private to the room.
 */
#ifndef CTL_CTL_PRICE_H
#define CTL_CTL_PRICE_H

#include "ctl/ctl_room.h"
#include "ledger/ledger.h"

struct price_book { struct ledger_price *all; unsigned n; };
int price_stored(struct ctl *c, struct price_book *b, struct err *err);
/* "created", "changed" or "unchanged", against the newest version stored. */
const char *price_change(const struct price_book *b, const struct ledger_price_new *in);
int price_put(struct ctl *c, const struct price_book *b, const struct ledger_price_new *in, bool dry_run, const char **change_r, struct err *err);

/* A JSON number of dollars per token, as text, in nano-dollars per million tokens; what is left below one is rounded half to even.
 * False when it is negative or does not fit. */
bool price_per_million(struct str number, int64_t *nusd_r);

#endif
