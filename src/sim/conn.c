/* SPDX-License-Identifier: Apache-2.0
 * One connection. It reads one request at a time (what a caller pipelines waits in the buffer or the kernel), hands it
 * to call.c, and sends what that produces. Edge-triggered: `readable` remembers that the kernel may have more.
 *
 *	reading -> call_begin -> [call_step -> send]* -> CALL_ENDED -> reading | close | linger (shut down, then drain) | reset
 */
#include "config.h"
#include "sim/server.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	READ_BYTES = 16 * 1024,
	READ_MAX = 1024 * 1024,
	KEEP_BYTES = 256 * 1024,  /* larger buffers are given back between requests */
	TURNS = 64,		  /* steps before others get their turn */
	LINGER_US = 2 * 1000 * 1000
};

/* ---- open and close ---- */

static void idle_timer_set(struct sim_conn *c)
{
	uint64_t idle_us = (uint64_t)c->server->options->idle_timeout_ms * 1000;
	if (idle_us)
		timer_set(&c->server->timers, &c->timer, c->active_us + idle_us);
}

void conn_new(struct sim_server *s, int fd)
{
	struct sim_conn *c = calloc(1, sizeof *c);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c };
	BUG_ON(!c);
	c->server = s;
	c->fd = fd;
	c->active_us = s->now_us;
	buf_init(&c->in, NULL, (size_t)HTTP_HEAD_MAX + HTTP_BODY_MAX + 2 * (size_t)READ_MAX);
	buf_init(&c->out, NULL, SIZE_MAX);
	c->next = s->conns;
	if (c->next)
		c->next->prev = c;
	s->conns = c;
	if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0)
		conn_close(c);
	else
		idle_timer_set(c);
}

/* The memory stays until the end of the turn: this turn's lists may still point to it. */
void conn_close(struct sim_conn *c)
{
	struct sim_server *s = c->server;
	if (c->call)
		call_abandon(c);
	close(c->fd);
	c->fd = -1;
	timer_cancel(&s->timers, &c->timer);
	if (c->prev)
		c->prev->next = c->next;
	else
		s->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	c->next_dead = s->dead;
	s->dead = c;
}

void conn_free(struct sim_conn *c)
{
	buf_release(&c->in);
	buf_release(&c->out);
	free(c);
}

static void conn_reset(struct sim_conn *c)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };
	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	conn_close(c);
}

static void linger_drain(struct sim_conn *c)
{
	char sink[READ_BYTES];
	ssize_t n;
	do
		n = recv(c->fd, sink, sizeof sink, 0);
	while (n > 0 || (n < 0 && errno == EINTR));
	if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
		conn_close(c);
}

/* Closing at once with unread bytes would send a reset that may overtake our answer. */
static void conn_linger(struct sim_conn *c)
{
	shutdown(c->fd, SHUT_WR);
	c->lingering = true;
	timer_set(&c->server->timers, &c->timer, c->server->now_us + LINGER_US);
	linger_drain(c); /* its end may have been seen before */
}

/* ---- sending ---- */

enum sent { SENT_ALL = 0, SENT_BLOCKED, SENT_DEAD };

static enum sent conn_send(struct sim_conn *c)
{
	while (c->sent < c->out.n) {
		ssize_t n = send(c->fd, c->out.p + c->sent, c->out.n - c->sent, MSG_NOSIGNAL);
		if (n >= 0)
			c->sent += (size_t)n;
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			return SENT_BLOCKED;
		else if (errno != EINTR)
			return SENT_DEAD;
	}
	c->sent = 0;
	if (c->out.cap > KEEP_BYTES)
		buf_release(&c->out);
	else
		buf_clear(&c->out);
	return SENT_ALL;
}

/* ---- reading ---- */

/* Returns 1 when bytes came, 0 when none are there now, -1 when none will come any more. */
static int conn_receive(struct sim_conn *c)
{
	size_t want = c->want > c->in.n + READ_BYTES ? c->want - c->in.n : READ_BYTES;
	if (want > READ_MAX)
		want = READ_MAX;
	if (!c->readable)
		return c->gone ? -1 : 0;
	char *to = buf_reserve(&c->in, want);
	if (!to)
		return -1;
	ssize_t n = recv(c->fd, to, want, 0);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
		c->readable = errno == EINTR;
		return 0;
	}
	if (n <= 0)
		return -1;
	c->readable = (size_t)n == want; /* a short read took all there was */
	c->in.n += (size_t)n;
	c->active_us = c->server->now_us;
	return 1;
}

