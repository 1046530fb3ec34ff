/* SPDX-License-Identifier: Apache-2.0
 * Tickets. Ticket n lives in word n mod R as (n / R) in the upper 28 bits and its state below. A word is taken again only after
 * its ticket has ended, so a waiter that finds another generation in it knows that its own has ended well.
 *
 *      FREE --ticket_take--> QUEUED --ticket_wait--> WATCHED
 *                               \------ticket_end------/----> DONE --ticket_take--> QUEUED of the next generation
 *                                                      \----> REFUSED, SPOOLED (remembered until the word is taken again)
 */
#include "config.h"
#include "ledger/ticket.h"

#include "base/clock.h"
#include "base/err.h"

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FREE = 0, QUEUED, WATCHED, DONE, REFUSED, SPOOLED, STATE_BITS = 4, STATE_MASK = 15 };

struct tickets {
	uint64_t next; /* under the caller's lock */
	unsigned bits; /* log2 of R */
	_Atomic uint32_t words[];
};

struct tickets *tickets_new(unsigned outstanding)
{
	unsigned bits = 6;
	while ((1u << bits) < outstanding && bits < 24)
		bits++;
	struct tickets *t = calloc(1, sizeof *t + (sizeof t->words[0] << bits));
	BUG_ON(!t);
	t->bits = bits;
	t->next = 1;
	return t;
}

void tickets_free(struct tickets **t)
{
	free(*t);
	*t = NULL;
}

static _Atomic uint32_t *word_of(struct tickets *t, uint64_t ticket)
{
	return &t->words[ticket & ((UINT64_C(1) << t->bits) - 1)];
}

static uint32_t word_value(const struct tickets *t, uint64_t ticket, uint32_t state)
{
	return (uint32_t)(ticket >> t->bits) << STATE_BITS | state;
}

/* A word still in use is one whose entry waits for long: its number is passed over. */
uint64_t ticket_take(struct tickets *t)
{
	for (uint64_t tries = UINT64_C(1) << t->bits; tries; tries--) {
		uint64_t n = t->next++;
		uint32_t state = atomic_load(word_of(t, n)) & STATE_MASK;
		if (state == QUEUED || state == WATCHED)
			continue;
		atomic_store(word_of(t, n), word_value(t, n, QUEUED));
		return n;
	}
	return 0;
}

static void futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t us)
{
	struct timespec ts = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &ts, NULL, 0);
}

void ticket_end(struct tickets *t, uint64_t ticket, enum ticket_end how)
{
	if (!ticket)
		return;
	_Atomic uint32_t *word = word_of(t, ticket);
	uint32_t old = atomic_exchange(word, word_value(t, ticket, how == TICKET_REFUSED ? REFUSED : how == TICKET_SPOOLED ? SPOOLED : DONE));
	if ((old & STATE_MASK) == WATCHED)
		futex_wake(word);
}

static enum ticket_end ended_how(const struct tickets *t, uint64_t ticket, uint32_t now)
{
	if (now == word_value(t, ticket, SPOOLED))
		return TICKET_SPOOLED;
	return now == word_value(t, ticket, REFUSED) ? TICKET_REFUSED : TICKET_DONE;
}

enum ticket_end ticket_wait(struct tickets *t, uint64_t ticket, uint64_t until_us)
{
	_Atomic uint32_t *word = word_of(t, ticket);
	uint32_t queued = word_value(t, ticket, QUEUED), watched = word_value(t, ticket, WATCHED);
	if (!ticket)
		return TICKET_WAITING;
	for (;;) {
		uint32_t now = queued;
		if (!atomic_compare_exchange_strong(word, &now, watched) && now != watched)
			return ended_how(t, ticket, now);
		uint64_t now_us = clock_now_us();
		if (now_us >= until_us)
			return TICKET_WAITING;
		futex_wait(word, watched, until_us - now_us);
	}
}
