/* SPDX-License-Identifier: Apache-2.0
 * Private to the room: what adopt.c needs of ledger.c.
 */
#ifndef LEDGER_ROOM_H
#define LEDGER_ROOM_H

#include "ledger/ledger.h"

const struct ledger_options *ledger_options_of(const struct ledger *l);
void ledger_let_spool_go(struct ledger *l);

#endif
