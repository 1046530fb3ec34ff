/* SPDX-License-Identifier: Apache-2.0
 * The gate's life and its main thread, which never serves: it sweeps deadlines, takes signals, resumes accepting, joins
 * threads that ended, and drains.
 */
#include "config.h"
#include "front/private.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SWEEP_US = 100 * 1000, TICK_US = 1000 * 1000, HURRY_US = 5 * 1000 * 1000, ABANDON_US = 2 * 1000 * 1000, FIRST_THREADS = 2 };

static unsigned or_default(unsigned v, unsigned fallback) { return v ? v : fallback; }

static void fill_options(struct gate_options *o)
{
	o->threads = or_default(o->threads, 1);
	o->connections = or_default(o->connections, 4096);
	o->head_timeout_ms = or_default(o->head_timeout_ms, 5000);
	o->idle_timeout_ms = or_default(o->idle_timeout_ms, 75000);
	o->write_timeout_ms = or_default(o->write_timeout_ms, 30000);
	o->body_silence_ms = or_default(o->body_silence_ms, 10000);
	o->body_floor_ms = or_default(o->body_floor_ms, 30000);
	o->body_rate = or_default(o->body_rate, 10000);
	o->thread_idle_ms = or_default(o->thread_idle_ms, 60000);
	o->body_memory_bytes = o->body_memory_bytes ? o->body_memory_bytes : (size_t)512 << 20;
	o->arena_bytes = o->arena_bytes ? o->arena_bytes : (size_t)64 << 20;
}

/* libfcgi puts handlers on SIGPIPE, SIGTERM and SIGUSR1; ours stay. */
static int libfcgi_init(struct err *err)
{
	const int signals[] = { SIGPIPE, SIGTERM, SIGUSR1 };
	struct sigaction before[3];
	for (int i = 0; i < 3; i++)
		sigaction(signals[i], NULL, &before[i]);
	int rc = FCGX_Init();
	for (int i = 0; i < 3; i++)
		sigaction(signals[i], &before[i], NULL);
	return rc ? err_set(err, ERR_INTERNAL, "libfcgi does not initialize") : 0;
}

static void watch_forever(int epoll_fd, int fd, uint64_t data)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = data };
	BUG_ON(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev));
}

static int open_descriptors(struct gate *g, struct err *err)
{
	struct sockaddr_storage a = { 0 };
	socklen_t n = sizeof a;
	int flags = fcntl(g->o.listen_fd, F_GETFL);
	if (flags < 0 || fcntl(g->o.listen_fd, F_SETFL, flags | O_NONBLOCK) || getsockname(g->o.listen_fd, (struct sockaddr *)&a, &n))
		return err_set(err, ERR_CONFIG, "descriptor %d is not a listening socket: %m", g->o.listen_fd);
	g->tcp = a.ss_family == AF_INET || a.ss_family == AF_INET6;
	g->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	g->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	g->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (g->epoll_fd < 0 || g->wake_fd < 0 || g->stop_fd < 0)
		return err_set(err, ERR_IO, "no descriptors for the gate: %m");
	watch_forever(g->epoll_fd, g->stop_fd, EVENT_STOP);
	return 0;
}

struct gate *gate_new(const struct gate_options *options, const struct front_app *app, struct err *err)
{
	struct gate *g = calloc(1, sizeof *g);
	BUG_ON(!g);
	g->o = *options;
	fill_options(&g->o);
	g->app = *app;
	g->reserve = g->o.threads / 10;
	g->epoll_fd = g->wake_fd = g->stop_fd = g->signal_fd = -1;
	pthread_mutex_init(&g->workers_lock, NULL);
	if (slots_init(g, err) || open_descriptors(g, err) || libfcgi_init(err))
		gate_free(&g);
	return g;
}

void gate_free(struct gate **gp)
{
	struct gate *g = *gp;
	*gp = NULL;
	if (!g || g->leaked)
		return;
	slots_free(g);
	const int fds[] = { g->epoll_fd, g->wake_fd, g->stop_fd, g->signal_fd };
	for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	pthread_mutex_destroy(&g->workers_lock);
	free(g);
}

void gate_wake(struct gate *g)
{
	uint64_t one = 1;
	if (write(g->wake_fd, &one, sizeof one) < 0)
		return; /* the counter is full: it is awake */
}

void gate_stop(struct gate *g)
{
	g->stop_asked = true;
	gate_wake(g);
}

void gate_set_drain(struct gate *g, unsigned drain_ms) { g->o.drain_ms = drain_ms; }

bool gate_draining(const struct gate *g) { return g->draining; }

