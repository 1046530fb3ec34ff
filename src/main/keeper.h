/* SPDX-License-Identifier: Apache-2.0
 * The keeper: one thread beside the serving ones, for what must be written now and then and must not stand in a caller's way.
 */
#ifndef MAIN_KEEPER_H
#define MAIN_KEEPER_H

struct catalog;
struct identity;
struct keeper;
struct ledger;

/* Start the thread. Returns NULL when none can be made: then nothing is written, and that is logged. */
struct keeper *keeper_start(struct identity *identity, struct catalog *catalog, struct ledger *ledger);
/* Write what is left, end the thread. Accepts NULL. */
void keeper_stop(struct keeper **k);

#endif
