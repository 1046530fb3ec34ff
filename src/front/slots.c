/* SPDX-License-Identifier: Apache-2.0
 * The slot table: who owns a connection, and what wakes it. See the diagram in private.h.
 * An event carries index and generation, so one that was fetched before its connection was closed finds another
 * generation and is dropped; a reused descriptor number is never mistaken for the old one.
 */
#include "config.h"
#include "front/private.h"

#include "base/arena.h"
#include "base/clock.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static uint64_t state_make(uint64_t generation, enum slot_state s) { return generation << 8 | (uint64_t)s; }
static enum slot_state state_of(uint64_t v) { return (enum slot_state)(v & 0xff); }
static uint64_t generation_of(uint64_t v) { return v >> 8; }

int slots_init(struct gate *g, struct err *err)
{
	g->slots = calloc(g->o.connections, sizeof *g->slots);
	if (!g->slots)
		return err_set(err, ERR_INTERNAL, "no memory for %u connections", g->o.connections);
	pthread_mutex_init(&g->slots_lock, NULL);
	for (unsigned i = g->o.connections; i-- > 0;) {
		g->slots[i].index = i;
		g->slots[i].fd = -1;
		g->slots[i].next_free = g->free_list;
		g->free_list = &g->slots[i];
	}
	return 0;
}

void slots_free(struct gate *g)
{
	for (unsigned i = 0; g->slots && i < g->slots_high; i++)
		if (state_of(g->slots[i].state) != SLOT_FREE)
			slots_close(g, &g->slots[i]);
	free(g->slots);
	pthread_mutex_destroy(&g->slots_lock);
}

struct conn *slots_take(struct gate *g)
{
	pthread_mutex_lock(&g->slots_lock);
	struct conn *c = g->free_list;
	if (c) {
		g->free_list = c->next_free;
		if (c->index >= g->slots_high)
			g->slots_high = c->index + 1;
	}
	pthread_mutex_unlock(&g->slots_lock);
	if (!c)
		return NULL;
	c->fd = -1;
	c->registered = c->used = c->late = false;
	c->phase = CONN_IDLE;
	c->begun_us = c->served_us = clock_now_us();
	c->drained = 0;
	c->x = NULL;
	record_init(&c->parser);
	c->state = state_make(generation_of(c->state), SLOT_OWNED);
	return c;
}

void slots_close(struct gate *g, struct conn *c)
{
	exchange_release(&c->x, NULL);
	record_release(&c->parser);
	int fd = c->fd;
	c->fd = -1;
	c->state = state_make((generation_of(c->state) + 1) & 0xffffffff, SLOT_FREE);
	pthread_mutex_lock(&g->slots_lock);
	c->next_free = g->free_list;
	g->free_list = c;
	pthread_mutex_unlock(&g->slots_lock);
	if (fd >= 0)
		close(fd); /* leaves the epoll set with it */
}

bool slots_claim(struct gate *g, uint64_t data, struct conn **c_r)
{
	struct conn *c = &g->slots[data & 0xffffffff];
	uint64_t generation = data >> 32;
	uint64_t seen = state_make(generation, SLOT_PARKED);
	while (!atomic_compare_exchange_strong(&c->state, &seen, state_make(generation, SLOT_OWNED))) {
		if (generation_of(seen) != generation || state_of(seen) == SLOT_FREE || state_of(seen) == SLOT_OWNED_EVENT)
			return false;
		if (state_of(seen) == SLOT_PARKED)
			continue;
		if (atomic_compare_exchange_strong(&c->state, &seen, state_make(generation, SLOT_OWNED_EVENT)))
			return false;
		seen = state_make(generation, SLOT_PARKED);
	}
	g->parked--;
	*c_r = c;
	return true;
}

static bool arm(struct gate *g, struct conn *c, uint32_t events)
{
	struct epoll_event ev = { .events = events | EPOLLRDHUP | EPOLLONESHOT,
				  .data.u64 = generation_of(c->state) << 32 | c->index };
	int op = c->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	c->registered = true;
	return epoll_ctl(g->epoll_fd, op, c->fd, &ev) == 0;
}