void gate_stats(const struct gate *g, struct gate_stats *out_r)
{
	*out_r = (struct gate_stats){ .accepted = g->accepted, .requests = g->requests, .refused = g->refused, .broken = g->broken,
				      .threads = g->threads, .busy = g->busy, .parked = g->parked, .peak_threads = g->peak_threads,
				      .body_bytes = g->body_bytes, .accept_paused = g->accept_paused, .draining = g->draining };
}

/* --- the main thread ------------------------------------------------------------------------------------------------ */

static int take_over_signals(struct gate *g)
{
	sigset_t set;
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	g->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return g->signal_fd < 0 ? -1 : 0;
}

/* First call: stop accepting and give everybody time. Second: hurry. */
static void drain(struct gate *g, uint64_t now_us)
{
	if (g->draining) {
		if (g->drain_until_us > now_us + HURRY_US)
			g->drain_until_us = now_us + HURRY_US;
		return;
	}
	g->drain_begun_us = now_us;
	g->drain_until_us = now_us + (uint64_t)g->o.drain_ms * 1000;
	g->draining = true;
	listen_pause(g, NULL);
	LOG(LOG_LEVEL_INFO, "draining", LF_INT("busy", g->busy), LF_INT("parked", g->parked));
}

static void take_signals(struct gate *g, uint64_t now_us)
{
	struct signalfd_siginfo si;
	while (read(g->signal_fd, &si, sizeof si) == (ssize_t)sizeof si) {
		if (si.ssi_signo == SIGHUP && g->app.reload)
			g->app.reload(g->app.user);
		else if (si.ssi_signo == SIGUSR1 && g->app.reopen)
			g->app.reopen(g->app.user);
		else if (si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT)
			drain(g, now_us);
	}
	if (atomic_exchange(&g->stop_asked, false))
		drain(g, now_us);
}

/* With nobody parked there is no deadline to watch and the main thread dozes between ticks; who parks wakes it (slots.c).
 * It dozes again only after a second, so that a connection that comes and goes costs no wake-up each time. */
static int wait_ms(struct gate *g, uint64_t now_us)
{
	uint64_t next = g->next_tick_us;
	if (g->parked || g->draining)
		g->awake_until_us = now_us + TICK_US;
	g->dozing = now_us >= g->awake_until_us;
	if (!g->dozing || g->parked)
		next = g->next_sweep_us < next ? g->next_sweep_us : next;
	if (g->accept_paused && !g->draining)
		next = g->pause_until_us < next ? g->pause_until_us : next;
	return next <= now_us ? 0 : (int)((next - now_us) / 1000 + 1);
}

static void housekeep(struct gate *g, uint64_t now_us)
{
	if (now_us >= g->next_sweep_us) {
		slots_sweep(g, now_us);
		g->next_sweep_us = now_us + SWEEP_US;
	}
	if (now_us >= g->next_tick_us) {
		if (g->app.tick)
			g->app.tick(g->app.user);
		g->next_tick_us = now_us + TICK_US;
	}
	if (g->accept_paused && !g->draining && now_us >= g->pause_until_us)
		listen_resume(g);
	worker_reap(g);
}

static void wait_for_news(struct gate *g, int timeout_ms)
{
	uint64_t drop;
	struct pollfd p[2] = { { g->signal_fd, POLLIN, 0 }, { g->wake_fd, POLLIN, 0 } };
	if (poll(p, 2, timeout_ms) > 0 && p[1].revents && read(g->wake_fd, &drop, sizeof drop) < 0)
		return;
}

static bool end_threads(struct gate *g)
{
	uint64_t one = 1, until_us = clock_now_us() + ABANDON_US;
	g->stopping = true;
	if (write(g->stop_fd, &one, sizeof one) < 0)
		return false;
	while (g->threads && clock_now_us() < until_us)
		wait_for_news(g, 50);
	worker_reap(g);
	return !g->threads;
}

int gate_run(struct gate *g)
{
	int rc = 0;
	if (take_over_signals(g) || listen_resume(g))
		return 1;
	for (unsigned i = 0; i < FIRST_THREADS && i < g->o.threads; i++)
		worker_add(g);
	for (;;) {
		uint64_t now_us = clock_now_us();
		wait_for_news(g, wait_ms(g, now_us));
		now_us = clock_now_us();
		take_signals(g, now_us);
		housekeep(g, now_us);
		if (g->draining && slots_quiet(g))
			break;
		if (g->draining && now_us >= g->drain_until_us) {
			rc = 1;
			break;
		}
	}
	g->abandoned = rc != 0;
	g->leaked = !end_threads(g);
	return rc;
}
