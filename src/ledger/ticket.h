/* SPDX-License-Identifier: Apache-2.0
 * Private to the room: who waits for which entry. A ring of 32-bit words, one per ticket; each waiter sleeps on its own word
 * (futex), so a commit wakes exactly the callers whose entries it wrote.
 */
#ifndef LEDGER_TICKET_H
#define LEDGER_TICKET_H

#include "base/str.h"

enum ticket_end { TICKET_WAITING = 0, TICKET_DONE, TICKET_REFUSED, TICKET_SPOOLED };
struct tickets;

struct tickets *tickets_new(unsigned outstanding); /* room for at least so many at once */
void tickets_free(struct tickets **t);
/* A number above 0; 0 when the ring is full (then nobody can wait for this entry). Callers serialize. */
uint64_t ticket_take(struct tickets *t);
/* Told once per ticket; wakes its waiter. Any thread. A ticket of 0 is ignored. */
void ticket_end(struct tickets *t, uint64_t ticket, enum ticket_end how);
/* Wait until until_us (monotonic) at most. Any thread, any number of times. */
enum ticket_end ticket_wait(struct tickets *t, uint64_t ticket, uint64_t until_us);

#endif
