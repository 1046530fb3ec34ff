/* SPDX-License-Identifier: Apache-2.0
 * The listening socket: where it comes from, accepting, and pausing when descriptors or slots run out. The set wakes one
 * thread per arrival (edge-triggered: level-triggered it would wake a second one in vain for each). That thread accepts all
 * that wait: each gives way to the next and is left to the set, which wakes who is idle; the last is its own.
 * A process with one thread (mod_fcgid, or several on one socket) takes one at a time: the others may be idle elsewhere.
 */
#include "config.h"
#include "front/private.h"

#include "base/clock.h"
#include "base/kp.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PAUSE_US = 50 * 1000 };

static bool is_listening(int fd)
{
	int on = 0;
	socklen_t n = sizeof on;
	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &n) == 0 && on;
}

/* At the start, before there are threads: the environment may be read. NOLINTBEGIN(concurrency-mt-unsafe) */
static bool systemd_socket(int *fd_r)
{
	uint64_t pid, fds;
	if (!str_u64(str_c(getenv("LISTEN_PID")), &pid) || !str_u64(str_c(getenv("LISTEN_FDS")), &fds))
		return false;
	if (pid != (uint64_t)getpid() || !fds)
		return false;
	*fd_r = 3;
	return true;
}

int gate_listen_fd(int *fd_r, struct err *err)
{
	int fd = 0;
	if (systemd_socket(&fd) && !is_listening(fd))
		return err_set(err, ERR_CONFIG, "descriptor 3 from LISTEN_FDS is not a listening socket");
	if (!is_listening(fd))
		return err_set(err, ERR_CONFIG, "standard input is not a listening socket: let the web server start this program "
						"(bin-path, mod_fcgid), or spawn-fcgi, or a systemd socket unit");
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	*fd_r = fd;
	return 0;
}
/* NOLINTEND(concurrency-mt-unsafe) */

static bool takes_all(const struct gate *g) { return g->o.threads > 1; }

int listen_resume(struct gate *g)
{
	uint32_t edge = takes_all(g) ? EPOLLET : 0;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLEXCLUSIVE | edge, .data.u64 = EVENT_LISTEN };
	g->accept_paused = false;
	/* It is still in there when a pause and a resume crossed, and then only adding it anew tells of those who wait already. */
	epoll_ctl(g->epoll_fd, EPOLL_CTL_DEL, g->o.listen_fd, NULL);
	return epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, g->o.listen_fd, &ev);
}

/* Out of the set, so that the waiting connections do not wake us in vain; the main thread puts it back. */
void listen_pause(struct gate *g, const char *why)
{
	g->pause_until_us = clock_now_us() + PAUSE_US;
	if (atomic_exchange(&g->accept_paused, true))
		return;
	epoll_ctl(g->epoll_fd, EPOLL_CTL_DEL, g->o.listen_fd, NULL);
	if (why) {
		gate_complain(g, NULL, why);
		gate_wake(g);
	}
}

/* Who left the queue before we came is passed over: with an edge-triggered set only an empty queue may end the round. */
static int accept_one(struct gate *g)
{
	int fd;
	do
		fd = accept4(g->o.listen_fd, NULL, NULL, SOCK_CLOEXEC);
	while (fd < 0 && (errno == ECONNABORTED || errno == EINTR));
	struct timeval t = { g->o.write_timeout_ms / 1000, (suseconds_t)(g->o.write_timeout_ms % 1000) * 1000 };
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
	if (g->tcp)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	g->accepted++;
	return fd;
}

static void accept_failed(struct gate *g, int error)
{
	if (error == EAGAIN || error == EWOULDBLOCK)
		return;
	if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM)
		listen_pause(g, "no descriptors left: accepting is paused");
	else
		listen_pause(g, "accepting fails: it is paused");
}

/* The next connection that waits, in a slot of its own; NULL when there is none, or no room for it. */
static struct conn *next(struct gate *g)
{
	struct conn *c = slots_take(g);
	if (!c) {
		listen_pause(g, "all connection slots are taken: accepting is paused");
		return NULL;
	}
	c->fd = accept_one(g);
	if (c->fd >= 0)
		return c;
	int error = errno;
	slots_close(g, c);
	accept_failed(g, error);
	return NULL;
}

void listen_accept(struct gate *g, struct worker *w)
{
	struct conn *mine = NULL, *c;
	KP("gate.before_accept");
	while (!g->draining && (c = next(g))) {
		if (mine)
			intake_leave(g, mine);
		mine = c;
		if (!takes_all(g))
			break;
	}
	if (mine)
		intake_run(w, mine);
}
