/* SPDX-License-Identifier: Apache-2.0
 * Private to the room: the prices that this process knows, a snapshot that is replaced when the epoch says "price".
 */
#ifndef LEDGER_PRICE_H
#define LEDGER_PRICE_H

#include "ledger/ledger.h"

struct ledger_prices;

struct ledger_prices *ledger_prices_new(struct pg_pool *pool, struct epoch *epoch);
void ledger_prices_free(struct ledger_prices **p);
struct ledger_prices *ledger_prices(struct ledger *l);

/* A snapshot out of rows in any order. Copies them. */
struct price_set;
struct price_set *price_set_new(const struct ledger_price *rows, size_t n);
void price_set_free(struct price_set **s);
const struct ledger_price *price_set_find(const struct price_set *s, struct uuid provider, struct str model, int64_t wall_us);

#endif
