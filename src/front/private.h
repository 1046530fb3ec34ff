/* SPDX-License-Identifier: Apache-2.0
 * What the files of the front share: the slot table and who owns a connection, serving threads, one exchange.
 *
 *            slots_take                slots_park                          worker: event, main: deadline
 *     FREE ------------> OWNED ----------------------> PARKED ------------------------------------------> OWNED
 *       ^                  |  ^                          (one compare-and-swap; who loses it leaves the slot alone)
 *       +---slots_close----+  +-- an event that comes while the owner is still arming sets OWNED_EVENT; the owner goes on
 *
 * Only the owner touches the other fields of a connection and only the owner closes it.
 * Lock order: gate.workers_lock and gate.slots_lock are leaves; neither is held while taking the other.
 */
#ifndef FRONT_PRIVATE_H
#define FRONT_PRIVATE_H

#include "front/front.h"
#include "front/record.h"

#include <fcgiapp.h>
#include <pthread.h>
#include <stdatomic.h>

enum slot_state { SLOT_FREE = 0, SLOT_OWNED, SLOT_OWNED_EVENT, SLOT_PARKED };

enum conn_phase {
	CONN_IDLE = 0, /* no byte of a request yet */
	CONN_HEAD,     /* BEGIN_REQUEST and parameters are coming in */
	CONN_BODY,     /* the body is coming in */
	CONN_DRAIN,    /* the body comes in and is thrown away; then the answer that is known already */
	CONN_LINGER,   /* answered and shut down; reading what the peer still sends, so that it does not lose the answer */
};

struct conn {
	_Atomic uint64_t state;	      /* generation << 8 | slot_state */
	_Atomic uint64_t deadline_us; /* the sweeper looks at it while the slot is parked */
	int fd;
	uint32_t index;
	bool registered;   /* in the epoll set */
	bool used;	   /* has answered a request: idle time, not head time, is its limit */
	bool late;	   /* the sweeper found its deadline passed: whoever wakes answers 408 */
	enum conn_phase phase;
	uint64_t begun_us, body_begun_us, served_us;
	uint64_t drained;  /* bytes of a body thrown away */
	struct record_parser parser;
	struct front_exchange *x; /* from the complete head on */
	struct conn *next_free;
};

/* libfcgi's writer, behind a pipe of our own; see writer.c. One per serving thread. */
struct writer {
	FCGX_Request fcgi;
	int pipe[2];
	bool open, failed;
};

struct worker {
	struct gate *g;
	pthread_t thread;
	struct worker *next; /* in gate.workers or gate.ended */
	struct writer writer;
	struct front_exchange *spare; /* memory for the next exchange */
	void *slot;		      /* front_slot */
	void (*slot_free)(void *);
	size_t scratch_bytes;
	char *scratch;
};

struct gate {
	struct gate_options o;
	struct front_app app;
	int epoll_fd, wake_fd, stop_fd, signal_fd;
	bool tcp;
	unsigned reserve; /* threads kept for reserved requests */

	pthread_mutex_t slots_lock; /* free_list, slots_used */
	struct conn *slots, *free_list;
	_Atomic unsigned slots_high; /* slots ever used: what the sweeper looks at */

	pthread_mutex_t workers_lock; /* ended, starting and counting of threads */
	struct worker *ended;
	_Atomic unsigned threads, idle, busy, busy_ordinary, parked, peak_threads;

	_Atomic uint64_t accepted, requests, refused, broken;
	_Atomic size_t body_bytes;
	_Atomic bool accept_paused, draining, abandoned, stopping, stop_asked, dozing;
	_Atomic uint64_t pause_until_us;
	_Atomic uint64_t last_complaint_us;

	/* main thread only */
	uint64_t drain_begun_us, drain_until_us, next_sweep_us, next_tick_us, awake_until_us;
	bool leaked; /* threads that would not end */
};

struct front_set {
	const char *name;
	struct str value;
	struct front_set *next;
};