/* One more for the main thread to watch. */
static void publish(struct gate *g)
{
	g->parked++;
	if (g->dozing && atomic_exchange(&g->dozing, false))
		gate_wake(g);
}

/* OWNED -> PARKED, or take note of the event that came while arming. */
static bool release(struct gate *g, struct conn *c)
{
	uint64_t generation = generation_of(c->state);
	uint64_t seen = state_make(generation, SLOT_OWNED);
	publish(g);
	if (atomic_compare_exchange_strong(&c->state, &seen, state_make(generation, SLOT_PARKED)))
		return true;
	g->parked--;
	c->state = state_make(generation, SLOT_OWNED);
	return false;
}

bool slots_park(struct gate *g, struct conn *c, uint64_t deadline_us)
{
	c->deadline_us = deadline_us;
	if (!arm(g, c, EPOLLIN)) {
		slots_close(g, c); /* the kernel has no memory for one more watch */
		return true;
	}
	return release(g, c);
}

/* Published before it is armed: until it is in the set no event can come for it, so whoever is woken at once finds it parked. The other
 * way round that thread comes too early, turns back, and the owner has to arm again, for as long as they keep pace. */
void slots_leave(struct gate *g, struct conn *c, uint64_t deadline_us)
{
	const uint64_t generation = generation_of(c->state);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, .data.u64 = generation << 32 | c->index };
	uint64_t seen = state_make(generation, SLOT_PARKED);
	const int fd = c->fd;
	BUG_ON(c->registered);
	c->registered = true;
	c->deadline_us = deadline_us;
	publish(g);
	c->state = seen;
	/* It may be another's from here on. */
	if (epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0 || !atomic_compare_exchange_strong(&c->state, &seen, state_make(generation, SLOT_OWNED)))
		return;
	g->parked--;
	slots_close(g, c); /* the kernel has no memory for one more watch */
}

/* Too late with a body: a serving thread has to answer 408. A socket that can be written wakes one at once. */
static void wake_late(struct gate *g, struct conn *c)
{
	c->late = true;
	c->deadline_us = UINT64_MAX;
	do {
		if (!arm(g, c, EPOLLIN | EPOLLOUT)) {
			slots_close(g, c);
			return;
		}
	} while (!release(g, c));
}

static bool deadline_passed(struct gate *g, struct conn *c, uint64_t now_us)
{
	if (now_us >= c->deadline_us)
		return true;
	/* Draining: idle connections go when nothing else is under way and they have been quiet for a second. */
	return g->draining && !g->busy && c->phase == CONN_IDLE && now_us >= c->served_us + 1000000 &&
	       now_us >= g->drain_begun_us + 1000000;
}

static void sweep_one(struct gate *g, struct conn *c, uint64_t now_us)
{
	uint64_t seen = c->state;
	bool late = now_us >= c->deadline_us || g->draining;
	if (state_of(seen) != SLOT_PARKED || !late)
		return;
	if (!atomic_compare_exchange_strong(&c->state, &seen, state_make(generation_of(seen), SLOT_OWNED)))
		return;
	g->parked--;
	if (!deadline_passed(g, c, now_us)) { /* it changed hands meanwhile, or the drain lets it be */
		while (!release(g, c)) {
			if (!arm(g, c, EPOLLIN)) {
				slots_close(g, c);
				return;
			}
		}
		return;
	}
	if (c->phase == CONN_BODY || c->phase == CONN_DRAIN)
		wake_late(g, c);
	else
		slots_close(g, c);
}

void slots_sweep(struct gate *g, uint64_t now_us)
{
	unsigned high = g->slots_high;
	for (unsigned i = 0; i < high; i++)
		sweep_one(g, &g->slots[i], now_us);
}

bool slots_quiet(struct gate *g)
{
	unsigned high = g->slots_high;
	for (unsigned i = 0; i < high; i++)
		if (state_of(g->slots[i].state) != SLOT_FREE)
			return false;
	return true;
}