static void continue_send(struct sim_conn *c)
{
	if (c->head.expect_continue && !c->continue_sent)
		buf_c(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
	c->continue_sent = true;
}

/* A head has been read; see whether its body is there too. Returns 1, 0, -1 as below. */
static int body_take(struct sim_conn *c, struct str *body_r, struct err *err)
{
	const struct http_head *h = &c->head;
	if (h->chunked) {
		int got = http_chunks_decode(&c->chunks, &c->in, err);
		if (got == 0)
			continue_send(c);
		if (got <= 0)
			return got;
		*body_r = str_sub(buf_view(&c->in), h->bytes, c->chunks.data - h->bytes);
		c->request_bytes = c->chunks.raw;
		return 1;
	}
	c->want = h->bytes + h->body_bytes;
	if (c->in.n < c->want) {
		continue_send(c);
		return 0;
	}
	*body_r = str_sub(buf_view(&c->in), h->bytes, h->body_bytes);
	c->request_bytes = c->want;
	return 1;
}

/* Look at the head only when a line was completed since last time: a head that dribbles in costs no more. */
static int head_take(struct sim_conn *c, struct err *err)
{
	size_t fresh = c->in.n - c->scanned;
	if (fresh <= HTTP_LINE_MAX && !memchr(c->in.p + c->scanned, '\n', fresh))
		return 0;
	c->scanned = c->in.n;
	return http_head_parse(buf_view(&c->in), &c->head, err);
}

/* Returns 1 when a whole request is there, 0 when more must be read, -1 with err. */
static int request_take(struct sim_conn *c, struct str *body_r, struct err *err)
{
	int got;
	if (c->in.n < c->want || !c->in.n)
		return 0;
	if (!c->have_head) {
		got = head_take(c, err);
		if (got <= 0)
			return got;
		c->have_head = true;
		http_chunks_init(&c->chunks, c->head.bytes);
	} else if (!c->head.chunked) { /* the buffer may have moved since */
		http_head_parse(buf_view(&c->in), &c->head, err);
	}
	got = body_take(c, body_r, err);
	if (got > 0 && c->head.chunked)
		http_head_parse(buf_view(&c->in), &c->head, err);
	return got;
}

static void request_end(struct sim_conn *c)
{
	buf_consume(&c->in, c->request_bytes);
	c->want = c->request_bytes = c->scanned = 0;
	c->have_head = c->continue_sent = false;
	if (!c->in.n && c->in.cap > KEEP_BYTES)
		buf_release(&c->in);
	c->active_us = c->server->now_us;
	if (!c->timer.place)
		idle_timer_set(c);
}

/* ---- running ---- */

enum ran { RAN_ON = 0, RAN_OUT }; /* may go on; waits or is closed */

static enum ran closing_run(struct sim_conn *c)
{
	switch (c->closing) {
	case CONN_KEEP:
		return RAN_ON;
	case CONN_CLOSE:
		conn_close(c);
		break;
	case CONN_LINGER:
		conn_linger(c);
		break;
	case CONN_RESET:
		conn_reset(c);
		break;
	}
	return RAN_OUT;
}

static enum ran call_run(struct sim_conn *c)
{
	switch (call_step(c)) {
	case CALL_MORE:
		return RAN_ON;
	case CALL_WAIT:
		if (c->gone)
			conn_close(c);
		return RAN_OUT;
	case CALL_ENDED:
		if (c->closing == CONN_KEEP)
			request_end(c);
		return RAN_ON;
	}
	return RAN_OUT;
}

static enum ran read_run(struct sim_conn *c)
{
	struct err err = { .code = ERR_NONE };
	struct str body;
	int got = request_take(c, &body, &err);
	if (got > 0) {
		call_begin(c, &c->head, body);
		return RAN_ON;
	}
	if (got < 0) {
		call_refuse(c, &err);
		return RAN_ON;
	}
	if (c->out.n) /* 100 Continue */
		return RAN_ON;
	got = conn_receive(c);
	if (got < 0)
		conn_close(c);
	return got > 0 ? RAN_ON : RAN_OUT;
}

static void queue_again(struct sim_conn *c)
{
	if (c->queued)
		return;
	c->queued = true;
	c->next_again = c->server->again;
	c->server->again = c;
}

static enum ran step_run(struct sim_conn *c)
{
	switch (conn_send(c)) {
	case SENT_BLOCKED:
		return RAN_OUT;
	case SENT_DEAD:
		conn_close(c);
		return RAN_OUT;
	case SENT_ALL:
		break;
	}
	if (c->call)
		return call_run(c);
	return closing_run(c) == RAN_OUT ? RAN_OUT : read_run(c);
}

void conn_run(struct sim_conn *c)
{
	if (c->lingering) {
		linger_drain(c);
		return;
	}
	for (int i = 0; i < TURNS; i++)
		if (step_run(c) == RAN_OUT)
			return;
	queue_again(c);
}

void conn_event(struct sim_conn *c, uint32_t events)
{
	if (events & (EPOLLERR | EPOLLHUP)) {
		conn_close(c);
		return;
	}
	if (events & (EPOLLIN | EPOLLRDHUP))
		c->readable = true;
	if (events & EPOLLRDHUP)
		c->gone = true;
	if (!c->queued)
		conn_run(c);
}

void conn_timer(struct sim_conn *c)
{
	uint64_t idle_us = (uint64_t)c->server->options->idle_timeout_ms * 1000;
	bool idle = !c->call && idle_us && c->server->now_us - c->active_us >= idle_us;
	if (c->lingering || idle)
		conn_close(c);
	else if (c->call)
		conn_run(c);
	else /* a call's timer that came after its call, or there was a request since */
		idle_timer_set(c);
}
