/* SPDX-License-Identifier: Apache-2.0
 * The loop and what hangs on it. One thread; nothing here blocks but the wait itself. Private to the room.
 *
 *	server.c  accepts, waits, runs timers and signals
 *	conn.c    one connection: reads requests, sends bytes, closes
 *	call.c    one request: decides what the answer is and when
 *	reply.c   its bytes
 */
#ifndef SIM_SERVER_H
#define SIM_SERVER_H

#include "base/buf.h"
#include "base/err.h"
#include "sim/calllog.h"
#include "sim/fails.h"
#include "sim/http.h"
#include "sim/sim.h"
#include "sim/timer.h"

struct arena;
struct sim_call;
struct sim_conn;

enum { SPARE_ARENAS = 256, CALL_ARENA_BYTES = 1024 * 1024 * 1024 };

struct sim_server {
	const struct sim_options *options;
	int epoll_fd, listen_fd, signal_fd;
	bool stopping;
	uint64_t now_us;
	struct timers timers;
	struct timer accept_timer; /* set while accept is paused for want of descriptors */
	struct sim_conn *conns;	   /* all open ones */
	struct sim_conn *again;	   /* have more to do, in the next turn */
	struct sim_conn *dead;	   /* closed in this turn, freed at its end */
	struct arena *spare[SPARE_ARENAS];
	unsigned spare_count;
	struct calllog log;
	struct fails fails;
	uint64_t id_state;
	int64_t date_secs;
	char date[32]; /* of date_secs, as HTTP writes it */
};

struct arena *server_arena_take(struct sim_server *s);
void server_arena_give(struct sim_server *s, struct arena *a);
uint64_t server_id(struct sim_server *s); /* never the same twice */

enum conn_close { CONN_KEEP = 0, CONN_CLOSE, CONN_LINGER, CONN_RESET };

struct sim_conn {
	struct sim_server *server;
	struct sim_conn *prev, *next, *next_again, *next_dead;
	int fd; /* -1: closed */
	struct timer timer;
	uint64_t active_us;
	bool readable, gone, queued, lingering;
	/* reading */
	struct buf in;
	size_t scanned;	      /* bytes of an unfinished head already looked at */
	size_t want;	      /* bytes `in` must hold before it is worth looking again */
	struct http_head head; /* of a request whose body is still coming */
	struct http_chunks chunks;
	bool have_head, continue_sent;
	size_t request_bytes; /* of the request being answered */
	/* answering */
	struct sim_call *call;
	struct buf out;
	size_t sent;
	enum conn_close closing; /* what follows when `out` is sent */
};

void conn_new(struct sim_server *s, int fd);
void conn_event(struct sim_conn *c, uint32_t events); /* epoll's */
void conn_timer(struct sim_conn *c);
void conn_run(struct sim_conn *c);
void conn_close(struct sim_conn *c);
void conn_free(struct sim_conn *c);

enum call_state { CALL_MORE = 0, CALL_WAIT, CALL_ENDED };

/* Begin to answer a request; its text stays in c->in until the call has ended. */
void call_begin(struct sim_conn *c, const struct http_head *head, struct str body);
/* Do what can be done now; `out` is empty. MORE: send `out` and come again. WAIT: the timer is set, or nothing will
 * ever come. ENDED: the call is over and logged; c->closing says what follows. */
enum call_state call_step(struct sim_conn *c);
/* The caller left: log what he got. */
void call_abandon(struct sim_conn *c);
/* Answer a request that could not even be read. */
void call_refuse(struct sim_conn *c, const struct err *err);

#endif
