/* SPDX-License-Identifier: Apache-2.0
 * The event loop: edge-triggered connections, a level-triggered listener that pauses when descriptors run out, signals
 * through a descriptor, timers in a heap. Order of a turn: events, timers, connections with more to do, log, funeral.
 */
#include "config.h"
#include "sim/server.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"

enum { EVENTS = 256, ACCEPTS_PER_TURN = 64, BACKLOG = 4096, ACCEPT_PAUSE_US = 100 * 1000 };

/* ---- what calls borrow ---- */

struct arena *server_arena_take(struct sim_server *s)
{
	return s->spare_count ? s->spare[--s->spare_count] : arena_new(CALL_ARENA_BYTES);
}

void server_arena_give(struct sim_server *s, struct arena *a)
{
	if (s->spare_count == SPARE_ARENAS) {
		arena_free(&a);
		return;
	}
	arena_clear(a);
	s->spare[s->spare_count++] = a;
}

/* A bijection of a counter that begins anywhere (the finisher of splitmix64). */
uint64_t server_id(struct sim_server *s)
{
	uint64_t z = s->id_state += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* ---- the listening socket ---- */

static int listen_on(const struct addrinfo *ai)
{
	int on = 1, fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	/* inherited by every accepted connection: one system call less each */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	int saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static int listen_open(const struct sim_options *o, struct err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV }, *list;
	int fd = -1, failed = getaddrinfo(o->listen, o->port, &hints, &list);
	if (failed)
		return err_set(err, ERR_CONFIG, "cannot listen on %s port %s: %s", o->listen, o->port, gai_strerror(failed));
	for (const struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next)
		fd = listen_on(ai);
	if (fd < 0)
		err_set(err, ERR_IO, "cannot listen on %s port %s: %s", o->listen, o->port, strerror(errno));
	freeaddrinfo(list);
	return fd;
}

static void announce(int fd)
{
	struct sockaddr_storage addr = { .ss_family = AF_UNSPEC };
	socklen_t n = sizeof addr;
	char host[64] = "?", port[16] = "?";
	if (getsockname(fd, (struct sockaddr *)&addr, &n) == 0)
		getnameinfo((struct sockaddr *)&addr, n, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
	printf(addr.ss_family == AF_INET6 ? "listening on [%s]:%s\n" : "listening on %s:%s\n", host, port);
	fflush(stdout);
}

static void watch(struct sim_server *s, int fd, void *what)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = what };
	BUG_ON(epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0);
}

static void accept_pause(struct sim_server *s)
{
	epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, s->listen_fd, NULL);
	timer_set(&s->timers, &s->accept_timer, s->now_us + ACCEPT_PAUSE_US);
}

static void accept_some(struct sim_server *s)
{
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		int fd = accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			conn_new(s, fd);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			accept_pause(s);
		if (errno != EINTR && errno != ECONNABORTED)
			return;
	}
}

/* ---- signals ---- */

static int signals_open(void)
{
	sigset_t set;
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void signals_take(struct sim_server *s)
{
	struct signalfd_siginfo info;
	struct err err = { .code = ERR_NONE };
	while (read(s->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
		if (info.ssi_signo != SIGUSR1)
			s->stopping = true;
		else if (calllog_reopen(&s->log, &err))
			LOG(LOG_LEVEL_ERROR, "reopen_failed", LF_ERR(&err));
	}
}

/* ---- the loop ---- */

static int wait_ms(const struct sim_server *s)
{
	uint64_t next = timers_next_us(&s->timers), now = clock_now_us();
	if (s->again || next <= now)
		return 0;
	if (next == UINT64_MAX)
		return -1;
	uint64_t ms = (next - now + 999) / 1000;
	return ms > 60000 ? 60000 : (int)ms;
}

static void event_take(struct sim_server *s, const struct epoll_event *ev)
{
	if (ev->data.ptr == &s->listen_fd)
		accept_some(s);
	else if (ev->data.ptr == &s->signal_fd)
		signals_take(s);
	else
		conn_event(ev->data.ptr, ev->events);
}

static void timers_run(struct sim_server *s)
{
	struct timer *t;
	while ((t = timer_due(&s->timers, s->now_us))) {
		if (t == &s->accept_timer)
			watch(s, s->listen_fd, &s->listen_fd);
		else
			conn_timer((struct sim_conn *)((char *)t - offsetof(struct sim_conn, timer)));
	}
}

static void again_run(struct sim_server *s)
{
	struct sim_conn *c = s->again, *next;
	s->again = NULL;
	for (; c; c = next) {
		next = c->next_again;
		c->queued = false;
		if (c->fd >= 0)
			conn_run(c);
	}
}

static void dead_free(struct sim_server *s)
{
	struct sim_conn **at = &s->dead, *c;
	while ((c = *at)) {
		if (c->queued) { /* still in the other list: next turn takes it out */
			at = &c->next_dead;
			continue;
		}
		*at = c->next_dead;
		conn_free(c);
	}
}

static void turn(struct sim_server *s)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(s->epoll_fd, events, EVENTS, wait_ms(s));
	s->now_us = clock_now_us();
	for (int i = 0; i < n; i++)
		event_take(s, &events[i]);
	timers_run(s);
	again_run(s);
	calllog_flush(&s->log);
	dead_free(s);
}

/* ---- life ---- */

static void raise_descriptor_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int server_open(struct sim_server *s, const struct sim_options *options, struct err *err)
{
	*s = (struct sim_server){ .options = options, .epoll_fd = -1, .listen_fd = -1, .signal_fd = -1 };
	timers_init(&s->timers);
	fails_init(&s->fails);
	if (calllog_open(&s->log, options->log_path, err))
		return -1;
	raise_descriptor_limit();
	s->listen_fd = listen_open(options, err);
	if (s->listen_fd < 0)
		return -1;
	s->id_state = rand_u64();
	s->now_us = clock_now_us();
	s->signal_fd = signals_open();
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (s->signal_fd < 0 || s->epoll_fd < 0)
		return err_set(err, ERR_IO, "cannot start: %s", strerror(errno));
	watch(s, s->listen_fd, &s->listen_fd);
	watch(s, s->signal_fd, &s->signal_fd);
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void server_close(struct sim_server *s)
{
	while (s->conns)
		conn_close(s->conns);
	again_run(s); /* empties the list: all are closed */
	dead_free(s);
	calllog_close(&s->log);
	close_fd(s->listen_fd);
	close_fd(s->signal_fd);
	close_fd(s->epoll_fd);
	while (s->spare_count)
		arena_free(&s->spare[--s->spare_count]);
	fails_release(&s->fails);
	timers_release(&s->timers);
}

int sim_run(const struct sim_options *options, struct err *err)
{
	struct sim_server s;
	int failed = server_open(&s, options, err);
	if (!failed) {
		announce(s.listen_fd);
		while (!s.stopping)
			turn(&s);
	}
	server_close(&s);
	return failed;
}
