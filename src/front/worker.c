/* SPDX-License-Identifier: Apache-2.0
 * Serving threads: made when a request is taken and nobody is left to take the next, gone after a minute without work.
 * The kernel wakes the one that went to sleep last, so few stay warm and the rest time out.
 */
#include "config.h"
#include "front/private.h"

#include "base/log.h"

#include <errno.h>
#include <sys/epoll.h>

enum { STACK_BYTES = 256 * 1024, SANITIZED_STACK_BYTES = 4 * 1024 * 1024, SCRATCH_BYTES = 32 * 1024, KEEP = 4 };

/* Who wants to leave counts as idle no more. The last one that waits stays, however long: when all others serve long streams, only it
 * hears of the next request. */
static bool may_leave(struct gate *g)
{
	pthread_mutex_lock(&g->workers_lock);
	bool leave = g->threads > KEEP && g->idle > 0;
	if (leave)
		g->threads--;
	pthread_mutex_unlock(&g->workers_lock);
	return leave;
}

static void wait_and_work(struct worker *w, bool *leave_r)
{
	struct gate *g = w->g;
	struct epoll_event ev;
	struct conn *c;
	int n = epoll_wait(g->epoll_fd, &ev, 1, (int)g->o.thread_idle_ms);
	g->idle--;
	*leave_r = false;
	if (n == 0)
		*leave_r = may_leave(g);
	else if (n < 0 || ev.data.u64 == EVENT_STOP)
		;
	else if (ev.data.u64 == EVENT_LISTEN)
		listen_accept(g, w);
	else if (slots_claim(g, ev.data.u64, &c))
		intake_run(w, c);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct gate *g = w->g;
	bool left = false;
	while (!left && !g->stopping) { /* whoever made this thread counted it as idle already */
		wait_and_work(w, &left);
		g->idle++;
	}
	g->idle--;
	if (w->slot && w->slot_free)
		w->slot_free(w->slot);
	w->slot = NULL;
	exchange_release(&w->spare, NULL);
	pthread_mutex_lock(&g->workers_lock);
	if (!left)
		g->threads--;
	w->next = g->ended;
	g->ended = w;
	pthread_mutex_unlock(&g->workers_lock);
	gate_wake(g);
	return NULL;
}

static void worker_free(struct worker *w)
{
	writer_release(&w->writer);
	free(w->scratch);
	free(w);
}

static struct worker *worker_new(struct gate *g, struct err *err)
{
	struct worker *w = calloc(1, sizeof *w);
	BUG_ON(!w);
	w->g = g;
	w->scratch_bytes = SCRATCH_BYTES;
	w->scratch = malloc(SCRATCH_BYTES);
	BUG_ON(!w->scratch);
	if (!writer_init(&w->writer, err))
		return w;
	free(w->scratch);
	free(w);
	return NULL;
}

static int start(struct worker *w)
{
	size_t stack = w->g->o.stack_bytes ? w->g->o.stack_bytes : STACK_BYTES;
	pthread_attr_t attr;
#ifdef HG_SANITIZED
	stack = SANITIZED_STACK_BYTES;
#endif
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, stack);
	int rc = pthread_create(&w->thread, &attr, worker_main, w);
	pthread_attr_destroy(&attr);
	return rc;
}

int worker_add(struct gate *g)
{
	struct err err = { 0 };
	int rc = 0;
	pthread_mutex_lock(&g->workers_lock);
	if (g->threads < g->o.threads && !g->stopping) {
		struct worker *w = worker_new(g, &err);
		g->threads++;
		g->idle++;
		if (!w || (rc = start(w)) != 0) {
			g->threads--;
			g->idle--;
			if (w)
				worker_free(w);
			rc = -1;
		}
	}
	if (g->threads > g->peak_threads)
		g->peak_threads = g->threads;
	pthread_mutex_unlock(&g->workers_lock);
	if (rc)
		gate_complain(g, NULL, "no further serving thread can be started");
	return rc;
}

void worker_reap(struct gate *g)
{
	pthread_mutex_lock(&g->workers_lock);
	struct worker *w = g->ended;
	g->ended = NULL;
	pthread_mutex_unlock(&g->workers_lock);
	while (w) {
		struct worker *next = w->next;
		pthread_join(w->thread, NULL);
		worker_free(w);
		w = next;
	}
}