struct front_exchange {
	struct gate *g;
	struct conn *c;
	struct worker *w;
	struct arena *arena;
	struct front_request req;
	struct front_admission admission;
	struct buf body; /* heap; counted in gate.body_bytes */
	bool length_known;
	struct err refusal; /* code != 0: answer this and nothing else */
	/* the answer */
	int status;
	const char *request_id_name;
	struct front_set *sets, **sets_end;
	struct buf timing;
	struct str held;      /* front_send_begin: the last byte */
	bool began, ended, stream, gone, aborted, last;
	uint64_t sent_bytes, last_write_us;
};

/* slots.c */
int slots_init(struct gate *g, struct err *err);
void slots_free(struct gate *g);
struct conn *slots_take(struct gate *g); /* NULL: the table is full */
void slots_close(struct gate *g, struct conn *c);
bool slots_claim(struct gate *g, uint64_t event_data, struct conn **c_r); /* false: stale, or its owner will look again */
/* Arm and give up ownership. Returns false when an event came meanwhile: the caller still owns it and reads on. */
bool slots_park(struct gate *g, struct conn *c, uint64_t deadline_us);
/* The same for a connection that was never armed: whichever thread is idle takes it over as soon as it can be read. */
void slots_leave(struct gate *g, struct conn *c, uint64_t deadline_us);
void slots_sweep(struct gate *g, uint64_t now_us); /* main thread */
bool slots_quiet(struct gate *g); /* no connection is left */
#define EVENT_LISTEN UINT64_MAX
#define EVENT_STOP (UINT64_MAX - 1)

/* listen.c */
void listen_accept(struct gate *g, struct worker *w);
int listen_resume(struct gate *g);
void listen_pause(struct gate *g, const char *why);

/* worker.c */
int worker_add(struct gate *g); /* when fewer than the maximum run; 0, or -1 errno */
void worker_reap(struct gate *g);
void gate_wake(struct gate *g); /* the main thread has something to look at */

/* intake.c: read on a connection that this thread owns, until it is parked or closed */
void intake_run(struct worker *w, struct conn *c);
/* Leave a connection just accepted to whichever thread is idle. */
void intake_leave(struct gate *g, struct conn *c);
/* Log, at most once a second. `c` is the connection that broke the protocol, NULL when it is our own trouble. */
void gate_complain(struct gate *g, struct conn *c, const char *what);

/* request.c */
int request_parse(struct front_request *req, struct arena *a, struct str params, bool *length_known_r, struct err *err);

/* exchange.c */
struct front_exchange *exchange_begin(struct worker *w, struct conn *c);
void exchange_release(struct front_exchange **x, struct worker *w); /* w NULL: free for good */
/* Where the next `want` bytes of the body go; fewer may fit (*n_r). NULL with err: too long, or no memory for bodies. */
char *exchange_body_room(struct front_exchange *x, size_t want, size_t *n_r, struct err *err);
void exchange_body_drop(struct front_exchange *x);
void exchange_refuse(struct front_exchange *x, const struct err *err); /* the first refusal stays */
bool exchange_serve(struct front_exchange *x, struct worker *w); /* true: answered whole, the peer is still there */

/* peer.c: what the peer sends while its request is being served */
void peer_feed(struct front_exchange *x, struct str in);
int peer_reply(struct conn *c); /* send parser->reply; -1 when it cannot go out */

/* writer.c */
int writer_init(struct writer *w, struct err *err);
void writer_release(struct writer *w);
int writer_begin(struct writer *w, int fd, uint16_t id);
int writer_put(struct writer *w, struct str bytes);
int writer_flush(struct writer *w);
/* END_REQUEST. `last`: and the end of the connection with it, at once, so that a web server that would keep the connection
 * sees both together and sends no further request into it. */
int writer_end(struct writer *w, bool last);
void writer_drop(struct writer *w); /* without a further byte */

/* response.c */
int response_head(struct front_exchange *x, struct str content_type, const char *encoding, int64_t length, struct err *err);
int response_put(struct front_exchange *x, struct str bytes, struct err *err);
int response_flush(struct front_exchange *x, struct err *err);
int response_finish(struct front_exchange *x); /* END_REQUEST when it began; 0 when all went out */
int exchange_gone(struct front_exchange *x, struct err *err); /* marks it; -1 ERR_CLIENT_GONE */

/* gzip.c */
bool gzip_accepted(struct str accept_encoding);
bool gzip_body(struct arena *a, struct str body, struct str *out_r); /* false: not worth it */

#endif
